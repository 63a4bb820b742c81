//! Carrying out a decision's orders on the sheet, with its leaf.

use super::sheet::{AccountRow, EntryRow, LeafRow, NonceRow, Revoked, Sheet, SigningSlot, TransactionRow, Written};
use crate::kernel::command::{Command, Decision, LeafRef, Posted};
use crate::kernel::decide::{Change, Decided, RowFault, leaf_body};
use crate::kernel::external::SigningRow;
use crate::kernel::ledger::{Entry, Inconsistent, Transaction, TransactionState};
use crate::kernel::merkle;
use crate::kernel::receipt::commitment;
use crate::kernel::types::{Day, TransactionId, UnixMillis};
use crate::store::planted::planted;
use crate::store::sealing::DataKey;

type Applied<T> = Result<T, RowFault>;

/// Row numbers that one command may need: a transaction, its entries, an account or two, a leaf and its key.
pub(super) const ROWS_OF_A_COMMAND: i64 = 16;

impl Sheet {
    /// Carries out what was decided for a command; `key` seals its leaf.
    ///
    /// # Errors
    /// A row that is not as the decision saw it, a leaf without a canonical form. The sheet is of no more use then.
    pub(super) fn apply(&mut self, command: &Command, decided: Decided, key: Option<&DataKey>) -> Applied<Decision> {
        let has_leaf = decided.has_leaf(&command.act);
        if !decided.changes.is_empty() {
            self.answers.clear();
        }
        let mut moved = None;
        for change in decided.changes {
            if let Change::Post { transaction, .. } = &change {
                moved = Some(transaction.clone());
            }
            self.change(change)?;
        }
        self.at_ms = self.at_ms.max(command.stamp.wall.0);
        let leaf = if has_leaf {
            let body = leaf_body(command, &decided.outcome, decided.why.as_ref())?;
            let row = self.next_row()?;
            let commitment = commitment(&command.stamp.leaf_salt, &body);
            let salt = command.stamp.leaf_salt;
            self.leaves.push(match key {
                Some(key) => {
                    let body = key.seal(row, &commitment, &salt, &body)?;
                    LeafRow { row, commitment, salt: vec![], body, key: Some(key.id()) }
                }
                None => LeafRow { row, commitment, salt: salt.to_vec(), body, key: None },
            });
            if let Some(transaction) = moved {
                self.transaction_mut(&transaction)?.leaf = Some(row);
            }
            Some(LeafRef { row, commitment })
        } else {
            None
        };
        Ok(Decision { outcome: decided.outcome, leaf })
    }

    pub(super) fn next_row(&mut self) -> Applied<i64> {
        if self.rows.next >= self.rows.end {
            return Err("a command used more row numbers than any can need".into());
        }
        self.rows.next += 1;
        Ok(self.rows.next - 1)
    }

    fn account_mut(&mut self, name: &str) -> Applied<&mut AccountRow> {
        let row = self.accounts.get_mut(name).and_then(Option::as_mut);
        Ok(row.ok_or_else(|| Inconsistent(format!("account {name} is changed but not there")))?)
    }

    fn transaction_mut(&mut self, id: &TransactionId) -> Applied<&mut TransactionRow> {
        let row = self.transactions.get_mut(id).and_then(Option::as_mut);
        Ok(row.ok_or_else(|| Inconsistent(format!("{id} is changed but not there")))?)
    }

