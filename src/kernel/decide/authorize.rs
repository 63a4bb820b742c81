//! Authorizing a payment: DESIGN's order of rules, first match wins.
//!
//! 1. the agent, its key and certificates stand (`Case::of`)
//! 2. the idempotency key is new, or the same request is answered again
//! 3. grant: exactly one granted account fits, and it covers the verb
//! 4. the role has the tool
//! 5. the account is active; currencies agree; a transfer's destination exists and is another account
//! 6. merchant: on the allow-list first, so that no offer of an outsider is ever discussed; then its offer
//! 7. hard ceilings: the owner's, then the bank's
//! 8. open holds, then funds
//! 9. soft limits: none reached → approved, otherwise → requires approval; never denied
//!
//! In both cases of 9 the funds are held. A refusal leaves no trace but its leaf, so the key stays free.

use serde_json::json;

use super::{Binding, Case, Change, Grant, Orders, Ruled, bound_parameters, hash_of};
use crate::kernel::command::{Actor, Effect, ToolCall, Verb};
use crate::kernel::ledger::{
    Account, AccountKind, AccountStatus, Approval, Transaction, TransactionKind, TransactionState,
};
use crate::kernel::policy::{SoftLimit, hard_ceilings, merchant_on_list, soft_limits};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{
    AccountId, Day, IdempotencyKey, MerchantId, Money, ProductId, Sha256, TransactionId, UnixMillis,
};

/// What is asked, in the terms the rules need.
struct Wanted<'a> {
    kind: TransactionKind,
    verb: Verb,
    from: Option<&'a AccountId>,
    amount: Money,
    payee: Payee<'a>,
    key: &'a IdempotencyKey,
}

enum Payee<'a> {
    Merchant { merchant: &'a MerchantId, product: &'a ProductId },
    Account(&'a AccountId),
}

impl<'a> Wanted<'a> {
    fn of(call: &'a ToolCall) -> Option<Self> {
        match call {
            ToolCall::AuthorizePurchase { product_id, price, merchant, from_account, idempotency_key } => Some(Self {
                kind: TransactionKind::Purchase,
                verb: Verb::Purchase,
                from: from_account.as_ref(),
                amount: *price,
                payee: Payee::Merchant { merchant, product: product_id },
                key: idempotency_key,
            }),
            ToolCall::AuthorizeTransfer { from_account, to_account, amount, idempotency_key } => Some(Self {
                kind: TransactionKind::Transfer,
                verb: Verb::Transfer,
                from: from_account.as_ref(),
                amount: *amount,
                payee: Payee::Account(to_account),
                key: idempotency_key,
            }),
            ToolCall::ListAccounts {}
            | ToolCall::GetAccountBalance { .. }
            | ToolCall::ListTransactions { .. }
            | ToolCall::SearchProducts { .. }
            | ToolCall::ExecutePurchase { .. }
            | ToolCall::ExecuteTransfer { .. }
            | ToolCall::CancelAuthorization { .. }
            | ToolCall::GetTransaction { .. }
            | ToolCall::GetApprovalStatus { .. }
            | ToolCall::RequestReversal { .. } => None,
        }
    }
}

/// `authorize_purchase` and `authorize_transfer`.
pub(super) fn payment(case: &Case<'_>, call: &ToolCall) -> Ruled<Orders> {
    let Some(wanted) = Wanted::of(call) else {
        return Err(Refusal::ToolDenied.into());
    };
    let request = hash_of(&json!(call))?;
    let scope = agent_scope(case, wanted.key)?;
    if let Some(effect) = answered_before(case, &scope, request)? {
        return Ok((effect, vec![]));
    }

    let (grant, source) = source(case, &wanted)?;
    case.role_may(call)?;
    if source.status != AccountStatus::Active {
        return Err(Refusal::AccountNotActive.into());
    }
    if source.currency != wanted.amount.currency() {
        return Err(Refusal::CurrencyMismatch.into());
    }
    let credit = match &wanted.payee {
        Payee::Account(to) => destination(case, &source, to)?,
        Payee::Merchant { merchant, product } => offered(case, merchant, product, wanted.amount)?,
    };
    hard_ceilings(case.rules, grant.per_transaction_max, wanted.amount)?;
    if case.book.open_holds(&case.agent.spiffe_id, &source.name)? >= case.rules.open_holds_max {
        return Err(Refusal::TooManyOpenHolds.into());
    }
    let holding = source.hold(wanted.amount)?;

    let day = Day::from(case.now());
    let spent = case.book.spent(&case.agent.spiffe_id, day)?;
    let reached = soft_limits(case.rules, spent, wanted.amount);
    let attended = !reached.is_empty();
    let (merchant, product) = match wanted.payee {
        Payee::Merchant { merchant, product } => (Some(merchant.clone()), Some(product.clone())),
        Payee::Account(_) => (None, None),
    };
    let parameters = bound_parameters(wanted.kind.name(), &source.name, &credit, wanted.amount, product.as_ref())?;
    let transaction = Transaction {
        transaction_id: case.fresh.transaction.clone(),
        kind: wanted.kind,
        state: if attended { TransactionState::PendingApproval } else { TransactionState::Approved },
        maker: Actor::Agent(case.agent.clone()),
        debit: source.name,
        credit,
        amount: wanted.amount,
        merchant,
        product,
        original: None,
        parameters,
        counts_on: (!attended).then_some(day),
        created: case.now(),
        expires: expiry(case, &reached),
        authorization_ttl_ms: case.rules.authorization_ttl_ms,
        policy_version: case.rules.policy_version.clone(),
        catalogue_version: case.rules.catalogue_version,
        approval: approval(case, &reached),
    };
    let mut changes = vec![Change::UpdateAccount(holding)];
    if !attended {
        let minor = wanted.amount.minor();
        changes.push(Change::Spend { agent: case.agent.spiffe_id.clone(), day, minor });
    }
    Ok(recorded(case, scope, request, transaction, changes))
}

