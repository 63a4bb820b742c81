//! Executing and cancelling an authorization.
//!
//! Order of `execute_*`: the agent stands → the authorization is its own → executed, ordered or queued already with
//! these parameters: the same answer again → grant → role → parameters → merchant or payee still on the lists → state
//! and expiry → whoever made it stands → the owner's mandate that it is paid under stands, or none was ever given and none
//! is wanted → payments are not stopped → both accounts are active. Limits and ceilings are not asked again: the funds were
//! held when they were.

use super::limits::still_permits;
use super::posting::both_active;
use super::{Case, Found, Orders, Ruled, bound_parameters, core, mandate, manual, marks_of, release, settle, stop};
use crate::kernel::command::{AuthorizationRef, Effect, Posted, Settlement, ToolCall, Verb};
use crate::kernel::ledger::{Funds, Inconsistent, Transaction, TransactionKind, TransactionState};
use crate::kernel::policy::merchant_on_list;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{AccountId, Sha256, TransactionId};

/// `execute_purchase` and `execute_transfer`.
pub(super) fn payment(case: &Case<'_>, call: &ToolCall) -> Ruled<Orders> {
    let Some((transaction_id, verb)) = named(call) else {
        return Err(Refusal::ToolDenied.into());
    };
    let found = case.book.transaction(transaction_id)?;
    let transaction = case.own(found, Refusal::UnknownTransaction)?;
    let same = presented(call, &transaction)? == Some(transaction.parameters);
    if same && let Some(effect) = answered(case, &transaction)? {
        return Ok((effect, vec![]));
    }
    let account: AccountId = transaction.debit.parse().map_err(|_| Refusal::AuthorizationMismatch)?;
    // A purchase presented as a transfer is a mismatch whatever the grant covers.
    if verb_of(transaction.kind) != Some(verb) {
        return Err(Refusal::AuthorizationMismatch.into());
    }
    case.granted(&account, verb)?;
    case.role_may(call, Found { from_account: Some(account.as_str()), amount: None })?;
    if !same {
        return Err(Refusal::AuthorizationMismatch.into());
    }
    if let Some(merchant) = &transaction.merchant {
        merchant_on_list(case.rules, merchant)?;
    }
    still_permits(case, &transaction)?;
    executable(case, &transaction)?;
    mandate::still_stands(case, &transaction)?;

    if let Some(reason) = stop::stopped(case)? {
        return Ok(manual::withheld(case, call, &transaction, &reason));
    }
    let debit = case.account(&transaction.debit)?;
    let credit = case.account(&transaction.credit)?;
    if transaction.settlement == Settlement::External {
        both_active(&debit, &credit)?;
        return core::order(case, call, &transaction);
    }
    let (effect, changes) = settle(case.book, &transaction, &debit, &credit, Funds::Held, case.now())?;
    Ok((Effect::Posted(effect), changes))
}

/// What an execution with the same parameters answered before, or came to since.
fn answered(case: &Case<'_>, transaction: &Transaction) -> Ruled<Option<Effect>> {
    match transaction.state {
        TransactionState::Posted => Ok(Some(Effect::Posted(repeated(case, transaction)?))),
        TransactionState::Submitted => Ok(Some(Effect::Submitted(core::ordered(case.book, transaction)?))),
        TransactionState::Manual => match &transaction.case_id {
            Some(id) => manual::word(case.book, id).map(Some),
            None => Err(Inconsistent(format!("{} waits without a case", transaction.transaction_id)).into()),
        },
        TransactionState::Approved
        | TransactionState::PendingApproval
        | TransactionState::Denied
        | TransactionState::Cancelled
        | TransactionState::Expired
        | TransactionState::ApprovalExpired
        | TransactionState::Voided
        | TransactionState::CoreRefused => Ok(None),
    }
}

/// `cancel_authorization`: returns the funds and the day's allowance. A repeat answers the same.
pub(super) fn cancel(case: &Case<'_>, call: &ToolCall, reference: &AuthorizationRef) -> Ruled<Orders> {
    let transaction = match reference {
        AuthorizationRef::TransactionId(id) => case.own(case.book.transaction(id)?, Refusal::UnknownTransaction)?,
        AuthorizationRef::ApprovalId(id) => {
            case.own(case.book.transaction_of_approval(id)?, Refusal::UnknownApproval)?
        }
    };
    case.role_may(call, Found::default())?;
    let cancelled = Effect::Cancelled { transaction_id: transaction.transaction_id.clone() };
    match transaction.state {
        TransactionState::Approved | TransactionState::PendingApproval => {
            let account = case.account(&transaction.debit)?;
            Ok((cancelled, release(&account, &transaction, TransactionState::Cancelled, case.now())?))
        }
        TransactionState::Cancelled => Ok((cancelled, vec![])),
        TransactionState::Manual => Err(Refusal::QueuedManual.into()),
        TransactionState::Submitted => Err(Refusal::SubmissionPending.into()),
        TransactionState::Posted => Err(Refusal::AlreadyExecuted.into()),
        TransactionState::Denied => Err(manual::denied(case.book, &transaction)?.into()),
        TransactionState::Expired => Err(Refusal::AuthorizationExpired.into()),
        TransactionState::ApprovalExpired => Err(Refusal::ApprovalExpired.into()),
        TransactionState::Voided => Err(mandate::voided_by(case.book, &transaction)?.into()),
        TransactionState::CoreRefused => Err(Refusal::CoreRefused.into()),
    }
}

