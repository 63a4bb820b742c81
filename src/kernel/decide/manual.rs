//! Payments that are stopped, and what becomes of those that are asked for meanwhile.
//!
//! While the breaker is open an agent's request becomes a case under its own idempotency key: a retry finds the case, so
//! nobody pays twice. The bank's people take it, then release it (the agent's next try is decided like any other),
//! reject it, or say that they have paid it elsewhere; above a threshold two of them have to say the same.

use serde_json::json;

use super::approval::is_own_money;
use super::bank::operator;
use super::posting::{counted, released};
use super::{
    Binding, Book, Case, CaseState, Change, ManualCase, Orders, Proposal, Ruled, Taken, core, existing, release,
};
use crate::kernel::command::{
    Actor, CaseStep, CaseVerdict, Command, CoreVerb, Effect, OperatorPrincipal, Rules, TakeFrom, ToolCall,
};
use crate::kernel::ledger::{Inconsistent, Transaction, TransactionState};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{CaseId, Sha256, TransactionId, UnixMillis};

/// A new authorization while payments are stopped: nothing is held or moved, and nothing is checked but that the agent
/// does not fill the queue.
pub(super) fn instead(
    case: &Case<'_>,
    call: &ToolCall,
    scope: Sha256,
    request: Sha256,
    reason: String,
) -> Ruled<Orders> {
    if case.book.open_cases(&case.agent.spiffe_id)? >= case.rules.open_holds_max {
        return Err(Refusal::BreakerOpen.into());
    }
    let case_id = case.fresh.case.clone();
    let row = ManualCase { scope: Some(scope), ..asked(case, call, &reason) };
    let effect = Effect::QueuedManual { case_id: case_id.clone(), transaction_id: None, reason };
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
        taken: None,
        proposed: None,
        reference: None,
    };
    Ok(waiting(row, &transaction))
}

/// `TakeCase`. Order: role → the case is there → not decided → not one's own → not somebody else's.
pub(super) fn take(book: &dyn Book, command: &Command, case_id: &CaseId, from: TakeFrom) -> Ruled<Orders> {
    let (by, case, _) = worked(book, command, case_id)?;
    let before = case.taken.as_ref().map(|taken| taken.by.clone()).filter(|before| *before != by);
    if before.is_some() && from == TakeFrom::Nobody {
        return Err(Refusal::CaseTaken.into());
    }
    let is_mine = before.is_none() && case.taken.is_some();
    let taken = Some(Taken { by: by.clone(), at: command.stamp.wall });
    let effect = step(&case, CaseStep::Taken { by, before });
    let change = Change::PutCase(Box::new(ManualCase { taken, ..case }));
    Ok((effect, if is_mine { vec![] } else { vec![change] }))
}

/// `ResolveCase`. Order: as [`take`], then the threshold: a second person has to say the same. Whoever answers a
/// proposal need not have taken the case; another verdict stands in place of the first one, and waits anew.
pub(super) fn resolve(
    book: &dyn Book,
    command: &Command,
    case_id: &CaseId,
    verdict: &CaseVerdict,
    note: &str,
    rules: &Rules,
) -> Ruled<Orders> {
    let (by, case, transaction) = worked(book, command, case_id)?;
    let at = command.stamp.wall;
    if case.proposed.is_none() && case.taken.as_ref().is_some_and(|taken| taken.by != by) {
        return Err(Refusal::CaseTaken.into());
    }
    if takes_two(&case, transaction.as_ref(), rules) {
        match &case.proposed {
            Some(first) if first.verdict == *verdict && first.by == by => {
                return Err(Refusal::SecondPersonNeeded.into());
            }
            Some(first) if first.verdict == *verdict => {}
            Some(_) | None => return Ok(propose(case, verdict, by, at, note)),
        }
    }
    let mut changes = match &transaction {
        Some(transaction) => closed(book, &case, transaction, verdict, at)?,
        None => vec![],
    };
    // The key may stand for something newer when it was forgotten while the case waited.
    if let (Some(scope), CaseVerdict::Release) = (case.scope, verdict)
        && book.binding(&scope, at)?.is_some_and(|binding| binding.case_id.as_ref() == Some(case_id))
    {
        changes.push(Change::Unbind { scope });
    }
    let (state, reference) = match verdict {
        CaseVerdict::Release => (CaseState::Released, None),
        CaseVerdict::Reject => (CaseState::Rejected, None),
        CaseVerdict::PaidElsewhere { reference } => (CaseState::PaidElsewhere, Some(reference.clone())),
    };
    let effect = step(&case, CaseStep::Decided { verdict: verdict.clone() });
    changes.push(Change::PutCase(Box::new(ManualCase {
        state,
        decided_by: Some(by),
        decided_at: Some(at),
        note: Some(note.to_owned()),
        reference,
        ..case
    })));
    Ok((effect, changes))
}

