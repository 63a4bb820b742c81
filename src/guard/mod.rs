//! The breaker of one node: what is seen goes in from every thread, what stops this node comes out.
//!
//! `detector` decides; the composition root gives it turns and carries its orders out.

mod detector;
#[cfg(test)]
mod interleavings;
pub mod settings;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

pub use detector::{AUTOMATIC, Order, Progress, Reached, Seen};

use crate::kernel::breaker::{Cause, Reach, joined};
use crate::kernel::types::{NodeId, SpiffeId};
use crate::ops::clock;
use crate::ops::sync::{AtomicBool, Mutex, MutexGuard};
use detector::Detector;
use settings::BreakerSettings;

/// One node's breaker.
#[derive(Debug)]
pub struct Guard {
    /// Guards the machine; held for a few operations on numbers.
    detector: Mutex<Detector>,
    /// True when a cause of this node stands: payments ask this first.
    is_stopped: AtomicBool,
    node: NodeId,
}

impl Guard {
    pub fn new(settings: BreakerSettings, node: NodeId) -> Arc<Self> {
        Arc::new(Self { detector: Mutex::new(Detector::new(settings)), is_stopped: AtomicBool::new(false), node })
    }

    /// Whose breaker it is.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    fn detector(&self) -> MutexGuard<'_, Detector> {
        self.detector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn saw(&self, seen: Seen) {
        self.detector().see(clock::boot_ms(), seen);
    }

    pub fn committed(&self, took: Duration) {
        self.saw(Seen::Commit { took_ms: i64::try_from(took.as_millis()).unwrap_or(i64::MAX) });
    }

    pub fn commit_failed(&self) {
        let mut detector = self.detector();
        let took_ms = detector.commit_failed_ms();
        detector.see(clock::boot_ms(), Seen::Commit { took_ms });
    }

    /// An alert about an agent, whoever raises it.
    pub fn alerted(&self, agent: &SpiffeId) {
        self.saw(Seen::Alert(agent.to_string()));
    }

    /// The same of so long ago: whichever node decided it, all of them read it in the log.
    pub fn alerted_before(&self, agent: &SpiffeId, ago_ms: i64) {
        let at = clock::boot_ms().saturating_sub(ago_ms.max(0));
        self.detector().see(at, Seen::Alert(agent.to_string()));
    }

    /// Whether a commit that took so long proves that the store is well again.
    pub fn commit_is_fast(&self, took: Duration) -> Reached {
        let limit = self.detector().commit_is_fast_ms();
        if i64::try_from(took.as_millis()).unwrap_or(i64::MAX) <= limit { Reached::Yes } else { Reached::No }
    }

    /// What has to be done now. From here on the node is stopped by what stands, recorded or not.
    pub fn turn(&self) -> Vec<Order> {
        let mut detector = self.detector();
        let orders = detector.turn(clock::boot_ms());
        self.show(&detector);
        orders
    }

    pub fn opened(&self, cause: Cause) {
        self.detector().opened(cause);
    }

    pub fn lifted(&self, cause: Cause) {
        let mut detector = self.detector();
        detector.lifted(clock::boot_ms(), cause);
        self.show(&detector);
    }

    /// Takes over what stands in the store for the whole bank, and forgets what does not any more.
    pub fn follow(&self, cause: Cause, reason: Option<&str>) {
        let now = clock::boot_ms();
        let mut detector = self.detector();
        match (reason, detector.standing(cause)) {
            (Some(reason), None) => detector.adopt(now, cause, reason),
            (None, Some(standing)) if standing.is_recorded => detector.lifted(now, cause),
            (Some(_), Some(_)) | (None, Some(_) | None) => {}
        }
    }

    /// Every cause that stands here, in their order.
    pub fn standing(&self) -> Vec<Progress> {
        self.detector().all_standing()
    }

    /// Why this node makes no payment, in words. None: it does, as far as it alone decides.
    pub fn stopped_here(&self) -> Option<String> {
        if !self.is_stopped.load(Ordering::Acquire) {
            return None;
        }
        let standing = self.standing();
        let here = standing.iter().filter(|progress| progress.cause.reach() == Reach::Node);
        joined(here.map(|progress| progress.reason.as_str()))
    }

    fn show(&self, detector: &Detector) {
        let is_stopped = detector.all_standing().iter().any(|progress| progress.cause.reach() == Reach::Node);
        self.is_stopped.store(is_stopped, Ordering::Release);
    }
}
