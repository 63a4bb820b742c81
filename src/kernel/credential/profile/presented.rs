//! What an agent presents, judged as RFC 5280 and `docs/VERIFYING.md` say and not by the habits of our own CA: pairs come
//! from other implementations too. The path above it is judged by `path`.

use super::{BACKDATE_MS, DAY_MS, Facts, Profile, ProfileRule, custody_policy, positive_serial, spiffe_id, value};
use crate::kernel::credential::certificate::{Certificate, Extension, Tbs, TimeForm};
use crate::kernel::credential::der::{self, NotDer, Reader};
use crate::kernel::credential::oid::{self, OidBase};
use crate::kernel::credential::related;
use crate::kernel::sign::{Algorithm, raw_public_key};
use crate::kernel::status::CustodyLevel;

/// The longest life of an end entity that is accepted; what we issue lives a day.
const LIFE_MAX_MS: i64 = 398 * DAY_MS + BACKDATE_MS;
/// Sign only: digitalSignature (RFC 5280, 4.2.1.3).
const KEY_USAGE: &[u8] = &[0x03, 0x02, 0x07, 0x80];

/// What a certificate of an agent may carry, and which of it may not be critical.
const KNOWN: &[(&[u8], bool)] = &[
    (oid::BASIC_CONSTRAINTS, true),
    (oid::KEY_USAGE, true),
    (oid::EXTENDED_KEY_USAGE, false),
    (oid::SUBJECT_KEY_IDENTIFIER, false),
    (oid::AUTHORITY_KEY_IDENTIFIER, false),
    (oid::CRL_DISTRIBUTION_POINTS, true),
    (oid::AUTHORITY_INFO_ACCESS, false),
    (oid::SUBJECT_ALT_NAME, true),
    (oid::CERTIFICATE_POLICIES, true),
];

impl Profile {
    /// Judges one half of a pair, S or B. The binding is judged by [`related::binding_of`].
    ///
    /// # Errors
    /// The first [`ProfileRule`] that is broken, in the order of that type.
    pub fn check_presented(self, certificate: &Certificate<'_>, base: &OidBase) -> Result<Facts, ProfileRule> {
        debug_assert!(self.is_agent(), "only agents present certificates");
        let tbs = &certificate.tbs;
        if certificate.signature_algorithm != tbs.signature_algorithm {
            return Err(ProfileRule::SignatureAlgorithm);
        }
        if tbs.version != 2 {
            return Err(ProfileRule::Version);
        }
        let serial = positive_serial(tbs.serial).ok_or(ProfileRule::SerialNumber)?;
        if Algorithm::of_authority_signature(tbs.signature_algorithm).is_none() {
            return Err(ProfileRule::SignatureAlgorithm);
        }
        if [tbs.not_before, tbs.not_after].iter().any(|instant| instant.form == TimeForm::WrongType) {
            return Err(ProfileRule::ValidityEncoding);
        }
        let (not_before, not_after) = (tbs.not_before.at, tbs.not_after.at);
        if not_after <= not_before || not_after.0 - not_before.0 > LIFE_MAX_MS {
            return Err(ProfileRule::ValidityPeriod);
        }
        let empty = |name: &[u8]| name == [der::SEQUENCE, 0];
        if empty(tbs.issuer) || empty(tbs.subject) || tbs.issuer == tbs.subject {
            return Err(ProfileRule::Name);
        }
        if !raw_public_key(tbs.spki).is_some_and(|(algorithm, _)| self.algorithms().contains(&algorithm)) {
            return Err(ProfileRule::KeyAlgorithm);
        }
        self.check_presented_extensions(tbs)?;
        if value(tbs, oid::BASIC_CONSTRAINTS).is_some_and(|constraints| constraints != [der::SEQUENCE, 0]) {
            return Err(ProfileRule::BasicConstraints);
        }
        if value(tbs, oid::KEY_USAGE) != Some(KEY_USAGE) {
            return Err(ProfileRule::KeyUsage);
        }
        let usage = self.extended_key_usage(base).ok_or(ProfileRule::ExtendedKeyUsage)?;
        if value(tbs, oid::EXTENDED_KEY_USAGE) != Some(&der::sequence(&[&der::element(der::OID, &usage)])) {
            return Err(ProfileRule::ExtendedKeyUsage);
        }
        let own = match value(tbs, oid::SUBJECT_KEY_IDENTIFIER) {
            None => None,
            Some(_) => Some(tbs.subject_key_identifier().ok_or(ProfileRule::SubjectKeyIdentifier)?),
        };
        let authority = tbs.authority_key_identifier().filter(|identifier| !identifier.is_empty());
        let authority = authority.ok_or(ProfileRule::AuthorityKeyIdentifier)?;
        let spiffe = value(tbs, oid::SUBJECT_ALT_NAME).and_then(spiffe_id).ok_or(ProfileRule::SubjectAltName)?;
        let policies = value(tbs, oid::CERTIFICATE_POLICIES).ok_or(ProfileRule::CustodyPolicy)?;
        let custody = custody(policies, base).map_err(|_| ProfileRule::CustodyPolicy)?;
        Ok(Facts {
            serial,
            key: tbs.key(),
            spki: tbs.spki.to_vec(),
            identifier: own.map(hex::encode).unwrap_or_default(),
            issuer_identifier: hex::encode(authority),
            not_before,
            not_after,
            agent: Some((spiffe, custody)),
            operator: None,
        })
    }

