//! A leaf of the audit log as the monitor reads it.
//!
//! Only what the leaf says counts: the live monitor and one that reads the log years later see the same. A leaf that
//! says nothing about an agent's calls, or that is of a shape from before, is passed over.

use serde::Deserialize;
use serde_json::Value;

use super::assessment::Assessment;
use super::event::{Ahead, Asked, Event, ODD, Outcome, Refused, Subject};
use crate::kernel::command::{ToolCall, Whom};
use crate::kernel::types::{AccountId, SpiffeId, UnixMillis};

/// The name of the act that tells of an alert.
pub const ALERT: &str = "monitor_alert";

/// What one leaf tells.
#[derive(Clone, PartialEq, Debug)]
pub struct Told {
    pub at: UnixMillis,
    pub request: String,
    pub what: What,
}

#[derive(Clone, PartialEq, Debug)]
pub enum What {
    /// An agent's call, as a monitor takes it in, and what was said about it before it was decided.
    Call {
        agent: SpiffeId,
        tool: String,
        event: Event,
        assessment: Option<Assessment>,
        is_risk_frozen: bool,
        /// Refused for one of [`ODD`].
        is_odd: bool,
    },
    /// An agent was frozen, by anybody.
    Frozen { agent: SpiffeId },
    /// Two people thawed it.
    Thawed { agent: SpiffeId, event: Event },
    /// An alert about the call of this request was recorded.
    Alerted { request: String },
    /// Nothing of interest.
    Other,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    act: Option<String>,
    actor: By,
    at: String,
    #[serde(default)]
    parameters: Value,
    #[serde(default)]
    reason: Option<String>,
    request_id: String,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    risk: Option<Assessment>,
    #[serde(default)]
    tool: Option<String>,
}

#[derive(Deserialize)]
struct By {
    #[serde(default)]
    spiffe_id: Option<SpiffeId>,
    #[serde(default)]
    component: Option<String>,
}

/// Who raises alerts: `system:` and this.
pub const COMPONENT: &str = "monitor";

impl Told {
    /// What a leaf's body tells. None: it is no body of a decision.
    pub fn of(body: &[u8]) -> Option<Self> {
        let body: Body = serde_json::from_slice(body).ok()?;
        let at = instant(&body.at)?;
        let request = body.request_id.clone();
        let what = match (&body.tool, &body.act, &body.actor.spiffe_id) {
            (Some(tool), _, Some(agent)) => body.call(at, agent, tool),
            // An agent that calls a tool of this name says nothing about alerts or freezes.
            (_, Some(act), None) => body.act(at, act),
            (Some(_) | None, Some(_) | None, Some(_) | None) => What::Other,
        };
        Some(Self { at, request, what })
    }
}

impl Body {
    fn call(&self, at: UnixMillis, agent: &SpiffeId, tool: &str) -> What {
        let Ok(call) = ToolCall::deserialize(&self.parameters) else {
            return What::Other;
        };
        let (asked, account) = asked(&call);
        let event = Event {
            at,
            agent: Subject::of(&agent.to_string()),
            account,
            asked,
            outcome: self.outcome(),
            limit_minor: self.risk.as_ref().and_then(|risk| risk.limit_minor),
            ahead: self.risk.as_ref().map(|risk| risk.ahead).unwrap_or_default(),
        };
        What::Call {
            agent: agent.clone(),
            tool: tool.to_owned(),
            event,
            assessment: self.risk.clone(),
            is_risk_frozen: self.reason.as_deref() == Some("risk_frozen"),
            is_odd: self.reason.as_deref().is_some_and(|reason| ODD.iter().any(|odd| odd.name() == reason)),
        }
    }

    fn outcome(&self) -> Outcome {
        if let Some(name) = &self.reason {
            return Outcome::Refused(Refused::of_name(name));
        }
        let transaction = self.result["transaction_id"].as_str().map(Subject::of);
        match (self.result["status"].as_str(), transaction) {
            (Some("approved" | "requires_approval"), Some(transaction)) => Outcome::Authorized { transaction },
            (Some("executed" | "submitted"), _) if self.result["repeated"] != Value::Bool(true) => Outcome::Executed,
            (Some(_) | None, Some(_) | None) => Outcome::Done,
        }
    }

    fn act(&self, at: UnixMillis, act: &str) -> What {
        if act == ALERT {
            if self.actor.component.as_deref() != Some(COMPONENT) {
                return What::Other;
            }
            let request = self.parameters["request_id"].as_str().unwrap_or_default();
            return What::Alerted { request: request.to_owned() };
        }
        let Ok(Whom::Agent(agent)) = Whom::deserialize(&self.parameters["whom"]) else {
            return What::Other;
        };
        match (act, self.result["status"].as_str(), self.result["by"].as_str()) {
            ("freeze", Some("frozen"), _) => What::Frozen { agent },
            ("unfreeze", Some("unfrozen"), Some("both")) => {
                let event = Event {
                    at,
                    agent: Subject::of(&agent.to_string()),
                    account: None,
                    asked: Asked::Thaw,
                    outcome: Outcome::Done,
                    limit_minor: None,
                    ahead: Ahead::default(),
                };
                What::Thawed { agent, event }
            }
            (_, Some(_) | None, Some(_) | None) => What::Other,
        }
    }
}

impl Event {
    /// A call that is about to be decided.
    pub fn of_call(at: UnixMillis, agent: &SpiffeId, call: &ToolCall, limit_minor: Option<i64>, ahead: Ahead) -> Self {
        let (asked, account) = asked(call);
        let agent = Subject::of(&agent.to_string());
        Self { at, agent, account, asked, outcome: Outcome::Undecided, limit_minor, ahead }
    }
}

fn asked(call: &ToolCall) -> (Asked, Option<Subject>) {
    let account = |account: &AccountId| Subject::of(account.as_str());
    match call {
        ToolCall::AuthorizePurchase { price, merchant, from_account, .. } => (
            Asked::Payment { payee: Subject::of(&format!("merchant {merchant}")), amount: *price },
            from_account.as_ref().map(account),
        ),
        ToolCall::AuthorizeTransfer { from_account, to_account, amount, .. } => {
            (Asked::Payment { payee: account(to_account), amount: *amount }, from_account.as_ref().map(account))
        }
        ToolCall::ExecutePurchase { transaction_id, .. } => {
            (Asked::Execution { transaction: Subject::of(transaction_id.as_str()), transfer: None }, None)
        }
        ToolCall::ExecuteTransfer { transaction_id, from_account, to_account, amount } => {
            let transfer = Some((account(to_account), *amount));
            let transaction = Subject::of(transaction_id.as_str());
            (Asked::Execution { transaction, transfer }, from_account.as_ref().map(account))
        }
        ToolCall::ListAccounts {}
        | ToolCall::GetAccountBalance { .. }
        | ToolCall::ListTransactions { .. }
        | ToolCall::SearchProducts { .. }
        | ToolCall::CancelAuthorization { .. }
        | ToolCall::GetTransaction { .. }
        | ToolCall::GetApprovalStatus { .. }
        | ToolCall::RequestReversal { .. } => (Asked::Other, None),
    }
}

fn instant(text: &str) -> Option<UnixMillis> {
    let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok().map(UnixMillis)
}
