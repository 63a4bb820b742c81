//! The store of several daemons over one database: PostgreSQL.
//!
//! `writer` owns the connection that writes and groups what waits into one commit; `commit` reads ahead what the group
//! will need (`footprint`, `load`), decides each command on those rows (`sheet`, `apply`) and writes the outcome
//! (`flush`, `rare`): two round trips. `ask` answers what cannot be read ahead. `reads` and `lists` answer from
//! committed state, on connections of their own.
//!
//! Daemons agree through the database alone: rows are locked before they are decided on, in one order; unique
//! constraints are the last judge; whatever changes who may act waits for every commit in progress and holds up those
//! after it, so that no commit misses a revocation that is durable.

mod apply;
mod ask;
mod check;
mod columns;
mod commit;
mod endpoint;
mod flush;
mod footprint;
mod keys;
mod lists;
mod load;
mod log;
mod nodes;
mod notices;
mod pipeline;
mod policies;
mod purge;
mod rare;
mod reads;
mod rows;
mod schema;
mod session;
mod sheet;
mod signing;
mod status;
mod tls;
mod turns;
mod vault;
mod witness;
mod writer;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::Value;

use super::committed::Committed;
use super::reply::Reply;
use super::sealing::Slot;
use super::{
    ApprovalView, BatchRecord, Booking, CasePlace, CertificateLine, CertificateStatus, CertificatesOf, CheckProgress,
    CheckpointRecord, Cosignature, CosignedCheckpoint, CredentialLine, CredentialPlace, DestroyedKeys, FreezeView,
    KeyWork, KnownCredential, LeafRecord, LedgerCheck, LinePlace, Listing, LogExtent, MandateQuery, Message, Nodes,
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
pub use endpoint::Endpoint;
use footprint::Footprint;
use reads::{Ask, Reads};
use writer::{Answer, First, Work, Writer};

/// Commits of all daemons that are open at once, at most: each has taken its block of row numbers.
const BLOCKS_OPEN: i64 = 8;

/// One party's durable state in a PostgreSQL database that other daemons may share.
#[derive(Debug)]
pub struct PostgresStore {
    writer: Writer,
    /// Places and checkpoints have a connection of their own: payments do not wait for the log.
    log: Writer,
    /// So has the queue of messages to people: what is locked there is waited for by nobody else.
    notices: OnceLock<Writer>,
    /// And the limits that daemons share: whoever waits for a turn of one keeps neither log nor lease waiting.
    turns: OnceLock<Writer>,
    endpoint: Endpoint,
    reads: Reads,
    sealing: Slot,
    forgotten: purge::Done,
}

impl PostgresStore {
    /// How far the schema of a database is; an empty one is at the beginning. Changes nothing.
    ///
    /// # Errors
    /// [`StoreFault::SchemaTooNew`]; [`StoreFault::NotRecorded`] when the server cannot be used, with the reason.
    pub fn schema(endpoint: &Endpoint) -> Result<Schema, StoreFault> {
        let reads = Reads::new(endpoint)?;
        let one = |sql: &'static str| reads.rows(vec![Ask::new(sql, vec![])]);
        let is_new = one(schema::IS_NEW)?.iter().flatten().any(|row| row.get(0));
        let found =
            if is_new { 0 } else { one(schema::VERSION)?.iter().flatten().map(|row| row.get::<_, i64>(0)).sum() };
        schema::state(found)
    }

    /// Connects and brings the schema up to date.
    ///
    /// # Errors
    /// [`StoreFault::SchemaTooNew`]; [`StoreFault::NotRecorded`] when the server cannot be used, with the reason.
    pub fn open(endpoint: &Endpoint) -> Result<Arc<Self>, StoreFault> {
        // Of this store alone: another one over the same database opens its keys itself.
        let sealing = Slot::default();
        let endpoint = &Endpoint { sealing: sealing.clone(), committed: Committed::default(), ..endpoint.clone() };
        let writer = Writer::start("store-writer", endpoint.clone(), First::Migrate)?;
        let log = Writer::start("store-log", endpoint.clone(), First::Nothing)?;
        let reads = Reads::new(endpoint)?;
        let (notices, turns, forgotten) = (OnceLock::new(), OnceLock::new(), purge::Done::never());
        Ok(Arc::new(Self { writer, log, notices, turns, endpoint: endpoint.clone(), reads, sealing, forgotten }))
    }

    /// A writer that is started when it is first needed.
    fn started<'a>(&self, writer: &'a OnceLock<Writer>, name: &str) -> Result<&'a Writer, StoreFault> {
        if let Some(writer) = writer.get() {
            return Ok(writer);
        }
        // Two at once start two, and one of them ends again.
        let new = Writer::start(name, self.endpoint.clone(), First::Nothing)?;
        Ok(writer.get_or_init(|| new))
    }
}

