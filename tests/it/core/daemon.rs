//! The whole bank with a core banking system: real daemons, killed in the middle, and the sandbox as its own program.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use countersign::banking::CoreState;
use countersign::banking::sandbox::{Sandbox, Trick};
use countersign::kernel::command::CoreVerb;
use countersign::mcp::client::StdioClient;
use serde_json::{Value, json};

use crate::crash::{Daemon, World, run, supervisor_of, text, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_countersign");

struct Bank {
    // Dropped first, while the directories are there.
    daemon: Option<Daemon>,
    world: World,
    core: Sandbox,
}

impl Bank {
    /// The demo's bank, from now on with a core.
    fn new() -> Self {
        let (world, core) = (World::new(), super::sandbox());
        let state = world.state("bank");
        assert!(run(&state, "bank-admin", &["stop"]).status.success());
        let path = state.join("countersign.toml");
        let section = format!("[banking]\nurl = \"{}\"\ntimeout_ms = {}\n\n[audit]", core.url(), super::TIMEOUT_MS);
        let text = fs::read_to_string(&path).unwrap().replace("[audit]", &section);
        fs::write(&path, text).unwrap();
        let mut bank = Self { daemon: None, world, core };
        bank.start();
        bank
    }

    /// From now on with a core that serves nobody without this bank's certificate, whose key is in its token.
    fn with_mutual_tls(mut self) -> Self {
        self.daemon.take().unwrap().kill();
        let state = self.world.state("bank");
        let bank_root = fs::read(state.join("certs/root.pem")).unwrap();
        let (_, bank_root) = x509_parser::pem::parse_x509_pem(&bank_root).unwrap();
        let anywhere = (std::net::Ipv4Addr::LOCALHOST, 0).into();
        let before = self.core.url();
        self.core = Sandbox::start_for_clients_of(anywhere, &bank_root.contents).unwrap();
        fs::write(state.join("anchors/core-root.pem"), self.core.root().unwrap()).unwrap();
        let path = state.join("countersign.toml");
        let section =
            format!("url = \"{}\"\nroot_file = \"anchors/core-root.pem\"\nclient_certificate = true", self.core.url());
        let text = fs::read_to_string(&path).unwrap().replace(&format!("url = \"{before}\""), &section);
        fs::write(&path, text).unwrap();
        self.start();
        self
    }

    fn start(&mut self) {
        let state = self.world.state("bank");
        self.daemon = Some(until("the lock", || Daemon::try_start(&state)));
    }

    /// Kills the daemon while the core is gone, then brings both back.
    fn killed_and_back(&mut self) {
        self.daemon.take().unwrap().kill();
        self.core.back();
        self.start();
    }

    fn call(&self, agent: &StdioClient, tool: &str, order: &Value) -> Result<Value, Value> {
        self.world.runtime.block_on(agent.call(tool, order.clone()))
    }

    fn authorize(&self, agent: &StdioClient, key: &str) -> Result<Value, Value> {
        let mut order = transfer();
        order["idempotency_key"] = key.into();
        self.call(agent, "authorize_transfer", &order)
    }

    fn execute(&self, agent: &StdioClient, authorized: &Value) -> Result<Value, Value> {
        let mut order = transfer();
        order["transaction_id"] = authorized["transaction_id"].clone();
        self.call(agent, "execute_transfer", &order)
    }

    /// Asks under this key until the payment is executed.
    fn executed(&self, agent: &StdioClient, key: &str) -> Value {
        let authorized = until(key, || self.authorize(agent, key).ok().filter(|answer| answer["status"] == "approved"));
        until(key, || self.execute(agent, &authorized).ok().filter(|answer| answer["status"] == "executed"))
    }

    fn doctor(&self, check: &str) -> Value {
        let output = run(&self.world.state("bank"), "auditor", &["--json", "doctor"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
        report["items"].as_array().unwrap().iter().find(|item| item["check"] == check).unwrap().clone()
    }
}

fn transfer() -> Value {
    json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": "1.00" })
}

#[test]
fn a_core_that_asks_for_a_certificate_knows_the_bank_by_a_key_in_its_token() {
    let bank = Bank::new().with_mutual_tls();
    let agent = bank.world.agent();
    assert_eq!(bank.executed(&agent, "mutual")["receipt"], "signed");
    assert_eq!(bank.core.known().values().filter(|known| known.state == CoreState::Settled).count(), 1);
    let rotated = run(&bank.world.state("bank"), "bank-admin", &["key", "rotate", "tls-client"]);
    assert!(rotated.status.success(), "{}", text(&rotated));
    // Connections that are open go on; a new one is made with the new key.
    bank.core.away();
    bank.core.back();
    assert_eq!(bank.executed(&agent, "rotated")["receipt"], "signed");
    assert_eq!(bank.doctor("core banking")["result"], "ok");
    bank.world.runtime.block_on(agent.close());
}

#[test]
fn whatever_becomes_of_the_daemon_and_the_core_each_intent_is_paid_once_in_both_books() {
    let mut bank = Bank::new();
    let mut agent = bank.world.agent();
    let before = bank.world.savings(&agent);
    assert_eq!(bank.executed(&agent, "well")["receipt"], "signed");
    assert_eq!(
        (&bank.doctor("core banking")["result"], &bank.doctor("core orders")["result"]),
        (&"ok".into(), &"ok".into())
    );

    // The hold was applied, its answer lost, core and daemon gone: one case, and later one payment.
    bank.core.plan(CoreVerb::Hold, Trick::LeaveAfter, 1);
    let queued = bank.authorize(&agent, "hold").unwrap();
    assert_eq!(queued["status"], "queued_manual", "{queued}");
    assert_eq!(bank.authorize(&agent, "hold").unwrap()["case_id"], queued["case_id"]);
    assert_eq!(bank.doctor("core banking")["result"], "fail");
    assert!(bank.doctor("core orders")["detail"].as_str().unwrap().contains("1 orders wait"));
    bank.killed_and_back();
    agent = reconnected(&bank, agent);
    assert_eq!(bank.executed(&agent, "hold")["transaction_id"], queued["transaction_id"]);

    // The same with the settlement: submitted, then executed.
    for (key, trick) in [("settle-after", Trick::LeaveAfter), ("settle-before", Trick::LeaveBefore)] {
        let authorized = bank.authorize(&agent, key).unwrap();
        bank.core.plan(CoreVerb::Settle, trick, 1);
        let submitted = bank.execute(&agent, &authorized).unwrap();
        assert_eq!(submitted["status"], "submitted", "{submitted}");
        bank.killed_and_back();
        agent = reconnected(&bank, agent);
        // Recovery or this call, whichever comes first, hears of it; from then on it is a repetition.
        let executed = bank.executed(&agent, key);
        assert_eq!(executed["receipt"], "signed");
        let again = bank.executed(&agent, key);
        assert_eq!((&again["repeated"], &again["transaction_id"]), (&true.into(), &executed["transaction_id"]));
    }

    // A release outlives the daemon too.
    let authorized = bank.authorize(&agent, "cancelled").unwrap();
    let id = authorized["transaction_id"].as_str().unwrap().parse().unwrap();
    bank.core.plan(CoreVerb::Release, Trick::LeaveBefore, 1);
    let cancelled =
        bank.call(&agent, "cancel_authorization", &json!({ "transaction_id": authorized["transaction_id"] }));
    assert_eq!(cancelled.unwrap()["status"], "cancelled");
    until("the release is tried", || bank.core.is_away().then_some(()));
    bank.killed_and_back();
    agent = reconnected(&bank, agent);
    until("the release", || (bank.core.known()[&id].state == CoreState::Released).then_some(()));

    // Killed in the middle of payments while the core answers as it likes.
    let mut paid = 4;
    for turn in 0..3 {
        for (verb, trick) in [
            (CoreVerb::Hold, Trick::DropAfter),
            (CoreVerb::Settle, Trick::DropBefore),
            (CoreVerb::Settle, Trick::Twice),
        ] {
            bank.core.plan(verb, trick, 1);
        }
        let daemon = bank.daemon.take().unwrap();
        let tried = std::thread::scope(|scope| {
            let (bank, agent) = (&bank, &agent);
            let paying = scope.spawn(move || {
                let pay = |n: &usize| {
                    let authorized = bank.authorize(agent, &format!("killed-{turn}-{n}"));
                    authorized.and_then(|authorized| bank.execute(agent, &authorized)).is_ok()
                };
                // The first that has no answer is the last.
                1 + (0..10_000).take_while(pay).count()
            });
            let settled = bank.core.sums()["SAV_001 USD"];
            until("payments", || (bank.core.sums()["SAV_001 USD"] > settled + 200).then_some(()));
            daemon.kill();
            paying.join().unwrap()
        });
        bank.start();
        agent = reconnected(&bank, agent);
        for n in 0..tried {
            bank.executed(&agent, &format!("killed-{turn}-{n}"));
        }
        paid += tried;
    }
    assert!((bank.world.savings(&agent) - before - paid as f64).abs() < 1e-9);
    assert_eq!(bank.core.sums()["SAV_001 USD"], 100 * i128::try_from(paid).unwrap());
    for (id, known) in bank.core.known() {
        let expected = u32::from(known.state == CoreState::Settled);
        assert_eq!(known.settled_times, expected, "{id}");
        assert!(matches!(known.state, CoreState::Settled | CoreState::Released), "{id}: {known:?}");
    }
    assert_eq!(bank.doctor("core orders")["result"], "ok");
    bank.world.books_are_sound();
    bank.world.runtime.block_on(agent.close());
}

fn reconnected(bank: &Bank, agent: StdioClient) -> StdioClient {
    bank.world.runtime.block_on(agent.close());
    bank.world.agent()
}

#[test]
fn a_core_that_cannot_be_set_up_keeps_the_daemon_from_starting_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("bank");
    let made = run(&state, "bank-admin", &["init", "--kind", "bank", "--demo", "--port", "0"]);
    assert!(made.status.success(), "{}", text(&made));
    let path = state.join("countersign.toml");
    let plain = fs::read_to_string(&path).unwrap();
    let table = [
        ("url = \"http://127.0.0.1:9/v1\"\nsecret_file = \"secrets/absent\"", "secret_file_missing", 2),
        ("url = \"https://localhost:9/v1\"\nroot_file = \"anchors/absent.pem\"", "core_root_unusable", 2),
        ("url = \"http://192.0.2.1/v1\"", "config_invalid", 2),
    ];
    for (section, name, code) in table {
        fs::write(&path, plain.replace("[audit]", &format!("[banking]\n{section}\n\n[audit]"))).unwrap();
        let output = run(&state, "auditor", &["serve"]);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        assert!(text(&output).contains(&format!("{name}: ")), "{}", text(&output));
    }
    assert!(supervisor_of_is_gone(&state));
}

fn supervisor_of_is_gone(state: &Path) -> bool {
    !Path::new(&format!("/proc/{}/exe", supervisor_of(state))).exists()
}

/// `countersign sandbox core`, ended with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_bank_engineer_can_try_the_sandbox_with_any_http_client() {
    let started =
        Command::new(PROGRAM).args(["--json", "sandbox", "core"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut program = Program(started.unwrap());
    let mut lines = BufReader::new(program.0.stdout.take().unwrap());
    let mut said = String::new();
    let ready: Value = loop {
        assert_ne!(lines.read_line(&mut said).unwrap(), 0, "{said}");
        if let Ok(ready) = serde_json::from_str(&said) {
            break ready;
        }
    };
    let address = ready["url"].as_str().unwrap().strip_prefix("http://").unwrap().trim_end_matches("/v1");
    let ask = |method: &str, path: &str, body: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        let length = body.len();
        let text = format!("{method} /v1/{path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(text.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let order = r#"{"transaction_id":"txn_01KAK2S8C5V8GQ3W3T1Y2N4M5P","kind":"transfer","debit_account":"CHK_001",
        "credit_account":"SAV_001","amount_minor":"500","fee_minor":"25","currency":"USD"}"#;
    let id = "txn_01KAK2S8C5V8GQ3W3T1Y2N4M5P";
    let table = [
        ("GET", format!("transactions/{id}"), "", "unknown_transaction"),
        ("POST", format!("settlements/{id}"), order, "not_held"),
        ("POST", format!("holds/{id}"), order, r#""state":"held""#),
        ("POST", format!("holds/{id}"), &order.replace("500", "600"), "idempotency_key_reused"),
        ("POST", "holds/txn_01KAK2S8C5V8GQ3W3T1Y2N4M5Q".into(), order, "order_mismatch"),
        ("POST", format!("holds/{id}"), "{}", "order_malformed"),
        ("POST", "sandbox/plan".into(), r#"{"verb":"settle","trick":{"status":503}}"#, "planned"),
        ("POST", format!("settlements/{id}"), order, "503"),
        ("GET", format!("transactions/{id}"), "", r#""state":"settled""#),
        ("POST", format!("settlements/{id}"), order, r#""state":"settled""#),
        ("POST", format!("releases/{id}"), order, r#""name":"settled""#),
        ("GET", "sandbox/book".into(), "", r#""SAV_001 USD":"500""#),
        ("GET", "sandbox/book".into(), "", r#""settled_times":1"#),
        ("POST", "sandbox/plan".into(), r#"{"verb":"fly","trick":"twice"}"#, "plan_malformed"),
        ("POST", "sandbox/away".into(), "", "away"),
        ("GET", "sandbox/book".into(), "", "CHK_001 USD"),
        ("POST", "sandbox/back".into(), "", "back"),
        ("GET", "elsewhere".into(), "", "no_such_place"),
    ];
    for (method, path, body, expected) in table {
        let answer = ask(method, &path, body);
        assert!(answer.contains(expected), "{method} {path}: {answer}");
    }
}
