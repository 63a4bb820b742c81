//! The peer listener: other parties' daemons and connected agents, JSON over mutual TLS.
//!
//! Few come, and each is known by its certificate: the other party by a TLS client certificate under its root, an agent
//! by its pair. The listener has threads of its own, so that a slow HSM behind its handshakes holds nothing else up.
//! `docs/peer-api.json` describes what it answers (OpenAPI 3.1) and is served at `/v1/openapi.json`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::front::allowance::Allowances;
use crate::front::peer_lease::holder;
use crate::front::services::Services;
use crate::front::settings::PeerLimitSettings;
use crate::front::witness::answering;
use crate::kernel::credential::pair::VerifiedAgent;
use crate::kernel::json;
use crate::kernel::types::{KeyId, PartyName};
use crate::ops::accepting::{self, Slot, Slots};
use crate::ops::clock;
use crate::ops::failure::{Failure, Kind};
use crate::tls::{self, PeerVerifier};

const API: &str = include_str!("../../docs/peer-api.json");
const THREADS: usize = 2;
const CONNECTIONS_MAX: u32 = 256;
const BODY_BYTES_MAX: usize = 256 * 1024;
const JSON_DEPTH_MAX: usize = 16;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// For a body to arrive and its answer to be made: an HSM may be slow.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const RETRY_AFTER_S: &str = "1";

/// Who is at the other end.
#[derive(Clone, Debug)]
enum Peer {
    Party(PartyName),
    Agent(Arc<VerifiedAgent>),
}

impl Peer {
    /// Under which it has its allowance. An agent's name and a party's cannot be the same text.
    fn name(&self) -> String {
        match self {
            Self::Party(party) => format!("party {party}"),
            Self::Agent(agent) => agent.spiffe_id().to_string(),
        }
    }
}

/// A running listener. Dropping it cuts what is left.
pub struct PeerListener {
    key: KeyId,
    runtime: Option<tokio::runtime::Runtime>,
    stop: CancellationToken,
}

struct Shared {
    services: Arc<Services>,
    allowances: Arc<Allowances>,
    acceptor: TlsAcceptor,
    stop: CancellationToken,
}

impl PeerListener {
    /// Starts serving on threads of its own.
    ///
    /// # Errors
    /// `tls_key_unusable`, `listener_failed`, and why this party has no TLS server certificate.
    pub fn start(
        listening: std::net::TcpListener,
        services: Arc<Services>,
        limits: PeerLimitSettings,
    ) -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::fault("listener_failed", error.to_string(), "check process limits");
        let identity = services.setup.authority.tls_identity()?;
        let judging = Arc::clone(&services);
        let verifier = PeerVerifier::new(Arc::new(move |presented| judge(&judging, presented).map(drop)));
        let config = tls::server_config(&identity, services.token(), verifier)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("peer-listener")
            .enable_all()
            .build()
            .map_err(failed)?;
        listening.set_nonblocking(true).map_err(failed)?;
        let stop = CancellationToken::new();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let shared = Shared { services, allowances: Allowances::new(limits), acceptor, stop: stop.clone() };
        let entered = runtime.enter();
        let listening = TcpListener::from_std(listening).map_err(failed)?;
        drop(entered);
        runtime.spawn(accept(Arc::new(shared), listening));
        Ok(Self { key: identity.key.id, runtime: Some(runtime), stop })
    }

    /// The key that it serves with until it ends.
    pub fn key(&self) -> KeyId {
        self.key
    }
}

