//! What leaves say, sealed: read back, found when it was touched, erased for ever.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign::audit::retention::{Doubt, Start, lapse};
use countersign::audit::settings::AuditSettings;
use countersign::bench::sealed::{LocalWrapping, sealed};
use countersign::kernel::command::*;
use countersign::kernel::receipt::commitment;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::subject::{DataSubject, Period};
use countersign::kernel::types::*;
use countersign::ops::clock;
use countersign::ops::failure::Failure;
use countersign::store::sealing::{StoreKey, Wrapping, begin};
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
    what_a_program_has_signed_is_about_its_user: |w| {
        w.bank();
        let order = || Act::SignExternal(Box::new(super::signing::order(1, 1)));
        let program = |uid| Actor::Program(ProgramPrincipal { uid, gid: 7, user: Some("billing".into()) });
        let (own, other) = (w.decision(program(1001), order()), w.decision(program(1002), order()));
        assert_eq!(said(&leaf_of(w, &own))["parameters"]["purpose"], "an invoice");
        is_about(w, &own, &subject("program:1001"));
        assert_eq!(said(&leaf_of(w, &other))["actor"]["uid"], 1002, "another user's stays");
    };
    what_an_agent_asks_about_its_own_payment_is_about_who_pays: |w| {
        w.bank();
        let posted = w.bought("k");
        let transaction_id = posted.transaction_id.clone();
        let repeated = tool(w, execute_buy(&transaction_id, "LAPTOP"));
        assert!(repeated.outcome.is_ok(), "{repeated:?}");
        is_about(w, &repeated, &owner());
        let shown = tool(w, ToolCall::GetTransaction { transaction_id: transaction_id.clone() });
        is_about(w, &shown, &owner());
        // Another agent's payment is no way into its payer's record.
        let other = agent("purchaser", "other");
        let asked = w.tool_command(&other, ToolCall::GetTransaction { transaction_id });
        let asked = w.store.apply(vec![asked]).unwrap().pop().unwrap();
        is_about(w, &asked, &DataSubject::Agent(other.spiffe_id));
    };
    erasing_takes_two_people_and_leaves_every_commitment: |w| {
        w.bank();
        let posted = w.bought("k");
        let before = w.store.leaf_of_transaction(&posted.transaction_id).unwrap().unwrap();
        let keys = line(w, &owner()).unwrap().keys;
        assert!(keys >= 1);
        assert_eq!(erase(w, "olga", &owner()), Ok(Effect::ErasureAsked { keys }));
        let asked = line(w, &owner()).unwrap().erasure_asked.unwrap();
        assert_eq!((asked.0.as_str(), asked.1, asked.2.as_str()), ("olga", UnixMillis(w.now.get()), "art. 17"));
        assert_eq!(erase(w, "olga", &owner()), Err(Refusal::MakerIsChecker));
        let by = |roles: &[&str]| {
            let step = SubjectStep::Erase { reason: "x".into(), pseudonym: Sha256([0; 32]) };
            w.decision(Actor::Operator(operator("eve", roles)), Act::Subject { subject: owner(), step }).outcome
        };
        assert_eq!(by(&["auditor"]), Err(Refusal::OperatorNotPermitted));
        let Ok(Effect::Erased { keys, .. }) = erase(w, "oleg", &owner()) else { panic!() };
        assert!(keys >= 1);
        let after = w.store.leaf_of_transaction(&posted.transaction_id).unwrap().unwrap();
        assert_eq!((after.row, after.commitment), (before.row, before.commitment));
        assert_eq!(after.content, LeafContent::Erased);
        assert_eq!(line(w, &owner()), None, "its name is gone");
        assert_eq!(erase(w, "olga", &owner()), Ok(Effect::Erased { keys: 0, trail: None }), "a repeat finds nothing");
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
    the_leaf_of_an_erasure_names_both_people_and_who_ended_the_hold_before_it: |w| {
        w.bank();
        let asked = |by: &str| {
            let step = SubjectStep::Erase { reason: "art. 17".into(), pseudonym: Sha256::of(&[b"salted"]) };
            w.decision(Actor::Operator(operator(by, &["officer"])), Act::Subject { subject: owner(), step })
        };
        let at = |ms: i64| { w.later(ms); UnixMillis(w.now.get()) };
        hold(w, &owner()).unwrap();
        let released_at = at(1_000);
        release(w, &owner()).unwrap();
        assert_eq!(line(w, &owner()).unwrap().released, Some(("ada".into(), released_at)));
        let asked_at = at(1_000);
        asked("olga").outcome.unwrap();
        at(1_000);
        let last = asked("oleg");
        let trail = ErasureTrail { asked_by: "olga".into(), asked_at, released: Some(("ada".into(), released_at)) };
        assert!(matches!(&last.outcome, Ok(Effect::Erased { trail: Some(found), .. }) if **found == trail), "{:?}", last.outcome);
        let leaf = said(&leaf_of(w, &last));
        assert_eq!(leaf["actor"]["name"], "oleg");
        for (member, value) in [
            ("asked_by", "olga".to_owned()),
            ("asked_at", asked_at.rfc3339()),
            ("released_by", "ada".to_owned()),
            ("released_at", released_at.rfc3339()),
        ] {
            assert_eq!(leaf["result"][member], value, "{leaf}");
        }
        assert_eq!(line(w, &owner()), None, "nothing else is left of the subject");
        // Nobody ever held this one.
        erase(w, "olga", &subject("owner:OWN_002")).unwrap();
        let Ok(Effect::Erased { trail: Some(trail), .. }) = erase(w, "oleg", &subject("owner:OWN_002")) else { panic!() };
        assert_eq!((trail.asked_by.as_str(), trail.released), ("olga", None));
    };
    whoever_ended_a_hold_neither_asks_for_the_erasure_nor_does_it: |w| {
        w.bank();
        hold(w, &owner()).unwrap();
        release(w, &owner()).unwrap();
        assert_eq!(erase(w, "ada", &owner()), Err(Refusal::MakerIsChecker), "asks");
        assert!(matches!(erase(w, "olga", &owner()), Ok(Effect::ErasureAsked { .. })));
        assert_eq!(erase(w, "ada", &owner()), Err(Refusal::MakerIsChecker), "erases");
        // Who had asked before ending a hold has not asked.
        let as_olga = |step: SubjectStep| {
            w.decision(Actor::Operator(operator("olga", &["officer"])), Act::Subject { subject: owner(), step }).outcome
        };
        hold(w, &owner()).unwrap();
        as_olga(SubjectStep::Release { reason: "over".into() }).unwrap();
        assert!(matches!(erase(w, "oleg", &owner()), Ok(Effect::ErasureAsked { .. })), "the first of two");
        assert_eq!(erase(w, "olga", &owner()), Err(Refusal::MakerIsChecker));
        assert!(matches!(erase(w, "ada", &owner()), Ok(Effect::Erased { .. })), "another one ended the last hold");
    };
    an_erasure_that_was_asked_for_a_month_ago_is_asked_anew: |w| {
        w.bank();
        let paid = w.decision(Actor::Operator(operator("ada", &["officer"])), incoming("CHK_001", "1", "r"));
        assert!(matches!(erase(w, "olga", &owner()), Ok(Effect::ErasureAsked { .. })));
        w.later(30 * DAY_MS - 1);
        assert_eq!(erase(w, "olga", &owner()), Err(Refusal::MakerIsChecker), "it stands");
        w.later(1);
        assert_eq!(said(&leaf_of(w, &paid))["act"], "incoming_payment", "nothing was erased");
        assert!(matches!(erase(w, "oleg", &owner()), Ok(Effect::ErasureAsked { .. })), "believes to be the first, and is");
        assert_eq!(line(w, &owner()).unwrap().erasure_asked.unwrap().0, "oleg");
        w.later(29 * DAY_MS);
        assert!(matches!(erase(w, "olga", &owner()), Ok(Effect::Erased { .. })));
        assert_eq!(leaf_of(w, &paid).content, LeafContent::Erased);
    };
    the_daemons_own_is_held_like_anybodys: |w| {
        w.bank();
        let own = w.system(Act::Record { tool: "t".into(), decision: serde_json::json!({}) });
        assert_eq!(hold(w, &DataSubject::System), Ok(Effect::Done { changed: true }));
        assert_eq!(erase(w, "olga", &DataSubject::System), Err(Refusal::SubjectNotErasable));
        let before = Period(Period::of(UnixMillis(w.now.get())).0 + 1);
        w.later(40 * DAY_MS);
        let lapse = || match w.system(Act::LapseKeys { before, limit: 100 }).outcome {
            Ok(Effect::Lapsed { keys }) => keys,
            other => panic!("{other:?}"),
        };
        assert!(lapse() >= 2, "others' keys have had their time");
        assert_eq!(said(&leaf_of(w, &own))["act"], "t");
        release(w, &DataSubject::System).unwrap();
        assert_eq!((lapse(), leaf_of(w, &own).content), (1, LeafContent::Erased));
    };
    while_all_are_held_nothing_of_anybody_is_erased: |w| {
        w.bank();
        let (old, own) = (tool(w, transfer("5", "old")), subject("agent:spiffe://countersign.example/agent/purchaser/none"));
        erase(w, "olga", &owner()).unwrap();
        assert_eq!(hold(w, &DataSubject::All), Ok(Effect::Done { changed: true }));
        assert_eq!(hold(w, &DataSubject::All), Ok(Effect::Done { changed: false }));
        assert_eq!(line(w, &DataSubject::All).unwrap().hold.unwrap().0, "ada");
        assert_eq!(erase(w, "oleg", &owner()), Err(Refusal::UnderLegalHold));
        assert_eq!(erase(w, "oleg", &own), Err(Refusal::UnderLegalHold));
        assert_eq!(erase(w, "oleg", &DataSubject::All), Err(Refusal::SubjectNotErasable));
        assert_eq!(release(w, &owner()), Ok(Effect::Done { changed: false }), "its own hold is another");
        let before = Period(Period::of(UnixMillis(w.now.get())).0 + 1);
        w.later(40 * DAY_MS);
        let lapse = || w.system(Act::LapseKeys { before, limit: 100 }).outcome;
        assert_eq!(lapse(), Ok(Effect::Lapsed { keys: 0 }));
        assert_eq!(said(&leaf_of(w, &old))["tool"], "authorize_transfer");
        assert_eq!(release(w, &DataSubject::All), Ok(Effect::Done { changed: true }));
        assert!(matches!(lapse(), Ok(Effect::Lapsed { keys }) if keys > 2));
        assert_eq!(leaf_of(w, &old).content, LeafContent::Erased);
    };
    marks_of_a_subject_end_with_its_last_key: |w| {
        w.bank();
        hold(w, &owner()).unwrap();
        release(w, &owner()).unwrap();
        assert!(line(w, &owner()).unwrap().released.is_some());
        w.later(40 * DAY_MS);
        let before = Period::of(UnixMillis(w.now.get()));
        w.system(Act::LapseKeys { before, limit: 100 }).outcome.unwrap();
        assert_eq!(line(w, &owner()), None);
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

/// A token that answers so often, and is away then.
#[derive(Debug)]
struct Away(Rotating, AtomicUsize);

impl Wrapping for Away {
    fn active(&self) -> Result<KeyId, Failure> {
        self.0.active()
    }

    fn wrap(&self, key: KeyId, context: &[u8], plaintext: &[u8; 32]) -> Result<Vec<u8>, Failure> {
        self.0.wrap(key, context, plaintext)
    }

    fn unwrap(&self, key: KeyId, context: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let left = self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map_err(|_| Failure::busy("hsm_busy", "the token is away", "try again"))?;
        self.0.unwrap(key, context, wrapped)
    }
}

#[test]
fn a_rotation_that_finds_the_token_away_is_not_done_and_is_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite3");
    let keys: Vec<_> = (0..3).map(|_| Arc::new(LocalWrapping::fresh())).collect();
    let rotating = |upto: usize| Rotating(keys[..upto].iter().map(Arc::clone).collect());
    let store = SqliteStore::open(&path).unwrap();
    begin(&*store, Arc::new(rotating(1))).unwrap();
    let w = World::new(&*store);
    w.bank();
    let before = tool(&w, transfer("1", "before"));
    begin(&*store, Arc::new(rotating(2))).unwrap();
    // Two earlier store keys are to be sealed anew; the token is away before each of them once.
    let (mut failed, mut answers) = (0, 1);
    while let Err(failure) = begin(&*store, Arc::new(Away(rotating(3), AtomicUsize::new(answers)))) {
        assert_eq!(failure.name, "hsm_busy", "{failure:?}");
        let under_it = |key: &&StoreKey| Ok(key.wrapping_key) != keys[2].active();
        assert!(store.store_keys().unwrap().iter().filter(under_it).count() > 0, "what is not sealed anew is known");
        (failed, answers) = (failed + 1, answers + 1);
    }
    assert!(failed >= 2, "{failed}");
    let kept = store.store_keys().unwrap();
    assert!(kept.len() == 3 && kept.iter().all(|key| Ok(key.wrapping_key) == keys[2].active()), "{kept:?}");
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    begin(&*store, Arc::new(Rotating(vec![Arc::clone(&keys[2])]))).unwrap();
    assert_eq!(said(&leaf_of(&World::new(&*store), &before))["tool"], "authorize_transfer");
}

/// A leaf as somebody writes it who has the database and no key: it is what it commits to.
fn forge(path: &Path, row: i64) {
    let (salt, body) = ([7_u8; 32], b"{\"decision\":\"permitted\"}");
    let sql = "INSERT INTO leaves (row, commitment, salt, body) VALUES (?1, ?2, ?3, ?4)";
    let values = rusqlite::params![row, commitment(&salt, body).0, salt, body];
    assert_eq!(Connection::open(path).unwrap().execute(sql, values).unwrap(), 1);
}

fn newest_row(path: &Path) -> i64 {
    Connection::open(path).unwrap().query_row("SELECT max(row) FROM leaves", [], |row| row.get(0)).unwrap()
}

#[test]
fn from_the_first_sealed_leaf_on_one_in_the_clear_is_nobodys_word() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite3");
    let store = SqliteStore::open(&path).unwrap();
    World::new(&*store).bank();
    let clear = newest_row(&path);
    // One that was there before is known by what it commits to, whoever wrote it: so it was without sealing.
    forge(&path, clear + 1);
    drop(store);
    let store = sqlite(&path);
    let first = store.store_keys().unwrap()[0].first_row;
    assert_eq!(first, Some(clear + 2));
    let w = World::new(&*store);
    w.ids.set(5_000);
    let sealed_leaf = tool(&w, transfer("1", "sealed"));
    assert_eq!(sealed_leaf.leaf.unwrap().row, clear + 2);
    forge(&path, clear + 3);
    let content = |row: i64| store.leaf(row).unwrap().unwrap().content;
    assert!(matches!(content(clear + 1), LeafContent::Known { .. }));
    assert!(matches!(content(clear + 2), LeafContent::Known { .. }));
    assert_eq!(content(clear + 3), LeafContent::Unsealed);
    let unsealed = || -> Vec<i64> {
        let waiting = store.unsequenced_entries(1_000).unwrap();
        waiting.into_iter().filter(|leaf| leaf.unsealed).map(|leaf| leaf.row).collect()
    };
    assert_eq!(unsealed(), [clear + 3]);
    // A sealed leaf that is called clear is one, too.
    let called = "UPDATE leaves SET data_key = NULL WHERE row = ?1";
    Connection::open(&path).unwrap().execute(called, [clear + 2]).unwrap();
    assert_eq!(content(clear + 2), LeafContent::Unsealed);
    assert_eq!(unsealed(), [clear + 2, clear + 3]);
}

