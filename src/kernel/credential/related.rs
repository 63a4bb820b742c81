//! RFC 9763: the extension that binds B to S, and the attribute with which an agent proves that it holds S.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::certificate::Tbs;
use super::der::{self, NotDer, Reader};
use super::oid;
use crate::kernel::types::{Sha256, UnixMillis};

/// `requestTime` may be this far from the CA's clock.
pub const REQUEST_TIME_SKEW_MS: i64 = 5 * 60 * 1000;

const DATA_URI_PREFIX: &str = "data:application/pkix-cert;base64,";

/// `RelatedCertificate` (RFC 9763, 4.1) with the SHA-256 hash of the whole related certificate.
///
/// ```asn1
/// RelatedCertificate ::= SEQUENCE { hashAlgorithm DigestAlgorithmIdentifier, hashValue OCTET STRING }
/// ```
pub fn encode_binding(hash: Sha256) -> Vec<u8> {
    let algorithm = der::sequence(&[&der::element(der::OID, oid::SHA256)]);
    der::sequence(&[&algorithm, &der::element(der::OCTET_STRING, &hash.0)])
}

/// Reads what [`encode_binding`] writes. SHA-256 only; its parameters may be absent or NULL (RFC 5754, 2).
pub fn decode_binding(value: &[u8]) -> Result<Sha256, NotDer> {
    let mut reader = Reader::whole_sequence(value)?;
    let mut algorithm = reader.sequence()?;
    if algorithm.oid()? != oid::SHA256 {
        return Err(NotDer("SHA-256"));
    }
    if let Some(parameters) = algorithm.optional(der::NULL)?
        && !parameters.content.is_empty()
    {
        return Err(NotDer("NULL parameters"));
    }
    algorithm.finish()?;
    let hash = reader.octet_string()?;
    reader.finish()?;
    hash.try_into().map(Sha256).map_err(|_| NotDer("a hash of 32 bytes"))
}

/// What is wrong with a certificate's binding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BindingRule {
    Missing,
    /// More than one, even if they are equal.
    Duplicate,
    /// A binding under an identifier other than the final 1.3.6.1.5.5.7.1.36: from the years of the draft.
    DraftOid,
    /// Not a SHA-256 `RelatedCertificate`.
    Malformed,
}

/// The hash that binds a certificate to its related one.
///
/// # Errors
/// [`BindingRule`], in the order draft, missing, duplicate, malformed.
pub fn binding_of(tbs: &Tbs<'_>) -> Result<Sha256, BindingRule> {
    let is_final = |oid: &[u8]| oid == oid::RELATED_CERTIFICATE;
    let draft = |value: &[u8]| decode_binding(value).is_ok();
    if tbs.extensions.iter().any(|extension| !is_final(extension.oid) && draft(extension.value)) {
        return Err(BindingRule::DraftOid);
    }
    let mut bindings = tbs.extensions.iter().filter(|extension| is_final(extension.oid));
    let binding = bindings.next().ok_or(BindingRule::Missing)?;
    if bindings.next().is_some() {
        return Err(BindingRule::Duplicate);
    }
    decode_binding(binding.value).map_err(|_| BindingRule::Malformed)
}

/// `RequesterCertificate` (RFC 9763, 3.1), the value of the `relatedCertRequest` attribute.
///
/// ```asn1
/// RequesterCertificate ::= SEQUENCE {
///   certID IssuerAndSerialNumber, requestTime BinaryTime, locationInfo UniformResourceIdentifier,
///   signature BIT STRING }
/// ```
///
/// The signature covers DER(certID) and DER(requestTime) and nothing else: what `location` holds is checked
/// against `cert_id` by [`Self::certificate`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequesterCertificate {
    /// IssuerAndSerialNumber, DER.
    pub cert_id: Vec<u8>,
    /// BinaryTime, DER.
    pub request_time: Vec<u8>,
    pub location: String,
    pub signature: Vec<u8>,
}

impl RequesterCertificate {
    pub fn encode(&self) -> Vec<u8> {
        let location = der::element(der::IA5_STRING, self.location.as_bytes());
        der::sequence(&[&self.cert_id, &self.request_time, &location, &der::bit_string(&self.signature)])
    }

