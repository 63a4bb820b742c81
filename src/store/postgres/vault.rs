//! Credentials of the vault: sealed before they come here, and never opened here.

use tokio_postgres::Row;

use super::PostgresStore;
use super::lists::Reading;
use super::load::Call;
use super::rows::{self, Read};
use super::session::{Parameter, Session};
use crate::kernel::decide::RowFault;
use crate::kernel::types::{CredentialName, KeyId, UnixMillis};
use crate::kernel::vault::{CredentialCount, CredentialHead, SealedCredential, Terms, Way};
use crate::store::vault::LINES_MAX;
use crate::store::{CredentialLine, CredentialPlace, KnownCredential, StoreFault, VaultRow};

/// Columns before the sealed value; the last of them is its beginning, which has a header's bytes and says how it is sealed.
const AFTER_LINE: usize = 9;
const HEAD: &str = "SELECT newest, (SELECT count(*) FROM vault_versions v WHERE v.name = n.name)
                    FROM vault_names n WHERE name = $1";
const VERSION: &str = "SELECT name, version, description, readers, expires, made, made_by, wrapping_key,
                       substring(sealed from 1 for 21), sealed FROM vault_versions WHERE name = $1 AND version = $2";

fn line(row: &Row) -> Read<CredentialLine> {
    Ok(CredentialLine {
        name: rows::text(row, 0)?,
        version: rows::unsigned(row, 1)?,
        terms: Terms {
            description: rows::get(row, 2)?,
            readers: rows::json(row, 3)?,
            expires: rows::get::<Option<i64>>(row, 4)?.map(UnixMillis),
        },
        made: UnixMillis(rows::get(row, 5)?),
        by: rows::text(row, 6)?,
        key: rows::sha256(row, 7)?,
        way: Way::of(&rows::get::<Vec<u8>>(row, 8)?),
    })
}

fn sealed(row: &Row) -> Read<SealedCredential> {
    let CredentialLine { name, version, terms, made, by, key, way: _ } = line(row)?;
    Ok(SealedCredential { name, version, terms, made, by, key, sealed: rows::get(row, AFTER_LINE)? })
}

fn head_of(row: &Row) -> Read<CredentialHead> {
    Ok(CredentialHead { newest: rows::unsigned(row, 0)?, versions: u32::try_from(rows::unsigned(row, 1)?)? })
}

fn number(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

async fn first<T>(
    session: &mut Session,
    sql: &'static str,
    parameters: Vec<Parameter<'_>>,
    read: impl Fn(&Row) -> Read<T>,
) -> Read<Option<T>> {
    session.query(&Call { sql: sql.into(), parameters }).await?.first().map(read).transpose()
}

/// # Errors
/// A statement's failure.
pub(super) async fn head(session: &mut Session, name: &CredentialName) -> Read<Option<CredentialHead>> {
    first(session, HEAD, vec![Box::new(name.as_str())], head_of).await
}

/// A row that cannot be read as what was put there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Damaged;

/// What there is of a version.
pub(super) type Found = Result<Option<SealedCredential>, Damaged>;

/// # Errors
/// A statement's failure.
pub(super) async fn version(session: &mut Session, name: &CredentialName, version: u64) -> Read<Found> {
    let parameters: Vec<Parameter<'_>> = vec![Box::new(name.as_str()), Box::new(number(version))];
    let rows = session.query(&Call { sql: VERSION.into(), parameters }).await?;
    Ok(rows.first().map(sealed).transpose().map_err(|_| Damaged))
}

/// # Errors
/// A statement's failure.
pub(super) async fn count(session: &mut Session) -> Read<CredentialCount> {
    let sql = "SELECT (SELECT count(DISTINCT name) FROM vault_versions), (SELECT count(*) FROM vault_names)";
    let count = |row: &Row| {
        let (kept, names) = (u32::try_from(rows::unsigned(row, 0)?)?, u32::try_from(rows::unsigned(row, 1)?)?);
        Ok(CredentialCount { kept, names })
    };
    Ok(first(session, sql, vec![], count).await?.unwrap_or_default())
}

/// The statements that keep a version as it is now, new or sealed anew.
///
/// # Errors
/// A version that no column holds.
pub(super) fn put(credential: &SealedCredential) -> Result<[Call<'_>; 2], RowFault> {
    let SealedCredential { name, version, terms, made, by, key, sealed } = credential;
    let version = i64::try_from(*version)?;
    Ok([
        Call {
            sql: "INSERT INTO vault_names (name, newest) VALUES ($1, $2)
                  ON CONFLICT (name) DO UPDATE SET newest = greatest(vault_names.newest, excluded.newest)"
                .into(),
            parameters: vec![Box::new(name.as_str()), Box::new(version)],
        },
        Call {
            sql: "INSERT INTO vault_versions
                  (name, version, description, readers, expires, made, made_by, wrapping_key, sealed)
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                  ON CONFLICT (name, version) DO UPDATE SET wrapping_key = excluded.wrapping_key,
                  sealed = excluded.sealed"
                .into(),
            parameters: vec![
                Box::new(name.as_str()),
                Box::new(version),
                Box::new(terms.description.as_str()),
                Box::new(serde_json::to_string(&terms.readers)?),
                Box::new(terms.expires.map(|end| end.0)),
                Box::new(made.0),
                Box::new(by.as_str()),
                Box::new(key.0.as_slice()),
                Box::new(sealed.as_slice()),
            ],
        },
    ])
}

/// The statement that removes one version, or all.
pub(super) fn remove(name: &CredentialName, version: Option<u64>) -> Call<'_> {
    Call {
        sql: "DELETE FROM vault_versions WHERE name = $1 AND ($2::bigint IS NULL OR version = $2)".into(),
        parameters: vec![Box::new(name.as_str()), Box::new(version.map(number))],
    }
}

