//! The log copied to where it cannot be changed: a directory, and an S3 server that is not ours and knows object lock.
//!
//! `scripts/lib/s3.sh` installs the server. It checks signatures and policies.

mod relay;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::crash::until;
use crate::support::world::World;
use relay::Relay;

/// Set by `scripts/test`: what it has installed is used and not passed over.
const ALL_TOOLS: &str = "COUNTERSIGN_TEST_ALL_TOOLS";

/// The Python with an S3 server, where `scripts/lib/s3.sh` has put it.
fn python() -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/s3");
    let here = tools.join("ready").exists();
    assert!(here || std::env::var_os(ALL_TOOLS).is_none(), "run scripts/lib/s3.sh");
    if !here {
        println!("skipped: scripts/lib/s3.sh installs the S3 server");
    }
    here.then(|| tools.join("bin/python"))
}

/// The server, and somebody who may do everything there.
struct Server {
    child: Child,
    ask: ChildStdin,
    said: BufReader<ChildStdout>,
    port: u16,
    key: String,
    secret: String,
}

impl Server {
    fn start(python: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/archive/s3.py");
        let mut child = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (ask, mut said) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let first: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("the server said {line:?}"));
        let text = |member: &str| first[member].as_str().unwrap().to_owned();
        let port = u16::try_from(first["port"].as_u64().unwrap()).unwrap();
        Self { key: text("key"), secret: text("secret"), child, ask, said, port }
    }

    fn ask(&mut self, asked: Value) -> Value {
        writeln!(self.ask, "{asked}").unwrap();
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{asked}: {line:?}"))
    }

    /// Every version of every object.
    fn versions(&mut self) -> Vec<Value> {
        self.ask(json!({ "do": "list" }))["items"].as_array().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The demo's bank with an archive.
struct Bank(World);

impl Bank {
    fn new() -> Self {
        Self(World::new())
    }

    fn state(&self) -> PathBuf {
        self.0.state("bank")
    }

    /// Starts it again with these lines under `[audit.archive]`, instead of those before.
    fn archives(&self, lines: &str) {
        self.0.run("bank", &["stop"]);
        let config = self.state().join("countersign.toml");
        let text = fs::read_to_string(&config).unwrap();
        let before = text.split("\n[audit.archive]").next().unwrap();
        fs::write(&config, format!("{before}\n[audit.archive]\ninterval_s = 1\n{lines}\n")).unwrap();
        self.0.serve("bank");
    }

    fn archives_at(&self, server: &Server, port: u16, more: &str) {
        self.secret(&server.secret);
        self.archives(&s3(port, "s3://bank-log/proof/of-bank", &server.key, more));
    }

    fn secret(&self, secret: &str) {
        let file = self.state().join("archive.secret");
        fs::write(&file, secret).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn ask(&self, arguments: &[&str]) -> Value {
        let asked = [&["--json", "--operator", "auditor"], arguments].concat();
        serde_json::from_str(&self.0.run("bank", &asked)).unwrap()
    }

    /// Exit code and name of what must fail.
    fn refused(&self, arguments: &[&str]) -> (i32, String) {
        self.0.refused("bank", &[&["--operator", "auditor"], arguments].concat())
    }

    /// What `doctor` says about the archive.
    fn line(&self) -> Value {
        let output = self.0.output("bank", &["--json", "--operator", "auditor", "doctor"]);
        let doctor: Value = serde_json::from_slice(&output.stdout).unwrap();
        doctor["items"].as_array().unwrap().iter().find(|item| item["check"] == "log archive").unwrap().clone()
    }

    /// Writes something into the log.
    fn grows(&self, agent: &str) {
        self.0.enrol(agent);
    }

    /// Fetches the archive and verifies it with the bank's root alone; answers how many leaves it has.
    fn fetched(&self) -> u64 {
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("copy").display().to_string();
        let fetched = self.ask(&["audit", "archive", "fetch", &copy]);
        let root = self.state().join("certs/root.pem").display().to_string();
        let verified = self.0.run("nowhere", &["--json", "verify", "log", &copy, "--root", &root]);
        let verified: Value = serde_json::from_str(&verified).unwrap();
        assert_eq!(verified["size"], fetched["size"], "{verified}");
        verified["size"].as_u64().unwrap()
    }
}

fn s3(port: u16, url: &str, key: &str, more: &str) -> String {
    format!(
        "url = \"{url}\"\nendpoint = \"http://127.0.0.1:{port}\"\nregion = \"eu-central-1\"\naccess_key_id = \"{key}\"\n\
         secret_key_file = \"archive.secret\"\n{more}"
    )
}

const LOCK: &str = "lock = { mode = \"compliance\", days = 30 }";

#[test]
fn what_is_archived_is_locked_and_verifies_when_it_is_fetched_back() {
    let Some(python) = python() else { return };
    let mut server = Server::start(&python);
    let bank = Bank::new();
    bank.archives_at(&server, server.port, LOCK);
    let now = bank.ask(&["audit", "archive", "now"]);
    let size = now["archived_size"].as_u64().unwrap();
    assert!(size > 0 && now["lag"] == 0 && now["fault"].is_null(), "{now}");
    assert!(now["locked_until"].as_str().unwrap() > "2026", "{now}");
    let line = bank.line();
    assert_eq!(line["result"], "ok", "{line}");
    assert!(line["detail"].as_str().unwrap().contains("locked (compliance) until"), "{line}");

    let versions = server.versions();
    let mutable = ["checkpoint", "checkpoint.certificates", "witness.certificates"];
    let name_of = |one: &Value| one["key"].as_str().unwrap().strip_prefix("proof/of-bank/").unwrap().to_owned();
    let (newest, kept): (Vec<_>, Vec<_>) =
        versions.into_iter().partition(|one| mutable.contains(&name_of(one).as_str()));
    assert!(newest.len() >= 3 && newest.iter().all(|one| one["mode"].is_null()), "{newest:?}");
    for start in ["log", "tile/0/", "tile/entries/", "checkpoints/0000"] {
        assert!(kept.iter().any(|one| name_of(one).starts_with(start)), "{start}: {kept:?}");
    }
    for one in &kept {
        assert_eq!(one["mode"], "COMPLIANCE", "{one}");
        assert!(one["until"].as_str().unwrap() > now["archived_at"].as_str().unwrap(), "{one}");
        assert_eq!(one["latest"], true, "{one}: written once");
    }
    // Somebody who may do everything there cannot undo it.
    let one = kept.iter().find(|one| name_of(one).starts_with("tile/entries/")).unwrap();
    let (key, version) = (&one["key"], &one["version"]);
    let delete = json!({ "do": "delete", "key": key, "version": version });
    assert_eq!(server.ask(delete), json!({ "error": "AccessDenied" }));
    let over = json!({ "do": "put", "key": key, "text": "another history", "once": true });
    assert_eq!(server.ask(over), json!({ "error": "PreconditionFailed" }));

    // It goes on meanwhile.
    assert!(bank.fetched() >= size);
    let checked = bank.ask(&["audit", "check", "--archive"]);
    assert_eq!((&checked["sound"], &checked["copy"]["archive"]), (&json!(true), &json!(true)), "{checked}");

    // Without asking for nothing to be there the server takes another version; the locked one stays below it, and whoever
    // compares sees that the newest is a forgery.
    for entries in kept.iter().filter(|one| name_of(one).starts_with("tile/entries/")) {
        let forged = json!({ "do": "put", "key": entries["key"], "text": "another history" });
        assert_eq!(server.ask(forged), json!({ "done": true }));
    }
    let still = server.versions().iter().any(|found| found["version"] == *version && found["mode"] == "COMPLIANCE");
    assert!(still, "the version that was archived is there");
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy").display().to_string();
    bank.ask(&["audit", "archive", "fetch", &copy, "--size", &size.to_string()]);
    let root = bank.state().join("certs/root.pem").display().to_string();
    assert_eq!(bank.0.refused("nowhere", &["verify", "log", &copy, "--root", &root]), (3, "copy_damaged".into()));
}

#[test]
fn an_archive_whose_server_was_away_goes_on_where_it_stood() {
    let Some(python) = python() else { return };
    let server = Server::start(&python);
    let relay = Relay::to(server.port);
    let bank = Bank::new();
    bank.archives_at(&server, relay.port(), LOCK);
    let before = bank.ask(&["audit", "archive", "now"])["archived_size"].as_u64().unwrap();
    relay.cut();
    bank.grows("courier");
    let (code, name) = bank.refused(&["audit", "archive", "now"]);
    assert_eq!((code, name.as_str()), (5, "archive_unreachable"));
    let line = bank.line();
    assert_ne!(line["result"], "ok", "{line}");
    assert!(line["detail"].as_str().unwrap().starts_with("archive_unreachable"), "{line}");
    // A daemon that was killed meanwhile knows from its file how far it was.
    bank.0.kill("bank");
    bank.0.serve("bank");
    let status = bank.ask(&["audit", "archive", "status"]);
    assert_eq!(status["archived_size"], before, "{status}");
    assert!(status["lag"].as_u64().unwrap() > 0, "{status}");
    relay.join();
    // By itself.
    let after = until("the archive", || {
        let status = bank.ask(&["audit", "archive", "status"]);
        (status["lag"] == 0 && status["fault"].is_null()).then(|| status["archived_size"].as_u64().unwrap())
    });
    assert!(after > before, "{after} {before}");
    assert!(bank.fetched() >= after);
    // Its place lost, it compares what is there and writes nothing twice.
    bank.0.run("bank", &["stop"]);
    fs::remove_file(bank.state().join("store/archive.json")).unwrap();
    bank.0.serve("bank");
    bank.ask(&["audit", "archive", "now"]);
    let mut server = server;
    let twice: Vec<Value> = server.versions().into_iter().filter(|one| one["latest"] == false).collect();
    let is_newest = |one: &Value| one["mode"].is_null();
    assert!(twice.iter().all(is_newest), "{twice:?}");
    assert!(bank.fetched() >= after);
}

#[test]
fn an_archive_that_takes_nothing_is_told_by_doctor_with_its_name() {
    let Some(python) = python() else { return };
    let server = Server::start(&python);
    let bank = Bank::new();
    let url = "s3://bank-log/proof";
    let nobody = Relay::to(server.port);
    nobody.cut();
    for (secret, key, url, port, lock, says) in [
        (
            "wrong",
            server.key.as_str(),
            url,
            server.port,
            LOCK,
            "archive_denied: the archive's server answered 403 Signature",
        ),
        (
            &server.secret,
            "AKIANOBODY",
            url,
            server.port,
            LOCK,
            "archive_denied: the archive's server answered 403 Invalid",
        ),
        (&server.secret, &server.key, "s3://open-log", server.port, LOCK, "archive_not_lockable: "),
        (&server.secret, &server.key, "s3://no-such-log", server.port, LOCK, "archive_bucket_missing: "),
        (&server.secret, &server.key, url, nobody.port(), LOCK, "archive_unreachable: "),
    ] {
        bank.secret(secret);
        bank.archives(&s3(port, url, key, lock));
        let line = until(says, || Some(bank.line()).filter(|line| line["result"] == "fail"));
        let detail = line["detail"].as_str().unwrap();
        assert!(detail.starts_with(says), "{line}");
        assert!(!detail.contains(secret), "{line}");
        let (_, name) = bank.refused(&["audit", "archive", "now"]);
        assert!(says.starts_with(&name), "{name}");
    }
    // Agents and operators do not notice.
    bank.grows("courier");
}

#[test]
fn a_directory_is_an_archive_whose_files_are_written_once() {
    let bank = Bank::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let outside = elsewhere.path().join("worm");
    for (lines, directory) in
        [(String::new(), bank.state().join("tiles")), (format!("url = \"file://{}\"", outside.display()), outside)]
    {
        bank.archives(&lines);
        let size = bank.ask(&["audit", "archive", "now"])["archived_size"].as_u64().unwrap();
        assert!(bank.fetched() >= size);
        let tile = directory.join("tile/0/000.p").join(size.min(255).to_string());
        let tile = if size < 256 { tile } else { directory.join("tile/0/000") };
        assert_eq!(fs::metadata(&tile).unwrap().permissions().mode() & 0o777, 0o444, "{}", tile.display());
        // The directory itself is a copy.
        let root = bank.state().join("certs/root.pem").display().to_string();
        bank.0.run("nowhere", &["verify", "log", &directory.display().to_string(), "--root", &root]);
        assert_eq!(bank.line()["result"], "ok", "{}", bank.line());

        // Another log's name stands there: nothing is put beside it.
        let name = directory.join("log");
        fs::set_permissions(&name, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&name, "elsewhere.example/log\n").unwrap();
        bank.0.run("bank", &["stop"]);
        bank.0.serve("bank");
        assert_eq!(bank.refused(&["audit", "archive", "now"]).1, "archive_of_another_log");
    }
    assert_eq!(bank.0.refused("secco", &["--operator", "secco-admin", "audit", "archive", "status"]).1, "archive_off");
}
