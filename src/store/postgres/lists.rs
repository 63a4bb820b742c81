//! The statements of every read, and their rows as what callers know.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;
use tokio_postgres::Row;

use super::PostgresStore;
use super::reads::Ask;
use super::rows::{self, Read};
use super::session::Parameter;
use crate::kernel::breaker::Breaker;
use crate::kernel::command::Posted;
use crate::kernel::decide::{CoreRefusal, Counter, Grant, ManualCase, OutboxRow};
use crate::kernel::ledger::{Account, Inconsistent, Transaction};
use crate::kernel::mandate::{ShownMandate, StoredMandate};
use crate::kernel::merkle::NodeId;
use crate::kernel::types::{ApprovalId, CaseId, Day, MandateId, Sha256, SpiffeId, TransactionId, UnixMillis};
use crate::store::evidence::BOOKINGS;
use crate::store::mandates::MandateRow;
use crate::store::sealing::LeafRow;
use crate::store::{
    ApprovalView, BatchRecord, Before, Booking, CasePlace, CheckpointRecord, Listing, LogExtent, MandateQuery,
    Statement, StatementLine, StatementQuery, StoreFault, TransactionQuery, TransactionRecord, WaitingLeaf, views,
};

/// Rows of a list that operators read: one more than a page has, which tells that it goes on.
const LIST_MAX: u32 = 1_001;
/// The most rows one read answers, whatever was asked.
const ROWS_MAX: u32 = 100_000;

pub(super) type Reading<T> = Result<T, StoreFault>;

pub(super) fn unreadable(fault: &dyn std::fmt::Display) -> StoreFault {
    StoreFault::NotRecorded(format!("reading failed: {fault}"))
}

fn number(of: u64) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

impl PostgresStore {
    pub(super) fn all<T>(
        &self,
        sql: &'static str,
        parameters: Vec<Parameter<'static>>,
        read: impl Fn(&Row) -> Read<T>,
    ) -> Reading<Vec<T>> {
        let rows = self.reads.rows(vec![Ask::new(sql, parameters)])?;
        rows.iter().flatten().map(read).collect::<Read<_>>().map_err(|fault| unreadable(&fault))
    }

    pub(super) fn one<T>(
        &self,
        sql: &'static str,
        parameters: Vec<Parameter<'static>>,
        read: impl Fn(&Row) -> Read<T>,
    ) -> Reading<Option<T>> {
        Ok(self.all(sql, parameters, read)?.into_iter().next())
    }

