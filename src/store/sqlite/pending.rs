//! Rows that wait for the end of their commit and are written many in a statement: beginning and ending a statement
//! costs as much as a narrow row.
//!
//! Their tables are only ever added to. Who reads them inside the commit asks for [`Commit::write_pending`] first.

use rusqlite::{Connection, Statement, ToSql};

use super::book::Commit;
use super::changes::Leaf;
use crate::kernel::decide::RowFault;

/// Rows of one statement.
const TOGETHER: usize = 16;

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) entries: Vec<EntryRow>,
    pub(super) bindings: Vec<BindingRow>,
    pub(super) nonces: Vec<(i32, [u8; 32])>,
}

#[derive(Debug)]
pub(super) struct EntryRow {
    pub(super) id: i64,
    pub(super) account: i64,
    pub(super) transaction: i64,
    pub(super) amount: i64,
    pub(super) previous: Option<i64>,
}

#[derive(Debug)]
pub(super) struct BindingRow {
    pub(super) day: i32,
    pub(super) scope: [u8; 32],
    pub(super) request: [u8; 32],
    pub(super) transaction: Option<String>,
    pub(super) case: Option<String>,
}

impl Commit<'_> {
    /// Writes what waits. A key that is taken already is a fault of the whole commit.
    pub(super) fn write_pending(&self) -> Result<(), RowFault> {
        let Pending { entries, mut bindings, mut nonces } = self.pending.take();
        let into = "entries (id, account, transaction_row, amount, previous)";
        insert(self.connection, into, 5, &entries, |row, values| {
            values.put(row.id)?;
            values.put(row.account)?;
            values.put(row.transaction)?;
            values.put(row.amount)?;
            values.put(row.previous)
        })?;
        // In the order of their tables: neighbours are in the same page.
        bindings.sort_unstable_by_key(|row| (row.day, row.scope));
        let into = "bindings (day, scope, request, transaction_name, case_id)";
        insert(self.connection, into, 5, &bindings, |row, values| {
            values.put(row.day)?;
            values.put(row.scope)?;
            values.put(row.request)?;
            values.put(row.transaction.as_deref())?;
            values.put(row.case.as_deref())
        })?;
        nonces.sort_unstable();
        insert(self.connection, "nonces (day, nonce)", 2, &nonces, |(day, nonce), values| {
            values.put(day)?;
            values.put(nonce)
        })?;
        Ok(())
    }

    /// Writes leaves into the rows that they were given.
    pub(super) fn write_leaves(&self, leaves: &[Leaf]) -> Result<(), RowFault> {
        insert(self.connection, "leaves (row, commitment, salt, body, data_key)", 5, leaves, |leaf, values| {
            values.put(leaf.place.row)?;
            values.put(leaf.place.commitment.0)?;
            values.put(&leaf.salt)?;
            values.put(&leaf.body)?;
            values.put(leaf.key)
        })?;
        Ok(())
    }
}

/// The values of one statement, in their order.
struct Values<'s, 'c> {
    statement: &'s mut Statement<'c>,
    bound: usize,
}

impl Values<'_, '_> {
    fn put(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.bound += 1;
        self.statement.raw_bind_parameter(self.bound, value)
    }
}

fn insert<R>(
    connection: &Connection,
    into: &str,
    columns: usize,
    rows: &[R],
    put: impl Fn(&R, &mut Values<'_, '_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let (many, rest) = rows.as_chunks::<TOGETHER>();
    let run = |together: usize, parts: &mut dyn Iterator<Item = &[R]>| -> rusqlite::Result<()> {
        let row = format!("({})", vec!["?"; columns].join(","));
        let sql = format!("INSERT OR FAIL INTO {into} VALUES {}", vec![row; together].join(","));
        let mut statement = connection.prepare_cached(&sql)?;
        for part in parts {
            let mut values = Values { statement: &mut statement, bound: 0 };
            for row in part {
                put(row, &mut values)?;
            }
            statement.raw_execute()?;
        }
        Ok(())
    };
    if !many.is_empty() {
        run(TOGETHER, &mut many.iter().map(|part| part.as_slice()))?;
    }
    if !rest.is_empty() {
        run(1, &mut rest.chunks(1))?;
    }
    Ok(())
}
