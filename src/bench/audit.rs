//! The audit log without a bank around it: how fast leaves get their places, how long a proof takes, how long it takes to
//! check all of it, and what a leaf costs on disk.
//!
//! On SQLite, with the checkpoint key in software: an HSM's signature is one a batch, and `bench hsm` measures it. The raw
//! loop writes the same tiles as files and makes each durable, as a log without a database does.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde::Serialize;
use serde_json::json;

use super::directory::{Directory, unusable};
use super::figures::{Goal, Spread, figure, lines};
use super::sealed::sealed;
use crate::audit::settings::AuditSettings;
use crate::audit::{Advance, Log, LogSetup};
use crate::hsm::{CertifiedKey, CustodyAttributes, HsmFault, KeyInfo, KeyState, Op, Reply, Token};
use crate::kernel::command::{Act, Actor, Command};
use crate::kernel::merkle::{Frontier, leaf_hash};
use crate::kernel::receipt::leaf_entry;
use crate::kernel::sign::{Algorithm, Purpose, spki_der};
use crate::kernel::types::Sha256;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;

/// Leaves of one checkpoint.
const BATCH: u32 = 1024;
/// Proofs that are timed.
const PROOFS: u64 = 1_000;

const GOAL_APPENDS: f64 = 0.5;
const GOAL_PROOF_US: f64 = 100.0;
const GOAL_CHECK_US: f64 = 10.0;
const GOAL_BYTES: f64 = 1_200.0;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub leaves: u32,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub leaves: u32,
    /// Leaves a second that get their places, durable, under a signed checkpoint each 1,024.
    pub appends_per_s: f64,
    /// The same tiles as files, each synced.
    pub raw_appends_per_s: f64,
    /// One inclusion proof from the store, microseconds.
    pub proof_us: Spread,
    /// The whole check, seconds.
    pub check_s: f64,
    pub bytes_per_leaf: f64,
    pub goals: Vec<Goal>,
}

/// Fills a log in a directory of its own, and measures it.
///
/// # Errors
/// `bench_failed`; the store's and the log's.
pub fn run(plan: Plan, tell: impl Fn(&str)) -> Result<Report, Failure> {
    let directory = Directory::make(&std::env::temp_dir())?;
    let path = directory.path().join("store.sqlite3");
    let store = SqliteStore::open(&path)?;
    sealed(&*store)?;
    tell("recording leaves");
    record(&*store, plan.leaves)?;
    let log = log_over(Arc::clone(&store))?;

    tell("giving them their places");
    let start = Instant::now();
    while let Advance::Signed { .. } = log.advance()? {}
    let appends_per_s = f64::from(plan.leaves) / start.elapsed().as_secs_f64();
    let raw_appends_per_s = raw(&directory.path().join("raw"), plan.leaves)?;

    tell("proving");
    let size = u64::from(plan.leaves);
    let mut taken = vec![];
    for number in 0..PROOFS.min(size) {
        // All over the log, the same places each time.
        let index = number.wrapping_mul(2_654_435_761) % size;
        let start = Instant::now();
        let path = log.inclusion(index, size)?;
        taken.push(start.elapsed().as_secs_f64() * 1e6);
        if path.is_empty() && size > 1 {
            return Err(defect("a proof is empty"));
        }
    }
    tell("checking");
    let start = Instant::now();
    let examined = log.examine(None, &mut |_| {})?;
    let check_s = start.elapsed().as_secs_f64();
    if examined.findings.found > 0 {
        return Err(defect("the log that was just written is not sound"));
    }
    drop(log);
    drop(store);
    let bytes = std::fs::metadata(&path).map_err(|error| unusable(&path, &error))?.len();
    let bytes_per_leaf = bytes as f64 / f64::from(plan.leaves);
    let proof_us = Spread::of(taken);
    let goals = vec![
        Goal::at_least("appends against the raw tile writer".into(), appends_per_s / raw_appends_per_s, GOAL_APPENDS),
        Goal::at_most(format!("an inclusion proof at {} leaves", plan.leaves), proof_us.median, GOAL_PROOF_US, "µs"),
        Goal::at_most("the check, a leaf".into(), check_s * 1e6 / f64::from(plan.leaves), GOAL_CHECK_US, "µs"),
        Goal::at_most("a leaf in the store".into(), bytes_per_leaf, GOAL_BYTES, "bytes"),
    ];
    Ok(Report { leaves: plan.leaves, appends_per_s, raw_appends_per_s, proof_us, check_s, bytes_per_leaf, goals })
}

