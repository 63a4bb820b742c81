//! Processes, files and the token under attack: killed, stopped, hung, moved away, wrong. Real processes, real
//! SoftHSM2. Whatever happens, a failure has its name and the daemon heals by itself.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use countersign::mcp::client::StdioClient;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_countersign");
/// Far more than anything here needs; reached only when something is broken.
const PATIENCE: Duration = Duration::from_secs(180);

/// A bank's state directory of its own, with no daemon.
struct Bank {
    _scratch: tempfile::TempDir,
    state: PathBuf,
}

impl Bank {
    pub fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let bank = Self { state: scratch.path().join("bank"), _scratch: scratch };
        let made = bank.init();
        assert!(made.status.success(), "{}", text(&made));
        bank
    }

    fn init(&self) -> Output {
        run(&self.state, "bank-admin", &["init", "--kind", "bank", "--demo", "--port", "0"])
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.state.join(inside)
    }

    /// `serve` must fail with this name and exit code, said once on each of its two outputs.
    fn serve_fails(&self, name: &str, code: i32) -> String {
        let output = run(&self.state, "auditor", &["serve"]);
        let complaint = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        assert_eq!(complaint.matches(&format!("{name}: ")).count(), 1, "{complaint}");
        assert!(complaint.contains("next: "), "{complaint}");
        let line: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(line["error"]["name"], name, "{line}");
        complaint
    }

    /// A verb with the daemon down must fail with this name, in one sentence and one next step.
    fn verb_fails(&self, name: &str) {
        let output = run(&self.state, "auditor", &["status"]);
        let complaint = String::from_utf8(output.stderr.clone()).unwrap();
        assert!(complaint.starts_with(&format!("{name}: ")), "{}", text(&output));
        assert_eq!(complaint.lines().filter(|line| line.starts_with("next: ")).count(), 1, "{complaint}");
    }
}

pub fn run(state: &Path, operator: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.arg("--state").arg(state).args(["--operator", operator]).args(arguments);
    command.stdin(Stdio::null()).output().unwrap()
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A daemon of a state directory, killed with everything it started when the test ends early.
pub struct Daemon {
    supervisor: Child,
    state: PathBuf,
}

impl Daemon {
    fn start(state: &Path) -> Self {
        Self::try_start(state).expect("no other daemon runs here")
    }

    /// `None` while another daemon still holds the directory.
    pub fn try_start(state: &Path) -> Option<Self> {
        let log = OpenOptions::new().create(true).append(true).open(state.join("daemon.log")).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["serve", "--state"]).arg(state).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut supervisor = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(supervisor.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.contains("already_running") {
            supervisor.wait().unwrap();
            return None;
        }
        assert!(line.contains("\"ready\":true"), "{line}");
        Some(Self { supervisor, state: state.to_owned() })
    }

    pub fn kill(mut self) {
        self.supervisor.kill().unwrap();
        self.supervisor.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        run(&self.state, "auditor", &["stop"]);
        let _ = self.supervisor.wait();
    }
}

pub fn supervisor_of(state: &Path) -> u32 {
    fs::read_to_string(state.join("daemon.lock")).unwrap().trim().parse().unwrap()
}

/// The process that this supervisor runs with `verb`, waiting for it to be there.
fn child_of(supervisor: u32, verb: &str) -> u32 {
    until(verb, || children_of(supervisor, verb).first().copied())
}

/// All of them.
fn children_of(supervisor: u32, verb: &str) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap_or_default();
    let does = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).nth(1) == Some(verb.as_bytes())
    };
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(does).collect()
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// Asks again until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited too long: {what}");
        crate::support::before_another_look();
    }
}

/// The log is sound and all of it is signed: the token did its part for everything so far.
/// Whether everything that was recorded gets its signature: a daemon that starts publishes lists, which leaves leaves.
fn signs(state: &Path) -> bool {
    (0..LOOKS).any(|_| {
        let output = run(state, "auditor", &["audit", "check"]);
        output.status.success() && text(&output).contains("waiting for a signature: 0, for a place: 0")
    })
}

