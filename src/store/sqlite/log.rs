//! The audit log's rows and the batches of posted transactions.

use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use super::{keys, rows};
use crate::kernel::decide::RowFault;
use crate::kernel::types::{Sha256, TransactionId};
use crate::store::evidence::BOOKINGS;
use crate::store::sealing::LeafRow;
use crate::store::{BatchRecord, Booking, CheckpointRecord, LogExtent, Ring, SequenceStep, WaitingLeaf};

type Read<T> = rusqlite::Result<T>;

/// The most rows one read answers, whatever was asked.
pub(super) const ROWS_MAX: u32 = 100_000;

/// Leaves with the data keys that seal them.
const LEAF: &str =
    "SELECT l.row, l.commitment, l.salt, l.body, p.place, l.data_key, k.id, k.store_key, k.subject, k.period,
     k.wrapped FROM leaves l LEFT JOIN places p ON p.row = l.row LEFT JOIN data_keys k ON k.id = l.data_key";
const BATCH: &str = "SELECT batch, document, leaves, signature, key FROM batches";
const CHECKPOINT: &str = "SELECT size, root, note, signed FROM checkpoints";

pub(super) fn batch(connection: &Connection, batch: i64) -> Read<Option<BatchRecord>> {
    one(connection, &format!("{BATCH} WHERE batch = ?1"), [batch], batch_row)
}

pub(super) fn batch_statements(connection: &Connection, batch: i64) -> Read<Vec<(u32, Vec<u8>)>> {
    let sql = "SELECT index_in_batch AS place, statement FROM transactions WHERE batch = ?1
               UNION ALL SELECT order_index, order_statement FROM transactions WHERE order_batch = ?1 ORDER BY place";
    all(connection, sql, [batch], |row| Ok((row.get(0)?, row.get(1)?)))
}

pub(super) fn unsigned_batches(connection: &Connection, limit: u32) -> Read<Vec<BatchRecord>> {
    let sql = format!("{BATCH} WHERE signature IS NULL ORDER BY batch LIMIT ?1");
    all(connection, &sql, [limit.min(ROWS_MAX)], batch_row)
}

pub(super) fn leaf(connection: &Connection, row: i64) -> Read<Option<LeafRow>> {
    one(connection, &format!("{LEAF} WHERE l.row = ?1"), [row], leaf_row)
}

pub(super) fn leaf_of_transaction(connection: &Connection, transaction: &TransactionId) -> Read<Option<LeafRow>> {
    let sql = format!("{LEAF} JOIN transactions t ON t.leaf = l.row WHERE t.name = ?1");
    one(connection, &sql, [transaction.as_str()], leaf_row)
}

pub(super) fn unsequenced(connection: &Connection, after: i64, limit: u32) -> Read<Vec<LeafRow>> {
    // Places follow the rows: what waits comes after the last one that has its place.
    let sql = format!(
        "{LEAF} WHERE l.row > max(?1, coalesce((SELECT row FROM places ORDER BY place DESC LIMIT 1), 0))
         ORDER BY l.row LIMIT ?2"
    );
    all(connection, &sql, params![after, limit.min(ROWS_MAX)], leaf_row)
}

/// The first of them, without what they say.
pub(super) fn unsequenced_entries(connection: &Connection, ring: Option<&Ring>, limit: u32) -> Read<Vec<WaitingLeaf>> {
    let sql = "SELECT row, commitment, data_key IS NULL FROM leaves
               WHERE row > coalesce((SELECT row FROM places ORDER BY place DESC LIMIT 1), 0) ORDER BY row LIMIT ?1";
    all(connection, sql, [limit.min(ROWS_MAX)], |found| {
        let (row, commitment) = (found.get(0)?, rows::sha256(found, 1)?);
        let unsealed = found.get(2)? && ring.is_some_and(|ring| ring.seals(row));
        Ok(WaitingLeaf { row, commitment, unsealed })
    })
}

pub(super) fn leaves(connection: &Connection, from: u64, limit: u32) -> Read<Vec<LeafRow>> {
    let sql = format!("{LEAF} WHERE p.place >= ?1 ORDER BY p.place LIMIT ?2");
    all(connection, &sql, params![i64::try_from(from).unwrap_or(i64::MAX), limit.min(ROWS_MAX)], leaf_row)
}

pub(super) fn node(connection: &Connection, level: u8, index: u64) -> Read<Option<Sha256>> {
    let sql = "SELECT hash FROM nodes WHERE level = ?1 AND place = ?2";
    let index = i64::try_from(index).unwrap_or(i64::MAX);
    one(connection, sql, params![level, index], |row| rows::sha256(row, 0))
}

