//! Signed requests against real daemons: what is tampered with, swapped, stale or sent again is refused by its name
//! and has no effect; and two packages that are not ours agree with us, in both directions.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Barrier;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign::kernel::httpsig::{self, Parameters, SignedRequest, TAG, Window, content_digest};
use countersign::kernel::sign::{Algorithm, spki_der};
use countersign::kernel::types::{Sha256, UnixMillis};
use countersign::mcp::signed_http::fresh;
use serde_json::{Value, json};

use crate::support::raw::tool_call;
use crate::support::signed::{Agent, Answer, components, signed, signed_as, signed_only};
use crate::support::world::World;

const BALANCE: &str = "get_account_balance";
const AUTHORIZE: &str = "authorize_transfer";

fn balance() -> Vec<u8> {
    tool_call(BALANCE, &json!({ "account_id": "CHK_001" }))
}

/// Holds a cent, once for each key.
fn authorize(key: &str) -> Vec<u8> {
    let order = json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": "0.01", "idempotency_key": key });
    tool_call(AUTHORIZE, &order)
}

fn agent(world: &World, name: &str) -> Agent {
    Agent::new(&world.state("bank"), &world.state("agent"), name)
}

fn accounts(world: &World) -> String {
    world.run("bank", &["--operator", "auditor", "--json", "account", "list"])
}

/// So many seconds from now, and from there.
fn made(created: i64, expires: i64) -> Parameters {
    let now = fresh().created;
    Parameters { created: now + created, expires: now + expires, ..fresh() }
}

/// The bytes with one text in place of another, which is there.
fn with(request: &[u8], this: &str, that: &str) -> Vec<u8> {
    let text = String::from_utf8(request.to_vec()).unwrap();
    assert!(text.contains(this), "{this} is not in {text}");
    text.replacen(this, that, 1).into_bytes()
}

/// Without the header of this name.
fn without(request: &[u8], header: &str) -> Vec<u8> {
    let value = value_of(request, header);
    with(request, &format!("\r\n{header}: {value}"), "")
}

fn value_of(request: &[u8], header: &str) -> String {
    let text = String::from_utf8_lossy(request).into_owned();
    let prefix = format!("{header}: ");
    text.split("\r\n").find_map(|line| line.strip_prefix(&prefix)).unwrap().to_owned()
}

