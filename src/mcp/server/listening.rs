//! `subscriptions/listen`: what agents are told without asking.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rmcp::ErrorData;
use rmcp::model::SubscriptionFilter;
use rmcp::service::SubscriptionContext;
use tokio::sync::watch;

use super::places::Place;
use super::resources::{self, Named};
use super::{Look, Seen, ToolGate};
use crate::kernel::credential::pair::VerifiedAgent;
use crate::kernel::types::{ApprovalId, UnixMillis};
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

/// What a subscription rests on: what was seen before it was acknowledged.
pub(super) struct Watch {
    gate: Arc<dyn ToolGate>,
    agent: Arc<VerifiedAgent>,
    approvals: Arc<[ApprovalId]>,
    changes: watch::Receiver<u64>,
    last: Option<Seen>,
    /// When there is something to be seen without a change.
    until: Option<UnixMillis>,
    _place: Place,
}

impl Watch {
    /// Begins to watch. `requested` is the filter, of which more is asked for than is served.
    pub(super) async fn begin(
        gate: Arc<dyn ToolGate>,
        agent: Arc<VerifiedAgent>,
        requested: &SubscriptionFilter,
        place: Place,
    ) -> Self {
        let accepted = accepted(requested);
        let followed = accepted.resource_subscriptions.iter().flatten();
        let approvals = followed.filter_map(|uri| approval_of(uri)).collect();
        let changes = gate.changes();
        let mut watch = Self { gate, agent, approvals, changes, last: None, until: None, _place: place };
        match watch.look().await {
            Look::Seen(now) => {
                watch.until = now.until;
                watch.last = Some(now);
            }
            // The next look says.
            Look::Unknown | Look::Refused => watch.until = Some(clock::now()),
        }
        watch
    }

    /// Tells changes until the client is gone or the agent may not be served any more.
    pub(super) async fn tell(mut self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        while self.may_have_changed(&subscription).await {
            self.changes.mark_unchanged();
            match self.look().await {
                Look::Seen(now) => {
                    let before = self.last.get_or_insert_with(|| now.clone());
                    if !say(&subscription, before, &now, &self.approvals).await {
                        return Ok(());
                    }
                    self.until = now.until;
                    self.last = Some(now);
                }
                Look::Unknown => self.until = Some(clock::now()),
                Look::Refused => return Ok(()),
            }
        }
        Ok(())
    }

    /// Waits until there may be something new. False: there is nobody to be told any more.
    async fn may_have_changed(&mut self, subscription: &SubscriptionContext) -> bool {
        // Nothing that was seen becomes another thing before one of these.
        loop {
            let is_changed = tokio::select! {
                _ = self.changes.changed() => true,
                () = tokio::time::sleep(GLANCE) => false,
                () = subscription.cancelled() => return false,
            };
            if !self.gate.may_be_served(&self.agent) {
                return false;
            }
            if is_changed || self.until.is_some_and(|until| clock::now() >= until) {
                return true;
            }
        }
    }

    async fn look(&self) -> Look {
        let (gate, agent, approvals) = (Arc::clone(&self.gate), Arc::clone(&self.agent), Arc::clone(&self.approvals));
        let seen = tokio::task::spawn_blocking(move || gate.seen_by(&agent, &approvals)).await;
        seen.unwrap_or(Look::Unknown)
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
