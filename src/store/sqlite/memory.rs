//! What the writer remembers: rows that nearly every decision reads.
//!
//! Nobody else writes the file (and if somebody did, the next commit sees it in SQLite's `data_version` and remembers
//! nothing), so a row that was read or written once need not be read again. Accounts and daily sums that changed are
//! written once a commit, however many postings it holds. A commit that does not come about takes what was remembered
//! with it. Everything here is bounded.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::filter::Filter;
use super::keys::REMEMBERED_MAX;
use crate::kernel::breaker::Breaker;
use crate::kernel::decide::{Counter, Grant};
use crate::kernel::ledger::Account;
use crate::kernel::mandate::HeldMandate;
use crate::kernel::status::CrlStatus;
use crate::kernel::subject::{DataSubject, Period};
use crate::kernel::types::{AccountId, Day, SpiffeId};
use crate::store::sealing::DataKey;

/// Rows of one kind. With more, all are read anew: an account is about 300 bytes.
const ROWS_MAX: usize = 100_000;

/// Mandates, without their texts: one is 10 KB at most.
const MANDATES_MAX: usize = 5_000;

/// Of all days together: some fifty million keys.
const KEYS_BYTES_MAX: usize = 128 << 20;

/// One commit's view of what is remembered, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) rows: Rows,
    /// Keys are only ever added, so these outlive a commit that did not come about.
    pub(super) keys: Option<Keys>,
    /// `PRAGMA data_version` when the rows were read.
    pub(super) version: Option<i64>,
    /// Data keys were destroyed that the write-ahead log still has.
    pub(super) log_has_keys: bool,
}

/// Rows as they are inside the deciding commit.
#[derive(Debug, Default)]
pub(super) struct Rows {
    accounts: HashMap<String, usize>,
    account_slots: Vec<AccountSlot>,
    accounts_changed: Vec<usize>,
    counters: HashMap<Day, HashMap<Counter, usize>>,
    counter_slots: Vec<CounterSlot>,
    counters_changed: Vec<usize>,
    /// By agent: unrevoked grants that were asked for, and that there is none.
    pub(super) grants: HashMap<SpiffeId, HashMap<AccountId, Option<Grant>>>,
    /// By agent and account: what `Book::mandates` answered, also that there is none.
    pub(super) mandates: HashMap<SpiffeId, HashMap<String, Vec<HeldMandate>>>,
    /// Every mark of a revocation.
    pub(super) marks: Option<HashSet<String>>,
    pub(super) crls: HashMap<String, Option<CrlStatus>>,
    pub(super) breaker: Option<Breaker>,
    /// The number of the next batch.
    pub(super) batch: Option<i64>,
    /// The row of the next leaf.
    pub(super) next_leaf: Option<i64>,
    /// The row of the next transaction.
    pub(super) next_transaction: Option<i64>,
    /// The row of the next entry.
    pub(super) next_entry: Option<i64>,
    pub(super) next_data_key: Option<i64>,
    /// By subject, of the month in which they were used last: all of them on disk, or in this commit.
    pub(super) data_keys: HashMap<DataSubject, (Period, Arc<DataKey>)>,
    /// Whether a leaf was ever sealed, if that was asked.
    pub(super) was_sealed: Option<bool>,
}

#[derive(Debug)]
pub(super) struct AccountSlot {
    pub(super) row: i64,
    pub(super) account: Account,
    pub(super) newest_entry: Option<i64>,
    changed: bool,
}

#[derive(Debug)]
pub(super) struct CounterSlot {
    pub(super) counter: String,
    pub(super) day: Day,
    pub(super) minor: i64,
    changed: bool,
}

/// Which single-use keys were surely never used, by day.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) bindings: BTreeMap<Day, Filter>,
    pub(super) nonces: BTreeMap<Day, Filter>,
}

