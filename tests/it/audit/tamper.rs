//! The check of the log against somebody who writes into the database and the tiles behind its back.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign::audit::copy::Copy;
use countersign::audit::export::{ExportCall, Format};
use countersign::audit::retention::{Doubt, Start};
use countersign::audit::search::SearchQuery;
use countersign::audit::{CopyHead, Examined, Wrong, cosigned_at};
use countersign::kernel::command::Act;
use countersign::kernel::note::Checkpoint;
use countersign::kernel::sign::Algorithm;
use countersign::kernel::tile::Tile;
use countersign::kernel::types::{Sha256, UnixMillis};
use countersign::kernel::vault::{SealedCredential, VaultAct};
use countersign::ops::clock;
use countersign::store::LeafContent;
use rusqlite::Connection;

use super::log::{advance_all, open};
use super::memory::MemoryStore;
use super::parties::{Bank as BareBank, OID_BASE};
use super::payments::{Bank, Paid};
use crate::store::vault::{put, rotate, sealed};
use crate::store::world::World;

/// Where the bank's own code does not look: another connection to its file.
fn behind(bank: &Bank, sql: &str) -> usize {
    opened(bank).execute(sql, []).unwrap()
}

fn opened(bank: &Bank) -> Connection {
    let connection = Connection::open(bank.database()).unwrap();
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    connection
}

fn examine(bank: &Bank) -> Examined {
    bank.log.examine(None, &mut |_| {}).unwrap()
}

pub fn names(examined: &Examined) -> Vec<Wrong> {
    examined.findings.told.iter().map(|finding| finding.name).collect()
}

#[test]
fn a_book_with_payments_of_every_kind_is_sound() {
    let (bank, _) = Bank::with_payments();
    let examined = examine(&bank);
    assert_eq!(examined.findings.told, [], "{:#}", examined.to_json());
    let counted = &examined.counted;
    assert!(counted["leaves"].as_u64().unwrap() > 16, "{counted}");
    assert_eq!((&counted["postings"], &counted["transactions"]), (&4.into(), &7.into()), "{counted}");
    assert_eq!(counted["leaves"], counted["signed_size"]);
    assert_eq!(bank.log.check().unwrap()["sound"], true);
}

/// A change of one byte in the middle of a column.
fn flipped(table: &str, column: &str, whose: &str, at: &str) -> String {
    // SQLite has no operation on bytes: the byte is exchanged by its hexadecimal digits.
    format!(
        "UPDATE {table} SET {column} = CAST(substr({column}, 1, {at} - 1) || \
         CASE WHEN hex(substr({column}, {at}, 1)) = '41' THEN x'42' ELSE x'41' END || \
         substr({column}, {at} + 1) AS BLOB) WHERE {whose}"
    )
}

/// A change of one letter of a text.
fn letter(table: &str, column: &str, at: &str, whose: &str) -> String {
    format!(
        "UPDATE {table} SET {column} = substr({column}, 1, {at} - 1) || \
         CASE substr({column}, {at}, 1) WHEN 'A' THEN 'B' ELSE 'A' END || substr({column}, {at} + 1) WHERE {whose}"
    )
}

