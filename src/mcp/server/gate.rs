//! What the endpoint asks of the bank behind it, and in which shapes questions and answers go between the two.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::kernel::command::{AgentPrincipal, RequestProof, ToolCall};
use crate::kernel::credential::pair::VerifiedAgent;
use crate::kernel::json::JsonRefused;
use crate::kernel::types::{AccountId, ApprovalId, Day, MandateId, RequestId, Sha256, TransactionId, UnixMillis};
use crate::ops::failure::MayHaveHappened;

/// An answer that is being made.
pub type Answering = Pin<Box<dyn Future<Output = Result<Value, Unanswered>> + Send>>;

/// Decides about calls of agents. Blocking; every decision is recorded before it is answered.
pub trait ToolGate: Send + Sync {
    /// The tools of the agent's role.
    fn tools_for(&self, agent: &AgentPrincipal) -> Vec<String>;
    /// Carries out one call: an answer, refusals of payments included, or a refused read or a fault.
    fn call(&self, agent: &AgentPrincipal, call: ToolCall, request: &ToolRequest) -> Result<Value, Unanswered>;
    /// The same without a thread that waits. Whoever drops it drops the answer: what was asked for is carried out, and
    /// what has to follow follows.
    fn answered(&self, agent: &AgentPrincipal, call: ToolCall, request: &ToolRequest) -> Answering;
    /// Records a call that no rule could be asked about: an unknown tool, arguments that are none.
    fn record_refusal(
        &self,
        agent: &AgentPrincipal,
        tool: &str,
        refusal: &ToolRefused,
        request: &ToolRequest,
    ) -> Result<(), Unanswered>;

    /// The rules of the agent's role, in words and numbers. Recorded.
    fn policy(&self, agent: &AgentPrincipal, request: &ToolRequest) -> Result<Value, Unanswered>;
    /// Posted lines of an account; decided and recorded as `list_transactions`.
    fn statement(
        &self,
        agent: &AgentPrincipal,
        page: &StatementPage,
        request: &ToolRequest,
    ) -> Result<Value, Unanswered>;
    /// The receipt of a transaction of the agent; decided and recorded as `get_transaction`.
    fn receipt(
        &self,
        agent: &AgentPrincipal,
        transaction: &TransactionId,
        request: &ToolRequest,
    ) -> Result<Value, Unanswered>;
    /// The mandates under which the agent pays, or one of them; decided and recorded as `list_accounts`.
    fn mandates(
        &self,
        agent: &AgentPrincipal,
        one: Option<&MandateId>,
        request: &ToolRequest,
    ) -> Result<Value, Unanswered>;
    /// The signed manifest of all tools.
    fn manifest(&self, request: &ToolRequest) -> Result<Value, Unanswered>;
    /// The accounts whose statements the agent may read. No decision, only what to offer.
    fn readable_accounts(&self, agent: &AgentPrincipal) -> Vec<AccountId>;

    /// Where a human decides about an approval, if there is a page for it. It is open to everybody and says nothing.
    fn approval_url(&self, approval: &ApprovalId) -> Option<String>;
    /// True while nobody has decided about this approval of this agent. No decision, and false when in doubt.
    fn is_pending(&self, agent: &AgentPrincipal, approval: &ApprovalId) -> bool;
    /// What a client brings back with its next call, signed: nobody else can make it, and no other agent use it.
    fn seal(&self, agent: &AgentPrincipal, state: &RequestState, request: &ToolRequest) -> Result<String, Unanswered>;
    /// Takes it back, once, in the commit that records that it was brought.
    fn unseal(&self, agent: &AgentPrincipal, sealed: &str, request: &ToolRequest) -> Result<RequestState, Unanswered>;

    /// Moves when something may have changed that an agent sees: what was changed elsewhere some seconds late.
    fn changes(&self) -> watch::Receiver<u64>;
    /// False once the agent may not be served any more. Reads no store.
    fn may_be_served(&self, agent: &VerifiedAgent) -> bool;
    /// What an agent sees now of what it can subscribe to. No decision.
    fn seen_by(&self, agent: &VerifiedAgent, approvals: &[ApprovalId]) -> Look;
}

/// An answer that a thread of its own makes.
pub fn on_a_thread(
    request: RequestId,
    answer: impl FnOnce() -> Result<Value, Unanswered> + Send + 'static,
) -> Answering {
    let answering = tokio::task::spawn_blocking(answer);
    Box::pin(async move { answering.await.unwrap_or_else(|_| Err(ToolFailed::defect(request).into())) })
}

