//! PostgreSQL: daemons killed, the server restarted under load, and failed over to a synchronous standby.

#[allow(dead_code, reason = "the integration tests use the rest")]
#[path = "../it/support/postgres.rs"]
pub mod support;

use crate::bank::{Bank, Options};
use crate::seed::{Chance, runs};
use support::{Database, Server};

/// Durable, as a bank's server is; every crash recovers from the write-ahead log.
const DURABLE: &str = "fsync = on\nsynchronous_commit = on\nfull_page_writes = on\nmax_connections = 100";
/// A server that is started again takes seconds: callers ask on.
const FAULTS: u32 = 2_000;

fn bank(name: &str, url: String) -> Bank {
    Bank::with_store(name, tempfile::tempdir().unwrap(), url)
}

fn url(database: &Database<'_>) -> String {
    database.settings().url
}

fn load(callers: u64) -> Options {
    Options { callers, faults: FAULTS, ..Options::default() }
}

fn comes_to_its_end(bank: &mut Bank) {
    assert!(bank.run(&Options { steps: Some(10), ..load(2) }).success(), "{}", bank.context());
    bank.is_sound();
}

#[test]
fn daemons_that_share_a_database_are_killed_at_random_and_nothing_acknowledged_is_lost() {
    let server = Server::start(DURABLE);
    let mut chance = Chance::new("postgres");
    let (mut kills, kills_wanted) = (0, runs(8));
    while kills < kills_wanted {
        let database = server.database();
        let mut bank = bank("postgres", url(&database));
        let core = chance.below(2) == 0;
        for _ in 0..8.min(kills_wanted - kills) {
            // Both ask again what nobody answered, at the same time.
            let two = bank.start_several(&Options { core, ..load(1 + chance.below(4)) }, 2);
            assert!(two.note_some(&mut bank, 1 + chance.below(700)), "{}", bank.context());
            two.kill(0);
            assert!(two.note_some(&mut bank, 1 + chance.below(100)), "{}", bank.context());
            two.kill(1);
            two.note_all(&mut bank);
            kills += 2;
            bank.is_sound();
        }
        comes_to_its_end(&mut bank);
    }
    println!("{kills} kills");
}

#[test]
fn a_server_that_is_restarted_under_load_loses_nothing_that_was_acknowledged() {
    let server = Server::start(DURABLE);
    let database = server.database();
    let mut bank = bank("postgres-restarted", url(&database));
    let two = bank.start_several(&load(3), 2);
    for _ in 0..runs(1).min(30) {
        assert!(two.note_decisions(&mut bank, 200), "{}", bank.context());
        server.restart();
    }
    assert!(two.note_decisions(&mut bank, 200), "{}", bank.context());
    two.kill(0);
    two.kill(1);
    two.note_all(&mut bank);
    bank.is_sound();
    comes_to_its_end(&mut bank);
}

#[test]
fn a_synchronous_standby_that_takes_over_has_everything_that_was_acknowledged() {
    for _ in 0..runs(1).min(10) {
        let primary = Server::start(DURABLE);
        let database = primary.database();
        let standby = primary.synchronous_standby();
        let both = format!("127.0.0.1:{},127.0.0.1:{}", primary.port(), standby.port());
        let mut bank = bank("postgres-failed-over", format!("postgres://postgres@{both}/{}", database.name));
        let two = bank.start_several(&load(3), 2);
        assert!(two.note_decisions(&mut bank, 400), "{}", bank.context());
        primary.stop();
        standby.promote();
        // The same daemons find the server that is written to now.
        assert!(two.note_decisions(&mut bank, 400), "{}", bank.context());
        two.kill(0);
        two.kill(1);
        two.note_all(&mut bank);
        bank.store = format!("postgres://postgres@127.0.0.1:{}/{}", standby.port(), database.name);
        bank.is_sound();
        comes_to_its_end(&mut bank);
        // The database goes with the servers; the one that made it is down.
        std::mem::forget(database);
    }
}
