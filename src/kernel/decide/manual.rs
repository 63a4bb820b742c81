//! Payments that are stopped, and what becomes of those that are asked for meanwhile.
//!
//! While the breaker is open an agent's request becomes a case under its own idempotency key: a retry finds the case, so
//! nobody pays twice. The bank's people release it (the agent's next try is decided like any other) or reject it.

use serde_json::json;

use super::bank::{operator, permitted};
use super::{Binding, Book, Breaker, Case, CaseState, Change, ManualCase, Orders, Ruled, core, existing, release};
use crate::kernel::command::{Actor, Command, CoreVerb, Effect, ToolCall, Verdict};
use crate::kernel::ledger::{Inconsistent, Transaction, TransactionState};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{CaseId, Sha256, TransactionId, UnixMillis};

/// `SetBreaker`. Stopping is for whoever sees the need, going on for a human; a repeat changes nothing.
pub(super) fn set_breaker(book: &dyn Book, command: &Command, reason: Option<&str>) -> Ruled<Orders> {
    let roles = ["officer", "administrator"];
    let by = match reason {
        Some(_) => permitted(&command.actor, &roles)?.0,
        None => operator(&command.actor, &roles)?,
    };
    let wanted = reason.map(|reason| Breaker { reason: reason.to_owned(), by, since: command.stamp.wall });
    if book.breaker()?.is_some() == wanted.is_some() {
        return Ok((Effect::Done { changed: false }, vec![]));
    }
    Ok((Effect::Done { changed: true }, vec![Change::PutBreaker(wanted)]))
}

/// A new authorization while payments are stopped: nothing is held or moved, and nothing is checked but that the agent
/// does not fill the queue.
pub(super) fn instead(
    case: &Case<'_>,
    call: &ToolCall,
    scope: Sha256,
    request: Sha256,
    breaker: &Breaker,
) -> Ruled<Orders> {
    if case.book.open_cases(&case.agent.spiffe_id)? >= case.rules.open_holds_max {
        return Err(Refusal::BreakerOpen.into());
    }
    let case_id = case.fresh.case.clone();
    let row = ManualCase { scope: Some(scope), ..asked(case, call, &breaker.reason) };
    let effect =
        Effect::QueuedManual { case_id: case_id.clone(), transaction_id: None, reason: breaker.reason.clone() };
    let binding = Binding { request, transaction_id: None, case_id: Some(case_id) };
    Ok((effect, vec![Change::PutCase(Box::new(row)), Change::Bind { scope, binding, at: case.now() }]))
}

/// An execution that cannot go on, because payments are stopped or the core has not confirmed its hold: the
/// authorization waits and keeps its funds.
pub(super) fn withheld(case: &Case<'_>, call: &ToolCall, transaction: &Transaction, reason: &str) -> Orders {
    let row = ManualCase {
        transaction_id: Some(transaction.transaction_id.clone()),
        resume: Some(transaction.state),
        ..asked(case, call, reason)
    };
    waiting(row, transaction)
}

/// `QueueManual`: an open transaction that the daemon itself cannot go on with.
pub(super) fn queue(
    book: &dyn Book,
    command: &Command,
    transaction_id: &TransactionId,
    case_id: &CaseId,
    reason: &str,
) -> Ruled<Orders> {
    let Actor::System { component } = &command.actor else {
        return Err(Refusal::OperatorNotPermitted.into());
    };
    let transaction = book.transaction(transaction_id)?.ok_or(Refusal::UnknownTransaction)?;
    match transaction.state {
        TransactionState::Approved | TransactionState::PendingApproval => {}
        TransactionState::Manual => {
            let case = transaction.case_id.as_ref();
            let case = case.ok_or_else(|| Inconsistent(format!("{transaction_id} waits without a case")))?;
            return Ok((word(book, case)?, vec![]));
        }
        TransactionState::Submitted => return Err(Refusal::SubmissionPending.into()),
        TransactionState::Posted => return Err(Refusal::AlreadyExecuted.into()),
        TransactionState::Denied
        | TransactionState::Cancelled
        | TransactionState::Expired
        | TransactionState::ApprovalExpired
        | TransactionState::Voided
        | TransactionState::CoreRefused => return Err(Refusal::AuthorizationCancelled.into()),
    }
    if component == core::COMPONENT && !book.outbox(transaction_id)?.contains(&CoreVerb::Hold) {
        // The core answered while this was on its way.
        return Ok((Effect::Done { changed: false }, vec![]));
    }
    let Some(agent) = transaction.agent() else {
        return Err(Refusal::UnknownTransaction.into());
    };
    // A late repeat after the case was decided would undo its answer.
    if book.case(case_id)?.is_some() {
        return Err(Refusal::AlreadyExists.into());
    }
    let row = ManualCase {
        case_id: case_id.clone(),
        agent: agent.spiffe_id.clone(),
        agent_key: agent.key,
        state: CaseState::Queued,
        reason: reason.to_owned(),
        scope: None,
        transaction_id: Some(transaction_id.clone()),
        resume: Some(transaction.state),
        call: json!({ "queued_by": component }),
        created: command.stamp.wall,
        decided_by: None,
        decided_at: None,
        note: None,
    };
    Ok(waiting(row, &transaction))
}

