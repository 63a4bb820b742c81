//! Writing what a commit ordered: one statement a table, whatever the number of rows (UNNEST).
//!
//! Inserts are sorted by what must be unique, so that two daemons that insert the same meet in a line; the server's
//! unique constraints are the last judge, and the loser decides again on what the winner wrote.

use tokio_postgres::types::ToSql;

use super::columns::{Column, insert, update};
use super::load::Call;
use super::rare;
use super::session::Parameter;
use super::sheet::{AccountRow, NonceRow, PaceRow, Sheet, TransactionRow, Written};
use crate::kernel::command::{Actor, Posted};
use crate::kernel::decide::{Binding, Change, RowFault, batch_document};
use crate::kernel::ledger::{Account, Transaction};
use crate::kernel::policy::transaction::Pace;
use crate::kernel::types::{ApprovalId, CaseId, Sha256, TransactionId, UnixMillis};

/// A column of a statement's rows.
fn column<'a, R, T>(rows: &[&'a R], value: impl Fn(&'a R) -> T) -> Parameter<'a>
where
    T: ToSql + Sync + Send + 'a,
{
    Box::new(rows.iter().map(|row| value(row)).collect::<Vec<T>>())
}

/// A column of rows for a statement of their own shape.
fn of<'a, R, T>(name: &'static str, kind: &'static str, rows: &[&'a R], value: impl Fn(&'a R) -> T) -> Column<'a>
where
    T: ToSql + PartialEq + Sync + Send + 'a,
{
    Column::of(name, kind, rows.iter().map(|row| value(row)).collect())
}

/// The column that tells them apart.
fn key<'a, R>(name: &'static str, kind: &'static str, rows: &[&'a R], value: impl Fn(&'a R) -> i64) -> Column<'a> {
    Column::key(name, kind, rows.iter().map(|row| value(row)).collect())
}

impl Sheet {
    /// Everything that is not written yet.
    ///
    /// # Errors
    /// A number that no column holds.
    pub(super) fn pending(&self) -> Result<Vec<Call<'_>>, RowFault> {
        let mut calls = vec![];
        self.accounts(&mut calls);
        self.transactions(&mut calls)?;
        self.entries(&mut calls);
        self.counters(&mut calls);
        self.paces(&mut calls);
        self.single_use(&mut calls);
        self.data_keys(&mut calls);
        self.signings(&mut calls);
        self.leaves(&mut calls);
        for change in &self.rare {
            rare::calls(change, &mut calls)?;
        }
        // After a sweep of the same group, which saw none of these.
        self.revoked(&mut calls);
        // A policy is none, but goes to the other daemons the same way.
        let changes_status =
            |change: &Change| matches!(change, Change::Lift(_) | Change::PutCrl { .. } | Change::PutPolicy(_));
        if !self.revoked.is_empty() || self.rare.iter().any(changes_status) {
            let sql = "UPDATE status_changes SET count = count + 1";
            calls.push(Call { sql: sql.into(), parameters: vec![] });
        }
        Ok(calls)
    }

    /// The batch of this commit's statements, if it has any, which is written last, and the hash of what is to be signed.
    pub(super) fn batch(&self) -> Result<Option<(Call<'_>, Sha256)>, RowFault> {
        if self.statements.is_empty() {
            return Ok(None);
        }
        let document = batch_document(self.batch, &self.statements, UnixMillis(self.at_ms))?;
        let hash = Sha256::of(&[&document]);
        let leaves: Vec<u8> = self.statements.iter().flat_map(|leaf| leaf.0).collect();
        let sql = "INSERT INTO batches (batch, document, leaves) VALUES ($1, $2, $3)";
        let parameters: Vec<Parameter<'_>> = vec![Box::new(self.batch), Box::new(document), Box::new(leaves)];
        Ok(Some((Call { sql: sql.into(), parameters }, hash)))
    }

    /// Everything that was pending is in the database now.
    pub(super) fn written(&mut self) {
        for row in self.accounts.values_mut().flatten() {
            row.written = Written::Same;
            row.status_changed = false;
        }
        for row in self.transactions.values_mut().flatten() {
            row.written = Written::Same;
        }
        for tally in self.counters.values_mut().filter(|tally| tally.written == Written::Changed || tally.minor != 0) {
            tally.written = Written::Same;
        }
        for row in self.paces.values_mut().filter(|row| row.pace != Pace::default()) {
            row.written = Written::Same;
        }
        for row in self.bindings.values_mut() {
            row.stored = row.binding.as_ref().map(|(_, day)| *day);
            row.changed = false;
        }
        for nonce in self.nonces.values_mut() {
            if let NonceRow::TakenNow(_) = nonce {
                *nonce = NonceRow::Taken;
            }
        }
        for slot in self.signings.values_mut() {
            slot.written = Written::Same;
        }
        self.entries.clear();
        self.leaves.clear();
        self.new_keys.clear();
        self.revoked.clear();
        self.rare.clear();
    }

    fn accounts<'a>(&'a self, calls: &mut Vec<Call<'a>>) {
        let every = || self.accounts.values().flatten();
        let new: Vec<&AccountRow> = every().filter(|row| row.written == Written::New).collect();
        if !new.is_empty() {
            let accounts: Vec<&Account> = new.iter().map(|row| &row.account).collect();
            calls.push(Call {
                sql: INSERT_ACCOUNTS.into(),
                parameters: vec![
                    column(&new, |row| row.id),
                    column(&accounts, |account| account.name.as_str()),
                    column(&accounts, |account| account.owner.as_str()),
                    column(&accounts, |account| account.kind.name()),
                    column(&accounts, |account| account.currency.code()),
                    column(&accounts, |account| account.status.name()),
                    column(&accounts, |account| account.status_by.as_deref()),
                    column(&accounts, |account| account.balance),
                    column(&accounts, |account| account.held),
                    column(&accounts, |account| account.overdraft),
                    column(&accounts, |account| account.day_max),
                    column(&accounts, |account| account.zone.name()),
                    column(&new, |row| row.newest_entry),
                ],
            });
        }
        let changed: Vec<&AccountRow> = every().filter(|row| row.written == Written::Changed).collect();
        if !changed.is_empty() {
            let columns = vec![
                key("id", "bigint", &changed, |row| row.id),
                of("balance", "bigint", &changed, |row| row.account.balance),
                of("held", "bigint", &changed, |row| row.account.held),
                of("newest_entry", "bigint", &changed, |row| row.newest_entry),
            ];
            calls.push(update("accounts", 1, columns));
        }
        for row in changed.into_iter().filter(|row| row.status_changed) {
            let parameters: Vec<Parameter<'a>> =
                vec![Box::new(row.id), Box::new(row.account.status.name()), Box::new(row.account.status_by.as_deref())];
            calls
                .push(Call { sql: "UPDATE accounts SET status = $2, status_by = $3 WHERE id = $1".into(), parameters });
        }
    }

    fn transactions<'a>(&'a self, calls: &mut Vec<Call<'a>>) -> Result<(), RowFault> {
        let every = || self.transactions.values().flatten();
        let mut new: Vec<&TransactionRow> = every().filter(|row| row.written == Written::New).collect();
        if !new.is_empty() {
            new.sort_unstable_by_key(|row| row.id);
            let makers = makers(&new)?;
            let versions: Vec<i64> =
                new.iter().map(|row| i64::try_from(row.transaction.catalogue_version)).collect::<Result<_, _>>()?;
            let agents: Vec<Option<String>> =
                new.iter().map(|row| row.transaction.agent().map(|agent| agent.spiffe_id.to_string())).collect();
            let reasons: Vec<Option<String>> =
                new.iter().map(|row| reasons(&row.transaction)).collect::<Result<_, _>>()?;
            let mandates: Vec<Option<String>> =
                new.iter().map(|row| mandate(&row.transaction)).collect::<Result<_, _>>()?;
            let all: Vec<&Transaction> = new.iter().map(|row| &row.transaction).collect();
            let mut columns = vec![
                key("id", "bigint", &new, |row| row.id),
                of("name", "text", &all, |one| one.transaction_id.as_str()),
                of("kind", "text", &all, |one| one.kind.name()),
                of("state", "text", &all, |one| one.state.name()),
                Column::of("maker", "text", makers),
                Column::of("agent", "text", agents),
                of("debit", "text", &all, |one| one.debit.as_str()),
                of("credit", "text", &all, |one| one.credit.as_str()),
                of("amount", "bigint", &all, |one| one.amount.minor()),
                of("fee", "bigint", &all, |one| one.fee.minor()),
                of("currency", "text", &all, |one| one.amount.currency().to_string()),
                of("merchant", "text", &all, |one| one.merchant.as_ref().map(|merchant| merchant.as_str())),
                of("product", "text", &all, |one| one.product.as_ref().map(|product| product.as_str())),
                of("original", "text", &all, |one| one.original.as_ref().map(TransactionId::as_str)),
                of("parameters", "bytea", &all, |one| one.parameters.0.as_slice()),
                of("counts_on", "integer", &all, |one| one.counts_on.map(|day| day.0)),
                of("debits_on", "integer", &all, |one| one.debits_on.map(|day| day.0)),
                of("created", "bigint", &all, |one| one.created.0),
                of("authorization_ttl_ms", "bigint", &all, |one| one.authorization_ttl_ms),
                of("policy_version", "text", &all, |one| one.policy_version.as_str()),
                Column::of("catalogue_version", "bigint", versions),
                of("settlement", "text", &all, |one| one.settlement.name()),
                Column::of("mandate", "text", mandates),
                of("approval", "text", &all, |one| {
                    one.approval.as_ref().map(|one| ApprovalId::as_str(&one.approval_id))
                }),
                Column::of("approval_reasons", "text", reasons),
                of("approval_expires", "bigint", &all, |one| one.approval.as_ref().map(|approval| approval.expires.0)),
            ];
            columns.extend(what_changes(&new)?);
            calls.push(insert("transactions", columns));
        }
        let changed: Vec<&TransactionRow> = every().filter(|row| row.written == Written::Changed).collect();
        if !changed.is_empty() {
            let mut columns = vec![
                key("id", "bigint", &changed, |row| row.id),
                of("state", "text", &changed, |row| row.transaction.state.name()),
            ];
            columns.extend(what_changes(&changed)?);
            calls.push(update("transactions", 1, columns));
        }
        Ok(())
    }

    fn entries<'a>(&'a self, calls: &mut Vec<Call<'a>>) {
        if self.entries.is_empty() {
            return;
        }
        let entries: Vec<_> = self.entries.iter().collect();
        let parameters = vec![
            column(&entries, |entry| entry.id),
            column(&entries, |entry| entry.account),
            column(&entries, |entry| entry.transaction),
            column(&entries, |entry| entry.amount),
            column(&entries, |entry| entry.previous),
        ];
        calls.push(Call { sql: INSERT_ENTRIES.into(), parameters });
    }

    fn counters<'a>(&'a self, calls: &mut Vec<Call<'a>>) {
        for written in [Written::New, Written::Changed] {
            // A sum that was asked for and not added to has no row.
            let rows: Vec<_> = self
                .counters
                .iter()
                .filter(|(_, tally)| tally.written == written && (written == Written::Changed || tally.minor != 0))
                .collect();
            if rows.is_empty() {
                continue;
            }
            let columns = vec![
                Column::key("counter", "text", rows.iter().map(|((counter, _), _)| counter.as_str()).collect()),
                // Never shared: without statistics the server would look for the day first, which is the same in all rows.
                Column::key("day", "integer", rows.iter().map(|((_, day), _)| day.0).collect()),
                Column::of("minor", "bigint", rows.iter().map(|(_, tally)| tally.minor).collect()),
            ];
            calls.push(match written {
                Written::New => insert("counters", columns),
                Written::Same | Written::Changed => update("counters", 2, columns),
            });
        }
    }

    fn paces<'a>(&'a self, calls: &mut Vec<Call<'a>>) {
        for written in [Written::New, Written::Changed] {
            // One that was asked for and not added to has no row.
            let rows: Vec<(&String, &PaceRow)> =
                self.paces.iter().filter(|(_, row)| row.written == written && row.pace != Pace::default()).collect();
            if rows.is_empty() {
                continue;
            }
            let columns = vec![
                Column::key("name", "text", rows.iter().map(|(name, _)| name.as_str()).collect()),
                Column::of("slots", "text", rows.iter().map(|(_, row)| row.pace.text()).collect()),
                Column::of("ends", "bigint", rows.iter().map(|(_, row)| row.ends.0).collect()),
            ];
            calls.push(match written {
                Written::New => insert("paces", columns),
                Written::Same | Written::Changed => update("paces", 1, columns),
            });
        }
    }

    fn single_use<'a>(&'a self, calls: &mut Vec<Call<'a>>) {
        let gone = self.bindings.iter().filter(|(_, row)| row.changed && row.stored.is_some());
        let gone: Vec<&[u8]> = gone.map(|(scope, _)| scope.as_slice()).collect();
        if !gone.is_empty() {
            let sql = "DELETE FROM bindings WHERE scope = ANY ($1::bytea[])";
            calls.push(Call { sql: sql.into(), parameters: vec![Box::new(gone)] });
        }
        let new = self.bindings.iter().filter(|(_, row)| row.changed);
        let new: Vec<_> = new.filter_map(|(scope, row)| Some((scope, row.binding.as_ref()?))).collect();
        if !new.is_empty() {
            let transaction = |binding: &'a Binding| binding.transaction_id.as_ref().map(TransactionId::as_str);
            let case = |binding: &'a Binding| binding.case_id.as_ref().map(CaseId::as_str);
            let columns = vec![
                Column::key("scope", "bytea", new.iter().map(|(scope, _)| scope.as_slice()).collect()),
                Column::of("day", "integer", new.iter().map(|(_, (_, day))| *day).collect()),
                Column::of("request", "bytea", new.iter().map(|(_, (one, _))| one.request.0.as_slice()).collect()),
                Column::of("transaction_name", "text", new.iter().map(|(_, (one, _))| transaction(one)).collect()),
                Column::of("case_id", "text", new.iter().map(|(_, (one, _))| case(one)).collect()),
            ];
            calls.push(insert("bindings", columns));
        }
        let mut nonces: Vec<&[u8]> = vec![];
        let mut days: Vec<i32> = vec![];
        for (nonce, row) in &self.nonces {
            if let NonceRow::TakenNow(day) = row {
                nonces.push(nonce);
                days.push(*day);
            }
        }
        if !nonces.is_empty() {
            let columns = vec![Column::key("nonce", "bytea", nonces), Column::of("day", "integer", days)];
            calls.push(insert("nonces", columns));
        }
    }

    fn data_keys<'a>(&'a self, calls: &mut Vec<Call<'a>>) {
        if self.new_keys.is_empty() {
            return;
        }
        let keys: Vec<_> = self.new_keys.iter().collect();
        let parameters = vec![
            column(&keys, |key| key.id),
            column(&keys, |key| key.row.store_key),
            column(&keys, |key| key.row.subject.as_str()),
            column(&keys, |key| key.row.period),
            column(&keys, |key| key.row.wrapped.as_deref()),
            column(&keys, |key| key.made.0),
        ];
        calls.push(Call { sql: INSERT_DATA_KEYS.into(), parameters });
    }

    fn leaves<'a>(&'a self, calls: &mut Vec<Call<'a>>) {
        if self.leaves.is_empty() {
            return;
        }
        let leaves: Vec<_> = self.leaves.iter().collect();
        let parameters = vec![
            column(&leaves, |leaf| leaf.row),
            column(&leaves, |leaf| leaf.commitment.0.as_slice()),
            column(&leaves, |leaf| leaf.salt.as_slice()),
            column(&leaves, |leaf| leaf.body.as_slice()),
            column(&leaves, |leaf| leaf.key),
        ];
        calls.push(Call { sql: INSERT_LEAVES.into(), parameters });
        let sql = "INSERT INTO leaves_waiting (row) SELECT unnest($1::bigint[])";
        calls.push(Call { sql: sql.into(), parameters: vec![column(&leaves, |leaf| leaf.row)] });
    }

    fn revoked<'a>(&'a self, calls: &mut Vec<Call<'a>>) {
        if self.revoked.is_empty() {
            return;
        }
        let rows: Vec<_> = self.revoked.iter().collect();
        let parameters = vec![
            column(&rows, |row| row.mark.text()),
            column(&rows, |row| row.mark.columns().0),
            column(&rows, |row| row.mark.columns().1),
            column(&rows, |row| row.mark.columns().2),
            column(&rows, |row| row.at.0),
            column(&rows, |row| row.reason.as_str()),
        ];
        calls.push(Call { sql: INSERT_REVOCATIONS.into(), parameters });
    }
}

