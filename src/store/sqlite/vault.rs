//! Credentials of the vault: sealed before they come here, and never opened here.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::book::{Commit, stop};
use super::log::all;
use super::rows;
use crate::kernel::decide::{RowFault, Ruled};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{CredentialName, KeyId, UnixMillis};
use crate::kernel::vault::{CredentialCount, CredentialHead, SealedCredential, Terms, Way};
use crate::store::vault::LINES_MAX;
use crate::store::{CredentialLine, CredentialPlace, KnownCredential, VaultRow};

type Read<T> = rusqlite::Result<T>;

/// A line says how its value is sealed by the beginning of it, which has a header's bytes.
const LINE: &str = "name, version, description, readers, expires, made, made_by, wrapping_key, substr(sealed, 1, 21)";
/// Columns of [`LINE`]: the next one has this number.
const AFTER_LINE: usize = 9;
const HEAD: &str = "SELECT newest, (SELECT count(*) FROM vault_versions v WHERE v.name = n.name)
                    FROM vault_names n WHERE name = ?1";

fn line(row: &Row<'_>) -> Read<CredentialLine> {
    Ok(CredentialLine {
        name: rows::text(row, 0)?,
        version: rows::unsigned(row, 1)?,
        terms: Terms {
            description: row.get(2)?,
            readers: rows::json(row, 3)?,
            expires: row.get::<_, Option<i64>>(4)?.map(UnixMillis),
        },
        made: UnixMillis(row.get(5)?),
        by: rows::text(row, 6)?,
        key: rows::sha256(row, 7)?,
        way: Way::of(row.get_ref(8)?.as_blob()?),
    })
}

fn sealed(row: &Row<'_>) -> Read<SealedCredential> {
    let CredentialLine { name, version, terms, made, by, key, way: _ } = line(row)?;
    Ok(SealedCredential { name, version, terms, made, by, key, sealed: row.get(AFTER_LINE)? })
}

fn head(row: &Row<'_>) -> Read<CredentialHead> {
    Ok(CredentialHead { newest: rows::unsigned(row, 0)?, versions: row.get(1)? })
}

