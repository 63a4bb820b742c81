//! Certification paths by RFC 5280, 6, as strict as a private PKI may be: is there one, and is it valid?
//!
//! Everything that comes from the other side is hostile: certificates in any order, duplicates, cycles, chains made
//! to be expensive. So building and validating share a budget, every limit has a name, and the answer is one rule.
//! `examine` judges a certificate by itself, `build` looks for paths, `validate` judges a whole one, webpki is the
//! second opinion. Where RFC 5280 leaves a choice the stricter one is taken: an end entity has an extended key
//! usage and names in its subjectAltName, trust anchors obey their own constraints, names of issuers are compared
//! byte by byte (4.1.2.6), a certificate has no unique identifiers.

use crate::kernel::credential::certificate::Certificate;
use crate::kernel::types::{Sha256, UnixMillis};

mod algorithm;
mod build;
mod constraint;
mod examine;
mod extensions;
mod name;
mod policy;
mod revocation;
mod rule;
mod second;
#[cfg(test)]
mod tests;
mod validate;

pub use rule::{PathRefusal, PathRule};

/// Certificates of one question, trust anchors too.
pub const CERTIFICATES_MAX: usize = 1_000;
/// Revocation lists of one question.
pub const LISTS_MAX: usize = 64;
/// CAs between the certificate in question and its trust anchor, self-issued ones too.
pub const INTERMEDIATES_MAX: usize = 16;

/// What is asked. All certificates and lists are DER.
#[derive(Clone, Copy, Debug)]
pub struct PathQuestion<'a> {
    pub leaf: &'a [u8],
    /// Certificates that may be of use, in any order. Nothing about them is believed.
    pub others: &'a [Vec<u8>],
    pub anchors: &'a [Vec<u8>],
    /// With at least one, every certificate below the anchor needs a good status.
    pub lists: &'a [Vec<u8>],
    pub at: UnixMillis,
    pub usage: Option<Usage>,
    /// The name of the peer: a DNS name or an address.
    pub name: Option<&'a str>,
    /// CAs below the anchor that are not self-issued.
    pub depth_max: Option<usize>,
}

/// What the certificate is to be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Usage {
    Client,
    Server,
}

/// A path that is valid. Only [`judge`] makes one.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ValidPath {
    fingerprints: Vec<Sha256>,
}

impl ValidPath {
    /// SHA-256 of each certificate, the one in question first, the trust anchor last.
    pub fn fingerprints(&self) -> &[Sha256] {
        &self.fingerprints
    }
}

/// Judges a certificate: looks for a path to a trust anchor that is valid in every respect.
///
/// # Errors
/// The rule that is broken by the path that came furthest.
pub fn judge(question: &PathQuestion<'_>) -> Result<ValidPath, PathRefusal> {
    build::Builder::new(question)?.run()
}

/// The subject of a certificate (DER) for people to read. `None`: it cannot be read.
pub fn subject_text(der: &[u8]) -> Option<String> {
    Certificate::read(der).ok().map(|certificate| name::text_of(certificate.tbs.subject))
}
