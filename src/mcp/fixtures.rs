//! What the MCP conformance suite asks of a server, in place of a bank's own tools: the bank's endpoint and a bridge are
//! judged with it (`scripts/conformance`). Only with the feature `conformance`, and in no optimised build.

#![expect(deprecated, reason = "the suite asks for what the revision has deprecated")]

mod hop;
mod tasks;

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::hmac;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, ClientCapabilities, CompleteRequestParams,
    CompleteResult, ErrorData, GetPromptRequestParams, GetPromptResponse, GetTaskParams, GetTaskResult, Implementation,
    InputResponses, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
    LoggingMessageNotificationParam, PaginatedRequestParams, ProgressNotificationParam, ReadResourceRequestParams,
    ReadResourceResponse, ServerCapabilities, ServerConfig, SubscriptionFilter, Tool, UpdateTaskParams,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::{RoleServer, ServerHandler};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::standing::{Stands, ground};

pub(super) use hop::Hop;

#[cfg(not(debug_assertions))]
compile_error!("the feature `conformance` replaces the bank's tools by fixtures: it is for debug builds alone");

/// A red dot, PNG.
const IMAGE: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8/5+hHgAHggJ/PchI7wAAAABJRU5ErkJggg==";
/// No sound, WAV.
const AUDIO: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA=";

/// Tools without arguments, and what the suite wants to see of each.
const TOOLS: [(&str, &str); 20] = [
    ("test_simple_text", "Answers a text"),
    ("test_image_content", "Answers an image"),
    ("test_audio_content", "Answers a sound"),
    ("test_embedded_resource", "Answers a resource"),
    ("test_multiple_content_types", "Answers text, image and resource"),
    ("test_tool_with_logging", "Logs while it works"),
    ("test_error_handling", "Fails"),
    ("test_tool_with_progress", "Says how far it is"),
    ("test_missing_capability", "Needs sampling"),
    ("test_streaming_elicitation", "Asks for input"),
    ("test_logging_tool", "Logs if it is asked to"),
    ("test_trigger_tool_change", "Changes the list of tools"),
    ("test_trigger_prompt_change", "Changes the list of prompts"),
    ("test_input_required_result_elicitation", "Asks a person"),
    ("test_input_required_result_sampling", "Asks a model"),
    ("test_input_required_result_list_roots", "Asks for roots"),
    ("test_input_required_result_request_state", "Has its state brought back"),
    ("test_input_required_result_multiple_inputs", "Asks for three things"),
    ("test_input_required_result_multi_round", "Asks twice"),
    ("test_input_required_result_tampered_state", "Refuses a state that it did not make"),
];
const CAPABILITIES_TOOL: &str = "test_input_required_result_capabilities";

/// How often the lists have changed: of tools, of prompts.
type Changes = (u64, u64);

/// The suite's server.
#[derive(Clone)]
pub(super) struct Fixtures {
    key: Arc<hmac::Key>,
    changes: Arc<watch::Sender<Changes>>,
    tasks: tasks::Tasks,
}

