//! Rebuilds the log from its leaves and compares everything that was stored or signed with the result.

use serde_json::{Value, json};

use super::{Log, damaged, read_checkpoint};
use crate::kernel::merkle::{Frontier, NodeId, leaf_hash};
use crate::kernel::note::SignedNote;
use crate::kernel::receipt::{commitment, leaf_entry};
use crate::kernel::types::Sha256;
use crate::ops::failure::Failure;
use crate::store::LeafContent;

/// Leaves that are read at once.
const PAGE_LEAVES: u32 = 1024;

impl Log {
    /// Rebuilds the tree from the stored leaves: each body and salt must give its commitment, each stored node the
    /// rebuilt one, and the root must be that of the newest signed checkpoint, whose signature must verify.
    ///
    /// Answers `{origin, leaves, signed_size, root, unsigned_leaves, waiting}`; reads every leaf once.
    ///
    /// # Errors
    /// `log_damaged` names the first thing that differs; the store's.
    pub fn check(&self) -> Result<Value, Failure> {
        // What is sequenced while the check runs is left for the next check.
        let signed = self.setup.store.signed_checkpoint()?;
        let signed_size = signed.as_ref().map_or(0, |record| record.size);
        let mut frontier = Frontier::empty();
        while frontier.size() < signed_size {
            let before = frontier.size();
            self.check_page(&mut frontier, signed_size)?;
            if frontier.size() == before {
                return Err(damaged(format!(
                    "the log ends at leaf {before}, the signed checkpoint covers {signed_size}"
                )));
            }
        }
        if let Some(record) = &signed {
            let checkpoint = read_checkpoint(record)?;
            if checkpoint.root != frontier.root() {
                return Err(damaged(format!("the leaves do not give the root that checkpoint {signed_size} signs")));
            }
            let note = SignedNote::parse(record.signed.as_deref().unwrap_or_default());
            let verified = note.and_then(|note| {
                let text_is_the_journalled_one = note.text.as_bytes() == record.note;
                let roles = self.roles();
                let earlier = roles.checkpoints().skip(1);
                let first = note.verify(&checkpoint.origin, &roles.checkpoint.key.spki);
                let by_any = earlier.fold(first, |verified, role| {
                    verified.or_else(|_| note.verify(&checkpoint.origin, &role.key.spki))
                });
                by_any.map(|()| text_is_the_journalled_one)
            });
            match verified {
                Ok(true) => {}
                Ok(false) => {
                    return Err(damaged(format!(
                        "checkpoint {signed_size} was signed with another text than journalled"
                    )));
                }
                Err(refused) => return Err(damaged(format!("the signature of checkpoint {signed_size}: {refused}"))),
            }
        }
        let newest = self.setup.store.newest_checkpoint()?.map_or(signed_size, |record| record.size);
        let waiting = self.setup.store.unsequenced(PAGE_LEAVES)?.len();
        Ok(json!({
            "origin": self.setup.settings.origin,
            "leaves": newest,
            "signed_size": signed_size,
            "root": frontier.root().hex(),
            "unsigned_leaves": newest.saturating_sub(signed_size),
            "waiting": waiting,
        }))
    }

    fn check_page(&self, frontier: &mut Frontier, end: u64) -> Result<(), Failure> {
        for leaf in self.setup.store.leaves(frontier.size(), PAGE_LEAVES)? {
            let index = frontier.size();
            if index == end {
                return Ok(());
            }
            if leaf.index != Some(index) {
                return Err(damaged(format!("leaf {index} is missing from the store")));
            }
            match &leaf.content {
                LeafContent::Known { salt, body } if commitment(salt, body) == leaf.commitment => {}
                LeafContent::Known { .. } => {
                    return Err(damaged(format!("the body of leaf {index} is not the one that was committed to")));
                }
                // Its commitment is in the tree all the same.
                LeafContent::Erased => {}
                LeafContent::Damaged(why) => return Err(damaged(format!("leaf {index} does not open: {why}"))),
            }
            let mut completed: Vec<(NodeId, Sha256)> = Vec::new();
            frontier.append(leaf_hash(&leaf_entry(&leaf.commitment)), |level, index, hash| {
                completed.push((NodeId { level, index }, hash));
            });
            for (node, hash) in completed {
                if self.node(node)? != hash {
                    return Err(damaged(format!("tree node {}/{} is not that of the leaves", node.level, node.index)));
                }
            }
        }
        Ok(())
    }
}
