//! Questions to an OCSP responder and its answers (RFC 6960, nonces as in RFC 9654): read strictly, composed, and looked
//! at again before the HSM signs.

use aws_lc_rs::digest;

use super::certificate::{Certificate, Extension, read_extensions, read_time};
use super::crl_build::{Criticality, extension, generalized_time};
use super::der::{self, NotDer, Reader};
use super::oid;
use crate::kernel::sign::{is_signed_by, raw_public_key};
use crate::kernel::types::{Serial, UnixMillis};

/// SHA-1 of a responder's public key (RFC 6960, 4.2.1): names it, protects nothing.
pub const KEY_HASH_BYTES: usize = 20;
/// Certificates that one request may ask for: an answer about so many is far below what the worker signs.
pub const CERTIFICATES_MAX: usize = 64;
/// Longest nonce (RFC 8954, 2.1; what RFC 9654 asks every responder to take).
pub const NONCE_BYTES_MAX: usize = 32;

/// id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
/// id-pkix-ocsp-nonce, 1.3.6.1.5.5.7.48.1.2
const NONCE: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02];
const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];

/// What a responder is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OcspRequest<'a> {
    pub certificates: Vec<CertId<'a>>,
    pub nonce: Option<&'a [u8]>,
}

/// A certificate as the one who asks names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertId<'a> {
    /// DER, as received: the answer repeats it.
    pub raw: &'a [u8],
    /// `None`: a hash that we do not know.
    pub hash: Option<NameHash>,
    pub issuer_name: &'a [u8],
    pub issuer_key: &'a [u8],
    /// `None`: no serial number of ours can look like this.
    pub serial: Option<Serial>,
}

/// What issuers are named by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameHash {
    Sha1,
    Sha256,
}

impl NameHash {
    fn of(self, bytes: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
        };
        digest::digest(algorithm, bytes).as_ref().to_vec()
    }

    /// The hashes by which an issuer is named: of its name (DER), and of its bare public key.
    ///
    /// `None`: the key is of an unknown kind.
    pub fn of_issuer(self, name: &[u8], spki: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        Some((self.of(name), self.of(raw_public_key(spki)?.1)))
    }
}

/// The SHA-1 hash by which a responder with this key (SubjectPublicKeyInfo, DER) names itself.
pub fn responder_hash(spki: &[u8]) -> Option<Vec<u8>> {
    raw_public_key(spki).map(|(_, key)| NameHash::Sha1.of(key))
}

/// Reads an OCSPRequest. A signature of the one who asks is read over; extensions other than a nonce are, too, unless
/// they are critical.
///
/// # Errors
/// What is not DER, not of this form, asks for nothing or too much, or has a nonce of another length.
pub fn read_request(bytes: &[u8]) -> Result<OcspRequest<'_>, NotDer> {
    let mut outer = Reader::whole_sequence(bytes)?;
    let mut tbs = outer.sequence()?;
    outer.optional(der::context_constructed(0))?;
    outer.finish()?;
    if tbs.optional(der::context_constructed(0))?.is_some() {
        return Err(NotDer("version 1, which is the default"));
    }
    tbs.optional(der::context_constructed(1))?;
    let mut list = tbs.sequence()?;
    let mut certificates = Vec::new();
    while !list.is_empty() {
        if certificates.len() == CERTIFICATES_MAX {
            return Err(NotDer("at most 64 certificates"));
        }
        let mut one = list.sequence()?;
        certificates.push(read_cert_id(&mut one)?);
        if let Some(extensions) = one.optional(der::context_constructed(0))? {
            let extensions = read_extensions(Reader::whole_sequence(extensions.content)?)?;
            nothing_critical(&extensions)?;
        }
        one.finish()?;
    }
    let mut nonce = None;
    if let Some(extensions) = tbs.optional(der::context_constructed(2))? {
        let extensions = read_extensions(Reader::whole_sequence(extensions.content)?)?;
        nonce = nonce_of(&extensions)?;
        nothing_critical(&extensions)?;
    }
    tbs.finish()?;
    if certificates.is_empty() { Err(NotDer("a certificate")) } else { Ok(OcspRequest { certificates, nonce }) }
}

