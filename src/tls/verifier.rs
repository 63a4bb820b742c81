//! The client verifier of the listeners: hands what the peer presented to whoever judges it.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// Passes what a peer presented, leaf first, or names why not.
pub type Judge = Arc<dyn Fn(&[Vec<u8>]) -> Result<(), String> + Send + Sync>;

/// Every client must present what its judge accepts; there is no anonymous client.
pub struct PeerVerifier {
    judge: Judge,
}

impl PeerVerifier {
    pub fn new(judge: Judge) -> Self {
        Self { judge }
    }
}

impl std::fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerVerifier").finish_non_exhaustive()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let presented: Vec<Vec<u8>> =
            std::iter::once(end_entity).chain(intermediates).map(|certificate| certificate.to_vec()).collect();
        match (self.judge)(&presented) {
            Ok(()) => Ok(ClientCertVerified::assertion()),
            Err(name) => {
                tracing::info!(refusal = %name, "handshake refused");
                // The peer learns only that it is revoked, or that its certificate is not acceptable.
                let shown = if name.contains("revoked") {
                    CertificateError::Revoked
                } else {
                    CertificateError::ApplicationVerificationFailure
                };
                Err(Error::InvalidCertificate(shown))
            }
        }
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
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &aws_lc_rs::default_provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ECDSA_NISTP384_SHA384]
    }
}
