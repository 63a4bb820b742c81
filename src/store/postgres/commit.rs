//! One commit: read ahead and lock, decide each command, write everything, COMMIT. Two round trips when the footprint
//! was guessed right.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio_postgres::Error;

use super::apply::ROWS_OF_A_COMMAND;
use super::ask::ask;
use super::footprint::Footprint;
use super::load::{Call, ROWS, Wanted, What};
use super::log;
use super::pipeline::Ended;
use super::purge;
use super::schema::Lock;
use super::session::{Meaning, Session, meaning, said};
use super::sheet::{Key, Missing, Sheet};
use super::writer::{Answer, Work};
use crate::kernel::command::{Command, Decision};
use crate::kernel::decide::{RowFault, decide};

/// A command that asks for more than this many round trips of its own is a defect of ours.
const FETCHES_MAX: usize = 256;

/// Why a commit did not come about.
#[derive(Debug)]
pub(super) enum Failed {
    /// Nothing was written and the connection is sound. `again`: another daemon's commit came between.
    RolledBack { message: String, again: bool },
    /// Nothing was written; the connection is not to be used again.
    NotBegun(String),
    /// Nobody knows; the connection is not to be used again.
    Unknown(String),
}

/// Why the work stopped before COMMIT.
enum Stopped {
    Fault(RowFault),
    /// The server has ended the transaction already.
    Undone(Error),
    Unknown(Error),
}

impl<E: Into<RowFault>> From<E> for Stopped {
    fn from(fault: E) -> Self {
        Self::Fault(fault.into())
    }
}

/// Carries out all the work in one transaction. `committing` becomes true when COMMIT may have been sent.
pub(super) async fn attempt(
    session: &mut Session,
    work: &[&Work],
    committing: &AtomicBool,
) -> Result<Vec<Answer>, Failed> {
    let warnings = session.warnings();
    match run(session, work, committing).await {
        Ok(answers) if session.warnings() == warnings => Ok(answers),
        // A standby that did not confirm is told of in a warning only, after COMMIT took hold here.
        Ok(_) => Err(Failed::Unknown("the server warned while it committed: see the log".into())),
        Err(Stopped::Unknown(error)) => Err(Failed::Unknown(said(&error))),
        Err(Stopped::Undone(error)) => Err(undone(&error)),
        Err(Stopped::Fault(fault)) => {
            let failed = match fault.downcast_ref::<Error>() {
                Some(error) => undone(error),
                None => Failed::RolledBack { message: fault.to_string(), again: false },
            };
            if let Failed::NotBegun(_) = failed {
                return Err(failed);
            }
            match session.client.batch_execute("ROLLBACK").await {
                Ok(()) => Err(failed),
                // Without COMMIT the server gives up the transaction with the connection.
                Err(error) => Err(Failed::NotBegun(said(&error))),
            }
        }
    }
}

fn undone(error: &Error) -> Failed {
    match meaning(error) {
        Meaning::TryAgain => Failed::RolledBack { message: said(error), again: true },
        Meaning::Refused => Failed::RolledBack { message: said(error), again: false },
        Meaning::Lost => Failed::NotBegun(said(error)),
    }
}

