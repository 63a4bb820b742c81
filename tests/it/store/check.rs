//! The ledger check: what somebody did behind the product's back is found, by name, on both stores.

use super::world::*;
use countersign::kernel::command::*;
use countersign::kernel::ledger::FeeRule;
use countersign::kernel::ledger::TransactionKind;

use countersign::store::sqlite::SqliteStore;
use countersign::store::{LedgerCheck, Rule, StatementQuery, Store};

/// What is done to the book, the rule that it breaks, and on what it is told.
const DEEDS: &[(&str, Rule, &str)] = &[
    ("UPDATE accounts SET balance = balance + 1 WHERE name = 'CHK_001'", Rule::Balance, "CHK_001"),
    ("UPDATE accounts SET balance = balance - 1 WHERE name = 'clearing:USD'", Rule::Balance, "clearing:USD"),
    ("UPDATE accounts SET held = held + 1 WHERE name = 'SAV_001'", Rule::Held, "SAV_001"),
    ("UPDATE accounts SET held = held - 1 WHERE name = 'CHK_001'", Rule::Held, "CHK_001"),
    ("UPDATE accounts SET newest_entry = newest_entry - 1 WHERE name = 'CHK_001'", Rule::Chain, "CHK_001"),
    ("UPDATE entries SET previous = NULL WHERE previous IS NOT NULL", Rule::Chain, "CHK_001"),
    ("UPDATE entries SET amount = amount + 1 WHERE id = (SELECT max(id) FROM entries)", Rule::CurrencySum, "USD"),
    ("DELETE FROM entries WHERE id = (SELECT max(id) FROM entries)", Rule::PostingEntries, "txn_"),
    (
        "UPDATE entries SET account = (SELECT id FROM accounts WHERE name = 'SAV_001')
         WHERE id = (SELECT min(id) + 1 FROM entries)",
        Rule::PostingEntries,
        "txn_",
    ),
    (
        "UPDATE transactions SET amount = amount + 1 WHERE kind = 'purchase' AND state = 'executed'",
        Rule::PostingEntries,
        "txn_",
    ),
    ("UPDATE transactions SET fee = 0 WHERE fee > 0 AND state = 'executed'", Rule::PostingEntries, "txn_"),
    ("UPDATE transactions SET state = 'executed' WHERE state = 'approved'", Rule::PostedOnce, "txn_"),
    ("UPDATE transactions SET state = 'cancelled' WHERE kind = 'incoming'", Rule::PostedOnce, "txn_"),
    (
        "DELETE FROM entries WHERE transaction_row = (SELECT id FROM transactions WHERE kind = 'incoming')",
        Rule::PostedOnce,
        "txn_",
    ),
    (
        "INSERT INTO entries (id, account, transaction_row, amount, previous)
         SELECT id + 10000000, account, transaction_row, amount, id FROM entries
         WHERE transaction_row = (SELECT id FROM transactions WHERE kind = 'incoming')",
        Rule::PostedOnce,
        "txn_",
    ),
    ("UPDATE transactions SET leaf = NULL WHERE kind = 'incoming'", Rule::Leaf, "txn_"),
    ("UPDATE transactions SET leaf = (SELECT max(leaf) FROM transactions) WHERE leaf IS NOT NULL", Rule::Leaf, "txn_"),
    ("UPDATE transactions SET leaf = 99999999 WHERE kind = 'incoming'", Rule::Leaf, "txn_"),
    ("DELETE FROM batches", Rule::Batch, "txn_"),
    ("UPDATE counters SET minor = minor + 1 WHERE counter LIKE 'spiffe%'", Rule::Counter, "spiffe://"),
    ("UPDATE counters SET minor = minor - 1 WHERE counter = 'DAY_001'", Rule::Counter, "DAY_001"),
    ("DELETE FROM counters WHERE counter LIKE 'spiffe%'", Rule::Counter, "spiffe://"),
    ("INSERT INTO counters (counter, day, minor) VALUES ('DAY_001', 1, 5)", Rule::Counter, "DAY_001 on 1970-01-02"),
    ("UPDATE transactions SET amount = 190000 WHERE kind = 'reversal'", Rule::Reversals, "txn_"),
    (
        "INSERT INTO paces (name, slots, ends) VALUES ('slow/60/count/agent/spiffe://x', '1:1', 9)",
        Rule::Velocity,
        "slow/60",
    ),
    (
        "INSERT INTO paces (name, slots, ends) VALUES ('slow/60/USD/agent/spiffe://x', '2:1,1:1', 9)",
        Rule::Velocity,
        "slow/60",
    ),
    (
        "UPDATE transactions SET original = 'txn_00000000000000000000000000' WHERE kind = 'reversal'",
        Rule::Reversals,
        "txn_0",
    ),
];

