//! What payments come to by a policy, case by case: who said so, what it waits for, and what the answer rests on.

use serde_json::json;

use super::*;
use crate::kernel::policy::document::Document;
use crate::kernel::policy::tools::Tools;

fn policy(transactions: Value) -> Policy {
    let mut document = json!({ "roles": [{ "role": "purchaser", "permissions": [
        { "tool_name": "authorize_purchase", "action": "invoke" },
        { "tool_name": "authorize_transfer", "action": "invoke", "constraints": { "amount": { "maximum": 9000 } } },
    ] }] });
    if transactions != json!([]) {
        document["transactions"] = transactions;
    }
    let examined = Policy::examined(Document::of(document).unwrap(), &Tools::ours(), None);
    examined.policy.unwrap_or_else(|| panic!("{:?}", examined.findings))
}

/// One rule of each kind.
fn every_rule() -> Policy {
    let usd = |amount: &str| json!({ "amount": amount, "currency": "USD" });
    policy(json!([
        { "name": "office", "kinds": ["transfer"], "outside_hours": "deny",
          "hours": [{ "days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:00" }] },
        { "name": "late-buys", "kinds": ["purchase"], "outside_hours": "approval",
          "hours": [{ "days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:00" }] },
        { "name": "dollars", "currencies": ["USD"] },
        { "name": "shops", "kinds": ["purchase"], "merchants_allowed": ["amazon.com"] },
        { "name": "payees", "kinds": ["transfer"], "payees_allowed": ["SAV_001"] },
        { "name": "ceiling", "deny_above": usd("5000") },
        { "name": "alone", "unattended_per_transaction": usd("2000"), "unattended_per_day": usd("3000") },
        { "name": "large", "thresholds": [
            { "above": usd("1000"), "require": [{ "gate": "bank", "approvals": 2 }] },
            { "above": usd("1500"), "require": [{ "gate": "owner" }] } ] },
        { "name": "pace", "velocity": [
            { "count": 3, "window_s": 3600, "of": "agent" },
            { "amount": usd("4000"), "window_s": 86400, "of": "account", "outcome": "approval" } ] },
        { "name": "trusted-with-care", "agents": ["novice"], "deny_above": usd("10") },
        { "name": "signed", "accounts": ["CHK_009"], "mandate": "required" },
    ]))
}

fn asked(policy: &Policy, tool: &str, arguments: Value, given: Value) -> Outlook {
    let Value::Object(arguments) = arguments else { panic!("no object") };
    let given: Given = serde_json::from_value(given).unwrap();
    payment(policy, None, "purchaser", tool, &arguments, &given).unwrap_or_else(|error| panic!("{error}"))
}

fn transfer(amount: &str) -> Value {
    json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": amount })
}

fn purchase(merchant: &str, price: &str) -> Value {
    json!({ "from_account": "CHK_001", "merchant": merchant, "price": price })
}

