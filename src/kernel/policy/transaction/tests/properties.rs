//! What holds of every rule and every payment.

use super::*;
use crate::kernel::quorum::GateRule;

const AGENTS: [(&str, &str); 3] = [("purchaser", "shopper"), ("purchaser", "other"), ("viewer", "reader")];
const ACCOUNTS: [&str; 2] = ["CHK_001", "SAV_001"];
const MERCHANTS: [&str; 2] = ["amazon.com", "bestbuy.com"];

fn amounts() -> impl Strategy<Value = Value> {
    (0_i64..40_000, prop::bool::ANY).prop_map(|(minor, euros)| {
        json!({"amount": money(minor, "USD").decimal(), "currency": if euros { "EUR" } else { "USD" }})
    })
}

fn some<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    prop::option::weighted(0.3, strategy)
}

fn subset(of: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(of, 1..=of.len())
}

fn members() -> impl Strategy<Value = Value> {
    let selectors = (
        some(subset(&["purchaser", "viewer"])),
        some(subset(&["shopper", "other", "reader"])),
        some(subset(&ACCOUNTS)),
        some(subset(&["purchase", "transfer"])),
        some(subset(&["USD", "EUR"])),
    );
    let limits = (some(amounts()), some(amounts()), some(amounts()), some(amounts()));
    let hours = some((0_u32..24, 0_u32..24, prop::bool::ANY));
    let lists = (some(subset(&MERCHANTS)), some(subset(&ACCOUNTS)));
    (selectors, limits, hours, lists).prop_map(|(selectors, limits, hours, lists)| {
        let mut rule = json!({"name": "r"});
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                rule[key] = value;
            }
        };
        let kinds = selectors.3.clone();
        let has = |kind: &str| kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind));
        put("roles", selectors.0.map(|some| json!(some)));
        put("agents", selectors.1.map(|some| json!(some)));
        put("accounts", selectors.2.map(|some| json!(some)));
        put("kinds", selectors.3.map(|some| json!(some)));
        put("currencies", selectors.4.map(|some| json!(some)));
        put("deny_above", limits.0);
        put("unattended_per_transaction", limits.1);
        put("unattended_per_day", limits.2);
        put("thresholds", limits.3.map(|above| json!([{"above": above, "require": [{"gate": "owner"}]}])));
        put("merchants_allowed", lists.0.filter(|_| has("purchase")).map(|some| json!(some)));
        put("payees_allowed", lists.1.filter(|_| has("transfer")).map(|some| json!(some)));
        if let Some((from, to, asks)) = hours.filter(|(from, to, _)| from != to) {
            let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
            let [from, to] = [from, to].map(|hour| format!("{hour:02}:00"));
            put("hours", Some(json!([{"days": days, "from": from, "to": to}])));
            put("outside_hours", Some(json!(if asks { "approval" } else { "deny" })));
        }
        rule
    })
}

fn named(members: Vec<Value>) -> TransactionRules {
    let named = members.into_iter().enumerate().map(|(number, mut rule)| {
        rule["name"] = json!(format!("r{number}"));
        rule
    });
    rules(named.collect())
}

#[derive(Clone, Debug)]
struct Payment {
    agent: usize,
    account: usize,
    kind: PaymentKind,
    amount: Money,
    merchant: usize,
    at: LocalTime,
    spent: i64,
}

fn payment() -> impl Strategy<Value = Payment> {
    let kinds = prop::sample::select(vec![PaymentKind::Purchase, PaymentKind::Transfer]);
    let amount = (1_i64..50_000, prop::sample::select(vec!["USD", "EUR"]));
    (0..3_usize, 0..2_usize, kinds, amount, 0..2_usize, (0..7_i32, 0..86_400_u32), 0_i64..50_000).prop_map(
        |(agent, account, kind, (minor, code), merchant, (day, second), spent)| Payment {
            agent,
            account,
            kind,
            amount: money(minor, code),
            merchant,
            at: LocalTime { day: Day(day), second },
            spent,
        },
    )
}

/// 0: refused, 1: a human decides, 2: approved; with the gates that it has to pass.
fn outcome(rules: &TransactionRules, payment: &Payment) -> (u8, Vec<GateRule>) {
    let (role, name) = AGENTS[payment.agent];
    let who = agent(role, name);
    let account = ACCOUNTS[payment.account];
    let asked = Asked { agent: &who, account, kind: payment.kind, amount: payment.amount };
    let applied = Applied::of(rules, &asked);
    let to = match payment.kind {
        PaymentKind::Purchase => applied.merchant(&merchant(MERCHANTS[payment.merchant])),
        PaymentKind::Transfer => applied.payee(ACCOUNTS[payment.merchant]),
    };
    let denied = applied.admit(payment.amount, payment.at).and(to).and(applied.ceilings(payment.amount));
    let reached = applied.soft(payment.amount, payment.spent, payment.at);
    let level = match denied {
        Err(_) => 0,
        Ok(()) if !reached.is_empty() => 1,
        Ok(()) => 2,
    };
    (level, applied.gates(payment.amount))
}

