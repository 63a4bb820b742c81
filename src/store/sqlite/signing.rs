//! Orders for signatures of other programs: durable before anything is signed, and the first signatures.

use rusqlite::{Connection, Row, params};

use super::book::Commit;
use super::rows;
use crate::kernel::decide::RowFault;
use crate::kernel::external::SigningRow;
use crate::kernel::types::{Day, Sha256, UnixMillis};

pub(super) const ROW: &str = "SELECT scope, request, journal, signatures, at FROM signings WHERE scope = ?1";

pub(super) fn row(row: &Row<'_>) -> rusqlite::Result<SigningRow> {
    Ok(SigningRow {
        scope: rows::sha256(row, 0)?,
        request: rows::sha256(row, 1)?,
        journal: row.get(2)?,
        signatures: row.get(3)?,
        at: UnixMillis(row.get(4)?),
    })
}

pub(super) fn find(connection: &Connection, scope: &Sha256) -> rusqlite::Result<Option<SigningRow>> {
    super::log::one(connection, ROW, [&scope.0], row)
}

/// A new order.
pub(super) fn put(commit: &Commit<'_>, row: &SigningRow) -> Result<(), RowFault> {
    let sql = "INSERT INTO signings (scope, day, request, journal, at) VALUES (?1, ?2, ?3, ?4, ?5)";
    commit.run(sql, params![row.scope.0, Day::utc(row.at).0, row.request.0, row.journal, row.at.0])?;
    Ok(())
}

/// The first signatures of an order.
pub(super) fn keep(commit: &Commit<'_>, scope: &Sha256, signatures: &[u8]) -> Result<(), RowFault> {
    let sql = "UPDATE signings SET signatures = ?2 WHERE scope = ?1 AND signatures IS NULL";
    commit.run(sql, params![scope.0, signatures])?;
    Ok(())
}

/// Removes at most `limit` orders of days before this one, oldest first. Answers how many.
pub(super) fn forget(connection: &Connection, oldest: Day, limit: u32) -> Result<u32, RowFault> {
    let sql = "DELETE FROM signings WHERE scope IN (SELECT scope FROM signings WHERE day < ?1 ORDER BY day LIMIT ?2)";
    Ok(u32::try_from(connection.prepare_cached(sql)?.execute(params![oldest.0, limit])?)?)
}
