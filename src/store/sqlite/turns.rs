//! Limits that daemons share: until when their turns are taken.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use crate::kernel::decide::RowFault;
use crate::store::Turn;

/// Takes a turn, or says how long until there is one.
///
/// # Errors
/// What SQLite reports.
pub(super) fn take(connection: &Connection, turn: &Turn) -> Result<Option<Duration>, RowFault> {
    let now = turn.now.0.saturating_mul(1_000);
    let latest = now.saturating_add(turn.span_us());
    let ahead = now.saturating_add(turn.ahead_us());
    // What was taken while the clock was ahead leaves one turn now, and the rest as time goes.
    let sql = "INSERT INTO turns (name, taken_until) VALUES (?1, ?2 + ?3)
               ON CONFLICT (name) DO UPDATE SET taken_until =
                   CASE WHEN taken_until > ?5 THEN ?4 ELSE max(taken_until, ?2) + ?3 END
               WHERE taken_until > ?5 OR max(taken_until, ?2) + ?3 <= ?4 RETURNING taken_until";
    let taken: Option<i64> = connection
        .prepare_cached(sql)?
        .query_row(params![turn.name, now, turn.interval_us, latest, ahead], |row| row.get(0))
        .optional()?;
    if taken.is_some() {
        return Ok(None);
    }
    let sql = "SELECT taken_until FROM turns WHERE name = ?1";
    let until: i64 = connection.prepare_cached(sql)?.query_row([&turn.name], |row| row.get(0))?;
    Ok(Some(turn.wait(until, now)))
}
