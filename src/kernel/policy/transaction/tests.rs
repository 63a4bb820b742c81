//! What each part of a transaction rule asks, and that one more rule never permits more.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::kernel::policy::SoftLimit;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{Currency, Day, MerchantId, Money, SpiffeId, UnixMillis};
use crate::kernel::zone::Zone;

mod properties;

const MINUTE: i64 = 60_000;

fn currency(code: &str) -> Currency {
    code.parse().unwrap()
}

fn money(minor: i64, code: &str) -> Money {
    Money::from_minor(minor, currency(code))
}

fn agent(role: &str, name: &str) -> SpiffeId {
    format!("spiffe://countersign.example/agent/{role}/{name}").parse().unwrap()
}

fn rules(rules: Value) -> TransactionRules {
    serde_json::from_value(rules).unwrap()
}

fn merchant(name: &str) -> MerchantId {
    name.parse().unwrap()
}

/// 100.00 USD from CHK_001, by the purchaser `shopper`.
fn asked<'a>(who: &'a SpiffeId, minor: i64) -> Asked<'a> {
    Asked { agent: who, account: "CHK_001", kind: PaymentKind::Purchase, amount: money(minor, "USD") }
}

fn local(zone: &str, rfc3339: &str) -> LocalTime {
    let at = UnixMillis(chrono::DateTime::parse_from_rfc3339(rfc3339).unwrap().timestamp_millis());
    let zone: Zone = zone.parse().unwrap();
    LocalTime { day: zone.day(at), second: zone.second_of_day(at) }
}

fn noon() -> LocalTime {
    local("UTC", "2026-11-25T12:00:00Z")
}

#[test]
fn a_rule_reads_back_as_it_was_written() {
    let written = json!([{
        "name": "night-shift",
        "roles": ["purchaser"],
        "agents": ["shopper", "spiffe://countersign.example/agent/purchaser/assistant"],
        "accounts": ["CHK_001"],
        "kinds": ["purchase", "transfer"],
        "currencies": ["EUR", "USD"],
        "merchants_allowed": ["amazon.com"],
        "payees_allowed": ["SAV_001"],
        "deny_above": [{"amount": "1000.00", "currency": "USD"}, {"amount": "900.00", "currency": "EUR"}],
        "unattended_per_transaction": {"amount": "50.00", "currency": "USD"},
        "unattended_per_day": {"amount": "200.00", "currency": "USD"},
        "thresholds": [{
            "above": {"amount": "500.00", "currency": "USD"},
            "require": [{"gate": "owner"},
                        {"gate": "bank", "approvals": 2, "roles": ["approver", "officer"], "ordered": true}],
        }],
        "hours": [{"days": ["mon", "fri"], "from": "22:00", "to": "06:00"}],
        "outside_hours": "approval",
        "velocity": [{"count": 3, "amount": {"amount": "300.00", "currency": "USD"}, "window_s": 3600, "of": "agent",
                      "outcome": "approval"}],
        "mandate": "required",
    }]);
    let read = rules(written.clone());
    let again = serde_json::to_value(&read).unwrap();
    assert_eq!(rules(again.clone()), read);
    assert_eq!(again[0]["deny_above"], written[0]["deny_above"]);
    assert_eq!(again[0]["hours"], written[0]["hours"]);
    assert_eq!(again[0]["velocity"], written[0]["velocity"]);
    let toml = toml::to_string(&BTreeMap::from([("transactions", &read)])).unwrap();
    let from_toml: BTreeMap<String, TransactionRules> = toml::from_str(&toml).unwrap();
    assert_eq!(from_toml["transactions"], read);
}

