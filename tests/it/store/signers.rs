//! Who signed a mandate, and what is read of those that were ever given: a revoked signer's ends, others' are not touched.

use std::sync::Arc;

use super::mandates::{Owner, claims, enter, id, limits, revoke};
use super::world::*;
use crate::support::postgres::shared;
use countersign::kernel::command::*;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::*;
use countersign::payment::outlook;
use countersign::store::sqlite::SqliteStore;
use serde_json::{Value, json};

sentences! {
    a_mandate_ends_with_the_key_the_certificate_or_the_issuer_of_whoever_signed_it: |w| {
        w.bank();
        type Ends = fn(&Owner) -> RevocationTarget;
        let table: &[(&str, Ends)] = &[
            ("key", |owner| RevocationTarget::Key(owner.key.key.id)),
            ("certificate", |owner| {
                let (issuer, serial) = (owner.key.issuer.clone(), owner.key.serial.clone());
                RevocationTarget::Certificate { issuer, serial }
            }),
            ("issuer", |owner| {
                RevocationTarget::Issuer { issuer: owner.key.issuer.clone(), certificates: vec![] }
            }),
        ];
        for (number, (what, target)) in (1..).zip(table) {
            let owner = Owner::with(number);
            let record = CertificateRecord {
                issuer: owner.key.issuer.clone(),
                key: owner.key.key.id,
                ..certificate(&format!("crt_{number}"), &format!("owner-{number}"), number)
            };
            w.system(Act::JournalCertificate { record }).outcome.unwrap();
            let add = |last: &str| Act::AddMandate { mandate: Box::new(owner.signs(w, &claims(w, last, &limits()))) };
            w.admin(add(&number.to_string())).unwrap();
            let late = add(&format!("9{number}"));
            let transaction = w.approved(transfer("5", &format!("{what}-1")));
            w.admin(Act::Revoke { target: target(&owner), reason: "lost".into() }).unwrap();
            let execute = execute_transfer(&transaction, "SAV_001", "5");
            assert_eq!(w.call(execute), Err(Refusal::MandateRevoked), "{what}");
            assert_eq!(w.call(transfer("5", &format!("{what}-2"))), Err(Refusal::MandateRevoked), "{what}");
            let seen = outlook::of_agent(w.store, &shopper(), UnixMillis(w.now.get())).unwrap();
            let shown = seen["mandates"].as_array().unwrap().iter().find(|shown| shown["mandate_id"] == id(&number.to_string()));
            assert_eq!(shown.unwrap()["status"], "revoked", "{what}: {seen}");
            assert_eq!(w.admin(late), Err(Refusal::OperatorRevoked), "{what}: verified before, entered after");
        }
        enter(w, "5", &limits()).unwrap();
        w.approved(transfer("5", "again"));
        w.later(20 * 60_000);
        w.sweep();
        assert_eq!(w.balance("CHK_001").1, "0.00");
        w.adds_up();
    };

    an_agent_has_so_many_mandates_for_an_account_and_each_that_stands_is_asked: |w| {
        w.bank();
        // The one that is used ends first; the others let nothing be paid now.
        let later_on = |last: &str| {
            let mut claims = claims(w, last, &only("1"));
            claims["nbf"] = json!(w.now.get() / 1000 + 86_400);
            claims["exp"] = json!(w.now.get() / 1000 + 19 * 86_400);
            claims
        };
        enter(w, "100", &limits()).unwrap();
        for number in 101..132 {
            enter(w, &number.to_string(), &later_on(&number.to_string())).unwrap();
        }
        assert_eq!(enter(w, "132", &limits()), Err(Refusal::TooManyMandates));
        let transaction = w.approved(transfer("5", "k1"));
        revoke(w, "101").unwrap();
        enter(w, "132", &later_on("132")).unwrap();
        assert_eq!(enter(w, "133", &limits()), Err(Refusal::TooManyMandates));
        w.posted(execute_transfer(&transaction, "SAV_001", "5"));

        // One that is not among those that are read for a payment is found by its name.
        let transaction = w.approved(transfer("5", "k2"));
        for last in ["100", "102"] {
            revoke(w, last).unwrap();
            w.later(1_000);
        }
        assert_eq!(w.call(execute_transfer(&transaction, "SAV_001", "5")), Err(Refusal::MandateRevoked));
        w.later(19 * DAY_MS);
        assert_eq!(w.call(transfer("5", "k3")), Err(Refusal::MandateExpired));
        enter(w, "133", &limits()).unwrap();
        w.approved(transfer("5", "k3"));
        w.sweep();
        w.adds_up();
    };

    behind_a_thousand_that_are_over_an_agent_sees_the_mandate_that_stands: |w| {
        w.bank();
        enter(w, "1", &limits()).unwrap();
        let ada = || Actor::Operator(operator("ada", &["administrator"]));
        let owner = Owner::with(200);
        let over = |number: u32| {
            let mandate = Box::new(owner.signs(w, &claims(w, &number.to_string(), &limits())));
            let ended = Act::RevokeMandate { mandate: id(&number.to_string()).parse().unwrap(), reason: "moved".into() };
            [w.command(ada(), Act::AddMandate { mandate }), w.command(ada(), ended)]
        };
        let commands: Vec<Command> = (1_000..2_001).flat_map(over).collect();
        for some in commands.chunks(100) {
            assert!(w.store.apply(some.to_vec()).unwrap().iter().all(|decision| decision.outcome.is_ok()));
        }
        let seen = outlook::of_agent(w.store, &shopper(), UnixMillis(w.now.get())).unwrap();
        let shown = seen["mandates"].as_array().unwrap();
        assert_eq!((&shown[0]["mandate_id"], &shown[0]["status"]), (&json!(id("1")), &json!("in_force")));
        assert_eq!((&shown[1]["mandate_id"], &shown[1]["status"]), (&json!(id("2000")), &json!("revoked")));
        assert_eq!((shown.len(), &seen["complete"]), (100, &json!(false)));
    };

    an_owner_enters_and_revokes_mandates_for_accounts_of_its_own: |w| {
        w.bank();
        let owner = |name: &str, of: &str| {
            Actor::Operator(OperatorPrincipal { owner: Some(of.parse().unwrap()), ..operator(name, &["owner"]) })
        };
        let (olga, otto) = (owner("olga", "OWN_001"), owner("otto", "OWN_002"));
        let verified = Owner::with(1).signs(w, &claims(w, "1", &limits()));
        let add = || Act::AddMandate { mandate: Box::new(verified.clone()) };
        let end = || Act::RevokeMandate { mandate: id("1").parse().unwrap(), reason: "done".into() };
        assert_eq!(w.decision(otto.clone(), add()).outcome, Err(Refusal::OperatorNotPermitted));
        w.decision(olga.clone(), add()).outcome.unwrap();
        assert_eq!(w.store.mandate(&id("1").parse().unwrap()).unwrap().unwrap().entered_by, "olga");
        w.approved(transfer("5", "k"));
        assert_eq!(w.decision(otto.clone(), end()).outcome, Err(Refusal::OperatorNotPermitted));
        w.decision(olga, end()).outcome.unwrap();
        let ended = w.store.mandate(&id("1").parse().unwrap()).unwrap().unwrap().revoked.unwrap();
        assert_eq!((ended.by.as_str(), ended.reason.as_str()), ("olga", "done"));
        assert_eq!(w.call(transfer("5", "k2")), Err(Refusal::MandateRevoked));
        let of_another = json!({ "type": "account", "id": "CHK_002" });
        let mut claims = claims(w, "2", &limits());
        claims["payment_instrument"] = of_another;
        let verified = Owner::with(2).signs(w, &claims);
        let add = Act::AddMandate { mandate: Box::new(verified) };
        assert_eq!(w.decision(otto, add).outcome, Err(Refusal::OperatorNotPermitted), "it names another owner");
    };

    what_may_be_authorized_now_is_executed_only_on_the_days_of_its_mandate: |w| {
        w.bank();
        let mut dated = limits();
        let ends = UnixMillis(w.now.get() + 300_000).rfc3339();
        dated.as_array_mut().unwrap().push(json!({ "type": "payment.execution_date", "not_after": ends }));
        enter(w, "1", &dated).unwrap();
        let (first, second) = (w.approved(transfer("5", "k1")), w.approved(transfer("5", "k2")));
        w.later(300_000);
        w.posted(execute_transfer(&first, "SAV_001", "5"));
        w.later(1);
        assert_eq!(w.call(execute_transfer(&second, "SAV_001", "5")), Err(Refusal::MandateDates));
        assert_eq!(w.call(transfer("5", "k3")), Err(Refusal::MandateDates));
        w.adds_up();
    };

    what_a_core_refuses_is_given_back_to_its_mandate: |w| {
        let rules = Arc::new(Rules { settlement: Settlement::External, ..rules() });
        let w = &World { rules, ..World::new(w.store) };
        w.bank();
        enter(w, "1", &only("100")).unwrap();
        let core = |id: &TransactionId, verb, word| {
            let act = Act::CoreAnswered { transaction_id: id.clone(), verb, word };
            let actor = Actor::System { component: countersign::kernel::decide::CORE_COMPONENT.into() };
            w.decision(actor, act).outcome.unwrap();
        };
        let ordered = |key: &str| {
            let transaction = w.approved(transfer("100", key));
            core(&transaction, CoreVerb::Hold, CoreWord::Done);
            let executed = w.call(execute_transfer(&transaction, "SAV_001", "100"));
            assert!(matches!(executed, Ok(Effect::Submitted(_))), "{executed:?}");
            transaction
        };
        let first = ordered("k1");
        assert_eq!(w.call(transfer("1", "k2")), Err(Refusal::MandateBudget), "an order counts");
        core(&first, CoreVerb::Settle, CoreWord::Refused("limit".into()));
        let second = ordered("k3");
        core(&second, CoreVerb::Settle, CoreWord::Done);
        assert_eq!(w.call(transfer("1", "k4")), Err(Refusal::MandateBudget), "it was paid");
        w.adds_up();
    };
}

