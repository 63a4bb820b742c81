//! The names under which a path is refused.

use crate::kernel::types::Sha256;

macro_rules! rules {
    ($($variant:ident = $name:literal, $sentence:literal;)*) => {
        /// Why a certification path was not accepted: one name a rule.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum PathRule {
            $(#[doc = $sentence] $variant,)*
        }

        impl PathRule {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            fn sentence(self) -> &'static str {
                match self {
                    $(Self::$variant => $sentence,)*
                }
            }
        }
    };
}

rules! {
    CertificateMalformed = "certificate_malformed", "a certificate is not strict DER";
    TrustAnchorMalformed = "trust_anchor_malformed", "no trust anchor can be read";
    TooManyCertificates = "too_many_certificates", "more certificates than are looked at were given";
    Version = "version", "a certificate is not of version 3";
    SerialNumber = "serial_number", "a serial number is not positive or longer than 20 octets";
    SignatureAlgorithmMismatch = "signature_algorithm_mismatch",
        "the two signature algorithms of a certificate are not the same";
    SignatureAlgorithm = "signature_algorithm", "a signature algorithm is unknown or too weak";
    KeyAlgorithm = "key_algorithm", "a public key is malformed, unknown or too weak";
    ValidityEncoding = "validity_encoding", "a time is not UTCTime until 2049 and GeneralizedTime from 2050";
    ValidityPeriod = "validity_period", "a certificate ends before it begins";
    IssuerName = "issuer_name", "an issuer's name is empty or malformed";
    SubjectName = "subject_name", "a subject's name is malformed, or empty where it must not be";
    DuplicateExtension = "duplicate_extension", "an extension is there twice";
    UnknownCriticalExtension = "unknown_critical_extension", "a critical extension is not known";
    ExtensionCriticality = "extension_criticality", "an extension is critical, or not, against RFC 5280";
    ExtensionMalformed = "extension_malformed", "an extension is not what its standard says";
    ExtensionNotAllowed = "extension_not_allowed", "an extension has no place in this certificate";
    BasicConstraints = "basic_constraints", "basic constraints do not fit the certificate's place in the path";
    EndEntityIsAuthority = "end_entity_is_authority", "the certificate in question is that of a CA";
    KeyUsage = "key_usage", "the key usage does not fit the certificate's place in the path";
    ExtendedKeyUsage = "extended_key_usage", "the extended key usage is missing, or of no use";
    SubjectKeyIdentifier = "subject_key_identifier", "a CA has no subject key identifier";
    AuthorityKeyIdentifier = "authority_key_identifier",
        "an authority key identifier is missing or has more than the identifier";
    SubjectAltName = "subject_alt_name", "the subject alternative name is missing, malformed or wrongly critical";
    NotYetValid = "not_yet_valid", "a certificate is not valid yet";
    Expired = "expired", "a certificate has expired";
    IssuerUnknown = "issuer_unknown", "no certificate of the issuer leads to a trust anchor";
    KeyIdentifierMismatch = "key_identifier_mismatch", "the issuer's certificate is over another key";
    SignatureInvalid = "signature_invalid", "a signature is not by the issuer's key";
    DepthExceeded = "depth_exceeded", "the path is longer than was asked for";
    WorkExceeded = "work_exceeded", "judging these certificates takes too much work";
    PathLengthExceeded = "path_length_exceeded", "the path is longer than one of its CAs may make it";
    NameNotPermitted = "name_not_permitted", "a name is outside what one of the CAs may certify";
    NameExcluded = "name_excluded", "a name is one that one of the CAs must not certify";
    NameConstraintUnsupported = "name_constraint_unsupported",
        "a name is constrained in a form that cannot be compared";
    PolicyMapping = "policy_mapping", "a policy is mapped to or from anyPolicy";
    PolicyRequired = "policy_required", "a CA requires a certificate policy that the path does not have";
    NameMismatch = "name_mismatch", "the certificate is for another name";
    CrlMalformed = "crl_malformed", "a revocation list is not strict DER";
    CrlProfile = "crl_profile", "a revocation list breaks RFC 5280";
    CrlUnknownCriticalExtension = "crl_unknown_critical_extension",
        "a revocation list has a critical extension that is not known";
    CrlNotFull = "crl_not_full", "a revocation list is a delta, indirect or partial one";
    CrlIssuerNotCrlSigner = "crl_issuer_not_crl_signer", "the issuer's certificate may not sign revocation lists";
    CrlSignatureInvalid = "crl_signature_invalid", "a revocation list is not signed by its issuer";
    CrlNotYetValid = "crl_not_yet_valid", "a revocation list is dated in the future";
    CrlExpired = "crl_expired", "a revocation list is past its next update";
    StatusUnknown = "status_unknown", "no revocation list covers a certificate of the path";
    Revoked = "revoked", "a certificate is revoked";
    SecondOpinion = "second_opinion", "webpki refuses the path";
}

impl std::fmt::Display for PathRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.sentence())
    }
}

/// A broken rule and what exactly is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken {
    pub rule: PathRule,
    pub why: &'static str,
}

impl PathRule {
    pub(super) fn because(self, why: &'static str) -> Broken {
        Broken { rule: self, why }
    }
}

/// A path that was not accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathRefusal {
    pub rule: PathRule,
    pub why: &'static str,
    /// SHA-256 of the certificate at fault, where it is one.
    pub at_fault: Option<Sha256>,
    /// SHA-256 of each certificate of the path that came furthest, the one in question first.
    pub path: Vec<Sha256>,
}

impl std::fmt::Display for PathRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.rule, self.why)
    }
}
