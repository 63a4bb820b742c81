//! TLS 1.3 over HSM keys: the bank's server side with its client verifier, and the agent's client side.
//!
//! Nothing is resumed: a resumed handshake would not run the verifier (shown with a revoked client). Signing blocks,
//! so handshakes belong on threads of their own.

pub mod agent;
pub mod asking;
mod keys;
pub mod peer;
pub mod pin;
mod verifier;

use std::sync::Arc;

use rustls::client::{WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig};

use crate::hsm::{CertifiedKey, Token};
use crate::kernel::credential::pair::VerifiedAgent;
use crate::ops::failure::Failure;

use pin::{BankPin, PinnedServer};

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
    listening(identity, token, Arc::new(verifier))
}

/// A server for anybody: it proves who it is and asks nobody for a certificate.
///
/// # Errors
/// `tls_key_unusable`
pub fn public_server_config(identity: &CertifiedKey, token: Arc<dyn Token>) -> Result<ServerConfig, Failure> {
    listening(identity, token, WebPkiClientVerifier::no_client_auth())
}

fn listening(
    identity: &CertifiedKey,
    token: Arc<dyn Token>,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, Failure> {
    let signer = keys::TokenSigner::new(token, identity.key.id);
    let key = keys::certified(&identity.chain, Arc::new(signer))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(clients)
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
    presenting(builder, chain, signer)
}

/// As [`client_config`], for the bank itself: of everything under its root only what the pin accepts.
///
/// # Errors
/// `tls_key_unusable`, `bank_root_unusable`
pub fn pinned_config(chain: &[Vec<u8>], signer: Arc<dyn TlsSigner>, pin: BankPin) -> Result<ClientConfig, Failure> {
    let unusable_root = |reason: String| {
        Failure::usage("bank_root_unusable", format!("the bank's root certificate: {reason}"), "import it again")
    };
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from(pin.anchors.root.clone());
    roots.add(root).map_err(|error| unusable_root(error.to_string()))?;
    let path = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    let path = path.map_err(|error| unusable_root(error.to_string()))?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedServer::new(path, pin)));
    presenting(builder, chain, signer)
}

fn presenting(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    chain: &[Vec<u8>],
    signer: Arc<dyn TlsSigner>,
) -> Result<ClientConfig, Failure> {
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

/// Why a handshake was not signed, in an error of whoever connected; `None` when something else ended it.
pub fn unsigned<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a str> {
    match pin::tls_error(error)? {
        // What a signer of ours says (`keys`); the library itself says it of what cannot be.
        rustls::Error::General(why) => Some(why),
        _ => None,
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn unusable(error: rustls::Error) -> Failure {
    Failure::fault("tls_key_unusable", error.to_string(), "check the certificates with `countersign cert list`")
}
