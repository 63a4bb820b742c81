//! MCP 2026-07-28 as the bank speaks it, request by request over real connections: lists, resources, prompts, calls that
//! a human has still to decide, in each way in which a client can be told, and what it is told without asking.

use std::process::Command;

use countersign::kernel::tool_manifest;
use countersign::ops::clock;
use serde_json::{Value, json};

use crate::support::raw::message_as;
use crate::support::signed::{Agent, Answer, Events, Line, signed};
use crate::support::strace::Strace;
use crate::support::world::World;

/// What a client can do, as it declares it with every request.
fn none() -> Value {
    json!({})
}

fn pages() -> Value {
    json!({ "elicitation": { "url": {} } })
}

fn tasks() -> Value {
    json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } })
}

/// An agent with a connection.
struct Client {
    agent: Agent,
    line: Line,
}

impl Client {
    fn new(world: &World, name: &str) -> Self {
        let agent = Agent::new(&world.state("bank"), &world.state("agent"), name);
        let line = agent.line();
        Self { agent, line }
    }

    fn ask_as(&mut self, capabilities: &Value, method: &str, params: Value) -> Answer {
        let request = signed(&self.agent, &message_as(method, params, capabilities));
        self.line.ask(&request)
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.ask_as(&none(), method, params).body
    }

    fn call(&mut self, capabilities: &Value, tool: &str, arguments: Value) -> Value {
        self.ask_as(capabilities, "tools/call", json!({ "name": tool, "arguments": arguments })).body["result"].clone()
    }

    /// Ends the connection for a stream of events.
    fn follow(self, capabilities: &Value, method: &str, params: Value) -> Events {
        let request = signed(&self.agent, &message_as(method, params, capabilities));
        self.line.follow(&request)
    }
}

/// With two agents, and money for all that they ask for.
fn world() -> World {
    let world = World::new();
    world.enrol("second");
    let incoming = ["account", "incoming", "CHK_001", "--amount", "50000", "--reference", "SALARY"];
    world.run("bank", &[&["--operator", "bank-admin"], &incoming[..]].concat());
    world
}

/// Above what goes through without a human.
fn large(key: &str) -> Value {
    json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": "2500", "idempotency_key": key })
}

fn decide(world: &World, verdict: &str, approval: &str) {
    world.run("bank", &["--operator", "alice", "approvals", verdict, approval]);
}

fn code(answer: &Value) -> i64 {
    answer["error"]["code"].as_i64().unwrap_or_default()
}

