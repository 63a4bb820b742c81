//! What a decision binds, posts and gives back, and the documents that are signed over it.

use serde_json::json;

use super::{Book, Change, Place, Ruled, Stop};
use crate::kernel::canon::{CanonRefused, canonical};
use crate::kernel::command::{Posted, TransactionStatement};
use crate::kernel::ledger::{Account, Posting, Transaction, TransactionState};
use crate::kernel::types::{Money, ProductId, Sha256, UnixMillis};

/// The hash of the exact parameters that an authorization is bound to: SHA-256 over canonical JSON.
pub fn bound_parameters(
    kind: &str,
    debit: &str,
    credit: &str,
    amount: Money,
    product: Option<&ProductId>,
) -> Result<Sha256, CanonRefused> {
    hash_of(&json!({
        "schema": "countersign/parameters/v1",
        "kind": kind,
        "debit": debit,
        "credit": credit,
        "amount_minor": amount.minor().to_string(),
        "currency": amount.currency().code(),
        "product": product,
    }))
}

pub(super) fn hash_of(value: &serde_json::Value) -> Result<Sha256, CanonRefused> {
    Ok(Sha256::of(&[&canonical(value)?]))
}

/// Carries out a posting: accounts, entries, statement and the effect with its place in the batch.
pub(super) fn posted(
    book: &dyn Book,
    transaction: &Transaction,
    posting: Posting,
    at: UnixMillis,
) -> Ruled<(Posted, Vec<Change>)> {
    let statement = statement(transaction, at)?;
    let Place { batch, index } = book.next_place()?;
    let effect = Posted {
        transaction_id: transaction.transaction_id.clone(),
        batch,
        index_in_batch: index,
        statement: statement.clone(),
        repeated: false,
    };
    let changes = vec![
        Change::UpdateAccount(posting.debit),
        Change::UpdateAccount(posting.credit),
        Change::Post { transaction: transaction.transaction_id.clone(), entries: posting.entries, statement, at },
    ];
    Ok((effect, changes))
}

fn statement(transaction: &Transaction, at: UnixMillis) -> Result<Vec<u8>, Stop> {
    let agent = transaction.agent();
    let decided = transaction.approval.as_ref().and_then(|approval| approval.decided.as_ref());
    let statement = TransactionStatement {
        schema: "countersign/transaction/v1".into(),
        transaction_id: transaction.transaction_id.clone(),
        kind: transaction.kind.name().into(),
        agent: agent.map(|agent| agent.spiffe_id.clone()),
        agent_key: agent.map(|agent| agent.key),
        debit_account: transaction.debit.clone(),
        credit_account: transaction.credit.clone(),
        amount_minor: transaction.amount.minor().to_string(),
        currency: transaction.amount.currency(),
        merchant: transaction.merchant.clone(),
        product_id: transaction.product.clone(),
        approval_id: transaction.approval.as_ref().map(|approval| approval.approval_id.clone()),
        approver: decided.map(|decided| decided.by.clone()),
        original_transaction_id: transaction.original.clone(),
        posted_at: at.rfc3339(),
        policy_version: transaction.policy_version.clone(),
        catalogue_version: transaction.catalogue_version.to_string(),
    };
    let value = serde_json::to_value(statement).map_err(|error| Stop::Fault(Box::new(error)))?;
    Ok(canonical(&value)?)
}

/// Closes an open transaction and gives back what it holds on `account`, which it debits, and counts.
pub(super) fn release(account: &Account, transaction: &Transaction, state: TransactionState) -> Ruled<Vec<Change>> {
    let mut changes = vec![];
    if transaction.kind.holds_funds() {
        changes.push(Change::UpdateAccount(account.release(transaction.amount)?));
    }
    if let (Some(day), Some(agent)) = (transaction.counts_on, transaction.agent()) {
        let minor = -transaction.amount.minor();
        changes.push(Change::Spend { agent: agent.spiffe_id.clone(), day, minor });
    }
    changes.push(Change::UpdateTransaction(Transaction { state, ..transaction.clone() }));
    Ok(changes)
}

/// The document whose signature covers every posting of a commit, as canonical JSON.
///
/// # Errors
/// [`CanonRefused`] never happens for these values; it is passed on rather than asserted.
pub fn batch_document(batch: i64, statements: &[Sha256], at: UnixMillis) -> Result<Vec<u8>, CanonRefused> {
    canonical(&json!({
        "schema": "countersign/batch/v1",
        "batch": batch,
        "count": statements.len(),
        "root": crate::kernel::merkle::root(statements).hex(),
        "at": at.rfc3339(),
    }))
}
