//! The names of what a certificate can do wrong by its profile.

/// A rule of a profile that a certificate breaks. In the order in which they are checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProfileRule {
    Version,
    SerialNumber,
    SignatureAlgorithm,
    ValidityEncoding,
    ValidityPeriod,
    Name,
    KeyAlgorithm,
    DuplicateExtension,
    UnknownCriticalExtension,
    UnexpectedExtension,
    Criticality,
    BasicConstraints,
    PathLength,
    KeyUsage,
    ExtendedKeyUsage,
    SubjectKeyIdentifier,
    AuthorityKeyIdentifier,
    DistributionPoint,
    AuthorityInfoAccess,
    NoCheck,
    SubjectAltName,
    CustodyPolicy,
}

impl ProfileRule {
    pub fn name(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::SerialNumber => "serial_number",
            Self::SignatureAlgorithm => "signature_algorithm",
            Self::ValidityEncoding => "validity_encoding",
            Self::ValidityPeriod => "validity_period",
            Self::Name => "name",
            Self::KeyAlgorithm => "key_algorithm",
            Self::DuplicateExtension => "duplicate_extension",
            Self::UnknownCriticalExtension => "unknown_critical_extension",
            Self::UnexpectedExtension => "unexpected_extension",
            Self::Criticality => "criticality",
            Self::BasicConstraints => "basic_constraints",
            Self::PathLength => "path_length",
            Self::KeyUsage => "key_usage",
            Self::ExtendedKeyUsage => "extended_key_usage",
            Self::SubjectKeyIdentifier => "subject_key_identifier",
            Self::AuthorityKeyIdentifier => "authority_key_identifier",
            Self::DistributionPoint => "distribution_point",
            Self::AuthorityInfoAccess => "authority_info_access",
            Self::NoCheck => "no_check",
            Self::SubjectAltName => "subject_alt_name",
            Self::CustodyPolicy => "custody_policy",
        }
    }
}

impl std::fmt::Display for ProfileRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Version => "it is not version 3",
            Self::SerialNumber => "its serial number is not 8 to 20 positive bytes",
            Self::SignatureAlgorithm => "its signature algorithm is not ecdsa-with-SHA256, inside and outside alike",
            Self::ValidityEncoding => "its times are not UTCTime before 2050 and GeneralizedTime after",
            Self::ValidityPeriod => "its validity is inverted or longer than its profile allows",
            Self::Name => "its issuer or subject is empty, or they are equal where they must differ",
            Self::KeyAlgorithm => "its key is not of the algorithm of its profile",
            Self::DuplicateExtension => "it carries an extension twice",
            Self::UnknownCriticalExtension => "it carries an unknown critical extension",
            Self::UnexpectedExtension => "it carries an extension that its profile does not have",
            Self::Criticality => "an extension is critical that must not be, or the reverse",
            Self::BasicConstraints => "its basic constraints are missing or say the wrong thing about being a CA",
            Self::PathLength => "its path length is not that of its profile",
            Self::KeyUsage => "its key usage is not exactly that of its profile",
            Self::ExtendedKeyUsage => "its extended key usage is not exactly that of its profile",
            Self::SubjectKeyIdentifier => "its subject key identifier is not that of its key",
            Self::AuthorityKeyIdentifier => "its authority key identifier is missing or of another form",
            Self::DistributionPoint => "its CRL distribution point is not one http URI",
            Self::AuthorityInfoAccess => "its authority information access is not one OCSP responder's http URI",
            Self::NoCheck => "it answers for its issuer and does not say that it is not asked about itself",
            Self::SubjectAltName => "its subject alternative names are not those of its profile",
            Self::CustodyPolicy => "it does not carry exactly one custody policy",
        })
    }
}
