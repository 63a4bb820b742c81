//! Full certificate revocation lists (RFC 5280, 5): read strictly and verified with the issuer's key.
//!
//! Delta lists, indirect lists and lists of a part of the certificates are refused: a serial number that is absent
//! from a list of ours means "not revoked".

use std::collections::BTreeSet;

use super::certificate::{Certificate, Instant, TimeForm, read_extensions, read_name, read_time};
use super::der::{self, NotDer, Reader};
use super::oid;
use super::profile::sane_serial;
use crate::kernel::sign::{Algorithm, is_signed_by};
use crate::kernel::types::{Serial, UnixMillis};

/// Larger lists are refused: about 400,000 revoked certificates.
pub const CRL_BYTES_MAX: usize = 14 * 1024 * 1024;
/// A list may be dated this far ahead of our clock.
pub const THIS_UPDATE_SKEW_MS: i64 = 5 * 60 * 1000;

/// Why a revocation list is not acceptable. In the order in which the rules are checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrlRefusal {
    Malformed,
    /// Version, algorithm, missing dates, number or key identifier, an extension that is not allowed.
    ProfileViolated,
    /// Delta, indirect or partial.
    NotFull,
    IssuerMismatch,
    /// The issuer's certificate may not sign lists.
    IssuerNotCrlSigner,
    SignatureInvalid,
    NotYetValid,
    Expired,
}

impl CrlRefusal {
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "crl_malformed",
            Self::ProfileViolated => "crl_profile_violated",
            Self::NotFull => "crl_not_full",
            Self::IssuerMismatch => "crl_issuer_mismatch",
            Self::IssuerNotCrlSigner => "crl_issuer_not_crl_signer",
            Self::SignatureInvalid => "crl_signature_invalid",
            Self::NotYetValid => "crl_not_yet_valid",
            Self::Expired => "crl_expired",
        }
    }
}

impl std::fmt::Display for CrlRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the revocation list is not strict DER",
            Self::ProfileViolated => "the revocation list breaks its profile",
            Self::NotFull => "the revocation list is a delta, indirect or partial one",
            Self::IssuerMismatch => "the revocation list is by another issuer",
            Self::IssuerNotCrlSigner => "the issuer's certificate may not sign revocation lists",
            Self::SignatureInvalid => "the revocation list is not signed by its issuer",
            Self::NotYetValid => "the revocation list is dated in the future",
            Self::Expired => "the revocation list is past its next update",
        })
    }
}

/// A list whose signature, issuer and dates were verified. Only [`verify`] makes one.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedCrl {
    issuer: String,
    number: u64,
    this_update: UnixMillis,
    next_update: UnixMillis,
    serials: BTreeSet<Serial>,
}

impl VerifiedCrl {
    /// Subject key identifier of the issuing CA, hexadecimal.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn this_update(&self) -> UnixMillis {
        self.this_update
    }

    pub fn next_update(&self) -> UnixMillis {
        self.next_update
    }

    pub fn serials(&self) -> &BTreeSet<Serial> {
        &self.serials
    }
}

