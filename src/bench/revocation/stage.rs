//! Three parties with tokens of their own, and agents that both organisations have signed for.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::Plan;
use crate::bench::directory::{Directory, private_directory, unusable};
use crate::bench::stop::Stop;
use crate::ca::settings::{PartyKind, PkiSettings};
use crate::ca::{Authority, AuthoritySetup};
use crate::front::operators::Operators;
use crate::front::services::{FrontSettings, Services, ServicesSetup};
use crate::front::settings::DemoSettings;
use crate::hsm::CertifiedKey;
use crate::hsm::confine::Confinement;
use crate::hsm::embedded::Embedded;
use crate::hsm::provision::{self, ModuleChange};
use crate::hsm::settings::HsmSettings;
use crate::kernel::command::{Actor, OperatorPrincipal};
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;

/// One party. Its worker processes end after everything that calls them.
pub(super) struct Party {
    pub(super) authority: Arc<Authority>,
    pub(super) store: Arc<dyn Store>,
    state: StateDir,
    pub(super) token: Embedded,
}

pub(super) struct Stage {
    pub(super) services: Arc<Services>,
    pub(super) bank: Party,
    pub(super) host: Party,
    _secco: Party,
    /// By agent.
    pub(super) agents: Vec<(String, CertifiedKey)>,
    _directory: Directory,
}

impl Stage {
    pub(super) fn set(plan: &Plan, stop: &Stop) -> Result<Self, Failure> {
        let directory = Directory::make(&plan.directory)?;
        let party = |name: &str, kind| Party::new(plan, directory.path(), name, kind);
        let secco = party("secco", PartyKind::SecurityCompany)?;
        let bank = party("bank", PartyKind::Bank)?;
        let host = party("agent", PartyKind::AgentHost)?;
        for party in [&secco, &bank, &host] {
            party.authority.init_party(&operator("olga"))?;
        }
        for (at, other) in [(&bank, &secco), (&secco, &bank), (&host, &bank), (&host, &secco)] {
            let (root, issuing) = (other.file("certs/root.pem")?, other.file("certs/issuing.pem")?);
            at.authority.trust_add(&operator("olga"), other.authority.party(), &root, &issuing)?;
        }
        let shown = host.authority.host_show(&operator("olga"))?;
        bank.authority.host_enrol(&operator("olga"), &shown)?;
        secco.authority.host_enrol(&operator("olga"), &shown)?;
        let list = secco.authority.crl_export(&operator("olga"))?;
        bank.authority.crl_import(&operator("olga"), text(&list["crl_pem"]))?;

        let mut agents = vec![];
        for number in 0..plan.agents {
            stop.check()?;
            agents.push(enrolled(&secco, &bank, &host, &format!("agent-{number}"))?);
        }
        let services = Services::open(ServicesSetup {
            party: bank.authority.party().clone(),
            kind: PartyKind::Bank,
            state: bank.state.clone(),
            settings: FrontSettings {
                policy: None,
                payment: crate::payment::settings::PaymentSettings::default(),
                audit: crate::audit::settings::AuditSettings::default(),
                pki: PkiSettings::default(),
            },
            operators: Operators::new(vec![], DemoSettings::default()),
            hsm: bank.token.pool(),
            store: Arc::clone(&bank.store),
            authority: Arc::clone(&bank.authority),
            core: None,
            confinement: Confinement::NotAvailable("a measurement".into()),
        })?;
        Ok(Self { services, bank, host, _secco: secco, agents, _directory: directory })
    }

    pub(super) fn root(&self) -> Result<Vec<u8>, Failure> {
        use crate::kernel::credential::pem::{self, Kind};
        pem::decode_one(Kind::Certificate, &self.bank.file("certs/root.pem")?)
            .map_err(|error| Failure::fault("bench_failed", error.to_string(), "report this as a defect"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.services.stop();
    }
}

impl Party {
    fn new(plan: &Plan, directory: &Path, name: &str, kind: PartyKind) -> Result<Self, Failure> {
        let path = directory.join(name);
        private_directory(&path).map_err(|error| unusable(&path, &error))?;
        let state = StateDir::new(&path);
        let settings = HsmSettings {
            env: [("SOFTHSM2_CONF".to_owned(), "{state}/softhsm/softhsm2.conf".to_owned())].into(),
            pin_file: Some(format!("pins/{name}.pin").into()),
            workers: 1,
            deadline_ms: 30_000,
            ..HsmSettings::new(format!("pkcs11:token={name}"), plan.module.clone())
        };
        provision::provision_with(&plan.program, &state, name, &settings, ModuleChange::Refuse)?;
        let token = Embedded::start(plan.program.clone(), &state, name, &settings)?;
        let store = SqliteStore::open(&state.resolve("store/store.sqlite3"))? as Arc<dyn Store>;
        let authority = Authority::open(AuthoritySetup {
            party: name.parse().map_err(|error| Failure::fault("bench_failed", format!("{error}"), "report it"))?,
            kind,
            state: state.clone(),
            pki: PkiSettings::default(),
            algorithms: std::collections::BTreeMap::new(),
            token: token.pool(),
            store: Arc::clone(&store),
        })?;
        Ok(Self { authority, store, state, token })
    }

    fn file(&self, name: &str) -> Result<String, Failure> {
        let path = self.state.resolve(name);
        std::fs::read_to_string(&path).map_err(|error| unusable(&path, &error))
    }
}

fn enrolled(secco: &Party, bank: &Party, host: &Party, name: &str) -> Result<(String, CertifiedKey), Failure> {
    let olga = operator("olga");
    let defect = |what: &str| Failure::fault("bench_failed", what.to_owned(), "report this as a defect");
    let (agent, role) =
        (name.parse().map_err(|_| defect("a name"))?, "purchaser".parse().map_err(|_| defect("a role"))?);
    let request = host.authority.cert_request(&olga, &agent, &role, None)?;
    let endorsed = secco.authority.cert_endorse(&olga, &request, None)?;
    let endorsement = text(&endorsed["certificate_pem"]);
    let request = host.authority.cert_request(&olga, &agent, &role, Some(endorsement))?;
    let issued = bank.authority.cert_issue(&olga, &request, None)?;
    host.authority.cert_install(&olga, &agent, text(&issued["certificate_pem"]), endorsement)?;
    Ok((text(&issued["subject"]).to_owned(), host.authority.agent_identity(&agent)?))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn operator(name: &str) -> Actor {
    Actor::Operator(OperatorPrincipal {
        name: name.parse().expect("lower-case letters"),
        uid: 0,
        roles: vec!["administrator".into(), "officer".into()],
        asserted: true,
    })
}
