//! Does the book add up: everything that is kept, recomputed from what it is made of.
//!
//! A store walks its rows in one snapshot and hands them over in a fixed order; what they must come to is judged in
//! [`judge`], once for every store. Rows are not kept: memory grows with accounts and counters, and by a bit a posting,
//! not with history. Order: every entry by number, every transaction by number, every reversal by its original, then
//! accounts, counters and velocities; when a hold or a day's sum differs, the transactions once more, to name those it is about.

mod judge;

pub(super) use judge::Checker;

/// What the check found, and in how much.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LedgerCheck {
    pub accounts: u64,
    pub entries: u64,
    pub transactions: u64,
    /// Transactions that moved money.
    pub postings: u64,
    pub reversals: u64,
    pub counters: u64,
    pub currencies: Vec<String>,
    /// The first ones.
    pub differences: Vec<Difference>,
    /// All of them.
    pub differences_found: u64,
}

impl LedgerCheck {
    pub fn is_ok(&self) -> bool {
        self.differences_found == 0
    }
}

/// One place where what is kept is not what it is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    pub rule: Rule,
    /// An account, a transaction, a counter and its day, a currency.
    pub subject: String,
    pub kept: String,
    pub recomputed: String,
    /// Transactions it is about, at most twenty.
    pub transactions: Vec<String>,
}

/// What must hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Rule {
    /// An account's balance is the sum of its entries.
    Balance,
    /// An account's balance and credit line cover what it holds.
    Overdrawn,
    /// What an account holds is what its open transactions hold.
    Held,
    /// Each entry names the one before it on its account, and the account names the newest.
    Chain,
    /// Debits equal credits in each currency.
    CurrencySum,
    /// An executed transaction has its entries once, and no other one has any.
    PostedOnce,
    /// Entries of a posting: debit and credit of its amount, and of its fee when it has one.
    PostingEntries,
    /// A posting has a leaf of its own in the audit log.
    Leaf,
    /// A posting is in a batch that gets signed.
    Batch,
    /// A day's sum is what counts towards it.
    Counter,
    /// What was reversed was executed, and is not reversed beyond its amount.
    Reversals,
    /// A velocity's slots are in order, and no agent's count is above the payments it ever asked for.
    Velocity,
}

impl Rule {
    pub const ALL: [Self; 12] = [
        Self::Balance,
        Self::Overdrawn,
        Self::Held,
        Self::Chain,
        Self::CurrencySum,
        Self::PostedOnce,
        Self::PostingEntries,
        Self::Leaf,
        Self::Batch,
        Self::Counter,
        Self::Reversals,
        Self::Velocity,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Balance => "balance",
            Self::Overdrawn => "overdrawn",
            Self::Held => "held",
            Self::Chain => "entry_chain",
            Self::CurrencySum => "currency_sum",
            Self::PostedOnce => "posted_once",
            Self::PostingEntries => "posting_entries",
            Self::Leaf => "leaf",
            Self::Batch => "batch",
            Self::Counter => "counter",
            Self::Reversals => "reversals",
            Self::Velocity => "velocity",
        }
    }
}

/// How far the check is: told now and then, from the thread that checks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckProgress {
    /// `entries` or `transactions`.
    pub what: &'static str,
    pub rows: u64,
}

/// What is walked, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum List {
    Entries,
    Transactions,
    Reversals,
    Accounts,
    Counters,
    Paces,
}

impl List {
    pub(super) const ALL: [Self; 6] =
        [Self::Entries, Self::Transactions, Self::Reversals, Self::Accounts, Self::Counters, Self::Paces];

    /// Its rows, in both stores' SQL: along a key, so that nothing is sorted or grouped.
    pub(super) const fn sql(self) -> &'static str {
        match self {
            Self::Entries => ENTRIES,
            Self::Transactions => TRANSACTIONS,
            Self::Reversals => REVERSALS,
            Self::Accounts => ACCOUNTS,
            Self::Counters => COUNTERS,
            Self::Paces => PACES,
        }
    }
}

