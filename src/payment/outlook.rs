//! What agents see of the mandates under which they pay: their own, for the key that they have, with what is left.

use serde_json::{Value, json};

use crate::kernel::command::AgentPrincipal;
use crate::kernel::decide::Counter;
use crate::kernel::mandate::{Counts, LIFE, Revoked, StoredMandate};
use crate::kernel::types::{MandateId, UnixMillis};
use crate::kernel::zone::Zone;
use crate::store::{Store, StoreFault};

/// Mandates of one agent that are looked through, and those of them that it is shown.
const LOOKED_THROUGH_MAX: u32 = 1_000;
const SHOWN_MAX: usize = 100;

/// The mandates that this agent was given for the key that it has: those that stand first, then newest first.
/// `complete` says whether these are all.
///
/// # Errors
/// The store's.
pub fn of_agent(store: &dyn Store, agent: &AgentPrincipal, now: UnixMillis) -> Result<Value, StoreFault> {
    let mut found = store.mandates(Some(&agent.spiffe_id), None, LOOKED_THROUGH_MAX)?;
    let are_all = found.len() < LOOKED_THROUGH_MAX as usize;
    found.retain(|stored| is_own(stored, agent));
    found.sort_by_key(|stored| stored.held().stands(agent.key, now).is_err());
    let are_all = are_all && found.len() <= SHOWN_MAX;
    found.truncate(SHOWN_MAX);
    let shown: Result<Vec<Value>, StoreFault> = found.iter().map(|stored| outlook(store, stored, now)).collect();
    Ok(json!({ "mandates": shown?, "complete": are_all }))
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
    let found = store.mandate(id)?.filter(|stored| is_own(stored, agent));
    found.map(|stored| outlook(store, &stored, now)).transpose()
}

/// Of this key, too: whoever has the name now may be another.
fn is_own(stored: &StoredMandate, agent: &AgentPrincipal) -> bool {
    stored.mandate.agent == agent.spiffe_id && stored.mandate.agent_key == agent.key
}

fn outlook(store: &dyn Store, stored: &StoredMandate, now: UnixMillis) -> Result<Value, StoreFault> {
    let mandate = &stored.mandate;
    let mut stored = stored.clone();
    // Whoever signed it may be revoked: then it counts no more than if it were itself.
    if let (None, Some((issuer, serial))) = (&stored.revoked, &stored.signer.certificate)
        && let Some(revoked) = store.certificate_status(issuer, serial)?.and_then(|status| status.revoked)
    {
        stored.revoked = Some(Revoked { at: revoked.at, by: String::new(), reason: String::new() });
    }
    let account = store.account(mandate.account.as_str())?;
    let zone = account.map_or(Zone::UTC, |account| account.zone);
    let used = mandate.counted_on(now, zone);
    let uses = Counter::MandateUses(mandate.id.clone());
    let counts = Counts {
        minor: store.spent(&Counter::MandateAmount(mandate.id.clone()), used.budget_on)?,
        in_period: store.spent(&uses, used.recurs_on)?,
        in_life: store.spent(&uses, LIFE)?,
    };
    Ok(stored.outlook(counts, now, zone))
}
