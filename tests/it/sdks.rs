//! The official MCP SDKs and the Inspector at the bank, through the bridge on stdio, in both protocol generations:
//! list, balance, purchase, approval. `scripts/lib/sdks.sh` installs them; under `scripts/test` they must be there.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::support::world::{PROGRAM, World};

/// Set by `scripts/test`: what it has installed is used and not passed over.
const ALL_TOOLS: &str = "COUNTERSIGN_TEST_ALL_TOOLS";

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/sdks")
}

/// Whether the packages are here.
fn are_here() -> bool {
    let here = ["python/ready", "node/ready"].iter().all(|ready| tools().join(ready).exists());
    assert!(here || std::env::var_os(ALL_TOOLS).is_none(), "run scripts/lib/sdks.sh");
    if !here {
        println!("skipped: scripts/lib/sdks.sh installs the SDKs");
    }
    here
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sdks").join(name)
}

fn node() -> Command {
    let mut command = Command::new(tools().join("node/node"));
    command.env("NODE_PATH", tools().join("node/node_modules"));
    command
}

/// The words that start the bridge.
fn bridge(world: &World) -> Vec<String> {
    let state = world.state("agent").display().to_string();
    [PROGRAM, "connect", "--agent", "assistant", "--state", &state].map(str::to_owned).to_vec()
}

/// Somebody who calls the bank's tools.
trait Caller {
    fn list(&mut self) -> Vec<String>;
    /// Whether it was an error, and the structured content.
    fn call(&mut self, tool: &str, arguments: Value) -> (bool, Value);
}

/// A client made with an SDK.
struct Sdk {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// The protocol version, where the SDK tells it.
    protocol: Value,
}

impl Sdk {
    fn start(mut command: Command, kind: &str, world: &World) -> Self {
        let started = command.arg(kind).args(bridge(world)).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut sdk = Self { child, input, output, protocol: Value::Null };
        sdk.protocol = sdk.line()["protocol"].clone();
        sdk
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn ask(&mut self, order: &Value) -> Value {
        writeln!(self.input.as_mut().unwrap(), "{order}").unwrap();
        self.line()
    }

    /// Hangs up; the client and the bridge end.
    fn close(mut self) {
        self.input = None;
        assert!(self.child.wait().unwrap().success());
    }
}

impl Caller for Sdk {
    fn list(&mut self) -> Vec<String> {
        serde_json::from_value(self.ask(&json!({ "list": true }))["tools"].clone()).unwrap()
    }

    fn call(&mut self, tool: &str, arguments: Value) -> (bool, Value) {
        let answer = self.ask(&json!({ "call": tool, "arguments": arguments }));
        (answer["is_error"] == true, answer["content"].clone())
    }
}

/// The Inspector's command line: a bridge of its own for each call.
struct Inspector<'a>(&'a World);

impl Inspector<'_> {
    fn run(&self, words: &[String]) -> Value {
        let home = tempfile::tempdir().unwrap();
        let mut command = node();
        command.arg(tools().join("node/node_modules/.bin/mcp-inspector")).arg("--cli");
        command.args(bridge(self.0)).args(words).env("HOME", home.path()).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr)))
    }
}

