//! What a book's rows must come to.

use std::collections::{BTreeMap, HashMap};

use super::{
    AccountSums, CheckProgress, CounterRow, Difference, EntryRow, LedgerCheck, List, PaceRow, PostingRow, ReversalRow,
    Rule, TransactionSums,
};
use crate::kernel::decide::Counter;
use crate::kernel::ledger::{Account, TransactionKind, TransactionState};
use crate::kernel::mandate::{LIFE, MandateUse};
use crate::kernel::policy::transaction::Pace;
use crate::kernel::types::{Currency, Day};
use crate::kernel::zone::day_to_text;

/// Differences that are told; more are only counted.
const DIFFERENCES_MAX: usize = 100;
/// Transactions that are named for one difference.
const NAMED_MAX: usize = 20;
/// Entries of a posting that are compared; a right one has two or four.
const ENTRIES_MAX: usize = 8;
/// Rows between two words about progress.
const PROGRESS_ROWS: u64 = 10_000;

#[derive(Default)]
struct Sums {
    entries: i128,
    held: i128,
    newest: Option<i64>,
}

/// Whose sum: an agent's or a mandate's by its number here, an account's by its row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Counted {
    Agent(usize),
    Account(i64),
}

/// A difference that the transactions must be walked once more for.
struct Suspect {
    difference: usize,
    counted: Option<(Counted, i32)>,
    held_on: Option<i64>,
}

/// A set of row numbers: a bit each.
#[derive(Default)]
struct RowSet(BTreeMap<i64, u64>);

impl RowSet {
    /// False when it was there.
    fn insert(&mut self, row: i64) -> bool {
        let word = self.0.entry(row >> 6).or_default();
        let bit = 1_u64 << (row & 63);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    fn contains(&self, row: i64) -> bool {
        self.0.get(&(row >> 6)).is_some_and(|word| word & (1 << (row & 63)) != 0)
    }
}

/// The entries of one transaction that follow each other.
struct Run {
    transaction_row: i64,
    transaction: Option<PostingRow>,
    /// Account, its currency, amount.
    entries: Vec<(String, String, i64)>,
    count: u64,
}

/// Takes a store's rows in the order of this module and says what differs.
pub(in crate::store) struct Checker<'a> {
    progress: &'a mut dyn FnMut(CheckProgress),
    report: LedgerCheck,
    sums: HashMap<i64, Sums>,
    counted: HashMap<(Counted, i32), i128>,
    /// Agents, and what is counted of mandates: the counters' own texts.
    agents: HashMap<String, usize>,
    /// Payments that each agent asked for.
    payments: HashMap<String, i64>,
    with_entries: RowSet,
    leaves: RowSet,
    run: Option<Run>,
    reversed: Option<(ReversalRow, i128, Vec<String>)>,
    currencies: BTreeMap<String, i128>,
    suspects: Vec<Suspect>,
}

impl<'a> Checker<'a> {
    pub(in crate::store) fn new(progress: &'a mut dyn FnMut(CheckProgress)) -> Self {
        Self {
            progress,
            report: LedgerCheck::default(),
            sums: HashMap::new(),
            counted: HashMap::new(),
            agents: HashMap::new(),
            payments: HashMap::new(),
            with_entries: RowSet::default(),
            leaves: RowSet::default(),
            run: None,
            reversed: None,
            currencies: BTreeMap::new(),
            suspects: vec![],
        }
    }

    /// Entries by number.
    pub(in crate::store) fn entry(&mut self, row: EntryRow) {
        self.report.entries += 1;
        self.tell("entries", self.report.entries);
        let sums = self.sums.entry(row.account).or_default();
        sums.entries += i128::from(row.amount);
        let before = sums.newest.replace(row.id);
        let account = row.account_name.unwrap_or_else(|| format!("account row {}", row.account));
        if before != row.previous {
            let named: Vec<String> = row.transaction.iter().map(|posting| posting.name.clone()).collect();
            let subject = format!("{account}, entry {}", row.id);
            self.differs(Rule::Chain, subject, shown(row.previous), shown(before), named);
        }
        if self.run.as_ref().is_none_or(|run| run.transaction_row != row.transaction_row) {
            self.run_ends();
            let (transaction_row, transaction) = (row.transaction_row, row.transaction);
            self.run = Some(Run { transaction_row, transaction, entries: vec![], count: 0 });
        }
        if let Some(run) = &mut self.run {
            run.count += 1;
            if run.entries.len() < ENTRIES_MAX {
                run.entries.push((account, row.account_currency.unwrap_or_default(), row.amount));
            }
        }
    }

