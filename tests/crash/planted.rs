//! A suite that cannot fail proves nothing: with each mistake planted in the store it must turn red, by name.
//!
//! `cargo build --features planted-bugs --example ledger_load`, then
//! `cargo test --features planted-bugs --test crash planted`.

use std::collections::BTreeSet;

use crate::bank::{Bank, Options};
use crate::checker::Found;
use crate::postgres::support::{Database, Server};
use crate::power::{Unsynced, cut_everywhere};
use crate::revocation;
use crate::seed::seed;

/// Lives that a mistake may take to show; each shows within one or two.
const LIVES_MAX: u32 = 12;

fn with(mistake: &str, options: Options) -> Options {
    Options { environment: vec![("COUNTERSIGN_PLANTED_BUG".into(), mistake.into())], ..options }
}

fn names(found: Found) -> BTreeSet<String> {
    match found {
        Found::Sound(_) => BTreeSet::new(),
        Found::Differences(names, _) => names.into_iter().collect(),
    }
}

/// The same on each store.
fn turns_red(mistake: &str, expected: &str) {
    turns_red_on(mistake, expected, || (Bank::new("planted"), None));
    let server = Server::start("fsync = off");
    turns_red_on(mistake, expected, || {
        let database = server.database();
        let bank = Bank::with_store("planted", tempfile::tempdir().unwrap(), database.settings().url);
        (bank, Some(database))
    });
}

/// Lives of a bank under this mistake until the checker finds what it must.
fn turns_red_on<'s>(mistake: &str, expected: &str, new: impl Fn() -> (Bank, Option<Database<'s>>)) {
    let mut seen = BTreeSet::new();
    for life in 0..LIVES_MAX {
        let (bank, _database) = new();
        // Lives of one seed wish for the same.
        let mut bank = bank.with_seed(seed().wrapping_add(u64::from(life)));
        bank.run_and_kill(&with(mistake, Options { callers: 8, ..Options::default() }), 1_000);
        let ended = bank.run(&with(mistake, Options { steps: Some(40), ..Options::default() }));
        assert!(ended.success(), "{}", bank.context());
        seen.extend(names(bank.check()));
        if seen.contains(expected) {
            return;
        }
    }
    panic!("{mistake} was never told as {expected}, only as {seen:?}");
}

#[test]
fn a_limit_that_is_read_outside_the_commit_turns_it_red() {
    turns_red("limit_outside_commit", "day_limit_exceeded");
}

#[test]
fn a_key_that_is_not_unique_turns_it_red() {
    for expected in ["key_used_twice", "answer_changed"] {
        turns_red("key_not_unique", expected);
    }
}

#[test]
fn a_commit_that_is_not_synced_turns_it_red_when_the_power_goes_and_only_then() {
    let mut lost = BTreeSet::new();
    let options = with("synchronous_normal", Options { callers: 1, steps: Some(12), ..Options::default() });
    cut_everywhere(&options, 40, |after, _, unsynced| match unsynced {
        Unsynced::Kept => after.is_sound(),
        Unsynced::Lost | Unsynced::Torn => lost.extend(names(after.check())),
    });
    assert!(lost.contains("acknowledged_leaf_lost"), "{lost:?}");
}

#[test]
fn a_commit_that_a_server_did_not_sync_turns_it_red_when_the_server_goes() {
    // Nothing is written out for as long as it takes to go; then it is as if the power had gone.
    let server = Server::start("wal_writer_delay = 10s\nwal_writer_flush_after = 0");
    let options = Options { callers: 4, faults: 2_000, ..Options::default() };
    let mut seen = BTreeSet::new();
    for _ in 0..LIVES_MAX {
        let database = server.database();
        let mut bank = Bank::with_store("planted-sync", tempfile::tempdir().unwrap(), database.settings().url);
        let one = bank.start_several(&with("synchronous_normal", options.clone()), 1);
        assert!(one.note_decisions(&mut bank, 200), "{}", bank.context());
        server.restart();
        one.kill(0);
        one.note_all(&mut bank);
        seen.extend(names(bank.check()));
        if seen.contains("acknowledged_leaf_lost") {
            return;
        }
    }
    panic!("a server that did not sync was never told as acknowledged_leaf_lost, only as {seen:?}");
}

#[test]
fn a_revocation_that_is_not_kept_turns_it_red() {
    let told = ["it was answered as recorded, and is not", "the agent was served again"];
    revocation::turns_red("revocation_not_kept", &told);
}

#[test]
fn a_revocation_that_is_there_in_part_turns_it_red() {
    revocation::turns_red("revocation_half", &["revocation_lost"]);
}

#[test]
fn without_a_mistake_the_same_build_stays_green() {
    let mut bank = Bank::new("planted");
    bank.run_and_kill(&with("none", Options { callers: 8, ..Options::default() }), 1_000);
    assert!(bank.run(&with("none", Options { steps: Some(40), ..Options::default() })).success());
    bank.is_sound();
}
