//! Owners' mandates from the owner's own token to a payment, and to its end: real tokens, the real bank, a real bridge.

use std::fs;
use std::process::Command;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign::kernel::mandate::{self, Mandate};
use countersign::kernel::sign::{Algorithm, spki_der};
use countersign::kernel::types::Sha256;
use countersign::ops::clock;
use serde_json::{Value, json};

use crate::clients::Bridge;
use crate::support::world::World;

const AGENT: &str = "spiffe://countersign.example/agent/purchaser/assistant";

/// The demo's bank, where olivia owns CHK_001 and has a token of her own.
struct Bank {
    world: World,
    key: String,
}

impl Bank {
    fn new() -> Self {
        let world = World::new();
        // Many refusals in a row are what the monitor looks for: here it looks on, and holds nothing.
        world.run("bank", &["stop"]);
        let config = world.state("bank").join("countersign.toml");
        let text = fs::read_to_string(&config).unwrap();
        assert!(text.contains("mode = \"enforce\""), "{text}");
        fs::write(&config, text.replace("mode = \"enforce\"", "mode = \"observe\"")).unwrap();
        world.serve("bank");
        let listed: Value =
            serde_json::from_str(&world.run("bank", &["--operator", "auditor", "--json", "cert", "list"])).unwrap();
        let of_agent = |item: &&Value| item["subject"] == AGENT && item["key"].is_string();
        let key = listed["items"].as_array().unwrap().iter().find(of_agent).unwrap_or_else(|| panic!("{listed}"));
        let key = key["key"].as_str().unwrap().to_owned();
        Self { world, key }
    }

    fn path(&self, name: &str) -> String {
        self.world.state("bank").join(name).display().to_string()
    }

    fn at(&self, person: &str) -> String {
        self.world.state(person).display().to_string()
    }

    /// `mandate sign` in olivia's token, for the agent's key, with these limits.
    fn sign<'a>(&'a self, limits: &[&'a str]) -> Vec<String> {
        let common = ["mandate", "sign", "--as", &self.at("olivia"), "--owner", "OWN_001", "--account", "CHK_001"]
            .map(str::to_owned);
        let whom = ["--agent", AGENT, "--key", &self.key].map(str::to_owned);
        common.into_iter().chain(whom).chain(limits.iter().map(|word| (*word).to_owned())).collect()
    }

    /// Signs, and enters what was signed; answers its id and its file.
    fn enter(&self, limits: &[&str]) -> (String, String) {
        let file = self.path(&format!("{}.mandate", clock::fresh_id("m")));
        let signing = self.sign(&[limits, &["--out", &file]].concat());
        let signing: Vec<&str> = signing.iter().map(String::as_str).collect();
        let signed: Value =
            serde_json::from_str(&self.world.run("olivia", &[&["--json"], &signing[..]].concat())).unwrap();
        let added = self.officer(&["mandate", "add", &file]);
        assert_eq!((&added["mandate_id"], &added["changed"]), (&signed["mandate_id"], &json!(true)), "{added}");
        (signed["mandate_id"].as_str().unwrap().to_owned(), file)
    }

    fn officer(&self, words: &[&str]) -> Value {
        let answer = self.world.run("bank", &[&["--json", "--operator", "bank-officer"], words].concat());
        serde_json::from_str(&answer).unwrap()
    }

    fn refused(&self, words: &[&str]) -> String {
        self.world.refused("bank", &[&["--operator", "bank-officer"], words].concat()).1
    }

    /// The certificate that the bank gave this person, as PEM in a file.
    fn certificate(&self, person: &str) -> String {
        let file = self.path(&format!("{person}.pem"));
        self.officer(&["operator", "cert", person, "--out", &file]);
        file
    }
}

fn call(agent: &mut Bridge, tool: &str, arguments: Value) -> Value {
    agent.ask("tools/call", json!({ "name": tool, "arguments": arguments }))["structuredContent"].clone()
}

fn transfer(to: &str, amount: &str, key: &str) -> Value {
    json!({ "from_account": "CHK_001", "to_account": to, "amount": amount, "idempotency_key": key })
}

/// Asks for a payment to SAV_001: its transaction, or why not.
fn asks(agent: &mut Bridge, amount: &str, key: &str) -> Result<String, String> {
    asks_to(agent, "SAV_001", amount, key)
}