const ENTRIES: &str = "SELECT e.id, e.account, e.transaction_row, e.amount, e.previous, a.name, a.currency,
    t.name, t.state, t.debit, t.credit, t.amount, t.fee, t.currency
    FROM entries e LEFT JOIN accounts a ON a.id = e.account LEFT JOIN transactions t ON t.id = e.transaction_row
    ORDER BY e.id";
const TRANSACTIONS: &str = "SELECT t.id, t.name, t.kind, t.state, t.amount, t.fee, t.counts_on, t.debits_on, t.agent,
    a.id, t.leaf, l.row IS NOT NULL, b.batch IS NOT NULL, t.mandate,
    t.state = 'denied' AND coalesce(c.state, '') = 'paid_elsewhere'
    FROM transactions t LEFT JOIN accounts a ON a.name = t.debit LEFT JOIN leaves l ON l.row = t.leaf
    LEFT JOIN batches b ON b.batch = t.batch LEFT JOIN cases c ON c.name = t.case_id
    ORDER BY t.id";
/// Along the index of what reverses something.
const REVERSALS: &str = "SELECT r.name, r.amount, r.original, o.amount, o.state
    FROM transactions r LEFT JOIN transactions o ON o.name = r.original
    WHERE r.original IS NOT NULL
    AND r.state IN ('approved', 'pending_approval', 'queued_manual', 'submitted', 'executed')
    ORDER BY r.original";
const ACCOUNTS: &str = "SELECT id, name, currency, balance, held, newest_entry, overdraft, kind = 'clearing'
    FROM accounts ORDER BY id";
const COUNTERS: &str = "SELECT c.counter, c.day, c.minor, a.id
    FROM counters c LEFT JOIN accounts a ON a.name = c.counter
    ORDER BY c.counter, c.day";

const PACES: &str = "SELECT name, slots FROM paces ORDER BY name";

/// An entry with its account and its transaction, if they are there.
#[derive(Clone, Debug)]
pub(super) struct EntryRow {
    pub id: i64,
    pub account: i64,
    pub transaction_row: i64,
    pub amount: i64,
    pub previous: Option<i64>,
    pub account_name: Option<String>,
    pub account_currency: Option<String>,
    pub transaction: Option<PostingRow>,
}

/// What an entry's transaction says about it.
#[derive(Clone, Debug)]
pub(super) struct PostingRow {
    pub name: String,
    pub state: String,
    pub debit: String,
    pub credit: String,
    pub amount: i64,
    pub fee: i64,
    pub currency: String,
}

#[derive(Clone, Debug)]
pub(super) struct TransactionSums {
    pub id: i64,
    pub name: String,
    pub kind: String,
    pub state: String,
    pub amount: i64,
    pub fee: i64,
    pub counts_on: Option<i32>,
    pub debits_on: Option<i32>,
    pub agent: Option<String>,
    /// The row of the debited account, if it is there.
    pub debit_row: Option<i64>,
    /// The leaf it names, and whether it is there.
    pub leaf: Option<i64>,
    pub leaf_is_there: bool,
    pub batch_is_there: bool,
    /// Under which mandate it is paid and where it counts, as it is written.
    pub mandate: Option<String>,
    /// Denied, because the bank's people had paid it outside.
    pub is_paid_elsewhere: bool,
}

#[derive(Clone, Debug)]
pub(super) struct ReversalRow {
    pub name: String,
    pub amount: i64,
    pub original: String,
    /// Amount and state of the original, if it is there.
    pub reversed: Option<(i64, String)>,
}

#[derive(Clone, Debug)]
pub(super) struct AccountSums {
    pub id: i64,
    pub name: String,
    pub currency: String,
    pub balance: i64,
    pub held: i64,
    pub overdraft: i64,
    pub is_clearing: bool,
    pub newest_entry: Option<i64>,
}

#[derive(Clone, Debug)]
pub(super) struct CounterRow {
    pub counter: String,
    pub day: i32,
    pub minor: i64,
    /// The row of the account of this name, if there is one.
    pub account: Option<i64>,
}

/// What a velocity has counted.
#[derive(Clone, Debug)]
pub(super) struct PaceRow {
    pub name: String,
    pub slots: String,
}