#[test]
fn a_request_that_its_agent_did_not_sign_so_is_refused_by_name_and_does_nothing() {
    let world = World::new();
    let (assistant, shopper) = (agent(&world, "assistant"), agent(&world, "shopper"));
    let before = accounts(&world);
    let order = authorize("tampered");
    let honest = signed(&assistant, &order);
    // Revoked, and its key still signs; the token is the one that counts on this connection.
    let others = signed_only(&shopper, &assistant.with_token(&order), fresh());
    let (input, signature) = (value_of(&honest, "Signature-Input"), value_of(&honest, "Signature"));
    let digest = value_of(&honest, "Content-Digest");
    let other_body = with(&order, "0.01", "9.01");
    let other_digest =
        content_digest(&other_body[other_body.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4..]);
    let said = |name: &str| input.split(';').find(|part| part.starts_with(name)).unwrap().to_owned();
    let later = |name: &str| {
        let number: i64 = said(name)[name.len() + 1..].parse().unwrap();
        with(&honest, &said(name), &format!("{name}={}", number + 1))
    };
    let bare = order.clone();
    let table: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("not signed", bare, 401, "signature_missing"),
        ("another verb", with(&honest, "POST ", "PUT "), 405, "method_not_allowed"),
        ("another path", with(&honest, "/mcp ", "/mcp/ "), 404, "unknown_path"),
        ("a query", with(&honest, "/mcp ", "/mcp?x=1 "), 401, "signature_invalid"),
        ("a whole URL", with(&honest, "/mcp ", "https://127.0.0.1/mcp "), 400, "target_malformed"),
        ("another host", with(&honest, "127.0.0.1", "localhost"), 401, "signature_invalid"),
        ("another amount", with(&honest, "0.01", "9.01"), 401, "digest_mismatch"),
        (
            "another amount and its digest",
            with(&with(&honest, "0.01", "9.01"), &digest, &other_digest),
            401,
            "signature_invalid",
        ),
        ("another digest", with(&honest, &digest, &other_digest), 401, "digest_mismatch"),
        ("a digest of another kind", with(&honest, "sha-256=", "sha-512="), 401, "digest_algorithm"),
        ("no digest", without(&honest, "Content-Digest"), 401, "signature_component_missing"),
        ("another revision", with(&honest, "Version: 2026-07-28", "Version: 2025-11-25"), 401, "signature_invalid"),
        ("no revision", without(&honest, "Mcp-Protocol-Version"), 401, "signature_component_missing"),
        (
            "another method of MCP",
            with(&honest, "Mcp-Method: tools/call", "Mcp-Method: tools/list"),
            401,
            "signature_invalid",
        ),
        ("another tool", with(&honest, "Mcp-Name: authorize", "Mcp-Name: execute"), 401, "signature_invalid"),
        ("no tool", without(&honest, "Mcp-Name"), 401, "signature_component_unknown"),
        (
            "a token beside it",
            with(&honest, "\r\nSignature: ", "\r\nAuthorization: Bearer x\r\nSignature: "),
            401,
            "signature_header_duplicate",
        ),
        (
            "two tools",
            with(&honest, "\r\nSignature: ", "\r\nMcp-Name: execute_transfer\r\nSignature: "),
            401,
            "signature_header_duplicate",
        ),
        ("bytes beyond ASCII", with(&honest, "Mcp-Name: authorize", "Mcp-Name: ü"), 401, "signature_header_not_ascii"),
        ("no parameters", without(&honest, "Signature-Input"), 401, "signature_missing"),
        ("no signature", without(&honest, "Signature"), 401, "signature_missing"),
        ("another tag", with(&honest, TAG, "countersign-reply"), 401, "signature_missing"),
        (
            "signed twice",
            with(&honest, &input, &format!("{input}, {}", input.replacen("countersign=", "again=", 1))),
            401,
            "signature_ambiguous",
        ),
        ("a parameter more", with(&honest, ";tag=", ";x=1;tag="), 401, "signature_parameter_unknown"),
        ("a parameter less", with(&honest, &format!(";{}", said("nonce")), ""), 401, "signature_parameter_missing"),
        ("a nonce that is a number", with(&honest, &said("nonce"), "nonce=1"), 401, "signature_parameter_malformed"),
        ("a short nonce", with(&honest, &said("nonce"), "nonce=\"abc\""), 401, "signature_nonce_length"),
        (
            "another nonce",
            with(&honest, &said("nonce"), &format!("nonce=\"{}\"", "n".repeat(43))),
            401,
            "signature_invalid",
        ),
        ("made a second later", later("created"), 401, "signature_invalid"),
        ("ends a second later", later("expires"), 401, "signature_lifetime_too_long"),
        ("another algorithm", with(&honest, ";tag=", ";alg=\"ed25519\";tag="), 401, "signature_algorithm"),
        ("less is covered", with(&honest, " \"authorization\")", ")"), 401, "signature_component_missing"),
        (
            "in another order",
            with(&honest, "\"@method\" \"@target-uri\"", "\"@target-uri\" \"@method\""),
            401,
            "signature_component_order",
        ),
        ("another agent's request", others.clone(), 401, "signature_key_mismatch"),
        (
            "another agent's signature",
            with(&honest, &signature, &value_of(&others, "Signature")),
            401,
            "signature_invalid",
        ),
        ("half a signature", with(&honest, &signature, "countersign=:AAAA:"), 401, "signature_invalid"),
        ("not base64", with(&honest, &signature, "countersign=:*:"), 401, "signature_malformed"),
        ("expired", signed_as(&assistant, &order, made(-100, -40)), 401, "signature_expired"),
        ("from the future", signed_as(&assistant, &order, made(40, 100)), 401, "signature_from_the_future"),
        ("a long life", signed_as(&assistant, &order, made(0, 120)), 401, "signature_lifetime_too_long"),
    ];
    let mut line = assistant.line();
    let mut names = std::collections::BTreeSet::new();
    for (what, request, status, name) in table {
        let answer = line.ask(&request);
        assert_eq!((answer.status, answer.name()), (status, name), "{what}: {answer:?}");
        names.insert(name);
    }
    assert_eq!(accounts(&world), before);
    // The request itself was good all along.
    let answer = line.ask(&honest);
    assert_eq!(answer.content()["status"], "approved", "{answer:?}");
    assert_ne!(accounts(&world), before);
    let status = world.run("bank", &["--operator", "auditor", "--json", "status"]);
    assert!(names.iter().filter(|name| name.starts_with("signature")).all(|name| status.contains(*name)), "{status}");
}

