//! The doors under attack, with real processes: garbage, hostile requests that the agent's own HSM key signed, twenty
//! callers at once, a full admin socket, a bridge with one bad call among good ones, and a revocation in the middle.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use countersign::tls;
use countersign::tls::agent::AgentSocket;
use serde_json::{Value, json};

use crate::support::raw::composed;
use crate::support::signed::{Agent, signed};

/// Longer than every limit of the listener.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

#[test]
fn every_door_refuses_by_name_and_moves_money_once() {
    let world = World::build();
    strangers_get_no_further_than_the_handshake(&world);
    hostile_requests_are_refused_by_name(&world);
    twenty_executes_at_once_move_the_money_once(&world);
    the_admin_socket_answers_everyone(&world);
    the_agent_socket_signs_handshakes_only(&world);
    one_bad_call_harms_no_other_call_of_its_bridge(&world);
    nothing_has_an_effect_once_a_revocation_is_effective(&world);
    world.nobody_panicked();
}

fn strangers_get_no_further_than_the_handshake(world: &World) {
    let pair = world.agent().chain().unwrap();
    let swapped: Vec<_> = pair.iter().rev().cloned().collect();
    let three = [pair.clone(), vec![pair[1].clone()]].concat();
    let revoked = world.agent_named("shopper").chain().unwrap();
    let table = [
        ("no certificate", vec![]),
        ("only B", pair[..1].to_vec()),
        ("only S", pair[1..].to_vec()),
        ("S before B", swapped),
        ("three certificates", three),
        ("the pair of a revoked agent, another key", revoked),
    ];
    for (what, chain) in table {
        let answer = world.exchange(&chain, &request("POST", "/mcp", &[], &call(BALANCE)));
        assert!(!answer.contains("HTTP/1.1"), "{what}: {answer}");
    }
    for garbage in
        [&b"GET /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"[..], &[0; 400], &[0xff; 400], b"\x16\x03\x01\xff\xff"]
    {
        let mut stream = world.connect();
        stream.write_all(garbage).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 20 && !answer.starts_with(b"HTTP"), "{} bytes", answer.len());
    }
}

