//! One commit: read ahead and lock, decide each command, write everything, COMMIT. Two round trips when the footprint
//! was guessed right, one when another commit was under way: the reading goes behind that one's COMMIT.

use std::pin::pin;
use std::task::Poll;

use tokio_postgres::{Error, Row};

use super::apply::ROWS_OF_A_COMMAND;
use super::ask::ask;
use super::footprint::Footprint;
use super::keys;
use super::load::{Call, ROWS, Wanted, What};
use super::log;
use super::nodes;
use super::notices;
use super::pipeline::Ended;
use super::purge;
use super::schema::Lock;
use super::session::{Meaning, Prepared, Session, meaning, said};
use super::sheet::{Key, Missing, Sheet};
use super::turns;
use super::witness;
use super::writer::{Answer, Work};
use crate::kernel::command::{Command, Decision};
use crate::kernel::decide::{RowFault, about, decide};

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
struct Stopped(RowFault);

impl<E: Into<RowFault>> From<E> for Stopped {
    fn from(fault: E) -> Self {
        Self(fault.into())
    }
}

/// Work whose rows are read and locked: the server's transaction is open.
pub(super) struct Begun {
    sheet: Sheet,
    /// Warnings of the session before it began.
    warnings: u64,
}

/// Reads ahead and locks what the work will need, in one round trip.
pub(super) async fn begin(session: &mut Session, work: &[&Work]) -> Result<Begun, Failed> {
    let footprints = footprints(work);
    let beginning = Beginning::of(session, &footprints).await;
    let begun = match beginning {
        Ok(beginning) => beginning.send(session).await.map_err(Stopped::from),
        Err(error) => Err(Stopped::from(error)),
    };
    match begun.and_then(|rows| Begun::of(session, &footprints, rows)) {
        Ok(begun) => Ok(begun),
        Err(stopped) => Err(undo(session, stopped).await),
    }
}

/// Decides each command on what was read and carries it out there; nothing of it is sent yet.
pub(super) async fn decide_each(
    session: &mut Session,
    begun: &mut Begun,
    work: &[&Work],
) -> Result<Vec<Answer>, Failed> {
    match decided(session, &mut begun.sheet, work).await {
        Ok(answers) => Ok(answers),
        Err(stopped) => Err(undo(session, stopped).await),
    }
}

/// Writes everything and commits. Right behind COMMIT, in the same round trip, begins the work that comes `next`:
/// the server need not wait for us to hear of the one before it asks for the other. `ended` is told how the commit
/// went, as soon as that is known.
///
/// Answers the next work's beginning, if there is one and it was sent.
pub(super) async fn commit(
    session: &mut Session,
    begun: Begun,
    next: &[&Work],
    ended: impl FnOnce(Result<(), Failed>),
) -> Option<Result<Begun, Failed>> {
    let Begun { mut sheet, warnings } = begun;
    let footprints = footprints(next);
    let prepared = async {
        let mut calls = sheet.pending()?;
        let (batch, document) = sheet.batch()?.unzip();
        calls.extend(batch);
        let written = session.prepared(calls).await?;
        let beginning = if next.is_empty() { None } else { Some(Beginning::of(session, &footprints).await?) };
        Ok((written, beginning, document.map(|document| (sheet.batch, document))))
    };
    let (written, beginning, made) = match prepared.await {
        Ok(prepared) => prepared,
        Err(stopped) => {
            ended(Err(undo(session, stopped).await));
            return None;
        }
    };
    let (is_committed, rows) = {
        let mut committing = pin!(session.pipeline(written).commit());
        let mut beginning = pin!(async {
            match beginning {
                Some(beginning) => Some(beginning.send(session).await),
                None => None,
            }
        });
        // The first poll sends: the next work only when the commit was sent whole.
        let mut rows = None;
        let sent = std::future::poll_fn(|cx| {
            let sent = committing.as_mut().poll(cx);
            if sent.is_pending()
                && let Poll::Ready(early) = beginning.as_mut().poll(cx)
            {
                rows = Some(early);
            }
            Poll::Ready(sent)
        });
        let end = match sent.await {
            Poll::Ready(Ended::NotSent(error)) => {
                let failed = undo(session, Stopped::from(error)).await;
                ended(Err(failed));
                return None;
            }
            Poll::Ready(end) => end,
            Poll::Pending => committing.await,
        };
        let committed = match end {
            Ended::Committed if session.warnings() == warnings => Ok(()),
            // A standby that did not confirm is told of in a warning only, after COMMIT took hold here.
            Ended::Committed => Err(Failed::Unknown("the server warned while it committed: see the log".into())),
            Ended::NotSent(error) | Ended::Undone(error) => Err(undone(&error)),
            Ended::Unknown(error) => Err(Failed::Unknown(said(&error))),
        };
        let is_lost = matches!(committed, Err(Failed::Unknown(_) | Failed::NotBegun(_)));
        let is_committed = committed.is_ok();
        if let Some((batch, document)) = made.filter(|_| is_committed) {
            session.committed.remember(batch, document);
        }
        ended(committed);
        if is_lost {
            return None;
        }
        (
            is_committed,
            match rows {
                Some(rows) => rows,
                None => beginning.await,
            },
        )
    };
    if is_committed {
        session.learn(sheet.committed_accounts());
        session.data_keys.learn(&mut sheet.known_keys);
    }
    let begun = match rows? {
        Ok(rows) => Begun::of(session, &footprints, rows),
        Err(error) => Err(Stopped::from(error)),
    };
    Some(match begun {
        Ok(begun) => Ok(begun),
        Err(stopped) => Err(undo(session, stopped).await),
    })
}