fn named(call: &ToolCall) -> Option<(&TransactionId, Verb)> {
    match call {
        ToolCall::ExecutePurchase { transaction_id, .. } => Some((transaction_id, Verb::Purchase)),
        ToolCall::ExecuteTransfer { transaction_id, .. } => Some((transaction_id, Verb::Transfer)),
        ToolCall::ListAccounts {}
        | ToolCall::GetAccountBalance { .. }
        | ToolCall::ListTransactions { .. }
        | ToolCall::SearchProducts { .. }
        | ToolCall::AuthorizePurchase { .. }
        | ToolCall::AuthorizeTransfer { .. }
        | ToolCall::CancelAuthorization { .. }
        | ToolCall::GetTransaction { .. }
        | ToolCall::GetApprovalStatus { .. }
        | ToolCall::RequestReversal { .. } => None,
    }
}

fn verb_of(kind: TransactionKind) -> Option<Verb> {
    match kind {
        TransactionKind::Purchase => Some(Verb::Purchase),
        TransactionKind::Transfer => Some(Verb::Transfer),
        TransactionKind::Reversal | TransactionKind::Incoming | TransactionKind::Opening | TransactionKind::Booking => {
            None
        }
    }
}

/// The hash of what the caller presents, completed by the parts of the authorization that `execute_*` does not name.
fn presented(call: &ToolCall, authorized: &Transaction) -> Ruled<Option<Sha256>> {
    match call {
        ToolCall::ExecutePurchase { product_id, .. } => Ok(Some(bound_parameters(
            TransactionKind::Purchase.name(),
            &authorized.debit,
            &authorized.credit,
            authorized.amount,
            Some(product_id),
        )?)),
        ToolCall::ExecuteTransfer { from_account, to_account, amount, .. } => Ok(Some(bound_parameters(
            TransactionKind::Transfer.name(),
            from_account.as_ref().map_or(authorized.debit.as_str(), AccountId::as_str),
            to_account.as_str(),
            *amount,
            None,
        )?)),
        ToolCall::ListAccounts {}
        | ToolCall::GetAccountBalance { .. }
        | ToolCall::ListTransactions { .. }
        | ToolCall::SearchProducts { .. }
        | ToolCall::AuthorizePurchase { .. }
        | ToolCall::AuthorizeTransfer { .. }
        | ToolCall::CancelAuthorization { .. }
        | ToolCall::GetTransaction { .. }
        | ToolCall::GetApprovalStatus { .. }
        | ToolCall::RequestReversal { .. } => Ok(None),
    }
}

fn repeated(case: &Case<'_>, transaction: &Transaction) -> Ruled<Posted> {
    let missing = || Inconsistent(format!("{} is executed but has no statement", transaction.transaction_id));
    let posted = case.book.posted(&transaction.transaction_id)?.ok_or_else(missing)?;
    Ok(Posted { repeated: true, ..posted })
}

fn executable(case: &Case<'_>, transaction: &Transaction) -> Ruled<()> {
    let lapsed = case.now() >= transaction.expires;
    let refusal = match transaction.state {
        TransactionState::Approved if lapsed => Refusal::AuthorizationExpired,
        TransactionState::PendingApproval if lapsed => Refusal::ApprovalExpired,
        TransactionState::PendingApproval => Refusal::ApprovalPending,
        TransactionState::Manual => Refusal::QueuedManual,
        TransactionState::Submitted => Refusal::SubmissionPending,
        TransactionState::Posted => Refusal::AlreadyExecuted,
        TransactionState::Denied => manual::denied(case.book, transaction)?,
        TransactionState::Cancelled => Refusal::AuthorizationCancelled,
        TransactionState::Expired => Refusal::AuthorizationExpired,
        TransactionState::ApprovalExpired => Refusal::ApprovalExpired,
        TransactionState::Voided => mandate::voided_by(case.book, transaction)?,
        TransactionState::CoreRefused => Refusal::CoreRefused,
        TransactionState::Approved => return maker_stands(case, transaction),
    };
    Err(refusal.into())
}

/// An authorization made under a certificate that was revoked since is void, even if the agent has a newer pair.
fn maker_stands(case: &Case<'_>, transaction: &Transaction) -> Ruled<()> {
    match transaction.agent() {
        Some(maker) if case.book.any_marked(&marks_of(maker))? => Err(Refusal::AgentRevoked.into()),
        Some(_) | None => Ok(()),
    }
}
