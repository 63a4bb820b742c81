//! Buckets of three lengths under a clock that does what it likes, and leaves of all shapes.

use serde_json::{Value, json};

use super::heard::{Alert, AlertKind, Came, Heard, Money};
use super::latency::{BUCKETS, Latencies};
use super::*;
use crate::kernel::command::Settlement;

/// 2026-01-05T10:00:00Z
const BEGIN: i64 = 1_767_607_200_000;

fn at(seconds: i64) -> UnixMillis {
    UnixMillis(BEGIN + seconds * 1_000)
}

fn executed(seconds: i64) -> Heard {
    Heard { at: at(seconds), came: Some(Came::Executed), money: Money::Moved, refusals: vec![], alert: None }
}

fn refused(seconds: i64, name: &str) -> Heard {
    let refusals = vec![(name.to_owned(), 1)];
    Heard { at: at(seconds), came: Some(Came::Refused), money: Money::Stayed, refusals, alert: None }
}

fn sampled(signatures: u32, agents: u32) -> Sampled {
    let mut counts = [0; BUCKETS];
    counts[4] = 10;
    Sampled { over_ms: 1_000, signatures, agents, latencies: Latencies::of(counts) }
}

fn known(since: i64, until: i64, first: First) -> Known {
    Known { since: at(since), first, until: at(until) }
}

/// Everything is known up to this second.
fn whole(series: &mut Series, until: i64) {
    series.know(known(-40 * 86_400, until, First::OfTheWindow));
}

fn sum(column: &Value) -> u64 {
    column.as_array().unwrap().iter().filter_map(Value::as_u64).sum()
}

fn nulls(column: &Value) -> usize {
    column.as_array().unwrap().iter().filter(|value| value.is_null()).count()
}

#[test]
fn every_range_has_as_many_places_as_it_says_and_counts_the_same_event_once() {
    for (range, step_s, places) in [
        (Range::Minute, 1, 60),
        (Range::QuarterHour, 1, 900),
        (Range::Hour, 60, 60),
        (Range::Day, 60, 1_440),
        (Range::Week, 3_600, 168),
        (Range::Month, 3_600, 720),
    ] {
        let mut series = Series::default();
        let now = at(10);
        series.hear(&executed(5), now);
        series.hear(&refused(6, "tool_denied"), now);
        whole(&mut series, 10);
        let told = series.columns(range, now);
        let columns = ["t", "posted", "alerts", "p50", "p95", "p99", "calls", "signatures", "agents"];
        for column in columns {
            assert_eq!(told[column].as_array().unwrap().len(), places, "{range:?} {column}");
        }
        assert_eq!((&told["step_s"], sum(&told["posted"])), (&json!(step_s), 1), "{range:?}");
        assert_eq!(sum(&told["decisions"]["refused"]), 1, "{range:?}");
        assert_eq!(told["refusals"], json!([{ "name": "tool_denied", "count": 1 }]), "{range:?}");
        assert_eq!(told["decisions"].get("denied"), None, "an outcome that there was none of has no column");
        let times: Vec<i64> = told["t"].as_array().unwrap().iter().map(|time| time.as_i64().unwrap()).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == step_s), "{range:?}");
        assert_eq!(Range::of_name(range.name()), Some(range));
    }
    assert_eq!(Range::of_name("2m"), None);
}

#[test]
fn the_newest_bucket_says_how_much_of_it_is_over() {
    let mut series = Series::default();
    whole(&mut series, 4_000);
    for (now, range, newest_s) in [
        (10, Range::Minute, 1),
        (60, Range::Hour, 59),
        (61, Range::Hour, 60),
        (62, Range::Hour, 1),
        (3_601, Range::Month, 3_600),
        (3_602, Range::Month, 1),
    ] {
        assert_eq!(series.columns(range, at(now))["newest_s"], newest_s, "{now} {range:?}");
    }
}

