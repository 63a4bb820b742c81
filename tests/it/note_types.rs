//! Checkpoints and cosignatures by P-256, on real tokens: parties that change to it and back, and one whose module has
//! nothing else.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::kernel::receipt;
use serde_json::{Value, json};

use crate::audit::script::{python, script};
use crate::clients::Bridge;
use crate::crash::until;
use crate::keys::buy;
use crate::support::world::{PROGRAM, World};
use crate::witness::{ask, cosigned, is_cosigned};

const OID_BASE: &str = "1.3.6.1.4.1.32473";
const NOTE: &str = "countersign/note-p256/v1";
const COSIGNATURE: &str = "countersign/cosignature-p256/v1";

/// Has a party make its next key of this purpose with this algorithm.
fn rotated(world: &World, party: &str, purpose: &str, algorithm: &str) {
    world.run(party, &["stop"]);
    let path = world.state(party).join("countersign.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("algorithms = ")).collect();
    let wanted = format!("algorithms = {{ {purpose} = \"{algorithm}\" }}\npin_file = ");
    std::fs::write(&path, kept.join("\n").replacen("pin_file = ", &wanted, 1) + "\n").unwrap();
    world.serve(party);
    let made = ask(world, party, &format!("{party}-admin"), &["key", "rotate", purpose]);
    assert_eq!(made["algorithm"], algorithm, "{made}");
}

/// What a party hands out about a payment, in files.
struct Evidence<'a> {
    world: &'a World,
    directory: tempfile::TempDir,
}

impl Evidence<'_> {
    fn place(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn root_of(&self, party: &str) -> String {
        self.world.state(party).join("certs/root.pem").display().to_string()
    }

    /// Fetches all of it.
    fn fetch(&self, transaction: &str, when: &str) {
        let auditor = |words: &[&str]| self.world.run("bank", &[&["--operator", "auditor"], words].concat());
        auditor(&["receipt", "show", transaction, "--out", &self.place(&format!("receipt-{when}"))]);
        auditor(&["audit", "prove", transaction, "--out", &self.place(&format!("proof-{when}"))]);
        auditor(&["audit", "bundle", transaction, "--out", &self.place(&format!("bundle-{when}"))]);
        auditor(&["audit", "export", &self.place("log")]);
        let found = ["audit", "search", "--format", "jsonl", "--out", &self.place(&format!("export-{when}"))];
        auditor(&found);
    }

    /// What `verify` says of one, offline, with both roots.
    fn verified(&self, what: &str, name: &str) -> Value {
        let (bank, secco) = (self.root_of("bank"), self.root_of("secco"));
        let words = ["--json", "verify", what, &self.place(name), "--root", &bank, "--witness-root", &secco];
        serde_json::from_str(&self.world.run("bank", &words)).unwrap()
    }

    /// The types of a receipt, proof, bundle and of the log's copy, as the verifier tells them: the log's own, the witness's.
    fn types(&self, when: &str) -> (String, String) {
        let receipt = self.verified("receipt", &format!("receipt-{when}"));
        let proof = self.verified("proof", &format!("proof-{when}"));
        let bundle = self.verified("bundle", &format!("bundle-{when}"));
        let own = &receipt["checkpoint_signature_type"];
        assert_eq!((own, own), (&proof["signature_type"], &bundle["log"]["signature_type"]));
        let witness = &receipt["cosignatures"][0]["signature_type"];
        for other in [&proof, &bundle] {
            assert_eq!(&other["cosignatures"][0]["signature_type"], witness);
        }
        let export = ["verify", "export", &self.place(&format!("export-{when}")), "--root", &self.root_of("bank")];
        self.world.run("bank", &export);
        (own.as_str().unwrap().to_owned(), witness.as_str().unwrap().to_owned())
    }
}

fn der(pem: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(pem).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(body).unwrap()
}

