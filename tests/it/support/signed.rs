//! Requests to the bank byte by byte, signed by an agent's key as a bridge has them signed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use countersign::kernel::httpsig::{Components, Parameters, SignatureHeaders, content_digest};
use countersign::mcp::signed_http::fresh;
use countersign::tls;
use countersign::tls::agent::AgentSocket;
use serde_json::Value;

use super::raw::token_request;

/// Well below the life of a token.
const TOKEN_AGE_MAX: Duration = Duration::from_secs(120);

/// Longer than every limit of the listener.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// An agent of a host, with the access token that the bank gave it.
pub struct Agent {
    socket: AgentSocket,
    bank: PathBuf,
    agent_host: PathBuf,
    token: Mutex<Option<(Instant, String)>>,
}

impl Deref for Agent {
    type Target = AgentSocket;

    fn deref(&self) -> &AgentSocket {
        &self.socket
    }
}

impl Agent {
    /// An agent of the bank and the host with these state directories.
    pub fn new(bank: &Path, agent_host: &Path, name: &str) -> Self {
        let socket = AgentSocket::new(agent_host.join("run/agent.sock"), name.parse().unwrap());
        Self { socket, bank: bank.to_owned(), agent_host: agent_host.to_owned(), token: Mutex::default() }
    }

    pub fn line(&self) -> Line {
        Line::open(&self.bank, &self.agent_host, &self.socket)
    }

    /// A token with all tools of its role.
    pub fn token(&self) -> String {
        let mut token = self.token.lock().unwrap();
        token.take_if(|(asked, _)| asked.elapsed() > TOKEN_AGE_MAX);
        token.get_or_insert_with(|| (Instant::now(), granted(&self.line().ask(&token_request(""))))).1.clone()
    }

    /// The request with a token, if it has none.
    pub fn with_token(&self, request: &[u8]) -> Vec<u8> {
        let Some((head, body)) = split(request) else {
            return request.to_vec();
        };
        if head.to_ascii_lowercase().contains("\r\nauthorization:") {
            return request.to_vec();
        }
        [head.as_bytes(), b"\r\nAuthorization: Bearer ", self.token().as_bytes(), b"\r\n\r\n", body].concat()
    }
}

