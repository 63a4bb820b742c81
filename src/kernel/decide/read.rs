//! What agents may see: granted accounts, the merchants' offers, their own transactions.
//!
//! Amounts are decimal strings. Unknown and ungranted accounts answer alike.

use serde_json::{Value, json};

use super::{Case, Found, Offer, Ruled, manual};
use crate::kernel::command::{ToolCall, Verb};
use crate::kernel::ledger::{Account, Transaction, TransactionState};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{MerchantId, Money, UnixMillis};

/// Offers looked through by one search.
const OFFERS_READ_MAX: u32 = 5_000;
/// Offers answered by one search.
const OFFERS_SHOWN_MAX: usize = 50;
/// Lines answered by `list_transactions`.
const HISTORY_MAX: u32 = 200;

/// The structured answer of a reading tool.
pub(super) fn answer(case: &Case<'_>, call: &ToolCall) -> Ruled<Value> {
    match call {
        ToolCall::ListAccounts {} => {
            case.role_may(call, Found::default())?;
            accounts(case)
        }
        ToolCall::GetAccountBalance { account_id } => {
            case.granted(account_id, Verb::Read)?;
            case.role_may(call, Found::default())?;
            Ok(balance(&case.account(account_id.as_str())?))
        }
        ToolCall::ListTransactions { account_id, limit } => {
            case.granted(account_id, Verb::Read)?;
            case.role_may(call, Found::default())?;
            let lines = case.book.history(account_id.as_str(), (*limit).clamp(1, HISTORY_MAX))?;
            let shown = lines.iter().map(|line| {
                let mut value = transaction(&line.transaction, Some(line.posted_at), case.now());
                value["change"] = json!(Money::from_minor(line.amount, line.transaction.amount.currency()).decimal());
                value
            });
            Ok(json!({ "account_id": account_id, "transactions": shown.collect::<Vec<_>>() }))
        }
        ToolCall::SearchProducts { query, max_price, merchant } => {
            case.role_may(call, Found::default())?;
            let offers = case.book.offers(merchant.as_ref(), OFFERS_READ_MAX)?;
            Ok(json!({ "products": found(offers, query, *max_price, case.rules.merchants_allowed.names()) }))
        }
        ToolCall::GetTransaction { transaction_id } => {
            let own = case.own(case.book.transaction(transaction_id)?, Refusal::UnknownTransaction)?;
            case.role_may(call, Found::default())?;
            let mut shown = transaction(&own, None, case.now());
            // Whoever reads "denied" alone asks for it again, and it is paid twice.
            if own.state == TransactionState::Denied && manual::denied(case.book, &own)? == Refusal::PaidElsewhere {
                let refusal = Refusal::PaidElsewhere;
                shown["reason"] = json!(refusal.name());
                shown["message"] = json!(refusal.message());
                shown["next_step"] = json!(refusal.next_step());
            }
            Ok(shown)
        }
        ToolCall::GetApprovalStatus { approval_id } => {
            let own = case.own(case.book.transaction_of_approval(approval_id)?, Refusal::UnknownApproval)?;
            case.role_may(call, Found::default())?;
            Ok(approval(&own, case.now()))
        }
        ToolCall::AuthorizePurchase { .. }
        | ToolCall::ExecutePurchase { .. }
        | ToolCall::AuthorizeTransfer { .. }
        | ToolCall::ExecuteTransfer { .. }
        | ToolCall::CancelAuthorization { .. }
        | ToolCall::RequestReversal { .. } => Err(Refusal::ToolDenied.into()),
    }
}

fn balance(account: &Account) -> Value {
    let decimal = |minor| Money::from_minor(minor, account.currency).decimal();
    json!({
        "account_id": account.name,
        "balance": decimal(account.balance),
        "available": decimal(account.available()),
        "held": decimal(account.held),
        "currency": account.currency,
    })
}

fn accounts(case: &Case<'_>) -> Ruled<Value> {
    let mut shown = vec![];
    for grant in case.book.grants(&case.agent.spiffe_id)? {
        if case.now() >= grant.expires {
            continue;
        }
        let account = case.account(grant.account.as_str())?;
        let mut value = if grant.verbs.contains(&Verb::Read) {
            balance(&account)
        } else {
            json!({ "account_id": account.name, "currency": account.currency })
        };
        value["verbs"] = json!(grant.verbs);
        shown.push(value);
    }
    Ok(json!({ "accounts": shown }))
}

