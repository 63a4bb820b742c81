//! Double entry on integer minor units: accounts, holds, postings.
//!
//! A balance is credits minus debits, so a customer's money is positive and the external clearing account, against
//! which openings and incoming payments post, is negative by the same sum. Every posting has one debit and one
//! credit of the same amount: the entries of a currency always add up to zero. Every sum is checked.

use serde::{Deserialize, Serialize};

use crate::kernel::command::{Actor, AgentPrincipal};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{
    ApprovalId, Currency, Day, MerchantId, Money, ProductId, Sha256, TransactionId, UnixMillis,
};

/// Whose side of the book an account is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountKind {
    Customer,
    Merchant,
    /// The bank's account towards the outside world; the only kind that may be negative.
    Clearing,
}

impl AccountKind {
    pub const ALL: [Self; 3] = [Self::Customer, Self::Merchant, Self::Clearing];

    pub fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Merchant => "merchant",
            Self::Clearing => "clearing",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountStatus {
    Active,
    Frozen,
    Closed,
}

impl AccountStatus {
    pub const ALL: [Self; 3] = [Self::Active, Self::Frozen, Self::Closed];

    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Frozen => "frozen",
            Self::Closed => "closed",
        }
    }
}

/// One account of the book. Minor units.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// A customer's account id, `merchant:<domain>` or `clearing:<currency>`: a colon is in no account id.
    pub name: String,
    pub owner: String,
    pub kind: AccountKind,
    pub currency: Currency,
    pub status: AccountStatus,
    /// Posted credits minus posted debits.
    pub balance: i64,
    /// Part of the balance that open authorizations hold.
    pub held: i64,
}

/// State on disk that the rules of this file cannot produce.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the book is inconsistent: {0}")]
pub struct Inconsistent(pub String);

/// Where a debit's funds come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Funds {
    /// The available balance.
    Available,
    /// A hold of the same amount, which the posting uses up.
    Held,
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
    pub debit: Account,
    pub credit: Account,
    pub entries: [Entry; 2],
}

impl Account {
    pub fn new(name: String, owner: String, kind: AccountKind, currency: Currency) -> Self {
        Self { name, owner, kind, currency, status: AccountStatus::Active, balance: 0, held: 0 }
    }

    /// The bank's account towards the outside world in one currency.
    pub fn clearing(currency: Currency) -> Self {
        Self::new(format!("clearing:{currency}"), "bank".into(), AccountKind::Clearing, currency)
    }

    /// The name of a merchant's account.
    pub fn merchant_name(merchant: &MerchantId) -> String {
        format!("merchant:{merchant}")
    }

    /// What may still be spent, in minor units.
    pub fn available(&self) -> i64 {
        self.balance.saturating_sub(self.held)
    }

    /// The account with `amount` more held.
    ///
    /// # Errors
    /// `amount_not_positive`, `currency_mismatch`, `insufficient_funds`, `amount_too_large`
    pub fn hold(&self, amount: Money) -> Result<Self, Refusal> {
        if amount.minor() <= 0 {
            return Err(Refusal::AmountNotPositive);
        }
        if amount.currency() != self.currency {
            return Err(Refusal::CurrencyMismatch);
        }
        if self.available() < amount.minor() {
            return Err(Refusal::InsufficientFunds);
        }
        let held = self.held.checked_add(amount.minor()).ok_or(Refusal::AmountTooLarge)?;
        Ok(Self { held, ..self.clone() })
    }

    /// The account with `amount` less held.
    ///
    /// # Errors
    /// [`Inconsistent`] when less than that is held.
    pub fn release(&self, amount: Money) -> Result<Self, Inconsistent> {
        match self.held.checked_sub(amount.minor()) {
            Some(held) if held >= 0 => Ok(Self { held, ..self.clone() }),
            Some(_) | None => Err(Inconsistent(format!("{} holds less than the hold to release", self.name))),
        }
    }
}