#[test]
fn every_record_that_somebody_changes_is_named() {
    use Wrong::*;
    let flip = |table: &str, column: &str, whose: &str| flipped(table, column, whose, "5");
    let leaf_3 = "row = (SELECT row FROM places WHERE place = 3)";
    let key_3 = "id = (SELECT data_key FROM leaves WHERE row = (SELECT row FROM places WHERE place = 3))";
    let newest = "size = (SELECT max(size) FROM checkpoints)";
    let paid = "state = 'executed' AND kind = 'purchase'";
    let cosigned = "size = (SELECT max(size) FROM cosignatures)";
    let table: Vec<(&str, Vec<String>, Wrong)> = vec![
        ("a sealed leaf's salt", vec![flip("leaves", "body", leaf_3)], LeafNotCommitted),
        ("a sealed leaf's body", vec![flipped("leaves", "body", leaf_3, "100")], LeafNotCommitted),
        ("a sealed leaf's tag", vec![flipped("leaves", "body", leaf_3, "length(body)")], LeafNotCommitted),
        ("a sealed leaf cut", vec![format!("UPDATE leaves SET body = substr(body, 1, 20) WHERE {leaf_3}")], LeafNotCommitted),
        ("a sealed leaf emptied", vec![format!("UPDATE leaves SET body = x'' WHERE {leaf_3}")], LeafNotCommitted),
        ("a salt beside a sealed leaf", vec![format!("UPDATE leaves SET salt = x'41' WHERE {leaf_3}")], LeafNotCommitted),
        ("a sealed leaf called clear", vec![format!("UPDATE leaves SET data_key = NULL WHERE {leaf_3}")], LeafInTheClear),
        (
            "a leaf in the clear in the place of a sealed one",
            vec![format!("UPDATE leaves SET data_key = NULL, salt = zeroblob(32), body = x'7b7d' WHERE {leaf_3}")],
            LeafInTheClear,
        ),
        ("another data key", vec![format!("UPDATE leaves SET data_key = data_key + 1 WHERE {leaf_3}")], LeafNotCommitted),
        ("a data key's nonce", vec![flipped("data_keys", "wrapped", key_3, "5")], LeafNotCommitted),
        ("a data key", vec![flipped("data_keys", "wrapped", key_3, "30")], LeafNotCommitted),
        ("a data key's tag", vec![flipped("data_keys", "wrapped", key_3, "length(wrapped)")], LeafNotCommitted),
        ("a data key's month", vec![format!("UPDATE data_keys SET period = period + 1 WHERE {key_3}")], LeafNotCommitted),
        ("a data key's subject", vec![format!("UPDATE data_keys SET subject = 'owner:OWN_9' WHERE {key_3}")], LeafNotCommitted),
        ("a data key's store key", vec![format!("UPDATE data_keys SET store_key = 9 WHERE {key_3}")], LeafNotCommitted),
        ("a data key removed", vec![format!("DELETE FROM data_keys WHERE {key_3}")], LeafNotCommitted),
        ("a data key destroyed", vec![format!("UPDATE data_keys SET wrapped = NULL WHERE {key_3}")], KeyDestroyedWithoutLeaf),
        (
            "a data key destroyed as an erasure does",
            vec![format!("UPDATE data_keys SET wrapped = NULL, destroyed = made, subject = 'lapsed' WHERE {key_3}")],
            KeyDestroyedWithoutLeaf,
        ),
        ("a leaf's commitment", vec![flip("leaves", "commitment", leaf_3)], LeafNotCommitted),
        ("a leaf's place", vec!["UPDATE places SET place = 99999 WHERE place = 3".into()], LeafMissing),
        ("a leaf without a place", vec!["DELETE FROM places WHERE place = 3".into()], LeafMissing),
        ("a leaf removed", vec!["DELETE FROM leaves WHERE row = (SELECT row FROM places WHERE place = 3)".into()], LeafMissing),
        (
            "two leaves exchanged",
            vec![
                "UPDATE places SET place = 99999 WHERE place = 3".into(),
                "UPDATE places SET place = 3 WHERE place = 4".into(),
                "UPDATE places SET place = 4 WHERE place = 99999".into(),
            ],
            LeafMoved,
        ),
        (
            "a leaf replaced by a copy of another",
            vec![
                "UPDATE leaves SET (body, data_key, commitment) = (SELECT body, data_key, commitment FROM leaves
                 WHERE row = (SELECT row FROM places WHERE place = 5)) WHERE row = (SELECT row FROM places WHERE place = 3)"
                    .into(),
            ],
            LeafMoved,
        ),
        ("a node of a leaf", vec![flip("nodes", "hash", "level = 0 AND place = 3")], NodeDiffers),
        ("a node", vec![flip("nodes", "hash", "level = 2 AND place = 1")], NodeDiffers),
        ("a node removed", vec!["DELETE FROM nodes WHERE level = 1 AND place = 1".into()], NodeMissing),
        ("a node too many", vec!["INSERT INTO nodes VALUES (9, 7, zeroblob(32))".into()], NodeTooMany),
        ("a checkpoint's root", vec![flip("checkpoints", "root", newest)], CheckpointColumnsDiffer),
        (
            "a checkpoint's text",
            vec![flipped("checkpoints", "note", newest, "length(note) - 10")],
            CheckpointColumnsDiffer,
        ),
        ("a checkpoint's name", vec![flip("checkpoints", "note", newest)], CheckpointOriginDiffers),
        ("a checkpoint that is none", vec![format!("UPDATE checkpoints SET note = x'00' WHERE {newest}")], CheckpointUnreadable),
        (
            "a signed text",
            vec![flipped("checkpoints", "signed", newest, "5")],
            CheckpointTextDiffers,
        ),
        (
            "a signature",
            vec![flipped("checkpoints", "signed", newest, "length(signed) - 20")],
            CheckpointSignatureInvalid,
        ),
        (
            "a signature taken from another checkpoint",
            vec![format!("UPDATE checkpoints SET signed = (SELECT signed FROM checkpoints ORDER BY size LIMIT 1) WHERE {newest}")],
            CheckpointTextDiffers,
        ),
        (
            "an older signature removed",
            vec!["UPDATE checkpoints SET signed = NULL WHERE size = (SELECT min(size) FROM checkpoints)".into()],
            CheckpointSignatureMissing,
        ),
        ("the newest checkpoint removed", vec![format!("DELETE FROM checkpoints WHERE {newest}")], LeafBeyondCheckpoint),
        (
            "a cosignature",
            vec![letter("cosignatures", "line", "length(line) - 8", cosigned)],
            CosignatureInvalid,
        ),
        (
            "a cosignature's time",
            vec![letter("cosignatures", "line", "38", cosigned)],
            CosignatureInvalid,
        ),
        (
            "a cosignature that is no line",
            vec![format!("UPDATE cosignatures SET line = 'w ' || line WHERE {cosigned}")],
            CosignatureUnreadable,
        ),
        (
            "another checkpoint's cosignature",
            vec![format!("UPDATE cosignatures SET line = (SELECT line FROM cosignatures ORDER BY size LIMIT 1) WHERE {cosigned}")],
            CosignatureInvalid,
        ),
        (
            "a witness's certificates",
            vec![letter("witness_chains", "certificates", "400", "1")],
            CosignatureInvalid,
        ),
        (
            "certificates that are none",
            vec!["UPDATE witness_chains SET certificates = substr(certificates, 9)".into()],
            CosignatureUnreadable,
        ),
        (
            "the newest checkpoint removed beneath its cosignature",
            vec![format!("DELETE FROM checkpoints WHERE {newest}")],
            CosignatureWithoutCheckpoint,
        ),
        ("a witness's certificates removed", vec!["DELETE FROM witness_chains".into()], CosignatureUnreadable),
        (
            "a cosigned checkpoint removed",
            vec!["DELETE FROM checkpoints WHERE size = (SELECT min(size) FROM cosignatures)".into()],
            CosignatureWithoutCheckpoint,
        ),
        (
            "the end cut off",
            vec![
                "DELETE FROM places WHERE place > 17".into(),
                "DELETE FROM nodes WHERE (place + 1) << level > 18".into(),
            ],
            LogTruncated,
        ),
        (
            "a batch's document",
            vec![flipped("batches", "document", "batch = (SELECT min(batch) FROM batches)", "10")],
            BatchSignatureInvalid,
        ),
        (
            "a batch's root",
            vec![flipped("batches", "document", "batch = (SELECT min(batch) FROM batches)", "length(document) - 45")],
            BatchDocumentDiffers,
        ),
        (
            "a batch's statements",
            vec![flip("batches", "leaves", "batch = (SELECT max(batch) FROM batches)")],
            BatchDocumentDiffers,
        ),
        (
            "a batch's signature",
            vec!["UPDATE batches SET signature = x'3006020101020101'".into()],
            BatchSignatureInvalid,
        ),
        ("a batch's key", vec![flip("batches", "key", "1")], BatchKeyUnknown),
        ("a batch removed", vec!["DELETE FROM batches WHERE batch = (SELECT max(batch) FROM batches)".into()], PostingNotInBatch),
        ("an amount", vec![format!("UPDATE transactions SET amount = amount + 1 WHERE {paid}")], StatementDiffers),
        ("an account that is paid", vec![format!("UPDATE transactions SET credit = 'SAV_001' WHERE {paid}")], StatementDiffers),
        ("a time", vec![format!("UPDATE transactions SET posted_at = posted_at + 1 WHERE {paid}")], StatementDiffers),
        (
            "a statement",
            vec![format!("UPDATE transactions SET statement = CAST(replace(CAST(statement AS TEXT), '189999', '189998') AS BLOB) WHERE {paid}")],
            PostingLeafDiffers,
        ),
        ("a place in the batch", vec![format!("UPDATE transactions SET index_in_batch = 7 WHERE {paid}")], PostingLeafDiffers),
        ("a posting's leaf", vec![format!("UPDATE transactions SET leaf = leaf - 1 WHERE {paid}")], PostingLeafDiffers),
        (
            "a posting that no leaf says",
            vec!["UPDATE transactions SET state = 'executed', posted_at = created, batch = 1, index_in_batch = 0,
                  statement = x'7b7d', leaf = NULL WHERE state = 'approved'"
                .into()],
            PostingWithoutLeaf,
        ),
        (
            "an opening with another one's leaf",
            vec!["UPDATE transactions SET leaf = 5 WHERE kind = 'opening' AND credit = 'CHK_001'".into()],
            PostingLeafDiffers,
        ),
        ("a payment taken back", vec![format!("UPDATE transactions SET state = 'cancelled' WHERE {paid}")], LeafWithoutPosting),
        ("a payment removed", vec![format!("DELETE FROM transactions WHERE {paid}")], LeafWithoutPosting),
        ("a hold removed", vec!["DELETE FROM transactions WHERE state = 'approved'".into()], LeafWithoutTransaction),
        ("a hold's amount", vec!["UPDATE transactions SET amount = 1 WHERE state = 'approved'".into()], AmountDiffers),
        ("a hold cancelled", vec!["UPDATE transactions SET state = 'cancelled' WHERE state = 'approved'".into()], StatusDiffers),
        ("a cancelled one that stands", vec!["UPDATE transactions SET state = 'approved' WHERE state = 'cancelled'".into()], StatusDiffers),
        ("a denied one that stands", vec!["UPDATE transactions SET state = 'approved' WHERE state = 'denied'".into()], StatusDiffers),
        (
            "a hold that nobody asked for",
            vec!["UPDATE transactions SET name = 'txn_ZZZZZZZZZZZZZZZZZZZZZZZZZZ' WHERE state = 'approved'".into()],
            HoldWithoutLeaf,
        ),
    ];
    let (bank, _) = Bank::with_payments();
    let secco = witnessed(&bank);
    let roots = [secco.root.clone()];
    let examine = |bank: &Bank| bank.log.examine_witnessed(None, Some(&roots), &mut |_| {}).unwrap();
    assert_eq!(names(&examine(&bank)), []);
    // Nothing is written any more: one copy of the file is every row's beginning.
    let original = bank.directory().join("original.sqlite3");
    Connection::open(bank.database()).unwrap().execute(&format!("VACUUM INTO '{}'", original.display()), []).unwrap();
    for (what, changes, wrong) in table {
        let changed: usize = changes.iter().map(|sql| behind(&bank, sql)).sum();
        assert!(changed > 0, "{what}: nothing was changed");
        let examined = examine(&bank);
        let found = names(&examined);
        assert!(found.contains(&wrong), "{what}: {wrong:?} is not in {:#}", examined.to_json());
        assert_eq!(bank.log.check().unwrap_err().name, "log_damaged", "{what}");
        restore(&bank, &original);
    }
    assert_eq!(names(&examine(&bank)), []);
}

