//! Days: an account's limit begins anew at its own midnight, and what is returned goes back to the day it was taken from.

use super::calendar::{self, HOUR_MS, day, next_midnight, utc};
use super::steps::money;
use crate::store::world::*;
use countersign::kernel::command::*;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::*;
use countersign::kernel::zone::Zone;
use proptest::prelude::*;

const ZONES: [&str; 6] =
    ["UTC", "Asia/Kathmandu", "America/Phoenix", "Europe/Zurich", "America/New_York", "Pacific/Auckland"];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn the_kernel_counts_the_days_that_the_tests_count(
        zone in proptest::sample::select(ZONES.to_vec()),
        at in utc(2020, 1, 1, 0, 0)..utc(2036, 12, 31, 0, 0),
    ) {
        let kernel: Zone = zone.parse().unwrap();
        let midnight = next_midnight(zone, at);
        for at in [at, midnight - 1, midnight] {
            prop_assert_eq!(i64::from(kernel.day(UnixMillis(at)).0), day(zone, at), "{} {}", zone, at);
        }
    }
}

/// An account with a limit of 100 a day in this zone, at this instant.
fn limited(w: &World<'_>, zone: &str, at: i64) {
    w.now.set(at);
    let new = NewAccount {
        day_max: Some(usd("100")),
        zone: zone.parse().unwrap(),
        ..new_account("LOCAL", "OWN_001", Some("5000"))
    };
    w.admin(Act::OpenAccount(new)).unwrap();
    w.admin(open("OTHER", "OWN_001", None)).unwrap();
    let Act::AddGrant { agent, account, owner, verbs, per_transaction_max, .. } =
        grant(&traveller(), "LOCAL", EVERY_VERB)
    else {
        panic!()
    };
    let expires = UnixMillis(2 * START);
    w.admin(Act::AddGrant { agent, account, owner, verbs, per_transaction_max, expires }).unwrap();
}

fn traveller() -> AgentPrincipal {
    AgentPrincipal { not_after: UnixMillis(2 * START), ..shopper() }
}

fn pay(w: &World<'_>, amount: &str) -> Outcome {
    let key = w.id("k");
    w.call_as(&traveller(), transfer_to(Some("LOCAL"), "OTHER", amount, &key))
}

fn paid(w: &World<'_>, amount: &str) -> TransactionId {
    match pay(w, amount).unwrap() {
        Effect::Approved { transaction_id, .. } => transaction_id,
        other => panic!("{other:?}"),
    }
}

const ABOVE: Outcome = Err(Refusal::AccountDayLimitExceeded);

#[test]
fn the_limit_begins_anew_at_the_accounts_own_midnight_also_when_clocks_change() {
    // Zone, an instant on the day, its length in hours.
    let table = [
        ("UTC", utc(2026, 11, 21, 12, 0), 24),
        ("Europe/Zurich", utc(2026, 11, 21, 12, 0), 24),
        ("Europe/Zurich", utc(2026, 3, 29, 12, 0), 23),
        ("Europe/Zurich", utc(2026, 10, 25, 12, 0), 25),
        ("America/New_York", utc(2026, 7, 4, 12, 0), 24),
        ("America/New_York", utc(2026, 3, 8, 12, 0), 23),
        ("America/New_York", utc(2026, 11, 1, 12, 0), 25),
        ("Pacific/Auckland", utc(2026, 11, 21, 0, 0), 24),
        ("Pacific/Auckland", utc(2026, 9, 27, 0, 0), 23),
        ("Pacific/Auckland", utc(2026, 4, 5, 0, 0), 25),
    ];
    for (zone, on_the_day, hours) in table {
        on_every_store(|w| {
            let midnight = next_midnight(zone, on_the_day);
            let begins = next_midnight(zone, on_the_day - 25 * HOUR_MS);
            let begins = if day(zone, begins) == day(zone, on_the_day) { begins } else { next_midnight(zone, begins) };
            assert_eq!((midnight - begins) / HOUR_MS, hours, "{zone}");
            limited(w, zone, begins - 1);
            paid(w, "100");
            assert_eq!(pay(w, "0.01"), ABOVE, "{zone}: the day before");
            w.now.set(begins);
            paid(w, "60");
            assert_eq!(pay(w, "40.01"), ABOVE, "{zone}: the first instant of the day");
            w.now.set(midnight - 1);
            assert_eq!(pay(w, "40.01"), ABOVE, "{zone}: the last instant of the day");
            paid(w, "40");
            assert_eq!(pay(w, "0.01"), ABOVE, "{zone}");
            w.now.set(midnight);
            paid(w, "100");
            assert_eq!(pay(w, "0.01"), ABOVE, "{zone}: the day after");
        });
    }
}

