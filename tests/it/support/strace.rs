//! strace on a process that runs already: watches its calls, or kills it at one of them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// It lets go when this is dropped.
pub struct Strace {
    child: Child,
    /// How it is told: one that watches writes everything down first, one that kills may be waiting for threads that die.
    end: Signal,
}

impl Strace {
    /// `None` when this user may not look at other processes. `calls` as strace takes them, `more` behind that.
    pub fn on(pid: u32, calls: &str, output: &Path, more: &[&str]) -> Option<Self> {
        let mut command = Command::new("strace");
        command.args(["-f", "-o"]).arg(output).args(["-e", &format!("trace={calls}")]).args(more);
        command.args(["-p", &pid.to_string()]).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("strace is there: install the package strace");
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let watching = Self { child, end: Signal::INT };
        if !line.contains("attached") {
            println!("strace: {line}");
            return None;
        }
        // What it says later is of no interest, but must go somewhere.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Some(watching)
    }

    /// Kills the process at the `number`th of these calls that one of its threads makes from now on.
    pub fn kills_at(pid: u32, call: &str, number: u64) -> Option<Self> {
        let injection = format!("inject={call}:signal=KILL:when={number}");
        let mut killing = Self::on(pid, call, Path::new("/dev/null"), &["-e", &injection])?;
        killing.end = Signal::KILL;
        Some(killing)
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // What it watches lives on, if it still lives.
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        let _ = kill_process(pid, self.end);
        let _ = self.child.wait();
    }
}

pub fn is_alive(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}
