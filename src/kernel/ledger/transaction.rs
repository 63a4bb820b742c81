//! Transactions: an authorization and the payment it may become.

use serde::{Deserialize, Serialize};

use crate::kernel::approval::Evidence;
use crate::kernel::command::{Actor, AgentPrincipal, Settlement};
use crate::kernel::mandate::MandateUse;
use crate::kernel::quorum::{GateRule, Quorum};
use crate::kernel::types::{ApprovalId, CaseId, Day, MerchantId, Money, ProductId, Sha256, TransactionId, UnixMillis};

/// What a transaction is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransactionKind {
    Purchase,
    Transfer,
    Reversal,
    Incoming,
    Opening,
    /// What the bank's own jobs post: interest, fees, corrections.
    Booking,
}

impl TransactionKind {
    pub const ALL: [Self; 6] =
        [Self::Purchase, Self::Transfer, Self::Reversal, Self::Incoming, Self::Opening, Self::Booking];

    pub fn name(self) -> &'static str {
        match self {
            Self::Purchase => "purchase",
            Self::Transfer => "transfer",
            Self::Reversal => "reversal",
            Self::Incoming => "incoming",
            Self::Opening => "opening",
            Self::Booking => "booking",
        }
    }

    /// True when an authorization of this kind holds its funds. A reversal does not: it would let an agent lock
    /// the payee's money before any human has looked; its funds are checked when it is approved.
    pub fn holds_funds(self) -> bool {
        match self {
            Self::Purchase | Self::Transfer => true,
            Self::Reversal | Self::Incoming | Self::Opening | Self::Booking => false,
        }
    }
}

/// Where a transaction stands. The first four are open; only open ones hold funds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransactionState {
    Approved,
    PendingApproval,
    /// Waits for the bank's people under a case id; it does not lapse.
    Manual,
    /// Ordered from the core banking system, whose answer is not known yet; it neither lapses nor is cancelled.
    Submitted,
    Posted,
    Denied,
    Cancelled,
    /// An approved authorization that was not executed in time.
    Expired,
    /// Nobody decided in time.
    ApprovalExpired,
    /// The agent was revoked before it was executed.
    Voided,
    /// The core banking system said no.
    CoreRefused,
}

impl TransactionState {
    pub const ALL: [Self; 11] = [
        Self::Approved,
        Self::PendingApproval,
        Self::Manual,
        Self::Submitted,
        Self::Posted,
        Self::Denied,
        Self::Cancelled,
        Self::Expired,
        Self::ApprovalExpired,
        Self::Voided,
        Self::CoreRefused,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::PendingApproval => "pending_approval",
            Self::Manual => "queued_manual",
            Self::Submitted => "submitted",
            Self::Posted => "executed",
            Self::Denied => "denied",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::ApprovalExpired => "approval_expired",
            Self::Voided => "voided",
            Self::CoreRefused => "core_refused",
        }
    }

    pub fn is_open(self) -> bool {
        match self {
            Self::Approved | Self::PendingApproval | Self::Manual | Self::Submitted => true,
            Self::Posted
            | Self::Denied
            | Self::Cancelled
            | Self::Expired
            | Self::ApprovalExpired
            | Self::Voided
            | Self::CoreRefused => false,
        }
    }
}

/// A question to a human about one transaction, and the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Approval {
    pub approval_id: ApprovalId,
    /// Names of the soft limits that asked for a human.
    pub reasons: Vec<String>,
    pub expires: UnixMillis,
    pub asked: Asked,
    pub decided: Option<ApprovalDecided>,
}

/// Whom an approval asks, and what they have said so far.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// 32 random bytes made with the transaction: what is signed about it fits nothing else.
    pub nonce: Sha256,
    pub quorum: Quorum<Evidence>,
}

impl Asked {
    /// What was asked before there were gates: one approver, known by user id.
    pub fn before_gates() -> Self {
        Self { nonce: Sha256([0; 32]), quorum: Quorum::new(vec![GateRule::one_approver()], false) }
    }
}

/// Who answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApprovalDecided {
    /// Whoever said no, or all who said yes, in their order, with commas between them.
    pub by: String,
    pub at: UnixMillis,
    pub note: String,
    /// A name among them was chosen in a demo instead of proven.
    pub asserted: bool,
}

/// An authorization and the payment it may become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction {
    pub transaction_id: TransactionId,
    pub kind: TransactionKind,
    pub state: TransactionState,
    pub maker: Actor,
    pub debit: String,
    pub credit: String,
    pub amount: Money,
    /// What the payer pays besides, to the bank's income account; zero for most.
    pub fee: Money,
    pub merchant: Option<MerchantId>,
    pub product: Option<ProductId>,
    /// The transaction that a reversal undoes.
    pub original: Option<TransactionId>,
    /// [`bound_parameters`](crate::kernel::decide::bound_parameters) of what was authorized.
    pub parameters: Sha256,
    /// The day whose unattended sum of the agent it counts towards; none when a human decides.
    pub counts_on: Option<Day>,
    /// The day whose debits of the account it counts towards; none when the account has no daily limit.
    pub debits_on: Option<Day>,
    /// The owner's mandate under which it is paid, and where it counts; none when the agent needs none.
    pub mandate: Option<MandateUse>,
    pub created: UnixMillis,
    /// When an open one lapses.
    pub expires: UnixMillis,
    /// How long it may be executed after a human's approval.
    pub authorization_ttl_ms: i64,
    pub policy_version: String,
    pub catalogue_version: u64,
    pub approval: Option<Approval>,
    /// Where it is settled, as the rules said when it was authorized.
    pub settlement: Settlement,
    /// The case under which it waits or waited for the bank's people.
    pub case_id: Option<CaseId>,
}

impl Transaction {
    /// Amount and fee: what it holds and what leaves the account.
    pub fn total(&self) -> Money {
        // Both were added when it was authorized; a sum that did not fit never became a transaction.
        self.amount.checked_add(self.fee).unwrap_or(self.amount)
    }

    /// True when an open one holds amount and fee on its debit account. A reversal does from the moment that it is
    /// ordered from the core: the payee must not spend meanwhile what is settled there.
    pub fn holds_funds(&self) -> bool {
        self.kind.holds_funds() || self.state == TransactionState::Submitted
    }

    /// The agent that asked for it, if an agent did.
    pub fn agent(&self) -> Option<&AgentPrincipal> {
        match &self.maker {
            Actor::Agent(agent) => Some(agent),
            Actor::Operator(_) | Actor::Program(_) | Actor::System { .. } => None,
        }
    }
}
