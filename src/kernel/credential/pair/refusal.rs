//! The names under which a pair is refused, and their order.

use crate::kernel::credential::chain::ChainRule;
use crate::kernel::credential::profile::ProfileRule;

/// Why a pair was not accepted: one name a rule. Precedence is the order of [`PairRefusal::ALL`]; of the rules
/// that a pair breaks, the first is named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PairRefusal {
    NoCertificate,
    TooManyCertificates,
    BankCertificateMissing,
    EndorsementMissing,
    BankCertificateMalformed,
    BankIssuerUntrusted,
    BankSignatureInvalid,
    BankProfileViolated(ProfileRule),
    BankNotYetValid,
    BankExpired,
    BankChainInvalid,
    BindingDraftOid,
    BindingMissing,
    BindingDuplicate,
    BindingMalformed,
    EndorsementMalformed,
    EndorsementIssuerUntrusted,
    EndorsementSignatureInvalid,
    EndorsementProfileViolated(ProfileRule),
    EndorsementNotYetValid,
    EndorsementExpired,
    EndorsementChainInvalid,
    BindingHashMismatch,
    KeyMismatch,
    IdentityMismatch,
    WrongTrustDomain,
    CustodyInsufficient,
    AgentRevoked,
    KeyRevoked,
    BankCertificateRevoked,
    BankIssuerRevoked,
    EndorsementRevoked,
    EndorsementIssuerRevoked,
    AgentFrozen,
    EndorsementStatusMissing,
    EndorsementStatusStale,
}

impl PairRefusal {
    /// Every refusal in order of precedence; profile violations with one rule as example.
    pub const ALL: [Self; 36] = [
        Self::NoCertificate,
        Self::TooManyCertificates,
        Self::BankCertificateMissing,
        Self::EndorsementMissing,
        Self::BankCertificateMalformed,
        Self::BankIssuerUntrusted,
        Self::BankSignatureInvalid,
        Self::BankProfileViolated(ProfileRule::Version),
        Self::BankNotYetValid,
        Self::BankExpired,
        Self::BankChainInvalid,
        Self::BindingDraftOid,
        Self::BindingMissing,
        Self::BindingDuplicate,
        Self::BindingMalformed,
        Self::EndorsementMalformed,
        Self::EndorsementIssuerUntrusted,
        Self::EndorsementSignatureInvalid,
        Self::EndorsementProfileViolated(ProfileRule::Version),
        Self::EndorsementNotYetValid,
        Self::EndorsementExpired,
        Self::EndorsementChainInvalid,
        Self::BindingHashMismatch,
        Self::KeyMismatch,
        Self::IdentityMismatch,
        Self::WrongTrustDomain,
        Self::CustodyInsufficient,
        Self::AgentRevoked,
        Self::KeyRevoked,
        Self::BankCertificateRevoked,
        Self::BankIssuerRevoked,
        Self::EndorsementRevoked,
        Self::EndorsementIssuerRevoked,
        Self::AgentFrozen,
        Self::EndorsementStatusMissing,
        Self::EndorsementStatusStale,
    ];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::TooManyCertificates => "too_many_certificates",
            Self::BankCertificateMissing => "bank_certificate_missing",
            Self::EndorsementMissing => "endorsement_missing",
            Self::BankCertificateMalformed => "bank_certificate_malformed",
            Self::BankIssuerUntrusted => "bank_issuer_untrusted",
            Self::BankSignatureInvalid => "bank_signature_invalid",
            Self::BankProfileViolated(_) => "bank_profile_violated",
            Self::BankNotYetValid => "bank_not_yet_valid",
            Self::BankExpired => "bank_expired",
            Self::BankChainInvalid => "bank_chain_invalid",
            Self::BindingDraftOid => "binding_draft_oid",
            Self::BindingMissing => "binding_missing",
            Self::BindingDuplicate => "binding_duplicate",
            Self::BindingMalformed => "binding_malformed",
            Self::EndorsementMalformed => "endorsement_malformed",
            Self::EndorsementIssuerUntrusted => "endorsement_issuer_untrusted",
            Self::EndorsementSignatureInvalid => "endorsement_signature_invalid",
            Self::EndorsementProfileViolated(_) => "endorsement_profile_violated",
            Self::EndorsementNotYetValid => "endorsement_not_yet_valid",
            Self::EndorsementExpired => "endorsement_expired",
            Self::EndorsementChainInvalid => "endorsement_chain_invalid",
            Self::BindingHashMismatch => "binding_hash_mismatch",
            Self::KeyMismatch => "key_mismatch",
            Self::IdentityMismatch => "identity_mismatch",
            Self::WrongTrustDomain => "wrong_trust_domain",
            Self::CustodyInsufficient => "custody_insufficient",
            Self::AgentRevoked => "agent_revoked",
            Self::KeyRevoked => "key_revoked",
            Self::BankCertificateRevoked => "bank_certificate_revoked",
            Self::BankIssuerRevoked => "bank_issuer_revoked",
            Self::EndorsementRevoked => "endorsement_revoked",
            Self::EndorsementIssuerRevoked => "endorsement_issuer_revoked",
            Self::AgentFrozen => "agent_frozen",
            Self::EndorsementStatusMissing => "endorsement_status_missing",
            Self::EndorsementStatusStale => "endorsement_status_stale",
        }
    }

    /// The profile rule that is broken, for profile violations.
    pub fn detail(self) -> Option<&'static str> {
        match self {
            Self::BankProfileViolated(rule) | Self::EndorsementProfileViolated(rule) => Some(rule.name()),
            Self::NoCertificate
            | Self::TooManyCertificates
            | Self::BankCertificateMissing
            | Self::EndorsementMissing
            | Self::BankCertificateMalformed
            | Self::BankIssuerUntrusted
            | Self::BankSignatureInvalid
            | Self::BankNotYetValid
            | Self::BankExpired
            | Self::BankChainInvalid
            | Self::BindingDraftOid
            | Self::BindingMissing
            | Self::BindingDuplicate
            | Self::BindingMalformed
            | Self::EndorsementMalformed
            | Self::EndorsementIssuerUntrusted
            | Self::EndorsementSignatureInvalid
            | Self::EndorsementNotYetValid
            | Self::EndorsementExpired
            | Self::EndorsementChainInvalid
            | Self::BindingHashMismatch
            | Self::KeyMismatch
            | Self::IdentityMismatch
            | Self::WrongTrustDomain
            | Self::CustodyInsufficient
            | Self::AgentRevoked
            | Self::KeyRevoked
            | Self::BankCertificateRevoked
            | Self::BankIssuerRevoked
            | Self::EndorsementRevoked
            | Self::EndorsementIssuerRevoked
            | Self::AgentFrozen
            | Self::EndorsementStatusMissing
            | Self::EndorsementStatusStale => None,
        }
    }

    pub(super) fn of_bank(rule: ChainRule) -> Self {
        match rule {
            ChainRule::Malformed => Self::BankCertificateMalformed,
            ChainRule::IssuerUntrusted => Self::BankIssuerUntrusted,
            ChainRule::SignatureInvalid => Self::BankSignatureInvalid,
            ChainRule::Profile(rule) => Self::BankProfileViolated(rule),
            ChainRule::NotYetValid => Self::BankNotYetValid,
            ChainRule::Expired => Self::BankExpired,
            ChainRule::AuthorityInvalid | ChainRule::PathInvalid => Self::BankChainInvalid,
        }
    }

    pub(super) fn of_endorsement(rule: ChainRule) -> Self {
        match rule {
            ChainRule::Malformed => Self::EndorsementMalformed,
            ChainRule::IssuerUntrusted => Self::EndorsementIssuerUntrusted,
            ChainRule::SignatureInvalid => Self::EndorsementSignatureInvalid,
            ChainRule::Profile(rule) => Self::EndorsementProfileViolated(rule),
            ChainRule::NotYetValid => Self::EndorsementNotYetValid,
            ChainRule::Expired => Self::EndorsementExpired,
            ChainRule::AuthorityInvalid | ChainRule::PathInvalid => Self::EndorsementChainInvalid,
        }
    }
}

