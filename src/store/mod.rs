//! Durable state: one trait of domain verbs, each one atomic unit; implemented on SQLite and on PostgreSQL.

mod check;
mod committed;
mod evidence;
pub mod keep;
mod mandates;
mod notices;
mod pages;
mod planted;
pub mod postgres;
mod reply;
pub mod sealing;
pub mod settings;
pub mod sqlite;
mod status;
mod turn;
mod vault;
pub mod views;
mod witness;

pub use check::{CheckProgress, Difference, LedgerCheck, Rule};
pub use evidence::{Booking, LogExtent};
pub use mandates::MandateQuery;
pub use notices::{
    Attempt, Message, NOTICES_MAX, NoticeAnswer, NoticeCounts, NoticePlace, NoticeQuery, NoticeState, NoticeStep,
    NoticeWork,
};
pub use pages::CasePlace;
pub use status::{
    CertificateLine, CertificateStatus, CertificatesOf, FreezeView, LEASE_MARGIN_MS, LEASE_MS, LinePlace, Nodes,
    RevokedEntry, RevokedSince,
};

pub use sealing::{DestroyedKeys, KeyWork, Ring, StoreKey, SubjectLine, SubjectQuery};
pub use turn::Turn;
pub use vault::{CredentialLine, CredentialPlace, KnownCredential, VaultRow};
pub use witness::{Cosignature, CosignedCheckpoint, StoredCosignature};

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kernel::command::{CertificateRecord, Command, Decision, Posted};
use crate::kernel::decide::{CoreRefusal, Counter, Grant, ManualCase, OutboxRow, PolicyLine, PolicyRecord};
use crate::kernel::external::SigningRow;
use crate::kernel::ledger::{Account, Transaction, TransactionState};
use crate::kernel::mandate::{ShownMandate, StoredMandate};
use crate::kernel::merkle::NodeId;
use crate::kernel::status::StatusSnapshot;
use crate::kernel::types::{
    AccountId, ApprovalId, CaseId, CredentialName, Day, KeyId, MandateId, Serial, Sha256, SpiffeId, TransactionId,
    UnixMillis,
};
use crate::kernel::vault::SealedCredential;
use crate::kernel::witness::WitnessedLog;
use crate::ops::failure::Failure;

/// Why the store did not answer with a decision.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreFault {
    /// The bounded queue is full; nothing was recorded.
    #[error("the store's queue is full")]
    Busy,
    /// Its time was over before it was decided; nothing was recorded.
    #[error("the right to serve agents has run out; nothing was recorded")]
    TooLate,
    /// I/O error, or an error at or after COMMIT: it may or may not have happened.
    #[error("the store failed and the outcome is unknown: {0}")]
    OutcomeUnknown(String),
    /// Failed before anything was written.
    #[error("the store failed before anything was recorded: {0}")]
    NotRecorded(String),
    /// The schema on disk is newer than this program.
    #[error("the store's schema is version {found}, this program knows up to {known}")]
    SchemaTooNew { found: i64, known: i64 },
}

impl From<StoreFault> for Failure {
    fn from(fault: StoreFault) -> Self {
        let message = fault.to_string();
        match fault {
            StoreFault::Busy => Self::busy("store_busy", message, "try again in a moment"),
            StoreFault::TooLate => Self::busy("lease_expired", message, "try again when the other party answers"),
            StoreFault::OutcomeUnknown(_) => {
                Self::unknown("outcome_unknown", message, "repeat with the same idempotency key to learn what happened")
            }
            StoreFault::NotRecorded(_) => Self::busy(
                "store_failed",
                message,
                "try again; if it goes on, see that what [store] url names answers and has room, and the daemon's log",
            ),
            StoreFault::SchemaTooNew { .. } => {
                Self::fault("schema_too_new", message, "run the version of countersign that wrote it, or a newer one")
            }
        }
    }
}

/// Whether one of these commands may not be decided any more.
fn is_too_late(commands: &[Command]) -> bool {
    let mut limits = commands.iter().filter_map(|command| command.stamp.commit_before).peekable();
    limits.peek().is_some() && {
        let now = crate::ops::clock::boot_ms();
        limits.any(|limit| now >= limit)
    }
}