    /// There are no more rows of this list.
    pub(in crate::store) fn ends(&mut self, list: List) {
        match list {
            List::Entries => self.run_ends(),
            List::Transactions => {}
            List::Reversals => self.reversals_end(),
            List::Accounts => self.accounts_end(),
            List::Counters => self.counters_end(),
            List::Paces => {}
        }
    }

    /// Judges the entries of the transaction at hand.
    fn run_ends(&mut self) {
        let Some(run) = self.run.take() else {
            return;
        };
        let is_first = self.with_entries.insert(run.transaction_row);
        let entries = told(&run.entries, run.count);
        let Some(posting) = run.transaction else {
            let subject = format!("transaction row {}", run.transaction_row);
            self.differs(Rule::PostedOnce, subject, "is not there".into(), entries, vec![]);
            return;
        };
        let named = vec![posting.name.clone()];
        if !is_first {
            let kept = "has its entries already".into();
            self.differs(Rule::PostedOnce, posting.name.clone(), kept, entries.clone(), named.clone());
        }
        if posting.state != TransactionState::Posted.name() {
            self.differs(Rule::PostedOnce, posting.name.clone(), posting.state.clone(), entries.clone(), named.clone());
        }
        let expected = expected(&posting);
        if run.count != expected.len() as u64 || run.entries != expected {
            let kept = told(&expected, expected.len() as u64);
            self.differs(Rule::PostingEntries, posting.name, kept, entries, named);
        }
    }

    /// Transactions by number, after every entry.
    pub(in crate::store) fn transaction(&mut self, row: &TransactionSums) {
        self.report.transactions += 1;
        self.tell("transactions", self.report.transactions);
        let is_payment = row.kind == TransactionKind::Purchase.name() || row.kind == TransactionKind::Transfer.name();
        if let Some(agent) = row.agent.as_ref().filter(|_| is_payment) {
            // Looked up first: names are many times fewer than payments.
            match self.payments.get_mut(agent) {
                Some(payments) => *payments += 1,
                None => drop(self.payments.insert(agent.clone(), 1)),
            }
        }
        let named = || vec![row.name.clone()];
        if row.state == TransactionState::Posted.name() {
            self.report.postings += 1;
            if !self.with_entries.contains(row.id) {
                self.differs(Rule::PostedOnce, row.name.clone(), row.state.clone(), "no entries".into(), named());
            }
            match row.leaf {
                Some(leaf) if row.leaf_is_there => {
                    if !self.leaves.insert(leaf) {
                        let kept = format!("leaf row {leaf}");
                        self.differs(Rule::Leaf, row.name.clone(), kept, "is another posting's".into(), named());
                    }
                }
                leaf => self.differs(Rule::Leaf, row.name.clone(), shown(leaf), "no such leaf".into(), named()),
            }
            if !row.batch_is_there {
                self.differs(Rule::Batch, row.name.clone(), "executed".into(), "no such batch".into(), named());
            }
        }
        for (counted, day, minor) in self.counts(row) {
            *self.counted.entry((counted, day)).or_default() += minor;
        }
        if let (Some(account), Some(minor)) = (row.debit_row, holds(row)) {
            self.sums.entry(account).or_default().held += minor;
        }
    }

    /// Reversals that are open or executed, by their original.
    pub(in crate::store) fn reversal(&mut self, row: ReversalRow) {
        self.report.reversals += 1;
        if self.reversed.as_ref().is_none_or(|(one, _, _)| one.original != row.original) {
            self.reversals_end();
            self.reversed = Some((row.clone(), 0, vec![]));
        }
        if let Some((_, sum, named)) = &mut self.reversed {
            *sum += i128::from(row.amount);
            named.truncate(NAMED_MAX - 1);
            named.push(row.name);
        }
    }

    /// Judges the reversals of the original at hand.
    fn reversals_end(&mut self) {
        let Some((row, sum, named)) = self.reversed.take() else {
            return;
        };
        let (kept, fits) = match &row.reversed {
            None => ("is not there".to_owned(), false),
            Some((amount, state)) => {
                (format!("{state}, {amount}"), state == TransactionState::Posted.name() && sum <= i128::from(*amount))
            }
        };
        if !fits {
            self.differs(Rule::Reversals, row.original, kept, format!("{sum} reversed"), named);
        }
    }

