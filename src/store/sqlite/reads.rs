//! What operators and other services read: status, certificates, approvals, lists.

use rusqlite::{Connection, params};
use serde_json::Value;

use super::log::{all, one};
use super::schema::OPEN;
use super::{book, rows};
use crate::kernel::breaker::Breaker;
use crate::kernel::command::Posted;
use crate::kernel::decide::{CoreRefusal, Counter, Grant, ManualCase, OutboxRow};
use crate::kernel::ledger::{Account, Transaction, TransactionState};
use crate::kernel::mandate::{ShownMandate, StoredMandate};
use crate::kernel::types::{ApprovalId, CaseId, Day, MandateId, SpiffeId, TransactionId, UnixMillis};
use crate::store::{
    ApprovalView, Before, CasePlace, Listing, MandateQuery, Statement, StatementLine, StatementQuery, TransactionQuery,
    TransactionRecord, views,
};

type Read<T> = rusqlite::Result<T>;

/// Rows of a list that operators read: one more than a page has, which tells that it goes on.
const LIST_MAX: u32 = 1_001;

pub(super) fn posted(connection: &Connection, transaction: &TransactionId) -> Read<Option<Posted>> {
    one(connection, book::POSTED, [transaction.as_str()], rows::posted)
}

pub(super) fn order(connection: &Connection, transaction: &TransactionId) -> Read<Option<Posted>> {
    one(connection, book::ORDER, [transaction.as_str()], rows::posted)
}

/// Newest first.
pub(super) fn approvals(connection: &Connection, after: Option<&ApprovalId>, limit: u32) -> Read<Vec<ApprovalView>> {
    let sql = format!(
        "SELECT {} FROM approvals a JOIN transactions t ON t.name = a.transaction_name
         WHERE ?1 IS NULL OR t.id < (SELECT of.id FROM approvals b JOIN transactions of ON of.name = b.transaction_name
             WHERE b.name = ?1)
         ORDER BY t.id DESC LIMIT ?2",
        rows::TRANSACTION
    );
    let asked = params![after.map(ApprovalId::as_str), limit.min(LIST_MAX)];
    let transactions = all(connection, &sql, asked, rows::transaction)?;
    Ok(transactions.iter().filter_map(views::approval).collect())
}

pub(super) fn approval(connection: &Connection, approval: &ApprovalId) -> Read<Option<ApprovalView>> {
    let sql = format!(
        "SELECT {} FROM approvals a JOIN transactions t ON t.name = a.transaction_name WHERE a.name = ?1",
        rows::TRANSACTION
    );
    let transaction = one(connection, &sql, [approval.as_str()], rows::transaction)?;
    Ok(transaction.as_ref().and_then(views::approval))
}

pub(super) fn grants_of(connection: &Connection, agent: &SpiffeId) -> Read<Vec<Grant>> {
    all(connection, &book::grants_of(), [agent.to_string()], rows::grant)
}

/// Newest first.
pub(super) fn mandates(
    connection: &Connection,
    agent: Option<&SpiffeId>,
    after: Option<&MandateId>,
    limit: u32,
) -> Read<Vec<StoredMandate>> {
    let sql =
        book::mandates_where("(?1 IS NULL OR agent = ?1) AND (?2 IS NULL OR name < ?2) ORDER BY name DESC LIMIT ?3");
    let asked = params![agent.map(ToString::to_string), after.map(MandateId::as_str), limit.min(LIST_MAX)];
    all(connection, &sql, asked, rows::mandate)
}

pub(super) fn mandate(connection: &Connection, id: &MandateId) -> Read<Option<StoredMandate>> {
    one(connection, &book::mandates_where("name = ?1"), [id.as_str()], rows::mandate)
}

pub(super) fn mandates_shown(connection: &Connection, query: &MandateQuery) -> Read<Vec<ShownMandate>> {
    let sql = MandateQuery::sql('?', rows::HELD_MANDATE, "json_extract(claims, '$.cnf.kid')", query.id.is_some());
    let id = query.id.as_ref().map(MandateId::as_str);
    let asked = params![query.agent.to_string(), query.key.hex(), id, query.now.0, query.limit.min(LIST_MAX)];
    let found = all(connection, &sql, asked, rows::mandate_row)?;
    let revoked_at = |mark: &str| {
        one(connection, "SELECT at FROM revocations WHERE mark = ?1", [mark], |row| Ok(UnixMillis(row.get(0)?)))
    };
    let spent = |counter: &Counter, day| spent(connection, counter, day);
    found.into_iter().map(|row| row.shown(query.now, revoked_at, spent)).collect()
}

