//! The one writer: commands of many callers become one commit, answered when it is durable.
//!
//! What the server refuses before COMMIT is undone and done again, the whole group when another daemon's commit came
//! between, otherwise one job at a time, so that no command can fail its neighbours. A connection that is lost before
//! COMMIT was sent leaves nothing behind; from COMMIT on the outcome is unknown, and callers are told so. Either way the
//! connection is thrown away and made anew.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};

use super::commit::{Failed, attempt};
use super::endpoint::Endpoint;
use super::schema;
use super::session::{Session, warn_of_concerns};
use crate::kernel::command::{Command, Decision};
use crate::kernel::types::UnixMillis;
use crate::store::{SequenceStep, StoreFault};

/// Commands in one commit: larger groups gain little and make every caller wait longer.
const GROUP_COMMANDS_MAX: usize = 512;
/// Calls that may wait; one more is [`StoreFault::Busy`].
const QUEUE_MAX: usize = 4_096;
/// Attempts at a commit that others came between.
const ATTEMPTS_MAX: u32 = 8;
/// First and longest wait between attempts to connect.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// What a caller wants written.
pub(super) enum Work {
    Apply(Vec<Command>),
    Sequence(SequenceStep),
    SignedCheckpoint { size: u64, signed: Vec<u8> },
    ForgetKeys { now: UnixMillis, limit: u32 },
}

pub(super) enum Answer {
    Decisions(Vec<Decision>),
    /// How many keys.
    Forgotten(u32),
    Done,
}

struct Job {
    work: Work,
    reply: SyncSender<Result<Answer, StoreFault>>,
}

/// The queue in front of a writing thread. Dropping it ends the thread when the queue is empty.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Connects, has `first` done on the connection, and serves.
    ///
    /// # Errors
    /// Why the first connection could not be made, by name.
    pub(super) fn start(name: &str, endpoint: Endpoint, first: First) -> Result<Self, StoreFault> {
        let (queue, jobs) = channel(QUEUE_MAX);
        let (ready, started) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || serve(endpoint, first, jobs, &ready))
            .map_err(|error| StoreFault::NotRecorded(format!("the writer did not start: {error}")))?;
        let writer = Self { queue: Some(queue), thread: Some(thread) };
        let ended = || StoreFault::NotRecorded("the writer ended before it served".into());
        started.recv().map_err(|_| ended())??;
        Ok(writer)
    }

    /// Queues the work and waits for its commit. Fine from any thread, also from one of an async runtime.
    pub(super) fn call(&self, work: Work) -> Result<Answer, StoreFault> {
        let ended = || StoreFault::NotRecorded("the writer has ended".into());
        let (reply, answer) = sync_channel(1);
        match self.queue.as_ref().ok_or_else(ended)?.try_send(Job { work, reply }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(StoreFault::Busy),
            Err(TrySendError::Closed(_)) => return Err(ended()),
        }
        answer.recv().unwrap_or_else(|_| Err(StoreFault::OutcomeUnknown("the writer ended".into())))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the writer was reported by its own thread; here is nobody left to tell.
            let _ = thread.join();
        }
    }
}

/// What the first connection is used for before anything is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum First {
    Migrate,
    Nothing,
}

/// The thread: a runtime of its own, so that the connection, its keep-alive and the decisions share it without waking
/// each other up.
fn serve(endpoint: Endpoint, first: First, jobs: Receiver<Job>, ready: &SyncSender<Result<(), StoreFault>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(StoreFault::NotRecorded(format!("the writer did not start: {error}"))));
            return;
        }
    };
    runtime.block_on(async {
        match open(&endpoint, first).await {
            Ok(session) => {
                let _ = ready.send(Ok(()));
                Serving { endpoint, session, jobs }.run().await;
            }
            Err(fault) => {
                let _ = ready.send(Err(fault));
            }
        }
    });
}

async fn open(endpoint: &Endpoint, first: First) -> Result<Session, StoreFault> {
    let session = Session::connect(endpoint).await?;
    if first == First::Migrate {
        schema::migrate(&session, endpoint).await?;
        warn_of_concerns(&session.client).await;
    }
    session.set_up(endpoint).await?;
    Ok(session)
}

struct Serving {
    endpoint: Endpoint,
    session: Session,
    jobs: Receiver<Job>,
}

