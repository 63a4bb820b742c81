//! A bare MCP server over mutual TLS: the same handshake, HTTP and MCP libraries, and nobody who decides.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::bench::served::failed;
use crate::bench::site::Site;
use crate::hsm::Token;
use crate::mcp::bare::BareEndpoint;
use crate::ops::failure::Failure;
use crate::tls::{self, PeerVerifier};

/// The running server; it ends with this.
pub(super) struct Bare {
    pub(super) address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Bare {
    /// Serves on the runtime that was entered.
    ///
    /// # Errors
    /// `bench_failed`
    pub(super) fn start(site: &Site) -> Result<Self, Failure> {
        // Whoever has the key of the certificates that it shows is served.
        let verifier = PeerVerifier::new(Arc::new(|_| Ok(())));
        let token: Arc<dyn Token> = site.bank.token.pool();
        let config = tls::server_config(&site.bank.authority.tls_identity()?, token, verifier)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listening = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| failed(&error))?;
        let address = listening.local_addr().map_err(|error| failed(&error))?;
        listening.set_nonblocking(true).map_err(|error| failed(&error))?;
        let listening = TcpListener::from_std(listening).map_err(|error| failed(&error))?;
        let endpoint = Arc::new(BareEndpoint::new(&["127.0.0.1".to_owned()]));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listening.accept().await {
                tokio::spawn(serve(stream, acceptor.clone(), Arc::clone(&endpoint)));
            }
        });
        Ok(Self { address, accepting })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, endpoint: Arc<BareEndpoint>) {
    let _ = stream.set_nodelay(true);
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let service = service_fn(move |request| {
        let endpoint = Arc::clone(&endpoint);
        async move { Ok::<_, Infallible>(endpoint.answer(request).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
