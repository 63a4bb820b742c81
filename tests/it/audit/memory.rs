//! The log's verbs of a store, in memory, with faults to order: failed, and failed but applied all the same.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use countersign::kernel::canon::canonical;
use countersign::kernel::command::{CertificateRecord, Command, Decision, Posted, TransactionStatement};
use countersign::kernel::decide::{CoreRefusal, Counter, Grant, ManualCase, OutboxRow};
use countersign::kernel::ledger::{Account, Transaction};
use countersign::kernel::merkle;
use countersign::kernel::receipt::commitment;
use countersign::kernel::sign::{DocumentTag, Purpose, SignInput};
use countersign::kernel::status::StatusSnapshot;
use countersign::kernel::types::{ApprovalId, CaseId, Day, Sha256, SpiffeId, TransactionId, UnixMillis};
use countersign::store::{
    ApprovalView, BatchRecord, Booking, CasePlace, CheckProgress, CheckpointRecord, Cosignature, CosignedCheckpoint,
    LeafContent, LeafRecord, LedgerCheck, Listing, LogExtent, RevokedEntry, SequenceStep, Statement, StatementQuery,
    Store, StoreFault, StoredCosignature, TransactionQuery, TransactionRecord,
};
use serde_json::{Value, json};

use super::parties::Bank;

pub const POSTED_AT: &str = "2026-11-21T04:20:37.125Z";

/// What the next write does instead of working.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    SequenceFails,
    SequenceFailsButApplied,
    KeepFails,
    KeepFailsButApplied,
}

#[derive(Default)]
pub struct Rows {
    pub leaves: Vec<LeafRecord>,
    pub nodes: BTreeMap<(u8, u64), Sha256>,
    pub checkpoints: BTreeMap<u64, CheckpointRecord>,
    pub batches: BTreeMap<i64, BatchRecord>,
    pub posted: BTreeMap<TransactionId, (Posted, i64)>,
    pub cosignatures: BTreeMap<u64, Cosignature>,
    pub fault: Option<Fault>,
}

#[derive(Default)]
pub struct MemoryStore(Mutex<Rows>);

impl Rows {
    /// Salt and body of a leaf.
    pub fn said(&mut self, leaf: usize) -> (&mut [u8; 32], &mut Vec<u8>) {
        match &mut self.leaves[leaf].content {
            LeafContent::Known { salt, body } => (salt, body),
            LeafContent::Erased | LeafContent::Unsealed | LeafContent::Damaged(_) => panic!("leaf {leaf} says nothing"),
        }
    }
}

impl MemoryStore {
    pub fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap()
    }

    /// Adds a leaf without a place.
    pub fn add_leaf(&self, body: &Value) -> i64 {
        let mut rows = self.rows();
        let row = i64::try_from(rows.leaves.len()).unwrap() + 1;
        let salt = Sha256::of(&[b"salt", &row.to_be_bytes()]).0;
        let body = canonical(body).unwrap();
        let commitment = commitment(&salt, &body);
        rows.leaves.push(LeafRecord { row, commitment, content: LeafContent::Known { salt, body }, index: None });
        row
    }

    pub fn add_leaves(&self, count: usize) {
        for number in 0..count {
            self.add_leaf(&json!({ "tool": "get_account_balance", "number": number }));
        }
    }

    /// Posts `count` transactions as one batch that waits for its signature.
    pub fn post_unsigned(&self, batch: i64, count: u32) -> Vec<TransactionId> {
        let mut leaves = Vec::new();
        let mut ids = Vec::new();
        for index in 0..count {
            let id: TransactionId = format!("txn_{:026}", batch * 1_000_000 + i64::from(index)).parse().unwrap();
            let statement = statement(&id);
            leaves.push(merkle::leaf_hash(&statement));
            let body = json!({ "at": POSTED_AT, "tool": "execute_purchase", "result": {
                "status": "executed", "transaction_id": id, "repeated": false,
                "statement_sha256": Sha256::of(&[&statement]),
            }});
            let row = self.add_leaf(&body);
            let transaction_id = id.clone();
            let posted = Posted { transaction_id, batch, index_in_batch: index, statement, repeated: false };
            self.rows().posted.insert(id.clone(), (posted, row));
            ids.push(id);
        }
        let document = json!({
            "batch": batch, "count": count, "root": merkle::root(&leaves), "schema": "countersign/batch/v1",
            "signature": "low-s",
        });
        let document = canonical(&document).unwrap();
        self.rows().batches.insert(batch, BatchRecord { batch, document, leaves, signature: None, key: None });
        ids
    }

    /// The transaction key's signature over a batch that waits for it.
    pub fn sign_batch(&self, bank: &Bank, batch: i64) {
        let canonical_json = self.rows().batches[&batch].document.clone();
        let input = SignInput::Document { tag: DocumentTag::BatchRoot, canonical_json };
        let signature = bank.sign(Purpose::Transaction, input);
        let mut rows = self.rows();
        let record = rows.batches.get_mut(&batch).unwrap();
        record.signature = Some(signature);
        record.key = Some(bank.keys.key(Purpose::Transaction).0.id);
    }

    pub fn post(&self, bank: &Bank, batch: i64, count: u32) -> Vec<TransactionId> {
        let ids = self.post_unsigned(batch, count);
        self.sign_batch(bank, batch);
        ids
    }

    fn take_fault(&self, one: Fault, other: Fault) -> Option<Fault> {
        self.rows().fault.take_if(|fault| *fault == one || *fault == other)
    }
}

