//! Judging a pair without a daemon: from files named on the command line, or from a state directory.

use std::path::Path;

use serde_json::{Value, json};

use crate::ca::files;
use crate::ca::settings::{PartyKind, PkiSettings};
use crate::ca::show::described_pair;
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::chain::{PartyAnchors, issuer_of};
use crate::kernel::credential::crl::{self, CrlRefusal};
use crate::kernel::credential::pair::{Acceptance, PairRefusal, PeerChains, accept};
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::status::{CrlStatus, StatusSnapshot};
use crate::kernel::types::UnixMillis;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

/// Anchors of both parties and what is known of revocations.
#[derive(Clone, Debug)]
pub struct OfflineJudge {
    acceptance: Acceptance,
    status: StatusSnapshot,
}

impl OfflineJudge {
    /// From PEM texts. With at least one list the endorsement's status is required.
    ///
    /// # Errors
    /// `anchor_invalid`, `config_invalid`, and the names of [`CrlRefusal`] for a list that does not verify at `at`.
    pub fn from_files(
        bank: PartyAnchors,
        company: PartyAnchors,
        crls: &[String],
        pki: &PkiSettings,
        at: UnixMillis,
    ) -> Result<Self, Failure> {
        let required = !crls.is_empty();
        let mut judge = Self::new(bank, company, pki)?;
        judge.acceptance.company_crl_required = required;
        for text in crls {
            judge.take_crl(text, at).map_err(|refusal| {
                Failure::refused(
                    refusal.name(),
                    refusal.to_string(),
                    "give lists of the two issuing CAs that are in force at the time in question",
                )
            })?;
        }
        Ok(judge)
    }

    /// From a state directory: a party's own certificates, the anchors it trusts, the lists it has.
    ///
    /// # Errors
    /// `anchors_missing`, `anchor_invalid`, `file_unreadable`.
    pub fn from_state(
        state: &StateDir,
        kind: PartyKind,
        pki: &PkiSettings,
        presented: &[Vec<u8>],
        at: UnixMillis,
    ) -> Result<Self, Failure> {
        let others = anchors_below(&state.anchors())?;
        let own = read_pair(&state.certs().join("root.pem"), &state.certs().join("issuing.pem"))?;
        let missing = || {
            Failure::refused(
                "anchors_missing",
                format!("{} does not know both parties' roots and issuing CAs", state.root().display()),
                "run `countersign init` and `countersign trust add`, or name the four files with flags",
            )
        };
        let first = others.first().cloned();
        let (bank, company) = match kind {
            PartyKind::Bank => own.zip(first),
            PartyKind::SecurityCompany => first.zip(own),
            PartyKind::AgentHost | PartyKind::Operator => sides_by_issuer(&others, presented),
        }
        .ok_or_else(missing)?;
        let mut judge = Self::new(bank, company, pki)?;
        // An agent host has no lists: it is for the bank to know what is revoked.
        judge.acceptance.company_crl_required &= kind.certifies();
        let directory = state.certs().join("crl");
        for name in files::names(&directory)? {
            let Some(text) = files::read_optional(&directory.join(name))? else {
                continue;
            };
            // A list that does not verify is as good as none: then the status is missing.
            let _ = judge.take_crl(&text, at);
        }
        Ok(judge)
    }

    fn new(bank: PartyAnchors, company: PartyAnchors, pki: &PkiSettings) -> Result<Self, Failure> {
        let oid_base = pki.oid_base.parse().map_err(|error| {
            Failure::usage("config_invalid", format!("{error}"), "correct pki.oid_base or --oid-base")
        })?;
        let acceptance = Acceptance {
            bank,
            company,
            trust_domain: pki.trust_domain.clone(),
            oid_base,
            custody_min: pki.custody_min,
            company_crl_required: pki.company_crl_required,
        };
        Ok(Self { acceptance, status: StatusSnapshot::default() })
    }

