//! The book of calls in the front: what waits, what is with which worker, what to do when a worker is lost.
//!
//! Plain state without threads, sockets or clock (`now` is an argument), so that every rule can be tested alone.
//! `client` puts it behind one lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{HsmFault, KEY_FAILED, Op, Reply, lint};
use crate::kernel::types::KeyId;
use crate::ops::failure::Failure;

pub type Answer = Result<Reply, HsmFault>;

/// The way back to a caller: a thread that waits, or a task.
#[derive(Debug)]
pub enum Caller {
    Thread(SyncSender<Answer>),
    Task(oneshot::Sender<Answer>),
}

impl Caller {
    /// The caller may have left; then nobody needs it.
    fn tell(self, answer: Answer) {
        match self {
            Self::Thread(thread) => {
                let _ = thread.try_send(answer);
            }
            Self::Task(task) => {
                let _ = task.send(answer);
            }
        }
    }
}

impl From<SyncSender<Answer>> for Caller {
    fn from(thread: SyncSender<Answer>) -> Self {
        Self::Thread(thread)
    }
}

impl From<oneshot::Sender<Answer>> for Caller {
    fn from(task: oneshot::Sender<Answer>) -> Self {
        Self::Task(task)
    }
}

/// Calls that wait for a worker. One more is `Busy`.
pub const QUEUE_MAX: usize = 1024;
/// A worker has more calls for each of its hands than it can take at once, so that none idles while an answer
/// travels; below `hands × REFILL` it gets new ones.
const REFILL: usize = 2;
/// Calls a hand that a worker holds at most: what waits here can still go to another worker, what waits there cannot.
const HELD: usize = 4;
/// Calls that any worker may hold, however few hands it has: they travel in one frame.
const HELD_MIN: usize = 16;
/// Payload of one batch, so that a frame stays below its limit.
const BATCH_BYTES_MAX: usize = 12 * 1024 * 1024;
/// A worker that was lost within this time makes the token `degraded`.
const RECENT: Duration = Duration::from_secs(60);
/// Workers that one call may outlive. An input that kills every worker does not do so for ever.
const LOSSES_MAX: u8 = 3;

/// One call and the way back to its caller.
#[derive(Debug)]
struct Job {
    op: Arc<Op>,
    deadline: Instant,
    /// Workers that were lost with it, or could not do it.
    lost: u8,
    /// The worker that could not do it: another one is asked, if there is one.
    avoided: Option<u64>,
    caller: Caller,
}

/// A call that a worker has.
#[derive(Debug)]
struct Held {
    worker: u64,
    sent: Instant,
    job: Job,
}

/// A call as it goes to a worker.
#[derive(Debug)]
pub struct Outgoing {
    pub id: u64,
    pub deadline: Instant,
    pub op: Arc<Op>,
}

/// The connection to a worker.
#[derive(Clone, Debug)]
pub struct Link<S> {
    pub worker: u64,
    pub stream: S,
}

/// A worker that said Hello, and how busy it is.
#[derive(Debug)]
struct Linked<S> {
    link: Link<S>,
    /// Calls that it works on at once, as it last said.
    hands: usize,
    in_flight: usize,
    /// Someone is writing to it.
    sending: bool,
    /// Its last answer, or the moment when it got its first call.
    progress: Instant,
}

impl<S> Linked<S> {
    fn has_room(&self) -> bool {
        !self.sending && self.in_flight <= self.hands * REFILL
    }
}

/// Readiness of a token, for `doctor`, metrics and the breaker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HsmState {
    Up,
    /// Answers, but slowly, or with fewer workers than it should, or one was lost within the last minute.
    Degraded,
    /// No worker, and the last attempts to start one failed.
    Down,
    /// No worker; one is being started.
    Probing,
}

impl HsmState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Probing => "probing",
        }
    }
}

/// A token's readiness with the reason when it is not simply `up`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct HsmHealth {
    pub state: HsmState,
    /// Workers that answer now.
    pub workers: usize,
    /// Signatures that were answered since this process began.
    pub signatures: u64,
    /// The last failure's name, message and next step, while it matters.
    pub reason: Option<Failure>,
}

