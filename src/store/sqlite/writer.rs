//! The one writer: commands of many callers become one commit, answered when it is on disk.
//!
//! A fault of a decision or a constraint before COMMIT rolls back and the batch is redone one job at a time, so
//! that no command can fail its neighbours. An I/O error, or any error of COMMIT itself, leaves the outcome
//! unknown: callers are told so, the connection is thrown away, and the writer reopens and checks the file before
//! it serves again.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{JoinHandle, current};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::book::Commit;
use super::checkpoint::{Checkpointer, LENGTHS};
use super::making::{self, Part};
use super::memory::Memory;
use super::{BUSY_TIMEOUT, keys, log, notices, purge, reopen_writing, turns, witness};
use crate::kernel::command::{Command, Decision};
use crate::kernel::decide::RowFault;
use crate::kernel::types::{Sha256, UnixMillis};
use crate::store::committed::Committed;
use crate::store::keep::Keep;
use crate::store::reply::{Reply, awaited};
use crate::store::sealing::Slot;
use crate::store::{Cosignature, KeyWork, NoticeAnswer, NoticeWork, Ring, SequenceStep, StoreFault, Turn, is_too_late};

/// Commands in one commit: measured, larger groups gain nothing.
const GROUP_COMMANDS_MAX: usize = 256;
/// Calls that may wait; one more is [`StoreFault::Busy`].
const QUEUE_MAX: usize = 4_096;
/// How long the writer waits for readers of an older snapshot when keys must leave the log: payments wait with it.
const LOG_WAIT: Duration = Duration::from_millis(100);
/// Between attempts to reopen after a failure.
const REOPEN_PAUSE: Duration = Duration::from_millis(250);

/// What a caller wants written.
pub(super) enum Work {
    Apply(Vec<Command>),
    Sequence(SequenceStep),
    SignedCheckpoint { size: u64, signed: Vec<u8> },
    Cosignature { size: u64, cosignature: Cosignature },
    ForgetKeys { now: UnixMillis, limit: u32 },
    Notices(NoticeWork),
    TakeTurn(Turn),
    Keys(KeyWork),
}

pub(super) enum Answer {
    Decisions(Vec<Decision>),
    /// How many keys.
    Forgotten(u32),
    Noticed(NoticeAnswer),
    /// How long until there is one, if none was taken.
    Turn(Option<Duration>),
    Done,
}

impl Answer {
    /// Of commands; of anything else none.
    pub(super) fn decisions(self) -> Vec<Decision> {
        match self {
            Self::Decisions(decisions) => decisions,
            Self::Forgotten(_) | Self::Noticed(_) | Self::Turn(_) | Self::Done => vec![],
        }
    }
}

/// The last step of a commit; tests put failures here.
pub(super) type CommitStep = fn(&Connection) -> rusqlite::Result<()>;

pub(super) fn commit(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("COMMIT")?.execute([]).map(|_| ())
}

struct Job {
    work: Work,
    reply: Reply<Answer>,
}

impl Job {
    fn is_too_late(&self) -> bool {
        matches!(&self.work, Work::Apply(commands) if is_too_late(commands))
    }
}

/// What the writer has in common with its store.
pub(super) struct Shared {
    pub(super) sealing: Slot,
    pub(super) committed: Committed,
}

/// The queue in front of the writer thread. Dropping it ends the thread when the queue is empty.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(
        path: PathBuf,
        mut connection: Connection,
        keep: Keep,
        shared: Shared,
        commit: CommitStep,
    ) -> Result<Self, StoreFault> {
        let (queue, jobs) = sync_channel(QUEUE_MAX);
        let checkpoints = Checkpointer::start(&mut connection, &path, LENGTHS)?;
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                Serving { path, connection, checkpoints, memory: Memory::default(), keep, shared, commit, jobs }.run()
            })
            .map_err(|error| StoreFault::NotRecorded(format!("the writer did not start: {error}")))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Queues the work and waits for its commit.
    pub(super) fn call(&self, work: Work) -> Result<Answer, StoreFault> {
        awaited(|reply| self.submit(work, reply))
    }

    /// Queues the work; the reply has its outcome, at once when there is no room.
    pub(super) fn submit(&self, work: Work, reply: Reply<Answer>) {
        let ended = || Err(StoreFault::NotRecorded("the writer has ended".into()));
        let Some(queue) = &self.queue else {
            return reply.send(ended());
        };
        match queue.try_send(Job { work, reply }) {
            Ok(()) => {}
            Err(TrySendError::Full(job)) => job.reply.send(Err(StoreFault::Busy)),
            Err(TrySendError::Disconnected(job)) => job.reply.send(ended()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        // The last who knows the store may be an outcome's receiver, on that very thread: it ends behind it.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != current().id()) {
            // A panic of the writer was reported by its own thread; here is nobody left to tell.
            let _ = thread.join();
        }
    }
}

