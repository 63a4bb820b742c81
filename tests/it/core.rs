//! A core banking system that fails in every way: what the agent is told, what moves there, what is posted here.
//!
//! Each call × {failed before, failed but applied, slow, answered twice, refused, gone}, live and after a restart. At the end
//! what the core applied is what our ledger posted, once each, and every other hold is released.

mod adapter;
mod daemon;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use countersign::banking::sandbox::{Known, Sandbox, Trick};
use countersign::banking::settings::BankingSettings;
use countersign::banking::{CoreBanking, CoreState, HttpCore, Outside};
use countersign::kernel::command::*;
use countersign::kernel::ledger::{Transaction, TransactionState};
use countersign::kernel::quorum::Side;
use countersign::kernel::types::*;
use countersign::ops::paths::StateDir;
use countersign::payment::{DeskCall, Outbox};
use countersign::store::{Listing, Store, TransactionQuery};
use countersign::tls::asking::Unresolved;
use serde_json::Value;

use crate::payment::{Bank, Mood, ada, bank_with};
use crate::store::world::{cancel, execute_transfer, operator, reversal, transfer};

/// Far more than the sandbox needs, on a busy machine too; only slow answers wait for it.
const TIMEOUT_MS: u64 = 3_000;
/// Turns of delivery after which something is wrong: each brings every order one word further.
const TURNS_MAX: usize = 20;

pub fn sandbox() -> Sandbox {
    Sandbox::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap()
}

fn settings(url: &str) -> BankingSettings {
    BankingSettings {
        url: url.into(),
        secret_file: None,
        secret_vault: None,
        root_file: None,
        client_certificate: false,
        timeout_ms: TIMEOUT_MS,
    }
}

fn adapter(sandbox: &Sandbox) -> Arc<dyn CoreBanking> {
    let outside =
        Outside::read(&settings(&sandbox.url()), &StateDir::new(std::env::temp_dir()), Unresolved::Refused).unwrap();
    HttpCore::start(outside).unwrap()
}

/// A bank and its core.
struct Pair {
    bank: Bank,
    core: Sandbox,
}

impl Pair {
    fn new() -> Self {
        let core = sandbox();
        Self { bank: bank_with(Some(adapter(&core))), core }
    }

    fn restarted(self) -> Self {
        let again = adapter(&self.core);
        Self { bank: self.bank.restarted(Some(again)), core: self.core }
    }

    fn authorize(&self, key: &str) -> Value {
        self.bank.call(transfer("1", key)).unwrap()
    }

    fn execute(&self, id: &TransactionId) -> Value {
        self.bank.call(execute_transfer(id, "SAV_001", "1")).unwrap()
    }

    fn approved(&self, key: &str) -> TransactionId {
        let answer = self.authorize(key);
        assert_eq!(answer["status"], "approved", "{answer}");
        id_of(&answer)
    }

    /// Everything that waits has its word.
    fn deliver(&self) {
        for _ in 0..TURNS_MAX {
            if self.bank.payments.deliver_outbox(|| true).unwrap() == Outbox::Empty {
                return;
            }
        }
        panic!("still waiting: {:?}", self.bank.store.outbox(None, 100).unwrap());
    }

    fn there(&self, id: &TransactionId) -> Known {
        self.core.known().remove(id).unwrap()
    }

    fn here(&self, id: &TransactionId) -> TransactionState {
        self.bank.store.transaction(id).unwrap().unwrap().state
    }

    /// What the core applied is what our ledger posted, once each; what is held there is open here.
    fn books_agree(&self) {
        assert_eq!(self.bank.store.outbox(None, 100).unwrap(), []);
        let mut moved = 0;
        for (id, known) in self.core.known() {
            let here = self.here(&id);
            match known.state {
                CoreState::Settled => {
                    assert_eq!((here, known.settled_times), (TransactionState::Posted, 1), "{id}");
                    moved += 1;
                }
                CoreState::Held => assert!(here.is_open(), "{id} is held there and {here:?} here"),
                CoreState::Absent | CoreState::Released | CoreState::Refused(_) => {
                    assert!(!here.is_open() && here != TransactionState::Posted, "{id}: {known:?} and {here:?}");
                }
            }
        }
        let all = TransactionQuery { limit: 1_000, ..TransactionQuery::default() };
        let listed = self.bank.store.transactions(&all).unwrap().into_iter().map(|record| record.transaction);
        let settled_there = |transaction: &Transaction| transaction.settlement == Settlement::External;
        let posted = listed.filter(settled_there).filter(|transaction| transaction.state == TransactionState::Posted);
        assert_eq!(posted.count(), moved);
        let checked = self.bank.payments.ledger_check(&ada(), &mut |_| {}).unwrap();
        assert_eq!(checked["ok"], true, "{checked}");
        let balances = self.bank.store.listing(Listing::Balances).unwrap();
        let savings = balances.iter().find(|row| row["account_id"] == "SAV_001").unwrap();
        let there = self.core.sums().get("SAV_001 USD").copied().unwrap_or(0);
        assert_eq!(savings["balance_minor"], (10_000 + there).to_string());
    }
}