#[test]
fn the_rule_that_decides_is_named_with_its_reason() {
    let policy = every_rule();
    let buy = "authorize_purchase";
    let pay = "authorize_transfer";
    let sunday = || json!({ "at": "2026-11-22T12:00:00Z" });
    // tool, arguments, supposed, status, refusal or reasons, rules
    type Row = (&'static str, Value, Value, &'static str, &'static [&'static str], &'static [&'static str]);
    let table: Vec<Row> = vec![
        (pay, transfer("100"), json!({}), "approved", &[], &[]),
        (buy, purchase("amazon.com", "100"), json!({}), "approved", &[], &[]),
        // Refused, each by its rule.
        (pay, transfer("100"), sunday(), "refused", &["outside_hours"], &["office"]),
        (
            pay,
            json!({ "to_account": "SAV_002", "amount": "1" }),
            json!({}),
            "refused",
            &["payee_not_allowed"],
            &["payees"],
        ),
        (buy, purchase("bestbuy.com", "1"), json!({}), "refused", &["unauthorized_merchant"], &["shops"]),
        (pay, transfer("5000.01"), json!({}), "refused", &["above_hard_ceiling"], &["ceiling"]),
        (
            pay,
            transfer("10.01"),
            json!({ "agent": "novice" }),
            "refused",
            &["above_hard_ceiling"],
            &["trusted-with-care"],
        ),
        (
            pay,
            transfer("10.01"),
            json!({ "agent": "spiffe://b.example/agent/purchaser/novice" }),
            "refused",
            &["above_hard_ceiling"],
            &["trusted-with-care"],
        ),
        (pay, transfer("1"), json!({ "count": 3 }), "refused", &["velocity_exceeded"], &["pace"]),
        (
            pay,
            json!({ "to_account": "SAV_001", "amount": "1", "currency": "EUR" }),
            json!({}),
            "refused",
            &["currency_not_allowed"],
            &["dollars"],
        ),
        // Refused by what is no transaction rule.
        (pay, transfer("9000.01"), json!({}), "refused", &["constraint_violated"], &[]),
        (pay, transfer("100"), json!({ "balance": "99.99" }), "refused", &["insufficient_funds"], &[]),
        (pay, transfer("100"), json!({ "balance": "0" }), "refused", &["insufficient_funds"], &[]),
        (
            pay,
            json!({ "from_account": "SAV_001", "to_account": "SAV_001", "amount": "1" }),
            json!({}),
            "refused",
            &["same_account"],
            &[],
        ),
        (
            pay,
            json!({ "from_account": "CHK_009", "to_account": "SAV_001", "amount": "1" }),
            json!({ "mandate": "none" }),
            "refused",
            &["mandate_missing"],
            &[],
        ),
        // The order of the decision: hours before payees, payees before ceilings, ceilings before velocities and funds.
        (
            pay,
            json!({ "to_account": "SAV_002", "amount": "6000" }),
            sunday(),
            "refused",
            &["outside_hours"],
            &["office"],
        ),
        (
            pay,
            json!({ "to_account": "SAV_002", "amount": "6000" }),
            json!({}),
            "refused",
            &["payee_not_allowed"],
            &["payees"],
        ),
        (
            pay,
            transfer("6000"),
            json!({ "count": 9, "balance": "1" }),
            "refused",
            &["above_hard_ceiling"],
            &["ceiling"],
        ),
        (pay, transfer("100"), json!({ "count": 9, "balance": "1" }), "refused", &["velocity_exceeded"], &["pace"]),
        // A human decides.
        (buy, purchase("amazon.com", "100"), sunday(), "requires_approval", &["outside_hours"], &["late-buys"]),
        (pay, transfer("1000.01"), json!({}), "requires_approval", &["above_threshold"], &["large"]),
        (
            pay,
            transfer("2000.01"),
            json!({}),
            "requires_approval",
            &["above_unattended_per_transaction", "above_threshold"],
            &["alone", "large"],
        ),
        (
            pay,
            transfer("100"),
            json!({ "spent_today": "2900.01" }),
            "requires_approval",
            &["above_unattended_per_day"],
            &["alone"],
        ),
        (pay, transfer("100"), json!({ "spent": "3900.01" }), "requires_approval", &["velocity"], &["pace"]),
        // What is given at its limit passes.
        (
            pay,
            transfer("1000"),
            json!({ "balance": "1000", "count": 2, "spent": "3000", "spent_today": "2000" }),
            "approved",
            &[],
            &[],
        ),
        (
            pay,
            json!({ "from_account": "CHK_009", "to_account": "SAV_001", "amount": "1" }),
            json!({ "mandate": "covers" }),
            "approved",
            &[],
            &[],
        ),
        (pay, transfer("100"), json!({ "at": "2026-11-23T01:00:00Z" }), "refused", &["outside_hours"], &["office"]),
        (
            pay,
            transfer("100"),
            json!({ "at": "2026-11-23T01:00:00Z", "time_zone": "Asia/Tokyo" }),
            "approved",
            &[],
            &[],
        ),
    ];
    for (tool, arguments, given, status, names, rules) in table {
        let row = format!("{tool} {arguments} {given}");
        let found = asked(&policy, tool, arguments, given);
        assert_eq!(found.status, status, "{row}: {found:?}");
        let said: Vec<&str> = match found.reason {
            Some(reason) => vec![reason],
            None => found.reasons.iter().map(String::as_str).collect(),
        };
        let mut expected = names.to_vec();
        let mut said_sorted = said.clone();
        expected.sort_unstable();
        said_sorted.sort_unstable();
        assert_eq!(said_sorted, expected, "{row}");
        let why: Vec<&str> = found.why.iter().filter_map(|why| why.rule.as_deref()).collect();
        for rule in rules {
            assert!(why.contains(rule), "{row}: {why:?} has no {rule}");
        }
        assert_eq!(rules.is_empty(), why.is_empty(), "{row}: {why:?}");
        assert_eq!(found.refusal().is_some(), status == "refused", "{row}");
    }
}

#[test]
fn gates_of_thresholds_add_up() {
    let gates = |amount: &str| json!(asked(&every_rule(), "authorize_transfer", transfer(amount), json!({})).gates);
    assert_eq!(gates("1000"), json!([]));
    let bank = json!({ "gate": "bank", "approvals": 2, "roles": ["approver"], "ordered": false });
    assert_eq!(gates("1000.01"), json!([bank]));
    let both = gates("1500.01");
    assert_eq!(both.as_array().map(Vec::len), Some(2), "{both}");
    assert!(both.as_array().unwrap().contains(&bank) && both.as_array().unwrap().contains(&json!({ "gate": "owner" })));
}