impl PostgresStore {
    pub(super) fn read_known_credential(&self, name: &CredentialName) -> Result<Option<KnownCredential>, StoreFault> {
        let Some(head) = self.one(HEAD, vec![Box::new(name.as_str().to_owned())], head_of)? else {
            return Ok(None);
        };
        let parameters: Vec<Parameter<'_>> = vec![Box::new(name.as_str().to_owned()), Box::new(number(head.newest))];
        // One that is damaged is none: whoever reads it is told, and its next version heals it.
        let newest = self.one(VERSION, parameters, |row| Ok(sealed(row).ok()))?.flatten();
        Ok(Some(KnownCredential { head, newest }))
    }

    pub(super) fn read_credential_lines(
        &self,
        after: Option<&CredentialPlace>,
        limit: u32,
    ) -> Reading<Vec<VaultRow<CredentialLine>>> {
        let sql = "SELECT name, version, description, readers, expires, made, made_by, wrapping_key,
                   substring(sealed from 1 for 21) FROM vault_versions WHERE (name, version) > ($1, $2)
                   ORDER BY name, version LIMIT $3";
        let (name, version) = behind(after);
        let limit = i64::from(limit.min(LINES_MAX));
        self.all(sql, vec![Box::new(name), Box::new(version), Box::new(limit)], |row| found(row, line))
    }

    pub(super) fn read_credential_keys(&self) -> Reading<Vec<(KeyId, u64)>> {
        let sql = "SELECT wrapping_key, count(*) FROM vault_versions WHERE length(wrapping_key) = 32
                   GROUP BY wrapping_key ORDER BY wrapping_key";
        self.all(sql, vec![], |row| Ok((rows::sha256(row, 0)?, rows::unsigned(row, 1)?)))
    }

    pub(super) fn read_sealed_credentials(
        &self,
        not_under: Option<&KeyId>,
        after: Option<&CredentialPlace>,
        limit: u32,
    ) -> Reading<Vec<VaultRow<SealedCredential>>> {
        let sql = "SELECT name, version, description, readers, expires, made, made_by, wrapping_key,
                   substring(sealed from 1 for 21), sealed FROM vault_versions
                   WHERE ($1::bytea IS NULL OR wrapping_key <> $1) AND (name, version) > ($2, $3)
                   ORDER BY name, version LIMIT $4";
        let (name, version) = behind(after);
        let not_under = not_under.map(|key| key.0.to_vec());
        let limit = i64::from(limit.min(LINES_MAX));
        let parameters: Vec<Parameter<'_>> =
            vec![Box::new(not_under), Box::new(name), Box::new(version), Box::new(limit)];
        self.all(sql, parameters, |row| found(row, sealed))
    }
}

/// A row that others may have written to.
fn found<T>(row: &Row, read: impl FnOnce(&Row) -> Read<T>) -> Read<VaultRow<T>> {
    Ok(VaultRow { place: (rows::get(row, 0)?, rows::get(row, 1)?), row: read(row).ok() })
}

/// Where the reading of pages goes on.
fn behind(after: Option<&CredentialPlace>) -> (String, i64) {
    after.cloned().unwrap_or_else(|| (String::new(), i64::MIN))
}
