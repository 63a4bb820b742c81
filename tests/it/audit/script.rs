//! `docs/verifying/receipt.py`: a receipt verified with nothing of ours, by a program short enough to be read.

use super::commands::pem;
use super::parties::{Bank, OID_BASE};
use super::receipts::cosigned_by;
use countersign::kernel::sign::Algorithm;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
        run.arg("-B").arg(script()).args([place("receipt.json"), place("root.pem")]).arg(OID_BASE).arg(place(root));
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
    assert!(text(&tried).trim().parse::<usize>().unwrap() > 1_000, "{}", text(&tried));
}