/// Which lines of an account: the newest, or those of some days of the account's own calendar, both included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatementPage {
    pub account: AccountId,
    pub days: Option<(Day, Day)>,
}

/// What a call that waits for a human is continued with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestState {
    pub approval: ApprovalId,
    /// The call that asked for it: another one cannot be continued with it.
    pub call: Sha256,
}

/// What of an agent's view can change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    pub tools: Vec<String>,
    pub accounts: Vec<AccountId>,
    /// The states of the approvals that were asked about, in their order; none: not the agent's.
    pub approvals: Vec<Option<String>>,
    /// When the time alone changes it, if it does.
    pub until: Option<UnixMillis>,
}

/// What came of a look.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Look {
    Seen(Seen),
    /// It cannot be read now.
    Unknown,
    /// The agent may not be served any more.
    Refused,
}

/// The request that a call came with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToolRequest {
    pub id: RequestId,
    pub proof: RequestProof,
}

/// What is answered with `isError`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unanswered {
    /// The rules, or the tool's shape, said no.
    Refused(ToolRefused),
    /// Something broke.
    Failed(ToolFailed),
    /// The request was received before: nothing was decided.
    Replayed,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToolRefused {
    pub name: String,
    pub message: String,
    pub next_step: String,
}

/// A fault as agents learn of it. It has no words of its own: what broke, and where, is in the log under `request_id`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToolFailed {
    pub name: String,
    pub retry: bool,
    pub may_have_happened: MayHaveHappened,
    pub request_id: RequestId,
}

impl ToolFailed {
    /// A thread that was to answer has ended without an answer: maybe after the commit.
    pub fn defect(request_id: RequestId) -> Self {
        let may_have_happened = MayHaveHappened::Unknown;
        Self { name: "internal_defect".into(), retry: true, may_have_happened, request_id }
    }
}

impl From<ToolFailed> for Unanswered {
    fn from(failed: ToolFailed) -> Self {
        Self::Failed(failed)
    }
}

impl From<ToolRefused> for Unanswered {
    fn from(refused: ToolRefused) -> Self {
        Self::Refused(refused)
    }
}

/// The method, the tool and its arguments as they were sent.
#[derive(Clone, Debug)]
pub struct RawCall {
    pub(super) method: Option<String>,
    pub(super) tool: Option<String>,
    pub(super) arguments: Option<Arc<RawValue>>,
}

impl RawCall {
    /// The tool that it calls, if it calls one.
    pub fn tool(&self) -> Option<&str> {
        self.tool.as_deref()
    }

    /// Takes `method`, `params.name` and `params.arguments` out of a body that passed the strict check.
    pub fn read(body: &[u8]) -> Result<Self, JsonRefused> {
        #[derive(Deserialize)]
        struct Envelope {
            method: Option<Value>,
            params: Option<Params>,
        }
        #[derive(Deserialize)]
        struct Params {
            name: Option<Value>,
            arguments: Option<Box<RawValue>>,
        }
        // What is no object is no message; MCP says so.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Ok(Self { method: None, tool: None, arguments: None });
        }
        let envelope: Envelope =
            serde_json::from_slice(body).map_err(|error| JsonRefused::NotJson { reason: error.to_string() })?;
        let text = |value: Option<Value>| value.as_ref().and_then(Value::as_str).map(str::to_owned);
        let method = text(envelope.method);
        let Some(Params { name, arguments }) = envelope.params else {
            return Ok(Self { method, tool: None, arguments: None });
        };
        let calls = method.as_deref() == Some("tools/call");
        Ok(Self { method, tool: text(name).filter(|_| calls), arguments: arguments.map(Arc::from) })
    }
}

/// A request whose nonce is taken in the commit of what it does, and whether it was found to be taken.
#[derive(Clone, Debug)]
pub struct SingleUse {
    pub(super) nonce: Sha256,
    pub(super) replayed: Arc<AtomicBool>,
}

impl SingleUse {
    pub fn new(nonce: Sha256) -> Self {
        Self { nonce, replayed: Arc::default() }
    }

    /// True when the request was received before; known once it is answered.
    pub fn was_replayed(&self) -> bool {
        self.replayed.load(Ordering::Acquire)
    }
}
