//! Mistakes that a build for tests makes on order, so that the crash suite can be seen to fail.
//!
//! Only with the feature `planted-bugs`, which no release has; without it nothing here does anything.

#[cfg(all(feature = "planted-bugs", not(debug_assertions)))]
compile_error!("mistakes are planted in builds for tests, and in no other");

/// True when `COUNTERSIGN_PLANTED_BUG` names this mistake.
#[cfg(feature = "planted-bugs")]
pub(super) fn planted(mistake: &str) -> bool {
    std::env::var("COUNTERSIGN_PLANTED_BUG").is_ok_and(|named| named == mistake)
}

#[cfg(not(feature = "planted-bugs"))]
pub(super) const fn planted(_mistake: &str) -> bool {
    false
}

/// A daily sum as it was some questions ago, as if it were read beside the commit that decides. A true read beside it
/// would be wrong only where the machine syncs slowly enough for commits of many commands.
#[cfg(feature = "planted-bugs")]
pub(super) fn stale_sum(counter: &str, day: i32, minor: i64) -> i64 {
    use std::collections::{BTreeMap, VecDeque};
    use std::sync::{Mutex, PoisonError};
    const QUESTIONS: usize = 8;
    static SEEN: Mutex<BTreeMap<(String, i32), VecDeque<i64>>> = Mutex::new(BTreeMap::new());
    if !planted("limit_outside_commit") {
        return minor;
    }
    let mut all = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let seen = all.entry((counter.to_owned(), day)).or_default();
    seen.push_back(minor);
    if seen.len() > QUESTIONS {
        seen.pop_front();
    }
    seen.front().copied().unwrap_or(minor)
}

#[cfg(not(feature = "planted-bugs"))]
pub(super) const fn stale_sum(_counter: &str, _day: i32, minor: i64) -> i64 {
    minor
}
