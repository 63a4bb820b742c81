//! A store, the load that uses it, and everything that the load's users were told.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::SystemTime;

use serde_json::Value;

use crate::checker::{Found, check};
use crate::seed::seed;

const BUILD: &str = "cargo build --example ledger_load";
/// The load's first instant: 2027-01-15 08:00 UTC.
const START_MS: i64 = 1_800_000_000_000;
/// Every so many promises one is asked for again by the next run.
const ASKED_AGAIN_STEP: usize = 16;
const ASKED_AGAIN_MAX: usize = 24;

/// The load's program. `cargo test` builds it with everything else; `cargo test --test crash` alone does not.
pub fn program() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = Path::new(env!("CARGO_BIN_EXE_countersign")).with_file_name("examples").join("ledger_load");
    let made = modified(&built).unwrap_or_else(|| panic!("{} is missing: {BUILD}", built.display()));
    let newest = ["src", "examples/ledger_load"].into_iter().filter_map(|folder| newest_in(&root.join(folder))).max();
    assert!(newest.is_some_and(|newest| newest <= made), "{} is older than its source: {BUILD}", built.display());
    built
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|data| data.modified()).ok()
}

fn newest_in(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    entries.filter_map(|path| if path.is_dir() { newest_in(&path) } else { modified(&path) }).max()
}

/// How the load is run.
#[derive(Clone, Debug)]
pub struct Options {
    pub callers: u64,
    /// Of each caller; none: until it is killed.
    pub steps: Option<u64>,
    pub tick_ms: i64,
    /// Times that a caller asks again after a fault of the store.
    pub faults: u32,
    /// A program in front of it, with its arguments.
    pub under: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Payments are settled by a core banking system.
    pub core: bool,
    /// The machine's clock instead of the suite's own.
    pub real_clock: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            callers: 4,
            steps: None,
            tick_ms: 60_000,
            faults: 1_000,
            under: vec![],
            environment: vec![],
            core: false,
            real_clock: false,
        }
    }
}

/// One bank's store with the memory of its users.
pub struct Bank {
    pub directory: tempfile::TempDir,
    pub store: String,
    name: String,
    seed: u64,
    runs: u64,
    /// The instant after the last command's.
    pub clock_ms: i64,
    /// Every wish that was asked, by its intent.
    known: BTreeMap<String, Value>,
    /// Intents without a decision, in the order in which they were asked first.
    unanswered: Vec<String>,
    /// Intents that were permitted.
    promised: Vec<String>,
    journal: File,
}

impl Bank {
    /// An SQLite store in a directory of its own.
    pub fn new(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = format!("sqlite:{}", directory.path().join("store/store.sqlite3").display());
        Self::with_store(name, directory, store)
    }

    pub fn with_store(name: &str, directory: tempfile::TempDir, store: String) -> Self {
        let path = directory.path().join("journal");
        let journal = OpenOptions::new().create(true).append(true).open(path).unwrap();
        Self {
            directory,
            store,
            name: name.to_owned(),
            seed: seed(),
            runs: 0,
            clock_ms: START_MS,
            known: BTreeMap::new(),
            unanswered: vec![],
            promised: vec![],
            journal,
        }
    }

