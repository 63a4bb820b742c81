//! A limit that daemons share: so many turns in a time, and so many at once (the generic cell rate algorithm).
//!
//! One number says everything: until when the turns are taken. A turn takes it further by one interval; it is there if
//! that is not further ahead than all turns together.

use std::time::Duration;

use crate::kernel::types::UnixMillis;

/// One turn of a limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Turn {
    /// Whose limit it is: each name has its own.
    pub name: String,
    /// Microseconds between two turns.
    pub interval_us: i64,
    /// Turns at once after a pause.
    pub burst: u32,
    /// For a store without a clock of its own.
    pub now: UnixMillis,
}

impl Turn {
    /// All turns together, microseconds.
    pub(super) fn span_us(&self) -> i64 {
        self.interval_us.saturating_mul(i64::from(self.burst))
    }

    /// Turns that are taken for longer than this from now were taken while a clock was ahead, microseconds. Callers'
    /// instants come in any order, so a second is none.
    pub(super) fn ahead_us(&self) -> i64 {
        self.span_us().saturating_add(1_000_000)
    }

    /// How long until there is one, when turns are taken until `taken_until_us`.
    pub(super) fn wait(&self, taken_until_us: i64, now_us: i64) -> Duration {
        let free = taken_until_us.max(now_us).saturating_add(self.interval_us).saturating_sub(self.span_us());
        let wait_us = free.saturating_sub(now_us).max(1);
        Duration::from_micros(u64::try_from(wait_us).unwrap_or(1))
    }
}
