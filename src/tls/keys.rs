//! Private keys that rustls uses without holding them.

use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};

use crate::hsm::Token;
use crate::kernel::sign::SignInput;
use crate::kernel::types::KeyId;

/// Signs TLS 1.3 CertificateVerify messages with one P-256 key somewhere else. Blocking.
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
pub(super) fn certified(chain: &[Vec<u8>], signer: Arc<dyn TlsSigner>) -> Arc<CertifiedKey> {
    let chain = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    Arc::new(CertifiedKey::new(chain, Arc::new(RemoteKey(signer))))
}

#[derive(Clone, Debug)]
struct RemoteKey(Arc<dyn TlsSigner>);

impl SigningKey for RemoteKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ECDSA_NISTP256_SHA256).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for RemoteKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.0.sign(message).map_err(rustls::Error::General)
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
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
