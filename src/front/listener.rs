//! The MCP listener: TCP, TLS handshakes on threads of their own, one registered connection an agent.
//!
//! A handshake signs with the HSM and blocks its thread for as long; established connections live on the main
//! runtime and never wait for it. A connection is registered before its agent is judged again, so that no revocation
//! can fall between the two.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Handle, Runtime};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::front::allowance::Allowances;
use crate::front::http::{Edge, EdgeSetup};
use crate::front::oauth::TokenGate;
use crate::front::rates::SharedTurns;
use crate::front::settings::LimitSettings;
use crate::hsm::{CertifiedKey, Token};
use crate::kernel::types::{Currency, UnixMillis};
use crate::mcp::server::{Endpoint, ToolGate};
use crate::ops::accepting::{self, Slot, Slots};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::ops::registry::Connections;
use crate::tls::{self, PairGate, PeerVerifier};

/// Threads that only do handshakes: each may wait for the HSM.
const HANDSHAKE_THREADS: usize = 16;
/// A silent peer is asked for after this time, so often, and then it is gone: within two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_COUNT: u32 = 4;
/// A request in progress may end within this time after stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What a listener is made of.
pub struct ListenerSetup {
    pub listening: std::net::TcpListener,
    /// When this daemon began: what was signed before it may have been received by the one before.
    pub began: UnixMillis,
    pub identity: CertifiedKey,
    pub token: Arc<dyn Token>,
    pub limits: LimitSettings,
    pub pair_gate: Arc<dyn PairGate>,
    pub tool_gate: Arc<dyn ToolGate>,
    pub token_gate: Arc<dyn TokenGate>,
    pub turns: Arc<dyn SharedTurns>,
    pub connections: Arc<Connections>,
    pub currency: Currency,
    /// Names under which the bank is reached: other Host headers are refused.
    pub hosts: Vec<String>,
}

/// A running listener.
pub struct Listener {
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
    handshakes: Option<Runtime>,
}

struct Shared {
    acceptor: TlsAcceptor,
    edge: Edge,
    limits: LimitSettings,
    gate: Arc<dyn PairGate>,
    connections: Arc<Connections>,
    slots: Slots,
    handshake_slots: Slots,
    /// Handshakes in progress, by address; connections, by agent.
    of_source: Arc<Allowances>,
    of_agent: Arc<Allowances>,
    /// Where established connections live.
    main: Handle,
    stop: CancellationToken,
}

impl Listener {
    /// Starts serving on the current runtime.
    ///
    /// # Errors
    /// `tls_key_unusable`, `listener_failed`
    pub fn start(setup: ListenerSetup) -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::fault("listener_failed", error.to_string(), "check process limits");
        let judging = Arc::clone(&setup.pair_gate);
        let verifier = PeerVerifier::new(Arc::new(move |presented| judging.accept(presented).map(drop)));
        let config = tls::server_config(&setup.identity, setup.token, verifier)?;
        setup.listening.set_nonblocking(true).map_err(failed)?;
        let listening = TcpListener::from_std(setup.listening).map_err(failed)?;
        let handshakes = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(HANDSHAKE_THREADS)
            .thread_name("handshake")
            .enable_all()
            .build()
            .map_err(failed)?;
        let (limits, stop) = (setup.limits, CancellationToken::new());
        let endpoint = Endpoint::new(setup.tool_gate, setup.currency, &setup.hosts, limits.body_bytes_max);
        let shared = Arc::new(Shared {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            edge: Edge::new(EdgeSetup {
                endpoint,
                pair_gate: Arc::clone(&setup.pair_gate),
                token_gate: setup.token_gate,
                hosts: setup.hosts,
                limits: limits.clone(),
                turns: setup.turns,
                began: setup.began,
            }),
            gate: setup.pair_gate,
            connections: setup.connections,
            slots: Slots::new(limits.connections_max),
            handshake_slots: Slots::new(limits.handshakes_max),
            of_source: Allowances::of_connections(limits.handshakes_of_source_max),
            of_agent: Allowances::of_connections(limits.connections_of_agent_max),
            limits,
            main: Handle::current(),
            stop,
        });
        let handle = handshakes.handle().clone();
        let accepting = tokio::spawn(accept(Arc::clone(&shared), listening, handle));
        Ok(Self { shared, accepting, handshakes: Some(handshakes) })
    }

    /// Accepts nothing more, lets requests in progress end, then cuts what is left.
    pub async fn stop(mut self) {
        self.shared.stop.cancel();
        let _ = (&mut self.accepting).await;
        self.shared.slots.drained(DRAIN_TIMEOUT).await;
        self.shared.connections.cut(|_| true);
        if let Some(handshakes) = self.handshakes.take() {
            handshakes.shutdown_background();
        }
    }
}

