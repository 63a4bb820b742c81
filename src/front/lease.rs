//! The lease under which a node may serve while others share its store.
//!
//! What has an effect reads the revocation status in its own commit, on every node. What has none is refused by the live
//! status, which a node replaces when it hears of a change; so a revocation is effective once each node has acted on it,
//! or its lease has run out and it refuses everybody. The holder counts on its boot clock, from before it sent word.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::kernel::types::NodeId;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::{LEASE_MS, Store};

/// How often word is sent: three may be lost.
pub const RENEWAL_INTERVAL: Duration = Duration::from_millis(250);
/// Changes that may come while one is acted on, in one renewal.
const CHASES_MAX: u32 = 8;
/// Between two looks at what the others have acted on.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// Leases run out before; later than this something is broken.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// This node's right to serve.
pub struct Lease {
    store: Arc<dyn Store>,
    node: NodeId,
    /// True once the store said that others may share it.
    is_needed: AtomicBool,
    acted_on: AtomicU64,
    /// Boot clock, milliseconds.
    until_ms: AtomicI64,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Lease {
    /// None is held yet.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            node: clock::fresh_node_id(),
            is_needed: AtomicBool::new(false),
            acted_on: AtomicU64::new(0),
            until_ms: AtomicI64::new(i64::MIN),
        }
    }

    /// Sends word and acts on what has changed, in turns until nothing new has come between: only then is the lease
    /// renewed. `act` replaces the live status with the store's.
    ///
    /// # Errors
    /// The store's; what `act` reports. The lease then runs out.
    pub fn renew(&self, mut act: impl FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
        for _ in 0..CHASES_MAX {
            let sent_ms = clock::boot_ms();
            let acted_on = self.acted_on.load(Ordering::Acquire);
            let Some(changes) = self.store.serve_as(self.node.as_str(), acted_on)? else {
                return Ok(());
            };
            self.is_needed.store(true, Ordering::Release);
            if changes <= acted_on {
                self.until_ms.store(sent_ms.saturating_add(LEASE_MS), Ordering::Release);
                return Ok(());
            }
            act()?;
            self.acted_on.store(changes, Ordering::Release);
        }
        Err(Failure::busy("lease_not_renewed", "the revocation status changes all the time", "wait a moment"))
    }

    /// How this node is called among those that share the store.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Whether this node may serve now.
    pub fn holds(&self) -> bool {
        !self.is_needed.load(Ordering::Acquire) || clock::boot_ms() < self.until_ms.load(Ordering::Acquire)
    }

    /// Waits until every other node has acted on what is recorded by now, or serves no more. Answers how many nodes serve,
    /// this one included.
    ///
    /// # Errors
    /// The store's; `not_effective_yet`.
    pub fn await_others(&self) -> Result<usize, Failure> {
        let start = Instant::now();
        let mut target = None;
        loop {
            let Some(nodes) = self.store.nodes()? else {
                return Ok(1);
            };
            let target = *target.get_or_insert(nodes.changes);
            let others = || nodes.serving.iter().filter(|(node, _)| *node != self.node.as_str());
            if others().all(|(_, acted_on)| *acted_on >= target) {
                return Ok(others().count() + 1);
            }
            if start.elapsed() > WAIT_MAX {
                return Err(Failure::busy(
                    "not_effective_yet",
                    "a node that shares the store renews its lease and has not acted",
                    "repeat the command; stop that node if it stays so",
                ));
            }
            std::thread::sleep(LOOK_PAUSE);
        }
    }
}
