//! The queue of messages to people.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::log::{all, one};
use super::rows;
use crate::kernel::decide::RowFault;
use crate::kernel::notice::NoticeKind;
use crate::kernel::types::UnixMillis;
use crate::store::{
    Attempt, Message, NOTICES_MAX, NoticeAnswer, NoticeCounts, NoticePlace, NoticeQuery, NoticeState, NoticeStep,
    NoticeWork,
};

type Read<T> = rusqlite::Result<T>;

const MESSAGE: &str =
    "SELECT id, leaf, channel, kind, content, state, created, due, attempts, error, ended FROM notices";

/// What `notice_place` holds before anybody has begun.
const NOT_BEGUN: i64 = -1;

pub(super) fn place(connection: &Connection) -> Read<NoticePlace> {
    let next: i64 = connection.prepare_cached("SELECT place FROM notice_place")?.query_row([], |row| row.get(0))?;
    let early = all(connection, "SELECT leaf FROM notices_early ORDER BY leaf", [], |row| row.get(0))?;
    Ok(NoticePlace { next: u64::try_from(next).ok(), early })
}

pub(super) fn list(connection: &Connection, query: &NoticeQuery) -> Read<Vec<Message>> {
    let sql = format!(
        "{MESSAGE} WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR created >= ?2)
         AND (?3 IS NULL OR (leaf, id) < (?3, ?4)) AND (?6 IS NULL OR channel = ?6) AND (?7 IS NULL OR kind = ?7)
         ORDER BY leaf DESC, id DESC LIMIT ?5"
    );
    let (leaf, id) = query.after.clone().unzip();
    let parameters = params![
        query.state.map(NoticeState::name),
        query.since.map(|since| since.0),
        leaf,
        id,
        query.limit.min(NOTICES_MAX),
        query.channel,
        query.kind.map(NoticeKind::name)
    ];
    all(connection, &sql, parameters, message)
}

pub(super) fn get(connection: &Connection, id: &str) -> Read<Option<Message>> {
    one(connection, &format!("{MESSAGE} WHERE id = ?1"), [id], message)
}

pub(super) fn counts(connection: &Connection) -> Read<NoticeCounts> {
    let sql = "SELECT state, count(*), min(due) FROM notices GROUP BY state";
    let mut counts = NoticeCounts::default();
    for (state, count, due) in
        all(connection, sql, [], |row| Ok((state(row, 0)?, rows::unsigned(row, 1)?, row.get(2)?)))?
    {
        match state {
            NoticeState::Queued => {
                counts.queued = count;
                counts.due = Some(UnixMillis(due));
            }
            NoticeState::Sent => counts.sent = count,
            NoticeState::Dead => counts.dead = count,
        }
    }
    Ok(counts)
}

/// Whether a message to this channel is due, or due after `latest`.
pub(super) fn is_due(connection: &Connection, channel: &str, now: UnixMillis, latest: UnixMillis) -> Read<bool> {
    let sql = "SELECT 1 FROM notices WHERE state = 'queued' AND (due <= ?1 OR due > ?2) AND channel = ?3 LIMIT 1";
    Ok(one(connection, sql, params![now.0, latest.0, channel], |_| Ok(()))?.is_some())
}

/// Carries one change out, in the commit that is open.
pub(super) fn work(connection: &Connection, work: &NoticeWork) -> Result<NoticeAnswer, RowFault> {
    Ok(match work {
        NoticeWork::Step(taken) => step(connection, taken)?,
        NoticeWork::Claim { channels, now, latest, until, limit } => {
            let channels = serde_json::to_string(channels)?;
            let due = "SELECT id FROM notices WHERE state = 'queued' AND (due <= ?1 OR due > ?4)
                       AND channel IN (SELECT value FROM json_each(?2)) ORDER BY due, leaf LIMIT ?3";
            let limit = (*limit).min(NOTICES_MAX);
            let ids: Vec<String> = all(connection, due, params![now.0, channels, limit, latest.0], |row| row.get(0))?;
            let mut claim =
                connection.prepare_cached("UPDATE notices SET due = ?2, attempts = attempts + 1 WHERE id = ?1")?;
            let mut claimed = Vec::with_capacity(ids.len());
            for id in ids {
                claim.execute(params![id, until.0])?;
                claimed.extend(get(connection, &id)?);
            }
            NoticeAnswer::Claimed(claimed)
        }
        NoticeWork::Settle(settled) => {
            let mut changed = 0;
            for (id, attempt, outcome) in settled {
                changed += settle(connection, id, *attempt, outcome)?;
            }
            NoticeAnswer::Changed(u32::try_from(changed)?)
        }
        NoticeWork::Retry { ids, now } => {
            let ids = ids.as_ref().map(serde_json::to_string).transpose()?;
            let sql = "UPDATE notices SET state = 'queued', created = ?2, due = ?2, attempts = 0, ended = NULL
                       WHERE state = 'dead' AND (?1 IS NULL OR id IN (SELECT value FROM json_each(?1)))";
            NoticeAnswer::Changed(u32::try_from(connection.prepare_cached(sql)?.execute(params![ids, now.0])?)?)
        }
        NoticeWork::Abandon { channels, before, now, error, limit } => {
            let channels = serde_json::to_string(channels)?;
            let sql = "UPDATE notices SET state = 'dead', ended = ?3, error = ?4 WHERE id IN
                       (SELECT id FROM notices WHERE state = 'queued' AND created < ?2
                        AND channel NOT IN (SELECT value FROM json_each(?1)) LIMIT ?5)";
            let parameters = params![channels, before.0, now.0, error, limit];
            NoticeAnswer::Changed(u32::try_from(connection.prepare_cached(sql)?.execute(parameters)?)?)
        }
        NoticeWork::Forget { before, limit } => {
            let sql = "DELETE FROM notices WHERE id IN
                       (SELECT id FROM notices WHERE state <> 'queued' AND ended < ?1 LIMIT ?2)";
            NoticeAnswer::Changed(u32::try_from(connection.prepare_cached(sql)?.execute(params![before.0, limit])?)?)
        }
    })
}

