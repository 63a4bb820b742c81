//! Asking another party's daemon: JSON over mutual TLS, trusted by that party's root alone.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rustls::{CertificateError, ClientConfig};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::asking::{self, Place, Unresolved, cause};
use super::{TlsSigner, client_config};
use crate::ops::failure::Failure;

/// The most of an answer that is read: a revocation list as PEM, and a little more.
const ANSWER_BYTES_MAX: usize = 24 * 1024 * 1024;
/// What every peer may ask for.
const API_PATH: &str = "/v1/openapi.json";
/// What another party says of a failure is told on to people and kept in leaves: names and texts are short.
const NAME_BYTES_MAX: usize = 64;
const TEXT_CHARS_MAX: usize = 500;

/// The other party's daemon, as whoever asks it sees it. Blocking; not to be called on a runtime's own threads.
pub trait Peer: Send + Sync {
    /// One question: the peer's certificate must lie under `root`, ours is `chain`.
    ///
    /// # Errors
    /// `peer_not_recognised` when somebody else answers, `peer_unreachable` when nothing was sent, `peer_answer_unknown`
    /// when it may have been heard; the peer's own failure.
    fn ask(
        &self,
        root: &[u8],
        chain: &[Vec<u8>],
        signer: Arc<dyn TlsSigner>,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure>;

    /// Whether it answers us at all, asked for what it answers everybody that it knows; not waited for longer than
    /// `within`.
    ///
    /// # Errors
    /// As [`Self::ask`].
    fn answers(
        &self,
        root: &[u8],
        chain: &[Vec<u8>],
        signer: Arc<dyn TlsSigner>,
        within: Duration,
    ) -> Result<(), Failure>;
}

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

/// Asks one daemon. Blocking; not to be called on a runtime's own threads.
pub struct PeerClient {
    place: PeerPlace,
    /// The calls are blocking for our callers; the connections live here. None only while it is dropped.
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for PeerClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerClient").field("place", &self.place).finish_non_exhaustive()
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
    place: Place,
    timeout: Duration,
}

impl PeerSettings {
    /// What is wrong with the section, in words.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self) -> Result<(), String> {
        self.place().map(drop)?;
        if !(100..=60_000).contains(&self.timeout_ms) {
            return Err("peer timeout_ms must be 100 to 60000".into());
        }
        Ok(())
    }

    fn place(&self) -> Result<reqwest::Url, String> {
        let url = reqwest::Url::parse(&self.url).map_err(|error| format!("[peer] url: {error}"))?;
        if url.scheme() != "https" || url.path() != "/" || url.query().is_some() || !url.username().is_empty() {
            return Err("[peer] url: it is not https://host:port".into());
        }
        Ok(url)
    }
}

impl PeerPlace {
    /// Looks the name up.
    ///
    /// # Errors
    /// `config_invalid`, `peer_unresolvable`
    pub fn find(settings: &PeerSettings, unresolved: Unresolved) -> Result<Self, Failure> {
        let invalid = |why: String| Failure::usage("config_invalid", why, "write https://host:port");
        let url = settings.place().map_err(invalid)?;
        let place = Place::find(&url, "[peer] url", "peer_unresolvable", unresolved)?;
        Ok(Self { place, timeout: Duration::from_millis(settings.timeout_ms) })
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
        Ok(Self { place, runtime: Some(runtime) })
    }
}

/// Each question has a connection of its own.
impl Peer for PeerClient {
    fn ask(
        &self,
        root: &[u8],
        chain: &[Vec<u8>],
        signer: Arc<dyn TlsSigner>,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        self.answered(client_config(chain, signer, root)?, self.place.timeout, method, path, body)
    }

    fn answers(
        &self,
        root: &[u8],
        chain: &[Vec<u8>],
        signer: Arc<dyn TlsSigner>,
        within: Duration,
    ) -> Result<(), Failure> {
        let within = within.min(self.place.timeout);
        self.answered(client_config(chain, signer, root)?, within, Method::GET, API_PATH, None).map(drop)
    }
}

