//! `countersign bench vault`: credentials that are read from sealed storage, through the decision and its leaf.
//!
//! Real parts: a bank as `countersign init` makes it, its SoftHSM2 token behind as many worker processes as a daemon has, its
//! store and log on this file system. Each reading is one decision, durable with its leaf before the HSM opens anything.
//! Right before, the module opens such a text in a bare loop, on as many threads as it has processors for.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::directory::Directory;
use super::figures::{Goal, Spread, figure, lines};
use super::served::{self, Served};
use super::stop::Stop;
use crate::hsm::measure::{RawWorker, percentile_us};
use crate::kernel::command::Actor;
use crate::kernel::sign::Purpose;
use crate::kernel::types::CredentialName;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::ops::secret::Secret;
use crate::vault::VaultCall;

const GOAL_READS: f64 = 5_000.0;
/// As whom the callers read.
const SERVICE: &str = "bench";
/// Not measured: the first calls of a connection and of a session.
const WARM_UP: Duration = Duration::from_millis(300);

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    pub program: PathBuf,
    pub module: PathBuf,
    pub callers: u32,
    /// Credentials that are read in turns.
    pub credentials: u32,
    /// Bytes of each.
    pub bytes: u32,
    pub rounds: u32,
    pub seconds: f64,
    pub directory: PathBuf,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub callers: u32,
    pub credentials: u32,
    pub bytes: u32,
    /// Worker processes of the token.
    pub workers: u32,
    /// C_Decrypt in a bare loop, one process, as many threads as processors.
    pub raw_per_second: Spread,
    pub reads_per_second: Spread,
    /// Reads as a share of the loop.
    pub share: Spread,
    pub p50_us: Spread,
    pub p99_us: Spread,
    pub goals: Vec<Goal>,
}

/// Makes a bank in a directory of its own, keeps credentials in its vault, and has them read.
///
/// # Errors
/// `bench_failed`, `bench_stopped`; the token's, the store's.
pub fn run(plan: &Plan, tell: &dyn Fn(&str)) -> Result<Report, Failure> {
    let stop = Stop::on_signals()?;
    let directory = Directory::make(&plan.directory)?;
    let state = StateDir::new(directory.path().join("bank"));
    tell("making a bank");
    served::init(&plan.program, &plan.module, "bank", &state)?;
    let bank = Served::open(&plan.program, &state)?;
    let names = kept(&bank, plan)?;
    let keys = bank.services.token().keys()?;
    let key = keys.into_iter().find(|key| key.purpose == Purpose::VaultWrapping).ok_or_else(no_key)?.id;
    let raw = RawWorker::start(&plan.program, &bank.state, &bank.token_name, &bank.settings, key)?;
    let threads = u32::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap_or(1);
    let time = Duration::from_secs_f64(plan.seconds);
    read_for(&bank, &names, plan, WARM_UP, &stop)?;
    let (mut raws, mut reads, mut shares, mut p50, mut p99) = (vec![], vec![], vec![], vec![], vec![]);
    for round in 1..=plan.rounds {
        tell(&format!("round {round} of {}", plan.rounds));
        raw.begin(threads, time)?;
        let speed = raw.measured(time)?;
        let raw_per_second = speed.signatures as f64 / speed.seconds;
        let (per_second, times_ns) = read_for(&bank, &names, plan, time, &stop)?;
        raws.push(raw_per_second);
        reads.push(per_second);
        shares.push(per_second / raw_per_second);
        p50.push(percentile_us(&times_ns, 50));
        p99.push(percentile_us(&times_ns, 99));
    }
    let reads_per_second = Spread::of(reads);
    let goal = Goal::at_least("credentials read a second".into(), reads_per_second.median, GOAL_READS);
    Ok(Report {
        callers: plan.callers,
        credentials: plan.credentials,
        bytes: plan.bytes,
        workers: bank.settings.workers,
        raw_per_second: Spread::of(raws),
        reads_per_second,
        share: Spread::of(shares),
        p50_us: Spread::of(p50),
        p99_us: Spread::of(p99),
        goals: vec![goal],
    })
}

fn kept(bank: &Served, plan: &Plan) -> Result<Vec<CredentialName>, Failure> {
    let Actor::Operator(administrator) = served::operator("bench-admin") else {
        return Err(no_key());
    };
    let malformed = |why: crate::kernel::types::Malformed| Failure::fault("bench_failed", why.to_string(), "report it");
    let mut names = Vec::new();
    for number in 0..plan.credentials {
        let name: CredentialName = format!("bench/{number}").parse().map_err(malformed)?;
        let mut value = Secret(vec![0; plan.bytes as usize].into());
        value.0.iter_mut().zip(clock::random::<64>().iter().cycle()).for_each(|(byte, random)| *byte = *random);
        let call = VaultCall::Put {
            name: name.clone(),
            description: "of a measurement".into(),
            readers: [format!("service:{SERVICE}").parse().map_err(malformed)?].into(),
            days: None,
            value,
        };
        bank.services.setup.vault.desk(&administrator, call, &mut |_| {})?;
        names.push(name);
    }
    Ok(names)
}

/// Reads a second, and the time of each.
fn read_for(
    bank: &Served,
    names: &[CredentialName],
    plan: &Plan,
    time: Duration,
    stop: &Stop,
) -> Result<(f64, Vec<u64>), Failure> {
    stop.check()?;
    let (over, next) = (AtomicBool::new(false), AtomicU64::new(0));
    let reader = Actor::System { component: SERVICE.into() };
    let began = Instant::now();
    let work = || -> Result<Vec<u64>, Failure> {
        let mut times_ns = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let turn = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(0);
            let before = Instant::now();
            let opened = bank.services.setup.vault.read(&reader, &names[turn % names.len()], None)?;
            times_ns.push(u64::try_from(before.elapsed().as_nanos()).unwrap_or(u64::MAX));
            if opened.value.0.len() != plan.bytes as usize {
                return Err(Failure::fault("bench_failed", "a value has another length", "report this as a defect"));
            }
        }
        Ok(times_ns)
    };
    let work = &work;
    let found = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..plan.callers).map(|_| scope.spawn(work)).collect();
        std::thread::sleep(time);
        over.store(true, Ordering::Relaxed);
        // A panic here is a defect and ends the measurement.
        callers.into_iter().map(|caller| caller.join().expect("callers do not panic")).collect::<Result<Vec<_>, _>>()
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let mut times_ns: Vec<u64> = found.into_iter().flatten().collect();
    times_ns.sort_unstable();
    if let Ok(log) = bank.services.log() {
        log.notify();
    }
    bank.await_log()?;
    Ok((times_ns.len() as f64 / seconds, times_ns))
}

fn no_key() -> Failure {
    Failure::fault("bench_failed", "the bank has no wrapping key", "report this as a defect")
}

/// The report in words.
pub fn text(report: &Report) -> String {
    let Report { callers, credentials, bytes, workers, .. } = report;
    let mut text =
        format!("{callers} callers, {credentials} credentials of {bytes} bytes, {workers} workers, SQLite\n");
    text += &figure("C_Decrypt in a bare loop", &report.raw_per_second, "/s");
    text += &figure("read through policy and audit", &report.reads_per_second, "/s");
    text += &figure("share of the loop", &report.share, "");
    text += &figure("one reading, p50", &report.p50_us, "µs");
    text += &figure("one reading, p99", &report.p99_us, "µs");
    text + &lines(&report.goals)
}