impl Fixtures {
    pub(super) fn new() -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &crate::ops::clock::random::<32>());
        Self { key: Arc::new(key), changes: Arc::default(), tasks: tasks::Tasks::default() }
    }

    fn seal(&self, state: &str) -> String {
        format!("{state}.{}", hex::encode(hmac::sign(&self.key, state.as_bytes())))
    }

    fn open(&self, sealed: &str) -> Result<String, ErrorData> {
        let refused = || ErrorData::invalid_params("requestState was not made here", None);
        let (state, tag) = sealed.split_once('.').ok_or_else(refused)?;
        let tag = hex::decode(tag).map_err(|_| refused())?;
        hmac::verify(&self.key, state.as_bytes(), &tag).map_err(|_| refused())?;
        Ok(state.to_owned())
    }

    /// The tools that ask for input: what they ask until they have it, then what they say.
    fn with_input(&self, request: &CallToolRequestParams, declared: &ClientCapabilities) -> Result<Value, ErrorData> {
        let responses = request.input_responses.as_ref();
        let has = |key: &str| responses.and_then(|responses| responses.get(key)).is_some_and(Value::is_object);
        let state = request.request_state.as_deref().map(|sealed| self.open(sealed)).transpose()?;
        let name = |key: &str| (key.to_owned(), elicitation("What is your name?", "name"));
        let greeting = || ("greeting".to_owned(), sampling("Generate a greeting"));
        let roots = || ("client_roots".to_owned(), json!({ "method": "roots/list" }));
        Ok(match request.name.as_ref() {
            "test_input_required_result_elicitation" if has("user_name") => text(&said(responses, "user_name", "name")),
            "test_input_required_result_elicitation" => asking([name("user_name")], None),
            "test_input_required_result_sampling" if has("capital_question") => text("The model has answered"),
            "test_input_required_result_sampling" => {
                asking([("capital_question".to_owned(), sampling("What is the capital of France?"))], None)
            }
            "test_input_required_result_list_roots" if has("client_roots") => text("The roots are known"),
            "test_input_required_result_list_roots" => asking([roots()], None),
            "test_input_required_result_request_state" | "test_input_required_result_tampered_state" => match state {
                Some(_) => text("Confirmed: state-ok"),
                None => {
                    asking([("confirm".to_owned(), elicitation("Please confirm", "ok"))], Some(self.seal("confirm")))
                }
            },
            "test_input_required_result_multiple_inputs" => {
                let complete = has("user_name") && has("greeting") && has("client_roots") && state.is_some();
                if complete {
                    return Ok(text("All inputs received"));
                }
                asking([name("user_name"), greeting(), roots()], Some(self.seal("gather")))
            }
            "test_input_required_result_multi_round" => match state.as_deref() {
                None => asking([name("step1")], Some(self.seal("1"))),
                Some("1") => {
                    let step = ("step2".to_owned(), elicitation("What is your favourite colour?", "color"));
                    asking([step], Some(self.seal("2")))
                }
                Some(_) => text("Both rounds are done"),
            },
            // `CAPABILITIES_TOOL`: only what the client can answer.
            _ if responses.is_some() => text("What could be answered was"),
            _ => {
                let mut requests = Vec::new();
                requests.extend(declared.elicitation.as_ref().map(|_| name("user_name")));
                requests.extend(declared.sampling.as_ref().map(|_| greeting()));
                requests.extend(declared.roots.as_ref().map(|_| roots()));
                if requests.is_empty() { text("Nothing can be asked") } else { asking(requests, None) }
            }
        })
    }
}

/// Every tool as the manifest names it: those here, and those that the suite's server listed.
pub(super) fn definitions() -> BTreeMap<String, Value> {
    let definition = |tool: Tool| Some((tool.name.to_string(), serde_json::to_value(&tool).ok()?));
    tools().into_iter().filter_map(definition).chain(hop::listed()).collect()
}

/// Every tool, as it is listed.
fn tools() -> Vec<Tool> {
    let schema = json!({ "type": "object", "properties": {} });
    let mut tools: Vec<Value> = TOOLS
        .iter()
        .chain(&[(CAPABILITIES_TOOL, "Asks what its client can answer")])
        .map(|(name, about)| json!({ "name": name, "description": about, "inputSchema": schema }))
        .collect();
    let dated = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
        "$defs": { "address": {
            "$anchor": "address", "type": "object",
            "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
        } },
        "properties": { "name": { "type": "string" }, "address": { "$ref": "#/$defs/address" } },
        "allOf": [{ "anyOf": [{ "required": ["name"] }, { "required": ["address"] }] }],
        "if": { "required": ["address"] },
        "then": { "properties": { "address": { "required": ["street"] } } },
        "else": { "required": ["name"] },
        "additionalProperties": false,
    });
    let marked =
        json!({ "type": "object", "properties": { "region": { "type": "string", "x-mcp-header": "Region" } } });
    tools.push(json!({ "name": "test_x_mcp_header", "description": "Wants a header", "inputSchema": marked }));
    for (name, about, arguments) in tasks::TOOLS {
        let named = |(name, kind): &(&str, &str)| ((*name).to_owned(), json!({ "type": kind }));
        let properties: serde_json::Map<String, Value> = arguments.iter().map(named).collect();
        let schema = json!({ "type": "object", "properties": properties });
        tools.push(json!({ "name": name, "description": about, "inputSchema": schema }));
    }
    tools.push(json!({ "name": "json_schema_2020_12_tool", "description": "Has a schema", "inputSchema": dated }));
    let read = |tool| serde_json::from_value(tool).expect("the definitions above are tools");
    tools.into_iter().map(read).collect()
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn content(blocks: Value) -> Value {
    json!({ "resultType": "complete", "content": blocks })
}

fn text(text: &str) -> Value {
    content(json!([{ "type": "text", "text": text }]))
}

fn asking(requests: impl IntoIterator<Item = (String, Value)>, state: Option<String>) -> Value {
    let requests: serde_json::Map<String, Value> = requests.into_iter().collect();
    let mut result = json!({ "resultType": "input_required", "inputRequests": requests });
    if let Some(state) = state {
        result["requestState"] = state.into();
    }
    result
}

fn elicitation(message: &str, property: &str) -> Value {
    let kind = if property == "ok" { "boolean" } else { "string" };
    let schema = json!({ "type": "object", "properties": { property: { "type": kind } }, "required": [property] });
    let params = json!({ "mode": "form", "message": message, "requestedSchema": schema });
    json!({ "method": "elicitation/create", "params": params })
}

