//! What docs/ENROLMENT.md tells people to do by hand, run from the page: two organisations from nothing to a balance; and
//! two people at one of them.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

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

/// A user and a group of nobody's.
const OTHER_UID: u32 = 61_234;
const GROUP: u32 = 61_235;

/// A bank of its own in a directory that others may pass through, and its people.
struct TwoPeople(tempfile::TempDir);

impl TwoPeople {
    fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.current_dir("/").arg("--json").arg("--state").arg(self.0.path().join("bank"));
        command
    }

    fn said(command: &mut Command) -> Value {
        let output = command.output().unwrap();
        let text = if output.status.success() { output.stdout } else { output.stderr };
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&text)))
    }

    fn first(&self, arguments: &[&str]) -> Value {
        Self::said(self.command().args(arguments))
    }

    fn second(&self, gid: u32, arguments: &[&str]) -> Value {
        Self::said(self.command().args(arguments).uid(OTHER_UID).gid(gid))
    }

    /// The doctor's result about one thing.
    fn doctor(&self, check: &str) -> Value {
        let output = self.command().arg("doctor").output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let item = report["items"].as_array().unwrap().iter().find(|item| item["check"] == check).cloned();
        item.map(|item| item["result"].clone()).unwrap_or_default()
    }

    fn set_mode(&self, path: &str, mode: u32) {
        let path = self.0.path().join(path);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn two_people_with_user_ids_of_their_own_do_what_takes_two_and_others_stay_out() {
    let can_run = || Command::new(PROGRAM).arg("--version").current_dir("/").uid(OTHER_UID).gid(GROUP).output();
    if !rustix::process::geteuid().is_root() || !can_run().is_ok_and(|output| output.status.success()) {
        println!("skipped: only root may act as a second user, who must be able to run the program");
        return;
    }
    let people = TwoPeople(tempfile::tempdir().unwrap());
    people.set_mode("", 0o711);
    let init = ["init", "--kind", "bank", "--port", "0", "--pki-port", "0"];
    assert_eq!(people.first(&init)["party"], "bank");
    let config = people.0.path().join("bank/countersign.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let second = format!("[[operator]]\nname = \"paul\"\nuid = {OTHER_UID}\nroles = [\"officer\"]\n");
    std::fs::write(&config, format!("{text}\n[admin]\ngroup = \"{GROUP}\"\n\n{second}")).unwrap();

    let mut daemon = people.command().arg("serve").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(daemon.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("\"ready\":true"), "{line}");

    assert_eq!(people.first(&["freeze", "--all", "--reason", "an incident"])["effective"], true);
    assert_eq!(people.first(&["unfreeze", "--all", "--note", "over"])["lifted"], false);
    let outside = people.second(OTHER_UID, &["unfreeze", "--all", "--note", "over"]);
    assert_eq!(outside["error"]["name"], "socket_forbidden");
    assert_eq!(people.second(GROUP, &["freeze", "--list"])["items"][0]["thaw_asked_by"], "operator");
    // An officer, and no administrator: the user id decides, as ever.
    let role = people.second(GROUP, &["key", "rotate", "transaction"]);
    assert_eq!(role["error"]["name"], "operator_not_permitted", "{role}");
    assert_eq!(people.second(GROUP, &["unfreeze", "--all", "--note", "seen"])["lifted"], true);
    // Nothing else is theirs to read.
    for inside in ["countersign.toml", "run", "store", "pins/bank.pin", "run/ports.json"] {
        let read =
            Command::new("cat").arg(people.0.path().join("bank").join(inside)).uid(OTHER_UID).gid(GROUP).output();
        assert!(inside == "run/ports.json" || !read.unwrap().status.success(), "{inside}");
    }

    let gates = ["state directory", "inner directories", "admin socket"];
    assert_eq!(gates.map(|check| people.doctor(check)), ["ok", "ok", "ok"]);
    for (path, mode, found) in [
        ("bank/run", 0o750, ["ok", "fail", "fail"]),
        ("bank", 0o750, ["fail", "ok", "fail"]),
        ("bank/run/admin.sock", 0o666, ["ok", "ok", "fail"]),
        ("bank/store", 0o710, ["ok", "fail", "ok"]),
    ] {
        let before = std::fs::metadata(people.0.path().join(path)).unwrap().permissions().mode();
        people.set_mode(path, mode);
        assert_eq!(gates.map(|check| people.doctor(check)), found, "{path} {mode:o}");
        people.set_mode(path, before & 0o7777);
    }
    people.first(&["stop"]);
    assert!(daemon.wait().unwrap().success());
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
