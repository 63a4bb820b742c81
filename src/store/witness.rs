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
