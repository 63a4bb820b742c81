//! `countersign serve`: the process that has no network, reads the PIN and keeps the others alive.
//!
//! Order: non-dumpable → lock → PIN → first worker (alone, so that a wrong PIN is tried once) → front and the other
//! workers → until stopped. What dies is started again: a worker at once, a front (with new workers) soon.
//! Its standard output is one line: `{"ready":true,"ports":{…},"pid":N}` or `{"error":{…}}`.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::process::DumpableBehavior;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::channel::Channel;
use super::keeper::{self, Inbox, Keeper, KeeperEvent, WorkerPlan};
use super::messages::{self, FrontMessage, SupervisorMessage};
use super::pin;
use super::provision::Expected;
use super::settings::HsmSettings;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

/// A front that ends without being asked is replaced, later each time it does not live long, and not for ever.
const FRONT_BACKOFF_FIRST: Duration = Duration::from_millis(100);
const FRONT_BACKOFF_MAX: Duration = Duration::from_secs(5);
const FRONT_SETTLED: Duration = Duration::from_secs(60);
const FRONT_DEATHS_MAX: u32 = 6;

/// Time for the front to close its doors and finish what it began; then it is killed.
const FRONT_STOP_LIMIT: Duration = Duration::from_secs(15);

/// What `serve` runs.
#[derive(Clone, Debug)]
pub struct SupervisorPlan {
    pub state: StateDir,
    pub token_name: String,
    pub settings: HsmSettings,
    /// Starts the front without network listeners.
    pub offline: bool,
    /// Token and module as provisioning recorded them.
    pub expected: Expected,
}

/// The running binary itself, even after its file was replaced: all processes of a daemon are one version.
pub fn own_program() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

/// Runs a daemon until it is told to stop (SIGTERM, SIGINT).
///
/// # Errors
/// Before Ready: why it could not start, also printed as the one line of output. After: `front_died`.
pub fn run(plan: SupervisorPlan) -> Result<(), Failure> {
    let mut told = Told::Nothing;
    let outcome = start(plan, &mut told);
    if let (Err(failure), Told::Nothing) = (&outcome, told) {
        print_line(&failure.to_json());
    }
    outcome
}

/// What the one line of output was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Nothing,
    Ready,
}

fn start(plan: SupervisorPlan, told: &mut Told) -> Result<(), Failure> {
    make_undumpable()?;
    let lock = take_lock(&plan.state)?;
    let pin = pin::read(&plan.state, &plan.token_name, &plan.settings)?;
    let latch = Latch::of(&plan);
    latch.ensure_open()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::fault("supervisor_failed", format!("no event loop: {error}"), "check the process limits")
    })?;
    let outcome = runtime.block_on(supervise(plan, pin, lock, told));
    if let Err(failure) = &outcome
        && failure.name == "pin_refused"
    {
        latch.close();
    }
    outcome
}

/// Remembers across starts that this very PIN file was refused: every verb with the daemon down starts one, and each
/// would show the token the same wrong PIN again, until a real one is locked. Another file, or the same one written
/// again, opens it.
struct Latch {
    marker: std::path::PathBuf,
    /// Inode, size and time of change of the PIN file; `None` without one: other sources are asked anew each time.
    file: Option<String>,
}

impl Latch {
    fn of(plan: &SupervisorPlan) -> Self {
        use std::os::unix::fs::MetadataExt;
        let file = plan.settings.pin_file.as_ref().map(|file| plan.state.resolve(file));
        let known = file.and_then(|file| std::fs::metadata(file).ok());
        let file =
            known.map(|data| format!("{} {} {}.{:09}", data.ino(), data.size(), data.ctime(), data.ctime_nsec()));
        Self { marker: plan.state.resolve(format!("identity/{}.pin-refused", plan.token_name)), file }
    }

    fn ensure_open(&self) -> Result<(), Failure> {
        let refused = std::fs::read_to_string(&self.marker).ok();
        if refused.is_none() || refused != self.file {
            return Ok(());
        }
        Err(Failure::fault(
            "pin_refused",
            "the token refused this PIN file before; it is not shown to the token again",
            "write the right PIN into the file named in hsm.<token>.pin_file, then start the daemon again",
        ))
    }

