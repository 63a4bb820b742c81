//! What the bridge answers to its client, method by method: the bank's answers, in the library's types.

use std::sync::PoisonError;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, CompleteRequestParams, CompleteResult, DiscoverResult,
    ErrorData, GetPromptRequestParams, GetPromptResponse, GetTaskParams, GetTaskResult, Implementation,
    InitializeRequestParams, InitializeResult, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListToolsResult, PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse,
    ServerConfig, SubscriptionFilter, Tool, UpdateTaskParams,
};
use rmcp::service::{NotificationContext, RequestContext, SubscriptionContext};
use rmcp::{RoleServer, ServerHandler};
use serde_json::Value;

use super::{Bridge, Known, NAME, manifest, of_a_bank, read};

const INSTRUCTIONS: &str = "A bank, reached with this agent's own key in an HSM. Authorize first, then execute with \
the transaction_id; when a human must decide, ask get_approval_status.";

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
        info.capabilities.extensions = None;
        if let Some(resources) = info.capabilities.resources.as_mut() {
            resources.subscribe = None;
        }
        Ok(info)
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        self.follow_lists(&self.get_info().capabilities, context.peer);
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
        let is_first = request.as_ref().is_none_or(|page| page.cursor.is_none());
        let listed = self.forward_raw("tools/list", request, &context).await?;
        let mut shown = Self::meanwhile(&context, self.accepted_only(listed)).await?;
        self.marked.learn(&mut shown, is_first);
        read(shown)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        // On loopback the library checks a call's headers against it.
        self.marked.tool(name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if let Some(manifest) = Self::meanwhile(&context, self.tools.current(&self.dial, &self.upstream)).await?
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

/// True of an answer that asks for input.
fn asks(result: &Value) -> bool {
    result["resultType"] == "input_required"
}
