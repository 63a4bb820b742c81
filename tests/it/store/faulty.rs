//! Every call of a store in turn: failed, failed after it was applied, slow.
//!
//! A day at the bank runs over a store that does one of these at one call. The bank's users ask again when something
//! fails, as they do. In the end every intent has happened exactly once and is answered as on a day without faults; and
//! whoever was told that nothing happened was told the truth.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use countersign::audit::settings::AuditSettings;
use countersign::audit::{Advance, Log, LogSetup};
use countersign::guard::Guard;
use countersign::guard::settings::BreakerSettings;
use countersign::hsm::Token;
use countersign::kernel::command::*;
use countersign::kernel::decide::{CoreRefusal, Counter, Grant, ManualCase, OutboxRow};
use countersign::kernel::ledger::{Account, Transaction, TransactionState};
use countersign::kernel::mandate::{ShownMandate, StoredMandate};
use countersign::kernel::merkle::NodeId;
use countersign::kernel::quorum::Side;
use countersign::kernel::sign::Purpose;
use countersign::kernel::status::StatusSnapshot;
use countersign::kernel::types::*;
use countersign::kernel::witness::WitnessedLog;
use countersign::ops::clock;
use countersign::ops::failure::{Failure, Kind, MayHaveHappened};
use countersign::ops::registry::ServingLimit;
use countersign::payment::{Payments, PaymentsSetup, ToolFailure};
use countersign::store::sqlite::SqliteStore;
use countersign::store::*;
use serde_json::{Value, json};

use super::world::{DAY_MS, World, agent, new_account, operator, rules, usd};
use crate::audit::parties::{Bank, OID_BASE};

/// Longer than any healthy wait.
const PATIENCE: Duration = Duration::from_secs(60);
/// A step is asked for again this often; a store is hurt once.
const TRIES: u32 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// Nothing is done, and it is said so.
    Failed,
    Busy,
    /// It is done, and nobody is told.
    Applied,
    /// Others come first.
    SlowBefore,
    /// It is done, and others come before the answer.
    SlowAfter,
}

/// Where a slow call stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    Reached,
    Passed,
}

/// A real store with one fault.
struct Faulty {
    inner: Arc<dyn Store>,
    calls: AtomicU32,
    /// The number of the call that is hurt; none is 0.
    hurt: u32,
    fault: Fault,
    gate: Mutex<Gate>,
    moved: Condvar,
}

impl Faulty {
    fn new(inner: Arc<dyn Store>, hurt: u32, fault: Fault) -> Arc<Self> {
        let (calls, gate) = (AtomicU32::new(0), Mutex::new(Gate::Open));
        Arc::new(Self { inner, calls, hurt, fault, gate, moved: Condvar::new() })
    }

    fn read<T>(&self, call: impl FnOnce() -> Result<T, StoreFault>) -> Result<T, StoreFault> {
        // A read that failed after it was made has failed.
        self.call(call, || StoreFault::NotRecorded("planted: reading failed".into()))
    }

    fn write<T>(&self, call: impl FnOnce() -> Result<T, StoreFault>) -> Result<T, StoreFault> {
        self.call(call, || StoreFault::OutcomeUnknown("planted: the answer is lost".into()))
    }

    fn call<T>(
        &self,
        call: impl FnOnce() -> Result<T, StoreFault>,
        lost: impl FnOnce() -> StoreFault,
    ) -> Result<T, StoreFault> {
        if self.calls.fetch_add(1, Ordering::SeqCst) + 1 != self.hurt {
            return call();
        }
        match self.fault {
            Fault::Failed => Err(StoreFault::NotRecorded("planted: nothing was done".into())),
            Fault::Busy => Err(StoreFault::Busy),
            Fault::Applied => call().and_then(|_| Err(lost())),
            Fault::SlowBefore => {
                self.wait_for_others();
                call()
            }
            Fault::SlowAfter => {
                let answer = call();
                self.wait_for_others();
                answer
            }
        }
    }

