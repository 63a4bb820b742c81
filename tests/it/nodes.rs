//! Two real daemons of one bank on one PostgreSQL database: what one revokes, neither serves.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use countersign::audit::sealing;
use countersign::config::Config;
use countersign::hsm::Token;
use countersign::hsm::embedded::Embedded;
use countersign::mcp::client::StdioClient;
use countersign::ops::clock;
use countersign::ops::paths::StateDir;
use countersign::signing::client::{Answered, Client};
use countersign::store::{LeafContent, LeafRecord, Store};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::postgres::{Database, shared};
use crate::support::raw::tool_call;
use crate::support::signed::{Agent, Line, signed};
use crate::support::world::PROGRAM;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// Each with a program of its own.
const RUNNERS: usize = 3;

/// A security company, a bank of two daemons, and an agent host for each of these.
struct Nodes {
    directory: tempfile::TempDir,
    database: Database<'static>,
}

impl Nodes {
    fn new(agents: &[&str]) -> Self {
        let nodes = Self { directory: tempfile::tempdir().unwrap(), database: shared().database() };
        nodes.set_up();
        for agent in agents {
            nodes.enrol(agent);
        }
        for (party, other) in [("bank", "bank2"), ("agent", "agent2")] {
            nodes.ask(party, "", &["stop"]);
            let copied = Command::new("cp").arg("-a").arg(nodes.state(party)).arg(nodes.state(other)).status();
            assert!(copied.unwrap().success());
        }
        let config = nodes.state("agent2").join("countersign.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let moved = text.replace("/bank/run/ports.json", "/bank2/run/ports.json");
        assert_ne!(text, moved);
        std::fs::write(&config, moved).unwrap();
        for party in ["bank", "bank2", "agent", "agent2"] {
            nodes.serve(party);
        }
        nodes
    }

    fn state(&self, party: &str) -> PathBuf {
        self.directory.path().join(party)
    }

    fn file(&self, name: &str) -> String {
        self.state(name).display().to_string()
    }

    fn ask(&self, party: &str, operator: &str, words: &[&str]) -> Value {
        let mut command = Command::new(PROGRAM);
        command.arg("--state").arg(self.state(party)).arg("--json");
        if !operator.is_empty() {
            command.args(["--operator", operator]);
        }
        command.args(words);
        // A daemon that stands still in the middle of a commit holds its rows until the server gives them up.
        let is_busy = |output: &std::process::Output| {
            let failure: Value = serde_json::from_slice(&output.stderr).unwrap_or_default();
            failure["error"]["kind"] == "busy" && failure["error"]["may_have_happened"] == "no"
        };
        let mut output = command.output().unwrap();
        for _ in 0..20 {
            if !is_busy(&output) {
                break;
            }
            output = command.output().unwrap();
        }
        assert!(output.status.success(), "{party} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn serve(&self, party: &str) {
        let mut daemon = Command::new(PROGRAM)
            .args(["serve", "--state"])
            .arg(self.state(party))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(daemon.stdout.as_mut().unwrap()), &mut line).unwrap();
        assert!(line.contains("\"ready\":true"), "{party}: {line:?}");
        // Stopped by its socket; waited for, so that nothing is left of it.
        std::thread::spawn(move || daemon.wait());
    }

    fn set_up(&self) {
        let (ports, url) = (self.file("bank/run/ports.json"), self.database.settings().url);
        let init = ["init", "--demo", "--module", MODULE, "--kind"];
        for (party, more) in [
            ("secco", &["security-company"][..]),
            ("bank", &["bank", "--port", "0", "--store-url", &url]),
            ("agent", &["agent-host", "--bank-ports-file", &ports]),
        ] {
            let administrator = if party == "agent" { "host-admin".into() } else { format!("{party}-admin") };
            self.ask(party, &administrator, &[&init[..], more].concat());
            self.serve(party);
        }
        for (at, by, other) in [
            ("bank", "bank-admin", "secco"),
            ("secco", "secco-admin", "bank"),
            ("agent", "host-admin", "bank"),
            ("agent", "host-admin", "secco"),
        ] {
            let [root, issuing] = ["root", "issuing"].map(|name| self.file(&format!("{other}/certs/{name}.pem")));
            self.ask(at, by, &["trust", "add", other, "--root", &root, "--issuing", &issuing]);
        }
        let catalogue = self.file("catalogue.json");
        std::fs::write(&catalogue, include_str!("../../certs/catalogue.json")).unwrap();
        for party in ["secco", "bank"] {
            let officer = format!("{party}-officer");
            self.ask(party, &officer, &["catalogue", "sign", &catalogue, "--out", &catalogue]);
        }
        for party in ["secco", "bank"] {
            self.ask(party, &format!("{party}-admin"), &["catalogue", "install", &catalogue]);
        }
        let list = self.file("secco.crl");
        self.ask("secco", "secco-officer", &["crl", "export", "--out", &list]);
        self.ask("bank", "bank-officer", &["crl", "import", &list]);
        for (person, party) in [("carol", "secco"), ("dora", "bank")] {
            let document = self.file(&format!("{person}.json"));
            self.ask(person, "", &["init", "--demo", "--module", MODULE, "--kind", "operator", "--name", person]);
            self.ask(person, "", &["operator", "show", "--out", &document]);
            self.ask(party, &format!("{party}-admin"), &["operator", "enrol", &document, "--role", "officer"]);
        }
        let book = self.file("bank.toml");
        std::fs::write(&book, include_str!("../../scripts/demo-bank.toml")).unwrap();
        self.ask("bank", "bank-admin", &["bank", "load", &book]);
        let host = self.file("host.json");
        self.ask("agent", "host-admin", &["host", "show", "--out", &host]);
        for party in ["secco", "bank"] {
            self.ask(party, &format!("{party}-admin"), &["host", "enrol", &host]);
        }
    }

    fn enrol(&self, agent: &str) {
        let (carol, dora) = (self.file("carol"), self.file("dora"));
        let signed = ["--endorse-as", &carol, "--issue-as", &dora];
        self.ask("bank", "", &[&["cert", "issue", agent, "--role", "purchaser"], &signed[..]].concat());
        for (account, verbs) in [("CHK_001", "read,purchase,transfer,reverse"), ("SAV_001", "read")] {
            let grant = ["grant", "add", agent, account, "--owner", "OWN_001", "--verbs", verbs, "--days", "30"];
            self.ask("bank", "bank-officer", &grant);
        }
    }

    /// A process of this daemon by its verb.
    fn process(&self, party: &str, verb: &str) -> Pid {
        let lock = std::fs::read_to_string(self.state(party).join("daemon.lock")).unwrap();
        let supervisor: u32 = lock.trim().parse().unwrap();
        let children = std::fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
        let is_it = |pid: &&str| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).nth(1) == Some(verb.as_bytes())
        };
        let found = children.split_whitespace().find(is_it).unwrap_or_else(|| panic!("{party} has no {verb}"));
        Pid::from_raw(found.parse().unwrap()).unwrap()
    }

    /// The checker has no token: what leaves say is opened for it, and it judges by itself whether that is what they
    /// commit to.
    fn say_in_the_clear(&self) {
        for party in ["bank", "bank2"] {
            self.ask(party, "", &["stop"]);
        }
        let state = StateDir::new(self.state("bank"));
        let config = Config::load(&state).unwrap();
        let (party, party_settings, settings) = config.hosted();
        let token = Embedded::start(PathBuf::from(PROGRAM), &state, &party_settings.token, settings).unwrap();
        let wrapping = token.pool() as Arc<dyn Token>;
        let store = self.database.open();
        let opened = (0..100).find_map(|_| {
            // The workers log in first, which a token may take its time for.
            let _ = wrapping.keys();
            sealing::begin(&*store, &wrapping, party.as_str(), &config.audit).ok()
        });
        opened.expect("the bank's own token opens its store");
        let mut from = 0;
        loop {
            let page = store.leaves(from, 500).unwrap();
            let Some(last) = page.last().and_then(|leaf| leaf.index) else { break };
            from = last + 1;
            self.written_in_the_clear(&page);
        }
        self.written_in_the_clear(&store.unsequenced(10_000).unwrap());
    }

    fn written_in_the_clear(&self, leaves: &[LeafRecord]) {
        for some in leaves.chunks(20) {
            let values: Vec<String> = some
                .iter()
                .map(|LeafRecord { row, content, .. }| {
                    let LeafContent::Known { salt, body } = content else {
                        panic!("leaf {row} does not open: {content:?}")
                    };
                    format!("({row}, '\\x{}'::bytea, '\\x{}'::bytea)", hex::encode(salt), hex::encode(body))
                })
                .collect();
            let values = values.join(", ");
            self.database.sql(&format!(
                "UPDATE leaves SET salt = v.salt, body = v.body, data_key = NULL
                 FROM (VALUES {values}) AS v (row, salt, body) WHERE leaves.row = v.row"
            ));
        }
    }

    fn executed(&self) -> u64 {
        self.database.sql("SELECT count(*) FROM transactions WHERE state = 'executed'").trim().parse().unwrap()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for party in ["bank", "bank2", "secco", "agent", "agent2"] {
            if self.state(party).exists() {
                let _ = Command::new(PROGRAM).arg("--state").arg(self.state(party)).arg("stop").output();
            }
        }
    }
}

