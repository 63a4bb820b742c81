//! The certificates of a signing role, checked for a receipt: own certificate, issuing CA, root.
//!
//! Narrow on purpose. The chain has exactly this shape, the root is the one the reader trusts byte for byte, CAs
//! sign with one of three algorithms, and each certificate is the one encoding of what its issuer signed, so no byte of a
//! chain can be changed unseen but by the second writing of an ECDSA signature (`kernel/sign/low_s.rs`).

use x509_parser::prelude::*;

use crate::kernel::sign::{Algorithm, is_signed_by, raw_public_key};
use crate::kernel::types::UnixMillis;

/// Why a chain is not that of a signing role under the trusted root.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum ChainRefusal {
    #[error("the chain is not three certificates: the role's own, its issuing CA, the root")]
    Length,
    #[error("the chain ends in another root than the one you trust")]
    RootDiffers,
    #[error("a certificate is not a strictly encoded X.509 version 3 certificate signed with a known algorithm")]
    CertificateMalformed,
    #[error("a certificate names another issuer than the next one in the chain")]
    IssuerDiffers,
    #[error("a certificate's signature does not verify with its issuer's key")]
    SignatureInvalid,
    #[error("a certificate has a critical extension that is not understood")]
    CriticalExtension,
    #[error("an issuer is not a CA that may sign certificates at this depth")]
    NotCa,
    #[error("the signing certificate is a CA, or its key usage is not digitalSignature alone")]
    NotForSigning,
    #[error("the signing certificate is for another purpose")]
    WrongPurpose,
    #[error("the signing key is of another type")]
    KeyType,
    #[error("a certificate was not valid when the signature was made")]
    NotValidThen,
}

impl ChainRefusal {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Length => "chain_length",
            Self::RootDiffers => "chain_root_differs",
            Self::CertificateMalformed => "chain_certificate_malformed",
            Self::IssuerDiffers => "chain_issuer_differs",
            Self::SignatureInvalid => "chain_signature_invalid",
            Self::CriticalExtension => "chain_critical_extension",
            Self::NotCa => "chain_not_ca",
            Self::NotForSigning => "chain_not_for_signing",
            Self::WrongPurpose => "chain_wrong_purpose",
            Self::KeyType => "chain_key_type",
            Self::NotValidThen => "chain_not_valid_then",
        }
    }
}

/// When a signature was made, as far as the receipt knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::kernel) enum Made {
    /// At this time: every certificate must have been valid.
    At(UnixMillis),
    /// At this time or later: no certificate may have expired before.
    NotBefore(UnixMillis),
}

/// What a role's certificate must say.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernel) struct Role<'a> {
    /// Dotted OID: the only extended key usage.
    pub purpose: &'a str,
    /// What the signing key may be.
    pub algorithms: &'a [Algorithm],
    pub made: Made,
}

/// A key whose chain was verified: only [`certified_key`] makes one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::kernel) struct Certified {
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
    /// Subject of the own certificate, for readers.
    pub subject: String,
}

/// The key of a role whose chain leads to `root`.
///
/// # Errors
/// [`ChainRefusal`], in the order of its variants.
pub(in crate::kernel) fn certified_key(
    chain: &[&[u8]],
    root: &[u8],
    role: Role<'_>,
) -> Result<Certified, ChainRefusal> {
    let [own, issuing, last] = chain else {
        return Err(ChainRefusal::Length);
    };
    if *last != root {
        return Err(ChainRefusal::RootDiffers);
    }
    let (own, issuing, root) = (parse(own)?, parse(issuing)?, parse(root)?);
    let algorithms = [own.1, issuing.1, root.1];
    let (own, issuing, root) = (own.0, issuing.0, root.0);
    let links = [(&own, &issuing), (&issuing, &root), (&root, &root)];
    if links.iter().any(|(subject, issuer)| subject.issuer().as_raw() != issuer.subject().as_raw()) {
        return Err(ChainRefusal::IssuerDiffers);
    }
    for ((subject, issuer), identifier) in links.into_iter().zip(algorithms) {
        let message = subject.tbs_certificate.as_ref();
        if !is_signed_by(issuer.public_key().raw, identifier, message, &subject.signature_value.data) {
            return Err(ChainRefusal::SignatureInvalid);
        }
    }
    if [&own, &issuing, &root].into_iter().any(has_unknown_critical) {
        return Err(ChainRefusal::CriticalExtension);
    }
    if !is_ca_for(&issuing, 0) || !is_ca_for(&root, 1) {
        return Err(ChainRefusal::NotCa);
    }
    if !is_for_signing(&own) {
        return Err(ChainRefusal::NotForSigning);
    }
    if !has_only_purpose(&own, role.purpose) {
        return Err(ChainRefusal::WrongPurpose);
    }
    let spki = own.public_key().raw;
    if !raw_public_key(spki).is_some_and(|(algorithm, _)| role.algorithms.contains(&algorithm)) {
        return Err(ChainRefusal::KeyType);
    }
    if ![&own, &issuing, &root].into_iter().all(|certificate| was_valid(certificate, role.made)) {
        return Err(ChainRefusal::NotValidThen);
    }
    Ok(Certified { spki: spki.to_vec(), subject: own.subject().to_string() })
}

