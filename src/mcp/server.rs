//! The bank's MCP endpoint: typed tools for agents whose identity comes from their connection and nothing else.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use rmcp::handler::server::common::schema_for_type;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Implementation,
    JsonObject, ListToolsResult, PaginatedRequestParams, ProtocolVersion, ServerCapabilities, ServerConfig, Tool,
    ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{RoleServer, ServerHandler};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::kernel::command::{AgentPrincipal, ToolCall};
use crate::kernel::credential::pair::VerifiedAgent;
use crate::kernel::json::JsonRefused;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{Currency, RequestId, Sha256};
use crate::mcp::shapes;
use crate::ops::clock;
use crate::ops::failure::MayHaveHappened;

/// The one revision that is spoken.
const VERSIONS: [ProtocolVersion; 1] = [ProtocolVersion::V_2026_07_28];
const INSTRUCTIONS: &str = "A bank for agents. Look before you pay: get_account_balance, search_products. Paying takes \
two calls: authorize_… (with your own idempotency_key) answers approved, requires_approval or denied with a reason; \
execute_… with the transaction_id moves the money once, and a repeat answers the same receipt. When a human must \
decide, ask get_approval_status now and then; do not authorize again. Status error is no decision: with retry true, \
call again with the same parameters.";

/// Decides about tool calls. Blocking; every decision is recorded before it is answered.
pub trait ToolGate: Send + Sync {
    /// The tools of the agent's role.
    fn tools_for(&self, agent: &AgentPrincipal) -> Vec<String>;
    /// Carries out one call: an answer, refusals of payments included, or a refused read or a fault.
    fn call(&self, agent: &AgentPrincipal, call: ToolCall, request: &ToolRequest) -> Result<Value, Unanswered>;
    /// Records a call that no rule could be asked about: an unknown tool, arguments that are none.
    fn record_refusal(
        &self,
        agent: &AgentPrincipal,
        tool: &str,
        refusal: &ToolRefused,
        request: &ToolRequest,
    ) -> Result<(), Unanswered>;
}

/// The request that a call came with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToolRequest {
    pub id: RequestId,
    /// What makes it single-use, if it has an effect: taken in the commit of whatever comes of it.
    pub nonce: Option<Sha256>,
}

/// What is answered with `isError`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unanswered {
    /// The rules, or the tool's shape, said no.
    Refused(ToolRefused),
    /// Something broke.
    Failed(ToolFailed),
    /// The request was received before: nothing was decided.
    Replayed,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToolRefused {
    pub name: String,
    pub message: String,
    pub next_step: String,
}

/// A fault as agents learn of it. It has no words of its own: what broke, and where, is in the log under `request_id`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToolFailed {
    pub name: String,
    pub retry: bool,
    pub may_have_happened: MayHaveHappened,
    pub request_id: RequestId,
}

impl From<ToolRefused> for Unanswered {
    fn from(refused: ToolRefused) -> Self {
        Self::Refused(refused)
    }
}

/// The tool and its arguments as they were sent. Empty for requests that call no tool.
#[derive(Clone, Debug)]
pub struct RawCall {
    tool: Option<String>,
    arguments: Option<Arc<RawValue>>,
}

impl RawCall {
    /// Takes `params.name` and `params.arguments` out of a body that passed the strict check.
    pub fn read(body: &[u8]) -> Result<Self, JsonRefused> {
        #[derive(Deserialize)]
        struct Envelope {
            method: Option<Value>,
            params: Option<Params>,
        }
        #[derive(Deserialize)]
        struct Params {
            name: Option<Value>,
            arguments: Option<Box<RawValue>>,
        }
        // What is no object is no message; MCP says so.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Ok(Self { tool: None, arguments: None });
        }
        let envelope: Envelope =
            serde_json::from_slice(body).map_err(|error| JsonRefused::NotJson { reason: error.to_string() })?;
        let Some(Params { name, arguments }) = envelope.params else {
            return Ok(Self { tool: None, arguments: None });
        };
        let calls = envelope.method.as_ref().and_then(Value::as_str) == Some("tools/call");
        let tool = name.as_ref().and_then(Value::as_str).filter(|_| calls).map(str::to_owned);
        Ok(Self { tool, arguments: arguments.map(Arc::from) })
    }
}