fn hostile_requests_are_refused_by_name(world: &World) {
    let before = world.balance("CHK_001");
    let good = call(BALANCE);
    let twice = good.replacen("\"account_id\":", "\"account_id\":\"CHK_002\",\"account_id\":", 1);
    let unknown_field = good.replacen("\"account_id\":", "\"admin\":true,\"account_id\":", 1);
    let deep = good.replacen("\"CHK_001\"", &format!("{}{}", "[".repeat(20), "]".repeat(20)), 1);
    let very_deep = "[".repeat(60_000);
    let huge = format!("{good}{}", " ".repeat(10 << 20));
    let batch = format!("[{good}]");
    let other_tool = good.replacen(BALANCE, "list_accounts", 1);
    let notification =
        json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "_meta": meta(), "requestId": 1 } });
    let amount = |raw: &str| transfer("hostile").replacen("\"0.01\"", raw, 1);
    let chunked = |body: &str| {
        let head = request("POST", "/mcp", &[("Transfer-Encoding", "chunked"), ("Content-Length", "")], "");
        [head, format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes()].concat()
    };
    let authorize = [("Mcp-Name", "authorize_transfer")];
    let table: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("a good call", request("POST", "/mcp", &[], &good), "200", "\"balance\""),
        ("a good call in chunks", chunked(&good), "200", "\"balance\""),
        ("a key twice", request("POST", "/mcp", &[], &twice), "400", "json_duplicate_key"),
        ("an unknown argument", request("POST", "/mcp", &[], &unknown_field), "200", "invalid_arguments"),
        ("too deep", request("POST", "/mcp", &[], &deep), "400", "json_too_deep"),
        ("absurdly deep", request("POST", "/mcp", &[], &very_deep), "400", "json_too_deep"),
        ("10 MB", request("POST", "/mcp", &[], &huge), "413", "body_too_long"),
        ("10 MB in one chunk", chunked(&huge), "413", "body_too_long"),
        ("no body", request("POST", "/mcp", &[], ""), "400", "json_malformed"),
        ("not UTF-8", raw_body(b"\xff\xfe{}"), "400", "json_malformed"),
        ("a batch", request("POST", "/mcp", &[], &batch), "415", "unrecognized JSON-RPC message"),
        ("two values", request("POST", "/mcp", &[], &format!("{good}{good}")), "400", "json_malformed"),
        ("GET", request("GET", "/mcp", &[], ""), "405", "method_not_allowed"),
        ("DELETE", request("DELETE", "/mcp", &[], ""), "405", "method_not_allowed"),
        ("another path", request("POST", "/mcp/", &[], &good), "404", "unknown_path"),
        ("the root", request("POST", "/", &[], &good), "404", "unknown_path"),
        ("a whole URL", request("POST", "http://127.0.0.1/admin", &[], &good), "404", "unknown_path"),
        ("another host", request("POST", "/mcp", &[("Host", "evil.example")], &good), "403", "host_not_allowed"),
        ("no host", request("POST", "/mcp", &[("Host", "")], &good), "400", "host_malformed"),
        (
            "a browser's origin",
            request("POST", "/mcp", &[("Origin", "https://evil.example")], &good),
            "403",
            "origin_not_allowed",
        ),
        (
            "no revision",
            request("POST", "/mcp", &[("Mcp-Protocol-Version", "")], &good),
            "401",
            "signature_component_missing",
        ),
        (
            "another revision",
            request("POST", "/mcp", &[("Mcp-Protocol-Version", "2025-11-25")], &good),
            "400",
            "does not match request _meta",
        ),
        (
            "another method in the header",
            request("POST", "/mcp", &[("Mcp-Method", "tools/list")], &good),
            "400",
            "does not match body method",
        ),
        (
            "another tool in the header",
            request("POST", "/mcp", &[("Mcp-Name", "execute_transfer")], &good),
            "400",
            "does not match body value",
        ),
        ("another tool in the body", request("POST", "/mcp", &[], &other_tool), "400", "does not match body value"),
        (
            "text",
            request("POST", "/mcp", &[("Content-Type", "text/plain")], &good),
            "415",
            "Content-Type must be application/json",
        ),
        (
            "a notification",
            request(
                "POST",
                "/mcp",
                &[("Mcp-Method", "notifications/cancelled"), ("Mcp-Name", "")],
                &notification.to_string(),
            ),
            "202",
            "content-length: 0",
        ),
        (
            "two lengths",
            request("POST", "/mcp", &[("Content-Length", "5\r\nContent-Length: 6")], &good),
            "400",
            "content-length: 0",
        ),
        (
            "length and chunks",
            request("POST", "/mcp", &[("Transfer-Encoding", "chunked")], &good),
            "400",
            "body_broken",
        ),
        ("a negative amount", request("POST", "/mcp", &authorize, &amount("\"-1.00\"")), "200", "invalid_arguments"),
        ("a fraction of a cent", request("POST", "/mcp", &authorize, &amount("0.001")), "200", "invalid_arguments"),
        ("an exponent", request("POST", "/mcp", &authorize, &amount("1e400")), "400", "json_malformed"),
        ("not HTTP", b"\x00\x01\x02\r\n\r\n".to_vec(), "400", "content-length: 0"),
    ];
    let chain = world.agent().chain().unwrap();
    for (what, bytes, status, name) in table {
        let answer = world.exchange(&chain, &bytes);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(name), "{what}: {answer}");
    }
    assert_eq!(world.balance("CHK_001"), before);
}

