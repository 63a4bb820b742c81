//! Live connections by the identities they were accepted under, so that a revocation can cut them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::kernel::credential::pair::VerifiedAgent;
use crate::kernel::status::StatusSnapshot;
use crate::ops::clock;

/// What is revoked, as this process knows it. Replaced as a whole; readers keep what they hold.
#[derive(Debug, Default)]
pub struct LiveStatus {
    looks: AtomicU64,
    /// With the look that it comes from. The lock guards the pointer only.
    newest: RwLock<(u64, Arc<StatusSnapshot>)>,
}

/// That the store is about to be read. What a later look found is never replaced by what an earlier one did.
#[derive(Debug)]
#[must_use]
pub struct Look(u64);

impl LiveStatus {
    pub fn current(&self) -> Arc<StatusSnapshot> {
        Arc::clone(&self.newest.read().unwrap_or_else(PoisonError::into_inner).1)
    }

    /// To be taken before the store is read.
    pub fn look(&self) -> Look {
        Look(self.looks.fetch_add(1, Ordering::AcqRel) + 1)
    }

    pub fn replace(&self, look: &Look, snapshot: StatusSnapshot) {
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        if newest.0 < look.0 {
            *newest = (look.0, Arc::new(snapshot));
        }
    }
}

/// Until when agents may be served, by the lease that another party gives. Boot clock, milliseconds.
#[derive(Debug)]
pub struct ServingLimit {
    until: AtomicI64,
    commit_before: AtomicI64,
}

impl ServingLimit {
    /// Nobody gives a lease: always.
    pub fn none() -> Self {
        Self { until: AtomicI64::new(i64::MAX), commit_before: AtomicI64::new(i64::MAX) }
    }

    /// A lease is needed and there is none yet.
    pub fn needed() -> Self {
        Self { until: AtomicI64::new(i64::MIN), commit_before: AtomicI64::new(i64::MIN) }
    }

    /// Served until `until`; nothing is committed that was not decided before `commit_before`.
    pub fn extend(&self, until: i64, commit_before: i64) {
        self.commit_before.fetch_max(commit_before, Ordering::AcqRel);
        self.until.fetch_max(until, Ordering::AcqRel);
    }

    pub fn until(&self) -> i64 {
        self.until.load(Ordering::Acquire)
    }

    pub fn holds(&self) -> bool {
        self.until() == i64::MAX || clock::boot_ms() < self.until()
    }

    /// The end for what is decided from now on. `None`: there is none.
    pub fn commit_before(&self) -> Option<i64> {
        Some(self.commit_before.load(Ordering::Acquire)).filter(|limit| *limit != i64::MAX)
    }
}

/// The calls that are being answered, so that a change can wait for those that began before it.
#[derive(Debug, Default)]
pub struct Calls {
    /// The number of the newest change, and by number how many calls began under it.
    running: Mutex<(u64, BTreeMap<u64, usize>)>,
    ended: Condvar,
}

/// One call, until it is dropped.
#[derive(Debug)]
pub struct Call {
    calls: Arc<Calls>,
    change: u64,
}

impl Calls {
    /// To be called before what may change is looked at.
    pub fn begin(self: &Arc<Self>) -> Call {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let change = running.0;
        *running.1.entry(change).or_default() += 1;
        Call { calls: Arc::clone(self), change }
    }

    /// Waits for every call that began before now. False: one goes on after `limit`.
    pub fn have_seen_change(&self, limit: Duration) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.0 += 1;
        let change = running.0;
        let earlier = |running: &mut (u64, BTreeMap<u64, usize>)| running.1.range(..change).next().is_some();
        let waited = self.ended.wait_timeout_while(running, limit, earlier);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut running = self.calls.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.1.get_mut(&self.change) {
            *count -= 1;
            if *count == 0 {
                running.1.remove(&self.change);
                drop(running);
                self.calls.ended.notify_all();
            }
        }
    }
}

#[derive(Debug, Default)]
struct Open {
    last_id: u64,
    by_id: BTreeMap<u64, (Arc<VerifiedAgent>, CancellationToken)>,
}

/// Every accepted connection. The lock guards the map only and is held for no call.
#[derive(Debug, Default)]
pub struct Connections {
    open: Mutex<Open>,
}

/// Removes its connection from the registry when dropped.
#[derive(Debug)]
pub struct Registration {
    id: u64,
    connections: Arc<Connections>,
}

impl Connections {
    /// Registers a connection. The caller checks the revocation status *after* this, so that no revocation can
    /// fall between check and registration.
    pub fn register(self: &Arc<Self>, agent: Arc<VerifiedAgent>, cut: CancellationToken) -> Registration {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.last_id += 1;
        let id = open.last_id;
        open.by_id.insert(id, (agent, cut));
        Registration { id, connections: Arc::clone(self) }
    }

    /// Cuts every connection whose agent the predicate names; answers how many.
    pub fn cut(&self, doomed: impl Fn(&VerifiedAgent) -> bool) -> usize {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        for (agent, cut) in open.by_id.values() {
            if doomed(agent) {
                cut.cancel();
                count += 1;
            }
        }
        count
    }

    pub fn count(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).by_id.len()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.connections.open.lock().unwrap_or_else(PoisonError::into_inner).by_id.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_waits_for_the_calls_that_began_before_it_and_for_no_others() {
        let calls = Arc::new(Calls::default());
        assert!(calls.have_seen_change(Duration::ZERO));
        let before = calls.begin();
        assert!(!calls.have_seen_change(Duration::ZERO));
        let _after = calls.begin();
        assert!(!calls.have_seen_change(Duration::ZERO), "both began before this one");
        drop(before);
        assert!(!calls.have_seen_change(Duration::ZERO));
    }

    #[test]
    fn a_lease_that_is_needed_is_not_held_before_it_is_given() {
        let (never, needed) = (ServingLimit::none(), ServingLimit::needed());
        assert_eq!((never.holds(), never.commit_before()), (true, None));
        assert_eq!((needed.holds(), needed.commit_before()), (false, Some(i64::MIN)));
        needed.extend(clock::boot_ms() + 60_000, clock::boot_ms() + 50_000);
        assert!(needed.holds());
        needed.extend(0, 0);
        assert!(needed.holds(), "an answer that was overtaken takes nothing away");
    }

    #[test]
    fn what_an_earlier_look_found_does_not_replace_a_later_ones() {
        let live = LiveStatus::default();
        let (earlier, later) = (live.look(), live.look());
        live.replace(&later, StatusSnapshot { everyone: true, ..StatusSnapshot::default() });
        live.replace(&earlier, StatusSnapshot::default());
        assert!(live.current().everyone);
        live.replace(&live.look(), StatusSnapshot::default());
        assert!(!live.current().everyone);
    }
}
