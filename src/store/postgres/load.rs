//! Fetching rows by key: statements that lock what may be changed, always in the same order.
//!
//! Accounts first, by row number; then transactions, then daily sums, then counts: two daemons that need the same rows wait for
//! each other in a line, not in a circle. Each statement sees what was committed before it began, so what is read
//! after the accounts' locks were had is as whoever had them before left it.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use tokio_postgres::Row;

use super::footprint::Footprint;
use super::rows::{self, Read};
use super::schema::ROWS_IN_A_BLOCK;
use super::session::Parameter;
use super::sheet::{
    AccountRow, Block, Key, KeyRow, NonceRow, PaceRow, Sheet, SigningSlot, Tally, TransactionRow, Written,
};
use super::signing;
use crate::kernel::decide::{Binding, Counter, marks_of_signer};
use crate::kernel::ledger::Inconsistent;
use crate::kernel::mandate::STANDING_MAX;
use crate::kernel::policy::transaction::Pace;
use crate::kernel::types::{Day, Sha256, UnixMillis};

/// One statement to be sent.
pub(super) struct Call<'a> {
    pub(super) sql: Cow<'static, str>,
    pub(super) parameters: Vec<Parameter<'a>>,
}

/// What the rows of a statement are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    Accounts,
    Transactions,
    Counters,
    Paces,
    Rows,
    Grants,
    EveryGrant,
    Mandates,
    MandateCounters,
    OpenHolds,
    Marks,
    Bindings,
    Nonces,
    Signings,
    Offers,
    Breaker,
    Crls,
    Outbox,
}