/// Moves `amount` from `debit` to `credit`.
///
/// # Errors
/// `amount_not_positive`, `same_account`, `currency_mismatch`, `insufficient_funds` (only the clearing account may go below zero),
/// `amount_too_large`. A debit from a hold that is not there is `insufficient_funds` too: nothing moves.
pub fn post(debit: &Account, credit: &Account, amount: Money, funds: Funds) -> Result<Posting, Refusal> {
    if amount.minor() <= 0 {
        return Err(Refusal::AmountNotPositive);
    }
    if debit.name == credit.name {
        return Err(Refusal::SameAccount);
    }
    if debit.currency != amount.currency() || credit.currency != amount.currency() {
        return Err(Refusal::CurrencyMismatch);
    }
    let minor = amount.minor();
    let mut paying = match funds {
        Funds::Held => debit.release(amount).map_err(|_| Refusal::InsufficientFunds)?,
        Funds::Available => debit.clone(),
    };
    if paying.kind != AccountKind::Clearing && paying.available() < minor {
        return Err(Refusal::InsufficientFunds);
    }
    paying.balance = paying.balance.checked_sub(minor).ok_or(Refusal::AmountTooLarge)?;
    let mut paid = credit.clone();
    paid.balance = paid.balance.checked_add(minor).ok_or(Refusal::AmountTooLarge)?;
    let entries = [
        Entry { account: debit.name.clone(), amount: minor.checked_neg().ok_or(Refusal::AmountTooLarge)? },
        Entry { account: credit.name.clone(), amount: minor },
    ];
    Ok(Posting { debit: paying, credit: paid, entries })
}

/// What a transaction is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransactionKind {
    Purchase,
    Transfer,
    Reversal,
    Incoming,
    Opening,
}

impl TransactionKind {
    pub const ALL: [Self; 5] = [Self::Purchase, Self::Transfer, Self::Reversal, Self::Incoming, Self::Opening];

    pub fn name(self) -> &'static str {
        match self {
            Self::Purchase => "purchase",
            Self::Transfer => "transfer",
            Self::Reversal => "reversal",
            Self::Incoming => "incoming",
            Self::Opening => "opening",
        }
    }

    /// True when an authorization of this kind holds its funds. A reversal does not: it would let an agent lock
    /// the payee's money before any human has looked; its funds are checked when it is approved.
    pub fn holds_funds(self) -> bool {
        match self {
            Self::Purchase | Self::Transfer => true,
            Self::Reversal | Self::Incoming | Self::Opening => false,
        }
    }
}

/// Where a transaction stands. Only the first two are open; only they hold funds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransactionState {
    Approved,
    PendingApproval,
    Posted,
    Denied,
    Cancelled,
    /// An approved authorization that was not executed in time.
    Expired,
    /// Nobody decided in time.
    ApprovalExpired,
    /// The agent was revoked before it was executed.
    Voided,
}

impl TransactionState {
    pub const ALL: [Self; 8] = [
        Self::Approved,
        Self::PendingApproval,
        Self::Posted,
        Self::Denied,
        Self::Cancelled,
        Self::Expired,
        Self::ApprovalExpired,
        Self::Voided,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::PendingApproval => "pending_approval",
            Self::Posted => "executed",
            Self::Denied => "denied",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::ApprovalExpired => "approval_expired",
            Self::Voided => "voided",
        }
    }

    pub fn is_open(self) -> bool {
        match self {
            Self::Approved | Self::PendingApproval => true,
            Self::Posted | Self::Denied | Self::Cancelled | Self::Expired | Self::ApprovalExpired | Self::Voided => {
                false
            }
        }
    }
}

/// A question to a human about one transaction, and the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Approval {
    pub approval_id: ApprovalId,
    /// Names of the soft limits that asked for a human.
    pub reasons: Vec<String>,
    pub expires: UnixMillis,
    pub decided: Option<ApprovalDecided>,
}

/// Who answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApprovalDecided {
    pub by: String,
    pub at: UnixMillis,
    pub note: String,
    /// The name was chosen in a demo instead of proven.
    pub asserted: bool,
}

