//! `countersign bench …` end to end: what it prints and writes, and that it leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::token::program;

/// The verb with a directory for temporary files of its own.
fn bench(scratch: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(["bench", "hsm"]).args(arguments).env("TMPDIR", scratch);
    command
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn a_short_run_prints_every_cell_and_draws_them() {
    let scratch = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    let short = ["--seconds", "0.1", "--rounds", "1", "--callers", "1,16", "--keys", "3", "--json", "--out"];
    let output = bench(scratch.path(), &short).arg(out.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cells: Vec<(u64, u64)> = report["cells"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cell| (cell["workers"].as_u64().unwrap(), cell["callers"].as_u64().unwrap()))
        .collect();
    assert_eq!(cells, [(1, 1), (1, 16), (2, 1), (2, 16)]);
    for cell in report["cells"].as_array().unwrap() {
        for measured in ["raw_per_second", "per_second", "p50_us", "p99_us", "ratio"] {
            assert!(cell[measured]["median"].as_f64().unwrap() > 0.0, "{measured} of {cell}");
        }
    }
    assert_eq!(report["batches"].as_array().unwrap().len(), 4);
    assert_eq!(report["full_token"]["keys"], 3);
    assert_eq!(report["goals"].as_array().unwrap().len(), 10);
    let written: Value = serde_json::from_slice(&std::fs::read(out.path().join("bench-hsm.json")).unwrap()).unwrap();
    assert_eq!(written, report);
    let chart = std::fs::read_to_string(out.path().join("bench-hsm.svg")).unwrap();
    elements_are_closed(&chart);
    assert_eq!(chart.matches("<rect ").count(), 4 + 1, "a bar a cell and one in the legend");
    assert!(is_empty(scratch.path()), "the temporary token is gone");
}

#[test]
fn an_interrupted_run_says_so_and_removes_its_token() {
    let scratch = tempfile::tempdir().unwrap();
    let mut child = bench(scratch.path(), &["--rounds", "100"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("round 1 ")));
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert!(lines.any(|line| line.starts_with("bench_stopped")));
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(is_empty(scratch.path()), "the temporary token is gone");
}

#[test]
fn a_partys_token_signs_self_tests_only_and_not_while_its_daemon_runs() {
    let scratch = tempfile::tempdir().unwrap();
    let party = tempfile::tempdir().unwrap();
    let made = Command::new(program()).args(["init", "--kind", "bank", "--state"]).arg(party.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let run = |arguments: &[&str]| bench(scratch.path(), arguments).arg("--state").arg(party.path()).output().unwrap();
    let short = ["--seconds", "0.1", "--rounds", "1", "--callers", "1", "--workers", "1", "--json"];
    let output = run(&short);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let refused = |arguments: &[&str], name: &str, code: i32| {
        let output = run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(name), "{said}");
        assert_eq!(output.status.code(), Some(code), "{said}");
    };
    refused(&["--input", "tls"], "bench_options_invalid", 2);
    refused(&["--input", "self-test", "--keys", "1"], "bench_options_invalid", 2);
    let lock = std::fs::File::open(party.path().join("daemon.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    refused(&short, "already_running", 5);
}

/// Every element of a document without comments and declarations is closed, in order.
fn elements_are_closed(document: &str) {
    let mut open = Vec::new();
    for tag in document.split('<').skip(1).map(|rest| rest.split_once('>').expect("each tag ends").0) {
        assert_eq!(tag.matches('"').count() % 2, 0, "<{tag}>");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap());
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(!document.contains('&'));
}

#[test]
fn a_short_ledger_run_measures_both_loops_and_leaves_books_that_balance() {
    let scratch = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    let short = ["bench", "ledger", "--seconds", "0.1", "--rounds", "1", "--in-flight", "1,80", "--accounts", "20"];
    let mut command = Command::new(program());
    command.args(short).args(["--history", "600", "--json", "--dir"]).arg(scratch.path()).arg("--out").arg(out.path());
    let output = command.output().unwrap();
    // A book that does not balance, or an acknowledged transfer that is not in it, would be a failure of the command.
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let store = &report["stores"][0];
    assert_eq!(store["store"], "SQLite");
    let shapes: Vec<(u64, u64, u64)> = store["cells"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cell| ["in_flight", "callers", "together"].map(|field| cell[field].as_u64().unwrap()).into())
        .collect();
    assert_eq!(shapes, [(1, 1, 1), (128, 64, 2)]);
    for cell in store["cells"].as_array().unwrap() {
        for measured in ["raw_per_second", "per_second", "p50_us", "p99_us", "processor_us", "ratio"] {
            assert!(cell[measured]["median"].as_f64().unwrap() > 0.0, "{measured} of {cell}");
        }
    }
    for versus in ["hot", "payments", "history"] {
        assert!(store[versus]["ratio"]["median"].as_f64().unwrap() > 0.0, "{versus} of {store}");
    }
    assert!(store["two_stores"].is_null() && store["pgbench"].is_null());
    assert!(report["goals"].as_array().unwrap().iter().any(|goal| goal["what"] == "SQLite: ours / raw, 1 in flight"));
    let written: Value = serde_json::from_slice(&std::fs::read(out.path().join("bench-ledger.json")).unwrap()).unwrap();
    assert_eq!(written, report);
    elements_are_closed(&std::fs::read_to_string(out.path().join("bench-ledger.svg")).unwrap());
    assert!(is_empty(scratch.path()), "the temporary stores are gone");
}

#[test]
fn a_ledger_run_with_senseless_options_is_refused() {
    for (options, name) in [
        (["--seconds", "0"], "bench_options_invalid"),
        (["--dir", "/nowhere/at/all"], "bench_failed"),
        (["--postgres", "mysql://localhost"], "bench_options_invalid"),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let mut command = Command::new(program());
        command.args(["bench", "ledger", "--accounts", "3"]).args(options).env("TMPDIR", scratch.path());
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(name), "{options:?}: {said}");
        assert!(is_empty(scratch.path()));
    }
}

fn json_of(scratch: &Path, arguments: &[&str]) -> Value {
    let mut command = Command::new(program());
    let output = command.arg("bench").args(arguments).args(["--json", "--dir"]).arg(scratch).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(is_empty(scratch), "what it made is gone");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_short_issuance_run_issues_pairs_at_once_and_starts_a_bank_that_has_issued_more() {
    let scratch = tempfile::tempdir().unwrap();
    let short = ["issuance", "--pairs", "12", "--callers", "6", "--rounds", "1", "--seconds", "0.1"];
    let report = json_of(scratch.path(), &[&short[..], &["--certificates", "300"]].concat());
    for measured in ["raw_per_second", "endorsed_per_second", "issued_per_second", "p50_ms", "ratio"] {
        assert!(report[measured]["median"].as_f64().unwrap() > 0.0, "{measured} of {report}");
    }
    for measured in ["start_empty_s", "start_s", "issuance_ms", "ocsp_ms", "list_ms"] {
        assert!(report["full"][measured]["median"].as_f64().unwrap() > 0.0, "{measured} of {report}");
    }
    assert_eq!((&report["workers"], report["goals"].as_array().unwrap().len()), (&2.into(), 2));
}

#[test]
fn a_short_run_of_every_part_measures_both_sides_and_leaves_a_book_that_balances() {
    let scratch = tempfile::tempdir().unwrap();
    let short = ["mcp", "--connections", "4", "--agents", "2", "--rounds", "1", "--seconds", "0.2"];
    let report = json_of(scratch.path(), &[&short[..], &["--many", "40", "--rate", "20", "--crowd", "16"]].concat());
    assert_eq!((&report["connections"], &report["rounds"]), (&4.into(), &1.into()));
    for (part, figures) in [
        ("calls", &["bare_per_second", "per_second", "p99_ms", "ratio"][..]),
        ("payments", &["bare_per_second", "per_second", "p99_ms", "ratio"]),
        ("receipts", &["added_p50_ms", "added_p99_ms"]),
        ("verification", &["raw_per_second", "raw_known_key_per_second", "per_second", "ratio"]),
        ("handshakes", &["per_second", "in_memory_per_second"]),
        ("storm", &["per_second", "handshakes_alone_per_second", "left_ratio"]),
    ] {
        for figure in figures {
            assert!(report[part][figure]["median"].as_f64().unwrap() > 0.0, "{figure} of {part}: {report}");
        }
    }
    for storm in ["one_by_one", "all_at_once"] {
        for figure in ["per_second", "handshakes_per_second", "ratio"] {
            assert!(report["storm"][storm][figure]["median"].as_f64().unwrap() > 0.0, "{figure} {storm}: {report}");
        }
    }
    let many = &report["many"];
    assert_eq!([&many["asked"], &many["opened"], &many["answered"]], [40, 40, 40], "{many}");
    let open = &report["open"];
    for call in ["balance", "authorize", "execute"] {
        let [p50, p99] = ["p50_ms", "p99_ms"].map(|of| open["transactions"][call][of]["median"].as_f64().unwrap());
        assert!(0.0 < p50 && p50 <= p99, "{call}: {open}");
    }
    for figure in ["p99_ms", "bare_p99_ms", "commit_p99_ms"] {
        assert!(open["half_load"][figure]["median"].as_f64().unwrap() > 0.0, "{figure}: {open}");
    }
    // Every arrival has one of four ends, and none of them is a wrong answer.
    let overload = |what: &str| open["overload"][what].as_u64().unwrap();
    let ends = ["answered", "told_to_come_again", "failed", "not_sent"].map(overload);
    assert_eq!((ends.iter().sum::<u64>(), overload("failed")), (overload("arrived"), 0), "{open}");
    assert!(overload("answered") > 0, "{open}");
    let goals = report["goals"].as_array().unwrap();
    assert_eq!(goals.len(), 17, "{goals:#?}");
    nginx_was_measured_where_it_is(&report["handshakes"], goals);
}

fn nginx_was_measured_where_it_is(handshakes: &Value, goals: &[Value]) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let is_installed = folders.any(|folder| folder.join("nginx").is_file());
    assert_eq!(handshakes["nginx_per_second"]["median"].as_f64().is_some_and(|rate| rate > 0.0), is_installed);
    let of_nginx: Vec<&Value> =
        goals.iter().filter(|goal| goal["what"].as_str().unwrap().ends_with("against nginx")).collect();
    assert_eq!(of_nginx.len(), 2);
    for goal in of_nginx {
        match goal["not_measured"].as_str() {
            Some(why) => assert!(!is_installed && why.contains("nginx-light") && goal["reached"] == false, "{goal}"),
            None => assert!(is_installed && goal["percent"].as_f64().unwrap() > 0.0, "{goal}"),
        }
    }
}

#[test]
fn only_the_parts_that_were_asked_for_are_measured() {
    let scratch = tempfile::tempdir().unwrap();
    let short = ["mcp", "--only", "verification,payments", "--connections", "2", "--agents", "1", "--rounds", "1"];
    let report = json_of(scratch.path(), &[&short[..], &["--seconds", "0.1"]].concat());
    let is_measured = |part: &&str| !report[*part].is_null();
    let parts = ["calls", "payments", "receipts", "verification", "handshakes", "storm", "many", "open"];
    assert_eq!(parts.into_iter().filter(is_measured).collect::<Vec<_>>(), ["payments", "verification"]);
    assert_eq!(report["goals"].as_array().unwrap().len(), 2);
}

/// More than a bank answers at once is asked, and each answer says so or is right.
#[test]
fn a_bank_that_is_asked_too_much_says_when_to_come_again() {
    let scratch = tempfile::tempdir().unwrap();
    let short = ["mcp", "--only", "open", "--connections", "4", "--agents", "4", "--rounds", "1", "--seconds", "0.3"];
    let report = json_of(scratch.path(), &[&short[..], &["--rate", "10", "--crowd", "16", "--room", "2"]].concat());
    let overload = |what: &str| report["open"]["overload"][what].as_u64().unwrap();
    assert!(overload("answered") > 0 && overload("told_to_come_again") > 0, "{report}");
    assert_eq!(overload("failed"), 0, "{report}");
}

#[test]
fn no_call_that_begins_when_a_revocation_is_effective_does_anything() {
    let scratch = tempfile::tempdir().unwrap();
    let short = ["--agents", "3", "--connections", "2", "--entries", "500", "--rounds", "1", "--seconds", "0.1"];
    let report = json_of(scratch.path(), &[&["revocation", "--calls", "500"], &short[..]].concat());
    let count = |what: &str| report[what].as_u64().unwrap();
    assert!(count("raced_calls") >= 500 && count("raced_effects") > 100 && count("late_calls") >= 20, "{report}");
    assert_eq!(count("late_effects"), 0);
}

#[test]
fn the_signing_service_is_measured_with_the_token_and_with_a_slow_one() {
    let scratch = tempfile::tempdir().unwrap();
    let output = Command::new(program())
        .args(["bench", "signing", "--json", "--callers", "4", "--rounds", "1", "--seconds", "0.3", "--items", "16"])
        .arg("--delay-module")
        .arg(crate::support::shim::library())
        .env("TMPDIR", scratch.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for measured in ["raw_per_second", "kept_per_second", "plain_per_second", "merkle_per_second"] {
        assert!(report[measured]["median"].as_f64().unwrap() > 0.0, "{measured} of {report}");
    }
    assert_eq!(report["goals"].as_array().unwrap().len(), 3);
    assert!(is_empty(scratch.path()), "the temporary directories are gone");
}
