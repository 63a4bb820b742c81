//! The token that is measured: one of its own in a temporary directory, or a party's.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::directory::{Directory, private_directory, unusable};
use super::{Kind, PartyToken, Plan, Running, invalid};
use crate::hsm::Token;
use crate::hsm::client::HsmState;
use crate::hsm::embedded::Embedded;
use crate::hsm::measure::RawWorker;
use crate::hsm::provision::{self, ModuleChange};
use crate::hsm::settings::HsmSettings;
use crate::hsm::supervisor;
use crate::kernel::sign::Purpose;
use crate::kernel::types::KeyId;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

const NAME: &str = "bench";
/// Until all workers of a pool are ready.
const READY_LIMIT: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(5);

/// A token, the key that signs and what it signs.
pub struct Subject {
    program: PathBuf,
    state: StateDir,
    name: String,
    settings: HsmSettings,
    key: KeyId,
    kind: Kind,
    module: String,
    /// Removed with everything in it at the end.
    _directory: Option<Directory>,
    /// Keeps the party's daemon from starting meanwhile.
    _lock: Option<OwnedFd>,
}

impl Subject {
    /// A new token of this module. `delay`: the module is the fault shim before that real one.
    ///
    /// # Errors
    /// Whatever keeps a token from being made.
    pub fn temporary(plan: &Plan, module: &Path, delay: Option<(&Path, Duration)>) -> Result<Self, Failure> {
        let directory = Directory::make(&std::env::temp_dir())?;
        let state = StateDir::new(directory.path());
        let mut settings = HsmSettings {
            env: [("SOFTHSM2_CONF".to_owned(), "{state}/softhsm/softhsm2.conf".to_owned())].into(),
            pin_file: Some(format!("pins/{NAME}.pin").into()),
            workers: 1,
            deadline_ms: 30_000,
            ..HsmSettings::new(
                format!("pkcs11:token={NAME}"),
                std::path::absolute(module).unwrap_or_else(|_| module.to_owned()),
            )
        };
        if let Some((real, delay)) = delay {
            let control = directory.path().join("shim");
            let orders = format!("module {}\nsign-takes {}\n", real.display(), delay.as_micros());
            private_directory(&control)
                .and_then(|()| std::fs::write(control.join("orders"), orders))
                .map_err(|error| unusable(&control, &error))?;
            settings.env.insert("PKCS11_SHIM_CONTROL".to_owned(), "{state}/shim".to_owned());
        }
        let provisioned = provision::provision_with(&plan.program, &state, NAME, &settings, ModuleChange::Refuse)?;
        let key = match plan.kind {
            Kind::SelfTest => provisioned.identity.id,
            Kind::Tls => generate(plan, &state, &settings, Purpose::Agent, Some("shopper"))?,
            Kind::Document => generate(plan, &state, &settings, Purpose::Transaction, None)?,
        };
        Ok(Self {
            program: plan.program.clone(),
            state,
            name: NAME.to_owned(),
            settings,
            key,
            kind: plan.kind,
            module: provisioned.token.module,
            _directory: Some(directory),
            _lock: None,
        })
    }

    /// A party's token, while its daemon is stopped.
    ///
    /// # Errors
    /// `already_running`; `bench_options_invalid` when its PIN cannot be read more than once.
    pub fn of_party(plan: &Plan, party: &PartyToken) -> Result<Self, Failure> {
        if party.settings.pin_file.is_none() && party.settings.pin_credential.is_none() {
            return Err(invalid("the PIN is needed several times: the token must have a pin_file or pin_credential"));
        }
        let lock = supervisor::take_lock(&party.state)?;
        let key = provision::expected(&party.state, &party.name)?
            .identity
            .ok_or_else(|| invalid("the token of this state directory was not provisioned by `countersign init`"))?;
        Ok(Self {
            program: plan.program.clone(),
            state: party.state.clone(),
            name: party.name.clone(),
            settings: party.settings.clone(),
            key,
            kind: Kind::SelfTest,
            module: party.settings.module.display().to_string(),
            _directory: None,
            _lock: Some(lock),
        })
    }

    pub fn about(&self) -> String {
        let whose = match &self._directory {
            Some(_) => "a temporary token".to_owned(),
            None => format!("the token of {} (self-tests of its identity key only)", self.state.root().display()),
        };
        format!("{whose} of {}", self.module)
    }

    /// A worker that calls the module in a bare loop.
    pub fn raw(&self) -> Result<RawWorker, Failure> {
        RawWorker::start(&self.program, &self.state, &self.name, &self.settings, self.key)
    }

    /// The product's own pool with so many workers, all of them ready.
    pub fn running(&self, workers: u32) -> Result<Running, Failure> {
        let settings = HsmSettings { workers, ..self.settings.clone() };
        let embedded = Embedded::start(self.program.clone(), &self.state, &self.name, &settings)?;
        await_workers(&embedded, workers)?;
        Ok(Running { embedded, key: self.key, kind: self.kind, sessions: workers * settings.sessions })
    }
}

/// Once all workers of a pool are ready.
///
/// # Errors
/// Why they are not.
pub(super) fn await_workers(embedded: &Embedded, workers: u32) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let health = embedded.pool().health();
        let ready = u32::try_from(health.workers).is_ok_and(|ready| ready >= workers);
        if ready && health.state == HsmState::Up {
            return Ok(());
        }
        if began.elapsed() > READY_LIMIT {
            return Err(health.reason.unwrap_or_else(|| {
                Failure::fault("bench_failed", "not all HSM workers became ready", "see the log, then repeat")
            }));
        }
        std::thread::sleep(READY_POLL);
    }
}

fn generate(
    plan: &Plan,
    state: &StateDir,
    settings: &HsmSettings,
    purpose: Purpose,
    agent: Option<&str>,
) -> Result<KeyId, Failure> {
    let embedded = Embedded::start(plan.program.clone(), state, NAME, settings)?;
    let token: std::sync::Arc<dyn Token> = embedded.pool();
    Ok(token.generate(NAME, purpose, agent)?.id)
}
