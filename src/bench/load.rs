//! Callers in closed loops: each signs, waits for the signature, and signs again.

use std::sync::Arc;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::Kind;
use super::stop::Stop;
use crate::hsm::Token;
use crate::hsm::measure::{RawSpeed, percentile_us};
use crate::kernel::types::KeyId;
use crate::ops::failure::Failure;

/// Signs with so many callers for so long.
///
/// # Errors
/// The first fault of a signature, or `bench_stopped`.
pub fn closed_loop(
    token: Arc<dyn Token>,
    key: KeyId,
    kind: Kind,
    callers: u32,
    time: Duration,
    stop: &Stop,
) -> Result<RawSpeed, Failure> {
    let work = |caller: u32, number: u64| token.sign(key, kind.input(u64::from(caller) << 40 | number)).map(|_| ());
    let turns = repeat(callers, time, stop, work)?;
    Ok(RawSpeed {
        signatures: turns.times_ns.len() as u64,
        seconds: turns.seconds,
        p50_us: turns.percentile_us(50),
        p99_us: turns.percentile_us(99),
    })
}

/// What callers did together.
#[derive(Clone, Debug)]
pub struct Turns {
    /// How long each turn took, shortest first.
    pub times_ns: Vec<u64>,
    pub seconds: f64,
    /// Of this process, all its threads together.
    pub processor_seconds: f64,
}

impl Turns {
    /// Turns a second.
    pub fn rate(&self) -> f64 {
        self.times_ns.len() as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    pub fn percentile_us(&self, percent: usize) -> f64 {
        percentile_us(&self.times_ns, percent)
    }
}

/// Runs a piece of work again and again on so many threads. A caller tells its number and counts its turns.
///
/// # Errors
/// The first fault, or `bench_stopped`.
pub fn repeat<F: Into<Failure> + Send>(
    callers: u32,
    time: Duration,
    stop: &Stop,
    work: impl Fn(u32, u64) -> Result<(), F> + Sync,
) -> Result<Turns, Failure> {
    repeat_when(callers, time, stop, &|_, _| None, work)
}

/// The same with turns that begin at their time: `due` tells it by caller and turn. A turn that begins late, because
/// the one before took too long, is timed from when it was due.
///
/// # Errors
/// The first fault, or `bench_stopped`.
pub fn repeat_when<F: Into<Failure> + Send>(
    callers: u32,
    time: Duration,
    stop: &Stop,
    due: &(dyn Fn(u32, u64) -> Option<Instant> + Sync),
    work: impl Fn(u32, u64) -> Result<(), F> + Sync,
) -> Result<Turns, Failure> {
    let together = Barrier::new(usize::try_from(callers).unwrap_or(1) + 1);
    let turns = |caller: u32| {
        let mut times_ns: Vec<u64> = Vec::new();
        together.wait();
        let began = Instant::now();
        let mut before = began;
        while before.duration_since(began) < time && !stop.asked() {
            let number = times_ns.len() as u64;
            if let Some(due) = due(caller, number) {
                std::thread::sleep(due.saturating_duration_since(before));
                // Awake later than asked for is the machine's delay, not the work's.
                before = if due > before { Instant::now() } else { due };
            }
            work(caller, number)?;
            let after = Instant::now();
            times_ns.push(u64::try_from((after - before).as_nanos()).unwrap_or(u64::MAX));
            before = after;
        }
        Ok::<_, F>(times_ns)
    };
    let processor_before = processor_seconds();
    let (outcome, seconds) = std::thread::scope(|scope| {
        let turns = &turns;
        let threads: Vec<_> = (0..callers).map(|caller| scope.spawn(move || turns(caller))).collect();
        together.wait();
        let began = Instant::now();
        let mut all = Vec::new();
        let mut fault = None;
        for thread in threads {
            // A panic of a caller is a defect here and is shown as one.
            match thread.join().expect("callers do not panic") {
                Ok(times) => all.extend(times),
                Err(found) => fault = Some(found),
            }
        }
        (fault.map_or(Ok(all), Err), began.elapsed().as_secs_f64())
    });
    let mut times_ns = outcome.map_err(F::into)?;
    stop.check()?;
    times_ns.sort_unstable();
    Ok(Turns { times_ns, seconds, processor_seconds: processor_seconds() - processor_before })
}

fn processor_seconds() -> f64 {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    at.tv_sec as f64 + at.tv_nsec as f64 / 1e9
}
