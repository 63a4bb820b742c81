//! What is revoked, how fresh each party's word is, and how sure we are of a key's custody.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::kernel::mandate::Signer;
use crate::kernel::types::{KeyId, Serial, SpiffeId, UnixMillis};

/// Evidence for where an agent's key lives. The custody of a pair is the lower of its two halves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CustodyLevel {
    /// The agent host's enrolled identity key says so.
    CustodyStated,
    /// A worker of the issuing party read the attributes in a token that it operates itself.
    CustodyObserved,
}

/// What is revoked and how fresh the other party's word is: read at start and after each change.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StatusSnapshot {
    pub agents: BTreeSet<SpiffeId>,
    pub keys: BTreeSet<KeyId>,
    /// (issuer's subject key identifier in hexadecimal, serial number)
    pub certificates: BTreeSet<(String, Serial)>,
    /// Issuing CAs by subject key identifier, hexadecimal: nothing under them stands.
    pub issuers: BTreeSet<String>,
    /// Every agent is revoked.
    pub everyone: bool,
    pub frozen: BTreeSet<SpiffeId>,
    /// Every agent is frozen.
    pub everyone_frozen: bool,
    /// Imported CRLs by issuer.
    pub crls: BTreeMap<String, CrlStatus>,
}

impl StatusSnapshot {
    /// The agent itself, not its key or certificates.
    pub fn revokes(&self, agent: &SpiffeId) -> bool {
        self.everyone || self.agents.contains(agent)
    }

    /// What this person signed counts no more: as `decide::marks_of_signer` has it.
    pub fn revokes_signer(&self, signer: &Signer) -> bool {
        let by_certificate = |certificate: &(String, Serial)| {
            self.issuers.contains(&certificate.0) || self.certificates.contains(certificate)
        };
        self.keys.contains(&signer.key) || signer.certificate.as_ref().is_some_and(by_certificate)
    }

    pub fn freezes(&self, agent: &SpiffeId) -> bool {
        self.everyone_frozen || self.frozen.contains(agent)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CrlStatus {
    pub number: u64,
    pub this_update: UnixMillis,
    pub next_update: UnixMillis,
}
