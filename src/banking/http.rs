//! The adapter: the protocol of `docs/CORE-BANKING.md` over HTTP.
//!
//! What the front may not do once it is confined (read files outside its places, look up names) is done before, in
//! [`Outside`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use serde::Deserialize;
use tokio::runtime::Runtime;

use super::settings::BankingSettings;
use super::{CoreAnswer, CoreBanking, CoreState, Order};
use crate::kernel::command::CoreVerb;
use crate::kernel::types::{CredentialName, Malformed, TransactionId};
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::ops::secret::{self, SecretSlot, Wanted};
use crate::tls::asking::{self, Place, Unresolved, cause};
use crate::tls::{self, ClientIdentity};

/// As whom it reads its secret from the vault.
pub const SERVICE: &str = "core-banking";
/// The most of an answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The longest name of a refusal that is kept.
const NAME_BYTES_MAX: usize = 64;

/// What the adapter needs from outside the front's places.
#[derive(Debug)]
pub struct Outside {
    settings: BankingSettings,
    secret: Option<SecretSlot>,
    root: Option<Vec<u8>>,
    place: Place,
}

impl Outside {
    /// Reads secret and root certificate, and looks up the core's name.
    ///
    /// # Errors
    /// `core_unresolvable`, `core_root_unusable`, and the names of [`secret::from_file`].
    pub fn read(settings: &BankingSettings, state: &StateDir, unresolved: Unresolved) -> Result<Self, Failure> {
        let invalid = |message: String| Failure::usage("config_invalid", message, "correct countersign.toml");
        let url = reqwest::Url::parse(&settings.url).map_err(|error| invalid(error.to_string()))?;
        let place = Place::find(&url, "[banking] url", "core_unresolvable", unresolved)?;
        let read = |path: &PathBuf| secret::from_file(&state.resolve(path), "[banking] secret_file");
        let from_file = settings.secret_file.as_ref().map(read).transpose()?.map(SecretSlot::fixed);
        let service = || SERVICE.parse().map_err(|malformed: Malformed| invalid(malformed.to_string()));
        let vaulted = |name: &CredentialName| -> Result<SecretSlot, Failure> {
            Ok(SecretSlot::vaulted(Wanted::newest(service()?, name.clone())))
        };
        let secret = match &settings.secret_vault {
            Some(name) => Some(vaulted(name)?),
            None => from_file,
        };
        let root = settings.root_file.as_ref().map(|path| root_of(&state.resolve(path))).transpose()?;
        Ok(Self { settings: settings.clone(), secret, root, place })
    }

    /// The secret, which the vault may have to hand in.
    pub fn secret(&self) -> Option<SecretSlot> {
        self.secret.clone()
    }
}

fn root_of(path: &std::path::Path) -> Result<Vec<u8>, Failure> {
    let unusable = |message: String| {
        Failure::usage(
            "core_root_unusable",
            format!("[banking] root_file {}: {message}", path.display()),
            "give the PEM file of the root under which the core's certificate lies",
        )
    };
    let text = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&text).map_err(|error| unusable(error.to_string()))?;
    Ok(pem.contents)
}

/// A core banking system behind HTTP.
pub struct HttpCore {
    place: Place,
    secret: Option<SecretSlot>,
    client: reqwest::Client,
    /// The calls are blocking for our callers; the connections live here. None only while it is dropped.
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for HttpCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpCore").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Drop for HttpCore {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// `{"transaction_id","state"}`, or `{"transaction_id","error":{"name","message"}}`. An answer that does not say which
/// transaction it is about is none: a connection may carry one that was meant for the request before.
#[derive(Deserialize)]
struct Said {
    transaction_id: TransactionId,
    state: Option<String>,
    error: Option<SaidError>,
}

#[derive(Deserialize)]
struct SaidError {
    name: String,
}

/// An answer, or why there is none.
enum Heard {
    Answer(u16, Said),
    NotSent(String),
    Unknown(String),
}

impl HttpCore {
    /// Starts the adapter's own thread. Nothing is sent yet.
    ///
    /// # Errors
    /// `runtime_failed`, `http_client`, `core_root_unusable`
    pub fn start(outside: Outside) -> Result<Arc<Self>, Failure> {
        Self::start_as(outside, None)
    }

    /// The same; `identity` is presented when the settings say so and the core asks.
    ///
    /// # Errors
    /// As [`HttpCore::start`].
    pub fn start_as(outside: Outside, identity: Option<Arc<dyn ClientIdentity>>) -> Result<Arc<Self>, Failure> {
        let Outside { settings, secret, root, place } = outside;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("core-banking")
            .enable_all()
            .build()
            .map_err(|error| Failure::fault("runtime_failed", error.to_string(), "check the process limits"))?;
        let identity = identity.filter(|_| settings.client_certificate);
        let timeout = Duration::from_millis(settings.timeout_ms);
        let client = place.client(tls::asking_config(root.as_deref(), identity)?, timeout)?;
        Ok(Arc::new(Self { place, secret, client, runtime: Some(runtime) }))
    }

