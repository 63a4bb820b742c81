//! Accounts, what they hold and what they may spend.

use serde::{Deserialize, Serialize};

use crate::kernel::refusal::Refusal;
use crate::kernel::types::{Currency, MerchantId, Money};
use crate::kernel::zone::Zone;

/// Whose side of the book an account is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountKind {
    Customer,
    Merchant,
    /// The bank's income from fees.
    Fees,
    /// The bank's account towards the outside world; the only kind that may be negative without a limit.
    Clearing,
}

impl AccountKind {
    pub const ALL: [Self; 4] = [Self::Customer, Self::Merchant, Self::Fees, Self::Clearing];

    pub fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Merchant => "merchant",
            Self::Fees => "fees",
            Self::Clearing => "clearing",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountStatus {
    Active,
    /// Nothing leaves and nothing arrives until another person than the one who froze it says so.
    Frozen,
    /// For ever.
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
    /// A customer's account id, `merchant:<domain>`, `fees:<currency>` or `clearing:<currency>`: a colon is in no
    /// account id.
    pub name: String,
    pub owner: String,
    pub kind: AccountKind,
    pub currency: Currency,
    pub status: AccountStatus,
    /// Who set the status that is not active.
    pub status_by: Option<String>,
    /// Posted credits minus posted debits.
    pub balance: i64,
    /// Part of the balance that open authorizations hold.
    pub held: i64,
    /// How far below zero the available balance may go; never negative.
    pub overdraft: i64,
    /// The most that may leave on one local day, open holds included, reversals not. None: no limit.
    pub day_max: Option<i64>,
    /// Where its days begin and end.
    pub zone: Zone,
}

/// State on disk that the rules of this module cannot produce.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the book is inconsistent: {0}")]
pub struct Inconsistent(pub String);

impl Account {
    /// An empty active account without overdraft or daily limit, on UTC days.
    pub fn new(name: String, owner: String, kind: AccountKind, currency: Currency) -> Self {
        Self {
            name,
            owner,
            kind,
            currency,
            status: AccountStatus::Active,
            status_by: None,
            balance: 0,
            held: 0,
            overdraft: 0,
            day_max: None,
            zone: Zone::UTC,
        }
    }

    /// The bank's account towards the outside world in one currency.
    pub fn clearing(currency: Currency) -> Self {
        Self::new(format!("clearing:{currency}"), "bank".into(), AccountKind::Clearing, currency)
    }

    /// The bank's income from fees in one currency.
    pub fn fees(currency: Currency) -> Self {
        Self::new(format!("fees:{currency}"), "bank".into(), AccountKind::Fees, currency)
    }

    /// The name of a merchant's account.
    pub fn merchant_name(merchant: &MerchantId) -> String {
        format!("merchant:{merchant}")
    }

    /// What may still be spent, in minor units: the balance and the overdraft without what is held.
    pub fn available(&self) -> i64 {
        self.balance.saturating_sub(self.held).saturating_add(self.overdraft)
    }

    /// The account with `amount` more held. Order of refusals as in [`post`](super::post).
    ///
    /// # Errors
    /// `amount_not_positive`, `currency_mismatch`, `account_not_active`, `insufficient_funds`, `amount_too_large`
    pub fn hold(&self, amount: Money) -> Result<Self, Refusal> {
        if amount.minor() <= 0 {
            return Err(Refusal::AmountNotPositive);
        }
        if amount.currency() != self.currency {
            return Err(Refusal::CurrencyMismatch);
        }
        if self.status != AccountStatus::Active {
            return Err(Refusal::AccountNotActive);
        }
        if self.available() < amount.minor() {
            return Err(Refusal::InsufficientFunds);
        }
        let held = self.held.checked_add(amount.minor()).ok_or(Refusal::AmountTooLarge)?;
        Ok(Self { held, ..self.clone() })
    }

    /// The account with `amount` less held. A frozen account gives back too.
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