/// What a verdict does to the transaction that its case is about.
fn closed(
    book: &dyn Book,
    case: &ManualCase,
    transaction: &Transaction,
    verdict: &CaseVerdict,
    at: UnixMillis,
) -> Ruled<Vec<Change>> {
    let denied = TransactionState::Denied;
    let is_void = match transaction.state {
        TransactionState::Manual => false,
        TransactionState::Voided => true,
        // Over by itself: only the case is left to close.
        TransactionState::Approved
        | TransactionState::PendingApproval
        | TransactionState::Submitted
        | TransactionState::Posted
        | TransactionState::Denied
        | TransactionState::Cancelled
        | TransactionState::Expired
        | TransactionState::ApprovalExpired
        | TransactionState::CoreRefused => return Ok(vec![]),
    };
    match verdict {
        CaseVerdict::Release | CaseVerdict::Reject if is_void => Ok(vec![]),
        CaseVerdict::Release => Ok(resumed(case, transaction, at)),
        CaseVerdict::Reject => release(&existing(book, &transaction.debit)?, transaction, denied, at),
        // The money was spent: limits and its mandate have no room for it a second time. Its agent was revoked while
        // somebody paid: what was given back counts again.
        CaseVerdict::PaidElsewhere { .. } if is_void => {
            let mut changes = counted(transaction, 1);
            changes.push(Change::UpdateTransaction(Transaction { state: denied, ..transaction.clone() }));
            Ok(changes)
        }
        CaseVerdict::PaidElsewhere { .. } => released(&existing(book, &transaction.debit)?, transaction, denied, at),
    }
}

/// The case under which a transaction waits now.
pub(super) fn waiting_case(book: &dyn Book, transaction: &Transaction) -> Ruled<Option<ManualCase>> {
    match (&transaction.case_id, transaction.state) {
        (Some(id), TransactionState::Manual) => book.case(id),
        (Some(_) | None, _) => Ok(None),
    }
}

/// Who works, on which case that waits, and about which transaction.
fn worked(book: &dyn Book, command: &Command, case_id: &CaseId) -> Ruled<(String, ManualCase, Option<Transaction>)> {
    let by = operator(&command.actor, &["approver", "officer"])?;
    let case = book.case(case_id)?.ok_or(Refusal::UnknownCase)?;
    if case.state != CaseState::Queued {
        return Err(Refusal::AlreadyDecided.into());
    }
    let Actor::Operator(person) = &command.actor else {
        return Err(Refusal::OperatorNotPermitted.into());
    };
    let Some(id) = &case.transaction_id else {
        if asks_for_own_money(book, &case, person)? {
            return Err(Refusal::MakerIsChecker.into());
        }
        return Ok((by, case, None));
    };
    let transaction = book.transaction(id)?.ok_or_else(|| Inconsistent(format!("{case_id} names no transaction")))?;
    // Whoever made it, or whose money it is, has no say in it.
    if transaction.maker.name() == by || is_own_money(book, &transaction, person)? {
        return Err(Refusal::MakerIsChecker.into());
    }
    Ok((by, case, Some(transaction)))
}