fn nothing_critical(extensions: &[Extension<'_>]) -> Result<(), NotDer> {
    let is_unknown = |extension: &Extension<'_>| extension.critical && extension.oid != NONCE;
    if extensions.iter().any(is_unknown) { Err(NotDer("no critical extension")) } else { Ok(()) }
}

fn nonce_of<'a>(extensions: &[Extension<'a>]) -> Result<Option<&'a [u8]>, NotDer> {
    let mut found = extensions.iter().filter(|extension| extension.oid == NONCE);
    let Some(extension) = found.next() else {
        return Ok(None);
    };
    let mut reader = Reader::new(extension.value);
    let nonce = reader.octet_string()?;
    reader.finish()?;
    let is_fit = (1..=NONCE_BYTES_MAX).contains(&nonce.len());
    if is_fit && found.next().is_none() { Ok(Some(nonce)) } else { Err(NotDer("one nonce of 1 to 32 bytes")) }
}

fn read_cert_id<'a>(reader: &mut Reader<'a>) -> Result<CertId<'a>, NotDer> {
    let element = reader.element(der::SEQUENCE)?;
    let mut inner = Reader::new(element.content);
    let mut algorithm = inner.sequence()?;
    let hash = match algorithm.oid()? {
        SHA1 => Some(NameHash::Sha1),
        oid::SHA256 => Some(NameHash::Sha256),
        _ => None,
    };
    algorithm.optional(der::NULL)?;
    algorithm.finish()?;
    let (issuer_name, issuer_key) = (inner.octet_string()?, inner.octet_string()?);
    let serial = super::profile::sane_serial(inner.integer()?);
    inner.finish()?;
    Ok(CertId { raw: element.raw, hash, issuer_name, issuer_key, serial })
}

/// What is said of one certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    Good,
    Revoked {
        at: UnixMillis,
        reason: Option<u8>,
    },
    /// Not one of the issuer's that this responder speaks for.
    Unknown,
}

/// `SingleResponse`, DER.
pub fn single(cert_id: &[u8], standing: Standing, this_update: UnixMillis, next_update: UnixMillis) -> Vec<u8> {
    let status = match standing {
        Standing::Good => der::element(der::context(0), &[]),
        Standing::Revoked { at, reason } => {
            let reason =
                reason.map(|code| der::element(der::context_constructed(0), &der::element(der::ENUMERATED, &[code])));
            let content = [generalized_time(at), reason.unwrap_or_default()].concat();
            der::element(der::context_constructed(1), &content)
        }
        Standing::Unknown => der::element(der::context(2), &[]),
    };
    let next_update = der::element(der::context_constructed(0), &generalized_time(next_update));
    der::sequence(&[cert_id, &status, &generalized_time(this_update), &next_update])
}

/// `ResponseData`, DER: what is signed.
pub fn response_data(responder: &[u8], produced_at: UnixMillis, singles: &[Vec<u8>], nonce: Option<&[u8]>) -> Vec<u8> {
    let by_key = der::element(der::context_constructed(2), &der::element(der::OCTET_STRING, responder));
    let nonce = nonce.map(|nonce| {
        let extension = extension(NONCE, Criticality::No, &der::element(der::OCTET_STRING, nonce));
        der::element(der::context_constructed(1), &der::sequence(&[&extension]))
    });
    let list = der::element(der::SEQUENCE, &singles.concat());
    der::sequence(&[&by_key, &generalized_time(produced_at), &list, &nonce.unwrap_or_default()])
}

/// `OCSPResponse` with a signed answer, DER. `certificate`: the responder's, which the answer carries.
pub fn response(data: &[u8], algorithm: &[u8], signature: &[u8], certificate: &[u8]) -> Vec<u8> {
    let certificates = der::element(der::context_constructed(0), &der::sequence(&[certificate]));
    let basic = der::sequence(&[data, algorithm, &der::bit_string(signature), &certificates]);
    let bytes = der::sequence(&[&der::element(der::OID, BASIC), &der::element(der::OCTET_STRING, &basic)]);
    let wrapped = der::element(der::context_constructed(0), &bytes);
    der::sequence(&[&der::element(der::ENUMERATED, &[0]), &wrapped])
}

