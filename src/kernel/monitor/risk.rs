//! A score and why: every point of it belongs to a reason with the numbers that made it.

use serde::{Deserialize, Serialize};

/// The most a score can be.
pub const SCORE_MAX: u16 = 1_000;

/// What speaks against a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonName {
    Velocity,
    DaySum,
    Amount,
    Escalation,
    NewPayee,
    NewCurrency,
    UnusualHour,
    Refusals,
    LimitProbing,
    Splitting,
    Drip,
}

impl ReasonName {
    pub const ALL: [Self; 11] = [
        Self::Velocity,
        Self::DaySum,
        Self::Amount,
        Self::Escalation,
        Self::NewPayee,
        Self::NewCurrency,
        Self::UnusualHour,
        Self::Refusals,
        Self::LimitProbing,
        Self::Splitting,
        Self::Drip,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Velocity => "velocity",
            Self::DaySum => "day_sum",
            Self::Amount => "amount",
            Self::Escalation => "escalation",
            Self::NewPayee => "new_payee",
            Self::NewCurrency => "new_currency",
            Self::UnusualHour => "unusual_hour",
            Self::Refusals => "refusals",
            Self::LimitProbing => "limit_probing",
            Self::Splitting => "splitting",
            Self::Drip => "drip",
        }
    }
}

/// One reason of a score.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reason {
    pub name: ReasonName,
    pub points: u16,
    /// What was seen, in the unit that [`Reason::said`] names; as text, like all numbers of a leaf.
    #[serde(with = "super::text")]
    pub seen: u64,
    /// What would have been usual, in the same unit.
    #[serde(with = "super::text")]
    pub usual: u64,
}

impl Reason {
    /// The reason in words, with its numbers.
    pub fn said(&self) -> String {
        let Self { seen, usual, .. } = self;
        match self.name {
            ReasonName::Velocity => format!("{seen} payments in a short time; {usual} would be usual at most"),
            ReasonName::DaySum => format!("{seen} minor units in about a day; {usual} would be usual at most"),
            ReasonName::Amount => format!("an amount of {seen} minor units; its own payments end at about {usual}"),
            ReasonName::Escalation => format!("its {seen} last records came one after the other; {usual} is usual"),
            ReasonName::NewPayee => format!("{seen} payments to new payees in about a day; {usual} is usual"),
            ReasonName::NewCurrency => format!("a currency it never paid in; it has paid in {usual}"),
            ReasonName::UnusualHour => {
                format!("{seen} payments at hours (UTC) in which only {usual} in a thousand of its own are")
            }
            ReasonName::Refusals => format!("{seen} forbidden calls within minutes; {usual} can be a mistake"),
            ReasonName::LimitProbing => format!("{seen} tries above or just below a limit; {usual} can be chance"),
            ReasonName::Splitting => {
                format!("{seen} minor units to one payee in about a day, in parts below the limit; {usual} is usual")
            }
            ReasonName::Drip => format!("{seen} payments in a week to a payee that is new; {usual} is usual"),
        }
    }
}

/// How a call looks beside what is known of its agent and account.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Risk {
    /// 0 to [`SCORE_MAX`]: the sum of the points.
    pub score: u16,
    pub reasons: Vec<Reason>,
    /// What the agent would have alone, where its account raised the score to one with consequences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<u16>,
}