fn sampling(prompt: &str) -> Value {
    let message = json!({ "role": "user", "content": { "type": "text", "text": prompt } });
    json!({ "method": "sampling/createMessage", "params": { "messages": [message], "maxTokens": 100 } })
}

fn said(responses: Option<&InputResponses>, key: &str, property: &str) -> String {
    let value = responses.and_then(|responses| responses.get(key)).map(|response| &response["content"][property]);
    format!("Hello, {}!", value.and_then(Value::as_str).unwrap_or("friend"))
}

fn response(result: Value) -> Result<CallToolResponse, ErrorData> {
    Ok(match result["resultType"].as_str() {
        Some("input_required") => CallToolResponse::InputRequired(read(result)?),
        Some("task") => CallToolResponse::Task(read(result)?),
        Some(_) | None => CallToolResponse::Complete(read(result)?),
    })
}

fn listed(key: &str, items: Value) -> Value {
    json!({ "resultType": "complete", key: items, "ttlMs": 60_000, "cacheScope": "private" })
}

impl ServerHandler for Fixtures {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_resources_list_changed()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_completions()
            .enable_tasks()
            .build();
        ServerConfig::new(capabilities).with_server_info(Implementation::new("fixtures", env!("CARGO_PKG_VERSION")))
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        read(listed("tools", json!(tools())))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let declared = context.client_capabilities().unwrap_or_default();
        let name = request.name.as_ref();
        if name.starts_with("test_input_required_result_") {
            return response(self.with_input(&request, &declared)?);
        }
        if tasks::TOOLS.iter().any(|(task, _, _)| *task == name) {
            return response(self.tasks.call(&request, &declared)?);
        }
        let image = json!({ "type": "image", "data": IMAGE, "mimeType": "image/png" });
        let resource = |uri: &str, kind: &str, text: &str| json!({ "type": "resource", "resource": { "uri": uri, "mimeType": kind, "text": text } });
        response(match name {
            "test_simple_text" => text("This is a simple text response for testing."),
            "test_image_content" => content(json!([image])),
            "test_audio_content" => content(json!([{ "type": "audio", "data": AUDIO, "mimeType": "audio/wav" }])),
            "test_embedded_resource" => {
                let embedded =
                    resource("test://embedded-resource", "text/plain", "This is an embedded resource content.");
                content(json!([embedded]))
            }
            "test_multiple_content_types" => {
                let mixed =
                    resource("test://mixed-content-resource", "application/json", r#"{"test":"data","value":123}"#);
                content(json!([{ "type": "text", "text": "Multiple content types test:" }, image, mixed]))
            }
            "test_error_handling" => {
                let mut failed = text("This tool intentionally returns an error for testing");
                failed["isError"] = json!(true);
                failed
            }
            "test_tool_with_progress" => {
                if let Some(token) = context.meta.get_progress_token() {
                    for progress in [0.0, 50.0, 100.0] {
                        let told = ProgressNotificationParam::new(token.clone(), progress).with_total(100.0);
                        let _ = context.peer.notify_progress(told).await;
                    }
                }
                text("Progress test completed")
            }
            "test_tool_with_logging" | "test_logging_tool" => {
                if let Some(level) = context.meta.log_level() {
                    let told = LoggingMessageNotificationParam::new(level, json!("logLevel was requested"));
                    let _ = context.peer.notify_logging_message(told).await;
                }
                text("Logging test completed")
            }
            "test_missing_capability" if declared.sampling.is_none() => {
                let needed = read(json!({ "sampling": {} }))?;
                return Err(ErrorData::missing_required_client_capability(needed));
            }
            "test_missing_capability" => text("Required capability declared"),
            "test_streaming_elicitation" => {
                asking([("streaming_elicitation".to_owned(), elicitation("Provide a value", "value"))], None)
            }
            "test_trigger_tool_change" => {
                self.changes.send_modify(|(tools, _)| *tools += 1);
                text("The tools have changed")
            }
            "test_trigger_prompt_change" => {
                self.changes.send_modify(|(_, prompts)| *prompts += 1);
                text("The prompts have changed")
            }
            "json_schema_2020_12_tool" | "test_x_mcp_header" => text("Hello, world!"),
            other => return Err(ErrorData::invalid_params(format!("Unknown tool: {other}"), None)),
        })
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools().into_iter().find(|tool| tool.name == name)
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        read(self.tasks.state(&request.task_id)?)
    }

    async fn update_task(&self, request: UpdateTaskParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.tasks.update(&request.task_id, &request.input_responses)
    }