/// What is sealed says by itself whether it was changed, and not whether it is the last that was put there.
#[test]
fn every_row_of_the_vault_that_somebody_changes_is_named() {
    let (bank, _) = Bank::with_payments();
    let w = World::new(&*bank.store);
    w.ids.set(5_000_000);
    w.now.set(clock::now().0);
    let row = |of: &str, version: u64| SealedCredential { made: UnixMillis(w.now.get()), ..sealed(of, version) };
    let anew = |row: &SealedCredential, under: u8, value: &[u8]| {
        Act::Vault(VaultAct::Rewrap {
            name: row.name.clone(),
            version: row.version,
            before: row.sealed_sha256(),
            key: Sha256([under; 32]),
            sealed: value.to_vec(),
        })
    };
    for act in [
        put(row("a", 1)),
        rotate(row("a", 2)),
        rotate(row("a", 3)),
        Act::Vault(VaultAct::Remove { name: "a".parse().unwrap(), version: Some(1) }),
        put(row("b", 1)),
        anew(&row("b", 1), 2, b"sealed anew"),
        put(row("gone", 1)),
        Act::Vault(VaultAct::Remove { name: "gone".parse().unwrap(), version: None }),
    ] {
        w.admin(act).unwrap();
    }
    // Refused and repeated ones say nothing.
    assert!(w.admin(put(row("a", 9))).is_err());
    bank.settle();
    assert_eq!(names(&examine(&bank)), []);
    // One that came in since is judged by its own leaf, which has no place yet.
    w.admin(rotate(row("b", 2))).unwrap();
    assert_eq!(names(&examine(&bank)), []);
    let connection = opened(&bank);
    connection
        .execute_batch(
            "CREATE TABLE kept_names AS SELECT * FROM vault_names; CREATE TABLE kept AS SELECT * FROM vault_versions",
        )
        .unwrap();
    let of_a = "WHERE name = 'a' AND version = 3";
    let rolled_back = "DELETE FROM vault_versions WHERE name = 'a' AND version = 3; UPDATE vault_names SET newest = 2 WHERE name = 'a'";
    let planted = "INSERT INTO vault_versions (name, version, description, readers, made, made_by, wrapping_key, sealed)
                   SELECT 'planted', 1, description, readers, made, made_by, wrapping_key, sealed FROM kept WHERE name = 'b' AND version = 1";
    let back = "INSERT INTO vault_versions (name, version, description, readers, made, made_by, wrapping_key, sealed)
                SELECT 'a', 1, description, readers, made, made_by, wrapping_key, sealed FROM kept WHERE name = 'b' AND version = 1";
    for (what, sql, on, findings) in [
        ("an older state put back", rolled_back.to_owned(), "a", 2),
        ("a version deleted", format!("DELETE FROM vault_versions {of_a}"), "a", 1),
        ("an older version deleted", "DELETE FROM vault_versions WHERE name = 'a' AND version = 2".into(), "a", 1),
        ("a name forgotten", "DELETE FROM vault_versions WHERE name = 'a'; DELETE FROM vault_names WHERE name = 'a'".into(), "a", 3),
        ("a name forgotten that had no version", "DELETE FROM vault_names WHERE name = 'gone'".into(), "gone", 1),
        ("a number that goes back", "UPDATE vault_names SET newest = 1 WHERE name = 'gone'; UPDATE vault_names SET newest = 0 WHERE name = 'gone'".into(), "gone", 1),
        (
            "what an older rewrap had",
            "UPDATE vault_versions SET sealed = CAST('sealed b 1' AS BLOB), wrapping_key = (SELECT wrapping_key FROM kept WHERE name = 'a' LIMIT 1)
             WHERE name = 'b' AND version = 1"
                .into(),
            "b",
            1,
        ),
        ("a value exchanged with another", format!("UPDATE vault_versions SET sealed = (SELECT sealed FROM kept WHERE name = 'b' AND version = 1) {of_a}"), "a", 1),
        ("a reader more", format!("UPDATE vault_versions SET readers = '[\"operator:eve\"]' {of_a}"), "a", 1),
        ("another end", format!("UPDATE vault_versions SET expires = 1 {of_a}"), "a", 1),
        ("another text", format!("UPDATE vault_versions SET description = 'of another' {of_a}"), "a", 1),
        ("a row that is none", format!("UPDATE vault_versions SET readers = 'x' {of_a}"), "a", 1),
        ("a version that was removed", back.into(), "a", 1),
        ("a name that nobody kept", planted.into(), "planted", 1),
    ] {
        connection.execute_batch(&sql).unwrap();
        let examined = examine(&bank);
        let found: Vec<_> = examined.findings.told.iter().map(|finding| (finding.name, finding.on.as_str())).collect();
        assert_eq!(found, vec![(Wrong::VaultRowDiffers, on); findings], "{what}: {:#}", examined.to_json());
        connection
            .execute_batch(
                "DELETE FROM vault_names; INSERT INTO vault_names SELECT * FROM kept_names;
                 DELETE FROM vault_versions; INSERT INTO vault_versions SELECT * FROM kept",
            )
            .unwrap();
        assert_eq!(names(&examine(&bank)), [], "{what}");
    }
}

