//! Role policies from a file to a rule in force: on the command line, in a running bank, and those that are shipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use countersign::kernel::policy::case::{cases, failing};
use countersign::kernel::policy::document::Document;
use countersign::kernel::policy::reading::{self, Format};
use countersign::kernel::policy::role::Policy;
use countersign::kernel::policy::tools::Tools;
use serde_json::{Value, json};

use crate::clients::Bridge;
use crate::crash::until;
use crate::support::world::{PROGRAM, World};

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("certs/policies")
}

fn value(path: &Path) -> Value {
    let name = path.to_str().unwrap();
    reading::value(&std::fs::read_to_string(path).unwrap(), Format::of_name(name).unwrap())
        .unwrap_or_else(|finding| panic!("{name}: {finding}"))
}

#[test]
fn every_shipped_policy_loads_and_its_cases_come_out_as_written() {
    let catalogue: Value = value(&shipped().join("catalogue.json"));
    let roles: Vec<&str> =
        catalogue["roles"].as_array().unwrap().iter().map(|entry| entry["role"].as_str().unwrap()).collect();
    let mut ours = Vec::new();
    let mut found = 0;
    for entry in std::fs::read_dir(shipped()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.contains(".cases.") || name.contains(".tools.") || name == "catalogue.json" {
            continue;
        }
        found += 1;
        let document = Document::of(value(&path)).unwrap_or_else(|finding| panic!("{name}: {finding}"));
        let others = shipped().join(name.replace(".jsonc", ".tools.json"));
        let is_ours = !others.exists() || others == path;
        let tools = if is_ours { Tools::ours() } else { Tools::of(&value(&others)).unwrap() };
        let mut known = roles.iter().copied();
        let examined = Policy::examined(document.clone(), &tools, is_ours.then_some(&mut known));
        assert_eq!(examined.findings, [], "{name}");
        let policy = examined.policy.unwrap();
        let table = ["toml", "yaml", "json"].map(|end| path.with_extension(format!("cases.{end}")));
        let table = table.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("{name} has no cases"));
        let cases = cases(value(&table)).unwrap();
        assert!(cases.len() >= 4, "{name}");
        assert_eq!(failing(&policy, &tools, None, &cases), [], "{name}");
        // What its cases expect, the catalogue that is shipped beside it gives.
        if is_ours {
            for permission in document.roles.iter().flat_map(|role| &role.permissions) {
                let role =
                    catalogue["roles"].as_array().unwrap().iter().find(|it| it["role"] == *document.roles[0].role);
                let tools = role.unwrap()["tools"].as_array().unwrap();
                assert!(tools.contains(&json!(permission.tool_name)), "{name}: {}", permission.tool_name);
            }
            ours.push(document);
        }
    }
    assert_eq!((found, ours.len()), (8, 7), "seed 002's, the six roles of seed 000, and rules about payments");
    assert_eq!(Document::merged(ours).unwrap().roles.len(), roles.len());
}

/// Runs a verb that needs no daemon; answers exit code, what it printed and the name of its failure.
fn alone(words: &[&str]) -> (i32, Value, String) {
    let output = Command::new(PROGRAM).args(["policy", "--json"]).args(words).current_dir(shipped()).output().unwrap();
    let failure: Value = serde_json::from_slice(&output.stderr).unwrap_or_default();
    let name = failure["error"]["name"].as_str().unwrap_or_default().to_owned();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap_or_default(), name)
}

