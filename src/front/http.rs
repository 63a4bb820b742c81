//! The strict HTTP edge: what a request must be before MCP sees it. Each refusal names its rule.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Incoming};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::front::envelope;
use crate::front::nonces::{NotFresh, ReadNonces};
use crate::front::oauth::{self, AuthorizationServer, Door, Site, TokenGate};
use crate::front::rates::{Rates, SharedTurns, TooOften};
use crate::front::settings::LimitSettings;
use crate::front::tokens::AccessTokens;
use crate::kernel::credential::pair::VerifiedAgent;
use crate::kernel::httpsig::{self, SignatureRefusal, SignedRequest, VerifiedRequest, Window};
use crate::kernel::json::{self, JsonRefused};
use crate::kernel::jwt::TokenRefusal;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::UnixMillis;
use crate::mcp::server::{Endpoint, RawCall, SingleUse};
use crate::ops::clock;
use crate::ops::failure::{Failure, MayHaveHappened};
use crate::tls::PairGate;

/// Of a body that is too long, this much is read and dropped before the refusal; then the connection is closed.
const DISCARDED_BYTES_MAX: usize = 16 << 20;

/// An answer's body.
pub type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// What an edge is made of.
pub struct EdgeSetup {
    pub endpoint: Endpoint,
    pub pair_gate: Arc<dyn PairGate>,
    pub token_gate: Arc<dyn TokenGate>,
    /// Names under which the bank is reached.
    pub hosts: Vec<String>,
    pub limits: LimitSettings,
    /// Where limits are counted that daemons share.
    pub turns: Arc<dyn SharedTurns>,
    /// When this daemon began.
    pub began: UnixMillis,
}

/// Everything between a decrypted request and the MCP endpoint.
pub struct Edge {
    endpoint: Endpoint,
    gate: Arc<dyn PairGate>,
    hosts: Vec<String>,
    limits: LimitSettings,
    rates: Rates,
    reads: ReadNonces,
    tokens: AccessTokens,
    issuer: AuthorizationServer,
    /// One for each request that is being answered.
    turns: Semaphore,
}

impl Edge {
    pub fn new(setup: EdgeSetup) -> Self {
        let EdgeSetup { endpoint, pair_gate: gate, token_gate, hosts, limits, turns, began } = setup;
        Self {
            endpoint,
            gate,
            hosts,
            rates: Rates::new(&limits.rates, turns),
            reads: ReadNonces::new(seconds(began), limits.read_nonces_of_one_max, limits.read_nonces_max),
            tokens: AccessTokens::new(Arc::clone(&token_gate), limits.tokens_remembered_max),
            issuer: AuthorizationServer::new(token_gate, &limits),
            turns: Semaphore::new(usize::try_from(limits.requests_max).unwrap_or(Semaphore::MAX_PERMITS)),
            limits,
        }
    }

    /// Answers one request of an accepted agent; the agent is judged again first.
    pub async fn answer(&self, agent: Arc<VerifiedAgent>, request: Request<Incoming>) -> Response<Body> {
        let door = Door::of(request.uri().path());
        if let Err(name) = self.gate.still_acceptable(&agent) {
            return closing(kept_by_nobody(
                door,
                refuse(StatusCode::FORBIDDEN, name, "the agent may not be served any more"),
            ));
        }
        let Ok(_turn) = self.turns.try_acquire() else {
            return self.busy(door, "too_many_requests", "the bank answers as many requests at once as it can");
        };
        let limit = Duration::from_millis(self.limits.request_timeout_ms);
        let response = match tokio::time::timeout(limit, self.admit(agent, door, request)).await {
            Ok(Ok(response) | Err(response)) => response,
            Err(_) => respond(
                StatusCode::GATEWAY_TIMEOUT,
                &Failure::unknown(
                    "request_timeout",
                    "no answer in time: what was asked may have happened",
                    "repeat with the same idempotency key",
                ),
            ),
        };
        kept_by_nobody(door, response)
    }

    /// Answers whatever is asked on a connection that its agent has beyond those that it may have.
    pub fn crowded(&self, request: &Request<Incoming>) -> Response<Body> {
        let door = Door::of(request.uri().path());
        closing(self.busy(door, "too_many_connections_of_one", "this agent has as many connections as it may"))
    }

