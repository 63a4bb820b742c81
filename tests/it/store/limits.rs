//! Transaction rules in the deciding commit: each refusal by its name, what only asks for a human, and how fast.

use std::sync::Arc;

use super::world::*;
use countersign::kernel::command::*;
use countersign::kernel::policy::transaction::TransactionRules;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::text::OnHostile;
use countersign::kernel::types::*;
use countersign::kernel::zone::Zone;
use countersign::store::Turn;

use serde_json::{Value, json};

/// A bank under these transaction rules. `START` is a Friday, 08:00 in Greenwich.
fn under<'s>(w: &World<'s>, transactions: Value) -> World<'s> {
    let transactions: TransactionRules = serde_json::from_value(transactions).unwrap();
    let bank = World { rules: Arc::new(Rules { transactions, ..rules() }), ..World::new(w.store) };
    bank.bank();
    bank
}

fn dollars(amount: &str) -> Value {
    json!({"amount": amount, "currency": "USD"})
}

/// Outcome and leaf of a call.
fn decided(w: &World<'_>, call: ToolCall) -> (Outcome, Value) {
    let decision = w.store.apply(vec![w.tool_command(&shopper(), call)]).unwrap().pop().unwrap();
    let leaf = w.store.leaf(decision.leaf.unwrap().row).unwrap().unwrap();
    (decision.outcome, serde_json::from_slice(leaf.body().unwrap()).unwrap())
}

