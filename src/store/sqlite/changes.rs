//! Carrying out a decision's orders, with its leaf, in the deciding commit.

use std::sync::Arc;

use rusqlite::{ToSql, params};

use super::book::Commit;
use super::memory::{AccountSlot, Rows};
use super::pending::{BindingRow, EntryRow};
use super::policies;
use super::signing;
use super::witness;
use crate::kernel::command::{Actor, Command, Effect, LeafRef};
use crate::kernel::decide::{Change, CoreRefusal, ManualCase, Mark, Place, RowFault, about, decide, leaf_body};
use crate::kernel::ledger::{Entry, Inconsistent, Transaction, TransactionState};
use crate::kernel::mandate::StoredMandate;
use crate::kernel::policy::transaction::Why;
use crate::kernel::receipt::commitment;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{AccountId, CaseId, Day, SpiffeId, TransactionId, UnixMillis};
use crate::store::planted::planted;
use crate::store::sealing::DataKey;

type Written = Result<(), RowFault>;

/// A decision that is carried out, but for its leaf.
pub(super) struct Decided {
    pub(super) outcome: Result<Effect, Refusal>,
    pub(super) leaf_row: Option<i64>,
    /// What seals its leaf.
    key: Option<Arc<DataKey>>,
    why: Option<Why>,
}

/// A leaf as it will be stored.
pub(super) struct Leaf {
    pub(super) place: LeafRef,
    /// Empty when it is sealed.
    pub(super) salt: Vec<u8>,
    /// Sealed: with the salt.
    pub(super) body: Vec<u8>,
    pub(super) key: Option<i64>,
}

impl Decided {
    /// The leaf of the decision, which is about this command, sealed.
    ///
    /// # Errors
    /// [`CanonRefused`] when the command carries what has no canonical form.
    ///
    /// [`CanonRefused`]: crate::kernel::canon::CanonRefused
    pub(super) fn leaf(&self, command: &Command) -> Result<Option<Leaf>, RowFault> {
        let Some(row) = self.leaf_row else {
            return Ok(None);
        };
        let body = leaf_body(command, &self.outcome, self.why.as_ref())?;
        let salt = command.stamp.leaf_salt;
        let place = LeafRef { row, commitment: commitment(&salt, &body) };
        Ok(Some(match &self.key {
            Some(key) => {
                let body = key.seal(row, &place.commitment, &salt, &body)?;
                Leaf { place, salt: vec![], body, key: Some(key.id()) }
            }
            None => Leaf { place, salt: salt.to_vec(), body, key: None },
        }))
    }
}

/// What posting adds to a transaction's row.
struct Moved {
    place: Place,
    at: UnixMillis,
    statement: Vec<u8>,
    leaf: Option<i64>,
}