    /// Accounts, after every transaction.
    pub(in crate::store) fn account(&mut self, row: AccountSums) {
        self.report.accounts += 1;
        let sums = self.sums.remove(&row.id).unwrap_or_default();
        let currency = self.currencies.entry(row.currency).or_default();
        *currency += sums.entries;
        if i128::from(row.balance) != sums.entries {
            let (kept, recomputed) = (row.balance.to_string(), sums.entries.to_string());
            self.differs(Rule::Balance, row.name.clone(), kept, recomputed, vec![]);
        }
        let covered = i128::from(row.balance) + i128::from(row.overdraft);
        if !row.is_clearing && covered < i128::from(row.held) {
            let held = format!("{} held", row.held);
            self.differs(Rule::Overdrawn, row.name.clone(), held, format!("{covered} is there"), vec![]);
        }
        if row.newest_entry != sums.newest {
            self.differs(Rule::Chain, row.name.clone(), shown(row.newest_entry), shown(sums.newest), vec![]);
        }
        if i128::from(row.held) != sums.held {
            self.suspect(None, Some(row.id));
            self.differs(Rule::Held, row.name, row.held.to_string(), sums.held.to_string(), vec![]);
        }
    }

    /// What no account is left for, and each currency's sum.
    fn accounts_end(&mut self) {
        let mut orphans: Vec<(i64, Sums)> = std::mem::take(&mut self.sums).into_iter().collect();
        orphans.sort_by_key(|(row, _)| *row);
        for (row, sums) in orphans {
            let recomputed = format!("entries {}, holds {}", sums.entries, sums.held);
            self.differs(Rule::Balance, format!("account row {row}"), "is not there".into(), recomputed, vec![]);
        }
        for (currency, sum) in std::mem::take(&mut self.currencies) {
            if sum != 0 {
                self.differs(Rule::CurrencySum, currency.clone(), "0".into(), sum.to_string(), vec![]);
            }
            self.report.currencies.push(currency);
        }
    }

    /// Counters, after every transaction.
    pub(in crate::store) fn counter(&mut self, row: CounterRow) {
        self.report.counters += 1;
        let counted =
            row.account.map(Counted::Account).or_else(|| self.agents.get(&row.counter).map(|at| Counted::Agent(*at)));
        let sum = counted.and_then(|counted| self.counted.remove(&(counted, row.day))).unwrap_or(0);
        if i128::from(row.minor) != sum {
            if let Some(counted) = counted {
                self.suspect(Some((counted, row.day)), None);
            }
            let subject = format!("{} on {}", row.counter, day_to_text(Day(row.day)));
            self.differs(Rule::Counter, subject, row.minor.to_string(), sum.to_string(), vec![]);
        }
    }

    /// What velocities have counted, after every transaction.
    pub(in crate::store) fn pace(&mut self, row: PaceRow) {
        let Some(pace) = Pace::from_text(&row.slots) else {
            self.differs(Rule::Velocity, row.name, row.slots, "slots in order".into(), vec![]);
            return;
        };
        let agent = row.name.split_once("/count/agent/").map(|(_, agent)| agent);
        let asked = agent.map(|agent| self.payments.get(agent).copied().unwrap_or(0));
        if let Some(asked) = asked.filter(|asked| pace.sum() > *asked) {
            self.differs(Rule::Velocity, row.name, pace.sum().to_string(), format!("at most {asked}"), vec![]);
        }
    }

    /// Sums that have no counter.
    fn counters_end(&mut self) {
        let mut missing: Vec<((Counted, i32), i128)> = std::mem::take(&mut self.counted).into_iter().collect();
        missing.retain(|(_, sum)| *sum != 0);
        missing.sort();
        for ((counted, on), sum) in missing {
            let whose = match counted {
                Counted::Agent(number) => {
                    let named = self.agents.iter().find(|(_, at)| **at == number);
                    named.map_or_else(|| format!("agent {number}"), |(agent, _)| agent.clone())
                }
                Counted::Account(row) => format!("account row {row}"),
            };
            self.suspect(Some((counted, on)), None);
            let subject = format!("{whose} on {}", day_to_text(Day(on)));
            self.differs(Rule::Counter, subject, "is not there".into(), sum.to_string(), vec![]);
        }
    }

