//! Data keys: given to subjects in the deciding commit, read with the leaves that they seal, destroyed.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::book::{Commit, stop};
use super::log::{all, one};
use super::rows;
use crate::kernel::decide::{RowFault, Ruled, Said, SubjectRow};
use crate::kernel::subject::{DataSubject, Period};
use crate::kernel::types::{Sha256, UnixMillis};
use crate::store::sealing::{ALL_HELD, DESTROYED, DataKey, DataKeyRow, FORGET_MARKS, KeysClosed};
use crate::store::{DestroyedKeys, KeyWork, StoreKey, SubjectLine, SubjectQuery};

type Read<T> = rusqlite::Result<T>;

/// Subjects whose key of this month the writer remembers: about a kilobyte each.
pub(super) const REMEMBERED_MAX: usize = 20_000;
const SUBJECTS_MAX: u32 = 1_001;

impl Commit<'_> {
    /// The data key that seals leaves about this subject now: remembered, read, or made and kept in this very commit.
    /// None where nothing was ever sealed and nobody has opened the keys.
    ///
    /// # Errors
    /// [`KeysClosed`]; the fault of a row.
    pub(super) fn data_key(&self, subject: &DataSubject, at: UnixMillis) -> Result<Option<Arc<DataKey>>, RowFault> {
        let Some(ring) = self.ring else {
            return if self.was_sealed()? { Err(Box::new(KeysClosed)) } else { Ok(None) };
        };
        let period = Period::of(at);
        if let Some((of, key)) = self.memory.borrow().rows.data_keys.get(subject)
            && *of == period
        {
            return Ok(Some(Arc::clone(key)));
        }
        let name = subject.to_string();
        let sql = "SELECT id, store_key, subject, period, wrapped FROM data_keys
                   WHERE subject = ?1 AND period = ?2 AND wrapped IS NOT NULL ORDER BY id DESC LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let kept =
            statement.query_row(params![name, period.0], |row| Ok((row.get(0)?, data_key(row, 1)?))).optional()?;
        let key = match kept.and_then(|(id, row)| ring.open(id, &row)) {
            Some(key) => key,
            None => {
                let first = "SELECT coalesce(max(id), 0) + 1 FROM data_keys";
                let id = self.next_row(|rows| &mut rows.next_data_key, first)?;
                let (key, row) = ring.make(id, &name, period)?;
                let sql = "INSERT INTO data_keys (id, store_key, subject, period, wrapped, made)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                self.run(sql, params![id, row.store_key, row.subject, row.period, row.wrapped, at.0])?;
                key
            }
        };
        let key = Arc::new(key);
        self.memory.borrow_mut().rows.data_keys.insert(subject.clone(), (period, Arc::clone(&key)));
        Ok(Some(key))
    }

    fn was_sealed(&self) -> Result<bool, RowFault> {
        if let Some(sealed) = self.memory.borrow().rows.was_sealed {
            return Ok(sealed);
        }
        let sealed = self.connection.prepare_cached("SELECT 1 FROM store_keys LIMIT 1")?.exists([])?;
        self.memory.borrow_mut().rows.was_sealed = Some(sealed);
        Ok(sealed)
    }

    pub(super) fn subject_row(&self, subject: &DataSubject) -> Ruled<SubjectRow> {
        let name = subject.to_string();
        let keys = "SELECT id FROM data_keys WHERE subject = ?1 AND wrapped IS NOT NULL ORDER BY id";
        let keys = all(self.connection, keys, [&name], |row| row.get(0)).map_err(stop)?;
        let marks = "SELECT hold_at IS NOT NULL, erasure_by, erasure_at, released_by, released_at
                     FROM subject_marks WHERE subject = ?1";
        let marks = one(self.connection, marks, [&name], |row| {
            let said = |by: usize| {
                let at = row.get::<_, Option<i64>>(by + 1)?.map(UnixMillis);
                Ok::<_, rusqlite::Error>(row.get::<_, Option<String>>(by)?.zip(at).map(|(by, at)| Said { by, at }))
            };
            Ok((row.get(0)?, said(1)?, said(3)?))
        });
        let (held, erasure_asked, released) = marks.map_err(stop)?.unwrap_or_default();
        let all_held = one(self.connection, ALL_HELD, [], |row| row.get(0)).map_err(stop)?.unwrap_or_default();
        Ok(SubjectRow { keys, held, all_held, erasure_asked, released })
    }

    pub(super) fn keys_before(&self, before: Period, limit: u32) -> Ruled<Vec<i64>> {
        let sql = "SELECT id FROM data_keys WHERE period < ?1 AND wrapped IS NOT NULL AND NOT EXISTS
                       (SELECT 1 FROM subject_marks m WHERE m.subject IN (data_keys.subject, 'all') AND m.hold_at IS NOT NULL)
                   ORDER BY period, id LIMIT ?2";
        all(self.connection, sql, params![before.0, limit], |row| row.get(0)).map_err(stop)
    }

    pub(super) fn hold(&self, subject: &DataSubject, by: &str, at: UnixMillis, reason: &str) -> Result<(), RowFault> {
        let sql = "INSERT INTO subject_marks (subject, hold_by, hold_at, hold_reason) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (subject) DO UPDATE SET hold_by = ?2, hold_at = ?3, hold_reason = ?4";
        self.run(sql, params![subject.to_string(), by, at.0, reason]).map(drop)
    }

    pub(super) fn release(&self, subject: &DataSubject, by: &str, at: UnixMillis) -> Result<(), RowFault> {
        let sql = "UPDATE subject_marks SET hold_by = NULL, hold_at = NULL, hold_reason = NULL, released_by = ?2,
                       released_at = ?3 WHERE subject = ?1";
        self.run(sql, params![subject.to_string(), by, at.0]).map(drop)
    }

    pub(super) fn ask_erasure(
        &self,
        subject: &DataSubject,
        by: &str,
        at: UnixMillis,
        reason: &str,
    ) -> Result<(), RowFault> {
        let sql = "INSERT INTO subject_marks (subject, erasure_by, erasure_at, erasure_reason) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (subject) DO UPDATE SET erasure_by = ?2, erasure_at = ?3, erasure_reason = ?4";
        self.run(sql, params![subject.to_string(), by, at.0, reason]).map(drop)
    }

    /// What was in the rows is overwritten in their pages; the log that still has it is emptied after the commit.
    pub(super) fn destroy_keys(
        &self,
        keys: &[i64],
        left: &str,
        forget: Option<&DataSubject>,
        at: UnixMillis,
    ) -> Result<(), RowFault> {
        self.connection.pragma_update(None, "secure_delete", true)?;
        let sql = "UPDATE data_keys SET wrapped = NULL, subject = ?2, destroyed = ?3 WHERE id = ?1";
        for key in keys {
            self.run(sql, params![key, left, at.0])?;
        }
        if let Some(subject) = forget {
            self.run("DELETE FROM subject_marks WHERE subject = ?1", params![subject.to_string()])?;
        }
        self.run(FORGET_MARKS, &[])?;
        self.connection.pragma_update(None, "secure_delete", false)?;
        let mut memory = self.memory.borrow_mut();
        memory.rows.data_keys.clear();
        memory.log_has_keys = true;
        Ok(())
    }
}

