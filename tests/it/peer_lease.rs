//! The security company's word counts at the bank: when it says *effective*, nothing is served there any more.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::parties::Parties;
use crate::support::world::{PROGRAM, World};

const LEASE_MS: u32 = 4_000;

/// Whether the agent is served: it reads its balance.
pub fn is_served(world: &World) -> bool {
    let mut bridge = Command::new(PROGRAM)
        .args(["connect", "--agent", "assistant", "--state"])
        .arg(world.state("agent"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "get_account_balance",
        "arguments": { "account_id": "CHK_001" },
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        },
    } });
    // A bridge that was refused may have ended already.
    let _ = writeln!(bridge.stdin.take().unwrap(), "{request}");
    let mut line = String::new();
    BufReader::new(bridge.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _ = bridge.wait();
    line.contains("\"USD\"")
}

pub fn is_served_at_last(world: &World) -> bool {
    (0..100).any(|_| is_served(world))
}

fn as_officer(world: &World, person: &str, arguments: &[&str]) -> Value {
    let output = world.output("secco", &[&["--json", "--operator", person], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What the doctor says of the lease, whatever else it finds.
fn lease(world: &World, party: &str) -> String {
    let output = world.output(party, &["--json", "--operator", &format!("{party}-admin"), "doctor"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut items = report["items"].as_array().unwrap().iter();
    items.find(|item| item["check"] == "peer lease").unwrap()["result"].as_str().unwrap().to_owned()
}

fn leased() -> Parties {
    let parties = Parties::new();
    for party in ["secco", "bank"] {
        assert_eq!(lease(&parties.world, party), "warn");
        parties.world.run(party, &["stop"]);
        let path = parties.world.state(party).join("countersign.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("peer_lease")).collect();
        let lease = format!("[audit]\npeer_lease = \"on\"\npeer_lease_ms = {LEASE_MS}");
        std::fs::write(&path, kept.join("\n").replace("[audit]", &lease)).unwrap();
        parties.world.serve(party);
    }
    parties
}

#[test]
fn what_is_effective_at_the_security_company_is_effective_at_the_bank() {
    let parties = leased();
    let world = &parties.world;
    assert!(is_served_at_last(world));
    assert_eq!((lease(world, "bank"), lease(world, "secco")), ("ok".into(), "ok".into()));

    let frozen = as_officer(world, "secco-officer", &["freeze", "assistant", "--reason", "look"]);
    assert!(!is_served(world), "{frozen}");
    assert_eq!((&frozen["effective"], &frozen["nodes"]), (&json!(true), &json!("2")));
    for person in ["secco-officer", "secco-admin"] {
        as_officer(world, person, &["unfreeze", "assistant", "--note", "looked"]);
    }
    assert!(is_served(world), "lifted there, lifted here");

    // Nobody answers the bank: it goes on until its lease ends, and no longer.
    world.run("secco", &["stop"]);
    assert!((0..1_000).any(|_| lease(world, "bank") == "fail"), "the lease never ends");
    assert!(!is_served(world));
    world.serve("secco");
    assert!(is_served_at_last(world));

    // Revoked by the command itself, with the daemon down: effective when the bank's lease is over.
    world.run("secco", &["stop"]);
    let revoked = as_officer(world, "secco-officer", &["revoke", "assistant", "--reason", "key-compromise"]);
    assert!(!is_served(world), "{revoked}");
    assert_eq!(revoked["effective"], true);
    world.serve("secco");
    assert!((0..1_000).any(|_| lease(world, "bank") == "ok"), "the bank has a lease again");
    assert!(!is_served(world));
}

/// The name of the other party's daemon has no address: this party serves and revokes all the same.
#[test]
fn a_party_whose_counterpart_cannot_be_found_acts_alone() {
    let world = World::new();
    world.run("bank", &["stop"]);
    let path = world.state("bank").join("countersign.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let beyond = "[peer]\nurl = \"https://secco.invalid:9444\"\n\n[audit]";
    let text =
        text.replace("[audit]", beyond).replace("[pki]\n", "[pki]\ncompany_pki_url = \"http://secco.invalid:80\"\n");
    std::fs::write(&path, text).unwrap();
    assert_eq!(world.refused("bank", &["check"]), (1, "peer_unresolvable".into()));
    let frozen = ["--operator", "bank-officer", "freeze", "assistant", "--reason", "alone"];
    world.run("bank", &frozen);
    world.serve("bank");
    assert!(!is_served(&world));
    for person in ["bank-officer", "bank-admin"] {
        world.run("bank", &["--operator", person, "unfreeze", "assistant", "--note", "alone"]);
    }
    assert!(is_served(&world));
}
