//! Rows of refusals; the model that shares no code is in `tests/it/ledger.rs`.

use super::*;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::Money;

fn usd(minor: i64) -> Money {
    Money::from_minor(minor, "USD".parse().unwrap())
}

fn eur(minor: i64) -> Money {
    Money::from_minor(minor, "EUR".parse().unwrap())
}

fn account(name: &str, balance: i64, held: i64) -> Account {
    let new = Account::new(name.into(), "OWN".into(), AccountKind::Customer, usd(0).currency());
    Account { balance, held, ..new }
}

fn with(name: &str, change: impl FnOnce(&mut Account)) -> Account {
    let mut account = account(name, 10, 0);
    change(&mut account);
    account
}

/// One transfer: debit, credit, amount, the fee account and its amount, funds.
type Row = (Account, Account, Money, Option<(Account, Money)>, Funds);

fn posted(row: &Row) -> Result<Posting, Refusal> {
    let (debit, credit, amount, fee, funds) = row;
    let fee = fee.as_ref().map(|(account, amount)| Fee { account, amount: *amount });
    post(&Transfer { debit, credit, amount: *amount, fee, funds: *funds })
}

#[test]
fn postings_outside_the_rules_are_refused_by_name() {
    use Funds::{Available, Held};
    use Refusal::*;
    let a = || account("A", 10, 0);
    let b = || account("B", 0, 0);
    let fees = || account("F", 0, 0);
    let frozen = |name| with(name, |account| account.status = AccountStatus::Frozen);
    let closed = |name| with(name, |account| account.status = AccountStatus::Closed);
    let euro = |name| with(name, |account| account.currency = eur(0).currency());
    let table: Vec<(Row, Refusal)> = vec![
        ((a(), b(), usd(0), None, Available), AmountNotPositive),
        ((a(), b(), usd(-5), None, Available), AmountNotPositive),
        ((a(), b(), usd(i64::MIN), None, Available), AmountNotPositive),
        ((account("A", 10, 5), b(), usd(-5), None, Held), AmountNotPositive),
        ((a(), b(), usd(5), Some((fees(), usd(0))), Available), AmountNotPositive),
        ((a(), b(), usd(5), Some((fees(), usd(-1))), Available), AmountNotPositive),
        ((a(), a(), usd(5), None, Available), SameAccount),
        ((a(), b(), usd(5), Some((a(), usd(1))), Available), SameAccount),
        ((a(), b(), usd(5), Some((b(), usd(1))), Available), SameAccount),
        ((a(), euro("B"), usd(5), None, Available), CurrencyMismatch),
        ((euro("A"), b(), usd(5), None, Available), CurrencyMismatch),
        ((a(), b(), eur(5), None, Available), CurrencyMismatch),
        ((a(), b(), usd(5), Some((euro("F"), usd(1))), Available), CurrencyMismatch),
        ((a(), b(), usd(5), Some((fees(), eur(1))), Available), CurrencyMismatch),
        ((frozen("A"), b(), usd(5), None, Available), AccountNotActive),
        ((closed("A"), b(), usd(5), None, Available), AccountNotActive),
        ((a(), frozen("B"), usd(5), None, Available), DestinationNotActive),
        ((a(), closed("B"), usd(5), None, Available), DestinationNotActive),
        ((a(), b(), usd(5), Some((frozen("F"), usd(1))), Available), DestinationNotActive),
        ((account("A", 10, 4), b(), usd(5), None, Held), HoldMissing),
        ((account("A", 10, 5), b(), usd(5), Some((fees(), usd(1))), Held), HoldMissing),
        ((account("A", 4, 0), b(), usd(5), None, Available), InsufficientFunds),
        ((account("A", 10, 6), b(), usd(5), None, Available), InsufficientFunds),
        ((account("A", 10, 0), b(), usd(10), Some((fees(), usd(1))), Available), InsufficientFunds),
        ((with("A", |account| account.overdraft = 4), b(), usd(15), None, Available), InsufficientFunds),
        ((account("A", 10, 11), b(), usd(5), None, Held), InsufficientFunds),
        ((a(), account("B", i64::MAX, 0), usd(5), None, Available), AmountTooLarge),
        ((a(), b(), usd(i64::MAX), Some((fees(), usd(1))), Available), AmountTooLarge),
        ((a(), b(), usd(5), Some((account("F", i64::MAX, 0), usd(1))), Available), AmountTooLarge),
    ];
    for (row, refused) in table {
        assert_eq!(posted(&row).unwrap_err(), refused, "{row:?}");
    }
}

