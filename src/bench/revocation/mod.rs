//! `countersign bench revocation`: how long a revocation takes to reach its agents, and what publishing it costs.
//!
//! Real parts in one process: SoftHSM2 tokens behind worker processes, three parties, stores on this file system, the
//! bank's listener with its agents connected over mutual TLS. What is compared with something raw is measured in turns.

mod bulk;
mod cut;
mod list;
mod race;
mod responder;

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::figures::{Goal, Spread, lines};
use super::served::{Served, operator};
use super::site::{self, Site};
use super::stop::Stop;
use crate::ca::{Named, RevokeMode, RevokeRequest};
use crate::ops::failure::Failure;

/// What is measured, and how much of it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub program: PathBuf,
    pub module: PathBuf,
    /// Agents, each revoked once.
    pub agents: u32,
    /// Open connections of each.
    pub connections: u32,
    /// Entries of the list and of the bulk.
    pub entries: u32,
    /// Calls that race revocations, as many as a minute allows; 0: not measured.
    pub calls: u32,
    pub rounds: u32,
    pub seconds: f64,
    pub directory: PathBuf,
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub connected: u32,
    /// Milliseconds from the call to the last connection's end, as the agents see it: everybody at once.
    pub everyone_cut_ms: f64,
    /// The same for one agent among all, sorted.
    pub one_cut_ms: Vec<f64>,
    pub recorded_ms: Spread,
    pub effective_ms: Spread,
    /// Calls that raced revocations, how many did something, and of those that began when it was effective.
    pub raced_calls: u64,
    pub raced_effects: u64,
    pub late_calls: u64,
    pub late_effects: u64,
    pub bulk_rows_per_second: Spread,
    pub raw_rows_per_second: Spread,
    pub bulk_ratio: Spread,
    /// Milliseconds to make a list whose entries are known, with one more, and all of it from nothing.
    pub list_next_ms: Spread,
    pub list_all_ms: Spread,
    pub list_raw_ms: Spread,
    pub list_ratio: Spread,
    pub ocsp_per_second: Spread,
    pub static_per_second: Spread,
    pub ocsp_ratio: Spread,
    pub goals: Vec<Goal>,
}

/// Measures.
///
/// # Errors
/// `bench_stopped`, and whatever kept a part from working.
pub fn run(plan: &Plan, tell: &(dyn Fn(&str) + Sync)) -> Result<Report, Failure> {
    let stop = Stop::on_signals()?;
    crate::app::raise_descriptor_limit();
    tell(&format!("three parties, and {} agents enrolled with both", plan.agents));
    let directory = site::prepare(&plan.program, &plan.module, &plan.directory, &stop)?;
    let site = Site::open(&plan.program, directory)?;
    let agents = site.several(plan.agents, "agent", &stop)?;
    tell(&format!("connecting {} times, then revoking each agent", plan.agents * plan.connections));
    let cuts = cut::measure(plan, &site, &agents, &stop)?;
    tell("answers about certificates against an answer that is a file");
    let answers = responder::measure(plan, &site, &stop)?;
    let race = if plan.calls > 0 {
        tell(&format!("{} calls that race revocations, as far as a minute goes", plan.calls));
        race::measure(plan, &site, &stop)?
    } else {
        race::Race::default()
    };
    drop(site);
    tell(&format!("{} certificates revoked in bulk against bare inserts", plan.entries));
    let bulk = bulk::measure(plan, &stop)?;
    tell(&format!("lists of {} entries against a bare encoder", plan.entries));
    let list = list::measure(plan, &stop)?;

    let connected = plan.agents * plan.connections;
    let among = |what: &str| format!("{what}, one of {connected} connections' agents");
    let mut goals = vec![
        Goal::at_most(among("cut p50"), cuts.percentile(0.50), 5.0, "ms"),
        Goal::at_most(among("cut p99"), cuts.percentile(0.99), 20.0, "ms"),
        Goal::at_most(format!("all {connected} cut"), cuts.everyone_ms, 100.0, "ms"),
        Goal::at_least("bulk against raw group commit".into(), bulk.ratio.median, 0.3),
        Goal::at_most(format!("list of {} against a raw encoder", plan.entries), list.ratio.median, 3.0, "x"),
        Goal::at_least("OCSP from memory against a static answer".into(), answers.ratio.median, 0.8),
    ];
    if race.late > 0 {
        let what = format!("effects of {} calls begun after effective, of {}", race.late, race.calls);
        // Counts stay far below 2^52.
        goals.push(Goal::at_most(what, race.late_effects as f64, 0.0, ""));
    }
    Ok(Report {
        connected,
        everyone_cut_ms: cuts.everyone_ms,
        one_cut_ms: cuts.one_ms,
        recorded_ms: Spread::of(cuts.recorded_ms),
        effective_ms: Spread::of(cuts.effective_ms),
        raced_calls: race.calls,
        raced_effects: race.effects,
        late_calls: race.late,
        late_effects: race.late_effects,
        bulk_rows_per_second: bulk.ours,
        raw_rows_per_second: bulk.raw,
        bulk_ratio: bulk.ratio,
        list_next_ms: list.next_ms,
        list_all_ms: list.all_ms,
        list_raw_ms: list.raw_ms,
        list_ratio: list.ratio,
        ocsp_per_second: answers.ours,
        static_per_second: answers.fixed,
        ocsp_ratio: answers.ratio,
        goals,
    })
}

/// One agent, and nothing is served to it any more when this answers.
fn revoke(bank: &Served, agent: &str) -> Result<Value, Failure> {
    let (named, reason) = (Named::Text(agent.to_owned()), "a measurement".to_owned());
    let request = RevokeRequest { named, reason, mode: RevokeMode::Effective, after: None };
    bank.authority.revoke(&operator("olga"), &request)
}

impl Report {
    pub fn text(&self) -> String {
        let one = |what: &str, spread: &Spread, unit: &str| {
            format!("{what:<52} {:>10.2} {unit} ({:.2} to {:.2})\n", spread.median, spread.min, spread.max)
        };
        [
            one("recorded", &self.recorded_ms, "ms"),
            one("effective", &self.effective_ms, "ms"),
            one("bulk", &self.bulk_rows_per_second, "certificates/s"),
            one("raw group commit", &self.raw_rows_per_second, "rows/s"),
            one("the next list, one entry more", &self.list_next_ms, "ms"),
            one("a list from nothing", &self.list_all_ms, "ms"),
            one("raw encoder", &self.list_raw_ms, "ms"),
            one("OCSP answers from memory", &self.ocsp_per_second, "/s"),
            one("a static answer", &self.static_per_second, "/s"),
            format!(
                "{} calls raced revocations: {} did something, {} began after effective and {} of them did something\n",
                self.raced_calls, self.raced_effects, self.late_calls, self.late_effects
            ),
            lines(&self.goals),
        ]
        .concat()
    }
}
