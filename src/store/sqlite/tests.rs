//! COMMIT that fails, and COMMIT that fails after it took hold.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::kernel::command::{Act, Actor, Effect, NewAccount, Stamp};
use crate::kernel::types::UnixMillis;
use crate::kernel::zone::Zone;

fn io_error() -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
    rusqlite::Error::SqliteFailure(code, Some("planted".into()))
}

fn open_account(name: &str) -> Command {
    Command {
        stamp: Stamp {
            request_id: "req_00000000000000000000000001".parse().unwrap(),
            wall: UnixMillis(1),
            boot_ms: 0,
            leaf_salt: [0; 32],
            nonce: None,
        },
        actor: Actor::System { component: "test".into() },
        act: Act::OpenAccount(NewAccount {
            account: name.parse().unwrap(),
            owner: "O".parse().unwrap(),
            currency: "USD".parse().unwrap(),
            opening: None,
            overdraft: None,
            day_max: None,
            zone: Zone::UTC,
        }),
    }
}

fn outcome_after(commit: writer::CommitStep, failing: &AtomicBool) -> Effect {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open_with(&directory.path().join("store.sqlite3"), Keep::default(), commit).unwrap();
    failing.store(true, Ordering::SeqCst);
    assert!(matches!(store.apply(vec![open_account("A")]), Err(StoreFault::OutcomeUnknown(_))));
    store.apply(vec![open_account("A")]).unwrap().pop().unwrap().outcome.unwrap()
}

#[test]
fn after_a_failed_commit_the_store_reopens_and_a_repeat_learns_that_nothing_happened() {
    static FAILING: AtomicBool = AtomicBool::new(false);
    fn fails(connection: &Connection) -> rusqlite::Result<()> {
        if FAILING.swap(false, Ordering::SeqCst) { Err(io_error()) } else { writer::commit(connection) }
    }
    assert_eq!(outcome_after(fails, &FAILING), Effect::Done { changed: true });
}

#[test]
fn after_a_commit_that_failed_but_persisted_a_repeat_learns_that_it_happened() {
    static FAILING: AtomicBool = AtomicBool::new(false);
    fn persists(connection: &Connection) -> rusqlite::Result<()> {
        writer::commit(connection)?;
        if FAILING.swap(false, Ordering::SeqCst) { Err(io_error()) } else { Ok(()) }
    }
    assert_eq!(outcome_after(persists, &FAILING), Effect::Done { changed: false });
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite3");
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    assert!(matches!(SqliteStore::open(&path), Err(StoreFault::NotRecorded(_))));
}
