//! Three parties that know each other, and agents that both organisations have signed for.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::directory::{Directory, private_directory, unusable};
use super::served::{self, Served, failed, operator};
use super::stop::Stop;
use crate::ca::Authority;
use crate::front::gates::Gates;
use crate::front::listener::{Listener, ListenerSetup};
use crate::front::oauth::TokenGate;
use crate::front::settings::LimitSettings;
use crate::hsm::{CertifiedKey, Token};
use crate::kernel::command::{Actor, NewAccount, OperatorPrincipal, Verb};
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::types::Money;
use crate::kernel::zone::Zone;
use crate::mcp::server::ToolGate;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::tls::PairGate;

const CATALOGUE: &str = include_str!("../../certs/catalogue.json");
/// The account that pays and the one that is paid.
pub(super) const ACCOUNTS: [&str; 2] = ["CHK_001", "SAV_001"];

/// A security company, a bank and an agent host in one directory, which is gone with them.
pub(super) struct Site {
    pub(super) secco: Served,
    pub(super) bank: Served,
    pub(super) host: Served,
    pub(super) directory: Directory,
}

/// Their state directories, before anybody has started them.
///
/// # Errors
/// `bench_stopped`; whatever `countersign init` says.
pub(super) fn prepare(program: &Path, module: &Path, parent: &Path, stop: &Stop) -> Result<Directory, Failure> {
    let directory = Directory::make(parent)?;
    for (party, kind) in [("secco", "security-company"), ("bank", "bank"), ("agent", "agent-host")] {
        stop.check()?;
        let state = state(&directory, party);
        private_directory(state.root()).map_err(|error| unusable(state.root(), &error))?;
        served::init(program, module, kind, &state)?;
    }
    Ok(directory)
}

pub(super) fn state(directory: &Directory, party: &str) -> StateDir {
    StateDir::new(directory.path().join(party))
}

impl Site {
    /// Starts the parties and has each trust the others; both organisations know the host.
    ///
    /// # Errors
    /// Whatever keeps a party from starting.
    pub(super) fn open(program: &Path, directory: Directory) -> Result<Self, Failure> {
        let open = |party: &str| Served::open(program, &state(&directory, party));
        let (secco, bank, host) = (open("secco")?, open("bank")?, open("agent")?);
        let olga = operator("olga");
        for (at, other) in [(&bank, &secco), (&secco, &bank), (&host, &bank), (&host, &secco)] {
            let (root, issuing) = (other.file("certs/root.pem")?, other.file("certs/issuing.pem")?);
            at.authority.trust_add(&olga, other.authority.party(), &root, &issuing)?;
        }
        let shown = host.authority.host_show(&olga)?;
        bank.authority.host_enrol(&olga, &shown)?;
        secco.authority.host_enrol(&olga, &shown)?;
        let list = secco.authority.crl_export(&olga)?;
        bank.authority.crl_import(&olga, list["crl_pem"].as_str().unwrap_or_default())?;
        bank.services.complete()?;
        Ok(Self { secco, bank, host, directory })
    }

    /// An agent with its pair installed: its SPIFFE ID and its identity.
    ///
    /// # Errors
    /// Whatever keeps a pair from being issued.
    pub(super) fn enrolled(&self, name: &str) -> Result<(String, CertifiedKey), Failure> {
        self.enrolled_at(&self.host.authority, name)
    }

    /// The same at another authority of the host's.
    ///
    /// # Errors
    /// As [`Self::enrolled`].
    pub(super) fn enrolled_at(&self, host: &Authority, name: &str) -> Result<(String, CertifiedKey), Failure> {
        let olga = operator("olga");
        let agent = name.parse().map_err(|error| failed(&error))?;
        let role = "purchaser".parse().map_err(|error| failed(&error))?;
        let request = host.cert_request(&olga, &agent, &role, None)?;
        let endorsed = self.secco.authority.cert_endorse(&olga, &request, None)?;
        let endorsement = endorsed["certificate_pem"].as_str().unwrap_or_default();
        let request = host.cert_request(&olga, &agent, &role, Some(endorsement))?;
        let issued = self.bank.authority.cert_issue(&olga, &request, None)?;
        host.cert_install(&olga, &agent, issued["certificate_pem"].as_str().unwrap_or_default(), endorsement)?;
        Ok((issued["subject"].as_str().unwrap_or_default().to_owned(), host.agent_identity(&agent)?))
    }

