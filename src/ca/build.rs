//! Composes what the HSM will sign: TBS certificates and request infos.
//!
//! rcgen composes and signs in one go; its signing key here is one that keeps the bytes and signs nothing, so that
//! they can be journalled first and signed in a worker afterwards.

use std::cell::RefCell;

use rcgen::{
    Attribute, BasicConstraints, CertificateParams, CrlDistributionPoint, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
    SigningKey, SubjectPublicKeyInfo,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::kernel::credential::der;
use crate::kernel::credential::oid::OidBase;
use crate::kernel::credential::profile::{self, Profile};
use crate::kernel::credential::related::{self, RequesterCertificate};
use crate::kernel::sign::{Algorithm, raw_public_key};
use crate::kernel::status::CustodyLevel;
use crate::kernel::types::{Serial, Sha256, SpiffeId, UnixMillis};
use crate::ops::failure::Failure;

/// A certificate to be built.
#[derive(Clone, Debug)]
pub struct CertificatePlan {
    pub profile: Profile,
    pub organization: Option<String>,
    pub common_name: String,
    /// The subject's key, DER.
    pub spki: Vec<u8>,
    pub serial: Serial,
    pub not_before: UnixMillis,
    pub not_after: UnixMillis,
    pub agent: Option<AgentPlan>,
    /// DNS names and addresses of a TLS server.
    pub server_names: Vec<String>,
}

/// What only agents' certificates carry.
#[derive(Clone, Debug)]
pub struct AgentPlan {
    pub spiffe_id: SpiffeId,
    pub custody: CustodyLevel,
    /// SHA-256 of S, in B.
    pub bound_to: Option<Sha256>,
}

/// The issuer of a plan: its certificate (DER), or nothing for a self-signed root.
pub type IssuerDer<'a> = Option<&'a [u8]>;

/// TBSCertificate (DER) of a plan.
pub fn certificate(
    plan: &CertificatePlan,
    issuer: IssuerDer<'_>,
    base_url: &str,
    base: &OidBase,
) -> Result<Vec<u8>, Failure> {
    let mut params = CertificateParams::new(plan.server_names.clone()).map_err(unbuildable)?;
    params.not_before = date_time(plan.not_before)?;
    params.not_after = date_time(plan.not_after)?;
    params.serial_number = Some(SerialNumber::from_slice(plan.serial.as_bytes()));
    params.distinguished_name = distinguished_name(plan.organization.as_deref(), &plan.common_name);
    params.is_ca = match plan.profile.path_length() {
        Some(length) => IsCa::Ca(BasicConstraints::Constrained(length)),
        None => IsCa::ExplicitNoCa,
    };
    params.key_usages = if plan.profile.is_ca() {
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign]
    } else {
        vec![KeyUsagePurpose::DigitalSignature]
    };
    params.extended_key_usages = match plan.profile {
        Profile::Root | Profile::Issuing => vec![],
        Profile::AgentB | Profile::TlsClient => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Profile::TlsServer => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Profile::OcspResponder => vec![ExtendedKeyUsagePurpose::OcspSigning],
        Profile::AgentS
        | Profile::Checkpoint
        | Profile::Witness
        | Profile::Transaction
        | Profile::Catalogue
        | Profile::RevocationReceipt
        | Profile::Manifest
        | Profile::Operator => {
            let arcs = plan.profile.private_usage().expect("these profiles have a private usage");
            vec![ExtendedKeyUsagePurpose::Other(base.child_components(arcs))]
        }
    };
    let subject_key = Sha256::of(&[&plan.spki]);
    params.key_identifier_method = KeyIdMethod::PreSpecified(profile::key_identifier(subject_key).to_vec());
    params.use_authority_key_identifier_extension = issuer.is_some();
    if let Some(agent) = &plan.agent {
        let uri = agent.spiffe_id.to_string().try_into().map_err(unbuildable)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        let policies = profile::custody_policy(agent.custody, base);
        params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 32], policies));
        if let Some(hash) = agent.bound_to {
            let binding = related::encode_binding(hash);
            params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 36], binding));
        }
    }
    let Some(issuer) = issuer else {
        let capture = Capture::of(&plan.spki)?;
        params.self_signed(&capture).map_err(unbuildable)?;
        return Ok(capture.into_message());
    };
    let (capture, identifier) = issuer_capture(issuer)?;
    let (place, identifier) = (base_url.trim_end_matches('/'), hex::encode(&identifier));
    if plan.profile == Profile::OcspResponder {
        let null = vec![der::NULL, 0];
        params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 48, 1, 5], null));
    } else if !plan.profile.is_ca() {
        let uri = format!("{place}/crl/{identifier}.crl");
        params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![uri] }];
    }
    if plan.profile.names_responder() {
        let access = profile::responder_access(&format!("{place}/ocsp/{identifier}"));
        params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], access));
    }
    let subject = SubjectPublicKeyInfo::from_der(&plan.spki).map_err(unbuildable)?;
    let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(issuer), &capture).map_err(unbuildable)?;
    params.signed_by(&subject, &issuer).map_err(unbuildable)?;
    drop(issuer);
    Ok(capture.into_message())
}

/// CertificationRequestInfo (DER) of an agent, with the proof for its endorsement if there is one.
pub fn request_info(
    spki: &[u8],
    spiffe_id: &SpiffeId,
    related: Option<&RequesterCertificate>,
) -> Result<Vec<u8>, Failure> {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(None, spiffe_id.name().as_str());
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

/// A capturing stand-in for the issuer's key, and the issuer's key identifier.
fn issuer_capture(issuer: &[u8]) -> Result<(Capture, Vec<u8>), Failure> {
    use crate::kernel::credential::certificate::Certificate;
    let certificate = Certificate::read(issuer).map_err(unbuildable)?;
    let identifier =
        certificate.tbs.subject_key_identifier().ok_or_else(|| unbuildable("the issuer has no key identifier"))?;
    Ok((Capture::of(certificate.tbs.spki)?, identifier.to_vec()))
}

fn distinguished_name(organization: Option<&str>, common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}

/// Whole seconds: certificates know nothing smaller.
fn date_time(at: UnixMillis) -> Result<OffsetDateTime, Failure> {
    OffsetDateTime::from_unix_timestamp(at.seconds()).map_err(unbuildable)
}

fn unbuildable(error: impl std::fmt::Display) -> Failure {
    Failure::fault(
        "certificate_unbuildable",
        format!("the bytes to sign could not be composed: {error}"),
        "check [pki] in the configuration; report this as a defect if it is sound",
    )
}
