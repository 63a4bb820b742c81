//! The bank's own postings, frozen accounts, stopped payments, cases, and a core that answers.

use std::sync::Arc;

use super::steps::money;
use crate::store::world::*;
use countersign::kernel::breaker::Cause;
use countersign::kernel::command::*;
use countersign::kernel::ledger::AccountStatus;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::*;
use countersign::store::Listing;

fn ada() -> Actor {
    Actor::Operator(operator("ada", &["officer", "administrator"]))
}

fn bob() -> Actor {
    Actor::Operator(operator("bob", &["officer", "approver"]))
}

fn job() -> Actor {
    Actor::System { component: "job".into() }
}

fn book(debit: &str, credit: &str, amount: Money, reference: &str) -> Act {
    Act::Transfer { debit: debit.into(), credit: credit.into(), amount, reference: reference.parse().unwrap() }
}

fn to(account: &str, status: AccountStatus) -> Act {
    Act::SetAccountStatus { account: account.parse().unwrap(), status, reason: "r".into() }
}

fn refusals(w: &World<'_>, table: Vec<(Actor, Act, Refusal)>) {
    for (actor, act, refused) in table {
        let outcome = w.decision(actor.clone(), act.clone()).outcome;
        assert_eq!(outcome, Err(refused), "{} asks {act:?}", actor.name());
    }
}

#[test]
pub fn the_banks_jobs_post_anything_that_adds_up_and_its_people_charge_fees_only() {
    on_every_store(|w| {
        w.bank();
        let limited = NewAccount { day_max: Some(usd("5")), ..new_account("LIMITED", "OWN_001", Some("50")) };
        w.admin(Act::OpenAccount(limited)).unwrap();
        w.admin(to("CHK_002", AccountStatus::Frozen)).unwrap();
        let five = || usd("5");
        use Refusal::*;
        refusals(
            w,
            vec![
                (Actor::Agent(shopper()), book("CHK_001", "fees:USD", five(), "a"), OperatorNotPermitted),
                (
                    Actor::Operator(operator("eve", &["auditor", "approver"])),
                    book("CHK_001", "fees:USD", five(), "a"),
                    OperatorNotPermitted,
                ),
                (ada(), book("CHK_001", "SAV_001", five(), "a"), OperatorNotPermitted),
                (ada(), book("CHK_001", "merchant:amazon.com", five(), "a"), OperatorNotPermitted),
                (ada(), book("CHK_001", "clearing:USD", five(), "a"), OperatorNotPermitted),
                (ada(), book("clearing:USD", "fees:USD", five(), "a"), OperatorNotPermitted),
                (ada(), book("clearing:USD", "SAV_001", five(), "a"), OperatorNotPermitted),
                (job(), book("CHK_001", "NONE", five(), "a"), UnknownDestination),
                (job(), book("NONE", "CHK_001", five(), "a"), UnknownAccount),
                (job(), book("CHK_001", "CHK_001", five(), "a"), SameAccount),
                (job(), book("CHK_001", "SAV_001", money(0, "USD"), "a"), AmountNotPositive),
                (job(), book("CHK_001", "SAV_001", money(-5, "USD"), "a"), AmountNotPositive),
                (ada(), book("CHK_001", "fees:USD", money(-5, "USD"), "a"), AmountNotPositive),
                (job(), book("CHK_001", "SAV_001", money(500, "EUR"), "a"), CurrencyMismatch),
                (job(), book("CHK_001", "fees:EUR", money(500, "EUR"), "a"), CurrencyMismatch),
                (job(), book("CHK_002", "CHK_001", five(), "a"), AccountNotActive),
                (job(), book("CHK_001", "CHK_002", five(), "a"), DestinationNotActive),
                (job(), book("CHK_001", "SAV_001", usd("5247.84"), "a"), InsufficientFunds),
                (job(), book("merchant:amazon.com", "CHK_001", usd("0.01"), "a"), InsufficientFunds),
                (job(), book("LIMITED", "CHK_001", usd("5.01"), "a"), AccountDayLimitExceeded),
                (job(), book("clearing:USD", "CHK_001", money(i64::MAX, "USD"), "a"), AmountTooLarge),
            ],
        );
        assert!(w.store.account("fees:USD").unwrap().is_none(), "what was refused opened nothing");
        let posted = |actor: Actor, act: Act| match w.decision(actor, act).outcome.unwrap() {
            Effect::Posted(posted) => posted,
            other => panic!("{other:?}"),
        };
        let first = posted(ada(), book("CHK_001", "fees:USD", five(), "a"));
        // One reference, one posting, whoever asks again and whenever.
        for actor in [ada(), bob(), job()] {
            w.later(DAY_MS);
            let again = posted(actor, book("CHK_001", "fees:USD", five(), "a"));
            assert_eq!(again, Posted { repeated: true, ..first.clone() });
        }
        refusals(
            w,
            vec![
                (ada(), book("CHK_001", "fees:USD", usd("5.01"), "a"), IdempotencyKeyReused),
                (job(), book("CHK_001", "SAV_001", five(), "a"), IdempotencyKeyReused),
            ],
        );
        posted(job(), book("LIMITED", "CHK_001", five(), "b"));
        posted(job(), book("fees:USD", "SAV_001", usd("1"), "c"));
        assert_eq!((w.balance("CHK_001").0, w.balance("fees:USD").0), ("5247.83".into(), "4.00".into()));
        w.adds_up();
    });
}

