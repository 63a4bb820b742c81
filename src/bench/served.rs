//! A party as `countersign init` makes it and `countersign serve` runs it: its configuration, token, store and log.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::subject::await_workers;
use crate::audit;
use crate::ca::{Authority, AuthoritySetup};
use crate::config::Config;
use crate::front::operators::Operators;
use crate::front::services::{FrontSettings, Services, ServicesSetup};
use crate::hsm::confine::Confinement;
use crate::hsm::embedded::Embedded;
use crate::hsm::settings::HsmSettings;
use crate::hsm::{KeyInfo, Token};
use crate::kernel::command::{Actor, OperatorPrincipal};
use crate::kernel::monitor::Mode;
use crate::kernel::sign::Purpose;
use crate::monitor::settings::MonitorSettings;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::ops::space::Space;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::vault::{Feed, Vault, VaultSetup};

/// One party inside this process. Its worker processes end after everything that calls them.
pub(super) struct Served {
    pub(super) services: Arc<Services>,
    pub(super) authority: Arc<Authority>,
    pub(super) store: Arc<dyn Store>,
    pub(super) state: StateDir,
    /// What its token is called.
    pub(super) token_name: String,
    pub(super) settings: HsmSettings,
    pub(super) token: Embedded,
}

/// Makes a party's state directory.
///
/// # Errors
/// `bench_failed`, with what `countersign init` said.
pub(super) fn init(program: &Path, module: &Path, kind: &str, state: &StateDir) -> Result<(), Failure> {
    let output = Command::new(program)
        .args(["init", "--kind", kind, "--port", "0", "--module"])
        .arg(module)
        .arg("--state")
        .arg(state.root())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(&error))?;
    if output.status.success() { Ok(()) } else { Err(failed(&String::from_utf8_lossy(&output.stderr))) }
}

impl Served {
    /// # Errors
    /// Whatever keeps the party's daemon from starting.
    pub(super) fn open(program: &Path, state: &StateDir) -> Result<Self, Failure> {
        let config = Config::load(state)?;
        let (party, party_settings, settings) = config.hosted();
        let token = Embedded::start(program.to_owned(), state, &party_settings.token, settings)?;
        await_workers(&token, settings.workers)?;
        let store = SqliteStore::open(&state.resolve("store/store.sqlite3"))? as Arc<dyn Store>;
        let wrapping = token.pool() as Arc<dyn crate::hsm::Token>;
        audit::sealing::begin(&*store, &wrapping, party.as_str(), &config.audit)?;
        let authority = authority(&config, state, token.pool(), Arc::clone(&store))?;
        let vault = Arc::new(Vault::new(VaultSetup {
            store: Arc::clone(&store),
            token: Arc::clone(&wrapping),
            party: party.clone(),
            trust_domain: config.pki.trust_domain.clone(),
            algorithm: settings.algorithms.get(&Purpose::VaultWrapping).copied(),
        }));
        let feed = Arc::new(Feed::new(Arc::clone(&vault), []));
        let services = Services::open(ServicesSetup {
            party: party.clone(),
            kind: party_settings.kind,
            state: state.clone(),
            settings: FrontSettings {
                policy: config.policy.clone(),
                payment: config.payment.clone(),
                breaker: crate::guard::settings::BreakerSettings::default(),
                witness: crate::audit::settings::WitnessSettings::default(),
                audit: config.audit.clone(),
                // What is measured is asked a thousand times as often as anybody asks: scored, and not held.
                monitor: MonitorSettings { mode: Mode::Observe, ..MonitorSettings::default() },
                pki: config.pki.clone(),
                agents: config.agents,
                signing: config.signing.clone(),
            },
            operators: Operators::new(config.operator.clone(), config.demo.clone()),
            hsm: token.pool(),
            store: Arc::clone(&store),
            authority: Arc::clone(&authority),
            core: None,
            notifier: None,
            archive: None,
            vault,
            feed,
            confinement: Confinement::NotAvailable("a measurement".into()),
            space: Arc::new(Space::new(vec![state.root().to_owned()], 0)),
        })?;
        services.begin()?;
        let (state, token_name, settings) = (state.clone(), party_settings.token.clone(), settings.clone());
        Ok(Self { services, authority, store, state, token_name, settings, token })
    }

