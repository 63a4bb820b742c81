//! The store's contract: sentences that every implementation keeps, run on each.

macro_rules! sentences {
    ($($name:ident: $sentence:expr;)*) => {
        $(#[test] fn $name() { crate::store::world::on_every_store($sentence); })*

        /// All of them, one after the other.
        #[allow(dead_code)]
        pub fn each() { $($name();)* }
    };
}

mod approvals;
mod authorize;
mod book;
mod check;
mod core;
mod execute;
mod faulty;
mod gates;
mod keys;
mod limits;
mod log;
pub mod mandates;
mod migrate;
mod notices;
mod policies;
mod postgres;
mod queue;
mod races;
mod random;
mod revocation;
mod sealed;
mod signers;
mod signing;
mod statements;
mod stopped;
mod together;
pub mod vault;
mod witness;
pub mod world;

/// The sentences about deciding on payments.
pub fn each_about_deciding() {
    approvals::each();
    authorize::each();
    execute::each();
    gates::each();
    limits::each();
    mandates::each();
    policies::each();
    queue::each();
    stopped::each();
}

use countersign::store::StoreFault;
use countersign::store::sqlite::SqliteStore;

use world::{World, transfer};

#[test]
fn a_store_keeps_what_it_answered_and_refuses_a_newer_schema() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store/store.sqlite3");
    let store = SqliteStore::open(&path).unwrap();
    World::new(&*store).bank().approved(transfer("5", "k"));
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    let world = World::new(&*store);
    assert_eq!(world.balance("CHK_001"), ("5247.83".into(), "5.00".into()));
    world.adds_up();
    drop(store);
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(SqliteStore::open(&path), Err(StoreFault::SchemaTooNew { found: 99, .. })));
}
