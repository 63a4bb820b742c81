//! Reads X.509 certificates strictly (RFC 5280, 4.1): structure only, no judgement.
//!
//! Our own reader instead of a general one: the bytes that reach the acceptance rule come from strangers, every
//! lenient reading is a second meaning, and some of what must be judged (encoding of times, explicit defaults,
//! bytes after the last field) is gone once a general parser has read it. Tests compare it with `x509-parser`.

use time::{Date, Month, PrimitiveDateTime, Time};

use super::der::{self, Element, NotDer, Reader};
use super::oid;
use crate::kernel::sign::{raw_public_key, signature_is_valid};
use crate::kernel::types::{KeyId, Sha256, UnixMillis};

/// Larger than any certificate of ours by an order of magnitude.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// A certificate taken apart. Everything borrows from its DER.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate<'a> {
    pub raw: &'a [u8],
    pub tbs: Tbs<'a>,
    /// AlgorithmIdentifier outside the signed part.
    pub signature_algorithm: &'a [u8],
    pub signature: &'a [u8],
}

/// The signed part of a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tbs<'a> {
    pub raw: &'a [u8],
    /// 0 is version 1, 2 is version 3.
    pub version: u64,
    /// Content octets of the INTEGER, sign included.
    pub serial: &'a [u8],
    /// AlgorithmIdentifier, DER.
    pub signature_algorithm: &'a [u8],
    /// Name, DER.
    pub issuer: &'a [u8],
    pub not_before: Instant,
    pub not_after: Instant,
    /// Name, DER.
    pub subject: &'a [u8],
    /// SubjectPublicKeyInfo, DER.
    pub spki: &'a [u8],
    pub extensions: Vec<Extension<'a>>,
}

/// A time and whether it was written in the form that RFC 5280, 4.1.2.5 asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instant {
    pub at: UnixMillis,
    /// UTCTime until 2049, GeneralizedTime from 2050.
    pub form: TimeForm,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeForm {
    Conforming,
    WrongType,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extension<'a> {
    pub oid: &'a [u8],
    pub critical: bool,
    pub value: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Reads one certificate with nothing after it.
    ///
    /// # Errors
    /// [`NotDer`], also for more than [`CERTIFICATE_BYTES_MAX`] bytes.
    pub fn read(bytes: &'a [u8]) -> Result<Self, NotDer> {
        if bytes.len() > CERTIFICATE_BYTES_MAX {
            return Err(NotDer("a certificate of at most 16 KiB"));
        }
        let mut reader = Reader::whole_sequence(bytes)?;
        let tbs = Tbs::read(reader.element(der::SEQUENCE)?.raw)?;
        let signature_algorithm = reader.element(der::SEQUENCE)?.raw;
        let signature = reader.bit_string_bytes()?;
        reader.finish()?;
        Ok(Self { raw: bytes, tbs, signature_algorithm, signature })
    }

    /// True when the key of this SubjectPublicKeyInfo (DER) signed it, with the algorithm that it names.
    #[must_use]
    pub fn is_signed_by(&self, spki: &[u8]) -> bool {
        self.names_algorithm_of(spki) && signature_is_valid(spki, self.tbs.raw, self.signature)
    }

    /// True when the signature algorithm that it names is that of the key of this SubjectPublicKeyInfo (DER).
    #[must_use]
    pub fn names_algorithm_of(&self, spki: &[u8]) -> bool {
        let algorithm = raw_public_key(spki).and_then(|(algorithm, _)| algorithm.signature_identifier());
        algorithm == Some(self.signature_algorithm)
    }

    /// SHA-256 of the whole certificate.
    pub fn fingerprint(&self) -> Sha256 {
        Sha256::of(&[self.raw])
    }
}

