//! The front's end: a [`Token`] whose calls travel to a worker process, with a deadline on each.
//!
//! Threads that call send their calls themselves, or leave them to whoever is sending already; tasks always leave them to
//! the watching thread, since no task may wait for a worker's socket. Three kinds of thread, all owned here and joined on
//! drop: one hears the supervisor, one watches deadlines (and sends what is a task's, or too large for a caller to wait
//! for), one a connection reads answers and sends what waited for them. Callers wait on a channel of their own, never on a
//! lock that is held across I/O.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::channel::Channel;
use super::flow::{Answer, Flow, Link, Outgoing};
pub use super::flow::{HsmHealth, HsmState};
use super::messages::{self, FrontMessage, SupervisorMessage};
use super::wire::{self, FromWorker, Request, ToWorker};
use super::{Asking, HsmFault, Op, Reply, Token, lint};
use crate::ops::failure::Failure;

/// Frames that a caller writes before it looks after its own answer.
const CALLER_ROUNDS: usize = 4;
/// Payload that callers and readers write themselves: it fits the socket's buffer, so that a busy worker does not
/// block them. The watching thread writes what is larger.
const SHORT_BYTES_MAX: usize = 64 * 1024;
/// Sessions that a worker may claim to work with at once.
const HANDS_MAX: usize = 256;
/// Frames that a reader writes before it reads on.
const READER_ROUNDS: usize = 4;

/// A token behind worker processes. Dropping it ends its threads and tells the supervisor by closing the socket.
#[derive(Debug)]
pub struct WorkerPool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The front's other business with its supervisor.
#[derive(Debug)]
pub struct ControlHandle {
    shared: Arc<Shared>,
}

/// Why the front is to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopReason {
    /// The supervisor asked.
    Asked,
    /// The supervisor is gone without a word.
    SupervisorGone,
}

#[derive(Debug)]
struct Shared {
    /// Guards the book only; held for no I/O.
    flow: Mutex<Flow<Arc<UnixStream>>>,
    /// For the watching thread: calls are under way again, something large waits, or the end.
    changed: Condvar,
    /// The watching thread rests: no call is under way.
    resting: AtomicBool,
    /// The watching thread waits: a task that leaves a call to it wakes it. Set under the lock of `flow`.
    idle: AtomicBool,
    /// Calls were left to the watching thread since it last sent some. Set under the lock of `flow`.
    left: AtomicBool,
    control: Channel,
    deadline: Duration,
    stop: Mutex<Option<StopReason>>,
    stopped: Condvar,
    /// The daemon's lock: held for as long as this process lives.
    lock: Mutex<Option<OwnedFd>>,
}

/// The control socket that the supervisor gave the front as its standard input.
///
/// # Errors
/// `no_supervisor` when standard input cannot be used.
pub fn control_from_stdin() -> Result<OwnedFd, Failure> {
    io::stdin().as_fd().try_clone_to_owned().map_err(|error| no_supervisor(&error))
}

impl WorkerPool {
    /// Takes over the control socket. Returns at once; calls wait for the first worker within their deadline.
    ///
    /// # Errors
    /// `no_supervisor` when `control` is not a socket of a supervisor.
    pub fn attach(control: OwnedFd, workers: u32, deadline: Duration) -> Result<(Arc<Self>, ControlHandle), Failure> {
        rustix::net::sockopt::socket_type(&control)
            .ok()
            .filter(|kind| *kind == rustix::net::SocketType::SEQPACKET)
            .ok_or_else(|| no_supervisor(&io::Error::from(io::ErrorKind::InvalidInput)))?;
        let shared = Arc::new(Shared {
            flow: Mutex::new(Flow::new(usize::try_from(workers).unwrap_or(1))),
            changed: Condvar::new(),
            resting: AtomicBool::new(false),
            idle: AtomicBool::new(false),
            left: AtomicBool::new(false),
            control: Channel::from(control),
            deadline,
            stop: Mutex::new(None),
            stopped: Condvar::new(),
            lock: Mutex::new(None),
        });
        let spawn = |name: &str, work: fn(&Arc<Shared>)| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(name.into()).spawn(move || work(&shared)).map_err(|error| {
                Failure::fault("thread_refused", format!("no thread could be started: {error}"), "check the limits")
            })
        };
        let threads = vec![spawn("hsm-control", hear_supervisor)?, spawn("hsm-watch", watch)?];
        let pool = Arc::new(Self { shared: Arc::clone(&shared), threads: Mutex::new(threads) });
        Ok((pool, ControlHandle { shared }))
    }

    /// Readiness, for `doctor`, metrics and the breaker.
    pub fn health(&self) -> HsmHealth {
        self.shared.flow().health(Instant::now(), self.shared.deadline)
    }
}

