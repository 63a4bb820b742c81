//! The bridge's two MCP ends: a server on stdio for any client, of either protocol generation, and behind it one
//! pooled client to the bank. Calls run concurrently; one that was sent is never sent again by itself.

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ErrorCode, ErrorData, Implementation, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig,
};
use rmcp::service::{QuitReason, RequestContext, ServiceError};
use rmcp::{RoleServer, ServerHandler, ServiceExt};
use serde_json::json;
use tokio::sync::Mutex;

use crate::mcp::client::{self, Connected};
use crate::mcp::signed_http::SignedHttp;
use crate::mcp::stdio::{self, Stdio};
use crate::ops::failure::Failure;

/// Our code for "the bank did not take this call" (−32000…−32019 are the server's own).
const UPSTREAM_FAILED: ErrorCode = ErrorCode(-32010);

/// Time for the last answers to be written.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Makes the HTTP client for one connection to the bank: identity and address may have changed since the last.
pub trait Dial: Send + Sync {
    /// An HTTP client with mutual TLS that signs its requests, and the endpoint's URL. Blocking.
    fn dial(&self) -> Result<(SignedHttp, String), Failure>;
}

/// Serves stdio until the input ends, then lets calls in progress end.
///
/// # Errors
/// `stdio_failed`
pub async fn serve_stdio(dial: Arc<dyn Dial>) -> Result<(), Failure> {
    let failed = |message: String| Failure::fault("stdio_failed", message, "start it again from the MCP client");
    let bridge = Bridge { dial, upstream: Arc::default() };
    let Stdio { read, write, written } = stdio::strict(tokio::io::stdin(), tokio::io::stdout());
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

#[derive(Clone)]
struct Bridge {
    dial: Arc<dyn Dial>,
    /// The current connection; the lock is held while one is being made, so that a crowd makes one. Each call holds
    /// the connection it was sent over: one that is replaced ends with its last call, not before.
    upstream: Arc<Mutex<Option<Arc<Connected>>>>,
}

impl Bridge {
    async fn connection(&self) -> Result<Arc<Connected>, ErrorData> {
        let mut upstream = self.upstream.lock().await;
        if let Some(connected) = upstream.as_ref().filter(|connected| !connected.is_closed()) {
            return Ok(Arc::clone(connected));
        }
        let dial = Arc::clone(&self.dial);
        let dialled = tokio::task::spawn_blocking(move || dial.dial()).await;
        let (http, url) = dialled
            .map_err(|error| ErrorData::internal_error(error.to_string(), None))?
            .map_err(|failure| told(&failure))?;
        let connected = Arc::new(client::upstream(http, &url).await.map_err(|failure| told(&failure))?);
        *upstream = Some(Arc::clone(&connected));
        Ok(connected)
    }

    /// Turns what the upstream answered into what the caller is told. After a transport error the connection is
    /// made anew for the next call.
    async fn settle<T>(&self, over: &Arc<Connected>, answered: Result<T, ServiceError>) -> Result<T, ErrorData> {
        match answered {
            Ok(answer) => Ok(answer),
            Err(ServiceError::McpError(error)) => Err(error),
            Err(error) => {
                tracing::warn!(%error, "the call upstream failed");
                // Another call may have made a new one already: that one stays.
                self.upstream.lock().await.take_if(|current| Arc::ptr_eq(current, over));
                Err(told(&client::call_failure(&error)))
            }
        }
    }
}

impl ServerHandler for Bridge {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("countersign-connect", env!("CARGO_PKG_VERSION")))
            .with_instructions(
                "A bank, reached with this agent's own key in an HSM. Authorize first, then execute with the \
                 transaction_id; when a human must decide, ask get_approval_status.",
            )
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let connection = self.connection().await?;
        let answered = connection.list_tools(request).await;
        self.settle(&connection, answered).await
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let mut request = request;
        // The caller's metadata names its own protocol generation; upstream has its own.
        request.meta = None;
        let connection = self.connection().await?;
        let answered = connection.call_tool(request).await;
        self.settle(&connection, answered).await.map(CallToolResponse::from)
    }
}

/// A failure as a JSON-RPC error that a model can read.
fn told(failure: &Failure) -> ErrorData {
    ErrorData::new(
        UPSTREAM_FAILED,
        format!("{}; {}", failure.message, failure.next_step),
        Some(json!({ "name": failure.name, "retry": failure.retry, "may_have_happened": failure.may_have_happened })),
    )
}