/// Why a commit did not come about.
enum Failed {
    /// Nothing was written and the connection is sound.
    RolledBack(String),
    /// Nothing was written; the connection is not to be used again.
    NotBegun(String),
    /// Nobody knows; the connection is not to be used again.
    Unknown(String),
}

struct Serving {
    path: PathBuf,
    /// Dropped before its checkpoints.
    connection: Connection,
    checkpoints: Checkpointer,
    /// As of the last commit; what was remembered for one that did not come about is gone.
    memory: Memory,
    keep: Keep,
    shared: Shared,
    commit: CommitStep,
    jobs: Receiver<Job>,
}

impl Serving {
    fn run(mut self) {
        while let Ok(first) = self.jobs.recv() {
            let mut size = weight(&first);
            let mut group = vec![first];
            while size < GROUP_COMMANDS_MAX
                && let Ok(next) = self.jobs.try_recv()
            {
                size += weight(&next);
                group.push(next);
            }
            let (late, group): (Vec<Job>, Vec<Job>) = group.into_iter().partition(Job::is_too_late);
            fail(late, &StoreFault::TooLate);
            if self.serve(group).is_err() && self.reopen().is_err() {
                return;
            }
        }
    }

    /// Answers every job of the group. `Err` means that the connection must be replaced.
    fn serve(&mut self, group: Vec<Job>) -> Result<(), ()> {
        match self.attempt(&group) {
            Ok(answers) => {
                for (job, answer) in group.into_iter().zip(answers) {
                    job.reply.send(Ok(answer));
                }
                Ok(())
            }
            Err(Failed::RolledBack(message)) if group.len() == 1 => {
                fail(group, &StoreFault::NotRecorded(message));
                Ok(())
            }
            Err(Failed::RolledBack(_)) => {
                let mut alone = group.into_iter();
                while let Some(job) = alone.next() {
                    if self.serve(vec![job]).is_err() {
                        let message = "another command's commit failed before this one began".to_owned();
                        fail(alone.collect(), &StoreFault::NotRecorded(message));
                        return Err(());
                    }
                }
                Ok(())
            }
            Err(Failed::NotBegun(message)) => {
                tracing::error!(%message, "the store cannot begin a commit");
                fail(group, &StoreFault::NotRecorded(message));
                Err(())
            }
            Err(Failed::Unknown(message)) => {
                tracing::error!(%message, "a commit failed, its outcome is unknown");
                fail(group, &StoreFault::OutcomeUnknown(message));
                Err(())
            }
        }
    }

    /// One transaction for the whole group.
    fn attempt(&mut self, group: &[Job]) -> Result<Vec<Answer>, Failed> {
        let attempted = self.attempt_remembering(group);
        if attempted.is_ok() && self.memory.log_has_keys {
            self.empty_log();
        }
        if attempted.is_err() {
            self.memory.forget_rows();
            // Days that this commit emptied have their keys again.
            if group.iter().any(|job| matches!(job.work, Work::ForgetKeys { .. })) {
                self.memory.keys = None;
            }
        }
        attempted
    }

    fn attempt_remembering(&mut self, group: &[Job]) -> Result<Vec<Answer>, Failed> {
        let connection = &self.connection;
        let begun = connection.prepare_cached("BEGIN IMMEDIATE").and_then(|mut begin| begin.execute([]));
        begun.map_err(|error| Failed::NotBegun(error.to_string()))?;
        let ring = self.shared.sealing.ring();
        match write(connection, &mut self.memory, self.keep, ring.as_deref(), group) {
            Ok(Written { answers, batch }) => {
                (self.commit)(connection).map_err(|error| Failed::Unknown(error.to_string()))?;
                if let Some((number, document)) = batch {
                    self.shared.committed.remember(number, document);
                }
                Ok(answers)
            }
            Err(fault) if is_of_the_decision(&fault) => match connection.execute_batch("ROLLBACK") {
                Ok(()) => Err(Failed::RolledBack(fault.to_string())),
                Err(error) => Err(Failed::Unknown(error.to_string())),
            },
            Err(fault) => Err(Failed::Unknown(fault.to_string())),
        }
    }

