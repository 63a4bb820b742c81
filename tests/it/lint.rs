//! What others say of our certificates and lists: openssl, pkilint and the path validation of pyca/cryptography. What
//! they object to and we keep stands in a list that may only shrink.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use countersign::kernel::credential::pem::{self, Kind};
use countersign::kernel::credential::profile::Profile;
use countersign::kernel::sign::Algorithm;
use serde_json::Value;

use crate::support::kit::{Key, Kit};
use crate::support::world::World;

/// What pkilint objects to: code, a part of what it says, why we keep it. One that is not met any more must go.
const WAIVED: &[(&str, &str, &str)] = &[
    (
        "pkix.invalid_uri_syntax",
        "spiffe://",
        "the linter takes only web addresses for URIs; RFC 5280, 4.2.1.6 takes any, and SPIFFE IDs are URIs (RFC 3986)",
    ),
    (
        "pkix.unknown_subject_key_identifier_calculation_method",
        "",
        "a notice: ours are the first 20 bytes of the key's own id, SHA-256 over its SubjectPublicKeyInfo; RFC 5280, \
         4.2.1.2 leaves the method open, the linter knows those of RFC 7093 that hash the bare key",
    ),
    (
        "pkix.invalid_domain_name_syntax",
        "localhost",
        "the demo's servers are reached as localhost, which is a name of one label (RFC 6761, 6.3)",
    ),
];

/// The Python that has pkilint. `None`: it was not installed.
fn pkilint() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/pkilint/bin/python");
    if !python.exists() {
        eprintln!("skipped: pkilint is not installed; scripts/lib/pkilint.sh does it");
        return None;
    }
    Some(python)
}

/// Findings of pkilint over files: file, code, text.
fn findings(python: &Path, subjects: &[String]) -> Vec<(String, String, String)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/linters/pkilint_files.py");
    let output = Command::new(python).arg(script).args(subjects).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), subjects.len(), "one answer a file");
    let mut found = Vec::new();
    for line in lines {
        for finding in line["findings"].as_array().unwrap() {
            let text = |member: &str| finding[member].as_str().unwrap().to_owned();
            found.push((line["file"].as_str().unwrap().to_owned(), text("code"), text("message")));
        }
    }
    found
}

fn is_waived(code: &str, message: &str) -> bool {
    WAIVED.iter().any(|(waived, part, _)| *waived == code && message.contains(part))
}

fn objected(found: &[(String, String, String)]) -> Vec<&(String, String, String)> {
    found.iter().filter(|(_, code, message)| !is_waived(code, message)).collect()
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// One key of each algorithm that certificates are over: making one takes longer than judging it.
fn keys() -> Vec<Key> {
    let all = Algorithm::ALL.into_iter().filter(|algorithm| *algorithm != Algorithm::Aes256);
    all.map(Key::new).collect()
}

/// Those of the keys that a profile may be over.
fn fitting(keys: &[Key], profile: Profile) -> impl Iterator<Item = &Key> {
    keys.iter().filter(move |key| profile.algorithms().contains(&key.algorithm()))
}

/// Every profile with every algorithm of its key, under CAs of every algorithm: files, name and issuer's file.
fn every_kind(files: &Files) -> Vec<(Profile, String, String)> {
    let mut all = Vec::new();
    let keys = keys();
    for authority in Algorithm::OF_AUTHORITIES {
        let kit = Kit::new(*authority);
        let named = |profile: Profile, key: &str| format!("{}-{}-{key}.der", authority.slug(), profile.name());
        let root = files.write(&named(Profile::Root, ""), &kit.root);
        let issuing = files.write(&named(Profile::Issuing, ""), &kit.issuing);
        all.push((Profile::Root, root.clone(), root.clone()));
        all.push((Profile::Issuing, issuing.clone(), root));
        for profile in Profile::ALL.into_iter().filter(|profile| !profile.is_ca()) {
            for key in fitting(&keys, profile) {
                let file = files.write(&named(profile, key.algorithm().slug()), &kit.certificate(profile, key));
                all.push((profile, file, issuing.clone()));
            }
        }
    }
    all
}

#[test]
fn openssl_finds_nothing_against_any_profile() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: openssl is not installed");
        return;
    }
    let files = Files::new();
    let keys = keys();
    let verified = |arguments: &[&str]| {
        let output = Command::new("openssl").arg("verify").args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let mut judged = BTreeSet::new();
    for authority in Algorithm::OF_AUTHORITIES {
        let kit = Kit::new(*authority);
        let write = |name: &str, der: &[u8]| files.write(name, pem::encode(Kind::Certificate, der).as_bytes());
        let (root, issuing) = (write("root.pem", &kit.root), write("issuing.pem", &kit.issuing));
        for (ca, what) in [(&root, "root"), (&issuing, "issuing")] {
            let (passed, said) = verified(&["-x509_strict", "-check_ss_sig", "-CAfile", &root, ca]);
            assert!(passed, "{what}: {said}");
        }
        for profile in Profile::ALL.into_iter().filter(|profile| !profile.is_ca()) {
            for key in fitting(&keys, profile) {
                let leaf = write("leaf.pem", &kit.certificate(profile, key));
                let chain = ["-x509_strict", "-check_ss_sig", "-CAfile", &root, "-untrusted", &issuing, &leaf];
                let usage = match profile {
                    Profile::TlsServer => {
                        vec!["-purpose", "sslserver", "-verify_hostname", "bank.countersign.example"]
                    }
                    Profile::AgentB | Profile::TlsClient => vec!["-purpose", "sslclient"],
                    _ => vec![],
                };
                let (passed, said) = verified(&[usage.as_slice(), &chain].concat());
                assert!(passed, "{} {} {}: {said}", authority.slug(), profile.name(), key.algorithm().slug());
                judged.insert(profile);
            }
            // For TLS an ordinary verifier takes what is for TLS alone.
            let leaf = write("leaf.pem", &kit.certificate(profile, fitting(&keys, profile).next().unwrap()));
            for purpose in ["sslserver", "sslclient"] {
                let meant = match profile {
                    Profile::TlsServer => purpose == "sslserver",
                    Profile::AgentB | Profile::TlsClient => purpose == "sslclient",
                    _ => false,
                };
                let (passed, _) = verified(&["-purpose", purpose, "-CAfile", &root, "-untrusted", &issuing, &leaf]);
                assert_eq!(passed, meant, "{} as {purpose}", profile.name());
            }
        }
    }
    assert_eq!(judged.len(), 12);
}

