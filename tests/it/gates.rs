//! The two gates as people use them: tokens of their own, an agent's call, and what is left as evidence.

use std::fs;

use serde_json::{Value, json};

use crate::clients::Bridge;
use crate::support::world::World;

const GATES: &str =
    "gates = [{ gate = \"owner\" }, { gate = \"bank\", approvals = 2, roles = [\"approver\", \"officer\"] }]";

/// The demo's bank with both gates, a second person with a token beside dora, and another customer's owner.
fn with_gates() -> World {
    let world = World::new();
    world.govern(GATES);
    for (name, roles) in [("erin", &["--role", "officer"][..]), ("otto", &["--role", "owner", "--owner", "OWN_002"])] {
        world.run(name, &["init", "--demo", "--kind", "operator", "--name", name]);
        let file = world.state("bank").join(format!("{name}.json")).display().to_string();
        world.run(name, &["operator", "show", "--out", &file]);
        world.run("bank", &[&["--operator", "bank-admin", "operator", "enrol", &file], roles].concat());
    }
    world
}

fn call(agent: &mut Bridge, tool: &str, arguments: Value) -> Value {
    agent.ask("tools/call", json!({ "name": tool, "arguments": arguments }))["structuredContent"].clone()
}

fn asked(agent: &mut Bridge, key: &str) -> (String, Value) {
    let order = json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": "2500", "idempotency_key": key });
    let asked = call(agent, "authorize_transfer", order);
    assert_eq!(asked["status"], "requires_approval", "{asked}");
    (asked["approval_id"].as_str().unwrap().to_owned(), asked)
}

