//! The tools' argument and answer shapes: parsed from the raw text of a call, published as JSON Schema.
//!
//! Amounts are read from the text as it was sent and never pass through a float.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::kernel::command::{AuthorizationRef, ToolCall};
use crate::kernel::text::{self, Limit};
use crate::kernel::types::{Currency, Money};

/// Most transactions in one list.
const TRANSACTIONS_MAX: u32 = 100;
const TRANSACTIONS_DEFAULT: u32 = 20;
/// Longest search text, in bytes.
const QUERY_BYTES_MAX: usize = 200;
/// The longest a call waits for a human, in seconds: less than anybody's time limit for an answer.
const WAIT_S_MAX: u64 = 15;

/// An amount as the caller wrote it: a string or a JSON number.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Amount(Box<RawValue>);

impl Amount {
    fn money(&self, what: &str, currency: Currency) -> Result<Money, String> {
        let raw = self.0.get();
        let text = if raw.starts_with('"') {
            Cow::Owned(serde_json::from_str::<String>(raw).map_err(|error| format!("{what}: {error}"))?)
        } else {
            Cow::Borrowed(raw)
        };
        Money::parse_positive(&text, currency).map_err(|refused| format!("{what}: {refused}"))
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A positive plain decimal, at most 15 significant digits and the currency's decimals: \"1899.99\" or 1899.99",
            "anyOf": [
                { "type": "string", "pattern": "^(0|[1-9][0-9]*)(\\.[0-9]+)?$" },
                { "type": "number", "exclusiveMinimum": 0 }
            ]
        })
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListAccounts {}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GetAccountBalance {
    /// Account, such as CHK_001
    account_id: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListTransactions {
    /// Account, such as CHK_001
    account_id: String,
    /// How many, newest first; 1 to 100, default 20
    limit: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchProducts {
    /// Words to look for
    query: String,
    /// Highest price
    max_price: Option<Amount>,
    /// Only this merchant, such as amazon.com
    merchant: Option<String>,
    /// Currency of max_price; default: the bank's
    currency: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthorizePurchase {
    /// Product, as search_products found it
    product_id: String,
    /// Price, as search_products found it
    price: Amount,
    /// Merchant, such as amazon.com
    merchant: String,
    /// Account to pay from; may be left out when only one granted account fits
    from_account: Option<String>,
    /// Your own key for this intent: repeat it to ask again, never reuse it for another intent
    idempotency_key: String,
    /// Currency of the price; default: the bank's
    currency: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExecutePurchase {
    /// From authorize_purchase
    transaction_id: String,
    /// The product that was authorized
    product_id: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthorizeTransfer {
    /// Account to pay from; may be left out when only one granted account fits
    from_account: Option<String>,
    /// Account to pay to
    to_account: String,
    amount: Amount,
    /// Your own key for this intent: repeat it to ask again, never reuse it for another intent
    idempotency_key: String,
    /// Currency of the amount; default: the bank's
    currency: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExecuteTransfer {
    /// From authorize_transfer, or from get_approval_status once approved
    transaction_id: String,
    from_account: Option<String>,
    to_account: String,
    amount: Amount,
    /// Currency of the amount; default: the bank's
    currency: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelAuthorization {
    /// Give this or approval_id
    transaction_id: Option<String>,
    /// Give this or transaction_id
    approval_id: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GetTransaction {
    transaction_id: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GetApprovalStatus {
    approval_id: String,
    /// Seconds to wait for the decision before answering, 0 to 15; default 0
    #[schemars(range(min = 0, max = 15))]
    wait_s: Option<i64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestReversal {
    /// The executed transaction to reverse
    transaction_id: String,
    /// Part of the amount; default: all of it
    amount: Option<Amount>,
    /// Your own key for this intent
    idempotency_key: String,
    /// Currency of the amount; default: the bank's
    currency: Option<String>,
}

/// A call, and how long its answer may wait for a human.
pub(super) type Parsed = (ToolCall, Option<Duration>);

/// Reads a call of a tool from the raw text of its arguments.
///
/// # Errors
/// One sentence that says which argument is wrong and what it must be. `None`: no such tool.
pub(super) fn parse(tool: &str, arguments: &str, default_currency: Currency) -> Option<Result<Parsed, String>> {
    let wait = match tool {
        "get_approval_status" => read::<GetApprovalStatus>(arguments).ok().and_then(|given| given.wait_s),
        _ => None,
    };
    let wait = match wait.map(u64::try_from) {
        None => None,
        Some(Ok(seconds)) if seconds <= WAIT_S_MAX => Some(Duration::from_secs(seconds)),
        Some(Ok(_) | Err(_)) => return Some(Err(format!("wait_s must be 0 to {WAIT_S_MAX}"))),
    };
    Some(call(tool, arguments, default_currency)?.map(|call| (call, wait)))
}

fn call(tool: &str, arguments: &str, default_currency: Currency) -> Option<Result<ToolCall, String>> {
    let currency =
        |given: &Option<String>| given.as_deref().map_or(Ok(default_currency), |code| field("currency", code));
    Some(match tool {
        "list_accounts" => read::<ListAccounts>(arguments).map(|_| ToolCall::ListAccounts {}),
        "get_account_balance" => read::<GetAccountBalance>(arguments)
            .and_then(|given| Ok(ToolCall::GetAccountBalance { account_id: field("account_id", &given.account_id)? })),
        "list_transactions" => read::<ListTransactions>(arguments).and_then(|given| {
            let limit = given.limit.unwrap_or(TRANSACTIONS_DEFAULT);
            if !(1..=TRANSACTIONS_MAX).contains(&limit) {
                return Err(format!("limit must be 1 to {TRANSACTIONS_MAX}"));
            }
            Ok(ToolCall::ListTransactions { account_id: field("account_id", &given.account_id)?, limit })
        }),
        "search_products" => read::<SearchProducts>(arguments).and_then(|given| {
            if given.query.len() > QUERY_BYTES_MAX {
                return Err(format!("query must be at most {QUERY_BYTES_MAX} bytes"));
            }
            let currency = currency(&given.currency)?;
            Ok(ToolCall::SearchProducts {
                max_price: given.max_price.map(|price| price.money("max_price", currency)).transpose()?,
                merchant: optional("merchant", given.merchant.as_deref())?,
                query: text::shown(&given.query, Limit::QUERY),
            })
        }),
        "authorize_purchase" => read::<AuthorizePurchase>(arguments).and_then(|given| {
            Ok(ToolCall::AuthorizePurchase {
                product_id: field("product_id", &given.product_id)?,
                price: given.price.money("price", currency(&given.currency)?)?,
                merchant: field("merchant", &given.merchant)?,
                from_account: optional("from_account", given.from_account.as_deref())?,
                idempotency_key: field("idempotency_key", &given.idempotency_key)?,
            })
        }),
        "execute_purchase" => read::<ExecutePurchase>(arguments).and_then(|given| {
            Ok(ToolCall::ExecutePurchase {
                transaction_id: field("transaction_id", &given.transaction_id)?,
                product_id: field("product_id", &given.product_id)?,
            })
        }),
        "authorize_transfer" => read::<AuthorizeTransfer>(arguments).and_then(|given| {
            Ok(ToolCall::AuthorizeTransfer {
                from_account: optional("from_account", given.from_account.as_deref())?,
                to_account: field("to_account", &given.to_account)?,
                amount: given.amount.money("amount", currency(&given.currency)?)?,
                idempotency_key: field("idempotency_key", &given.idempotency_key)?,
            })
        }),
        "execute_transfer" => read::<ExecuteTransfer>(arguments).and_then(|given| {
            Ok(ToolCall::ExecuteTransfer {
                transaction_id: field("transaction_id", &given.transaction_id)?,
                from_account: optional("from_account", given.from_account.as_deref())?,
                to_account: field("to_account", &given.to_account)?,
                amount: given.amount.money("amount", currency(&given.currency)?)?,
            })
        }),
        "cancel_authorization" => read::<CancelAuthorization>(arguments).and_then(|given| {
            let reference = match (&given.transaction_id, &given.approval_id) {
                (Some(id), None) => AuthorizationRef::TransactionId(field("transaction_id", id)?),
                (None, Some(id)) => AuthorizationRef::ApprovalId(field("approval_id", id)?),
                (Some(_), Some(_)) | (None, None) => return Err("give one of transaction_id and approval_id".into()),
            };
            Ok(ToolCall::CancelAuthorization { reference })
        }),
        "get_transaction" => read::<GetTransaction>(arguments).and_then(|given| {
            Ok(ToolCall::GetTransaction { transaction_id: field("transaction_id", &given.transaction_id)? })
        }),
        "get_approval_status" => read::<GetApprovalStatus>(arguments).and_then(|given| {
            Ok(ToolCall::GetApprovalStatus { approval_id: field("approval_id", &given.approval_id)? })
        }),
        "request_reversal" => read::<RequestReversal>(arguments).and_then(|given| {
            let currency = currency(&given.currency)?;
            Ok(ToolCall::RequestReversal {
                transaction_id: field("transaction_id", &given.transaction_id)?,
                amount: given.amount.map(|amount| amount.money("amount", currency)).transpose()?,
                idempotency_key: field("idempotency_key", &given.idempotency_key)?,
            })
        }),
        _ => return None,
    })
}

fn read<'a, T: Deserialize<'a>>(arguments: &'a str) -> Result<T, String> {
    serde_json::from_str(arguments).map_err(|error| {
        let text = error.to_string();
        let sentence = text.rsplit_once(" at line").map_or(text.as_str(), |(sentence, _)| sentence);
        text::shown(sentence, Limit::NOTE)
    })
}

fn field<T: FromStr<Err: std::fmt::Display>>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{name}: {error}"))
}

fn optional<T: FromStr<Err: std::fmt::Display>>(name: &str, text: Option<&str>) -> Result<Option<T>, String> {
    text.map(|text| field(name, text)).transpose()
}

/// What a decision about money answers. Absent members do not apply.
#[derive(JsonSchema)]
#[allow(dead_code)] // published as a schema, never built
pub(super) struct DecisionAnswer {
    /// approved, requires_approval, denied, executed, posted, submitted, queued_manual, cancelled, error, …
    status: String,
    /// Why it was denied, or what failed: a stable name
    reason: Option<String>,
    message: Option<String>,
    next_step: Option<String>,
    /// With status error: whether to call again with the same parameters
    retry: Option<bool>,
    /// With status error: no, yes or unknown
    may_have_happened: Option<String>,
    /// With status error: under which the bank's people find what failed
    request_id: Option<String>,
    transaction_id: Option<String>,
    approval_id: Option<String>,
    /// With requires_approval: what is waited for: owner_consent_pending, bank_approval_pending 1 of 2
    pending: Option<Vec<String>>,
    /// With requires_approval, while the owner's consent is waited for: a page that says what to do
    approval_url: Option<String>,
    /// Under which the bank's people decide
    case_id: Option<String>,
    /// signed, or pending: ask get_transaction later
    receipt: Option<String>,
    /// True when this answers an earlier call again and moved nothing
    repeated: Option<bool>,
}

#[derive(JsonSchema)]
#[allow(dead_code)] // published as a schema, never built
pub(super) struct BalanceAnswer {
    account_id: String,
    /// Decimal string
    balance: String,
    currency: String,
}

#[derive(JsonSchema)]
#[allow(dead_code)] // published as a schema, never built
pub(super) struct AccountsAnswer {
    accounts: Vec<serde_json::Value>,
}

#[derive(JsonSchema)]
#[allow(dead_code)] // published as a schema, never built
pub(super) struct TransactionsAnswer {
    transactions: Vec<serde_json::Value>,
}

#[derive(JsonSchema)]
#[allow(dead_code)] // published as a schema, never built
pub(super) struct ProductsAnswer {
    products: Vec<serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(tool: &str, arguments: &str) -> Result<ToolCall, String> {
        parse(tool, arguments, "USD".parse().unwrap()).unwrap().map(|(call, _)| call)
    }

    #[test]
    fn arguments_that_break_a_rule_are_refused_with_the_argument_named() {
        let transfer = |amount: &str| format!(r#"{{"to_account":"SAV_001","amount":{amount},"idempotency_key":"k"}}"#);
        let table = [
            ("get_account_balance", "{}".to_owned(), "account_id"),
            ("get_account_balance", r#"{"account_id":"a","auth_token":"x"}"#.into(), "auth_token"),
            ("get_account_balance", r#"{"account_id":"a b"}"#.into(), "account_id"),
            ("get_account_balance", r#"{"account_id":7}"#.into(), "string"),
            ("get_account_balance", "[]".into(), "invalid length"),
            ("list_accounts", r#"{"agent":"other"}"#.into(), "agent"),
            ("list_transactions", r#"{"account_id":"a","limit":0}"#.into(), "limit"),
            ("list_transactions", r#"{"account_id":"a","limit":101}"#.into(), "limit"),
            ("authorize_transfer", transfer("-5"), "greater than zero"),
            ("authorize_transfer", transfer("0"), "greater than zero"),
            ("authorize_transfer", transfer("0.001"), "decimals"),
            ("authorize_transfer", transfer("1e3"), "plain decimal"),
            ("authorize_transfer", transfer("\"1,000\""), "plain decimal"),
            ("authorize_transfer", transfer("12345678901234567"), "digits"),
            ("authorize_transfer", transfer("true"), "plain decimal"),
            ("authorize_transfer", transfer("null"), "plain decimal"),
            ("authorize_transfer", r#"{"to_account":"SAV_001","amount":1}"#.into(), "idempotency_key"),
            (
                "authorize_purchase",
                r#"{"product_id":"p","price":1,"merchant":"Amazon.com","idempotency_key":"k"}"#.into(),
                "merchant",
            ),
            (
                "authorize_purchase",
                r#"{"product_id":"p","price":1,"merchant":"a.b","idempotency_key":"k","currency":"usd"}"#.into(),
                "currency",
            ),
            ("execute_purchase", r#"{"transaction_id":"x","product_id":"p"}"#.into(), "transaction_id"),
            ("cancel_authorization", "{}".into(), "one of"),
            ("get_approval_status", r#"{"approval_id":"apr_x","wait_s":16}"#.into(), "wait_s"),
            ("get_approval_status", r#"{"approval_id":"apr_x","wait_s":-1}"#.into(), "wait_s"),
        ];
        for (tool, arguments, expected) in table {
            let refused = call(tool, &arguments).unwrap_err();
            assert!(refused.contains(expected), "{tool} {arguments}: {refused}");
        }
        assert!(parse("no_such_tool", "{}", "USD".parse().unwrap()).is_none());
    }

    #[test]
    fn amounts_are_read_from_the_text_as_it_was_sent() {
        for (amount, minor) in [("1899.99", 189_999), ("\"1899.99\"", 189_999), ("10000", 1_000_000), ("0.1", 10)] {
            let text = format!(r#"{{"to_account":"SAV_001","amount":{amount},"idempotency_key":"k"}}"#);
            let ToolCall::AuthorizeTransfer { amount, .. } = call("authorize_transfer", &text).unwrap() else {
                panic!("another call");
            };
            assert_eq!(amount.minor(), minor);
        }
    }
}