#[test]
fn a_request_counts_once_on_whatever_connection_and_after_a_restart() {
    let world = World::new();
    // Room for two restarts in a signature's life.
    let config = world.state("bank").join("countersign.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, with(text.as_bytes(), "signature_age_max_s = 60 ", "signature_age_max_s = 480 ")).unwrap();
    world.kill("bank");
    world.serve("bank");

    let assistant = agent(&world, "assistant");
    let open = || assistant.line();
    let refused = |answer: &Answer, what: &str| {
        assert_eq!((answer.status, answer.name()), (409, "nonce_replayed"), "{what}: {answer:?}");
    };
    // Made out a little before it is sent, so that it is older than the daemon that comes next.
    let read = signed_as(&assistant, &balance(), made(0, 470));
    let order = signed_as(&assistant, &authorize("once"), made(0, 470));
    let mut first = open();
    assert_eq!(first.ask(&read).content()["currency"], "USD");
    refused(&first.ask(&read), "a read, on its own connection");
    refused(&open().ask(&read), "a read, on another connection");
    assert_eq!(first.ask(&order).content()["status"], "approved");
    let held = accounts(&world);
    refused(&first.ask(&order), "an order, on its own connection");
    refused(&open().ask(&order), "an order, on another connection");

    // One nonce for two orders: the second is none.
    let parameters = made(0, 60);
    assert_eq!(
        first.ask(&signed_as(&assistant, &authorize("once"), parameters.clone())).content()["status"],
        "approved"
    );
    refused(&first.ask(&signed_as(&assistant, &authorize("twice"), parameters)), "another order under its nonce");
    // Arguments that no rule can be asked about are refused, and that once.
    let malformed = signed(&assistant, &tool_call(AUTHORIZE, &json!({ "amount": "-1" })));
    assert_eq!(first.ask(&malformed).content()["reason"], "invalid_arguments");
    refused(&first.ask(&malformed), "malformed arguments");
    assert_eq!(accounts(&world), held);

    // Eight at once.
    for (request, word) in [(balance(), "currency"), (authorize("at once"), "status")] {
        let request = signed(&assistant, &request);
        let start = Barrier::new(8);
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let one = || {
                let mut line = open();
                start.wait();
                line.ask(&request)
            };
            let callers: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).collect()
        });
        let answered =
            answers.iter().filter(|answer| answer.content()[word].is_string() && answer.status == 200).count();
        let replayed = answers.iter().filter(|answer| answer.name() == "nonce_replayed").count();
        assert_eq!((answered, replayed), (1, 7), "{answers:?}");
    }

    let held = accounts(&world);
    world.kill("bank");
    // Signatures count seconds: the daemon that comes next begins in a later one.
    let killed = made(0, 470).created;
    while made(0, 470).created == killed {
        crate::support::before_another_look();
    }
    world.serve("bank");
    let mut line = open();
    let answer = line.ask(&read);
    assert_eq!((answer.status, answer.name()), (401, "signature_too_old"), "{answer:?}");
    refused(&line.ask(&order), "an order, after a restart");
    assert_eq!(accounts(&world), held);
    // What is signed anew is answered as ever.
    assert_eq!(line.ask(&signed(&assistant, &balance())).content()["currency"], "USD");
    assert_eq!(line.ask(&signed(&assistant, &authorize("once"))).content()["status"], "approved");
    assert_eq!(accounts(&world), held);
}

type Bend = fn(&mut httpsig::Components);

