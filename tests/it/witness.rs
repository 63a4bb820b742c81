//! The security company's daemon as the witness of the bank's log: two real daemons, a store that is put back, a witness
//! that is away, and the open door for other logs.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::kernel::merkle::{consistency_path, leaf_hash, root};
use countersign::kernel::note::{Checkpoint, NoteSignature, SignatureType, SignedNote, verifier_key};
use countersign::kernel::sign::{Algorithm, spki_der};
use countersign::kernel::types::Sha256;
use countersign::kernel::witness::AddCheckpoint;
use serde_json::{Value, json};

use crate::clients::Bridge;
use crate::crash::until;
use crate::parties::Parties;
use crate::peer_lease::{is_served, is_served_at_last};
use crate::support::world::{PROGRAM, World};

/// Quick, so that a test waits for what happens and not for a clock.
const QUICK: &str =
    "[breaker]\nprobe_successes = 2\nrecovered_ms = 0\nprobe_pause_ms = 100\nprobe_pause_max_ms = 500\n";

/// Both daemons, the bank's log cosigned; money stops after so many seconds.
pub fn cosigned(seconds: u32) -> Parties {
    let parties = Parties::new();
    let world = &parties.world;
    world.run("bank", &["stop"]);
    witnessed(world, &format!("{{ seconds = {seconds}, leaves = 100000 }}"));
    let path = world.state("bank").join("countersign.toml");
    let written = fs::read_to_string(&path).unwrap();
    let (before, rest) = written.split_once("[breaker]").expect("the sample has the section");
    let (_, after) = rest.split_once("\n\n").expect("it ends");
    fs::write(&path, format!("{before}{QUICK}\n{after}")).unwrap();
    world.serve("bank");
    is_cosigned(world);
    parties
}

/// Sets the bank's limit.
fn witnessed(world: &World, lag: &str) {
    let path = world.state("bank").join("countersign.toml");
    let text = fs::read_to_string(&path).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("witness_")).collect();
    let wished = format!("[audit]\nwitness_lag_max = {lag}\nwitness_interval_ms = 100");
    fs::write(&path, kept.join("\n").replace("[audit]", &wished)).unwrap();
}