impl Caller for Inspector<'_> {
    fn list(&mut self) -> Vec<String> {
        let listed = self.run(&["--method", "tools/list"].map(str::to_owned));
        listed["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    }

    fn call(&mut self, tool: &str, arguments: Value) -> (bool, Value) {
        let mut words = ["--method", "tools/call", "--tool-name", tool].map(str::to_owned).to_vec();
        for (name, value) in arguments.as_object().unwrap() {
            words.push("--tool-arg".to_owned());
            words.push(format!("{name}={}", value.as_str().unwrap()));
        }
        let result = self.run(&words);
        (result["isError"] == true, result["structuredContent"].clone())
    }
}

/// What a customer's agent does on an ordinary day. `day` makes its orders its own.
fn an_ordinary_day(world: &World, caller: &mut dyn Caller, day: &str) {
    let tools = caller.list();
    assert!(tools.contains(&"execute_purchase".to_owned()) && tools.len() == 12, "{day}: {tools:?}");
    let cents = |(is_error, content): (bool, Value)| -> i64 {
        assert!(!is_error && content["currency"] == "USD", "{day}: {content}");
        content["balance"].as_str().unwrap().replace('.', "").parse().unwrap()
    };
    let balance = json!({ "account_id": "CHK_001" });
    let before = cents(caller.call("get_account_balance", balance.clone()));
    let (is_error, refused) = caller.call("get_account_balance", json!({ "account_id": "CHK_002" }));
    assert_eq!((is_error, &refused["reason"]), (true, &json!("account_not_granted")), "{day}");

    let sleeve = json!({
        "product_id": "B07SLEEVE1", "price": "24.90", "merchant": "amazon.com", "idempotency_key": day,
    });
    let (_, bought) = caller.call("authorize_purchase", sleeve);
    assert_eq!(bought["status"], "approved", "{day}: {bought}");
    let execution = json!({ "transaction_id": bought["transaction_id"], "product_id": "B07SLEEVE1" });
    for repeated in [false, true] {
        let (is_error, executed) = caller.call("execute_purchase", execution.clone());
        assert_eq!((is_error, &executed["repeated"]), (false, &json!(repeated)), "{day}: {executed}");
    }
    assert_eq!(cents(caller.call("get_account_balance", balance)), before - 2490, "{day}");

    let large = json!({
        "from_account": "CHK_001", "to_account": "SAV_001", "amount": "2500.00", "idempotency_key": format!("{day}-large"),
    });
    let (_, asked) = caller.call("authorize_transfer", large);
    assert_eq!(asked["status"], "requires_approval", "{day}: {asked}");
    let approval = asked["approval_id"].as_str().unwrap();
    let status = json!({ "approval_id": approval });
    assert_eq!(caller.call("get_approval_status", status.clone()).1["status"], "pending", "{day}");
    world.run("bank", &["--operator", "alice", "approvals", "approve", approval]);
    let (_, approved) = caller.call("get_approval_status", status);
    assert_eq!(approved["status"], "approved", "{day}: {approved}");
    // Given up again, so that the next one has the money.
    let reference = json!({ "transaction_id": approved["transaction_id"] });
    assert_eq!(caller.call("cancel_authorization", reference).1["status"], "cancelled", "{day}");
}

#[test]
fn the_official_sdks_have_an_ordinary_day_at_the_bank_in_both_generations() {
    if !are_here() {
        return;
    }
    let world = World::new();
    let python = || {
        let mut command = Command::new(tools().join("python/bin/python"));
        command.arg(script("client.py"));
        command
    };
    let typescript = || {
        let mut command = node();
        command.arg(script("client.cjs"));
        command
    };
    let clients: [(&str, Command, &str, Value); 6] = [
        ("python-auto", python(), "auto", json!("2026-07-28")),
        ("python-new", python(), "2026-07-28", json!("2026-07-28")),
        ("python-old", python(), "legacy", json!("2025-11-25")),
        ("typescript-first", typescript(), "sdk", Value::Null),
        ("typescript-new", typescript(), "2026-07-28", json!("2026-07-28")),
        ("typescript-old", typescript(), "legacy", json!("2025-11-25")),
    ];
    for (name, command, kind, protocol) in clients {
        let mut sdk = Sdk::start(command, kind, &world);
        assert_eq!(sdk.protocol, protocol, "{name}");
        an_ordinary_day(&world, &mut sdk, name);
        sdk.close();
    }
}

#[test]
fn the_inspector_has_an_ordinary_day_at_the_bank() {
    if !are_here() {
        return;
    }
    let world = World::new();
    an_ordinary_day(&world, &mut Inspector(&world), "inspector");
}
