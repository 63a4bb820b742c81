//! The book's rows for [`check`](crate::store::check), each list in one pass along its primary key.
//!
//! Nothing here sorts or groups, so SQLite needs no temporary files, which a confined front could not make. Reading
//! goes on beside the writer; only the write-ahead log is not shortened until the snapshot ends.

use rusqlite::{Connection, Row};

use crate::store::check::{
    AccountSums, Checker, CounterRow, EntryRow, List, PaceRow, PostingRow, ReversalRow, TransactionSums,
};
use crate::store::{CheckProgress, LedgerCheck};

type Read<T> = rusqlite::Result<T>;

/// One snapshot of the whole book, judged.
pub(super) fn check(connection: &Connection, progress: &mut dyn FnMut(CheckProgress)) -> Read<LedgerCheck> {
    let mut checker = Checker::new(progress);
    for list in List::ALL {
        match list {
            List::Entries => each(connection, list.sql(), |row| entry(row).map(|found| checker.entry(found)))?,
            List::Transactions => {
                each(connection, list.sql(), |row| transaction(row).map(|found| checker.transaction(&found)))?
            }
            List::Reversals => each(connection, list.sql(), |row| reversal(row).map(|found| checker.reversal(found)))?,
            List::Accounts => each(connection, list.sql(), |row| account(row).map(|found| checker.account(found)))?,
            List::Counters => each(connection, list.sql(), |row| counter(row).map(|found| checker.counter(found)))?,
            List::Paces => each(connection, list.sql(), |row| pace(row).map(|found| checker.pace(found)))?,
        }
        checker.ends(list);
    }
    if checker.wants_names() {
        each(connection, List::Transactions.sql(), |row| transaction(row).map(|found| checker.name(&found)))?;
    }
    Ok(checker.done())
}

fn pace(row: &Row<'_>) -> Read<PaceRow> {
    Ok(PaceRow { name: row.get(0)?, slots: row.get(1)? })
}

fn each(connection: &Connection, sql: &str, mut take: impl FnMut(&Row<'_>) -> Read<()>) -> Read<()> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        take(row)?;
    }
    Ok(())
}

fn entry(row: &Row<'_>) -> Read<EntryRow> {
    let transaction = match row.get::<_, Option<String>>(7)? {
        None => None,
        Some(name) => Some(PostingRow {
            name,
            state: row.get(8)?,
            debit: row.get(9)?,
            credit: row.get(10)?,
            amount: row.get(11)?,
            fee: row.get(12)?,
            currency: row.get(13)?,
        }),
    };
    Ok(EntryRow {
        id: row.get(0)?,
        account: row.get(1)?,
        transaction_row: row.get(2)?,
        amount: row.get(3)?,
        previous: row.get(4)?,
        account_name: row.get(5)?,
        account_currency: row.get(6)?,
        transaction,
    })
}

fn transaction(row: &Row<'_>) -> Read<TransactionSums> {
    Ok(TransactionSums {
        id: row.get(0)?,
        name: row.get(1)?,
        kind: row.get(2)?,
        state: row.get(3)?,
        amount: row.get(4)?,
        fee: row.get(5)?,
        counts_on: row.get(6)?,
        debits_on: row.get(7)?,
        agent: row.get(8)?,
        debit_row: row.get(9)?,
        leaf: row.get(10)?,
        leaf_is_there: row.get(11)?,
        batch_is_there: row.get(12)?,
        mandate: row.get(13)?,
        is_paid_elsewhere: row.get(14)?,
    })
}

fn reversal(row: &Row<'_>) -> Read<ReversalRow> {
    let reversed = match row.get(3)? {
        None => None,
        Some(amount) => Some((amount, row.get(4)?)),
    };
    Ok(ReversalRow { name: row.get(0)?, amount: row.get(1)?, original: row.get(2)?, reversed })
}

fn account(row: &Row<'_>) -> Read<AccountSums> {
    Ok(AccountSums {
        id: row.get(0)?,
        name: row.get(1)?,
        currency: row.get(2)?,
        balance: row.get(3)?,
        held: row.get(4)?,
        newest_entry: row.get(5)?,
        overdraft: row.get(6)?,
        is_clearing: row.get(7)?,
    })
}

fn counter(row: &Row<'_>) -> Read<CounterRow> {
    Ok(CounterRow { counter: row.get(0)?, day: row.get(1)?, minor: row.get(2)?, account: row.get(3)? })
}