/// How far a store's schema is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schema {
    pub found: i64,
    pub known: i64,
    /// What the migrations that wait bring, in order.
    pub waiting: Vec<&'static str>,
}

impl Schema {
    /// Of the version that was found, among the migrations that this program knows.
    ///
    /// # Errors
    /// [`StoreFault::SchemaTooNew`]
    fn of(found: i64, names: impl ExactSizeIterator<Item = &'static str>) -> Result<Self, StoreFault> {
        let known = i64::try_from(names.len()).unwrap_or(i64::MAX);
        if found > known {
            return Err(StoreFault::SchemaTooNew { found, known });
        }
        Ok(Self { found, known, waiting: names.skip(usize::try_from(found).unwrap_or(0)).collect() })
    }
}

/// One leaf as stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeafRecord {
    pub row: i64,
    pub commitment: Sha256,
    pub content: LeafContent,
    /// Place in the tree, once the sequencer has given it.
    pub index: Option<u64>,
}

/// What a leaf commits to, if it can still be read. Its place and its proof need none of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LeafContent {
    /// `body` is opaque to the log.
    Known { salt: [u8; 32], body: Vec<u8> },
    /// The key under which it was sealed was destroyed, on purpose and for ever (`docs/RETENTION.md`).
    Erased,
    /// It lies in the clear where every leaf is sealed: whoever wrote it has not got the store's keys.
    Unsealed,
    /// It does not open: the row, what is sealed in it or its key is not what was written. Says which.
    Damaged(String),
}

impl LeafRecord {
    /// What it says, unless that is erased or damaged.
    pub fn body(&self) -> Option<&[u8]> {
        match &self.content {
            LeafContent::Known { body, .. } => Some(body),
            LeafContent::Erased | LeafContent::Unsealed | LeafContent::Damaged(_) => None,
        }
    }
}

/// A leaf that waits for its place in the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitingLeaf {
    pub row: i64,
    pub commitment: Sha256,
    /// It is [`LeafContent::Unsealed`].
    pub unsealed: bool,
}

/// A batch of posted transactions and the signature over its root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchRecord {
    pub batch: i64,
    /// The canonical document that the transaction key signs.
    pub document: Vec<u8>,
    /// `kernel::merkle::leaf_hash` of each statement, in order: the leaves of the document's root.
    pub leaves: Vec<Sha256>,
    pub signature: Option<Vec<u8>>,
    pub key: Option<KeyId>,
}

/// A checkpoint in its two phases: `note` is the text without signatures, durable before it is signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckpointRecord {
    pub size: u64,
    pub root: Sha256,
    pub note: Vec<u8>,
    /// The signed note, once there.
    pub signed: Option<Vec<u8>>,
}

/// What one sequencing step adds, in one commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SequenceStep {
    /// The tree's size before the step: refused when the store is elsewhere.
    pub size_before: u64,
    /// Leaf rows in tree order; they get `size_before`, `size_before + 1`, …
    pub rows: Vec<i64>,
    /// Complete subtree hashes that became final: (level, index, hash) as RFC 9162 nodes.
    pub nodes: Vec<(u8, u64, Sha256)>,
    pub checkpoint: CheckpointRecord,
}

/// An approval as operators see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ApprovalView {
    pub approval_id: ApprovalId,
    pub transaction_id: TransactionId,
    pub status: String,
    /// Who asked: an agent's SPIFFE ID or an operator's name.
    pub maker: String,
    pub summary: Value,
    pub created: String,
    pub expires: String,
    pub decided_by: Option<String>,
    pub reasons: Vec<String>,
    /// What is still waited for: `owner_consent_pending`, `bank_approval_pending 1 of 2`.
    pub pending: Vec<String>,
    /// `[{gate, …, given, needed}]`
    pub gates: Value,
    /// What was said, in its order, with what each word is proven by.
    pub words: Value,
    /// What a person's key signs, but for who signs and what: `{terms, transaction_hash, policy_version, nonce}`.
    pub signed: Value,
}

/// Which lines of an account are asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatementQuery {
    pub account: AccountId,
    /// From this instant on; none: from the beginning.
    pub from: Option<UnixMillis>,
    /// Before this instant; none: until now.
    pub until: Option<UnixMillis>,
    /// Where the page before ended: its `next`.
    pub before: Option<Before>,
    pub limit: u32,
}

