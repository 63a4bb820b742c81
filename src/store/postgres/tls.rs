//! TLS 1.3 to a PostgreSQL server: the server's certificate must lead to `sslrootcert` and carry the host's name.
//!
//! `sslmode=require` is held to the same rule as `verify-full`: a channel to nobody in particular protects nothing.
//! The password exchange is bound to the certificate (SCRAM, `tls-server-end-point`, RFC 5929 section 4).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_lc_rs::digest;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

/// Makes connections; without a configuration only plain ones.
#[derive(Clone)]
pub(super) struct Tls(Option<Arc<ClientConfig>>);

impl Tls {
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Trusts the certificates of one PEM text and nothing else.
    ///
    /// # Errors
    /// A sentence for the configuration's author.
    pub(super) fn trusting(pem: &[u8]) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| error.to_string())?;
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
        if roots.is_empty() {
            return Err("it holds no certificate".into());
        }
        let config = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Some(Arc::new(config))))
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Secured;
    type TlsConnect = Connect;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Connect, io::Error> {
        Ok(Connect { config: self.0.clone(), server: domain.to_owned() })
    }
}

/// One handshake that is about to begin.
pub(super) struct Connect {
    config: Option<Arc<ClientConfig>>,
    server: String,
}

impl TlsConnect<Socket> for Connect {
    type Stream = Secured;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Secured>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        Box::pin(async move {
            let config = self.config.ok_or_else(|| io::Error::other("TLS is not configured"))?;
            let server = ServerName::try_from(self.server).map_err(io::Error::other)?;
            Ok(Secured(TlsConnector::from(config).connect(server, stream).await?))
        })
    }
}

/// An encrypted connection to a server that was verified.
pub(super) struct Secured(tokio_rustls::client::TlsStream<Socket>);

impl TlsStream for Secured {
    fn channel_binding(&self) -> ChannelBinding {
        let certificates = self.0.get_ref().1.peer_certificates();
        match certificates.and_then(|chain| chain.first()).and_then(|end_entity| end_point(end_entity)) {
            Some(hash) => ChannelBinding::tls_server_end_point(hash),
            None => ChannelBinding::none(),
        }
    }
}

/// The certificate under the hash of its own signature; SHA-1 and MD5 become SHA-256 (RFC 5929, 4.1).
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    use x509_parser::oid_registry as oid;
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let algorithm = &parsed.signature_algorithm.algorithm;
    let hash = if [oid::OID_SIG_ECDSA_WITH_SHA384, oid::OID_PKCS1_SHA384WITHRSA].contains(algorithm) {
        &digest::SHA384
    } else if [oid::OID_SIG_ECDSA_WITH_SHA512, oid::OID_PKCS1_SHA512WITHRSA].contains(algorithm) {
        &digest::SHA512
    } else if [
        oid::OID_SIG_ECDSA_WITH_SHA256,
        oid::OID_PKCS1_SHA256WITHRSA,
        oid::OID_PKCS1_SHA1WITHRSA,
        oid::OID_PKCS1_MD5WITHRSAENC,
    ]
    .contains(algorithm)
    {
        &digest::SHA256
    } else {
        // Ed25519 and RSA-PSS have no hash that RFC 5929 names.
        return None;
    };
    Some(digest::digest(hash, certificate).as_ref().to_vec())
}

impl AsyncRead for Secured {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
