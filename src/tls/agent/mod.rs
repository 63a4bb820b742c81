//! The agent socket: what a bridge asks its agent host, and the bridge's end of it.
//!
//! Questions carry numbers, and so do their answers (`line`). The signatures on offer are a TLS 1.3 client
//! CertificateVerify, and that of a request whose parts are sent one by one: the agent host composes what is signed.

mod line;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::hsm::Token;
use crate::kernel::httpsig::{Components, Parameters, SignatureHeaders};
use crate::kernel::sign::{self, Algorithm, SignInput};
use crate::kernel::types::{AgentName, KeyId};
use crate::ops::failure::Failure;
use crate::tls::TlsSigner;
use line::Line;

/// A question and its number, which is the bridge's own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    pub id: u64,
    pub ask: AgentAsk,
}

/// The answer to the question of that number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Said {
    pub id: u64,
    pub says: AgentSays,
}

/// Bridge → agent host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum AgentAsk {
    /// The agent's certificates, `[B, S]`.
    Identity { agent: AgentName },
    /// A signature over a TLS 1.3 client CertificateVerify message, with the agent's key.
    SignTls { agent: AgentName, message: Vec<u8> },
    /// The headers that carry the signature of a request (`kernel::httpsig`), with the agent's key.
    SignRequest { agent: AgentName, components: Components, parameters: Parameters },
}

/// Agent host → bridge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum AgentSays {
    Identity { chain: Vec<Vec<u8>> },
    Signature(Vec<u8>),
    SignedRequest(SignatureHeaders),
    Failed(Failure),
}

/// Has a token's key sign a request: what an agent host does for its bridges. Blocking.
///
/// # Errors
/// The token's: what is not a request of the profile, or not one for now, the worker refuses. `signature_malformed`
pub fn sign_request(
    token: &Arc<dyn Token>,
    key: (KeyId, Algorithm),
    components: &Components,
    parameters: &Parameters,
) -> Result<SignatureHeaders, Failure> {
    let (key, algorithm) = key;
    let draft = components.draft(parameters, key);
    let signature = token.sign(key, SignInput::HttpRequest { base: draft.base.clone() })?;
    let signature = sign::to_wire(algorithm, &signature).ok_or_else(|| {
        Failure::fault("signature_malformed", "the token's signature is not one of its key", "check the token")
    })?;
    Ok(draft.signed(&signature))
}

/// One agent, reached over its host's socket. Copies share one connection.
#[derive(Clone)]
pub struct AgentSocket {
    line: Arc<Line>,
    agent: AgentName,
}

impl fmt::Debug for AgentSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentSocket").field("agent", &self.agent).finish_non_exhaustive()
    }
}

impl AgentSocket {
    /// Connects with the first question.
    pub fn new(path: PathBuf, agent: AgentName) -> Self {
        Self { line: Arc::new(Line::new(path)), agent }
    }

    /// The agent's certificates, `[B, S]`, DER.
    ///
    /// # Errors
    /// `agent_host_unreachable`; the daemon's own, `unknown_agent` among them.
    pub fn chain(&self) -> Result<Vec<Vec<u8>>, Failure> {
        match self.line.ask(&AgentAsk::Identity { agent: self.agent.clone() })? {
            AgentSays::Identity { chain } => Ok(chain),
            AgentSays::Failed(failure) => Err(failure),
            AgentSays::Signature(_) | AgentSays::SignedRequest(_) => Err(answered_another()),
        }
    }

    /// Has a request signed with the agent's key. Blocking.
    ///
    /// # Errors
    /// `agent_host_unreachable`; the daemon's own, `not_a_request` and `signing_rate_exceeded` among them.
    pub fn sign_request(&self, components: Components, parameters: Parameters) -> Result<SignatureHeaders, Failure> {
        signed_request(self.line.ask(&AgentAsk::SignRequest { agent: self.agent.clone(), components, parameters })?)
    }

    /// As [`AgentSocket::sign_request`], without a thread that waits.
    ///
    /// # Errors
    /// The same.
    pub async fn sign_request_later(
        &self,
        components: Components,
        parameters: Parameters,
    ) -> Result<SignatureHeaders, Failure> {
        let ask = AgentAsk::SignRequest { agent: self.agent.clone(), components, parameters };
        signed_request(self.line.ask_later(&ask).await?)
    }
}

fn signed_request(says: AgentSays) -> Result<SignatureHeaders, Failure> {
    match says {
        AgentSays::SignedRequest(headers) => Ok(headers),
        AgentSays::Failed(failure) => Err(failure),
        AgentSays::Identity { .. } | AgentSays::Signature(_) => Err(answered_another()),
    }
}

impl TlsSigner for AgentSocket {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let question = AgentAsk::SignTls { agent: self.agent.clone(), message: message.to_vec() };
        match self.line.ask(&question) {
            Ok(AgentSays::Signature(signature)) => Ok(signature),
            Ok(AgentSays::Failed(failure)) | Err(failure) => Err(failure.message),
            Ok(AgentSays::Identity { .. } | AgentSays::SignedRequest(_)) => Err(answered_another().message),
        }
    }
}

fn answered_another() -> Failure {
    unreachable_("it answered another question")
}

fn unreachable_(reason: &str) -> Failure {
    Failure::busy(
        "agent_host_unreachable",
        format!("the agent host's daemon did not answer: {reason}"),
        "start it with `countersign serve --state DIR`, and name the same directory with --state",
    )
}
