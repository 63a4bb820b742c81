//! Requests to the bank, byte by byte, as its clients write them. Nothing is signed here (`signed`).

use serde_json::{Value, json};

/// A request of these lines; a header without a value is left out.
pub fn composed<'a>(
    method: &str,
    path: &str,
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    body: &str,
) -> Vec<u8> {
    let headers = headers.into_iter().filter(|(_, value)| !value.is_empty());
    let headers: String = headers.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\n{headers}\r\n{body}").into_bytes()
}

pub fn get(path: &str) -> Vec<u8> {
    composed("GET", path, [("Host", "127.0.0.1")], "")
}

/// With these headers, its host and its length.
pub fn post(path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let length = body.len().to_string();
    let usual = [("Host", "127.0.0.1"), ("Content-Length", &*length)];
    composed("POST", path, usual.into_iter().chain(headers.iter().copied()), body)
}

/// A call of a tool.
pub fn tool_call(tool: &str, arguments: &Value) -> Vec<u8> {
    message("tools/call", json!({ "name": tool, "arguments": arguments }))
}

/// A message of MCP, by a client that can do nothing of its own.
pub fn message(method: &str, params: Value) -> Vec<u8> {
    message_as(method, params, &json!({}))
}

/// A message of MCP by a client that can do this. What is looked up under a name says it in a header too.
pub fn message_as(method: &str, mut params: Value, capabilities: &Value) -> Vec<u8> {
    let progress = params["_meta"]["progressToken"].clone();
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    });
    if !progress.is_null() {
        params["_meta"]["progressToken"] = progress;
    }
    let name = match method {
        "tools/call" | "prompts/get" => params["name"].as_str(),
        "resources/read" => params["uri"].as_str(),
        "tasks/get" | "tasks/update" | "tasks/cancel" => params["taskId"].as_str(),
        _ => None,
    };
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let headers = [
        ("Accept", "application/json, text/event-stream"),
        ("Content-Type", "application/json"),
        ("Mcp-Protocol-Version", "2026-07-28"),
        ("Mcp-Method", method),
        ("Mcp-Name", name.unwrap_or_default()),
    ];
    post("/mcp", &headers, &body)
}

/// A request for a token, with more parameters than the grant.
pub fn token_request(more: &str) -> Vec<u8> {
    form(&format!("grant_type=client_credentials{more}"), &[])
}

/// A form for the token endpoint, with more headers than its type.
pub fn form(text: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let kind = [("Content-Type", "application/x-www-form-urlencoded")];
    post("/oauth/token", &[&kind, headers].concat(), text)
}

/// The request with this token.
pub fn bearing(token: &str, request: &[u8]) -> Vec<u8> {
    with(request, "\r\n\r\n", &format!("\r\nAuthorization: Bearer {token}\r\n\r\n"))
}

/// The same with one text in place of another.
pub fn with(request: &[u8], this: &str, that: &str) -> Vec<u8> {
    let text = String::from_utf8(request.to_vec()).unwrap();
    assert!(text.contains(this), "{this} is not in {text}");
    text.replacen(this, that, 1).into_bytes()
}

/// The same with another body of the right length.
pub fn with_body(request: &[u8], this: &str, that: &str) -> Vec<u8> {
    let text = String::from_utf8(with(request, this, that)).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find(|line| line.starts_with("Content-Length")).unwrap();
    format!("{}\r\n\r\n{body}", head.replacen(length, &format!("Content-Length: {}", body.len()), 1)).into_bytes()
}