impl Memory {
    /// Before a commit: forgets what somebody else may have changed, and what has become too much.
    pub(super) fn begin(&mut self, version: i64) {
        if self.version != Some(version) {
            *self = Self { version: Some(version), log_has_keys: self.log_has_keys, ..Self::default() };
        }
        if let Some(keys) = &mut self.keys {
            keys.bound();
        }
        let rows = &mut self.rows;
        let grants: usize = rows.grants.values().map(HashMap::len).sum();
        if rows.account_slots.len() > ROWS_MAX {
            rows.accounts.clear();
            rows.account_slots.clear();
        }
        if rows.counter_slots.len() > ROWS_MAX {
            rows.counters.clear();
            rows.counter_slots.clear();
        }
        if grants > ROWS_MAX {
            rows.grants.clear();
        }
        if rows.data_keys.len() > REMEMBERED_MAX {
            rows.data_keys.clear();
        }
        let answers: usize = rows.mandates.values().map(HashMap::len).sum();
        let mandates: usize = rows.mandates.values().flat_map(HashMap::values).map(Vec::len).sum();
        if answers > ROWS_MAX || mandates > MANDATES_MAX {
            rows.mandates.clear();
        }
    }

    /// After a commit that did not come about.
    pub(super) fn forget_rows(&mut self) {
        self.rows = Rows::default();
    }
}

impl Keys {
    /// Gives up the oldest days when there are too many keys to know.
    fn bound(&mut self) {
        let mut bytes: usize = self.bindings.values().chain(self.nonces.values()).map(Filter::bytes).sum();
        for filter in self.bindings.values_mut().chain(self.nonces.values_mut()) {
            if bytes <= KEYS_BYTES_MAX {
                return;
            }
            bytes -= filter.bytes();
            filter.give_up();
        }
    }
}

impl Rows {
    pub(super) fn account(&self, name: &str) -> Option<&AccountSlot> {
        self.accounts.get(name).map(|slot| &self.account_slots[*slot])
    }

    /// Remembers an account as it is on disk.
    pub(super) fn read_account(&mut self, row: i64, account: Account, newest_entry: Option<i64>) {
        self.accounts.insert(account.name.clone(), self.account_slots.len());
        self.account_slots.push(AccountSlot { row, account, newest_entry, changed: false });
    }

    /// Changes an account that was read. `None` when it was not.
    pub(super) fn change_account(&mut self, name: &str, change: impl FnOnce(&mut AccountSlot)) -> Option<()> {
        let slot = *self.accounts.get(name)?;
        let account = &mut self.account_slots[slot];
        change(account);
        if !account.changed {
            account.changed = true;
            self.accounts_changed.push(slot);
        }
        Some(())
    }

    pub(super) fn counter(&self, counter: &Counter, day: Day) -> Option<i64> {
        self.counters.get(&day)?.get(counter).map(|slot| self.counter_slots[*slot].minor)
    }

    /// Remembers a day's sum as it is on disk.
    pub(super) fn read_counter(&mut self, counter: &Counter, day: Day, minor: i64) {
        self.counters.entry(day).or_default().insert(counter.clone(), self.counter_slots.len());
        self.counter_slots.push(CounterSlot { counter: counter.text(), day, minor, changed: false });
    }

    /// Changes a sum that was read. `None` when it was not.
    pub(super) fn change_counter(&mut self, counter: &Counter, day: Day, minor: i64) -> Option<()> {
        let slot = *self.counters.get(&day)?.get(counter)?;
        let sum = &mut self.counter_slots[slot];
        sum.minor = minor;
        if !sum.changed {
            sum.changed = true;
            self.counters_changed.push(slot);
        }
        Some(())
    }

    /// Gives every changed account to `write`, by row, and counts it as written.
    pub(super) fn write_accounts<E>(&mut self, mut write: impl FnMut(&AccountSlot) -> Result<(), E>) -> Result<(), E> {
        let slots = &mut self.account_slots;
        self.accounts_changed.sort_unstable_by_key(|slot| slots[*slot].row);
        for slot in self.accounts_changed.drain(..) {
            slots[slot].changed = false;
            write(&slots[slot])?;
        }
        Ok(())
    }

    /// The same with sums.
    pub(super) fn write_counters<E>(&mut self, mut write: impl FnMut(&CounterSlot) -> Result<(), E>) -> Result<(), E> {
        let slots = &mut self.counter_slots;
        self.counters_changed.sort_unstable_by(|one, other| slots[*one].counter.cmp(&slots[*other].counter));
        for slot in self.counters_changed.drain(..) {
            slots[slot].changed = false;
            write(&slots[slot])?;
        }
        Ok(())
    }
}
