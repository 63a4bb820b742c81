//! Somebody with the database, and without a key: what they write is not signed, and not paid.

use countersign::audit::{Advance, Wrong};
use countersign::kernel::command::Effect;
use countersign::kernel::note::Checkpoint;
use countersign::kernel::types::{Sha256, TransactionId};
use rusqlite::Connection;

use super::payments::Bank;
use crate::store::world::{execute_transfer, transfer};

fn behind(bank: &Bank, sql: &str) {
    assert!(Connection::open(bank.database()).unwrap().execute(sql, []).unwrap() > 0, "{sql}: nothing was changed");
}

fn wrong(bank: &Bank) -> Vec<Wrong> {
    bank.log.examine(None, &mut |_| {}).unwrap().findings.told.iter().map(|finding| finding.name).collect()
}

/// The newest checkpoint, waiting for its signature with another text.
fn forge(bank: &Bank, size: u64, root: Sha256) {
    let origin = bank.log.state().unwrap().origin;
    let note = Checkpoint { origin, size, root }.text();
    let sql = format!(
        "UPDATE checkpoints SET signed = NULL, size = {size}, root = x'{}', note = x'{}'
         WHERE size = (SELECT max(size) FROM checkpoints)",
        root.hex(),
        hex::encode(note)
    );
    behind(bank, &sql);
}

#[test]
fn a_checkpoint_that_somebody_wrote_into_the_store_is_not_signed() {
    let (bank, _) = Bank::with_payments();
    let newest = bank.store.newest_checkpoint().unwrap().unwrap();
    for (what, size, root) in [
        ("another root", newest.size, Sha256([7; 32])),
        ("the size of tomorrow", newest.size + 1000, Sha256([7; 32])),
        ("a tree that was, made the newest again", newest.size - 1, bank.log.root_at(newest.size - 1).unwrap()),
    ] {
        forge(&bank, size, root);
        assert_eq!(bank.log.advance().unwrap_err().name, "log_damaged", "{what}");
        assert_eq!(bank.store.newest_checkpoint().unwrap().unwrap().signed, None, "{what}");
    }
    forge(&bank, newest.size, newest.root);
    let _ = bank.log.advance().unwrap();
    assert!(bank.store.newest_checkpoint().unwrap().unwrap().signed.is_some(), "its own is signed again");
    assert_eq!(wrong(&bank), []);
}

/// A body and a salt of their own, and what they commit to: without sealing a leaf like any other.
const CLEAR_LEAF: &str = "INSERT INTO leaves (row, commitment, salt, body) SELECT max(row) + 1, ";

#[test]
fn a_leaf_that_somebody_wrote_without_the_stores_keys_gets_no_place() {
    let (bank, _) = Bank::with_payments();
    let size = bank.store.newest_checkpoint().unwrap().unwrap().size;
    let (salt, body) = ([9; 32], b"{\"decision\":\"permitted\"}");
    let commitment = countersign::kernel::receipt::commitment(&salt, body).hex();
    let (salt, body) = (hex::encode(salt), hex::encode(body));
    behind(&bank, &format!("{CLEAR_LEAF} x'{commitment}', x'{salt}', x'{body}' FROM leaves"));
    assert_eq!(bank.log.advance().unwrap_err().name, "log_damaged");
    assert_eq!(bank.store.newest_checkpoint().unwrap().unwrap().size, size, "nothing got a place");
    assert_eq!(wrong(&bank), [Wrong::LeafInTheClear]);
    behind(&bank, "DELETE FROM leaves WHERE row = (SELECT max(row) FROM leaves)");
    assert_eq!(bank.log.advance().unwrap(), Advance::Idle);
    assert_eq!(wrong(&bank), []);
}

#[test]
fn a_hold_that_was_redirected_is_not_paid() {
    let (bank, _) = Bank::with_payments();
    let asked = bank.calls(transfer("7", "k9")).unwrap();
    let Ok(Effect::Approved { transaction_id, .. }) = asked else { panic!("{asked:?}") };
    let name = &transaction_id;
    for (column, other, own) in [
        ("credit", "'CHK_001'", "'SAV_001'"),
        ("amount", "6", "700"),
        ("debit", "'SAV_001'", "'CHK_001'"),
        ("parameters", "zeroblob(32)", ""),
    ] {
        let before: rusqlite::types::Value = Connection::open(bank.database())
            .unwrap()
            .query_row(&format!("SELECT {column} FROM transactions WHERE name = '{name}'"), [], |row| row.get(0))
            .unwrap();
        if let rusqlite::types::Value::Text(text) = &before {
            assert_eq!(format!("'{text}'"), own);
        }
        behind(&bank, &format!("UPDATE transactions SET {column} = {other} WHERE name = '{name}'"));
        let balance = |account: &str| bank.store.account(account).unwrap().unwrap().balance;
        let money = [balance("CHK_001"), balance("SAV_001")];
        let outcome = bank.calls(execute_transfer(name, "SAV_001", "7"));
        assert!(!matches!(outcome, Ok(Ok(_))), "{column}: {outcome:?}");
        assert_eq!([balance("CHK_001"), balance("SAV_001")], money, "{column}");
        let back = format!("UPDATE transactions SET {column} = ?1 WHERE name = ?2");
        Connection::open(bank.database()).unwrap().execute(&back, (before, name.as_str())).unwrap();
    }
    let outcome = bank.calls(execute_transfer(name, "SAV_001", "7")).unwrap();
    assert!(matches!(outcome, Ok(Effect::Posted(_))), "{outcome:?}");
}

#[test]
fn what_stands_otherwise_than_it_was_authorized_is_named() {
    let (bank, paid) = Bank::with_payments();
    let held = format!("WHERE name = '{}'", paid.held);
    for (set, back) in [
        ("credit = 'CHK_001'", "credit = 'SAV_001'"),
        ("merchant = 'amazon.com'", "merchant = NULL"),
        ("agent = replace(agent, 'agent/', 'agent/x')", "agent = replace(agent, 'agent/x', 'agent/')"),
    ] {
        behind(&bank, &format!("UPDATE transactions SET {set} {held}"));
        assert_eq!(wrong(&bank), [Wrong::TermsDiffer], "{set}");
        behind(&bank, &format!("UPDATE transactions SET {back} {held}"));
    }
    assert_eq!(wrong(&bank), []);
}

#[test]
fn a_payment_that_somebody_let_without_the_person_who_was_to_be_asked_is_named() {
    let (bank, _) = Bank::with_payments();
    let asked = bank.calls(transfer("2700", "k9")).unwrap();
    let Ok(Effect::RequiresApproval { transaction_id, .. }) = asked else { panic!("{asked:?}") };
    bank.settle();
    assert_eq!(wrong(&bank), []);
    let name: TransactionId = transaction_id;
    behind(&bank, &format!("UPDATE transactions SET state = 'approved' WHERE name = '{name}'"));
    let outcome = bank.calls(execute_transfer(&name, "SAV_001", "2700")).unwrap();
    bank.settle();
    if matches!(outcome, Ok(Effect::Posted(_))) {
        assert!(wrong(&bank).contains(&Wrong::PostingWithoutApproval), "{:?}", wrong(&bank));
    } else {
        assert!(outcome.is_err(), "{outcome:?}");
    }
}
