//! Payments that an external core banking system settles.
//!
//! What must be said to it stands in the outbox of the same commit, so it is said at least once; each order is
//! idempotent there by transaction and verb. Here money moves when it answered, never before.

use super::posting::{placed, statement, still_bound};
use super::{
    Book, Case, CaseState, Change, CoreRefusal, ManualCase, Orders, OutboxRow, Ruled, existing, manual, release, settle,
};
use crate::kernel::command::{Actor, Command, CoreVerb, CoreWord, Effect, Posted, Settlement, ToolCall};
use crate::kernel::ledger::{Account, AccountStatus, Funds, Inconsistent, Transaction, TransactionState};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{TransactionId, UnixMillis};

/// The part of the daemon that speaks to the core, as its commands name it.
pub const COMPONENT: &str = "core";
/// Why a payment waits whose hold the core has not confirmed.
pub const HOLD_NOT_CONFIRMED: &str = "the core banking system has not confirmed the hold";

/// The hold that a new authorization asks the core for.
pub(super) fn held(transaction: &Transaction, at: UnixMillis) -> Option<Change> {
    (transaction.settlement == Settlement::External && transaction.kind.holds_funds())
        .then(|| enqueue(transaction, CoreVerb::Hold, at))
}

/// `execute_*`: the order is durable and signed before it is sent. Until the core is known to hold the funds the
/// payment waits under a case, which the core's word closes.
pub(super) fn order(case: &Case<'_>, call: &ToolCall, transaction: &Transaction) -> Ruled<Orders> {
    if case.book.outbox(&transaction.transaction_id)?.contains(&CoreVerb::Hold) {
        return Ok(manual::withheld(case, call, transaction, HOLD_NOT_CONFIRMED));
    }
    let (posted, changes) = submit(case.book, transaction, case.now())?;
    Ok((Effect::Submitted(posted), changes))
}

/// Makes the order: its statement in the batch, the settlement in the outbox.
pub(super) fn submit(book: &dyn Book, transaction: &Transaction, at: UnixMillis) -> Ruled<(Posted, Vec<Change>)> {
    still_bound(transaction)?;
    let statement = statement("countersign/order/v1", transaction, at)?;
    let posted = placed(book, transaction, statement.clone())?;
    let submitted = Transaction { state: TransactionState::Submitted, ..transaction.clone() };
    let changes = vec![
        Change::UpdateTransaction(submitted),
        Change::Order { transaction: transaction.transaction_id.clone(), statement },
        enqueue(transaction, CoreVerb::Settle, at),
    ];
    Ok((posted, changes))
}

/// The order of a submitted transaction, once more.
pub(super) fn ordered(book: &dyn Book, transaction: &Transaction) -> Ruled<Posted> {
    let missing = || Inconsistent(format!("{} is submitted but has no order", transaction.transaction_id));
    let order = book.order(&transaction.transaction_id)?.ok_or_else(missing)?;
    Ok(Posted { repeated: true, ..order })
}

