//! Revocation lists along a path (RFC 5280, 6.3): with lists, every certificate below the anchor needs a good status.
//!
//! Only full lists by the issuer itself count. A list that we cannot judge might revoke what is in question, so one
//! that breaks a rule refuses the path; of lists that are merely old, one in force is enough, and what an old one
//! revokes stays revoked.

use super::algorithm::{PublicKey, SignatureScheme};
use super::extensions::{Extensions, KeyUsage, distribution_point_name};
use super::rule::{Broken, PathRule};
use crate::kernel::credential::certificate::{Certificate, TimeForm};
use crate::kernel::credential::crl::{CRL_BYTES_MAX, EntryExtension, Holders, ListScope, TbsCrl};
use crate::kernel::credential::der::{self, NotDer, Reader};
use crate::kernel::credential::oid;
use crate::kernel::types::UnixMillis;

/// RFC 5280, 5.2.3
const NUMBER_BYTES_MAX: usize = 20;

/// A list that can be read. Nothing about it is believed yet.
pub(super) struct List<'a> {
    tbs_der: &'a [u8],
    tbs: TbsCrl<'a>,
    algorithm: &'a [u8],
    signature: &'a [u8],
}

/// The issuer of a certificate, as far as lists need it.
#[derive(Clone, Copy)]
pub(super) struct ListIssuer<'a, 'b> {
    pub subject: &'a [u8],
    pub key: PublicKey<'a>,
    pub extensions: &'b Extensions<'a>,
}

/// The certificate that is asked about.
#[derive(Clone, Copy)]
pub(super) struct About<'a, 'b> {
    pub certificate: &'b Certificate<'a>,
    /// URIs of its distribution points.
    pub points: &'b [&'a str],
    pub is_authority: bool,
}

/// What one list says about one certificate.
enum Said {
    NotItsList,
    Good,
    /// Not on it, but the list is not in force.
    Stale(Broken),
}

impl<'a> List<'a> {
    /// # Errors
    /// [`PathRule::CrlMalformed`]
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Broken> {
        let malformed = |error: NotDer| PathRule::CrlMalformed.because(error.0);
        if bytes.len() > CRL_BYTES_MAX {
            return Err(PathRule::CrlMalformed.because("it is larger than 14 MiB"));
        }
        let mut reader = Reader::whole_sequence(bytes).map_err(malformed)?;
        let tbs_der = reader.element(der::SEQUENCE).map_err(malformed)?.raw;
        let algorithm = reader.element(der::SEQUENCE).map_err(malformed)?.raw;
        let signature = reader.bit_string_bytes().map_err(malformed)?;
        reader.finish().map_err(malformed)?;
        let tbs = TbsCrl::read(tbs_der).map_err(malformed)?;
        Ok(Self { tbs_der, tbs, algorithm, signature })
    }

    fn says(
        &self,
        about: About<'_, '_>,
        issuer: ListIssuer<'_, '_>,
        at: UnixMillis,
        signatures: &mut u32,
    ) -> Result<Said, Broken> {
        if self.tbs.issuer != issuer.subject {
            return Ok(Said::NotItsList);
        }
        let profile = |why| PathRule::CrlProfile.because(why);
        let authority = self.tbs.authority().map_err(|_| profile("it does not name its issuer's key"))?;
        if Some(authority) != issuer.extensions.subject_key {
            return Ok(Said::NotItsList);
        }
        self.check_form()?;
        self.check_scope(about)?;
        let signs = issuer.extensions.key_usage.is_none_or(|usage| usage.has(KeyUsage::CRL_SIGN));
        if !signs {
            return Err(PathRule::CrlIssuerNotCrlSigner.because("its key usage lacks cRLSign"));
        }
        let scheme = SignatureScheme::read(self.algorithm)
            .map_err(|_| PathRule::CrlSignatureInvalid.because("its algorithm is unknown or too weak"))?;
        *signatures =
            signatures.checked_sub(1).ok_or(PathRule::WorkExceeded.because("too many revocation lists to verify"))?;
        if !scheme.verifies(issuer.key, self.tbs_der, self.signature) {
            return Err(PathRule::CrlSignatureInvalid.because("it is not by the issuer's key"));
        }
        if self.tbs.revokes(about.certificate.tbs.serial) {
            return Err(PathRule::Revoked.because("its serial number is on its issuer's list"));
        }
        let next_update = self.tbs.next_update.ok_or(profile("it does not say when the next one comes"))?.at;
        if at.seconds() < self.tbs.this_update.at.seconds() {
            return Ok(Said::Stale(PathRule::CrlNotYetValid.because("thisUpdate lies ahead")));
        }
        if at.seconds() > next_update.seconds() {
            return Ok(Said::Stale(PathRule::CrlExpired.because("nextUpdate has passed")));
        }
        Ok(Said::Good)
    }

