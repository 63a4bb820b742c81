//! Makes a token: `countersign init` asks, a worker does it (C_InitToken, C_InitPIN), no PIN comes back.
//!
//! Safe to repeat: a token that is there is looked at and left alone, never initialised again.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::channel::Channel;
use super::confine::private_directory;
use super::keeper::worker_command;
pub use super::messages::TokenOrigin;
use super::messages::{self, WorkerJob, WorkerOrders, WorkerReport};
use super::settings::HsmSettings;
use super::{KeyInfo, TokenInfo, supervisor};
use crate::kernel::types::{KeyId, Sha256};
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

const CONF_TEMPLATE: &str = include_str!("../../softhsm/softhsm2.conf.template");
/// Initialising hardware takes seconds; more than this is a stuck module.
const LIMIT: Duration = Duration::from_secs(120);

/// What provisioning made or found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Provisioned {
    pub origin: TokenOrigin,
    pub token: TokenInfo,
    pub identity: KeyInfo,
    pub pin_file: PathBuf,
}

/// `identity/<token>.json`: public, recognises the token at every later start. In a place of its own, which the front
/// cannot write: it must not choose the token that the next start accepts.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct IdentityRecord {
    token: String,
    serial: String,
    key: KeyId,
    spki: String,
    /// SHA-256 of the PKCS#11 module's file; nothing was recorded by early versions.
    #[serde(default)]
    module_sha256: Option<Sha256>,
}

/// What provisioning recorded of a token: workers refuse another one, and another module.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Expected {
    /// `None`: not provisioned here; the first identity key that is seen is kept to.
    pub identity: Option<KeyId>,
    /// `None`: any module.
    pub module_sha256: Option<Sha256>,
}

/// What to do about a module whose file is another one than recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModuleChange {
    Refuse,
    /// An administrator says that it is right; it is recorded from now on.
    Accept,
}

/// Makes the token of a state directory, its PIN file, its identity key and the record of it.
///
/// # Errors
/// `pin_file_needed`, `pin_file_missing`, `pin_file_too_open`, `pin_refused`, `token_half_made`, `no_free_slot`,
/// `module_unusable`, `module_changed`, `wrong_token`, `provisioning_failed`.
pub fn provision(
    state: &StateDir,
    token_name: &str,
    settings: &HsmSettings,
    change: ModuleChange,
) -> Result<Provisioned, Failure> {
    provision_with(&supervisor::own_program(), state, token_name, settings, change)
}

/// The same with a worker of another program: for tests, whose own binary has no verbs.
///
/// # Errors
/// As [`provision`].
pub fn provision_with(
    program: &Path,
    state: &StateDir,
    token_name: &str,
    settings: &HsmSettings,
    change: ModuleChange,
) -> Result<Provisioned, Failure> {
    let pin_file = settings.pin_file.as_ref().map(|file| state.resolve(file)).ok_or_else(|| {
        Failure::usage(
            "pin_file_needed",
            format!("provisioning writes the new PIN into a file, and [hsm.{token_name}] names none"),
            "set pin_file for `countersign init`; move the PIN to a credential afterwards if you like",
        )
    })?;
    let expected = expected(state, token_name)?;
    let job = WorkerJob::Provision { token_name: token_name.to_owned(), pin_file: pin_file.clone() };
    let mut orders = WorkerOrders::new(state, settings, job);
    orders.module_sha256 = match change {
        ModuleChange::Refuse => expected.module_sha256,
        ModuleChange::Accept => None,
    };
    prepare(state, settings, &pin_file).map_err(|error| failed(&error.to_string()))?;
    let report = run_worker(program, state, settings, &orders)?;
    let (origin, token, identity) = match report {
        WorkerReport::Provisioned { created, token, identity } => (created, token, identity),
        WorkerReport::Failed(failure) => return Err(failure),
        WorkerReport::LoginWanted
        | WorkerReport::LoggedIn
        | WorkerReport::Ready { .. }
        | WorkerReport::Measured(_)
        | WorkerReport::Filled => {
            return Err(failed("the worker answered another question"));
        }
    };
    if let Some(expected) = expected.identity.filter(|expected| *expected != identity.id) {
        return Err(super::flow::wrong_token(expected, identity.id));
    }
    if expected.identity.is_none() || expected.module_sha256 != token.library.sha256 {
        record_identity(state, token_name, &token, &identity).map_err(|error| failed(&error.to_string()))?;
    }
    Ok(Provisioned { origin, token, identity, pin_file })
}