#[test]
fn resources_show_what_the_tools_show_and_nothing_else() {
    let world = world();
    let mut client = Client::new(&world, "assistant");
    let discovered = client.ask("server/discover", json!({}))["result"]["capabilities"].clone();
    for capability in ["tools", "resources", "prompts", "extensions"] {
        assert!(discovered.get(capability).is_some(), "{capability}: {discovered}");
    }
    let listed = client.ask("resources/list", json!({}))["result"].clone();
    let uris: Vec<&str> =
        listed["resources"].as_array().unwrap().iter().map(|one| one["uri"].as_str().unwrap()).collect();
    assert!(uris.contains(&"bank://policy") && uris.contains(&"bank://accounts/CHK_001/statement"), "{uris:?}");
    assert!(!uris.iter().any(|uri| uri.contains("CHK_002")), "{uris:?}");
    assert_eq!(listed["cacheScope"], "private");
    let templates = client.ask("resources/templates/list", json!({}))["result"]["resourceTemplates"].clone();
    assert_eq!(templates.as_array().unwrap().len(), 5);

    let read = |client: &mut Client, uri: &str| {
        let answer = client.ask("resources/read", json!({ "uri": uri }));
        answer["result"]["contents"][0]["text"].as_str().map(str::to_owned).ok_or(answer)
    };
    let value = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let policy = value(read(&mut client, "bank://policy").unwrap());
    assert!(policy["tools"].as_array().unwrap().contains(&json!("authorize_transfer")), "{policy}");
    let order = json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": "5", "idempotency_key": "five" });
    let held = client.call(&none(), "authorize_transfer", order)["structuredContent"].clone();
    let transaction = held["transaction_id"].as_str().unwrap().to_owned();
    let receipt = format!("bank://transactions/{transaction}/receipt");
    assert_eq!(code(&read(&mut client, &receipt).unwrap_err()), -32602, "not executed yet");
    let execution = json!({ "transaction_id": transaction, "to_account": "SAV_001", "amount": "5" });
    assert_eq!(client.call(&none(), "execute_transfer", execution)["structuredContent"]["status"], "executed");
    let statement = value(read(&mut client, "bank://accounts/CHK_001/statement").unwrap());
    assert_eq!(statement["items"][0]["transaction_id"], json!(transaction), "{statement}");
    assert_eq!((&statement["items"][0]["amount"], &statement["complete"]), (&json!("-5.00"), &json!(true)));
    for hidden in ["owner", "next"] {
        assert!(statement.get(hidden).is_none(), "{hidden}: {statement}");
    }
    let of_days = value(read(&mut client, "bank://accounts/CHK_001/statement/2020-01-01/2020-01-02").unwrap());
    assert_eq!(of_days["items"], json!([]));

    // The receipt verifies alone.
    let file = world.state("bank").join("receipt-by-mcp.json");
    std::fs::write(&file, read(&mut client, &receipt).unwrap()).unwrap();
    world.run("bank", &["verify", "receipt", file.to_str().unwrap()]);

    // The manifest is signed by the bank, for now, and has every tool as it is listed.
    let manifest = read(&mut client, "bank://tool-manifest").unwrap();
    let root = std::fs::read(world.state("agent").join("anchors/bank-root.pem")).unwrap();
    let root = x509_parser::pem::parse_x509_pem(&root).unwrap().1.contents;
    let judged = |text: &str, later_ms: i64| {
        let now = clock::now().plus_ms(later_ms);
        tool_manifest::verify(text.as_bytes(), &root, "1.3.6.1.4.1.32473", now, 0).map_err(|refusal| refusal.name())
    };
    let verified = judged(&manifest, 0).unwrap();
    let tools = client.ask("tools/list", json!({}))["result"]["tools"].clone();
    for tool in tools.as_array().unwrap() {
        assert!(verified.has(tool["name"].as_str().unwrap(), tool), "{tool}");
    }
    let altered = |this: &str, that: &str| {
        assert!(manifest.contains(this), "{this} is not in {manifest}");
        manifest.replacen(this, that, 1)
    };
    let week = 7 * 86_400_000;
    let version = value(manifest.clone())["manifest"]["version"].as_str().unwrap().to_owned();
    let of_version = |other: &str| altered(&format!("\"version\":\"{version}\""), &format!("\"version\":\"{other}\""));
    let hash = value(manifest.clone())["manifest"]["tools"]["execute_transfer"].as_str().unwrap().to_owned();
    let receipt_key = value(read(&mut client, &receipt).unwrap())["batch"]["chain"].to_string();
    let own_chain = value(manifest.clone())["chain"].to_string();
    let table = [
        (altered(&hash, &"0".repeat(64)), 0, "manifest_signature_invalid"),
        (of_version("999"), 0, "manifest_signature_invalid"),
        (of_version("01"), 0, "manifest_malformed"),
        (of_version("0"), 0, "manifest_malformed"),
        (altered("tool-manifest/v1", "tool-manifest/v2"), 0, "manifest_malformed"),
        (altered("\"party\"", "\"also\":1,\"party\""), 0, "manifest_malformed"),
        ("{}".into(), 0, "manifest_malformed"),
        (manifest.clone(), week, "manifest_expired"),
        (manifest.clone(), -60_000, "manifest_not_yet_valid"),
    ];
    for (text, later, name) in table {
        assert_eq!(judged(&text, later).unwrap_err(), name, "{text}");
    }
    assert_eq!(judged(&altered(&own_chain, &receipt_key), 0).unwrap_err(), "manifest_signer_untrusted");

    let other = Client::new(&world, "second");
    let mut others = [client, other];
    let table = [
        (0, "bank://accounts/CHK_002/statement", "account_not_granted"),
        (0, "bank://accounts/NONE/statement", "account_not_granted"),
        (0, "bank://accounts/CHK_001/statement/2026-02-01/2026-01-01", "period_invalid"),
        (0, "bank://transactions/txn_01KAPRQ8ZT0000000000000000/receipt", "unknown_transaction"),
        (0, "bank://approvals/apr_01KAPRQ8ZT0000000000000000", "unknown_approval"),
        (0, "bank://mandates/mdt_01KAPRQ8ZT0000000000000000", "unknown_mandate"),
    ];
    for (who, uri, reason) in table {
        let refused = read(&mut others[who], uri).unwrap_err();
        assert_eq!((code(&refused), &refused["error"]["data"]["reason"]), (-32602, &json!(reason)), "{uri}: {refused}");
    }
    let stolen = format!("bank://transactions/{transaction}/receipt");
    let refused = read(&mut others[1], &stolen).unwrap_err();
    assert_ne!(refused["error"], Value::Null, "another agent's receipt: {refused}");
    for uri in ["bank://nothing", "file:///etc/passwd"] {
        assert_eq!(code(&read(&mut others[0], uri).unwrap_err()), -32602, "{uri}");
    }
    for (method, params) in [
        ("tools/list", json!({ "cursor": "x" })),
        ("resources/list", json!({ "cursor": "no cursor" })),
        ("resources/templates/list", json!({ "cursor": "x" })),
        ("prompts/list", json!({ "cursor": "x" })),
        ("prompts/get", json!({ "name": "sell" })),
        ("prompts/get", json!({ "name": "buy" })),
        ("tasks/get", json!({ "taskId": "x" })),
    ] {
        let capabilities = tasks();
        let answer = others[0].ask_as(&capabilities, method, params.clone()).body;
        assert_eq!(code(&answer), -32602, "{method} {params}: {answer}");
    }
    let prompts = others[0].ask("prompts/list", json!({}))["result"]["prompts"].clone();
    assert_eq!(prompts.as_array().unwrap().len(), 3);
    let written = others[0].ask("prompts/get", json!({ "name": "buy", "arguments": { "what": "a laptop" } }));
    assert!(written["result"]["messages"][0]["content"]["text"].as_str().unwrap().contains("a laptop"), "{written}");
    // Every read left its leaf, a moment after the answer.
    let show = ["--operator", "auditor", "--json", "audit", "show", "--limit", "100"];
    let leaf = |text: &str| (0..100).any(|_| world.run("bank", &show).contains(text));
    assert!(leaf("resources/read") && leaf("unknown_transaction"), "a read without a leaf");
    assert!(leaf("\"read\": \"statement\""), "what a statement showed is not in its leaf");
}

