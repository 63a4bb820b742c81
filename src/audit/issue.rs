//! Puts a receipt together from what the store holds, and verifies it before it leaves the house.

use std::time::{Duration, Instant};

use super::{Log, LogRoles, damaged, known, read_checkpoint};
use crate::hsm::CertifiedKey;
use crate::kernel::command::Posted;
use crate::kernel::cosignature::CosignatureEvidence;
use crate::kernel::merkle::inclusion_path;
use crate::kernel::note::{SignatureType, SignedNote, note_type};
use crate::kernel::receipt::{Base64, BatchEvidence, LogEvidence, RECEIPT_SCHEMA, Receipt, Salt, verify_witnessed};
use crate::kernel::sign::with_low_s;
use crate::kernel::types::TransactionId;
use crate::ops::failure::Failure;
use crate::store::{BatchRecord, CheckpointRecord, Cosignature, CosignedCheckpoint, LeafRecord};

/// Everything a receipt is made of, all of it signed.
struct Evidence {
    posted: Posted,
    batch: BatchRecord,
    batch_signature: Vec<u8>,
    leaf: LeafRecord,
    leaf_index: u64,
    checkpoint: CheckpointRecord,
    note: SignedNote,
    cosignature: Option<Cosignature>,
}

impl Log {
    /// The receipt of a posted transaction. Waits until its batch is signed and its leaf is in a signed checkpoint,
    /// at most for `deadline`.
    ///
    /// # Errors
    /// `unknown_transaction` when nothing was posted under this id; `receipt_pending` (busy) when the deadline
    /// passed or the log stopped; `signing_key_replaced` when a signature is by a key whose certificates are
    /// not at hand; `receipt_unverifiable`; `log_damaged`; the store's.
    pub fn receipt(&self, transaction: &TransactionId, deadline: Duration) -> Result<Receipt, Failure> {
        let end = Instant::now() + deadline;
        loop {
            // Read before the store, so that no progress between the two is missed.
            let seen = self.lock().progressed;
            if let Some(evidence) = self.evidence(transaction)? {
                let receipt = self.compose(evidence)?;
                self.verify_own(&receipt)?;
                return Ok(receipt);
            }
            let left = end.saturating_duration_since(Instant::now());
            let shared = self.lock();
            if left.is_zero() || !shared.running {
                let cause = shared.fault.as_ref().map_or(String::new(), |fault| format!(": {}", fault.message));
                return Err(Failure::busy(
                    "receipt_pending",
                    format!("{transaction} is posted, its receipt is not signed yet{cause}"),
                    "ask again in a moment; the money has moved once and will not move again",
                ));
            }
            let wait = left.min(Self::RECHECK);
            drop(self.progress.wait_timeout_while(shared, wait, |shared| shared.running && shared.progressed == seen));
        }
    }

    /// What is there, or `None` while something is not signed yet.
    fn evidence(&self, transaction: &TransactionId) -> Result<Option<Evidence>, Failure> {
        let store = &self.setup.store;
        let posted = store.posted(transaction)?.ok_or_else(|| {
            Failure::refused(
                "unknown_transaction",
                format!("no posted transaction {transaction}"),
                "see `countersign transaction list`; only executed transactions have a receipt",
            )
        })?;
        let batch = store
            .batch(posted.batch)?
            .ok_or_else(|| damaged(format!("batch {} of {transaction} is missing", posted.batch)))?;
        let leaf = store
            .leaf_of_transaction(transaction)?
            .ok_or_else(|| damaged(format!("the leaf of {transaction} is missing")))?;
        let (Some(batch_signature), Some(leaf_index)) = (batch.signature.clone(), leaf.index) else {
            return Ok(None);
        };
        let Some((checkpoint, cosignature)) = self.covering(leaf_index)? else {
            return Ok(None);
        };
        let signed = checkpoint.signed.as_deref().unwrap_or_default();
        let note = SignedNote::parse(signed).map_err(|refused| {
            damaged(format!("the signed checkpoint {} is unreadable: {refused}", checkpoint.size))
        })?;
        Ok(Some(Evidence { posted, batch, batch_signature, leaf, leaf_index, checkpoint, note, cosignature }))
    }

