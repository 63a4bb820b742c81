//! What a role sees of an answer. Every member has a class; a role has the classes it is cleared for; the rest is masked.
//!
//! Deny by default: a member that nobody has declared is masked for everybody, and a role that nobody has named sees only
//! what is public. The classes stand here once, for all answers; a test holds them against every tool's schema.

mod numbers;

pub use numbers::numbers_masked;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::kernel::types::RoleName;

/// How delicate a member is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sensitivity {
    /// States, times, identifiers of the bank, refusals: needed to go on.
    Public,
    /// Accounts that their owner has granted to this agent.
    OwnAccount,
    /// Balances and what is held.
    Balance,
    /// Amounts of single payments.
    Amount,
    /// Accounts of others.
    CounterpartyAccount,
    /// Who an account belongs to.
    Owner,
    /// Text of strangers: titles, notes.
    Text,
    /// What a payment was for: merchant, product, kind.
    Detail,
}

impl Sensitivity {
    pub const ALL: [Self; 8] = [
        Self::Public,
        Self::OwnAccount,
        Self::Balance,
        Self::Amount,
        Self::CounterpartyAccount,
        Self::Owner,
        Self::Text,
        Self::Detail,
    ];
}

/// What a role may see besides what is public.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Clearance(BTreeSet<Sensitivity>);

impl Clearance {
    pub fn of(classes: impl IntoIterator<Item = Sensitivity>) -> Self {
        Self(classes.into_iter().collect())
    }

    pub fn covers(&self, class: Sensitivity) -> bool {
        class == Sensitivity::Public || self.0.contains(&class)
    }

    /// What `named` says of a role; else what this bank's usual roles have; else nothing.
    pub fn of_role(role: &RoleName, named: &BTreeMap<RoleName, Self>) -> Self {
        use Sensitivity::{Amount, Balance, CounterpartyAccount, Detail, OwnAccount, Owner, Text};
        if let Some(clearance) = named.get(role) {
            return clearance.clone();
        }
        match role.as_str() {
            // What paying needs. Whom else an account has dealt with is not part of it.
            "purchaser" | "buyer" => Self::of([OwnAccount, Balance, Amount, Text, Detail]),
            "treasurer" | "finance_manager" | "finance-manager" | "payer" => {
                Self::of([OwnAccount, Balance, Amount, Text, Detail, CounterpartyAccount])
            }
            "viewer" | "support_agent" | "support-agent" | "operations" => {
                Self::of([OwnAccount, Balance, Amount, Detail])
            }
            "auditor" | "risk_manager" | "risk-manager" | "admin" => {
                Self::of([OwnAccount, Balance, Amount, Text, Detail, CounterpartyAccount, Owner])
            }
            _ => Self::default(),
        }
    }
}

/// How a member is treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Declared {
    Class(Sensitivity),
    /// A list or an object whose members are declared themselves.
    Nested,
    /// An account on either side of a payment.
    From,
    To,
}

use Declared::{Class, From, Nested, To};

