//! The rows a decision reads, inside the commit that decides.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;

use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::filter::Filter;
use super::memory::{Keys, Memory};
use super::pending::Pending;
use super::policies;
use super::rows;
use super::schema::{LAPSING, OPEN};
use super::signing;
use super::witness;
use crate::kernel::breaker::Breaker;
use crate::kernel::command::{AgentPrincipal, CertificateRecord, CoreVerb, Posted};
use crate::kernel::decide::{
    Binding, Book, Counter, Grant, HistoryLine, ManualCase, Mark, Marking, Merchant, Offer, Place, PolicyLine,
    RowFault, Ruled, Signed, Stop, SubjectRow, marks_of,
};
use crate::kernel::external::SigningRow;
use crate::kernel::ledger::{Account, Inconsistent, Transaction};
use crate::kernel::mandate::{HeldMandate, Mandate, STANDING_MAX, StoredMandate};
use crate::kernel::policy::transaction::{Pace, PaceKey};
use crate::kernel::status::CrlStatus;
use crate::kernel::subject::{DataSubject, Period};
use crate::kernel::types::{
    AccountId, ApprovalId, CaseId, CredentialName, Day, KeyId, MandateId, MerchantId, ProductId, Serial, Sha256,
    SpiffeId, TransactionId, UnixMillis,
};
use crate::kernel::vault::{CredentialCount, CredentialHead, SealedCredential};
use crate::kernel::witness::WitnessedLog;
use crate::store::Ring;
use crate::store::keep::Keep;
use crate::store::planted::stale_sum;

/// One commit in the making: its connection, what the writer remembers, and where its next posting goes.
#[derive(Debug)]
pub(super) struct Commit<'c> {
    pub(super) connection: &'c Connection,
    /// Reading fills it; never borrowed across a call.
    pub(super) memory: RefCell<&'c mut Memory>,
    keep: Keep,
    /// What seals leaves.
    pub(super) ring: Option<&'c Ring>,
    pub(super) batch: i64,
    /// A transaction whose row waits for what the same command says of it.
    pub(super) draft: Option<Transaction>,
    /// Places of the batch that are given.
    pub(super) placed: u32,
    /// Statements of the last command, in the order of their places.
    pub(super) statements: Vec<Vec<u8>>,
    /// Rows that are not written yet.
    pub(super) pending: RefCell<Pending>,
}

pub(super) fn stop(error: rusqlite::Error) -> Stop {
    Stop::Fault(Box::new(error))
}

impl<'c> Commit<'c> {
    /// The beginning of a commit; the connection holds the write lock.
    pub(super) fn begin(
        connection: &'c Connection,
        memory: &'c mut Memory,
        keep: Keep,
        ring: Option<&'c Ring>,
    ) -> Result<Self, RowFault> {
        let number = |sql: &str| connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
        memory.begin(number("PRAGMA data_version")?);
        let batch = match memory.rows.batch {
            Some(batch) => batch,
            None => number("SELECT coalesce(max(batch), 0) + 1 FROM batches")?,
        };
        memory.rows.batch = Some(batch);
        let (memory, pending) = (RefCell::new(memory), RefCell::default());
        Ok(Self { connection, memory, keep, ring, batch, draft: None, placed: 0, statements: vec![], pending })
    }
}

