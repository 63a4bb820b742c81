//! What the daemon's sequencer and signer ask of a store, without a token: places in the tree, signatures over batches.

use countersign::kernel::command::{Act, Actor, Command, Stamp};
use countersign::kernel::merkle::{Frontier, leaf_hash};
use countersign::kernel::receipt::leaf_entry;
use countersign::kernel::types::{Sha256, UnixMillis};
use countersign::ops::clock;
use countersign::store::{CheckpointRecord, SequenceStep, Store, StoreFault};

use crate::chance::Chance;

const LEAVES: u32 = 64;
const BATCHES: u32 = 16;

/// Finishes what the newest checkpoint and the oldest batches wait for, then places the next leaves.
pub fn advance(store: &dyn Store, chance: &mut Chance, wall: UnixMillis) -> Result<(), StoreFault> {
    for waiting in store.unsigned_batches(BATCHES)? {
        let request_id = chance.id("req_").parse().expect("a ULID");
        let (boot_ms, leaf_salt) = (clock::boot_ms(), chance.bytes());
        let stamp = Stamp { request_id, wall, boot_ms, leaf_salt, nonce: None, signature: None, commit_before: None };
        let (signature, key) = (Sha256::of(&[&waiting.document]).0.to_vec(), Sha256([1; 32]));
        let act = Act::SignBatch { batch: waiting.batch, signature, key };
        store.apply(vec![Command { stamp, actor: Actor::System { component: "load".into() }, act }])?;
    }
    let newest = store.newest_checkpoint()?;
    if let Some(unsigned) = newest.as_ref().filter(|record| record.signed.is_none()) {
        store.store_signed_checkpoint(unsigned.size, unsigned.note.clone())?;
    }
    let leaves = store.unsequenced(LEAVES)?;
    if leaves.is_empty() {
        return Ok(());
    }
    let size_before = newest.map_or(0, |record| record.size);
    let missing = || StoreFault::NotRecorded("a node of the tree is missing".into());
    let mut frontier = Frontier::load(size_before, |node| store.node(node.level, node.index)?.ok_or_else(missing))?;
    let mut nodes = vec![];
    for leaf in &leaves {
        let hash = leaf_hash(&leaf_entry(&leaf.commitment));
        frontier.append(hash, |level, index, hash| nodes.push((level, index, hash)));
    }
    let (size, root) = (frontier.size(), frontier.root());
    let checkpoint = CheckpointRecord { size, root, note: root.0.to_vec(), signed: None };
    store.sequence(SequenceStep { size_before, rows: leaves.iter().map(|leaf| leaf.row).collect(), nodes, checkpoint })
}
