//! An agent host that stands still, or that signs no handshake: who asks it waits or is told so, and nothing else of the
//! bridge does.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::task::{Context, Waker};

use countersign::kernel::httpsig::{Components, SignatureHeaders, content_digest};
use countersign::mcp::signed_http::fresh;
use countersign::ops::ipc;
use countersign::tls::TlsSigner;
use countersign::tls::agent::{AgentAsk, AgentSays, AgentSocket, Asked, Said};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::world::{PROGRAM, World};

/// More of them than a socket holds that nobody reads.
const QUESTIONS: usize = 24;
const QUESTION_BYTES: usize = 20_000;

/// An agent host's socket behind which somebody answers when the test says so.
fn standing_still() -> (tempfile::TempDir, UnixListener, AgentSocket) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    (directory, listener, AgentSocket::new(path, "assistant".parse().unwrap()))
}

fn answer(stream: &mut UnixStream, asked: &Asked) {
    let says = match &asked.ask {
        AgentAsk::Identity { .. } => AgentSays::Identity { chain: vec![] },
        AgentAsk::SignTls { message, .. } => AgentSays::Signature(message.clone()),
        AgentAsk::SignRequest { parameters, .. } => AgentSays::SignedRequest(SignatureHeaders {
            signature_input: parameters.nonce.clone(),
            signature: String::new(),
        }),
    };
    ipc::write_frame(stream, &Said { id: asked.id, says }).unwrap();
}

fn long_request() -> Components {
    Components {
        method: "POST".into(),
        target_uri: "https://127.0.0.1:8443/mcp".into(),
        content_digest: content_digest(b"{}"),
        protocol_version: "2026-07-28".into(),
        mcp_method: "resources/read".into(),
        mcp_name: Some("x".repeat(QUESTION_BYTES)),
        authorization: None,
    }
}

#[test]
fn a_task_that_asks_holds_up_no_thread_however_long_nobody_reads() {
    let (_directory, listener, agent) = standing_still();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let mut asking: Vec<_> = (0..QUESTIONS)
        .map(|_| {
            let (agent, parameters) = (agent.clone(), fresh());
            let nonce = parameters.nonce.clone();
            (nonce, Box::pin(async move { agent.sign_request_later(long_request(), parameters).await }))
        })
        .collect();
    // All have asked before anybody has read a word.
    let mut context = Context::from_waker(Waker::noop());
    assert!(asking.iter_mut().all(|(_, asked)| asked.as_mut().poll(&mut context).is_pending()));
    let host = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for _ in 0..QUESTIONS {
            let asked = ipc::read_frame(&mut stream).unwrap().unwrap();
            answer(&mut stream, &asked);
        }
        // Nobody waited so long that the connection was given up for another one.
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "a second connection");
        stream
    });
    for (nonce, asked) in asking {
        assert_eq!(runtime.block_on(asked).unwrap().signature_input, nonce);
    }
    host.join().unwrap();
}

#[test]
fn a_handshake_that_waits_for_its_signature_leaves_its_thread_to_other_tasks() {
    let (_directory, listener, agent) = standing_still();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let message = vec![7; 100];
    let signing = runtime.spawn({
        let (agent, message) = (agent.clone(), message.clone());
        async move { agent.sign(&message) }
    });
    let (mut stream, _) = listener.accept().unwrap();
    let asked = ipc::read_frame(&mut stream).unwrap().unwrap();
    // The one thread for tasks waits for the signature now, and all the same another task has its turn.
    let (tell, told) = mpsc::channel();
    runtime.spawn(async move { tell.send(()).unwrap() });
    told.recv().unwrap();
    answer(&mut stream, &asked);
    assert_eq!(runtime.block_on(signing).unwrap(), Ok(message));
}

/// `countersign connect` for messages in any order.
struct Bridge {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Bridge {
    fn start(agent_host: &Path) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["connect", "--agent", "assistant", "--state"]).arg(agent_host);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    fn send(&mut self, id: u64, method: &str, mut params: Value) {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        });
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        writeln!(self.input, "{request}").unwrap();
    }

    fn call(&mut self, id: u64, tool: &str, arguments: Value) {
        self.send(id, "tools/call", json!({ "name": tool, "arguments": arguments }));
    }

    /// The next answer, whatever its question was.
    fn next(&mut self) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the bridge has ended");
            let message: Value = serde_json::from_str(&line).unwrap();
            if message.get("method").is_none() {
                return message;
            }
        }
    }

    /// Takes answers down until the one to this question is there.
    fn until(&mut self, id: u64, answers: &mut BTreeMap<u64, Value>) {
        while !answers.contains_key(&id) {
            let answer = self.next();
            answers.insert(answer["id"].as_u64().unwrap(), answer);
        }
    }

    fn close(mut self) {
        drop(self.input);
        assert!(self.child.wait().unwrap().success());
    }
}