impl std::fmt::Display for PairRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoCertificate => "the peer presented no certificate",
            Self::TooManyCertificates => "the peer presented more than the two certificates of a pair",
            Self::BankCertificateMissing => "the peer presented an endorsement without the bank's certificate",
            Self::EndorsementMissing => "the peer presented no endorsement by the security company",
            Self::BankCertificateMalformed => "the bank's certificate is not strict DER",
            Self::BankIssuerUntrusted => "the first certificate was not issued by the bank's issuing CA",
            Self::BankSignatureInvalid => "the bank's certificate is not signed by its issuer",
            Self::BankProfileViolated(rule) => return write!(f, "the bank's certificate breaks its profile: {rule}"),
            Self::BankNotYetValid => "the bank's certificate is not valid yet",
            Self::BankExpired => "the bank's certificate has expired",
            Self::BankChainInvalid => "the path from the bank's certificate to its root does not validate",
            Self::BindingDraftOid => "the binding carries an object identifier of the drafts of RFC 9763",
            Self::BindingMissing => "the bank's certificate is not bound to an endorsement",
            Self::BindingDuplicate => "the bank's certificate carries more than one binding",
            Self::BindingMalformed => "the binding is not a SHA-256 RelatedCertificate",
            Self::EndorsementMalformed => "the endorsement is not strict DER",
            Self::EndorsementIssuerUntrusted => {
                "the second certificate was not issued by the security company's issuing CA"
            }
            Self::EndorsementSignatureInvalid => "the endorsement is not signed by its issuer",
            Self::EndorsementProfileViolated(rule) => {
                return write!(f, "the endorsement breaks its profile: {rule}");
            }
            Self::EndorsementNotYetValid => "the endorsement is not valid yet",
            Self::EndorsementExpired => "the endorsement has expired",
            Self::EndorsementChainInvalid => "the path from the endorsement to its root does not validate",
            Self::BindingHashMismatch => "the bank's certificate is bound to another endorsement",
            Self::KeyMismatch => "the two certificates are over different keys",
            Self::IdentityMismatch => "the two certificates name different agents",
            Self::WrongTrustDomain => "the agent belongs to another trust domain",
            Self::CustodyInsufficient => "the custody of the agent's key is below what the bank accepts",
            Self::AgentRevoked => "the agent is revoked",
            Self::KeyRevoked => "the agent's key is revoked",
            Self::BankCertificateRevoked => "the bank's certificate is revoked",
            Self::BankIssuerRevoked => "the bank's issuing CA is revoked",
            Self::EndorsementRevoked => "the endorsement is revoked",
            Self::EndorsementIssuerRevoked => "the security company's issuing CA is revoked",
            Self::AgentFrozen => "the agent is frozen",
            Self::EndorsementStatusMissing => "no revocation list of the security company is known",
            Self::EndorsementStatusStale => "the security company's revocation list is past its next update",
        })
    }
}
