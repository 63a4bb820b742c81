//! What is revoked, frozen and certified, read from committed state.

use std::sync::LazyLock;

use tokio_postgres::Row;

use super::PostgresStore;
use super::lists::{Reading, unreadable};
use super::reads::Ask;
use super::rows::{self, Read};
use super::session::Parameter;
use crate::kernel::command::{CertificateRecord, Whom};
use crate::kernel::status::StatusSnapshot;
use crate::kernel::types::{Serial, Sha256, UnixMillis};
use crate::store::{
    CertificateLine, CertificateStatus, CertificatesOf, FreezeView, LinePlace, RevokedEntry, RevokedSince,
};

/// Our own revocations only: what another party's CRL names belongs in theirs.
const REVOKED: &str = "SELECT r.value, r.at, r.reason, c.not_after FROM revocations r
    LEFT JOIN certificates c ON c.issuer = r.issuer AND c.serial = decode(r.value, 'hex')
    WHERE r.kind = 'certificate' AND r.issuer = $1";

/// Columns of a [`CertificateLine`].
const LINE: &str = "profile, subject, issuer, serial, key, not_after, der IS NOT NULL";

/// Which lines: by subject, by the end of a subject, by key, by issuer, by issuer and serial number, or all agents'.
/// What is not asked for is null.
const LINES: &str = "FROM certificates WHERE not_after > $1
    AND ($2::text IS NULL OR subject = $2) AND ($3::text IS NULL OR subject LIKE $3)
    AND ($4::bytea IS NULL OR key = $4) AND ($5::text IS NULL OR issuer = $5) AND ($6::bytea IS NULL OR serial = $6)";

impl PostgresStore {
    pub(super) fn read_status(&self) -> Reading<StatusSnapshot> {
        let marks = Ask::new("SELECT kind, issuer, value FROM revocations", vec![]);
        let crls = Ask::new("SELECT issuer, number, this_update, next_update FROM crls", vec![]);
        let answers = self.reads.rows(vec![marks, crls])?;
        let [marks, crls] = &answers[..] else {
            return Err(unreadable(&"two lists were asked for"));
        };
        let snapshot = || -> Read<StatusSnapshot> {
            let mut snapshot = StatusSnapshot::default();
            for row in marks {
                mark(row, &mut snapshot)?;
            }
            snapshot.crls = crls.iter().map(rows::crl).collect::<Read<_>>()?;
            Ok(snapshot)
        };
        snapshot().map_err(|fault| unreadable(&fault))
    }

    pub(super) fn read_freezes(&self) -> Reading<Vec<FreezeView>> {
        let sql = "SELECT value, at, reason, thaw_asked_by FROM revocations WHERE kind = 'frozen' ORDER BY value";
        self.all(sql, vec![], |row| {
            Ok(FreezeView {
                whom: whom(row, 0)?,
                since: UnixMillis(rows::get(row, 1)?),
                reason: rows::get(row, 2)?,
                thaw_asked_by: rows::get(row, 3)?,
            })
        })
    }

    pub(super) fn read_revoked_of(&self, issuer: &str) -> Reading<Vec<RevokedEntry>> {
        static SQL: LazyLock<String> = LazyLock::new(|| format!("{REVOKED} ORDER BY r.at, r.value"));
        self.all(&SQL, vec![Box::new(issuer.to_owned())], rows::revoked)
    }

    pub(super) fn read_revoked_since(&self, issuer: &str, since: UnixMillis) -> Reading<RevokedSince> {
        static SQL: LazyLock<String> = LazyLock::new(|| format!("{REVOKED} AND r.at >= $2"));
        let total = "SELECT count(*) FROM revocations WHERE kind = 'certificate' AND issuer = $1";
        let entries = Ask::new(&SQL, vec![Box::new(issuer.to_owned()), Box::new(since.0)]);
        let answers = self.reads.rows(vec![entries, Ask::new(total, vec![Box::new(issuer.to_owned())])])?;
        let [entries, total] = &answers[..] else {
            return Err(unreadable(&"two lists were asked for"));
        };
        let read = || -> Read<RevokedSince> {
            let total = total.first().map(|row| rows::unsigned(row, 0)).transpose()?.unwrap_or(0);
            Ok(RevokedSince { entries: entries.iter().map(rows::revoked).collect::<Read<_>>()?, total })
        };
        read().map_err(|fault| unreadable(&fault))
    }

    pub(super) fn read_certificates(&self) -> Reading<Vec<CertificateRecord>> {
        static SQL: LazyLock<String> =
            LazyLock::new(|| format!("SELECT {} FROM certificates ORDER BY number", rows::CERTIFICATE));
        self.all(&SQL, vec![], rows::certificate)
    }

    pub(super) fn read_certificates_of(
        &self,
        of: &CertificatesOf,
        live_at: UnixMillis,
    ) -> Reading<Vec<CertificateRecord>> {
        static SQL: LazyLock<String> =
            LazyLock::new(|| format!("SELECT {} {LINES} ORDER BY number", rows::CERTIFICATE));
        self.all(&SQL, parameters(of, live_at), rows::certificate)
    }

    pub(super) fn read_certificate_list(&self) -> Reading<Vec<CertificateLine>> {
        static SQL: LazyLock<String> = LazyLock::new(|| format!("SELECT {LINE} FROM certificates ORDER BY number"));
        self.all(&SQL, vec![], line)
    }