#[test]
fn an_agent_host_signs_requests_of_the_profile_for_now_and_nothing_else() {
    let world = World::new();
    let assistant = agent(&world, "assistant");
    let request = String::from_utf8(balance()).unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let honest = components(head, body.as_bytes()).unwrap();
    assistant.sign_request(honest.clone(), fresh()).unwrap();
    let table: Vec<(&str, Bend)> = vec![
        ("a line more", |c| c.mcp_method = "tools/call\n\"mcp-name\": execute_transfer".into()),
        ("plain HTTP", |c| c.target_uri = "http://127.0.0.1/mcp".into()),
        ("no digest", |c| c.content_digest = String::new()),
        ("a verb in small letters", |c| c.method = "post".into()),
        ("letters beyond ASCII", |c| c.mcp_name = Some("Überweisung".into())),
        ("a very long token", |c| c.authorization = Some("x".repeat(20_000))),
    ];
    for (what, change) in table {
        let mut bent = honest.clone();
        change(&mut bent);
        let failure = assistant.sign_request(bent, fresh()).unwrap_err();
        assert!(matches!(failure.name.as_str(), "input_malformed" | "input_too_large"), "{what}: {failure:?}");
    }
    for (created, expires) in [(86_400, 86_460), (-86_400, -86_340), (0, 481), (0, 0)] {
        let failure = assistant.sign_request(honest.clone(), made(created, expires)).unwrap_err();
        assert_eq!(failure.name, "input_malformed", "{created} {expires}");
    }
    for nonce in ["", "short", "a quote \" in the middle of it", "a line\nin the middle of it"] {
        let failure =
            assistant.sign_request(honest.clone(), Parameters { nonce: nonce.into(), ..fresh() }).unwrap_err();
        assert_eq!(failure.name, "input_malformed", "{nonce:?}");
    }
    assert_eq!(agent(&world, "nobody").sign_request(honest, fresh()).unwrap_err().name, "agent_not_installed");
}

/// Where `scripts/lib/httpsig.sh` has put the packages.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/httpsig")
}

/// The programs that are here, each with its name.
fn others() -> Vec<(&'static str, Command)> {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/httpsig");
    let mut found = Vec::new();
    let python = tools().join("python/bin/python");
    if tools().join("python/ready").exists() {
        let mut command = Command::new(python);
        command.arg(peers.join("peer.py"));
        found.push(("python", command));
    }
    let modules = tools().join("node/node_modules");
    if modules.join("http-message-signatures").exists() {
        let mut command = Command::new("node");
        command.arg(peers.join("peer.cjs")).env("NODE_PATH", modules);
        found.push(("node", command));
    }
    if found.len() < 2 {
        let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
        println!("skipped: only {names:?} of python and node; scripts/lib/httpsig.sh installs the packages");
    }
    found
}

/// What a program answers to a question. `None`: it refused.
fn ask(command: &mut Command, question: &Value) -> Option<Value> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

const URL: &str = "https://127.0.0.1:8443/mcp";
const COVERED: [&str; 6] =
    ["@method", "@target-uri", "content-digest", "mcp-protocol-version", "mcp-method", "mcp-name"];

/// A question about a request with this body.
fn question(what: &str, body: &str, key: &str, keyid: &str) -> Value {
    json!({
        "do": what, "method": "POST", "url": URL, "body": body, "key": key, "keyid": keyid, "tag": TAG,
        "components": COVERED,
        "headers": {
            "content-digest": content_digest(body.as_bytes()), "mcp-protocol-version": "2026-07-28",
            "mcp-method": "tools/call", "mcp-name": BALANCE,
        },
    })
}

/// The fenced block of `docs/SIGNING.md` whose opening line says this.
fn block(kind: &str) -> String {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/SIGNING.md")).unwrap();
    let after = page.split_once(&format!("```{kind}\n")).unwrap().1;
    after.split_once("\n```").unwrap().0.to_owned()
}

