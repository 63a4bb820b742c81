//! The one writer: commands of many callers become one commit, answered when it is durable.
//!
//! What the server refuses before COMMIT is undone and done again, the whole group when another daemon's commit came
//! between, otherwise one job at a time, so that no command can fail its neighbours. A connection that is lost before
//! COMMIT was sent leaves nothing behind; from COMMIT on the outcome is unknown, and callers are told so. Either way the
//! connection is thrown away and made anew.

use std::collections::VecDeque;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{JoinHandle, current};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};

use super::commit::{Begun, Failed, begin, commit, decide_each, give_up};
use super::endpoint::Endpoint;
use super::footprint::Footprint;
use super::schema;
use super::session::{Session, warn_of_concerns};
use crate::kernel::command::{Command, Decision};
use crate::kernel::types::UnixMillis;
use crate::store::reply::{Reply, awaited};
use crate::store::{Cosignature, KeyWork, NoticeAnswer, NoticeWork, SequenceStep, StoreFault, Turn, is_too_late};

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
    Apply { commands: Vec<Command>, footprint: Footprint },
    Sequence(SequenceStep),
    SignedCheckpoint { size: u64, signed: Vec<u8> },
    Cosignature { size: u64, cosignature: Cosignature },
    ForgetKeys { now: UnixMillis, limit: u32 },
    Notices(NoticeWork),
    TakeTurn(Turn),
    Keys(KeyWork),
    Serve { node: String, acted_on: u64 },
}

pub(super) enum Answer {
    Decisions(Vec<Decision>),
    /// How many keys.
    Forgotten(u32),
    /// How long until there is one, if none was taken.
    Turn(Option<Duration>),
    /// How often the revocation status has changed.
    Changes(u64),
    Noticed(NoticeAnswer),
    Done,
}

impl Answer {
    /// Of commands; of anything else none.
    pub(super) fn decisions(self) -> Vec<Decision> {
        match self {
            Self::Decisions(decisions) => decisions,
            Self::Forgotten(_) | Self::Changes(_) | Self::Noticed(_) | Self::Turn(_) | Self::Done => vec![],
        }
    }
}

struct Job {
    work: Work,
    reply: Reply<Answer>,
}

impl Job {
    fn is_too_late(&self) -> bool {
        matches!(&self.work, Work::Apply { commands, .. } if is_too_late(commands))
    }

    /// Of which limit it takes a turn.
    fn limit(&self) -> Option<&str> {
        match &self.work {
            Work::TakeTurn(turn) => Some(&turn.name),
            Work::Apply { .. }
            | Work::Sequence(_)
            | Work::SignedCheckpoint { .. }
            | Work::Cosignature { .. }
            | Work::ForgetKeys { .. }
            | Work::Notices(_)
            | Work::Keys(_)
            | Work::Serve { .. } => None,
        }
    }
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
            Err(TrySendError::Closed(job)) => job.reply.send(ended()),
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
                Serving { endpoint, session, jobs, put_back: vec![] }.run().await;
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
    /// Taken from the queue and not begun.
    put_back: Vec<Job>,
}

/// A group whose transaction is open.
struct Group {
    jobs: Vec<Job>,
    begun: Begun,
    /// When it is given up.
    deadline: Instant,
}

impl Serving {
    /// One group after the other. While one commits, a full one that waits behind it begins.
    async fn run(mut self) {
        let mut ahead = None;
        loop {
            let group = match ahead.take() {
                Some(group) => Some(group),
                None => {
                    let Some(jobs) = self.gather().await else { return };
                    self.begin(jobs).await
                }
            };
            if let Some(group) = group {
                ahead = self.carry_out(group).await;
            }
            if self.session.is_closed() && self.reconnect().await.is_err() {
                return;
            }
        }
    }

    /// What waits, once something does. `None` when nobody asks any more.
    async fn gather(&mut self) -> Option<Vec<Job>> {
        let mut jobs = std::mem::take(&mut self.put_back);
        if jobs.is_empty() {
            jobs.push(self.jobs.recv().await?);
        }
        self.fill(&mut jobs);
        // A server that was started again while nobody asked is no reason to fail anybody.
        if self.session.is_closed() {
            match open(&self.endpoint, First::Nothing).await {
                Ok(session) => self.session = session,
                Err(fault) => fail(jobs.drain(..), &fault),
            }
        }
        Some(jobs)
    }

    fn fill(&mut self, jobs: &mut Vec<Job>) {
        let mut size = size(jobs);
        while size < GROUP_COMMANDS_MAX
            && let Ok(next) = self.jobs.try_recv()
        {
            size += weight(&next);
            jobs.push(next);
        }
    }

    fn limit(&self) -> Duration {
        Duration::from_millis(self.endpoint.settings.commit_deadline_ms)
    }