#[test]
fn rules_that_are_mistakes_are_refused_with_their_name_and_key() {
    let usd = |amount: &str| json!({"amount": amount, "currency": "USD"});
    let owner = json!([{"gate": "owner"}]);
    // (the rule's members besides its name, words of the refusal)
    let table = [
        (json!({"name": ""}), "name must be"),
        (json!({"name": "Night"}), "name must be"),
        (json!({"name": "a b"}), "name must be"),
        (json!({"name": "x".repeat(64)}), "name must be"),
        (json!({"limit": 1}), "unknown field"),
        (json!({"roles": []}), "roles is an empty list"),
        (json!({"agents": []}), "agents is an empty list"),
        (json!({"accounts": []}), "accounts is an empty list"),
        (json!({"kinds": []}), "kinds is an empty list"),
        (json!({"currencies": []}), "currencies is an empty list"),
        (json!({"roles": ["Finance Manager"]}), "role must be"),
        (json!({"agents": ["shopper/1"]}), "agent name must be"),
        (json!({"agents": ["spiffe://x/agent"]}), "SPIFFE ID must be"),
        (json!({"accounts": ["CHK 1"]}), "account id must be"),
        (json!({"kinds": ["gift"]}), "unknown variant"),
        (json!({"currencies": ["XXX"]}), "currency must be"),
        (json!({"merchants_allowed": ["Amazon"]}), "merchant must be"),
        (json!({"deny_above": "100"}), "amount"),
        (json!({"deny_above": {"amount": 100, "currency": "USD"}}), "invalid type"),
        (json!({"deny_above": usd("-1.00")}), "below zero"),
        (json!({"deny_above": usd("1.001")}), "decimals"),
        (json!({"deny_above": []}), "missing"),
        (json!({"deny_above": [usd("1.00"), usd("2.00")]}), "one amount"),
        (json!({"deny_above": {"amount": "1.00", "currency": "USD", "per": "day"}}), "unknown field"),
        (json!({"hours": []}), "hours is an empty list"),
        (json!({"hours": [{"days": [], "from": "09:00", "to": "17:00"}]}), "need days"),
        (json!({"hours": [{"days": ["mon"], "from": "09:00", "to": "09:00"}]}), "the same"),
        (json!({"hours": [{"days": ["mon"], "from": "24:00", "to": "09:00"}]}), "before 24:00"),
        (json!({"hours": [{"days": ["mon"], "from": "9:00", "to": "17:00"}]}), "HH:MM"),
        (json!({"hours": [{"days": ["mon"], "from": "09:60", "to": "17:00"}]}), "HH:MM"),
        (json!({"hours": [{"days": ["mon"], "from": "09:00", "to": "24:01"}]}), "HH:MM"),
        (json!({"hours": [{"days": ["monday"], "from": "09:00", "to": "17:00"}]}), "unknown variant"),
        (json!({"outside_hours": "approval"}), "says nothing without hours"),
        (json!({"kinds": ["transfer"], "merchants_allowed": ["amazon.com"]}), "says nothing about transfers"),
        (json!({"kinds": ["purchase"], "payees_allowed": ["SAV_001"]}), "says nothing about purchases"),
        (json!({"thresholds": [{"above": usd("1.00"), "require": []}]}), "at least one gate"),
        (json!({"thresholds": [{"above": usd("1.00"), "require": [{"gate": "nobody"}]}]}), "unknown variant"),
        (json!({"thresholds": [{"require": owner}]}), "missing field"),
        (
            json!({"thresholds": [{"above": usd("1.00"), "require": [{"gate": "bank", "approvals": 0}]}]}),
            "1 to 8 approvals",
        ),
        (
            json!({"thresholds": [{"above": usd("1.00"), "require": [{"gate": "bank", "roles": ["agent"]}]}]}),
            "roles of a bank",
        ),
        (json!({"velocity": [{"window_s": 60, "of": "agent"}]}), "needs count, amount or both"),
        (json!({"velocity": [{"count": 0, "window_s": 60, "of": "agent"}]}), "count must be"),
        (json!({"velocity": [{"count": -1, "window_s": 60, "of": "agent"}]}), "invalid value"),
        (json!({"velocity": [{"amount": usd("0.00"), "window_s": 60, "of": "agent"}]}), "greater than zero"),
        (json!({"velocity": [{"count": 1, "window_s": 0, "of": "agent"}]}), "window_s must be"),
        (json!({"velocity": [{"count": 1, "window_s": WINDOW_S_MAX + 1, "of": "agent"}]}), "window_s must be"),
        (json!({"velocity": [{"count": 1, "window_s": 60, "of": "bank"}]}), "unknown variant"),
        (json!({"velocity": [{"count": 1, "window_s": 60, "of": "agent", "outcome": "freeze"}]}), "unknown variant"),
        (
            json!({"velocity": [{"count": 1, "window_s": 60, "of": "agent"}, {"count": 2, "window_s": 60, "of": "agent"}]}),
            "twice",
        ),
        (json!({"mandate": "yes"}), "unknown variant"),
    ];
    for (members, words) in table {
        let mut rule = json!({"name": "r"});
        rule.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let refused = serde_json::from_value::<TransactionRules>(json!([rule])).unwrap_err().to_string();
        assert!(refused.contains(words), "{rule}: {refused}");
    }
    let twice = json!([{"name": "r"}, {"name": "r"}]);
    let refused = serde_json::from_value::<TransactionRules>(twice).unwrap_err().to_string();
    assert!(refused.contains("is another rule's, too"), "{refused}");
}

