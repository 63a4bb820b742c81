//! What the monitor is told: the part of a leaf that says who asked for which money, and what came of it.

use serde::{Deserialize, Serialize};

use crate::kernel::types::{Money, Sha256, UnixMillis};

/// An agent, an account or a payee by the start of a SHA-256: names are long, and a state must stay small.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Subject(u128);

impl Subject {
    pub fn of(name: &str) -> Self {
        let Sha256(hash) = Sha256::of(&[name.as_bytes()]);
        let mut start = [0; 16];
        start.copy_from_slice(&hash[..16]);
        Self(u128::from_be_bytes(start))
    }

    #[cfg(test)]
    pub(super) fn numbered(number: u128) -> Self {
        Self(number << 64)
    }

    /// 64 bits of it, for the small sets inside a state.
    pub(super) fn short(self) -> u64 {
        u64::try_from(self.0 >> 64).unwrap_or(u64::MAX)
    }
}

/// One call of a tool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    pub at: UnixMillis,
    pub agent: Subject,
    /// The paying account, where the call names it.
    pub account: Option<Subject>,
    pub asked: Asked,
    pub outcome: Outcome,
    /// What a single payment of this agent may be without a human, minor units of the payment's currency.
    pub limit_minor: Option<i64>,
    /// What this daemon had taken from the same agent and the log had not shown yet.
    pub ahead: Ahead,
}

/// What was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// `authorize_purchase` or `authorize_transfer`.
    Payment { payee: Subject, amount: Money },
    /// `execute_purchase` or `execute_transfer`; a transfer says its payee and amount again.
    Execution { transaction: Subject, transfer: Option<(Subject, Money)> },
    /// Any other tool.
    Other,
    /// Two people lifted the agent's freeze: what was loud is forgotten, its history is not.
    Thaw,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Not decided yet: the event is being scored.
    Undecided,
    /// Authorized; a human may still have to say yes.
    Authorized {
        transaction: Subject,
    },
    Executed,
    /// Answered, cancelled, or waiting for the bank's people.
    Done,
    Refused(Refused),
}

/// What a refusal says about who was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// Nothing: the world moved, a human has not decided, the bank stands still.
    Neutral,
    /// An amount above what is possible: somebody may be looking for the limit.
    Limit,
    /// Something the agent may not do at all.
    Forbidden,
}

impl Refused {
    /// What a refusal of this name says. A name that is not known here is one of a newer rule: forbidden.
    pub fn of_name(name: &str) -> Self {
        match name {
            "above_hard_ceiling"
            | "grant_limit_exceeded"
            | "account_day_limit_exceeded"
            | "insufficient_funds"
            | "too_many_open_holds"
            | "mandate_amount"
            | "mandate_budget"
            | "amount_too_large" => Self::Limit,
            "agent_revoked"
            | "agent_frozen"
            | "risk_frozen"
            | "endorsement_status_stale"
            | "policy_changed_meanwhile"
            | "price_changed"
            | "approval_pending"
            | "approval_denied"
            | "approval_expired"
            | "authorization_expired"
            | "authorization_cancelled"
            | "already_executed"
            | "already_decided"
            | "nonce_replayed"
            | "queued_manual"
            | "submission_pending"
            | "core_refused"
            | "case_rejected"
            | "paid_elsewhere"
            | "breaker_open"
            | "account_not_active"
            | "destination_not_active"
            | "grant_ambiguous"
            | "rate_limited"
            | "velocity_exceeded"
            | "outside_hours"
            | "mandate_expired"
            | "mandate_not_yet_valid"
            | "idempotency_key_reused"
            | "unknown_product" => Self::Neutral,
            _ => Self::Forbidden,
        }
    }
}

/// Payments in flight: taken by the daemon that scores, not yet seen in the log.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ahead {
    /// Their sum in the event's own currency.
    #[serde(with = "super::text")]
    pub minor: i64,
    pub payments: u32,
}
