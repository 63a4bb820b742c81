//! The bridge's two MCP ends: a server for any client of either protocol generation, and behind it the bank
//! (`upstream`). What the library reads and writes is typed; nothing is decided here but which generation the client is
//! of, what it can do, and what becomes of a bank that is away.

mod answer;
mod backoff;
mod failures;
mod handler;
mod input;
mod loopback;
mod manifest;
mod stdio;
mod subscribed;
mod upstream;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rmcp::model::{DiscoverResult, ErrorData, RequestId, ServerCapabilities, TASKS_EXTENSION_ID};
use rmcp::service::{QuitReason, RequestContext};
use rmcp::{RoleServer, ServiceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::kernel::tool_manifest::VerifiedManifest;
use crate::mcp::signed_http::SignedHttp;
use crate::ops::failure::Failure;
use failures::{answer_unreadable, told};
use manifest::Accepted;
use stdio::Stdio;
use upstream::{Hearing, Question, Upstream};

pub use loopback::{PATH, serve_loopback};

/// Time for the last answers to be written.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// How long a client that says hello waits for the bank's own hello.
const DISCOVERY: Duration = Duration::from_secs(10);
/// How often one call may ask for input. The library's own clients stop there too.
const INPUT_ROUNDS_MAX: usize = 10;
/// Keys of `_meta` that speak of the connection they travel on; upstream has its own.
const PROTOCOL_KEYS: &str = "io.modelcontextprotocol/";

const NAME: &str = "countersign-connect";

/// Makes the HTTP client for a connection to the bank: identity and address may have changed since the last. Blocking.
pub trait Dial: Send + Sync {
    /// The endpoint's URL now.
    fn address(&self) -> Result<String, Failure>;
    /// An HTTP client with mutual TLS that signs its requests.
    fn dial(&self) -> Result<SignedHttp, Failure>;
    /// False of a server that is no bank: its tools are shown as they are.
    fn has_signed_tools(&self) -> bool {
        true
    }
    /// The bank's tool manifest, when it is signed by the bank and accepted here.
    fn accept_tools(&self, manifest: &[u8]) -> Result<VerifiedManifest, Failure>;
}

/// Serves stdio until the input ends, then lets calls in progress end.
///
/// # Errors
/// `stdio_failed`
pub async fn serve_stdio(dial: Arc<dyn Dial>) -> Result<(), Failure> {
    serve_lines(dial, tokio::io::stdin(), tokio::io::stdout()).await
}

/// Serves one client, a message a line, until its input ends.
///
/// # Errors
/// `stdio_failed`
pub async fn serve_lines(
    dial: Arc<dyn Dial>,
    input: impl AsyncRead + Unpin + Send + 'static,
    output: impl AsyncWrite + Unpin + Send + 'static,
) -> Result<(), Failure> {
    let failed = |message: String| Failure::fault("stdio_failed", message, "start it again from the MCP client");
    let bridge = Bridge::new(dial);
    let Stdio { read, write, written } = stdio::strict(input, output);
    let serving = bridge.serve((read, write)).await;
    let running = match serving {
        Ok(running) => running,
        // The client went away before it said anything.
        Err(error) if error.to_string().contains("closed") => return Ok(()),
        Err(error) => return Err(failed(error.to_string())),
    };
    let ended = running.waiting().await;
    // The library has let go of its end: what it answered last is on its way out. When it ended by itself, the
    // client's input may still be open and is not waited for.
    let _ = tokio::time::timeout(LAST_ANSWERS, written).await;
    match ended {
        Ok(QuitReason::Closed | QuitReason::Cancelled) => Ok(()),
        Ok(other) => Err(failed(format!("{other:?}"))),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// What one client sees. Clients share the way to the bank, and nothing else.
#[derive(Clone)]
struct Bridge {
    upstream: Arc<Upstream>,
    /// What the bank last said that it can do.
    known: Arc<RwLock<Option<Known>>>,
    dial: Arc<dyn Dial>,
    tools: Arc<Accepted>,
}

#[derive(Clone)]
struct Known {
    capabilities: ServerCapabilities,
    instructions: Option<String>,
}

impl Bridge {
    fn new(dial: Arc<dyn Dial>) -> Self {
        let upstream = Arc::new(Upstream::new(Arc::clone(&dial)));
        Self { upstream, known: Arc::default(), dial, tools: Arc::default() }
    }

    /// Asks the bank the caller's question and reads its answer.
    async fn forward<R: DeserializeOwned>(
        &self,
        method: &str,
        params: impl Serialize,
        context: &RequestContext<RoleServer>,
    ) -> Result<R, ErrorData> {
        read(self.forward_raw(method, params, context).await?)
    }

    async fn forward_raw(
        &self,
        method: &str,
        params: impl Serialize,
        context: &RequestContext<RoleServer>,
    ) -> Result<Value, ErrorData> {
        tokio::select! {
            answered = self.answered(method, params, context) => answered,
            // Dropping the call closes its response, which is how the bank learns of it.
            () = context.ct.cancelled() => Err(ErrorData::internal_error("the call was cancelled by its caller", None)),
        }
    }

    /// The manifest of the bank's tools, as long as the caller waits for it.
    async fn accepted(&self, context: &RequestContext<RoleServer>) -> Result<Option<Arc<VerifiedManifest>>, ErrorData> {
        tokio::select! {
            accepted = self.tools.current(&self.dial, &self.upstream) => accepted,
            () = context.ct.cancelled() => Err(ErrorData::internal_error("the call was cancelled by its caller", None)),
        }
    }

    async fn answered(
        &self,
        method: &str,
        params: impl Serialize,
        context: &RequestContext<RoleServer>,
    ) -> Result<Value, ErrorData> {
        let is_legacy = is_legacy(context);
        let mut params = with_meta(params, context)?;
        for round in 0..INPUT_ROUNDS_MAX {
            let question = Question { id: &context.id, method, params: params.clone() };
            let answered = self.upstream.ask(question, Hearing::Caller(&context.peer)).await.map_err(ErrorData::from);
            // What was asked for in the first round stands, whatever became of this one.
            let mut result =
                answered.map_err(|error| if round == 0 { error } else { failures::after_the_fact(error) })?;
            input::show_pages(&result);
            if !is_legacy || result["resultType"] != "input_required" {
                return Ok(result);
            }
            // The generation before knows no such answer: its client is asked here, and the call made again.
            let asked = input::ask(&context.peer, &result["inputRequests"]).await;
            let responses = asked.map_err(failures::after_the_fact)?;
            params.insert("inputResponses".into(), responses);
            params.insert("requestState".into(), result["requestState"].take());
        }
        Err(failures::after_the_fact(told(&Failure::refused(
            "input_without_end",
            format!("the bank asked for input {INPUT_ROUNDS_MAX} times"),
            "repeat the call with the same idempotency_key: it names what waits",
        ))))
    }

    /// Learns what the bank can do. One that is away is taken to be as it was, or as banks are.
    async fn discover_upstream(&self) {
        let id = RequestId::String("discover".into());
        let question = Question { id: &id, method: "server/discover", params: meta(Map::new(), json!({})) };
        let asked = tokio::time::timeout(DISCOVERY, self.upstream.ask(question, Hearing::Nobody)).await;
        let said = match asked {
            Ok(Ok(said)) => serde_json::from_value::<DiscoverResult>(said).map_err(|error| error.to_string()),
            Ok(Err(unanswered)) => Err(ErrorData::from(unanswered).message.into_owned()),
            Err(_) => Err(format!("nothing for {} s", DISCOVERY.as_secs())),
        };
        match said {
            Ok(said) => {
                let known = Known { capabilities: forwarded(said.capabilities), instructions: said.instructions };
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
            }
            Err(why) => tracing::warn!(%why, "the bank did not say what it can do"),
        }
    }
}

/// What banks can do. The library keeps what is not announced from the bank, which would say so itself: until it has
/// spoken, nothing is kept from it.
fn of_a_bank() -> ServerCapabilities {
    ServerCapabilities::builder()
        .enable_tools()
        .enable_tool_list_changed()
        .enable_resources()
        .enable_resources_subscribe()
        .enable_resources_list_changed()
        .enable_prompts()
        .enable_prompts_list_changed()
        .enable_completions()
        .enable_tasks()
        .build()
}

/// The capabilities of the bank's that this bridge hands on.
fn forwarded(bank: ServerCapabilities) -> ServerCapabilities {
    let mut capabilities = ServerCapabilities::default();
    let mut extensions = bank.extensions.unwrap_or_default();
    extensions.retain(|name, _| name == TASKS_EXTENSION_ID);
    capabilities.extensions = Some(extensions).filter(|extensions| !extensions.is_empty());
    capabilities.tools = bank.tools;
    capabilities.resources = bank.resources;
    capabilities.prompts = bank.prompts;
    capabilities.completions = bank.completions;
    capabilities
}

/// True of a client of a generation before 2026-07-28.
fn is_legacy(context: &RequestContext<RoleServer>) -> bool {
    context.protocol_version().is_none_or(|version| version.as_str() < upstream::VERSION.as_str())
}

/// The caller's parameters with the metadata of a request to the bank.
fn with_meta(params: impl Serialize, context: &RequestContext<RoleServer>) -> Result<Map<String, Value>, ErrorData> {
    let params = serde_json::to_value(params).map_err(|error| ErrorData::invalid_params(error.to_string(), None))?;
    let mut params = match params {
        Value::Object(params) => params,
        Value::Null => Map::new(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(ErrorData::invalid_params("params are an object", None));
        }
    };
    let mut said =
        serde_json::to_value(&context.meta).ok().and_then(|said| said.as_object().cloned()).unwrap_or_default();
    said.retain(|key, _| !key.starts_with(PROTOCOL_KEYS));
    params.insert("_meta".into(), Value::Object(said));
    Ok(meta(params, input::capabilities(context.client_capabilities().as_ref(), is_legacy(context))))
}

/// Says who asks the bank, in which revision, and what it can do.
fn meta(mut params: Map<String, Value>, capabilities: Value) -> Map<String, Value> {
    let meta = params.entry("_meta").or_insert_with(|| json!({}));
    meta["io.modelcontextprotocol/protocolVersion"] = json!(upstream::VERSION);
    meta["io.modelcontextprotocol/clientInfo"] = json!({ "name": NAME, "version": env!("CARGO_PKG_VERSION") });
    meta["io.modelcontextprotocol/clientCapabilities"] = capabilities;
    params
}

fn read<R: DeserializeOwned>(result: Value) -> Result<R, ErrorData> {
    serde_json::from_value(result).map_err(|error| told(&answer_unreadable(&error.to_string())))
}
