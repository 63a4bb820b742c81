//! Asking for a reversal: a new transaction, linked to the original, that a human always decides.
//!
//! It posts in the very decision that approves it. Until then nothing is held on the payee's account; the payee's
//! funds are checked when it posts.

use serde_json::json;

use super::authorize::{agent_scope, answered_before, approval, recorded};
use super::{Case, Orders, Ruled, bound_parameters, hash_of};
use crate::kernel::command::{Actor, ToolCall, Verb};
use crate::kernel::ledger::{Transaction, TransactionKind, TransactionState};
use crate::kernel::policy::SoftLimit;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{AccountId, IdempotencyKey, Money, TransactionId};

/// `request_reversal`: all of the original that is not reversed yet, or `amount` of it.
pub(super) fn request(
    case: &Case<'_>,
    call: &ToolCall,
    original_id: &TransactionId,
    amount: Option<Money>,
    key: &IdempotencyKey,
) -> Ruled<Orders> {
    let request = hash_of(&json!(call))?;
    let scope = agent_scope(case, key)?;
    if let Some(effect) = answered_before(case, &scope, request)? {
        return Ok((effect, vec![]));
    }
    let original = case.own(case.book.transaction(original_id)?, Refusal::UnknownTransaction)?;
    let reversible = match original.kind {
        TransactionKind::Purchase | TransactionKind::Transfer => original.state == TransactionState::Posted,
        TransactionKind::Reversal | TransactionKind::Incoming | TransactionKind::Opening => false,
    };
    if !reversible {
        return Err(Refusal::UnknownTransaction.into());
    }
    let account: AccountId = original.debit.parse().map_err(|_| Refusal::UnknownTransaction)?;
    case.granted(&account, Verb::Reverse)?;
    case.role_may(call)?;

    let reversed = Money::from_minor(case.book.reversed(original_id)?, original.amount.currency());
    let left = original.amount.checked_sub(reversed).ok_or(Refusal::AmountTooLarge)?;
    let amount = amount.unwrap_or(left);
    if amount.currency() != left.currency() {
        return Err(Refusal::CurrencyMismatch.into());
    }
    if amount.minor() > left.minor() || amount.minor() <= 0 {
        return Err(Refusal::ReversalExceedsOriginal.into());
    }
    if case.book.open_holds(&case.agent.spiffe_id, &original.credit)? >= case.rules.open_holds_max {
        return Err(Refusal::TooManyOpenHolds.into());
    }
    let kind = TransactionKind::Reversal;
    let transaction = Transaction {
        transaction_id: case.fresh.transaction.clone(),
        kind,
        state: TransactionState::PendingApproval,
        maker: Actor::Agent(case.agent.clone()),
        parameters: bound_parameters(kind.name(), &original.credit, &original.debit, amount, None)?,
        debit: original.credit,
        credit: original.debit,
        amount,
        merchant: original.merchant,
        product: original.product,
        original: Some(original_id.clone()),
        counts_on: None,
        created: case.now(),
        expires: case.now().plus_ms(case.rules.approval_ttl_ms),
        authorization_ttl_ms: case.rules.authorization_ttl_ms,
        policy_version: case.rules.policy_version.clone(),
        catalogue_version: case.rules.catalogue_version,
        approval: approval(case, &[SoftLimit::Reversal]),
    };
    Ok(recorded(case, scope, request, transaction, vec![]))
}