#[test]
fn a_rule_fits_the_payments_that_all_of_its_selectors_name() {
    let shopper = agent("purchaser", "shopper");
    let purchase = asked(&shopper, 1);
    let table = [
        (json!({}), true),
        (json!({"roles": ["purchaser"]}), true),
        (json!({"roles": ["viewer", "purchaser"]}), true),
        (json!({"roles": ["viewer"]}), false),
        (json!({"agents": ["shopper"]}), true),
        (json!({"agents": ["spiffe://countersign.example/agent/purchaser/shopper"]}), true),
        (json!({"agents": ["spiffe://countersign.example/agent/viewer/shopper"]}), false),
        (json!({"agents": ["spiffe://other.example/agent/purchaser/shopper"]}), false),
        (json!({"agents": ["assistant"]}), false),
        (json!({"accounts": ["CHK_001"]}), true),
        (json!({"accounts": ["CHK_002"]}), false),
        (json!({"accounts": ["CHK_0011", "chk_001"]}), false),
        (json!({"kinds": ["purchase"]}), true),
        (json!({"kinds": ["transfer"]}), false),
        (json!({"roles": ["purchaser"], "agents": ["shopper"], "accounts": ["CHK_001"], "kinds": ["purchase"]}), true),
        (json!({"roles": ["purchaser"], "agents": ["shopper"], "accounts": ["CHK_002"]}), false),
        (json!({"roles": ["viewer"], "agents": ["shopper"], "accounts": ["CHK_001"]}), false),
    ];
    for (members, fits) in table {
        let mut rule = json!({"name": "r"});
        rule.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let rules = rules(json!([rule]));
        assert_eq!(Applied::of(&rules, &purchase).names().count() == 1, fits, "{members}");
    }
}

#[test]
fn each_question_is_refused_by_its_own_name_and_its_rule() {
    let usd = |amount: &str| json!({"amount": amount, "currency": "USD"});
    let hours = json!([{"days": ["mon"], "from": "09:00", "to": "17:00"}]);
    let rules = rules(json!([
        {"name": "all"},
        {"name": "euro-only", "accounts": ["EUR_001"], "currencies": ["EUR"]},
        {"name": "mondays", "accounts": ["MON_001"], "hours": hours},
        {"name": "one-shop", "merchants_allowed": ["amazon.com"]},
        {"name": "two-payees", "payees_allowed": ["SAV_001", "SAV_002"]},
        {"name": "small", "deny_above": usd("100.00")},
    ]));
    let shopper = agent("purchaser", "shopper");
    let from = |account: &'static str| Applied::of(&rules, &Asked { account, ..asked(&shopper, 1) });
    let said = |answer: Result<(), Denied>| {
        answer.map_err(|denied| {
            assert_eq!(denied.why.name, denied.refusal.name());
            (denied.refusal, denied.why.rule.unwrap())
        })
    };
    let no = |refusal, rule: &str| Err((refusal, rule.to_owned()));
    let usd = |minor| money(minor, "USD");
    assert_eq!(said(from("CHK_001").admit(usd(1), noon())), Ok(()));
    assert_eq!(said(from("EUR_001").admit(usd(1), noon())), no(Refusal::CurrencyNotAllowed, "euro-only"));
    assert_eq!(said(from("EUR_001").admit(money(1, "EUR"), noon())), Ok(()));
    assert_eq!(said(from("MON_001").admit(usd(1), noon())), no(Refusal::OutsideHours, "mondays"));
    let monday = local("UTC", "2026-11-23T09:00:00Z");
    assert_eq!(said(from("MON_001").admit(usd(1), monday)), Ok(()));
    let applied = from("CHK_001");
    assert_eq!(said(applied.merchant(&merchant("amazon.com"))), Ok(()));
    assert_eq!(said(applied.merchant(&merchant("bestbuy.com"))), no(Refusal::UnauthorizedMerchant, "one-shop"));
    assert_eq!(said(applied.payee("SAV_002")), Ok(()));
    assert_eq!(said(applied.payee("SAV_003")), no(Refusal::PayeeNotAllowed, "two-payees"));
    assert_eq!(said(applied.ceilings(usd(10_000))), Ok(()));
    assert_eq!(said(applied.ceilings(usd(10_001))), no(Refusal::AboveHardCeiling, "small"));
    assert_eq!(said(applied.ceilings(money(1, "EUR"))), no(Refusal::CurrencyNotAllowed, "small"));
}

