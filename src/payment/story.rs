//! From a verified agent's call to its receipt.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use serde_json::Value;

use super::answer::{self, Receipt, ToolFailure, unexpected};
use super::core::{Declined, There, asked_there};
use crate::audit::cosigning::Cosigning;
use crate::banking::CoreBanking;
use crate::guard::Guard;
use crate::hsm::{KeyInfo, Token};
use crate::kernel::command::{
    Act, Actor, AgentPrincipal, Command, Decision, Effect, FreshIds, RequestProof, Rules, Stamp, ToolCall,
};
use crate::kernel::merkle::leaf_hash;
use crate::kernel::monitor::ODD;
use crate::kernel::receipt::batch_fits;
use crate::kernel::sign::{DocumentTag, SignInput, signature_is_valid};
use crate::kernel::types::{RequestId, Sha256, SpiffeId, TransactionId};
use crate::monitor::Watch;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::ops::registry::ServingLimit;
use crate::ops::space::Space;
use crate::store::{BatchRecord, Store, StoreFault};

/// Batches that one recovery signs before it looks again.
const RECOVERY_BATCHES: u32 = 1_000;
/// Rows that one sweep releases in one commit.
const SWEEP_ROWS: u32 = 128;
/// Single-use keys that are forgotten in one commit: payments wait for it.
const FORGET_KEYS: u32 = 1_000;
/// Such commits in a row before others have their turn: more keys a second than payments can take.
const FORGET_COMMITS: u32 = 50;

/// What [`Payments`] is made of.
pub struct PaymentsSetup {
    pub store: Arc<dyn Store>,
    pub token: Arc<dyn Token>,
    /// The key of purpose `transaction` that signs batches.
    pub transaction_key: KeyInfo,
    pub rules: Arc<Rules>,
    /// The bank's core, where it is not this ledger: then the rules settle there.
    pub core: Option<Arc<dyn CoreBanking>>,
    /// Until when agents may be served.
    pub limit: Arc<ServingLimit>,
    /// What stops this node, and what it has seen.
    pub guard: Arc<Guard>,
}

impl fmt::Debug for PaymentsSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaymentsSetup").field("transaction_key", &self.transaction_key.label).finish_non_exhaustive()
    }
}

/// Money acts of one bank. Every method blocks: at most for the store's commit and one HSM signature.
pub struct Payments {
    pub(super) store: Arc<dyn Store>,
    pub(super) token: Arc<dyn Token>,
    /// Replaced when the key is rotated; a signing keeps the key it started with. The lock guards the pointer only.
    transaction_key: RwLock<Arc<KeyInfo>>,
    /// Replaced as a whole when a catalogue is installed; a decision keeps the rules it started with.
    rules: RwLock<Arc<Rules>>,
    /// Batches that are being signed now. The lock guards the map only.
    flights: Mutex<BTreeMap<i64, Arc<Flight>>>,
    /// Batches without a signature when they were last looked for.
    unsigned: Mutex<BTreeSet<i64>>,
    /// What this process has found in the store is not signed yet.
    found_waits: AtomicBool,
    pub(super) core: Option<Arc<dyn CoreBanking>>,
    limit: Arc<ServingLimit>,
    pub(super) guard: Arc<Guard>,
    /// The last order that the core had no word for. The lock guards the name only.
    pub(super) silent: Mutex<Option<TransactionId>>,
    /// Who scores the calls, if anybody does.
    watch: OnceLock<Arc<Watch>>,
    /// How far the audit log's witness is, where there is one.
    pub(super) cosigning: OnceLock<Arc<Cosigning>>,
    /// The disk that everything is written to, and its mark.
    pub(super) space: OnceLock<Arc<Space>>,
}

impl fmt::Debug for Payments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payments").field("transaction_key", &self.transaction_key().label).finish_non_exhaustive()
    }
}

/// One signing of one batch, with everyone who waits for it.
#[derive(Debug, Default)]
struct Flight {
    landed: Mutex<Option<Receipt>>,
    landing: Condvar,
}

/// A call of a tool that was decided, or that could not be.
#[derive(Debug)]
pub struct Decided {
    call: ToolCall,
    request: RequestId,
    decision: Result<Decision, Failure>,
}

