//! The console's address: TLS without a client certificate, so many connections, time limits.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Console;
use crate::hsm::{CertifiedKey, Token};
use crate::ops::accepting::{self, Slot, Slots};
use crate::ops::failure::Failure;
use crate::tls;

/// Strangers' handshakes wait for the HSM: so many at once, on threads of their own.
const THREADS: usize = 2;
/// Browsers keep a connection for each stream of events.
const CONNECTIONS_MAX: u32 = 1_024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without a request is closed after this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The running listener; it ends with this.
pub struct Pages {
    runtime: Option<Runtime>,
}

impl Pages {
    /// Serves from now on.
    ///
    /// # Errors
    /// `tls_key_unusable`, `listener_failed`
    pub fn start(
        listening: std::net::TcpListener,
        identity: &CertifiedKey,
        token: Arc<dyn Token>,
        console: Console,
        stop: CancellationToken,
    ) -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::fault("listener_failed", error.to_string(), "check process limits");
        let acceptor = TlsAcceptor::from(Arc::new(tls::public_server_config(identity, token)?));
        listening.set_nonblocking(true).map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("console")
            .enable_all()
            .build()
            .map_err(failed)?;
        let listening = {
            let _entered = runtime.enter();
            TcpListener::from_std(listening).map_err(failed)?
        };
        let console = Arc::new(console);
        runtime.spawn(Arc::clone(&console).watch(stop.clone()));
        runtime.spawn(accept(listening, acceptor, console, stop));
        Ok(Self { runtime: Some(runtime) })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listening: TcpListener, acceptor: TlsAcceptor, console: Arc<Console>, stop: CancellationToken) {
    accepting::accept(&listening, &Slots::new(CONNECTIONS_MAX), &stop, |stream, peer, slot| {
        // All places are taken: whoever comes is closed at once and may come again.
        if let Some(slot) = slot {
            tokio::spawn(converse(stream, peer, acceptor.clone(), Arc::clone(&console), slot));
        }
    })
    .await;
}

async fn converse(stream: TcpStream, peer: SocketAddr, acceptor: TlsAcceptor, console: Arc<Console>, slot: Slot) {
    let _slot = slot;
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else {
        return;
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let console = Arc::clone(&console);
        async move { Ok::<_, Infallible>(console.answer(request, peer.ip()).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