#[test]
fn what_is_returned_after_midnight_goes_back_to_the_day_it_was_taken_from() {
    type Return = fn(&World<'_>, &TransactionId, &ApprovalId);
    let ways: [(&str, Return); 4] = [
        ("cancelled", |w, id, _| drop(w.call_as(&traveller(), cancel(id)).unwrap())),
        ("denied", |w, _, approval| drop(w.answer_approval(approval, Verdict::Deny).unwrap())),
        ("expired", |w, _, _| {
            w.later(DAY_MS / 2);
            assert_eq!(w.sweep(), 1);
        }),
        ("voided", |w, _, _| {
            w.revoke_shopper().unwrap();
            assert_eq!(w.sweep(), 1);
        }),
    ];
    for (way, give_back) in ways {
        on_every_store(|w| {
            let zone = "Pacific/Auckland";
            let midnight = next_midnight(zone, utc(2026, 11, 21, 0, 0));
            limited(w, zone, midnight - 1);
            let strict = Rules { unattended_per_transaction: usd("10"), ..rules() };
            let call = transfer_to(Some("LOCAL"), "OTHER", "70", "asked");
            let mut command = w.tool_command(&traveller(), call);
            let Act::Tool { rules: under, .. } = &mut command.act else { panic!() };
            *under = std::sync::Arc::new(strict);
            let asked = w.store.apply(vec![command]).unwrap().pop().unwrap().outcome;
            let Ok(Effect::RequiresApproval { approval_id, transaction_id, .. }) = asked else { panic!("{asked:?}") };
            let by_hand = |amount: i64| {
                let reference = w.id("b").parse().unwrap();
                let credit = "fees:USD".into();
                w.system(Act::Transfer { debit: "LOCAL".into(), credit, amount: money(amount, "USD"), reference })
            };
            w.now.set(midnight + HOUR_MS);
            assert!(by_hand(8_000).outcome.is_ok());
            give_back(w, &transaction_id, &approval_id);
            assert_eq!(by_hand(2_001).outcome, ABOVE, "{way}: nothing came back to the new day");
            w.now.set(midnight - 1);
            assert_eq!(by_hand(10_001).outcome, ABOVE, "{way}: all came back to the old day, and no more");
            assert!(by_hand(10_000).outcome.is_ok(), "{way}");
            w.adds_up();
        });
    }
}

#[test]
fn an_agents_unattended_day_is_that_of_the_account_it_pays_from() {
    on_every_store(|w| {
        let zone = "America/New_York";
        let midnight = next_midnight(zone, utc(2026, 11, 1, 12, 0));
        w.now.set(midnight - 1);
        let new = NewAccount { zone: zone.parse().unwrap(), ..new_account("LOCAL", "OWN_001", Some("20000")) };
        w.admin(Act::OpenAccount(new)).unwrap();
        w.admin(open("OTHER", "OWN_001", None)).unwrap();
        w.admin(grant(&shopper(), "LOCAL", EVERY_VERB)).unwrap();
        let paid = |amount: &str| w.call(transfer_to(Some("LOCAL"), "OTHER", amount, &w.id("k"))).unwrap();
        let alone = |effect: &Effect| matches!(effect, Effect::Approved { .. });
        for amount in ["2000", "2000"] {
            assert!(alone(&paid(amount)));
        }
        assert!(!alone(&paid("1000.01")), "above by a cent");
        assert!(alone(&paid("1000")));
        assert_ne!(day("UTC", w.now.get()), day(zone, w.now.get()), "Greenwich is elsewhere already");
        w.now.set(midnight);
        assert!(alone(&paid("2000")));
    });
}

#[test]
fn the_tests_calendar_knows_a_few_dates_by_heart() {
    assert_eq!(utc(2026, 11, 21, 0, 0), 1_795_219_200_000);
    assert_eq!(calendar::utc(2027, 1, 15, 8, 0), START);
    assert_eq!(day("UTC", utc(2000, 3, 1, 0, 0)), 11_017);
    assert_eq!(day("Pacific/Auckland", utc(2026, 11, 20, 11, 0)), day("UTC", utc(2026, 11, 21, 0, 0)));
}
