//! The circuit breaker: why agents' payments are stopped, and who may let them go on.
//!
//! Each cause stands for itself: while one does, no money moves. What a person stopped a person lets go on; what a daemon
//! stopped is lifted by its probes or by a person, and no daemon lifts what it did not see. `docs/BREAKER.md`.

use serde::{Deserialize, Serialize};

use crate::kernel::types::UnixMillis;

/// The part of the daemon that opens and lifts automatic causes, as its commands name it.
pub const COMPONENT: &str = "breaker";

/// Why payments are stopped. In the order in which they are told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A person stopped the bank.
    Operator,
    /// Many agents at once behave as they should not.
    Anomalies,
    /// This node's token does not answer.
    HsmDown,
    /// Commits of this node take too long, or fail.
    StoreSlow,
    /// The core banking system does not answer this node.
    CoreFailing,
    /// The audit log is without cosignatures for too long, or the witness has seen what this store has not.
    WitnessLag,
    /// The disk of this node is down to what is reserved.
    DiskLow,
}

impl Cause {
    pub const ALL: [Self; 7] = [
        Self::Operator,
        Self::Anomalies,
        Self::HsmDown,
        Self::StoreSlow,
        Self::CoreFailing,
        Self::WitnessLag,
        Self::DiskLow,
    ];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Anomalies => "anomalies",
            Self::HsmDown => "hsm_down",
            Self::StoreSlow => "store_slow",
            Self::CoreFailing => "core_failing",
            Self::WitnessLag => "witness_lag",
            Self::DiskLow => "disk_low",
        }
    }

    /// Whom it stops. What a node measures of its own way to something says nothing about the other nodes' ways; what
    /// is known of people and agents is true everywhere.
    pub fn reach(self) -> Reach {
        match self {
            Self::Operator | Self::Anomalies => Reach::Bank,
            Self::HsmDown | Self::StoreSlow | Self::CoreFailing | Self::WitnessLag | Self::DiskLow => Reach::Node,
        }
    }

    /// What the bank's people do about it.
    pub fn next_step(self) -> &'static str {
        match self {
            Self::Operator => "countersign bank resume, once the reason is gone",
            Self::Anomalies => "look at the agents and freeze what has to be; it is lifted when they are quiet",
            Self::HsmDown => "countersign doctor; bring the token back, it is lifted by itself",
            Self::StoreSlow => "look at the disk or the database server; it is lifted when commits are fast again",
            Self::CoreFailing => "look at the core banking system; it is lifted when the core answers again",
            Self::WitnessLag => {
                "countersign witness status; it is lifted when the security company's daemon cosigns again"
            }
            Self::DiskLow => "make room on the disk of the state directory; it is lifted when there is enough again",
        }
    }
}

impl std::str::FromStr for Cause {
    type Err = crate::kernel::types::Malformed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|cause| cause.name() == text).ok_or(crate::kernel::types::Malformed {
            what: "a cause",
            expected: "operator, anomalies, hsm_down, store_slow, core_failing, witness_lag or disk_low",
        })
    }
}

/// Whom a cause stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Every node: it is a row of the store.
    Bank,
    /// One node alone: it is that node's knowledge, and only its leaf is in the store.
    Node,
}

/// A cause that stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stop {
    pub cause: Cause,
    /// In words, for people.
    pub reason: String,
    /// An operator's name, or `system:breaker`.
    pub by: String,
    pub since: UnixMillis,
}

/// The causes that stand, each once, in their order. Default: none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Breaker(Vec<Stop>);

impl Breaker {
    pub fn of(mut stops: Vec<Stop>) -> Self {
        stops.sort_by_key(|stop| stop.cause);
        stops.dedup_by_key(|stop| stop.cause);
        Self(stops)
    }

    pub fn stops(&self) -> &[Stop] {
        &self.0
    }

    pub fn stop(&self, cause: Cause) -> Option<&Stop> {
        self.0.iter().find(|stop| stop.cause == cause)
    }

    pub fn is_closed(&self) -> bool {
        self.0.is_empty()
    }

    /// With this cause as well; one that stands already stays as it is.
    pub fn with(&self, stop: Stop) -> Self {
        Self::of(self.0.iter().cloned().chain([stop]).collect())
    }

    pub fn without(&self, cause: Cause) -> Self {
        Self(self.0.iter().filter(|stop| stop.cause != cause).cloned().collect())
    }

    /// Why no payment is made, in words. None: payments are made.
    pub fn reason(&self) -> Option<String> {
        joined(self.0.iter().map(|stop| stop.reason.as_str()))
    }
}

/// Several reasons as one text.
pub fn joined<'a>(reasons: impl Iterator<Item = &'a str>) -> Option<String> {
    let reasons: Vec<&str> = reasons.collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// The breaker as a whole, derived from its causes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Money moves.
    Closed,
    Open,
    /// Every cause that stands is one whose probes succeed: money moves soon.
    Probing,
}

impl BreakerState {
    /// Of the causes that stand, each with whether its probes succeed.
    pub fn of(standing: impl IntoIterator<Item = bool>) -> Self {
        let mut state = Self::Closed;
        for recovers in standing {
            state = match (state, recovers) {
                (Self::Closed | Self::Probing, true) => Self::Probing,
                (Self::Open, _) | (_, false) => Self::Open,
            };
        }
        state
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Probing => "probing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(cause: Cause, by: &str) -> Stop {
        Stop { cause, reason: format!("{} {by}", cause.name()), by: by.into(), since: UnixMillis(1) }
    }

    #[test]
    fn causes_stand_each_for_itself_and_in_their_order() {
        let both = Breaker::default().with(stop(Cause::Anomalies, "a")).with(stop(Cause::Operator, "b"));
        assert_eq!(both.reason().as_deref(), Some("operator b; anomalies a"));
        assert_eq!(both.with(stop(Cause::Operator, "c")), both, "the first word stays");
        let rest = both.without(Cause::Operator);
        assert!(!rest.is_closed() && rest.stop(Cause::Operator).is_none());
        assert!(rest.without(Cause::Anomalies).is_closed());
        assert_eq!(Breaker::default().reason(), None);
    }

    #[test]
    fn it_is_closed_only_without_causes_and_probing_only_when_all_recover() {
        for (standing, state) in [
            (vec![], BreakerState::Closed),
            (vec![false], BreakerState::Open),
            (vec![true], BreakerState::Probing),
            (vec![true, false], BreakerState::Open),
            (vec![false, true], BreakerState::Open),
            (vec![true, true], BreakerState::Probing),
        ] {
            assert_eq!(BreakerState::of(standing.clone()), state, "{standing:?}");
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for cause in Cause::ALL {
            assert_eq!(cause.name().parse::<Cause>().ok(), Some(cause));
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.name());
        }
        assert!("everything".parse::<Cause>().is_err());
    }
}