/// A book with one of everything: a purchase, half of it reversed, a transfer that is open, a fee, a daily limit.
fn lived(w: &World<'_>) {
    w.bank();
    let bought = w.bought("k1");
    let (approval, _) = w.waiting(reversal(&bought.transaction_id, Some("900"), "k2"));
    w.answer_approval(&approval, Verdict::Approve).unwrap();
    w.admin(incoming("CHK_001", "10", "r1")).unwrap();
    w.approved(transfer("5", "k3"));
    let limited = NewAccount { day_max: Some(usd("100")), ..new_account("DAY_001", "OWN_001", Some("50")) };
    w.admin(Act::OpenAccount(limited)).unwrap();
    w.admin(grant(&shopper(), "DAY_001", EVERY_VERB)).unwrap();
    let fees = vec![FeeRule { kind: TransactionKind::Transfer, fixed: usd("0.25"), basis_points: 0 }];
    let rules = std::sync::Arc::new(Rules { fees, ..rules() });
    let act = |call: ToolCall| Act::Tool { call, rules: rules.clone(), fresh: w.fresh(), risk: None };
    let with_fee = transfer_to(Some("DAY_001"), "SAV_001", "20", "k4");
    let agent = || Actor::Agent(shopper());
    let Ok(Effect::Approved { transaction_id, .. }) = w.decision(agent(), act(with_fee)).outcome else { panic!() };
    let execute = ToolCall::ExecuteTransfer {
        transaction_id,
        from_account: Some("DAY_001".parse().unwrap()),
        to_account: "SAV_001".parse().unwrap(),
        amount: usd("20"),
    };
    assert!(matches!(w.decision(agent(), act(execute)).outcome, Ok(Effect::Posted(_))));
    w.adds_up();
}

fn is_told(check: &LedgerCheck, rule: Rule, on: &str, deed: &str) {
    let found =
        check.differences.iter().find(|difference| difference.rule == rule && difference.subject.starts_with(on));
    let found = found.unwrap_or_else(|| panic!("{deed}: {check:?}"));
    assert_ne!(found.kept, found.recomputed, "{deed}");
    assert_eq!(check.differences_found, check.differences.len() as u64, "{deed}");
}

#[test]
fn a_sound_book_says_what_was_looked_at() {
    on_every_store(|w| {
        lived(w);
        let check = w.store.check(&mut |_| {}).unwrap();
        assert!(check.is_ok(), "{check:?}");
        let counts = (check.postings, check.reversals, check.counters, check.entries);
        assert_eq!(counts, (8, 1, 2, 18));
        assert_eq!(check.currencies, ["USD"]);
    });
}

#[test]
fn every_deed_behind_the_products_back_is_found_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let sound = directory.path().join("sound.sqlite3");
    let store = SqliteStore::open(&sound).unwrap();
    lived(&World::new(&*store));
    drop(store);
    for (deed, rule, on) in DEEDS {
        let path = directory.path().join("spoiled.sqlite3");
        std::fs::copy(&sound, &path).unwrap();
        let hand = rusqlite::Connection::open(&path).unwrap();
        hand.execute_batch(&format!("PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF; {deed}"))
            .unwrap();
        assert!(hand.changes() > 0, "{deed}");
        drop(hand);
        let store = SqliteStore::open(&path).unwrap();
        is_told(&store.check(&mut |_| {}).unwrap(), *rule, on, deed);
        drop(store);
        for rest in ["spoiled.sqlite3", "spoiled.sqlite3-wal", "spoiled.sqlite3-shm"] {
            let _ = std::fs::remove_file(directory.path().join(rest));
        }
    }
    let told: Vec<Rule> = DEEDS.iter().map(|(_, rule, _)| *rule).collect();
    // No deed is needed for an account that is overdrawn: no balance or hold makes one without being found itself.
    let untold: Vec<Rule> = Rule::ALL.into_iter().filter(|rule| !told.contains(rule)).collect();
    assert_eq!(untold, [Rule::Overdrawn]);
}