    async fn admit(
        &self,
        agent: Arc<VerifiedAgent>,
        door: Option<Door>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Response<Body>> {
        let (parts, body) = request.into_parts();
        let door = door.ok_or_else(|| {
            refuse(StatusCode::NOT_FOUND, "unknown_path", "only /mcp and what belongs to it is served")
        })?;
        if parts.method != door.method() {
            let words = "MCP 2026-07-28 is spoken with POST, documents are fetched with GET";
            let mut refused = refuse(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", words);
            let allowed = HeaderValue::from_str(door.method().as_str()).expect("a method is a header value");
            refused.headers_mut().insert(header::ALLOW, allowed);
            return Err(refused);
        }
        if parts.uri.authority().is_some() {
            return Err(refuse(StatusCode::BAD_REQUEST, "target_malformed", "the request line has the path alone"));
        }
        let site = self.site(&parts).map_err(|(status, name, why)| refuse(status, name, why))?;
        match door {
            Door::Mcp => {
                let body = self.read(&parts, body).await?;
                self.call(agent, &site, parts, body).await
            }
            Door::Token => {
                let body = self.read(&parts, body).await?;
                let issued = self.issuer.issue(&agent, &site, &parts, &body).await;
                issued.map_err(|failure| self.not_issued(&failure))
            }
            Door::Shown(document) => Ok(self.issuer.show(document, &site)),
        }
    }

    /// Under which name the request came. A page in a browser has no business here, whatever its name.
    fn site(&self, parts: &Parts) -> Result<Site, (StatusCode, &'static str, &'static str)> {
        if parts.headers.contains_key(header::ORIGIN) {
            return Err((StatusCode::FORBIDDEN, "origin_not_allowed", "requests of web pages are not answered"));
        }
        let mut hosts = parts.headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err((StatusCode::BAD_REQUEST, "host_malformed", "a request has one Host header"));
        };
        let site = host.to_str().ok().and_then(|host| Site::of(host, &self.hosts));
        site.ok_or((StatusCode::FORBIDDEN, "host_not_allowed", "Host is no name of this bank"))
    }

    /// Answers a message of MCP: signed by the agent, with a token of its own, read by everybody alike.
    async fn call(
        &self,
        agent: Arc<VerifiedAgent>,
        site: &Site,
        mut parts: Parts,
        body: Bytes,
    ) -> Result<Response<Body>, Response<Body>> {
        let verified = self
            .verify(&agent, &parts, &body)
            .map_err(|refusal| self.unsigned(site, refusal.name(), refusal.sentence()))?;
        let authorization = parts.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let access = self
            .tokens
            .take(authorization, site, &agent, clock::now())
            .map_err(|refusal| self.unauthorized(site, refusal))?;
        let malformed = |name: &str, message: &str| refuse(StatusCode::BAD_REQUEST, name, message);
        let refused = |refused: JsonRefused| malformed(refused.name(), &refused.to_string());
        json::check(&body, self.limits.body_bytes_max, self.limits.json_depth_max).map_err(refused)?;
        json::check_numbers(&body).map_err(refused)?;
        envelope::check(&body).map_err(|unknown| malformed("json_unknown_member", &unknown.to_string()))?;
        let call = RawCall::read(&body).map_err(refused)?;
        let taken = self.rates.take(agent.spiffe_id(), call.tool()).await;
        taken.map_err(|too_often| self.too_often(too_often))?;
        let single_use = self.endpoint.acts(&call).then(|| SingleUse::new(verified.once()));
        if single_use.is_none() {
            let taken = self.reads.take(agent.key(), &verified, seconds(clock::now()));
            taken.map_err(|refused| self.not_fresh(site, refused))?;
        }
        parts.extensions.insert(agent);
        parts.extensions.insert(access);
        parts.extensions.insert(call);
        if let Some(signature) = verified.signature() {
            parts.extensions.insert(signature.clone());
        }
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
        let target = parts.uri.path_and_query().map_or(Door::Mcp.path(), |target| target.as_str());
        let request = SignedRequest { method: parts.method.as_str(), target, headers: &headers, body };
        let window = Window {
            now: clock::now(),
            lifetime_max_s: i64::from(self.limits.signature_age_max_s),
            skew_max_s: i64::from(self.limits.signature_skew_max_s),
        };
        httpsig::verify(&request, agent.spki(), &window)
    }

    /// The answer to a request that its agent did not sign so. Says what has to be signed (RFC 9421, 5.1).
    fn unsigned(&self, site: &Site, name: &'static str, message: &str) -> Response<Body> {
        self.gate.count_refusal(name);
        let next_step = "connect with `countersign connect`, or sign as docs/SIGNING.md says";
        let mut response = respond(StatusCode::UNAUTHORIZED, &Failure::refused(name, message, next_step));
        let headers = response.headers_mut();
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Signature"));
        headers.append(header::WWW_AUTHENTICATE, challenge(site, None));
        let wanted = HeaderValue::from_static(httpsig::ACCEPT_SIGNATURE);
        headers.insert(HeaderName::from_static("accept-signature"), wanted);
        response
    }

    /// The answer to a request without a token that counts here. Says where to get one (RFC 6750, 3; RFC 9728, 5.1).
    fn unauthorized(&self, site: &Site, refusal: TokenRefusal) -> Response<Body> {
        self.gate.count_refusal(refusal.name());
        let next_step = "ask /oauth/token on this connection for another one, or connect with `countersign connect`";
        let failure = Failure::refused(refusal.name(), refusal.to_string(), next_step);
        let mut response = respond(StatusCode::UNAUTHORIZED, &failure);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge(site, Some(refusal)));
        response
    }