/// A ceiling for all payments together, and nothing else.
fn only(budget: &str) -> Value {
    let max: Value = serde_json::from_str(budget).unwrap();
    json!([{ "type": "payment.budget", "currency": "USD", "max": max }])
}

/// The mandates that a payment asks for are those of its agent and of its account.
#[test]
fn a_row_that_nobody_can_read_stops_no_other_account() {
    let row = format!(
        "INSERT INTO mandates (name, agent, account, claims, text, created, entered_by)
         VALUES ('mdt_unreadable', '{}', 'CHK_002', '{{}}', '', 0, 'x')",
        shopper().spiffe_id
    );
    let goes_on = |w: &World<'_>| {
        let transaction = w.approved(transfer("5", "k1"));
        w.posted(execute_transfer(&transaction, "SAV_001", "5"));
        w.approved(transfer_to(None, "SAV_001", "5", "k2"));
        enter(w, "1", &limits()).unwrap();
        w.approved(transfer("5", "k3"));
        w.adds_up();
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store/store.sqlite3");
    let store = SqliteStore::open(&path).unwrap();
    let w = World::new(&*store);
    w.bank();
    rusqlite::Connection::open(&path).unwrap().execute(&row, []).unwrap();
    goes_on(&w);

    let database = shared().database();
    let store = database.open();
    let w = World::new(&*store);
    w.bank();
    database.sql(&row);
    goes_on(&w);
}

#[test]
fn two_daemons_never_pay_more_than_a_budget_together() {
    let database = shared().database();
    let stores = [database.open(), database.open()];
    let rules = Arc::new(Rules { open_holds_max: 1_000, ..rules() });
    let w = World { rules: rules.clone(), ..World::new(&*stores[0]) };
    w.bank();
    enter(&w, "1", &only("250")).unwrap();
    let pays = |number: usize| {
        let w = World { rules: rules.clone(), ..World::new(&*stores[number]) };
        w.ids.set(1_000_000 * (1 + number as u64));
        let outcomes = (0..20).map(|key| w.call(transfer("20", &format!("{number}-{key}"))));
        let (within, outside): (Vec<Outcome>, Vec<Outcome>) = outcomes.partition(|outcome: &Outcome| outcome.is_ok());
        assert!(outside.iter().all(|outcome| *outcome == Err(Refusal::MandateBudget)), "{outside:?}");
        within.len()
    };
    let within: usize = std::thread::scope(|scope| {
        let daemons = [0, 1].map(|number| scope.spawn(move || pays(number)));
        daemons.into_iter().map(|daemon| daemon.join().unwrap()).sum()
    });
    assert_eq!(within, 12, "of 20 dollars each");
    w.adds_up();
}
