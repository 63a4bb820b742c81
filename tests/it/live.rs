//! The live view's counts, read from logs of real decisions: once each, whenever a leaf gets its place.

use std::sync::Mutex;

use countersign::front::live::follow::Follower;
use countersign::kernel::command::{Act, Settlement};
use countersign::kernel::series::{Range, Series};
use countersign::kernel::types::UnixMillis;
use countersign::store::sqlite::SqliteStore;
use countersign::store::{LeafContent, Store};
use serde_json::{Value, json};

use crate::audit::memory::MemoryStore;
use crate::store::world::{self, World};

/// A follower with what it has counted.
struct View {
    follower: Follower,
    series: Mutex<Series>,
}

impl View {
    fn new() -> Self {
        Self { follower: Follower::new(Settlement::Embedded), series: Mutex::default() }
    }

    fn turn(&mut self, store: &dyn Store, now: i64) {
        self.follower.turn(store, &self.series, UnixMillis(now), &|| true).unwrap();
    }

    fn columns(&self, range: Range, now: i64) -> Value {
        self.series.lock().unwrap().columns(range, UnixMillis(now))
    }

    /// Postings, approvals and refusals within the hour.
    fn hour(&self, now: i64) -> (u64, u64, u64) {
        let told = self.columns(Range::Hour, now);
        let of = |column: &Value| column.as_array().map_or(0, |column| column.iter().filter_map(Value::as_u64).sum());
        (of(&told["posted"]), of(&told["decisions"]["approved"]), of(&told["decisions"]["refused"]))
    }
}

/// Gives every leaf its place.
fn sequenced(store: &dyn Store) {
    let rows: Vec<i64> = store.unsequenced(10_000).unwrap().iter().map(|leaf| leaf.row).collect();
    let before = store.newest_checkpoint().unwrap().map_or(0, |checkpoint| checkpoint.size);
    if !rows.is_empty() {
        store.sequence(world::step(before, rows)).unwrap();
    }
}

#[test]
fn every_decision_is_counted_once_whether_its_leaf_waits_or_has_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("store.sqlite3")).unwrap();
    let world = World::new(&*store);
    let now = || world.now.get();
    let mut view = View::new();
    // An empty log is known to be empty.
    view.turn(&*store, now());
    assert_eq!(view.follower.progress(), None);
    world.bank();
    let mut paid = 0;
    for number in 0..20 {
        let transaction = world.approved(world::transfer("1", &format!("k{number}")));
        world.later(500);
        world.call(world::execute_transfer(&transaction, "SAV_001", "1")).unwrap();
        // Told again: no other posting.
        world.call(world::execute_transfer(&transaction, "SAV_001", "1")).unwrap();
        world.call(world::buy_at("nobody.example", "FAKE", "9.99", &format!("n{number}"))).unwrap_err();
        paid += 1;
        // While the log stands still, as it does for a while, and when it goes on.
        match number % 4 {
            0 => view.turn(&*store, now()),
            1 => sequenced(&*store),
            2 => {
                view.turn(&*store, now());
                view.turn(&*store, now());
                sequenced(&*store);
            }
            _ => {}
        }
    }
    view.turn(&*store, now());
    view.turn(&*store, now());
    let later = now() + 2_000;
    view.turn(&*store, later);
    assert_eq!(view.hour(later), (paid, paid, paid));
    sequenced(&*store);
    view.turn(&*store, later);
    view.turn(&*store, later);
    assert_eq!(view.hour(later), (paid, paid, paid), "what had no place has one now, and is known");
    let told = view.columns(Range::Hour, later);
    assert_eq!(told["refusals"], json!([{ "name": "unauthorized_merchant", "count": paid }]));
    // Whoever begins now finds the same.
    let mut begun = View::new();
    begun.turn(&*store, later);
    assert_eq!((begun.hour(later), begun.follower.progress()), ((paid, paid, paid), None));
    let second = begun.columns(Range::Minute, later);
    assert_eq!(second["posted"], view.columns(Range::Minute, later)["posted"]);
    let freeze = json!({ "agent": world::shopper().spiffe_id });
    let freeze = Act::Freeze { whom: serde_json::from_value(freeze).unwrap(), reason: "drill".into() };
    world.admin(freeze).unwrap();
    sequenced(&*store);
    begun.turn(&*store, later);
    let alerts = begun.series.lock().unwrap().alerts(UnixMillis(later));
    assert_eq!((&alerts["known"], &alerts["items"][0]["kind"]), (&json!(1), &json!("freeze")));
    assert_eq!(alerts["items"][0]["said"], "drill");
}

