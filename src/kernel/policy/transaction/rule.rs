//! A transaction rule as it is written in a policy, and what makes one a mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Amounts, Hours};
use crate::kernel::quorum::GateRule;
use crate::kernel::types::{AccountId, AgentName, Currency, Malformed, MerchantId, RoleName, SpiffeId};

/// The longest window over which payments are counted: 31 days.
pub const WINDOW_S_MAX: u32 = 31 * 86_400;
/// Rules of one policy.
const RULES_MAX: usize = 1_000;
/// Entries of one list of a rule.
const ENTRIES_MAX: usize = 10_000;
const NAME_BYTES_MAX: usize = 63;

/// One rule. What is left out selects everything, or asks nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransactionRule {
    /// Lower-case letters, digits and `-`: what `policy explain` and the audit log say decided.
    pub name: String,

    // Whose payments: a rule fits a payment that all of its selectors name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<BTreeSet<RoleName>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<BTreeSet<AgentSelector>>,
    /// Accounts that pay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounts: Option<BTreeSet<AccountId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<BTreeSet<PaymentKind>>,

    // What is denied
    /// Payments in any other currency are denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currencies: Option<BTreeSet<Currency>>,
    /// Purchases from any other merchant are denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merchants_allowed: Option<BTreeSet<MerchantId>>,
    /// Transfers to any other account are denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payees_allowed: Option<BTreeSet<AccountId>>,
    /// Above it → denied, and no approval lifts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny_above: Option<Amounts>,

    // What asks for a human
    /// A single amount above it → a human decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unattended_per_transaction: Option<Amounts>,
    /// The agent's unattended sum of the day, this payment in it, above it → a human decides. It is the sum that
    /// `[policy] unattended_per_day` counts: over all of the agent's accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unattended_per_day: Option<Amounts>,
    /// Which gates a payment above an amount has to pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<Threshold>,

    // Time
    /// When payments are made, by the paying account's own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Vec<Hours>>,
    /// What becomes of others.
    #[serde(default, skip_serializing_if = "Outcome::is_deny")]
    pub outside_hours: Outcome,
    /// How many and how much in a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub velocity: Vec<Velocity>,

    /// Whether the account's owner must have signed an open mandate that covers the payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mandate: Option<Mandate>,
}

/// An agent: its SPIFFE ID, or its name alone, whatever its role.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AgentSelector {
    Id(SpiffeId),
    Name(AgentName),
}

impl AgentSelector {
    pub fn fits(&self, agent: &SpiffeId) -> bool {
        match self {
            Self::Id(id) => id == agent,
            Self::Name(name) => name == agent.name(),
        }
    }
}

impl FromStr for AgentSelector {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text.contains("://") { text.parse().map(Self::Id) } else { text.parse().map(Self::Name) }
    }
}

impl fmt::Display for AgentSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl Serialize for AgentSelector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AgentSelector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What an agent pays with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentKind {
    Purchase,
    Transfer,
}

impl PaymentKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Purchase => "purchase",
            Self::Transfer => "transfer",
        }
    }
}

/// What becomes of a payment that a rule does not let pass by itself.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    #[default]
    Deny,
    /// A human decides.
    Approval,
}

impl Outcome {
    // Serde asks with a reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_deny(&self) -> bool {
        *self == Self::Deny
    }
}

/// Whether a payment needs an open mandate of the account's owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mandate {
    Required,
    /// One that is there is obeyed, and none is asked for.
    Optional,
}

/// Gates for payments above an amount.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    pub above: Amounts,
    /// [`strictest`](crate::kernel::quorum::strictest) puts together what several thresholds name.
    pub require: Vec<GateRule>,
}

/// At most so many payments, or so much money, in any time of this length.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Velocity {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amounts>,
    /// Seconds.
    pub window_s: u32,
    /// Whose payments are counted together.
    pub of: Subject,
    #[serde(default)]
    pub outcome: Outcome,
}

/// Whose payments a velocity counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The agent's, over all accounts.
    Agent,
    /// Those of the paying account, by whatever agent.
    Account,
}

impl Subject {
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Account => "account",
        }
    }
}

/// The rules of a policy, in their order. Holding it means that none of them is a mistake.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<TransactionRule>", into = "Vec<TransactionRule>")]
pub struct TransactionRules(Vec<TransactionRule>);

/// A rule that says something else than whoever wrote it can have meant.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("transaction rule {rule:?}: {key} {problem}")]
pub struct RuleMistake {
    pub rule: String,
    pub key: String,
    pub problem: String,
}

impl TransactionRules {
    /// # Errors
    /// The first [`RuleMistake`].
    pub fn new(rules: Vec<TransactionRule>) -> Result<Self, RuleMistake> {
        if rules.len() > RULES_MAX {
            return Err(mistake("", "transactions", format!("holds more than {RULES_MAX} rules")));
        }
        let mut names = BTreeSet::new();
        for rule in &rules {
            rule.check()?;
            if !names.insert(rule.name.as_str()) {
                return Err(mistake(&rule.name, "name", "is another rule's, too"));
            }
        }
        Ok(Self(rules))
    }

