//! When a cause stands and when it is over, whatever order the observations come in.

use proptest::prelude::*;

use super::*;

/// Small numbers, so that a table is read in one look.
fn settings() -> BreakerSettings {
    BreakerSettings {
        hsm_down_ms: 1_000,
        store_slow_ms: 100,
        store_window_s: 10,
        store_samples_min: 10,
        core_failures: 3,
        core_failing_ms: 1_000,
        core_failing_percent: 50,
        core_window_s: 60,
        core_samples_min: 10,
        anomalous_agents: 4,
        anomalies_window_s: 10,
        probe_successes: 3,
        recovered_ms: 2_000,
        probe_pause_ms: 500,
        probe_pause_max_ms: 8_000,
        automatic: Automatic::On,
    }
}

fn order(number: i64) -> Sha256 {
    let mut order = [0; 32];
    order[..8].copy_from_slice(&number.to_be_bytes());
    Sha256(order)
}

fn names(detector: &Detector) -> Vec<&'static str> {
    detector.all_standing().iter().map(|progress| progress.cause.name()).collect()
}

/// What is seen, at which times, and which causes stand after the turn at the end.
#[test]
fn each_cause_stands_on_its_own_evidence_and_no_earlier() {
    // Each about another order, unless it is said which.
    let core_about = |number: i64, at, reached| (at, Seen::Core { order: order(number), reached });
    let core = |at, reached| core_about(at, at, reached);
    let no = |at| core(at, Reached::No);
    let stuck = |at| core_about(-1, at, Reached::No);
    let commits = |slow: i64, fast: i64| {
        let took = |took_ms| move |at: i64| (at, Seen::Commit { took_ms });
        (0..slow).map(took(101)).chain((0..fast).map(took(1))).collect::<Vec<_>>()
    };
    let alerts = |agents: &[&str]| agents.iter().map(|agent| (0, Seen::Alert((*agent).to_owned()))).collect::<Vec<_>>();
    let mixed = |without: i64, with: i64| {
        // Never three in a row, so that the share alone decides.
        let mut seen: Vec<(i64, Seen)> = vec![];
        for place in 0..without.max(with) {
            seen.extend((place < without).then(|| no(place)));
            seen.extend((place < with).then(|| core_about(1_000 + place, place, Reached::Yes)));
        }
        seen
    };
    type Row = (&'static str, Vec<(i64, Seen)>, i64, &'static [&'static str]);
    let rows: Vec<Row> = vec![
        ("nothing", vec![], 100_000, &[]),
        ("the HSM blinks", vec![(0, Seen::Hsm(Reached::No))], 999, &[]),
        ("the HSM is away", vec![(0, Seen::Hsm(Reached::No))], 1_000, &["hsm_down"]),
        (
            "away, seen again and again",
            vec![(0, Seen::Hsm(Reached::No)), (900, Seen::Hsm(Reached::No))],
            1_000,
            &["hsm_down"],
        ),
        (
            "it came back in between",
            vec![(0, Seen::Hsm(Reached::No)), (500, Seen::Hsm(Reached::Yes)), (600, Seen::Hsm(Reached::No))],
            1_599,
            &[],
        ),
        ("too few slow commits to say", commits(9, 0), 10, &[]),
        ("slow commits", commits(10, 0), 10, &["store_slow"]),
        ("one in a hundred is slow", commits(1, 99), 100, &[]),
        ("two in a hundred are slow", commits(2, 98), 100, &["store_slow"]),
        ("slow, but long ago", commits(10, 0), 10_011, &[]),
        ("a silent core for a moment", vec![no(0), no(1), no(2)], 999, &[]),
        ("a silent core", vec![no(0), no(1), no(2)], 1_000, &["core_failing"]),
        ("one word in between", vec![no(0), no(1), core(2, Reached::Yes), no(3)], 5_000, &[]),
        ("one order that is stuck, said again and again", (0..50).map(|turn| stuck(turn * 100)).collect(), 5_000, &[]),
        ("two that are stuck", (0..50).map(|turn| core_about(turn % 2, turn * 100, Reached::No)).collect(), 5_000, &[]),
        (
            "three that are stuck",
            (0..50).map(|turn| core_about(turn % 3, turn * 100, Reached::No)).collect(),
            5_000,
            &["core_failing"],
        ),
        (
            "one that is stuck among others with a word",
            (0..20).flat_map(|turn| [stuck(turn), core(turn, Reached::Yes)]).collect(),
            5_000,
            &[],
        ),
        (
            "half of them without a word at first, and with one when said again",
            mixed(5, 5).into_iter().chain((0..5).map(|number| core(number, Reached::Yes))).collect(),
            10,
            &[],
        ),
        ("half the orders without a word", mixed(5, 5), 10, &["core_failing"]),
        ("less than half", mixed(4, 6), 10, &[]),
        ("half, but too few to say", mixed(4, 4), 10, &[]),
        ("three agents", alerts(&["a", "b", "c"]), 1, &[]),
        ("one agent again and again", alerts(&["a", "a", "a", "a", "a", "a"]), 1, &[]),
        ("four agents", alerts(&["a", "b", "c", "d"]), 1, &["anomalies"]),
        ("a disk with room", vec![(0, Seen::Disk(None))], 100_000, &[]),
        ("a disk at its reserve", vec![(0, Seen::Disk(Some("little".into())))], 0, &["disk_low"]),
        ("room again", vec![(0, Seen::Disk(Some("little".into()))), (1, Seen::Disk(None))], 1, &[]),
        ("four agents, long ago", alerts(&["a", "b", "c", "d"]), 10_001, &[]),
        (
            "two at once",
            commits(10, 0).into_iter().chain([(0, Seen::Hsm(Reached::No))]).collect(),
            1_500,
            &["hsm_down", "store_slow"],
        ),
    ];
    for (name, seen, at, expected) in rows {
        let mut detector = Detector::new(settings());
        for (when, seen) in seen {
            detector.see(when, seen);
        }
        detector.turn(at);
        assert_eq!(names(&detector), expected, "{name}");
        let mut off = Detector::new(BreakerSettings { automatic: Automatic::Off, ..settings() });
        assert_eq!(off.turn(at), vec![], "{name}");
    }
}

fn down() -> Detector {
    let mut detector = Detector::new(settings());
    detector.see(0, Seen::Hsm(Reached::No));
    let orders = detector.turn(1_000);
    assert!(matches!(&orders[..], [Order::Open { cause: Cause::HsmDown, .. }]), "{orders:?}");
    assert_eq!(detector.turn(1_001), orders, "said again until it is recorded");
    detector.opened(Cause::HsmDown);
    detector
}

const PROBE: [Order; 1] = [Order::Probe { cause: Cause::HsmDown }];
const LIFT: [Order; 1] = [Order::Lift { cause: Cause::HsmDown }];

#[test]
fn a_cause_is_lifted_by_probes_in_a_row_over_a_time_and_pauses_grow() {
    let mut detector = down();
    assert_eq!(detector.turn(1_499), vec![]);
    assert_eq!(detector.turn(1_500), PROBE);
    for (at, next) in [(1_500, 2_500), (2_500, 4_500), (4_500, 8_500), (8_500, 16_500), (16_500, 24_500)] {
        detector.see(at, Seen::Probe(Cause::HsmDown, Reached::No));
        assert_eq!(detector.turn(next - 1), vec![], "{at}");
        assert_eq!(detector.turn(next), PROBE, "{at}");
    }
    // The token answers from here on; a probe that fails in between counts all before it for nothing.
    for (at, reached) in [(25_000, Reached::Yes), (25_500, Reached::Yes), (26_000, Reached::No)] {
        detector.see(at, Seen::Probe(Cause::HsmDown, reached));
    }
    for at in [40_000, 40_500, 41_000] {
        detector.see(at, Seen::Probe(Cause::HsmDown, Reached::Yes));
        assert!(detector.turn(at).is_empty(), "{at}");
    }
    assert_eq!(detector.turn(41_999), PROBE, "three in a row, and not yet for long enough");
    assert_eq!(detector.turn(42_000), LIFT);
    assert_eq!(names(&detector), ["hsm_down"], "it stands until that is recorded");
    assert_eq!(detector.turn(42_001), LIFT);
    detector.lifted(42_002, Cause::HsmDown);
    assert!(names(&detector).is_empty());
    assert_eq!(detector.turn(200_000), vec![], "what was seen before counts no more");

    // It comes back soon: looked at half as often, and it has to be gone for at least that pause.
    detector.see(200_000, Seen::Hsm(Reached::No));
    detector.turn(201_000);
    detector.opened(Cause::HsmDown);
    assert_eq!(detector.turn(201_999), vec![]);
    assert_eq!(detector.turn(202_000), PROBE);
}

#[test]
fn what_is_seen_besides_probes_counts_against_them() {
    let mut detector = down();
    for at in [2_000, 2_500, 3_000] {
        detector.see(at, Seen::Probe(Cause::HsmDown, Reached::Yes));
    }
    detector.see(3_100, Seen::Hsm(Reached::No));
    assert_ne!(detector.turn(10_000), LIFT);
    assert_eq!(detector.standing(Cause::HsmDown).unwrap().succeeded, 0);
}

#[test]
fn an_order_that_was_stuck_before_does_not_count_against_the_probes() {
    let mut detector = Detector::new(settings());
    let failed = |number: i64| Seen::Core { order: order(number), reached: Reached::No };
    for number in 0..3 {
        detector.see(0, failed(number));
    }
    assert!(matches!(&detector.turn(1_000)[..], [Order::Open { cause: Cause::CoreFailing, .. }]));
    detector.opened(Cause::CoreFailing);
    // The core is back, but for one order that it never answers: the outbox goes on saying it.
    for at in [2_000, 3_000, 4_000] {
        detector.see(at, Seen::Probe(Cause::CoreFailing, Reached::Yes));
        detector.see(at + 1, failed(0));
    }
    assert_eq!(detector.standing(Cause::CoreFailing).unwrap().succeeded, 3);
    assert_eq!(detector.turn(4_100), [Order::Lift { cause: Cause::CoreFailing }]);
    // One that had its word, or that nobody heard of, does.
    detector.see(4_200, Seen::Core { order: order(1), reached: Reached::Yes });
    assert_eq!(detector.standing(Cause::CoreFailing).unwrap().succeeded, 3);
    detector.see(4_300, failed(1));
    assert_eq!(detector.standing(Cause::CoreFailing).unwrap().succeeded, 0);
    detector.lifted(4_400, Cause::CoreFailing);
    // Stuck as before: said again for as long as it takes, it does not stop the payments again.
    for at in (5_000..200_000).step_by(500) {
        detector.see(at, failed(0));
        assert_eq!(detector.turn(at), vec![], "{at}");
    }
}

#[test]
fn what_is_remembered_of_orders_is_bounded() {
    let mut detector = Detector::new(BreakerSettings { core_window_s: 3_600, ..settings() });
    for number in 0..3 * i64::from(SAMPLES_MAX) {
        detector.see(number, Seen::Core { order: order(number), reached: Reached::No });
    }
    let most = SAMPLES_MAX as usize;
    assert!(detector.orders.len() <= most && detector.silent.0.len() <= most);
}

#[test]
fn anomalies_are_lifted_when_few_agents_are_left_and_need_no_look_outside() {
    let mut detector = Detector::new(settings());
    for agent in ["a", "b", "c", "d"] {
        detector.see(0, Seen::Alert(agent.to_owned()));
    }
    assert!(matches!(&detector.turn(1)[..], [Order::Open { cause: Cause::Anomalies, .. }]));
    detector.opened(Cause::Anomalies);
    let mut lifted = None;
    for at in (0..60_000).step_by(500) {
        if detector.turn(at) == [(Order::Lift { cause: Cause::Anomalies })] {
            lifted = Some(at);
            break;
        }
    }
    let lifted = lifted.expect("it is lifted");
    assert!(lifted > 12_000, "the window and the time of quiet: {lifted}");
}

#[test]
fn what_another_node_recorded_is_adopted_and_never_twice() {
    let mut detector = Detector::new(settings());
    detector.adopt(0, Cause::Operator, "a person");
    assert!(names(&detector).is_empty(), "a person's stop is no daemon's");
    detector.adopt(0, Cause::Anomalies, "20 agents");
    detector.adopt(5, Cause::Anomalies, "30 agents");
    let standing = detector.standing(Cause::Anomalies).unwrap();
    assert_eq!((standing.reason.as_str(), standing.since_ms, standing.is_recorded), ("20 agents", 0, true));
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let good = BreakerSettings::default();
    good.consistent().unwrap();
    settings().consistent().unwrap();
    for (key, bad) in [
        ("hsm_down_ms", BreakerSettings { hsm_down_ms: 0, ..good.clone() }),
        ("store_slow_ms", BreakerSettings { store_slow_ms: 1, ..good.clone() }),
        ("store_window_s", BreakerSettings { store_window_s: 0, ..good.clone() }),
        ("store_samples_min", BreakerSettings { store_samples_min: 0, ..good.clone() }),
        ("core_failures", BreakerSettings { core_failures: 0, ..good.clone() }),
        ("core_failing_percent", BreakerSettings { core_failing_percent: 101, ..good.clone() }),
        ("core_failing_percent", BreakerSettings { core_failing_percent: 0, ..good.clone() }),
        ("core_samples_min", BreakerSettings { core_samples_min: 0, ..good.clone() }),
        ("anomalous_agents", BreakerSettings { anomalous_agents: 1, ..good.clone() }),
        ("anomalies_window_s", BreakerSettings { anomalies_window_s: 0, ..good.clone() }),
        ("probe_successes", BreakerSettings { probe_successes: 0, ..good.clone() }),
        ("probe_pause_ms", BreakerSettings { probe_pause_ms: 1, ..good.clone() }),
        ("probe_pause_max_ms", BreakerSettings { probe_pause_ms: 2_000, probe_pause_max_ms: 1_000, ..good.clone() }),
    ] {
        assert!(bad.consistent().unwrap_err().contains(key), "{key}");
    }
    // More than is remembered is never seen: what can never stop anything is refused, with the bound.
    for (key, most, bad) in [
        ("store_samples_min", "2048", BreakerSettings { store_samples_min: 2_049, ..good.clone() }),
        ("core_failures", "2048", BreakerSettings { core_failures: 2_049, ..good.clone() }),
        ("core_samples_min", "2048", BreakerSettings { core_samples_min: 2_049, ..good.clone() }),
        ("anomalous_agents", "100000", BreakerSettings { anomalous_agents: 100_001, ..good.clone() }),
        ("core_failing_percent", "100", BreakerSettings { core_failing_percent: 101, ..good.clone() }),
    ] {
        let said = bad.consistent().unwrap_err();
        assert!(said.contains(key) && said.ends_with(most), "{said}");
    }
}

/// The largest numbers that are taken stop payments all the same.
#[test]
fn whatever_is_taken_can_be_reached() {
    let most = BreakerSettings {
        store_samples_min: SAMPLES_MAX,
        core_failures: SAMPLES_MAX,
        core_failing_percent: 100,
        core_samples_min: SAMPLES_MAX,
        anomalous_agents: AGENTS_MAX,
        ..settings()
    };
    most.consistent().unwrap();
    let mut detector = Detector::new(most);
    for number in 0..i64::from(SAMPLES_MAX) {
        detector.see(0, Seen::Commit { took_ms: 101 });
        detector.see(0, Seen::Core { order: order(number), reached: Reached::No });
    }
    for agent in 0..AGENTS_MAX {
        detector.see(0, Seen::Alert(agent.to_string()));
    }
    detector.turn(1_000);
    assert_eq!(names(&detector), ["anomalies", "store_slow", "core_failing"]);
}

#[derive(Clone, Debug)]
enum Step {
    See(Seen),
    /// What the orders of the turn come to: recorded or not, a probe's outcome.
    Turn {
        recorded: bool,
        probe: bool,
    },
    Person(Cause),
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let reached = || prop_oneof![Just(Reached::Yes), Just(Reached::No)];
    let cause = || prop::sample::select(AUTOMATIC.to_vec());
    prop_oneof![
        2 => reached().prop_map(|reached| Step::See(Seen::Hsm(reached))),
        3 => (0..200_i64).prop_map(|took_ms| Step::See(Seen::Commit { took_ms })),
        3 => (0..4_i64, reached()).prop_map(|(number, reached)| Step::See(Seen::Core { order: order(number), reached })),
        2 => (0..6_u8).prop_map(|agent| Step::See(Seen::Alert(agent.to_string()))),
        1 => prop::option::of(Just("no cosignature".to_owned())).prop_map(|why| Step::See(Seen::Witness(why))),
        1 => prop::option::of(Just("no room".to_owned())).prop_map(|why| Step::See(Seen::Disk(why))),
        1 => (cause(), reached()).prop_map(|(cause, reached)| Step::See(Seen::Probe(cause, reached))),
        6 => (prop::bool::weighted(0.8), prop::bool::weighted(0.6))
            .prop_map(|(recorded, probe)| Step::Turn { recorded, probe }),
        1 => cause().prop_map(Step::Person),
        5 => (0..3_000_i64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever is seen in whatever order: a cause that stands goes on standing until it is recorded that it is lifted,
    /// and a daemon only lifts what it has recorded and what enough probes in a row have found well for long enough.
    #[test]
    fn a_cause_stands_until_its_lifting_is_recorded(steps in prop::collection::vec(step(), 1..300)) {
        let mut detector = Detector::new(settings());
        let mut now = 0;
        // Of each cause that stands: whether it is recorded, and the instants of its probes since the last that failed.
        let mut model: BTreeMap<Cause, (bool, Vec<i64>)> = BTreeMap::new();
        for step in steps {
            let before: Vec<Cause> = detector.all_standing().iter().map(|progress| progress.cause).collect();
            let mut gone = vec![];
            match step {
                Step::Wait(ms) => now += ms,
                Step::Person(cause) => {
                    detector.lifted(now, cause);
                    model.remove(&cause);
                    gone.push(cause);
                }
                Step::See(seen) => {
                    match &seen {
                        Seen::Probe(cause, Reached::Yes) => {
                            if let Some((_, good)) = model.get_mut(cause) { good.push(now) }
                        }
                        Seen::Probe(cause, Reached::No) => {
                            if let Some((_, good)) = model.get_mut(cause) { good.clear() }
                        }
                        Seen::Hsm(Reached::No) => {
                            if let Some((_, good)) = model.get_mut(&Cause::HsmDown) { good.clear() }
                        }
                        Seen::Witness(Some(_)) => {
                            if let Some((_, good)) = model.get_mut(&Cause::WitnessLag) { good.clear() }
                        }
                        Seen::Disk(Some(_)) => {
                            if let Some((_, good)) = model.get_mut(&Cause::DiskLow) { good.clear() }
                        }
                        // Whether one counts against the probes is another test's; it never counts for them.
                        Seen::Hsm(Reached::Yes)
                        | Seen::Core { .. }
                        | Seen::Commit { .. }
                        | Seen::Alert(_)
                        | Seen::Witness(None)
                        | Seen::Disk(None) => {}
                    }
                    detector.see(now, seen);
                }
                Step::Turn { recorded, probe } => {
                    for order in detector.turn(now) {
                        match order {
                            Order::Open { cause, .. } => {
                                let known = model.entry(cause).or_insert((false, vec![]));
                                prop_assert!(!known.0, "recorded already");
                                if recorded {
                                    known.0 = true;
                                    detector.opened(cause);
                                }
                            }
                            Order::Lift { cause } => {
                                let (is_recorded, good) = model.get(&cause).expect("it stands");
                                prop_assert!(*is_recorded);
                                if cause != Cause::Anomalies {
                                    prop_assert!(good.len() >= 3 && now - good[0] >= 2_000, "{good:?} at {now}");
                                }
                                if recorded {
                                    detector.lifted(now, cause);
                                    model.remove(&cause);
                                    gone.push(cause);
                                }
                            }
                            Order::Probe { cause } => {
                                let (is_recorded, good) = model.get_mut(&cause).expect("it stands");
                                prop_assert!(*is_recorded);
                                if probe { good.push(now) } else { good.clear() }
                                let reached = if probe { Reached::Yes } else { Reached::No };
                                detector.see(now, Seen::Probe(cause, reached));
                            }
                        }
                    }
                }
            }
            let after: Vec<Cause> = detector.all_standing().iter().map(|progress| progress.cause).collect();
            for cause in before {
                prop_assert!(after.contains(&cause) || gone.contains(&cause), "{} went by itself", cause.name());
            }
        }
    }
}
