//! How rows look to operators: one shape, whichever store they come from.

use serde_json::{Value, json};

use super::ApprovalView;
use crate::kernel::approval::{Evidence, PaymentTerms};
use crate::kernel::breaker::{Breaker, Stop};
use crate::kernel::command::CaseVerdict;
use crate::kernel::decide::{CoreRefusal, Grant, ManualCase, Merchant, Offer};
use crate::kernel::ledger::{Account, Transaction, TransactionState};
use crate::kernel::quorum::{Count, Word};
use crate::kernel::types::{Money, UnixMillis};

pub fn account(account: &Account) -> Value {
    let money = |minor| Money::from_minor(minor, account.currency).decimal();
    json!({
        "account_id": account.name, "owner": account.owner, "kind": account.kind.name(),
        "status": account.status.name(), "status_by": account.status_by, "currency": account.currency,
        "balance": money(account.balance), "held": money(account.held), "available": money(account.available()),
        "overdraft": money(account.overdraft), "day_max": account.day_max.map(money), "time_zone": account.zone,
    })
}

pub fn grant(grant: &Grant) -> Value {
    json!({
        "agent": grant.agent, "account_id": grant.account, "owner": grant.owner, "verbs": grant.verbs,
        "per_transaction_max": grant.per_transaction_max, "expires": grant.expires.rfc3339(),
        "entered_by": grant.entered_by, "asserted": grant.asserted,
    })
}

pub fn merchant(merchant: &Merchant) -> Value {
    json!({ "merchant": merchant.merchant, "name": merchant.name, "currency": merchant.currency })
}

pub fn offer(offer: &Offer) -> Value {
    json!({
        "product_id": offer.product, "merchant": offer.merchant, "title": offer.title,
        "price": offer.price.decimal(), "currency": offer.price.currency(),
    })
}

pub fn transaction(transaction: &Transaction, posted_at: Option<UnixMillis>, batch: Option<i64>) -> Value {
    json!({
        "transaction_id": transaction.transaction_id, "kind": transaction.kind.name(),
        "status": transaction.state.name(), "amount": transaction.amount.decimal(),
        "fee": transaction.fee.decimal(), "currency": transaction.amount.currency(),
        "from_account": transaction.debit, "to_account": transaction.credit,
        "agent": transaction.agent().map(|agent| &agent.spiffe_id),
        "merchant": transaction.merchant, "product_id": transaction.product,
        "approval_id": transaction.approval.as_ref().map(|approval| &approval.approval_id),
        "original_transaction_id": transaction.original, "case_id": transaction.case_id,
        "created": transaction.created.rfc3339(),
        "expires": transaction.state.is_open().then(|| transaction.expires.rfc3339()),
        "posted": posted_at.map(UnixMillis::rfc3339), "batch": batch,
    })
}

/// Minor units as decimal strings: kept, and as entries and open transactions add up.
pub fn balances(account: &str, currency: &str, kept: [i64; 2], recomputed: [i64; 2]) -> Value {
    json!({
        "account_id": account, "currency": currency,
        "balance_minor": kept[0].to_string(), "held_minor": kept[1].to_string(),
        "entries_minor": recomputed[0].to_string(), "open_minor": recomputed[1].to_string(),
    })
}

pub fn case(case: &ManualCase) -> Value {
    json!({
        "case_id": case.case_id, "status": case.state.name(), "agent": case.agent, "reason": case.reason,
        "transaction_id": case.transaction_id, "call": case.call, "created": case.created.rfc3339(),
        "decided_by": case.decided_by, "decided_at": case.decided_at.map(UnixMillis::rfc3339), "note": case.note,
        "taken_by": case.taken.as_ref().map(|taken| &taken.by),
        "taken_at": case.taken.as_ref().map(|taken| taken.at.rfc3339()),
        "proposed": case.proposed.as_ref().map(|proposed| json!({
            "status": proposed.verdict.status(), "by": proposed.by, "at": proposed.at.rfc3339(),
            "note": proposed.note, "reference": reference(&proposed.verdict),
        })),
        "reference": case.reference,
    })
}

