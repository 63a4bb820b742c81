//! The monitor against agents that hurry, hide, wait and lie: each reason, what bounds it, and what replays it.

use proptest::prelude::*;

use super::*;
use crate::kernel::types::{Currency, Money, UnixMillis};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// 2026-01-05T10:00:00Z
const MORNING: i64 = 1_767_571_200_000 + 10 * HOUR;
const LIMIT: i64 = 200_000;

fn usd() -> Currency {
    "USD".parse().unwrap()
}

fn payment(at: i64, payee: &str, minor: i64) -> Event {
    Event {
        at: UnixMillis(at),
        agent: Subject::of("agent"),
        account: Some(Subject::of("account")),
        asked: Asked::Payment { payee: Subject::of(payee), amount: Money::from_minor(minor, usd()) },
        outcome: Outcome::Undecided,
        limit_minor: Some(LIMIT),
        ahead: Ahead::default(),
    }
}

fn refused(at: i64, refused: Refused) -> Event {
    Event { asked: Asked::Other, outcome: Outcome::Refused(refused), ..payment(at, "", 1) }
}

/// A monitor with the transactions that were made in it.
#[derive(Clone)]
struct Line {
    monitor: Monitor,
    transactions: u32,
}

impl Line {
    fn new() -> Self {
        Self { monitor: Monitor::new(MonitorRules::default()), transactions: 0 }
    }

    /// 40 payments of about 50 dollars to five shops, on twenty days, in the morning.
    fn warm() -> Self {
        let mut line = Self::new();
        for day in -20..0 {
            line.pay(payment(MORNING + day * DAY, &format!("shop {}", day.rem_euclid(5)), 4_000));
            line.pay(payment(MORNING + day * DAY + HOUR, &format!("shop {}", (day + 1).rem_euclid(5)), 6_000));
        }
        line
    }

    fn authorize(&mut self, event: Event) -> Subject {
        self.transactions += 1;
        let transaction = Subject::of(&format!("transaction {}", self.transactions));
        self.monitor.observe(&Event { outcome: Outcome::Authorized { transaction }, ..event });
        transaction
    }

    /// As the leaves of a purchase tell it: the execution names neither account nor payee.
    fn pay(&mut self, event: Event) {
        let transaction = self.authorize(event);
        let asked = Asked::Execution { transaction, transfer: None };
        self.monitor.observe(&Event { asked, account: None, outcome: Outcome::Executed, ..event });
    }

    fn risk(&self, event: Event) -> Risk {
        self.monitor.assess(&event)
    }

    fn names(&self, event: Event) -> Vec<&'static str> {
        self.risk(event).reasons.iter().map(|reason| reason.name.name()).collect()
    }
}

#[test]
fn what_is_usual_has_no_reason() {
    let line = Line::warm();
    assert_eq!(line.risk(payment(MORNING, "shop 1", 5_000)), Risk::default());
}

#[test]
fn each_reason_is_given_for_what_it_is_named_after() {
    let mut burst = Line::warm();
    (0..12).for_each(|at| burst.pay(payment(MORNING + at * 5_000, "shop 1", 5_000)));
    let mut hammering = Line::warm();
    (0..8).for_each(|at| hammering.monitor.observe(&refused(MORNING + at * 1_000, Refused::Forbidden)));
    let mut probing = Line::warm();
    (0..4).for_each(|at| probing.monitor.observe(&refused(MORNING + at * 1_000, Refused::Limit)));
    let mut parts = Line::warm();
    (0..3).for_each(|at| _ = parts.authorize(payment(MORNING + at * HOUR, "shop 1", 80_000)));
    let mut records = Line::warm();
    for (day, minor) in [(0, 9_000), (1, 13_000), (2, 18_500), (3, 26_000)] {
        records.pay(payment(MORNING + day * DAY, "shop 1", minor));
    }
    let mut drip = Line::warm();
    for at in 0..36 {
        drip.pay(payment(MORNING + at * 8 * HOUR, "mule", 700));
    }
    let euro = Money::from_minor(5_000, "EUR".parse().unwrap());
    let abroad =
        Event { asked: Asked::Payment { payee: Subject::of("shop 1"), amount: euro }, ..payment(MORNING, "shop 1", 1) };
    let soon = MORNING + 60_000;
    let table = [
        (&burst, payment(soon, "shop 1", 5_000), "velocity"),
        (&hammering, payment(soon, "shop 1", 5_000), "refusals"),
        (&hammering, Event { asked: Asked::Other, ..payment(soon, "", 1) }, "refusals"),
        (&probing, payment(soon, "shop 1", 5_000), "limit_probing"),
        (&parts, payment(MORNING + 3 * HOUR, "shop 1", 80_000), "splitting"),
        (&parts, payment(MORNING + 3 * HOUR, "shop 1", 80_000), "day_sum"),
        (&records, payment(MORNING + 4 * DAY, "shop 1", 37_000), "escalation"),
        (&Line::warm(), payment(MORNING, "shop 1", 90_000), "amount"),
        (&Line::warm(), payment(MORNING, "mule", 5_000), "new_payee"),
        (&Line::warm(), abroad, "new_currency"),
        (&Line::warm(), payment(MORNING + 12 * HOUR, "shop 1", 5_000), "unusual_hour"),
        (&drip, payment(MORNING + 12 * DAY, "mule", 700), "drip"),
    ];
    for (line, event, name) in table {
        assert!(line.names(event).contains(&name), "{name}: {:?}", line.risk(event));
    }
}