/// A place between two entries of an account. Entries never change, so it stays where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Before {
    /// Only entries older than this one.
    pub entry: i64,
    /// The balance before it, minor units.
    pub balance: i64,
}

/// One posted entry of an account.
#[derive(Clone, PartialEq, Debug)]
pub struct StatementLine {
    /// The entry's number: grows with time on one account.
    pub entry: i64,
    pub posted_at: UnixMillis,
    pub transaction: Transaction,
    /// Minor units; credits positive, debits negative.
    pub amount: i64,
    /// The balance that the entry left.
    pub balance: i64,
}

/// A page of an account's entries, newest first.
#[derive(Clone, PartialEq, Debug)]
pub struct Statement {
    pub account: Account,
    /// The balance before the oldest line of the page.
    pub opening: i64,
    /// The balance after the newest one.
    pub closing: i64,
    pub lines: Vec<StatementLine>,
    /// Where the next, older page begins.
    pub next: Option<Before>,
}

/// Which transactions are asked for; a member that is none asks for all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TransactionQuery {
    /// Debited or credited.
    pub account: Option<String>,
    pub agent: Option<SpiffeId>,
    pub state: Option<TransactionState>,
    /// Reversals of this one.
    pub original: Option<TransactionId>,
    /// Only older ones than this: the last of the page before.
    pub before: Option<TransactionId>,
    pub limit: u32,
}

/// A transaction with where its posting is.
#[derive(Clone, PartialEq, Debug)]
pub struct TransactionRecord {
    pub transaction: Transaction,
    pub posted_at: Option<UnixMillis>,
    pub batch: Option<i64>,
}

/// Learns what became of commands.
pub type Told = Box<dyn FnOnce(Result<Vec<Decision>, StoreFault>) + Send>;

/// Durable state of one party.
///
/// Contract. *Durability*: `apply`, `sequence` and `store_signed_checkpoint` return after a commit with full sync.
/// *Atomicity*: each command is applied wholly or not at all, with its leaf. *Isolation*: commands are decided one
/// after the other, each seeing those before it, revocations included. *Idempotence*: as each [`Act`] says.
/// *Time*: only from the command. *Errors*: as [`StoreFault`]; after `OutcomeUnknown` the store reopens, recovers
/// and serves again. Reads see committed state only. The store never calls the HSM.
///
/// [`Act`]: crate::kernel::command::Act
pub trait Store: Send + Sync {
    /// Decides and records the commands in order, grouped into one commit with others that wait.
    fn apply(&self, commands: Vec<Command>) -> Result<Vec<Decision>, StoreFault>;
    /// The same without a thread that waits: `told` is called once, after the commit, maybe on the thread that all
    /// commits go through. It hands the outcome over and returns.
    fn submit(&self, commands: Vec<Command>, told: Told) {
        told(self.apply(commands));
    }

