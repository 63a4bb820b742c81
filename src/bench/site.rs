//! Three parties that know each other, and agents that both organisations have signed for.

use std::path::Path;

use super::directory::{Directory, private_directory, unusable};
use super::served::{self, Served, failed, operator};
use super::stop::Stop;
use crate::hsm::CertifiedKey;
use crate::kernel::credential::pem::{self, Kind};
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

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
        let olga = operator("olga");
        let agent = name.parse().map_err(|error| failed(&error))?;
        let role = "purchaser".parse().map_err(|error| failed(&error))?;
        let host = &self.host.authority;
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

    /// The bank's root, DER.
    ///
    /// # Errors
    /// `bench_failed` when it cannot be read.
    pub(super) fn root(&self) -> Result<Vec<u8>, Failure> {
        pem::decode_one(Kind::Certificate, &self.bank.file("certs/root.pem")?).map_err(|error| failed(&error))
    }
}