#[test]
fn a_new_agent_is_compared_with_nobody_but_may_not_do_what_nobody_may() {
    let mut line = Line::new();
    for at in 0..10 {
        let event = payment(MORNING + at * 60_000, &format!("shop {at}"), 150_000);
        assert_eq!(line.risk(event).score, 0, "{at}: {:?}", line.risk(event));
        line.pay(event);
    }
    let mut hammering = Line::new();
    (0..20).for_each(|at| hammering.monitor.observe(&refused(MORNING + at, Refused::Forbidden)));
    assert!(hammering.risk(payment(MORNING + 30, "shop", 1)).score >= 475);
    let mut parts = Line::new();
    (0..4).for_each(|at| _ = parts.authorize(payment(MORNING + at, "mule", 150_000)));
    assert!(parts.risk(payment(MORNING + 5, "mule", 150_000)).score >= 475);
}

#[test]
fn a_new_agent_on_an_old_account_is_measured_by_the_account() {
    let line = Line::warm();
    let other = Event { agent: Subject::of("another agent"), ..payment(MORNING, "mule", 150_000) };
    assert!(line.names(other).contains(&"amount"));
    let elsewhere = Event { account: Some(Subject::of("another account")), ..other };
    assert_eq!(line.risk(elsewhere), Risk::default());
}

#[test]
fn a_transfer_that_names_no_account_when_it_is_executed_teaches_the_one_it_was_authorized_for() {
    let mut line = Line::new();
    for day in -20..0 {
        let event = payment(MORNING + day * DAY, &format!("shop {}", day.rem_euclid(5)), 5_000);
        let transaction = line.authorize(event);
        let Asked::Payment { payee, amount } = event.asked else { unreachable!() };
        let asked = Asked::Execution { transaction, transfer: Some((payee, amount)) };
        line.monitor.observe(&Event { asked, account: None, outcome: Outcome::Executed, ..event });
    }
    let other = Event { agent: Subject::of("another agent"), ..payment(MORNING, "mule", 150_000) };
    assert!(line.names(other).contains(&"amount"));
}

#[test]
fn what_others_do_on_its_account_holds_an_agent_and_freezes_only_them() {
    let mut line = Line::warm();
    let other = |event: Event| Event { agent: Subject::of("another agent"), ..event };
    (0..8).for_each(|at| line.monitor.observe(&other(refused(MORNING + at * 1_000, Refused::Limit))));
    (0..60).for_each(|at| _ = line.authorize(other(payment(MORNING + 10_000 + at * 1_000, "shop 1", 190_000))));
    let ordinary = payment(MORNING + 120_000, "shop 1", 5_000);
    let rules = MonitorRules::default();
    let held = line.risk(ordinary);
    assert_eq!(rules.asks(held.score), Consequence::Approval, "{held:?}");
    assert_eq!(held.reasons.iter().map(|reason| reason.points).sum::<u16>(), held.score, "{held:?}");
    assert_eq!(held.own, Some(0), "{held:?}");
    let guilty = line.risk(other(payment(MORNING + 120_000, "shop 1", 190_000)));
    assert_eq!(rules.asks(guilty.score), Consequence::Freeze, "{guilty:?}");
    // Two people who thaw an agent have looked at its accounts, too.
    let thaw = Event { asked: Asked::Thaw, account: None, outcome: Outcome::Done, ..payment(MORNING + 120_000, "", 1) };
    line.monitor.observe(&thaw);
    assert_eq!(line.risk(ordinary), Risk::default());
}

