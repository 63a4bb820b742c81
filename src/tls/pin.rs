//! The bank as its agents recognise it: not any server under its root, but a server's certificate from one of the
//! issuing CAs that the agent host holds: both generations while the bank goes from one to the next.

use std::error::Error as StdError;
use std::fmt::Write;
use std::io;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::chain::{PartyAnchors, verify_leaf};
use crate::kernel::credential::oid::OidBase;
use crate::kernel::credential::profile::Profile;
use crate::ops::clock;

/// What a bank is recognised by.
#[derive(Clone, Debug)]
pub struct BankPin {
    pub anchors: PartyAnchors,
    /// Where the private extensions of certificates are.
    pub base: OidBase,
}

/// The server is under the root and is not the bank as this host knows it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("found {found}, expected {expected}")]
pub struct NotPinned {
    pub found: String,
    pub expected: String,
}

impl BankPin {
    fn check(&self, leaf: &[u8]) -> Result<(), NotPinned> {
        let rule = match verify_leaf(leaf, Profile::TlsServer, &self.anchors, &self.base, clock::now()) {
            Ok(_) => return Ok(()),
            Err(rule) => rule,
        };
        let issuer = Certificate::read(leaf).ok().and_then(|leaf| leaf.tbs.authority_key_identifier().map(hex::encode));
        let issuer = issuer.map_or_else(String::new, |issuer| format!(" of issuing CA {issuer}"));
        let mut expected = "a server's certificate of issuing CA".to_owned();
        for (number, issuing) in self.anchors.issuing.iter().enumerate() {
            let known = Certificate::read(issuing)
                .ok()
                .and_then(|issuing| issuing.tbs.subject_key_identifier().map(hex::encode));
            let known = known.unwrap_or_default();
            let _ = write!(expected, "{} {known}", if number == 0 { "" } else { " or" });
        }
        Err(NotPinned { found: format!("a certificate{issuer}: {rule}"), expected })
    }
}

/// The refusal of a server in an error of whoever connected to it, if it is one.
pub fn not_pinned<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a NotPinned> {
    match tls_error(error)? {
        Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => other.downcast_ref(),
        _ => None,
    }
}

/// The TLS error that an error of a connection rests on.
pub(super) fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An I/O error names as its source what the error it holds names as its own.
        cause = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}

/// webpki's judgement of path, name and time, and then the pin.
#[derive(Debug)]
pub(super) struct PinnedServer {
    path: Arc<WebPkiServerVerifier>,
    pin: BankPin,
}

impl PinnedServer {
    pub(super) fn new(path: Arc<WebPkiServerVerifier>, pin: BankPin) -> Self {
        Self { path, pin }
    }
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.path.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        self.pin
            .check(end_entity)
            .map_err(|refused| Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused)))))?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.path.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.path.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_found_however_deep_it_is_held() {
        let refused = NotPinned { found: "a".into(), expected: "b".into() };
        let tls = Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused.clone()))));
        assert_eq!(not_pinned(&tls), Some(&refused));
        let held = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls));
        assert_eq!(not_pinned(&held), Some(&refused));
        assert_eq!(not_pinned(&io::Error::other(Error::DecryptError)), None);
        assert_eq!(not_pinned(&io::Error::from(io::ErrorKind::NotFound)), None);
    }
}
