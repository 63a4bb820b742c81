//! The strict HTTP edge: what a request must be before MCP sees it. Each refusal names its rule.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Incoming};
use serde_json::json;

use crate::front::nonces::{NotFresh, ReadNonces};
use crate::front::settings::LimitSettings;
use crate::kernel::credential::pair::VerifiedAgent;
use crate::kernel::httpsig::{self, SignatureRefusal, SignedRequest, VerifiedRequest, Window};
use crate::kernel::json::{self, JsonRefused};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::UnixMillis;
use crate::mcp::server::{Endpoint, RawCall, SingleUse};
use crate::ops::clock;
use crate::ops::failure::{Failure, MayHaveHappened};
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
    reads: ReadNonces,
}

impl Edge {
    /// An edge of a daemon that began then.
    pub fn new(endpoint: Endpoint, gate: Arc<dyn PairGate>, limits: LimitSettings, began: UnixMillis) -> Self {
        let reads = ReadNonces::new(seconds(began), limits.read_nonces_of_one_max, limits.read_nonces_max);
        Self { endpoint, gate, limits, reads }
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
        if parts.uri.authority().is_some() {
            return Err(refuse(StatusCode::BAD_REQUEST, "target_malformed", "the request line has the path alone"));
        }
        let body = self.read(&parts, body).await?;
        let verified =
            self.verify(&agent, &parts, &body).map_err(|refusal| self.unsigned(refusal.name(), refusal.sentence()))?;
        if let Err(refused) = json::check(&body, self.limits.body_bytes_max, self.limits.json_depth_max) {
            return Err(refuse(StatusCode::BAD_REQUEST, refused.name(), &refused.to_string()));
        }
        let call = RawCall::read(&body)
            .map_err(|refused: JsonRefused| refuse(StatusCode::BAD_REQUEST, refused.name(), &refused.to_string()))?;
        let single_use = self.endpoint.acts(&call).then(|| SingleUse::new(verified.once()));
        if single_use.is_none() {
            let taken = self.reads.take(agent.key(), &verified, seconds(clock::now()));
            taken.map_err(|refused| self.not_fresh(refused))?;
        }
        parts.extensions.insert(agent);
        parts.extensions.insert(call);
        if let Some(single_use) = single_use.clone() {
            parts.extensions.insert(single_use);
        }
        let response = self.endpoint.answer(Request::from_parts(parts, Full::new(body))).await;
        if single_use.is_some_and(|single_use| single_use.was_replayed()) {
            return Err(self.replayed());
        }
        Ok(response)
    }

    /// The request as its agent signed it: by the key of this connection's certificates, whatever it says itself.
    fn verify(&self, agent: &VerifiedAgent, parts: &Parts, body: &Bytes) -> Result<VerifiedRequest, SignatureRefusal> {
        let headers: Vec<(&str, &[u8])> =
            parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let target = parts.uri.path_and_query().map_or(PATH, |target| target.as_str());
        let request = SignedRequest { method: parts.method.as_str(), target, headers: &headers, body };
        let window = Window {
            now: clock::now(),
            lifetime_max_s: i64::from(self.limits.signature_age_max_s),
            skew_max_s: i64::from(self.limits.signature_skew_max_s),
        };
        httpsig::verify(&request, agent.spki(), &window)
    }

    /// The answer to a request that its agent did not sign so. Says what has to be signed (RFC 9421, 5.1).
    fn unsigned(&self, name: &'static str, message: &str) -> Response<Body> {
        self.gate.count_refusal(name);
        let next_step = "connect with `countersign connect`, or sign as docs/SIGNING.md says";
        let mut response = respond(StatusCode::UNAUTHORIZED, &Failure::refused(name, message, next_step));
        let headers = response.headers_mut();
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Signature"));
        let wanted = HeaderValue::from_static(httpsig::ACCEPT_SIGNATURE);
        headers.insert(HeaderName::from_static("accept-signature"), wanted);
        response
    }

    /// The answer to a read that cannot be known to be the first of its kind.
    fn not_fresh(&self, refused: NotFresh) -> Response<Body> {
        match refused {
            NotFresh::Replayed => self.replayed(),
            NotFresh::TooOld => {
                self.unsigned("signature_too_old", "the request was signed before the bank's daemon began")
            }
            NotFresh::Full => {
                let (name, message) = ("too_many_reads", "more reads in a minute than the bank remembers");
                self.gate.count_refusal(name);
                let failure = Failure::busy(name, message, "ask less often, and try again in a moment");
                let mut response = respond(StatusCode::TOO_MANY_REQUESTS, &failure);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                response
            }
        }
    }

    fn replayed(&self) -> Response<Body> {
        let refusal = Refusal::NonceReplayed;
        self.gate.count_refusal(refusal.name());
        let failure = Failure::refused(refusal.name(), refusal.message(), refusal.next_step());
        // Not now; but what it asked for the first time may well have.
        respond(StatusCode::CONFLICT, &Failure { may_have_happened: MayHaveHappened::Unknown, ..failure })
    }

    /// Reads the body, at most the limit and within the time. Of a longer one nothing is kept; its sender is let
    /// finish within bounds, because many clients read no answer before.
    async fn read(&self, parts: &Parts, mut body: Incoming) -> Result<Bytes, Response<Body>> {
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

fn seconds(at: UnixMillis) -> i64 {
    at.0.div_euclid(1000)
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
