//! Double entry on integer minor units: accounts, holds, postings.
//!
//! A balance is credits minus debits, so a customer's money is positive and the external clearing account, against
//! which openings and incoming payments post, is negative by the same sum. Every posting has one debit and one
//! credit for each amount it moves: the entries of a currency always add up to zero. Every sum is checked.

mod account;
mod fee;
mod transaction;
mod transfer;

pub use account::{Account, AccountKind, AccountStatus, Inconsistent};
pub use fee::{FeeRule, fee_of};
pub use transaction::{Approval, ApprovalDecided, Asked, Transaction, TransactionKind, TransactionState};
pub use transfer::{Entry, Fee, Funds, Posting, Transfer, post};

#[cfg(test)]
mod tests;