/// Every checkpoint cosigned by a security company, whose keys this answers.
pub fn witnessed(bank: &Bank) -> BareBank {
    let secco = BareBank::new();
    for record in bank.store.checkpoints(0, 1_000).unwrap() {
        let checkpoint = Checkpoint::parse(std::str::from_utf8(&record.note).unwrap()).unwrap();
        bank.store.store_cosignature(record.size, secco.cosign(&checkpoint)).unwrap();
    }
    secco
}

#[test]
fn a_cosignature_counts_under_the_root_of_somebody_who_is_trusted() {
    for notes in [Algorithm::Ed25519, Algorithm::P256] {
        let (bank, _) = Bank::with_payments();
        let (secco, other) = (BareBank::with_notes(notes), BareBank::new());
        let checkpoints = bank.store.checkpoints(0, 1_000).unwrap();
        assert!(checkpoints.len() > 1);
        for record in &checkpoints {
            let checkpoint = Checkpoint::parse(std::str::from_utf8(&record.note).unwrap()).unwrap();
            bank.store.store_cosignature(record.size, secco.cosign(&checkpoint)).unwrap();
        }
        let under = |roots: Option<&[Vec<u8>]>| {
            let examined = bank.log.examine_witnessed(None, roots, &mut |_| {}).unwrap();
            assert_eq!(examined.counted["cosignatures"], checkpoints.len());
            names(&examined)
        };
        let of_another = vec![Wrong::CosignatureOfAnother; checkpoints.len()];
        assert_eq!(under(None), []);
        assert_eq!(under(Some(&[other.root.clone(), secco.root.clone()])), []);
        assert_eq!(under(Some(std::slice::from_ref(&other.root))), of_another);
        assert_eq!(under(Some(&[])), of_another);
        assert_eq!(bank.log.check().unwrap()["sound"], true);
    }
}