/// Reads and verifies a list (DER) with the issuing CA's certificate (DER) at `now`.
///
/// # Errors
/// The first [`CrlRefusal`] in the order of that type.
pub fn verify(crl: &[u8], issuer: &[u8], now: UnixMillis) -> Result<VerifiedCrl, CrlRefusal> {
    if crl.len() > CRL_BYTES_MAX {
        return Err(CrlRefusal::Malformed);
    }
    let malformed = |_: NotDer| CrlRefusal::Malformed;
    let mut reader = Reader::whole_sequence(crl).map_err(malformed)?;
    let tbs_der = reader.element(der::SEQUENCE).map_err(malformed)?.raw;
    let algorithm = reader.element(der::SEQUENCE).map_err(malformed)?.raw;
    let signature = reader.bit_string_bytes().map_err(malformed)?;
    reader.finish().map_err(malformed)?;
    let tbs = TbsCrl::read(tbs_der).map_err(malformed)?;
    tbs.check()?;
    if algorithm != tbs.algorithm {
        return Err(CrlRefusal::ProfileViolated);
    }
    let issuer = Certificate::read(issuer).map_err(|_| CrlRefusal::IssuerMismatch)?;
    let identifier = issuer.tbs.subject_key_identifier().ok_or(CrlRefusal::IssuerMismatch)?;
    if tbs.issuer != issuer.tbs.subject || tbs.authority()? != identifier {
        return Err(CrlRefusal::IssuerMismatch);
    }
    if !signs_crls(&issuer) {
        return Err(CrlRefusal::IssuerNotCrlSigner);
    }
    if !is_signed_by(issuer.tbs.spki, algorithm, tbs_der, signature) {
        return Err(CrlRefusal::SignatureInvalid);
    }
    let next_update = tbs.next_update.ok_or(CrlRefusal::ProfileViolated)?.at;
    if tbs.this_update.at.0 > now.0.saturating_add(THIS_UPDATE_SKEW_MS) {
        return Err(CrlRefusal::NotYetValid);
    }
    if now > next_update {
        return Err(CrlRefusal::Expired);
    }
    Ok(VerifiedCrl {
        issuer: hex::encode(identifier),
        number: tbs.number()?,
        this_update: tbs.this_update.at,
        next_update,
        serials: tbs.serials.into_iter().collect(),
    })
}

/// The key identifier that a list (DER) names as its issuer's, hexadecimal, before anything is verified: to find
/// the certificate to verify with.
pub fn claimed_issuer(crl: &[u8]) -> Option<String> {
    let mut reader = Reader::whole_sequence(crl).ok()?;
    let tbs = TbsCrl::read(reader.element(der::SEQUENCE).ok()?.raw).ok()?;
    tbs.authority().ok().map(hex::encode)
}

/// The signed part of a list.
pub(super) struct TbsCrl<'a> {
    version: u64,
    algorithm: &'a [u8],
    issuer: &'a [u8],
    this_update: Instant,
    next_update: Option<Instant>,
    serials: Vec<Serial>,
    entries: EntryForm,
    extensions: Vec<super::certificate::Extension<'a>>,
}

/// Whether every entry of a list has the form that we accept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EntryForm {
    Conforming,
    Violating,
}