    pub fn decode(value: &[u8]) -> Result<Self, NotDer> {
        let mut reader = Reader::whole_sequence(value)?;
        let cert_id = reader.element(der::SEQUENCE)?.raw.to_vec();
        let request_time = reader.element(der::INTEGER)?.raw.to_vec();
        let location = reader.element(der::IA5_STRING)?.content;
        let signature = reader.bit_string_bytes()?.to_vec();
        reader.finish()?;
        decode_cert_id(&cert_id)?;
        decode_binary_time(&request_time)?;
        let location = std::str::from_utf8(location).ok().filter(|text| text.is_ascii()).ok_or(NotDer("ASCII text"))?;
        Ok(Self { cert_id, request_time, location: location.to_owned(), signature })
    }

    /// When the requester says that it signed.
    pub fn requested_at(&self) -> Result<UnixMillis, NotDer> {
        decode_binary_time(&self.request_time)
    }

    /// The certificate that `location` carries, in DER. `data:` URIs only: nothing is ever fetched.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        BASE64_STANDARD.decode(self.location.strip_prefix(DATA_URI_PREFIX)?).ok()
    }
}

/// `data:` URI of a certificate.
pub fn data_uri(certificate: &[u8]) -> String {
    format!("{DATA_URI_PREFIX}{}", BASE64_STANDARD.encode(certificate))
}

/// `IssuerAndSerialNumber` (RFC 5652, 10.2.4) of an issuer Name (DER) and the serial's INTEGER content octets.
pub fn encode_cert_id(issuer: &[u8], serial: &[u8]) -> Vec<u8> {
    der::sequence(&[issuer, &der::element(der::INTEGER, serial)])
}

/// Issuer Name (DER) and the serial's INTEGER content octets.
pub fn decode_cert_id(bytes: &[u8]) -> Result<(&[u8], &[u8]), NotDer> {
    let mut reader = Reader::whole_sequence(bytes)?;
    let issuer = super::certificate::read_name(&mut reader)?;
    let serial = reader.integer()?;
    reader.finish()?;
    Ok((issuer, serial))
}

/// `BinaryTime` (RFC 6019, 3): whole seconds as INTEGER.
pub fn encode_binary_time(at: UnixMillis) -> Vec<u8> {
    der::unsigned_integer(&u64::try_from(at.seconds()).unwrap_or(0).to_be_bytes())
}

pub fn decode_binary_time(bytes: &[u8]) -> Result<UnixMillis, NotDer> {
    let mut reader = Reader::new(bytes);
    let seconds = reader.unsigned()?;
    reader.finish()?;
    let millis = i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1000));
    millis.map(UnixMillis).ok_or(NotDer("a time within range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binding_reads_back_and_other_shapes_are_refused() {
        let hash = Sha256::of(&[b"S"]);
        let encoded = encode_binding(hash);
        assert_eq!(decode_binding(&encoded), Ok(hash));
        let sha512 = der::element(der::OID, &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03]);
        let refused = [
            der::sequence(&[&der::sequence(&[&sha512]), &der::element(der::OCTET_STRING, &[0; 64])]),
            der::sequence(&[
                &der::sequence(&[&der::element(der::OID, oid::SHA256)]),
                &der::element(der::OCTET_STRING, &[0; 31]),
            ]),
            der::element(der::OCTET_STRING, &hash.0),
            [encoded.as_slice(), &[0]].concat(),
        ];
        for bytes in refused {
            assert!(decode_binding(&bytes).is_err());
        }
    }

    #[test]
    fn the_request_attribute_reads_back() {
        let issuer = der::sequence(&[]);
        let request = RequesterCertificate {
            cert_id: encode_cert_id(&issuer, &[1, 2, 3]),
            request_time: encode_binary_time(UnixMillis(1_795_000_000_999)),
            location: data_uri(b"certificate"),
            signature: vec![1, 2, 3],
        };
        let read = RequesterCertificate::decode(&request.encode()).unwrap();
        assert_eq!(read, request);
        assert_eq!(read.certificate().unwrap(), b"certificate");
        assert_eq!(read.requested_at(), Ok(UnixMillis(1_795_000_000_000)));
        let fetched = RequesterCertificate { location: "https://example.com/s.cer".into(), ..request };
        assert_eq!(fetched.certificate(), None);
    }
}