    fn status(&self) -> Result<StatusSnapshot, StoreFault>;
    fn revoked_of(&self, issuer: &str) -> Result<Vec<RevokedEntry>, StoreFault>;
    /// Every certificate with its bytes, as journalled. However many there are: nothing that serves asks for this.
    fn certificates(&self) -> Result<Vec<CertificateRecord>, StoreFault>;
    /// Those that have not expired at `live_at`, with their bytes, as journalled.
    fn certificates_of(&self, of: &CertificatesOf, live_at: UnixMillis) -> Result<Vec<CertificateRecord>, StoreFault> {
        status::records(self.certificates()?, of, live_at)
    }
    /// Every certificate without its bytes, as journalled.
    fn certificate_list(&self) -> Result<Vec<CertificateLine>, StoreFault> {
        Ok(self.certificates()?.into_iter().map(CertificateLine::of).collect())
    }
    /// The end of the last end-entity certificate that an issuer has released. `None`: it has released none.
    fn last_end(&self, issuer: &str) -> Result<Option<UnixMillis>, StoreFault> {
        Ok(status::last_end(&self.certificates()?, issuer))
    }
    /// Our roots and issuing CAs, expired or not, as journalled.
    fn authorities(&self) -> Result<Vec<CertificateRecord>, StoreFault> {
        status::authorities(self.certificates()?)
    }
    /// Those that have not expired at `live_at`, by issuer and serial number; from behind `after` on.
    fn certificate_lines(
        &self,
        of: &CertificatesOf,
        live_at: UnixMillis,
        after: Option<&LinePlace>,
        limit: u32,
    ) -> Result<Vec<CertificateLine>, StoreFault> {
        status::lines(self.certificates()?, of, live_at, after, limit)
    }
    /// How many certificates that is, and of how many subjects.
    fn certificate_count(&self, of: &CertificatesOf, live_at: UnixMillis) -> Result<(u64, u64), StoreFault> {
        status::count(&self.certificate_lines(of, live_at, None, u32::MAX)?)
    }
    /// What we know of a certificate. `None`: we have issued none of this number.
    fn certificate_status(&self, issuer: &str, serial: &Serial) -> Result<Option<CertificateStatus>, StoreFault> {
        let found = self.certificate_lines(
            &CertificatesOf::Serial { issuer: issuer.to_owned(), serial: serial.clone() },
            UnixMillis(i64::MIN),
            None,
            1,
        )?;
        let revoked = self.revoked_of(issuer)?.into_iter().find(|entry| entry.serial == *serial);
        Ok(found.into_iter().next().map(|line| CertificateStatus { line, revoked }))
    }
    /// What was revoked of an issuer at or after `since`, and how much of it is revoked at all: a list is continued from
    /// there, and made anew when the sum is another.
    fn revoked_since(&self, issuer: &str, since: UnixMillis) -> Result<RevokedSince, StoreFault> {
        status::since(self.revoked_of(issuer)?, since)
    }
    /// Says that this node serves, and that it has acted on so many changes of the revocation status; answers how many
    /// there are. `None`: no other node can share this store.
    fn serve_as(&self, _node: &str, _acted_on: u64) -> Result<Option<u64>, StoreFault> {
        Ok(None)
    }
    /// The nodes that share this store and may still be serving, by their leases ([`LEASE_MS`]). `None`: there are none.
    fn nodes(&self) -> Result<Option<Nodes>, StoreFault> {
        Ok(None)
    }
    /// Who is frozen, in order.
    fn freezes(&self) -> Result<Vec<FreezeView>, StoreFault> {
        Ok(vec![])
    }
    /// Newest first, those behind `after`; at most 1,001, a page and one more.
    fn approvals(&self, after: Option<&ApprovalId>, limit: u32) -> Result<Vec<ApprovalView>, StoreFault>;
    fn approval(&self, approval: &ApprovalId) -> Result<Option<ApprovalView>, StoreFault>;
    /// The grants of an agent that nobody took back, expired or not, by account.
    fn grants_of(&self, agent: &SpiffeId) -> Result<Vec<Grant>, StoreFault>;
    /// Mandates, newest first by id: of an agent or all, those behind `after`.
    fn mandates(
        &self,
        _agent: Option<&SpiffeId>,
        _after: Option<&MandateId>,
        _limit: u32,
    ) -> Result<Vec<StoredMandate>, StoreFault> {
        Ok(vec![])
    }
    fn mandate(&self, _id: &MandateId) -> Result<Option<StoredMandate>, StoreFault> {
        Ok(None)
    }
    /// What an agent is shown of its mandates, without their texts: those that were not revoked and have not ended, newest
    /// first, then others; of each at most as many as the query's limit.
    fn mandates_shown(&self, _query: &MandateQuery) -> Result<Vec<ShownMandate>, StoreFault> {
        Ok(vec![])
    }
    /// Accounts, grants, merchants and products as JSON lists: `accounts`, `grants`, …
    fn listing(&self, what: Listing) -> Result<Vec<Value>, StoreFault>;
    fn posted(&self, transaction: &TransactionId) -> Result<Option<Posted>, StoreFault>;
    /// The signed order of a transaction that was submitted to the core banking system.
    fn order(&self, transaction: &TransactionId) -> Result<Option<Posted>, StoreFault>;
    fn account(&self, name: &str) -> Result<Option<Account>, StoreFault>;
    fn transaction(&self, id: &TransactionId) -> Result<Option<Transaction>, StoreFault>;
    /// Newest first.
    fn transactions(&self, query: &TransactionQuery) -> Result<Vec<TransactionRecord>, StoreFault>;
    fn case(&self, id: &CaseId) -> Result<Option<ManualCase>, StoreFault>;
    /// Cases for the bank's people: those that wait, then the others, newest first each; from behind `after` on.
    fn cases(&self, after: Option<&CasePlace>, limit: u32) -> Result<Vec<ManualCase>, StoreFault>;
    /// How many cases wait.
    fn cases_waiting(&self) -> Result<u64, StoreFault>;
    /// What counts on this day, minor units.
    fn spent(&self, counter: &Counter, day: Day) -> Result<i64, StoreFault>;
    /// Recomputes the whole book from its rows, in one snapshot, while others go on. `progress` is called now and then
    /// on the calling thread.
    fn check(&self, progress: &mut dyn FnMut(CheckProgress)) -> Result<LedgerCheck, StoreFault>;
    /// `None` when there is no such account.
    fn statement(&self, query: &StatementQuery) -> Result<Option<Statement>, StoreFault>;
    /// What the core banking system must still be told, about one transaction or all, oldest first.
    fn outbox(&self, of: Option<&TransactionId>, limit: u32) -> Result<Vec<OutboxRow>, StoreFault>;

