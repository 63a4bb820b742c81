//! The demo's three daemons as a test bed: everything set up, agent `assistant` at work.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_countersign");

/// Three daemons with agent `assistant`, stopped when the test ends.
pub struct World(tempfile::TempDir);

impl World {
    pub fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        let output = Command::new(PROGRAM)
            .args(["demo", "--no-witness", "--keep", "--dir"])
            .arg(world.0.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        world
    }

    /// The state directory of `secco`, `bank` or `agent`.
    pub fn state(&self, party: &str) -> PathBuf {
        self.0.path().join(party)
    }

    /// A second agent, with the grants of the first.
    pub fn enrol(&self, agent: &str) {
        let [carol, dora] = ["carol", "dora"].map(|officer| self.state(officer).display().to_string());
        let signed = ["--endorse-as", &carol, "--issue-as", &dora];
        self.run("bank", &[&["cert", "issue", agent, "--role", "purchaser"], &signed[..]].concat());
        for (account, verbs) in [("CHK_001", "read,purchase,transfer,reverse"), ("SAV_001", "read")] {
            let grant = ["grant", "add", agent, account, "--owner", "OWN_001", "--verbs", verbs, "--days", "30"];
            self.run("bank", &[&["--operator", "bank-officer"], &grant[..]].concat());
        }
    }

    pub fn output(&self, party: &str, arguments: &[&str]) -> Output {
        Command::new(PROGRAM).arg("--state").arg(self.state(party)).args(arguments).output().unwrap()
    }

    /// Starts a daemon again; it is ready when its one line is read.
    pub fn serve(&self, party: &str) {
        let mut daemon = Command::new(PROGRAM)
            .args(["serve", "--state"])
            .arg(self.state(party))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(daemon.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("\"ready\":true"), "{line:?}");
        // Stopped with the others, by its socket; waited for, so that nothing is left of it.
        std::thread::spawn(move || daemon.wait());
    }

    /// Starts the bank again with these lines in its policy.
    pub fn govern(&self, lines: &str) {
        self.run("bank", &["stop"]);
        let config = self.state("bank").join("countersign.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let (before, after) = text.split_once("\n[policy]").unwrap();
        let (title, rest) = after.split_once('\n').unwrap();
        std::fs::write(&config, format!("{before}\n[policy]{title}\n{lines}\n{rest}")).unwrap();
        self.serve("bank");
    }

    /// Kills a daemon as a loss of power would: nothing is told, nothing is finished.
    pub fn kill(&self, party: &str) {
        let lock = std::fs::read_to_string(self.state(party).join("daemon.lock")).unwrap();
        let supervisor = Pid::from_raw(lock.trim().parse().unwrap()).unwrap();
        kill_process(supervisor, Signal::KILL).unwrap();
        // Its front and its workers hear of it on their sockets; the lock goes with the last of them.
        let lock = std::fs::File::open(self.state(party).join("daemon.lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    }

    /// A process of this daemon by its verb, once it is there.
    pub fn process(&self, party: &str, verb: &str) -> u32 {
        let lock = std::fs::read_to_string(self.state(party).join("daemon.lock")).unwrap();
        let supervisor: u32 = lock.trim().parse().unwrap();
        let is_it = |pid: &u32| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).nth(1) == Some(verb.as_bytes())
        };
        loop {
            let children = std::fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
            if let Some(found) = children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(is_it) {
                return found;
            }
            super::before_another_look();
        }
    }

    /// Runs a verb that must succeed; answers what it printed.
    pub fn run(&self, party: &str, arguments: &[&str]) -> String {
        let output = self.output(party, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a verb that must fail; answers the exit code and the failure's name.
    pub fn refused(&self, party: &str, arguments: &[&str]) -> (i32, String) {
        let output = self.output(party, &[&["--json"], arguments].concat());
        let failure: serde_json::Value = serde_json::from_slice(&output.stderr)
            .unwrap_or_else(|_| panic!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), failure["error"]["name"].as_str().unwrap().to_owned())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for party in ["secco", "bank", "agent"] {
            self.run(party, &["stop"]);
        }
    }
}
