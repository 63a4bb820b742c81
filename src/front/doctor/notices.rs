//! The doctor's look at messages to people: what was given up, what waits, which channels cannot be reached.

use std::time::Duration;

use serde_json::Value;

use super::{ok, warn};
use crate::front::services::Services;
use crate::ops::clock;

/// The longest that a line of the report waits for a channel's server.
const REACH_WAIT: Duration = Duration::from_secs(2);
/// Messages that were due so long ago wait for something that is broken.
const WAITING_MS_MAX: i64 = 15 * 60_000;

pub fn check(services: &Services, items: &mut Vec<Value>) {
    let Some(notifier) = &services.setup.notifier else {
        return;
    };
    let channels = notifier.reach(REACH_WAIT);
    if channels.is_empty() {
        // An agent host's own people see what they do; who runs a party should be told.
        if services.setup.kind.certifies() {
            let next_step = "add [[notify.channel]] and [[notify.route]] to countersign.toml: docs/NOTIFICATIONS.md";
            items.push(warn("notices", "nobody is told of anything: there is no channel", next_step));
        }
        return;
    }
    for channel in channels {
        let check = format!("channel {}", channel.channel);
        items.push(match channel.outcome {
            Ok(()) => ok(&check, format!("{} to {} can be reached", channel.kind, channel.target)),
            Err(undelivered) => warn(
                &check,
                format!("{} to {}: {}: {}", channel.kind, channel.target, undelivered.name, undelivered.why),
                "messages wait and are tried again; check the receiver and [[notify.channel]] in countersign.toml",
            ),
        });
    }
    let counts = match notifier.counts() {
        Ok(counts) => counts,
        Err(failure) => return items.push(warn("notices", failure.message, &failure.next_step)),
    };
    let waits = counts.due.is_some_and(|due| clock::now().0.saturating_sub(due.0) > WAITING_MS_MAX);
    items.push(if counts.dead > 0 {
        let detail = format!("{} messages were given up", counts.dead);
        warn("notices", detail, "countersign notify list --status dead; then notify retry --all-dead")
    } else if waits {
        let detail = format!("{} messages wait, some for more than 15 minutes", counts.queued);
        warn("notices", detail, "countersign notify list --status queued")
    } else {
        ok("notices", format!("{} sent, {} wait, none given up", counts.sent, counts.queued))
    });
}