impl Pair {
    /// What the desk shows of the core's refusals: which order, and why.
    fn refusals(&self, id: &TransactionId) -> Vec<String> {
        let call = DeskCall::TransactionShow { transaction: id.clone() };
        let shown = self.bank.payments.desk(&operator("ann", &["auditor"]), call).unwrap();
        let refusals = shown["core_refusals"].as_array().unwrap();
        let word = |one: &Value| format!("{}: {}", one["order"].as_str().unwrap(), one["reason"].as_str().unwrap());
        refusals.iter().map(word).collect()
    }
}

fn id_of(answer: &Value) -> TransactionId {
    answer["transaction_id"].as_str().unwrap().parse().unwrap()
}

/// What goes wrong, and whether the core gets the order all the same and the answer is known at once.
fn troubles() -> Vec<(Trick, Told)> {
    vec![
        (Trick::DropBefore, Told::Later),
        (Trick::DropAfter, Told::Now),
        (Trick::DelayMs(600_000), Told::Now),
        (Trick::Twice, Told::Now),
        (Trick::Garbage, Told::Now),
        (Trick::Status(500), Told::Now),
        (Trick::Refuse("limit".into()), Told::Refused),
        (Trick::LeaveBefore, Told::Later),
        (Trick::LeaveAfter, Told::Later),
    ]
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Now,
    Later,
    Refused,
}

/// Each trouble live, and with the daemon ending before the core is well again.
fn with_every_trouble(
    verb: CoreVerb,
    story: impl Fn(&Pair, &str, Told) -> TransactionId,
    end: impl Fn(&Pair, &str, &TransactionId, Told),
) {
    let mut pair = Pair::new();
    for (number, (trick, told)) in troubles().into_iter().enumerate() {
        for restart in [false, true] {
            let key = format!("k{number}-{restart}");
            pair.core.plan(verb, trick.clone(), 1);
            let id = story(&pair, &key, told);
            if restart {
                pair = pair.restarted();
            }
            pair.core.back();
            pair.deliver();
            end(&pair, &key, &id, told);
            pair.books_agree();
        }
    }
}

#[test]
fn a_hold_that_goes_wrong_is_approved_denied_or_queued_under_one_case() {
    let story = |pair: &Pair, key: &str, told: Told| {
        let answer = pair.authorize(key);
        match told {
            Told::Now => assert_eq!(answer["status"], "approved", "{answer}"),
            Told::Refused => {
                assert_eq!((&answer["status"], &answer["reason"]), (&"denied".into(), &"core_refused".into()));
                // Ids grow with time.
                return pair.core.known().into_iter().rfind(|(_, known)| known.order.is_none()).unwrap().0;
            }
            Told::Later => {
                assert_eq!(answer["status"], "queued_manual", "{answer}");
                assert_eq!(pair.authorize(key)["case_id"], answer["case_id"], "a retry is the same case");
                let waiting = pair.execute(&id_of(&answer));
                assert_eq!(waiting["case_id"], answer["case_id"], "nothing is settled before it is held: {waiting}");
            }
        }
        id_of(&answer)
    };
    let end = |pair: &Pair, key: &str, id: &TransactionId, told: Told| {
        let again = pair.authorize(key);
        if told == Told::Refused {
            assert_eq!((&again["status"], &again["reason"]), (&"denied".into(), &"core_refused".into()));
            assert_eq!(pair.here(id), TransactionState::CoreRefused);
            assert_eq!(pair.refusals(id), ["hold: limit"]);
            return;
        }
        assert_eq!((&again["status"], id_of(&again)), (&"approved".into(), id.clone()));
        assert_eq!(pair.there(id).state, CoreState::Held);
        assert_eq!(pair.execute(id)["status"], "executed");
    };
    with_every_trouble(CoreVerb::Hold, story, end);
}