    fn wait_for_others(&self) {
        let mut gate = self.gate.lock().unwrap();
        *gate = Gate::Reached;
        self.moved.notify_all();
        let waited = self.moved.wait_timeout_while(gate, PATIENCE, |gate| *gate == Gate::Reached).unwrap();
        assert!(!waited.1.timed_out(), "nobody let the slow call go on");
    }

    /// Lets the slow call go on after `others`; nothing when the day ended without reaching it.
    fn at_the_gate(&self, others: impl FnOnce()) {
        let gate = self.gate.lock().unwrap();
        let (gate, waited) = self.moved.wait_timeout_while(gate, PATIENCE, |gate| *gate == Gate::Open).unwrap();
        assert!(!waited.timed_out(), "the slow call was never reached");
        if *gate == Gate::Reached {
            drop(gate);
            others();
            self.pass();
        }
    }

    fn pass(&self) {
        *self.gate.lock().unwrap() = Gate::Passed;
        self.moved.notify_all();
    }
}

impl Store for Faulty {
    fn apply(&self, commands: Vec<Command>) -> Result<Vec<Decision>, StoreFault> {
        self.write(|| self.inner.apply(commands))
    }
    fn sequence(&self, step: SequenceStep) -> Result<(), StoreFault> {
        self.write(|| self.inner.sequence(step))
    }
    fn store_signed_checkpoint(&self, size: u64, signed: Vec<u8>) -> Result<(), StoreFault> {
        self.write(|| self.inner.store_signed_checkpoint(size, signed))
    }
    fn store_cosignature(&self, size: u64, cosignature: Cosignature) -> Result<(), StoreFault> {
        self.write(|| self.inner.store_cosignature(size, cosignature))
    }
    fn cosigned_checkpoint(&self) -> Result<Option<CosignedCheckpoint>, StoreFault> {
        self.read(|| self.inner.cosigned_checkpoint())
    }
    fn cosignatures(&self, from_size: u64, limit: u32) -> Result<Vec<StoredCosignature>, StoreFault> {
        self.read(|| self.inner.cosignatures(from_size, limit))
    }
    fn witnessed(&self) -> Result<Vec<WitnessedLog>, StoreFault> {
        self.read(|| self.inner.witnessed())
    }
    fn cases(&self, after: Option<&CasePlace>, limit: u32) -> Result<Vec<ManualCase>, StoreFault> {
        self.read(|| self.inner.cases(after, limit))
    }
    fn cases_waiting(&self) -> Result<u64, StoreFault> {
        self.read(|| self.inner.cases_waiting())
    }
    fn core_refusals(&self, of: &TransactionId) -> Result<Vec<CoreRefusal>, StoreFault> {
        self.read(|| self.inner.core_refusals(of))
    }
    fn forget_keys(&self, now: UnixMillis, limit: u32) -> Result<u32, StoreFault> {
        self.write(|| self.inner.forget_keys(now, limit))
    }
    fn status(&self) -> Result<StatusSnapshot, StoreFault> {
        self.read(|| self.inner.status())
    }
    fn revoked_of(&self, issuer: &str) -> Result<Vec<RevokedEntry>, StoreFault> {
        self.read(|| self.inner.revoked_of(issuer))
    }
    fn authorities(&self) -> Result<Vec<CertificateRecord>, StoreFault> {
        self.read(|| self.inner.authorities())
    }
    fn certificates_of(&self, of: &CertificatesOf, live_at: UnixMillis) -> Result<Vec<CertificateRecord>, StoreFault> {
        self.read(|| self.inner.certificates_of(of, live_at))
    }
    fn certificate_list(&self) -> Result<Vec<CertificateLine>, StoreFault> {
        self.read(|| self.inner.certificate_list())
    }
    fn last_end(&self, issuer: &str) -> Result<Option<UnixMillis>, StoreFault> {
        self.read(|| self.inner.last_end(issuer))
    }
    fn certificates(&self) -> Result<Vec<CertificateRecord>, StoreFault> {
        self.read(|| self.inner.certificates())
    }
    fn approvals(&self, after: Option<&ApprovalId>, limit: u32) -> Result<Vec<ApprovalView>, StoreFault> {
        self.read(|| self.inner.approvals(after, limit))
    }
    fn approval(&self, approval: &ApprovalId) -> Result<Option<ApprovalView>, StoreFault> {
        self.read(|| self.inner.approval(approval))
    }
    fn grants_of(&self, agent: &SpiffeId) -> Result<Vec<Grant>, StoreFault> {
        self.read(|| self.inner.grants_of(agent))
    }
    fn mandates(
        &self,
        agent: Option<&SpiffeId>,
        after: Option<&MandateId>,
        limit: u32,
    ) -> Result<Vec<StoredMandate>, StoreFault> {
        self.read(|| self.inner.mandates(agent, after, limit))
    }

