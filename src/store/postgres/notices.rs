//! The queue of messages to people. Each is claimed by one daemon at a time; the place in the log is locked by whoever
//! moves it.

use std::sync::LazyLock;

use tokio_postgres::Row;

use super::PostgresStore;
use super::lists::{Reading, unreadable};
use super::load::Call;
use super::reads::Ask;
use super::rows::{self, Read};
use super::session::{Parameter, Session};
use crate::kernel::notice::NoticeKind;
use crate::kernel::types::UnixMillis;
use crate::store::{
    Attempt, Message, NOTICES_MAX, NoticeAnswer, NoticeCounts, NoticePlace, NoticeQuery, NoticeState, NoticeStep,
    NoticeWork,
};

const COLUMNS: &str = "id, leaf, channel, kind, content, state, created, due, attempts, error, ended";
/// What `notice_place` holds before anybody has begun.
const NOT_BEGUN: i64 = -1;

impl PostgresStore {
    /// Of one snapshot.
    pub(super) fn read_notice_place(&self) -> Reading<NoticePlace> {
        let next = Ask::new("SELECT place FROM notice_place", vec![]);
        let early = Ask::new("SELECT leaf FROM notices_early ORDER BY leaf", vec![]);
        let answers = self.reads.rows(vec![next, early])?;
        let [next, early] = &answers[..] else {
            return Err(unreadable(&"two lists were asked for"));
        };
        let read = || -> Read<NoticePlace> {
            let next: Option<i64> = next.first().map(|row| rows::get(row, 0)).transpose()?;
            let early = early.iter().map(|row| rows::get(row, 0)).collect::<Read<_>>()?;
            Ok(NoticePlace { next: next.and_then(|next| u64::try_from(next).ok()), early })
        };
        read().map_err(|fault| unreadable(&fault))
    }

    pub(super) fn read_notices(&self, query: &NoticeQuery) -> Reading<Vec<Message>> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {COLUMNS} FROM notices WHERE ($1::text IS NULL OR state = $1)
                 AND ($2::bigint IS NULL OR created >= $2) AND ($3::bigint IS NULL OR (leaf, id) < ($3, $4::text))
                 AND ($6::text IS NULL OR channel = $6) AND ($7::text IS NULL OR kind = $7)
                 ORDER BY leaf DESC, id DESC LIMIT $5"
            )
        });
        let (leaf, id) = query.after.clone().unzip();
        let parameters: Vec<Parameter<'static>> = vec![
            Box::new(query.state.map(NoticeState::name)),
            Box::new(query.since.map(|since| since.0)),
            Box::new(leaf),
            Box::new(id),
            Box::new(i64::from(query.limit.min(NOTICES_MAX))),
            Box::new(query.channel.clone()),
            Box::new(query.kind.map(NoticeKind::name)),
        ];
        self.all(&SQL, parameters, message)
    }

    pub(super) fn read_notice(&self, id: &str) -> Reading<Option<Message>> {
        static SQL: LazyLock<String> = LazyLock::new(|| format!("SELECT {COLUMNS} FROM notices WHERE id = $1"));
        self.one(&SQL, vec![Box::new(id.to_owned())], message)
    }

    pub(super) fn read_is_due(&self, channel: &str, now: UnixMillis, latest: UnixMillis) -> Reading<bool> {
        let sql = "SELECT 1 FROM notices WHERE state = 'queued' AND (due <= $1 OR due > $2) AND channel = $3 LIMIT 1";
        let found =
            self.one(sql, vec![Box::new(now.0), Box::new(latest.0), Box::new(channel.to_owned())], |_| Ok(()))?;
        Ok(found.is_some())
    }

    pub(super) fn read_notice_counts(&self) -> Reading<NoticeCounts> {
        let sql = "SELECT state, count(*), min(due) FROM notices GROUP BY state";
        let read = |row: &Row| Ok((state(row, 0)?, rows::unsigned(row, 1)?, UnixMillis(rows::get(row, 2)?)));
        let mut counts = NoticeCounts::default();
        for (state, count, due) in self.all(sql, vec![], read)? {
            match state {
                NoticeState::Queued => (counts.queued, counts.due) = (count, Some(due)),
                NoticeState::Sent => counts.sent = count,
                NoticeState::Dead => counts.dead = count,
            }
        }
        Ok(counts)
    }
}

