//! A checker that cannot fail proves nothing: edits behind the product's back must each be found.

use crate::bank::{Bank, Options};
use crate::checker::program;

/// With one caller and this seed every kind of row is there that an edit needs.
const SEED: u64 = 9;
/// Here the same certificates are journalled again before anybody is revoked.
const SEED_AGAIN: u64 = 6;

fn every_edit_is_found(name: &str, seed: u64) {
    let mut bank = Bank::new(name).with_seed(seed);
    let options = Options { callers: 1, steps: Some(500), ..Options::default() };
    assert!(bank.run(&options).success(), "{}", bank.context());
    // From then on with a core.
    assert!(bank.run(&Options { core: true, steps: Some(200), ..options }).success(), "{}", bank.context());
    let output = program("selftest.py").arg(&bank.store).arg(bank.journal_path()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.starts_with("ok: "), "{told}");
}

#[test]
fn every_edit_behind_the_products_back_is_found_by_its_name() {
    every_edit_is_found("selftest", SEED);
}

#[test]
fn every_edit_is_found_where_certificates_are_journalled_again() {
    every_edit_is_found("selftest", SEED_AGAIN);
}
