//! A server's key in memory, under a root of its own: for a bank's listener without an HSM, and for nginx.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

use crate::bench::served::failed;
use crate::bench::synthetic::OpenKey;
use crate::kernel::sign::Purpose;
use crate::ops::failure::Failure;

/// A chain of the same length as a bank's: server, issuing CA, and the root that clients have.
pub(super) struct ServerKey {
    /// DER
    pub(super) root: Vec<u8>,
    pub(super) key: OpenKey,
}

impl ServerKey {
    /// For 127.0.0.1.
    ///
    /// # Errors
    /// `bench_failed`
    pub(super) fn make() -> Result<Self, Failure> {
        let pair = || KeyPair::generate().map_err(|error| failed(&error));
        let (root_key, issuing_key, own_key) = (pair()?, pair()?, pair()?);
        let root = authority("bench root")?;
        let certificate = root.self_signed(&root_key).map_err(|error| failed(&error))?;
        let root = Issuer::new(root, root_key);
        let issuing = authority("bench issuing CA")?;
        let issued = issuing.signed_by(&issuing_key, &root).map_err(|error| failed(&error))?;
        let issuing = Issuer::new(issuing, issuing_key);
        let mut own = named("bench server")?;
        own.subject_alt_names = vec![SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into())];
        own.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        own.use_authority_key_identifier_extension = true;
        let own = own.signed_by(&own_key, &issuing).map_err(|error| failed(&error))?;
        let chain = vec![own.der().to_vec(), issued.der().to_vec()];
        let key = OpenKey::new(Purpose::TlsServer, chain, own_key.serialize_der())?;
        Ok(Self { root: certificate.der().to_vec(), key })
    }
}

fn authority(name: &str) -> Result<CertificateParams, Failure> {
    let mut params = named(name)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

fn named(name: &str) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(vec![]).map_err(|error| failed(&error))?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}
