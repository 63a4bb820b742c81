//! A real token: SoftHSM2 in a private directory, behind a real worker process, without a daemon around it.

use std::path::PathBuf;
use std::sync::Arc;

use countersign::hsm::Token;
use countersign::hsm::client::WorkerPool;
use countersign::hsm::embedded::Embedded;
use countersign::hsm::provision::{self, ModuleChange, Provisioned};
use countersign::hsm::settings::HsmSettings;
use countersign::ops::failure::Failure;
use countersign::ops::paths::StateDir;

pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_countersign"))
}

/// Settings of a token `name` in its state directory.
pub fn settings(name: &str) -> HsmSettings {
    HsmSettings {
        env: [("SOFTHSM2_CONF".to_owned(), "{state}/softhsm/softhsm2.conf".to_owned())].into(),
        pin_file: Some(format!("pins/{name}.pin").into()),
        workers: 1,
        deadline_ms: 10_000,
        ..HsmSettings::new(format!("pkcs11:token={name}"), MODULE)
    }
}

/// A provisioned token in a directory of its own. Everything is gone when it is dropped.
pub struct RealToken {
    // Dropped first: the worker stops before its directory goes.
    embedded: Option<Embedded>,
    pub name: String,
    pub settings: HsmSettings,
    pub state: StateDir,
    _directory: tempfile::TempDir,
}

impl RealToken {
    /// Provisions, and starts nothing yet.
    pub fn provisioned(name: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDir::new(directory.path());
        let token = Self { embedded: None, name: name.into(), settings: settings(name), state, _directory: directory };
        token.provision().expect("SoftHSM2 is installed and a token can be made");
        token
    }

    /// Names another module, as if it had been configured from the beginning.
    pub fn use_module(&mut self, module: impl Into<PathBuf>) {
        self.settings.module = module.into();
        let record = self.state.resolve(format!("identity/{}.json", self.name));
        let mut known: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
        known["module_sha256"] = serde_json::Value::Null;
        std::fs::write(&record, known.to_string()).unwrap();
    }

    /// Provisions and starts a worker.
    pub fn running(name: &str) -> Self {
        let mut token = Self::provisioned(name);
        token.start().expect("the worker starts");
        token
    }

    pub fn provision(&self) -> Result<Provisioned, Failure> {
        provision::provision_with(&program(), &self.state, &self.name, &self.settings, ModuleChange::Refuse)
    }

    pub fn start(&mut self) -> Result<(), Failure> {
        self.embedded = Some(Embedded::start(program(), &self.state, &self.name, &self.settings)?);
        Ok(())
    }

    /// One more worker of the same token, with a front of its own.
    pub fn another(&self) -> Embedded {
        Embedded::start(program(), &self.state, &self.name, &self.settings).expect("a second worker starts")
    }

    /// Ends the workers as a daemon that stops does.
    pub fn stop(&mut self) {
        self.embedded = None;
    }

    /// The token as the product sees it.
    pub fn token(&self) -> Arc<dyn Token> {
        self.pool()
    }

    pub fn pool(&self) -> Arc<WorkerPool> {
        self.embedded().pool()
    }

    pub fn workers_started(&self) -> u64 {
        self.embedded().workers_started()
    }

    fn embedded(&self) -> &Embedded {
        self.embedded.as_ref().expect("started")
    }
}
