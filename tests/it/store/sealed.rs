//! What leaves say, sealed: read back, found when it was touched, erased for ever.

use std::path::Path;
use std::sync::Arc;

use countersign::bench::sealed::{LocalWrapping, sealed};
use countersign::kernel::command::*;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::subject::{DataSubject, Period};
use countersign::kernel::types::*;
use countersign::ops::failure::Failure;
use countersign::store::sealing::{Wrapping, begin};
use countersign::store::sqlite::SqliteStore;
use countersign::store::{LeafContent, LeafRecord, Store, StoreFault, SubjectLine, SubjectQuery};
use rusqlite::Connection;
use serde_json::Value;
use zeroize::Zeroizing;

use super::world::*;

fn subject(text: &str) -> DataSubject {
    text.parse().unwrap()
}

fn owner() -> DataSubject {
    subject("owner:OWN_001")
}

fn erase(w: &World<'_>, by: &str, of: &DataSubject) -> Outcome {
    let step = SubjectStep::Erase { reason: "art. 17".into(), pseudonym: Sha256::of(&[b"salted"]) };
    let act = Act::Subject { subject: of.clone(), step };
    w.decision(Actor::Operator(operator(by, &["officer"])), act).outcome
}

fn hold(w: &World<'_>, of: &DataSubject) -> Outcome {
    w.admin(Act::Subject { subject: of.clone(), step: SubjectStep::Hold { reason: "court order 17".into() } })
}

fn release(w: &World<'_>, of: &DataSubject) -> Outcome {
    w.admin(Act::Subject { subject: of.clone(), step: SubjectStep::Release { reason: "over".into() } })
}

fn line(w: &World<'_>, of: &DataSubject) -> Option<SubjectLine> {
    w.store.subjects(&SubjectQuery { named: Some(of.clone()), after: None, limit: 10 }).unwrap().pop()
}

fn leaf_of(w: &World<'_>, decision: &Decision) -> LeafRecord {
    w.store.leaf(decision.leaf.unwrap().row).unwrap().unwrap()
}

fn said(leaf: &LeafRecord) -> Value {
    serde_json::from_slice(leaf.body().unwrap_or_else(|| panic!("{leaf:?}"))).unwrap()
}

fn tool(w: &World<'_>, call: ToolCall) -> Decision {
    w.store.apply(vec![w.tool_command(&shopper(), call)]).unwrap().pop().unwrap()
}

/// Whom the leaf of a decision is about, seen from outside: whose erasure takes its body away.
fn is_about(w: &World<'_>, decision: &Decision, of: &DataSubject) {
    assert!(leaf_of(w, decision).body().is_some(), "{of}");
    erase(w, "olga", of).unwrap();
    assert!(leaf_of(w, decision).body().is_some(), "one person erases nothing of {of}");
    erase(w, "oleg", of).unwrap();
    assert_eq!(leaf_of(w, decision).content, LeafContent::Erased, "{of}");
}

