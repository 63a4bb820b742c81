//! Data keys of a database that several daemons write: each daemon makes its own, so that none waits for another. A
//! subject has one a month for each start of a daemon; whoever destroys them destroys all.

use std::collections::HashMap;
use std::sync::Arc;

use super::PostgresStore;
use super::load::Call;
use super::reads::Ask;
use super::rows::{self, Read};
use super::session::{Parameter, Session};
use super::sheet::Sheet;
use crate::kernel::decide::{Change, RowFault, Said, SubjectRow};
use crate::kernel::subject::{DataSubject, Period};
use crate::kernel::types::UnixMillis;
use crate::store::sealing::{ALL_HELD, DESTROYED, DataKey, DataKeyRow, FORGET_MARKS, KeysClosed, LeafRow, open};
use crate::store::{DestroyedKeys, KeyWork, LeafRecord, StoreFault, StoreKey, SubjectLine, SubjectQuery};

/// Subjects whose key of this month a session remembers: about a kilobyte each.
const REMEMBERED_MAX: usize = 20_000;
const SUBJECTS_MAX: u32 = 1_001;

/// Data keys by subject, of the month in which they were used last.
pub(super) type Known = HashMap<DataSubject, (Period, Arc<DataKey>)>;

/// Data keys that are committed and may be used again.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    known: Known,
    /// How often keys had been destroyed when these were made.
    changes: i64,
    /// Whether a leaf was ever sealed, if that was asked.
    was_sealed: Option<bool>,
}

impl Remembered {
    /// Forgets them when keys were destroyed since, by whichever daemon: this commit holds the lock that whoever destroys
    /// takes alone.
    pub(super) fn as_of(&mut self, changes: i64) {
        if self.changes != changes || self.known.len() > REMEMBERED_MAX {
            self.known.clear();
            self.was_sealed = None;
            self.changes = changes;
        }
    }

    /// Keeps the keys of a commit that came about.
    pub(super) fn learn(&mut self, made: &mut Known) {
        self.known.extend(made.drain());
    }
}

/// A data key that is not in the database yet.
#[derive(Debug)]
pub(super) struct NewDataKey {
    pub(super) id: i64,
    pub(super) row: DataKeyRow,
    pub(super) made: UnixMillis,
}

/// The data key that seals a leaf about this subject. None where nothing was ever sealed and nobody has opened the keys.
///
/// # Errors
/// [`KeysClosed`]; a statement's failure.
pub(super) async fn data_key(
    session: &mut Session,
    sheet: &mut Sheet,
    subject: &DataSubject,
    at: UnixMillis,
    changes: &[Change],
) -> Result<Option<Arc<DataKey>>, RowFault> {
    let Some(ring) = session.sealing.ring() else {
        return if was_sealed(session).await? { Err(Box::new(KeysClosed)) } else { Ok(None) };
    };
    // What this very decision destroys seals nothing more.
    if changes.iter().any(|change| matches!(change, Change::DestroyKeys { .. })) {
        sheet.keys_destroyed = true;
        sheet.known_keys.clear();
    }
    let period = Period::of(at);
    let remembered = if sheet.keys_destroyed { None } else { session.data_keys.known.get(subject) };
    if let Some((of, key)) = sheet.known_keys.get(subject).or(remembered)
        && *of == period
    {
        return Ok(Some(Arc::clone(key)));
    }
    let id = sheet.next_row()?;
    let (key, row) = ring.make(id, &subject.to_string(), period)?;
    let key = Arc::new(key);
    sheet.new_keys.push(NewDataKey { id, row, made: at });
    sheet.known_keys.insert(subject.clone(), (period, Arc::clone(&key)));
    Ok(Some(key))
}

async fn was_sealed(session: &mut Session) -> Read<bool> {
    if let Some(sealed) = session.data_keys.was_sealed {
        return Ok(sealed);
    }
    let sealed =
        !session.query(&Call { sql: "SELECT id FROM store_keys LIMIT 1".into(), parameters: vec![] }).await?.is_empty();
    session.data_keys.was_sealed = Some(sealed);
    Ok(sealed)
}

/// Changes store keys.
pub(super) async fn work(session: &mut Session, work: &KeyWork) -> Read<()> {
    let (sql, key) = match work {
        KeyWork::Keep(key) => (
            "INSERT INTO store_keys (id, wrapping_key, wrapped, made, first_row) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (id) DO NOTHING",
            key,
        ),
        KeyWork::Rewrap(key) => {
            ("UPDATE store_keys SET wrapping_key = $2, wrapped = $3, first_row = $5 WHERE id = $1 AND made = $4", key)
        }
    };
    let parameters: Vec<Parameter<'_>> = vec![
        Box::new(key.id),
        Box::new(key.wrapping_key.0.as_slice()),
        Box::new(key.wrapped.as_slice()),
        Box::new(key.made.0),
        Box::new(key.first_row),
    ];
    session.query(&Call { sql: sql.into(), parameters }).await?;
    // A daemon that seals nothing yet finds out before its next leaf.
    let tell = "UPDATE key_changes SET count = count + 1";
    session.query(&Call { sql: tell.into(), parameters: vec![] }).await?;
    Ok(())
}