    fn batch(&self, batch: i64) -> Result<Option<BatchRecord>, StoreFault>;
    /// SHA-256 of the document of a batch that this process has committed lately, as it was made, whatever the database says
    /// now. `None`: others committed it, or too many came after it.
    fn committed_document(&self, _batch: i64) -> Option<Sha256> {
        None
    }
    /// Statements of postings and orders that say they are in this batch, with their places, in order. Looks at every
    /// transaction: meant for batches that nobody in this process has just made.
    fn batch_statements(&self, batch: i64) -> Result<Vec<(u32, Vec<u8>)>, StoreFault>;
    /// Batches that wait for their signature, oldest first.
    fn unsigned_batches(&self, limit: u32) -> Result<Vec<BatchRecord>, StoreFault>;

    fn leaf(&self, row: i64) -> Result<Option<LeafRecord>, StoreFault>;
    /// The leaf of the decision that posted a transaction.
    fn leaf_of_transaction(&self, transaction: &TransactionId) -> Result<Option<LeafRecord>, StoreFault>;
    /// Leaves without a place in the tree, oldest row first.
    fn unsequenced(&self, limit: u32) -> Result<Vec<LeafRecord>, StoreFault> {
        self.unsequenced_after(0, limit)
    }
    /// Those behind this row.
    fn unsequenced_after(&self, row: i64, limit: u32) -> Result<Vec<LeafRecord>, StoreFault>;
    /// How far behind the newest row another commit may still put leaves: where several daemons write, each commit takes
    /// its row numbers before it is there.
    fn rows_settle(&self) -> i64 {
        0
    }
    /// Rows and commitments of those: all that the sequencer needs.
    fn unsequenced_entries(&self, limit: u32) -> Result<Vec<WaitingLeaf>, StoreFault> {
        let waiting = self.unsequenced(limit)?.into_iter().map(|LeafRecord { row, commitment, content, .. }| {
            WaitingLeaf { row, commitment, unsealed: content == LeafContent::Unsealed }
        });
        Ok(waiting.collect())
    }
    /// Leaves by tree index, in order.
    fn leaves(&self, from_index: u64, limit: u32) -> Result<Vec<LeafRecord>, StoreFault>;
    fn node(&self, level: u8, index: u64) -> Result<Option<Sha256>, StoreFault>;
    /// These complete subtrees, each in its place, read at once.
    fn nodes_at(&self, nodes: &[NodeId]) -> Result<Vec<Option<Sha256>>, StoreFault> {
        nodes.iter().map(|node| self.node(node.level, node.index)).collect()
    }
    /// Complete subtrees of one level from `from` on, in order, with their places; at most `limit`.
    fn tree_nodes(&self, level: u8, from: u64, limit: u32) -> Result<Vec<(u64, Sha256)>, StoreFault> {
        let places = from..from.saturating_add(limit.into());
        let nodes = places.map(|place| Ok(self.node(level, place)?.map(|hash| (place, hash))));
        nodes.take_while(|found| !matches!(found, Ok(None))).filter_map(Result::transpose).collect()
    }
    /// How much of the log there is, counted; none where nobody counts it.
    fn log_extent(&self) -> Result<Option<LogExtent>, StoreFault> {
        Ok(None)
    }
    /// Checkpoints of this size and above, in order, signed or not.
    fn checkpoints(&self, from_size: u64, limit: u32) -> Result<Vec<CheckpointRecord>, StoreFault> {
        let mut found: Vec<_> = self.signed_checkpoint()?.into_iter().chain(self.newest_checkpoint()?).collect();
        found.retain(|record| record.size >= from_size);
        found.dedup();
        found.truncate(limit as usize);
        Ok(found)
    }
    /// Batches behind this one, in order, signed or not.
    fn batches(&self, _after: i64, _limit: u32) -> Result<Vec<BatchRecord>, StoreFault> {
        Ok(vec![])
    }
    /// Transactions behind this number, in order, as their rows have them.
    fn bookings(&self, _after: i64, _limit: u32) -> Result<Vec<Booking>, StoreFault> {
        Ok(vec![])
    }
    /// The newest checkpoint, signed or not.
    fn newest_checkpoint(&self) -> Result<Option<CheckpointRecord>, StoreFault>;
    /// The newest signed checkpoint.
    fn signed_checkpoint(&self) -> Result<Option<CheckpointRecord>, StoreFault>;
    /// Gives leaves their places and makes the unsigned checkpoint durable, in one commit.
    fn sequence(&self, step: SequenceStep) -> Result<(), StoreFault>;
    /// Keeps the first signed note of this size; a later one is ignored.
    fn store_signed_checkpoint(&self, size: u64, signed: Vec<u8>) -> Result<(), StoreFault>;

