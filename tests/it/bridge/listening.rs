//! Clients that speak HTTP reach the bridge on loopback: who says the secret, both generations, several at once.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use countersign::mcp::bridge::serve_loopback;
use reqwest::{Client, Response, StatusCode};
use rmcp::model::{CallToolRequestParams, ClientCapabilities, ClientConfig, Implementation, ProtocolVersion};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientLifecycleMode, ClientServiceExt};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::fixture::{Reply, Way, serve};
use crate::support::world::{PROGRAM, World};

const SECRET: &str = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0";

/// A bank with one tool.
fn bank(request: &Value) -> Reply {
    let hint = json!({ "resultType": "complete", "ttlMs": 0, "cacheScope": "private" });
    let with = |key: &str, value: Value| {
        let mut result = hint.clone();
        result[key] = value;
        Reply::Result(result)
    };
    match request["method"].as_str().unwrap() {
        "server/discover" => {
            let mut result = hint.clone();
            result["supportedVersions"] = json!(["2026-07-28"]);
            result["capabilities"] = json!({ "tools": {} });
            Reply::Result(result)
        }
        "tools/list" => with("tools", json!([{ "name": "echo", "inputSchema": { "type": "object" } }])),
        "tools/call" => Reply::Result(json!({
            "resultType": "complete", "content": [], "structuredContent": request["params"]["arguments"],
        })),
        other => panic!("{other}"),
    }
}

/// A bridge on loopback, and what stops it.
async fn bridge() -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let (upstream, _) = serve(bank);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve_loopback(Arc::new(Way::to(upstream)), listener, SECRET.into(), stop.clone()));
    (address, stop, served)
}

fn http() -> Client {
    let tls = countersign::tls::asking_config(None, None).unwrap();
    Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
}

fn body(method: &str) -> String {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
    });
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": { "_meta": meta } }).to_string()
}

