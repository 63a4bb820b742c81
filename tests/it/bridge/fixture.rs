//! A bank of fixtures: a plain HTTP server on loopback that answers each MCP request as its test says, and tells what
//! it was asked. Signatures are not looked at: what the bank makes of them is tested with the bank.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};

use countersign::kernel::httpsig::{Components, Parameters, SignatureHeaders};
use countersign::kernel::tool_manifest::VerifiedManifest;
use countersign::mcp::bridge::{Dial, serve_lines};
use countersign::mcp::signed_http::{RequestSigner, SignedHttp, TokenSource, Unsent};
use countersign::ops::failure::Failure;
use countersign::tls::asking_config;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, DuplexStream, Lines, duplex, split};

/// How a request is answered.
pub enum Reply {
    /// The result, as JSON.
    Result(Value),
    /// A JSON-RPC error.
    Error(Value),
    /// Messages before the result, as events.
    Events(Vec<Value>, Value),
    /// Messages, and then nothing more until the asker hangs up.
    Open(Vec<Value>),
    /// Exactly these bytes, and the connection ends.
    Raw(String),
    /// The connection ends here.
    HangUp,
}

/// What was seen.
#[derive(Debug)]
pub enum Seen {
    /// The head's lines, and the body.
    Request(Vec<String>, Value),
    /// The asker hung up on an open answer to this method.
    Closed(String),
}

/// Serves until the process ends, on threads of its own.
pub fn serve(reply: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> (SocketAddr, mpsc::Receiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, told) = mpsc::channel();
    let reply = Arc::new(reply);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (seen, reply) = (seen.clone(), Arc::clone(&reply));
            std::thread::spawn(move || converse(&stream.unwrap(), &*reply, &seen));
        }
    });
    (address, told)
}

fn converse(stream: &TcpStream, reply: &dyn Fn(&Value) -> Reply, seen: &mpsc::Sender<Seen>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_owned());
        }
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        let request: Value = serde_json::from_slice(&body).unwrap();
        let _ = seen.send(Seen::Request(head, request.clone()));
        let message =
            |key: &str, value: Value| json!({ "jsonrpc": "2.0", "id": request["id"], key: value }).to_string();
        let mut write = stream;
        let events = |messages: &[String]| {
            messages.iter().map(|text| format!("event: message\ndata: {text}\n\n")).collect::<String>()
        };
        let whole = |kind: &str, body: &str| {
            format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        };
        let said = match reply(&request) {
            Reply::Result(result) => whole("application/json", &message("result", result)),
            Reply::Error(error) => whole("application/json", &message("error", error)),
            Reply::Events(messages, result) => {
                let mut messages: Vec<String> = messages.iter().map(Value::to_string).collect();
                messages.push(message("result", result));
                whole("text/event-stream", &events(&messages))
            }
            Reply::Open(messages) => {
                let messages: Vec<String> = messages.iter().map(Value::to_string).collect();
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
                let _ = write.write_all(format!("{head}{}", events(&messages)).as_bytes());
                // Nothing more is sent on this connection: its end is the asker's.
                let _ = reader.read(&mut [0; 1]);
                let _ = seen.send(Seen::Closed(request["method"].as_str().unwrap().to_owned()));
                return;
            }
            Reply::Raw(text) => {
                let _ = write.write_all(text.as_bytes());
                return;
            }
            Reply::HangUp => return,
        };
        if write.write_all(said.as_bytes()).is_err() {
            return;
        }
    }
}

/// The way to a bank of fixtures, which may move.
#[derive(Clone)]
pub struct Way(Arc<Mutex<SocketAddr>>);

impl Way {
    pub fn to(address: SocketAddr) -> Self {
        Self(Arc::new(Mutex::new(address)))
    }

    pub fn moves_to(&self, address: SocketAddr) {
        *self.0.lock().unwrap() = address;
    }
}

struct Unsigned;

impl RequestSigner for Unsigned {
    fn sign(&self, _: Components, _: Parameters) -> BoxFuture<'_, Result<SignatureHeaders, Failure>> {
        let headers = SignatureHeaders { signature_input: "none".into(), signature: "none".into() };
        Box::pin(std::future::ready(Ok(headers)))
    }
}

impl TokenSource for Unsigned {
    fn token<'a>(&'a self, _: &'a reqwest::Client, _: &'a str) -> BoxFuture<'a, Result<Arc<str>, Unsent>> {
        Box::pin(std::future::ready(Ok("none".into())))
    }

    fn refused(&self, _: &str) {}
}

