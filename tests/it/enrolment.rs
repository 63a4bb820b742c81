//! What docs/ENROLMENT.md tells people to do by hand, run from the page: two organisations from nothing to a balance.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::world::PROGRAM;

/// The ports that the page names.
const PORTS: [&str; 5] = ["8443", "8444", "8080", "9444", "9080"];

/// Ends what the page started, wherever it stopped.
const ENDING: &str = "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n";

/// The page's commands as one script, on ports that are free here.
fn script() -> String {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ENROLMENT.md")).unwrap();
    let mut lines = page.lines();
    let mut script = ENDING.to_owned();
    while let Some(line) = lines.next() {
        if line == "```sh" {
            lines.by_ref().take_while(|line| *line != "```").for_each(|line| script.push_str(&format!("{line}\n")));
        }
    }
    let listeners = PORTS.map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    for (port, listener) in PORTS.iter().zip(&listeners) {
        assert!(script.contains(port), "{port}");
        script = script.replace(port, &listener.local_addr().unwrap().port().to_string());
    }
    script
}

#[test]
fn the_page_leads_two_organisations_from_nothing_to_the_first_balance() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: openssl is not installed");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let beside = Path::new(PROGRAM).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(beside.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script()])
        .current_dir(directory.path())
        .env("PATH", path.unwrap())
        .output()
        .unwrap();
    let [said, complained] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{said}\n{complained}");
    for expected in [
        "role catalogue version 1 against none: every role in it is new",
        "agents can be served",
        "next: countersign cert approve shopper --role purchaser --key",
        "its certificate S is written to hand/S.pem",
        "\"accepted\":true",
        "\"balance\":\"5247.83\"",
        "was not due yet: its certificates stay",
        "the approval of carol for spiffe://countersign.example/agent/purchaser/shopper is withdrawn",
        "removed agent-host with host key",
        "reason: key-compromise (code 1)",
        "revoked agent spiffe://countersign.example/agent/purchaser/shopper",
    ] {
        assert!(said.contains(expected), "missing {expected:?} in\n{said}\n{complained}");
    }
    assert!(complained.contains("endorsement_pending"), "{complained}");
}

#[test]
fn slips_of_the_hand_are_named_before_anything_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let tools = r#"["list_accounts", "get_account_balnce"]"#;
    let roles = format!(r#"[{{"role": "purchaser", "tools": {tools}}}]"#);
    write("typo.json", &format!(r#"{{"schema": "countersign/role-catalogue/v1", "version": 1, "roles": {roles}}}"#));
    let pair = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verifying/pair.pem");
    let pair = std::fs::read_to_string(pair).unwrap();
    let halves: Vec<&str> = pair.split_inclusive("-----END CERTIFICATE-----\n").collect();
    write("B.pem", halves[0]);
    write("S.pem", halves[1]);
    let table: [(&[&str], &str); 5] = [
        (&["stop"], "config_missing"),
        (&["status", "surplus"], "command_line_invalid"),
        (&["catalogue", "sign", "typo.json", "--out", "half.json"], "catalogue_tool_unknown"),
        (&["cert", "install", "shopper", "--bank", "S.pem", "--endorsement", "B.pem"], "certificates_swapped"),
        (&["init", "--kind", "agent-host", "--peer-listen", "127.0.0.1:1"], "option_not_for_kind"),
    ];
    for (arguments, name) in table {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).args(["--state", "mistyped", "--json"]).current_dir(directory.path());
        let output = command.output().unwrap();
        let said: Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!((said["error"]["name"].as_str(), output.status.code()), (Some(name), Some(2)), "{arguments:?}");
    }
    assert!(!directory.path().join("half.json").exists());
}