impl Commit<'_> {
    /// Decides one command and writes its changes; its leaf has its row but is not written yet.
    ///
    /// # Errors
    /// The fault of a row or of a write; the caller rolls back.
    pub(super) fn apply(&mut self, command: &Command) -> Result<Decided, RowFault> {
        let decided = decide(self, command)?;
        let leaf_row = if decided.has_leaf(&command.act) { Some(self.next_leaf_row()?) } else { None };
        let subject = match leaf_row {
            Some(_) => Some(about(self, command, &decided)?),
            None => None,
        };
        for change in decided.changes {
            self.write(change, leaf_row)?;
        }
        self.write_draft()?;
        // Afterwards: a key that this very decision destroys seals nothing more. Here, in the order of the commit, and not
        // where leaves are made.
        let key = match subject {
            Some(subject) => self.data_key(&subject, command.stamp.wall)?,
            None => None,
        };
        Ok(Decided { outcome: decided.outcome, leaf_row, key, why: decided.why })
    }

    /// The row of the next leaf of this commit. Its transaction names it before it is written.
    fn next_leaf_row(&self) -> Result<i64, RowFault> {
        self.next_row(|rows| &mut rows.next_leaf, "SELECT coalesce(max(row), 0) + 1 FROM leaves")
    }

    /// Numbers a row of a table that is only ever added to.
    pub(super) fn next_row(&self, next: fn(&mut Rows) -> &mut Option<i64>, first: &str) -> Result<i64, RowFault> {
        let known = *next(&mut self.memory.borrow_mut().rows);
        let row = match known {
            Some(row) => row,
            None => self.connection.prepare_cached(first)?.query_row([], |row| row.get(0))?,
        };
        *next(&mut self.memory.borrow_mut().rows) = Some(row + 1);
        Ok(row)
    }

    pub(super) fn run(&self, sql: &str, params: &[&dyn ToSql]) -> Result<usize, RowFault> {
        Ok(self.connection.prepare_cached(sql)?.execute(params)?)
    }

    /// Writes what waits, and the accounts and sums that changed since the last time: before COMMIT, and before a read
    /// that looks for them in their tables.
    pub(super) fn write_remembered(&self) -> Written {
        self.write_pending()?;
        let mut memory = self.memory.borrow_mut();
        let sql = "UPDATE accounts SET status = ?2, balance = ?3, held = ?4, status_by = ?5, newest_entry = ?6
                   WHERE id = ?1";
        let mut update = self.connection.prepare_cached(sql)?;
        memory.rows.write_accounts(|slot| {
            let account = &slot.account;
            let status = account.status.name();
            update
                .execute(params![slot.row, status, account.balance, account.held, account.status_by, slot.newest_entry])
                .map(|_| ())
        })?;
        let sql = "INSERT INTO counters (counter, day, minor) VALUES (?1, ?2, ?3)
                   ON CONFLICT (counter, day) DO UPDATE SET minor = ?3";
        let mut put = self.connection.prepare_cached(sql)?;
        memory.rows.write_counters(|slot| put.execute(params![slot.counter, slot.day.0, slot.minor]).map(|_| ()))?;
        Ok(())
    }

    /// An account of a change is one that the decision read.
    fn change_account(&self, name: &str, change: impl FnOnce(&mut AccountSlot)) -> Written {
        self.remember_account(name)?;
        let changed = self.memory.borrow_mut().rows.change_account(name, change);
        changed.ok_or_else(|| Inconsistent(format!("account {name} is changed but not there")).into())
    }

    fn write(&mut self, change: Change, leaf: Option<i64>) -> Written {
        match change {
            Change::InsertAccount(account) => {
                let sql = "INSERT INTO accounts
                           (name, owner, kind, currency, status, balance, held, overdraft, day_max, zone)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
                self.run(
                    sql,
                    params![
                        account.name,
                        account.owner,
                        account.kind.name(),
                        account.currency.code(),
                        account.status.name(),
                        account.balance,
                        account.held,
                        account.overdraft,
                        account.day_max,
                        account.zone.name()
                    ],
                )?;
                self.memory.borrow_mut().rows.read_account(self.connection.last_insert_rowid(), account, None);
            }
            Change::UpdateAccount(account) => {
                let name = account.name.clone();
                self.change_account(&name, |slot| slot.account = account)?;
            }
            Change::PutMerchant(merchant) => {
                let sql = "INSERT INTO merchants (merchant, name, currency) VALUES (?1, ?2, ?3)";
                self.run(sql, params![merchant.merchant.as_str(), merchant.name, merchant.currency.code()])?;
            }
            Change::PutOffer(offer) => {
                let sql = "INSERT INTO offers (merchant, product, title, price, currency) VALUES (?1, ?2, ?3, ?4, ?5)";
                self.run(
                    sql,
                    params![
                        offer.merchant.as_str(),
                        offer.product.as_str(),
                        offer.title,
                        offer.price.minor(),
                        offer.price.currency().code()
                    ],
                )?;
            }
            Change::PutGrant(grant) => {
                self.forget_grant(&grant.agent, &grant.account);
                // An expired grant gives way; an unexpired one would have been found by the decision.
                let (agent, account) = (grant.agent.to_string(), grant.account.as_str());
                let close = "UPDATE grants SET revoked_at = expires
                             WHERE agent = ?1 AND account = ?2 AND revoked_at IS NULL";
                self.run(close, params![agent, account])?;
                let sql = "INSERT INTO grants
                           (agent, account, owner, verbs, maximum, currency, expires, entered_by, asserted)
                           SELECT ?1, name, ?3, ?4, ?5, currency, ?6, ?7, ?8 FROM accounts WHERE name = ?2";
                self.run(
                    sql,
                    params![
                        agent,
                        account,
                        grant.owner.as_str(),
                        serde_json::to_string(&grant.verbs)?,
                        grant.per_transaction_max.map(|max| max.minor()),
                        grant.expires.0,
                        grant.entered_by,
                        grant.asserted
                    ],
                )?;
            }
            Change::RevokeGrant { agent, account, at } => {
                self.forget_grant(&agent, &account);
                let sql = "UPDATE grants SET revoked_at = ?3
                           WHERE agent = ?1 AND account = ?2 AND revoked_at IS NULL";
                self.run(sql, params![agent.to_string(), account.as_str(), at.0])?;
            }
            Change::PutMandate(stored) => {
                self.memory.borrow_mut().rows.mandates.remove(&stored.mandate.agent);
                self.put_mandate(&stored)?;
            }
            Change::InsertTransaction(transaction) => {
                self.write_draft()?;
                self.draft = Some(transaction);
            }
            Change::UpdateTransaction(transaction) => {
                self.write_draft()?;
                self.update_transaction(&transaction)?;
            }
            Change::Post { transaction, entries, statement, at } => {
                let place = Place { batch: self.batch, index: self.placed };
                let moved = Moved { place, at, statement, leaf };
                let row = match self.draft.take_if(|draft| draft.transaction_id == transaction) {
                    Some(draft) => self.insert_transaction(&draft, Some(&moved))?,
                    None => self.post_transaction(&transaction, &moved)?,
                };
                for entry in entries {
                    self.insert_entry(row, &entry)?;
                }
                self.placed += 1;
                self.statements.push(moved.statement);
            }
            Change::Order { transaction, statement } => {
                self.write_draft()?;
                let sql = "UPDATE transactions SET order_batch = ?2, order_index = ?3, order_statement = ?4
                           WHERE name = ?1";
                self.run(sql, params![transaction.as_str(), self.batch, self.placed, statement])?;
                self.placed += 1;
                self.statements.push(statement);
            }
            Change::Spend { counter, day, minor } => {
                let sum = self.remember_counter(&counter, day)?.checked_add(minor);
                let sum = sum.ok_or_else(|| Inconsistent(format!("the day's sum of {} overflows", counter.text())))?;
                let changed = self.memory.borrow_mut().rows.change_counter(&counter, day, sum);
                changed.ok_or_else(|| Inconsistent(format!("the day's sum of {} is gone", counter.text())))?;
            }
            Change::PutPace { key, pace } => {
                let sql = "INSERT INTO paces (name, slots, ends) VALUES (?1, ?2, ?3)
                           ON CONFLICT (name) DO UPDATE SET slots = ?2, ends = ?3";
                self.run(sql, params![key.text(), pace.text(), pace.ends(&key).0])?;
            }
            Change::Bind { .. } if planted("key_not_unique") => {}
            Change::Bind { scope, binding, at } => {
                let day = Day::utc(at);
                if let Some(keys) = &mut self.memory.borrow_mut().keys {
                    keys.bindings.entry(day).or_default().add(&scope);
                }
                self.pending.borrow_mut().bindings.push(BindingRow {
                    day: day.0,
                    scope: scope.0,
                    request: binding.request.0,
                    transaction: binding.transaction_id.map(|id| id.as_str().to_owned()),
                    case: binding.case_id.map(|id| id.as_str().to_owned()),
                });
            }
            Change::Unbind { scope } => {
                self.write_pending()?;
                self.remember_keys()?;
                let days: Vec<Day> = {
                    let memory = self.memory.borrow();
                    let days = memory.keys.iter().flat_map(|keys| &keys.bindings);
                    days.filter(|(_, filter)| filter.may_have(&scope)).map(|(day, _)| *day).collect()
                };
                for day in days {
                    self.run("DELETE FROM bindings WHERE day = ?1 AND scope = ?2", params![day.0, scope.0])?;
                }
            }
            Change::UseNonce { nonce, at } => {
                let day = Day::utc(at);
                if let Some(keys) = &mut self.memory.borrow_mut().keys {
                    keys.nonces.entry(day).or_default().add(&nonce);
                }
                self.pending.borrow_mut().nonces.push((day.0, nonce.0));
            }
            Change::PutCase(case) => self.put_case(&case)?,
            Change::LiftBreaker(cause) => {
                self.run("DELETE FROM breaker WHERE cause = ?1", params![cause.name()])?;
                let known = &mut self.memory.borrow_mut().rows.breaker;
                *known = known.take().map(|breaker| breaker.without(cause));
            }
            Change::OpenBreaker(stop) => {
                let sql = "INSERT INTO breaker (cause, reason, by, since) VALUES (?1, ?2, ?3, ?4)";
                self.run(sql, params![stop.cause.name(), stop.reason, stop.by, stop.since.0])?;
                let known = &mut self.memory.borrow_mut().rows.breaker;
                *known = known.take().map(|breaker| breaker.with(stop));
            }
            Change::Enqueue(row) => {
                let sql = "INSERT INTO outbox (transaction_name, verb, since) VALUES (?1, ?2, ?3)
                           ON CONFLICT (transaction_name, verb) DO NOTHING";
                self.run(sql, params![row.transaction_id.as_str(), row.verb.name(), row.since.0])?;
            }
            Change::KeepRefusal(refusal) => {
                let sql = "INSERT INTO core_refusals (transaction_name, verb, reason, at) VALUES (?1, ?2, ?3, ?4)
                           ON CONFLICT (transaction_name, verb) DO NOTHING";
                let CoreRefusal { transaction_id, verb, reason, at } = refusal;
                self.run(sql, params![transaction_id.as_str(), verb.name(), reason, at.0])?;
            }
            Change::Dequeue { transaction, verb } => {
                let sql = "DELETE FROM outbox WHERE transaction_name = ?1 AND verb = ?2";
                self.run(sql, params![transaction.as_str(), verb.name()])?;
            }
            Change::JournalCertificate(record) => {
                let sql = "INSERT INTO certificates (id, profile, subject, issuer, serial, key, not_after, tbs)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
                self.run(
                    sql,
                    params![
                        record.id,
                        record.profile,
                        record.subject,
                        record.issuer,
                        record.serial.as_bytes(),
                        record.key.0,
                        record.not_after.0,
                        record.tbs
                    ],
                )?;
            }
            Change::ReleaseCertificate { id, der } => {
                self.run("UPDATE certificates SET der = ?2 WHERE id = ?1 AND der IS NULL", params![id, der])?;
            }
            Change::Revoke { .. } if planted("revocation_not_kept") => {}
            Change::Revoke { mark: Mark::Key(_), .. } if planted("revocation_half") => {}
            Change::Revoke { mark, at, reason } => {
                let text = mark.text();
                let (kind, issuer, value) = mark.columns();
                let sql =
                    "INSERT INTO revocations (mark, kind, issuer, value, at, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                           ON CONFLICT (mark) DO NOTHING";
                self.run(sql, params![text, kind, issuer, value, at.0, reason])?;
                if let Some(marks) = &mut self.memory.borrow_mut().rows.marks {
                    marks.insert(text);
                }
            }
            Change::Lift(mark) => {
                let text = mark.text();
                self.run("DELETE FROM revocations WHERE mark = ?1", params![text])?;
                if let Some(marks) = &mut self.memory.borrow_mut().rows.marks {
                    marks.remove(&text);
                }
            }
            Change::AskThaw { whom, by } => {
                let sql = "UPDATE revocations SET thaw_asked_by = ?2 WHERE mark = ?1 AND thaw_asked_by IS NULL";
                self.run(sql, params![Mark::Frozen(whom).text(), by])?;
            }
            Change::PutCrl { issuer, status } => {
                let sql = "INSERT INTO crls (issuer, number, this_update, next_update) VALUES (?1, ?2, ?3, ?4)
                           ON CONFLICT (issuer) DO UPDATE SET number = ?2, this_update = ?3, next_update = ?4";
                let number = i64::try_from(status.number)?;
                self.run(sql, params![issuer, number, status.this_update.0, status.next_update.0])?;
                self.memory.borrow_mut().rows.crls.insert(issuer, Some(status));
            }
            Change::PutPolicy(record) => policies::insert(self, *record)?,
            Change::PutCredential(credential) => self.put_credential(&credential)?,
            Change::RemoveCredential { name, version } => self.remove_credential(&name, version)?,
            Change::PutWitnessed(log) => witness::put(self, &log)?,
            Change::PutSigning(row) => signing::put(self, &row)?,
            Change::KeepSignatures { scope, signatures } => signing::keep(self, &scope, &signatures)?,
            Change::PutCrlNumber { issuer, number } => {
                let sql = "INSERT INTO crl_numbers (issuer, number) VALUES (?1, ?2)
                           ON CONFLICT (issuer) DO UPDATE SET number = ?2";
                self.run(sql, params![issuer, i64::try_from(number)?])?;
            }
            Change::SignBatch { batch, signature, key } => {
                let sql = "UPDATE batches SET signature = ?2, key = ?3 WHERE batch = ?1 AND signature IS NULL";
                self.run(sql, params![batch, signature, key.0])?;
            }
            Change::HoldSubject { subject, by, at, reason } => self.hold(&subject, &by, at, &reason)?,
            Change::ReleaseSubject { subject, by, at } => self.release(&subject, &by, at)?,
            Change::AskErasure { subject, by, at, reason } => self.ask_erasure(&subject, &by, at, &reason)?,
            Change::DestroyKeys { keys, left, forget, at } => self.destroy_keys(&keys, &left, forget.as_ref(), at)?,
            Change::RevocationsSwept => {
                self.run("UPDATE revocations SET swept = 1 WHERE swept = 0", &[])?;
            }
        }
        Ok(())
    }

    fn forget_grant(&self, agent: &SpiffeId, account: &AccountId) {
        if let Some(grants) = self.memory.borrow_mut().rows.grants.get_mut(agent) {
            grants.remove(account);
        }
    }

    fn write_draft(&mut self) -> Written {
        match self.draft.take() {
            Some(transaction) => self.insert_transaction(&transaction, None).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Writes a new transaction, posted or not, and tells its row.
    fn insert_transaction(&self, transaction: &Transaction, moved: Option<&Moved>) -> Result<i64, RowFault> {
        let sql =
            "INSERT INTO transactions (id, name, kind, state, maker, agent, debit, credit, amount, currency, merchant,
                   product, original, parameters, counts_on, created, expires, authorization_ttl_ms, policy_version,
                   catalogue_version, fee, debits_on, settlement, case_id, posted_at, batch, index_in_batch, statement,
                   leaf, mandate)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
                   ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30)";
        let row =
            self.next_row(|rows| &mut rows.next_transaction, "SELECT coalesce(max(id), 0) + 1 FROM transactions")?;
        let state = if moved.is_some() { TransactionState::Posted } else { transaction.state };
        let agent = match &transaction.maker {
            Actor::Agent(agent) => Some(agent.spiffe_id.to_string()),
            Actor::Operator(_) | Actor::Program(_) | Actor::System { .. } => None,
        };
        self.run(
            sql,
            params![
                row,
                transaction.transaction_id.as_str(),
                transaction.kind.name(),
                state.name(),
                serde_json::to_string(&transaction.maker)?,
                agent,
                transaction.debit,
                transaction.credit,
                transaction.amount.minor(),
                transaction.amount.currency().code(),
                transaction.merchant.as_ref().map(|merchant| merchant.as_str()),
                transaction.product.as_ref().map(|product| product.as_str()),
                transaction.original.as_ref().map(TransactionId::as_str),
                transaction.parameters.0,
                transaction.counts_on.map(|day| day.0),
                transaction.created.0,
                transaction.expires.0,
                transaction.authorization_ttl_ms,
                transaction.policy_version,
                i64::try_from(transaction.catalogue_version)?,
                transaction.fee.minor(),
                transaction.debits_on.map(|day| day.0),
                transaction.settlement.name(),
                transaction.case_id.as_ref().map(CaseId::as_str),
                moved.map(|moved| moved.at.0),
                moved.map(|moved| moved.place.batch),
                moved.map(|moved| moved.place.index),
                moved.map(|moved| &moved.statement),
                moved.and_then(|moved| moved.leaf),
                transaction.mandate.as_ref().map(serde_json::to_string).transpose()?
            ],
        )?;
        if let Some(approval) = &transaction.approval {
            let sql = "INSERT INTO approvals (name, transaction_name, reasons, expires, asked)
                       VALUES (?1, ?2, ?3, ?4, ?5)";
            self.run(
                sql,
                params![
                    approval.approval_id.as_str(),
                    transaction.transaction_id.as_str(),
                    serde_json::to_string(&approval.reasons)?,
                    approval.expires.0,
                    serde_json::to_string(&approval.asked)?
                ],
            )?;
        }
        Ok(row)
    }

    /// Posts a transaction that has its row already, and tells it.
    fn post_transaction(&self, name: &TransactionId, moved: &Moved) -> Result<i64, RowFault> {
        let find = "SELECT id FROM transactions WHERE name = ?1";
        let row: i64 = self.connection.prepare_cached(find)?.query_row([name.as_str()], |row| row.get(0))?;
        let sql = "UPDATE transactions SET state = 'executed', posted_at = ?2, batch = ?3, index_in_batch = ?4,
                   statement = ?5, leaf = ?6 WHERE id = ?1";
        let Moved { place, at, statement, leaf } = moved;
        self.run(sql, params![row, at.0, place.batch, place.index, statement, leaf])?;
        Ok(row)
    }

    /// Appends an entry to its account's chain.
    fn insert_entry(&self, transaction: i64, entry: &Entry) -> Written {
        self.remember_account(&entry.account)?;
        let account = self.memory.borrow().rows.account(&entry.account).map(|slot| (slot.row, slot.newest_entry));
        let (account, previous) =
            account.ok_or_else(|| Inconsistent(format!("account {} has an entry but is not there", entry.account)))?;
        let id = self.next_row(|rows| &mut rows.next_entry, "SELECT coalesce(max(id), 0) + 1 FROM entries")?;
        let row = EntryRow { id, account, transaction, amount: entry.amount, previous };
        self.pending.borrow_mut().entries.push(row);
        self.change_account(&entry.account, |slot| slot.newest_entry = Some(id))
    }

    fn put_mandate(&self, stored: &StoredMandate) -> Written {
        let sql =
            "INSERT INTO mandates (name, agent, account, claims, text, created, entered_by, revoked_at, revoked_by,
                   revoked_reason, signer, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
                   ON CONFLICT (name) DO UPDATE SET revoked_at = ?8, revoked_by = ?9, revoked_reason = ?10
                   WHERE revoked_at IS NULL";
        let revoked = stored.revoked.as_ref();
        self.run(
            sql,
            params![
                stored.mandate.id.as_str(),
                stored.mandate.agent.to_string(),
                stored.mandate.account.as_str(),
                stored.mandate.claims().to_string(),
                stored.text,
                stored.created.0,
                stored.entered_by,
                revoked.map(|revoked| revoked.at.0),
                revoked.map(|revoked| &revoked.by),
                revoked.map(|revoked| &revoked.reason),
                serde_json::to_string(&stored.signer)?,
                stored.mandate.expires.0
            ],
        )?;
        Ok(())
    }

    fn put_case(&self, case: &ManualCase) -> Written {
        let sql = "INSERT INTO cases (name, agent, agent_key, state, reason, scope, transaction_name, resume, call,
                   created, decided_by, decided_at, note, taken_by, taken_at, proposed, reference)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
                   ON CONFLICT (name) DO UPDATE SET state = ?4, decided_by = ?11, decided_at = ?12, note = ?13,
                   taken_by = ?14, taken_at = ?15, proposed = ?16, reference = ?17";
        let taken = case.taken.as_ref();
        self.run(
            sql,
            params![
                case.case_id.as_str(),
                case.agent.to_string(),
                case.agent_key.0,
                case.state.name(),
                case.reason,
                case.scope.map(|scope| scope.0),
                case.transaction_id.as_ref().map(TransactionId::as_str),
                case.resume.map(|state| state.name()),
                case.call.to_string(),
                case.created.0,
                case.decided_by,
                case.decided_at.map(|at| at.0),
                case.note,
                taken.map(|taken| taken.by.as_str()),
                taken.map(|taken| taken.at.0),
                case.proposed.as_ref().map(|proposed| serde_json::json!(proposed).to_string()),
                case.reference
            ],
        )?;
        Ok(())
    }

    fn update_transaction(&self, transaction: &Transaction) -> Written {
        let sql = "UPDATE transactions SET state = ?2, expires = ?3, case_id = ?4 WHERE name = ?1";
        let name = transaction.transaction_id.as_str();
        let case = transaction.case_id.as_ref().map(CaseId::as_str);
        self.run(sql, params![name, transaction.state.name(), transaction.expires.0, case])?;
        if let Some(approval) = transaction.approval.as_ref().filter(|approval| !approval.asked.quorum.words.is_empty())
        {
            let sql = "UPDATE approvals SET asked = ?2, decided_by = ?3, decided_at = ?4, note = ?5, asserted = ?6
                       WHERE transaction_name = ?1 AND decided_by IS NULL";
            let asked = serde_json::to_string(&approval.asked)?;
            let decided = approval.decided.as_ref();
            self.run(
                sql,
                params![
                    name,
                    asked,
                    decided.map(|decided| &decided.by),
                    decided.map(|decided| decided.at.0),
                    decided.map(|decided| &decided.note),
                    decided.map(|decided| decided.asserted)
                ],
            )?;
        }
        Ok(())
    }
}
