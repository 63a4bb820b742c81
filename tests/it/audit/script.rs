//! `docs/verifying/receipt.py`: a receipt verified with nothing of ours, by a program short enough to be read.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use countersign::kernel::receipt::{Base64, Receipt, verify};
use countersign::kernel::sign::{Algorithm, Purpose};
use rcgen::{BasicConstraints, CustomExtension, IsCa, KeyUsagePurpose};
use serde_json::{Value, json};

use super::commands::pem;
use super::log::{advance_all, open};
use super::memory::MemoryStore;
use super::parties::{Bank, OID_BASE};
use super::receipts::{cosigned, cosigned_by};
use super::writings::other_writing;

pub fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verifying/receipt.py")
}

/// With the `cryptography` package, as `scripts/lib/httpsig.sh` installs it.
pub fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/httpsig/python/bin/python");
    let is_there = python.is_file();
    assert!(is_there || std::env::var_os("COUNTERSIGN_TEST_ALL_TOOLS").is_none(), "{}", python.display());
    is_there.then_some(python)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Every third byte of the receipt, one bit of each: none of these files may be taken.
const EVERY_BYTE: &str = "
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import receipt
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
data = open(sys.argv[2], 'rb').read()
root = x509.load_pem_x509_certificate(open(sys.argv[3], 'rb').read()).public_bytes(Encoding.DER)
receipt.verify(data, root, '1.3.6.1.4.1.32473')
tried = 0
for at in range(0, len(data), 3):
    other = bytearray(data)
    other[at] ^= 1 << (at % 8)
    tried += 1
    try:
        receipt.verify(bytes(other), root, '1.3.6.1.4.1.32473')
    except Exception:
        continue
    sys.exit(f'byte {at} may be changed')
print(tried)
";

#[test]
fn the_script_takes_a_receipt_and_no_file_that_differs_in_a_byte() {
    let Some(python) = python() else { return };
    for (log, witness) in [(Algorithm::Ed25519, Algorithm::P256), (Algorithm::P256, Algorithm::Ed25519)] {
        takes_it_and_no_other(&python, log, witness);
    }
}

fn takes_it_and_no_other(python: &Path, log: Algorithm, witness: Algorithm) {
    let (bank, secco, receipt) = cosigned_by(log, witness);
    let transaction = serde_json::from_str::<serde_json::Value>(&receipt.statement).unwrap()["transaction_id"].clone();
    let (mut by_log, mut by_witness) = (receipt.clone(), receipt.clone());
    by_log.log.note_type = Some("countersign/note-p256/v2".into());
    by_witness.log.cosignatures[0].note_type = Some("countersign/note-p256/v1".into());
    let mistyped = [by_log, by_witness].map(|receipt| receipt.to_bytes().unwrap());
    let receipt = receipt.to_bytes().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    std::fs::write(place("receipt.json"), &receipt).unwrap();
    std::fs::write(place("root.pem"), pem(&bank.root)).unwrap();
    std::fs::write(place("other.pem"), pem(&Bank::new().root)).unwrap();
    let run = |file: &str, root: &str| {
        Command::new(python).arg("-B").arg(script()).args([place(file), place(root)]).output().unwrap()
    };
    let valid = run("receipt.json", "root.pem");
    assert!(valid.status.success(), "{}", text(&valid));
    assert!(
        text(&valid).contains("valid: leaf ") && text(&valid).contains(transaction.as_str().unwrap()),
        "{}",
        text(&valid)
    );
    let signed = if log == Algorithm::P256 { "countersign/note-p256/v1" } else { "ed25519" };
    assert!(text(&valid).contains(&format!("signed with {signed}")), "{}", text(&valid));
    for changed in mistyped {
        std::fs::write(place("other.json"), changed).unwrap();
        let refused = run("other.json", "root.pem");
        assert_eq!((refused.status.code(), text(&refused).trim()), (Some(3), "refused: note_type_differs"));
    }
    assert!(text(&valid).contains("cosigned by secco.example/witness") && text(&valid).contains("not known"));
    std::fs::write(place("secco.pem"), pem(&secco.root)).unwrap();
    let witnessed = |root: &str| {
        let mut run = Command::new(python);
        run.arg("-B").arg(script()).args([place("receipt.json"), place("root.pem")]);
        run.args(["--oid-base", OID_BASE, "--witness-root"]).arg(place(root));
        run.output().unwrap()
    };
    let with_root = witnessed("secco.pem");
    assert!(with_root.status.success() && !text(&with_root).contains("not known"), "{}", text(&with_root));
    let by_nobody = witnessed("other.pem");
    assert_eq!((by_nobody.status.code(), text(&by_nobody).trim()), (Some(3), "refused: cosignature_missing"));
    let foreign = run("receipt.json", "other.pem");
    assert_eq!((foreign.status.code(), text(&foreign).trim()), (Some(3), "refused: chain_root_differs"));
    std::fs::write(place("cut.json"), &receipt[..receipt.len() - 1]).unwrap();
    let cut = run("cut.json", "root.pem");
    assert_eq!((cut.status.code(), text(&cut).trim()), (Some(3), "refused: receipt_not_canonical"));
    let mut all = Command::new(python);
    all.args(["-B", "-c", EVERY_BYTE]).arg(script().parent().unwrap()).args([place("receipt.json"), place("root.pem")]);
    let tried = all.output().unwrap();
    assert!(tried.status.success(), "{}", text(&tried));
    // A certificate with a bit exchanged may be one that the package warns of.
    let count = String::from_utf8_lossy(&tried.stdout).trim().parse::<usize>();
    assert!(count.is_ok_and(|count| count > 1_000), "{}", text(&tried));
}