sentences! {
    a_payment_is_about_the_customer_who_pays: |w| {
        w.bank();
        let paid = tool(w, transfer_to(Some("CHK_001"), "CHK_002", "5", "k"));
        let other = w.decision(Actor::Operator(operator("ada", &["officer"])), incoming("CHK_002", "1", "r"));
        is_about(w, &paid, &owner());
        assert_eq!(said(&leaf_of(w, &other))["act"], "incoming_payment", "another customer's stays");
        is_about(w, &other, &subject("owner:OWN_002"));
    };
    what_nobody_was_granted_is_about_the_agent_that_asked: |w| {
        w.bank();
        let refused = tool(w, balance_of("CHK_002"));
        assert_eq!(refused.outcome, Err(Refusal::AccountNotGranted));
        is_about(w, &refused, &DataSubject::Agent(shopper().spiffe_id));
    };
    what_is_refused_before_a_grant_is_looked_at_is_about_the_agent_that_asked: |w| {
        w.bank();
        w.revoke_shopper().unwrap();
        let refused = tool(w, balance_of("CHK_002"));
        assert_eq!(refused.outcome, Err(Refusal::AgentRevoked));
        is_about(w, &refused, &DataSubject::Agent(shopper().spiffe_id));
    };
    what_people_do_is_about_them_unless_it_names_somebody: |w| {
        w.bank();
        let product = w.decision(Actor::Operator(operator("ada", &["administrator"])), add_product("amazon.com", "X", "1"));
        let account = w.decision(Actor::Operator(operator("ada", &["administrator"])), open("ACC", "OWN_003", None));
        is_about(w, &account, &subject("owner:OWN_003"));
        is_about(w, &product, &subject("operator:ada"));
        let own = w.system(Act::Record { tool: "t".into(), decision: serde_json::json!({}) });
        assert_eq!(erase(w, "olga", &DataSubject::System), Err(Refusal::SubjectNotErasable));
        assert_eq!(said(&leaf_of(w, &own))["act"], "t");
    };
    erasing_takes_two_people_and_leaves_every_commitment: |w| {
        w.bank();
        let posted = w.bought("k");
        let before = w.store.leaf_of_transaction(&posted.transaction_id).unwrap().unwrap();
        let keys = line(w, &owner()).unwrap().keys;
        assert!(keys >= 1);
        assert_eq!(erase(w, "olga", &owner()), Ok(Effect::ErasureAsked { keys }));
        assert_eq!(line(w, &owner()).unwrap().erasure_asked.unwrap().0, "olga");
        assert_eq!(erase(w, "olga", &owner()), Err(Refusal::MakerIsChecker));
        let by = |roles: &[&str]| {
            let step = SubjectStep::Erase { reason: "x".into(), pseudonym: Sha256([0; 32]) };
            w.decision(Actor::Operator(operator("eve", roles)), Act::Subject { subject: owner(), step }).outcome
        };
        assert_eq!(by(&["auditor"]), Err(Refusal::OperatorNotPermitted));
        let Ok(Effect::Erased { keys }) = erase(w, "oleg", &owner()) else { panic!() };
        assert!(keys >= 1);
        let after = w.store.leaf_of_transaction(&posted.transaction_id).unwrap().unwrap();
        assert_eq!((after.row, after.commitment), (before.row, before.commitment));
        assert_eq!(after.content, LeafContent::Erased);
        assert_eq!(line(w, &owner()), None, "its name is gone");
        assert_eq!(erase(w, "olga", &owner()), Ok(Effect::Erased { keys: 0 }), "a repeat finds nothing");
        // The book stays, and the same customer goes on under a key of another life.
        w.adds_up();
        let again = tool(w, transfer("1", "again"));
        assert_eq!(said(&leaf_of(w, &again))["tool"], "authorize_transfer");
        assert_eq!(w.store.leaf_of_transaction(&posted.transaction_id).unwrap().unwrap().content, LeafContent::Erased);
    };
    the_leaf_about_an_erasure_names_nobody: |w| {
        w.bank();
        let asked = |by: &str| {
            let step = SubjectStep::Erase { reason: "art. 17".into(), pseudonym: Sha256::of(&[b"salted"]) };
            w.decision(Actor::Operator(operator(by, &["officer"])), Act::Subject { subject: owner(), step })
        };
        let (first, second) = (asked("olga"), asked("oleg"));
        assert_eq!(leaf_of(w, &first).content, LeafContent::Erased, "who asked first named the subject");
        let leaf = said(&leaf_of(w, &second));
        assert_eq!((&leaf["act"], &leaf["result"]["status"]), (&"erase_subject".into(), &"erased".into()));
        assert_eq!(leaf["parameters"]["pseudonym"], Sha256::of(&[b"salted"]).hex());
        assert!(!leaf.to_string().contains("OWN_001"), "{leaf}");
        // What is left of the keys points to that leaf, which stays when the people who decided it are erased.
        let [left] = &w.store.destroyed_keys().unwrap()[..] else { panic!() };
        assert_eq!(left.left, format!("erased:{}", Sha256::of(&[b"salted"])));
        assert_eq!(left.at.map(UnixMillis::rfc3339).as_deref(), leaf["at"].as_str());
        assert_eq!((leaf["result"]["keys"].as_u64(), left.newest), (Some(left.keys.into()), Period::of(UnixMillis(w.now.get()))));
        for by in ["olga", "ada"] {
            erase(w, by, &subject("operator:oleg")).unwrap();
        }
        assert_eq!(said(&leaf_of(w, &second)), leaf);
    };
    whoever_is_held_is_not_erased: |w| {
        w.bank();
        assert_eq!(hold(w, &owner()), Ok(Effect::Done { changed: true }));
        assert_eq!(hold(w, &owner()), Ok(Effect::Done { changed: false }));
        assert_eq!(line(w, &owner()).unwrap().hold.unwrap().2, "court order 17");
        assert_eq!(erase(w, "olga", &owner()), Err(Refusal::UnderLegalHold));
        assert_eq!(release(w, &owner()), Ok(Effect::Done { changed: true }));
        assert_eq!(release(w, &owner()), Ok(Effect::Done { changed: false }));
        assert!(matches!(erase(w, "olga", &owner()), Ok(Effect::ErasureAsked { .. })));
        // Also between the two people.
        hold(w, &owner()).unwrap();
        assert_eq!(erase(w, "oleg", &owner()), Err(Refusal::UnderLegalHold));
        release(w, &owner()).unwrap();
        assert!(matches!(erase(w, "oleg", &owner()), Ok(Effect::Erased { .. })));
    };
    a_month_whose_time_is_over_lapses_step_by_step_but_for_the_held: |w| {
        w.bank();
        let old = tool(w, transfer("5", "old"));
        let held = w.decision(Actor::Operator(operator("ada", &["officer"])), incoming("CHK_002", "1", "r"));
        hold(w, &subject("owner:OWN_002")).unwrap();
        let month = Period::of(UnixMillis(w.now.get()));
        w.later(40 * DAY_MS);
        let young = w.decision(Actor::Operator(operator("ada", &["officer"])), incoming("CHK_001", "1", "r2"));
        let lapse = |before: Period, limit: u32| w.system(Act::LapseKeys { before, limit });
        assert_eq!(lapse(month, 100).outcome, Ok(Effect::Lapsed { keys: 0 }));
        assert!(lapse(month, 100).leaf.is_none(), "nothing to tell");
        let by = Actor::Operator(operator("ada", &["administrator"]));
        let by = w.decision(by, Act::LapseKeys { before: month, limit: 1 });
        assert_eq!(by.outcome, Err(Refusal::OperatorNotPermitted));
        // One at a time: a crash between two steps leaves the rest for the next one.
        let next = Period(month.0 + 1);
        let mut lapsed = 0;
        while lapse(next, 1).outcome == Ok(Effect::Lapsed { keys: 1 }) {
            lapsed += 1;
        }
        assert!(lapsed >= 2, "{lapsed}");
        let counted: u32 = w.store.destroyed_keys().unwrap().iter().filter(|keys| keys.left == "lapsed").map(|keys| keys.keys).sum();
        assert_eq!(counted, lapsed);
        assert_eq!(leaf_of(w, &old).content, LeafContent::Erased);
        assert_eq!(said(&leaf_of(w, &held))["act"], "incoming_payment");
        assert_eq!(said(&leaf_of(w, &young))["act"], "incoming_payment");
        w.adds_up();
    };
    many_subjects_in_one_commit_have_keys_of_their_own: |w| {
        w.bank();
        let commands: Vec<Command> = (0..80)
            .map(|number| {
                let new = new_account(&format!("A{number}"), &format!("O{}", number % 40), None);
                w.command(Actor::Operator(operator("ada", &["administrator"])), Act::OpenAccount(new))
            })
            .collect();
        let decisions = w.store.apply(commands).unwrap();
        for decision in &decisions {
            assert_eq!(said(&leaf_of(w, decision))["act"], "open_account");
        }
        is_about(w, &decisions[3], &subject("owner:O3"));
        assert_eq!(leaf_of(w, &decisions[43]).content, LeafContent::Erased);
        assert_eq!(said(&leaf_of(w, &decisions[4]))["act"], "open_account");
    };
    an_erasure_and_what_comes_behind_it_in_one_commit_do_not_share_a_key: |w| {
        w.bank();
        erase(w, "olga", &owner()).unwrap();
        let step = SubjectStep::Erase { reason: "x".into(), pseudonym: Sha256([0; 32]) };
        let commands = vec![
            w.tool_command(&shopper(), transfer("1", "before")),
            w.command(Actor::Operator(operator("oleg", &["officer"])), Act::Subject { subject: owner(), step }),
            w.tool_command(&shopper(), transfer("2", "behind")),
        ];
        let decisions = w.store.apply(commands).unwrap();
        assert_eq!(leaf_of(w, &decisions[0]).content, LeafContent::Erased);
        assert_eq!(said(&leaf_of(w, &decisions[2]))["tool"], "authorize_transfer");
    };
}

