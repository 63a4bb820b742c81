//! The local signing service at work: a real daemon with its token, programs of several users at its socket, and what is
//! left of their requests in the log.

mod command_line;
mod desk;
mod places;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign::kernel::external::{ExternalKind, LeafProof, PublicKey, verify_any, verify_kind, verify_proof};
use countersign::kernel::sign::{Algorithm, digest_is_signed, from_wire, signature_is_valid};
use countersign::kernel::types::Sha256;
use countersign::signing::client::{Answered, Client};
use countersign::signing::proofs;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::crash::until;
use crate::support::world::{PROGRAM, World};

/// A user that the configuration names, and one that it does not; nobody has to know them.
const BILLING: u32 = 61_001;
const STRANGER: u32 = 61_002;

/// A bank whose signing service other users reach.
struct Service {
    world: World,
    outside: tempfile::TempDir,
}

impl Service {
    fn new() -> Self {
        let (world, outside) = (World::new(), tempfile::tempdir().unwrap());
        std::fs::set_permissions(outside.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let service = Self { world, outside };
        for (name, algorithm) in [
            ("papers", "p256"),
            ("edwards", "ed25519"),
            ("wide", "p384"),
            ("tokens", "p256"),
            ("edwards-tokens", "ed25519"),
            ("wide-tokens", "p384"),
            ("releases", "p256"),
            ("raw-blobs", "p256"),
            ("raw-messages", "ed25519"),
        ] {
            let made = ["key", "generate", "--purpose", "external", "--name", name, "--algorithm", algorithm];
            service.world.run("bank", &[&["--operator", "bank-admin"], &made[..]].concat());
        }
        service.world.run("bank", &["stop"]);
        let path = service.world.state("bank").join("countersign.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}\n{}", service.settings())).unwrap();
        service.world.serve("bank");
        service
    }

    fn socket(&self) -> PathBuf {
        self.outside.path().join("sign.sock")
    }

    fn settings(&self) -> String {
        let often = "per_second = 2000\nburst = 2000";
        let all = format!("kinds = [\"file\", \"document\", \"request\", \"batch\"]\n{often}");
        let tokens = format!("kinds = [\"file\", \"jwt\", \"batch\"]\n{often}");
        let jwt = "[signing.key.jwt]\nissuer = \"https://billing.example\"\naudiences = [\"https://erp.example\"]";
        let key = |name: &str, rest: &str| format!("[[signing.key]]\nname = \"{name}\"\ncallers = [\"0\"]\n{rest}\n");
        let mut text = format!(
            "[signing]\nsocket = \"{}\"\n[signing.limits]\nbody_bytes_max = 65536\nbatch_max = 8\n",
            self.socket().display()
        );
        text += &key("papers", &format!("{all}\n[signing.key.request]\ntags = [\"orders\"]"));
        text += &key("edwards", &all);
        text += &key("wide", &all);
        for name in ["tokens", "edwards-tokens"] {
            text += &key(name, &format!("{tokens}\n{jwt}"));
        }
        text += &key("wide-tokens", &format!("{tokens}\n{jwt}\nsubjects = [\"4711\", \"4713\"]"));
        text += &key("releases", "kinds = [\"file\"]\npurposes = [\"nightly\", \"release\"]");
        text += &key("raw-blobs", "kinds = [\"raw\"]\nper_second = 1\nburst = 20");
        text += &key("raw-messages", "kinds = [\"raw\"]\nburst = 4");
        text += &key("absent", "kinds = [\"file\"]");
        text += &format!(
            "[[signing.key]]\nname = \"edwards-2\"\nkinds = [\"file\"]\ncallers = [\"{BILLING}\"]\nper_second = 1\nburst = 2\n"
        );
        text
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket()).unwrap()
    }

    fn post(&self, path: &str, body: &Value) -> Answered {
        self.client().ask("POST", path, body.to_string().as_bytes()).unwrap()
    }

    /// An item signed with a key; the answer.
    fn signed(&self, key: &str, item: Value) -> Value {
        let answered = self.post("/v1/sign", &json!({ "key": key, "item": item }));
        answered.value().unwrap_or_else(|failure| panic!("{key}: {failure:?}"))
    }

    /// Status and name of a refusal.
    fn refused(&self, path: &str, body: &Value) -> (u16, String) {
        name_of(&self.post(path, body))
    }

    fn key(&self, name: &str) -> PublicKey {
        let keys = self.client().ask("GET", "/v1/keys", b"").unwrap().value().unwrap();
        let own = keys["items"].as_array().unwrap().iter().find(|key| key["name"] == name).unwrap();
        PublicKey::from_jwk(&own["jwk"]).unwrap()
    }

    /// A verb of the program as another user, with this on its standard input.
    fn as_user(&self, uid: u32, arguments: &[&str], input: &[u8]) -> (i32, String, String) {
        let program = self.outside.path().join("countersign");
        if !program.exists() {
            let linked = std::fs::hard_link(PROGRAM, &program);
            linked.or_else(|_| std::fs::copy(PROGRAM, &program).map(drop)).unwrap();
        }
        let mut child = Command::new(&program)
            .args(arguments)
            .args(["--socket"])
            .arg(self.socket())
            .uid(uid)
            .gid(uid)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// The processes that have the token.
    fn workers(&self) -> Vec<Pid> {
        let lock = std::fs::read_to_string(self.world.state("bank").join("daemon.lock")).unwrap();
        let supervisor = lock.trim();
        let children = std::fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
        let is_worker = |pid: &&str| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).nth(1) == Some(b"hsm-worker")
        };
        let found: Vec<Pid> = children
            .split_whitespace()
            .filter(is_worker)
            .map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap())
            .collect();
        assert!(!found.is_empty());
        found
    }

    /// What the log says of signatures, newest last: the leaves' bodies.
    fn leaves(&self, act: &str) -> Vec<Value> {
        let database = rusqlite::Connection::open(self.world.state("bank").join("store/store.sqlite3")).unwrap();
        let mut rows = database.prepare("SELECT count(*) FROM leaves").unwrap();
        let count: i64 = rows.query_row([], |row| row.get(0)).unwrap();
        let search =
            ["--json", "--operator", "auditor", "audit", "search", "--tool", act, "--oldest-first", "--limit", "1000"];
        let items = until("the log's end", || {
            let found: Value = serde_json::from_str(&self.world.run("bank", &search)).unwrap();
            (found["size"].as_i64().unwrap() >= count).then(|| found["items"].as_array().unwrap().clone())
        });
        items.into_iter().map(|item| item["body"].clone()).collect()
    }
}

