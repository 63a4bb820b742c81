//! From an authorization on: executing, cancelling, deciding, reversing.

use std::sync::Arc;

use super::steps::money;
use crate::store::world::*;
use countersign::kernel::breaker::Cause;
use countersign::kernel::command::*;
use countersign::kernel::ledger::{AccountStatus, FeeRule, TransactionKind};
use countersign::kernel::policy::merchants::MerchantList;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::*;

fn status(account: &str, status: AccountStatus) -> Act {
    Act::SetAccountStatus { account: account.parse().unwrap(), status, reason: "r".into() }
}

fn person(name: &str, roles: &[&str]) -> Actor {
    Actor::Operator(operator(name, roles))
}

fn under(w: &World<'_>, call: ToolCall, rules: Rules) -> Outcome {
    let act = Act::Tool { call, rules: Arc::new(rules), fresh: w.fresh(), risk: None };
    w.decision(Actor::Agent(shopper()), act).outcome
}

#[test]
pub fn an_execution_is_refused_by_the_first_rule_it_breaks() {
    on_every_store(|w| {
        w.bank();
        let bought = w.approved(buy("LAPTOP", "1899.99", "k1"));
        let moved = w.approved(transfer("10", "k2"));
        let (_, asked) = w.waiting(transfer("2500", "k3"));
        let right = || execute_transfer(&moved, "SAV_001", "10");
        let wrong = || execute_transfer(&moved, "SAV_001", "11");
        let no_tools = || Rules { role_tools: Default::default(), ..rules() };
        let no_merchant = || Rules { merchants_allowed: MerchantList::default(), ..rules() };
        let nobody: TransactionId = w.id("txn_").parse().unwrap();
        use Refusal::*;
        let table = [
            ("unknown", execute_transfer(&nobody, "SAV_001", "10"), rules(), UnknownTransaction),
            ("as a purchase", execute_buy(&moved, "LAPTOP"), no_tools(), AuthorizationMismatch),
            ("as a transfer", execute_transfer(&bought, "SAV_001", "1899.99"), no_tools(), AuthorizationMismatch),
            ("no tool, wrong amount", wrong(), no_tools(), ToolDenied),
            ("wrong amount", wrong(), rules(), AuthorizationMismatch),
            (
                "wrong product, merchant off the list",
                execute_buy(&bought, "SERVER"),
                no_merchant(),
                AuthorizationMismatch,
            ),
            ("merchant off the list", execute_buy(&bought, "LAPTOP"), no_merchant(), UnauthorizedMerchant),
            ("not decided", execute_transfer(&asked, "SAV_001", "2500"), rules(), ApprovalPending),
            ("not decided, wrong", execute_transfer(&asked, "SAV_001", "2501"), rules(), AuthorizationMismatch),
        ];
        for (row, call, rules, refused) in table {
            assert_eq!(under(w, call, rules), Err(refused), "{row}");
        }
        w.admin(status("SAV_001", AccountStatus::Frozen)).unwrap();
        assert_eq!(w.call(right()), Err(DestinationNotActive));
        w.admin(status("CHK_001", AccountStatus::Frozen)).unwrap();
        assert_eq!(w.call(right()), Err(AccountNotActive));
        w.later(900_000);
        assert_eq!(w.call(right()), Err(AuthorizationExpired), "expired, frozen");
        assert_eq!(under(w, execute_buy(&bought, "LAPTOP"), no_merchant()), Err(UnauthorizedMerchant), "then expired");
        // A frozen account gives back what it holds.
        assert_eq!(w.sweep(), 2);
        assert_eq!(w.balance("CHK_001"), ("5247.83".into(), "2500.00".into()));
        for account in ["CHK_001", "SAV_001"] {
            w.decision(person("bob", &["officer"]), status(account, AccountStatus::Active)).outcome.unwrap();
        }
        w.posted({
            let again = w.approved(transfer("10", "k4"));
            execute_transfer(&again, "SAV_001", "10")
        });
        w.adds_up();
    });
}

