//! What each kind of certificate of this PKI must look like: the exact extensions, their exact contents.
//!
//! Stricter than RFC 5280 and than general validators on purpose: this is a private PKI, both parties run the same
//! rules, and whatever is not named here is refused. The CA builds by these profiles, the HSM worker lints by
//! them before it signs, the acceptance rule judges strangers by them.

use super::certificate::{self, Certificate, Tbs, TimeForm};
use super::der::{self, NotDer, Reader};
use super::oid::{self, Arcs, OidBase};
use super::related;
use crate::kernel::sign::{Algorithm, Purpose, raw_public_key};
use crate::kernel::status::CustodyLevel;
use crate::kernel::types::{KeyId, OperatorName, Serial, SpiffeId, UnixMillis};

mod rule;

pub use rule::ProfileRule;

/// `notBefore` lies this long before the moment of issue, for clocks that are late.
pub const BACKDATE_MS: i64 = 5 * 60 * 1000;
/// Bytes of a subject or authority key identifier: the first 20 of SHA-256 (RFC 7093, 2, method 1, over the SPKI).
pub const KEY_IDENTIFIER_BYTES: usize = 20;
/// At least 64 bits of randomness (CA/Browser Forum BR 7.1), at most 20 octets (RFC 5280, 4.1.2.2).
pub const SERIAL_BYTES: std::ops::RangeInclusive<usize> = 8..=20;
const SAN_ENTRIES_MAX: usize = 32;
const DAY_MS: i64 = 86_400_000;
const CUSTODY_OBSERVED: Arcs = [1, 1];
const CUSTODY_STATED: Arcs = [1, 2];

/// A kind of certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Profile {
    /// A party's self-signed root, path length 1.
    Root,
    /// A party's issuing CA under its root, path length 0.
    Issuing,
    /// S: the security company's endorsement of an agent.
    AgentS,
    /// B: the bank's certificate of an agent, bound to S.
    AgentB,
    TlsServer,
    /// The bank towards its core banking system.
    TlsClient,
    Checkpoint,
    Witness,
    Transaction,
    Catalogue,
    RevocationReceipt,
    /// Answers for its issuing CA (RFC 6960, 4.2.2.2); is not itself asked about.
    OcspResponder,
    /// The list of tools that the bank offers to agents.
    Manifest,
    /// A person of the party.
    Operator,
}

/// What a certificate says, once it fits its profile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    pub serial: Serial,
    pub key: KeyId,
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
    /// Subject key identifier, hexadecimal.
    pub identifier: String,
    /// Authority key identifier, hexadecimal; a root's own.
    pub issuer_identifier: String,
    pub not_before: UnixMillis,
    pub not_after: UnixMillis,
    /// Agents only.
    pub agent: Option<(SpiffeId, CustodyLevel)>,
    /// Operators only.
    pub operator: Option<OperatorName>,
}

impl Profile {
    pub const ALL: [Self; 14] = [
        Self::Root,
        Self::Issuing,
        Self::AgentS,
        Self::AgentB,
        Self::TlsServer,
        Self::TlsClient,
        Self::Checkpoint,
        Self::Witness,
        Self::Transaction,
        Self::Catalogue,
        Self::RevocationReceipt,
        Self::OcspResponder,
        Self::Manifest,
        Self::Operator,
    ];

