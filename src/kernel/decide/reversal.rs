//! Reversals: a new transaction, linked to the original, that a human always decides, whatever its amount.
//!
//! An agent asks for one under a grant, the bank's officers without. It posts in the very decision that approves it.
//! Until then nothing is held on the payee's account; the payee's funds are checked when it posts. The fee of the
//! original stays where it is. Neither the payee's limit for a day nor stopped payments stand in its way: a human
//! looks at each.

use super::authorize::{agent_scope, answered_before, approval, recorded};
use super::bank::permitted;
use super::{Book, Case, Found, Orders, Ruled, bound_parameters, hash_of};
use crate::kernel::command::{Actor, Command, FreshIds, Rules, ToolCall, Verb};
use crate::kernel::ledger::{Transaction, TransactionKind, TransactionState};
use crate::kernel::policy::SoftLimit;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{AccountId, IdempotencyKey, Money, Sha256, TransactionId, UnixMillis};

/// `request_reversal`: all of the original that is not reversed yet, or `amount` of it.
pub(super) fn request(
    case: &Case<'_>,
    call: &ToolCall,
    original_id: &TransactionId,
    amount: Option<Money>,
    key: &IdempotencyKey,
) -> Ruled<Orders> {
    let request = hash_of(call)?;
    let scope = agent_scope(case, key)?;
    if let Some(effect) = answered_before(case.book, case.now(), &scope, request)? {
        return Ok((effect, vec![]));
    }
    let original = case.own(case.book.transaction(original_id)?, Refusal::UnknownTransaction)?;
    if !reversible(&original) {
        return Err(Refusal::UnknownTransaction.into());
    }
    let account: AccountId = original.debit.parse().map_err(|_| Refusal::UnknownTransaction)?;
    case.granted(&account, Verb::Reverse)?;
    let whole = left(case.book, &original)?;
    case.role_may(call, Found { from_account: None, amount: Some(whole) })?;
    let asked = Asked {
        book: case.book,
        maker: Actor::Agent(case.agent.clone()),
        now: case.now(),
        rules: case.rules,
        fresh: case.fresh,
    };
    let transaction = asked.transaction(&original, amount)?;
    if case.book.open_holds(&case.agent.spiffe_id, &original.credit)? >= case.rules.open_holds_max {
        return Err(Refusal::TooManyOpenHolds.into());
    }
    Ok(recorded(scope, request, transaction, vec![]))
}

/// The bank's own reversal. Order: role → key → the original is there → reversible → amount.
pub(super) fn by_operator(
    book: &dyn Book,
    command: &Command,
    original_id: &TransactionId,
    amount: Option<Money>,
    key: &IdempotencyKey,
    rules: &Rules,
    fresh: &FreshIds,
) -> Ruled<Orders> {
    permitted(&command.actor, &["officer"])?;
    let now = command.stamp.wall;
    let request = hash_of(&("reverse", original_id, amount))?;
    let scope: Sha256 = hash_of(&("bank", key))?;
    if let Some(effect) = answered_before(book, now, &scope, request)? {
        return Ok((effect, vec![]));
    }
    let original = book.transaction(original_id)?.ok_or(Refusal::UnknownTransaction)?;
    if !reversible(&original) {
        return Err(Refusal::NotReversible.into());
    }
    let asked = Asked { book, maker: command.actor.clone(), now, rules, fresh };
    let transaction = asked.transaction(&original, amount)?;
    Ok(recorded(scope, request, transaction, vec![]))
}

fn reversible(original: &Transaction) -> bool {
    match original.kind {
        TransactionKind::Purchase | TransactionKind::Transfer | TransactionKind::Booking => {
            original.state == TransactionState::Posted
        }
        TransactionKind::Reversal | TransactionKind::Incoming | TransactionKind::Opening => false,
    }
}

/// What is not reversed of the original yet.
fn left(book: &dyn Book, original: &Transaction) -> Ruled<Money> {
    let reversed = Money::from_minor(book.reversed(&original.transaction_id)?, original.amount.currency());
    Ok(original.amount.checked_sub(reversed).ok_or(Refusal::AmountTooLarge)?)
}

/// A reversal that somebody may ask for.
struct Asked<'a> {
    book: &'a dyn Book,
    maker: Actor,
    now: UnixMillis,
    rules: &'a Rules,
    fresh: &'a FreshIds,
}

impl Asked<'_> {
    /// The reversal of what is left of the original, or of `amount`.
    fn transaction(self, original: &Transaction, amount: Option<Money>) -> Ruled<Transaction> {
        let currency = original.amount.currency();
        let left = left(self.book, original)?;
        let amount = amount.unwrap_or(left);
        if amount.currency() != currency {
            return Err(Refusal::CurrencyMismatch.into());
        }
        if amount.minor() > left.minor() || amount.minor() <= 0 {
            return Err(Refusal::ReversalExceedsOriginal.into());
        }
        let kind = TransactionKind::Reversal;
        let (debit, credit) = (original.credit.clone(), original.debit.clone());
        Ok(Transaction {
            transaction_id: self.fresh.transaction.clone(),
            kind,
            state: TransactionState::PendingApproval,
            maker: self.maker,
            parameters: bound_parameters(kind.name(), &debit, &credit, amount, None)?,
            debit,
            credit,
            amount,
            fee: Money::from_minor(0, currency),
            merchant: original.merchant.clone(),
            product: original.product.clone(),
            original: Some(original.transaction_id.clone()),
            counts_on: None,
            debits_on: None,
            mandate: None,
            created: self.now,
            expires: self.now.plus_ms(self.rules.approval_ttl_ms),
            authorization_ttl_ms: self.rules.authorization_ttl_ms,
            policy_version: self.rules.policy_version.clone(),
            catalogue_version: self.rules.catalogue_version,
            approval: approval(kind, &[SoftLimit::Reversal], &[], self.rules, self.fresh, self.now)?,
            // Money goes back where it went, whatever the rules say by now.
            settlement: original.settlement,
            case_id: None,
        })
    }
}
