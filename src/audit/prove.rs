//! What an auditor takes away: a leaf with its proof, the log's newest signed checkpoint, its tiles.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Log, damaged, known, read_checkpoint};
use crate::kernel::canon::canonical;
use crate::kernel::leaf_proof::{self, LeafProof};
use crate::kernel::note::{NoteSignature, SignedNote};
use crate::kernel::receipt::{Base64, leaf_entry};
use crate::kernel::tile::{Tile, TileKind, bundle};
use crate::kernel::types::TransactionId;
use crate::ops::failure::Failure;
use crate::store::{CheckpointRecord, Cosignature, CosignedCheckpoint, LeafRecord};

/// Which leaf.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeafChoice {
    /// By its place in the log.
    Index(u64),
    /// That of the decision which posted it.
    Transaction(TransactionId),
}

/// The head of a log, as it is handed out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    pub origin: String,
    pub size: u64,
    /// The signed note, as it is.
    pub checkpoint: String,
    /// The checkpoint key's certificate, issuing CA, root.
    pub chain: Vec<Base64>,
    /// The same of each witness whose line stands behind the log's own, in their order.
    #[serde(default)]
    pub witnesses: Vec<Vec<Base64>>,
}

impl SignedHead {
    /// `head.json`: canonical JSON and a newline.
    pub fn to_bytes(&self) -> Vec<u8> {
        let value = serde_json::to_value(self).unwrap_or_default();
        // A size beyond 2^53 has no canonical writing; no log gets there.
        let mut bytes = canonical(&value).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads what [`Self::to_bytes`] writes, and no other writing of it.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let head: Self = serde_json::from_slice(bytes).ok()?;
        (head.to_bytes() == bytes).then_some(head)
    }
}

impl Log {
    /// The proof of a leaf under the newest signed checkpoint, as a file. Verified before it is handed out.
    ///
    /// # Errors
    /// `unknown_leaf` when there is none, `leaf_pending` (busy) when no signed checkpoint covers it yet;
    /// `signing_key_replaced`; `proof_unverifiable`; `log_damaged`; the store's.
    pub fn prove(&self, choice: &LeafChoice) -> Result<String, Failure> {
        let store = &self.setup.store;
        let leaf = match choice {
            LeafChoice::Index(index) => store.leaves(*index, 1)?.into_iter().find(|leaf| leaf.index == Some(*index)),
            LeafChoice::Transaction(transaction) => store.leaf_of_transaction(transaction)?,
        };
        let leaf = leaf.ok_or_else(|| unknown_leaf(choice))?;
        let covered = match leaf.index {
            Some(index) => self.covering(index)?.map(|covering| (index, covering)),
            None => None,
        };
        let Some((index, (record, cosignature))) = covered else {
            return Err(Failure::busy(
                "leaf_pending",
                "no signed checkpoint covers this leaf yet",
                "ask again in a moment; `countersign doctor` tells when checkpoints are not signed",
            ));
        };
        let (note, chain) = self.signed(&record)?;
        let (salt, body) = known(leaf.content, || format!("leaf {index}"))?;
        let (note, witnesses) = with(note, cosignature, &record)?;
        let proof = LeafProof {
            index,
            salt,
            body: String::from_utf8(body).map_err(|_| damaged(format!("leaf {index} is not UTF-8 text")))?,
            path: self.inclusion(index, record.size)?,
            checkpoint: note,
            chain,
            witnesses,
        };
        let unverifiable = |why: String| {
            Failure::fault(
                "proof_unverifiable",
                format!("the proof of leaf {index} would not verify: {why}"),
                "run `countersign audit check` and see the certificates of the checkpoint role",
            )
        };
        let file = proof.compose().map_err(|refused| unverifiable(refused.to_string()))?;
        let root = proof.chain.last().map(Vec::as_slice).unwrap_or_default();
        match leaf_proof::verify(file.as_bytes(), root, &self.setup.oid_base) {
            Ok(_) => Ok(file),
            Err(refusal) => Err(unverifiable(format!("{}: {refusal}", refusal.name()))),
        }
    }