impl<'a> TbsCrl<'a> {
    /// Reads the structure, with nothing after it.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, NotDer> {
        let mut reader = Reader::whole_sequence(bytes)?;
        let version = reader.unsigned()?;
        let algorithm = reader.element(der::SEQUENCE)?.raw;
        let issuer = read_name(&mut reader)?;
        let this_update = read_time(&mut reader)?;
        let mut ahead = reader;
        let next_update = match ahead.any().map(|element| element.tag) {
            Ok(der::UTC_TIME | der::GENERALIZED_TIME) => Some(read_time(&mut reader)?),
            Ok(_) | Err(_) => None,
        };
        let mut serials = Vec::new();
        let mut entries = EntryForm::Conforming;
        if let Some(list) = reader.optional(der::SEQUENCE)? {
            let mut list = Reader::new(list.content);
            if list.is_empty() {
                return Err(NotDer("an absent list where nothing is revoked"));
            }
            while !list.is_empty() {
                let mut entry = list.sequence()?;
                // Serial numbers that no certificate of ours can have are of no use, but no reason to fail.
                match sane_serial(entry.integer()?) {
                    Some(serial) => serials.push(serial),
                    None => entries = EntryForm::Violating,
                }
                if read_time(&mut entry)?.form == TimeForm::WrongType {
                    entries = EntryForm::Violating;
                }
                if let Some(extensions) = entry.optional(der::SEQUENCE)? {
                    let extensions = read_extensions(Reader::new(extensions.content))?;
                    // An indirect list's certificateIssuer is critical; nothing but the reason is allowed.
                    let only_reason = matches!(extensions[..], [extension] if extension.oid == oid::CRL_REASON && !extension.critical);
                    if !only_reason {
                        entries = EntryForm::Violating;
                    }
                }
                entry.finish()?;
            }
        }
        let extensions = match reader.optional(der::context_constructed(0))? {
            None => Vec::new(),
            Some(wrapped) => read_extensions(Reader::whole_sequence(wrapped.content)?)?,
        };
        reader.finish()?;
        Ok(Self { version, algorithm, issuer, this_update, next_update, serials, entries, extensions })
    }

    /// Version 2, a known algorithm, both dates, number and key identifier, nothing else; full and direct.
    pub(super) fn check(&self) -> Result<(), CrlRefusal> {
        let conforming = |instant: Instant| instant.form == TimeForm::Conforming;
        let next_update = self.next_update.ok_or(CrlRefusal::ProfileViolated)?;
        let plain = self.version == 1
            && Algorithm::of_authority_signature(self.algorithm).is_some()
            && self.issuer != [der::SEQUENCE, 0]
            && conforming(self.this_update)
            && conforming(next_update)
            && self.this_update.at < next_update.at
            && self.entries == EntryForm::Conforming;
        if !plain {
            return Err(CrlRefusal::ProfileViolated);
        }
        for (index, extension) in self.extensions.iter().enumerate() {
            if self.extensions[..index].iter().any(|earlier| earlier.oid == extension.oid) {
                return Err(CrlRefusal::ProfileViolated);
            }
            match (extension.oid, extension.critical) {
                (oid::AUTHORITY_KEY_IDENTIFIER | oid::CRL_NUMBER, false) => {}
                (oid::ISSUING_DISTRIBUTION_POINT, true) => only_a_name(extension.value)?,
                (oid::DELTA_CRL_INDICATOR, _) => return Err(CrlRefusal::NotFull),
                _ => return Err(CrlRefusal::ProfileViolated),
            }
        }
        self.number()?;
        self.authority()?;
        Ok(())
    }

    /// `AlgorithmIdentifier`, DER.
    pub(super) fn algorithm(&self) -> &'a [u8] {
        self.algorithm
    }

    fn find(&self, oid: &[u8]) -> Result<&'a [u8], CrlRefusal> {
        let found = self.extensions.iter().find(|extension| extension.oid == oid);
        found.map(|extension| extension.value).ok_or(CrlRefusal::ProfileViolated)
    }

    fn number(&self) -> Result<u64, CrlRefusal> {
        let mut reader = Reader::new(self.find(oid::CRL_NUMBER)?);
        let number = reader.unsigned().map_err(|_| CrlRefusal::ProfileViolated)?;
        reader.finish().map_err(|_| CrlRefusal::ProfileViolated)?;
        Ok(number)
    }

    pub(super) fn authority(&self) -> Result<&'a [u8], CrlRefusal> {
        super::certificate::authority_key_identifier(self.find(oid::AUTHORITY_KEY_IDENTIFIER)?)
            .map_err(|_| CrlRefusal::ProfileViolated)
    }
}

/// An issuing distribution point may say where the list is, and whether it is about end entities or CAs: that leaves
/// nothing out where an issuing CA has the ones only and a root the others. Anything else is left out.
fn only_a_name(value: &[u8]) -> Result<(), CrlRefusal> {
    let read = || -> Result<bool, NotDer> {
        let mut reader = Reader::whole_sequence(value)?;
        reader.optional(der::context_constructed(0))?;
        if let Some(scope) = [1, 2].into_iter().find_map(|scope| reader.optional(der::context(scope)).transpose())
            && scope?.content != [0xff]
        {
            return Err(NotDer("TRUE, or nothing where FALSE is the default"));
        }
        Ok(reader.is_empty())
    };
    match read() {
        Ok(true) => Ok(()),
        Ok(false) => Err(CrlRefusal::NotFull),
        Err(_) => Err(CrlRefusal::Malformed),
    }
}