const MEMBERS: &[(&str, Declared)] = &[
    // Every decision
    ("status", Class(Sensitivity::Public)),
    ("reason", Class(Sensitivity::Public)),
    ("reasons", Class(Sensitivity::Public)),
    ("message", Class(Sensitivity::Public)),
    ("next_step", Class(Sensitivity::Public)),
    ("retry", Class(Sensitivity::Public)),
    ("retry_after_s", Class(Sensitivity::Public)),
    ("retry_after_ms", Class(Sensitivity::Public)),
    ("may_have_happened", Class(Sensitivity::Public)),
    ("request_id", Class(Sensitivity::Public)),
    ("transaction_id", Class(Sensitivity::Public)),
    ("original_transaction_id", Class(Sensitivity::Public)),
    ("approval_id", Class(Sensitivity::Public)),
    ("approval_url", Class(Sensitivity::Public)),
    ("case_id", Class(Sensitivity::Public)),
    ("receipt", Class(Sensitivity::Public)),
    ("repeated", Class(Sensitivity::Public)),
    ("changed", Class(Sensitivity::Public)),
    ("why", Class(Sensitivity::Text)),
    ("untrusted", Class(Sensitivity::Public)),
    ("flags", Class(Sensitivity::Public)),
    // Times
    ("created_at", Class(Sensitivity::Public)),
    ("posted_at", Class(Sensitivity::Public)),
    ("expires_at", Class(Sensitivity::Public)),
    ("decided_at", Class(Sensitivity::Public)),
    ("date", Class(Sensitivity::Public)),
    ("from", Class(Sensitivity::Public)),
    ("to", Class(Sensitivity::Public)),
    ("next", Class(Sensitivity::Public)),
    ("time_zone", Class(Sensitivity::Public)),
    // What people still have to do
    ("pending", Class(Sensitivity::Public)),
    ("gate", Class(Sensitivity::Public)),
    ("gates", Class(Sensitivity::Public)),
    ("waits_for", Class(Sensitivity::Public)),
    ("consent", Class(Sensitivity::Public)),
    ("consent_url", Class(Sensitivity::Public)),
    ("consent_id", Class(Sensitivity::Public)),
    ("approvals", Class(Sensitivity::Public)),
    ("approvals_needed", Class(Sensitivity::Public)),
    ("approvals_given", Class(Sensitivity::Public)),
    ("mandate_id", Class(Sensitivity::Public)),
    ("mandate", Class(Sensitivity::Public)),
    ("policy_version", Class(Sensitivity::Public)),
    ("risk", Class(Sensitivity::Public)),
    ("mode", Class(Sensitivity::Public)),
    ("state", Class(Sensitivity::Public)),
    ("since", Class(Sensitivity::Public)),
    // Accounts
    ("accounts", Nested),
    ("account_id", Class(Sensitivity::OwnAccount)),
    ("account", Class(Sensitivity::OwnAccount)),
    ("owner", Class(Sensitivity::Owner)),
    ("owner_name", Class(Sensitivity::Owner)),
    ("verbs", Class(Sensitivity::Public)),
    ("currency", Class(Sensitivity::Public)),
    ("balance", Class(Sensitivity::Balance)),
    ("available", Class(Sensitivity::Balance)),
    ("held", Class(Sensitivity::Balance)),
    ("opening_balance", Class(Sensitivity::Balance)),
    ("closing_balance", Class(Sensitivity::Balance)),
    ("overdraft", Class(Sensitivity::Balance)),
    ("day_max", Class(Sensitivity::Balance)),
    // Payments
    ("transactions", Nested),
    ("items", Nested),
    ("kind", Class(Sensitivity::Detail)),
    ("amount", Class(Sensitivity::Amount)),
    ("fee", Class(Sensitivity::Amount)),
    ("change", Class(Sensitivity::Amount)),
    ("from_account", From),
    ("to_account", To),
    ("counterparty", Class(Sensitivity::CounterpartyAccount)),
    ("counterparty_account", Class(Sensitivity::CounterpartyAccount)),
    ("counterparty_name", Class(Sensitivity::Owner)),
    ("merchant", Class(Sensitivity::Detail)),
    ("merchant_name", Class(Sensitivity::Text)),
    ("description", Class(Sensitivity::Detail)),
    ("memo", Class(Sensitivity::Text)),
    ("note", Class(Sensitivity::Text)),
    ("name", Class(Sensitivity::Text)),
    // Offers
    ("products", Nested),
    ("product_id", Class(Sensitivity::Detail)),
    ("title", Class(Sensitivity::Text)),
    ("price", Class(Sensitivity::Amount)),
    ("merchant_allowed", Class(Sensitivity::Public)),
    // Mandates. Whom an owner lets this agent pay is what paying needs, an account as a merchant.
    ("mandates", Nested),
    ("payees", Nested),
    ("payee_account", Class(Sensitivity::Detail)),
    ("amount_min", Class(Sensitivity::Amount)),
    ("amount_max", Class(Sensitivity::Amount)),
    ("budget", Nested),
    ("budget_max", Class(Sensitivity::Amount)),
    ("budget_spent", Class(Sensitivity::Amount)),
    ("budget_left", Class(Sensitivity::Amount)),
    ("period", Class(Sensitivity::Public)),
    ("period_ends_at", Class(Sensitivity::Public)),
    ("recurrence", Nested),
    ("payments_max", Class(Sensitivity::Detail)),
    ("payments_left", Class(Sensitivity::Detail)),
    ("payments_in_all_max", Class(Sensitivity::Detail)),
    ("payments_in_all_left", Class(Sensitivity::Detail)),
    ("reference", Class(Sensitivity::Text)),
    ("execution_dates", Nested),
    ("not_before", Class(Sensitivity::Public)),
    ("not_after", Class(Sensitivity::Public)),
    ("days", Class(Sensitivity::Public)),
    ("not_before_at", Class(Sensitivity::Public)),
    ("revoked_at", Class(Sensitivity::Public)),
    // Lists' own
    ("limit", Class(Sensitivity::Public)),
    ("total", Class(Sensitivity::Public)),
    ("more", Class(Sensitivity::Public)),
    ("complete", Class(Sensitivity::Public)),
    ("is_whole", Class(Sensitivity::Public)),
    ("resets_at", Class(Sensitivity::Public)),
];