/// `CertID`, DER: how a certificate of this issuer is asked for.
///
/// `None`: the issuer's key is of an unknown kind.
pub fn cert_id(name: &[u8], spki: &[u8], serial: &Serial) -> Option<Vec<u8>> {
    let (name, key) = NameHash::Sha256.of_issuer(name, spki)?;
    let algorithm = der::sequence(&[&der::element(der::OID, oid::SHA256)]);
    let [name, key] = [name, key].map(|hash| der::element(der::OCTET_STRING, &hash));
    Some(der::sequence(&[&algorithm, &name, &key, &der::unsigned_integer(serial.as_bytes())]))
}

/// `OCSPRequest`, DER, without a nonce.
pub fn request(cert_ids: &[Vec<u8>]) -> Vec<u8> {
    let list: Vec<u8> = cert_ids.iter().flat_map(|one| der::sequence(&[one])).collect();
    der::sequence(&[&der::sequence(&[&der::element(der::SEQUENCE, &list)])])
}

/// What a responder said of one certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// None: a number that no certificate of ours can have.
    pub serial: Option<Serial>,
    /// `good`, `revoked` or `unknown`.
    pub status: &'static str,
}

/// Reads an `OCSPResponse` that carries a signed answer, and verifies it with the certificate that it brings along.
///
/// # Errors
/// What is not DER, no answer, or not signed by the key that it names.
pub fn read_response(bytes: &[u8]) -> Result<Vec<Said>, NotDer> {
    let mut outer = Reader::whole_sequence(bytes)?;
    if outer.element(der::ENUMERATED)?.content != [0] {
        return Err(NotDer("an answer"));
    }
    let mut typed = Reader::whole_sequence(outer.element(der::context_constructed(0))?.content)?;
    outer.finish()?;
    if typed.oid()? != BASIC {
        return Err(NotDer("a basic answer"));
    }
    let mut basic = Reader::whole_sequence(typed.octet_string()?)?;
    typed.finish()?;
    let data = basic.element(der::SEQUENCE)?.raw;
    let algorithm = basic.element(der::SEQUENCE)?.raw;
    let signature = basic.bit_string_bytes()?;
    let mut certificates = Reader::whole_sequence(basic.element(der::context_constructed(0))?.content)?;
    basic.finish()?;
    let signer = Certificate::read(certificates.element(der::SEQUENCE)?.raw)?;
    let read = read_response_data(data)?;
    let names_signer = responder_hash(signer.tbs.spki).as_deref() == Some(read.responder);
    if !names_signer || !is_signed_by(signer.tbs.spki, algorithm, data, signature) {
        return Err(NotDer("a signature by the key that it names"));
    }
    read.responses.into_iter().map(read_single).collect()
}

/// Why there is no answer (RFC 6960, 4.2.1). Not signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoAnswer {
    MalformedRequest,
    InternalError,
    TryLater,
    /// This responder does not speak for that issuer.
    Unauthorized,
}

impl NoAnswer {
    /// `OCSPResponse`, DER.
    pub fn encode(self) -> Vec<u8> {
        let status = match self {
            Self::MalformedRequest => 1,
            Self::InternalError => 2,
            Self::TryLater => 3,
            Self::Unauthorized => 6,
        };
        der::sequence(&[&der::element(der::ENUMERATED, &[status])])
    }
}

/// What a responder is about to sign.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResponseData<'a> {
    /// `responderID` by key.
    pub responder: &'a [u8],
    /// `SingleResponse`s, DER.
    pub responses: Vec<&'a [u8]>,
    pub nonce: Option<&'a [u8]>,
}

