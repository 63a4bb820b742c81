//! Whether what is published is what is recorded: store, newest list and OCSP answers, certificate by certificate.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::ca::authority::{ADMINISTRATOR, Authority, OFFICER, unexpected_effect};
use crate::ca::issue::OwnCa;
use crate::ca::ocsp::Responder;
use crate::ca::settings::PartyKind;
use crate::kernel::command::Actor;
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::crl_build::Scope;
use crate::kernel::credential::{crl, ocsp};
use crate::kernel::status::StatusSnapshot;
use crate::kernel::types::Serial;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::{CertificateLine, CertificatesOf};

/// Differences that one answer names; they are counted beyond.
const DIFFERENCES_MAX: usize = 1_000;
/// Certificates read at a time: whole questions to the responder.
const LINES: u32 = 32 * ocsp::CERTIFICATES_MAX as u32;

#[derive(Debug, Default)]
struct Findings {
    certificates: u64,
    revoked: u64,
    count: u64,
    differences: Vec<Value>,
}

impl Findings {
    fn differs(&mut self, issuer: &str, serial: &Serial, what: String) {
        self.count += 1;
        if self.differences.len() < DIFFERENCES_MAX {
            self.differences.push(json!({ "issuer": issuer, "serial": serial, "what": what }));
        }
    }
}

impl Authority {
    /// Compares what is recorded of every certificate in force with the newest list and the responder's answers.
    ///
    /// Answers `{certificates, revoked, count, differences: [{issuer, serial, what}]}`.
    ///
    /// # Errors
    /// `operator_not_permitted`, `not_this_party`, `party_not_initialised`, the token's, the store's.
    pub fn crl_check(&self, actor: &Actor, responder: &Responder) -> Result<Value, Failure> {
        self.permit(actor, &[OFFICER, ADMINISTRATOR, "auditor"])?;
        self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
        let status = self.store.status()?;
        let mut findings = Findings::default();
        for (authority, scope) in self.publishing()? {
            self.check_issuer(&authority, scope, responder, &status, &mut findings)?;
        }
        Ok(json!({
            "certificates": findings.certificates,
            "revoked": findings.revoked,
            "count": findings.count,
            "differences": findings.differences,
        }))
    }

    fn check_issuer(
        &self,
        authority: &OwnCa,
        scope: Scope,
        responder: &Responder,
        status: &StatusSnapshot,
        findings: &mut Findings,
    ) -> Result<(), Failure> {
        let issuer = &authority.identifier;
        let now = clock::now();
        let list = self.newest_list(authority)?;
        let verified = list.as_ref().and_then(|der| crl::verify(der, &authority.der, now).ok());
        let listed: BTreeSet<&Serial> = verified.iter().flat_map(|list| list.serials()).collect();
        let mut after = None;
        loop {
            let of = CertificatesOf::Issuer(issuer.clone());
            let lines = self.store.certificate_lines(&of, now, after.as_ref(), LINES)?;
            let Some(last) = lines.last() else {
                break;
            };
            after = Some(last.place());
            for portion in lines.chunks(ocsp::CERTIFICATES_MAX) {
                let said = match scope {
                    // Nothing under a root names a responder.
                    Scope::Authorities => None,
                    Scope::EndEntities => Some(asked(authority, portion, responder)?),
                };
                for (index, line) in portion.iter().enumerate() {
                    let is_revoked = is_revoked(line, status);
                    findings.certificates += 1;
                    findings.revoked += u64::from(is_revoked);
                    if verified.is_none() {
                        findings.differs(issuer, &line.serial, "no list of this issuer is in force".into());
                    } else if listed.contains(&line.serial) != is_listed(line, status) {
                        let [is, has] = if is_revoked { ["revoked", "lacks"] } else { ["good", "has"] };
                        findings.differs(issuer, &line.serial, format!("it is {is}, and the list {has} it"));
                    }
                    let expected = if is_revoked { "revoked" } else { "good" };
                    let answer = said.as_ref().map(|said| said.get(index).copied().unwrap_or("nothing"));
                    if let Some(answer) = answer.filter(|answer| *answer != expected) {
                        findings.differs(
                            issuer,
                            &line.serial,
                            format!("it is {expected}, the responder says {answer}"),
                        );
                    }
                }
            }
        }
        for serial in listed {
            if self.store.certificate_status(issuer, serial)?.is_none() {
                findings.differs(issuer, serial, "the list names what was never issued".into());
            }
        }
        Ok(())
    }
}

fn is_revoked(line: &CertificateLine, status: &StatusSnapshot) -> bool {
    is_listed(line, status) || status.issuers.contains(&line.issuer)
}

/// Of a revoked issuer's certificates the root's list speaks, which has the issuer.
fn is_listed(line: &CertificateLine, status: &StatusSnapshot) -> bool {
    status.certificates.contains(&(line.issuer.clone(), line.serial.clone()))
        || line.subject.parse().is_ok_and(|agent| status.revokes(&agent))
}

/// What the responder says of each, in order. Nothing where it gave no answer.
fn asked(authority: &OwnCa, lines: &[CertificateLine], responder: &Responder) -> Result<Vec<&'static str>, Failure> {
    let unreadable = || unexpected_effect("a CA certificate that cannot be read");
    let certificate = Certificate::read(&authority.der).map_err(|_| unreadable())?;
    let named = |line: &CertificateLine| ocsp::cert_id(certificate.tbs.subject, &authority.spki, &line.serial);
    let ids: Vec<Vec<u8>> = lines.iter().map(named).collect::<Option<_>>().ok_or_else(unreadable)?;
    let answer = responder.answer(&authority.identifier, &ocsp::request(&ids));
    let said = ocsp::read_response(&answer.der).unwrap_or_default();
    let fits = said.len() == lines.len()
        && said.iter().zip(lines).all(|(said, line)| said.serial.as_ref() == Some(&line.serial));
    Ok(if fits { said.iter().map(|said| said.status).collect() } else { vec![] })
}
