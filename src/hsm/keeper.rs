//! Keeps the workers of a token alive: starts them, hands them over, replaces each one that ends.
//!
//! Returns events; who listens (a front process, an embedding program) is the caller's business. Workers log in one
//! at a time, each with a PIN that it gets for that one login; the others are started when the first is ready. A
//! refused PIN is latched here: it is not presented again, by no worker, until the daemon is started anew.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::channel::{Channel, Packet};
use super::messages::{self, WorkerJob, WorkerOrders, WorkerReport};
use super::provision::Expected;
use super::settings::HsmSettings;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

/// From start to Ready: C_Initialize of a token with 10,000 keys took 0.8 s, slow hardware more.
const START_LIMIT: Duration = Duration::from_secs(60);
/// A worker asked to stop finishes its calls and finalizes the module within this time, else it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Packets taken in and not looked at yet.
const INBOX_MAX: usize = 16;
/// Notes of all workers that were not looked at yet.
const NOTES_MAX: usize = 64;
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// Short, so that the token signs again soon after the HSM is back. A PIN is presented only to a token that shows the
/// right identity.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A worker that lived this long ends the backoff.
const SETTLED: Duration = Duration::from_secs(30);

/// What a worker needs to be started, again and again.
#[derive(Debug)]
pub struct WorkerPlan {
    /// The program to run as `hsm-worker`; normally this very binary.
    pub program: PathBuf,
    pub state: StateDir,
    pub settings: HsmSettings,
    pub expected: Expected,
    pub pin: SecretString,
}

/// What happened to a worker.
#[derive(Debug)]
pub enum KeeperEvent {
    /// Ready; the other end of its service socket.
    Handover {
        worker: u64,
        service: OwnedFd,
    },
    Down(Failure),
}

/// A place in the pool: a worker, or the time to start one.
#[derive(Debug)]
struct Place {
    /// `None` while nothing is to be started yet.
    start_at: Option<Instant>,
    backoff: Duration,
    running: Option<u64>,
}

/// A worker as the keeper sees it; a task of its own waits for its words and its end.
#[derive(Debug)]
struct Running {
    channel: Arc<Channel>,
    orders: mpsc::Sender<Order>,
    task: tokio::task::JoinHandle<()>,
    /// The front's end until it is handed over.
    service: Option<OwnedFd>,
    started: Instant,
}

/// Keeper → a worker's task.
#[derive(Debug)]
enum Order {
    Kill(Failure),
    Stop,
}

/// A worker's task → keeper.
#[derive(Debug)]
enum Note {
    Report(Box<WorkerReport>),
    Ended(Failure),
}

#[derive(Debug)]
pub struct Keeper {
    plan: WorkerPlan,
    places: Vec<Place>,
    running: BTreeMap<u64, Running>,
    /// The worker that has the PIN now, and those that wait for it.
    logging_in: Option<u64>,
    login_queue: VecDeque<u64>,
    latched: bool,
    last_worker: u64,
    started: Arc<AtomicU64>,
    notes: mpsc::Receiver<(u64, Note)>,
    notes_in: mpsc::Sender<(u64, Note)>,
}

impl Keeper {
    pub fn new(plan: WorkerPlan) -> Self {
        let (notes_in, notes) = mpsc::channel(NOTES_MAX);
        let count = plan.settings.workers.max(1);
        let place =
            |number| Place { start_at: (number == 0).then(Instant::now), backoff: BACKOFF_FIRST, running: None };
        Self {
            plan,
            places: (0..count).map(place).collect(),
            running: BTreeMap::new(),
            logging_in: None,
            login_queue: VecDeque::new(),
            latched: false,
            last_worker: 0,
            started: Arc::default(),
            notes,
            notes_in,
        }
    }