/// What an answer takes besides its decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    Words,
    /// The batch is signed, which the HSM's deadline bounds.
    Signature,
    /// The core banking system is asked, which takes what it takes.
    Core,
}

/// A verified agent's call with all that its decision needs. Only [`Payments::permit`] makes one; whether the call
/// is allowed is decided inside the store's commit.
#[derive(Debug)]
struct Permit(Command);

impl Payments {
    pub fn new(setup: PaymentsSetup) -> Arc<Self> {
        Arc::new(Self {
            store: setup.store,
            token: setup.token,
            transaction_key: RwLock::new(Arc::new(setup.transaction_key)),
            rules: RwLock::new(setup.rules),
            flights: Mutex::default(),
            unsigned: Mutex::default(),
            found_waits: AtomicBool::new(false),
            core: setup.core,
            limit: setup.limit,
            guard: setup.guard,
            silent: Mutex::default(),
            watch: OnceLock::new(),
            cosigning: OnceLock::new(),
            space: OnceLock::new(),
        })
    }

    fn transaction_key(&self) -> Arc<KeyInfo> {
        Arc::clone(&self.transaction_key.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has every batch from here on signed with another key.
    pub fn replace_transaction_key(&self, key: KeyInfo) {
        *self.transaction_key.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
    }

    /// The rules in force now.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts new rules in force for every decision from here on.
    pub fn replace_rules(&self, rules: Arc<Rules>) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// Has every call scored from here on.
    pub fn watched_by(&self, watch: Arc<Watch>) {
        let _ = self.watch.set(watch);
    }

    /// From here on money stops when the audit log's witness lags too far.
    pub fn cosigned_by(&self, cosigning: Arc<Cosigning>) {
        let _ = self.cosigning.set(cosigning);
    }

    /// From here on money stops when the disk is down to what is reserved.
    pub fn kept_on(&self, space: Arc<Space>) {
        let _ = self.space.set(space);
    }

    /// The whole story of one call. The nonce of its proof makes its request single-use: it is taken in the commit of the
    /// decision.
    ///
    /// Refusals of acting tools are answers (`status: "denied"`).
    ///
    /// # Errors
    /// [`ToolFailure::Refused`] for a refused read, and for a request that was received before;
    /// [`ToolFailure::Failed`] says whether it may have happened.
    pub fn call_tool(
        &self,
        agent: &AgentPrincipal,
        call: ToolCall,
        request: RequestId,
        proof: RequestProof,
    ) -> Result<Value, ToolFailure> {
        let Permit(command) = self.permit(agent, &call, &request, proof)?;
        let decision = self.decide(command);
        seen(&self.guard, &agent.spiffe_id, &decision);
        self.concluded(Decided { call, request, decision })
    }

    /// The beginning of the same story without a thread that waits for the commit: `decided` is called once, as
    /// [`Store::submit`] says, and [`Payments::concluded`] has the rest.
    ///
    /// # Errors
    /// Why nothing was asked of the store.
    pub fn submit_tool(
        &self,
        agent: &AgentPrincipal,
        call: ToolCall,
        request: RequestId,
        proof: RequestProof,
        decided: impl FnOnce(Decided) + Send + 'static,
    ) -> Result<(), Failure> {
        let Permit(command) = self.permit(agent, &call, &request, proof)?;
        let (guard, name, began) = (Arc::clone(&self.guard), agent.spiffe_id.clone(), Instant::now());
        let told = move |outcome: Result<Vec<Decision>, StoreFault>| {
            timed(&guard, began, &outcome);
            let decision = outcome.map_err(Failure::from).and_then(only);
            seen(&guard, &name, &decision);
            decided(Decided { call, request, decision });
        };
        self.store.submit(vec![command], Box::new(told));
        Ok(())
    }

    /// What is left to do before a decision can be told.
    pub fn rest(&self, decided: &Decided) -> Rest {
        let Ok(Decision { outcome: Ok(effect), .. }) = &decided.decision else {
            return Rest::Words;
        };
        if self.core.is_some() && !matches!(asked_there(effect), There::Nothing) {
            return Rest::Core;
        }
        batch_of(effect).map_or(Rest::Words, |_| Rest::Signature)
    }

    /// What follows from a decision, and what the agent is told. Blocks for as long as its [`Payments::rest`] takes.
    ///
    /// # Errors
    /// As [`Payments::call_tool`].
    pub fn concluded(&self, decided: Decided) -> Result<Value, ToolFailure> {
        let Decided { call, request, decision } = decided;
        match decision.map_err(|failure| failure.with_request(request.as_str()))?.outcome {
            Err(refusal) => answer::refused(&call, refusal),
            Ok(effect) => {
                let effect = match self.settled_elsewhere(effect) {
                    Ok(effect) => effect,
                    Err(Declined::Refused(refusal)) => return answer::refused(&call, refusal),
                    // The decision is durable; only its answer failed.
                    Err(Declined::Failed(failure)) => {
                        return Err(failure.after_the_fact().with_request(request.as_str()).into());
                    }
                };
                let receipt = self.receipt(&effect);
                answer::permitted(effect, receipt)
            }
        }
    }

    /// Batches that this process finds in the store wait from here on: until it is known that the store is no older copy and
    /// its log is whole.
    pub fn keep_found(&self) {
        self.found_waits.store(true, Ordering::Release);
    }

    /// From here on batches are signed that this process has found in the store.
    pub fn sign_found(&self) {
        self.found_waits.store(false, Ordering::Release);
    }

    /// True while what this process finds in the store is not signed.
    pub fn keeps_found(&self) -> bool {
        self.found_waits.load(Ordering::Acquire)
    }

    fn may_sign_found(&self) -> Result<(), Failure> {
        if !self.keeps_found() {
            return Ok(());
        }
        Err(Failure::busy(
            "store_not_compared",
            "what an earlier run left unsigned waits until the log was found whole and the witness, where there is one, agreed",
            "see `countersign witness status` and `countersign audit check`",
        ))
    }

    /// Signs every batch that waits, by the same function as live calls. Answers how many still wait.
    ///
    /// # Errors
    /// The store's, when it cannot be read.
    pub fn recover(&self) -> Result<usize, Failure> {
        loop {
            let waiting = self.store.unsigned_batches(RECOVERY_BATCHES)?;
            let pending = waiting.iter().filter(|batch| self.settle(batch.batch) == Receipt::Pending).count();
            if pending > 0 || waiting.len() < RECOVERY_BATCHES as usize {
                return Ok(pending);
            }
        }
    }

    /// The same for batches that waited already when this was called before: whoever has just made one is signing it.
    ///
    /// # Errors
    /// The store's.
    pub fn recover_left(&self) -> Result<(), Failure> {
        let waiting = self.store.unsigned_batches(RECOVERY_BATCHES)?.into_iter().map(|batch| batch.batch).collect();
        let before = std::mem::replace(
            &mut *self.unsigned.lock().unwrap_or_else(PoisonError::into_inner),
            BTreeSet::clone(&waiting),
        );
        for batch in waiting.intersection(&before) {
            let _ = self.settle(*batch);
        }
        Ok(())
    }

    /// Releases what lapsed and what revoked agents left open. Answers how many authorizations.
    ///
    /// # Errors
    /// The store's.
    pub fn sweep(&self) -> Result<u32, Failure> {
        let mut all = 0_u32;
        loop {
            let actor = Actor::System { component: "sweeper".into() };
            let command = Command {
                stamp: clock::stamp(clock::fresh_request_id()),
                actor,
                act: Act::Sweep { limit: SWEEP_ROWS },
            };
            let Ok(Effect::Swept { released }) = self.decide(command)?.outcome else {
                return Err(unexpected());
            };
            all = all.saturating_add(released);
            if released < SWEEP_ROWS {
                return Ok(all);
            }
        }
    }

    /// Removes single-use keys whose window has passed, some at a time. Answers how many: none while the clock is not
    /// the one that this process began with.
    ///
    /// # Errors
    /// The store's.
    pub fn forget_keys(&self) -> Result<u32, Failure> {
        let mut all = 0_u32;
        if !clock::wall_is_steady() {
            return Ok(all);
        }
        for _ in 0..FORGET_COMMITS {
            let forgotten = self.store.forget_keys(clock::now(), FORGET_KEYS)?;
            all = all.saturating_add(forgotten);
            if forgotten < FORGET_KEYS {
                break;
            }
        }
        Ok(all)
    }

    fn permit(
        &self,
        agent: &AgentPrincipal,
        call: &ToolCall,
        request: &RequestId,
        proof: RequestProof,
    ) -> Result<Permit, Failure> {
        let mut rules = self.rules();
        if let Some(reason) = self.guard.stopped_here() {
            Arc::make_mut(&mut rules).stopped_here = Some(reason);
        }
        let RequestProof { nonce, signature } = proof;
        let commit_before = self.limit.commit_before();
        let stamp = Stamp { nonce, signature, commit_before, ..clock::stamp(request.clone()) };
        let risk = self.watch.get().map(|watch| watch.assess(agent, call, request, stamp.wall, &rules));
        let act = Act::Tool { call: call.clone(), rules, fresh: fresh_ids()?, risk };
        Ok(Permit(Command { stamp, actor: Actor::Agent(agent.clone()), act }))
    }

    /// One command, decided and durable.
    pub(super) fn decide(&self, command: Command) -> Result<Decision, Failure> {
        let began = Instant::now();
        let outcome = self.store.apply(vec![command]);
        timed(&self.guard, began, &outcome);
        only(outcome?)
    }

    pub(super) fn receipt(&self, effect: &Effect) -> Option<Receipt> {
        batch_of(effect).map(|batch| self.settle(batch))
    }

    /// Sees to the signature of a durable batch. Callers of one batch share one signing and its outcome.
    pub(super) fn settle(&self, batch: i64) -> Receipt {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&batch).map(Arc::clone) {
            drop(flights);
            return flight.wait();
        }
        let flight = Arc::new(Flight::default());
        flights.insert(batch, Arc::clone(&flight));
        drop(flights);

        let mut landing = Landing { payments: self, batch, flight: &flight, receipt: Receipt::Pending };
        match self.sign(batch) {
            Ok(()) => landing.receipt = Receipt::Signed,
            Err(failure) => {
                let (name, message) = (&failure.name, &failure.message);
                tracing::warn!(batch, %name, %message, "a batch waits for its signature");
            }
        }
        landing.receipt
    }

    /// A row among the batches alone, whoever wrote it, is no posting: its document must be that of its statements; what this
    /// process has committed, to the byte; and what it has found, that of the transactions that say they are in it.
    fn is_explained(&self, record: &BatchRecord) -> Result<(), Failure> {
        let BatchRecord { batch, document, leaves, .. } = record;
        let is_of_transactions = match self.store.committed_document(*batch) {
            Some(committed) => Sha256::of(&[document]) == committed,
            None => {
                self.may_sign_found()?;
                let statements = self.store.batch_statements(*batch)?;
                let places = statements.iter().map(|(place, _)| u64::from(*place));
                places.eq(0..leaves.len() as u64)
                    && statements.iter().map(|(_, statement)| leaf_hash(statement)).eq(leaves.iter().copied())
            }
        };
        if is_of_transactions && batch_fits(*batch, document, leaves) {
            return Ok(());
        }
        Err(Failure::fault(
            "batch_unexplained",
            format!("batch {batch} is not that of the transactions that say they are in it: nothing is signed"),
            "run `countersign audit check`: somebody has changed the store behind the daemon's back",
        ))
    }

    /// Signs the journalled document, verifies, and keeps the first signature.
    fn sign(&self, batch: i64) -> Result<(), Failure> {
        let Some(record) = self.store.batch(batch)? else {
            return Err(unexpected());
        };
        if record.signature.is_some() {
            return Ok(());
        }
        self.is_explained(&record)?;
        let document = record.document;
        let key = self.transaction_key();
        let input = SignInput::Document { tag: DocumentTag::BatchRoot, canonical_json: document };
        let message = input.message();
        let signature = self.token.sign(key.id, input)?;
        if !signature_is_valid(&key.spki, &message, &signature) {
            return Err(Failure::fault(
                "signature_invalid",
                format!("the token's signature over batch {batch} does not verify under {}", key.label),
                "check the token; nothing was released",
            ));
        }
        let actor = Actor::System { component: "transaction-signer".into() };
        let act = Act::SignBatch { batch, signature, key: key.id };
        let decision = self.decide(Command { stamp: clock::stamp(clock::fresh_request_id()), actor, act })?;
        match decision.outcome {
            Ok(_) => Ok(()),
            Err(refusal) => Err(Failure::refused(refusal.name(), refusal.message(), refusal.next_step())),
        }
    }
}

/// Tells everyone who waits how a signing ended, also when it ended by a panic.
struct Landing<'a> {
    payments: &'a Payments,
    batch: i64,
    flight: &'a Flight,
    receipt: Receipt,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.payments.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.batch);
        self.flight.land(self.receipt);
    }
}

