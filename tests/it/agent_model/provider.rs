//! A server that plays scripted answers as a model's provider would send them, and reads what it is sent as that
//! provider would.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// The key that the agent is given; it must be seen here, as this provider sees keys, and nowhere else.
pub const KEY: &str = "sk-test-0123456789-secret";

/// How a provider speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    Anthropic,
    OpenAiChat,
    OpenAiResponses,
    Gemini,
    Ollama,
}

impl Dialect {
    pub const ALL: [Self; 5] = [Self::Anthropic, Self::OpenAiChat, Self::OpenAiResponses, Self::Gemini, Self::Ollama];

    pub fn model(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic:claude-test",
            Self::OpenAiChat => "openai:gpt-4o-mini",
            Self::OpenAiResponses => "openai:gpt-5",
            Self::Gemini => "gemini:gemini-test",
            Self::Ollama => "ollama:qwen3:8b",
        }
    }

    pub fn key_variable(self) -> &'static str {
        match self {
            Self::Anthropic => "ANTHROPIC_API_KEY",
            Self::OpenAiChat | Self::OpenAiResponses => "OPENAI_API_KEY",
            Self::Gemini => "GEMINI_API_KEY",
            Self::Ollama => "OLLAMA_API_KEY",
        }
    }

    /// The path of the base URL, as the provider's own ends.
    fn base(self) -> &'static str {
        match self {
            Self::Anthropic | Self::OpenAiChat | Self::OpenAiResponses => "/v1/",
            Self::Gemini => "/v1beta/",
            Self::Ollama => "/",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Anthropic => "/v1/messages",
            Self::OpenAiChat => "/v1/chat/completions",
            Self::OpenAiResponses => "/v1/responses",
            Self::Gemini => "/v1beta/models/gemini-test:generateContent",
            Self::Ollama => "/api/chat",
        }
    }

    /// The header in which the key comes.
    fn key_header(self) -> Option<(&'static str, String)> {
        match self {
            Self::Anthropic => Some(("x-api-key", KEY.to_owned())),
            Self::OpenAiChat | Self::OpenAiResponses => Some(("authorization", format!("Bearer {KEY}"))),
            Self::Gemini => Some(("x-goog-api-key", KEY.to_owned())),
            Self::Ollama => None,
        }
    }

    /// The tools that the model is offered, by name.
    pub fn tools(self, request: &Value) -> Vec<String> {
        let listed = match self {
            Self::Gemini => &request["tools"][0]["functionDeclarations"],
            Self::Anthropic | Self::OpenAiChat | Self::OpenAiResponses | Self::Ollama => &request["tools"],
        };
        let name = |tool: &Value| match self {
            Self::OpenAiChat | Self::Ollama => tool["function"]["name"].as_str().unwrap().to_owned(),
            Self::Anthropic | Self::OpenAiResponses | Self::Gemini => tool["name"].as_str().unwrap().to_owned(),
        };
        listed.as_array().unwrap().iter().map(name).collect()
    }

    /// What the calls of the model's last turn have come to.
    fn results(self, request: &Value) -> Vec<Value> {
        let parsed = |text: &Value| serde_json::from_str(text.as_str().unwrap()).unwrap();
        let messages = match self {
            Self::Gemini => &request["contents"],
            Self::OpenAiResponses => &request["input"],
            Self::Anthropic | Self::OpenAiChat | Self::Ollama => &request["messages"],
        };
        let messages = messages.as_array().unwrap();
        let last = messages.last().unwrap();
        let trailing = |is_result: &dyn Fn(&Value) -> bool, text: &str| -> Vec<Value> {
            let mut found: Vec<Value> = messages
                .iter()
                .rev()
                .take_while(|message| is_result(message))
                .map(|message| parsed(&message[text]))
                .collect();
            found.reverse();
            found
        };
        match self {
            Self::Anthropic => {
                let parts = last["content"].as_array().into_iter().flatten();
                parts.filter(|part| part["type"] == "tool_result").map(|part| parsed(&part["content"])).collect()
            }
            Self::Gemini => {
                let parts = last["parts"].as_array().into_iter().flatten();
                let answers = parts.filter_map(|part| part.get("functionResponse"));
                answers.map(|answer| parsed(&answer["response"]["content"])).collect()
            }
            Self::OpenAiChat | Self::Ollama => trailing(&|message| message["role"] == "tool", "content"),
            Self::OpenAiResponses => trailing(&|item| item["type"] == "function_call_output", "output"),
        }
    }

    /// A turn as this provider's servers write it. `turn` makes the calls' ids differ.
    fn answer(self, turn: usize, text: Option<&str>, calls: &[(&str, Value)]) -> Value {
        let stops = |done: &'static str, calling: &'static str| if calls.is_empty() { done } else { calling };
        let numbered = calls.iter().enumerate().map(|(number, call)| (format!("{turn}_{number}"), call));
        match self {
            Self::Anthropic => {
                let text = text.map(|text| json!({ "type": "text", "text": text }));
                let calls = numbered.map(|(id, (tool, input))| {
                    json!({ "type": "tool_use", "id": format!("toolu_{id}"), "name": tool, "input": input })
                });
                json!({
                    "id": format!("msg_{turn}"), "type": "message", "role": "assistant", "model": "claude-test",
                    "content": text.into_iter().chain(calls).collect::<Vec<_>>(),
                    "stop_reason": stops("end_turn", "tool_use"), "stop_sequence": null,
                    "usage": { "input_tokens": 10, "output_tokens": 5 },
                })
            }
            Self::OpenAiChat => {
                let calls: Vec<_> = numbered
                    .map(|(id, (tool, arguments))| {
                        let function = json!({ "name": tool, "arguments": written(arguments) });
                        json!({ "id": format!("call_{id}"), "type": "function", "function": function })
                    })
                    .collect();
                let mut message = json!({ "role": "assistant", "content": text, "refusal": null });
                if !calls.is_empty() {
                    message["tool_calls"] = json!(calls);
                }
                json!({
                    "id": format!("chatcmpl-{turn}"), "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
                    "choices": [{
                        "index": 0, "message": message, "logprobs": null, "finish_reason": stops("stop", "tool_calls"),
                    }],
                    "usage": { "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 },
                })
            }
            Self::OpenAiResponses => {
                let text = text.map(|text| {
                    let part = json!({ "type": "output_text", "text": text, "annotations": [] });
                    let role = "assistant";
                    json!({ "type": "message", "id": "msg_1", "role": role, "status": "completed", "content": [part] })
                });
                let calls = numbered.map(|(id, (tool, arguments))| {
                    json!({
                        "type": "function_call", "id": format!("fc_{id}"), "call_id": format!("call_{id}"), "name": tool,
                        "arguments": written(arguments), "status": "completed",
                    })
                });
                json!({
                    "id": format!("resp_{turn}"), "object": "response", "created_at": 1, "status": "completed",
                    "error": null, "model": "gpt-5", "output": text.into_iter().chain(calls).collect::<Vec<_>>(),
                    "usage": { "input_tokens": 10, "output_tokens": 5, "total_tokens": 15 },
                })
            }
            Self::Gemini => {
                let text = text.map(|text| json!({ "text": text }));
                let calls = calls.iter().map(|(tool, args)| {
                    json!({ "functionCall": { "name": tool, "args": args }, "thoughtSignature": "c2lnbmVk" })
                });
                let parts: Vec<_> = text.into_iter().chain(calls).collect();
                json!({
                    "candidates": [{
                        "content": { "role": "model", "parts": parts }, "finishReason": "STOP", "index": 0,
                    }],
                    "usageMetadata": { "promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15 },
                    "modelVersion": "gemini-test", "responseId": format!("r{turn}"),
                })
            }
            Self::Ollama => {
                let calls: Vec<_> = calls
                    .iter()
                    .map(|(tool, arguments)| json!({ "function": { "name": tool, "arguments": arguments } }))
                    .collect();
                let mut message = json!({ "role": "assistant", "content": text.unwrap_or_default() });
                if !calls.is_empty() {
                    message["tool_calls"] = json!(calls);
                }
                json!({
                    "model": "qwen3:8b", "created_at": "2026-11-22T00:00:00Z", "message": message, "done": true,
                    "done_reason": "stop", "total_duration": 1, "prompt_eval_count": 10, "eval_count": 5,
                })
            }
        }
    }
}

/// Arguments as OpenAI sends them: JSON in a string. A string stands for itself, however broken.
fn written(arguments: &Value) -> String {
    arguments.as_str().map_or_else(|| arguments.to_string(), str::to_owned)
}

/// One turn of a script.
pub enum Say {
    Calls(Vec<(&'static str, Value)>),
    Text(String),
    /// Anything else: status, headers, body.
    Raw(u16, &'static str, String),
    /// Nothing, until whoever asked has hung up.
    Nothing,
}

/// Makes a turn of what the turn before came to.
pub type Turn = Box<dyn FnOnce(&[Value]) -> Say + Send>;

/// A provider at work; it ends with the test.
pub struct Provider {
    port: u16,
    dialect: Dialect,
    requests: Arc<Mutex<Vec<Value>>>,
}

impl Provider {
    pub fn start(dialect: Dialect, script: Vec<Turn>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            let mut script = VecDeque::from(script);
            for connection in listener.incoming() {
                serve(dialect, connection.unwrap(), &mut script, &seen);
            }
        });
        Self { port, dialect, requests }
    }

    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}{}", self.port, self.dialect.base())
    }

    /// Every request's body.
    pub fn requests(&self) -> Vec<Value> {
        self.requests.lock().unwrap().clone()
    }
}

