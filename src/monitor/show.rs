//! What operators see of the monitor.

use serde_json::{Value, json};

use super::Watch;
use super::follow::told_of;
use crate::kernel::monitor::{Subject, Told, What};
use crate::kernel::types::SpiffeId;
use crate::ops::failure::Failure;
use crate::store::Store;

const PAGE_LEAVES: u32 = 512;
/// Leaves that are searched, from the newest back.
const SEARCHED_MAX: u64 = 100_000;

impl Watch {
    /// What is known of an agent, and its last scores with their reasons, newest first.
    ///
    /// # Errors
    /// `unknown_agent` when its name fits none that has a score; the store's.
    pub fn show(&self, store: &dyn Store, agent: &str, limit: u32) -> Result<Value, Failure> {
        let mut whose: Option<SpiffeId> = None;
        let mut items = vec![];
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        self.backwards(store, |leaf, told| {
            if let What::Call { agent: of, tool, assessment: Some(assessment), .. } = &told.what
                && (of.to_string() == agent || of.name().as_str() == agent)
            {
                whose.get_or_insert_with(|| of.clone());
                let reasons = assessment.reasons.iter();
                let said: Vec<Value> = reasons
                    .map(|reason| json!({ "name": reason.name, "points": reason.points, "said": reason.said() }))
                    .collect();
                items.push(json!({
                    "leaf": leaf.to_string(), "at": told.at.rfc3339(), "tool": tool, "request_id": told.request,
                    "score": assessment.score, "asks": assessment.asks, "mode": assessment.mode, "reasons": said,
                }));
            }
            items.len() < wanted
        })?;
        let Some(whose) = whose else {
            return Err(Failure::refused(
                "unknown_agent",
                format!("the monitor has scored no call of {agent:?}"),
                "see `countersign cert list` for names",
            ));
        };
        let shared = self.lock();
        let known = shared.monitor.agent(Subject::of(&whose.to_string())).map(|state| {
            json!({ "payments": state.payments(), "days": state.days(), "is_warm": state.is_warm(&self.settings.rules) })
        });
        Ok(json!({
            "agent": whose, "known": known, "mode": self.settings.mode, "rules": self.rules,
            "seen": shared.seen.to_string(), "items": items, "next": null,
        }))
    }

    /// The newest calls that a human should look at.
    ///
    /// # Errors
    /// The store's.
    pub fn alerts(&self, store: &dyn Store, limit: u32) -> Result<Value, Failure> {
        let mut items = vec![];
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        self.backwards(store, |leaf, told| {
            if let What::Alerted { .. } = told.what
                && let Ok(Some(record)) = store.leaves(leaf, 1).map(|leaves| leaves.into_iter().next())
                && let Ok(body) = serde_json::from_slice::<Value>(record.body().unwrap_or_default())
            {
                let mut alert = body["parameters"].clone();
                alert["leaf"] = json!(leaf.to_string());
                alert["alerted_at"] = body["at"].clone();
                items.push(alert);
            }
            items.len() < wanted
        })?;
        Ok(json!({ "items": items, "next": null }))
    }

    /// Leaves from the newest back, until nobody wants more.
    fn backwards(&self, store: &dyn Store, mut wants: impl FnMut(u64, &Told) -> bool) -> Result<(), Failure> {
        let size = store.newest_checkpoint()?.map_or(0, |checkpoint| checkpoint.size);
        let mut end = size;
        while end > 0 && size - end < SEARCHED_MAX {
            let begin = end.saturating_sub(u64::from(PAGE_LEAVES));
            let leaves = store.leaves(begin, u32::try_from(end - begin).unwrap_or(PAGE_LEAVES))?;
            for (place, leaf) in leaves.iter().enumerate().rev() {
                if let Some(told) = told_of(leaf)
                    && !wants(begin + place as u64, &told)
                {
                    return Ok(());
                }
            }
            end = begin;
        }
        Ok(())
    }
}
