//! The breaker of real daemons: it opens by itself, what is asked meanwhile becomes one case, and it closes by itself.

use std::fs;
use std::path::{Path, PathBuf};

use countersign::banking::sandbox::{Sandbox, Trick};
use countersign::kernel::command::CoreVerb;
use countersign::mcp::client::StdioClient;
use serde_json::{Value, json};

use crate::crash::{Daemon, World, run, supervisor_of, text, until};

/// Quick, so that a test waits for what happens and not for a clock.
const QUICK: &str = "[breaker]\nhsm_down_ms = 300\ncore_failures = 2\ncore_failing_ms = 0\nprobe_successes = 2\n\
                     recovered_ms = 0\nprobe_pause_ms = 100\nprobe_pause_max_ms = 500\n";

struct Bank {
    // Dropped first, while the directories are there.
    _daemon: Daemon,
    world: World,
}

impl Bank {
    /// The demo's bank with a quick breaker, and with a core if there is one.
    fn new(core: Option<&Sandbox>) -> Self {
        let world = World::new();
        let state = world.state("bank");
        assert!(run(&state, "bank-admin", &["stop"]).status.success());
        let path = state.join("countersign.toml");
        let written = fs::read_to_string(&path).unwrap();
        let (before, rest) = written.split_once("[breaker]").expect("the sample has the section");
        let (_, after) = rest.split_once("\n\n").expect("it ends");
        let banking = core.map(|core| format!("[banking]\nurl = \"{}\"\ntimeout_ms = 3000\n\n", core.url()));
        fs::write(&path, format!("{before}{QUICK}\n{}{after}", banking.unwrap_or_default())).unwrap();
        let daemon = until("the lock", || Daemon::try_start(&state));
        Self { _daemon: daemon, world }
    }

    fn state(&self) -> PathBuf {
        self.world.state("bank")
    }

    fn call(&self, agent: &StdioClient, tool: &str, arguments: Value) -> Value {
        self.world.runtime.block_on(agent.call(tool, arguments)).unwrap_or_else(|failure| failure)
    }

    fn authorize(&self, agent: &StdioClient, key: &str) -> Value {
        let order = json!({
            "from_account": "CHK_001", "to_account": "SAV_001", "amount": "1.00", "idempotency_key": key,
        });
        self.call(agent, "authorize_transfer", order)
    }

    fn execute(&self, agent: &StdioClient, id: &Value) -> Value {
        let order =
            json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": "1.00", "transaction_id": id });
        self.call(agent, "execute_transfer", order)
    }

    fn ask(&self, operator: &str, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
        let output = run(&self.state(), operator, &arguments);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)))
    }

    /// The causes that stand.
    fn causes(&self) -> Vec<String> {
        let status = self.ask("auditor", &["bank", "status"]);
        let causes = status["causes"].as_array().unwrap().iter();
        causes.map(|cause| cause["cause"].as_str().unwrap().to_owned()).collect()
    }

    fn stands(&self, cause: &str) {
        until(cause, || (self.causes() == [cause]).then_some(()));
    }

    fn is_closed(&self) {
        until("it closes", || (self.ask("auditor", &["bank", "status"])["state"] == "closed").then_some(()));
    }

    /// How often the log says that this cause was opened and lifted.
    fn leaves(&self, cause: &str) -> (usize, usize) {
        let leaves = self.ask("auditor", &["audit", "show", "--limit", "1000"]);
        let bodies = leaves["items"].as_array().unwrap().iter().map(|leaf| &leaf["body"]);
        let about: Vec<&Value> =
            bodies.filter(|body| body["act"] == "set_breaker" && body["parameters"]["cause"] == cause).collect();
        // Each names the node that it is about.
        let node = self.ask("auditor", &["bank", "status"])["node"].clone();
        assert!(about.iter().all(|body| node.is_string() && body["parameters"]["node"] == node), "{node}: {about:?}");
        let opened = about.iter().filter(|body| body["parameters"]["open"] == true).count();
        (opened, about.len() - opened)
    }
}

/// The worker processes of this daemon's token.
fn workers(state: &Path) -> Vec<u32> {
    let supervisor = supervisor_of(state);
    let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap_or_default();
    let is_worker = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == b"hsm-worker")
    };
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_worker).collect()
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