    /// Where it cannot be remembered, the next start tries once more.
    fn close(&self) {
        let written = self.file.as_ref().map(|file| std::fs::write(&self.marker, file));
        if let Some(Err(error)) = written {
            tracing::warn!(%error, "the refused PIN could not be remembered");
        }
    }
}

/// Keeps debuggers, core dumps and /proc readers of the same user out of this process.
///
/// # Errors
/// `not_confined`: a PIN is never read without it.
pub fn make_undumpable() -> Result<(), Failure> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| {
        Failure::fault(
            "not_confined",
            format!("the process cannot be made non-dumpable: {error}"),
            "check seccomp rules of the service manager or container",
        )
    })
}

/// Takes the lock of a state directory; it is held until every copy of the descriptor is closed.
///
/// # Errors
/// `already_running`, `state_unusable`.
pub fn take_lock(state: &StateDir) -> Result<OwnedFd, Failure> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = state.lock();
    let unusable = |error: std::io::Error| {
        Failure::fault(
            "state_unusable",
            format!("{} cannot be locked: {error}", path.display()),
            "run `countersign init`, or name the state directory with --state",
        )
    };
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(unusable)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let holder = std::fs::read_to_string(&path).unwrap_or_default();
            return Err(Failure::busy(
                "already_running",
                format!("a daemon already runs on {} (process {})", state.root().display(), holder.trim()),
                "stop it first, or name another state directory with --state",
            ));
        }
        Err(error) => return Err(unusable(error.into())),
    }
    // For the message above only; the lock itself is the truth.
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(unusable)?;
    Ok(file.into())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

struct Front {
    child: Child,
    control: Inbox,
}

/// How the main part ended.
enum End {
    Asked,
    FrontGone(Failure),
}

async fn supervise(
    plan: SupervisorPlan,
    pin: secrecy::SecretString,
    lock: OwnedFd,
    told: &mut Told,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::fault("supervisor_failed", format!("a process could not be started: {error}"), "check its limits")
    };
    let mut signals = Signals::catch().map_err(failed)?;
    let mut keeper = Keeper::new(WorkerPlan {
        program: own_program(),
        state: plan.state.clone(),
        settings: plan.settings.clone(),
        expected: plan.expected,
        pin,
    });
    let first = tokio::select! {
        event = keeper.event() => event,
        () = signals.stop() => {
            keeper.stop().await;
            return Err(Failure::fault("stopped", "stopped before it was ready", "start it again"));
        }
    };
    let (worker, service) = match first {
        KeeperEvent::Handover { worker, service } => (worker, service),
        KeeperEvent::Down(failure) => return Err(failure),
    };
    let mut fronts = Fronts::default();
    let mut handover = Some((worker, service));
    let end = loop {
        let mut front = match Front::start(&plan) {
            Ok(front) => front,
            Err(error) => break End::FrontGone(failed(error)),
        };
        front.tell(&SupervisorMessage::Lock, Some(lock.as_fd()));
        if let Some((worker, service)) = handover.take() {
            front.tell(&SupervisorMessage::Worker { worker }, Some(service.as_fd()));
        }
        let end = attend(&mut signals, &mut keeper, &mut front, told).await;
        if matches!(end, End::Asked) {
            front.tell(&SupervisorMessage::Stop, None);
        }
        if tokio::time::timeout(FRONT_STOP_LIMIT, front.child.wait()).await.is_err() {
            tracing::error!("the front did not stop in time, killed");
            let _ = front.child.kill().await;
        }
        match end {
            End::FrontGone(failure) if *told == Told::Ready => match fronts.died() {
                Some(pause) => {
                    tracing::error!(message = failure.message, "the front ended; another is started");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = signals.stop() => break End::Asked,
                    }
                }
                None => break End::FrontGone(failure),
            },
            end => break end,
        }
    };
    keeper.stop().await;
    drop(lock);
    match end {
        End::Asked => Ok(()),
        End::FrontGone(failure) => Err(failure),
    }
}

/// Counts the fronts that died young.
struct Fronts {
    deaths: u32,
    started: tokio::time::Instant,
}

