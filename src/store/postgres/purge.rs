//! Forgetting single-use keys whose window has passed.

use std::sync::atomic::{AtomicI32, Ordering};

use super::load::Call;
use super::rows::Read;
use super::session::{Parameter, Session};
use super::signing;
use crate::kernel::types::{Day, UnixMillis};

/// The day on which nothing was left to forget. Windows move once a day, and until then looking again would read every
/// page whose index entry still speaks of a day that is gone.
#[derive(Debug)]
pub(super) struct Done(AtomicI32);

impl Done {
    pub(super) fn never() -> Self {
        Self(AtomicI32::new(i32::MIN))
    }

    pub(super) fn is_on(&self, now: UnixMillis) -> bool {
        self.0.load(Ordering::Relaxed) == Day::utc(now).0
    }

    pub(super) fn on(&self, now: UnixMillis) {
        self.0.store(Day::utc(now).0, Ordering::Relaxed);
    }
}

/// Removes at most `limit` keys of days before their window; those that another daemon is removing are left to it.
/// Answers how many.
///
/// # Errors
/// A statement's failure.
pub(super) async fn forget_keys(session: &mut Session, now: UnixMillis, limit: u32) -> Read<u32> {
    let mut removed = 0;
    for (sql, oldest) in [(BINDINGS, session.keep.oldest_binding(now)), (NONCES, session.keep.oldest_nonce(now))] {
        let left = i64::from(limit.saturating_sub(removed));
        let rows =
            session.query(&Call { sql: sql.into(), parameters: vec![Box::new(oldest.0), Box::new(left)] }).await?;
        removed += u32::try_from(rows.len())?;
    }
    let left = i64::from(limit.saturating_sub(removed));
    let oldest = session.keep.oldest_binding(now).0;
    let parameters: Vec<Parameter<'_>> = vec![Box::new(oldest), Box::new(left)];
    let rows = session.query(&Call { sql: signing::FORGET.into(), parameters }).await?;
    removed += u32::try_from(rows.len())?;
    session.query(&Call { sql: TURNS.into(), parameters: vec![] }).await?;
    let left = i64::from(limit.saturating_sub(removed));
    let rows = session.query(&Call { sql: PACES.into(), parameters: vec![Box::new(now.0), Box::new(left)] }).await?;
    removed += u32::try_from(rows.len())?;
    Ok(removed)
}

/// An hour after it was full again; those of one that is asked for just now are left.
const TURNS: &str = "DELETE FROM turns WHERE name = ANY (ARRAY(SELECT name FROM turns
    WHERE taken_until < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - 3600000000
    FOR UPDATE SKIP LOCKED))";
const PACES: &str = "DELETE FROM paces WHERE name = ANY (ARRAY(
    SELECT name FROM paces WHERE ends < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING 1";
const BINDINGS: &str = "DELETE FROM bindings WHERE scope = ANY (ARRAY(
    SELECT scope FROM bindings WHERE day < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING 1";
const NONCES: &str = "DELETE FROM nonces WHERE nonce = ANY (ARRAY(
    SELECT nonce FROM nonces WHERE day < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING 1";
