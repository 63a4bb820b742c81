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
use crate::hsm::{CertifiedKey, Token};
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

/// What a bank asks for besides the connection.
#[derive(Clone)]
struct Proof {
    token: Arc<dyn Token>,
    key: KeyId,
    algorithm: Algorithm,
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
        let proof = Proof { token, key: identity.key.id, algorithm: identity.key.algorithm, bearer: None };
        Ok(Self { connector, address, proof: Some(proof), stream: None })
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
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let tcp = TcpStream::connect(self.address).await?;
                tcp.set_nodelay(true)?;
                let stream = self.connector.connect(ServerName::from(self.address.ip()), tcp).await?;
                self.stream.insert(stream)
            }
        };
        if let Some(proof) = &mut self.proof
            && proof.bearer.is_none()
        {
            let granted = asked(stream, &token_request(self.address)).await?;
            let token = granted["access_token"].as_str().ok_or(std::io::ErrorKind::PermissionDenied)?;
            proof.bearer = Some(format!("Bearer {token}"));
        }
        let request = request(self.proof.as_ref(), self.address, tool, arguments).map_err(std::io::Error::other)?;
        asked(stream, &request).await
    }
}

async fn asked(stream: &mut TlsStream<TcpStream>, request: &[u8]) -> std::io::Result<Value> {
    stream.write_all(request).await?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let mut filled = 0;
    loop {
        let more = stream.read(&mut answer[filled..]).await?;
        if more == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        filled += more;
        if let Some(body) = body(&answer[..filled]) {
            return serde_json::from_slice(body).map_err(std::io::Error::other);
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

/// Token, digest and signature. The key may be in a token that takes its time.
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
    let signed = tokio::task::block_in_place(sign)?;
    Ok(format!(
        "Authorization: {bearer}\r\nContent-Digest: {}\r\nSignature-Input: {}\r\nSignature: {}\r\n",
        components.content_digest, signed.signature_input, signed.signature
    ))
}

/// The body of a whole answer.
fn body(answer: &[u8]) -> Option<&[u8]> {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&answer[..head]).ok()?.to_ascii_lowercase();
    let length: usize = text.lines().find_map(|line| line.strip_prefix("content-length: "))?.trim().parse().ok()?;
    answer.get(head..head + length)
}
