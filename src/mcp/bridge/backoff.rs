//! When a bank that is away is asked again: later and later, up to a bound, and not by everybody at the same moment.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);
/// Doublings until the longest pause.
const DOUBLINGS_MAX: u32 = 6;

/// Attempts that failed in a row, and when the next one may be made.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// One more attempt has failed; answers the pause after it: between half and all of its length, as `jitter` says.
    pub(super) fn failed(&mut self, now: Instant, jitter: u8) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(DOUBLINGS_MAX)).min(LONGEST);
        let pause = whole / 2 + (whole / 2).mul_f64(f64::from(jitter) / 255.0);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + pause);
        pause
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// How long no attempt is made yet.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        self.until?.checked_duration_since(now).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_begin_anew_after_a_success() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.left(now), None);
        // (jitter, milliseconds)
        let table = [(0, 100), (255, 400), (0, 400), (255, 1_600), (0, 1_600), (255, 6_400), (255, 10_000), (0, 5_000)];
        for (number, (jitter, ms)) in table.into_iter().enumerate() {
            assert_eq!(backoff.failed(now, jitter), Duration::from_millis(ms), "row {number}");
        }
        for _ in 0..100 {
            assert!(backoff.failed(now, 255) <= LONGEST);
        }
        assert_eq!(backoff.left(now), Some(LONGEST));
        assert_eq!(backoff.left(now + LONGEST), None);
        backoff.succeeded();
        assert_eq!((backoff.left(now), backoff.failed(now, 0)), (None, FIRST / 2));
    }
}