#[test]
fn a_refused_call_enters_no_account_that_it_only_names() {
    let mut line = Line::new();
    for name in 0..20 {
        let account = Some(Subject::of(&format!("account of somebody {name}")));
        for refused in [Refused::Forbidden, Refused::Neutral] {
            line.monitor.observe(&Event { account, outcome: Outcome::Refused(refused), ..payment(MORNING, "shop", 1) });
        }
    }
    assert_eq!(line.monitor.len(), (1, 0));
    // The account is the agent's: only its money was not enough.
    line.monitor.observe(&Event { outcome: Outcome::Refused(Refused::Limit), ..payment(MORNING, "shop", 1) });
    assert_eq!(line.monitor.len(), (1, 1));
}

#[test]
fn every_refusal_says_what_it_says_about_who_was_refused() {
    let neutral = [
        "mandate_revoked",
        "mandate_not_this_agent",
        "mandate_dates",
        "mandate_missing",
        "mandate_expired",
        "invalid_certificate",
        "price_changed",
        "agent_frozen",
        "agent_revoked",
    ];
    let limit = ["mandate_recurrence", "mandate_budget", "mandate_amount", "insufficient_funds", "above_hard_ceiling"];
    let forbidden = ["account_not_granted", "tool_denied", "unauthorized_merchant", "mandate_payee", "a_newer_name"];
    for (names, said) in
        [(&neutral[..], Refused::Neutral), (&limit[..], Refused::Limit), (&forbidden[..], Refused::Forbidden)]
    {
        for name in names {
            assert_eq!(Refused::of_name(name), said, "{name}");
        }
    }
}

#[test]
fn what_is_no_agents_own_doing_and_what_is_refused_anyway_do_not_stop_the_bank() {
    let rules = MonitorRules::default();
    let assessed = |risk: Risk| Assessment {
        ahead: Ahead::default(),
        asks: rules.asks(risk.score),
        from: 0,
        limit_minor: None,
        mode: Mode::Enforce,
        own: risk.own,
        reasons: risk.reasons,
        rules: "r".into(),
        score: risk.score,
        seen: 0,
    };
    let mut hammering = Line::warm();
    (0..20).for_each(|at| hammering.monitor.observe(&refused(MORNING + at, Refused::Forbidden)));
    let mut burst = Line::warm();
    (0..60).for_each(|at| _ = burst.authorize(payment(MORNING + at * 1_000, "shop 1", 5_000)));
    let mut crowd = Line::warm();
    for at in 0..60 {
        let other = Subject::of("another agent");
        let _ = crowd.authorize(Event { agent: other, ..payment(MORNING + at * 1_000, "shop 1", 190_000) });
    }
    for (line, is_anomaly) in [(&hammering, false), (&burst, true), (&crowd, false)] {
        let assessment = assessed(line.risk(payment(MORNING + 120_000, "shop 1", 5_000)));
        assert!(assessment.asks >= Consequence::Approval, "{assessment:?}");
        assert_eq!(assessment.is_anomaly(&rules), is_anomaly, "{assessment:?}");
    }
}

#[test]
fn what_is_not_executed_teaches_nothing() {
    let mut line = Line::warm();
    (0..40).for_each(|at| _ = line.authorize(payment(MORNING + at * 60_000, "mule", 90_000)));
    let event = payment(MORNING + HOUR, "mule", 90_000);
    let names = line.names(event);
    assert!(names.contains(&"amount") && names.contains(&"new_payee"), "{names:?}");
    line.pay(event);
    assert!(!line.names(payment(MORNING + 2 * HOUR, "mule", 90_000)).contains(&"amount"));
}

