//! What stands in the extensions of our certificates: each content is read, and written, here.

use std::net::IpAddr;

use super::Profile;
use super::table::CustodyPolicies;
use crate::kernel::credential::certificate::Tbs;
use crate::kernel::credential::der::{self, Reader};
use crate::kernel::credential::oid::{self, OidBase};
use crate::kernel::status::CustodyLevel;
use crate::kernel::types::{OperatorName, SpiffeId};

/// Far more than any server of ours has.
const SAN_ENTRIES_MAX: usize = 32;
/// RFC 1035, 2.3.4
const DNS_NAME_BYTES_MAX: usize = 253;
const DNS_LABEL_BYTES_MAX: usize = 63;
/// Longer than any place of ours.
const URI_BYTES_MAX: usize = 1024;
const DNS_NAME: u8 = der::context(2);
const URI: u8 = der::context(6);
const IP_ADDRESS: u8 = der::context(7);

/// Content octets of `certificatePolicies` with one custody level.
pub fn custody_policy(level: CustodyLevel, base: &OidBase) -> Vec<u8> {
    let policies = Profile::AgentB.table().extensions.certificate_policies;
    let policies = policies.expect("a test checks that both halves of a pair have the same custody policies");
    policy(policies, level, base)
}

fn policy(policies: CustodyPolicies, level: CustodyLevel, base: &OidBase) -> Vec<u8> {
    let private = match level {
        CustodyLevel::CustodyObserved => policies.custody_observed,
        CustodyLevel::CustodyStated => policies.custody_stated,
    };
    der::sequence(&[&der::sequence(&[&der::element(der::OID, &base.child(private.0))])])
}

/// The one custody level of a certificate.
pub(super) fn custody_level(tbs: &Tbs<'_>, policies: CustodyPolicies, base: &OidBase) -> Option<CustodyLevel> {
    let found = super::value(tbs, oid::CERTIFICATE_POLICIES)?;
    let levels = [CustodyLevel::CustodyObserved, CustodyLevel::CustodyStated];
    levels.into_iter().find(|level| found == policy(policies, *level, base))
}

/// DNS names and addresses of a TLS server's certificate. `None` unless there is at least one and nothing else.
pub fn server_names(tbs: &Tbs<'_>) -> Option<Vec<String>> {
    let mut reader = Reader::whole_sequence(super::value(tbs, oid::SUBJECT_ALT_NAME)?).ok()?;
    let mut names = Vec::new();
    while !reader.is_empty() && names.len() < SAN_ENTRIES_MAX {
        let name = reader.any().ok()?;
        match (name.tag, name.content.len()) {
            (DNS_NAME, _) => names.push(text(name.content).filter(|name| is_dns_name(name))?.to_owned()),
            (IP_ADDRESS, 4) => names.push(IpAddr::from(<[u8; 4]>::try_from(name.content).ok()?).to_string()),
            (IP_ADDRESS, 16) => names.push(IpAddr::from(<[u8; 16]>::try_from(name.content).ok()?).to_string()),
            _ => return None,
        }
    }
    (reader.is_empty() && !names.is_empty()).then_some(names)
}

/// `subjectAltName` content of a TLS server: what reads as an address is one, anything else is a DNS name.
pub fn server_alt_name(names: &[String]) -> Vec<u8> {
    let names: Vec<Vec<u8>> = names
        .iter()
        .map(|name| match name.parse() {
            Ok(IpAddr::V4(address)) => der::element(IP_ADDRESS, &address.octets()),
            Ok(IpAddr::V6(address)) => der::element(IP_ADDRESS, &address.octets()),
            Err(_) => der::element(DNS_NAME, name.as_bytes()),
        })
        .collect();
    der::element(der::SEQUENCE, &names.concat())
}

/// `subjectAltName` content with one URI.
pub fn uri_alt_name(uri: &str) -> Vec<u8> {
    der::sequence(&[&der::element(URI, uri.as_bytes())])
}

/// The one SPIFFE ID of a `subjectAltName` value.
pub(in crate::kernel::credential) fn spiffe_id(value: &[u8]) -> Option<SpiffeId> {
    one_uri(value)?.parse().ok()
}

/// The one `spiffe://<trust domain>/operator/<name>` of a `subjectAltName` value. The trust domain is the issuer's
/// affair: an operator is one of the party that certified it.
pub(super) fn operator_name(value: &[u8]) -> Option<OperatorName> {
    let (domain, name) = one_uri(value)?.strip_prefix("spiffe://")?.split_once("/operator/")?;
    is_dns_name(domain).then_some(name)?.parse().ok()
}

fn one_uri(value: &[u8]) -> Option<&str> {
    let mut reader = Reader::whole_sequence(value).ok()?;
    let uri = reader.element(URI).ok()?.content;
    reader.finish().ok()?;
    text(uri)
}

