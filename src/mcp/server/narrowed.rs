//! The gate as the access token of one request leaves it: what its scope does not name is refused, whichever way it is
//! asked for. A resource is in the scope of the tool that shows the same.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use super::{
    Answering, Look, RequestState, Seen, StatementPage, ToolGate, ToolRefused, ToolRequest, Unanswered, on_a_thread,
};
use crate::kernel::access::Access;
use crate::kernel::command::{AgentPrincipal, ToolCall};
use crate::kernel::credential::pair::VerifiedAgent;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{AccountId, ApprovalId, MandateId, TransactionId};
use crate::ops::clock;

#[derive(Clone)]
pub struct Narrowed {
    pub gate: Arc<dyn ToolGate>,
    pub access: Arc<Access>,
}

impl Narrowed {
    /// Passes the use of a tool that the scope names. Any other is recorded as refused.
    fn permit(&self, agent: &AgentPrincipal, tool: &str, request: &ToolRequest) -> Result<(), Unanswered> {
        if self.access.scope().names(tool) {
            return Ok(());
        }
        // A token cannot name what the role does not have: then that is the reason.
        let refusal = if self.gate.tools_for(agent).iter().any(|of_role| of_role == tool) {
            ToolRefused {
                name: "scope_exceeded".into(),
                message: "the access token of this request was not issued for this tool".into(),
                next_step: "ask for a token whose scope names it".into(),
            }
        } else {
            let denied = Refusal::ToolDenied;
            ToolRefused {
                name: denied.name().into(),
                message: denied.message().into(),
                next_step: denied.next_step().into(),
            }
        };
        self.gate.record_refusal(agent, tool, &refusal, request)?;
        Err(refusal.into())
    }

    fn named(&self, tools: Vec<String>) -> Vec<String> {
        tools.into_iter().filter(|tool| self.access.scope().names(tool)).collect()
    }
}

impl ToolGate for Narrowed {
    fn tools_for(&self, agent: &AgentPrincipal) -> Vec<String> {
        self.named(self.gate.tools_for(agent))
    }

    fn call(&self, agent: &AgentPrincipal, call: ToolCall, request: &ToolRequest) -> Result<Value, Unanswered> {
        self.permit(agent, call.tool(), request)?;
        self.gate.call(agent, call, request)
    }

    fn answered(&self, agent: &AgentPrincipal, call: ToolCall, request: &ToolRequest) -> Answering {
        if self.access.scope().names(call.tool()) {
            return self.gate.answered(agent, call, request);
        }
        let (narrowed, agent, request) = (self.clone(), agent.clone(), request.clone());
        on_a_thread(request.id.clone(), move || narrowed.call(&agent, call, &request))
    }

    fn record_refusal(
        &self,
        agent: &AgentPrincipal,
        tool: &str,
        refusal: &ToolRefused,
        request: &ToolRequest,
    ) -> Result<(), Unanswered> {
        self.gate.record_refusal(agent, tool, refusal, request)
    }

    fn policy(&self, agent: &AgentPrincipal, request: &ToolRequest) -> Result<Value, Unanswered> {
        self.gate.policy(agent, request)
    }

    fn statement(
        &self,
        agent: &AgentPrincipal,
        page: &StatementPage,
        request: &ToolRequest,
    ) -> Result<Value, Unanswered> {
        self.permit(agent, "list_transactions", request)?;
        self.gate.statement(agent, page, request)
    }

    fn receipt(
        &self,
        agent: &AgentPrincipal,
        transaction: &TransactionId,
        request: &ToolRequest,
    ) -> Result<Value, Unanswered> {
        self.permit(agent, "get_transaction", request)?;
        self.gate.receipt(agent, transaction, request)
    }

    fn mandates(
        &self,
        agent: &AgentPrincipal,
        one: Option<&MandateId>,
        request: &ToolRequest,
    ) -> Result<Value, Unanswered> {
        self.permit(agent, "list_accounts", request)?;
        self.gate.mandates(agent, one, request)
    }

    fn manifest(&self, request: &ToolRequest) -> Result<Value, Unanswered> {
        self.gate.manifest(request)
    }

    fn readable_accounts(&self, agent: &AgentPrincipal) -> Vec<AccountId> {
        let may_read = self.access.scope().names("list_transactions");
        if may_read { self.gate.readable_accounts(agent) } else { Vec::new() }
    }

    fn approval_url(&self, approval: &ApprovalId) -> Option<String> {
        self.gate.approval_url(approval)
    }

    fn is_pending(&self, agent: &AgentPrincipal, approval: &ApprovalId) -> bool {
        self.access.scope().names("get_approval_status") && self.gate.is_pending(agent, approval)
    }

    fn seal(&self, agent: &AgentPrincipal, state: &RequestState, request: &ToolRequest) -> Result<String, Unanswered> {
        self.gate.seal(agent, state, request)
    }

    fn unseal(&self, agent: &AgentPrincipal, sealed: &str, request: &ToolRequest) -> Result<RequestState, Unanswered> {
        self.gate.unseal(agent, sealed, request)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.gate.changes()
    }

    fn may_be_served(&self, agent: &VerifiedAgent) -> bool {
        // A stream lasts as long as its token: whoever has a newer one subscribes again.
        !self.access.has_expired(clock::now()) && self.gate.may_be_served(agent)
    }

    fn seen_by(&self, agent: &VerifiedAgent, approvals: &[ApprovalId]) -> Look {
        if !self.may_be_served(agent) {
            return Look::Refused;
        }
        let scope = self.access.scope();
        match self.gate.seen_by(agent, approvals) {
            Look::Seen(seen) => Look::Seen(Seen {
                tools: self.named(seen.tools),
                accounts: if scope.names("list_transactions") { seen.accounts } else { Vec::new() },
                approvals: match scope.names("get_approval_status") {
                    true => seen.approvals,
                    false => seen.approvals.iter().map(|_| None).collect(),
                },
                until: seen.until,
            }),
            Look::Unknown => Look::Unknown,
            Look::Refused => Look::Refused,
        }
    }
}
