//! Transactions at the desk: lists, one with all that concerns it, reversals, and cases.

use serde_json::{Value, json};

use super::{RELATED_MAX, record, stated};
use crate::kernel::command::{Act, CaseStep, CaseVerdict, Effect, OperatorPrincipal, Posted};
use crate::kernel::decide::{CaseState, ManualCase};
use crate::kernel::ledger::TransactionState;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{AccountId, AgentName, CaseId, IdempotencyKey, Money, TransactionId};
use crate::kernel::zone::day_to_text;
use crate::ops::failure::Failure;
use crate::payment::answer::{Receipt, unexpected};
use crate::payment::operators::{page, reader, receipt_word, refused};
use crate::payment::story::{Payments, fresh_ids};
use crate::store::{CasePlace, TransactionQuery, views};

impl Payments {
    /// # Errors
    /// `unknown_account`, `unknown_agent`, `agent_ambiguous`, `unknown_transaction`: a misspelt name is no empty list.
    pub(super) fn transaction_list(
        &self,
        operator: &OperatorPrincipal,
        account: Option<AccountId>,
        agent: Option<&AgentName>,
        state: Option<TransactionState>,
        after: Option<TransactionId>,
        limit: u32,
    ) -> Result<Value, Failure> {
        reader(operator)?;
        if let Some(account) = &account {
            self.account_named(account)?;
        }
        let account = account.map(|account| account.to_string());
        let agent = agent.map(|agent| self.agent_named(agent)).transpose()?;
        if let Some(after) = &after {
            self.store.transaction(after)?.ok_or_else(|| refused(Refusal::UnknownTransaction))?;
        }
        let limit = limit.clamp(1, RELATED_MAX);
        let query = TransactionQuery { account, agent, state, original: None, before: after, limit: limit + 1 };
        let found = self.store.transactions(&query)?;
        let (found, next) = page(found, limit, |last| last.transaction.transaction_id.clone());
        Ok(json!({ "items": found.iter().map(record).collect::<Vec<_>>(), "next": next }))
    }

    /// # Errors
    /// `unknown_case`
    pub(super) fn case_list(
        &self,
        operator: &OperatorPrincipal,
        after: Option<CasePlace>,
        limit: u32,
    ) -> Result<Value, Failure> {
        reader(operator)?;
        if let Some(after) = &after {
            self.store.case(&after.case)?.ok_or_else(|| refused(Refusal::UnknownCase))?;
        }
        let limit = limit.clamp(1, RELATED_MAX);
        let found = self.store.cases(after.as_ref(), limit + 1)?;
        let place =
            |case: &ManualCase| CasePlace { waits: case.state == CaseState::Queued, case: case.case_id.clone() };
        let (found, next) = page(found, limit, place);
        let items = found.iter().map(|case| self.case_view(case)).collect::<Result<Vec<_>, Failure>>()?;
        Ok(json!({ "items": items, "next": next }))
    }

    /// A case with what it is about and what it waits for: `tool`, `amount`, `currency`, `from_account`, `payee`, and
    /// `waits_for` (`answer`, `second_word`, or null once it is decided). What the call does not say its transaction does.
    pub(super) fn case_view(&self, case: &ManualCase) -> Result<Value, Failure> {
        let mut value = views::case(case);
        let call = &case.call;
        let about = match &case.transaction_id {
            Some(id) => self.store.transaction(id)?,
            None => None,
        };
        let about = about.as_ref();
        let asked = ["amount", "price"].into_iter().map(|member| &call[member]).find(|amount| amount.is_object());
        let asked = asked.cloned().or_else(|| about.map(|about| json!(about.amount))).unwrap_or_default();
        value["amount"] = asked["amount"].clone();
        value["currency"] = asked["currency"].clone();
        value["tool"] = call["tool"].clone();
        let said = |member: &str| Some(&call[member]).filter(|said| !said.is_null()).cloned();
        let payee = said("merchant").or_else(|| said("to_account"));
        let of_payment = || about.map(|about| about.merchant.as_ref().map_or(json!(about.credit), |shop| json!(shop)));
        value["payee"] = json!(payee.or_else(of_payment));
        value["from_account"] = json!(said("from_account").or_else(|| about.map(|about| json!(about.debit))));
        value["waits_for"] = json!(match (case.state, &case.proposed) {
            (CaseState::Queued, Some(_)) => Some("second_word"),
            (CaseState::Queued, None) => Some("answer"),
            (CaseState::Released | CaseState::Rejected | CaseState::PaidElsewhere, _) => None,
        });
        Ok(value)
    }

