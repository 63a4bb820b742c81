//! What came of each order: the signatures that were given out, by their hash, or the name of what kept them back.
//!
//! The order is durable before a key is touched, so its own leaf cannot say it. What came of it is written down a second
//! later at most, many orders in one leaf: a signature that somebody shows is one that the log has, or was not given out
//! here, and an order without an outcome is one of the last second before the daemon was killed.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Answer, Desk};
use crate::kernel::command::Act;
use crate::kernel::types::Sha256;
use crate::ops::failure::Failure;

/// Outcomes of one leaf: some 30 KB.
const OF_ONE_LEAF: usize = 256;
/// Outcomes that wait for a store that records nothing; it takes no orders either, so they are those under way then.
const WAITING_MAX: usize = 65_536;
/// What is being signed when the daemon stops is awaited so long; the HSM has a deadline of its own.
const END_TIMEOUT: Duration = Duration::from_secs(30);

/// What came of one order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Outcome {
    request_id: String,
    signed: Result<Sha256, String>,
}

impl Outcome {
    fn said(&self) -> Value {
        let Self { request_id, signed } = self;
        match signed {
            Ok(signatures) => json!({ "request_id": request_id, "signatures_sha256": signatures }),
            Err(failure) => json!({ "request_id": request_id, "failure": failure }),
        }
    }
}

impl Desk {
    /// Notes what came of an order that was recorded.
    pub(super) fn came_of(&self, request_id: &str, answered: &Result<Answer, Failure>) {
        let signed = match answered {
            Ok(answer) => Ok(answer.signatures),
            Err(failure) => Err(failure.name.to_string()),
        };
        let mut outcomes = self.outcomes();
        if outcomes.len() < WAITING_MAX {
            outcomes.push(Outcome { request_id: request_id.to_owned(), signed });
            return;
        }
        drop(outcomes);
        self.count("outcomes_not_recorded");
    }

    fn outcomes(&self) -> MutexGuard<'_, Vec<Outcome>> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what came of orders since the last time, in one commit.
    pub(super) async fn write_outcomes(&self) {
        let outcomes = std::mem::take(&mut *self.outcomes());
        if outcomes.is_empty() {
            return;
        }
        let leaf = |part: &[Outcome]| {
            let said: Vec<Value> = part.iter().map(Outcome::said).collect();
            Act::Record { tool: "signed".into(), decision: json!({ "outcomes": said }) }
        };
        let leaves = outcomes.chunks(OF_ONE_LEAF).map(leaf).collect();
        if let Err(failure) = self.noted(leaves).await {
            tracing::warn!(name = %failure.name, "what came of orders for signatures will be written down later");
            let mut later = self.outcomes();
            let since = std::mem::replace(&mut *later, outcomes);
            later.extend(since);
        }
    }

    /// After the last request: waits for what is being signed, and writes down what came of it.
    pub async fn end(&self) {
        self.begun.close();
        if tokio::time::timeout(END_TIMEOUT, self.begun.wait()).await.is_err() {
            tracing::warn!("something is being signed still; what comes of it is not in the log");
        }
        self.write_outcomes().await;
        self.write_counts().await;
    }
}