impl PeerClient {
    fn answered(
        &self,
        config: ClientConfig,
        within: Duration,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let place = &self.place.place;
        let request = place.client(config, within)?.request(method, format!("{}{path}", place.base()));
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
        Err(told(&answer).unwrap_or_else(|| unknown(&format!("it answered {status}"))))
    }
}

async fn heard(request: reqwest::RequestBuilder) -> Result<(u16, Vec<u8>), Failure> {
    let response = match request.send().await {
        Ok(response) => response,
        // Only a connection that was never made proves that the peer saw nothing.
        Err(error) if error.is_connect() => {
            return Err(stranger(&error).unwrap_or_else(|| unreachable_(&cause(&error))));
        }
        Err(error) => return Err(unknown(&cause(&error))),
    };
    let status = response.status().as_u16();
    let bytes = asking::body(response, ANSWER_BYTES_MAX).await.map_err(|why| unknown(&why))?;
    Ok((status, bytes))
}

/// The other party's failure as far as it can be told on: its word is data, not ours.
fn told(answer: &Value) -> Option<Failure> {
    let failure = serde_json::from_value::<Failure>(answer["error"].clone()).ok()?;
    let of_a_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if failure.name.is_empty() || failure.name.len() > NAME_BYTES_MAX || !failure.name.bytes().all(of_a_name) {
        return None;
    }
    let readable = |text: &str| -> String {
        text.chars().filter(|character| !character.is_control()).take(TEXT_CHARS_MAX).collect()
    };
    let message = format!("the other party: {}", readable(&failure.message));
    Some(Failure { message, next_step: readable(&failure.next_step), request_id: None, ..failure })
}

/// Who answered there is not the party that is trusted here, by the certificate: asking again finds the same. `None`: no
/// certificate was the reason.
fn stranger(error: &(dyn std::error::Error + 'static)) -> Option<Failure> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
            return Some(not_recognised(why));
        }
        // What a stream's error holds is not its source: the source of that is.
        let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match held {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}

fn not_recognised(why: &CertificateError) -> Failure {
    let (found, next_step) = match why {
        CertificateError::NotValidForNameContext { expected, presented } => (
            format!("its certificate is for {}, expected was {}", names(presented), expected.to_str()),
            "put a name of its certificate into [peer] url, or that name into its [pki] tls_names and run `countersign init` \
             there",
        ),
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            "its certificate is not by the root that is trusted here for the other party".to_owned(),
            "check that [peer] url leads to the other party's [listen] peer; `countersign trust add` if its root is another \
             one",
        ),
        // Revoked, expired, of another use: rustls has many more, and says each in words.
        other => {
            (format!("its certificate is not acceptable: {other}"), "have the other party renew it: `countersign init`")
        }
    };
    Failure::refused("peer_not_recognised", format!("who answers at [peer] url is not recognised: {found}"), next_step)
}

/// Names as people write them: the library shows `DnsName("localhost")`.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        inner.trim_matches('"').to_owned()
    };
    if presented.is_empty() { "no name".to_owned() } else { presented.iter().map(bare).collect::<Vec<_>>().join(", ") }
}

fn unreachable_(why: &str) -> Failure {
    Failure::busy(
        "peer_unreachable",
        format!("the other party's daemon cannot be reached: {why}"),
        "check that it is up and that [peer] url is its [listen] peer, by a name of its [pki] tls_names; then repeat",
    )
}