pub(super) fn tree_nodes(connection: &Connection, level: u8, from: u64, limit: u32) -> Read<Vec<(u64, Sha256)>> {
    let sql = "SELECT place, hash FROM nodes WHERE level = ?1 AND place >= ?2 ORDER BY place LIMIT ?3";
    let from = i64::try_from(from).unwrap_or(i64::MAX);
    all(connection, sql, params![level, from, limit.min(ROWS_MAX)], |row| {
        Ok((rows::unsigned(row, 0)?, rows::sha256(row, 1)?))
    })
}

pub(super) fn extent(connection: &Connection) -> Read<LogExtent> {
    let sql = "SELECT (SELECT count(*) FROM places), (SELECT count(*) FROM nodes)";
    connection
        .prepare_cached(sql)?
        .query_row([], |row| Ok(LogExtent { placed: rows::unsigned(row, 0)?, nodes: rows::unsigned(row, 1)? }))
}

pub(super) fn checkpoints(connection: &Connection, from_size: u64, limit: u32) -> Read<Vec<CheckpointRecord>> {
    let sql = format!("{CHECKPOINT} WHERE size >= ?1 ORDER BY size LIMIT ?2");
    let from = i64::try_from(from_size).unwrap_or(i64::MAX);
    all(connection, &sql, params![from, limit.min(ROWS_MAX)], checkpoint_row)
}

pub(super) fn batches(connection: &Connection, after: i64, limit: u32) -> Read<Vec<BatchRecord>> {
    let sql = format!("{BATCH} WHERE batch > ?1 ORDER BY batch LIMIT ?2");
    all(connection, &sql, params![after, limit.min(ROWS_MAX)], batch_row)
}

pub(super) fn bookings(connection: &Connection, after: i64, limit: u32) -> Read<Vec<Booking>> {
    let sql = format!("{BOOKINGS} WHERE t.id > ?1 ORDER BY t.id LIMIT ?2");
    all(connection, &sql, params![after, limit.min(ROWS_MAX)], |row| {
        Ok(Booking {
            number: row.get(0)?,
            name: row.get(1)?,
            kind: row.get(2)?,
            state: row.get(3)?,
            debit: row.get(4)?,
            credit: row.get(5)?,
            amount: row.get(6)?,
            fee: row.get(7)?,
            currency: row.get(8)?,
            agent: row.get(9)?,
            merchant: row.get(10)?,
            product: row.get(11)?,
            original: row.get(12)?,
            policy_version: row.get(13)?,
            catalogue_version: row.get(14)?,
            posted_at: row.get(15)?,
            batch: row.get(16)?,
            index_in_batch: row.get(17)?,
            statement: row.get(18)?,
            leaf: row.get(19)?,
        })
    })
}

pub(super) fn newest_checkpoint(connection: &Connection) -> Read<Option<CheckpointRecord>> {
    one(connection, &format!("{CHECKPOINT} ORDER BY size DESC LIMIT 1"), [], checkpoint_row)
}

pub(super) fn signed_checkpoint(connection: &Connection) -> Read<Option<CheckpointRecord>> {
    let sql = format!("{CHECKPOINT} WHERE signed IS NOT NULL ORDER BY size DESC LIMIT 1");
    one(connection, &sql, [], checkpoint_row)
}

/// A step that does not fit what is stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum Misplaced {
    #[error("the log has {found} leaves, the step starts at {expected}")]
    Size { found: u64, expected: u64 },
    #[error("leaf row {0} is not there")]
    Leaf(i64),
    #[error("leaf row {0} is not the next one without a place")]
    Order(i64),
    #[error("a checkpoint of {size} leaves does not follow a step that ends at {end}")]
    Checkpoint { size: u64, end: u64 },
    #[error("there is no checkpoint of {0} leaves")]
    NoCheckpoint(u64),
}

