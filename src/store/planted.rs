//! Mistakes that a build for tests makes on order, so that the crash suite can be seen to fail.
//!
//! Only with the feature `planted-bugs`, which no release has; without it nothing here does anything.

/// True when `COUNTERSIGN_PLANTED_BUG` names this mistake.
#[cfg(feature = "planted-bugs")]
pub(super) fn planted(mistake: &str) -> bool {
    std::env::var("COUNTERSIGN_PLANTED_BUG").is_ok_and(|named| named == mistake)
}

#[cfg(not(feature = "planted-bugs"))]
pub(super) const fn planted(_mistake: &str) -> bool {
    false
}

/// A daily sum as the last commit left it, read beside the commit that decides: the limit outside the commit.
#[cfg(feature = "planted-bugs")]
pub(super) fn committed_sum(path: Option<&str>, counter: &str, day: i32) -> Option<i64> {
    if !planted("limit_outside_commit") {
        return None;
    }
    let sql = "SELECT coalesce(sum(minor), 0) FROM counters WHERE counter = ?1 AND day = ?2";
    rusqlite::Connection::open(path?).and_then(|outside| outside.query_row(sql, (counter, day), |row| row.get(0))).ok()
}

/// The same where the deciding commit has locked the row: the sum as it was some questions ago.
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

#[cfg(not(feature = "planted-bugs"))]
pub(super) const fn committed_sum(_path: Option<&str>, _counter: &str, _day: i32) -> Option<i64> {
    None
}
