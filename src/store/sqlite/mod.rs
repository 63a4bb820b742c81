//! The embedded store: SQLite in WAL mode with full sync, one writer, readers apart.
//!
//! `writer` owns the only connection that writes and groups what waits into one commit; `book` is what a decision
//! reads there, `changes` what it orders; `reads` and `log` answer from committed state.

mod book;
mod changes;
mod check;
mod checkpoint;
mod filter;
mod keys;
mod log;
mod making;
mod memory;
mod notices;
mod pending;
mod policies;
mod purge;
mod reads;
mod rows;
mod schema;
mod signing;
mod status;
mod turns;
mod vault;
mod witness;
mod writer;

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use serde_json::Value;

use super::committed::Committed;
use super::keep::Keep;
use super::planted::planted;
use super::reply::Reply;
use super::sealing::{self, LeafRow, Slot};
use super::{
    ApprovalView, BatchRecord, Booking, CasePlace, CertificateLine, CertificateStatus, CertificatesOf, CheckProgress,
    CheckpointRecord, Cosignature, CosignedCheckpoint, CredentialLine, CredentialPlace, DestroyedKeys, FreezeView,
    KeyWork, KnownCredential, LeafRecord, LedgerCheck, LinePlace, Listing, LogExtent, MandateQuery, Message,
    NoticeAnswer, NoticeCounts, NoticePlace, NoticeQuery, NoticeWork, RevokedEntry, RevokedSince, Ring, Schema,
    SequenceStep, Statement, StatementQuery, Store, StoreFault, StoreKey, StoredCosignature, SubjectLine, SubjectQuery,
    Told, TransactionQuery, TransactionRecord, Turn, VaultRow, WaitingLeaf,
};
use crate::kernel::command::{CertificateRecord, Command, Decision, Posted};
use crate::kernel::decide::{CoreRefusal, Counter, Grant, ManualCase, OutboxRow, PolicyLine, PolicyRecord};
use crate::kernel::external::SigningRow;
use crate::kernel::ledger::{Account, Transaction};
use crate::kernel::mandate::{ShownMandate, StoredMandate};
use crate::kernel::merkle::NodeId;
use crate::kernel::status::StatusSnapshot;
use crate::kernel::types::{
    ApprovalId, CaseId, CredentialName, Day, KeyId, MandateId, Serial, Sha256, SpiffeId, TransactionId, UnixMillis,
};
use crate::kernel::vault::SealedCredential;
use crate::kernel::witness::WitnessedLog;
use writer::{Answer, Shared, Work, Writer};

/// A connection waits this long for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages that the writer keeps: with SQLite's 2 MiB every transfer read some again, with 64 MiB each COMMIT takes
/// longer to look through them.
const WRITER_CACHE_KIB: i64 = 16_384;
/// Idle reading connections that are kept: one that is opened reads the whole schema first, which takes longer than what
/// is asked of it.
const READERS_IDLE_MAX: usize = 64;
/// Pages that a reader keeps: each commit makes them stale.
const READER_CACHE_KIB: i64 = 512;
/// Prepared statements that a connection keeps.
const STATEMENTS_CACHED: usize = 128;

/// One party's durable state in a SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    writer: Writer,
    sealing: Slot,
    committed: Committed,
    /// Idle readers. The lock guards the list only; no call is made under it.
    readers: Mutex<Vec<Connection>>,
}

impl SqliteStore {
    /// Opens the file, or makes it (mode 0600, its directory 0700), and brings the schema up to date.
    ///
    /// # Errors
    /// [`StoreFault::SchemaTooNew`]; [`StoreFault::NotRecorded`] when the file cannot be used.
    pub fn open(path: &Path) -> Result<Arc<Self>, StoreFault> {
        Self::open_keeping(path, Keep::default())
    }

