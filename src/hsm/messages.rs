//! What supervisor, workers and front say to each other over their packet sockets, as JSON.
//!
//! Small and rare: the busy path (front ↔ worker) has its own frames in `wire`. A PIN is never part of these: it
//! travels as a packet of its own.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::channel::{Channel, Packet};
use super::settings::{ExtraAttribute, HsmSettings};
use super::{KeyInfo, TokenInfo};
use crate::kernel::types::{KeyId, Sha256};
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

/// Supervisor → worker, first packet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerOrders {
    /// Absolute path of the PKCS#11 module.
    pub module: PathBuf,
    /// RFC 7512.
    pub uri: String,
    /// Sessions that the worker opens at most.
    pub sessions: u32,
    /// Workers of the pool: they share the machine's processors.
    pub workers: u32,
    /// Reserved string for C_Initialize.
    pub init_args: Option<String>,
    /// SHA-256 of the module's file; another file is not loaded.
    pub module_sha256: Option<Sha256>,
    /// What new objects get besides the product's own attributes.
    pub attributes: Vec<ExtraAttribute>,
    /// Keys for which the module does not state CKA_LOCAL may sign.
    pub accept_unstated_local: bool,
    pub job: WorkerJob,
}

impl WorkerOrders {
    /// Orders for the token of these settings; any module is loaded.
    pub fn new(state: &StateDir, settings: &HsmSettings, job: WorkerJob) -> Self {
        let root = std::path::absolute(state.root()).unwrap_or_else(|_| state.root().to_owned());
        Self {
            module: state.resolve(&settings.module),
            uri: settings.uri.clone(),
            sessions: settings.sessions,
            workers: settings.workers,
            init_args: settings.init_args.as_ref().map(|text| text.replace("{state}", &root.to_string_lossy())),
            module_sha256: None,
            attributes: settings.attributes.clone(),
            accept_unstated_local: settings.accept_unstated_local,
            job,
        }
    }
}

/// What a worker is started for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum WorkerJob {
    /// The orders carry the service socket's descriptor. Each [`WorkerReport::LoginWanted`] is answered by a packet
    /// that is the PIN, when no other worker of the token is logging in.
    Serve { identity: Option<KeyId> },
    /// Makes the token if it is not there. No PIN is sent: the worker makes it or reads it.
    Provision { token_name: String, pin_file: PathBuf },
    /// The module's own speed with this key. [`WorkerReport::LoginWanted`] is answered by a packet that is the PIN;
    /// after [`WorkerReport::LoggedIn`] each [`RawOrder`] is answered by one report.
    Measure { key: KeyId },
}

/// Supervisor → a worker that measures.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum RawOrder {
    /// Sign without a pause on so many threads with a session each, for so long → [`WorkerReport::Measured`].
    Sign { threads: u32, millis: u64 },
    /// Make key pairs of an agent that nobody has, so that the token is full → [`WorkerReport::Filled`].
    Fill { keys: u32, first_version: u32 },
}

/// Signatures that were made one after the other on each thread.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct RawSpeed {
    pub signatures: u64,
    pub seconds: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

/// Worker → supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum WorkerReport {
    /// The next step is C_Login.
    LoginWanted,
    /// The token took the PIN: others may log in.
    LoggedIn,
    /// Logged in, keys loaded and tested.
    Ready {
        token: TokenInfo,
        identity: KeyInfo,
    },
    Provisioned {
        created: TokenOrigin,
        token: TokenInfo,
        identity: KeyInfo,
    },
    Measured(RawSpeed),
    Filled,
    Failed(Failure),
}

/// Whether provisioning made the token or found it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenOrigin {
    Created,
    Existing,
}

/// Front → supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FrontMessage {
    /// Every door is open.
    Ready { ports: serde_json::Value },
    /// The front cannot start; it exits next.
    Failed(Failure),
    /// This worker missed a deadline or broke its connection: replace it.
    Kill { worker: u64, reason: String },
}

/// Supervisor → front.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum SupervisorMessage {
    /// Carries the daemon lock's descriptor: it stays held until supervisor *and* front are gone.
    Lock,
    /// Carries the front's end of a new worker's service socket.
    Worker {
        worker: u64,
    },
    /// A worker ended or could not start. After `pin_refused` no other follows.
    WorkerDown {
        failure: Failure,
    },
    Stop,
}

/// Sends one message, at once or not at all.
pub fn send<T: Serialize>(channel: &Channel, message: &T, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    channel.send(&serde_json::to_vec(message)?, descriptor)
}

/// Reads a packet as a message.
pub fn parse<T: DeserializeOwned>(packet: Packet) -> io::Result<(T, Option<OwnedFd>)> {
    Ok((serde_json::from_slice(&packet.bytes)?, packet.descriptor))
}
