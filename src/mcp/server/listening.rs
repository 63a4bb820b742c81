//! `subscriptions/listen`: what agents are told without asking.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rmcp::ErrorData;
use rmcp::model::SubscriptionFilter;
use rmcp::service::SubscriptionContext;

use super::resources::{self, Named};
use super::{Look, Seen, ToolGate};
use crate::kernel::credential::pair::VerifiedAgent;
use crate::kernel::types::ApprovalId;
use crate::ops::clock;

/// So often it is seen to that the agent may still be served, and that nothing has come to its end: without the store.
const GLANCE: Duration = Duration::from_secs(5);
/// Approvals that one subscription follows.
pub(super) const FOLLOWED_MAX: usize = 64;

/// The part of a filter that is served: changes of the lists, and approvals.
pub(super) fn accepted(requested: &SubscriptionFilter) -> SubscriptionFilter {
    let mut accepted = SubscriptionFilter::new();
    accepted.tools_list_changed = requested.tools_list_changed;
    accepted.resources_list_changed = requested.resources_list_changed;
    let followed = requested.resource_subscriptions.iter().flatten().filter(|uri| approval_of(uri).is_some());
    let followed: BTreeSet<String> = followed.take(FOLLOWED_MAX).cloned().collect();
    let followed: Vec<String> = followed.into_iter().collect();
    accepted.resource_subscriptions = (!followed.is_empty()).then_some(followed);
    accepted
}

fn approval_of(uri: &str) -> Option<ApprovalId> {
    match Named::parse(uri) {
        Some(Named::Approval(approval)) => Some(approval),
        Some(
            Named::Manifest
            | Named::Policy
            | Named::Statement(_)
            | Named::Mandates
            | Named::Mandate(_)
            | Named::Receipt(_),
        )
        | None => None,
    }
}

/// Tells changes until the client is gone or the agent may not be served any more.
pub(super) async fn tell(
    gate: Arc<dyn ToolGate>,
    agent: Arc<VerifiedAgent>,
    subscription: SubscriptionContext,
) -> Result<(), ErrorData> {
    let approvals: Arc<[ApprovalId]> = {
        let followed = subscription.accepted().resource_subscriptions.iter().flatten();
        followed.filter_map(|uri| approval_of(uri)).collect()
    };
    let mut changes = gate.changes();
    let mut last: Option<Seen> = None;
    loop {
        changes.mark_unchanged();
        let (look, who, followed) = (Arc::clone(&gate), Arc::clone(&agent), Arc::clone(&approvals));
        let seen = tokio::task::spawn_blocking(move || look.seen_by(&who, &followed)).await;
        let until = match seen {
            Ok(Look::Seen(now)) => {
                let before = last.get_or_insert_with(|| now.clone());
                if !say(&subscription, before, &now, &approvals).await {
                    return Ok(());
                }
                last.insert(now).until
            }
            // The next look says.
            Ok(Look::Unknown) | Err(_) => Some(clock::now()),
            Ok(Look::Refused) => return Ok(()),
        };
        // Nothing that was seen becomes another thing before one of these.
        loop {
            tokio::select! {
                _ = changes.changed() => break,
                () = tokio::time::sleep(GLANCE) => {}
                () = subscription.cancelled() => return Ok(()),
            }
            if !gate.may_be_served(&agent) {
                return Ok(());
            }
            if until.is_some_and(|until| clock::now() >= until) {
                break;
            }
        }
    }
}

/// False: nobody listens any more.
async fn say(subscription: &SubscriptionContext, before: &Seen, now: &Seen, approvals: &[ApprovalId]) -> bool {
    let (sink, wanted) = (subscription.sink(), subscription.accepted());
    let mut said = Ok(());
    if wanted.tools_list_changed == Some(true) && before.tools != now.tools {
        said = said.and(sink.notify_tool_list_changed().await);
    }
    if wanted.resources_list_changed == Some(true) && before.accounts != now.accounts {
        said = said.and(sink.notify_resource_list_changed().await);
    }
    for ((approval, was), is) in approvals.iter().zip(&before.approvals).zip(&now.approvals) {
        if was != is {
            said = said.and(sink.notify_resource_updated(resources::approval_uri(approval)).await);
        }
    }
    said.is_ok()
}