#[test]
fn a_client_that_understands_tasks_gets_one_that_lasts_and_is_its_own() {
    let world = world();
    let mut client = Client::new(&world, "assistant");
    let mut other = Client::new(&world, "second");
    let made = client.call(&tasks(), "authorize_transfer", large("task"));
    assert_eq!((&made["resultType"], &made["status"]), (&json!("task"), &json!("working")), "{made}");
    let task = made["taskId"].as_str().unwrap().to_owned();
    let get = |client: &mut Client, task: &str| client.ask_as(&tasks(), "tasks/get", json!({ "taskId": task })).body;
    let state = get(&mut client, &task)["result"].clone();
    assert_eq!((&state["status"], &state["createdAt"]), (&json!("working"), &made["createdAt"]), "{state}");
    assert_eq!(code(&get(&mut other, &task)), -32602, "another agent's task");
    // Without the extension there is no such method for this client.
    assert_eq!(code(&client.ask("tasks/get", json!({ "taskId": task }))), -32021);

    // It lasts longer than the daemon.
    drop((client, other));
    world.run("bank", &["stop"]);
    world.serve("bank");
    let mut client = Client::new(&world, "assistant");
    let mut other = Client::new(&world, "second");
    assert_eq!(get(&mut client, &task)["result"]["status"], "working");
    decide(&world, "approve", &task);
    let done = get(&mut client, &task)["result"].clone();
    let content = &done["result"]["structuredContent"];
    assert_eq!((&done["status"], &content["status"]), (&json!("completed"), &json!("approved")), "{done}");
    let execution = json!({ "transaction_id": content["transaction_id"], "to_account": "SAV_001", "amount": "2500" });
    assert_eq!(client.call(&tasks(), "execute_transfer", execution)["structuredContent"]["status"], "executed");

    // A task that is given up frees its money; a second time changes nothing; nobody else can.
    let given_up = client.call(&tasks(), "authorize_transfer", large("given-up"))["taskId"].clone();
    let cancel = |client: &mut Client| client.ask_as(&tasks(), "tasks/cancel", json!({ "taskId": given_up })).body;
    assert_ne!(cancel(&mut other)["error"], Value::Null);
    let cancelled = cancel(&mut client);
    assert!(cancelled["error"].is_null(), "{cancelled}");
    assert_eq!(get(&mut client, given_up.as_str().unwrap())["result"]["status"], "cancelled");
    let denied = client.call(&tasks(), "authorize_transfer", large("denied"))["taskId"].clone();
    decide(&world, "deny", denied.as_str().unwrap());
    let state = get(&mut client, denied.as_str().unwrap())["result"].clone();
    assert_eq!(state["result"]["structuredContent"]["reason"], "approval_denied", "{state}");
    let refused = client.ask_as(&tasks(), "tasks/cancel", json!({ "taskId": denied })).body;
    assert_eq!(code(&refused), -32602, "{refused}");
}