    /// The same; single-use keys are known as long as `keep` says.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub fn open_keeping(path: &Path, keep: Keep) -> Result<Arc<Self>, StoreFault> {
        Self::open_with(path, keep, writer::commit)
    }

    /// How far the schema of a file is; one that is not there yet is at the beginning. Changes nothing.
    ///
    /// # Errors
    /// [`StoreFault::SchemaTooNew`]; [`StoreFault::NotRecorded`] when the file cannot be read.
    pub fn schema(path: &Path) -> Result<Schema, StoreFault> {
        let connection = if path.exists() { Connection::open(path) } else { Connection::open_in_memory() };
        schema::state(&connection.map_err(|error| unusable(path, &error))?)
    }

    fn open_with(path: &Path, keep: Keep, commit: writer::CommitStep) -> Result<Arc<Self>, StoreFault> {
        make_private(path).map_err(|error| unusable(path, &error))?;
        let connection = open_writing(path)?;
        let sealing = Slot::default();
        let committed = Committed::default();
        let shared = Shared { sealing: sealing.clone(), committed: committed.clone() };
        let writer = Writer::start(path.to_owned(), connection, keep, shared, commit)?;
        Ok(Arc::new(Self { path: path.to_owned(), writer, sealing, committed, readers: Mutex::default() }))
    }

    /// Runs `read` on one snapshot of committed state.
    fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreFault> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let answer = (|| {
            let mut connection = match idle {
                Some(connection) => connection,
                None => open_reading(&self.path)?,
            };
            let snapshot = connection.transaction()?;
            let value = read(&snapshot)?;
            snapshot.finish()?;
            Ok((value, connection))
        })();
        let (value, connection) =
            answer.map_err(|error: rusqlite::Error| StoreFault::NotRecorded(format!("reading failed: {error}")))?;
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS_IDLE_MAX {
            readers.push(connection);
        }
        Ok(value)
    }

    /// Opens what is sealed of these leaves.
    fn opened(&self, rows: Vec<LeafRow>) -> Result<Vec<LeafRecord>, StoreFault> {
        let store_key = |id: i64| -> Result<Option<StoreKey>, StoreFault> {
            Ok(self.store_keys()?.into_iter().find(|key| key.id == id))
        };
        sealing::open(self.sealing.ring().as_deref(), rows, store_key)
    }

    fn one_opened(&self, row: Option<LeafRow>) -> Result<Option<LeafRecord>, StoreFault> {
        Ok(self.opened(row.into_iter().collect())?.pop())
    }
}

impl Store for SqliteStore {
    fn apply(&self, commands: Vec<Command>) -> Result<Vec<Decision>, StoreFault> {
        self.writer.call(Work::Apply(commands)).map(Answer::decisions)
    }

    fn submit(&self, commands: Vec<Command>, told: Told) {
        self.writer.submit(Work::Apply(commands), Reply::to(|outcome| told(outcome.map(Answer::decisions))));
    }

    fn status(&self) -> Result<StatusSnapshot, StoreFault> {
        self.read(status::status)
    }

    fn revoked_of(&self, issuer: &str) -> Result<Vec<RevokedEntry>, StoreFault> {
        self.read(|connection| status::revoked_of(connection, issuer))
    }

    fn certificates(&self) -> Result<Vec<CertificateRecord>, StoreFault> {
        self.read(status::certificates)
    }

    fn certificates_of(&self, of: &CertificatesOf, live_at: UnixMillis) -> Result<Vec<CertificateRecord>, StoreFault> {
        self.read(|connection| status::certificates_of(connection, of, live_at))
    }

    fn certificate_list(&self) -> Result<Vec<CertificateLine>, StoreFault> {
        self.read(status::certificate_list)
    }

    fn last_end(&self, issuer: &str) -> Result<Option<UnixMillis>, StoreFault> {
        self.read(|connection| status::last_end(connection, issuer))
    }

    fn authorities(&self) -> Result<Vec<CertificateRecord>, StoreFault> {
        self.read(status::authorities)
    }

    fn certificate_lines(
        &self,
        of: &CertificatesOf,
        live_at: UnixMillis,
        after: Option<&LinePlace>,
        limit: u32,
    ) -> Result<Vec<CertificateLine>, StoreFault> {
        self.read(|connection| status::lines(connection, of, live_at, after, limit))
    }

    fn certificate_count(&self, of: &CertificatesOf, live_at: UnixMillis) -> Result<(u64, u64), StoreFault> {
        self.read(|connection| status::count(connection, of, live_at))
    }

    fn certificate_status(&self, issuer: &str, serial: &Serial) -> Result<Option<CertificateStatus>, StoreFault> {
        self.read(|connection| status::certificate_status(connection, issuer, serial))
    }

    fn revoked_since(&self, issuer: &str, since: UnixMillis) -> Result<RevokedSince, StoreFault> {
        self.read(|connection| status::revoked_since(connection, issuer, since))
    }

    fn freezes(&self) -> Result<Vec<FreezeView>, StoreFault> {
        self.read(status::freezes)
    }

    fn policy(&self, version: Option<u64>) -> Result<Option<PolicyRecord>, StoreFault> {
        let version = version.map(|version| i64::try_from(version).unwrap_or(i64::MAX));
        self.read(|connection| policies::policy(connection, version))
    }

