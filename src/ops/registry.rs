//! Live connections by the identities they were accepted under, so that a revocation can cut them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;

use crate::kernel::credential::pair::VerifiedAgent;
use crate::kernel::status::StatusSnapshot;

/// What is revoked, as this process knows it. Replaced as a whole; readers keep what they hold.
#[derive(Debug, Default)]
pub struct LiveStatus(RwLock<Arc<StatusSnapshot>>);

impl LiveStatus {
    pub fn current(&self) -> Arc<StatusSnapshot> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn replace(&self, snapshot: StatusSnapshot) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
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
