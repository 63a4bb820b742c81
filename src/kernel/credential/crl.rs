//! Full certificate revocation lists (RFC 5280, 5): read strictly and verified with the issuer's key.
//!
//! Delta lists, indirect lists and lists of a part of the certificates are refused: a serial number that is absent
//! from a list of ours means "not revoked". A list may say that it is for end entities or for CAs alone where its
//! issuer has no others.

use std::collections::BTreeSet;

use super::certificate::{Certificate, Extension, Instant, TimeForm, read_extensions, read_name, read_time};
use super::der::{self, Element, NotDer, Reader};
use super::oid;
use super::profile::positive_serial;
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
    tbs.acceptable()?;
    if algorithm != tbs.algorithm {
        return Err(CrlRefusal::ProfileViolated);
    }
    let issuer = Certificate::read(issuer).map_err(|_| CrlRefusal::IssuerMismatch)?;
    let identifier = issuer.tbs.subject_key_identifier().ok_or(CrlRefusal::IssuerMismatch)?;
    if tbs.issuer != issuer.tbs.subject || tbs.authority()? != identifier {
        return Err(CrlRefusal::IssuerMismatch);
    }
    // A root issues CAs, an issuing CA end entities: a list of the other kind says nothing.
    let is_root = issuer.tbs.issuer == issuer.tbs.subject;
    let other_kind = if is_root { Holders::EndEntities } else { Holders::Authorities };
    if matches!(tbs.scope(), ListScope::Full(holders, _) if holders == other_kind) {
        return Err(CrlRefusal::NotFull);
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
        serials: tbs.serials.into_iter().filter_map(positive_serial).collect(),
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
    /// 1 is version 2.
    pub(super) version: u64,
    algorithm: &'a [u8],
    /// Name, DER.
    pub(super) issuer: &'a [u8],
    pub(super) this_update: Instant,
    pub(super) next_update: Option<Instant>,
    /// Content octets of each entry's INTEGER, sign included.
    serials: Vec<&'a [u8]>,
    worst_entry: EntryExtension,
    pub(super) extensions: Vec<Extension<'a>>,
}

/// What an entry of a list has besides serial number and date. From harmless to harmful.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EntryExtension {
    /// Nothing, or the reason.
    Plain,
    /// Something that may be ignored.
    Unknown,
    Malformed,
    UnknownCritical,
    /// Of an indirect list.
    OtherIssuer,
    /// Of a delta list.
    Removed,
}

/// Whose certificates a list speaks of (RFC 5280, 5.2.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Holders {
    All,
    /// onlyContainsUserCerts: everything that an issuing CA issues.
    EndEntities,
    /// onlyContainsCACerts: everything that a root issues.
    Authorities,
}

