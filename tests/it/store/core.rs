//! With a core banking system: what is ordered from it, and what follows from its word.

use std::sync::Arc;

use super::world::*;
use countersign::kernel::breaker::Cause;
use countersign::kernel::command::*;
use countersign::kernel::decide::{CORE_COMPONENT, HOLD_NOT_CONFIRMED};
use countersign::kernel::ledger::{AccountStatus, FeeRule, TransactionKind, TransactionState};
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::*;
use countersign::store::Listing;

use CoreVerb::{Hold, Release, Settle};

sentences! {
    an_authorization_orders_a_hold_and_moves_no_money: |w| {
        let w = &external(w);
        let id = w.approved(transfer("5", "k"));
        assert_eq!(outbox(w, &id), [Hold]);
        assert_eq!(w.approved(transfer("5", "k")), id, "a retry orders nothing more");
        assert_eq!(outbox(w, &id), [Hold]);
        assert_eq!(done(w, &id, Hold), Ok(Effect::Done { changed: true }));
        assert_eq!(done(w, &id, Hold), Ok(Effect::Done { changed: false }), "a second word changes nothing");
        assert_eq!((outbox(w, &id), w.balance("CHK_001")), (vec![], ("5247.83".into(), "5.00".into())));
        w.adds_up();
    };
    an_execution_is_an_order_of_the_batch_and_money_moves_with_the_cores_word: |w| {
        let w = &external(w);
        let (id, order) = submitted(w, "5", "k");
        let batch = w.store.batch(order.batch).unwrap().unwrap();
        let place = usize::try_from(order.index_in_batch).unwrap();
        assert_eq!(batch.leaves[place], countersign::kernel::merkle::leaf_hash(&order.statement));
        let statement: TransactionStatement = serde_json::from_slice(&order.statement).unwrap();
        assert_eq!((statement.schema.as_str(), statement.amount_minor.as_str()), ("countersign/order/v1", "500"));
        assert_eq!(w.balance("CHK_001"), ("5247.83".into(), "5.00".into()));
        assert_eq!((outbox(w, &id), w.store.posted(&id).unwrap()), (vec![Settle], None));
        let again = w.call(execute_transfer(&id, "SAV_001", "5"));
        assert_eq!(again, Ok(Effect::Submitted(Posted { repeated: true, ..order })));
        let Effect::Posted(posted) = done(w, &id, Settle).unwrap() else { panic!("not posted") };
        assert_eq!(w.balance("CHK_001"), ("5242.83".into(), "0.00".into()));
        assert_eq!(done(w, &id, Settle), Ok(Effect::Done { changed: false }));
        let repeated = w.posted(execute_transfer(&id, "SAV_001", "5"));
        assert_eq!((repeated.repeated, repeated.batch), (true, posted.batch));
        assert_eq!((outbox(w, &id), w.balance("SAV_001").0), (vec![], "105.00".into()));
        w.adds_up();
    };
    what_the_core_refuses_to_hold_is_given_back_and_never_called_approved_again: |w| {
        let w = &external(w);
        let id = w.approved(transfer("2000", "k"));
        refused(w, &id, Hold).unwrap();
        assert_eq!((outbox(w, &id), w.balance("CHK_001").1), (vec![], "0.00".into()), "nothing is held there");
        for call in [transfer("2000", "k"), execute_transfer(&id, "SAV_001", "2000"), cancel(&id)] {
            assert_eq!(w.call(call), Err(Refusal::CoreRefused));
        }
        for key in ["b", "c"] {
            w.approved(transfer("2000", key));
        }
        w.adds_up();
    };
    what_the_core_refused_and_why_is_kept_once: |w| {
        let w = &external(w);
        let id = w.approved(transfer("2000", "k"));
        assert_eq!(w.store.core_refusals(&id).unwrap(), []);
        refused(w, &id, Hold).unwrap();
        let kept = w.store.core_refusals(&id).unwrap();
        let [refusal] = &kept[..] else { panic!("{kept:?}") };
        assert_eq!((refusal.verb, refusal.reason.as_str(), refusal.at), (Hold, "limit", UnixMillis(w.now.get())));
        w.later(1_000);
        refused(w, &id, Hold).unwrap();
        assert_eq!(w.store.core_refusals(&id).unwrap(), kept, "nobody waited for the second word");
        let (other, _) = submitted(w, "5", "other");
        refused(w, &other, Settle).unwrap();
        refused(w, &other, Release).unwrap();
        let orders: Vec<CoreVerb> = w.store.core_refusals(&other).unwrap().iter().map(|one| one.verb).collect();
        assert_eq!(orders, [Release, Settle]);
        assert_eq!(w.store.core_refusals(&id).unwrap(), kept);
    };
    a_settlement_that_the_core_refuses_gives_both_holds_back: |w| {
        let w = &external(w);
        let (id, _) = submitted(w, "5", "k");
        refused(w, &id, Settle).unwrap();
        assert_eq!((outbox(w, &id), w.balance("CHK_001")), (vec![Release], ("5247.83".into(), "0.00".into())));
        assert_eq!(w.call(execute_transfer(&id, "SAV_001", "5")), Err(Refusal::CoreRefused));
        done(w, &id, Release).unwrap();
        assert_eq!(outbox(w, &id), []);
        w.adds_up();
    };
    an_execution_before_the_hold_is_confirmed_waits_under_a_case_that_the_hold_closes: |w| {
        let w = &external(w);
        let id = w.approved(transfer("5", "k"));
        let case = queued(w.call(execute_transfer(&id, "SAV_001", "5")));
        assert_eq!(queued(w.call(execute_transfer(&id, "SAV_001", "5"))), case);
        assert_eq!(queued(w.call(transfer("5", "k"))), case);
        w.later(DAY_MS);
        assert_eq!(w.sweep(), 0);
        done(w, &id, Hold).unwrap();
        assert_eq!(case_of(w, &case), ("released".into(), "system:core".into()));
        assert_eq!(w.approved(transfer("5", "k")), id);
        assert!(matches!(w.call(execute_transfer(&id, "SAV_001", "5")), Ok(Effect::Submitted(_))));
        w.adds_up();
    };
    a_case_whose_hold_the_core_refuses_is_rejected_by_itself: |w| {
        let w = &external(w);
        let id = w.approved(transfer("5", "k"));
        let case = queued(queue(w, &id));
        assert_eq!(queued(queue(w, &id)), case, "queued twice is one case");
        refused(w, &id, Hold).unwrap();
        assert_eq!(case_of(w, &case), ("rejected".into(), "system:core".into()));
        assert_eq!(w.call(transfer("5", "k")), Err(Refusal::CoreRefused));
        assert_eq!(w.balance("CHK_001").1, "0.00");
        w.adds_up();
    };
    a_payment_whose_hold_was_answered_meanwhile_is_not_queued: |w| {
        let w = &external(w);
        let id = w.approved(transfer("5", "k"));
        done(w, &id, Hold).unwrap();
        assert_eq!(queue(w, &id), Ok(Effect::Done { changed: false }));
        assert_eq!(w.approved(transfer("5", "k")), id);
    };
    a_case_that_people_reject_is_released_there_and_stays_rejected: |w| {
        let w = &external(w);
        let id = w.approved(transfer("5", "k"));
        let case = queued(queue(w, &id));
        resolve(w, &case, CaseVerdict::Reject).unwrap();
        assert_eq!((outbox(w, &id), w.balance("CHK_001").1), (vec![Release], "0.00".into()));
        assert_eq!(done(w, &id, Hold), Ok(Effect::Done { changed: false }), "a late word holds nothing here");
        assert_eq!(w.call(transfer("5", "k")), Err(Refusal::CaseRejected));
        w.adds_up();
    };
    a_case_that_people_release_still_waits_for_the_core: |w| {
        let w = &external(w);
        let id = w.approved(transfer("5", "k"));
        let case = queued(queue(w, &id));
        resolve(w, &case, CaseVerdict::Release).unwrap();
        let next = queued(w.call(execute_transfer(&id, "SAV_001", "5")));
        assert_ne!(next, case);
        done(w, &id, Hold).unwrap();
        assert!(matches!(w.call(execute_transfer(&id, "SAV_001", "5")), Ok(Effect::Submitted(_))));
        w.adds_up();
    };
    a_case_of_stopped_payments_is_not_closed_by_the_core: |w| {
        let w = &external(w);
        let id = w.approved(transfer("5", "k"));
        w.admin(Act::SetBreaker { cause: Cause::Operator, reason: Some("drill".into()), node: None }).unwrap();
        let case = queued(w.call(execute_transfer(&id, "SAV_001", "5")));
        done(w, &id, Hold).unwrap();
        assert_eq!(case_of(w, &case).0, "queued");
        w.admin(Act::SetBreaker { cause: Cause::Operator, reason: None, node: None }).unwrap();
        resolve(w, &case, CaseVerdict::Release).unwrap();
        assert!(matches!(w.call(execute_transfer(&id, "SAV_001", "5")), Ok(Effect::Submitted(_))));
    };
    every_ending_gives_the_hold_back_there_once: |w| {
        let w = &external(w);
        let ended = |key: &str, held: bool| {
            let id = w.approved(transfer("5", key));
            if held {
                done(w, &id, Hold).unwrap();
            }
            id
        };
        for held in [true, false] {
            let id = ended(&format!("cancel-{held}"), held);
            w.call(cancel(&id)).unwrap();
            w.call(cancel(&id)).unwrap();
            assert_eq!(outbox(w, &id), [Release], "what was not heard is not said any more");
        }
        let late = ended("expire", true);
        let (approval, denied) = w.waiting(transfer("2500", "deny"));
        done(w, &denied, Hold).unwrap();
        w.answer_approval(&approval, Verdict::Deny).unwrap();
        w.later(w.rules.authorization_ttl_ms + 1);
        assert_eq!(w.sweep(), 1);
        let void = ended("void", true);
        w.revoke_shopper().unwrap();
        assert_eq!((w.sweep(), w.sweep()), (1, 0));
        for id in [late, denied, void] {
            assert_eq!(outbox(w, &id), [Release]);
        }
        assert_eq!(w.balance("CHK_001"), ("5247.83".into(), "0.00".into()));
        w.adds_up();
    };
    what_is_ordered_neither_lapses_nor_is_cancelled_nor_voided: |w| {
        let w = &external(w);
        let (id, _) = submitted(w, "5", "k");
        assert_eq!(w.call(cancel(&id)), Err(Refusal::SubmissionPending));
        w.later(w.rules.authorization_ttl_ms + 1);
        w.revoke_shopper().unwrap();
        assert_eq!(w.sweep(), 0);
        done(w, &id, Settle).unwrap();
        assert_eq!(w.balance("CHK_001"), ("5242.83".into(), "0.00".into()));
        w.adds_up();
    };
    money_that_moved_there_moves_here_although_an_account_was_frozen_since: |w| {
        let w = &external(w);
        let (id, _) = submitted(w, "5", "k");
        for account in ["CHK_001", "SAV_001"] {
            let act = Act::SetAccountStatus {
                account: account.parse().unwrap(),
                status: AccountStatus::Frozen,
                reason: "r".into(),
            };
            w.admin(act).unwrap();
        }
        assert!(matches!(done(w, &id, Settle), Ok(Effect::Posted(_))));
        assert_eq!((w.balance("CHK_001").0, w.balance("SAV_001").0), ("5242.83".into(), "105.00".into()));
        let accounts = w.store.listing(Listing::Accounts).unwrap();
        assert_eq!(accounts.iter().filter(|account| account["status"] == "frozen").count(), 2);
        w.adds_up();
    };
    a_fee_is_ordered_and_posted_with_the_amount: |w| {
        let fee = FeeRule { kind: TransactionKind::Transfer, fixed: usd("0.25"), basis_points: 0 };
        let w = &external_with(w, Rules { fees: vec![fee], ..rules() });
        let (id, order) = submitted(w, "5", "k");
        let statement: TransactionStatement = serde_json::from_slice(&order.statement).unwrap();
        assert_eq!(statement.fee_minor.as_deref(), Some("25"));
        done(w, &id, Settle).unwrap();
        assert_eq!((w.balance("CHK_001").0, w.balance("fees:USD").0), ("5242.58".into(), "0.25".into()));
        w.adds_up();
    };
    an_approved_reversal_is_ordered_and_the_payee_cannot_spend_meanwhile: |w| {
        let w = &external(w);
        let (original, _) = submitted(w, "5", "k");
        done(w, &original, Settle).unwrap();
        for (key, word) in [("r1", CoreWord::Refused("limit".into())), ("r2", CoreWord::Done)] {
            let (approval, id) = w.waiting(reversal(&original, None, key));
            assert_eq!(outbox(w, &id), [], "a reversal holds nothing before a human looked");
            w.answer_approval(&approval, Verdict::Approve).unwrap();
            assert_eq!((outbox(w, &id), w.balance("SAV_001").1), (vec![Settle], "5.00".into()));
            assert_eq!(state(w, &id), TransactionState::Submitted);
            w.adds_up();
            said(w, &id, Settle, word).unwrap();
            assert_eq!(w.balance("SAV_001").1, "0.00");
            w.adds_up();
        }
        assert_eq!((w.balance("CHK_001").0, w.balance("SAV_001").0), ("5247.83".into(), "100.00".into()));
    };
    a_reversal_that_the_payee_cannot_pay_is_not_ordered: |w| {
        let w = &external(w);
        let (original, _) = submitted(w, "1500", "k");
        done(w, &original, Settle).unwrap();
        let (approval, id) = w.waiting(reversal(&original, None, "r"));
        w.admin(grant(&shopper(), "SAV_001", EVERY_VERB)).unwrap();
        w.approved(transfer_to(Some("SAV_001"), "CHK_002", "1599", "spent"));
        assert_eq!(w.answer_approval(&approval, Verdict::Approve), Err(Refusal::InsufficientFunds));
        assert_eq!((outbox(w, &id), state(w, &id)), (vec![], TransactionState::PendingApproval));
        w.adds_up();
    };
    only_the_daemon_itself_brings_the_cores_word: |w| {
        let w = &external(w);
        let id = w.approved(transfer("5", "k"));
        let act = || Act::CoreAnswered { transaction_id: id.clone(), verb: Hold, word: CoreWord::Done };
        for actor in [Actor::Agent(shopper()), Actor::Operator(operator("ada", &["administrator", "officer"]))] {
            assert_eq!(w.decision(actor, act()).outcome, Err(Refusal::OperatorNotPermitted));
        }
        let unknown: TransactionId = w.id("txn_").parse().unwrap();
        assert_eq!(done(w, &unknown, Hold), Err(Refusal::UnknownTransaction));
        assert_eq!(outbox(w, &id), [Hold]);
    };
}

