//! THE acceptance rule: two certificates of two organisations, over one key, bound to each other.
//!
//! An agent is acceptable when the bank's certificate B and the security company's endorsement S are each valid
//! under their own party's anchors, B binds S, both are over the same key and name the same SPIFFE ID of our trust
//! domain, the custody of the key is good enough, and neither party has revoked anything. TLS 1.3 adds the proof
//! of possession. Checked whole at the handshake, and what can change, again on every request.

use crate::kernel::command::AgentPrincipal;
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::chain::{ChainRule, VerifiedLeaf, verify_leaf};
use crate::kernel::credential::der;
use crate::kernel::credential::oid::{self, OidBase};
use crate::kernel::credential::profile::Profile;
use crate::kernel::credential::related::{BindingRule, binding_of};
use crate::kernel::status::{CustodyLevel, StatusSnapshot};
use crate::kernel::types::{KeyId, Serial, Sha256, SpiffeId, UnixMillis};

mod elsewhere;
mod refusal;

pub use crate::kernel::credential::chain::PartyAnchors;
pub use elsewhere::{CHAIN_MAX, PairQuestion, VerifyRefusal, verify_pair};
pub use refusal::PairRefusal;

/// What a peer presented, in order: `[B, S]`, DER. Nothing about it is believed yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerChains {
    pub presented: Vec<Vec<u8>>,
}

/// Under which conditions a pair is accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acceptance {
    pub bank: PartyAnchors,
    pub company: PartyAnchors,
    pub trust_domain: String,
    pub oid_base: OidBase,
    /// The custody of a pair is the lower of its halves and must not be below this.
    pub custody_min: CustodyLevel,
    /// When true the endorsement's status must be known: a CRL of its issuer that is not past its next update.
    pub company_crl_required: bool,
}

/// An agent whose pair was accepted. Only [`accept`] makes one: holding it is the proof.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedAgent {
    principal: AgentPrincipal,
    spki: Vec<u8>,
    custody: CustodyLevel,
    fingerprints: [Sha256; 2],
    bank_not_after: UnixMillis,
    company_not_after: UnixMillis,
    status: StatusRule,
}

/// What of a pair can be revoked or go stale after it was accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
struct StatusRule {
    /// (root's key identifier, issuing CA's serial) of each party.
    bank_authority: (String, Serial),
    company_authority: (String, Serial),
    company_crl_required: bool,
}

impl VerifiedAgent {
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.principal.spiffe_id
    }

    pub fn key(&self) -> KeyId {
        self.principal.key
    }

    /// SubjectPublicKeyInfo (DER) of both halves: what its requests are verified with.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The lower of both halves.
    pub fn custody(&self) -> CustodyLevel {
        self.custody
    }

    pub fn principal(&self) -> &AgentPrincipal {
        &self.principal
    }

    /// SHA-256 of B and of S.
    pub fn fingerprints(&self) -> [Sha256; 2] {
        self.fingerprints
    }

    /// The earlier of both halves' ends.
    pub fn not_after(&self) -> UnixMillis {
        self.principal.not_after
    }

    /// Checks again what can change while a connection is open: time and revocation. For every request.
    ///
    /// # Errors
    /// Expiry of either half, any revocation, endorsement status missing or stale.
    pub fn still_acceptable(&self, status: &StatusSnapshot, now: UnixMillis) -> Result<(), PairRefusal> {
        if now > self.bank_not_after {
            return Err(PairRefusal::BankExpired);
        }
        if now > self.company_not_after {
            return Err(PairRefusal::EndorsementExpired);
        }
        self.status.check(&self.principal, status, now)
    }
}

/// An endorsement that was verified by itself, as the bank does before it issues B.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedEndorsement {
    leaf: VerifiedLeaf,
    spiffe_id: SpiffeId,
    custody: CustodyLevel,
    fingerprint: Sha256,
}

impl VerifiedEndorsement {
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    pub fn key(&self) -> KeyId {
        self.leaf.facts.key
    }

    pub fn custody(&self) -> CustodyLevel {
        self.custody
    }

    pub fn not_after(&self) -> UnixMillis {
        self.leaf.facts.not_after
    }

    /// SHA-256 of S: what B binds.
    pub fn fingerprint(&self) -> Sha256 {
        self.fingerprint
    }
}