pub(super) fn listing(connection: &Connection, what: Listing) -> Read<Vec<Value>> {
    match what {
        Listing::Accounts => {
            let sql = format!("SELECT {} FROM accounts ORDER BY id", rows::ACCOUNT);
            all(connection, &sql, [], |row| Ok(views::account(&rows::account(row)?)))
        }
        Listing::Grants => {
            let sql = format!("SELECT {} FROM grants WHERE revoked_at IS NULL ORDER BY id", rows::GRANT);
            all(connection, &sql, [], |row| Ok(views::grant(&rows::grant(row)?)))
        }
        Listing::Merchants => {
            let sql = "SELECT merchant, name, currency FROM merchants ORDER BY merchant";
            all(connection, sql, [], |row| Ok(views::merchant(&rows::merchant(row)?)))
        }
        Listing::Products => {
            let sql = format!("SELECT {} FROM offers ORDER BY merchant, product", rows::OFFER);
            all(connection, &sql, [], |row| Ok(views::offer(&rows::offer(row)?)))
        }
        Listing::Breaker => {
            let stops = all(connection, &format!("SELECT {} FROM breaker", rows::STOP), [], rows::stop)?;
            Ok(vec![views::breaker(&Breaker::of(stops))])
        }
        Listing::Balances => balances(connection),
    }
}

/// Every account's balance and hold, kept and recomputed.
fn balances(connection: &Connection) -> Read<Vec<Value>> {
    let sql = format!(
        "SELECT a.name, a.currency, a.balance, a.held, coalesce(e.sum, 0), coalesce(o.sum, 0) FROM accounts a
         LEFT JOIN (SELECT account, sum(amount) AS sum FROM entries GROUP BY account) e ON e.account = a.id
         LEFT JOIN (SELECT debit, sum(amount + fee) AS sum FROM transactions
             WHERE {OPEN} AND (kind IN ('purchase', 'transfer') OR state = 'submitted') GROUP BY debit) o ON o.debit = a.name
         ORDER BY a.id"
    );
    all(connection, &sql, [], |row| {
        let account: String = row.get(0)?;
        let currency: String = row.get(1)?;
        Ok(views::balances(&account, &currency, [row.get(2)?, row.get(3)?], [row.get(4)?, row.get(5)?]))
    })
}

pub(super) fn account(connection: &Connection, name: &str) -> Read<Option<Account>> {
    one(connection, &format!("SELECT {} FROM accounts WHERE name = ?1", rows::ACCOUNT), [name], rows::account)
}

pub(super) fn transaction(connection: &Connection, id: &TransactionId) -> Read<Option<Transaction>> {
    let sql = format!("SELECT {} FROM {} WHERE t.name = ?1", rows::TRANSACTION, rows::TRANSACTION_FROM);
    one(connection, &sql, [id.as_str()], rows::transaction)
}

pub(super) fn outbox(connection: &Connection, of: Option<&TransactionId>, limit: u32) -> Read<Vec<OutboxRow>> {
    let columns = "SELECT transaction_name, verb, since FROM outbox";
    match of {
        Some(id) => {
            let sql = format!("{columns} WHERE transaction_name = ?1 ORDER BY id LIMIT ?2");
            all(connection, &sql, params![id.as_str(), limit], rows::outbox)
        }
        None => all(connection, &format!("{columns} ORDER BY id LIMIT ?1"), [limit], rows::outbox),
    }
}

pub(super) fn core_refusals(connection: &Connection, of: &TransactionId) -> Read<Vec<CoreRefusal>> {
    let sql =
        "SELECT transaction_name, verb, reason, at FROM core_refusals WHERE transaction_name = ?1 ORDER BY at, verb";
    all(connection, sql, [of.as_str()], rows::core_refusal)
}

pub(super) fn transactions(connection: &Connection, query: &TransactionQuery) -> Read<Vec<TransactionRecord>> {
    let sql = format!(
        "SELECT {}, t.posted_at, t.batch FROM {} WHERE (?1 IS NULL OR t.debit = ?1 OR t.credit = ?1)
         AND (?2 IS NULL OR t.agent = ?2) AND (?3 IS NULL OR t.state = ?3) AND (?4 IS NULL OR t.original = ?4)
         AND (?5 IS NULL OR t.id < (SELECT id FROM transactions WHERE name = ?5)) ORDER BY t.id DESC LIMIT ?6",
        rows::TRANSACTION,
        rows::TRANSACTION_FROM
    );
    let agent = query.agent.as_ref().map(ToString::to_string);
    let original = query.original.as_ref().map(TransactionId::as_str);
    let state = query.state.map(TransactionState::name);
    let before = query.before.as_ref().map(TransactionId::as_str);
    let asked = params![query.account, agent, state, original, before, query.limit.clamp(1, LIST_MAX)];
    all(connection, &sql, asked, |row| {
        Ok(TransactionRecord {
            transaction: rows::transaction(row)?,
            posted_at: row.get::<_, Option<i64>>(rows::AFTER_TRANSACTION)?.map(UnixMillis),
            batch: row.get(rows::AFTER_TRANSACTION + 1)?,
        })
    })
}