proptest! {
    #[test]
    fn one_more_rule_never_permits_more(
        some in prop::collection::vec(members(), 0..4), one_more in members(), place in 0_usize..4, payment in payment(),
    ) {
        let before = outcome(&named(some.clone()), &payment);
        let mut more = some;
        more.insert(place.min(more.len()), one_more);
        let after = outcome(&named(more), &payment);
        prop_assert!(after.0 <= before.0, "{before:?} {after:?}");
        prop_assert!(before.1.iter().all(|gate| after.1.contains(gate)));
    }

    #[test]
    fn the_order_of_rules_decides_nothing_but_which_is_named(
        some in prop::collection::vec(members(), 0..5), payment in payment(),
    ) {
        let straight = outcome(&named(some.clone()), &payment);
        let mut reversed = some;
        reversed.reverse();
        let turned = outcome(&named(reversed), &payment);
        prop_assert_eq!(straight.0, turned.0);
        prop_assert_eq!(straight.1.len(), turned.1.len());
    }

    #[test]
    fn a_limit_permits_itself_and_nothing_above(limit in 1_i64..1_000_000) {
        let written = json!({"amount": money(limit, "USD").decimal(), "currency": "USD"});
        let rules = rules(json!([{"name": "r", "deny_above": written, "unattended_per_transaction": written,
            "unattended_per_day": written, "thresholds": [{"above": written, "require": [{"gate": "owner"}]}]}]));
        let shopper = agent("purchaser", "shopper");
        let applied = Applied::of(&rules, &asked(&shopper, limit));
        let usd = |minor| money(minor, "USD");
        prop_assert!(applied.ceilings(usd(limit)).is_ok());
        prop_assert!(applied.soft(usd(limit), 0, noon()).is_empty());
        prop_assert!(applied.gates(usd(limit)).is_empty());
        prop_assert!(applied.ceilings(usd(limit + 1)).is_err());
        prop_assert_eq!(applied.soft(usd(limit + 1), 0, noon()).len(), 3);
        prop_assert_eq!(applied.gates(usd(limit + 1)).len(), 1);
        prop_assert_eq!(applied.soft(usd(limit), 1, noon()).len(), 1);
    }

    /// The window is counted here by its definition, payment by payment.
    #[test]
    fn no_window_has_more_than_its_velocity(
        count in 1_u32..6, limit in 1_i64..2_000, window_s in prop::sample::select(vec![1_u32, 7, 60, 3_600, WINDOW_S_MAX]),
        steps in prop::collection::vec((0_i64..1_500, 1_i64..900), 1..80),
    ) {
        let amount = json!({"amount": money(limit, "USD").decimal(), "currency": "USD"});
        let rules = rules(json!([{"name": "r", "velocity": [
            {"count": count, "amount": amount, "window_s": window_s, "of": "agent"}]}]));
        let shopper = agent("purchaser", "shopper");
        let (mut at, mut paces, mut made) = (1_700_000_000_123_i64, BTreeMap::new(), vec![]);
        let window_ms = i64::from(window_s) * 1_000;
        for (step, minor) in steps {
            // Thousandths of the window.
            at += step * window_ms / 1_000;
            if pay(&rules, &mut paces, &asked(&shopper, minor), at) == "approved" {
                made.push((at, minor));
            }
        }
        for (first, (begins, _)) in made.iter().enumerate() {
            let inside = || made[first..].iter().take_while(|(at, _)| *at < begins + window_ms);
            prop_assert!(inside().count() <= count as usize);
            prop_assert!(inside().map(|(_, minor)| minor).sum::<i64>() <= limit);
        }
    }

    #[test]
    fn whoever_waits_a_window_and_a_slot_is_served_again(window_s in 1_u32..WINDOW_S_MAX, at in 0_i64..2_000_000_000_000) {
        let rules = rules(json!([{"name": "r", "velocity": [{"count": 1, "window_s": window_s, "of": "agent"}]}]));
        let shopper = agent("purchaser", "shopper");
        let (one, mut paces) = (asked(&shopper, 1), BTreeMap::new());
        let window_ms = i64::from(window_s) * 1_000;
        prop_assert_eq!(pay(&rules, &mut paces, &one, at), "approved");
        prop_assert_eq!(pay(&rules, &mut paces, &one, at + window_ms - 1), "velocity_exceeded");
        let slot_ms = window_ms / SLOTS_OF_A_WINDOW + 1;
        prop_assert_eq!(pay(&rules, &mut paces, &one, at + window_ms + 2 * slot_ms), "approved");
    }
}