#[test]
fn nobody_without_the_token_says_from_where_on_leaves_are_sealed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite3");
    let token = Arc::new(LocalWrapping::fresh());
    let opened = || {
        let store = SqliteStore::open(&path).unwrap();
        begin(&*store, Arc::clone(&token) as Arc<dyn Wrapping>).map(|()| store)
    };
    let store = SqliteStore::open(&path).unwrap();
    World::new(&*store).bank();
    let clear = newest_row(&path);
    drop(store);
    let store = opened().unwrap();
    let w = World::new(&*store);
    w.ids.set(5_000);
    tool(&w, transfer("1", "sealed"));
    let [kept] = &store.store_keys().unwrap()[..] else { panic!() };
    let key = token.unwrap(kept.wrapping_key, &StoreKey::context(1, kept.first_row), &kept.wrapped).unwrap();
    drop(store);
    let db = Connection::open(&path).unwrap();
    db.execute("UPDATE store_keys SET first_row = first_row + 10", []).unwrap();
    assert_eq!(opened().unwrap_err().name, "store_key_locked");
    db.execute("UPDATE store_keys SET first_row = NULL", []).unwrap();
    assert_eq!(opened().unwrap_err().name, "store_key_locked");
    // As a program kept it that did not say so yet: the first leaf that is sealed is the first row.
    let key: [u8; 32] = key.as_slice().try_into().unwrap();
    let wrapped = token.wrap(kept.wrapping_key, &StoreKey::context(1, None), &key).unwrap();
    db.execute("UPDATE store_keys SET wrapped = ?1", [wrapped]).unwrap();
    forge(&path, clear + 2);
    let store = opened().unwrap();
    assert_eq!(store.store_keys().unwrap()[0].first_row, Some(clear + 1));
    assert_eq!(store.leaf(clear + 2).unwrap().unwrap().content, LeafContent::Unsealed);
    assert!(store.leaf(clear + 1).unwrap().unwrap().body().is_some());
    drop(store);
    assert_eq!(opened().unwrap().store_keys().unwrap()[0].first_row, Some(clear + 1), "once and for ever");
}

