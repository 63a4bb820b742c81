//! The last of a disk belongs to revocations and people: agents' money stops before it is full, and goes on by itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use countersign::mcp::client::StdioClient;
use serde_json::{Value, json};

use crate::crash::{Daemon, World, run, text, until};

/// Quick, so that a test waits for what happens and not for a clock.
const QUICK: &str = "probe_successes = 2\nrecovered_ms = 0\nprobe_pause_ms = 100\nprobe_pause_max_ms = 500\n";

/// The demo's bank, which keeps so much of its disk.
struct Bank {
    // Dropped first, while the directories are there.
    daemon: Option<Daemon>,
    world: World,
    /// Where a disk of its own is mounted.
    mounted: Option<PathBuf>,
}

impl Bank {
    fn new() -> Self {
        Self { daemon: None, world: World::new(), mounted: None }
    }

    fn state(&self) -> PathBuf {
        self.world.state("bank")
    }

    fn stop(&mut self) {
        self.daemon = None;
        run(&self.state(), "bank-admin", &["stop"]);
    }

    fn keeps(&mut self, mib: u64) {
        self.stop();
        let path = self.state().join("countersign.toml");
        let written = fs::read_to_string(&path).unwrap();
        let lines = written.lines().map(|line| match line.split(' ').next() {
            Some("reserved_free_mib") => format!("reserved_free_mib = {mib}\n"),
            Some("probe_successes" | "recovered_ms" | "probe_pause_ms" | "probe_pause_max_ms") => String::new(),
            Some("[breaker]") => format!("[breaker]\n{QUICK}"),
            Some(_) | None => format!("{line}\n"),
        });
        fs::write(&path, lines.collect::<String>()).unwrap();
        let state = self.state();
        self.daemon = Some(until("the lock", || Daemon::try_start(&state)));
    }

    fn ask(&self, operator: &str, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
        let output = run(&self.state(), operator, &arguments);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)))
    }

    fn authorize(&self, agent: &StdioClient, key: &str) -> Value {
        let order =
            json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": "1.00", "idempotency_key": key });
        // After a restart the bridge finds the bank again in its own time.
        until("the bank's answer", || {
            let answer = self.world.runtime.block_on(agent.call("authorize_transfer", order.clone()));
            Some(answer.unwrap_or_else(|failure| failure)).filter(|answer| answer["status"] != "failed")
        })
    }

    fn state_is(&self, state: &str, causes: &[&str]) {
        until(state, || {
            let status = self.ask("auditor", &["bank", "status"]);
            let names: Vec<&str> =
                status["causes"].as_array()?.iter().filter_map(|cause| cause["cause"].as_str()).collect();
            (status["state"] == state && names == causes).then_some(())
        });
    }

    fn doctor(&self) -> Value {
        let doctor = self.ask("auditor", &["doctor"]);
        doctor["items"].as_array().unwrap().iter().find(|item| item["check"] == "free space").unwrap().clone()
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        self.stop();
        if let Some(place) = &self.mounted {
            let _ = Command::new("umount").arg(place).status();
        }
    }
}

/// MiB that may be written to the disk of this directory.
fn free_mib(directory: &Path) -> u64 {
    let found = rustix::fs::statvfs(directory).unwrap();
    found.f_bavail * found.f_frsize / (1 << 20)
}

#[test]
fn below_the_mark_money_waits_reads_go_on_and_a_revocation_takes_effect() {
    let mut bank = Bank::new();
    let agent = bank.world.agent();
    let before = bank.world.savings(&agent);
    assert_eq!(bank.doctor()["result"], "ok", "{}", bank.doctor());
    // Between the mark and half of it, whatever others write meanwhile.
    bank.keeps((free_mib(&bank.state()) * 3 / 2).min(1 << 20));
    bank.state_is("open", &["disk_low"]);
    let line = bank.doctor();
    assert!(line["result"] == "fail" && line["detail"].as_str().unwrap().contains("payments are stopped"), "{line}");
    let queued = bank.authorize(&agent, "low");
    assert_eq!(queued["status"], "queued_manual", "{queued}");
    assert!(queued["reason"].as_str().is_none_or(|reason| !reason.contains("/")), "no path of ours: {queued}");
    assert!((bank.world.savings(&agent) - before).abs() < 1e-9, "it reads, and nothing has moved");
    let revoked = bank.ask("bank-officer", &["revoke", "assistant", "--reason", "key-compromise"]);
    assert_eq!(revoked["effective"], true, "{revoked}");
    // Nothing reserved: never low, and the doctor says so.
    bank.keeps(0);
    bank.state_is("closed", &[]);
    assert_eq!(bank.doctor()["result"], "warn", "{}", bank.doctor());
    let leaves = bank.ask("auditor", &["audit", "show", "--limit", "1000"]);
    let about = leaves["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|leaf| leaf["body"]["act"] == "set_breaker" && leaf["body"]["parameters"]["cause"] == "disk_low");
    assert!(about.count() >= 1, "it is recorded that it stood");
    bank.world.runtime.block_on(agent.close());
}

#[test]
fn a_disk_that_fills_stops_money_then_agents_and_room_lets_them_go_on() {
    let mut bank = Bank::new();
    let store = bank.state().join("store");
    bank.stop();
    let aside = bank.state().join("store.aside");
    fs::rename(&store, &aside).unwrap();
    fs::create_dir(&store).unwrap();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=192m,mode=0700", "tmpfs"]).arg(&store).output();
    if !mounted.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped: a disk of 192 MiB cannot be mounted here (it takes root)");
        fs::remove_dir(&store).unwrap();
        fs::rename(&aside, &store).unwrap();
        return;
    }
    bank.mounted = Some(store.clone());
    fs::set_permissions(&store, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(&aside).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), store.join(entry.file_name())).unwrap();
    }
    bank.keeps(64);
    let agent = bank.world.agent();
    bank.state_is("closed", &[]);
    assert_eq!(bank.authorize(&agent, "room")["status"], "approved");

    // Somebody else's file fills the disk to below the mark, and then to below half of it.
    let filled = store.join("somebody-elses");
    let fill_to = |left: u64| {
        let there = fs::metadata(&filled).map_or(0, |found| found.len());
        let more = free_mib(&store).saturating_sub(left) * (1 << 20);
        let file = fs::OpenOptions::new().create(true).append(true).open(&filled).unwrap();
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), there, more).unwrap();
    };
    fill_to(48);
    bank.state_is("open", &["disk_low"]);
    assert_eq!(bank.authorize(&agent, "low")["status"], "queued_manual");
    bank.world.savings(&agent);
    fill_to(20);
    until("agents are not served", || {
        let asked = bank.world.runtime.block_on(agent.call("get_account_balance", json!({ "account_id": "SAV_001" })));
        asked.is_err().then_some(())
    });
    assert!(bank.doctor()["detail"].as_str().unwrap().contains("agents are not served"), "{}", bank.doctor());
    // People are, to the end.
    let frozen = bank.ask("bank-officer", &["freeze", "assistant", "--reason", "a look at the disk"]);
    assert_eq!(frozen["effective"], true, "{frozen}");

    fs::remove_file(&filled).unwrap();
    bank.state_is("closed", &[]);
    assert_eq!(bank.doctor()["result"], "ok", "{}", bank.doctor());
    bank.world.books_are_sound();
    bank.world.runtime.block_on(agent.close());
}
