//! What the bank's people type, against a real daemon: every verb, and every name of no that it can answer.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::clients::Bridge;
use crate::support::world::{PROGRAM, World};

const UNKNOWN_TRANSACTION: &str = "txn_01JD0000000000000000000000";
const UNKNOWN_CASE: &str = "case_01JD0000000000000000000000";

#[test]
fn the_banks_people_do_their_work_and_are_refused_by_name() {
    let world = World::new();
    let desk = Desk(&world);
    accounts_are_opened_shown_frozen_and_closed(&desk);
    statements_add_up_in_every_form(&desk);
    payments_are_listed_shown_and_reversed(&desk);
    a_stopped_bank_queues_what_agents_ask(&desk);
    the_book_adds_up_and_says_so(&desk);
    a_misspelt_operator_is_told_who_there_is(&desk);
    a_store_is_migrated_only_while_its_daemon_is_down(&desk);
}

/// The bank's state directory, and its people.
struct Desk<'w>(&'w World);

impl Desk<'_> {
    fn say(&self, operator: &str, words: &[&str]) -> String {
        self.0.run("bank", &[&["--operator", operator], words].concat())
    }

    fn ask(&self, operator: &str, words: &[&str]) -> Value {
        serde_json::from_str(&self.0.run("bank", &[&["--json", "--operator", operator], words].concat())).unwrap()
    }

    /// Rows of operator, words, exit code and name.
    fn refuses(&self, table: &[(&str, &[&str], i32, &str)]) {
        for (operator, words, code, name) in table {
            let refused = self.0.refused("bank", &[&["--operator", operator], *words].concat());
            assert_eq!(refused, (*code, (*name).to_owned()), "{operator}: {words:?}");
        }
    }
}

fn minor(decimal: &Value) -> i64 {
    decimal.as_str().unwrap().replace('.', "").parse().unwrap()
}

fn items(answer: &Value) -> &Vec<Value> {
    answer["items"].as_array().unwrap()
}

