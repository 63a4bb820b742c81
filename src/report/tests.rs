//! Reports of made-up facts: what changes a result, that nothing hostile gets through, that the same gives the same.

use std::sync::Arc;

use serde_json::{Value, json};

use super::checks::{Check, Outcome};
use super::facts::*;
use super::framework::Framework;
use super::{Format, Report, Standing};
use crate::audit::LogState;
use crate::hsm::{CustodyAttributes, KeyInfo, KeyState, LibraryInfo, PinState, TokenInfo};
use crate::kernel::command::Rules;
use crate::kernel::mask::{Clearance, Sensitivity};
use crate::kernel::monitor::{Mode, MonitorRules};
use crate::kernel::quorum::GateRule;
use crate::kernel::sign::{Algorithm, Purpose};
use crate::kernel::status::StatusSnapshot;
use crate::kernel::types::{Sha256, UnixMillis};

const AT: UnixMillis = UnixMillis(1_795_000_000_000);

fn read<T>(value: T) -> Read<T> {
    Read { at: AT, value: Ok(value) }
}

fn person(name: &str, roles: &[&str]) -> Person {
    Person { name: name.into(), roles: roles.iter().map(|role| (*role).to_owned()).collect() }
}

fn line(check: &str, result: &str) -> DoctorLine {
    DoctorLine { check: check.into(), result: result.into(), detail: format!("{check} is {result}") }
}

fn rules() -> Rules {
    serde_json::from_value(json!({
        "policy_version": "0123456789abcdef", "catalogue_version": 1,
        "role_tools": { "purchaser": ["get_account_balance", "execute_purchase"] },
        "merchants_allowed": ["amazon.com"],
        "unattended_per_transaction": { "amount": "2000.00", "currency": "USD" },
        "unattended_per_day": { "amount": "5000.00", "currency": "USD" },
        "deny_above": { "amount": "50000.00", "currency": "USD" },
        "authorization_ttl_ms": 900_000, "approval_ttl_ms": 86_400_000, "open_holds_max": 50,
        "transactions": [], "company_crl_required": true, "fees": [], "settlement": "embedded",
        "gates": [{ "gate": "bank", "approvals": 2, "roles": ["approver", "officer"] }],
        "unsigned_approvals": false,
    }))
    .unwrap()
}