/// The keys of a footprint, by kind, sorted.
#[derive(Default)]
pub(super) struct Wanted<'a> {
    accounts: BTreeSet<&'a str>,
    transactions: BTreeSet<&'a str>,
    approvals: BTreeSet<&'a str>,
    granted: Vec<String>,
    counters: BTreeSet<String>,
    days: Option<(i32, i32)>,
    paces: BTreeSet<&'a str>,
    grants: Vec<(String, &'a str)>,
    grants_of: Vec<(String, &'a str)>,
    every_grant: Vec<String>,
    mandates: Vec<(String, &'a str)>,
    mandates_of: Vec<(String, &'a str)>,
    mandates_granted: Vec<String>,
    /// Their days are years apart: each is named.
    mandate_counters: BTreeSet<(String, i32)>,
    holders: BTreeSet<String>,
    marks: Vec<&'a str>,
    bindings: Vec<&'a [u8]>,
    nonces: Vec<&'a [u8]>,
    signings: Vec<&'a [u8]>,
    offers: Vec<(&'a str, &'a str)>,
    crls: Vec<&'a str>,
    outbox: Vec<&'a str>,
    breaker: bool,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(footprints: &[&'a Footprint]) -> Self {
        let granted = footprints.iter().flat_map(|footprint| &footprint.granted);
        let mut wanted = Self { granted: granted.map(ToString::to_string).collect(), ..Self::default() };
        for key in footprints.iter().flat_map(|footprint| &footprint.keys) {
            match key {
                Key::Mark(mark) => wanted.marks.push(mark),
                Key::Crl(issuer) => wanted.crls.push(issuer),
                Key::Account(name) => {
                    wanted.accounts.insert(name);
                }
                Key::Grant(agent, account) => wanted.grants.push((agent.to_string(), account.as_str())),
                Key::GrantOf(agent, transaction) => {
                    wanted.grants_of.push((agent.to_string(), transaction.as_str()));
                }
                Key::Grants(agent) => wanted.every_grant.push(agent.to_string()),
                Key::Mandates(agent, account) => wanted.mandates.push((agent.to_string(), account)),
                Key::MandatesOf(agent, transaction) => {
                    wanted.mandates_of.push((agent.to_string(), transaction.as_str()));
                }
                Key::MandatesGranted(agent) => wanted.mandates_granted.push(agent.to_string()),
                Key::Offer(merchant, product) => wanted.offers.push((merchant.as_str(), product.as_str())),
                Key::Transaction(id) => {
                    wanted.transactions.insert(id.as_str());
                }
                Key::Approval(id) => {
                    wanted.approvals.insert(id.as_str());
                }
                Key::OpenHolds(agent, account) => {
                    if !account.is_empty() {
                        wanted.accounts.insert(account);
                    }
                    wanted.holders.insert(agent.to_string());
                }
                Key::Counter(counter @ (Counter::MandateAmount(_) | Counter::MandateUses(_)), day) => {
                    wanted.mandate_counters.insert((counter.text(), day.0));
                }
                Key::Counter(counter @ (Counter::Agent(_) | Counter::Account(_)), day) => {
                    wanted.counters.insert(counter.text());
                    let (first, last) = wanted.days.unwrap_or((day.0, day.0));
                    wanted.days = Some((first.min(day.0), last.max(day.0)));
                }
                Key::Pace(key) => {
                    wanted.paces.insert(key.text());
                }
                Key::Binding(scope) => wanted.bindings.push(&scope.0),
                Key::Nonce(nonce) => wanted.nonces.push(&nonce.0),
                Key::Signing(scope) => wanted.signings.push(&scope.0),
                Key::Breaker => wanted.breaker = true,
                Key::Outbox(id) => wanted.outbox.push(id.as_str()),
                Key::Question(_) => {}
            }
        }
        wanted
    }

    /// The statements, in the order of their locks. `first`: of a commit, which always needs row numbers.
    /// Accounts whose row numbers are `known` are found by them.
    pub(super) fn calls(&self, first: bool, known: &HashMap<String, i64>) -> Vec<(What, Call<'a>)> {
        let mut calls: Vec<(What, Call<'a>)> = vec![];
        let mut call = |what, sql: &'static str, parameters| calls.push((what, Call { sql: sql.into(), parameters }));
        let (transactions, approvals) = (list(&self.transactions), list(&self.approvals));
        let by_name_only = transactions.is_empty() && approvals.is_empty() && self.granted.is_empty();
        let takes_accounts = !by_name_only || !self.accounts.is_empty();
        if !by_name_only {
            let parameters: Vec<Parameter<'a>> = vec![
                Box::new(list(&self.accounts)),
                Box::new(transactions.clone()),
                Box::new(approvals.clone()),
                Box::new(self.granted.clone()),
            ];
            call(What::Accounts, &ACCOUNTS_OF, parameters);
        } else if takes_accounts {
            let rows: Option<Vec<i64>> = self.accounts.iter().map(|name| known.get(*name).copied()).collect();
            match rows {
                Some(rows) => call(What::Accounts, &ACCOUNTS_BY_ROW, vec![Box::new(rows)]),
                None => call(What::Accounts, &ACCOUNTS, vec![Box::new(list(&self.accounts))]),
            }
        }
        if !transactions.is_empty() || !approvals.is_empty() {
            call(What::Transactions, &TRANSACTIONS, vec![Box::new(transactions), Box::new(approvals)]);
        }
        if let Some((first, last)) = self.days {
            let counters: Vec<String> = self.counters.iter().cloned().collect();
            call(What::Counters, COUNTERS, vec![Box::new(counters), Box::new(first), Box::new(last)]);
        }
        if !self.paces.is_empty() {
            call(What::Paces, PACES, vec![Box::new(list(&self.paces))]);
        }
        if !self.mandate_counters.is_empty() {
            let (counters, days): (Vec<String>, Vec<i32>) = self.mandate_counters.iter().cloned().unzip();
            call(What::MandateCounters, MANDATE_COUNTERS, vec![Box::new(counters), Box::new(days)]);
        }
        // After the accounts' locks, so that entries' numbers grow with time on each of them.
        if first || takes_accounts {
            call(What::Rows, ROWS, vec![]);
        }
        if !self.grants.is_empty() || !self.grants_of.is_empty() {
            let (agents, accounts): (Vec<String>, Vec<&str>) = self.grants.iter().cloned().unzip();
            let (makers, transactions): (Vec<String>, Vec<&str>) = self.grants_of.iter().cloned().unzip();
            let parameters: Vec<Parameter<'a>> =
                vec![Box::new(agents), Box::new(accounts), Box::new(makers), Box::new(transactions)];
            call(What::Grants, &GRANTS, parameters);
        }
        if !self.every_grant.is_empty() {
            call(What::EveryGrant, &EVERY_GRANT, vec![Box::new(self.every_grant.clone())]);
        }
        if !(self.mandates.is_empty() && self.mandates_of.is_empty() && self.mandates_granted.is_empty()) {
            let (agents, accounts): (Vec<String>, Vec<&str>) = self.mandates.iter().cloned().unzip();
            let (makers, transactions): (Vec<String>, Vec<&str>) = self.mandates_of.iter().cloned().unzip();
            let parameters: Vec<Parameter<'a>> = vec![
                Box::new(agents),
                Box::new(accounts),
                Box::new(makers),
                Box::new(transactions),
                Box::new(self.mandates_granted.clone()),
            ];
            call(What::Mandates, &MANDATES, parameters);
        }
        if !self.holders.is_empty() {
            let holders: Vec<String> = self.holders.iter().cloned().collect();
            call(What::OpenHolds, OPEN_HOLDS, vec![Box::new(holders)]);
        }
        if !self.marks.is_empty() {
            call(What::Marks, MARKS, vec![Box::new(self.marks.clone())]);
        }
        if !self.bindings.is_empty() {
            call(What::Bindings, BINDINGS, vec![Box::new(self.bindings.clone())]);
        }
        if !self.nonces.is_empty() {
            call(What::Nonces, NONCES, vec![Box::new(self.nonces.clone())]);
        }
        if !self.signings.is_empty() {
            call(What::Signings, signing::ROWS, vec![Box::new(self.signings.clone())]);
        }
        if !self.offers.is_empty() {
            let (merchants, products): (Vec<&str>, Vec<&str>) = self.offers.iter().copied().unzip();
            call(What::Offers, &OFFERS, vec![Box::new(merchants), Box::new(products)]);
        }
        if !self.crls.is_empty() {
            call(What::Crls, CRLS, vec![Box::new(self.crls.clone())]);
        }
        if !self.outbox.is_empty() {
            call(What::Outbox, OUTBOX, vec![Box::new(self.outbox.clone())]);
        }
        if self.breaker {
            call(What::Breaker, "SELECT cause, reason, by, since FROM breaker", vec![]);
        }
        calls
    }
}

fn list<'a>(set: &BTreeSet<&'a str>) -> Vec<&'a str> {
    set.iter().copied().collect()
}

impl Sheet {
    /// Takes what the statements answered, and that nothing else of what was wanted is there.
    ///
    /// # Errors
    /// A row that cannot be read as what it is.
    pub(super) fn take(&mut self, footprints: &[&Footprint], answers: Vec<(What, Vec<Row>)>) -> Read<()> {
        for (what, rows) in answers {
            if what == What::OpenHolds {
                // Counted anew: an account that is not among the rows has none.
                self.open_holds.retain(|agent, _| !footprints.iter().any(|footprint| footprint.counts_holds_of(agent)));
            }
            for row in &rows {
                self.take_row(what, row)?;
            }
        }
        for key in footprints.iter().flat_map(|footprint| &footprint.keys) {
            self.absent(key);
        }
        Ok(())
    }

    fn take_row(&mut self, what: What, row: &Row) -> Read<()> {
        match what {
            What::Accounts => {
                let account = rows::account(row)?;
                let (id, newest_entry) = (rows::get(row, 11)?, rows::get(row, 12)?);
                let written = Written::Same;
                let name = account.name.clone();
                let new = AccountRow { account, id, newest_entry, written, status_changed: false };
                let there = self.accounts.entry(name).or_default();
                there.get_or_insert(new);
            }
            What::Transactions => {
                let transaction = rows::transaction(row)?;
                let id = transaction.transaction_id.clone();
                if let Some(approval) = &transaction.approval {
                    self.approvals.insert(approval.approval_id.clone(), Some(id.clone()));
                }
                let new = TransactionRow {
                    transaction,
                    id: rows::transaction_row(row)?,
                    posting: rows::posting(row)?,
                    posted_at: rows::posted_at(row)?,
                    order: rows::order(row)?,
                    leaf: None,
                    written: Written::Same,
                };
                self.transactions.entry(id).or_default().get_or_insert(new);
            }
            What::Counters | What::MandateCounters => {
                let key = (rows::get(row, 0)?, Day(rows::get(row, 1)?));
                let new = Tally { minor: rows::get(row, 2)?, written: Written::Same };
                self.counters.entry(key).or_insert(new);
            }
            What::Paces => {
                let name: String = rows::get(row, 0)?;
                let slots: String = rows::get(row, 1)?;
                let unreadable = || Inconsistent(format!("the count of {name} is none"));
                let pace = Pace::from_text(&slots).ok_or_else(unreadable)?;
                let new = PaceRow { pace, ends: UnixMillis(rows::get(row, 2)?), written: Written::Same };
                self.paces.entry(name).or_insert(new);
            }
            What::Rows => {
                let next: i64 = rows::get(row, 0)?;
                self.rows = Block { next, end: next.saturating_add(ROWS_IN_A_BLOCK) };
                self.key_changes = rows::get(row, 1)?;
                if self.batch == 0 {
                    self.batch = next / ROWS_IN_A_BLOCK;
                }
            }
            What::Grants | What::EveryGrant => {
                let grant = rows::grant(row)?;
                let granted = self.grants.entry(grant.agent.clone()).or_default();
                granted.of.entry(grant.account.clone()).or_insert(Some(grant));
            }
            What::Mandates => {
                let held = rows::held_mandate(row)?;
                // Read in the same statement, so that no other round trip asks whether its signer stands.
                let marked: Vec<String> = rows::get(row, 4)?;
                if held.signer.certificate.is_some() {
                    for mark in marks_of_signer(&held.signer) {
                        let stands = marked.contains(&mark);
                        self.marks.entry(mark).or_insert(stands);
                    }
                }
                let of = self.mandates.entry(held.mandate.agent.clone()).or_default();
                let all = of.entry(held.mandate.account.to_string()).or_default();
                if !all.iter().any(|there| there.mandate.id == held.mandate.id) {
                    all.push(held);
                }
            }
            What::OpenHolds => {
                let count = u32::try_from(rows::get::<i64>(row, 2)?)?;
                self.open_holds.entry(rows::text(row, 0)?).or_default().insert(rows::get(row, 1)?, count);
            }
            What::Marks => {
                self.marks.insert(rows::get(row, 0)?, true);
            }
            What::Bindings => {
                let day: i32 = rows::get(row, 4)?;
                let binding = Binding {
                    request: rows::sha256(row, 1)?,
                    transaction_id: rows::text_or_none(row, 2)?,
                    case_id: rows::text_or_none(row, 3)?,
                };
                let new = KeyRow { stored: Some(day), binding: Some((binding, day)), changed: false };
                self.bindings.entry(rows::sha256(row, 0)?.0).or_insert(new);
            }
            What::Nonces => {
                self.nonces.insert(rows::sha256(row, 0)?.0, NonceRow::Taken);
            }
            What::Signings => {
                let row = signing::row(row)?;
                let scope = row.scope.0;
                self.signings.entry(scope).or_insert(SigningSlot { row: Some(row), written: Written::Same });
            }
            What::Offers => {
                let offer = rows::offer(row)?;
                self.offers.insert((offer.merchant.clone(), offer.product.clone()), Some(offer));
            }
            What::Breaker => {
                let known = self.breaker.get_or_insert_default();
                *known = known.with(rows::stop(row)?);
            }
            What::Crls => {
                let (issuer, status) = rows::crl(row)?;
                self.crls.insert(issuer, Some(status));
            }
            What::Outbox => {
                let verbs = self.outbox.entry(rows::text(row, 0)?).or_default();
                let verb = rows::core_verb(row, 1)?;
                if !verbs.contains(&verb) {
                    verbs.push(verb);
                }
            }
        }
        Ok(())
    }

    /// What was asked for and did not come is not there.
    fn absent(&mut self, key: &Key) {
        match key {
            Key::Mark(mark) => {
                self.marks.entry(mark.clone()).or_insert(false);
            }
            Key::Crl(issuer) => {
                self.crls.entry(issuer.clone()).or_insert(None);
            }
            Key::Account(name) => {
                self.accounts.entry(name.clone()).or_insert(None);
            }
            Key::Grant(agent, account) => {
                self.grants.entry(agent.clone()).or_default().of.entry(account.clone()).or_insert(None);
            }
            Key::GrantOf(agent, transaction) => {
                let row = self.transactions.get(transaction).and_then(Option::as_ref);
                let debit = row.and_then(|row| row.transaction.debit.parse().ok());
                if let Some(account) = debit {
                    self.grants.entry(agent.clone()).or_default().of.entry(account).or_insert(None);
                }
            }
            Key::Grants(agent) => self.grants.entry(agent.clone()).or_default().all = true,
            Key::Mandates(agent, account) => {
                self.mandates.entry(agent.clone()).or_default().entry(account.clone()).or_default();
            }
            Key::MandatesOf(agent, transaction) => {
                let row = self.transactions.get(transaction).and_then(Option::as_ref);
                if let Some(debit) = row.map(|row| row.transaction.debit.clone()) {
                    self.mandates.entry(agent.clone()).or_default().entry(debit).or_default();
                }
            }
            Key::MandatesGranted(agent) => {
                let granted = self.grants.get(agent).into_iter().flat_map(|granted| &granted.of);
                let of = self.mandates.entry(agent.clone()).or_default();
                for (account, _) in granted.filter(|(_, grant)| grant.is_some()) {
                    of.entry(account.to_string()).or_default();
                }
            }
            Key::Offer(merchant, product) => {
                self.offers.entry((merchant.clone(), product.clone())).or_insert(None);
            }
            Key::Transaction(id) => {
                self.transactions.entry(id.clone()).or_insert(None);
            }
            Key::Approval(id) => {
                self.approvals.entry(id.clone()).or_insert(None);
            }
            Key::OpenHolds(agent, account) => {
                self.open_holds.entry(agent.clone()).or_default();
                if !account.is_empty() {
                    self.accounts.entry(account.clone()).or_insert(None);
                }
            }
            Key::Counter(counter, day) => {
                let new = Tally { minor: 0, written: Written::New };
                self.counters.entry((counter.text(), *day)).or_insert(new);
            }
            Key::Pace(key) => {
                let new = PaceRow { pace: Pace::default(), ends: UnixMillis(0), written: Written::New };
                self.paces.entry(key.text().to_owned()).or_insert(new);
            }
            Key::Binding(Sha256(scope)) => {
                self.bindings.entry(*scope).or_insert(KeyRow { stored: None, binding: None, changed: false });
            }
            Key::Nonce(Sha256(nonce)) => {
                self.nonces.entry(*nonce).or_insert(NonceRow::Free);
            }
            Key::Signing(Sha256(scope)) => {
                self.signings.entry(*scope).or_insert(SigningSlot { row: None, written: Written::Same });
            }
            Key::Breaker => {
                self.breaker.get_or_insert_default();
            }
            Key::Outbox(id) => {
                self.outbox.entry(id.clone()).or_default();
            }
            Key::Question(_) => {}
        }
    }
}

static ACCOUNTS: LazyLock<String> = LazyLock::new(|| {
    format!("SELECT {} FROM accounts WHERE name = ANY ($1::text[]) ORDER BY id FOR NO KEY UPDATE", rows::ACCOUNT)
});
/// Half the work for the server: no texts to compare, and no sorting.
static ACCOUNTS_BY_ROW: LazyLock<String> = LazyLock::new(|| {
    format!("SELECT {} FROM accounts WHERE id = ANY ($1::bigint[]) ORDER BY id FOR NO KEY UPDATE", rows::ACCOUNT)
});
/// Besides those that are named: payer and payee of these transactions, and what is granted to these agents. Neither
/// changes once it is there, so that it is found before it is locked.
static ACCOUNTS_OF: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {} FROM accounts WHERE name = ANY (ARRAY(
             SELECT unnest($1::text[])
             UNION SELECT unnest(ARRAY[debit, credit]) FROM transactions WHERE name = ANY ($2::text[])
             UNION SELECT unnest(ARRAY[debit, credit]) FROM transactions WHERE approval = ANY ($3::text[])
             UNION SELECT account FROM grants WHERE agent = ANY ($4::text[]) AND revoked_at IS NULL))
         ORDER BY id FOR NO KEY UPDATE",
        rows::ACCOUNT
    )
});
static TRANSACTIONS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {} FROM transactions t WHERE t.name = ANY (ARRAY(
             SELECT unnest($1::text[])
             UNION SELECT name FROM transactions WHERE approval = ANY ($2::text[])))
         ORDER BY t.id FOR NO KEY UPDATE",
        rows::TRANSACTION
    )
});
pub(super) const ROWS: &str = "SELECT nextval('row_blocks'), (SELECT count FROM key_changes)";
const COUNTERS: &str = "SELECT counter, day, minor FROM counters WHERE counter = ANY ($1::text[])
    AND day BETWEEN $2 AND $3 ORDER BY counter, day FOR NO KEY UPDATE";