fn name_of(answered: &Answered) -> (u16, String) {
    let failure = answered.value().unwrap_err();
    (answered.status, failure.name)
}

fn file(content: &[u8]) -> Value {
    json!({ "kind": "file", "sha256": Sha256::of(&[content]), "size": content.len(), "name": "a.txt" })
}

/// Bytes as they are sent, and all that comes back until the service hangs up.
fn raw(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    // A service that has heard enough hangs up while more is coming.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn programs_have_signed_what_their_keys_may_and_every_decision_is_a_leaf() {
    let service = Service::new();
    each_kind_verifies_with_the_public_key_alone(&service);
    what_is_not_permitted_has_a_name(&service);
    other_users_have_what_is_theirs(&service);
    what_is_no_request_is_refused_before_it_is_read(&service);
    every_signature_has_its_leaf(&service);
    the_same_again_is_the_same_to_the_byte(&service);
    what_stands_in_the_store_never_decides_what_is_signed(&service);
    without_its_hsm_nothing_is_signed_and_the_daemon_says_so(&service);
    its_own_document_drives_it(&service);
    places::strangers_keep_nobody_out(&service);
    places::it_is_nobody_elses_socket(&service);
    places::nobody_else_waits_with_them(&service);
}

fn each_kind_verifies_with_the_public_key_alone(service: &Service) {
    let document = json!({ "z": "1", "a": { "total": "12.00", "lines": [1, 2] } });
    for (name, tokens) in [("papers", "tokens"), ("edwards", "edwards-tokens"), ("wide", "wide-tokens")] {
        let token = json!({ "kind": "jwt", "claims": { "aud": "https://erp.example", "sub": "4711" } });
        for (name, kind, item) in [
            (name, ExternalKind::File, file(b"content")),
            (name, ExternalKind::Document, json!({ "kind": "document", "document": document })),
            (tokens, ExternalKind::Jwt, token),
        ] {
            let key = service.key(name);
            let answer = service.signed(name, item);
            assert_eq!(answer["key"]["kid"], key.id().hex());
            let jws = answer["result"]["jws"].as_str().unwrap();
            let verified = verify_kind(jws, &key, kind).unwrap_or_else(|refusal| panic!("{name} {kind:?}: {refusal}"));
            let payload: Value = serde_json::from_slice(verified.payload()).unwrap();
            match kind {
                ExternalKind::Document => assert_eq!(payload, document),
                ExternalKind::Jwt => assert_eq!(payload["iss"], "https://billing.example"),
                _ => assert_eq!(payload["sha256"], Sha256::of(&[b"content"]).hex()),
            }
            let verdict = service.post("/v1/verify", &json!({ "key": name, "jws": jws })).value().unwrap();
            assert_eq!((verdict["valid"].as_bool(), verdict["kind"].as_str()), (Some(true), Some(kind.slug())));
            let (rest, last) = jws.split_at(jws.len() - 1);
            let bent = format!("{rest}{}", if last == "A" { "Q" } else { "A" });
            let verdict = service.post("/v1/verify", &json!({ "key": name, "jws": bent })).value().unwrap();
            assert_eq!(verdict["valid"], false);
        }
        // Many under one signature.
        let key = service.key(name);
        let items: Vec<Sha256> = (0_u8..37).map(|item| Sha256::of(&[&[item]])).collect();
        let asked = json!({ "key": name, "items": items });
        let answer = service.post("/v1/sign/merkle", &asked).value().unwrap();
        let proofs: Vec<LeafProof> = proofs(&answer).unwrap();
        assert_eq!(proofs.len(), items.len());
        for (proof, item) in proofs.iter().zip(&items) {
            assert_eq!((verify_proof(proof, &key), proof.sha256), (Ok(()), *item));
        }
        let verdict = service.post("/v1/verify", &json!({ "key": name, "proof": proofs[5] })).value().unwrap();
        assert_eq!(verdict["valid"], true);
        // A batch: as many signatures as items.
        let asked = json!({ "key": name, "items": [file(b"1"), file(b"2"), file(b"3")] });
        let answer = service.post("/v1/sign/batch", &asked).value().unwrap();
        assert_eq!(answer["results"].as_array().unwrap().len(), 3);
    }
    let digest = Sha256::of(&[b"blob"]);
    let answer = service.signed("raw-blobs", json!({ "kind": "raw", "digest": digest }));
    let der = STANDARD.decode(answer["result"]["signature_der"].as_str().unwrap()).unwrap();
    assert!(digest_is_signed(service.key("raw-blobs").spki(), &digest.0, &der));
    service.signed("raw-messages", json!({ "kind": "raw", "message": STANDARD.encode(b"bytes") }));
}