    fn policies(&self, before: Option<u64>, limit: u32) -> Result<Vec<PolicyLine>, StoreFault> {
        let before = before.map(|before| i64::try_from(before).unwrap_or(i64::MAX));
        self.read(|connection| policies::policies(connection, before, limit))
    }

    fn approvals(&self, after: Option<&ApprovalId>, limit: u32) -> Result<Vec<ApprovalView>, StoreFault> {
        self.read(|connection| reads::approvals(connection, after, limit))
    }

    fn approval(&self, approval: &ApprovalId) -> Result<Option<ApprovalView>, StoreFault> {
        self.read(|connection| reads::approval(connection, approval))
    }

    fn grants_of(&self, agent: &SpiffeId) -> Result<Vec<Grant>, StoreFault> {
        self.read(|connection| reads::grants_of(connection, agent))
    }

    fn mandates(
        &self,
        agent: Option<&SpiffeId>,
        after: Option<&MandateId>,
        limit: u32,
    ) -> Result<Vec<StoredMandate>, StoreFault> {
        self.read(|connection| reads::mandates(connection, agent, after, limit))
    }

    fn mandates_shown(&self, query: &MandateQuery) -> Result<Vec<ShownMandate>, StoreFault> {
        self.read(|connection| reads::mandates_shown(connection, query))
    }

    fn mandate(&self, id: &MandateId) -> Result<Option<StoredMandate>, StoreFault> {
        self.read(|connection| reads::mandate(connection, id))
    }

    fn listing(&self, what: Listing) -> Result<Vec<Value>, StoreFault> {
        self.read(|connection| reads::listing(connection, what))
    }

    fn posted(&self, transaction: &TransactionId) -> Result<Option<Posted>, StoreFault> {
        self.read(|connection| reads::posted(connection, transaction))
    }

    fn order(&self, transaction: &TransactionId) -> Result<Option<Posted>, StoreFault> {
        self.read(|connection| reads::order(connection, transaction))
    }

    fn account(&self, name: &str) -> Result<Option<Account>, StoreFault> {
        self.read(|connection| reads::account(connection, name))
    }

    fn transaction(&self, id: &TransactionId) -> Result<Option<Transaction>, StoreFault> {
        self.read(|connection| reads::transaction(connection, id))
    }

    fn transactions(&self, query: &TransactionQuery) -> Result<Vec<TransactionRecord>, StoreFault> {
        self.read(|connection| reads::transactions(connection, query))
    }

    fn case(&self, id: &CaseId) -> Result<Option<ManualCase>, StoreFault> {
        self.read(|connection| reads::case(connection, id))
    }

    fn cases(&self, after: Option<&CasePlace>, limit: u32) -> Result<Vec<ManualCase>, StoreFault> {
        self.read(|connection| reads::cases(connection, after, limit))
    }

    fn cases_waiting(&self) -> Result<u64, StoreFault> {
        self.read(reads::cases_waiting)
    }

    fn spent(&self, counter: &Counter, day: Day) -> Result<i64, StoreFault> {
        self.read(|connection| reads::spent(connection, counter, day))
    }

    fn check(&self, progress: &mut dyn FnMut(CheckProgress)) -> Result<LedgerCheck, StoreFault> {
        self.read(|connection| check::check(connection, progress))
    }

    fn statement(&self, query: &StatementQuery) -> Result<Option<Statement>, StoreFault> {
        self.read(|connection| reads::statement(connection, query))
    }

    fn outbox(&self, of: Option<&TransactionId>, limit: u32) -> Result<Vec<OutboxRow>, StoreFault> {
        self.read(|connection| reads::outbox(connection, of, limit))
    }

    fn batch(&self, batch: i64) -> Result<Option<BatchRecord>, StoreFault> {
        self.read(|connection| log::batch(connection, batch))
    }

    fn committed_document(&self, batch: i64) -> Option<Sha256> {
        self.committed.document(batch)
    }

    fn batch_statements(&self, batch: i64) -> Result<Vec<(u32, Vec<u8>)>, StoreFault> {
        self.read(|connection| log::batch_statements(connection, batch))
    }

    fn unsigned_batches(&self, limit: u32) -> Result<Vec<BatchRecord>, StoreFault> {
        self.read(|connection| log::unsigned_batches(connection, limit))
    }

    fn leaf(&self, row: i64) -> Result<Option<LeafRecord>, StoreFault> {
        self.one_opened(self.read(|connection| log::leaf(connection, row))?)
    }

