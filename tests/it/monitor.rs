//! The monitor: over two labelled streams, whose scores are the same everywhere, and beside a real daemon.

use std::sync::Arc;

use countersign::bench::monitor::judge::{self, Verdict};
use countersign::bench::monitor::stream::{self, Family};
use countersign::kernel::command::Act;
use countersign::kernel::monitor::{Ahead, Assessment, MonitorRules, Told, What};
use countersign::kernel::types::UnixMillis;
use countersign::monitor::Watch;
use countersign::monitor::settings::MonitorSettings;
use countersign::store::Store;
use countersign::store::sqlite::SqliteStore;
use serde_json::{Value, json};

use crate::crash::until;
use crate::store::world as ledger;
use crate::support::raw::tool_call;
use crate::support::signed::{Agent, Answer, signed};
use crate::support::world::World;

fn judged(seed: u64) -> Verdict {
    judge::run(&MonitorRules::default(), &stream::stream(seed, 200, 6), |_, _, _| {})
}

fn reaches(verdict: &Verdict, precision: u32, recall: &[(Family, u32)]) {
    assert!(verdict.precision() >= precision, "precision {}", verdict.precision());
    assert_eq!(recall.len(), Family::ALL.len());
    for (family, least) in recall {
        let found = &verdict.families[family];
        assert!(found.recall() >= *least, "{family:?}: {found:?}");
    }
}

/// The stream that the rules were made with. A smaller one than that of `docs/MONITOR.md`.
#[test]
fn the_scores_of_a_seeded_stream_are_the_committed_ones() {
    let verdict = judged(1);
    assert_eq!(verdict.scores, "fa7ae8e93880d08dc3fc32aa01b9f0c2f51377cef08256c037c5be3f3de4a789");
    let recall = [
        (Family::VelocityBurst, 1_000),
        (Family::AmountEscalation, 1_000),
        (Family::NewPayeeDrain, 1_000),
        (Family::NightActivity, 1_000),
        (Family::RefusalHammering, 1_000),
        (Family::LimitProbing, 1_000),
        (Family::Structuring, 1_000),
        (Family::SlowDrip, 833),
        (Family::Takeover, 1_000),
    ];
    reaches(&verdict, 959, &recall);
}

/// A stream that nobody looked at while the rules were made.
#[test]
fn a_stream_that_was_held_out_is_judged_about_as_well() {
    let verdict = judged(2026);
    assert_eq!(verdict.scores, "cbd059a0a7fcbcabd594dee516e9af131115b923265a7e3e1d3ce56291a10f7d");
    let recall = [
        (Family::VelocityBurst, 1_000),
        (Family::AmountEscalation, 1_000),
        (Family::NewPayeeDrain, 833),
        (Family::NightActivity, 833),
        (Family::RefusalHammering, 1_000),
        (Family::LimitProbing, 1_000),
        (Family::Structuring, 1_000),
        (Family::SlowDrip, 833),
        (Family::Takeover, 1_000),
    ];
    reaches(&verdict, 904, &recall);
}

#[test]
fn what_an_agent_has_written_into_a_leaf_is_neither_an_alert_nor_a_freeze() {
    let body = |act: &str, actor: Value| {
        json!({
            "act": act, "actor": actor, "at": "2026-01-05T10:00:00.000Z", "decision": "permitted",
            "parameters": { "request_id": "req_1", "whom": { "agent": "spiffe://countersign.example/agent/purchaser/a" } },
            "request_id": "req_2", "result": { "status": "frozen" }, "schema": "countersign/leaf/v1",
        })
    };
    let agent = json!({ "kind": "agent", "spiffe_id": "spiffe://countersign.example/agent/purchaser/a" });
    let system = |component: &str| json!({ "kind": "system", "component": component });
    let what = |body: Value| Told::of(body.to_string().as_bytes()).unwrap().what;
    assert!(matches!(what(body("monitor_alert", system("monitor"))), What::Alerted { .. }));
    assert!(matches!(what(body("freeze", system("monitor"))), What::Frozen { .. }));
    for (act, actor) in [("monitor_alert", agent.clone()), ("freeze", agent), ("monitor_alert", system("listener"))] {
        assert_eq!(what(body(act, actor.clone())), What::Other, "{act} {actor}");
    }
    for broken in ["", "{}", "[]", "{\"at\":\"yesterday\",\"actor\":{},\"request_id\":\"r\"}"] {
        assert_eq!(Told::of(broken.as_bytes()), None, "{broken}");
    }
}

