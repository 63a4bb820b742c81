//! MCP clients: upstream to the bank over mutual TLS, and over stdio to a bridge as any agent's client would be.

use std::path::Path;

use rmcp::model::{CallToolRequestParams, CallToolResult, ClientConfig, Implementation, ProtocolVersion};
use rmcp::service::{RoleClient, RunningService, ServiceError};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{ClientLifecycleMode, ClientServiceExt};
use serde_json::{Value, json};

use crate::mcp::signed_http::SignedHttp;
use crate::ops::failure::Failure;

/// A connected client.
pub(super) type Connected = RunningService<RoleClient, ClientConfig>;

fn identity(name: &str) -> ClientConfig {
    ClientConfig::new(Default::default(), Implementation::new(name, env!("CARGO_PKG_VERSION")))
}

fn newest() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
}

/// Connects to the bank's MCP endpoint, speaking only 2026-07-28. The HTTP client brings TLS, pooled; each request is
/// signed.
///
/// # Errors
/// `bank_unreachable`, or a name that says what the bank's TLS answered.
pub(super) async fn upstream(http: SignedHttp, url: &str) -> Result<Connected, Failure> {
    // Never `from_uri`: it disables pooling, one handshake a call, and signs nothing.
    let config = StreamableHttpClientTransportConfig::with_uri(url);
    let transport = StreamableHttpClientTransport::with_client(http, config);
    identity("countersign-connect")
        .serve_with_lifecycle(transport, newest())
        .await
        .map_err(|error| refusal(&chain(&error)).unwrap_or_else(unreachable_))
}

/// What became of a call that was handed to the connection: refused, never sent, or unknown.
pub(super) fn call_failure(error: &ServiceError) -> Failure {
    let text = chain(error);
    refusal(&text).unwrap_or_else(|| {
        // Only a connection that was never made proves that the bank did not see the call.
        if text.contains("Error(Connect") {
            return unreachable_();
        }
        Failure::unknown(
            "answer_lost",
            "the connection to the bank ended before it answered: the call may have been carried out",
            "repeat the same call with the same idempotency_key or transaction_id: what happened once does not \
             happen again",
        )
    })
}

/// The texts of an error and its causes. rmcp folds some causes into Debug text.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    format!("{text} {error:?}")
}

/// What the bank refused, or the bridge about the bank, by name.
fn refusal(text: &str) -> Option<Failure> {
    if text.contains("CertificateRevoked") || text.contains("revoked") {
        return Some(Failure::refused(
            "agent_revoked",
            "the bank has revoked this agent",
            "ask the bank why; a new agent needs a new key and both signatures",
        ));
    }
    let refusals = ["AccessDenied", "CertificateUnknown", "BadCertificate", "CertificateExpired", "HandshakeFailure"];
    if refusals.iter().any(|alert| text.contains(alert)) || text.contains("HTTP 403") {
        return Some(Failure::refused(
            "certificate_refused",
            "the bank does not accept this agent's certificates",
            "see `countersign cert show NAME` for their dates; the bank's log names the rule",
        ));
    }
    if let Some(refused) = edge_refusal(text) {
        return Some(refused);
    }
    if text.contains("UnknownIssuer") || text.contains("NotValidForName") || text.contains("invalid peer certificate") {
        return Some(Failure::refused(
            "bank_not_recognised",
            "the server is not the bank that this agent trusts",
            "check [upstream] url and bank_root; nothing was sent",
        ));
    }
    None
}

/// The refusal that the bank's HTTP edge wrote into its answer: `HTTP 4xx …: {"error":{…}}`.
fn edge_refusal(text: &str) -> Option<Failure> {
    #[derive(serde::Deserialize)]
    struct Answer {
        error: Failure,
    }
    let start = text.find(r#"{"error":{"#)?;
    let mut answers = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Answer>();
    answers.next()?.ok().map(|answer| answer.error)
}

fn unreachable_() -> Failure {
    Failure::busy(
        "bank_unreachable",
        "the bank cannot be reached",
        "check that it is running and [upstream] in the agent host's configuration, then try again",
    )
}

/// A client of any stdio MCP server, for the demo and the tests: starts the program and speaks to it.
#[derive(Debug)]
pub struct StdioClient {
    running: Connected,
}

impl StdioClient {
    /// Starts `program` with `arguments`; its standard error goes to `log`.
    pub async fn start(program: &Path, arguments: &[String], log: std::fs::File) -> Result<Self, Failure> {
        let failed = |message: String| Failure::fault("mcp_client", message, "see the bridge's log");
        let mut command = tokio::process::Command::new(program);
        command.args(arguments);
        let started = TokioChildProcess::builder(command).stderr(log).spawn();
        let (transport, _) = started.map_err(|error| failed(error.to_string()))?;
        let running = identity("countersign-demo")
            .serve_with_lifecycle(transport, newest())
            .await
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { running })
    }

    /// Names of the tools on offer.
    pub async fn tools(&self) -> Result<Vec<String>, Failure> {
        let tools = self.running.list_all_tools().await.map_err(|error| protocol_failure(&error))?;
        Ok(tools.into_iter().map(|tool| tool.name.into_owned()).collect())
    }

    /// Calls a tool; answers its structured content. A result with `isError` and a JSON-RPC error are `Err`.
    pub async fn call(&self, tool: &str, arguments: Value) -> Result<Value, Value> {
        let mut request = CallToolRequestParams::new(tool.to_owned());
        request.arguments = arguments.as_object().cloned();
        let answered = self.running.call_tool(request).await;
        let result: CallToolResult = answered.map_err(|error| match error {
            ServiceError::McpError(error) => {
                json!({ "status": "failed", "reason": error.data, "message": error.message })
            }
            other => json!({ "status": "failed", "reason": "connection", "message": other.to_string() }),
        })?;
        let content = result.structured_content.unwrap_or_else(|| json!(result.content));
        if result.is_error == Some(true) { Err(content) } else { Ok(content) }
    }

    /// Ends the conversation and the program.
    pub async fn close(self) {
        let _ = self.running.cancel().await;
    }
}

fn protocol_failure(error: &ServiceError) -> Failure {
    Failure::fault("mcp_client", error.to_string(), "see the bridge's log")
}
