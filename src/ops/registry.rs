//! Live connections by the identities they were accepted under, so that a revocation can cut them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;

use crate::kernel::credential::pair::VerifiedAgent;
use crate::kernel::status::StatusSnapshot;

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
