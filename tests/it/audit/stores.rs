//! The auditor's tools on PostgreSQL: every verb of the store that they ask answers there as it does on SQLite.

use std::time::Duration;

use countersign::audit::prove::LeafChoice;
use countersign::audit::search::{Order, SearchCall};
use countersign::audit::{Log, Wrong};
use countersign::kernel::tile::{Tile, grown};
use countersign::kernel::{bundle, leaf_proof, receipt};
use countersign::store::Store;
use serde_json::{Value, json};

use super::parties::OID_BASE;
use super::payments::{Bank, Paid};
use super::searches::each_question_finds_its_leaves;
use super::tamper::{names, witnessed};
use crate::support::postgres::shared;

/// What differs from one bank to the next, although the same was done there: keys, times, salts.
fn counted(bank: &Bank) -> Value {
    let mut counted = bank.log.check().unwrap();
    assert_eq!(counted["sound"], true, "{counted}");
    counted.as_object_mut().unwrap().retain(|member, _| member != "root");
    counted
}

/// Tool or act of every leaf, in the log's order.
fn told(log: &Log) -> Vec<(u64, String)> {
    let page = log.search(&SearchCall { order: Order::OldestFirst, limit: 1000, ..SearchCall::default() }).unwrap();
    let word = |body: &Value| body["tool"].as_str().or(body["act"].as_str()).unwrap_or_default().to_owned();
    page.found.iter().map(|found| (found.leaf.index.unwrap(), word(found.body.as_ref().unwrap()))).collect()
}

