//! Subscriptions: one at the bank for each that a client has, asked for again whenever it ends. A client of the generation
//! before has no way to ask for one: the bridge has it in its place, and tells which lists have changed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rmcp::RoleServer;
use rmcp::model::{ErrorCode, ErrorData, RequestId, ServerCapabilities, SubscriptionFilter};
use rmcp::service::{Peer, SubscriptionContext};
use serde_json::{Map, Value, json};
use tokio_util::task::AbortOnDropHandle;

use super::backoff::Backoff;
use super::upstream::{Hearing, Question, Unanswered, Upstream};
use super::{Bridge, DISCOVERY, failures, meta, with_meta};
use crate::ops::clock;

/// Errors that pass: as many subscriptions as the agent may have, of a bridge that is gone; a defect of this moment.
const PASSING: [ErrorCode; 2] = [ErrorCode::INVALID_REQUEST, ErrorCode::INTERNAL_ERROR];
/// Until a subscription is asked for again after one of them.
const PASSING_PAUSE: Duration = Duration::from_secs(60);

/// What keeps a client of the generation before told. It ends with its client's session.
#[derive(Default)]
pub(super) struct Lists(Mutex<Option<AbortOnDropHandle<()>>>);

impl Bridge {
    /// Keeps a subscription at the bank for as long as the client keeps its own.
    pub(super) async fn subscribed(&self, context: &SubscriptionContext) -> Result<(), ErrorData> {
        let request = context.request_context();
        let params = with_meta(json!({ "notifications": context.accepted() }), request)?;
        let hearing = |again| Hearing::Subscription { sink: context.sink(), again };
        Err(kept(&self.upstream, &request.id, params, hearing).await)
    }

    /// Tells a client of the generation before, from now on, which of the lists that were announced to it change.
    pub(super) fn follow_lists(&self, capabilities: &ServerCapabilities, peer: Peer<RoleServer>) {
        let Some(filter) = announced(capabilities) else {
            return;
        };
        let upstream = Arc::clone(&self.upstream);
        let following = tokio::spawn(async move {
            let id = RequestId::String(clock::fresh_id("lists_").into());
            let params = Map::from_iter([("notifications".to_owned(), json!(filter))]);
            let hearing = |again| Hearing::Lists { peer: &peer, filter: &filter, again };
            loop {
                let refused = kept(&upstream, &id, meta(params.clone(), json!({})), hearing).await;
                tracing::warn!(why = %refused.message, "the client is not told when the bank's lists change");
                if !PASSING.contains(&refused.code) {
                    return;
                }
                tokio::time::sleep(PASSING_PAUSE).await;
            }
        });
        let mut lists = self.lists.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One that said twice that it is ready is told once.
        *lists = Some(AbortOnDropHandle::new(following));
    }
}

/// Which lists the bank announces that it tells changes of. `None`: of none.
fn announced(capabilities: &ServerCapabilities) -> Option<SubscriptionFilter> {
    let tools = capabilities.tools.as_ref().is_some_and(|tools| tools.list_changed == Some(true));
    let prompts = capabilities.prompts.as_ref().is_some_and(|prompts| prompts.list_changed == Some(true));
    let resources = capabilities.resources.as_ref().is_some_and(|resources| resources.list_changed == Some(true));
    let mut filter = SubscriptionFilter::default();
    filter.tools_list_changed = tools.then_some(true);
    filter.prompts_list_changed = prompts.then_some(true);
    filter.resources_list_changed = resources.then_some(true);
    (tools || prompts || resources).then_some(filter)
}

/// Asks for a subscription again and again, until it is refused: answers why. `hearing`: who is told, and whether it was
/// broken before.
async fn kept<'a>(
    upstream: &Upstream,
    id: &RequestId,
    params: Map<String, Value>,
    hearing: impl Fn(bool) -> Hearing<'a>,
) -> ErrorData {
    let mut backoff = Backoff::default();
    let mut again = false;
    loop {
        let question = Question { id, method: "subscriptions/listen", params: params.clone(), headers: vec![] };
        let begun = Instant::now();
        match upstream.follow(question, hearing(again)).await {
            Err(Unanswered::Error(error)) => return error,
            // Refused by name: asking again changes nothing.
            Err(Unanswered::Failed(error)) if !failures::may_retry(&error) => return error,
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
