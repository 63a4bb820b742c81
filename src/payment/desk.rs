//! The bank's desk: what officers and auditors look at and do about accounts, payments and stopped payments.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{Receipt, unexpected};
use super::operators::{reader, receipt_word, refused};
use super::story::{Payments, fresh_ids};
use crate::kernel::command::{Act, Effect, OperatorPrincipal, Posted, Verdict};
use crate::kernel::ledger::{Account, AccountStatus, TransactionState};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{AccountId, CaseId, Day, IdempotencyKey, Money, SpiffeId, TransactionId};
use crate::kernel::zone::day_to_text;
use crate::ops::failure::Failure;
use crate::store::{Listing, StatementLine, StatementQuery, TransactionQuery, TransactionRecord, views};

/// Open authorizations that `account show` lists.
const HOLDS_SHOWN: u32 = 1_000;

/// What is asked at the desk.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "verb", content = "args", rename_all = "snake_case", deny_unknown_fields)]
pub enum DeskCall {
    AccountShow {
        account: AccountId,
    },
    /// Days of the account's own calendar, both included.
    AccountStatement {
        account: AccountId,
        from: Option<Day>,
        to: Option<Day>,
        before: Option<i64>,
        limit: u32,
    },
    AccountStatus {
        account: AccountId,
        status: AccountStatus,
        reason: String,
    },
    AccountCharge {
        account: AccountId,
        amount: Money,
        reference: IdempotencyKey,
    },
    TransactionList {
        account: Option<AccountId>,
        agent: Option<SpiffeId>,
        state: Option<TransactionState>,
        limit: u32,
    },
    TransactionShow {
        transaction: TransactionId,
    },
    TransactionReverse {
        transaction: TransactionId,
        amount: Option<String>,
        key: IdempotencyKey,
    },
    CaseList {},
    CaseResolve {
        case: CaseId,
        verdict: Verdict,
        note: String,
    },
    BankStatus {},
    BankStop {
        reason: String,
    },
    BankResume {},
}

impl Payments {
    /// Does what was asked; the role rules are part of each decision, reads need any role.
    ///
    /// # Errors
    /// Refusals by name; the store's.
    pub fn desk(&self, operator: &OperatorPrincipal, call: DeskCall) -> Result<Value, Failure> {
        match call {
            DeskCall::AccountShow { account } => self.account_show(operator, &account),
            DeskCall::AccountStatement { account, from, to, before, limit } => {
                self.account_statement(operator, account, from, to, before, limit)
            }
            DeskCall::AccountStatus { account, status, reason } => {
                let act = Act::SetAccountStatus { account: account.clone(), status, reason };
                let changed = self.done(operator, act)?;
                Ok(json!({ "account_id": account, "status": status, "changed": changed }))
            }
            DeskCall::AccountCharge { account, amount, reference } => {
                self.account_charge(operator, &account, amount, reference)
            }
            DeskCall::TransactionList { account, agent, state, limit } => {
                reader(operator)?;
                let account = account.map(|account| account.to_string());
                let query = TransactionQuery { account, agent, state, original: None, limit };
                let found = self.store.transactions(&query)?;
                Ok(json!({ "items": found.iter().map(record).collect::<Vec<_>>(), "next": null }))
            }
            DeskCall::TransactionShow { transaction } => self.transaction_show(operator, &transaction),
            DeskCall::TransactionReverse { transaction, amount, key } => {
                self.transaction_reverse(operator, &transaction, amount, key)
            }
            DeskCall::CaseList {} => self.list(operator, Listing::Cases),
            DeskCall::CaseResolve { case, verdict, note } => self.case_resolve(operator, case, verdict, note),
            DeskCall::BankStatus {} => {
                reader(operator)?;
                self.stopped()
            }
            DeskCall::BankStop { reason } => {
                let changed = self.done(operator, Act::SetBreaker { reason: Some(reason) })?;
                self.stopped_after(changed)
            }
            DeskCall::BankResume {} => {
                let changed = self.done(operator, Act::SetBreaker { reason: None })?;
                self.stopped_after(changed)
            }
        }
    }

    /// Whether payments are stopped, why and by whom, and how many cases wait.
    ///
    /// # Errors
    /// The store's.
    pub fn stopped(&self) -> Result<Value, Failure> {
        let mut value = self.store.listing(Listing::Breaker)?.pop().unwrap_or_default();
        let waiting = self.store.listing(Listing::Cases)?.iter().filter(|case| case["status"] == "queued").count();
        value["cases_waiting"] = json!(waiting);
        Ok(value)
    }

    fn stopped_after(&self, changed: bool) -> Result<Value, Failure> {
        let mut value = self.stopped()?;
        value["changed"] = json!(changed);
        Ok(value)
    }

    fn account_named(&self, account: &AccountId) -> Result<Account, Failure> {
        self.store.account(account.as_str())?.ok_or_else(|| refused(Refusal::UnknownAccount))
    }