/// Changes store keys.
pub(super) fn work(connection: &Connection, work: &KeyWork) -> Result<(), RowFault> {
    let (sql, key) = match work {
        KeyWork::Keep(key) => (
            "INSERT INTO store_keys (id, wrapping_key, wrapped, made, first_row) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO NOTHING",
            key,
        ),
        KeyWork::Rewrap(key) => {
            ("UPDATE store_keys SET wrapping_key = ?2, wrapped = ?3, first_row = ?5 WHERE id = ?1 AND made = ?4", key)
        }
    };
    let StoreKey { id, wrapping_key, first_row, wrapped, made } = key;
    connection.prepare_cached(sql)?.execute(params![id, wrapping_key.0, wrapped, made.0, first_row])?;
    Ok(())
}

pub(super) fn store_keys(connection: &Connection) -> Read<Vec<StoreKey>> {
    let sql = "SELECT id, wrapping_key, wrapped, made, first_row FROM store_keys ORDER BY id";
    all(connection, sql, [], |row| {
        let (id, wrapping_key, made) = (row.get(0)?, Sha256(row.get(1)?), UnixMillis(row.get(3)?));
        Ok(StoreKey { id, wrapping_key, first_row: row.get(4)?, wrapped: row.get(2)?, made })
    })
}

/// The first row that is sealed, or the next one.
pub(super) fn first_sealed_row(connection: &Connection) -> Read<i64> {
    // Without data keys nothing is sealed, and nobody reads all leaves to find that out.
    let sql = "SELECT coalesce(
                   (SELECT row FROM leaves WHERE data_key IS NOT NULL AND EXISTS (SELECT 1 FROM data_keys)
                    ORDER BY row LIMIT 1),
                   (SELECT max(row) + 1 FROM leaves), 1)";
    connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

