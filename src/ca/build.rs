//! Composes what the HSM will sign: TBS certificates and request infos.
//!
//! Certificates come from the kernel, by the tables of their profiles. For the others rcgen composes and signs in one
//! go; its signing key here is one that keeps the bytes and signs nothing, so that they can be journalled first and
//! signed in a worker afterwards.

use std::cell::RefCell;

use rcgen::{
    Attribute, CertificateParams, DistinguishedName, DnType, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData, SanType, SignatureAlgorithm, SigningKey,
};

use crate::kernel::credential::compose;
pub use crate::kernel::credential::compose::{AgentPlan, CertificatePlan, OperatorPlan};
use crate::kernel::credential::der;
use crate::kernel::credential::oid::OidBase;
use crate::kernel::credential::related::RequesterCertificate;
use crate::kernel::sign::{Algorithm, raw_public_key};
use crate::kernel::types::SpiffeId;
use crate::ops::failure::Failure;

/// TBSCertificate (DER) of a plan. `issuer` is its certificate (DER), or nothing for a self-signed root.
pub fn certificate(
    plan: &CertificatePlan,
    issuer: Option<&[u8]>,
    base_url: &str,
    base: &OidBase,
) -> Result<Vec<u8>, Failure> {
    compose::tbs_certificate(plan, issuer, base_url, base).map_err(unbuildable)
}

/// CertificationRequestInfo (DER) of an agent, with the proof for its endorsement if there is one.
pub fn request_info(
    spki: &[u8],
    spiffe_id: &SpiffeId,
    related: Option<&RequesterCertificate>,
) -> Result<Vec<u8>, Failure> {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(spiffe_id.name().as_str());
    params.subject_alt_names = vec![SanType::URI(spiffe_id.to_string().try_into().map_err(unbuildable)?)];
    let attributes = related.map(|related| Attribute {
        oid: &[1, 2, 840, 113_549, 1, 9, 16, 2, 60],
        values: der::element(der::SET, &related.encode()),
    });
    let capture = Capture::of(spki)?;
    params.serialize_request_with_attributes(&capture, attributes.into_iter().collect()).map_err(unbuildable)?;
    Ok(capture.into_message())
}

/// `SEQUENCE { signed part, algorithm, signature }`: certificate, list or request. `signer` is the public key (DER)
/// of whoever signed.
pub fn assemble(signed_part: &[u8], signer: &[u8], signature: &[u8]) -> Result<Vec<u8>, Failure> {
    let algorithm = raw_public_key(signer).and_then(|(algorithm, _)| algorithm.signature_identifier());
    let algorithm = algorithm.ok_or_else(|| unbuildable("the signer's key is of an unknown kind"))?;
    Ok(der::sequence(&[signed_part, algorithm, &der::bit_string(signature)]))
}

/// A key that keeps what it is asked to sign.
struct Capture {
    algorithm: &'static SignatureAlgorithm,
    /// The bare public key.
    key: Vec<u8>,
    message: RefCell<Vec<u8>>,
}

impl Capture {
    fn of(spki: &[u8]) -> Result<Self, Failure> {
        let unknown = || unbuildable("the key is of an unknown kind");
        let (algorithm, key) = raw_public_key(spki).ok_or_else(unknown)?;
        let algorithm = match algorithm {
            Algorithm::P256 => &PKCS_ECDSA_P256_SHA256,
            Algorithm::P384 => &PKCS_ECDSA_P384_SHA384,
            Algorithm::Ed25519 => &PKCS_ED25519,
            Algorithm::Rsa3072 => &PKCS_RSA_SHA256,
            Algorithm::Aes256 => return Err(unknown()),
        };
        Ok(Self { algorithm, key: key.to_vec(), message: RefCell::default() })
    }

    fn into_message(self) -> Vec<u8> {
        self.message.into_inner()
    }
}

impl PublicKeyData for Capture {
    fn der_bytes(&self) -> &[u8] {
        &self.key
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl SigningKey for Capture {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.message.replace(message.to_vec());
        Ok(Vec::new())
    }
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn unbuildable(error: impl std::fmt::Display) -> Failure {
    Failure::fault(
        "certificate_unbuildable",
        format!("the bytes to sign could not be composed: {error}"),
        "check [pki] in the configuration; report this as a defect if it is sound",
    )
}
