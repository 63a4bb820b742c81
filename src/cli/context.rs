//! What every verb has: the state directory, the output form, the way to the daemon.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use zeroize::Zeroizing;

use super::progress::Progress;
use super::table::cell;
use crate::config::Config;
use crate::front::admin::{AdminAnswer, AdminCall, AdminRequest};
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::ops::secret::Growing;
use crate::vault::Released;

/// A daemon that another command started for itself is gone by then.
const DAEMON_WAIT: Duration = Duration::from_secs(10);
const DAEMON_POLL: Duration = Duration::from_millis(20);
/// What is read of an answer at a time.
const BUFFER_BYTES: usize = 8 * 1024;
/// Between two looks at whether there is something to say while the daemon works.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// What a command meets while another one's daemon starts or ends.
const WAITED_OUT: [&str; 2] = ["already_running", "daemon_unreachable"];

/// Options that every verb shares.
#[derive(Clone, Debug)]
pub struct Context {
    pub state: StateDir,
    /// Print JSON instead of text.
    pub json: bool,
    /// `--operator NAME`: only in a demo.
    pub operator: Option<String>,
}

impl Context {
    /// Asks the daemon of the state directory; with the daemon down, starts one without network listeners for the
    /// length of this call.
    ///
    /// # Errors
    /// The daemon's own [`Failure`], or `daemon_unreachable`, `daemon_did_not_start`.
    pub fn call(&self, call: AdminCall) -> Result<Value, Failure> {
        match self.ask(call)? {
            AdminAnswer::Ok(value) => Ok(value),
            AdminAnswer::Secret(_) | AdminAnswer::Progress(_) => Err(unexpected()),
            AdminAnswer::Error(failure) => Err(failure),
        }
    }

    /// The same for a value of the vault.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn released(&self, call: AdminCall) -> Result<Released, Failure> {
        match self.ask(call)? {
            AdminAnswer::Secret(released) => Ok(released),
            AdminAnswer::Ok(_) | AdminAnswer::Progress(_) => Err(unexpected()),
            AdminAnswer::Error(failure) => Err(failure),
        }
    }

    fn ask(&self, call: AdminCall) -> Result<AdminAnswer, Failure> {
        let request = AdminRequest { operator: self.operator.clone(), call };
        let deadline = Instant::now() + DAEMON_WAIT;
        loop {
            match self.attempt(&request) {
                // Another command's daemon starts or ends at this moment; nothing of ours was read.
                Err(failure) if WAITED_OUT.contains(&failure.name.as_str()) && Instant::now() < deadline => {
                    std::thread::sleep(DAEMON_POLL);
                }
                answer => return answer,
            }
        }
    }

    fn attempt(&self, request: &AdminRequest) -> Result<AdminAnswer, Failure> {
        match UnixStream::connect(self.state.admin_socket()) {
            Ok(stream) => return exchange(stream, request, Progress::new(self)),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(not_let_through(&self.state)),
            Err(_) => {}
        }
        let offline = OfflineDaemon::start(&self.state)?;
        let stream = UnixStream::connect(self.state.admin_socket()).map_err(|error| unreachable_(&error))?;
        let answer = exchange(stream, request, Progress::new(self));
        drop(offline);
        answer
    }

    /// With the daemon down, one without network listeners that is up as long as what is answered: several calls share it.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn kept_up(&self) -> Result<Option<OfflineDaemon>, Failure> {
        let deadline = Instant::now() + DAEMON_WAIT;
        loop {
            if UnixStream::connect(self.state.admin_socket()).is_ok() {
                return Ok(None);
            }
            match OfflineDaemon::start(&self.state) {
                Err(failure) if WAITED_OUT.contains(&failure.name.as_str()) && Instant::now() < deadline => {
                    std::thread::sleep(DAEMON_POLL);
                }
                started => return started.map(Some),
            }
        }
    }

    /// Prints `value` as JSON, or what `text` makes of it.
    pub fn print(&self, value: &Value, text: impl FnOnce(&Value) -> String) {
        let shown = if self.json { format!("{value:#}") } else { text(value) };
        // A reader that went away is no failure of ours.
        let _ = writeln!(std::io::stdout(), "{}", shown.trim_end());
    }
}

fn not_let_through(state: &StateDir) -> Failure {
    Failure::usage(
        "socket_forbidden",
        format!("{} is not open to this user", state.admin_socket().display()),
        "be of the group that [admin] group names, and log in again; or act as the daemon's own user",
    )
}

fn unreachable_(error: &std::io::Error) -> Failure {
    Failure::busy(
        "daemon_unreachable",
        format!("the daemon's admin socket did not answer: {error}"),
        "see the daemon's log; `countersign serve` starts it",
    )
}