impl Token for WorkerPool {
    fn call(&self, op: Op) -> Result<Reply, HsmFault> {
        // What the worker would refuse for its size is refused here, so that one call cannot break the connection.
        lint::lint_size(&op)?;
        let op = Arc::new(op);
        let deadline = Instant::now() + self.shared.deadline;
        let (answer, receiver) = sync_channel(1);
        let id = self.shared.flow().submit(Arc::clone(&op), deadline, answer)?;
        self.shared.send_some(CALLER_ROUNDS, SHORT_BYTES_MAX);
        match receiver.recv_timeout(self.shared.deadline) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                let mut flow = self.shared.flow();
                let abandoned = flow.abandon(id);
                receiver.try_recv().unwrap_or_else(|_| Err(flow.deadline_fault(&op, abandoned)))
            }
        }
    }

    fn ask(self: Arc<Self>, op: Op) -> Asking {
        Box::pin(async move {
            lint::lint_size(&op)?;
            let op = Arc::new(op);
            let deadline = Instant::now() + self.shared.deadline;
            let (answer, mut receiver) = oneshot::channel();
            let id = self.shared.leave_to_watcher(Arc::clone(&op), deadline, answer)?;
            if let Ok(Ok(outcome)) = timeout_at(deadline.into(), &mut receiver).await {
                return outcome;
            }
            let mut flow = self.shared.flow();
            let abandoned = flow.abandon(id);
            receiver.try_recv().unwrap_or_else(|_| Err(flow.deadline_fault(&op, abandoned)))
        })
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.shared.end(StopReason::Asked);
        self.shared.control.shut_down();
        let threads = std::mem::take(self.threads.get_mut().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A panic in it was reported by its own hook.
            let _ = thread.join();
        }
    }
}

impl ControlHandle {
    /// Tells the supervisor that every door is open; it prints the ports.
    ///
    /// # Errors
    /// `supervisor_gone`.
    pub fn ready(&self, ports: serde_json::Value) -> Result<(), Failure> {
        self.send(&FrontMessage::Ready { ports })
    }

    /// Tells the supervisor why the front cannot start, so that it is the supervisor's one line of output. The
    /// caller exits next.
    ///
    /// # Errors
    /// `supervisor_gone`.
    pub fn failed(&self, failure: &Failure) -> Result<(), Failure> {
        self.send(&FrontMessage::Failed(failure.clone()))
    }

    /// Blocks until the supervisor asks to stop, or is gone.
    pub fn wait_stop(&self) -> StopReason {
        let mut stop = self.shared.stop.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(reason) = *stop {
                return reason;
            }
            stop = self.shared.stopped.wait(stop).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn send(&self, message: &FrontMessage) -> Result<(), Failure> {
        messages::send(&self.shared.control, message, None).map_err(|error| {
            Failure::fault("supervisor_gone", format!("the supervisor cannot be told: {error}"), "start it again")
        })
    }
}

fn no_supervisor(error: &io::Error) -> Failure {
    Failure::usage(
        "no_supervisor",
        format!("standard input is not a supervisor's control socket: {error}"),
        "this verb is started by `countersign serve` only",
    )
}

impl Shared {
    fn flow(&self) -> MutexGuard<'_, Flow<Arc<UnixStream>>> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, reason: StopReason) {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.stopped.notify_all();
    }