    /// Version 2, both dates, number and key identifier, one algorithm, nothing critical that is not known.
    fn check_form(&self) -> Result<(), Broken> {
        let profile = |why| Err(PathRule::CrlProfile.because(why));
        if self.tbs.version != 1 {
            return profile("it is not of version 2");
        }
        if self.algorithm != self.tbs.algorithm() {
            return profile("its two signature algorithms are not the same");
        }
        let Some(next_update) = self.tbs.next_update else {
            return profile("it does not say when the next one comes");
        };
        if [self.tbs.this_update, next_update].iter().any(|instant| instant.form == TimeForm::WrongType) {
            return profile("a date is written in the wrong form");
        }
        if next_update.at < self.tbs.this_update.at {
            return profile("it ends before it begins");
        }
        let mut number = None;
        for (index, extension) in self.tbs.extensions.iter().enumerate() {
            if self.tbs.extensions[..index].iter().any(|earlier| earlier.oid == extension.oid) {
                return profile("an extension is there twice");
            }
            match (extension.oid, extension.critical) {
                (oid::AUTHORITY_KEY_IDENTIFIER, true) => return profile("its authorityKeyIdentifier is critical"),
                (oid::CRL_NUMBER, true) => return profile("its number is critical"),
                (oid::CRL_NUMBER, false) => number = Some(extension.value),
                (oid::ISSUING_DISTRIBUTION_POINT, false) => {
                    return profile("its issuingDistributionPoint is not critical");
                }
                (oid::AUTHORITY_KEY_IDENTIFIER, false)
                | (oid::ISSUING_DISTRIBUTION_POINT, true)
                | (oid::DELTA_CRL_INDICATOR, _) => {}
                (_, true) => {
                    return Err(PathRule::CrlUnknownCriticalExtension.because("of the list"));
                }
                (_, false) => {}
            }
        }
        if !number.is_some_and(is_number) {
            return profile("it has no number");
        }
        Ok(())
    }

    /// Every certificate of the issuer, or every one of its kind, by the issuer itself, and published where the
    /// certificate says.
    fn check_scope(&self, about: About<'_, '_>) -> Result<(), Broken> {
        let not_full = |why| Err(PathRule::CrlNotFull.because(why));
        match self.tbs.scope() {
            ListScope::Full(holders, name) => {
                let others = if about.is_authority { Holders::EndEntities } else { Holders::Authorities };
                if holders == others {
                    return not_full("it is for other kinds of certificates");
                }
                let uris = match name {
                    None => return self.check_entries(),
                    Some(name) => distribution_point_name(name)
                        .map_err(|_| PathRule::CrlProfile.because("its issuingDistributionPoint is malformed"))?,
                };
                if !about.points.is_empty() && !uris.iter().any(|uri| about.points.contains(uri)) {
                    return not_full("it is for another distribution point");
                }
            }
            ListScope::Partial => return not_full("it is indirect, or for some of the certificates"),
            ListScope::Delta => return not_full("it says only what has changed"),
            ListScope::Malformed => {
                return Err(PathRule::CrlProfile.because("its issuingDistributionPoint is malformed"));
            }
        }
        self.check_entries()
    }

    fn check_entries(&self) -> Result<(), Broken> {
        let not_full = |why| Err(PathRule::CrlNotFull.because(why));
        match self.tbs.worst_entry() {
            EntryExtension::Plain | EntryExtension::Unknown => Ok(()),
            EntryExtension::Malformed => Err(PathRule::CrlProfile.because("an entry is malformed")),
            EntryExtension::UnknownCritical => Err(PathRule::CrlUnknownCriticalExtension.because("of an entry")),
            EntryExtension::OtherIssuer => not_full("an entry is of another issuer"),
            EntryExtension::Removed => not_full("an entry is removed from another list"),
        }
    }
}

/// A non-negative INTEGER of at most 20 octets.
fn is_number(value: &[u8]) -> bool {
    let mut reader = Reader::new(value);
    let number = reader.integer().is_ok_and(|number| number[0] & 0x80 == 0 && number.len() <= NUMBER_BYTES_MAX);
    number && reader.finish().is_ok()
}

/// Judges one certificate by the lists of its issuer.
///
/// # Errors
/// [`PathRule::Revoked`], the rules on lists, [`PathRule::StatusUnknown`]
pub(super) fn check(
    lists: &[List<'_>],
    about: About<'_, '_>,
    issuer: ListIssuer<'_, '_>,
    at: UnixMillis,
    signatures: &mut u32,
) -> Result<(), Broken> {
    let mut status = Err(PathRule::StatusUnknown.because("no list of its issuer was given"));
    let mut broken = None;
    for list in lists {
        match list.says(about, issuer, at, signatures) {
            Ok(Said::NotItsList) => {}
            Ok(Said::Good) => status = Ok(()),
            Ok(Said::Stale(why)) => status = status.or(Err(why)),
            // A revocation is named before what is wrong with another list.
            Err(revoked) if revoked.rule == PathRule::Revoked => return Err(revoked),
            Err(why) => broken = broken.or(Some(why)),
        }
    }
    broken.map_or(status, Err)
}