#[test]
fn of_several_reasons_the_first_in_the_documented_order_is_given() {
    // Every row breaks its own rule and all rules after it.
    let worst = |name: &str| {
        let mut account = account(name, i64::MAX, 0);
        account.status = AccountStatus::Frozen;
        account.currency = eur(0).currency();
        account
    };
    let euros = |name: &str| Account { currency: eur(0).currency(), ..account(name, 0, 0) };
    let table: Vec<(Row, Refusal)> = vec![
        ((worst("A"), worst("A"), usd(0), None, Funds::Held), Refusal::AmountNotPositive),
        ((worst("A"), worst("A"), usd(i64::MAX), None, Funds::Held), Refusal::SameAccount),
        ((worst("A"), worst("B"), usd(i64::MAX), None, Funds::Held), Refusal::CurrencyMismatch),
        ((worst("A"), worst("B"), eur(i64::MAX), None, Funds::Held), Refusal::AccountNotActive),
        ((euros("A"), worst("B"), eur(i64::MAX), None, Funds::Held), Refusal::DestinationNotActive),
        (
            (euros("A"), Account { balance: i64::MAX, ..euros("B") }, eur(i64::MAX), None, Funds::Held),
            Refusal::HoldMissing,
        ),
        (
            (euros("A"), Account { balance: i64::MAX, ..euros("B") }, eur(i64::MAX), None, Funds::Available),
            Refusal::InsufficientFunds,
        ),
    ];
    for (row, refused) in table {
        assert_eq!(posted(&row).unwrap_err(), refused, "{row:?}");
    }
}

#[test]
fn a_posting_from_a_hold_uses_it_up_and_its_entries_add_up_to_zero() {
    let fee = Some((account("F", 3, 0), usd(2)));
    let posting = posted(&(account("A", 12, 12), account("B", 1, 0), usd(10), fee, Funds::Held)).unwrap();
    let [debit, credit, income] = &posting.accounts[..] else { panic!("{posting:?}") };
    assert_eq!((debit.balance, debit.held, credit.balance, income.balance), (0, 0, 11, 5));
    let amounts: Vec<i64> = posting.entries.iter().map(|entry| entry.amount).collect();
    assert_eq!(amounts, [-10, 10, -2, 2]);
}

#[test]
fn only_the_clearing_account_and_a_granted_overdraft_go_below_zero() {
    let clearing = Account::clearing(usd(0).currency());
    let posting = posted(&(clearing, account("B", 0, 0), usd(7), None, Funds::Available)).unwrap();
    assert_eq!((posting.accounts[0].balance, posting.accounts[1].balance), (-7, 7));
    let line = with("A", |account| account.overdraft = 5);
    let posting = posted(&(line, account("B", 0, 0), usd(15), None, Funds::Available)).unwrap();
    assert_eq!((posting.accounts[0].balance, posting.accounts[0].available()), (-5, 0));
}

#[test]
fn a_hold_needs_an_active_account_with_funds_and_is_never_released_twice() {
    let held = account("A", 10, 0).hold(usd(6)).unwrap();
    let frozen = with("A", |account| account.status = AccountStatus::Frozen);
    let full = with("A", |account| (account.held, account.overdraft) = (i64::MAX - 1, i64::MAX));
    let table = [
        (held.hold(usd(5)), Refusal::InsufficientFunds),
        (held.hold(usd(-5)), Refusal::AmountNotPositive),
        (held.hold(usd(0)), Refusal::AmountNotPositive),
        (held.hold(eur(1)), Refusal::CurrencyMismatch),
        (frozen.hold(usd(1)), Refusal::AccountNotActive),
        (full.hold(usd(5)), Refusal::AmountTooLarge),
    ];
    for (refused, name) in table {
        assert_eq!(refused, Err(name));
    }
    let free = held.release(usd(6)).unwrap();
    assert!(free.release(usd(6)).is_err());
    assert!(free.release(usd(1)).is_err());
}