#[test]
fn the_strictest_of_several_rules_wins_in_whatever_order_they_stand() {
    let usd = |amount: &str| json!({"amount": amount, "currency": "USD"});
    let bank = |approvals: u32| json!({"gate": "bank", "approvals": approvals});
    let wide = json!({"name": "wide", "deny_above": usd("1000.00"), "unattended_per_transaction": usd("900.00"),
        "thresholds": [{"above": usd("10.00"), "require": [bank(1)]}]});
    let narrow = json!({"name": "narrow", "deny_above": usd("100.00"), "unattended_per_transaction": usd("50.00"),
        "unattended_per_day": usd("60.00"),
        "thresholds": [{"above": usd("20.00"), "require": [bank(2), {"gate": "owner"}]},
                       {"above": usd("30.00"), "require": [bank(2)]}]});
    for order in [json!([wide, narrow]), json!([narrow, wide])] {
        let rules = rules(order);
        let shopper = agent("purchaser", "shopper");
        let applied = Applied::of(&rules, &asked(&shopper, 1));
        assert_eq!(applied.ceilings(money(10_001, "USD")).unwrap_err().why.rule.unwrap(), "narrow");
        let reached = |minor, spent| {
            let mut names: Vec<String> = applied
                .soft(money(minor, "USD"), spent, noon())
                .into_iter()
                .map(|one| format!("{} {}", one.rule, one.limit.name()))
                .collect();
            names.sort();
            names
        };
        assert_eq!(reached(1_000, 0), Vec::<String>::new());
        assert_eq!(reached(1_001, 0), ["wide above_threshold"]);
        assert_eq!(reached(1_000, 5_001), ["narrow above_unattended_per_day"]);
        assert_eq!(reached(1_000, i64::MAX), ["narrow above_unattended_per_day"]);
        let all = ["narrow above_threshold", "narrow above_unattended_per_transaction", "wide above_threshold"];
        assert_eq!(reached(5_001, 0), all);
        let gates = |minor| applied.gates(money(minor, "USD")).len();
        assert_eq!((gates(1_000), gates(1_001), gates(2_001), gates(3_001)), (0, 1, 3, 3));
    }
}

#[test]
fn what_cannot_be_compared_asks_for_a_human() {
    let rules = rules(json!([{"name": "dollars",
        "unattended_per_transaction": {"amount": "50.00", "currency": "USD"},
        "unattended_per_day": [{"amount": "50.00", "currency": "USD"}, {"amount": "40.00", "currency": "EUR"}],
        "thresholds": [{"above": {"amount": "50.00", "currency": "USD"}, "require": [{"gate": "owner"}]}]}]));
    let shopper = agent("purchaser", "shopper");
    let applied = Applied::of(&rules, &asked(&shopper, 1));
    let limits = |code| {
        let reached = applied.soft(money(1, code), 0, noon());
        reached.into_iter().map(|one| one.limit).collect::<Vec<_>>()
    };
    assert_eq!(limits("USD"), []);
    assert_eq!(limits("EUR"), [SoftLimit::PerTransaction, SoftLimit::Threshold]);
    assert_eq!(limits("GBP"), [SoftLimit::PerTransaction, SoftLimit::PerDay, SoftLimit::Threshold]);
    assert_eq!(applied.gates(money(1, "EUR")).len(), 1);
}