#[test]
fn a_bucket_rolls_over_and_what_is_too_old_is_forgotten() {
    let mut series = Series::default();
    for second in 0..2_000 {
        series.hear(&executed(second), at(second));
    }
    whole(&mut series, 2_001);
    let now = at(2_001);
    let posted = |range| sum(&series.columns(range, now)["posted"]);
    assert_eq!(
        [Range::Minute, Range::QuarterHour, Range::Hour, Range::Week].map(posted),
        [60, 900, 2_000, 2_000],
        "seconds that are over live on in the minutes and hours"
    );
    let minutes = series.columns(Range::Hour, now);
    assert_eq!(minutes["posted"].as_array().unwrap().last().unwrap(), 20, "33 minutes and 20 seconds");
    // A leaf that comes late is counted where there still is a place for it.
    series.hear(&executed(100), now);
    assert_eq!(sum(&series.columns(Range::QuarterHour, now)["posted"]), 900);
    assert_eq!(sum(&series.columns(Range::Hour, now)["posted"]), 2_001);
    series.hear(&executed(-31 * 86_400), now);
    assert_eq!(sum(&series.columns(Range::Month, now)["posted"]), 2_001);
}

#[test]
fn a_clock_that_goes_back_or_jumps_ahead_makes_nothing_wrong() {
    let mut series = Series::default();
    // More than a year, after which second 0 has its place in the ring again.
    let year = 902 * 40_000;
    for second in 0..100 {
        series.hear(&executed(second), at(second));
    }
    // A year ahead, in which something happens, and back again.
    series.hear(&executed(year), at(year));
    series.sample(&sampled(5, 1), at(year));
    whole(&mut series, year + 2);
    assert_eq!(sum(&series.columns(Range::Month, at(year + 2))["posted"]), 1);
    for second in 100..200 {
        series.hear(&executed(second), at(second));
    }
    whole(&mut series, 201);
    assert_eq!(
        sum(&series.columns(Range::QuarterHour, at(201))["posted"]),
        200 - 1,
        "one place was taken in the year ahead"
    );
    assert_eq!(sum(&series.columns(Range::Month, at(201))["agents"]), 0);
    // Half a minute back: what was counted of the time that comes again is there when it comes.
    series.hear(&executed(170), at(170));
    whole(&mut series, 171);
    let told = series.columns(Range::Minute, at(171));
    assert_eq!(sum(&told["posted"]), 60, "{told}");
    whole(&mut series, 202);
    assert_eq!(sum(&series.columns(Range::Minute, at(201))["posted"]), 61);
    // What is far ahead of now is from a clock that was set back; a little ahead is another machine's.
    series.hear(&executed(202 + 61), at(202));
    series.hear(&executed(202 + 60), at(202));
    whole(&mut series, 330);
    assert_eq!(series.newest(1, at(204))["posted"], 1);
    assert_eq!(sum(&series.columns(Range::Hour, at(330))["posted"]), 200 + 1 + 1);
}

#[test]
fn what_is_not_known_is_null_and_what_is_known_to_be_nothing_is_zero() {
    let table = [
        // What is known, the nulls among the newest 60 seconds before second 100, which are those from 39 on.
        (None, 60),
        (Some(known(-10, 100, First::OfTheWindow)), 0),
        (Some(known(50, 100, First::OfTheWindow)), 11),
        (Some(known(50, 100, First::OfTheLog)), 11),
        (Some(known(-10, 80, First::OfTheWindow)), 19),
        (Some(known(50, 60, First::OfTheWindow)), 50),
        (Some(known(200, 300, First::OfTheWindow)), 60),
    ];
    for (known, expected) in table {
        let mut series = Series::default();
        series.hear(&executed(70), at(100));
        if let Some(known) = known {
            series.know(known);
        }
        let told = series.columns(Range::Minute, at(100));
        assert_eq!(nulls(&told["posted"]), expected, "{known:?}");
        assert_eq!(nulls(&told["signatures"]), 60, "nobody has looked");
        assert_eq!(nulls(&told["p50"]), 60, "no call was answered");
    }
    // A minute that began before the window is not told; the first one of a log is.
    for (first, expected) in [(First::OfTheWindow, 59), (First::OfTheLog, 58)] {
        let mut series = Series::default();
        series.know(known(30, 100, first));
        assert_eq!(nulls(&series.columns(Range::Hour, at(100))["posted"]), expected, "{first:?}");
    }
    let mut series = Series::default();
    series.know(known(95, 100, First::OfTheWindow));
    assert_eq!(series.newest(10, at(100))["posted"], Value::Null);
    assert_eq!(series.newest(4, at(100))["posted"], 0);
    assert_eq!(series.alerts(at(100))["day"], Value::Null);
}