pub(super) fn leaves_in_the_clear(connection: &Connection) -> Read<u64> {
    // A store that was sealed once has no younger ones: the first that is sealed is found by halves.
    let sealed = |row: i64| -> Read<Option<bool>> {
        let sql = "SELECT data_key IS NOT NULL FROM leaves WHERE row >= ?1 ORDER BY row LIMIT 1";
        one(connection, sql, [row], |row| row.get(0))
    };
    let last: i64 =
        connection.prepare_cached("SELECT coalesce(max(row), 0) FROM leaves")?.query_row([], |row| row.get(0))?;
    let (mut low, mut high) = (1, last.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        (low, high) = if sealed(middle)? == Some(false) { (middle + 1, high) } else { (low, middle) };
    }
    let sql = "SELECT count(*) FROM leaves WHERE row < ?1 AND data_key IS NULL";
    connection.prepare_cached(sql)?.query_row([low], |row| rows::unsigned(row, 0))
}

pub(super) fn destroyed(connection: &Connection) -> Read<Vec<DestroyedKeys>> {
    all(connection, DESTROYED, [], |row| {
        let at = row.get::<_, Option<i64>>(1)?.map(UnixMillis);
        Ok(DestroyedKeys { left: row.get(0)?, at, keys: row.get(2)?, newest: Period(row.get(3)?) })
    })
}

/// Columns store_key, subject, period, wrapped from this one on.
pub(super) fn data_key(row: &Row<'_>, first: usize) -> Read<DataKeyRow> {
    Ok(DataKeyRow {
        store_key: row.get(first)?,
        subject: row.get(first + 1)?,
        period: row.get(first + 2)?,
        wrapped: row.get(first + 3)?,
    })
}

pub(super) fn subjects(connection: &Connection, query: &SubjectQuery) -> Read<Vec<SubjectLine>> {
    let sql = "SELECT n.subject, count(k.id), min(k.period), max(k.period), m.hold_by, m.hold_at, m.hold_reason,
                      m.erasure_by, m.erasure_at, m.erasure_reason, m.released_by, m.released_at
               FROM (SELECT subject FROM data_keys WHERE wrapped IS NOT NULL UNION SELECT subject FROM subject_marks) n
               LEFT JOIN data_keys k ON k.subject = n.subject AND k.wrapped IS NOT NULL
               LEFT JOIN subject_marks m ON m.subject = n.subject
               WHERE (?1 IS NULL OR n.subject = ?1) AND n.subject > ?2 GROUP BY n.subject ORDER BY n.subject LIMIT ?3";
    let named = query.named.as_ref().map(ToString::to_string);
    let after = query.after.as_deref().unwrap_or_default();
    all(connection, sql, params![named, after, query.limit.min(SUBJECTS_MAX)], |row| {
        let month = |column| {
            Ok::<_, rusqlite::Error>(row.get::<_, Option<i32>>(column)?.map(|month| Period(month).to_string()))
        };
        let at = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(UnixMillis));
        let text = |column| row.get::<_, Option<String>>(column);
        let why = text(9)?.unwrap_or_default();
        Ok(SubjectLine {
            subject: rows::text(row, 0)?,
            keys: row.get(1)?,
            first: month(2)?,
            last: month(3)?,
            hold: text(4)?.zip(at(5)?).zip(text(6)?).map(|((by, at), why)| (by, at, why)),
            erasure_asked: text(7)?.zip(at(8)?).map(|(by, at)| (by, at, why)),
            released: text(10)?.zip(at(11)?),
        })
    })
}