/// `CoreAnswered`. A word about what is not waited for changes nothing.
pub(super) fn answered(
    book: &dyn Book,
    command: &Command,
    transaction_id: &TransactionId,
    verb: CoreVerb,
    word: &CoreWord,
) -> Ruled<Orders> {
    let Actor::System { .. } = command.actor else {
        return Err(Refusal::OperatorNotPermitted.into());
    };
    let at = command.stamp.wall;
    let transaction = book.transaction(transaction_id)?.ok_or(Refusal::UnknownTransaction)?;
    if !book.outbox(transaction_id)?.contains(&verb) {
        return Ok((Effect::Done { changed: false }, vec![]));
    }
    let mut changes = vec![Change::Dequeue { transaction: transaction_id.clone(), verb }];
    if let CoreWord::Refused(reason) = word {
        let (transaction_id, reason) = (transaction_id.clone(), reason.clone());
        changes.push(Change::KeepRefusal(CoreRefusal { transaction_id, verb, reason, at }));
    }
    let mut effect = Effect::Done { changed: true };
    match (verb, word) {
        (CoreVerb::Hold, CoreWord::Done) => changes.extend(resumed(book, &transaction, at)?),
        (CoreVerb::Hold, CoreWord::Refused(name)) if waits(&transaction) => {
            changes.extend(closed(book, &transaction, at)?);
            // Nothing is held there, so nothing is given back there.
            changes.retain(|change| !matches!(change, Change::Enqueue(_)));
            if let Some(case) = manual::waiting_case(book, &transaction)? {
                let note = format!("the core banking system refused: {name}");
                changes.push(decided(case, CaseState::Rejected, &note, at));
            }
        }
        (CoreVerb::Settle, CoreWord::Done) if transaction.state == TransactionState::Submitted => {
            let (posted, posting) = followed(book, &transaction, at)?;
            changes.extend(posting);
            effect = Effect::Posted(posted);
        }
        (CoreVerb::Settle, CoreWord::Refused(_)) if transaction.state == TransactionState::Submitted => {
            changes.extend(closed(book, &transaction, at)?);
        }
        (CoreVerb::Hold | CoreVerb::Settle, CoreWord::Refused(_))
        | (CoreVerb::Settle, CoreWord::Done)
        | (CoreVerb::Release, CoreWord::Done | CoreWord::Refused(_)) => {}
    }
    Ok((effect, changes))
}

/// Posts what has moved there. An account that was frozen or closed since does not undo that, and stays as it is.
fn followed(book: &dyn Book, transaction: &Transaction, at: UnixMillis) -> Ruled<(Posted, Vec<Change>)> {
    let debit = existing(book, &transaction.debit)?;
    let credit = existing(book, &transaction.credit)?;
    let active = |account: &Account| Account { status: AccountStatus::Active, ..account.clone() };
    let (posted, mut posting) = settle(book, transaction, &active(&debit), &active(&credit), Funds::Held, at)?;
    for change in &mut posting {
        if let Change::UpdateAccount(moved) = change
            && let Some(kept) = [&debit, &credit].into_iter().find(|kept| kept.name == moved.name)
        {
            moved.status = kept.status;
        }
    }
    Ok((posted, posting))
}

fn enqueue(transaction: &Transaction, verb: CoreVerb, since: UnixMillis) -> Change {
    Change::Enqueue(OutboxRow { transaction_id: transaction.transaction_id.clone(), verb, since })
}

fn waits(transaction: &Transaction) -> bool {
    match transaction.state {
        TransactionState::Approved | TransactionState::PendingApproval | TransactionState::Manual => true,
        TransactionState::Submitted
        | TransactionState::Posted
        | TransactionState::Denied
        | TransactionState::Cancelled
        | TransactionState::Expired
        | TransactionState::ApprovalExpired
        | TransactionState::Voided
        | TransactionState::CoreRefused => false,
    }
}

fn closed(book: &dyn Book, transaction: &Transaction, at: UnixMillis) -> Ruled<Vec<Change>> {
    let account = existing(book, &transaction.debit)?;
    release(&account, transaction, TransactionState::CoreRefused, at)
}

/// The hold came after all: a case that was opened for its sake is closed by the daemon itself.
fn resumed(book: &dyn Book, transaction: &Transaction, at: UnixMillis) -> Ruled<Vec<Change>> {
    // Whoever works on it may be paying by hand: then it is the person's to close.
    let nobodys = |case: &ManualCase| case.reason == HOLD_NOT_CONFIRMED && !case.is_worked_on();
    let Some(case) = manual::waiting_case(book, transaction)?.filter(nobodys) else {
        return Ok(vec![]);
    };
    let mut changes = manual::resumed(&case, transaction, at);
    changes.push(decided(case, CaseState::Released, "the core banking system holds the funds", at));
    Ok(changes)
}

fn decided(case: ManualCase, state: CaseState, note: &str, at: UnixMillis) -> Change {
    Change::PutCase(Box::new(ManualCase {
        state,
        decided_by: Some(format!("system:{COMPONENT}")),
        decided_at: Some(at),
        note: Some(note.to_owned()),
        ..case
    }))
}
