//! Sequencing, signing, recovery and the check.

use std::sync::Arc;
use std::time::Duration;

use countersign::audit::settings::AuditSettings;
use countersign::audit::{Advance, Log, LogSetup};
use countersign::kernel::merkle::{NodeId, inclusion_path_from, verify_inclusion};
use countersign::kernel::note::{Checkpoint, SignedNote};
use countersign::kernel::receipt::verify;
use countersign::kernel::sign::Purpose;
use countersign::store::Store;

use super::memory::{Fault, MemoryStore, Rows};
use super::parties::{Bank, OID_BASE};

/// Longer than any healthy wait, short enough to fail a hung test.
const PATIENCE: Duration = Duration::from_secs(180);

pub fn open(bank: &Bank, store: &Arc<MemoryStore>) -> Arc<Log> {
    open_with(bank, store, AuditSettings { checkpoint_leaves: 64, ..AuditSettings::default() })
}

fn open_with(bank: &Bank, store: &Arc<MemoryStore>, settings: AuditSettings) -> Arc<Log> {
    Log::open(LogSetup {
        store: Arc::clone(store) as Arc<dyn Store>,
        token: Arc::clone(&bank.keys) as Arc<dyn countersign::hsm::Token>,
        checkpoint: bank.certified(Purpose::Checkpoint),
        transaction: Some(bank.certified(Purpose::Transaction)),
        settings,
        oid_base: OID_BASE.into(),
    })
    .unwrap()
}

/// Steps until nothing waits; answers how many checkpoints were signed.
pub fn advance_all(log: &Log) -> usize {
    let mut signed = 0;
    while let Advance::Signed { .. } = log.advance().unwrap() {
        signed += 1;
    }
    signed
}

fn newest_signed(store: &MemoryStore) -> (Checkpoint, SignedNote) {
    let record = store.signed_checkpoint().unwrap().unwrap();
    let note = SignedNote::parse(&record.signed.unwrap()).unwrap();
    (Checkpoint::parse(&note.text).unwrap(), note)
}

#[test]
fn a_thousand_leaves_get_a_signed_root_and_a_proof_for_every_index() {
    let (bank, store) = (Bank::new(), Arc::new(MemoryStore::default()));
    store.add_leaves(1000);
    let log = open(&bank, &store);
    assert_eq!(advance_all(&log), 16, "1,000 leaves, 64 a checkpoint");
    let (checkpoint, note) = newest_signed(&store);
    assert_eq!(checkpoint.size, 1000);
    assert_eq!(note.verify(&checkpoint.origin, &bank.keys.key(Purpose::Checkpoint).0.spki), Ok(()));
    let read = |node: NodeId| store.node(node.level, node.index).unwrap().ok_or(node);
    for index in 0..1000 {
        let path = inclusion_path_from(index, 1000, read).unwrap();
        let leaf = read(NodeId { level: 0, index }).unwrap();
        assert!(verify_inclusion(&leaf, index, 1000, &path, &checkpoint.root), "leaf {index}");
    }
    let report = log.check().unwrap();
    assert_eq!((&report["signed_size"], &report["waiting"]), (&1000.into(), &0.into()));
    assert_eq!(report["root"], checkpoint.root.hex());
}

#[test]
fn a_checkpoint_that_a_crash_left_unsigned_is_signed_as_it_stands() {
    let (bank, store) = (Bank::new(), Arc::new(MemoryStore::default()));
    store.add_leaves(5);
    bank.keys.pull_the_plug();
    assert_eq!(open(&bank, &store).advance().unwrap_err().name, "worker_gone");
    let journalled = store.newest_checkpoint().unwrap().unwrap();
    assert_eq!((journalled.size, &journalled.signed), (5, &None), "durable before it was signed");

    // More leaves arrive, then another process takes up the store.
    store.add_leaves(3);
    bank.keys.plug_in();
    let log = open(&bank, &store);
    assert_eq!(log.advance().unwrap(), Advance::Signed { size: 5 });
    let (checkpoint, note) = newest_signed(&store);
    assert_eq!(note.text.as_bytes(), journalled.note);
    assert_eq!(checkpoint.size, 5);
    assert_eq!(log.advance().unwrap(), Advance::Signed { size: 8 });
    assert_eq!(log.advance().unwrap(), Advance::Idle);
    log.check().unwrap();
}