    /// Queues a task's call and sees that the watching thread sends it.
    fn leave_to_watcher(
        &self,
        op: Arc<Op>,
        deadline: Instant,
        answer: oneshot::Sender<Answer>,
    ) -> Result<u64, HsmFault> {
        let mut flow = self.flow();
        let id = flow.submit(op, deadline, answer)?;
        // Whoever hears from a busy worker next sends it what waits.
        let wakes = flow.has_room() && {
            self.left.store(true, Ordering::Relaxed);
            self.idle.swap(false, Ordering::Relaxed)
        };
        drop(flow);
        if wakes {
            self.changed.notify_all();
        }
        Ok(id)
    }

    /// Sends what waits to workers that can use it, in at most so many frames; wakes the watching thread for the rest.
    fn send_some(&self, rounds: usize, bytes_max: usize) {
        let mut flow = self.flow();
        for _ in 0..rounds {
            let now = Instant::now();
            let Some((link, batch)) = flow.take_batch(now, bytes_max) else {
                break;
            };
            drop(flow);
            let written = send(&link.stream, batch, now);
            flow = self.flow();
            flow.sent(link.worker);
            if let Err(error) = written {
                drop(flow);
                self.give_up(&link, &format!("the connection broke: {error}"));
                flow = self.flow();
            }
        }
        let large = flow.next_exceeds(bytes_max);
        let watched = flow.is_watched();
        drop(flow);
        if large || (watched && self.resting.swap(false, Ordering::Relaxed)) {
            self.changed.notify_all();
        }
    }

    /// Books the loss of a worker, ends its connection, and asks for a new one.
    fn give_up(&self, link: &Link<Arc<UnixStream>>, reason: &str) {
        let mut flow = self.flow();
        // A worker that said Hello while it all ended is no loss.
        let was_current = flow.lost(link.worker, Instant::now()) && !flow.is_stopping();
        drop(flow);
        let _ = link.stream.shutdown(Shutdown::Both);
        if was_current {
            tracing::warn!(worker = link.worker, reason, "HSM worker given up");
            self.ask_to_kill(link.worker, reason);
        }
    }

    fn ask_to_kill(&self, worker: u64, reason: &str) {
        // Once it is over, the supervisor ends the workers without being asked, and may be gone itself.
        if self.flow().is_stopping() {
            return;
        }
        let message = FrontMessage::Kill { worker, reason: reason.to_owned() };
        if let Err(error) = messages::send(&self.control, &message, None) {
            tracing::warn!(%error, "the supervisor could not be told of a lost worker");
        }
    }
}

/// Thread: takes the supervisor's messages until it is gone. Owns the connections' threads.
fn hear_supervisor(shared: &Arc<Shared>) {
    let mut readers: Vec<(Arc<UnixStream>, JoinHandle<()>)> = Vec::new();
    let reason = loop {
        let (message, descriptor) = match shared.control.receive() {
            Ok(Some(packet)) => match messages::parse(packet) {
                Ok(parsed) => parsed,
                Err(error) => {
                    tracing::warn!(%error, "a message of the supervisor was not understood");
                    continue;
                }
            },
            Ok(None) | Err(_) => break StopReason::SupervisorGone,
        };
        match message {
            SupervisorMessage::Lock => {
                *shared.lock.lock().unwrap_or_else(PoisonError::into_inner) = descriptor;
            }
            SupervisorMessage::Worker { worker } => {
                readers.retain(|(_, thread)| !thread.is_finished());
                let Some(descriptor) = descriptor else {
                    tracing::warn!(worker, "a worker came without its socket");
                    continue;
                };
                let link = Link { worker, stream: Arc::new(UnixStream::from(descriptor)) };
                let (shared, stream) = (Arc::clone(shared), Arc::clone(&link.stream));
                let reader = std::thread::Builder::new().name("hsm-read".into());
                match reader.spawn(move || read_replies(&shared, &link)) {
                    Ok(thread) => readers.push((stream, thread)),
                    Err(error) => tracing::error!(%error, "no thread for an HSM worker's answers"),
                }
            }
            SupervisorMessage::WorkerDown { failure } => {
                tracing::warn!(name = failure.name, message = failure.message, "HSM worker down");
                shared.flow().down(failure);
            }
            // The token goes on serving: what is in flight at the front may still need a signature.
            SupervisorMessage::Stop => shared.end(StopReason::Asked),
        }
    };
    shared.end(reason);
    shared.flow().stop();
    shared.changed.notify_all();
    for (stream, thread) in readers {
        let _ = stream.shutdown(Shutdown::Both);
        let _ = thread.join();
    }
}