/// Gives an open transaction up, of which nothing is wanted any more.
pub(super) async fn give_up(session: &Session) -> Result<(), Failed> {
    session.client.batch_execute("ROLLBACK").await.map_err(|error| Failed::NotBegun(said(&error)))
}

/// Ends the transaction that stopped.
async fn undo(session: &Session, stopped: Stopped) -> Failed {
    let Stopped(fault) = stopped;
    let failed = match fault.downcast_ref::<Error>() {
        Some(error) => undone(error),
        None => Failed::RolledBack { message: fault.to_string(), again: false },
    };
    if let Failed::NotBegun(_) = failed {
        return failed;
    }
    match give_up(session).await {
        Ok(()) => failed,
        // Without COMMIT the server gives up the transaction with the connection.
        Err(lost) => lost,
    }
}

fn undone(error: &Error) -> Failed {
    match meaning(error) {
        Meaning::TryAgain => Failed::RolledBack { message: said(error), again: true },
        Meaning::Refused => Failed::RolledBack { message: said(error), again: false },
        Meaning::Lost => Failed::NotBegun(said(error)),
    }
}

async fn decided(session: &mut Session, sheet: &mut Sheet, work: &[&Work]) -> Result<Vec<Answer>, Stopped> {
    session.data_keys.as_of(sheet.key_changes);
    let mut answers = Vec::with_capacity(work.len());
    for work in work {
        answers.push(match work {
            Work::Apply { commands, .. } => {
                let mut decisions = Vec::with_capacity(commands.len());
                for command in commands {
                    decisions.push(one(session, sheet, command).await?);
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
            Work::Cosignature { size, cosignature } => {
                witness::store(session, *size, cosignature).await?;
                Answer::Done
            }
            Work::ForgetKeys { now, limit } => Answer::Forgotten(purge::forget_keys(session, *now, *limit).await?),
            Work::Notices(work) => Answer::Noticed(notices::work(session, work).await?),
            Work::Keys(work) => {
                keys::work(session, work).await?;
                Answer::Done
            }
            Work::TakeTurn(turn) => Answer::Turn(turns::take(session, turn).await?),
            Work::Serve { node, acted_on } => Answer::Changes(nodes::serve(session, node, *acted_on).await?),
        });
    }
    Ok(answers)
}

fn footprints<'a>(work: &[&'a Work]) -> Vec<&'a Footprint> {
    let of = |work: &&'a Work| match work {
        Work::Apply { footprint, .. } => Some(footprint),
        Work::Sequence(_)
        | Work::SignedCheckpoint { .. }
        | Work::Cosignature { .. }
        | Work::ForgetKeys { .. }
        | Work::Notices(_)
        | Work::TakeTurn(_)
        | Work::Keys(_)
        | Work::Serve { .. } => None,
    };
    work.iter().filter_map(of).collect()
}