impl Drop for PeerListener {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Who presents this, judged now.
fn judge(services: &Services, presented: &[Vec<u8>]) -> Result<Peer, String> {
    if let Ok(party) = services.setup.authority.peer_of(presented) {
        return Ok(Peer::Party(party));
    }
    services.accept(presented).map(|agent| Peer::Agent(Arc::new(agent)))
}

async fn accept(shared: Arc<Shared>, listening: TcpListener) {
    accepting::accept(&listening, &Slots::new(CONNECTIONS_MAX), &shared.stop, |stream, _, slot| match slot {
        Some(slot) => drop(tokio::spawn(serve(Arc::clone(&shared), stream, slot))),
        None => drop(shared.services.count_refusal("too_many_connections")),
    })
    .await;
}

async fn serve(shared: Arc<Shared>, stream: TcpStream, slot: Slot) {
    let _slot = slot;
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, shared.acceptor.accept(stream)).await else {
        return;
    };
    let certificates = stream.get_ref().1.peer_certificates().into_iter().flatten();
    let presented: Arc<[Vec<u8>]> = certificates.map(|certificate| certificate.as_ref().to_vec()).collect();
    let (judging, judged) = (Arc::clone(&shared.services), Arc::clone(&presented));
    let Ok(Ok(peer)) = tokio::task::spawn_blocking(move || judge(&judging, &judged)).await else {
        return;
    };
    let who: Arc<str> = peer.name().into();
    let Some(_connected) = shared.allowances.connect(&who, clock::boot_ms()) else {
        shared.services.count_refusal("too_many_connections_of_one");
        return;
    };
    let serving = Arc::clone(&shared);
    let service = service_fn(move |request| {
        let (shared, presented, who) = (Arc::clone(&serving), Arc::clone(&presented), Arc::clone(&who));
        async move { Ok::<_, Infallible>(answer(&shared, &presented, &who, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(64)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        ended = connection => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a peer's connection ended");
            }
        }
        () = shared.stop.cancelled() => {}
    }
}

async fn answer(
    shared: &Shared,
    presented: &Arc<[Vec<u8>]>,
    who: &str,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    if !shared.allowances.request(who, clock::boot_ms()) {
        shared.services.count_refusal("too_many_requests");
        return refuse(&Failure::busy(
            "too_many_requests",
            "this peer asks more often than it may",
            "wait a moment, then ask again under the same id",
        ));
    }
    match tokio::time::timeout(REQUEST_TIMEOUT, admit(shared, presented, request)).await {
        Ok(Ok(value)) => respond(StatusCode::OK, &value),
        Ok(Err(failure)) => refuse(&failure),
        Err(_) => refuse(&Failure::unknown(
            "request_timeout",
            "no answer in time: what was asked may have happened",
            "ask again under the same id",
        )),
    }
}

async fn admit(shared: &Shared, presented: &Arc<[Vec<u8>]>, request: Request<Incoming>) -> Result<Value, Failure> {
    let (parts, body) = request.into_parts();
    is_json(&parts)?;
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|_| {
        Failure::usage("body_too_long", format!("the body is longer than {BODY_BYTES_MAX} bytes"), "send a request")
    })?;
    let (services, presented, body) = (Arc::clone(&shared.services), Arc::clone(presented), body.to_bytes());
    // Signing and files block.
    let work = tokio::task::spawn_blocking(move || {
        // Judged again on every request: revocation and time do not wait for the connection's end.
        let peer = judge(&services, &presented)
            .map_err(|name| Failure::refused(&name, "this peer may not be served any more", "see its certificates"))?;
        let answer = dispatch(&services, &peer, &parts.method, parts.uri.path(), &body);
        if let Ok(log) = services.log() {
            log.notify();
        }
        answer
    });
    work.await.unwrap_or_else(|_| {
        Err(Failure::unknown("internal_defect", "the daemon met a defect of its own", "see its log and report it"))
    })
}

fn dispatch(services: &Services, peer: &Peer, method: &Method, path: &str, body: &Bytes) -> Result<Value, Failure> {
    let authority = &services.setup.authority;
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method, parts.as_slice(), peer) {
        (&Method::GET, ["v1", "openapi.json"], _) => document(API.as_bytes()),
        (&Method::PUT, ["v1", "endorsements", id], Peer::Party(party)) => {
            authority.endorsement_put(party, &id.parse().map_err(no_id)?, &document(body)?)
        }
        (&Method::GET, ["v1", "endorsements", id], Peer::Party(party)) => {
            authority.endorsement_get(party, &id.parse().map_err(no_id)?)
        }
        (&Method::DELETE, ["v1", "endorsements", id], Peer::Party(party)) => {
            authority.endorsement_abandon(party, &id.parse().map_err(no_id)?)
        }
        (&Method::POST, ["v1", "renewals"], Peer::Agent(agent)) => authority.renewal_begin(agent, &document(body)?),
        (&Method::POST, ["v1", "renewals", "proof"], Peer::Agent(agent)) => {
            authority.renewal_finish(agent, &document(body)?)
        }
        (&Method::PUT, ["v1", "lease"], Peer::Party(party)) => holder::answer(services, party, &document(body)?),
        (&Method::GET, ["v1", "witness"], Peer::Party(party)) => answering::remembered(services, party),
        (&Method::POST, ["v1", "witness"], Peer::Party(party)) => answering::answer(services, party, &document(body)?),
        (
            _,
            ["v1", "lease" | "witness"] | ["v1", "endorsements", _] | ["v1", "renewals"] | ["v1", "renewals", "proof"],
            _,
        ) => Err(Failure::refused(
            "peer_not_permitted",
            format!("{method} {path} is not for this peer"),
            "see /v1/openapi.json: other parties ask for endorsements, connected agents for renewals",
        )),
        _ => Err(Failure::usage("unknown_path", format!("nothing is served at {path}"), "see /v1/openapi.json")),
    }
}