#[test]
fn the_page_shows_a_base_that_is_signed_and_a_program_that_verifies() {
    let base = block("text");
    let keyid = base.split_once("keyid=\"").unwrap().1;
    let key = Sha256::from_hex(&keyid[..64]).unwrap();
    httpsig::lint_base(base.as_bytes(), key, UnixMillis(1_795_234_800_000)).unwrap();
    assert!(base.contains(&content_digest(br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)));

    if !tools().join("python/ready").exists() {
        println!("skipped: scripts/lib/httpsig.sh installs the package");
        return;
    }
    let (key, spki) = software_key();
    let keyid = Sha256::of(&[&spki]).hex();
    let mut asked = question("sign", "{}", &private_pem(&key), &keyid);
    let Parameters { created, expires, nonce } = fresh();
    (asked["created"], asked["expires"], asked["nonce"]) = (json!(created), json!(expires), json!(nonce));
    let (_, mut python) = others().remove(0);
    let signed = ask(&mut python, &asked).unwrap();
    asked["headers"].as_object_mut().unwrap().extend(signed.as_object().unwrap().clone());
    let program = format!(
        "import json, sys, types\nasked = json.load(sys.stdin)\n\
         request = types.SimpleNamespace(method=asked['method'], url=asked['url'], headers=asked['headers'])\n\
         body, key, keyid = asked['body'].encode(), asked['key'].encode(), asked['keyid']\n{}\nprint('true')",
        block("python").replace("print(", "assert (")
    );
    asked["key"] = json!(public_pem(&spki));
    let verify = || {
        let mut command = Command::new(tools().join("python/bin/python"));
        command.arg("-c").arg(&program);
        command
    };
    assert_eq!(ask(&mut verify(), &asked), Some(json!(true)));
    asked["body"] = json!("[]");
    assert_eq!(ask(&mut verify(), &asked), None, "another body");
}

fn software_key() -> (EcdsaKeyPair, Vec<u8>) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let spki = spki_der(Algorithm::P256, pair.public_key().as_ref());
    (pair, spki)
}

fn private_pem(pair: &EcdsaKeyPair) -> String {
    pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref())
}

fn public_pem(spki: &[u8]) -> String {
    pem("PUBLIC KEY", spki)
}

fn pem(kind: &str, der: &[u8]) -> String {
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
}

#[test]
fn two_packages_that_are_not_ours_verify_what_an_agent_signs() {
    let world = World::new();
    let assistant = agent(&world, "assistant");
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#;
    let certificate = &assistant.chain().unwrap()[0];
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).unwrap();
    let spki = certificate.public_key().raw;
    let key = public_pem(spki);
    let mut asked = question("verify", body, &key, &Sha256::of(&[spki]).hex());
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:8443\r\nMcp-Protocol-Version: 2026-07-28\r\n\
         Mcp-Method: tools/call\r\nMcp-Name: {BALANCE}"
    );
    let signed = assistant.sign_request(components(&head, body.as_bytes()).unwrap(), fresh()).unwrap();
    asked["headers"]["signature-input"] = json!(signed.signature_input);
    asked["headers"]["signature"] = json!(signed.signature);
    for (name, mut command) in others() {
        assert_eq!(ask(&mut command, &asked), Some(json!(COVERED)), "{name}");
        let mut bent = asked.clone();
        bent["headers"]["mcp-name"] = json!("execute_transfer");
        assert_eq!(ask(&mut command, &bent), None, "{name}: another tool");
    }
}

#[test]
fn what_two_packages_that_are_not_ours_sign_is_verified() {
    let (pair, spki) = software_key();
    let key = private_pem(&pair);
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#;
    let Parameters { created, expires, nonce } = fresh();
    for (name, mut command) in others() {
        let mut asked = question("sign", body, &key, &Sha256::of(&[&spki]).hex());
        (asked["created"], asked["expires"], asked["nonce"]) = (json!(created), json!(expires), json!(nonce));
        let signed = ask(&mut command, &asked).unwrap_or_else(|| panic!("{name} signs"));
        let mut headers: Vec<(&str, &[u8])> = vec![("host", b"127.0.0.1:8443")];
        for (header, value) in asked["headers"].as_object().unwrap().iter().chain(signed.as_object().unwrap()) {
            headers.push((header, value.as_str().unwrap().as_bytes()));
        }
        let window = Window { now: UnixMillis((created + 1) * 1000), lifetime_max_s: 60, skew_max_s: 5 };
        let verdict = |target: &str, body: &[u8]| {
            let request = SignedRequest { method: "POST", target, headers: &headers, body };
            httpsig::verify(&request, &spki, &window).map(|verified| verified.created())
        };
        assert_eq!(verdict("/mcp", body.as_bytes()), Ok(created), "{name}: {signed}");
        assert!(verdict("/mcp", b"{}").is_err() && verdict("/", body.as_bytes()).is_err(), "{name}");
    }
}