    fn mandates_shown(&self, query: &MandateQuery) -> Result<Vec<ShownMandate>, StoreFault> {
        self.read(|| self.inner.mandates_shown(query))
    }

    fn mandate(&self, id: &MandateId) -> Result<Option<StoredMandate>, StoreFault> {
        self.read(|| self.inner.mandate(id))
    }

    fn listing(&self, what: Listing) -> Result<Vec<Value>, StoreFault> {
        self.read(|| self.inner.listing(what))
    }
    fn posted(&self, transaction: &TransactionId) -> Result<Option<Posted>, StoreFault> {
        self.read(|| self.inner.posted(transaction))
    }
    fn account(&self, name: &str) -> Result<Option<Account>, StoreFault> {
        self.read(|| self.inner.account(name))
    }
    fn transaction(&self, id: &TransactionId) -> Result<Option<Transaction>, StoreFault> {
        self.read(|| self.inner.transaction(id))
    }
    fn transactions(&self, query: &TransactionQuery) -> Result<Vec<TransactionRecord>, StoreFault> {
        self.read(|| self.inner.transactions(query))
    }
    fn check(&self, progress: &mut dyn FnMut(CheckProgress)) -> Result<LedgerCheck, StoreFault> {
        self.read(|| self.inner.check(progress))
    }
    fn case(&self, id: &CaseId) -> Result<Option<ManualCase>, StoreFault> {
        self.read(|| self.inner.case(id))
    }
    fn spent(&self, counter: &Counter, day: Day) -> Result<i64, StoreFault> {
        self.read(|| self.inner.spent(counter, day))
    }
    fn statement(&self, query: &StatementQuery) -> Result<Option<Statement>, StoreFault> {
        self.read(|| self.inner.statement(query))
    }
    fn outbox(&self, of: Option<&TransactionId>, limit: u32) -> Result<Vec<OutboxRow>, StoreFault> {
        self.read(|| self.inner.outbox(of, limit))
    }
    fn order(&self, transaction: &TransactionId) -> Result<Option<Posted>, StoreFault> {
        self.read(|| self.inner.order(transaction))
    }
    fn batch(&self, batch: i64) -> Result<Option<BatchRecord>, StoreFault> {
        self.read(|| self.inner.batch(batch))
    }
    fn committed_document(&self, batch: i64) -> Option<Sha256> {
        self.inner.committed_document(batch)
    }
    fn batch_statements(&self, batch: i64) -> Result<Vec<(u32, Vec<u8>)>, StoreFault> {
        self.read(|| self.inner.batch_statements(batch))
    }
    fn unsigned_batches(&self, limit: u32) -> Result<Vec<BatchRecord>, StoreFault> {
        self.read(|| self.inner.unsigned_batches(limit))
    }
    fn leaf(&self, row: i64) -> Result<Option<LeafRecord>, StoreFault> {
        self.read(|| self.inner.leaf(row))
    }
    fn leaf_of_transaction(&self, transaction: &TransactionId) -> Result<Option<LeafRecord>, StoreFault> {
        self.read(|| self.inner.leaf_of_transaction(transaction))
    }
    fn unsequenced_after(&self, row: i64, limit: u32) -> Result<Vec<LeafRecord>, StoreFault> {
        self.read(|| self.inner.unsequenced_after(row, limit))
    }
    fn leaves(&self, from_index: u64, limit: u32) -> Result<Vec<LeafRecord>, StoreFault> {
        self.read(|| self.inner.leaves(from_index, limit))
    }
    fn node(&self, level: u8, index: u64) -> Result<Option<Sha256>, StoreFault> {
        self.read(|| self.inner.node(level, index))
    }
    fn nodes_at(&self, nodes: &[NodeId]) -> Result<Vec<Option<Sha256>>, StoreFault> {
        self.read(|| self.inner.nodes_at(nodes))
    }
    fn tree_nodes(&self, level: u8, from: u64, limit: u32) -> Result<Vec<(u64, Sha256)>, StoreFault> {
        self.read(|| self.inner.tree_nodes(level, from, limit))
    }
    fn log_extent(&self) -> Result<Option<LogExtent>, StoreFault> {
        self.read(|| self.inner.log_extent())
    }
    fn checkpoints(&self, from_size: u64, limit: u32) -> Result<Vec<CheckpointRecord>, StoreFault> {
        self.read(|| self.inner.checkpoints(from_size, limit))
    }
    fn batches(&self, after: i64, limit: u32) -> Result<Vec<BatchRecord>, StoreFault> {
        self.read(|| self.inner.batches(after, limit))
    }
    fn bookings(&self, after: i64, limit: u32) -> Result<Vec<Booking>, StoreFault> {
        self.read(|| self.inner.bookings(after, limit))
    }
    fn newest_checkpoint(&self) -> Result<Option<CheckpointRecord>, StoreFault> {
        self.read(|| self.inner.newest_checkpoint())
    }
    fn signed_checkpoint(&self) -> Result<Option<CheckpointRecord>, StoreFault> {
        self.read(|| self.inner.signed_checkpoint())
    }
}

