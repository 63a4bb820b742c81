//! A small PKI in memory for tests: every field of every certificate can be bent before it is signed.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

use super::chain::PartyAnchors;
use super::der;
use super::oid::{self, OidBase};
use super::pair::{Acceptance, PeerChains};
use super::profile::{self, Profile};
use super::related;
use crate::kernel::sign::{Algorithm, spki_der};
use crate::kernel::status::{CrlStatus, CustodyLevel, StatusSnapshot};
use crate::kernel::types::{KeyId, Sha256, UnixMillis};

/// 2026-11-21T04:20:00Z
pub const NOW: UnixMillis = UnixMillis(1_795_234_800_000);
pub const HOUR_MS: i64 = 3_600_000;
pub const SPIFFE: &str = "spiffe://countersign.example/agent/purchaser/shopper";

pub fn base() -> OidBase {
    "1.3.6.1.4.1.32473".parse().unwrap()
}

/// `AlgorithmIdentifier` of ecdsa-with-SHA256 (RFC 5758, 3.2).
pub const P256_SIGNATURE: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// A P-256 key pair in memory.
pub struct Key(EcdsaKeyPair);

impl Key {
    pub fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    pub fn spki(&self) -> Vec<u8> {
        spki_der(Algorithm::P256, self.0.public_key().as_ref())
    }

    pub fn id(&self) -> KeyId {
        Sha256::of(&[&self.spki()])
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }
}

pub fn ed25519_spki() -> Vec<u8> {
    spki_der(Algorithm::Ed25519, Ed25519KeyPair::generate().unwrap().public_key().as_ref())
}

/// A name as CAs and roles have one.
pub fn name(common_name: &str) -> Vec<u8> {
    der::sequence(&[&attribute(oid::ORGANIZATION_NAME, "testkit"), &attribute(oid::COMMON_NAME, common_name)])
}

/// A name as agents have one.
pub fn common_name(common_name: &str) -> Vec<u8> {
    der::sequence(&[&attribute(oid::COMMON_NAME, common_name)])
}

fn attribute(oid: &[u8], text: &str) -> Vec<u8> {
    let value = der::element(der::UTF8_STRING, text.as_bytes());
    der::element(der::SET, &der::sequence(&[&der::element(der::OID, oid), &value]))
}

pub fn utc_time(at: UnixMillis) -> Vec<u8> {
    let text = at.rfc3339();
    let digits: String = text[2..19].chars().filter(char::is_ascii_digit).collect();
    der::element(der::UTC_TIME, format!("{digits}Z").as_bytes())
}

pub fn generalized_time(at: UnixMillis) -> Vec<u8> {
    let text = at.rfc3339();
    let digits: String = text[..19].chars().filter(char::is_ascii_digit).collect();
    der::element(der::GENERALIZED_TIME, format!("{digits}Z").as_bytes())
}

/// One extension of a draft.
#[derive(Clone, PartialEq, Debug)]
pub struct DraftExtension {
    pub oid: Vec<u8>,
    pub critical: bool,
    pub value: Vec<u8>,
}

/// A certificate before it is signed, field by field.
#[derive(Clone, Debug)]
pub struct Draft {
    pub version: Vec<u8>,
    pub serial: Vec<u8>,
    pub inner_algorithm: Vec<u8>,
    pub outer_algorithm: Vec<u8>,
    pub issuer: Vec<u8>,
    pub not_before: Vec<u8>,
    pub not_after: Vec<u8>,
    pub subject: Vec<u8>,
    pub spki: Vec<u8>,
    pub extensions: Vec<DraftExtension>,
}

impl Draft {
    pub fn set(&mut self, oid: &[u8], value: Vec<u8>) {
        self.extensions.iter_mut().find(|extension| extension.oid == oid).unwrap().value = value;
    }

    pub fn set_critical(&mut self, oid: &[u8], critical: bool) {
        self.extensions.iter_mut().find(|extension| extension.oid == oid).unwrap().critical = critical;
    }

    pub fn remove(&mut self, oid: &[u8]) {
        self.extensions.retain(|extension| extension.oid != oid);
    }

    pub fn add(&mut self, oid: &[u8], critical: bool, value: Vec<u8>) {
        self.extensions.push(DraftExtension { oid: oid.to_vec(), critical, value });
    }

    pub fn tbs(&self) -> Vec<u8> {
        let extensions: Vec<Vec<u8>> = self
            .extensions
            .iter()
            .map(|extension| {
                let critical: &[u8] = if extension.critical { &[0x01, 0x01, 0xff] } else { &[] };
                let value = der::element(der::OCTET_STRING, &extension.value);
                der::sequence(&[&der::element(der::OID, &extension.oid), critical, &value])
            })
            .collect();
        let list = der::sequence(&extensions.iter().map(Vec::as_slice).collect::<Vec<_>>());
        der::sequence(&[
            &self.version,
            &der::element(der::INTEGER, &self.serial),
            &self.inner_algorithm,
            &self.issuer,
            &der::sequence(&[&self.not_before, &self.not_after]),
            &self.subject,
            &self.spki,
            &der::element(der::context_constructed(3), &list),
        ])
    }