    /// Newest first.
    pub(super) fn read_approvals(&self, after: Option<&ApprovalId>, limit: u32) -> Reading<Vec<ApprovalView>> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {} FROM transactions t WHERE t.approval IS NOT NULL
                 AND ($1::text IS NULL OR t.id < (SELECT id FROM transactions WHERE approval = $1))
                 ORDER BY t.id DESC LIMIT $2",
                rows::TRANSACTION
            )
        });
        let after = after.map(ToString::to_string);
        let asked: Vec<Parameter<'static>> = vec![Box::new(after), Box::new(i64::from(limit.min(LIST_MAX)))];
        let transactions = self.all(&SQL, asked, rows::transaction)?;
        Ok(transactions.iter().filter_map(views::approval).collect())
    }

    pub(super) fn read_approval(&self, approval: &ApprovalId) -> Reading<Option<ApprovalView>> {
        static SQL: LazyLock<String> =
            LazyLock::new(|| format!("SELECT {} FROM transactions t WHERE t.approval = $1", rows::TRANSACTION));
        let found = self.all(&SQL, vec![Box::new(approval.to_string())], rows::transaction)?;
        Ok(found.first().and_then(views::approval))
    }

    pub(super) fn read_transactions(&self, query: &TransactionQuery) -> Reading<Vec<TransactionRecord>> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {} FROM transactions t WHERE ($1::text IS NULL OR t.debit = $1 OR t.credit = $1)
                 AND ($2::text IS NULL OR t.agent = $2) AND ($3::text IS NULL OR t.state = $3)
                 AND ($4::text IS NULL OR t.original = $4)
                 AND ($5::text IS NULL OR t.id < (SELECT id FROM transactions WHERE name = $5))
                 ORDER BY t.id DESC LIMIT $6",
                rows::TRANSACTION
            )
        });
        let asked: Vec<Parameter<'static>> = vec![
            Box::new(query.account.clone()),
            Box::new(query.agent.as_ref().map(ToString::to_string)),
            Box::new(query.state.map(|state| state.name().to_owned())),
            Box::new(query.original.as_ref().map(ToString::to_string)),
            Box::new(query.before.as_ref().map(ToString::to_string)),
            Box::new(i64::from(query.limit.clamp(1, LIST_MAX))),
        ];
        self.all(&SQL, asked, |row| {
            Ok(TransactionRecord {
                transaction: rows::transaction(row)?,
                posted_at: rows::posted_at(row)?,
                batch: rows::batch_of(row)?,
            })
        })
    }

    pub(super) fn read_grants_of(&self, agent: &SpiffeId) -> Reading<Vec<Grant>> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!("SELECT {} FROM grants WHERE agent = $1 AND revoked_at IS NULL ORDER BY account", rows::GRANT)
        });
        self.all(&SQL, vec![Box::new(agent.to_string())], rows::grant)
    }

    /// Newest first.
    pub(super) fn read_mandates(
        &self,
        agent: Option<&SpiffeId>,
        after: Option<&MandateId>,
        limit: u32,
    ) -> Reading<Vec<StoredMandate>> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {} FROM mandates WHERE ($1::text IS NULL OR agent = $1) AND ($2::text IS NULL OR name < $2)
                 ORDER BY name DESC LIMIT $3",
                rows::MANDATE
            )
        });
        let after = after.map(|after| after.as_str().to_owned());
        let parameters: Vec<Parameter<'_>> =
            vec![Box::new(agent.map(ToString::to_string)), Box::new(after), Box::new(i64::from(limit.min(LIST_MAX)))];
        self.all(&SQL, parameters, rows::mandate)
    }

    pub(super) fn read_mandate(&self, id: &MandateId) -> Reading<Option<StoredMandate>> {
        static SQL: LazyLock<String> =
            LazyLock::new(|| format!("SELECT {} FROM mandates WHERE name = $1", rows::MANDATE));
        self.one(&SQL, vec![Box::new(id.as_str().to_owned())], rows::mandate)
    }

    /// In two round trips: the rows, then what was counted under them and who of those who signed is revoked.
    pub(super) fn read_mandates_shown(&self, query: &MandateQuery) -> Reading<Vec<ShownMandate>> {
        const KEY: &str = "(claims::json #>> '{cnf,kid}')";
        static ALL: LazyLock<String> = LazyLock::new(|| MandateQuery::sql('$', rows::HELD_MANDATE, KEY, false));
        static ONE: LazyLock<String> = LazyLock::new(|| MandateQuery::sql('$', rows::HELD_MANDATE, KEY, true));
        let asked: Vec<Parameter<'static>> = vec![
            Box::new(query.agent.to_string()),
            Box::new(query.key.hex()),
            Box::new(query.id.as_ref().map(ToString::to_string)),
            Box::new(query.now.0),
            Box::new(i64::from(query.limit.min(LIST_MAX))),
        ];
        let found = self.all(if query.id.is_some() { &ONE } else { &ALL }, asked, rows::mandate_row)?;
        let marks: Vec<String> = found.iter().flat_map(MandateRow::marks).collect();
        let counters = found.iter().flat_map(|row| row.counters(query.now));
        let (names, days): (Vec<String>, Vec<i32>) = counters.map(|(counter, day)| (counter.text(), day.0)).unzip();
        let marked = "SELECT mark, at FROM revocations WHERE mark = ANY ($1::text[])";
        let counted = "SELECT counter, day, minor FROM counters
            WHERE (counter, day) IN (SELECT * FROM unnest($1::text[], $2::integer[]))";
        let answers = self.reads.rows(vec![
            Ask::new(marked, vec![Box::new(marks)]),
            Ask::new(counted, vec![Box::new(names), Box::new(days)]),
        ])?;
        let (mut revoked, mut spent) = (HashMap::new(), HashMap::new());
        let mut answers = answers.into_iter();
        for row in answers.next().into_iter().flatten() {
            revoked.insert(row.get::<_, String>(0), UnixMillis(row.get(1)));
        }
        for row in answers.next().into_iter().flatten() {
            spent.insert((row.get::<_, String>(0), row.get::<_, i32>(1)), row.get::<_, i64>(2));
        }
        let revoked_at = |mark: &str| Ok(revoked.get(mark).copied());
        let spent = |counter: &Counter, day: Day| Ok(spent.get(&(counter.text(), day.0)).copied().unwrap_or(0));
        found.into_iter().map(|row| row.shown(query.now, revoked_at, spent)).collect()
    }

    pub(super) fn read_listing(&self, what: Listing) -> Reading<Vec<Value>> {
        match what {
            Listing::Accounts => {
                static SQL: LazyLock<String> =
                    LazyLock::new(|| format!("SELECT {} FROM accounts ORDER BY id", rows::ACCOUNT));
                self.all(&SQL, vec![], |row| Ok(views::account(&rows::account(row)?)))
            }
            Listing::Grants => {
                static SQL: LazyLock<String> = LazyLock::new(|| {
                    format!("SELECT {} FROM grants WHERE revoked_at IS NULL ORDER BY id", rows::GRANT)
                });
                self.all(&SQL, vec![], |row| Ok(views::grant(&rows::grant(row)?)))
            }
            Listing::Merchants => {
                let sql = "SELECT merchant, name, currency FROM merchants ORDER BY merchant";
                self.all(sql, vec![], |row| Ok(views::merchant(&rows::merchant(row)?)))
            }
            Listing::Products => {
                static SQL: LazyLock<String> =
                    LazyLock::new(|| format!("SELECT {} FROM offers ORDER BY merchant, product", rows::OFFER));
                self.all(&SQL, vec![], |row| Ok(views::offer(&rows::offer(row)?)))
            }
            Listing::Breaker => {
                let stops = self.all("SELECT cause, reason, by, since FROM breaker", vec![], rows::stop)?;
                Ok(vec![views::breaker(&Breaker::of(stops))])
            }
            Listing::Balances => self.all(BALANCES, vec![], |row| {
                let kept = [rows::get(row, 2)?, rows::get(row, 3)?];
                let recomputed = [rows::get(row, 4)?, rows::get(row, 5)?];
                Ok(views::balances(row.try_get(0)?, row.try_get(1)?, kept, recomputed))
            }),
        }
    }

    pub(super) fn read_posted(&self, transaction: &TransactionId) -> Reading<Option<Posted>> {
        let posted = self.one(&TRANSACTION_BY_NAME, vec![Box::new(transaction.to_string())], rows::posting)?;
        Ok(posted.flatten())
    }

    pub(super) fn read_order(&self, transaction: &TransactionId) -> Reading<Option<Posted>> {
        let order = self.one(&TRANSACTION_BY_NAME, vec![Box::new(transaction.to_string())], rows::order)?;
        Ok(order.flatten())
    }

    pub(super) fn read_account(&self, name: &str) -> Reading<Option<Account>> {
        self.one(&ACCOUNT_BY_NAME, vec![Box::new(name.to_owned())], rows::account)
    }

    pub(super) fn read_transaction(&self, id: &TransactionId) -> Reading<Option<Transaction>> {
        self.one(&TRANSACTION_BY_NAME, vec![Box::new(id.to_string())], rows::transaction)
    }

    pub(super) fn read_case(&self, id: &CaseId) -> Reading<Option<ManualCase>> {
        static SQL: LazyLock<String> = LazyLock::new(|| format!("SELECT {} FROM cases WHERE name = $1", rows::CASE));
        self.one(&SQL, vec![Box::new(id.to_string())], rows::case)
    }

    pub(super) fn read_cases(&self, after: Option<&CasePlace>, limit: u32) -> Reading<Vec<ManualCase>> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {} FROM cases WHERE $1::text IS NULL OR (state <> 'queued') > $2
                 OR ((state <> 'queued') = $2 AND id < (SELECT id FROM cases WHERE name = $1))
                 ORDER BY state <> 'queued', id DESC LIMIT $3",
                rows::CASE
            )
        });
        let asked: Vec<Parameter<'static>> = vec![
            Box::new(after.map(|place| place.case.to_string())),
            Box::new(after.is_some_and(|place| !place.waits)),
            Box::new(i64::from(limit.clamp(1, LIST_MAX))),
        ];
        self.all(&SQL, asked, rows::case)
    }

    pub(super) fn read_cases_waiting(&self) -> Reading<u64> {
        let sql = "SELECT count(*) FROM cases WHERE state = 'queued'";
        Ok(self.one(sql, vec![], |row| rows::unsigned(row, 0))?.unwrap_or(0))
    }

    pub(super) fn read_spent(&self, counter: &Counter, day: Day) -> Reading<i64> {
        let sql = "SELECT minor FROM counters WHERE counter = $1 AND day = $2";
        let spent = self.one(sql, vec![Box::new(counter.text()), Box::new(day.0)], |row| rows::get(row, 0))?;
        Ok(spent.unwrap_or(0))
    }

    pub(super) fn read_core_refusals(&self, of: &TransactionId) -> Reading<Vec<CoreRefusal>> {
        let sql = "SELECT transaction_name, verb, reason, at FROM core_refusals WHERE transaction_name = $1
                   ORDER BY at, verb";
        self.all(sql, vec![Box::new(of.to_string())], rows::core_refusal)
    }

    pub(super) fn read_outbox(&self, of: Option<&TransactionId>, limit: u32) -> Reading<Vec<OutboxRow>> {
        let limit = Box::new(i64::from(limit.min(ROWS_MAX)));
        let Some(transaction) = of else {
            let sql = "SELECT transaction_name, verb, since FROM outbox ORDER BY id LIMIT $1";
            return self.all(sql, vec![limit], rows::outbox);
        };
        let sql = "SELECT transaction_name, verb, since FROM outbox WHERE transaction_name = $1 ORDER BY id LIMIT $2";
        self.all(sql, vec![Box::new(transaction.to_string()), limit], rows::outbox)
    }

    /// Walks the chain of an account's entries from where the page before ended. Account and newest entry are one row,
    /// and entries never change: together they are a snapshot.
    pub(super) fn read_statement(&self, query: &StatementQuery) -> Reading<Option<Statement>> {
        let found = self.one(&ACCOUNT_BY_NAME, vec![Box::new(query.account.to_string())], |row| {
            Ok((rows::account(row)?, rows::get::<Option<i64>>(row, 12)?))
        })?;
        let Some((account, newest)) = found else {
            return Ok(None);
        };
        let (mut next, balance) = match query.before {
            None => (newest, account.balance),
            // Another account's entry is no place of this one.
            Some(before) => {
                let sql = "SELECT e.previous FROM entries e JOIN accounts a ON a.id = e.account
                           WHERE e.id = $1 AND a.name = $2";
                let place: Vec<Parameter<'static>> = vec![Box::new(before.entry), Box::new(query.account.to_string())];
                let previous = self.one(sql, place, |row| rows::get::<Option<i64>>(row, 0))?;
                let missing = || unreadable(&format!("entry {} is not one of {}", before.entry, query.account));
                (previous.ok_or_else(missing)?, before.balance)
            }
        };
        let limit = query.limit.clamp(1, LIST_MAX) as usize;
        let mut statement = Statement { opening: balance, closing: balance, account, lines: vec![], next: None };
        'pages: while let Some(from) = next {
            let page = vec![Box::new(from) as Parameter<'static>, Box::new(i64::from(LIST_MAX))];
            let lines = self.all(&ENTRIES, page, |row| {
                let missing = || Inconsistent("an entry of what was not posted".into());
                let line = StatementLine {
                    entry: rows::get(row, rows::AFTER_TRANSACTION)?,
                    posted_at: rows::posted_at(row)?.ok_or_else(missing)?,
                    transaction: rows::transaction(row)?,
                    amount: rows::get(row, rows::AFTER_TRANSACTION + 1)?,
                    balance: 0,
                };
                Ok((line, rows::get::<Option<i64>>(row, rows::AFTER_TRANSACTION + 2)?))
            })?;
            if lines.is_empty() {
                return Err(unreadable(&format!("entry {from} is named but not there")));
            }
            for (line, previous) in lines {
                if query.from.is_some_and(|from| line.posted_at < from) {
                    next = None;
                    break 'pages;
                }
                if statement.lines.len() == limit {
                    break 'pages;
                }
                let line = StatementLine { balance: statement.opening, ..line };
                let before_this = line.balance.saturating_sub(line.amount);
                if query.until.is_some_and(|until| line.posted_at >= until) {
                    statement.closing = before_this;
                } else {
                    statement.lines.push(line);
                }
                statement.opening = before_this;
                next = previous;
            }
        }
        let last = next.and(statement.lines.last());
        statement.next = last.map(|line| Before { entry: line.entry, balance: statement.opening });
        Ok(Some(statement))
    }

    pub(super) fn read_batch(&self, batch: i64) -> Reading<Option<BatchRecord>> {
        let sql = "SELECT batch, document, leaves, signature, key FROM batches WHERE batch = $1";
        self.one(sql, vec![Box::new(batch)], rows::batch)
    }

    pub(super) fn read_batch_statements(&self, batch: i64) -> Reading<Vec<(u32, Vec<u8>)>> {
        let sql = "SELECT index_in_batch AS place, statement FROM transactions WHERE batch = $1
                   UNION ALL SELECT order_index, order_statement FROM transactions WHERE order_batch = $1 ORDER BY place";
        let place = |row: &Row| Ok((u32::try_from(row.try_get::<_, i64>(0)?)?, row.try_get(1)?));
        self.all(sql, vec![Box::new(batch)], place)
    }

    pub(super) fn read_unsigned_batches(&self, limit: u32) -> Reading<Vec<BatchRecord>> {
        let sql = "SELECT batch, document, leaves, signature, key FROM batches WHERE signature IS NULL
                   ORDER BY batch LIMIT $1";
        self.all(sql, vec![Box::new(i64::from(limit.min(ROWS_MAX)))], rows::batch)
    }

    pub(super) fn read_leaf(&self, row: i64) -> Reading<Option<LeafRow>> {
        let sql = "SELECT l.row, l.commitment, l.salt, l.body, p.place, l.data_key, k.store_key, k.subject, k.period,
                   k.wrapped FROM leaves l
                   LEFT JOIN places p ON p.row = l.row LEFT JOIN data_keys k ON k.id = l.data_key WHERE l.row = $1";
        self.one(sql, vec![Box::new(row)], rows::leaf)
    }

    pub(super) fn read_leaf_of_transaction(&self, transaction: &TransactionId) -> Reading<Option<LeafRow>> {
        let sql = "SELECT l.row, l.commitment, l.salt, l.body, p.place, l.data_key, k.store_key, k.subject, k.period,
                   k.wrapped FROM transactions t
                   JOIN leaves l ON l.row = t.leaf LEFT JOIN places p ON p.row = l.row
                   LEFT JOIN data_keys k ON k.id = l.data_key WHERE t.name = $1";
        self.one(sql, vec![Box::new(transaction.to_string())], rows::leaf)
    }

    pub(super) fn read_unsequenced(&self, after: i64, limit: u32) -> Reading<Vec<LeafRow>> {
        let sql =
            "SELECT l.row, l.commitment, l.salt, l.body, NULL::bigint, l.data_key, k.store_key, k.subject, k.period,
                   k.wrapped FROM leaves_waiting w
                   JOIN leaves l ON l.row = w.row LEFT JOIN data_keys k ON k.id = l.data_key
                   WHERE w.row > $1 ORDER BY w.row LIMIT $2";
        self.all(sql, vec![Box::new(after), Box::new(i64::from(limit.min(ROWS_MAX)))], rows::leaf)
    }

    pub(super) fn read_unsequenced_entries(&self, limit: u32) -> Reading<Vec<WaitingLeaf>> {
        let sql = "SELECT l.row, l.commitment, l.data_key IS NULL FROM leaves_waiting w
                   JOIN leaves l ON l.row = w.row ORDER BY w.row LIMIT $1";
        let ring = self.sealing.ring();
        self.all(sql, vec![Box::new(i64::from(limit.min(ROWS_MAX)))], |found| {
            let (row, commitment) = (rows::get(found, 0)?, rows::sha256(found, 1)?);
            let unsealed = rows::get(found, 2)? && ring.as_ref().is_some_and(|ring| ring.seals(row));
            Ok(WaitingLeaf { row, commitment, unsealed })
        })
    }

    pub(super) fn read_leaves(&self, from_index: u64, limit: u32) -> Reading<Vec<LeafRow>> {
        let sql = "SELECT l.row, l.commitment, l.salt, l.body, p.place, l.data_key, k.store_key, k.subject, k.period,
                   k.wrapped FROM places p
                   JOIN leaves l ON l.row = p.row LEFT JOIN data_keys k ON k.id = l.data_key
                   WHERE p.place >= $1 ORDER BY p.place LIMIT $2";
        let parameters: Vec<Parameter<'static>> =
            vec![Box::new(number(from_index)), Box::new(i64::from(limit.min(ROWS_MAX)))];
        self.all(sql, parameters, rows::leaf)
    }

    pub(super) fn read_node(&self, level: u8, index: u64) -> Reading<Option<Sha256>> {
        let sql = "SELECT hash FROM nodes WHERE level = $1 AND place = $2";
        self.one(sql, vec![Box::new(i16::from(level)), Box::new(number(index))], |row| rows::sha256(row, 0))
    }

    pub(super) fn read_nodes_at(&self, nodes: &[NodeId]) -> Reading<Vec<Option<Sha256>>> {
        let sql = "SELECT n.hash FROM unnest($1::smallint[], $2::bigint[]) WITH ORDINALITY AS w (level, place, at)
                   LEFT JOIN nodes n ON n.level = w.level AND n.place = w.place ORDER BY w.at";
        let levels: Vec<i16> = nodes.iter().map(|node| i16::from(node.level)).collect();
        let places: Vec<i64> = nodes.iter().map(|node| number(node.index)).collect();
        self.all(sql, vec![Box::new(levels), Box::new(places)], |row| {
            row.try_get::<_, Option<&[u8]>>(0)?.map(|_| rows::sha256(row, 0)).transpose()
        })
    }

    pub(super) fn read_tree_nodes(&self, level: u8, from: u64, limit: u32) -> Reading<Vec<(u64, Sha256)>> {
        let sql = "SELECT place, hash FROM nodes WHERE level = $1 AND place >= $2 ORDER BY place LIMIT $3";
        let limit = i64::from(limit.min(ROWS_MAX));
        let parameters: Vec<Parameter<'static>> =
            vec![Box::new(i16::from(level)), Box::new(number(from)), Box::new(limit)];
        self.all(sql, parameters, |row| Ok((rows::unsigned(row, 0)?, rows::sha256(row, 1)?)))
    }

    pub(super) fn read_log_extent(&self) -> Reading<Option<LogExtent>> {
        let sql = "SELECT (SELECT count(*) FROM places), (SELECT count(*) FROM nodes)";
        self.one(sql, vec![], |row| Ok(LogExtent { placed: rows::unsigned(row, 0)?, nodes: rows::unsigned(row, 1)? }))
    }

    pub(super) fn read_checkpoints(&self, from_size: u64, limit: u32) -> Reading<Vec<CheckpointRecord>> {
        let sql = "SELECT size, root, note, signed FROM checkpoints WHERE size >= $1 ORDER BY size LIMIT $2";
        let limit = i64::from(limit.min(ROWS_MAX));
        self.all(sql, vec![Box::new(number(from_size)), Box::new(limit)], rows::checkpoint)
    }

    pub(super) fn read_batches(&self, after: i64, limit: u32) -> Reading<Vec<BatchRecord>> {
        let sql = "SELECT batch, document, leaves, signature, key FROM batches WHERE batch > $1
                   ORDER BY batch LIMIT $2";
        self.all(sql, vec![Box::new(after), Box::new(i64::from(limit.min(ROWS_MAX)))], rows::batch)
    }

    pub(super) fn read_bookings(&self, after: i64, limit: u32) -> Reading<Vec<Booking>> {
        let limit = i64::from(limit.min(ROWS_MAX));
        self.all(&BOOKINGS_BEHIND, vec![Box::new(after), Box::new(limit)], rows::booking)
    }

    pub(super) fn read_newest_checkpoint(&self) -> Reading<Option<CheckpointRecord>> {
        let sql = "SELECT size, root, note, signed FROM checkpoints ORDER BY size DESC LIMIT 1";
        self.one(sql, vec![], rows::checkpoint)
    }

    pub(super) fn read_signed_checkpoint(&self) -> Reading<Option<CheckpointRecord>> {
        let sql = "SELECT size, root, note, signed FROM checkpoints WHERE signed IS NOT NULL
                   ORDER BY size DESC LIMIT 1";
        self.one(sql, vec![], rows::checkpoint)
    }

    /// Settings of the server that lose acknowledged commits.
    pub(super) fn read_concerns(&self) -> Reading<Vec<String>> {
        self.all(super::session::CONCERNS, vec![], |row| {
            Ok(format!("the database server has {} = off", row.try_get::<_, &str>(0)?))
        })
    }
}

