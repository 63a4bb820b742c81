//! One agent's connection to a bank, request by request: signed, with a token, as a bridge would; or bare, for a server
//! that asks for neither.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::served::failed;
use crate::hsm::{CertifiedKey, KeyInfo, Token};
use crate::kernel::httpsig::{self, Components};
use crate::kernel::sign::Algorithm;
use crate::kernel::types::KeyId;
use crate::mcp::signed_http;
use crate::ops::failure::Failure;
use crate::tls::{self, agent};

const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A connection that is made with the first call, and anew after it was hung up.
pub(super) struct Line {
    connector: TlsConnector,
    address: SocketAddr,
    proof: Option<Proof>,
    stream: Option<TlsStream<TcpStream>>,
}

/// Where requests are signed.
#[derive(Clone, Copy)]
enum Signing {
    /// On the thread of the task.
    Here,
    /// The thread's other tasks go on without it: a token takes its time.
    Aside,
}

/// What a bank asks for besides the connection.
#[derive(Clone)]
struct Proof {
    token: Arc<dyn Token>,
    key: KeyId,
    algorithm: Algorithm,
    signing: Signing,
    /// The Authorization header with the access token: it lives longer than a measurement.
    bearer: Option<String>,
}

impl Clone for Line {
    /// The same agent, with a connection of its own.
    fn clone(&self) -> Self {
        let (connector, proof) = (self.connector.clone(), self.proof.clone());
        Self { connector, address: self.address, proof, stream: None }
    }
}

impl Line {
    /// Of an agent whose key this token has, to a bank under this root (DER).
    ///
    /// # Errors
    /// `tls_key_unusable`, `bank_root_unusable`
    pub(super) fn of(
        token: Arc<dyn Token>,
        identity: &CertifiedKey,
        root: &[u8],
        address: SocketAddr,
    ) -> Result<Self, Failure> {
        let signer = tls::signer(Arc::clone(&token), identity.key.id);
        let connector = TlsConnector::from(Arc::new(tls::client_config(&identity.chain, signer, root)?));
        let KeyInfo { id: key, algorithm, .. } = identity.key;
        let proof = Proof { token, key, algorithm, signing: Signing::Aside, bearer: None };
        Ok(Self { connector, address, proof: Some(proof), stream: None })
    }

    /// With a key in memory: it signs faster than a thread changes.
    pub(super) fn in_memory(mut self) -> Self {
        if let Some(proof) = &mut self.proof {
            proof.signing = Signing::Here;
        }
        self
    }

    /// To a server that asks for no signatures and no tokens.
    pub(super) fn bare(self, address: SocketAddr) -> Self {
        Self { address, proof: None, stream: None, ..self }
    }

    pub(super) fn hang_up(&mut self) {
        self.stream = None;
    }

    /// Calls a tool; answers the whole message.
    pub(super) async fn call(&mut self, tool: &str, arguments: &Value) -> std::io::Result<Value> {
        self.authorize().await?;
        let request = self.prepared(tool, arguments).map_err(std::io::Error::other)?;
        Ok(self.exchange(&request).await?.message)
    }

    /// Connects, where there is no connection yet.
    pub(super) async fn connect(&mut self) -> std::io::Result<&mut TlsStream<TcpStream>> {
        match &mut self.stream {
            Some(stream) => Ok(stream),
            empty @ None => {
                let tcp = TcpStream::connect(self.address).await?;
                tcp.set_nodelay(true)?;
                let stream = self.connector.connect(ServerName::from(self.address.ip()), tcp).await?;
                Ok(empty.insert(stream))
            }
        }
    }

    /// Asks for an access token where the bank wants one and there is none. Copies that are made from now on share it.
    pub(super) async fn authorize(&mut self) -> std::io::Result<()> {
        let is_wanted = self.proof.as_ref().is_some_and(|proof| proof.bearer.is_none());
        if is_wanted {
            let granted = self.exchange(&token_request(self.address)).await?.message;
            let token = granted["access_token"].as_str().ok_or(std::io::ErrorKind::PermissionDenied)?;
            self.proof.iter_mut().for_each(|proof| proof.bearer = Some(format!("Bearer {token}")));
        }
        Ok(())
    }