/// One POST with these headers in place of, or besides, those of a good request.
async fn post(url: &str, changes: &[(&'static str, &str)], body: String) -> Response {
    let bearer = format!("Bearer {SECRET}");
    let mut headers = vec![
        ("authorization", bearer.as_str()),
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/list"),
    ];
    headers.retain(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    headers.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
    let mut request = http().post(url).body(body);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_says_the_secret_and_comes_from_here_is_answered() {
    let (address, stop, served) = bridge().await;
    let url = format!("http://{address}/mcp");
    let wrong = format!("Bearer {}", SECRET.replace('c', "d"));
    let longer = format!("Bearer {SECRET}x");
    let basic = format!("Basic {SECRET}");
    let lower = format!("bearer {SECRET}");
    let table: [(&[(&'static str, &str)], StatusCode); 13] = [
        (&[], StatusCode::OK),
        (&[("authorization", &lower)], StatusCode::OK),
        (&[("authorization", "")], StatusCode::UNAUTHORIZED),
        (&[("authorization", &wrong)], StatusCode::UNAUTHORIZED),
        (&[("authorization", &longer)], StatusCode::UNAUTHORIZED),
        (&[("authorization", &basic)], StatusCode::UNAUTHORIZED),
        (&[("authorization", &lower), ("authorization", &wrong)], StatusCode::UNAUTHORIZED),
        (&[("host", "bank.example")], StatusCode::FORBIDDEN),
        (&[("host", "127.0.0.1.bank.example:80")], StatusCode::FORBIDDEN),
        (&[("origin", "https://bank.example")], StatusCode::FORBIDDEN),
        (&[("origin", "null")], StatusCode::FORBIDDEN),
        (&[("origin", "http://localhost:3000")], StatusCode::OK),
        (&[("mcp-method", "tools/call")], StatusCode::BAD_REQUEST),
    ];
    for (changes, status) in table {
        let response = post(&url, changes, body("tools/list")).await;
        assert_eq!(response.status(), status, "{changes:?}");
        if status == StatusCode::UNAUTHORIZED {
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            assert_eq!(response.json::<Value>().await.unwrap()["error"]["name"], "secret_missing");
        }
    }
    let doubled = body("tools/list").replacen("\"id\":1", "\"id\":1,\"id\":2", 1);
    let refused = post(&url, &[], doubled).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert_eq!(refused.json::<Value>().await.unwrap()["error"]["data"]["name"], "json_duplicate_key");
    let long = post(&url, &[], " ".repeat((1 << 20) + 1)).await;
    assert_eq!(long.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let elsewhere = post(&format!("http://{address}/other"), &[], body("tools/list")).await;
    assert_eq!(elsewhere.status(), StatusCode::NOT_FOUND);
    stop.cancel();
    served.await.unwrap();
    assert!(http().post(&url).send().await.is_err(), "it is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_both_generations_are_served_at_once_each_with_its_own_session() {
    let (address, stop, served) = bridge().await;
    let url = format!("http://{address}/mcp");
    let newest = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let mut clients = Vec::new();
    for mode in [newest, ClientLifecycleMode::Initialize, ClientLifecycleMode::Initialize] {
        let config = StreamableHttpClientTransportConfig::with_uri(url.as_str()).auth_header(SECRET);
        let transport = StreamableHttpClientTransport::with_client(http(), config);
        let identity = ClientConfig::new(ClientCapabilities::default(), Implementation::new("test", "1"));
        clients.push(identity.serve_with_lifecycle(transport, mode).await.unwrap());
    }
    for (number, client) in clients.iter().enumerate() {
        assert_eq!(client.list_all_tools().await.unwrap()[0].name, "echo");
        let mut call = CallToolRequestParams::new("echo");
        call.arguments = json!({ "number": number }).as_object().cloned();
        let answer = client.call_tool(call).await.unwrap();
        assert_eq!(answer.structured_content, Some(json!({ "number": number })));
    }
    // One that ends takes nobody's session with it.
    clients.remove(1).cancel().await.unwrap();
    for client in &clients {
        assert_eq!(client.list_all_tools().await.unwrap().len(), 1);
    }
    let legacy = body("tools/list").replace("2026-07-28", "2025-11-25");
    let stranger = [("mcp-session-id", "00000000-0000-0000-0000-000000000000"), ("mcp-protocol-version", "2025-11-25")];
    let legacy: Value = serde_json::from_str(&legacy).unwrap();
    let legacy = json!({ "jsonrpc": "2.0", "id": 1, "method": legacy["method"] });
    assert_eq!(post(&url, &stranger, legacy.to_string()).await.status(), StatusCode::NOT_FOUND);
    stop.cancel();
    served.await.unwrap();
}

#[test]
fn the_program_listens_on_loopback_alone_and_its_secret_is_kept_in_a_private_file() {
    let world = World::new();
    let agent = world.state("agent");
    let everywhere = ["connect", "--agent", "assistant", "--listen", "0.0.0.0:0"];
    assert_eq!(world.refused("agent", &everywhere), (2, "listen_not_loopback".into()));

    let secret_file = agent.join("secret");
    let start = |words: &[&str]| {
        let listen = ["--json", "connect", "--agent", "assistant", "--listen", "127.0.0.1:0"];
        let mut program = Command::new(PROGRAM);
        let program = program.arg("--state").arg(&agent).args(listen).args(words).stdout(Stdio::piped());
        let mut program = program.spawn().unwrap();
        let mut said = String::new();
        let mut output = BufReader::new(program.stdout.take().unwrap());
        while serde_json::from_str::<Value>(&said).is_err() {
            assert_ne!(output.read_line(&mut said).unwrap(), 0, "{said}");
        }
        (program, output, serde_json::from_str::<Value>(&said).unwrap())
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let path = secret_file.display().to_string();
    for words in [&[][..], &["--secret-file", &path][..]] {
        let (mut program, mut output, said) = start(words);
        let authorization = match said["authorization"].as_str() {
            Some(authorization) => authorization.to_owned(),
            None => format!("Bearer {}", std::fs::read_to_string(&path).unwrap().trim()),
        };
        assert_eq!(said["authorization"].is_null(), !words.is_empty(), "{said}");
        let url = said["url"].as_str().unwrap();
        let answer = runtime.block_on(async {
            let response = post(url, &[("authorization", &authorization)], body("tools/list")).await;
            response.json::<Value>().await.unwrap()
        });
        assert_eq!(answer["result"]["tools"].as_array().unwrap().len(), 12, "{answer}");
        kill_process(Pid::from_child(&program), Signal::TERM).unwrap();
        assert!(program.wait().unwrap().success());
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
    }
}