    /// The signed checkpoint that a leaf is proven under: the newest that the witness has cosigned, or else the newest.
    pub(super) fn covering(&self, index: u64) -> Result<Option<(CheckpointRecord, Option<Cosignature>)>, Failure> {
        let store = &self.setup.store;
        let cosigned = self.cosigned()?.filter(|cosigned| index < cosigned.checkpoint.size);
        if let Some(CosignedCheckpoint { checkpoint, cosignature }) = cosigned {
            return Ok(Some((checkpoint, Some(cosignature))));
        }
        let signed = store.signed_checkpoint()?.filter(|signed| index < signed.size);
        Ok(signed.map(|signed| (signed, None)))
    }

    /// What a reader with our root will do: a receipt that would fail there must not leave here.
    fn verify_own(&self, receipt: &Receipt) -> Result<(), Failure> {
        let roles = self.roles();
        let root = transaction_role(&roles)?.chain.last().map(Vec::as_slice).unwrap_or_default();
        let witness = self.witness_root().filter(|_| !receipt.log.cosignatures.is_empty());
        let verified = receipt
            .to_bytes()
            .and_then(|bytes| verify_witnessed(&bytes, root, witness.as_deref(), &self.setup.oid_base));
        verified.map(|_| ()).map_err(|refusal| {
            Failure::fault(
                "receipt_unverifiable",
                format!("the receipt would not verify ({}): {refusal}", refusal.name()),
                "run `countersign audit check` and see the certificates of the transaction and checkpoint roles",
            )
        })
    }

    fn compose(&self, evidence: Evidence) -> Result<Receipt, Failure> {
        let Evidence { posted, batch, batch_signature, leaf, leaf_index, checkpoint, note, cosignature } = evidence;
        let transaction = &posted.transaction_id;
        let roles = self.roles();
        transaction_role(&roles)?;
        let statement: serde_json::Value = serde_json::from_slice(&posted.statement)
            .map_err(|_| damaged(format!("the statement of {transaction} is not JSON")))?;
        let posted_at = statement["posted_at"].as_str().unwrap_or_default();
        let role = batch.key.and_then(|key| roles.transaction_by(key, posted_at));
        let role = role.ok_or_else(|| key_unknown("transaction", format!("batch {}", batch.batch)))?;
        let origin = read_checkpoint(&checkpoint)?.origin;
        let log_role = roles.checkpoints().find(|role| note.verify(&origin, &role.key.spki).is_ok());
        let log_role = log_role.ok_or_else(|| key_unknown("checkpoint", format!("checkpoint {}", checkpoint.size)))?;
        let index = u64::from(posted.index_in_batch);
        let (salt, body) = known(leaf.content, || format!("the leaf of {transaction}"))?;
        let text = |bytes: Vec<u8>, what: &str| {
            String::from_utf8(bytes).map_err(|_| damaged(format!("{what} of {transaction} is not UTF-8 text")))
        };
        Ok(Receipt {
            schema: RECEIPT_SCHEMA.to_owned(),
            batch: BatchEvidence {
                document: text(batch.document, "the batch document")?,
                index,
                count: batch.leaves.len() as u64,
                path: inclusion_path(&batch.leaves, index),
                // A token of before wrote it as it came.
                signature: Base64(with_low_s(&role.key.spki, &batch_signature)),
                chain: chain_of(role),
            },
            log: LogEvidence {
                leaf_index,
                salt: Salt(salt),
                body: text(body, "the leaf")?,
                commitment: leaf.commitment,
                path: self.inclusion(leaf_index, checkpoint.size)?,
                checkpoint: note.compose(),
                chain: chain_of(log_role),
                cosignatures: cosignature.into_iter().map(evidence_of).collect(),
                note_type: note_type(&log_role.key.spki).ok().and_then(SignatureType::own_name).map(str::to_owned),
            },
            statement: text(posted.statement, "the statement")?,
        })
    }
}

fn evidence_of(cosignature: Cosignature) -> CosignatureEvidence {
    CosignatureEvidence::new(cosignature.line, cosignature.chain)
}

fn chain_of(key: &CertifiedKey) -> Vec<Base64> {
    key.chain.iter().cloned().map(Base64).collect()
}

fn transaction_role(roles: &LogRoles) -> Result<&CertifiedKey, Failure> {
    roles.transaction.as_ref().ok_or_else(|| {
        Failure::usage("not_a_bank", "only a bank posts transactions", "name the bank's state directory")
    })
}

pub(super) fn key_unknown(role: &str, what: String) -> Failure {
    Failure::fault(
        "signing_key_replaced",
        format!("{what} was signed by a {role} key whose certificates are not at hand"),
        "use the receipt that was written when the transaction was posted",
    )
}