#[test]
fn the_same_authorization_counts_once() {
    let (mut once, mut often) = (Line::warm(), Line::warm());
    let event = payment(MORNING, "shop 1", 5_000);
    let transaction = Subject::of("one");
    let decided = Event { outcome: Outcome::Authorized { transaction }, ..event };
    once.monitor.observe(&decided);
    (0..30).for_each(|_| often.monitor.observe(&decided));
    assert_eq!(once.risk(event), often.risk(event));
}

#[test]
fn two_people_calm_an_agent_and_its_history_stays() {
    let mut line = Line::warm();
    (0..20).for_each(|at| line.monitor.observe(&refused(MORNING + at, Refused::Forbidden)));
    (0..30).for_each(|at| _ = line.authorize(payment(MORNING + at, "mule", 5_000)));
    let thaw = Event { asked: Asked::Thaw, account: None, outcome: Outcome::Done, ..payment(MORNING, "", 1) };
    let loud = |line: &Line| {
        let names = line.names(Event { account: None, ..payment(MORNING + 60_000, "shop 1", 5_000) });
        names.contains(&"velocity") || names.contains(&"refusals")
    };
    assert!(loud(&line));
    line.monitor.observe(&thaw);
    assert!(!loud(&line));
    assert!(line.names(payment(MORNING, "shop 1", 90_000)).contains(&"amount"));
}

#[test]
fn amounts_in_another_currency_are_compared_with_nothing() {
    let line = Line::warm();
    let yen = Money::from_minor(9_000_000, "JPY".parse().unwrap());
    let asked = Asked::Payment { payee: Subject::of("shop 1"), amount: yen };
    let risk = line.risk(Event { asked, limit_minor: None, ..payment(MORNING, "shop 1", 1) });
    let names: Vec<_> = risk.reasons.iter().map(|reason| reason.name).collect();
    assert_eq!(names, [ReasonName::NewCurrency]);
}

#[test]
fn what_comes_from_a_hostile_agent_breaks_nothing_and_stays_bounded() {
    let mut line = Line::warm();
    let before = line.monitor.bytes();
    let amounts = [i64::MAX, i64::MIN, 0, -1, 1];
    let times = [i64::MAX, i64::MIN, 0, MORNING, MORNING - 400 * DAY, MORNING, MORNING];
    for at in times {
        for minor in amounts {
            for limit in [None, Some(i64::MAX), Some(i64::MIN), Some(0)] {
                let event = Event { limit_minor: limit, ..payment(at, "shop 1", minor) };
                let ahead = Ahead { payments: u32::MAX, minor: i64::MAX };
                assert!(line.risk(Event { ahead, ..event }).score <= SCORE_MAX);
                line.pay(event);
            }
        }
    }
    for payee in 0..1_000_000_u32 {
        let amount = Money::from_minor(i64::from(payee), usd());
        let asked = Asked::Payment { payee: Subject::numbered(u128::from(payee)), amount };
        let outcome = Outcome::Authorized { transaction: Subject::numbered(u128::from(payee)) };
        let at = UnixMillis(MORNING + i64::from(payee) * 10);
        line.monitor.observe(&Event { at, asked, outcome, account: None, ..payment(MORNING, "", 1) });
    }
    assert!(line.monitor.bytes() <= before + 1_024);
    assert!(line.risk(payment(MORNING, "shop 1", 1)).score <= SCORE_MAX);
}

#[test]
fn tiny_payments_to_many_do_not_hide_a_sum_in_parts() {
    let mut line = Line::warm();
    for part in 0..4 {
        line.pay(payment(MORNING + part * HOUR, "mule", 90_000));
        for tiny in 0..50 {
            line.pay(payment(MORNING + part * HOUR + tiny * 1_000, &format!("dust {tiny}"), 1));
        }
    }
    assert!(line.names(payment(MORNING + 4 * HOUR, "mule", 90_000)).contains(&"splitting"));
}

#[test]
fn one_great_payment_that_people_approved_is_no_part_of_a_split_one() {
    let mut line = Line::warm();
    line.pay(payment(MORNING, "shop 1", 1_000_000));
    let after = line.names(payment(MORNING + HOUR, "shop 1", 6_000));
    assert!(!after.contains(&"splitting"), "{after:?}");
}

