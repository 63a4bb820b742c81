//! The strict HTTP edge: what a request must be before MCP sees it. Each refusal names its rule.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Incoming};
use serde_json::json;

use crate::front::settings::LimitSettings;
use crate::kernel::credential::pair::VerifiedAgent;
use crate::kernel::json::{self, JsonRefused};
use crate::mcp::server::{Endpoint, RawCall};
use crate::ops::failure::Failure;
use crate::tls::PairGate;

/// The only path that is served.
const PATH: &str = "/mcp";

/// Of a body that is too long, this much is read and dropped before the refusal; then the connection is closed.
const DISCARDED_BYTES_MAX: usize = 16 << 20;

/// An answer's body.
pub type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Everything between a decrypted request and the MCP endpoint.
pub struct Edge {
    endpoint: Endpoint,
    gate: Arc<dyn PairGate>,
    limits: LimitSettings,
}

impl Edge {
    pub fn new(endpoint: Endpoint, gate: Arc<dyn PairGate>, limits: LimitSettings) -> Self {
        Self { endpoint, gate, limits }
    }

    /// Answers one request of an accepted agent; the agent is judged again first.
    pub async fn answer(&self, agent: Arc<VerifiedAgent>, request: Request<Incoming>) -> Response<Body> {
        if let Err(name) = self.gate.still_acceptable(&agent) {
            return closing(refuse(StatusCode::FORBIDDEN, name, "the agent may not be served any more"));
        }
        let limit = Duration::from_millis(self.limits.request_timeout_ms);
        match tokio::time::timeout(limit, self.admit(agent, request)).await {
            Ok(Ok(response) | Err(response)) => response,
            Err(_) => respond(
                StatusCode::GATEWAY_TIMEOUT,
                &Failure::unknown(
                    "request_timeout",
                    "no answer in time: what was asked may have happened",
                    "repeat with the same idempotency key",
                ),
            ),
        }
    }

    async fn admit(
        &self,
        agent: Arc<VerifiedAgent>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Response<Body>> {
        let (mut parts, body) = request.into_parts();
        if parts.uri.path() != PATH {
            return Err(refuse(StatusCode::NOT_FOUND, "unknown_path", "only /mcp is served here"));
        }
        if parts.method != Method::POST {
            let mut refused =
                refuse(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "MCP 2026-07-28 is spoken with POST");
            refused.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("POST"));
            return Err(refused);
        }
        let body = self.read(&parts, body).await?;
        if let Err(refused) = json::check(&body, self.limits.body_bytes_max, self.limits.json_depth_max) {
            return Err(refuse(StatusCode::BAD_REQUEST, refused.name(), &refused.to_string()));
        }
        let call = RawCall::read(&body)
            .map_err(|refused: JsonRefused| refuse(StatusCode::BAD_REQUEST, refused.name(), &refused.to_string()))?;
        parts.extensions.insert(agent);
        parts.extensions.insert(call);
        Ok(self.endpoint.answer(Request::from_parts(parts, Full::new(body))).await)
    }

    /// Reads the body, at most the limit and within the time. Of a longer one nothing is kept; its sender is let
    /// finish within bounds, because many clients read no answer before.
    async fn read(&self, parts: &http::request::Parts, mut body: Incoming) -> Result<Bytes, Response<Body>> {
        let limit = self.limits.body_bytes_max;
        let too_long = || {
            closing(refuse(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_long",
                &format!("the body is longer than {limit} bytes"),
            ))
        };
        let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let time = Duration::from_millis(self.limits.body_timeout_ms);
        if announced.and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > limit as u64) {
            let _ = tokio::time::timeout(time, discard(&mut body)).await;
            return Err(too_long());
        }
        match tokio::time::timeout(time, Limited::new(&mut body, limit).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let _ = tokio::time::timeout(time, discard(&mut body)).await;
                Err(too_long())
            }
            Ok(Err(_)) => Err(closing(refuse(StatusCode::BAD_REQUEST, "body_broken", "the body ended early"))),
            Err(_) => Err(closing(refuse(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body came too slowly"))),
        }
    }
}

/// Reads on and keeps nothing, up to [`DISCARDED_BYTES_MAX`].
async fn discard(body: &mut Incoming) {
    let mut left = DISCARDED_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(bytes) else {
            return;
        };
        left = rest;
    }
}

/// An error in the house's JSON form.
fn refuse(status: StatusCode, name: &str, message: &str) -> Response<Body> {
    let failure = Failure::refused(name, message, "correct the request; see the limits in the bank's configuration");
    respond(status, &failure)
}

fn respond(status: StatusCode, failure: &Failure) -> Response<Body> {
    let text = json!({ "error": failure }).to_string();
    let body = Full::new(Bytes::from(text)).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// Nothing more is read from this connection.
fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}