/// Gives every leaf its place.
fn sequenced(store: &dyn Store) {
    let rows: Vec<i64> = store.unsequenced(10_000).unwrap().iter().map(|leaf| leaf.row).collect();
    let before = store.newest_checkpoint().unwrap().map_or(0, |checkpoint| checkpoint.size);
    store.sequence(ledger::step(before, rows)).unwrap();
}

/// A payment that is scored, and with its score decided on, or not at all.
fn scored(world: &ledger::World<'_>, watch: &Watch, key: &str, is_committed: bool) -> Box<Assessment> {
    let (agent, call) = (ledger::shopper(), ledger::transfer("1", key));
    let mut rules = ledger::rules();
    rules.open_holds_max = 1_000;
    let mut command = world.tool_command(&agent, call.clone());
    let assessment = watch.assess(&agent, &call, &command.stamp.request_id, command.stamp.wall, &rules);
    if let Act::Tool { rules: of_command, risk, .. } = &mut command.act {
        *of_command = Arc::new(rules);
        *risk = Some(assessment.clone());
    }
    if is_committed {
        let decision = world.store.apply(vec![command]).unwrap().pop().unwrap();
        assert!(decision.outcome.is_ok(), "{key}: {:?}", decision.outcome);
    }
    assessment
}

#[test]
fn a_burst_is_seen_while_the_log_stands_still_and_what_was_not_committed_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("store.sqlite3")).unwrap();
    let world = ledger::World::new(&*store);
    world.bank();
    sequenced(&*store);
    let now = || UnixMillis(world.now.get());
    let looks = |watch: &Watch| (0..40).for_each(|_| _ = watch.follow(&*store, now()).unwrap());
    let (here, elsewhere) = (watch_of(&*store, now()), watch_of(&*store, now()));
    for number in 0..30 {
        scored(&world, &here, &format!("k{number}"), true);
        world.later(1_000);
    }
    (0..20).for_each(|number| _ = scored(&world, &here, &format!("lost{number}"), false));
    // The log stands still for longer than anything takes that is only late.
    world.later(120_000);
    for (name, watch) in [("here", &here), ("elsewhere", &elsewhere), ("after-a-start", &watch_of(&*store, now()))] {
        looks(watch);
        let seen = scored(&world, watch, name, false).ahead.payments;
        // Two minutes and some seconds of a half-life of five minutes.
        assert!((18..=24).contains(&seen), "{name}: {seen}");
    }
    // An hour on, nothing of it is a burst any more.
    world.later(3_600_000);
    looks(&here);
    assert_eq!(scored(&world, &here, "later", false).ahead.payments, 0);
    sequenced(&*store);
    looks(&here);
    world.later(120_000);
    let after = scored(&world, &here, "after", true);
    assert_eq!((after.ahead, after.seen > 30), (Ahead::default(), true));
}

fn watch_of(store: &dyn Store, now: UnixMillis) -> Watch {
    let watch = Watch::new(&MonitorSettings::default()).unwrap().unwrap();
    watch.catch_up(store, now, &mut |_| {}).unwrap();
    watch
}

#[test]
fn a_replay_keeps_one_part_of_the_log_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("store.sqlite3")).unwrap();
    let world = ledger::World::new(&*store);
    world.bank();
    sequenced(&*store);
    let watch = watch_of(&*store, UnixMillis(world.now.get()));
    for number in 0..10 {
        scored(&world, &watch, &format!("k{number}"), true);
        sequenced(&*store);
        watch.follow(&*store, UnixMillis(world.now.get())).unwrap();
    }
    let (mut from, mut scores, mut parts) = (0, 0, 0);
    loop {
        let part = watch.replay(&*store, from, None, 4, &mut |_| {}).unwrap();
        let number = |key: &str| part[key].as_str().unwrap().parse::<u64>().unwrap();
        assert!(number("scores") <= 4 && number("same") == number("scores"), "{part}");
        (scores, parts) = (scores + number("scores"), parts + 1);
        let Some(next) = part["next"].as_str() else { break };
        from = next.parse().unwrap();
    }
    assert_eq!((scores, parts), (10, 3));
}