/// The maker as JSON. Agents' commands come in runs: the same one is written once.
fn makers(rows: &[&TransactionRow]) -> Result<Vec<String>, serde_json::Error> {
    let mut makers: Vec<String> = Vec::with_capacity(rows.len());
    let mut last: Option<&Actor> = None;
    for row in rows {
        let maker = &row.transaction.maker;
        let text = match makers.last() {
            Some(text) if last == Some(maker) => text.clone(),
            Some(_) | None => serde_json::to_string(maker)?,
        };
        makers.push(text);
        last = Some(maker);
    }
    Ok(makers)
}

fn mandate(transaction: &Transaction) -> Result<Option<String>, serde_json::Error> {
    transaction.mandate.as_ref().map(serde_json::to_string).transpose()
}

fn reasons(transaction: &Transaction) -> Result<Option<String>, serde_json::Error> {
    transaction.approval.as_ref().map(|approval| serde_json::to_string(&approval.reasons)).transpose()
}

/// Columns that change in a transaction's life, its state apart; the same for an insert and an update.
fn what_changes<'a>(rows: &[&'a TransactionRow]) -> Result<Vec<Column<'a>>, serde_json::Error> {
    let decided = |row: &'a TransactionRow| row.transaction.approval.as_ref()?.decided.as_ref();
    let index = |posted: &Posted| i64::from(posted.index_in_batch);
    let asked = |row: &&TransactionRow| {
        row.transaction.approval.as_ref().map(|approval| serde_json::to_string(&approval.asked)).transpose()
    };
    let asked: Vec<Option<String>> = rows.iter().map(asked).collect::<Result<_, _>>()?;
    Ok(vec![
        Column::of("approval_asked", "text", asked),
        of("expires", "bigint", rows, |row| row.transaction.expires.0),
        of("case_id", "text", rows, |row| row.transaction.case_id.as_ref().map(CaseId::as_str)),
        of("decided_by", "text", rows, move |row| decided(row).map(|decided| decided.by.as_str())),
        of("decided_at", "bigint", rows, move |row| decided(row).map(|decided| decided.at.0)),
        of("decided_note", "text", rows, move |row| decided(row).map(|decided| decided.note.as_str())),
        of("decided_asserted", "boolean", rows, move |row| decided(row).map(|decided| decided.asserted)),
        of("posted_at", "bigint", rows, |row| row.posted_at.map(|at| at.0)),
        of("batch", "bigint", rows, |row| row.posting.as_ref().map(|posting| posting.batch)),
        of("index_in_batch", "bigint", rows, move |row| row.posting.as_ref().map(index)),
        of("statement", "bytea", rows, |row| row.posting.as_ref().map(|posting| posting.statement.as_slice())),
        of("leaf", "bigint", rows, |row| row.leaf).kept_where_null(),
        of("order_batch", "bigint", rows, |row| row.order.as_ref().map(|order| order.batch)),
        of("order_index", "bigint", rows, move |row| row.order.as_ref().map(index)),
        of("order_statement", "bytea", rows, |row| row.order.as_ref().map(|order| order.statement.as_slice())),
    ])
}

const INSERT_ACCOUNTS: &str = "INSERT INTO accounts (id, name, owner, kind, currency, status, status_by, balance, held,
    overdraft, day_max, zone, newest_entry)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], $13::bigint[])";
const INSERT_ENTRIES: &str = "INSERT INTO entries (id, account, transaction_row, amount, previous)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])";
const INSERT_LEAVES: &str = "INSERT INTO leaves (row, commitment, salt, body, data_key)
    SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bigint[])";
const INSERT_DATA_KEYS: &str = "INSERT INTO data_keys (id, store_key, subject, period, wrapped, made)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::integer[], $5::bytea[], $6::bigint[])";
const INSERT_REVOCATIONS: &str = "INSERT INTO revocations (mark, kind, issuer, value, at, reason)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[])
    ON CONFLICT (mark) DO NOTHING";
