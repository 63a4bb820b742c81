//! A risk as it is decided on and written down: with everything that it takes to make it again from the log.

use serde::{Deserialize, Serialize};

use super::event::Ahead;
use super::risk::{Reason, ReasonName, Risk};
use super::rules::MonitorRules;

/// Whether a score has consequences.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing is scored.
    Off,
    /// Scored, recorded and alerted; nothing is held or frozen.
    Observe,
    #[default]
    Enforce,
}

/// What a score asks for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consequence {
    Allow,
    /// A human looks first.
    Approval,
    /// The agent is frozen until two people thaw it.
    Freeze,
}

/// The monitor's word on one call. It comes with the command, and stands in the leaf of its decision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assessment {
    // In the order of the canonical form.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub ahead: Ahead,
    /// What the score asks for, enforced or not.
    pub asks: Consequence,
    /// The log as it was seen: from this leaf on …
    #[serde(with = "super::text")]
    pub from: u64,
    /// What a single payment may be without a human, minor units.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "super::text::option")]
    pub limit_minor: Option<i64>,
    pub mode: Mode,
    /// The agent's own score, where its account raised it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// Names the monitor's rules: the start of their SHA-256.
    pub rules: String,
    pub score: u16,
    /// … up to this one, which is not in it.
    #[serde(with = "super::text")]
    pub seen: u64,
}

impl Assessment {
    /// Whether a human has to look before money moves.
    pub fn holds(&self) -> bool {
        self.mode == Mode::Enforce && self.asks >= Consequence::Approval
    }

    /// Whether the agent is refused and to be frozen.
    pub fn freezes(&self) -> bool {
        self.mode == Mode::Enforce && self.asks == Consequence::Freeze
    }

    /// Whether it speaks of an attack by this agent: enough points of its own that are not for calls which were refused.
    /// An agent that goes on asking for what was taken from it does no harm, and many do when a grant or a rule ends.
    pub fn is_anomaly(&self, rules: &MonitorRules) -> bool {
        let of_refusals = |reason: &&Reason| reason.name == ReasonName::Refusals;
        let refusals = self.reasons.iter().filter(of_refusals).map(|reason| reason.points).sum::<u16>();
        let own = self.own.unwrap_or(self.score);
        own.min(self.score).saturating_sub(refusals) >= rules.approve_at
    }

    /// The score and its reasons alone.
    pub fn risk(&self) -> Risk {
        Risk { score: self.score, reasons: self.reasons.clone(), own: self.own }
    }
}

impl MonitorRules {
    /// What a score asks for.
    pub fn asks(&self, score: u16) -> Consequence {
        if score >= self.freeze_at {
            Consequence::Freeze
        } else if score >= self.approve_at {
            Consequence::Approval
        } else {
            Consequence::Allow
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_nothing(ahead: &Ahead) -> bool {
    *ahead == Ahead::default()
}
