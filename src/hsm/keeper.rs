//! Keeps one worker of a token alive: starts it, hands it over, replaces it when it ends.
//!
//! Returns events; who listens (a front process, an embedding program) is the caller's business. A refused PIN is
//! latched here: no further worker is started until the daemon is.

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
use super::settings::HsmSettings;
use crate::kernel::types::KeyId;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

/// From start to Ready: C_Initialize of a token with 10,000 keys took 0.8 s, slow hardware more.
const START_LIMIT: Duration = Duration::from_secs(60);
/// A worker asked to stop finishes its calls and finalizes the module within this time, else it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Packets taken in and not looked at yet.
const INBOX_MAX: usize = 16;
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A worker that lived this long ends the backoff.
const SETTLED: Duration = Duration::from_secs(30);

/// What a worker needs to be started, again and again.
#[derive(Debug)]
pub struct WorkerPlan {
    /// The program to run as `hsm-worker`; normally this very binary.
    pub program: PathBuf,
    pub state: StateDir,
    pub settings: HsmSettings,
    pub expected_identity: Option<KeyId>,
    pub pin: SecretString,
}

/// What happened to the worker.
#[derive(Debug)]
pub enum KeeperEvent {
    /// Ready; the other end of its service socket.
    Handover {
        worker: u64,
        service: OwnedFd,
    },
    Down(Failure),
}

#[derive(Debug)]
struct Running {
    worker: u64,
    child: Child,
    inbox: Inbox,
    /// Our copy of the front's end until it is handed over.
    service: Option<OwnedFd>,
    failure: Option<Failure>,
    started: Instant,
}

#[derive(Debug)]
pub struct Keeper {
    plan: WorkerPlan,
    running: Option<Running>,
    latched: bool,
    backoff: Duration,
    start_at: Instant,
    last_worker: u64,
    started: Arc<AtomicU64>,
}

impl Keeper {
    pub fn new(plan: WorkerPlan) -> Self {
        Self {
            plan,
            running: None,
            latched: false,
            backoff: BACKOFF_FIRST,
            start_at: Instant::now(),
            last_worker: 0,
            started: Arc::default(),
        }
    }

    /// Counts the workers started so far.
    pub fn started(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.started)
    }

    /// The next thing that happens. Safe to cancel and call again; never returns while a PIN is latched.
    pub async fn event(&mut self) -> KeeperEvent {
        loop {
            let Some(running) = &mut self.running else {
                if self.latched {
                    return std::future::pending().await;
                }
                tokio::time::sleep_until(self.start_at).await;
                if let Err(failure) = self.start() {
                    return self.ended(failure);
                }
                continue;
            };
            let waiting = running.service.is_some();
            tokio::select! {
                packet = running.inbox.receive(), if waiting && running.failure.is_none() => {
                    match packet.map(messages::parse::<WorkerReport>) {
                        Some(Ok((WorkerReport::Ready { token, .. }, _))) => {
                            let Some(service) = running.service.take() else { continue };
                            tracing::info!(worker = running.worker, token = token.label, "HSM worker started");
                            return KeeperEvent::Handover { worker: running.worker, service };
                        }
                        Some(Ok((WorkerReport::Failed(failure), _))) => running.failure = Some(failure),
                        Some(Ok((WorkerReport::Provisioned { .. }, _)) | Err(_)) | None => {
                            running.failure = Some(died("it ended before it was ready"));
                            // Most likely dead already; its exit is waited for in any case.
                            let _ = running.child.start_kill();
                        }
                    }
                }
                status = running.child.wait() => {
                    let failure = running.last_words().await.unwrap_or_else(|| match status {
                        Ok(status) => died(&status.to_string()),
                        Err(error) => died(&error.to_string()),
                    });
                    return self.ended(failure);
                }
                () = tokio::time::sleep_until(running.started + START_LIMIT), if waiting => {
                    running.service = None;
                    running.failure = Some(Failure::busy(
                        "hsm_worker_start_timeout",
                        format!("the HSM worker was not ready after {} s", START_LIMIT.as_secs()),
                        "check the module and the device; the daemon tries again by itself",
                    ));
                    let _ = running.child.start_kill();
                }
            }
        }
    }

    /// Kills this worker if it still is the current one; `event` then reports its end and a new one starts.
    pub fn kill(&mut self, worker: u64, reason: &str) {
        if let Some(running) = self.running.as_mut().filter(|running| running.worker == worker) {
            tracing::warn!(worker, reason, "HSM worker killed");
            running.failure.get_or_insert_with(|| died(reason));
            let _ = running.child.start_kill();
        }
    }

    /// Ends the worker: it finishes its calls, logs out and finalizes the module, or is killed.
    pub async fn stop(mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        // The end of its control socket is the order to stop.
        drop(running.inbox);
        if tokio::time::timeout(STOP_LIMIT, running.child.wait()).await.is_err() {
            tracing::warn!(worker = running.worker, "HSM worker did not stop in time, killed");
            let _ = running.child.kill().await;
        }
    }

    fn start(&mut self) -> Result<(), Failure> {
        let spawned = |error: io::Error| {
            Failure::fault(
                "hsm_worker_not_started",
                format!("the HSM worker process cannot be started: {error}"),
                "check that the countersign binary is still in place and process limits allow it",
            )
        };
        let job = WorkerJob::Serve { expected_identity: self.plan.expected_identity };
        let orders = WorkerOrders::new(&self.plan.state, &self.plan.settings, job)?;
        let (channel, worker_stdin) = Channel::pair().map_err(spawned)?;
        let (service, worker_service) = UnixStream::pair().map_err(spawned)?;
        let plan = &self.plan;
        let child = Command::from(worker_command(&plan.program, &plan.state, &plan.settings, worker_stdin))
            .arg("hsm-worker")
            .kill_on_drop(true)
            .spawn()
            .map_err(spawned)?;
        messages::send(&channel, &orders, None)
            .and_then(|()| channel.send(plan.pin.expose_secret().as_bytes(), Some(worker_service.as_fd())))
            .map_err(spawned)?;
        self.last_worker += 1;
        self.started.fetch_add(1, Ordering::Relaxed);
        self.running = Some(Running {
            worker: self.last_worker,
            child,
            inbox: Inbox::open(channel).map_err(spawned)?,
            service: Some(service.into()),
            failure: None,
            started: Instant::now(),
        });
        Ok(())
    }

    fn ended(&mut self, failure: Failure) -> KeeperEvent {
        let lived = self.running.take().map_or(Duration::ZERO, |running| running.started.elapsed());
        if lived >= SETTLED {
            self.backoff = BACKOFF_FIRST;
        }
        self.start_at = Instant::now() + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        self.latched = failure.name == "pin_refused";
        KeeperEvent::Down(failure)
    }
}

impl Running {
    /// Why it ended: what was known before, or a report that it left in the socket.
    async fn last_words(&mut self) -> Option<Failure> {
        if self.failure.is_none()
            // Its end of the socket closed with it, so this comes to an end.
            && let Some(packet) = self.inbox.receive().await
            && let Ok((WorkerReport::Failed(failure), _)) = messages::parse(packet)
        {
            self.failure = Some(failure);
        }
        self.failure.take()
    }
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

    pub fn channel(&self) -> &Channel {
        &self.channel
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

fn died(how: &str) -> Failure {
    Failure::busy(
        "hsm_worker_died",
        format!("the HSM worker ended: {how}"),
        "the daemon starts another by itself; if it goes on, check the PKCS#11 module",
    )
}
