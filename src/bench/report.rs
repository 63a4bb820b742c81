//! What was measured, what it was to reach, and both as a table.

use std::fmt::Write;

use serde::Serialize;

use super::chart::{Bar, Chart};
use super::figures::{self, Goal, Spread, counted};
use super::subject::Subject;
use super::{Kind, Plan};
use crate::hsm::measure::RawSpeed;

const THROUGHPUT_MIN: f64 = 0.85;
const ADDED_P50_MAX_US: f64 = 100.0;
const P99_MAX: f64 = 2.0;
const DELAY_MIN: f64 = 0.95;
const BATCH_MIN: f64 = 0.9;
const START_MAX_S: f64 = 3.0;
/// "Unchanged", with what a machine's noise does to it.
const FULL_MIN: f64 = 0.95;

/// Everything that one run measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub about: String,
    pub input: Kind,
    pub seconds: f64,
    pub rounds: u32,
    pub processors: usize,
    pub cells: Vec<Cell>,
    /// Signatures a second of two raw processes with a thread each.
    pub raw_two_processes: Spread,
    pub batches: Vec<BatchCell>,
    pub delays: Vec<DelayCell>,
    pub full_token: Option<FullToken>,
    pub goals: Vec<Goal>,
    pub notes: Vec<String>,
}

/// One number of callers on one number of workers.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    pub workers: u32,
    pub callers: u32,
    /// Of the raw loop measured right before: one thread for one caller, else two.
    pub raw_per_second: Spread,
    pub raw_p50_us: Spread,
    pub per_second: Spread,
    pub p50_us: Spread,
    pub p99_us: Spread,
    pub ratio: Spread,
    pub added_p50_us: Spread,
    /// p99 as a multiple of callers / throughput.
    pub p99_ratio: Spread,
}

#[derive(Clone, Debug, Serialize)]
pub struct BatchCell {
    pub items: usize,
    pub signatures_per_second: Spread,
    pub hash_limit_per_second: Spread,
    pub items_per_second: Spread,
    /// Against the lesser of items × signatures a second and the hash limit.
    pub ratio: Spread,
}

#[derive(Clone, Debug, Serialize)]
pub struct DelayCell {
    pub workers: u32,
    pub sessions: u32,
    pub callers: u32,
    /// A thread a session in one process.
    pub raw_per_second: Spread,
    pub per_second: Spread,
    /// Against sessions / delay.
    pub ratio: Spread,
}

#[derive(Clone, Debug, Serialize)]
pub struct FullToken {
    pub keys: u32,
    pub start_s: f64,
    pub empty_per_second: f64,
    pub full_per_second: f64,
    pub raw_full_per_second: f64,
}

impl RawSpeed {
    /// Signatures a second.
    pub fn rate(&self) -> f64 {
        self.signatures as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }
}

impl Cell {
    /// From pairs of a raw loop and ours.
    pub fn of(workers: u32, callers: u32, measured: &[(RawSpeed, RawSpeed)]) -> Self {
        let spread = |value: &dyn Fn(&RawSpeed, &RawSpeed) -> f64| {
            Spread::of(measured.iter().map(|(raw, ours)| value(raw, ours)).collect())
        };
        Self {
            workers,
            callers,
            raw_per_second: spread(&|raw, _| raw.rate()),
            raw_p50_us: spread(&|raw, _| raw.p50_us),
            per_second: spread(&|_, ours| ours.rate()),
            p50_us: spread(&|_, ours| ours.p50_us),
            p99_us: spread(&|_, ours| ours.p99_us),
            ratio: spread(&|raw, ours| ours.rate() / raw.rate()),
            added_p50_us: spread(&|raw, ours| ours.p50_us - raw.p50_us),
            p99_ratio: spread(&|_, ours| ours.p99_us / 1e6 * ours.rate() / f64::from(callers)),
        }
    }
}

impl BatchCell {
    /// From signatures, hashed items and signed items a second.
    pub fn of(items: usize, rows: &[(f64, f64, f64)]) -> Self {
        Self {
            items,
            signatures_per_second: Spread::of(rows.iter().map(|row| row.0).collect()),
            hash_limit_per_second: Spread::of(rows.iter().map(|row| row.1).collect()),
            items_per_second: Spread::of(rows.iter().map(|row| row.2).collect()),
            ratio: Spread::of(rows.iter().map(|row| row.2 / (row.0 * items as f64).min(row.1)).collect()),
        }
    }
}

impl Report {
    pub fn new(plan: &Plan, subject: &Subject) -> Self {
        let mut notes = vec![
            "Raw: cryptoki in a worker process, a session a thread, the same key, no hash and no check of the \
             signature; it asks for the length first, three calls a signature, which costs less than 1 %."
                .to_owned(),
            "Ours: the pool that the daemons use, callers in this process, signatures linted, hashed and encoded; raw \
             and ours take turns."
                .to_owned(),
        ];
        if cfg!(debug_assertions) {
            notes.push("This program was built for development: figures are to be taken with a release build.".into());
        }
        Self {
            about: subject.about(),
            input: plan.kind,
            seconds: plan.seconds,
            rounds: plan.rounds,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            cells: Vec::new(),
            raw_two_processes: Spread::default(),
            batches: Vec::new(),
            delays: Vec::new(),
            full_token: None,
            goals: Vec::new(),
            notes,
        }
    }

