//! The book of calls in the front: what waits, what is with a worker, what to do when a worker is lost.
//!
//! Plain state without threads, sockets or clock (`now` is an argument), so that every rule can be tested alone.
//! `client` puts it behind one lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use super::{HsmFault, Op, Reply, lint};
use crate::kernel::types::KeyId;
use crate::ops::failure::Failure;

pub type Answer = Result<Reply, HsmFault>;

/// Calls that wait for a worker. One more is `Busy`.
pub const QUEUE_MAX: usize = 1024;
/// Calls that a worker holds at once: four a session, so that none of its sessions idles, and few enough that one
/// which is in flight for the whole deadline means a stuck module, not a long queue.
pub const WINDOW: usize = 32;
/// Payload of one batch, so that a frame stays below its limit.
const BATCH_BYTES_MAX: usize = 12 * 1024 * 1024;
/// A worker that was lost within this time makes the token `degraded`.
const RECENT: Duration = Duration::from_secs(60);

/// One call and the way back to its caller.
#[derive(Debug)]
struct Job {
    op: Arc<Op>,
    deadline: Instant,
    /// Workers that were lost with it.
    lost: u8,
    answer: SyncSender<Answer>,
}

/// A call as it goes to a worker.
#[derive(Debug)]
pub struct Outgoing {
    pub id: u64,
    pub deadline: Instant,
    pub op: Arc<Op>,
}

/// The connection to the current worker.
#[derive(Clone, Debug)]
pub struct Link<S> {
    pub worker: u64,
    pub stream: S,
}

/// Readiness of a token, for `doctor`, metrics and the breaker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HsmState {
    Up,
    /// Answers, but slowly, or a worker was lost within the last minute.
    Degraded,
    /// No worker, and the last attempts to start one failed.
    Down,
    /// No worker; one is being started.
    Probing,
}

/// What was left of a call whose caller gave up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Abandoned {
    /// Never with a worker, or with one that was lost: the flag says which.
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
    in_flight: BTreeMap<u64, (Instant, Job)>,
    link: Option<Link<S>>,
    /// The identity key first seen: every later worker must show the same.
    identity: Option<KeyId>,
    down: Option<Failure>,
    /// Failed starts since the last working worker.
    failures: u32,
    lost_at: Option<Instant>,
    stopping: bool,
    last_id: u64,
}

impl<S> Default for Flow<S> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            in_flight: BTreeMap::new(),
            link: None,
            identity: None,
            down: None,
            failures: 0,
            lost_at: None,
            stopping: false,
            last_id: 0,
        }
    }
}

impl<S: Clone> Flow<S> {
    /// Queues a call and answers its id.
    ///
    /// # Errors
    /// `PinRefused` when latched, `Busy` when the queue is full, `Unavailable` (`hsm_stopping`) at shutdown.
    pub fn submit(&mut self, op: Arc<Op>, deadline: Instant, answer: SyncSender<Answer>) -> Result<u64, HsmFault> {
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
        self.queue.push_back((self.last_id, Job { op, deadline, lost: 0, answer }));
        Ok(self.last_id)
    }

    /// Takes the next calls for the current worker and books them as in flight. Calls past their deadline are
    /// dropped: their callers have left.
    pub fn take_batch(&mut self, now: Instant) -> Option<(Link<S>, Vec<Outgoing>)> {
        let link = self.link.clone()?;
        let mut batch = Vec::new();
        let mut bytes = 0;
        while self.in_flight.len() < WINDOW {
            let Some((_, next)) = self.queue.front() else {
                break;
            };
            let size = payload_bytes(&next.op);
            if bytes + size > BATCH_BYTES_MAX {
                break;
            }
            let Some((id, job)) = self.queue.pop_front() else {
                break;
            };
            if job.deadline <= now {
                continue;
            }
            bytes += size;
            batch.push(Outgoing { id, deadline: job.deadline, op: Arc::clone(&job.op) });
            self.in_flight.insert(id, (now, job));
        }
        (!batch.is_empty()).then_some((link, batch))
    }