    /// The name in records and on screen.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Issuing => "issuing",
            Self::AgentS => "agent-s",
            Self::AgentB => "agent-b",
            Self::TlsServer => "tls-server",
            Self::TlsClient => "tls-client",
            Self::Checkpoint => "checkpoint",
            Self::Witness => "witness",
            Self::Transaction => "transaction",
            Self::Catalogue => "catalogue",
            Self::RevocationReceipt => "revocation-receipt",
            Self::OcspResponder => "ocsp-responder",
            Self::Manifest => "manifest",
            Self::Operator => "operator",
        }
    }

    /// The profile of a key's certificate. `None`: keys of this purpose have none, or two (agents).
    pub fn of_purpose(purpose: Purpose) -> Option<Self> {
        match purpose {
            Purpose::Root => Some(Self::Root),
            Purpose::Issuing => Some(Self::Issuing),
            Purpose::TlsServer => Some(Self::TlsServer),
            Purpose::TlsClient => Some(Self::TlsClient),
            Purpose::Checkpoint => Some(Self::Checkpoint),
            Purpose::Witness => Some(Self::Witness),
            Purpose::Transaction => Some(Self::Transaction),
            Purpose::Catalogue => Some(Self::Catalogue),
            Purpose::RevocationReceipt => Some(Self::RevocationReceipt),
            Purpose::OcspResponder => Some(Self::OcspResponder),
            Purpose::Manifest => Some(Self::Manifest),
            Purpose::Operator => Some(Self::Operator),
            Purpose::Agent
            | Purpose::HostIdentity
            | Purpose::TokenIdentity
            | Purpose::VaultWrapping
            | Purpose::DataWrapping => None,
        }
    }

    pub fn is_ca(self) -> bool {
        matches!(self, Self::Root | Self::Issuing)
    }

    pub fn is_agent(self) -> bool {
        matches!(self, Self::AgentS | Self::AgentB)
    }

    /// Algorithms that the subject's key may have.
    pub fn algorithms(self) -> &'static [Algorithm] {
        let purpose = match self {
            Self::Root => Purpose::Root,
            Self::Issuing => Purpose::Issuing,
            Self::AgentS | Self::AgentB => Purpose::Agent,
            Self::TlsServer => Purpose::TlsServer,
            Self::TlsClient => Purpose::TlsClient,
            Self::Checkpoint => Purpose::Checkpoint,
            Self::Witness => Purpose::Witness,
            Self::Transaction => Purpose::Transaction,
            Self::Catalogue => Purpose::Catalogue,
            Self::RevocationReceipt => Purpose::RevocationReceipt,
            Self::OcspResponder => Purpose::OcspResponder,
            Self::Manifest => Purpose::Manifest,
            Self::Operator => Purpose::Operator,
        };
        purpose.algorithms()
    }

    /// The longest validity: ten years, five years, a week, 398 days.
    pub fn life_max_ms(self) -> i64 {
        let days = match self {
            Self::Root => 3_653,
            Self::Issuing => 1_827,
            Self::AgentS | Self::AgentB => 7,
            Self::TlsServer
            | Self::TlsClient
            | Self::Checkpoint
            | Self::Witness
            | Self::Transaction
            | Self::Catalogue
            | Self::RevocationReceipt
            | Self::OcspResponder
            | Self::Manifest
            | Self::Operator => 398,
        };
        days * DAY_MS + BACKDATE_MS
    }

    /// The one extended key usage, as content octets. `None` for CAs.
    pub fn extended_key_usage(self, base: &OidBase) -> Option<Vec<u8>> {
        match self {
            Self::Root | Self::Issuing => None,
            Self::AgentB | Self::TlsClient => Some(oid::CLIENT_AUTH.to_vec()),
            Self::TlsServer => Some(oid::SERVER_AUTH.to_vec()),
            Self::OcspResponder => Some(oid::OCSP_SIGNING.to_vec()),
            Self::AgentS
            | Self::Checkpoint
            | Self::Witness
            | Self::Transaction
            | Self::Catalogue
            | Self::RevocationReceipt
            | Self::Manifest
            | Self::Operator => self.private_usage().map(|arcs| base.child(arcs)),
        }
    }

    /// The arcs below the base of a private extended key usage.
    pub fn private_usage(self) -> Option<Arcs> {
        match self {
            Self::Root | Self::Issuing | Self::AgentB | Self::TlsServer | Self::TlsClient | Self::OcspResponder => None,
            Self::AgentS => Some([2, 1]),
            Self::Checkpoint | Self::Witness => Some([2, 2]),
            Self::Transaction => Some([2, 3]),
            Self::Catalogue => Some([2, 5]),
            Self::RevocationReceipt => Some([2, 6]),
            Self::Manifest => Some([2, 4]),
            Self::Operator => Some([2, 7]),
        }
    }

    /// The path length of a CA.
    pub fn path_length(self) -> Option<u8> {
        match self {
            Self::Root => Some(1),
            Self::Issuing => Some(0),
            Self::AgentS
            | Self::AgentB
            | Self::TlsServer
            | Self::TlsClient
            | Self::Checkpoint
            | Self::Witness
            | Self::Transaction
            | Self::Catalogue
            | Self::RevocationReceipt
            | Self::OcspResponder
            | Self::Manifest
            | Self::Operator => None,
        }
    }

    /// True when we issue it with the place where its status is asked (RFC 5280, 4.2.2.1): what is presented to others
    /// while it lasts. Signing roles are judged by their lists: what they signed outlives them.
    pub fn names_responder(self) -> bool {
        matches!(self, Self::AgentS | Self::AgentB | Self::TlsServer | Self::TlsClient | Self::Operator)
    }

    /// Every extension of the profile and whether it is critical.
    fn extensions(self) -> &'static [(&'static [u8], bool)] {
        const CA_ROOT: &[(&[u8], bool)] =
            &[(oid::BASIC_CONSTRAINTS, true), (oid::KEY_USAGE, true), (oid::SUBJECT_KEY_IDENTIFIER, false)];
        const CA_ISSUING: &[(&[u8], bool)] = &[
            (oid::BASIC_CONSTRAINTS, true),
            (oid::KEY_USAGE, true),
            (oid::SUBJECT_KEY_IDENTIFIER, false),
            (oid::AUTHORITY_KEY_IDENTIFIER, false),
        ];
        const ROLE: &[(&[u8], bool)] = &[
            (oid::BASIC_CONSTRAINTS, true),
            (oid::KEY_USAGE, true),
            (oid::EXTENDED_KEY_USAGE, false),
            (oid::SUBJECT_KEY_IDENTIFIER, false),
            (oid::AUTHORITY_KEY_IDENTIFIER, false),
            (oid::CRL_DISTRIBUTION_POINTS, false),
        ];
        const CLIENT: &[(&[u8], bool)] = &[
            (oid::BASIC_CONSTRAINTS, true),
            (oid::KEY_USAGE, true),
            (oid::EXTENDED_KEY_USAGE, false),
            (oid::SUBJECT_KEY_IDENTIFIER, false),
            (oid::AUTHORITY_KEY_IDENTIFIER, false),
            (oid::CRL_DISTRIBUTION_POINTS, false),
            (oid::AUTHORITY_INFO_ACCESS, false),
        ];
        const RESPONDER: &[(&[u8], bool)] = &[
            (oid::BASIC_CONSTRAINTS, true),
            (oid::KEY_USAGE, true),
            (oid::EXTENDED_KEY_USAGE, false),
            (oid::SUBJECT_KEY_IDENTIFIER, false),
            (oid::AUTHORITY_KEY_IDENTIFIER, false),
            (oid::OCSP_NO_CHECK, false),
        ];
        const NAMED: &[(&[u8], bool)] = &[
            (oid::BASIC_CONSTRAINTS, true),
            (oid::KEY_USAGE, true),
            (oid::EXTENDED_KEY_USAGE, false),
            (oid::SUBJECT_KEY_IDENTIFIER, false),
            (oid::AUTHORITY_KEY_IDENTIFIER, false),
            (oid::CRL_DISTRIBUTION_POINTS, false),
            (oid::AUTHORITY_INFO_ACCESS, false),
            (oid::SUBJECT_ALT_NAME, false),
        ];
        const AGENT: &[(&[u8], bool)] = &[
            (oid::BASIC_CONSTRAINTS, true),
            (oid::KEY_USAGE, true),
            (oid::EXTENDED_KEY_USAGE, false),
            (oid::SUBJECT_KEY_IDENTIFIER, false),
            (oid::AUTHORITY_KEY_IDENTIFIER, false),
            (oid::CRL_DISTRIBUTION_POINTS, false),
            (oid::AUTHORITY_INFO_ACCESS, false),
            (oid::SUBJECT_ALT_NAME, false),
            (oid::CERTIFICATE_POLICIES, false),
        ];
        match self {
            Self::Root => CA_ROOT,
            Self::Issuing => CA_ISSUING,
            Self::AgentS | Self::AgentB => AGENT,
            Self::TlsServer | Self::Operator => NAMED,
            Self::TlsClient => CLIENT,
            Self::OcspResponder => RESPONDER,
            Self::Checkpoint
            | Self::Witness
            | Self::Transaction
            | Self::Catalogue
            | Self::RevocationReceipt
            | Self::Manifest => ROLE,
        }
    }

    /// Judges a whole certificate: the outer signature algorithm, then everything of [`Self::check`].
    pub fn check_certificate(self, certificate: &Certificate<'_>, base: &OidBase) -> Result<Facts, ProfileRule> {
        if certificate.signature_algorithm != certificate.tbs.signature_algorithm {
            return Err(ProfileRule::SignatureAlgorithm);
        }
        self.check(&certificate.tbs, base)
    }

    /// Judges the signed part of a certificate by this profile. The binding of an agent's B is not judged here
    /// but by [`related::binding_of`], which has names of its own for what can be wrong with it.
    ///
    /// # Errors
    /// The first [`ProfileRule`] that is broken, in the order of that type.
    pub fn check(self, tbs: &Tbs<'_>, base: &OidBase) -> Result<Facts, ProfileRule> {
        if tbs.version != 2 {
            return Err(ProfileRule::Version);
        }
        let serial = sane_serial(tbs.serial).ok_or(ProfileRule::SerialNumber)?;
        if Algorithm::of_authority_signature(tbs.signature_algorithm).is_none() {
            return Err(ProfileRule::SignatureAlgorithm);
        }
        if [tbs.not_before, tbs.not_after].iter().any(|instant| instant.form == TimeForm::WrongType) {
            return Err(ProfileRule::ValidityEncoding);
        }
        let (not_before, not_after) = (tbs.not_before.at, tbs.not_after.at);
        if not_after <= not_before || not_after.0 - not_before.0 > self.life_max_ms() {
            return Err(ProfileRule::ValidityPeriod);
        }
        let empty = |name: &[u8]| name == [der::SEQUENCE, 0];
        let self_issued = tbs.issuer == tbs.subject;
        if empty(tbs.issuer) || empty(tbs.subject) || self_issued != (self == Self::Root) {
            return Err(ProfileRule::Name);
        }
        if !raw_public_key(tbs.spki).is_some_and(|(algorithm, _)| self.algorithms().contains(&algorithm)) {
            return Err(ProfileRule::KeyAlgorithm);
        }
        self.check_extension_set(tbs)?;

        self.check_basic_constraints(tbs)?;
        let usage: &[u8] = if self.is_ca() { KEY_USAGE_CA } else { KEY_USAGE_SIGN };
        if value(tbs, oid::KEY_USAGE) != Some(usage) {
            return Err(ProfileRule::KeyUsage);
        }
        if let Some(usage) = self.extended_key_usage(base) {
            let expected = der::sequence(&[&der::element(der::OID, &usage)]);
            if value(tbs, oid::EXTENDED_KEY_USAGE) != Some(&expected) {
                return Err(ProfileRule::ExtendedKeyUsage);
            }
        }
        let identifier = tbs
            .subject_key_identifier()
            .filter(|identifier| certificate::identifies_key(identifier, tbs.spki))
            .ok_or(ProfileRule::SubjectKeyIdentifier)?;
        let issuer_identifier = if self == Self::Root {
            identifier.to_vec()
        } else {
            tbs.authority_key_identifier()
                .filter(|authority| !authority.is_empty())
                .ok_or(ProfileRule::AuthorityKeyIdentifier)?
                .to_vec()
        };
        // Who answers about others is not asked about (RFC 6960, 4.2.2.2.1).
        let has_list = !self.is_ca() && self != Self::OcspResponder;
        if has_list && value(tbs, oid::CRL_DISTRIBUTION_POINTS).and_then(distribution_point).is_none() {
            return Err(ProfileRule::DistributionPoint);
        }
        if value(tbs, oid::AUTHORITY_INFO_ACCESS).is_some_and(|access| responder(access).is_none()) {
            return Err(ProfileRule::AuthorityInfoAccess);
        }
        if self == Self::OcspResponder && value(tbs, oid::OCSP_NO_CHECK) != Some(&[der::NULL, 0]) {
            return Err(ProfileRule::NoCheck);
        }
        if self == Self::TlsServer && server_names(tbs).is_none() {
            return Err(ProfileRule::SubjectAltName);
        }
        let agent = if self.is_agent() { Some(agent_facts(tbs, base)?) } else { None };
        let operator = if self == Self::Operator {
            let name = value(tbs, oid::SUBJECT_ALT_NAME).and_then(operator_name);
            Some(name.ok_or(ProfileRule::SubjectAltName)?)
        } else {
            None
        };
        Ok(Facts {
            serial,
            key: tbs.key(),
            spki: tbs.spki.to_vec(),
            identifier: hex::encode(identifier),
            issuer_identifier: hex::encode(issuer_identifier),
            not_before,
            not_after,
            agent,
            operator,
        })
    }

    /// No duplicate, nothing unknown, nothing unexpected, everything as critical as it must be.
    fn check_extension_set(self, tbs: &Tbs<'_>) -> Result<(), ProfileRule> {
        let binding_allowed = self == Self::AgentB;
        let is_binding = |extension: &certificate::Extension<'_>| {
            extension.oid == oid::RELATED_CERTIFICATE || related::decode_binding(extension.value).is_ok()
        };
        for (index, extension) in tbs.extensions.iter().enumerate() {
            if binding_allowed && is_binding(extension) {
                continue;
            }
            if tbs.extensions[..index].iter().any(|earlier| earlier.oid == extension.oid) {
                return Err(ProfileRule::DuplicateExtension);
            }
        }
        for extension in &tbs.extensions {
            if binding_allowed && is_binding(extension) {
                if extension.critical {
                    return Err(ProfileRule::Criticality);
                }
                continue;
            }
            let Some((_, critical)) = self.extensions().iter().find(|(oid, _)| *oid == extension.oid) else {
                let rule = match extension.critical {
                    true => ProfileRule::UnknownCriticalExtension,
                    false => ProfileRule::UnexpectedExtension,
                };
                return Err(rule);
            };
            if *critical != extension.critical {
                return Err(ProfileRule::Criticality);
            }
        }
        Ok(())
    }

    fn check_basic_constraints(self, tbs: &Tbs<'_>) -> Result<(), ProfileRule> {
        let read = |value: &[u8]| -> Result<(bool, Option<u64>), NotDer> {
            let mut reader = Reader::whole_sequence(value)?;
            let ca = reader.default_false()?;
            let path_length = if reader.is_empty() { None } else { Some(reader.unsigned()?) };
            reader.finish()?;
            Ok((ca, path_length))
        };
        let (ca, path_length) = value(tbs, oid::BASIC_CONSTRAINTS)
            .and_then(|value| read(value).ok())
            .ok_or(ProfileRule::BasicConstraints)?;
        if ca != self.is_ca() {
            return Err(ProfileRule::BasicConstraints);
        }
        if path_length != self.path_length().map(u64::from) {
            return Err(ProfileRule::PathLength);
        }
        Ok(())
    }
}

