//! The bridge's access token: asked for over its own connections, renewed before it ends, one request for a crowd.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use http::{StatusCode, header};
use serde::Deserialize;

use crate::mcp::signed_http::{TokenSource, Unsent};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::tls::asking;

/// A token is renewed when so many hundredths of its life are over.
const RENEWAL_PERCENT: i64 = 80;

/// Longer than any answer of a token endpoint.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Milliseconds that have passed, also while a machine sleeps.
pub type BootClock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The token of one dial: bound to the certificate of its connections.
pub struct BoundToken {
    clock: BootClock,
    /// The lock guards the token only.
    held: Mutex<Option<Held>>,
    /// Whoever asks for the next token holds it.
    asking: tokio::sync::Mutex<()>,
}

/// Times are those of the clock.
#[derive(Clone)]
struct Held {
    token: Arc<str>,
    renew_at_ms: i64,
    ends_at_ms: i64,
}

impl Held {
    fn new(token: Arc<str>, asked_at_ms: i64, life_s: i64) -> Self {
        let life_ms = life_s.saturating_mul(1000);
        let renew_at_ms = asked_at_ms.saturating_add(life_ms.saturating_mul(RENEWAL_PERCENT) / 100);
        Self { token, renew_at_ms, ends_at_ms: asked_at_ms.saturating_add(life_ms) }
    }
}

/// What a token endpoint grants (RFC 6749, 5.1).
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: i64,
}

/// What it says instead: an error of OAuth, or the bank's own.
#[derive(Deserialize)]
struct Refused {
    error: String,
    #[serde(default)]
    error_description: String,
}

#[derive(Deserialize)]
struct Failed {
    error: Failure,
}

impl Default for BoundToken {
    fn default() -> Self {
        Self::by(Arc::new(clock::boot_ms))
    }
}

impl fmt::Debug for BoundToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundToken").finish_non_exhaustive()
    }
}

impl BoundToken {
    /// None is there yet; how old it is, `clock` says.
    pub fn by(clock: BootClock) -> Self {
        Self { clock, held: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    fn held(&self) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn current(&self, http: &reqwest::Client, endpoint: &str) -> Result<Arc<str>, Unsent> {
        let now = (self.clock)();
        let lives = |held: &Held| now < held.ends_at_ms;
        if let Some(held) = self.held().filter(lives) {
            let _turn = match self.asking.try_lock() {
                Ok(turn) if now >= held.renew_at_ms => turn,
                // Fresh, or somebody renews it already: it is still good.
                Ok(_) | Err(_) => return Ok(held.token),
            };
            return Ok(match self.ask(http, endpoint).await {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(%error, "the access token will be renewed at the next call");
                    held.token
                }
            });
        }
        let _turn = self.asking.lock().await;
        // Who waited for its turn finds what the one before it got.
        match self.held().filter(|held| (self.clock)() < held.ends_at_ms) {
            Some(held) => Ok(held.token),
            None => self.ask(http, endpoint).await,
        }
    }

    /// Asks the bank for a token with all tools of the agent's role. Its life is counted from before it was asked for.
    async fn ask(&self, http: &reqwest::Client, endpoint: &str) -> Result<Arc<str>, Unsent> {
        let asked_at_ms = (self.clock)();
        let request = http
            .post(format!("{}/oauth/token", endpoint.strip_suffix("/mcp").unwrap_or(endpoint)))
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form(endpoint));
        let response = request.send().await.map_err(Unsent::NoToken)?;
        let status = response.status();
        let body = asking::body(response, ANSWER_BYTES_MAX).await;
        let body = body.map_err(|cause| Unsent::Failed(unanswered(&cause)))?;
        let granted = granted(status, &body).map_err(Unsent::Failed)?;
        let held = Held::new(granted.access_token.into(), asked_at_ms, granted.expires_in);
        let token = Arc::clone(&held.token);
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        Ok(token)
    }
}

fn form(endpoint: &str) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials").append_pair("resource", endpoint);
    form.finish()
}

fn granted(status: StatusCode, body: &[u8]) -> Result<Granted, Failure> {
    if status.is_success() {
        return serde_json::from_slice(body).map_err(|_| unanswered("its answer is none of OAuth's"));
    }
    if let Ok(Failed { error }) = serde_json::from_slice(body) {
        return Err(error);
    }
    match serde_json::from_slice(body) {
        Ok(Refused { error, error_description }) if is_for_a_moment(status) => Err(Failure::busy(
            "token_unavailable",
            format!("the bank gives this agent no access token now: {error}: {error_description}"),
            "try again in a moment",
        )),
        Ok(Refused { error, error_description }) => Err(Failure::refused(
            "token_refused",
            format!("the bank gives this agent no access token: {error}: {error_description}"),
            "ask the bank which tools the agent's role has",
        )),
        Err(_) => Err(unanswered(&format!("HTTP {status}"))),
    }
}

/// The bank says: not now.
fn is_for_a_moment(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// The call that needed the token was not sent.
fn unanswered(cause: &str) -> Failure {
    Failure::busy(
        "token_unanswered",
        format!("the bank did not answer the request for an access token: {cause}"),
        "try again in a moment",
    )
}

impl TokenSource for BoundToken {
    fn token<'a>(&'a self, http: &'a reqwest::Client, endpoint: &'a str) -> BoxFuture<'a, Result<Arc<str>, Unsent>> {
        Box::pin(self.current(http, endpoint))
    }

    fn refused(&self, token: &str) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // Another call may have got a new one already: that one stays.
        held.take_if(|held| &*held.token == token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_at_four_fifths_of_its_life() {
        let held = Held::new("a".into(), 1_000, 300);
        assert_eq!((held.renew_at_ms, held.ends_at_ms), (241_000, 301_000));
    }

    #[test]
    fn answers_of_token_endpoints_are_told_apart() {
        let name = |status: StatusCode, body: &str| granted(status, body.as_bytes()).map_err(|failure| failure.name);
        let good = name(StatusCode::OK, r#"{"access_token":"a.b.c","token_type":"Bearer","expires_in":300}"#).ok();
        assert_eq!(good.map(|granted| (granted.access_token, granted.expires_in)), Some(("a.b.c".into(), 300)));
        let own = Failure::refused("host_not_allowed", "no", "correct it").to_json().to_string();
        for (status, body, expected) in [
            (StatusCode::OK, "<html>", "token_unanswered"),
            (StatusCode::BAD_GATEWAY, "<html>", "token_unanswered"),
            (StatusCode::BAD_REQUEST, r#"{"error":"invalid_scope"}"#, "token_refused"),
            (StatusCode::TOO_MANY_REQUESTS, r#"{"error":"slow_down"}"#, "token_unavailable"),
            (StatusCode::SERVICE_UNAVAILABLE, r#"{"error":"temporarily_unavailable"}"#, "token_unavailable"),
            (StatusCode::FORBIDDEN, &own, "host_not_allowed"),
        ] {
            assert_eq!(name(status, body).err().as_deref(), Some(expected), "{body}");
        }
    }
}