/// Carries one change out, in the commit that is open.
///
/// # Errors
/// A statement's failure.
pub(super) async fn work(session: &mut Session, work: &NoticeWork) -> Read<NoticeAnswer> {
    static CLAIM: LazyLock<String> = LazyLock::new(|| {
        format!(
            "UPDATE notices SET due = $3, attempts = attempts + 1 WHERE id = ANY (ARRAY(
                 SELECT id FROM notices WHERE state = 'queued' AND (due <= $2 OR due > $5) AND channel = ANY ($1::text[])
                 ORDER BY due, leaf LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED)) RETURNING {COLUMNS}"
        )
    });
    Ok(match work {
        NoticeWork::Step(taken) => step(session, taken).await?,
        NoticeWork::Claim { channels, now, latest, until, limit } => {
            let limit = i64::from((*limit).min(NOTICES_MAX));
            let parameters: Vec<Parameter<'_>> = vec![
                Box::new(channels.as_slice()),
                Box::new(now.0),
                Box::new(until.0),
                Box::new(limit),
                Box::new(latest.0),
            ];
            let claimed = session.query(&Call { sql: CLAIM.as_str().into(), parameters }).await?;
            let mut claimed = claimed.iter().map(message).collect::<Read<Vec<Message>>>()?;
            claimed.sort_by_key(|one| one.leaf);
            NoticeAnswer::Claimed(claimed)
        }
        NoticeWork::Settle(settled) => {
            let mut changed = 0;
            for (id, attempt, outcome) in settled {
                changed += settle(session, id, *attempt, outcome).await?;
            }
            NoticeAnswer::Changed(changed)
        }
        NoticeWork::Retry { ids, now } => {
            let sql = "UPDATE notices SET state = 'queued', created = $2, due = $2, attempts = 0, ended = NULL
                       WHERE state = 'dead' AND ($1::text[] IS NULL OR id = ANY ($1)) RETURNING 1";
            changed(session, sql, vec![Box::new(ids.as_deref()), Box::new(now.0)]).await?
        }
        NoticeWork::Abandon { channels, before, now, error, limit } => {
            let sql = "UPDATE notices SET state = 'dead', ended = $3, error = $4 WHERE id = ANY (ARRAY(
                       SELECT id FROM notices WHERE state = 'queued' AND created < $2 AND channel <> ALL ($1::text[])
                       LIMIT $5 FOR UPDATE SKIP LOCKED)) RETURNING 1";
            let parameters: Vec<Parameter<'_>> = vec![
                Box::new(channels.as_slice()),
                Box::new(before.0),
                Box::new(now.0),
                Box::new(error.as_str()),
                Box::new(i64::from(*limit)),
            ];
            changed(session, sql, parameters).await?
        }
        NoticeWork::Forget { before, limit } => {
            let sql = "DELETE FROM notices WHERE id = ANY (ARRAY(SELECT id FROM notices
                       WHERE state <> 'queued' AND ended < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING 1";
            changed(session, sql, vec![Box::new(before.0), Box::new(i64::from(*limit))]).await?
        }
    })
}

async fn changed(session: &mut Session, sql: &'static str, parameters: Vec<Parameter<'_>>) -> Read<NoticeAnswer> {
    let rows = session.query(&Call { sql: sql.into(), parameters }).await?;
    Ok(NoticeAnswer::Changed(u32::try_from(rows.len())?))
}