/// Reads `ResponseData`: version 1, the responder by its key, answers about certificates, at most a nonce besides.
///
/// # Errors
/// What is not DER, or not of this form.
pub fn read_response_data(data: &[u8]) -> Result<ResponseData<'_>, NotDer> {
    let mut reader = Reader::whole_sequence(data)?;
    let mut by_key = Reader::new(reader.element(der::context_constructed(2))?.content);
    let responder = by_key.octet_string()?;
    by_key.finish()?;
    if responder.len() != KEY_HASH_BYTES {
        return Err(NotDer("the hash of a responder's key"));
    }
    read_generalized(&mut reader)?;
    let mut list = reader.sequence()?;
    let mut responses = Vec::new();
    while !list.is_empty() {
        let raw = list.element(der::SEQUENCE)?.raw;
        read_single(raw)?;
        responses.push(raw);
    }
    let mut nonce = None;
    if let Some(extensions) = reader.optional(der::context_constructed(1))? {
        let extensions = read_extensions(Reader::whole_sequence(extensions.content)?)?;
        nonce = nonce_of(&extensions)?;
        if nonce.is_none() || extensions.len() != 1 {
            return Err(NotDer("a nonce and nothing else"));
        }
    }
    reader.finish()?;
    let is_fit = (1..=CERTIFICATES_MAX).contains(&responses.len());
    if is_fit { Ok(ResponseData { responder, responses, nonce }) } else { Err(NotDer("one answer to 64")) }
}

fn read_single(raw: &[u8]) -> Result<Said, NotDer> {
    let mut reader = Reader::whole_sequence(raw)?;
    let serial = read_cert_id(&mut reader)?.serial;
    let status = reader.any()?;
    let status = match (status.tag, status.content) {
        (good, []) if good == der::context(0) => "good",
        (unknown, []) if unknown == der::context(2) => "unknown",
        (revoked, content) if revoked == der::context_constructed(1) => {
            let mut info = Reader::new(content);
            read_generalized(&mut info)?;
            if let Some(reason) = info.optional(der::context_constructed(0))? {
                let mut reason = Reader::new(reason.content);
                if !matches!(reason.element(der::ENUMERATED)?.content, [1..=6 | 8..=10]) {
                    return Err(NotDer("a reason of a revocation"));
                }
                reason.finish()?;
            }
            info.finish()?;
            "revoked"
        }
        _ => return Err(NotDer("good, revoked or unknown")),
    };
    let this_update = read_generalized(&mut reader)?;
    let mut wrapped = Reader::new(reader.element(der::context_constructed(0))?.content);
    let next_update = read_generalized(&mut wrapped)?;
    wrapped.finish()?;
    reader.finish()?;
    if this_update < next_update {
        Ok(Said { serial, status })
    } else {
        Err(NotDer("an answer that is valid for a while"))
    }
}

