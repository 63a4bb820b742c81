//! Owners' mandates at the bank's desk: entered, listed, revoked.

use serde_json::{Value, json};

use super::answer::unexpected;
use super::desk::stated;
use super::operators::{page, reader, refused};
use super::story::Payments;
use crate::kernel::command::{Act, Effect, OperatorPrincipal};
use crate::kernel::decide::Counter;
use crate::kernel::mandate::{LIFE, StoredMandate, VerifiedMandate};
use crate::kernel::refusal::Refusal;
use crate::kernel::status::StatusSnapshot;
use crate::kernel::types::{AgentName, MandateId, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;

/// Mandates of one page.
const MANDATES_MAX: u32 = 999;

impl Payments {
    /// Enters a mandate. Roles: officer, administrator, and the owner.
    ///
    /// # Errors
    /// What the decision refuses.
    pub fn mandate_add(&self, operator: &OperatorPrincipal, verified: VerifiedMandate) -> Result<Value, Failure> {
        let mandate = verified.mandate().clone();
        let changed = self.done(operator, Act::AddMandate { mandate: Box::new(verified) })?;
        Ok(json!({
            "mandate_id": mandate.id, "agent": mandate.agent, "account_id": mandate.account, "owner": mandate.owner,
            "expires": mandate.expires.rfc3339(), "changed": changed,
        }))
    }

    /// Revokes a mandate, for ever, and voids what is authorized under it. Roles: officer, administrator, and the owner.
    ///
    /// # Errors
    /// `unknown_mandate`, `operator_not_permitted`, `reason_invalid`
    pub fn mandate_revoke(
        &self,
        operator: &OperatorPrincipal,
        id: MandateId,
        reason: String,
    ) -> Result<Value, Failure> {
        let act = Act::RevokeMandate { mandate: id.clone(), reason: stated(reason)? };
        let Effect::MandateRevoked { authorizations, changed } = self.operate(operator, act)? else {
            return Err(unexpected());
        };
        Ok(json!({ "mandate_id": id, "state": "revoked", "authorizations": authorizations, "changed": changed }))
    }

    /// Newest first: of an agent, or all. Any role of the bank; an owner sees those of their own accounts.
    ///
    /// # Errors
    /// `unknown_agent`, `agent_ambiguous`, `unknown_mandate` when `after` is none.
    pub fn mandate_list(
        &self,
        operator: &OperatorPrincipal,
        agent: Option<&AgentName>,
        after: Option<&MandateId>,
        limit: u32,
    ) -> Result<Value, Failure> {
        reader(operator)?;
        let agent = agent.map(|name| self.agent_named(name)).transpose()?;
        if let Some(after) = after {
            self.store.mandate(after)?.ok_or_else(|| refused(Refusal::UnknownMandate))?;
        }
        let limit = limit.clamp(1, MANDATES_MAX);
        let found = self.store.mandates(agent.as_ref(), after, limit + 1)?;
        let (found, next) = page(found, limit, |stored| stored.mandate.id.clone());
        let (now, status) = (clock::now(), self.store.status()?);
        let shown = found.iter().filter(|stored| sees(operator, stored));
        let items: Vec<Value> = shown.map(|stored| line(stored, now, &status)).collect();
        Ok(json!({ "items": items, "next": next }))
    }

    /// One mandate with its claims, its text and what counts under it now. Any role of the bank.
    ///
    /// # Errors
    /// `unknown_mandate`
    pub fn mandate_show(&self, operator: &OperatorPrincipal, id: &MandateId) -> Result<Value, Failure> {
        reader(operator)?;
        let stored = self.store.mandate(id)?.filter(|stored| sees(operator, stored));
        let stored = stored.ok_or_else(|| refused(Refusal::UnknownMandate))?;
        let now = clock::now();
        let mut shown = line(&stored, now, &self.store.status()?);
        shown["claims"] = stored.mandate.claims();
        shown["text"] = json!(stored.text);
        if let Some(account) = self.store.account(stored.mandate.account.as_str())? {
            let used = stored.mandate.counted_on(now, account.zone);
            let spent = self.store.spent(&Counter::MandateAmount(id.clone()), used.budget_on)?;
            let uses = Counter::MandateUses(id.clone());
            shown["counted"] = json!({
                "amount_minor": spent.to_string(),
                "currency": account.currency,
                "payments": self.store.spent(&uses, used.recurs_on)?,
                "payments_in_all": self.store.spent(&uses, LIFE)?,
            });
        }
        Ok(shown)
    }
}

/// Whoever is nothing but a customer sees their own.
fn sees(operator: &OperatorPrincipal, stored: &StoredMandate) -> bool {
    !operator.is_only_owner() || operator.is_owner(stored.mandate.owner.as_str())
}

fn line(stored: &StoredMandate, now: UnixMillis, status: &StatusSnapshot) -> Value {
    let StoredMandate { mandate, signer, created, entered_by, revoked, .. } = stored;
    let state = match revoked {
        Some(_) => "revoked",
        None if now >= mandate.expires => "expired",
        // No payment is made under it, although nobody revoked it itself.
        None if status.revokes_signer(signer) => "signer_revoked",
        None if now < mandate.not_before => "not_yet_valid",
        None => "standing",
    };
    json!({
        "mandate_id": mandate.id, "state": state, "agent": mandate.agent, "agent_key": mandate.agent_key,
        "account_id": mandate.account, "owner": mandate.owner, "not_before": mandate.not_before.rfc3339(),
        "expires": mandate.expires.rfc3339(), "created": created.rfc3339(), "entered_by": entered_by,
        "revoked_at": revoked.as_ref().map(|revoked| revoked.at.rfc3339()),
        "revoked_by": revoked.as_ref().map(|revoked| revoked.by.as_str()),
        "reason": revoked.as_ref().map(|revoked| revoked.reason.as_str()),
    })
}