/// What the command refuses the script refuses, too: each row is a file, most of them one that nearly verifies.
#[test]
fn the_script_takes_no_receipt_that_the_command_refuses() {
    let Some(python) = python() else { return };
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    let (bank, _, receipt) = cosigned();
    let (alone_bank, alone) = alone();
    std::fs::write(place("root.pem"), pem(&bank.root)).unwrap();
    std::fs::write(place("alone.pem"), pem(&alone_bank.root)).unwrap();
    let told = |file: &[u8], root: &str| {
        std::fs::write(place("receipt.json"), file).unwrap();
        let mut run = Command::new(&python);
        let output = run.arg("-B").arg(script()).args([place("receipt.json"), place(root)]).output().unwrap();
        (output.status.code(), text(&output).trim().to_owned())
    };
    // As a file, changed where the command has a type of its own.
    type Change = fn(&mut Value);
    let malformed: [(&str, Change); 12] = [
        ("a member beside the others", |receipt| receipt["note"] = json!("also 1,000,000")),
        ("a member of the batch", |receipt| receipt["batch"]["note"] = json!("also 1,000,000")),
        ("a member of the log", |receipt| receipt["log"]["note"] = json!("also 1,000,000")),
        ("a member of a cosignature", |receipt| receipt["log"]["cosignatures"][0]["note"] = json!("also")),
        ("a place below zero", |receipt| {
            let place = receipt["log"]["leaf_index"].as_i64().unwrap();
            receipt["log"]["leaf_index"] = json!(place - 16);
        }),
        ("a place in the batch below zero", |receipt| {
            let place = receipt["batch"]["index"].as_i64().unwrap();
            receipt["batch"]["index"] = json!(place - 8);
        }),
        ("no cosignatures, as text", |receipt| receipt["log"]["cosignatures"] = json!("")),
        ("no cosignatures, as an object", |receipt| receipt["log"]["cosignatures"] = json!({})),
        ("a number as a fraction", |receipt| receipt["log"]["leaf_index"] = json!(11.0)),
        ("nothing for a list", |receipt| receipt["log"]["path"] = Value::Null),
        ("a schema that is a list", |receipt| receipt["schema"] = json!([receipt["schema"].clone()])),
        ("a salt of 31 bytes", |receipt| {
            let salt = receipt["log"]["salt"].as_str().unwrap()[2..].to_owned();
            receipt["log"]["salt"] = json!(salt);
        }),
    ];
    let whole = serde_json::to_value(&receipt).unwrap();
    assert!(told(&written(&whole), "root.pem").1.starts_with("valid: leaf 11 of 14"));
    for (what, change) in malformed {
        let mut changed = whole.clone();
        change(&mut changed);
        let file = written(&changed);
        let refused = verify(&file, &bank.root, OID_BASE).unwrap_err();
        let (code, told) = told(&file, "root.pem");
        assert_eq!((code, refused.name()), (Some(3), "receipt_malformed"), "{what}: {told}");
        assert!(told.starts_with("refused: receipt_malformed"), "{what}: {told}");
    }
    // A batch of one, where no bit of the place is looked at.
    let whole = serde_json::to_value(&alone).unwrap();
    assert!(told(&written(&whole), "alone.pem").1.starts_with("valid: leaf 0 of "));
    for (member, value) in [
        ("index", json!(false)),
        ("count", json!(true)),
        ("index", json!(0.0)),
        ("count", json!(1.0)),
        ("path", json!("")),
    ] {
        let mut changed = whole.clone();
        changed["batch"][member] = value.clone();
        let file = written(&changed);
        assert_eq!(verify(&file, &alone_bank.root, OID_BASE).unwrap_err().name(), "receipt_malformed");
        let (code, told) = told(&file, "alone.pem");
        assert!(code == Some(3) && told.starts_with("refused: receipt_malformed"), "{member} {value}: {told}");
    }
    // What a certificate is for, and how a signature is written: the same names.
    let transaction = Purpose::Transaction;
    let ed25519 = bank.keys.key(Purpose::Checkpoint).1;
    let chains = [
        (
            "a CA",
            "chain_not_for_signing",
            bank.chain(transaction, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        ),
        (
            "a further key usage",
            "chain_not_for_signing",
            bank.chain(transaction, |params| params.key_usages.push(KeyUsagePurpose::KeyAgreement)),
        ),
        ("no key usage", "chain_not_for_signing", bank.chain(transaction, |params| params.key_usages.clear())),
        ("no purpose", "chain_wrong_purpose", bank.chain(transaction, |params| params.extended_key_usages.clear())),
        ("a key of another kind", "chain_key_type", bank.chain_of_key(transaction, ed25519, |_| {})),
        ("an issuer that is no CA", "chain_not_ca", bank.chain_under(transaction, |params| params.is_ca = IsCa::NoCa)),
        (
            "an unknown critical extension",
            "chain_critical_extension",
            bank.chain(transaction, |params| {
                let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 32473, 9], vec![5, 0]);
                extension.set_criticality(true);
                params.custom_extensions.push(extension);
            }),
        ),
    ];
    let mut changed: Vec<(&str, &str, Receipt)> = vec![];
    for (what, name, chain) in chains {
        let mut other = receipt.clone();
        other.batch.chain = chain.into_iter().map(Base64).collect();
        changed.push((what, name, other));
    }
    let mut high = receipt.clone();
    high.batch.signature = Base64(other_writing(&receipt.batch.signature.0));
    changed.push(("the larger s", "batch_signature_invalid", high));
    for (what, name, receipt) in changed {
        let file = receipt.to_bytes().unwrap();
        assert_eq!(verify(&file, &bank.root, OID_BASE).unwrap_err().name(), name, "{what}");
        assert_eq!(told(&file, "root.pem"), (Some(3), format!("refused: {name}")), "{what}");
    }
}

/// The first leaf of a log, and alone in its batch.
fn alone() -> (Bank, Receipt) {
    let (bank, store) = (Bank::new(), Arc::new(MemoryStore::default()));
    let ids = store.post(&bank, 1, 1);
    let log = open(&bank, &store);
    advance_all(&log);
    let receipt = log.receipt(&ids[0], Duration::ZERO).unwrap();
    (bank, receipt)
}

/// Compact, members in order, a newline; a fraction keeps its point.
fn written(receipt: &Value) -> Vec<u8> {
    let mut sorted = receipt.clone();
    sorted.sort_all_objects();
    format!("{sorted}\n").into_bytes()
}
