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

#[cfg(not(feature = "planted-bugs"))]
pub(super) const fn committed_sum(_path: Option<&str>, _counter: &str, _day: i32) -> Option<i64> {
    None
}