/// The certificate and the `AlgorithmIdentifier` of its signature.
fn parse(der: &[u8]) -> Result<(X509Certificate<'_>, &'static [u8]), ChainRefusal> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| ChainRefusal::CertificateMalformed)?;
    // The signature covers the TBS only. Writing the envelope anew leaves no other byte that could differ.
    let envelope = |identifier: &[u8]| {
        yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_der(certificate.tbs_certificate.as_ref());
                writer.next().write_der(identifier);
                let signature = &certificate.signature_value.data;
                writer.next().write_bitvec_bytes(signature, signature.len() * 8);
            });
        })
    };
    let identifiers = Algorithm::OF_AUTHORITIES.iter().filter_map(|algorithm| algorithm.signature_identifier());
    let identifier = identifiers.into_iter().find(|identifier| envelope(identifier) == der);
    let algorithm_inside = &certificate.tbs_certificate.signature;
    let strict = rest.is_empty()
        && certificate.version() == X509Version::V3
        && *algorithm_inside == certificate.signature_algorithm
        && certificate.extensions_map().is_ok();
    match identifier {
        Some(identifier) if strict => Ok((certificate, identifier)),
        Some(_) | None => Err(ChainRefusal::CertificateMalformed),
    }
}

fn has_unknown_critical(certificate: &X509Certificate<'_>) -> bool {
    certificate.extensions().iter().any(|extension| {
        extension.critical
            && !matches!(
                extension.parsed_extension(),
                ParsedExtension::BasicConstraints(_)
                    | ParsedExtension::KeyUsage(_)
                    | ParsedExtension::ExtendedKeyUsage(_)
            )
    })
}

/// True for a CA that may have `below` further CAs under it (RFC 5280, 4.2.1.9 and 4.2.1.3).
fn is_ca_for(certificate: &X509Certificate<'_>, below: u32) -> bool {
    let Ok(Some(constraints)) = certificate.basic_constraints() else {
        return false;
    };
    let Ok(Some(usage)) = certificate.key_usage() else {
        return false;
    };
    constraints.value.ca
        && constraints.critical
        && constraints.value.path_len_constraint.is_none_or(|length| length >= below)
        && usage.value.key_cert_sign()
}

fn is_for_signing(certificate: &X509Certificate<'_>) -> bool {
    let Ok(Some(usage)) = certificate.key_usage() else {
        return false;
    };
    let no_ca = match certificate.basic_constraints() {
        Ok(Some(constraints)) => !constraints.value.ca,
        Ok(None) => true,
        Err(_) => false,
    };
    // Bit 0 is digitalSignature (RFC 5280, 4.2.1.3).
    no_ca && usage.value.flags == 1
}

fn has_only_purpose(certificate: &X509Certificate<'_>, purpose: &str) -> bool {
    let Ok(Some(usage)) = certificate.extended_key_usage() else {
        return false;
    };
    let usage = usage.value;
    let well_known = usage.any
        || usage.server_auth
        || usage.client_auth
        || usage.code_signing
        || usage.email_protection
        || usage.time_stamping
        || usage.ocsp_signing;
    !well_known && matches!(&usage.other[..], [only] if only.to_id_string() == purpose)
}

fn was_valid(certificate: &X509Certificate<'_>, made: Made) -> bool {
    let validity = certificate.validity();
    match made {
        Made::At(at) => (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&at.seconds()),
        Made::NotBefore(at) => at.seconds() <= validity.not_after.timestamp(),
    }
}