#[test]
fn a_settlement_that_goes_wrong_is_executed_denied_or_submitted_and_paid_once() {
    let story = |pair: &Pair, key: &str, told: Told| {
        let id = pair.approved(key);
        let answer = pair.execute(&id);
        match told {
            Told::Now => assert_eq!((&answer["status"], &answer["receipt"]), (&"executed".into(), &"signed".into())),
            Told::Refused => assert_eq!(answer["reason"], "core_refused", "{answer}"),
            Told::Later => {
                assert_eq!(answer["status"], "submitted", "{answer}");
                let call = ToolCall::GetTransaction { transaction_id: id.clone() };
                assert_eq!(pair.bank.call(call).unwrap()["status"], "submitted");
                assert_eq!(pair.bank.call(cancel(&id)).unwrap()["reason"], "submission_pending");
            }
        }
        id
    };
    let end = |pair: &Pair, key: &str, id: &TransactionId, told: Told| {
        let again = pair.execute(id);
        if told == Told::Refused {
            assert_eq!((&again["reason"], pair.here(id)), (&"core_refused".into(), TransactionState::CoreRefused));
            assert_eq!(pair.refusals(id), ["settle: limit"]);
            return;
        }
        assert_eq!((&again["status"], &again["repeated"]), (&"executed".into(), &true.into()), "{again}");
        assert_eq!(pair.authorize(key)["status"], "approved", "the first answer stays");
    };
    with_every_trouble(CoreVerb::Settle, story, end);
}

#[test]
fn a_release_that_goes_wrong_is_never_lost() {
    let story = |pair: &Pair, key: &str, _: Told| {
        let id = pair.approved(key);
        assert_eq!(pair.bank.call(cancel(&id)).unwrap()["status"], "cancelled");
        let held = |pair: &Pair| pair.bank.store.account("CHK_001").unwrap().unwrap().held;
        assert_eq!(held(pair), 0, "here at once");
        let _ = pair.bank.payments.deliver_outbox(|| true).unwrap();
        id
    };
    let end = |pair: &Pair, _: &str, id: &TransactionId, told: Told| {
        assert_eq!(pair.here(id), TransactionState::Cancelled);
        let expected = if told == Told::Refused { CoreState::Refused("limit".into()) } else { CoreState::Released };
        assert_eq!(pair.there(id).state, expected);
    };
    with_every_trouble(CoreVerb::Release, story, end);
}

#[test]
fn what_was_committed_before_the_daemon_died_is_said_after_it() {
    let mut pair = Pair::new();
    pair.core.away();
    let (held, cancelled) = (pair.authorize("held"), pair.authorize("cancelled"));
    for answer in [&held, &cancelled] {
        assert_eq!(answer["status"], "queued_manual", "{answer}");
    }
    pair = pair.restarted();
    assert_eq!(pair.bank.payments.deliver_outbox(|| true).unwrap(), Outbox::Waiting);
    assert!(pair.bank.payments.core_hears().unwrap().is_err());
    let case: CaseId = cancelled["case_id"].as_str().unwrap().parse().unwrap();
    let rules = pair.bank.payments.rules();
    let act = Act::ResolveCase { case, verdict: CaseVerdict::Reject, note: "n".into(), rules };
    let command = Command {
        stamp: countersign::ops::clock::stamp(countersign::ops::clock::fresh_request_id()),
        actor: Actor::Operator(operator("bob", &["approver"])),
        act,
    };
    pair.bank.store.apply(vec![command]).unwrap().pop().unwrap().outcome.unwrap();
    pair.core.back();
    assert_eq!(pair.bank.payments.core_hears(), Some(Ok(())));
    pair.deliver();
    assert_eq!(pair.there(&id_of(&held)).state, CoreState::Held);
    assert_eq!(pair.there(&id_of(&cancelled)).state, CoreState::Released, "a release of what it never heard of");
    assert_eq!(pair.authorize("cancelled")["reason"], "case_rejected");
    pair.books_agree();
}

#[test]
fn nothing_is_sent_before_it_is_signed() {
    let pair = Pair::new();
    let id = pair.approved("k");
    pair.bank.token.mood(Mood::Down);
    assert_eq!(pair.execute(&id)["status"], "submitted");
    assert_eq!(pair.bank.payments.deliver_outbox(|| true).unwrap(), Outbox::Waiting);
    assert_eq!(pair.there(&id).state, CoreState::Held);
    pair.bank.token.mood(Mood::Well);
    pair.deliver();
    assert_eq!((&pair.execute(&id)["status"], &pair.execute(&id)["receipt"]), (&"executed".into(), &"signed".into()));
    pair.books_agree();
}