#[test]
fn authorizations_that_cost_nothing_do_not_hide_what_was_paid_in_parts_or_little_by_little() {
    let mut line = Line::warm();
    let noise = |line: &mut Line, at: i64| {
        (0..12).for_each(|shop| _ = line.authorize(payment(at + shop * 1_000, &format!("noise {shop}"), 199_000)));
    };
    for part in 0..4 {
        line.pay(payment(MORNING + part * HOUR, "mule", 90_000));
        noise(&mut line, MORNING + part * HOUR + 60_000);
    }
    assert!(line.names(payment(MORNING + 4 * HOUR, "mule", 90_000)).contains(&"splitting"));
    // With every place taken by somebody who got more.
    let mut full = Line::warm();
    for part in 0..4 {
        (0..5).for_each(|shop| full.pay(payment(MORNING + part * HOUR + shop, &format!("great {shop}"), 95_000)));
        full.pay(payment(MORNING + part * HOUR + 30_000, "mule", 90_000));
        noise(&mut full, MORNING + part * HOUR + 60_000);
    }
    assert!(full.names(payment(MORNING + 4 * HOUR, "mule", 90_000)).contains(&"splitting"));
    let mut drip = Line::warm();
    for at in 0..36 {
        drip.pay(payment(MORNING + at * 8 * HOUR, "mule", 700));
        noise(&mut drip, MORNING + at * 8 * HOUR + 60_000);
    }
    assert!(drip.names(payment(MORNING + 12 * DAY, "mule", 700)).contains(&"drip"));
}

#[test]
fn a_clock_that_steps_back_a_little_stands_still_and_a_wrong_one_is_left_behind() {
    let event = |at| payment(at, "shop 1", 5_000);
    let mut line = Line::warm();
    (0..12).for_each(|at| line.pay(event(MORNING + at * 1_000)));
    let now = line.risk(event(MORNING + 12_000));
    assert_eq!(line.risk(event(MORNING - 60_000)), now, "time does not go back");
    // A clock that was years ahead for one payment: afterwards nothing is measured by that future.
    line.pay(event(MORNING + 3_000 * DAY));
    line.pay(event(MORNING + 60_000));
    assert!(line.risk(event(MORNING + DAY)).score <= SCORE_MAX);
    assert_eq!(line.risk(event(MORNING + 3 * DAY)).score, 0);
}

#[test]
fn who_was_not_seen_for_longest_is_forgotten_first() {
    let rules = MonitorRules { subjects_max: 3, ..MonitorRules::default() };
    let mut monitor = Monitor::new(rules);
    let event = |agent: &str| Event {
        agent: Subject::of(agent),
        account: None,
        outcome: Outcome::Refused(Refused::Forbidden),
        ..payment(MORNING, "shop", 1)
    };
    for agent in ["a", "b", "c", "a", "d", "b", "b"] {
        monitor.observe(&event(agent));
    }
    let known = |agent: &str| monitor.agent(Subject::of(agent)).is_some();
    assert_eq!(["a", "b", "c", "d"].map(known), [true, true, false, true]);
    assert_eq!(monitor.len(), (3, 0));
}

#[test]
fn a_hundred_thousand_agents_with_an_account_each_take_less_than_200_megabytes() {
    // Beside its own size a state has memory only for a second currency.
    assert!(2 * (size_of::<State>() + 16 + 32 + 40) * 100_000 < 200_000_000, "{}", size_of::<State>());
}

#[test]
fn a_reason_says_its_numbers_and_survives_a_leaf() {
    let risk = Line::warm().risk(payment(MORNING, "mule", 90_000));
    let points: u16 = risk.reasons.iter().map(|reason| reason.points).sum();
    assert!(points > 0 && points == risk.score);
    for reason in &risk.reasons {
        assert!(reason.said().contains(&reason.seen.to_string()), "{}", reason.said());
    }
    let written = serde_json::to_string(&risk).unwrap();
    assert_eq!(serde_json::from_str::<Risk>(&written).unwrap(), risk);
}

#[test]
fn a_weight_of_nothing_switches_a_reason_off() {
    let event = payment(MORNING, "mule", 90_000);
    let line = Line::warm();
    let mut rules = MonitorRules::default();
    rules.weights.new_payee = 0;
    let agent = line.monitor.agent(event.agent).unwrap();
    let of = |rules: &MonitorRules| score(rules, agent, None, &event).reasons;
    assert!(of(&MonitorRules::default()).iter().any(|reason| reason.name == ReasonName::NewPayee));
    assert!(!of(&rules).iter().any(|reason| reason.name == ReasonName::NewPayee));
}