/// What has a body says that it is JSON.
fn is_json(parts: &http::request::Parts) -> Result<(), Failure> {
    let has_body = matches!(parts.method, Method::PUT | Method::POST);
    let said = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = said.split(';').next().unwrap_or_default().trim();
    if !has_body || kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Failure::usage("content_type_wrong", "the body is not said to be JSON", "send content-type: application/json"))
}

fn no_id(error: crate::kernel::types::Malformed) -> Failure {
    Failure::usage("request_id_malformed", error.to_string(), "use req_ followed by a ULID")
}

fn document(body: &[u8]) -> Result<Value, Failure> {
    let malformed = |why: String| Failure::usage("body_malformed", why, "send one JSON object");
    json::check(body, BODY_BYTES_MAX, JSON_DEPTH_MAX).map_err(|refused| malformed(refused.to_string()))?;
    serde_json::from_slice(body).map_err(|error| malformed(error.to_string()))
}

fn refuse(failure: &Failure) -> Response<Full<Bytes>> {
    let status = match (failure.kind, failure.name.as_str()) {
        (Kind::Usage, "unknown_path") => StatusCode::NOT_FOUND,
        (Kind::Usage, "body_too_long") => StatusCode::PAYLOAD_TOO_LARGE,
        (Kind::Usage, "content_type_wrong") => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        (Kind::Usage, _) => StatusCode::BAD_REQUEST,
        (Kind::Refused, "peer_not_permitted") => StatusCode::FORBIDDEN,
        (Kind::Refused, "request_unknown") => StatusCode::NOT_FOUND,
        (Kind::Refused, "request_id_taken") => StatusCode::CONFLICT,
        (Kind::Refused, _) => StatusCode::UNPROCESSABLE_ENTITY,
        (Kind::Busy, "too_many_requests" | "too_many_requests_waiting") => StatusCode::TOO_MANY_REQUESTS,
        (Kind::Busy, _) => StatusCode::SERVICE_UNAVAILABLE,
        (Kind::Unknown, _) => StatusCode::GATEWAY_TIMEOUT,
        (Kind::Fault, _) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = respond(status, &failure.to_json());
    if failure.kind == Kind::Busy {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static(RETRY_AFTER_S));
    }
    response
}

fn respond(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(json!(value).to_string())));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
