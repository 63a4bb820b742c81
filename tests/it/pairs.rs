//! `cert verify` on files, and what docs/VERIFYING.md tells others to do: its commands are run from the page.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use countersign::kernel::credential::pem::{self, Kind};
use serde_json::Value;

use crate::support::world::{PROGRAM, World};
use crate::x509::program::{AT, example};

fn text(name: &str) -> String {
    std::fs::read_to_string(example(name)).unwrap()
}

/// Exit code and verdict.
fn verify(arguments: &[&str]) -> (i32, Value) {
    let mut command = Command::new(PROGRAM);
    command.args(["cert", "verify"]).args(arguments).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let verdict = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
    (output.status.code().unwrap(), verdict)
}

/// A chain file of these certificates of the example, by their place in it.
fn chain_file(directory: &Path, places: &[usize]) -> String {
    let all = pem::decode_all(Kind::Certificate, &text("pair.pem")).unwrap();
    let chain: String = places.iter().map(|place| pem::encode(Kind::Certificate, &all[*place])).collect();
    let path = directory.join(format!("{places:?}.pem"));
    std::fs::write(&path, chain).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_pair_gets_a_verdict_from_two_roots_and_a_chain() {
    let directory = tempfile::tempdir().unwrap();
    let file = |places: &[usize]| chain_file(directory.path(), places);
    let [bank, company, crl_bank, crl_company, revoked] =
        ["bank-root.pem", "company-root.pem", "bank.crl", "company.crl", "revoked.crl"]
            .map(|name| example(name).to_str().unwrap().to_owned());
    let judged = |more: &[&str]| {
        let roots = ["--bank-root", &bank, "--company-root", &company, "--at", AT];
        let (code, verdict) = verify(&[&roots, more].concat());
        let rule = verdict["rule"].as_str().unwrap_or("accepted").to_owned();
        assert_eq!(code, if rule == "accepted" { 0 } else { 3 }, "{verdict}");
        assert_eq!(verdict["accepted"], rule == "accepted");
        rule
    };
    let whole = file(&[0, 1, 2, 3]);
    let (b, s, others) = (file(&[0]), file(&[1]), file(&[3, 2]));
    let cut = directory.path().join("cut.pem");
    std::fs::write(&cut, &text("pair.pem")[..1500]).unwrap();
    let table: &[(&[&str], &str)] = &[
        (&[&whole], "accepted"),
        (&["--custody", "custody-stated", &whole], "accepted"),
        (&[&b, &s, &others], "accepted"),
        (&["--crl", &crl_bank, "--crl", &crl_company, &whole], "accepted"),
        (&["--crl", &crl_bank, &crl_company, &whole], "accepted"),
        (&["--custody", "custody-observed", &whole], "custody_insufficient"),
        (&["--crl", &crl_bank, "--crl", &revoked, &whole], "endorsement_revoked"),
        (&["--crl", &crl_company, &whole], "bank_status_missing"),
        (&["--crl", &whole, &whole], "crl_malformed"),
        (&["--crl", cut.to_str().unwrap(), &whole], "crl_malformed"),
        (&["--trust-domain", "other.example", &whole], "wrong_trust_domain"),
        (&["--oid-base", "1.3.6.1.4.1.1", &whole], "bank_profile_violated"),
        (&[&file(&[1, 0, 2, 3])], "bank_issuer_untrusted"),
        (&[&file(&[0, 2, 3])], "endorsement_missing"),
        (&[&file(&[1, 2, 3])], "bank_certificate_missing"),
        (&[&file(&[0, 1, 2])], "endorsement_issuer_untrusted"),
        (&[&file(&[0, 0, 1, 2, 3])], "too_many_certificates"),
        (&[&bank, &whole], "too_many_certificates"),
        (&[cut.to_str().unwrap()], "bank_issuer_untrusted"),
        (&["/dev/null"], "endorsement_missing"),
    ];
    for (arguments, expected) in table {
        assert_eq!(judged(arguments), *expected, "{arguments:?}");
    }
    let roots = |bank: &str, company: &str| {
        let (code, verdict) = verify(&["--bank-root", bank, "--company-root", company, "--at", AT, &whole]);
        (code, verdict["rule"].as_str().unwrap().to_owned())
    };
    assert_eq!(roots(&company, &bank), (3, "bank_issuer_untrusted".to_owned()));
    assert_eq!(roots(&bank, &bank), (3, "parties_not_distinct".to_owned()));
    assert_eq!(roots(&bank, "/dev/null"), (3, "anchor_invalid".to_owned()));
    assert_eq!(verify(&["--bank-root", &bank, &whole]), (2, Value::Null));
    assert_eq!(verify(&["--bank-root", &bank, "--company-root", "none", &whole]), (2, Value::Null));

    // The form of a bank that knows the issuing CAs: lists of the endorsement's issuer are enough.
    let (bank_issuing, company_issuing, pair) = (file(&[2]), file(&[3]), file(&[0, 1]));
    let issuing = ["--bank-issuing", &bank_issuing, "--company-issuing", &company_issuing];
    assert_eq!(judged(&[&issuing[..], &["--crl", &crl_company, &pair]].concat()), "accepted");
    assert_eq!(judged(&[&issuing[..], &["--crl", &revoked, &pair]].concat()), "endorsement_revoked");
    assert_eq!(judged(&[&issuing[..], &[&whole]].concat()), "too_many_certificates");
}

/// The fenced blocks of the page whose opening line says this.
fn blocks(kind: &str) -> Vec<String> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/VERIFYING.md")).unwrap();
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line == format!("```{kind}") {
            found.push(lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect());
        }
    }
    assert!(!found.is_empty(), "{kind}");
    found
}