#[test]
fn an_approved_reversal_is_settled_there_too() {
    let pair = Pair::new();
    let id = pair.approved("k");
    pair.execute(&id);
    let ask = |key: &str, amount| {
        let answer = pair.bank.call(reversal(&id, Some(amount), key)).unwrap();
        answer["approval_id"].as_str().unwrap().parse::<ApprovalId>().unwrap()
    };
    let decide = |approval: &ApprovalId| {
        let bob = operator("bob", &["approver"]);
        pair.bank
            .payments
            .approvals_decide(&bob, approval.clone(), Side::Bank, Verdict::Approve, "ok".into(), None)
            .unwrap()
    };
    let decided = decide(&ask("r1", "0.40"));
    assert_eq!((&decided["status"], &decided["receipt"]), (&"executed".into(), &"signed".into()));
    pair.core.plan(CoreVerb::Settle, Trick::LeaveAfter, 1);
    let late = decide(&ask("r2", "0.60"));
    assert_eq!(late["status"], "submitted", "{late}");
    pair.core.back();
    pair.deliver();
    assert_eq!(pair.core.sums()["SAV_001 USD"], 0);
    pair.books_agree();
    let other = pair.approved("k2");
    pair.execute(&other);
    let answer = pair.bank.call(reversal(&other, None, "r3")).unwrap();
    pair.core.plan(CoreVerb::Settle, Trick::Refuse("limit".into()), 1);
    let refused = decide(&answer["approval_id"].as_str().unwrap().parse().unwrap());
    assert_eq!(refused["status"], "core_refused", "{refused}");
    pair.deliver();
    pair.books_agree();
}

#[test]
fn an_order_without_a_word_does_not_hold_up_the_others() {
    let pair = Pair::new();
    pair.core.away();
    let waiting: Vec<TransactionId> = (0..5).map(|n| id_of(&pair.authorize(&format!("k{n}")))).collect();
    pair.core.back();
    // The first three asked never get a word; each turn begins behind the last one that had none.
    pair.core.plan(CoreVerb::Hold, Trick::DropBefore, 3);
    assert_eq!(pair.bank.payments.deliver_outbox(|| true).unwrap(), Outbox::Waiting);
    let known = |id: &TransactionId| pair.core.known().contains_key(id);
    assert!(!waiting.iter().any(known), "three silent ones end the turn");
    assert_eq!(pair.bank.payments.deliver_outbox(|| !known(&waiting[3])).unwrap(), Outbox::Waiting);
    assert_eq!(waiting.iter().map(known).collect::<Vec<_>>(), [false, false, false, true, false]);
    assert_eq!(pair.bank.payments.deliver_outbox(|| false).unwrap(), Outbox::Waiting);
    pair.deliver();
    for id in &waiting {
        assert_eq!(pair.here(id), TransactionState::Approved);
        pair.execute(id);
    }
    pair.books_agree();
}

#[test]
fn many_callers_and_recovery_at_once_pay_once_whatever_the_core_does() {
    const CALLERS: usize = 4;
    const PAYMENTS: usize = 12;
    let pair = Pair::new();
    let tricks = [Trick::DropBefore, Trick::DropAfter, Trick::Twice, Trick::Garbage, Trick::Status(503)];
    for number in 0..PAYMENTS * 4 {
        // A fixed but mixed order, so that a failure can be seen again.
        let verb = CoreVerb::ALL[number % 3];
        pair.core.plan(verb, tricks[number * 7 % tricks.len()].clone(), 1);
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let recovery = scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                let _ = pair.bank.payments.deliver_outbox(|| true).unwrap();
            }
        });
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let pair = &pair;
                scope.spawn(move || {
                    for number in 0..PAYMENTS {
                        // Two callers share each key: the same intent, asked twice at once.
                        let key = format!("k{}-{number}", caller / 2);
                        let id = settled_on(|| {
                            let answer = pair.authorize(&key);
                            (answer["status"] == "approved").then(|| id_of(&answer))
                        });
                        settled_on(|| (pair.execute(&id)["status"] == "executed").then_some(()));
                    }
                })
            })
            .collect();
        let ended: Vec<_> = callers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        recovery.join().unwrap();
        assert!(ended.iter().all(Result::is_ok));
    });
    pair.deliver();
    pair.books_agree();
    assert_eq!(pair.core.sums()["SAV_001 USD"], 100 * i128::try_from(PAYMENTS * CALLERS / 2).unwrap());
    assert_eq!(pair.bank.store.account("CHK_001").unwrap().unwrap().held, 0);
}

/// Asks again until there is an answer, and not for ever.
fn settled_on<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    crate::crash::until("a payment", &mut ask)
}