    async fn cancel_task(&self, request: CancelTaskParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.tasks.cancel(&request.task_id)
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        read(listed(
            "resources",
            json!([
                { "uri": "test://static-text", "name": "Static Text Resource", "mimeType": "text/plain" },
                { "uri": "test://static-binary", "name": "Static Binary Resource", "mimeType": "image/png" },
            ]),
        ))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        read(listed(
            "resourceTemplates",
            json!([
                { "uriTemplate": "test://template/{id}/data", "name": "Dynamic Resource", "mimeType": "application/json" },
            ]),
        ))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri.as_str();
        let id = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
        let contents = match (uri, id) {
            ("test://static-text", _) => {
                json!({ "uri": uri, "mimeType": "text/plain", "text": "This is the content of the static text resource." })
            }
            ("test://static-binary", _) => json!({ "uri": uri, "mimeType": "image/png", "blob": IMAGE }),
            (_, Some(id)) => {
                let text = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") }).to_string();
                json!({ "uri": uri, "mimeType": "application/json", "text": text })
            }
            (_, None) => {
                let data = Some(json!({ "uri": uri }));
                return Err(ErrorData::resource_not_found(format!("Resource not found: {uri}"), data));
            }
        };
        Ok(ReadResourceResponse::Complete(read(listed("contents", json!([contents])))?))
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let arguments = json!([
            { "name": "arg1", "description": "First test argument", "required": true },
            { "name": "arg2", "description": "Second test argument", "required": true },
        ]);
        read(listed(
            "prompts",
            json!([
                { "name": "test_simple_prompt", "description": "Without arguments" },
                { "name": "test_prompt_with_arguments", "description": "With arguments", "arguments": arguments },
                { "name": "test_prompt_with_embedded_resource", "description": "With a resource" },
                { "name": "test_prompt_with_image", "description": "With an image" },
                { "name": "test_input_required_result_prompt", "description": "Asks for input" },
            ]),
        ))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let line = |text: &str| json!({ "role": "user", "content": { "type": "text", "text": text } });
        let argument = |name: &str| {
            let value = request.arguments.as_ref().and_then(|arguments| arguments.get(name)).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let messages = match request.name.as_str() {
            "test_simple_prompt" => json!([line("This is a simple test prompt.")]),
            "test_prompt_with_arguments" => {
                json!([line(&format!(
                    "Prompt with arguments: arg1='{}', arg2='{}'",
                    argument("arg1"),
                    argument("arg2")
                ))])
            }
            "test_prompt_with_embedded_resource" => {
                let resource =
                    json!({ "uri": "test://static-text", "mimeType": "text/plain", "text": "For the prompt" });
                let embedded = json!({ "role": "user", "content": { "type": "resource", "resource": resource } });
                json!([embedded, line("Here is a resource:")])
            }
            "test_prompt_with_image" => {
                let image = json!({ "type": "image", "data": IMAGE, "mimeType": "image/png" });
                json!([{ "role": "user", "content": image }, line("Here is an image:")])
            }
            "test_input_required_result_prompt" => {
                let responses = request.input_responses.as_ref();
                if !responses.and_then(|responses| responses.get("user_context")).is_some_and(Value::is_object) {
                    let asked = ("user_context".to_owned(), elicitation("Which context?", "context"));
                    return Ok(GetPromptResponse::InputRequired(read(asking([asked], None))?));
                }
                json!([line(&said(responses, "user_context", "context"))])
            }
            other => return Err(ErrorData::invalid_params(format!("Unknown prompt: {other}"), None)),
        };
        Ok(GetPromptResponse::Complete(read(json!({ "resultType": "complete", "messages": messages }))?))
    }

    async fn complete(
        &self,
        _: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let completion = json!({ "values": ["paris", "park", "party"], "total": 3, "hasMore": false });
        read(json!({ "resultType": "complete", "completion": completion }))
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let (mut before, mut changes) = ground::<(Changes, watch::Receiver<Changes>)>(&context)?;
        loop {
            tokio::select! {
                _ = changes.changed() => {}
                () = context.cancelled() => return Ok(()),
            }
            let now = *changes.borrow_and_update();
            // Those that have ended hear nothing.
            if now.0 != before.0 {
                let _ = context.sink().notify_tool_list_changed().await;
            }
            if now.1 != before.1 {
                let _ = context.sink().notify_prompt_list_changed().await;
            }
            before = now;
        }
    }
}

impl Stands for Fixtures {
    type Ground = (Changes, watch::Receiver<Changes>);

    async fn stand(&self, _: &SubscriptionFilter, _: &http::Extensions) -> Result<Self::Ground, ErrorData> {
        let changes = self.changes.subscribe();
        let now = *changes.borrow();
        Ok((now, changes))
    }
}