/// A bank where everything is as it should be, in software.
fn sound() -> Facts {
    let key = KeyInfo {
        id: Sha256([7; 32]),
        label: "bank-checkpoint-v1".into(),
        purpose: Purpose::Checkpoint,
        agent: None,
        version: 1,
        algorithm: Algorithm::Ed25519,
        spki: vec![],
        custody: CustodyAttributes::SOUND,
        state: KeyState::Active,
    };
    let role = RoleCertificate {
        purpose: Purpose::Checkpoint,
        label: key.label.clone(),
        active: 1,
        since: Some(AT),
        until: Some(UnixMillis(AT.0 + 86_400_000)),
    };
    let ok = ["hsm", "pin", "store", "clock", "state directory", "configuration", "peer lease", "other parties"];
    let more = ["sealing", "role certificate", "endorsement status", "witness", "front confinement", "peer"];
    let leaf = |index, actor: &str| LeafLine {
        index,
        at: Some("2026-11-22T10:00:00.000Z".into()),
        actor: Some(actor.into()),
        is_erased: false,
    };
    Facts {
        party: "bank".parse().unwrap(),
        whose: Whose::Bank,
        by: "auditor".into(),
        made_at: AT,
        head: Head {
            origin: "bank.countersign.example/log".into(),
            size: 42,
            root: Sha256([9; 32]),
            checkpoint: "bank.countersign.example/log\n42\nCQkJ\n\n— bank.countersign.example/log AAAA\n".into(),
        },
        token: read(TokenInfo {
            module: "a module".into(),
            library: LibraryInfo {
                path: "/usr/lib/module.so".into(),
                description: "Implementation of PKCS11".into(),
                version: "2.6".into(),
                sha256: None,
            },
            label: "bank".into(),
            serial: "1".into(),
            manufacturer: "SoftHSM project".into(),
            mechanisms: vec![],
            pin: PinState::Sound,
            worker_pid: 1,
        }),
        keys: read(vec![key]),
        roles: read(vec![role]),
        people: read(People {
            known_by: KnownBy::UserId,
            configured: vec![person("dora", &["officer"]), person("root", &["administrator"])],
            enrolled: vec![person("dora", &["officer"])],
        }),
        log: read(LogState {
            origin: "bank.countersign.example/log".into(),
            size: 42,
            signed_size: 42,
            lag: 0,
            running: true,
            fault: None,
        }),
        newest: read(vec![leaf(40, "agent"), leaf(41, "operator")]),
        first: read(Some(leaf(0, "operator"))),
        retention_days: None,
        checked: Some(read(json!({ "leaves": 42, "root": "09" }))),
        status: read(StatusSnapshot::default()),
        doctor: read(ok.iter().chain(&more).map(|check| line(check, "ok")).collect()),
        messages: Some(read(Messages { channels: vec![("ops".into(), "smtp".into())], queued: 0, sent: 3, dead: 0 })),
        bank: Some(read(BankFacts {
            rules: Arc::new(rules()),
            catalogue: Some((1, None)),
            clearances: vec![("purchaser".parse().unwrap(), Clearance::of([Sensitivity::Amount]))],
            breaker: Switch::On,
            stopped_by: vec![],
            cases_waiting: 0,
            monitor: Mode::Enforce,
            monitor_rules: MonitorRules::default(),
        })),
    }
}

fn bank(facts: &mut Facts) -> &mut BankFacts {
    facts.bank.as_mut().unwrap().value.as_mut().unwrap()
}

fn rule(facts: &mut Facts) -> &mut Rules {
    Arc::make_mut(&mut bank(facts).rules)
}

/// One change of what is seen, and what it makes of one check.
type Case = (Check, fn(&mut Facts), Outcome);

fn archived(facts: &mut Facts, result: &str, detail: &str) {
    let told = DoctorLine { detail: detail.into(), ..line("log archive", result) };
    facts.doctor.value.as_mut().unwrap().push(told);
}

