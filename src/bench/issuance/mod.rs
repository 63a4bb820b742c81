//! `countersign bench issuance`: pairs for many applicants, and a party that has issued many already.
//!
//! Real parts: state directories as `countersign init` makes them, their SoftHSM2 tokens behind as many worker processes
//! as a daemon has, their stores and logs on this file system. A pair costs two signatures, S at the security company and
//! B at the bank; both are compared with what the module signs with such a key in a bare loop right before. The agents
//! alone are synthetic: their keys are in memory, which the output says.

mod full;
mod pairs;

use std::path::PathBuf;

use serde::Serialize;

use super::figures::{Goal, Spread, lines};
use super::site::{self, Site};
use super::stop::Stop;
use crate::kernel::sign::Algorithm;
use crate::ops::failure::Failure;
pub use full::FullStore;

/// What is measured, and how much of it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub program: PathBuf,
    pub module: PathBuf,
    /// Pairs of one round.
    pub pairs: u32,
    /// Officers' commands at once.
    pub callers: u32,
    pub rounds: u32,
    /// Seconds of the bare loop.
    pub seconds: f64,
    /// Certificates that a bank has issued when its start is measured; 0: not measured.
    pub certificates: u32,
    pub directory: PathBuf,
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub pairs: u32,
    pub callers: u32,
    /// Worker processes of each token.
    pub workers: u32,
    /// Of the issuing keys.
    pub algorithm: Algorithm,
    pub raw_per_second: Spread,
    /// S and B.
    pub endorsed_per_second: Spread,
    pub issued_per_second: Spread,
    /// Milliseconds of one endorsement or issuance.
    pub p50_ms: Spread,
    pub p99_ms: Spread,
    /// Signatures of both tokens.
    pub per_second: Spread,
    pub ratio: Spread,
    pub full: Option<FullStore>,
    pub goals: Vec<Goal>,
}

const RATIO_MIN: f64 = 0.25;
const START_MAX_S: f64 = 2.0;

/// Measures.
///
/// # Errors
/// `bench_stopped`, and whatever kept a part from working.
pub fn run(plan: &Plan, tell: &(dyn Fn(&str) + Sync)) -> Result<Report, Failure> {
    let stop = Stop::on_signals()?;
    tell("a security company, a bank and an agent host");
    let directory = site::prepare(&plan.program, &plan.module, &plan.directory, &stop)?;
    let bank = site::state(&directory, "bank");
    let empty = if plan.certificates > 0 { Some(full::start(plan, &bank, &stop)?) } else { None };
    let site = Site::open(&plan.program, directory)?;
    let measured = pairs::measure(plan, &site, &stop, tell)?;
    let full = match empty {
        Some(empty) => Some(full::measure(plan, site, empty, &stop, tell)?),
        None => None,
    };

    let mut goals = vec![Goal::at_least(
        format!("signatures of pairs against the module, {} at once", plan.callers),
        measured.ratio.median,
        RATIO_MIN,
    )];
    if let Some(full) = &full {
        goals.push(Goal::at_most(
            format!("start with {} certificates", full.certificates),
            full.start_s.median,
            START_MAX_S,
            "s",
        ));
    }
    Ok(Report { full, goals, ..measured })
}

impl Report {
    /// The figures, for a terminal.
    pub fn text(&self) -> String {
        let one = |what: &str, spread: &Spread, unit: &str| {
            format!("{what:<52} {:>10.2} {unit} ({:.2} to {:.2})\n", spread.median, spread.min, spread.max)
        };
        let about = format!(
            "{} pairs a round, {} at once; {} keys, {} a token; the agents' own keys are synthetic\n",
            self.pairs,
            self.callers,
            self.algorithm.slug(),
            super::figures::counted(self.workers, "worker")
        );
        let pairs = [
            about,
            one("the module in a bare loop", &self.raw_per_second, "signatures/s"),
            one("endorsed", &self.endorsed_per_second, "/s"),
            one("issued", &self.issued_per_second, "/s"),
            one("signatures of both", &self.per_second, "/s"),
            one("one endorsement or issuance, p50", &self.p50_ms, "ms"),
            one("one endorsement or issuance, p99", &self.p99_ms, "ms"),
        ];
        let full = self.full.as_ref().map(FullStore::text).unwrap_or_default();
        [pairs.concat(), full, lines(&self.goals)].concat()
    }
}