#[test]
fn every_failing_write_heals_and_no_size_is_signed_with_two_texts() {
    for fault in [Fault::SequenceFails, Fault::SequenceFailsButApplied, Fault::KeepFails, Fault::KeepFailsButApplied] {
        let (bank, store) = (Bank::new(), Arc::new(MemoryStore::default()));
        store.add_leaves(3);
        store.rows().fault = Some(fault);
        let log = open(&bank, &store);
        assert_eq!(log.advance().unwrap_err().name, "outcome_unknown", "{fault:?}");
        store.add_leaves(2);
        advance_all(&log);
        assert_eq!(newest_signed(&store).0.size, 5, "{fault:?}");
        let mut notes = bank.keys.notes();
        notes.dedup();
        let sizes: Vec<u64> =
            notes.iter().map(|note| Checkpoint::parse(std::str::from_utf8(note).unwrap()).unwrap().size).collect();
        assert!(sizes.windows(2).all(|pair| pair[0] < pair[1]), "{fault:?}: {sizes:?}");
        log.check().unwrap();
    }
}

#[test]
fn the_log_waits_while_the_hsm_is_down_and_signs_when_it_is_back() {
    let (bank, store) = (Bank::new(), Arc::new(MemoryStore::default()));
    let log = open(&bank, &store);
    log.start().unwrap();
    bank.keys.pull_the_plug();
    store.add_leaves(10);
    let ids = store.post_unsigned(1, 1);
    log.notify();
    let pending = log.receipt(&ids[0], Duration::from_millis(200)).unwrap_err();
    assert_eq!((pending.name.as_str(), pending.retry), ("receipt_pending", true));

    bank.keys.plug_in();
    store.sign_batch(&bank, 1);
    log.notify();
    let receipt = log.receipt(&ids[0], PATIENCE).unwrap();
    let verdict = verify(&receipt.to_bytes().unwrap(), &bank.root, OID_BASE).unwrap();
    assert_eq!(verdict.statement().transaction_id, ids[0]);
    let state = log.state().unwrap();
    assert_eq!((state.size, state.signed_size, state.lag, state.running), (11, 11, 0, true));
    log.stop();
    assert!(!log.state().unwrap().running);
}

#[test]
fn state_names_the_fault_and_the_lag_while_the_hsm_is_down() {
    let (bank, store) = (Bank::new(), Arc::new(MemoryStore::default()));
    let ids = store.post(&bank, 1, 2);
    bank.keys.pull_the_plug();
    let log = open(&bank, &store);
    log.start().unwrap();
    // Each wait ends without a receipt; after the sequencer's first failed try it says why.
    let mut waits = (0..600).map(|_| log.receipt(&ids[0], Duration::from_millis(100)).unwrap_err());
    assert!(waits.any(|pending| pending.name == "receipt_pending" && pending.message.contains("no worker")));
    let state = log.state().unwrap();
    assert_eq!((state.size, state.signed_size, state.lag), (2, 0, 2));
    assert_eq!(state.fault.unwrap().name, "worker_gone");
    bank.keys.plug_in();
    log.receipt(&ids[1], PATIENCE).unwrap();
    log.stop();
    // Again after a stop, as after a restart.
    log.start().unwrap();
    let more = store.post(&bank, 2, 1);
    log.notify();
    log.receipt(&more[0], PATIENCE).unwrap();
    log.stop();
}

#[test]
fn every_one_of_many_transactions_gets_a_receipt_while_leaves_keep_coming() {
    let (bank, store) = (Bank::new(), Arc::new(MemoryStore::default()));
    let log = open(&bank, &store);
    log.start().unwrap();
    let mut ids = Vec::new();
    for batch in 1..=20 {
        store.add_leaves(7);
        ids.extend(store.post(&bank, batch, 7));
        log.notify();
    }
    for id in &ids {
        let receipt = log.receipt(id, PATIENCE).unwrap();
        let verdict = verify(&receipt.to_bytes().unwrap(), &bank.root, OID_BASE).unwrap();
        assert_eq!(verdict.statement().transaction_id, *id);
    }
    log.stop();
    log.check().unwrap();
}

#[test]
fn a_receipt_is_refused_or_pending_by_name() {
    let (bank, store) = (Bank::new(), Arc::new(MemoryStore::default()));
    let ids = store.post_unsigned(1, 2);
    let log = open(&bank, &store);
    let now = Duration::ZERO;
    let unknown = format!("txn_{:026}", 9).parse().unwrap();
    assert_eq!(log.receipt(&unknown, now).unwrap_err().name, "unknown_transaction");
    assert_eq!(log.receipt(&ids[0], PATIENCE).unwrap_err().name, "receipt_pending", "nothing runs: no waiting");
    advance_all(&log);
    assert_eq!(log.receipt(&ids[0], now).unwrap_err().name, "receipt_pending", "the batch is not signed");
    store.sign_batch(&bank, 1);
    log.receipt(&ids[0], now).unwrap();
    store.rows().batches.get_mut(&1).unwrap().key = None;
    assert_eq!(log.receipt(&ids[0], now).unwrap_err().name, "signing_key_replaced");
    store.sign_batch(&bank, 1);
    store.rows().batches.get_mut(&1).unwrap().leaves[1].0[0] ^= 1;
    assert_eq!(log.receipt(&ids[0], now).unwrap_err().name, "receipt_unverifiable");
}

