//! What a decision costs besides its commit: in memory, on one thread, without a store. A role policy alone, and the
//! whole engine (`engine`).

mod engine;
mod timing;

use serde::Serialize;
use serde_json::{Value, json};

use self::timing::Taken;
use super::figures::{Goal, lines};
use crate::kernel::policy::document::Document;
use crate::kernel::policy::role::{Arguments, Policy, Ruling, decimal};
use crate::kernel::policy::tools::Tools;
use crate::ops::failure::Failure;

/// The 99th percentile of one decision for a role of 100 rules, in microseconds.
const ROLE_GOAL_US: f64 = 20.0;
/// The same of everything that is decided about a payment and recorded of it.
const ENGINE_GOAL_US: f64 = 100.0;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Permissions of the role; as many transaction rules beside them for the engine.
    pub rules: u32,
    /// Calls of one round.
    pub calls: u32,
    pub rounds: u32,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub rules: u32,
    pub calls: u32,
    pub role: Taken,
    pub engine: Taken,
    pub goals: Vec<Goal>,
}

/// Asks a role whose every permission is of one tool and fits only as the last one: all of them are judged. Then the
/// engine with that role.
///
/// # Errors
/// `bench_policy_invalid`: a defect.
pub fn run(plan: Plan, mut progress: impl FnMut(&str)) -> Result<Report, Failure> {
    let policy = policy(plan.rules)?;
    let last = account(plan.rules.checked_sub(1).ok_or_else(|| defect("a role without rules"))?);
    // The first that fits ends the search: the last one is the longest way, and one that fits nowhere is as long.
    let calls = [(last.as_str(), "499.99"), (last.as_str(), "500.01"), ("SAV_999", "1.00")];
    let mut tell = |what: &str, round: u32| progress(&format!("{what}: round {round} of {}", plan.rounds));
    let ask = |at: usize| decided(&policy, calls[at % calls.len()]);
    let role = Taken::by(plan.calls, plan.rounds, ask, |round| tell("the role", round));
    let engine = engine::run(plan.rules, plan.calls, plan.rounds, |round| tell("the engine", round))?;
    let goal = |what: &str, taken: &Taken, goal: f64| {
        Goal::at_most(format!("{what}, {} rules, p99", plan.rules), taken.p99_us.median, goal, "µs")
    };
    let goals = vec![goal("a role's decision", &role, ROLE_GOAL_US), goal("the whole engine", &engine, ENGINE_GOAL_US)];
    Ok(Report { rules: plan.rules, calls: plan.calls, role, engine, goals })
}

/// The report in words.
pub fn text(report: &Report) -> String {
    let (role, engine) = (report.role.text(), report.engine.text());
    let (rules, calls) = (report.rules, report.calls);
    let goals = lines(&report.goals);
    format!(
        "{rules} rules, {calls} calls a round\nthe role's permissions\n{role}\nthe whole engine, without a store\n{engine}\n{goals}"
    )
}

fn account(at: u32) -> String {
    format!("CHK_{at:03}")
}

fn policy(rules: u32) -> Result<Policy, Failure> {
    let policy = read(document(rules))?;
    let fits = |call| matches!(decided(&policy, call), Ruling::Permitted { .. });
    let last = account(rules.saturating_sub(1));
    if fits((&last, "499.99")) && !fits((&last, "500.01")) && !fits(("SAV_999", "1.00")) {
        return Ok(policy);
    }
    Err(defect("it decides otherwise"))
}

fn read(document: Value) -> Result<Policy, Failure> {
    let document = Document::of(document).map_err(|finding| defect(&finding.to_string()))?;
    Policy::examined(document, &Tools::ours(), None).policy.ok_or_else(|| defect("it was refused"))
}

/// A role with so many permissions of one tool, each for one payee.
fn document(rules: u32) -> Value {
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
    json!({ "role": "purchaser", "permissions": permissions })
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
        assert!(report.role.p50_us.median > 0.0 && report.role.p50_us.median <= report.role.p99_us.median);
        assert!(report.engine.p99_us.max <= report.engine.max_us.max);
        assert_eq!((report.rules, report.calls, report.goals.len()), (100, 200, 2));
        assert!(text(&report).contains("100 rules"));
    }
}
