//! What a witness has said of a checkpoint of ours, as the store keeps it beside the checkpoint.

use super::CheckpointRecord;

/// A witness's signature line over a checkpoint that is stored here, and the certificates of its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cosignature {
    /// `— <name> base64(…)` (C2SP tlog-cosignature).
    pub line: String,
    /// DER: the witness key's certificate, issuing CA, root.
    pub chain: Vec<Vec<u8>>,
}

/// A signed checkpoint that a witness has cosigned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CosignedCheckpoint {
    pub checkpoint: CheckpointRecord,
    pub cosignature: Cosignature,
}

/// A cosignature as its row has it, for the check of the log, which believes nothing of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredCosignature {
    /// The checkpoint's.
    pub size: u64,
    pub line: String,
    /// As [`Cosignature::chain`]. None: it is not there, or cannot be read.
    pub chain: Option<Vec<Vec<u8>>>,
    /// The text of the signed checkpoint of this size. None: there is no such one.
    pub note: Option<Vec<u8>>,
}