/// What was left of a call whose caller gave up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Abandoned {
    /// Never with a worker, or with ones that were lost: so many.
    Waiting {
        lost_before: u8,
    },
    InFlight,
    /// Its answer is already in the caller's channel.
    Answered,
}

#[derive(Debug)]
pub struct Flow<S> {
    queue: VecDeque<(u64, Job)>,
    in_flight: BTreeMap<u64, Held>,
    links: Vec<Linked<S>>,
    /// Workers there should be.
    workers: usize,
    /// The identity key first seen: every later worker must show the same.
    identity: Option<KeyId>,
    down: Option<Failure>,
    /// Failed starts since the last working worker.
    failures: u32,
    lost_at: Option<Instant>,
    stopping: bool,
    last_id: u64,
    signatures: u64,
}

impl<S: Clone> Flow<S> {
    pub fn new(workers: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            in_flight: BTreeMap::new(),
            links: Vec::new(),
            workers,
            identity: None,
            down: None,
            failures: 0,
            lost_at: None,
            stopping: false,
            last_id: 0,
            signatures: 0,
        }
    }

    /// Queues a call and answers its id.
    ///
    /// # Errors
    /// `PinRefused` when latched, `Busy` when the queue is full, `Unavailable` (`hsm_stopping`) at shutdown.
    pub fn submit(&mut self, op: Arc<Op>, deadline: Instant, caller: impl Into<Caller>) -> Result<u64, HsmFault> {
        if let Some(fault) = self.latched() {
            return Err(fault);
        }
        if self.stopping {
            return Err(unavailable("hsm_stopping", "the daemon is stopping", false));
        }
        if self.queue.len() >= QUEUE_MAX {
            return Err(HsmFault::Busy);
        }
        self.last_id += 1;
        self.queue.push_back((self.last_id, Job { op, deadline, lost: 0, avoided: None, caller: caller.into() }));
        Ok(self.last_id)
    }

    /// Takes the next calls for the least busy worker that can use some, books them as in flight, and keeps other
    /// senders off that worker until [`Flow::sent`]. Calls that change the token go one at a time. Calls past their deadline are dropped: their callers have left.
    pub fn take_batch(&mut self, now: Instant, bytes_max: usize) -> Option<(Link<S>, Vec<Outgoing>)> {
        let bytes_max = bytes_max.min(BATCH_BYTES_MAX);
        let outstanding = self.queue.len() + self.in_flight.len();
        let fair_share = outstanding.div_ceil(self.links.len().max(1));
        // Versions are counted by looking at the token: two workers must not make keys at the same time.
        let mut changing = self.in_flight.values().any(|held| !repeatable(&held.job.op));
        let alone = self.workers == 1;
        let place_of_next = |queue: &VecDeque<(u64, Job)>, worker: u64, changing: bool| {
            queue
                .iter()
                .position(|(_, job)| (!changing || repeatable(&job.op)) && (alone || job.avoided != Some(worker)))
        };
        let usable = |linked: &&mut Linked<S>| {
            linked.has_room() && place_of_next(&self.queue, linked.link.worker, changing).is_some()
        };
        let linked = self.links.iter_mut().filter(usable).min_by_key(|linked| linked.in_flight)?;
        let room = fair_share.max(linked.in_flight + 1).min((linked.hands * HELD).max(HELD_MIN));
        let mut batch = Vec::new();
        let mut bytes = 0;
        while linked.in_flight < room {
            let Some(place) = place_of_next(&self.queue, linked.link.worker, changing) else {
                break;
            };
            let size = payload_bytes(&self.queue[place].1.op);
            if bytes + size > bytes_max {
                break;
            }
            let Some((id, job)) = self.queue.remove(place) else {
                break;
            };
            changing |= !repeatable(&job.op);
            if job.deadline <= now {
                continue;
            }
            bytes += size;
            batch.push(Outgoing { id, deadline: job.deadline, op: Arc::clone(&job.op) });
            if linked.in_flight == 0 {
                linked.progress = now;
            }
            linked.in_flight += 1;
            self.in_flight.insert(id, Held { worker: linked.link.worker, sent: now, job });
        }
        if batch.is_empty() {
            return None;
        }
        linked.sending = true;
        Some((linked.link.clone(), batch))
    }

    /// The batch for this worker is written, or its connection broke.
    pub fn sent(&mut self, worker: u64) {
        if let Some(linked) = self.linked(worker) {
            linked.sending = false;
        }
    }

    /// A worker answered: it made progress, and says how many hands it has now.
    pub fn heard(&mut self, worker: u64, hands: usize, now: Instant) {
        if let Some(linked) = self.linked(worker) {
            linked.hands = hands.max(1);
            linked.progress = now;
        }
    }

    /// Hands a worker's answer to its caller. An unknown id is an answer that came after its worker was given up, and
    /// only the worker that holds a call can answer it. What this worker could not do and certainly has not done, its
    /// sessions lent to others for one, goes to another worker, or waits for one that is being started.
    pub fn answered(&mut self, worker: u64, id: u64, outcome: Answer, now: Instant) {
        if self.in_flight.get(&id).is_none_or(|held| held.worker != worker) {
            return;
        }
        if let Some(held) = self.in_flight.remove(&id) {
            if let Some(linked) = self.linked(worker) {
                linked.in_flight -= 1;
            }
            let mut job = held.job;
            // A key that fails while the module works with others fails with any worker.
            let undone =
                matches!(&outcome, Err(HsmFault::Unavailable { maybe_signed: false, name, .. }) if name != KEY_FAILED);
            if undone && self.workers > 1 && repeatable(&job.op) && job.lost < LOSSES_MAX && job.deadline > now {
                job.lost += 1;
                job.avoided = Some(worker);
                self.queue.push_front((id, job));
                return;
            }
            if matches!(outcome, Ok(Reply::Signature(_))) {
                self.signatures += 1;
            }
            job.caller.tell(outcome);
        }
    }

    /// Forgets a call whose caller's deadline passed. What a worker holds stays booked, so that a stuck one is seen.
    pub fn abandon(&mut self, id: u64) -> Abandoned {
        if let Some(place) = self.queue.iter().position(|(queued, _)| *queued == id) {
            let lost_before = self.queue.remove(place).map_or(0, |(_, job)| job.lost);
            return Abandoned::Waiting { lost_before };
        }
        if self.in_flight.contains_key(&id) { Abandoned::InFlight } else { Abandoned::Answered }
    }

    /// A worker that is stuck: it holds calls and gave no answer at all for `limit`, or it holds one call for twice as
    /// long while it answers others (one of its sessions hangs). A slow device is neither.
    pub fn overdue(&self, now: Instant, limit: Duration) -> Option<Link<S>> {
        let silent = |linked: &&Linked<S>| {
            let oldest =
                || self.in_flight.values().filter(|held| held.worker == linked.link.worker).map(|held| held.sent);
            linked.in_flight > 0
                && (now.duration_since(linked.progress) >= limit
                    || oldest().min().is_some_and(|sent| now.duration_since(sent) >= limit * 2))
        };
        self.links.iter().find(silent).map(|linked| linked.link.clone())
    }

    /// True when a worker can use a call now, and nobody is writing to it.
    pub fn has_room(&self) -> bool {
        self.links.iter().any(|linked| linked.has_room())
    }

    /// True when the next call that waits is larger than this.
    pub fn next_exceeds(&self, bytes: usize) -> bool {
        self.queue.front().is_some_and(|(_, job)| payload_bytes(&job.op) > bytes)
    }

    /// True while a worker holds calls, so that `overdue` has to be asked again.
    pub fn is_watched(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// A new worker said Hello.
    ///
    /// # Errors
    /// `wrong_token` when its identity key is not the one first seen.
    pub fn connected(&mut self, link: Link<S>, identity: KeyId, hands: usize, now: Instant) -> Result<(), Failure> {
        let known = *self.identity.get_or_insert(identity);
        if known != identity {
            let failure = wrong_token(known, identity);
            self.down = Some(failure.clone());
            return Err(failure);
        }
        self.links.push(Linked { link, hands: hands.max(1), in_flight: 0, sending: false, progress: now });
        // A PIN that was refused since then stays refused.
        self.down = self.down.take().filter(|failure| failure.name == "pin_refused");
        self.failures = 0;
        Ok(())
    }

    /// A worker's connection is gone. Harmless calls go back to the head of the queue; the others, and what was lost
    /// too often, are answered as unknown. False when it was given up before.
    pub fn lost(&mut self, worker: u64, now: Instant) -> bool {
        let known = self.links.len();
        self.links.retain(|linked| linked.link.worker != worker);
        if self.links.len() == known {
            return false;
        }
        self.lost_at = Some(now);
        let (held, kept) = std::mem::take(&mut self.in_flight).into_iter().partition(|(_, held)| held.worker == worker);
        self.in_flight = kept;
        let held: BTreeMap<u64, Held> = held;
        for (id, Held { mut job, .. }) in held.into_iter().rev() {
            if job.lost >= LOSSES_MAX || !repeatable(&job.op) {
                let maybe = unavailable("worker_lost", "the HSM worker ended during the call", leaves_traces(&job.op));
                job.caller.tell(Err(maybe));
                continue;
            }
            if job.deadline > now {
                job.lost += 1;
                self.queue.push_front((id, job));
            }
        }
        if let Some(fault) = self.latched() {
            self.fail_all(&fault);
        }
        true
    }

    /// The supervisor said that a worker ended or could not start. A refused PIN answers every call from now on.
    pub fn down(&mut self, failure: Failure) {
        self.failures = self.failures.saturating_add(1);
        self.down = Some(failure);
        if let Some(fault) = self.latched() {
            self.fail_all(&fault);
        }
    }

    /// No more calls; what waits is answered.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.links.clear();
        self.fail_all(&unavailable("hsm_stopping", "the daemon is stopping", false));
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// The answer for a caller whose deadline passed.
    pub fn deadline_fault(&self, op: &Op, abandoned: Abandoned) -> HsmFault {
        let lost_before = match abandoned {
            Abandoned::Waiting { lost_before } => lost_before,
            Abandoned::InFlight | Abandoned::Answered => {
                let message = "the HSM did not answer within hsm.<token>.deadline_ms; a stuck worker is replaced";
                return unavailable("deadline_missed", message, leaves_traces(op));
            }
        };
        let maybe_signed = lost_before > 0 && leaves_traces(op);
        match (self.links.is_empty(), &self.down) {
            (true, Some(failure)) => unavailable(&failure.name, &failure.message, maybe_signed),
            (true, None) => unavailable("hsm_starting", "no HSM worker is ready yet", maybe_signed),
            (false, _) => unavailable("hsm_overloaded", "the call waited in the queue for too long", maybe_signed),
        }
    }

    pub fn health(&self, now: Instant, limit: Duration) -> HsmHealth {
        let state = self.state(now, limit);
        let reason = self.down.clone().filter(|_| state != HsmState::Up);
        HsmHealth { state, workers: self.links.len(), signatures: self.signatures, reason }
    }

    fn state(&self, now: Instant, limit: Duration) -> HsmState {
        if self.links.is_empty() {
            let failing = self.failures > 1 || self.latched().is_some();
            return if failing { HsmState::Down } else { HsmState::Probing };
        }
        let recently_lost = self.lost_at.is_some_and(|lost| now.duration_since(lost) < RECENT);
        let slow = self.in_flight.values().any(|held| now.duration_since(held.sent) > limit / 2);
        let short = self.links.len() < self.workers && self.down.is_some();
        if recently_lost || slow || short { HsmState::Degraded } else { HsmState::Up }
    }

    fn linked(&mut self, worker: u64) -> Option<&mut Linked<S>> {
        self.links.iter_mut().find(|linked| linked.link.worker == worker)
    }

    /// A refused PIN counts once no worker is left: one that is logged in goes on.
    fn latched(&self) -> Option<HsmFault> {
        let failure = self.down.as_ref().filter(|failure| self.links.is_empty() && failure.name == "pin_refused")?;
        Some(HsmFault::PinRefused { message: failure.message.clone() })
    }

    fn fail_all(&mut self, fault: &HsmFault) {
        let waiting = std::mem::take(&mut self.queue).into_iter().map(|(_, job)| job);
        let held = std::mem::take(&mut self.in_flight).into_values().map(|held| held.job);
        for job in waiting.chain(held) {
            job.caller.tell(Err(fault.clone()));
        }
        for linked in &mut self.links {
            linked.in_flight = 0;
        }
    }
}