pub(super) fn case(connection: &Connection, id: &CaseId) -> Read<Option<ManualCase>> {
    one(connection, &format!("SELECT {} FROM cases WHERE name = ?1", rows::CASE), [id.as_str()], rows::case)
}

pub(super) fn cases(connection: &Connection, after: Option<&CasePlace>, limit: u32) -> Read<Vec<ManualCase>> {
    let sql = format!(
        "SELECT {} FROM cases WHERE ?1 IS NULL OR (state <> 'queued') > ?2
         OR ((state <> 'queued') = ?2 AND rowid < (SELECT rowid FROM cases WHERE name = ?1))
         ORDER BY state <> 'queued', rowid DESC LIMIT ?3",
        rows::CASE
    );
    let asked = params![
        after.map(|place| place.case.as_str()),
        after.is_some_and(|place| !place.waits),
        limit.clamp(1, LIST_MAX)
    ];
    all(connection, &sql, asked, rows::case)
}

pub(super) fn cases_waiting(connection: &Connection) -> Read<u64> {
    let sql = "SELECT count(*) FROM cases WHERE state = 'queued'";
    Ok(one(connection, sql, [], |row| rows::unsigned(row, 0))?.unwrap_or(0))
}

pub(super) fn spent(connection: &Connection, counter: &Counter, day: Day) -> Read<i64> {
    let sql = "SELECT minor FROM counters WHERE counter = ?1 AND day = ?2";
    Ok(one(connection, sql, params![counter.text(), day.0], |row| row.get(0))?.unwrap_or(0))
}

/// Walks the chain of an account's entries from where the page before ended, so that no index by account is needed.
pub(super) fn statement(connection: &Connection, query: &StatementQuery) -> Read<Option<Statement>> {
    let name = query.account.as_str();
    let Some(account) = account(connection, name)? else {
        return Ok(None);
    };
    let (mut next, balance): (Option<i64>, i64) = match query.before {
        None => {
            let sql = "SELECT newest_entry FROM accounts WHERE name = ?1";
            (connection.prepare_cached(sql)?.query_row([name], |row| row.get(0))?, account.balance)
        }
        // Another account's entry is no place of this one.
        Some(before) => {
            let sql = "SELECT e.previous FROM entries e JOIN accounts a ON a.id = e.account
                       WHERE e.id = ?1 AND a.name = ?2";
            let previous = one(connection, sql, params![before.entry, name], |row| row.get(0))?;
            (previous.ok_or(rusqlite::Error::QueryReturnedNoRows)?, before.balance)
        }
    };
    let sql = format!(
        "SELECT {}, e.amount, e.previous, t.posted_at FROM entries e JOIN transactions t ON t.id = e.transaction_row
         LEFT JOIN approvals a ON a.transaction_name = t.name WHERE e.id = ?1",
        rows::TRANSACTION
    );
    let mut entry_by_id = connection.prepare_cached(&sql)?;
    let limit = query.limit.clamp(1, LIST_MAX) as usize;
    let mut statement = Statement { opening: balance, closing: balance, account, lines: vec![], next: None };
    while let Some(entry) = next {
        let (line, previous) = entry_by_id.query_row([entry], |row| {
            let line = StatementLine {
                entry,
                posted_at: UnixMillis(row.get(rows::AFTER_TRANSACTION + 2)?),
                transaction: rows::transaction(row)?,
                amount: row.get(rows::AFTER_TRANSACTION)?,
                balance: statement.opening,
            };
            Ok((line, row.get(rows::AFTER_TRANSACTION + 1)?))
        })?;
        if query.from.is_some_and(|from| line.posted_at < from) {
            next = None;
            break;
        }
        if statement.lines.len() == limit {
            break;
        }
        let before_this = line.balance.saturating_sub(line.amount);
        if query.until.is_some_and(|until| line.posted_at >= until) {
            statement.closing = before_this;
        } else {
            statement.lines.push(line);
        }
        statement.opening = before_this;
        next = previous;
    }
    let last = next.and(statement.lines.last());
    statement.next = last.map(|line| Before { entry: line.entry, balance: statement.opening });
    Ok(Some(statement))
}