impl Store for PostgresStore {
    fn apply(&self, commands: Vec<Command>) -> Result<Vec<Decision>, StoreFault> {
        // Here and not in the writer: callers share the processors, the writer is alone.
        let footprint = Footprint::of(&commands);
        self.writer.call(Work::Apply { commands, footprint }).map(Answer::decisions)
    }

    fn submit(&self, commands: Vec<Command>, told: Told) {
        let footprint = Footprint::of(&commands);
        let reply = Reply::to(|outcome| told(outcome.map(Answer::decisions)));
        self.writer.submit(Work::Apply { commands, footprint }, reply);
    }

    fn status(&self) -> Result<StatusSnapshot, StoreFault> {
        self.read_status()
    }

    fn revoked_of(&self, issuer: &str) -> Result<Vec<RevokedEntry>, StoreFault> {
        self.read_revoked_of(issuer)
    }

    fn certificates(&self) -> Result<Vec<CertificateRecord>, StoreFault> {
        self.read_certificates()
    }

    fn certificates_of(&self, of: &CertificatesOf, live_at: UnixMillis) -> Result<Vec<CertificateRecord>, StoreFault> {
        self.read_certificates_of(of, live_at)
    }

    fn certificate_list(&self) -> Result<Vec<CertificateLine>, StoreFault> {
        self.read_certificate_list()
    }

    fn last_end(&self, issuer: &str) -> Result<Option<UnixMillis>, StoreFault> {
        self.read_last_end(issuer)
    }

    fn authorities(&self) -> Result<Vec<CertificateRecord>, StoreFault> {
        self.read_authorities()
    }

    fn certificate_lines(
        &self,
        of: &CertificatesOf,
        live_at: UnixMillis,
        after: Option<&LinePlace>,
        limit: u32,
    ) -> Result<Vec<CertificateLine>, StoreFault> {
        self.read_lines(of, live_at, after, limit)
    }

    fn certificate_count(&self, of: &CertificatesOf, live_at: UnixMillis) -> Result<(u64, u64), StoreFault> {
        self.read_count(of, live_at)
    }

    fn certificate_status(&self, issuer: &str, serial: &Serial) -> Result<Option<CertificateStatus>, StoreFault> {
        self.read_certificate_status(issuer, serial)
    }

    fn revoked_since(&self, issuer: &str, since: UnixMillis) -> Result<RevokedSince, StoreFault> {
        self.read_revoked_since(issuer, since)
    }

    fn freezes(&self) -> Result<Vec<FreezeView>, StoreFault> {
        self.read_freezes()
    }

    fn serve_as(&self, node: &str, acted_on: u64) -> Result<Option<u64>, StoreFault> {
        match self.log.call(Work::Serve { node: node.to_owned(), acted_on })? {
            Answer::Changes(changes) => Ok(Some(changes)),
            Answer::Decisions(_) | Answer::Forgotten(_) | Answer::Noticed(_) | Answer::Turn(_) | Answer::Done => {
                Ok(None)
            }
        }
    }

