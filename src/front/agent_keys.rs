//! An agent host's keys, for its bridges: so many signatures a second for each agent, and a count of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::front::agent_socket::AgentKeys;
use crate::front::allowance::Allowances;
use crate::front::services::Services;
use crate::front::settings::{AgentSettings, PeerLimitSettings};
use crate::hsm::CertifiedKey;
use crate::kernel::httpsig::{Components, Parameters, SignatureHeaders};
use crate::kernel::sign::{Algorithm, SignInput};
use crate::kernel::types::{AgentName, KeyId};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::tls;

/// What each agent has had signed since the daemon started, and may have signed now.
pub struct AgentSignatures {
    settings: AgentSettings,
    allowances: Arc<Allowances>,
    /// Of agents that have certificates here. The lock guards the map only.
    of: Mutex<BTreeMap<AgentName, SignatureCount>>,
}

/// One agent's signatures since the daemon started.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SignatureCount {
    pub made: u64,
    /// Because there were too many at once.
    pub refused: u64,
}

impl AgentSignatures {
    pub fn new(settings: AgentSettings) -> Self {
        let limits = PeerLimitSettings {
            connections_of_one_max: 0,
            requests_per_second: settings.signatures_per_second,
            requests_burst: settings.signatures_burst,
        };
        Self { settings, allowances: Allowances::new(limits), of: Mutex::default() }
    }

    /// Each agent that has asked.
    pub fn counts(&self) -> BTreeMap<AgentName, SignatureCount> {
        self.of().clone()
    }

    fn of(&self) -> MutexGuard<'_, BTreeMap<AgentName, SignatureCount>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more signature with the key of an agent that is at home here.
    fn admit(&self, agent: &AgentName) -> Result<(), Failure> {
        if self.allowances.request(agent.as_str(), clock::boot_ms()) {
            return Ok(());
        }
        self.of().entry(agent.clone()).or_default().refused += 1;
        let AgentSettings { signatures_per_second, signatures_burst } = self.settings;
        Err(Failure::busy(
            "signing_rate_exceeded",
            format!(
                "{agent} asks for more than {signatures_per_second} signatures a second ({signatures_burst} at once)"
            ),
            "try again in a second; if its work needs more, raise [agents] signatures_per_second at the agent host",
        ))
    }

    fn made(&self, agent: &AgentName) {
        self.of().entry(agent.clone()).or_default().made += 1;
    }
}

/// The keys behind the agent socket.
#[derive(Debug)]
pub struct AgentKeysGate {
    services: Arc<Services>,
    /// Keys of the agents that were asked for: a bridge asks for the identity once a connection, for a signature each
    /// call. The lock guards the map only.
    known: Mutex<BTreeMap<AgentName, (KeyId, Algorithm)>>,
}

impl AgentKeysGate {
    pub fn new(services: Arc<Services>) -> Self {
        Self { services, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<AgentName, (KeyId, Algorithm)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AgentKeys for AgentKeysGate {
    fn identity(&self, agent: &AgentName) -> Result<CertifiedKey, Failure> {
        let identity = self.services.setup.authority.agent_identity(agent)?;
        self.known().insert(agent.clone(), (identity.key.id, identity.key.algorithm));
        Ok(identity)
    }

    fn sign_tls(&self, agent: &AgentName, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let identity = self.identity(agent)?;
        let signatures = &self.services.signatures;
        signatures.admit(agent)?;
        let input = SignInput::from_tls_message(message).ok_or_else(|| {
            Failure::refused(
                "not_a_tls_message",
                "only a TLS 1.3 handshake is signed here",
                "use `countersign connect`",
            )
        })?;
        let signature = self.services.token().sign(identity.key.id, input)?;
        signatures.made(agent);
        Ok(signature)
    }

    fn sign_request(
        &self,
        agent: &AgentName,
        components: &Components,
        parameters: &Parameters,
    ) -> Result<SignatureHeaders, Failure> {
        let known = self.known().get(agent).copied();
        let (key, algorithm) = match known {
            Some(known) => known,
            None => self.identity(agent).map(|identity| (identity.key.id, identity.key.algorithm))?,
        };
        let signatures = &self.services.signatures;
        signatures.admit(agent)?;
        let signed = tls::agent::sign_request(&self.services.token(), (key, algorithm), components, parameters);
        match signed {
            Ok(_) => signatures.made(agent),
            // Retired, most likely: the next call asks which key it is now.
            Err(_) => drop(self.known().remove(agent)),
        }
        signed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_asks_for_too_many_signatures_is_refused_and_no_other_is() {
        let signatures = AgentSignatures::new(AgentSettings { signatures_per_second: 1, signatures_burst: 2 });
        let [greedy, modest]: [AgentName; 2] = ["greedy", "modest"].map(|name| name.parse().unwrap());
        signatures.admit(&greedy).unwrap();
        signatures.admit(&greedy).unwrap();
        // A second may pass on a slow machine; not as many as these.
        let refused = (0..1_000).find_map(|_| signatures.admit(&greedy).err()).unwrap();
        assert_eq!((refused.name.as_str(), refused.retry), ("signing_rate_exceeded", true));
        signatures.admit(&modest).unwrap();
        signatures.made(&modest);
        let counts = signatures.counts();
        assert_eq!(counts[&greedy], SignatureCount { made: 0, refused: 1 });
        assert_eq!(counts[&modest], SignatureCount { made: 1, refused: 0 });
    }
}
