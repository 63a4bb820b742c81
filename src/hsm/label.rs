//! Key labels: `<party>-<purpose>[.<name>]-v<N>`.
//!
//! The label carries a key's purpose, so it is parsed strictly: what does not read back to the same text is no
//! key of ours and is never used.

use std::fmt;

use crate::kernel::sign::Purpose;
use crate::kernel::types::{AgentName, PartyName};

/// A label taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyLabel {
    pub party: PartyName,
    pub purpose: Purpose,
    /// The agent's name, or the name of an `external` key: present exactly for keys of these purposes.
    pub agent: Option<AgentName>,
    pub version: u32,
}

impl KeyLabel {
    /// Reads a label; `None` when it is not exactly one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let (stem, version) = text.rsplit_once("-v")?;
        let version = version.parse().ok()?;
        let (head, agent) = match stem.split_once('.') {
            Some((head, agent)) => (head, Some(agent.parse().ok()?)),
            None => (stem, None),
        };
        let (party, purpose) = Purpose::ALL.into_iter().find_map(|purpose| {
            let party = head.strip_suffix(purpose.slug())?.strip_suffix('-')?;
            Some((party.parse().ok()?, purpose))
        })?;
        let label = Self { party, purpose, agent, version };
        let agent_fits = label.agent.is_some() == label.purpose.is_named();
        (agent_fits && version > 0 && label.to_string() == text).then_some(label)
    }

    /// True when both name the same key in different versions.
    pub fn same_stem(&self, other: &Self) -> bool {
        self.party == other.party && self.purpose == other.purpose && self.agent == other.agent
    }
}

impl fmt::Display for KeyLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.party, self.purpose.slug())?;
        if let Some(agent) = &self.agent {
            write!(f, ".{agent}")?;
        }
        write!(f, "-v{}", self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_read_back_to_the_same_text() {
        for purpose in Purpose::ALL {
            for party in ["bank", "agent-host", "root-issuing"] {
                let agent = purpose.is_named().then(|| "shop-v2".parse().unwrap());
                let label = KeyLabel { party: party.parse().unwrap(), purpose, agent, version: 12 };
                assert_eq!(KeyLabel::parse(&label.to_string()), Some(label));
            }
        }
    }

    #[test]
    fn labels_that_are_not_exactly_ours_are_refused() {
        for bad in [
            "",
            "bank",
            "bank-root",
            "bank-root-v",
            "bank-root-v0",
            "bank-root-v01",
            "bank-root-v+1",
            "bank-root-v1 ",
            "bank-root-v4294967296",
            "bank-unknown-v1",
            "-root-v1",
            "root-v1",
            "Bank-root-v1",
            "bank-agent-v1",
            "bank-agent.-v1",
            "bank-agent.a.b-v1",
            "bank-root.shopper-v1",
            "bank-external-v1",
            "bank-external.a.b-v1",
        ] {
            assert_eq!(KeyLabel::parse(bad), None, "{bad}");
        }
    }
}
