//! Transfers a second: ours and the leanest loop on the same store, in turns: `countersign bench ledger`.
//!
//! Only acknowledged commits count. Each cell of ours is measured right after the raw loop it is compared with, with
//! the same callers, round after round, and what counts is the median of the ratios. Afterwards every book that was
//! written to must balance, and a hot merchant must have been paid exactly what was acknowledged.

mod database;
mod load;
mod ours;
mod raw_postgres;
mod raw_sqlite;
pub mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::directory::Directory;
use super::sealed::sealed;
use super::stop::Stop;
use crate::ops::failure::Failure;
use crate::store::Store;
use crate::store::settings::StoreSettings;
use crate::store::sqlite::SqliteStore;
use database::Database;
use load::{Shape, Speed, Spreading};
use ours::Ours;
use raw_postgres::RawPostgres;
use raw_sqlite::RawSqlite;
pub use report::Report;
use report::{Cell, HalfLoad, StoreFigures, Versus};

/// What an account has in the beginning, in minor units: more than any run can spend of it.
const OPENING_MINOR: i64 = 100_000_000_000;
/// Not measured: the first calls of a store.
const WARM_UP: Duration = Duration::from_millis(300);
/// What is measured besides the cells takes this many rounds at most.
const SIDE_ROUNDS_MAX: u32 = 3;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seconds: f64,
    pub rounds: u32,
    /// Transfers that are handed over and not yet answered, one cell each.
    pub in_flight: Vec<u32>,
    pub accounts: u32,
    /// Rows of a store that has history; 0: not measured.
    pub history: u64,
    /// A server on which databases of our own may be made.
    pub postgres: Option<StoreSettings>,
    /// Where the files go: their file system is measured.
    pub directory: PathBuf,
}

/// One transfer as the callers choose it.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Never used before.
    pub key: [u8; 32],
    pub debit: u32,
    pub credit: u32,
    pub minor: i64,
    pub day: i32,
}

/// What takes transfers and answers when they are durable.
pub trait Engine: Sync {
    /// # Errors
    /// What the store says; a refused transfer is a failure here.
    fn transfer(&self, transfers: Vec<Transfer>) -> Result<(), Failure>;
}

impl Engine for RawSqlite {
    fn transfer(&self, transfers: Vec<Transfer>) -> Result<(), Failure> {
        self.call(transfers)
    }
}

impl Engine for RawPostgres {
    fn transfer(&self, transfers: Vec<Transfer>) -> Result<(), Failure> {
        self.call(transfers)
    }
}

/// Carries the plan out; `tell` gets lines of progress.
///
/// # Errors
/// `bench_options_invalid`, `bench_stopped`, `book_out_of_balance`, and whatever kept a store from committing.
pub fn run(plan: &Plan, tell: &(dyn Fn(&str) + Sync)) -> Result<Report, Failure> {
    if !(0.1..=60.0).contains(&plan.seconds) || plan.in_flight.is_empty() || plan.accounts < 3 {
        return Err(invalid("--seconds must be 0.1 to 60, --accounts 3 or more, and something must be in flight"));
    }
    if let Some(server) = &plan.postgres {
        database::check(server)?;
    }
    let bench = Bench {
        plan,
        time: Duration::from_secs_f64(plan.seconds),
        stop: Stop::on_signals()?,
        tell,
        runs: AtomicU64::new(0),
    };
    let mut report = Report::new(plan);
    report.stores.push(bench.sqlite()?);
    if let Some(server) = &plan.postgres {
        report.stores.push(bench.postgres(server)?);
    }
    report.judge();
    Ok(report)
}

/// A run of the plan.
struct Bench<'p> {
    plan: &'p Plan,
    time: Duration,
    stop: Stop,
    tell: &'p (dyn Fn(&str) + Sync),
    /// Loops so far: each has keys of its own.
    runs: AtomicU64,
}

