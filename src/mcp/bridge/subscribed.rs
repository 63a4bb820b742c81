//! Subscriptions: one at the bank for each that a client has, asked for again whenever it ends. A client of the generation
//! before has no way to ask for one: the bridge has it in its place, and tells which lists have changed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rmcp::model::{ErrorCode, ErrorData, RequestId, ServerCapabilities, SubscriptionFilter};
use rmcp::service::{Peer, SubscriptionContext};
use rmcp::{RoleServer, ServerHandler};
use serde_json::{Map, json};
use tokio_util::task::AbortOnDropHandle;

use super::backoff::Backoff;
use super::upstream::{Followed, Hearing, Question, Unanswered, Upstream};
use super::{Bridge, DISCOVERY, failures, meta};
use crate::mcp::standing::{LISTEN, Stands, ground};
use crate::ops::clock;

/// Errors that pass: as many subscriptions as the agent may have, of a bridge that is gone; a defect of this moment.
const PASSING: [ErrorCode; 2] = [ErrorCode::INVALID_REQUEST, ErrorCode::INTERNAL_ERROR];
/// Until a subscription is asked for again after one of them.
const PASSING_PAUSE: Duration = Duration::from_secs(60);

/// What keeps a client of the generation before told. It ends with its client's session.
#[derive(Default)]
pub(super) struct Lists(Mutex<Option<AbortOnDropHandle<()>>>);

impl Stands for Bridge {
    /// `None`: the bank is away. It is asked until it is there, and what was missed is told then.
    type Ground = Option<Followed>;

    async fn stand(&self, requested: &SubscriptionFilter, _: &http::Extensions) -> Result<Option<Followed>, ErrorData> {
        let filter = requested.supported_by(&ServerHandler::get_info(self).capabilities);
        let id = RequestId::String(clock::fresh_id("listen_").into());
        let following = self.upstream.follow(listen(&id, &filter));
        match tokio::time::timeout(DISCOVERY, following).await {
            Ok(Ok(followed)) => Ok(Some(followed)),
            Ok(Err(unanswered)) => refused(unanswered).map_or(Ok(None), Err),
            Err(_) => Ok(None),
        }
    }
}

impl Bridge {
    /// Keeps a subscription at the bank for as long as the client keeps its own.
    pub(super) async fn subscribed(&self, context: &SubscriptionContext) -> Result<(), ErrorData> {
        let followed = ground::<Option<Followed>>(context)?;
        let hearing = Hearing::Subscription { sink: context.sink(), accepted: context.accepted() };
        let was_missed = followed.is_none();
        Err(kept(&self.upstream, context.accepted(), &hearing, followed, was_missed).await)
    }

    /// Tells a client of the generation before, from now on, which of the lists that were announced to it change.
    pub(super) fn follow_lists(&self, capabilities: &ServerCapabilities, peer: Peer<RoleServer>) {
        let Some(filter) = announced(capabilities) else {
            return;
        };
        let upstream = Arc::clone(&self.upstream);
        let following = tokio::spawn(async move {
            let hearing = Hearing::Lists { peer: &peer, filter: &filter };
            loop {
                let refused = kept(&upstream, &filter, &hearing, None, false).await;
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

/// Follows a subscription, and asks for it again and again until it is refused: answers why. `was_missed`: what has
/// changed until there is one nobody was told.
async fn kept(
    upstream: &Upstream,
    filter: &SubscriptionFilter,
    hearing: &Hearing<'_>,
    mut standing: Option<Followed>,
    mut was_missed: bool,
) -> ErrorData {
    let mut backoff = Backoff::default();
    loop {
        let begun = Instant::now();
        let followed = match standing.take() {
            Some(followed) => Ok(followed),
            None => {
                let id = RequestId::String(clock::fresh_id("listen_").into());
                upstream.follow(listen(&id, filter)).await
            }
        };
        let ended = match followed {
            Ok(followed) => {
                if was_missed {
                    hearing.missed().await;
                }
                upstream.hear(followed, hearing).await
            }
            Err(unanswered) => Err(unanswered),
        };
        if let Some(error) = ended.err().and_then(refused) {
            return error;
        }
        if begun.elapsed() > DISCOVERY {
            backoff.succeeded();
        }
        let [jitter] = clock::random();
        tokio::time::sleep(backoff.failed(Instant::now(), jitter)).await;
        was_missed = true;
    }
}

fn listen<'a>(id: &'a RequestId, filter: &SubscriptionFilter) -> Question<'a> {
    let params = Map::from_iter([("notifications".to_owned(), json!(filter))]);
    Question { id, method: LISTEN, params: meta(params, json!({})), headers: vec![] }
}

/// Why asking again changes nothing. `None`: the bank has stopped, or the connection has, and it goes on when there is
/// one again.
fn refused(unanswered: Unanswered) -> Option<ErrorData> {
    match unanswered {
        Unanswered::Error(error) => Some(error),
        // Refused by name.
        Unanswered::Failed(error) if !failures::may_retry(&error) => Some(error),
        Unanswered::Away(_) | Unanswered::Failed(_) => None,
    }
}