/// The report in words.
pub fn text(report: &Report) -> String {
    let line = |what: &str, value: f64, unit: &str| format!("{what:<52} {value:>10.2} {unit}\n");
    format!(
        "{} leaves, {BATCH} a checkpoint, on SQLite; the checkpoint key in software\n{}{}{}{}{}\n{}",
        report.leaves,
        line("leaves a second that get their places", report.appends_per_s, "1/s"),
        line("the same tiles as files, each synced", report.raw_appends_per_s, "1/s"),
        figure("an inclusion proof", &report.proof_us, "µs"),
        line("the whole check", report.check_s, "s"),
        line("a leaf in the store", report.bytes_per_leaf, "bytes"),
        lines(&report.goals)
    )
}

/// Leaves of the size that payments have, in commits of many.
fn record(store: &dyn Store, leaves: u32) -> Result<(), Failure> {
    let mut left = leaves;
    while left > 0 {
        let commit = left.min(BATCH);
        let commands = (0..commit).map(|place| Command {
            stamp: clock::stamp(clock::fresh_request_id()),
            actor: Actor::System { component: "bench".into() },
            act: Act::Record { tool: "execute_transfer".into(), decision: transfer(left - place) },
        });
        store.apply(commands.collect())?;
        left -= commit;
    }
    Ok(())
}

/// What the leaf of an agent's transfer says, with hashes, signature and names of its own: as long as those are, and as
/// hard to make smaller.
fn transfer(number: u32) -> serde_json::Value {
    let digest = |what: &str, of: u32| Sha256::of(&[what.as_bytes(), &of.to_be_bytes()]);
    let own = |what: &str, bytes: usize| digest(what, number).hex()[..2 * bytes].to_owned();
    // An agent's: the same in each of its leaves.
    let agent = number % 64;
    let of_agent = |what: &str, bytes: usize| digest(what, agent).hex()[..2 * bytes].to_owned();
    let signature = BASE64_URL_SAFE_NO_PAD.encode([digest("r", number).0, digest("s", number).0].concat());
    let transaction = format!("txn_{}", own("transaction", 13).to_uppercase());
    json!({
        "actor": {
            "bank_issuer": of_agent("bank", 20),
            "bank_serial": of_agent("serial", 16),
            "company_issuer": of_agent("company", 20),
            "company_serial": of_agent("s", 16),
            "key": of_agent("key", 32),
            "kind": "agent",
            "not_after": 1_795_484_041_000_u64,
            "spiffe_id": format!("spiffe://bank.example/agent/purchaser/agent-{agent}"),
        },
        "catalogue_version": "1",
        "parameters": {
            "amount": { "amount": format!("{}.{:02}", number % 5_000, number % 100), "currency": "USD" },
            "from_account": format!("CHK_{:06}", number % 10_000),
            "to_account": format!("SAV_{:06}", number % 10_000),
            "transaction_id": transaction,
        },
        "policy_version": "2a0add0e12c68631",
        "request_base_digest": own("base", 32),
        "request_created": "2026-11-23T01:34:01.000Z",
        "request_id": format!("req_{}", own("request", 13).to_uppercase()),
        "request_signature": signature,
        "result": {
            "batch": number.to_string(),
            "index_in_batch": "0",
            "repeated": false,
            "statement_sha256": own("statement", 32),
            "status": "executed",
            "transaction_id": transaction,
        },
        "risk": {
            "asks": "allow", "from": "0", "mode": "enforce", "rules": "8d890538c74d3c23", "score": 0,
            "seen": number.to_string(),
        },
    })
}