fn sqlite(path: &Path) -> Arc<SqliteStore> {
    let store = SqliteStore::open(path).unwrap();
    sealed(&*store).unwrap();
    store
}

fn holds(path: &Path, text: &[u8]) -> bool {
    let files = ["", "-wal"].map(|end| std::fs::read(format!("{}{end}", path.display())).unwrap_or_default());
    files.iter().any(|file| file.windows(text.len()).any(|window| window == text))
}

#[test]
fn the_file_says_nothing_that_only_leaves_say() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite3");
    let store = sqlite(&path);
    let w = World::new(&*store);
    w.bank();
    let refused = tool(&w, transfer_to(Some("CHK_001"), "PAYEE-WALDO-77", "5", "key-of-waldo"));
    assert!(refused.outcome.is_err());
    let leaf = said(&leaf_of(&w, &refused));
    assert_eq!(leaf["parameters"]["to_account"], "PAYEE-WALDO-77");
    let request = leaf["request_id"].as_str().unwrap().to_owned();
    drop(store);
    for text in ["PAYEE-WALDO-77", "key-of-waldo", &request, "countersign/leaf/", "\"decision\":"] {
        assert!(!holds(&path, text.as_bytes()), "{text} is in the file");
    }
    // The same file in the clear has them all.
    let bare = directory.path().join("bare.sqlite3");
    let store = SqliteStore::open(&bare).unwrap();
    let w = World::new(&*store);
    w.bank();
    tool(&w, transfer_to(Some("CHK_001"), "PAYEE-WALDO-77", "5", "key-of-waldo"));
    assert_eq!(store.leaves_in_the_clear().unwrap(), store.unsequenced(1_000).unwrap().len() as u64);
    assert!(holds(&bare, b"PAYEE-WALDO-77"));
}

