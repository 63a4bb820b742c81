//! Accounts at the desk: one with all that concerns it, its statement, a fee.

use serde_json::{Value, json};

use super::{RELATED_MAX, record};
use crate::kernel::command::{Act, Effect, OperatorPrincipal};
use crate::kernel::decide::Counter;
use crate::kernel::ledger::{Account, TransactionKind, TransactionState};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{AccountId, Currency, Day, IdempotencyKey, Money};
use crate::kernel::zone::day_to_text;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::payment::answer::unexpected;
use crate::payment::operators::{reader, receipt_word, refused};
use crate::payment::story::Payments;
use crate::store::{Before, Listing, Statement, StatementQuery, TransactionQuery, views};

impl Payments {
    pub(super) fn account_named(&self, account: &AccountId) -> Result<Account, Failure> {
        self.store.account(account.as_str())?.ok_or_else(|| refused(Refusal::UnknownAccount))
    }

    /// The account with what open transactions hold on it, who may use it, and what left it today.
    pub(super) fn account_show(&self, operator: &OperatorPrincipal, id: &AccountId) -> Result<Value, Failure> {
        reader(operator)?;
        let account = self.account_named(id)?;
        let mut value = views::account(&account);
        let grants = self.store.listing(Listing::Grants)?;
        value["grants"] = grants.into_iter().filter(|grant| grant["account_id"] == json!(id)).collect();
        let mut holds = vec![];
        for state in TransactionState::ALL.into_iter().filter(|state| state.is_open()) {
            let query = TransactionQuery {
                account: Some(account.name.clone()),
                state: Some(state),
                limit: RELATED_MAX,
                ..TransactionQuery::default()
            };
            let open = self.store.transactions(&query)?;
            let held =
                open.iter().filter(|open| open.transaction.debit == account.name && open.transaction.holds_funds());
            holds.extend(held.map(record));
        }
        value["holds"] = json!(holds);
        // Days are only counted where there is a limit.
        if account.day_max.is_some() {
            let today = account.zone.day(clock::now());
            let spent = self.store.spent(&Counter::Account(account.name.clone()), today)?;
            value["day"] = json!(day_to_text(today));
            value["counted_today"] = json!(Money::from_minor(spent, account.currency).decimal());
        }
        Ok(value)
    }

    /// A page of an account's posted lines, newest first; days of its own calendar, both included.
    pub(super) fn account_statement(
        &self,
        operator: &OperatorPrincipal,
        account: AccountId,
        from: Option<Day>,
        to: Option<Day>,
        before: Option<Before>,
        limit: u32,
    ) -> Result<Value, Failure> {
        reader(operator)?;
        let mut page = self.statement_page(account.clone(), from, to, before, limit)?;
        page["owner"] = json!(self.account_named(&account)?.owner);
        Ok(page)
    }

    /// A page of posted lines, whoever may see it.
    ///
    /// # Errors
    /// `period_invalid`, `unknown_account`; the store's.
    pub(in crate::payment) fn statement_page(
        &self,
        account: AccountId,
        from: Option<Day>,
        to: Option<Day>,
        before: Option<Before>,
        limit: u32,
    ) -> Result<Value, Failure> {
        if let (Some(from), Some(to)) = (from, to)
            && from > to
        {
            return Err(Failure::usage(
                "period_invalid",
                format!("{} is after {}", day_to_text(from), day_to_text(to)),
                "give the first day with --from and the last with --to",
            ));
        }
        let zone = self.account_named(&account)?.zone;
        let limit = limit.clamp(1, RELATED_MAX - 1);
        let query = StatementQuery {
            account,
            from: from.map(|day| zone.start_of(day)),
            until: to.map(|day| zone.start_of(Day(day.0.saturating_add(1)))),
            before,
            // What a line is may show in the one before it.
            limit: limit + 1,
        };
        let mut statement = self.store.statement(&query)?.ok_or_else(|| refused(Refusal::UnknownAccount))?;
        let shown = statement.lines.len().min(limit as usize);
        if let Some(beyond) = statement.lines.get(shown) {
            statement.opening = beyond.balance;
            let last = statement.lines[..shown].last();
            statement.next = last.map(|line| Before { entry: line.entry, balance: beyond.balance });
        }
        let account = &statement.account;
        let decimal = |minor| Money::from_minor(minor, account.currency).decimal();
        let lines: Vec<Value> = (0..shown).map(|at| line(&statement, at)).collect();
        Ok(json!({
            "account_id": account.name, "currency": account.currency,
            "time_zone": account.zone, "from": from.map(day_to_text), "to": to.map(day_to_text),
            "opening_balance": decimal(statement.opening), "closing_balance": decimal(statement.closing),
            "items": lines, "next": statement.next,
        }))
    }

