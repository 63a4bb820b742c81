//! While payments are stopped: cases instead of payments, and what becomes of them.

use super::world::*;
use countersign::kernel::breaker::Cause;
use countersign::kernel::command::*;
use countersign::kernel::decide::{CaseState, ManualCase};
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::*;
use countersign::store::{CasePlace, Listing};

sentences! {
    a_stopped_bank_queues_a_request_once_under_its_key: |w| {
        w.bank();
        stop(w);
        let case = queued(w.call(transfer("5", "k")));
        assert_eq!(queued(w.call(transfer("5", "k"))), case, "a retry finds the case");
        assert_eq!(w.call(transfer("6", "k")), Err(Refusal::IdempotencyKeyReused));
        assert_eq!(w.balance("CHK_001"), ("5247.83".into(), "0.00".into()));
        assert_eq!(w.store.cases_waiting().unwrap(), 1);
        assert_eq!(w.store.listing(Listing::Breaker).unwrap()[0]["reason"], "drill");
    };
    cases_come_in_pages_and_none_is_passed_over_when_one_is_decided_meanwhile: |w| {
        let rules = std::sync::Arc::new(Rules { open_holds_max: 100, ..rules() });
        let w = &World { rules, ..World::new(w.store) };
        w.bank();
        stop(w);
        let mut asked: Vec<CaseId> = (0..7).map(|n| queued(w.call(transfer("1", &format!("k{n}"))))).collect();
        asked.reverse();
        let decided = asked.remove(3);
        resolve(w, &decided, CaseVerdict::Reject).unwrap();
        asked.push(decided);
        let ids = |page: &[ManualCase]| page.iter().map(|case| case.case_id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&w.store.cases(None, 100).unwrap()), asked);
        assert_eq!(w.store.cases_waiting().unwrap(), 6);
        let (mut seen, mut after) = (vec![], None);
        loop {
            let page = w.store.cases(after.as_ref(), 2).unwrap();
            let Some(last) = page.last() else { break };
            let place = CasePlace { waits: last.state == CaseState::Queued, case: last.case_id.clone() };
            // The last one of a page is decided before the next page is asked for.
            if place.waits {
                resolve(w, &place.case, CaseVerdict::Release).unwrap();
            }
            seen.extend(ids(&page));
            after = Some(place);
        }
        seen.dedup();
        for case in &asked {
            assert!(seen.contains(case), "{case} was passed over: {seen:?}");
        }
        assert_eq!(seen[..6], asked[..6]);
    };
    a_released_case_lets_the_next_try_be_decided_and_a_rejected_one_stays_rejected: |w| {
        w.bank();
        stop(w);
        let (released, rejected) = (queued(w.call(transfer("5", "a"))), queued(w.call(transfer("6", "b"))));
        w.admin(Act::SetBreaker { cause: Cause::Operator, reason: None, node: None }).unwrap();
        assert_eq!(queued(w.call(transfer("5", "a"))), released, "it waits for its answer, not for the breaker");
        resolve(w, &released, CaseVerdict::Release).unwrap();
        resolve(w, &rejected, CaseVerdict::Reject).unwrap();
        let id = w.approved(transfer("5", "a"));
        assert_eq!(w.approved(transfer("5", "a")), id);
        assert_eq!(w.call(transfer("6", "b")), Err(Refusal::CaseRejected));
        for case in [&released, &rejected] {
            assert_eq!(resolve(w, case, CaseVerdict::Release), Err(Refusal::AlreadyDecided));
        }
        w.adds_up();
    };
    an_execution_that_is_stopped_keeps_its_funds_and_goes_on_when_released: |w| {
        w.bank();
        let id = w.approved(transfer("5", "k"));
        stop(w);
        let case = queued(w.call(execute_transfer(&id, "SAV_001", "5")));
        assert_eq!(queued(w.call(execute_transfer(&id, "SAV_001", "5"))), case);
        assert_eq!(w.call(execute_transfer(&id, "SAV_001", "6")), Err(Refusal::AuthorizationMismatch));
        assert_eq!(w.call(cancel(&id)), Err(Refusal::QueuedManual));
        w.later(DAY_MS);
        assert_eq!(w.sweep(), 0, "the wait is not the agent's: it does not lapse");
        assert_eq!(w.balance("CHK_001").1, "5.00");
        w.admin(Act::SetBreaker { cause: Cause::Operator, reason: None, node: None }).unwrap();
        resolve(w, &case, CaseVerdict::Release).unwrap();
        w.posted(execute_transfer(&id, "SAV_001", "5"));
        assert_eq!(w.balance("CHK_001"), ("5242.83".into(), "0.00".into()));
        w.adds_up();
    };
    a_rejected_execution_returns_funds_and_allowance: |w| {
        w.bank();
        let id = w.approved(transfer("2000", "k"));
        stop(w);
        let case = queued(w.call(execute_transfer(&id, "SAV_001", "2000")));
        resolve(w, &case, CaseVerdict::Reject).unwrap();
        assert_eq!(w.balance("CHK_001").1, "0.00");
        assert_eq!(w.call(execute_transfer(&id, "SAV_001", "2000")), Err(Refusal::ApprovalDenied));
        w.admin(Act::SetBreaker { cause: Cause::Operator, reason: None, node: None }).unwrap();
        for key in ["b", "c"] {
            w.approved(transfer("2000", key));
        }
        w.adds_up();
    };
    a_revoked_agents_queued_execution_is_voided_and_its_case_only_closes: |w| {
        w.bank();
        let id = w.approved(transfer("5", "k"));
        stop(w);
        let case = queued(w.call(execute_transfer(&id, "SAV_001", "5")));
        w.revoke_shopper().unwrap();
        assert_eq!(w.sweep(), 1);
        assert_eq!(w.balance("CHK_001").1, "0.00");
        resolve(w, &case, CaseVerdict::Release).unwrap();
        assert_eq!(w.balance("CHK_001"), ("5247.83".into(), "0.00".into()));
        w.adds_up();
    };
    nobody_fills_the_queue_and_only_the_right_people_work_it: |w| {
        w.bank();
        stop(w);
        for number in 0..w.rules.open_holds_max {
            queued(w.call(transfer("5", &format!("k{number}"))));
        }
        assert_eq!(w.call(transfer("5", "one-more")), Err(Refusal::BreakerOpen));
        let case: CaseId = w.id("case_").parse().unwrap();
        assert_eq!(resolve(w, &case, CaseVerdict::Release), Err(Refusal::UnknownCase));
        let known = queued(w.call(transfer("5", "k0")));
        let rules = std::sync::Arc::clone(&w.rules);
        let act = || Act::ResolveCase {
            case: known.clone(),
            verdict: CaseVerdict::Release,
            note: String::new(),
            rules: std::sync::Arc::clone(&rules),
        };
        for actor in [
            Actor::Agent(shopper()),
            Actor::System { component: "test".into() },
            Actor::Operator(operator("eve", &["auditor"])),
        ] {
            assert_eq!(w.decision(actor, act()).outcome, Err(Refusal::OperatorNotPermitted));
        }
        let by_agent = w.decision(Actor::Agent(shopper()), Act::SetBreaker { cause: Cause::Operator, reason: None, node: None });
        assert_eq!(by_agent.outcome, Err(Refusal::OperatorNotPermitted));
    };
    stopping_twice_changes_nothing_and_reading_goes_on: |w| {
        w.bank();
        stop(w);
        let again = w.admin(Act::SetBreaker { cause: Cause::Operator, reason: Some("again".into()), node: None });
        assert_eq!(again, Ok(Effect::Done { changed: false }));
        w.call(balance_of("CHK_001")).unwrap();
        w.admin(incoming("CHK_001", "1", "r")).unwrap();
        assert_eq!(w.admin(Act::SetBreaker { cause: Cause::Operator, reason: None, node: None }), Ok(Effect::Done { changed: true }));
        assert_eq!(w.admin(Act::SetBreaker { cause: Cause::Operator, reason: None, node: None }), Ok(Effect::Done { changed: false }));
        w.approved(transfer("5", "k"));
    };
}

fn stop(w: &World<'_>) {
    w.admin(Act::SetBreaker { cause: Cause::Operator, reason: Some("drill".into()), node: None }).unwrap();
}

fn queued(outcome: Outcome) -> CaseId {
    match outcome.unwrap() {
        Effect::QueuedManual { case_id, .. } => case_id,
        other => panic!("not queued: {other:?}"),
    }
}

fn resolve(w: &World<'_>, case: &CaseId, verdict: CaseVerdict) -> Outcome {
    let rules = std::sync::Arc::clone(&w.rules);
    let act = Act::ResolveCase { case: case.clone(), verdict, note: "n".into(), rules };
    w.decision(Actor::Operator(operator("bob", &["approver"])), act).outcome
}