    pub fn iter(&self) -> impl Iterator<Item = &TransactionRule> {
        self.0.iter()
    }

    /// These and more: all of them apply. Rules of one name in both are counted together, which is never too little.
    #[must_use]
    pub fn and(&self, more: &Self) -> Self {
        Self(self.0.iter().chain(&more.0).cloned().collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Vec<TransactionRule>> for TransactionRules {
    type Error = RuleMistake;

    fn try_from(rules: Vec<TransactionRule>) -> Result<Self, RuleMistake> {
        Self::new(rules)
    }
}

impl From<TransactionRules> for Vec<TransactionRule> {
    fn from(rules: TransactionRules) -> Self {
        rules.0
    }
}

fn mistake(rule: &str, key: &str, problem: impl Into<String>) -> RuleMistake {
    RuleMistake { rule: rule.to_owned(), key: key.to_owned(), problem: problem.into() }
}

impl TransactionRule {
    /// # Errors
    /// The first [`RuleMistake`].
    pub fn check(&self) -> Result<(), RuleMistake> {
        let wrong = |key: &str, problem: String| Err(mistake(&self.name, key, problem));
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX || !self.name.bytes().all(is_name) {
            let problem = format!("must be 1 to {NAME_BYTES_MAX} lower-case letters, digits or '-'");
            return wrong("name", problem);
        }
        let lists = [
            ("roles", self.roles.as_ref().map(BTreeSet::len)),
            ("agents", self.agents.as_ref().map(BTreeSet::len)),
            ("accounts", self.accounts.as_ref().map(BTreeSet::len)),
            ("kinds", self.kinds.as_ref().map(BTreeSet::len)),
            ("currencies", self.currencies.as_ref().map(BTreeSet::len)),
            ("hours", self.hours.as_ref().map(Vec::len)),
        ];
        for (key, len) in lists {
            if len == Some(0) {
                return wrong(key, "is an empty list: leave it out for all".into());
            }
        }
        let long = [
            ("agents", self.agents.as_ref().map_or(0, BTreeSet::len)),
            ("accounts", self.accounts.as_ref().map_or(0, BTreeSet::len)),
            ("merchants_allowed", self.merchants_allowed.as_ref().map_or(0, BTreeSet::len)),
            ("payees_allowed", self.payees_allowed.as_ref().map_or(0, BTreeSet::len)),
        ];
        if let Some((key, _)) = long.into_iter().find(|(_, len)| *len > ENTRIES_MAX) {
            return wrong(key, format!("has more than {ENTRIES_MAX} entries"));
        }
        if self.hours.is_none() && self.outside_hours == Outcome::Approval {
            return wrong("outside_hours", "says nothing without hours".into());
        }
        for hours in self.hours.iter().flatten() {
            if let Err(problem) = hours.check() {
                return wrong("hours", problem.into());
            }
        }
        let kinds = |kind| self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind));
        if self.merchants_allowed.is_some() && !kinds(PaymentKind::Purchase) {
            return wrong("merchants_allowed", "says nothing about transfers; see payees_allowed".into());
        }
        if self.payees_allowed.is_some() && !kinds(PaymentKind::Transfer) {
            return wrong("payees_allowed", "says nothing about purchases; see merchants_allowed".into());
        }
        self.check_thresholds()?;
        self.check_velocity()
    }

    fn check_thresholds(&self) -> Result<(), RuleMistake> {
        let wrong = |problem: &str| Err(mistake(&self.name, "thresholds", problem));
        for threshold in &self.thresholds {
            if threshold.require.is_empty() {
                return wrong("need at least one gate in require");
            }
            if let Some(unusable) = threshold.require.iter().find_map(|gate| gate.check().err()) {
                return wrong(&unusable.to_string());
            }
        }
        Ok(())
    }

    fn check_velocity(&self) -> Result<(), RuleMistake> {
        let wrong = |problem: &str| Err(mistake(&self.name, "velocity", problem));
        let mut seen = BTreeMap::new();
        for velocity in &self.velocity {
            if velocity.count.is_none() && velocity.amount.is_none() {
                return wrong("needs count, amount or both");
            }
            if velocity.count == Some(0) {
                return wrong("count must be at least 1");
            }
            if velocity.amount.as_ref().is_some_and(Amounts::has_zero) {
                return wrong("amount must be greater than zero");
            }
            if !(1..=WINDOW_S_MAX).contains(&velocity.window_s) {
                return wrong(&format!("window_s must be 1 to {WINDOW_S_MAX}"));
            }
            if seen.insert((velocity.of, velocity.window_s, velocity.outcome == Outcome::Deny), ()).is_some() {
                return wrong("has the same of, window_s and outcome twice");
            }
        }
        Ok(())
    }
}