pub fn statement(id: &TransactionId) -> Vec<u8> {
    let statement = TransactionStatement {
        fee_minor: None,
        original_transaction_id: None,
        schema: "countersign/transaction/v1".into(),
        transaction_id: id.clone(),
        kind: "purchase".into(),
        mandate_id: None,
        agent: Some("spiffe://countersign.example/agent/purchaser/shopper".parse().unwrap()),
        agent_key: Some(Sha256::of(&[b"agent key"])),
        debit_account: "CHK_001".into(),
        credit_account: "merchant:amazon.com".into(),
        amount_minor: "189999".into(),
        currency: "USD".parse().unwrap(),
        merchant: Some("amazon.com".parse().unwrap()),
        product_id: Some("B08N5WRWNW".parse().unwrap()),
        approval_id: None,
        approver: None,
        posted_at: POSTED_AT.into(),
        policy_version: "p1".into(),
        catalogue_version: "1".into(),
    };
    canonical(&serde_json::to_value(statement).unwrap()).unwrap()
}

fn booking(posted: &Posted, row: i64) -> Booking {
    let said: TransactionStatement = serde_json::from_slice(&posted.statement).unwrap();
    Booking {
        number: row,
        name: posted.transaction_id.to_string(),
        kind: said.kind,
        state: "executed".into(),
        debit: said.debit_account,
        credit: said.credit_account,
        amount: said.amount_minor.parse().unwrap(),
        fee: 0,
        currency: said.currency.to_string(),
        agent: said.agent.map(|agent| agent.to_string()),
        merchant: said.merchant.map(|merchant| merchant.to_string()),
        product: said.product_id.map(|product| product.to_string()),
        original: None,
        policy_version: said.policy_version,
        catalogue_version: said.catalogue_version.parse().unwrap(),
        // POSTED_AT
        posted_at: Some(1_795_234_837_125),
        batch: Some(posted.batch),
        index_in_batch: Some(i64::from(posted.index_in_batch)),
        statement: Some(posted.statement.clone()),
        leaf: Some(row),
    }
}

fn elsewhere<T>() -> Result<T, StoreFault> {
    Err(StoreFault::NotRecorded("this store has the log's verbs only".into()))
}

impl Store for MemoryStore {
    fn apply(&self, _: Vec<Command>) -> Result<Vec<Decision>, StoreFault> {
        elsewhere()
    }
    fn status(&self) -> Result<StatusSnapshot, StoreFault> {
        elsewhere()
    }
    fn revoked_of(&self, _: &str) -> Result<Vec<RevokedEntry>, StoreFault> {
        elsewhere()
    }
    fn certificates(&self) -> Result<Vec<CertificateRecord>, StoreFault> {
        elsewhere()
    }
    fn approvals(&self, _: Option<&ApprovalId>, _: u32) -> Result<Vec<ApprovalView>, StoreFault> {
        elsewhere()
    }
    fn approval(&self, _: &ApprovalId) -> Result<Option<ApprovalView>, StoreFault> {
        elsewhere()
    }
    fn grants_of(&self, _: &SpiffeId) -> Result<Vec<Grant>, StoreFault> {
        elsewhere()
    }
    fn listing(&self, _: Listing) -> Result<Vec<Value>, StoreFault> {
        elsewhere()
    }