    /// One of its files.
    ///
    /// # Errors
    /// `bench_failed` when it cannot be read.
    pub(super) fn file(&self, name: &str) -> Result<String, Failure> {
        std::fs::read_to_string(self.state.resolve(name)).map_err(|error| failed(&format!("{name}: {error}")))
    }

    /// Once everything that was recorded has its place in the log.
    ///
    /// # Errors
    /// `bench_failed` when the log stands still.
    pub(super) fn await_log(&self) -> Result<(), Failure> {
        let mut before = None;
        let mut moved = Instant::now();
        while let Some(first) = self.store.unsequenced(1)?.first().map(|leaf| leaf.row) {
            if before != Some(first) {
                (before, moved) = (Some(first), Instant::now());
            }
            if moved.elapsed() > READY_LIMIT {
                return Err(failed(&"the log stands still"));
            }
            std::thread::sleep(LOG_POLL);
        }
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.services.stop();
    }
}

/// A party's authority over this token.
///
/// # Errors
/// As [`Authority::open`].
pub(super) fn authority(
    config: &Config,
    state: &StateDir,
    token: Arc<dyn Token>,
    store: Arc<dyn Store>,
) -> Result<Arc<Authority>, Failure> {
    let (party, settings, hsm) = config.hosted();
    Authority::open(AuthoritySetup {
        party: party.clone(),
        kind: settings.kind,
        state: state.clone(),
        pki: config.pki.clone(),
        algorithms: hsm.algorithms.clone(),
        token,
        store,
    })
}

/// From the start of `countersign serve` to its one line, in seconds; then it is stopped.
///
/// # Errors
/// `bench_failed`, with its line, when it did not become ready.
pub(super) fn start_s(program: &Path, state: &StateDir) -> Result<f64, Failure> {
    let begun = Instant::now();
    let mut daemon = started(program, state)?;
    let elapsed = begun.elapsed().as_secs_f64();
    stop(&mut daemon)?;
    Ok(elapsed)
}

/// `countersign serve` on this state directory, ready. It goes on until it is stopped.
///
/// # Errors
/// `bench_failed`, with its line, when it did not become ready.
pub(super) fn started(program: &Path, state: &StateDir) -> Result<Child, Failure> {
    let mut child = Command::new(program)
        .args(["serve", "--state"])
        .arg(state.root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(&error))?;
    let mut line = String::new();
    let read = child.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
    match read {
        Some(Ok(_)) if line.contains("\"ready\":true") => Ok(child),
        _ => {
            stop(&mut child)?;
            Err(failed(&format!("countersign serve: {line}")))
        }
    }
}

/// Asks it to end, and waits until it has.
pub(super) fn stop(child: &mut Child) -> Result<(), Failure> {
    let id = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(id) = id {
        // One that has ended already is waited for all the same.
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
    }
    child.wait().map(drop).map_err(|error| failed(&error))
}

/// An officer and administrator, by a demo's word alone.
pub(super) fn operator(name: &str) -> Actor {
    Actor::Operator(OperatorPrincipal {
        name: name.parse().expect("lower-case letters"),
        uid: 0,
        roles: vec!["administrator".into(), "officer".into()],
        asserted: true,
        owner: None,
    })
}

pub(super) fn failed(why: &dyn std::fmt::Display) -> Failure {
    Failure::fault("bench_failed", why.to_string(), "see the log, then repeat it")
}

/// The public half is enough to name a key of the token.
///
/// # Errors
/// The token's; `bench_failed` when there is none.
pub(super) fn key_of(served: &Served, purpose: Purpose) -> Result<KeyInfo, Failure> {
    let token: Arc<dyn Token> = served.token.pool();
    let keys = token.keys()?;
    keys.into_iter().find(|key| key.purpose == purpose).ok_or_else(|| failed(&"the token has no such key"))
}

const READY_LIMIT: Duration = Duration::from_secs(60);
const LOG_POLL: Duration = Duration::from_millis(20);