#[test]
fn pkilint_finds_nothing_against_any_profile() {
    let Some(python) = pkilint() else { return };
    let files = Files::new();
    let all = every_kind(&files);
    let mut subjects: Vec<String> = all.iter().map(|(_, file, _)| file.clone()).collect();
    let pairs = all.iter().filter(|(_, file, issuer)| file != issuer);
    subjects.extend(pairs.map(|(_, file, issuer)| format!("{issuer}:{file}")));
    assert_eq!(objected(&findings(&python, &subjects)), Vec::<&(String, String, String)>::new());
}

#[test]
fn a_path_validation_made_for_the_web_takes_what_is_for_tls_and_nothing_else() {
    let Some(python) = pkilint() else { return };
    let files = Files::new();
    let keys = keys();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/linters/verify_tls.py");
    for authority in Algorithm::OF_AUTHORITIES {
        let kit = Kit::new(*authority);
        let mut arguments = vec![files.write("root.der", &kit.root), files.write("issuing.der", &kit.issuing)];
        let mut expected = Vec::new();
        for profile in Profile::ALL.into_iter().filter(|profile| !profile.is_ca()) {
            for key in fitting(&keys, profile) {
                let name = format!("{}-{}.der", profile.name(), key.algorithm().slug());
                let leaf = files.write(&name, &kit.certificate(profile, key));
                arguments.push(format!("server:bank.countersign.example:{leaf}"));
                arguments.push(format!("client::{leaf}"));
                expected.push((profile == Profile::TlsServer, format!("{name} as a server")));
                expected.push((profile == Profile::AgentB, format!("{name} as a client")));
            }
        }
        let output = Command::new(&python).arg(&script).args(&arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said.lines().count(), expected.len());
        for (line, (passes, what)) in said.lines().zip(expected) {
            assert_eq!(line == "ok", passes, "{} {what}: {line}", authority.slug());
        }
    }
}

#[test]
fn pkilint_finds_what_is_wrong() {
    let Some(python) = pkilint() else { return };
    let files = Files::new();
    let kit = Kit::new(Algorithm::P256);
    let good = kit.certificate(Profile::TlsServer, &Key::new(Algorithm::P256));
    // The key usage loses its one bit; the list names the certificate's own issuer no more.
    let usage = [0x03, 0x02, 0x07, 0x80];
    let at = good.windows(4).position(|window| window == usage).unwrap();
    let mut bent = good.clone();
    bent[at + 3] = 0;
    let other = Kit::new(Algorithm::P256);
    let subjects = [
        files.write("usage.der", &bent),
        format!("{}:{}", files.write("other.der", &other.issuing), files.write("good.der", &good)),
        files.write("good.crl", &good),
    ];
    let found = findings(&python, &subjects);
    for subject in &subjects {
        assert!(found.iter().any(|(file, code, message)| file == subject && !is_waived(code, message)), "{subject}");
    }
}

/// Every certificate and list below a directory, each in a file of its own.
fn collect(files: &Files, directory: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(files, &path, found);
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let kinds = [(Kind::Certificate, "der"), (Kind::Crl, "crl")];
        for (kind, ending) in kinds {
            for der in pem::decode_all(kind, &text).unwrap_or_default() {
                let digest = countersign::kernel::types::Sha256::of(&[&der]).hex();
                found.insert(files.write(&format!("{digest}.{ending}"), &der));
            }
        }
    }
}

#[test]
fn pkilint_finds_nothing_against_what_a_whole_installation_has_issued() {
    let Some(python) = pkilint() else { return };
    let world = World::new();
    for (party, officer) in [("bank", "bank-officer"), ("secco", "secco-officer")] {
        world.run(party, &["--operator", officer, "crl", "export"]);
    }
    let files = Files::new();
    let mut found = BTreeSet::new();
    for party in ["bank", "secco", "agent"] {
        collect(&files, &world.state(party).join("certs"), &mut found);
    }
    let lists = found.iter().filter(|file| file.ends_with(".crl")).count();
    assert!(lists >= 2 && found.len() >= 20, "{lists} lists of {}", found.len());
    let subjects: Vec<String> = found.into_iter().collect();
    let found = findings(&python, &subjects);
    assert_eq!(objected(&found), Vec::<&(String, String, String)>::new());
    for (code, part, why) in WAIVED {
        let met = found.iter().any(|(_, found, message)| found == code && message.contains(part));
        assert!(met, "{code} is not met any more: take it from the list ({why})");
    }
}
