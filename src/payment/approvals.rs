//! What people see and say of payments that wait for them: the bank's people at their gate, owners at theirs.

use serde_json::{Value, json};

use super::answer::unexpected;
use super::core::Declined;
use super::desk::stated;
use super::operators::{page, reader, receipt_word, refused};
use super::story::Payments;
use crate::kernel::approval::{ApprovalDocument, Evidence, PaymentTerms};
use crate::kernel::command::{Act, Effect, OperatorPrincipal, Posted, Verdict};
use crate::kernel::ledger::{AccountKind, Transaction, TransactionState};
use crate::kernel::quorum::Side;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{ApprovalId, OwnerId, TransactionId};
use crate::ops::failure::Failure;
use crate::store::ApprovalView;

/// Approvals of one page.
const APPROVALS_MAX: u32 = 999;
/// Approvals looked through for those that wait for one owner, newest first.
const OWNERS_LOOK_MAX: usize = 10_000;

impl Payments {
    /// A person's word at a gate of an approval; never the maker's. What completes the gates approves, and an approved
    /// reversal is posted at once. Roles: as the gate names them.
    ///
    /// # Errors
    /// What the decision refuses; `reason_invalid` for a note that is too long or has more than one line.
    pub fn approvals_decide(
        &self,
        operator: &OperatorPrincipal,
        approval: ApprovalId,
        side: Side,
        verdict: Verdict,
        note: String,
        evidence: Option<Evidence>,
    ) -> Result<Value, Failure> {
        let (signed, evidence) = (evidence.is_some(), evidence.map(Box::new));
        let note = if note.trim().is_empty() { String::new() } else { stated(note)? };
        let act = Act::DecideApproval { approval, side, verdict, note, evidence };
        let Effect::Decided { approval_id, transaction_id, verdict, pending, posted: _ } =
            self.operate(operator, act)?
        else {
            return Err(unexpected());
        };
        let status = match verdict {
            Verdict::Approve if !pending.is_empty() => "pending",
            Verdict::Approve => "approved",
            Verdict::Deny => "denied",
        };
        let told = self.ordered_by(&transaction_id);
        let mut value = json!({
            "approval_id": approval_id, "transaction_id": transaction_id, "status": status,
            "decided_by": operator.name, "asserted": operator.asserted, "signed": signed, "pending": pending,
        });
        let posted = self.store.posted(&transaction_id).map_err(|fault| Failure::from(fault).after_the_fact())?;
        if let Some(Posted { batch, .. }) = posted {
            value["status"] = json!("executed");
            value["receipt"] = json!(receipt_word(self.settle(batch)));
        } else if let Some(status) = told {
            value["status"] = json!(status);
        }
        Ok(value)
    }