const LOOKS: usize = 100;

#[test]
fn a_wrong_or_missing_configuration_is_said_once() {
    let scratch = tempfile::tempdir().unwrap();
    let bank = Bank { state: scratch.path().to_owned(), _scratch: scratch };
    bank.verb_fails("config_missing");
    fs::write(bank.path("countersign.toml"), "unheard_of = 1\n").unwrap();
    bank.verb_fails("config_invalid");
    assert!(!bank.path("daemon.lock").exists());
}

#[test]
fn a_front_that_cannot_start_says_why_by_name() {
    let bank = Bank::new();
    let socket = bank.path("run/admin.sock");
    let _ = fs::remove_file(&socket);
    fs::create_dir(&socket).unwrap();
    bank.serve_fails("socket_unusable", 1);
}

#[test]
fn a_store_that_cannot_be_opened_is_named_by_the_daemon_and_by_every_verb() {
    let bank = Bank::new();
    let store = rusqlite::Connection::open(bank.path("store/store.sqlite3")).unwrap();
    store.pragma_update(None, "user_version", 99).unwrap();
    drop(store);
    let complaint = bank.serve_fails("schema_too_new", 1);
    assert!(!complaint.contains("supervisor_gone") && !complaint.contains("front_died"), "{complaint}");
    bank.verb_fails("schema_too_new");

    // A database server that is not there: this port was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let path = bank.path("countersign.toml");
    let plain = fs::read_to_string(&path).unwrap();
    let away = plain.replace("sqlite:store/store.sqlite3", &format!("postgres://nobody@127.0.0.1:{port}/nothing"));
    assert_ne!(away, plain);
    fs::write(&path, away).unwrap();
    bank.serve_fails("store_failed", 5);
    bank.verb_fails("store_failed");
}

#[test]
fn a_second_daemon_is_refused_and_the_first_serves_on() {
    let bank = Bank::new();
    let daemon = Daemon::start(&bank.state);
    bank.serve_fails("already_running", 5);
    assert!(signs(&bank.state));
    drop(daemon);
}

#[test]
fn verbs_at_the_same_time_with_the_daemon_down_are_all_answered() {
    let bank = Bank::new();
    let state = bank.state.as_path();
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..4).map(|_| scope.spawn(|| run(state, "auditor", &["account", "list"]))).collect();
        for output in asked {
            let output = output.join().unwrap();
            assert!(output.status.success(), "{}", text(&output));
        }
    });
}

#[test]
fn an_init_that_was_killed_is_completed_by_the_next() {
    for moment in 0..3 {
        let scratch = tempfile::tempdir().unwrap();
        let bank = Bank { state: scratch.path().join("bank"), _scratch: scratch };
        let mut command = Command::new(PROGRAM);
        command.arg("--state").arg(&bank.state).args(["--operator", "bank-admin", "init", "--kind", "bank"]);
        let mut first = command.args(["--demo", "--port", "0"]).stdout(Stdio::null()).spawn().unwrap();
        // Killed as soon as this is there: the PIN, the token's directory, the first certificate.
        let there = ["pins/bank.pin", "softhsm/tokens", "certs/root.pem"][moment];
        until(there, || bank.path(there).exists().then_some(()));
        first.kill().unwrap();
        first.wait().unwrap();
        until("init again", || bank.init().status.success().then_some(()));
        // What the killed one started has ended with it, so that a daemon can serve.
        until("the lock", || {
            let lock = fs::File::open(bank.path("daemon.lock")).unwrap();
            rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).ok()
        });
        assert!(bank.path("certs/transaction.pem").exists());
        until("a sound log", || signs(&bank.state).then_some(()));
    }
}

/// The demo's three daemons, and an agent that pays.
pub struct World {
    scratch: tempfile::TempDir,
    pub runtime: tokio::runtime::Runtime,
}