    /// # Errors
    /// `unknown_transaction`
    pub(super) fn transaction_show(&self, operator: &OperatorPrincipal, id: &TransactionId) -> Result<Value, Failure> {
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
        let holds = transaction.holds_funds() && transaction.state.is_open();
        value["held"] = json!(holds.then(|| transaction.total().decimal()));
        value["counts_on"] = json!(transaction.counts_on.map(day_to_text));
        value["debits_on"] = json!(transaction.debits_on.map(day_to_text));
        value["policy_version"] = json!(transaction.policy_version);
        value["catalogue_version"] = json!(transaction.catalogue_version);
        value["approval"] = json!(views::approval(&transaction));
        let case = transaction.case_id.as_ref().map(|case| self.store.case(case)).transpose()?.flatten();
        value["case"] = json!(case.as_ref().map(views::case));
        if let Some(Posted { batch, index_in_batch, .. }) = posted {
            let signed = self.store.batch(batch)?.is_some_and(|batch| batch.signature.is_some());
            value["index_in_batch"] = json!(index_in_batch);
            value["receipt"] = json!(receipt_word(if signed { Receipt::Signed } else { Receipt::Pending }));
        }
        value["leaf_index"] = json!(self.store.leaf_of_transaction(id)?.and_then(|leaf| leaf.index));
        let query = TransactionQuery { original: Some(id.clone()), limit: RELATED_MAX, ..TransactionQuery::default() };
        let reversals = self.store.transactions(&query)?;
        value["reversals"] = json!(reversals.iter().map(record).collect::<Vec<_>>());
        value["waits_for_core"] = json!(self.core_verbs(id)?);
        value["core_refusals"] = self.store.core_refusals(id)?.iter().map(views::core_refusal).collect();
        value["statement"] = json!(statement);
        Ok(value)
    }

    fn core_verbs(&self, id: &TransactionId) -> Result<Vec<&'static str>, Failure> {
        Ok(self.store.outbox(Some(id), 8)?.iter().map(|row| row.verb.name()).collect())
    }

    /// Role: officer; another person approves it.
    pub(super) fn transaction_reverse(
        &self,
        operator: &OperatorPrincipal,
        id: &TransactionId,
        amount: Option<String>,
        key: IdempotencyKey,
    ) -> Result<Value, Failure> {
        // Without an original the amount has no currency; the decision refuses it by its own order.
        let original = self.store.transaction(id)?;
        let money = |text: String| {
            let Some(original) = &original else {
                return Ok(None);
            };
            Money::parse_positive(&text, original.amount.currency()).map(Some).map_err(|malformed| {
                Failure::usage("amount_malformed", format!("\"{text}\": {malformed}"), "write it like 1899.99")
            })
        };
        let act = Act::ReverseTransaction {
            transaction_id: id.clone(),
            amount: amount.map(money).transpose()?.flatten(),
            idempotency_key: key,
            rules: self.rules(),
            fresh: fresh_ids()?,
        };
        let (status, reversal, approval) = match self.operate(operator, act)? {
            Effect::RequiresApproval { approval_id, transaction_id, .. } => {
                ("requires_approval", transaction_id, Some(approval_id))
            }
            // The same key once more, after somebody has answered.
            Effect::Approved { transaction_id, .. } => ("approved", transaction_id, None),
            Effect::Posted(posted) => ("executed", posted.transaction_id, None),
            Effect::Submitted(order) => ("submitted", order.transaction_id, None),
            Effect::Answer(_)
            | Effect::QueuedManual { .. }
            | Effect::CaseWorked { .. }
            | Effect::Cancelled { .. }
            | Effect::Decided { .. }
            | Effect::Swept { .. }
            | Effect::Revoked { .. }
            | Effect::MandateRevoked { .. }
            | Effect::Spread { .. }
            | Effect::Frozen { .. }
            | Effect::ErasureAsked { .. }
            | Effect::Erased { .. }
            | Effect::Lapsed { .. }
            | Effect::Unfrozen { .. }
            | Effect::Certificate(_)
            | Effect::PolicyInForce { .. }
            | Effect::CrlNumber(_)
            | Effect::LogAccepted { .. }
            | Effect::Vault(_)
            | Effect::Signing { .. }
            | Effect::Witnessed(_)
            | Effect::Done { .. } => return Err(unexpected()),
        };
        Ok(json!({
            "status": status, "approval_id": approval, "transaction_id": reversal, "original_transaction_id": id,
        }))
    }

    /// Roles: approver, officer.
    pub(super) fn case_resolve(
        &self,
        operator: &OperatorPrincipal,
        case: CaseId,
        verdict: CaseVerdict,
        note: String,
    ) -> Result<Value, Failure> {
        let note = if note.trim().is_empty() { String::new() } else { stated(note)? };
        let verdict = match verdict {
            CaseVerdict::PaidElsewhere { reference } => CaseVerdict::PaidElsewhere { reference: stated(reference)? },
            verdict @ (CaseVerdict::Release | CaseVerdict::Reject) => verdict,
        };
        self.case_worked(operator, Act::ResolveCase { case, verdict, note, rules: self.rules() })
    }

    /// A step of somebody who works on a case, and how the case stands.
    pub(super) fn case_worked(&self, operator: &OperatorPrincipal, act: Act) -> Result<Value, Failure> {
        let Effect::CaseWorked { case_id, transaction_id, step } = self.operate(operator, act)? else {
            return Err(unexpected());
        };
        let mut value = json!({ "case_id": case_id, "transaction_id": transaction_id, "status": step.status() });
        match step {
            CaseStep::Taken { by, before } => {
                value["taken_by"] = json!(by);
                value["before"] = json!(before);
            }
            CaseStep::Proposed { verdict, by } => {
                value["proposed"] = json!({ "status": verdict.status(), "by": by });
            }
            CaseStep::Decided { .. } => {}
        }
        Ok(value)
    }
}
