//! `[audit]`

use serde::{Deserialize, Serialize};

use super::archive::settings::ArchiveSettings;
use crate::kernel::note::{VerifierKey, is_key_name};
use crate::kernel::types::Sha256;

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

/// How far the witness may lag behind this bank's log before money stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged, expecting = "it is \"off\" or { seconds = 60, leaves = 100000 }")]
pub enum WitnessLagMax {
    /// Nobody is asked for cosignatures.
    Off(Guard),
    At(LagMax),
}

impl WitnessLagMax {
    /// The limits, when the witness is asked at all.
    pub fn limits(self) -> Option<LagMax> {
        match self {
            Self::Off(Guard::Off) => None,
            Self::At(max) => Some(max),
        }
    }
}

/// The most that may be without a cosignature.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LagMax {
    pub seconds: u32,
    pub leaves: u64,
}

impl Default for LagMax {
    fn default() -> Self {
        Self { seconds: 60, leaves: 100_000 }
    }
}

/// Whether what leaves say is sealed in the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sealing {
    /// For a token without AES-GCM that works; `doctor` shows it. Nothing can be erased then.
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
    /// At a bank: how far the witness may lag before money stops.
    pub witness_lag_max: WitnessLagMax,
    /// At a bank: between two questions for a cosignature, at least.
    pub witness_interval_ms: u64,
    /// Who may read the log's checkpoint and tiles at `[listen] console`.
    pub serve: ServeSettings,
    pub sealing: Sealing,
    /// What leaves of a month say is erased so many days after the month, unless their subject is held. None: never.
    pub retention_days: Option<u32>,
    /// Where the log is copied to, written once. None: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveSettings>,
}

/// `[audit.serve]`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeSettings {
    pub to: ServeTo,
    /// Those who say a secret.
    pub reader: Vec<ReaderSettings>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServeTo {
    #[default]
    Nobody,
    /// Whoever says the secret of an `[[audit.serve.reader]]`.
    Readers,
    Anybody,
}

/// `[[audit.serve.reader]]`: somebody who keeps a copy of the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReaderSettings {
    pub name: String,
    /// SHA-256 of the secret, in hexadecimal. The secret is random and has 128 bits or more.
    pub secret_sha256: Sha256,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            origin: "bank.countersign.example/log".into(),
            checkpoint_interval_ms: 10,
            checkpoint_leaves: 1024,
            peer_lease: PeerLease::Off,
            peer_lease_ms: 30_000,
            witness_lag_max: WitnessLagMax::Off(Guard::Off),
            witness_interval_ms: 1_000,
            serve: ServeSettings::default(),
            sealing: Sealing::On,
            retention_days: None,
            archive: None,
        }
    }
}

impl AuditSettings {
    /// What the types cannot say.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn check(&self) -> Result<(), String> {
        if !(500..=600_000).contains(&self.peer_lease_ms) {
            return Err("audit peer_lease_ms must be 500 to 600000".into());
        }
        if !(100..=60_000).contains(&self.witness_interval_ms) {
            return Err("audit witness_interval_ms must be 100 to 60000".into());
        }
        self.archive.as_ref().map_or(Ok(()), ArchiveSettings::check)?;
        let readers = &self.serve.reader;
        if (self.serve.to == ServeTo::Readers) == readers.is_empty() {
            return Err(
                "audit serve: to = \"readers\" goes with an [[audit.serve.reader]], and the others with none".into()
            );
        }
        let is_twice = |at: usize| readers[..at].iter().any(|other| other.name == readers[at].name);
        if (0..readers.len()).any(|at| readers[at].name.is_empty() || is_twice(at)) {
            return Err("audit serve reader: each has a name of its own".into());
        }
        if let Some(days) = self.retention_days {
            if self.sealing == Sealing::Off {
                return Err("audit retention_days needs sealing: without it nothing can be erased".into());
            }
            if !(30..=36_500).contains(&days) {
                return Err("audit retention_days must be 30 to 36500, or left out for ever".into());
            }
        }
        let Some(LagMax { seconds, leaves }) = self.witness_lag_max.limits() else {
            return Ok(());
        };
        if !(1..=86_400).contains(&seconds) || !(100..=1_000_000_000).contains(&leaves) {
            return Err("audit witness_lag_max: seconds are 1 to 86400, leaves 100 to 1000000000".into());
        }
        if u64::from(seconds) * 1_000 < 2 * self.witness_interval_ms {
            return Err("audit witness_lag_max seconds must be twice witness_interval_ms at least".into());
        }
        Ok(())
    }
}

/// `[witness]`: how a security company cosigns.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WitnessSettings {
    /// The name in every cosignature. None: `<party>.<trust domain>/witness`.
    pub name: Option<String>,
    /// Logs of others, besides those of the banks that are trusted here.
    pub log: Vec<LogSettings>,
}

/// `[[witness.log]]`: a log whose checkpoints anybody may hand in over plain HTTP.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// The first line of its checkpoints.
    pub origin: String,
    /// Its verification key: `name+id+base64` (C2SP signed-note), of Ed25519 or of our P-256 type.
    pub key: String,
}

impl WitnessSettings {
    /// What the types cannot say.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn check(&self) -> Result<(), String> {
        if self.name.as_deref().is_some_and(|name| !is_key_name(name)) {
            return Err("witness name is not empty and has neither spaces nor '+'".into());
        }
        let mut origins = std::collections::BTreeSet::new();
        for LogSettings { origin, key } in &self.log {
            if !is_key_name(origin) || !origins.insert(origin) {
                return Err(format!("witness log origin {origin:?} is the name of no log, or stands twice"));
            }
            if VerifierKey::parse(key).is_err() {
                return Err(format!(
                    "witness log {origin}: key is not name+id+base64 of an Ed25519 or P-256 key (docs/FORMATS.md)"
                ));
            }
        }
        Ok(())
    }
}