#[test]
fn a_log_keeps_its_name_and_its_kind_of_key() {
    let (bank, store) = (Bank::new(), Arc::new(MemoryStore::default()));
    store.add_leaves(1);
    advance_all(&open(&bank, &store));
    let setup = |origin: &str, checkpoint: Purpose| LogSetup {
        store: Arc::clone(&store) as Arc<dyn Store>,
        token: Arc::clone(&bank.keys) as Arc<dyn countersign::hsm::Token>,
        checkpoint: bank.certified(checkpoint),
        transaction: Some(bank.certified(Purpose::Transaction)),
        settings: AuditSettings { origin: origin.into(), ..AuditSettings::default() },
        oid_base: OID_BASE.into(),
    };
    for (origin, key, name) in [
        ("bank.example/other", Purpose::Checkpoint, "log_origin_changed"),
        ("two words", Purpose::Checkpoint, "log_key_unfit"),
        ("", Purpose::Checkpoint, "log_key_unfit"),
        ("bank.countersign.example/log", Purpose::Transaction, "log_key_unfit"),
    ] {
        assert_eq!(Log::open(setup(origin, key)).unwrap_err().name, name, "{origin:?}");
    }
}

#[test]
fn the_check_finds_every_kind_of_tampering() {
    type Tamper = fn(&mut Rows);
    let table: [(&str, Tamper); 9] = [
        ("a body", |rows| rows.said(3).1[10] ^= 1),
        ("a salt", |rows| rows.said(3).0[0] ^= 1),
        ("a commitment", |rows| rows.leaves[3].commitment.0[0] ^= 1),
        ("body, salt and commitment together", |rows| {
            let content = rows.leaves[4].content.clone();
            rows.leaves[3].commitment = rows.leaves[4].commitment;
            rows.leaves[3].content = content;
        }),
        ("a leaf taken out", |rows| drop(rows.leaves.remove(3))),
        ("two leaves swapped", |rows| {
            let (one, other) = (rows.leaves[3].index, rows.leaves[4].index);
            (rows.leaves[3].index, rows.leaves[4].index) = (other, one);
        }),
        ("a node", |rows| rows.nodes.get_mut(&(1, 0)).unwrap().0[0] ^= 1),
        ("a signature", |rows| {
            let signed = rows.checkpoints.get_mut(&10).unwrap().signed.as_mut().unwrap();
            let last = signed.len() - 10;
            signed[last] = if signed[last] == b'A' { b'B' } else { b'A' };
        }),
        ("the last leaves cut off", |rows| rows.leaves.truncate(8)),
    ];
    for (what, tamper) in table {
        let (bank, store) = (Bank::new(), Arc::new(MemoryStore::default()));
        store.add_leaves(10);
        let log = open(&bank, &store);
        advance_all(&log);
        log.check().unwrap();
        tamper(&mut store.rows());
        assert_eq!(log.check().unwrap_err().name, "log_damaged", "{what}");
    }
}

#[test]
fn a_damaged_tree_is_never_signed() {
    let (bank, store) = (Bank::new(), Arc::new(MemoryStore::default()));
    store.add_leaves(6);
    let log = open(&bank, &store);
    advance_all(&log);
    let signed_before = bank.keys.notes().len();
    store.rows().nodes.get_mut(&(2, 0)).unwrap().0[5] ^= 1;
    store.add_leaves(1);
    assert_eq!(log.advance().unwrap_err().name, "log_damaged");
    store.rows().nodes.remove(&(2, 0));
    assert_eq!(log.advance().unwrap_err().name, "log_damaged");
    assert_eq!(bank.keys.notes().len(), signed_before);
    assert_eq!(store.newest_checkpoint().unwrap().unwrap().size, 6);
}

#[test]
fn the_newest_leaves_are_shown_with_their_bodies() {
    let (bank, store) = (Bank::new(), Arc::new(MemoryStore::default()));
    store.add_leaves(5);
    let log = open(&bank, &store);
    advance_all(&log);
    let shown = log.show(2).unwrap();
    let items = shown["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!((&items[1]["index"], &items[1]["body"]["number"]), (&4.into(), &4.into()));
    assert_eq!(items[1]["signed"], true);
    assert_eq!(log.show(0).unwrap()["items"].as_array().unwrap().len(), 0);
}
