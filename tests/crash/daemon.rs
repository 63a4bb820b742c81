//! Real daemons: agents pay through `countersign connect` while processes of the bank are killed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use countersign::audit::sealing;
use countersign::config::Config;
use countersign::hsm::Token;
use countersign::hsm::embedded::Embedded;
use countersign::mcp::client::StdioClient;
use countersign::ops::paths::StateDir;
use countersign::store::sqlite::SqliteStore;
use countersign::store::{LeafContent, LeafRecord, Store};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::bank::Bank;
use crate::seed::{Chance, runs};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_countersign");
/// Far more than anything here needs; reached only when something is broken.
const PATIENCE: Duration = Duration::from_secs(120);
const AGENTS: u64 = 3;
/// Between two looks at something that takes its time.
const PAUSE: Duration = Duration::from_millis(5);

/// The demo's three daemons in a directory of their own.
pub struct Stage {
    scratch: tempfile::TempDir,
    /// Bank daemons that were started here.
    started: Vec<Child>,
    /// The mistake that they make.
    planted: Option<String>,
}

pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited too long: {what}");
        // The machine has better things to do than to be asked all the time.
        std::thread::park_timeout(PAUSE);
    }
}

impl Stage {
    pub fn new() -> Self {
        let stage = Self { scratch: tempfile::tempdir().unwrap(), started: vec![], planted: None };
        let told = Command::new(PROGRAM)
            .args(["demo", "--no-witness", "--keep", "--dir"])
            .arg(stage.scratch.path())
            .output()
            .unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        stage
    }

    pub fn state(&self, party: &str) -> PathBuf {
        self.scratch.path().join(party)
    }

    pub fn supervisor(&self) -> u32 {
        std::fs::read_to_string(self.state("bank").join("daemon.lock")).unwrap().trim().parse().unwrap()
    }

    /// The supervisor's process with this verb.
    pub fn child(&self, verb: &str) -> u32 {
        let supervisor = self.supervisor();
        until(verb, || {
            let children = std::fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).ok()?;
            children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid: &u32| {
                let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                words.split(|byte| *byte == 0).nth(1) == Some(verb.as_bytes())
            })
        })
    }

    pub fn serve(&mut self) {
        self.serve_with(&[]);
    }

    /// Daemons that are started from now on make this mistake.
    #[cfg(feature = "planted-bugs")]
    pub fn plant(&mut self, mistake: &str) {
        self.planted = Some(mistake.to_owned());
    }

    pub fn serve_with(&mut self, flags: &[&str]) {
        let daemon = until("the bank's lock", || {
            let mut command = Command::new(PROGRAM);
            command
                .arg("serve")
                .args(flags)
                .arg("--state")
                .arg(self.state("bank"))
                .stdin(Stdio::null())
                .stdout(Stdio::piped());
            command.envs(self.planted.iter().map(|mistake| ("COUNTERSIGN_PLANTED_BUG", mistake)));
            let mut daemon = command.stderr(Stdio::null()).spawn().unwrap();
            let mut line = String::new();
            BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
            if line.contains("\"ready\":true") {
                return Some(daemon);
            }
            daemon.wait().unwrap();
            None
        });
        self.started.push(daemon);
    }

    /// Ends every daemon of the bank that still runs, also one whose directory is gone: no command reaches that one.
    pub fn end(&mut self) {
        for mut daemon in self.started.drain(..) {
            if matches!(daemon.try_wait(), Ok(None)) {
                let pid = Pid::from_raw(i32::try_from(daemon.id()).unwrap()).unwrap();
                // It may have ended by itself meanwhile.
                let _ = kill_process(pid, Signal::TERM);
            }
            let _ = daemon.wait();
        }
    }

    /// Limits that the checker judges by itself, from the bank's own configuration.
    fn town(&self) -> Value {
        let text = std::fs::read_to_string(self.state("bank").join("countersign.toml")).unwrap();
        let config: toml::Value = toml::from_str(&text).unwrap();
        let minor = |key: &str| config["policy"][key].as_str().unwrap().parse::<i64>().unwrap() * 100;
        json!({ "town": {
            "currency": config["policy"]["currency"].as_str().unwrap(),
            "unattended_per_transaction": minor("unattended_per_transaction"),
            "unattended_per_day": minor("unattended_per_day"),
        } })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for party in ["bank", "secco", "agent"] {
            let _ = Command::new(PROGRAM).arg("--state").arg(self.state(party)).arg("stop").output();
        }
        self.end();
    }
}

