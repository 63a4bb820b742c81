//! The agent's end: its line to the agent host, what it hands on, and how its clients reach it.

mod fixture;
mod forwarding;
mod headers;
mod listening;
mod lists;
mod outcomes;
mod tokens;

use std::io::Write;

use countersign::kernel::httpsig::{Components, content_digest};
use countersign::mcp::signed_http::fresh;
use countersign::ops::failure::Failure;
use countersign::tls::TlsSigner;
use countersign::tls::agent::AgentSocket;
use serde_json::Value;

use crate::support::world::World;

fn agent(world: &World, name: &str) -> AgentSocket {
    AgentSocket::new(world.state("agent").join("run/agent.sock"), name.parse().unwrap())
}

/// A request of the profile; the bank never sees it.
fn request() -> Components {
    Components {
        method: "POST".into(),
        target_uri: "https://127.0.0.1:8443/mcp".into(),
        content_digest: content_digest(b"{}"),
        protocol_version: "2026-07-28".into(),
        mcp_method: "tools/list".into(),
        mcp_name: None,
        authorization: None,
    }
}

fn signatures(world: &World) -> Vec<Value> {
    let output = world.output("agent", &["--operator", "host-admin", "--json", "doctor"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines = report["items"].as_array().unwrap().iter();
    lines.filter(|line| line["check"] == "agent signatures").cloned().collect()
}

#[test]
fn a_line_to_the_agent_host_carries_many_questions_survives_its_daemon_and_has_a_limit() {
    let world = World::new();
    let agent = agent(&world, "assistant");
    let chain = agent.chain().unwrap();
    let client = [&[b' '; 64][..], b"TLS 1.3, client CertificateVerify\0", &[7; 32]].concat();
    // Threads and tasks share the connection; each gets its own answer.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    agent.sign(&client).unwrap();
                    assert_eq!(agent.chain().unwrap(), chain);
                }
            });
        }
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let agent = agent.clone();
                runtime.spawn(async move { agent.sign_request_later(request(), fresh()).await })
            })
            .collect();
        for task in tasks {
            let signed = runtime.block_on(task).unwrap().unwrap();
            assert!(signed.signature_input.contains("countersign-request"), "{signed:?}");
        }
    });
    let counted = &signatures(&world)[0];
    assert_eq!(counted["result"], "ok", "{counted}");

    // Away, and there again with a limit: the same line goes on.
    world.kill("agent");
    let away = agent.sign_request(request(), fresh()).unwrap_err();
    assert_eq!((away.name.as_str(), away.retry), ("agent_host_unreachable", true));
    let configured = world.state("agent").join("countersign.toml");
    let text = std::fs::read_to_string(&configured).unwrap();
    let text = text.replace("signatures_per_second = 500", "signatures_per_second = 1");
    std::fs::File::create(&configured)
        .unwrap()
        .write_all(text.replace("signatures_burst = 2000", "signatures_burst = 3").as_bytes())
        .unwrap();
    world.serve("agent");
    let refused = |_| -> Option<Failure> { agent.sign_request(request(), fresh()).err() };
    let refused = (0..1_000).find_map(refused).unwrap();
    assert_eq!((refused.name.as_str(), refused.retry), ("signing_rate_exceeded", true), "{refused}");
    // Who may not sign now may still ask who it is.
    assert_eq!(agent.chain().unwrap(), chain);
    let told = &signatures(&world)[0];
    assert_eq!(told["result"], "warn", "{told}");
    assert!(told["detail"].as_str().unwrap().contains("refused: too many a second"), "{told}");
}
