//! A bridge's line to its agent host: one connection, many questions on it, answers in any order.
//!
//! Two kinds of callers share it: rustls signs on the thread that shakes hands, everything else waits without one. Two
//! threads of the line's own connect and write, and read: a daemon that stands still holds up who asks it and nobody
//! else. When it ends or starts again, the next question makes a new connection, and those that were open are asked once
//! more on it: a signature that nobody received harms nobody.

use std::collections::HashMap;
use std::io::{self, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{AgentAsk, AgentSays, Asked, Said, unreachable_};
use crate::ops::failure::Failure;
use crate::ops::ipc;

/// Longer than the daemon's own deadline for its HSM.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A daemon that takes no more questions for so long is not well; there is room for some hundred that it has not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Questions that wait to be written. A bridge has fewer open at once than half of it.
const UNWRITTEN_MAX: usize = 1_024;
/// Of those that wait so much is written at once.
const WRITTEN_BYTES: usize = 64 << 10;

/// Connections over time, one at a time.
pub(super) struct Line {
    path: PathBuf,
    last_id: AtomicU64,
    /// The lock guards the pointer only: a connection is made by its own thread.
    current: Mutex<Option<Arc<Connection>>>,
}

/// What became of a question: the answer, or the connection ended before it.
type Outcome = Result<AgentSays, Lost>;

/// The connection ended. Nobody knows whether the daemon has signed.
struct Lost(String);

/// A question as it is written.
struct Frame {
    id: u64,
    bytes: Zeroizing<Vec<u8>>,
}

/// Questions go to the thread that writes. It ends when this is dropped, and with it the one that reads.
struct Connection {
    unwritten: SyncSender<Frame>,
    open: Arc<Open>,
}

/// Questions without an answer. `None` once the connection has ended.
type Open = Mutex<Option<HashMap<u64, Waiting>>>;

/// Who waits for an answer.
enum Waiting {
    Thread(mpsc::SyncSender<Outcome>),
    Task(oneshot::Sender<Outcome>),
}

impl Waiting {
    fn tell(self, outcome: Outcome) {
        // Who no longer waits has given up already.
        match self {
            Self::Thread(sender) => drop(sender.send(outcome)),
            Self::Task(sender) => drop(sender.send(outcome)),
        }
    }
}

impl Line {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, last_id: AtomicU64::new(0), current: Mutex::new(None) }
    }

    /// Asks, and waits on this thread.
    pub(super) fn ask(&self, ask: &AgentAsk) -> Result<AgentSays, Failure> {
        let mut lost = None;
        for _ in 0..ATTEMPTS {
            let (sender, answer) = mpsc::sync_channel(1);
            let (connection, id) = match self.send(ask, Waiting::Thread(sender)) {
                Ok(sent) => sent,
                Err(failed) => {
                    lost = Some(failed);
                    continue;
                }
            };
            match aside(|| answer.recv_timeout(ANSWER_TIMEOUT)) {
                Ok(Ok(says)) => return Ok(says),
                Ok(Err(failed)) => lost = Some(failed),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    connection.forget(id);
                    return Err(no_answer());
                }
            }
        }
        Err(gone(lost))
    }

    /// Asks, and waits as a task.
    pub(super) async fn ask_later(&self, ask: &AgentAsk) -> Result<AgentSays, Failure> {
        let mut lost = None;
        for _ in 0..ATTEMPTS {
            let (sender, answer) = oneshot::channel();
            let (connection, id) = match self.send(ask, Waiting::Task(sender)) {
                Ok(sent) => sent,
                Err(failed) => {
                    lost = Some(failed);
                    continue;
                }
            };
            match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
                Ok(Ok(Ok(says))) => return Ok(says),
                Ok(Ok(Err(failed))) => lost = Some(failed),
                Ok(Err(_)) | Err(_) => {
                    connection.forget(id);
                    return Err(no_answer());
                }
            }
        }
        Err(gone(lost))
    }

    /// Gives a question to the connection that there is, or to a new one. Never waits.
    fn send(&self, ask: &AgentAsk, waiting: Waiting) -> Result<(Arc<Connection>, u64), Lost> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed);
        let frame = ipc::frame(&Asked { id, ask: ask.clone() }).map_err(lost)?;
        let connection = self.connection().map_err(lost)?;
        if !connection.expect(id, waiting) {
            return Err(Lost("it hung up".into()));
        }
        if connection.unwritten.try_send(Frame { id, bytes: frame }).is_err() {
            connection.forget(id);
            return Err(Lost(format!("{UNWRITTEN_MAX} questions wait for it already")));
        }
        Ok((connection, id))
    }

    fn connection(&self) -> io::Result<Arc<Connection>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = current.as_ref().filter(|connection| connection.lives()) {
            return Ok(Arc::clone(connection));
        }
        let (unwritten, writing) = mpsc::sync_channel(UNWRITTEN_MAX);
        let open: Arc<Open> = Arc::new(Mutex::new(Some(HashMap::new())));
        let (path, waiting) = (self.path.clone(), Arc::clone(&open));
        let writer = std::thread::Builder::new().name("agent-line-out".into());
        writer.spawn(move || write(&path, &writing, &waiting))?;
        let connection = Arc::new(Connection { unwritten, open });
        *current = Some(Arc::clone(&connection));
        Ok(connection)
    }
}

