//! Subscriptions: one at the bank for each that a client has, asked for again whenever it ends.

use std::time::Instant;

use rmcp::model::ErrorData;
use rmcp::service::SubscriptionContext;
use serde_json::json;

use super::backoff::Backoff;
use super::upstream::{Hearing, Question, Unanswered};
use super::{Bridge, DISCOVERY, failures, with_meta};
use crate::ops::clock;

impl Bridge {
    /// Keeps a subscription at the bank for as long as the client keeps its own.
    pub(super) async fn subscribed(&self, context: &SubscriptionContext) -> Result<(), ErrorData> {
        let request = context.request_context();
        let mut backoff = Backoff::default();
        let mut again = false;
        loop {
            let params = with_meta(json!({ "notifications": context.accepted() }), request)?;
            let question = Question { id: &request.id, method: "subscriptions/listen", params, headers: vec![] };
            let begun = Instant::now();
            match self.upstream.follow(question, Hearing::Subscription { sink: context.sink(), again }).await {
                Err(Unanswered::Error(error)) => return Err(error),
                // Refused by name: asking again changes nothing.
                Err(Unanswered::Failed(error)) if !failures::may_retry(&error) => return Err(error),
                // The bank has stopped, or the connection has: it goes on when there is one again.
                Ok(_) | Err(Unanswered::Away(_) | Unanswered::Failed(_)) => {}
            }
            if begun.elapsed() > DISCOVERY {
                backoff.succeeded();
            }
            let [jitter] = clock::random();
            tokio::time::sleep(backoff.failed(Instant::now(), jitter)).await;
            again = true;
        }
    }
}