#[test]
fn the_auditors_tools_answer_on_postgresql_what_they_answer_on_sqlite() {
    let database = shared().database();
    let (bank, paid) = Bank::with_payments_on(&database);
    let (other, _) = Bank::with_payments();
    assert_eq!(counted(&bank), counted(&other), "check");
    assert_eq!(told(&bank.log), told(&other.log), "search");
    each_question_finds_its_leaves(&bank, &paid);

    // Tail: the newest page, and what lies behind it.
    let newest = |bank: &Bank, order: Order| {
        let page = bank.log.search(&SearchCall { order, limit: 4, ..SearchCall::default() }).unwrap();
        (
            page.found.iter().map(|found| found.leaf.index).collect::<Vec<_>>(),
            page.next.map(|span| (span.from, span.end)),
        )
    };
    for order in [Order::NewestFirst, Order::OldestFirst] {
        assert_eq!(newest(&bank, order), newest(&other, order));
    }
    let shown = |bank: &Bank| {
        bank.log.show(3).unwrap()["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["index"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(&bank), shown(&other));

    // Receipt, proof and bundle verify with the root alone.
    let Paid { bought, approved, held, .. } = &paid;
    for transaction in [bought, approved] {
        let file = bank.log.receipt(transaction, Duration::ZERO).unwrap().to_bytes().unwrap();
        assert!(receipt::verify(&file, &bank.kit.root, OID_BASE).is_ok());
        let file = bank.log.bundle(transaction, Duration::ZERO).unwrap();
        assert!(bundle::verify(&file, &bank.kit.root, OID_BASE).is_ok());
    }
    let file = bank.log.bundle(approved, Duration::ZERO).unwrap();
    let members = |bank: &Bank, file: &[u8]| {
        bundle::verify(file, &bank.kit.root, OID_BASE)
            .unwrap()
            .members()
            .iter()
            .map(|(name, _)| name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(members(&bank, &file).len(), 9);
    assert_eq!(bank.log.bundle(held, Duration::ZERO).unwrap_err().name, "unknown_transaction");
    for choice in [LeafChoice::Index(0), LeafChoice::Transaction(bought.clone())] {
        let proof = bank.log.prove(&choice).unwrap();
        assert!(leaf_proof::verify(proof.as_bytes(), &bank.kit.root, OID_BASE).is_ok());
    }
    assert_eq!(bank.log.prove(&LeafChoice::Index(100_000)).unwrap_err().name, "unknown_leaf");
}

#[test]
fn the_verbs_of_the_check_answer_by_place_and_in_pages_on_both_stores() {
    let database = shared().database();
    let (on_postgres, _) = Bank::with_payments_on(&database);
    let (on_sqlite, _) = Bank::with_payments();
    let answers = |bank: &Bank| {
        let store: &dyn Store = &*bank.store;
        let secco = witnessed(bank);
        let size = store.newest_checkpoint().unwrap().unwrap().size;
        let extent = store.log_extent().unwrap().unwrap();
        assert_eq!(store.signed_checkpoint().unwrap(), store.newest_checkpoint().unwrap());
        assert_eq!(extent.placed, size);
        let all: Vec<u64> = store.leaves(0, 1000).unwrap().iter().map(|leaf| leaf.index.unwrap()).collect();
        assert_eq!(all, (0..size).collect::<Vec<_>>());
        // One page after the other is all of it, whatever is asked.
        let sizes: Vec<u64> = store.checkpoints(0, 1000).unwrap().iter().map(|record| record.size).collect();
        let mut paged = vec![];
        while let Some(record) = store.checkpoints(paged.last().map_or(0, |size| size + 1), 1).unwrap().pop() {
            paged.push(record.size);
        }
        assert_eq!(paged, sizes);
        let cosigned: Vec<u64> = store.cosignatures(0, 1000).unwrap().iter().map(|row| row.size).collect();
        assert_eq!(cosigned, sizes);
        let rows = store.cosignatures(sizes[1], 1).unwrap();
        assert_eq!((rows.len(), rows[0].size), (1, sizes[1]));
        assert_eq!(rows[0].chain.as_ref().and_then(|chain| chain.last()), Some(&secco.root));
        assert_eq!(rows[0].note, Some(store.checkpoints(sizes[1], 1).unwrap().remove(0).note));
        assert_eq!(store.cosigned_checkpoint().unwrap().unwrap().checkpoint.size, size);
        let batches: Vec<i64> = store.batches(0, 1000).unwrap().iter().map(|batch| batch.batch).collect();
        assert_eq!(store.batches(batches[0], 1).unwrap()[0].batch, batches[1]);
        assert_eq!(store.batches(*batches.last().unwrap(), 9).unwrap(), []);
        let bookings = store.bookings(0, 1000).unwrap();
        let behind = store.bookings(bookings[1].number, 1).unwrap();
        assert_eq!(behind[0].number, bookings[2].number);
        let mut levels = vec![];
        for level in 0..8_u8 {
            let nodes = store.tree_nodes(level, 0, 1000).unwrap();
            assert!(nodes.iter().map(|(place, _)| *place).eq(0..size >> level), "level {level}");
            for (place, hash) in nodes.iter().take(3) {
                assert_eq!(store.node(level, *place).unwrap().as_ref(), Some(hash));
            }
            assert_eq!(
                store.tree_nodes(level, 1, 2).unwrap(),
                nodes.iter().skip(1).take(2).cloned().collect::<Vec<_>>()
            );
            levels.push(nodes.len());
        }
        assert_eq!(extent.nodes, levels.iter().sum::<usize>() as u64);
        assert_eq!(store.unsequenced(9).unwrap(), []);
        for tile in grown(0, size).collect::<Vec<Tile>>() {
            assert!(!bank.log.tile(tile).unwrap().is_empty(), "{tile}");
        }
        let kinds: Vec<(String, String)> =
            bookings.iter().map(|booking| (booking.kind.clone(), booking.state.clone())).collect();
        // The number of a batch is its commit's, which each store counts in its own way.
        (sizes, batches.len(), kinds, levels)
    };
    assert_eq!(answers(&on_postgres), answers(&on_sqlite));
}

#[test]
fn an_erasure_is_sound_on_both_stores_and_a_leaf_in_the_clear_gets_no_place() {
    let database = shared().database();
    let (bank, paid) = Bank::with_payments_on(&database);
    let (other, _) = Bank::with_payments();
    for bank in [&bank, &other] {
        bank.erases("owner:OWN_001");
    }
    let found = counted(&bank);
    assert_eq!(found, counted(&other));
    assert!(found["erased"].as_u64().unwrap() > 5, "{found}");
    assert_eq!(bank.log.bundle(&paid.bought, Duration::ZERO).unwrap_err().name, "leaf_erased");
    let undone = "UPDATE data_keys SET wrapped = '\\x00', subject = 'owner:OWN_001' WHERE subject LIKE 'erased:%'";
    database.sql(undone);
    assert!(names(&bank.log.examine(None, &mut |_| {}).unwrap()).contains(&Wrong::ErasureUndone));

    let (other, _) = (shared().database(), ());
    let (bank, _) = Bank::with_payments_on(&other);
    let commitment = countersign::kernel::receipt::commitment(&[9; 32], b"{}").hex();
    let salt = hex::encode([9; 32]);
    other.sql(&format!(
        "INSERT INTO leaves (row, commitment, salt, body) SELECT max(row) + 1, '\\x{commitment}', '\\x{salt}', '{{}}' FROM leaves;
         INSERT INTO leaves_waiting (row) SELECT max(row) FROM leaves"
    ));
    assert_eq!(bank.log.advance().unwrap_err().name, "log_damaged");
    assert_eq!(names(&bank.log.examine(None, &mut |_| {}).unwrap()), [Wrong::LeafInTheClear]);
}

/// Each undoes itself when it is done twice.
const DEEDS: &[(&str, Wrong)] = &[
    (
        "UPDATE leaves SET body = set_byte(body, 5, get_byte(body, 5) # 1) WHERE row = (SELECT row FROM places WHERE place = 3)",
        Wrong::LeafNotCommitted,
    ),
    (
        "UPDATE leaves SET body = set_byte(body, 60, get_byte(body, 60) # 1) WHERE row = (SELECT row FROM places WHERE place = 3)",
        Wrong::LeafNotCommitted,
    ),
    (
        "UPDATE leaves SET commitment = set_byte(commitment, 5, get_byte(commitment, 5) # 1) WHERE row = (SELECT row FROM places WHERE place = 3)",
        Wrong::LeafNotCommitted,
    ),
    ("UPDATE places SET place = 1000003 - place WHERE place IN (3, 1000000)", Wrong::LeafMissing),
    (
        "UPDATE nodes SET hash = set_byte(hash, 5, get_byte(hash, 5) # 1) WHERE level = 0 AND place = 3",
        Wrong::NodeDiffers,
    ),
    (
        "UPDATE nodes SET hash = set_byte(hash, 5, get_byte(hash, 5) # 1) WHERE level = 2 AND place = 1",
        Wrong::NodeDiffers,
    ),
    ("UPDATE nodes SET place = 1000001 - place WHERE level = 1 AND place IN (1, 1000000)", Wrong::NodeMissing),
    ("UPDATE checkpoints SET root = set_byte(root, 5, get_byte(root, 5) # 1)", Wrong::CheckpointColumnsDiffer),
    ("UPDATE checkpoints SET signed = set_byte(signed, 5, get_byte(signed, 5) # 1)", Wrong::CheckpointTextDiffers),
    (
        "UPDATE batches SET signature = set_byte(signature, 20, get_byte(signature, 20) # 1)",
        Wrong::BatchSignatureInvalid,
    ),
    ("UPDATE batches SET key = set_byte(key, 5, get_byte(key, 5) # 1)", Wrong::BatchKeyUnknown),
    (
        "UPDATE transactions SET amount = amount # 1 WHERE state = 'executed' AND kind = 'purchase'",
        Wrong::StatementDiffers,
    ),
    (
        "UPDATE transactions SET posted_at = posted_at # 1 WHERE state = 'executed' AND kind = 'purchase'",
        Wrong::StatementDiffers,
    ),
    ("UPDATE transactions SET amount = amount # 1 WHERE state = 'approved'", Wrong::AmountDiffers),
    ("UPDATE cosignatures SET line = reverse(line)", Wrong::CosignatureUnreadable),
    ("UPDATE cosignatures SET size = size # 64", Wrong::CosignatureWithoutCheckpoint),
    ("UPDATE witness_chains SET certificates = reverse(certificates)", Wrong::CosignatureUnreadable),
    ("UPDATE witness_chains SET name = set_byte(name, 5, get_byte(name, 5) # 1)", Wrong::CosignatureUnreadable),
];

#[test]
fn what_somebody_changes_behind_the_back_of_a_bank_on_postgresql_is_named() {
    let database = shared().database();
    let (bank, _) = Bank::with_payments_on(&database);
    let roots = [witnessed(&bank).root.clone()];
    let examine = || bank.log.examine_witnessed(None, Some(&roots), &mut |_| {}).unwrap();
    assert_eq!(names(&examine()), []);
    for (deed, wrong) in DEEDS {
        database.sql(deed);
        let examined = examine();
        assert!(names(&examined).contains(wrong), "{deed}: {wrong:?} is not in {:#}", examined.to_json());
        database.sql(deed);
        assert_eq!(names(&examine()), [], "{deed}: it was undone");
    }
    assert_eq!(examine().to_json()["sound"], json!(true));
}