fn signs_crls(issuer: &Certificate<'_>) -> bool {
    // BIT STRING of keyUsage: cRLSign is bit 6 of the first byte (RFC 5280, 4.2.1.3).
    issuer
        .tbs
        .extension(oid::KEY_USAGE)
        .is_some_and(|usage| matches!(usage.value, [der::BIT_STRING, _, _, bits, ..] if bits & 0x02 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::credential::lint::lint_tbs_crl;
    use crate::kernel::credential::profile::key_identifier;
    use crate::kernel::credential::testkit::*;

    /// A list before it is signed, part by part.
    #[derive(Clone)]
    struct DraftList {
        version: Vec<u8>,
        algorithm: Vec<u8>,
        issuer: Vec<u8>,
        dates: Vec<u8>,
        entries: Vec<u8>,
        extensions: Vec<(Vec<u8>, bool, Vec<u8>)>,
    }

    fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
        let critical: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
        der::sequence(&[&der::element(der::OID, oid), critical, &der::element(der::OCTET_STRING, value)])
    }

    fn entry(serial: &[u8], extensions: &[u8]) -> Vec<u8> {
        der::sequence(&[&der::element(der::INTEGER, serial), &utc_time(NOW), extensions])
    }

    fn honest(party: &Party) -> DraftList {
        let authority = der::sequence(&[&der::element(der::context(0), &key_identifier(party.issuing_key.id()))]);
        DraftList {
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

    impl DraftList {
        fn tbs(&self) -> Vec<u8> {
            let extensions: Vec<u8> =
                self.extensions.iter().flat_map(|(oid, critical, value)| extension(oid, *critical, value)).collect();
            let list = der::element(der::SEQUENCE, &extensions);
            let wrapped = der::element(der::context_constructed(0), &list);
            let parts =
                [&self.version, &self.algorithm, &self.issuer, &self.dates, &self.entries, &wrapped].map(Vec::as_slice);
            der::sequence(&parts)
        }

        fn sign(&self, key: &Key) -> Vec<u8> {
            let tbs = self.tbs();
            der::sequence(&[&tbs, P256_SIGNATURE, &der::bit_string(&key.sign(&tbs))])
        }
    }

    #[test]
    fn an_honest_list_reads_back() {
        let party = Party::new("secco");
        let draft = honest(&party);
        lint_tbs_crl(&draft.tbs()).unwrap();
        let list = draft.sign(&party.issuing_key);
        let verified = verify(&list, &party.issuing, NOW).unwrap();
        assert_eq!((verified.number(), verified.serials().len()), (7, 1));
        assert_eq!(claimed_issuer(&list).as_deref(), Some(verified.issuer()));
        let mut empty = draft;
        empty.entries.clear();
        assert!(verify(&empty.sign(&party.issuing_key), &party.issuing, NOW).unwrap().serials().is_empty());
    }

    #[test]
    fn lists_are_refused_by_the_rule_they_break() {
        type Bend = fn(&mut DraftList);
        let table: &[(&str, Bend, CrlRefusal)] = &[
            ("version 1", |list| list.version = vec![2, 1, 0], CrlRefusal::ProfileViolated),
            ("no version", |list| list.version.clear(), CrlRefusal::Malformed),
            ("another algorithm", |list| list.algorithm[11] = 3, CrlRefusal::ProfileViolated),
            ("no next update", |list| list.dates = utc_time(NOW), CrlRefusal::ProfileViolated),
            (
                "inverted dates",
                |list| list.dates = [utc_time(NOW), utc_time(NOW)].concat(),
                CrlRefusal::ProfileViolated,
            ),
            ("an empty list", |list| list.entries = der::sequence(&[]), CrlRefusal::Malformed),
            (
                "a serial number of zero",
                |list| list.entries = der::element(der::SEQUENCE, &entry(&[0], &[])),
                CrlRefusal::ProfileViolated,
            ),
            (
                "an entry of an indirect list",
                |list| {
                    let issuer = der::sequence(&[&extension(&[0x55, 0x1d, 0x1d], true, &[0x30, 0])]);
                    list.entries = der::element(der::SEQUENCE, &entry(&[0x41; 16], &issuer));
                },
                CrlRefusal::ProfileViolated,
            ),
            ("no number", |list| drop(list.extensions.pop()), CrlRefusal::ProfileViolated),
            (
                "a number of 65 bits",
                |list| list.extensions[1].2 = [&[2, 9, 1][..], &[0; 8]].concat(),
                CrlRefusal::ProfileViolated,
            ),
            ("no key identifier", |list| drop(list.extensions.remove(0)), CrlRefusal::ProfileViolated),
            (
                "an extension twice",
                |list| list.extensions.push(list.extensions[1].clone()),
                CrlRefusal::ProfileViolated,
            ),
            (
                "an unknown extension",
                |list| list.extensions.push((vec![0x2a, 3], false, vec![5, 0])),
                CrlRefusal::ProfileViolated,
            ),
            (
                "a delta",
                |list| list.extensions.push((oid::DELTA_CRL_INDICATOR.to_vec(), true, vec![2, 1, 1])),
                CrlRefusal::NotFull,
            ),
            (
                "attribute certificates only",
                |list| {
                    let value = vec![0x30, 3, 0x85, 1, 0xff];
                    list.extensions.push((oid::ISSUING_DISTRIBUTION_POINT.to_vec(), true, value));
                },
                CrlRefusal::NotFull,
            ),
            (
                "end entities only and CAs only",
                |list| {
                    let value = vec![0x30, 6, 0x81, 1, 0xff, 0x82, 1, 0xff];
                    list.extensions.push((oid::ISSUING_DISTRIBUTION_POINT.to_vec(), true, value));
                },
                CrlRefusal::NotFull,
            ),
            ("another issuer's name", |list| list.issuer = name("nobody"), CrlRefusal::IssuerMismatch),
            ("another issuer's key", |list| *list.extensions[0].2.last_mut().unwrap() ^= 1, CrlRefusal::IssuerMismatch),
            (
                "from the future",
                |list| list.dates = [utc_time(NOW.plus_ms(HOUR_MS)), utc_time(NOW.plus_ms(2 * HOUR_MS))].concat(),
                CrlRefusal::NotYetValid,
            ),
            (
                "past its next update",
                |list| list.dates = [utc_time(NOW.plus_ms(-2 * HOUR_MS)), utc_time(NOW.plus_ms(-HOUR_MS))].concat(),
                CrlRefusal::Expired,
            ),
        ];
        let party = Party::new("secco");
        for (what, bend, expected) in table {
            let mut list = honest(&party);
            bend(&mut list);
            assert_eq!(verify(&list.sign(&party.issuing_key), &party.issuing, NOW), Err(*expected), "{what}");
        }
        let list = honest(&party);
        let forged = list.sign(&party.root_key);
        assert_eq!(verify(&forged, &party.issuing, NOW), Err(CrlRefusal::SignatureInvalid));
        let longer = [list.sign(&party.issuing_key).as_slice(), &[0]].concat();
        assert_eq!(verify(&longer, &party.issuing, NOW), Err(CrlRefusal::Malformed));
        let mute = Party::bent("mute", |_| (), |issuing| issuing.set(oid::KEY_USAGE, vec![3, 2, 2, 4]));
        let list = honest(&mute).sign(&mute.issuing_key);
        assert_eq!(verify(&list, &mute.issuing, NOW), Err(CrlRefusal::IssuerNotCrlSigner));
    }
}