#[test]
fn hours_are_those_of_the_accounts_own_clock() {
    let day = json!([{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:00"}]);
    let night = json!([{"days": ["fri"], "from": "22:00", "to": "06:00"}]);
    let whole = json!([{"days": ["sun"], "from": "00:00", "to": "24:00"}]);
    let early = json!([{"days": ["sun"], "from": "01:30", "to": "02:30"}]);
    let table = [
        // A Wednesday in Zurich is an hour ahead of Greenwich.
        (&day, "Europe/Zurich", "2026-11-25T08:00:00Z", true),
        (&day, "Europe/Zurich", "2026-11-25T07:59:59.999Z", false),
        (&day, "Europe/Zurich", "2026-11-25T15:59:59.999Z", true),
        (&day, "Europe/Zurich", "2026-11-25T16:00:00Z", false),
        (&day, "America/New_York", "2026-11-25T08:00:00Z", false),
        (&day, "America/New_York", "2026-11-25T14:00:00Z", true),
        (&day, "Asia/Kathmandu", "2026-11-25T03:15:00Z", true),
        (&day, "Asia/Kathmandu", "2026-11-25T03:14:59Z", false),
        // Saturday in Auckland while it is Friday in Greenwich.
        (&day, "Pacific/Auckland", "2026-11-27T21:00:00Z", false),
        (&day, "UTC", "2026-11-27T16:00:00Z", true),
        (&day, "UTC", "2026-11-28T12:00:00Z", false),
        // In summer the same nine o'clock is another instant.
        (&day, "Europe/Zurich", "2026-07-01T07:00:00Z", true),
        (&day, "Europe/Zurich", "2026-07-01T06:59:59Z", false),
        // Friday night goes on until Saturday at six.
        (&night, "UTC", "2026-11-27T21:59:59Z", false),
        (&night, "UTC", "2026-11-27T22:00:00Z", true),
        (&night, "UTC", "2026-11-28T00:00:00Z", true),
        (&night, "UTC", "2026-11-28T05:59:59Z", true),
        (&night, "UTC", "2026-11-28T06:00:00Z", false),
        (&night, "UTC", "2026-11-27T05:00:00Z", false),
        (&night, "UTC", "2026-11-28T22:00:00Z", false),
        (&whole, "UTC", "2026-11-29T00:00:00Z", true),
        (&whole, "UTC", "2026-11-29T23:59:59.999Z", true),
        (&whole, "UTC", "2026-11-30T00:00:00Z", false),
        // 2026-03-29: from two to three no clock in Zurich shows anything; half past one is there, half past three comes next.
        (&early, "Europe/Zurich", "2026-03-29T00:29:59Z", false),
        (&early, "Europe/Zurich", "2026-03-29T00:30:00Z", true),
        (&early, "Europe/Zurich", "2026-03-29T00:59:59Z", true),
        (&early, "Europe/Zurich", "2026-03-29T01:00:00Z", false),
        // 2026-10-25: the clock shows two to three twice, and both are in the window.
        (&early, "Europe/Zurich", "2026-10-25T00:15:00Z", true),
        (&early, "Europe/Zurich", "2026-10-25T00:45:00Z", false),
        (&early, "Europe/Zurich", "2026-10-25T01:15:00Z", true),
        (&early, "Europe/Zurich", "2026-10-25T01:30:00Z", false),
    ];
    for (hours, zone, at, within) in table {
        let shopper = agent("purchaser", "shopper");
        let denying = rules(json!([{"name": "r", "hours": hours}]));
        let asking = rules(json!([{"name": "r", "hours": hours, "outside_hours": "approval"}]));
        let (asked, at_clock) = (asked(&shopper, 1), local(zone, at));
        let denied = Applied::of(&denying, &asked).admit(asked.amount, at_clock);
        assert_eq!(denied.is_ok(), within, "{zone} {at}");
        let asking = Applied::of(&asking, &asked);
        assert_eq!(asking.admit(asked.amount, at_clock), Ok(()));
        assert_eq!(asking.soft(asked.amount, 0, at_clock).is_empty(), within, "{zone} {at}");
    }
    assert_eq!(Weekday::of(Day(0)), Weekday::Thu);
    assert_eq!(Weekday::of(Day(-1)), Weekday::Wed);
}

/// Makes a payment if its velocities permit it, and counts it. Answers what they said.
fn pay(rules: &TransactionRules, paces: &mut BTreeMap<PaceKey, Pace>, asked: &Asked<'_>, at_ms: i64) -> &'static str {
    let (applied, now) = (Applied::of(rules, asked), UnixMillis(at_ms));
    let counted = applied.paces(asked);
    let before: BTreeMap<PaceKey, Pace> =
        counted.keys().map(|key| (key.clone(), paces.get(key).cloned().unwrap_or_default())).collect();
    let said = match applied.velocity(asked, &before, now) {
        Err(denied) => return denied.refusal.name(),
        Ok(reached) if reached.is_empty() => "approved",
        Ok(_) => "requires_approval",
    };
    for (key, more) in counted {
        let pace = before[&key].with(&key, now, more);
        assert_eq!(Pace::from_text(&pace.text()).as_ref(), Some(&pace));
        assert!(pace.ends(&key) > now);
        paces.insert(key, pace);
    }
    said
}

#[test]
fn a_velocity_lets_so_many_through_and_the_next_one_when_the_window_has_passed() {
    let rules = rules(json!([
        {"name": "slow", "velocity": [{"count": 2, "window_s": 600, "of": "agent"}]},
        {"name": "careful", "velocity": [
            {"amount": {"amount": "300.00", "currency": "USD"}, "window_s": 3600, "of": "account", "outcome": "approval"}]},
    ]));
    let (shopper, other) = (agent("purchaser", "shopper"), agent("purchaser", "other"));
    let paces = &mut BTreeMap::new();
    let table = [
        (&shopper, 10_000, 0, "approved"),
        (&shopper, 10_000, 5 * MINUTE, "approved"),
        (&shopper, 10_000, 10 * MINUTE - 1, "velocity_exceeded"),
        // Another agent has a count of its own, and the account has its sum.
        (&other, 10_000, 6 * MINUTE, "approved"),
        (&other, 1, 7 * MINUTE, "requires_approval"),
        // One slot, a twentieth of the window, after the window of the first one has passed.
        (&shopper, 1, 10 * MINUTE + 30_000, "requires_approval"),
        (&shopper, 1, 15 * MINUTE, "velocity_exceeded"),
        (&shopper, 30_000, 80 * MINUTE, "approved"),
        (&shopper, 1, 81 * MINUTE, "requires_approval"),
        // A payment of its own above the limit.
        (&other, 30_001, 300 * MINUTE, "requires_approval"),
    ];
    for (row, (who, minor, at, said)) in table.into_iter().enumerate() {
        assert_eq!(pay(&rules, paces, &asked(who, minor), at), said, "row {row}");
    }
    let mut names: Vec<&str> = paces.keys().map(PaceKey::text).collect();
    names.sort_unstable();
    let of = |name: &str| format!("slow/600/count/agent/spiffe://countersign.example/agent/purchaser/{name}");
    assert_eq!(names, ["careful/3600/USD/account/CHK_001".to_owned(), of("other"), of("shopper")]);
}

#[test]
fn a_foreign_currency_has_no_velocity_to_spare_and_selectors_decide_what_is_counted() {
    let limit = json!([{"amount": {"amount": "300.00", "currency": "USD"}, "window_s": 60, "of": "account"}]);
    let rules = rules(json!([{"name": "purchases", "kinds": ["purchase"], "velocity": limit}]));
    let shopper = agent("purchaser", "shopper");
    let paces = &mut BTreeMap::new();
    let euros = Asked { amount: money(1, "EUR"), ..asked(&shopper, 1) };
    assert_eq!(pay(&rules, paces, &euros, 0), "velocity_exceeded");
    let transfer = Asked { kind: PaymentKind::Transfer, ..asked(&shopper, 100_000) };
    assert_eq!(pay(&rules, paces, &transfer, 0), "approved");
    assert!(paces.is_empty());
    assert_eq!(pay(&rules, paces, &asked(&shopper, 30_000), 0), "approved");
    assert_eq!(pay(&rules, paces, &asked(&shopper, 1), 0), "velocity_exceeded");
}

#[test]
fn clocks_that_disagree_give_nothing_and_take_nothing_for_ever() {
    let rules = rules(json!([{"name": "r", "velocity": [{"count": 2, "window_s": 20, "of": "agent"}]}]));
    let shopper = agent("purchaser", "shopper");
    let one = &asked(&shopper, 1);
    let paces = &mut BTreeMap::new();
    // One daemon's clock is a minute ahead.
    assert_eq!(pay(&rules, paces, one, 60_000), "approved");
    assert_eq!(pay(&rules, paces, one, 0), "approved");
    assert_eq!(pay(&rules, paces, one, 0), "velocity_exceeded");
    assert_eq!(pay(&rules, paces, one, 60_000), "approved");
    assert_eq!(pay(&rules, paces, one, 21_000), "velocity_exceeded");
    assert_eq!(pay(&rules, paces, one, 82_000), "approved");
}

#[test]
fn counts_that_no_store_wrote_are_not_read() {
    for text in ["1", "1:", ":1", "1:-1", "2:1,1:1", "1:1,1:1", "a:1", "1:1,", " 1:1", "1:99999999999999999999"] {
        assert_eq!(Pace::from_text(text), None, "{text}");
    }
    assert_eq!(Pace::from_text(""), Some(Pace::default()));
    let many: Vec<String> = (0..65).map(|slot| format!("{slot}:1")).collect();
    assert_eq!(Pace::from_text(&many.join(",")), None);
}