#[test]
fn a_client_that_shows_pages_is_asked_for_the_owner_once_and_its_state_serves_nobody_else() {
    let world = world();
    // The bank's own gate has no page: it is never delivered through an agent.
    let mut client = Client::new(&world, "assistant");
    let asked = client.call(&pages(), "authorize_transfer", large("bank-only"))["structuredContent"].clone();
    assert_eq!(asked["pending"], json!(["bank_approval_pending 0 of 1"]), "{asked}");
    assert_eq!(asked["approval_url"], Value::Null, "{asked}");
    drop(client);
    world.govern("gates = [{ gate = \"owner\" }]");
    let mut client = Client::new(&world, "assistant");
    let mut other = Client::new(&world, "second");
    let asked = client.call(&pages(), "authorize_transfer", large("page"));
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let elicited = &asked["inputRequests"]["approval"];
    assert_eq!((&elicited["method"], &elicited["params"]["mode"]), (&json!("elicitation/create"), &json!("url")));
    let url = elicited["params"]["url"].as_str().unwrap();
    let approval = url.rsplit('/').next().unwrap().to_owned();
    let page = open(&world, url);
    assert!(page.contains(&format!("countersign consent give {approval}")), "{page}");

    let state = asked["requestState"].as_str().unwrap();
    let retry = |client: &mut Client, order: Value, state: &str, action: &str| {
        let params = json!({
            "name": "authorize_transfer", "arguments": order, "requestState": state,
            "inputResponses": { "approval": { "action": action } },
        });
        client.ask_as(&pages(), "tools/call", params).body["result"]["structuredContent"].clone()
    };
    let altered = format!("{}x", &state[..state.len() - 1]);
    let table = [
        ("altered", &mut client, large("page"), altered.as_str(), "request_state_invalid"),
        ("no state at all", &mut Client::new(&world, "assistant"), large("page"), "x", "request_state_invalid"),
        ("another agent's", &mut other, large("page"), state, "request_state_invalid"),
        ("another call", &mut Client::new(&world, "assistant"), large("other"), state, "request_state_mismatch"),
    ];
    for (what, client, order, state, reason) in table {
        assert_eq!(retry(client, order, state, "accept")["reason"], reason, "{what}");
    }
    // Bringing it with another call has used it up.
    assert_eq!(retry(&mut client, large("page"), state, "accept")["reason"], "request_state_used");

    // The same call again asks again; whoever declines has only declined to look.
    let again = client.call(&pages(), "authorize_transfer", large("page"));
    let state = again["requestState"].as_str().unwrap();
    let declined = retry(&mut client, large("page"), state, "decline");
    assert_eq!((&declined["status"], &declined["approval_id"]), (&json!("requires_approval"), &json!(approval)));
    let again = client.call(&pages(), "authorize_transfer", large("page"));
    let state = again["requestState"].as_str().unwrap();
    let olivia = world.state("olivia").display().to_string();
    world.run("bank", &["consent", "give", &approval, "--as", &olivia]);
    let approved = retry(&mut client, large("page"), state, "accept");
    assert_eq!(approved["status"], "approved", "{approved}");
    let execution = json!({ "transaction_id": approved["transaction_id"], "to_account": "SAV_001", "amount": "2500" });
    assert_eq!(client.call(&pages(), "execute_transfer", execution)["structuredContent"]["status"], "executed");

    // Who understands neither is told in words, with the address of the page.
    let told = client.call(&none(), "authorize_transfer", large("words"))["structuredContent"].clone();
    assert_eq!(told["status"], "requires_approval");
    assert!(told["approval_url"].as_str().unwrap().ends_with(told["approval_id"].as_str().unwrap()), "{told}");
}