/// Every table as it was.
fn restore(bank: &Bank, original: &Path) {
    let mut connection = opened(bank);
    connection.execute("ATTACH ?1 AS original", [original.to_str().unwrap()]).unwrap();
    let back = connection.transaction().unwrap();
    let tables = [
        "leaves",
        "places",
        "data_keys",
        "nodes",
        "checkpoints",
        "batches",
        "transactions",
        "cosignatures",
        "witness_chains",
    ];
    for table in tables {
        back.execute_batch(&format!(
            "DELETE FROM main.{table}; INSERT INTO main.{table} SELECT * FROM original.{table};"
        ))
        .unwrap();
    }
    back.commit().unwrap();
}

#[test]
fn one_wrong_record_is_one_finding() {
    let (bank, _) = Bank::with_payments();
    for (sql, wrong, on) in [
        (
            flipped("leaves", "body", "row = (SELECT row FROM places WHERE place = 6)", "1"),
            vec![Wrong::LeafNotCommitted],
            "6",
        ),
        (flipped("nodes", "hash", "level = 0 AND place = 6", "1"), vec![Wrong::NodeDiffers], "0/6"),
        (flipped("nodes", "hash", "level = 3 AND place = 1", "1"), vec![Wrong::NodeDiffers], "3/1"),
    ] {
        let undo: Vec<u8> = Connection::open(bank.database())
            .unwrap()
            .query_row("SELECT body FROM leaves WHERE row = (SELECT row FROM places WHERE place = 6)", [], |row| {
                row.get(0)
            })
            .unwrap();
        behind(&bank, &sql);
        let examined = examine(&bank);
        assert_eq!((names(&examined), examined.findings.told[0].on.as_str()), (wrong, on), "{sql}");
        // Back again: the same exchange is its own reverse for no column, so the row is put back.
        let connection = Connection::open(bank.database()).unwrap();
        connection
            .execute("UPDATE leaves SET body = ?1 WHERE row = (SELECT row FROM places WHERE place = 6)", [&undo])
            .unwrap();
        rebuild_nodes(&bank);
        assert_eq!(names(&examine(&bank)), []);
    }
}

