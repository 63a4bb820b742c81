//! The verbs `receipt show` and `verify receipt`, as a person uses them one after the other.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use countersign::cli::context::Context;
use countersign::cli::{receipt, verify};
use countersign::front::admin::{AdminAnswer, AdminCall, AdminRequest};
use countersign::kernel::receipt::Receipt;
use countersign::kernel::types::TransactionId;
use countersign::ops::failure::{Failure, Kind};
use countersign::ops::paths::StateDir;

use super::log::{advance_all, open};
use super::memory::MemoryStore;
use super::parties::Bank;

fn parse<A: Args>(words: &[&str]) -> A {
    let command = A::augment_args(clap::Command::new("countersign"));
    let matches = command.try_get_matches_from([&["countersign"], words].concat()).unwrap();
    A::from_arg_matches(&matches).unwrap()
}

fn issued() -> (Bank, TransactionId, Receipt) {
    let (bank, store) = (Bank::new(), Arc::new(MemoryStore::default()));
    let ids = store.post(&bank, 1, 3);
    let log = open(&bank, &store);
    advance_all(&log);
    let receipt = log.receipt(&ids[1], Duration::ZERO).unwrap();
    (bank, ids[1].clone(), receipt)
}

/// Answers one request on the admin socket of a state directory.
fn daemon(state: &StateDir, answer: AdminAnswer) -> std::thread::JoinHandle<AdminRequest> {
    std::fs::create_dir_all(state.admin_socket().parent().unwrap()).unwrap();
    let listener = UnixListener::bind(state.admin_socket()).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        (&stream).write_all(format!("{}\n", serde_json::to_string(&answer).unwrap()).as_bytes()).unwrap();
        serde_json::from_str(&line).unwrap()
    })
}

pub fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

fn verify_file(context: &Context, file: &Path, root: Option<&Path>) -> Result<(), Failure> {
    let mut words = vec!["receipt", file.to_str().unwrap()];
    if let Some(root) = root {
        words.extend(["--root", root.to_str().unwrap()]);
    }
    verify::run(parse(&words), context)
}

#[test]
fn a_receipt_that_was_fetched_verifies_and_a_flipped_byte_does_not() {
    let (bank, id, issued) = issued();
    let directory = tempfile::tempdir().unwrap();
    let state = StateDir::new(directory.path());
    let context = Context { state: state.clone(), json: false, operator: None };
    let file = directory.path().join("receipt.json");

    let daemon = daemon(&state, AdminAnswer::Ok(serde_json::to_value(&issued).unwrap()));
    receipt::run(parse(&["show", id.as_str(), "--out", file.to_str().unwrap()]), &context).unwrap();
    assert!(matches!(daemon.join().unwrap().call, AdminCall::Receipt { transaction } if transaction == id));
    assert_eq!(std::fs::read(&file).unwrap(), issued.to_bytes().unwrap());
    let beside = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(beside, 2, "the receipt and run/, nothing half written");

    let missing = verify_file(&context, &file, None).unwrap_err();
    assert_eq!((missing.kind, missing.name.as_str()), (Kind::Usage, "root_not_found"));
    for place in [state.anchors(), state.certs()] {
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("bank-root.pem"), pem(&bank.root)).unwrap();
        verify_file(&context, &file, None).unwrap();
    }

    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let refused = verify_file(&context, &file, None).unwrap_err();
    assert_eq!((refused.kind, refused.kind.exit_code()), (Kind::Refused, 3));
}

#[test]
fn what_is_no_root_or_no_file_gets_one_clear_name() {
    let (bank, _, issued) = issued();
    let directory = tempfile::tempdir().unwrap();
    let context = Context { state: StateDir::new(directory.path()), json: true, operator: None };
    let place = |name: &str, content: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let file = place("receipt.json", String::from_utf8(issued.to_bytes().unwrap()).unwrap());
    let good = pem(&bank.root);
    verify_file(&context, &file, Some(&place("good.pem", good.clone()))).unwrap();
    for (name, content, failure) in [
        ("empty.pem", String::new(), "root_unreadable"),
        ("text.pem", "hello\n".into(), "root_unreadable"),
        ("key.pem", good.replace("CERTIFICATE", "PRIVATE KEY"), "root_unreadable"),
        ("two.pem", format!("{good}{good}"), "root_unreadable"),
        ("issuing.pem", pem(&bank.issuing), "chain_root_differs"),
        ("other.pem", pem(&Bank::new().root), "chain_root_differs"),
    ] {
        let refused = verify_file(&context, &file, Some(&place(name, content))).unwrap_err();
        assert_eq!(refused.name, failure, "{name}");
        assert!(!refused.next_step.is_empty());
    }
    let nowhere = directory.path().join("nowhere");
    assert_eq!(verify_file(&context, &nowhere, None).unwrap_err().name, "file_unreadable");
    assert_eq!(verify_file(&context, directory.path(), None).unwrap_err().name, "file_unreadable");
}