#[test]
fn two_people_of_the_bank_and_the_owner_sign_with_their_tokens_and_the_agent_pays_once() {
    let world = with_gates();
    let at = |name: &str| world.state(name).display().to_string();
    let [dora, erin, olivia, otto] = ["dora", "erin", "olivia", "otto"].map(at);
    let run = |arguments: &[&str]| -> Value {
        serde_json::from_str(&world.run("bank", &[&["--json"], arguments].concat())).unwrap()
    };
    let refused = |arguments: &[&str]| world.refused("bank", arguments).1;
    world.run(
        "bank",
        &["--operator", "bank-admin", "account", "incoming", "CHK_001", "--amount", "9000", "--reference", "g"],
    );
    let mut agent = Bridge::start_with(&world.state("agent"), &[]);
    let (approval, answer) = asked(&mut agent, "gates-1");
    assert_eq!(answer["pending"], json!(["owner_consent_pending", "bank_approval_pending 0 of 2"]));

    // Whom the gates do not hear.
    assert_eq!(refused(&["--operator", "alice", "approvals", "approve", &approval]), "approval_unsigned");
    assert_eq!(refused(&["consent", "give", &approval, "--as", &otto]), "unknown_approval");
    assert_eq!(refused(&["consent", "give", &approval, "--as", &dora]), "operator_not_permitted");
    assert_eq!(refused(&["approvals", "approve", &approval, "--as", &olivia]), "operator_not_permitted");
    assert_eq!(run(&["consent", "list", "--as", &otto])["items"], json!([]));

    let first = run(&["approvals", "approve", &approval, "--as", &dora, "--note", "known payee"]);
    assert_eq!((&first["status"], &first["signed"]), (&json!("pending"), &json!(true)));
    assert_eq!(first["pending"], json!(["owner_consent_pending", "bank_approval_pending 1 of 2"]));
    assert_eq!(refused(&["approvals", "approve", &approval, "--as", &dora]), "already_spoken");
    let state = call(&mut agent, "get_approval_status", json!({ "approval_id": approval }));
    assert_eq!(state["pending"], first["pending"], "{state}");
    assert_eq!(run(&["consent", "list", "--as", &olivia])["items"][0]["approval_id"], json!(approval));
    assert_eq!(run(&["consent", "show", &approval, "--as", &olivia])["summary"]["amount"]["amount"], "2500.00");
    let second = run(&["consent", "give", &approval, "--as", &olivia]);
    assert_eq!(second["pending"], json!(["bank_approval_pending 1 of 2"]));
    assert_eq!(run(&["consent", "list", "--as", &olivia])["items"], json!([]));
    assert_eq!(run(&["approvals", "approve", &approval, "--as", &erin])["status"], "approved");
    assert_eq!(refused(&["consent", "refuse", &approval, "--as", &olivia]), "already_decided");

    let state = call(&mut agent, "get_approval_status", json!({ "approval_id": approval }));
    let order = json!({
        "transaction_id": state["transaction_id"], "from_account": "CHK_001", "to_account": "SAV_001", "amount": "2500",
    });
    assert_eq!(call(&mut agent, "execute_transfer", order.clone())["status"], "executed");
    assert_eq!(call(&mut agent, "execute_transfer", order)["repeated"], true);

    // The evidence stands on its own, and nothing of it can be changed.
    let shown = run(&["--operator", "auditor", "approvals", "show", &approval]);
    let file = world.state("bank").join("approval.json");
    let (path, certs) = (file.display().to_string(), world.state("bank").join("certs"));
    let [root, issuing] = ["root.pem", "issuing.pem"].map(|name| certs.join(name).display().to_string());
    // Where nothing is configured: an empty state directory.
    let verify = ["verify", "approval", &path, "--root", &root, "--issuing", &issuing];
    fs::write(&file, shown.to_string()).unwrap();
    let output = world.run("nowhere", &[&["--json"], &verify[..]].concat());
    let verdict: Value = serde_json::from_str(&output).unwrap();
    let said_by = |words: &Value| -> Vec<String> {
        words.as_array().unwrap().iter().map(|word| word["person"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(said_by(&verdict["signed"]["words"]), ["dora", "olivia", "erin"]);
    assert_eq!(verdict["signed"]["terms"]["amount_minor"], "250000");
    assert_eq!((&verdict["stated"]["status"], &verdict["signed"]["status"]), (&shown["status"], &Value::Null));
    // Several issuing CAs, each file with one or more of them; the right one has to be among them.
    let others = world.state("secco").join("certs/issuing.pem").display().to_string();
    let wrong = ["verify", "approval", &path, "--root", &root, "--issuing", &others];
    assert_eq!(world.refused("nowhere", &wrong), (3, "operator_certificate_invalid".to_owned()));
    world.run("nowhere", &["verify", "approval", &path, "--root", &root, "--issuing", &others, "--issuing", &issuing]);
    let bundle = world.state("bank").join("bundle.pem");
    let both = [&others, &issuing].map(|file| fs::read_to_string(file).unwrap()).concat();
    fs::write(&bundle, both).unwrap();
    world.run("nowhere", &["verify", "approval", &path, "--root", &root, "--issuing", bundle.to_str().unwrap()]);
    fs::write(&bundle, "nothing").unwrap();
    let unreadable = ["verify", "approval", &path, "--root", &root, "--issuing", bundle.to_str().unwrap()];
    assert_eq!(world.refused("nowhere", &unreadable), (2, "issuing_unreadable".to_owned()));
    // What nobody signed is shown apart from what somebody did, whoever put it there.
    let mut more = shown.clone();
    more["status"] = json!("executed twice");
    let mallory = json!({
        "gate": 1, "person": "mallory", "role": "officer", "answer": "yes", "note": "n", "at": shown["words"][0]["at"],
        "asserted": false, "evidence": null,
    });
    more["words"].as_array_mut().unwrap().push(mallory);
    fs::write(&file, more.to_string()).unwrap();
    let verdict: Value = serde_json::from_str(&world.run("nowhere", &[&["--json"], &verify[..]].concat())).unwrap();
    assert_eq!(said_by(&verdict["signed"]["words"]), ["dora", "olivia", "erin"]);
    let stated = &verdict["stated"]["words"];
    assert_eq!(said_by(stated), ["dora", "olivia", "erin", "mallory"]);
    assert_eq!((&stated[0]["is_signed"], &stated[3]["is_signed"]), (&json!(true), &json!(false)));
    let told = world.run("nowhere", &verify);
    let (signed, stated) = told.split_once("Only stated").expect("two parts");
    assert!(!signed.contains("mallory") && !signed.contains("executed twice"), "{told}");
    assert!(stated.contains("mallory") && stated.contains("without a signature"), "{told}");
    let bends: [(&str, Value, &str); 6] = [
        ("/signed/terms/amount_minor", json!("2"), "approval_mismatch"),
        ("/words/0/person", json!("erin"), "approval_mismatch"),
        ("/words/1/answer", json!("no"), "approval_mismatch"),
        (
            "/words/0/evidence/signature",
            shown["words"][1]["evidence"]["signature"].clone(),
            "approval_signature_invalid",
        ),
        (
            "/words/0/evidence/certificate",
            shown["words"][2]["evidence"]["certificate"].clone(),
            "approval_signature_invalid",
        ),
        ("/approval_id", json!("apr_01JDA3S5TGH0K8Y7R2Q4W6E8ZX"), "approval_mismatch"),
    ];
    for (place, value, name) in bends {
        let mut bent = shown.clone();
        *bent.pointer_mut(place).unwrap() = value;
        fs::write(&file, bent.to_string()).unwrap();
        assert_eq!(world.refused("nowhere", &verify), (3, name.to_owned()), "{place}");
    }

    // A refusal ends it; a revoked person speaks no more.
    let (denied, _) = asked(&mut agent, "gates-2");
    assert_eq!(run(&["consent", "refuse", &denied, "--as", &olivia])["status"], "denied");
    assert_eq!(refused(&["approvals", "approve", &denied, "--as", &dora]), "already_decided");
    let (open, _) = asked(&mut agent, "gates-3");
    let people = run(&["--operator", "auditor", "operator", "list"]);
    let key = people["items"].as_array().unwrap().iter().find(|person| person["name"] == "erin").unwrap();
    let revoke = ["--operator", "bank-officer", "revoke", key["key"].as_str().unwrap(), "--reason", "lost token"];
    world.run("bank", &revoke);
    assert_eq!(refused(&["approvals", "approve", &open, "--as", &erin]), "operator_revoked");
    assert_eq!(run(&["approvals", "deny", &open, "--as", &dora])["status"], "denied");
}

#[test]
fn nobody_is_heard_about_their_own_money_under_another_name_and_a_customer_sees_nothing_of_the_bank() {
    let world = with_gates();
    world.run("bank", &["stop"]);
    let config = world.state("bank").join("countersign.toml");
    let text = fs::read_to_string(&config).unwrap();
    let uid = text.split_once("\nuid = ").unwrap().1.lines().next().unwrap();
    let person = |name: &str, roles: &str, owner: &str| {
        format!("\n[[operator]]\nname = \"{name}\"\nuid = {uid}\nroles = [\"{roles}\"]\nowner = \"{owner}\"\n")
    };
    // Erin is olivia, with a token of her own; the customer herself has a user id here; otto is said to be another one.
    let people = person("erin", "officer", "OWN_001")
        + &person("olivia", "owner", "OWN_001")
        + &person("otto", "owner", "OWN_001");
    fs::write(&config, text + &people).unwrap();
    world.serve("bank");
    let at = |name: &str| world.state(name).display().to_string();
    let refused = |arguments: &[&str]| world.refused("bank", arguments).1;
    world.run(
        "bank",
        &["--operator", "bank-admin", "account", "incoming", "CHK_001", "--amount", "9000", "--reference", "g"],
    );
    let mut agent = Bridge::start_with(&world.state("agent"), &[]);
    let (approval, _) = asked(&mut agent, "own-1");
    agent.close();
    assert_eq!(refused(&["approvals", "approve", &approval, "--as", &at("erin")]), "maker_is_checker");
    assert_eq!(refused(&["consent", "give", &approval, "--as", &at("otto")]), "operator_two_customers");
    world.run("bank", &["consent", "give", &approval, "--as", &at("olivia")]);
    world.run("bank", &["approvals", "approve", &approval, "--as", &at("dora")]);

    let hers: [&[&str]; 2] = [&["mandate", "list"], &["consent", "list", "--as", &at("olivia")]];
    for words in hers {
        world.run("bank", &[&["--operator", "olivia"], words].concat());
    }
    let banks: [&[&str]; 12] = [
        &["status"],
        &["approvals", "list"],
        &["approvals", "show", &approval],
        &["account", "list"],
        &["transaction", "list"],
        &["audit", "show"],
        &["audit", "check"],
        &["operator", "list"],
        &["key", "list"],
        &["cert", "list"],
        &["monitor", "alerts"],
        &["ledger", "check"],
    ];
    for words in banks {
        let refused = world.refused("bank", &[&["--operator", "olivia"], words].concat());
        assert_eq!(refused, (3, "operator_not_permitted".to_owned()), "{words:?}");
    }
}

/// A note is kept for ever, in the leaf and in the row.
#[test]
fn a_note_is_one_line_of_bounded_length() {
    let world = with_gates();
    let mut agent = Bridge::start_with(&world.state("agent"), &[]);
    let (approval, _) = asked(&mut agent, "note-1");
    agent.close();
    let dora = world.state("dora").display().to_string();
    for note in ["two\nlines", &"x".repeat(100_000)] {
        let words = ["approvals", "deny", &approval, "--as", &dora, "--note", note];
        assert_eq!(world.refused("bank", &words).1, "reason_invalid", "{} bytes", note.len());
    }
    world.run("bank", &["approvals", "deny", &approval, "--as", &dora]);
}