/// Waits on this thread. Where it belongs to tasks, they go on without it.
fn aside<T>(wait: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => tokio::task::block_in_place(wait),
        Ok(_) | Err(_) => wait(),
    }
}

/// A question is asked again once, on a new connection, when the one it was asked on has ended.
const ATTEMPTS: usize = 2;

impl Connection {
    fn open(&self) -> MutexGuard<'_, Option<HashMap<u64, Waiting>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lives(&self) -> bool {
        self.open().is_some()
    }

    /// False when the connection has ended: nobody will answer.
    fn expect(&self, id: u64, waiting: Waiting) -> bool {
        let mut open = self.open();
        open.as_mut().map(|open| open.insert(id, waiting)).is_some()
    }

    fn forget(&self, id: u64) {
        if let Some(open) = self.open().as_mut() {
            open.remove(&id);
        }
    }
}

/// Connects, then writes questions until nobody asks any more or the connection has ended.
fn write(path: &Path, unwritten: &Receiver<Frame>, open: &Arc<Open>) {
    let ended = connect(path, open).and_then(|mut stream| {
        let written = write_all(&mut stream, unwritten, open);
        // What was written of a frame makes the rest of the connection unreadable for the daemon.
        let _ = stream.shutdown(Shutdown::Both);
        written
    });
    if let Err(error) = ended {
        end(open, &error.to_string());
    }
}

fn connect(path: &Path, open: &Arc<Open>) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let (answers, waiting) = (stream.try_clone()?, Arc::clone(open));
    std::thread::Builder::new().name("agent-line-in".into()).spawn(move || read(answers, &waiting))?;
    Ok(stream)
}

fn write_all(stream: &mut UnixStream, unwritten: &Receiver<Frame>, open: &Open) -> io::Result<()> {
    // What nobody waits for any more would only be signed and counted.
    let is_awaited = |frame: &Frame| {
        let open = open.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().is_some_and(|open| open.contains_key(&frame.id))
    };
    for first in unwritten {
        let (mut bytes, mut next) = (vec![], Some(first));
        while let Some(frame) = next.take() {
            if is_awaited(&frame) {
                bytes.extend_from_slice(&frame.bytes);
            }
            next = if bytes.len() < WRITTEN_BYTES { unwritten.try_recv().ok() } else { None };
        }
        stream.write_all(&bytes)?;
    }
    Ok(())
}

/// Hands out answers until the connection ends.
fn read(stream: UnixStream, open: &Open) {
    let mut reader = BufReader::new(stream);
    let reason = loop {
        match ipc::read_frame::<Said>(&mut reader) {
            Ok(Some(Said { id, says })) => {
                let waiting =
                    open.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(|open| open.remove(&id));
                if let Some(waiting) = waiting {
                    waiting.tell(Ok(says));
                }
            }
            Ok(None) => break "it hung up".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    end(open, &reason);
}

/// From here on nobody waits, and nobody begins to.
fn end(open: &Open, reason: &str) {
    let waiting = open.lock().unwrap_or_else(PoisonError::into_inner).take();
    for (_, waiting) in waiting.into_iter().flatten() {
        waiting.tell(Err(Lost(reason.to_owned())));
    }
}

fn lost(error: io::Error) -> Lost {
    Lost(error.to_string())
}

fn gone(lost: Option<Lost>) -> Failure {
    unreachable_(&lost.map_or_else(String::new, |Lost(reason)| reason))
}

fn no_answer() -> Failure {
    unreachable_(&format!("nothing for {} s", ANSWER_TIMEOUT.as_secs()))
}