    /// An amount in the account's own currency unless another one is named, which the decision refuses in its own order;
    /// so it does an account that is not there.
    ///
    /// # Errors
    /// `amount_malformed`; the store's.
    pub(in crate::payment) fn amount_on(
        &self,
        account: &AccountId,
        text: &str,
        named: Option<Currency>,
    ) -> Result<Money, Failure> {
        let own = self.store.account(account.as_str())?.map(|account| account.currency);
        let currency = named.or(own).unwrap_or_else(|| self.rules().unattended_per_transaction.currency());
        Money::parse_positive(text, currency).map_err(|refused| {
            let message = format!("\"{text}\" {}: {refused}", currency.code());
            Failure::usage("amount_malformed", message, "write it like 1899.99")
        })
    }

    /// Roles: officer, administrator.
    pub(super) fn account_charge(
        &self,
        operator: &OperatorPrincipal,
        account: &AccountId,
        amount: &str,
        currency: Option<Currency>,
        reference: IdempotencyKey,
    ) -> Result<Value, Failure> {
        let amount = self.amount_on(account, amount, currency)?;
        let credit = Account::fees(amount.currency()).name;
        let act = Act::Transfer { debit: account.to_string(), credit, amount, reference };
        let Effect::Posted(posted) = self.operate(operator, act)? else {
            return Err(unexpected());
        };
        Ok(json!({
            "account_id": account, "amount": amount, "transaction_id": posted.transaction_id,
            "receipt": receipt_word(self.settle(posted.batch)), "changed": !posted.repeated,
        }))
    }
}

/// One posted line: a payment, or the fee of one.
fn line(statement: &Statement, at: usize) -> Value {
    let account = &statement.account;
    let line = &statement.lines[at];
    let decimal = |minor| Money::from_minor(minor, account.currency).decimal();
    let transaction = &line.transaction;
    let is_fee = is_fee(statement, at);
    let counterparty = match line.amount < 0 {
        true if is_fee => Account::fees(account.currency).name,
        true => transaction.credit.clone(),
        false => transaction.debit.clone(),
    };
    let what = match transaction.kind {
        _ if is_fee => "fee".to_owned(),
        TransactionKind::Purchase => transaction.product.as_ref().map(ToString::to_string).unwrap_or_default(),
        TransactionKind::Reversal => {
            transaction.original.as_ref().map(|id| format!("reverses {id}")).unwrap_or_default()
        }
        TransactionKind::Transfer | TransactionKind::Incoming | TransactionKind::Opening | TransactionKind::Booking => {
            String::new()
        }
    };
    json!({
        "date": day_to_text(account.zone.day(line.posted_at)), "posted_at": line.posted_at.rfc3339(),
        "transaction_id": transaction.transaction_id, "kind": transaction.kind.name(),
        "counterparty": counterparty, "description": what,
        "amount": decimal(line.amount), "balance": decimal(line.balance),
    })
}

/// A payer with a fee has two entries of one transaction; the newer one is the fee.
fn is_fee(statement: &Statement, at: usize) -> bool {
    let transaction = &statement.lines[at].transaction;
    let is_payer = transaction.debit == statement.account.name;
    let before = statement.lines.get(at + 1).map(|line| &line.transaction.transaction_id);
    is_payer && transaction.fee.minor() != 0 && before == Some(&transaction.transaction_id)
}
