//! Many items under one signature: a Merkle tree over them, a proof for each, one signature over the root.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use super::stop::Stop;
use super::{Running, load};
use crate::hsm::Token;
use crate::kernel::merkle::{self, Frontier, NodeId};
use crate::kernel::types::Sha256;
use crate::ops::failure::Failure;

const ITEM_BYTES: usize = 256;

/// Items a second with trees, proofs and signatures.
///
/// # Errors
/// The first fault of a signature, or `bench_stopped`.
pub fn items_a_second(
    token: Arc<dyn Token>,
    running: &Running,
    items: usize,
    callers: u32,
    time: Duration,
    stop: &Stop,
) -> Result<f64, Failure> {
    let speed = load::repeat(callers, time, stop, |caller, number| {
        let number = u64::from(caller) << 40 | number;
        let root = tree(items, number);
        token.sign(running.key, running.kind.input(u64::from(root.0[0]) << 56 | number)).map(|_| ())
    })?;
    Ok(speed.rate() * items as f64)
}

/// Items a second when nothing is signed, on all processors: no batch can be faster.
///
/// # Errors
/// `bench_stopped`.
pub fn hash_limit(items: usize, time: Duration, stop: &Stop) -> Result<f64, Failure> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let speed = load::repeat(u32::try_from(processors).unwrap_or(1), time, stop, |caller, number| {
        black_box(tree(items, u64::from(caller) << 40 | number));
        Ok::<_, Failure>(())
    })?;
    Ok(speed.rate() * items as f64)
}

/// The root over fresh items, with the proof of each item built.
fn tree(items: usize, number: u64) -> Sha256 {
    let mut item = [0; ITEM_BYTES];
    item[..8].copy_from_slice(&number.to_be_bytes());
    let mut levels: BTreeMap<u8, Vec<Sha256>> = BTreeMap::new();
    let mut frontier = Frontier::empty();
    for place in 0..items as u64 {
        item[8..16].copy_from_slice(&place.to_be_bytes());
        let leaf = merkle::leaf_hash(&item);
        frontier.append(leaf, |level, _, hash| levels.entry(level).or_default().push(hash));
    }
    let levels: Vec<Vec<Sha256>> = levels.into_values().collect();
    for place in 0..items as u64 {
        let read = |node: NodeId| {
            let index = usize::try_from(node.index).unwrap_or(usize::MAX);
            Ok::<_, Infallible>(levels[usize::from(node.level)][index])
        };
        let path = merkle::inclusion_path_from(place, items as u64, read).unwrap_or_else(|never| match never {});
        black_box(path);
    }
    frontier.root()
}
