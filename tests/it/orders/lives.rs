//! The lives themselves.

use std::cell::RefCell;
use std::collections::BTreeMap;

use countersign::store::sqlite::SqliteStore;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use super::bank::founding;
use super::policies::rules_under;
use super::steps::{Life, Step, settings_are_the_witnesses, step};
use super::witness::Witness;
use crate::store::world::World;

/// Lives in one run, the same ones each time; `COUNTERSIGN_LIVES` asks for others, and so many.
const LIVES: u32 = 64;
const STEPS_MAX: usize = 160;

/// What has to happen in these lives, or they prove nothing: each at least so often.
const HAPPENS: [(&str, usize); 42] = [
    ("approved", 100),
    ("asked", 40),
    ("posted", 60),
    ("posted after both gates", 1),
    ("posted under a mandate", 3),
    ("let through", 20),
    ("let through by several", 3),
    ("one of several words", 10),
    ("denied", 2),
    ("reversed", 3),
    ("cancelled", 10),
    ("answered again", 10),
    ("swept", 20),
    ("policy", 60),
    ("mandate", 20),
    ("under a mandate", 20),
    ("thawed", 3),
    ("queued", 1),
    ("queued instead", 5),
    ("proposed", 5),
    ("decided by two", 1),
    ("released", 5),
    ("rejected", 1),
    ("paid_elsewhere", 1),
    ("agent_revoked", 5),
    ("agent_frozen", 10),
    ("account_not_granted", 10),
    ("tool_denied_by_policy", 10),
    ("constraint_violated", 2),
    ("payee_not_allowed", 5),
    ("unauthorized_merchant", 5),
    ("above_hard_ceiling", 10),
    ("velocity_exceeded", 1),
    ("mandate_missing", 3),
    ("mandate_revoked", 3),
    ("policy_changed_meanwhile", 3),
    ("maker_is_checker", 3),
    ("already_spoken", 1),
    ("approval_mismatch", 3),
    ("authorization_mismatch", 10),
    ("authorization_expired", 3),
    ("idempotency_key_reused", 20),
];

#[test]
fn no_order_of_anything_breaks_limits_single_use_binding_or_maker_and_checker() {
    let asked = std::env::var("COUNTERSIGN_LIVES").ok();
    let lives = asked.as_ref().map_or(LIVES, |lives| lives.parse().expect("a number"));
    let config = Config { cases: lives, failure_persistence: None, max_shrink_time: 60_000, ..Config::default() };
    let mut runner = match asked {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    settings_are_the_witnesses(&rules_under(None));
    let seen = RefCell::new(BTreeMap::<String, usize>::new());
    let life = (1..5_usize, proptest::collection::vec(step(), 60..STEPS_MAX));
    let result = runner.run(&life, |(group, steps)| {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("store/store.sqlite3")).unwrap();
        let lived = live(&World::new(&*store), group, &steps).map_err(TestCaseError::fail)?;
        for (what, times) in lived {
            *seen.borrow_mut().entry(what).or_default() += times;
        }
        Ok(())
    });
    if let Err(TestError::Fail(why, (group, steps))) = result {
        panic!("{why}\nthe shortest such life, {group} commands in a commit: {steps:#?}");
    }
    result.unwrap();
    let seen = seen.into_inner();
    let enough = |what: &str| seen.get(what).copied().unwrap_or(0);
    let rare: Vec<_> = HAPPENS.iter().filter(|(what, least)| enough(what) < *least).collect();
    assert!(rare.is_empty() || lives < LIVES, "too rare: {rare:?} of {seen:?}");
}

/// Up to `group` commands share a commit; the witness judges each, then looks at the store.
fn live(w: &World<'_>, group: usize, steps: &[Step]) -> Result<BTreeMap<String, usize>, String> {
    let mut witness = Witness::new();
    let founding = founding(w);
    let decisions = w.store.apply(founding.clone()).map_err(|fault| fault.to_string())?;
    for (command, decision) in founding.iter().zip(decisions) {
        decision.outcome.map_err(|refusal| format!("{refusal:?} to {:?}", command.act))?;
        witness.founded(command);
    }
    let life = Life { w };
    for steps in steps.chunks(group) {
        let asked: Vec<_> = steps.iter().filter_map(|step| life.asked(&witness, step)).collect();
        let commands = asked.iter().map(|asked| asked.command.clone()).collect();
        let decisions = w.store.apply(commands).map_err(|fault| fault.to_string())?;
        for (asked, decision) in asked.iter().zip(decisions) {
            let told = || {
                format!("{:?} of {} at {}", asked.command.act, asked.command.actor.name(), asked.command.stamp.wall.0)
            };
            let outcome = &decision.outcome;
            witness.heard(asked, outcome).map_err(|what| format!("{what}\n{outcome:?} to {}", told()))?;
        }
    }
    witness.agrees(w.store)?;
    Ok(witness.seen)
}