    /// Counts the workers started so far.
    pub fn started(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.started)
    }

    /// The next thing that happens. Safe to cancel and call again. Needs a tokio runtime around it.
    pub async fn event(&mut self) -> KeeperEvent {
        loop {
            if let Some(place) = self.due() {
                if let Err(failure) = self.start(place) {
                    self.rest(place, Duration::ZERO);
                    return KeeperEvent::Down(failure);
                }
                continue;
            }
            let next_start = self.places.iter().filter_map(|place| place.start_at).min();
            let pause = async {
                match next_start {
                    Some(at) if !self.latched => tokio::time::sleep_until(at).await,
                    Some(_) | None => std::future::pending().await,
                }
            };
            tokio::select! {
                note = self.notes.recv() => {
                    // Never `None`: this keeper holds a sender itself.
                    let Some((worker, note)) = note else { continue };
                    if let Some(event) = self.take_note(worker, note) {
                        return event;
                    }
                }
                () = pause => {}
            }
        }
    }

    /// Kills this worker if it still lives; `event` then reports its end and a new one starts.
    pub fn kill(&mut self, worker: u64, reason: &str) {
        if let Some(running) = self.running.get(&worker) {
            tracing::warn!(worker, reason, "HSM worker killed");
            // A full queue holds such an order already.
            let _ = running.orders.try_send(Order::Kill(died(reason)));
        }
    }

    /// Ends the workers: they finish their calls, log out and finalize the module, or are killed.
    pub async fn stop(mut self) {
        let running = std::mem::take(&mut self.running);
        for worker in running.values() {
            let _ = worker.orders.try_send(Order::Stop);
        }
        // Their last notes are for nobody, and must not block them.
        drop(self.notes);
        for worker in running.into_values() {
            let _ = worker.task.await;
        }
    }

    /// The place whose worker is to be started now.
    fn due(&self) -> Option<usize> {
        let now = Instant::now();
        let due = |place: &Place| place.start_at.is_some_and(|at| at <= now);
        if self.latched { None } else { self.places.iter().position(due) }
    }

    fn take_note(&mut self, worker: u64, note: Note) -> Option<KeeperEvent> {
        match note {
            Note::Report(report) => self.take_report(worker, *report),
            Note::Ended(failure) => {
                let lived = self.running.remove(&worker).map_or(Duration::ZERO, |running| running.started.elapsed());
                self.login_queue.retain(|waiting| *waiting != worker);
                // Before the turn passes on: the next worker must not try the same PIN.
                if failure.name == "pin_refused" {
                    self.latched = true;
                    tracing::error!("the PIN was refused: it is not tried again until the daemon is started anew");
                }
                self.logged_in(worker);
                if let Some(place) = self.places.iter().position(|place| place.running == Some(worker)) {
                    self.rest(place, lived);
                }
                Some(KeeperEvent::Down(failure))
            }
        }
    }

    fn take_report(&mut self, worker: u64, report: WorkerReport) -> Option<KeeperEvent> {
        match report {
            WorkerReport::LoginWanted => {
                // Its login failed for another reason than the PIN: it would wait for itself.
                if self.logging_in == Some(worker) {
                    self.logging_in = None;
                }
                self.login_queue.push_back(worker);
                self.next_login();
                None
            }
            WorkerReport::LoggedIn => {
                self.logged_in(worker);
                None
            }
            WorkerReport::Ready { token, .. } => {
                let service = self.running.get_mut(&worker)?.service.take()?;
                tracing::info!(worker, token = token.label, "HSM worker started");
                for place in self.places.iter_mut().filter(|place| place.running.is_none()) {
                    place.start_at.get_or_insert_with(Instant::now);
                }
                Some(KeeperEvent::Handover { worker, service })
            }
            WorkerReport::Provisioned { .. }
            | WorkerReport::Measured(_)
            | WorkerReport::Filled
            | WorkerReport::Failed(_) => None,
        }
    }

    /// This worker needs the PIN no more.
    fn logged_in(&mut self, worker: u64) {
        if self.logging_in == Some(worker) {
            self.logging_in = None;
            self.next_login();
        }
    }

    /// Hands the PIN to the next worker that waits for it; to none once it was refused.
    fn next_login(&mut self) {
        while self.logging_in.is_none() {
            let Some(worker) = self.login_queue.pop_front() else {
                return;
            };
            let Some(running) = self.running.get(&worker) else {
                continue;
            };
            if self.latched {
                let _ = running.orders.try_send(Order::Kill(latched()));
                continue;
            }
            match running.channel.send(self.plan.pin.expose_secret().as_bytes(), None) {
                Ok(()) => self.logging_in = Some(worker),
                Err(error) => tracing::warn!(worker, %error, "the PIN could not be handed over"),
            }
        }
    }

    /// The next start in this place, later each time a worker does not live long.
    fn rest(&mut self, place: usize, lived: Duration) {
        let place = &mut self.places[place];
        place.running = None;
        if lived >= SETTLED {
            place.backoff = BACKOFF_FIRST;
        }
        place.start_at = Some(Instant::now() + place.backoff);
        place.backoff = (place.backoff * 2).min(BACKOFF_MAX);
    }

    fn start(&mut self, place: usize) -> Result<(), Failure> {
        let spawned = |error: io::Error| {
            Failure::fault(
                "hsm_worker_not_started",
                format!("the HSM worker process cannot be started: {error}"),
                "check that the countersign binary is still in place and process limits allow it",
            )
        };
        let job = WorkerJob::Serve { identity: self.plan.expected.identity };
        let mut orders = WorkerOrders::new(&self.plan.state, &self.plan.settings, job);
        orders.module_sha256 = self.plan.expected.module_sha256;
        let (channel, worker_stdin) = Channel::pair().map_err(spawned)?;
        let (service, worker_service) = UnixStream::pair().map_err(spawned)?;
        let plan = &self.plan;
        let child = Command::from(worker_command(&plan.program, &plan.state, &plan.settings, worker_stdin))
            .arg("hsm-worker")
            .kill_on_drop(true)
            .spawn()
            .map_err(spawned)?;
        messages::send(&channel, &orders, Some(worker_service.as_fd())).map_err(spawned)?;
        self.last_worker += 1;
        self.started.fetch_add(1, Ordering::Relaxed);
        let inbox = Inbox::open(channel).map_err(spawned)?;
        let (orders, received) = mpsc::channel(2);
        let channel = inbox.channel();
        let task = tokio::spawn(tend(self.last_worker, child, inbox, received, self.notes_in.clone()));
        let started = Instant::now();
        let running = Running { channel, orders, task, service: Some(service.into()), started };
        self.running.insert(self.last_worker, running);
        self.places[place].running = Some(self.last_worker);
        self.places[place].start_at = None;
        Ok(())
    }
}

