//! The profiles are what the files say: every certificate with one thing changed is refused, by hundreds of rows that
//! come from the files, and `docs/PROFILES.md` says the same.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use countersign::kernel::credential::certificate::Tbs;
use countersign::kernel::credential::der::{self, Reader};
use countersign::kernel::credential::lint::lint_tbs_certificate;
use countersign::kernel::credential::oid;
use countersign::kernel::credential::profile::{Profile, Usage};
use countersign::kernel::sign::{Algorithm, Purpose};
use countersign::ops::clock;

use crate::support::kit::{Kit, base};
use crate::support::world::PROGRAM;

/// One extension: identifier, critical, content.
type Extension = (Vec<u8>, bool, Vec<u8>);

/// The same TBSCertificate with other extensions.
fn with_extensions(tbs: &[u8], extensions: &[Extension]) -> Vec<u8> {
    let mut reader = Reader::whole_sequence(tbs).unwrap();
    let mut parts = Vec::new();
    while !reader.is_empty() {
        let part = reader.any().unwrap();
        if part.tag != der::context_constructed(3) {
            parts.extend_from_slice(part.raw);
        }
    }
    let mut list = Vec::new();
    for (oid, critical, content) in extensions {
        let critical: &[u8] = if *critical { &[der::BOOLEAN, 1, 0xff] } else { &[] };
        let octets = der::element(der::OCTET_STRING, content);
        list.extend(der::sequence(&[&der::element(der::OID, oid), critical, &octets]));
    }
    parts.extend(der::element(der::context_constructed(3), &der::element(der::SEQUENCE, &list)));
    der::element(der::SEQUENCE, &parts)
}

/// What one row does to a certificate that fits its profile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    Missing,
    OtherCriticality,
    Twice,
    OtherContent,
    LongerContent,
    Added,
}

struct Row {
    profile: Profile,
    extension: Vec<u8>,
    change: Change,
    tbs: Vec<u8>,
}

/// Every extension that we know, whether a profile has it or not, and two that we do not.
fn every_extension() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for profile in Profile::ALL {
        all.extend(profile.table().extensions.expected().map(|expected| expected.oid.to_vec()));
    }
    all.sort();
    all.dedup();
    // Name constraints and one of nobody.
    all.extend([vec![0x55, 0x1d, 0x1e], vec![0x2a, 3]]);
    all
}

/// The table: generated from what the files say each profile has.
fn rows() -> Vec<Row> {
    let kit = Kit::new(Algorithm::P256);
    let donors: BTreeMap<Vec<u8>, Vec<u8>> = Profile::ALL
        .iter()
        .flat_map(|profile| {
            let tbs = kit.tbs(*profile);
            let read = Tbs::read(&tbs).unwrap();
            read.extensions.iter().map(|found| (found.oid.to_vec(), found.value.to_vec())).collect::<Vec<_>>()
        })
        .collect();
    let mut rows = Vec::new();
    for profile in Profile::ALL {
        let tbs = kit.tbs(profile);
        let own: Vec<Extension> = Tbs::read(&tbs)
            .unwrap()
            .extensions
            .iter()
            .map(|found| (found.oid.to_vec(), found.critical, found.value.to_vec()))
            .collect();
        let mut row = |extension: &[u8], change, extensions: &[Extension]| {
            rows.push(Row { profile, extension: extension.to_vec(), change, tbs: with_extensions(&tbs, extensions) });
        };
        for (index, (oid, critical, content)) in own.iter().enumerate() {
            let replaced = |with: Extension| {
                let mut all = own.clone();
                all[index] = with;
                all
            };
            let mut missing = own.clone();
            missing.remove(index);
            row(oid, Change::Missing, &missing);
            row(oid, Change::OtherCriticality, &replaced((oid.clone(), !critical, content.clone())));
            row(oid, Change::Twice, &[own.clone(), vec![own[index].clone()]].concat());
            row(oid, Change::OtherContent, &replaced((oid.clone(), *critical, vec![der::NULL, 0, 0])));
            row(
                oid,
                Change::LongerContent,
                &replaced((oid.clone(), *critical, [content.as_slice(), &[5, 0]].concat())),
            );
        }
        for oid in every_extension() {
            if own.iter().all(|(other, _, _)| *other != oid) {
                let content = donors.get(&oid).cloned().unwrap_or(vec![der::NULL, 0]);
                for critical in [false, true] {
                    let added = vec![(oid.clone(), critical, content.clone())];
                    row(&oid, Change::Added, &[own.clone(), added].concat());
                }
            }
        }
    }
    rows
}

