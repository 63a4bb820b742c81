//! Asking another party's daemon: JSON over mutual TLS, trusted by that party's root alone.
//!
//! Names are looked up when the client is made: a confined front cannot do it later.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{TlsSigner, client_config};
use crate::ops::failure::Failure;

/// The most of an answer that is read.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// `[peer]`: the other party's daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerSettings {
    /// `https://host:port`
    pub url: String,
    /// For one question and its answer.
    #[serde(default = "timeout_default_ms")]
    pub timeout_ms: u64,
}

fn timeout_default_ms() -> u64 {
    10_000
}

/// What is asked with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    Get,
    Put,
    Post,
    Delete,
}

/// Asks one daemon. Blocking; not to be called on a runtime's own threads.
pub struct PeerClient {
    base: String,
    host: String,
    addresses: Vec<SocketAddr>,
    timeout: Duration,
    /// The calls are blocking for our callers; the connections live here. None only while it is dropped.
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for PeerClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerClient").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Drop for PeerClient {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Where a daemon is: its name was looked up.
#[derive(Clone, Debug)]
pub struct PeerPlace {
    base: String,
    host: String,
    addresses: Vec<SocketAddr>,
    timeout: Duration,
}

impl PeerPlace {
    /// Looks the name up.
    ///
    /// # Errors
    /// `config_invalid`, `peer_unresolvable`
    pub fn find(settings: &PeerSettings) -> Result<Self, Failure> {
        let invalid =
            |why: String| Failure::usage("config_invalid", format!("[peer] url: {why}"), "write https://host:port");
        let url = reqwest::Url::parse(&settings.url).map_err(|error| invalid(error.to_string()))?;
        if url.scheme() != "https" || url.path() != "/" {
            return Err(invalid("it is not https://host:port".into()));
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let looked_up = (host.trim_matches(['[', ']']), port).to_socket_addrs();
        let addresses = looked_up.map(Iterator::collect::<Vec<_>>).map_err(|error| {
            Failure::fault(
                "peer_unresolvable",
                format!("[peer] url: {host} has no address: {error}"),
                "check the name and the resolver; it is looked up once, when the daemon starts",
            )
        })?;
        let base = settings.url.trim_end_matches('/').to_owned();
        Ok(Self { base, host, addresses, timeout: Duration::from_millis(settings.timeout_ms) })
    }
}

impl PeerClient {
    /// Starts the client's own thread. Nothing is sent yet.
    ///
    /// # Errors
    /// `runtime_failed`
    pub fn start(place: PeerPlace) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("peer")
            .enable_all()
            .build()
            .map_err(|error| Failure::fault("runtime_failed", error.to_string(), "check the process limits"))?;
        let PeerPlace { base, host, addresses, timeout } = place;
        Ok(Self { base, host, addresses, timeout, runtime: Some(runtime) })
    }

    /// One question on a connection of its own: the peer's certificate must lie under `root`, ours is `chain`.
    ///
    /// # Errors
    /// `peer_unreachable` when nothing was sent, `peer_answer_unknown` when it may have been heard; the peer's own
    /// failure.
    pub fn ask(
        &self,
        root: &[u8],
        chain: &[Vec<u8>],
        signer: Arc<dyn TlsSigner>,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let config = client_config(chain, signer, root)?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .connect_timeout(self.timeout)
            .timeout(self.timeout)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .resolve_to_addrs(&self.host, &self.addresses)
            .build()
            .map_err(|error| Failure::fault("http_client", error.to_string(), "report this as a defect"))?;
        let url = format!("{}{path}", self.base);
        let request = match method {
            Method::Get => client.get(url),
            Method::Put => client.put(url),
            Method::Post => client.post(url),
            Method::Delete => client.delete(url),
        };
        let request = match body {
            Some(body) => request.header(http::header::CONTENT_TYPE, "application/json").body(body.to_string()),
            None => request,
        };
        let runtime = self.runtime.as_ref().ok_or_else(|| unreachable_("the client has ended"))?;
        let (status, bytes) = runtime.handle().block_on(heard(request))?;
        let answer: Value = serde_json::from_slice(&bytes)
            .map_err(|_| unknown(&format!("it answered {status} with what is not JSON")))?;
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        match serde_json::from_value::<Failure>(answer["error"].clone()) {
            Ok(failure) => Err(Failure { message: format!("the other party: {}", failure.message), ..failure }),
            Err(_) => Err(unknown(&format!("it answered {status}"))),
        }
    }
}

async fn heard(request: reqwest::RequestBuilder) -> Result<(u16, Vec<u8>), Failure> {
    let mut response = match request.send().await {
        Ok(response) => response,
        // Only a connection that was never made proves that the peer saw nothing.
        Err(error) if error.is_connect() => return Err(unreachable_(&cause(&error))),
        Err(error) => return Err(unknown(&cause(&error))),
    };
    let status = response.status().as_u16();
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() <= ANSWER_BYTES_MAX => bytes.extend_from_slice(&chunk),
            Ok(Some(_)) => return Err(unknown("its answer is too long")),
            Ok(None) => return Ok((status, bytes)),
            Err(error) => return Err(unknown(&cause(&error))),
        }
    }
}

fn unreachable_(why: &str) -> Failure {
    Failure::busy(
        "peer_unreachable",
        format!("the other party's daemon cannot be reached: {why}"),
        "check that it is up and that [peer] url is its peer listener, then repeat the command",
    )
}

fn unknown(why: &str) -> Failure {
    Failure::unknown(
        "peer_answer_unknown",
        format!("the other party's daemon was asked, and what it did is not known: {why}"),
        "repeat the command: it asks again under the same id",
    )
}

/// The innermost cause: the outer texts repeat the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