const PACES: &str = "SELECT name, slots, ends FROM paces WHERE name = ANY ($1::text[])
    ORDER BY name FOR NO KEY UPDATE";
/// Those that are named, and those of the accounts that these transactions debit. Each is looked up on its own
/// (`OFFSET 0`): a server without statistics would read every grant instead, once for each that is named.
static GRANTS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT found.* FROM (
             SELECT * FROM unnest($1::text[], $2::text[]) AS named (agent, account)
             UNION SELECT made.agent, t.debit FROM unnest($3::text[], $4::text[]) AS made (agent, name)
             CROSS JOIN LATERAL (SELECT debit FROM transactions WHERE name = made.name OFFSET 0) AS t) AS wanted
         CROSS JOIN LATERAL (SELECT {} FROM grants WHERE agent = wanted.agent AND account = wanted.account
             AND revoked_at IS NULL OFFSET 0) AS found",
        rows::GRANT
    )
});
static EVERY_GRANT: LazyLock<String> = LazyLock::new(|| {
    format!("SELECT {} FROM grants WHERE agent = ANY ($1::text[]) AND revoked_at IS NULL", rows::GRANT)
});
const MANDATE_COUNTERS: &str = "SELECT counter, day, minor FROM counters
    WHERE (counter, day) IN (SELECT * FROM unnest($1::text[], $2::integer[])) ORDER BY counter, day FOR NO KEY UPDATE";
