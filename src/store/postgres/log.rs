//! The audit log's places and checkpoints, written under a lock that one daemon holds at a time.

use super::load::Call;
use super::rows::{self, Read};
use super::schema::Lock;
use super::session::{Parameter, Session};
use crate::store::SequenceStep;

/// A step that does not fit what is stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum Misplaced {
    #[error("the log has {found} leaves, the step starts at {expected}")]
    Size { found: u64, expected: u64 },
    #[error("{0} leaf rows of the step are not there or have their place already")]
    Leaves(u64),
    #[error("a checkpoint of {size} leaves does not follow a step that ends at {end}")]
    Checkpoint { size: u64, end: u64 },
    #[error("there is no checkpoint of {0} leaves")]
    NoCheckpoint(u64),
}

/// Gives leaves their places. Refused when the tree is not where the step starts.
///
/// # Errors
/// [`Misplaced`], a statement's failure.
pub(super) async fn sequence(session: &mut Session, step: &SequenceStep) -> Read<()> {
    let lock = format!("SELECT pg_advisory_xact_lock({})", Lock::Sequence.key());
    session.client.batch_execute(&lock).await?;
    let newest = "SELECT coalesce(max(place) + 1, 0) FROM places";
    let found = match session.query(&Call { sql: newest.into(), parameters: vec![] }).await?.first() {
        Some(row) => rows::unsigned(row, 0)?,
        None => 0,
    };
    if found != step.size_before {
        return Err(Box::new(Misplaced::Size { found, expected: step.size_before }));
    }
    let end = step.size_before.saturating_add(u64::try_from(step.rows.len())?);
    if step.checkpoint.size != end {
        return Err(Box::new(Misplaced::Checkpoint { size: step.checkpoint.size, end }));
    }
    // Taken off the list of those that wait: whoever is not on it has a place, or is no leaf.
    let taken = "DELETE FROM leaves_waiting WHERE row = ANY ($1::bigint[]) RETURNING row";
    let taken = session.query(&Call { sql: taken.into(), parameters: vec![Box::new(step.rows.as_slice())] }).await?;
    if taken.len() != step.rows.len() {
        let missing = step.rows.len().saturating_sub(taken.len());
        return Err(Box::new(Misplaced::Leaves(u64::try_from(missing)?)));
    }
    let places: Vec<i64> = (step.size_before..end).map(i64::try_from).collect::<Result<_, _>>()?;
    let levels: Vec<i16> = step.nodes.iter().map(|(level, ..)| i16::from(*level)).collect();
    let indices: Vec<i64> = step.nodes.iter().map(|(_, index, _)| i64::try_from(*index)).collect::<Result<_, _>>()?;
    let hashes: Vec<&[u8]> = step.nodes.iter().map(|(.., hash)| hash.0.as_slice()).collect();
    let checkpoint = &step.checkpoint;
    let size = i64::try_from(checkpoint.size)?;
    let calls: [(&'static str, Vec<Parameter<'_>>); 3] = [
        (
            "INSERT INTO places (place, row) SELECT * FROM unnest($1::bigint[], $2::bigint[])",
            vec![Box::new(places), Box::new(step.rows.as_slice())],
        ),
        (
            "INSERT INTO nodes (level, place, hash) SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[])",
            vec![Box::new(levels), Box::new(indices), Box::new(hashes)],
        ),
        // A step without leaves names the size that has its checkpoint already: the first note stands.
        (
            "INSERT INTO checkpoints (size, root, note) VALUES ($1, $2, $3) ON CONFLICT (size) DO NOTHING",
            vec![Box::new(size), Box::new(checkpoint.root.0.as_slice()), Box::new(checkpoint.note.as_slice())],
        ),
    ];
    let calls = calls.into_iter().map(|(sql, parameters)| Call { sql: sql.into(), parameters }).collect();
    session.rows(calls).await?;
    Ok(())
}

/// Keeps the first signed note of this size.
///
/// # Errors
/// [`Misplaced::NoCheckpoint`], a statement's failure.
pub(super) async fn store_signed_checkpoint(session: &mut Session, size: u64, signed: &[u8]) -> Read<()> {
    let number = i64::try_from(size)?;
    let sql = "UPDATE checkpoints SET signed = coalesce(signed, $2) WHERE size = $1 RETURNING size";
    let parameters: Vec<Parameter<'_>> = vec![Box::new(number), Box::new(signed)];
    if session.query(&Call { sql: sql.into(), parameters }).await?.is_empty() {
        return Err(Box::new(Misplaced::NoCheckpoint(size)));
    }
    Ok(())
}