/// Decides whether the presented pair is an acceptable agent at `now`.
///
/// # Errors
/// The first [`PairRefusal`] in order of precedence.
pub fn accept(
    peer: &PeerChains,
    acceptance: &Acceptance,
    status: &StatusSnapshot,
    now: UnixMillis,
) -> Result<VerifiedAgent, PairRefusal> {
    let (b, s) = match peer.presented.as_slice() {
        [] => return Err(PairRefusal::NoCertificate),
        [alone] => return Err(half_alone(alone, acceptance)),
        [b, s] => (b, s),
        [_, _, _, ..] => return Err(PairRefusal::TooManyCertificates),
    };
    let base = &acceptance.oid_base;
    let bound_to = binding(b);
    let bank = verify_leaf(b, Profile::AgentB, &acceptance.bank, base, now).map_err(|rule| match (rule, bound_to) {
        // Two bindings are two extensions of a kind, which no path may have; they have a name of their own.
        (ChainRule::PathInvalid, Err(PairRefusal::BindingDuplicate)) => PairRefusal::BindingDuplicate,
        (rule, _) => PairRefusal::of_bank(rule),
    })?;
    let bound_to = bound_to?;
    let company =
        verify_leaf(s, Profile::AgentS, &acceptance.company, base, now).map_err(PairRefusal::of_endorsement)?;
    let fingerprints = [Sha256::of(&[b]), Sha256::of(&[s])];
    if bound_to != fingerprints[1] {
        return Err(PairRefusal::BindingHashMismatch);
    }
    if bank.facts.spki != company.facts.spki {
        return Err(PairRefusal::KeyMismatch);
    }
    let (spiffe_id, bank_custody) = agent_of(&bank);
    let (endorsed_id, company_custody) = agent_of(&company);
    if spiffe_id != endorsed_id {
        return Err(PairRefusal::IdentityMismatch);
    }
    let custody = bank_custody.min(company_custody);
    check_policy(&spiffe_id, custody, acceptance)?;
    let principal = AgentPrincipal {
        spiffe_id,
        key: bank.facts.key,
        bank_issuer: bank.facts.issuer_identifier,
        bank_serial: bank.facts.serial,
        company_issuer: company.facts.issuer_identifier,
        company_serial: company.facts.serial,
        not_after: bank.facts.not_after.min(company.facts.not_after),
    };
    let rule = StatusRule {
        bank_authority: bank.authority,
        company_authority: company.authority,
        company_crl_required: acceptance.company_crl_required,
    };
    rule.check(&principal, status, now)?;
    Ok(VerifiedAgent {
        principal,
        spki: bank.facts.spki,
        custody,
        fingerprints,
        bank_not_after: bank.facts.not_after,
        company_not_after: company.facts.not_after,
        status: rule,
    })
}

/// Verifies S alone: everything of [`accept`] that needs no B. What the bank asks before it issues.
///
/// # Errors
/// The endorsement's refusals, trust domain, custody and status.
pub fn accept_endorsement(
    endorsement: &[u8],
    acceptance: &Acceptance,
    status: &StatusSnapshot,
    now: UnixMillis,
) -> Result<VerifiedEndorsement, PairRefusal> {
    let leaf = verify_leaf(endorsement, Profile::AgentS, &acceptance.company, &acceptance.oid_base, now)
        .map_err(PairRefusal::of_endorsement)?;
    let (spiffe_id, custody) = agent_of(&leaf);
    check_policy(&spiffe_id, custody, acceptance)?;
    if status.revokes(&spiffe_id) {
        return Err(PairRefusal::AgentRevoked);
    }
    if status.keys.contains(&leaf.facts.key) {
        return Err(PairRefusal::KeyRevoked);
    }
    let issuer = &leaf.facts.issuer_identifier;
    check_endorsement_status(
        &spiffe_id,
        (issuer, &leaf.facts.serial),
        (&leaf.authority.0, &leaf.authority.1),
        acceptance.company_crl_required.then_some(now),
        status,
    )?;
    Ok(VerifiedEndorsement { spiffe_id, custody, fingerprint: Sha256::of(&[endorsement]), leaf })
}

