//! The bank's desk: what officers and auditors look at and do about accounts, payments and stopped payments.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

mod accounts;
mod transactions;

use super::operators::{reader, refused};
use super::story::Payments;
use crate::kernel::breaker::Cause;
use crate::kernel::command::{Act, CaseVerdict, OperatorPrincipal, TakeFrom};
use crate::kernel::ledger::{AccountStatus, TransactionState};
use crate::kernel::refusal::Refusal;
use crate::kernel::text::{self, Limit};
use crate::kernel::types::{AccountId, AgentName, CaseId, Currency, Day, IdempotencyKey, TransactionId};
use crate::ops::failure::Failure;
use crate::store::{Before, CasePlace, TransactionRecord, views};

/// Transactions that belong to one account or one original and are listed with it.
const RELATED_MAX: u32 = 1_000;
/// A reason or a note, in bytes: it is kept in the audit log for ever.
const REASON_BYTES_MAX: usize = 500;

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
        /// `next` of the page before.
        before: Option<Before>,
        limit: u32,
    },
    AccountStatus {
        account: AccountId,
        status: AccountStatus,
        reason: String,
    },
    AccountCharge {
        account: AccountId,
        amount: String,
        /// None: the account's own.
        currency: Option<Currency>,
        reference: IdempotencyKey,
    },
    TransactionList {
        account: Option<AccountId>,
        agent: Option<AgentName>,
        state: Option<TransactionState>,
        /// `next` of the page before.
        after: Option<TransactionId>,
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
    CaseList {
        /// `next` of the page before.
        after: Option<CasePlace>,
        limit: u32,
    },
    CaseShow {
        case: CaseId,
    },
    CaseTake {
        case: CaseId,
        from: TakeFrom,
    },
    CaseResolve {
        case: CaseId,
        verdict: CaseVerdict,
        note: String,
    },
    BankStatus {},
    BankStop {
        reason: String,
    },
    /// Lifts these causes.
    BankResume {
        causes: Vec<Cause>,
    },
}

impl DeskCall {
    /// Whether it changes nothing.
    pub fn only_shows(&self) -> bool {
        match self {
            Self::AccountShow { .. }
            | Self::AccountStatement { .. }
            | Self::TransactionList { .. }
            | Self::TransactionShow { .. }
            | Self::CaseList { .. }
            | Self::CaseShow { .. }
            | Self::BankStatus {} => true,
            Self::AccountStatus { .. }
            | Self::AccountCharge { .. }
            | Self::TransactionReverse { .. }
            | Self::CaseTake { .. }
            | Self::CaseResolve { .. }
            | Self::BankStop { .. }
            | Self::BankResume { .. } => false,
        }
    }
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
                let act = Act::SetAccountStatus { account: account.clone(), status, reason: stated(reason)? };
                let changed = self.done(operator, act)?;
                Ok(json!({ "account_id": account, "status": status, "changed": changed }))
            }
            DeskCall::AccountCharge { account, amount, currency, reference } => {
                self.account_charge(operator, &account, &amount, currency, reference)
            }
            DeskCall::TransactionList { account, agent, state, after, limit } => {
                self.transaction_list(operator, account, agent.as_ref(), state, after, limit)
            }
            DeskCall::TransactionShow { transaction } => self.transaction_show(operator, &transaction),
            DeskCall::TransactionReverse { transaction, amount, key } => {
                self.transaction_reverse(operator, &transaction, amount, key)
            }
            DeskCall::CaseList { after, limit } => self.case_list(operator, after, limit),
            DeskCall::CaseShow { case } => {
                reader(operator)?;
                let found = self.store.case(&case)?.ok_or_else(|| refused(Refusal::UnknownCase))?;
                self.case_view(&found)
            }
            DeskCall::CaseTake { case, from } => self.case_worked(operator, Act::TakeCase { case, from }),
            DeskCall::CaseResolve { case, verdict, note } => self.case_resolve(operator, case, verdict, note),
            DeskCall::BankStatus {} => {
                reader(operator)?;
                self.stopped()
            }
            DeskCall::BankStop { reason } => {
                let (cause, reason) = (Cause::Operator, Some(stated(reason)?));
                let changed = self.done(operator, Act::SetBreaker { cause, reason, node: None })?;
                self.stopped_after(changed)
            }
            DeskCall::BankResume { causes } => {
                let mut changed = false;
                for cause in causes {
                    changed |= self.lift(operator, cause)?;
                }
                self.stopped_after(changed)
            }
        }
    }

    /// Whether payments are stopped, by which causes, how many cases wait, and how many orders to a core.
    ///
    /// # Errors
    /// The store's.
    pub fn stopped(&self) -> Result<Value, Failure> {
        let mut value = self.breaker_view()?;
        value["cases_waiting"] = json!(self.store.cases_waiting()?);
        value["orders_waiting"] = json!(self.outbox_waiting()?.0);
        Ok(value)
    }

    fn stopped_after(&self, changed: bool) -> Result<Value, Failure> {
        let mut value = self.stopped()?;
        value["changed"] = json!(changed);
        Ok(value)
    }
}

/// What a human says about an act, without what is not seen; part of its leaf.
///
/// # Errors
/// `reason_invalid`
pub(super) fn stated(reason: String) -> Result<String, Failure> {
    let one_line = !reason.trim().chars().any(char::is_control);
    let text = text::shown(&reason, Limit { chars: REASON_BYTES_MAX, bytes: REASON_BYTES_MAX });
    if text.is_empty() || reason.trim().len() > REASON_BYTES_MAX || !one_line {
        return Err(Failure::usage(
            "reason_invalid",
            format!("a reason has 1 to {REASON_BYTES_MAX} bytes, on one line"),
            "say why in a sentence: it is kept in the audit log",
        ));
    }
    Ok(text)
}

fn record(record: &TransactionRecord) -> Value {
    views::transaction(&record.transaction, record.posted_at, record.batch)
}