    /// Keys that were destroyed are gone from the database file once the log was carried into it, and from the log once
    /// that is empty. A reader that still looks at an older snapshot keeps it: the next commit tries again.
    fn empty_log(&mut self) {
        let connection = &self.connection;
        let emptied = connection
            .busy_timeout(LOG_WAIT)
            .and_then(|()| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)));
        let restored = connection.busy_timeout(BUSY_TIMEOUT);
        match emptied {
            Ok(0) => self.memory.log_has_keys = false,
            Ok(_) => tracing::info!("destroyed data keys leave the write-ahead log when its readers are done"),
            Err(error) => tracing::warn!(%error, "the write-ahead log could not be emptied of destroyed data keys"),
        }
        if let Err(error) = restored {
            tracing::warn!(%error, "the writer's time limit could not be set back");
        }
    }

    /// Replaces the connection by one whose file was recovered and checked. `Err` when nobody asks any more.
    fn reopen(&mut self) -> Result<(), ()> {
        loop {
            match reopen(&self.path) {
                Ok((connection, checkpoints)) => {
                    self.connection = connection;
                    self.checkpoints = checkpoints;
                    self.memory = Memory::default();
                    tracing::warn!("the store was reopened and serves again");
                    return Ok(());
                }
                Err(fault) => tracing::error!(%fault, "the store cannot be reopened yet"),
            }
            let waiting = StoreFault::NotRecorded("the store is being reopened after a failure".into());
            match self.jobs.recv_timeout(REOPEN_PAUSE) {
                Ok(job) => fail(vec![job], &waiting),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(()),
            }
        }
    }
}

fn reopen(path: &Path) -> Result<(Connection, Checkpointer), StoreFault> {
    let mut connection = reopen_writing(path)?;
    let checkpoints = Checkpointer::start(&mut connection, path, LENGTHS)?;
    Ok((connection, checkpoints))
}

fn weight(job: &Job) -> usize {
    match &job.work {
        Work::Apply(commands) => commands.len(),
        Work::Sequence(_)
        | Work::SignedCheckpoint { .. }
        | Work::Cosignature { .. }
        | Work::ForgetKeys { .. }
        | Work::Notices(_)
        | Work::TakeTurn(_)
        | Work::Keys(_) => 1,
    }
}

fn fail(group: Vec<Job>, fault: &StoreFault) {
    for job in group {
        job.reply.send(Err(fault.clone()));
    }
}

/// What one transaction wrote.
struct Written {
    answers: Vec<Answer>,
    /// The number of its batch and the hash of what is to be signed for it.
    batch: Option<(i64, Sha256)>,
}

fn write(
    connection: &Connection,
    memory: &mut Memory,
    keep: Keep,
    ring: Option<&Ring>,
    group: &[Job],
) -> Result<Written, RowFault> {
    let mut commit = Commit::begin(connection, memory, keep, ring)?;
    let batch = commit.batch;
    let (mut forgotten, mut noticed, mut taken) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
    let made = making::beside(group.iter().map(weight).sum(), batch, |hand_over| {
        for job in group {
            match &job.work {
                Work::Apply(commands) => {
                    for command in commands {
                        let decided = commit.apply(command)?;
                        let statements = std::mem::take(&mut commit.statements);
                        hand_over(Part { command, decided, statements })?;
                    }
                }
                Work::Sequence(step) => log::sequence(connection, step)?,
                Work::SignedCheckpoint { size, signed } => log::store_signed_checkpoint(connection, *size, signed)?,
                Work::Cosignature { size, cosignature } => witness::store(connection, *size, cosignature)?,
                Work::Notices(work) => noticed.push_back(notices::work(connection, work)?),
                Work::Keys(work) => {
                    keys::work(connection, work)?;
                    commit.memory.borrow_mut().rows.was_sealed = None;
                }
                Work::TakeTurn(turn) => taken.push_back(turns::take(connection, turn)?),
                Work::ForgetKeys { now, limit } => {
                    // What is known of keys afterwards is what the tables have.
                    commit.write_pending()?;
                    let mut memory = commit.memory.borrow_mut();
                    forgotten.push_back(purge::forget_keys(connection, &mut memory, keep, *now, *limit)?);
                }
            }
        }
        commit.write_remembered()
    })?;
    commit.write_leaves(&made.leaves)?;
    if let Some(document) = &made.document {
        let leaves: Vec<u8> = made.hashes.iter().flat_map(|leaf| leaf.0).collect();
        let sql = "INSERT INTO batches (batch, document, leaves) VALUES (?1, ?2, ?3)";
        connection.prepare_cached(sql)?.execute(rusqlite::params![batch, document, leaves])?;
        commit.memory.borrow_mut().rows.batch = Some(batch + 1);
    }

    let document = made.document.as_ref().map(|document| (batch, Sha256::of(&[document])));
    let mut decisions = made.decisions.into_iter();
    let mut answer = |job: &Job| match &job.work {
        Work::Apply(commands) => Answer::Decisions(decisions.by_ref().take(commands.len()).collect()),
        Work::ForgetKeys { .. } => Answer::Forgotten(forgotten.pop_front().unwrap_or(0)),
        Work::Notices(_) => noticed.pop_front().map_or(Answer::Done, Answer::Noticed),
        Work::TakeTurn(_) => Answer::Turn(taken.pop_front().flatten()),
        Work::Sequence(_) | Work::SignedCheckpoint { .. } | Work::Cosignature { .. } | Work::Keys(_) => Answer::Done,
    };
    Ok(Written { answers: group.iter().map(&mut answer).collect(), batch: document })
}

