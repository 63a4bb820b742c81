//! What was measured, what it was to reach, and both as a table.

use std::fmt::Write;

use serde::Serialize;

use super::Plan;
use super::load::{Shape, Speed};
use crate::bench::chart::{Bar, Chart};
use crate::bench::figures::{self, Goal, Spread};

const SQLITE_ONE_MIN: f64 = 0.8;
const SQLITE_FEW_MIN: f64 = 0.8;
const SQLITE_MANY_MIN: f64 = 0.85;
const POSTGRES_MIN: f64 = 0.8;
const PGBENCH_MIN: f64 = 3.0;
const HOT_MIN: f64 = 0.9;
const TWO_STORES_MIN: f64 = 1.2;
const HISTORY_MIN: f64 = 0.8;
const LONG_HISTORY_MIN: f64 = 0.6;
/// Rows from which a history is a long one.
const LONG_HISTORY: u64 = 10_000_000;
const HALF_LOAD_P99_MAX: f64 = 3.0;
/// "Bounded": what a daemon may well have, whatever it has stored.
const PEAK_MIB_MAX: f64 = 512.0;

/// In flight from which many wait for one commit.
const MANY: u32 = 1_024;

/// Everything that one run measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub seconds: f64,
    pub rounds: u32,
    pub accounts: u32,
    pub history: u64,
    pub processors: usize,
    pub stores: Vec<StoreFigures>,
    pub goals: Vec<Goal>,
    pub notes: Vec<String>,
}

/// One kind of store.
#[derive(Clone, Debug, Serialize)]
pub struct StoreFigures {
    pub store: &'static str,
    pub about: String,
    pub cells: Vec<Cell>,
    /// One merchant whom everybody pays, against uniform accounts.
    pub hot: Versus,
    /// Whole payments of agents, against raw transfers.
    pub payments: Versus,
    pub half_load: HalfLoad,
    pub history: Option<Versus>,
    pub two_stores: Option<Versus>,
    pub pgbench: Option<Versus>,
    /// Of this process, from its beginning to the end of this store.
    pub peak_mib: Option<f64>,
}

/// So many in flight.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    pub in_flight: u32,
    pub callers: u32,
    /// Transfers that a caller hands over at once.
    pub together: u32,
    pub raw_per_second: Spread,
    pub raw_p50_us: Spread,
    pub raw_p99_us: Spread,
    /// Processor time of this process a transfer, callers included.
    pub raw_processor_us: Spread,
    pub processor_us: Spread,
    pub per_second: Spread,
    pub p50_us: Spread,
    pub p99_us: Spread,
    pub ratio: Spread,
}

/// Two rates of the same moment.
#[derive(Clone, Default, Debug, Serialize)]
pub struct Versus {
    pub base: String,
    pub what: String,
    pub in_flight: u32,
    pub base_per_second: Spread,
    pub per_second: Spread,
    pub ratio: Spread,
}

/// Answer times when half of what is possible is asked for.
#[derive(Clone, Default, Debug, Serialize)]
pub struct HalfLoad {
    pub per_second: Spread,
    pub p50_us: Spread,
    pub p99_us: Spread,
    /// p99 of one transfer alone: the store's own commit.
    pub commit_p99_us: Spread,
    pub ratio: Spread,
}

impl Cell {
    /// From pairs of the raw loop and ours.
    pub fn of(shape: Shape, pairs: &[(Speed, Speed)]) -> Self {
        let spread = |value: &dyn Fn(&(Speed, Speed)) -> f64| Spread::of(pairs.iter().map(value).collect());
        Self {
            in_flight: shape.in_flight(),
            callers: shape.callers,
            together: shape.together,
            raw_per_second: spread(&|(raw, _)| raw.per_second),
            raw_p50_us: spread(&|(raw, _)| raw.p50_us),
            raw_p99_us: spread(&|(raw, _)| raw.p99_us),
            raw_processor_us: spread(&|(raw, _)| raw.processor_us),
            processor_us: spread(&|(_, ours)| ours.processor_us),
            per_second: spread(&|(_, ours)| ours.per_second),
            p50_us: spread(&|(_, ours)| ours.p50_us),
            p99_us: spread(&|(_, ours)| ours.p99_us),
            ratio: spread(&|(raw, ours)| ours.per_second / raw.per_second),
        }
    }
}