    /// Keeps the newest cosignature of the signed checkpoint of this size. The caller has verified it; what stood here
    /// before may have been anybody's.
    fn store_cosignature(&self, _size: u64, _cosignature: Cosignature) -> Result<(), StoreFault> {
        Err(StoreFault::NotRecorded("this store keeps no cosignatures".into()))
    }
    /// The newest checkpoint that a witness has cosigned.
    fn cosigned_checkpoint(&self) -> Result<Option<CosignedCheckpoint>, StoreFault> {
        Ok(None)
    }
    /// Cosignatures of checkpoints of this size and above, in order, at most `limit`.
    fn cosignatures(&self, _from_size: u64, _limit: u32) -> Result<Vec<StoredCosignature>, StoreFault> {
        Ok(vec![])
    }
    /// What is known of an order for signatures of another program, by its scope.
    fn signing(&self, _scope: &Sha256) -> Result<Option<SigningRow>, StoreFault> {
        Ok(None)
    }
    /// Every log of another party that is cosigned here, by its name.
    fn witnessed(&self) -> Result<Vec<WitnessedLog>, StoreFault> {
        Ok(vec![])
    }

    /// What is known of a credential's name, and its newest version, sealed.
    fn credential(&self, _name: &CredentialName) -> Result<Option<KnownCredential>, StoreFault> {
        Ok(None)
    }
    /// Versions of credentials by name and number, from behind `after` on. One that is damaged stops no other.
    fn credential_lines(
        &self,
        _after: Option<&CredentialPlace>,
        _limit: u32,
    ) -> Result<Vec<VaultRow<CredentialLine>>, StoreFault> {
        Ok(vec![])
    }
    /// Under which wrapping keys credentials are sealed, and how many versions under each. Rows that name none are left out.
    fn credential_keys(&self) -> Result<Vec<(KeyId, u64)>, StoreFault> {
        Ok(vec![])
    }
    /// The same with what is sealed: all of them, or those under another wrapping key than this one.
    fn sealed_credentials(
        &self,
        _not_under: Option<&KeyId>,
        _after: Option<&CredentialPlace>,
        _limit: u32,
    ) -> Result<Vec<VaultRow<SealedCredential>>, StoreFault> {
        Ok(vec![])
    }

