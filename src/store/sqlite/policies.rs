//! Role policies, version by version.

use rusqlite::{Connection, Row, params};

use super::book::Commit;
use super::log::{all, one};
use super::rows::{sha256, unsigned};
use crate::kernel::decide::{PolicyLine, PolicyRecord, RowFault};
use crate::kernel::types::UnixMillis;

type Read<T> = rusqlite::Result<T>;

/// Rows of a list that operators read: one more than a page has, which tells that it goes on.
const LIST_MAX: u32 = 1_001;

/// The newest one.
pub(super) const NEWEST: &str = "SELECT version, sha256, roles, by, at FROM policies ORDER BY version DESC LIMIT 1";

pub(super) fn line(row: &Row<'_>) -> Read<PolicyLine> {
    let roles: String = row.get(2)?;
    Ok(PolicyLine {
        version: unsigned(row, 0)?,
        sha256: sha256(row, 1)?,
        roles: roles.split(',').filter(|role| !role.is_empty()).map(str::to_owned).collect(),
        by: row.get(3)?,
        at: UnixMillis(row.get(4)?),
    })
}

/// The policy of this version, or the newest.
pub(super) fn policy(connection: &Connection, version: Option<i64>) -> Read<Option<PolicyRecord>> {
    let sql = "SELECT version, sha256, roles, by, at, document FROM policies WHERE ?1 IS NULL OR version = ?1
               ORDER BY version DESC LIMIT 1";
    one(connection, sql, [version], |row| Ok(PolicyRecord { line: line(row)?, document: row.get(5)? }))
}

/// Those before a version, newest first.
pub(super) fn policies(connection: &Connection, before: Option<i64>, limit: u32) -> Read<Vec<PolicyLine>> {
    let sql = "SELECT version, sha256, roles, by, at FROM policies WHERE ?1 IS NULL OR version < ?1
               ORDER BY version DESC LIMIT ?2";
    all(connection, sql, params![before, limit.min(LIST_MAX)], line)
}

/// Adds the next version.
pub(super) fn insert(commit: &Commit<'_>, record: PolicyRecord) -> Result<(), RowFault> {
    let sql = "INSERT INTO policies (version, sha256, roles, by, at, document) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let PolicyRecord { line, document } = record;
    let version = i64::try_from(line.version)?;
    commit.run(sql, params![version, line.sha256.0, line.roles.join(","), line.by, line.at.0, document])?;
    Ok(())
}