/// The URI of `SEQUENCE OF { distributionPoint { fullName { uniformResourceIdentifier } } }` with one of each.
pub(super) fn distribution_point(value: &[u8]) -> Option<&str> {
    let mut points = Reader::whole_sequence(value).ok()?;
    let mut point = points.sequence().ok()?;
    points.finish().ok()?;
    let mut name = Reader::new(point.element(der::context_constructed(0)).ok()?.content);
    point.finish().ok()?;
    let mut full_name = Reader::new(name.element(der::context_constructed(0)).ok()?.content);
    name.finish().ok()?;
    let uri = full_name.element(URI).ok()?.content;
    full_name.finish().ok()?;
    text(uri).filter(|uri| is_http_uri(uri))
}

/// `cRLDistributionPoints` content with one place.
pub fn distribution_point_at(uri: &str) -> Vec<u8> {
    let full_name = der::element(der::context_constructed(0), &der::element(URI, uri.as_bytes()));
    der::sequence(&[&der::sequence(&[&der::element(der::context_constructed(0), &full_name)])])
}

/// The URI of `SEQUENCE OF { accessMethod id-ad-ocsp, accessLocation URI }` with one of each.
pub(super) fn responder(value: &[u8]) -> Option<&str> {
    let mut descriptions = Reader::whole_sequence(value).ok()?;
    let mut description = descriptions.sequence().ok()?;
    descriptions.finish().ok()?;
    let method = description.oid().ok()?;
    let uri = description.element(URI).ok()?.content;
    description.finish().ok()?;
    let uri = text(uri).filter(|uri| is_http_uri(uri))?;
    (method == oid::OCSP).then_some(uri)
}

/// `authorityInfoAccess` content with one OCSP responder.
pub fn responder_access(uri: &str) -> Vec<u8> {
    let location = der::element(URI, uri.as_bytes());
    der::sequence(&[&der::sequence(&[&der::element(der::OID, oid::OCSP), &location])])
}

fn text(content: &[u8]) -> Option<&str> {
    std::str::from_utf8(content).ok()
}

/// A host name without wildcards and without a dot at its end (RFC 1123, 2.1; RFC 5280, 4.2.1.6). One of digits
/// alone at its end would be an address.
pub fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=DNS_LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= DNS_NAME_BYTES_MAX && name.split('.').all(label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// `http://host[:port]/path` in the characters of RFC 3986 and nothing else: no user, no query, no fragment. Not https:
/// whoever checks a certificate would have to check another one first (RFC 5280, 8).
pub fn is_http_uri(uri: &str) -> bool {
    let Some((authority, path)) = uri.strip_prefix("http://").and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let host_fits = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_dns_name(host) || host.parse::<std::net::Ipv4Addr>().is_ok(),
    };
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|read| read.to_string() == port && read > 0));
    uri.len() <= URI_BYTES_MAX && host_fits && port_fits && is_path(path)
}

/// RFC 3986, 3.3: characters of a path, and percent signs only before two hexadecimal digits.
fn is_path(path: &str) -> bool {
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let fits = match byte {
            b'%' => [rest.next(), rest.next()].iter().all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit())),
            other => other.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&other),
        };
        if !fits {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_read_to_the_letter() {
        for name in ["localhost", "a.b", "bank.countersign.example", "xn--bcher-kva.example", "1a.2b"] {
            assert!(is_dns_name(name), "{name}");
        }
        let long = ["a"; 128].join(".");
        let label = "a".repeat(64);
        for name in ["", ".", "a.", ".a", "a..b", "-a", "a-", "a_b", "*.a", "a b", "ä.de", "10.0.0.1", &long, &label] {
            assert!(!is_dns_name(name), "{name}");
        }
    }

    #[test]
    fn places_are_plain_http_and_nothing_else() {
        for uri in
            ["http://a/", "http://pki.example/crl/00.crl", "http://127.0.0.1:8080/ocsp/%20", "http://[::1]:80/a/b,c"]
        {
            assert!(is_http_uri(uri), "{uri}");
        }
        for uri in [
            "",
            "http://",
            "http://a",
            "https://a/",
            "HTTP://a/",
            "ldap://a/",
            "http:///a",
            "http://a:/",
            "http://a:0/",
            "http://a:65536/",
            "http://a:080/",
            "http://user@a/",
            "http://a/?q",
            "http://a/#f",
            "http://a/ b",
            "http://a/%2",
            "http://a/%zz",
            "http://a/\\",
            "http://a_b/",
            "http://[::1/",
            "http://[::g]/",
            "http://999.1.1.1/",
            "http://a/ä",
        ] {
            assert!(!is_http_uri(uri), "{uri}");
        }
        assert!(!is_http_uri(&format!("http://a/{}", "x".repeat(URI_BYTES_MAX))));
    }
}