fn what_is_not_permitted_has_a_name(service: &Service) {
    let jwt = |claims: Value| json!({ "kind": "jwt", "claims": claims });
    let claims = json!({ "aud": "https://erp.example" });
    let request = |tag: Value| {
        json!({
            "kind": "request", "method": "GET", "url": "https://api.example/", "components": ["@method"], "tag": tag,
        })
    };
    for (key, item, status, name) in [
        ("papers", json!({ "kind": "raw", "digest": Sha256([7; 32]) }), 403, "kind_not_permitted"),
        ("raw-blobs", file(b"x"), 403, "kind_not_permitted"),
        ("edwards-2", file(b"x"), 403, "key_not_permitted"),
        ("no-such-key", file(b"x"), 403, "key_not_permitted"),
        ("absent", file(b"x"), 503, "key_missing"),
        ("raw-blobs", json!({ "kind": "raw", "digest": "00" }), 400, "digest_malformed"),
        ("raw-blobs", json!({ "kind": "raw", "message": "AA==" }), 400, "digest_malformed"),
        ("raw-messages", json!({ "kind": "raw", "digest": Sha256([7; 32]) }), 400, "digest_malformed"),
        ("papers", json!({ "kind": "document", "document": { "a": 1.5 } }), 400, "document_not_canonical"),
        ("papers", json!({ "kind": "document", "document": [] }), 400, "document_not_an_object"),
        ("papers", json!({ "kind": "file", "sha256": Sha256([7; 32]), "size": 1, "name": "" }), 400, "file_malformed"),
        ("tokens", jwt(json!({})), 403, "jwt_audience"),
        ("tokens", jwt(json!({ "aud": "https://other.example" })), 403, "jwt_audience"),
        ("tokens", jwt(json!({ "aud": "https://erp.example", "iss": "x" })), 403, "jwt_issuer"),
        ("tokens", jwt(json!({ "aud": "https://erp.example", "exp": 1 })), 403, "jwt_claim_reserved"),
        ("tokens", json!({ "kind": "jwt", "claims": claims, "lifetime_s": 301 }), 403, "jwt_lifetime"),
        ("wide-tokens", jwt(json!({ "aud": "https://erp.example", "sub": "4712" })), 403, "jwt_subject"),
        ("wide-tokens", jwt(json!({ "aud": "https://erp.example" })), 403, "jwt_subject"),
        ("releases", file(b"x"), 403, "purpose_not_permitted"),
        ("papers", request(Value::Null), 403, "request_tag"),
        ("edwards", request(json!("countersign-request")), 400, "message_tag_reserved"),
    ] {
        let said = service.refused("/v1/sign", &json!({ "key": key, "item": item }));
        assert_eq!(said, (status, name.to_owned()), "{key} {item}");
    }
    let many: Vec<Value> = (0_u8..9).map(|item| file(&[item])).collect();
    // More than may come at once: no pause would be long enough, and nobody is told to come again.
    let burst = vec![json!({ "kind": "raw", "message": "AA==" }); 5];
    for (path, body, name) in [
        ("/v1/sign/batch", json!({ "key": "papers", "items": many }), "too_many_items"),
        ("/v1/sign/batch", json!({ "key": "raw-messages", "items": burst }), "too_many_items"),
        ("/v1/sign/batch", json!({ "key": "papers", "items": [] }), "too_many_items"),
        ("/v1/sign/merkle", json!({ "key": "papers", "items": [] }), "too_many_items"),
        ("/v1/sign/batch", json!({ "key": "papers", "items": [file(b"1"), jwt(json!({}))] }), "batch_mixed"),
        ("/v1/sign", json!({ "key": "papers", "item": file(b"1"), "purpose": "" }), "purpose_too_long"),
        ("/v1/verify", json!({ "key": "papers" }), "verify_malformed"),
        ("/v1/verify", json!({ "jws": "a.b.c" }), "verify_malformed"),
    ] {
        assert_eq!(service.refused(path, &body), (400, name.to_owned()), "{path} {body}");
    }
}