/// An agent's program at one of the hosts.
struct Program {
    runtime: tokio::runtime::Runtime,
    client: Option<StdioClient>,
}

impl Program {
    fn start(nodes: &Nodes, host: &str, agent: &str) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let words = ["connect", "--agent", agent, "--state", &nodes.file(host)].map(str::to_owned);
        let log = std::fs::File::create(nodes.state(&format!("connect-{host}.log"))).unwrap();
        let client = runtime.block_on(StdioClient::start(Path::new(PROGRAM), &words, log));
        client.map(|client| Self { runtime, client: Some(client) }).map_err(|failure| format!("{failure:?}"))
    }

    fn call(&self, tool: &str, order: &Value) -> Result<Value, Value> {
        let client = self.client.as_ref().expect("it is there until the end");
        self.runtime.block_on(client.call(tool, order.clone()))
    }

    fn balance(&self) -> Result<Value, Value> {
        self.call("get_account_balance", &json!({ "account_id": "CHK_001" }))
    }

    /// One small payment; answers whether money moved.
    fn pay(&self, key: &str) -> bool {
        let order = json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": "0.01" });
        let mut first = order.clone();
        first["idempotency_key"] = json!(key);
        let Ok(authorized) = self.call("authorize_transfer", &first) else { return false };
        let mut second = order;
        second["transaction_id"] = authorized["transaction_id"].clone();
        self.call("execute_transfer", &second)
            .is_ok_and(|done| ["executed", "posted"].contains(&done["status"].as_str().unwrap_or_default()))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            self.runtime.block_on(client.close());
        }
    }
}

