//! The bank's core: where payments are settled when this ledger is not the bank's book.
//!
//! The embedded ledger needs nothing of this: a payment is posted in the commit that decides it. With a core banking
//! system behind us, funds are held, settled and released there, and our ledger follows what it says.

mod http;
pub mod sandbox;
pub mod settings;

pub use http::{HttpCore, Outside};

use serde::{Deserialize, Serialize};

use crate::kernel::ledger::{Transaction, TransactionKind};
use crate::kernel::types::{Currency, MerchantId, ProductId, TransactionId};

/// What the core is asked to hold, settle or release. `docs/CORE-BANKING.md` has the wire form.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub transaction_id: TransactionId,
    pub kind: TransactionKind,
    pub debit_account: String,
    pub credit_account: String,
    /// Minor units, as a decimal string.
    pub amount_minor: String,
    pub fee_minor: String,
    pub currency: Currency,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merchant: Option<MerchantId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_id: Option<ProductId>,
    /// The transaction that a reversal undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_transaction_id: Option<TransactionId>,
}

impl Order {
    pub fn of(transaction: &Transaction) -> Self {
        Self {
            transaction_id: transaction.transaction_id.clone(),
            kind: transaction.kind,
            debit_account: transaction.debit.clone(),
            credit_account: transaction.credit.clone(),
            amount_minor: transaction.amount.minor().to_string(),
            fee_minor: transaction.fee.minor().to_string(),
            currency: transaction.amount.currency(),
            merchant: transaction.merchant.clone(),
            product_id: transaction.product.clone(),
            original_transaction_id: transaction.original.clone(),
        }
    }
}

/// Where an order stands at the core.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CoreState {
    /// Nothing was ever heard of it.
    Absent,
    Held,
    Settled,
    /// Given back, or released before it was held: a hold that comes later is refused.
    Released,
    /// With the core's name for it.
    Refused(String),
}

/// What the core answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CoreAnswer {
    Done,
    /// It said no, under its own name; nothing changed there.
    Refused(String),
    /// It may or may not have been carried out: only repeating the same order, or `status`, tells.
    Unknown(String),
    /// The core certainly never saw it.
    NotSent(String),
}

/// A core banking system.
///
/// Contract. *Idempotence*: each verb is idempotent by transaction id; a repeat answers as the first did. *Order*: an
/// order is settled after it is held (a reversal is settled without a hold); a release of what was never held is
/// remembered, and a hold that comes after it is refused; a hold does not lapse. *Durability*: [`CoreAnswer::Done`] means durable there.
/// *Time*: every call ends within the configured timeout. *Honesty*: what is not known is [`CoreAnswer::Unknown`],
/// never a guess. Blocking; called from many threads at once.
pub trait CoreBanking: Send + Sync {
    /// Reserves amount and fee.
    fn hold(&self, order: &Order) -> CoreAnswer;
    /// Moves the money, using the hold up.
    fn settle(&self, order: &Order) -> CoreAnswer;
    /// Gives a hold back.
    fn release(&self, order: &Order) -> CoreAnswer;
    /// # Errors
    /// Why it is not known, in words.
    fn status(&self, transaction: &TransactionId) -> Result<CoreState, String>;
}
