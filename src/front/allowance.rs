//! What one peer may use of a listener: connections at a time, requests a second.
//!
//! Whoever is known by a certificate may still ask without end; then it waits, and everybody else does not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::front::settings::PeerLimitSettings;

/// Peers that are remembered although they are not connected: more are forgotten when their allowance is whole again.
const REMEMBERED_MAX: usize = 4_096;
/// A request costs this much of an allowance, which grows by its rate each millisecond.
const REQUEST: i64 = 1_000;

/// Every peer's allowance, by its name.
#[derive(Debug)]
pub struct Allowances {
    limits: PeerLimitSettings,
    /// The lock guards the map only.
    of: Mutex<BTreeMap<String, Allowance>>,
}

#[derive(Clone, Copy, Debug)]
struct Allowance {
    left: i64,
    /// Boot clock, milliseconds.
    at_ms: i64,
    connections: u32,
}

/// A peer's connection; it no longer counts when this is dropped.
#[derive(Debug)]
pub struct Connected {
    allowances: Arc<Allowances>,
    who: String,
}

impl Allowances {
    pub fn new(limits: PeerLimitSettings) -> Arc<Self> {
        Arc::new(Self { limits, of: Mutex::default() })
    }

    /// For those of whom only connections are counted.
    pub fn of_connections(connections_of_one_max: u32) -> Arc<Self> {
        Self::new(PeerLimitSettings { connections_of_one_max, requests_per_second: 0, requests_burst: 0 })
    }

    /// For those of whom only requests are counted.
    pub fn of_requests(requests_per_second: u32, requests_burst: u32) -> Arc<Self> {
        Self::new(PeerLimitSettings { connections_of_one_max: 0, requests_per_second, requests_burst })
    }

    /// One more connection of this peer; `None` when it has as many as it may.
    pub fn connect(self: &Arc<Self>, who: &str, now_ms: i64) -> Option<Connected> {
        let taken = self.with(who, now_ms, |allowance, limits| {
            let has_room = allowance.connections < limits.connections_of_one_max;
            allowance.connections += u32::from(has_room);
            has_room
        });
        taken.then(|| Connected { allowances: Arc::clone(self), who: who.to_owned() })
    }

    /// Whether this peer may make a request at this time; then it counts.
    pub fn request(&self, who: &str, now_ms: i64) -> bool {
        self.with(who, now_ms, |allowance, _| {
            let may = allowance.left >= REQUEST;
            allowance.left -= if may { REQUEST } else { 0 };
            may
        })
    }

    fn with<T>(&self, who: &str, now_ms: i64, run: impl FnOnce(&mut Allowance, &PeerLimitSettings) -> T) -> T {
        let whole = i64::from(self.limits.requests_burst).saturating_mul(REQUEST);
        let rate = i64::from(self.limits.requests_per_second);
        let grown = |allowance: &Allowance| {
            let since_ms = now_ms.saturating_sub(allowance.at_ms).max(0);
            allowance.left.saturating_add(since_ms.saturating_mul(rate)).min(whole)
        };
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.len() >= REMEMBERED_MAX && !of.contains_key(who) {
            of.retain(|_, allowance| allowance.connections > 0 || grown(allowance) < whole);
        }
        let new = Allowance { left: whole, at_ms: now_ms, connections: 0 };
        let allowance = of.entry(who.to_owned()).or_insert(new);
        allowance.left = grown(allowance);
        allowance.at_ms = allowance.at_ms.max(now_ms);
        run(allowance, &self.limits)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut of = self.allowances.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(allowance) = of.get_mut(&self.who) {
            allowance.connections = allowance.connections.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowances() -> Arc<Allowances> {
        Allowances::new(PeerLimitSettings { connections_of_one_max: 2, requests_per_second: 2, requests_burst: 3 })
    }

    #[test]
    fn requests_are_permitted_at_a_rate_and_each_peer_has_its_own() {
        let allowances = allowances();
        // (peer, milliseconds, permitted)
        let table = [
            ("bank", 0, true),
            ("bank", 0, true),
            ("bank", 0, true),
            ("bank", 0, false),
            ("agent", 0, true),
            ("bank", 499, false),
            ("bank", 500, true),
            ("bank", 500, false),
            // Whoever asks again and again waits no longer for it.
            ("bank", 999, false),
            ("bank", 1_000, true),
            // A clock that goes back gives nothing.
            ("bank", 10, false),
            ("bank", 1_499, false),
            ("bank", 100_000, true),
            ("bank", 100_000, true),
            ("bank", 100_000, true),
            ("bank", 100_000, false),
        ];
        for (number, (who, at, permitted)) in table.into_iter().enumerate() {
            assert_eq!(allowances.request(who, at), permitted, "row {number}");
        }
    }

    #[test]
    fn a_peer_has_so_many_connections_and_a_place_that_is_given_back_is_free() {
        let allowances = allowances();
        let first = allowances.connect("bank", 0).unwrap();
        let _second = allowances.connect("bank", 0).unwrap();
        assert!(allowances.connect("bank", 0).is_none());
        assert!(allowances.connect("agent", 0).is_some());
        drop(first);
        assert!(allowances.connect("bank", 0).is_some());
    }

    #[test]
    fn peers_that_come_and_go_are_forgotten_and_those_that_wait_are_not() {
        let allowances = allowances();
        let _connected = allowances.connect("bank", 0).unwrap();
        while allowances.request("greedy", 0) {}
        for number in 0..2 * REMEMBERED_MAX {
            assert!(allowances.request(&format!("agent-{number}"), i64::try_from(number).unwrap()));
        }
        let of = allowances.of.lock().unwrap();
        assert!(of.len() <= REMEMBERED_MAX && of.contains_key("bank"), "{}", of.len());
    }
}