    /// Adds what a list of one of the two parties says. An expired one counts as stale, not as absent.
    fn take_crl(&mut self, text: &str, at: UnixMillis) -> Result<(), CrlRefusal> {
        let der = pem::decode_one(Kind::Crl, text).map_err(|_| CrlRefusal::Malformed)?;
        let claimed = crl::claimed_issuer(&der).ok_or(CrlRefusal::Malformed)?;
        let mut issuing = self.acceptance.bank.issuing.iter().chain(&self.acceptance.company.issuing);
        let issuer = issuing
            .find(|issuing| {
                Certificate::read(issuing).is_ok_and(|certificate| {
                    certificate.tbs.subject_key_identifier().map(hex::encode).as_ref() == Some(&claimed)
                })
            })
            .ok_or(CrlRefusal::IssuerMismatch)?;
        let verified = crl::verify(&der, issuer, at);
        if verified == Err(CrlRefusal::Expired) {
            let stale = CrlStatus { number: 0, this_update: UnixMillis(0), next_update: UnixMillis(at.0 - 1) };
            self.status.crls.entry(claimed).or_insert(stale);
        }
        let verified = verified?;
        let issuer = verified.issuer().to_owned();
        for serial in verified.serials() {
            self.status.certificates.insert((issuer.clone(), serial.clone()));
        }
        let status = CrlStatus {
            number: verified.number(),
            this_update: verified.this_update(),
            next_update: verified.next_update(),
        };
        self.status.crls.insert(issuer, status);
        Ok(())
    }

    /// The verdict as JSON, and the refusal if there is one:
    /// `{accepted, at, rule, detail, message, agent…, revocation, bank, endorsement, binding}`.
    pub fn judge(&self, presented: Vec<Vec<u8>>, at: UnixMillis) -> (Value, Option<PairRefusal>) {
        let mut verdict = match presented.as_slice() {
            [bank, endorsement] => described_pair(bank, endorsement),
            _ => json!({}),
        };
        let checked = if self.status.crls.is_empty() { "not_checked" } else { "checked" };
        verdict["revocation"] = json!(checked);
        verdict["at"] = json!(at.rfc3339());
        match accept(&PeerChains { presented }, &self.acceptance, &self.status, at) {
            Ok(agent) => {
                verdict["accepted"] = json!(true);
                verdict["spiffe_id"] = json!(agent.spiffe_id());
                verdict["key"] = json!(agent.key());
                verdict["custody"] = json!(agent.custody());
                verdict["not_after"] = json!(agent.not_after().rfc3339());
                verdict["fingerprints"] = json!(agent.fingerprints());
                (verdict, None)
            }
            Err(refusal) => {
                verdict["accepted"] = json!(false);
                verdict["rule"] = json!(refusal.name());
                verdict["detail"] = json!(refusal.detail());
                verdict["message"] = json!(refusal.to_string());
                (verdict, Some(refusal))
            }
        }
    }
}

/// The refusal as a failure with exit code 3.
pub fn refused_pair(refusal: PairRefusal) -> Failure {
    crate::ca::enrol::pair_refused(refusal)
}

/// Anchors from two PEM texts: one root, one or more issuing CAs.
///
/// # Errors
/// `anchor_invalid`
pub fn anchors_from_pem(root: &str, issuing: &str) -> Result<PartyAnchors, Failure> {
    crate::ca::setup::read_anchors(root, issuing)
}

fn anchors_below(directory: &Path) -> Result<Vec<PartyAnchors>, Failure> {
    let mut found = Vec::new();
    for name in files::names(directory)? {
        if let Some(party) = name.strip_suffix("-root.pem") {
            let issuing = directory.join(format!("{party}-issuing.pem"));
            found.extend(read_pair(&directory.join(&name), &issuing)?);
        }
    }
    Ok(found)
}

fn read_pair(root: &Path, issuing: &Path) -> Result<Option<PartyAnchors>, Failure> {
    let texts = files::read_optional(root)?.zip(files::read_optional(issuing)?);
    texts.map(|(root, issuing)| anchors_from_pem(&root, &issuing)).transpose()
}

/// At an agent host both parties are others: whoever issued the first certificate is taken for the bank.
fn sides_by_issuer(others: &[PartyAnchors], presented: &[Vec<u8>]) -> Option<(PartyAnchors, PartyAnchors)> {
    let issued_by = |index: usize| {
        let certificate = Certificate::read(presented.get(index)?).ok()?;
        others.iter().position(|anchors| issuer_of(&certificate, anchors).is_some())
    };
    let bank = issued_by(0).or_else(|| issued_by(1).and_then(|company| other_than(others, company)));
    let bank = bank.unwrap_or(0);
    let company = issued_by(1).filter(|company| *company != bank).or_else(|| other_than(others, bank))?;
    Some((others.get(bank)?.clone(), others.get(company)?.clone()))
}

fn other_than(others: &[PartyAnchors], index: usize) -> Option<usize> {
    (0..others.len()).find(|candidate| *candidate != index)
}