#[test]
fn what_one_daemon_of_a_bank_revokes_the_other_serves_no_more_once_it_is_effective() {
    let nodes = Nodes::new(&["runner", "sleeper", "frozen"]);
    a_policy_that_one_daemon_puts_in_force_both_obey_at_once(&nodes);
    what_one_daemon_took_the_other_takes_no_more(&nodes);
    no_call_that_starts_after_it_is_effective_has_an_effect(&nodes);
    a_daemon_that_stands_still_is_waited_for_and_serves_nothing_when_it_goes_on(&nodes, "sleeper", true);
    a_daemon_that_stands_still_is_waited_for_and_serves_nothing_when_it_goes_on(&nodes, "frozen", false);
    nodes.say_in_the_clear();
    let store = nodes.database.settings().url;
    let checker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checker/check.py");
    let checked = Command::new("python3").arg("-B").arg(checker).arg(store).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

fn a_policy_that_one_daemon_puts_in_force_both_obey_at_once(nodes: &Nodes) {
    let programs = ["agent", "agent2"].map(|host| Program::start(nodes, host, "sleeper").unwrap());
    let tools: Vec<String> = countersign::mcp::server::tool_names();
    let put_in_force = |version: u64, maximum: Value| {
        let permission = |tool: &String| {
            let limited = json!({ "amount": { "maximum": maximum } });
            let constraints = if tool == "authorize_transfer" { limited } else { json!({}) };
            json!({ "tool_name": tool, "action": "invoke", "constraints": constraints })
        };
        let permissions: Vec<Value> = tools.iter().map(permission).collect();
        let file = nodes.file(&format!("policy-{version}.json"));
        std::fs::write(&file, json!({ "role": "purchaser", "permissions": permissions }).to_string()).unwrap();
        let at = if version % 2 == 1 { "bank" } else { "bank2" };
        let applied = nodes.ask(at, "bank-admin", &["policy", "apply", &file]);
        assert_eq!((&applied["version"], &applied["nodes"]), (&json!(version), &json!(2)), "{applied}");
    };
    // No pause: the command answers when both obey.
    put_in_force(1, json!(0.005));
    for (number, program) in programs.iter().enumerate() {
        assert!(!program.pay(&format!("narrow-{number}")), "above the limit, at daemon {number}");
        assert!(program.balance().is_ok());
    }
    put_in_force(2, json!(5));
    for (number, program) in programs.iter().enumerate() {
        assert!(program.pay(&format!("wide-{number}")), "within the limit, at daemon {number}");
    }
}

/// A request with an effect counts once for the whole bank; one that reads, once at each daemon.
fn what_one_daemon_took_the_other_takes_no_more(nodes: &Nodes) {
    let agent = Agent::new(&nodes.state("bank"), &nodes.state("agent"), "sleeper");
    let lines = ["bank", "bank2"].map(|bank| Line::open(&nodes.state(bank), &nodes.state("agent"), &agent));
    let [mut first, mut second] = lines;
    let order =
        json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": "0.01", "idempotency_key": "once" });
    let acting = signed(&agent, &tool_call("authorize_transfer", &order));
    let taken = first.ask(&acting);
    assert_eq!(taken.content()["status"], "approved", "{taken:?}");
    let again = second.ask(&acting);
    assert_eq!((again.status, again.name()), (409, "nonce_replayed"), "{again:?}");
    let fresh = second.ask(&signed(&agent, &tool_call("authorize_transfer", &order)));
    assert_eq!(fresh.content()["transaction_id"], taken.content()["transaction_id"], "{fresh:?}");
}

fn no_call_that_starts_after_it_is_effective_has_an_effect(nodes: &Nodes) {
    let stop = AtomicBool::new(false);
    let paid = std::sync::atomic::AtomicU64::new(0);
    let mut calls: Vec<(String, &str, bool)> = vec![];
    let mut effective_at = String::new();
    std::thread::scope(|scope| {
        let runners: Vec<_> = (0..RUNNERS)
            .map(|number| {
                let (stop, paid) = (&stop, &paid);
                scope.spawn(move || {
                    let program = Program::start(nodes, "agent2", "runner").unwrap();
                    let mut seen = vec![];
                    let mut payment = 0;
                    // Every call after the revocation fails at once: some of them are enough.
                    let mut left = 20;
                    while left > 0 {
                        payment += 1;
                        let begun = clock::now().rfc3339();
                        let moved = program.pay(&format!("race-{number}-{payment}"));
                        seen.push((begun, "payment", moved));
                        paid.fetch_add(u64::from(moved), Ordering::SeqCst);
                        let begun = clock::now().rfc3339();
                        seen.push((begun, "balance", program.balance().is_ok()));
                        left -= i32::from(stop.load(Ordering::SeqCst));
                    }
                    seen
                })
            })
            .collect();
        while paid.load(Ordering::SeqCst) < 10 {
            assert!(runners.iter().all(|runner| !runner.is_finished()), "nobody pays");
            crate::support::before_another_look();
        }
        let answer = nodes.ask("bank", "bank-officer", &["revoke", "runner", "--reason", "key-compromise"]);
        stop.store(true, Ordering::SeqCst);
        assert_eq!((&answer["effective"], &answer["nodes"]), (&json!(true), &json!("2")), "{answer}");
        effective_at = answer["effective_at"].as_str().unwrap().to_owned();
        runners.into_iter().for_each(|runner| calls.extend(runner.join().unwrap()));
    });
    let late: Vec<_> = calls.iter().filter(|(begun, _, served)| *served && *begun > effective_at).collect();
    assert!(late.is_empty(), "served after {effective_at}: {late:?}");
    let refused = calls.iter().filter(|(begun, _, _)| *begun > effective_at).count();
    assert!(refused >= RUNNERS, "nothing was asked afterwards");
    assert!(!Program::start(nodes, "agent2", "runner").is_ok_and(|program| program.balance().is_ok()));
}

fn a_daemon_that_stands_still_is_waited_for_and_serves_nothing_when_it_goes_on(
    nodes: &Nodes,
    agent: &str,
    for_ever: bool,
) {
    let program = Program::start(nodes, "agent2", agent).unwrap();
    assert!(program.balance().is_ok() && program.pay(&format!("before-{agent}")));
    let before = nodes.executed();
    let front = nodes.process("bank2", "front");
    kill_process(front, Signal::STOP).unwrap();
    let words: &[&str] =
        if for_ever { &["revoke", agent, "--reason", "x"] } else { &["freeze", agent, "--reason", "x"] };
    let answer = nodes.ask("bank", "bank-officer", words);
    // By the database's clock the other one's lease is over; by its own it was over before.
    let held = "SELECT count(*) FROM daemons WHERE renewed > clock_timestamp() - interval '1 second'";
    assert_eq!(nodes.database.sql(held).trim(), "1", "answered while another daemon held a lease");
    assert_eq!((&answer["effective"], &answer["nodes"]), (&json!(true), &json!("1")), "{answer}");
    kill_process(front, Signal::CONT).unwrap();
    for round in 0..3 {
        assert!(program.balance().is_err(), "a read was served, round {round}");
        assert!(!program.pay(&format!("after-{agent}-{round}")), "money moved, round {round}");
    }
    assert_eq!(nodes.executed(), before);
    assert!(!Program::start(nodes, "agent2", agent).is_ok_and(|program| program.balance().is_ok()));
    assert!(!Program::start(nodes, "agent", agent).is_ok_and(|program| program.balance().is_ok()));
}

#[test]
fn two_daemons_that_are_asked_with_one_idempotency_key_give_one_answer() {
    let nodes = Nodes::new(&[]);
    for bank in ["bank", "bank2"] {
        nodes.ask(bank, "", &["stop"]);
    }
    nodes.ask("bank", "bank-admin", &["key", "generate", "--purpose", "external", "--name", "papers"]);
    let config = nodes.state("bank").join("countersign.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let key = "[[signing.key]]\nname = \"papers\"\nkinds = [\"document\"]\ncallers = [\"0\"]\n\
               per_second = 1000\nburst = 1000\n";
    std::fs::write(&config, format!("{text}\n{key}")).unwrap();
    // One token, as two daemons of one bank have it.
    std::fs::remove_dir_all(nodes.state("bank2")).unwrap();
    let copied = Command::new("cp").arg("-a").arg(nodes.state("bank")).arg(nodes.state("bank2")).status();
    assert!(copied.unwrap().success());
    for bank in ["bank", "bank2"] {
        nodes.serve(bank);
    }
    let ask = |bank: &str, key: &str, total: &str| {
        let item = json!({ "kind": "document", "document": { "total": total } });
        let body = json!({ "key": "papers", "idempotency_key": key, "item": item }).to_string();
        let mut client = Client::connect(&nodes.state(bank).join("run/sign.sock")).unwrap();
        client.ask("POST", "/v1/sign", body.as_bytes()).unwrap()
    };
    for round in 0..10 {
        let key = format!("round-{round}");
        let answers: Vec<Answered> = std::thread::scope(|scope| {
            let asking: Vec<_> = ["bank", "bank2", "bank", "bank2"]
                .map(|bank| scope.spawn(|| ask(bank, &key, "12.00")))
                .into_iter()
                .collect();
            asking.into_iter().map(|one| one.join().unwrap()).collect()
        });
        for answered in &answers {
            assert_eq!(answered.status, 200, "{}", String::from_utf8_lossy(&answered.body));
            assert_eq!(answered.body, answers[0].body, "{key}");
        }
        let other = ask(if round % 2 == 0 { "bank" } else { "bank2" }, &key, "13.00");
        assert_eq!((other.status, other.value().unwrap_err().name.as_str()), (409, "idempotency_mismatch"));
    }
    assert_eq!(nodes.database.sql("SELECT count(*) FROM signings WHERE signatures IS NOT NULL").trim(), "10");
}