/// digitalSignature, as DER BIT STRING (RFC 5280, 4.2.1.3)
const KEY_USAGE_SIGN: &[u8] = &[0x03, 0x02, 0x07, 0x80];
/// keyCertSign and cRLSign
const KEY_USAGE_CA: &[u8] = &[0x03, 0x02, 0x01, 0x06];

/// The subject key identifier of a key.
pub fn key_identifier(key: KeyId) -> [u8; KEY_IDENTIFIER_BYTES] {
    let mut identifier = [0; KEY_IDENTIFIER_BYTES];
    identifier.copy_from_slice(&key.0[..KEY_IDENTIFIER_BYTES]);
    identifier
}

/// The serial number if it is positive and of a sane length.
pub fn sane_serial(content: &[u8]) -> Option<Serial> {
    let positive = content.first().is_some_and(|first| first & 0x80 == 0);
    if !positive || content.len() > *SERIAL_BYTES.end() {
        return None;
    }
    Serial::from_bytes(content).ok().filter(|serial| SERIAL_BYTES.contains(&serial.as_bytes().len()))
}

/// Content octets of `certificatePolicies` with one custody level.
pub fn custody_policy(level: CustodyLevel, base: &OidBase) -> Vec<u8> {
    let arcs = match level {
        CustodyLevel::CustodyObserved => CUSTODY_OBSERVED,
        CustodyLevel::CustodyStated => CUSTODY_STATED,
    };
    der::sequence(&[&der::sequence(&[&der::element(der::OID, &base.child(arcs))])])
}