impl Bench<'_> {
    fn sqlite(&self) -> Result<StoreFigures, Failure> {
        let directory = Directory::make(&self.plan.directory)?;
        (self.tell)(&format!("SQLite in {}", self.plan.directory.display()));
        let fresh = |name: &str| -> Result<Ours, Failure> {
            Ours::set_up(open_sqlite(directory.path(), name)?, self.plan.accounts)
        };
        let ours = fresh("ours")?;
        let raw = RawSqlite::start(&directory.path().join("raw.sqlite3"), self.plan.accounts, ours.leaf_bytes()?)?;
        let mut figures = StoreFigures::new("SQLite", "WAL, synchronous FULL, one writer, group commit of 256");
        self.cells(&raw, &ours, &mut figures)?;
        self.side(&raw, &ours, &mut figures)?;
        drop(raw);
        ours.check_balance()?;
        if self.plan.history > 0 {
            figures.history = Some(self.history(&fresh("empty")?, &fresh("history")?)?);
        }
        figures.peak_mib = load::peak_mib();
        Ok(figures)
    }

    fn postgres(&self, server: &StoreSettings) -> Result<StoreFigures, Failure> {
        let raw_database = Database::make(server)?;
        let about = raw_database.about()?;
        (self.tell)(&about);
        let ours_database = Database::make(server)?;
        let ours = Ours::set_up(ours_database.store()?, self.plan.accounts)?;
        let raw = RawPostgres::start(raw_database.config(), self.plan.accounts, ours.leaf_bytes()?)?;
        let mut figures = StoreFigures::new("PostgreSQL", &about);
        self.cells(&raw, &ours, &mut figures)?;
        self.side(&raw, &ours, &mut figures)?;
        figures.two_stores = Some(self.two_stores(&ours, &ours.beside(ours_database.store()?))?);
        drop(raw);
        drop(raw_database);
        (self.tell)("pgbench TPC-B");
        figures.pgbench = self.pgbench(server, &ours)?;
        ours.check_balance()?;
        drop(ours);
        drop(ours_database);
        if self.plan.history > 0 {
            let (empty, full) = (Database::make(server)?, Database::make(server)?);
            let fresh =
                |database: &Database| -> Result<Ours, Failure> { Ours::set_up(database.store()?, self.plan.accounts) };
            figures.history = Some(self.history(&fresh(&empty)?, &fresh(&full)?)?);
        }
        figures.peak_mib = load::peak_mib();
        Ok(figures)
    }

    fn cells(&self, raw: &dyn Engine, ours: &Ours, figures: &mut StoreFigures) -> Result<(), Failure> {
        for engine in [raw, ours] {
            self.measured(engine, Shape::of(64), Spreading::Uniform, WARM_UP)?;
        }
        let mut cells: Vec<(u32, Vec<(Speed, Speed)>)> = self.plan.in_flight.iter().map(|n| (*n, Vec::new())).collect();
        for round in 1..=self.plan.rounds {
            (self.tell)(&format!("round {round} of {}", self.plan.rounds));
            for (in_flight, pairs) in &mut cells {
                let shape = Shape::of(*in_flight);
                let of_raw = self.measured(raw, shape, Spreading::Uniform, self.time)?;
                pairs.push((of_raw, self.measured(ours, shape, Spreading::Uniform, self.time)?));
            }
        }
        figures.cells = cells.iter().map(|(in_flight, pairs)| Cell::of(Shape::of(*in_flight), pairs)).collect();
        Ok(())
    }

    /// Hot merchant, whole payments, and the tail at half load.
    fn side(&self, raw: &dyn Engine, ours: &Ours, figures: &mut StoreFigures) -> Result<(), Failure> {
        let shape = Shape::of(self.most_in_flight());
        let (mut hot, mut payments, mut half) = (Vec::new(), Vec::new(), Vec::new());
        for round in 1..=self.side_rounds() {
            (self.tell)(&format!("hot merchant, agents' payments, half load: {round} of {}", self.side_rounds()));
            let uniform = self.measured(ours, shape, Spreading::Uniform, self.time)?;
            let before = ours.merchant_minor()?;
            let one_merchant = self.measured(ours, shape, Spreading::HotMerchant, self.time)?;
            let paid = ours.merchant_minor()? - before;
            if paid != i64::try_from(one_merchant.transfers).unwrap_or(i64::MAX) {
                return Err(out_of_balance(&format!(
                    "{} transfers were acknowledged, the merchant was paid {paid}",
                    one_merchant.transfers
                )));
            }
            hot.push((uniform.per_second, one_merchant.per_second));
            let bare = self.measured(raw, shape, Spreading::Uniform, self.time)?;
            let run = self.next_run();
            let pay = |caller: u32, number: u64| {
                ours.pay(load::chosen(run, caller, number, shape.together, Spreading::Uniform, self.plan.accounts))
            };
            payments.push((bare.per_second, load::closed(shape, self.time, &self.stop, pay)?.per_second));
            let alone = self.measured(ours, Shape::of(1), Spreading::Uniform, self.time)?;
            // Half of what callers reach who hand over one transfer at a time, as these do.
            let singly = self.measured(ours, Shape::of(load::PACED_CALLERS), Spreading::Uniform, self.time)?;
            let run = self.next_run();
            let paced = load::paced(singly.per_second / 2.0, self.time, &self.stop, |caller, number| {
                ours.transfer(load::chosen(run, caller, number, 1, Spreading::Uniform, self.plan.accounts))
            })?;
            half.push((alone, paced));
        }
        figures.hot = Versus::of("uniform", "one merchant is paid by all", shape, &hot);
        figures.payments = Versus::of("raw transfers", "authorize_transfer and execute_transfer", shape, &payments);
        figures.half_load = HalfLoad::of(&half);
        Ok(())
    }

    fn history(&self, empty: &Ours, full: &Ours) -> Result<Versus, Failure> {
        let began = std::time::Instant::now();
        full.fill(self.plan.history, &self.stop, self.tell)?;
        let fill_per_second = self.plan.history as f64 / began.elapsed().as_secs_f64();
        (self.tell)(&format!("{} rows of history at {fill_per_second:.0}/s", self.plan.history));
        let shape = Shape::of(self.most_in_flight());
        let mut pairs = Vec::new();
        for engine in [empty, full] {
            self.measured(engine, shape, Spreading::Uniform, WARM_UP)?;
        }
        for _ in 0..self.side_rounds() {
            let before = self.measured(empty, shape, Spreading::Uniform, self.time)?;
            pairs.push((before.per_second, self.measured(full, shape, Spreading::Uniform, self.time)?.per_second));
        }
        full.check_balance()?;
        Ok(Versus::of("empty store", &format!("{} rows of history", self.plan.history), shape, &pairs))
    }

    fn two_stores(&self, one: &Ours, other: &Ours) -> Result<Versus, Failure> {
        let shape = Shape::of(self.most_in_flight());
        let mut pairs = Vec::new();
        for _ in 0..self.side_rounds() {
            let alone = self.measured(one, shape, Spreading::Uniform, self.time)?;
            let (first, second) = std::thread::scope(|scope| {
                let beside = scope.spawn(|| self.measured(other, shape, Spreading::Uniform, self.time));
                let first = self.measured(one, shape, Spreading::Uniform, self.time);
                (first, beside.join().expect("callers do not panic"))
            });
            pairs.push((alone.per_second, first?.per_second + second?.per_second));
        }
        Ok(Versus::of("one store", "two stores over one database", shape, &pairs))
    }

    fn pgbench(&self, server: &StoreSettings, ours: &Ours) -> Result<Option<Versus>, Failure> {
        let database = Database::make(server)?;
        let shape = Shape::of(self.most_in_flight());
        let mut pairs = Vec::new();
        if !database.fill_for_pgbench()? {
            return Ok(None);
        }
        for _ in 0..self.side_rounds() {
            let tps = database.pgbench(self.time)?;
            self.stop.check()?;
            pairs.push((tps, self.measured(ours, shape, Spreading::Uniform, self.time)?.per_second));
        }
        Ok(Some(Versus::of("pgbench TPC-B, 32 clients", "transfers", shape, &pairs)))
    }

    fn measured(
        &self,
        engine: &dyn Engine,
        shape: Shape,
        spreading: Spreading,
        time: Duration,
    ) -> Result<Speed, Failure> {
        let run = self.next_run();
        load::closed(shape, time, &self.stop, |caller, number| {
            engine.transfer(load::chosen(run, caller, number, shape.together, spreading, self.plan.accounts))
        })
    }

    fn next_run(&self) -> u64 {
        self.runs.fetch_add(1, Ordering::Relaxed)
    }

    fn most_in_flight(&self) -> u32 {
        self.plan.in_flight.iter().copied().max().unwrap_or(1)
    }

    fn side_rounds(&self) -> u32 {
        self.plan.rounds.min(SIDE_ROUNDS_MAX)
    }
}

fn open_sqlite(directory: &Path, name: &str) -> Result<Arc<dyn Store>, Failure> {
    let store = SqliteStore::open(&directory.join(format!("{name}.sqlite3")))?;
    sealed(&*store)?;
    Ok(store)
}

fn invalid(message: &str) -> Failure {
    Failure::usage("bench_options_invalid", message, "see `countersign bench ledger --help`")
}

fn out_of_balance(message: &str) -> Failure {
    Failure::fault("book_out_of_balance", message, "report this as a defect")
}
