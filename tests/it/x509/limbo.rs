//! C2SP x509-limbo: published certification paths, good and bad, against our judge.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use countersign::kernel::credential::path::{PathQuestion, Usage, judge};
use countersign::kernel::credential::pem::{self, Kind};
use countersign::kernel::types::UnixMillis;
use serde_json::Value;

/// Outside the checkout, as it is not ours.
fn archive() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/testdata");
    std::env::var_os("COUNTERSIGN_TESTDATA").map_or(beside, PathBuf::from).join("limbo.json.xz")
}

/// Cases in which we differ from what was published, and why. The list may only shrink: a case that agrees again
/// fails the test too.
const DIVERGENCES: &[(&str, &str)] = &[
    ("pathlen::validation-ignores-pathlen-in-leaf", A_CA_IS_NO_PEER),
    ("rfc5280::ca-as-leaf", A_CA_IS_NO_PEER),
    ("rfc5280::eku::ee-without-eku", "a private PKI says what a key is for; `webpki::eku::ee-without-eku` is refused"),
    (
        "webpki::nc::permitted-dns-match-noncritical",
        "RFC 5280, 4.2.1.10: critical; `rfc5280::nc::permitted-dns-match-noncritical` is refused",
    ),
    ("webpki::cn::ipv4-hex-mismatch", COMMON_NAMES_ARE_TEXT),
    ("webpki::cn::ipv4-leading-zeros-mismatch", COMMON_NAMES_ARE_TEXT),
    ("webpki::cn::ipv6-uppercase-mismatch", COMMON_NAMES_ARE_TEXT),
    ("webpki::cn::ipv6-uncompressed-mismatch", COMMON_NAMES_ARE_TEXT),
    ("webpki::cn::ipv6-non-rfc5952-mismatch", COMMON_NAMES_ARE_TEXT),
    ("webpki::cn::punycode-not-in-san", COMMON_NAMES_ARE_TEXT),
    ("webpki::cn::utf8-vs-punycode-mismatch", COMMON_NAMES_ARE_TEXT),
    ("webpki::cn::not-in-san", COMMON_NAMES_ARE_TEXT),
    ("webpki::cn::case-mismatch", COMMON_NAMES_ARE_TEXT),
    ("webpki::san::public-suffix-multi-label-wildcard-san", NO_PUBLIC_SUFFIXES),
    ("webpki::san::public-suffix-private-namespace-wildcard-san", NO_PUBLIC_SUFFIXES),
];

const A_CA_IS_NO_PEER: &str = "a CA's key signs certificates and nothing else; `webpki::ca-as-leaf` is refused";
/// Seven accepted cases break the same rule of the CA/Browser Forum (`webpki::san::exact-localhost-ip-san` is one).
const COMMON_NAMES_ARE_TEXT: &str = "names are taken from subjectAltName alone (RFC 9525, 2): a common name is text";
const NO_PUBLIC_SUFFIXES: &str = "a private PKI has no list of the public's suffixes; `*.com` is refused";

#[test]
fn published_paths_are_accepted_and_refused_as_published() {
    let archive = archive();
    if !archive.is_file() {
        println!("skipped: {} is not here", archive.display());
        return;
    }
    let unpacked = Command::new("xz").arg("-dc").arg(&archive).output().expect("xz is installed (package xz-utils)");
    assert!(unpacked.status.success());
    let limbo: Value = serde_json::from_slice(&unpacked.stdout).unwrap();
    let cases = limbo["testcases"].as_array().unwrap();
    let mut reasons: BTreeMap<&str, &str> = DIVERGENCES.iter().copied().collect();
    assert_eq!(reasons.len(), DIVERGENCES.len(), "a case stands there once");
    let mut wrong = Vec::new();
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let (accepted, said) = verdict(case);
        let agrees = accepted == (case["expected_result"] == "SUCCESS");
        let listed = reasons.remove(id).is_some();
        if agrees == listed {
            let problem = if agrees { "agrees, but is listed" } else { "differs" };
            wrong.push(format!("{id}: {problem}: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(reasons.is_empty(), "no such cases: {reasons:?}");
}

fn verdict(case: &Value) -> (bool, String) {
    let all = |member: &str, kind| -> Vec<Vec<u8>> {
        let texts = case[member].as_array().map(Vec::as_slice).unwrap_or_default();
        texts.iter().map(|text| pem::decode_one(kind, text.as_str().unwrap()).unwrap()).collect()
    };
    let leaf = pem::decode_one(Kind::Certificate, case["peer_certificate"].as_str().unwrap()).unwrap();
    // Without a time of its own a case is judged today, as whoever wrote it did.
    let at = case["validation_time"].as_str().map_or(TODAY, |text| {
        let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).unwrap();
        UnixMillis(i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap())
    });
    let question = PathQuestion {
        leaf: &leaf,
        others: &all("untrusted_intermediates", Kind::Certificate),
        anchors: &all("trusted_certs", Kind::Certificate),
        lists: &all("crls", Kind::Crl),
        at,
        usage: Some(if case["validation_kind"] == "SERVER" { Usage::Server } else { Usage::Client }),
        name: case["expected_peer_name"]["value"].as_str(),
        depth_max: case["max_chain_depth"].as_u64().map(|depth| usize::try_from(depth).unwrap()),
    };
    match judge(&question) {
        Ok(_) => (true, "accepted".into()),
        Err(refusal) => (false, format!("{}: {refusal}", refusal.rule.name())),
    }
}

/// 2026-11-21T00:00:00Z
const TODAY: UnixMillis = UnixMillis(1_795_219_200_000);
