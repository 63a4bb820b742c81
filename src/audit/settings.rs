//! `[audit]`

use serde::{Deserialize, Serialize};

/// A guard that a demo may switch off; `doctor` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    Off,
}

/// Whether agents are served only while the other party's daemon answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerLease {
    Off,
    On,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditSettings {
    /// The log's name: first line of every checkpoint.
    pub origin: String,
    /// A checkpoint is made at least this often while leaves wait.
    pub checkpoint_interval_ms: u64,
    /// … or when this many leaves wait.
    pub checkpoint_leaves: u32,
    /// At a security company: banks' nodes get leases, and its revocations count as effective when each has acted or its
    /// lease has run out. At a bank: agents are served only under such a lease.
    pub peer_lease: PeerLease,
    /// How long a lease lasts that a security company gives.
    pub peer_lease_ms: u32,
    /// How far the witness may lag before money stops. Only `off` is available so far.
    pub witness_lag_max: Guard,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            origin: "bank.countersign.example/log".into(),
            checkpoint_interval_ms: 10,
            checkpoint_leaves: 1024,
            peer_lease: PeerLease::Off,
            peer_lease_ms: 30_000,
            witness_lag_max: Guard::Off,
        }
    }
}