/// DNS names and addresses of a TLS server's certificate. `None` unless there is at least one and nothing else.
pub fn server_names(tbs: &Tbs<'_>) -> Option<Vec<String>> {
    let mut reader = Reader::whole_sequence(value(tbs, oid::SUBJECT_ALT_NAME)?).ok()?;
    let mut names = Vec::new();
    while !reader.is_empty() && names.len() < SAN_ENTRIES_MAX {
        let name = reader.any().ok()?;
        match (name.tag, name.content.len()) {
            (0x82, 1..=253) if name.content.is_ascii() => {
                names.push(std::str::from_utf8(name.content).ok()?.to_owned());
            }
            (0x87, 4) => names.push(std::net::IpAddr::from(<[u8; 4]>::try_from(name.content).ok()?).to_string()),
            (0x87, 16) => names.push(std::net::IpAddr::from(<[u8; 16]>::try_from(name.content).ok()?).to_string()),
            _ => return None,
        }
    }
    (reader.is_empty() && !names.is_empty()).then_some(names)
}

/// The one SPIFFE ID of a `subjectAltName` value.
pub(super) fn spiffe_id(value: &[u8]) -> Option<SpiffeId> {
    let mut reader = Reader::whole_sequence(value).ok()?;
    let uri = reader.element(der::context(6)).ok()?.content;
    reader.finish().ok()?;
    std::str::from_utf8(uri).ok()?.parse().ok()
}

