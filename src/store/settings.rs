//! `[store]`

use std::path::PathBuf;

use super::keep;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSettings {
    /// `sqlite:<path>`; relative paths start at the state directory. Or `postgres://user@host:port/database`, several
    /// hosts separated by commas, `?sslmode=verify-full&sslrootcert=<path>` for TLS, `?host=<directory>` for a socket.
    pub url: String,
    /// How long an idempotency key is known: its repetition within these days answers the same, later it is a new
    /// request. 7 to 36500.
    pub idempotency_days: u32,
    /// So much of the disk of the state directory is kept for revocations and people, MiB: below it agents' money stops,
    /// below half of it agents are not served. 0: nothing. Of a database server's disk nothing is known.
    pub reserved_free_mib: u32,
    /// PostgreSQL: a file that holds the password, mode 0600. None: the server asks for none.
    pub password_file: Option<PathBuf>,
    /// Never: the vault is inside the store, and opens only after it. Here so that it is refused with a reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_vault: Option<String>,
    /// PostgreSQL: connections for reading, 1 to 64. Besides there are two that write, one for what is told to people, and
    /// one for shared limits.
    pub connections: u32,
    /// PostgreSQL: making one connection, TLS and password included.
    pub connect_timeout_ms: u64,
    /// PostgreSQL: one statement, on the server.
    pub statement_timeout_ms: u64,
    /// PostgreSQL: waiting for a row that another daemon has locked, on the server.
    pub lock_timeout_ms: u64,
    /// PostgreSQL: one whole commit as this daemon sees it. A server that is silent for longer is given up: what was
    /// not sent to be committed did not happen, what was has an unknown outcome.
    pub commit_deadline_ms: u64,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            url: "sqlite:store/store.sqlite3".into(),
            idempotency_days: keep::IDEMPOTENCY_DAYS,
            reserved_free_mib: 256,
            password_file: None,
            password_vault: None,
            connections: 8,
            connect_timeout_ms: 5_000,
            statement_timeout_ms: 10_000,
            lock_timeout_ms: 5_000,
            commit_deadline_ms: 30_000,
        }
    }
}

impl StoreSettings {
    /// What the types cannot say.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn consistent(&self) -> Result<(), String> {
        let days = keep::IDEMPOTENCY_DAYS_MIN..=keep::IDEMPOTENCY_DAYS_MAX;
        if !days.contains(&self.idempotency_days) {
            return Err(format!("store idempotency_days must be {} to {}", days.start(), days.end()));
        }
        if self.reserved_free_mib > 1 << 20 {
            return Err("store reserved_free_mib must be 0 to 1048576".into());
        }
        if self.password_vault.is_some() {
            return Err("store password_vault: the vault is inside this very database; name store.password_file".into());
        }
        if !(1..=64).contains(&self.connections) {
            return Err("store connections must be 1 to 64".into());
        }
        for (key, value) in [
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("statement_timeout_ms", self.statement_timeout_ms),
            ("lock_timeout_ms", self.lock_timeout_ms),
            ("commit_deadline_ms", self.commit_deadline_ms),
        ] {
            if !(100..=600_000).contains(&value) {
                return Err(format!("store {key} must be 100 to 600000"));
            }
        }
        if self.commit_deadline_ms < self.statement_timeout_ms {
            return Err("store commit_deadline_ms must not be less than statement_timeout_ms".into());
        }
        Ok(())
    }
}
