//! Authorizing a payment: DESIGN's order of rules, first match wins.
//!
//! 1. the agent, its key and certificates stand (`Case::of`)
//! 2. the idempotency key is new, or the same request is answered again
//! 3. payments are stopped: the request becomes a case for the bank's people
//! 4. grant: exactly one granted account fits, and it covers the verb
//! 5. the role has the tool, and its constraints hold of the arguments, the account of rule 4 among them
//! 6. the account is active; the amount is positive; currencies agree; transaction rules' hours, then their currencies
//! 7. merchant or payee: on the lists first, the bank's and the rules', so that no offer of an outsider is ever
//!    discussed; then its offer; a transfer's destination exists and is another account
//! 8. mandate: an agent that has one for this account pays within it, and only within it; where a rule wants one it has one
//! 9. hard ceilings: the owner's, the bank's, the rules', then the account's own for the day, then velocities that deny
//! 10. open holds, then funds
//! 11. soft limits, the monitor's score, thresholds and the other velocities: none reached → approved, otherwise →
//!     requires approval; never denied
//!
//! In both cases of 11 amount and fee are held. A refusal leaves no trace but its leaf, so the key stays free.

use super::limits::{Limits, kind_of, together};
use super::posting::{counted, within_day};
use super::{
    Binding, Book, Case, Change, Counter, Found, Grant, Orders, Ruled, bound_parameters, core, hash_of, internal,
    mandate, manual, stop,
};
use crate::kernel::command::{Actor, Effect, FreshIds, Rules, ToolCall, Verb};
use crate::kernel::ledger::{
    Account, AccountKind, AccountStatus, Approval, Asked, Inconsistent, Transaction, TransactionKind, TransactionState,
    fee_of,
};
use crate::kernel::mandate::{Payment, PaymentPayee};
use crate::kernel::monitor::Assessment;
use crate::kernel::policy::{SoftLimit, hard_ceilings, merchant_on_list, soft_limits};
use crate::kernel::quorum::{GateRule, Quorum, Side, strictest};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{
    AccountId, IdempotencyKey, MerchantId, Money, ProductId, Sha256, TransactionId, UnixMillis,
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

    /// As a mandate looks at it. Its reference is what is bought; of a transfer, the key that names the intent.
    fn payment(&self, case: &Case<'_>, source: &Account) -> Payment<'a> {
        let (payee, reference) = match self.payee {
            Payee::Merchant { merchant, product } => (PaymentPayee::Merchant(merchant), product.as_str()),
            Payee::Account(to) => (PaymentPayee::Account(to), self.key.as_str()),
        };
        let (agent_key, at, zone) = (case.agent.key, case.now(), source.zone);
        Payment { agent_key, payee, reference, amount: self.amount, at, zone }
    }
}

/// `authorize_purchase` and `authorize_transfer`.
pub(super) fn payment(case: &Case<'_>, call: &ToolCall) -> Ruled<Orders> {
    let Some(wanted) = Wanted::of(call) else {
        return Err(Refusal::ToolDenied.into());
    };
    let request = hash_of(call)?;
    let scope = agent_scope(case, wanted.key)?;
    if let Some(effect) = answered_before(case.book, case.now(), &scope, request)? {
        return Ok((effect, vec![]));
    }
    if let Some(reason) = stop::stopped(case)? {
        return manual::instead(case, call, scope, request, reason);
    }

    let (grant, source) = source(case, &wanted)?;
    case.role_may(call, Found { from_account: Some(&source.name), amount: None })?;
    if source.status != AccountStatus::Active {
        return Err(Refusal::AccountNotActive.into());
    }
    if wanted.amount.minor() <= 0 {
        return Err(Refusal::AmountNotPositive.into());
    }
    if source.currency != wanted.amount.currency() {
        return Err(Refusal::CurrencyMismatch.into());
    }
    let kind = kind_of(wanted.kind).ok_or(Refusal::ToolDenied)?;
    let limits = Limits::of(case, kind, &source, wanted.amount);
    limits.admit()?;
    let credit = match &wanted.payee {
        Payee::Account(to) => {
            limits.payee(to.as_str())?;
            destination(case, &source, to)?
        }
        Payee::Merchant { merchant, product } => {
            merchant_on_list(case.rules, merchant)?;
            limits.merchant(merchant)?;
            offered(case, merchant, product, wanted.amount)?
        }
    };
    let mandate = mandate::under(case, &source, &wanted.payment(case, &source), limits.mandate_required())?;
    hard_ceilings(case.rules, grant.per_transaction_max, wanted.amount)?;
    limits.ceilings()?;
    let fee = fee_of(&case.rules.fees, wanted.kind, wanted.amount)?;
    let total = wanted.amount.checked_add(fee).ok_or(Refusal::AmountTooLarge)?;
    let debits_on = within_day(case.book, &source, total, case.now())?;
    let (mut asking, paces) = limits.velocity(case.book)?;
    if case.book.open_holds(&case.agent.spiffe_id, &source.name)? >= case.rules.open_holds_max {
        return Err(Refusal::TooManyOpenHolds.into());
    }
    let holding = source.hold(total)?;

    let day = source.zone.day(case.now());
    let spent = case.book.spent(&Counter::Agent(case.agent.spiffe_id.clone()), day)?;
    asking.extend(limits.soft(spent));
    let mut soft = soft_limits(case.rules, spent, wanted.amount);
    if case.risk.is_some_and(Assessment::holds) {
        soft.push(SoftLimit::RiskScore);
    }
    let (reached, why) = together(soft, &asking);
    let attended = !reached.is_empty();
    let gates = limits.gates();
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
        debit: source.name.clone(),
        credit,
        amount: wanted.amount,
        fee,
        merchant,
        product,
        original: None,
        parameters,
        counts_on: (!attended).then_some(day),
        debits_on,
        mandate,
        created: case.now(),
        expires: expiry(case, &reached),
        authorization_ttl_ms: case.rules.authorization_ttl_ms,
        policy_version: case.rules.policy_version.clone(),
        catalogue_version: case.rules.catalogue_version,
        approval: approval(wanted.kind, &reached, &gates, case.rules, case.fresh, case.now())?,
        settlement: case.rules.settlement,
        case_id: None,
    };
    let mut changes = vec![];
    if fee.minor() > 0 {
        changes.extend(internal(case.book, Account::fees(fee.currency()))?.1);
    }
    changes.push(Change::UpdateAccount(holding));
    changes.extend(counted(&transaction, 1));
    changes.extend(paces);
    changes.extend(core::held(&transaction, case.now()));
    let (mut effect, changes) = recorded(scope, request, transaction, changes);
    if let Effect::RequiresApproval { why: said, .. } = &mut effect {
        *said = why;
    }
    Ok((effect, changes))
}

