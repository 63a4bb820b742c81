//! Object identifiers: the ones we use, as DER content octets, and the private base of this installation.

use std::fmt;
use std::str::FromStr;

use crate::kernel::types::Malformed;

pub const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
pub const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
pub const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];

/// id-at-commonName
pub const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// id-at-organizationName
pub const ORGANIZATION_NAME: &[u8] = &[0x55, 0x04, 0x0a];

pub const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];
pub const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
pub const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
pub const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
pub const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 0x14];
pub const CRL_REASON: &[u8] = &[0x55, 0x1d, 0x15];
pub const DELTA_CRL_INDICATOR: &[u8] = &[0x55, 0x1d, 0x1b];
pub const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 0x1c];
/// Of an entry of an indirect list.
pub const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 0x1d];
pub const CRL_DISTRIBUTION_POINTS: &[u8] = &[0x55, 0x1d, 0x1f];
pub const CERTIFICATE_POLICIES: &[u8] = &[0x55, 0x1d, 0x20];
pub const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];
pub const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// id-pe-authorityInfoAccess, 1.3.6.1.5.5.7.1.1 (RFC 5280, 4.2.2.1)
pub const AUTHORITY_INFO_ACCESS: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x01];
/// id-ad-ocsp, 1.3.6.1.5.5.7.48.1
pub const OCSP: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01];
/// id-pkix-ocsp-nocheck, 1.3.6.1.5.5.7.48.1.5 (RFC 6960, 4.2.2.2.1)
pub const OCSP_NO_CHECK: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x05];
/// id-pe-relatedCert, 1.3.6.1.5.5.7.1.36 (RFC 9763, 4.1)
pub const RELATED_CERTIFICATE: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x24];
/// id-aa-relatedCertRequest, 1.2.840.113549.1.9.16.2.60 (RFC 9763, 3.1)
pub const RELATED_CERT_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x02, 0x3c];
/// pkcs-9-at-extensionRequest, 1.2.840.113549.1.9.14
pub const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];

pub const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
pub const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
/// id-kp-OCSPSigning
pub const OCSP_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x09];

/// 1.3.6.1.4.1: private enterprise numbers.
const PRIVATE_ENTERPRISES: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01];

/// Base of this installation's private object identifiers, under 1.3.6.1.4.1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OidBase {
    components: Vec<u64>,
    der: Vec<u8>,
}

/// A private object identifier's place below the base.
pub type Arcs = [u8; 2];

impl OidBase {
    /// Content octets of `base.a.b`.
    pub fn child(&self, arcs: Arcs) -> Vec<u8> {
        [self.der.as_slice(), &arcs].concat()
    }

    /// Components of `base.a.b`.
    pub fn child_components(&self, arcs: Arcs) -> Vec<u64> {
        self.components.iter().copied().chain(arcs.map(u64::from)).collect()
    }

    /// Splits a private object identifier into its base and its last two arcs. For the HSM worker, which has no
    /// configuration: any base under 1.3.6.1.4.1 will do.
    pub fn split(oid: &[u8]) -> Option<(Self, Arcs)> {
        let (der, arcs) = oid.split_last_chunk::<2>()?;
        let private = der.len() > PRIVATE_ENTERPRISES.len() && der.starts_with(PRIVATE_ENTERPRISES);
        let whole = der.last().is_some_and(|last| last & 0x80 == 0) && arcs.iter().all(|arc| arc & 0x80 == 0);
        (private && whole).then(|| (Self { components: decode(der), der: der.to_vec() }, *arcs))
    }
}

impl FromStr for OidBase {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let bad = Malformed { what: "oid_base", expected: "a dotted object identifier under 1.3.6.1.4.1" };
        if text.len() > 128 {
            return Err(bad);
        }
        let components: Vec<u64> =
            text.split('.').map(str::parse).collect::<Result<_, _>>().map_err(|_| bad.clone())?;
        let private = components.starts_with(&[1, 3, 6, 1, 4, 1]) && components.len() > 6;
        // Components above 63 bits would overflow the seven-bit groups of other readers.
        if !private || components.iter().any(|component| *component > u64::from(u32::MAX)) {
            return Err(bad);
        }
        Ok(Self { der: encode(&components), components })
    }
}

impl fmt::Display for OidBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.components.iter().map(u64::to_string).collect();
        f.write_str(&texts.join("."))
    }
}

fn encode(components: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    // The first two components share a byte (X.690, 8.19.4); here they are 1.3.
    for component in std::iter::once(components[0] * 40 + components[1]).chain(components[2..].iter().copied()) {
        let mut groups = vec![(component & 0x7f) as u8];
        let mut rest = component >> 7;
        while rest > 0 {
            groups.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        out.extend(groups.into_iter().rev());
    }
    out
}

fn decode(der: &[u8]) -> Vec<u64> {
    let mut values = Vec::new();
    let mut value = 0_u64;
    for byte in der {
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            values.push(value);
            value = 0;
        }
    }
    // 1.3.6.1.4.1 is the only root a base has.
    let rest = values.split_off(1);
    [vec![1, 3], rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_reads_back_and_its_children_split_again() {
        for text in ["1.3.6.1.4.1.32473", "1.3.6.1.4.1.5.200.4294967295"] {
            let base: OidBase = text.parse().unwrap();
            assert_eq!(base.to_string(), text);
            assert_eq!(OidBase::split(&base.child([2, 1])), Some((base.clone(), [2, 1])));
        }
        let base: OidBase = "1.3.6.1.4.1.32473".parse().unwrap();
        assert_eq!(base.child([2, 5]), [0x2b, 6, 1, 4, 1, 0x81, 0xfd, 0x59, 2, 5]);
        assert_eq!(base.child_components([1, 2]), [1, 3, 6, 1, 4, 1, 32473, 1, 2]);
    }

    #[test]
    fn bases_outside_the_private_arc_are_refused() {
        for text in ["", "1", "1.3.6.1.4.1", "1.3.6.1.5.5.7.3", "2.25.1", "1.3.6.1.4.1.x", "1.3.6.1.4.1.-1"] {
            assert!(text.parse::<OidBase>().is_err(), "{text}");
        }
        for oid in [SERVER_AUTH, CLIENT_AUTH, &[0x2b, 6, 1, 4, 1, 2, 1]] {
            assert_eq!(OidBase::split(oid), None);
        }
    }
}