#[test]
fn samples_are_rates_and_greatest_values_and_each_second_has_its_own() {
    let mut series = Series::default();
    whole(&mut series, 100);
    // Looks come a little late, and now and then a little early.
    for (second, late_ms) in [(90, 50), (91, 400), (92, 49), (93, 450), (94, 51)] {
        series.sample(&sampled(second, second), UnixMillis(at(i64::from(second)).0 + late_ms));
    }
    let told = series.columns(Range::Minute, at(100));
    let newest = |column: &str| told[column].as_array().unwrap()[50..55].to_vec();
    assert_eq!(newest("t"), [89, 90, 91, 92, 93].map(|second| json!(at(second).0 / 1_000)));
    assert_eq!(newest("signatures"), [90.0, 91.0, 92.0, 93.0, 94.0].map(Value::from));
    assert_eq!(newest("agents"), [90, 91, 92, 93, 94].map(Value::from));
    assert_eq!(newest("calls"), [10; 5].map(Value::from));
    assert_eq!((nulls(&told["signatures"]), nulls(&told["p99"])), (55, 55));
    let hour = series.columns(Range::Week, at(100));
    let last = |column: &str| hour[column].as_array().unwrap().last().unwrap().clone();
    assert_eq!((last("signatures"), last("agents"), last("calls")), (json!(92.0), json!(94), json!(50)));
    let third_to_fourth = |column: &str| (0.283..=0.4).contains(&last(column).as_f64().unwrap());
    assert!(third_to_fourth("p50") && third_to_fourth("p99"), "{hour}");
}

#[test]
fn figures_of_a_time_are_those_of_its_seconds_together() {
    let mut series = Series::default();
    whole(&mut series, 100);
    for second in 0..100 {
        series.hear(&executed(second), at(100));
        series.hear(&refused(second, if second % 3 == 0 { "agent_frozen" } else { "tool_denied" }), at(100));
        series.sample(&sampled(2, 3), at(second + 1));
    }
    let told = series.newest(60, at(100));
    assert_eq!((&told["posted"], &told["decisions"]["refused"]), (&json!(60), &json!(60)));
    assert_eq!(
        told["refusals"],
        json!([
            { "name": "tool_denied", "count": 40 }, { "name": "agent_frozen", "count": 20 },
        ])
    );
    assert_eq!((&told["calls"], &told["signatures"], &told["agents"]), (&json!(600), &json!(2.0), &json!(3)));
    assert_eq!(told["t"], at(39).0 / 1_000);
}

#[test]
fn memory_has_a_bound_however_many_names_and_leaves_there_are() {
    let mut series = Series::default();
    for number in 0..5_000 {
        let second = number % 1_000;
        series.hear(&refused(second, &format!("name_{number}")), at(1_000));
        series.hear(&refused(second, &"x".repeat(65)), at(1_000));
        let alert = Alert { at: at(second), kind: AlertKind::Monitor, about: "a".into(), said: "b".into() };
        series.hear(&Heard { alert: Some(alert), ..executed(second) }, at(1_000));
    }
    whole(&mut series, 1_001);
    assert_eq!((series.names.names.len(), series.alerts.len()), (NAMES_MAX, ALERTS_MAX));
    assert!(series.alerts.iter().all(|alert| alert.at >= at(995)), "the newest ones are kept, in their order");
    for ring in [&series.seconds, &series.minutes, &series.hours] {
        assert!((-2_000..2_000).all(|number| ring.bucket(number).is_none_or(|bucket| bucket.refusals().count() <= 65)));
    }
    // Nothing is lost: what has no name of its own is with the others.
    let told = series.columns(Range::Week, at(1_001));
    let named = told["refusals"].as_array().unwrap();
    assert_eq!(named.len(), TOLD_NAMES_MAX + 1);
    assert_eq!(named.last().unwrap()["name"], "others");
    assert_eq!(named.iter().map(|one| one["count"].as_u64().unwrap()).sum::<u64>(), 10_000);
    let counts: Vec<u64> = named[..TOLD_NAMES_MAX].iter().map(|one| one["count"].as_u64().unwrap()).collect();
    assert!(counts.is_sorted_by(|one, other| one >= other));
}