impl World {
    pub fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let told = Command::new(PROGRAM)
            .args(["demo", "--no-witness", "--keep", "--dir"])
            .arg(scratch.path().join("demo"))
            .output();
        let world = Self { scratch, runtime: tokio::runtime::Runtime::new().unwrap() };
        let told = told.unwrap();
        assert!(told.status.success(), "{}", text(&told));
        // What it says to type next is about this directory.
        assert!(text(&told).contains(&format!("--state {}", world.state("bank").display())), "{}", text(&told));
        world
    }

    pub fn state(&self, party: &str) -> PathBuf {
        self.scratch.path().join("demo").join(party)
    }

    pub fn agent(&self) -> StdioClient {
        let state = self.state("agent").display().to_string();
        let arguments = ["connect", "--agent", "assistant", "--state", &state].map(str::to_owned);
        let log = fs::File::create(self.scratch.path().join("connect.log")).unwrap();
        self.runtime.block_on(StdioClient::start(Path::new(PROGRAM), &arguments, log)).unwrap()
    }

    /// Authorizes and executes a transfer of one dollar under this key.
    fn pay(&self, agent: &StdioClient, key: &str) -> Result<Value, Value> {
        let mut order = json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": "1.00" });
        order["idempotency_key"] = key.into();
        let authorized = self.runtime.block_on(agent.call("authorize_transfer", order.clone()))?;
        assert_eq!(authorized["status"], "approved", "{authorized}");
        order.as_object_mut().unwrap().remove("idempotency_key");
        order["transaction_id"] = authorized["transaction_id"].clone();
        self.runtime.block_on(agent.call("execute_transfer", order))
    }

    fn executed(&self, agent: &StdioClient, key: &str) -> Value {
        until(key, || self.pay(agent, key).ok().filter(|answer| answer["status"] == "executed"))
    }

    pub fn savings(&self, agent: &StdioClient) -> f64 {
        let asked = self.runtime.block_on(agent.call("get_account_balance", json!({ "account_id": "SAV_001" })));
        asked.unwrap()["balance"].as_str().unwrap().parse().unwrap()
    }

    pub fn books_are_sound(&self) {
        let bank = self.state("bank");
        until("a sound log", || signs(&bank).then_some(()));
        let ledger = run(&bank, "auditor", &["ledger", "check"]);
        assert!(ledger.status.success(), "{}", text(&ledger));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for party in ["secco", "bank", "agent"] {
            run(&self.state(party), "auditor", &["stop"]);
        }
    }
}