    fn nodes(&self) -> Result<Option<Nodes>, StoreFault> {
        self.read_nodes().map(Some)
    }

    fn policy(&self, version: Option<u64>) -> Result<Option<PolicyRecord>, StoreFault> {
        self.read_policy(version)
    }

    fn policies(&self, before: Option<u64>, limit: u32) -> Result<Vec<PolicyLine>, StoreFault> {
        self.read_policies(before, limit)
    }

    fn approvals(&self, after: Option<&ApprovalId>, limit: u32) -> Result<Vec<ApprovalView>, StoreFault> {
        self.read_approvals(after, limit)
    }

    fn approval(&self, approval: &ApprovalId) -> Result<Option<ApprovalView>, StoreFault> {
        self.read_approval(approval)
    }

    fn grants_of(&self, agent: &SpiffeId) -> Result<Vec<Grant>, StoreFault> {
        self.read_grants_of(agent)
    }

    fn mandates(
        &self,
        agent: Option<&SpiffeId>,
        after: Option<&MandateId>,
        limit: u32,
    ) -> Result<Vec<StoredMandate>, StoreFault> {
        self.read_mandates(agent, after, limit)
    }

    fn mandates_shown(&self, query: &MandateQuery) -> Result<Vec<ShownMandate>, StoreFault> {
        self.read_mandates_shown(query)
    }

    fn mandate(&self, id: &MandateId) -> Result<Option<StoredMandate>, StoreFault> {
        self.read_mandate(id)
    }

    fn listing(&self, what: Listing) -> Result<Vec<Value>, StoreFault> {
        self.read_listing(what)
    }

    fn posted(&self, transaction: &TransactionId) -> Result<Option<Posted>, StoreFault> {
        self.read_posted(transaction)
    }

    fn order(&self, transaction: &TransactionId) -> Result<Option<Posted>, StoreFault> {
        self.read_order(transaction)
    }

    fn account(&self, name: &str) -> Result<Option<Account>, StoreFault> {
        self.read_account(name)
    }

    fn transaction(&self, id: &TransactionId) -> Result<Option<Transaction>, StoreFault> {
        self.read_transaction(id)
    }

    fn transactions(&self, query: &TransactionQuery) -> Result<Vec<TransactionRecord>, StoreFault> {
        self.read_transactions(query)
    }

    fn case(&self, id: &CaseId) -> Result<Option<ManualCase>, StoreFault> {
        self.read_case(id)
    }

    fn cases(&self, after: Option<&CasePlace>, limit: u32) -> Result<Vec<ManualCase>, StoreFault> {
        self.read_cases(after, limit)
    }

    fn cases_waiting(&self) -> Result<u64, StoreFault> {
        self.read_cases_waiting()
    }

    fn spent(&self, counter: &Counter, day: Day) -> Result<i64, StoreFault> {
        self.read_spent(counter, day)
    }

    fn check(&self, progress: &mut dyn FnMut(CheckProgress)) -> Result<LedgerCheck, StoreFault> {
        check::check(&self.reads, progress)
    }

    fn statement(&self, query: &StatementQuery) -> Result<Option<Statement>, StoreFault> {
        self.read_statement(query)
    }

    fn outbox(&self, of: Option<&TransactionId>, limit: u32) -> Result<Vec<OutboxRow>, StoreFault> {
        self.read_outbox(of, limit)
    }

    fn batch(&self, batch: i64) -> Result<Option<BatchRecord>, StoreFault> {
        self.read_batch(batch)
    }

    fn committed_document(&self, batch: i64) -> Option<Sha256> {
        self.endpoint.committed.document(batch)
    }

    fn batch_statements(&self, batch: i64) -> Result<Vec<(u32, Vec<u8>)>, StoreFault> {
        self.read_batch_statements(batch)
    }

    fn unsigned_batches(&self, limit: u32) -> Result<Vec<BatchRecord>, StoreFault> {
        self.read_unsigned_batches(limit)
    }