static BOOKINGS_BEHIND: LazyLock<String> =
    LazyLock::new(|| format!("{BOOKINGS} WHERE t.id > $1 ORDER BY t.id LIMIT $2"));

static ACCOUNT_BY_NAME: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {} FROM accounts WHERE name = $1", rows::ACCOUNT));
static TRANSACTION_BY_NAME: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {} FROM transactions t WHERE t.name = $1", rows::TRANSACTION));
static ENTRIES: LazyLock<String> = LazyLock::new(|| {
    format!(
        "WITH RECURSIVE line (entry, depth) AS (
             SELECT $1::bigint, 1::bigint
             UNION ALL
             SELECT e.previous, depth + 1 FROM line JOIN entries e ON e.id = line.entry
             WHERE e.previous IS NOT NULL AND depth < $2)
         SELECT {}, e.id, e.amount, e.previous FROM line JOIN entries e ON e.id = line.entry
         JOIN transactions t ON t.id = e.transaction_row ORDER BY line.depth",
        rows::TRANSACTION
    )
});
/// Every account's balance and hold, kept and recomputed.
const BALANCES: &str = "SELECT a.name, a.currency, a.balance, a.held,
    coalesce(e.sum, 0)::bigint, coalesce(o.sum, 0)::bigint FROM accounts a
    LEFT JOIN (SELECT account, sum(amount) AS sum FROM entries GROUP BY account) e ON e.account = a.id
    LEFT JOIN (SELECT debit, sum(amount + fee) AS sum FROM transactions
        WHERE state IN ('approved', 'pending_approval', 'queued_manual', 'submitted')
        AND (kind IN ('purchase', 'transfer') OR state = 'submitted') GROUP BY debit) o ON o.debit = a.name
    ORDER BY a.id";