    async fn begin(&mut self, jobs: Vec<Job>) -> Option<Group> {
        let jobs = in_order(in_time_still(jobs));
        if jobs.is_empty() {
            return None;
        }
        let deadline = Instant::now() + self.limit();
        let work = works(&jobs);
        let begun = in_time(deadline, begin(&mut self.session, &work)).await;
        match begun.unwrap_or_else(|_| Err(self.silent())) {
            Ok(begun) => Some(Group { jobs, begun, deadline }),
            Err(failed) => {
                self.again(jobs, failed).await;
                None
            }
        }
    }

    /// Decides and commits the group, and answers the one that was begun behind it.
    async fn carry_out(&mut self, group: Group) -> Option<Group> {
        let Group { jobs, mut begun, deadline } = group;
        let decided = in_time(deadline, decide_each(&mut self.session, &mut begun, &works(&jobs))).await;
        let answers = match decided.unwrap_or_else(|_| Err(self.silent())) {
            Ok(answers) => answers,
            Err(failed) => {
                self.again(jobs, failed).await;
                return None;
            }
        };
        let mut next = std::mem::take(&mut self.put_back);
        self.fill(&mut next);
        let mut next = in_order(in_time_still(next));
        // One that is not full becomes larger by waiting for those who are about to be answered, and so cheaper.
        if size(&next) < GROUP_COMMANDS_MAX {
            self.put_back = std::mem::take(&mut next);
        }
        let mut waiting = Some((jobs, answers));
        let mut failure = None;
        let ended = |committed: Result<(), Failed>| match (committed, waiting.take()) {
            (Ok(()), Some((jobs, answers))) => answer(jobs, answers),
            (Err(failed), Some((jobs, _))) => failure = Some((jobs, failed)),
            (_, None) => {}
        };
        let until = if next.is_empty() { deadline } else { Instant::now() + self.limit() };
        let behind = in_time(until, commit(&mut self.session, begun, &works(&next), ended)).await;
        let behind = match behind {
            Ok(behind) => behind,
            Err(_) => {
                // COMMIT may have been sent; the one behind it was never.
                if let Some((jobs, _)) = waiting.take() {
                    let message = format!("the server did not answer COMMIT within {} ms", self.limit().as_millis());
                    failure = Some((jobs, Failed::Unknown(message)));
                }
                Some(Err(self.silent()))
            }
        };
        if let Some((jobs, failed)) = failure {
            self.put_back.extend(next);
            let failed = match (failed, behind) {
                (lost @ (Failed::NotBegun(_) | Failed::Unknown(_)), _) => lost,
                (Failed::RolledBack { .. }, Some(Err(lost @ (Failed::NotBegun(_) | Failed::Unknown(_))))) => lost,
                (failed, Some(Ok(_))) => give_up(&self.session).await.err().unwrap_or(failed),
                (failed, Some(Err(Failed::RolledBack { .. })) | None) => failed,
            };
            self.again(jobs, failed).await;
            return None;
        }
        match behind {
            Some(Ok(begun)) => Some(Group { jobs: next, begun, deadline: Instant::now() + self.limit() }),
            Some(Err(failed)) => {
                self.again(next, failed).await;
                None
            }
            None => {
                self.put_back.extend(next);
                None
            }
        }
    }

    fn silent(&self) -> Failed {
        Failed::NotBegun(format!("the server did not answer within {} ms", self.limit().as_millis()))
    }

    /// Answers every job of a group that failed once: the whole group is tried again, and when that cannot be done as a
    /// whole, its jobs one by one.
    async fn again(&mut self, jobs: Vec<Job>, failed: Failed) {
        let since = Instant::now();
        let mut attempts = 0;
        let mut first = Some(failed);
        let mut waiting: VecDeque<Vec<Job>> = [jobs].into();
        while let Some(mut jobs) = waiting.pop_front() {
            attempts += 1;
            let attempted = match first.take() {
                Some(failed) => Err(failed),
                None => {
                    jobs = in_time_still(jobs);
                    self.attempt(&jobs).await
                }
            };
            match attempted {
                Ok(answers) => {
                    attempts = 0;
                    answer(jobs, answers);
                }
                Err(Failed::RolledBack { again: true, .. })
                    if attempts < ATTEMPTS_MAX && since.elapsed() < self.limit() =>
                {
                    waiting.push_front(jobs);
                }
                Err(Failed::RolledBack { .. }) if jobs.len() > 1 && since.elapsed() < self.limit() => {
                    attempts = 0;
                    waiting.extend(jobs.into_iter().map(|job| vec![job]));
                }
                Err(Failed::RolledBack { message, .. }) => {
                    attempts = 0;
                    fail(jobs.into_iter(), &StoreFault::NotRecorded(message));
                }
                Err(Failed::NotBegun(message)) => {
                    tracing::error!(%message, "the store's connection was lost before a commit");
                    let fault = StoreFault::NotRecorded(message);
                    fail(jobs.into_iter().chain(waiting.into_iter().flatten()), &fault);
                    self.session.close();
                    return;
                }
                Err(Failed::Unknown(message)) => {
                    tracing::error!(%message, "a commit failed, its outcome is unknown");
                    fail(jobs.into_iter(), &StoreFault::OutcomeUnknown(message));
                    let before = "another command's commit failed before this one began".to_owned();
                    fail(waiting.into_iter().flatten(), &StoreFault::NotRecorded(before));
                    self.session.close();
                    return;
                }
            }
        }
    }