#[test]
pub fn a_booking_is_reversed_by_two_people_and_in_this_ledger() {
    on_every_store(|w| {
        w.bank();
        let Ok(Effect::Posted(charged)) = w.decision(ada(), book("CHK_001", "fees:USD", usd("5"), "a")).outcome else {
            panic!()
        };
        let rules = Rules { settlement: Settlement::External, ..rules() };
        let act = Act::ReverseTransaction {
            transaction_id: charged.transaction_id.clone(),
            amount: None,
            idempotency_key: "r".parse().unwrap(),
            rules: Arc::new(rules),
            fresh: w.fresh(),
        };
        let Ok(Effect::RequiresApproval { approval_id, .. }) = w.decision(ada(), act).outcome else { panic!() };
        assert_eq!(w.call(reversal(&charged.transaction_id, None, "x")), Err(Refusal::UnknownTransaction));
        w.answer_approval(&approval_id, Verdict::Approve).unwrap();
        assert_eq!((w.balance("CHK_001").0, w.balance("fees:USD").0), ("5247.83".into(), "0.00".into()));
        assert!(w.store.outbox(None, 10).unwrap().is_empty(), "it never was anywhere else");
        w.adds_up();
    });
}

#[test]
pub fn whoever_froze_an_account_does_not_thaw_it_and_nothing_else_does() {
    on_every_store(|w| {
        w.bank();
        w.admin(open("EMPTY", "OWN_001", None)).unwrap();
        use AccountStatus::{Active, Closed, Frozen};
        use Refusal::*;
        let done = |actor: Actor, act: Act, changed: bool| {
            assert_eq!(w.decision(actor, act).outcome, Ok(Effect::Done { changed }));
        };
        refusals(
            w,
            vec![
                (Actor::Agent(shopper()), to("CHK_001", Frozen), OperatorNotPermitted),
                (
                    Actor::Operator(operator("eve", &["approver", "auditor"])),
                    to("CHK_001", Frozen),
                    OperatorNotPermitted,
                ),
                (ada(), to("NONE", Frozen), UnknownAccount),
                (ada(), to("CHK_001", Closed), AccountNotEmpty),
            ],
        );
        done(ada(), to("CHK_001", Active), false);
        done(ada(), to("CHK_001", Frozen), true);
        done(bob(), to("CHK_001", Frozen), false);
        let twin = Actor::Operator(OperatorPrincipal { uid: 2, asserted: false, ..operator("ada", &["officer"]) });
        refusals(
            w,
            vec![
                (ada(), to("CHK_001", Active), MakerIsChecker),
                (twin, to("CHK_001", Active), MakerIsChecker),
                (job(), to("CHK_001", Active), OperatorNotPermitted),
                (ada(), incoming("CHK_001", "1", "r"), AccountNotActive),
                (ada(), to("CHK_001", Closed), AccountNotEmpty),
            ],
        );
        done(bob(), to("CHK_001", Active), true);
        // Frozen by the daemon: any person thaws it, no job does.
        done(job(), to("CHK_001", Frozen), true);
        let other_job = Actor::System { component: "other".into() };
        refusals(
            w,
            vec![
                (job(), to("CHK_001", Active), OperatorNotPermitted),
                (other_job, to("CHK_001", Active), OperatorNotPermitted),
            ],
        );
        done(ada(), to("CHK_001", Active), true);
        // What is held keeps an account open, what is owed does too, and closed is for ever.
        let line = NewAccount { overdraft: Some(usd("5")), ..new_account("LINE", "OWN_001", None) };
        w.admin(Act::OpenAccount(line)).unwrap();
        w.admin(grant(&shopper(), "LINE", EVERY_VERB)).unwrap();
        let held = w.approved(transfer_to(Some("LINE"), "SAV_001", "5", "k"));
        refusals(w, vec![(ada(), to("LINE", Closed), AccountNotEmpty)]);
        w.posted(execute_transfer(&held, "SAV_001", "5"));
        refusals(w, vec![(ada(), to("LINE", Closed), AccountNotEmpty)]);
        w.admin(incoming("LINE", "5", "r")).unwrap();
        done(ada(), to("LINE", Closed), true);
        done(bob(), to("LINE", Closed), false);
        refusals(
            w,
            vec![
                (bob(), to("LINE", Active), AccountNotActive),
                (bob(), to("LINE", Frozen), AccountNotActive),
                (ada(), incoming("LINE", "5", "s"), AccountNotActive),
            ],
        );
        assert_eq!(w.call(transfer_to(Some("LINE"), "SAV_001", "1", "l")), Err(AccountNotActive));
        w.adds_up();
    });
}

