//! When the bank needs a person: its page is shown on standard error, and clients that speak of nothing but
//! `elicitation/create` are asked that way.

use rmcp::model::{
    ClientCapabilities, ClientResult, ElicitRequest, ElicitRequestParams, ElicitationSchema, ErrorData, ServerRequest,
    TASKS_EXTENSION_ID,
};
use rmcp::service::{Peer, RoleServer};
use serde_json::{Map, Value, json};

use super::failures::told;
use crate::ops::clock;
use crate::ops::failure::Failure;

/// Longest text of a page's address that is shown.
const URL_CHARS_MAX: usize = 2_000;

/// What the bank is told that this caller can do: opening a page, and following tasks. Nothing else is passed on.
pub(super) fn capabilities(declared: Option<&ClientCapabilities>, is_legacy: bool) -> Value {
    let mut told = Map::new();
    let elicitation = declared.and_then(|declared| declared.elicitation.as_ref());
    // A client of the generation before is asked in whatever mode it has.
    if elicitation.is_some_and(|elicitation| is_legacy || elicitation.url.is_some()) {
        told.insert("elicitation".into(), json!({ "url": {} }));
    }
    if !is_legacy && declared.is_some_and(ClientCapabilities::supports_tasks) {
        told.insert("extensions".into(), json!({ TASKS_EXTENSION_ID: {} }));
    }
    Value::Object(told)
}

/// Shows on standard error which pages a person has to open.
pub(super) fn show_pages(result: &Value) {
    let requests = result["inputRequests"].as_object().into_iter().flat_map(Map::values);
    let asked = requests.filter_map(|request| request["params"]["url"].as_str());
    let waiting = result["structuredContent"]["approval_url"].as_str();
    for url in asked.chain(waiting) {
        // Whatever is shown on a terminal is text, and an address.
        let shown: String = url.chars().filter(char::is_ascii_graphic).take(URL_CHARS_MAX).collect();
        if shown.starts_with("https://") || shown.starts_with("http://") {
            eprintln!("A person decides at {shown}");
        }
    }
}

/// Asks a client of the generation before what the bank asks; answers `inputResponses`.
pub(super) async fn ask(peer: &Peer<RoleServer>, requests: &Value) -> Result<Value, ErrorData> {
    let declared = peer.peer_info().and_then(|info| info.capabilities.elicitation.clone());
    let Some(declared) = declared else {
        return Err(told(&not_possible()));
    };
    let mut responses = Map::new();
    for (key, request) in requests.as_object().into_iter().flatten() {
        let page = (request["params"]["message"].as_str(), request["params"]["url"].as_str());
        let (Some("elicitation/create"), (Some(message), Some(url))) = (request["method"].as_str(), page) else {
            return Err(told(&not_possible()));
        };
        let params = if declared.url.is_some() {
            let elicitation_id = hex::encode(clock::random::<16>());
            ElicitRequestParams::UrlElicitationParams {
                meta: None,
                message: message.to_owned(),
                url: url.to_owned(),
                elicitation_id,
            }
        } else {
            let requested_schema = ElicitationSchema::builder().build().map_err(|error| {
                told(&Failure::fault("internal_defect", error.to_string(), "report this as a defect"))
            })?;
            ElicitRequestParams::FormElicitationParams {
                meta: None,
                message: format!("{message}\n\nOpen this page, and accept here when you are done: {url}"),
                requested_schema,
            }
        };
        let answered = peer.send_request(ServerRequest::ElicitRequest(ElicitRequest::new(params))).await;
        let answer = match answered {
            Ok(ClientResult::ElicitResult(result)) => json!({ "action": result.action }),
            Ok(_) | Err(_) => json!({ "action": "cancel" }),
        };
        responses.insert(key.clone(), answer);
    }
    Ok(Value::Object(responses))
}

fn not_possible() -> Failure {
    Failure::refused(
        "input_not_possible",
        "the bank asks for input that this client cannot give",
        "use a client that supports URL-mode elicitation",
    )
}
