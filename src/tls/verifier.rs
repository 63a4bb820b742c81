//! The client verifier of the MCP listener: hands what the peer presented to the acceptance rule.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::PairGate;

/// Every client must present an acceptable pair; there is no anonymous client.
pub struct PairVerifier {
    gate: Arc<dyn PairGate>,
}

impl PairVerifier {
    pub fn new(gate: Arc<dyn PairGate>) -> Self {
        Self { gate }
    }
}

impl std::fmt::Debug for PairVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PairVerifier").finish_non_exhaustive()
    }
}

impl ClientCertVerifier for PairVerifier {
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
        match self.gate.accept(&presented) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
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