#[test]
fn without_its_hsm_a_bank_queues_payments_once_goes_on_reading_and_heals_by_itself() {
    let bank = Bank::new(None);
    let agent = bank.world.agent();
    let before = bank.world.savings(&agent);
    let held = bank.authorize(&agent, "held");
    assert_eq!(held["status"], "approved", "{held}");

    // The token is away: its files are gone, and the workers that had them open.
    let (tokens, away) = (bank.state().join("softhsm/tokens"), bank.state().join("softhsm/away"));
    fs::rename(&tokens, &away).unwrap();
    for pid in workers(&bank.state()) {
        kill(pid);
    }
    bank.stands("hsm_down");
    let queued = bank.execute(&agent, &held["transaction_id"]);
    assert_eq!(queued["status"], "queued_manual", "{queued}");
    assert_eq!(bank.execute(&agent, &held["transaction_id"])["case_id"], queued["case_id"]);
    let fresh = bank.authorize(&agent, "fresh");
    assert_eq!(fresh["status"], "queued_manual", "{fresh}");
    assert!((bank.world.savings(&agent) - before).abs() < 1e-9, "it reads, and nothing has moved");
    let status = bank.ask("auditor", &["bank", "status"]);
    let cause = &status["causes"][0];
    assert_eq!((&cause["reach"], &cause["by"]), (&json!("node"), &json!("system:breaker")), "{status}");
    let doctor = bank.ask("auditor", &["doctor"]);
    let payments = doctor["items"].as_array().unwrap().iter().find(|item| item["check"] == "payments").unwrap();
    assert!(payments["detail"].as_str().unwrap().contains("hsm_down"), "{payments}");
    // A person's word alone does not bring a token back.
    bank.ask("bank-officer", &["bank", "resume", "--cause", "hsm_down", "--yes"]);
    bank.stands("hsm_down");

    fs::rename(&away, &tokens).unwrap();
    bank.is_closed();
    let (opened, lifted) = bank.leaves("hsm_down");
    assert!(opened == lifted && opened >= 1, "{opened} {lifted}");
    assert_eq!(bank.execute(&agent, &held["transaction_id"])["case_id"], queued["case_id"], "it waits for people now");
    let case = queued["case_id"].as_str().unwrap();
    bank.ask("alice", &["manual", "take", case]);
    bank.ask("alice", &["manual", "done", case, "--release", "--note", "the token is back"]);
    let paid = until("the payment", || {
        Some(bank.execute(&agent, &held["transaction_id"])).filter(|answer| answer["status"] == "executed")
    });
    assert_eq!(paid["transaction_id"], held["transaction_id"]);
    assert_eq!(bank.execute(&agent, &held["transaction_id"])["repeated"], true);
    assert!((bank.world.savings(&agent) - before - 1.0).abs() < 1e-9, "once");
    let case = fresh["case_id"].as_str().unwrap();
    bank.ask("alice", &["manual", "done", case, "--paid-elsewhere", "SWIFT-1", "--note", "by hand"]);
    assert_eq!(bank.authorize(&agent, "fresh")["reason"], "paid_elsewhere");
    bank.world.books_are_sound();
    bank.world.runtime.block_on(agent.close());
}

#[test]
fn a_silent_core_stops_payments_and_its_answer_lets_them_go_on() {
    let core = crate::core::sandbox();
    let bank = Bank::new(Some(&core));
    let agent = bank.world.agent();
    let before = bank.world.savings(&agent);
    let held = bank.authorize(&agent, "held");
    assert_eq!(held["status"], "approved", "{held}");
    core.plan(CoreVerb::Hold, Trick::LeaveBefore, 1);
    let waits = bank.authorize(&agent, "waits");
    assert_eq!(waits["status"], "queued_manual", "{waits}");
    // Its order is said again and again, without a word: that is one order. Two are what stops payments here.
    let also = bank.authorize(&agent, "also");
    assert_eq!(also["status"], "queued_manual", "{also}");
    bank.stands("core_failing");
    let queued = bank.execute(&agent, &held["transaction_id"]);
    assert_eq!(queued["status"], "queued_manual", "{queued}");
    assert!(queued["why"].as_str().unwrap().contains("had no word"), "{queued}");
    // A person stops the bank as well: the daemon's probes do not lift that.
    bank.ask("bank-officer", &["bank", "stop", "--reason", "drill", "--yes"]);
    core.back();
    bank.stands("operator");
    assert_eq!(bank.ask("bank-officer", &["bank", "resume", "--yes"])["state"], "closed");
    let case = queued["case_id"].as_str().unwrap();
    bank.ask("alice", &["manual", "done", case, "--release", "--note", "the core is back"]);
    until("the payment", || (bank.execute(&agent, &held["transaction_id"])["status"] == "executed").then_some(()));
    assert!((bank.world.savings(&agent) - before - 1.0).abs() < 1e-9, "once");
    let (opened, lifted) = bank.leaves("core_failing");
    assert!(opened == lifted && opened >= 1, "{opened} {lifted}");
    bank.world.books_are_sound();
    bank.world.runtime.block_on(agent.close());
}
