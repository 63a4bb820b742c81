//! Payments within a mandate and outside it, and what counts.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::Day;
use crate::kernel::zone::{Zone, day_from_text};

fn held(mandate: Mandate) -> HeldMandate {
    HeldMandate { mandate, signer: Signer { key: Sha256([1; 32]), certificate: None }, is_revoked: false }
}

fn key() -> KeyId {
    Sha256([7; 32])
}

/// Sunday, 2026-11-22 in New York, at 04:20 in the morning there.
fn payment(amount: Money) -> Payment<'static> {
    static MERCHANT: std::sync::LazyLock<crate::kernel::types::MerchantId> =
        std::sync::LazyLock::new(|| "amazon.com".parse().unwrap());
    let at = UnixMillis(chrono::DateTime::parse_from_rfc3339("2026-11-22T09:20:00Z").unwrap().timestamp_millis());
    let zone: Zone = "America/New_York".parse().unwrap();
    Payment { agent_key: key(), payee: PaymentPayee::Merchant(&MERCHANT), reference: "B08N5WRWNW", amount, at, zone }
}

fn sunday() -> HeldMandate {
    let mut mandate = mandate();
    let at = payment(usd(1)).at;
    mandate.issued = at.plus_ms(-1000);
    mandate.not_before = mandate.issued;
    held(mandate)
}

fn chosen(mandates: &[HeldMandate], payment: &Payment<'_>, counts: Counts) -> Result<MandateUse, Refusal> {
    choose(mandates, payment, |_| Ok(counts))
}

