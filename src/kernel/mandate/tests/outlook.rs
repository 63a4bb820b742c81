//! What is left of a mandate, as the agent that pays under it sees it.

use super::*;
use crate::kernel::types::Day;
use crate::kernel::zone::{Zone, day_from_text};

fn at(text: &str) -> UnixMillis {
    UnixMillis(chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis())
}

fn shown_with(counts: Counts, zone: Zone) -> ShownMandate {
    let mut mandate = mandate();
    mandate.issued = at("2026-11-01T00:00:00Z");
    mandate.not_before = mandate.issued;
    mandate.expires = at("2027-03-01T00:00:00Z");
    ShownMandate { mandate, created: NOW, revoked: None, zone, counts }
}

/// 1.00 to 200.00 a payment, 500.50 a month, three a week, twelve in all.
const SUNDAY: &str = "2026-11-22T09:20:00Z";

#[test]
fn a_mandate_says_where_it_stands() {
    type Bend = fn(&mut ShownMandate, &mut Counts);
    let table: &[(&str, &str, Bend, Status)] = &[
        ("as it is", SUNDAY, |_, _| {}, Status::InForce),
        ("room for the least", SUNDAY, |_, c| c.minor = 50_050 - 100, Status::InForce),
        ("room for less than the least", SUNDAY, |_, c| c.minor = 50_050 - 99, Status::UsedUp),
        ("more than the budget, by whatever way", SUNDAY, |_, c| c.minor = i64::MAX, Status::UsedUp),
        ("two this week", SUNDAY, |_, c| c.in_period = 2, Status::InForce),
        ("three this week", SUNDAY, |_, c| c.in_period = 3, Status::UsedUp),
        ("twelve in all", SUNDAY, |_, c| c.in_life = 12, Status::UsedUp),
        ("before it begins", "2026-10-31T23:59:59Z", |_, _| {}, Status::NotYetValid),
        ("at its end", "2027-03-01T00:00:00Z", |_, _| {}, Status::Expired),
        (
            "revoked counts before all else",
            "2027-03-01T00:00:00Z",
            |m, c| {
                m.revoked = Some(NOW);
                c.in_life = 12;
            },
            Status::Revoked,
        ),
    ];
    for (what, when, bend, expected) in table {
        let (mut one, mut counts) = (shown_with(Counts::default(), Zone::UTC), Counts::default());
        bend(&mut one, &mut counts);
        one.counts = counts;
        assert_eq!(one.status(at(when)), *expected, "{what}");
        let shown = one.outlook(at(when));
        assert_eq!(shown["status"], expected.name(), "{what}");
    }
}

#[test]
fn what_is_left_is_never_less_than_nothing_and_ends_where_the_account_lives() {
    let zone: Zone = "America/New_York".parse().unwrap();
    let counts = Counts { minor: 12_345, in_period: 1, in_life: 5 };
    let shown = shown_with(counts, zone).outlook(at(SUNDAY));
    let expected = json!({
        "budget_max": "500.50", "budget_spent": "123.45", "budget_left": "377.05", "period": "MONTHLY",
        "period_ends_at": "2026-12-01T05:00:00.000Z",
    });
    assert_eq!(shown["budget"], expected);
    let expected = json!({
        "period": "WEEKLY", "period_ends_at": "2026-11-23T05:00:00.000Z", "payments_max": 3, "payments_left": 2,
        "payments_in_all_max": 12, "payments_in_all_left": 7,
    });
    assert_eq!(shown["recurrence"], expected);
    assert_eq!((&shown["amount_min"], &shown["amount_max"]), (&json!("1.00"), &json!("200.00")));
    assert_eq!(shown["expires_at"], "2027-03-01T00:00:00.000Z");
    for hidden in ["owner", "agent", "agent_key", "text", "entered_by"] {
        assert!(shown.get(hidden).is_none(), "{hidden}: {shown}");
    }

    let beyond = Counts { minor: i64::MAX, in_period: i64::MAX, in_life: i64::MAX };
    let shown = shown_with(beyond, zone).outlook(at(SUNDAY));
    assert_eq!(shown["budget"]["budget_left"], "0.00");
    assert_eq!(shown["recurrence"]["payments_left"], 0);
    assert_eq!(shown["recurrence"]["payments_in_all_left"], 0);
    // The last period ends with the mandate.
    let shown = shown_with(counts, zone).outlook(at("2027-02-27T00:00:00Z"));
    assert_eq!(shown["budget"]["period_ends_at"], "2027-03-01T00:00:00.000Z");
}

#[test]
fn one_period_ends_where_the_next_one_begins() {
    let begin = day_from_text("2026-11-12").unwrap();
    for period in Period::ALL {
        for number in 0..1_500 {
            let day = Day(20_000 + number);
            let Some(next) = period.next(day, begin) else {
                assert_eq!(period, Period::Life);
                continue;
            };
            assert!(next > day, "{period:?} {day:?}");
            assert_eq!(period.start(next, begin), next, "{period:?} {day:?}");
            assert_eq!(period.start(Day(next.0 - 1), begin), period.start(day, begin), "{period:?} {day:?}");
        }
        for wild in [Day(i32::MIN), Day(i32::MAX)] {
            let _ = period.next(wild, wild);
        }
    }
}