/// The failure of a token whose identity key is another one than expected.
pub fn wrong_token(expected: KeyId, found: KeyId) -> Failure {
    Failure::refused(
        "wrong_token",
        format!("the token's identity key is {found}, expected {expected}: this is another token"),
        "put the right token in place, or correct hsm.<token>.uri",
    )
}

fn unavailable(name: &str, message: &str, maybe_signed: bool) -> HsmFault {
    HsmFault::Unavailable { name: name.into(), message: message.into(), maybe_signed }
}

/// Doing it again on a new worker changes nothing for anyone.
fn repeatable(op: &Op) -> bool {
    match op {
        Op::Describe
        | Op::ListKeys
        | Op::Sign { .. }
        | Op::Seal { .. }
        | Op::Unseal { .. }
        | Op::Retire { .. }
        | Op::Destroy { .. } => true,
        Op::Generate(_) => false,
    }
}

/// A signature or a key may exist although no answer came.
fn leaves_traces(op: &Op) -> bool {
    match op {
        Op::Describe | Op::ListKeys | Op::Seal { .. } | Op::Unseal { .. } => false,
        Op::Sign { .. } | Op::Generate(_) | Op::Retire { .. } | Op::Destroy { .. } => true,
    }
}

fn payload_bytes(op: &Op) -> usize {
    match op {
        Op::Describe | Op::ListKeys | Op::Generate(_) | Op::Retire { .. } | Op::Destroy { .. } => 1024,
        Op::Sign { input, .. } => 1024 + lint::bytes(input),
        Op::Seal { context, plaintext, .. } => 1024 + context.len() + plaintext.0.len(),
        Op::Unseal { context, sealed, .. } => 1024 + context.len() + sealed.len(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;
    use crate::hsm::KeyOrder;
    use crate::kernel::sign::{Purpose, SignInput};
    use crate::kernel::types::Sha256;

    const LIMIT: Duration = Duration::from_secs(5);

    fn sign() -> Arc<Op> {
        Arc::new(Op::Sign { key: Sha256([0; 32]), input: SignInput::SelfTest { nonce: [0; 32] } })
    }

    fn generate() -> Arc<Op> {
        let (party, purpose, algorithm) = ("bank".into(), Purpose::Root, Purpose::Root.default_algorithm());
        Arc::new(Op::Generate(KeyOrder { party, purpose, agent: None, algorithm }))
    }

    fn link(worker: u64) -> Link<()> {
        Link { worker, stream: () }
    }

    fn submitted(flow: &mut Flow<()>, op: Arc<Op>, now: Instant) -> (u64, Receiver<Answer>) {
        let (answer, receiver) = sync_channel(1);
        (flow.submit(op, now + LIMIT, answer).unwrap(), receiver)
    }

    /// A batch that is written at once.
    fn take(flow: &mut Flow<()>, now: Instant) -> Option<(Link<()>, Vec<Outgoing>)> {
        let taken = flow.take_batch(now, usize::MAX)?;
        flow.sent(taken.0.worker);
        Some(taken)
    }

    fn pin_refused() -> Failure {
        Failure::fault("pin_refused", "wrong", "correct it")
    }

    #[test]
    fn a_call_that_waits_for_a_worker_goes_to_the_next_one() {
        let (mut flow, now) = (Flow::new(1), Instant::now());
        let (id, receiver) = submitted(&mut flow, sign(), now);
        assert!(take(&mut flow, now).is_none());
        flow.connected(link(1), Sha256([1; 32]), 8, now).unwrap();
        assert_eq!(take(&mut flow, now).unwrap().1[0].id, id);
        flow.answered(1, id, Ok(Reply::Signature(vec![1])), now);
        assert_eq!(receiver.try_recv().unwrap(), Ok(Reply::Signature(vec![1])));
    }

    #[test]
    fn a_lost_worker_gives_its_signatures_to_others_three_times_and_generation_never() {
        let (mut flow, now) = (Flow::new(1), Instant::now());
        let identity = Sha256([1; 32]);
        flow.connected(link(1), identity, 8, now).unwrap();
        let (signing, signed) = submitted(&mut flow, sign(), now);
        let (_, generated) = submitted(&mut flow, generate(), now);
        take(&mut flow, now).unwrap();
        assert!(!flow.lost(7, now));
        assert!(flow.lost(1, now));
        assert!(!flow.lost(1, now));
        assert!(matches!(
            generated.try_recv().unwrap(),
            Err(HsmFault::Unavailable { name, maybe_signed: true, .. }) if name == "worker_lost"
        ));
        for worker in 2..=4 {
            assert!(signed.try_recv().is_err());
            flow.connected(link(worker), identity, 8, now).unwrap();
            assert_eq!(take(&mut flow, now).unwrap().1[0].id, signing);
            flow.lost(worker, now);
        }
        assert!(matches!(signed.try_recv().unwrap(), Err(HsmFault::Unavailable { maybe_signed: true, .. })));
    }

    #[test]
    fn what_one_worker_cannot_do_goes_to_another_one_as_long_as_there_is_one() {
        let (mut flow, now) = (Flow::new(2), Instant::now());
        for worker in [1, 2] {
            flow.connected(link(worker), Sha256([1; 32]), 8, now).unwrap();
        }
        let cannot = |maybe_signed| Err(unavailable("module_failed", "every session is lent", maybe_signed));
        let (id, receiver) = submitted(&mut flow, sign(), now);
        let (first, _) = take(&mut flow, now).unwrap();
        flow.answered(first.worker, id, cannot(false), now);
        assert!(receiver.try_recv().is_err());
        let (second, _) = take(&mut flow, now).unwrap();
        assert_ne!(second.worker, first.worker);
        flow.answered(second.worker, id, cannot(true), now);
        assert!(receiver.try_recv().unwrap().is_err(), "it may have been done");

        let (made, receiver) = submitted(&mut flow, generate(), now);
        let (worker, _) = take(&mut flow, now).unwrap();
        flow.answered(worker.worker, made, cannot(false), now);
        assert!(receiver.try_recv().unwrap().is_err(), "a key is not made twice");

        let (id, receiver) = submitted(&mut flow, sign(), now);
        let (worker, _) = take(&mut flow, now).unwrap();
        flow.answered(worker.worker, id, cannot(false), now);
        let other = [1, 2].into_iter().find(|other| *other != worker.worker).unwrap();
        flow.lost(other, now);
        assert!(take(&mut flow, now).is_none(), "another one is being started");
        flow.lost(worker.worker, now);
        for next in 3..=4 {
            flow.connected(link(next), Sha256([1; 32]), 8, now).unwrap();
            assert_eq!(take(&mut flow, now).unwrap().0.worker, next);
            assert!(receiver.try_recv().is_err());
            flow.answered(next, id, cannot(false), now);
            flow.lost(next, now);
        }
        flow.connected(link(5), Sha256([1; 32]), 8, now).unwrap();
        assert_eq!(take(&mut flow, now).unwrap().0.worker, 5);
        flow.answered(5, id, cannot(false), now);
        assert!(receiver.try_recv().unwrap().is_err(), "four workers could not");
    }

    #[test]
    fn a_worker_is_overdue_when_it_is_silent_or_one_call_hangs_but_not_when_it_is_slow() {
        let (mut flow, now) = (Flow::new(1), Instant::now());
        flow.connected(link(1), Sha256([1; 32]), 8, now).unwrap();
        let (id, _receiver) = submitted(&mut flow, sign(), now);
        assert!(flow.overdue(now + LIMIT, LIMIT).is_none());
        take(&mut flow, now).unwrap();
        assert!(flow.is_watched());
        assert!(flow.overdue(now + LIMIT / 2, LIMIT).is_none());
        assert_eq!(flow.overdue(now + LIMIT, LIMIT).unwrap().worker, 1);
        assert_eq!(flow.abandon(id), Abandoned::InFlight);
        let fault = flow.deadline_fault(&sign(), Abandoned::InFlight);
        assert!(matches!(fault, HsmFault::Unavailable { maybe_signed: true, .. }));

        flow.heard(1, 8, now + LIMIT / 2);
        assert!(flow.overdue(now + LIMIT, LIMIT).is_none(), "it answers others");
        flow.heard(1, 8, now + LIMIT * 3 / 2);
        assert_eq!(flow.overdue(now + LIMIT * 2, LIMIT).unwrap().worker, 1, "one session hangs");
    }

    #[test]
    fn the_least_busy_worker_gets_the_next_calls_and_none_takes_more_than_its_share() {
        let (mut flow, now) = (Flow::new(2), Instant::now());
        for worker in [1, 2] {
            flow.connected(link(worker), Sha256([1; 32]), 1, now).unwrap();
        }
        let calls: Vec<_> = (0..16).map(|_| submitted(&mut flow, sign(), now)).collect();
        let (first, batch) = take(&mut flow, now).unwrap();
        assert_eq!(batch.len(), 8);
        let (second, batch) = take(&mut flow, now).unwrap();
        assert_eq!((batch.len(), first.worker != second.worker), (8, true));
        let (_, late) = submitted(&mut flow, sign(), now);
        assert!(take(&mut flow, now).is_none(), "both have enough");
        // An answer by another than the one that holds the call counts for nothing.
        let held = calls.iter().map(|(id, _)| *id).find(|id| flow.in_flight[id].worker == first.worker).unwrap();
        flow.answered(second.worker, held, Ok(Reply::Signature(vec![])), now);
        assert_eq!(flow.in_flight.len(), 16);
        let ids: Vec<u64> = flow.in_flight.iter().filter(|(_, held)| held.worker == 1).map(|(id, _)| *id).collect();
        for id in &ids[..6] {
            flow.answered(1, *id, Ok(Reply::Signature(vec![])), now);
        }
        assert_eq!(take(&mut flow, now).unwrap().0.worker, 1);
        assert!(late.try_recv().is_err());
    }

    #[test]
    fn nobody_else_writes_to_a_worker_while_a_batch_is_being_written() {
        let (mut flow, now) = (Flow::new(1), Instant::now());
        flow.connected(link(1), Sha256([1; 32]), 8, now).unwrap();
        let _first = submitted(&mut flow, sign(), now);
        assert!(flow.has_room());
        assert!(flow.take_batch(now, usize::MAX).is_some());
        assert!(!flow.has_room());
        let _second = submitted(&mut flow, sign(), now);
        assert!(flow.take_batch(now, usize::MAX).is_none());
        flow.sent(1);
        assert!(flow.has_room());
        assert!(flow.take_batch(now, usize::MAX).is_some());
    }

    #[test]
    fn calls_that_change_the_token_go_one_at_a_time_and_do_not_hold_up_the_others() {
        let (mut flow, now) = (Flow::new(2), Instant::now());
        for worker in [1, 2] {
            flow.connected(link(worker), Sha256([1; 32]), 8, now).unwrap();
        }
        let (first, _first) = submitted(&mut flow, generate(), now);
        let (second, _second) = submitted(&mut flow, generate(), now);
        let (signing, _signed) = submitted(&mut flow, sign(), now);
        let mut sent = Vec::new();
        while let Some((link, batch)) = take(&mut flow, now) {
            sent.extend(batch.into_iter().map(|call| (link.worker, call.id)));
        }
        assert_eq!(sent.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [first, signing]);
        flow.answered(sent[0].0, first, Ok(Reply::Keys(vec![])), now);
        assert_eq!(take(&mut flow, now).unwrap().1[0].id, second);
    }

    #[test]
    fn what_is_large_is_left_to_the_thread_that_may_wait() {
        let (mut flow, now) = (Flow::new(1), Instant::now());
        flow.connected(link(1), Sha256([1; 32]), 8, now).unwrap();
        let _call = submitted(&mut flow, sign(), now);
        assert!(flow.next_exceeds(10));
        assert!(flow.take_batch(now, 10).is_none());
        assert!(!flow.next_exceeds(64 * 1024));
        assert!(flow.take_batch(now, 64 * 1024).is_some());
    }

    #[test]
    fn a_call_that_only_waited_certainly_signed_nothing() {
        let (mut flow, now) = (Flow::new(1), Instant::now());
        let (id, _receiver) = submitted(&mut flow, sign(), now);
        let abandoned = flow.abandon(id);
        assert!(matches!(
            flow.deadline_fault(&sign(), abandoned),
            HsmFault::Unavailable { name, maybe_signed: false, .. } if name == "hsm_starting"
        ));
        flow.down(Failure::fault("token_missing", "gone", "put it back"));
        assert_eq!(flow.deadline_fault(&sign(), abandoned).name(), "token_missing");
        flow.connected(link(1), Sha256([1; 32]), 8, now).unwrap();
        assert_eq!(flow.deadline_fault(&sign(), abandoned).name(), "hsm_overloaded");
        assert!(take(&mut flow, now).is_none());
    }

    #[test]
    fn expired_calls_are_never_sent() {
        let (mut flow, now) = (Flow::new(1), Instant::now());
        flow.connected(link(1), Sha256([1; 32]), 8, now).unwrap();
        let (_, _receiver) = submitted(&mut flow, sign(), now);
        assert!(take(&mut flow, now + LIMIT).is_none());
    }

    #[test]
    fn a_full_queue_is_busy_and_a_worker_holds_no_more_than_its_window() {
        let (mut flow, now) = (Flow::new(1), Instant::now());
        let _held: Vec<_> = (0..QUEUE_MAX).map(|_| submitted(&mut flow, sign(), now)).collect();
        let (answer, _receiver) = sync_channel(1);
        assert_eq!(flow.submit(sign(), now + LIMIT, answer), Err(HsmFault::Busy));
        flow.connected(link(1), Sha256([1; 32]), 8, now).unwrap();
        assert_eq!(take(&mut flow, now).unwrap().1.len(), 8 * HELD);
        assert!(take(&mut flow, now).is_none());
    }

    #[test]
    fn a_refused_pin_answers_every_waiting_and_later_call() {
        let (mut flow, now) = (Flow::new(1), Instant::now());
        let (_, receiver) = submitted(&mut flow, sign(), now);
        flow.down(pin_refused());
        assert!(matches!(receiver.try_recv().unwrap(), Err(HsmFault::PinRefused { .. })));
        let (answer, _receiver) = sync_channel(1);
        assert!(matches!(flow.submit(sign(), now, answer), Err(HsmFault::PinRefused { .. })));
        assert_eq!(flow.state(now, LIMIT), HsmState::Down);
    }

    #[test]
    fn a_worker_that_is_logged_in_goes_on_when_the_pin_of_its_successor_is_refused() {
        let (mut flow, now) = (Flow::new(2), Instant::now());
        flow.connected(link(1), Sha256([1; 32]), 8, now).unwrap();
        flow.down(pin_refused());
        let (_, receiver) = submitted(&mut flow, sign(), now);
        assert!(take(&mut flow, now).is_some());
        assert_eq!(flow.state(now, LIMIT), HsmState::Degraded);
        flow.lost(1, now);
        assert!(matches!(receiver.try_recv().unwrap(), Err(HsmFault::PinRefused { .. })));
    }

    #[test]
    fn another_token_in_the_slot_is_refused() {
        let (mut flow, now) = (Flow::new(1), Instant::now());
        flow.connected(link(1), Sha256([1; 32]), 8, now).unwrap();
        flow.lost(1, now);
        assert_eq!(flow.connected(link(2), Sha256([2; 32]), 8, now).unwrap_err().name, "wrong_token");
        assert!(take(&mut flow, now).is_none());
    }

    #[test]
    fn the_state_follows_the_workers() {
        let (mut flow, now) = (Flow::<()>::new(1), Instant::now());
        assert_eq!(flow.state(now, LIMIT), HsmState::Probing);
        flow.connected(link(1), Sha256([1; 32]), 8, now).unwrap();
        assert_eq!(flow.state(now, LIMIT), HsmState::Up);
        flow.lost(1, now);
        flow.down(Failure::fault("worker_died", "x", "y"));
        assert_eq!(flow.state(now, LIMIT), HsmState::Probing);
        flow.down(Failure::fault("token_missing", "x", "y"));
        assert_eq!(flow.state(now, LIMIT), HsmState::Down);
        flow.connected(link(3), Sha256([1; 32]), 8, now).unwrap();
        assert_eq!(flow.state(now, LIMIT), HsmState::Degraded);
        assert_eq!(flow.state(now + RECENT, LIMIT), HsmState::Up);
    }
}