    fn account_show(&self, operator: &OperatorPrincipal, id: &AccountId) -> Result<Value, Failure> {
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
                limit: HOLDS_SHOWN,
                ..TransactionQuery::default()
            };
            let open = self.store.transactions(&query)?;
            holds.extend(open.iter().filter(|open| open.transaction.debit == account.name).map(record));
        }
        value["holds"] = json!(holds);
        Ok(value)
    }

    fn account_statement(
        &self,
        operator: &OperatorPrincipal,
        account: AccountId,
        from: Option<Day>,
        to: Option<Day>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Value, Failure> {
        reader(operator)?;
        let zone = self.account_named(&account)?.zone;
        let query = StatementQuery {
            account,
            from: from.map(|day| zone.start_of(day)),
            until: to.map(|day| zone.start_of(Day(day.0.saturating_add(1)))),
            before,
            limit,
        };
        let statement = self.store.statement(&query)?.ok_or_else(|| refused(Refusal::UnknownAccount))?;
        let account = &statement.account;
        let decimal = |minor| Money::from_minor(minor, account.currency).decimal();
        let line = |line: &StatementLine| {
            let other = if line.amount < 0 { &line.transaction.credit } else { &line.transaction.debit };
            json!({
                "entry": line.entry, "date": day_to_text(account.zone.day(line.posted_at)),
                "posted_at": line.posted_at.rfc3339(), "transaction_id": line.transaction.transaction_id,
                "kind": line.transaction.kind.name(), "counterparty": other,
                "product_id": line.transaction.product, "amount": decimal(line.amount),
                "balance": decimal(line.balance),
            })
        };
        Ok(json!({
            "account_id": account.name, "owner": account.owner, "currency": account.currency,
            "time_zone": account.zone, "opening_balance": decimal(statement.opening),
            "closing_balance": decimal(statement.closing),
            "items": statement.lines.iter().map(line).collect::<Vec<_>>(), "next": statement.next,
        }))
    }

    fn account_charge(
        &self,
        operator: &OperatorPrincipal,
        account: &AccountId,
        amount: Money,
        reference: IdempotencyKey,
    ) -> Result<Value, Failure> {
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

    fn transaction_show(&self, operator: &OperatorPrincipal, id: &TransactionId) -> Result<Value, Failure> {
        reader(operator)?;
        let transaction = self.store.transaction(id)?.ok_or_else(|| refused(Refusal::UnknownTransaction))?;
        let posted = self.store.posted(id)?;
        let statement: Option<Value> =
            posted.as_ref().and_then(|posted| serde_json::from_slice(&posted.statement).ok());
        let batch = posted.as_ref().map(|posted| posted.batch);
        let mut value = views::transaction(&transaction, None, batch);
        value["posted"] = json!(statement.as_ref().map(|statement| &statement["posted_at"]));
        value["maker"] = json!(transaction.maker.name());
        value["settlement"] = json!(transaction.settlement);
        value["approval"] = json!(views::approval(&transaction));
        if let Some(Posted { batch, .. }) = posted {
            let signed = self.store.batch(batch)?.is_some_and(|batch| batch.signature.is_some());
            value["receipt"] = json!(receipt_word(if signed { Receipt::Signed } else { Receipt::Pending }));
        }
        value["leaf_index"] = json!(self.store.leaf_of_transaction(id)?.and_then(|leaf| leaf.index));
        let query = TransactionQuery { original: Some(id.clone()), limit: HOLDS_SHOWN, ..TransactionQuery::default() };
        value["reversals"] = json!(self.store.transactions(&query)?.iter().map(record).collect::<Vec<_>>());
        value["waits_for_core"] = json!(self.core_verbs(id)?);
        value["statement"] = json!(statement);
        Ok(value)
    }

    fn core_verbs(&self, id: &TransactionId) -> Result<Vec<&'static str>, Failure> {
        Ok(self.store.outbox(Some(id), 8)?.iter().map(|row| row.verb.name()).collect())
    }

    fn transaction_reverse(
        &self,
        operator: &OperatorPrincipal,
        id: &TransactionId,
        amount: Option<String>,
        key: IdempotencyKey,
    ) -> Result<Value, Failure> {
        let original = self.store.transaction(id)?.ok_or_else(|| refused(Refusal::UnknownTransaction))?;
        let money = |text: String| {
            Money::parse_positive(&text, original.amount.currency()).map_err(|malformed| {
                Failure::usage("amount_malformed", format!("\"{text}\": {malformed}"), "write it like 1899.99")
            })
        };
        let act = Act::ReverseTransaction {
            transaction_id: id.clone(),
            amount: amount.map(money).transpose()?,
            idempotency_key: key,
            rules: self.rules(),
            fresh: fresh_ids()?,
        };
        let Effect::RequiresApproval { approval_id, transaction_id, expires } = self.operate(operator, act)? else {
            return Err(unexpected());
        };
        Ok(json!({
            "status": "requires_approval", "approval_id": approval_id, "transaction_id": transaction_id,
            "original_transaction_id": id, "expires": expires.rfc3339(),
        }))
    }

    fn case_resolve(
        &self,
        operator: &OperatorPrincipal,
        case: CaseId,
        verdict: Verdict,
        note: String,
    ) -> Result<Value, Failure> {
        let act = Act::ResolveCase { case, verdict, note };
        let Effect::CaseDecided { case_id, transaction_id, verdict } = self.operate(operator, act)? else {
            return Err(unexpected());
        };
        let status = match verdict {
            Verdict::Approve => "released",
            Verdict::Deny => "rejected",
        };
        Ok(json!({ "case_id": case_id, "transaction_id": transaction_id, "status": status }))
    }
}

fn record(record: &TransactionRecord) -> Value {
    views::transaction(&record.transaction, record.posted_at, record.batch)
}