/// What is known of a subject, inside the deciding commit.
pub(super) async fn subject(session: &mut Session, subject: &DataSubject) -> Read<SubjectRow> {
    let name = || -> Vec<Parameter<'static>> { vec![Box::new(subject.to_string())] };
    let keys = "SELECT id FROM data_keys WHERE subject = $1 AND wrapped IS NOT NULL ORDER BY id";
    let keys = session.query(&Call { sql: keys.into(), parameters: name() }).await?;
    let keys = keys.iter().map(|row| rows::get(row, 0)).collect::<Read<Vec<i64>>>()?;
    let all_held = session.query(&Call { sql: ALL_HELD.into(), parameters: vec![] }).await?;
    let all_held = all_held.first().map_or(Ok(false), |row| rows::get(row, 0))?;
    let marks = "SELECT hold_at IS NOT NULL, erasure_by, erasure_at, released_by, released_at
                 FROM subject_marks WHERE subject = $1";
    let marks = session.query(&Call { sql: marks.into(), parameters: name() }).await?;
    let Some(row) = marks.first() else {
        return Ok(SubjectRow { keys, all_held, ..SubjectRow::default() });
    };
    let said = |by: usize| -> Read<Option<Said>> {
        let at = rows::get::<Option<i64>>(row, by + 1)?.map(UnixMillis);
        Ok(rows::get::<Option<String>>(row, by)?.zip(at).map(|(by, at)| Said { by, at }))
    };
    Ok(SubjectRow { keys, held: rows::get(row, 0)?, all_held, erasure_asked: said(1)?, released: said(3)? })
}

/// Data keys of months before this one, but for those of subjects that are held.
pub(super) async fn keys_before(session: &mut Session, before: Period, limit: u32) -> Read<Vec<i64>> {
    let sql = "SELECT k.id FROM data_keys k WHERE k.period < $1 AND k.wrapped IS NOT NULL AND NOT EXISTS
                   (SELECT 1 FROM subject_marks m WHERE m.subject IN (k.subject, 'all') AND m.hold_at IS NOT NULL)
               ORDER BY k.period, k.id LIMIT $2";
    let parameters: Vec<Parameter<'_>> = vec![Box::new(before.0), Box::new(i64::from(limit))];
    let keys = session.query(&Call { sql: sql.into(), parameters }).await?;
    keys.iter().map(|row| rows::get(row, 0)).collect()
}

pub(super) fn hold<'a>(subject: &DataSubject, by: &'a str, at: UnixMillis, reason: &'a str) -> Call<'a> {
    Call {
        sql: "INSERT INTO subject_marks (subject, hold_by, hold_at, hold_reason) VALUES ($1, $2, $3, $4)
              ON CONFLICT (subject) DO UPDATE SET hold_by = excluded.hold_by, hold_at = excluded.hold_at,
              hold_reason = excluded.hold_reason"
            .into(),
        parameters: vec![Box::new(subject.to_string()), Box::new(by), Box::new(at.0), Box::new(reason)],
    }
}

pub(super) fn release<'a>(subject: &DataSubject, by: &'a str, at: UnixMillis) -> Call<'a> {
    Call {
        sql: "UPDATE subject_marks SET hold_by = NULL, hold_at = NULL, hold_reason = NULL, released_by = $2,
              released_at = $3 WHERE subject = $1"
            .into(),
        parameters: vec![Box::new(subject.to_string()), Box::new(by), Box::new(at.0)],
    }
}

pub(super) fn ask_erasure<'a>(subject: &DataSubject, by: &'a str, at: UnixMillis, reason: &'a str) -> Call<'a> {
    Call {
        sql: "INSERT INTO subject_marks (subject, erasure_by, erasure_at, erasure_reason) VALUES ($1, $2, $3, $4)
              ON CONFLICT (subject) DO UPDATE SET erasure_by = excluded.erasure_by, erasure_at = excluded.erasure_at,
              erasure_reason = excluded.erasure_reason"
            .into(),
        parameters: vec![Box::new(subject.to_string()), Box::new(by), Box::new(at.0), Box::new(reason)],
    }
}

/// Every daemon forgets the data keys that it remembers before its next leaf.
pub(super) fn destroy<'a>(
    keys: &'a [i64],
    left: &'a str,
    forget: Option<&DataSubject>,
    at: UnixMillis,
) -> impl Iterator<Item = Call<'a>> + use<'a> {
    let destroy = Call {
        sql: "UPDATE data_keys SET wrapped = NULL, subject = $2, destroyed = $3 WHERE id = ANY ($1::bigint[])".into(),
        parameters: vec![Box::new(keys), Box::new(left), Box::new(at.0)],
    };
    let tell = Call { sql: "UPDATE key_changes SET count = count + 1".into(), parameters: vec![] };
    let forget = forget.map(|subject| Call {
        sql: "DELETE FROM subject_marks WHERE subject = $1".into(),
        parameters: vec![Box::new(subject.to_string())],
    });
    let nobodys = Call { sql: FORGET_MARKS.into(), parameters: vec![] };
    [destroy, tell].into_iter().chain(forget).chain([nobodys])
}