#[test]
fn a_payment_outside_its_mandate_is_refused_by_the_rule_it_breaks() {
    type Bend = fn(&mut HeldMandate, &mut Payment<'_>, &mut Counts);
    let table: &[(&str, Bend, Result<(), Refusal>)] = &[
        ("as it is", |_, _, _| {}, Ok(())),
        ("the least", |_, p, _| p.amount = usd(100), Ok(())),
        ("the most", |_, p, _| p.amount = usd(20_000), Ok(())),
        ("up to the budget", |_, _, c| c.minor = 50_050 - 5_000, Ok(())),
        ("twice this week", |_, _, c| c.in_period = 2, Ok(())),
        ("the eleventh", |_, _, c| c.in_life = 11, Ok(())),
        ("another key", |_, p, _| p.agent_key = Sha256([8; 32]), Err(Refusal::MandateNotThisAgent)),
        ("revoked", |m, _, _| m.is_revoked = true, Err(Refusal::MandateRevoked)),
        ("at its end", |m, p, _| p.at = m.mandate.expires, Err(Refusal::MandateExpired)),
        ("before it begins", |m, p, _| p.at = m.mandate.not_before.plus_ms(-1), Err(Refusal::MandateNotYetValid)),
        (
            "a payee who is not named",
            |m, _, _| m.mandate.constraints.payees.as_mut().unwrap().truncate(0),
            Err(Refusal::MandatePayee),
        ),
        (
            "an account of that name",
            |m, _, _| {
                m.mandate.constraints.payees =
                    Some(vec![Payee::Account { id: "amazon.com".parse().unwrap(), name: "a".into() }])
            },
            Err(Refusal::MandatePayee),
        ),
        (
            "another reference",
            |m, _, _| m.mandate.constraints.reference = Some("B08N5WRWNV".into()),
            Err(Refusal::MandateReference),
        ),
        ("the reference", |m, _, _| m.mandate.constraints.reference = Some("B08N5WRWNW".into()), Ok(())),
        ("too little", |_, p, _| p.amount = usd(99), Err(Refusal::MandateAmount)),
        ("too much", |_, p, _| p.amount = usd(20_001), Err(Refusal::MandateAmount)),
        (
            "another currency",
            |_, p, _| p.amount = Money::from_minor(5_000, "EUR".parse().unwrap()),
            Err(Refusal::MandateAmount),
        ),
        (
            "a budget in another currency",
            |m, _, _| {
                m.mandate.constraints.budget.as_mut().unwrap().max =
                    Money::from_minor(9_000_000, "EUR".parse().unwrap())
            },
            Err(Refusal::MandateAmount),
        ),
        ("a weekday that is not named", |_, p, _| p.at = p.at.plus_ms(86_400_000 * 2), Err(Refusal::MandateDates)),
        (
            "before the first day",
            |m, _, _| m.mandate.constraints.dates.as_mut().unwrap().not_before = Moment::parse("2026-11-23"),
            Err(Refusal::MandateDates),
        ),
        (
            "on the last day",
            |m, _, _| m.mandate.constraints.dates.as_mut().unwrap().not_after = Moment::parse("2026-11-22"),
            Ok(()),
        ),
        (
            "after the last day",
            |m, _, _| m.mandate.constraints.dates.as_mut().unwrap().not_after = Moment::parse("2026-11-21"),
            Err(Refusal::MandateDates),
        ),
        (
            "after the last instant",
            |m, _, _| m.mandate.constraints.dates.as_mut().unwrap().not_after = Moment::parse("2026-11-22T09:19:59Z"),
            Err(Refusal::MandateDates),
        ),
        ("the fourth this week", |_, _, c| c.in_period = 3, Err(Refusal::MandateRecurrence)),
        ("the thirteenth", |_, _, c| c.in_life = 12, Err(Refusal::MandateRecurrence)),
        ("a cent above the budget", |_, _, c| c.minor = 50_050 - 4_999, Err(Refusal::MandateBudget)),
        ("a sum that overflows", |_, _, c| c.minor = i64::MAX, Err(Refusal::MandateBudget)),
    ];
    for (what, bend, expected) in table {
        let (mut mandate, mut payment, mut counts) = (sunday(), payment(usd(5_000)), Counts::default());
        bend(&mut mandate, &mut payment, &mut counts);
        assert_eq!(chosen(&[mandate], &payment, counts).map(|_| ()), *expected, "{what}");
    }
    assert_eq!(chosen(&[], &payment(usd(1)), Counts::default()), Err(Refusal::MandateMissing));
}

#[test]
fn the_mandate_that_ends_first_is_taken_and_else_the_nearest_says_why() {
    let mandate = |id: &str, days: i64, max: i64| {
        let mut one = sunday();
        one.mandate.id = format!("mdt_01JD5T9GQ8ZK3VYBX4M2N6P7{id}").parse().unwrap();
        one.mandate.expires = NOW.plus_ms(days * 86_400_000);
        one.mandate.constraints.amount.as_mut().unwrap().max = usd(max);
        one
    };
    let taken = |mandates: &[HeldMandate], minor: i64| {
        chosen(mandates, &payment(usd(minor)), Counts::default()).map(|used| used.mandate.to_string())
    };
    let [late, soon, same] = [mandate("AA", 20, 20_000), mandate("ZZ", 10, 10_000), mandate("BB", 10, 10_000)];
    let all = [late.clone(), soon, same.clone()];
    assert_eq!(taken(&all, 5_000), Ok(same.mandate.id.to_string()));
    assert_eq!(taken(&all, 15_000), Ok(late.mandate.id.to_string()), "the next one that fits");
    assert_eq!(taken(&all, 25_000), Err(Refusal::MandateAmount));
    let mut gone = late;
    gone.is_revoked = true;
    assert_eq!(taken(&[gone.clone(), same], 15_000), Err(Refusal::MandateAmount), "the furthest one tells");
    assert_eq!(taken(&[gone], 15_000), Err(Refusal::MandateRevoked));
}

#[test]
fn periods_begin_where_calendars_say() {
    let day = |text: &str| day_from_text(text).unwrap();
    let table = [
        (Period::Life, "2026-11-22", LIFE),
        (Period::Daily, "2026-11-22", day("2026-11-22")),
        (Period::Weekly, "2026-11-22", day("2026-11-16")),
        (Period::Weekly, "2026-11-23", day("2026-11-23")),
        (Period::Biweekly, "2026-11-22", day("2026-11-09")),
        (Period::Biweekly, "2026-11-23", day("2026-11-23")),
        (Period::Biweekly, "2026-12-06", day("2026-11-23")),
        (Period::Monthly, "2026-02-28", day("2026-02-01")),
        (Period::Monthly, "2028-02-29", day("2028-02-01")),
        (Period::Quarterly, "2026-11-22", day("2026-10-01")),
        (Period::Quarterly, "2026-03-31", day("2026-01-01")),
        (Period::Annually, "2026-12-31", day("2026-01-01")),
        (Period::Weekly, "1969-12-31", day("1969-12-29")),
    ];
    for (period, text, start) in table {
        assert_eq!(period.start(day(text), day("2026-11-12")), start, "{period:?} {text}");
    }
    for period in Period::ALL {
        assert_eq!(Period::from_name(period.name()), Some(period));
        for wild in [Day(i32::MIN), Day(i32::MAX)] {
            let _ = period.start(wild, wild);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Pay { minor: i64, hours: i64 },
    GiveBack(usize),
}

proptest! {
    /// What `covers` is asked with is what was counted: no order of payments, cancellations and expiries exceeds a budget
    /// or a number of times in any period.
    #[test]
    fn no_sequence_exceeds_budget_and_recurrence(steps in prop::collection::vec(prop_oneof![
        3 => (1_i64..30_000, 0_i64..60).prop_map(|(minor, hours)| Step::Pay { minor, hours }),
        1 => any::<usize>().prop_map(Step::GiveBack),
    ], 1..80)) {
        let mut one = sunday();
        one.mandate.expires = NOW.plus_ms(400 * 86_400_000);
        one.mandate.constraints.dates = None;
        let mut at = payment(usd(1)).at;
        let mut open: Vec<(MandateUse, i64)> = vec![];
        let mut sums: BTreeMap<Day, i64> = BTreeMap::new();
        let mut uses: BTreeMap<Day, i64> = BTreeMap::new();
        let mut life = 0;
        for step in steps {
            match step {
                Step::Pay { minor, hours } => {
                    at = at.plus_ms(hours * 3_600_000);
                    let asked = Payment { at, ..payment(usd(minor)) };
                    let counted = |used: &MandateUse| Ok::<_, Refusal>(Counts {
                        minor: sums.get(&used.budget_on).copied().unwrap_or(0),
                        in_period: uses.get(&used.recurs_on).copied().unwrap_or(0),
                        in_life: life,
                    });
                    if let Ok(used) = choose(std::slice::from_ref(&one), &asked, counted) {
                        *sums.entry(used.budget_on).or_default() += minor;
                        *uses.entry(used.recurs_on).or_default() += 1;
                        life += 1;
                        open.push((used, minor));
                    }
                }
                Step::GiveBack(which) if !open.is_empty() => {
                    let (used, minor) = open.swap_remove(which % open.len());
                    *sums.get_mut(&used.budget_on).unwrap() -= minor;
                    *uses.get_mut(&used.recurs_on).unwrap() -= 1;
                    life -= 1;
                }
                Step::GiveBack(_) => {}
            }
            prop_assert!(sums.values().all(|sum| (0..=50_050).contains(sum)));
            prop_assert!(uses.values().all(|count| (0..=3).contains(count)) && (0..=12).contains(&life));
        }
    }
}