/// Gives leaves their places. Refused when the tree is not where the step starts.
pub(super) fn sequence(connection: &Connection, step: &SequenceStep) -> Result<(), RowFault> {
    let newest = "SELECT coalesce(max(place) + 1, 0) FROM places";
    let found: u64 = connection.prepare_cached(newest)?.query_row([], |row| rows::unsigned(row, 0))?;
    if found != step.size_before {
        return Err(Box::new(Misplaced::Size { found, expected: step.size_before }));
    }
    let last = "SELECT coalesce((SELECT row FROM places ORDER BY place DESC LIMIT 1), 0)";
    let placed: i64 = connection.prepare_cached(last)?.query_row([], |row| row.get(0))?;
    let next = "SELECT row FROM leaves WHERE row > ?1 ORDER BY row LIMIT ?2";
    let next: Vec<i64> = all(connection, next, params![placed, i64::try_from(step.rows.len())?], |row| row.get(0))?;
    if let Some((row, _)) = step.rows.iter().zip(&next).find(|(row, next)| row != next) {
        return Err(Box::new(Misplaced::Order(*row)));
    }
    if let Some(row) = step.rows.get(next.len()) {
        return Err(Box::new(Misplaced::Leaf(*row)));
    }
    let end = step.size_before.saturating_add(u64::try_from(step.rows.len())?);
    if step.checkpoint.size != end {
        return Err(Box::new(Misplaced::Checkpoint { size: step.checkpoint.size, end }));
    }
    let mut place = connection.prepare_cached("INSERT INTO places (place, row) VALUES (?1, ?2)")?;
    for (index, row) in (step.size_before..).zip(&step.rows) {
        place.execute(params![i64::try_from(index)?, row])?;
    }
    let mut node = connection.prepare_cached("INSERT INTO nodes (level, place, hash) VALUES (?1, ?2, ?3)")?;
    for (level, index, hash) in &step.nodes {
        node.execute(params![level, i64::try_from(*index)?, hash.0])?;
    }
    // A step without leaves names the size that has its checkpoint already: the first note stands.
    let sql = "INSERT INTO checkpoints (size, root, note) VALUES (?1, ?2, ?3) ON CONFLICT (size) DO NOTHING";
    let checkpoint = &step.checkpoint;
    let mut insert = connection.prepare_cached(sql)?;
    insert.execute(params![i64::try_from(checkpoint.size)?, checkpoint.root.0, checkpoint.note])?;
    Ok(())
}

/// Keeps the first signed note of this size.
pub(super) fn store_signed_checkpoint(connection: &Connection, size: u64, signed: &[u8]) -> Result<(), RowFault> {
    let number = i64::try_from(size)?;
    let there = "SELECT 1 FROM checkpoints WHERE size = ?1";
    if one(connection, there, [number], |_| Ok(()))?.is_none() {
        return Err(Box::new(Misplaced::NoCheckpoint(size)));
    }
    let sql = "UPDATE checkpoints SET signed = ?2 WHERE size = ?1 AND signed IS NULL";
    connection.prepare_cached(sql)?.execute(params![number, signed])?;
    Ok(())
}

fn batch_row(row: &Row<'_>) -> Read<BatchRecord> {
    let leaves: Vec<u8> = row.get(2)?;
    let (hashes, _) = leaves.as_chunks::<32>();
    let key = row.get::<_, Option<[u8; 32]>>(4)?;
    Ok(BatchRecord {
        batch: row.get(0)?,
        document: row.get(1)?,
        leaves: hashes.iter().copied().map(Sha256).collect(),
        signature: row.get(3)?,
        key: key.map(Sha256),
    })
}

fn leaf_row(row: &Row<'_>) -> Read<LeafRow> {
    let index = match row.get::<_, Option<i64>>(4)? {
        Some(_) => Some(rows::unsigned(row, 4)?),
        None => None,
    };
    let under = match row.get::<_, Option<i64>>(5)? {
        Some(key) if row.get::<_, Option<i64>>(6)?.is_some() => Some((key, Some(keys::data_key(row, 7)?))),
        Some(key) => Some((key, None)),
        None => None,
    };
    let (commitment, salt, body) = (rows::sha256(row, 1)?, row.get(2)?, row.get(3)?);
    Ok(LeafRow { row: row.get(0)?, commitment, salt, body, index, under })
}

fn checkpoint_row(row: &Row<'_>) -> Read<CheckpointRecord> {
    Ok(CheckpointRecord {
        size: rows::unsigned(row, 0)?,
        root: rows::sha256(row, 1)?,
        note: row.get(2)?,
        signed: row.get(3)?,
    })
}

pub(super) fn one<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> Read<T>,
) -> Read<Option<T>> {
    connection.prepare_cached(sql)?.query_row(params, read).optional()
}

pub(super) fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> Read<T>,
) -> Read<Vec<T>> {
    connection.prepare_cached(sql)?.query_map(params, read)?.collect()
}
