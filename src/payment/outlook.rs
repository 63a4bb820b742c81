//! What agents see of the mandates under which they pay: their own, for the key that they have, with what is left.

use std::cmp::Reverse;

use serde_json::{Value, json};

use crate::kernel::command::AgentPrincipal;
use crate::kernel::mandate::ShownMandate;
use crate::kernel::types::{MandateId, UnixMillis};
use crate::store::{MandateQuery, Store, StoreFault};

/// Mandates of one agent that it is shown.
const SHOWN_MAX: u32 = 100;

/// The mandates that this agent was given for the key that it has: those that stand first, then newest first.
/// `complete` says whether these are all.
///
/// # Errors
/// The store's.
pub fn of_agent(store: &dyn Store, agent: &AgentPrincipal, now: UnixMillis) -> Result<Value, StoreFault> {
    let mut found = found(store, agent, None, now)?;
    let are_all = found.len() <= SHOWN_MAX as usize;
    let stands = |shown: &ShownMandate| {
        shown.revoked.is_none() && (shown.mandate.not_before..shown.mandate.expires).contains(&now)
    };
    found.sort_by_key(|shown| (!stands(shown), Reverse(shown.mandate.id.clone())));
    found.truncate(SHOWN_MAX as usize);
    let shown: Vec<Value> = found.iter().map(|shown| shown.outlook(now)).collect();
    Ok(json!({ "mandates": shown, "complete": are_all }))
}

/// One of them. `None`: there is none of this name, or it is another agent's, or was given for another key.
///
/// # Errors
/// The store's.
pub fn one_of_agent(
    store: &dyn Store,
    agent: &AgentPrincipal,
    id: &MandateId,
    now: UnixMillis,
) -> Result<Option<Value>, StoreFault> {
    let found = found(store, agent, Some(id), now)?;
    Ok(found.first().map(|shown| shown.outlook(now)))
}

/// One more than is shown, which tells that there are more.
fn found(
    store: &dyn Store,
    agent: &AgentPrincipal,
    id: Option<&MandateId>,
    now: UnixMillis,
) -> Result<Vec<ShownMandate>, StoreFault> {
    let (agent, key) = (agent.spiffe_id.clone(), agent.key);
    store.mandates_shown(&MandateQuery { agent, key, id: id.cloned(), now, limit: SHOWN_MAX + 1 })
}