    /// Has an approved reversal settled by the core, where there is one; answers where it stands if it is not executed.
    /// What the core does not answer now is delivered later: the decision stands in any case.
    fn ordered_by(&self, transaction_id: &TransactionId) -> Option<&'static str> {
        let order = self.store.order(transaction_id).ok().flatten()?;
        match self.settled_elsewhere(Effect::Submitted(order)) {
            Ok(_) | Err(Declined::Failed(_)) => Some(TransactionState::Submitted.name()),
            Err(Declined::Refused(_)) => Some(TransactionState::CoreRefused.name()),
        }
    }

    /// A page of approvals, newest first, those behind `after`. What each word is proven by is shown with one approval.
    ///
    /// # Errors
    /// `unknown_approval`
    pub fn approvals_list(
        &self,
        operator: &OperatorPrincipal,
        after: Option<ApprovalId>,
        limit: u32,
    ) -> Result<Value, Failure> {
        reader(operator)?;
        if let Some(after) = &after {
            self.store.approval(after)?.ok_or_else(|| refused(Refusal::UnknownApproval))?;
        }
        let limit = limit.clamp(1, APPROVALS_MAX);
        let found = self.store.approvals(after.as_ref(), limit + 1)?;
        let (found, next) = page(found, limit, |approval| approval.approval_id.clone());
        Ok(json!({ "items": found.into_iter().map(listed).collect::<Vec<_>>(), "next": next }))
    }

    /// # Errors
    /// `unknown_approval`
    pub fn approvals_show(&self, operator: &OperatorPrincipal, approval: &ApprovalId) -> Result<Value, Failure> {
        reader(operator)?;
        let found = self.store.approval(approval)?;
        found.map(|view| json!(view)).ok_or_else(|| refused(Refusal::UnknownApproval))
    }

    /// What this person is asked to sign about an approval: `{document, terms, approval}`. The bank's people see every
    /// approval; an owner those about their own accounts, and answers about others are as if there were none.
    ///
    /// # Errors
    /// `operator_not_permitted`, `unknown_approval`
    pub fn approvals_question(
        &self,
        person: &OperatorPrincipal,
        approval: &ApprovalId,
        side: Side,
        verdict: Verdict,
    ) -> Result<Value, Failure> {
        let (view, transaction) = self.seen_by(person, approval, side)?;
        let document = ApprovalDocument::asked(&transaction, &person.name, side, verdict);
        let terms = transaction.approval.as_ref().map(|approval| PaymentTerms::of(&transaction, approval));
        let both = document.zip(terms).ok_or_else(|| refused(Refusal::UnknownApproval))?;
        Ok(json!({ "document": both.0, "terms": both.1, "approval": view }))
    }

    /// One approval as its owner sees it.
    ///
    /// # Errors
    /// `operator_not_permitted`, `unknown_approval`
    pub fn consent_show(&self, person: &OperatorPrincipal, approval: &ApprovalId) -> Result<Value, Failure> {
        self.seen_by(person, approval, Side::Owner).map(|(view, _)| json!(view))
    }

    /// What waits for the consent of this owner, newest first.
    ///
    /// # Errors
    /// `operator_not_permitted`
    pub fn consent_list(&self, person: &OperatorPrincipal) -> Result<Value, Failure> {
        let owner = owner_of(person)?;
        let (mut items, mut after, mut looked): (Vec<Value>, Option<ApprovalId>, usize) = (vec![], None, 0);
        loop {
            let some = self.store.approvals(after.as_ref(), APPROVALS_MAX)?;
            looked += some.len();
            after = some.last().map(|view| view.approval_id.clone());
            for view in some {
                let waits = view.pending.iter().any(|word| word == "owner_consent_pending");
                let account = view.summary["from_account"].as_str().unwrap_or_default();
                if waits && self.is_of(account, owner)? {
                    items.push(listed(view));
                }
            }
            if after.is_none() || looked >= OWNERS_LOOK_MAX {
                return Ok(json!({ "items": items, "next": null }));
            }
        }
    }

    fn seen_by(
        &self,
        person: &OperatorPrincipal,
        approval: &ApprovalId,
        side: Side,
    ) -> Result<(ApprovalView, Transaction), Failure> {
        let unknown = || refused(Refusal::UnknownApproval);
        let view = self.store.approval(approval)?.ok_or_else(unknown)?;
        let transaction = self.store.transaction(&view.transaction_id)?.ok_or_else(unknown)?;
        let sees = match side {
            Side::Owner => self.is_of(&transaction.debit, owner_of(person)?)?,
            Side::Bank if person.is_only_owner() => {
                return Err(refused(Refusal::OperatorNotPermitted));
            }
            Side::Bank => true,
        };
        if sees { Ok((view, transaction)) } else { Err(unknown()) }
    }

    fn is_of(&self, account: &str, owner: &OwnerId) -> Result<bool, Failure> {
        let account = self.store.account(account)?;
        Ok(account.is_some_and(|account| account.kind == AccountKind::Customer && account.owner == owner.as_str()))
    }
}

/// One of many: without what its words are proven by, which is long.
fn listed(view: ApprovalView) -> Value {
    let mut value = json!(view);
    if let Some(members) = value.as_object_mut() {
        members.remove("words");
        members.remove("signed");
    }
    value
}

fn owner_of(person: &OperatorPrincipal) -> Result<&OwnerId, Failure> {
    person.owner.as_ref().ok_or_else(|| refused(Refusal::OperatorNotPermitted))
}