    /// As the index `certificates_by_end` has it.
    pub(super) fn read_last_end(&self, issuer: &str) -> Reading<Option<UnixMillis>> {
        let sql = "SELECT max(not_after) FROM certificates WHERE issuer = $1 AND der IS NOT NULL
            AND profile <> 'root' AND profile <> 'issuing'";
        let last = self.one(sql, vec![Box::new(issuer.to_owned())], |row| rows::get::<Option<i64>>(row, 0))?;
        Ok(last.flatten().map(UnixMillis))
    }

    pub(super) fn read_authorities(&self) -> Reading<Vec<CertificateRecord>> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {} FROM certificates WHERE profile = 'root' OR profile = 'issuing' ORDER BY number",
                rows::CERTIFICATE
            )
        });
        self.all(&SQL, vec![], rows::certificate)
    }

    pub(super) fn read_certificate_status(&self, issuer: &str, serial: &Serial) -> Reading<Option<CertificateStatus>> {
        static SQL: LazyLock<String> =
            LazyLock::new(|| format!("{REVOKED} AND r.mark = 'cert:' || $1 || ':' || $2::text"));
        let of = CertificatesOf::Serial { issuer: issuer.to_owned(), serial: serial.clone() };
        let Some(line) = self.read_lines(&of, UnixMillis(i64::MIN), None, 1)?.into_iter().next() else {
            return Ok(None);
        };
        let asked: Vec<Parameter<'static>> = vec![Box::new(issuer.to_owned()), Box::new(serial.hex())];
        Ok(Some(CertificateStatus { line, revoked: self.one(&SQL, asked, rows::revoked)? }))
    }

    pub(super) fn read_lines(
        &self,
        of: &CertificatesOf,
        live_at: UnixMillis,
        after: Option<&LinePlace>,
        limit: u32,
    ) -> Reading<Vec<CertificateLine>> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {LINE} {LINES}
                 AND ($7::text IS NULL OR (issuer, serial) > ($7, $8::bytea)) ORDER BY issuer, serial LIMIT $9"
            )
        });
        let mut asked = parameters(of, live_at);
        asked.push(Box::new(after.map(|after| after.issuer.clone())));
        asked.push(Box::new(after.map(|after| after.serial.as_bytes().to_vec())));
        asked.push(Box::new(i64::from(limit)));
        self.all(&SQL, asked, line)
    }

    pub(super) fn read_count(&self, of: &CertificatesOf, live_at: UnixMillis) -> Reading<(u64, u64)> {
        static SQL: LazyLock<String> = LazyLock::new(|| format!("SELECT count(*), count(DISTINCT subject) {LINES}"));
        let counted = |row: &Row| Ok((rows::unsigned(row, 0)?, rows::unsigned(row, 1)?));
        Ok(self.one(&SQL, parameters(of, live_at), counted)?.unwrap_or_default())
    }
}

fn parameters(of: &CertificatesOf, live_at: UnixMillis) -> Vec<Parameter<'static>> {
    let (mut subject, mut pattern, mut key, mut issuer, mut serial) = (None, None, None, None, None);
    match of {
        CertificatesOf::Subject(wanted) => subject = Some(wanted.clone()),
        CertificatesOf::Agent(agent) => subject = Some(agent.to_string()),
        // Underscores are no letters of a name.
        CertificatesOf::AgentNamed(name) => pattern = Some(format!("spiffe://%/agent/%/{name}")),
        CertificatesOf::Key(wanted) => key = Some(wanted.0.to_vec()),
        CertificatesOf::Serial { issuer: by, serial: wanted } => {
            issuer = Some(by.clone());
            serial = Some(wanted.as_bytes().to_vec());
        }
        CertificatesOf::Issuer(by) => issuer = Some(by.clone()),
        CertificatesOf::Agents => pattern = Some("spiffe://%".to_owned()),
    }
    vec![Box::new(live_at.0), Box::new(subject), Box::new(pattern), Box::new(key), Box::new(issuer), Box::new(serial)]
}

fn mark(row: &Row, snapshot: &mut StatusSnapshot) -> Read<()> {
    match row.try_get(0)? {
        "agent" => drop(snapshot.agents.insert(rows::text(row, 2)?)),
        "key" => drop(snapshot.keys.insert(Sha256::from_hex(row.try_get(2)?)?)),
        "certificate" | "imported" => drop(snapshot.certificates.insert((rows::get(row, 1)?, rows::text(row, 2)?))),
        "issuer" => drop(snapshot.issuers.insert(rows::get(row, 2)?)),
        "everyone" => snapshot.everyone = true,
        "frozen" => match whom(row, 2)? {
            Whom::Agent(agent) => drop(snapshot.frozen.insert(agent)),
            Whom::Everyone => snapshot.everyone_frozen = true,
        },
        unknown => return Err(format!("a mark of the kind {unknown:?}").into()),
    }
    Ok(())
}

/// No agent: everyone.
fn whom(row: &Row, column: usize) -> Read<Whom> {
    if row.try_get::<_, &str>(column)?.is_empty() {
        return Ok(Whom::Everyone);
    }
    rows::text(row, column).map(Whom::Agent)
}

fn line(row: &Row) -> Read<CertificateLine> {
    Ok(CertificateLine {
        profile: rows::get(row, 0)?,
        subject: rows::get(row, 1)?,
        issuer: rows::get(row, 2)?,
        serial: Serial::from_bytes(row.try_get(3)?)?,
        key: rows::sha256(row, 4)?,
        not_after: UnixMillis(rows::get(row, 5)?),
        released: rows::get(row, 6)?,
    })
}