/// What a browser gets that trusts the bank's root.
fn open(world: &World, url: &str) -> String {
    let address = url.strip_prefix("https://").unwrap().split('/').next().unwrap();
    let root = world.state("agent").join("anchors/bank-root.pem");
    let path = &url["https://".len() + address.len()..];
    let client = "printf 'GET %s HTTP/1.1\\r\\nHost: bank\\r\\nConnection: close\\r\\n\\r\\n' \"$1\" | \
                  openssl s_client -quiet -verify_return_error -CAfile \"$2\" -connect \"$3\" 2>/dev/null";
    let got = Command::new("sh").args(["-c", client, "sh", path]).arg(&root).arg(address).output().unwrap();
    String::from_utf8(got.stdout).unwrap()
}

#[test]
fn a_wait_for_a_human_ends_with_the_decision_and_says_how_it_goes_on() {
    let world = world();
    let mut client = Client::new(&world, "assistant");
    let approval =
        client.call(&none(), "authorize_transfer", large("wait"))["structuredContent"]["approval_id"].clone();
    let params = json!({
        "name": "get_approval_status", "arguments": { "approval_id": approval, "wait_s": 15 },
        "_meta": { "progressToken": "mine" },
    });
    let mut events = client.follow(&none(), "tools/call", params);
    let progress = events.next().unwrap();
    assert_eq!(
        (&progress["method"], &progress["params"]["progressToken"]),
        (&json!("notifications/progress"), &json!("mine"))
    );
    decide(&world, "approve", approval.as_str().unwrap());
    let mut last = events.next().unwrap();
    while last["result"].is_null() {
        last = events.next().unwrap();
    }
    assert_eq!(last["result"]["structuredContent"]["status"], "approved", "{last}");
    // Nobody waits for an approval of somebody else, or for none.
    let mut other = Client::new(&world, "second");
    let waits = json!({ "approval_id": approval, "wait_s": 15 });
    assert_eq!(other.call(&none(), "get_approval_status", waits)["structuredContent"]["status"], "denied");
}

