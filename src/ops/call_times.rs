//! How long calls took, counted without a lock: whoever asks now and then sees what has come since.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::kernel::series::latency::{BUCKETS, Latencies, bucket_of};

/// Counts since somebody took them last.
#[derive(Debug)]
pub struct CallTimes {
    counts: [AtomicU32; BUCKETS],
}

impl Default for CallTimes {
    fn default() -> Self {
        Self { counts: [const { AtomicU32::new(0) }; BUCKETS] }
    }
}

impl CallTimes {
    pub fn record(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // Relaxed: a count is about nothing but itself.
        self.counts[bucket_of(took_us)].fetch_add(1, Ordering::Relaxed);
    }

    /// What was recorded since this was called last: one reader alone.
    pub fn take(&self) -> Latencies {
        Latencies::of(std::array::from_fn(|bucket| self.counts[bucket].swap(0, Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_taken_once_whoever_records_meanwhile() {
        let times = CallTimes::default();
        let mut taken = 0;
        std::thread::scope(|scope| {
            let record = || (0..10_000).for_each(|number| times.record(Duration::from_micros(number * 7)));
            let recording = [scope.spawn(record), scope.spawn(record)];
            while !recording.iter().all(|thread| thread.is_finished()) {
                taken += times.take().calls();
            }
        });
        taken += times.take().calls();
        assert_eq!((taken, times.take().calls()), (20_000, 0));
    }
}
