//! What the check of a log finds: each with a name that stays, the record it is about, and what is wrong with it.

use serde::Serialize;

/// Findings that are told; more are only counted.
const FINDINGS_MAX: usize = 100;

/// What is wrong. `docs/AUDIT.md` says what each means.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    // The log
    LeafMissing,
    LeafNotCommitted,
    LeafInTheClear,
    LeafMoved,
    LeafNotInTree,
    LeafBeyondCheckpoint,
    KeyDestroyedWithoutLeaf,
    ErasureUndone,
    NodeMissing,
    NodeDiffers,
    NodeTooMany,
    CheckpointUnreadable,
    CheckpointColumnsDiffer,
    CheckpointOriginDiffers,
    CheckpointTextDiffers,
    CheckpointSignatureMissing,
    CheckpointSignatureInvalid,
    CheckpointRootDiffers,
    LogTruncated,
    // What witnesses have signed
    CosignatureUnreadable,
    CosignatureWithoutCheckpoint,
    CosignatureInvalid,
    CosignatureOfAnother,
    // A copy
    CopyForked,
    CopyLonger,
    // What the bank's transaction key has signed
    BatchDocumentDiffers,
    BatchKeyUnknown,
    BatchSignatureInvalid,
    // The book against the log
    PostingWithoutLeaf,
    PostingLeafDiffers,
    PostingNotInBatch,
    StatementDiffers,
    LeafWithoutTransaction,
    LeafWithoutPosting,
    HoldWithoutLeaf,
    AmountDiffers,
    TermsDiffer,
    PostingWithoutApproval,
    StatusDiffers,
    // The vault against the log
    VaultRowDiffers,
}

impl Wrong {
    pub const ALL: [Self; 40] = [
        Self::LeafMissing,
        Self::LeafNotCommitted,
        Self::LeafInTheClear,
        Self::LeafMoved,
        Self::LeafNotInTree,
        Self::LeafBeyondCheckpoint,
        Self::KeyDestroyedWithoutLeaf,
        Self::ErasureUndone,
        Self::NodeMissing,
        Self::NodeDiffers,
        Self::NodeTooMany,
        Self::CheckpointUnreadable,
        Self::CheckpointColumnsDiffer,
        Self::CheckpointOriginDiffers,
        Self::CheckpointTextDiffers,
        Self::CheckpointSignatureMissing,
        Self::CheckpointSignatureInvalid,
        Self::CheckpointRootDiffers,
        Self::LogTruncated,
        Self::CosignatureUnreadable,
        Self::CosignatureWithoutCheckpoint,
        Self::CosignatureInvalid,
        Self::CosignatureOfAnother,
        Self::CopyForked,
        Self::CopyLonger,
        Self::BatchDocumentDiffers,
        Self::BatchKeyUnknown,
        Self::BatchSignatureInvalid,
        Self::PostingWithoutLeaf,
        Self::PostingLeafDiffers,
        Self::PostingNotInBatch,
        Self::StatementDiffers,
        Self::LeafWithoutTransaction,
        Self::LeafWithoutPosting,
        Self::HoldWithoutLeaf,
        Self::AmountDiffers,
        Self::TermsDiffer,
        Self::PostingWithoutApproval,
        Self::StatusDiffers,
        Self::VaultRowDiffers,
    ];

    /// The stable name, as it is written in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::LeafMissing => "leaf_missing",
            Self::LeafNotCommitted => "leaf_not_committed",
            Self::LeafInTheClear => "leaf_in_the_clear",
            Self::LeafMoved => "leaf_moved",
            Self::LeafNotInTree => "leaf_not_in_tree",
            Self::LeafBeyondCheckpoint => "leaf_beyond_checkpoint",
            Self::KeyDestroyedWithoutLeaf => "key_destroyed_without_leaf",
            Self::ErasureUndone => "erasure_undone",
            Self::NodeMissing => "node_missing",
            Self::NodeDiffers => "node_differs",
            Self::NodeTooMany => "node_too_many",
            Self::CheckpointUnreadable => "checkpoint_unreadable",
            Self::CheckpointColumnsDiffer => "checkpoint_columns_differ",
            Self::CheckpointOriginDiffers => "checkpoint_origin_differs",
            Self::CheckpointTextDiffers => "checkpoint_text_differs",
            Self::CheckpointSignatureMissing => "checkpoint_signature_missing",
            Self::CheckpointSignatureInvalid => "checkpoint_signature_invalid",
            Self::CheckpointRootDiffers => "checkpoint_root_differs",
            Self::LogTruncated => "log_truncated",
            Self::CosignatureUnreadable => "cosignature_unreadable",
            Self::CosignatureWithoutCheckpoint => "cosignature_without_checkpoint",
            Self::CosignatureInvalid => "cosignature_invalid",
            Self::CosignatureOfAnother => "cosignature_of_another",
            Self::CopyForked => "copy_forked",
            Self::CopyLonger => "copy_longer",
            Self::BatchDocumentDiffers => "batch_document_differs",
            Self::BatchKeyUnknown => "batch_key_unknown",
            Self::BatchSignatureInvalid => "batch_signature_invalid",
            Self::PostingWithoutLeaf => "posting_without_leaf",
            Self::PostingLeafDiffers => "posting_leaf_differs",
            Self::PostingNotInBatch => "posting_not_in_batch",
            Self::StatementDiffers => "statement_differs",
            Self::LeafWithoutTransaction => "leaf_without_transaction",
            Self::LeafWithoutPosting => "leaf_without_posting",
            Self::HoldWithoutLeaf => "hold_without_leaf",
            Self::AmountDiffers => "amount_differs",
            Self::TermsDiffer => "terms_differ",
            Self::PostingWithoutApproval => "posting_without_approval",
            Self::StatusDiffers => "status_differs",
            Self::VaultRowDiffers => "vault_row_differs",
        }
    }
}

/// One record that is not as it must be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    pub name: Wrong,
    /// A leaf's place, a node, a checkpoint's size, a batch, a transaction.
    pub on: String,
    pub message: String,
}

/// The first ones, and how many there are.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Findings {
    pub told: Vec<Finding>,
    pub found: u64,
}

impl Findings {
    pub fn add(&mut self, name: Wrong, on: impl ToString, message: impl Into<String>) {
        self.found += 1;
        if self.told.len() < FINDINGS_MAX {
            self.told.push(Finding { name, on: on.to_string(), message: message.into() });
        }
    }

    pub fn join(&mut self, other: Self) {
        let room = FINDINGS_MAX.saturating_sub(self.told.len());
        self.found += other.found;
        self.told.extend(other.told.into_iter().take(room));
    }
}