pub fn ask(world: &World, party: &str, operator: &str, arguments: &[&str]) -> Value {
    let output = world.output(party, &[&["--json", "--operator", operator], arguments].concat());
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn status(world: &World, party: &str) -> Value {
    ask(world, party, &format!("{party}-admin"), &["witness", "status"])
}

/// Until every leaf that the bank has now has its cosignature; answers how many have.
pub fn is_cosigned(world: &World) -> u64 {
    let log = ask(world, "bank", "auditor", &["audit", "check"]);
    let leaves = log["leaves"].as_u64().unwrap() + log["waiting"].as_u64().unwrap();
    until("a cosignature", || {
        let cosigning = &status(world, "bank")["cosigning"];
        let is_all = cosigning["fault"].is_null();
        cosigning["cosigned_size"].as_u64().filter(|size| is_all && *size >= leaves)
    })
}

/// What the witness remembers of the bank's log.
fn remembered(world: &World) -> Value {
    status(world, "secco")["items"][0].clone()
}

/// Adds a leaf: something that is refused.
fn leaf(world: &World) {
    world.refused("bank", &["--operator", "auditor", "bank", "stop", "--reason", "no role", "--yes"]);
}

fn doctor(world: &World, party: &str) -> (String, String) {
    let report = ask(world, party, &format!("{party}-admin"), &["doctor"]);
    let lines: Vec<&Value> =
        report["items"].as_array().unwrap().iter().filter(|item| item["check"] == "witness").collect();
    let worst = lines.iter().find(|line| line["result"] != "ok").unwrap_or(&lines[0]);
    (worst["result"].as_str().unwrap().to_owned(), worst["detail"].as_str().unwrap().to_owned())
}

/// Starts the bank, which must fail; answers the exit code and the failure's name.
fn serve_refused(world: &World) -> (i32, String) {
    let output = std::process::Command::new(PROGRAM)
        .args(["serve", "--state"])
        .arg(world.state("bank"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), said["error"]["name"].as_str().unwrap_or_default().to_owned())
}

/// Stops the bank and copies its store.
fn backed_up(world: &World, to: &Path) {
    world.run("bank", &["stop"]);
    copy(&world.state("bank").join("store"), to);
}

fn put_back(world: &World, from: &Path) {
    let store = world.state("bank").join("store");
    fs::remove_dir_all(&store).unwrap();
    copy(from, &store);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The bank's store, as whoever has the database reaches it.
fn store(world: &World) -> rusqlite::Connection {
    rusqlite::Connection::open(world.state("bank").join("store/store.sqlite3")).unwrap()
}

fn newest_checkpoint(world: &World) -> i64 {
    store(world).query_one("SELECT max(size) FROM checkpoints", [], |row| row.get(0)).unwrap()
}

fn balance(bridge: &mut Bridge) -> Value {
    bridge.ask("tools/call", json!({ "name": "get_account_balance", "arguments": { "account_id": "CHK_001" } }))
}

fn transfer(bridge: &mut Bridge, key: &str) -> Value {
    let order = json!({
        "from_account": "CHK_001", "to_account": "SAV_001", "amount": "1.00", "idempotency_key": key,
    });
    bridge.ask("tools/call", json!({ "name": "authorize_transfer", "arguments": order }))["structuredContent"].clone()
}

#[test]
fn receipts_proofs_and_copies_carry_the_witnesss_word() {
    let parties = cosigned(60);
    let world = &parties.world;
    assert_eq!(doctor(world, "bank").0, "ok");
    let head = remembered(world);
    assert_eq!((&head["party"], &head["halted"]), (&json!("bank"), &Value::Null));
    assert_eq!(head["origin"], "bank.countersign.example/log");

    let list = ask(world, "bank", "auditor", &["transaction", "list"]);
    let mut transactions = list["items"].as_array().unwrap().iter();
    let executed = transactions.find(|one| one["state"] == "executed" || one["status"] == "executed");
    let transaction = executed.unwrap_or_else(|| panic!("{list}"))["transaction_id"].as_str().unwrap().to_owned();
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name).display().to_string();
    let root_of = |party: &str| world.state(party).join("certs/root.pem").display().to_string();
    let roots = ["--root", &root_of("bank"), "--witness-root", &root_of("secco")];
    world.run("bank", &["--operator", "auditor", "receipt", "show", &transaction, "--out", &place("receipt")]);
    world.run("bank", &["--operator", "auditor", "audit", "prove", &transaction, "--out", &place("proof")]);
    leaf(world);
    world.run("bank", &["--operator", "auditor", "audit", "export", &place("log")]);
    for (what, name) in [("receipt", "receipt"), ("proof", "proof"), ("log", "log")] {
        let verified = world.run("bank", &[&["--json", "verify", what, &place(name)], &roots[..]].concat());
        let verified: Value = serde_json::from_str(&verified).unwrap();
        assert_eq!(verified["cosignatures"][0]["name"], "secco.countersign.example/witness", "{verified}");
        assert_eq!(verified["cosignatures"][0]["anchored"], "yes", "{verified}");
        let said = world.run("bank", &[&["verify", what, &place(name)], &roots[..]].concat());
        assert!(said.contains("certified under the root that you trust"), "{said}");
        let by_nobody = ["--root", &root_of("bank"), "--witness-root", &root_of("bank")];
        let refused = world.refused("bank", &[&["verify", what, &place(name)], &by_nobody[..]].concat());
        assert_eq!(refused, (3, "cosignature_missing".into()), "{what}");
    }
    // A copy that is brought up to date stays one history, whoever has signed each head of it.
    leaf(world);
    world.run("bank", &["--operator", "auditor", "audit", "export", &place("log")]);
    world.run("bank", &[&["verify", "log", &place("log")], &roots[..]].concat());
}

#[test]
fn without_its_witness_a_bank_stops_money_goes_on_reading_and_heals_by_itself() {
    let parties = cosigned(1);
    let world = &parties.world;
    let mut bridge = Bridge::start_as(&world.state("agent"), "assistant");
    assert_eq!(transfer(&mut bridge, "before")["status"], "approved");
    is_cosigned(world);
    // Whoever has the database writes a cosignature beside each checkpoint at once: that is nobody's word.
    let forged = "CREATE TRIGGER forged AFTER UPDATE OF signed ON checkpoints BEGIN
        INSERT OR IGNORE INTO cosignatures (size, line, chain)
        SELECT NEW.size, line, chain FROM cosignatures ORDER BY size LIMIT 1; END";
    store(world).execute_batch(forged).unwrap();
    world.run("secco", &["stop"]);
    leaf(world);
    until("the stop", || {
        let bank = ask(world, "bank", "auditor", &["bank", "status"]);
        (bank["causes"][0]["cause"] == "witness_lag").then_some(())
    });
    let (result, detail) = doctor(world, "bank");
    assert!(result == "fail" && detail.contains("money is stopped"), "{detail}");
    assert_eq!(status(world, "bank")["cosigning"]["fault"]["name"], "peer_unreachable");
    let queued = transfer(&mut bridge, "meanwhile");
    assert_eq!(queued["status"], "queued_manual", "{queued}");
    assert_eq!(balance(&mut bridge)["structuredContent"]["currency"], "USD", "it reads");

    world.serve("secco");
    until("it goes on", || (ask(world, "bank", "auditor", &["bank", "status"])["state"] == "closed").then_some(()));
    until("a payment", || (transfer(&mut bridge, "after")["status"] == "approved").then_some(()));
    is_cosigned(world);
    bridge.close();
}

#[test]
fn a_store_from_a_backup_is_refused_at_the_start_and_the_witness_goes_on_when_people_have_looked() {
    let parties = cosigned(60);
    let world = &parties.world;
    let copies = tempfile::tempdir().unwrap();
    let (old, new) = (copies.path().join("old"), copies.path().join("new"));
    backed_up(world, &old);
    world.serve("bank");
    for _ in 0..3 {
        leaf(world);
    }
    let size = is_cosigned(world);
    backed_up(world, &new);
    put_back(world, &old);
    let signed = newest_checkpoint(world);
    assert_eq!(serve_refused(world), (3, "store_older_than_witnessed".into()));
    assert_eq!(newest_checkpoint(world), signed, "an old store is left as it is: no second head of any size is signed");
    let halted = remembered(world);
    assert_eq!(halted["halted"]["cause"], "log_rolled_back", "{halted}");
    assert!(halted["head"]["size"].as_u64().unwrap() >= size);
    let (result, detail) = doctor(world, "secco");
    assert!(result == "fail" && detail.contains("log_rolled_back"), "{detail}");

    // The newest store agrees with the witness, which cosigns nothing all the same until somebody has looked.
    put_back(world, &new);
    world.serve("bank");
    leaf(world);
    until("the witness says no", || {
        (status(world, "bank")["cosigning"]["fault"]["name"] == "log_rolled_back").then_some(())
    });
    let origin = "bank.countersign.example/log";
    let accept = ["witness", "accept", origin, "--reason", "the newest store is back"];
    assert_eq!(world.refused("bank", &[&["--operator", "bank-admin"], &accept[..]].concat()).1, "not_this_party");
    let another = ["--operator", "secco-officer", "witness", "accept", "another/log", "--reason", "x"];
    assert_eq!(world.refused("secco", &another), (3, "unknown_log".into()));
    assert_eq!(ask(world, "secco", "secco-officer", &accept)["changed"], true);
    assert_eq!(ask(world, "secco", "secco-officer", &accept)["changed"], false);
    is_cosigned(world);
    assert_eq!(doctor(world, "secco").0, "ok");
    let leaves = ask(world, "secco", "secco-admin", &["audit", "show", "--limit", "1000"]);
    let acts: Vec<&Value> = leaves["items"].as_array().unwrap().iter().map(|leaf| &leaf["body"]).collect();
    let halts = acts.iter().filter(|body| body["act"] == "witness" && body["result"]["status"] == "halted").count();
    // What was refused and what changed nothing have their leaves, too.
    assert_eq!((halts, acts.iter().filter(|body| body["act"] == "accept_log").count()), (1, 3));
}

/// Takes the signature of the newest batch away, as if the daemon had been killed before it was made.
fn unsigned(world: &World) -> impl Fn() -> bool {
    let taken = "UPDATE batches SET signature = NULL, key = NULL WHERE batch = (SELECT max(batch) FROM batches)";
    let batches = store(world);
    assert_eq!(batches.execute(taken, []).unwrap(), 1);
    move || {
        let waiting = "SELECT count(*) FROM batches WHERE signature IS NULL";
        batches.query_one(waiting, [], |row| row.get::<_, i64>(0)).unwrap() > 0
    }
}

#[test]
fn what_an_earlier_run_left_is_signed_once_the_witness_has_agreed() {
    let parties = cosigned(60);
    let world = &parties.world;
    let copies = tempfile::tempdir().unwrap();
    let old = copies.path().join("old");
    backed_up(world, &old);
    world.run("secco", &["stop"]);
    let waits = unsigned(world);
    // One that is started for a command, and one that serves: nobody has said whether this store is the newest.
    leaf(world);
    assert!(waits());
    world.serve("bank");
    assert!(waits());
    leaf(world);
    assert!(waits());
    world.serve("secco");
    until("the signature", || (!waits()).then_some(()));

    // One command may look at an older store. Nothing of it is signed.
    leaf(world);
    is_cosigned(world);
    world.run("bank", &["stop"]);
    drop(waits);
    put_back(world, &old);
    let (signed, waits) = (newest_checkpoint(world), unsigned(world));
    let looked = world.output("bank", &["--operator", "auditor", "audit", "check"]);
    assert!(String::from_utf8_lossy(&looked.stderr).contains("store_older_than_witnessed"), "{looked:?}");
    assert_eq!((newest_checkpoint(world), waits()), (signed, true));
    // Nor is anything recorded in it, signed for somebody or archived; only what stops an agent is.
    let export = copies.path().join("leaves.jsonl");
    let rows: [&[&str]; 4] = [
        &[
            "--operator",
            "bank-admin",
            "account",
            "incoming",
            "CHK_001",
            "--amount",
            "9",
            "--currency",
            "USD",
            "--reference",
            "x",
        ],
        &["--operator", "bank-officer", "grant", "revoke", "shopper", "CHK_001"],
        &["--operator", "auditor", "audit", "search", "--out", export.to_str().unwrap()],
        &["--operator", "auditor", "audit", "archive", "now"],
    ];
    let leaves = || store(world).query_one("SELECT count(*) FROM leaves", [], |row| row.get::<_, i64>(0)).unwrap();
    let before = leaves();
    for row in rows {
        let output = world.output("bank", &[&["--json"], row].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{row:?}: {said}");
        assert!(said.contains("\"name\": \"store_older_than_witnessed\""), "{row:?}: {said}");
    }
    assert_eq!((leaves(), newest_checkpoint(world), export.exists()), (before, signed, false));
    assert_eq!(doctor(world, "bank").0, "fail");
    assert_eq!(serve_refused(world), (3, "store_older_than_witnessed".into()));
    assert_eq!((newest_checkpoint(world), waits()), (signed, true));
}

#[test]
fn another_history_is_refused_and_both_parties_can_agree_to_go_on_from_it() {
    let parties = cosigned(60);
    let world = &parties.world;
    let copies = tempfile::tempdir().unwrap();
    let old = copies.path().join("old");
    backed_up(world, &old);
    world.serve("bank");
    leaf(world);
    let size = is_cosigned(world);
    world.run("bank", &["stop"]);
    // The bank alone: an older store goes on with other leaves, and nobody is asked.
    put_back(world, &old);
    witnessed(world, "\"off\"");
    world.serve("bank");
    until("a longer log", || {
        leaf(world);
        let log = ask(world, "bank", "auditor", &["status"])["log"].clone();
        log["signed_size"].as_u64().filter(|signed| *signed > size)
    });
    let asked = world.refused("bank", &["--operator", "bank-officer", "witness", "accept", "x", "--reason", "x"]);
    assert_eq!(asked.1, "not_this_party");
    world.run("bank", &["stop"]);
    witnessed(world, "{ seconds = 60, leaves = 100000 }");
    assert_eq!(serve_refused(world), (3, "log_forked".into()));
    let halted = remembered(world);
    assert_eq!(halted["halted"]["cause"], "log_forked", "{halted}");

    // What was seen before is lost for ever: both agree on what there is.
    let shown = &halted["halted"]["shown"];
    let (leaves, hash) = (shown["size"].to_string(), shown["root"].as_str().unwrap().to_owned());
    assert!(halted["halted"]["note"].as_str().unwrap().contains("bank.countersign.example/log\n"), "{halted}");
    let origin = "bank.countersign.example/log";
    let accept = ["witness", "accept", origin, "--reason", "lost for ever", "--size", &leaves, "--root", &hash];
    let other = ["witness", "accept", origin, "--reason", "x", "--size", "1", "--root", &hash];
    let by = |person: &str, words: &[&str]| world.refused("secco", &[&["--operator", person], words].concat()).1;
    assert_eq!(by("secco-officer", &other), "head_not_shown");
    // What was seen is forgotten by two people.
    assert_eq!(ask(world, "secco", "secco-officer", &accept)["accepted"], false);
    assert_eq!(remembered(world)["halted"]["accept_asked_by"], "secco-officer");
    assert_eq!(by("secco-officer", &accept), "maker_is_checker");
    assert_eq!(ask(world, "secco", "secco-admin", &accept)["accepted"], true);
    assert_eq!(by("secco-officer", &other), "log_not_halted");
    world.serve("bank");
    is_cosigned(world);
}

#[test]
fn a_witness_whose_own_store_is_an_old_one_finds_out_and_cosigns_no_second_history() {
    let parties = cosigned(60);
    let world = &parties.world;
    leaf(world);
    let size = is_cosigned(world);
    let older: (i64, Vec<u8>) = store(world)
        .query_one("SELECT size, root FROM checkpoints ORDER BY size LIMIT 1", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    let path = world.state("secco").join("store/store.sqlite3");
    let witness = rusqlite::Connection::open(path).unwrap();
    assert_eq!(witness.execute("UPDATE witnessed SET size = ?1, root = ?2", older).unwrap(), 1);
    leaf(world);
    until("the witness says no", || {
        (status(world, "bank")["cosigning"]["fault"]["name"] == "witness_older_than_cosigned").then_some(())
    });
    let (result, detail) = doctor(world, "secco");
    assert!(result == "fail" && detail.contains("witness_older_than_cosigned"), "{detail}");
    let halted = remembered(world);
    assert!(halted["halted"]["shown"]["size"].as_u64().unwrap() >= size, "{halted}");
    // Its own signature says from where it goes on: nothing is forgotten, so one person is enough.
    let accept = ["witness", "accept", "bank.countersign.example/log", "--reason", "an old store was put back"];
    assert_eq!(ask(world, "secco", "secco-officer", &accept)["accepted"], true);
    is_cosigned(world);
}

#[test]
fn a_bank_that_runs_refuses_its_agents_once_the_witness_has_seen_more() {
    let parties = cosigned(60);
    let world = &parties.world;
    let copies = tempfile::tempdir().unwrap();
    let old = copies.path().join("old");
    backed_up(world, &old);
    world.serve("bank");
    leaf(world);
    is_cosigned(world);
    world.run("bank", &["stop"]);
    world.run("secco", &["stop"]);
    // The witness cannot be asked at the start: the lag counts, and its word when it comes.
    put_back(world, &old);
    world.serve("bank");
    assert!(is_served_at_last(world));
    world.serve("secco");
    until("the refusal", || {
        // Shorter than what was cosigned, or grown beyond it with other leaves meanwhile: the start's own are enough.
        let refused = status(world, "bank")["cosigning"]["refused"]["name"].clone();
        (refused == "store_older_than_witnessed" || refused == "log_forked").then_some(())
    });
    assert!(!is_served(world));
    let (result, detail) = doctor(world, "bank");
    assert!(result == "fail" && detail.contains("witness has cosigned"), "{detail}");
    until("money is stopped", || {
        let bank = ask(world, "bank", "auditor", &["bank", "status"]);
        (bank["causes"][0]["cause"] == "witness_lag").then_some(())
    });
}

#[test]
fn a_store_that_loses_commits_while_its_bank_runs_is_refused_at_once() {
    let parties = cosigned(60);
    let world = &parties.world;
    leaf(world);
    let size = is_cosigned(world);
    assert!(is_served(world));
    let size = i64::try_from(is_cosigned(world).max(size)).unwrap();
    // What a fail-over to a copy that was behind leaves.
    let lost = "DELETE FROM cosignatures WHERE size > (SELECT max(size) FROM checkpoints WHERE size < ?1)";
    let (store, gone) = (store(world), lost.replace("DELETE FROM cosignatures", "DELETE FROM checkpoints"));
    assert!(store.execute(lost, [size]).unwrap() > 0 && store.execute(&gone, [size]).unwrap() > 0);
    until("the refusal", || {
        let refused = status(world, "bank")["cosigning"]["refused"]["name"].clone();
        (refused == "store_older_than_witnessed").then_some(())
    });
    assert!(!is_served(world));
    until("the witness knows", || (remembered(world)["halted"]["cause"] == "log_rolled_back").then_some(()));
}

/// A log of another, with a key of its own.
struct Log {
    pair: Ed25519KeyPair,
    leaves: Vec<Sha256>,
}

const ORIGIN: &str = "other.example/log";

impl Log {
    fn new(seed: u8) -> Self {
        let leaves = (0..40_u8).map(|number| leaf_hash(&[seed, number])).collect();
        Self { pair: Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap(), leaves }
    }

    fn spki(&self) -> Vec<u8> {
        spki_der(Algorithm::Ed25519, self.pair.public_key().as_ref())
    }

    fn verifier_key(&self) -> String {
        verifier_key(SignatureType::Ed25519, ORIGIN, &self.spki()).unwrap()
    }

    fn checkpoint(&self, size: usize) -> Checkpoint {
        Checkpoint { origin: ORIGIN.into(), size: size as u64, root: root(&self.leaves[..size]) }
    }

    fn request(&self, old: usize, size: usize) -> AddCheckpoint {
        let text = self.checkpoint(size).text();
        let signature = self.pair.sign(text.as_bytes());
        let line = NoteSignature::over_text(ORIGIN, &self.spki(), signature.as_ref()).unwrap();
        let checkpoint = SignedNote { text, signatures: vec![line] }.compose();
        let proof = consistency_path(&self.leaves[..size], old as u64);
        AddCheckpoint { old_size: old as u64, proof, checkpoint }
    }
}

/// Status, media type and body.
fn post(address: &str, path: &str, body: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nhost: w\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // It may have answered before all of it was sent.
    let _ = stream.write_all(body.as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    let media = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default().to_owned();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), media, body.to_owned())
}

#[test]
fn other_logs_are_cosigned_over_the_protocol_that_others_speak() {
    let world = World::new();
    let (ours, theirs) = (Log::new(1), Log::new(2));
    world.run("secco", &["stop"]);
    let path = world.state("secco").join("countersign.toml");
    let text = fs::read_to_string(&path).unwrap();
    let log = format!("[[witness.log]]\norigin = \"{ORIGIN}\"\nkey = \"{}\"\n\n[pki]\n", ours.verifier_key());
    fs::write(&path, text.replace("[pki]\n", &log)).unwrap();
    world.serve("secco");
    let ports: Value = serde_json::from_slice(&fs::read(world.state("secco").join("run/ports.json")).unwrap()).unwrap();
    let address = ports["pki"].as_str().unwrap().to_owned();
    let add = |request: &AddCheckpoint| post(&address, "/witness/add-checkpoint", &request.compose());

    let foreign = AddCheckpoint {
        checkpoint: ours.request(0, 5).checkpoint.replace("other.example", "unknown.example"),
        ..ours.request(0, 5)
    };
    let unsigned =
        AddCheckpoint { checkpoint: ours.request(0, 5).checkpoint.replace("\n5\n", "\n6\n"), ..ours.request(0, 5) };
    assert_eq!(post(&address, "/witness/add-checkpoint", "old 1\n").0, 400);
    assert_eq!(post(&address, "/witness/add-checkpoint", &"x".repeat(20_000)).0, 413);
    assert_eq!(post(&address, "/witness/other", "").0, 404);
    assert_eq!(add(&foreign).0, 404);
    assert_eq!(add(&unsigned).0, 403);
    assert_eq!(add(&ours.request(3, 5)), (409, "text/x.tlog.size".into(), "0\n".into()));

    // The cosignature verifies under the key that the witness shows.
    let key = status(&world, "secco")["key"].as_str().unwrap().to_owned();
    let (name, encoded) = (key.split('+').next().unwrap(), key.splitn(3, '+').nth(2).unwrap());
    let public = STANDARD.decode(encoded).unwrap();
    assert_eq!(public[0], 4);
    let spki = spki_der(Algorithm::Ed25519, &public[1..]);
    let cosigns = |log: &Log, old: usize, size: usize| {
        let (status, _, line) = add(&log.request(old, size));
        assert_eq!(status, 200, "{line}");
        let signatures = vec![NoteSignature::parse(line.trim_end_matches('\n')).unwrap()];
        SignedNote { text: log.checkpoint(size).text(), signatures }.verify_cosignature(name, &spki).unwrap();
    };
    cosigns(&ours, 0, 5);
    let at = status(&world, "secco")["items"].clone();
    let line = add(&ours.request(5, 5)).2;
    for _ in 0..20 {
        cosigns(&ours, 5, 5);
        assert_eq!(add(&ours.request(5, 5)).2, line, "it is signed once");
    }
    assert_eq!(status(&world, "secco")["items"], at, "and remembered once");
    cosigns(&ours, 5, 17);
    assert_eq!(add(&ours.request(5, 20)), (409, "text/x.tlog.size".into(), "17\n".into()));
    assert_eq!(add(&ours.request(5, 5)).2, "17\n", "an older one is late");
    assert_eq!(add(&AddCheckpoint { old_size: 17, ..ours.request(5, 5) }).0, 400);
    assert_eq!(add(&AddCheckpoint { proof: vec![], ..ours.request(17, 20) }).0, 422);
    assert_eq!(add(&theirs.request(17, 20)).0, 422, "whoever cannot prove it proves nothing");
    cosigns(&ours, 17, 20);
    // It is known over a restart, and two heads of one size halt it.
    world.run("secco", &["stop"]);
    world.serve("secco");
    let ports: Value = serde_json::from_slice(&fs::read(world.state("secco").join("run/ports.json")).unwrap()).unwrap();
    let address = ports["pki"].as_str().unwrap().to_owned();
    let add = |request: &AddCheckpoint| post(&address, "/witness/add-checkpoint", &request.compose());
    assert_eq!(add(&theirs.request(20, 20)), (409, "text/plain; charset=utf-8".into(), "log_forked\n".into()));
    assert_eq!(add(&ours.request(20, 21)).2, "log_forked\n");
    assert_eq!(doctor(&world, "secco").0, "fail");
    let accept = ["witness", "accept", ORIGIN, "--reason", "seen"];
    assert_eq!(ask(&world, "secco", "secco-admin", &accept)["changed"], true);
    assert_eq!(add(&ours.request(20, 21)).0, 200);
}