fn unknown(why: &str) -> Failure {
    Failure::unknown(
        "peer_answer_unknown",
        format!("the other party's daemon was asked, and what it did is not known: {why}"),
        "repeat the command: it asks again under the same id",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ops::failure::Kind;

    /// A server of this name under a root of its own, asked under the name in `url` by who trusts `root`, or that root.
    fn asked(certified: &str, name: &str, trusted: Option<&rcgen::Certificate>) -> Failure {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let [root_key, key] = [(); 2].map(|()| rcgen::KeyPair::generate().unwrap());
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = params.self_signed(&root_key).unwrap();
        let issuer = rcgen::Issuer::new(params, root_key);
        let leaf = rcgen::CertificateParams::new(vec![certified.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let config = Arc::new(config.with_single_cert(vec![leaf.der().clone()], private).unwrap());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut connection = rustls::ServerConnection::new(config).unwrap();
            // It ends when the client does.
            while connection.complete_io(&mut stream).is_ok_and(|(read, _)| read > 0) {}
        });
        let settings = PeerSettings { url: format!("https://{name}:{port}"), timeout_ms: 5_000 };
        let client = PeerClient::start(PeerPlace::find(&settings, Unresolved::Refused).unwrap()).unwrap();
        let config = crate::tls::asking_config(Some(trusted.unwrap_or(&root).der()), None).unwrap();
        let refused = client.answered(config, Duration::from_secs(5), Method::GET, "/", None).unwrap_err();
        drop(client);
        server.join().unwrap();
        refused
    }

    #[test]
    fn who_has_another_name_or_another_root_is_not_recognised_and_not_asked_again() {
        let other_key = rcgen::KeyPair::generate().unwrap();
        let other = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&other_key).unwrap();
        let table = [
            ("bank.example", None, "its certificate is for bank.example, expected was localhost"),
            ("localhost", Some(&other), "not by the root that is trusted here"),
        ];
        for (certified, trusted, expected) in table {
            let refused = asked(certified, "localhost", trusted);
            assert_eq!(
                (refused.name.as_str(), refused.kind, refused.retry),
                ("peer_not_recognised", Kind::Refused, false)
            );
            assert!(refused.message.contains(expected), "{}", refused.message);
        }
        // Nobody there may be somebody soon.
        let settings = PeerSettings { url: "https://127.0.0.1:1".into(), timeout_ms: 5_000 };
        let client = PeerClient::start(PeerPlace::find(&settings, Unresolved::Refused).unwrap()).unwrap();
        let config = crate::tls::asking_config(None, None).unwrap();
        let refused = client.answered(config, Duration::from_secs(5), Method::GET, "/", None).unwrap_err();
        assert_eq!((refused.name.as_str(), refused.retry), ("peer_unreachable", true));
    }

    #[test]
    fn only_https_with_a_host_and_a_port_is_asked() {
        let check = |url: &str| PeerSettings { url: url.into(), timeout_ms: 10_000 }.check();
        for url in ["https://secco.example:9444", "https://secco.example:9444/", "https://[::1]:9444"] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        for url in ["http://secco.example:9444", "secco.example:9444", "https://a/b", "https://a/?b", "https://u@a", ""]
        {
            assert!(check(url).unwrap_err().starts_with("[peer] url"), "{url}");
        }
        assert!(PeerSettings { url: "https://a".into(), timeout_ms: 99 }.check().is_err());
    }

    fn failure(name: &str, message: &str) -> Value {
        let told = Failure::refused(name, message, "do\u{9b}31m this");
        json!({ "error": Failure { request_id: Some("req\n".into()), ..told } })
    }

    #[test]
    fn what_another_party_says_of_a_failure_is_told_on_only_as_far_as_it_is_harmless() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for name in ["", "Upper", "with space", "agent_revoked\n", "\u{1b}[2J", &long] {
            assert_eq!(told(&failure(name, "m")), None, "{name:?}");
        }
        assert_eq!(told(&json!({ "error": "no" })), None);
        assert_eq!(told(&json!([])), None);
        let many = "y".repeat(10_000);
        let shown = told(&failure("role_unknown", &format!("\u{1b}]0;owned\u{7}{many}"))).unwrap();
        assert!(!shown.message.chars().chain(shown.next_step.chars()).any(char::is_control), "{shown:?}");
        assert!(shown.message.len() < 600 && shown.request_id.is_none());
        assert_eq!((shown.name.as_str(), shown.next_step.as_str()), ("role_unknown", "do31m this"));
    }
}