#[test]
fn a_subscriber_hears_of_its_accounts_and_approvals_until_it_is_revoked() {
    let world = world();
    let mut client = Client::new(&world, "assistant");
    let mut other = Client::new(&world, "second");
    let approval =
        client.call(&none(), "authorize_transfer", large("heard"))["structuredContent"]["approval_id"].clone();
    let theirs = other.call(&none(), "authorize_transfer", large("theirs"))["structuredContent"]["approval_id"].clone();
    let uri = format!("bank://approvals/{}", approval.as_str().unwrap());
    let wanted = json!({ "notifications": {
        "toolsListChanged": true, "resourcesListChanged": true, "promptsListChanged": true,
        "resourceSubscriptions": [uri, format!("bank://approvals/{}", theirs.as_str().unwrap_or("none")), "bank://policy"],
    }});
    let mut events = client.follow(&none(), "subscriptions/listen", wanted);
    let accepted = events.next().unwrap();
    assert_eq!(accepted["method"], "notifications/subscriptions/acknowledged", "{accepted}");
    assert!(accepted["params"]["notifications"]["promptsListChanged"].is_null(), "{accepted}");

    decide(&world, "approve", approval.as_str().unwrap());
    let heard = events.next().unwrap();
    assert_eq!((&heard["method"], &heard["params"]["uri"]), (&json!("notifications/resources/updated"), &json!(uri)));
    let grant = ["--operator", "bank-officer", "grant", "revoke", "assistant", "SAV_001"];
    let grants = world.run("bank", &["--operator", "auditor", "--json", "grant", "list"]);
    assert!(grants.contains("SAV_001"), "{grants}");
    world.run("bank", &grant);
    assert_eq!(events.next().unwrap()["method"], "notifications/resources/list_changed");

    world.run("bank", &["--operator", "bank-officer", "revoke", "assistant", "--reason", "key_compromise"]);
    while let Some(event) = events.next() {
        assert!(event["result"].is_object() || event["method"].is_string(), "{event}");
    }
}

#[test]
fn a_payment_that_the_banks_people_have_is_never_told_as_a_no() {
    let world = world();
    let mut client = Client::new(&world, "assistant");
    let task = client.call(&tasks(), "authorize_transfer", large("queued"))["taskId"].clone();
    let state =
        |client: &mut Client| client.ask_as(&tasks(), "tasks/get", json!({ "taskId": task })).body["result"].clone();
    decide(&world, "approve", task.as_str().unwrap());
    let transaction = state(&mut client)["result"]["structuredContent"]["transaction_id"].clone();
    let officer = |words: &[&str]| world.run("bank", &[&["--operator", "bank-officer"], words].concat());
    officer(&["bank", "stop", "--reason", "drill", "--yes"]);
    let execution = json!({ "transaction_id": transaction, "to_account": "SAV_001", "amount": "2500" });
    let queued = client.call(&tasks(), "execute_transfer", execution.clone())["structuredContent"].clone();
    assert_eq!(queued["status"], "queued_manual", "{queued}");
    let waiting = state(&mut client);
    assert_eq!(waiting["status"], "working", "{waiting}");

    officer(&["bank", "resume", "--yes"]);
    // More than one person may let go alone.
    let done = ["manual", "done", queued["case_id"].as_str().unwrap(), "--release", "--note", "after the drill"];
    officer(&done);
    world.run("bank", &[&["--operator", "alice"], &done[..]].concat());
    let executed = client.call(&tasks(), "execute_transfer", execution)["structuredContent"].clone();
    assert_eq!(executed["status"], "executed", "{executed}");
    assert_eq!(state(&mut client)["result"]["structuredContent"]["status"], "executed");
}

