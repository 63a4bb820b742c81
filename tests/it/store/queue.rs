//! The manual queue and the breaker's causes: who may do what, in which order, and that nothing is ever paid twice.

use std::sync::Arc;

use super::races::{at_once, permitted};
use super::world::*;
use countersign::kernel::breaker::{COMPONENT, Cause};
use countersign::kernel::command::*;
use countersign::kernel::decide::{CaseState, Counter, ManualCase};
use countersign::kernel::refusal::Refusal::{self, *};
use countersign::kernel::types::*;
use countersign::store::Listing;

sentences! {
    work_in_the_wrong_order_or_by_the_wrong_people_is_refused_by_name: |w| {
        let w = &two_people_above(w, "100");
        w.bank();
        olgas_account(w);
        let from_olga = |amount: &str, key: &str| w.approved(transfer_to(Some("OLGA_1"), "SAV_001", amount, key));
        let (small_held, large_held) = (from_olga("5", "held"), from_olga("500", "held-l"));
        open(w, Cause::Operator);
        let small = queued(w.call(transfer("5", "small")));
        let large = queued(w.call(transfer("500", "large")));
        let held = queued(w.call(execute_transfer(&small_held, "SAV_001", "5")));
        let held_large = queued(w.call(execute_transfer(&large_held, "SAV_001", "500")));
        let ended = queued(w.call(transfer("7", "ended")));
        done(w, bob(), &ended, CaseVerdict::Reject).unwrap();
        let asked = queued(w.call(transfer_to(Some("OLGA_1"), "SAV_001", "6", "asked")));
        let nobody: CaseId = w.id("case_").parse().unwrap();
        done(w, bob(), &large, CaseVerdict::Release).unwrap();
        take(w, bob(), &small, TakeFrom::Nobody).unwrap();
        let elsewhere = |reference: &str| CaseVerdict::PaidElsewhere { reference: reference.into() };
        done(w, cyd(), &held_large, elsewhere("SWIFT-1")).unwrap();

        let (taken, wrong) = (|case: &CaseId, from| Act::TakeCase { case: case.clone(), from }, OperatorNotPermitted);
        let word = |case: &CaseId, verdict| answer(w, case, verdict);
        use CaseVerdict::{Reject, Release};
        use TakeFrom::{Anybody, Nobody};
        let rows: Vec<(&str, Actor, Act, Refusal)> = vec![
            ("an auditor takes", eve(), taken(&held, Nobody), wrong),
            ("an administrator takes", ann(), taken(&held, Nobody), wrong),
            ("an agent takes", Actor::Agent(shopper()), taken(&held, Nobody), wrong),
            ("a daemon takes", system(COMPONENT), taken(&held, Nobody), wrong),
            ("an auditor decides", eve(), word(&held, Release), wrong),
            ("an administrator decides", ann(), word(&held, Reject), wrong),
            ("an agent decides", Actor::Agent(shopper()), word(&held, Release), wrong),
            ("a daemon decides", system(COMPONENT), word(&held, elsewhere("x")), wrong),
            ("a case that is not there is taken", bob(), taken(&nobody, Nobody), UnknownCase),
            ("a case that is not there is taken over", bob(), taken(&nobody, Anybody), UnknownCase),
            ("a case that is not there is decided", bob(), word(&nobody, Release), UnknownCase),
            ("a decided case is taken", bob(), taken(&ended, Nobody), AlreadyDecided),
            ("a decided case is taken over", cyd(), taken(&ended, Anybody), AlreadyDecided),
            ("a decided case is released", cyd(), word(&ended, Release), AlreadyDecided),
            ("a decided case is rejected again", bob(), word(&ended, Reject), AlreadyDecided),
            ("a decided case is paid elsewhere", bob(), word(&ended, elsewhere("x")), AlreadyDecided),
            ("somebody else's case is taken", cyd(), taken(&small, Nobody), CaseTaken),
            ("somebody else's case is released", cyd(), word(&small, Release), CaseTaken),
            ("somebody else's case is rejected", cyd(), word(&small, Reject), CaseTaken),
            ("somebody else's case is paid elsewhere", cyd(), word(&small, elsewhere("x")), CaseTaken),
            ("the owner takes a payment from the own account", owner(), taken(&held, Nobody), MakerIsChecker),
            ("the owner takes it over", owner(), taken(&held, Anybody), MakerIsChecker),
            ("the owner releases it", owner(), word(&held, Release), MakerIsChecker),
            ("the owner, at the bank under another name, takes it", alias(), taken(&held, Nobody), MakerIsChecker),
            ("the owner, at the bank under another name, takes it over", alias(), taken(&held, Anybody), MakerIsChecker),
            ("the owner, at the bank under another name, rejects it", alias(), word(&held, Reject), MakerIsChecker),
            ("the owner takes what was asked for from the own account", owner(), taken(&asked, Nobody), MakerIsChecker),
            ("the owner releases that under another name", alias(), word(&asked, Release), MakerIsChecker),
            ("the owner says it was paid", owner(), word(&held, elsewhere("x")), MakerIsChecker),
            ("the first of two releases again", bob(), word(&large, Release), SecondPersonNeeded),
            ("the first of two says again that it was paid", cyd(), word(&held_large, elsewhere("SWIFT-1")), SecondPersonNeeded),
            ("a proposed case is taken by somebody else", cyd(), taken(&large, Nobody), CaseTaken),
            ("an auditor is the second person", eve(), word(&large, Release), wrong),
            ("the owner is the second person", owner(), word(&held_large, elsewhere("SWIFT-1")), MakerIsChecker),
        ];
        for (name, actor, act, refusal) in rows {
            assert_eq!(w.decision(actor, act).outcome, Err(refusal), "{name}");
        }
        // None of it changed anything.
        assert_eq!(case(w, &small).taken.unwrap().by, "bob");
        assert_eq!(case(w, &held).taken, None);
        assert_eq!(case(w, &asked).taken, None);
        assert_eq!(w.store.cases_waiting().unwrap(), 5);
        w.adds_up();
    };
    causes_are_opened_and_lifted_by_whom_they_belong_to: |w| {
        w.bank();
        let set = |cause, reason: Option<&str>| Act::SetBreaker { cause, reason: reason.map(str::to_owned), node: None };
        let breaker = || system(COMPONENT);
        let by_people = [
            Cause::Anomalies,
            Cause::HsmDown,
            Cause::StoreSlow,
            Cause::CoreFailing,
            Cause::WitnessLag,
            Cause::DiskLow,
        ];
        let mut rows = vec![
            (breaker(), set(Cause::Operator, Some("x"))),
            (breaker(), set(Cause::Operator, None)),
            (system("job"), set(Cause::Operator, Some("x"))),
            (Actor::Agent(shopper()), set(Cause::Operator, Some("x"))),
            (Actor::Agent(shopper()), set(Cause::Anomalies, None)),
            (bob(), set(Cause::Operator, None)),
            (eve(), set(Cause::Operator, Some("x"))),
        ];
        for cause in by_people {
            rows.push((ann(), set(cause, Some("people stop as operators"))));
            rows.push((system("job"), set(cause, Some("x"))));
            rows.push((system("job"), set(cause, None)));
            rows.push((eve(), set(cause, None)));
        }
        for stopped in [None, Some(Cause::Operator), Some(Cause::Anomalies)] {
            if let Some(cause) = stopped {
                open(w, cause);
            }
            for (actor, act) in &rows {
                let shown = format!("{act:?} of {}", actor.name());
                assert_eq!(w.decision(actor.clone(), act.clone()).outcome, Err(OperatorNotPermitted), "{shown}");
            }
        }
        let causes = || -> Vec<String> {
            let breaker = w.store.listing(Listing::Breaker).unwrap().remove(0);
            breaker["causes"].as_array().unwrap().iter().map(|row| row["cause"].as_str().unwrap().into()).collect()
        };
        assert_eq!(causes(), ["operator", "anomalies"]);
        // What one node knows is no row.
        assert!(w.decision(breaker(), set(Cause::HsmDown, Some("away"))).outcome.is_ok());
        assert_eq!(causes(), ["operator", "anomalies"]);
        // The daemon lifts its own, and the person's stays; then a person lifts that one, and any other.
        assert_eq!(w.decision(breaker(), set(Cause::Anomalies, None)).outcome, Ok(Effect::Done { changed: true }));
        assert_eq!(w.decision(breaker(), set(Cause::Anomalies, None)).outcome, Ok(Effect::Done { changed: false }));
        queued(w.call(transfer("5", "a")));
        open(w, Cause::Anomalies);
        assert_eq!(w.admin(set(Cause::Operator, None)), Ok(Effect::Done { changed: true }));
        queued(w.call(transfer("5", "b")));
        assert_eq!(w.admin(set(Cause::Anomalies, None)), Ok(Effect::Done { changed: true }));
        w.approved(transfer("5", "c"));
        w.adds_up();
    };
    a_node_that_stops_by_itself_queues_what_it_is_asked_and_the_others_pay: |w| {
        w.bank();
        let id = w.approved(transfer("5", "k"));
        let here = World { rules: Arc::new(Rules { stopped_here: Some("its HSM is away".into()), ..rules() }), ..World::new(w.store) };
        here.ids.set(1_000);
        let ask = here.call(transfer("6", "l"));
        assert!(matches!(&ask, Ok(Effect::QueuedManual { reason, .. }) if reason == "its HSM is away"), "{ask:?}");
        w.approved(transfer("7", "m"));
        open(w, Cause::Operator);
        let both = here.call(execute_transfer(&id, "SAV_001", "5"));
        let reasons = |effect: &Effect| matches!(effect, Effect::QueuedManual { reason, .. } if reason == "drill; its HSM is away");
        assert!(both.as_ref().is_ok_and(reasons), "{both:?}");
        here.call(balance_of("CHK_001")).unwrap();
        w.adds_up();
    };
    two_people_say_the_same_and_another_word_begins_anew: |w| {
        let w = &two_people_above(w, "100");
        w.bank();
        let id = w.approved(transfer("100.01", "k"));
        open(w, Cause::Operator);
        let it = queued(w.call(execute_transfer(&id, "SAV_001", "100.01")));
        let at = queued(w.call(transfer("100", "at")));
        lift(w, Cause::Operator);
        assert_eq!(step(done(w, bob(), &at, CaseVerdict::Release)), "released", "not above");
        w.approved(transfer("100", "at"));

        let paid = |reference: &str| CaseVerdict::PaidElsewhere { reference: reference.into() };
        for (who, verdict) in [
            (bob(), CaseVerdict::Release),
            (bob(), CaseVerdict::Reject),
            (cyd(), CaseVerdict::Release),
            (bob(), paid("A")),
            (cyd(), paid("B")),
        ] {
            assert_eq!(step(done(w, who, &it, verdict)), "proposed");
            assert_eq!((case(w, &it).state, w.balance("CHK_001").1.as_str()), (CaseState::Queued, "200.01"));
        }
        assert_eq!(case(w, &it).taken.unwrap().by, "bob", "it stays with whoever began");
        assert_eq!(step(done(w, bob(), &it, paid("B"))), "paid_elsewhere");
        let ended = case(w, &it);
        assert_eq!((ended.state, ended.reference.as_deref()), (CaseState::PaidElsewhere, Some("B")));
        let people = (ended.proposed.unwrap().by, ended.decided_by.unwrap());
        assert_eq!(people, ("cyd".into(), "bob".into()));
        // It can never be paid here as well, by its transaction or by its key.
        assert_eq!(w.call(execute_transfer(&id, "SAV_001", "100.01")), Err(PaidElsewhere));
        assert_eq!(w.call(transfer("100.01", "k")), Err(PaidElsewhere));
        assert_eq!(w.call(cancel(&id)), Err(PaidElsewhere));
        assert_eq!(w.balance("CHK_001"), ("5247.83".into(), "100.00".into()));
        w.adds_up();
    };
    what_was_paid_elsewhere_still_counts_towards_limits_and_its_mandate: |w| {
        w.bank();
        w.admin(Act::OpenAccount(NewAccount { day_max: Some(usd("100")), ..new_account("DAY_1", "OWN_001", Some("1000")) }))
            .unwrap();
        w.admin(grant(&shopper(), "DAY_1", EVERY_VERB)).unwrap();
        let mut signed = super::mandates::claims(w, "1", &super::mandates::limits());
        signed["payment_instrument"]["id"] = serde_json::json!("DAY_1");
        super::mandates::enter(w, "1", &signed).unwrap();
        let pays = |amount: &str, key: &str| w.call(transfer_to(Some("DAY_1"), "SAV_001", amount, key));
        let spent = |counter: Counter, day: Day| w.store.spent(&counter, day).unwrap();
        let ended = |key: &str, verdict: CaseVerdict| {
            let Ok(Effect::Approved { transaction_id: id, .. }) = pays("60", key) else { panic!("{key}") };
            open(w, Cause::Operator);
            let it = queued(w.call(execute_transfer(&id, "SAV_001", "60")));
            done(w, bob(), &it, verdict).unwrap();
            lift(w, Cause::Operator);
            assert_eq!(w.balance("DAY_1"), ("1000.00".into(), "0.00".into()), "{key}: nothing is held or moved");
            w.adds_up();
            w.store.transaction(&id).unwrap().unwrap()
        };
        ended("k1", CaseVerdict::Reject);
        let paid = ended("k2", CaseVerdict::PaidElsewhere { reference: "SWIFT-3".into() });
        let used = paid.mandate.unwrap();
        for (counter, day, sum) in [
            (Counter::Agent(shopper().spiffe_id), paid.counts_on.unwrap(), 6_000),
            (Counter::Account("DAY_1".into()), paid.debits_on.unwrap(), 6_000),
            (Counter::MandateAmount(used.mandate.clone()), used.budget_on, 6_000),
            (Counter::MandateUses(used.mandate.clone()), used.recurs_on, 1),
        ] {
            assert_eq!(spent(counter.clone(), day), sum, "{counter:?}");
        }
        assert_eq!(pays("40.01", "k3"), Err(AccountDayLimitExceeded));
        assert!(pays("40", "k3").is_ok());
        w.adds_up();
    };
    what_a_person_works_on_is_left_to_the_person_when_its_mandate_is_revoked: |w| {
        let w = &two_people_above(w, "80");
        w.bank();
        super::mandates::enter(w, "1", &super::mandates::limits()).unwrap();
        let paid = || CaseVerdict::PaidElsewhere { reference: "SWIFT-4".into() };
        let ids = [("60", "k1"), ("61", "k2"), ("90", "k3")].map(|(amount, key)| (w.approved(transfer(amount, key)), amount));
        open(w, Cause::Operator);
        let cases = ids.each_ref().map(|(id, amount)| queued(w.call(execute_transfer(id, "SAV_001", amount))));
        lift(w, Cause::Operator);
        take(w, bob(), &cases[0], TakeFrom::Nobody).unwrap();
        assert_eq!(step(done(w, cyd(), &cases[2], paid())), "proposed");

        let revoked = |authorizations, changed| Ok(Effect::MandateRevoked { authorizations, changed });
        assert_eq!(super::mandates::revoke(w, "1"), revoked(1, true), "what nobody works on is void");
        assert_eq!(w.balance("CHK_001").1, "150.00", "the rest holds its funds");
        w.adds_up();
        assert_eq!(step(done(w, bob(), &cases[0], CaseVerdict::Release)), "released");
        assert_eq!(w.call(execute_transfer(&ids[0].0, "SAV_001", "60")), Err(MandateRevoked), "and is paid nowhere");
        assert_eq!(super::mandates::revoke(w, "1"), revoked(1, false), "the same again voids what was left");
        assert_eq!(step(done(w, bob(), &cases[2], paid())), "paid_elsewhere");
        assert_eq!(w.call(execute_transfer(&ids[2].0, "SAV_001", "90")), Err(PaidElsewhere));

        let transaction = w.store.transaction(&ids[2].0).unwrap().unwrap();
        let used = transaction.mandate.unwrap();
        for (counter, day, sum) in [
            (Counter::Agent(shopper().spiffe_id), transaction.counts_on.unwrap(), 9_000),
            (Counter::MandateAmount(used.mandate.clone()), used.budget_on, 9_000),
            (Counter::MandateUses(used.mandate.clone()), used.recurs_on, 1),
        ] {
            assert_eq!(w.store.spent(&counter, day).unwrap(), sum, "{counter:?}");
        }
        assert_eq!(w.balance("CHK_001").1, "0.00");
        w.adds_up();
    };
    what_was_void_before_a_person_said_that_it_was_paid_counts_all_the_same: |w| {
        w.bank();
        w.admin(Act::OpenAccount(NewAccount { day_max: Some(usd("100")), ..new_account("DAY_1", "OWN_001", Some("1000")) }))
            .unwrap();
        let other = agent("purchaser", "other");
        for agent in [shopper(), other.clone()] {
            w.admin(grant(&agent, "DAY_1", EVERY_VERB)).unwrap();
        }
        let pays = |amount: &str, key: &str| transfer_to(Some("DAY_1"), "SAV_001", amount, key);
        let ids = [("60", "k1"), ("30", "k2")].map(|(amount, key)| (w.approved(pays(amount, key)), amount));
        open(w, Cause::Operator);
        let cases = ids.each_ref().map(|(id, amount)| queued(w.call(execute_transfer(id, "SAV_001", amount))));
        lift(w, Cause::Operator);
        for case in &cases {
            take(w, bob(), case, TakeFrom::Nobody).unwrap();
        }
        w.revoke_shopper().unwrap();
        assert_eq!(w.sweep(), 2);
        w.adds_up();
        done(w, bob(), &cases[0], CaseVerdict::PaidElsewhere { reference: "SWIFT-5".into() }).unwrap();
        done(w, bob(), &cases[1], CaseVerdict::Reject).unwrap();
        w.adds_up();
        let transaction = w.store.transaction(&ids[0].0).unwrap().unwrap();
        for counter in [Counter::Agent(shopper().spiffe_id), Counter::Account("DAY_1".into())] {
            assert_eq!(w.store.spent(&counter, transaction.debits_on.unwrap()).unwrap(), 6_000, "{counter:?}");
        }
        assert_eq!(w.call_as(&other, pays("40.01", "k1")), Err(AccountDayLimitExceeded));
        assert!(w.call_as(&other, pays("40", "k1")).is_ok());
        w.adds_up();
    };
    what_was_paid_elsewhere_before_it_was_authorized_is_never_authorized_under_its_key: |w| {
        w.bank();
        open(w, Cause::Anomalies);
        let it = queued(w.call(transfer("5", "k")));
        done(w, bob(), &it, CaseVerdict::PaidElsewhere { reference: "SWIFT-2".into() }).unwrap();
        lift(w, Cause::Anomalies);
        assert_eq!(w.call(transfer("5", "k")), Err(PaidElsewhere));
        assert_eq!(w.call(transfer("6", "k")), Err(IdempotencyKeyReused));
        w.approved(transfer("5", "another"));
    };
    a_case_is_taken_over_with_both_names_and_taking_it_again_changes_nothing: |w| {
        w.bank();
        open(w, Cause::Operator);
        let it = queued(w.call(transfer("5", "k")));
        let taken = |outcome: Outcome| match outcome.unwrap() {
            Effect::CaseWorked { step: CaseStep::Taken { by, before }, .. } => (by, before),
            other => panic!("{other:?}"),
        };
        assert_eq!(taken(take(w, bob(), &it, TakeFrom::Anybody)), ("bob".into(), None));
        let since = case(w, &it).taken.unwrap().at;
        w.later(1_000);
        assert_eq!(taken(take(w, bob(), &it, TakeFrom::Nobody)), ("bob".into(), None));
        assert_eq!(case(w, &it).taken.unwrap().at, since);
        assert_eq!(taken(take(w, cyd(), &it, TakeFrom::Anybody)), ("cyd".into(), Some("bob".into())));
        assert_eq!(done(w, bob(), &it, CaseVerdict::Release), Err(CaseTaken));
        assert_eq!(step(done(w, cyd(), &it, CaseVerdict::Release)), "released");
    };
    many_people_and_agents_at_once_decide_a_case_once_and_pay_once: |w| {
        let w = &two_people_above(w, "1");
        w.bank();
        let ids: Vec<TransactionId> = (0..4).map(|n| w.approved(transfer("5", &format!("k{n}")))).collect();
        open(w, Cause::Operator);
        let cases: Vec<CaseId> = ids.iter().map(|id| queued(w.call(execute_transfer(id, "SAV_001", "5")))).collect();
        let people = [bob(), cyd(), Actor::Operator(operator("dan", &["approver"]))];
        let mut commands = vec![];
        for turn in 0..3 {
            for (id, case) in ids.iter().zip(&cases) {
                for person in &people {
                    commands.push(w.command(person.clone(), answer(w, case, CaseVerdict::Release)));
                    commands.push(w.command(person.clone(), Act::TakeCase { case: case.clone(), from: TakeFrom::Anybody }));
                }
                commands.push(w.tool_command(&shopper(), execute_transfer(id, "SAV_001", "5")));
            }
            let reason = (turn != 2).then(|| "again".to_owned());
            commands.push(w.command(ann(), Act::SetBreaker { cause: Cause::Operator, reason, node: None }));
            commands.push(w.command(ann(), Act::SetBreaker { cause: Cause::Operator, reason: None, node: None }));
        }
        assert!(permitted(&at_once(w, commands)) > 0);
        lift(w, Cause::Operator);
        for (id, case) in ids.iter().zip(&cases) {
            finished(w, case, &people);
            // An execution that came while the bank was stopped again waits under another case.
            if let Effect::QueuedManual { case_id, .. } = w.call(execute_transfer(id, "SAV_001", "5")).unwrap() {
                finished(w, &case_id, &people);
            }
            assert!(matches!(w.call(execute_transfer(id, "SAV_001", "5")), Ok(Effect::Posted(_))));
        }
        assert_eq!(w.balance("CHK_001"), ("5227.83".into(), "0.00".into()));
        w.adds_up();
    };
}