    fn leaf(&self, row: i64) -> Result<Option<LeafRecord>, StoreFault> {
        Ok(self.opened(self.read_leaf(row)?.into_iter().collect())?.pop())
    }

    fn leaf_of_transaction(&self, transaction: &TransactionId) -> Result<Option<LeafRecord>, StoreFault> {
        Ok(self.opened(self.read_leaf_of_transaction(transaction)?.into_iter().collect())?.pop())
    }

    fn rows_settle(&self) -> i64 {
        BLOCKS_OPEN * schema::ROWS_IN_A_BLOCK
    }
    fn unsequenced_after(&self, row: i64, limit: u32) -> Result<Vec<LeafRecord>, StoreFault> {
        self.opened(self.read_unsequenced(row, limit)?)
    }

    fn unsequenced_entries(&self, limit: u32) -> Result<Vec<WaitingLeaf>, StoreFault> {
        self.read_unsequenced_entries(limit)
    }

    fn leaves(&self, from_index: u64, limit: u32) -> Result<Vec<LeafRecord>, StoreFault> {
        self.opened(self.read_leaves(from_index, limit)?)
    }

    fn node(&self, level: u8, index: u64) -> Result<Option<Sha256>, StoreFault> {
        self.read_node(level, index)
    }

    fn nodes_at(&self, nodes: &[NodeId]) -> Result<Vec<Option<Sha256>>, StoreFault> {
        self.read_nodes_at(nodes)
    }

    fn tree_nodes(&self, level: u8, from: u64, limit: u32) -> Result<Vec<(u64, Sha256)>, StoreFault> {
        self.read_tree_nodes(level, from, limit)
    }

    fn log_extent(&self) -> Result<Option<LogExtent>, StoreFault> {
        self.read_log_extent()
    }

    fn checkpoints(&self, from_size: u64, limit: u32) -> Result<Vec<CheckpointRecord>, StoreFault> {
        self.read_checkpoints(from_size, limit)
    }

    fn batches(&self, after: i64, limit: u32) -> Result<Vec<BatchRecord>, StoreFault> {
        self.read_batches(after, limit)
    }

    fn bookings(&self, after: i64, limit: u32) -> Result<Vec<Booking>, StoreFault> {
        self.read_bookings(after, limit)
    }

    fn newest_checkpoint(&self) -> Result<Option<CheckpointRecord>, StoreFault> {
        self.read_newest_checkpoint()
    }

    fn signed_checkpoint(&self) -> Result<Option<CheckpointRecord>, StoreFault> {
        self.read_signed_checkpoint()
    }

    fn sequence(&self, step: SequenceStep) -> Result<(), StoreFault> {
        self.log.call(Work::Sequence(step)).map(|_| ())
    }

    fn store_signed_checkpoint(&self, size: u64, signed: Vec<u8>) -> Result<(), StoreFault> {
        self.log.call(Work::SignedCheckpoint { size, signed }).map(|_| ())
    }

    fn store_cosignature(&self, size: u64, cosignature: Cosignature) -> Result<(), StoreFault> {
        self.log.call(Work::Cosignature { size, cosignature }).map(|_| ())
    }

    fn cosignatures(&self, from_size: u64, limit: u32) -> Result<Vec<StoredCosignature>, StoreFault> {
        self.read_cosignatures(from_size, limit)
    }

    fn cosigned_checkpoint(&self) -> Result<Option<CosignedCheckpoint>, StoreFault> {
        self.read_cosigned()
    }

    fn signing(&self, scope: &Sha256) -> Result<Option<SigningRow>, StoreFault> {
        self.read_signing(scope)
    }

    fn witnessed(&self) -> Result<Vec<WitnessedLog>, StoreFault> {
        self.read_witnessed()
    }

    fn credential(&self, name: &CredentialName) -> Result<Option<KnownCredential>, StoreFault> {
        self.read_known_credential(name)
    }