#[test]
fn a_key_that_was_destroyed_is_in_no_file_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite3");
    let store = sqlite(&path);
    let w = World::new(&*store);
    w.bank();
    let keys = || -> Vec<Vec<u8>> {
        let connection = Connection::open(&path).unwrap();
        let mut found = connection.prepare("SELECT wrapped FROM data_keys WHERE subject = 'owner:OWN_001'").unwrap();
        found.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let wrapped = keys();
    assert!(!wrapped.is_empty() && wrapped.iter().all(|key| holds(&path, key)));
    erase(&w, "olga", &owner()).unwrap();
    erase(&w, "oleg", &owner()).unwrap();
    assert!(
        wrapped.iter().all(|key| !holds(&path, key)),
        "neither in the file nor in its log, while the store is open"
    );
    drop(store);
    assert!(wrapped.iter().all(|key| !holds(&path, key)));
}

#[test]
fn a_reader_of_an_older_snapshot_keeps_a_destroyed_key_in_the_log_only_until_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite3");
    let store = sqlite(&path);
    let w = World::new(&*store);
    w.bank();
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let wrapped: Vec<u8> = reader
        .query_row("SELECT wrapped FROM data_keys WHERE subject = 'owner:OWN_001'", [], |row| row.get(0))
        .unwrap();
    erase(&w, "olga", &owner()).unwrap();
    erase(&w, "oleg", &owner()).unwrap();
    assert!(holds(&path, &wrapped), "the reader still sees it");
    drop(reader);
    tool(&w, transfer("1", "next"));
    assert!(!holds(&path, &wrapped), "the next commit empties the log");
}