/// A world whose monitor says so much sooner.
fn watched(mode: &str, rules: &str) -> (World, Agent) {
    let world = World::new();
    let path = world.state("bank").join("countersign.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    world.kill("bank");
    let text = text.replace("mode = \"enforce\"", &format!("mode = \"{mode}\""));
    std::fs::write(&path, format!("{text}\n[monitor.rules]\n{rules}\n")).unwrap();
    world.serve("bank");
    let agent = Agent::new(&world.state("bank"), &world.state("agent"), "assistant");
    (world, agent)
}

fn ask(world: &World, words: &[&str]) -> Value {
    serde_json::from_str(&world.run("bank", &[&["--json", "--operator", "auditor"], words].concat())).unwrap()
}

/// Until the monitor has seen the log as it is now.
fn caught_up(world: &World) {
    let size = ask(world, &["audit", "show", "--limit", "1"])["size"].as_u64().unwrap();
    let seen = || ask(world, &["monitor", "show", "assistant"])["seen"].as_str().unwrap().parse::<u64>().unwrap();
    until("the monitor has read the log", || (seen() >= size).then_some(()));
}

fn call(agent: &Agent, tool: &str, arguments: &Value) -> Answer {
    agent.line().ask(&signed(agent, &tool_call(tool, arguments)))
}

fn hammer(agent: &Agent, times: usize) {
    for _ in 0..times {
        call(agent, "get_account_balance", &json!({ "account_id": "CHK_002" }));
    }
}

fn transfer(key: &str) -> Value {
    json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": "1.00", "idempotency_key": key })
}

#[test]
fn forbidden_calls_hold_the_next_payment_then_freeze_the_agent_and_the_log_gives_the_same_scores() {
    let (world, agent) = watched("enforce", "approve_at = 200\nfreeze_at = 360");
    assert_eq!(call(&agent, "authorize_transfer", &transfer("first")).content()["status"], "approved");

    hammer(&agent, 8);
    caught_up(&world);
    let held = call(&agent, "authorize_transfer", &transfer("second"));
    assert_eq!(held.content()["status"], "requires_approval", "{held:?}");
    let approvals = ask(&world, &["approvals", "list"]);
    assert_eq!(approvals["items"][0]["reasons"], json!(["risk_score"]));
    let shown = ask(&world, &["monitor", "show", "assistant", "--limit", "1"]);
    assert_eq!(shown["items"][0]["reasons"][0]["name"], "refusals");
    let alerts = || ask(&world, &["monitor", "alerts"])["items"].as_array().unwrap().len();
    until("there is an alert", || (alerts() == 1).then_some(()));

    // One more would be refused already: a freeze cuts the connection that a call is on.
    hammer(&agent, 2);
    caught_up(&world);
    let refused = call(&agent, "list_accounts", &json!({}));
    assert!(refused.body.to_string().contains("risk_frozen"), "{refused:?}");
    let frozen = || ask(&world, &["freeze", "--list"])["items"].as_array().unwrap().len();
    until("the agent is frozen", || (frozen() == 1).then_some(()));
    let list = ask(&world, &["freeze", "--list"]);
    assert!(list["items"][0]["reason"].as_str().unwrap().starts_with("risk score "), "{list}");

    for operator in ["bank-officer", "bank-admin"] {
        world.run("bank", &["--operator", operator, "unfreeze", "assistant", "--note", "looked at"]);
    }
    caught_up(&world);
    assert_eq!(call(&agent, "authorize_transfer", &transfer("third")).content()["status"], "approved");

    // Another start, another window of the log: every score can still be made again.
    world.kill("bank");
    world.serve("bank");
    assert_eq!(call(&agent, "authorize_transfer", &transfer("fourth")).content()["status"], "approved");
    caught_up(&world);
    let replayed = ask(&world, &["monitor", "replay"]);
    assert_eq!(replayed["differences"], "0", "{replayed}");
    let count = |key: &str| replayed[key].as_str().unwrap().parse::<u32>().unwrap();
    assert!(count("scores") >= 14 && count("same") + count("other_rules") == count("scores"), "{replayed}");
    assert_eq!(frozen(), 0, "a freeze that was lifted is not ordered again");
}

#[test]
fn a_monitor_that_observes_holds_nothing_and_one_that_is_off_says_so() {
    let (world, agent) = watched("observe", "approve_at = 1\nfreeze_at = 2");
    hammer(&agent, 12);
    caught_up(&world);
    assert_eq!(call(&agent, "authorize_transfer", &transfer("first")).content()["status"], "approved");
    let path = world.state("bank").join("countersign.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"observe\"", "\"off\"");
    world.kill("bank");
    std::fs::write(&path, text).unwrap();
    world.serve("bank");
    assert_eq!(world.refused("bank", &["--operator", "auditor", "monitor", "alerts"]), (2, "monitor_off".into()));
}