/// What provisioning recorded for this token.
///
/// # Errors
/// `token_identity_unreadable`.
pub fn expected(state: &StateDir, token_name: &str) -> Result<Expected, Failure> {
    let path = identity_path(state, token_name);
    let unreadable = |why: String| {
        Failure::fault(
            "token_identity_unreadable",
            format!("{} cannot be read: {why}", path.display()),
            "restore the file; it names the token that belongs to this state directory",
        )
    };
    match std::fs::read(&path) {
        Ok(text) => {
            let record: IdentityRecord =
                serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
            Ok(Expected { identity: Some(record.key), module_sha256: record.module_sha256 })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Expected::default()),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

fn identity_path(state: &StateDir, token_name: &str) -> PathBuf {
    state.resolve(format!("identity/{token_name}.json"))
}

fn failed(why: &str) -> Failure {
    Failure::fault(
        "provisioning_failed",
        format!("the token could not be provisioned: {why}"),
        "correct the cause and run it again: what is done already is kept",
    )
}

/// Directories (0700) and, for SoftHSM2, its configuration when it is not there.
fn prepare(state: &StateDir, settings: &HsmSettings, pin_file: &Path) -> std::io::Result<()> {
    private_directory(state.root())?;
    private_directory(&state.resolve("identity"))?;
    if let Some(directory) = pin_file.parent() {
        private_directory(directory)?;
    }
    let root = std::path::absolute(state.root())?;
    let Some(conf) = settings.env.get("SOFTHSM2_CONF") else {
        return Ok(());
    };
    let conf = PathBuf::from(conf.replace("{state}", &root.to_string_lossy()));
    let directory = conf.parent().map_or_else(|| root.clone(), Path::to_owned);
    let tokens = directory.join("tokens");
    private_directory(&tokens)?;
    if conf.try_exists()? {
        return Ok(());
    }
    write_durably(&conf, CONF_TEMPLATE.replace("{tokens}", &tokens.to_string_lossy()).as_bytes())
}

fn record_identity(state: &StateDir, token_name: &str, token: &TokenInfo, identity: &KeyInfo) -> std::io::Result<()> {
    let record = IdentityRecord {
        token: token_name.to_owned(),
        serial: token.serial.clone(),
        key: identity.id,
        spki: hex::encode(&identity.spki),
        module_sha256: token.library.sha256,
    };
    write_durably(&identity_path(state, token_name), &serde_json::to_vec_pretty(&record)?)
}

/// A new file with mode 0600 that is whole or not there: written beside, synced, renamed, directory synced.
pub(super) fn write_durably(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(directory)?.sync_all()
}

fn run_worker(
    program: &Path,
    state: &StateDir,
    settings: &HsmSettings,
    orders: &WorkerOrders,
) -> Result<WorkerReport, Failure> {
    let (channel, stdin) = Channel::pair().map_err(|error| failed(&error.to_string()))?;
    let mut child = worker_command(program, state, settings, stdin)
        .args(["hsm-worker", "--provision"])
        .spawn()
        .map_err(|error| failed(&format!("the worker did not start: {error}")))?;
    let report = messages::send(&channel, orders, None).and_then(|()| await_report(&channel));
    // Answered or not: the worker's part is over.
    channel.shut_down();
    if report.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed(&error.to_string()))?;
    report.map_err(|error| failed(&format!("{error} (the worker ended with {status})")))
}

fn await_report(channel: &Channel) -> std::io::Result<WorkerReport> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let limit = Timespec { tv_sec: LIMIT.as_secs().cast_signed(), tv_nsec: 0 };
    if poll(&mut [PollFd::new(channel, PollFlags::IN)], Some(&limit))? == 0 {
        return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the worker did not answer"));
    }
    let packet = channel.receive()?.ok_or_else(|| std::io::Error::other("the worker gave no answer"))?;
    messages::parse(packet).map(|(report, _)| report)
}