/// What was done to a file behind the store's back, and which leaf must say so.
#[test]
fn what_was_touched_behind_our_back_is_found_and_what_was_not_is_read() {
    type Touch = fn(&Connection, i64);
    let table: [(&str, Touch); 9] = [
        ("a byte of what is sealed", |db, row| {
            let body = db.query_row("SELECT body FROM leaves WHERE row = ?1", [row], |row| row.get(0));
            let mut body: Vec<u8> = body.unwrap();
            body[40] ^= 1;
            db.execute("UPDATE leaves SET body = ?2 WHERE row = ?1", rusqlite::params![row, body]).unwrap();
        }),
        ("the tag", |db, row| {
            db.execute("UPDATE leaves SET body = substr(body, 1, length(body) - 1) WHERE row = ?1", [row]).unwrap();
        }),
        ("another row's text", |db, row| {
            let other = "UPDATE leaves SET body = (SELECT body FROM leaves WHERE row = ?1 - 1) WHERE row = ?1";
            db.execute(other, [row]).unwrap();
        }),
        ("another row's text and commitment", |db, row| {
            let other = "UPDATE leaves SET (body, commitment, data_key) =
                         (SELECT body, commitment, data_key FROM leaves WHERE row = ?1 - 1) WHERE row = ?1";
            db.execute(other, [row]).unwrap();
        }),
        ("its data key's number", |db, row| {
            let other = "UPDATE leaves SET data_key = (SELECT max(id) FROM data_keys WHERE id <> leaves.data_key
                         AND wrapped IS NOT NULL) WHERE row = ?1";
            db.execute(other, [row]).unwrap();
        }),
        ("a data key that is not there", |db, row| {
            db.execute("UPDATE leaves SET data_key = 999 WHERE row = ?1", [row]).unwrap();
        }),
        ("another subject's key in the row of its key", |db, row| {
            let other = "UPDATE data_keys SET wrapped = (SELECT wrapped FROM data_keys k WHERE k.id <> data_keys.id
                         AND k.wrapped IS NOT NULL LIMIT 1) WHERE id = (SELECT data_key FROM leaves WHERE row = ?1)";
            db.execute(other, [row]).unwrap();
        }),
        ("the subject's name in the row of its key", |db, row| {
            let other = "UPDATE data_keys SET subject = 'owner:OWN_999'
                         WHERE id = (SELECT data_key FROM leaves WHERE row = ?1)";
            db.execute(other, [row]).unwrap();
        }),
        ("a store key that is not there", |db, row| {
            let other = "UPDATE data_keys SET store_key = 7 WHERE id = (SELECT data_key FROM leaves WHERE row = ?1)";
            db.execute(other, [row]).unwrap();
        }),
    ];
    for (what, touch) in table {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.sqlite3");
        let store = sqlite(&path);
        let w = World::new(&*store);
        w.bank();
        let (first, last) = (tool(&w, transfer("5", "one")), tool(&w, balance_of("CHK_002")));
        let touched = tool(&w, transfer("6", "two"));
        let row = touched.leaf.unwrap().row;
        touch(&Connection::open(&path).unwrap(), row);
        let leaf = leaf_of(&w, &touched);
        assert!(matches!(&leaf.content, LeafContent::Damaged(why) if !why.is_empty()), "{what}: {leaf:?}");
        assert!(leaf_of(&w, &last).body().is_some(), "{what}: a leaf of another subject is read");
        let others = w.store.unsequenced(1_000).unwrap();
        assert!(
            others.iter().any(|other| other.row == first.leaf.unwrap().row),
            "{what}: the page is read all the same"
        );
    }
}

#[test]
fn another_token_does_not_open_a_sealed_store_and_nothing_is_written_in_the_clear() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite3");
    let store = sqlite(&path);
    World::new(&*store).bank();
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    let failure = begin(&*store, Arc::new(LocalWrapping::fresh())).unwrap_err();
    assert_eq!(failure.name, "store_key_locked", "{failure:?}");
    assert!(!failure.next_step.is_empty());
    let w = World::new(&*store);
    let refused = store.apply(vec![w.tool_command(&shopper(), balance_of("CHK_001"))]);
    assert!(matches!(&refused, Err(StoreFault::NotRecorded(why)) if why.contains("sealed")), "{refused:?}");
    assert!(matches!(store.unsequenced(1), Err(StoreFault::NotRecorded(_))));
    // Its own one does.
    sealed(&*store).unwrap();
    assert!(store.unsequenced(1).unwrap()[0].body().is_some());
}

#[test]
fn after_a_restart_the_same_keys_are_used_and_what_was_in_the_clear_stays_readable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite3");
    let store = SqliteStore::open(&path).unwrap();
    World::new(&*store).bank();
    let clear = store.leaves_in_the_clear().unwrap();
    assert!(clear > 5);
    let keys = || -> i64 {
        Connection::open(&path).unwrap().query_row("SELECT count(*) FROM data_keys", [], |row| row.get(0)).unwrap()
    };
    drop(store);
    for start in 0..3 {
        let store = sqlite(&path);
        let w = World::new(&*store);
        w.ids.set(1_000 * (start + 1));
        let decision = tool(&w, transfer("1", &format!("k{start}")));
        assert_eq!(said(&leaf_of(&w, &decision))["tool"], "authorize_transfer");
        assert_eq!((keys(), store.leaves_in_the_clear().unwrap()), (1, clear));
        let all = store.unsequenced(1_000).unwrap();
        assert!(all.iter().all(|leaf| leaf.body().is_some()));
    }
}

