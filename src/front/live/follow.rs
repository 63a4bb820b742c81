//! How the live view gets to know the log: a window of it at the start, page by page, then every leaf that comes.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::audit::search::DISORDER_MAX_MS;
use crate::kernel::command::Settlement;
use crate::kernel::series::heard::Heard;
use crate::kernel::series::{First, Known, Series};
use crate::kernel::types::UnixMillis;
use crate::monitor::Progress;
use crate::monitor::follow::first_since;
use crate::store::{LeafRecord, Store, StoreFault};

/// Of the log before a start this much is read: as far as the longest chart goes, and no more leaves than that.
const WINDOW_MS: i64 = 30 * 86_400_000;
pub const WINDOW_LEAVES: u64 = 200_000;
/// Leaves that are read at once.
const PAGE_LEAVES: u32 = 512;
/// Leaves that may be counted before they have their place; those beyond are counted when they have it.
const WAITING_MAX: usize = 100_000;

/// Who reads the log for the live view.
#[derive(Debug)]
pub struct Follower {
    settlement: Settlement,
    /// None before the first turn.
    reading: Option<Reading>,
}

/// How far a reading is.
#[derive(Debug)]
struct Reading {
    from: u64,
    /// The log's size when it began.
    size: u64,
    since: UnixMillis,
    first: First,
    /// The first leaf that is not known yet.
    seen: u64,
    /// When the newest leaf that was read was made.
    at: Option<UnixMillis>,
    /// The last row without a place that was looked at, and those that were counted.
    waiting: i64,
    counted: BTreeSet<i64>,
}

/// How a page went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Page {
    Full,
    /// Nothing came behind it.
    Last,
    Empty,
}

impl Follower {
    pub fn new(settlement: Settlement) -> Self {
        Self { settlement, reading: None }
    }

    /// How far the reading at the start is; none once it is over.
    pub fn progress(&self) -> Option<Progress> {
        let Some(reading) = &self.reading else { return Some(Progress { leaves: 0, of: 0 }) };
        let of = reading.size - reading.from;
        (reading.seen < reading.size).then(|| Progress { leaves: reading.seen - reading.from, of })
    }

    /// Counts what has come, for as long as `goes_on`; then says up to when all is counted.
    ///
    /// # Errors
    /// The store's; the next turn goes on where this one stopped.
    pub fn turn(
        &mut self,
        store: &dyn Store,
        series: &Mutex<Series>,
        now: UnixMillis,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(), StoreFault> {
        let reading = match &mut self.reading {
            Some(reading) => reading,
            none => none.insert(Reading::begin(store, now)?),
        };
        let mut came = Page::Empty;
        let is_whole = loop {
            match reading.page(store, series, self.settlement, now)? {
                Page::Full if goes_on() => came = Page::Full,
                Page::Full => break false,
                // While the log stands still, as it does without its HSM, what is decided waits for its place.
                Page::Empty if came == Page::Empty => break reading.look_ahead(store, series, self.settlement, now)?,
                Page::Last | Page::Empty => break true,
            }
        };
        let until = if is_whole { now } else { reading.at.unwrap_or(reading.since).min(now) };
        let known = Known { since: reading.since, first: reading.first, until };
        series.lock().unwrap_or_else(PoisonError::into_inner).know(known);
        Ok(())
    }
}

impl Reading {
    fn begin(store: &dyn Store, now: UnixMillis) -> Result<Self, StoreFault> {
        let size = store.newest_checkpoint()?.map_or(0, |checkpoint| checkpoint.size);
        let least = size.saturating_sub(WINDOW_LEAVES);
        let window = now.plus_ms(-WINDOW_MS);
        let from = first_since(store, least, size, window)?;
        let made = store.leaves(from, 1)?.first().and_then(|leaf| Heard::of(leaf.body()?, Settlement::Embedded));
        let made = made.map(|heard| heard.at);
        let (since, first) = match (from, made) {
            (0, made) => (made.unwrap_or(now), First::OfTheLog),
            // So many leaves that those before them are left out; what is a little older may stand among them.
            (_, Some(made)) if from == least => (made.plus_ms(DISORDER_MAX_MS).max(window), First::OfTheWindow),
            (_, None) if from == least && from < size => (now, First::OfTheWindow),
            (_, Some(_) | None) => (window, First::OfTheWindow),
        };
        let counted = BTreeSet::new();
        Ok(Self { from, size, since, first, seen: from, at: None, waiting: 0, counted })
    }

    fn page(
        &mut self,
        store: &dyn Store,
        series: &Mutex<Series>,
        settlement: Settlement,
        now: UnixMillis,
    ) -> Result<Page, StoreFault> {
        let leaves = store.leaves(self.seen, PAGE_LEAVES)?;
        self.count(&leaves, series, settlement, now);
        let Some(last) = leaves.last() else { return Ok(Page::Empty) };
        self.seen = last.index.map_or(self.seen + leaves.len() as u64, |index| index + 1);
        Ok(if leaves.len() == PAGE_LEAVES as usize { Page::Full } else { Page::Last })
    }

    /// Leaves that wait for their place. False: there are more than are counted.
    fn look_ahead(
        &mut self,
        store: &dyn Store,
        series: &Mutex<Series>,
        settlement: Settlement,
        now: UnixMillis,
    ) -> Result<bool, StoreFault> {
        let mut from = self.waiting.saturating_sub(store.rows_settle());
        while self.counted.len() < WAITING_MAX {
            let mut leaves = store.unsequenced_after(from, PAGE_LEAVES)?;
            let Some(last) = leaves.last().map(|leaf| leaf.row) else { return Ok(true) };
            let is_last = leaves.len() < PAGE_LEAVES as usize;
            // A leaf that the sequencer has placed meanwhile comes with the next page, and is known by its row there.
            let rows: Vec<i64> = leaves.iter().map(|leaf| leaf.row).collect();
            leaves.retain(|leaf| !self.counted.contains(&leaf.row));
            self.count(&leaves, series, settlement, now);
            self.counted.extend(rows);
            self.waiting = self.waiting.max(last);
            from = last;
            if is_last {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Counts those that were not counted before.
    fn count(&mut self, leaves: &[LeafRecord], series: &Mutex<Series>, settlement: Settlement, now: UnixMillis) {
        // Read before the lock is taken: whoever wants a chart waits for counting alone.
        let heard: Vec<Result<Heard, ()>> = leaves
            .iter()
            .filter(|leaf| !self.counted.remove(&leaf.row))
            .filter_map(|leaf| match leaf.body() {
                Some(body) => Heard::of(body, settlement).map(Ok),
                None => Some(Err(())),
            })
            .collect();
        let mut series = series.lock().unwrap_or_else(PoisonError::into_inner);
        for heard in heard {
            match heard {
                Ok(heard) => {
                    self.at = Some(heard.at);
                    series.hear(&heard, now);
                }
                Err(()) => series.unread(self.at.unwrap_or(self.since), now),
            }
        }
    }
}