/// A request whose nonce is taken in the commit of what it does, and whether it was found to be taken.
#[derive(Clone, Debug)]
pub struct SingleUse {
    nonce: Sha256,
    replayed: Arc<AtomicBool>,
}

impl SingleUse {
    pub fn new(nonce: Sha256) -> Self {
        Self { nonce, replayed: Arc::default() }
    }

    /// True when the request was received before; known once it is answered.
    pub fn was_replayed(&self) -> bool {
        self.replayed.load(Ordering::Acquire)
    }
}

/// The endpoint behind the HTTP edge.
pub struct Endpoint {
    service: StreamableHttpService<Handler, NeverSessionManager>,
    /// Tools that do something.
    acting: Vec<Cow<'static, str>>,
}

impl Endpoint {
    /// `hosts` are the names under which the bank is reached; other `Host` headers and every `Origin` are refused.
    pub fn new(gate: Arc<dyn ToolGate>, currency: Currency, hosts: &[String], body_bytes_max: usize) -> Self {
        let config = StreamableHttpServerConfig::default()
            .with_legacy_session_mode(false)
            .with_json_response(true)
            .with_stateless_protocol_metadata_required(true)
            .with_sse_keep_alive(None)
            .with_max_request_body_bytes(body_bytes_max)
            .with_allowed_hosts(hosts.to_vec())
            .enforce_origin_validation();
        let tools = tools();
        let acts = |tool: &&Tool| tool.annotations.as_ref().is_none_or(|hints| hints.read_only_hint != Some(true));
        let acting = tools.iter().filter(acts).map(|tool| tool.name.clone()).collect();
        let handler = Handler { gate, currency, tools: Arc::new(tools) };
        let service =
            StreamableHttpService::new(move || Ok(handler.clone()), Arc::new(NeverSessionManager::default()), config);
        Self { service, acting }
    }

    /// True when this calls a tool that does something.
    pub fn acts(&self, call: &RawCall) -> bool {
        call.tool.as_ref().is_some_and(|tool| self.acting.iter().any(|acting| acting == tool))
    }

    /// Answers a request whose extensions hold the agent and its raw call, and, if it acts, what makes it single-use.
    pub async fn answer(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Response<UnsyncBoxBody<Bytes, std::convert::Infallible>> {
        self.service.handle(request).await.map(|body| body.boxed_unsync())
    }
}

#[derive(Clone)]
struct Handler {
    gate: Arc<dyn ToolGate>,
    currency: Currency,
    tools: Arc<Vec<Tool>>,
}

impl Handler {
    /// The agent of the connection that the request came over.
    fn agent(context: &RequestContext<RoleServer>) -> Result<&AgentPrincipal, ErrorData> {
        let parts = context.extensions.get::<http::request::Parts>();
        let agent = parts.and_then(|parts| parts.extensions.get::<Arc<VerifiedAgent>>());
        agent.map(|agent| agent.principal()).ok_or_else(|| ErrorData::internal_error("no agent", None))
    }

    fn raw_arguments(context: &RequestContext<RoleServer>) -> Option<Arc<RawValue>> {
        let parts = context.extensions.get::<http::request::Parts>()?;
        parts.extensions.get::<RawCall>()?.arguments.clone()
    }

