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
mod marked;
mod stdio;
mod subscribed;
mod upstream;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rmcp::model::{DiscoverResult, ErrorCode, ErrorData, RequestId, ServerCapabilities, TASKS_EXTENSION_ID};
use rmcp::service::{QuitReason, RequestContext};
use rmcp::{RoleServer, ServiceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::kernel::tool_manifest::VerifiedManifest;
use crate::mcp::signed_http::SignedHttp;
use crate::mcp::standing::Standing;
use crate::ops::clock;
use crate::ops::failure::Failure;
use failures::{answer_unreadable, told};
use manifest::Accepted;
use marked::MarkedTools;
use stdio::Stdio;
use subscribed::Lists;
use upstream::{Hearing, Question, Upstream};

pub use loopback::{PATH, serve_loopback};

/// Time for the last answers to be written.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// How long a client that says hello waits for the bank's own hello.
const DISCOVERY: Duration = Duration::from_secs(10);
/// How often one call may ask for input. The library's own clients stop there too.
const INPUT_ROUNDS_MAX: usize = 10;
/// Pages of a list of tools; a bank has one.
const TOOL_PAGES_MAX: usize = 16;
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
    let serving = Standing(bridge).serve((read, write)).await;
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
    marked: Arc<MarkedTools>,
    /// Of this client's session alone.
    lists: Arc<Lists>,
}

#[derive(Clone)]
struct Known {
    capabilities: ServerCapabilities,
    instructions: Option<String>,
}

impl Bridge {
    fn new(dial: Arc<dyn Dial>) -> Self {
        let upstream = Arc::new(Upstream::new(Arc::clone(&dial)));
        Self {
            upstream,
            known: Arc::default(),
            dial,
            tools: Arc::default(),
            marked: Arc::default(),
            lists: Arc::default(),
        }
    }

    /// The same bridge for another client.
    fn for_another(&self) -> Self {
        Self { lists: Arc::default(), ..self.clone() }
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
        Self::meanwhile(context, self.answered(method, params, context)).await
    }

    /// What is asked of the bank, as long as the caller waits for it.
    async fn meanwhile<T>(
        context: &RequestContext<RoleServer>,
        asked: impl Future<Output = Result<T, ErrorData>>,
    ) -> Result<T, ErrorData> {
        tokio::select! {
            asked = asked => asked,
            // Dropping the call closes its response, which is how the bank learns of it.
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
            // A retry is a request of its own (MCP 2026-07-28, MRTR).
            let id = match round {
                0 => context.id.clone(),
                _ => RequestId::String(clock::fresh_id("round_").into()),
            };
            let answered = self.asked(&id, method, &params, context).await;
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
            match result["requestState"].take() {
                Value::Null => params.remove("requestState"),
                state => params.insert("requestState".into(), state),
            };
        }
        Err(failures::after_the_fact(told(&Failure::refused(
            "input_without_end",
            format!("the bank asked for input {INPUT_ROUNDS_MAX} times"),
            "repeat the call with the same idempotency_key: it names what waits",
        ))))
    }

    /// Asks once. A call that the bank refused by its headers was not read: it is asked again with those that the bank
    /// wants now.
    async fn asked(
        &self,
        id: &RequestId,
        method: &str,
        params: &Map<String, Value>,
        context: &RequestContext<RoleServer>,
    ) -> Result<Value, ErrorData> {
        let ask = async |headers| {
            let question = Question { id, method, params: params.clone(), headers };
            self.upstream.ask(question, Hearing::Caller(&context.peer)).await.map_err(ErrorData::from)
        };
        let Some(tool) = params.get("name").and_then(Value::as_str).filter(|_| method == "tools/call") else {
            return ask(vec![]).await;
        };
        let arguments = params.get("arguments").unwrap_or(&Value::Null);
        let headers = self.marked.headers(tool, arguments);
        match ask(headers.clone()).await {
            Err(error) if error.code == ErrorCode::HEADER_MISMATCH => {
                self.learn_tools().await?;
                let now = self.marked.headers(tool, arguments);
                if now == headers { Err(error) } else { ask(now).await }
            }
            answered => answered,
        }
    }

    /// Reads the bank's list of tools, to know which headers they want.
    async fn learn_tools(&self) -> Result<(), ErrorData> {
        let mut cursor = None;
        for _ in 0..TOOL_PAGES_MAX {
            let id = RequestId::String(clock::fresh_id("tools_").into());
            let is_first = cursor.is_none();
            let params = cursor.map_or_else(Map::new, |cursor| Map::from_iter([("cursor".to_owned(), cursor)]));
            let params = meta(params, json!({}));
            let question = Question { id: &id, method: "tools/list", params, headers: vec![] };
            let listed = self.upstream.ask(question, Hearing::Nobody).await?;
            let mut shown = self.accepted_only(listed).await?;
            self.marked.learn(&mut shown, is_first);
            cursor = shown.get_mut("nextCursor").map(Value::take).filter(Value::is_string);
            if cursor.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// The list without what the bank's manifest does not say, word for word.
    async fn accepted_only(&self, listed: Value) -> Result<Value, ErrorData> {
        for is_last in [false, true] {
            let Some(manifest) = self.tools.current(&self.dial, &self.upstream).await? else {
                break;
            };
            let mut shown = listed.clone();
            let strange = manifest::keep_accepted(&manifest, &mut shown);
            if strange.is_empty() || is_last {
                if !strange.is_empty() {
                    tracing::error!(tools = strange.join(" "), "not shown: other than the bank's manifest says");
                }
                return Ok(shown);
            }
            // The bank may have been replaced by a newer one since its manifest was read.
            self.tools.forget().await;
        }
        Ok(listed)
    }

    /// Learns what the bank can do. One that is away is taken to be as it was, or as banks are.
    async fn discover_upstream(&self) {
        let id = RequestId::String("discover".into());
        let params = meta(Map::new(), json!({}));
        let question = Question { id: &id, method: "server/discover", params, headers: vec![] };
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
