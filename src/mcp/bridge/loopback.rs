//! The bridge as a streamable HTTP server on loopback, for clients that speak nothing else. Whoever asks says a secret;
//! clients of both generations at once, and one's session is not another's.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::{Bridge, Dial};
use crate::kernel::json;
use crate::mcp::standing::with_ground;
use crate::ops::accepting::{self, Slots};
use crate::ops::failure::Failure;

/// Where the endpoint is.
pub const PATH: &str = "/mcp";

/// Longest request; the bank takes less.
const BODY_BYTES_MAX: usize = 1 << 20;
const DEPTH_MAX: usize = 32;
const CONNECTIONS_MAX: u32 = 256;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// For requests in progress when it is told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A browser on this machine says one of these; every other Host or Origin is refused (DNS rebinding).
const NAMES: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

type Body = UnsyncBoxBody<Bytes, Infallible>;

struct Shared {
    service: StreamableHttpService<Bridge, LocalSessionManager>,
    /// For what is asked before the service is.
    bridge: Bridge,
    secret: SecretString,
}

/// Serves until `stop`, then lets requests in progress end. The listener is on loopback: its caller saw to that.
pub async fn serve_loopback(dial: Arc<dyn Dial>, listener: TcpListener, secret: SecretString, stop: CancellationToken) {
    let bridge = Bridge::new(dial);
    let origins = NAMES.iter().flat_map(|name| [format!("http://{name}:*"), format!("https://{name}:*")]);
    let config = StreamableHttpServerConfig::default()
        .with_allowed_hosts(NAMES)
        .with_allowed_origins(origins)
        .enforce_origin_validation()
        .with_json_response(true)
        .with_max_request_body_bytes(BODY_BYTES_MAX)
        .with_cancellation_token(stop.clone());
    let own = bridge.clone();
    let service = StreamableHttpService::new(move || Ok(bridge.for_another()), Arc::default(), config);
    let shared = Arc::new(Shared { service, bridge: own, secret });
    let slots = Slots::new(CONNECTIONS_MAX);
    accepting::accept(&listener, &slots, &stop, |stream, _, slot| {
        let Some(slot) = slot else {
            tracing::warn!("a connection was turned away: all places are taken");
            return;
        };
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            let _slot = slot;
            converse(shared, stream, stop).await;
        });
    })
    .await;
    slots.drained(DRAIN_TIMEOUT).await;
}

async fn converse(shared: Arc<Shared>, stream: TcpStream, stop: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(shared.answer(request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(64)
        .serve_connection(TokioIo::new(stream), service);
    accepting::converse(connection, &stop).await;
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if !self.knows_the_secret(request.headers()) {
            let failure = Failure::refused(
                "secret_missing",
                "this endpoint answers who sends its secret: Authorization: Bearer …",
                "copy the line that `countersign connect --listen` printed, or use its --secret-file",
            );
            let mut response = refused(StatusCode::UNAUTHORIZED, &failure);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            return response;
        }
        if request.uri().path() != PATH {
            let failure = Failure::usage("path_unknown", "the endpoint is /mcp", "correct the client's URL");
            return refused(StatusCode::NOT_FOUND, &failure);
        }
        let (parts, body) = request.into_parts();
        let limited = Limited::new(body, BODY_BYTES_MAX).collect();
        let body = match tokio::time::timeout(BODY_TIMEOUT, limited).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let failure = Failure::usage(
                    "body_too_long",
                    format!("the request is longer than {BODY_BYTES_MAX} bytes"),
                    "send less",
                );
                return refused(StatusCode::PAYLOAD_TOO_LARGE, &failure);
            }
            Ok(Err(_)) | Err(_) => {
                let failure = Failure::busy("body_incomplete", "the request did not arrive whole", "send it again");
                return refused(StatusCode::REQUEST_TIMEOUT, &failure);
            }
        };
        // The library would take the last of two equal keys; what reaches the bank is what the client wrote.
        let checked = json::check(&body, BODY_BYTES_MAX, DEPTH_MAX).and_then(|()| json::check_numbers(&body));
        if let Some(wrong) = checked.err().filter(|_| parts.method == Method::POST) {
            let body = super::stdio::answer(&body, &wrong);
            return said(StatusCode::BAD_REQUEST, body);
        }
        let request = with_ground(&self.bridge, Request::from_parts(parts, Full::new(body))).await;
        let response = self.service.handle(request).await;
        response.map(|body| body.boxed_unsync())
    }

    fn knows_the_secret(&self, headers: &HeaderMap) -> bool {
        let mut said = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(said), None) = (said.next(), said.next()) else {
            return false;
        };
        // The scheme's name has no case (RFC 9110, 11.1).
        let Some((scheme, token)) = said.to_str().ok().and_then(|said| said.split_once(' ')) else {
            return false;
        };
        let secret = self.secret.expose_secret().as_bytes();
        scheme.eq_ignore_ascii_case("bearer") && verify_slices_are_equal(token.as_bytes(), secret).is_ok()
    }
}

fn refused(status: StatusCode, failure: &Failure) -> Response<Body> {
    said(status, json!(failure.to_json()).to_string().into_bytes())
}

fn said(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