/// Offers whose title or id has a word of the query, those with the most words first, then the cheaper ones.
fn found(offers: Vec<Offer>, query: &str, max_price: Option<Money>, allowed: &[MerchantId]) -> Vec<Value> {
    let words: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
    let mut ranked: Vec<(usize, Offer)> = offers
        .into_iter()
        .filter(|offer| {
            max_price.is_none_or(|max| max.currency() == offer.price.currency() && offer.price.minor() <= max.minor())
        })
        .map(|offer| {
            let text = format!("{} {}", offer.title, offer.product).to_lowercase();
            (words.iter().filter(|word| text.contains(word.as_str())).count(), offer)
        })
        .filter(|(matched, _)| *matched > 0 || words.is_empty())
        .collect();
    ranked.sort_by(|(matched_a, a), (matched_b, b)| {
        matched_b.cmp(matched_a).then(a.price.minor().cmp(&b.price.minor())).then(a.product.cmp(&b.product))
    });
    ranked
        .into_iter()
        .take(OFFERS_SHOWN_MAX)
        .map(|(_, offer)| {
            json!({
                "product_id": offer.product,
                "title": offer.title,
                "price": offer.price.decimal(),
                "currency": offer.price.currency(),
                "merchant": offer.merchant,
                "merchant_allowed": allowed.contains(&offer.merchant),
            })
        })
        .collect()
}

/// The name of where a transaction stands now: a lapsed one is shown as such before the sweeper has been there.
fn status(transaction: &Transaction, now: UnixMillis) -> &'static str {
    let lapsed = now >= transaction.expires;
    match transaction.state {
        TransactionState::Approved if lapsed => TransactionState::Expired.name(),
        TransactionState::PendingApproval if lapsed => TransactionState::ApprovalExpired.name(),
        TransactionState::Approved
        | TransactionState::PendingApproval
        | TransactionState::Manual
        | TransactionState::Submitted
        | TransactionState::Posted
        | TransactionState::Denied
        | TransactionState::Cancelled
        | TransactionState::Expired
        | TransactionState::ApprovalExpired
        | TransactionState::Voided
        | TransactionState::CoreRefused => transaction.state.name(),
    }
}

fn transaction(shown: &Transaction, posted_at: Option<UnixMillis>, now: UnixMillis) -> Value {
    let mut value = json!({
        "transaction_id": shown.transaction_id,
        "kind": shown.kind.name(),
        "status": status(shown, now),
        "amount": shown.amount.decimal(),
        "currency": shown.amount.currency(),
        "from_account": shown.debit,
        "to_account": shown.credit,
        "created_at": shown.created.rfc3339(),
    });
    let mut put = |key: &str, given: Option<Value>| {
        if let Some(given) = given {
            value[key] = given;
        }
    };
    put("merchant", shown.merchant.as_ref().map(|merchant| json!(merchant)));
    put("product_id", shown.product.as_ref().map(|product| json!(product)));
    put("fee", (shown.fee.minor() != 0).then(|| json!(shown.fee.decimal())));
    put("case_id", shown.case_id.as_ref().map(|case| json!(case)));
    put("approval_id", shown.approval.as_ref().map(|approval| json!(approval.approval_id)));
    put("original_transaction_id", shown.original.as_ref().map(|original| json!(original)));
    put("posted_at", posted_at.map(|at| json!(at.rfc3339())));
    put("expires_at", shown.state.is_open().then(|| json!(shown.expires.rfc3339())));
    value
}

/// `pending` until a human decides; an approved one shows the `transaction_id` to execute.
fn approval(shown: &Transaction, now: UnixMillis) -> Value {
    let word = if status(shown, now) == "pending_approval" { "pending" } else { status(shown, now) };
    let mut value = json!({ "status": word });
    let Some(approval) = &shown.approval else {
        return value;
    };
    value["approval_id"] = json!(approval.approval_id);
    value["reasons"] = json!(approval.reasons);
    value["amount"] = json!(shown.amount.decimal());
    value["currency"] = json!(shown.amount.currency());
    value["expires_at"] = json!(shown.expires.rfc3339());
    if word == "pending" {
        value["pending"] = json!(approval.asked.quorum.pending());
    }
    if let Some(decided) = &approval.decided {
        value["decided_at"] = json!(decided.at.rfc3339());
    }
    let answered = match shown.state {
        TransactionState::Approved | TransactionState::Submitted | TransactionState::Posted => true,
        TransactionState::PendingApproval
        | TransactionState::Manual
        | TransactionState::Denied
        | TransactionState::Cancelled
        | TransactionState::Expired
        | TransactionState::ApprovalExpired
        | TransactionState::Voided
        | TransactionState::CoreRefused => false,
    };
    if answered {
        value["transaction_id"] = json!(shown.transaction_id);
    }
    value
}
