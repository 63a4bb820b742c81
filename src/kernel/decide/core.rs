//! Payments that an external core banking system settles.
//!
//! What must be said to it stands in the outbox of the same commit, so it is said at least once; each order is
//! idempotent there by transaction and verb. Here money moves when it answered, never before.

use super::posting::{placed, statement};
use super::{Book, Case, Change, ManualCase, Orders, OutboxRow, Ruled, existing, manual, release, settle};
use crate::kernel::command::{Actor, Command, CoreVerb, CoreWord, Effect, Posted, Settlement};
use crate::kernel::decide::CaseState;
use crate::kernel::ledger::{Funds, Inconsistent, Transaction, TransactionState};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{TransactionId, UnixMillis};

/// The hold that a new authorization asks the core for.
pub(super) fn held(transaction: &Transaction, at: UnixMillis) -> Option<Change> {
    (transaction.settlement == Settlement::External && transaction.kind.holds_funds())
        .then(|| enqueue(transaction, CoreVerb::Hold, at))
}

/// `execute_*`: the order is durable and signed before it is sent. Not before the core holds the funds.
pub(super) fn order(case: &Case<'_>, transaction: &Transaction) -> Ruled<Orders> {
    if case.book.outbox(&transaction.transaction_id)?.contains(&CoreVerb::Hold) {
        return Err(Refusal::HoldMissing.into());
    }
    let (posted, changes) = submit(case.book, transaction, case.now())?;
    Ok((Effect::Submitted(posted), changes))
}

/// Makes the order: its statement in the batch, the settlement in the outbox.
pub(super) fn submit(book: &dyn Book, transaction: &Transaction, at: UnixMillis) -> Ruled<(Posted, Vec<Change>)> {
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
    let mut effect = Effect::Done { changed: true };
    match (verb, word) {
        (CoreVerb::Hold, CoreWord::Done) => changes.extend(resumed(book, &transaction, at)?),
        (CoreVerb::Hold, CoreWord::Refused(_)) if waits(&transaction) => {
            changes.extend(closed(book, &transaction, at)?);
            // Nothing is held there, so nothing is given back there.
            changes.retain(|change| !matches!(change, Change::Enqueue(_)));
        }
        (CoreVerb::Settle, CoreWord::Done) if transaction.state == TransactionState::Submitted => {
            let debit = existing(book, &transaction.debit)?;
            let credit = existing(book, &transaction.credit)?;
            let funds = if transaction.kind.holds_funds() { Funds::Held } else { Funds::Available };
            let (posted, posting) = settle(book, &transaction, &debit, &credit, funds, at)?;
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
    let waiting = (transaction.state == TransactionState::Manual).then_some(transaction.case_id.as_ref()).flatten();
    let Some(case) = waiting.map(|id| book.case(id)).transpose()?.flatten() else {
        return Ok(vec![]);
    };
    let mut changes = manual::resumed(&case, transaction, at);
    changes.push(Change::PutCase(Box::new(ManualCase {
        state: CaseState::Released,
        decided_by: Some("system:core".into()),
        decided_at: Some(at),
        note: Some("the core banking system answered".into()),
        ..case
    })));
    Ok(changes)
}
