//! The bridge's HTTP side: each message is one POST, signed with the agent's key (`kernel::httpsig`) over exactly the
//! bytes that are sent, and is sent once.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, StatusCode, header};
use tokio::sync::Semaphore;

use crate::kernel::httpsig::{self, Components, Parameters, SignatureHeaders};
use crate::ops::clock;
use crate::ops::failure::Failure;

/// How long our signatures live.
pub const LIFETIME_S: i64 = 60;

/// Requests that are signed at once; more wait here, so that bridges leave room for each other at the agent host.
const SIGNING_MAX: usize = 48;

const PROTOCOL_VERSION: &str = "mcp-protocol-version";
const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";

/// Signs requests with an agent's key.
pub trait RequestSigner: Send + Sync {
    /// The headers that carry the signature over these values.
    fn sign(&self, components: Components, parameters: Parameters) -> BoxFuture<'_, Result<SignatureHeaders, Failure>>;
}

/// Where the access tokens of requests come from.
pub trait TokenSource: Send + Sync {
    /// A token that lives on for a while; asked for over `http` where there is none.
    fn token<'a>(&'a self, http: &'a reqwest::Client, endpoint: &'a str) -> BoxFuture<'a, Result<Arc<str>, Unsent>>;
    /// The bank does not take this one any more.
    fn refused(&self, token: &str);
}

/// For a request that is signed now: it lives [`LIFETIME_S`], and nobody has met its nonce.
pub fn fresh() -> Parameters {
    let created = clock::now().0.div_euclid(1000);
    let nonce = URL_SAFE_NO_PAD.encode(clock::random::<32>());
    Parameters { created, expires: created + LIFETIME_S, nonce }
}

/// One MCP message, as its headers tell it (MCP 2026-07-28).
#[derive(Clone, Debug)]
pub struct Message {
    pub protocol_version: &'static str,
    pub method: String,
    /// Encoded for a header.
    pub name: Option<String>,
    /// Arguments of a tool that wants them in headers. They say what the body says, and the body is what is signed.
    pub arguments: Vec<(HeaderName, HeaderValue)>,
    pub body: Vec<u8>,
}

/// A pooled HTTP client whose requests are signed.
#[derive(Clone)]
pub struct SignedHttp {
    http: reqwest::Client,
    signer: Arc<dyn RequestSigner>,
    tokens: Arc<dyn TokenSource>,
    signing: Arc<Semaphore>,
}

impl fmt::Debug for SignedHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedHttp").finish_non_exhaustive()
    }
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Unsent {
    #[error("{0}")]
    Http(#[from] reqwest::Error),
    /// While its access token was asked for.
    #[error("{0}")]
    NoToken(reqwest::Error),
    /// Before it was sent.
    #[error("{0}")]
    Failed(Failure),
}

impl SignedHttp {
    pub fn new(http: reqwest::Client, signer: Arc<dyn RequestSigner>, tokens: Arc<dyn TokenSource>) -> Self {
        Self { http, signer, tokens, signing: Arc::new(Semaphore::new(SIGNING_MAX)) }
    }

    /// Sends a message and answers once the answer's head is there. Dropped, it takes the request back as far as it
    /// can.
    pub async fn post(&self, url: &str, message: Message) -> Result<reqwest::Response, Unsent> {
        let token = self.tokens.token(&self.http, url).await?;
        let response = self.sent(url, message.clone(), &token).await?;
        if !is_about_the_token(&response) {
            return Ok(response);
        }
        // Refused before the message was read: it is sent again, once, with a token that is asked for now.
        self.tokens.refused(&token);
        let token = self.tokens.token(&self.http, url).await?;
        self.sent(url, message, &token).await
    }

    async fn sent(&self, url: &str, message: Message, token: &str) -> Result<reqwest::Response, Unsent> {
        let authorization = format!("Bearer {token}");
        let digest = httpsig::content_digest(&message.body);
        let mut request = self
            .http
            .post(url)
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header(header::CONTENT_TYPE, "application/json")
            .header("content-digest", &digest)
            .header(PROTOCOL_VERSION, message.protocol_version)
            .header(METHOD, &message.method)
            .header(header::AUTHORIZATION, &authorization);
        if let Some(name) = &message.name {
            request = request.header(NAME, name);
        }
        for (name, value) in message.arguments {
            request = request.header(name, value);
        }
        let mut request = request.body(message.body).build()?;
        let components = Components {
            method: request.method().as_str().to_owned(),
            target_uri: request.url().as_str().to_owned(),
            content_digest: digest,
            protocol_version: message.protocol_version.to_owned(),
            mcp_method: message.method,
            mcp_name: message.name,
            authorization: Some(authorization),
        };
        let signed = {
            let _turn = self.signing.acquire().await.expect("the semaphore is never closed");
            // The moment is that of signing: what waited is no older for it.
            self.signer.sign(components, fresh()).await
        };
        let signed = signed.map_err(Unsent::Failed)?;
        for (name, value) in [("signature-input", signed.signature_input), ("signature", signed.signature)] {
            let value = HeaderValue::from_str(&value).map_err(|error| {
                Unsent::Failed(Failure::fault("signature_malformed", error.to_string(), "check the agent host"))
            })?;
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        Ok(self.http.execute(request).await?)
    }
}

/// True when the bank refused a request by a rule about its access token (RFC 6750, 3.1).
fn is_about_the_token(response: &reqwest::Response) -> bool {
    let mut challenges = response.headers().get_all(header::WWW_AUTHENTICATE).iter();
    let says_so =
        |challenge: &HeaderValue| challenge.to_str().is_ok_and(|text| text.contains("error=\"invalid_token\""));
    response.status() == StatusCode::UNAUTHORIZED && challenges.any(says_so)
}