    fn single_use(context: &RequestContext<RoleServer>) -> Option<SingleUse> {
        context.extensions.get::<http::request::Parts>()?.extensions.get::<SingleUse>().cloned()
    }
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(
                Implementation::new("countersign", env!("CARGO_PKG_VERSION")).with_title("Countersign bank"),
            )
            .with_instructions(INSTRUCTIONS)
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(&VERSIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let allowed = self.gate.tools_for(Self::agent(&context)?);
        let listed = self.tools.iter().filter(|tool| allowed.iter().any(|name| *name == tool.name));
        // The list depends on who asks.
        Ok(ListToolsResult::with_all_items(listed.cloned().collect())
            .with_ttl_ms(0)
            .with_cache_scope(CacheScope::Private))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let agent = Self::agent(&context)?.clone();
        let raw = Self::raw_arguments(&context);
        let arguments = raw.as_ref().map_or("{}", |raw| raw.get());
        let id = clock::fresh_id("req_").parse().map_err(|_| ErrorData::internal_error("no request id", None))?;
        let single_use = Self::single_use(&context);
        let asked = ToolRequest { id, nonce: single_use.as_ref().map(|single_use| single_use.nonce) };
        let parsed = shapes::parse(&request.name, arguments, self.currency).unwrap_or_else(|| {
            Err(format!("there is no such tool: {:?}", request.name.chars().take(64).collect::<String>()))
        });
        let gate = Arc::clone(&self.gate);
        // On a thread of its own: a client that goes away drops the answer, never the commit.
        let answered = tokio::task::spawn_blocking(move || match parsed {
            Ok(call) => gate.call(&agent, call, &asked),
            Err(sentence) => {
                let refusal = ToolRefused {
                    name: "invalid_arguments".into(),
                    message: sentence,
                    next_step: "see tools/list; the tool's input schema says what its arguments must be".into(),
                };
                gate.record_refusal(&agent, &request.name, &refusal, &asked)?;
                Err(refusal.into())
            }
        })
        .await;
        let answer = match answered {
            Ok(Ok(value)) => CallToolResult::structured(value),
            Ok(Err(Unanswered::Refused(refusal))) => refused(&refusal),
            Ok(Err(Unanswered::Failed(failure))) => failed(&failure),
            Ok(Err(Unanswered::Replayed)) => {
                if let Some(single_use) = single_use {
                    single_use.replayed.store(true, Ordering::Release);
                }
                refused(&replayed())
            }
            Err(_) => return Err(ErrorData::internal_error("the bank met a defect of its own", None)),
        };
        Ok(answer.into())
    }
}

fn replayed() -> ToolRefused {
    let refusal = Refusal::NonceReplayed;
    ToolRefused {
        name: refusal.name().into(),
        message: refusal.message().into(),
        next_step: refusal.next_step().into(),
    }
}

fn refused(refusal: &ToolRefused) -> CallToolResult {
    is_error(json!({
        "status": "denied",
        "reason": refusal.name,
        "message": refusal.message,
        "next_step": refusal.next_step,
    }))
}

fn failed(failure: &ToolFailed) -> CallToolResult {
    let message = match failure.may_have_happened {
        MayHaveHappened::No => "the bank cannot do this now; nothing was done",
        MayHaveHappened::Yes => "it is recorded, and the bank could not finish its answer",
        MayHaveHappened::Unknown => "the bank does not know yet whether this was done",
    };
    let next_step = if failure.retry {
        "call again in a moment with the same parameters; nothing is done twice"
    } else {
        "tell the bank's people the request_id"
    };
    is_error(json!({
        "status": "error",
        "reason": failure.name,
        "message": message,
        "next_step": next_step,
        "retry": failure.retry,
        "may_have_happened": failure.may_have_happened,
        "request_id": failure.request_id,
    }))
}

fn is_error(structured: Value) -> CallToolResult {
    let mut result = CallToolResult::error(vec![ContentBlock::text(structured.to_string())]);
    result.structured_content = Some(structured);
    result
}

/// How a tool affects the bank.
#[derive(Clone, Copy)]
enum Effect {
    Reads,
    /// Holds or releases; repeats answer the same.
    Prepares,
    /// Moves money, once for each transaction.
    Moves,
}

/// The names of all tools, as a role catalogue writes them.
pub fn tool_names() -> Vec<String> {
    tools().iter().map(|tool| tool.name.to_string()).collect()
}

fn tools() -> Vec<Tool> {
    use shapes::{
        AccountsAnswer, AuthorizePurchase, AuthorizeTransfer, BalanceAnswer, CancelAuthorization, DecisionAnswer,
        ExecutePurchase, ExecuteTransfer, GetAccountBalance, GetApprovalStatus, GetTransaction, ListAccounts,
        ListTransactions, ProductsAnswer, RequestReversal, SearchProducts, TransactionsAnswer,
    };
    vec![
        tool::<ListAccounts, AccountsAnswer>(
            "list_accounts",
            "Accounts that their owner has granted to you",
            Effect::Reads,
        ),
        tool::<GetAccountBalance, BalanceAnswer>("get_account_balance", "Balance of a granted account", Effect::Reads),
        tool::<ListTransactions, TransactionsAnswer>(
            "list_transactions",
            "Newest transactions of a granted account",
            Effect::Reads,
        ),
        tool::<SearchProducts, ProductsAnswer>(
            "search_products",
            "Search the merchants' catalogue by words, highest price and merchant",
            Effect::Reads,
        ),
        tool::<AuthorizePurchase, DecisionAnswer>(
            "authorize_purchase",
            "Ask to buy a product at its current price; holds the money when approved",
            Effect::Prepares,
        ),
        tool::<ExecutePurchase, DecisionAnswer>(
            "execute_purchase",
            "Carry out an authorized purchase, once",
            Effect::Moves,
        ),
        tool::<AuthorizeTransfer, DecisionAnswer>(
            "authorize_transfer",
            "Ask to transfer money; holds it when approved or while a human decides",
            Effect::Prepares,
        ),
        tool::<ExecuteTransfer, DecisionAnswer>(
            "execute_transfer",
            "Carry out an authorized transfer, once, with the parameters that were authorized",
            Effect::Moves,
        ),
        tool::<CancelAuthorization, DecisionAnswer>(
            "cancel_authorization",
            "Give up an authorization that was not executed; its money is free again",
            Effect::Prepares,
        ),
        tool::<GetTransaction, DecisionAnswer>(
            "get_transaction",
            "State of one of your transactions and its receipt",
            Effect::Reads,
        ),
        tool::<GetApprovalStatus, DecisionAnswer>(
            "get_approval_status",
            "Whether a human has decided; names the transaction_id once approved",
            Effect::Reads,
        ),
        tool::<RequestReversal, DecisionAnswer>(
            "request_reversal",
            "Ask the bank to reverse an executed transaction, wholly or in part; a human decides",
            Effect::Prepares,
        ),
    ]
}

fn tool<Input, Output>(name: &'static str, description: &'static str, effect: Effect) -> Tool
where
    Input: schemars::JsonSchema + 'static,
    Output: schemars::JsonSchema + 'static,
{
    let (read_only, idempotent) = match effect {
        Effect::Reads => (true, true),
        Effect::Prepares | Effect::Moves => (false, true),
    };
    let annotations = ToolAnnotations::new()
        .read_only(read_only)
        .destructive(matches!(effect, Effect::Moves))
        .idempotent(idempotent)
        .open_world(false);
    Tool::new(name, description, schema_for_type::<Input>())
        .with_raw_output_schema(or_denied(&schema_for_type::<Output>()))
        .with_annotations(annotations)
}

/// A read's answer, or the shape in which every refusal and fault comes: `status` and `reason`.
fn or_denied(schema: &JsonObject) -> Arc<JsonObject> {
    let mut schema = schema.clone();
    let words = ["status", "reason", "message", "next_step", "may_have_happened", "request_id"];
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        if properties.contains_key("status") {
            return Arc::new(schema);
        }
        properties.extend(words.map(|word| (word.to_owned(), json!({ "type": "string" }))));
        properties.insert("retry".to_owned(), json!({ "type": "boolean" }));
    }
    if let Some(required) = schema.remove("required") {
        let either = json!([{ "required": required }, { "required": ["status", "reason"] }]);
        schema.insert("anyOf".to_owned(), either);
    }
    Arc::new(schema)
}