pub fn core_refusal(refusal: &CoreRefusal) -> Value {
    json!({ "order": refusal.verb, "reason": refusal.reason, "at": refusal.at.rfc3339() })
}

fn reference(verdict: &CaseVerdict) -> Option<&str> {
    match verdict {
        CaseVerdict::PaidElsewhere { reference } => Some(reference),
        CaseVerdict::Release | CaseVerdict::Reject => None,
    }
}

/// `by` and `since` of the cause that is told first.
pub fn breaker(breaker: &Breaker) -> Value {
    let first = breaker.stops().first();
    let cause = |stop: &Stop| json!({ "cause": stop.cause, "reason": stop.reason, "by": stop.by, "since": stop.since.rfc3339() });
    json!({
        "stopped": !breaker.is_closed(),
        "reason": breaker.reason(),
        "by": first.map(|stop| &stop.by),
        "since": first.map(|stop| stop.since.rfc3339()),
        "causes": breaker.stops().iter().map(cause).collect::<Vec<_>>(),
    })
}

/// `None` for a transaction that asks nobody.
pub fn approval(transaction: &Transaction) -> Option<ApprovalView> {
    let approval = transaction.approval.as_ref()?;
    let decided = approval.decided.as_ref();
    let (quorum, terms) = (&approval.asked.quorum, PaymentTerms::of(transaction, approval));
    Some(ApprovalView {
        approval_id: approval.approval_id.clone(),
        transaction_id: transaction.transaction_id.clone(),
        status: match transaction.state {
            TransactionState::PendingApproval => "pending".into(),
            TransactionState::Approved
            | TransactionState::Manual
            | TransactionState::Submitted
            | TransactionState::Posted
            | TransactionState::Denied
            | TransactionState::Cancelled
            | TransactionState::Expired
            | TransactionState::ApprovalExpired
            | TransactionState::Voided
            | TransactionState::CoreRefused => transaction.state.name().into(),
        },
        maker: transaction.maker.name(),
        summary: json!({
            "kind": transaction.kind.name(),
            "amount": transaction.amount,
            "from_account": transaction.debit,
            "to_account": transaction.credit,
            "merchant": transaction.merchant,
            "product_id": transaction.product,
            "original_transaction_id": transaction.original,
            "note": decided.map(|decided| &decided.note),
            "asserted": decided.map(|decided| decided.asserted),
        }),
        created: transaction.created.rfc3339(),
        expires: approval.expires.rfc3339(),
        decided_by: decided.map(|decided| decided.by.clone()),
        reasons: approval.reasons.clone(),
        pending: match transaction.state {
            TransactionState::PendingApproval => quorum.pending(),
            TransactionState::Approved
            | TransactionState::Manual
            | TransactionState::Submitted
            | TransactionState::Posted
            | TransactionState::Denied
            | TransactionState::Cancelled
            | TransactionState::Expired
            | TransactionState::ApprovalExpired
            | TransactionState::Voided
            | TransactionState::CoreRefused => vec![],
        },
        gates: quorum.counts().map(|count| gate(&count)).collect(),
        words: quorum.words.iter().map(said).collect(),
        signed: json!({
            "transaction_hash": terms.hash(), "policy_version": transaction.policy_version,
            "nonce": approval.asked.nonce, "terms": terms,
        }),
    })
}

fn gate(count: &Count<'_>) -> Value {
    let mut value = json!(count.rule);
    value["given"] = json!(count.given);
    value["needed"] = json!(count.needed);
    value
}

fn said(word: &Word<Evidence>) -> Value {
    json!({
        "gate": word.gate, "person": word.person, "role": word.role, "answer": word.answer, "note": word.note,
        "at": UnixMillis(word.at).rfc3339(), "asserted": word.asserted, "signed": word.evidence.is_some(),
        "evidence": word.evidence, "evidence_sha256": word.evidence.as_ref().map(Evidence::hash),
    })
}