/// A daemon's services over one store. Several over the same store are several daemons.
struct Desk {
    payments: Arc<Payments>,
    log: Arc<Log>,
    store: Arc<dyn Store>,
}

/// What happens on a day, in order; later steps need what earlier ones answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Open(&'static str),
    Merchant,
    Product,
    Enrol,
    Grant,
    Buy,
    ExecuteBought,
    Transfer,
    Cancel,
    LargeTransfer,
    ApproveLarge,
    ExecuteLarge,
    Reverse,
    ApproveReversal,
    Incoming,
    Balance,
    Sweep,
    Recover,
    Sequence,
    Receipt,
    Check,
}

const DAY: &[Step] = &[
    Step::Open("CHK_001"),
    Step::Open("SAV_001"),
    Step::Merchant,
    Step::Product,
    Step::Enrol,
    Step::Grant,
    Step::Buy,
    Step::ExecuteBought,
    Step::Transfer,
    Step::Cancel,
    Step::LargeTransfer,
    Step::ApproveLarge,
    Step::ExecuteLarge,
    Step::Reverse,
    Step::ApproveReversal,
    Step::Incoming,
    Step::Balance,
    Step::Sweep,
    Step::Recover,
    Step::Sequence,
    Step::Receipt,
    Step::Check,
];

/// Answers so far, by step.
type Answers = Vec<(Step, Value)>;

fn answer_of<'a>(answers: &'a Answers, step: Step, key: &str) -> &'a str {
    let (_, answer) = answers.iter().find(|(other, _)| *other == step).expect("earlier steps are answered");
    answer[key].as_str().unwrap_or_else(|| panic!("{step:?} has no {key}: {answer}"))
}

fn ada() -> OperatorPrincipal {
    operator("ada", &["administrator", "officer"])
}

fn shopper() -> AgentPrincipal {
    AgentPrincipal { not_after: clock::now().plus_ms(DAY_MS), ..agent("purchaser", "shopper") }
}

fn transfer(amount: &str, key: &str) -> ToolCall {
    ToolCall::AuthorizeTransfer {
        from_account: Some("CHK_001".parse().unwrap()),
        to_account: "SAV_001".parse().unwrap(),
        amount: usd(amount),
        idempotency_key: key.parse().unwrap(),
    }
}

