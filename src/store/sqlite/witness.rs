//! What is remembered of other parties' logs, and what a witness said of ours.

use rusqlite::{Connection, Row, params};

use super::book::Commit;
use super::log::{ROWS_MAX, all, one};
use super::rows;
use crate::kernel::decide::RowFault;
use crate::kernel::receipt::Base64;
use crate::kernel::types::{Sha256, UnixMillis};
use crate::kernel::witness::{Halt, HaltCause, Head, WitnessedLog};
use crate::store::{CheckpointRecord, Cosignature, CosignedCheckpoint, StoredCosignature};

type Read<T> = rusqlite::Result<T>;

/// Every log, by its name.
pub(super) const LOGS: &str =
    "SELECT origin, party, size, root, cosigned_at, told_at, halted, shown_size, shown_root, halted_at, shown_note,
    accept_asked_by
    FROM witnessed ORDER BY origin";

pub(super) fn log(row: &Row<'_>) -> Read<WitnessedLog> {
    let halt = match row.get::<_, Option<String>>(6)? {
        None => None,
        Some(_) => Some(Halt {
            cause: rows::named(row, 6, &HaltCause::ALL, HaltCause::name)?,
            shown: Head { size: rows::unsigned(row, 7)?, root: rows::sha256(row, 8)? },
            note: row.get(10)?,
            at: UnixMillis(row.get(9)?),
            accept_asked_by: row.get(11)?,
        }),
    };
    Ok(WitnessedLog {
        origin: row.get(0)?,
        party: rows::text_or_none(row, 1)?,
        head: Head { size: rows::unsigned(row, 2)?, root: rows::sha256(row, 3)? },
        cosigned_at: UnixMillis(row.get(4)?),
        told_at: UnixMillis(row.get(5)?),
        halt,
    })
}

pub(super) fn logs(connection: &Connection) -> Read<Vec<WitnessedLog>> {
    super::log::all(connection, LOGS, [], log)
}

/// A log as it is now, new or not.
pub(super) fn put(commit: &Commit<'_>, log: &WitnessedLog) -> Result<(), RowFault> {
    let sql = "INSERT INTO witnessed (origin, party, size, root, cosigned_at, told_at, halted, shown_size, shown_root, halted_at,
               shown_note, accept_asked_by)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
               ON CONFLICT (origin) DO UPDATE SET size = ?3, root = ?4, cosigned_at = ?5, told_at = ?6, halted = ?7,
               shown_size = ?8, shown_root = ?9, halted_at = ?10, shown_note = ?11, accept_asked_by = ?12";
    let halt = log.halt.as_ref();
    commit.run(
        sql,
        params![
            log.origin,
            log.party.as_ref().map(|party| party.as_str()),
            i64::try_from(log.head.size)?,
            log.head.root.0,
            log.cosigned_at.0,
            log.told_at.0,
            halt.map(|halt| halt.cause.name()),
            halt.map(|halt| i64::try_from(halt.shown.size)).transpose()?,
            halt.map(|halt| halt.shown.root.0),
            halt.map(|halt| halt.at.0),
            halt.and_then(|halt| halt.note.as_deref()),
            halt.and_then(|halt| halt.accept_asked_by.as_deref()),
        ],
    )?;
    Ok(())
}

/// Keeps the newest cosignature of this size.
pub(super) fn store(connection: &Connection, size: u64, cosignature: &Cosignature) -> Result<(), RowFault> {
    let size = i64::try_from(size)?;
    let chain: Vec<&[u8]> = cosignature.chain.iter().map(Vec::as_slice).collect();
    let name = Sha256::of(&chain);
    let certificates: Vec<Base64> = cosignature.chain.iter().cloned().map(Base64).collect();
    let sql = "INSERT INTO witness_chains (name, certificates) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![name.0, serde_json::to_string(&certificates)?])?;
    let sql = "INSERT INTO cosignatures (size, line, chain) SELECT size, ?2, ?3 FROM checkpoints
               WHERE size = ?1 AND signed IS NOT NULL
               ON CONFLICT (size) DO UPDATE SET line = excluded.line, chain = excluded.chain";
    connection.prepare_cached(sql)?.execute(params![size, cosignature.line, name.0])?;
    Ok(())
}

/// The newest checkpoint that is cosigned.
pub(super) fn newest(connection: &Connection) -> Read<Option<CosignedCheckpoint>> {
    let sql = "SELECT c.size, c.root, c.note, c.signed, s.line, w.certificates FROM cosignatures s
               JOIN checkpoints c ON c.size = s.size JOIN witness_chains w ON w.name = s.chain
               ORDER BY s.size DESC LIMIT 1";
    one(connection, sql, [], |row| {
        let certificates: Vec<Base64> = rows::json(row, 5)?;
        Ok(CosignedCheckpoint {
            checkpoint: CheckpointRecord {
                size: rows::unsigned(row, 0)?,
                root: rows::sha256(row, 1)?,
                note: row.get(2)?,
                signed: row.get(3)?,
            },
            cosignature: Cosignature {
                line: row.get(4)?,
                chain: certificates.into_iter().map(|certificate| certificate.0).collect(),
            },
        })
    })
}

/// Cosignatures from this size on, whatever has become of what they belong to.
pub(super) fn stored(connection: &Connection, from_size: u64, limit: u32) -> Read<Vec<StoredCosignature>> {
    let sql = "SELECT s.size, s.line, w.certificates, c.note FROM cosignatures s
               LEFT JOIN checkpoints c ON c.size = s.size AND c.signed IS NOT NULL
               LEFT JOIN witness_chains w ON w.name = s.chain
               WHERE s.size >= ?1 ORDER BY s.size LIMIT ?2";
    let from = i64::try_from(from_size).unwrap_or(i64::MAX);
    all(connection, sql, params![from, limit.min(ROWS_MAX)], |row| {
        let certificates: Option<String> = row.get(2)?;
        Ok(StoredCosignature {
            size: rows::unsigned(row, 0)?,
            line: row.get(1)?,
            chain: certificates.and_then(|text| chain_of(&text)),
            note: row.get(3)?,
        })
    })
}

fn chain_of(text: &str) -> Option<Vec<Vec<u8>>> {
    let certificates: Vec<Base64> = serde_json::from_str(text).ok()?;
    Some(certificates.into_iter().map(|certificate| certificate.0).collect())
}