/// Calls that wait at once: fewer than an agent may have, more than the bridge has connections.
const WAITING: u64 = 6;

fn balance() -> Value {
    json!({ "account_id": "CHK_001" })
}

#[test]
fn a_bridge_whose_agent_host_is_stopped_answers_what_needs_no_signature() {
    let world = World::new();
    let mut bridge = Bridge::start(&world.state("agent"));
    bridge.call(0, "get_account_balance", balance());
    assert_eq!(bridge.next()["result"]["isError"], false);

    let host = Pid::from_raw(world.process("agent", "front").cast_signed()).unwrap();
    kill_process(host, Signal::STOP).unwrap();
    for id in 1..=48 {
        let uri = format!("bank://nothing/{}", "x".repeat(10_000));
        bridge.send(id, "resources/read", json!({ "uri": uri }));
    }
    // Not one of those can be answered; what has no message in it is, by the bridge itself.
    writeln!(bridge.input, "garbage").unwrap();
    assert_eq!(bridge.next()["error"]["code"], -32700);
    bridge.send(49, "ping", json!({}));
    assert_eq!(bridge.next()["id"], 49);
    kill_process(host, Signal::CONT).unwrap();
    let mut answered: Vec<u64> = (1..=48).map(|_| bridge.next()["id"].as_u64().unwrap()).collect();
    answered.sort_unstable();
    assert_eq!(answered, (1..=48).collect::<Vec<_>>());
    bridge.call(50, "get_account_balance", balance());
    assert_eq!(bridge.next()["result"]["isError"], false);
    bridge.close();
}

#[test]
fn a_handshake_that_its_host_does_not_sign_is_told_as_one_and_harms_no_other_call() {
    let world = World::new();
    let mut bridge = Bridge::start(&world.state("agent"));
    let order = json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": "2500", "idempotency_key": "k" });
    bridge.call(0, "authorize_transfer", order);
    let approval = bridge.next()["result"]["structuredContent"]["approval_id"].as_str().unwrap().to_owned();

    // The host has the agent's key and no longer its certificates: it signs requests of its connections that there are,
    // and no handshake for another one.
    let (pair, aside) = (world.state("agent").join("certs/agents/assistant"), world.state("agent").join("aside"));
    std::fs::rename(&pair, &aside).unwrap();
    // These wait, each on a connection: of the two or three that there are none is left for whoever asks then.
    let waiting = 1..=WAITING;
    for id in waiting.clone() {
        bridge.call(id, "get_approval_status", json!({ "approval_id": approval, "wait_s": 15 }));
    }
    let failed = |answers: &BTreeMap<u64, Value>| answers.values().find(|answer| answer["error"].is_object()).cloned();
    let mut answers = BTreeMap::new();
    let unsigned = (WAITING + 1..1_000).find_map(|id| {
        bridge.call(id, "get_account_balance", balance());
        bridge.until(id, &mut answers);
        failed(&answers)
    });
    let unsigned = unsigned.unwrap();
    let data = &unsigned["error"]["data"];
    assert_eq!((&data["name"], &data["retry"]), (&json!("handshake_unsigned"), &json!(true)), "{unsigned}");
    assert_eq!(data["may_have_happened"], "no", "{unsigned}");

    // Calls that wait are answered, and with the certificates there again everybody is.
    world.run("bank", &["--operator", "alice", "approvals", "approve", &approval]);
    let approved = waiting.filter(|id| {
        bridge.until(*id, &mut answers);
        answers[id]["result"]["structuredContent"]["status"] == "approved"
    });
    assert!(approved.count() > 0, "{answers:?}");
    std::fs::rename(&aside, &pair).unwrap();
    let served = (1_000..1_100).any(|id| {
        bridge.call(id, "get_account_balance", balance());
        bridge.until(id, &mut answers);
        answers[&id]["result"]["isError"] == false
    });
    assert!(served);
    bridge.close();
}