/// Those that are named, those of the accounts that these transactions debit, and those of the accounts that are granted
/// to these agents.
static MANDATES: LazyLock<String> = LazyLock::new(|| {
    let of = |condition: &str| {
        format!(
            "(SELECT {}, ARRAY(SELECT mark FROM revocations WHERE mark = ANY (signer_marks)) AS marked
              FROM mandates WHERE agent = wanted.agent AND account = wanted.account AND {condition})",
            rows::HELD_MANDATE
        )
    };
    format!(
        "SELECT found.* FROM (
             SELECT * FROM unnest($1::text[], $2::text[]) AS named (agent, account)
             UNION SELECT made.agent, t.debit FROM unnest($3::text[], $4::text[]) AS made (agent, name)
             CROSS JOIN LATERAL (SELECT debit FROM transactions WHERE name = made.name OFFSET 0) AS t
             UNION SELECT agent, account FROM grants WHERE agent = ANY ($5::text[]) AND revoked_at IS NULL) AS wanted
         CROSS JOIN LATERAL ({} UNION ALL {}) AS found",
        of(&format!("revoked_at IS NULL ORDER BY expires DESC, name LIMIT {STANDING_MAX}")),
        of("revoked_at IS NOT NULL ORDER BY revoked_at DESC, name LIMIT 1")
    )
});
const OPEN_HOLDS: &str = "SELECT agent, debit, count(*) FROM transactions WHERE agent = ANY ($1::text[])
    AND state IN ('approved', 'pending_approval', 'queued_manual', 'submitted') GROUP BY agent, debit";
const MARKS: &str = "SELECT mark FROM revocations WHERE mark = ANY ($1::text[])";
const BINDINGS: &str =
    "SELECT scope, request, transaction_name, case_id, day FROM bindings WHERE scope = ANY ($1::bytea[])";
const NONCES: &str = "SELECT nonce FROM nonces WHERE nonce = ANY ($1::bytea[])";
static OFFERS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {} FROM offers WHERE (merchant, product) IN (SELECT * FROM unnest($1::text[], $2::text[]))",
        rows::OFFER
    )
});
const CRLS: &str = "SELECT issuer, number, this_update, next_update FROM crls WHERE issuer = ANY ($1::text[])";
const OUTBOX: &str = "SELECT transaction_name, verb FROM outbox WHERE transaction_name = ANY ($1::text[]) ORDER BY id";
