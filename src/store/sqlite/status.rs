//! What is revoked, frozen and certified, read from committed state.

use rusqlite::types::ToSql;
use rusqlite::{Connection, Row, params};

use super::log::{all, one};
use super::rows;
use crate::kernel::command::{CertificateRecord, Whom};
use crate::kernel::status::{CrlStatus, StatusSnapshot};
use crate::kernel::types::{Serial, Sha256, UnixMillis};
use crate::store::{
    CertificateLine, CertificateStatus, CertificatesOf, FreezeView, LinePlace, RevokedEntry, RevokedSince,
};

type Read<T> = rusqlite::Result<T>;

/// Columns of a [`CertificateLine`].
const LINE: &str = "profile, subject, issuer, serial, key, not_after, der IS NOT NULL";
/// Our own revocations only: what another party's CRL names belongs in theirs.
const REVOKED: &str = "SELECT r.value, r.at, r.reason, c.not_after FROM revocations r
     LEFT JOIN certificates c ON c.issuer = r.issuer AND c.serial = unhex(r.value)
     WHERE r.kind = 'certificate' AND r.issuer = ?1";

pub(super) fn status(connection: &Connection) -> Read<StatusSnapshot> {
    let mut snapshot = StatusSnapshot::default();
    let mut statement = connection.prepare_cached("SELECT kind, issuer, value FROM revocations")?;
    let mut marks = statement.query([])?;
    while let Some(row) = marks.next()? {
        let kind = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        match kind {
            "agent" => drop(snapshot.agents.insert(rows::text(row, 2)?)),
            "key" => {
                let key = Sha256::from_hex(row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?);
                let bad = |error| rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, error);
                snapshot.keys.insert(key.map_err(|error| bad(Box::new(error)))?);
            }
            "certificate" | "imported" => drop(snapshot.certificates.insert((row.get(1)?, rows::text(row, 2)?))),
            "issuer" => drop(snapshot.issuers.insert(row.get(2)?)),
            "everyone" => snapshot.everyone = true,
            "frozen" => match whom(row, 2)? {
                Whom::Agent(agent) => drop(snapshot.frozen.insert(agent)),
                Whom::Everyone => snapshot.everyone_frozen = true,
            },
            unknown => {
                let error = format!("a mark of the kind {unknown:?}").into();
                return Err(rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error));
            }
        }
    }
    let sql = "SELECT issuer, number, this_update, next_update FROM crls";
    let crls = all(connection, sql, [], |row| {
        let status = CrlStatus {
            number: rows::unsigned(row, 1)?,
            this_update: UnixMillis(row.get(2)?),
            next_update: UnixMillis(row.get(3)?),
        };
        Ok((row.get(0)?, status))
    })?;
    snapshot.crls = crls.into_iter().collect();
    Ok(snapshot)
}

/// No agent: everyone.
fn whom(row: &Row<'_>, column: usize) -> Read<Whom> {
    let value = row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?;
    if value.is_empty() { Ok(Whom::Everyone) } else { rows::text(row, column).map(Whom::Agent) }
}

pub(super) fn freezes(connection: &Connection) -> Read<Vec<FreezeView>> {
    let sql = "SELECT value, at, reason, thaw_asked_by FROM revocations WHERE kind = 'frozen' ORDER BY value";
    all(connection, sql, [], |row| {
        Ok(FreezeView {
            whom: whom(row, 0)?,
            since: UnixMillis(row.get(1)?),
            reason: row.get(2)?,
            thaw_asked_by: row.get(3)?,
        })
    })
}

pub(super) fn revoked_of(connection: &Connection, issuer: &str) -> Read<Vec<RevokedEntry>> {
    all(connection, &format!("{REVOKED} ORDER BY r.at, r.value"), [issuer], revoked)
}

pub(super) fn revoked_since(connection: &Connection, issuer: &str, since: UnixMillis) -> Read<RevokedSince> {
    let entries = all(connection, &format!("{REVOKED} AND r.at >= ?2"), params![issuer, since.0], revoked)?;
    let sql = "SELECT count(*) FROM revocations WHERE kind = 'certificate' AND issuer = ?1";
    let total = one(connection, sql, [issuer], |row| rows::unsigned(row, 0))?.unwrap_or(0);
    Ok(RevokedSince { entries, total })
}

fn revoked(row: &Row<'_>) -> Read<RevokedEntry> {
    Ok(RevokedEntry {
        serial: rows::text(row, 0)?,
        at: UnixMillis(row.get(1)?),
        reason: row.get(2)?,
        not_after: row.get::<_, Option<i64>>(3)?.map(UnixMillis),
    })
}

pub(super) fn certificates(connection: &Connection) -> Read<Vec<CertificateRecord>> {
    let sql = format!("SELECT {} FROM certificates ORDER BY rowid", rows::CERTIFICATE);
    all(connection, &sql, [], rows::certificate)
}

pub(super) fn certificates_of(
    connection: &Connection,
    of: &CertificatesOf,
    live_at: UnixMillis,
) -> Read<Vec<CertificateRecord>> {
    let (condition, values) = condition(of);
    let sql =
        format!("SELECT {} FROM certificates WHERE {condition} AND not_after > ?3 ORDER BY rowid", rows::CERTIFICATE);
    let asked: [&dyn ToSql; 3] = [&values.0, &values.1, &live_at.0];
    all(connection, &sql, asked, rows::certificate)
}