fn other_users_have_what_is_theirs(service: &Service) {
    let sign = ["--json", "sign", "--key", "papers", "-"];
    let (code, _, error) = service.as_user(STRANGER, &sign, b"x");
    assert_eq!((code, error.contains("caller_unknown")), (3, true), "{error}");
    let (code, _, error) = service.as_user(BILLING, &sign, b"x");
    assert_eq!((code, error.contains("key_not_permitted")), (3, true), "{error}");
    let made = ["key", "generate", "--purpose", "external", "--name", "edwards-2", "--algorithm", "ed25519"];
    service.world.run("bank", &[&["--operator", "bank-admin"], &made[..]].concat());
    let own = ["sign", "--key", "edwards-2", "-"];
    let (code, jws, error) = service.as_user(BILLING, &own, b"x");
    assert_eq!(code, 0, "{error}");
    let export = ["--operator", "bank-admin", "key", "export", "bank-external.edwards-2-v1", "--format", "jwk"];
    let exported = service.world.run("bank", &export);
    let key = PublicKey::from_jwk(&serde_json::from_str(&exported).unwrap()).unwrap();
    assert!(verify_kind(jws.trim(), &key, ExternalKind::File).is_ok());
    // One a second, two at once: of many in a row some are too many, and are told so by name.
    let all: Vec<_> = (0..6).map(|_| service.as_user(BILLING, &own, b"x")).collect();
    assert!(all.iter().all(|(code, _, error)| *code == 0 || error.contains("more signatures")), "{all:?}");
    let burst: Vec<Answered> = {
        let body = json!({ "key": "raw-blobs", "item": { "kind": "raw", "digest": Sha256([1; 32]) } }).to_string();
        let mut client = service.client();
        (0..60).map(|_| client.ask("POST", "/v1/sign", body.as_bytes()).unwrap()).collect()
    };
    let too_often = burst.iter().find(|answered| answered.status != 200).expect("a burst of 20 ends");
    assert_eq!(name_of(too_often), (429, "signing_rate_exceeded".into()));
    assert!(too_often.headers.iter().any(|(name, _)| name == "retry-after"));
}

