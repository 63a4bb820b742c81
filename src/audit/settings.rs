//! `[audit]`

use serde::{Deserialize, Serialize};

/// A guard that a demo may switch off; `doctor` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    Off,
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
    /// The other party's lease on serving money. Only `off` is available so far.
    pub peer_lease: Guard,
    /// How far the witness may lag before money stops. Only `off` is available so far.
    pub witness_lag_max: Guard,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            origin: "bank.countersign.example/log".into(),
            checkpoint_interval_ms: 10,
            checkpoint_leaves: 1024,
            peer_lease: Guard::Off,
            witness_lag_max: Guard::Off,
        }
    }
}