#[test]
fn files_are_checked_tested_explained_and_compared_without_a_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (code, checked, _) = alone(&["check", "market-analyst.jsonc"]);
    assert_eq!((code, &checked["ok"], checked["findings"].as_array().unwrap().len()), (0, &json!(true), 5));
    assert!(checked["findings"].as_array().unwrap().iter().all(|it| it["severity"] == "warning"));
    let (code, checked, _) = alone(&["check", "market-analyst.jsonc", "--tools", "market-analyst.tools.json"]);
    assert_eq!((code, &checked["findings"]), (0, &json!([])));
    let (code, _, name) = alone(&["check", "support-agent.jsonc", "support-agent.jsonc"]);
    assert_eq!((code, name.as_str()), (3, "policy_role_twice"));
    let bad = file(
        "bad.yaml",
        "role: r\npermissions:\n- {tool_name: authorize_transfer, action: invoke, constraints: {amount: {maxium: 5}}}\n",
    );
    let (code, checked, name) = alone(&["check", &bad]);
    assert_eq!((code, name.as_str(), &checked["ok"]), (3, "policy_refused", &json!(false)));
    assert_eq!(checked["findings"][0]["name"], "constraint_keyword_unknown");
    assert_eq!(checked["findings"][0]["place"], "role r, permissions[0] (authorize_transfer), amount");
    for (words, name) in [
        (vec!["check", "nowhere.json"], "document_unreadable"),
        (vec!["check", "../catalogue"], "policy_form_unknown"),
        (vec!["test", bad.as_str()], "policy_refused"),
        (vec!["test", "market-analyst.tools.json"], "policy_member_unknown"),
    ] {
        assert_eq!(alone(&words).2, name, "{words:?}");
    }

    let (code, tested, _) = alone(&["test", "finance-manager.yaml", "operations.toml"]);
    assert_eq!((code, &tested["failed"], tested["cases"].as_u64()), (0, &json!([]), Some(14)));
    let wrong = file("wrong.json", r#"[{"role": "auditor", "tool": "execute_transfer", "expect": "allow"}]"#);
    let (code, tested, name) = alone(&["test", "auditor.yaml", "--cases", &wrong]);
    assert_eq!(
        (code, name.as_str(), tested["failed"][0]["found"]["rule"].as_str()),
        (3, "policy_test_failed", Some("deny_tools"))
    );
    let lonely = file("lonely.json", r#"{"role": "r"}"#);
    assert_eq!(alone(&["test", &lonely]).2, "policy_cases_missing");

    let order = r#"{"amount": "250100", "from_account": "STL_001", "to_account": "STL_002"}"#;
    let asked =
        ["explain", "--role", "operations", "--tool", "authorize_transfer", "--arguments", order, "operations.toml"];
    let (code, explained, _) = alone(&asked);
    assert_eq!((code, &explained["outcome"], &explained["reason"]), (0, &json!("deny"), &json!("constraint_violated")));
    assert_eq!(explained["rule"], "permissions[3].constraints.amount");
    assert_eq!(explained["keyword"], "/maximum");

    let old = file("old.json", r#"{"role": "r", "permissions": [{"tool_name": "list_accounts", "action": "invoke"}]}"#);
    let new = file("new.toml", "role = \"r\"\ndeny_tools = [\"list_accounts\"]\n");
    let (code, differences, _) = alone(&["diff", &old, &new]);
    let kinds: Vec<&Value> = differences["items"].as_array().unwrap().iter().map(|item| &item["change"]).collect();
    assert_eq!((code, kinds), (0, vec![&json!("not-permitted"), &json!("denied")]));
}

#[test]
fn a_payment_is_explained_by_its_role_and_then_by_the_transaction_rules() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let explain = |words: &[&str]| {
        let (code, explained, name) =
            alone(&[&["explain", "--role", "purchaser", "transactions.yaml"], words].concat());
        assert_eq!((code, name.as_str()), (0, ""), "{words:?}");
        explained
    };
    let pay = ["--tool", "authorize_transfer", "--at", "2026-11-23T12:00:00Z"];
    // arguments, outcome, refusal or reasons, rule
    type Row = (&'static [&'static str], &'static str, &'static [&'static str], Option<&'static str>);
    let table: [Row; 8] = [
        (&["--amount", "100"], "allow", &[], None),
        (&["--amount", "1000.01"], "approval", &["above_threshold"], Some("transactions.large")),
        (
            &["--amount", "10", "--at", "2026-11-22T12:00:00Z"],
            "approval",
            &["outside_hours"],
            Some("transactions.office-hours"),
        ),
        (&["--amount", "30000"], "deny", &["above_hard_ceiling"], Some("transactions.large")),
        (&["--amount", "10", "--count", "20"], "deny", &["velocity_exceeded"], Some("transactions.pace")),
        (&["--amount", "10", "--spent", "9990.01"], "approval", &["velocity"], Some("transactions.pace")),
        (&["--amount", "10", "--agent", "novice", "--mandate", "none"], "deny", &["mandate_missing"], None),
        (&["--amount", "10", "--balance", "9"], "deny", &["insufficient_funds"], None),
    ];
    for (words, outcome, names, rule) in table {
        let at = words.contains(&"--at");
        let explained = explain(&[if at { &pay[..2] } else { &pay[..] }, words].concat());
        assert_eq!(
            (&explained["outcome"], explained["rule"].as_str()),
            (&json!(outcome), rule),
            "{words:?}: {explained}"
        );
        let said = match explained["reason"].as_str() {
            Some(reason) => vec![reason],
            None => explained["payment"]["reasons"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect(),
        };
        assert_eq!(said, names, "{words:?}: {explained}");
    }
    let gates = &explain(&[&pay[..], &["--amount", "6000"]].concat())["payment"]["gates"];
    assert_eq!((&gates[0]["gate"], &gates[1]["approvals"]), (&json!("owner"), &json!(2)), "{gates}");

    // What it rests on is said, for programs and for people; what is given is not.
    let explained = explain(&[&pay[..], &["--amount", "100", "--balance", "500"]].concat());
    let on: Vec<&str> =
        explained["payment"]["depends_on"].as_array().unwrap().iter().map(|it| it["what"].as_str().unwrap()).collect();
    for (what, is_named) in
        [("settings", true), ("count and spent", true), ("grant", true), ("balance", false), ("at", false)]
    {
        assert_eq!(on.contains(&what), is_named, "{what}: {on:?}");
    }
    let words = ["policy", "explain", "--role", "purchaser", "transactions.yaml", "--amount", "6000"];
    let output = Command::new(PROGRAM).args(words).args(pay).current_dir(shipped()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    for part in [
        "approval\n",
        "above_threshold (transactions.large)",
        "owner and bank (2 of ",
        "rests on what was not given",
        "spent_today: 0",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    // The role comes first, and without an amount it is all that is asked.
    let roles = file("roles.json", r#"{"role": "purchaser", "deny_tools": ["authorize_transfer"]}"#);
    assert_eq!(explain(&[&pay[..], &["--amount", "30000", &roles]].concat())["rule"], "deny_tools");
    assert!(explain(&pay)["words"].as_str().unwrap().contains("without an amount"));
    let (code, explained, _) =
        alone(&[&["explain", "--role", "purchaser", "transactions.yaml", "--amount", "1e3"], &pay[..]].concat());
    assert_eq!((code, &explained["reason"]), (0, &json!("arguments_invalid")));

    // A case that comes out otherwise is told with all that was expected.
    let (code, tested, _) = alone(&["test", "transactions.yaml"]);
    assert_eq!((code, &tested["failed"], tested["cases"].as_u64()), (0, &json!([]), Some(16)));
    let wrong = file(
        "wrong.yaml",
        "[{role: purchaser, tool: authorize_transfer, amount: '6000', expect: approval, reasons: [above_threshold], gates: [{gate: owner}]}]",
    );
    let (code, tested, name) = alone(&["test", "transactions.yaml", "--cases", &wrong]);
    assert_eq!((code, name.as_str()), (3, "policy_test_failed"));
    assert_eq!(tested["failed"][0]["expected"], "approval, above_threshold, gates owner");
    for bad in ["given: {counts: 3}", "note: x", "expect: perhaps"] {
        let bad = file("bad.cases.yaml", &format!("[{{role: r, tool: authorize_transfer, expect: allow, {bad}}}]"));
        let (code, _, name) = alone(&["test", "transactions.yaml", "--cases", &bad]);
        assert_eq!((code, name.is_empty()), (3, false), "{bad}: {name}");
    }
}

fn call(world: &World, tool: &str, arguments: Value) -> Value {
    let mut bridge = Bridge::start(&world.state("agent"));
    let result = bridge.ask("tools/call", json!({ "name": tool, "arguments": arguments }));
    bridge.close();
    let content = &result["structuredContent"];
    if content["reason"].is_string() { content["reason"].clone() } else { content["status"].clone() }
}

fn tools(world: &World) -> Vec<String> {
    let mut bridge = Bridge::start(&world.state("agent"));
    let result = bridge.ask("tools/list", json!({}));
    bridge.close();
    let names = result["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned());
    names.collect()
}

#[test]
fn a_policy_is_put_in_force_without_a_restart_and_a_bad_one_leaves_the_old_one() {
    let world = World::new();
    let file = |name: &str, text: &str| {
        let path = world.state("bank").join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let run = |words: &[&str]| -> Value {
        let words = [&["--operator", "bank-admin", "--json", "policy"], words].concat();
        serde_json::from_str(&world.run("bank", &words)).unwrap()
    };
    let refused = |words: &[&str]| world.refused("bank", &[&["--operator", "bank-admin", "policy"], words].concat());
    let order = |amount: &str, key: &str| json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": amount, "idempotency_key": key });
    assert_eq!(call(&world, "authorize_transfer", order("1.01", "before")), "approved");
    assert_eq!(refused(&["show"]), (3, "policy_missing".into()));
    assert_eq!(run(&["history"])["items"], json!([]));
    let whole = tools(&world);

    let limited = file(
        "limited.yaml",
        "
        role: purchaser
        permissions:
        - {tool_name: list_accounts, action: invoke}
        - {tool_name: authorize_transfer, action: invoke, constraints: {amount: {maximum: 1}}}
        deny_tools: [execute_transfer]
    ",
    );
    let applied = run(&["apply", &limited]);
    assert_eq!((&applied["version"], &applied["changed"], &applied["nodes"]), (&json!(1), &json!(true), &json!(1)));
    assert!(applied["policy_version"].as_str().unwrap().starts_with("1-"));
    assert_eq!(tools(&world), ["list_accounts", "authorize_transfer"], "{whole:?}");
    assert_eq!(call(&world, "authorize_transfer", order("1.00", "at")), "approved");
    assert_eq!(call(&world, "authorize_transfer", order("1.01", "above")), "constraint_violated");
    assert_eq!(call(&world, "authorize_transfer", order("1.01", "before")), "approved", "an answer stays the same");
    assert_eq!(run(&["apply", &limited])["changed"], false);

    // What is bad leaves it in force, by name.
    let roles = file("roles.json", r#"{"role": "buyer"}"#);
    let unknown = file(
        "unknown.json",
        r#"{"role": "purchaser", "permissions": [{"tool_name": "authorize_transfer", "action": "invoke", "constraints": {"sum": {"maximum": 9}}}]}"#,
    );
    let vacuous = file(
        "vacuous.json",
        r#"{"role": "purchaser", "permissions": [{"tool_name": "authorize_transfer", "action": "invoke", "constraints": {"amount": {"pattern": "^9$"}}}]}"#,
    );
    let seed = shipped().join("market-analyst.jsonc").to_str().unwrap().to_owned();
    for bad in [&roles, &unknown, &vacuous, &seed] {
        assert_eq!(refused(&["apply", bad]), (3, "policy_refused".into()), "{bad}");
    }
    let empty = file("empty.json", "{}");
    assert_eq!(refused(&["apply", &empty]), (3, "policy_empty".into()));
    let officer = world.refused("bank", &["--operator", "bank-officer", "policy", "apply", &limited]);
    assert_eq!(officer, (3, "operator_not_permitted".into()));
    assert_eq!(call(&world, "authorize_transfer", order("1.01", "above2")), "constraint_violated");

    let wider = file("wider.toml", "
        [[roles]]
        role = \"purchaser\"
        permissions = [{ tool_name = \"authorize_transfer\", action = \"invoke\", constraints = { amount = { maximum = 2 } } }]
        [[transactions]]
        name = \"dollars\"
        currencies = [\"USD\"]
    ");
    let changes = run(&["diff", &wider]);
    let kinds: Vec<&Value> = changes["items"].as_array().unwrap().iter().map(|item| &item["change"]).collect();
    assert_eq!(kinds, ["constraints", "not-denied", "not-permitted", "rule-added"]);
    assert_eq!(refused(&["apply", &wider, "--expect", "0"]), (3, "policy_changed_meanwhile".into()));
    assert_eq!(run(&["apply", &wider, "--expect", "1"])["version"], 2);
    assert_eq!(call(&world, "authorize_transfer", order("1.01", "after")), "approved");
    assert_eq!(
        call(
            &world,
            "execute_transfer",
            json!({ "transaction_id": "txn_01JD0000000000000000000000",
        "to_account": "SAV_001", "amount": "1.01" })
        ),
        "tool_denied"
    );
    let explained = run(&["explain", "--role", "purchaser", "--tool", "list_accounts"]);
    assert_eq!(explained["reason"], "tool_denied");

    // Of the one in force with this bank's settings, and what the bank then says is the same.
    let purchaser = ["explain", "--role", "purchaser", "--tool", "authorize_transfer", "--agent", "assistant"];
    for (amount, currency, outcome) in [("1.01", "USD", "allow"), ("2.01", "USD", "deny"), ("1.01", "EUR", "deny")] {
        let arguments = json!({ "currency": currency }).to_string();
        let payment = ["--payee", "SAV_001", "--account", "CHK_001", "--amount", amount, "--arguments", &arguments];
        let explained = run(&[&purchaser[..], &payment[..]].concat());
        assert_eq!(explained["outcome"], outcome, "{explained}");
        let on = explained["payment"]["depends_on"].to_string();
        assert!(!on.contains("settings"), "{on}");
        let mut order = order(amount, &format!("as-explained-{amount}-{currency}"));
        order["currency"] = json!(currency);
        let decided = call(&world, "authorize_transfer", order);
        let expected = if outcome == "allow" { json!("approved") } else { explained["reason"].clone() };
        // The rules that a policy has are asked before the account's own currency where both say no.
        assert!(decided == expected || (currency == "EUR" && decided == "currency_mismatch"), "{decided} {expected}");
    }

    // A restart changes nothing, and what `show` prints goes back.
    world.run("bank", &["stop"]);
    world.serve("bank");
    assert_eq!(call(&world, "authorize_transfer", order("2.01", "again")), "constraint_violated");
    let earlier = file("earlier.json", &world.run("bank", &["--operator", "bank-admin", "policy", "show", "1"]));
    assert_eq!(run(&["apply", &earlier])["version"], 3);
    let history = run(&["history"]);
    let items = history["items"].as_array().unwrap();
    assert_eq!(items.iter().map(|item| &item["version"]).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!((&items[0]["sha256"], &items[0]["by"]), (&items[2]["sha256"], &json!("bank-admin")));
    assert_eq!(tools(&world), ["list_accounts", "authorize_transfer"]);
}

/// A newer daemon of the bank may put in force what this one cannot read: it decides nothing by what was replaced.
#[test]
fn a_policy_that_cannot_be_read_stops_what_agents_ask_until_it_can() {
    let world = World::new();
    let bank = world.state("bank");
    let limited = bank.join("limited.yaml");
    let text = "
        role: purchaser
        permissions:
        - {tool_name: list_accounts, action: invoke}
        - {tool_name: authorize_transfer, action: invoke}
        - {tool_name: execute_transfer, action: invoke}
    ";
    std::fs::write(&limited, text).unwrap();
    let limited = limited.to_str().unwrap();
    let run = |operator: &str, words: &[&str]| -> Value {
        serde_json::from_str(&world.run("bank", &[&["--operator", operator, "--json"], words].concat())).unwrap()
    };
    let order = |key: &str| json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": "1.00", "idempotency_key": key });
    assert_eq!(run("bank-admin", &["policy", "apply", limited])["version"], 1);
    assert_eq!(call(&world, "authorize_transfer", order("before")), "approved");

    // As another node of the bank would have put it in force.
    let store = rusqlite::Connection::open(bank.join("store/store.sqlite3")).unwrap();
    let put = |version: i64, document: &str| {
        let sha256 = countersign::kernel::types::Sha256::of(&[document.as_bytes()]);
        let sql = "INSERT OR REPLACE INTO policies (version, sha256, roles, by, at, document)
                   SELECT ?1, ?2, roles, by, at, ?3 FROM policies WHERE version = 1";
        store.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        assert_eq!(store.execute(sql, rusqlite::params![version, &sha256.0[..], document]).unwrap(), 1);
    };
    put(2, r#"{"of_the_future":{"roles":[]}}"#);
    until("it is seen", || (run("auditor", &["status"])["policy_unreadable"] == 2).then_some(()));
    assert_eq!(call(&world, "authorize_transfer", order("after")), "policy_unreadable");
    let mut bridge = Bridge::start(&world.state("agent"));
    let read = bridge.ask("tools/call", json!({ "name": "list_accounts", "arguments": {} }));
    bridge.close();
    assert!(read["isError"] == true && read.to_string().contains("policy_unreadable"), "{read}");
    assert_eq!(call(&world, "authorize_transfer", order("before")), "approved", "an answer stays the same");
    // Doctor ends with exit code 1 then.
    let output = world.output("bank", &["--operator", "auditor", "--json", "doctor"]);
    let doctor: Value = serde_json::from_slice(&output.stdout).unwrap();
    let check = doctor["items"].as_array().unwrap().iter().find(|item| item["check"] == "role policy").unwrap();
    assert_eq!((output.status.code(), &check["result"]), (Some(1), &json!("fail")), "{check}");
    assert!(check["detail"].as_str().unwrap().contains("policy_unreadable: version 2"), "{check}");

    // It can be read as soon as it is whole, without anybody telling this daemon; and another one replaces it.
    let document: String =
        store.query_row("SELECT document FROM policies WHERE version = 1", [], |row| row.get(0)).unwrap();
    put(2, &document);
    until("it is read", || run("auditor", &["status"])["policy_unreadable"].is_null().then_some(()));
    assert_eq!(call(&world, "authorize_transfer", order("mended")), "approved");
    put(3, "[]");
    until("it is seen", || (run("auditor", &["status"])["policy_unreadable"] == 3).then_some(()));
    assert_eq!(call(&world, "authorize_transfer", order("again")), "policy_unreadable");
    assert_eq!(run("bank-admin", &["policy", "apply", limited])["version"], 4);
    assert_eq!(call(&world, "authorize_transfer", order("again")), "approved");
}
