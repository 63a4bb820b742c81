//! How long a role policy takes to decide one call: in memory, on one thread, without a store.

use std::hint::black_box;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use super::figures::{Goal, Spread, figure, lines};
use crate::kernel::policy::document::Document;
use crate::kernel::policy::role::{Arguments, Policy, Ruling, decimal};
use crate::kernel::policy::tools::Tools;
use crate::ops::failure::Failure;

/// The 99th percentile of one decision for a role of 100 rules, in microseconds.
const GOAL_US: f64 = 20.0;
/// Calls before the first one that counts.
const WARM_UP: u32 = 10_000;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Permissions of the role.
    pub rules: u32,
    /// Calls of one round.
    pub calls: u32,
    pub rounds: u32,
}

/// What came of it; microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub rules: u32,
    pub calls: u32,
    pub p50_us: Spread,
    pub p99_us: Spread,
    pub max_us: Spread,
    /// Of decisions after which nobody looks at the clock.
    pub mean_us: Spread,
    pub goals: Vec<Goal>,
}

/// Asks a role whose every permission is of one tool and fits only as the last one: all of them are judged.
///
/// # Errors
/// `bench_policy_invalid`: a defect.
pub fn run(plan: Plan, mut progress: impl FnMut(&str)) -> Result<Report, Failure> {
    let policy = policy(plan.rules)?;
    let accounts: Vec<String> = (0..plan.rules).map(account).collect();
    let Some(last) = accounts.last() else {
        return Err(defect("a role without rules"));
    };
    // The first that fits ends the search: the last one is the longest way, and one that fits nowhere is as long.
    let calls = [(last.as_str(), "499.99"), (last.as_str(), "500.01"), ("SAV_999", "1.00")];
    let (mut p50, mut p99, mut max, mut mean) = (vec![], vec![], vec![], vec![]);
    for _ in 0..WARM_UP {
        black_box(decided(&policy, calls[0]));
    }
    for round in 1..=plan.rounds {
        progress(&format!("round {round} of {}", plan.rounds));
        let mut taken: Vec<f64> = (0..plan.calls as usize)
            .map(|at| {
                let call = calls[at % calls.len()];
                let start = Instant::now();
                black_box(decided(&policy, black_box(call)));
                start.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        let start = Instant::now();
        for at in 0..plan.calls as usize {
            black_box(decided(&policy, black_box(calls[at % calls.len()])));
        }
        mean.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(plan.calls));
        taken.sort_by(f64::total_cmp);
        let at = |part: usize| taken.get((taken.len() * part / 100).min(taken.len() - 1)).copied().unwrap_or_default();
        p50.push(at(50));
        p99.push(at(99));
        max.push(at(100));
    }
    let (p50_us, p99_us) = (Spread::of(p50), Spread::of(p99));
    let what = format!("a decision for a role of {} rules, p99", plan.rules);
    let goals = vec![Goal::at_most(what, p99_us.median, GOAL_US, "µs")];
    let (max_us, mean_us) = (Spread::of(max), Spread::of(mean));
    Ok(Report { rules: plan.rules, calls: plan.calls, p50_us, p99_us, max_us, mean_us, goals })
}

/// The report in words.
pub fn text(report: &Report) -> String {
    let rows = [
        ("p50", &report.p50_us),
        ("p99", &report.p99_us),
        ("max", &report.max_us),
        ("mean, without a clock", &report.mean_us),
    ];
    let figures: String = rows.iter().map(|(what, spread)| figure(what, spread, "µs")).collect();
    format!("{} rules, {} calls a round\n{figures}\n{}", report.rules, report.calls, lines(&report.goals))
}

fn account(at: u32) -> String {
    format!("CHK_{at:03}")
}

fn policy(rules: u32) -> Result<Policy, Failure> {
    let permission = |at: u32| {
        json!({
            "tool_name": "authorize_transfer", "action": "invoke", "constraints": {
                "to_account": { "pattern": format!("^{}$", account(at)) },
                "amount": { "maximum": 500, "multipleOf": 0.01 },
                "currency": { "enum": ["USD", "EUR"] },
            },
        })
    };
    let permissions: Vec<Value> = (0..rules).map(permission).collect();
    let document = Document::of(json!({ "role": "purchaser", "permissions": permissions }));
    let document = document.map_err(|finding| defect(&finding.to_string()))?;
    let policy = Policy::examined(document, &Tools::ours(), None).policy.ok_or_else(|| defect("it was refused"))?;
    let fits = |call| matches!(decided(&policy, call), Ruling::Permitted { .. });
    let last = account(rules.saturating_sub(1));
    if fits((&last, "499.99")) && !fits((&last, "500.01")) && !fits(("SAV_999", "1.00")) {
        return Ok(policy);
    }
    Err(defect("it decides otherwise"))
}

/// One decision as in a commit: the arguments are made for it, too.
fn decided<'p>(policy: &'p Policy, (to, amount): (&str, &str)) -> Ruling<'p> {
    policy.ruling("purchaser", "authorize_transfer", || -> Arguments<'static> {
        vec![
            ("from_account".into(), Value::from("CHK_001")),
            ("to_account".into(), Value::from(to)),
            ("amount".into(), decimal(amount).unwrap_or_default()),
            ("currency".into(), Value::from("USD")),
            ("idempotency_key".into(), Value::from("order-1")),
        ]
    })
}

fn defect(why: &str) -> Failure {
    Failure::fault("bench_policy_invalid", format!("the policy to measure: {why}"), "report this as a defect")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_of_as_many_decisions_as_were_asked_for() {
        let report = run(Plan { rules: 100, calls: 200, rounds: 2 }, |_| {}).unwrap();
        assert!(report.p50_us.median > 0.0 && report.p50_us.median <= report.p99_us.median);
        assert!(report.p99_us.max <= report.max_us.max);
        assert_eq!((report.rules, report.calls, report.goals.len()), (100, 200, 1));
        assert!(text(&report).contains("100 rules"));
    }
}