/// An agent's program: asks the same again until it is answered, as one with an idempotency key does.
struct Agent<'a> {
    number: u64,
    state: PathBuf,
    log: PathBuf,
    runtime: tokio::runtime::Runtime,
    client: Option<StdioClient>,
    told: Sender<String>,
    stop: &'a AtomicBool,
    paid: &'a AtomicU64,
    requests: u64,
}

impl Agent<'_> {
    /// Pays until told to stop; what was begun is brought to its end.
    fn live(mut self) {
        let mut chance = Chance::new(&format!("agent {}", self.number));
        let mut payment = 0;
        while !self.stop.load(Ordering::SeqCst) {
            payment += 1;
            let key = format!("agent-{}-{payment}", self.number);
            let amount = format!("{}.{:02}", chance.below(30), 1 + chance.below(99));
            let order = json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": amount });
            let mut first = order.clone();
            first["idempotency_key"] = json!(key);
            let authorized = self.answered(&format!("{key}.authorize"), "authorize_transfer", &first);
            // Above the day's limit a human would decide; the payment is given up.
            let Some(transaction) = authorized["transaction_id"].as_str() else { return };
            let mut second = order;
            second["transaction_id"] = json!(transaction);
            let intent = format!("{key}.execute");
            let executed = self.answered(&intent, "execute_transfer", &second);
            if executed["status"] == "executed" {
                self.paid.fetch_add(1, Ordering::SeqCst);
                if payment % 3 == 0 {
                    self.answered(&intent, "execute_transfer", &second);
                }
            }
        }
        if let Some(client) = self.client.take() {
            self.runtime.block_on(client.close());
        }
    }

    fn answered(&mut self, intent: &str, tool: &str, order: &Value) -> Value {
        until(intent, || {
            self.requests += 1;
            let request = format!("agent {} request {}", self.number, self.requests);
            let told = |line: Value| drop(self.told.send(line.to_string()));
            told(json!({ "intent": intent, "at": 0, "request": request, "wish": { "tool": tool, "order": order } }));
            let answer = self.call(tool, order.clone())?;
            let mut line = json!({ "answer": intent, "request": request });
            match answer["status"].as_str() {
                Some("denied") => line["refused"] = answer["reason"].clone(),
                Some(status) => {
                    // Its receipt comes later; the money has moved.
                    let status = if status == "posted" { "executed" } else { status };
                    line["ok"] = json!({ "status": status, "transaction_id": answer["transaction_id"] });
                    if let Some(repeated) = answer.get("repeated") {
                        line["ok"]["repeated"] = repeated.clone();
                    }
                }
                None => return None,
            }
            drop(self.told.send(line.to_string()));
            Some(answer)
        })
    }

    /// None when there was no answer: the bank is down, or was when it should have answered.
    fn call(&mut self, tool: &str, order: Value) -> Option<Value> {
        if self.client.is_none() {
            let state = self.state.display().to_string();
            let words = ["connect", "--agent", "assistant", "--state", &state].map(str::to_owned);
            let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
            let client = StdioClient::start(Path::new(PROGRAM), &words, log);
            self.client = self.runtime.block_on(client).ok();
        }
        let answer = self.runtime.block_on(self.client.as_ref()?.call(tool, order));
        if answer.is_err() {
            // A new program, a new connection.
            if let Some(client) = self.client.take() {
                self.runtime.block_on(client.close());
            }
        }
        answer.ok()
    }
}

