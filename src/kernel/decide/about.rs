//! Who a leaf is about: the rule by which its contents are sealed, and can be erased, together with others.
//!
//! An account that an agent asked for without a grant says nothing about its owner: such a leaf is about the agent. Else,
//! in this order: the customer whose account the decision touched, the one who pays before the one who is paid; whoever
//! the act itself names, and the payer of a payment of the agent's own that it speaks of; the agent, the person or
//! the program's user who asked; nobody.

use super::{Book, Change, Decided, RowFault, Ruled, Stop};
use crate::kernel::command::{Act, Actor, Command, Effect, RevocationTarget, SubjectStep, ToolCall, Whom};
use crate::kernel::ledger::{AccountKind, Inconsistent};
use crate::kernel::refusal::Refusal;
use crate::kernel::subject::DataSubject;
use crate::kernel::types::{AccountId, SpiffeId, TransactionId};

/// The subject of the leaf of a decision.
///
/// # Errors
/// What the rows reported.
pub fn about(book: &dyn Book, command: &Command, decided: &Decided) -> Result<DataSubject, RowFault> {
    match subject(book, command, decided) {
        Ok(subject) => Ok(subject),
        Err(Stop::Fault(fault)) => Err(fault),
        Err(Stop::Refused(_) | Stop::Denied(_)) => {
            Err(Box::new(Inconsistent("a rule refused where only rows are read".into())))
        }
    }
}

fn subject(book: &dyn Book, command: &Command, decided: &Decided) -> Ruled<DataSubject> {
    // Whoever asks chooses the account: without its owner's grant the leaf is the agent's, whatever came of it.
    if let (Act::Tool { call, .. }, Actor::Agent(agent)) = (&command.act, &command.actor)
        && let Some(account) = account_of(call)
        && book.grant(&agent.spiffe_id, account)?.is_none()
    {
        return Ok(DataSubject::Agent(agent.spiffe_id.clone()));
    }
    if is_about_one_payment(&command.act) {
        for account in touched(&decided.changes) {
            if let Some(owner) = owner(book, account)? {
                return Ok(owner);
            }
        }
    }
    if let Some(named) = named(book, &command.act, &decided.outcome)? {
        return Ok(named);
    }
    if let (Act::Tool { call, .. }, Actor::Agent(agent)) = (&command.act, &command.actor)
        && let Some(id) = payment_of(call)
        && let Some(payment) = book.transaction(id)?
        && let Actor::Agent(maker) = &payment.maker
        && maker.spiffe_id == agent.spiffe_id
        && let Some(owner) = owner(book, &payment.debit)?
    {
        return Ok(owner);
    }
    Ok(match &command.actor {
        Actor::Agent(agent) => DataSubject::Agent(agent.spiffe_id.clone()),
        Actor::Operator(operator) => DataSubject::Operator(operator.name.clone()),
        Actor::Program(program) => DataSubject::Program(program.uid),
        Actor::System { .. } => DataSubject::System,
    })
}

/// A sweep closes the payments of many.
fn is_about_one_payment(act: &Act) -> bool {
    match act {
        Act::Tool { .. }
        | Act::Transfer { .. }
        | Act::ReverseTransaction { .. }
        | Act::IncomingPayment { .. }
        | Act::OpenAccount(_)
        | Act::DecideApproval { .. }
        | Act::TakeCase { .. }
        | Act::ResolveCase { .. }
        | Act::QueueManual { .. }
        | Act::CoreAnswered { .. } => true,
        Act::SetAccountStatus { .. }
        | Act::ApplyPolicy { .. }
        | Act::SetBreaker { .. }
        | Act::AddMerchant { .. }
        | Act::AddProduct { .. }
        | Act::AddGrant { .. }
        | Act::RevokeGrant { .. }
        | Act::AddMandate { .. }
        | Act::RevokeMandate { .. }
        | Act::Sweep { .. }
        | Act::JournalCertificate { .. }
        | Act::ReleaseCertificate { .. }
        | Act::Revoke { .. }
        | Act::SpreadRevocation { .. }
        | Act::Freeze { .. }
        | Act::Unfreeze { .. }
        | Act::ImportCrl { .. }
        | Act::NextCrlNumber { .. }
        | Act::SignBatch { .. }
        | Act::Witness(_)
        | Act::AcceptLog { .. }
        | Act::Subject { .. }
        | Act::LapseKeys { .. }
        | Act::Vault(_)
        | Act::SignExternal(_)
        | Act::KeepSignatures { .. }
        | Act::Record { .. } => false,
    }
}

/// Accounts of the payment that was changed, the one that pays first.
fn touched(changes: &[Change]) -> Vec<&str> {
    for change in changes {
        if let Change::InsertTransaction(transaction) | Change::UpdateTransaction(transaction) = change {
            return vec![&transaction.debit, &transaction.credit];
        }
    }
    for change in changes {
        if let Change::Post { entries, .. } = change {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by_key(|entry| entry.amount > 0);
            return entries.into_iter().map(|entry| entry.account.as_str()).collect();
        }
    }
    vec![]
}

