//! The life of keys in a real token: algorithms, sealing, retiring, destroying, and what several workers see of it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use countersign::hsm::{HsmFault, KeyInfo, KeyOrder, KeyState, Plaintext, Token};
use countersign::kernel::sign::{
    Algorithm, DocumentTag, Purpose, SignInput, TlsSide, raw_public_key, signature_is_valid,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::clients::Bridge;
use crate::support::token::RealToken;
use crate::support::world::World;

/// Making RSA keys takes seconds where two cores are shared.
const SLOW_MS: u64 = 60_000;

fn slow(name: &str) -> RealToken {
    let mut token = RealToken::provisioned(name);
    token.settings.deadline_ms = SLOW_MS;
    token.start().expect("the worker starts");
    token
}

fn make(token: &Arc<dyn Token>, purpose: Purpose, algorithm: Algorithm) -> Result<KeyInfo, HsmFault> {
    token.make(KeyOrder { party: "bank".into(), purpose, agent: None, algorithm })
}

fn batch(text: &str) -> SignInput {
    SignInput::Document { tag: DocumentTag::BatchRoot, canonical_json: format!(r#"{{"a":"{text}"}}"#).into_bytes() }
}

fn secret(text: &[u8]) -> Plaintext {
    Plaintext(Zeroizing::new(text.to_vec()))
}

fn name<T: std::fmt::Debug>(outcome: Result<T, HsmFault>) -> String {
    outcome.unwrap_err().name().to_owned()
}

#[test]
fn a_key_of_each_algorithm_signs_what_others_can_verify() {
    let running = slow("bank");
    let token = running.token();
    for algorithm in Purpose::Transaction.algorithms() {
        let key = make(&token, Purpose::Transaction, *algorithm).unwrap();
        assert_eq!((key.algorithm, key.state), (*algorithm, KeyState::Active));
        assert_eq!(raw_public_key(&key.spki).map(|(read, _)| read), Some(*algorithm));
        assert!(key.custody.is_sound());
        let input = batch("1");
        let signature = token.sign(key.id, input.clone()).unwrap();
        assert!(signature_is_valid(&key.spki, &input.message(), &signature), "{algorithm:?}");
        assert!(!signature_is_valid(&key.spki, &batch("2").message(), &signature), "{algorithm:?}");
    }
    let versions: Vec<u32> = token.keys().unwrap().iter().map(|key| key.version).collect();
    assert_eq!(versions, [1, 1, 2, 3], "the identity key, and three of one label");
}

#[test]
fn a_purpose_has_its_own_algorithms_and_no_others() {
    let running = RealToken::running("bank");
    let token = running.token();
    for (purpose, algorithm) in [
        (Purpose::Checkpoint, Algorithm::P384),
        (Purpose::Witness, Algorithm::Rsa3072),
        (Purpose::TlsServer, Algorithm::Ed25519),
        (Purpose::Root, Algorithm::Ed25519),
        (Purpose::Transaction, Algorithm::Ed25519),
        (Purpose::Issuing, Algorithm::Aes256),
        (Purpose::VaultWrapping, Algorithm::P256),
    ] {
        assert_eq!(name(make(&token, purpose, algorithm)), "algorithm_not_permitted");
    }
    let key = make(&token, Purpose::TlsServer, Algorithm::P384).unwrap();
    let input = SignInput::TlsCertificateVerify { side: TlsSide::Server, transcript_hash: vec![7; 48] };
    let signature = token.sign(key.id, input.clone()).unwrap();
    assert!(signature_is_valid(&key.spki, &input.message(), &signature));
    assert_eq!(token.keys().unwrap().len(), 2, "refusals leave nothing behind");
}

#[test]
fn a_module_without_the_mechanism_is_asked_for_nothing() {
    let mut running = RealToken::provisioned("bank");
    let path = running.state.resolve("softhsm/softhsm2.conf");
    let mut config = std::fs::read_to_string(&path).unwrap();
    config.push_str("\nslots.mechanisms = CKM_EC_KEY_PAIR_GEN,CKM_ECDSA,CKM_RSA_PKCS_KEY_PAIR_GEN,CKM_AES_KEY_GEN\n");
    std::fs::write(&path, config).unwrap();
    running.start().unwrap();
    let token = running.token();
    assert_eq!(name(make(&token, Purpose::Transaction, Algorithm::Rsa3072)), "mechanism_missing");
    assert_eq!(name(make(&token, Purpose::DataWrapping, Algorithm::Aes256)), "mechanism_missing");
    assert_eq!(token.keys().unwrap().len(), 1);
    assert_eq!(make(&token, Purpose::Transaction, Algorithm::P384).unwrap().version, 1);
}

#[test]
fn a_wrapping_key_opens_what_it_sealed_and_nothing_else() {
    let running = RealToken::running("bank");
    let token = running.token();
    let vault = token.generate("bank", Purpose::VaultWrapping, None).unwrap();
    let data = token.generate("bank", Purpose::DataWrapping, None).unwrap();
    assert_eq!((vault.label.as_str(), vault.algorithm), ("bank-vault-wrapping-v1", Algorithm::Aes256));
    assert!(vault.custody.is_sound() && vault.spki.is_empty());

    let sealed = token.seal(vault.id, b"card 7", secret(b"a secret")).unwrap();
    assert_eq!(sealed.len(), 12 + 8 + 16);
    assert_ne!(sealed, token.seal(vault.id, b"card 7", secret(b"a secret")).unwrap(), "a nonce is used once");
    assert_eq!(token.unseal(vault.id, b"card 7", sealed.clone()).unwrap(), secret(b"a secret"));
    assert_eq!(format!("{:?}", secret(b"a secret")), "[redacted]");
    let empty = token.seal(data.id, b"", secret(b"")).unwrap();
    assert_eq!(token.unseal(data.id, b"", empty).unwrap(), secret(b""));

    assert_eq!(name(token.unseal(vault.id, b"card 8", sealed.clone())), "not_sealed_here");
    assert_eq!(name(token.unseal(data.id, b"card 7", sealed.clone())), "not_sealed_here");
    for index in [0, 12, sealed.len() - 1] {
        let mut changed = sealed.clone();
        changed[index] ^= 1;
        assert_eq!(name(token.unseal(vault.id, b"card 7", changed)), "not_sealed_here");
    }
    for length in [0, 11, 27] {
        assert_eq!(name(token.unseal(vault.id, b"card 7", sealed[..length].to_vec())), "not_sealed_here");
    }
    assert_eq!(name(token.seal(vault.id, b"", secret(&[0; 64 * 1024 + 1]))), "input_too_large");
    assert_eq!(name(token.seal(vault.id, &[0; 1025], secret(b""))), "input_too_large");
    assert_eq!(name(token.sign(vault.id, SignInput::SelfTest { nonce: [0; 32] })), "wrong_purpose");
    let identity = token.keys().unwrap().into_iter().find(|key| key.purpose == Purpose::TokenIdentity).unwrap();
    assert_eq!(name(token.seal(identity.id, b"", secret(b""))), "wrong_purpose");
    assert_eq!(running.workers_started(), 1, "bad texts are no reason to start anew");
}

#[test]
fn a_retired_key_signs_nothing_more_and_a_destroyed_one_keeps_its_version() {
    let mut running = RealToken::running("bank");
    let token = running.token();
    let key = make(&token, Purpose::Transaction, Algorithm::P256).unwrap();
    let signature = token.sign(key.id, batch("1")).unwrap();
    assert_eq!(name(token.destroy(key.id)), "key_still_active");

    let retired = token.retire(key.id).unwrap();
    assert_eq!(retired, KeyInfo { state: KeyState::VerifyOnly, ..key.clone() });
    assert_eq!(token.retire(key.id).unwrap(), retired, "a second time changes nothing");
    assert_eq!(name(token.sign(key.id, batch("2"))), "key_verify_only");
    assert!(signature_is_valid(&retired.spki, &batch("1").message(), &signature));
    drop(token);

    running.start().unwrap();
    let token = running.token();
    assert!(token.keys().unwrap().contains(&retired), "a restart changes nothing");
    assert_eq!(name(token.sign(key.id, batch("2"))), "key_verify_only");

    let destroyed = token.destroy(key.id).unwrap();
    assert_eq!((destroyed.state, &destroyed.spki), (KeyState::Destroyed, &key.spki));
    assert_eq!(token.destroy(key.id).unwrap(), destroyed);
    assert_eq!(name(token.sign(key.id, batch("2"))), "key_destroyed");
    assert_eq!(name(token.retire(key.id)), "key_destroyed");
    assert!(token.keys().unwrap().contains(&destroyed));
    assert_eq!(token.generate("bank", Purpose::Transaction, None).unwrap().version, 2);
}

#[test]
fn a_retired_wrapping_key_still_opens_and_a_destroyed_one_keeps_its_version() {
    let running = RealToken::running("bank");
    let token = running.token();
    let key = token.generate("bank", Purpose::DataWrapping, None).unwrap();
    let sealed = token.seal(key.id, b"row", secret(b"x")).unwrap();
    assert_eq!(token.retire(key.id).unwrap().state, KeyState::VerifyOnly);
    assert_eq!(name(token.seal(key.id, b"row", secret(b"x"))), "key_verify_only");
    assert_eq!(token.unseal(key.id, b"row", sealed.clone()).unwrap(), secret(b"x"));
    let destroyed = token.destroy(key.id).unwrap();
    assert_eq!((destroyed.state, destroyed.label.as_str()), (KeyState::Destroyed, "bank-data-wrapping-v1"));
    assert_eq!(name(token.unseal(key.id, b"row", sealed)), "key_destroyed");
    assert!(token.keys().unwrap().contains(&destroyed));
    assert_eq!(token.generate("bank", Purpose::DataWrapping, None).unwrap().version, 2);
}

#[test]
fn the_identity_key_is_never_retired_and_unknown_keys_are_named() {
    let running = RealToken::running("bank");
    let token = running.token();
    let identity = token.keys().unwrap().remove(0);
    assert_eq!(name(token.retire(identity.id)), "identity_not_retired");
    assert_eq!(name(token.destroy(identity.id)), "key_still_active");
    let unknown = countersign::kernel::types::Sha256([9; 32]);
    assert_eq!(name(token.retire(unknown)), "unknown_key");
    assert_eq!(name(token.destroy(unknown)), "unknown_key");
    assert_eq!(name(token.seal(unknown, b"", secret(b""))), "unknown_key");
}

#[test]
fn what_one_worker_does_to_a_key_the_others_see() {
    let running = RealToken::running("bank");
    let (one, another) = (running.token(), running.another());
    let another = another.pool() as Arc<dyn Token>;
    assert_eq!(another.keys().unwrap().len(), 1);

    let key = make(&one, Purpose::Transaction, Algorithm::P256).unwrap();
    assert!(another.sign(key.id, batch("1")).is_ok(), "a key that another worker made is found by its id");
    let wrapping = one.generate("bank", Purpose::DataWrapping, None).unwrap();
    let sealed = another.seal(wrapping.id, b"", secret(b"x")).unwrap();

    one.retire(key.id).unwrap();
    one.retire(wrapping.id).unwrap();
    assert_eq!(name(another.sign(key.id, batch("2"))), "key_verify_only");
    assert_eq!(name(another.seal(wrapping.id, b"", secret(b"x"))), "key_verify_only");
    assert_eq!(another.unseal(wrapping.id, b"", sealed.clone()).unwrap(), secret(b"x"));
    one.destroy(key.id).unwrap();
    one.destroy(wrapping.id).unwrap();
    assert_eq!(name(another.sign(key.id, batch("2"))), "key_verify_only");
    assert_eq!(name(another.unseal(wrapping.id, b"", sealed)), "key_destroyed");
    assert_eq!(one.keys().unwrap(), another.keys().unwrap());
    assert_eq!(name(another.sign(key.id, batch("2"))), "key_destroyed");
    assert_eq!(one.generate("bank", Purpose::Transaction, None).unwrap().version, 2);
    assert_eq!(another.generate("bank", Purpose::Transaction, None).unwrap().version, 3);
}

/// Buys a sleeve through the bridge; answers the transaction.
pub fn buy(bridge: &mut Bridge, key: &str) -> String {
    let mut call = |tool: &str, arguments: Value| {
        bridge.ask("tools/call", json!({ "name": tool, "arguments": arguments }))["structuredContent"].clone()
    };
    let order = json!({
        "product_id": "B07SLEEVE1", "price": 24.90, "merchant": "amazon.com", "idempotency_key": key,
    });
    let transaction = call("authorize_purchase", order)["transaction_id"].clone();
    let executed = call("execute_purchase", json!({ "transaction_id": transaction, "product_id": "B07SLEEVE1" }));
    assert_eq!((&executed["status"], &executed["receipt"]), (&json!("executed"), &json!("signed")), "{executed}");
    transaction.as_str().unwrap().to_owned()
}

const ADMIN: [&str; 3] = ["--operator", "bank-admin", "--json"];

fn as_admin(world: &World, arguments: &[&str]) -> Value {
    serde_json::from_str(&world.run("bank", &[&ADMIN, arguments].concat())).unwrap()
}

/// Fetches a receipt into a file of the bank's directory and verifies it offline.
fn proven(world: &World, transaction: &str, file: &str) {
    let file = world.state("bank").join(file).display().to_string();
    world.run("bank", &[&ADMIN, ["receipt", "show", transaction, "--out", file.as_str()].as_slice()].concat());
    still_proven(world, &file);
}

fn still_proven(world: &World, file: &str) {
    let file = world.state("bank").join(file).display().to_string();
    world.run("bank", &["verify", "receipt", &file]);
}

fn state_of(world: &World, label: &str) -> String {
    as_admin(world, &["key", "show", label])["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_running_bank_rotates_its_keys_and_everything_signed_before_stays_provable() {
    let world = World::new();
    let mut bridge = Bridge::start(&world.state("agent"));
    let before = buy(&mut bridge, "before");
    proven(&world, &before, "before.json");

    for purpose in ["transaction", "checkpoint", "catalogue", "revocation-receipt"] {
        let rotated = as_admin(&world, &["key", "rotate", purpose]);
        assert_eq!((&rotated["version"], &rotated["effective"]), (&json!(2), &json!("now")));
        assert_eq!(rotated["retired"], json!([format!("bank-{purpose}-v1")]));
        assert_eq!(state_of(&world, &format!("bank-{purpose}-v1")), "verify-only");
    }
    let after = buy(&mut bridge, "after");
    proven(&world, &after, "after.json");
    proven(&world, &before, "before-again.json");
    still_proven(&world, "before.json");
    as_admin(&world, &["audit", "check"]);

    for (arguments, refusal) in [
        (["rotate", "root"], "rotation_not_possible"),
        (["rotate", "agent"], "rotation_not_possible"),
        (["rotate", "token-identity"], "rotation_not_possible"),
        (["rotate", "witness"], "rotation_not_possible"),
        (["retire", "bank-transaction-v2"], "key_in_use"),
        (["retire", "bank-token-identity-v1"], "identity_not_retired"),
        (["destroy", "bank-transaction-v2"], "key_still_active"),
        (["show", "bank-transaction-v9"], "unknown_key"),
    ] {
        let arguments = [["--operator", "bank-admin", "key"].as_slice(), &arguments].concat();
        assert_eq!(world.refused("bank", &arguments), (3, refusal.to_owned()), "{arguments:?}");
    }
    let by_others = world.refused("bank", &["--operator", "alice", "key", "rotate", "transaction"]);
    assert_eq!(by_others, (3, "operator_not_permitted".into()));

    let destroy = ["key", "destroy", "bank-transaction-v1"];
    let announced = as_admin(&world, &destroy);
    let confirm = announced["confirm"].as_str().unwrap();
    assert_eq!(confirm.len(), 12);
    assert!(announced["lost"][0].as_str().unwrap().contains("never sign again"));
    assert_eq!(state_of(&world, "bank-transaction-v1"), "verify-only");
    let shown = as_admin(&world, &["key", "show", "bank-transaction-v1"]);
    assert!(shown["may"][0].as_str().unwrap().contains("signs nothing"), "{shown}");
    let attempt = |confirm: &str| {
        let words = [["--operator", "bank-admin"].as_slice(), &destroy, &["--confirm", confirm]].concat();
        world.refused("bank", &words)
    };
    assert_eq!(attempt("000000000000"), (3, "confirmation_wrong".into()));
    assert_eq!(attempt(confirm), (3, "confirmation_wrong".into()), "a wrong try takes the confirmation with it");
    let confirm = as_admin(&world, &destroy)["confirm"].as_str().unwrap().to_owned();
    let destroyed = as_admin(&world, &[destroy.as_slice(), &["--confirm", &confirm]].concat());
    assert_eq!((&destroyed["state"], &destroyed["custody"]), (&json!("destroyed"), &json!("gone")));
    assert_eq!(attempt(&confirm), (3, "key_destroyed".into()));
    still_proven(&world, "before.json");
    proven(&world, &before, "before-once-more.json");
    assert_eq!(as_admin(&world, &["key", "rotate", "transaction"])["version"], 3, "versions are never given again");
    proven(&world, &buy(&mut bridge, "last"), "last.json");
    bridge.close();
}

#[test]
fn a_new_listener_key_is_in_use_after_a_restart_and_the_old_one_is_retired_then() {
    let world = World::new();
    let rotated = as_admin(&world, &["key", "rotate", "tls-server"]);
    assert_eq!((&rotated["effective"], &rotated["retired"]), (&json!("after restart"), &json!([])));
    let retire = ["--operator", "bank-admin", "key", "retire", "bank-tls-server-v1"];
    assert_eq!(world.refused("bank", &retire), (3, "key_in_use".into()), "the running listener serves with it");
    let mut bridge = Bridge::start(&world.state("agent"));
    buy(&mut bridge, "with-the-old-key");
    bridge.close();
    assert_eq!(state_of(&world, "bank-tls-server-v1"), "active");

    world.run("bank", &["stop"]);
    world.serve("bank");
    let retired = (0..1000).any(|_| state_of(&world, "bank-tls-server-v1") == "verify-only");
    assert!(retired, "the listener serves with the new key, and the old one is still active");
    let mut bridge = Bridge::start(&world.state("agent"));
    buy(&mut bridge, "with-the-new-key");
    bridge.close();
}

#[test]
fn a_custody_report_is_checked_offline_and_no_byte_of_it_can_change() {
    let world = World::new();
    let file = world.state("bank").join("custody.json").display().to_string();
    let written = as_admin(&world, &["custody", "report", "--out", &file]);
    assert_eq!((&written["signer"], &written["unsound"]), (&json!("bank-catalogue-v1"), &json!([])));
    let verified: Value =
        serde_json::from_str(&world.run("bank", &["--json", "verify", "custody-report", &file])).unwrap();
    let keys = verified["report"]["keys"].as_array().unwrap();
    let listed = as_admin(&world, &["key", "list"]);
    assert_eq!(keys.len(), listed["items"].as_array().unwrap().len());
    assert!(keys.iter().all(|key| key["verdict"] == "sound" && key["attributes"]["local"] == true), "{keys:?}");
    assert_eq!(verified["report"]["module"]["sha256"].as_str().unwrap().len(), 64);

    let text = std::fs::read_to_string(&file).unwrap();
    for (from, to, refusal) in [
        ("\\\"state\\\":\\\"active\\\"", "\\\"state\\\":\\\"destroyed\\\"", "report_signature_invalid"),
        ("custody-report/v1", "custody-report/v2", "report_unknown_schema"),
        ("\n", "", "report_not_canonical"),
        ("{", "{ ", "report_not_canonical"),
    ] {
        let changed = world.state("bank").join("changed.json");
        std::fs::write(&changed, text.replacen(from, to, 1)).unwrap();
        let changed = changed.display().to_string();
        assert_eq!(world.refused("bank", &["verify", "custody-report", &changed]), (3, refusal.to_owned()));
    }
    let (code, refusal) = world.refused("secco", &["verify", "custody-report", &file]);
    assert_eq!((code, refusal.as_str()), (3, "chain_root_differs"));

    let report = world.state("agent").join("custody.json").display().to_string();
    let host = world.state("agent").join("host.json").display().to_string();
    world.run("agent", &["--operator", "host-admin", "host", "show", "--out", &host]);
    world.run("agent", &["--operator", "host-admin", "custody", "report", "--out", &report]);
    let said = world.run("bank", &["verify", "custody-report", &report, "--host", &host]);
    assert!(said.contains("agent-host-agent.assistant-v1"), "{said}");
    assert_eq!(world.refused("bank", &["verify", "custody-report", &file, "--host", &host]).1, "report_signer_unknown");
}

/// A file of Project Wycheproof's vectors, which are kept beside the checkout; `None` where they are not.
pub fn vectors(file: &str) -> Option<Value> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().skip(1);
    let mut places = above.map(|above| above.join("shared/testdata/wycheproof-subset.tar.xz"));
    let Some(archive) = places.find(|path| path.exists()) else {
        println!("skipped: ../shared/testdata/wycheproof-subset.tar.xz is not here");
        return None;
    };
    let output = Command::new("tar").arg("-xJOf").arg(archive).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn signatures_are_judged_as_project_wycheproof_does() {
    for (file, algorithm) in [
        ("ecdsa_secp256r1_sha256_test.json", Algorithm::P256),
        ("ecdsa_secp384r1_sha384_test.json", Algorithm::P384),
        ("ed25519_test.json", Algorithm::Ed25519),
        ("rsa_signature_3072_sha256_test.json", Algorithm::Rsa3072),
    ] {
        let Some(vectors) = vectors(file) else {
            return;
        };
        let (mut accepted, mut refused) = (0, 0);
        for group in vectors["testGroups"].as_array().unwrap() {
            let spki = hex::decode(group["publicKeyDer"].as_str().unwrap()).unwrap();
            let ours = raw_public_key(&spki).map(|(algorithm, _)| algorithm) == Some(algorithm);
            for test in group["tests"].as_array().unwrap() {
                let bytes = |member: &str| hex::decode(test[member].as_str().unwrap()).unwrap();
                let valid = signature_is_valid(&spki, &bytes("msg"), &bytes("sig"));
                match test["result"].as_str().unwrap() {
                    "valid" => assert_eq!(valid, ours, "{file} {}", test["tcId"]),
                    "invalid" => assert!(!valid, "{file} {}", test["tcId"]),
                    // Old habits, which a verifier may know or not.
                    _ => {}
                }
                if valid { accepted += 1 } else { refused += 1 }
            }
        }
        assert!(accepted > 5 && refused > 20, "{file}: {accepted} accepted, {refused} refused");
    }
}

#[test]
fn new_keys_have_the_algorithms_of_the_configuration() {
    let world = World::new();
    let path = world.state("bank").join("countersign.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let wanted = r#"algorithms = { tls-server = "p384", transaction = "rsa3072", catalogue = "p384" }"#;
    let config = config.replace("deadline_ms = 5000", &format!("deadline_ms = {SLOW_MS}\n{wanted}"));
    assert!(config.contains(wanted));
    std::fs::write(&path, config).unwrap();
    world.run("bank", &["stop"]);
    world.serve("bank");
    for (purpose, algorithm) in [("transaction", "rsa3072"), ("catalogue", "p384"), ("tls-server", "p384")] {
        assert_eq!(as_admin(&world, &["key", "rotate", purpose])["algorithm"], algorithm);
    }
    world.run("bank", &["stop"]);
    world.serve("bank");
    let mut bridge = Bridge::start(&world.state("agent"));
    proven(&world, &buy(&mut bridge, "other-algorithms"), "receipt.json");
    bridge.close();
    let file = world.state("bank").join("custody.json").display().to_string();
    as_admin(&world, &["custody", "report", "--out", &file]);
    world.run("bank", &["verify", "custody-report", &file]);
}

/// What the doctor says about one thing: results in order.
fn results<'a>(report: &'a Value, check: &str) -> Vec<&'a str> {
    let items = report["items"].as_array().unwrap().iter();
    items.filter(|item| item["check"] == check).map(|item| item["result"].as_str().unwrap()).collect()
}

#[test]
fn the_doctor_names_what_is_wrong_and_what_to_do() {
    let world = World::new();
    let report = as_admin(&world, &["doctor"]);
    for check in [
        "hsm",
        "module",
        "token",
        "pin",
        "mechanisms",
        "custody",
        "keys",
        "state directory",
        "inner directories",
        "configuration",
        "clock",
        "audit log",
    ] {
        assert_eq!(results(&report, check), ["ok"], "{check}: {report}");
    }

    let state = world.state("bank");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(state.join("pins"), open).unwrap();
    let config = std::fs::read(state.join("countersign.toml")).unwrap();
    std::fs::write(state.join("countersign.toml"), config).unwrap();
    as_admin(&world, &["key", "rotate", "tls-server"]);
    let output = world.output("bank", &[ADMIN.as_slice(), &["doctor"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results(&report, "inner directories"), ["fail"]);
    assert_eq!(results(&report, "configuration"), ["warn"]);
    assert_eq!(results(&report, "keys"), ["warn"], "two listener keys are active until the restart");
    let wrong = report["items"].as_array().unwrap().iter().filter(|item| item["result"] != "ok");
    assert!(wrong.into_iter().all(|item| item["next_step"].is_string()));
}

/// Leaves are written while the doctor looks: none of them is from a time to come.
#[test]
fn a_bank_at_work_has_a_sound_clock() {
    let world = World::new();
    let agent_host = world.state("agent");
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut bridge = Bridge::start(&agent_host);
                    for _ in 0..80 {
                        let asked = json!({ "name": "get_account_balance", "arguments": { "account_id": "CHK_001" } });
                        bridge.ask("tools/call", asked);
                    }
                    bridge.close();
                })
            })
            .collect();
        while clients.iter().any(|client| !client.is_finished()) {
            assert_eq!(results(&as_admin(&world, &["doctor"]), "clock"), ["ok"]);
        }
    });
}
