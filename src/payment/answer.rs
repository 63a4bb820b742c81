//! What an agent is told. Keys are stable: `balance, currency, status, reason, transaction_id, approval_id`.

use serde_json::{Value, json};

use crate::kernel::command::{Effect, Posted, ToolCall, TransactionStatement};
use crate::kernel::refusal::Refusal;
use crate::kernel::text::{self, Limit};
use crate::kernel::types::Money;
use crate::ops::failure::Failure;

/// Whether the transaction key has signed the batch of a posting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Receipt {
    Signed,
    /// The posting is durable; recovery signs its batch.
    Pending,
}

/// Why a tool call has no answer.
#[derive(Clone, PartialEq, Debug)]
pub enum ToolFailure {
    /// The rules said no to a read, or to a request that was received before.
    Refused(Refusal),
    /// Something broke; says whether it may have happened.
    Failed(Failure),
}

impl From<Failure> for ToolFailure {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The rules said no: acting tools answer it as a result, reads fail. A request that was received before is no call.
pub(super) fn refused(call: &ToolCall, refusal: Refusal) -> Result<Value, ToolFailure> {
    if is_read(call) || refusal == Refusal::NonceReplayed {
        return Err(ToolFailure::Refused(refusal));
    }
    Ok(json!({
        "status": "denied",
        "reason": refusal.name(),
        "message": refusal.message(),
        "next_step": refusal.next_step(),
    }))
}

/// An effect of a tool call. `receipt` is there when money moved.
pub(super) fn permitted(effect: Effect, receipt: Option<Receipt>) -> Result<Value, ToolFailure> {
    match effect {
        Effect::Answer(value) => Ok(value),
        Effect::Approved { transaction_id, .. } => {
            Ok(json!({ "status": "approved", "transaction_id": transaction_id }))
        }
        Effect::RequiresApproval { approval_id, expires, pending, .. } => Ok(json!({
            "status": "requires_approval",
            "approval_id": approval_id,
            "expires_at": expires.rfc3339(),
            "pending": pending,
            "next_step": "people decide; ask get_approval_status",
        })),
        Effect::Posted(posted) => Ok(executed(&posted, receipt.unwrap_or(Receipt::Pending))),
        Effect::Cancelled { transaction_id } => Ok(json!({ "status": "cancelled", "transaction_id": transaction_id })),
        Effect::Submitted(order) => Ok(json!({
            "status": "submitted",
            "transaction_id": order.transaction_id,
            "repeated": order.repeated,
            "next_step": "the bank's core has the order; ask get_transaction, or call again: it is never paid twice",
        })),
        Effect::QueuedManual { case_id, transaction_id, reason } => {
            let mut value = json!({
                "status": "queued_manual",
                "case_id": case_id,
                "message": "the payment waits for the bank's people",
                "why": text::shown(&reason, Limit::NOTE),
                "next_step": "call again later with the same parameters, it is never paid twice; the bank's people \
                              know it by case_id",
            });
            if let Some(transaction_id) = transaction_id {
                value["transaction_id"] = json!(transaction_id);
            }
            Ok(value)
        }
        Effect::Decided { .. }
        | Effect::CaseWorked { .. }
        | Effect::Swept { .. }
        | Effect::Revoked { .. }
        | Effect::MandateRevoked { .. }
        | Effect::Spread { .. }
        | Effect::Frozen { .. }
        | Effect::ErasureAsked { .. }
        | Effect::Erased { .. }
        | Effect::Lapsed { .. }
        | Effect::Unfrozen { .. }
        | Effect::Certificate(_)
        | Effect::PolicyInForce { .. }
        | Effect::CrlNumber(_)
        | Effect::LogAccepted { .. }
        | Effect::Vault(_)
        | Effect::Signing { .. }
        | Effect::Witnessed(_)
        | Effect::Done { .. } => Err(unexpected().into()),
    }
}

/// A decision of a kind that this command cannot have.
pub(super) fn unexpected() -> Failure {
    Failure::fault("decision_mismatch", "the store answered another question", "report this as a defect")
}

fn executed(posted: &Posted, receipt: Receipt) -> Value {
    let (status, word) = match receipt {
        Receipt::Signed => ("executed", "signed"),
        Receipt::Pending => ("posted", "pending"),
    };
    let mut value = json!({
        "status": status,
        "receipt": word,
        "transaction_id": posted.transaction_id,
        "repeated": posted.repeated,
    });
    // The statement is our own canonical JSON; without it the answer is still complete in what it promises.
    if let Ok(statement) = serde_json::from_slice::<TransactionStatement>(&posted.statement)
        && let Ok(minor) = statement.amount_minor.parse()
    {
        value["amount"] = json!(Money::from_minor(minor, statement.currency).decimal());
        value["currency"] = json!(statement.currency);
        value["from_account"] = json!(statement.debit_account);
        value["posted_at"] = json!(statement.posted_at);
    }
    value
}

fn is_read(call: &ToolCall) -> bool {
    match call {
        ToolCall::ListAccounts {}
        | ToolCall::GetAccountBalance { .. }
        | ToolCall::ListTransactions { .. }
        | ToolCall::SearchProducts { .. }
        | ToolCall::GetTransaction { .. }
        | ToolCall::GetApprovalStatus { .. } => true,
        ToolCall::AuthorizePurchase { .. }
        | ToolCall::ExecutePurchase { .. }
        | ToolCall::AuthorizeTransfer { .. }
        | ToolCall::ExecuteTransfer { .. }
        | ToolCall::CancelAuthorization { .. }
        | ToolCall::RequestReversal { .. } => false,
    }
}