#[test]
pub fn accounts_with_impossible_limits_are_not_opened() {
    on_every_store(|w| {
        let new = |overdraft: Option<Money>, day_max: Option<Money>, opening: Option<Money>| {
            Act::OpenAccount(NewAccount { overdraft, day_max, opening, ..new_account("A", "O", None) })
        };
        let usd = |minor| Some(money(minor, "USD"));
        refusals(
            w,
            vec![
                (ada(), new(usd(-1), None, None), Refusal::AmountNotPositive),
                (ada(), new(None, usd(0), None), Refusal::AmountNotPositive),
                (ada(), new(None, usd(-1), None), Refusal::AmountNotPositive),
                (ada(), new(None, None, usd(0)), Refusal::AmountNotPositive),
                (ada(), new(None, None, usd(-1)), Refusal::AmountNotPositive),
                (ada(), new(Some(money(1, "EUR")), None, None), Refusal::CurrencyMismatch),
                (ada(), new(None, Some(money(1, "EUR")), None), Refusal::CurrencyMismatch),
                (ada(), new(None, None, Some(money(1, "EUR"))), Refusal::CurrencyMismatch),
                (bob(), new(None, None, None), Refusal::OperatorNotPermitted),
            ],
        );
        assert!(w.store.listing(Listing::Accounts).unwrap().is_empty());
        assert!(w.decision(ada(), new(usd(0), usd(1), usd(1))).outcome.is_ok());
    });
}

#[test]
pub fn only_people_let_payments_go_on_and_only_the_right_ones_decide_a_case() {
    on_every_store(|w| {
        w.bank();
        let eve = || Actor::Operator(operator("eve", &["approver", "auditor"]));
        let stop = || Act::SetBreaker { cause: Cause::Operator, reason: Some("drill".into()), node: None };
        let go_on = || Act::SetBreaker { cause: Cause::Operator, reason: None, node: None };
        use Refusal::*;
        refusals(
            w,
            vec![(eve(), stop(), OperatorNotPermitted), (Actor::Agent(shopper()), stop(), OperatorNotPermitted)],
        );
        let id = w.approved(transfer("5", "a"));
        assert!(w.decision(ada(), stop()).outcome.is_ok());
        refusals(
            w,
            vec![
                (job(), stop(), OperatorNotPermitted),
                (job(), go_on(), OperatorNotPermitted),
                (eve(), go_on(), OperatorNotPermitted),
                (Actor::Agent(shopper()), go_on(), OperatorNotPermitted),
            ],
        );
        let Ok(Effect::QueuedManual { case_id, .. }) = w.call(execute_transfer(&id, "SAV_001", "5")) else { panic!() };
        let rules = || Arc::clone(&w.rules);
        let resolve = |verdict| Act::ResolveCase { case: case_id.clone(), verdict, note: "n".into(), rules: rules() };
        let unknown = Act::ResolveCase {
            case: w.id("case_").parse().unwrap(),
            verdict: CaseVerdict::Release,
            note: String::new(),
            rules: rules(),
        };
        refusals(
            w,
            vec![
                (job(), resolve(CaseVerdict::Release), OperatorNotPermitted),
                (Actor::Agent(shopper()), resolve(CaseVerdict::Reject), OperatorNotPermitted),
                (
                    Actor::Operator(operator("ann", &["administrator"])),
                    resolve(CaseVerdict::Release),
                    OperatorNotPermitted,
                ),
                (bob(), unknown, UnknownCase),
            ],
        );
        // Released while the bank is stopped, it goes on nowhere: the next try is another case.
        assert!(w.decision(bob(), resolve(CaseVerdict::Release)).outcome.is_ok());
        let again = w.call(execute_transfer(&id, "SAV_001", "5"));
        assert!(matches!(&again, Ok(Effect::QueuedManual { case_id: second, .. }) if *second != case_id), "{again:?}");
        refusals(
            w,
            vec![
                (bob(), resolve(CaseVerdict::Release), AlreadyDecided),
                (bob(), resolve(CaseVerdict::Reject), AlreadyDecided),
            ],
        );
        assert_eq!(w.balance("CHK_001").1, "5.00");
        w.adds_up();
    });
}

