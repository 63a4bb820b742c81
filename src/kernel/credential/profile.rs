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

mod content;
mod describe;
mod presented;
mod rule;
mod table;

pub(super) use content::spiffe_id;
use content::{custody_level, distribution_point, operator_name, responder};
pub use content::{
    custody_policy, distribution_point_at, is_dns_name, is_http_uri, responder_access, server_alt_name, server_names,
    uri_alt_name,
};
pub use rule::ProfileRule;
pub use table::{Expected, Extensions, IssuedBy, NameAttribute, NameForm, Table, Usage};

/// `notBefore` lies this long before the moment of issue, for clocks that are late.
pub const BACKDATE_MS: i64 = 5 * 60 * 1000;
/// Bytes of a subject or authority key identifier: the first 20 of SHA-256 (RFC 7093, 2, method 1, over the SPKI).
pub const KEY_IDENTIFIER_BYTES: usize = 20;
/// At least 64 bits of randomness (CA/Browser Forum BR 7.1), at most 20 octets (RFC 5280, 4.1.2.2).
pub const SERIAL_BYTES: std::ops::RangeInclusive<usize> = 8..=20;
const DAY_MS: i64 = 86_400_000;

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
        &self.table().name
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }

    /// The profile of a key's certificate. `None`: keys of this purpose have none, or two (agents).
    pub fn of_purpose(purpose: Purpose) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.purpose() == purpose && !profile.is_agent())
    }

    /// What the subject's key is for.
    pub fn purpose(self) -> Purpose {
        self.table().key.purpose
    }

    pub fn is_ca(self) -> bool {
        self.table().extensions.basic_constraints.ca
    }

    pub fn is_agent(self) -> bool {
        self.purpose() == Purpose::Agent
    }

    /// Algorithms that the subject's key may have.
    pub fn algorithms(self) -> &'static [Algorithm] {
        &self.table().key.algorithms
    }

    /// How long a certificate lives unless the configuration says less.
    pub fn life_default_ms(self) -> i64 {
        i64::from(self.table().life.default_days) * DAY_MS
    }

    /// The longest validity.
    pub fn life_max_ms(self) -> i64 {
        i64::from(self.table().life.max_days) * DAY_MS + BACKDATE_MS
    }

    /// The one extended key usage, as content octets. `None` for CAs.
    pub fn extended_key_usage(self, base: &OidBase) -> Option<Vec<u8>> {
        self.table().extensions.extended_key_usage.map(|rule| rule.usage.oid(base))
    }

    /// The arcs below the base of a private extended key usage.
    pub fn private_usage(self) -> Option<Arcs> {
        match self.table().extensions.extended_key_usage?.usage {
            Usage::Private(private) => Some(private.0),
            Usage::ServerAuth | Usage::ClientAuth | Usage::OcspSigning => None,
        }
    }

    /// The path length of a CA.
    pub fn path_length(self) -> Option<u8> {
        self.table().extensions.basic_constraints.path_length
    }

    /// True when we issue it with the place where its status is asked (RFC 5280, 4.2.2.1): what is presented to others
    /// while it lasts. Signing roles are judged by their lists: what they signed outlives them.
    pub fn names_responder(self) -> bool {
        self.table().extensions.authority_info_access.is_some()
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
        let rules = &self.table().extensions;
        if value(tbs, oid::KEY_USAGE) != Some(&rules.key_usage.der()) {
            return Err(ProfileRule::KeyUsage);
        }
        if let Some(usage) = self.extended_key_usage(base) {
            let expected = der::sequence(&[&der::element(der::OID, &usage)]);
            if value(tbs, oid::EXTENDED_KEY_USAGE) != Some(&expected) {
                return Err(ProfileRule::ExtendedKeyUsage);
            }
        }
        let identifier = key_identifier(tbs.key());
        if tbs.subject_key_identifier() != Some(&identifier) {
            return Err(ProfileRule::SubjectKeyIdentifier);
        }
        let issuer_identifier = match rules.authority_key_identifier {
            None => identifier.to_vec(),
            Some(_) => tbs
                .authority_key_identifier()
                .filter(|authority| authority.len() == KEY_IDENTIFIER_BYTES)
                .ok_or(ProfileRule::AuthorityKeyIdentifier)?
                .to_vec(),
        };
        let has_list = rules.crl_distribution_points.is_some();
        if has_list && value(tbs, oid::CRL_DISTRIBUTION_POINTS).and_then(distribution_point).is_none() {
            return Err(ProfileRule::DistributionPoint);
        }
        if value(tbs, oid::AUTHORITY_INFO_ACCESS).is_some_and(|access| responder(access).is_none()) {
            return Err(ProfileRule::AuthorityInfoAccess);
        }
        if rules.ocsp_no_check.is_some() && value(tbs, oid::OCSP_NO_CHECK) != Some(&[der::NULL, 0]) {
            return Err(ProfileRule::NoCheck);
        }
        let (mut spiffe, mut operator) = (None, None);
        let names = value(tbs, oid::SUBJECT_ALT_NAME);
        match rules.subject_alt_name.map(|rule| rule.form) {
            None => {}
            Some(NameForm::Server) => drop(server_names(tbs).ok_or(ProfileRule::SubjectAltName)?),
            Some(NameForm::Agent) => spiffe = Some(names.and_then(spiffe_id).ok_or(ProfileRule::SubjectAltName)?),
            Some(NameForm::Operator) => {
                operator = Some(names.and_then(operator_name).ok_or(ProfileRule::SubjectAltName)?);
            }
        }
        let custody = match rules.certificate_policies {
            None => None,
            Some(policies) => Some(custody_level(tbs, policies, base).ok_or(ProfileRule::CustodyPolicy)?),
        };
        Ok(Facts {
            serial,
            key: tbs.key(),
            spki: tbs.spki.to_vec(),
            identifier: hex::encode(identifier),
            issuer_identifier: hex::encode(issuer_identifier),
            not_before,
            not_after,
            agent: spiffe.zip(custody),
            operator,
        })
    }

    /// No duplicate, nothing unknown, nothing unexpected, everything as critical as it must be.
    fn check_extension_set(self, tbs: &Tbs<'_>) -> Result<(), ProfileRule> {
        let rules = &self.table().extensions;
        let binding_allowed = rules.related_certificate.is_some();
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
        let all: Vec<Expected> = rules.expected().collect();
        for extension in &tbs.extensions {
            // A draft of the binding has another identifier: it gets its own name later, by the acceptance rule.
            let binding = rules.related_certificate.filter(|_| is_binding(extension));
            if let Some(binding) = binding {
                if extension.critical != binding.critical {
                    return Err(ProfileRule::Criticality);
                }
                continue;
            }
            let Some(expected) = all.iter().find(|expected| expected.oid == extension.oid) else {
                let rule = match extension.critical {
                    true => ProfileRule::UnknownCriticalExtension,
                    false => ProfileRule::UnexpectedExtension,
                };
                return Err(rule);
            };
            if expected.critical != extension.critical {
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

/// The subject key identifier of a key.
pub fn key_identifier(key: KeyId) -> [u8; KEY_IDENTIFIER_BYTES] {
    let mut identifier = [0; KEY_IDENTIFIER_BYTES];
    identifier.copy_from_slice(&key.0[..KEY_IDENTIFIER_BYTES]);
    identifier
}

/// A serial number of whoever else issues: positive, not zero, one to twenty octets (RFC 5280, 4.1.2.2).
pub fn positive_serial(content: &[u8]) -> Option<Serial> {
    let positive = content.first().is_some_and(|first| first & 0x80 == 0) && content.iter().any(|byte| *byte != 0);
    if !positive || content.len() > *SERIAL_BYTES.end() {
        return None;
    }
    Serial::from_bytes(content).ok()
}

/// The serial number if it is positive and of a sane length.
pub fn sane_serial(content: &[u8]) -> Option<Serial> {
    positive_serial(content).filter(|serial| SERIAL_BYTES.contains(&serial.as_bytes().len()))
}

fn value<'a>(tbs: &Tbs<'a>, oid: &[u8]) -> Option<&'a [u8]> {
    tbs.extension(oid).map(|extension| extension.value)
}