/// BEGIN, the shared lock, and everything that the footprints name, ready to be sent.
struct Beginning<'a> {
    text: String,
    kinds: Vec<What>,
    reads: Vec<Prepared<'a>>,
}

/// What a beginning read.
type Read = Vec<(What, Vec<Row>)>;

impl<'a> Beginning<'a> {
    async fn of(session: &mut Session, footprints: &[&'a Footprint]) -> Result<Self, Error> {
        let alone = footprints.iter().any(|footprint| footprint.alone);
        let lock = if alone { "pg_advisory_xact_lock" } else { "pg_advisory_xact_lock_shared" };
        let text = format!("BEGIN; SELECT {lock}({})", Lock::Authority.key());
        let wanted = Wanted::of(footprints);
        let (kinds, calls): (Vec<What>, Vec<Call<'a>>) = wanted.calls(true, session.known()).into_iter().unzip();
        Ok(Self { text, kinds, reads: session.prepared(calls).await? })
    }

    async fn send(self, session: &Session) -> Result<Read, Error> {
        let mut rows = session.pipeline_after(&self.text, self.reads).rows().await?;
        let rows = rows.split_off(1);
        Ok(self.kinds.into_iter().zip(rows).collect())
    }
}

impl Begun {
    fn of(session: &Session, footprints: &[&Footprint], rows: Read) -> Result<Self, Stopped> {
        let mut sheet = Sheet { keep: session.keep, ..Sheet::default() };
        sheet.take(footprints, rows)?;
        Ok(Self { sheet, warnings: session.warnings() })
    }
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
                    fetch(session, sheet, missing.0).await?;
                    continue;
                }
                Err(fault) => return Err(Stopped(fault)),
            },
        };
        let lacking = sheet.lacking(&decided.changes);
        if !lacking.is_empty() {
            fetch(session, sheet, lacking).await?;
            continue;
        }
        if !decided.has_leaf(&command.act) {
            return Ok(sheet.apply(command, decided, None)?);
        }
        let subject = match about(sheet, command, &decided) {
            Ok(subject) => subject,
            Err(fault) => match fault.downcast::<Missing>() {
                Ok(missing) => {
                    fetch(session, sheet, missing.0).await?;
                    continue;
                }
                Err(fault) => return Err(Stopped(fault)),
            },
        };
        let key = keys::data_key(session, sheet, &subject, command.stamp.wall, &decided.changes).await?;
        return Ok(sheet.apply(command, decided, key.as_deref())?);
    }
    Err(Stopped("a decision asked for rows without end".into()))
}

/// Writes what is pending, so that the database and the sheet agree, and reads these keys.
async fn fetch(session: &mut Session, sheet: &mut Sheet, keys: Vec<Key>) -> Result<(), Stopped> {
    let footprint = Footprint::exactly(keys);
    let pending = sheet.pending()?;
    let written = pending.len();
    let wanted = Wanted::of(&[&footprint]);
    let (kinds, calls): (Vec<What>, Vec<Call<'_>>) = wanted.calls(false, session.known()).into_iter().unzip();
    let mut rows = session.rows(pending.into_iter().chain(calls).collect()).await?;
    let rows = rows.split_off(written);
    sheet.written();
    sheet.take(&[&footprint], kinds.into_iter().zip(rows).collect())?;
    for key in footprint.keys {
        if let Key::Question(question) = key {
            let answer = ask(session, &question).await?;
            sheet.answers.insert(question, answer);
        }
    }
    Ok(())
}

async fn more_rows(session: &mut Session, sheet: &mut Sheet) -> Result<(), Stopped> {
    let call = Call { sql: ROWS.into(), parameters: vec![] };
    let rows = session.rows(vec![call]).await?.into_iter().map(|rows| (What::Rows, rows)).collect();
    Ok(sheet.take(&[], rows)?)
}