#[test]
fn a_subscription_ends_with_the_token_that_it_was_asked_for_with() {
    let world = world();
    let config = world.state("bank").join("countersign.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let short = text.replacen("token_lifetime_s = 300", "token_lifetime_s = 10", 1);
    assert_ne!(text, short);
    world.kill("bank");
    std::fs::write(&config, short).unwrap();
    world.serve("bank");
    let wanted = json!({ "notifications": { "toolsListChanged": true } });
    let mut events = Client::new(&world, "assistant").follow(&none(), "subscriptions/listen", wanted);
    assert_eq!(events.next().unwrap()["method"], "notifications/subscriptions/acknowledged");
    // Nothing has changed: what comes next is the end.
    let last = events.next().unwrap();
    assert!(last["result"].is_object(), "{last}");
}

#[test]
fn a_call_is_the_same_call_in_whatever_order_its_members_come() {
    let world = world();
    let mut client = Client::new(&world, "assistant");
    // The same order, as two programs write it down.
    let written = |amount: &str, key: &str| {
        [
            json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": amount, "idempotency_key": key }),
            json!({ "idempotency_key": key, "amount": amount, "to_account": "SAV_001", "from_account": "CHK_001" }),
        ]
    };
    let [one, other] = written("5.00", "order")
        .map(|order| client.call(&none(), "authorize_transfer", order)["structuredContent"]["transaction_id"].clone());
    assert!(one.is_string());
    assert_eq!(one, other);
    // What was sealed for one goes on with the other.
    let [one, other] = written("2500", "sealed");
    let asked = client.call(&pages(), "authorize_transfer", one);
    let params = json!({
        "name": "authorize_transfer", "arguments": other, "requestState": asked["requestState"],
        "inputResponses": { "approval": { "action": "decline" } },
    });
    let goes_on = client.ask_as(&pages(), "tools/call", params).body;
    assert_eq!(goes_on["result"]["structuredContent"]["status"], "requires_approval", "{goes_on}");
    // Another amount under the same key is another order.
    let [changed, _] = written("5.01", "order");
    let refused = client.call(&none(), "authorize_transfer", changed)["structuredContent"].clone();
    assert_eq!(refused["status"], "denied", "{refused}");
}

#[test]
fn who_listens_reads_nothing_until_something_has_changed() {
    let world = world();
    let mut client = Client::new(&world, "assistant");
    let mut approval = |number: u32| {
        let asked = client.call(&none(), "authorize_transfer", large(&format!("listen-{number}")));
        asked["structuredContent"]["approval_id"].as_str().unwrap().to_owned()
    };
    let approvals: Vec<String> = (0..4).map(&mut approval).collect();
    let uris: Vec<String> = approvals.iter().map(|approval| format!("bank://approvals/{approval}")).collect();
    let reads = tempfile::NamedTempFile::new().unwrap();
    let front = world.process("bank", "front");
    // Each look at the store takes a lock of its own. What operators look at is the same each time.
    let locks_of_looking = || {
        let watching = Strace::on(front, "fcntl", reads.path(), &[])?;
        for _ in 0..20 {
            world.run("bank", &["--operator", "auditor", "status"]);
        }
        drop(watching);
        Some(std::fs::read_to_string(reads.path()).unwrap().matches("F_RDLCK").count())
    };
    let Some(alone) = locks_of_looking() else {
        return;
    };
    assert!(alone > 0, "a look at the store takes no lock");
    let wanted = json!({ "notifications": {
        "toolsListChanged": true, "resourcesListChanged": true, "resourceSubscriptions": uris,
    }});
    let mut listening: Vec<Events> = (0..8)
        .map(|_| {
            let mut events = Client::new(&world, "assistant").follow(&none(), "subscriptions/listen", wanted.clone());
            assert_eq!(events.next().unwrap()["method"], "notifications/subscriptions/acknowledged");
            events
        })
        .collect();
    let together = locks_of_looking().unwrap();
    // Eight times nine reads at each of the twenty, if they all looked each time.
    println!("{alone} locks alone, {together} with eight who listen");
    assert!(together < alone + 20 * 8 * 9 / 2, "{alone} locks alone, {together} with eight who listen");
    // And when something has, each of them hears it.
    decide(&world, "deny", &approvals[0]);
    for events in &mut listening {
        assert_eq!(events.next().unwrap()["params"]["uri"], json!(uris[0]));
    }
}