#[test]
fn every_deed_behind_the_products_back_is_found_on_postgresql() {
    let database = crate::support::postgres::shared().database();
    let store = database.open();
    lived(&World::new(&*store));
    // A deed is undone by a copy of the tables that was made before.
    let tables = ["accounts", "entries", "transactions", "counters", "batches", "paces"];
    for table in tables {
        database.sql(&format!("CREATE TABLE sound_{table} AS TABLE {table}"));
    }
    for (deed, rule, on) in DEEDS {
        database.sql(deed);
        is_told(&store.check(&mut |_| {}).unwrap(), *rule, on, deed);
        for table in tables {
            database.sql(&format!("TRUNCATE {table} CASCADE; INSERT INTO {table} TABLE sound_{table}"));
        }
    }
    assert!(store.check(&mut |_| {}).unwrap().is_ok());
    drop(store);
}

#[test]
fn a_difference_in_a_hold_or_a_days_sum_names_its_transactions() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite3");
    let store = SqliteStore::open(&path).unwrap();
    let w = World::new(&*store);
    w.bank();
    let open = w.approved(transfer("5", "k1"));
    let hand = rusqlite::Connection::open(&path).unwrap();
    hand.execute_batch(
        "UPDATE accounts SET held = held + 1 WHERE name = 'CHK_001'; UPDATE counters SET minor = minor + 1",
    )
    .unwrap();
    let check = store.check(&mut |_| {}).unwrap();
    assert_eq!(check.differences_found, 2, "{check:?}");
    for difference in &check.differences {
        assert_eq!(difference.transactions, [open.to_string()], "{difference:?}");
    }
}

sentences! {
    a_statement_in_small_pages_is_the_statement_in_one: |w| {
        w.bank();
        for number in 0..7 {
            w.admin(incoming("CHK_001", "1.50", &format!("r{number}"))).unwrap();
            w.later(DAY_MS / 2);
        }
        let query = |limit, before, from, until| StatementQuery {
            account: "CHK_001".parse().unwrap(), from, until, before, limit,
        };
        let at = |days: i64| Some(countersign::kernel::types::UnixMillis(START + days * DAY_MS));
        for (from, until) in [(None, None), (at(1), at(3)), (None, at(2)), (at(2), None), (at(40), None), (None, at(-1))] {
            let whole = w.store.statement(&query(1_000, None, from, until)).unwrap().unwrap();
            assert_eq!(whole.next, None);
            let (mut lines, mut before, mut opening) = (vec![], None, None);
            loop {
                let page = w.store.statement(&query(2, before, from, until)).unwrap().unwrap();
                if lines.is_empty() {
                    assert_eq!(page.closing, whole.closing);
                }
                let sum: i64 = page.lines.iter().map(|line| line.amount).sum();
                assert_eq!(page.opening + sum, page.closing);
                // Pages meet, also when something is posted between them.
                assert!(opening.is_none_or(|opening| opening == page.closing));
                opening = Some(page.opening);
                lines.extend(page.lines);
                before = page.next;
                if before.is_none() {
                    break;
                }
                w.admin(incoming("SAV_001", "1", &w.id("between-"))).unwrap();
            }
            assert_eq!((lines, opening), (whole.lines, Some(whole.opening)));
        }
        // A place on another account is no place of this one.
        let other = StatementQuery { account: "SAV_001".parse().unwrap(), ..query(1, None, None, None) };
        let place = w.store.statement(&other).unwrap().unwrap().next;
        assert!(place.is_some() && w.store.statement(&query(1, place, None, None)).is_err());
    };
}