#[test]
fn the_bank_pays_on_whatever_becomes_of_its_worker_its_token_and_itself() {
    let world = World::new();
    let bank = world.state("bank");
    let agent = world.agent();
    let before = world.savings(&agent);
    let supervisor = supervisor_of(&bank);
    the_pin_is_nowhere(&bank, supervisor);

    // Killed: the next call is signed by another worker, nobody notices.
    let first = child_of(supervisor, "hsm-worker");
    signal(first, Signal::KILL);
    assert_eq!(world.pay(&agent, "worker-killed").unwrap()["receipt"], "signed");

    // All of them stopped: posted by the deadline, replaced, signed later under the same key.
    let workers = until("the pool is whole", || {
        let workers = children_of(supervisor, "hsm-worker");
        (workers.len() == 2 && !workers.contains(&first)).then_some(workers)
    });
    workers.iter().for_each(|worker| signal(*worker, Signal::STOP));
    assert_eq!(world.pay(&agent, "worker-stopped").unwrap()["status"], "posted");
    assert_eq!(world.executed(&agent, "worker-stopped")["repeated"], true);
    until("the worker that held the call is replaced", || {
        let working = children_of(supervisor, "hsm-worker");
        working.iter().any(|worker| !workers.contains(worker)).then_some(())
    });
    // One that held no call stands still until it is asked something: it goes on.
    for stopped in children_of(supervisor, "hsm-worker").into_iter().filter(|worker| workers.contains(worker)) {
        let _ = kill_process(Pid::from_raw(i32::try_from(stopped).unwrap()).unwrap(), Signal::CONT);
    }

    // The token is away: money moves, the receipt is pending; back again: signed within seconds.
    let (tokens, away) = (bank.join("softhsm/tokens"), bank.join("softhsm/away"));
    fs::rename(&tokens, &away).unwrap();
    assert_eq!(world.pay(&agent, "token-away").unwrap()["receipt"], "pending");
    fs::rename(&away, &tokens).unwrap();
    assert_eq!(world.executed(&agent, "token-away")["receipt"], "signed");
    assert_eq!(supervisor_of(&bank), supervisor, "the daemon served on");
    world.books_are_sound();
    assert!((world.savings(&agent) - before - 3.0).abs() < 1e-9);
    world.runtime.block_on(agent.close());

    // The front is killed: another takes its place. Then the supervisor, in the middle of payments: each key pays once.
    let front = child_of(supervisor, "front");
    signal(front, Signal::KILL);
    until("another front", || (child_of(supervisor, "front") != front).then_some(()));
    until("it serves", || signs(&bank).then_some(()));
    signal(supervisor, Signal::KILL);
    until("the supervisor ends", || (!Path::new(&format!("/proc/{supervisor}/exe")).exists()).then_some(()));
    for turn in 0..3 {
        let daemon = until("the lock", || Daemon::try_start(&bank));
        let agent = world.agent();
        world.executed(&agent, &format!("alive-{turn}"));
        std::thread::scope(|scope| {
            let paying = scope.spawn(|| {
                // Until the bank does not answer any more.
                (0..10_000).take_while(|n| world.pay(&agent, &format!("killed-{turn}-{n}")).is_ok()).count()
            });
            until("payments", || (world.runtime.block_on(agent.tools()).is_ok()).then_some(()));
            daemon.kill();
            let answered = paying.join().unwrap();
            let daemon = until("the lock", || Daemon::try_start(&bank));
            let agent = world.agent();
            let was = world.savings(&agent);
            for n in 0..answered {
                assert_eq!(world.executed(&agent, &format!("killed-{turn}-{n}"))["repeated"], true);
            }
            assert!((world.savings(&agent) - was).abs() < 1e-9, "a repeated payment moved money");
            world.books_are_sound();
            world.runtime.block_on(agent.close());
            drop(daemon);
        });
    }
}

/// Not in the environment or arguments of any process, not in the front's memory or open files, not in a log.
fn the_pin_is_nowhere(bank: &Path, supervisor: u32) {
    let pin = fs::read(bank.join("pins/bank.pin")).unwrap();
    let holds = |bytes: &[u8]| bytes.windows(pin.len()).any(|window| window == pin);
    let front = child_of(supervisor, "front");
    for pid in [supervisor, child_of(supervisor, "hsm-worker"), front] {
        for file in ["environ", "cmdline"] {
            assert!(!holds(&fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()), "{file} of {pid}");
        }
    }
    for open in fs::read_dir(format!("/proc/{front}/fd")).unwrap() {
        let target = fs::read_link(open.unwrap().path()).unwrap_or_default();
        assert!(!target.starts_with(bank.join("pins")) && !target.starts_with(bank.join("softhsm")), "{target:?}");
    }
    let maps = fs::read_to_string(format!("/proc/{front}/maps")).unwrap();
    assert!(!maps.contains("softhsm"), "the front has the module mapped");
    // Readable where the test may attach to the process; elsewhere this part says nothing.
    if let Ok(memory) = fs::File::open(format!("/proc/{front}/mem")) {
        for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
            let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
            let [from, to] = [from, to].map(|address| u64::from_str_radix(address, 16).unwrap());
            let mut bytes = vec![0; usize::try_from((to - from).min(64 << 20)).unwrap()];
            if std::os::unix::fs::FileExt::read_at(&memory, &mut bytes, from).is_ok() {
                assert!(!holds(&bytes), "in the front's memory");
            }
        }
    }
    assert!(!holds(&fs::read(bank.join("daemon.log")).unwrap()), "in the log");
}
