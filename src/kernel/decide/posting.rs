//! What a decision binds, posts and gives back, and the documents that are signed over it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;

use super::{Book, Change, Counter, OutboxRow, Place, Ruled, Stop};
use crate::kernel::canon::{CanonRefused, canonical_of};
use crate::kernel::command::{CoreVerb, Posted, Settlement, TransactionStatement};
use crate::kernel::ledger::{
    Account, AccountStatus, Fee, Funds, Inconsistent, Transaction, TransactionKind, TransactionState, Transfer, post,
};
use crate::kernel::mandate::{LIFE, MandateUse};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{Currency, Day, Money, ProductId, Sha256, UnixMillis};

/// The hash of the exact parameters that an authorization is bound to: SHA-256 over canonical JSON.
pub fn bound_parameters(
    kind: &str,
    debit: &str,
    credit: &str,
    amount: Money,
    product: Option<&ProductId>,
) -> Result<Sha256, CanonRefused> {
    hash_of(&Parameters {
        amount_minor: amount.minor().to_string(),
        credit,
        currency: amount.currency(),
        debit,
        kind,
        product,
        schema: "countersign/parameters/v1",
    })
}

/// Money moves only on the terms that were bound when the transaction was made: a row that was changed since is no
/// authorization of anybody.
pub(super) fn still_bound(transaction: &Transaction) -> Ruled<()> {
    let Transaction { kind, debit, credit, amount, product, .. } = transaction;
    // A reversal keeps the product of what it reverses, and is bound to its amount alone.
    let product = product.as_ref().filter(|_| *kind == TransactionKind::Purchase);
    if bound_parameters(kind.name(), debit, credit, *amount, product)? == transaction.parameters {
        return Ok(());
    }
    let name = &transaction.transaction_id;
    Err(Inconsistent(format!("accounts, amount or product of {name} are not those that were authorized")).into())
}

#[derive(Serialize)]
struct Parameters<'a> {
    amount_minor: String,
    credit: &'a str,
    currency: Currency,
    debit: &'a str,
    kind: &'a str,
    product: Option<&'a ProductId>,
    schema: &'a str,
}

/// SHA-256 over the canonical JSON of a value.
pub(super) fn hash_of<T: Serialize + ?Sized>(value: &T) -> Result<Sha256, CanonRefused> {
    Ok(Sha256::of(&[&canonical_of(value)?]))
}

/// Moves the money of a transaction: accounts, entries, statement and the effect with its place in the batch.
///
/// # Errors
/// Refusals of [`post`].
pub(super) fn settle(
    book: &dyn Book,
    transaction: &Transaction,
    debit: &Account,
    credit: &Account,
    funds: Funds,
    at: UnixMillis,
) -> Ruled<(Posted, Vec<Change>)> {
    still_bound(transaction)?;
    let income = if transaction.fee.minor() == 0 { None } else { Some(income(book, transaction.fee.currency())?) };
    let fee = income.as_ref().map(|account| Fee { account, amount: transaction.fee });
    let posting = post(&Transfer { debit, credit, amount: transaction.amount, fee, funds })?;
    let statement = statement("countersign/transaction/v1", transaction, at)?;
    let effect = placed(book, transaction, statement.clone())?;
    let mut changes: Vec<Change> = posting.accounts.into_iter().map(Change::UpdateAccount).collect();
    let transaction = transaction.transaction_id.clone();
    changes.push(Change::Post { transaction, entries: posting.entries, statement, at });
    Ok((effect, changes))
}

/// The bank's income account, which is opened before the first payment with a fee is authorized.
fn income(book: &dyn Book, currency: Currency) -> Ruled<Account> {
    super::existing(book, &Account::fees(currency).name)
}

/// What [`post`] asks of both accounts, asked before an order leaves the bank.
///
/// # Errors
/// `account_not_active`, `destination_not_active`
pub(super) fn both_active(debit: &Account, credit: &Account) -> Result<(), Refusal> {
    if debit.status != AccountStatus::Active {
        return Err(Refusal::AccountNotActive);
    }
    if credit.status != AccountStatus::Active {
        return Err(Refusal::DestinationNotActive);
    }
    Ok(())
}

/// A statement at the next place of the batch.
pub(super) fn placed(book: &dyn Book, transaction: &Transaction, statement: Vec<u8>) -> Ruled<Posted> {
    let Place { batch, index } = book.next_place()?;
    let transaction_id = transaction.transaction_id.clone();
    Ok(Posted { transaction_id, batch, index_in_batch: index, statement, repeated: false })
}

/// What is signed about a transaction, as canonical JSON.
pub(super) fn statement(schema: &str, transaction: &Transaction, at: UnixMillis) -> Result<Vec<u8>, Stop> {
    let agent = transaction.agent();
    let decided = transaction.approval.as_ref().and_then(|approval| approval.decided.as_ref());
    let fee_minor = transaction.fee.minor();
    let statement = TransactionStatement {
        schema: schema.into(),
        transaction_id: transaction.transaction_id.clone(),
        kind: transaction.kind.name().into(),
        agent: agent.map(|agent| agent.spiffe_id.clone()),
        agent_key: agent.map(|agent| agent.key),
        debit_account: transaction.debit.clone(),
        credit_account: transaction.credit.clone(),
        amount_minor: transaction.amount.minor().to_string(),
        fee_minor: (fee_minor != 0).then(|| fee_minor.to_string()),
        currency: transaction.amount.currency(),
        mandate_id: transaction.mandate.as_ref().map(|used| used.mandate.clone()),
        merchant: transaction.merchant.clone(),
        product_id: transaction.product.clone(),
        approval_id: transaction.approval.as_ref().map(|approval| approval.approval_id.clone()),
        approver: decided.map(|decided| decided.by.clone()),
        original_transaction_id: transaction.original.clone(),
        posted_at: at.rfc3339(),
        policy_version: transaction.policy_version.clone(),
        catalogue_version: transaction.catalogue_version.to_string(),
    };
    Ok(canonical_of(&statement)?)
}