/// Nodes anew from their leaves.
fn rebuild_nodes(bank: &Bank) {
    use countersign::kernel::merkle::{Frontier, leaf_hash};
    use countersign::kernel::receipt::leaf_entry;
    let connection = Connection::open(bank.database()).unwrap();
    connection.execute("DELETE FROM nodes", []).unwrap();
    let mut frontier = Frontier::empty();
    for leaf in bank.store.leaves(0, 10_000).unwrap() {
        frontier.append(leaf_hash(&leaf_entry(&leaf.commitment)), |level, index, hash| {
            let row = (level, i64::try_from(index).unwrap(), hash.0);
            connection.execute("INSERT INTO nodes VALUES (?1, ?2, ?3)", row).unwrap();
        });
    }
}

/// Whoever rewrites a leaf and all that stands above it, but has no key.
#[test]
fn a_log_that_was_rewritten_up_to_its_root_is_found_by_its_signatures() {
    let (bank, _) = Bank::with_payments();
    let connection = opened(&bank);
    let (salt, body) = ([9_u8; 32], b"{}".to_vec());
    let commitment = countersign::kernel::receipt::commitment(&salt, &body);
    connection
        .execute(
            "UPDATE leaves SET salt = ?1, body = ?2, commitment = ?3, data_key = NULL WHERE row = (SELECT row FROM places WHERE place = 6)",
            (salt, &body, commitment.0),
        )
        .unwrap();
    let found = names(&examine(&bank));
    assert_eq!(found[..2], [Wrong::LeafInTheClear, Wrong::LeafNotInTree], "{found:?}");
    rebuild_nodes(&bank);
    let found = names(&examine(&bank));
    assert!(found.contains(&Wrong::CheckpointRootDiffers), "{found:?}");
    assert!(!found.contains(&Wrong::NodeDiffers), "{found:?}");
}

#[test]
fn an_erased_leaf_keeps_its_place_and_nobody_is_blamed_for_it() {
    let (bank, store) = (BareBank::new(), Arc::new(MemoryStore::default()));
    store.add_leaves(9);
    store.post(&bank, 1, 3);
    let log = open(&bank, &store);
    advance_all(&log);
    for leaf in [4, 10] {
        store.rows().leaves[leaf].content = LeafContent::Erased;
    }
    let examined = log.examine(None, &mut |_| {}).unwrap();
    assert_eq!(names(&examined), [], "{:#}", examined.to_json());
    assert_eq!(examined.counted["erased"], 2);
    // Its commitment is still part of the tree.
    store.rows().leaves[4].commitment.0[0] ^= 1;
    assert_eq!(names(&log.examine(None, &mut |_| {}).unwrap()), [Wrong::LeafNotInTree]);
    store.rows().leaves[7].content = LeafContent::Damaged("the key is another one".into());
    assert!(names(&log.examine(None, &mut |_| {}).unwrap()).contains(&Wrong::LeafNotCommitted));
}