#[test]
fn each_check_turns_when_what_it_looks_at_turns() {
    use Outcome::{Met, NotApplicable, NotMet, Partly};
    let cases: &[Case] = &[
        (Check::KeysInToken, |_| {}, Met),
        (Check::KeysInToken, |facts| facts.keys.value.as_mut().unwrap()[0].custody.extractable = true, NotMet),
        (Check::KeysInToken, |facts| facts.keys.value = Ok(vec![]), NotMet),
        (Check::KeysInToken, |facts| facts.keys.value = Err("hsm_down".into()), NotMet),
        (Check::KeysStrong, |_| {}, Met),
        (Check::KeyVersions, |facts| facts.roles.value.as_mut().unwrap()[0].active = 2, Partly),
        (Check::TokenCertified, |_| {}, NotMet),
        (Check::TokenCertified, |facts| facts.token.value.as_mut().unwrap().manufacturer = "Thales".into(), Partly),
        (Check::TokenSound, |facts| facts.doctor.value.as_mut().unwrap().push(line("pin", "fail")), NotMet),
        (Check::OperatorsKnown, |_| {}, Met),
        (Check::OperatorsKnown, |facts| facts.people.value.as_mut().unwrap().known_by = KnownBy::Assertion, NotMet),
        (Check::OperatorKeys, |_| {}, Met),
        (Check::OperatorKeys, |facts| facts.people.value.as_mut().unwrap().enrolled.clear(), NotMet),
        (
            Check::OperatorKeys,
            |facts| facts.people.value.as_mut().unwrap().configured.push(person("eve", &["approver"])),
            Partly,
        ),
        (Check::OperatorKeys, |facts| facts.whose = Whose::AgentHost, NotApplicable),
        (Check::DutiesSeparated, |_| {}, Met),
        (
            Check::DutiesSeparated,
            |facts| facts.people.value.as_mut().unwrap().enrolled.push(person("root", &["approver"])),
            NotMet,
        ),
        (Check::RolesNarrow, |_| {}, Partly),
        (Check::RolesNarrow, |facts| bank(facts).catalogue = None, NotMet),
        (Check::RolesNarrow, |facts| rule(facts).policy_unreadable = Some(2), NotMet),
        (Check::RolesNarrow, |facts| facts.bank = None, NotApplicable),
        (Check::HumanGate, |_| {}, Met),
        (
            Check::HumanGate,
            |facts| {
                rule(facts).gates.clear();
                rule(facts).unsigned_approvals = true;
            },
            Partly,
        ),
        (Check::TwoPeople, |_| {}, Met),
        (Check::TwoPeople, |facts| rule(facts).gates = vec![GateRule::one_approver()], NotMet),
        (Check::TwoPeople, |facts| rule(facts).gates.clear(), NotMet),
        // A reversal asks no owner: one person of the bank lets it go on.
        (Check::TwoPeople, |facts| rule(facts).gates = vec![GateRule::Owner {}, GateRule::one_approver()], Partly),
        (Check::TwoPeople, |facts| rule(facts).gates.push(GateRule::Owner {}), Met),
        (
            Check::TwoPeople,
            |facts| {
                rule(facts).gates.clear();
                rule(facts).transactions = with_threshold();
            },
            Partly,
        ),
        (Check::OwnerConsent, |_| {}, NotMet),
        (Check::OwnerConsent, |facts| rule(facts).gates = vec![GateRule::Owner {}], Met),
        (Check::HardCeiling, |facts| rule(facts).deny_above = None, NotMet),
        (Check::PaymentLimits, |_| {}, Partly),
        (Check::PayeesNamed, |_| {}, Partly),
        (Check::BreakerAutomatic, |facts| bank(facts).breaker = Switch::Off, Partly),
        (Check::MonitorScores, |_| {}, Met),
        (Check::MonitorScores, |facts| bank(facts).monitor = Mode::Observe, Partly),
        (Check::MonitorScores, |facts| bank(facts).monitor = Mode::Off, NotMet),
        (Check::CasesWorked, |facts| bank(facts).cases_waiting = 1, Partly),
        (Check::AnswersMasked, |_| {}, Met),
        (Check::AnswersMasked, |facts| bank(facts).clearances[0].1 = Clearance::of(Sensitivity::ALL), Partly),
        (Check::LogSigned, |_| {}, Met),
        (Check::LogSigned, |facts| facts.log.value.as_mut().unwrap().lag = 3, Partly),
        (Check::LogSigned, |facts| facts.log.value.as_mut().unwrap().running = false, NotMet),
        (Check::LogWitnessed, |_| {}, Met),
        (Check::LogWitnessed, |facts| facts.doctor.value.as_mut().unwrap().push(line("witness", "fail")), NotMet),
        (Check::LogWitnessed, |facts| facts.doctor.value.as_mut().unwrap().clear(), NotMet),
        (Check::LogWitnessed, |facts| facts.whose = Whose::SecurityCompany, NotMet),
        (Check::LogChecked, |_| {}, Met),
        (Check::LogChecked, |facts| facts.checked = None, Partly),
        (Check::LogChecked, |facts| facts.checked = Some(Read { at: AT, value: Err("log_damaged".into()) }), NotMet),
        (Check::LogKept, |_| {}, Met),
        (Check::LogKept, |facts| facts.first.value = Ok(None), NotMet),
        (Check::LogKept, |facts| facts.first.value.as_mut().unwrap().as_mut().unwrap().at = None, Partly),
        (Check::LogKept, |facts| facts.retention_days = Some(30), Partly),
        (Check::LogArchived, |_| {}, NotApplicable),
        (Check::LogArchived, |facts| archived(facts, "ok", "18 leaves, locked (compliance) until 2033"), Met),
        (Check::LogArchived, |facts| archived(facts, "ok", "18 leaves, written once"), Partly),
        (Check::LogArchived, |facts| archived(facts, "warn", "3 leaves behind"), Partly),
        (Check::LogArchived, |facts| archived(facts, "warn", "off: the log is copied nowhere"), NotMet),
        (Check::LogArchived, |facts| archived(facts, "fail", "archive_not_locked"), NotMet),
        (Check::LogArchived, |facts| facts.doctor.value = Err("gone".into()), NotMet),
        (Check::LogNames, |_| {}, Met),
        (Check::LogNames, |facts| facts.newest.value.as_mut().unwrap()[0].actor = None, Partly),
        (
            Check::LogNames,
            |facts| {
                let leaf = &mut facts.newest.value.as_mut().unwrap()[0];
                (leaf.actor, leaf.at, leaf.is_erased) = (None, None, true);
            },
            Met,
        ),
        (Check::ProgramsNamed, |_| {}, NotApplicable),
        (Check::ProgramsNamed, |facts| facts.doctor.value.as_mut().unwrap().push(line("signing service", "ok")), Met),
        (
            Check::ProgramsNamed,
            |facts| facts.doctor.value.as_mut().unwrap().push(line("signing service", "warn")),
            Partly,
        ),
        (
            Check::ProgramsNamed,
            |facts| facts.doctor.value.as_mut().unwrap().push(line("signing service", "fail")),
            NotMet,
        ),
        (Check::CredentialsSealed, |_| {}, NotApplicable),
        (Check::CredentialsSealed, |facts| facts.doctor.value.as_mut().unwrap().push(line("vault", "ok")), Met),
        (
            Check::CredentialsSealed,
            |facts| facts.doctor.value.as_mut().unwrap().push(line("vault reader", "warn")),
            Partly,
        ),
        (Check::CredentialsSealed, |facts| facts.doctor.value.as_mut().unwrap().push(line("vault", "fail")), NotMet),
        (Check::LeavesSealed, |_| {}, Met),
        (Check::LeavesSealed, |facts| facts.doctor.value.as_mut().unwrap().push(line("sealing", "warn")), NotMet),
        (Check::LeavesSealed, |facts| facts.doctor.value.as_mut().unwrap().clear(), NotMet),
        (Check::ClockSane, |facts| facts.doctor.value.as_mut().unwrap().push(line("clock", "fail")), NotMet),
        (Check::StoreDurable, |facts| facts.doctor.value.as_mut().unwrap().push(line("store", "warn")), Partly),
        (
            Check::StateClosed,
            |facts| facts.doctor.value.as_mut().unwrap().push(line("inner directories", "fail")),
            NotMet,
        ),
        (
            Check::ConfigurationKnown,
            |facts| facts.doctor.value.as_mut().unwrap().push(line("role policy", "fail")),
            NotMet,
        ),
        (Check::ConfigurationKnown, |facts| facts.doctor.value = Err("gone".into()), NotMet),
        // A word that the doctor does not have today.
        (Check::ClockSane, |facts| facts.doctor.value.as_mut().unwrap().push(line("clock", "great")), NotMet),
        (Check::PeopleTold, |_| {}, Met),
        (Check::PeopleTold, |facts| facts.messages.as_mut().unwrap().value.as_mut().unwrap().dead = 1, Partly),
        (Check::PeopleTold, |facts| facts.messages.as_mut().unwrap().value.as_mut().unwrap().channels.clear(), NotMet),
        (Check::PeopleTold, |facts| facts.messages = None, NotApplicable),
        (
            Check::RevocationCurrent,
            |facts| facts.doctor.value.as_mut().unwrap().push(line("peer lease", "warn")),
            Partly,
        ),
        (Check::FreezesKnown, |_| {}, Met),
        (Check::PartiesKnown, |facts| facts.doctor.value.as_mut().unwrap().push(line("peer", "fail")), NotMet),
        (Check::CertificatesCurrent, |_| {}, Met),
        (
            Check::CertificatesCurrent,
            |facts| facts.doctor.value.as_mut().unwrap().push(line("ca certificate", "warn")),
            Partly,
        ),
    ];
    for (check, change, outcome) in cases {
        let mut facts = sound();
        change(&mut facts);
        let found = check.look(&facts);
        assert_eq!(found.outcome, *outcome, "{check:?}: {found:?}");
    }
    for check in Check::ALL {
        assert!(cases.iter().any(|(of, _, _)| *of == check), "{check:?} has no case");
        assert_eq!(serde_json::to_value(check).unwrap(), check.name());
    }
}