/// Closes an open transaction and gives back what it holds on `account`, which it debits, and counts. What an external
/// core holds for it is given back there too; a hold that it was not known to have heard is not said again.
pub(super) fn release(
    account: &Account,
    transaction: &Transaction,
    state: TransactionState,
    at: UnixMillis,
) -> Ruled<Vec<Change>> {
    let mut changes = released(account, transaction, state, at)?;
    changes.extend(counted(transaction, -1));
    Ok(changes)
}

/// The same for what was paid outside: what it holds is given back, but it goes on counting.
pub(super) fn released(
    account: &Account,
    transaction: &Transaction,
    state: TransactionState,
    at: UnixMillis,
) -> Ruled<Vec<Change>> {
    let mut changes = vec![];
    if transaction.holds_funds() {
        changes.push(Change::UpdateAccount(account.release(transaction.total())?));
        if transaction.settlement == Settlement::External {
            let transaction_id = transaction.transaction_id.clone();
            changes.push(Change::Dequeue { transaction: transaction_id.clone(), verb: CoreVerb::Hold });
            changes.push(Change::Enqueue(OutboxRow { transaction_id, verb: CoreVerb::Release, since: at }));
        }
    }
    changes.push(Change::UpdateTransaction(Transaction { state, ..transaction.clone() }));
    Ok(changes)
}

/// Closes several open transactions, each in the state named beside it. Of several holds of one account each release
/// starts from what the one before left.
pub(super) fn close(
    book: &dyn Book,
    closing: impl IntoIterator<Item = (Transaction, TransactionState)>,
    at: UnixMillis,
) -> Ruled<Vec<Change>> {
    let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
    let mut changes = vec![];
    for (transaction, state) in closing {
        let account = match accounts.get(&transaction.debit) {
            Some(account) => account.clone(),
            None => super::existing(book, &transaction.debit)?,
        };
        for change in release(&account, &transaction, state, at)? {
            if let Change::UpdateAccount(account) = &change {
                accounts.insert(account.name.clone(), account.clone());
            }
            changes.push(change);
        }
    }
    Ok(changes)
}

/// The sums of days and of mandates that a transaction counts towards, added (`1`) or given back (`-1`).
pub(super) fn counted(transaction: &Transaction, sign: i64) -> Vec<Change> {
    let mut changes = vec![];
    if let (Some(day), Some(agent)) = (transaction.counts_on, transaction.agent()) {
        let counter = Counter::Agent(agent.spiffe_id.clone());
        changes.push(Change::Spend { counter, day, minor: sign * transaction.amount.minor() });
    }
    if let Some(day) = transaction.debits_on {
        let counter = Counter::Account(transaction.debit.clone());
        changes.push(Change::Spend { counter, day, minor: sign * transaction.total().minor() });
    }
    if let Some(MandateUse { mandate, budget_on, recurs_on }) = &transaction.mandate {
        let (amount, uses) = (Counter::MandateAmount(mandate.clone()), Counter::MandateUses(mandate.clone()));
        changes.push(Change::Spend { counter: amount, day: *budget_on, minor: sign * transaction.amount.minor() });
        changes.push(Change::Spend { counter: uses.clone(), day: LIFE, minor: sign });
        if *recurs_on != LIFE {
            changes.push(Change::Spend { counter: uses, day: *recurs_on, minor: sign });
        }
    }
    changes
}

/// The local day whose debits `total` counts towards, if the account has a daily limit.
///
/// # Errors
/// `account_day_limit_exceeded`
pub(super) fn within_day(book: &dyn Book, account: &Account, total: Money, at: UnixMillis) -> Ruled<Option<Day>> {
    let Some(day_max) = account.day_max else {
        return Ok(None);
    };
    let day = account.zone.day(at);
    let spent = book.spent(&Counter::Account(account.name.clone()), day)?;
    let above = spent.checked_add(total.minor()).is_none_or(|sum| sum > day_max);
    if above { Err(Refusal::AccountDayLimitExceeded.into()) } else { Ok(Some(day)) }
}

/// The document whose signature covers every posting of a commit, as canonical JSON.
///
/// # Errors
/// [`CanonRefused`] never happens for these values; it is passed on rather than asserted.
pub fn batch_document(batch: i64, statements: &[Sha256], at: UnixMillis) -> Result<Vec<u8>, CanonRefused> {
    canonical_of(&json!({
        "schema": "countersign/batch/v1",
        "signature": crate::kernel::receipt::LOW_S,
        "batch": batch,
        "count": statements.len(),
        "root": crate::kernel::merkle::root(statements).hex(),
        "at": at.rfc3339(),
    }))
}