impl Desk {
    fn new(bank: &Bank, store: Arc<dyn Store>) -> Self {
        let token = || Arc::clone(&bank.keys) as Arc<dyn Token>;
        let transaction_key = bank.keys.key(Purpose::Transaction).0.clone();
        let setup = PaymentsSetup {
            store: Arc::clone(&store),
            token: token(),
            transaction_key,
            rules: Arc::new(rules()),
            core: None,
            limit: Arc::new(ServingLimit::none()),
            guard: Guard::new(BreakerSettings::default(), clock::fresh_node_id()),
        };
        let log = || {
            Log::open(LogSetup {
                store: Arc::clone(&store),
                token: token(),
                checkpoint: bank.certified(Purpose::Checkpoint),
                transaction: Some(bank.certified(Purpose::Transaction)),
                settings: AuditSettings::default(),
                oid_base: OID_BASE.into(),
            })
        };
        let log = log().or_else(|_| log()).unwrap();
        Self { payments: Payments::new(setup), log, store }
    }

    /// One try of one step.
    fn take(&self, step: Step, answers: &Answers) -> Result<Value, Failure> {
        let transaction = |step| answer_of(answers, step, "transaction_id").parse::<TransactionId>().unwrap();
        let payments = &self.payments;
        match step {
            Step::Open(account) => payments.account_open(&ada(), new_account(account, "OWN_001", Some("5000"))),
            Step::Merchant => {
                let amazon = "amazon.com".parse().unwrap();
                let refuse = countersign::kernel::text::OnHostile::Refuse;
                payments.merchant_add(&ada(), amazon, "Amazon".into(), "USD".parse().unwrap(), false, refuse)
            }
            Step::Product => {
                let (merchant, product) = ("amazon.com".parse().unwrap(), "LAPTOP".parse().unwrap());
                payments.product_add(
                    &ada(),
                    merchant,
                    product,
                    "Laptop".into(),
                    usd("1899.99"),
                    countersign::kernel::text::OnHostile::Refuse,
                )
            }
            Step::Enrol => self.enrol(),
            Step::Grant => {
                let (account, owner) = ("CHK_001".parse().unwrap(), "OWN_001".parse().unwrap());
                let verbs = vec![Verb::Read, Verb::Purchase, Verb::Transfer, Verb::Reverse];
                payments.grant_add(&ada(), &"shopper".parse().unwrap(), account, owner, verbs, None, 90)
            }
            Step::Buy => self.call(ToolCall::AuthorizePurchase {
                product_id: "LAPTOP".parse().unwrap(),
                price: usd("1899.99"),
                merchant: "amazon.com".parse().unwrap(),
                from_account: None,
                idempotency_key: "buy".parse().unwrap(),
            }),
            Step::ExecuteBought => self.call(ToolCall::ExecutePurchase {
                transaction_id: transaction(Step::Buy),
                product_id: "LAPTOP".parse().unwrap(),
            }),
            Step::Transfer => self.call(transfer("10", "small")),
            Step::Cancel => {
                let reference = AuthorizationRef::TransactionId(transaction(Step::Transfer));
                self.call(ToolCall::CancelAuthorization { reference })
            }
            Step::LargeTransfer => self.call(transfer("2500", "large")),
            Step::ApproveLarge => self.approve(answers, Step::LargeTransfer),
            Step::ExecuteLarge => self.call(ToolCall::ExecuteTransfer {
                transaction_id: transaction(Step::ApproveLarge),
                from_account: None,
                to_account: "SAV_001".parse().unwrap(),
                amount: usd("2500"),
            }),
            Step::Reverse => self.call(ToolCall::RequestReversal {
                transaction_id: transaction(Step::Buy),
                amount: Some(usd("100")),
                idempotency_key: "reverse".parse().unwrap(),
            }),
            Step::ApproveReversal => self.approve(answers, Step::Reverse),
            Step::Incoming => {
                let (account, reference) = ("CHK_001".parse().unwrap(), "salary".parse().unwrap());
                payments.account_incoming(&ada(), account, "12.34", None, reference)
            }
            Step::Balance => self.call(ToolCall::GetAccountBalance { account_id: "CHK_001".parse().unwrap() }),
            Step::Sweep => payments.sweep().map(|released| json!({ "released": released })),
            Step::Recover => payments.recover().map(|pending| json!({ "pending": pending })),
            Step::Sequence => {
                while self.log.advance()? != Advance::Idle {}
                Ok(json!({ "status": "idle" }))
            }
            Step::Receipt => {
                let receipt = self.log.receipt(&transaction(Step::Buy), Duration::ZERO)?;
                Ok(json!({ "receipt": receipt.to_bytes().is_ok() }))
            }
            Step::Check => payments.ledger_check(&ada(), &mut |_| {}),
        }
    }