/// Every row of a list, a page at a time, by the member that names it.
fn pages(desk: &Desk<'_>, words: &[&str], member: &str, limit: usize) -> Vec<String> {
    let limit_word = limit.to_string();
    let (mut seen, mut after) = (vec![], None::<String>);
    loop {
        let mut asked = [words, &["--limit", &limit_word]].concat();
        asked.extend(after.iter().flat_map(|after| ["--after", after.as_str()]));
        let page = desk.ask("auditor", &asked);
        seen.extend(items(&page).iter().map(|row| row[member].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { return seen };
        assert_eq!(items(&page).len(), limit);
        after = Some(next.to_owned());
    }
}

fn accounts_are_opened_shown_frozen_and_closed(desk: &Desk<'_>) {
    let open = ["account", "open", "CHK_900", "--owner", "OWN_900", "--currency", "EUR", "--opening", "100"];
    let terms = ["--overdraft", "50", "--day-max", "80.00", "--time-zone", "Pacific/Auckland"];
    let opened = [&open[..], &terms].concat();
    assert_eq!(desk.ask("bank-admin", &opened)["changed"], true);
    assert_eq!(desk.ask("bank-admin", &opened)["changed"], false);

    let shown = desk.ask("auditor", &["account", "show", "CHK_900"]);
    let terms = (&shown["available"], &shown["overdraft"], &shown["day_max"], &shown["time_zone"]);
    assert_eq!(terms, (&json!("150.00"), &json!("50.00"), &json!("80.00"), &json!("Pacific/Auckland")));
    assert_eq!((&shown["counted_today"], &shown["holds"], &shown["grants"]), (&json!("0.00"), &json!([]), &json!([])));
    // In the account's own currency, which is euro, as nobody says another one.
    let charge = ["account", "charge", "CHK_900", "--amount", "2.50", "--reference", "FEE-1"];
    assert_eq!(desk.ask("bank-officer", &charge)["receipt"], "signed");
    assert_eq!(desk.ask("bank-officer", &charge)["changed"], false);
    let shown = desk.say("auditor", &["account", "show", "CHK_900"]);
    for part in ["balance 97.50 EUR", "overdraft 50.00", "at most 80.00 a day", "; 2.50 on 20"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let granted = desk.say("auditor", &["account", "show", "CHK_001"]);
    assert!(granted.contains("agent/purchaser/assistant may read,purchase,transfer,reverse"), "{granted}");
    assert!(desk.say("auditor", &["account", "list"]).contains("fees:EUR"));

    let because = ["--reason", "owner called"];
    let status = |verb: &'static str, account: &'static str| [&["account", verb, account][..], &because].concat();
    let frozen = desk.ask("bank-officer", &status("freeze", "CHK_900"));
    assert_eq!((&frozen["status"], &frozen["changed"]), (&json!("frozen"), &json!(true)));
    let pay = |account: &'static str| {
        vec!["account", "incoming", account, "--amount", "1", "--currency", "EUR", "--reference", "R-FROZEN"]
    };
    let charge = |account: &'static str, amount: &'static str, reference: &'static str| {
        vec!["account", "charge", account, "--currency", "EUR", "--amount", amount, "--reference", reference]
    };
    desk.refuses(&[
        ("auditor", &opened, 3, "operator_not_permitted"),
        ("bank-officer", &opened, 3, "operator_not_permitted"),
        ("bank-admin", &[&open[..], &["--time-zone", "UTC"]].concat(), 3, "already_exists"),
        ("auditor", &["account", "show", "NONE"], 3, "unknown_account"),
        ("auditor", &["account", "statement", "NONE"], 3, "unknown_account"),
        (
            "auditor",
            &["account", "statement", "CHK_900", "--from", "2026-12-01", "--to", "2026-11-01"],
            2,
            "period_invalid",
        ),
        ("alice", &status("freeze", "CHK_001"), 3, "operator_not_permitted"),
        ("auditor", &status("freeze", "CHK_001"), 3, "operator_not_permitted"),
        ("bank-officer", &status("freeze", "NONE"), 3, "unknown_account"),
        ("bank-officer", &["account", "freeze", "CHK_001", "--reason", " "], 2, "reason_invalid"),
        ("bank-officer", &["account", "freeze", "CHK_001", "--reason", "a\u{1b}[2Jb"], 2, "reason_invalid"),
        // Nobody thaws what they froze.
        ("bank-officer", &status("thaw", "CHK_900"), 3, "maker_is_checker"),
        ("auditor", &status("thaw", "CHK_900"), 3, "operator_not_permitted"),
        ("bank-officer", &status("close", "CHK_900"), 3, "account_not_empty"),
        ("bank-officer", &pay("CHK_900"), 3, "account_not_active"),
        ("bank-officer", &pay("NONE"), 3, "unknown_account"),
        ("bank-officer", &charge("CHK_900", "1", "F-2"), 3, "account_not_active"),
    ]);
    assert_eq!(desk.ask("bank-officer", &status("freeze", "CHK_900"))["changed"], false);
    assert_eq!(desk.ask("bank-admin", &status("thaw", "CHK_900"))["status"], "active");
    desk.refuses(&[
        ("alice", &charge("CHK_900", "1", "F-2"), 3, "operator_not_permitted"),
        ("bank-officer", &charge("CHK_900", "2.51", "FEE-1"), 3, "idempotency_key_reused"),
        ("bank-officer", &charge("CHK_900", "77.51", "F-2"), 3, "account_day_limit_exceeded"),
        ("bank-officer", &charge("CHK_001", "1", "F-2"), 3, "currency_mismatch"),
        (
            "bank-officer",
            &["account", "incoming", "CHK_900", "--amount", "1", "--currency", "USD", "--reference", "R-OTHER"],
            3,
            "currency_mismatch",
        ),
        ("bank-officer", &charge("NONE", "1", "F-2"), 3, "unknown_account"),
        ("bank-officer", &charge("CHK_900", "0", "F-2"), 2, "amount_malformed"),
        ("bank-officer", &charge("CHK_900", "1.005", "F-2"), 2, "amount_malformed"),
    ]);
    desk.ask("bank-admin", &["account", "open", "CHK_901", "--owner", "OWN_900"]);
    assert_eq!(desk.ask("bank-officer", &status("close", "CHK_901"))["status"], "closed");
    desk.refuses(&[
        ("bank-admin", &status("thaw", "CHK_901"), 3, "account_not_active"),
        ("bank-officer", &charge("CHK_901", "1", "F-3"), 3, "currency_mismatch"),
    ]);
}

fn statements_add_up_in_every_form(desk: &Desk<'_>) {
    desk.ask("bank-admin", &["account", "open", "CHK_902", "--owner", "OWN_901"]);
    for (number, amount) in ["1000.00", "0.01", "20.50"].iter().enumerate() {
        let reference = format!("STATEMENT-{number}");
        desk.ask("bank-officer", &["account", "incoming", "CHK_902", "--amount", amount, "--reference", &reference]);
    }
    desk.ask("bank-officer", &["account", "charge", "CHK_902", "--amount", "20.51", "--reference", "FEE-902"]);
    let statement = desk.ask("auditor", &["account", "statement", "CHK_902"]);
    assert_eq!((&statement["opening_balance"], &statement["closing_balance"]), (&json!("0.00"), &json!("1000.00")));
    assert_eq!(statement["next"], Value::Null);
    let mut balance = minor(&statement["opening_balance"]);
    for line in items(&statement) {
        balance += minor(&line["amount"]);
        assert_eq!(balance, minor(&line["balance"]), "{line}");
    }
    assert_eq!((balance, items(&statement).len()), (minor(&statement["closing_balance"]), 4));
    assert_eq!(items(&statement)[3]["counterparty"], "fees:USD");

    // A person's form, and the same from Python's own reader of CSV.
    let table = desk.say("auditor", &["account", "statement", "CHK_902"]);
    assert!(table.starts_with("CHK_902 of OWN_901, USD, from the beginning to today, days of UTC\n"), "{table}");
    for part in ["opening balance 0.00\n", "\nclosing balance 1000.00\n", "-20.51", "clearing:USD"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let csv = desk.say("auditor", &["account", "statement", "CHK_902", "--format", "csv"]);
    assert!(csv.ends_with("\r\n") && csv.lines().count() == 5);
    let read = python("import csv, json, sys\nprint(json.dumps(list(csv.DictReader(open(0, newline='')))))", &csv);
    let rows: Vec<BTreeMap<String, String>> = serde_json::from_str(&read).unwrap();
    for (row, line) in rows.iter().zip(items(&statement)) {
        for member in
            ["date", "posted_at", "transaction_id", "kind", "counterparty", "description", "amount", "balance"]
        {
            assert_eq!(row[member], line[member].as_str().unwrap(), "{row:?}");
        }
        assert_eq!(row["currency"], "USD");
    }
    assert_eq!(rows.len(), 4);

    // Days are the account's own: what was posted just now is on the day that it is there.
    let today = |account: &str| items(&desk.ask("auditor", &["account", "statement", account]))[0]["date"].clone();
    let day = today("CHK_900");
    let day = day.as_str().unwrap();
    let of_day = desk.ask("auditor", &["account", "statement", "CHK_900", "--from", day, "--to", day]);
    assert_eq!((&of_day["from"], items(&of_day).is_empty()), (&json!(day), false));
    let before = desk.ask("auditor", &["account", "statement", "CHK_900", "--to", "2020-01-01"]);
    assert_eq!((&before["closing_balance"], items(&before).len()), (&json!("0.00"), 0));
    let after = desk.ask("auditor", &["account", "statement", "CHK_900", "--from", "2999-01-01"]);
    assert_eq!((&after["opening_balance"], &after["closing_balance"]), (&json!("97.50"), &json!("97.50")));
}

fn python(program: &str, input: &str) -> String {
    let mut child = Command::new("python3")
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed (package python3)");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn payments_are_listed_shown_and_reversed(desk: &Desk<'_>) {
    let mut agent = Bridge::start(&desk.0.state("agent"));
    let sleeve = json!({
        "product_id": "B07SLEEVE1", "price": "24.90", "merchant": "amazon.com", "idempotency_key": "desk-1",
    });
    let authorized = call(&mut agent, "authorize_purchase", sleeve);
    let bought = authorized["transaction_id"].as_str().unwrap().to_owned();
    let held = desk.ask("auditor", &["transaction", "show", &bought]);
    assert_eq!((&held["status"], &held["held"], &held["posted"]), (&json!("approved"), &json!("24.90"), &Value::Null));
    let shown = desk.ask("auditor", &["account", "show", "CHK_001"]);
    assert!(items(&json!({ "items": shown["holds"] })).iter().any(|hold| hold["transaction_id"] == bought), "{shown}");
    let execution = json!({ "transaction_id": bought, "product_id": "B07SLEEVE1" });
    assert_eq!(call(&mut agent, "execute_purchase", execution)["status"], "executed");
    agent.close();

    let listed = desk.ask("auditor", &["transaction", "list", "--limit", "1"]);
    assert_eq!((items(&listed).len(), &items(&listed)[0]["transaction_id"]), (1, &json!(bought)));
    assert_eq!(listed["next"], json!(bought), "it goes on");
    assert_eq!(pages(desk, &["transaction", "list"], "transaction_id", 3).len(), {
        let all = desk.ask("auditor", &["transaction", "list", "--limit", "1000"]);
        assert_eq!(all["next"], Value::Null);
        items(&all).len()
    });
    let said = desk.say("auditor", &["transaction", "list", "--limit", "1"]);
    assert!(
        said.ends_with(&format!("There are more: countersign transaction list --limit 1 --after {bought}\n")),
        "{said}"
    );
    let filters = ["--account", "CHK_001", "--agent", "assistant", "--status", "executed"];
    let listed = desk.ask("auditor", &[&["transaction", "list"], &filters[..]].concat());
    assert!(!items(&listed).is_empty());
    for row in items(&listed) {
        assert_eq!(
            (&row["status"], row["agent"].as_str().unwrap().ends_with("/assistant")),
            (&json!("executed"), true)
        );
    }
    let none = desk.ask("auditor", &["transaction", "list", "--status", "core_refused"]);
    assert!(items(&none).is_empty());

    let shown = desk.ask("auditor", &["transaction", "show", &bought]);
    assert_eq!((&shown["receipt"], &shown["held"], &shown["fee"]), (&json!("signed"), &Value::Null, &json!("0.00")));
    assert_eq!(shown["statement"]["transaction_id"], json!(bought));
    assert_eq!(shown["statement"]["amount_minor"], "2490");
    assert!(shown["batch"].is_i64() && shown["index_in_batch"].is_u64() && shown["policy_version"].is_string());
    let said = desk.say("auditor", &["transaction", "show", &bought]);
    for part in ["purchase executed", "amount       24.90 USD", "signature    signed", "\"amount_minor\":\"2490\""] {
        assert!(said.contains(part), "{part}: {said}");
    }

    let reverse = |amount: &'static str, key: &'static str| {
        vec!["transaction", "reverse", &bought, "--amount", amount, "--key", key]
    };
    let asked = desk.ask("bank-officer", &reverse("10.00", "REFUND-1"));
    assert_eq!(asked["status"], "requires_approval");
    assert_eq!(desk.ask("bank-officer", &reverse("10.00", "REFUND-1"))["approval_id"], asked["approval_id"]);
    let approval = asked["approval_id"].as_str().unwrap();
    let waiting = desk.say("auditor", &["approvals", "list"]);
    let line = waiting.lines().find(|line| line.contains(approval)).unwrap();
    assert!(waiting.contains("ASKED BY") && line.contains("bank-officer"), "{line}");
    let opening = items(&desk.ask("auditor", &["transaction", "list", "--account", "CHK_900"]))
        .iter()
        .find(|row| row["kind"] == "opening")
        .unwrap()["transaction_id"]
        .as_str()
        .unwrap()
        .to_owned();
    desk.refuses(&[
        ("auditor", &reverse("1.00", "REFUND-2"), 3, "operator_not_permitted"),
        ("bank-admin", &reverse("1.00", "REFUND-2"), 3, "operator_not_permitted"),
        ("bank-officer", &reverse("11.00", "REFUND-1"), 3, "idempotency_key_reused"),
        ("bank-officer", &reverse("14.91", "REFUND-2"), 3, "reversal_exceeds_original"),
        ("bank-officer", &reverse("ten", "REFUND-2"), 2, "amount_malformed"),
        ("bank-officer", &["transaction", "reverse", UNKNOWN_TRANSACTION, "--key", "R"], 3, "unknown_transaction"),
        ("auditor", &["transaction", "reverse", UNKNOWN_TRANSACTION, "--key", "R"], 3, "operator_not_permitted"),
        ("bank-officer", &["transaction", "reverse", &opening, "--key", "R"], 3, "not_reversible"),
        ("auditor", &["transaction", "show", UNKNOWN_TRANSACTION], 3, "unknown_transaction"),
        ("auditor", &["transaction", "list", "--agent", "nobody"], 3, "unknown_agent"),
        ("auditor", &["transaction", "list", "--account", "NONE"], 3, "unknown_account"),
        ("auditor", &["transaction", "list", "--after", UNKNOWN_TRANSACTION], 3, "unknown_transaction"),
        ("bank-officer", &["approvals", "approve", approval], 3, "operator_not_permitted"),
    ]);
    assert_eq!(desk.ask("alice", &["approvals", "approve", approval, "--note", "checked"])["status"], "executed");
    assert_eq!(desk.ask("bank-officer", &reverse("10.00", "REFUND-1"))["transaction_id"], asked["transaction_id"]);
    let shown = desk.ask("auditor", &["transaction", "show", &bought]);
    assert_eq!(shown["reversals"][0]["transaction_id"], asked["transaction_id"]);
    let reversal = desk.ask("auditor", &["transaction", "show", asked["transaction_id"].as_str().unwrap()]);
    assert_eq!(reversal["original_transaction_id"], json!(bought));
    assert_eq!((&reversal["approval"]["decided_by"], &reversal["maker"]), (&json!("alice"), &json!("bank-officer")));
    desk.refuses(&[
        ("bank-officer", &reverse("14.91", "REFUND-3"), 3, "reversal_exceeds_original"),
        (
            "bank-officer",
            &["transaction", "reverse", asked["transaction_id"].as_str().unwrap(), "--key", "R"],
            3,
            "not_reversible",
        ),
    ]);
}

fn call(agent: &mut Bridge, tool: &str, arguments: Value) -> Value {
    agent.ask("tools/call", json!({ "name": tool, "arguments": arguments }))["structuredContent"].clone()
}

fn a_stopped_bank_queues_what_agents_ask(desk: &Desk<'_>) {
    let stop = ["bank", "stop", "--reason", "drill", "--yes"];
    desk.refuses(&[
        // Nobody is there to type the word.
        ("bank-officer", &stop[..4], 2, "not_confirmed"),
        ("bank-officer", &["bank", "resume"], 2, "not_confirmed"),
        ("auditor", &stop, 3, "operator_not_permitted"),
        ("alice", &stop, 3, "operator_not_permitted"),
        ("bank-officer", &["bank", "stop", "--reason", "", "--yes"], 2, "reason_invalid"),
    ]);
    let transfer = |amount: &str, key: &str| json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": amount, "idempotency_key": key });
    let mut agent = Bridge::start(&desk.0.state("agent"));
    let held = call(&mut agent, "authorize_transfer", transfer("3.00", "desk-held"));
    let execute = json!({
        "transaction_id": held["transaction_id"], "from_account": "CHK_001", "to_account": "SAV_001", "amount": "3.00",
    });
    let stopped = desk.ask("bank-officer", &stop);
    assert_eq!((&stopped["stopped"], &stopped["changed"]), (&json!(true), &json!(true)));
    assert_eq!(desk.ask("bank-admin", &stop)["changed"], false);

    let first = call(&mut agent, "authorize_transfer", transfer("1.00", "desk-first"));
    let second = call(&mut agent, "authorize_transfer", transfer("2.00", "desk-second"));
    let third = call(&mut agent, "execute_transfer", execute.clone());
    for answer in [&first, &second, &third] {
        assert_eq!(answer["status"], "queued_manual", "{answer}");
    }
    let case = |answer: &Value| answer["case_id"].as_str().unwrap().to_owned();
    let (first, second, third) = (case(&first), case(&second), case(&third));

    let said = desk.say("auditor", &["bank", "status"]);
    for part in ["payments are stopped by bank-officer since ", ": drill; 3 cases wait", "0 orders"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let status = desk.ask("auditor", &["status"]);
    let payments = &status["payments"];
    assert_eq!((&payments["stopped"], &payments["cases_waiting"]), (&json!(true), &json!(3)));
    assert_eq!((&payments["reason"], &payments["orders_waiting"]), (&json!("drill"), &json!(0)));
    let doctor = desk.ask("auditor", &["doctor"]);
    let check = items(&doctor).iter().find(|item| item["check"] == "payments").unwrap();
    assert_eq!(check["result"], "warn");
    assert!(check["detail"].as_str().unwrap().contains("drill"), "{check}");

    let listed = desk.ask("auditor", &["manual", "list"]);
    assert_eq!(items(&listed).iter().filter(|case| case["status"] == "queued").count(), 3);
    assert_eq!(listed["next"], Value::Null);
    assert_eq!(pages(desk, &["manual", "list"], "case_id", 2).len(), items(&listed).len());
    let said = desk.say("auditor", &["manual", "list", "--limit", "1"]);
    assert!(said.contains("There are more: countersign manual list --limit 1 --after queued:case_"), "{said}");
    let shown = desk.ask("auditor", &["manual", "show", &third]);
    assert_eq!(shown["transaction_id"], held["transaction_id"]);
    let said = desk.say("auditor", &["manual", "show", &first]);
    assert!(said.contains("desk-first") && said.contains("drill"), "{said}");
    let waiting = desk.ask("auditor", &["transaction", "show", held["transaction_id"].as_str().unwrap()]);
    assert_eq!((&waiting["status"], &waiting["case"]["case_id"]), (&json!("queued_manual"), &json!(third)));
    desk.refuses(&[
        ("auditor", &["manual", "show", UNKNOWN_CASE], 3, "unknown_case"),
        ("auditor", &["manual", "list", "--after", &format!("queued:{UNKNOWN_CASE}")], 3, "unknown_case"),
        ("alice", &["manual", "done", UNKNOWN_CASE, "--release", "--note", "n"], 3, "unknown_case"),
        ("auditor", &["manual", "done", &first, "--release", "--note", "n"], 3, "operator_not_permitted"),
        ("bank-admin", &["manual", "done", &first, "--reject", "--note", "n"], 3, "operator_not_permitted"),
        ("auditor", &["bank", "resume", "--yes"], 3, "operator_not_permitted"),
    ]);
    assert_eq!(desk.ask("bank-admin", &["bank", "resume", "--yes"])["stopped"], false);
    assert_eq!(desk.ask("bank-admin", &["bank", "resume", "--yes"])["changed"], false);
    assert_eq!(desk.ask("alice", &["manual", "done", &first, "--release", "--note", "fine"])["status"], "released");
    assert_eq!(desk.ask("bank-officer", &["manual", "done", &third, "--release", "--note", "n"])["status"], "released");
    assert_eq!(
        desk.ask("alice", &["manual", "done", &second, "--reject", "--note", "duplicate"])["status"],
        "rejected"
    );
    desk.refuses(&[
        ("alice", &["manual", "done", &first, "--reject", "--note", "n"], 3, "already_decided"),
        ("alice", &["manual", "done", &second, "--release", "--note", "n"], 3, "already_decided"),
    ]);
    let again = call(&mut agent, "authorize_transfer", transfer("1.00", "desk-first"));
    assert_eq!(again["status"], "approved", "{again}");
    let again = call(&mut agent, "authorize_transfer", transfer("2.00", "desk-second"));
    assert_eq!((&again["status"], &again["reason"]), (&json!("denied"), &json!("case_rejected")));
    assert_eq!(call(&mut agent, "execute_transfer", execute)["status"], "executed");
    agent.close();
    let decided = desk.ask("auditor", &["manual", "show", &second]);
    assert_eq!((&decided["decided_by"], &decided["note"]), (&json!("alice"), &json!("duplicate")));
}

fn the_book_adds_up_and_says_so(desk: &Desk<'_>) {
    let check = desk.ask("auditor", &["ledger", "check"]);
    assert_eq!((&check["ok"], &check["currencies"]), (&json!(true), &json!(["EUR", "USD"])), "{check}");
    assert!(desk.say("auditor", &["ledger", "check"]).starts_with("ok: "));
    let path = desk.0.state("bank").join("store/store.sqlite3");
    let spoil = |sql: &str| assert_eq!(rusqlite::Connection::open(&path).unwrap().execute(sql, []).unwrap(), 1);
    spoil("UPDATE accounts SET balance = balance + 7 WHERE name = 'CHK_902'");
    let output = desk.0.output("bank", &["--operator", "auditor", "ledger", "check"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("balance: CHK_902: kept 100007, recomputed 100000"), "{said}");
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("ledger_inconsistent: "));
    spoil("UPDATE accounts SET balance = balance - 7 WHERE name = 'CHK_902'");
    assert_eq!(desk.ask("auditor", &["ledger", "check"])["ok"], true);
}

fn a_misspelt_operator_is_told_who_there_is(desk: &Desk<'_>) {
    for (operator, name) in [(Some("bank-oficer"), "operator_unknown"), (None, "operator_ambiguous")] {
        let words: Vec<&str> = operator.map(|name| vec!["--operator", name]).unwrap_or_default();
        let output = desk.0.output("bank", &[&words[..], &["account", "list"]].concat());
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(complaint.starts_with(name), "{complaint}");
        for known in ["bank-admin", "bank-officer", "alice", "auditor"] {
            assert!(complaint.contains(known), "{known}: {complaint}");
        }
    }
}

fn a_store_is_migrated_only_while_its_daemon_is_down(desk: &Desk<'_>) {
    desk.refuses(&[
        ("auditor", &["migrate"], 5, "already_running"),
        ("auditor", &["migrate", "--check"], 5, "already_running"),
    ]);
    let scratch = tempfile::tempdir().unwrap();
    let state = scratch.path();
    std::fs::copy(desk.0.state("bank").join("countersign.toml"), state.join("countersign.toml")).unwrap();
    let migrate = |words: &[&str]| {
        let output = Command::new(PROGRAM).args(["migrate", "--state"]).arg(state).args(words).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let store = state.join("store/store.sqlite3");
    let (code, said, complaint) = migrate(&["--check"]);
    assert_eq!((code, complaint.starts_with("migrations_wait: ")), (3, true), "{said}{complaint}");
    assert!(said.contains("1  ") && said.contains("2  overdrafts"), "{said}");
    assert!(!store.exists(), "a look makes nothing");

    // Two at once: the lock lets one through; the other finds it done, or is told to wait.
    let two = [(); 2].map(|()| {
        Command::new(PROGRAM)
            .args(["migrate", "--state"])
            .arg(state)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    });
    let ended = two.map(|child| child.wait_with_output().unwrap().status.code());
    assert!(ended.contains(&Some(0)) && ended.iter().all(|code| matches!(code, Some(0 | 5))), "{ended:?}");
    let (code, said, _) = migrate(&[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("version ") && said.ends_with(": up to date\n"), "{said}");
    assert_eq!(migrate(&["--check"]).0, 0);
    set_version(&store, 99);
    for words in [&["--check"][..], &[]] {
        let (code, _, complaint) = migrate(words);
        assert_eq!((code, complaint.starts_with("schema_too_new: ")), (1, true), "{complaint}");
    }
}

fn set_version(store: &Path, version: i64) {
    rusqlite::Connection::open(store).unwrap().pragma_update(None, "user_version", version).unwrap();
}

#[test]
fn a_long_call_is_waited_for_while_it_says_how_far_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::create_dir(scratch.path().join("run")).unwrap();
    let listener = UnixListener::bind(scratch.path().join("run/admin.sock")).unwrap();
    let daemon = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        BufReader::new(&stream).read_line(&mut String::new()).unwrap();
        let answer = json!({ "ok": { "ok": true, "accounts": 3, "currencies": ["USD"] } });
        for line in [json!({ "progress": { "rows": 10_000, "of": "entries" } }), answer] {
            writeln!(&stream, "{line}").unwrap();
        }
    });
    let check = Command::new(PROGRAM).arg("--state").arg(scratch.path()).args(["ledger", "check"]).output().unwrap();
    daemon.join().unwrap();
    // It was over before a word was due.
    assert_eq!((check.status.code(), check.stderr.len()), (Some(0), 0));
    assert!(check.stdout.starts_with(b"ok: 3 accounts"));
}