/// Erased by two people, then looked at, then put back from a backup.
#[test]
fn an_erasure_is_sound_and_whoever_undoes_it_is_named() {
    let (bank, paid) = Bank::with_payments();
    let kept = |sql: &str| -> Vec<u8> { opened(&bank).query_row(sql, [], |row| row.get(0)).unwrap() };
    let wrapped = kept("SELECT wrapped FROM data_keys WHERE subject = 'owner:OWN_001'");
    bank.erases("owner:OWN_001");
    let examined = examine(&bank);
    assert_eq!(names(&examined), [], "{:#}", examined.to_json());
    assert!(examined.counted["erased"].as_u64().unwrap() > 5, "{}", examined.counted);
    assert_eq!(bank.log.bundle(&paid.bought, Duration::ZERO).unwrap_err().name, "leaf_erased");
    // Of what was made since nothing can be erased: a hold without its leaf is told as ever.
    behind(&bank, "UPDATE transactions SET name = 'txn_7ZZZZZZZZZZZZZZZZZZZZZZZZZ' WHERE state = 'approved'");
    assert_eq!(names(&examine(&bank)), [Wrong::HoldWithoutLeaf]);
    behind(&bank, "DELETE FROM transactions WHERE name = 'txn_7ZZZZZZZZZZZZZZZZZZZZZZZZZ'");
    // Under its old name the key opens again.
    let sql =
        "UPDATE data_keys SET wrapped = ?1, subject = 'owner:OWN_001', destroyed = NULL WHERE subject LIKE 'erased:%'";
    opened(&bank).execute(sql, [&wrapped]).unwrap();
    let found = names(&examine(&bank));
    assert!(found.contains(&Wrong::ErasureUndone), "{found:?}");
}

/// Whoever changes records behind the bank's back, and has it sign what is found then.
#[test]
fn nothing_is_signed_over_leaves_that_are_not_those_of_the_log() {
    let (bank, _) = Bank::with_payments();
    let export = |format: Format, query: &SearchQuery| {
        let call = ExportCall { query: query.clone(), format, size: None, span: None };
        let page = bank.log.export(&call).unwrap();
        assert_eq!(page.next, None);
        bank.log.sign_export(&call, Sha256::of(&[page.text.as_bytes()]), &mut |_| {})
    };
    let all = SearchQuery::default();
    export(Format::Jsonl, &all).unwrap();
    let original = bank.directory().join("original.sqlite3");
    Connection::open(bank.database()).unwrap().execute(&format!("VACUUM INTO '{}'", original.display()), []).unwrap();
    let leaf_3 = "row = (SELECT row FROM places WHERE place = 3)";
    let newest = "size = (SELECT max(size) FROM checkpoints)";
    for (what, changes) in [
        ("a body", vec![flipped("leaves", "body", leaf_3, "100")]),
        ("a commitment", vec![flipped("leaves", "commitment", leaf_3, "5")]),
        ("a leaf called clear", vec![format!("UPDATE leaves SET data_key = NULL WHERE {leaf_3}")]),
        ("a leaf removed", vec!["DELETE FROM places WHERE place = 3".into()]),
        (
            "two leaves exchanged",
            vec![
                "UPDATE places SET place = 99999 WHERE place = 3".into(),
                "UPDATE places SET place = 3 WHERE place = 4".into(),
                "UPDATE places SET place = 4 WHERE place = 99999".into(),
            ],
        ),
        (
            "a leaf that says it was erased",
            vec![
                format!("UPDATE leaves SET commitment = zeroblob(32) WHERE {leaf_3}"),
                format!("UPDATE data_keys SET wrapped = NULL WHERE id = (SELECT data_key FROM leaves WHERE {leaf_3})"),
            ],
        ),
        ("a checkpoint's signature", vec![flipped("checkpoints", "signed", newest, "length(signed) - 20")]),
    ] {
        let changed: usize = changes.iter().map(|sql| behind(&bank, sql)).sum();
        assert!(changed > 0, "{what}: nothing was changed");
        // Nor over other leaves: all that were looked at are vouched for.
        let other = SearchQuery { tool: Some("execute_purchase".into()), ..all.clone() };
        for (format, query) in [(Format::Jsonl, &all), (Format::Csv, &other)] {
            assert_eq!(export(format, query).unwrap_err().name, "log_damaged", "{what}");
        }
        restore(&bank, &original);
    }
    export(Format::Csv, &all).unwrap();
}