impl PostgresStore {
    /// Opens what is sealed of these leaves.
    pub(super) fn opened(&self, rows: Vec<LeafRow>) -> Result<Vec<LeafRecord>, StoreFault> {
        let store_key = |id: i64| -> Result<Option<StoreKey>, StoreFault> {
            Ok(self.read_store_keys()?.into_iter().find(|key| key.id == id))
        };
        open(self.sealing.ring().as_deref(), rows, store_key)
    }

    pub(super) fn read_store_keys(&self) -> Result<Vec<StoreKey>, StoreFault> {
        let sql = "SELECT id, wrapping_key, wrapped, made, first_row FROM store_keys ORDER BY id";
        self.all(sql, vec![], |row| {
            let (wrapping_key, first_row) = (rows::sha256(row, 1)?, rows::get(row, 4)?);
            let (id, made) = (rows::get(row, 0)?, UnixMillis(rows::get(row, 3)?));
            Ok(StoreKey { id, wrapping_key, first_row, wrapped: rows::get(row, 2)?, made })
        })
    }

    /// The first row that is sealed, or the next one.
    pub(super) fn read_first_sealed_row(&self) -> Result<i64, StoreFault> {
        // Without data keys nothing is sealed, and nobody reads all leaves to find that out.
        let sql = "SELECT coalesce(
                       (SELECT row FROM leaves WHERE data_key IS NOT NULL AND EXISTS (SELECT 1 FROM data_keys)
                        ORDER BY row LIMIT 1),
                       (SELECT max(row) + 1 FROM leaves), 1)";
        Ok(self.one(sql, vec![], |row| rows::get(row, 0))?.unwrap_or(1))
    }

    pub(super) fn read_subjects(&self, query: &SubjectQuery) -> Result<Vec<SubjectLine>, StoreFault> {
        let sql = "SELECT n.subject, count(k.id), min(k.period), max(k.period), m.hold_by, m.hold_at, m.hold_reason,
                          m.erasure_by, m.erasure_at, m.erasure_reason, m.released_by, m.released_at
                   FROM (SELECT subject FROM data_keys WHERE wrapped IS NOT NULL AND ($1::text IS NULL OR subject = $1)
                         UNION SELECT subject FROM subject_marks WHERE $1::text IS NULL OR subject = $1) n
                   LEFT JOIN data_keys k ON k.subject = n.subject AND k.wrapped IS NOT NULL
                   LEFT JOIN subject_marks m ON m.subject = n.subject
                   WHERE n.subject > $2
                   GROUP BY n.subject, m.subject
                   ORDER BY n.subject LIMIT $3";
        let parameters: Vec<Parameter<'static>> = vec![
            Box::new(query.named.as_ref().map(ToString::to_string)),
            Box::new(query.after.clone().unwrap_or_default()),
            Box::new(i64::from(query.limit.min(SUBJECTS_MAX))),
        ];
        self.all(sql, parameters, |row| {
            let month = |column| {
                Ok::<_, RowFault>(rows::get::<Option<i32>>(row, column)?.map(|month| Period(month).to_string()))
            };
            let at = |column| Ok::<_, RowFault>(rows::get::<Option<i64>>(row, column)?.map(UnixMillis));
            let by = |column| rows::get::<Option<String>>(row, column);
            let why = by(9)?.unwrap_or_default();
            Ok(SubjectLine {
                subject: rows::text(row, 0)?,
                keys: u32::try_from(rows::get::<i64>(row, 1)?)?,
                first: month(2)?,
                last: month(3)?,
                hold: by(4)?.zip(at(5)?).zip(by(6)?).map(|((by, at), why)| (by, at, why)),
                erasure_asked: by(7)?.zip(at(8)?).map(|(by, at)| (by, at, why)),
                released: by(10)?.zip(at(11)?),
            })
        })
    }

    pub(super) fn read_destroyed_keys(&self) -> Result<Vec<DestroyedKeys>, StoreFault> {
        self.all(DESTROYED, vec![], |row| {
            Ok(DestroyedKeys {
                left: rows::get(row, 0)?,
                at: rows::get::<Option<i64>>(row, 1)?.map(UnixMillis),
                keys: u32::try_from(rows::get::<i64>(row, 2)?)?,
                newest: Period(rows::get(row, 3)?),
            })
        })
    }

    pub(super) fn read_leaves_in_the_clear(&self) -> Result<u64, StoreFault> {
        let rows = self.reads.rows(vec![Ask::new("SELECT count(*) FROM leaves WHERE data_key IS NULL", vec![])])?;
        let count = rows.iter().flatten().next().map(|row| row.get::<_, i64>(0)).unwrap_or_default();
        Ok(u64::try_from(count).unwrap_or_default())
    }
}
