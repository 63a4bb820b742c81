//! The auditor's commands on a bank that runs: what they find, what they write, and that it verifies elsewhere.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::world::{PROGRAM, World};

fn ask(world: &World, words: &[&str]) -> Value {
    serde_json::from_str(&world.run("bank", &[&["--operator", "auditor", "--json"], words].concat())).unwrap()
}

/// On a machine that knows the bank's root and nothing else.
fn verifies(elsewhere: &Path, root: &Path, words: &[&str]) -> Result<Value, (i32, String)> {
    let output = Command::new(PROGRAM)
        .arg("--state")
        .arg(elsewhere)
        .args(["--json", "verify"])
        .args(words)
        .arg("--root")
        .arg(root)
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap());
    }
    let failure: Value = serde_json::from_slice(&output.stderr).unwrap();
    Err((output.status.code().unwrap(), failure["error"]["name"].as_str().unwrap().to_owned()))
}

#[test]
fn an_auditor_searches_checks_and_carries_evidence_away() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    std::fs::copy(world.state("bank").join("certs/root.pem"), place("root.pem")).unwrap();
    let elsewhere = place("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let verify = |words: &[&str]| verifies(&elsewhere, &place("root.pem"), words);
    let changed = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };

    // Everything that the demo has done is in order.
    let copy = text(&place("copy"));
    world.run("bank", &["--operator", "auditor", "audit", "export", &copy]);
    let checked = ask(&world, &["audit", "check", "--tiles", &copy]);
    assert_eq!((&checked["sound"], &checked["findings_found"]), (&true.into(), &0.into()), "{checked:#}");
    assert!(checked["postings"].as_u64().unwrap() > 0 && checked["copy"]["size"].as_u64().unwrap() > 0);

    // All about one payment of the agent.
    let found = ask(&world, &["audit", "search", "--agent", "shopper", "--decision", "executed", "--limit", "5"]);
    let payment = found["items"][0]["body"]["result"]["transaction_id"].as_str().unwrap().to_owned();
    let named = ask(&world, &["audit", "search", "--transaction", &payment, "--oldest-first"]);
    let items = named["items"].as_array().unwrap();
    assert!(items.len() >= 2 && items[0]["body"]["tool"].as_str().unwrap().starts_with("authorize_"), "{named:#}");
    let bundle = place("payment.tar");
    world.run("bank", &["--operator", "auditor", "audit", "bundle", &payment, "--out", &text(&bundle)]);
    let verdict = verify(&["bundle", &text(&bundle)]).unwrap();
    assert_eq!(verdict["statement"]["transaction_id"], payment.as_str());
    assert!(verdict["agent"]["agent"].as_str().unwrap().ends_with("/shopper"), "{verdict:#}");
    assert!(verdict["agent"]["request"]["created"].is_string(), "its request was signed: {verdict:#}");
    changed(&bundle);
    assert_eq!(verify(&["bundle", &text(&bundle)]).unwrap_err().0, 3);
    let (code, name) = world.refused(
        "bank",
        &["--operator", "auditor", "audit", "bundle", "txn_01JD0000000000000000000000", "--out", &text(&bundle)],
    );
    assert_eq!((code, name.as_str()), (3, "unknown_transaction"));

    // A search as a file.
    for format in ["jsonl", "csv"] {
        let file = place(&format!("found.{format}"));
        let out = text(&file);
        let said = ask(&world, &["audit", "search", "--agent", "assistant", "--out", &out, "--format", format]);
        let verdict = verify(&["export", &out]).unwrap();
        assert_eq!((&verdict["records"], &verdict["query"]["agent"]), (&said["records"], &"assistant".into()));
        changed(&file);
        assert_eq!(verify(&["export", &out]).unwrap_err(), (3, "export_file_differs".into()));
        changed(&file);
        changed(&place(&format!("found.{format}.note")));
        assert_eq!(verify(&["export", &out]).unwrap_err().0, 3);
    }
    let (code, name) = world
        .refused("bank", &["--operator", "auditor", "audit", "search", "--amount-min", "1,5", "--currency", "USD"]);
    assert_eq!((code, name.as_str()), (2, "amount_malformed"));

    follows(&world);
}

/// Newest leaves, then what comes, until Ctrl-C.
fn follows(world: &World) {
    let mut tail = Command::new(PROGRAM)
        .arg("--state")
        .arg(world.state("bank"))
        .args(["--operator", "auditor", "--json", "audit", "tail", "--follow", "--limit", "3"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut leaf = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let mut last = 0;
    for _ in 0..3 {
        last = leaf()["index"].as_u64().unwrap();
    }
    world.run("bank", &["--operator", "bank-admin", "account", "open", "NEW_001", "--owner", "OWN_009"]);
    let came = leaf();
    assert!(came["index"].as_u64().unwrap() > last, "{came}");
    let pid = Pid::from_raw(i32::try_from(tail.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert!(tail.wait().unwrap().success(), "Ctrl-C is how it ends");
}