    fn call(&self, call: ToolCall) -> Result<Value, Failure> {
        self.payments.call_tool(&shopper(), call, clock::fresh_request_id(), RequestProof::default()).map_err(
            |failure| match failure {
                ToolFailure::Failed(failure) => failure,
                ToolFailure::Refused(refusal) => panic!("{refusal:?}"),
            },
        )
    }

    fn enrol(&self) -> Result<Value, Failure> {
        let shopper = shopper();
        let record = CertificateRecord {
            id: "crt_1".into(),
            profile: "agent-b".into(),
            subject: shopper.spiffe_id.to_string(),
            issuer: shopper.bank_issuer,
            serial: shopper.bank_serial,
            key: shopper.key,
            not_after: UnixMillis(4_000_000_000_000),
            tbs: vec![1],
            der: None,
        };
        let stamp = clock::stamp(clock::fresh_request_id());
        let actor = Actor::System { component: "test".into() };
        let enrolled =
            self.store.apply(vec![Command { stamp, actor, act: Act::JournalCertificate { record } }])?.pop().unwrap();
        // Journalled by a try whose answer was lost.
        assert!(
            enrolled.outcome.is_ok() || enrolled.outcome == Err(countersign::kernel::refusal::Refusal::AlreadyExists)
        );
        Ok(json!({ "status": "enrolled" }))
    }

    /// A human whose answer got lost looks at the approval; the second answer is refused.
    fn approve(&self, answers: &Answers, asked: Step) -> Result<Value, Failure> {
        let approval: ApprovalId = answer_of(answers, asked, "approval_id").parse().unwrap();
        let bob = operator("bob", &["approver"]);
        match self.payments.approvals_decide(&bob, approval.clone(), Side::Bank, Verdict::Approve, "ok".into(), None) {
            Err(failure) if failure.name == "already_decided" => {
                let view = self.payments.approvals_show(&bob, &approval)?;
                Ok(json!({ "transaction_id": view["transaction_id"], "status": view["status"] }))
            }
            other => other,
        }
    }
}

fn leaves(store: &dyn Store) -> usize {
    store.unsequenced(10_000).unwrap().len() + store.leaves(0, 10_000).unwrap().len()
}

/// A day, each step asked for until it is answered.
fn live(desk: &Desk, inner: &dyn Store, what: &str) -> Answers {
    let mut answers = Answers::new();
    for step in DAY {
        let answer = (0..TRIES).find_map(|_| {
            let before = leaves(inner);
            match desk.take(*step, &answers) {
                Ok(answer) => Some(answer),
                Err(failure) => {
                    assert!(failure.kind != Kind::Refused, "{what}, {step:?}: {failure:?}");
                    let nothing = failure.may_have_happened == MayHaveHappened::No;
                    assert!(!nothing || leaves(inner) == before, "{what}, {step:?}: it happened: {failure:?}");
                    None
                }
            }
        });
        answers.push((*step, answer.unwrap_or_else(|| panic!("{what}: {step:?} is never answered"))));
    }
    answers
}

