//! A call's arguments as constraints see them: what counts, not what was written.
//!
//! Amounts are numbers, whether the caller sent a string or not. What the caller left out and the decision found is
//! there, so that leaving it out is no way round a constraint.

use std::borrow::Cow;

use serde_json::Value;

use crate::kernel::command::{AuthorizationRef, ToolCall};
use crate::kernel::policy::role::{Arguments, decimal};
use crate::kernel::types::Money;

/// What the decision found besides the caller's words.
#[derive(Clone, Copy, Default)]
pub(super) struct Found<'a> {
    pub(super) from_account: Option<&'a str>,
    pub(super) amount: Option<Money>,
}

/// Names as the tools' schemas have them.
pub(super) fn effective<'a>(call: &'a ToolCall, found: Found<'a>) -> Arguments<'a> {
    let mut given = List(vec![]);
    match call {
        ToolCall::ListAccounts {} => {}
        ToolCall::GetAccountBalance { account_id } => given.text("account_id", account_id),
        ToolCall::ListTransactions { account_id, limit } => {
            given.text("account_id", account_id);
            given.put("limit", Value::from(*limit));
        }
        ToolCall::SearchProducts { query, max_price, merchant } => {
            given.text("query", query);
            if let Some(max_price) = max_price {
                given.money("max_price", *max_price);
            }
            if let Some(merchant) = merchant {
                given.text("merchant", merchant);
            }
        }
        ToolCall::AuthorizePurchase { product_id, price, merchant, from_account, idempotency_key } => {
            given.text("product_id", product_id);
            given.money("price", *price);
            given.text("merchant", merchant);
            given.account(found.from_account.or(from_account.as_ref().map(|from| from.as_str())));
            given.text("idempotency_key", idempotency_key);
        }
        ToolCall::ExecutePurchase { transaction_id, product_id } => {
            given.text("transaction_id", transaction_id);
            given.text("product_id", product_id);
        }
        ToolCall::AuthorizeTransfer { from_account, to_account, amount, idempotency_key } => {
            given.account(found.from_account.or(from_account.as_ref().map(|from| from.as_str())));
            given.text("to_account", to_account);
            given.money("amount", *amount);
            given.text("idempotency_key", idempotency_key);
        }
        ToolCall::ExecuteTransfer { transaction_id, from_account, to_account, amount } => {
            given.text("transaction_id", transaction_id);
            given.account(found.from_account.or(from_account.as_ref().map(|from| from.as_str())));
            given.text("to_account", to_account);
            given.money("amount", *amount);
        }
        ToolCall::CancelAuthorization { reference } => match reference {
            AuthorizationRef::TransactionId(id) => given.text("transaction_id", id),
            AuthorizationRef::ApprovalId(id) => given.text("approval_id", id),
        },
        ToolCall::GetTransaction { transaction_id } => given.text("transaction_id", transaction_id),
        ToolCall::GetApprovalStatus { approval_id } => given.text("approval_id", approval_id),
        ToolCall::RequestReversal { transaction_id, amount, idempotency_key } => {
            given.text("transaction_id", transaction_id);
            if let Some(amount) = amount.or(found.amount) {
                given.money("amount", amount);
            }
            given.text("idempotency_key", idempotency_key);
        }
    }
    given.0
}

struct List<'a>(Arguments<'a>);

impl List<'_> {
    fn put(&mut self, name: &'static str, value: Value) {
        self.0.push((Cow::Borrowed(name), value));
    }

    fn text(&mut self, name: &'static str, text: &dyn ToString) {
        self.put(name, Value::String(text.to_string()));
    }

    fn account(&mut self, name: Option<&str>) {
        if let Some(name) = name {
            self.text("from_account", &name);
        }
    }

    fn money(&mut self, name: &'static str, amount: Money) {
        if let Some(number) = decimal(&amount.decimal()) {
            self.put(name, number);
        }
        self.put("currency", Value::String(amount.currency().to_string()));
    }
}