#[test]
pub fn a_payment_is_queued_once_and_a_late_repeat_does_not_undo_the_answer() {
    on_every_store(|w| {
        w.bank();
        let (approval, id) = w.waiting(transfer("2500", "k"));
        let other = w.approved(transfer("5", "l"));
        let case: CaseId = w.id("case_").parse().unwrap();
        let queue = |id: &TransactionId, case: &CaseId| Act::QueueManual {
            transaction_id: id.clone(),
            case: case.clone(),
            reason: "stuck".into(),
        };
        let nobody: TransactionId = w.id("txn_").parse().unwrap();
        use Refusal::*;
        refusals(
            w,
            vec![
                (ada(), queue(&id, &case), OperatorNotPermitted),
                (Actor::Agent(shopper()), queue(&id, &case), OperatorNotPermitted),
                (job(), queue(&nobody, &case), UnknownTransaction),
            ],
        );
        let queued = w.decision(job(), queue(&id, &case)).outcome;
        let second: CaseId = w.id("case_").parse().unwrap();
        assert_eq!(w.decision(job(), queue(&id, &second)).outcome, queued, "it waits already");
        refusals(w, vec![(job(), queue(&other, &case), AlreadyExists)]);
        assert_eq!(w.answer_approval(&approval, Verdict::Approve), Err(QueuedManual));
        let rules = Arc::clone(&w.rules);
        let resolve = Act::ResolveCase { case: case.clone(), verdict: CaseVerdict::Release, note: "n".into(), rules };
        assert!(w.decision(bob(), resolve).outcome.is_ok());
        refusals(w, vec![(job(), queue(&id, &case), AlreadyExists)]);
        let status = |case: &CaseId| w.store.case(case).unwrap().unwrap().state.name().to_owned();
        assert_eq!(status(&case), "released");
        // It is back where it stood: a human still has to decide.
        assert_eq!(w.call(execute_transfer(&id, "SAV_001", "2500")), Err(ApprovalPending));
        w.answer_approval(&approval, Verdict::Approve).unwrap();
        w.posted(execute_transfer(&id, "SAV_001", "2500"));
        w.posted(execute_transfer(&other, "SAV_001", "5"));
        let third: CaseId = w.id("case_").parse().unwrap();
        let cancelled = w.approved(transfer("5", "m"));
        w.call(cancel(&cancelled)).unwrap();
        refusals(
            w,
            vec![
                (job(), queue(&id, &third), AlreadyExecuted),
                (job(), queue(&cancelled, &third), AuthorizationCancelled),
            ],
        );
        w.adds_up();
    });
}