async fn accept(shared: Arc<Shared>, listening: TcpListener, handshakes: Handle) {
    accepting::accept(&listening, &shared.slots, &shared.stop, |stream, peer, slot| {
        let refuse = |name| shared.gate.count_refusal(name);
        let Some(slot) = slot else {
            return refuse("too_many_connections");
        };
        let Some(handshake_slot) = shared.handshake_slots.take() else {
            return refuse("too_many_handshakes");
        };
        let Some(of_source) = shared.of_source.connect(&source(peer.ip()), clock::boot_ms()) else {
            return refuse("too_many_handshakes_of_one");
        };
        let shared = Arc::clone(&shared);
        handshakes.spawn(async move {
            let shaken = handshake(&shared, stream, peer).await;
            drop((handshake_slot, of_source));
            if let Some(stream) = shaken {
                let main = shared.main.clone();
                main.spawn(serve(shared, stream, slot));
            }
        });
    })
    .await;
}

/// Whom a handshake counts for: an address, or the network that one host has with IPv6 (RFC 6177).
fn source(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}")
        }
    }
}

async fn handshake(shared: &Shared, stream: TcpStream, peer: SocketAddr) -> Option<TlsStream<TcpStream>> {
    let timeout = Duration::from_millis(shared.limits.handshake_timeout_ms);
    // Small answers must not wait for more.
    let _ = stream.set_nodelay(true);
    noticing_the_dead(&stream);
    match tokio::time::timeout(timeout, shared.acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            let name = refusal_name(&error);
            // A judged pair was counted by the gate under its own name.
            if let Some(name) = name {
                shared.gate.count_refusal(name);
            }
            tracing::debug!(%peer, %error, "handshake failed");
            None
        }
        Err(_) => {
            shared.gate.count_refusal("handshake_timeout");
            None
        }
    }
}

/// A machine that is gone without a word is noticed, though nothing is to be said to it for hours: a subscription.
fn noticing_the_dead(stream: &TcpStream) {
    use rustix::net::sockopt;
    let set = sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)
        .and_then(|()| sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL))
        .and_then(|()| sockopt::set_tcp_keepcnt(stream, KEEPALIVE_COUNT))
        .and_then(|()| sockopt::set_socket_keepalive(stream, true));
    if let Err(error) = set {
        tracing::debug!(%error, "a dead connection may stay unnoticed");
    }
}

/// The name of a handshake that failed before a pair was judged.
fn refusal_name(error: &std::io::Error) -> Option<&'static str> {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::NoCertificatesPresented) => Some("no_certificate"),
        Some(rustls::Error::InvalidCertificate(_)) => None,
        Some(rustls::Error::PeerIncompatible(_)) => Some("tls_incompatible"),
        Some(rustls::Error::InvalidMessage(_)) => Some("not_tls"),
        Some(_) | None => Some("handshake_failed"),
    }
}

/// The certificates that the peer showed, DER.
fn presented(stream: &TlsStream<TcpStream>) -> Vec<Vec<u8>> {
    let certificates = stream.get_ref().1.peer_certificates().into_iter().flatten();
    certificates.map(|certificate| certificate.as_ref().to_vec()).collect()
}

async fn serve(shared: Arc<Shared>, stream: TlsStream<TcpStream>, slot: Slot) {
    let _slot = slot;
    let Ok(agent) = shared.gate.accept(&presented(&stream)).map(Arc::new) else {
        return;
    };
    let cut = CancellationToken::new();
    let _registration = shared.connections.register(Arc::clone(&agent), cut.clone());
    if shared.gate.still_acceptable(&agent).is_err() {
        return;
    }
    // One connection too many is told so, once.
    let counted = shared.of_agent.connect(&agent.spiffe_id().to_string(), clock::boot_ms());
    let is_counted = counted.is_some();
    let serving = Arc::clone(&shared);
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, agent) = (Arc::clone(&serving), Arc::clone(&agent));
        // In a box, which a connection that asks nothing has not: with all that an answer may need it is larger than the
        // rest of the connection.
        Box::pin(async move {
            Ok::<_, Infallible>(match is_counted {
                true => shared.edge.answer(agent, request).await,
                false => shared.edge.crowded(&request),
            })
        })
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(shared.limits.header_timeout_ms))
        .max_headers(shared.limits.headers_max)
        .max_buf_size(shared.limits.header_bytes_max)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        () = accepting::converse(connection, &shared.stop) => {}
        // Revoked: the stream is dropped where it stands.
        () = cut.cancelled() => {}
    }
}