/// The customer whose account it is; none of the bank's own and of merchants'.
fn owner(book: &dyn Book, account: &str) -> Ruled<Option<DataSubject>> {
    let customer = book.account(account)?.filter(|account| account.kind == AccountKind::Customer);
    Ok(customer.and_then(|account| account.owner.parse().ok()).map(DataSubject::Owner))
}

fn named(book: &dyn Book, act: &Act, outcome: &Result<Effect, Refusal>) -> Ruled<Option<DataSubject>> {
    Ok(match act {
        Act::Tool { call, .. } if !matches!(outcome, Err(Refusal::AccountNotGranted)) => match account_of(call) {
            Some(account) => owner(book, account.as_str())?,
            None => None,
        },
        Act::OpenAccount(new) => Some(DataSubject::Owner(new.owner.clone())),
        Act::AddGrant { owner, .. } => Some(DataSubject::Owner(owner.clone())),
        Act::AddMandate { mandate } => Some(DataSubject::Owner(mandate.mandate().owner.clone())),
        Act::SetAccountStatus { account, .. }
        | Act::IncomingPayment { account, .. }
        | Act::RevokeGrant { account, .. } => owner(book, account.as_str())?,
        Act::Revoke { target: RevocationTarget::Agent(agent), .. }
        | Act::Freeze { whom: Whom::Agent(agent), .. }
        | Act::Unfreeze { whom: Whom::Agent(agent), .. } => Some(DataSubject::Agent(agent.clone())),
        Act::JournalCertificate { record } => record.subject.parse::<SpiffeId>().ok().map(DataSubject::Agent),
        // What was erased is not named by the leaf that says so, and that leaf is nobody's: without it the keys would be
        // destroyed and nothing would say by whom.
        Act::Subject { step: SubjectStep::Erase { .. }, .. } if is_erased(outcome) => Some(DataSubject::System),
        Act::Subject { subject: DataSubject::All, .. } => Some(DataSubject::System),
        Act::Subject { subject, .. } => Some(subject.clone()),
        Act::Tool { .. }
        | Act::Transfer { .. }
        | Act::ReverseTransaction { .. }
        | Act::ApplyPolicy { .. }
        | Act::SetBreaker { .. }
        | Act::TakeCase { .. }
        | Act::ResolveCase { .. }
        | Act::QueueManual { .. }
        | Act::CoreAnswered { .. }
        | Act::AddMerchant { .. }
        | Act::AddProduct { .. }
        | Act::RevokeMandate { .. }
        | Act::DecideApproval { .. }
        | Act::Sweep { .. }
        | Act::ReleaseCertificate { .. }
        | Act::Revoke { .. }
        | Act::SpreadRevocation { .. }
        | Act::Freeze { .. }
        | Act::Unfreeze { .. }
        | Act::ImportCrl { .. }
        | Act::NextCrlNumber { .. }
        | Act::SignBatch { .. }
        | Act::Witness(_)
        | Act::AcceptLog { .. }
        | Act::LapseKeys { .. }
        | Act::Vault(_)
        | Act::SignExternal(_)
        | Act::KeepSignatures { .. }
        | Act::Record { .. } => None,
    })
}

/// Whether the keys of the subject are gone with this decision.
pub(super) fn is_erased(outcome: &Result<Effect, Refusal>) -> bool {
    matches!(outcome, Ok(Effect::Erased { .. }))
}

/// The payment that a call speaks of, where it names no account.
fn payment_of(call: &ToolCall) -> Option<&TransactionId> {
    match call {
        ToolCall::ExecutePurchase { transaction_id, .. }
        | ToolCall::ExecuteTransfer { transaction_id, .. }
        | ToolCall::GetTransaction { transaction_id }
        | ToolCall::RequestReversal { transaction_id, .. } => Some(transaction_id),
        ToolCall::ListAccounts {}
        | ToolCall::GetAccountBalance { .. }
        | ToolCall::ListTransactions { .. }
        | ToolCall::SearchProducts { .. }
        | ToolCall::AuthorizePurchase { .. }
        | ToolCall::AuthorizeTransfer { .. }
        | ToolCall::CancelAuthorization { .. }
        | ToolCall::GetApprovalStatus { .. } => None,
    }
}

/// The account that a call names as its own.
fn account_of(call: &ToolCall) -> Option<&AccountId> {
    match call {
        ToolCall::GetAccountBalance { account_id } | ToolCall::ListTransactions { account_id, .. } => Some(account_id),
        ToolCall::AuthorizePurchase { from_account, .. }
        | ToolCall::AuthorizeTransfer { from_account, .. }
        | ToolCall::ExecuteTransfer { from_account, .. } => from_account.as_ref(),
        ToolCall::ListAccounts {}
        | ToolCall::SearchProducts { .. }
        | ToolCall::ExecutePurchase { .. }
        | ToolCall::CancelAuthorization { .. }
        | ToolCall::GetTransaction { .. }
        | ToolCall::GetApprovalStatus { .. }
        | ToolCall::RequestReversal { .. } => None,
    }
}
