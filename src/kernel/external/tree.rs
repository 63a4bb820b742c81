//! Many items, one signature: the tree of RFC 9162 over their digests, its signed root, and the proof of each item.
//!
//! An item is the 32 bytes of a SHA-256 of whatever the caller has; its leaf is the hash of RFC 9162, 2.1.1 over them.

use serde::{Deserialize, Serialize};

use super::jws::{JwsRefusal, verify_kind};
use super::{ExternalKind, PublicKey};
use crate::kernel::canon::{self, CanonRefused};
use crate::kernel::merkle;
use crate::kernel::types::Sha256;

/// Hashes on the way from a leaf to the root of the largest tree: 2^32 leaves.
const PATH_MAX: usize = 32;

/// What is signed of a tree.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootStatement {
    pub root: Sha256,
    pub schema: String,
    /// Leaves, as a decimal string.
    pub size: String,
}

impl RootStatement {
    pub const SCHEMA: &'static str = "countersign/merkle-root/v1";

    fn canonical(&self) -> Result<Vec<u8>, CanonRefused> {
        canon::canonical_of(self)
    }

    /// Reads canonical bytes back. `None`: it is not the statement of a root.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let read: Self = serde_json::from_slice(bytes).ok()?;
        let size_fits = read.size.parse::<u64>().is_ok_and(|size| size > 0 && size.to_string() == read.size);
        (read.schema == Self::SCHEMA && size_fits && read.canonical().ok()? == bytes).then_some(read)
    }
}

/// The tree over a batch of items.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tree {
    /// Every level from the leaves up; a last one without a neighbour goes up as it is, which is the tree of RFC 9162.
    levels: Vec<Vec<Sha256>>,
}

impl Tree {
    /// Over these items, in their order. `None`: there are none.
    pub fn of(items: &[Sha256]) -> Option<Self> {
        let mut level: Vec<Sha256> = items.iter().map(|item| merkle::leaf_hash(&item.0)).collect();
        if level.is_empty() {
            return None;
        }
        let mut levels = vec![];
        while level.len() > 1 {
            let above = level.chunks(2).map(|pair| match pair {
                [left, right] => merkle::node_hash(left, right),
                single => single[0],
            });
            let above: Vec<Sha256> = above.collect();
            levels.push(std::mem::replace(&mut level, above));
        }
        levels.push(level);
        Some(Self { levels })
    }

    pub fn size(&self) -> u64 {
        self.levels[0].len() as u64
    }

    pub fn root(&self) -> Sha256 {
        self.levels[self.levels.len() - 1][0]
    }

    /// What is signed.
    ///
    /// # Errors
    /// [`CanonRefused`], which a statement does not meet.
    pub fn statement(&self) -> Result<Vec<u8>, CanonRefused> {
        let schema = RootStatement::SCHEMA.into();
        RootStatement { root: self.root(), schema, size: self.size().to_string() }.canonical()
    }

    /// Audit path of an item, leaf to root (RFC 9162, 2.1.3.1).
    pub fn path(&self, index: usize) -> Vec<Sha256> {
        let mut path = vec![];
        let mut at = index;
        for level in &self.levels {
            if let Some(neighbour) = level.get(at ^ 1) {
                path.push(*neighbour);
            }
            at /= 2;
        }
        path
    }
}

/// An item's place in a signed tree: with the key, all that a verifier needs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeafProof {
    /// SHA-256 of the caller's item.
    pub sha256: Sha256,
    pub index: u64,
    pub size: u64,
    /// From the leaf's neighbour up.
    pub path: Vec<Sha256>,
    /// The signed root, a JWS.
    pub root: String,
}

/// Why a proof does not show that an item was signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProofRefusal {
    #[error("the signed root: {0}")]
    Root(JwsRefusal),
    #[error("the proof is for a tree of another size than the one that was signed")]
    Size,
    #[error("the item is not in the tree at this place")]
    NotIncluded,
}

impl ProofRefusal {
    pub fn name(self) -> &'static str {
        match self {
            Self::Root(refusal) => refusal.name(),
            Self::Size => "proof_size",
            Self::NotIncluded => "proof_not_included",
        }
    }
}

/// Verifies that this key signed a tree that has the item at its place.
///
/// # Errors
/// The first [`ProofRefusal`] in order of precedence.
pub fn verify_proof(proof: &LeafProof, key: &PublicKey) -> Result<(), ProofRefusal> {
    let signed = verify_kind(&proof.root, key, ExternalKind::Batch).map_err(ProofRefusal::Root)?;
    let root = RootStatement::read(signed.payload()).ok_or(ProofRefusal::Root(JwsRefusal::Payload))?;
    if root.size != proof.size.to_string() {
        return Err(ProofRefusal::Size);
    }
    let leaf = merkle::leaf_hash(&proof.sha256.0);
    let included = proof.path.len() <= PATH_MAX
        && merkle::verify_inclusion(&leaf, proof.index, proof.size, &proof.path, &root.root);
    if included { Ok(()) } else { Err(ProofRefusal::NotIncluded) }
}