sentences! {
    each_rule_refuses_by_its_name_and_the_leaf_says_which_rule_it_was: |w| {
        let mondays = json!([{"days": ["mon"], "from": "00:00", "to": "24:00"}]);
        let table = [
            (json!({"currencies": ["EUR"]}), Refusal::CurrencyNotAllowed),
            (json!({"hours": mondays}), Refusal::OutsideHours),
            (json!({"payees_allowed": ["CHK_002"]}), Refusal::PayeeNotAllowed),
            (json!({"deny_above": dollars("9.99")}), Refusal::AboveHardCeiling),
            (json!({"deny_above": {"amount": "9.99", "currency": "EUR"}}), Refusal::CurrencyNotAllowed),
            (
                json!({"velocity": [{"amount": dollars("9.99"), "window_s": 60, "of": "account"}]}),
                Refusal::VelocityExceeded,
            ),
        ];
        w.bank();
        for (members, refusal) in table {
            for (role, fits) in [("purchaser", true), ("viewer", false)] {
                let mut rule = json!({"name": "the-rule", "roles": [role]});
                rule.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
                let transactions = serde_json::from_value(json!([{"name": "another"}, rule])).unwrap();
                let rules = Arc::new(Rules { transactions, ..rules() });
                let w = World { rules, ids: w.ids.clone(), now: w.now.clone(), store: w.store };
                let key = format!("{}-{role}", refusal.name());
                let (outcome, leaf) = decided(&w, transfer("10", &format!("{key}-{}", members.to_string().len())));
                if fits {
                    assert_eq!(outcome, Err(refusal), "{rule}");
                    assert_eq!(leaf["reason"], refusal.name());
                    assert_eq!(leaf["why"], json!({"name": refusal.name(), "rule": "the-rule"}));
                } else {
                    assert!(matches!(outcome, Ok(Effect::Approved { .. })), "{rule}: {outcome:?}");
                }
            }
            w.ids.set(w.ids.get() + 1_000);
            // Room for the next hold.
            w.later(901_000);
            w.sweep();
        }
        assert_eq!(w.balance("CHK_001").1, "0.00");
        w.adds_up();
    };
    soft_rules_ask_for_a_human_and_never_deny: |w| {
        let mondays = json!([{"days": ["mon"], "from": "00:00", "to": "24:00"}]);
        let w = &under(w, json!([
            {"name": "small", "unattended_per_transaction": dollars("5"), "kinds": ["transfer"]},
            {"name": "mondays", "hours": mondays, "outside_hours": "approval", "kinds": ["transfer"]},
            {"name": "owner", "thresholds": [{"above": dollars("6"), "require": [{"gate": "bank"}]}], "kinds": ["transfer"]},
        ]));
        let (outcome, leaf) = decided(w, transfer("10", "k1"));
        let Ok(Effect::RequiresApproval { transaction_id, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(leaf["result"]["why"], json!([
            {"name": "above_unattended_per_transaction", "rule": "small"},
            {"name": "outside_hours", "rule": "mondays"},
            {"name": "above_threshold", "rule": "owner"},
        ]));
        let found = w.store.transaction(&transaction_id).unwrap().unwrap();
        let approval = found.approval.unwrap();
        assert_eq!(approval.asked.quorum.pending().len(), 1);
        let reasons = approval.reasons;
        assert_eq!(reasons, ["above_unattended_per_transaction", "outside_hours", "above_threshold"]);
        // A purchase is none of theirs.
        w.approved(buy("LAPTOP", "1899.99", "k2"));
        w.adds_up();
    };
    hard_rules_are_asked_in_the_order_of_the_decision: |w| {
        let w = &under(w, json!([
            {"name": "velocity", "velocity": [{"count": 1, "window_s": 60, "of": "agent"}]},
            {"name": "ceiling", "deny_above": dollars("50")},
            {"name": "payees", "payees_allowed": ["SAV_001"]},
            {"name": "currency", "currencies": ["USD"]},
            {"name": "shops", "merchants_allowed": ["bestbuy.com"]},
        ]));
        w.approved(transfer("1", "k1"));
        for (call, refusal) in [
            (transfer_to(Some("CHK_001"), "CHK_001", "60", "k"), Refusal::PayeeNotAllowed),
            (transfer_to(Some("CHK_001"), "NONE", "60", "k"), Refusal::PayeeNotAllowed),
            (transfer("60", "k"), Refusal::AboveHardCeiling),
            (transfer("50000.01", "k"), Refusal::AboveHardCeiling),
            (transfer("10", "k"), Refusal::VelocityExceeded),
            (buy("LAPTOP", "1899.99", "k"), Refusal::UnauthorizedMerchant),
            (buy_at("gadgets.example", "FAKE", "9.99", "k"), Refusal::UnauthorizedMerchant),
        ] {
            assert_eq!(w.call(call.clone()), Err(refusal), "{call:?}");
        }
    };
    a_merchant_that_imitates_one_of_the_list_is_refused_by_that_name: |w| {
        w.bank();
        for (merchant, refusal, imitates) in [
            ("amaz0n.com", Refusal::MerchantLooksAlike, Some("amazon.com")),
            ("amazon.com.evil.example", Refusal::MerchantLooksAlike, Some("amazon.com")),
            ("amazon.co", Refusal::MerchantLooksAlike, Some("amazon.com")),
            ("best-buy.com", Refusal::MerchantLooksAlike, Some("bestbuy.com")),
            ("xn--mazon-3ve.com", Refusal::MerchantLooksAlike, Some("amazon.com")),
            ("gadgets.example", Refusal::UnauthorizedMerchant, None),
            ("shop.example", Refusal::UnauthorizedMerchant, None),
        ] {
            let (outcome, leaf) = decided(w, buy_at(merchant, "LAPTOP", "1899.99", "k"));
            assert_eq!(outcome, Err(refusal), "{merchant}");
            assert_eq!(leaf["why"]["imitates"].as_str(), imitates, "{merchant}");
        }
        assert_eq!(Refusal::MerchantLooksAlike.message().find("amazon"), None);
    };
    what_looks_like_a_registered_merchant_is_registered_only_by_somebody_who_looked: |w| {
        w.bank();
        let add_text = |merchant: &str, name: &str, looks_like_accepted, on_hostile| {
            w.admin(Act::AddMerchant { on_hostile,
                merchant: merchant.parse().unwrap(),
                name: name.into(),
                currency: "USD".parse().unwrap(),
                looks_like_accepted,
            })
        };
        let add = |merchant: &str, name: &str, looks_like_accepted| {
            add_text(merchant, name, looks_like_accepted, OnHostile::Refuse)
        };
        assert_eq!(add("migros.ch", "Migros", false), Ok(Effect::Done { changed: true }));
        for (merchant, name) in [
            ("amaz0n.com", "Zero"),
            ("amazon.net", "Net"),
            ("other.example", "MIGROS"),
            ("third.example", "M1gr0s"),
        ] {
            assert_eq!(add(merchant, name, false), Err(Refusal::MerchantLooksAlike), "{merchant} {name}");
        }
        // Letters of two alphabets in a word are refused for themselves first.
        let mixed = |on_hostile| add_text("another.example", "Mіgros", false, on_hostile);
        assert_eq!(mixed(OnHostile::Refuse), Err(Refusal::TextHostile));
        assert_eq!(mixed(OnHostile::Accept), Err(Refusal::MerchantLooksAlike));
        assert_eq!(add("amazon.net", "Net", true), Ok(Effect::Done { changed: true }));
        // What is there is not looked at again.
        assert_eq!(add("amazon.net", "Net", false), Ok(Effect::Done { changed: false }));
    };
    a_velocity_counts_what_was_authorized_whatever_became_of_it: |w| {
        let w = &under(w, json!([{"name": "slow", "kinds": ["transfer"],
            "velocity": [{"count": 3, "window_s": 600, "of": "agent"}]}]));
        let first = w.approved(transfer("1", "k1"));
        w.call(cancel(&first)).unwrap();
        // A repeat is no other payment, and what was refused is none.
        w.approved(transfer("1", "k1"));
        assert_eq!(w.call(transfer("99999", "k2")), Err(Refusal::AboveHardCeiling));
        assert_eq!(w.call(transfer_to(Some("CHK_001"), "NONE", "1", "k2")), Err(Refusal::UnknownDestination));
        let second = w.approved(transfer("2", "k2"));
        w.posted(execute_transfer(&second, "SAV_001", "2"));
        w.waiting(transfer("2001", "k3"));
        assert_eq!(w.call(transfer("1", "k4")), Err(Refusal::VelocityExceeded));
        w.approved(buy("LAPTOP", "1899.99", "k5"));
        w.later(599_000);
        assert_eq!(w.call(transfer("1", "k4")), Err(Refusal::VelocityExceeded));
        w.later(31_000);
        w.approved(transfer("1", "k4"));
        w.adds_up();
    };
    velocities_of_agents_and_accounts_are_counted_apart: |w| {
        let w = &under(w, json!([
            {"name": "agents", "velocity": [{"count": 2, "window_s": 60, "of": "agent"}]},
            {"name": "accounts", "velocity": [
                {"amount": dollars("30"), "window_s": 60, "of": "account", "outcome": "approval"}]},
        ]));
        let other = agent("purchaser", "other");
        w.admin(grant(&other, "CHK_001", EVERY_VERB)).unwrap();
        w.admin(grant(&shopper(), "SAV_001", EVERY_VERB)).unwrap();
        w.approved(transfer("10", "k1"));
        w.approved(transfer("10", "k2"));
        assert_eq!(w.call(transfer("10", "k3")), Err(Refusal::VelocityExceeded));
        assert_eq!(w.call(transfer_to(Some("SAV_001"), "CHK_001", "1", "k3")), Err(Refusal::VelocityExceeded));
        let approved = |outcome| matches!(outcome, Ok(Effect::Approved { .. }));
        assert!(approved(w.call_as(&other, transfer("10", "k1"))));
        let asked = w.call_as(&other, transfer("0.01", "k2"));
        assert!(matches!(asked, Ok(Effect::RequiresApproval { .. })), "{asked:?}");
        w.adds_up();
    };
    many_in_one_commit_are_counted_one_after_the_other: |w| {
        let w = &under(w, json!([{"name": "slow", "velocity": [{"count": 3, "window_s": 3600, "of": "agent"}]}]));
        let calls = |from: Option<&str>| {
            let commands = (0..5).map(|number| {
                let key = format!("{from:?}{number}").replace(|c: char| !c.is_alphanumeric(), "");
                w.tool_command(&shopper(), transfer_to(from, "SAV_001", "1", &key))
            });
            w.store.apply(commands.collect()).unwrap()
        };
        let refused = |decisions: Vec<Decision>| {
            decisions.iter().map(|decision| decision.outcome.is_err()).collect::<Vec<_>>()
        };
        assert_eq!(refused(calls(Some("CHK_001"))), [false, false, false, true, true]);
        w.later(3_600_000 + 180_001);
        // Room for the next holds.
        w.sweep();
        // The account is found by the decision.
        assert_eq!(refused(calls(None)), [false, false, false, true, true]);
        w.adds_up();
    };
    hours_are_those_of_the_account_that_pays: |w| {
        let office = json!([{"days": ["fri"], "from": "09:00", "to": "17:00"}]);
        let w = &under(w, json!([{"name": "office", "hours": office}]));
        for (account, zone) in [("ZRH_001", "Europe/Zurich"), ("NYC_001", "America/New_York")] {
            let zone: Zone = zone.parse().unwrap();
            w.admin(Act::OpenAccount(NewAccount { zone, ..new_account(account, "OWN_001", Some("100")) })).unwrap();
            w.admin(grant(&shopper(), account, EVERY_VERB)).unwrap();
        }
        // 08:00 in Greenwich
        assert_eq!(w.call(transfer("1", "k")), Err(Refusal::OutsideHours));
        assert_eq!(w.call(transfer_to(Some("NYC_001"), "SAV_001", "1", "k")), Err(Refusal::OutsideHours));
        let early = w.approved(transfer_to(Some("ZRH_001"), "SAV_001", "1", "k"));
        w.later(9 * 3_600_000);
        w.approved(transfer_to(Some("NYC_001"), "SAV_001", "1", "k2"));
        assert_eq!(w.call(transfer_to(Some("ZRH_001"), "SAV_001", "1", "k3")), Err(Refusal::OutsideHours));
        assert!(matches!(w.call(cancel(&early)), Ok(Effect::Cancelled { .. })));
    };
    an_execution_asks_again_whom_the_rules_permit_and_not_when_or_how_much: |w| {
        w.bank();
        let id = w.approved(transfer("10", "k"));
        let with = |transactions: Value| {
            let transactions = serde_json::from_value(transactions).unwrap();
            let rules = Arc::new(Rules { transactions, ..rules() });
            World { rules, ids: w.ids.clone(), now: w.now.clone(), store: w.store }
        };
        w.ids.set(w.ids.get() + 100);
        let elsewhere = with(json!([{"name": "r", "payees_allowed": ["CHK_002"]}]));
        assert_eq!(elsewhere.call(execute_transfer(&id, "SAV_001", "10")), Err(Refusal::PayeeNotAllowed));
        w.ids.set(w.ids.get() + 100);
        let mondays = json!([{"days": ["mon"], "from": "00:00", "to": "24:00"}]);
        let stricter = with(json!([{"name": "r", "hours": mondays, "deny_above": dollars("1"),
            "velocity": [{"count": 1, "window_s": 60, "of": "agent"}]}]));
        stricter.posted(execute_transfer(&id, "SAV_001", "10"));
    };
    counts_that_no_window_sees_are_forgotten_and_others_are_not: |w| {
        let w = &under(w, json!([{"name": "slow", "velocity": [{"count": 1, "window_s": 60, "of": "agent"}]}]));
        w.approved(transfer("1", "k1"));
        let now = || UnixMillis(w.now.get());
        assert_eq!(w.store.forget_keys(now(), 10).unwrap(), 0);
        assert_eq!(w.call(transfer("1", "k2")), Err(Refusal::VelocityExceeded));
        w.later(2 * DAY_MS);
        assert_eq!(w.store.forget_keys(now(), 10).unwrap(), 1);
        assert_eq!(w.store.forget_keys(now(), 10).unwrap(), 0);
        w.approved(transfer("1", "k2"));
    };
    turns_of_a_limit_are_taken_at_once_and_then_one_by_one: |w| {
        let turn = |name: &str| Turn { name: name.into(), interval_us: 600_000_000, burst: 3, now: UnixMillis(START) };
        for _ in 0..3 {
            assert_eq!(w.store.take_turn(turn("agent a")).unwrap(), None);
        }
        for _ in 0..2 {
            let wait = w.store.take_turn(turn("agent a")).unwrap().unwrap();
            assert!((1..=600).contains(&wait.as_secs()), "{wait:?}");
        }
        assert_eq!(w.store.take_turn(turn("agent b")).unwrap(), None);
        // An instant is over before the next one is asked for, by whatever clock.
        let short = || Turn { interval_us: 1, burst: 1, ..turn("short") };
        assert!((0..10_000).any(|_| w.store.take_turn(short()).unwrap().is_none()));
    };
    turns_that_were_taken_while_a_clock_was_ahead_shut_nobody_out: |w| {
        let at = |now: i64| Turn { name: "role r".into(), interval_us: 60_000_000, burst: 2, now: UnixMillis(now) };
        let takes = |now: i64| w.store.take_turn(at(now)).unwrap();
        assert_eq!(takes(START + 3_600_000), None);
        assert_eq!(takes(START), None, "an hour back");
        let wait = takes(START).expect("one is there, not all of them");
        assert!(wait.as_secs() <= 60, "{wait:?}");
        // Callers' instants come in any order: no turn is taken twice because one is a little behind.
        assert!(takes(START - 500).is_some());
    };
}