/// Records a new authorization under its idempotency key and answers it.
pub(super) fn recorded(
    case: &Case<'_>,
    scope: Sha256,
    request: Sha256,
    transaction: Transaction,
    mut changes: Vec<Change>,
) -> Orders {
    let effect = answer(&transaction);
    let binding = Binding { request, transaction_id: Some(transaction.transaction_id.clone()) };
    changes.push(Change::InsertTransaction(transaction));
    changes.push(Change::Bind { scope, binding, at: case.now() });
    (effect, changes)
}

/// The answer that this key gave before, if the request is the same.
pub(super) fn answered_before(case: &Case<'_>, scope: &Sha256, request: Sha256) -> Ruled<Option<Effect>> {
    let Some(binding) = case.book.binding(scope)? else {
        return Ok(None);
    };
    if binding.request != request {
        return Err(Refusal::IdempotencyKeyReused.into());
    }
    let lookup = |id: &TransactionId| case.book.transaction(id);
    let transaction = binding.transaction_id.as_ref().map(lookup).transpose()?.flatten();
    Ok(transaction.map(|transaction| answer(&transaction)))
}

pub(super) fn approval(case: &Case<'_>, reached: &[SoftLimit]) -> Option<Approval> {
    (!reached.is_empty()).then(|| Approval {
        approval_id: case.fresh.approval.clone(),
        reasons: reached.iter().map(|limit| limit.name().to_owned()).collect(),
        expires: case.now().plus_ms(case.rules.approval_ttl_ms),
        decided: None,
    })
}

fn expiry(case: &Case<'_>, reached: &[SoftLimit]) -> UnixMillis {
    let ttl_ms = if reached.is_empty() { case.rules.authorization_ttl_ms } else { case.rules.approval_ttl_ms };
    case.now().plus_ms(ttl_ms)
}

/// The first answer of an authorization; it stays the same whatever became of it since.
fn answer(transaction: &Transaction) -> Effect {
    match &transaction.approval {
        Some(approval) => Effect::RequiresApproval {
            approval_id: approval.approval_id.clone(),
            transaction_id: transaction.transaction_id.clone(),
            expires: approval.expires,
        },
        None => Effect::Approved { transaction_id: transaction.transaction_id.clone() },
    }
}

/// Idempotency keys belong to the agent: its name and its key.
pub(super) fn agent_scope(case: &Case<'_>, key: &IdempotencyKey) -> Ruled<Sha256> {
    Ok(hash_of(&json!(["agent", case.agent.spiffe_id, case.agent.key, key]))?)
}

fn source(case: &Case<'_>, wanted: &Wanted<'_>) -> Ruled<(Grant, Account)> {
    if let Some(from) = wanted.from {
        let grant = case.granted(from, wanted.verb)?;
        return Ok((grant, case.account(from.as_str())?));
    }
    let mut fitting = vec![];
    for grant in case.book.grants(&case.agent.spiffe_id)? {
        if case.now() >= grant.expires || !grant.verbs.contains(&wanted.verb) {
            continue;
        }
        let account = case.account(grant.account.as_str())?;
        if account.currency == wanted.amount.currency() {
            fitting.push((grant, account));
        }
    }
    if fitting.len() > 1 {
        return Err(Refusal::GrantAmbiguous.into());
    }
    Ok(fitting.pop().ok_or(Refusal::AccountNotGranted)?)
}

/// A transfer's destination: any active customer account of the same currency. It needs no grant.
fn destination(case: &Case<'_>, source: &Account, to: &AccountId) -> Ruled<String> {
    if source.name == to.as_str() {
        return Err(Refusal::SameAccount.into());
    }
    let usable = |account: &Account| account.kind == AccountKind::Customer && account.status == AccountStatus::Active;
    let account = case.book.account(to.as_str())?.filter(usable).ok_or(Refusal::UnknownDestination)?;
    if account.currency != source.currency {
        return Err(Refusal::CurrencyMismatch.into());
    }
    Ok(account.name)
}

/// A merchant of the allow-list whose current offer has exactly this price; answers its account.
fn offered(case: &Case<'_>, merchant: &MerchantId, product: &ProductId, price: Money) -> Ruled<String> {
    merchant_on_list(case.rules, merchant)?;
    let offer = case.book.offer(merchant, product)?.ok_or(Refusal::UnknownProduct)?;
    if offer.price != price {
        return Err(Refusal::PriceChanged.into());
    }
    Ok(Account::merchant_name(merchant))
}