/// Whoever took it last: two of them say the same in the end.
fn finished(w: &World<'_>, id: &CaseId, people: &[Actor]) {
    for person in people.iter().chain(people) {
        if case(w, id).state == CaseState::Queued {
            take(w, person.clone(), id, TakeFrom::Anybody).unwrap();
            let _ = done(w, person.clone(), id, CaseVerdict::Release);
        }
    }
    assert_eq!(case(w, id).state, CaseState::Released);
}

fn two_people_above<'w>(w: &World<'w>, amount: &str) -> World<'w> {
    let rules = Arc::new(Rules { manual_two_people_above: Some(usd(amount)), ..rules() });
    World { rules, ..World::new(w.store) }
}

fn bob() -> Actor {
    Actor::Operator(operator("bob", &["approver"]))
}

fn cyd() -> Actor {
    Actor::Operator(operator("cyd", &["officer", "approver"]))
}

fn ann() -> Actor {
    Actor::Operator(operator("ann", &["administrator"]))
}

fn eve() -> Actor {
    Actor::Operator(operator("eve", &["auditor"]))
}

/// Olga works at the bank and has an account there.
fn owner() -> Actor {
    Actor::Operator(operator("olga", &["approver"]))
}

/// The same person, who is called otherwise as an operator.
fn alias() -> Actor {
    let owner = Some("olga".parse().unwrap());
    Actor::Operator(OperatorPrincipal { owner, ..operator("o-petrova", &["approver", "officer"]) })
}