impl Versus {
    /// From pairs of a rate and the one that is compared with it.
    pub fn of(base: &str, what: &str, shape: Shape, pairs: &[(f64, f64)]) -> Self {
        Self {
            base: base.to_owned(),
            what: what.to_owned(),
            in_flight: shape.in_flight(),
            base_per_second: Spread::of(pairs.iter().map(|(base, _)| *base).collect()),
            per_second: Spread::of(pairs.iter().map(|(_, other)| *other).collect()),
            ratio: Spread::of(pairs.iter().map(|(base, other)| other / base).collect()),
        }
    }

    fn line(&self) -> String {
        format!(
            "{}: {:.0}/s, {}: {:.0}/s: {:.2} ({:.2}..{:.2}), {} in flight",
            self.what,
            self.per_second.median,
            self.base,
            self.base_per_second.median,
            self.ratio.median,
            self.ratio.min,
            self.ratio.max,
            self.in_flight
        )
    }
}

impl HalfLoad {
    /// From pairs of one transfer at a time and half load.
    pub fn of(pairs: &[(Speed, Speed)]) -> Self {
        let spread = |value: &dyn Fn(&(Speed, Speed)) -> f64| Spread::of(pairs.iter().map(value).collect());
        Self {
            per_second: spread(&|(_, half)| half.per_second),
            p50_us: spread(&|(_, half)| half.p50_us),
            p99_us: spread(&|(_, half)| half.p99_us),
            commit_p99_us: spread(&|(alone, _)| alone.p99_us),
            ratio: spread(&|(alone, half)| half.p99_us / alone.p99_us),
        }
    }
}

impl StoreFigures {
    pub fn new(store: &'static str, about: &str) -> Self {
        Self {
            store,
            about: about.to_owned(),
            cells: Vec::new(),
            hot: Versus::default(),
            payments: Versus::default(),
            half_load: HalfLoad::default(),
            history: None,
            two_stores: None,
            pgbench: None,
            peak_mib: None,
        }
    }

    fn goals(&self, history: u64) -> Vec<Goal> {
        let mut goals = Vec::new();
        let is_sqlite = self.two_stores.is_none();
        let mut at_least = |what: String, measured: f64, least: f64| {
            goals.push(Goal::at_least(format!("{}: {what}", self.store), measured, least));
        };
        for cell in &self.cells {
            let least = match cell.in_flight {
                1 if is_sqlite => SQLITE_ONE_MIN,
                1 => continue,
                many if is_sqlite && many >= MANY => SQLITE_MANY_MIN,
                _ if is_sqlite => SQLITE_FEW_MIN,
                _ => POSTGRES_MIN,
            };
            at_least(format!("ours / raw, {} in flight", cell.in_flight), cell.ratio.median, least);
        }
        at_least("hot merchant / uniform".into(), self.hot.ratio.median, HOT_MIN);
        if let Some(two) = &self.two_stores {
            at_least("two stores / one".into(), two.ratio.median, TWO_STORES_MIN);
        }
        if let Some(pgbench) = &self.pgbench {
            at_least("ours / pgbench TPC-B".into(), pgbench.ratio.median, PGBENCH_MIN);
        }
        if let Some(versus) = &self.history {
            let least = if history >= LONG_HISTORY { LONG_HISTORY_MIN } else { HISTORY_MIN };
            at_least(format!("{history} rows of history / empty"), versus.ratio.median, least);
        }
        let what = format!("{}: p99 at half load / p99 of a commit", self.store);
        goals.push(Goal::at_most(what, self.half_load.ratio.median, HALF_LOAD_P99_MAX, ""));
        if let Some(peak) = self.peak_mib {
            goals.push(Goal::at_most(format!("{}: peak memory", self.store), peak, PEAK_MIB_MAX, "MiB"));
        }
        goals
    }