/// Whether a member has a class.
pub fn is_declared(member: &str) -> bool {
    declared(member).is_some()
}

fn declared(member: &str) -> Option<Declared> {
    MEMBERS.iter().find(|(name, _)| *name == member).map(|(_, declared)| *declared)
}

/// The permissions of a role policy as its agents see them: the accounts that a constraint names are masked as they are
/// everywhere else.
#[must_use]
pub fn permissions_masked(mut permissions: Value, clearance: &Clearance) -> Value {
    let all = permissions.as_array_mut().into_iter().flatten();
    for constraints in all.filter_map(|permission| permission.get_mut("constraints")?.as_object_mut()) {
        for (parameter, fragment) in constraints {
            let class = match parameter.as_str() {
                "account_id" | "from_account" => Sensitivity::OwnAccount,
                "to_account" => Sensitivity::CounterpartyAccount,
                _ => continue,
            };
            if !clearance.covers(class) {
                mask_texts(fragment);
            }
        }
    }
    permissions
}

/// Every text in it, however deep.
fn mask_texts(value: &mut Value) {
    match value {
        Value::String(text) => *text = masked_text(text),
        Value::Array(items) => items.iter_mut().for_each(mask_texts),
        Value::Object(members) => members.values_mut().for_each(mask_texts),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// An answer as a role with this clearance sees it.
#[must_use]
pub fn masked(answer: Value, clearance: &Clearance) -> Value {
    match answer {
        Value::Object(members) => Value::Object(object(members, clearance, None)),
        Value::Array(items) => Value::Array(items.into_iter().map(|item| masked(item, clearance)).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => answer,
    }
}

/// `own`: the account that the object around it is about.
fn object(members: Map<String, Value>, clearance: &Clearance, own: Option<&str>) -> Map<String, Value> {
    let named = members.get("account_id").and_then(Value::as_str).map(str::to_owned);
    let own = named.as_deref().or(own).map(str::to_owned);
    // Money comes back to the payer of the original.
    let comes_back = matches!(members.get("kind").and_then(Value::as_str), Some("reversal" | "incoming" | "opening"));
    let mut seen = Map::new();
    for (name, value) in members {
        let class = match declared(&name) {
            Some(Nested) => {
                seen.insert(name, nested(value, clearance, own.as_deref()));
                continue;
            }
            Some(Class(class)) => Some(class),
            Some(From) => Some(side(&value, own.as_deref(), !comes_back)),
            Some(To) => Some(side(&value, own.as_deref(), comes_back)),
            None => None,
        };
        let is_of_bank = class == Some(Sensitivity::CounterpartyAccount) && is_of_bank(&value);
        let clear = is_of_bank || class.is_some_and(|class| clearance.covers(class));
        seen.insert(name, if clear { value } else { hidden(&value) });
    }
    seen
}

fn nested(value: Value, clearance: &Clearance, own: Option<&str>) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(|item| nested(item, clearance, own)).collect()),
        Value::Object(members) => Value::Object(object(members, clearance, own)),
        // A bare value has no declared members.
        Value::Null => Value::Null,
        other @ (Value::Bool(_) | Value::Number(_) | Value::String(_)) => hidden(&other),
    }
}

