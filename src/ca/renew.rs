//! Renewal at the agent host: fresh certificates over the same key, asked for over the agent's own connection.
//!
//! Nothing is kept of an attempt that was cut off: each step is found done by whoever is asked again.

use http::Method;
use serde_json::{Value, json};

use crate::ca::authority::{ADMINISTRATOR, Authority, OFFICER};
use crate::ca::files;
use crate::ca::settings::PartyKind;
use crate::hsm::CertifiedKey;
use crate::kernel::command::Actor;
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::profile::Profile;
use crate::kernel::types::{AgentName, SpiffeId, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;

/// One pair that was due, and how its renewal ended.
#[derive(Debug)]
pub struct Renewal {
    pub agent: AgentName,
    pub outcome: Result<Value, Failure>,
}

impl Authority {
    /// Renews an installed pair now: same key, same name, same role.
    ///
    /// Answers as [`Self::cert_install`].
    ///
    /// # Errors
    /// `operator_not_permitted`, `not_this_party`, `agent_not_installed`, `peer_not_configured`, `peer_unreachable`,
    /// the bank's and the security company's refusals, `approval_missing` when an officer has to look at the agent again.
    pub fn cert_renew(&self, actor: &Actor, name: &AgentName) -> Result<Value, Failure> {
        self.recorded(actor, "cert_renew", &json!({ "name": name }), || {
            self.permit(actor, &[ADMINISTRATOR, OFFICER])?;
            self.only_for(&[PartyKind::AgentHost])?;
            let identity = self.agent_identity(name)?;
            let (agent, _, _) = installed(&identity.chain[0], self)?;
            let root = self.issuer_anchors(&identity.chain[0], "bank's certificate")?.root;
            let ask = |path: &str, request: &Value| {
                let peer = self.peer.get().ok_or_else(|| {
                    Failure::usage(
                        "peer_not_configured",
                        "the configuration does not say where the bank's peer listener is",
                        "set [peer] url to the bank's [listen] peer address",
                    )
                })?;
                let signer = crate::tls::signer(std::sync::Arc::clone(&self.token), identity.key.id);
                peer.ask(&root, &identity.chain, signer, Method::POST, path, Some(request))
            };
            let endorsed = ask("/v1/renewals", &self.request_for(&agent, &identity.key, None)?)?;
            let endorsement_pem = endorsed["endorsement_pem"].as_str().unwrap_or_default();
            let proof = self.request_for(&agent, &identity.key, Some(endorsement_pem))?;
            let issued = ask("/v1/renewals/proof", &proof)?;
            self.install(name, issued["certificate_pem"].as_str().unwrap_or_default(), endorsement_pem)
        })
    }

    /// The installed pairs: whom, from when, until when.
    ///
    /// # Errors
    /// The file system's; `certificate_unreadable`.
    pub fn installed_pairs(&self) -> Result<Vec<(AgentName, UnixMillis, UnixMillis)>, Failure> {
        let mut pairs = Vec::new();
        for name in files::names(&self.state.certs().join("agents"))? {
            let Ok(name) = name.parse::<AgentName>() else {
                continue;
            };
            if let Some([bank, _]) = self.installed_pair(&name)? {
                let (_, begins, ends) = installed(&bank, self)?;
                pairs.push((name, begins, ends));
            }
        }
        Ok(pairs)
    }

    /// The bank's root and an agent's pair: how this host can ask the bank at all. `None`: no agent is installed.
    pub(super) fn as_first_agent(&self) -> Result<Option<(Vec<u8>, CertifiedKey)>, Failure> {
        let Some((name, _, _)) = self.installed_pairs()?.into_iter().next() else {
            return Ok(None);
        };
        let identity = self.agent_identity(&name)?;
        let root = self.issuer_anchors(&identity.chain[0], "bank's certificate")?.root;
        Ok(Some((root, identity)))
    }

    /// Whether this host can ask the bank for renewals.
    pub fn renews(&self) -> bool {
        self.peer.get().is_some()
    }

    /// Renews every installed pair that is past two thirds of its life. Answers how each attempt ended.
    ///
    /// # Errors
    /// The file system's.
    pub fn renew_due(&self) -> Result<Vec<Renewal>, Failure> {
        if self.kind != PartyKind::AgentHost || self.peer.get().is_none() {
            return Ok(Vec::new());
        }
        let actor = Actor::System { component: "renewal".into() };
        let now = clock::now();
        let mut attempts = Vec::new();
        for (name, begins, ends) in self.installed_pairs()? {
            if now >= renewal_due(begins, ends) && now < ends {
                let outcome = self.cert_renew(&actor, &name);
                attempts.push(Renewal { agent: name, outcome });
            }
        }
        Ok(attempts)
    }
}

/// Two thirds of a life.
pub fn renewal_due(begins: UnixMillis, ends: UnixMillis) -> UnixMillis {
    begins.plus_ms((ends.0 - begins.0) / 3 * 2)
}

/// Whom an installed certificate names, and from when until when.
fn installed(bank: &[u8], authority: &Authority) -> Result<(SpiffeId, UnixMillis, UnixMillis), Failure> {
    let unreadable = || {
        Failure::fault(
            "certificate_unreadable",
            "an installed certificate is none of an agent",
            "install the pair again with `countersign cert install`",
        )
    };
    let certificate = Certificate::read(bank).map_err(|_| unreadable())?;
    let facts = Profile::AgentB.check_presented(&certificate, &authority.base).map_err(|_| unreadable())?;
    let (agent, _) = facts.agent.ok_or_else(unreadable)?;
    Ok((agent, facts.not_before, facts.not_after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_due_at_two_thirds_of_its_life() {
        let due = |begins, ends| renewal_due(UnixMillis(begins), UnixMillis(ends)).0;
        assert_eq!((due(0, 86_400_000), due(1_000, 1_003), due(5, 5)), (57_600_000, 1_002, 5));
    }
}