/// Runs these blocks as one script; the first command that fails ends it.
fn run(directory: &Path, blocks: &[String], demo: Option<&Path>) {
    let mut command = Command::new("bash");
    let beside = Path::new(PROGRAM).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(beside.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    command
        .arg("-euo")
        .arg("pipefail")
        .arg("-c")
        .arg(blocks.concat())
        .current_dir(directory)
        .env("PATH", path.unwrap());
    if let Some(demo) = demo {
        command.env("DEMO", demo);
    }
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{said:?}");
}

fn copied_example() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in ["bank-root.pem", "company-root.pem", "pair.pem", "bank.crl", "company.crl"] {
        std::fs::copy(example(name), directory.path().join(name)).unwrap();
    }
    directory
}

#[test]
fn the_commands_of_the_page_accept_its_example_and_refuse_another_s() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: openssl is not installed");
        return;
    }
    let directory = copied_example();
    run(directory.path(), &blocks("sh"), None);

    // The same commands see what is wrong: here a revoked S.
    let directory = copied_example();
    std::fs::copy(example("revoked.crl"), directory.path().join("company.crl")).unwrap();
    let blocks = blocks("sh");
    for block in [&blocks[..1], &[vec!["AT=1795234800\n".to_owned()], blocks[1..].to_vec()].concat()] {
        let refused = std::panic::catch_unwind(|| run(directory.path(), block, None));
        assert!(refused.is_err(), "{block:?}");
    }
}

#[test]
fn the_commands_of_the_page_work_on_the_demo_s_files() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: openssl is not installed");
        return;
    }
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let bank = world.state("bank");
    let ports = std::fs::read_to_string(bank.join("run/ports.json")).unwrap();
    let ports: serde_json::Value = serde_json::from_str(&ports).unwrap();
    let published = vec![format!("PKI=http://{}\n", ports["pki"].as_str().unwrap())];
    let http = if Command::new("curl").arg("--version").output().is_ok() { blocks("sh http") } else { Vec::new() };
    let script = [blocks("sh demo"), blocks("sh"), published, http].concat();
    run(directory.path(), &script, Some(bank.parent().unwrap()));
    if let Some(python) = python() {
        assert!(bound(&python, directory.path()));
    }
}

/// The Python that has the ASN.1 modules. `None`: they were not installed.
fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/asn1/bin/python");
    if !python.exists() {
        println!("skipped: pyasn1-alt-modules is not installed; scripts/lib/asn1.sh does it");
        return None;
    }
    Some(python)
}

/// What the page's Python says of the pair in this directory.
fn bound(python: &Path, directory: &Path) -> bool {
    let output = Command::new(python).arg("-c").arg(blocks("python").concat()).current_dir(directory).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.success(), said.starts_with("bound "), "{}", String::from_utf8_lossy(&output.stderr));
    output.status.success()
}

#[test]
fn an_independent_decoder_of_rfc_9763_agrees_on_the_binding() {
    let Some(python) = python() else { return };
    let directory = copied_example();
    assert!(bound(&python, directory.path()));
    let chain = chain_file(directory.path(), &[0, 3]);
    std::fs::copy(chain, directory.path().join("pair.pem")).unwrap();
    assert!(!bound(&python, directory.path()), "bound to something else");
    let chain = chain_file(directory.path(), &[1, 0]);
    std::fs::copy(chain, directory.path().join("pair.pem")).unwrap();
    assert!(!bound(&python, directory.path()), "S is bound to nothing");
}
