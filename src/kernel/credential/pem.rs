//! PEM (RFC 7468) for certificates, requests and revocation lists.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::pem::{PemObject, SectionKind};

/// Longer texts are refused before they are read.
pub const PEM_BYTES_MAX: usize = 20 * 1024 * 1024;
/// More sections than any file of ours has.
const SECTIONS_MAX: usize = 16;

/// What a PEM section holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Certificate,
    Request,
    Crl,
    PublicKey,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Self::Certificate => "CERTIFICATE",
            Self::Request => "CERTIFICATE REQUEST",
            Self::Crl => "X509 CRL",
            Self::PublicKey => "PUBLIC KEY",
        }
    }

    fn section(self) -> SectionKind {
        match self {
            Self::Certificate => SectionKind::Certificate,
            Self::Request => SectionKind::Csr,
            Self::Crl => SectionKind::Crl,
            Self::PublicKey => SectionKind::PublicKey,
        }
    }
}

/// The text is not the PEM that was expected.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected {expected} in PEM: -----BEGIN {label}-----")]
pub struct NotPem {
    expected: &'static str,
    label: &'static str,
}

/// One section, lines of 64 characters.
pub fn encode(kind: Kind, der: &[u8]) -> String {
    let label = kind.label();
    let text = BASE64_STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII: every index is a character boundary.
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// Every section, all of this kind, at least one.
pub fn decode_all(kind: Kind, text: &str) -> Result<Vec<Vec<u8>>, NotPem> {
    let bad = NotPem { expected: "one or more sections", label: kind.label() };
    if text.len() > PEM_BYTES_MAX {
        return Err(bad);
    }
    let mut found = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        match section {
            Ok((section, der)) if section == kind.section() && found.len() < SECTIONS_MAX => found.push(der),
            Ok(_) | Err(_) => return Err(bad),
        }
    }
    if found.is_empty() { Err(bad) } else { Ok(found) }
}

/// Exactly one section of this kind.
pub fn decode_one(kind: Kind, text: &str) -> Result<Vec<u8>, NotPem> {
    let bad = NotPem { expected: "exactly one section", label: kind.label() };
    match <[Vec<u8>; 1]>::try_from(decode_all(kind, text).map_err(|_| bad.clone())?) {
        Ok([der]) => Ok(der),
        Err(_) => Err(bad),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_reads_back_and_other_texts_are_refused() {
        for length in [1, 47, 48, 49, 300] {
            let der = vec![0x30; length];
            assert_eq!(decode_one(Kind::Certificate, &encode(Kind::Certificate, &der)).unwrap(), der);
        }
        let one = encode(Kind::Certificate, &[0x30, 0]);
        let two = format!("{one}{one}");
        assert_eq!(decode_all(Kind::Certificate, &two).unwrap().len(), 2);
        for text in ["", "garbage", &two, &encode(Kind::Crl, &[0x30, 0]), &one[..one.len() - 20]] {
            assert!(decode_one(Kind::Certificate, text).is_err(), "{text}");
        }
    }
}