impl<'a> Tbs<'a> {
    /// Reads a TBSCertificate with nothing after it.
    ///
    /// # Errors
    /// [`NotDer`]; unique identifiers (versions 2 and 3 allow them) are not read.
    pub fn read(bytes: &'a [u8]) -> Result<Self, NotDer> {
        let mut reader = Reader::whole_sequence(bytes)?;
        let version = match reader.optional(der::context_constructed(0))? {
            None => 0,
            Some(wrapped) => {
                let mut inner = Reader::new(wrapped.content);
                let version = inner.unsigned()?;
                inner.finish()?;
                if version == 0 {
                    return Err(NotDer("no explicit default version"));
                }
                version
            }
        };
        let serial = reader.integer()?;
        let signature_algorithm = reader.element(der::SEQUENCE)?.raw;
        let issuer = read_name(&mut reader)?;
        let mut validity = reader.sequence()?;
        let not_before = read_time(&mut validity)?;
        let not_after = read_time(&mut validity)?;
        validity.finish()?;
        let subject = read_name(&mut reader)?;
        let spki = reader.element(der::SEQUENCE)?.raw;
        let extensions = match reader.optional(der::context_constructed(3))? {
            None => Vec::new(),
            Some(wrapped) => {
                let list = Reader::whole_sequence(wrapped.content)?;
                read_extensions(list)?
            }
        };
        reader.finish()?;
        Ok(Self {
            raw: bytes,
            version,
            serial,
            signature_algorithm,
            issuer,
            not_before,
            not_after,
            subject,
            spki,
            extensions,
        })
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn key(&self) -> KeyId {
        Sha256::of(&[self.spki])
    }

    /// The first extension with this identifier.
    pub fn extension(&self, oid: &[u8]) -> Option<&Extension<'a>> {
        self.extensions.iter().find(|extension| extension.oid == oid)
    }

    /// The subject key identifier, when there is one and it reads.
    pub fn subject_key_identifier(&self) -> Option<&'a [u8]> {
        subject_key_identifier(self.extension(oid::SUBJECT_KEY_IDENTIFIER)?.value).ok()
    }

    /// The authority key identifier, when there is one and it holds nothing but a key identifier.
    pub fn authority_key_identifier(&self) -> Option<&'a [u8]> {
        authority_key_identifier(self.extension(oid::AUTHORITY_KEY_IDENTIFIER)?.value).ok()
    }

    /// The first common name of the subject, for people to read.
    pub fn common_name(&self) -> Option<&'a str> {
        common_name(self.subject)
    }
}

/// Extensions in order. At most [`EXTENSIONS_MAX`].
pub(super) fn read_extensions(mut list: Reader<'_>) -> Result<Vec<Extension<'_>>, NotDer> {
    if list.is_empty() {
        return Err(NotDer("at least one extension"));
    }
    let mut extensions = Vec::new();
    while !list.is_empty() {
        if extensions.len() == EXTENSIONS_MAX {
            return Err(NotDer("at most 32 extensions"));
        }
        let mut extension = list.sequence()?;
        let oid = extension.oid()?;
        let critical = extension.default_false()?;
        let value = extension.octet_string()?;
        extension.finish()?;
        extensions.push(Extension { oid, critical, value });
    }
    Ok(extensions)
}

/// Far more than any profile has; bounds the search for duplicates.
pub const EXTENSIONS_MAX: usize = 32;

/// A Name: its DER, after its structure was read.
pub(super) fn read_name<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], NotDer> {
    let name = reader.element(der::SEQUENCE)?;
    let mut parts = Reader::new(name.content);
    while !parts.is_empty() {
        let mut set = Reader::new(parts.element(der::SET)?.content);
        if set.is_empty() {
            return Err(NotDer("a name part that is not empty"));
        }
        while !set.is_empty() {
            let mut attribute = set.sequence()?;
            attribute.oid()?;
            attribute.any()?;
            attribute.finish()?;
        }
    }
    Ok(name.raw)
}

fn common_name(name: &[u8]) -> Option<&str> {
    const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    let mut parts = Reader::whole_sequence(name).ok()?;
    while !parts.is_empty() {
        let mut set = Reader::new(parts.element(der::SET).ok()?.content);
        let mut attribute = set.sequence().ok()?;
        if attribute.oid().ok()? == COMMON_NAME {
            return std::str::from_utf8(attribute.any().ok()?.content).ok();
        }
    }
    None
}

