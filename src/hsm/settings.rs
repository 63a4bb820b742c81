//! `[hsm.<token>]`: where a token is and how its PIN is found.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::kernel::sign::{Algorithm, Purpose};

/// One token. Paths that are not absolute start at the state directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HsmSettings {
    /// RFC 7512 URI that selects the slot by token label or serial: `pkcs11:token=bank`.
    pub uri: String,
    /// Path of the PKCS#11 module.
    pub module: PathBuf,
    /// Environment of the worker process, and all of it: for SoftHSM2 `SOFTHSM2_CONF`. `{state}` is replaced.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Reserved string for C_Initialize; NSS softokn needs one.
    #[serde(default)]
    pub init_args: Option<String>,
    /// A file that holds the PIN, mode 0600, read by the supervisor only.
    #[serde(default)]
    pub pin_file: Option<PathBuf>,
    /// Name of a systemd credential that holds the PIN.
    #[serde(default)]
    pub pin_credential: Option<String>,
    /// Number of an inherited file descriptor that holds the PIN.
    #[serde(default)]
    pub pin_fd: Option<u32>,
    /// Algorithms of new keys by purpose, where not the purpose's own: `root = "p384"`.
    #[serde(default)]
    pub algorithms: BTreeMap<Purpose, Algorithm>,
    /// Worker processes, 1 to 16. With two, one goes on while the other is replaced.
    #[serde(default = "workers_default")]
    pub workers: u32,
    /// Sessions a worker opens at most, 1 to 256. A device that allows 16 in all gets 8 for each of two workers.
    #[serde(default = "sessions_default")]
    pub sessions: u32,
    /// Deadline of one call. A worker that misses it is killed and replaced.
    #[serde(default = "deadline_default_ms")]
    pub deadline_ms: u64,
}

fn workers_default() -> u32 {
    2
}

fn sessions_default() -> u32 {
    8
}

fn deadline_default_ms() -> u64 {
    5_000
}