/// Whose an account of a payment is: known, or by the direction in which this agent's payments go.
fn side(account: &Value, own: Option<&str>, is_own_by_kind: bool) -> Sensitivity {
    let is_own = own.map_or(is_own_by_kind, |own| account.as_str() == Some(own));
    if is_own { Sensitivity::OwnAccount } else { Sensitivity::CounterpartyAccount }
}

/// `merchant:amazon.com`, `fees:USD`: the book's own accounts are nobody's. A customer's account has no colon.
fn is_of_bank(value: &Value) -> bool {
    value.as_str().is_some_and(|name| name.contains(':'))
}

/// What stands where a value is masked: always eight characters, of long texts with the last four.
fn hidden(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::String(text) => Value::String(masked_text(text)),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Value::String(BULLETS.to_owned()),
    }
}

const BULLETS: &str = "••••••••";
/// Shorter texts show none of their characters: four of seven would be most of it.
const TAIL_CHARS_MIN: usize = 10;

/// An account's number or the like for those who need only recognise it: `••••6789`. Eight characters.
pub fn masked_text(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let is_number = chars.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if chars.len() < TAIL_CHARS_MIN || !is_number {
        return BULLETS.to_owned();
    }
    "••••".chars().chain(chars[chars.len() - 4..].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn clearance(role: &str) -> Clearance {
        Clearance::of_role(&role.parse().unwrap(), &BTreeMap::new())
    }

    #[test]
    fn a_role_sees_of_its_policy_only_accounts_that_it_is_cleared_for() {
        let permissions = json!([
            { "tool_name": "get_transaction", "action": "invoke" },
            { "tool_name": "authorize_transfer", "action": "invoke", "constraints": {
                "amount": { "maximum": 10 }, "currency": { "const": "USD" },
                "from_account": { "enum": ["DE89370400440532013000"] },
                "to_account": { "anyOf": [{ "const": "DE89370400440532013111" }, { "pattern": "^DE89" }] },
            } },
        ]);
        let of = |role: &str| permissions_masked(permissions.clone(), &clearance(role))[1]["constraints"].clone();
        assert_eq!(of("treasurer"), permissions[1]["constraints"]);
        let purchaser = of("purchaser");
        assert_eq!(purchaser["from_account"], permissions[1]["constraints"]["from_account"]);
        assert_eq!(purchaser["to_account"], json!({ "anyOf": [{ "const": "••••3111" }, { "pattern": "••••••••" }] }));
        let nobody = of("nobody");
        assert_eq!(nobody["from_account"], json!({ "enum": ["••••3000"] }));
        assert_eq!((&nobody["amount"], &nobody["currency"]), (&json!({ "maximum": 10 }), &json!({ "const": "USD" })));
    }

    #[test]
    fn each_role_sees_of_each_tool_what_it_is_cleared_for() {
        let line = json!({
            "transaction_id": "txn_1", "kind": "transfer", "status": "posted", "amount": "5.00", "currency": "USD",
            "from_account": "CHK_001", "to_account": "DE89370400440532013000", "change": "-5.00",
        });
        let list = json!({ "account_id": "CHK_001", "transactions": [line.clone()] });
        let incoming = json!({ "account_id": "CHK_001", "transactions": [
            { "kind": "transfer", "from_account": "DE89370400440532013000", "to_account": "CHK_001" },
        ] });
        let statement = json!({ "account_id": "CHK_001", "closing_balance": "9.00", "items": [
            { "counterparty": "DE89370400440532013000", "amount": "-5.00" },
            { "counterparty": "merchant:amazon.com", "amount": "-5.00" },
        ] });
        let accounts = json!({ "accounts": [{ "account_id": "CHK_001", "balance": "9.00", "owner": "OWN_001" }] });
        let offers =
            json!({ "products": [{ "product_id": "B0", "title": "Lamp", "price": "5.00", "merchant": "a.com" }] });
        let table = [
            // answer, pointer, purchaser, treasurer, viewer, unknown
            (&list, "/transactions/0/from_account", ["CHK_001", "CHK_001", "CHK_001", BULLETS]),
            (&list, "/transactions/0/to_account", ["••••3000", "DE89370400440532013000", "••••3000", "••••3000"]),
            (&list, "/transactions/0/amount", ["5.00", "5.00", "5.00", BULLETS]),
            (&list, "/transactions/0/status", ["posted", "posted", "posted", "posted"]),
            (&list, "/transactions/0/kind", ["transfer", "transfer", "transfer", BULLETS]),
            (&line, "/from_account", ["CHK_001", "CHK_001", "CHK_001", BULLETS]),
            (&line, "/to_account", ["••••3000", "DE89370400440532013000", "••••3000", "••••3000"]),
            (&incoming, "/transactions/0/from_account", ["••••3000", "DE89370400440532013000", "••••3000", "••••3000"]),
            (&incoming, "/transactions/0/to_account", ["CHK_001", "CHK_001", "CHK_001", BULLETS]),
            (&statement, "/items/0/counterparty", ["••••3000", "DE89370400440532013000", "••••3000", "••••3000"]),
            (&statement, "/items/1/counterparty", ["merchant:amazon.com"; 4]),
            (&statement, "/closing_balance", ["9.00", "9.00", "9.00", BULLETS]),
            (&accounts, "/accounts/0/account_id", ["CHK_001", "CHK_001", "CHK_001", BULLETS]),
            (&accounts, "/accounts/0/balance", ["9.00", "9.00", "9.00", BULLETS]),
            (&accounts, "/accounts/0/owner", [BULLETS; 4]),
            (&offers, "/products/0/title", ["Lamp", "Lamp", BULLETS, BULLETS]),
            (&offers, "/products/0/product_id", ["B0", "B0", "B0", BULLETS]),
            (&offers, "/products/0/price", ["5.00", "5.00", "5.00", BULLETS]),
        ];
        for (answer, pointer, expected) in table {
            for (role, expected) in ["purchaser", "treasurer", "viewer", "stranger"].into_iter().zip(expected) {
                let seen = masked(answer.clone(), &clearance(role));
                assert_eq!(seen.pointer(pointer), Some(&json!(expected)), "{role} {pointer}");
            }
        }
    }

    #[test]
    fn a_member_that_nobody_has_declared_is_masked_for_everybody() {
        let everything = Clearance::of(Sensitivity::ALL);
        let answer =
            json!({ "status": "x", "fresh": "secret", "list": [1], "accounts": [{ "ssn": 5 }, "bare"], "none": null });
        let seen = masked(answer, &everything);
        let expected = json!({
            "status": "x", "fresh": BULLETS, "list": BULLETS, "accounts": [{ "ssn": BULLETS }, BULLETS], "none": null,
        });
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_a_bank_names_counts_before_the_usual_and_an_unknown_role_sees_least() {
        let named = BTreeMap::from([("purchaser".parse().unwrap(), Clearance::of([Sensitivity::Balance]))]);
        let narrowed = Clearance::of_role(&"purchaser".parse().unwrap(), &named);
        assert!(narrowed.covers(Sensitivity::Balance) && !narrowed.covers(Sensitivity::OwnAccount));
        let least = clearance("stranger");
        for role in ["purchaser", "treasurer", "viewer", "auditor"] {
            assert!(clearance(role).0.is_superset(&least.0) && clearance(role) != least, "{role}");
        }
    }

    #[test]
    fn the_masked_form_has_one_length_and_members_are_declared_once() {
        for text in ["", "A", "SAV_001", "DE89370400440532013000", "größer als gedacht", "0123456789"] {
            assert_eq!(masked_text(text).chars().count(), 8, "{text}");
        }
        let names: BTreeSet<&str> = MEMBERS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), MEMBERS.len());
    }

    proptest! {
        #[test]
        fn no_whole_account_of_another_is_seen_without_clearance(
            account in "[A-Z]{2}[0-9]{8,30}",
            own in "[A-Z]{3}_[0-9]{3}",
            member in "[a-z_]{1,12}",
            role in "purchaser|viewer|stranger|support-agent",
        ) {
            prop_assume!(!is_declared(&member));
            let line = json!({
                "kind": "transfer", "from_account": own, "to_account": account, "counterparty": account,
                member: account, "counterparty_account": account,
            });
            let back = json!({ "kind": "transfer", "from_account": account, "to_account": own });
            let answer = json!({
                "account_id": own, "transactions": [line, back], "items": [{ "counterparty": account }],
            });
            let seen = masked(answer, &clearance(&role)).to_string();
            prop_assert!(!seen.contains(&account), "{}", seen);
        }
    }
}
