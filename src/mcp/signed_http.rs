//! The bridge's HTTP side: each message is one POST, signed with the agent's key (`kernel::httpsig`) over exactly the
//! bytes that are sent, and is sent once.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::stream::BoxStream;
use http::{HeaderName, HeaderValue, StatusCode, header};
use rmcp::model::{ClientJsonRpcMessage, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use sse_stream::Sse;
use tokio::sync::Semaphore;

use crate::kernel::httpsig::{self, Components, Parameters, SignatureHeaders};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::tls::asking;

/// How long our signatures live.
pub const LIFETIME_S: i64 = 60;

/// Requests that are signed at once; more wait here, so that bridges leave room for each other at the agent host.
const SIGNING_MAX: usize = 16;

/// Longer than any answer of the bank.
const ANSWER_BYTES_MAX: usize = 16 << 20;

const PROTOCOL_VERSION: &str = "mcp-protocol-version";
const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";

/// Signs requests with an agent's key. Blocking.
pub trait RequestSigner: Send + Sync {
    /// The headers that carry the signature over these values.
    fn sign(&self, components: Components, parameters: Parameters) -> Result<SignatureHeaders, Failure>;
}

/// For a request that is signed now: it lives [`LIFETIME_S`], and nobody has met its nonce.
pub fn fresh() -> Parameters {
    let created = clock::now().0.div_euclid(1000);
    let nonce = URL_SAFE_NO_PAD.encode(clock::random::<32>());
    Parameters { created, expires: created + LIFETIME_S, nonce }
}

/// A pooled HTTP client whose requests are signed.
#[derive(Clone)]
pub struct SignedHttp {
    http: reqwest::Client,
    signer: Arc<dyn RequestSigner>,
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
    /// Before it was sent; written as the bank writes its refusals.
    #[error("{}", .0.to_json())]
    Failed(Failure),
}

type Wrong = StreamableHttpError<Unsent>;

impl SignedHttp {
    pub fn new(http: reqwest::Client, signer: Arc<dyn RequestSigner>) -> Self {
        Self { http, signer, signing: Arc::new(Semaphore::new(SIGNING_MAX)) }
    }

    /// The request of this message, signed.
    async fn request(
        &self,
        url: &str,
        message: &ClientJsonRpcMessage,
        token: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<reqwest::Request, Wrong> {
        let body = serde_json::to_vec(message)?;
        let digest = httpsig::content_digest(&body);
        let mut request = self
            .http
            .post(url)
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header(header::CONTENT_TYPE, "application/json")
            .header("content-digest", &digest);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut request = request.body(body).build().map_err(Unsent::from).map_err(Wrong::Client)?;
        let said = |name: &str| {
            let value = request.headers().get(name).and_then(|value| value.to_str().ok());
            value.map(str::to_owned)
        };
        let components = Components {
            method: request.method().as_str().to_owned(),
            target_uri: request.url().as_str().to_owned(),
            content_digest: digest,
            protocol_version: said(PROTOCOL_VERSION).unwrap_or_default(),
            mcp_method: said(METHOD).unwrap_or_default(),
            mcp_name: said(NAME),
            authorization: said(header::AUTHORIZATION.as_str()),
        };
        let turn = Arc::clone(&self.signing).acquire_owned().await.expect("the semaphore is never closed");
        let signer = Arc::clone(&self.signer);
        // The moment is that of signing: what waited is no older for it.
        let signed = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            signer.sign(components, fresh())
        });
        let signed = signed.await?;
        let signed = signed.map_err(|failure| Wrong::Client(Unsent::Failed(failure)))?;
        for (name, value) in [("signature-input", signed.signature_input), ("signature", signed.signature)] {
            let value = HeaderValue::from_str(&value).map_err(|error| {
                let failure = Failure::fault("signature_malformed", error.to_string(), "check the agent host");
                Wrong::Client(Unsent::Failed(failure))
            })?;
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        Ok(request)
    }
}

impl StreamableHttpClient for SignedHttp {
    type Error = Unsent;

    async fn post_message(
        &self,
        url: Arc<str>,
        message: ClientJsonRpcMessage,
        _: Option<Arc<str>>,
        token: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Wrong> {
        let request = self.request(&url, &message, token, headers).await?;
        let response = self.http.execute(request).await.map_err(Unsent::from).map_err(Wrong::Client)?;
        let status = response.status();
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        // An answer that ends early is an answer that was lost: whatever the status, nothing is known of the call.
        let body = asking::body(response, ANSWER_BYTES_MAX).await;
        let body = body.map_err(|cause| Wrong::UnexpectedServerResponse(format!("no whole answer: {cause}").into()))?;
        let read: Result<ServerJsonRpcMessage, _> = serde_json::from_slice(&body);
        match read {
            Ok(message) if status.is_success() => Ok(StreamableHttpPostResponse::Json(message, None)),
            // MCP's own refusals come with a status and an answer to the message.
            Ok(message @ JsonRpcMessage::Error(_)) => Ok(StreamableHttpPostResponse::Json(message, None)),
            Ok(_) | Err(_) => {
                let text = String::from_utf8_lossy(&body);
                Err(Wrong::UnexpectedServerResponse(format!("HTTP {status}: {text}").into()))
            }
        }
    }

    async fn delete_session(
        &self,
        _: Arc<str>,
        _: Arc<str>,
        _: Option<String>,
        _: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Wrong> {
        Err(Wrong::ServerDoesNotSupportDeleteSession)
    }

    async fn get_stream(
        &self,
        _: Arc<str>,
        _: Option<Arc<str>>,
        _: Option<String>,
        _: Option<String>,
        _: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Wrong> {
        Err(Wrong::ServerDoesNotSupportSse)
    }
}