    fn change(&mut self, change: Change) -> Applied<()> {
        match change {
            Change::InsertAccount(account) => {
                let id = self.next_row()?;
                let row = AccountRow { id, newest_entry: None, written: Written::New, status_changed: false, account };
                self.accounts.insert(row.account.name.clone(), Some(row));
            }
            Change::UpdateAccount(account) => {
                let row = self.account_mut(&account.name)?;
                row.written = row.written.changed();
                row.status_changed |=
                    (&row.account.status, &row.account.status_by) != (&account.status, &account.status_by);
                row.account = account;
            }
            Change::InsertTransaction(transaction) => self.insert(transaction)?,
            Change::UpdateTransaction(transaction) => {
                let row = self.transaction_mut(&transaction.transaction_id)?;
                let before = std::mem::replace(&mut row.transaction, transaction.clone());
                row.written = row.written.changed();
                self.count_hold(&transaction, before.state, transaction.state);
            }
            Change::Post { transaction, entries, statement, at } => self.post(&transaction, &entries, statement, at)?,
            Change::Order { transaction, statement } => {
                let order = self.place(&transaction, statement)?;
                let row = self.transaction_mut(&transaction)?;
                row.order = Some(order);
                row.written = row.written.changed();
            }
            Change::Spend { counter, day, minor } => {
                let key = (counter.text(), day);
                let unread = || Inconsistent(format!("the counter of {} is changed but was not read", key.0));
                let tally = self.counters.get_mut(&key).ok_or_else(unread)?;
                let sum = tally.minor.checked_add(minor).filter(|sum| *sum >= 0);
                tally.minor = sum.ok_or_else(|| Inconsistent(format!("the day's sum of {} cannot be", key.0)))?;
                tally.written = tally.written.changed();
            }
            Change::PutPace { key, pace } => {
                let unread = || Inconsistent(format!("the count of {} is changed but was not read", key.text()));
                let row = self.paces.get_mut(key.text()).ok_or_else(unread)?;
                row.ends = pace.ends(&key);
                row.pace = pace;
                row.written = row.written.changed();
            }
            Change::Bind { .. } if planted("key_not_unique") => {}
            Change::Bind { scope, binding, at } => {
                let row = self.bindings.get_mut(&scope.0).ok_or_else(|| unbound(&scope.hex()))?;
                row.binding = Some((binding, Day::utc(at).0));
                row.changed = true;
            }
            Change::Unbind { scope } => {
                let row = self.bindings.get_mut(&scope.0).ok_or_else(|| unbound(&scope.hex()))?;
                row.binding = None;
                row.changed = true;
            }
            Change::PutSigning(row) => {
                let scope = row.scope.0;
                self.signings.insert(scope, SigningSlot { row: Some(*row), written: Written::New });
            }
            Change::KeepSignatures { scope, signatures } => {
                let slot = self.signings.get_mut(&scope.0);
                let row = slot.as_ref().and_then(|slot| slot.row.as_ref());
                let kept = row.map(|row| SigningRow { signatures: Some(signatures), ..row.clone() });
                let unread = || Inconsistent(format!("the order {} is changed but not there", scope.hex()));
                let (slot, kept) = slot.zip(kept).ok_or_else(unread)?;
                *slot = SigningSlot { row: Some(kept), written: slot.written.changed() };
            }
            Change::UseNonce { nonce, at } => {
                self.nonces.insert(nonce.0, NonceRow::TakenNow(Day::utc(at).0));
            }
            Change::Revoke { mark, at, reason } => {
                let known = self.marks.insert(mark.text(), true);
                if known != Some(true) {
                    self.revoked.push(Revoked { mark, at, reason });
                }
            }
            Change::Lift(mark) => {
                self.marks.insert(mark.text(), false);
                self.rare.push(Change::Lift(mark));
            }
            Change::PutOffer(offer) => {
                self.offers.insert((offer.merchant.clone(), offer.product.clone()), Some(offer.clone()));
                self.rare.push(Change::PutOffer(offer));
            }
            Change::PutGrant(grant) => {
                let granted = self.grants.entry(grant.agent.clone()).or_default();
                granted.of.insert(grant.account.clone(), Some(grant.clone()));
                self.rare.push(Change::PutGrant(grant));
            }
            Change::RevokeGrant { agent, account, at } => {
                self.grants.entry(agent.clone()).or_default().of.insert(account.clone(), None);
                self.rare.push(Change::RevokeGrant { agent, account, at });
            }
            Change::PutMandate(stored) => {
                let of = self.mandates.get_mut(&stored.mandate.agent);
                if let Some(held) = of.and_then(|of| of.get_mut(stored.mandate.account.as_str())) {
                    held.retain(|there| there.mandate.id != stored.mandate.id);
                    held.push(stored.held());
                }
                self.rare.push(Change::PutMandate(stored));
            }
            Change::OpenBreaker(stop) => {
                self.breaker = self.breaker.take().map(|breaker| breaker.with(stop.clone()));
                self.rare.push(Change::OpenBreaker(stop));
            }
            Change::LiftBreaker(cause) => {
                self.breaker = self.breaker.take().map(|breaker| breaker.without(cause));
                self.rare.push(Change::LiftBreaker(cause));
            }
            Change::Enqueue(row) => {
                if let Some(verbs) = self.outbox.get_mut(&row.transaction_id)
                    && !verbs.contains(&row.verb)
                {
                    verbs.push(row.verb);
                }
                self.rare.push(Change::Enqueue(row));
            }
            Change::Dequeue { transaction, verb } => {
                if let Some(verbs) = self.outbox.get_mut(&transaction) {
                    verbs.retain(|there| *there != verb);
                }
                self.rare.push(Change::Dequeue { transaction, verb });
            }
            Change::PutCrl { issuer, status } => {
                self.crls.insert(issuer.clone(), Some(status));
                self.rare.push(Change::PutCrl { issuer, status });
            }
            Change::PutMerchant(_)
            | Change::PutCase(_)
            | Change::PutPolicy(_)
            | Change::PutCredential(_)
            | Change::RemoveCredential { .. }
            | Change::PutWitnessed(_)
            | Change::KeepRefusal(_)
            | Change::JournalCertificate(_)
            | Change::ReleaseCertificate { .. }
            | Change::PutCrlNumber { .. }
            | Change::SignBatch { .. }
            | Change::AskThaw { .. }
            | Change::HoldSubject { .. }
            | Change::ReleaseSubject { .. }
            | Change::AskErasure { .. }
            | Change::DestroyKeys { .. }
            | Change::RevocationsSwept => self.rare.push(change),
        }
        Ok(())
    }

