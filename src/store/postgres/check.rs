//! The book's rows for [`check`](crate::store::check), in one snapshot through cursors: the server sorts where it must,
//! a page at a time arrives here.

use tokio_postgres::Row;

use super::reads::Reads;
use super::rows::{self, Read};
use crate::store::check::{
    AccountSums, Checker, CounterRow, EntryRow, List, PaceRow, PostingRow, ReversalRow, TransactionSums,
};
use crate::store::{CheckProgress, LedgerCheck, StoreFault};

/// In the order of [`List::ALL`].
const WALK: &[&str] = &[
    List::Entries.sql(),
    List::Transactions.sql(),
    List::Reversals.sql(),
    List::Accounts.sql(),
    List::Counters.sql(),
    List::Paces.sql(),
];

/// One snapshot of the whole book, judged.
pub(super) fn check(reads: &Reads, progress: &mut dyn FnMut(CheckProgress)) -> Result<LedgerCheck, StoreFault> {
    let mut checker = Checker::new(progress);
    let mut ended = 0;
    reads.walk(WALK, |statement, row| {
        for list in &List::ALL[ended..statement] {
            checker.ends(*list);
        }
        ended = statement;
        match List::ALL[statement] {
            List::Entries => checker.entry(entry(row)?),
            List::Transactions => checker.transaction(&transaction(row)?),
            List::Reversals => checker.reversal(reversal(row)?),
            List::Accounts => checker.account(account(row)?),
            List::Counters => checker.counter(counter(row)?),
            List::Paces => checker.pace(PaceRow { name: rows::get(row, 0)?, slots: rows::get(row, 1)? }),
        }
        Ok(())
    })?;
    for list in &List::ALL[ended..] {
        checker.ends(*list);
    }
    if checker.wants_names() {
        // A later snapshot: only names are taken from it.
        reads.walk(const { &[List::Transactions.sql()] }, |_, row| {
            checker.name(&transaction(row)?);
            Ok(())
        })?;
    }
    Ok(checker.done())
}

fn entry(row: &Row) -> Read<EntryRow> {
    let transaction = match rows::get(row, 7)? {
        None => None,
        Some(name) => Some(PostingRow {
            name,
            state: rows::get(row, 8)?,
            debit: rows::get(row, 9)?,
            credit: rows::get(row, 10)?,
            amount: rows::get(row, 11)?,
            fee: rows::get(row, 12)?,
            currency: rows::get(row, 13)?,
        }),
    };
    Ok(EntryRow {
        id: rows::get(row, 0)?,
        account: rows::get(row, 1)?,
        transaction_row: rows::get(row, 2)?,
        amount: rows::get(row, 3)?,
        previous: rows::get(row, 4)?,
        account_name: rows::get(row, 5)?,
        account_currency: rows::get(row, 6)?,
        transaction,
    })
}

fn transaction(row: &Row) -> Read<TransactionSums> {
    Ok(TransactionSums {
        id: rows::get(row, 0)?,
        name: rows::get(row, 1)?,
        kind: rows::get(row, 2)?,
        state: rows::get(row, 3)?,
        amount: rows::get(row, 4)?,
        fee: rows::get(row, 5)?,
        counts_on: rows::get(row, 6)?,
        debits_on: rows::get(row, 7)?,
        agent: rows::get(row, 8)?,
        debit_row: rows::get(row, 9)?,
        leaf: rows::get(row, 10)?,
        leaf_is_there: rows::get(row, 11)?,
        batch_is_there: rows::get(row, 12)?,
        mandate: rows::get(row, 13)?,
        is_paid_elsewhere: rows::get(row, 14)?,
    })
}

fn reversal(row: &Row) -> Read<ReversalRow> {
    let reversed = match rows::get(row, 3)? {
        None => None,
        Some(amount) => Some((amount, rows::get(row, 4)?)),
    };
    Ok(ReversalRow { name: rows::get(row, 0)?, amount: rows::get(row, 1)?, original: rows::get(row, 2)?, reversed })
}

fn account(row: &Row) -> Read<AccountSums> {
    Ok(AccountSums {
        id: rows::get(row, 0)?,
        name: rows::get(row, 1)?,
        currency: rows::get(row, 2)?,
        balance: rows::get(row, 3)?,
        held: rows::get(row, 4)?,
        newest_entry: rows::get(row, 5)?,
        overdraft: rows::get(row, 6)?,
        is_clearing: rows::get(row, 7)?,
    })
}

fn counter(row: &Row) -> Read<CounterRow> {
    Ok(CounterRow {
        counter: rows::get(row, 0)?,
        day: rows::get(row, 1)?,
        minor: rows::get(row, 2)?,
        account: rows::get(row, 3)?,
    })
}