fn read_generalized(reader: &mut Reader<'_>) -> Result<UnixMillis, NotDer> {
    let mut element = Reader::new(reader.element(der::GENERALIZED_TIME)?.raw);
    Ok(read_time(&mut element)?.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::credential::testkit::*;

    fn named(algorithm: &[u8], serial: &[u8]) -> Vec<u8> {
        let algorithm = der::sequence(&[&der::element(der::OID, algorithm), &[der::NULL, 0]]);
        let hash = der::element(der::OCTET_STRING, &[7; 20]);
        der::sequence(&[&algorithm, &hash, &hash, &der::element(der::INTEGER, serial)])
    }

    fn asked(cert_ids: &[Vec<u8>], extensions: &[Vec<u8>]) -> Vec<u8> {
        let list: Vec<Vec<u8>> = cert_ids.iter().map(|one| der::sequence(&[one])).collect();
        let mut tbs = der::element(der::SEQUENCE, &list.concat());
        if !extensions.is_empty() {
            let list = der::element(der::SEQUENCE, &extensions.concat());
            tbs.extend(der::element(der::context_constructed(2), &list));
        }
        der::sequence(&[&der::element(der::SEQUENCE, &tbs)])
    }

    fn nonce(bytes: usize) -> Vec<u8> {
        extension(NONCE, Criticality::No, &der::element(der::OCTET_STRING, &vec![5; bytes]))
    }

    #[test]
    fn questions_are_read_with_every_certificate_and_the_nonce() {
        let ids =
            [named(SHA1, &[1; 8]), named(oid::SHA256, &[0x41; 16]), named(&[0x2a, 3], &[1; 8]), named(SHA1, &[0])];
        for (nonces, expected) in [(vec![], None), (vec![nonce(1)], Some(1)), (vec![nonce(32)], Some(32))] {
            let bytes = asked(&ids, &nonces);
            let read = read_request(&bytes).unwrap();
            assert_eq!(read.nonce.map(<[u8]>::len), expected);
            let seen: Vec<_> = read.certificates.iter().map(|one| (one.hash, one.serial.is_some())).collect();
            let known = [(Some(NameHash::Sha1), true), (Some(NameHash::Sha256), true), (None, true)];
            assert_eq!((&seen[..3], seen[3].1), (&known[..], false));
            assert!(read.certificates.iter().zip(&ids).all(|(one, raw)| one.raw == raw));
        }
    }

    #[test]
    fn questions_that_break_a_rule_are_malformed() {
        let id = named(SHA1, &[1; 8]);
        let unknown = |criticality| extension(&[0x2a, 3], criticality, &[5, 0]);
        let version = der::element(der::context_constructed(0), &[2, 1, 0]);
        let list = der::element(der::SEQUENCE, &der::sequence(&[&id]));
        let table = [
            ("nothing", vec![]),
            ("no certificate", asked(&[], &[])),
            ("65 certificates", asked(&vec![id.clone(); 65], &[])),
            ("an empty nonce", asked(std::slice::from_ref(&id), &[nonce(0)])),
            ("a long nonce", asked(std::slice::from_ref(&id), &[nonce(33)])),
            ("two nonces", asked(std::slice::from_ref(&id), &[nonce(8), nonce(8)])),
            ("a critical extension", asked(std::slice::from_ref(&id), &[unknown(Criticality::Yes)])),
            ("a byte too many", [asked(std::slice::from_ref(&id), &[]), vec![0]].concat()),
            ("an explicit default", der::sequence(&[&der::sequence(&[&version, &list])])),
        ];
        for (what, bytes) in table {
            assert!(read_request(&bytes).is_err(), "{what}");
        }
        assert!(read_request(&asked(&vec![id.clone(); 64], &[unknown(Criticality::No)])).is_ok());
        let whole = asked(&[id], &[nonce(16)]);
        for length in 0..whole.len() {
            assert!(read_request(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn answers_that_are_composed_are_the_ones_that_are_signed() {
        let id = named(SHA1, &[1; 8]);
        let standings = [
            Standing::Good,
            Standing::Unknown,
            Standing::Revoked { at: NOW, reason: None },
            Standing::Revoked { at: NOW, reason: Some(1) },
        ];
        let later = NOW.plus_ms(HOUR_MS);
        let singles: Vec<Vec<u8>> = standings.iter().map(|one| single(&id, *one, NOW, later)).collect();
        let data = response_data(&[9; 20], NOW, &singles, Some(&[5; 32]));
        let read = read_response_data(&data).unwrap();
        assert_eq!((read.responder, read.responses.len(), read.nonce), (&[9; 20][..], 4, Some(&[5; 32][..])));

        let refused = [
            response_data(&[9; 19], NOW, &singles, None),
            response_data(&[9; 20], NOW, &[], None),
            response_data(&[9; 20], NOW, &singles, Some(&[5; 33])),
            response_data(&[9; 20], NOW, &[single(&id, Standing::Good, later, NOW)], None),
            response_data(
                &[9; 20],
                NOW,
                &[single(&id, Standing::Revoked { at: NOW, reason: Some(7) }, NOW, later)],
                None,
            ),
            response_data(&[9; 20], NOW, &[single(&[0x30, 0], Standing::Good, NOW, later)], None),
            response_data(&[9; 20], NOW, &vec![singles[0].clone(); 65], None),
        ];
        for (index, data) in refused.iter().enumerate() {
            assert!(read_response_data(data).is_err(), "{index}");
        }
    }
}
