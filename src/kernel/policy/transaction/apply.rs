//! The rules that fit one payment, and what each question comes to among them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::hours::LocalTime;
use super::pace::{Pace, PaceKey};
use super::rule::{AgentSelector, Mandate, Outcome, PaymentKind, Subject, TransactionRule, TransactionRules, Velocity};
use crate::kernel::policy::SoftLimit;
use crate::kernel::quorum::GateRule;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{MerchantId, Money, SpiffeId, UnixMillis};

/// One payment, in the terms that rules speak of.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub agent: &'a SpiffeId,
    /// The account that pays.
    pub account: &'a str,
    pub kind: PaymentKind,
    pub amount: Money,
}

/// Which rule decided what: goes into the leaf, and is what `policy explain` shows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Why {
    /// The refusal's name, or the reason's for which a human is asked.
    pub name: &'static str,
    /// The transaction rule; none: `[policy]` of countersign.toml.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Of `merchant_looks_alike`: the merchant that was imitated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imitates: Option<MerchantId>,
}

/// A rule's no.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denied {
    pub refusal: Refusal,
    pub why: Why,
}

impl Denied {
    /// A no of the bank's settings.
    pub fn of(refusal: Refusal) -> Self {
        Self { refusal, why: Why { name: refusal.name(), rule: None, imitates: None } }
    }

    fn by(rule: &TransactionRule, refusal: Refusal) -> Self {
        Self { refusal, why: Why { name: refusal.name(), rule: Some(rule.name.clone()), imitates: None } }
    }
}

/// A rule's wish that a human decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reached {
    pub limit: SoftLimit,
    pub rule: String,
}

impl Reached {
    fn by(rule: &TransactionRule, limit: SoftLimit) -> Self {
        Self { limit, rule: rule.name.clone() }
    }

    pub fn why(&self) -> Why {
        Why { name: self.limit.name(), rule: Some(self.rule.clone()), imitates: None }
    }
}

/// The rules whose selectors fit a payment, in the policy's order.
#[derive(Clone, Debug)]
pub struct Applied<'r> {
    rules: Vec<&'r TransactionRule>,
}

impl TransactionRule {
    /// Whether all selectors name this payment.
    pub fn fits(&self, asked: &Asked<'_>) -> bool {
        self.may_fit(asked.agent, asked.kind)
            && self.accounts.as_ref().is_none_or(|named| named.iter().any(|one| one.as_str() == asked.account))
    }

    /// Whether the selectors name payments of this kind by this agent, from whatever account.
    pub fn may_fit(&self, agent: &SpiffeId, kind: PaymentKind) -> bool {
        self.roles.as_ref().is_none_or(|roles| roles.contains(agent.role()))
            && self.agents.as_ref().is_none_or(|agents| agents.iter().any(|one: &AgentSelector| one.fits(agent)))
            && self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    }

    /// The counts that this payment belongs to, each with how much it adds.
    fn counts<'a>(&'a self, asked: &'a Asked<'_>) -> impl Iterator<Item = (PaceKey, i64)> + 'a {
        self.velocity.iter().flat_map(move |velocity| self.counts_of(velocity, asked))
    }

    fn counts_of(&self, velocity: &Velocity, asked: &Asked<'_>) -> Vec<(PaceKey, i64)> {
        let who = match velocity.of {
            Subject::Agent => asked.agent.to_string(),
            Subject::Account => asked.account.to_owned(),
        };
        let currency = asked.amount.currency();
        let key = |amount_in| PaceKey::new(self, velocity.window_s, velocity.of, amount_in, &who);
        let of_payments = velocity.count.map(|_| (key(None), 1));
        let of_money = velocity.amount.as_ref().map(|_| (key(Some(currency)), asked.amount.minor()));
        of_payments.into_iter().chain(of_money).collect()
    }
}

impl TransactionRules {
    /// The counts that a payment will probably belong to; where its account is not known yet, those of its agent.
    pub fn paces_ahead(
        &self,
        agent: &SpiffeId,
        account: Option<&str>,
        kind: PaymentKind,
        amount: Money,
    ) -> Vec<PaceKey> {
        let asked = Asked { agent, account: account.unwrap_or_default(), kind, amount };
        if account.is_some() {
            return Applied::of(self, &asked).paces(&asked).into_keys().collect();
        }
        let of_agent = |velocity: &&Velocity| velocity.of == Subject::Agent;
        let fitting = self.iter().filter(|rule| rule.may_fit(agent, kind));
        let keys = fitting.flat_map(|rule| {
            let counted = rule.velocity.iter().filter(of_agent);
            counted.flat_map(|velocity| rule.counts_of(velocity, &asked)).map(|(key, _)| key).collect::<Vec<_>>()
        });
        keys.collect()
    }
}

impl<'r> Applied<'r> {
    pub fn of(rules: &'r TransactionRules, asked: &Asked<'_>) -> Self {
        Self { rules: rules.iter().filter(|rule| rule.fits(asked)).collect() }
    }

