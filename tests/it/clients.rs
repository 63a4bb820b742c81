//! An MCP client of the newest generation, line by line: every tool once, each answer in the shape its schema says.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::support::world::{PROGRAM, World};

/// `countersign connect`, as an MCP client starts it.
pub struct Bridge {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    last_id: u64,
}

impl Bridge {
    pub fn start(agent_host: &Path) -> Self {
        Self::start_with(agent_host, &[])
    }

    pub fn start_with(agent_host: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["connect", "--agent", "assistant", "--state"]).arg(agent_host).args(arguments);
        Self::from(command)
    }

    /// For another agent of this host.
    pub fn start_as(agent_host: &Path, agent: &str) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["connect", "--agent", agent, "--state"]).arg(agent_host);
        Self::from(command)
    }

    fn from(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output, last_id: 0 }
    }

    /// Asks; answers the result.
    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        self.answer(method, params)["result"].clone()
    }

    /// Asks; answers the whole message.
    pub fn answer(&mut self, method: &str, mut params: Value) -> Value {
        self.last_id += 1;
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        });
        let request = json!({ "jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params });
        writeln!(self.input, "{request}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["id"], self.last_id, "{answer}");
        answer
    }

    /// Hangs up and waits for its end.
    pub fn close(mut self) {
        drop(self.input);
        assert!(self.child.wait().unwrap().success());
    }
}

/// The names of the tools that a bridge lists which is started like this.
pub fn tools_of(command: Command) -> Vec<String> {
    let mut bridge = Bridge::from(command);
    let listed = bridge.ask("tools/list", json!({}));
    bridge.close();
    listed["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

/// Every set of members that the schema asks for, one of which must be there.
fn required(schema: &Value) -> Vec<Vec<String>> {
    let names = |list: &Value| -> Vec<String> { serde_json::from_value(list.clone()).unwrap_or_default() };
    match schema["anyOf"].as_array() {
        Some(either) => either.iter().map(|one| names(&one["required"])).collect(),
        None => vec![names(&schema["required"])],
    }
}

#[test]
fn every_tool_answers_in_the_shape_that_its_schema_says() {
    let world = World::new();
    let mut bridge = Bridge::start(&world.state("agent"));
    assert_eq!(bridge.ask("server/discover", json!({}))["resultType"], "complete");
    let listed = bridge.ask("tools/list", json!({}));
    let tools = listed["tools"].as_array().unwrap().clone();
    assert_eq!((tools.len(), &listed["cacheScope"]), (12, &json!("private")));

    let mut called = std::collections::BTreeSet::new();
    let mut call = |tool: &str, arguments: Value| {
        called.insert(tool.to_owned());
        let result = bridge.ask("tools/call", json!({ "name": tool, "arguments": arguments }));
        let content = result["structuredContent"].clone();
        let schema = &tools.iter().find(|listed| listed["name"] == tool).unwrap()["outputSchema"];
        let fits = |names: &Vec<String>| names.iter().all(|name| content.get(name).is_some());
        assert!(required(schema).iter().any(fits), "{tool}: {result} does not fit {schema}");
        content
    };
    call("list_accounts", json!({}));
    assert_eq!(call("get_account_balance", json!({ "account_id": "CHK_001" }))["currency"], "USD");
    assert_eq!(call("get_account_balance", json!({ "account_id": "CHK_002" }))["reason"], "account_not_granted");
    assert_eq!(call("get_account_balance", json!({ "account_id": "NONE" }))["reason"], "account_not_granted");
    call("list_transactions", json!({ "account_id": "CHK_001", "limit": 3 }));
    call("search_products", json!({ "query": "laptop", "max_price": "2000" }));

    let sleeve = json!({
        "product_id": "B07SLEEVE1", "price": 24.90, "merchant": "amazon.com", "idempotency_key": "sleeve",
    });
    let bought = call("authorize_purchase", sleeve.clone());
    assert_eq!(call("authorize_purchase", sleeve)["transaction_id"], bought["transaction_id"]);
    let execution = json!({ "transaction_id": bought["transaction_id"], "product_id": "B07SLEEVE1" });
    assert_eq!(call("execute_purchase", execution.clone())["repeated"], false);
    assert_eq!(call("execute_purchase", execution)["repeated"], true);
    call("get_transaction", json!({ "transaction_id": bought["transaction_id"] }));
    let reversal = json!({ "transaction_id": bought["transaction_id"], "idempotency_key": "back" });
    assert_eq!(call("request_reversal", reversal)["status"], "requires_approval");

    let transfer = |amount: &str, key: &str| json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": amount, "idempotency_key": key });
    let held = call("authorize_transfer", transfer("5.00", "small"));
    let reference = json!({ "transaction_id": held["transaction_id"] });
    assert_eq!(call("cancel_authorization", reference)["status"], "cancelled");
    let late = json!({ "transaction_id": held["transaction_id"], "to_account": "SAV_001", "amount": "5.00" });
    assert_eq!(call("execute_transfer", late)["reason"], "authorization_cancelled");
    let asked = call("authorize_transfer", transfer("2500", "large"));
    let waiting = call("get_approval_status", json!({ "approval_id": asked["approval_id"] }));
    assert_eq!((&waiting["status"], waiting.get("transaction_id")), (&json!("pending"), None));
    let approval = asked["approval_id"].as_str().unwrap();
    world.run("bank", &["--operator", "alice", "approvals", "deny", approval]);
    assert_eq!(call("get_approval_status", json!({ "approval_id": approval }))["status"], "denied");

    assert_eq!(call("get_account_balance", json!({ "account": "CHK_001" }))["reason"], "invalid_arguments");
    assert_eq!(called.len(), 12);
    let policy = bridge.ask("resources/read", json!({ "uri": "bank://policy" }));
    assert_eq!(policy["contents"][0]["uri"], "bank://policy", "{policy}");
    assert!(!bridge.ask("prompts/list", json!({}))["prompts"].as_array().unwrap().is_empty());
    assert!(bridge.ask("server/discover", json!({}))["capabilities"]["resources"].is_object());
    // A leaf shows once the sequencer has given it its place, a moment after the answer.
    let show = ["--operator", "auditor", "--json", "audit", "show", "--limit", "10"];
    let recorded = (0..100).any(|_| world.run("bank", &show).contains("invalid_arguments"));
    assert!(recorded, "a refused call left no leaf");
    bridge.close();
}

#[test]
fn a_store_that_is_away_is_no_decision_and_the_same_call_succeeds_when_it_is_back() {
    let world = World::new();
    let mut bridge = Bridge::start(&world.state("agent"));
    // It has its access token from before: one that cannot be recorded is not issued.
    bridge.ask("tools/list", json!({}));
    let mut call = || {
        let order =
            json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": "5.00", "idempotency_key": "k" });
        bridge.ask("tools/call", json!({ "name": "authorize_transfer", "arguments": order }))
    };
    let freeze = ["--operator", "bank-officer", "account", "freeze", "SAV_001", "--reason", "drill"];

    // Another program holds the file for longer than anybody waits for it.
    let holder = rusqlite::Connection::open(world.state("bank").join("store/store.sqlite3")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let result = call();
    let content = &result["structuredContent"];
    assert_eq!((&result["isError"], &content["status"]), (&json!(true), &json!("error")), "{result}");
    assert_eq!((&content["reason"], &content["retry"]), (&json!("store_failed"), &json!(true)), "{result}");
    assert_eq!(content["may_have_happened"], "no", "{result}");
    assert!(content["request_id"].as_str().unwrap().starts_with("req_"), "{result}");
    for internal in ["database", "locked", "sqlite", "[store]", "daemon"] {
        assert!(!result.to_string().contains(internal), "{internal}: {result}");
    }
    assert_eq!(world.refused("bank", &freeze), (5, "store_failed".into()));

    holder.execute_batch("ROLLBACK").unwrap();
    drop(holder);
    // The store is opened anew when it notices, before one of these.
    let answered = (0..100).map(|_| call()).find(|result| result["structuredContent"]["status"] != "error");
    assert_eq!(answered.unwrap()["structuredContent"]["status"], "approved");
    bridge.close();
}