    /// Hands a worker's answer to its caller. An unknown id is an answer that came after its worker was given up.
    pub fn answered(&mut self, id: u64, outcome: Answer) {
        if let Some((_, job)) = self.in_flight.remove(&id) {
            // The caller may have left; then nobody needs it.
            let _ = job.answer.try_send(outcome);
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

    /// The current worker when it has held a call for `limit` or longer.
    pub fn overdue(&self, now: Instant, limit: Duration) -> Option<Link<S>> {
        let oldest = self.oldest_in_flight()?;
        if now.duration_since(oldest) < limit {
            return None;
        }
        self.link.clone()
    }

    /// When `overdue` has to be asked again.
    pub fn next_check(&self, limit: Duration) -> Option<Instant> {
        self.oldest_in_flight().map(|sent| sent + limit)
    }

    /// A new worker said Hello.
    ///
    /// # Errors
    /// `wrong_token` when its identity key is not the one first seen.
    pub fn connected(&mut self, link: Link<S>, identity: KeyId) -> Result<(), Failure> {
        let known = *self.identity.get_or_insert(identity);
        if known != identity {
            let failure = wrong_token(known, identity);
            self.down = Some(failure.clone());
            return Err(failure);
        }
        self.link = Some(link);
        self.down = None;
        self.failures = 0;
        Ok(())
    }

    /// The worker's connection is gone. Harmless calls go back to the head of the queue, once; the others are
    /// answered as unknown. False when it was not the current worker.
    pub fn lost(&mut self, worker: u64, now: Instant) -> bool {
        if self.link.as_ref().map(|link| link.worker) != Some(worker) {
            return false;
        }
        self.link = None;
        self.lost_at = Some(now);
        let held = std::mem::take(&mut self.in_flight);
        for (id, (_, mut job)) in held.into_iter().rev() {
            if job.lost > 0 || !repeatable(&job.op) {
                let maybe = unavailable("worker_lost", "the HSM worker ended during the call", leaves_traces(&job.op));
                let _ = job.answer.try_send(Err(maybe));
                continue;
            }
            if job.deadline > now {
                job.lost += 1;
                self.queue.push_front((id, job));
            }
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
        self.link = None;
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
                let message = "the HSM did not answer within hsm.<token>.deadline_ms; its worker is replaced";
                return unavailable("deadline_missed", message, leaves_traces(op));
            }
        };
        let maybe_signed = lost_before > 0 && leaves_traces(op);
        match (&self.link, &self.down) {
            (None, Some(failure)) => unavailable(&failure.name, &failure.message, maybe_signed),
            (None, None) => unavailable("hsm_starting", "no HSM worker is ready yet", maybe_signed),
            (Some(_), _) => unavailable("hsm_overloaded", "the call waited in the queue for too long", maybe_signed),
        }
    }

    pub fn state(&self, now: Instant, limit: Duration) -> HsmState {
        if self.link.is_none() {
            let failing = self.failures > 1 || self.latched().is_some();
            return if failing { HsmState::Down } else { HsmState::Probing };
        }
        let recently_lost = self.lost_at.is_some_and(|lost| now.duration_since(lost) < RECENT);
        let slow = self.oldest_in_flight().is_some_and(|sent| now.duration_since(sent) > limit / 2);
        if recently_lost || slow { HsmState::Degraded } else { HsmState::Up }
    }

    fn latched(&self) -> Option<HsmFault> {
        let failure = self.down.as_ref().filter(|failure| failure.name == "pin_refused")?;
        Some(HsmFault::PinRefused { message: failure.message.clone() })
    }

    fn fail_all(&mut self, fault: &HsmFault) {
        let waiting = std::mem::take(&mut self.queue).into_iter().map(|(_, job)| job);
        let held = std::mem::take(&mut self.in_flight).into_values().map(|(_, job)| job);
        for job in waiting.chain(held) {
            let _ = job.answer.try_send(Err(fault.clone()));
        }
    }

    fn oldest_in_flight(&self) -> Option<Instant> {
        self.in_flight.values().map(|(sent, _)| *sent).min()
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

    fn pin_refused() -> Failure {
        Failure::fault("pin_refused", "wrong", "correct it")
    }

    #[test]
    fn a_call_that_waits_for_a_worker_goes_to_the_next_one() {
        let (mut flow, now) = (Flow::default(), Instant::now());
        let (id, receiver) = submitted(&mut flow, sign(), now);
        assert!(flow.take_batch(now).is_none());
        flow.connected(link(1), Sha256([1; 32])).unwrap();
        assert_eq!(flow.take_batch(now).unwrap().1[0].id, id);
        flow.answered(id, Ok(Reply::Signature(vec![1])));
        assert_eq!(receiver.try_recv().unwrap(), Ok(Reply::Signature(vec![1])));
    }

    #[test]
    fn a_lost_worker_gives_its_signatures_to_the_next_one_once_and_generation_never() {
        let (mut flow, now) = (Flow::default(), Instant::now());
        let identity = Sha256([1; 32]);
        flow.connected(link(1), identity).unwrap();
        let (signing, signed) = submitted(&mut flow, sign(), now);
        let (_, generated) = submitted(&mut flow, generate(), now);
        flow.take_batch(now).unwrap();
        assert!(!flow.lost(7, now));
        assert!(flow.lost(1, now));
        assert!(matches!(
            generated.try_recv().unwrap(),
            Err(HsmFault::Unavailable { name, maybe_signed: true, .. }) if name == "worker_lost"
        ));
        flow.connected(link(2), identity).unwrap();
        assert_eq!(flow.take_batch(now).unwrap().1[0].id, signing);
        flow.lost(2, now);
        assert!(matches!(signed.try_recv().unwrap(), Err(HsmFault::Unavailable { maybe_signed: true, .. })));
    }

    #[test]
    fn a_call_held_for_the_whole_deadline_makes_its_worker_overdue() {
        let (mut flow, now) = (Flow::default(), Instant::now());
        flow.connected(link(1), Sha256([1; 32])).unwrap();
        let (id, _receiver) = submitted(&mut flow, sign(), now);
        assert!(flow.overdue(now + LIMIT, LIMIT).is_none());
        flow.take_batch(now).unwrap();
        assert!(flow.overdue(now + LIMIT / 2, LIMIT).is_none());
        assert_eq!(flow.overdue(now + LIMIT, LIMIT).unwrap().worker, 1);
        assert_eq!(flow.next_check(LIMIT), Some(now + LIMIT));
        assert_eq!(flow.abandon(id), Abandoned::InFlight);
        let fault = flow.deadline_fault(&sign(), Abandoned::InFlight);
        assert!(matches!(fault, HsmFault::Unavailable { maybe_signed: true, .. }));
    }

    #[test]
    fn a_call_that_only_waited_certainly_signed_nothing() {
        let (mut flow, now) = (Flow::default(), Instant::now());
        let (id, _receiver) = submitted(&mut flow, sign(), now);
        let abandoned = flow.abandon(id);
        assert!(matches!(
            flow.deadline_fault(&sign(), abandoned),
            HsmFault::Unavailable { name, maybe_signed: false, .. } if name == "hsm_starting"
        ));
        flow.down(Failure::fault("token_missing", "gone", "put it back"));
        assert_eq!(flow.deadline_fault(&sign(), abandoned).name(), "token_missing");
        flow.connected(link(1), Sha256([1; 32])).unwrap();
        assert_eq!(flow.deadline_fault(&sign(), abandoned).name(), "hsm_overloaded");
        assert!(flow.take_batch(now).is_none());
    }

    #[test]
    fn expired_calls_are_never_sent() {
        let (mut flow, now) = (Flow::default(), Instant::now());
        flow.connected(link(1), Sha256([1; 32])).unwrap();
        let (_, _receiver) = submitted(&mut flow, sign(), now);
        assert!(flow.take_batch(now + LIMIT).is_none());
    }

    #[test]
    fn a_full_queue_is_busy_and_a_worker_holds_no_more_than_its_window() {
        let (mut flow, now) = (Flow::default(), Instant::now());
        let _held: Vec<_> = (0..QUEUE_MAX).map(|_| submitted(&mut flow, sign(), now)).collect();
        let (answer, _receiver) = sync_channel(1);
        assert_eq!(flow.submit(sign(), now + LIMIT, answer), Err(HsmFault::Busy));
        flow.connected(link(1), Sha256([1; 32])).unwrap();
        assert_eq!(flow.take_batch(now).unwrap().1.len(), WINDOW);
        assert!(flow.take_batch(now).is_none());
    }

    #[test]
    fn a_refused_pin_answers_every_waiting_and_later_call() {
        let (mut flow, now) = (Flow::default(), Instant::now());
        let (_, receiver) = submitted(&mut flow, sign(), now);
        flow.down(pin_refused());
        assert!(matches!(receiver.try_recv().unwrap(), Err(HsmFault::PinRefused { .. })));
        let (answer, _receiver) = sync_channel(1);
        assert!(matches!(flow.submit(sign(), now, answer), Err(HsmFault::PinRefused { .. })));
        assert_eq!(flow.state(now, LIMIT), HsmState::Down);
    }

    #[test]
    fn another_token_in_the_slot_is_refused() {
        let mut flow = Flow::default();
        flow.connected(link(1), Sha256([1; 32])).unwrap();
        flow.lost(1, Instant::now());
        assert_eq!(flow.connected(link(2), Sha256([2; 32])).unwrap_err().name, "wrong_token");
        assert!(flow.take_batch(Instant::now()).is_none());
    }

    #[test]
    fn the_state_follows_the_workers() {
        let (mut flow, now) = (Flow::<()>::default(), Instant::now());
        assert_eq!(flow.state(now, LIMIT), HsmState::Probing);
        flow.connected(link(1), Sha256([1; 32])).unwrap();
        assert_eq!(flow.state(now, LIMIT), HsmState::Up);
        flow.lost(1, now);
        flow.down(Failure::fault("worker_died", "x", "y"));
        assert_eq!(flow.state(now, LIMIT), HsmState::Probing);
        flow.down(Failure::fault("token_missing", "x", "y"));
        assert_eq!(flow.state(now, LIMIT), HsmState::Down);
        flow.connected(link(3), Sha256([1; 32])).unwrap();
        assert_eq!(flow.state(now, LIMIT), HsmState::Degraded);
        assert_eq!(flow.state(now + RECENT, LIMIT), HsmState::Up);
    }
}