    /// What the core banking system refused of a transaction, in the order of its words.
    fn core_refusals(&self, of: &TransactionId) -> Result<Vec<CoreRefusal>, StoreFault>;
    /// Removes single-use keys of whole days before their window, at most `limit` in one commit, and answers how many.
    /// Fewer than `limit`: nothing is left to remove today.
    fn forget_keys(&self, now: UnixMillis, limit: u32) -> Result<u32, StoreFault>;

    /// The role policy of this version, or the newest.
    fn policy(&self, _version: Option<u64>) -> Result<Option<PolicyRecord>, StoreFault> {
        Ok(None)
    }
    /// The newest one without its text: cheap enough to be asked all the time.
    fn policy_line(&self) -> Result<Option<PolicyLine>, StoreFault> {
        Ok(self.policies(None, 1)?.pop())
    }
    /// Those before a version, newest first; at most 1,001, a page and one more.
    fn policies(&self, _before: Option<u64>, _limit: u32) -> Result<Vec<PolicyLine>, StoreFault> {
        Ok(vec![])
    }
    /// How far notices were made from the log.
    fn notice_place(&self) -> Result<NoticePlace, StoreFault> {
        Err(notices::no_queue())
    }
    /// Messages to people, newest first.
    fn notices(&self, _query: &NoticeQuery) -> Result<Vec<Message>, StoreFault> {
        Err(notices::no_queue())
    }
    fn notice(&self, _id: &str) -> Result<Option<Message>, StoreFault> {
        Err(notices::no_queue())
    }
    /// Whether a message to this channel is due, or due after `latest`: asked often, and answered by an index.
    fn notice_is_due(&self, _channel: &str, _now: UnixMillis, _latest: UnixMillis) -> Result<bool, StoreFault> {
        Err(notices::no_queue())
    }
    fn notice_counts(&self) -> Result<NoticeCounts, StoreFault> {
        Err(notices::no_queue())
    }
    /// Changes the queue of messages, in one commit.
    fn work_notices(&self, _work: NoticeWork) -> Result<NoticeAnswer, StoreFault> {
        Err(notices::no_queue())
    }
    /// Takes a turn of a limit that daemons share; or how long until there is one. Counted by the store's own clock
    /// where it has one.
    fn take_turn(&self, _turn: Turn) -> Result<Option<Duration>, StoreFault> {
        Ok(None)
    }

    /// The keys that seal data keys, oldest first, as they are kept. None: no leaf was ever sealed.
    fn store_keys(&self) -> Result<Vec<StoreKey>, StoreFault> {
        Ok(vec![])
    }
    /// Changes them, in one commit.
    fn work_keys(&self, _work: KeyWork) -> Result<(), StoreFault> {
        Err(sealing::no_keys())
    }
    /// Seals every leaf from here on, and opens those that are read. A store that was sealed once records nothing
    /// without. See [`sealing::begin`].
    fn seal_with(&self, _ring: Arc<Ring>) -> Result<(), StoreFault> {
        Err(sealing::no_keys())
    }
    /// The first row whose leaf is sealed, or the next one that will be.
    fn first_sealed_row(&self) -> Result<i64, StoreFault> {
        Err(sealing::no_keys())
    }
    /// Subjects of leaves that have keys or are held, in order, those behind `after`; or the one that is named.
    fn subjects(&self, _query: &SubjectQuery) -> Result<Vec<SubjectLine>, StoreFault> {
        Ok(vec![])
    }
    /// Data keys that were destroyed, those of one decision together, oldest first.
    fn destroyed_keys(&self) -> Result<Vec<DestroyedKeys>, StoreFault> {
        Ok(vec![])
    }
    /// Leaves that were written before leaves were sealed, and stay readable whoever is erased.
    fn leaves_in_the_clear(&self) -> Result<u64, StoreFault> {
        Ok(0)
    }

    /// What makes the durability promised here weaker than it says, one clause each: a server's settings. Usually none.
    fn concerns(&self) -> Result<Vec<String>, StoreFault> {
        Ok(vec![])
    }
}

/// What [`Store::listing`] lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listing {
    Accounts,
    Grants,
    Merchants,
    Products,
    /// One object: whether payments are stopped, why, by whom.
    Breaker,
    /// Every account's balance and hold as kept and as its entries and open transactions add up.
    Balances,
}