impl Default for Fronts {
    fn default() -> Self {
        Self { deaths: 0, started: tokio::time::Instant::now() }
    }
}

impl Fronts {
    /// How long to wait before the next one; `None` when it is no use.
    fn died(&mut self) -> Option<Duration> {
        if self.started.elapsed() >= FRONT_SETTLED {
            self.deaths = 0;
        }
        self.deaths += 1;
        let pause = FRONT_BACKOFF_FIRST.saturating_mul(1 << self.deaths.min(8)).min(FRONT_BACKOFF_MAX);
        self.started = tokio::time::Instant::now() + pause;
        (self.deaths < FRONT_DEATHS_MAX).then_some(pause)
    }
}

/// The long part: hands over workers, carries out kill orders, until told to stop or the front is gone.
async fn attend(signals: &mut Signals, keeper: &mut Keeper, front: &mut Front, told: &mut Told) -> End {
    let mut failure = None;
    loop {
        tokio::select! {
            () = signals.stop() => return End::Asked,
            event = keeper.event() => match event {
                KeeperEvent::Handover { worker, service } => {
                    front.tell(&SupervisorMessage::Worker { worker }, Some(service.as_fd()));
                }
                KeeperEvent::Down(failure) => {
                    tracing::warn!(name = failure.name, message = failure.message, "HSM worker down");
                    front.tell(&SupervisorMessage::WorkerDown { failure }, None);
                }
            },
            packet = front.control.receive() => match packet {
                Some(packet) => match messages::parse(packet) {
                    Ok((FrontMessage::Ready { ports }, _)) if *told == Told::Nothing => {
                        *told = Told::Ready;
                        print_line(&serde_json::json!({"ready": true, "ports": ports, "pid": std::process::id()}));
                    }
                    Ok((FrontMessage::Ready { .. }, _)) => tracing::info!("the front is ready again"),
                    Ok((FrontMessage::Failed(reason), _)) => failure = Some(reason),
                    Ok((FrontMessage::Kill { worker, reason }, _)) => keeper.kill(worker, &reason),
                    Err(error) => tracing::warn!(%error, "a message of the front was not understood"),
                },
                None => {
                    let status = tokio::time::timeout(FRONT_STOP_LIMIT, front.child.wait()).await;
                    return End::FrontGone(failure.unwrap_or_else(|| front_died(&format!("{status:?}"))));
                }
            },
        }
    }
}

impl Front {
    fn start(plan: &SupervisorPlan) -> std::io::Result<Self> {
        let (control, stdin) = Channel::pair()?;
        let mut command = std::process::Command::new(own_program());
        command.arg0("countersign").args(["front", "--state"]).arg(plan.state.root());
        if plan.offline {
            command.arg("--offline");
        }
        // Where credentials are is the supervisor's business; standard output is its one line.
        command.env_remove("CREDENTIALS_DIRECTORY").process_group(0);
        command.stdin(Stdio::from(stdin)).stdout(keeper::to_stderr());
        let child = Command::from(command).kill_on_drop(true).spawn()?;
        Ok(Self { child, control: Inbox::open(control)? })
    }

    /// A front that does not read its socket has missed far more than this message; its exit is noticed elsewhere.
    fn tell(&self, message: &SupervisorMessage, descriptor: Option<std::os::fd::BorrowedFd<'_>>) {
        match messages::send(&self.control.channel(), message, descriptor) {
            Ok(()) => {}
            Err(error) if is_gone(&error) => tracing::debug!(%error, "the front is gone"),
            Err(error) => tracing::warn!(%error, "the front could not be told"),
        }
    }
}

/// What a socket says whose other end is closed.
fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset)
}

fn front_died(how: &str) -> Failure {
    Failure::fault(
        "front_died",
        format!("the front process ended without being asked: {how}"),
        "see its last lines in the log; the service manager starts the daemon again",
    )
}

fn print_line(value: &serde_json::Value) {
    let mut out = std::io::stdout().lock();
    // A reader that went away is no failure of ours.
    let _ = writeln!(out, "{value}").and_then(|()| out.flush());
}