pub(super) fn certificate_list(connection: &Connection) -> Read<Vec<CertificateLine>> {
    all(connection, &format!("SELECT {LINE} FROM certificates ORDER BY rowid"), [], line)
}

/// As the index `certificates_by_end` has it.
pub(super) fn last_end(connection: &Connection, issuer: &str) -> Read<Option<UnixMillis>> {
    let sql = "SELECT max(not_after) FROM certificates WHERE issuer = ?1 AND der IS NOT NULL
         AND profile <> 'root' AND profile <> 'issuing'";
    let last = one(connection, sql, [issuer], |row| row.get::<_, Option<i64>>(0))?;
    Ok(last.flatten().map(UnixMillis))
}

pub(super) fn authorities(connection: &Connection) -> Read<Vec<CertificateRecord>> {
    let sql = format!(
        "SELECT {} FROM certificates WHERE profile = 'root' OR profile = 'issuing' ORDER BY rowid",
        rows::CERTIFICATE
    );
    all(connection, &sql, [], rows::certificate)
}

pub(super) fn certificate_status(
    connection: &Connection,
    issuer: &str,
    serial: &Serial,
) -> Read<Option<CertificateStatus>> {
    let sql = format!("SELECT {LINE} FROM certificates WHERE issuer = ?1 AND serial = ?2");
    let Some(line) = one(connection, &sql, params![issuer, serial.as_bytes()], line)? else {
        return Ok(None);
    };
    let sql = format!("{REVOKED} AND r.mark = 'cert:' || ?1 || ':' || ?2");
    let revoked = one(connection, &sql, params![issuer, serial.hex()], revoked)?;
    Ok(Some(CertificateStatus { line, revoked }))
}

pub(super) fn lines(
    connection: &Connection,
    of: &CertificatesOf,
    live_at: UnixMillis,
    after: Option<&LinePlace>,
    limit: u32,
) -> Read<Vec<CertificateLine>> {
    let (condition, values) = condition(of);
    let sql = format!(
        "SELECT {LINE} FROM certificates WHERE {condition} AND not_after > ?3
         AND (?4 IS NULL OR (issuer, serial) > (?4, ?5)) ORDER BY issuer, serial LIMIT ?6"
    );
    let place = (after.map(|after| &after.issuer), after.map(|after| after.serial.as_bytes()));
    let asked: [&dyn ToSql; 6] = [&values.0, &values.1, &live_at.0, &place.0, &place.1, &limit];
    all(connection, &sql, asked, line)
}

pub(super) fn count(connection: &Connection, of: &CertificatesOf, live_at: UnixMillis) -> Read<(u64, u64)> {
    let (condition, values) = condition(of);
    let sql =
        format!("SELECT count(*), count(DISTINCT subject) FROM certificates WHERE {condition} AND not_after > ?3");
    let asked: [&dyn ToSql; 3] = [&values.0, &values.1, &live_at.0];
    let counted = one(connection, &sql, asked, |row| Ok((rows::unsigned(row, 0)?, rows::unsigned(row, 1)?)))?;
    Ok(counted.unwrap_or_default())
}

type Values = (Box<dyn ToSql>, Box<dyn ToSql>);

/// On the first two parameters.
fn condition(of: &CertificatesOf) -> (&'static str, Values) {
    let none = || Box::new(rusqlite::types::Null) as Box<dyn ToSql>;
    match of {
        CertificatesOf::Subject(subject) => ("subject = ?1 AND ?2 IS NULL", (Box::new(subject.clone()), none())),
        CertificatesOf::Agent(agent) => ("subject = ?1 AND ?2 IS NULL", (Box::new(agent.to_string()), none())),
        CertificatesOf::AgentNamed(name) => {
            let pattern = format!("spiffe://*/agent/*/{name}");
            // The names are looked through in their index, not in the rows.
            let named = "subject IN (SELECT subject FROM certificates WHERE subject GLOB ?1) AND ?2 IS NULL";
            (named, (Box::new(pattern), none()))
        }
        CertificatesOf::Key(key) => ("key = ?1 AND ?2 IS NULL", (Box::new(key.0), none())),
        CertificatesOf::Serial { issuer, serial } => {
            ("issuer = ?1 AND serial = ?2", (Box::new(issuer.clone()), Box::new(serial.as_bytes().to_vec())))
        }
        CertificatesOf::Issuer(issuer) => ("issuer = ?1 AND ?2 IS NULL", (Box::new(issuer.clone()), none())),
        CertificatesOf::Agents => {
            ("subject >= ?1 AND subject < ?2", (Box::new("spiffe://".to_owned()), Box::new("spiffe:/0".to_owned())))
        }
    }
}

fn line(row: &Row<'_>) -> Read<CertificateLine> {
    Ok(CertificateLine {
        profile: row.get(0)?,
        subject: row.get(1)?,
        issuer: row.get(2)?,
        serial: rows::serial(row, 3)?,
        key: rows::sha256(row, 4)?,
        not_after: UnixMillis(row.get(5)?),
        released: row.get(6)?,
    })
}
