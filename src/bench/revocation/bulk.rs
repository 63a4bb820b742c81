//! Many certificates revoked, against bare inserts of as many rows in as many transactions.

use std::time::Instant;

use rusqlite::{Connection, params};

use super::Plan;
use crate::bench::directory::Directory;
use crate::bench::figures::Spread;
use crate::bench::served::operator;
use crate::bench::stop::Stop;
use crate::kernel::command::{Act, Actor, CertificateRecord, Command, RevocationTarget};
use crate::kernel::decide::SERIALS_MAX;
use crate::kernel::types::{Serial, Sha256};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;

/// Commands that are handed over at once while certificates are made up.
const MADE_AT_ONCE: usize = 512;
/// As long as an agent's.
const TBS_BYTES: usize = 700;

pub(super) struct Bulk {
    pub(super) ours: Spread,
    pub(super) raw: Spread,
    pub(super) ratio: Spread,
}

pub(super) fn measure(plan: &Plan, stop: &Stop) -> Result<Bulk, Failure> {
    let (mut ours, mut raw, mut ratios) = (vec![], vec![], vec![]);
    for _ in 0..plan.rounds {
        stop.check()?;
        let directory = Directory::make(&plan.directory)?;
        let bare = rows_per_second(plan, &directory)?;
        let store = SqliteStore::open(&directory.path().join("ours/store.sqlite3"))?;
        let serials = issued(plan, &*store)?;
        let start = Instant::now();
        for portion in serials.chunks(SERIALS_MAX) {
            let target = RevocationTarget::Certificates { issuer: "bb".into(), serials: portion.to_vec() };
            let act = Act::Revoke { target, reason: "superseded".into() };
            apply(&*store, vec![(operator("olga"), act)])?;
        }
        let rate = f64::from(plan.entries) / start.elapsed().as_secs_f64();
        if store.revoked_since("bb", crate::kernel::types::UnixMillis(0))?.total != u64::from(plan.entries) {
            return Err(Failure::fault("bench_failed", "not all were revoked", "report this as a defect"));
        }
        ours.push(rate);
        raw.push(bare);
        ratios.push(rate / bare);
    }
    Ok(Bulk { ours: Spread::of(ours), raw: Spread::of(raw), ratio: Spread::of(ratios) })
}

fn issued(plan: &Plan, store: &dyn Store) -> Result<Vec<Serial>, Failure> {
    let serials: Vec<Serial> = (0..plan.entries).map(serial).collect::<Result<_, _>>()?;
    for portion in serials.chunks(MADE_AT_ONCE) {
        let journal = |serial: &Serial| {
            let record = CertificateRecord {
                id: clock::fresh_id("crt_"),
                profile: "agent-b".into(),
                subject: format!("spiffe://countersign.example/agent/purchaser/a{serial}"),
                issuer: "bb".into(),
                serial: serial.clone(),
                key: Sha256::of(&[serial.as_bytes()]),
                not_after: clock::now().plus_ms(86_400_000),
                tbs: vec![7; TBS_BYTES],
                der: None,
            };
            (Actor::System { component: "bench".into() }, Act::JournalCertificate { record })
        };
        apply(store, portion.iter().map(journal).collect())?;
    }
    Ok(serials)
}

pub(super) fn serial(number: u32) -> Result<Serial, Failure> {
    let hash = Sha256::of(&[&number.to_be_bytes()]);
    let bytes = [&[0x41][..], &hash.0[..15]].concat();
    Serial::from_bytes(&bytes).map_err(|error| Failure::fault("bench_failed", error.to_string(), "report it"))
}

fn apply(store: &dyn Store, acts: Vec<(Actor, Act)>) -> Result<(), Failure> {
    let command = |(actor, act)| Command { stamp: clock::stamp(clock::fresh_request_id()), actor, act };
    for decision in store.apply(acts.into_iter().map(command).collect())? {
        decision.outcome.map_err(|refusal| Failure::fault("bench_failed", refusal.to_string(), "report it"))?;
    }
    Ok(())
}

/// The same columns and indexes, in a table that has nothing else to do.
fn rows_per_second(plan: &Plan, directory: &Directory) -> Result<f64, Failure> {
    let run = || -> rusqlite::Result<f64> {
        let mut connection = Connection::open(directory.path().join("raw.sqlite3"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "CREATE TABLE revocations (mark TEXT PRIMARY KEY, kind TEXT NOT NULL, issuer TEXT, value TEXT NOT NULL,
             at INTEGER NOT NULL, reason TEXT NOT NULL, swept INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
             CREATE INDEX of_issuer ON revocations (issuer, at) WHERE kind = 'certificate';
             CREATE INDEX unswept ON revocations (mark) WHERE swept = 0;",
        )?;
        let serials: Vec<Serial> = (0..plan.entries).filter_map(|number| serial(number).ok()).collect();
        let start = Instant::now();
        for portion in serials.chunks(SERIALS_MAX) {
            let transaction = connection.transaction()?;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO revocations (mark, kind, issuer, value, at, reason) VALUES (?1, 'certificate', 'bb', ?2, ?3, ?4)",
            )?;
            for serial in portion {
                let hex = serial.hex();
                insert.execute(params![format!("cert:bb:{hex}"), hex, clock::now().0, "superseded"])?;
            }
            drop(insert);
            transaction.commit()?;
        }
        Ok(f64::from(plan.entries) / start.elapsed().as_secs_f64())
    };
    run().map_err(|error| Failure::fault("bench_failed", error.to_string(), "check the directory"))
}