fn step(connection: &Connection, step: &NoticeStep) -> Result<NoticeAnswer, RowFault> {
    let next: i64 = connection.prepare_cached("SELECT place FROM notice_place")?.query_row([], |row| row.get(0))?;
    let from = step.from.map_or(Ok(NOT_BEGUN), i64::try_from)?;
    let open = "SELECT 1 FROM notices WHERE id = ?1 AND state = 'queued' AND attempts = 0";
    let mut open = connection.prepare_cached(open)?;
    let mut early = connection.prepare_cached("SELECT 1 FROM notices_early WHERE leaf = ?1")?;
    // Looked at before anything is written: a step that does not fit leaves nothing behind.
    for (id, _) in &step.joined {
        if open.query_row([id], |_| Ok(())).optional()?.is_none() {
            return Ok(NoticeAnswer::Stale);
        }
    }
    let untold = step.new.iter().map(|one| &one.leaf).filter(|leaf| !step.placed.contains(leaf));
    for leaf in step.early.iter().chain(untold) {
        if early.query_row([leaf], |_| Ok(())).optional()?.is_some() {
            return Ok(NoticeAnswer::Stale);
        }
    }
    if next != from {
        return Ok(NoticeAnswer::Stale);
    }
    connection.prepare_cached("UPDATE notice_place SET place = ?1")?.execute([i64::try_from(step.to)?])?;
    let mut placed = connection.prepare_cached("DELETE FROM notices_early WHERE leaf = ?1")?;
    for leaf in &step.placed {
        placed.execute([leaf])?;
    }
    let mut early = connection.prepare_cached("INSERT INTO notices_early (leaf) VALUES (?1)")?;
    for leaf in &step.early {
        early.execute([leaf])?;
    }
    let mut joined = connection.prepare_cached("UPDATE notices SET content = ?2 WHERE id = ?1")?;
    for (id, content) in &step.joined {
        joined.execute(params![id, serde_json::to_string(content)?])?;
    }
    let insert = "INSERT INTO notices (id, leaf, channel, kind, content, state, created, due)
                  VALUES (?1, ?2, ?3, ?4, ?5, 'queued', ?6, ?7)";
    let mut insert = connection.prepare_cached(insert)?;
    for one in &step.new {
        let content = serde_json::to_string(&one.content)?;
        insert.execute(params![one.id, one.leaf, one.channel, one.kind.name(), content, one.created.0, one.due.0])?;
    }
    Ok(NoticeAnswer::Done)
}

fn settle(connection: &Connection, id: &str, attempt: u32, outcome: &Attempt) -> Result<usize, RowFault> {
    Ok(match outcome {
        Attempt::Sent { at, note } => {
            let sql = "UPDATE notices SET state = 'sent', ended = ?2, error = ?3 WHERE id = ?1 AND state <> 'sent'";
            connection.prepare_cached(sql)?.execute(params![id, at.0, note])?
        }
        Attempt::Failed { due, error } => {
            let sql = "UPDATE notices SET due = ?3, error = ?4 WHERE id = ?1 AND attempts = ?2 AND state = 'queued'";
            connection.prepare_cached(sql)?.execute(params![id, attempt, due.0, error])?
        }
        Attempt::Dead { at, error } => {
            let sql = "UPDATE notices SET state = 'dead', ended = ?3, error = ?4
                       WHERE id = ?1 AND attempts = ?2 AND state = 'queued'";
            connection.prepare_cached(sql)?.execute(params![id, attempt, at.0, error])?
        }
    })
}

fn message(row: &Row<'_>) -> Read<Message> {
    Ok(Message {
        id: row.get(0)?,
        leaf: row.get(1)?,
        channel: row.get(2)?,
        kind: rows::named(row, 3, NoticeKind::ALL, NoticeKind::name)?,
        content: rows::json(row, 4)?,
        state: state(row, 5)?,
        created: UnixMillis(row.get(6)?),
        due: UnixMillis(row.get(7)?),
        attempts: row.get(8)?,
        error: row.get(9)?,
        ended: row.get::<_, Option<i64>>(10)?.map(UnixMillis),
    })
}

fn state(row: &Row<'_>, column: usize) -> Read<NoticeState> {
    rows::named(row, column, &NoticeState::ALL, NoticeState::name)
}
