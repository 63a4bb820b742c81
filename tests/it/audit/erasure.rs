//! What leaves say is erased at a real bank, and everything that was proven still is.

use serde_json::{Value, json};

use crate::support::world::World;

fn ask(world: &World, operator: &str, words: &[&str]) -> Value {
    serde_json::from_str(&world.run("bank", &[&["--json", "--operator", operator], words].concat())).unwrap()
}

fn refused(world: &World, operator: &str, words: &[&str]) -> (i32, String) {
    world.refused("bank", &[&["--operator", operator], words].concat())
}

const ERASE: [&str; 6] = ["audit", "erase", "owner:OWN_001", "--reason", "request 31", "--yes"];

#[test]
fn a_customer_is_erased_by_two_people_and_every_proof_stays() {
    let world = World::new();
    // Who ends a hold is neither of the two who erase.
    world.run("bank", &["stop"]);
    let config = world.state("bank").join("countersign.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let uid = text.split_once("\nuid = ").unwrap().1.lines().next().unwrap();
    let third = format!("\n[[operator]]\nname = \"otto\"\nuid = {uid}\nroles = [\"officer\"]\n");
    std::fs::write(&config, text.clone() + &third).unwrap();
    world.serve("bank");
    let paid = ask(&world, "auditor", &["transaction", "list", "--account", "CHK_001", "--status", "executed"]);
    let transaction = paid["items"][0]["transaction_id"].as_str().unwrap().to_owned();
    let file = |name: &str| world.state("bank").join(name).display().to_string();
    let (receipt, proof, copy) = (file("receipt.json"), file("leaf.tlog-proof"), file("copy"));
    world.run("bank", &["--operator", "auditor", "receipt", "show", &transaction, "--out", &receipt]);
    ask(&world, "auditor", &["audit", "prove", &transaction, "--out", &proof]);
    ask(&world, "auditor", &["audit", "export", &copy]);

    let subjects = ask(&world, "auditor", &["audit", "subjects"]);
    let line = |subjects: &Value| {
        subjects["items"].as_array().unwrap().iter().find(|one| one["subject"] == "owner:OWN_001").cloned()
    };
    assert_eq!(subjects["leaves_in_the_clear"], 0, "every leaf of a party is sealed from the first one on");
    assert!(line(&subjects).unwrap()["keys"].as_u64().unwrap() >= 1, "{subjects}");

    let hold = ["audit", "hold", "owner:OWN_001", "--reason", "court order"];
    assert_eq!(ask(&world, "bank-officer", &hold)["changed"], true);
    for (operator, words, expected) in [
        ("bank-officer", &ERASE[..], (3, "under_legal_hold")),
        ("auditor", &ERASE[..], (3, "operator_not_permitted")),
        ("bank-officer", &ERASE[..5], (2, "not_confirmed")),
        ("bank-officer", &["audit", "erase", "OWN_001", "--reason", "x", "--yes"], (2, "command_line_invalid")),
    ] {
        let (code, name) = expected;
        assert_eq!(refused(&world, operator, words), (code, name.to_owned()), "{operator} {words:?}");
    }
    let release = ["audit", "release", "owner:OWN_001", "--reason", "over"];
    assert_eq!(ask(&world, "otto", &release)["changed"], true);
    assert_eq!(refused(&world, "otto", &ERASE), (3, "maker_is_checker".to_owned()));
    assert_eq!(ask(&world, "bank-officer", &ERASE)["status"], "erasure_asked");
    // Who comes second sees that before anything is confirmed, and nothing was.
    let output = world.output("bank", &[&["--operator", "bank-admin"], &ERASE[..5]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for words in ["bank-officer has asked on 20", "(request 31)", "this is the second call", "otto ended a legal hold"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    let shown = line(&ask(&world, "auditor", &["audit", "subjects"])).unwrap();
    assert_eq!((&shown["erasure_asked"]["reason"], &shown["released"]["by"]), (&json!("request 31"), &json!("otto")));
    assert_eq!(refused(&world, "bank-officer", &ERASE), (3, "maker_is_checker".to_owned()));
    // Whoever restarts the bank between the two changes nothing.
    world.run("bank", &["stop"]);
    world.serve("bank");
    let erased = ask(&world, "bank-admin", &ERASE);
    assert_eq!((&erased["status"], &erased["changed"]), (&json!("erased"), &json!(true)), "{erased}");
    assert_eq!((&erased["erasure_asked"]["by"], &erased["released"]["by"]), (&json!("bank-officer"), &json!("otto")));
    assert_eq!(erased["pseudonym"].as_str().unwrap().len(), 64);
    assert_eq!(ask(&world, "bank-admin", &ERASE)["changed"], false);
    assert_eq!(line(&ask(&world, "auditor", &["audit", "subjects"])), None);

    // What was handed out verifies, and what is signed now holds.
    world.run("bank", &["verify", "receipt", &receipt]);
    let root = file("certs/root.pem");
    world.run("bank", &["verify", "proof", &proof, "--root", &root]);
    ask(&world, "auditor", &["audit", "check"]);
    ask(&world, "auditor", &["audit", "export", &copy]);
    world.run("bank", &["verify", "log", &copy, "--root", &root]);
    ask(&world, "auditor", &["ledger", "check"]);
    // What it said is gone, for the bank too.
    assert_eq!(refused(&world, "auditor", &["receipt", "show", &transaction]), (3, "leaf_erased".to_owned()));
    assert_eq!(refused(&world, "auditor", &["audit", "prove", &transaction]), (3, "leaf_erased".to_owned()));
    let shown = ask(&world, "auditor", &["audit", "show", "--limit", "1000"]);
    let shown = shown["items"].as_array().unwrap();
    let erased: Vec<&Value> = shown.iter().filter(|leaf| leaf["content"] == "erased").collect();
    assert!(!erased.is_empty() && erased.iter().all(|leaf| leaf["body"].is_null()));
    let of_account = |leaf: &&Value| leaf["body"]["parameters"]["from_account"] == "CHK_001";
    assert_eq!(shown.iter().filter(of_account).count(), 0);
    // The repetition that found nothing left names nobody either.
    let erasing = |leaf: &&Value| leaf["body"]["act"] == "erase_subject" && leaf["body"]["result"]["keys"] != 0;
    let last = shown.iter().rev().find(erasing).unwrap();
    assert!(!last.to_string().contains("OWN_001"), "{last}");
    let decided = &last["body"]["result"];
    assert_eq!((&decided["asked_by"], &decided["released_by"]), (&json!("bank-officer"), &json!("otto")), "{last}");
}

/// What no leaf may say: tokens (a JWT begins with `eyJ`), keys, PINs, what people type into headers.
const NEVER: [&str; 6] = ["eyJ", "Bearer", "authorization:", "PRIVATE KEY", "BEGIN CERTIFICATE", "pin_file"];

#[test]
fn every_leaf_says_who_asked_and_signed_and_none_has_a_secret_in_it() {
    let world = World::new();
    let shown = ask(&world, "auditor", &["audit", "show", "--limit", "1000"]);
    let pin = std::fs::read_dir(world.state("bank").join("pins")).unwrap().next().unwrap().unwrap();
    let pin = std::fs::read_to_string(pin.path()).unwrap();
    let mut signed = 0;
    for leaf in shown["items"].as_array().unwrap() {
        let (body, text) = (&leaf["body"], leaf["body"].to_string());
        for member in ["schema", "at", "request_id", "actor", "decision", "parameters"] {
            assert!(!body[member].is_null(), "{member}: {text}");
        }
        for secret in NEVER.into_iter().chain([pin.trim()]) {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        if body["actor"]["kind"] == "agent" && body["tool"].is_string() {
            let said = |member: &str| body[member].as_str().unwrap_or_else(|| panic!("{member}: {text}")).len();
            assert_eq!((said("request_signature"), said("request_base_digest")), (86, 64), "{text}");
            // Made before it was decided, and not long before.
            let (created, at) = (body["request_created"].as_str().unwrap(), body["at"].as_str().unwrap());
            assert!(created[..10] <= at[..10], "{text}");
            assert!(body["policy_version"].is_string() && body["catalogue_version"].is_string(), "{text}");
            signed += 1;
        }
    }
    assert!(signed > 3, "{signed}");
}

#[test]
fn the_wrapping_key_is_rotated_while_the_bank_runs_and_the_one_before_is_not_needed() {
    let world = World::new();
    let store = world.state("bank").join("store/store.sqlite3");
    let first: (Vec<u8>, Vec<u8>) = rusqlite::Connection::open(&store)
        .unwrap()
        .query_row("SELECT wrapping_key, wrapped FROM store_keys", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    let rotated = ask(&world, "bank-admin", &["key", "rotate", "data-wrapping"]);
    assert_eq!((&rotated["version"], &rotated["effective"]), (&json!(2), &json!("now")), "{rotated}");
    assert_eq!(rotated["retired"], json!(["bank-data-wrapping-v1"]));
    let destroy = ["key", "destroy", "bank-data-wrapping-v1"];
    // As a rotation leaves it that was cut off between two store keys: the key that still seals stays.
    let sql = "UPDATE store_keys SET wrapping_key = ?1, wrapped = ?2 WHERE id = 1";
    assert_eq!(rusqlite::Connection::open(&store).unwrap().execute(sql, first).unwrap(), 1);
    assert_eq!(refused(&world, "bank-admin", &destroy), (3, "key_still_seals".to_owned()));
    world.run("bank", &["stop"]);
    world.serve("bank");
    let confirm = ask(&world, "bank-admin", &destroy)["confirm"].as_str().unwrap().to_owned();
    ask(&world, "bank-admin", &[&destroy[..], &["--confirm", &confirm]].concat());
    world.run("bank", &["stop"]);
    world.serve("bank");
    ask(&world, "auditor", &["audit", "check"]);
    let shown = ask(&world, "auditor", &["audit", "show", "--limit", "1000"]);
    assert!(shown["items"].as_array().unwrap().iter().all(|leaf| leaf["content"] == "known"), "{shown}");
}

#[test]
fn a_bank_with_another_token_does_not_start_and_says_why() {
    let world = World::new();
    world.run("bank", &["stop"]);
    let path = world.state("bank").join("store/store.sqlite3");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute("UPDATE store_keys SET wrapping_key = zeroblob(32)", []).unwrap();
    drop(connection);
    let output = world.output("bank", &["serve"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("store_key_locked"), "{said}");
}
