//! The other end of the socket: one connection, blocking, one request after the other. What the command line and the
//! benchmark ask with; other programs bring an HTTP client of their own.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use serde_json::Value;

use crate::ops::failure::Failure;

/// Longer than the service lets a request take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// An answer to the largest call is some megabytes.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// A line of a head.
const LINE_BYTES_MAX: u64 = 16 * 1024;

/// A connection to the signing service.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// What came back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answered {
    pub status: u16,
    /// Header names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Client {
    /// Connects to a service of the user who owns the socket's directory, of root or of this user: whoever else may put a
    /// socket where a daemon is expected would be shown what is to be signed, and could answer anything.
    ///
    /// # Errors
    /// `signing_unreachable`, `signing_not_ours`
    pub fn connect(socket: &Path) -> Result<Self, Failure> {
        let unreachable = |error: std::io::Error| {
            let next_step = match error.kind() {
                ErrorKind::PermissionDenied => {
                    "the state directory is its user's alone: set [signing] socket to a path that callers reach"
                }
                _ => "start the daemon, and see that its configuration has a [[signing.key]]; or name its --socket",
            };
            let said = format!("the signing service at {} does not answer: {error}", socket.display());
            Failure::busy("signing_unreachable", said, next_step)
        };
        let stream = UnixStream::connect(socket).map_err(unreachable)?;
        let directory = socket.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let owner = std::fs::metadata(directory).map_err(unreachable)?.uid();
        let peer = socket_peercred(&stream).map_err(|error| unreachable(error.into()))?.uid.as_raw();
        if ![owner, 0, geteuid().as_raw()].contains(&peer) {
            return Err(not_ours(socket, peer, owner));
        }
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(unreachable)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends one request and reads its answer.
    ///
    /// # Errors
    /// `signing_hung_up`: no whole answer came, and what was asked may have happened.
    pub fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Answered, Failure> {
        self.exchange(method, path, body).map_err(|error| {
            Failure::unknown(
                "signing_hung_up",
                format!("the signing service gave no whole answer: {error}"),
                "repeat with the same idempotency key",
            )
        })
    }

    fn exchange(&mut self, method: &str, path: &str, body: &[u8]) -> std::io::Result<Answered> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.stream.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        let malformed = || std::io::Error::new(ErrorKind::InvalidData, "it is not HTTP");
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(malformed)?;
        let mut headers = vec![];
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(malformed)?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let length =
            headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
        let length: usize = length.filter(|length| *length <= ANSWER_BYTES_MAX).ok_or_else(malformed)?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Answered { status, headers, body })
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        (&mut self.stream).take(LINE_BYTES_MAX).read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn not_ours(socket: &Path, peer: u32, owner: u32) -> Failure {
    Failure::refused(
        "signing_not_ours",
        format!(
            "user {peer} answers at {}, whose directory is user {owner}'s: it is not the daemon's socket, and nothing was sent",
            socket.display()
        ),
        "find out who put it there; the socket belongs into a directory of the daemon's own user: [signing] socket",
    )
}

impl Answered {
    /// The answer as JSON, or the failure that it carries.
    ///
    /// # Errors
    /// The service's own; `answer_unreadable`.
    pub fn value(&self) -> Result<Value, Failure> {
        let unreadable = || {
            Failure::fault(
                "answer_unreadable",
                "the signing service's answer was not understood",
                "check that the program and the daemon are the same version",
            )
        };
        let value: Value = serde_json::from_slice(&self.body).map_err(|_| unreadable())?;
        if self.status == 200 {
            return Ok(value);
        }
        Err(serde_json::from_value(value["error"].clone()).unwrap_or_else(|_| unreadable()))
    }
}
