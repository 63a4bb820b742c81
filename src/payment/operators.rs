//! What the bank's people do at the admin socket. The role rules are part of each decision, so they are in its leaf.

use serde_json::{Value, json};

use super::answer::Receipt;
use super::answer::unexpected;
use super::story::Payments;
use crate::kernel::command::{Act, Actor, Command, Effect, NewAccount, OperatorPrincipal, Verb};
use crate::kernel::refusal::Refusal;
use crate::kernel::text::{self, Limit, OnHostile};
use crate::kernel::types::{
    AccountId, AgentName, Currency, IdempotencyKey, MerchantId, Money, OwnerId, ProductId, SpiffeId, UnixMillis,
};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::{CertificatesOf, Difference, Listing};

const DAY_MS: i64 = 86_400_000;
/// The longest grant that can be entered.
const GRANT_DAYS_MAX: u32 = 3_660;

impl Payments {
    /// Opens a customer's account, with an opening balance from the clearing account. Role: administrator.
    pub fn account_open(&self, operator: &OperatorPrincipal, new: NewAccount) -> Result<Value, Failure> {
        let account = new.account.clone();
        let changed = self.done(operator, Act::OpenAccount(new))?;
        // The account is open. A signature over its opening balance that is late now is recovery's.
        let _ = self.recover();
        // What was decided stands, whether this can be read or not.
        let there = if changed { None } else { self.store.account(account.as_str()).ok().flatten() };
        let status = there.map_or("active", |account| account.status.name());
        Ok(json!({ "account_id": account, "changed": changed, "status": status }))
    }

    /// Money from outside arrives; the same reference never books twice. Roles: officer, administrator.
    pub fn account_incoming(
        &self,
        operator: &OperatorPrincipal,
        account: AccountId,
        amount: &str,
        currency: Option<Currency>,
        reference: IdempotencyKey,
    ) -> Result<Value, Failure> {
        let amount = self.amount_on(&account, amount, currency)?;
        let act = Act::IncomingPayment { account: account.clone(), amount, reference };
        let Effect::Posted(posted) = self.operate(operator, act)? else {
            return Err(unexpected());
        };
        Ok(json!({
            "account_id": account,
            "amount": amount,
            "transaction_id": posted.transaction_id,
            "receipt": receipt_word(self.settle(posted.batch)),
            "changed": !posted.repeated,
        }))
    }

    /// Role: administrator.
    pub fn merchant_add(
        &self,
        operator: &OperatorPrincipal,
        merchant: MerchantId,
        name: String,
        currency: Currency,
        looks_like_accepted: bool,
        on_hostile: OnHostile,
    ) -> Result<Value, Failure> {
        let allowed = self.rules().merchants_allowed.contains(&merchant);
        let (to, shown) = (merchant.clone(), name.clone());
        let act = Act::AddMerchant { merchant: to, name, currency, looks_like_accepted, on_hostile };
        let changed = self.done(operator, act).map_err(|failure| with_reasons(failure, &shown))?;
        Ok(json!({ "merchant": merchant, "on_allow_list": allowed, "changed": changed }))
    }

    /// Role: administrator.
    pub fn product_add(
        &self,
        operator: &OperatorPrincipal,
        merchant: MerchantId,
        product: ProductId,
        title: String,
        price: Money,
        on_hostile: OnHostile,
    ) -> Result<Value, Failure> {
        let act = Act::AddProduct {
            merchant: merchant.clone(),
            product: product.clone(),
            title: title.clone(),
            price,
            on_hostile,
        };
        let changed = self.done(operator, act).map_err(|failure| with_reasons(failure, &title))?;
        Ok(json!({ "merchant": merchant, "product_id": product, "price": price, "changed": changed }))
    }

    /// Records a grant as entered by this operator for the owner. Roles: officer, administrator.
    ///
    /// # Errors
    /// `unknown_agent`, `agent_ambiguous`; what the decision refuses.
    #[expect(clippy::too_many_arguments, reason = "one argument a field of the admin verb")]
    pub fn grant_add(
        &self,
        operator: &OperatorPrincipal,
        agent: &AgentName,
        account: AccountId,
        owner: OwnerId,
        verbs: Vec<Verb>,
        per_transaction_max: Option<Money>,
        days: u32,
    ) -> Result<Value, Failure> {
        if days == 0 || days > GRANT_DAYS_MAX || verbs.is_empty() {
            return Err(Failure::usage(
                "grant_invalid",
                format!("a grant needs at least one verb and 1 to {GRANT_DAYS_MAX} days"),
                "see `countersign grant add --help`",
            ));
        }
        let agent = self.agent_named(agent)?;
        let expires = clock::now().plus_ms(i64::from(days) * DAY_MS);
        let act = Act::AddGrant {
            agent: agent.clone(),
            account: account.clone(),
            owner: owner.clone(),
            verbs,
            per_transaction_max,
            expires,
        };
        let changed = self.done(operator, act)?;
        Ok(json!({
            "agent": agent, "account_id": account, "owner": owner, "expires": expires.rfc3339(),
            "entered_by": operator.name, "asserted": operator.asserted, "changed": changed,
        }))
    }

