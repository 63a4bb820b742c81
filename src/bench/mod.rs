//! Raw loops and ours side by side: `countersign bench hsm` here, `countersign bench ledger` in `ledger`.
//!
//! A machine's speed changes while it is measured, so each cell of ours is measured right after the raw loop it is
//! compared with, round after round, and what counts is the median of the ratios.

pub mod audit;
mod batch;
pub mod chart;
mod directory;
mod figures;
pub mod issuance;
pub mod ledger;
mod line;
mod load;
pub mod mcp;
pub mod monitor;
pub mod policy;
pub mod report;
pub mod revocation;
pub mod sealed;
mod served;
pub mod signing;
mod site;
mod stop;
mod subject;
mod synthetic;
pub mod vault;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::hsm::Token;
use crate::hsm::measure::{RawSpeed, RawWorker};
use crate::hsm::settings::HsmSettings;
use crate::kernel::sign::SignInput;
use crate::kernel::types::KeyId;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

use figures::Spread;
pub use report::Report;
use report::{BatchCell, Cell, DelayCell, FullToken};
use stop::Stop;
use subject::Subject;

/// Leaves of a batch; each is measured.
const BATCH_ITEMS: [usize; 4] = [16, 64, 256, 1024];
const BATCH_CALLERS: u32 = 16;
/// A signature of the slow module, and its callers.
const DELAY: Duration = Duration::from_millis(10);
const DELAY_CALLERS: u32 = 64;
/// Not measured: the first calls of a connection and of a session.
const WARM_UP: Duration = Duration::from_millis(300);
/// Keys that are made between two lines of progress.
const FILL_STEP: u32 = 200;

/// What is signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// TLS 1.3 CertificateVerify of an agent.
    Tls,
    /// The document of a batch of receipts.
    Document,
    /// 32 random bytes.
    SelfTest,
}

/// A party's own token, with its daemon stopped.
#[derive(Clone, Debug)]
pub struct PartyToken {
    pub state: StateDir,
    pub name: String,
    pub settings: HsmSettings,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program whose `hsm-worker` is measured.
    pub program: PathBuf,
    /// `None`: a token of its own.
    pub party: Option<PartyToken>,
    pub module: PathBuf,
    pub delay_module: Option<PathBuf>,
    pub seconds: f64,
    pub rounds: u32,
    pub callers: Vec<u32>,
    pub workers: Vec<u32>,
    pub kind: Kind,
    pub keys: u32,
}

/// Carries the plan out; `tell` gets lines of progress.
///
/// # Errors
/// `bench_options_invalid`, `already_running`, `bench_stopped`, and whatever kept the token from signing.
pub fn run(plan: &Plan, tell: &dyn Fn(&str)) -> Result<Report, Failure> {
    if !(0.1..=60.0).contains(&plan.seconds) || plan.callers.is_empty() || plan.workers.is_empty() {
        return Err(invalid("--seconds must be 0.1 to 60, and there must be callers and workers"));
    }
    if plan.party.is_some() && (plan.kind != Kind::SelfTest || plan.keys > 0) {
        return Err(invalid("a party's own token only signs self-tests: give --input self-test and no --keys"));
    }
    let stop = Stop::on_signals()?;
    let time = Duration::from_secs_f64(plan.seconds);
    let subject = match &plan.party {
        Some(party) => Subject::of_party(plan, party)?,
        None => Subject::temporary(plan, &plan.module, None)?,
    };
    let pairs = plan.callers.len() * plan.workers.len();
    let measurements = (2 * pairs + 1) as f64 * f64::from(plan.rounds);
    tell(&format!(
        "{}; about {:.0} s",
        subject.about(),
        (measurements + 12.0 * f64::from(plan.rounds.min(3))) * plan.seconds
    ));
    let mut report = Report::new(plan, &subject);
    measure_cells(plan, &subject, time, &stop, tell, &mut report)?;
    tell("batches: many items under one signature");
    report.batches = measure_batches(plan, &subject, time, &stop)?;
    if let Some(shim) = &plan.delay_module {
        tell("a module that takes 10 ms a signature");
        report.delays = measure_delays(plan, shim, time, &stop)?;
    }
    if plan.keys > 0 {
        report.full_token = Some(measure_full(plan, &subject, time, &stop, tell)?);
    }
    report.judge();
    Ok(report)
}

fn measure_cells(
    plan: &Plan,
    subject: &Subject,
    time: Duration,
    stop: &Stop,
    tell: &dyn Fn(&str),
    report: &mut Report,
) -> Result<(), Failure> {
    let raws = [subject.raw()?, subject.raw()?];
    let mut pools = Vec::new();
    for workers in &plan.workers {
        let running = subject.running(*workers)?;
        load::closed_loop(running.token(), running.key, running.kind, DELAY_CALLERS, WARM_UP, stop)?;
        pools.push(running);
    }
    let mut pairs = Vec::new();
    for (pool, workers) in pools.iter().zip(&plan.workers) {
        let pair = |callers: &u32| Pair { pool, workers: *workers, callers: *callers, measured: Vec::new() };
        pairs.extend(plan.callers.iter().map(pair));
    }
    let mut both = Vec::new();
    for round in 1..=plan.rounds {
        tell(&format!("round {round} of {}", plan.rounds));
        for pair in &mut pairs {
            let raw = one_raw(&raws[0], if pair.callers == 1 { 1 } else { 2 }, time)?;
            stop.check()?;
            let pool = pair.pool;
            let ours = load::closed_loop(pool.token(), pool.key, pool.kind, pair.callers, time, stop)?;
            pair.measured.push((raw, ours));
        }
        both.push(two_raw(&raws, time)?);
        stop.check()?;
    }
    report.raw_two_processes = Spread::of(both);
    for pair in pairs {
        report.cells.push(Cell::of(pair.workers, pair.callers, &pair.measured));
    }
    Ok(())
}