/// Requests of one connection, until it ends.
fn serve(dialect: Dialect, connection: TcpStream, script: &mut VecDeque<Turn>, seen: &Mutex<Vec<Value>>) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut writer = connection;
    while let Some((path, headers, body)) = request(&mut reader) {
        assert_eq!(path, dialect.path());
        if let Some((name, value)) = dialect.key_header() {
            assert!(headers.contains(&(name.to_owned(), value)), "{name} is not in {headers:?}");
        }
        let turn = {
            let mut seen = seen.lock().unwrap();
            seen.push(body.clone());
            seen.len()
        };
        let next = script.pop_front();
        let say = next.map_or_else(|| Say::Raw(400, "", "{}".to_owned()), |next| next(&dialect.results(&body)));
        let (status, headers, body) = match say {
            Say::Calls(calls) => (200, "", dialect.answer(turn, None, &calls).to_string()),
            Say::Text(text) => (200, "", dialect.answer(turn, Some(&text), &[]).to_string()),
            Say::Raw(status, headers, body) => (status, headers, body),
            Say::Nothing => {
                let _ = reader.read(&mut [0]);
                return;
            }
        };
        let kind = if headers.contains("Content-Type") { "" } else { "Content-Type: application/json\r\n" };
        let length = body.len();
        let head = format!("HTTP/1.1 {status} Said\r\n{kind}{headers}Content-Length: {length}\r\n\r\n");
        if writer.write_all(format!("{head}{body}").as_bytes()).is_err() {
            return;
        }
    }
}

type Headers = Vec<(String, String)>;

fn request(reader: &mut BufReader<TcpStream>) -> Option<(String, Headers, Value)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let path = line.split(' ').nth(1).unwrap().to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").unwrap().1.parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Some((path, headers, serde_json::from_slice(&body).unwrap()))
}