    /// The names of the rules that apply.
    pub fn names(&self) -> impl Iterator<Item = &'r str> {
        self.rules.iter().map(|rule| rule.name.as_str())
    }

    /// Hours, then currencies.
    ///
    /// # Errors
    /// `outside_hours`, `currency_not_allowed`
    pub fn admit(&self, amount: Money, at: LocalTime) -> Result<(), Denied> {
        let elsewhere =
            |rule: &TransactionRule| rule.currencies.as_ref().is_some_and(|some| !some.contains(&amount.currency()));
        self.none(|rule| rule.outside_hours == Outcome::Deny && is_outside(rule, at), Refusal::OutsideHours)?;
        self.none(elsewhere, Refusal::CurrencyNotAllowed)
    }

    /// # Errors
    /// `unauthorized_merchant`
    pub fn merchant(&self, merchant: &MerchantId) -> Result<(), Denied> {
        let elsewhere =
            |rule: &TransactionRule| rule.merchants_allowed.as_ref().is_some_and(|some| !some.contains(merchant));
        self.none(elsewhere, Refusal::UnauthorizedMerchant)
    }

    /// `payee`: the account that a transfer pays.
    ///
    /// # Errors
    /// `payee_not_allowed`
    pub fn payee(&self, payee: &str) -> Result<(), Denied> {
        let elsewhere = |rule: &TransactionRule| {
            rule.payees_allowed.as_ref().is_some_and(|some| !some.iter().any(|one| one.as_str() == payee))
        };
        self.none(elsewhere, Refusal::PayeeNotAllowed)
    }

    /// # Errors
    /// `above_hard_ceiling`; a ceiling without this currency cannot be compared: `currency_not_allowed`.
    pub fn ceilings(&self, amount: Money) -> Result<(), Denied> {
        for rule in &self.rules {
            if let Some(ceiling) = &rule.deny_above
                && ceiling.is_exceeded(Some(amount.minor()), amount.currency())
            {
                let comparable = ceiling.of(amount.currency()).is_some();
                let refusal = if comparable { Refusal::AboveHardCeiling } else { Refusal::CurrencyNotAllowed };
                return Err(Denied::by(rule, refusal));
            }
        }
        Ok(())
    }

    /// What this payment is counted in, and how much it adds: each once.
    pub fn paces(&self, asked: &Asked<'_>) -> BTreeMap<PaceKey, i64> {
        self.rules.iter().flat_map(|rule| rule.counts(asked)).collect()
    }

    /// Velocities with this payment in them. `paces`: all of [`Applied::paces`], as they are without it.
    ///
    /// # Errors
    /// `velocity_exceeded`; what only asks for a human is answered.
    pub fn velocity(
        &self,
        asked: &Asked<'_>,
        paces: &BTreeMap<PaceKey, Pace>,
        now: UnixMillis,
    ) -> Result<Vec<Reached>, Denied> {
        let mut reached = vec![];
        for rule in &self.rules {
            for velocity in &rule.velocity {
                if !is_too_fast(rule, velocity, asked, paces, now) {
                    continue;
                }
                match velocity.outcome {
                    Outcome::Deny => return Err(Denied::by(rule, Refusal::VelocityExceeded)),
                    Outcome::Approval => reached.push(Reached::by(rule, SoftLimit::Velocity)),
                }
            }
        }
        Ok(reached)
    }

    /// What asks for a human, besides velocities. `spent_minor`: the agent's unattended sum of the day.
    pub fn soft(&self, amount: Money, spent_minor: i64, at: LocalTime) -> Vec<Reached> {
        let currency = amount.currency();
        let mut reached = vec![];
        for rule in &self.rules {
            let mut when = |is_reached: bool, limit| {
                if is_reached {
                    reached.push(Reached::by(rule, limit));
                }
            };
            let alone = |limit: &super::Amounts| limit.is_exceeded(Some(amount.minor()), currency);
            when(rule.unattended_per_transaction.as_ref().is_some_and(alone), SoftLimit::PerTransaction);
            let of_day = spent_minor.checked_add(amount.minor());
            let with_day = |limit: &super::Amounts| limit.is_exceeded(of_day, currency);
            when(rule.unattended_per_day.as_ref().is_some_and(with_day), SoftLimit::PerDay);
            when(rule.outside_hours == Outcome::Approval && is_outside(rule, at), SoftLimit::OutsideHours);
            when(rule.thresholds.iter().any(|threshold| alone(&threshold.above)), SoftLimit::Threshold);
        }
        reached
    }

    /// The gates of every threshold that this amount is above, each once, in the policy's order.
    pub fn gates(&self, amount: Money) -> Vec<GateRule> {
        let mut gates: Vec<GateRule> = vec![];
        for threshold in self.rules.iter().flat_map(|rule| &rule.thresholds) {
            if !threshold.above.is_exceeded(Some(amount.minor()), amount.currency()) {
                continue;
            }
            for gate in &threshold.require {
                if !gates.contains(gate) {
                    gates.push(gate.clone());
                }
            }
        }
        gates
    }

    /// The first rule that wants a mandate of the account's owner.
    pub fn mandate_required(&self) -> Option<&'r TransactionRule> {
        self.rules.iter().find(|rule| rule.mandate == Some(Mandate::Required)).copied()
    }

    fn none(&self, is_broken: impl Fn(&TransactionRule) -> bool, refusal: Refusal) -> Result<(), Denied> {
        match self.rules.iter().find(|rule| is_broken(rule)) {
            Some(rule) => Err(Denied::by(rule, refusal)),
            None => Ok(()),
        }
    }
}

fn is_outside(rule: &TransactionRule, at: LocalTime) -> bool {
    rule.hours.as_ref().is_some_and(|hours| !hours.iter().any(|window| window.contain(at)))
}

fn is_too_fast(
    rule: &TransactionRule,
    velocity: &Velocity,
    asked: &Asked<'_>,
    paces: &BTreeMap<PaceKey, Pace>,
    now: UnixMillis,
) -> bool {
    let currency = asked.amount.currency();
    rule.counts_of(velocity, asked).into_iter().any(|(key, more)| {
        let before = paces.get(&key).map_or(i64::MAX, |pace| pace.within(&key, now));
        let with_this = before.checked_add(more);
        if key.counts_payments() {
            with_this.is_none_or(|sum| velocity.count.is_some_and(|count| sum > i64::from(count)))
        } else {
            velocity.amount.as_ref().is_some_and(|limit| limit.is_exceeded(with_this, currency))
        }
    })
}