fn hung_up() -> Failure {
    Failure::unknown(
        "daemon_hung_up",
        "the daemon closed the connection without an answer",
        "see the daemon's log, then ask for the state before repeating",
    )
}

fn unexpected() -> Failure {
    let next = "check that CLI and daemon are the same version";
    Failure::fault("answer_unreadable", "the daemon answered another question", next)
}

/// The answer, which is no word on the way to one.
fn exchange(stream: UnixStream, request: &AdminRequest, mut progress: Progress) -> Result<AdminAnswer, Failure> {
    let mut text = Growing::default();
    serde_json::to_writer(&mut text, request)
        .map_err(|error| Failure::fault("request_unwritable", error.to_string(), "report this as a defect"))?;
    text.extend(b"\n");
    let mut reader = Lines::new(&stream);
    let sent = (&stream).write_all(text.as_slice());
    let (mut line, read) = patiently(&mut reader, &mut progress);
    if line.is_empty() {
        // A daemon that turns callers away answers before it is asked: what it said counts more than a failed write.
        sent.and(read).map_err(|error| unreachable_(&error))?;
    }
    if line.is_empty() {
        return Err(hung_up());
    }
    while let Ok(AdminAnswer::Progress(at)) = serde_json::from_str(&line) {
        progress.say(|| format!("{} {} so far", cell(&at["rows"]), cell(&at["of"])));
        let read;
        (line, read) = patiently(&mut reader, &mut progress);
        read.map_err(|_| hung_up())?;
        if line.is_empty() {
            return Err(hung_up());
        }
    }
    match serde_json::from_str(&line) {
        Ok(AdminAnswer::Error(failure)) => Err(failure),
        Ok(answer) => Ok(answer),
        Err(error) => Err(Failure::fault(
            "answer_unreadable",
            format!("the daemon's answer was not understood: {error}"),
            "check that CLI and daemon are the same version",
        )),
    }
}

/// One line of the daemon's, with a word now and then while it takes its time.
fn patiently(reader: &mut Lines<'_>, progress: &mut Progress) -> (Zeroizing<String>, std::io::Result<()>) {
    let mut line = Growing::default();
    let read = reader.stream.set_read_timeout(Some(LOOK_INTERVAL)).and_then(|()| {
        loop {
            match reader.read_into(&mut line) {
                Ok(()) => return Ok(()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    progress.say(|| "the daemon is still at it".to_owned());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    });
    (Zeroizing::new(String::from_utf8_lossy(line.as_slice()).into_owned()), read)
}

/// Lines of the daemon's. What was read is wiped with the buffer it was read into.
struct Lines<'a> {
    stream: &'a UnixStream,
    buffer: Zeroizing<Vec<u8>>,
    /// What of the buffer was read and not taken.
    rest: Range<usize>,
}

impl<'a> Lines<'a> {
    fn new(stream: &'a UnixStream) -> Self {
        Self { stream, buffer: Zeroizing::new(vec![0; BUFFER_BYTES]), rest: 0..0 }
    }

    /// Adds what there is until the end of the line, or of everything. What an error cuts off goes on with the next call.
    fn read_into(&mut self, line: &mut Growing) -> std::io::Result<()> {
        loop {
            if self.rest.is_empty() {
                let count = self.stream.read(&mut self.buffer)?;
                self.rest = 0..count;
                if count == 0 {
                    return Ok(());
                }
            }
            let there = &self.buffer[self.rest.clone()];
            let end = there.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let taken = end.unwrap_or(there.len());
            line.extend(&there[..taken]);
            self.rest.start += taken;
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

/// A daemon without listeners, for one command.
pub struct OfflineDaemon(Child);

impl OfflineDaemon {
    fn start(state: &StateDir) -> Result<Self, Failure> {
        let failed = |message: String| {
            Failure::fault(
                "daemon_did_not_start",
                message,
                "run `countersign doctor`, or `countersign serve` to see why",
            )
        };
        // A wrong configuration is named here, once.
        Config::load(state)?;
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let mut child = Command::new(program)
            .args(["serve", "--offline", "--until-eof", "--state"])
            .arg(state.root())
            .env("RUST_LOG", "warn")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        // The supervisor prints one line when its front is ready, or one line that says why it is not.
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(|error| failed(error.to_string()))?;
        }
        match serde_json::from_str::<Value>(&line) {
            Ok(value) if value["ready"] == true => Ok(Self(child)),
            Ok(value) => {
                let _ = child.wait();
                match serde_json::from_value::<Failure>(value["error"].clone()) {
                    Ok(failure) => Err(failure),
                    Err(_) => Err(failed(format!("it said: {}", line.trim_end()))),
                }
            }
            Err(_) => {
                let status = child.wait().map(|status| status.to_string()).unwrap_or_default();
                Err(failed(format!("it ended before it was ready ({status})")))
            }
        }
    }
}

impl Drop for OfflineDaemon {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}
