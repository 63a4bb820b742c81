//! An agent's certification request (PKCS#10, RFC 2986) and what it proves.
//!
//! The request names the agent in its subject and its SPIFFE ID in an extension request, both signed with the
//! agent's key; for the bank it also carries `relatedCertRequest` (RFC 9763, 3.1) over the endorsement.

use super::certificate::{Certificate, read_extensions, read_name};
use super::der::{self, NotDer, Reader};
use super::oid;
use super::profile::spiffe_id;
use super::related::{self, REQUEST_TIME_SKEW_MS, RequesterCertificate};
use crate::kernel::sign::{Purpose, SignInput, is_signed_by, raw_public_key, signature_is_valid};
use crate::kernel::types::{KeyId, Sha256, SpiffeId, UnixMillis};

/// Requests are small: an endorsement as data URI and little else.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Why a request is not taken. In the order in which the rules are checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestRefusal {
    Malformed,
    /// Not a P-256 or P-384 key.
    KeyAlgorithm,
    /// An attribute other than the extension request and `relatedCertRequest`, or one twice.
    UnexpectedAttribute,
    /// Not exactly one SPIFFE ID of an agent.
    Identity,
    SignatureInvalid,
    RelatedMissing,
    RelatedNotFresh,
    /// `locationInfo` is not a `data:` URI with a certificate.
    RelatedLocation,
    /// What `locationInfo` holds is not the certificate that `certID` names.
    RelatedCertificateMismatch,
    /// The proof is not by the endorsement's key.
    RelatedSignatureInvalid,
    /// The endorsement is over another key than the request.
    RelatedKeyMismatch,
}

impl RequestRefusal {
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "request_malformed",
            Self::KeyAlgorithm => "request_key_algorithm",
            Self::UnexpectedAttribute => "request_unexpected_attribute",
            Self::Identity => "request_identity",
            Self::SignatureInvalid => "request_signature_invalid",
            Self::RelatedMissing => "related_request_missing",
            Self::RelatedNotFresh => "related_request_not_fresh",
            Self::RelatedLocation => "related_request_location",
            Self::RelatedCertificateMismatch => "related_request_certificate_mismatch",
            Self::RelatedSignatureInvalid => "related_request_signature_invalid",
            Self::RelatedKeyMismatch => "related_request_key_mismatch",
        }
    }
}

impl std::fmt::Display for RequestRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the certification request is not strict DER",
            Self::KeyAlgorithm => "the requested key is not a P-256 or P-384 key",
            Self::UnexpectedAttribute => "the certification request carries an attribute it should not",
            Self::Identity => "the certification request does not name exactly one agent",
            Self::SignatureInvalid => "the certification request is not signed with the key it asks for",
            Self::RelatedMissing => "the certification request carries no endorsement",
            Self::RelatedNotFresh => "the proof for the endorsement is more than 5 minutes old or ahead",
            Self::RelatedLocation => "the endorsement must be carried in the request as a data: URI",
            Self::RelatedCertificateMismatch => "the carried endorsement is not the one that the request names",
            Self::RelatedSignatureInvalid => "the proof for the endorsement is not by the endorsement's key",
            Self::RelatedKeyMismatch => "the endorsement is over another key than the request",
        })
    }
}

/// A request whose signature was verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedRequest {
    spiffe_id: SpiffeId,
    spki: Vec<u8>,
    related: Option<RequesterCertificate>,
}

impl VerifiedRequest {
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    pub fn key(&self) -> KeyId {
        Sha256::of(&[&self.spki])
    }

    /// Whether the request carries an endorsement at all.
    pub fn is_endorsed(&self) -> bool {
        self.related.is_some()
    }

    /// The endorsement that the request carries, after the RFC 9763 proof for it was verified. S itself is not
    /// judged here.
    ///
    /// # Errors
    /// The `Related…` refusals.
    pub fn endorsement(&self, now: UnixMillis) -> Result<Vec<u8>, RequestRefusal> {
        let related = self.related.as_ref().ok_or(RequestRefusal::RelatedMissing)?;
        let at = related.requested_at().map_err(|_| RequestRefusal::Malformed)?;
        if now.0.abs_diff(at.0) > REQUEST_TIME_SKEW_MS.unsigned_abs() {
            return Err(RequestRefusal::RelatedNotFresh);
        }
        let der = related.certificate().ok_or(RequestRefusal::RelatedLocation)?;
        let certificate = Certificate::read(&der).map_err(|_| RequestRefusal::RelatedLocation)?;
        let named = related::encode_cert_id(certificate.tbs.issuer, certificate.tbs.serial);
        if named != related.cert_id {
            return Err(RequestRefusal::RelatedCertificateMismatch);
        }
        let proof = SignInput::RelatedCertRequest {
            cert_id: related.cert_id.clone(),
            request_time: related.request_time.clone(),
        };
        if !signature_is_valid(certificate.tbs.spki, &proof.message(), &related.signature) {
            return Err(RequestRefusal::RelatedSignatureInvalid);
        }
        if certificate.tbs.spki != self.spki {
            return Err(RequestRefusal::RelatedKeyMismatch);
        }
        Ok(der)
    }
}

