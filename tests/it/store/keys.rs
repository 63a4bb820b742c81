//! Single-use keys over the days: known inside their window, forgotten after it, some at a time.

use countersign::kernel::command::*;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::*;
use countersign::store::Store;
use countersign::store::keep::Keep;
use countersign::store::settings::StoreSettings;
use countersign::store::sqlite::SqliteStore;

use super::world::*;
use crate::support::postgres;

fn arrives(w: &World<'_>, reference: &str) -> Posted {
    match w.system(incoming("CHK_001", "1", reference)).outcome.unwrap() {
        Effect::Posted(posted) => posted,
        other => panic!("not posted: {other:?}"),
    }
}

fn is_repeated(w: &World<'_>, reference: &str) -> bool {
    arrives(w, reference).repeated
}

fn with_nonce(w: &World<'_>, nonce: u8) -> Outcome {
    let mut command = w.tool_command(&shopper(), balance_of("CHK_001"));
    command.stamp.nonce = Some(Sha256([nonce; 32]));
    w.store.apply(vec![command]).unwrap().pop().unwrap().outcome
}

fn forget(w: &World<'_>, limit: u32) -> u32 {
    w.store.forget_keys(UnixMillis(w.now.get()), limit).unwrap()
}

sentences! {
    keys_are_forgotten_by_whole_days_after_their_window_and_never_inside_it: |w| {
        w.admin(open("CHK_001", "OWN_001", None)).unwrap();
        for reference in ["a", "b", "c"] {
            assert!(!is_repeated(w, reference));
        }
        w.later(200 * DAY_MS);
        assert!(!is_repeated(w, "later"));
        assert_eq!(forget(w, 100), 0);
        w.later(200 * DAY_MS);
        // A key's window ends with a day, whenever on its first one it was taken.
        assert_eq!(forget(w, 100), 0);
        assert!(is_repeated(w, "a"));

        w.later(DAY_MS);
        // The account's opening has its key too.
        assert_eq!([forget(w, 3), forget(w, 3), forget(w, 3)], [3, 1, 0], "some at a time");
        assert!(is_repeated(w, "later"), "that one is inside its window");
        assert!(!is_repeated(w, "a"), "a new request");
        assert!(is_repeated(w, "a"));
        // They are gone, not only passed over: the clock is set back into their window.
        w.now.set(START + DAY_MS);
        assert!(!is_repeated(w, "b"));
        assert!(is_repeated(w, "b"));
        w.adds_up();
    };
    nonces_are_forgotten_the_day_after_the_next: |w| {
        w.bank();
        with_nonce(w, 1).unwrap();
        with_nonce(w, 2).unwrap();
        w.later(DAY_MS);
        assert_eq!(forget(w, 100), 0);
        assert_eq!(with_nonce(w, 1), Err(Refusal::NonceReplayed));
        with_nonce(w, 3).unwrap();
        w.later(DAY_MS);
        assert_eq!(forget(w, 100), 2);
        assert_eq!(with_nonce(w, 3), Err(Refusal::NonceReplayed));
        with_nonce(w, 1).unwrap();
        assert_eq!(with_nonce(w, 1), Err(Refusal::NonceReplayed));
    };
    a_nonce_is_known_when_the_clock_is_set_back: |w| {
        w.bank();
        w.later(5 * DAY_MS);
        with_nonce(w, 1).unwrap();
        w.now.set(START + 2 * DAY_MS);
        assert_eq!(with_nonce(w, 1), Err(Refusal::NonceReplayed));
    };
    what_is_left_of_a_day_that_is_half_forgotten_is_known_when_the_clock_is_set_back: |w| {
        w.admin(open("CHK_001", "OWN_001", None)).unwrap();
        for reference in ["a", "b", "c"] {
            assert!(!is_repeated(w, reference));
        }
        w.later(401 * DAY_MS);
        // Two of four, one of which is the account's opening.
        assert_eq!(forget(w, 2), 2);
        w.now.set(START + DAY_MS);
        let known = ["a", "b", "c"].iter().filter(|reference| is_repeated(w, reference)).count();
        assert!((1..=2).contains(&known), "{known}");
        w.adds_up();
    };
}

/// A store that keeps keys for a week.
fn on_every_store_of_a_week(sentence: impl Fn(&dyn Store)) {
    let directory = tempfile::tempdir().unwrap();
    sentence(&*SqliteStore::open_keeping(&directory.path().join("store.sqlite3"), Keep::days(7)).unwrap());

    let database = postgres::shared().database();
    let settings = StoreSettings { idempotency_days: 7, ..database.settings() };
    let store = countersign::store::postgres::PostgresStore::open(&postgres::endpoint(&settings)).unwrap();
    sentence(&*store);
    drop(store);
}

#[test]
fn the_window_is_as_long_as_it_is_set() {
    on_every_store_of_a_week(|store| {
        let w = World::new(store);
        w.bank();
        assert!(!is_repeated(&w, "a"));
        w.later(7 * DAY_MS);
        assert_eq!(forget(&w, 100), 0);
        assert!(is_repeated(&w, "a"));
        w.later(DAY_MS);
        assert!(!is_repeated(&w, "a"), "passed over before it is removed");
        assert!(forget(&w, 100) > 0);
        assert!(is_repeated(&w, "a"));
    });
}