fn olgas_account(w: &World<'_>) {
    w.admin(Act::OpenAccount(new_account("OLGA_1", "olga", Some("1000")))).unwrap();
    let act = Act::AddGrant {
        agent: shopper().spiffe_id,
        account: "OLGA_1".parse().unwrap(),
        owner: "olga".parse().unwrap(),
        verbs: EVERY_VERB.to_vec(),
        per_transaction_max: None,
        expires: UnixMillis(START + DAY_MS),
    };
    w.admin(act).unwrap();
}

fn system(component: &str) -> Actor {
    Actor::System { component: component.into() }
}

fn by_whom(cause: Cause) -> Actor {
    if cause == Cause::Operator { ann() } else { system(COMPONENT) }
}

fn open(w: &World<'_>, cause: Cause) {
    w.decision(by_whom(cause), Act::SetBreaker { cause, reason: Some("drill".into()), node: None }).outcome.unwrap();
}

fn lift(w: &World<'_>, cause: Cause) {
    w.decision(by_whom(cause), Act::SetBreaker { cause, reason: None, node: None }).outcome.unwrap();
}

fn answer(w: &World<'_>, case: &CaseId, verdict: CaseVerdict) -> Act {
    Act::ResolveCase { case: case.clone(), verdict, note: "n".into(), rules: Arc::clone(&w.rules) }
}

fn done(w: &World<'_>, who: Actor, case: &CaseId, verdict: CaseVerdict) -> Outcome {
    w.decision(who, answer(w, case, verdict)).outcome
}

fn take(w: &World<'_>, who: Actor, case: &CaseId, from: TakeFrom) -> Outcome {
    w.decision(who, Act::TakeCase { case: case.clone(), from }).outcome
}

fn case(w: &World<'_>, id: &CaseId) -> ManualCase {
    w.store.case(id).unwrap().unwrap()
}

fn step(outcome: Outcome) -> &'static str {
    match outcome.unwrap() {
        Effect::CaseWorked { step, .. } => step.status(),
        other => panic!("{other:?}"),
    }
}

fn queued(outcome: Outcome) -> CaseId {
    match outcome.unwrap() {
        Effect::QueuedManual { case_id, .. } => case_id,
        other => panic!("not queued: {other:?}"),
    }
}