/// True for faults that say nothing about the disk: constraints, values of a wrong shape, our own checks.
fn is_of_the_decision(fault: &RowFault) -> bool {
    match fault.downcast_ref::<rusqlite::Error>() {
        Some(rusqlite::Error::SqliteFailure(error, _)) => {
            matches!(error.code, ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig)
        }
        Some(_) | None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::super::open_writing;
    use super::super::tests::open_account;
    use super::*;
    use crate::kernel::command::{Act, Actor, Effect, Stamp};
    use crate::kernel::refusal::Refusal;
    use crate::kernel::types::{Money, UnixMillis};

    const DAY_MS: i64 = 86_400_000;

    fn command(number: u32, wall: i64, act: Act) -> Command {
        let request_id = format!("req_{number:026}").parse().unwrap();
        let stamp = Stamp {
            request_id,
            wall: UnixMillis(wall),
            boot_ms: 0,
            leaf_salt: [0; 32],
            nonce: None,
            signature: None,
            commit_before: None,
        };
        Command { stamp, actor: Actor::System { component: "test".into() }, act }
    }

    fn incoming(number: u32, wall: i64, reference: &str) -> Work {
        let amount = Money::from_minor(500, "USD".parse().unwrap());
        let (account, reference) = ("A".parse().unwrap(), reference.parse().unwrap());
        Work::Apply(vec![command(number, wall, Act::IncomingPayment { account, amount, reference })])
    }

    fn committed(connection: &Connection, memory: &mut Memory, works: Vec<Work>) -> Vec<Result<Effect, Refusal>> {
        let group: Vec<Job> = works.into_iter().map(|work| Job { work, reply: Reply::to(drop) }).collect();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        let Written { answers, .. } = write(connection, memory, Keep::days(7), None, &group).unwrap();
        connection.execute_batch("COMMIT").unwrap();
        let decisions = answers.into_iter().flat_map(|answer| match answer {
            Answer::Decisions(decisions) => decisions,
            Answer::Forgotten(_) | Answer::Noticed(_) | Answer::Turn(_) | Answer::Done => vec![],
        });
        decisions.map(|decision| decision.outcome).collect()
    }

    fn repeated(effects: &[Result<Effect, Refusal>]) -> Vec<bool> {
        effects.iter().map(|effect| matches!(effect, Ok(Effect::Posted(posted)) if posted.repeated)).collect()
    }

    #[test]
    fn a_key_taken_in_the_commit_that_forgets_old_ones_is_known_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let connection = open_writing(&directory.path().join("store.sqlite3")).unwrap();
        let mut memory = Memory::default();
        let start = 1_800_000_000_000;
        let open = Work::Apply(vec![open_account("A")]);
        committed(&connection, &mut memory, vec![open, incoming(2, start, "old")]);
        // Ten quiet days with a window of seven.
        let now = start + 10 * DAY_MS;
        let forget = Work::ForgetKeys { now: UnixMillis(now), limit: 1_000 };
        let paid = committed(&connection, &mut memory, vec![incoming(3, now, "rent"), forget]);
        let again = committed(&connection, &mut memory, vec![incoming(4, now + DAY_MS, "rent")]);
        assert_eq!((repeated(&paid), repeated(&again)), (vec![false], vec![true]), "{again:?}");
    }
}
