//! What the suite and the attacker inside the front tell each other: one task in, one line a check back.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::search::Needle;

pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// Environment of the front: where the suite listens.
pub const SUITE: &str = "COUNTERSIGN_INSIDE";
/// Environment of a front that breaks every rule on purpose: the secret that it leaks.
pub const DECOY: &str = "COUNTERSIGN_INSIDE_DECOY";

/// What to attack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// Absolute.
    pub state: PathBuf,
    /// Files and directories that the front must not reach.
    pub closed: Vec<PathBuf>,
    pub pin_file: PathBuf,
    pub needles: Vec<Needle>,
    pub supervisor: i32,
    pub workers: Vec<i32>,
    /// A copy of the module in the front's own store, with its libraries and a configuration that names the token.
    pub own_module: Option<PathBuf>,
    /// Abstract socket that listens outside.
    pub abstract_socket: String,
    /// Why this kernel does not deny paths.
    pub no_landlock: Option<String>,
    /// Why it does not deny signals and abstract sockets.
    pub no_scopes: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Outcome {
    Passed,
    /// How the attack succeeded.
    Failed(String),
    Skipped(String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub outcome: Outcome,
}

/// One JSON value a line.
pub fn send<T: Serialize>(stream: &TcpStream, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    (&*stream).write_all(&line)
}

/// The lines of the other end, until it closes.
pub fn lines<T: for<'de> Deserialize<'de>>(stream: &TcpStream) -> impl Iterator<Item = io::Result<T>> {
    BufReader::new(stream).lines().map(|line| Ok(serde_json::from_str(&line?)?))
}
