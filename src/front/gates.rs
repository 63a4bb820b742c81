//! The three questions that the doors ask, answered by the services: who is this, may they still, what do they want.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::front::agent_socket::AgentKeys;
use crate::front::services::Services;
use crate::hsm::CertifiedKey;
use crate::kernel::command::{Act, Actor, AgentPrincipal, Command, Stamp, ToolCall};
use crate::kernel::credential::pair::VerifiedAgent;
use crate::kernel::httpsig::{Components, Parameters, SignatureHeaders};
use crate::kernel::refusal::Refusal;
use crate::kernel::sign::{Algorithm, SignInput};
use crate::kernel::types::{AgentName, KeyId, RequestId};
use crate::mcp::server::{ToolFailed, ToolGate, ToolRefused, ToolRequest, Unanswered};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::payment::ToolFailure;
use crate::tls::{self, PairGate};

/// A bank's gates.
#[derive(Debug)]
pub struct Gates {
    services: Arc<Services>,
}

impl Gates {
    pub fn new(services: Arc<Services>) -> Self {
        Self { services }
    }
}

impl PairGate for Gates {
    fn accept(&self, presented: &[Vec<u8>]) -> Result<VerifiedAgent, String> {
        self.services.accept(presented)
    }

    fn still_acceptable(&self, agent: &VerifiedAgent) -> Result<(), &'static str> {
        self.services.still_acceptable(agent)
    }

    fn count_refusal(&self, name: &'static str) {
        self.services.count_refusal(name);
    }
}

impl ToolGate for Gates {
    fn tools_for(&self, agent: &AgentPrincipal) -> Vec<String> {
        match self.services.payments() {
            Ok(payments) => payments.rules().role_tools.get(agent.spiffe_id.role()).cloned().unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    fn call(&self, agent: &AgentPrincipal, call: ToolCall, request: &ToolRequest) -> Result<Value, Unanswered> {
        let payments = self.services.payments().map_err(|failure| failed(failure, &request.id))?;
        // Counted before the look, so that a freeze that comes now waits for this call.
        let _call = self.services.calls.begin();
        if self.services.heard.freezes(&agent.spiffe_id) {
            let frozen = refused(Refusal::AgentFrozen);
            self.record_refusal(agent, call.tool(), &frozen, request)?;
            return Err(frozen.into());
        }
        let answer = payments.call_tool(agent, call, request.id.clone(), request.nonce);
        if let Ok(log) = self.services.log() {
            log.notify();
        }
        answer.map_err(|failure| match failure {
            ToolFailure::Refused(Refusal::NonceReplayed) => Unanswered::Replayed,
            ToolFailure::Refused(refusal) => refused(refusal).into(),
            ToolFailure::Failed(failure) => failed(failure, &request.id),
        })
    }

    fn record_refusal(
        &self,
        agent: &AgentPrincipal,
        tool: &str,
        refusal: &ToolRefused,
        request: &ToolRequest,
    ) -> Result<(), Unanswered> {
        let decision = json!({ "refused": refusal.name, "message": shortened(&refusal.message) });
        let command = Command {
            stamp: Stamp { nonce: request.nonce, ..clock::stamp(request.id.clone()) },
            actor: Actor::Agent(agent.clone()),
            act: Act::Record { tool: shortened(tool), decision },
        };
        let recorded = self.services.setup.store.apply(vec![command]).map_err(Failure::from);
        let decisions = recorded.map_err(|failure| failed(failure, &request.id))?;
        if let Ok(log) = self.services.log() {
            log.notify();
        }
        let replayed = decisions.iter().any(|decision| decision.outcome == Err(Refusal::NonceReplayed));
        if replayed { Err(Unanswered::Replayed) } else { Ok(()) }
    }
}

/// Longest tool name and reason that a leaf keeps of what a stranger to the rules sent.
const RECORDED_CHARS_MAX: usize = 200;

fn shortened(text: &str) -> String {
    text.chars().take(RECORDED_CHARS_MAX).collect()
}

fn refused(refusal: Refusal) -> ToolRefused {
    ToolRefused {
        name: refusal.name().to_owned(),
        message: refusal.message().to_owned(),
        next_step: refusal.next_step().to_owned(),
    }
}

/// The log has the words, the agent what it can act on: how we are built is not its business.
fn failed(failure: Failure, request_id: &RequestId) -> Unanswered {
    let Failure { name, message, retry, may_have_happened, .. } = failure;
    tracing::warn!(%request_id, %name, %message, "a tool call failed");
    Unanswered::Failed(ToolFailed { name, retry, may_have_happened, request_id: request_id.clone() })
}

/// An agent host's keys, for the bridge.
#[derive(Debug)]
pub struct AgentKeysGate {
    services: Arc<Services>,
    /// Keys of the agents that were asked for: a bridge asks for the identity once a connection, for a signature each
    /// call. The lock guards the map only.
    known: Mutex<BTreeMap<AgentName, (KeyId, Algorithm)>>,
}

impl AgentKeysGate {
    pub fn new(services: Arc<Services>) -> Self {
        Self { services, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<AgentName, (KeyId, Algorithm)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AgentKeys for AgentKeysGate {
    fn identity(&self, agent: &AgentName) -> Result<CertifiedKey, Failure> {
        let identity = self.services.setup.authority.agent_identity(agent)?;
        self.known().insert(agent.clone(), (identity.key.id, identity.key.algorithm));
        Ok(identity)
    }

    fn sign_tls(&self, agent: &AgentName, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let identity = self.identity(agent)?;
        let input = SignInput::from_tls_message(message).ok_or_else(|| {
            Failure::refused(
                "not_a_tls_message",
                "only a TLS 1.3 handshake is signed here",
                "use `countersign connect`",
            )
        })?;
        Ok(self.services.token().sign(identity.key.id, input)?)
    }

    fn sign_request(
        &self,
        agent: &AgentName,
        components: &Components,
        parameters: &Parameters,
    ) -> Result<SignatureHeaders, Failure> {
        let known = self.known().get(agent).copied();
        let (key, algorithm) = match known {
            Some(known) => known,
            None => self.identity(agent).map(|identity| (identity.key.id, identity.key.algorithm))?,
        };
        let signed = tls::agent::sign_request(&self.services.token(), (key, algorithm), components, parameters);
        if signed.is_err() {
            // Retired, most likely: the next call asks which key it is now.
            self.known().remove(agent);
        }
        signed
    }
}
