//! Role policies, version by version.

use tokio_postgres::Row;

use super::PostgresStore;
use super::lists::Reading;
use super::load::Call;
use super::rows::{self, Read};
use crate::kernel::decide::{PolicyLine, PolicyRecord, RowFault};
use crate::kernel::types::UnixMillis;

/// Rows of a list that operators read: one more than a page has, which tells that it goes on.
const LIST_MAX: u32 = 1_001;

/// The newest one.
pub(super) const NEWEST: &str = "SELECT version, sha256, roles, by, at FROM policies ORDER BY version DESC LIMIT 1";

pub(super) fn line(row: &Row) -> Read<PolicyLine> {
    let roles: String = rows::get(row, 2)?;
    Ok(PolicyLine {
        version: rows::unsigned(row, 0)?,
        sha256: rows::sha256(row, 1)?,
        roles: roles.split(',').filter(|role| !role.is_empty()).map(str::to_owned).collect(),
        by: rows::get(row, 3)?,
        at: UnixMillis(rows::get(row, 4)?),
    })
}

/// The statement that adds the next version.
///
/// # Errors
/// A version that no column holds.
pub(super) fn insert(record: &PolicyRecord) -> Result<Call<'_>, RowFault> {
    let line = &record.line;
    Ok(Call {
        sql: "INSERT INTO policies (version, sha256, roles, by, at, document) VALUES ($1, $2, $3, $4, $5, $6)".into(),
        parameters: vec![
            Box::new(i64::try_from(line.version)?),
            Box::new(line.sha256.0.as_slice()),
            Box::new(line.roles.join(",")),
            Box::new(line.by.as_str()),
            Box::new(line.at.0),
            Box::new(record.document.as_str()),
        ],
    })
}

impl PostgresStore {
    /// The policy of this version, or the newest.
    pub(super) fn read_policy(&self, version: Option<u64>) -> Reading<Option<PolicyRecord>> {
        let sql = "SELECT version, sha256, roles, by, at, document FROM policies
                   WHERE $1::bigint IS NULL OR version = $1 ORDER BY version DESC LIMIT 1";
        let read = |row: &Row| Ok(PolicyRecord { line: line(row)?, document: rows::get(row, 5)? });
        self.one(sql, vec![Box::new(version.map(number))], read)
    }

    /// Those before a version, newest first.
    pub(super) fn read_policies(&self, before: Option<u64>, limit: u32) -> Reading<Vec<PolicyLine>> {
        let sql = "SELECT version, sha256, roles, by, at FROM policies WHERE $1::bigint IS NULL OR version < $1
                   ORDER BY version DESC LIMIT $2";
        let limit = i64::from(limit.min(LIST_MAX));
        self.all(sql, vec![Box::new(before.map(number)), Box::new(limit)], line)
    }
}

fn number(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}
