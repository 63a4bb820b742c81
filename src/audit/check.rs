//! Rebuilds the log from its leaves and compares everything that was stored or signed with the result: the tree, the
//! checkpoints, the batches of payments, the book itself, and the vault.

mod book;
mod cosigned;
mod finding;
mod keys;
mod told;
mod tree;
mod vault;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use finding::{Finding, Findings, Wrong};

use super::{Log, damaged};
use crate::kernel::types::Sha256;
use crate::ops::failure::Failure;
use crate::store::{LeafContent, LeafRecord};
use told::Told;

/// Leaves that are read at once.
const PAGE_LEAVES: u32 = 1024;

/// The head of somebody's copy: the log must begin with it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyHead {
    pub size: u64,
    pub root: Sha256,
}

/// What a check has found.
#[derive(Clone, PartialEq, Debug)]
pub struct Examined {
    pub findings: Findings,
    /// `{origin, leaves, signed_size, root, unsigned_leaves, waiting, erased, checkpoints, cosignatures, batches,
    /// transactions, postings}`
    pub counted: Value,
}

impl Examined {
    /// For the wire: what was counted, `sound`, `findings_found` and the first `findings`.
    pub fn to_json(&self) -> Value {
        let mut value = self.counted.clone();
        value["sound"] = json!(self.findings.found == 0);
        value["findings_found"] = json!(self.findings.found);
        value["findings"] = json!(self.findings.told);
        value
    }
}

impl Log {
    /// [`Self::examine`], for whoever only wants to know that all is well.
    ///
    /// # Errors
    /// `log_damaged` names the first finding; the store's.
    pub fn check(&self) -> Result<Value, Failure> {
        let examined = self.examine(None, &mut |_| {})?;
        match examined.findings.told.first() {
            None => Ok(examined.to_json()),
            Some(first) => {
                let (name, more) = (first.name.name(), examined.findings.found - 1);
                Err(damaged(format!("{name} on {}: {}; {more} more", first.on, first.message)))
            }
        }
    }

    /// Rebuilds the tree from the stored leaves: each body and salt must give its commitment, each stored node be that of
    /// the nodes below it, each checkpoint sign the root of its size, each cosignature be of its checkpoint. Then each batch must be signed over its statements,
    /// and each transaction be what its leaves say, and the reverse. A copy's head must be a beginning of this log.
    ///
    /// Reads every leaf and every transaction once, in order; memory grows by some 200 bytes a transaction. What comes in
    /// meanwhile is left for the next check.
    ///
    /// # Errors
    /// The store's. What is wrong is no error: it is among the findings.
    pub fn examine(&self, copy: Option<&CopyHead>, progress: &mut dyn FnMut(Value)) -> Result<Examined, Failure> {
        self.examine_witnessed(copy, None, progress)
    }

    /// The same, where the roots are known (DER) of those whose witnesses may cosign: what leads to no such root is found,
    /// too.
    ///
    /// # Errors
    /// The store's.
    pub fn examine_witnessed(
        &self,
        copy: Option<&CopyHead>,
        witness_roots: Option<&[Vec<u8>]>,
        progress: &mut dyn FnMut(Value),
    ) -> Result<Examined, Failure> {
        let store = &self.setup.store;
        // In this order: whatever is counted here has its checkpoint.
        let destroyed = store.destroyed_keys()?;
        let extent = store.log_extent()?;
        let signed_size = store.signed_checkpoint()?.map_or(0, |record| record.size);
        let size = store.newest_checkpoint()?.map_or(0, |record| record.size);
        let mut told = Told::default();
        let copied = copy.map(|copy| copy.size);
        let heed = |leaf: &LeafRecord| told.heed(leaf);
        let rebuilt = tree::rebuild(self, size, copied, heed, &mut |leaves| {
            progress(json!({ "rows": leaves, "of": "leaves" }));
        })?;
        let mut findings = rebuilt.findings;
        if rebuilt.size < size {
            let ends = rebuilt.size;
            match store.leaves(ends, 1)?.first() {
                Some(_) => findings.add(Wrong::LeafMissing, ends, "the log has a place here and the store no leaf"),
                None => {
                    let why = format!("the log ends here, and its newest checkpoint covers {size} leaves");
                    findings.add(Wrong::LogTruncated, ends, why);
                }
            }
        }
        if let Some(extent) = extent {
            // A tree of n leaves has 2n complete subtrees, less one for each peak.
            let nodes = (2 * size).saturating_sub(u64::from(size.count_ones()));
            if extent.placed > size {
                let why = format!("{} leaves have a place, no checkpoint covers more than {size}", extent.placed);
                findings.add(Wrong::LeafBeyondCheckpoint, size, why);
            }
            if extent.nodes > nodes {
                let why = format!("the store has {} nodes, a tree of {size} leaves {nodes}", extent.nodes);
                findings.add(Wrong::NodeTooMany, size, why);
            }
        }
        if let Some(copy) = copy {
            match rebuilt.root_at {
                Some(root) if root == copy.root => {}
                Some(_) => {
                    let why = "the log does not begin with the leaves that the copy has";
                    findings.add(Wrong::CopyForked, copy.size, why);
                }
                None => {
                    let why = format!("the copy has more leaves than the log, which has {}", rebuilt.size);
                    findings.add(Wrong::CopyLonger, copy.size, why);
                }
            }
        }
        let cosigned = cosigned::verify(self, size, witness_roots, progress)?;
        findings.join(cosigned.findings);
        let gone = book::Gone { erased: rebuilt.erased, destroyed };
        findings.join(vault::compare(self, told.vault(), size, &gone, progress)?);
        let book = book::compare(self, told, size, gone, progress)?;
        findings.join(book.findings);
        let waiting = store.unsequenced(PAGE_LEAVES)?;
        for leaf in waiting.iter().filter(|leaf| leaf.content == LeafContent::Unsealed) {
            findings.add(Wrong::LeafInTheClear, format!("row {}", leaf.row), tree::IN_THE_CLEAR);
        }
        let counted = json!({
            "origin": self.setup.settings.origin,
            "leaves": size,
            "signed_size": signed_size,
            "root": rebuilt.root.hex(),
            "unsigned_leaves": size.saturating_sub(signed_size),
            "waiting": waiting.len(),
            "erased": rebuilt.erased,
            "checkpoints": rebuilt.checkpoints,
            "cosignatures": cosigned.cosignatures,
            "batches": book.batches,
            "transactions": book.transactions,
            "postings": book.postings,
        });
        Ok(Examined { findings, counted })
    }
}