#[test]
pub fn whatever_became_of_an_authorization_is_what_executing_and_cancelling_it_says() {
    on_every_store(|w| {
        w.bank();
        use Refusal::*;
        type Fate = fn(&World<'_>, &TransactionId, &ApprovalId);
        let fates: [(&str, Fate, Refusal, Result<(), Refusal>); 5] = [
            ("cancelled", |w, id, _| drop(w.call(cancel(id)).unwrap()), AuthorizationCancelled, Ok(())),
            (
                "denied",
                |w, _, approval| drop(w.answer_approval(approval, Verdict::Deny).unwrap()),
                ApprovalDenied,
                Err(ApprovalDenied),
            ),
            (
                "nobody decided",
                |w, _, _| {
                    w.later(DAY_MS / 2);
                    w.sweep();
                },
                ApprovalExpired,
                Err(ApprovalExpired),
            ),
            (
                "approved and forgotten",
                |w, _, approval| {
                    w.answer_approval(approval, Verdict::Approve).unwrap();
                    w.later(900_000);
                    w.sweep();
                },
                AuthorizationExpired,
                Err(AuthorizationExpired),
            ),
            (
                "queued",
                |w, id, _| {
                    let case = w.id("case_").parse().unwrap();
                    let act = Act::QueueManual { transaction_id: id.clone(), case, reason: "stuck".into() };
                    w.system(act).outcome.unwrap();
                },
                QueuedManual,
                Err(QueuedManual),
            ),
        ];
        for (fate, befall, executed, cancelled) in fates {
            let (approval, id) = w.waiting(transfer("2001", &format!("key-{}", w.id("k"))));
            befall(w, &id, &approval);
            let execute = w.call(execute_transfer(&id, "SAV_001", "2001"));
            if fate == "queued" {
                assert!(matches!(execute, Ok(Effect::QueuedManual { .. })), "{fate}: {execute:?}");
            } else {
                assert_eq!(execute, Err(executed), "{fate}");
            }
            assert_eq!(w.call(cancel(&id)).map(drop), cancelled, "{fate}");
            w.adds_up();
        }
        assert_eq!(w.balance("CHK_001"), ("5247.83".into(), "2001.00".into()), "only the queued one holds");
        let unknown: TransactionId = w.id("txn_").parse().unwrap();
        let no_approval: ApprovalId = w.id("apr_").parse().unwrap();
        assert_eq!(w.call(cancel(&unknown)), Err(UnknownTransaction));
        let by_approval = ToolCall::CancelAuthorization { reference: AuthorizationRef::ApprovalId(no_approval) };
        assert_eq!(w.call(by_approval), Err(UnknownApproval));
    });
}

#[test]
pub fn a_decision_needs_the_role_the_question_time_and_another_person() {
    on_every_store(|w| {
        w.bank();
        let moved = w.approved(transfer("10", "k"));
        w.posted(execute_transfer(&moved, "SAV_001", "10"));
        let request = |who: &Actor, key: &str| {
            let act = Act::ReverseTransaction {
                transaction_id: moved.clone(),
                amount: Some(usd("4")),
                idempotency_key: key.parse().unwrap(),
                rules: Arc::clone(&w.rules),
                fresh: w.fresh(),
            };
            w.decision(who.clone(), act).outcome
        };
        let cyd = person("cyd", &["officer", "approver"]);
        let Ok(Effect::RequiresApproval { approval_id, .. }) = request(&cyd, "r1") else { panic!() };
        let decide = |who: Actor, verdict| {
            let act = decide(&approval_id, verdict, "n");
            w.decision(who, act).outcome
        };
        // The same name with other roles, another user id or a proven name is the same person.
        let proven = OperatorPrincipal { uid: 7, asserted: false, ..operator("cyd", &["approver"]) };
        for who in [cyd.clone(), person("cyd", &["approver"]), Actor::Operator(proven)] {
            for verdict in [Verdict::Approve, Verdict::Deny] {
                assert_eq!(decide(who.clone(), verdict), Err(Refusal::MakerIsChecker));
            }
        }
        // Asking again as somebody else neither makes a second question nor changes who made the first.
        let dan = person("dan", &["officer", "approver"]);
        assert_eq!(request(&dan, "r1"), request(&cyd, "r1"));
        for who in [
            person("ada", &["administrator", "officer"]),
            Actor::Agent(shopper()),
            Actor::System { component: "x".into() },
        ] {
            assert_eq!(decide(who, Verdict::Approve), Err(Refusal::OperatorNotPermitted));
        }
        assert_eq!(w.balance("SAV_001").0, "110.00");
        assert!(decide(dan.clone(), Verdict::Approve).is_ok());
        assert_eq!(decide(dan, Verdict::Approve), Err(Refusal::AlreadyDecided));
        assert_eq!(w.balance("SAV_001").0, "106.00");
        for who in [person("bob", &["approver"]), person("ada", &["administrator"]), Actor::Agent(shopper())] {
            assert_eq!(request(&who, "r9"), Err(Refusal::OperatorNotPermitted));
        }
        w.adds_up();
    });
}

#[test]
pub fn reversals_never_take_more_than_the_original_whoever_asks_in_whichever_order() {
    on_every_store(|w| {
        w.bank();
        let moved = w.approved(transfer("10", "k"));
        let by_bank = |id: &TransactionId, amount: Option<Money>, key: &str| {
            let act = Act::ReverseTransaction {
                transaction_id: id.clone(),
                amount,
                idempotency_key: key.parse().unwrap(),
                rules: Arc::clone(&w.rules),
                fresh: w.fresh(),
            };
            w.decision(person("ada", &["officer"]), act).outcome
        };
        use Refusal::*;
        assert_eq!(by_bank(&moved, None, "a"), Err(NotReversible), "not executed");
        assert_eq!(w.call(reversal(&moved, None, "a")), Err(UnknownTransaction), "not executed");
        w.posted(execute_transfer(&moved, "SAV_001", "10"));
        let nobody: TransactionId = w.id("txn_").parse().unwrap();
        for (row, outcome, refused) in [
            ("unknown", by_bank(&nobody, None, "b"), UnknownTransaction),
            ("other currency", by_bank(&moved, Some(money(1_000, "EUR")), "c"), CurrencyMismatch),
            ("nothing", by_bank(&moved, Some(money(0, "USD")), "d"), ReversalExceedsOriginal),
            ("negative", by_bank(&moved, Some(money(-1, "USD")), "e"), ReversalExceedsOriginal),
            ("the least", by_bank(&moved, Some(money(i64::MIN, "USD")), "f"), ReversalExceedsOriginal),
            ("a cent more", by_bank(&moved, Some(usd("10.01")), "g"), ReversalExceedsOriginal),
            ("the most", by_bank(&moved, Some(money(i64::MAX, "USD")), "h"), ReversalExceedsOriginal),
        ] {
            assert_eq!(outcome, Err(refused), "{row}");
        }
        let asked = |outcome: Outcome| match outcome.unwrap() {
            Effect::RequiresApproval { approval_id, transaction_id, .. } => (approval_id, transaction_id),
            other => panic!("{other:?}"),
        };
        let (first, _) = asked(by_bank(&moved, Some(usd("4")), "i"));
        let (second, reversed) = asked(w.call(reversal(&moved, Some("5"), "j")));
        // One waits at the bank, one of the agent: a cent is left, and two are too much for either.
        assert_eq!(by_bank(&moved, Some(usd("1.01")), "k"), Err(ReversalExceedsOriginal));
        assert_eq!(w.call(reversal(&moved, Some("1.01"), "l")), Err(ReversalExceedsOriginal));
        assert_eq!(by_bank(&moved, Some(usd("3")), "i"), Err(IdempotencyKeyReused));
        w.answer_approval(&first, Verdict::Deny).unwrap();
        w.answer_approval(&second, Verdict::Approve).unwrap();
        // The denied four came back: five are left.
        assert_eq!(w.call(reversal(&moved, Some("5.01"), "m")), Err(ReversalExceedsOriginal));
        let (rest, _) = asked(by_bank(&moved, None, "n"));
        w.answer_approval(&rest, Verdict::Approve).unwrap();
        assert_eq!(by_bank(&moved, None, "o"), Err(ReversalExceedsOriginal));
        assert_eq!(by_bank(&reversed, None, "p"), Err(NotReversible), "of a reversal");
        let opening = w.admin(incoming("CHK_001", "5", "in")).unwrap();
        let Effect::Posted(opening) = opening else { panic!() };
        assert_eq!(by_bank(&opening.transaction_id, None, "q"), Err(NotReversible), "of an incoming payment");
        assert_eq!(w.balance("CHK_001").0, "5252.83");
        w.adds_up();
    });
}

#[test]
pub fn a_reversal_posts_only_what_is_there_and_the_fee_stays() {
    on_every_store(|w| {
        w.bank();
        let fee = FeeRule { kind: TransactionKind::Transfer, fixed: usd("0.50"), basis_points: 0 };
        let rules = Rules { fees: vec![fee], ..rules() };
        let asked = under(w, transfer_to(Some("CHK_001"), "CHK_002", "1000", "k"), rules.clone());
        let Ok(Effect::Approved { transaction_id, .. }) = asked else { panic!("{asked:?}") };
        assert_eq!(w.balance("CHK_001").1, "1000.50");
        let execute = execute_transfer(&transaction_id, "CHK_002", "1000");
        assert!(matches!(under(w, execute, rules), Ok(Effect::Posted(_))));
        assert_eq!((w.balance("CHK_001").0, w.balance("fees:USD").0), ("4247.33".into(), "0.50".into()));
        let (approval, _) = w.waiting(reversal(&transaction_id, None, "r"));
        assert_eq!(w.balance("CHK_002"), ("1820.15".into(), "0.00".into()), "nothing is held for it");
        // The payee spends, is frozen, is thawed; only then is there enough, and only once.
        let job = |debit: &str, credit: &str, amount: &str| {
            let reference = w.id("b").parse().unwrap();
            let act = Act::Transfer { debit: debit.into(), credit: credit.into(), amount: usd(amount), reference };
            w.system(act).outcome.unwrap();
        };
        job("CHK_002", "SAV_001", "820.16");
        assert_eq!(w.answer_approval(&approval, Verdict::Approve), Err(Refusal::InsufficientFunds));
        job("SAV_001", "CHK_002", "0.01");
        w.admin(status("CHK_002", AccountStatus::Frozen)).unwrap();
        assert_eq!(w.answer_approval(&approval, Verdict::Approve), Err(Refusal::AccountNotActive));
        w.decision(person("bob", &["officer"]), status("CHK_002", AccountStatus::Active)).outcome.unwrap();
        w.admin(Act::SetBreaker { cause: Cause::Operator, reason: Some("drill".into()), node: None }).unwrap();
        w.answer_approval(&approval, Verdict::Approve).unwrap();
        assert_eq!(w.answer_approval(&approval, Verdict::Approve), Err(Refusal::AlreadyDecided));
        assert_eq!((w.balance("CHK_001").0, w.balance("CHK_002").0), ("5247.33".into(), "0.00".into()));
        assert_eq!(w.balance("fees:USD").0, "0.50");
        w.adds_up();
    });
}