/// What must be the same on every day: everything but ids, times and whether it was a repeat.
fn essence(answers: &Answers) -> Vec<(Step, Value)> {
    let status = |answer: &Value| match answer["status"].as_str() {
        // Money has moved; the receipt follows.
        Some("posted") => json!("executed"),
        _ => answer["status"].clone(),
    };
    let of = |step: &Step, answer: &Value| {
        json!([status(answer), answer["amount"], answer["balance"], answer["ok"], matches!(step, Step::Sweep)])
    };
    answers.iter().map(|(step, answer)| (*step, of(step, answer))).collect()
}

/// Balances and the number of postings.
fn book(store: &dyn Store) -> Value {
    let rows = store.transactions(&TransactionQuery { limit: 1_000, ..TransactionQuery::default() }).unwrap();
    let executed = rows.iter().filter(|row| row.transaction.state == TransactionState::Posted).count();
    json!([store.listing(Listing::Balances).unwrap(), executed, rows.len()])
}

/// A day with this fault at this call. Answers how many calls the day had, and what it came to.
fn day(hurt: u32, fault: Fault) -> (u32, Vec<(Step, Value)>, Value) {
    let directory = tempfile::tempdir().unwrap();
    let inner: Arc<dyn Store> = SqliteStore::open(&directory.path().join("store.sqlite3")).unwrap();
    let bank = Bank::new();
    let faulty = Faulty::new(Arc::clone(&inner), hurt, fault);
    let what = format!("call {hurt} {fault:?}");
    let lived = std::thread::scope(|scope| {
        let living = scope.spawn(|| {
            let desk = Desk::new(&bank, Arc::clone(&faulty) as Arc<dyn Store>);
            let lived = live(&desk, &*inner, &what);
            // Whether it was reached or not.
            faulty.pass();
            lived
        });
        if matches!(fault, Fault::SlowBefore | Fault::SlowAfter) {
            faulty.at_the_gate(|| others(&Desk::new(&bank, Arc::clone(&inner))));
        }
        living.join().unwrap()
    });
    // Everybody asks again, at a daemon whose store is well: the same transactions, nothing new.
    let calls = faulty.calls.load(Ordering::SeqCst);
    let again = live(&Desk::new(&bank, Arc::clone(&inner)), &*inner, &what);
    for ((step, first), (_, second)) in lived.iter().zip(&again) {
        assert_eq!(first["transaction_id"], second["transaction_id"], "{what}, {step:?}");
    }
    World::new(&*inner).adds_up();
    assert!(inner.unsigned_batches(10).unwrap().is_empty(), "{what}");
    (calls, essence(&again), book(&*inner))
}

/// What another daemon's maintenance does meanwhile.
fn others(desk: &Desk) {
    desk.payments.sweep().unwrap();
    desk.payments.recover().unwrap();
    while desk.log.advance().unwrap() != Advance::Idle {}
}

/// Days with each of these faults at every call, compared with a day without one.
fn days(faults_of: impl Fn(u32) -> Vec<Fault>) {
    let (calls, answers, book) = day(0, Fault::Failed);
    assert!(calls > 40, "{calls}");
    for hurt in 1..=calls {
        for fault in faults_of(hurt) {
            let (_, hurt_answers, hurt_book) = day(hurt, fault);
            assert_eq!(hurt_answers, answers, "call {hurt} {fault:?}");
            assert_eq!(hurt_book, book, "call {hurt} {fault:?}");
        }
    }
}

#[test]
fn every_store_call_may_fail_be_lost_or_take_its_time_and_money_moves_once() {
    // Of two faults of a kind one call has the one, the next the other.
    days(|hurt| match hurt % 2 {
        0 => vec![Fault::Failed, Fault::Applied, Fault::SlowBefore],
        _ => vec![Fault::Busy, Fault::Applied, Fault::SlowAfter],
    });
}

#[test]
#[ignore = "in the long run"]
fn full_every_store_call_with_every_fault() {
    days(|_| vec![Fault::Failed, Fault::Busy, Fault::Applied, Fault::SlowBefore, Fault::SlowAfter]);
}