    fn posted(&self, transaction: &TransactionId) -> Result<Option<Posted>, StoreFault> {
        Ok(self.rows().posted.get(transaction).map(|(posted, _)| posted.clone()))
    }

    fn order(&self, _: &TransactionId) -> Result<Option<Posted>, StoreFault> {
        Ok(None)
    }

    fn transactions(&self, _: &TransactionQuery) -> Result<Vec<TransactionRecord>, StoreFault> {
        Ok(vec![])
    }

    fn check(&self, _: &mut dyn FnMut(CheckProgress)) -> Result<LedgerCheck, StoreFault> {
        elsewhere()
    }
    fn case(&self, _: &CaseId) -> Result<Option<ManualCase>, StoreFault> {
        elsewhere()
    }
    fn spent(&self, _: &Counter, _: Day) -> Result<i64, StoreFault> {
        elsewhere()
    }

    fn account(&self, _: &str) -> Result<Option<Account>, StoreFault> {
        Ok(None)
    }

    fn transaction(&self, _: &TransactionId) -> Result<Option<Transaction>, StoreFault> {
        Ok(None)
    }

    fn statement(&self, _: &StatementQuery) -> Result<Option<Statement>, StoreFault> {
        Ok(None)
    }

    fn outbox(&self, _: Option<&TransactionId>, _: u32) -> Result<Vec<OutboxRow>, StoreFault> {
        Ok(vec![])
    }

    fn batch(&self, batch: i64) -> Result<Option<BatchRecord>, StoreFault> {
        Ok(self.rows().batches.get(&batch).cloned())
    }

    fn batch_statements(&self, _: i64) -> Result<Vec<(u32, Vec<u8>)>, StoreFault> {
        elsewhere()
    }

    fn unsigned_batches(&self, limit: u32) -> Result<Vec<BatchRecord>, StoreFault> {
        let rows = self.rows();
        let unsigned = rows.batches.values().filter(|batch| batch.signature.is_none());
        Ok(unsigned.take(limit as usize).cloned().collect())
    }

    fn leaf(&self, row: i64) -> Result<Option<LeafRecord>, StoreFault> {
        Ok(self.rows().leaves.iter().find(|leaf| leaf.row == row).cloned())
    }

    fn leaf_of_transaction(&self, transaction: &TransactionId) -> Result<Option<LeafRecord>, StoreFault> {
        let row = self.rows().posted.get(transaction).map(|(_, row)| *row);
        row.map_or(Ok(None), |row| self.leaf(row))
    }

    fn unsequenced_after(&self, row: i64, limit: u32) -> Result<Vec<LeafRecord>, StoreFault> {
        let rows = self.rows();
        let waits = |leaf: &&LeafRecord| leaf.index.is_none() && leaf.row > row;
        Ok(rows.leaves.iter().filter(waits).take(limit as usize).cloned().collect())
    }

    fn leaves(&self, from_index: u64, limit: u32) -> Result<Vec<LeafRecord>, StoreFault> {
        let rows = self.rows();
        let mut placed: Vec<LeafRecord> =
            rows.leaves.iter().filter(|leaf| leaf.index.is_some_and(|index| index >= from_index)).cloned().collect();
        placed.sort_by_key(|leaf| leaf.index);
        placed.truncate(limit as usize);
        Ok(placed)
    }

    fn node(&self, level: u8, index: u64) -> Result<Option<Sha256>, StoreFault> {
        Ok(self.rows().nodes.get(&(level, index)).copied())
    }

    fn newest_checkpoint(&self) -> Result<Option<CheckpointRecord>, StoreFault> {
        Ok(self.rows().checkpoints.values().next_back().cloned())
    }

    fn signed_checkpoint(&self) -> Result<Option<CheckpointRecord>, StoreFault> {
        Ok(self.rows().checkpoints.values().rev().find(|record| record.signed.is_some()).cloned())
    }

    fn store_cosignature(&self, size: u64, cosignature: Cosignature) -> Result<(), StoreFault> {
        self.rows().cosignatures.insert(size, cosignature);
        Ok(())
    }