/// Kills `victims` one after the other under the payments of several agents.
fn killed_under_payments(name: &str, victims: &[&str]) {
    let mut stage = Stage::new();
    let store = format!("sqlite:{}", stage.state("bank").join("store/store.sqlite3").display());
    let mut bank = Bank::with_store(name, tempfile::tempdir().unwrap(), store);
    bank.note(&stage.town().to_string());
    let (stop, paid) = (AtomicBool::new(false), AtomicU64::new(0));
    let (told, lines): (_, Receiver<String>) = channel();
    let (agent_state, logs) = (stage.state("agent"), stage.scratch.path().to_owned());
    std::thread::scope(|scope| {
        let agents: Vec<_> = (0..AGENTS)
            .map(|number| {
                let agent = Agent {
                    number,
                    state: agent_state.clone(),
                    log: logs.join(format!("connect-{number}.log")),
                    runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
                    client: None,
                    told: told.clone(),
                    stop: &stop,
                    paid: &paid,
                    requests: 0,
                };
                scope.spawn(move || agent.live())
            })
            .collect();
        // Whatever happens here, the agents come to their end.
        let ends = Ends(&stop);
        for victim in victims {
            let before = paid.load(Ordering::SeqCst);
            until("payments", || (paid.load(Ordering::SeqCst) >= before + 4).then_some(()));
            let pid = if *victim == "supervisor" { stage.supervisor() } else { stage.child(victim) };
            kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
            if *victim == "supervisor" {
                until("its end", || (!Path::new(&format!("/proc/{pid}/exe")).exists()).then_some(()));
                stage.serve();
            }
        }
        let before = paid.load(Ordering::SeqCst);
        until("payments", || (paid.load(Ordering::SeqCst) > before).then_some(()));
        drop(ends);
        agents.into_iter().for_each(|agent| agent.join().unwrap());
    });
    drop(told);
    lines.iter().for_each(|line| bank.note(&line));
    let stopped = Command::new(PROGRAM).arg("--state").arg(stage.state("bank")).arg("stop").output().unwrap();
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    say_in_the_clear(&stage.state("bank"));
    bank.is_sound();
    println!("{} kills, {} payments", victims.len(), paid.load(Ordering::SeqCst));
}

/// The checker has no token: what leaves say is opened for it, and it judges by itself whether that is what they commit to.
fn say_in_the_clear(state: &Path) {
    said_in_the_clear(state, &state.join("store/store.sqlite3"));
}

/// The same in a copy; the store stays as it is.
pub fn copy_in_the_clear(state: &Path, copy: &Path) {
    let suffixes = ["", "-wal"].map(|suffix| (state.join(format!("store/store.sqlite3{suffix}")), suffix));
    for (file, suffix) in suffixes.into_iter().filter(|(file, _)| file.exists()) {
        std::fs::copy(file, format!("{}{suffix}", copy.display())).unwrap();
    }
    said_in_the_clear(state, copy);
}

fn said_in_the_clear(state: &Path, path: &Path) {
    let state = StateDir::new(state);
    let config = Config::load(&state).unwrap();
    let (party, party_settings, settings) = config.hosted();
    let token = Embedded::start(PathBuf::from(PROGRAM), &state, &party_settings.token, settings).unwrap();
    let store = SqliteStore::open(path).unwrap();
    let wrapping = token.pool() as Arc<dyn Token>;
    until("the token", || sealing::begin(&*store, &wrapping, party.as_str(), &config.audit).ok());
    let leaves: Vec<LeafRecord> = (1..).map_while(|row| store.leaf(row).unwrap()).collect();
    drop(store);
    let connection = rusqlite::Connection::open(path).unwrap();
    for LeafRecord { row, content, .. } in leaves {
        let LeafContent::Known { salt, body } = content else { panic!("leaf {row} does not open: {content:?}") };
        let sql = "UPDATE leaves SET salt = ?2, body = ?3, data_key = NULL WHERE row = ?1";
        connection.execute(sql, rusqlite::params![row, salt, body]).unwrap();
    }
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_daemon_whose_processes_are_killed_under_payments_pays_each_exactly_once() {
    let mut chance = Chance::new("daemon");
    let mut victims = vec!["front", "supervisor"];
    while (victims.len() as u64) < runs(6) {
        // The front has the store; the others have what the front needs.
        victims.push(["front", "front", "front", "front", "hsm-worker", "supervisor"][chance.below(6) as usize]);
    }
    killed_under_payments("daemon", &victims);
}
