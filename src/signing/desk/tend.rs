//! What is written down now and then, and what is forgotten.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Desk;
use crate::kernel::command::Act;
use crate::ops::clock;

/// How often what was refused is written down and what lapsed is forgotten.
const TENDING_INTERVAL: Duration = Duration::from_secs(1);
/// Keys that are forgotten in one commit, and how often it is looked.
const FORGET_KEYS: u32 = 1_000;
const FORGET_TURNS: u64 = 3_600;
/// How often it is looked for new versions of the keys.
const LOOK_TURNS: u64 = 5;

impl Desk {
    /// Writes down now and then what was signed and what was refused, and forgets what is too old. What is left at the end
    /// is [`Desk::end`]'s.
    pub async fn tend(self: Arc<Self>, stop: CancellationToken) {
        for turn in 0_u64.. {
            tokio::select! {
                () = tokio::time::sleep(TENDING_INTERVAL) => {}
                () = stop.cancelled() => break,
            }
            self.write_outcomes().await;
            self.write_counts().await;
            for limiter in self.limits.values().chain([&self.recordable]) {
                limiter.retain_recent();
            }
            if turn.is_multiple_of(LOOK_TURNS)
                && let Err(failure) = self.refresh().await
            {
                tracing::debug!(name = %failure.name, "the keys will be looked at later");
            }
            if self.setup.forgets && turn.is_multiple_of(FORGET_TURNS) && clock::wall_is_steady() {
                let store = Arc::clone(&self.setup.store);
                let forgotten = tokio::task::spawn_blocking(move || store.forget_keys(clock::now(), FORGET_KEYS));
                if let Ok(Err(fault)) = forgotten.await {
                    tracing::warn!(%fault, "old orders for signatures will be forgotten later");
                }
            }
        }
    }

    pub(super) async fn write_counts(&self) {
        let counts = std::mem::take(&mut *self.counts());
        if counts.is_empty() {
            return;
        }
        let act = Act::Record { tool: "signing_refused".into(), decision: json!({ "counts": counts }) };
        if let Err(failure) = self.noted(vec![act]).await {
            tracing::warn!(name = %failure.name, "refusals of the signing service will be written down later");
            let mut later = self.counts();
            for (name, count) in counts {
                *later.entry(name).or_default() += count;
            }
        }
    }
}