    fn text(&self, text: &mut String) {
        // Writing into a String does not fail.
        let _ = writeln!(text, "{} ({})", self.store, self.about);
        let _ = writeln!(
            text,
            "{:>9} {:>9} {:>9} {:>9} {:>20} {:>9} {:>9} {:>9} {:>9} {:>11}",
            "in flight",
            "together",
            "raw/s",
            "ours/s",
            "ours/raw (min..max)",
            "raw p50",
            "raw p99",
            "p50 µs",
            "p99 µs",
            "CPU raw/our"
        );
        for cell in &self.cells {
            let ratio = format!("{:.2} ({:.2}..{:.2})", cell.ratio.median, cell.ratio.min, cell.ratio.max);
            let _ = writeln!(
                text,
                "{:>9} {:>9} {:>9.0} {:>9.0} {:>20} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>11}",
                cell.in_flight,
                cell.together,
                cell.raw_per_second.median,
                cell.per_second.median,
                ratio,
                cell.raw_p50_us.median,
                cell.raw_p99_us.median,
                cell.p50_us.median,
                cell.p99_us.median,
                format!("{:.0}/{:.0} µs", cell.raw_processor_us.median, cell.processor_us.median)
            );
        }
        let others = [&self.history, &self.two_stores, &self.pgbench];
        for versus in [&self.hot, &self.payments].into_iter().chain(others.into_iter().flatten()) {
            let _ = writeln!(text, "{}", versus.line());
        }
        let half = &self.half_load;
        let _ = writeln!(
            text,
            "half load, {:.0}/s: p50 {:.0} µs, p99 {:.0} µs; one alone: p99 {:.0} µs",
            half.per_second.median, half.p50_us.median, half.p99_us.median, half.commit_p99_us.median
        );
        text.push('\n');
    }
}

impl Report {
    pub fn new(plan: &Plan) -> Self {
        let mut notes = vec![
            "A transfer: idempotency look-up, two balances, daily sum; insert transaction, two entries, idempotency row \
             and audit leaf; update two balances and the sum."
                .to_owned(),
            "Raw: that and nothing else, on the same file system or server, the leaf as long as ours. Ours: the store \
             that the daemon uses, every rule decided; callers in this process; raw and ours take turns."
                .to_owned(),
        ];
        if cfg!(debug_assertions) {
            notes.push("This program was built for development: figures are to be taken with a release build.".into());
        }
        Self {
            seconds: plan.seconds,
            rounds: plan.rounds,
            accounts: plan.accounts,
            history: plan.history,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            stores: Vec::new(),
            goals: Vec::new(),
            notes,
        }
    }

    /// Holds what was measured against what is to be reached.
    pub fn judge(&mut self) {
        self.goals = self.stores.iter().flat_map(|store| store.goals(self.history)).collect();
    }

    /// The tables, for a terminal of 120 columns.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} rounds of {} s, {} accounts, {} processors\n\n",
            self.rounds, self.seconds, self.accounts, self.processors
        );
        for store in &self.stores {
            store.text(&mut text);
        }
        text.push_str(&figures::lines(&self.goals));
        for note in &self.notes {
            // Writing into a String does not fail.
            let _ = write!(text, "\n{note}");
        }
        text
    }

    /// Throughput of every cell against its raw loop.
    pub fn chart(&self) -> Chart {
        let bars = |store: &StoreFigures| -> Vec<Bar> {
            let bar = |cell: &Cell| Bar {
                label: format!("{} {}", store.store, cell.in_flight),
                ours: cell.per_second,
                raw: cell.raw_per_second,
                ratio: cell.ratio.median,
            };
            store.cells.iter().map(bar).collect()
        };
        Chart {
            title: "Transfers a second: ours and the raw loop",
            bars_are: "store and transfers in flight",
            unit: "transfers a second",
            raw_is: "raw limit: the leanest loop on the same store",
            bars: self.stores.iter().flat_map(bars).collect(),
        }
    }
}