fn one_raw(raw: &RawWorker, threads: u32, time: Duration) -> Result<RawSpeed, Failure> {
    raw.begin(threads, time)?;
    raw.measured(time)
}

/// Two processes with a thread each: the other way to use two processors.
fn two_raw(raws: &[RawWorker; 2], time: Duration) -> Result<f64, Failure> {
    for raw in raws {
        raw.begin(1, time)?;
    }
    let mut together = 0.0;
    for raw in raws {
        together += raw.measured(time)?.rate();
    }
    Ok(together)
}

fn measure_batches(plan: &Plan, subject: &Subject, time: Duration, stop: &Stop) -> Result<Vec<BatchCell>, Failure> {
    let running = subject.running(plan.workers.iter().copied().max().unwrap_or(1))?;
    let mut measured: Vec<Vec<(f64, f64, f64)>> = vec![Vec::new(); BATCH_ITEMS.len()];
    let rounds = plan.rounds.min(3);
    for _ in 0..rounds {
        for (items, rows) in BATCH_ITEMS.iter().zip(&mut measured) {
            let alone = load::closed_loop(running.token(), running.key, running.kind, BATCH_CALLERS, time, stop)?;
            let hashed = batch::hash_limit(*items, time, stop)?;
            let signed = batch::items_a_second(running.token(), &running, *items, BATCH_CALLERS, time, stop)?;
            rows.push((alone.rate(), hashed, signed));
        }
    }
    Ok(BATCH_ITEMS.iter().zip(measured).map(|(items, rows)| BatchCell::of(*items, &rows)).collect())
}

fn measure_delays(plan: &Plan, shim: &Path, time: Duration, stop: &Stop) -> Result<Vec<DelayCell>, Failure> {
    let subject = Subject::temporary(plan, shim, Some((&plan.module, DELAY)))?;
    let raw = subject.raw()?;
    let mut cells = Vec::new();
    for workers in &plan.workers {
        let running = subject.running(*workers)?;
        let sessions = running.sessions;
        let callers = DELAY_CALLERS.max(sessions * 2);
        load::closed_loop(running.token(), running.key, running.kind, callers, WARM_UP * 2, stop)?;
        let (mut raws, mut rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            raws.push(one_raw(&raw, sessions, time)?.rate());
            stop.check()?;
            let ours = load::closed_loop(running.token(), running.key, running.kind, callers, time, stop)?;
            rates.push(ours.rate());
            ratios.push(ours.rate() * DELAY.as_secs_f64() / f64::from(sessions));
        }
        cells.push(DelayCell {
            workers: *workers,
            sessions,
            callers,
            raw_per_second: Spread::of(raws),
            per_second: Spread::of(rates),
            ratio: Spread::of(ratios),
        });
    }
    Ok(cells)
}

/// Fills the token, which is temporary, and starts a worker on it.
fn measure_full(
    plan: &Plan,
    subject: &Subject,
    time: Duration,
    stop: &Stop,
    tell: &dyn Fn(&str),
) -> Result<FullToken, Failure> {
    let before = subject.running(1)?;
    let empty = load::closed_loop(before.token(), before.key, before.kind, BATCH_CALLERS, time, stop)?;
    drop(before);
    let raw = subject.raw()?;
    let mut made = 0;
    while made < plan.keys {
        stop.check()?;
        let step = FILL_STEP.min(plan.keys - made);
        raw.fill(step, made + 1)?;
        made += step;
        tell(&format!("{made} of {} keys made", plan.keys));
    }
    let raw_full = one_raw(&raw, 2, time)?;
    drop(raw);
    let began = Instant::now();
    let full = subject.running(1)?;
    let start_s = began.elapsed().as_secs_f64();
    let ours = load::closed_loop(full.token(), full.key, full.kind, BATCH_CALLERS, time, stop)?;
    Ok(FullToken {
        keys: plan.keys,
        start_s,
        empty_per_second: empty.rate(),
        full_per_second: ours.rate(),
        raw_full_per_second: raw_full.rate(),
    })
}

/// A cell: what is measured in turns, round after round.
struct Pair<'a> {
    pool: &'a Running,
    workers: u32,
    callers: u32,
    /// The raw loop, and ours right after it.
    measured: Vec<(RawSpeed, RawSpeed)>,
}

/// A pool at work, and the key that it signs with.
pub struct Running {
    embedded: crate::hsm::embedded::Embedded,
    key: KeyId,
    kind: Kind,
    /// Of all its workers.
    sessions: u32,
}

impl Running {
    fn token(&self) -> Arc<dyn Token> {
        self.embedded.pool()
    }
}

impl Kind {
    /// The `number`th input of this kind: no two are the same.
    fn input(self, number: u64) -> SignInput {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        match self {
            Self::Tls => SignInput::TlsCertificateVerify {
                side: crate::kernel::sign::TlsSide::Client,
                transcript_hash: bytes.to_vec(),
            },
            Self::Document => SignInput::Document {
                tag: crate::kernel::sign::DocumentTag::BatchRoot,
                canonical_json: format!(r#"{{"root":"{}","size":"1"}}"#, hex::encode(bytes)).into_bytes(),
            },
            Self::SelfTest => SignInput::SelfTest { nonce: bytes },
        }
    }
}

fn invalid(message: &str) -> Failure {
    Failure::usage("bench_options_invalid", message, "see `countersign bench hsm --help`")
}
