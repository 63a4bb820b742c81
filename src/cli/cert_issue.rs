//! `countersign cert issue NAME …`: the whole way of an agent to its pair, where all parties are on this machine.
//!
//! Every step is the one that the party's own command takes, and finds what an interrupted run left: repeating the
//! command goes on.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::documents::text;
use crate::cli::officer::{Officer, party_of, subject_of};
use crate::front::admin::AdminCall;
use crate::kernel::types::{AgentName, RoleName};
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

/// Who takes part.
pub struct Parties {
    pub host: PathBuf,
    pub company: PathBuf,
    /// The officers' own state directories.
    pub endorse_as: PathBuf,
    pub issue_as: PathBuf,
}

/// Requests, endorses, issues and installs. Answers the installed pair.
///
/// # Errors
/// `same_person`; the failures of every step.
pub fn run(
    bank: &Context,
    name: &AgentName,
    role: &RoleName,
    parties: &Parties,
    days: u32,
    mut tell: impl FnMut(&str),
) -> Result<Value, Failure> {
    let at = |directory: &Path| Context { state: StateDir::new(directory), json: bank.json, operator: None };
    let (host, company) = (at(&parties.host), at(&parties.company));
    let (endorser, issuer) = (Officer::of(&parties.endorse_as, bank.json), Officer::of(&parties.issue_as, bank.json));
    if endorser.key()? == issuer.key()? {
        return Err(Failure::refused(
            "same_person",
            "the same key would endorse and issue",
            "name two officers: one enrolled at the security company, another one at the bank",
        ));
    }
    tell("agent host: request");
    let ask = |endorsement_pem: Option<String>| {
        host.call(AdminCall::CertRequest { name: name.clone(), role: role.clone(), endorsement_pem })
    };
    let request = ask(None)?;
    let (agent, key) = subject_of(&request)?;

    tell("security company: endorsement");
    let approval = endorser.approve(party_of(&company)?.0, agent.clone(), key, days)?;
    let endorsed = company.call(AdminCall::CertEndorse { request, approval: Some(approval) })?;
    let endorsement_pem = text(&endorsed, "certificate_pem").to_owned();

    tell("agent host: proof of the endorsement");
    let request = ask(Some(endorsement_pem.clone()))?;

    tell("bank: certificate");
    let approval = issuer.approve(party_of(bank)?.0, agent.clone(), key, days)?;
    let issued = bank.call(AdminCall::CertIssue { request, approval: Some(approval) })?;
    let bank_pem = text(&issued, "certificate_pem").to_owned();

    tell("agent host: installation");
    let installed = host.call(AdminCall::CertInstall { name: name.clone(), bank_pem, endorsement_pem })?;
    Ok(json!({ "agent": agent, "endorsement": endorsed, "bank": issued, "installed": installed }))
}
