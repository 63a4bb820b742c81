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

pub(super) fn open_account(name: &str) -> Command {
    Command {
        stamp: Stamp {
            request_id: "req_00000000000000000000000001".parse().unwrap(),
            wall: UnixMillis(1),
            boot_ms: 0,
            leaf_salt: [0; 32],
            nonce: None,
            signature: None,
            commit_before: None,
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

#[test]
fn open_transactions_are_found_by_their_indexes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite3");
    drop(SqliteStore::open(&path).unwrap());
    let connection = Connection::open(&path).unwrap();
    let plan = |sql: &str| -> String {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.query_map([], |row| row.get::<_, String>(3)).unwrap();
        steps.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    };
    let (open, lapsing) = (schema::OPEN, schema::LAPSING);
    let of_agent = format!("SELECT count(*) FROM transactions WHERE agent = 'a' AND debit = 'b' AND {open}");
    assert!(plan(&of_agent).contains("INDEX transactions_open_by_agent (agent=? AND debit=?)"), "{}", plan(&of_agent));
    let all = format!("SELECT * FROM transactions WHERE {open} AND state <> 'submitted' ORDER BY expires");
    assert!(plan(&all).contains("INDEX transactions_open_by_agent"), "{}", plan(&all));
    let old = format!("SELECT * FROM transactions WHERE {lapsing} AND expires <= 1 ORDER BY expires LIMIT 5");
    assert!(plan(&old).contains("INDEX transactions_open_by_expiry (expires<?)"), "{}", plan(&old));
    // A row is written without a table made for the indexes' conditions.
    let mut insert =
        connection.prepare("EXPLAIN INSERT INTO transactions (name, state) VALUES ('n', 'approved')").unwrap();
    let steps = insert.query_map([], |row| row.get::<_, String>(1)).unwrap().map(Result::unwrap);
    assert_eq!(steps.filter(|step| step == "OpenEphemeral").count(), 0);
}

#[test]
fn leaves_get_their_places_in_the_order_of_their_rows() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("store.sqlite3")).unwrap();
    store.apply(["A", "B", "C"].map(open_account).to_vec()).unwrap();
    let step = |size_before: u64, rows: &[i64]| {
        let size = size_before + rows.len() as u64;
        let checkpoint = CheckpointRecord { size, root: Sha256([0; 32]), note: vec![], signed: None };
        SequenceStep { size_before, rows: rows.to_vec(), nodes: vec![], checkpoint }
    };
    for skipping in [&[2][..], &[1, 3], &[2, 1], &[1, 1]] {
        assert!(matches!(store.sequence(step(0, skipping)), Err(StoreFault::NotRecorded(_))), "{skipping:?}");
    }
    store.sequence(step(0, &[1])).unwrap();
    assert!(store.sequence(step(1, &[3])).is_err());
    assert_eq!(store.unsequenced(10).unwrap().iter().map(|leaf| leaf.row).collect::<Vec<_>>(), [2, 3]);
    store.sequence(step(1, &[2, 3])).unwrap();
    assert!(store.unsequenced(10).unwrap().is_empty());
}