/// Records a new authorization under its idempotency key and answers it.
pub(super) fn recorded(scope: Sha256, request: Sha256, transaction: Transaction, mut changes: Vec<Change>) -> Orders {
    let effect = answer(&transaction);
    let at = transaction.created;
    let binding = Binding { request, transaction_id: Some(transaction.transaction_id.clone()), case_id: None };
    changes.push(Change::InsertTransaction(transaction));
    changes.push(Change::Bind { scope, binding, at });
    (effect, changes)
}

/// The answer that this key gave before, if the request is the same.
pub(super) fn answered_before(
    book: &dyn Book,
    now: UnixMillis,
    scope: &Sha256,
    request: Sha256,
) -> Ruled<Option<Effect>> {
    let Some(binding) = book.binding(scope, now)? else {
        return Ok(None);
    };
    if binding.request != request {
        return Err(Refusal::IdempotencyKeyReused.into());
    }
    if let Some(case) = &binding.case_id {
        return manual::word(book, case).map(Some);
    }
    let lookup = |id: &TransactionId| book.transaction(id);
    let transaction = binding.transaction_id.as_ref().map(lookup).transpose()?.flatten();
    transaction.map(|transaction| answer_again(book, &transaction)).transpose()
}

/// The question to people, where a limit asks for them. Gates that a rule or a threshold names count signed words alone. Nobody is
/// asked to consent that money comes back from them: a reversal has the bank's gates.
pub(super) fn approval(
    kind: TransactionKind,
    reached: &[SoftLimit],
    thresholds: &[GateRule],
    rules: &Rules,
    fresh: &FreshIds,
    now: UnixMillis,
) -> Ruled<Option<Approval>> {
    if reached.is_empty() {
        return Ok(None);
    }
    let named: Vec<GateRule> = match kind {
        TransactionKind::Reversal => rules.gates.iter().filter(|gate| gate.side() == Side::Bank).cloned().collect(),
        TransactionKind::Purchase
        | TransactionKind::Transfer
        | TransactionKind::Incoming
        | TransactionKind::Opening
        | TransactionKind::Booking => rules.gates.clone(),
    };
    let signed_only = !rules.gates.is_empty() || !thresholds.is_empty() || !rules.unsigned_approvals;
    let gates = strictest([&named[..], thresholds]).map_err(|unusable| Inconsistent(unusable.to_string()))?;
    Ok(Some(Approval {
        approval_id: fresh.approval.clone(),
        reasons: reached.iter().map(|limit| limit.name().to_owned()).collect(),
        expires: now.plus_ms(rules.approval_ttl_ms),
        asked: Asked { nonce: fresh.nonce, quorum: Quorum::new(gates, signed_only) },
        decided: None,
    }))
}