impl Dial for Way {
    fn address(&self) -> Result<String, Failure> {
        Ok(format!("http://{}/mcp", self.0.lock().unwrap()))
    }

    fn dial(&self) -> Result<SignedHttp, Failure> {
        let client = reqwest::Client::builder().tls_backend_preconfigured(asking_config(None, None)?).no_proxy();
        Ok(SignedHttp::new(client.build().unwrap(), Arc::new(Unsigned), Arc::new(Unsigned)))
    }

    fn has_signed_tools(&self) -> bool {
        false
    }

    fn accept_tools(&self, _: &[u8]) -> Result<VerifiedManifest, Failure> {
        Err(Failure::fault("no_manifest", "nobody signs the tools of a fixture", "report this as a defect"))
    }
}

/// A client of the bridge, line by line.
pub struct Client {
    write: tokio::io::WriteHalf<DuplexStream>,
    lines: Lines<tokio::io::BufReader<tokio::io::ReadHalf<DuplexStream>>>,
    served: tokio::task::JoinHandle<Result<(), Failure>>,
}

impl Client {
    pub fn of(way: Way) -> Self {
        Self::over(Arc::new(way))
    }

    pub fn over(dial: Arc<dyn Dial>) -> Self {
        let (client, bridge) = duplex(1 << 16);
        let (input, output) = split(bridge);
        let served = tokio::spawn(serve_lines(dial, input, output));
        let (read, write) = split(client);
        Self { write, lines: tokio::io::BufReader::new(read).lines(), served }
    }

    pub async fn send(&mut self, message: Value) {
        self.write.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    /// What the bridge says next.
    pub async fn hear(&mut self) -> Value {
        serde_json::from_str(&self.lines.next_line().await.unwrap().unwrap()).unwrap()
    }

    /// What the bridge says next besides that a list has changed, which a client of the generation before may hear at
    /// any time.
    pub async fn hear_else(&mut self) -> Value {
        loop {
            let heard = self.hear().await;
            if !heard["method"].as_str().is_some_and(|method| method.ends_with("/list_changed")) {
                return heard;
            }
        }
    }

    /// Calls a tool as the generation before does.
    pub async fn call(&mut self, id: u64, name: &str) {
        let params = json!({ "name": name, "arguments": {} });
        self.send(json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })).await;
    }

    /// Hangs up; the bridge ends with it.
    pub async fn end(self) {
        let Self { write, lines, served } = self;
        drop((write, lines));
        served.await.unwrap().unwrap();
    }

    /// Sends a request of 2026-07-28 with these capabilities.
    pub async fn request(&mut self, id: u64, method: &str, mut params: Value, capabilities: Value) {
        let meta = params.as_object_mut().unwrap().entry("_meta").or_insert_with(|| json!({}));
        meta["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
        meta["io.modelcontextprotocol/clientCapabilities"] = capabilities;
        meta["io.modelcontextprotocol/clientInfo"] = json!({ "name": "a-client", "version": "1" });
        self.send(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await;
    }

    /// As [`Self::request`], and its answer, which is the next that is said.
    pub async fn ask(&mut self, id: u64, method: &str, params: Value) -> Value {
        self.request(id, method, params, json!({})).await;
        let answer = self.hear().await;
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    /// Says hello as the generation before does; answers what the bridge can do.
    pub async fn initialize(&mut self, capabilities: Value) -> Value {
        let params = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": capabilities,
            "clientInfo": { "name": "a-client", "version": "1" },
        });
        self.send(json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params })).await;
        let answer = self.hear().await;
        self.send(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        answer["result"].clone()
    }
}

/// An answer of HTTP that is all there is on its connection.
pub fn raw(status: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Raw(format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"))
}

/// How many requests of this method were seen so far, of those that nobody has taken yet.
pub fn count(seen: &mpsc::Receiver<Seen>, method: &str) -> usize {
    let is_one = |seen: &Seen| matches!(seen, Seen::Request(_, body) if body["method"] == method);
    seen.try_iter().filter(is_one).count()
}

/// Takes requests of this method from what was seen, until there is one.
pub fn next_request(seen: &mpsc::Receiver<Seen>, method: &str) -> (Vec<String>, Value) {
    loop {
        match seen.recv().unwrap() {
            Seen::Request(head, body) if body["method"] == method => return (head, body),
            Seen::Request(..) | Seen::Closed(_) => {}
        }
    }
}