impl StatusRule {
    fn check(&self, principal: &AgentPrincipal, status: &StatusSnapshot, now: UnixMillis) -> Result<(), PairRefusal> {
        let revoked = |issuer: &str, serial: &Serial| revoked(status, issuer, serial);
        if status.revokes(&principal.spiffe_id) {
            return Err(PairRefusal::AgentRevoked);
        }
        if status.keys.contains(&principal.key) {
            return Err(PairRefusal::KeyRevoked);
        }
        if revoked(&principal.bank_issuer, &principal.bank_serial) {
            return Err(PairRefusal::BankCertificateRevoked);
        }
        let issuer_revoked = status.issuers.contains(&principal.bank_issuer);
        if issuer_revoked || revoked(&self.bank_authority.0, &self.bank_authority.1) {
            return Err(PairRefusal::BankIssuerRevoked);
        }
        check_endorsement_status(
            &principal.spiffe_id,
            (&principal.company_issuer, &principal.company_serial),
            (&self.company_authority.0, &self.company_authority.1),
            self.company_crl_required.then_some(now),
            status,
        )
    }
}

/// `fresh_at`: the moment at which a CRL of the endorsement's issuer must be in force, if one is required.
fn check_endorsement_status(
    agent: &SpiffeId,
    endorsement: (&str, &Serial),
    authority: (&str, &Serial),
    fresh_at: Option<UnixMillis>,
    status: &StatusSnapshot,
) -> Result<(), PairRefusal> {
    if revoked(status, endorsement.0, endorsement.1) {
        return Err(PairRefusal::EndorsementRevoked);
    }
    if status.issuers.contains(endorsement.0) || revoked(status, authority.0, authority.1) {
        return Err(PairRefusal::EndorsementIssuerRevoked);
    }
    if status.freezes(agent) {
        return Err(PairRefusal::AgentFrozen);
    }
    let Some(now) = fresh_at else {
        return Ok(());
    };
    let crl = status.crls.get(endorsement.0).ok_or(PairRefusal::EndorsementStatusMissing)?;
    if now > crl.next_update {
        return Err(PairRefusal::EndorsementStatusStale);
    }
    Ok(())
}

fn revoked(status: &StatusSnapshot, issuer: &str, serial: &Serial) -> bool {
    // The set is small (what was revoked and has not expired); the pair of owned values is the key.
    status.certificates.contains(&(issuer.to_owned(), serial.clone()))
}

fn check_policy(spiffe_id: &SpiffeId, custody: CustodyLevel, acceptance: &Acceptance) -> Result<(), PairRefusal> {
    if spiffe_id.trust_domain() != acceptance.trust_domain {
        return Err(PairRefusal::WrongTrustDomain);
    }
    if custody < acceptance.custody_min {
        return Err(PairRefusal::CustodyInsufficient);
    }
    Ok(())
}

/// One certificate is never enough; says which half is missing, by the usage that the other one claims.
fn half_alone(alone: &[u8], acceptance: &Acceptance) -> PairRefusal {
    let usage = Profile::AgentS.extended_key_usage(&acceptance.oid_base).expect("the profile of S has a usage");
    let endorsement = der::sequence(&[&der::element(der::OID, &usage)]);
    let claimed = Certificate::read(alone).ok().and_then(|certificate| {
        certificate.tbs.extension(oid::EXTENDED_KEY_USAGE).map(|extension| extension.value.to_vec())
    });
    if claimed == Some(endorsement) { PairRefusal::BankCertificateMissing } else { PairRefusal::EndorsementMissing }
}

fn binding(b: &[u8]) -> Result<Sha256, PairRefusal> {
    let certificate = Certificate::read(b).map_err(|_| PairRefusal::BankCertificateMalformed)?;
    binding_of(&certificate.tbs).map_err(|rule| match rule {
        BindingRule::DraftOid => PairRefusal::BindingDraftOid,
        BindingRule::Missing => PairRefusal::BindingMissing,
        BindingRule::Duplicate => PairRefusal::BindingDuplicate,
        BindingRule::Malformed => PairRefusal::BindingMalformed,
    })
}

fn agent_of(leaf: &VerifiedLeaf) -> (SpiffeId, CustodyLevel) {
    leaf.facts.agent.clone().expect("the agent profiles always yield an identity and a custody level")
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
