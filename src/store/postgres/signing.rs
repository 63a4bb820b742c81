//! Orders for signatures of other programs: durable before anything is signed, and the first signatures.

use tokio_postgres::Row;

use super::PostgresStore;
use super::columns::{Column, insert, update};
use super::lists::Reading;
use super::load::Call;
use super::rows::{self, Read};
use super::sheet::{Sheet, SigningSlot, Written};
use crate::kernel::external::SigningRow;
use crate::kernel::types::{Day, Sha256, UnixMillis};

/// Locked: of two daemons that made signatures for one order the second one sees the first one's.
pub(super) const ROWS: &str = "SELECT scope, request, journal, signatures, at FROM signings
    WHERE scope = ANY ($1::bytea[]) ORDER BY scope FOR NO KEY UPDATE";
pub(super) const FORGET: &str = "DELETE FROM signings WHERE scope = ANY (ARRAY(
    SELECT scope FROM signings WHERE day < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING 1";

pub(super) fn row(row: &Row) -> Read<SigningRow> {
    Ok(SigningRow {
        scope: rows::sha256(row, 0)?,
        request: rows::sha256(row, 1)?,
        journal: rows::get(row, 2)?,
        signatures: rows::get(row, 3)?,
        at: UnixMillis(rows::get(row, 4)?),
    })
}

impl PostgresStore {
    pub(super) fn read_signing(&self, scope: &Sha256) -> Reading<Option<SigningRow>> {
        let sql = "SELECT scope, request, journal, signatures, at FROM signings WHERE scope = $1";
        self.one(sql, vec![Box::new(scope.0.to_vec())], row)
    }
}

impl Sheet {
    /// Orders that are new, and signatures that are.
    pub(super) fn signings<'a>(&'a self, calls: &mut Vec<Call<'a>>) {
        let of = |wanted: Written| -> Vec<&'a SigningRow> {
            let slots = self.signings.values().filter(move |slot: &&SigningSlot| slot.written == wanted);
            slots.filter_map(|slot| slot.row.as_ref()).collect()
        };
        let new = of(Written::New);
        if !new.is_empty() {
            let columns = vec![
                Column::key("scope", "bytea", new.iter().map(|row| row.scope.0.as_slice()).collect()),
                Column::of("day", "integer", new.iter().map(|row| Day::utc(row.at).0).collect()),
                Column::of("request", "bytea", new.iter().map(|row| row.request.0.as_slice()).collect()),
                Column::of("journal", "bytea", new.iter().map(|row| row.journal.as_slice()).collect()),
                Column::of("signatures", "bytea", new.iter().map(|row| row.signatures.as_deref()).collect()),
                Column::of("at", "bigint", new.iter().map(|row| row.at.0).collect()),
            ];
            calls.push(insert("signings", columns));
        }
        let changed = of(Written::Changed);
        if !changed.is_empty() {
            let columns = vec![
                Column::key("scope", "bytea", changed.iter().map(|row| row.scope.0.as_slice()).collect()),
                Column::of("signatures", "bytea", changed.iter().map(|row| row.signatures.as_deref()).collect()),
            ];
            calls.push(update("signings", 1, columns));
        }
    }
}