    fn credential_lines(
        &self,
        after: Option<&CredentialPlace>,
        limit: u32,
    ) -> Result<Vec<VaultRow<CredentialLine>>, StoreFault> {
        self.read_credential_lines(after, limit)
    }

    fn credential_keys(&self) -> Result<Vec<(KeyId, u64)>, StoreFault> {
        self.read_credential_keys()
    }

    fn sealed_credentials(
        &self,
        not_under: Option<&KeyId>,
        after: Option<&CredentialPlace>,
        limit: u32,
    ) -> Result<Vec<VaultRow<SealedCredential>>, StoreFault> {
        self.read_sealed_credentials(not_under, after, limit)
    }

    fn core_refusals(&self, of: &TransactionId) -> Result<Vec<CoreRefusal>, StoreFault> {
        self.read_core_refusals(of)
    }

    fn forget_keys(&self, now: UnixMillis, limit: u32) -> Result<u32, StoreFault> {
        if self.forgotten.is_on(now) {
            return Ok(0);
        }
        let keys = match self.log.call(Work::ForgetKeys { now, limit })? {
            Answer::Forgotten(keys) => keys,
            Answer::Decisions(_) | Answer::Changes(_) | Answer::Noticed(_) | Answer::Turn(_) | Answer::Done => 0,
        };
        if keys < limit {
            self.forgotten.on(now);
        }
        Ok(keys)
    }

    fn notice_place(&self) -> Result<NoticePlace, StoreFault> {
        self.read_notice_place()
    }

    fn notices(&self, query: &NoticeQuery) -> Result<Vec<Message>, StoreFault> {
        self.read_notices(query)
    }

    fn notice(&self, id: &str) -> Result<Option<Message>, StoreFault> {
        self.read_notice(id)
    }

    fn notice_is_due(&self, channel: &str, now: UnixMillis, latest: UnixMillis) -> Result<bool, StoreFault> {
        self.read_is_due(channel, now, latest)
    }

    fn notice_counts(&self) -> Result<NoticeCounts, StoreFault> {
        self.read_notice_counts()
    }

    fn work_notices(&self, work: NoticeWork) -> Result<NoticeAnswer, StoreFault> {
        match self.started(&self.notices, "store-notices")?.call(Work::Notices(work))? {
            Answer::Noticed(answer) => Ok(answer),
            Answer::Decisions(_) | Answer::Changes(_) | Answer::Forgotten(_) | Answer::Turn(_) | Answer::Done => {
                Ok(NoticeAnswer::Done)
            }
        }
    }

    fn store_keys(&self) -> Result<Vec<StoreKey>, StoreFault> {
        self.read_store_keys()
    }

    fn work_keys(&self, work: KeyWork) -> Result<(), StoreFault> {
        self.log.call(Work::Keys(work)).map(drop)
    }

    fn seal_with(&self, ring: Arc<Ring>) -> Result<(), StoreFault> {
        self.sealing.set(ring);
        Ok(())
    }

    fn first_sealed_row(&self) -> Result<i64, StoreFault> {
        self.read_first_sealed_row()
    }

    fn subjects(&self, query: &SubjectQuery) -> Result<Vec<SubjectLine>, StoreFault> {
        self.read_subjects(query)
    }

    fn destroyed_keys(&self) -> Result<Vec<DestroyedKeys>, StoreFault> {
        self.read_destroyed_keys()
    }

    fn leaves_in_the_clear(&self) -> Result<u64, StoreFault> {
        self.read_leaves_in_the_clear()
    }

    fn take_turn(&self, turn: Turn) -> Result<Option<Duration>, StoreFault> {
        match self.started(&self.turns, "store-turns")?.call(Work::TakeTurn(turn))? {
            Answer::Turn(wait) => Ok(wait),
            Answer::Decisions(_) | Answer::Forgotten(_) | Answer::Changes(_) | Answer::Noticed(_) | Answer::Done => {
                Ok(None)
            }
        }
    }

    fn concerns(&self) -> Result<Vec<String>, StoreFault> {
        self.read_concerns()
    }
}