    /// The answer to a request for a token that could not be decided about.
    fn not_issued(&self, failure: &Failure) -> Response<Body> {
        let Failure { name, message, .. } = failure;
        if name == "too_many_tokens" {
            return self.busy(Some(Door::Token), "too_many_tokens", message);
        }
        tracing::warn!(%name, %message, "a request for a token failed");
        let description = format!("{name}: the bank cannot issue tokens now; try again in a moment");
        again_soon(oauth::refusal(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", &description))
    }

    /// The answer to more than there is room for, as who asks at this door reads answers.
    fn busy(&self, door: Option<Door>, name: &'static str, message: &str) -> Response<Body> {
        self.gate.count_refusal(name);
        let next_step = "ask less often, and try again in a moment";
        let response = match door {
            // The one error that means this at a token endpoint (RFC 8628, 3.5).
            Some(Door::Token) => {
                let description = format!("{name}: {message}; {next_step}");
                oauth::refusal(StatusCode::TOO_MANY_REQUESTS, "slow_down", &description)
            }
            Some(Door::Mcp | Door::Shown(_)) | None => {
                respond(StatusCode::TOO_MANY_REQUESTS, &Failure::busy(name, message, next_step))
            }
        };
        kept_by_nobody(door, again_soon(response))
    }

    /// The answer to an agent that asks more often than a limit of `[listen.limits.rates]` lets it.
    fn too_often(&self, refused: TooOften) -> Response<Body> {
        self.gate.count_refusal(refused.name);
        let (wait_ms, wait_s) = (refused.wait_ms(), refused.retry_after_s());
        let failure = Failure::busy(refused.name, refused.message, format!("try again in {wait_ms} ms"));
        let mut told = json!({ "error": failure });
        told["error"]["retry_after_ms"] = json!(wait_ms);
        let mut response = respond_with(StatusCode::TOO_MANY_REQUESTS, &told);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait_s));
        response
    }

    /// The answer to a read that cannot be known to be the first of its kind.
    fn not_fresh(&self, site: &Site, refused: NotFresh) -> Response<Body> {
        match refused {
            NotFresh::Replayed => self.replayed(),
            NotFresh::TooOld => {
                self.unsigned(site, "signature_too_old", "the request was signed before the bank's daemon began")
            }
            NotFresh::Full => {
                self.busy(Some(Door::Mcp), "too_many_reads", "more reads in a minute than the bank remembers")
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

/// What a client without a token that counts is told.
fn challenge(site: &Site, refusal: Option<TokenRefusal>) -> HeaderValue {
    let metadata = format!("resource_metadata=\"{}\"", site.resource_metadata());
    let said = match refusal {
        // RFC 6750, 3.1: who sent none, or in a scheme that is none of ours, learns no error.
        None | Some(TokenRefusal::Missing | TokenRefusal::Scheme) => format!("Bearer {metadata}"),
        Some(refusal) => format!("Bearer error=\"invalid_token\", error_description=\"{refusal}\", {metadata}"),
    };
    HeaderValue::from_str(&said).expect("a site and a refusal are printable ASCII without quotes")
}

/// What a token endpoint answers is kept by nobody on its way (RFC 6749, 5.1 and 5.2).
fn kept_by_nobody(door: Option<Door>, mut response: Response<Body>) -> Response<Body> {
    if door == Some(Door::Token) {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

fn again_soon(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn seconds(at: UnixMillis) -> i64 {
    at.0.div_euclid(1000)
}

fn respond(status: StatusCode, failure: &Failure) -> Response<Body> {
    respond_with(status, &json!({ "error": failure }))
}

fn respond_with(status: StatusCode, told: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(told.to_string())).boxed_unsync();
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
