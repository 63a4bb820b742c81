//! What agents read besides their tools' answers. Whether they may is decided before, by a tool call of theirs.

use serde_json::{Value, json};

use super::outlook;
use super::story::Payments;
use crate::kernel::command::{AgentPrincipal, Verb};
use crate::kernel::types::{AccountId, ApprovalId, Day, MandateId, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::{ApprovalView, StoreFault};

/// Lines of one statement: an agent that needs more asks for fewer days.
pub const STATEMENT_LINES_MAX: u32 = 500;

impl Payments {
    /// The rules that hold for an agent's role now.
    pub fn policy_of(&self, agent: &AgentPrincipal) -> Value {
        let rules = self.rules();
        let role = agent.spiffe_id.role();
        json!({
            "role": role,
            "policy_version": rules.policy_version,
            "catalogue_version": rules.catalogue_version.to_string(),
            "tools": rules.role_tools.get(role).cloned().unwrap_or_default(),
            "permissions": rules.policy.as_ref().and_then(|policy| policy.role(role.as_str())).map(|role| &role.permissions),
            "merchants_allowed": rules.merchants_allowed,
            "unattended_per_transaction": rules.unattended_per_transaction,
            "unattended_per_day": rules.unattended_per_day,
            "deny_above": rules.deny_above,
            "authorization_expires_after_s": rules.authorization_ttl_ms / 1000,
            "approval_expires_after_s": rules.approval_ttl_ms / 1000,
            "open_authorizations_max": rules.open_holds_max,
        })
    }

    /// The newest lines of an account, or those of some of its days. `next` says whether there are more.
    ///
    /// # Errors
    /// `period_invalid`, `unknown_account`; the store's.
    pub fn statement_for_agent(&self, account: &AccountId, days: Option<(Day, Day)>) -> Result<Value, Failure> {
        let (from, to) = days.unzip();
        let mut page = self.statement_page(account.clone(), from, to, None, STATEMENT_LINES_MAX)?;
        let is_whole = page["next"].is_null();
        if let Some(members) = page.as_object_mut() {
            members.remove("next");
        }
        page["complete"] = json!(is_whole);
        Ok(page)
    }

    /// The accounts that an agent's grants let it read now, by name.
    ///
    /// # Errors
    /// The store's.
    pub fn readable_accounts(&self, agent: &AgentPrincipal) -> Result<Vec<AccountId>, StoreFault> {
        self.readable(agent).map(|(accounts, _)| accounts)
    }

    /// The same, and when the first of these grants ends.
    ///
    /// # Errors
    /// The store's.
    pub fn readable(&self, agent: &AgentPrincipal) -> Result<(Vec<AccountId>, Option<UnixMillis>), StoreFault> {
        let now = clock::now();
        let mut grants = self.store.grants_of(&agent.spiffe_id)?;
        grants.retain(|grant| now < grant.expires && grant.verbs.contains(&Verb::Read));
        let until = grants.iter().map(|grant| grant.expires).min();
        Ok((grants.into_iter().map(|grant| grant.account).collect(), until))
    }

    /// The mandates under which an agent pays, as [`outlook::of_agent`].
    ///
    /// # Errors
    /// The store's.
    pub fn mandates_of(&self, agent: &AgentPrincipal) -> Result<Value, StoreFault> {
        outlook::of_agent(&*self.store, agent, clock::now())
    }

    /// One of them, as [`outlook::one_of_agent`].
    ///
    /// # Errors
    /// The store's.
    pub fn mandate_of(&self, agent: &AgentPrincipal, id: &MandateId) -> Result<Option<Value>, StoreFault> {
        outlook::one_of_agent(&*self.store, agent, id, clock::now())
    }

    /// An approval that this agent asked for. `None`: there is none, or another one asked for it.
    ///
    /// # Errors
    /// The store's.
    pub fn approval_of(
        &self,
        agent: &AgentPrincipal,
        approval: &ApprovalId,
    ) -> Result<Option<ApprovalView>, StoreFault> {
        let maker = agent.spiffe_id.to_string();
        let Some(found) = self.store.approval(approval)?.filter(|found| found.maker == maker) else {
            return Ok(None);
        };
        // Of this key, too: whoever has the name now may be another.
        let transaction = self.store.transaction(&found.transaction_id)?;
        let is_own =
            transaction.is_some_and(|transaction| transaction.agent().is_some_and(|maker| maker.key == agent.key));
        Ok(is_own.then_some(found))
    }
}
