//! Judging a pair without a daemon: from files named on the command line, or from a state directory.

use std::path::Path;

use serde_json::{Value, json};

use crate::ca::files;
use crate::ca::settings::{PartyKind, PkiSettings};
use crate::ca::show::described_pair;
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::chain::{PartyAnchors, issuer_of};
use crate::kernel::credential::crl::{self, CrlRefusal};
use crate::kernel::credential::pair::{
    Acceptance, PairQuestion, PairRefusal, PeerChains, VerifiedAgent, VerifyRefusal, accept, verify_pair,
};
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::status::{CrlStatus, StatusSnapshot};
use crate::kernel::types::UnixMillis;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

const GIVE_LISTS: &str = "give lists of the two issuing CAs that are in force at the time in question";

/// Anchors of both parties and what is known of revocations.
#[derive(Clone, Debug)]
pub struct OfflineJudge {
    acceptance: Acceptance,
    status: StatusSnapshot,
}

impl OfflineJudge {
    /// From files. With at least one list (DER) the endorsement's status is required.
    ///
    /// # Errors
    /// `anchor_invalid`, `config_invalid`, and the names of [`CrlRefusal`] for a list that does not verify at `at`.
    pub fn from_files(
        bank: PartyAnchors,
        company: PartyAnchors,
        crls: &[Vec<u8>],
        pki: &PkiSettings,
        at: UnixMillis,
    ) -> Result<Self, Failure> {
        let required = !crls.is_empty();
        let mut judge = Self::new(bank, company, pki)?;
        judge.acceptance.company_crl_required = required;
        for der in crls {
            judge
                .take_crl(der, at)
                .map_err(|refusal| Failure::refused(refusal.name(), refusal.to_string(), GIVE_LISTS))?;
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
            let _ = pem::decode_one(Kind::Crl, &text).map(|der| judge.take_crl(&der, at));
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
    fn take_crl(&mut self, der: &[u8], at: UnixMillis) -> Result<(), CrlRefusal> {
        let claimed = crl::claimed_issuer(der).ok_or(CrlRefusal::Malformed)?;
        let mut issuing = self.acceptance.bank.issuing.iter().chain(&self.acceptance.company.issuing);
        let issuer = issuing
            .find(|issuing| {
                Certificate::read(issuing).is_ok_and(|certificate| {
                    certificate.tbs.subject_key_identifier().map(hex::encode).as_ref() == Some(&claimed)
                })
            })
            .ok_or(CrlRefusal::IssuerMismatch)?;
        let verified = crl::verify(der, issuer, at);
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
        let revocation = if self.status.crls.is_empty() { "not_checked" } else { "checked" };
        let verdict = described_verdict(&presented, revocation, at);
        match accept(&PeerChains { presented }, &self.acceptance, &self.status, at) {
            Ok(agent) => (accepted(verdict, &agent), None),
            Err(refusal) => (refused(verdict, refusal.name(), refusal.detail(), &refusal.to_string()), Some(refusal)),
        }
    }
}

/// Judges a pair by two roots, a chain and lists, as [`verify_pair`] does: the verdict as JSON, as that of
/// [`OfflineJudge::judge`], and the refusal as a failure with exit code 3.
pub fn judge_elsewhere(question: &PairQuestion<'_>) -> (Value, Option<Failure>) {
    let revocation = if question.lists.is_empty() { "not_checked" } else { "checked" };
    let halves = &question.chain[..question.chain.len().min(2)];
    let verdict = described_verdict(halves, revocation, question.at);
    match verify_pair(question) {
        Ok(agent) => (accepted(verdict, &agent), None),
        Err(refusal) => {
            let failure = match refusal {
                VerifyRefusal::Pair(refusal) => refused_pair(refusal),
                VerifyRefusal::List(_) | VerifyRefusal::TooManyLists | VerifyRefusal::BankStatusMissing => {
                    Failure::refused(refusal.name(), refusal.to_string(), GIVE_LISTS)
                }
                VerifyRefusal::AnchorInvalid | VerifyRefusal::PartiesNotDistinct => {
                    Failure::refused(refusal.name(), refusal.to_string(), "give the roots of the two organisations")
                }
            };
            (refused(verdict, refusal.name(), refusal.detail(), &refusal.to_string()), Some(failure))
        }
    }
}

/// The verdict of a question that could not even be asked: an anchor or a list that is not acceptable.
pub fn refused_question(failure: &Failure, at: UnixMillis) -> Value {
    refused(json!({ "at": at.rfc3339() }), &failure.name, None, &failure.message)
}

fn described_verdict(presented: &[Vec<u8>], revocation: &str, at: UnixMillis) -> Value {
    let mut verdict = match presented {
        [bank, endorsement] => described_pair(bank, endorsement),
        _ => json!({}),
    };
    verdict["revocation"] = json!(revocation);
    verdict["at"] = json!(at.rfc3339());
    verdict
}

fn accepted(mut verdict: Value, agent: &VerifiedAgent) -> Value {
    verdict["accepted"] = json!(true);
    verdict["rule"] = Value::Null;
    verdict["spiffe_id"] = json!(agent.spiffe_id());
    verdict["key"] = json!(agent.key());
    verdict["custody"] = json!(agent.custody());
    verdict["not_after"] = json!(agent.not_after().rfc3339());
    verdict["fingerprints"] = json!(agent.fingerprints());
    verdict
}

fn refused(mut verdict: Value, rule: &str, detail: Option<&str>, message: &str) -> Value {
    verdict["accepted"] = json!(false);
    verdict["rule"] = json!(rule);
    verdict["detail"] = json!(detail);
    verdict["message"] = json!(message);
    verdict
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
