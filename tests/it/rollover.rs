//! The bank's issuing CA is rolled over while an agent works: nothing that was issued before is lost.

use serde_json::{Value, json};

use crate::clients::Bridge;
use crate::support::world::World;

fn admin(party: &str) -> String {
    if party == "agent" { "host-admin".to_owned() } else { format!("{party}-admin") }
}

fn as_admin(world: &World, party: &str, arguments: &[&str]) -> Value {
    let operator = admin(party);
    let text = world.run(party, &[&["--operator", &operator, "--json"], arguments].concat());
    serde_json::from_str(&text).unwrap()
}

fn balance(world: &World) -> Value {
    let mut bridge = Bridge::start(&world.state("agent"));
    let asked = json!({ "name": "get_account_balance", "arguments": { "account_id": "CHK_001" } });
    let result = bridge.ask("tools/call", asked);
    bridge.close();
    result["structuredContent"]["currency"].clone()
}

/// What the doctor says of certificates: name, what they do, result.
fn certificates(world: &World, party: &str) -> Vec<(String, String, String)> {
    // It fails when one of its checks does.
    let output = world.output(party, &["--operator", &admin(party), "--json", "doctor"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let items = report["items"].as_array().unwrap().iter().filter(|item| item.get("certificate").is_some());
    items
        .map(|item| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            assert!(item["certificate"]["days_left"].as_i64().is_some_and(|days| days > 30), "{item}");
            (text(&item["certificate"]["name"]), text(&item["certificate"]["role"]), text(&item["result"]))
        })
        .collect()
}

#[test]
fn a_running_bank_gets_its_next_issuing_ca_and_its_agents_keep_working() {
    let world = World::new();
    assert_eq!(balance(&world), "USD");
    let found = |party: &str, name: &str| certificates(&world, party).into_iter().find(|(found, _, _)| found == name);
    assert_eq!(certificates(&world, "bank").len(), 2 + 8);
    assert_eq!(certificates(&world, "secco").len(), 2 + 7);
    assert_eq!(certificates(&world, "agent"), []);

    assert_eq!(as_admin(&world, "bank", &["key", "rotate", "issuing"])["effective"], "announced");
    let next = || found("bank", "issuing CA v2").map(|(_, does, result)| (does, result));
    assert_eq!(next(), Some(("announced".into(), "warn".into())));
    let certs = world.state("bank").join("certs");
    let (root, issuing) = (certs.join("root.pem"), certs.join("issuing.pem"));
    let (root, issuing) = (root.to_str().unwrap(), issuing.to_str().unwrap());
    let held = world.state("agent").join("anchors/bank-issuing.pem");
    let before = std::fs::read(&held).unwrap();
    for party in ["agent", "secco"] {
        let trusted = as_admin(&world, party, &["trust", "add", "bank", "--root", root, "--issuing", issuing]);
        assert_eq!((&trusted["changed"], &trusted["issuing"]), (&json!(true), &json!(2)));
    }

    let again = ["--operator", "bank-admin", "key", "rotate", "issuing"];
    assert_eq!(world.refused("bank", &again), (3, "issuing_ca_announced".into()));
    assert_eq!(next().unwrap().0, "announced");
    assert_eq!(as_admin(&world, "bank", &["key", "rotate", "issuing", "--use"])["effective"], "now");
    assert_eq!(next(), Some(("issues".into(), "ok".into())));
    assert_eq!(found("bank", "issuing CA v1").unwrap().1, "lists-only");
    assert_eq!(balance(&world), "USD");
    let retire = ["--operator", "bank-admin", "key", "retire", "bank-issuing-v1"];
    assert_eq!(world.refused("bank", &retire), (3, "key_in_use".into()));

    // The listener takes its new certificate when it starts, and the agent host knows its issuer.
    world.run("bank", &["stop"]);
    world.serve("bank");
    assert_eq!(balance(&world), "USD");

    // A host that was told of the old one alone takes the bank for another server, until it is told of both.
    let after = std::fs::read(&held).unwrap();
    std::fs::write(&held, before).unwrap();
    let mut bridge = Bridge::start(&world.state("agent"));
    let refused = bridge.answer("tools/list", json!({}))["error"].clone();
    assert_eq!((&refused["data"]["name"], &refused["data"]["retry"]), (&json!("bank_not_pinned"), &json!(false)));
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("found a certificate of issuing CA") && message.contains("expected"), "{message}");
    std::fs::write(&held, after).unwrap();
    assert!(bridge.ask("tools/list", json!({}))["tools"].is_array());
    bridge.close();
}

/// The name says what is wrong and there is a way on.
#[test]
fn an_issuing_ca_that_was_revoked_is_followed_by_another() {
    let world = World::new();
    let list = |party: &str| as_admin(&world, party, &["cert", "list"])["items"].as_array().unwrap().clone();
    let issuer = list("secco").iter().find(|item| item["profile"] == "agent-s").unwrap()["issuer"].clone();
    let issuer = issuer.as_str().unwrap();
    let officer = ["--operator", "secco-officer", "--json"];
    let in_order = || world.run("secco", &[&officer[..], &["crl", "check"]].concat());
    let root = list("secco").iter().find(|item| item["profile"] == "root").unwrap()["serial"].clone();
    let root = ["--operator", "secco-officer", "revoke", root.as_str().unwrap(), "--reason", "superseded"];
    assert_eq!(world.refused("secco", &root), (3, "target_is_ca".into()));
    let revoke = ["revoke", "--issuer", issuer, "--reason", "ca-compromise"];
    world.run("secco", &[&officer[..], &revoke].concat());
    let found = |name: &str| certificates(&world, "secco").into_iter().find(|(found, _, _)| found == name).unwrap();
    let (_, does, result) = found("issuing CA v1");
    assert_eq!((does.as_str(), result.as_str()), ("revoked", "fail"));
    assert!(list("secco").iter().filter(|item| item["issuer"] == issuer).all(|item| item["status"] == "revoked"));
    in_order();

    let out = world.state("agent").join("request.json").display().to_string();
    world.run("agent", &["cert", "request", "late", "--role", "purchaser", "--out", &out]);
    let endorse = ["--operator", "secco-officer", "cert", "endorse", "--request", &out, "--out", &out];
    assert_eq!(world.refused("secco", &endorse), (3, "issuing_ca_revoked".into()));

    assert_eq!(as_admin(&world, "secco", &["key", "rotate", "issuing"])["effective"], "announced");
    assert_eq!(as_admin(&world, "secco", &["key", "rotate", "issuing", "--use"])["effective"], "now");
    assert_eq!(found("issuing CA v2").1, "issues");
    in_order();
    let certs = world.state("secco").join("certs");
    let (root, issuing) = (certs.join("root.pem"), certs.join("issuing.pem"));
    let (root, issuing) = (root.to_str().unwrap(), issuing.to_str().unwrap());
    as_admin(&world, "bank", &["trust", "add", "secco", "--root", root, "--issuing", issuing]);
    let missing = || {
        let output = world.output("bank", &["--operator", "bank-admin", "--json", "doctor"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let items = report["items"].as_array().unwrap().iter();
        items.filter(|item| item["detail"].as_str().unwrap().starts_with("no list of secco's issuing CA")).count()
    };
    assert_eq!(missing(), 1, "nobody has brought the list of the new one");
    let list = world.state("bank").join("secco.crl").display().to_string();
    world.run("secco", &[&officer[..], &["crl", "export", "--out", &list]].concat());
    world.run("bank", &["--operator", "bank-officer", "crl", "import", &list]);
    assert_eq!(missing(), 0);
    world.run("secco", &endorse);
}