    fn leaf_of_transaction(&self, transaction: &TransactionId) -> Result<Option<LeafRecord>, StoreFault> {
        self.one_opened(self.read(|connection| log::leaf_of_transaction(connection, transaction))?)
    }

    fn unsequenced_after(&self, row: i64, limit: u32) -> Result<Vec<LeafRecord>, StoreFault> {
        self.opened(self.read(|connection| log::unsequenced(connection, row, limit))?)
    }

    fn unsequenced_entries(&self, limit: u32) -> Result<Vec<WaitingLeaf>, StoreFault> {
        let ring = self.sealing.ring();
        self.read(|connection| log::unsequenced_entries(connection, ring.as_deref(), limit))
    }

    fn leaves(&self, from_index: u64, limit: u32) -> Result<Vec<LeafRecord>, StoreFault> {
        self.opened(self.read(|connection| log::leaves(connection, from_index, limit))?)
    }

    fn node(&self, level: u8, index: u64) -> Result<Option<Sha256>, StoreFault> {
        self.read(|connection| log::node(connection, level, index))
    }

    fn nodes_at(&self, nodes: &[NodeId]) -> Result<Vec<Option<Sha256>>, StoreFault> {
        self.read(|connection| nodes.iter().map(|node| log::node(connection, node.level, node.index)).collect())
    }

    fn tree_nodes(&self, level: u8, from: u64, limit: u32) -> Result<Vec<(u64, Sha256)>, StoreFault> {
        self.read(|connection| log::tree_nodes(connection, level, from, limit))
    }

    fn log_extent(&self) -> Result<Option<LogExtent>, StoreFault> {
        self.read(log::extent).map(Some)
    }

    fn checkpoints(&self, from_size: u64, limit: u32) -> Result<Vec<CheckpointRecord>, StoreFault> {
        self.read(|connection| log::checkpoints(connection, from_size, limit))
    }

    fn batches(&self, after: i64, limit: u32) -> Result<Vec<BatchRecord>, StoreFault> {
        self.read(|connection| log::batches(connection, after, limit))
    }

    fn bookings(&self, after: i64, limit: u32) -> Result<Vec<Booking>, StoreFault> {
        self.read(|connection| log::bookings(connection, after, limit))
    }

    fn newest_checkpoint(&self) -> Result<Option<CheckpointRecord>, StoreFault> {
        self.read(log::newest_checkpoint)
    }

    fn signed_checkpoint(&self) -> Result<Option<CheckpointRecord>, StoreFault> {
        self.read(log::signed_checkpoint)
    }

    fn sequence(&self, step: SequenceStep) -> Result<(), StoreFault> {
        self.writer.call(Work::Sequence(step)).map(|_| ())
    }

    fn store_signed_checkpoint(&self, size: u64, signed: Vec<u8>) -> Result<(), StoreFault> {
        self.writer.call(Work::SignedCheckpoint { size, signed }).map(|_| ())
    }

    fn store_cosignature(&self, size: u64, cosignature: Cosignature) -> Result<(), StoreFault> {
        self.writer.call(Work::Cosignature { size, cosignature }).map(|_| ())
    }

    fn cosigned_checkpoint(&self) -> Result<Option<CosignedCheckpoint>, StoreFault> {
        self.read(witness::newest)
    }

    fn cosignatures(&self, from_size: u64, limit: u32) -> Result<Vec<StoredCosignature>, StoreFault> {
        self.read(|connection| witness::stored(connection, from_size, limit))
    }

    fn signing(&self, scope: &Sha256) -> Result<Option<SigningRow>, StoreFault> {
        self.read(|connection| signing::find(connection, scope))
    }

    fn witnessed(&self) -> Result<Vec<WitnessedLog>, StoreFault> {
        self.read(witness::logs)
    }

    fn credential(&self, name: &CredentialName) -> Result<Option<KnownCredential>, StoreFault> {
        self.read(|connection| vault::known(connection, name))
    }

    fn credential_lines(
        &self,
        after: Option<&CredentialPlace>,
        limit: u32,
    ) -> Result<Vec<VaultRow<CredentialLine>>, StoreFault> {
        self.read(|connection| vault::lines(connection, after, limit))
    }

    fn credential_keys(&self) -> Result<Vec<(KeyId, u64)>, StoreFault> {
        self.read(vault::keys)
    }

    fn sealed_credentials(
        &self,
        not_under: Option<&KeyId>,
        after: Option<&CredentialPlace>,
        limit: u32,
    ) -> Result<Vec<VaultRow<SealedCredential>>, StoreFault> {
        self.read(|connection| vault::all_sealed(connection, not_under, after, limit))
    }

