//! The verb itself: forms of files and of the command line, exit codes, one line of JSON whatever happens.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use countersign::kernel::credential::pem::{self, Kind};
use serde_json::Value;

use crate::support::world::PROGRAM;

/// docs/verifying: B under the bank's root, through the bank's issuing CA.
pub(crate) fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verifying").join(name)
}

pub(crate) const AT: &str = "2026-11-21T04:20:00Z";

/// Exit code and verdict. Without a verdict nothing is on stdout.
fn check(arguments: &[&str]) -> (i32, Value) {
    let output = Command::new(PROGRAM).args(["x509", "check"]).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let verdict = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
    assert!(text.lines().count() <= 1, "{text}");
    (output.status.code().unwrap(), verdict)
}

/// A directory with the example's parts in files of their own.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        let chain = pem::decode_all(Kind::Certificate, &std::fs::read_to_string(example("pair.pem")).unwrap()).unwrap();
        for (name, der) in ["b", "s", "issuing", "company"].into_iter().zip(&chain) {
            desk.write(&format!("{name}.pem"), pem::encode(Kind::Certificate, der).as_bytes());
            desk.write(&format!("{name}.der"), der);
        }
        desk.write("root.pem", &std::fs::read(example("bank-root.pem")).unwrap());
        desk.write("other.pem", &std::fs::read(example("company-root.pem")).unwrap());
        desk.write("bank.crl", &std::fs::read(example("bank.crl")).unwrap());
        desk
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.0.path().join(name), bytes).unwrap();
        self.path(name)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }
}

#[test]
fn files_and_flags_are_taken_in_every_form() {
    let desk = Desk::new();
    let [root, other, b, issuing] = ["root.pem", "other.pem", "b.pem", "issuing.pem"].map(|name| desk.path(name));
    let [b_der, issuing_der] = ["b.der", "issuing.der"].map(|name| desk.path(name));
    let both = desk.write("both.pem", &[desk.read("b.pem"), desk.read("issuing.pem")].concat());
    let windows = String::from_utf8(desk.read("b.pem")).unwrap().replace('\n', "\r\n");
    let windows = desk.write("windows.pem", windows.as_bytes());
    let told = desk.write("told.pem", &[b"Subject: what people read\n\n", desk.read("b.pem").as_slice()].concat());
    let accepted: &[&[&str]] = &[
        &["--trust", &root, "--at", AT, &b, &issuing],
        &["--trust", &other, &root, "--at", AT, &b, &issuing],
        &["--trust", &other, "--trust", &root, "--at", AT, &b_der, &issuing_der],
        &["--at", AT, "--trust", &root, &b, &issuing],
        &["--at", AT, "--trust", &other, "--trust", &root, &b, &issuing],
        &["--trust", &root, "--at", "2026-11-21T05:20:00.25+01:00", &both],
        &["--trust", &root, "--at", AT, "--usage", "client", "--max-depth", "1", &windows, &other, &issuing, &issuing],
        &["--trust", &root, "--at", AT, &told, &issuing],
    ];
    for arguments in accepted {
        let (code, verdict) = check(arguments);
        assert_eq!((code, &verdict["accepted"]), (0, &Value::Bool(true)), "{arguments:?}: {verdict}");
        assert_eq!(verdict["path"].as_array().unwrap().len(), 3);
        assert_eq!((&verdict["rule"], verdict["subject"].as_str().unwrap()), (&Value::Null, "CN=shopper"));
    }
}

#[test]
fn whatever_can_be_opened_gets_a_verdict() {
    let desk = Desk::new();
    let [root, b, issuing, list] = ["root.pem", "b.pem", "issuing.pem", "bank.crl"].map(|name| desk.path(name));
    let pem = desk.read("b.pem");
    let files = [
        desk.write("empty", b""),
        desk.write("text", b"no certificate at all\n"),
        desk.write("binary", &[0xff; 5000]),
        desk.write("cut.pem", &pem[..pem.len() - 40]),
        desk.write("cut.der", &desk.read("b.der")[..200]),
        desk.write("longer.der", &[desk.read("b.der"), vec![0]].concat()),
        desk.write("noise.pem", &[&pem[..100], b"*", &pem[101..]].concat()),
        desk.write("huge", &vec![0x30; 40 << 20]),
    ];
    for file in &files {
        let (code, verdict) = check(&["--trust", &root, "--at", AT, file, &issuing]);
        assert_eq!((code, verdict["rule"].as_str()), (3, Some("certificate_malformed")), "{file}: {verdict}");
        let (code, verdict) = check(&["--trust", file, "--at", AT, &b, &issuing]);
        assert_eq!((code, verdict["rule"].as_str()), (3, Some("trust_anchor_malformed")), "{file}: {verdict}");
        let (code, verdict) = check(&["--trust", &root, "--at", AT, "--crl", file, &b, &issuing]);
        assert_eq!((code, verdict["rule"].as_str()), (3, Some("crl_malformed")), "{file}: {verdict}");
    }
    let refused: &[(&[&str], &str)] = &[
        (&["--trust", &root, "--at", AT, &b], "issuer_unknown"),
        (&["--trust", &root, "--at", "2027-11-21T04:20:00Z", &b, &issuing], "expired"),
        (&["--trust", &root, "--at", "1950-01-01T00:00:00Z", &b, &issuing], "not_yet_valid"),
        (&["--trust", &root, "--at", AT, "--usage", "server", &b, &issuing], "extended_key_usage"),
        (&["--trust", &root, "--at", AT, "--name", "shopper", &b, &issuing], "name_mismatch"),
        (&["--trust", &root, "--at", AT, "--max-depth", "0", &b, &issuing], "depth_exceeded"),
        // The bank's list speaks of B, nobody's of its issuing CA; a list is found among the other files too.
        (&["--trust", &root, "--at", AT, "--crl", &list, &b, &issuing], "status_unknown"),
        (&["--trust", &root, "--at", AT, &b, &issuing, &list], "status_unknown"),
    ];
    for (arguments, expected) in refused {
        let (code, verdict) = check(arguments);
        assert_eq!((code, verdict["rule"].as_str()), (3, Some(*expected)), "{arguments:?}: {verdict}");
        assert_eq!(verdict["accepted"], false);
    }
}

#[test]
fn what_cannot_be_opened_or_understood_is_the_callers_mistake() {
    let desk = Desk::new();
    let [root, b, missing] = ["root.pem", "b.pem", "missing.pem"].map(|name| desk.path(name));
    let directory = desk.0.path().to_str().unwrap();
    let mistakes: &[&[&str]] = &[
        &["--trust", &root, "--at", AT, &missing],
        &["--trust", &missing, "--at", AT, &b],
        &["--trust", &root, "--at", AT, "--crl", &missing, &b],
        &["--trust", &root, "--at", AT, directory],
        &["--trust", &root, "--at", AT],
        &["--trust", &root, "--at", "yesterday", &b],
        &["--at", AT, &b],
        &["--trust", &root, "--usage", "anything", &b],
    ];
    for arguments in mistakes {
        assert_eq!(check(arguments), (2, Value::Null), "{arguments:?}");
    }
}