/// Reads a request (DER) and verifies its signature.
///
/// # Errors
/// The first [`RequestRefusal`], up to `SignatureInvalid`.
pub fn verify(bytes: &[u8]) -> Result<VerifiedRequest, RequestRefusal> {
    let malformed = |_: NotDer| RequestRefusal::Malformed;
    if bytes.len() > REQUEST_BYTES_MAX {
        return Err(RequestRefusal::Malformed);
    }
    let mut reader = Reader::whole_sequence(bytes).map_err(malformed)?;
    let info = reader.element(der::SEQUENCE).map_err(malformed)?.raw;
    let algorithm = reader.element(der::SEQUENCE).map_err(malformed)?.raw;
    let signature = reader.bit_string_bytes().map_err(malformed)?;
    reader.finish().map_err(malformed)?;
    let request = read_info(info)?;
    if !is_signed_by(&request.spki, algorithm, info, signature) {
        return Err(RequestRefusal::SignatureInvalid);
    }
    Ok(request)
}

/// Reads a CertificationRequestInfo by our profile; the signature is the caller's business.
pub(super) fn read_info(info: &[u8]) -> Result<VerifiedRequest, RequestRefusal> {
    let malformed = |_: NotDer| RequestRefusal::Malformed;
    let mut reader = Reader::whole_sequence(info).map_err(malformed)?;
    if reader.unsigned().map_err(malformed)? != 0 {
        return Err(RequestRefusal::Malformed);
    }
    read_name(&mut reader).map_err(malformed)?;
    let spki = reader.element(der::SEQUENCE).map_err(malformed)?.raw;
    if !raw_public_key(spki).is_some_and(|(algorithm, _)| Purpose::Agent.algorithms().contains(&algorithm)) {
        return Err(RequestRefusal::KeyAlgorithm);
    }
    let attributes = reader.element(der::context_constructed(0)).map_err(malformed)?.content;
    reader.finish().map_err(malformed)?;
    let mut spiffe = None;
    let mut related = None;
    let mut attributes = Reader::new(attributes);
    while !attributes.is_empty() {
        let mut attribute = attributes.sequence().map_err(malformed)?;
        let kind = attribute.oid().map_err(malformed)?;
        let mut values = Reader::new(attribute.element(der::SET).map_err(malformed)?.content);
        attribute.finish().map_err(malformed)?;
        let value = values.element(der::SEQUENCE).map_err(malformed)?;
        values.finish().map_err(malformed)?;
        match kind {
            oid::EXTENSION_REQUEST if spiffe.is_none() => {
                let extensions = read_extensions(Reader::new(value.content)).map_err(malformed)?;
                let [extension] = extensions[..] else {
                    return Err(RequestRefusal::UnexpectedAttribute);
                };
                if extension.oid != oid::SUBJECT_ALT_NAME {
                    return Err(RequestRefusal::UnexpectedAttribute);
                }
                spiffe = Some(spiffe_id(extension.value).ok_or(RequestRefusal::Identity)?);
            }
            oid::RELATED_CERT_REQUEST if related.is_none() => {
                related = Some(RequesterCertificate::decode(value.raw).map_err(malformed)?);
            }
            _ => return Err(RequestRefusal::UnexpectedAttribute),
        }
    }
    let spiffe_id = spiffe.ok_or(RequestRefusal::Identity)?;
    Ok(VerifiedRequest { spiffe_id, spki: spki.to_vec(), related })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::credential::lint::lint_request_info;
    use crate::kernel::credential::testkit::*;

    /// A request before it is signed.
    struct DraftRequest {
        version: Vec<u8>,
        spki: Vec<u8>,
        attributes: Vec<Vec<u8>>,
    }

    fn attribute(oid: &[u8], value: &[u8]) -> Vec<u8> {
        der::sequence(&[&der::element(der::OID, oid), &der::element(der::SET, value)])
    }

    fn names(value: &[u8]) -> Vec<u8> {
        let extension =
            der::sequence(&[&der::element(der::OID, oid::SUBJECT_ALT_NAME), &der::element(der::OCTET_STRING, value)]);
        attribute(oid::EXTENSION_REQUEST, &der::sequence(&[&extension]))
    }

    fn proof(s: &[u8], key: &Key) -> RequesterCertificate {
        let certificate = Certificate::read(s).unwrap();
        let cert_id = related::encode_cert_id(certificate.tbs.issuer, certificate.tbs.serial);
        let request_time = related::encode_binary_time(NOW);
        let signature = key.sign(&[cert_id.clone(), request_time.clone()].concat());
        RequesterCertificate { cert_id, request_time, location: related::data_uri(s), signature }
    }

    fn honest(world: &World, related: &RequesterCertificate) -> DraftRequest {
        DraftRequest {
            version: vec![2, 1, 0],
            spki: world.agent.spki(),
            attributes: vec![names(&uri_names(&[SPIFFE])), attribute(oid::RELATED_CERT_REQUEST, &related.encode())],
        }
    }

    impl DraftRequest {
        fn info(&self) -> Vec<u8> {
            let attributes = der::element(der::context_constructed(0), &self.attributes.concat());
            der::sequence(&[&self.version, &name("shopper"), &self.spki, &attributes])
        }

        fn sign(&self, key: &Key) -> Vec<u8> {
            let info = self.info();
            der::sequence(&[&info, P256_SIGNATURE, &der::bit_string(&key.sign(&info))])
        }
    }

    #[test]
    fn an_honest_request_proves_key_identity_and_endorsement() {
        let world = World::new();
        let s = world.pair().presented[1].clone();
        let draft = honest(&world, &proof(&s, &world.agent));
        lint_request_info(&draft.info()).unwrap();
        let request = verify(&draft.sign(&world.agent)).unwrap();
        assert_eq!((request.key(), request.spiffe_id().to_string()), (world.agent.id(), SPIFFE.to_owned()));
        assert_eq!(request.endorsement(NOW), Ok(s));
    }

    #[test]
    fn requests_are_refused_by_the_rule_they_break() {
        type Bend = fn(&mut DraftRequest);
        let table: &[(&str, Bend, RequestRefusal)] = &[
            ("version 1", |request| request.version = vec![2, 1, 1], RequestRefusal::Malformed),
            ("an Ed25519 key", |request| request.spki = ed25519_spki(), RequestRefusal::KeyAlgorithm),
            ("no identity", |request| drop(request.attributes.remove(0)), RequestRefusal::Identity),
            (
                "two identities",
                |request| request.attributes[0] = names(&uri_names(&[SPIFFE, SPIFFE])),
                RequestRefusal::Identity,
            ),
            (
                "a workload's identity",
                |request| request.attributes[0] = names(&uri_names(&["spiffe://a.b/workload/c"])),
                RequestRefusal::Identity,
            ),
            (
                "an attribute twice",
                |request| request.attributes.push(request.attributes[0].clone()),
                RequestRefusal::UnexpectedAttribute,
            ),
            (
                "a challenge password",
                |request| {
                    let challenge = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 7];
                    request.attributes.push(attribute(&challenge, &der::sequence(&[])));
                },
                RequestRefusal::UnexpectedAttribute,
            ),
            (
                "a wish to be a CA",
                |request| {
                    let oid = der::element(der::OID, oid::BASIC_CONSTRAINTS);
                    let value = der::element(der::OCTET_STRING, &[0x30, 3, 1, 1, 0xff]);
                    let extensions = der::sequence(&[&der::sequence(&[&oid, &value])]);
                    request.attributes[0] = attribute(oid::EXTENSION_REQUEST, &extensions);
                },
                RequestRefusal::UnexpectedAttribute,
            ),
        ];
        let world = World::new();
        let related = proof(&world.pair().presented[1], &world.agent);
        for (what, bend, expected) in table {
            let mut request = honest(&world, &related);
            bend(&mut request);
            assert_eq!(verify(&request.sign(&world.agent)).unwrap_err(), *expected, "{what}");
        }
        let forged = honest(&world, &related).sign(&Key::new());
        assert_eq!(verify(&forged).unwrap_err(), RequestRefusal::SignatureInvalid);
    }

    #[test]
    fn proofs_for_an_endorsement_are_refused_by_the_rule_they_break() {
        let world = World::new();
        let s = world.pair().presented[1].clone();
        let other_s = World::new().pair().presented[1].clone();
        let good = proof(&s, &world.agent);
        let bent = |bend: &dyn Fn(&mut RequesterCertificate)| {
            let mut related = good.clone();
            bend(&mut related);
            verify(&honest(&world, &related).sign(&world.agent)).unwrap().endorsement(NOW).unwrap_err()
        };
        let fetched = bent(&|related| related.location = "http://pki.example/s.cer".into());
        assert_eq!(fetched, RequestRefusal::RelatedLocation);
        let swapped = bent(&|related| related.location = related::data_uri(&other_s));
        assert_eq!(swapped, RequestRefusal::RelatedCertificateMismatch);
        let forged = bent(&|related| *related = proof(&s, &Key::new()));
        assert_eq!(forged, RequestRefusal::RelatedSignatureInvalid);
        let retimed = bent(&|related| related.request_time = related::encode_binary_time(NOW.plus_ms(1000)));
        assert_eq!(retimed, RequestRefusal::RelatedSignatureInvalid);

        let honest_request = verify(&honest(&world, &good).sign(&world.agent)).unwrap();
        for late in [-REQUEST_TIME_SKEW_MS - 1000, REQUEST_TIME_SKEW_MS + 1000] {
            assert_eq!(honest_request.endorsement(NOW.plus_ms(late)), Err(RequestRefusal::RelatedNotFresh));
        }
        let thief = Key::new();
        let mut stolen = honest(&world, &good);
        stolen.spki = thief.spki();
        assert_eq!(verify(&stolen.sign(&thief)).unwrap().endorsement(NOW), Err(RequestRefusal::RelatedKeyMismatch));
        let mut without = honest(&world, &good);
        without.attributes.pop();
        assert_eq!(verify(&without.sign(&world.agent)).unwrap().endorsement(NOW), Err(RequestRefusal::RelatedMissing));
    }
}
