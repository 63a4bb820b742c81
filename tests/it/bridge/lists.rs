//! Clients of the generation before are told when the bank's lists change; whoever subscribes and is refused, learns it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign::mcp::bridge::serve_loopback;
use rmcp::model::{ClientCapabilities, ClientConfig, Implementation};
use rmcp::service::{NotificationContext, RoleClient};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::fixture::{Client, Reply, Seen, Way, count, next_request, raw, serve};
use crate::support::world::{PROGRAM, World};

const SECRET: &str = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0";
const LISTEN: &str = "subscriptions/listen";

/// A bank that announces changes of its tools and resources, and answers subscriptions so.
fn bank(subscription: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> impl Fn(&Value) -> Reply {
    move |request| {
        let complete = |mut result: Value| {
            for (name, value) in
                [("resultType", json!("complete")), ("ttlMs", json!(0)), ("cacheScope", json!("private"))]
            {
                result[name] = value;
            }
            Reply::Result(result)
        };
        match request["method"].as_str().unwrap() {
            "server/discover" => complete(json!({
                "supportedVersions": ["2026-07-28"],
                "capabilities": {
                    "tools": { "listChanged": true }, "resources": { "subscribe": true, "listChanged": true }, "prompts": {},
                },
            })),
            "tools/list" => complete(json!({ "tools": [] })),
            LISTEN => subscription(request),
            other => panic!("{other}"),
        }
    }
}

/// What a subscription says, with the mark of whose it is.
fn said(request: &Value, method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({ "io.modelcontextprotocol/subscriptionId": request["id"] });
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}

fn acknowledged(request: &Value) -> Value {
    let accepted = json!({ "notifications": request["params"]["notifications"] });
    said(request, "notifications/subscriptions/acknowledged", accepted)
}

/// One that has heard of a change of the tools.
fn changed(request: &Value) -> Reply {
    Reply::Open(vec![
        acknowledged(request),
        said(request, "notifications/resources/updated", json!({ "uri": "bank://policy" })),
        said(request, "notifications/tools/list_changed", json!({})),
    ])
}

fn closed(seen: &std::sync::mpsc::Receiver<Seen>) -> String {
    let is_end = |seen| match seen {
        Seen::Closed(method) => Some(method),
        Seen::Request(..) => None,
    };
    seen.iter().find_map(is_end).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_generation_before_is_told_of_the_lists_that_were_announced_to_it() {
    let (address, seen) = serve(bank(changed));
    let mut client = Client::of(Way::to(address));
    let hello = client.initialize(json!({})).await;
    let capabilities = &hello["capabilities"];
    assert_eq!(
        (&capabilities["tools"], &capabilities["resources"], &capabilities["prompts"]),
        (&json!({ "listChanged": true }), &json!({ "listChanged": true }), &json!({})),
        "{hello}"
    );
    let heard = client.hear().await;
    assert_eq!(heard["method"], "notifications/tools/list_changed", "{heard}");
    // Marks of a subscription are of the other generation.
    assert!(heard["params"]["_meta"].is_null(), "{heard}");
    let (_, body) = next_request(&seen, LISTEN);
    assert_eq!(body["params"]["notifications"], json!({ "toolsListChanged": true, "resourcesListChanged": true }));
    client.end().await;
    assert_eq!(closed(&seen), LISTEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_while_the_subscription_was_broken_is_told_when_there_is_one_again() {
    let times = AtomicUsize::new(0);
    let (address, seen) = serve(bank(move |request| match times.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::HangUp,
        1 => Reply::Events(vec![acknowledged(request)], json!({ "resultType": "complete" })),
        _ => Reply::Open(vec![acknowledged(request)]),
    }));
    let mut client = Client::of(Way::to(address));
    client.initialize(json!({})).await;
    let mut heard = Vec::new();
    for _ in 0..4 {
        heard.push(client.hear().await["method"].as_str().unwrap().to_owned());
    }
    // Twice, each of what was announced: after each break.
    let each = ["notifications/tools/list_changed", "notifications/resources/list_changed"];
    assert_eq!(heard, [each, each].concat());
    assert_eq!(count(&seen, LISTEN), 3);
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_acknowledged_when_the_bank_has_it_and_not_before() {
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let (address, seen) = serve(bank(move |request| {
        held.lock().unwrap().recv().unwrap();
        changed(request)
    }));
    let mut client = Client::of(Way::to(address));
    client.ask(1, "server/discover", json!({})).await;
    let filter = json!({ "toolsListChanged": true, "resourceSubscriptions": ["bank://policy"] });
    client.request(2, LISTEN, json!({ "notifications": filter }), json!({})).await;
    next_request(&seen, LISTEN);
    // The bank does not have it yet: what changed now would be missed.
    let listed = client.ask(3, "tools/list", json!({})).await;
    assert!(listed["result"].is_object(), "{listed}");
    let_go.send(()).unwrap();
    for method in ["subscriptions/acknowledged", "resources/updated", "tools/list_changed"] {
        assert_eq!(client.hear().await["method"], format!("notifications/{method}"));
    }
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_at_a_bank_that_is_away_is_kept_until_it_is_there() {
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let way = Way::to(away);
    let mut client = Client::of(way.clone());
    let filter = json!({ "toolsListChanged": true, "resourceSubscriptions": ["bank://policy"] });
    client.request(1, LISTEN, json!({ "notifications": filter }), json!({})).await;
    assert_eq!(client.hear().await["method"], "notifications/subscriptions/acknowledged");
    let (address, seen) = serve(bank(|request| Reply::Open(vec![acknowledged(request)])));
    way.moves_to(address);
    next_request(&seen, LISTEN);
    // What it was subscribed to may have changed meanwhile, each of it.
    assert_eq!(client.hear().await["method"], "notifications/tools/list_changed");
    let heard = client.hear().await;
    assert_eq!(
        (&heard["method"], &heard["params"]["uri"]),
        (&json!("notifications/resources/updated"), &json!("bank://policy"))
    );
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_subscription_is_told_to_who_asked_for_it_and_takes_nothing_else_with_it() {
    let refusal = |retry: bool| {
        let error = json!({
            "kind": if retry { "busy" } else { "refused" }, "name": "too_many_reads", "message": "too many",
            "next_step": "ask less often", "retry": retry, "may_have_happened": "no",
        });
        json!({ "error": error }).to_string()
    };
    let (busy, refused) = (refusal(true), refusal(false));
    let kind = "content-type: application/json\r\n";
    // (what the bank says, the code that its asker gets)
    let table: [(Box<dyn Fn() -> Reply + Send + Sync>, i64); 3] = [
        (Box::new(|| Reply::Error(json!({ "code": -32600, "message": "as many subscriptions as it may" }))), -32600),
        (
            Box::new({
                let refused = refused.clone();
                move || raw("429 Too Many Requests", kind, &refused)
            }),
            -32010,
        ),
        (Box::new(move || raw("403 Forbidden", kind, &refused)), -32010),
    ];
    for (refused, code) in table {
        let (address, seen) = serve(bank(move |_| refused()));
        let mut client = Client::of(Way::to(address));
        // The library keeps what the bank does not announce from it.
        client.ask(1, "server/discover", json!({})).await;
        let filter = json!({ "notifications": { "toolsListChanged": true } });
        client.request(2, LISTEN, filter, json!({})).await;
        let answer = loop {
            let heard = client.hear().await;
            if heard["id"] == 2 {
                break heard;
            }
        };
        assert_eq!(answer["error"]["code"], code, "{answer}");
        assert_eq!(count(&seen, LISTEN), 1, "{code}");
        assert!(client.ask(3, "tools/list", json!({})).await["result"].is_object());
        client.end().await;

        let mut legacy = Client::of(Way::to(address));
        legacy.initialize(json!({})).await;
        next_request(&seen, LISTEN);
        legacy.send(json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" })).await;
        assert!(legacy.hear().await["result"].is_object());
        assert_eq!(count(&seen, LISTEN), 0, "{code}");
        legacy.end().await;
    }
    // What is only busy is asked again.
    let times = AtomicUsize::new(0);
    let (address, seen) = serve(bank(move |request| match times.fetch_add(1, Ordering::SeqCst) {
        0 => raw("429 Too Many Requests", kind, &busy),
        _ => changed(request),
    }));
    let mut client = Client::of(Way::to(address));
    client.initialize(json!({})).await;
    assert_eq!(client.hear().await["method"], "notifications/tools/list_changed");
    assert_eq!(count(&seen, LISTEN), 2);
}

/// A client that passes on that the tools have changed.
struct Hearer(tokio::sync::mpsc::UnboundedSender<()>);

impl ClientHandler for Hearer {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("test", "1"))
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        let _ = self.0.send(());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_on_loopback_are_told_each_in_its_own_session() {
    let (upstream, seen) = serve(bank(changed));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve_loopback(Arc::new(Way::to(upstream)), listener, SECRET.into(), stop.clone()));
    let tls = countersign::tls::asking_config(None, None).unwrap();
    let http = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let (told, hears) = tokio::sync::mpsc::unbounded_channel();
        let config = StreamableHttpClientTransportConfig::with_uri(url.as_str()).auth_header(SECRET);
        let transport = StreamableHttpClientTransport::with_client(http.clone(), config);
        let client = Hearer(told).serve_with_lifecycle(transport, ClientLifecycleMode::Initialize).await.unwrap();
        clients.push((client, hears));
    }
    for (_, hears) in &mut clients {
        hears.recv().await.unwrap();
    }
    // One that ends takes its own subscription with it.
    let (first, _) = clients.remove(0);
    first.cancel().await.unwrap();
    assert_eq!(closed(&seen), LISTEN);
    assert!(clients[0].0.list_all_tools().await.unwrap().is_empty());
    stop.cancel();
    served.await.unwrap();
}

/// The program, with a client of the generation before.
struct Program {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn start(world: &World) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["connect", "--agent", "assistant", "--state"]).arg(world.state("agent"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    fn send(&mut self, message: &Value) {
        writeln!(self.input, "{message}").unwrap();
    }

    /// Reads on until this is said, as a notification's method.
    fn hear(&mut self, method: &str) {
        while self.next()["method"] != method {}
    }

    /// The next answer.
    fn answer(&mut self) -> Value {
        loop {
            let heard = self.next();
            if !heard["id"].is_null() {
                return heard;
            }
        }
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the bridge has ended");
        serde_json::from_str(&line).unwrap()
    }
}

#[test]
fn a_change_at_the_bank_reaches_a_client_of_the_generation_before_also_through_a_restart() {
    let world = World::new();
    let mut program = Program::start(&world);
    let params = json!({
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "a-client", "version": "1" },
    });
    program.send(&json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params }));
    let hello = program.answer();
    assert_eq!(hello["result"]["capabilities"]["tools"]["listChanged"], true, "{hello}");
    program.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    // The bank compares with what was when it first looked, at a moment that nobody here sees: changed until heard of.
    let heard = std::thread::scope(|scope| {
        let hearing = scope.spawn(|| program.hear("notifications/resources/list_changed"));
        let grant = |words: &[&str]| world.run("bank", &[&["--operator", "bank-officer", "grant"], words].concat());
        let mut times = 0;
        while !hearing.is_finished() && times < 50 {
            grant(&["revoke", "assistant", "SAV_001"]);
            grant(&["add", "assistant", "SAV_001", "--owner", "OWN_001", "--verbs", "read", "--days", "30"]);
            times += 1;
        }
        hearing.join().is_ok()
    });
    assert!(heard);
    // A bank that was away may have changed its tools.
    world.kill("bank");
    world.serve("bank");
    program.hear("notifications/tools/list_changed");
    program.send(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }));
    assert_eq!(program.answer()["result"]["tools"].as_array().unwrap().len(), 12);
    let Program { mut child, input, .. } = program;
    drop(input);
    assert!(child.wait().unwrap().success());
}