#[test]
fn a_leaf_that_nobody_can_read_any_more_is_counted_as_that() {
    let mut series = Series::default();
    series.unread(at(5), at(10));
    whole(&mut series, 10);
    let told = series.columns(Range::Minute, at(10));
    assert_eq!((told["unread"].clone(), sum(&told["posted"])), (json!(1), 0));
}

fn leaf(members: Value) -> Value {
    let mut body = json!({
        "actor": { "kind": "agent", "spiffe_id": "spiffe://countersign.example/agent/purchaser/a", "key": "00" },
        "asserted": false, "at": "2026-01-05T10:00:05.000Z", "decision": "permitted", "parameters": {}, "reason": null,
        "request_id": "req_1", "result": null, "schema": "countersign/leaf/v1",
    });
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn told(members: Value) -> Heard {
    Heard::of(leaf(members).to_string().as_bytes(), Settlement::Embedded).unwrap()
}

#[test]
fn a_leaf_tells_what_came_of_a_decision_and_whether_money_moved() {
    use Came::*;
    let table = [
        (json!({ "status": "answered" }), Some(Answered), Money::Stayed),
        (json!({ "status": "approved", "transaction_id": "t" }), Some(Approved), Money::Stayed),
        (json!({ "status": "requires_approval" }), Some(RequiresApproval), Money::Stayed),
        (json!({ "status": "executed", "repeated": false, "batch": "1" }), Some(Executed), Money::Moved),
        (json!({ "status": "executed", "repeated": true, "batch": "1" }), Some(Repeated), Money::Stayed),
        (json!({ "status": "submitted", "repeated": false, "batch": "1" }), Some(Submitted), Money::Stayed),
        (json!({ "status": "submitted", "repeated": true, "batch": "1" }), Some(Repeated), Money::Stayed),
        (json!({ "status": "queued_manual" }), Some(QueuedManual), Money::Stayed),
        (json!({ "status": "cancelled" }), Some(Cancelled), Money::Stayed),
        // A reversal that people have approved is posted in that commit.
        (json!({ "status": "approved", "batch": "1", "repeated": false }), Some(Approved), Money::Moved),
        (json!({ "status": "denied" }), Some(Denied), Money::Stayed),
        (json!({ "status": "counted", "pending": ["bank_approval_pending 1 of 2"] }), None, Money::Stayed),
        (json!({ "status": "done", "changed": true }), None, Money::Stayed),
        (json!({ "status": "of_a_newer_version" }), None, Money::Stayed),
        (json!("executed"), None, Money::Stayed),
        (json!({ "status": 7 }), None, Money::Stayed),
        (json!(null), None, Money::Stayed),
    ];
    for (result, came, money) in table {
        let heard = told(json!({ "tool": "execute_purchase", "result": result }));
        assert_eq!((heard.came, heard.money), (came, money), "{result}");
        assert_eq!((heard.at, heard.refusals.len(), heard.alert), (at(5), 0, None));
    }
    let refusal = told(json!({ "tool": "execute_purchase", "decision": "refused", "reason": "agent_frozen" }));
    assert_eq!((refusal.came, refusal.refusals), (Some(Refused), vec![("agent_frozen".to_owned(), 1)]));
    // In another system's book an approved reversal is an order; its answer is the posting.
    let result = json!({ "status": "approved", "batch": "1", "repeated": false });
    let ordered = leaf(json!({ "act": "decide_approval", "result": result })).to_string();
    assert_eq!(Heard::of(ordered.as_bytes(), Settlement::External).unwrap().money, Money::Stayed);
}

#[test]
fn alerts_and_handshakes_are_what_the_daemon_itself_has_written() {
    let system = |component: &str| json!({ "kind": "system", "component": component });
    let agent = json!({ "kind": "agent", "spiffe_id": "spiffe://countersign.example/agent/purchaser/a" });
    let person = json!({ "kind": "operator", "name": "alice" });
    let alert = json!({ "agent": "spiffe://x/agent/y/z", "said": "score 91" });
    let stop = json!({ "cause": "hsm_down", "open": true, "reason": "no answer" });
    let lift = json!({ "cause": "hsm_down", "open": false, "reason": null });
    let freeze = json!({ "whom": { "agent": "spiffe://x/agent/y/z" }, "reason": "odd" });
    let (done, again) = (json!({ "status": "done", "changed": true }), json!({ "status": "done", "changed": false }));
    let (frozen, already) =
        (json!({ "status": "frozen", "already": false }), json!({ "status": "frozen", "already": true }));
    let table = [
        (
            "monitor_alert",
            system("monitor"),
            &alert,
            &done,
            Some((AlertKind::Monitor, "spiffe://x/agent/y/z", "score 91")),
        ),
        ("monitor_alert", system("listener"), &alert, &done, None),
        ("monitor_alert", agent.clone(), &alert, &done, None),
        ("monitor_alert", person.clone(), &alert, &done, None),
        ("set_breaker", system("breaker"), &stop, &done, Some((AlertKind::Breaker, "hsm_down", "no answer"))),
        ("set_breaker", person.clone(), &stop, &done, Some((AlertKind::Breaker, "hsm_down", "no answer"))),
        ("set_breaker", system("breaker"), &stop, &again, None),
        ("set_breaker", system("breaker"), &lift, &done, None),
        ("set_breaker", agent.clone(), &stop, &done, None),
        ("freeze", person.clone(), &freeze, &frozen, Some((AlertKind::Freeze, "spiffe://x/agent/y/z", "odd"))),
        ("freeze", system("monitor"), &freeze, &already, None),
        ("freeze", agent.clone(), &freeze, &frozen, None),
    ];
    for (act, actor, parameters, result, expected) in table {
        let heard = told(json!({ "act": act, "actor": actor, "parameters": parameters, "result": result }));
        let alert = heard.alert.as_ref().map(|alert| (alert.kind, alert.about.as_str(), alert.said.as_str()));
        assert_eq!(alert, expected, "{act} {actor}");
    }
    let everyone = json!({ "whom": "everyone", "reason": "drill" });
    let heard = told(json!({ "act": "freeze", "actor": person, "parameters": everyone, "result": frozen }));
    assert_eq!(heard.alert.unwrap().about, "everyone");
    let counts = json!({ "counts": { "agent_revoked": 3, "not_set_up": "many", "chain_invalid": 5_000_000_000_u64 } });
    let handshakes =
        |actor: Value| told(json!({ "act": "handshakes_refused", "actor": actor, "parameters": counts })).refusals;
    assert_eq!(
        handshakes(system("listener")),
        [("agent_revoked".to_owned(), 3), ("chain_invalid".to_owned(), u32::MAX)]
    );
    assert_eq!(handshakes(agent), []);
}

#[test]
fn what_is_no_leaf_that_is_known_tells_nothing() {
    for body in [
        "",
        "{}",
        "[]",
        "null",
        "\"leaf\"",
        "{\"at\":\"yesterday\",\"actor\":{}}",
        "{\"at\":7,\"actor\":{}}",
        "{\"at\":\"2026-01-05T10:00:05.000Z\"}",
        "{\"at\":\"2026-01-05T10:00:05.000Z\",\"actor\":\"me\"}",
        "{\"at\":\"2026-01-05T10:00:05.000Z\",\"actor\":{},\"reason\":{}}",
        "\u{0}",
    ] {
        assert_eq!(Heard::of(body.as_bytes(), Settlement::Embedded), None, "{body}");
    }
    let bare = "{\"at\":\"2026-01-05T10:00:05.000Z\",\"actor\":{},\"new\":[1,{\"deep\":null}]}";
    let heard = Heard::of(bare.as_bytes(), Settlement::Embedded).unwrap();
    assert_eq!((heard.came, heard.money, heard.alert), (None, Money::Stayed, None));
    let long = told(json!({
        "act": "monitor_alert", "actor": { "kind": "system", "component": "monitor" },
        "parameters": { "agent": "a", "said": "ü".repeat(5_000) },
    }));
    assert_eq!(long.alert.unwrap().said.chars().count(), 300);
}