/// A log of so many readings, one a second, each with its place.
fn readings(count: i64) -> (MemoryStore, i64) {
    let store = MemoryStore::default();
    let begin = 1_767_607_200_000;
    for number in 0..count {
        store.add_leaf(&json!({
            "actor": { "kind": "agent" }, "at": UnixMillis(begin + number * 1_000).rfc3339(), "reason": null, "request_id": "req_1",
            "result": { "status": "answered" }, "tool": "get_account_balance",
        }));
    }
    sequenced(&store);
    (store, begin)
}

#[test]
fn a_start_that_is_not_over_knows_as_far_as_it_has_read() {
    let (store, begin) = readings(1_500);
    let now = begin + 1_502_000;
    let mut view = View::new();
    let answered = |view: &View| {
        let told = view.columns(Range::Hour, now);
        let column = told["decisions"]["answered"].as_array().unwrap().clone();
        let known = told["posted"].as_array().unwrap().iter().filter(|count| !count.is_null()).count();
        (column.iter().filter_map(Value::as_u64).sum::<u64>(), known)
    };
    // One page of 512 leaves a turn: eight minutes and a half, of which the last one is not over.
    let one_page = || false;
    view.follower.turn(&store, &view.series, UnixMillis(now), &one_page).unwrap();
    let progress = view.follower.progress().unwrap();
    assert_eq!((progress.leaves, progress.of), (512, 1_500));
    assert_eq!(answered(&view), (480, 8));
    view.follower.turn(&store, &view.series, UnixMillis(now), &one_page).unwrap();
    view.follower.turn(&store, &view.series, UnixMillis(now), &one_page).unwrap();
    assert_eq!((view.follower.progress(), answered(&view)), (None, (1_500, 26)));
}

#[test]
fn what_nobody_can_read_any_more_or_understands_is_counted_as_nothing_else() {
    let (store, begin) = readings(10);
    store.rows().leaves[3].content = LeafContent::Erased;
    store.rows().leaves[4].content = LeafContent::Damaged("torn".into());
    *store.rows().said(5).1 = b"{\"of\":\"a newer version\"}".to_vec();
    *store.rows().said(6).1 = b"\xff\x00".to_vec();
    let now = begin + 12_000;
    let mut view = View::new();
    view.turn(&store, now);
    let told = view.columns(Range::Minute, now);
    let answered = told["decisions"]["answered"].as_array().unwrap();
    assert_eq!((answered.iter().filter_map(Value::as_u64).sum::<u64>(), &told["unread"]), (6, &json!(2)));
}

#[test]
fn only_the_last_thirty_days_are_read() {
    let (store, begin) = readings(600);
    let now = begin + 300_000 + 30 * 86_400_000;
    let mut view = View::new();
    view.turn(&store, now);
    let known = view.series.lock().unwrap().known().unwrap();
    assert_eq!(known.since, UnixMillis(now - 30 * 86_400_000));
    let month = view.columns(Range::Month, now);
    let posted = month["posted"].as_array().unwrap();
    assert!(
        posted.iter().all(|count| *count == 0),
        "all that the chart shows is known, and what is older is in it nowhere"
    );
    assert_eq!(month["decisions"], json!({}));
}
