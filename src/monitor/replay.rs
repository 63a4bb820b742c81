//! Makes scores again from the log and compares them with those that were written down.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde_json::{Value, json};

use super::Watch;
use super::follow::told_of;
use crate::kernel::monitor::{Assessment, Event, Monitor, Told, What};
use crate::ops::failure::Failure;
use crate::store::Store;

const PAGE_LEAVES: u32 = 512;
/// Scores of one call, some 300 bytes each; who asks walks on.
pub const REPLAY_SCORES_MAX: u64 = 200_000;
/// Differences that are shown; all are counted.
const SHOWN_MAX: usize = 100;

/// One score that was written down.
struct Scored {
    leaf: u64,
    agent: String,
    event: Event,
    assessment: Assessment,
}

impl Watch {
    /// Scores from leaf `from` on, of one agent or all, made again by the same rules: at most `limit`, because each is
    /// kept until it is compared.
    ///
    /// Answers `{leaves, scores, same, other_rules, differences, items, next}`; `next` is the leaf to go on from.
    ///
    /// # Errors
    /// The store's.
    pub fn replay(
        &self,
        store: &dyn Store,
        from: u64,
        agent: Option<&str>,
        limit: u64,
        progress: &mut dyn FnMut(Value),
    ) -> Result<Value, Failure> {
        let mut scored: BTreeMap<u64, Vec<Scored>> = BTreeMap::new();
        let (mut leaves, mut scores, mut other_rules) = (0_u64, 0_u64, 0_u64);
        let mut next = None;
        each(store, from, u64::MAX, |leaf, told| {
            if scores >= limit {
                next = Some(leaf);
                return ControlFlow::Break(());
            }
            leaves += 1;
            if leaves.is_multiple_of(u64::from(PAGE_LEAVES) * 16) {
                progress(json!({ "leaves": leaves, "of": null }));
            }
            let Some(Told { what: What::Call { agent: of, event, assessment: Some(assessment), .. }, .. }) = told
            else {
                return ControlFlow::Continue(());
            };
            let name = of.to_string();
            if agent.is_some_and(|agent| agent != name && agent != of.name().as_str()) {
                return ControlFlow::Continue(());
            }
            scores += 1;
            if assessment.rules == self.rules {
                let windows = scored.entry(assessment.from).or_default();
                windows.push(Scored { leaf, agent: name, event, assessment });
            } else {
                other_rules += 1;
            }
            ControlFlow::Continue(())
        })?;
        let (mut same, mut differences, mut items) = (0_u64, 0_u64, vec![]);
        for (window, mut scored) in scored {
            // By what was known then; several daemons may share a window.
            scored.sort_by_key(|scored| (scored.assessment.seen, scored.leaf));
            let mut monitor = Monitor::new(self.settings.rules.clone());
            let mut known = window;
            for Scored { leaf, agent, event, assessment } in scored {
                each(store, known, assessment.seen, |_, told| {
                    if let Some(Told { what: What::Call { event, .. } | What::Thawed { event, .. }, .. }) = told {
                        monitor.observe(&event);
                    }
                    ControlFlow::Continue(())
                })?;
                known = known.max(assessment.seen);
                let again = monitor.assess(&event);
                if again == assessment.risk() && self.settings.rules.asks(again.score) == assessment.asks {
                    same += 1;
                    continue;
                }
                differences += 1;
                if items.len() < SHOWN_MAX {
                    items.push(json!({
                        "leaf": leaf.to_string(), "agent": agent, "at": event.at.rfc3339(),
                        "recorded": assessment.risk(), "again": again,
                    }));
                }
            }
        }
        Ok(json!({
            "leaves": leaves.to_string(), "scores": scores.to_string(), "same": same.to_string(),
            "other_rules": other_rules.to_string(), "differences": differences.to_string(),
            "rules": self.rules, "items": items, "next": next.map(|leaf: u64| leaf.to_string()),
        }))
    }
}

/// The leaves from one place up to another, or until nobody wants more.
fn each(
    store: &dyn Store,
    from: u64,
    end: u64,
    mut tell: impl FnMut(u64, Option<Told>) -> ControlFlow<()>,
) -> Result<(), Failure> {
    let mut at = from;
    while at < end {
        let page = u32::try_from((end - at).min(u64::from(PAGE_LEAVES))).unwrap_or(PAGE_LEAVES);
        let leaves = store.leaves(at, page)?;
        let found = u32::try_from(leaves.len()).unwrap_or(page);
        for leaf in leaves {
            if tell(at, told_of(&leaf)).is_break() {
                return Ok(());
            }
            at += 1;
        }
        if found < page {
            break;
        }
    }
    Ok(())
}