/// A worker's task: passes on what it says, carries out orders, and always ends with its end.
async fn tend(
    worker: u64,
    mut child: Child,
    mut inbox: Inbox,
    mut orders: mpsc::Receiver<Order>,
    notes: mpsc::Sender<(u64, Note)>,
) {
    let mut failure = None;
    let mut ready = false;
    let mut talking = true;
    let must_be_ready = tokio::time::sleep(START_LIMIT);
    tokio::pin!(must_be_ready);
    let status = loop {
        tokio::select! {
            packet = inbox.receive(), if talking => match packet.map(messages::parse::<WorkerReport>) {
                Some(Ok((WorkerReport::Failed(reason), _))) => failure = Some(reason),
                Some(Ok((report, _))) => {
                    ready |= matches!(report, WorkerReport::Ready { .. });
                    let _ = notes.send((worker, Note::Report(Box::new(report)))).await;
                }
                Some(Err(error)) => {
                    failure.get_or_insert_with(|| died(&format!("its report was not understood: {error}")));
                    let _ = child.start_kill();
                }
                None => talking = false,
            },
            order = orders.recv() => match order {
                Some(Order::Kill(reason)) => {
                    failure.get_or_insert(reason);
                    let _ = child.start_kill();
                }
                Some(Order::Stop) | None => {
                    // The end of its control socket is the order to stop.
                    inbox.channel().shut_down();
                    if tokio::time::timeout(STOP_LIMIT, child.wait()).await.is_err() {
                        tracing::warn!(worker, "HSM worker did not stop in time, killed");
                        let _ = child.kill().await;
                    }
                    return;
                }
            },
            status = child.wait() => break status,
            () = &mut must_be_ready, if !ready => {
                ready = true;
                failure = Some(Failure::busy(
                    "hsm_worker_start_timeout",
                    format!("the HSM worker was not ready after {} s", START_LIMIT.as_secs()),
                    "check the module and the device; the daemon tries again by itself",
                ));
                let _ = child.start_kill();
            }
        }
    };
    // What it said last may still be in the socket, whose other end closed with it.
    while failure.is_none()
        && let Some(packet) = inbox.receive().await
    {
        if let Ok((WorkerReport::Failed(reason), _)) = messages::parse(packet) {
            failure = Some(reason);
        }
    }
    let failure = failure.unwrap_or_else(|| match status {
        Ok(status) => died(&status.to_string()),
        Err(error) => died(&error.to_string()),
    });
    let _ = notes.send((worker, Note::Ended(failure))).await;
}