/// A token with these wrapping keys; the last one seals.
#[derive(Debug)]
struct Rotating(Vec<Arc<LocalWrapping>>);

impl Wrapping for Rotating {
    fn active(&self) -> Result<KeyId, Failure> {
        self.0.last().unwrap().active()
    }

    fn wrap(&self, key: KeyId, context: &[u8], plaintext: &[u8; 32]) -> Result<Vec<u8>, Failure> {
        self.0.last().unwrap().wrap(key, context, plaintext)
    }

    fn unwrap(&self, key: KeyId, context: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        self.0.iter().map(|one| one.unwrap(key, context, wrapped)).reduce(|one, other| one.or(other)).unwrap()
    }
}

#[test]
fn after_a_rotation_nothing_depends_on_the_wrapping_key_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite3");
    let (first, second) = (Arc::new(LocalWrapping::fresh()), Arc::new(LocalWrapping::fresh()));
    let opened = |keys: Vec<&Arc<LocalWrapping>>| {
        let store = SqliteStore::open(&path).unwrap();
        let token = Rotating(keys.into_iter().map(Arc::clone).collect());
        begin(&*store, Arc::new(token)).map(|()| store)
    };
    let store = opened(vec![&first]).unwrap();
    let w = World::new(&*store);
    w.bank();
    let before = tool(&w, transfer("1", "before"));
    let ids = w.ids.get();
    drop(store);
    // Also while it serves, as `key rotate` does.
    let store = opened(vec![&first, &second]).unwrap();
    let w = World::new(&*store);
    w.ids.set(ids);
    let behind = tool(&w, transfer("2", "behind"));
    drop(store);
    let store = opened(vec![&second]).unwrap();
    let kept = store.store_keys().unwrap();
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().all(|key| Ok(key.wrapping_key) == second.active()));
    let w = World::new(&*store);
    for decision in [&before, &behind] {
        assert_eq!(said(&leaf_of(&w, decision))["tool"], "authorize_transfer");
    }
    drop(store);
    assert_eq!(opened(vec![&first]).unwrap_err().name, "store_key_locked");
}

#[test]
fn daemons_of_one_database_read_each_others_leaves_and_forget_what_another_one_erased() {
    let database = crate::support::postgres::shared().database();
    let (one, other) = (database.open(), database.open());
    sealed(&*one).unwrap();
    sealed(&*other).unwrap();
    let (w, v) = (World::new(&*one), World::new(&*other));
    v.ids.set(1_000_000);
    w.bank();
    let here = tool(&w, transfer("1", "here"));
    let there = tool(&v, transfer("2", "there"));
    for world in [&w, &v] {
        assert_eq!(said(&leaf_of(world, &here))["parameters"]["idempotency_key"], "here");
        assert_eq!(said(&leaf_of(world, &there))["parameters"]["idempotency_key"], "there");
    }
    assert!(line(&w, &owner()).unwrap().keys >= 2, "each daemon makes its own");
    erase(&w, "olga", &owner()).unwrap();
    erase(&w, "oleg", &owner()).unwrap();
    for world in [&w, &v] {
        assert_eq!(leaf_of(world, &here).content, LeafContent::Erased);
        assert_eq!(leaf_of(world, &there).content, LeafContent::Erased);
    }
    // The other daemon remembered its key, and seals nothing under it any more.
    let after = tool(&v, transfer("3", "after"));
    for world in [&w, &v] {
        assert_eq!(said(&leaf_of(world, &after))["parameters"]["idempotency_key"], "after");
    }
    // Nothing that only a leaf says is in the database.
    let refused = tool(&v, transfer_to(Some("CHK_001"), "PAYEE-WALDO-77", "5", "waldo"));
    assert!(refused.outcome.is_err());
    let found = "SELECT count(*) FROM leaves WHERE position('PAYEE-WALDO-77'::bytea in body) > 0";
    assert_eq!(database.sql(found).trim(), "0");
    drop((one, other));
}