impl Serving {
    async fn run(mut self) {
        while let Some(first) = self.jobs.recv().await {
            let mut size = weight(&first);
            let mut group = vec![first];
            while size < GROUP_COMMANDS_MAX
                && let Ok(next) = self.jobs.try_recv()
            {
                size += weight(&next);
                group.push(next);
            }
            // A server that was started again while nobody asked is no reason to fail anybody.
            if self.session.is_closed() {
                match open(&self.endpoint, First::Nothing).await {
                    Ok(session) => self.session = session,
                    Err(fault) => fail(group.drain(..), &fault),
                }
            }
            if !group.is_empty() && self.group(group).await.is_err() {
                self.session.close();
            }
            if self.session.is_closed() && self.reconnect().await.is_err() {
                return;
            }
        }
    }

    /// Answers every job of the group. `Err` means that the connection must be replaced.
    async fn group(&mut self, group: Vec<Job>) -> Result<(), ()> {
        let since = Instant::now();
        let deadline = Duration::from_millis(self.endpoint.settings.commit_deadline_ms);
        let mut attempts = 0;
        // The whole group, and when that cannot be done as a whole, its jobs one by one.
        let mut waiting: VecDeque<Vec<Job>> = [group].into();
        while let Some(group) = waiting.pop_front() {
            attempts += 1;
            match self.attempt(&group).await {
                Ok(answers) => {
                    attempts = 0;
                    for (job, answer) in group.into_iter().zip(answers) {
                        // A caller that went away learns the outcome from its idempotency key.
                        let _ = job.reply.send(Ok(answer));
                    }
                }
                Err(Failed::RolledBack { again: true, .. })
                    if attempts < ATTEMPTS_MAX && since.elapsed() < deadline =>
                {
                    waiting.push_front(group);
                }
                Err(Failed::RolledBack { .. }) if group.len() > 1 && since.elapsed() < deadline => {
                    attempts = 0;
                    waiting.extend(group.into_iter().map(|job| vec![job]));
                }
                Err(Failed::RolledBack { message, .. }) => {
                    attempts = 0;
                    fail(group.into_iter(), &StoreFault::NotRecorded(message));
                }
                Err(Failed::NotBegun(message)) => {
                    tracing::error!(%message, "the store's connection was lost before a commit");
                    let fault = StoreFault::NotRecorded(message);
                    fail(group.into_iter().chain(waiting.into_iter().flatten()), &fault);
                    return Err(());
                }
                Err(Failed::Unknown(message)) => {
                    tracing::error!(%message, "a commit failed, its outcome is unknown");
                    fail(group.into_iter(), &StoreFault::OutcomeUnknown(message));
                    let before = "another command's commit failed before this one began".to_owned();
                    fail(waiting.into_iter().flatten(), &StoreFault::NotRecorded(before));
                    return Err(());
                }
            }
        }
        Ok(())
    }

    /// One transaction for the whole group, given up when the server is silent for too long.
    async fn attempt(&mut self, group: &[Job]) -> Result<Vec<Answer>, Failed> {
        let committing = AtomicBool::new(false);
        let work: Vec<&Work> = group.iter().map(|job| &job.work).collect();
        let limit = Duration::from_millis(self.endpoint.settings.commit_deadline_ms);
        match tokio::time::timeout(limit, attempt(&mut self.session, &work, &committing)).await {
            Ok(result) => result,
            Err(_) if committing.load(Ordering::SeqCst) => {
                Err(Failed::Unknown(format!("the server did not answer COMMIT within {} ms", limit.as_millis())))
            }
            Err(_) => Err(Failed::NotBegun(format!("the server did not answer within {} ms", limit.as_millis()))),
        }
    }

    /// Replaces the connection, with longer and longer pauses. `Err` when nobody asks any more.
    async fn reconnect(&mut self) -> Result<(), ()> {
        let mut backoff = BACKOFF_FIRST;
        loop {
            match open(&self.endpoint, First::Nothing).await {
                Ok(session) => {
                    self.session = session;
                    tracing::warn!("the store is connected and serves again");
                    return Ok(());
                }
                Err(fault) => tracing::error!(%fault, "the store cannot be connected yet"),
            }
            let pause = tokio::time::sleep(backoff);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    job = self.jobs.recv() => match job {
                        Some(job) => {
                            let waiting = "the connection to the database server is being made anew".to_owned();
                            fail([job].into_iter(), &StoreFault::NotRecorded(waiting));
                        }
                        None => return Err(()),
                    },
                }
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }
}

fn weight(job: &Job) -> usize {
    match &job.work {
        Work::Apply(commands) => commands.len(),
        Work::Sequence(_) | Work::SignedCheckpoint { .. } | Work::ForgetKeys { .. } => 1,
    }
}

fn fail(jobs: impl Iterator<Item = Job>, fault: &StoreFault) {
    for job in jobs {
        let _ = job.reply.send(Err(fault.clone()));
    }
}
