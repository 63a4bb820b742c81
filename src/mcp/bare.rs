//! The least that an MCP server can be: one tool with nothing behind it. `countersign bench mcp` compares with it.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Bytes, Incoming};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ErrorData, ProtocolVersion, ServerCapabilities,
    ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{RoleServer, ServerHandler};
use serde_json::json;

const VERSIONS: [ProtocolVersion; 1] = [ProtocolVersion::V_2026_07_28];

/// The endpoint, with the library's settings as the bank has them.
pub struct BareEndpoint(StreamableHttpService<OneTool, NeverSessionManager>);

impl BareEndpoint {
    /// Reached under these names.
    pub fn new(hosts: &[String]) -> Self {
        let config = StreamableHttpServerConfig::default()
            .with_legacy_session_mode(false)
            .with_json_response(true)
            .with_stateless_protocol_metadata_required(true)
            .with_sse_keep_alive(None)
            .with_allowed_hosts(hosts.to_vec())
            .enforce_origin_validation();
        Self(StreamableHttpService::new(|| Ok(OneTool), Arc::new(NeverSessionManager::default()), config))
    }

    pub async fn answer(&self, request: Request<Incoming>) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        self.0.handle(request).await.map(|body| body.boxed_unsync())
    }
}

#[derive(Clone)]
struct OneTool;

impl ServerHandler for OneTool {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(&VERSIONS)
    }

    async fn call_tool(
        &self,
        _: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let answer = json!({ "account_id": "CHK_001", "balance": "5247.83", "currency": "USD" });
        Ok(CallToolResult::structured(answer).into())
    }
}