/// Whether a case about a payment that was never authorized is about this person's account: the one that was named, or
/// any that the agent could have meant.
fn asks_for_own_money(book: &dyn Book, case: &ManualCase, person: &OperatorPrincipal) -> Ruled<bool> {
    let named = match serde_json::from_value(case.call.clone()).ok() {
        Some(ToolCall::AuthorizePurchase { from_account, .. } | ToolCall::AuthorizeTransfer { from_account, .. }) => {
            from_account
        }
        Some(
            ToolCall::ListAccounts {}
            | ToolCall::GetAccountBalance { .. }
            | ToolCall::ListTransactions { .. }
            | ToolCall::SearchProducts { .. }
            | ToolCall::ExecutePurchase { .. }
            | ToolCall::ExecuteTransfer { .. }
            | ToolCall::CancelAuthorization { .. }
            | ToolCall::GetTransaction { .. }
            | ToolCall::GetApprovalStatus { .. }
            | ToolCall::RequestReversal { .. },
        )
        | None => None,
    };
    let accounts = match named {
        Some(account) => vec![account],
        None => book.grants(&case.agent)?.into_iter().map(|grant| grant.account).collect(),
    };
    for account in accounts {
        // One that is not there is nobody's.
        if book.account(account.as_str())?.is_some_and(|account| person.is_owner(&account.owner)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Above the threshold; so does what cannot be compared with it.
fn takes_two(case: &ManualCase, transaction: Option<&Transaction>, rules: &Rules) -> bool {
    let Some(threshold) = rules.manual_two_people_above else {
        return false;
    };
    let asked = || match serde_json::from_value(case.call.clone()).ok()? {
        ToolCall::AuthorizePurchase { price, .. } => Some(price),
        ToolCall::AuthorizeTransfer { amount, .. } | ToolCall::ExecuteTransfer { amount, .. } => Some(amount),
        ToolCall::ListAccounts {}
        | ToolCall::GetAccountBalance { .. }
        | ToolCall::ListTransactions { .. }
        | ToolCall::SearchProducts { .. }
        | ToolCall::ExecutePurchase { .. }
        | ToolCall::CancelAuthorization { .. }
        | ToolCall::GetTransaction { .. }
        | ToolCall::GetApprovalStatus { .. }
        | ToolCall::RequestReversal { .. } => None,
    };
    let amount = transaction.map(|transaction| transaction.amount).or_else(asked);
    amount.is_none_or(|amount| amount.currency() != threshold.currency() || amount.minor() > threshold.minor())
}

fn propose(case: ManualCase, verdict: &CaseVerdict, by: String, at: UnixMillis, note: &str) -> Orders {
    let effect = step(&case, CaseStep::Proposed { verdict: verdict.clone(), by: by.clone() });
    let taken = case.taken.clone().or_else(|| Some(Taken { by: by.clone(), at }));
    let proposed = Some(Proposal { verdict: verdict.clone(), by, at, note: note.to_owned() });
    (effect, vec![Change::PutCase(Box::new(ManualCase { taken, proposed, ..case }))])
}

fn step(case: &ManualCase, step: CaseStep) -> Effect {
    Effect::CaseWorked { case_id: case.case_id.clone(), transaction_id: case.transaction_id.clone(), step }
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
        CaseState::PaidElsewhere => Err(Refusal::PaidElsewhere.into()),
    }
}

/// How the bank's people ended it, if they did.
pub(super) fn ended(book: &dyn Book, case_id: &CaseId) -> Ruled<Option<Refusal>> {
    Ok(match book.case(case_id)?.map(|case| case.state) {
        Some(CaseState::Rejected) => Some(Refusal::CaseRejected),
        Some(CaseState::PaidElsewhere) => Some(Refusal::PaidElsewhere),
        Some(CaseState::Queued | CaseState::Released) | None => None,
    })
}

/// Why a denied transaction is not executed: money that moved outside is no simple no.
pub(super) fn denied(book: &dyn Book, transaction: &Transaction) -> Ruled<Refusal> {
    let ended = transaction.case_id.as_ref().map(|case| ended(book, case)).transpose()?.flatten();
    Ok(ended.filter(|refusal| *refusal == Refusal::PaidElsewhere).unwrap_or(Refusal::ApprovalDenied))
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
        taken: None,
        proposed: None,
        reference: None,
    }
}