/// Rows that a judge lets pass.
fn passed(rows: &[Row], judge: impl Fn(&Row) -> bool) -> Vec<(&'static str, String, Change)> {
    let passed = rows.iter().filter(|row| judge(row));
    passed.map(|row| (row.profile.name(), hex::encode(&row.extension), row.change)).collect()
}

fn signer_of(profile: Profile) -> Purpose {
    if profile.is_ca() { Purpose::Root } else { Purpose::Issuing }
}

fn lints(row: &Row) -> bool {
    lint_tbs_certificate(signer_of(row.profile), &row.tbs, clock::now()).is_ok()
}

fn checks(row: &Row) -> bool {
    Tbs::read(&row.tbs).is_ok_and(|tbs| row.profile.check(&tbs, &base()).is_ok())
}

#[test]
fn every_certificate_with_one_extension_changed_is_refused() {
    let rows = rows();
    assert!(rows.len() > 600, "{}", rows.len());
    assert_eq!(passed(&rows, lints), []);

    // By itself the profile leaves two things to others: what we accept may go without a responder, and the binding has
    // rules with names of their own.
    let left = |(_, extension, change): &(&str, String, Change)| {
        let responder = *extension == hex::encode(oid::AUTHORITY_INFO_ACCESS) && *change == Change::Missing;
        responder || *extension == hex::encode(oid::RELATED_CERTIFICATE)
    };
    let survivors = passed(&rows, checks);
    assert_eq!(survivors.iter().filter(|row| !left(row)).collect::<Vec<_>>(), Vec::<&(&str, String, Change)>::new());
    assert!(!survivors.is_empty());
}

#[test]
fn the_table_finds_a_judge_that_overlooks_something() {
    let rows = rows();
    // One that reads and judges nothing.
    let readable = passed(&rows, |row| Tbs::read(&row.tbs).is_ok());
    assert_eq!(readable.len(), rows.len());
    // One that takes whatever criticality there is.
    let lenient = |row: &Row| {
        let tbs = Tbs::read(&row.tbs).unwrap();
        let expected: Vec<_> = row.profile.table().extensions.expected().collect();
        let extensions: Vec<Extension> = tbs
            .extensions
            .iter()
            .map(|found| {
                let rule = expected.iter().find(|expected| expected.oid == found.oid);
                (found.oid.to_vec(), rule.map_or(found.critical, |rule| rule.critical), found.value.to_vec())
            })
            .collect();
        let bent = with_extensions(&row.tbs, &extensions);
        lint_tbs_certificate(signer_of(row.profile), &bent, clock::now()).is_ok()
    };
    let survivors = passed(&rows, lenient);
    assert!(survivors.iter().all(|(_, _, change)| *change == Change::OtherCriticality));
    assert_eq!(survivors.len(), rows.iter().filter(|row| row.change == Change::OtherCriticality).count());
    // One that knows an extension more: it lets a certificate pass that has it.
    let added = hex::encode([0x2a, 3]);
    let knows_more = |row: &Row| {
        let tbs = Tbs::read(&row.tbs).unwrap();
        let known = tbs.extensions.iter().filter(|found| found.oid != [0x2a, 3]);
        let known: Vec<Extension> =
            known.map(|found| (found.oid.to_vec(), found.critical, found.value.to_vec())).collect();
        let bent = with_extensions(&row.tbs, &known);
        lint_tbs_certificate(signer_of(row.profile), &bent, clock::now()).is_ok()
    };
    let survivors = passed(&rows, knows_more);
    assert!(survivors.len() == 2 * Profile::ALL.len() && survivors.iter().all(|(_, extension, _)| *extension == added));
}

