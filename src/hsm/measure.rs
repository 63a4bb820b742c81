//! A worker that measures the module itself: the raw limit that `countersign bench hsm` compares us with.

use std::path::Path;
use std::process::Child;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use secrecy::ExposeSecret;

use super::channel::Channel;
use super::keeper::worker_command;
use super::messages::{self, RawOrder, WorkerJob, WorkerOrders, WorkerReport};
use super::pin;
use super::settings::HsmSettings;
use crate::kernel::types::KeyId;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

pub use super::messages::RawSpeed;

/// What a module may take beyond the time that was asked for.
const PATIENCE: Duration = Duration::from_secs(120);

/// A worker process that is logged in and waits for orders. Dropping it ends it.
#[derive(Debug)]
pub struct RawWorker {
    channel: Channel,
    child: Child,
}

impl RawWorker {
    /// Starts a worker of `program` on a provisioned token and logs it in. It signs self-tests with `key`.
    ///
    /// # Errors
    /// Whatever kept the worker from logging in, by name; a refused PIN was presented once.
    pub fn start(
        program: &Path,
        state: &StateDir,
        token_name: &str,
        settings: &HsmSettings,
        key: KeyId,
    ) -> Result<Self, Failure> {
        let pin = pin::read(state, token_name, settings)?;
        let orders = WorkerOrders::new(state, settings, WorkerJob::Measure { key });
        let (channel, stdin) = Channel::pair().map_err(|error| failed(&error.to_string()))?;
        let child = worker_command(program, state, settings, stdin)
            .args(["hsm-worker", "--measure"])
            .spawn()
            .map_err(|error| failed(&error.to_string()))?;
        let worker = Self { channel, child };
        messages::send(&worker.channel, &orders, None).map_err(|error| failed(&error.to_string()))?;
        worker.expect(PATIENCE, |report| matches!(report, WorkerReport::LoginWanted).then_some(()))?;
        worker.channel.send(pin.expose_secret().as_bytes(), None).map_err(|error| failed(&error.to_string()))?;
        drop(pin);
        worker.expect(PATIENCE, |report| matches!(report, WorkerReport::LoggedIn).then_some(()))?;
        Ok(worker)
    }

    /// Begins to sign on so many threads; [`RawWorker::measured`] waits for the result.
    ///
    /// # Errors
    /// `measurement_failed` when the worker is gone.
    pub fn begin(&self, threads: u32, time: Duration) -> Result<(), Failure> {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.order(RawOrder::Sign { threads, millis })
    }

    /// Waits for what [`RawWorker::begin`] began.
    ///
    /// # Errors
    /// The module's failure, or `measurement_failed`.
    pub fn measured(&self, time: Duration) -> Result<RawSpeed, Failure> {
        self.expect(
            time + PATIENCE,
            |report| if let WorkerReport::Measured(speed) = report { Some(speed) } else { None },
        )
    }

    /// Makes so many key pairs that nobody uses.
    ///
    /// # Errors
    /// The module's failure, or `measurement_failed`.
    pub fn fill(&self, keys: u32, first_version: u32) -> Result<(), Failure> {
        self.order(RawOrder::Fill { keys, first_version })?;
        self.expect(PATIENCE, |report| matches!(report, WorkerReport::Filled).then_some(()))
    }

    fn order(&self, order: RawOrder) -> Result<(), Failure> {
        messages::send(&self.channel, &order, None).map_err(|error| failed(&error.to_string()))
    }

    /// The next report, if it is the one that is due.
    fn expect<T>(&self, limit: Duration, due: impl FnOnce(WorkerReport) -> Option<T>) -> Result<T, Failure> {
        let wait = || {
            let limit = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: 0 };
            // Ctrl-C comes in the middle of it: what was begun is waited for.
            let seen =
                rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&self.channel, PollFlags::IN)], Some(&limit)))?;
            if seen == 0 {
                return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the worker did not answer"));
            }
            let packet = self.channel.receive()?.ok_or_else(|| std::io::Error::other("the worker gave no answer"))?;
            messages::parse(packet).map(|(report, _)| report)
        };
        match wait().map_err(|error| failed(&error.to_string()))? {
            WorkerReport::Failed(failure) => Err(failure),
            report => due(report).ok_or_else(|| failed("the worker answered another question")),
        }
    }
}

impl Drop for RawWorker {
    fn drop(&mut self) {
        // It finishes what it measures, at most a minute, and ends the module in order.
        self.channel.shut_down();
        let _ = self.child.wait();
    }
}

/// A percentile of times that are sorted, in microseconds; 0 of none.
pub fn percentile_us(sorted_ns: &[u64], percent: usize) -> f64 {
    let rank = (sorted_ns.len() * percent).div_ceil(100).max(1);
    sorted_ns.get(rank - 1).map_or(0.0, |nanos| *nanos as f64 / 1000.0)
}

fn failed(why: &str) -> Failure {
    Failure::fault("measurement_failed", format!("the module could not be measured: {why}"), "see the log, then repeat")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted: Vec<u64> = (1..=100).map(|number| number * 1000).collect();
        for (percent, expected) in [(50, 50.0), (99, 99.0), (100, 100.0)] {
            assert_eq!(percentile_us(&sorted, percent), expected);
        }
        assert_eq!(percentile_us(&[7000], 99), 7.0);
        assert_eq!(percentile_us(&[], 99), 0.0);
    }
}
