//! How long single-use keys are known again, and which days of them may be forgotten.
//!
//! A key is stored with the UTC day of the command that took it. What is older than its window is ignored by decisions
//! and removed by [`Store::forget_keys`]; both ask here, so that nothing is removed that a decision still sees.
//!
//! [`Store::forget_keys`]: super::Store::forget_keys

use crate::kernel::types::{Day, UnixMillis};

/// How long an idempotency key is known unless the configuration says otherwise.
pub const IDEMPOTENCY_DAYS: u32 = 400;
/// A request with a nonce lives for minutes: one that was taken yesterday may still be repeated today.
const NONCE_DAYS: i32 = 1;
/// A century: what a day's number holds many times over.
pub const IDEMPOTENCY_DAYS_MAX: u32 = 36_500;
/// Who was away for a long weekend still learns what became of a request.
pub const IDEMPOTENCY_DAYS_MIN: u32 = 7;

/// The windows of one store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keep {
    idempotency_days: i32,
}

impl Keep {
    /// Idempotency keys of this many days before today are known; more than a century is a century.
    pub fn days(idempotency_days: u32) -> Self {
        let days = idempotency_days.clamp(1, IDEMPOTENCY_DAYS_MAX);
        Self { idempotency_days: i32::try_from(days).unwrap_or(i32::MAX) }
    }

    /// The oldest day whose idempotency keys are known.
    pub fn oldest_binding(self, now: UnixMillis) -> Day {
        Day(Day::utc(now).0.saturating_sub(self.idempotency_days))
    }

    /// The oldest day whose nonces are known.
    pub fn oldest_nonce(self, now: UnixMillis) -> Day {
        Day(Day::utc(now).0.saturating_sub(NONCE_DAYS))
    }
}

impl Default for Keep {
    fn default() -> Self {
        Self::days(IDEMPOTENCY_DAYS)
    }
}
