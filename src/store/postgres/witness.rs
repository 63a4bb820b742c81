//! What is remembered of other parties' logs, and what a witness said of ours.

use tokio_postgres::Row;

use super::PostgresStore;
use super::lists::Reading;
use super::load::Call;
use super::rows::{self, Read};
use super::session::{Parameter, Session};
use crate::kernel::decide::RowFault;
use crate::kernel::receipt::Base64;
use crate::kernel::types::{Sha256, UnixMillis};
use crate::kernel::witness::{Halt, HaltCause, Head, WitnessedLog};
use crate::store::{CheckpointRecord, Cosignature, CosignedCheckpoint, StoredCosignature};

/// Every log, by its name.
pub(super) const LOGS: &str =
    "SELECT origin, party, size, root, cosigned_at, told_at, halted, shown_size, shown_root, halted_at, shown_note,
    accept_asked_by
    FROM witnessed ORDER BY origin";

pub(super) fn log(row: &Row) -> Read<WitnessedLog> {
    let halt = match rows::get::<Option<String>>(row, 6)? {
        None => None,
        Some(_) => Some(Halt {
            cause: rows::named(row, 6, &HaltCause::ALL, HaltCause::name)?,
            shown: Head { size: rows::unsigned(row, 7)?, root: rows::sha256(row, 8)? },
            note: rows::get(row, 10)?,
            at: UnixMillis(rows::get(row, 9)?),
            accept_asked_by: rows::get(row, 11)?,
        }),
    };
    Ok(WitnessedLog {
        origin: rows::get(row, 0)?,
        party: rows::text_or_none(row, 1)?,
        head: Head { size: rows::unsigned(row, 2)?, root: rows::sha256(row, 3)? },
        cosigned_at: UnixMillis(rows::get(row, 4)?),
        told_at: UnixMillis(rows::get(row, 5)?),
        halt,
    })
}

/// The statement that keeps a log as it is now, new or not.
///
/// # Errors
/// A size that no column holds.
pub(super) fn put(log: &WitnessedLog) -> Result<Call<'_>, RowFault> {
    let halt = log.halt.as_ref();
    Ok(Call {
        sql: "INSERT INTO witnessed (origin, party, size, root, cosigned_at, told_at, halted, shown_size, shown_root, halted_at,
               shown_note, accept_asked_by)
              VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
              ON CONFLICT (origin) DO UPDATE SET size = excluded.size, root = excluded.root,
              cosigned_at = excluded.cosigned_at, told_at = excluded.told_at, halted = excluded.halted,
              shown_size = excluded.shown_size, shown_root = excluded.shown_root, halted_at = excluded.halted_at,
              shown_note = excluded.shown_note, accept_asked_by = excluded.accept_asked_by"
            .into(),
        parameters: vec![
            Box::new(log.origin.as_str()),
            Box::new(log.party.as_ref().map(|party| party.as_str())),
            Box::new(i64::try_from(log.head.size)?),
            Box::new(log.head.root.0.as_slice()),
            Box::new(log.cosigned_at.0),
            Box::new(log.told_at.0),
            Box::new(halt.map(|halt| halt.cause.name())),
            Box::new(halt.map(|halt| i64::try_from(halt.shown.size)).transpose()?),
            Box::new(halt.map(|halt| halt.shown.root.0.as_slice())),
            Box::new(halt.map(|halt| halt.at.0)),
            Box::new(halt.and_then(|halt| halt.note.as_deref())),
            Box::new(halt.and_then(|halt| halt.accept_asked_by.as_deref())),
        ],
    })
}

/// Keeps the newest cosignature of this size.
///
/// # Errors
/// A statement's failure.
pub(super) async fn store(session: &mut Session, size: u64, cosignature: &Cosignature) -> Read<()> {
    let number = i64::try_from(size)?;
    let chain: Vec<&[u8]> = cosignature.chain.iter().map(Vec::as_slice).collect();
    let name = Sha256::of(&chain);
    let certificates: Vec<Base64> = cosignature.chain.iter().cloned().map(Base64).collect();
    let certificates = serde_json::to_string(&certificates)?;
    let calls: [(&'static str, Vec<Parameter<'_>>); 2] = [
        (
            "INSERT INTO witness_chains (name, certificates) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            vec![Box::new(name.0.as_slice()), Box::new(certificates.as_str())],
        ),
        (
            "INSERT INTO cosignatures (size, line, chain) SELECT size, $2, $3 FROM checkpoints
             WHERE size = $1 AND signed IS NOT NULL
             ON CONFLICT (size) DO UPDATE SET line = excluded.line, chain = excluded.chain",
            vec![Box::new(number), Box::new(cosignature.line.as_str()), Box::new(name.0.as_slice())],
        ),
    ];
    let calls = calls.into_iter().map(|(sql, parameters)| Call { sql: sql.into(), parameters }).collect();
    session.rows(calls).await?;
    Ok(())
}

impl PostgresStore {
    pub(super) fn read_witnessed(&self) -> Reading<Vec<WitnessedLog>> {
        self.all(LOGS, vec![], log)
    }

    /// The newest checkpoint that is cosigned.
    pub(super) fn read_cosigned(&self) -> Reading<Option<CosignedCheckpoint>> {
        let sql = "SELECT c.size, c.root, c.note, c.signed, s.line, w.certificates FROM cosignatures s
                   JOIN checkpoints c ON c.size = s.size JOIN witness_chains w ON w.name = s.chain
                   ORDER BY s.size DESC LIMIT 1";
        self.one(sql, vec![], |row| {
            let checkpoint: CheckpointRecord = rows::checkpoint(row)?;
            let certificates: Vec<Base64> = rows::json(row, 5)?;
            let chain = certificates.into_iter().map(|certificate| certificate.0).collect();
            Ok(CosignedCheckpoint { checkpoint, cosignature: Cosignature { line: rows::get(row, 4)?, chain } })
        })
    }

    /// Cosignatures from this size on, whatever has become of what they belong to.
    pub(super) fn read_cosignatures(&self, from_size: u64, limit: u32) -> Reading<Vec<StoredCosignature>> {
        let sql = "SELECT s.size, s.line, w.certificates, c.note FROM cosignatures s
                   LEFT JOIN checkpoints c ON c.size = s.size AND c.signed IS NOT NULL
                   LEFT JOIN witness_chains w ON w.name = s.chain
                   WHERE s.size >= $1 ORDER BY s.size LIMIT $2";
        let from = i64::try_from(from_size).unwrap_or(i64::MAX);
        self.all(sql, vec![Box::new(from), Box::new(i64::from(limit))], |row| {
            let certificates: Option<String> = rows::get(row, 2)?;
            Ok(StoredCosignature {
                size: rows::unsigned(row, 0)?,
                line: rows::get(row, 1)?,
                chain: certificates.and_then(|text| chain_of(&text)),
                note: rows::get(row, 3)?,
            })
        })
    }
}

fn chain_of(text: &str) -> Option<Vec<Vec<u8>>> {
    let certificates: Vec<Base64> = serde_json::from_str(text).ok()?;
    Some(certificates.into_iter().map(|certificate| certificate.0).collect())
}