/// The one `spiffe://<trust domain>/operator/<name>` of a `subjectAltName` value. The trust domain is the issuer's
/// affair: an operator is one of the party that certified it.
fn operator_name(value: &[u8]) -> Option<OperatorName> {
    let mut reader = Reader::whole_sequence(value).ok()?;
    let uri = reader.element(der::context(6)).ok()?.content;
    reader.finish().ok()?;
    let (_, name) = std::str::from_utf8(uri).ok()?.strip_prefix("spiffe://")?.split_once("/operator/")?;
    name.parse().ok()
}

fn agent_facts(tbs: &Tbs<'_>, base: &OidBase) -> Result<(SpiffeId, CustodyLevel), ProfileRule> {
    let spiffe = value(tbs, oid::SUBJECT_ALT_NAME).and_then(spiffe_id).ok_or(ProfileRule::SubjectAltName)?;
    let policies = value(tbs, oid::CERTIFICATE_POLICIES).ok_or(ProfileRule::CustodyPolicy)?;
    let custody = [CustodyLevel::CustodyObserved, CustodyLevel::CustodyStated]
        .into_iter()
        .find(|level| policies == custody_policy(*level, base))
        .ok_or(ProfileRule::CustodyPolicy)?;
    Ok((spiffe, custody))
}

