//! The bridge's two MCP ends: a server for any client of either protocol generation, and behind it the bank
//! (`upstream`). What the library reads and writes is typed; nothing is decided here but which generation the client is
//! of, what it can do, and what becomes of a bank that is away.

mod answer;
mod backoff;
mod failures;
mod input;
mod loopback;
mod manifest;
mod stdio;
mod upstream;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, CompleteRequestParams, CompleteResult, DiscoverResult,
    ErrorData, GetPromptRequestParams, GetPromptResponse, GetTaskParams, GetTaskResult, Implementation,
    InitializeRequestParams, InitializeResult, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListToolsResult, PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse,
    RequestId, ServerCapabilities, ServerConfig, SubscriptionFilter, TASKS_EXTENSION_ID, UpdateTaskParams,
};
use rmcp::service::{QuitReason, RequestContext, SubscriptionContext};
use rmcp::{RoleServer, ServerHandler, ServiceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::kernel::tool_manifest::VerifiedManifest;
use crate::mcp::signed_http::SignedHttp;
use crate::ops::clock;
use crate::ops::failure::Failure;
use backoff::Backoff;
use failures::{answer_unreadable, told};
use manifest::Accepted;
use stdio::Stdio;
use upstream::{Hearing, Question, Unanswered, Upstream};

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
const INSTRUCTIONS: &str = "A bank, reached with this agent's own key in an HSM. Authorize first, then execute with \
the transaction_id; when a human must decide, ask get_approval_status.";

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

    /// Keeps a subscription at the bank for as long as the client keeps its own.
    async fn subscribed(&self, context: &SubscriptionContext) -> Result<(), ErrorData> {
        let request = context.request_context();
        let mut backoff = Backoff::default();
        let mut again = false;
        loop {
            let params = with_meta(json!({ "notifications": context.accepted() }), request)?;
            let question = Question { id: &request.id, method: "subscriptions/listen", params };
            let begun = Instant::now();
            match self.upstream.follow(question, Hearing::Subscription { sink: context.sink(), again }).await {
                Err(Unanswered::Error(error)) => return Err(error),
                // Refused by name: asking again changes nothing.
                Err(Unanswered::Failed(error)) if !failures::may_retry(&error) => return Err(error),
                // The bank has stopped, or the connection has: it goes on when there is one again.
                Ok(_) | Err(Unanswered::Away(_) | Unanswered::Failed(_)) => {}
            }
            if begun.elapsed() > DISCOVERY {
                backoff.succeeded();
            }
            let [jitter] = clock::random();
            tokio::time::sleep(backoff.failed(Instant::now(), jitter)).await;
            again = true;
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

/// True of an answer that asks for input.
fn asks(result: &Value) -> bool {
    result["resultType"] == "input_required"
}

impl ServerHandler for Bridge {
    fn get_info(&self) -> ServerConfig {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        let known = known.unwrap_or_else(|| Known { capabilities: of_a_bank(), instructions: None });
        ServerConfig::new(known.capabilities)
            .with_server_info(Implementation::new(NAME, env!("CARGO_PKG_VERSION")))
            .with_instructions(known.instructions.unwrap_or_else(|| INSTRUCTIONS.to_owned()))
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        context.peer.set_peer_info(request.clone());
        self.discover_upstream().await;
        let mut info = self.negotiate_initialize(&request)?;
        // What this generation has no way to use.
        let capabilities = &mut info.capabilities;
        capabilities.extensions = None;
        if let Some(tools) = capabilities.tools.as_mut() {
            tools.list_changed = None;
        }
        if let Some(prompts) = capabilities.prompts.as_mut() {
            prompts.list_changed = None;
        }
        if let Some(resources) = capabilities.resources.as_mut() {
            (resources.list_changed, resources.subscribe) = (None, None);
        }
        Ok(info)
    }

    async fn discover(&self, _: RequestContext<RoleServer>) -> Result<DiscoverResult, ErrorData> {
        self.discover_upstream().await;
        let versions = ProtocolVersion::KNOWN_VERSIONS.to_vec();
        Ok(DiscoverResult::from_server_info(versions, self.get_info()))
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let listed = self.forward_raw("tools/list", request, &context).await?;
        for is_last in [false, true] {
            let Some(manifest) = self.accepted(&context).await? else {
                break;
            };
            let mut shown = listed.clone();
            let strange = manifest::keep_accepted(&manifest, &mut shown);
            if strange.is_empty() || is_last {
                if !strange.is_empty() {
                    tracing::error!(tools = strange.join(" "), "not shown: other than the bank's manifest says");
                }
                return read(shown);
            }
            // The bank may have been replaced by a newer one since its manifest was read.
            self.tools.forget().await;
        }
        read(listed)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if let Some(manifest) = self.accepted(&context).await?
            && !manifest.names(&request.name)
        {
            return Err(manifest::not_accepted(&request.name));
        }
        let result = self.forward_raw("tools/call", request, &context).await?;
        if asks(&result) {
            return Ok(CallToolResponse::InputRequired(read(result)?));
        }
        if result["resultType"] == "task" {
            return Ok(CallToolResponse::Task(read(result)?));
        }
        Ok(CallToolResponse::Complete(read(result)?))
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        self.forward("resources/list", request, &context).await
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        self.forward("resources/templates/list", request, &context).await
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let result = self.forward_raw("resources/read", request, &context).await?;
        Ok(match asks(&result) {
            true => ReadResourceResponse::InputRequired(read(result)?),
            false => ReadResourceResponse::Complete(read(result)?),
        })
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        self.forward("prompts/list", request, &context).await
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let result = self.forward_raw("prompts/get", request, &context).await?;
        Ok(match asks(&result) {
            true => GetPromptResponse::InputRequired(read(result)?),
            false => GetPromptResponse::Complete(read(result)?),
        })
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        self.forward("completion/complete", request, &context).await
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.forward("tasks/get", request, &context).await
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.forward_raw("tasks/update", request, &context).await.map(drop)
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.forward_raw("tasks/cancel", request, &context).await.map(drop)
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        // The library leaves what the bank does not announce.
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        tokio::select! {
            ended = self.subscribed(&context) => ended,
            () = context.cancelled() => Ok(()),
        }
    }
}
