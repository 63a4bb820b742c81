//! TLS 1.3 over HSM keys: the bank's server side with its client verifier, and the agent's client side.
//!
//! Nothing is resumed: a resumed handshake would not run the verifier (shown with a revoked client). Signing blocks,
//! so handshakes belong on threads of their own.

pub mod agent;
pub mod asking;
mod keys;
pub mod peer;
mod verifier;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::hsm::{CertifiedKey, Token};
use crate::kernel::credential::pair::VerifiedAgent;
use crate::ops::failure::Failure;

pub use keys::{ClientIdentity, SignedChain, TlsSigner, signer};
pub use verifier::{Judge, PeerVerifier};

/// Decides about peers. Implemented over the acceptance rule of the kernel and the live revocation status.
pub trait PairGate: Send + Sync {
    /// Judges what a peer presented, `[B, S]`; the refusal's name otherwise.
    fn accept(&self, presented: &[Vec<u8>]) -> Result<VerifiedAgent, String>;
    /// Asked again on every request of an open connection.
    fn still_acceptable(&self, agent: &VerifiedAgent) -> Result<(), &'static str>;
    /// A handshake ended before a peer could be judged.
    fn count_refusal(&self, name: &'static str);
}

/// A listener's side: TLS 1.3 only, every client judged, no tickets, key in the HSM.
///
/// # Errors
/// `tls_key_unusable`
pub fn server_config(
    identity: &CertifiedKey,
    token: Arc<dyn Token>,
    verifier: PeerVerifier,
) -> Result<ServerConfig, Failure> {
    let signer = keys::TokenSigner::new(token, identity.key.id);
    let key = keys::certified(&identity.chain, Arc::new(signer))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(keys::OneKey(key)));
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The agent's side: trusts the bank's root and nothing else, presents `chain`, signs through `signer`.
///
/// # Errors
/// `tls_key_unusable`, `bank_root_unusable`
pub fn client_config(chain: &[Vec<u8>], signer: Arc<dyn TlsSigner>, bank_root: &[u8]) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(bank_root.to_vec())).map_err(|error| {
        Failure::usage("bank_root_unusable", format!("the bank's root certificate: {error}"), "import it again")
    })?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_root_certificates(roots);
    let mut config = if chain.is_empty() {
        builder.with_no_client_auth()
    } else {
        builder.with_client_cert_resolver(Arc::new(keys::OneKey(keys::certified(chain, signer)?)))
    };
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// For a server that we only ask: trusts one root, or none at all, and presents nothing, or our identity when it is
/// asked for.
///
/// # Errors
/// `tls_key_unusable`, `root_unusable`
pub fn asking_config(root: Option<&[u8]>, identity: Option<Arc<dyn ClientIdentity>>) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    if let Some(root) = root {
        roots.add(CertificateDer::from(root.to_vec())).map_err(|error| {
            Failure::usage("root_unusable", format!("the root certificate: {error}"), "give another root certificate")
        })?;
    }
    let builder =
        ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]).map_err(unusable)?;
    let builder = builder.with_root_certificates(roots);
    let Some(identity) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    let mut config = builder.with_client_cert_resolver(Arc::new(keys::Current(identity)));
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn unusable(error: rustls::Error) -> Failure {
    Failure::fault("tls_key_unusable", error.to_string(), "check the certificates with `countersign cert list`")
}