    /// The newest signed checkpoint with the certificates of its key. Where a witness cosigns, one that it has cosigned and
    /// that has all that is there now, if there is one before `within` is over.
    ///
    /// # Errors
    /// `log_empty`; `signing_key_replaced`; `log_damaged`; the store's.
    pub fn head(&self, within: Duration) -> Result<SignedHead, Failure> {
        let store = &self.setup.store;
        let newest = store.signed_checkpoint()?.ok_or_else(|| {
            Failure::refused("log_empty", "nothing was recorded and signed yet", "try again after the first decision")
        })?;
        let end = Instant::now() + within;
        let cosigned = loop {
            let seen = self.lock().progressed;
            let cosigned = self.cosigned()?.filter(|cosigned| cosigned.checkpoint.size >= newest.size);
            let left = end.saturating_duration_since(Instant::now());
            if cosigned.is_some() || self.setup.settings.witness_lag_max.limits().is_none() || left.is_zero() {
                break cosigned;
            }
            let wait = left.min(Self::RECHECK);
            drop(self.progress.wait_timeout_while(self.lock(), wait, |shared| shared.progressed == seen));
        };
        let (record, cosignature) = match cosigned {
            Some(CosignedCheckpoint { checkpoint, cosignature }) => (checkpoint, Some(cosignature)),
            None => (newest, None),
        };
        let (note, chain) = self.signed(&record)?;
        let (note, witnesses) = with(note, cosignature, &record)?;
        Ok(SignedHead {
            witnesses: witnesses.into_iter().map(|chain| chain.into_iter().map(Base64).collect()).collect(),
            origin: read_checkpoint(&record)?.origin,
            size: record.size,
            checkpoint: note.compose(),
            chain: chain.into_iter().map(Base64).collect(),
        })
    }

    /// The bytes of a tile that the newest signed checkpoint covers.
    ///
    /// # Errors
    /// `unknown_tile` beyond it; `log_damaged`; the store's.
    pub fn tile(&self, tile: Tile) -> Result<Vec<u8>, Failure> {
        let signed = self.setup.store.signed_checkpoint()?.map_or(0, |record| record.size);
        let is_covered = |level: u8, index: u64| signed.checked_shr(level.into()).is_some_and(|nodes| index < nodes);
        if tile.nodes().last().is_none_or(|last| !is_covered(last.level, last.index)) {
            return Err(Failure::refused(
                "unknown_tile",
                format!("the log of {signed} signed leaves has no {tile}"),
                "ask for the checkpoint first; it says what there is",
            ));
        }
        match tile.kind {
            TileKind::Hashes { .. } => {
                let hashes = self.of_nodes(|read| tile.nodes().map(read).collect::<Result<Vec<_>, _>>())?;
                Ok(hashes.iter().flat_map(|hash| hash.0).collect())
            }
            TileKind::Entries => self.entries(tile),
        }
    }

    fn entries(&self, tile: Tile) -> Result<Vec<u8>, Failure> {
        let places: Vec<u64> = tile.nodes().map(|leaf| leaf.index).collect();
        let first = places.first().copied().unwrap_or_default();
        let leaves: Vec<LeafRecord> = self.setup.store.leaves(first, tile.width.into())?;
        if !leaves.iter().map(|leaf| leaf.index).eq(places.into_iter().map(Some)) {
            return Err(damaged(format!("leaves of {tile} are missing from the store")));
        }
        let entries: Vec<Vec<u8>> = leaves.iter().map(|leaf| leaf_entry(&leaf.commitment)).collect();
        bundle(entries.iter().map(Vec::as_slice)).ok_or_else(|| damaged(format!("an entry of {tile} is too long")))
    }

    /// The note of a signed checkpoint, and the chain of the key that signed it.
    ///
    /// # Errors
    /// `signing_key_replaced`; `log_damaged`.
    pub fn signed(&self, record: &CheckpointRecord) -> Result<(SignedNote, Vec<Vec<u8>>), Failure> {
        let note = SignedNote::parse(record.signed.as_deref().unwrap_or_default())
            .map_err(|refused| damaged(format!("the signed checkpoint {} is unreadable: {refused}", record.size)))?;
        let origin = read_checkpoint(record)?.origin;
        let roles = self.roles();
        let role = roles.checkpoints().find(|role| note.verify(&origin, &role.key.spki).is_ok());
        let role =
            role.ok_or_else(|| super::issue::key_unknown("checkpoint", format!("checkpoint {}", record.size)))?;
        Ok((note, role.chain.clone()))
    }
}

/// The chains of the witnesses of a note.
type Witnesses = Vec<Vec<Vec<u8>>>;

/// A note with a witness's line behind the log's own.
fn with(
    mut note: SignedNote,
    cosignature: Option<Cosignature>,
    record: &CheckpointRecord,
) -> Result<(SignedNote, Witnesses), Failure> {
    let Some(Cosignature { line, chain }) = cosignature else {
        return Ok((note, vec![]));
    };
    let line = NoteSignature::parse(&line).map_err(|refused| {
        damaged(format!("the cosignature of checkpoint {} is unreadable: {refused}", record.size))
    })?;
    note.signatures.push(line);
    Ok((note, vec![chain]))
}

fn unknown_leaf(choice: &LeafChoice) -> Failure {
    let what = match choice {
        LeafChoice::Index(index) => format!("the log has no leaf {index}"),
        LeafChoice::Transaction(transaction) => format!("no leaf posted transaction {transaction}"),
    };
    Failure::refused("unknown_leaf", what, "see `countersign audit show` and `countersign transaction list`")
}
