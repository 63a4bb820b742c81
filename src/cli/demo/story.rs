//! The story itself, top to bottom: set-up, enrolment, three scenarios, refusals, revocation, offline proof.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use super::agent::{self, Agent};
use super::stage::{OFFICERS, PARTIES, PEOPLE, Stage};
use super::witness::{self, Line};
use crate::ops::failure::Failure;

const BANK_FIXTURE: &str = include_str!("../../../scripts/demo-bank.toml");
const CATALOGUE: &str = include_str!("../../../certs/catalogue.json");

/// Tells it all, with the security company as the bank's witness where there is a line to it. With `keep` the daemons are
/// running when it returns.
pub fn tell(stage: &mut Stage, mut line: Option<Line>, keep: bool) -> Result<(), Failure> {
    set_up(stage, line.as_mut())?;
    open_the_bank(stage)?;
    enrol(stage, "shopper", Telling::Aloud)?;
    let mut shopper = Agent::connect(stage, "shopper")?;
    let receipt = scenarios(stage, &mut shopper, line.as_ref())?;
    refusals(stage, &mut shopper)?;
    revoke_while_connected(stage, shopper)?;
    stage.stop_all();
    if let Some(line) = &mut line {
        line.hold();
    }
    prove_offline(stage, &receipt, line.as_ref())?;
    if keep {
        keep_running(stage, line.as_mut())?;
    }
    let seconds = stage.started.elapsed().as_secs();
    let transcript = stage.root.join("transcript.txt");
    stage.say(format!("\nDone in {seconds} s. Every command with its full answer: {}", transcript.display()));
    if !keep {
        stage.say("Everything that was started is stopped. Explore further: ./scripts/demo --keep");
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Telling {
    Aloud,
    Quietly,
}

fn set_up(stage: &mut Stage, mut line: Option<&mut Line>) -> Result<(), Failure> {
    stage.say("1. Three parties, each with its own daemon, state directory, token and PIN");
    let module = stage.module.display().to_string();
    for (party, kind) in PARTIES {
        let mut args = vec!["init", "--demo", "--kind", kind, "--module", &module];
        let ports = stage.state("bank").join("run/ports.json").display().to_string();
        let (listens_at, url) = line.as_ref().map(|line| (line.listens_at(), line.url())).unzip();
        match (party, &listens_at, &url) {
            ("agent", _, _) => args.extend(["--bank-ports-file", &ports]),
            ("bank", _, Some(url)) => args.extend(["--port", "0", "--peer-url", url]),
            ("bank", _, None) => args.extend(["--port", "0"]),
            ("secco", Some(address), _) => args.extend(["--peer-listen", address]),
            _ => {}
        }
        let made = stage.ask(party, Some(administrator(party)), &args)?;
        start(stage, party, line.as_deref_mut())?;
        let keys = made["keys"].as_array().map_or(0, Vec::len);
        stage.say(format!(
            "   {party:<6} token `{}`: {keys} keys born in it, custody checked; {} certificates",
            text(&made["token"]["label"]),
            made["certificates"].as_array().map_or(0, Vec::len),
        ));
    }
    for (at, other) in [("bank", "secco"), ("secco", "bank"), ("agent", "bank"), ("agent", "secco")] {
        let certs = stage.state(other).join("certs");
        let root = path(certs.join("root.pem"));
        let issuing = path(certs.join("issuing.pem"));
        stage.ask(at, Some(administrator(at)), &["trust", "add", other, "--root", &root, "--issuing", &issuing])?;
    }
    let file = path(stage.root.join("catalogue.json"));
    write(&file, CATALOGUE)?;
    for party in ["secco", "bank"] {
        stage.ask(party, Some(officer(party)), &["catalogue", "sign", &file, "--out", &file])?;
    }
    for party in ["secco", "bank"] {
        stage.ask(party, Some(administrator(party)), &["catalogue", "install", &file])?;
    }
    share_crl(stage)?;
    for (person, party, roles) in PEOPLE {
        stage.ask(person, None, &["init", "--demo", "--kind", "operator", "--name", person, "--module", &module])?;
        let file = path(stage.root.join(format!("{person}.json")));
        stage.ask(person, None, &["operator", "show", "--out", &file])?;
        stage.ask(party, Some(administrator(party)), &[&["operator", "enrol", &file], roles].concat())?;
    }
    stage.say(
        "   carol (secco), dora (bank), olivia (owner OWN_001): a key in a token of their own, enrolled in person",
    );
    stage.say("   trust exchanged; role catalogue v1 signed by both parties' HSM keys; company CRL imported");
    if line.is_some() {
        stage.say("   secco's daemon is the witness of the bank's log: it cosigns each new head with its own HSM");
    }
    Ok(())
}

fn start(stage: &mut Stage, party: &str, line: Option<&mut Line>) -> Result<Value, Failure> {
    match line {
        Some(line) if party == "secco" => line.start(stage),
        Some(_) | None => stage.start(party),
    }
}

/// The security company's word on what it revoked travels as a file.
fn share_crl(stage: &mut Stage) -> Result<(), Failure> {
    let crl = path(stage.root.join("secco.crl"));
    stage.ask("secco", Some("secco-officer"), &["crl", "export", "--out", &crl])?;
    stage.ask("bank", Some("bank-officer"), &["crl", "import", &crl])?;
    Ok(())
}

fn open_the_bank(stage: &mut Stage) -> Result<(), Failure> {
    let file = path(stage.root.join("demo-bank.toml"));
    write(&file, BANK_FIXTURE)?;
    stage.ask("bank", Some("bank-admin"), &["bank", "load", &file])?;
    let accounts = stage.ask("bank", Some("bank-admin"), &["account", "list"])?;
    let listed: Vec<String> = items(&accounts)
        .iter()
        .filter(|account| account["kind"] == "customer")
        .map(|account| {
            format!("{} {} {}", text(&account["account_id"]), text(&account["balance"]), text(&account["currency"]))
        })
        .collect();
    stage.say("2. The demo bank opens");
    stage.say(format!("   {}", listed.join(", ")));
    stage.say("   allow-list amazon.com, bestbuy.com; unattended up to 2000 a payment and 5000 a day");
    Ok(())
}

fn enrol(stage: &mut Stage, name: &str, telling: Telling) -> Result<(), Failure> {
    let file = |stage: &Stage, name: &str| path(stage.root.join(name));
    let host = file(stage, "host.json");
    stage.ask("agent", Some("host-admin"), &["host", "show", "--out", &host])?;
    for party in ["secco", "bank"] {
        stage.ask(party, Some(administrator(party)), &["host", "enrol", &host])?;
    }
    let [carol, dora] = OFFICERS.map(|(person, _)| path(stage.state(person)));
    let signed = ["--endorse-as", &carol, "--issue-as", &dora];
    stage.ask("bank", None, &[&["cert", "issue", name, "--role", "purchaser"], &signed[..]].concat())?;
    let installed = stage.state("agent").join("certs/agents").join(name);
    let (endorsement, issued) = (path(installed.join("endorsement.pem")), path(installed.join("bank.pem")));
    for (account, verbs) in [("CHK_001", "read,purchase,transfer,reverse"), ("SAV_001", "read")] {
        stage.ask(
            "bank",
            Some("bank-officer"),
            &["grant", "add", name, account, "--owner", "OWN_001", "--verbs", verbs, "--days", "30"],
        )?;
    }
    if telling == Telling::Quietly {
        return Ok(());
    }
    let shown = stage.ask("agent", Some("host-admin"), &["cert", "show", name])?;
    stage.say(format!("3. Agent `{name}` is enrolled: one key in the agent host's token, two certificates over it"));
    stage.say("   `countersign cert issue` with carol's signature for the endorsement and dora's for the bank");
    for (label, half) in [("S, security company", "endorsement"), ("B, bank", "bank")] {
        let half = &shown[half];
        stage.say(format!(
            "   {label:<20} {}, use {}, serial {}…, until {}",
            text(&half["uris"][0]),
            text(&half["extended_key_usage"][0]),
            short(&half["serial"], 8),
            short(&half["not_after"], 16),
        ));
    }
    stage.say(format!(
        "   B's RFC 9763 binding {}… is SHA-256 of S: {}",
        short(&shown["binding"]["hash_of_endorsement"], 24),
        shown["binding"]["matches"],
    ));
    for (party, leaf) in [("secco", &endorsement), ("bank", &issued)] {
        let certs = stage.state(party).join("certs");
        let root = path(certs.join("root.pem"));
        let issuing = path(certs.join("issuing.pem"));
        let verdict = stage.run_tool("openssl", &["verify", "-CAfile", &root, "-untrusted", &issuing, leaf])?;
        stage.say(format!("   openssl verify against {party}'s root: {}", last_word(&verdict)));
    }
    stage.say("   the owner OWN_001 grants CHK_001 (entered by bank-officer for the owner)");
    Ok(())
}

/// The three scenarios; answers the purchase's receipt file.
fn scenarios(stage: &mut Stage, shopper: &mut Agent, line: Option<&Line>) -> Result<PathBuf, Failure> {
    let tools = shopper.tools(stage)?;
    stage.say(format!(
        "4. An MCP client → `countersign connect` (stdio) → TLS 1.3, key in the HSM → bank: {tools} tools"
    ));
    stage.say("   \"What's my checking account balance?\"");
    let balance = shopper.call(stage, "get_account_balance", json!({ "account_id": "CHK_001" }))?;
    stage.say(format!("     {} {}", text(&balance["balance"]), text(&balance["currency"])));

    stage.say("   \"Buy a laptop under $2000 from Amazon\"");
    let query = json!({ "query": "laptop", "max_price": 2000, "merchant": "amazon.com" });
    let found = shopper.call(stage, "search_products", query)?;
    let products: Vec<String> = found["products"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|product| format!("{} {}", text(&product["product_id"]), text(&product["price"])))
        .collect();
    stage.say(format!("     search_products: {}", products.join(", ")));
    let purchase = json!({
        "product_id": "B08N5WRWNW", "price": 1899.99, "merchant": "amazon.com", "idempotency_key": "laptop-1",
    });
    let authorized = shopper.call(stage, "authorize_purchase", purchase)?;
    stage.say(format!(
        "     authorize_purchase: {} {}",
        text(&authorized["status"]),
        text(&authorized["transaction_id"])
    ));
    let execution = json!({ "transaction_id": authorized["transaction_id"], "product_id": "B08N5WRWNW" });
    let executed = shopper.call(stage, "execute_purchase", execution.clone())?;
    stage.say(format!("     execute_purchase: {}, receipt {}", text(&executed["status"]), text(&executed["receipt"])));
    let again = shopper.call(stage, "execute_purchase", execution)?;
    let balance = shopper.call(stage, "get_account_balance", json!({ "account_id": "CHK_001" }))?;
    stage.say(format!(
        "     the same once more: {}, repeated: {}, balance {} (moved once)",
        text(&again["status"]),
        again["repeated"],
        text(&balance["balance"])
    ));

    stage.say("   \"Transfer $10,000 to savings account\"");
    let transfer = |key: &str| json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": 10000, "idempotency_key": key });
    let denied = shopper.call(stage, "authorize_transfer", transfer("savings-1"))?;
    stage.say(format!("     authorize_transfer: {} ({})", text(&denied["status"]), text(&denied["reason"])));
    let incoming = ["account", "incoming", "CHK_001", "--amount", "10000", "--reference", "salary-2026-11"];
    stage.ask("bank", Some("bank-admin"), &incoming)?;
    let asked = shopper.call(stage, "authorize_transfer", transfer("savings-2"))?;
    let approval = text(&asked["approval_id"]).to_owned();
    stage.say(format!("     10000 USD come in; authorize_transfer: {} {approval}", text(&asked["status"])));
    let dora = path(stage.state("dora"));
    let signed = ["approvals", "approve", &approval, "--as", &dora, "--note", "called the owner"];
    stage.ask("bank", None, &signed)?;
    let status = shopper.call(stage, "get_approval_status", json!({ "approval_id": approval }))?;
    stage.say(format!(
        "     dora at the bank signs: `countersign approvals approve {}… --as dora` → {}",
        &approval[..12.min(approval.len())],
        text(&status["status"])
    ));
    let moved = shopper.call(
        stage,
        "execute_transfer",
        json!({
            "transaction_id": status["transaction_id"], "from_account": "CHK_001", "to_account": "SAV_001", "amount": 10000,
        }),
    )?;
    stage.say(format!("     execute_transfer: {}", text(&moved["status"])));

    let transaction = text(&authorized["transaction_id"]).to_owned();
    let file = stage.root.join("receipt.json");
    match line {
        Some(_) => witness::cosigned_receipt(stage, &transaction, &path(file.clone()))?,
        None => {
            stage.ask("bank", Some("auditor"), &["receipt", "show", &transaction, "--out", &path(file.clone())])?;
        }
    }
    Ok(file)
}

fn refusals(stage: &mut Stage, shopper: &mut Agent) -> Result<(), Failure> {
    stage.say("5. What is refused, each by name");
    let merchant = json!({
        "product_id": "GD-LAPTOP-1", "price": 99.00, "merchant": "gadgets.example", "idempotency_key": "gadget-1",
    });
    let denied = shopper.call(stage, "authorize_purchase", merchant)?;
    refused(stage, "a merchant not on the list", &denied["reason"]);
    let denied = shopper.refusal(stage, "get_account_balance", json!({ "account_id": "CHK_002" }))?;
    refused(stage, "another customer's account", &denied["reason"]);
    let small = json!({
        "from_account": "CHK_001", "to_account": "SAV_001", "amount": "10.00", "idempotency_key": "small-1",
    });
    let allowed = shopper.call(stage, "authorize_transfer", small)?;
    let other = json!({
        "transaction_id": allowed["transaction_id"], "from_account": "CHK_001", "to_account": "SAV_001", "amount": "11.00",
    });
    let denied = shopper.call(stage, "execute_transfer", other)?;
    refused(stage, "other parameters under an old authorization", &denied["reason"]);
    let denied = shopper.refusal(
        stage,
        "authorize_transfer",
        json!({
            "from_account": "CHK_001", "to_account": "SAV_001", "amount": -5, "idempotency_key": "negative-1",
        }),
    )?;
    refused(stage, "a negative amount", &denied["reason"]);

    enrol(stage, "drifter", Telling::Quietly)?;
    let handshakes = [
        ("an agent with only certificate B", Presented::BankHalf),
        ("two certificates that are not bound", Presented::Unbound),
        ("a TLS client with no certificate", Presented::Nothing),
    ];
    for (what, presented) in handshakes {
        let name = present(stage, presented)?;
        refused(stage, what, &name);
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Presented {
    BankHalf,
    /// B of one agent with S of another.
    Unbound,
    Nothing,
}

/// Tries a TLS handshake with these certificates; answers the name under which the bank refused it.
fn present(stage: &mut Stage, presented: Presented) -> Result<Value, Failure> {
    let before = stage.ask("bank", Some("auditor"), &["status"])?;
    let certs = stage.state("agent").join("certs/agents");
    let chain: Vec<PathBuf> = match presented {
        Presented::BankHalf => vec![certs.join("shopper/bank.pem")],
        Presented::Unbound => vec![certs.join("shopper/bank.pem"), certs.join("drifter/endorsement.pem")],
        Presented::Nothing => vec![],
    };
    let reached = agent::handshake(stage, "shopper", &chain)?;
    if reached {
        return Err(Failure::fault(
            "demo_not_refused",
            "the bank accepted what it must refuse",
            "report this as a defect",
        ));
    }
    let after = stage.ask("bank", Some("auditor"), &["status"])?;
    let counts = |status: &Value, name: &str| status["refused_handshakes"][name].as_u64().unwrap_or(0);
    let names = after["refused_handshakes"].as_object().cloned().unwrap_or_default();
    let name = names.keys().find(|name| counts(&after, name) > counts(&before, name));
    name.map(|name| json!(name)).ok_or_else(|| {
        Failure::fault("demo_not_counted", "the bank did not name its refusal", "see the bank's daemon.log")
    })
}

fn refused(stage: &mut Stage, what: &str, name: &Value) {
    stage.say(format!("   {what:<46} {}", text(name)));
}

fn revoke_while_connected(stage: &mut Stage, mut shopper: Agent) -> Result<(), Failure> {
    stage.say("6. The bank revokes the agent while its connection is open");
    shopper.call(stage, "list_accounts", json!({}))?;
    let report = stage.ask("bank", Some("bank-officer"), &["revoke", "shopper", "--reason", "demo: lost laptop"])?;
    stage.say(format!(
        "   recorded after {} ms, effective after {} ms, {} live connection(s) cut",
        text(&report["recorded_ms"]),
        text(&report["effective_ms"]),
        report["connections_cut"]
    ));
    let asked = Instant::now();
    let refusal = shopper.refusal(stage, "list_accounts", json!({}))?;
    stage.say(format!("   next call, after {} ms: {}", asked.elapsed().as_millis(), text(&refusal["message"])));
    shopper.close();
    Ok(())
}

fn prove_offline(stage: &mut Stage, receipt: &PathBuf, line: Option<&Line>) -> Result<(), Failure> {
    let whose =
        if line.is_some() { "the root certificates of bank and witness" } else { "the bank's root certificate" };
    stage.say(format!("7. All daemons are stopped; the receipt proves itself with {whose} alone"));
    let [root, witness_root] = ["bank", "secco"].map(|party| path(stage.state(party).join("certs/root.pem")));
    let file = path(receipt.clone());
    let mut verify = vec!["verify", "receipt", &file, "--root", &root];
    if line.is_some() {
        verify.extend(["--witness-root", &witness_root]);
    }
    let verdict = stage.ask("bank", None, &verify)?;
    let (statement, log) = (&verdict["statement"], &verdict["log"]);
    stage.say(format!(
        "   valid: {} {}, {} minor units {} from {}, by {}",
        text(&statement["kind"]),
        text(&statement["product_id"]),
        text(&statement["amount_minor"]),
        text(&statement["currency"]),
        text(&statement["debit_account"]),
        text(&statement["agent"]),
    ));
    stage.say(format!(
        "   under the transaction key's signature, and leaf {} of {} in {}",
        log["leaf_index"],
        log["size"],
        text(&log["origin"]),
    ));
    for cosignature in verdict["cosignatures"].as_array().into_iter().flatten() {
        let (name, at) = (text(&cosignature["name"]), text(&cosignature["at"]));
        stage.say(format!("   cosigned by {name} at {at}: neither party alone can change it any more"));
    }
    let program = stage.program.display().to_string();
    stage.say(format!("   {program} {}", verify.join(" ")));
    let mut bytes =
        fs::read(receipt).map_err(|error| Failure::fault("demo_receipt", error.to_string(), "see .demo"))?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let flipped = stage.root.join("receipt-flipped.json");
    fs::write(&flipped, bytes).map_err(|error| Failure::fault("demo_receipt", error.to_string(), "see .demo"))?;
    match stage.ask("bank", None, &["verify", "receipt", &path(flipped), "--root", &root]) {
        Ok(_) => Err(Failure::fault("demo_not_refused", "a flipped receipt verified", "report this as a defect")),
        Err(failure) => {
            stage.say(format!("   one byte flipped (at {middle}): refused, {}", failure.name));
            Ok(())
        }
    }
}

/// Starts the daemons again with an agent that is not revoked, and says how to use it.
fn keep_running(stage: &mut Stage, mut line: Option<&mut Line>) -> Result<(), Failure> {
    for (party, _) in PARTIES {
        start(stage, party, line.as_deref_mut())?;
    }
    share_crl(stage)?;
    enrol(stage, "assistant", Telling::Quietly)?;
    let configuration = json!({ "mcpServers": { "bank": {
        "command": stage.program,
        "args": ["connect", "--agent", "assistant", "--state", stage.state("agent")],
    } } });
    stage.say("\nThe daemons keep running, with agent `assistant`. Paste into your MCP client:");
    stage.say(configuration.to_string());
    let (program, root) = (stage.program.display().to_string(), stage.root.display().to_string());
    stage.say(format!("Approve as the bank:  {program} --state {root}/bank approvals approve APR --as {root}/dora"));
    stage.say(format!("As one of its people: {program} --state {root}/bank --operator bank-officer approvals list"));
    stage.say("                      (bank-admin, bank-officer, alice and auditor share one user id here: name one)");
    stage.say(format!("Stop:                 for p in secco bank agent; do {program} stop --state {root}/$p; done"));
    Ok(())
}

fn administrator(party: &str) -> &'static str {
    match party {
        "bank" => "bank-admin",
        "secco" => "secco-admin",
        _ => "host-admin",
    }
}

fn officer(party: &str) -> &'static str {
    match party {
        "bank" => "bank-officer",
        "secco" => "secco-officer",
        _ => "host-admin",
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("(nothing)")
}

fn short(value: &Value, length: usize) -> String {
    text(value).chars().take(length).collect()
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn last_word(line: &str) -> &str {
    line.rsplit(' ').next().unwrap_or_default()
}

fn path(path: PathBuf) -> String {
    path.display().to_string()
}

fn write(file: &str, content: &str) -> Result<(), Failure> {
    fs::write(file, content).map_err(|error| Failure::fault("demo_file", format!("{file}: {error}"), "check --dir"))
}