    /// For tests that need certain rows, whatever the run's seed is.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The same bank in another directory. For SQLite stores without a load.
    pub fn copy(&self) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").arg("-a").arg(self.directory.path().join(".")).arg(directory.path()).status();
        assert!(copied.is_ok_and(|status| status.success()), "cp");
        let store = format!("sqlite:{}", directory.path().join("store/store.sqlite3").display());
        let copy = Self::with_store(&self.name, directory, store);
        Self {
            seed: self.seed,
            runs: self.runs,
            clock_ms: self.clock_ms,
            known: self.known.clone(),
            unanswered: self.unanswered.clone(),
            promised: self.promised.clone(),
            ..copy
        }
    }

    /// The journal is not complete: the store may have leaves of requests that nobody told here.
    pub fn asked_by_others(self) -> Self {
        let path = self.journal_path();
        let journal = std::fs::read_to_string(&path).unwrap().replacen("\"alone\":true", "\"alone\":false", 1);
        // Written in place: the file is open for more.
        std::fs::write(&path, journal).unwrap();
        self
    }

    /// Another copy of this bank has had the next run: ids are made from the run's number.
    pub fn skip_run(&mut self) {
        self.runs += 1;
    }

    pub fn journal_path(&self) -> PathBuf {
        self.directory.path().join("journal")
    }

    /// What a failure's reader needs.
    pub fn context(&self) -> String {
        let complaints = std::fs::read_to_string(self.directory.path().join("complaints")).unwrap_or_default();
        format!("CRASH_SEED={} {}, run {}: {complaints}", self.seed, self.name, self.runs)
    }

    /// Starts the load: it first asks again what was not answered and some of what was.
    pub fn start(&mut self, options: &Options) -> Running {
        let mut words = options.under.clone();
        words.push(program().display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(&self.store);
        command.args(["--seed", &self.seed.to_string(), "--run", &self.runs.to_string()]);
        command.args(["--callers", &options.callers.to_string(), "--faults", &options.faults.to_string()]);
        command.args(["--tick", &options.tick_ms.to_string()]);
        if !options.real_clock {
            command.args(["--clock", &self.clock_ms.to_string()]);
        }
        if options.core {
            command.arg("--core");
        }
        if let Some(steps) = options.steps {
            command.args(["--steps", &steps.to_string()]);
        }
        command.envs(options.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let complaints = self.directory.path().join("complaints");
        command.stderr(OpenOptions::new().create(true).append(true).open(complaints).unwrap());
        let started = command.spawn();
        let mut child = started.unwrap_or_else(|error| {
            panic!("{} does not start ({error}): install the package of that name", words[0]);
        });
        self.runs += 1;
        // In a thread: the load answers while it still reads.
        let (input, again) = (child.stdin.take().unwrap(), self.asked_again());
        let feeder = std::thread::spawn(move || feed(input, &again));
        let lines = BufReader::new(child.stdout.take().unwrap());
        Running { child, lines, feeder: Some(feeder) }
    }

    fn asked_again(&self) -> Vec<String> {
        let sampled = self.promised.iter().rev().step_by(ASKED_AGAIN_STEP).take(ASKED_AGAIN_MAX);
        let line =
            |intent: &String| format!("{}\n", serde_json::json!({ "intent": intent, "wish": self.known[intent] }));
        self.unanswered.iter().chain(sampled).map(line).collect()
    }

    /// Takes note of one line of the load.
    pub fn note(&mut self, line: &str) {
        self.journal.write_all(line.as_bytes()).unwrap();
        self.journal.write_all(b"\n").unwrap();
        let told: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        if let Some(intent) = told["intent"].as_str() {
            self.clock_ms = self.clock_ms.max(told["at"].as_i64().unwrap() + 1);
            if self.known.insert(intent.to_owned(), told["wish"].clone()).is_none() {
                self.unanswered.push(intent.to_owned());
            }
        }
        if let Some(intent) = told["answer"].as_str()
            && told.get("fault").is_none()
        {
            self.unanswered.retain(|other| other != intent);
            // The core's word is said once.
            if told.get("ok").is_some() && self.known[intent]["wish"] != "core_says" {
                self.promised.push(intent.to_owned());
            }
        }
    }

    /// Several loads on the one store.
    pub fn start_several(&mut self, options: &Options, count: usize) -> Several {
        Several::of((0..count).map(|_| self.start(options)).collect())
    }

    /// Runs to the end of its steps; every line is noted.
    pub fn run(&mut self, options: &Options) -> ExitStatus {
        let mut running = self.start(options);
        self.note_all(&mut running)
    }

    /// Notes everything until the load has ended.
    pub fn note_all(&mut self, running: &mut Running) -> ExitStatus {
        while let Some(line) = running.line() {
            self.note(&line);
        }
        running.ended()
    }

    /// Notes so many lines. False when the load ended before.
    pub fn note_some(&mut self, running: &mut Running, lines: u64) -> bool {
        for _ in 0..lines {
            match running.line() {
                Some(line) => self.note(&line),
                None => return false,
            }
        }
        true
    }

    /// Runs until so many lines were told, and kills it.
    pub fn run_and_kill(&mut self, options: &Options, lines: u64) {
        let mut running = self.start(options);
        assert!(self.note_some(&mut running, lines), "it ended by itself: {}", self.context());
        running.kill();
        self.note_all(&mut running);
    }

    pub fn check(&self) -> Found {
        check(&self.store, &self.journal_path())
    }

    /// The checker must find nothing.
    pub fn is_sound(&self) {
        match self.check() {
            Found::Sound(told) => println!("{} {told}", self.name),
            Found::Differences(_, told) => {
                panic!("{}\n{told}kept in {}", self.context(), self.keep().display());
            }
        }
    }

    /// Copies everything to where it outlives the test.
    fn keep(&self) -> PathBuf {
        let kept = std::env::temp_dir().join(format!("countersign-crash-{}-{}", self.name, seed()));
        let copied = Command::new("cp").arg("-a").arg(self.directory.path()).arg(&kept).status();
        assert!(copied.is_ok_and(|status| status.success()), "cp");
        kept
    }
}

/// The lines of several loads as they come.
pub struct Several {
    running: Vec<std::thread::JoinHandle<ExitStatus>>,
    pids: Vec<u32>,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Several {
    /// Each of these loads gets a thread that listens to it.
    pub fn of(loads: Vec<Running>) -> Self {
        let (said, lines) = std::sync::mpsc::channel();
        let pids = loads.iter().map(|load| load.child.id()).collect();
        let listen = |mut load: Running| {
            let said = said.clone();
            std::thread::spawn(move || {
                while let Some(line) = load.line() {
                    said.send(line).unwrap();
                }
                load.ended()
            })
        };
        let running = loads.into_iter().map(listen).collect();
        Self { running, pids, lines }
    }

    /// Notes so many lines. False when all have ended before.
    pub fn note_some(&self, bank: &mut Bank, lines: u64) -> bool {
        self.lines.iter().take(usize::try_from(lines).unwrap()).map(|line| bank.note(&line)).count() as u64 == lines
    }

    /// Notes until so many decisions were told. False when all have ended before.
    pub fn note_decisions(&self, bank: &mut Bank, decisions: u64) -> bool {
        let mut left = decisions;
        while left > 0 {
            let Ok(line) = self.lines.recv() else { return false };
            bank.note(&line);
            left -= u64::from(line.contains("\"answer\"") && !line.contains("\"fault\""));
        }
        true
    }

    /// Kills one of them.
    pub fn kill(&self, number: usize) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pids[number]).unwrap()).unwrap();
        // It has not been waited for: its listener does that when there are no more lines.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }

    /// Notes everything until all have ended.
    pub fn note_all(self, bank: &mut Bank) -> Vec<ExitStatus> {
        self.lines.iter().for_each(|line| bank.note(&line));
        self.running.into_iter().map(|load| load.join().unwrap()).collect()
    }
}

fn feed(mut input: ChildStdin, lines: &[String]) {
    for line in lines {
        // The load may be dead already.
        if input.write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}

/// A load that runs. Killed when the test ends early.
pub struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
    feeder: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    /// The next whole line; none when the process has ended. A line that death cut off was never told.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.ends_with('\n').then(|| line.trim_end().to_owned())
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    pub fn ended(&mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        if let Some(feeder) = self.feeder.take() {
            feeder.join().unwrap();
        }
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
