//! Private keys that rustls uses without holding them.

use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};

use crate::hsm::Token;
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::sign::{Algorithm, SignInput, raw_public_key};
use crate::kernel::types::KeyId;
use crate::ops::failure::Failure;

/// Signs TLS 1.3 CertificateVerify messages with one ECDSA key somewhere else. Blocking.
pub trait TlsSigner: Send + Sync + std::fmt::Debug {
    /// DER `ECDSA-Sig-Value` over the whole message as rustls composed it; a sentence otherwise.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String>;
}

/// A key of a token.
pub(super) struct TokenSigner {
    token: Arc<dyn Token>,
    key: KeyId,
}

impl TokenSigner {
    pub fn new(token: Arc<dyn Token>, key: KeyId) -> Self {
        Self { token, key }
    }
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSigner").field("key", &self.key).finish_non_exhaustive()
    }
}

impl TlsSigner for TokenSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let input = SignInput::from_tls_message(message).ok_or("not a TLS 1.3 CertificateVerify message")?;
        self.token.sign(self.key, input).map_err(|fault| fault.to_string())
    }
}

/// A chain with a key behind a signer.
///
/// # Errors
/// `tls_key_unusable`: the first certificate's key is of a kind that does not sign in TLS here.
pub(super) fn certified(chain: &[Vec<u8>], signer: Arc<dyn TlsSigner>) -> Result<Arc<CertifiedKey>, Failure> {
    let scheme = chain.first().and_then(|own| scheme_of(own)).ok_or_else(|| {
        Failure::fault(
            "tls_key_unusable",
            "the certificate for TLS is not over a P-256 or P-384 key",
            "see it with `countersign cert list`, and make such a key",
        )
    })?;
    let chain = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    Ok(Arc::new(CertifiedKey::new(chain, Arc::new(RemoteKey { signer, scheme }))))
}

/// The one scheme of TLS 1.3 that fits the key of this certificate (RFC 8446, 4.2.3).
fn scheme_of(certificate: &[u8]) -> Option<SignatureScheme> {
    let certificate = Certificate::read(certificate).ok()?;
    match raw_public_key(certificate.tbs.spki)?.0 {
        Algorithm::P256 => Some(SignatureScheme::ECDSA_NISTP256_SHA256),
        Algorithm::P384 => Some(SignatureScheme::ECDSA_NISTP384_SHA384),
        Algorithm::Ed25519 | Algorithm::Rsa3072 | Algorithm::Aes256 => None,
    }
}

#[derive(Clone, Debug)]
struct RemoteKey {
    signer: Arc<dyn TlsSigner>,
    scheme: SignatureScheme,
}

impl SigningKey for RemoteKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for RemoteKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.signer.sign(message).map_err(rustls::Error::General)
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// A certificate chain, leaf first, and what signs with the leaf's key.
pub type SignedChain = (Vec<Vec<u8>>, Arc<dyn TlsSigner>);

/// A client's certificate chain with what signs for it. Asked at each handshake: a key may have been rotated, or a
/// certificate renewed.
pub trait ClientIdentity: Send + Sync + std::fmt::Debug {
    /// `None` while there is no certificate that is valid.
    fn current(&self) -> Option<SignedChain>;
}

/// What signs with a key of a token.
pub fn signer(token: Arc<dyn Token>, key: KeyId) -> Arc<dyn TlsSigner> {
    Arc::new(TokenSigner::new(token, key))
}

/// The identity of the moment. Without one nothing is presented, and a server that asks for it says no.
#[derive(Debug)]
pub(super) struct Current(pub Arc<dyn ClientIdentity>);

impl ResolvesClientCert for Current {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let (chain, signer) = self.0.current()?;
        certified(&chain, signer).ok()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Always the same certificate.
#[derive(Debug)]
pub(super) struct OneKey(pub Arc<CertifiedKey>);

impl ResolvesServerCert for OneKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl ResolvesClientCert for OneKey {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
