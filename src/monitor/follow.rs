//! How the monitor gets to know the log: a window of it at the start, then every leaf that comes.

use super::{Order, Watch};
use crate::kernel::monitor::{Assessment, Told, What};
use crate::kernel::types::UnixMillis;
use crate::store::{LeafRecord, Store, StoreFault};

/// Leaves that are read at once.
const PAGE_LEAVES: u32 = 512;
/// Between two looks at what waits while the log stands still, and pages of one.
const STILL_LOOKS: u32 = 10;
const WAITING_PAGES_MAX: u32 = 200;
const DAY_MS: i64 = 86_400_000;

/// How far a start is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    pub leaves: u64,
    pub of: u64,
}

/// Whether leaves were taken in by who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Learnt {
    Now,
    /// Somebody else has read on meanwhile.
    Before,
}

impl Watch {
    /// Reads the window of the log that ends now. Before it nothing is known, and after it everything is.
    ///
    /// # Errors
    /// The store's.
    pub fn catch_up(
        &self,
        store: &dyn Store,
        now: UnixMillis,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), StoreFault> {
        let size = store.newest_checkpoint()?.map_or(0, |checkpoint| checkpoint.size);
        let since = now.plus_ms(-DAY_MS * i64::from(self.settings.window_days));
        let least = size.saturating_sub(u64::from(self.settings.window_leaves));
        let from = first_since(store, least, size, since)?;
        {
            let mut shared = self.lock();
            (shared.from, shared.seen) = (from, from);
        }
        while self.page(store)? {
            progress(Progress { leaves: self.lock().seen - from, of: size.saturating_sub(from) });
        }
        self.look_ahead(store)
    }

    /// Takes in the leaves that have come since, and says what follows from them.
    ///
    /// # Errors
    /// The store's; the next turn goes on where this one stopped.
    pub fn follow(&self, store: &dyn Store, now: UnixMillis) -> Result<Vec<Order>, StoreFault> {
        let seen = self.lock().seen;
        while self.page(store)? {}
        let still = {
            let mut shared = self.lock();
            shared.still = if shared.seen == seen { shared.still.saturating_add(1) } else { 0 };
            shared.still
        };
        if still > 0 && still.is_multiple_of(STILL_LOOKS) {
            self.look_ahead(store)?;
            self.lock().forget(now);
        }
        Ok(self.lock().owed.orders(now))
    }

    /// Payments whose leaves wait for their place: while the log stands still, a burst must not pass unseen.
    fn look_ahead(&self, store: &dyn Store) -> Result<(), StoreFault> {
        let mut from = self.lock().waiting.saturating_sub(store.rows_settle());
        for _ in 0..WAITING_PAGES_MAX {
            let leaves = store.unsequenced_after(from, PAGE_LEAVES)?;
            let told: Vec<Option<Told>> = leaves.iter().map(told_of).collect();
            let Some(last) = leaves.last().map(|leaf| leaf.row) else { break };
            let mut shared = self.lock();
            told.iter().flatten().for_each(|told| shared.waits(told));
            shared.waiting = shared.waiting.max(last);
            from = last;
            if leaves.len() < PAGE_LEAVES as usize {
                break;
            }
        }
        Ok(())
    }

    /// One page; true when there may be more.
    fn page(&self, store: &dyn Store) -> Result<bool, StoreFault> {
        let seen = self.seen();
        let leaves = store.leaves(seen, PAGE_LEAVES)?;
        let told: Vec<Option<Told>> = leaves.iter().map(told_of).collect();
        Ok(self.learn(seen, &told) == Learnt::Before || told.len() == PAGE_LEAVES as usize)
    }

    /// The first leaf that is not known yet.
    pub(super) fn seen(&self) -> u64 {
        self.lock().seen
    }

    /// Takes in leaves from this one on, unless somebody else has meanwhile.
    pub(super) fn learn(&self, from: u64, told: &[Option<Told>]) -> Learnt {
        let mut shared = self.lock();
        if shared.seen != from {
            return Learnt::Before;
        }
        for told in told {
            let index = shared.seen;
            shared.seen += 1;
            let Some(told) = told else {
                continue;
            };
            match &told.what {
                What::Call { agent, event, assessment, is_odd, .. } => {
                    shared.monitor.observe(event);
                    shared.landed(event.agent, &told.request);
                    let is_anomaly = |one: &Assessment| one.is_anomaly(&self.settings.rules);
                    if *is_odd || assessment.as_ref().is_some_and(is_anomaly) {
                        shared.is_odd(agent, told.at);
                    }
                }
                What::Thawed { event, .. } => shared.monitor.observe(event),
                What::Frozen { .. } | What::Alerted { .. } | What::Other => {}
            }
            shared.owed.told(index, told);
        }
        Learnt::Now
    }
}

/// What a leaf tells; nothing, once it is erased.
pub(super) fn told_of(leaf: &LeafRecord) -> Option<Told> {
    Told::of(leaf.body()?)
}

/// The first leaf at or after an instant, between two places, by halves. Leaves are in the order of time but for some seconds.
///
/// # Errors
/// The store's.
pub fn first_since(store: &dyn Store, least: u64, end: u64, since: UnixMillis) -> Result<u64, StoreFault> {
    let (mut low, mut high) = (least, end);
    while low < high {
        let middle = low + (high - low) / 2;
        let leaf = store.leaves(middle, 1)?.into_iter().next();
        let is_before = leaf.as_ref().and_then(told_of).is_some_and(|told| told.at < since);
        (low, high) = if is_before { (middle + 1, high) } else { (low, middle) };
    }
    Ok(low)
}