fn what_is_no_request_is_refused_before_it_is_read(service: &Service) {
    let socket = service.socket();
    let post = |body: &str| {
        let head = "POST /v1/sign HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n";
        raw(&socket, format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes())
    };
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let item = r#""item":{"kind":"file","sha256":"00","size":1}"#;
    for (what, body, status, name) in [
        ("nothing", String::new(), "400", "json_malformed"),
        ("no JSON", "{".into(), "400", "json_malformed"),
        ("deep", deep, "400", "json_too_deep"),
        ("a member twice", r#"{"key":"a","key":"b"}"#.into(), "400", "json_duplicate_key"),
        ("an unknown member", format!(r#"{{"key":"a","more":1,{item}}}"#), "400", "request_malformed"),
        ("an unknown kind", r#"{"key":"a","item":{"kind":"certificate"}}"#.into(), "400", "request_malformed"),
        ("a short digest", format!(r#"{{"key":"papers",{item}}}"#), "400", "request_malformed"),
        ("too long", format!("\"{}\"", "x".repeat(100_000)), "413", "body_too_long"),
    ] {
        let answer = post(&body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(name), "{what}: {answer}");
    }
    for (request, status) in [
        ("GET /v1/sign HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "405"),
        ("GET /v2/sign HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "404"),
        ("POST /v1/sign HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}", "415"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let answer = raw(&socket, request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    }
    let served: Value = service.client().ask("GET", "/openapi.json", b"").unwrap().value().unwrap();
    assert_eq!(served["openapi"], "3.1.0");
}

fn every_signature_has_its_leaf(service: &Service) {
    let purpose = "a purpose that is told apart";
    let asked = json!({ "key": "papers", "purpose": purpose, "item": file(b"of the log") });
    let answer = service.post("/v1/sign", &asked).value().unwrap();
    let bad = json!({ "key": "raw-blobs", "purpose": purpose, "item": file(b"of the log") });
    assert_eq!(service.refused("/v1/sign", &bad), (403, "kind_not_permitted".into()));
    let leaves = service.leaves("sign");
    let of_this: Vec<&Value> = leaves.iter().filter(|leaf| leaf["parameters"]["purpose"] == purpose).collect();
    let [ordered, refused] = of_this[..] else { panic!("{of_this:?}") };
    assert_eq!(ordered["actor"]["kind"], "program");
    assert_eq!((ordered["actor"]["uid"].as_u64(), ordered["actor"]["user"].as_str()), (Some(0), Some("root")));
    assert_eq!(ordered["parameters"]["label"], "bank-external.papers-v1");
    assert_eq!(
        (ordered["decision"].as_str(), ordered["result"]["status"].as_str()),
        (Some("permitted"), Some("ordered"))
    );
    assert_eq!(
        (refused["decision"].as_str(), refused["reason"].as_str()),
        (Some("refused"), Some("kind_not_permitted"))
    );
    // The same by its key, whichever of its names is asked for, and by the program.
    let found = |words: &[&str]| {
        let search = ["--json", "--operator", "auditor", "audit", "search", "--tool", "sign", "--limit", "1000"];
        let found: Value = serde_json::from_str(&service.world.run("bank", &[&search, words].concat())).unwrap();
        found["items"].as_array().unwrap().iter().filter(|leaf| leaf["body"] == *ordered).count()
    };
    let id = ordered["parameters"]["key_id"].as_str().unwrap();
    for words in [
        ["--key", "papers"],
        ["--key", "bank-external.papers-v1"],
        ["--key", id],
        ["--agent", "program:0"],
        ["--agent", "program:root"],
    ] {
        assert_eq!(found(&words), 1, "{words:?}");
    }
    for words in [["--key", "raw-blobs"], ["--agent", "program:1"], ["--agent", "root"], ["--credential", "papers"]] {
        assert_eq!(found(&words), 0, "{words:?}");
    }
    // What came of it is said a moment later.
    let outcome = until("its outcome", || {
        let outcomes = service.leaves("signed").into_iter();
        let mut outcomes = outcomes.flat_map(|leaf| leaf["parameters"]["outcomes"].as_array().unwrap().clone());
        outcomes.find(|outcome| outcome["request_id"] == ordered["request_id"])
    });
    let signature = answer["result"]["jws"].as_str().unwrap().rsplit('.').next().unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    assert_eq!(outcome["signatures_sha256"], json!(Sha256::of(&[&signature])));
    // Who has nothing to ask leaves a number, and not a leaf of their own.
    let counted = until("the counts", || {
        let all = service.leaves("signing_refused");
        let of = |leaf: &Value| leaf["parameters"]["counts"]["caller_unknown"].as_u64();
        all.iter().find_map(of)
    });
    assert!(counted >= 1);
    assert!(leaves.iter().all(|leaf| leaf["actor"]["uid"].as_u64() != Some(STRANGER.into())));
}

/// schemathesis makes requests of every shape that the document names, and of many that it does not: every answer is one that
/// the document describes, and none is a defect.
fn its_own_document_drives_it(service: &Service) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tools = root.join("target/tools/schemathesis");
    if !tools.join("ready").exists() {
        assert!(std::env::var_os("COUNTERSIGN_TEST_ALL_TOOLS").is_none(), "{} is not there", tools.display());
        println!("skipped: schemathesis is not here; scripts/lib/schemathesis.sh installs it");
        return;
    }
    let output = Command::new(tools.join("bin/python"))
        .arg(root.join("tests/it/signing/drive.py"))
        .arg(service.socket())
        .arg(root.join("docs/signing-api.json"))
        .args(["papers", "edwards", "wide", "tokens", "raw-messages"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn the_same_again_is_the_same_to_the_byte(service: &Service) {
    let ask = |key: &str, item: &Value| {
        let asked = json!({ "key": "tokens", "idempotency_key": key, "item": item });
        service.post("/v1/sign", &asked)
    };
    let repeated = |answered: &Answered| answered.headers.iter().any(|(name, _)| name == "idempotency-replayed");
    let token = json!({ "kind": "jwt", "claims": { "aud": "https://erp.example" } });
    let first = ask("one", &token);
    assert!(first.status == 200 && !repeated(&first));
    let again = ask("one", &token);
    assert_eq!((again.body == first.body, repeated(&again)), (true, true));
    assert_eq!(name_of(&ask("one", &file(b"other"))), (409, "idempotency_mismatch".into()));
    let items: Vec<Sha256> = (0_u8..9).map(|item| Sha256::of(&[&[item]])).collect();
    let merkle = json!({ "key": "tokens", "idempotency_key": "tree", "items": items });
    let tree = service.post("/v1/sign/merkle", &merkle);
    service.world.kill("bank");
    service.world.serve("bank");
    assert_eq!(ask("one", &token).body, first.body, "after a restart");
    assert_eq!(service.post("/v1/sign/merkle", &merkle).body, tree.body);

    // Killed between the order and its signature: the order is kept, and it is what is signed when it is asked again.
    let database = rusqlite::Connection::open(service.world.state("bank").join("store/store.sqlite3")).unwrap();
    let unsigned = || -> i64 {
        let sql = "SELECT count(*) FROM signings WHERE signatures IS NULL";
        database.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(unsigned(), 0);
    let workers = service.workers();
    for worker in &workers {
        kill_process(*worker, Signal::STOP).unwrap();
    }
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let asked = json!({ "key": "tokens", "idempotency_key": "cut", "item": token }).to_string();
            Client::connect(&service.socket()).unwrap().ask("POST", "/v1/sign", asked.as_bytes())
        });
        until("the order", || (unsigned() == 1).then_some(()));
        for worker in &workers {
            kill_process(*worker, Signal::KILL).unwrap();
        }
        service.world.kill("bank");
        // The answer was lost, or it said that it is not known.
        let answered = asking.join().unwrap();
        assert!(answered.is_err() || answered.unwrap().status != 200);
    });
    service.world.serve("bank");
    let late = ask("cut", &token);
    assert_eq!((late.status, repeated(&late)), (200, true));
    assert_eq!(unsigned(), 0);
    assert_eq!(ask("cut", &token).body, late.body);
    let orders = service.leaves("sign");
    let of_cut = orders.iter().filter(|leaf| leaf["parameters"]["idempotency_key"] == "cut").count();
    assert_eq!(of_cut, 3, "every decision has its leaf");
}

/// A copy of the store is no token, and a row that somebody wrote is never signed.
fn what_stands_in_the_store_never_decides_what_is_signed(service: &Service) {
    let token = json!({ "kind": "jwt", "claims": { "aud": "https://erp.example", "sub": "canary-7391-of-a-claim" } });
    let ask = |key: &str, item: &Value| {
        service.post("/v1/sign", &json!({ "key": "tokens", "idempotency_key": key, "item": item }))
    };
    let first = ask("held", &token);
    let answer = first.value().unwrap();
    assert_eq!(ask("other", &file(b"other")).status, 200);
    let path = service.world.state("bank").join("store/store.sqlite3");
    let database = rusqlite::Connection::open(&path).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
    let stored = [path.clone(), path.with_extension("sqlite3-wal")].map(|file| std::fs::read(file).unwrap_or_default());
    let stored = stored.concat();
    let holds = |text: &str| stored.windows(text.len()).any(|window| window == text.as_bytes());
    let payload = answer["result"]["jws"].as_str().unwrap().split('.').nth(1).unwrap();
    assert!(!holds("canary-7391") && !holds(payload) && !holds(&payload[40..80]));

    let row = |skipped: i64| -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let sql = "SELECT scope, journal, signatures FROM signings ORDER BY rowid DESC LIMIT 1 OFFSET ?1";
        database.query_row(sql, [skipped], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap()
    };
    let ((_, others_journal, others_signatures), (scope, journal, signatures)) = (row(0), row(1));
    let set = |journal: &[u8], signatures: Option<&[u8]>| {
        let sql = "UPDATE signings SET journal = ?2, signatures = ?3 WHERE scope = ?1";
        assert_eq!(database.execute(sql, rusqlite::params![scope, journal, signatures]).unwrap(), 1);
    };
    let flipped = |bytes: &[u8], place: usize| {
        let mut bytes = bytes.to_vec();
        bytes[place] ^= 1;
        bytes
    };
    // The id of the key, written as it is in the row.
    let (own, others) = (service.key("tokens").id(), service.key("edwards-tokens").id());
    let of_other_key = [(own.0.to_vec(), others.0.to_vec()), (own.hex().into_bytes(), others.hex().into_bytes())]
        .iter()
        .find_map(|(own, others)| {
            let place = journal.windows(own.len()).position(|window| window == own)?;
            Some([&journal[..place], others, &journal[place + own.len()..]].concat())
        })
        .unwrap();
    for (what, journal, signatures, refused) in [
        ("another request's signatures", journal.clone(), Some(others_signatures), (500, "journal_damaged")),
        (
            "a bent signature",
            journal.clone(),
            Some(flipped(&signatures, signatures.len() - 1)),
            (500, "journal_damaged"),
        ),
        ("no signatures at all", journal.clone(), Some(vec![]), (500, "journal_damaged")),
        ("another request's order", others_journal.clone(), None, (500, "journal_damaged")),
        ("another request's order, signed", others_journal, Some(signatures.clone()), (500, "journal_damaged")),
        ("another digest", flipped(&journal, journal.len() - 1), None, (500, "journal_damaged")),
        ("another key's", of_other_key, None, (403, "signing_key_retired")),
        ("no order", vec![7; 40], None, (500, "journal_unreadable")),
    ] {
        set(&journal, signatures.as_deref());
        assert_eq!(name_of(&ask("held", &token)), (refused.0, refused.1.to_owned()), "{what}");
        let kept: Option<Vec<u8>> =
            database.query_row("SELECT signatures FROM signings WHERE scope = ?1", [&scope], |row| row.get(0)).unwrap();
        assert_eq!(kept, signatures, "{what}: nothing was signed");
    }
    set(&journal, Some(&signatures));
    assert_eq!(ask("held", &token).body, first.body);
}

fn without_its_hsm_nothing_is_signed_and_the_daemon_says_so(service: &Service) {
    let asked = json!({ "key": "papers", "idempotency_key": "before", "item": file(b"before") });
    let before = service.post("/v1/sign", &asked);
    assert_eq!(before.status, 200);
    let state = service.world.state("bank");
    let (tokens, away) = (state.join("softhsm/tokens"), state.join("softhsm/away"));
    std::fs::rename(&tokens, &away).unwrap();
    for worker in service.workers() {
        let _ = kill_process(worker, Signal::KILL);
    }
    let lines = || -> Vec<(String, String)> {
        // Its exit code says how well it is, too.
        let output = service.world.output("bank", &["--json", "--operator", "bank-admin", "doctor"]);
        let doctor: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let own = doctor["items"].as_array().into_iter().flatten().filter(|item| item["check"] == "signing service");
        own.map(|item| (item["result"].as_str().unwrap().into(), item["detail"].as_str().unwrap().into())).collect()
    };
    until("the doctor to say so", || {
        lines().iter().any(|(result, detail)| result == "warn" && detail.contains("the HSM is away")).then_some(())
    });
    let new = json!({ "key": "papers", "idempotency_key": "meanwhile", "item": file(b"meanwhile") });
    for (path, body) in [
        ("/v1/sign", new.clone()),
        ("/v1/sign", json!({ "key": "papers", "item": file(b"meanwhile") })),
        ("/v1/sign/batch", json!({ "key": "papers", "items": [file(b"1"), file(b"2")] })),
        ("/v1/sign/merkle", json!({ "key": "papers", "items": [Sha256([7; 32])] })),
    ] {
        assert_eq!(service.refused(path, &body), (503, "hsm_unavailable".into()), "{path}");
    }
    // What was signed before is answered, and another request under its key is not.
    assert_eq!(service.post("/v1/sign", &asked).body, before.body);
    let other = json!({ "key": "papers", "idempotency_key": "before", "item": file(b"other") });
    assert_eq!(service.refused("/v1/sign", &other), (409, "idempotency_mismatch".into()));
    let database = rusqlite::Connection::open(state.join("store/store.sqlite3")).unwrap();
    let sql = "SELECT count(*) FROM signings WHERE signatures IS NULL";
    let waiting: i64 = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(waiting, 0, "nothing was ordered while nothing could be signed");
    std::fs::rename(&away, &tokens).unwrap();
    until("the HSM to be back", || (service.post("/v1/sign", &new).status == 200).then_some(()));
}

#[test]
fn jws_are_judged_as_project_wycheproof_does() {
    let Some(vectors) = crate::keys::vectors("json_web_signature_test.json") else {
        return;
    };
    let (mut accepted, mut refused) = (0, 0);
    for group in vectors["testGroups"].as_array().unwrap() {
        let key = PublicKey::from_jwk(&group["public"]);
        for test in group["tests"].as_array().unwrap() {
            let jws = test["jws"].as_str().unwrap();
            let is_ours = key.as_ref().is_ok_and(|key| verify_any(jws, key).is_ok());
            match (is_ours, test["result"].as_str().unwrap()) {
                (true, "valid") => accepted += 1,
                (false, "valid") => assert!(key.is_err(), "{}: a valid one of a key that is known", test["tcId"]),
                (is_ours, _) => {
                    assert!(!is_ours, "{}: {}", test["tcId"], test["comment"]);
                    refused += 1;
                }
            }
        }
    }
    assert!(accepted >= 2 && refused > 300, "{accepted} accepted, {refused} refused");
}

#[test]
fn signatures_as_they_travel_are_judged_as_project_wycheproof_does() {
    for (file, algorithm) in [
        ("ecdsa_secp256r1_sha256_p1363_test.json", Algorithm::P256),
        ("ecdsa_secp384r1_sha384_p1363_test.json", Algorithm::P384),
        ("ed25519_test.json", Algorithm::Ed25519),
    ] {
        let Some(vectors) = crate::keys::vectors(file) else {
            return;
        };
        let (mut accepted, mut refused) = (0, 0);
        for group in vectors["testGroups"].as_array().unwrap() {
            let spki = hex::decode(group["publicKeyDer"].as_str().unwrap()).unwrap();
            let key = PublicKey::from_spki(&spki);
            for test in group["tests"].as_array().unwrap() {
                let [message, signature] =
                    ["msg", "sig"].map(|name| hex::decode(test[name].as_str().unwrap()).unwrap());
                let judged = key.as_ref().is_ok_and(|key| {
                    from_wire(algorithm, &signature).is_some_and(|one| signature_is_valid(key.spki(), &message, &one))
                });
                assert_eq!(judged, test["result"] == "valid", "{file} {}: {}", test["tcId"], test["comment"]);
                *(if judged { &mut accepted } else { &mut refused }) += 1;
            }
        }
        assert!(accepted > 50 && refused > 20, "{file}: {accepted} accepted, {refused} refused");
    }
}