/// A channel whose packets are awaited: a thread of its own takes them in. Dropping it ends both directions.
///
/// A thread and not `AsyncFd`, whose safe constructor tokio has withdrawn.
#[derive(Debug)]
pub struct Inbox {
    channel: Arc<Channel>,
    packets: mpsc::Receiver<Packet>,
}

impl Inbox {
    pub fn open(channel: Channel) -> io::Result<Self> {
        let channel = Arc::new(channel);
        let (sender, packets) = mpsc::channel(INBOX_MAX);
        let source = Arc::clone(&channel);
        std::thread::Builder::new().name("hsm-inbox".into()).spawn(move || {
            while let Ok(Some(packet)) = source.receive() {
                if sender.blocking_send(packet).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { channel, packets })
    }

    /// Waits for a packet; `None` when the other end is gone. Safe to cancel.
    pub async fn receive(&mut self) -> Option<Packet> {
        self.packets.recv().await
    }

    pub fn channel(&self) -> Arc<Channel> {
        Arc::clone(&self.channel)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.channel.shut_down();
    }
}

/// A worker process: environment cleared but for what the settings name, standard input its control socket,
/// standard output not ours (modules print), a process group of its own so that Ctrl-C reaches the supervisor only.
pub fn worker_command(
    program: &std::path::Path,
    state: &StateDir,
    settings: &HsmSettings,
    stdin: OwnedFd,
) -> std::process::Command {
    use std::os::unix::process::CommandExt;
    let root = std::path::absolute(state.root()).unwrap_or_else(|_| state.root().to_owned());
    let mut command = std::process::Command::new(program);
    command.arg0("countersign").env_clear().process_group(0).stdin(Stdio::from(stdin)).stdout(to_stderr());
    for (name, value) in &settings.env {
        command.env(name, OsString::from(value.replace("{state}", &root.to_string_lossy())));
    }
    command
}

/// Our standard error as a child's standard output; nowhere when it cannot be shared.
pub fn to_stderr() -> Stdio {
    io::stderr().as_fd().try_clone_to_owned().map_or_else(|_| Stdio::null(), Stdio::from)
}

fn latched() -> Failure {
    Failure::fault(
        "pin_refused",
        "the token refused the PIN of another worker; it is not tried again",
        "correct the PIN source named in hsm.<token>, then start the daemon again",
    )
}

fn died(how: &str) -> Failure {
    Failure::busy(
        "hsm_worker_died",
        format!("the HSM worker ended: {how}"),
        "the daemon starts another by itself; if it goes on, check the PKCS#11 module",
    )
}