/// The witness's clock, under its signature, is believed before ours.
#[test]
fn retention_goes_by_the_witnesss_clock_where_one_cosigns() {
    let (bank, _) = Bank::with_payments();
    let time = || Start::look(&*bank.store).unwrap().time(Some(&bank.log)).unwrap();
    assert_eq!(time(), Err(Doubt::NotCosigned));
    let secco = witnessed(&bank);
    assert_eq!(time(), Err(Doubt::NotCosigned), "a row is nobody's word");
    bank.log.trust_witness(secco.root.clone());
    let at = cosigned_at(&bank.log.cosigned().unwrap().unwrap().cosignature).unwrap();
    assert_eq!(time(), Ok(at.min(clock::now())));
}

fn copied(bank: &Bank) -> std::path::PathBuf {
    let place = bank.directory().join("copy");
    let fetch = |tiles: &[Tile]| tiles.iter().map(|tile| bank.log.tile(*tile)).collect();
    Copy::at(&place).update(&bank.log.head(Duration::ZERO).unwrap(), OID_BASE, fetch, |_, _| {}).unwrap();
    place
}

#[test]
fn a_log_that_is_not_what_a_copy_has_is_forked_or_cut() {
    let (bank, _) = Bank::with_payments();
    let place = copied(&bank);
    let found = Copy::at(&place).verify(&bank.kit.root, None, OID_BASE, |_, _| {}).unwrap();
    let head = CopyHead { size: found.checkpoint.size, root: found.checkpoint.root };
    let against = |head: &CopyHead| names(&bank.log.examine(Some(head), &mut |_| {}).unwrap());
    assert_eq!(against(&head), []);
    let older = CopyHead { size: 7, ..head.clone() };
    assert_eq!(against(&older), [Wrong::CopyForked], "another tree of seven leaves");
    let longer = CopyHead { size: head.size + 1, ..head.clone() };
    assert_eq!(against(&longer), [Wrong::CopyLonger]);
    // A backup from before: sound in itself, and shorter than what was handed out.
    behind(&bank, "DELETE FROM checkpoints WHERE size > 16");
    behind(&bank, "DELETE FROM places WHERE place >= 16");
    behind(&bank, "DELETE FROM nodes WHERE (place + 1) << level > 16");
    behind(&bank, "DELETE FROM transactions");
    let found = against(&head);
    assert!(found.contains(&Wrong::CopyLonger), "{found:?}");
}

#[test]
fn every_file_of_a_copy_that_somebody_changes_is_named() {
    let (bank, Paid { .. }) = Bank::with_payments();
    let place = copied(&bank);
    let size = bank.log.head(Duration::ZERO).unwrap().size;
    let verify = || Copy::at(&place).verify(&bank.kit.root, None, OID_BASE, |_, _| {});
    verify().unwrap();
    let last = |path: &str| std::fs::read(place.join(path)).unwrap().len() - 1;
    let (hashes, entries) = (format!("tile/0/000.p/{size}"), format!("tile/entries/000.p/{size}"));
    let table = [
        ("the first hash", hashes.clone(), 0, "copy_damaged"),
        ("the last hash", hashes.clone(), last(&hashes), "copy_damaged"),
        ("an entry's length", entries.clone(), 1, "copy_damaged"),
        ("an entry's prefix", entries.clone(), 5, "copy_damaged"),
        ("an entry's commitment", entries.clone(), 40, "copy_damaged"),
        ("the last entry", entries.clone(), last(&entries), "copy_damaged"),
        ("the log's name", "checkpoint".into(), 0, "checkpoint_signature_invalid"),
        ("the size", "checkpoint".into(), 29, "checkpoint_malformed"),
        ("the signature", "checkpoint".into(), last("checkpoint") - 10, "checkpoint_signature_invalid"),
        ("the end of the note", "checkpoint".into(), last("checkpoint"), "checkpoint_malformed"),
        ("a certificate", "checkpoint.certificates".into(), 200, "chain_"),
    ];
    for (what, path, at, name) in table {
        let path = place.join(path);
        let bytes = std::fs::read(&path).unwrap();
        let mut other = bytes.clone();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        std::fs::write(&path, &other).unwrap();
        let refused = verify().unwrap_err().name;
        assert!(refused == name || (name == "chain_" && refused.starts_with(name)), "{what}: {refused}");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(verify().unwrap_err().name, "copy_missing", "{what}: removed");
        std::fs::write(&path, &bytes).unwrap();
    }
    verify().unwrap();
}