/// Hashes and entries of each checkpoint's leaves as files, every one synced, with a checkpoint after them.
fn raw(directory: &Path, leaves: u32) -> Result<f64, Failure> {
    super::directory::private_directory(directory).map_err(|error| unusable(directory, &error))?;
    let written = || -> std::io::Result<f64> {
        let put = |name: String, bytes: &[u8]| {
            let mut file = File::create(directory.join(name))?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        let mut frontier = Frontier::empty();
        let start = Instant::now();
        for (number, from) in (0..leaves).step_by(BATCH as usize).enumerate() {
            let count = BATCH.min(leaves - from);
            let (mut hashes, mut entries) = (vec![], vec![]);
            for leaf in 0..count {
                let entry = leaf_entry(&Sha256::of(&[&u64::from(from + leaf).to_be_bytes()]));
                let hash = leaf_hash(&entry);
                hashes.extend_from_slice(&hash.0);
                entries.extend_from_slice(&52_u16.to_be_bytes());
                entries.extend_from_slice(&entry);
                frontier.append(hash, |_, _, _| {});
            }
            // 256 a tile.
            for (tile, (hashes, entries)) in hashes.chunks(256 * 32).zip(entries.chunks(256 * 54)).enumerate() {
                put(format!("{number}-{tile}-hashes"), hashes)?;
                put(format!("{number}-{tile}-entries"), entries)?;
            }
            put("checkpoint".into(), frontier.root().hex().as_bytes())?;
            File::open(directory)?.sync_all()?;
        }
        Ok(f64::from(leaves) / start.elapsed().as_secs_f64())
    };
    written().map_err(|error| unusable(directory, &error))
}

fn log_over(store: Arc<SqliteStore>) -> Result<Arc<Log>, Failure> {
    let pair = Ed25519KeyPair::generate().map_err(|_| defect("no key could be made"))?;
    let spki = spki_der(Algorithm::Ed25519, pair.public_key().as_ref());
    let key = KeyInfo {
        id: Sha256::of(&[&spki]),
        label: "bench-checkpoint-v1".into(),
        purpose: Purpose::Checkpoint,
        agent: None,
        version: 1,
        algorithm: Algorithm::Ed25519,
        spki,
        custody: CustodyAttributes::WORST,
        state: KeyState::Active,
    };
    Log::open(LogSetup {
        store,
        token: Arc::new(Software(pair)),
        checkpoint: CertifiedKey { key, chain: vec![] },
        transaction: None,
        settings: AuditSettings { checkpoint_leaves: BATCH, ..AuditSettings::default() },
        oid_base: crate::ca::settings::PkiSettings::default().oid_base,
    })
}

/// One key in memory, for a log that nobody relies on.
struct Software(Ed25519KeyPair);

impl Token for Software {
    fn call(&self, op: Op) -> Result<Reply, HsmFault> {
        let refused = |message: &str| HsmFault::Refused { name: "unsupported".into(), message: message.into() };
        let Op::Sign { input, .. } = op else {
            return Err(refused("it signs only"));
        };
        if !Purpose::Checkpoint.permits(&input) {
            return Err(refused("it signs checkpoints only"));
        }
        Ok(Reply::Signature(self.0.sign(&input.message()).as_ref().to_vec()))
    }
}

fn defect(why: &str) -> Failure {
    Failure::fault("bench_audit_invalid", format!("the log to measure: {why}"), "report this as a defect")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_log_is_measured_and_sound() {
        let report = run(Plan { leaves: 1_500 }, |_| {}).unwrap();
        assert_eq!((report.leaves, report.goals.len()), (1_500, 4));
        assert!(report.appends_per_s > 0.0 && report.raw_appends_per_s > 0.0 && report.bytes_per_leaf > 300.0);
        assert!(text(&report).contains("the whole check"));
    }
}
