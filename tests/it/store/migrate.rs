//! Stores with the schema of an older program: every migration in turn, with rows in them.

use std::path::Path;

use super::world::*;
use crate::support::postgres;
use countersign::kernel::breaker::Cause;
use countersign::kernel::command::*;
use countersign::kernel::ledger::TransactionState;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::*;
use countersign::store::postgres::PostgresStore;
use countersign::store::sqlite::SqliteStore;
use countersign::store::{Listing, Schema, Store, TransactionQuery};

const SQLITE_1: &str = include_str!("old/sqlite_1.sql");
const SQLITE_2: &str = include_str!("old/sqlite_2.sql");
const POSTGRES_1: &str = include_str!("old/postgres_1.sql");

fn written(path: &Path, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

fn one_in(w: &World<'_>, state: TransactionState) -> TransactionId {
    let query = TransactionQuery { state: Some(state), limit: 10, ..TransactionQuery::default() };
    w.store.transactions(&query).unwrap()[0].transaction.transaction_id.clone()
}

/// What was in the book is in it, and the book goes on.
fn goes_on(store: &dyn Store) {
    let w = World::new(store);
    w.adds_up();
    assert_eq!(w.balance("CHK_001"), ("107.00".into(), "35.00".into()));
    assert_eq!(w.balance("SAV_001"), ("0.00".into(), "0.00".into()));
    let Ok(Effect::Posted(before)) = w.admin(incoming("CHK_001", "7", "r")) else { panic!("not posted") };
    assert!(before.repeated, "its key is known");
    // An agent's key too: the one that waits is found again, not made anew.
    let waiting = w.approved(transfer("5", "waiting"));
    assert_eq!(w.balance("CHK_001").1, "35.00");
    w.call(cancel(&waiting)).unwrap();
    w.admin(incoming("CHK_001", "1", "new")).unwrap();
    assert_eq!(w.balance("CHK_001"), ("108.00".into(), "30.00".into()));
    w.adds_up();
}

/// The order that waited for the core's word gets it, and why it is no.
fn the_core_answers(store: &dyn Store) {
    let w = World::new(store);
    let ordered = one_in(&w, TransactionState::Submitted);
    assert_eq!(store.outbox(Some(&ordered), 10).unwrap()[0].verb, CoreVerb::Settle);
    let word = CoreWord::Refused("account_blocked".into());
    let act = Act::CoreAnswered { transaction_id: ordered.clone(), verb: CoreVerb::Settle, word };
    w.system(act).outcome.unwrap();
    assert_eq!(store.core_refusals(&ordered).unwrap()[0].reason, "account_blocked");
    assert_eq!(w.balance("CHK_001").1, "0.00");
    w.adds_up();
}

fn waits(schema: &Schema, versions: std::ops::Range<i64>) {
    assert_eq!((schema.found, schema.known), (versions.start, versions.end));
    assert_eq!(i64::try_from(schema.waiting.len()).unwrap(), versions.end - versions.start);
}

#[test]
fn a_file_of_every_older_version_is_brought_up_to_date_with_what_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    for (version, sql) in [(1, SQLITE_1), (2, SQLITE_2)] {
        let path = directory.path().join(format!("{version}.sqlite3"));
        written(&path, sql);
        waits(&SqliteStore::schema(&path).unwrap(), version..20);
        let store = SqliteStore::open(&path).unwrap();
        waits(&SqliteStore::schema(&path).unwrap(), 20..20);
        goes_on(&*store);
        if version == 2 {
            the_core_answers(&*store);
        }
        drop(store);
        // Nothing is done twice.
        World::new(&*SqliteStore::open(&path).unwrap()).adds_up();
    }
}

const STOPPED: &str = "INSERT INTO breaker (one, reason, by, since) VALUES (1, 'before', 'ada', 5)";

/// A bank that was stopped stays stopped, by the person who did it; a person lets it go on.
fn stays_stopped(store: &dyn Store) {
    let w = World::new(store);
    let breaker = store.listing(Listing::Breaker).unwrap().remove(0);
    let row = |key: &str| breaker["causes"][0][key].as_str().unwrap().to_owned();
    assert_eq!((row("cause"), row("reason"), row("by")), ("operator".into(), "before".into(), "ada".into()));
    w.ids.set(5_000);
    assert!(matches!(w.call(transfer("1", "stopped")), Ok(Effect::QueuedManual { .. })));
    let lift = |component: &str| {
        w.decision(
            Actor::System { component: component.into() },
            Act::SetBreaker { cause: Cause::Operator, reason: None, node: None },
        )
    };
    assert_eq!(lift("breaker").outcome, Err(Refusal::OperatorNotPermitted));
    w.admin(Act::SetBreaker { cause: Cause::Operator, reason: None, node: None }).unwrap();
    w.call(transfer("1", "going-on")).unwrap();
}

#[test]
fn a_bank_that_an_older_program_stopped_stays_stopped_by_a_person() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite3");
    written(&path, SQLITE_2);
    written(&path, STOPPED);
    stays_stopped(&*SqliteStore::open(&path).unwrap());
    let database = postgres::shared().database();
    database.sql(POSTGRES_1);
    database.sql(STOPPED);
    stays_stopped(&*database.open());
}

#[test]
fn a_database_of_an_older_version_is_brought_up_to_date_with_what_is_in_it() {
    let database = postgres::shared().database();
    database.sql(POSTGRES_1);
    let endpoint = postgres::endpoint(&database.settings());
    waits(&PostgresStore::schema(&endpoint).unwrap(), 1..17);
    let store = database.open();
    waits(&PostgresStore::schema(&endpoint).unwrap(), 17..17);
    goes_on(&*store);
    the_core_answers(&*store);
    drop(store);
    World::new(&*database.open()).adds_up();
}