/// An authorization and the payment it may become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction {
    pub transaction_id: TransactionId,
    pub kind: TransactionKind,
    pub state: TransactionState,
    pub maker: Actor,
    pub debit: String,
    pub credit: String,
    pub amount: Money,
    pub merchant: Option<MerchantId>,
    pub product: Option<ProductId>,
    /// The transaction that a reversal undoes.
    pub original: Option<TransactionId>,
    /// [`bound_parameters`](crate::kernel::decide::bound_parameters) of what was authorized.
    pub parameters: Sha256,
    /// The day whose unattended sum it counts towards; none when a human decides.
    pub counts_on: Option<Day>,
    pub created: UnixMillis,
    /// When an open one lapses.
    pub expires: UnixMillis,
    /// How long it may be executed after a human's approval.
    pub authorization_ttl_ms: i64,
    pub policy_version: String,
    pub catalogue_version: u64,
    pub approval: Option<Approval>,
}

impl Transaction {
    /// The agent that asked for it, if an agent did.
    pub fn agent(&self) -> Option<&AgentPrincipal> {
        match &self.maker {
            Actor::Agent(agent) => Some(agent),
            Actor::Operator(_) | Actor::System { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(minor: i64) -> Money {
        Money::from_minor(minor, "USD".parse().unwrap())
    }

    fn account(name: &str, balance: i64, held: i64) -> Account {
        let new = Account::new(name.into(), "OWN".into(), AccountKind::Customer, usd(0).currency());
        Account { balance, held, ..new }
    }

    #[test]
    fn postings_outside_the_rules_are_refused_by_name() {
        let euro = Account { currency: "EUR".parse().unwrap(), ..account("E", 0, 0) };
        let full = account("F", i64::MAX, 0);
        let table = [
            (account("A", 10, 0), account("B", 0, 0), 0, Funds::Available, Refusal::AmountNotPositive),
            (account("A", 10, 0), account("B", 0, 0), -5, Funds::Available, Refusal::AmountNotPositive),
            (account("A", 10, 5), account("B", 0, 0), -5, Funds::Held, Refusal::AmountNotPositive),
            (account("A", 10, 0), account("A", 10, 0), 5, Funds::Available, Refusal::SameAccount),
            (account("A", 10, 0), euro.clone(), 5, Funds::Available, Refusal::CurrencyMismatch),
            (euro, account("B", 0, 0), 5, Funds::Available, Refusal::CurrencyMismatch),
            (account("A", 4, 0), account("B", 0, 0), 5, Funds::Available, Refusal::InsufficientFunds),
            (account("A", 10, 6), account("B", 0, 0), 5, Funds::Available, Refusal::InsufficientFunds),
            (account("A", 10, 4), account("B", 0, 0), 5, Funds::Held, Refusal::InsufficientFunds),
            (account("A", 10, 0), full, 5, Funds::Available, Refusal::AmountTooLarge),
        ];
        for (debit, credit, minor, funds, refused) in table {
            assert_eq!(post(&debit, &credit, usd(minor), funds).unwrap_err(), refused, "{debit:?} {credit:?}");
        }
    }

    #[test]
    fn a_posting_from_a_hold_uses_it_up_and_its_entries_add_up_to_zero() {
        let posting = post(&account("A", 10, 10), &account("B", 1, 0), usd(10), Funds::Held).unwrap();
        assert_eq!((posting.debit.balance, posting.debit.held, posting.credit.balance), (0, 0, 11));
        assert_eq!(posting.entries.iter().map(|entry| entry.amount).sum::<i64>(), 0);
    }

    #[test]
    fn only_the_clearing_account_goes_below_zero() {
        let clearing = Account::clearing(usd(0).currency());
        let posting = post(&clearing, &account("B", 0, 0), usd(7), Funds::Available).unwrap();
        assert_eq!((posting.debit.balance, posting.credit.balance), (-7, 7));
    }

    #[test]
    fn a_hold_needs_available_funds_and_is_never_released_twice() {
        let held = account("A", 10, 0).hold(usd(6)).unwrap();
        assert_eq!(held.hold(usd(5)), Err(Refusal::InsufficientFunds));
        assert_eq!(held.hold(usd(-5)), Err(Refusal::AmountNotPositive));
        let free = held.release(usd(6)).unwrap();
        assert!(free.release(usd(6)).is_err());
    }
}