    /// A call as it will be sent: signed now, with the token that there is.
    ///
    /// # Errors
    /// The token's; `bench_failed` before there is an access token.
    pub(super) fn prepared(&self, tool: &str, arguments: &Value) -> Result<Vec<u8>, Failure> {
        request(self.proof.as_ref(), self.address, tool, arguments)
    }

    /// Sends a prepared call and waits for its answer, whatever that is.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> std::io::Result<Answer> {
        asked(self.connect().await?, request).await
    }
}

/// What a server answered.
pub(super) struct Answer {
    pub(super) status: u16,
    /// It said when to come again.
    pub(super) says_when: bool,
    pub(super) message: Value,
}

async fn asked(stream: &mut TlsStream<TcpStream>, request: &[u8]) -> std::io::Result<Answer> {
    stream.write_all(request).await?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let mut filled = 0;
    loop {
        let more = stream.read(&mut answer[filled..]).await?;
        if more == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        filled += more;
        if let Some((head, body)) = parts(&answer[..filled]) {
            let status =
                head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(std::io::ErrorKind::InvalidData)?;
            let message = serde_json::from_slice(body).map_err(std::io::Error::other)?;
            return Ok(Answer { status, says_when: head.contains("\r\nretry-after: "), message });
        }
    }
}

fn token_request(address: SocketAddr) -> Vec<u8> {
    let form = "grant_type=client_credentials";
    format!(
        "POST /oauth/token HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{form}",
        form.len()
    )
    .into_bytes()
}

fn request(proof: Option<&Proof>, address: SocketAddr, tool: &str, arguments: &Value) -> Result<Vec<u8>, Failure> {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "bench", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({ "name": tool, "arguments": arguments, "_meta": meta });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string();
    let proven = proof.map_or(Ok(String::new()), |proof| headers(proof, address, tool, &body))?;
    let request = format!(
        "POST /mcp HTTP/1.1\r\nHost: {address}\r\nAccept: application/json, text/event-stream\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nMcp-Protocol-Version: 2026-07-28\r\n\
         Mcp-Method: tools/call\r\nMcp-Name: {tool}\r\n{proven}\r\n{body}",
        body.len(),
    );
    Ok(request.into_bytes())
}

/// Token, digest and signature.
fn headers(proof: &Proof, address: SocketAddr, tool: &str, body: &str) -> Result<String, Failure> {
    let bearer = proof.bearer.clone().ok_or_else(|| failed(&"no access token"))?;
    let components = Components {
        method: "POST".into(),
        target_uri: format!("https://{address}/mcp"),
        content_digest: httpsig::content_digest(body.as_bytes()),
        protocol_version: "2026-07-28".into(),
        mcp_method: "tools/call".into(),
        mcp_name: Some(tool.to_owned()),
        authorization: Some(bearer.clone()),
    };
    let sign = || agent::sign_request(&proof.token, (proof.key, proof.algorithm), &components, &signed_http::fresh());
    let signed = match proof.signing {
        Signing::Aside => tokio::task::block_in_place(sign)?,
        Signing::Here => sign()?,
    };
    Ok(format!(
        "Authorization: {bearer}\r\nContent-Digest: {}\r\nSignature-Input: {}\r\nSignature: {}\r\n",
        components.content_digest, signed.signature_input, signed.signature
    ))
}

/// The head of a whole answer, in lower case, and its body.
fn parts(answer: &[u8]) -> Option<(String, &[u8])> {
    let (head, rest) = split(answer)?;
    let head = head.to_ascii_lowercase();
    let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.trim().parse().ok()?;
    Some((head, rest.get(..length)?))
}

/// The head of a message, and what came after it.
pub(super) fn split(message: &[u8]) -> Option<(&str, &[u8])> {
    let end = message.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let (head, rest) = message.split_at(end);
    Some((std::str::from_utf8(head).ok()?, rest))
}