/// Thread: gives up a worker that holds calls for too long, and sends what nobody else did.
fn watch(shared: &Arc<Shared>) {
    let tick = (shared.deadline / 8).clamp(Duration::from_millis(5), Duration::from_millis(250));
    let mut flow = shared.flow();
    while !flow.is_stopping() {
        if let Some(link) = flow.overdue(Instant::now(), shared.deadline) {
            drop(flow);
            shared.give_up(&link, "deadline_missed");
            flow = shared.flow();
            continue;
        }
        drop(flow);
        shared.send_some(usize::MAX, usize::MAX);
        flow = shared.flow();
        if flow.is_stopping() {
            return;
        }
        // What was left while it was sending.
        if shared.left.swap(false, Ordering::Relaxed) {
            continue;
        }
        shared.idle.store(true, Ordering::Relaxed);
        flow = if flow.is_watched() {
            shared.changed.wait_timeout(flow, tick).unwrap_or_else(PoisonError::into_inner).0
        } else {
            shared.resting.store(true, Ordering::Relaxed);
            shared.changed.wait(flow).unwrap_or_else(PoisonError::into_inner)
        };
        shared.idle.store(false, Ordering::Relaxed);
    }
}

fn hands(said: u32) -> usize {
    usize::try_from(said).unwrap_or(usize::MAX).min(HANDS_MAX)
}

fn send(stream: &UnixStream, batch: Vec<Outgoing>, now: Instant) -> io::Result<()> {
    let requests = batch.into_iter().map(|call| Request {
        id: call.id,
        deadline_ms: u64::try_from(call.deadline.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX),
        op: Arc::unwrap_or_clone(call.op),
    });
    wire::write_frame(&mut &*stream, &ToWorker::Batch(requests.collect()))
}

/// Thread: one worker's connection, from its Hello to its end.
fn read_replies(shared: &Arc<Shared>, link: &Link<Arc<UnixStream>>) {
    let mut stream = io::BufReader::with_capacity(64 * 1024, &*link.stream);
    let limits = link
        .stream
        .set_write_timeout(Some(shared.deadline))
        .and_then(|()| link.stream.set_read_timeout(Some(shared.deadline)));
    let hello = limits.and_then(|()| wire::read_frame(&mut stream));
    match hello {
        Ok(Some(FromWorker::Hello(hello))) => {
            let (token, identity) = (hello.token, hello.identity.id);
            let connected = shared.flow().connected(link.clone(), identity, hands(hello.hands), Instant::now());
            if let Err(failure) = connected {
                tracing::error!(name = failure.name, message = failure.message, "HSM worker refused");
                shared.ask_to_kill(link.worker, &failure.name);
                return;
            }
            tracing::info!(worker = link.worker, pid = token.worker_pid, token = token.label, "HSM worker ready");
            shared.send_some(READER_ROUNDS, SHORT_BYTES_MAX);
        }
        Ok(Some(FromWorker::Replies { .. }) | None) | Err(_) => {
            shared.ask_to_kill(link.worker, "no_hello");
            return;
        }
    }
    if let Err(error) = link.stream.set_read_timeout(None) {
        shared.give_up(link, &error.to_string());
        return;
    }
    loop {
        match wire::read_frame(&mut stream) {
            Ok(Some(FromWorker::Replies { hands: now_has, replies })) => {
                let mut flow = shared.flow();
                let now = Instant::now();
                flow.heard(link.worker, hands(now_has), now);
                for reply in replies {
                    flow.answered(link.worker, reply.id, reply.outcome, now);
                }
                drop(flow);
                shared.send_some(READER_ROUNDS, SHORT_BYTES_MAX);
            }
            Ok(Some(FromWorker::Hello(_))) => return shared.give_up(link, "a second Hello"),
            Ok(None) => return shared.give_up(link, "the worker closed its connection"),
            Err(error) => return shared.give_up(link, &error.to_string()),
        }
    }
}
