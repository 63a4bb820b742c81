//! Limits that daemons share: until when their turns are taken, by the server's clock.

use std::time::Duration;

use super::load::Call;
use super::rows::{self, Read};
use super::session::{Parameter, Session};
use crate::store::Turn;

/// One statement: it waits for whoever is taking a turn of the same limit, and sees what was taken. What was taken while
/// the server's clock was ahead leaves one turn now, and the rest as time goes ([`Turn::ahead_us`]).
const TAKE: &str = "WITH now AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS us)
    INSERT INTO turns (name, taken_until) SELECT $1, us + $2 FROM now
    ON CONFLICT (name) DO UPDATE SET taken_until =
        CASE WHEN turns.taken_until > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $4
            THEN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $3
            ELSE greatest(turns.taken_until, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) + $2 END
    WHERE turns.taken_until > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $4
        OR greatest(turns.taken_until, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) + $2
            <= (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $3
    RETURNING taken_until";
const WAITING: &str = "SELECT taken_until, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    FROM turns WHERE name = $1";

/// Takes a turn, or says how long until there is one.
///
/// # Errors
/// A statement's failure.
pub(super) async fn take(session: &mut Session, turn: &Turn) -> Read<Option<Duration>> {
    let parameters: Vec<Parameter<'_>> = vec![
        Box::new(turn.name.as_str()),
        Box::new(turn.interval_us),
        Box::new(turn.span_us()),
        Box::new(turn.ahead_us()),
    ];
    if !session.query(&Call { sql: TAKE.into(), parameters }).await?.is_empty() {
        return Ok(None);
    }
    let call = Call { sql: WAITING.into(), parameters: vec![Box::new(turn.name.as_str())] };
    let waiting = session.query(&call).await?;
    // Between the two a turn may have become free: then the shortest wait is right.
    match waiting.first() {
        Some(row) => Ok(Some(turn.wait(rows::get(row, 0)?, rows::get(row, 1)?))),
        None => Ok(Some(Duration::from_millis(1))),
    }
}