#[test]
fn a_leaf_in_the_clear_is_read_as_long_as_it_is_what_it_commits_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite3");
    let store = SqliteStore::open(&path).unwrap();
    World::new(&*store).bank();
    let content = || store.leaf(3).unwrap().unwrap().content;
    let known = content();
    assert!(matches!(known, LeafContent::Known { .. }));
    let db = Connection::open(&path).unwrap();
    for (column, value) in [("body", "x'7b7d'"), ("salt", "zeroblob(32)"), ("salt", "zeroblob(31)"), ("salt", "x''")] {
        db.execute_batch("CREATE TEMP TABLE kept AS SELECT salt, body FROM leaves WHERE row = 3").unwrap();
        db.execute(&format!("UPDATE leaves SET {column} = {value} WHERE row = 3"), []).unwrap();
        assert!(matches!(content(), LeafContent::Damaged(_)), "{column} {value}: {:?}", content());
        db.execute("UPDATE leaves SET (salt, body) = (SELECT salt, body FROM kept) WHERE row = 3", []).unwrap();
        db.execute_batch("DROP TABLE kept").unwrap();
    }
    assert_eq!(content(), known);
}

#[test]
fn nothing_has_had_its_time_where_the_clock_is_far_ahead_of_the_newest_leaf() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite3");
    let store = sqlite(&path);
    let time = || Start::look(&*store).unwrap().time(None).unwrap();
    assert!(time().is_ok(), "nothing is recorded yet");
    let w = World::new(&*store);
    let now = clock::now().0;
    w.now.set(now - 32 * DAY_MS);
    w.bank();
    assert!(matches!(time(), Err(Doubt::Ahead(at)) if at.0 >= now - 32 * DAY_MS), "{:?}", time());
    w.now.set(now - 30 * DAY_MS);
    tool(&w, transfer("1", "k"));
    let believed = time().unwrap();
    assert!(believed.0 >= now);
    let kept = |days: u32, at: UnixMillis| {
        let settings = AuditSettings { retention_days: Some(days), ..AuditSettings::default() };
        lapse(&*store, &settings, at).unwrap()
    };
    assert_eq!(kept(100, believed), 0);
    assert!(kept(100, believed.plus_ms(200 * DAY_MS)) > 2);
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
