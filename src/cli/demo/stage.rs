//! What the story stands on: directories, daemons, the transcript, and running this program as a child.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::stop;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;

/// The three parties: directory name, `--kind`, configured token and party name.
pub const PARTIES: [(&str, &str); 3] = [("secco", "security-company"), ("bank", "bank"), ("agent", "agent-host")];

/// The officers of the story, each with a token of their own, and their parties.
pub const OFFICERS: [(&str, &str); 2] = [("carol", "secco"), ("dora", "bank")];

/// Everybody with a token of their own: the officers, one of whom approves payments, too, and the accounts' owner.
pub const PEOPLE: [(&str, &str, &[&str]); 3] = [
    ("carol", "secco", &["--role", "officer"]),
    ("dora", "bank", &["--role", "officer", "--role", "approver"]),
    ("olivia", "bank", &["--role", "owner", "--owner", "OWN_001"]),
];

pub struct Stage {
    pub root: PathBuf,
    pub program: PathBuf,
    pub module: PathBuf,
    pub started: Instant,
    transcript: File,
    daemons: Vec<(String, Child)>,
}

/// A command's answer: what it printed, and the failure it ended with if it did.
pub type Answer = Result<Value, Failure>;

impl Stage {
    /// Stops what an earlier run left and makes the directory anew.
    pub fn set(root: &Path, module: &Path) -> Result<Self, Failure> {
        let broken = |what: &str, error: &dyn std::fmt::Display| {
            Failure::fault("demo_stage", format!("{what}: {error}"), "check the directory given with --dir")
        };
        for (party, _) in PARTIES {
            stop::stop(&context(&root.join(party)))?;
        }
        if root.exists() {
            if !root.join("transcript.txt").exists()
                && fs::read_dir(root).is_ok_and(|mut inside| inside.next().is_some())
            {
                return Err(Failure::usage(
                    "not_a_demo_directory",
                    format!("{} exists and is not a demo's", root.display()),
                    "choose an empty or new directory with --dir",
                ));
            }
            fs::remove_dir_all(root).map_err(|error| broken("the old run cannot be removed", &error))?;
        }
        fs::create_dir_all(root).map_err(|error| broken("the directory cannot be made", &error))?;
        let root = root.canonicalize().map_err(|error| broken("the directory has no path", &error))?;
        let transcript = File::create(root.join("transcript.txt")).map_err(|error| broken("transcript.txt", &error))?;
        let program = std::env::current_exe().map_err(|error| broken("this program has no path", &error))?;
        Ok(Self { root, program, module: module.to_owned(), started: Instant::now(), transcript, daemons: Vec::new() })
    }

    pub fn state(&self, party: &str) -> PathBuf {
        self.root.join(party)
    }

    /// One line for the reader, and into the transcript.
    pub fn say(&mut self, line: impl AsRef<str>) {
        // A reader that went away does not stop the story.
        let _ = writeln!(std::io::stdout(), "{}", line.as_ref());
        self.note(line.as_ref());
    }

    /// One line into the transcript only.
    pub fn note(&mut self, line: &str) {
        let _ = writeln!(self.transcript, "{line}");
    }

    /// Runs `countersign --state <party> --json [--operator NAME] ARGS…` and reads its JSON.
    pub fn ask(&mut self, party: &str, operator: Option<&str>, args: &[&str]) -> Answer {
        let mut command = Command::new(&self.program);
        command.arg("--json").arg("--state").arg(self.state(party));
        if let Some(name) = operator {
            command.args(["--operator", name]);
        }
        command.args(args).stdin(Stdio::null()).current_dir(&self.root);
        let operator_shown = operator.map(|name| format!(" --operator {name}")).unwrap_or_default();
        self.note(&format!("\n$ countersign --state {party}{operator_shown} {}", args.join(" ")));
        let output = command.output().map_err(|error| {
            Failure::fault("demo_command", format!("{}: {error}", args.join(" ")), "see transcript.txt")
        })?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        self.note(&format!("{}{}[exit {}]", printed, complained, output.status.code().unwrap_or(-1)));
        if output.status.success() {
            return serde_json::from_str(&printed).map_err(|error| {
                Failure::fault("demo_answer", format!("{}: {error}: {printed}", args.join(" ")), "see transcript.txt")
            });
        }
        // A failed command prints its failure as JSON on standard error, behind log lines if there are any.
        let failure = complained
            .find("{\n")
            .and_then(|start| serde_json::from_str::<Value>(&complained[start..]).ok())
            .and_then(|value| serde_json::from_value::<Failure>(value["error"].clone()).ok());
        Err(failure.unwrap_or_else(|| {
            Failure::fault("demo_command", format!("{}: {complained}{printed}", args.join(" ")), "see transcript.txt")
        }))
    }

    /// Runs another program of the machine, `openssl` for one; answers what it printed.
    pub fn run_tool(&mut self, program: &str, args: &[&str]) -> Result<String, Failure> {
        self.note(&format!("\n$ {program} {}", args.join(" ")));
        let output = Command::new(program).args(args).current_dir(&self.root).output().map_err(|error| {
            Failure::usage("tool_missing", format!("{program}: {error}"), "run ./scripts/demo, which installs it")
        })?;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        self.note(&text);
        if output.status.success() {
            return Ok(text.trim().to_owned());
        }
        Err(Failure::fault("tool_failed", format!("{program} {}: {text}", args.join(" ")), "see transcript.txt"))
    }

    /// Starts a party's daemon and waits for its one line.
    pub fn start(&mut self, party: &str) -> Result<Value, Failure> {
        let state = self.state(party);
        let log = fs::OpenOptions::new().create(true).append(true).open(state.join("daemon.log"));
        let log = log.map_err(|error| Failure::fault("demo_stage", error.to_string(), "see the directory"))?;
        let mut child = Command::new(&self.program)
            .args(["serve", "--state"])
            .arg(&state)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| Failure::fault("demo_daemon", error.to_string(), "see transcript.txt"))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        self.note(&format!("\n$ countersign serve --state {party}\n{}", line.trim_end()));
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        self.daemons.push((party.to_owned(), child));
        if said["ready"] == true {
            return Ok(said);
        }
        Err(serde_json::from_value(said["error"].clone()).unwrap_or_else(|_| {
            Failure::fault("demo_daemon", format!("the daemon of {party} did not start: {line}"), "see its daemon.log")
        }))
    }

    /// Stops every daemon that was started and waits for each.
    pub fn stop_all(&mut self) {
        for (party, mut child) in std::mem::take(&mut self.daemons) {
            match stop::stop(&context(&self.state(&party))) {
                Ok(_) => {}
                Err(failure) => {
                    self.note(&format!("{party}: {failure}"));
                    let _ = child.kill();
                }
            }
            let _ = child.wait();
        }
    }
}

fn context(state: &Path) -> Context {
    Context { state: StateDir::new(state), json: true, operator: None }
}
