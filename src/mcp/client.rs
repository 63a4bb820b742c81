//! An MCP client: over stdio to a bridge, as any agent's client would be.

use std::path::Path;

use rmcp::model::{CallToolRequestParams, CallToolResult, ClientConfig, Implementation, ProtocolVersion};
use rmcp::service::{RoleClient, RunningService, ServiceError};
use rmcp::transport::TokioChildProcess;
use rmcp::{ClientLifecycleMode, ClientServiceExt};
use serde_json::{Value, json};

use crate::ops::failure::Failure;

/// A connected client.
type Connected = RunningService<RoleClient, ClientConfig>;

fn identity(name: &str) -> ClientConfig {
    ClientConfig::new(Default::default(), Implementation::new(name, env!("CARGO_PKG_VERSION")))
}

fn newest() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
}

/// A tool as its server offers it.
#[derive(Clone, Debug)]
pub struct Offered {
    pub name: String,
    pub description: String,
    /// JSON Schema of its arguments.
    pub schema: Value,
    /// As its server says; a tool that says nothing acts.
    pub reads_only: bool,
    pub moves_money: bool,
}

/// A client of any stdio MCP server, for `agent`, the demo and the tests: starts the program and speaks to it.
#[derive(Debug)]
pub struct StdioClient {
    running: Connected,
}

impl StdioClient {
    /// Starts `program` with `arguments`; its standard error goes to `log`.
    pub async fn start(program: &Path, arguments: &[String], log: std::fs::File) -> Result<Self, Failure> {
        let failed = |message: String| Failure::fault("mcp_client", message, "see the bridge's log");
        let mut command = tokio::process::Command::new(program);
        // In a process group of its own: an interrupt at the terminal is its caller's to answer.
        command.args(arguments).process_group(0);
        // Its caller's keys at other services are none of its business.
        let is_key = |name: &std::ffi::OsString| name.to_str().is_some_and(|name| name.ends_with("_API_KEY"));
        for key in std::env::vars_os().map(|(name, _)| name).filter(is_key) {
            command.env_remove(key);
        }
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

    /// The tools on offer, whole.
    pub async fn offered(&self) -> Result<Vec<Offered>, Failure> {
        let tools = self.running.list_all_tools().await.map_err(|error| protocol_failure(&error))?;
        let offered = tools.into_iter().map(|tool| {
            let hints = tool.annotations.as_ref();
            let reads_only = hints.and_then(|hints| hints.read_only_hint) == Some(true);
            let acts_gently = hints.and_then(|hints| hints.destructive_hint) == Some(false);
            Offered {
                name: tool.name.into_owned(),
                description: tool.description.unwrap_or_default().into_owned(),
                schema: Value::Object(tool.input_schema.as_ref().clone()),
                reads_only,
                moves_money: !reads_only && !acts_gently,
            }
        });
        Ok(offered.collect())
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