    pub fn sign(&self, key: &Key) -> Vec<u8> {
        let tbs = self.tbs();
        der::sequence(&[&tbs, &self.outer_algorithm, &der::bit_string(&key.sign(&tbs))])
    }
}

pub fn eku(oid: &[u8]) -> Vec<u8> {
    der::sequence(&[&der::element(der::OID, oid)])
}

pub fn uri_names(uris: &[&str]) -> Vec<u8> {
    let names: Vec<Vec<u8>> = uris.iter().map(|uri| der::element(der::context(6), uri.as_bytes())).collect();
    der::sequence(&names.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

pub fn distribution_point() -> Vec<u8> {
    let uri = der::element(der::context(6), b"http://pki.countersign.example/crl/00.crl");
    let full_name = der::element(der::context_constructed(0), &uri);
    der::sequence(&[&der::sequence(&[&der::element(der::context_constructed(0), &full_name)])])
}

/// A draft that fits its profile. `parent`: issuer's name and key.
pub fn draft(profile: Profile, subject: &str, spki: &[u8], parent: (&[u8], &Key)) -> Draft {
    let algorithm = P256_SIGNATURE.to_vec();
    let mut serial = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, spki).as_ref()[..16].to_vec();
    serial[0] = 0x40 | profile as u8;
    let constraints = match profile.path_length() {
        Some(length) => der::sequence(&[&[0x01, 0x01, 0xff], &[0x02, 0x01, length]]),
        None => der::sequence(&[]),
    };
    let usage: &[u8] = if profile.is_ca() { &[0x03, 0x02, 0x01, 0x06] } else { &[0x03, 0x02, 0x07, 0x80] };
    let mut draft = Draft {
        version: vec![0xa0, 0x03, 0x02, 0x01, 0x02],
        serial,
        inner_algorithm: algorithm.clone(),
        outer_algorithm: algorithm,
        issuer: parent.0.to_vec(),
        not_before: utc_time(NOW.plus_ms(-HOUR_MS)),
        not_after: utc_time(NOW.plus_ms(HOUR_MS * 23)),
        subject: if profile.is_agent() { common_name(subject) } else { name(subject) },
        spki: spki.to_vec(),
        extensions: Vec::new(),
    };
    draft.add(oid::BASIC_CONSTRAINTS, true, constraints);
    draft.add(oid::KEY_USAGE, true, usage.to_vec());
    let identifier = profile::key_identifier(Sha256::of(&[spki]));
    draft.add(oid::SUBJECT_KEY_IDENTIFIER, false, der::element(der::OCTET_STRING, &identifier));
    if profile != Profile::Root {
        let authority = der::element(der::context(0), &profile::key_identifier(parent.1.id()));
        draft.add(oid::AUTHORITY_KEY_IDENTIFIER, false, der::sequence(&[&authority]));
    }
    if let Some(usage) = profile.extended_key_usage(&base()) {
        draft.add(oid::EXTENDED_KEY_USAGE, false, eku(&usage));
        if profile == Profile::OcspResponder {
            draft.add(oid::OCSP_NO_CHECK, false, vec![der::NULL, 0]);
        } else {
            draft.add(oid::CRL_DISTRIBUTION_POINTS, false, distribution_point());
        }
    }
    if profile == Profile::TlsServer {
        draft.add(oid::SUBJECT_ALT_NAME, false, der::sequence(&[&der::element(der::context(2), b"localhost")]));
    }
    if profile.names_responder() {
        let access = profile::responder_access("http://pki.countersign.example/ocsp/00");
        draft.add(oid::AUTHORITY_INFO_ACCESS, false, access);
    }
    if profile == Profile::Operator {
        draft.add(oid::SUBJECT_ALT_NAME, false, uri_names(&["spiffe://countersign.example/operator/alice"]));
    }
    if profile.is_agent() {
        draft.add(oid::SUBJECT_ALT_NAME, false, uri_names(&[SPIFFE]));
        let policy = profile::custody_policy(CustodyLevel::CustodyStated, &base());
        draft.add(oid::CERTIFICATE_POLICIES, false, policy);
    }
    draft
}

/// One party: root and issuing CA.
pub struct Party {
    pub root_key: Key,
    pub issuing_key: Key,
    pub root: Vec<u8>,
    pub issuing: Vec<u8>,
    pub root_name: Vec<u8>,
    pub issuing_name: Vec<u8>,
}

impl Party {
    pub fn new(party: &str) -> Self {
        Self::bent(party, |_| (), |_| ())
    }

    /// A party whose CA certificates were bent before they were signed.
    pub fn bent(party: &str, bend_root: impl Fn(&mut Draft), bend_issuing: impl Fn(&mut Draft)) -> Self {
        let (root_key, issuing_key) = (Key::new(), Key::new());
        let root_name = name(&format!("{party} root"));
        let issuing_name = name(&format!("{party} issuing"));
        let mut root = draft(Profile::Root, &format!("{party} root"), &root_key.spki(), (&root_name, &root_key));
        bend_root(&mut root);
        let mut issuing =
            draft(Profile::Issuing, &format!("{party} issuing"), &issuing_key.spki(), (&root_name, &root_key));
        bend_issuing(&mut issuing);
        let (root, issuing) = (root.sign(&root_key), issuing.sign(&root_key));
        Self { root_key, issuing_key, root, issuing, root_name, issuing_name }
    }

    pub fn anchors(&self) -> PartyAnchors {
        PartyAnchors { root: self.root.clone(), issuing: vec![self.issuing.clone()] }
    }

    pub fn draft(&self, profile: Profile, subject: &str, spki: &[u8]) -> Draft {
        draft(profile, subject, spki, (&self.issuing_name, &self.issuing_key))
    }
}

/// Two parties and one agent.
pub struct World {
    pub bank: Party,
    pub company: Party,
    pub agent: Key,
}

impl World {
    pub fn new() -> Self {
        Self { bank: Party::new("bank"), company: Party::new("secco"), agent: Key::new() }
    }

    pub fn draft_s(&self) -> Draft {
        self.company.draft(Profile::AgentS, "shopper", &self.agent.spki())
    }

    /// B without its binding.
    pub fn draft_b(&self) -> Draft {
        self.bank.draft(Profile::AgentB, "shopper", &self.agent.spki())
    }

    pub fn bind(mut b: Draft, s: &[u8]) -> Draft {
        b.add(oid::RELATED_CERTIFICATE, false, related::encode_binding(Sha256::of(&[s])));
        b
    }

    /// A pair whose halves were bent before they were signed; B is bound to the bent S.
    pub fn bent_pair(&self, bend_b: impl Fn(&mut Draft), bend_s: impl Fn(&mut Draft)) -> PeerChains {
        let mut s = self.draft_s();
        bend_s(&mut s);
        let s = s.sign(&self.company.issuing_key);
        let mut b = Self::bind(self.draft_b(), &s);
        bend_b(&mut b);
        PeerChains { presented: vec![b.sign(&self.bank.issuing_key), s] }
    }

    pub fn pair(&self) -> PeerChains {
        self.bent_pair(|_| (), |_| ())
    }

    pub fn acceptance(&self) -> Acceptance {
        Acceptance {
            bank: self.bank.anchors(),
            company: self.company.anchors(),
            trust_domain: "countersign.example".into(),
            oid_base: base(),
            custody_min: CustodyLevel::CustodyStated,
            company_crl_required: true,
        }
    }

    /// Nothing revoked, a fresh CRL of the company.
    pub fn status(&self) -> StatusSnapshot {
        let mut status = StatusSnapshot::default();
        let issuer = hex::encode(profile::key_identifier(self.company.issuing_key.id()));
        let crl = CrlStatus { number: 1, this_update: NOW, next_update: NOW.plus_ms(HOUR_MS) };
        status.crls.insert(issuer, crl);
        status
    }
}

/// A list before it is signed, part by part.
#[derive(Clone)]
pub struct DraftList {
    pub version: Vec<u8>,
    pub algorithm: Vec<u8>,
    pub issuer: Vec<u8>,
    pub dates: Vec<u8>,
    pub entries: Vec<u8>,
    pub extensions: Vec<(Vec<u8>, bool, Vec<u8>)>,
}

pub fn list_extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    der::sequence(&[&der::element(der::OID, oid), critical, &der::element(der::OCTET_STRING, value)])
}

