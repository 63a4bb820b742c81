//! Requests to the bank byte by byte, signed by an agent's key as a bridge has them signed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign::kernel::httpsig::{Components, Parameters, SignatureHeaders, content_digest};
use countersign::mcp::signed_http::fresh;
use countersign::tls;
use countersign::tls::agent::AgentSocket;
use serde_json::Value;

/// Longer than every limit of the listener.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The request with the headers of its signature, made for now. What is not HTTP stays as it is.
pub fn signed(agent: &AgentSocket, request: &[u8]) -> Vec<u8> {
    signed_as(agent, request, fresh())
}

/// As [`signed`], made for another moment or with another nonce.
pub fn signed_as(agent: &AgentSocket, request: &[u8], parameters: Parameters) -> Vec<u8> {
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

    pub fn ask(&mut self, request: &[u8]) -> Answer {
        self.0.write_all(request).unwrap();
        self.0.flush().unwrap();
        let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
        loop {
            let more = self.0.read(&mut part).unwrap();
            assert!(more > 0, "the bank hung up after {:?}", String::from_utf8_lossy(&bytes));
            bytes.extend_from_slice(&part[..more]);
            if let Some(answer) = whole(&bytes) {
                return answer;
            }
        }
    }
}

fn whole(bytes: &[u8]) -> Option<Answer> {
    let (head, body) = split(bytes)?;
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let body = body.get(..length.unwrap_or(0))?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: serde_json::from_slice(body).unwrap_or_default() })
}