#[test]
fn what_an_answer_rests_on_is_named_and_what_is_given_is_not() {
    let on = |found: &Outlook| found.depends_on.iter().map(|fact| fact.what).collect::<Vec<_>>();
    let found = asked(&every_rule(), "authorize_transfer", transfer("100"), json!({}));
    let expected = [
        "settings",
        "agent",
        "at",
        "currency",
        "standing",
        "breaker",
        "grant",
        "payee",
        "mandate",
        "count and spent",
        "open_holds",
        "balance",
        "spent_today",
    ];
    assert_eq!(on(&found), expected);
    let all = json!({ "agent": "shopper", "at": "2026-11-23T12:00:00Z", "time_zone": "UTC", "balance": "900",
        "spent_today": "0", "count": 0, "spent": "0", "open_holds": 0, "mandate": "none" });
    let mut arguments = transfer("100");
    arguments["currency"] = json!("USD");
    let found = asked(&every_rule(), "authorize_transfer", arguments, all);
    assert_eq!((found.status, on(&found)), ("approved", vec!["settings", "standing", "breaker", "grant", "payee"]));
    // A refusal rests on nothing that comes after it.
    let found = asked(&every_rule(), "authorize_transfer", transfer("100"), json!({ "at": "2026-11-22T12:00:00Z" }));
    assert!(["mandate", "open_holds", "spent_today"].iter().all(|later| !on(&found).contains(later)), "{found:?}");
    // Without rules that look at them, neither moment nor agent matters.
    let found = asked(&policy(json!([])), "authorize_transfer", transfer("100"), json!({}));
    assert!(!on(&found).contains(&"at") && !on(&found).contains(&"agent"), "{found:?}");
    assert_eq!(found.rules, Vec::<String>::new());
}

#[test]
fn a_banks_settings_take_part_where_they_are_given() {
    let policy = policy(json!([]));
    let arguments = |merchant: &str, price: &str| match purchase(merchant, price) {
        Value::Object(arguments) => arguments,
        other => panic!("{other}"),
    };
    let call = |merchant: &str, price: &str, currency: &str| {
        let usd = |text: &str| Money::parse_positive(text, currency.parse().unwrap()).unwrap();
        let none = rules_alone(&policy, &ToolCall::ListAccounts {}, currency.parse().unwrap());
        let rules = Rules {
            merchants_allowed: vec!["amazon.com".parse().unwrap()].into(),
            unattended_per_transaction: usd("200"),
            unattended_per_day: usd("500"),
            deny_above: Some(usd("1000")),
            ..none
        };
        payment(
            &policy,
            Some(&rules),
            "purchaser",
            "authorize_purchase",
            &arguments(merchant, price),
            &Given::default(),
        )
        .unwrap()
    };
    let table = [
        ("amazon.com", "200", "approved", None),
        ("amazon.com", "200.01", "requires_approval", None),
        ("amazon.com", "1000.01", "refused", Some("above_hard_ceiling")),
        ("bestbuy.com", "1", "refused", Some("unauthorized_merchant")),
        ("amaz0n.com", "1", "refused", Some("merchant_looks_alike")),
    ];
    for (merchant, price, status, reason) in table {
        let found = call(merchant, price, "USD");
        assert_eq!((found.status, found.reason), (status, reason), "{merchant} {price}: {found:?}");
        assert!(found.why.iter().all(|why| why.rule.is_none()), "{found:?}");
        let on: Vec<&str> = found.depends_on.iter().map(|fact| fact.what).collect();
        assert!(!on.contains(&"settings") && !on.contains(&"currency"), "{on:?}");
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    let policy = every_rule();
    let table = [
        ("authorize_transfer", json!({}), json!({}), "amount is missing"),
        ("authorize_transfer", json!({ "amount": "1e3" }), json!({}), "amount"),
        ("authorize_transfer", json!({ "amount": "-1" }), json!({}), "amount"),
        ("authorize_transfer", json!({ "amount": "1.001" }), json!({}), "amount"),
        ("authorize_transfer", json!({ "amount": "1", "currency": "XXQ" }), json!({}), "currency"),
        ("authorize_transfer", json!({ "amount": "1", "to_account": 5 }), json!({}), "to_account is a string"),
        ("authorize_purchase", json!({ "price": "1", "merchant": "no domain" }), json!({}), "merchant"),
        ("authorize_transfer", json!({ "amount": "1" }), json!({ "at": "tomorrow" }), "at:"),
        ("authorize_transfer", json!({ "amount": "1" }), json!({ "balance": "much" }), "balance"),
        ("authorize_transfer", json!({ "amount": "1" }), json!({ "agent": "Not A Name" }), "agent"),
        (
            "authorize_transfer",
            json!({ "amount": "1" }),
            json!({ "agent": "spiffe://b.example/agent/viewer/x" }),
            "another role",
        ),
        ("list_accounts", json!({}), json!({}), "is no payment"),
    ];
    for (tool, arguments, given, words) in table {
        let Value::Object(arguments) = arguments else { panic!("no object") };
        let given: Given = serde_json::from_value(given).unwrap();
        let error = payment(&policy, None, "purchaser", tool, &arguments, &given).unwrap_err();
        assert!(error.contains(words), "{error} lacks {words}");
    }
    for bad in [json!({ "counts": 1 }), json!({ "time_zone": "Moon/Crater" }), json!({ "mandate": "maybe" })] {
        assert!(serde_json::from_value::<Given>(bad.clone()).is_err(), "{bad}");
    }
}
