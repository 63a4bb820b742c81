//! The log rebuilt: every leaf, every stored node, every checkpoint, each against all others.
//!
//! Leaves and nodes are read in order by one thread and judged by another. A record that somebody changed is named
//! alone: what stands above a wrong leaf is compared with the tree that was stored, so that one change is one finding and
//! not a path of them, unless everything above it was made to fit; then it is the signed root that differs.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, sync_channel};

use super::{Findings, PAGE_LEAVES, Wrong};
use crate::audit::{Log, LogRoles};
use crate::kernel::merkle::{Frontier, leaf_hash, node_hash};
use crate::kernel::note::{Checkpoint, SignedNote};
use crate::kernel::receipt::{commitment, leaf_entry};
use crate::kernel::types::Sha256;
use crate::ops::failure::Failure;
use crate::store::{CheckpointRecord, LeafContent, LeafRecord};

/// Pages that wait for the thread that judges them.
const PAGES_WAITING: usize = 4;

pub(super) const IN_THE_CLEAR: &str =
    "it lies in the clear, and leaves before it are sealed: whoever wrote it has not got the store's keys";

/// What was found out about the tree.
pub(super) struct Rebuilt {
    pub findings: Findings,
    /// Leaves that are there.
    pub size: u64,
    pub root: Sha256,
    /// Leaves whose body is gone for good: their places are still proven.
    pub erased: u64,
    pub checkpoints: u64,
    /// The root of the first leaves that somebody's copy has, if the log has so many.
    pub root_at: Option<Sha256>,
}

/// Leaves and all that became complete with them.
struct Page {
    from: u64,
    to: u64,
    leaves: Vec<LeafRecord>,
    nodes: HashMap<(u8, u64), Sha256>,
    checkpoints: Vec<CheckpointRecord>,
}

/// Rebuilds the first `end` leaves; `heed` sees every leaf that is what it commits to.
///
/// # Errors
/// The store's.
pub(super) fn rebuild(
    log: &Log,
    end: u64,
    root_at: Option<u64>,
    heed: impl FnMut(&LeafRecord) + Send,
    progress: &mut dyn FnMut(u64),
) -> Result<Rebuilt, Failure> {
    let roles = log.roles();
    let judge = Judge {
        origin: &log.setup.settings.origin,
        roles: &roles,
        newest: end,
        root_at,
        frontier: Frontier::empty(),
        rebuilt: Rebuilt {
            findings: Findings::default(),
            size: 0,
            root: Sha256::of(&[]),
            erased: 0,
            checkpoints: 0,
            root_at: (root_at == Some(0)).then(|| Sha256::of(&[])),
        },
        heed,
    };
    std::thread::scope(|scope| {
        let (pages, arriving) = sync_channel(PAGES_WAITING);
        let judging = scope.spawn(move || judge.all(&arriving));
        let mut from = 0;
        while from < end {
            let page = read(log, from, end)?;
            from = page.to;
            let is_end = page.leaves.is_empty() && page.nodes.is_empty();
            if is_end || pages.send(page).is_err() {
                break;
            }
            progress(from);
        }
        drop(pages);
        judging.join().map_err(|_| Failure::fault("check_failed", "the check ended early", "report this as a defect"))
    })
}

fn read(log: &Log, from: u64, end: u64) -> Result<Page, Failure> {
    let store = &log.setup.store;
    let to = end.min(from + u64::from(PAGE_LEAVES));
    let mut leaves = store.leaves(from, PAGE_LEAVES)?;
    leaves.retain(|leaf| leaf.index.is_some_and(|index| index < to));
    let mut nodes = HashMap::with_capacity(2 * PAGE_LEAVES as usize);
    for level in 0..u64::BITS as u8 {
        let (first, last) = (from >> level, to >> level);
        if first == last {
            continue;
        }
        let count = u32::try_from(last - first).unwrap_or(PAGE_LEAVES);
        let found = store.tree_nodes(level, first, count)?;
        nodes.extend(found.into_iter().filter(|(at, _)| *at < last).map(|(at, hash)| ((level, at), hash)));
    }
    let mut checkpoints = store.checkpoints(from + 1, PAGE_LEAVES)?;
    checkpoints.retain(|record| record.size <= to);
    Ok(Page { from, to, leaves, nodes, checkpoints })
}

struct Judge<'a, H> {
    origin: &'a str,
    roles: &'a LogRoles,
    newest: u64,
    root_at: Option<u64>,
    frontier: Frontier,
    rebuilt: Rebuilt,
    heed: H,
}

