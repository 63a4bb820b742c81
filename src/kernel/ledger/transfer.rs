//! One posting: who pays whom, refused by name in a fixed order or carried out whole.

use super::{Account, AccountKind, AccountStatus};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::Money;

/// Where a debit's funds come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Funds {
    /// The available balance.
    Available,
    /// A hold of amount and fee, which the posting uses up.
    Held,
}

/// What the payer pays besides the amount.
#[derive(Clone, Copy, Debug)]
pub struct Fee<'a> {
    /// The bank's income account.
    pub account: &'a Account,
    pub amount: Money,
}

/// A posting that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Transfer<'a> {
    pub debit: &'a Account,
    pub credit: &'a Account,
    pub amount: Money,
    pub fee: Option<Fee<'a>>,
    pub funds: Funds,
}

/// One side of a posting: credits are positive, debits negative.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub account: String,
    pub amount: i64,
}

/// The accounts and entries that a posting leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct Posting {
    /// Debit, credit and, with a fee, the income account, as they are afterwards.
    pub accounts: Vec<Account>,
    /// Debit and credit of the amount, then of the fee. They add up to zero.
    pub entries: Vec<Entry>,
}

/// Carries out a transfer.
///
/// # Errors
/// The first that applies, in this order (after TigerBeetle's `create_transfer`: form, then the accounts, then their
/// state, then the hold, then the funds, then the range):
/// 1. `amount_not_positive`: the amount, or a fee that is not above zero
/// 2. `same_account`: any two of debit, credit and fee account
/// 3. `currency_mismatch`: an account or the fee is in another currency than the amount
/// 4. `account_not_active`: the debit account is frozen or closed
/// 5. `destination_not_active`: the credit or fee account is
/// 6. `hold_missing`: [`Funds::Held`] and less than amount and fee is held
/// 7. `insufficient_funds`: less than amount and fee is available (a clearing account always has enough)
/// 8. `amount_too_large`: a sum leaves the range of 64 bits
pub fn post(transfer: &Transfer<'_>) -> Result<Posting, Refusal> {
    let Transfer { debit, credit, amount, fee, funds } = transfer;
    let minor = amount.minor();
    let fee_minor = fee.map_or(0, |fee| fee.amount.minor());
    if minor <= 0 || fee.is_some_and(|fee| fee.amount.minor() <= 0) {
        return Err(Refusal::AmountNotPositive);
    }
    let named_twice = |fee: Fee<'_>| fee.account.name == debit.name || fee.account.name == credit.name;
    if debit.name == credit.name || fee.is_some_and(named_twice) {
        return Err(Refusal::SameAccount);
    }
    let currency = amount.currency();
    let foreign = |fee: Fee<'_>| fee.account.currency != currency || fee.amount.currency() != currency;
    if debit.currency != currency || credit.currency != currency || fee.is_some_and(foreign) {
        return Err(Refusal::CurrencyMismatch);
    }
    if debit.status != AccountStatus::Active {
        return Err(Refusal::AccountNotActive);
    }
    let inactive = |account: &Account| account.status != AccountStatus::Active;
    if inactive(credit) || fee.is_some_and(|fee| inactive(fee.account)) {
        return Err(Refusal::DestinationNotActive);
    }
    let total = minor.checked_add(fee_minor).ok_or(Refusal::AmountTooLarge)?;
    let mut paying = match funds {
        Funds::Held => debit.release(Money::from_minor(total, currency)).map_err(|_| Refusal::HoldMissing)?,
        Funds::Available => (*debit).clone(),
    };
    if paying.kind != AccountKind::Clearing && paying.available() < total {
        return Err(Refusal::InsufficientFunds);
    }
    paying.balance = paying.balance.checked_sub(total).ok_or(Refusal::AmountTooLarge)?;
    let mut posting = Posting { accounts: vec![paying], entries: Vec::with_capacity(4) };
    posting.credit(debit, credit, minor)?;
    if let Some(fee) = fee {
        posting.credit(debit, fee.account, fee_minor)?;
    }
    Ok(posting)
}

impl Posting {
    /// One amount's two entries, and its receiver as it is afterwards. The debit was taken off before.
    fn credit(&mut self, debit: &Account, credit: &Account, minor: i64) -> Result<(), Refusal> {
        let mut paid = credit.clone();
        paid.balance = paid.balance.checked_add(minor).ok_or(Refusal::AmountTooLarge)?;
        let taken = minor.checked_neg().ok_or(Refusal::AmountTooLarge)?;
        self.entries.push(Entry { account: debit.name.clone(), amount: taken });
        self.entries.push(Entry { account: credit.name.clone(), amount: minor });
        self.accounts.push(paid);
        Ok(())
    }
}
