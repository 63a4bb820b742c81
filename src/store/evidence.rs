//! What is compared with the audit log: transactions as their rows have them, and how much of a log there is.

/// A transaction's row, read as it stands: the check of the log must name what somebody has written into it, whatever
/// it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Booking {
    /// Grows with each transaction.
    pub number: i64,
    pub name: String,
    pub kind: String,
    pub state: String,
    pub debit: String,
    pub credit: String,
    /// Minor units.
    pub amount: i64,
    pub fee: i64,
    pub currency: String,
    pub agent: Option<String>,
    pub merchant: Option<String>,
    pub product: Option<String>,
    pub original: Option<String>,
    pub policy_version: String,
    pub catalogue_version: i64,
    /// Milliseconds since 1970.
    pub posted_at: Option<i64>,
    pub batch: Option<i64>,
    pub index_in_batch: Option<i64>,
    pub statement: Option<Vec<u8>>,
    /// The row of the leaf that posted it.
    pub leaf: Option<i64>,
}

/// The columns of a [`Booking`], in both stores' SQL.
pub(super) const BOOKINGS: &str =
    "SELECT t.id, t.name, t.kind, t.state, t.debit, t.credit, t.amount, t.fee, t.currency,
    t.agent, t.merchant, t.product, t.original, t.policy_version, t.catalogue_version, t.posted_at, t.batch,
    t.index_in_batch, t.statement, t.leaf FROM transactions t";

/// How much of the log a store has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogExtent {
    /// Leaves that have a place.
    pub placed: u64,
    /// Complete subtrees.
    pub nodes: u64,
}