async fn step(session: &mut Session, step: &NoticeStep) -> Read<NoticeAnswer> {
    let place = "SELECT place FROM notice_place FOR UPDATE";
    let place = session.query(&Call { sql: place.into(), parameters: vec![] }).await?;
    let next: i64 = place.first().map(|row| rows::get(row, 0)).transpose()?.unwrap_or(NOT_BEGUN);
    let from = step.from.map_or(Ok(NOT_BEGUN), i64::try_from)?;
    // Looked at before anything is written: a step that does not fit leaves nothing behind.
    let open = "SELECT id FROM notices WHERE id = ANY ($1::text[]) AND state = 'queued' AND attempts = 0 FOR UPDATE";
    let ids: Vec<&str> = step.joined.iter().map(|(id, _)| id.as_str()).collect();
    let open = session.query(&Call { sql: open.into(), parameters: vec![Box::new(ids.as_slice())] }).await?;
    let early = "SELECT leaf FROM notices_early WHERE leaf = ANY ($1::bigint[])";
    let untold = step.new.iter().map(|one| one.leaf).filter(|leaf| !step.placed.contains(leaf));
    let untold: Vec<i64> = step.early.iter().copied().chain(untold).collect();
    let early = session.query(&Call { sql: early.into(), parameters: vec![Box::new(untold.as_slice())] }).await?;
    if next != from || open.len() != step.joined.len() || !early.is_empty() {
        return Ok(NoticeAnswer::Stale);
    }
    let to = i64::try_from(step.to)?;
    let mut calls: Vec<(&'static str, Vec<Parameter<'_>>)> = vec![
        ("UPDATE notice_place SET place = $1", vec![Box::new(to)]),
        ("DELETE FROM notices_early WHERE leaf = ANY ($1::bigint[])", vec![Box::new(step.placed.as_slice())]),
        ("INSERT INTO notices_early (leaf) SELECT * FROM unnest($1::bigint[])", vec![Box::new(step.early.as_slice())]),
    ];
    for (id, content) in &step.joined {
        let content = serde_json::to_string(content)?;
        calls.push(("UPDATE notices SET content = $2 WHERE id = $1", vec![Box::new(id.as_str()), Box::new(content)]));
    }
    for one in &step.new {
        calls.push((
            "INSERT INTO notices (id, leaf, channel, kind, content, state, created, due, attempts)
             VALUES ($1, $2, $3, $4, $5, 'queued', $6, $7, 0)",
            vec![
                Box::new(one.id.as_str()),
                Box::new(one.leaf),
                Box::new(one.channel.as_str()),
                Box::new(one.kind.name()),
                Box::new(serde_json::to_string(&one.content)?),
                Box::new(one.created.0),
                Box::new(one.due.0),
            ],
        ));
    }
    let calls = calls.into_iter().map(|(sql, parameters)| Call { sql: sql.into(), parameters }).collect();
    session.rows(calls).await?;
    Ok(NoticeAnswer::Done)
}

async fn settle(session: &mut Session, id: &str, attempt: u32, outcome: &Attempt) -> Read<u32> {
    let attempt = i64::from(attempt);
    let (sql, parameters): (&'static str, Vec<Parameter<'_>>) = match outcome {
        Attempt::Sent { at, note } => (
            "UPDATE notices SET state = 'sent', ended = $2, error = $3 WHERE id = $1 AND state <> 'sent' RETURNING 1",
            vec![Box::new(id), Box::new(at.0), Box::new(note.as_deref())],
        ),
        Attempt::Failed { due, error } => (
            "UPDATE notices SET due = $3, error = $4 WHERE id = $1 AND attempts = $2 AND state = 'queued' RETURNING 1",
            vec![Box::new(id), Box::new(attempt), Box::new(due.0), Box::new(error.as_str())],
        ),
        Attempt::Dead { at, error } => (
            "UPDATE notices SET state = 'dead', ended = $3, error = $4
             WHERE id = $1 AND attempts = $2 AND state = 'queued' RETURNING 1",
            vec![Box::new(id), Box::new(attempt), Box::new(at.0), Box::new(error.as_str())],
        ),
    };
    let rows = session.query(&Call { sql: sql.into(), parameters }).await?;
    Ok(u32::try_from(rows.len())?)
}

fn message(row: &Row) -> Read<Message> {
    Ok(Message {
        id: rows::get(row, 0)?,
        leaf: rows::get(row, 1)?,
        channel: rows::get(row, 2)?,
        kind: rows::named(row, 3, NoticeKind::ALL, NoticeKind::name)?,
        content: rows::json(row, 4)?,
        state: state(row, 5)?,
        created: UnixMillis(rows::get(row, 6)?),
        due: UnixMillis(rows::get(row, 7)?),
        attempts: u32::try_from(rows::get::<i64>(row, 8)?)?,
        error: rows::get(row, 9)?,
        ended: rows::get::<Option<i64>>(row, 10)?.map(UnixMillis),
    })
}

fn state(row: &Row, column: usize) -> Read<NoticeState> {
    rows::named(row, column, &NoticeState::ALL, NoticeState::name)
}