#[test]
fn what_the_design_asks_holds_whatever_the_files_say() {
    let mut usages = BTreeMap::<String, Vec<&str>>::new();
    for profile in Profile::ALL {
        let table = profile.table();
        let name = profile.name();
        assert_eq!(profile.is_ca(), matches!(profile, Profile::Root | Profile::Issuing), "{name}");
        let usage = table.extensions.key_usage.der();
        assert_eq!(usage, if profile.is_ca() { [3, 2, 1, 6] } else { [3, 2, 7, 0x80] }, "{name}");
        for expected in table.extensions.expected() {
            let must = [oid::BASIC_CONSTRAINTS, oid::KEY_USAGE].contains(&expected.oid);
            assert_eq!(expected.critical, must, "{name} {}", expected.name);
        }
        if let Some(rule) = table.extensions.extended_key_usage {
            usages.entry(rule.usage.to_string()).or_default().push(name);
        }
        let has_responder = table.extensions.authority_info_access.is_some();
        let presented = ["agent-s", "agent-b", "tls-server", "tls-client", "operator"].contains(&name);
        assert_eq!(has_responder, presented, "{name}");
    }
    assert_eq!((Profile::Root.path_length(), Profile::Issuing.path_length()), (Some(1), Some(0)));
    for half in [Profile::AgentS, Profile::AgentB] {
        assert_eq!((half.table().life.default_days, half.table().life.max_days), (1, 7));
    }
    // An ordinary TLS verifier accepts nothing of ours but what is for TLS.
    assert_eq!(usages.remove(&Usage::ClientAuth.to_string()).unwrap(), ["agent-b", "tls-client"]);
    assert_eq!(usages.remove(&Usage::ServerAuth.to_string()).unwrap(), ["tls-server"]);
    assert_eq!(usages.remove(&Usage::OcspSigning.to_string()).unwrap(), ["ocsp-responder"]);
    assert_eq!(usages.remove("private 2.2").unwrap(), ["checkpoint", "witness"]);
    for (usage, names) in usages {
        assert!(usage.starts_with("private ") && names.len() == 1, "{usage} {names:?}");
    }
}

#[test]
fn the_command_shows_every_profile_and_needs_no_state() {
    let run = |arguments: &[&str]| {
        let output = Command::new(PROGRAM).args(["--state", "/nonexistent"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let list: serde_json::Value = serde_json::from_str(&run(&["--json", "profile", "list"])).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 14);
    assert_eq!(run(&["profile", "list"]).lines().count(), 15);
    for profile in Profile::ALL {
        let shown: serde_json::Value =
            serde_json::from_str(&run(&["--json", "profile", "show", profile.name()])).unwrap();
        assert_eq!(shown, serde_json::json!(profile.table()));
        let text = run(&["profile", "show", profile.name()]);
        assert!(text.contains(&profile.table().about), "{text}");
    }
    let refused = Command::new(PROGRAM).args(["profile", "show", "agent"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
}

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/PROFILES.md")
}

const BEGIN: &str = "<!-- from certs/profiles: begin -->\n";
const END: &str = "<!-- from certs/profiles: end -->\n";

/// What the page says of the files.
fn tables() -> String {
    let mut text = String::new();
    writeln!(text, "| profile | what for | issued by | subject | key | days, at most | key usage | extended |")
        .unwrap();
    writeln!(text, "|---|---|---|---|---|---|---|---|").unwrap();
    for profile in Profile::ALL {
        let table = profile.table();
        let usage = table.extensions.extended_key_usage.map_or("–".to_owned(), |rule| rule.usage.to_string());
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {}, {} | {} | {usage} |",
            table.name,
            table.about,
            table.issued_by(),
            table.subject_form(),
            table.key_algorithms(),
            table.life.default_days,
            table.life.max_days,
            table.key_usages(),
        )
        .unwrap();
    }
    let mut extensions = BTreeMap::<(&str, bool, String), Vec<&str>>::new();
    for profile in Profile::ALL {
        for expected in profile.table().extensions.expected() {
            let rule = profile.table().rule_of(&expected);
            extensions.entry((expected.name, expected.critical, rule)).or_default().push(profile.name());
        }
    }
    writeln!(text, "\n| extension | critical | content | in |").unwrap();
    writeln!(text, "|---|---|---|---|").unwrap();
    for ((name, critical, rule), profiles) in extensions {
        let critical = if critical { "yes" } else { "no" };
        let within = match profiles.len() {
            14 => "all".to_owned(),
            count if count > 7 => {
                let others = Profile::ALL.iter().map(|profile| profile.name()).filter(|name| !profiles.contains(name));
                format!("all but {}", others.collect::<Vec<_>>().join(", "))
            }
            _ => profiles.join(", "),
        };
        writeln!(text, "| {name} | {critical} | {} | {within} |", rule.replace('<', "&lt;")).unwrap();
    }
    text
}

#[test]
fn the_page_about_profiles_says_what_the_files_say() {
    let text = std::fs::read_to_string(page()).unwrap();
    let between = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(between, _)| between);
    let renew = "write it anew with `cargo test --test it -- --ignored writes_the_page_about_profiles`";
    assert_eq!(between, Some(tables().as_str()), "{renew}");
}

#[test]
#[ignore = "writes the tables of docs/PROFILES.md anew: to be run when a file in certs/profiles has changed"]
fn writes_the_page_about_profiles() {
    let text = std::fs::read_to_string(page()).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    std::fs::write(page(), format!("{before}{BEGIN}{}{END}{after}", tables())).unwrap();
}