pub fn entry(serial: &[u8], extensions: &[u8]) -> Vec<u8> {
    der::sequence(&[&der::element(der::INTEGER, serial), &utc_time(NOW), extensions])
}

impl DraftList {
    /// By the party's issuing CA, in force, with one entry.
    pub fn honest(party: &Party) -> Self {
        let authority =
            der::sequence(&[&der::element(der::context(0), &profile::key_identifier(party.issuing_key.id()))]);
        Self {
            version: vec![2, 1, 1],
            algorithm: P256_SIGNATURE.to_vec(),
            issuer: party.issuing_name.clone(),
            dates: [utc_time(NOW.plus_ms(-HOUR_MS)), utc_time(NOW.plus_ms(HOUR_MS))].concat(),
            entries: der::element(der::SEQUENCE, &entry(&[0x41; 16], &[])),
            extensions: vec![
                (oid::AUTHORITY_KEY_IDENTIFIER.to_vec(), false, authority),
                (oid::CRL_NUMBER.to_vec(), false, vec![2, 1, 7]),
            ],
        }
    }

    pub fn tbs(&self) -> Vec<u8> {
        let extensions: Vec<u8> =
            self.extensions.iter().flat_map(|(oid, critical, value)| list_extension(oid, *critical, value)).collect();
        let list = der::element(der::SEQUENCE, &extensions);
        let wrapped = der::element(der::context_constructed(0), &list);
        let parts =
            [&self.version, &self.algorithm, &self.issuer, &self.dates, &self.entries, &wrapped].map(Vec::as_slice);
        der::sequence(&parts)
    }

    pub fn sign(&self, key: &Key) -> Vec<u8> {
        let tbs = self.tbs();
        der::sequence(&[&tbs, P256_SIGNATURE, &der::bit_string(&key.sign(&tbs))])
    }
}