/// UTCTime or GeneralizedTime, in whole seconds and UTC (RFC 5280, 4.1.2.5).
pub(super) fn read_time(reader: &mut Reader<'_>) -> Result<Instant, NotDer> {
    let bad = NotDer("a time in whole seconds, UTC");
    let Element { tag, content, .. } = reader.any()?;
    let digits = content.strip_suffix(b"Z").ok_or(bad)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(bad);
    }
    let number = |digits: &[u8]| digits.iter().fold(0_i32, |sum, digit| sum * 10 + i32::from(digit - b'0'));
    let (year, rest) = match (tag, digits.len()) {
        (der::UTC_TIME, 12) => {
            let short = number(&digits[..2]);
            (if short >= 50 { 1900 + short } else { 2000 + short }, &digits[2..])
        }
        (der::GENERALIZED_TIME, 14) => (number(&digits[..4]), &digits[4..]),
        _ => return Err(bad),
    };
    // Two digits always fit a byte.
    let field = |index: usize| number(&rest[index * 2..index * 2 + 2]) as u8;
    let month = Month::try_from(field(0)).map_err(|_| bad)?;
    let date = Date::from_calendar_date(year, month, field(1)).map_err(|_| bad)?;
    let time = Time::from_hms(field(2), field(3), field(4)).map_err(|_| bad)?;
    let seconds = PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp();
    let conforming = (tag == der::UTC_TIME) == (year < 2050);
    let form = if conforming { TimeForm::Conforming } else { TimeForm::WrongType };
    Ok(Instant { at: UnixMillis(seconds * 1000), form })
}

pub(super) fn subject_key_identifier(value: &[u8]) -> Result<&[u8], NotDer> {
    let mut reader = Reader::new(value);
    let identifier = reader.octet_string()?;
    reader.finish()?;
    Ok(identifier)
}

/// `SEQUENCE { [0] keyIdentifier }`: issuer and serial number are not taken.
pub(super) fn authority_key_identifier(value: &[u8]) -> Result<&[u8], NotDer> {
    let mut reader = Reader::whole_sequence(value)?;
    let identifier = reader.element(der::context(0))?.content;
    reader.finish()?;
    Ok(identifier)
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;
    use crate::kernel::credential::testkit::World;

    #[test]
    fn both_readers_read_the_same() {
        let world = World::new();
        for bytes in [&world.pair().presented[0], &world.pair().presented[1], &world.acceptance().bank.root] {
            let ours = Certificate::read(bytes).unwrap();
            let (rest, theirs) = X509Certificate::from_der(bytes).unwrap();
            assert!(rest.is_empty());
            assert_eq!(ours.tbs.serial, theirs.raw_serial());
            assert_eq!(ours.tbs.subject, theirs.subject().as_raw());
            assert_eq!(ours.tbs.issuer, theirs.issuer().as_raw());
            assert_eq!(ours.tbs.spki, theirs.public_key().raw);
            assert_eq!(ours.tbs.not_before.at.seconds(), theirs.validity().not_before.timestamp());
            assert_eq!(ours.tbs.not_after.at.seconds(), theirs.validity().not_after.timestamp());
            assert_eq!(ours.tbs.extensions.len(), theirs.extensions().len());
            for (our, their) in ours.tbs.extensions.iter().zip(theirs.extensions()) {
                assert_eq!((our.oid, our.critical, our.value), (their.oid.as_bytes(), their.critical, their.value));
            }
            assert_eq!(ours.signature, theirs.signature_value.as_ref());
        }
    }

    #[test]
    fn every_truncation_and_every_appended_byte_is_refused() {
        let world = World::new();
        let whole = world.pair().presented[0].clone();
        for length in 0..whole.len() {
            assert!(Certificate::read(&whole[..length]).is_err(), "{length}");
        }
        assert!(Certificate::read(&[whole.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn times_outside_the_two_forms_are_refused() {
        let table: &[(u8, &[u8])] = &[
            (der::UTC_TIME, b"2611210000Z"),
            (der::UTC_TIME, b"261121000000"),
            (der::UTC_TIME, b"261121000000+0100"),
            (der::UTC_TIME, b"261321000000Z"),
            (der::UTC_TIME, b"260230000000Z"),
            (der::UTC_TIME, b"261121240000Z"),
            (der::GENERALIZED_TIME, b"20261121000000.5Z"),
            (der::GENERALIZED_TIME, b"20261121000060Z"),
            (der::GENERALIZED_TIME, b"2026112100000Z"),
            (der::UTF8_STRING, b"261121000000Z"),
        ];
        for (tag, text) in table {
            assert!(read_time(&mut Reader::new(&der::element(*tag, text))).is_err());
        }
        let wrong = der::element(der::GENERALIZED_TIME, b"20261121000000Z");
        assert_eq!(read_time(&mut Reader::new(&wrong)).unwrap().form, TimeForm::WrongType);
    }
}