    /// Roles: officer, administrator.
    pub fn grant_revoke(
        &self,
        operator: &OperatorPrincipal,
        agent: &AgentName,
        account: AccountId,
    ) -> Result<Value, Failure> {
        let agent = self.agent_named(agent)?;
        let changed = self.done(operator, Act::RevokeGrant { agent: agent.clone(), account: account.clone() })?;
        Ok(json!({ "agent": agent, "account_id": account, "changed": changed }))
    }

    /// Accounts, grants, merchants, products or transactions, as a list. Any role.
    pub fn list(&self, operator: &OperatorPrincipal, what: Listing) -> Result<Value, Failure> {
        reader(operator)?;
        Ok(json!({ "items": self.store.listing(what)?, "next": null }))
    }

    /// Recomputes the book from its rows: balances, holds, currencies, postings, daily sums, reversals.
    /// `progress` hears now and then how far it is.
    pub fn ledger_check(
        &self,
        operator: &OperatorPrincipal,
        progress: &mut dyn FnMut(Value),
    ) -> Result<Value, Failure> {
        reader(operator)?;
        let check = self.store.check(&mut |at| progress(json!({ "rows": at.rows, "of": at.what })))?;
        let difference = |difference: &Difference| {
            json!({
                "check": difference.rule.name(), "on": difference.subject, "kept": difference.kept,
                "recomputed": difference.recomputed, "transactions": difference.transactions,
            })
        };
        Ok(json!({
            "ok": check.is_ok(), "accounts": check.accounts, "transactions": check.transactions,
            "postings": check.postings, "entries": check.entries, "reversals": check.reversals,
            "counters": check.counters, "currencies": check.currencies,
            "differences": check.differences.iter().map(difference).collect::<Vec<_>>(),
            "differences_found": check.differences_found,
        }))
    }

    /// The agent of this name that the bank issued certificates to.
    pub(super) fn agent_named(&self, name: &AgentName) -> Result<SpiffeId, Failure> {
        let of = CertificatesOf::AgentNamed(name.clone());
        let lines = self.store.certificate_lines(&of, UnixMillis(i64::MIN), None, u32::MAX)?;
        let mut named: Vec<SpiffeId> = lines.iter().filter_map(|line| line.subject.parse().ok()).collect();
        named.sort();
        named.dedup();
        match named.as_slice() {
            [] => Err(refused(Refusal::UnknownAgent)),
            [only] => Ok(only.clone()),
            several => Err(Failure::refused(
                "agent_ambiguous",
                format!("{} agents are named {name}, in different roles", several.len()),
                "revoke the one that is not meant, or enrol it under another name",
            )),
        }
    }

    pub(super) fn operate(&self, operator: &OperatorPrincipal, act: Act) -> Result<Effect, Failure> {
        let stamp = clock::stamp(clock::fresh_request_id());
        let request = stamp.request_id.clone();
        let command = Command { stamp, actor: Actor::Operator(operator.clone()), act };
        let with_request = |failure: Failure| failure.with_request(request.as_str());
        let decision = self.decide(command).map_err(with_request)?;
        decision.outcome.map_err(|refusal| with_request(refused(refusal)))
    }

    pub(super) fn done(&self, operator: &OperatorPrincipal, act: Act) -> Result<bool, Failure> {
        match self.operate(operator, act)? {
            Effect::Done { changed } => Ok(changed),
            Effect::Answer(_)
            | Effect::Approved { .. }
            | Effect::RequiresApproval { .. }
            | Effect::Posted(_)
            | Effect::Submitted(_)
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
            | Effect::Witnessed(_) => Err(unexpected()),
        }
    }
}

pub(super) fn refused(refusal: Refusal) -> Failure {
    Failure::refused(refusal.name(), refusal.message(), refusal.next_step())
}

/// The first `limit` of what was found with one more asked for, and the place of the last when there is more.
pub(super) fn page<T, P>(mut found: Vec<T>, limit: u32, place: impl FnOnce(&T) -> P) -> (Vec<T>, Option<P>) {
    let goes_on = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| goes_on).map(place);
    (found, next)
}

pub(super) fn reader(operator: &OperatorPrincipal) -> Result<(), Failure> {
    if operator.roles.is_empty() { Err(refused(Refusal::OperatorNotPermitted)) } else { Ok(()) }
}

pub(super) fn receipt_word(receipt: Receipt) -> &'static str {
    match receipt {
        Receipt::Signed => "signed",
        Receipt::Pending => "pending",
    }
}

/// Which rules a text breaks, where it was refused for that.
fn with_reasons(failure: Failure, text: &str) -> Failure {
    if failure.name != Refusal::TextHostile.name() {
        return failure;
    }
    let reasons = text::clean(text, Limit::NAME).reasons();
    let message =
        format!("{}: {}", failure.message, if reasons.is_empty() { "nothing of it is seen" } else { &reasons });
    Failure { message, ..failure }
}