    /// So many agents, one after the other.
    ///
    /// # Errors
    /// As [`Self::enrolled`]; `bench_stopped`.
    pub(super) fn several(
        &self,
        count: u32,
        prefix: &str,
        stop: &Stop,
    ) -> Result<Vec<(String, CertifiedKey)>, Failure> {
        (0..count)
            .map(|number| {
                stop.check()?;
                self.enrolled(&format!("{prefix}-{number}"))
            })
            .collect()
    }

    /// Two accounts, and a role catalogue that both parties signed.
    ///
    /// # Errors
    /// Whatever the parties answer.
    pub(super) fn open_the_bank(&self) -> Result<(), Failure> {
        let catalogue: Value = serde_json::from_str(CATALOGUE).map_err(|error| failed(&error))?;
        let olga = operator("olga");
        let signed = self.secco.authority.catalogue_sign(&olga, &catalogue)?;
        let signed = self.bank.authority.catalogue_sign(&olga, &signed)?;
        self.bank.authority.catalogue_install(&olga, &signed)?;
        self.bank.services.complete()?;
        for account in ACCOUNTS {
            self.bank.services.payments()?.account_open(
                &principal(),
                NewAccount {
                    account: account.parse().map_err(|error| failed(&error))?,
                    owner: "OWN_001".parse().map_err(|error| failed(&error))?,
                    currency: "USD".parse().map_err(|error| failed(&error))?,
                    opening: Some(money("100000")?),
                    overdraft: None,
                    day_max: None,
                    zone: Zone::UTC,
                },
            )?;
        }
        Ok(())
    }

    /// Lets an agent read and pay from the first account.
    ///
    /// # Errors
    /// Whatever the bank answers.
    pub(super) fn grant(&self, agent: &str) -> Result<(), Failure> {
        self.bank.services.payments()?.grant_add(
            &principal(),
            &agent.parse().map_err(|error| failed(&error))?,
            ACCOUNTS[0].parse().map_err(|error| failed(&error))?,
            "OWN_001".parse().map_err(|error| failed(&error))?,
            vec![Verb::Read, Verb::Transfer],
            None,
            1,
        )?;
        Ok(())
    }

    /// The bank's listener, on the runtime that was entered.
    ///
    /// # Errors
    /// `bench_failed`, and what keeps a listener from starting.
    pub(super) fn listen(&self) -> Result<(Listener, SocketAddr), Failure> {
        self.listen_as(self.bank.authority.tls_identity()?, self.bank.services.token(), limits())
    }

    /// The same with another key for its handshakes, or within other limits.
    ///
    /// # Errors
    /// As [`Self::listen`].
    pub(super) fn listen_as(
        &self,
        identity: CertifiedKey,
        token: Arc<dyn Token>,
        limits: LimitSettings,
    ) -> Result<(Listener, SocketAddr), Failure> {
        let services = &self.bank.services;
        let listening = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| failed(&error))?;
        let address = listening.local_addr().map_err(|error| failed(&error))?;
        let gates = Arc::new(Gates::new(Arc::clone(services)));
        let listener = Listener::start(ListenerSetup {
            began: clock::now(),
            listening,
            identity,
            token,
            limits,
            pair_gate: Arc::clone(&gates) as Arc<dyn PairGate>,
            tool_gate: Arc::clone(&gates) as Arc<dyn ToolGate>,
            token_gate: Arc::clone(&gates) as Arc<dyn TokenGate>,
            turns: gates,
            connections: Arc::clone(&services.connections),
            currency: "USD".parse().map_err(|_| failed(&"a currency"))?,
            hosts: vec!["127.0.0.1".into()],
        })?;
        Ok((listener, address))
    }

    /// The bank's root, DER.
    ///
    /// # Errors
    /// `bench_failed` when it cannot be read.
    pub(super) fn root(&self) -> Result<Vec<u8>, Failure> {
        pem::decode_one(Kind::Certificate, &self.bank.file("certs/root.pem")?).map_err(|error| failed(&error))
    }
}

/// As a daemon has them, but for the clients: all are on this machine, and connect at once.
pub(super) fn limits() -> LimitSettings {
    LimitSettings {
        header_timeout_ms: 600_000,
        connections_max: u32::MAX,
        connections_of_agent_max: u32::MAX,
        handshakes_of_source_max: u32::MAX,
        ..LimitSettings::default()
    }
}

fn money(text: &str) -> Result<Money, Failure> {
    let currency = "USD".parse().map_err(|error| failed(&error))?;
    Money::parse_positive(text, currency).map_err(|error| failed(&error))
}

fn principal() -> OperatorPrincipal {
    match operator("olga") {
        Actor::Operator(operator) => operator,
        Actor::Agent(_) | Actor::Program(_) | Actor::System { .. } => unreachable!("`operator` makes an operator"),
    }
}
