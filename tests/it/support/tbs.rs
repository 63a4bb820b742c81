//! TBSCertificates field by field, to be bent before a key is asked to sign them.

use countersign::kernel::credential::der;
use countersign::kernel::credential::oid::{self, OidBase};
use countersign::kernel::credential::profile::{self, Profile};
use countersign::kernel::sign::Algorithm;
use countersign::kernel::types::Sha256;
use countersign::ops::clock;

/// One field after the other; `extensions` as OID, critical, value.
#[derive(Clone)]
pub struct Tbs {
    pub version: Vec<u8>,
    pub serial: Vec<u8>,
    pub algorithm: Vec<u8>,
    pub issuer: Vec<u8>,
    pub not_before: Vec<u8>,
    pub not_after: Vec<u8>,
    pub subject: Vec<u8>,
    pub spki: Vec<u8>,
    pub extensions: Vec<(Vec<u8>, bool, Vec<u8>)>,
}

impl Tbs {
    /// One that passes: `spki` is the subject's key, `authority` the key that signs.
    pub fn of(profile: Profile, subject: &str, spki: &[u8], issuer: &str, authority: &[u8]) -> Self {
        let base: OidBase = "1.3.6.1.4.1.32473".parse().unwrap();
        let constraints = match profile.path_length() {
            Some(length) => der::sequence(&[&[0x01, 0x01, 0xff], &[0x02, 0x01, length]]),
            None => der::sequence(&[]),
        };
        let usage: &[u8] = if profile.is_ca() { &[0x03, 0x02, 0x01, 0x06] } else { &[0x03, 0x02, 0x07, 0x80] };
        let identifier = |spki: &[u8]| profile::key_identifier(Sha256::of(&[spki]));
        let mut tbs = Self {
            version: vec![0xa0, 0x03, 0x02, 0x01, 0x02],
            serial: [&[0x41][..], &Sha256::of(&[spki]).0[..15]].concat(),
            algorithm: Algorithm::P256.signature_identifier().unwrap().to_vec(),
            issuer: name(issuer),
            not_before: utc_time(-3600),
            not_after: utc_time(3600),
            subject: name(subject),
            spki: spki.to_vec(),
            extensions: vec![
                (oid::BASIC_CONSTRAINTS.to_vec(), true, constraints),
                (oid::KEY_USAGE.to_vec(), true, usage.to_vec()),
                (oid::SUBJECT_KEY_IDENTIFIER.to_vec(), false, der::element(der::OCTET_STRING, &identifier(spki))),
            ],
        };
        if profile != Profile::Root {
            let authority = der::element(der::context(0), &identifier(authority));
            tbs.extensions.push((oid::AUTHORITY_KEY_IDENTIFIER.to_vec(), false, der::sequence(&[&authority])));
        }
        if let Some(usage) = profile.extended_key_usage(&base) {
            tbs.extensions.push((oid::EXTENDED_KEY_USAGE.to_vec(), false, usages(&[&usage])));
            tbs.extensions.push((oid::CRL_DISTRIBUTION_POINTS.to_vec(), false, distribution_point()));
        }
        if profile.names_responder() {
            let access = profile::responder_access("http://pki.countersign.example/ocsp/00");
            tbs.extensions.push((oid::AUTHORITY_INFO_ACCESS.to_vec(), false, access));
        }
        if profile == Profile::TlsServer {
            let names = der::sequence(&[&der::element(der::context(2), b"localhost")]);
            tbs.extensions.push((oid::SUBJECT_ALT_NAME.to_vec(), false, names));
        }
        tbs
    }

    pub fn set(&mut self, oid: &[u8], value: Vec<u8>) {
        self.extensions.iter_mut().find(|(this, _, _)| this == oid).expect("it has this extension").2 = value;
    }

    /// Makes it a certificate over another key, whose identifier is right.
    pub fn certify(&mut self, spki: &[u8]) {
        let identifier = der::element(der::OCTET_STRING, &profile::key_identifier(Sha256::of(&[spki])));
        self.set(oid::SUBJECT_KEY_IDENTIFIER, identifier);
        self.spki = spki.to_vec();
    }

    pub fn remove(&mut self, oid: &[u8]) {
        self.extensions.retain(|(this, _, _)| this != oid);
    }

    pub fn der(&self) -> Vec<u8> {
        let extensions: Vec<Vec<u8>> = self
            .extensions
            .iter()
            .map(|(oid, critical, value)| {
                let critical: &[u8] = if *critical { &[0x01, 0x01, 0xff] } else { &[] };
                der::sequence(&[&der::element(der::OID, oid), critical, &der::element(der::OCTET_STRING, value)])
            })
            .collect();
        let extensions = der::sequence(&extensions.iter().map(Vec::as_slice).collect::<Vec<_>>());
        der::sequence(&[
            &self.version,
            &der::element(der::INTEGER, &self.serial),
            &self.algorithm,
            &self.issuer,
            &der::sequence(&[&self.not_before, &self.not_after]),
            &self.subject,
            &self.spki,
            &der::element(der::context_constructed(3), &extensions),
        ])
    }
}

/// A name as CAs and roles have one.
pub fn name(common_name: &str) -> Vec<u8> {
    der::sequence(&[&attribute(oid::ORGANIZATION_NAME, "bank"), &attribute(oid::COMMON_NAME, common_name)])
}

/// A name as agents have one.
pub fn common_name(common_name: &str) -> Vec<u8> {
    der::sequence(&[&attribute(oid::COMMON_NAME, common_name)])
}

fn attribute(oid: &[u8], text: &str) -> Vec<u8> {
    let value = der::element(der::UTF8_STRING, text.as_bytes());
    der::element(der::SET, &der::sequence(&[&der::element(der::OID, oid), &value]))
}

/// UTCTime so many seconds from now: the worker signs nothing that has ended or begins later.
pub fn utc_time(seconds: i64) -> Vec<u8> {
    let text = clock::now().plus_ms(seconds * 1000).rfc3339();
    let digits: String = text[2..19].chars().filter(char::is_ascii_digit).collect();
    der::element(der::UTC_TIME, format!("{digits}Z").as_bytes())
}

pub fn usages(all: &[&[u8]]) -> Vec<u8> {
    let all: Vec<Vec<u8>> = all.iter().map(|usage| der::element(der::OID, usage)).collect();
    der::sequence(&all.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn distribution_point() -> Vec<u8> {
    let uri = der::element(der::context(6), b"http://pki.countersign.example/crl/00.crl");
    let full_name = der::element(der::context_constructed(0), &uri);
    der::sequence(&[&der::sequence(&[&der::element(der::context_constructed(0), &full_name)])])
}