fn expiry(case: &Case<'_>, reached: &[SoftLimit]) -> UnixMillis {
    let ttl_ms = if reached.is_empty() { case.rules.authorization_ttl_ms } else { case.rules.approval_ttl_ms };
    case.now().plus_ms(ttl_ms)
}

/// The first answer of an authorization stays the same whatever became of it since, but for one that waits for the
/// bank's people, was rejected by them or refused by the core: those were never promised.
fn answer_again(book: &dyn Book, transaction: &Transaction) -> Ruled<Effect> {
    if let (Some(case), TransactionState::Denied) = (&transaction.case_id, transaction.state)
        && let Some(refusal) = manual::ended(book, case)?
    {
        return Err(refusal.into());
    }
    match (&transaction.case_id, transaction.state) {
        (Some(case), TransactionState::Manual) => return manual::word(book, case),
        (Some(_) | None, TransactionState::CoreRefused) => return Err(Refusal::CoreRefused.into()),
        (
            Some(_) | None,
            TransactionState::Approved
            | TransactionState::PendingApproval
            | TransactionState::Manual
            | TransactionState::Submitted
            | TransactionState::Posted
            | TransactionState::Denied
            | TransactionState::Cancelled
            | TransactionState::Expired
            | TransactionState::ApprovalExpired
            | TransactionState::Voided,
        ) => {}
    }
    Ok(answer(transaction))
}

fn answer(transaction: &Transaction) -> Effect {
    let mandate = transaction.mandate.as_ref().map(|used| used.mandate.clone());
    match &transaction.approval {
        Some(approval) => Effect::RequiresApproval {
            approval_id: approval.approval_id.clone(),
            transaction_id: transaction.transaction_id.clone(),
            expires: approval.expires,
            pending: approval.asked.quorum.pending(),
            why: vec![],
            mandate,
        },
        None => Effect::Approved { transaction_id: transaction.transaction_id.clone(), mandate },
    }
}

/// Idempotency keys belong to the agent: its name and its key.
pub(super) fn agent_scope(case: &Case<'_>, key: &IdempotencyKey) -> Ruled<Sha256> {
    Ok(hash_of(&("agent", &case.agent.spiffe_id, case.agent.key, key))?)
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

/// The merchant's current offer has exactly this price; answers its account.
fn offered(case: &Case<'_>, merchant: &MerchantId, product: &ProductId, price: Money) -> Ruled<String> {
    let offer = case.book.offer(merchant, product)?.ok_or(Refusal::UnknownProduct)?;
    if offer.price != price {
        return Err(Refusal::PriceChanged.into());
    }
    Ok(Account::merchant_name(merchant))
}
