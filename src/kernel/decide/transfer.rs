//! Postings that no agent asked for: the bank's own jobs, and fees that an officer charges.
//!
//! One command, one transfer. Order: role → reference → accounts → the account's daily limit → the rules of
//! [`post`](crate::kernel::ledger::post).

use super::bank::{permitted, repeated_payment, transaction_of_request};
use super::posting::{counted, within_day};
use super::{Binding, Book, Change, Orders, Ruled, bound_parameters, hash_of, internal, settle};
use crate::kernel::command::{Actor, Command, Effect, Settlement};
use crate::kernel::ledger::{Account, AccountKind, Funds, Transaction, TransactionKind, TransactionState};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{IdempotencyKey, Money};

/// Books one transfer.
pub(super) fn book(
    book: &dyn Book,
    command: &Command,
    debit: &str,
    credit: &str,
    amount: Money,
    reference: &IdempotencyKey,
) -> Ruled<Orders> {
    permitted(&command.actor, &["officer", "administrator"])?;
    let at = command.stamp.wall;
    let request = hash_of(&(debit, credit, amount))?;
    let scope = hash_of(&("booking", reference))?;
    if let Some(before) = book.binding(&scope, at)? {
        return repeated_payment(book, &before, request);
    }
    let income = Account::fees(amount.currency());
    let (credit, mut changes) = if credit == income.name {
        let (income, opened) = internal(book, income)?;
        (income, opened.into_iter().collect())
    } else {
        (book.account(credit)?.ok_or(Refusal::UnknownDestination)?, vec![])
    };
    // A human alone charges fees and nothing else: any other posting by hand would be one person's payment.
    if let Actor::Operator(_) = &command.actor
        && credit.kind != AccountKind::Fees
    {
        return Err(Refusal::OperatorNotPermitted.into());
    }
    let debit = book.account(debit)?.ok_or(Refusal::UnknownAccount)?;
    let pays_fees = match debit.kind {
        AccountKind::Customer | AccountKind::Merchant => true,
        // Income out of nothing.
        AccountKind::Fees | AccountKind::Clearing => false,
    };
    if let Actor::Operator(_) = &command.actor
        && !pays_fees
    {
        return Err(Refusal::OperatorNotPermitted.into());
    }
    let debits_on = within_day(book, &debit, amount, at)?;
    let kind = TransactionKind::Booking;
    let transaction = Transaction {
        transaction_id: transaction_of_request(&command.stamp)?,
        kind,
        state: TransactionState::Approved,
        maker: command.actor.clone(),
        parameters: bound_parameters(kind.name(), &debit.name, &credit.name, amount, None)?,
        debit: debit.name.clone(),
        credit: credit.name.clone(),
        amount,
        fee: Money::from_minor(0, amount.currency()),
        merchant: None,
        product: None,
        original: None,
        counts_on: None,
        debits_on,
        mandate: None,
        created: at,
        expires: at,
        authorization_ttl_ms: 0,
        policy_version: String::new(),
        catalogue_version: 0,
        approval: None,
        settlement: Settlement::Embedded,
        case_id: None,
    };
    let (posted, posting) = settle(book, &transaction, &debit, &credit, Funds::Available, at)?;
    let binding = Binding { request, transaction_id: Some(posted.transaction_id.clone()), case_id: None };
    changes.extend(counted(&transaction, 1));
    changes.push(Change::InsertTransaction(transaction));
    changes.extend(posting);
    changes.push(Change::Bind { scope, binding, at });
    Ok((Effect::Posted(posted), changes))
}
