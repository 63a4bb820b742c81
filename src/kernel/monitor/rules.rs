//! How much what weighs, and from where on a score has consequences.

use serde::{Deserialize, Serialize};

use super::risk::ReasonName;

/// How scores are made, besides the numbers below. Another way gives other scores, and so another name of the rules.
pub const METHOD: &[u8] = b"3";

/// The monitor's rules. Other rules give other scores, so their hash stands in every leaf that has a score.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MonitorRules {
    /// From this score on a payment waits for a human, and there is an alert.
    pub approve_at: u16,
    /// From this score on the agent is frozen until two people thaw it.
    pub freeze_at: u16,
    /// Agents and accounts, each, whose history is kept; the one that was not seen for longest is forgotten.
    pub subjects_max: u32,
    /// Nothing is compared with an own history of fewer payments …
    pub warm_payments: u32,
    /// … or of fewer days.
    pub warm_days: u16,
    /// Percent of the points of each reason.
    pub weights: Weights,
}

/// Percent; 0 switches a reason off.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    pub velocity: u16,
    pub day_sum: u16,
    pub amount: u16,
    pub escalation: u16,
    pub new_payee: u16,
    pub new_currency: u16,
    pub unusual_hour: u16,
    pub refusals: u16,
    pub limit_probing: u16,
    pub splitting: u16,
    pub drip: u16,
}

impl Weights {
    pub(super) fn of(&self, name: ReasonName) -> u16 {
        match name {
            ReasonName::Velocity => self.velocity,
            ReasonName::DaySum => self.day_sum,
            ReasonName::Amount => self.amount,
            ReasonName::Escalation => self.escalation,
            ReasonName::NewPayee => self.new_payee,
            ReasonName::NewCurrency => self.new_currency,
            ReasonName::UnusualHour => self.unusual_hour,
            ReasonName::Refusals => self.refusals,
            ReasonName::LimitProbing => self.limit_probing,
            ReasonName::Splitting => self.splitting,
            ReasonName::Drip => self.drip,
        }
    }
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            velocity: 100,
            day_sum: 100,
            amount: 100,
            escalation: 100,
            new_payee: 100,
            new_currency: 100,
            unusual_hour: 100,
            refusals: 100,
            limit_probing: 100,
            splitting: 100,
            drip: 100,
        }
    }
}

impl Default for MonitorRules {
    fn default() -> Self {
        Self {
            approve_at: 475,
            freeze_at: 900,
            subjects_max: 100_000,
            warm_payments: 12,
            warm_days: 3,
            weights: Weights::default(),
        }
    }
}
