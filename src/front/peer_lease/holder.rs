//! Both sides' daemons: the bank's node asks, acts and asks again; the security company's answers from what is in force.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{ActedOn, Answer, Frozen, InForce, Question, WAIT_MAX_MS, ends};
use crate::front::services::Services;
use crate::kernel::command::Actor;
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::status::StatusSnapshot;
use crate::kernel::types::PartyName;
use crate::ops::clock;
use crate::ops::failure::Failure;

/// After a question without an answer.
const PAUSE: Duration = Duration::from_millis(500);
/// For calls that began before a freeze was heard of.
const CALLS_LIMIT: Duration = Duration::from_secs(30);

/// What the security company has said to this node of the bank.
#[derive(Debug)]
pub struct Heard {
    node: String,
    /// The lock guards the pointer only. `None`: nothing yet.
    frozen: RwLock<Option<Arc<Frozen>>>,
    /// The same once no call goes on that began before it was heard: what this node has acted on.
    acted_on: RwLock<Option<Arc<Frozen>>>,
}

impl Default for Heard {
    fn default() -> Self {
        Self { node: clock::fresh_id("node_"), frozen: RwLock::default(), acted_on: RwLock::default() }
    }
}

impl Heard {
    fn frozen(&self) -> Option<Arc<Frozen>> {
        self.frozen.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn acted_on(&self) -> Option<Arc<Frozen>> {
        self.acted_on.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds who is frozen at the other party to what is in force here.
    pub fn add_to(&self, status: &mut StatusSnapshot) {
        if let Some(frozen) = self.frozen() {
            status.frozen.extend(frozen.agents.iter().cloned());
            status.everyone_frozen |= frozen.everyone;
        }
    }

    /// Whether this agent is frozen at the other party.
    pub fn freezes(&self, agent: &crate::kernel::types::SpiffeId) -> bool {
        self.frozen().is_some_and(|frozen| frozen.everyone || frozen.agents.contains(agent))
    }
}

impl InForce for Services {
    fn list(&self, issuer: &str) -> Option<String> {
        self.setup.authority.published(issuer).map(|list| pem::encode(Kind::Crl, &list.der))
    }

    fn number(&self, issuer: &str) -> Option<u64> {
        self.setup.authority.published(issuer).map(|list| list.number)
    }

    fn frozen(&self) -> Frozen {
        let status = self.live.current();
        Frozen { agents: status.frozen.clone(), everyone: status.everyone_frozen }
    }
}

/// Answers a node of another party.
///
/// # Errors
/// `lease_not_given`, `lease_malformed` and the names of [`super::Lender::lend`].
pub fn answer(services: &Services, party: &PartyName, question: &Value) -> Result<Value, Failure> {
    let Some(lender) = &services.lender else {
        return Err(Failure::refused(
            "lease_not_given",
            format!("{} gives no leases", services.setup.party),
            "set [audit] peer_lease = \"on\" at the security company, or \"off\" at the bank",
        ));
    };
    let question: Question = serde_json::from_value(question.clone())
        .map_err(|error| Failure::usage("lease_malformed", error.to_string(), "see /v1/openapi.json"))?;
    Ok(json!(lender.lend(party, &question, services)?))
}

/// Asks until `stop`: at once again after an answer, which itself waits for news. On a thread of its own: it blocks.
pub fn hold(services: &Services, stop: &CancellationToken) {
    let mut said = None;
    while !stop.is_cancelled() {
        match turn(services) {
            Ok(()) => {
                if said.take().is_some() {
                    tracing::info!("the security company gives its lease again");
                }
            }
            Err(failure) => {
                if said.as_ref() != Some(&failure.name) {
                    let Failure { name, message, next_step, .. } = &failure;
                    tracing::warn!(%name, %message, %next_step, "no lease of the security company; agents are refused when it ends");
                }
                said = Some(failure.name);
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// One question: its answer gives more time, or what is acted on before the next one.
fn turn(services: &Services) -> Result<(), Failure> {
    let authority = &services.setup.authority;
    let status = services.live.current();
    let number = |issuer: &str| status.crls.get(issuer).map_or(0, |list| list.number);
    let lists: BTreeMap<String, u64> =
        authority.other_issuers()?.into_iter().map(|issuer| (issuer.clone(), number(&issuer))).collect();
    let frozen = services.heard.acted_on().map(|frozen| frozen.fingerprint());
    // Without a lease the first thing is to get one.
    let wait_ms = if services.limit.holds() { WAIT_MAX_MS } else { 0 };
    let question = Question { node: services.heard.node.clone(), acted_on: ActedOn { lists, frozen }, wait_ms };
    let asked_ms = clock::boot_ms();
    let answer = authority.ask_for_lease(&json!(question))?;
    let answer: Answer = serde_json::from_value(answer).map_err(|error| {
        let why = format!("the security company's answer about the lease is not understood: {error}");
        Failure::fault("lease_malformed", why, "run versions of countersign that fit each other")
    })?;
    if answer.lists.is_empty() && answer.frozen.is_none() {
        let (until, commit_before) = ends(asked_ms, answer.lease_ms);
        services.limit.extend(until, commit_before);
        return Ok(());
    }
    let actor = Actor::System { component: "peer-lease".into() };
    for list in &answer.lists {
        let imported = authority.crl_import(&actor, list)?;
        if imported["effective"] != true {
            return Err(Failure::busy("not_effective_yet", "a node of this bank has not acted yet", "wait a moment"));
        }
    }
    if let Some(frozen) = answer.frozen {
        let frozen = Some(Arc::new(frozen));
        services.heard.frozen.write().unwrap_or_else(PoisonError::into_inner).clone_from(&frozen);
        let connections_cut = services.refresh_status()?;
        tracing::info!(connections_cut, "who is frozen at the security company has changed");
        if !services.calls.have_seen_change(CALLS_LIMIT) {
            return Err(Failure::busy("not_effective_yet", "a call goes on that began before", "wait a moment"));
        }
        *services.heard.acted_on.write().unwrap_or_else(PoisonError::into_inner) = frozen;
    }
    Ok(())
}