    fn core_refusals(&self, of: &TransactionId) -> Result<Vec<CoreRefusal>, StoreFault> {
        self.read(|connection| reads::core_refusals(connection, of))
    }

    fn forget_keys(&self, now: UnixMillis, limit: u32) -> Result<u32, StoreFault> {
        match self.writer.call(Work::ForgetKeys { now, limit })? {
            Answer::Forgotten(keys) => Ok(keys),
            Answer::Decisions(_) | Answer::Noticed(_) | Answer::Turn(_) | Answer::Done => Ok(0),
        }
    }

    fn notice_place(&self) -> Result<NoticePlace, StoreFault> {
        self.read(notices::place)
    }

    fn notices(&self, query: &NoticeQuery) -> Result<Vec<Message>, StoreFault> {
        self.read(|connection| notices::list(connection, query))
    }

    fn notice(&self, id: &str) -> Result<Option<Message>, StoreFault> {
        self.read(|connection| notices::get(connection, id))
    }

    fn notice_is_due(&self, channel: &str, now: UnixMillis, latest: UnixMillis) -> Result<bool, StoreFault> {
        self.read(|connection| notices::is_due(connection, channel, now, latest))
    }

    fn notice_counts(&self) -> Result<NoticeCounts, StoreFault> {
        self.read(notices::counts)
    }

    fn work_notices(&self, work: NoticeWork) -> Result<NoticeAnswer, StoreFault> {
        match self.writer.call(Work::Notices(work))? {
            Answer::Noticed(answer) => Ok(answer),
            Answer::Decisions(_) | Answer::Forgotten(_) | Answer::Turn(_) | Answer::Done => Ok(NoticeAnswer::Done),
        }
    }

    fn store_keys(&self) -> Result<Vec<StoreKey>, StoreFault> {
        self.read(keys::store_keys)
    }

    fn work_keys(&self, work: KeyWork) -> Result<(), StoreFault> {
        self.writer.call(Work::Keys(work)).map(drop)
    }

    fn seal_with(&self, ring: Arc<Ring>) -> Result<(), StoreFault> {
        self.sealing.set(ring);
        Ok(())
    }

    fn first_sealed_row(&self) -> Result<i64, StoreFault> {
        self.read(keys::first_sealed_row)
    }

    fn subjects(&self, query: &SubjectQuery) -> Result<Vec<SubjectLine>, StoreFault> {
        self.read(|connection| keys::subjects(connection, query))
    }

    fn destroyed_keys(&self) -> Result<Vec<DestroyedKeys>, StoreFault> {
        self.read(keys::destroyed)
    }

    fn leaves_in_the_clear(&self) -> Result<u64, StoreFault> {
        self.read(keys::leaves_in_the_clear)
    }

    fn take_turn(&self, turn: Turn) -> Result<Option<Duration>, StoreFault> {
        match self.writer.call(Work::TakeTurn(turn))? {
            Answer::Turn(wait) => Ok(wait),
            Answer::Decisions(_) | Answer::Forgotten(_) | Answer::Noticed(_) | Answer::Done => Ok(None),
        }
    }
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> StoreFault {
    StoreFault::NotRecorded(format!("{} cannot be opened: {error}", path.display()))
}

/// Makes directory and file readable by their owner only, before SQLite writes a byte.
fn make_private(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !directory.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.sync_all()?;
    File::open(directory)?.sync_all()
}

/// The writing connection, its schema brought up to date.
fn open_writing(path: &Path) -> Result<Connection, StoreFault> {
    let open = || {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", if planted("synchronous_normal") { "NORMAL" } else { "FULL" })?;
        // The writer itself knows the rows that others name, as on PostgreSQL; `ledger check` looks for those of the book.
        connection.pragma_update(None, "foreign_keys", false)?;
        // Plans do not depend on what is bound: a statement is prepared once.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
        Ok(connection)
    };
    let mut connection = open().map_err(|error: rusqlite::Error| unusable(path, &error))?;
    schema::migrate(&mut connection)?;
    Ok(connection)
}

/// The same after a failure: every page is read before the file is trusted again.
fn reopen_writing(path: &Path) -> Result<Connection, StoreFault> {
    let connection = open_writing(path)?;
    let checked: rusqlite::Result<String> = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    match checked {
        Ok(word) if word == "ok" => Ok(connection),
        Ok(damage) => Err(unusable(path, &damage)),
        Err(error) => Err(unusable(path, &error)),
    }
}

fn open_reading(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    Ok(connection)
}

#[cfg(test)]
mod tests;