#[test]
fn a_bank_and_its_witness_change_to_p256_and_back_and_everything_stays_provable() {
    let parties = cosigned(60);
    let world = &parties.world;
    let evidence = Evidence { world, directory: tempfile::tempdir().unwrap() };
    let paid = |key: &str| {
        let mut bridge = Bridge::start(&world.state("agent"));
        let transaction = buy(&mut bridge, key);
        bridge.close();
        is_cosigned(world);
        evidence.fetch(&transaction, key);
        transaction
    };
    let before = paid("before");
    assert_eq!(evidence.types("before"), ("ed25519".into(), "cosignature/v1".into()));

    rotated(world, "bank", "checkpoint", "p256");
    rotated(world, "secco", "witness", "p256");
    let meanwhile = paid("meanwhile");
    assert_eq!(evidence.types("meanwhile"), (NOTE.into(), COSIGNATURE.into()));
    assert_eq!(evidence.verified("log", "log")["signature_type"], NOTE);
    let shown = ask(world, "secco", "secco-admin", &["witness", "status"]);
    assert_eq!(shown["signature_type"], COSIGNATURE, "{shown}");
    // The file itself says so, and no byte of it can change.
    let file = std::fs::read(evidence.place("receipt-meanwhile")).unwrap();
    let said: Value = serde_json::from_slice(&file).unwrap();
    assert_eq!(
        (&said["log"]["note_type"], &said["log"]["cosignatures"][0]["note_type"]),
        (&json!(NOTE), &json!(COSIGNATURE))
    );
    let (bank, secco) = (der(&evidence.root_of("bank")), der(&evidence.root_of("secco")));
    for at in (0..file.len()).step_by(3) {
        let mut other = file.clone();
        other[at] ^= 1 << (at % 8);
        assert!(receipt::verify_witnessed(&other, &bank, Some(&secco), OID_BASE).is_err(), "byte {at}");
    }
    let middle = file.len() / 2;
    let flipped = [&file[..middle], &[file[middle] ^ 1], &file[middle + 1..]].concat();
    std::fs::write(evidence.place("flipped"), flipped).unwrap();
    let refused =
        world.output("bank", &["verify", "receipt", &evidence.place("flipped"), "--root", &evidence.root_of("bank")]);
    assert_eq!(refused.status.code(), Some(3));
    by_the_script(&evidence, "receipt-meanwhile", NOTE);

    rotated(world, "bank", "checkpoint", "ed25519");
    rotated(world, "secco", "witness", "ed25519");
    paid("after");
    assert_eq!(evidence.types("after"), ("ed25519".into(), "cosignature/v1".into()));
    by_the_script(&evidence, "receipt-after", "ed25519");
    for (when, transaction) in [("before", &before), ("meanwhile", &meanwhile)] {
        let known = evidence.types(when);
        evidence.fetch(transaction, "again");
        assert_eq!(evidence.types(when), known);
        evidence.types("again");
    }
    let check = ask(world, "bank", "auditor", &["audit", "check"]);
    assert_eq!(check["sound"], true, "checkpoints of all three keys: {check}");
}

/// `docs/verifying/receipt.py` says the same.
fn by_the_script(evidence: &Evidence<'_>, name: &str, kind: &str) {
    let Some(python) = python() else { return };
    let run = |file: &str| {
        let mut run = Command::new(&python);
        run.arg("-B").arg(script()).args([evidence.place(file), evidence.root_of("bank")]);
        run.args(["--oid-base", OID_BASE, "--witness-root"]).arg(evidence.root_of("secco")).output().unwrap()
    };
    let valid = run(name);
    let said = String::from_utf8_lossy(&valid.stdout);
    assert!(valid.status.success() && said.contains(&format!("signed with {kind}")), "{said}");
    assert!(said.contains("cosigned by") && !said.contains("not known"), "{said}");
    assert_eq!(run("flipped").status.code(), Some(3));
}

fn countersign(state: &Path, words: &[&str]) -> String {
    let output = Command::new(PROGRAM).arg("--state").arg(state).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn on_a_module_without_ed25519_a_party_signs_its_notes_with_p256_and_says_so() {
    for (kind, expected) in [("bank", vec![NOTE]), ("security-company", vec![NOTE, COSIGNATURE])] {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("party");
        let soft = state.join("softhsm");
        std::fs::create_dir_all(soft.join("tokens")).unwrap();
        let tokens = soft.join("tokens").display().to_string();
        let conf = format!(
            "directories.tokendir = {tokens}\nobjectstore.backend = file\nslots.removable = false\n\
             slots.mechanisms = -CKM_EC_EDWARDS_KEY_PAIR_GEN,CKM_EDDSA\n"
        );
        std::fs::write(soft.join("softhsm2.conf"), conf).unwrap();
        let said = countersign(&state, &["init", "--kind", kind]);
        for kind in &expected {
            assert!(said.contains("the module has no Ed25519") && said.contains(kind), "{said}");
        }
        let made: Value = serde_json::from_str(&countersign(&state, &["--json", "init", "--kind", kind])).unwrap();
        assert_eq!(made["notices"].as_array().unwrap().len(), expected.len(), "{made}");
        let keys = made["keys"].as_array().unwrap();
        let checkpoint = keys.iter().find(|key| key["purpose"] == "checkpoint").unwrap();
        assert_eq!(checkpoint["algorithm"], "p256");
        // What init recorded has its place in the log, and its proof says how it is signed.
        let proof = directory.path().join("proof").display().to_string();
        // Nobody waits for the sequencer at the end of a call: the next one finds the leaf signed, or soon.
        until("a signed checkpoint", || {
            let words = ["audit", "prove", "0", "--out", &proof];
            let output = Command::new(PROGRAM).arg("--state").arg(&state).args(words).output().unwrap();
            output.status.success().then_some(())
        });
        let verified: Value =
            serde_json::from_str(&countersign(&state, &["--json", "verify", "proof", &proof])).unwrap();
        assert_eq!(verified["signature_type"], NOTE, "{verified}");
        // It has other things to say about a party that knows nobody yet.
        let doctor = Command::new(PROGRAM).arg("--state").arg(&state).args(["--json", "doctor"]).output().unwrap();
        let doctor: Value = serde_json::from_slice(&doctor.stdout).unwrap();
        let mechanisms = doctor["items"].as_array().unwrap().iter().find(|item| item["check"] == "mechanisms");
        assert_eq!(mechanisms.unwrap()["result"], "ok", "{doctor}");
        countersign(&state, &["audit", "check"]);
    }
}