    fn insert(&mut self, transaction: Transaction) -> Applied<()> {
        let id = self.next_row()?;
        if let Some(approval) = &transaction.approval {
            self.approvals.insert(approval.approval_id.clone(), Some(transaction.transaction_id.clone()));
        }
        self.outbox.entry(transaction.transaction_id.clone()).or_default();
        self.count_hold(&transaction, TransactionState::Cancelled, transaction.state);
        let row = TransactionRow {
            id,
            posting: None,
            posted_at: None,
            order: None,
            leaf: None,
            written: Written::New,
            transaction,
        };
        self.transactions.insert(row.transaction.transaction_id.clone(), Some(row));
        Ok(())
    }

    /// Keeps the count of open holds as a transaction goes from one state to another.
    fn count_hold(&mut self, transaction: &Transaction, before: TransactionState, now: TransactionState) {
        let Some(holds) = transaction.agent().and_then(|agent| self.open_holds.get_mut(&agent.spiffe_id)) else {
            return;
        };
        let count = holds.entry(transaction.debit.clone()).or_default();
        match (before.is_open(), now.is_open()) {
            (false, true) => *count = count.saturating_add(1),
            (true, false) => *count = count.saturating_sub(1),
            (true, true) | (false, false) => {}
        }
    }

    /// Takes the next place of the batch.
    fn place(&mut self, transaction: &TransactionId, statement: Vec<u8>) -> Applied<Posted> {
        let index_in_batch = u32::try_from(self.statements.len())?;
        self.statements.push(merkle::leaf_hash(&statement));
        let transaction_id = transaction.clone();
        Ok(Posted { transaction_id, batch: self.batch, index_in_batch, statement, repeated: false })
    }

    fn post(&mut self, id: &TransactionId, entries: &[Entry], statement: Vec<u8>, at: UnixMillis) -> Applied<()> {
        let posting = self.place(id, statement)?;
        let row = self.transaction_mut(id)?;
        let before = std::mem::replace(&mut row.transaction.state, TransactionState::Posted);
        row.posting = Some(posting);
        row.posted_at = Some(at);
        row.written = row.written.changed();
        let transaction = row.id;
        let posted = row.transaction.clone();
        self.count_hold(&posted, before, TransactionState::Posted);
        for entry in entries {
            let id = self.next_row()?;
            let account = self.account_mut(&entry.account)?;
            let previous = account.newest_entry.replace(id);
            account.written = account.written.changed();
            let account = account.id;
            self.entries.push(EntryRow { id, account, transaction, amount: entry.amount, previous });
        }
        Ok(())
    }
}

fn unbound(scope: &str) -> Inconsistent {
    Inconsistent(format!("the key {scope} is changed but was not read"))
}