    fn say(&self, verb: CoreVerb, order: &Order) -> CoreAnswer {
        let id = &order.transaction_id;
        let path = match verb {
            CoreVerb::Hold => "holds",
            CoreVerb::Settle => "settlements",
            CoreVerb::Release => "releases",
        };
        let request = self
            .client
            .post(format!("{}/{path}/{id}", self.place.base()))
            .header("Idempotency-Key", format!("{id}:{}", verb.name()))
            .header(http::header::CONTENT_TYPE, "application/json");
        let Ok(body) = serde_json::to_vec(order) else {
            return CoreAnswer::NotSent("the order has no JSON form".into());
        };
        let expected = match verb {
            CoreVerb::Hold => "held",
            CoreVerb::Settle => "settled",
            CoreVerb::Release => "released",
        };
        match self.send(id, request.body(body)) {
            Heard::NotSent(why) => CoreAnswer::NotSent(why),
            Heard::Unknown(why) => CoreAnswer::Unknown(why),
            Heard::Answer(200, Said { state: Some(state), .. }) if state == expected => CoreAnswer::Done,
            Heard::Answer(409 | 422, Said { error: Some(error), .. }) => CoreAnswer::Refused(name_of(error)),
            Heard::Answer(status, _) => CoreAnswer::Unknown(format!("the core answered {status} and no word we know")),
        }
    }

    fn send(&self, about: &TransactionId, request: reqwest::RequestBuilder) -> Heard {
        let Some(runtime) = &self.runtime else {
            return Heard::NotSent("the adapter has ended".into());
        };
        let request = match &self.secret {
            Some(slot) => match slot.value() {
                Some(secret) => request.bearer_auth(secret.expose_secret()),
                None => {
                    return Heard::NotSent("the core's secret is sealed in the vault: see `countersign doctor`".into());
                }
            },
            None => request,
        };
        runtime.handle().block_on(async {
            let response = match request.send().await {
                Ok(response) => response,
                // Only a connection that was never made proves that the core saw nothing.
                Err(error) if error.is_connect() => return Heard::NotSent(cause(&error)),
                Err(error) => return Heard::Unknown(cause(&error)),
            };
            let status = response.status().as_u16();
            let bytes = match asking::body(response, ANSWER_BYTES_MAX).await {
                Ok(bytes) => bytes,
                Err(why) => return Heard::Unknown(why),
            };
            match serde_json::from_slice::<Said>(&bytes) {
                Ok(said) if said.transaction_id == *about => Heard::Answer(status, said),
                Ok(_) => Heard::Unknown(format!("the core answered {status} about another transaction")),
                Err(_) => Heard::Unknown(format!("the core answered {status} with what is not our JSON")),
            }
        })
    }
}

impl CoreBanking for HttpCore {
    fn hold(&self, order: &Order) -> CoreAnswer {
        self.say(CoreVerb::Hold, order)
    }

    fn settle(&self, order: &Order) -> CoreAnswer {
        self.say(CoreVerb::Settle, order)
    }

    fn release(&self, order: &Order) -> CoreAnswer {
        self.say(CoreVerb::Release, order)
    }

    fn status(&self, transaction: &TransactionId) -> Result<CoreState, String> {
        match self.send(transaction, self.client.get(format!("{}/transactions/{transaction}", self.place.base()))) {
            Heard::NotSent(why) | Heard::Unknown(why) => Err(why),
            Heard::Answer(404, Said { error: Some(error), .. }) if error.name == "unknown_transaction" => {
                Ok(CoreState::Absent)
            }
            Heard::Answer(200, Said { state: Some(state), error, .. }) => match (state.as_str(), error) {
                ("held", None) => Ok(CoreState::Held),
                ("settled", None) => Ok(CoreState::Settled),
                ("released", None) => Ok(CoreState::Released),
                ("refused", Some(error)) => Ok(CoreState::Refused(name_of(error))),
                (other, _) => Err(format!("the core knows a state {other:?}")),
            },
            Heard::Answer(status, _) => Err(format!("the core answered {status}")),
        }
    }
}

/// The core's name for a refusal as we keep it: lower case, digits and underscores, and not for ever long.
fn name_of(error: SaidError) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_name = (1..=NAME_BYTES_MAX).contains(&error.name.len()) && error.name.bytes().all(plain);
    if is_name { error.name } else { "unnamed".into() }
}