impl Commit<'_> {
    fn one<T>(
        &self,
        sql: &str,
        params: &[&dyn ToSql],
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Ruled<Option<T>> {
        let mut statement = self.connection.prepare_cached(sql).map_err(stop)?;
        statement.query_row(params, read).optional().map_err(stop)
    }

    fn all<T>(
        &self,
        sql: &str,
        params: &[&dyn ToSql],
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Ruled<Vec<T>> {
        let mut statement = self.connection.prepare_cached(sql).map_err(stop)?;
        let rows = statement.query_map(params, read).map_err(stop)?;
        rows.collect::<rusqlite::Result<_>>().map_err(stop)
    }
}

impl Book for Commit<'_> {
    fn any_marked(&self, marks: &[String]) -> Ruled<bool> {
        self.remember_marks()?;
        let memory = self.memory.borrow();
        Ok(memory.rows.marks.as_ref().is_some_and(|standing| marks.iter().any(|mark| standing.contains(mark))))
    }

    fn standing(&self, marks: &[String]) -> Ruled<HashSet<String>> {
        self.remember_marks()?;
        let memory = self.memory.borrow();
        let stands = |mark: &&String| memory.rows.marks.as_ref().is_some_and(|standing| standing.contains(*mark));
        Ok(marks.iter().filter(stands).cloned().collect())
    }

    fn marking(&self, mark: &Mark) -> Ruled<Option<Marking>> {
        let sql = "SELECT at, reason, thaw_asked_by FROM revocations WHERE mark = ?1";
        self.one(sql, &[&mark.text()], |row| {
            Ok(Marking { at: UnixMillis(row.get(0)?), reason: row.get(1)?, thaw_asked_by: row.get(2)? })
        })
    }

    fn crl(&self, issuer: &str) -> Ruled<Option<CrlStatus>> {
        if let Some(status) = self.memory.borrow().rows.crls.get(issuer) {
            return Ok(*status);
        }
        let sql = "SELECT number, this_update, next_update FROM crls WHERE issuer = ?1";
        let status = self.one(sql, &[&issuer], |row| {
            Ok(CrlStatus {
                number: rows::unsigned(row, 0)?,
                this_update: UnixMillis(row.get(1)?),
                next_update: UnixMillis(row.get(2)?),
            })
        })?;
        self.memory.borrow_mut().rows.crls.insert(issuer.to_owned(), status);
        Ok(status)
    }

    fn account(&self, name: &str) -> Ruled<Option<Account>> {
        let found = self.remember_account(name).map_err(stop)?;
        Ok(found.then(|| self.memory.borrow().rows.account(name).map(|slot| slot.account.clone())).flatten())
    }

    fn grant(&self, agent: &SpiffeId, account: &AccountId) -> Ruled<Option<Grant>> {
        if let Some(grant) = self.memory.borrow().rows.grants.get(agent).and_then(|grants| grants.get(account)) {
            return Ok(grant.clone());
        }
        let sql = grants_where("agent = ?1 AND account = ?2 AND revoked_at IS NULL");
        let grant = self.one(&sql, &[&agent.to_string(), &account.as_str()], rows::grant)?;
        let mut memory = self.memory.borrow_mut();
        memory.rows.grants.entry(agent.clone()).or_default().insert(account.clone(), grant.clone());
        Ok(grant)
    }

    fn grants(&self, agent: &SpiffeId) -> Ruled<Vec<Grant>> {
        self.all(&grants_of(), &[&agent.to_string()], rows::grant)
    }

    fn mandate(&self, id: &MandateId) -> Ruled<Option<StoredMandate>> {
        self.one(&mandates_where("name = ?1"), &[&id.as_str()], rows::mandate)
    }

    fn mandates(&self, agent: &SpiffeId, account: &str) -> Ruled<Vec<HeldMandate>> {
        if let Some(mandates) = self.memory.borrow().rows.mandates.get(agent).and_then(|of| of.get(account)) {
            return Ok(mandates.clone());
        }
        let of = |condition: &str| {
            let sql = format!(
                "SELECT {} FROM mandates WHERE agent = ?1 AND account = ?2 AND {condition}",
                rows::HELD_MANDATE
            );
            self.all(&sql, &[&agent.to_string(), &account], rows::held_mandate)
        };
        let mut mandates = of(&format!("revoked_at IS NULL ORDER BY expires DESC, name LIMIT {STANDING_MAX}"))?;
        mandates.extend(of("revoked_at IS NOT NULL ORDER BY revoked_at DESC, name LIMIT 1")?);
        let mut memory = self.memory.borrow_mut();
        memory.rows.mandates.entry(agent.clone()).or_default().insert(account.to_owned(), mandates.clone());
        Ok(mandates)
    }

    fn merchant(&self, merchant: &MerchantId) -> Ruled<Option<Merchant>> {
        let sql = "SELECT merchant, name, currency FROM merchants WHERE merchant = ?1";
        self.one(sql, &[&merchant.as_str()], rows::merchant)
    }

    fn merchants(&self) -> Ruled<Vec<Merchant>> {
        self.all("SELECT merchant, name, currency FROM merchants ORDER BY merchant", &[], rows::merchant)
    }

    fn offer(&self, merchant: &MerchantId, product: &ProductId) -> Ruled<Option<Offer>> {
        let sql = format!("SELECT {} FROM offers WHERE merchant = ?1 AND product = ?2", rows::OFFER);
        self.one(&sql, &[&merchant.as_str(), &product.as_str()], rows::offer)
    }

    fn offers(&self, merchant: Option<&MerchantId>, limit: u32) -> Ruled<Vec<Offer>> {
        let sql = format!(
            "SELECT {} FROM offers WHERE merchant = ?1 OR ?1 IS NULL ORDER BY merchant, product LIMIT ?2",
            rows::OFFER
        );
        self.all(&sql, &[&merchant.map(MerchantId::as_str), &limit], rows::offer)
    }

    fn transaction(&self, id: &TransactionId) -> Ruled<Option<Transaction>> {
        let sql = format!("SELECT {} FROM {} WHERE t.name = ?1", rows::TRANSACTION, rows::TRANSACTION_FROM);
        self.one(&sql, &[&id.as_str()], rows::transaction)
    }

    fn transaction_of_approval(&self, id: &ApprovalId) -> Ruled<Option<Transaction>> {
        let sql = format!(
            "SELECT {} FROM approvals a JOIN transactions t ON t.name = a.transaction_name WHERE a.name = ?1",
            rows::TRANSACTION
        );
        self.one(&sql, &[&id.as_str()], rows::transaction)
    }

    fn posted(&self, id: &TransactionId) -> Ruled<Option<Posted>> {
        self.one(POSTED, &[&id.as_str()], rows::posted)
    }

    fn history(&self, account: &str, limit: u32) -> Ruled<Vec<HistoryLine>> {
        self.write_remembered().map_err(Stop::Fault)?;
        let sql = format!(
            "WITH RECURSIVE line (entry, depth) AS (
                 SELECT newest_entry, 1 FROM accounts WHERE name = ?1 AND newest_entry IS NOT NULL
                 UNION ALL
                 SELECT e.previous, depth + 1 FROM line JOIN entries e ON e.id = line.entry
                 WHERE e.previous IS NOT NULL AND depth < ?2)
             SELECT {}, e.amount, t.posted_at
             FROM line JOIN entries e ON e.id = line.entry JOIN transactions t ON t.id = e.transaction_row
             LEFT JOIN approvals a ON a.transaction_name = t.name ORDER BY e.id DESC",
            rows::TRANSACTION
        );
        self.all(&sql, &[&account, &limit], |row| {
            Ok(HistoryLine {
                transaction: rows::transaction(row)?,
                amount: row.get(rows::AFTER_TRANSACTION)?,
                posted_at: UnixMillis(row.get(rows::AFTER_TRANSACTION + 1)?),
            })
        })
    }

    fn open_holds(&self, agent: &SpiffeId, account: &str) -> Ruled<u32> {
        let sql = format!("SELECT count(*) FROM transactions WHERE agent = ?1 AND debit = ?2 AND {OPEN}");
        Ok(self.one(&sql, &[&agent.to_string(), &account], |row| row.get(0))?.unwrap_or(0))
    }

    fn spent(&self, counter: &Counter, day: Day) -> Ruled<i64> {
        let minor = self.remember_counter(counter, day).map_err(stop)?;
        Ok(stale_sum(&counter.text(), day.0, minor))
    }

    fn pace(&self, key: &PaceKey) -> Ruled<Pace> {
        let slots =
            self.one("SELECT slots FROM paces WHERE name = ?1", &[&key.text()], |row| row.get::<_, String>(0))?;
        let read = |slots: String| {
            Pace::from_text(&slots).ok_or_else(|| Inconsistent(format!("the count of {} is none", key.text())))
        };
        Ok(slots.map(read).transpose()?.unwrap_or_default())
    }

    fn reversed(&self, original: &TransactionId) -> Ruled<i64> {
        let sql = "SELECT coalesce(sum(amount), 0) FROM transactions
                   WHERE original = ?1 AND state IN ('approved', 'pending_approval', 'queued_manual', 'submitted', 'executed')";
        Ok(self.one(sql, &[&original.as_str()], |row| row.get(0))?.unwrap_or(0))
    }

    fn binding(&self, scope: &Sha256, now: UnixMillis) -> Ruled<Option<Binding>> {
        // No end: a key that was taken before the clock was set back lies in the future, and is taken all the same.
        let kept = self.keep.oldest_binding(now)..=Day(i32::MAX);
        let sql = "SELECT request, transaction_name, case_id FROM bindings WHERE day = ?1 AND scope = ?2";
        for day in self.days_of(|keys| &keys.bindings, kept, scope)? {
            let binding = self.one(sql, &[&day.0, &scope.0], |row| {
                Ok(Binding {
                    request: rows::sha256(row, 0)?,
                    transaction_id: rows::text_or_none(row, 1)?,
                    case_id: rows::text_or_none(row, 2)?,
                })
            })?;
            if binding.is_some() {
                return Ok(binding);
            }
        }
        Ok(None)
    }

    fn nonce_used(&self, nonce: &Sha256, now: UnixMillis) -> Ruled<bool> {
        // No end here either.
        let kept = self.keep.oldest_nonce(now)..=Day(i32::MAX);
        for day in self.days_of(|keys| &keys.nonces, kept, nonce)? {
            let sql = "SELECT 1 FROM nonces WHERE day = ?1 AND nonce = ?2";
            if self.one(sql, &[&day.0, &nonce.0], |_| Ok(()))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn breaker(&self) -> Ruled<Breaker> {
        if let Some(breaker) = &self.memory.borrow().rows.breaker {
            return Ok(breaker.clone());
        }
        let breaker = Breaker::of(self.all(&format!("SELECT {} FROM breaker", rows::STOP), &[], rows::stop)?);
        self.memory.borrow_mut().rows.breaker = Some(breaker.clone());
        Ok(breaker)
    }

    fn case(&self, id: &CaseId) -> Ruled<Option<ManualCase>> {
        self.one(&format!("SELECT {} FROM cases WHERE name = ?1", rows::CASE), &[&id.as_str()], rows::case)
    }

    fn open_cases(&self, agent: &SpiffeId) -> Ruled<u32> {
        let sql = "SELECT count(*) FROM cases
                   WHERE agent = ?1 AND state = 'queued' AND transaction_name IS NULL";
        Ok(self.one(sql, &[&agent.to_string()], |row| row.get(0))?.unwrap_or(0))
    }

    fn order(&self, id: &TransactionId) -> Ruled<Option<Posted>> {
        self.one(ORDER, &[&id.as_str()], rows::posted)
    }

    fn outbox(&self, id: &TransactionId) -> Ruled<Vec<CoreVerb>> {
        let sql = "SELECT verb FROM outbox WHERE transaction_name = ?1 ORDER BY id";
        self.all(sql, &[&id.as_str()], |row| rows::core_verb(row, 0))
    }

    fn lapsed(&self, now: UnixMillis, limit: u32) -> Ruled<Vec<Transaction>> {
        let sql = format!(
            "SELECT {} FROM {} WHERE {LAPSING} AND t.expires <= ?1 ORDER BY t.expires LIMIT ?2",
            rows::TRANSACTION,
            rows::TRANSACTION_FROM
        );
        self.all(&sql, &[&now.0, &limit], rows::transaction)
    }

    fn open_of_revoked(&self, limit: u32) -> Ruled<Vec<Transaction>> {
        let unswept = self.one("SELECT 1 FROM revocations WHERE swept = 0 LIMIT 1", &[], |_| Ok(()))?;
        if unswept.is_none() {
            return Ok(vec![]);
        }
        let mut found = vec![];
        for transaction in self.open()? {
            if found.len() >= limit as usize {
                break;
            }
            let Some(agent) = transaction.agent() else { continue };
            if self.any_marked(&marks_of(agent))? {
                found.push(transaction);
            }
        }
        Ok(found)
    }

    fn open_under(&self, marks: &[String]) -> Ruled<u32> {
        if marks.is_empty() {
            return Ok(0);
        }
        let marks: HashSet<&String> = marks.iter().collect();
        let under = |agent: &AgentPrincipal| marks_of(agent).iter().any(|mark| marks.contains(mark));
        let count = self.open()?.iter().filter(|open| open.agent().is_some_and(under)).count();
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn open_under_mandate(&self, mandate: &Mandate, limit: u32) -> Ruled<Vec<Transaction>> {
        let sql = format!(
            "SELECT {} FROM {} WHERE t.agent = ?1 AND t.debit = ?2 AND {OPEN} AND t.state <> 'submitted' ORDER BY t.expires",
            rows::TRANSACTION,
            rows::TRANSACTION_FROM
        );
        let mut open =
            self.all(&sql, params![mandate.agent.to_string(), mandate.account.as_str()], rows::transaction)?;
        open.retain(|open| open.mandate.as_ref().is_some_and(|used| used.mandate == mandate.id));
        open.truncate(limit as usize);
        Ok(open)
    }

    fn next_place(&self) -> Ruled<Place> {
        Ok(Place { batch: self.batch, index: self.placed })
    }

    fn batch_is_signed(&self, batch: i64) -> Ruled<Option<Signed>> {
        self.one("SELECT signature IS NOT NULL FROM batches WHERE batch = ?1", &[&batch], |row| {
            Ok(if row.get::<_, bool>(0)? { Signed::Yes } else { Signed::NotYet })
        })
    }

    fn certificate(&self, id: &str) -> Ruled<Option<CertificateRecord>> {
        self.one(&certificates_where("id = ?1"), &[&id], rows::certificate)
    }

    fn certificate_of_serial(&self, issuer: &str, serial: &Serial) -> Ruled<Option<CertificateRecord>> {
        self.one(
            &certificates_where("issuer = ?1 AND serial = ?2"),
            params![issuer, serial.as_bytes()],
            rows::certificate,
        )
    }

    fn issued(&self, issuer: &str, serials: &[Serial]) -> Ruled<u32> {
        let sql = "SELECT 1 FROM certificates WHERE issuer = ?1 AND serial = ?2";
        let mut issued = 0;
        for serial in serials {
            issued += u32::from(self.one(sql, params![issuer, serial.as_bytes()], |_| Ok(()))?.is_some());
        }
        Ok(issued)
    }

    fn agents_unmarked(&self, after: Option<&SpiffeId>, limit: u32) -> Ruled<Vec<SpiffeId>> {
        let sql = "SELECT DISTINCT subject FROM certificates WHERE subject >= 'spiffe://' AND subject < 'spiffe:/0'
                   AND subject > ?1 AND NOT EXISTS (SELECT 1 FROM revocations WHERE mark = 'agent:' || subject)
                   ORDER BY subject LIMIT ?2";
        let after = after.map(ToString::to_string).unwrap_or_default();
        self.all(sql, &[&after, &limit], |row| rows::text(row, 0))
    }

    fn certificates_of_subject(&self, subject: &str) -> Ruled<Vec<CertificateRecord>> {
        self.all(&certificates_where("subject = ?1"), &[&subject], rows::certificate)
    }

    fn certificates_of_key(&self, key: &KeyId) -> Ruled<Vec<CertificateRecord>> {
        self.all(&certificates_where("key = ?1"), &[&key.0], rows::certificate)
    }

    fn agent_is_known(&self, agent: &SpiffeId) -> Ruled<bool> {
        self.write_remembered().map_err(Stop::Fault)?;
        let sql = "SELECT EXISTS (SELECT 1 FROM grants WHERE agent = ?1)
                   OR EXISTS (SELECT 1 FROM counters WHERE counter = ?1)
                   OR EXISTS (SELECT 1 FROM revocations WHERE mark = 'agent:' || ?1)";
        Ok(self.one(sql, &[&agent.to_string()], |row| row.get(0))?.unwrap_or(false))
    }

    fn crl_number(&self, issuer: &str) -> Ruled<u64> {
        let sql = "SELECT number FROM crl_numbers WHERE issuer = ?1";
        Ok(self.one(sql, &[&issuer], |row| rows::unsigned(row, 0))?.unwrap_or(0))
    }

    fn subject(&self, subject: &DataSubject) -> Ruled<SubjectRow> {
        self.subject_row(subject)
    }

    fn lapsed_keys(&self, before: Period, limit: u32) -> Ruled<Vec<i64>> {
        self.keys_before(before, limit)
    }

    fn policy(&self) -> Ruled<Option<PolicyLine>> {
        self.one(policies::NEWEST, &[], policies::line)
    }

    fn credential(&self, name: &CredentialName) -> Ruled<Option<CredentialHead>> {
        self.credential_head(name)
    }

    fn credential_version(&self, name: &CredentialName, version: u64) -> Ruled<Option<SealedCredential>> {
        self.sealed_credential(name, version)
    }

    fn credentials(&self) -> Ruled<CredentialCount> {
        self.credentials_kept()
    }

    fn signing(&self, scope: &Sha256) -> Ruled<Option<SigningRow>> {
        self.one(signing::ROW, &[&scope.0], signing::row)
    }

    fn witnessed(&self) -> Ruled<Vec<WitnessedLog>> {
        self.all(witness::LOGS, &[], witness::log)
    }
}

impl Commit<'_> {
    /// Reads an account unless it is remembered. False when there is none.
    pub(super) fn remember_account(&self, name: &str) -> rusqlite::Result<bool> {
        if self.memory.borrow().rows.account(name).is_some() {
            return Ok(true);
        }
        let mut statement = self.connection.prepare_cached(ACCOUNT_READ)?;
        let read =
            |row: &Row<'_>| Ok((rows::account(row)?, row.get(rows::AFTER_ACCOUNT)?, row.get(rows::AFTER_ACCOUNT + 1)?));
        let Some((account, id, newest_entry)) = statement.query_row([name], read).optional()? else {
            return Ok(false);
        };
        self.memory.borrow_mut().rows.read_account(id, account, newest_entry);
        Ok(true)
    }

    /// A day's sum, read unless it is remembered.
    pub(super) fn remember_counter(&self, counter: &Counter, day: Day) -> rusqlite::Result<i64> {
        if let Some(minor) = self.memory.borrow().rows.counter(counter, day) {
            return Ok(minor);
        }
        let mut statement =
            self.connection.prepare_cached("SELECT minor FROM counters WHERE counter = ?1 AND day = ?2")?;
        let minor = statement.query_row(params![counter.text(), day.0], |row| row.get(0)).optional()?.unwrap_or(0);
        self.memory.borrow_mut().rows.read_counter(counter, day, minor);
        Ok(minor)
    }

    /// Days of the range that may have the key, newest first.
    fn days_of(
        &self,
        table: fn(&Keys) -> &BTreeMap<Day, Filter>,
        range: RangeInclusive<Day>,
        key: &Sha256,
    ) -> Ruled<Vec<Day>> {
        self.remember_keys().map_err(stop)?;
        let days: Vec<Day> = {
            let memory = self.memory.borrow();
            let days = memory.keys.iter().flat_map(|keys| table(keys).range(range.clone()).rev());
            days.filter(|(_, filter)| filter.may_have(key)).map(|(day, _)| *day).collect()
        };
        if !days.is_empty() {
            self.write_pending().map_err(Stop::Fault)?;
        }
        Ok(days)
    }

    /// Reads every key once after the file was opened.
    pub(super) fn remember_keys(&self) -> rusqlite::Result<()> {
        if self.memory.borrow().keys.is_some() {
            return Ok(());
        }
        let read = |sql: &str| -> rusqlite::Result<BTreeMap<Day, Filter>> {
            let mut filters: BTreeMap<Day, Filter> = BTreeMap::new();
            let mut statement = self.connection.prepare(sql)?;
            let mut keys = statement.query([])?;
            while let Some(row) = keys.next()? {
                filters.entry(Day(row.get(0)?)).or_default().add(&rows::sha256(row, 1)?);
            }
            Ok(filters)
        };
        let keys =
            Keys { bindings: read("SELECT day, scope FROM bindings")?, nonces: read("SELECT day, nonce FROM nonces")? };
        self.memory.borrow_mut().keys = Some(keys);
        Ok(())
    }

    fn remember_marks(&self) -> Ruled<()> {
        if self.memory.borrow().rows.marks.is_none() {
            let all = self.all("SELECT mark FROM revocations", &[], |row| row.get(0))?;
            self.memory.borrow_mut().rows.marks = Some(all.into_iter().collect());
        }
        Ok(())
    }

    /// Every open transaction: read only when something was revoked.
    fn open(&self) -> Ruled<Vec<Transaction>> {
        let sql = format!(
            "SELECT {} FROM {} WHERE {OPEN} AND t.state <> 'submitted' ORDER BY t.expires",
            rows::TRANSACTION,
            rows::TRANSACTION_FROM
        );
        self.all(&sql, &[], rows::transaction)
    }
}

/// A posted transaction's place and statement.
pub(super) const POSTED: &str = "SELECT name, batch, index_in_batch, statement FROM transactions
     WHERE name = ?1 AND statement IS NOT NULL";

/// A submitted transaction's order.
pub(super) const ORDER: &str = "SELECT name, order_batch, order_index, order_statement FROM transactions
     WHERE name = ?1 AND order_statement IS NOT NULL";

/// Columns [`rows::ACCOUNT`], then the row's number and the newest entry.
const ACCOUNT_READ: &str = "SELECT name, owner, kind, currency, status, balance, held, status_by, overdraft, day_max,
     zone, id, newest_entry FROM accounts WHERE name = ?1";

/// Every grant of an agent that nobody took back.
pub(super) fn grants_of() -> String {
    grants_where("agent = ?1 AND revoked_at IS NULL ORDER BY account")
}

fn grants_where(condition: &str) -> String {
    format!("SELECT {} FROM grants WHERE {condition}", rows::GRANT)
}

/// Every mandate of an agent, revoked or not.
pub(super) fn mandates_where(condition: &str) -> String {
    format!("SELECT {} FROM mandates WHERE {condition}", rows::MANDATE)
}

fn certificates_where(condition: &str) -> String {
    format!("SELECT {} FROM certificates WHERE {condition} ORDER BY id", rows::CERTIFICATE)
}