fn twenty_executes_at_once_move_the_money_once(world: &World) {
    let before = world.balance("CHK_001");
    let transaction = world.authorize("twenty");
    let body = execute(&transaction);
    let start = Barrier::new(20);
    let answers: Vec<String> = std::thread::scope(|scope| {
        let one = || {
            start.wait();
            world.ask(&[("Mcp-Name", "execute_transfer")], &body)
        };
        let callers: Vec<_> = (0..20).map(|_| scope.spawn(one)).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    let executed = answers.iter().filter(|answer| answer.contains("\"executed\"")).count();
    let repeated = answers.iter().filter(|answer| answer.contains("\"repeated\":true")).count();
    assert_eq!((executed, repeated), (20, 19), "{answers:#?}");
    assert_eq!(world.balance("CHK_001"), before - 1);
}

fn the_admin_socket_answers_everyone(world: &World) {
    let socket = world.dir("bank").join("run/admin.sock");
    let status = r#""call":{"verb":"status","args":{}}"#;
    let table = [
        (format!("{{\"operator\":\"alice\",{status}}}"), "\"ok\""),
        ("garbage\n".into(), "request_malformed"),
        ("\n".into(), "request_malformed"),
        ("[".repeat(100_000) + "\n", "request_malformed"),
        ("x".repeat(1 << 20), "request_too_long"),
        ("{\"call\":{\"verb\":\"nuke\",\"args\":{}}}\n".into(), "request_malformed"),
        (format!("{{\"operator\":\"alice\",\"operator\":\"bank-admin\",{status}}}\n"), "request_malformed"),
        (format!("{{\"operator\":\"nobody\",{status}}}\n"), "operator_unknown"),
        (format!("{{{status}}}\n"), "operator_ambiguous"),
    ];
    for (line, name) in table {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = std::io::read_to_string(stream).unwrap();
        assert!(answer.contains(name), "{:.80}: {answer}", line);
    }

    let idle: Vec<_> = (0..64).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let full = std::io::read_to_string(UnixStream::connect(&socket).unwrap()).unwrap();
    assert!(full.contains("too_many_connections"), "{full:?}");
    let told = world.run("bank", &["--operator", "alice", "--json", "status"]);
    assert!(told.contains("too_many_connections"), "{told}");
    drop(idle);
}

fn the_agent_socket_signs_handshakes_only(world: &World) {
    use countersign::tls::TlsSigner;
    let context = |who: &str, hash: usize| {
        [&[b' '; 64][..], format!("TLS 1.3, {who} CertificateVerify\0").as_bytes(), &vec![7; hash]].concat()
    };
    let agent = world.agent();
    for message in [b"pay".to_vec(), vec![], context("client", 31), context("client", 33), context("server", 32)] {
        agent.sign(&message).unwrap_err();
    }
    agent.sign(&context("client", 32)).unwrap();
    assert_eq!(world.agent_named("nobody").chain().unwrap_err().name, "agent_not_installed");
}

fn one_bad_call_harms_no_other_call_of_its_bridge(world: &World) {
    let mut bridge = Bridge::start(world);
    let nested = (0..20).fold(json!({}), |inner, _| json!({ "a": inner }));
    bridge.call(0, json!({ "account_id": "CHK_001" }));
    assert!(bridge.answer()["result"].is_object());
    for id in 1..=8 {
        bridge.call(id, json!({ "account_id": "CHK_001" }));
    }
    bridge.call(100, nested);
    bridge.call(101, json!({ "account_id": "x".repeat(70_000) }));
    for id in 9..=16 {
        bridge.call(id, json!({ "account_id": "CHK_001" }));
    }
    for _ in 0..18 {
        let answer = bridge.answer();
        match answer["id"].as_u64().unwrap() {
            100 => assert_eq!(answer["error"]["data"]["name"], "json_too_deep", "{answer}"),
            101 => assert_eq!(answer["error"]["data"]["name"], "body_too_long", "{answer}"),
            _ => assert_eq!(answer["result"]["isError"], false, "{answer}"),
        }
    }
    // What was asked before the input ended is answered.
    for id in 20..25 {
        bridge.call(id, json!({ "account_id": "CHK_001" }));
    }
    assert_eq!(bridge.end(), 5);
}

fn nothing_has_an_effect_once_a_revocation_is_effective(world: &World) {
    let waiting: Vec<String> = (0..30).map(|number| world.authorize(&format!("race-{number}"))).collect();
    let (told, first) = mpsc::channel();
    let (after, later) = std::thread::scope(|scope| {
        for share in waiting.chunks(5) {
            let told = told.clone();
            scope.spawn(move || {
                for transaction in share {
                    let answer = world.ask(&[("Mcp-Name", "execute_transfer")], &execute(transaction));
                    let _ = told.send(answer);
                }
            });
        }
        first.recv_timeout(ANSWER_TIMEOUT).unwrap();
        let report = world.run(
            "bank",
            &["--operator", "bank-officer", "--json", "revoke", "assistant", "--reason", "key-compromise"],
        );
        assert!(report.contains("effective_ms"), "{report}");
        let after = world.balance("CHK_001");
        drop(told);
        let answers: Vec<String> = first.iter().collect();
        assert!(!answers.is_empty());
        (after, world.balance("CHK_001"))
    });
    assert_eq!(after, later);
    let chain = world.agent().chain().unwrap();
    let answer = world.exchange(&chain, &request("POST", "/mcp", &[], &call(BALANCE)));
    assert!(!answer.contains("HTTP/1.1"), "{answer}");
}

const BALANCE: &str = "get_account_balance";

fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "attacker", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

fn tool(name: &str, arguments: &Value) -> String {
    let params = json!({ "name": name, "arguments": arguments, "_meta": meta() });
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string()
}

fn call(name: &str) -> String {
    tool(name, &json!({ "account_id": "CHK_001" }))
}

fn transfer(key: &str) -> String {
    let parameters = json!({
        "from_account": "CHK_001", "to_account": "SAV_001", "amount": "0.01", "currency": "USD", "idempotency_key": key
    });
    tool("authorize_transfer", &parameters)
}

fn execute(transaction: &str) -> String {
    let parameters = json!({
        "transaction_id": transaction, "from_account": "CHK_001", "to_account": "SAV_001", "amount": "0.01",
        "currency": "USD"
    });
    tool("execute_transfer", &parameters)
}

/// A request as a client of the bank sends it, with some headers replaced, added or, when empty, left out.
fn request(method: &str, path: &str, changed: &[(&str, &str)], body: &str) -> Vec<u8> {
    let length = body.len().to_string();
    let usual = [
        ("Host", "127.0.0.1"),
        ("Connection", "close"),
        ("Accept", "application/json, text/event-stream"),
        ("Content-Type", "application/json"),
        ("Content-Length", &length),
        ("Mcp-Protocol-Version", "2026-07-28"),
        ("Mcp-Method", "tools/call"),
        ("Mcp-Name", BALANCE),
    ];
    let kept = usual.iter().filter(|(name, _)| changed.iter().all(|(other, _)| other != name));
    composed(method, path, kept.chain(changed).copied(), body)
}

fn raw_body(body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    [request("POST", "/mcp", &[("Content-Length", &length)], ""), body.to_vec()].concat()
}

/// Three daemons as the demo leaves them, with agent `assistant`; they are stopped with it.
struct World {
    root: PathBuf,
    assistant: Agent,
    _scratch: tempfile::TempDir,
}

impl World {
    fn build() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("world");
        let assistant = Agent::new(&root.join("bank"), &root.join("agent"), "assistant");
        let world = Self { root, assistant, _scratch: scratch };
        let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(["demo", "--no-witness", "--keep", "--dir"])
            .arg(&world.root)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        world
    }

    fn dir(&self, party: &str) -> PathBuf {
        self.root.join(party)
    }

    /// What a command says, on either stream.
    fn run(&self, party: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        let output = command.arg("--state").arg(self.dir(party)).args(arguments).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    /// In cents.
    fn balance(&self, account: &str) -> i64 {
        let listed = self.run("bank", &["--operator", "auditor", "--json", "account", "list"]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let accounts = listed["items"].as_array().unwrap();
        let found = accounts.iter().find(|row| row["account_id"] == account).unwrap();
        found["balance"].as_str().unwrap().replace('.', "").parse().unwrap()
    }

    fn agent(&self) -> &Agent {
        &self.assistant
    }

    fn agent_named(&self, name: &str) -> AgentSocket {
        AgentSocket::new(self.dir("agent").join("run/agent.sock"), name.parse().unwrap())
    }

    fn connect(&self) -> TcpStream {
        let ports: Value = read_json(&self.dir("bank").join("run/ports.json"));
        let stream = TcpStream::connect(ports["mcp"].as_str().unwrap()).unwrap();
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).unwrap();
        stream
    }

    /// Everything that the bank answers to these bytes, signed, over TLS with this chain and `assistant`'s key; why there
    /// is nothing, when there is nothing.
    fn exchange(&self, chain: &[Vec<u8>], bytes: &[u8]) -> String {
        let root = std::fs::read(self.dir("agent").join("anchors/bank-root.pem")).unwrap();
        let (_, root) = x509_parser::pem::parse_x509_pem(&root).unwrap();
        let signer = self.agent_named("assistant");
        let config = tls::client_config(chain, Arc::new(signer), &root.contents).unwrap();
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, self.connect());
        let mut answer = Vec::new();
        let sent = stream.write_all(&signed(self.agent(), bytes)).and_then(|()| stream.flush());
        let read = stream.read_to_end(&mut answer);
        if answer.is_empty() {
            return format!("nothing: sent {sent:?}, read {read:?}");
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn ask(&self, headers: &[(&str, &str)], body: &str) -> String {
        let chain = match self.agent().chain() {
            Ok(chain) => chain,
            Err(failure) => return format!("no chain: {failure:?}"),
        };
        self.exchange(&chain, &request("POST", "/mcp", headers, body))
    }

    fn authorize(&self, key: &str) -> String {
        let answer = self.ask(&[("Mcp-Name", "authorize_transfer")], &transfer(key));
        let start = answer.find("txn_").unwrap_or_else(|| panic!("{answer}"));
        answer[start..start + 30].to_owned()
    }

    fn nobody_panicked(&self) {
        for party in ["secco", "bank", "agent"] {
            let log = std::fs::read_to_string(self.dir(party).join("daemon.log")).unwrap();
            assert!(!log.contains("panicked"), "{party}: {log}");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for party in ["bank", "agent", "secco"] {
            self.run(party, &["stop"]);
        }
    }
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// `countersign connect`, spoken to in the older protocol generation, a line at a time.
struct Bridge {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Bridge {
    fn start(world: &World) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(["connect", "--agent", "assistant", "--state"])
            .arg(world.dir("agent"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut bridge = Self { child, input, output };
        let client = json!({ "name": "attacker", "version": "1" });
        let hello = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client });
        // Lines that are no JSON-RPC are answered as such and do not end the conversation.
        bridge.line("garbage");
        assert_eq!(bridge.answer()["error"]["code"], -32700);
        bridge.line(&json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello }).to_string());
        assert_eq!(bridge.answer()["result"]["protocolVersion"], "2025-11-25");
        bridge.line(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string());
        bridge.line("{\"jsonrpc\":\"2.0\",\"id\":");
        assert_eq!(bridge.answer()["error"]["code"], -32700);
        bridge
    }

    fn line(&mut self, text: &str) {
        writeln!(self.input.as_mut().unwrap(), "{text}").unwrap();
    }

    fn call(&mut self, id: u64, arguments: Value) {
        let params = json!({ "name": BALANCE, "arguments": arguments });
        self.line(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }).to_string());
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Ends the input; answers how many results came after it.
    fn end(mut self) -> usize {
        drop(self.input.take());
        let results = self.output.by_ref().lines().filter(|line| line.as_ref().unwrap().contains("\"result\"")).count();
        assert!(self.child.wait().unwrap().success());
        results
    }
}