    /// One transaction for the whole group with nothing behind it, given up when the server is silent for too long.
    async fn attempt(&mut self, jobs: &[Job]) -> Result<Vec<Answer>, Failed> {
        let deadline = Instant::now() + self.limit();
        let work = works(jobs);
        let decided = async {
            let mut begun = begin(&mut self.session, &work).await?;
            let answers = decide_each(&mut self.session, &mut begun, &work).await?;
            Ok((begun, answers))
        };
        let (begun, answers) = match in_time(deadline, decided).await {
            Ok(decided) => decided?,
            Err(_) => return Err(self.silent()),
        };
        let mut outcome = None;
        let committed = commit(&mut self.session, begun, &[], |committed| outcome = Some(committed));
        // What it answers belongs to what comes behind: nothing.
        let _ = in_time(deadline, committed).await;
        match outcome {
            Some(committed) => committed.map(|()| answers),
            None => {
                let limit = self.limit().as_millis();
                Err(Failed::Unknown(format!("the server did not answer COMMIT within {limit} ms")))
            }
        }
    }

    /// Replaces the connection, with longer and longer pauses. `Err` when nobody asks any more.
    async fn reconnect(&mut self) -> Result<(), ()> {
        let mut backoff = BACKOFF_FIRST;
        let waiting = || StoreFault::NotRecorded("the connection to the database server is being made anew".to_owned());
        fail(self.put_back.drain(..), &waiting());
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
                        Some(job) => fail([job].into_iter(), &waiting()),
                        None => return Err(()),
                    },
                }
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }
}

/// Those that may still be committed. The others are told so: a group may have waited behind another one.
fn in_time_still(jobs: Vec<Job>) -> Vec<Job> {
    let (late, jobs): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(Job::is_too_late);
    fail(late.into_iter(), &StoreFault::TooLate);
    jobs
}

/// Turns by the names of their limits, all else as it came: two daemons never wait for each other's turns in a circle.
fn in_order(mut jobs: Vec<Job>) -> Vec<Job> {
    jobs.sort_by(|one, other| one.limit().cmp(&other.limit()));
    jobs
}

fn weight(job: &Job) -> usize {
    match &job.work {
        Work::Apply { commands, .. } => commands.len(),
        Work::Sequence(_)
        | Work::SignedCheckpoint { .. }
        | Work::Cosignature { .. }
        | Work::ForgetKeys { .. }
        | Work::Notices(_)
        | Work::TakeTurn(_)
        | Work::Keys(_)
        | Work::Serve { .. } => 1,
    }
}

fn size(jobs: &[Job]) -> usize {
    jobs.iter().map(weight).sum()
}

fn works(jobs: &[Job]) -> Vec<&Work> {
    jobs.iter().map(|job| &job.work).collect()
}

async fn in_time<T>(deadline: Instant, work: impl Future<Output = T>) -> Result<T, tokio::time::error::Elapsed> {
    tokio::time::timeout_at(deadline.into(), work).await
}

fn answer(jobs: Vec<Job>, answers: Vec<Answer>) {
    for (job, answer) in jobs.into_iter().zip(answers) {
        job.reply.send(Ok(answer));
    }
}

fn fail(jobs: impl Iterator<Item = Job>, fault: &StoreFault) {
    for job in jobs {
        job.reply.send(Err(fault.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_taken_in_the_order_of_their_names_and_all_else_as_it_came() {
        let job = |work| Job { work, reply: Reply::to(drop) };
        let turn = |name: &str, burst| {
            job(Work::TakeTurn(Turn { name: name.into(), interval_us: 1, burst, now: UnixMillis(0) }))
        };
        let serve = |acted_on| job(Work::Serve { node: "one".into(), acted_on });
        let jobs = in_order(vec![turn("role r", 1), serve(1), turn("agent x", 2), serve(2), turn("agent x", 3)]);
        let told = |job: &Job| match &job.work {
            Work::TakeTurn(turn) => format!("{} {}", turn.name, turn.burst),
            Work::Serve { acted_on, .. } => format!("lease {acted_on}"),
            _ => panic!("neither was asked for"),
        };
        let order: Vec<String> = jobs.iter().map(told).collect();
        assert_eq!(order, ["lease 1", "lease 2", "agent x 2", "agent x 3", "role r 1"]);
    }
}