fn external<'s>(w: &World<'s>) -> World<'s> {
    external_with(w, rules())
}

fn external_with<'s>(w: &World<'s>, rules: Rules) -> World<'s> {
    let rules = Arc::new(Rules { settlement: Settlement::External, ..rules });
    let external = World { rules, ..World::new(w.store) };
    external.bank();
    external
}

fn outbox(w: &World<'_>, id: &TransactionId) -> Vec<CoreVerb> {
    w.store.outbox(Some(id), 10).unwrap().into_iter().map(|row| row.verb).collect()
}

fn state(w: &World<'_>, id: &TransactionId) -> TransactionState {
    w.store.transaction(id).unwrap().unwrap().state
}

fn core(w: &World<'_>, act: Act) -> Outcome {
    w.decision(Actor::System { component: CORE_COMPONENT.into() }, act).outcome
}

fn said(w: &World<'_>, id: &TransactionId, verb: CoreVerb, word: CoreWord) -> Outcome {
    core(w, Act::CoreAnswered { transaction_id: id.clone(), verb, word })
}

fn done(w: &World<'_>, id: &TransactionId, verb: CoreVerb) -> Outcome {
    said(w, id, verb, CoreWord::Done)
}

fn refused(w: &World<'_>, id: &TransactionId, verb: CoreVerb) -> Outcome {
    said(w, id, verb, CoreWord::Refused("limit".into()))
}

fn queue(w: &World<'_>, id: &TransactionId) -> Outcome {
    let case = w.id("case_").parse().unwrap();
    core(w, Act::QueueManual { transaction_id: id.clone(), case, reason: HOLD_NOT_CONFIRMED.into() })
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

/// Status, and who decided.
fn case_of(w: &World<'_>, case: &CaseId) -> (String, String) {
    let case = w.store.case(case).unwrap().unwrap();
    (case.state.name().into(), case.decided_by.unwrap_or_default())
}

/// A transfer to SAV_001 that the core holds and was ordered to settle.
fn submitted(w: &World<'_>, amount: &str, key: &str) -> (TransactionId, Posted) {
    let id = w.approved(transfer(amount, key));
    done(w, &id, Hold).unwrap();
    match w.call(execute_transfer(&id, "SAV_001", amount)).unwrap() {
        Effect::Submitted(order) => (id, order),
        other => panic!("not submitted: {other:?}"),
    }
}