    fn cosigned_checkpoint(&self) -> Result<Option<CosignedCheckpoint>, StoreFault> {
        let rows = self.rows();
        let newest = rows.cosignatures.iter().next_back();
        Ok(newest.map(|(size, cosignature)| CosignedCheckpoint {
            checkpoint: rows.checkpoints[size].clone(),
            cosignature: cosignature.clone(),
        }))
    }

    fn cosignatures(&self, from_size: u64, limit: u32) -> Result<Vec<StoredCosignature>, StoreFault> {
        let rows = self.rows();
        let found = rows.cosignatures.range(from_size..).take(limit as usize);
        let stored = found.map(|(size, cosignature)| StoredCosignature {
            size: *size,
            line: cosignature.line.clone(),
            chain: Some(cosignature.chain.clone()),
            note: rows.checkpoints.get(size).filter(|record| record.signed.is_some()).map(|record| record.note.clone()),
        });
        Ok(stored.collect())
    }

    fn log_extent(&self) -> Result<Option<LogExtent>, StoreFault> {
        let rows = self.rows();
        let placed = rows.leaves.iter().filter(|leaf| leaf.index.is_some()).count() as u64;
        Ok(Some(LogExtent { placed, nodes: rows.nodes.len() as u64 }))
    }

    fn checkpoints(&self, from_size: u64, limit: u32) -> Result<Vec<CheckpointRecord>, StoreFault> {
        Ok(self.rows().checkpoints.range(from_size..).take(limit as usize).map(|(_, record)| record.clone()).collect())
    }

    fn batches(&self, after: i64, limit: u32) -> Result<Vec<BatchRecord>, StoreFault> {
        let rows = self.rows();
        let behind = rows.batches.values().filter(|record| record.batch > after);
        Ok(behind.take(limit as usize).cloned().collect())
    }

    /// A row of the book for each posting, as its statement says.
    fn bookings(&self, after: i64, limit: u32) -> Result<Vec<Booking>, StoreFault> {
        let rows = self.rows();
        let mut all: Vec<Booking> = rows.posted.values().map(|(posted, row)| booking(posted, *row)).collect();
        all.retain(|booking| booking.number > after);
        all.sort_by_key(|booking| booking.number);
        all.truncate(limit as usize);
        Ok(all)
    }

    fn sequence(&self, step: SequenceStep) -> Result<(), StoreFault> {
        let fault = self.take_fault(Fault::SequenceFails, Fault::SequenceFailsButApplied);
        if fault == Some(Fault::SequenceFails) {
            return Err(StoreFault::OutcomeUnknown("the disk went away".into()));
        }
        let mut rows = self.rows();
        let size = rows.checkpoints.keys().next_back().copied().unwrap_or(0);
        if size != step.size_before {
            return Err(StoreFault::NotRecorded("the tree has another size".into()));
        }
        for (index, row) in (step.size_before..).zip(step.rows) {
            let leaf = rows.leaves.iter_mut().find(|leaf| leaf.row == row).unwrap();
            assert_eq!(leaf.index.replace(index), None, "a leaf gets one place only");
        }
        for (level, index, hash) in step.nodes {
            assert_eq!(rows.nodes.insert((level, index), hash), None, "a node is final");
        }
        rows.checkpoints.insert(step.checkpoint.size, step.checkpoint);
        drop(rows);
        fault.map_or(Ok(()), |_| Err(StoreFault::OutcomeUnknown("the disk went away".into())))
    }

    fn cases(&self, _: Option<&CasePlace>, _: u32) -> Result<Vec<ManualCase>, StoreFault> {
        Ok(vec![])
    }

    fn cases_waiting(&self) -> Result<u64, StoreFault> {
        Ok(0)
    }

    fn core_refusals(&self, _: &TransactionId) -> Result<Vec<CoreRefusal>, StoreFault> {
        Ok(vec![])
    }

    fn forget_keys(&self, _: UnixMillis, _: u32) -> Result<u32, StoreFault> {
        Ok(0)
    }

    fn store_signed_checkpoint(&self, size: u64, signed: Vec<u8>) -> Result<(), StoreFault> {
        let fault = self.take_fault(Fault::KeepFails, Fault::KeepFailsButApplied);
        if fault != Some(Fault::KeepFails) {
            self.rows().checkpoints.get_mut(&size).unwrap().signed.get_or_insert(signed);
        }
        fault.map_or(Ok(()), |_| Err(StoreFault::OutcomeUnknown("the disk went away".into())))
    }
}