    /// Holds what was measured against what is to be reached.
    pub fn judge(&mut self) {
        let mut goals = Vec::new();
        for cell in &self.cells {
            let place = format!("{}, {}", counted(cell.callers, "caller"), counted(cell.workers, "worker"));
            if cell.callers == 1 {
                goals.push(Goal::at_most(
                    format!("added p50, {place}"),
                    cell.added_p50_us.median,
                    ADDED_P50_MAX_US,
                    "µs",
                ));
            } else {
                goals.push(Goal::at_least(format!("throughput / raw, {place}"), cell.ratio.median, THROUGHPUT_MIN));
            }
            if cell.callers >= 64 {
                let what = format!("p99 / (callers / throughput), {place}");
                goals.push(Goal::at_most(what, cell.p99_ratio.median, P99_MAX, ""));
            }
        }
        for cell in &self.delays {
            let what = format!("10 ms a call, {} sessions, {}", cell.sessions, counted(cell.workers, "worker"));
            goals.push(Goal::at_least(what, cell.ratio.median, DELAY_MIN));
        }
        for cell in &self.batches {
            let what = format!("batch of {}, items / limit", cell.items);
            goals.push(Goal::at_least(what, cell.ratio.median, BATCH_MIN));
        }
        if let Some(full) = &self.full_token {
            goals.push(Goal::at_most(format!("start with {} keys", full.keys), full.start_s, START_MAX_S, "s"));
            let ratio = full.full_per_second / full.empty_per_second;
            goals.push(Goal::at_least(format!("throughput with {} keys / without", full.keys), ratio, FULL_MIN));
        }
        self.goals = goals;
    }

    /// The tables, for a terminal of 120 columns.
    pub fn text(&self) -> String {
        let mut text =
            format!("{}\n{} rounds of {} s, {} processors\n\n", self.about, self.rounds, self.seconds, self.processors);
        // Writing into a String does not fail.
        let _ = writeln!(
            text,
            "{:>7} {:>7} {:>10} {:>10} {:>22} {:>9} {:>9} {:>9}",
            "workers", "callers", "raw/s", "ours/s", "ours/raw (min..max)", "p50 µs", "p99 µs", "added µs"
        );
        for cell in &self.cells {
            let ratio = format!("{:.2} ({:.2}..{:.2})", cell.ratio.median, cell.ratio.min, cell.ratio.max);
            let _ = writeln!(
                text,
                "{:>7} {:>7} {:>10.0} {:>10.0} {:>22} {:>9.0} {:>9.0} {:>9}",
                cell.workers,
                cell.callers,
                cell.raw_per_second.median,
                cell.per_second.median,
                ratio,
                cell.p50_us.median,
                cell.p99_us.median,
                // With more callers it is time in the queue.
                if cell.callers == 1 { format!("{:.0}", cell.added_p50_us.median) } else { "-".to_owned() }
            );
        }
        let _ = writeln!(text, "raw, two processes: {:.0}/s\n", self.raw_two_processes.median);
        for cell in &self.batches {
            let _ = writeln!(
                text,
                "batch of {:>4}: {:>9.0} items/s; {:.0} signatures/s, {:.0} items/s hashed alone",
                cell.items,
                cell.items_per_second.median,
                cell.signatures_per_second.median,
                cell.hash_limit_per_second.median
            );
        }
        for cell in &self.delays {
            let _ = writeln!(
                text,
                "10 ms a call: {:.0}/s with {} and {} sessions, raw {:.0}/s",
                cell.per_second.median,
                counted(cell.workers, "worker"),
                cell.sessions,
                cell.raw_per_second.median
            );
        }
        if let Some(full) = &self.full_token {
            let _ = writeln!(
                text,
                "{} keys: start {:.2} s, {:.0}/s (before {:.0}/s, raw {:.0}/s)",
                full.keys, full.start_s, full.full_per_second, full.empty_per_second, full.raw_full_per_second
            );
        }
        text.push('\n');
        text.push_str(&figures::lines(&self.goals));
        for note in &self.notes {
            let _ = write!(text, "\n{note}");
        }
        text
    }

    /// Throughput of every cell against its raw loop.
    pub fn chart(&self) -> Chart {
        let bar = |cell: &Cell| Bar {
            label: format!("{} × {}", cell.callers, cell.workers),
            ours: cell.per_second,
            raw: cell.raw_per_second,
            ratio: cell.ratio.median,
        };
        Chart {
            title: "Signatures a second: ours and the raw module",
            bars_are: "callers × worker processes",
            unit: "signatures a second",
            raw_is: "raw limit: one thread for 1 caller, else two",
            bars: self.cells.iter().map(bar).collect(),
        }
    }
}