    /// No duplicate, nothing critical that is not known, nothing critical that must not be. What is not known and not
    /// critical is ignored (RFC 5280, 4.2).
    fn check_presented_extensions(self, tbs: &Tbs<'_>) -> Result<(), ProfileRule> {
        let is_binding = |extension: &Extension<'_>| {
            extension.oid == oid::RELATED_CERTIFICATE || related::decode_binding(extension.value).is_ok()
        };
        for (index, extension) in tbs.extensions.iter().enumerate() {
            // More than one is named by the rule on bindings.
            if self == Self::AgentB && is_binding(extension) {
                if extension.critical {
                    return Err(ProfileRule::Criticality);
                }
                continue;
            }
            if tbs.extensions[..index].iter().any(|earlier| earlier.oid == extension.oid) {
                return Err(ProfileRule::DuplicateExtension);
            }
            match KNOWN.iter().find(|(oid, _)| *oid == extension.oid) {
                Some((_, may_be_critical)) if extension.critical && !may_be_critical => {
                    return Err(ProfileRule::Criticality);
                }
                Some(_) => {}
                None if extension.critical => return Err(ProfileRule::UnknownCriticalExtension),
                // An endorsement is bound by others, and binds nothing itself.
                None if is_binding(extension) => return Err(ProfileRule::UnexpectedExtension),
                None => {}
            }
        }
        Ok(())
    }
}

/// The one custody level among the policies; other policies, with or without qualifiers, say nothing about it.
fn custody(policies: &[u8], base: &OidBase) -> Result<CustodyLevel, NotDer> {
    let mut reader = Reader::whole_sequence(policies)?;
    let mut found = Vec::new();
    let mut named: Vec<&[u8]> = Vec::new();
    while !reader.is_empty() {
        let mut information = reader.sequence()?;
        let policy = information.oid()?;
        if named.contains(&policy) {
            return Err(NotDer("a policy once"));
        }
        named.push(policy);
        let alone = der::sequence(&[&der::sequence(&[&der::element(der::OID, policy)])]);
        let levels = [CustodyLevel::CustodyObserved, CustodyLevel::CustodyStated];
        found.extend(levels.into_iter().filter(|level| custody_policy(*level, base) == alone));
    }
    match found.as_slice() {
        [level] => Ok(*level),
        _ => Err(NotDer("one custody level")),
    }
}
