//! Every form of a revocation with real processes: shown first, carried out, repeated, with the daemon down; its receipt
//! verified with nothing but a root; freezes by one person and their end by two.

use serde_json::{Value, json};

use crate::support::world::World;

const AGENT: &str = "spiffe://countersign.example/agent/purchaser/assistant";

fn ask(world: &World, party: &str, operator: &str, arguments: &[&str]) -> Value {
    let text = world.run(party, &[&["--json", "--operator", operator], arguments].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
}

fn bank(world: &World, arguments: &[&str]) -> Value {
    ask(world, "bank", "bank-officer", arguments)
}

fn denied(world: &World, arguments: &[&str]) -> String {
    world.refused("bank", &[&["--operator", "bank-officer"], arguments].concat()).1
}

#[test]
fn every_form_is_shown_carried_out_and_repeated_and_its_receipt_stands_alone() {
    let world = World::new();
    the_doctor_misses_hosts_that_nobody_enrolled(&world);
    one_person_freezes_and_two_lift_it(&world);
    a_key_is_blocked_before_anybody_has_seen_it(&world);
    wrong_words_are_refused_by_name(&world);
    serials_come_from_a_file(&world);
    the_other_partys_issuer_is_refused_here(&world);
    with_the_daemon_down(&world);
}

fn one_person_freezes_and_two_lift_it(world: &World) {
    let shown = bank(world, &["freeze", "assistant", "--reason", "odd payments", "--dry-run"]);
    assert_eq!((&shown["dry_run"], &shown["affected"]), (&json!(true), &json!({ "certificates": 1, "agents": 1 })));
    assert_eq!(bank(world, &["freeze", "--list"])["items"], json!([]));
    let frozen = bank(world, &["freeze", "assistant", "--reason", "odd payments"]);
    assert!(frozen["effective"] == true && frozen["already"] == false && frozen["pending"] == json!({}), "{frozen}");
    assert_eq!(bank(world, &["freeze", AGENT, "--reason", "odd payments"])["already"], true);
    verified(world, &frozen, "frozen");
    assert_eq!(bank(world, &["freeze", "--list"])["items"][0]["by"], "bank-officer");
    let [(result, told)] = &doctor(world, "bank", "freezes")[..] else { panic!("one line for one freeze") };
    assert!(result == "warn" && told.contains("by bank-officer: odd payments"), "{told}");

    let first = bank(world, &["unfreeze", "assistant", "--note", "explained"]);
    assert_eq!((&first["lifted"], &first["recorded"]), (&json!(false), &json!(true)));
    assert_eq!(denied(world, &["unfreeze", "assistant", "--note", "explained"]), "maker_is_checker");
    assert_eq!(bank(world, &["freeze", "--list"])["items"][0]["thaw_asked_by"], "bank-officer");
    let second = ask(world, "bank", "bank-admin", &["unfreeze", "assistant", "--note", "seen"]);
    assert!(second["lifted"] == true && second["effective"] == true, "{second}");
    verified(world, &second, "unfrozen");
    assert_eq!(doctor(world, "bank", "freezes"), [("ok".into(), "nobody is frozen".into())]);
    assert_eq!(denied(world, &["unfreeze", "assistant", "--note", "again"]), "not_frozen");
    assert_eq!(denied(world, &["unfreeze", "--all", "--note", "again"]), "not_frozen");
    assert_eq!(denied(world, &["freeze", "nobody", "--reason", "x"]), "unknown_agent");
}

/// What the doctor says of one thing: (result, sentence), whatever else it finds.
fn doctor(world: &World, party: &str, check: &str) -> Vec<(String, String)> {
    let output = world.output(party, &["--json", "--operator", &format!("{party}-admin"), "doctor"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let items = report["items"].as_array().unwrap().iter().filter(|item| item["check"] == check);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    items.map(|item| (text(&item["result"]), text(&item["detail"]))).collect()
}

fn the_doctor_misses_hosts_that_nobody_enrolled(world: &World) {
    let enrolled = [("ok".to_owned(), "1 enrolled".to_owned())];
    for party in ["secco", "bank"] {
        assert_eq!(doctor(world, party, "agent hosts"), enrolled);
        assert_eq!(doctor(world, party, "other parties")[0].0, "ok");
    }
    let admin = |arguments: &[&str]| ask(world, "secco", "secco-admin", arguments);
    let host = world.state("secco").join("host.json").display().to_string();
    world.run("agent", &["--operator", "host-admin", "host", "show", "--out", &host]);
    let key = admin(&["host", "list"])["items"][0]["host_key"].clone();
    assert_eq!(admin(&["host", "remove", "agent-host"])["host_key"], key);
    assert_eq!(doctor(world, "secco", "agent hosts")[0].0, "warn");
    assert_eq!(admin(&["host", "enrol", &host])["changed"], true);
    assert_eq!(doctor(world, "secco", "agent hosts"), enrolled);
}

fn a_key_is_blocked_before_anybody_has_seen_it(world: &World) {
    let key = "5e".repeat(32);
    let blocked = bank(world, &["revoke", "--key", &key, "--reason", "key-compromise"]);
    assert!(blocked["already"] == false && blocked["effective"] == true, "{blocked}");
    verified(world, &blocked, "revoked");
    assert_eq!(bank(world, &["revoke", "--key", &key, "--reason", "key-compromise"])["already"], true);
    // Without the flag it may be a slip of the finger.
    assert_eq!(denied(world, &["revoke", &"6e".repeat(32), "--reason", "x"]), "unknown_agent");
}

fn wrong_words_are_refused_by_name(world: &World) {
    for (arguments, name) in [
        (&["revoke", "assistant", "--reason", "certificate-hold"][..], "reason_not_allowed"),
        (&["revoke", "assistant", "--reason", "removeFromCRL"], "reason_not_allowed"),
        (&["revoke", "assistant", "--reason", "ca-compromise"], "reason_not_allowed"),
        (&["revoke", "--issuer", "00", "--reason", "x"], "unknown_issuer"),
        (&["revoke", "nobody", "--reason", "x"], "unknown_agent"),
    ] {
        assert_eq!(denied(world, arguments), name, "{arguments:?}");
    }
    let (code, name) = world.refused("bank", &["--operator", "alice", "revoke", "assistant", "--reason", "x"]);
    assert_eq!((code, name.as_str()), (3, "operator_not_permitted"));
}

fn serials_come_from_a_file(world: &World) {
    let listed = bank(world, &["cert", "list"]);
    let of = |profile: &str| {
        let found = listed["items"].as_array().unwrap().iter().find(|one| one["profile"] == profile);
        found.unwrap_or_else(|| panic!("{listed}"))["serial"].as_str().unwrap().to_owned()
    };
    let file = world.state("bank").join("serials.txt");
    let path = file.display().to_string();
    let revoke = ["revoke", "--file", &path, "--reason", "superseded"];
    std::fs::write(&file, "# nothing but a comment\n\n").unwrap();
    assert_eq!(denied(world, &revoke), "file_empty");
    std::fs::write(&file, format!("{}\nnot a number\n", of("manifest"))).unwrap();
    assert_eq!(denied(world, &revoke), "serial_malformed");
    std::fs::write(&file, format!("{}\n4141414141414141\n", of("manifest"))).unwrap();
    assert_eq!(denied(world, &revoke), "unknown_serial");
    std::fs::write(&file, format!("{} # the manifest's\n{}\n{0}\n", of("manifest"), of("tls-client"))).unwrap();
    let shown = bank(world, &[&revoke[..], &["--dry-run"]].concat());
    assert_eq!((shown["certificates"].as_array().unwrap().len(), &shown["recorded"]), (2, &json!(false)));
    let revoked = bank(world, &revoke);
    assert_eq!((&revoked["certificates_revoked"], &revoked["already"]), (&json!(2), &json!(false)));
    verified(world, &revoked, "revoked");
    let again = bank(world, &revoke);
    assert_eq!((&again["certificates_revoked"], &again["already"]), (&json!(0), &json!(true)));
}

fn the_other_partys_issuer_is_refused_here(world: &World) {
    let issuing = world.state("secco").join("certs/crl");
    let mut names: Vec<String> =
        std::fs::read_dir(issuing).unwrap().map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".crl"));
    let known = names.iter().map(|name| name.trim_end_matches(".crl").to_owned());
    // Of its two lists one is its root's, which is no issuing CA.
    let mut answers: Vec<bool> = known
        .map(|identifier| {
            let revoke = ["revoke", "--issuer", &identifier, "--reason", "ca-compromise", "--dry-run"];
            let output = world.output("bank", &[&["--json", "--operator", "bank-officer"][..], &revoke].concat());
            if output.status.success() {
                let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
                assert_eq!(shown["affected"], json!({ "certificates": 3, "agents": 3 }), "{shown}");
            }
            output.status.success()
        })
        .collect();
    answers.sort_unstable();
    assert_eq!(answers, [false, true]);
}

/// Everybody, at once; and what is left of it when the daemon was down.
fn with_the_daemon_down(world: &World) {
    world.run("bank", &["stop"]);
    let shown = bank(world, &["revoke", "--all", "--reason", "key-compromise", "--dry-run"]);
    assert_eq!(shown["affected"], json!({ "certificates": 3, "agents": 3 }));
    let frozen = bank(world, &["freeze", "--all", "--reason", "an incident"]);
    assert!(frozen["recorded"] == true && frozen["effective"] == true, "{frozen}");
    let revoked = bank(world, &["revoke", "--all", "--reason", "key-compromise"]);
    assert!(revoked["already"] == false && revoked["pending"] == json!({}), "{revoked}");
    verified(world, &revoked, "revoked");
    let key = "77".repeat(32);
    assert_eq!(bank(world, &["revoke", "--key", &key, "--reason", "x"])["effective"], true);
    assert_eq!(bank(world, &["revoke", "assistant", "--reason", "x"])["already"], true);
    let lifted = ["bank-officer", "bank-admin"]
        .map(|by| ask(world, "bank", by, &["unfreeze", "--all", "--note", "over"])["lifted"].clone());
    assert_eq!(lifted, [json!(false), json!(true)]);
    let checked = bank(world, &["crl", "check"]);
    assert_eq!(checked["differences"], json!([]), "{checked}");
    world.serve("bank");
    let again = bank(world, &["revoke", "--all", "--reason", "key-compromise"]);
    // Each agent has a row of its own by now, so that it is everybody once more.
    assert_eq!((&again["recorded"], &again["certificates_revoked"]), (&json!(true), &json!(0)));
}

/// The receipt verifies with the bank's root alone, and nothing in it can be changed.
fn verified(world: &World, answer: &Value, what: &str) {
    let name = answer["receipt"]["file"].as_str().unwrap_or_else(|| panic!("no receipt: {answer}"));
    let file = world.state("bank").join(name);
    let root = world.state("bank").join("certs/root.pem").display().to_string();
    let verify = |path: &std::path::Path| {
        world.output("agent", &["--json", "verify", "revocation", &path.display().to_string(), "--root", &root])
    };
    let output = verify(&file);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    let document = &shown["document"];
    assert_eq!((&document["what"], &document["party"]), (&json!(what), &json!("bank")));
    assert!(
        document["effective"] == true && document["effective_at"].is_string() && document["recorded_at"].is_string()
    );
    let text = std::fs::read_to_string(&file).unwrap();
    for (from, to) in
        [("bank-", "bonk-"), ("\"effective\":true", "\"effective\":false"), ("\n", ""), ("{\"chain\"", "{ \"chain\"")]
    {
        let forged = world.state("agent").join("forged.json");
        std::fs::write(&forged, text.replacen(from, to, 1)).unwrap();
        assert_eq!(verify(&forged).status.code(), Some(3), "{from}");
    }
    let secco = world.state("secco").join("certs/root.pem").display().to_string();
    let path = file.display().to_string();
    assert_eq!(world.refused("agent", &["verify", "revocation", &path, "--root", &secco]).1, "chain_root_differs");
}