async fn run(session: &mut Session, work: &[&Work], committing: &AtomicBool) -> Result<Vec<Answer>, Stopped> {
    let commands = work.iter().flat_map(|work| match work {
        Work::Apply(commands) => commands.as_slice(),
        Work::Sequence(_) | Work::SignedCheckpoint { .. } | Work::ForgetKeys { .. } => &[],
    });
    let footprint = Footprint::of(commands);
    let mut sheet = Sheet { keep: session.keep, ..Sheet::default() };
    begin(session, &mut sheet, &footprint).await?;

    let mut answers = Vec::with_capacity(work.len());
    for work in work {
        answers.push(match work {
            Work::Apply(commands) => {
                let mut decisions = Vec::with_capacity(commands.len());
                for command in commands {
                    decisions.push(one(session, &mut sheet, command).await?);
                }
                Answer::Decisions(decisions)
            }
            Work::Sequence(step) => {
                log::sequence(session, step).await?;
                Answer::Done
            }
            Work::SignedCheckpoint { size, signed } => {
                log::store_signed_checkpoint(session, *size, signed).await?;
                Answer::Done
            }
            Work::ForgetKeys { now, limit } => Answer::Forgotten(purge::forget_keys(session, *now, *limit).await?),
        });
    }

    let mut calls = sheet.pending()?;
    calls.extend(sheet.batch()?);
    let prepared = session.prepared(calls).await?;
    committing.store(true, Ordering::SeqCst);
    match session.pipeline(prepared).commit().await {
        Ended::Committed => Ok(answers),
        Ended::NotSent(error) => Err(Stopped::from(error)),
        Ended::Undone(error) => Err(Stopped::Undone(error)),
        Ended::Unknown(error) => Err(Stopped::Unknown(error)),
    }
}

/// BEGIN, the shared lock, and everything that the footprint names, in one round trip.
async fn begin(session: &mut Session, sheet: &mut Sheet, footprint: &Footprint) -> Result<(), Stopped> {
    let lock = if footprint.alone { "pg_advisory_xact_lock" } else { "pg_advisory_xact_lock_shared" };
    let text = format!("BEGIN; SELECT {lock}({})", Lock::Authority.key());
    let wanted = Wanted::of(footprint);
    let (kinds, calls): (Vec<What>, Vec<Call<'_>>) = wanted.calls(true).into_iter().unzip();
    let prepared = session.prepared(calls).await?;
    let mut rows = session.pipeline_after(&text, prepared).rows().await?;
    let rows = rows.split_off(1);
    Ok(sheet.take(footprint, kinds.into_iter().zip(rows).collect())?)
}

/// Decides one command on the sheet, fetching what it lacks, and carries it out there.
async fn one(session: &mut Session, sheet: &mut Sheet, command: &Command) -> Result<Decision, Stopped> {
    for _ in 0..FETCHES_MAX {
        if sheet.rows.end - sheet.rows.next < ROWS_OF_A_COMMAND {
            more_rows(session, sheet).await?;
        }
        let decided = match decide(sheet, command) {
            Ok(decided) => decided,
            Err(fault) => match fault.downcast::<Missing>() {
                Ok(missing) => {
                    fetch(session, sheet, vec![missing.0]).await?;
                    continue;
                }
                Err(fault) => return Err(Stopped::Fault(fault)),
            },
        };
        let lacking = sheet.lacking(&decided.changes);
        if !lacking.is_empty() {
            fetch(session, sheet, lacking).await?;
            continue;
        }
        return Ok(sheet.apply(command, decided)?);
    }
    Err(Stopped::Fault("a decision asked for rows without end".into()))
}

/// Writes what is pending, so that the database and the sheet agree, and reads these keys.
async fn fetch(session: &mut Session, sheet: &mut Sheet, keys: Vec<Key>) -> Result<(), Stopped> {
    let footprint = Footprint::exactly(keys);
    let pending = sheet.pending()?;
    let written = pending.len();
    let wanted = Wanted::of(&footprint);
    let (kinds, calls): (Vec<What>, Vec<Call<'_>>) = wanted.calls(false).into_iter().unzip();
    let mut rows = session.rows(pending.into_iter().chain(calls).collect()).await?;
    let rows = rows.split_off(written);
    sheet.written();
    sheet.take(&footprint, kinds.into_iter().zip(rows).collect())?;
    for key in footprint.keys {
        if let Key::Question(question) = key {
            let answer = ask(session, &question).await?;
            sheet.answers.insert(question, answer);
        }
    }
    Ok(())
}

async fn more_rows(session: &mut Session, sheet: &mut Sheet) -> Result<(), Stopped> {
    let call = Call { sql: ROWS, parameters: vec![] };
    let rows = session.rows(vec![call]).await?.into_iter().map(|rows| (What::Rows, rows)).collect();
    Ok(sheet.take(&Footprint::default(), rows)?)
}