impl Flight {
    /// The outcome of whoever signs; the HSM's and the store's own deadlines bound the wait.
    fn wait(&self) -> Receipt {
        let mut landed = self.landed.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(receipt) = *landed {
                return receipt;
            }
            landed = self.landing.wait(landed).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn land(&self, receipt: Receipt) {
        *self.landed.lock().unwrap_or_else(PoisonError::into_inner) = Some(receipt);
        self.landing.notify_all();
    }
}

/// The batch that has a statement of this, for the transaction key to sign.
fn batch_of(effect: &Effect) -> Option<i64> {
    match effect {
        Effect::Posted(placed) | Effect::Submitted(placed) => Some(placed.batch),
        Effect::Answer(_)
        | Effect::Approved { .. }
        | Effect::RequiresApproval { .. }
        | Effect::Cancelled { .. }
        | Effect::Decided { .. }
        | Effect::Swept { .. }
        | Effect::Revoked { .. }
        | Effect::MandateRevoked { .. }
        | Effect::Spread { .. }
        | Effect::Frozen { .. }
        | Effect::ErasureAsked { .. }
        | Effect::Erased { .. }
        | Effect::Lapsed { .. }
        | Effect::Unfrozen { .. }
        | Effect::Certificate(_)
        | Effect::PolicyInForce { .. }
        | Effect::CrlNumber(_)
        | Effect::LogAccepted { .. }
        | Effect::Vault(_)
        | Effect::Signing { .. }
        | Effect::Witnessed(_)
        | Effect::QueuedManual { .. }
        | Effect::CaseWorked { .. }
        | Effect::Done { .. } => None,
    }
}

/// Tells the breaker how long a commit took. One that found no room, or came too late, says nothing about the store.
fn timed<T>(guard: &Guard, began: Instant, outcome: &Result<T, StoreFault>) {
    match outcome {
        Ok(_) => guard.committed(began.elapsed()),
        Err(StoreFault::OutcomeUnknown(_) | StoreFault::NotRecorded(_)) => guard.commit_failed(),
        Err(StoreFault::Busy | StoreFault::TooLate | StoreFault::SchemaTooNew { .. }) => {}
    }
}

/// What is odd is an alert here at once; the other nodes read it in the log.
fn seen(guard: &Guard, agent: &SpiffeId, decision: &Result<Decision, Failure>) {
    if let Ok(Decision { outcome: Err(refusal), .. }) = decision
        && ODD.contains(refusal)
    {
        guard.alerted(agent);
    }
}

/// The decision about one command.
fn only(mut decisions: Vec<Decision>) -> Result<Decision, Failure> {
    decisions.pop().ok_or_else(unexpected)
}

/// Ids for whatever a call may become.
pub(super) fn fresh_ids() -> Result<FreshIds, Failure> {
    let (transaction, approval, case) = (fresh("txn_")?, fresh("apr_")?, fresh("case_")?);
    Ok(FreshIds { transaction, approval, case, nonce: Sha256(clock::random()) })
}

/// A fresh id of this prefix.
fn fresh<T: std::str::FromStr>(prefix: &str) -> Result<T, Failure> {
    let malformed = || Failure::fault("id_malformed", format!("no {prefix} id could be made"), "check the clock");
    clock::fresh_id(prefix).parse().map_err(|_| malformed())
}