/// The URI of `SEQUENCE OF { distributionPoint { fullName { uniformResourceIdentifier } } }` with one of each.
fn distribution_point(value: &[u8]) -> Option<&str> {
    let mut points = Reader::whole_sequence(value).ok()?;
    let mut point = points.sequence().ok()?;
    points.finish().ok()?;
    let mut name = Reader::new(point.element(der::context_constructed(0)).ok()?.content);
    point.finish().ok()?;
    let mut full_name = Reader::new(name.element(der::context_constructed(0)).ok()?.content);
    name.finish().ok()?;
    let uri = full_name.element(der::context(6)).ok()?.content;
    full_name.finish().ok()?;
    std::str::from_utf8(uri).ok().filter(|uri| uri.starts_with("http://") && uri.is_ascii())
}

/// The URI of `SEQUENCE OF { accessMethod id-ad-ocsp, accessLocation URI }` with one of each.
fn responder(value: &[u8]) -> Option<&str> {
    let mut descriptions = Reader::whole_sequence(value).ok()?;
    let mut description = descriptions.sequence().ok()?;
    descriptions.finish().ok()?;
    let method = description.oid().ok()?;
    let uri = description.element(der::context(6)).ok()?.content;
    description.finish().ok()?;
    let uri = std::str::from_utf8(uri).ok().filter(|uri| uri.starts_with("http://") && uri.is_ascii())?;
    (method == oid::OCSP).then_some(uri)
}

/// `authorityInfoAccess` content with one OCSP responder.
pub fn responder_access(uri: &str) -> Vec<u8> {
    let location = der::element(der::context(6), uri.as_bytes());
    der::sequence(&[&der::sequence(&[&der::element(der::OID, oid::OCSP), &location])])
}

fn value<'a>(tbs: &Tbs<'a>, oid: &[u8]) -> Option<&'a [u8]> {
    tbs.extension(oid).map(|extension| extension.value)
}