fn any_event() -> impl Strategy<Value = Event> {
    let asked = prop_oneof![
        (0..40_u32, any::<i64>(), prop_oneof![Just("USD"), Just("EUR"), Just("JPY")]).prop_map(
            |(payee, minor, code)| {
                let amount = Money::from_minor(minor % 1_000_000_000, code.parse().unwrap());
                Asked::Payment { payee: Subject::of(&payee.to_string()), amount }
            }
        ),
        (0..30_u32).prop_map(|id| Asked::Execution { transaction: Subject::of(&id.to_string()), transfer: None }),
        Just(Asked::Other),
        Just(Asked::Thaw),
    ];
    let outcome = prop_oneof![
        (0..30_u32).prop_map(|id| Outcome::Authorized { transaction: Subject::of(&id.to_string()) }),
        Just(Outcome::Executed),
        Just(Outcome::Done),
        Just(Outcome::Refused(Refused::Forbidden)),
        Just(Outcome::Refused(Refused::Limit)),
        Just(Outcome::Refused(Refused::Neutral)),
    ];
    let at = prop_oneof![8 => 0..30 * DAY, 1 => any::<i64>()];
    (asked, outcome, at, 0..4_u8, 0..3_u8).prop_map(|(asked, outcome, at, agent, account)| Event {
        at: UnixMillis(MORNING.saturating_add(at)),
        agent: Subject::of(&format!("agent {agent}")),
        account: (account > 0).then(|| Subject::of(&format!("account {account}"))),
        asked,
        outcome,
        limit_minor: Some(LIMIT),
        ahead: Ahead::default(),
    })
}

proptest! {
    #[test]
    fn a_sequence_split_anywhere_leaves_the_same_state(
        events in proptest::collection::vec(any_event(), 1..80),
        split in any::<proptest::sample::Index>(),
    ) {
        let rules = || MonitorRules { subjects_max: 3, ..MonitorRules::default() };
        let mut whole = Monitor::new(rules());
        let scored: Vec<Risk> = events.iter().map(|event| { let risk = whole.assess(event); whole.observe(event); risk }).collect();
        let split = split.index(events.len());
        let mut first = Monitor::new(rules());
        events[..split].iter().for_each(|event| first.observe(event));
        let mut second = first.clone();
        for (event, risk) in events[split..].iter().zip(&scored[split..]) {
            prop_assert_eq!(&second.assess(event), risk);
            second.observe(event);
        }
        for agent in 0..4 {
            let agent = Subject::of(&format!("agent {agent}"));
            prop_assert_eq!(second.agent(agent), whole.agent(agent));
        }
    }

    #[test]
    fn a_refusal_or_a_payment_in_flight_more_never_makes_a_score_lower(
        events in proptest::collection::vec(any_event(), 0..40),
        minor in 1..LIMIT,
        payments in 0..50_u32,
    ) {
        let mut monitor = Monitor::new(MonitorRules::default());
        events.iter().for_each(|event| monitor.observe(event));
        let now = events.iter().map(|event| event.at.0).max().unwrap_or(MORNING);
        let event = Event { agent: Subject::of("agent 1"), account: None, ..payment(now, "7", minor) };
        let before = monitor.assess(&event).score;
        let ahead = Ahead { payments, minor: i64::from(payments) * 100 };
        let rushed = monitor.assess(&Event { ahead, ..event }).score;
        prop_assert!(rushed >= before);
        for refused in [Refused::Forbidden, Refused::Limit] {
            monitor.observe(&Event { asked: Asked::Other, outcome: Outcome::Refused(refused), ..event });
        }
        prop_assert!(monitor.assess(&event).score >= before);
    }

    #[test]
    fn a_greater_amount_never_looks_better_where_no_limit_is_near(first in 1..20_000_i64, more in 0..20_000_i64) {
        let line = Line::warm();
        let of = |minor| line.risk(payment(MORNING, "mule", minor)).score;
        prop_assert!(of(first + more) >= of(first));
    }
}