    /// Whether the transactions are wanted once more.
    pub(in crate::store) fn wants_names(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Names what should make up a hold or a day's sum that differs.
    pub(in crate::store) fn name(&mut self, row: &TransactionSums) {
        let counts = self.counts(row);
        for suspect in &self.suspects {
            let is_counted = suspect
                .counted
                .is_some_and(|(counted, day)| counts.iter().any(|(one, on, _)| *one == counted && *on == day));
            let is_held = suspect.held_on.is_some() && suspect.held_on == row.debit_row && holds(row).is_some();
            let named =
                self.report.differences.get_mut(suspect.difference).map(|difference| &mut difference.transactions);
            if let Some(named) = named
                && (is_counted || is_held)
                && named.len() < NAMED_MAX
            {
                named.push(row.name.clone());
            }
        }
    }

    pub(in crate::store) fn done(self) -> LedgerCheck {
        self.report
    }

    /// The daily sums that a transaction counts towards as long as it is open, executed, or paid elsewhere.
    fn counts(&mut self, row: &TransactionSums) -> Vec<(Counted, i32, i128)> {
        let mut counts = vec![];
        let counts_still = state(row).is_some_and(|state| state.is_open() || state == TransactionState::Posted);
        if !counts_still && !row.is_paid_elsewhere {
            return counts;
        }
        if let (Some(day), Some(agent)) = (row.counts_on, &row.agent) {
            let number = self.number_of(agent.clone());
            counts.push((Counted::Agent(number), day, i128::from(row.amount)));
        }
        if let Some(MandateUse { mandate, budget_on, recurs_on }) = row.mandate.as_deref().and_then(used) {
            let amount = self.number_of(Counter::MandateAmount(mandate.clone()).text());
            let uses = self.number_of(Counter::MandateUses(mandate).text());
            counts.push((Counted::Agent(amount), budget_on.0, i128::from(row.amount)));
            counts.push((Counted::Agent(uses), LIFE.0, 1));
            if recurs_on != LIFE {
                counts.push((Counted::Agent(uses), recurs_on.0, 1));
            }
        }
        if let (Some(day), Some(account)) = (row.debits_on, row.debit_row) {
            counts.push((Counted::Account(account), day, i128::from(row.amount) + i128::from(row.fee)));
        }
        counts
    }

    fn number_of(&mut self, counter: String) -> usize {
        let next = self.agents.len();
        *self.agents.entry(counter).or_insert(next)
    }

    /// The difference that is told next is one to name transactions for.
    fn suspect(&mut self, counted: Option<(Counted, i32)>, held_on: Option<i64>) {
        let difference = self.report.differences.len();
        if difference < DIFFERENCES_MAX {
            self.suspects.push(Suspect { difference, counted, held_on });
        }
    }

    fn differs(&mut self, rule: Rule, subject: String, kept: String, recomputed: String, transactions: Vec<String>) {
        self.report.differences_found += 1;
        if self.report.differences.len() < DIFFERENCES_MAX {
            self.report.differences.push(Difference { rule, subject, kept, recomputed, transactions });
        }
    }

    fn tell(&mut self, what: &'static str, rows: u64) {
        if rows.is_multiple_of(PROGRESS_ROWS) {
            (self.progress)(CheckProgress { what, rows });
        }
    }
}

/// What [`post`](crate::kernel::ledger::post) writes for such a transaction, in its order.
fn expected(posting: &PostingRow) -> Vec<(String, String, i64)> {
    let entry = |account: &str, amount: i64| (account.to_owned(), posting.currency.clone(), amount);
    let mut entries =
        vec![entry(&posting.debit, posting.amount.saturating_neg()), entry(&posting.credit, posting.amount)];
    if posting.fee != 0 {
        let income = posting.currency.parse::<Currency>().map(|currency| Account::fees(currency).name);
        entries.push(entry(&posting.debit, posting.fee.saturating_neg()));
        entries.push(entry(&income.unwrap_or_default(), posting.fee));
    }
    entries
}

/// What cannot be read counts nowhere, so that the sums tell of it.
fn used(text: &str) -> Option<MandateUse> {
    serde_json::from_str(text).ok()
}

fn state(row: &TransactionSums) -> Option<TransactionState> {
    TransactionState::ALL.into_iter().find(|state| state.name() == row.state)
}

/// What an open transaction holds on the account it debits.
fn holds(row: &TransactionSums) -> Option<i128> {
    let kind = TransactionKind::ALL.into_iter().find(|kind| kind.name() == row.kind)?;
    let state = state(row)?;
    let is_held = state.is_open() && (kind.holds_funds() || state == TransactionState::Submitted);
    is_held.then(|| i128::from(row.amount) + i128::from(row.fee))
}

fn told(entries: &[(String, String, i64)], count: u64) -> String {
    let mut text: Vec<String> =
        entries.iter().map(|(account, currency, amount)| format!("{account} {amount} {currency}")).collect();
    if count > entries.len() as u64 {
        text.push(format!("and {} more", count - entries.len() as u64));
    }
    text.join(", ")
}

fn shown(number: Option<i64>) -> String {
    number.map_or_else(|| "none".to_owned(), |number| number.to_string())
}