/// What a list speaks of.
pub(super) enum ListScope<'a> {
    /// Everything of these holders, published under this DistributionPointName (content octets).
    Full(Holders, Option<&'a [u8]>),
    Partial,
    Delta,
    Malformed,
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
        let mut worst_entry = EntryExtension::Plain;
        if let Some(list) = reader.optional(der::SEQUENCE)? {
            let mut list = Reader::new(list.content);
            if list.is_empty() {
                return Err(NotDer("an absent list where nothing is revoked"));
            }
            while !list.is_empty() {
                let mut entry = list.sequence()?;
                serials.push(entry.integer()?);
                let date = read_time(&mut entry)?;
                let mut worst = match date.form {
                    TimeForm::Conforming => EntryExtension::Plain,
                    TimeForm::WrongType => EntryExtension::Malformed,
                };
                if let Some(extensions) = entry.optional(der::SEQUENCE)? {
                    let extensions = read_extensions(Reader::new(extensions.content))?;
                    worst = worst.max(entry_extensions(&extensions));
                }
                worst_entry = worst_entry.max(worst);
                entry.finish()?;
            }
        }
        let extensions = match reader.optional(der::context_constructed(0))? {
            None => Vec::new(),
            Some(wrapped) => read_extensions(Reader::whole_sequence(wrapped.content)?)?,
        };
        reader.finish()?;
        Ok(Self { version, algorithm, issuer, this_update, next_update, serials, worst_entry, extensions })
    }

    /// What we sign: as [`Self::acceptable`], with nothing that is not ours.
    pub(super) fn check(&self) -> Result<(), CrlRefusal> {
        self.acceptable()?;
        let known = [oid::AUTHORITY_KEY_IDENTIFIER, oid::CRL_NUMBER, oid::ISSUING_DISTRIBUTION_POINT];
        let ours = self.extensions.iter().all(|extension| known.contains(&extension.oid));
        if ours && self.worst_entry == EntryExtension::Plain { Ok(()) } else { Err(CrlRefusal::ProfileViolated) }
    }

    /// Version 2, a known algorithm, both dates, number and key identifier; full and direct. What is not known and not
    /// critical is ignored (RFC 5280, 5.2).
    fn acceptable(&self) -> Result<(), CrlRefusal> {
        let conforming = |instant: Instant| instant.form == TimeForm::Conforming;
        let next_update = self.next_update.ok_or(CrlRefusal::ProfileViolated)?;
        let plain = self.version == 1
            && Algorithm::of_authority_signature(self.algorithm).is_some()
            && self.issuer != [der::SEQUENCE, 0]
            && conforming(self.this_update)
            && conforming(next_update)
            && self.this_update.at < next_update.at
            && self.worst_entry <= EntryExtension::Unknown
            && self.serials.iter().all(|serial| positive_serial(serial).is_some());
        if !plain {
            return Err(CrlRefusal::ProfileViolated);
        }
        for (index, extension) in self.extensions.iter().enumerate() {
            if self.extensions[..index].iter().any(|earlier| earlier.oid == extension.oid) {
                return Err(CrlRefusal::ProfileViolated);
            }
            match (extension.oid, extension.critical) {
                (oid::AUTHORITY_KEY_IDENTIFIER | oid::CRL_NUMBER, false) => {}
                (oid::ISSUING_DISTRIBUTION_POINT, true) | (oid::DELTA_CRL_INDICATOR, _) => match self.scope() {
                    ListScope::Full(..) => {}
                    ListScope::Partial | ListScope::Delta => return Err(CrlRefusal::NotFull),
                    ListScope::Malformed => return Err(CrlRefusal::Malformed),
                },
                (oid::AUTHORITY_KEY_IDENTIFIER | oid::CRL_NUMBER, true)
                | (oid::ISSUING_DISTRIBUTION_POINT, false)
                | (_, true) => return Err(CrlRefusal::ProfileViolated),
                (_, false) => {}
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

    /// What the list speaks of, by its own words.
    pub(super) fn scope(&self) -> ListScope<'a> {
        if self.extensions.iter().any(|extension| extension.oid == oid::DELTA_CRL_INDICATOR) {
            return ListScope::Delta;
        }
        let Ok(point) = self.find(oid::ISSUING_DISTRIBUTION_POINT) else {
            return ListScope::Full(Holders::All, None);
        };
        let read = || -> Result<ListScope<'a>, NotDer> {
            let mut reader = Reader::whole_sequence(point)?;
            if reader.is_empty() {
                return Err(NotDer("something in an issuingDistributionPoint"));
            }
            let name = reader.optional(der::context_constructed(0))?.map(|name| name.content);
            let mut said = |number| match reader.optional(der::context(number))? {
                None => Ok(false),
                Some(Element { content: [0xff], .. }) => Ok(true),
                Some(_) => Err(NotDer("TRUE, or nothing where FALSE is the default")),
            };
            let holders = match (said(1)?, said(2)?) {
                (false, false) => Holders::All,
                (true, false) => Holders::EndEntities,
                (false, true) => Holders::Authorities,
                // Nothing is both.
                (true, true) => return Ok(ListScope::Partial),
            };
            Ok(if reader.is_empty() { ListScope::Full(holders, name) } else { ListScope::Partial })
        };
        read().unwrap_or(ListScope::Malformed)
    }

    /// True when this serial number (content octets) is on the list.
    pub(super) fn revokes(&self, serial: &[u8]) -> bool {
        self.serials.contains(&serial)
    }

    pub(super) fn worst_entry(&self) -> EntryExtension {
        self.worst_entry
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

/// Reason code and certificate issuer are known; everything else is judged by its criticality.
fn entry_extensions(extensions: &[Extension<'_>]) -> EntryExtension {
    let one = |(index, extension): (usize, &Extension<'_>)| {
        if extensions[..index].iter().any(|earlier| earlier.oid == extension.oid) {
            return EntryExtension::Malformed;
        }
        match (extension.oid, extension.critical, extension.value) {
            (oid::CERTIFICATE_ISSUER, _, _) => EntryExtension::OtherIssuer,
            // CRLReason (RFC 5280, 5.3.1): there is no 7, and 8 is removeFromCRL.
            (oid::CRL_REASON, false, [der::ENUMERATED, 1, 0..=6 | 9 | 10]) => EntryExtension::Plain,
            (oid::CRL_REASON, false, [der::ENUMERATED, 1, 8]) => EntryExtension::Removed,
            (oid::CRL_REASON, _, _) => EntryExtension::Malformed,
            (_, true, _) => EntryExtension::UnknownCritical,
            (_, false, _) => EntryExtension::Unknown,
        }
    };
    extensions.iter().enumerate().map(one).max().unwrap_or(EntryExtension::Plain)
}

fn signs_crls(issuer: &Certificate<'_>) -> bool {
    // BIT STRING of keyUsage: cRLSign is bit 6 of the first byte (RFC 5280, 4.2.1.3).
    issuer
        .tbs
        .extension(oid::KEY_USAGE)
        .is_some_and(|usage| matches!(usage.value, [der::BIT_STRING, _, _, bits, ..] if bits & 0x02 != 0))
}

#[cfg(test)]
mod tests;