fn number(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

fn one<T>(
    connection: &Connection,
    sql: &str,
    params: &[&dyn ToSql],
    read: impl FnOnce(&Row<'_>) -> Read<T>,
) -> Read<Option<T>> {
    connection.prepare_cached(sql)?.query_row(params, read).optional()
}

fn version(connection: &Connection, name: &CredentialName, version: u64) -> Read<Option<SealedCredential>> {
    let sql = format!("SELECT {LINE}, sealed FROM vault_versions WHERE name = ?1 AND version = ?2");
    one(connection, &sql, &[&name.as_str(), &number(version)], sealed)
}

impl Commit<'_> {
    pub(super) fn credential_head(&self, name: &CredentialName) -> Ruled<Option<CredentialHead>> {
        one(self.connection, HEAD, &[&name.as_str()], head).map_err(stop)
    }

    /// A row that cannot be read as what was put there is refused as damaged.
    pub(super) fn sealed_credential(&self, name: &CredentialName, number: u64) -> Ruled<Option<SealedCredential>> {
        version(self.connection, name, number).map_err(|error| match error {
            broken @ rusqlite::Error::SqliteFailure(..) => stop(broken),
            _ => Refusal::CredentialDamaged.into(),
        })
    }

    pub(super) fn credentials_kept(&self) -> Ruled<CredentialCount> {
        let sql = "SELECT (SELECT count(DISTINCT name) FROM vault_versions), (SELECT count(*) FROM vault_names)";
        let count = |row: &Row<'_>| Ok(CredentialCount { kept: row.get(0)?, names: row.get(1)? });
        Ok(one(self.connection, sql, &[], count).map_err(stop)?.unwrap_or_default())
    }

    /// A version as it is now, new or sealed anew.
    pub(super) fn put_credential(&self, credential: &SealedCredential) -> Result<(), RowFault> {
        let SealedCredential { name, version, terms, made, by, key, sealed } = credential;
        let version = i64::try_from(*version)?;
        let sql = "INSERT INTO vault_names (name, newest) VALUES (?1, ?2)
                   ON CONFLICT (name) DO UPDATE SET newest = max(newest, ?2)";
        self.run(sql, params![name.as_str(), version])?;
        let sql = "INSERT INTO vault_versions
                   (name, version, description, readers, expires, made, made_by, wrapping_key, sealed)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                   ON CONFLICT (name, version) DO UPDATE SET wrapping_key = ?8, sealed = ?9";
        let readers = serde_json::to_string(&terms.readers)?;
        let expires = terms.expires.map(|end| end.0);
        let by = by.as_str();
        self.run(sql, params![name.as_str(), version, terms.description, readers, expires, made.0, by, key.0, sealed])
            .map(drop)
    }

    /// What was in the rows is overwritten in their pages; the log that still has it is emptied after the commit.
    pub(super) fn remove_credential(&self, name: &CredentialName, version: Option<u64>) -> Result<(), RowFault> {
        self.connection.pragma_update(None, "secure_delete", true)?;
        let sql = "DELETE FROM vault_versions WHERE name = ?1 AND (?2 IS NULL OR version = ?2)";
        self.run(sql, params![name.as_str(), version.map(number)])?;
        self.connection.pragma_update(None, "secure_delete", false)?;
        self.memory.borrow_mut().log_has_keys = true;
        Ok(())
    }
}

pub(super) fn known(connection: &Connection, name: &CredentialName) -> Read<Option<KnownCredential>> {
    let Some(head) = one(connection, HEAD, &[&name.as_str()], head)? else {
        return Ok(None);
    };
    let newest = match version(connection, name, head.newest) {
        Err(broken @ rusqlite::Error::SqliteFailure(..)) => return Err(broken),
        // It is damaged: whoever reads it is told, and its next version heals it.
        Err(_) => None,
        Ok(newest) => newest,
    };
    Ok(Some(KnownCredential { head, newest }))
}

/// A row that others may have written to.
fn found<T>(row: &Row<'_>, read: impl FnOnce(&Row<'_>) -> Read<T>) -> Read<VaultRow<T>> {
    let place = (String::from_utf8_lossy(row.get_ref(0)?.as_bytes()?).into_owned(), row.get(1)?);
    match read(row) {
        Err(broken @ rusqlite::Error::SqliteFailure(..)) => Err(broken),
        read => Ok(VaultRow { place, row: read.ok() }),
    }
}

/// Where the reading of pages goes on.
fn behind(after: Option<&CredentialPlace>) -> (&str, i64) {
    after.map_or(("", i64::MIN), |(name, version)| (name.as_str(), *version))
}

pub(super) fn lines(
    connection: &Connection,
    after: Option<&CredentialPlace>,
    limit: u32,
) -> Read<Vec<VaultRow<CredentialLine>>> {
    let sql =
        format!("SELECT {LINE} FROM vault_versions WHERE (name, version) > (?1, ?2) ORDER BY name, version LIMIT ?3");
    let (name, version) = behind(after);
    all(connection, &sql, params![name, version, limit.min(LINES_MAX)], |row| found(row, line))
}

pub(super) fn keys(connection: &Connection) -> Read<Vec<(KeyId, u64)>> {
    let sql = "SELECT wrapping_key, count(*) FROM vault_versions WHERE length(wrapping_key) = 32
               GROUP BY wrapping_key ORDER BY wrapping_key";
    all(connection, sql, [], |row| Ok((rows::sha256(row, 0)?, rows::unsigned(row, 1)?)))
}

pub(super) fn all_sealed(
    connection: &Connection,
    not_under: Option<&KeyId>,
    after: Option<&CredentialPlace>,
    limit: u32,
) -> Read<Vec<VaultRow<SealedCredential>>> {
    let sql = format!(
        "SELECT {LINE}, sealed FROM vault_versions WHERE (?1 IS NULL OR wrapping_key <> ?1) AND (name, version) > (?2, ?3)
         ORDER BY name, version LIMIT ?4"
    );
    let (name, version) = behind(after);
    let not_under = not_under.map(|key| key.0);
    all(connection, &sql, params![not_under, name, version, limit.min(LINES_MAX)], |row| found(row, sealed))
}