#[test]
pub fn money_at_an_external_core_moves_when_it_says_so_and_never_twice() {
    on_every_store(|w| {
        w.bank();
        let rules = Arc::new(Rules { settlement: Settlement::External, ..rules() });
        let call = |call: ToolCall| {
            let act = Act::Tool { call, rules: Arc::clone(&rules), fresh: w.fresh(), risk: None };
            w.decision(Actor::Agent(shopper()), act).outcome
        };
        let approved = |key: &str| match call(transfer("5", key)).unwrap() {
            Effect::Approved { transaction_id, .. } => transaction_id,
            other => panic!("{other:?}"),
        };
        let heard = |id: &TransactionId, verb, word| {
            let act = Act::CoreAnswered { transaction_id: id.clone(), verb, word };
            w.decision(job(), act).outcome
        };
        let outbox = || -> Vec<(TransactionId, CoreVerb)> {
            w.store.outbox(None, 100).unwrap().into_iter().map(|row| (row.transaction_id, row.verb)).collect()
        };
        use CoreVerb::{Hold, Release, Settle};
        use CoreWord::{Done, Refused};
        let no = || Refused("no".into());
        let changed = |changed| Ok(Effect::Done { changed });
        let id = approved("a");
        let execute = || call(execute_transfer(&id, "SAV_001", "5"));
        let word = Act::CoreAnswered { transaction_id: id.clone(), verb: Hold, word: Done };
        for actor in [ada(), bob(), Actor::Agent(shopper())] {
            assert_eq!(w.decision(actor, word.clone()).outcome, Err(Refusal::OperatorNotPermitted));
        }
        let nobody: TransactionId = w.id("txn_").parse().unwrap();
        assert_eq!(heard(&nobody, Hold, Done), Err(Refusal::UnknownTransaction));
        // Before the hold stands there nothing is ordered, and words that nobody waits for change nothing.
        let Ok(Effect::QueuedManual { case_id, .. }) = execute() else { panic!("it was ordered without a hold") };
        for (verb, word) in [(Settle, Done), (Settle, no()), (Release, Done)] {
            assert_eq!(heard(&id, verb, word), changed(false));
        }
        assert_eq!(heard(&id, Hold, Done), changed(true));
        assert_eq!(heard(&id, Hold, no()), changed(false), "the first word counts");
        let (verdict, rules) = (CaseVerdict::Reject, Arc::clone(&w.rules));
        let resolve = Act::ResolveCase { case: case_id, verdict, note: "n".into(), rules };
        assert_eq!(w.decision(bob(), resolve).outcome, Err(Refusal::AlreadyDecided), "the core's word closed it");
        // No order leaves for an account that is stopped on either side.
        for (account, refused) in [("SAV_001", Refusal::DestinationNotActive), ("CHK_001", Refusal::AccountNotActive)] {
            w.admin(to(account, AccountStatus::Frozen)).unwrap();
            assert_eq!(execute(), Err(refused));
        }
        for account in ["SAV_001", "CHK_001"] {
            w.decision(bob(), to(account, AccountStatus::Active)).outcome.unwrap();
        }
        assert!(matches!(execute(), Ok(Effect::Submitted(Posted { repeated: false, .. }))));
        assert!(matches!(execute(), Ok(Effect::Submitted(Posted { repeated: true, .. }))));
        assert_eq!(outbox(), [(id.clone(), Settle)]);
        // Under way it is neither cancelled, nor queued, nor voided, nor does it lapse.
        assert_eq!(call(cancel(&id)), Err(Refusal::SubmissionPending));
        let case = w.id("case_").parse().unwrap();
        let queue = Act::QueueManual { transaction_id: id.clone(), case, reason: "x".into() };
        assert_eq!(w.decision(job(), queue).outcome, Err(Refusal::SubmissionPending));
        w.later(DAY_MS);
        assert_eq!(w.sweep(), 0);
        assert_eq!(w.balance("CHK_001"), ("5247.83".into(), "5.00".into()));
        assert!(matches!(heard(&id, Settle, Done), Ok(Effect::Posted(_))));
        for word in [Done, no()] {
            assert_eq!(heard(&id, Settle, word), changed(false), "once");
        }
        assert!(matches!(execute(), Ok(Effect::Posted(Posted { repeated: true, .. }))));
        assert_eq!(w.balance("CHK_001"), ("5242.83".into(), "0.00".into()));

        // A refused hold ends it and gives nothing back there; a refused settlement does.
        let (unheld, unsettled, dropped) = (approved("b"), approved("c"), approved("d"));
        assert_eq!(heard(&unheld, Hold, no()), changed(true));
        for again in [execute_transfer(&unheld, "SAV_001", "5"), transfer("5", "b"), cancel(&unheld)] {
            assert_eq!(call(again), Err(Refusal::CoreRefused));
        }
        assert_eq!(heard(&unsettled, Hold, Done), changed(true));
        assert!(call(execute_transfer(&unsettled, "SAV_001", "5")).is_ok());
        assert_eq!(heard(&unsettled, Settle, no()), changed(true));
        call(cancel(&dropped)).unwrap();
        let expected = [(unsettled.clone(), Release), (dropped.clone(), Release)];
        assert_eq!(outbox(), expected);
        for (id, verb) in expected {
            assert_eq!(heard(&id, verb, Done), changed(true));
        }
        assert!(outbox().is_empty());
        assert_eq!(w.balance("CHK_001"), ("5242.83".into(), "0.00".into()));
        w.adds_up();
    });
}
