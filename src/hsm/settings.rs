//! `[hsm.<token>]`: where a token is and how its PIN is found.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::kernel::sign::{Algorithm, Purpose};

/// One attribute more for new objects of a kind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtraAttribute {
    pub on: ObjectKind,
    /// CK_ATTRIBUTE_TYPE of the vendor's own range: 0x80000000 and above (PKCS#11 v2.40, 2.2).
    #[serde(rename = "type")]
    pub kind: u64,
    /// The value as the module wants it, in hexadecimal. CK_BBOOL true is `01`; CK_ULONG has 8 bytes, lowest first.
    pub value_hex: String,
}

/// The objects that an extra attribute goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    Public,
    Private,
    Secret,
}

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
    /// Reserved string for C_Initialize; NSS softokn needs one. `{state}` is replaced.
    #[serde(default)]
    pub init_args: Option<String>,
    /// What new keys of this token get besides the product's own attributes: some vendors' modules need it.
    #[serde(default)]
    pub attributes: Vec<ExtraAttribute>,
    /// Lets keys sign for which the module does not state CKA_LOCAL (NSS softokn). That they were born in the token is
    /// then known from this daemon alone; `doctor` and the custody report go on calling them unsound.
    #[serde(default)]
    pub accept_unstated_local: bool,
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

impl HsmSettings {
    /// Settings of a token with every default; without a PIN source.
    pub fn new(uri: impl Into<String>, module: impl Into<PathBuf>) -> Self {
        Self {
            uri: uri.into(),
            module: module.into(),
            env: BTreeMap::new(),
            init_args: None,
            attributes: Vec::new(),
            accept_unstated_local: false,
            pin_file: None,
            pin_credential: None,
            pin_fd: None,
            algorithms: BTreeMap::new(),
            workers: workers_default(),
            sessions: sessions_default(),
            deadline_ms: deadline_default_ms(),
        }
    }
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