/// The token of an answer.
pub fn granted(answer: &Answer) -> String {
    answer.body["access_token"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

/// The request with a token and the headers of its signature, made for now. What is not HTTP stays as it is.
pub fn signed(agent: &Agent, request: &[u8]) -> Vec<u8> {
    signed_as(agent, request, fresh())
}

/// As [`signed`], made for another moment or with another nonce.
pub fn signed_as(agent: &Agent, request: &[u8], parameters: Parameters) -> Vec<u8> {
    signed_only(agent, &agent.with_token(request), parameters)
}

/// As [`signed_as`], with no token but what the request has.
pub fn signed_only(agent: &AgentSocket, request: &[u8], parameters: Parameters) -> Vec<u8> {
    let Some((head, body)) = split(request) else {
        return request.to_vec();
    };
    let Some(components) = components(head, body) else {
        return request.to_vec();
    };
    let digest = components.content_digest.clone();
    let SignatureHeaders { signature_input, signature } = agent.sign_request(components, parameters).unwrap();
    let headers =
        format!("\r\nContent-Digest: {digest}\r\nSignature-Input: {signature_input}\r\nSignature: {signature}\r\n\r\n");
    [head.as_bytes(), headers.as_bytes(), body].concat()
}

/// Everything before the empty line, and everything after it.
fn split(request: &[u8]) -> Option<(&str, &[u8])> {
    let end = request.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some((std::str::from_utf8(&request[..end]).ok()?, &request[end + 4..]))
}

/// What is signed of a request. What it should have and has not is signed as `none`: the bank finds it missing.
pub fn components(head: &str, body: &[u8]) -> Option<Components> {
    let mut lines = head.split("\r\n");
    let [method, target, _] = lines.next()?.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    let headers: Vec<(String, &str)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
        .collect();
    let header = |name: &str| headers.iter().find(|(found, _)| found == name).map(|(_, value)| (*value).to_owned());
    let needed = |name: &str| header(name).unwrap_or_else(|| "none".into());
    let chunked = header("transfer-encoding").is_some().then(|| first_chunk(body)).flatten();
    Some(Components {
        method: method.to_owned(),
        target_uri: format!("https://{}{target}", needed("host")),
        content_digest: content_digest(chunked.unwrap_or(body)),
        protocol_version: needed("mcp-protocol-version"),
        mcp_method: needed("mcp-method"),
        mcp_name: header("mcp-name"),
        authorization: header("authorization"),
    })
}

fn first_chunk(body: &[u8]) -> Option<&[u8]> {
    let end = body.windows(2).position(|two| two == b"\r\n")?;
    let length = usize::from_str_radix(std::str::from_utf8(&body[..end]).ok()?, 16).ok()?;
    body[end + 2..].get(..length)
}

/// An agent's connection to the bank, over which requests go one after the other.
pub struct Line(rustls::StreamOwned<rustls::ClientConnection, TcpStream>);

/// What the bank answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    pub body: Value,
}

impl Answer {
    /// The name of the refusal, when it is one of the HTTP edge.
    pub fn name(&self) -> &str {
        self.body["error"]["name"].as_str().unwrap_or_default()
    }

    /// What a tool answered.
    pub fn content(&self) -> &Value {
        &self.body["result"]["structuredContent"]
    }
}

impl Line {
    /// Connects to the bank of this state directory as an agent of that host.
    pub fn open(bank: &Path, agent_host: &Path, agent: &AgentSocket) -> Self {
        let root = std::fs::read(agent_host.join("anchors/bank-root.pem")).unwrap();
        let (_, root) = x509_parser::pem::parse_x509_pem(&root).unwrap();
        let chain = agent.chain().unwrap();
        let config = tls::client_config(&chain, Arc::new(agent.clone()), &root.contents).unwrap();
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let ports = std::fs::read(bank.join("run/ports.json")).unwrap();
        let ports: Value = serde_json::from_slice(&ports).unwrap();
        let stream = TcpStream::connect(ports["mcp"].as_str().unwrap()).unwrap();
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).unwrap();
        Self(rustls::StreamOwned::new(connection, stream))
    }

    /// Sends a request whose answer is a stream of events.
    pub fn follow(mut self, request: &[u8]) -> Events {
        self.send(request);
        Events { line: self, bytes: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
        self.0.flush().unwrap();
    }

    /// Everything until the bank hangs up.
    pub fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        // However it hangs up.
        let _ = self.0.read_to_end(&mut rest);
        String::from_utf8_lossy(&rest).into_owned()
    }

    pub fn ask(&mut self, request: &[u8]) -> Answer {
        self.send(request);
        self.answer()
    }

    /// The answer; `None` where the bank has hung up before it.
    pub fn try_ask(&mut self, request: &[u8]) -> Option<Answer> {
        self.0.write_all(request).and_then(|()| self.0.flush()).ok()?;
        let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
        loop {
            if let Some((answer, _)) = whole(&bytes) {
                return Some(answer);
            }
            let more = self.0.read(&mut part).ok().filter(|more| *more > 0)?;
            bytes.extend_from_slice(&part[..more]);
        }
    }

    /// This end's port.
    pub fn port(&self) -> u16 {
        self.0.sock.local_addr().unwrap().port()
    }

    /// The next answer.
    pub fn answer(&mut self) -> Answer {
        let [answer] = self.answers();
        answer
    }

    /// The next answers, to requests that were sent at once.
    pub fn answers<const COUNT: usize>(&mut self) -> [Answer; COUNT] {
        let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
        std::array::from_fn(|_| {
            loop {
                if let Some((answer, length)) = whole(&bytes) {
                    bytes.drain(..length);
                    return answer;
                }
                let more = self.0.read(&mut part).unwrap();
                assert!(more > 0, "the bank hung up after {:?}", String::from_utf8_lossy(&bytes));
                bytes.extend_from_slice(&part[..more]);
            }
        })
    }

    /// Reads exactly these bytes.
    pub fn read_until(&mut self, expected: &[u8]) {
        let mut bytes = vec![0; expected.len()];
        self.0.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(expected));
    }
}

/// What the bank tells over one connection, event by event.
pub struct Events {
    line: Line,
    bytes: Vec<u8>,
}

impl Events {
    /// The next message. None: the bank has hung up or ended the stream.
    pub fn next(&mut self) -> Option<Value> {
        let mut part = [0; 4096];
        loop {
            // Each message is a line of its own, in a chunk of its own.
            let data = self.bytes.windows(6).position(|six| six == b"data: ");
            let end = data
                .and_then(|at| Some((at + 6, at + 6 + self.bytes[at + 6..].iter().position(|byte| *byte == b'\n')?)));
            if let Some((begin, end)) = end {
                let message = serde_json::from_slice(&self.bytes[begin..end]);
                self.bytes.drain(..end);
                match message {
                    Ok(message) => return Some(message),
                    // A word of the stream itself, without a message.
                    Err(_) => continue,
                }
            }
            match self.line.0.read(&mut part) {
                Ok(0) | Err(_) => return None,
                Ok(more) => self.bytes.extend_from_slice(&part[..more]),
            }
        }
    }
}

/// The first answer in these bytes, and its length.
fn whole(bytes: &[u8]) -> Option<(Answer, usize)> {
    let (head, body) = split(bytes)?;
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let body = body.get(..length.unwrap_or(0))?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let end = head.len() + 4 + body.len();
    Some((Answer { status, head: head.to_owned(), body: serde_json::from_slice(body).unwrap_or_default() }, end))
}