impl<H: FnMut(&LeafRecord)> Judge<'_, H> {
    fn all(mut self, arriving: &Receiver<Page>) -> Rebuilt {
        while let Ok(page) = arriving.recv() {
            self.page(&page);
        }
        self.rebuilt.root = self.frontier.root();
        self.rebuilt
    }

    fn page(&mut self, page: &Page) {
        let mut leaves = page.leaves.iter().peekable();
        let mut checkpoints = page.checkpoints.iter().peekable();
        for place in page.from..page.to {
            let stored = page.nodes.get(&(0, place)).copied();
            let leaf = leaves.next_if(|leaf| leaf.index == Some(place));
            let Some(hash) = self.leaf(page, place, leaf, stored) else {
                // Neither leaf nor node: nothing above this place can be made.
                return;
            };
            self.rebuilt.size = place + 1;
            let findings = &mut self.rebuilt.findings;
            self.frontier.append(hash, |level, at, hash| {
                if level == 0 {
                    return;
                }
                match page.nodes.get(&(level, at)) {
                    Some(stored) if *stored == hash => {}
                    Some(_) => findings.add(
                        Wrong::NodeDiffers,
                        format!("{level}/{at}"),
                        "it is not the hash of the two nodes below it",
                    ),
                    None => findings.add(Wrong::NodeMissing, format!("{level}/{at}"), "it is not in the store"),
                }
            });
            if self.root_at == Some(place + 1) {
                self.rebuilt.root_at = Some(self.frontier.root());
            }
            while let Some(record) = checkpoints.next_if(|record| record.size == place + 1) {
                self.checkpoint(record);
            }
        }
    }

    /// The hash that this place has in the tree.
    fn leaf(&mut self, page: &Page, place: u64, leaf: Option<&LeafRecord>, stored: Option<Sha256>) -> Option<Sha256> {
        let findings = &mut self.rebuilt.findings;
        let Some(leaf) = leaf else {
            if stored.is_some() {
                findings.add(Wrong::LeafMissing, place, "the log has a place here and the store no leaf");
            }
            return stored;
        };
        let hash = leaf_hash(&leaf_entry(&leaf.commitment));
        let is_committed = match &leaf.content {
            LeafContent::Known { salt, body } => commitment(salt, body) == leaf.commitment,
            LeafContent::Erased => {
                self.rebuilt.erased += 1;
                true
            }
            LeafContent::Unsealed | LeafContent::Damaged(_) => false,
        };
        match &leaf.content {
            LeafContent::Unsealed => findings.add(Wrong::LeafInTheClear, place, IN_THE_CLEAR),
            LeafContent::Damaged(why) => {
                findings.add(Wrong::LeafNotCommitted, place, format!("what the leaf commits to does not open: {why}"));
            }
            LeafContent::Known { .. } | LeafContent::Erased if !is_committed => {
                findings.add(Wrong::LeafNotCommitted, place, "body and salt are not those that the leaf commits to");
            }
            LeafContent::Known { .. } | LeafContent::Erased => {}
        }
        let Some(stored) = stored else {
            findings.add(Wrong::NodeMissing, format!("0/{place}"), "it is not in the store");
            (self.heed)(leaf);
            return Some(hash);
        };
        if hash == stored {
            if is_committed {
                (self.heed)(leaf);
            }
            return Some(stored);
        }
        // One of the two is wrong. The node above was made of the other one.
        let pair = |own: &Sha256| {
            let other = page.nodes.get(&(0, place ^ 1))?;
            let (left, right) = if place & 1 == 0 { (own, other) } else { (other, own) };
            Some(node_hash(left, right))
        };
        let above = page.nodes.get(&(1, place >> 1));
        if is_committed && above.is_some() && pair(&hash).as_ref() == above {
            findings.add(Wrong::NodeDiffers, format!("0/{place}"), "it is not the hash of its leaf");
            (self.heed)(leaf);
            return Some(hash);
        }
        let elsewhere = page.nodes.iter().find(|((level, _), node)| *level == 0 && **node == hash);
        match elsewhere {
            Some(((_, other), _)) => {
                findings.add(Wrong::LeafMoved, place, format!("the leaf here is the one that was recorded at {other}"));
            }
            None if is_committed => {
                findings.add(Wrong::LeafNotInTree, place, "another leaf was recorded here and signed");
            }
            // Said already: neither body nor commitment is what it was.
            None => findings.add(Wrong::LeafNotInTree, place, "the commitment is not the one that was recorded"),
        }
        Some(stored)
    }

    fn checkpoint(&mut self, record: &CheckpointRecord) {
        self.rebuilt.checkpoints += 1;
        if let Err((name, message)) = self.judged(record) {
            self.rebuilt.findings.add(name, record.size, message);
        }
    }

    fn judged(&self, record: &CheckpointRecord) -> Result<(), (Wrong, String)> {
        let unreadable = |why: String| (Wrong::CheckpointUnreadable, why);
        let text = std::str::from_utf8(&record.note).map_err(|_| unreadable("its text is not UTF-8".into()))?;
        let said = Checkpoint::parse(text).map_err(|refused| unreadable(refused.to_string()))?;
        if said.size != record.size || said.root != record.root {
            return Err((Wrong::CheckpointColumnsDiffer, "size and root stand otherwise in its own text".into()));
        }
        if said.origin != self.origin {
            return Err((Wrong::CheckpointOriginDiffers, format!("it is of the log {:?}", said.origin)));
        }
        match &record.signed {
            Some(signed) => {
                let note = SignedNote::parse(signed).map_err(|refused| unreadable(refused.to_string()))?;
                if note.text != text {
                    return Err((Wrong::CheckpointTextDiffers, "another text was signed than the one kept".into()));
                }
                let by_any = self.roles.checkpoints().any(|role| note.verify(&said.origin, &role.key.spki).is_ok());
                if !by_any {
                    let why = "no checkpoint key of this party has signed it";
                    return Err((Wrong::CheckpointSignatureInvalid, why.into()));
                }
            }
            None if record.size < self.newest => {
                let why = "a later one is there, and each is signed before the next";
                return Err((Wrong::CheckpointSignatureMissing, why.into()));
            }
            None => {}
        }
        if said.root != self.frontier.root() {
            let why = "the leaves do not give the root that it signs: the log was rewritten";
            return Err((Wrong::CheckpointRootDiffers, why.into()));
        }
        Ok(())
    }
}
