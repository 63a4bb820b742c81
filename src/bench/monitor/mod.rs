//! `countersign bench monitor`: what the monitor finds in a stream of labelled calls, and what it costs.
//!
//! The stream is made from a seed by whole numbers alone, so that whoever runs it gets the same calls, scores and
//! shares; only the times are the machine's.

mod dice;
pub mod judge;
pub mod stream;

use std::fmt::Write;
use std::time::Instant;

use serde::Serialize;

use super::figures::{Goal, lines};
use crate::kernel::monitor::{Asked, Event, Monitor, MonitorRules, Outcome, Subject};
use crate::ops::failure::Failure;
use judge::Verdict;

/// Agents, with an account each, whose memory is measured.
const CROWD: u32 = 100_000;
/// The most that they may take.
const CROWD_BYTES_MAX: f64 = 200e6;
/// The most that an event may take, scored and taken in, of a decision's hundred microseconds.
const EVENT_NS_MAX: f64 = 20_000.0;

/// What to judge.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub agents: u32,
    /// Of each family.
    pub attacks: u32,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    seed: u64,
    agents: u32,
    attacks: u32,
    /// Of a thousand payments that were held: an attacker's.
    precision: u32,
    /// Of a thousand attacks: held at least once.
    recall: u32,
    verdict: Verdict,
    event_ns_p50: u64,
    event_ns_p99: u64,
    /// What the operating system gave for the memory of the crowd.
    crowd_bytes: u64,
    crowd_agents: u32,
    goals: Vec<Goal>,
}

/// Makes the stream, judges it, and measures.
///
/// # Errors
/// `bench_failed` when the process cannot read its own size.
pub fn run(plan: &Plan, tell: &dyn Fn(&str)) -> Result<Report, Failure> {
    tell("two months of calls, scored one after the other");
    let rules = MonitorRules::default();
    let stream = stream::stream(plan.seed, plan.agents, plan.attacks);
    let verdict = judge::run(&rules, &stream, |_, _, _| {});
    let mut times = times(&rules, &stream);
    times.sort_unstable();
    let of_hundred = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or(0);
    let (event_ns_p50, event_ns_p99) = (of_hundred(50), of_hundred(99));
    tell("the memory of 100,000 agents");
    let crowd_bytes = crowd()?;
    let goals = vec![
        Goal::at_least("precision, %".into(), f64::from(verdict.precision()) / 10.0, 95.0),
        Goal::at_most("100,000 agents and accounts".into(), crowd_bytes as f64 / 1e6, CROWD_BYTES_MAX / 1e6, "MB"),
        Goal::at_most("an event, p99".into(), event_ns_p99 as f64 / 1e3, EVENT_NS_MAX / 1e3, "µs"),
    ];
    Ok(Report {
        seed: plan.seed,
        agents: plan.agents,
        attacks: plan.attacks,
        precision: verdict.precision(),
        recall: verdict.recall(),
        verdict,
        event_ns_p50,
        event_ns_p99,
        crowd_bytes,
        crowd_agents: CROWD,
        goals,
    })
}

/// How long each call takes to be scored and taken in, nanoseconds.
fn times(rules: &MonitorRules, stream: &stream::Stream) -> Vec<u64> {
    let mut monitor = Monitor::new(rules.clone());
    let timed = |(number, call): (u64, &stream::Call)| {
        let event = judge::event_of(call);
        let outcome = Outcome::Authorized { transaction: Subject::of(&number.to_string()) };
        let begun = Instant::now();
        let risk = monitor.assess(&event);
        monitor.observe(&Event { outcome, ..event });
        let time = begun.elapsed();
        drop(risk);
        u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
    };
    (0_u64..).zip(&stream.calls).map(timed).collect()
}

/// The bytes that this process grows by when it watches a crowd: each agent with an account of its own, and payments in
/// two currencies.
fn crowd() -> Result<u64, Failure> {
    let before = resident()?;
    let mut monitor = Monitor::new(MonitorRules::default());
    for agent in 0..CROWD {
        for (round, is_abroad) in [(0, false), (1, agent % 20 == 0)] {
            let minor = i64::from(agent % 1_000) + 1;
            let asked = stream::Wish::Pay { payee: agent % 997 + round, minor, is_abroad };
            let at = stream::BEGIN + i64::from(agent) * 1_000;
            let event = judge::event_of(&stream::Call { at, agent, asked, attack: None });
            let transaction = Subject::of(&format!("{agent} {round}"));
            monitor.observe(&Event { outcome: Outcome::Authorized { transaction }, ..event });
            let asked = Asked::Execution { transaction, transfer: None };
            monitor.observe(&Event { asked, outcome: Outcome::Executed, ..event });
        }
    }
    let grown = resident()?.saturating_sub(before);
    // What was counted by hand is the least that is believed: pages may have been there already.
    Ok(grown.max(monitor.bytes() as u64))
}

fn resident() -> Result<u64, Failure> {
    let failed = || Failure::fault("bench_failed", "/proc/self/status says no size", "run it where /proc is mounted");
    let text = std::fs::read_to_string("/proc/self/status").map_err(|_| failed())?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or_else(failed)?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().map_err(|_| failed())?;
    Ok(kibibytes * 1_024)
}

impl Report {
    /// For a terminal.
    pub fn text(&self) -> String {
        let share = |thousandths: u32| format!("{}.{} %", thousandths / 10, thousandths % 10);
        let mut text = format!(
            "{} agents, two months, {} events; seed {}, {} attacks of each family\n\n",
            self.agents, self.verdict.events, self.seed, self.attacks
        );
        let _ = writeln!(text, "{:<20} {:>8} {:>14} {:>15}", "attack", "recall", "payments held", "money stopped");
        for (family, found) in &self.verdict.families {
            let stopped = u32::try_from(found.stopped()).unwrap_or(0);
            let held = format!("{}/{}", found.payments_held, found.payments);
            let _ =
                writeln!(text, "{:<20} {:>8} {held:>14} {:>15}", family.name(), share(found.recall()), share(stopped));
        }
        let _ = writeln!(text, "\n{:<20} {:>8} {:>14}", "ordinary", "held", "payments");
        for (profile, (payments, held)) in &self.verdict.ordinary {
            let _ = writeln!(text, "{:<20} {held:>8} {payments:>14}", profile.name());
        }
        let (precision, recall) = (share(self.precision), share(self.recall));
        let _ = writeln!(text, "\nprecision {precision}, recall {recall}");
        let _ = writeln!(text, "an event: {} ns p50, {} ns p99", self.event_ns_p50, self.event_ns_p99);
        let _ = writeln!(text, "{} agents and accounts: {} MB\n", self.crowd_agents, self.crowd_bytes / 1_000_000);
        text.push_str(&lines(&self.goals));
        text
    }
}