#[test]
fn what_a_gate_does_not_ask_is_said_with_it() {
    let told = |check: Check, change: fn(&mut Facts)| {
        let mut facts = sound();
        change(&mut facts);
        let found = check.look(&facts);
        let items = found.items.iter().map(|item| format!("{}: {}", item.what, item.value));
        [found.says.clone()].into_iter().chain(items).collect::<Vec<_>>().join("\n")
    };
    // An officer books a fee from anybody's account, alone: the sentence is about agents, and the people are named.
    let human = told(Check::HumanGate, |_| {});
    assert!(human.contains("no agent's payment is made without") && !human.contains("nothing moves"), "{human}");
    assert!(human.contains("book fees of any amount, alone and without a signature: dora, root"), "{human}");
    let unread = told(Check::HumanGate, |facts| facts.people.value = Err("store_down".into()));
    assert!(unread.contains("not known: store_down"), "{unread}");
    // Reversals drop the owner's gate.
    let consent = told(Check::OwnerConsent, |facts| rule(facts).gates = vec![GateRule::Owner {}]);
    assert!(consent.contains("a reversal, which pays back, needs the bank's people alone"), "{consent}");
    assert!(consent.contains("gates of reversals: 1 of the bank (approver)"), "{consent}");
    // Bodies are the store's word until the log is checked.
    let names = told(Check::LogNames, |_| {});
    assert!(names.contains("as the store has them"), "{names}");
}