fn asks_to(agent: &mut Bridge, to: &str, amount: &str, key: &str) -> Result<String, String> {
    let answer = call(agent, "authorize_transfer", transfer(to, amount, key));
    match answer["status"].as_str() {
        Some("approved") => Ok(answer["transaction_id"].as_str().unwrap().to_owned()),
        _ => Err(answer["reason"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()),
    }
}

fn executes(agent: &mut Bridge, transaction: &str, amount: &str) -> Value {
    let order = json!({ "transaction_id": transaction, "to_account": "SAV_001", "amount": amount });
    call(agent, "execute_transfer", order)
}

fn read(agent: &mut Bridge, uri: &str) -> Result<Value, Value> {
    let answer = agent.answer("resources/read", json!({ "uri": uri }));
    match answer["result"]["contents"][0]["text"].as_str() {
        Some(text) => Ok(serde_json::from_str(text).unwrap()),
        None => Err(answer["error"].clone()),
    }
}

#[test]
fn what_an_owner_signs_in_a_token_of_her_own_is_what_the_agent_may_pay() {
    let bank = Bank::new();
    bank.world.enrol("second");
    let mut agent = Bridge::start(&bank.world.state("agent"));
    let no = |name: &str| Err(name.to_owned());

    // Payees, amount, budget and how often.
    let (first, file) = bank.enter(&[
        "--payee",
        "account:SAV_001",
        "--payee",
        "amazon.com",
        "--amount-min",
        "1",
        "--amount-max",
        "100",
        "--budget",
        "150",
        "--budget-per",
        "monthly",
        "--every",
        "monthly",
        "--per-period",
        "3",
        "--days",
        "30",
    ]);
    assert_eq!(bank.officer(&["mandate", "add", &file])["changed"], false, "the same again");
    assert_eq!(asks(&mut agent, "100.01", "a"), no("mandate_amount"));
    assert_eq!(asks(&mut agent, "0.99", "b"), no("mandate_amount"));
    assert_eq!(asks_to(&mut agent, "CHK_002", "10", "c"), no("mandate_payee"));
    let paid = asks(&mut agent, "100", "d").unwrap();
    assert_eq!(executes(&mut agent, &paid, "100")["status"], "executed");
    assert_eq!(asks(&mut agent, "50.01", "e"), no("mandate_budget"));

    // The agent sees what is left, and nobody else sees anything of it.
    let seen = read(&mut agent, "bank://mandates").unwrap();
    let shown = &seen["mandates"][0];
    assert_eq!((&shown["mandate_id"], &shown["status"]), (&json!(first), &json!("in_force")), "{seen}");
    assert_eq!(shown["budget"]["budget_left"], "50.00", "{shown}");
    assert_eq!(shown["recurrence"]["payments_left"], 2, "{shown}");
    assert_eq!(shown["payees"][0]["payee_account"], "SAV_001", "{shown}");
    assert_eq!(shown["payees"][1]["untrusted"], json!(["name"]), "{shown}");
    let one = format!("bank://mandates/{first}");
    assert_eq!(read(&mut agent, &one).unwrap(), *shown);
    let mut second = Bridge::start_as(&bank.world.state("agent"), "second");
    assert_eq!(read(&mut second, "bank://mandates").unwrap(), json!({ "mandates": [], "complete": true }));
    let stolen = read(&mut second, &one).unwrap_err();
    assert_eq!((&stolen["code"], &stolen["data"]["reason"]), (&json!(-32602), &json!("unknown_mandate")), "{stolen}");
    second.close();

    let again = asks(&mut agent, "20", "f").unwrap();
    assert_eq!(executes(&mut agent, &again, "20")["status"], "executed");
    let open = asks(&mut agent, "20", "g").unwrap();
    assert_eq!(asks(&mut agent, "1", "h"), no("mandate_recurrence"));
    assert_eq!(read(&mut agent, &one).unwrap()["status"], "used_up");

    // As the bank's people see it.
    let standing = bank.officer(&["mandate", "show", &first]);
    assert_eq!((&standing["state"], &standing["counted"]["amount_minor"]), (&json!("standing"), &json!("14000")));
    let listed = bank.officer(&["mandate", "list", "--agent", "assistant"]);
    assert_eq!((listed["items"].as_array().unwrap().len(), &listed["items"][0]["owner"]), (1, &json!("OWN_001")));
    let verified = bank.officer(&["mandate", "verify", &file, "--owner-cert", &bank.certificate("olivia")]);
    assert_eq!((&verified["mandate_id"], &verified["owner"]), (&json!(first), &json!("OWN_001")));

    // Revoked: what is open is void at once, and the agent is not set free.
    let revoked = bank.officer(&["mandate", "revoke", &first, "--reason", "no longer wanted"]);
    assert_eq!((&revoked["authorizations"], &revoked["changed"]), (&json!(1), &json!(true)), "{revoked}");
    assert_eq!(executes(&mut agent, &open, "20")["reason"], "mandate_revoked");
    let state = call(&mut agent, "get_transaction", json!({ "transaction_id": open }));
    assert_eq!(state["status"], "voided", "{state}");
    assert_eq!(asks(&mut agent, "1", "i"), no("mandate_revoked"));
    assert_eq!(read(&mut agent, &one).unwrap()["status"], "revoked");
    assert_eq!(bank.officer(&["mandate", "revoke", &first, "--reason", "again"])["changed"], false);
    assert_eq!(bank.refused(&["mandate", "add", &file]), "mandate_revoked");
    assert_eq!(bank.officer(&["mandate", "show", &first])["state"], "revoked");

    // Days on which it is executed, and what it is for.
    let (dated, _) = bank.enter(&["--amount-max", "100", "--not-after", "2020-01-31", "--days", "5"]);
    assert_eq!(asks(&mut agent, "1", "j"), no("mandate_dates"));
    let dates = read(&mut agent, &format!("bank://mandates/{dated}")).unwrap();
    assert_eq!((&dates["execution_dates"]["not_after"], &dates["payees"]), (&json!("2020-01-31"), &Value::Null));
    bank.officer(&["mandate", "revoke", &dated, "--reason", "wrong year"]);
    bank.enter(&["--amount-max", "100", "--reference", "INV-7", "--days", "5"]);
    assert_eq!(asks(&mut agent, "1", "INV-8"), no("mandate_reference"));
    let invoice = asks(&mut agent, "1", "INV-7").unwrap();
    assert_eq!(executes(&mut agent, &invoice, "1")["status"], "executed");
    let seen = read(&mut agent, "bank://mandates").unwrap();
    let states: Vec<&str> =
        seen["mandates"].as_array().unwrap().iter().map(|shown| shown["status"].as_str().unwrap()).collect();
    assert_eq!(states, ["in_force", "revoked", "revoked"], "{seen}");
    assert_eq!(seen["mandates"][0]["untrusted"], json!(["reference"]), "{seen}");

    // Whoever has the key that signed it is not the owner any more: it counts no more, and everybody is told so.
    let people = bank.officer(&["operator", "list"]);
    let is_olivia = |item: &&Value| item["name"] == "olivia";
    let olivia = people["items"].as_array().unwrap().iter().find(is_olivia).unwrap_or_else(|| panic!("{people}"));
    bank.officer(&["revoke", "--key", olivia["key"].as_str().unwrap(), "--reason", "key-compromise"]);
    assert_eq!(asks(&mut agent, "1", "INV-7b"), no("mandate_revoked"));
    let listed = bank.officer(&["mandate", "list", "--agent", "assistant"]);
    assert_eq!(listed["items"][0]["state"], "signer_revoked", "{listed}");
    assert_eq!(read(&mut agent, "bank://mandates").unwrap()["mandates"][0]["status"], "revoked");
    agent.close();
    // What was counted is what the book says.
    bank.world.run("bank", &["--operator", "auditor", "ledger", "check"]);
}

#[test]
fn what_is_no_mandate_of_this_owner_is_refused_by_name() {
    let bank = Bank::new();
    bank.world.run("otto", &["init", "--demo", "--kind", "operator", "--name", "otto"]);
    let request = bank.path("otto.json");
    bank.world.run("otto", &["operator", "show", "--out", &request]);
    let enrol = ["--operator", "bank-admin", "operator", "enrol", &request, "--role", "owner", "--owner", "OWN_002"];
    bank.world.run("bank", &enrol);
    let [olivia, otto, nobody] = ["olivia", "otto", "agent"].map(|person| bank.at(person));
    let file = |name: &str| bank.path(name);

    // Signing: what is asked of the owner's token.
    let sign = |state: &str, owner: &str, account: &str, agent: &str, key: &str, limits: &[&str], out: &str| {
        let common = ["mandate", "sign", "--as", state, "--owner", owner, "--account", account, "--agent", agent];
        [&common[..], &["--key", key, "--out", out], limits].concat().iter().map(|word| (*word).to_owned()).collect()
    };
    let limits = ["--amount-max", "10", "--payee", "amazon.com", "--days", "3"];
    let table: [(&str, &[&str], &str); 7] = [
        (&nobody, &limits, "not_this_party"),
        (&olivia, &["--payee", "amazon.com", "--days", "3"], "mandate_without_ceiling"),
        (&olivia, &["--amount-max", "10", "--days", "0"], "mandate_lifetime"),
        (&olivia, &["--amount-max", "10", "--days", "401"], "mandate_lifetime"),
        (&olivia, &["--amount-max", "ten", "--days", "3"], "amount_malformed"),
        (
            &olivia,
            &["--amount-max", "10", "--payee", "account:no account", "--days", "3"],
            "mandate_constraint_malformed",
        ),
        (&olivia, &["--amount-max", "10", "--weekdays", "mon,mon", "--days", "3"], "mandate_constraint_malformed"),
    ];
    for (state, limits, name) in table {
        let words: Vec<String> = sign(state, "OWN_001", "CHK_001", AGENT, &bank.key, limits, &file("none"));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(bank.refused(&words), name, "{limits:?}");
    }

    // Entering: who signed it, for whom, over which account.
    let other_key = "07".repeat(32);
    let stranger = "spiffe://countersign.example/agent/purchaser/stranger";
    let table = [
        (&otto, "OWN_001", "CHK_001", AGENT, "mandate_key_unknown"),
        (&otto, "OWN_002", "CHK_001", AGENT, "account_not_granted"),
        (&olivia, "OWN_001", "CHK_002", AGENT, "account_not_granted"),
        (&olivia, "OWN_001", "CHK_404", AGENT, "unknown_account"),
        (&olivia, "OWN_404", "CHK_001", AGENT, "owner_unknown"),
        (&olivia, "OWN_001", "CHK_001", stranger, "unknown_agent"),
    ];
    for (at, (state, owner, account, agent, name)) in table.into_iter().enumerate() {
        let out = file(&format!("row-{at}.mandate"));
        let words: Vec<String> = sign(state, owner, account, agent, &bank.key, &limits, &out);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        bank.officer(&words);
        assert_eq!(bank.refused(&["mandate", "add", &out]), name, "{owner} {account} {agent}");
    }
    let good = file("good.mandate");
    let words: Vec<String> = sign(&olivia, "OWN_001", "CHK_001", AGENT, &other_key, &limits, &good);
    bank.officer(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let by_approver = ["--operator", "alice", "mandate", "add", &good];
    assert_eq!(bank.world.refused("bank", &by_approver).1, "operator_not_permitted");

    // The text itself: each change is found, at the bank and without it.
    let text = fs::read_to_string(&good).unwrap().trim().to_owned();
    let owner = bank.certificate("olivia");
    let (head, rest) = text.split_once('.').unwrap();
    let (payload, tail) = rest.split_once('.').unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    let bent = |bend: &dyn Fn(&mut Value)| {
        let mut claims = claims.clone();
        bend(&mut claims);
        format!("{head}.{}.{tail}", URL_SAFE_NO_PAD.encode(claims.to_string()))
    };
    let without_disclosures = format!("{}~", text.split('~').next().unwrap());
    let table = [
        (bent(&|claims| claims["exp"] = json!(claims["exp"].as_i64().unwrap() + 86_400)), "mandate_signature_invalid"),
        (bent(&|claims| claims["cnf"]["kid"] = json!(bank.key)), "mandate_signature_invalid"),
        (bent(&|claims| claims["payment_instrument"]["id"] = json!("SAV_001")), "mandate_signature_invalid"),
        (without_disclosures, "mandate_hidden"),
        (format!("{text}{}~", text.split('~').nth(1).unwrap()), "mandate_disclosure_repeated"),
        (format!("{text}e30.e30.AA"), "mandate_key_binding"),
        ("a mandate".to_owned(), "mandate_malformed"),
        (String::new(), "mandate_malformed"),
    ];
    for (at, (text, name)) in table.into_iter().enumerate() {
        let out = file(&format!("bent-{at}.mandate"));
        fs::write(&out, &text).unwrap();
        assert_eq!(bank.refused(&["mandate", "add", &out]), name, "{text}");
        assert_eq!(bank.refused(&["mandate", "verify", &out, "--owner-cert", &owner]), name, "{text}");
    }
    assert_eq!(
        bank.refused(&["mandate", "verify", &good, "--owner-cert", &bank.certificate("otto")]),
        "mandate_key_unknown"
    );
    assert_eq!(bank.refused(&["mandate", "verify", &good, "--owner-cert", &good]), "certificate_unreadable");
    assert_eq!(bank.refused(&["mandate", "verify", &file("nowhere"), "--owner-cert", &owner]), "document_unreadable");

    // One that has ended, of an owner elsewhere: no token here signs such.
    let (expired, certificate) = (file("expired.mandate"), file("elsewhere.pem"));
    let pair = elsewhere(&certificate);
    let now = clock::now().seconds();
    for (issued, ends, name) in
        [(now - 9 * 86_400, now - 86_400, "mandate_expired"), (now + 3_600, now + 7_200, "mandate_from_the_future")]
    {
        fs::write(&expired, signed_elsewhere(&pair, &bank.key, issued, ends)).unwrap();
        assert_eq!(bank.refused(&["mandate", "verify", &expired, "--owner-cert", &certificate]), name);
        assert_eq!(bank.refused(&["mandate", "add", &expired]), "mandate_key_unknown");
    }

    // It is the owner's word about another key: entered, and worth nothing to this agent.
    assert_eq!(bank.officer(&["mandate", "add", &good])["changed"], true);
    let mut agent = Bridge::start(&bank.world.state("agent"));
    assert_eq!(asks(&mut agent, "1", "k"), Err("mandate_not_this_agent".to_owned()));
    assert_eq!(read(&mut agent, "bank://mandates").unwrap()["mandates"], json!([]));
    agent.close();
    let unknown = "mdt_01JD5T9GQ8ZK3VYBX4M2N6P7RS";
    assert_eq!(bank.refused(&["mandate", "show", unknown]), "unknown_mandate");
    assert_eq!(bank.refused(&["mandate", "revoke", unknown, "--reason", "r"]), "unknown_mandate");
    let by_approver = ["--operator", "alice", "mandate", "revoke", unknown, "--reason", "r"];
    assert_eq!(bank.world.refused("bank", &by_approver).1, "operator_not_permitted");
}

/// A key that is in no token, with a certificate of its own in this file.
fn elsewhere(certificate: &str) -> EcdsaKeyPair {
    let key = format!("{certificate}.key");
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=owner elsewhere", "-keyout", &key, "-out", certificate])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pem = fs::read_to_string(&key).unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &STANDARD.decode(base64).unwrap()).unwrap()
}

/// A mandate of these times by that key.
fn signed_elsewhere(pair: &EcdsaKeyPair, agent_key: &str, issued: i64, ends: i64) -> String {
    let spki = spki_der(Algorithm::P256, pair.public_key().as_ref());
    let claims = json!({
        "vct": mandate::VCT, "iss": "OWN_001", "sub": AGENT, "jti": clock::fresh_id("mdt_"), "iat": issued, "exp": ends,
        "cnf": { "kid": agent_key }, "payment_instrument": { "type": "account", "id": "CHK_001" },
        "constraints": [{ "type": "payment.amount_range", "currency": "USD", "max": 1_000 }],
    });
    let draft = mandate::draft(Sha256::of(&[&spki]), &Mandate::from_claims(&claims).unwrap(), &[]).unwrap();
    let signature = pair.sign(&SystemRandom::new(), &draft.input().message()).unwrap();
    draft.signed(signature.as_ref()).unwrap()
}