/// `ResolveCase`. Order: role → the case is there → not decided.
pub(super) fn resolve(
    book: &dyn Book,
    command: &Command,
    case_id: &CaseId,
    verdict: Verdict,
    note: &str,
) -> Ruled<Orders> {
    let by = operator(&command.actor, &["approver", "officer"])?;
    let case = book.case(case_id)?.ok_or(Refusal::UnknownCase)?;
    if case.state != CaseState::Queued {
        return Err(Refusal::AlreadyDecided.into());
    }
    let at = command.stamp.wall;
    let mut changes = vec![];
    if let Some(id) = &case.transaction_id {
        let transaction =
            book.transaction(id)?.ok_or_else(|| Inconsistent(format!("{case_id} names no transaction")))?;
        // Revoked, and so voided, while it waited: only the case is left to close.
        if transaction.state == TransactionState::Manual {
            changes.extend(match verdict {
                Verdict::Approve => resumed(&case, &transaction, at),
                Verdict::Deny => {
                    let account = existing(book, &transaction.debit)?;
                    release(&account, &transaction, TransactionState::Denied, at)?
                }
            });
        }
    }
    let state = match verdict {
        Verdict::Approve => CaseState::Released,
        Verdict::Deny => CaseState::Rejected,
    };
    // The key may stand for something newer when it was forgotten while the case waited.
    if let (Some(scope), Verdict::Approve) = (case.scope, verdict)
        && book.binding(&scope, at)?.is_some_and(|binding| binding.case_id.as_ref() == Some(case_id))
    {
        changes.push(Change::Unbind { scope });
    }
    let effect = Effect::CaseDecided { case_id: case_id.clone(), transaction_id: case.transaction_id.clone(), verdict };
    changes.push(Change::PutCase(Box::new(ManualCase {
        state,
        decided_by: Some(by),
        decided_at: Some(at),
        note: Some(note.to_owned()),
        ..case
    })));
    Ok((effect, changes))
}

/// Back where it stood, with a fresh time to live: the wait was not the agent's.
pub(super) fn resumed(case: &ManualCase, transaction: &Transaction, at: UnixMillis) -> Vec<Change> {
    let state = case.resume.unwrap_or(TransactionState::Approved);
    let expires = match &transaction.approval {
        Some(approval) if state == TransactionState::PendingApproval => approval.expires,
        Some(_) | None => at.plus_ms(transaction.authorization_ttl_ms),
    };
    vec![Change::UpdateTransaction(Transaction { state, expires, ..transaction.clone() })]
}

/// What a case answers to whoever asks again.
pub(super) fn word(book: &dyn Book, case_id: &CaseId) -> Ruled<Effect> {
    let case = book.case(case_id)?.ok_or_else(|| Inconsistent(format!("{case_id} is named but not there")))?;
    match case.state {
        CaseState::Queued | CaseState::Released => {
            Ok(Effect::QueuedManual { case_id: case.case_id, transaction_id: case.transaction_id, reason: case.reason })
        }
        CaseState::Rejected => Err(Refusal::CaseRejected.into()),
    }
}

/// Whether the bank's people ended it.
pub(super) fn is_rejected(book: &dyn Book, case_id: &CaseId) -> Ruled<bool> {
    Ok(book.case(case_id)?.is_some_and(|case| case.state == CaseState::Rejected))
}

fn waiting(row: ManualCase, transaction: &Transaction) -> Orders {
    let effect = Effect::QueuedManual {
        case_id: row.case_id.clone(),
        transaction_id: row.transaction_id.clone(),
        reason: row.reason.clone(),
    };
    let transaction =
        Transaction { state: TransactionState::Manual, case_id: Some(row.case_id.clone()), ..transaction.clone() };
    (effect, vec![Change::PutCase(Box::new(row)), Change::UpdateTransaction(transaction)])
}

/// A case about this very call.
fn asked(case: &Case<'_>, call: &ToolCall, reason: &str) -> ManualCase {
    ManualCase {
        case_id: case.fresh.case.clone(),
        agent: case.agent.spiffe_id.clone(),
        agent_key: case.agent.key,
        state: CaseState::Queued,
        reason: reason.to_owned(),
        scope: None,
        transaction_id: None,
        resume: None,
        call: json!(call),
        created: case.now(),
        decided_by: None,
        decided_at: None,
        note: None,
    }
}
