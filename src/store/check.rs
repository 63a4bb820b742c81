//! What the rows of the book must add up to, as questions that both databases understand.
//!
//! Each answers nothing when the book is sound; otherwise what differs, what is kept, and what it comes to when it is
//! computed again. `tests/checker` asks the same in another language, from the tables and the acknowledgements alone.

use serde::Serialize;

/// The most differences of one kind that are told.
macro_rules! told {
    () => {
        " ORDER BY 1 LIMIT 100"
    };
}

/// Open transactions hold funds; those that count towards a day are open or executed.
macro_rules! open {
    () => {
        "('approved', 'pending_approval', 'queued_manual', 'submitted')"
    };
}
macro_rules! counted {
    () => {
        "('approved', 'pending_approval', 'queued_manual', 'submitted', 'executed')"
    };
}

/// How many rows were looked at: accounts, transactions, entries.
pub(super) const SIZES: &str = "SELECT CAST((SELECT count(*) FROM accounts) AS bigint),
    CAST((SELECT count(*) FROM transactions) AS bigint), CAST((SELECT count(*) FROM entries) AS bigint)";

/// Name and question of each check. Three text columns: on what, kept, computed again.
pub(super) const CHECKS: &[(&str, &str)] = &[
    (
        "balance",
        concat!(
            "SELECT a.name, CAST(a.balance AS text), CAST(coalesce(e.total, 0) AS text) FROM accounts a
             LEFT JOIN (SELECT account, sum(amount) AS total FROM entries GROUP BY account) e ON e.account = a.id
             WHERE a.balance <> coalesce(e.total, 0)",
            told!()
        ),
    ),
    (
        "hold",
        concat!(
            "SELECT a.name, CAST(a.held AS text), CAST(coalesce(o.total, 0) AS text) FROM accounts a
             LEFT JOIN (SELECT debit, sum(amount + fee) AS total FROM transactions WHERE state IN ",
            open!(),
            " AND (kind IN ('purchase', 'transfer') OR state = 'submitted') GROUP BY debit) o ON o.debit = a.name
             WHERE a.held <> coalesce(o.total, 0)",
            told!()
        ),
    ),
    (
        "overdrawn",
        concat!(
            "SELECT a.name, CAST(a.held AS text), CAST(a.balance + a.overdraft AS text) FROM accounts a
             WHERE a.kind <> 'clearing' AND a.balance + a.overdraft < a.held",
            told!()
        ),
    ),
    (
        "currency",
        concat!(
            "SELECT a.currency, '0', CAST(sum(e.amount) AS text) FROM entries e JOIN accounts a ON a.id = e.account
             GROUP BY a.currency HAVING sum(e.amount) <> 0",
            told!()
        ),
    ),
    (
        "posting",
        concat!(
            "SELECT t.name, t.state || ' ' || CAST(t.amount + t.fee AS text),
             CAST(coalesce(p.paid, 0) AS text) || ' in ' || CAST(coalesce(p.lines, 0) AS text) || ' entries'
             FROM transactions t LEFT JOIN (SELECT transaction_row, count(*) AS lines, sum(amount) AS total,
             sum(CASE WHEN amount > 0 THEN amount ELSE 0 END) AS paid FROM entries GROUP BY transaction_row) p
             ON p.transaction_row = t.id
             WHERE (t.state = 'executed' AND (coalesce(p.total, 1) <> 0 OR p.paid <> t.amount + t.fee
             OR p.lines <> CASE WHEN t.fee > 0 THEN 4 ELSE 2 END)) OR (t.state <> 'executed' AND p.lines > 0)",
            told!()
        ),
    ),
    (
        "record",
        concat!(
            "SELECT t.name, 'executed', 'statement, batch or leaf is missing' FROM transactions t
             WHERE t.state = 'executed' AND (t.statement IS NULL OR t.posted_at IS NULL
             OR NOT EXISTS (SELECT 1 FROM batches b WHERE b.batch = t.batch)
             OR NOT EXISTS (SELECT 1 FROM leaves l WHERE l.row = t.leaf))",
            told!()
        ),
    ),
    (
        "day",
        concat!(
            "SELECT coalesce(c.counter, s.counter) || ' on day ' || CAST(coalesce(c.day, s.day) AS text),
             CAST(coalesce(c.minor, 0) AS text), CAST(coalesce(s.total, 0) AS text) FROM counters c
             FULL JOIN (SELECT counter, day, sum(minor) AS total FROM (
             SELECT agent AS counter, counts_on AS day, amount AS minor FROM transactions
             WHERE counts_on IS NOT NULL AND state IN ",
            counted!(),
            " UNION ALL SELECT debit, debits_on, amount + fee FROM transactions
             WHERE debits_on IS NOT NULL AND state IN ",
            counted!(),
            ") counting GROUP BY counter, day) s ON s.counter = c.counter AND s.day = c.day
             WHERE coalesce(c.minor, 0) <> coalesce(s.total, 0)",
            told!()
        ),
    ),
    (
        "reversal",
        concat!(
            "SELECT o.name, CAST(o.amount AS text), CAST(sum(r.amount) AS text)
             FROM transactions r JOIN transactions o ON o.name = r.original WHERE r.state IN ",
            counted!(),
            " GROUP BY o.name, o.amount HAVING sum(r.amount) > o.amount",
            told!()
        ),
    ),
];

/// Something that does not add up. Amounts are minor units.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    /// `balance`, `hold`, `overdrawn`, `currency`, `posting`, `record`, `day`, `reversal`
    pub check: &'static str,
    /// The account, currency, transaction or counter.
    pub on: String,
    pub kept: String,
    pub recomputed: String,
}

/// What a check of the whole book came to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct LedgerCheck {
    pub accounts: i64,
    pub transactions: i64,
    pub entries: i64,
    /// At most 100 of a kind; empty when the book is sound.
    pub differences: Vec<Difference>,
}