/// One rule that asks for two people above an amount.
fn with_threshold() -> crate::kernel::policy::transaction::TransactionRules {
    serde_json::from_value(json!([{
        "name": "large",
        "thresholds": [{
            "above": { "amount": "10000.00", "currency": "USD" },
            "require": [{ "gate": "bank", "approvals": 2, "roles": ["approver", "officer"] }],
        }],
    }]))
    .unwrap()
}

fn result(report: &Report, id: &str) -> Standing {
    report.rows.iter().find(|row| row.control.id == id).unwrap_or_else(|| panic!("no control {id}")).standing
}

#[test]
fn a_control_is_met_only_when_all_that_it_rests_on_was_seen_to_be() {
    let report = |change: fn(&mut Facts), framework: Framework| {
        let mut facts = sound();
        change(&mut facts);
        Report::of(framework, facts)
    };
    type Row = (Framework, &'static str, fn(&mut Facts), Standing);
    let rows: &[Row] = &[
        (Framework::Sox, "BP-2 (COSO 10)", |_| {}, Standing::Met),
        // The rule is taken away.
        (Framework::Sox, "BP-2 (COSO 10)", |facts| rule(facts).gates.clear(), Standing::NotMet),
        (Framework::Sox, "BP-1 (COSO 10)", |facts| rule(facts).deny_above = None, Standing::Partly),
        (Framework::Sox, "OP-3", |facts| bank(facts).cases_waiting = 2, Standing::Partly),
        // Of another party's kind.
        (Framework::Sox, "BP-2 (COSO 10)", |facts| facts.whose = Whose::AgentHost, Standing::NotApplicable),
        // Its best is a part, whatever was seen.
        (Framework::PciDss4, "10.6.1", |_| {}, Standing::Partly),
        (Framework::PciDss4, "10.6.1", |facts| facts.doctor.value = Err("gone".into()), Standing::NotMet),
        (Framework::PciDss4, "10.3.4", |_| {}, Standing::Met),
        (Framework::PciDss4, "10.3.4", |facts| facts.checked = None, Standing::Partly),
        // Software keeps the keys.
        (Framework::PciDss4, "3.6.1.2", |_| {}, Standing::Partly),
        (Framework::PciDss4, "9.2.1", |_| {}, Standing::NotCovered),
        (Framework::PciDss4, "3.3.1", |_| {}, Standing::NotApplicable),
        // Documents and tests alone are said, not seen.
        (Framework::PciDss4, "6.2.4", |_| {}, Standing::Partly),
        (
            Framework::NistCsf,
            "DE.AE-06",
            |facts| facts.messages.as_mut().unwrap().value.as_mut().unwrap().dead = 1,
            Standing::Partly,
        ),
        (Framework::NistCsf, "DE.AE-06", |facts| facts.messages = None, Standing::NotApplicable),
    ];
    for (framework, id, change, standing) in rows {
        assert_eq!(result(&report(*change, *framework), id), *standing, "{framework} {id}");
    }
}

#[test]
fn the_same_facts_give_the_same_bytes_and_every_number_adds_up() {
    for framework in Framework::ALL {
        let report = Report::of(framework, sound());
        for format in Format::ALL {
            let text = report.text(format);
            assert_eq!(text, Report::of(framework, sound()).text(format), "{framework} {format:?}");
            assert!(text.ends_with('\n'));
            for control in &report.table.control {
                assert!(text.contains(&html_or_json(&control.id, format)), "{framework} {format:?} {}", control.id);
            }
        }
        let counted: u64 = report.counts().values().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(counted, report.rows.len() as u64, "{framework}");
        let told: Value = serde_json::from_str(&report.text(Format::Json)).unwrap();
        assert_eq!(told["log"]["size"], 42);
        for evidence in told["evidence"].as_array().unwrap() {
            assert_eq!((&evidence["log_size"], &evidence["read_at"]), (&json!(42), &json!(AT.rfc3339())));
            assert!(evidence["items"].as_array().unwrap().iter().all(|item| item["source"].is_string()));
        }
    }
}

fn html_or_json(text: &str, format: Format) -> String {
    match format {
        Format::Html => text.replace('&', "&amp;"),
        Format::Json | Format::Oscal => text.to_owned(),
    }
}

#[test]
fn identifiers_of_oscal_are_tokens_and_none_is_given_twice() {
    for framework in Framework::ALL {
        let told: Value = serde_json::from_str(&Report::of(framework, sound()).text(Format::Oscal)).unwrap();
        let results = &told["assessment-results"]["results"][0];
        let selected = results["reviewed-controls"]["control-selections"][0]["include-controls"].as_array().unwrap();
        let ids: std::collections::BTreeSet<&str> =
            selected.iter().map(|control| control["control-id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), selected.len(), "{framework}: {ids:?}");
        let is_kept = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
        assert!(ids.iter().all(|id| id.chars().all(is_kept)), "{ids:?}");
        let uuids: Vec<&str> = ["findings", "observations"]
            .iter()
            .flat_map(|list| results[list].as_array().unwrap())
            .map(|item| item["uuid"].as_str().unwrap())
            .collect();
        let distinct: std::collections::BTreeSet<&&str> = uuids.iter().collect();
        assert_eq!(distinct.len(), uuids.len());
        let is_version_5 = |uuid: &&str| uuid.as_bytes()[14] == b'5' && b"89ab".contains(&uuid.as_bytes()[19]);
        assert!(uuids.iter().all(is_version_5), "{uuids:?}");
    }
}

/// What somebody may be called who wants a reader's browser, terminal or renderer to do something.
const HOSTILE: [&str; 6] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "</style><link rel=stylesheet href=//evil.example/x>",
    "`${alert(1)}` 'x' & <b>",
    "a\u{202e}evil\u{2066}\u{200b}b\u{7}",
    "[click](javascript:alert(1)) <b>*bold*</b>\n\n# heading",
];

#[test]
fn hostile_names_are_text_and_nothing_else() {
    for hostile in HOSTILE {
        let mut facts = sound();
        facts.by = hostile.into();
        facts.people.value.as_mut().unwrap().configured[0].name = hostile.into();
        facts.head.checkpoint = hostile.into();
        facts.token.value.as_mut().unwrap().manufacturer = hostile.into();
        facts.doctor.value.as_mut().unwrap().push(DoctorLine {
            check: "role certificate".into(),
            result: "warn".into(),
            detail: hostile.into(),
        });
        bank(&mut facts).stopped_by = vec![hostile.into()];
        let report = Report::of(Framework::PciDss4, facts);
        let page = report.text(Format::Html);
        let body = page.split_once("</head>").unwrap().1;
        for mark in
            ["<script", "<img", "<link", "<b>", "</style", "javascript:alert(1)\"", "\u{202e}", "\u{200b}", "\u{7}"]
        {
            assert!(!body.contains(mark), "{hostile:?}: {mark}");
        }
        // Tags are ours alone, and every one of them is closed or void.
        let tags = body.split('<').skip(1).map(|rest| rest.split(['>', ' ']).next().unwrap());
        for tag in tags {
            let known = [
                "body", "header", "h1", "p", "time", "main", "h2", "table", "caption", "thead", "tr", "th", "tbody",
                "td", "span", "a", "code", "pre", "section", "h3", "strong", "ul", "li", "html",
            ];
            assert!(known.contains(&tag.trim_start_matches('/')), "{hostile:?}: <{tag}>");
        }
        let told: Value = serde_json::from_str(&report.text(Format::Oscal)).unwrap();
        let mut texts = vec![];
        walk(&told, "", &mut texts);
        for (name, text) in texts {
            assert!(!text.contains(['\u{202e}', '\u{200b}', '\u{7}']), "{name}: {text:?}");
            // Values are plain text; in titles and descriptions markup is written as text.
            if matches!(name.as_str(), "title" | "description") {
                assert!(!text.contains("<script") && !text.replace("\\[", "").contains("[click"), "{text:?}");
            }
            if name == "value" {
                assert!(!text.contains('\n') && text.trim() == text && !text.is_empty(), "{text:?}");
            }
        }
    }
}

fn walk(value: &Value, name: &str, texts: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| walk(value, name, texts)),
        Value::Array(items) => items.iter().for_each(|item| walk(item, name, texts)),
        Value::String(text) => texts.push((name.to_owned(), text.clone())),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[test]
fn the_page_needs_nothing_else_and_reads_aloud() {
    let page = Report::of(Framework::NistCsf, sound()).text(Format::Html);
    for forbidden in ["<script", " src=", "@import", "url(", "<iframe", "<link", "onclick"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    for needed in
        ["<html lang=\"en\">", "default-src 'none'", "prefers-color-scheme:dark", "@media print", "<title>", "<main>"]
    {
        assert!(page.contains(needed), "{needed}");
    }
    assert_eq!(page.matches("<h1>").count(), 1);
    assert_eq!(page.matches("<table>").count(), page.matches("<caption>").count());
    // Each cell in a table's head or first column says what it heads.
    assert_eq!(page.matches("<th").count() - page.matches("<thead").count(), page.matches("<th scope=").count());
    // Every link leads to a place on the page.
    for link in page.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(page.contains(&format!("id=\"{link}\"")), "{link}");
    }
    for (open, close) in [("<section ", "</section>"), ("<table>", "</table>"), ("<ul>", "</ul>"), ("<tr>", "</tr>")] {
        assert_eq!(page.matches(open).count(), page.matches(close).count(), "{open}");
    }
}
