//! The monitor beside a daemon's other work: it reads the log, and what it orders is carried out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::ca::RevokeMode;
use crate::front::services::Services;
use crate::kernel::command::{Act, Actor, Command};
use crate::kernel::monitor::{ALERT, COMPONENT};
use crate::monitor::{Alert, Order, Progress};
use crate::ops::clock;
use crate::ops::failure::Failure;

/// Between two looks at the log.
const LOOK: Duration = Duration::from_millis(100);
const SILENT: Duration = Duration::from_secs(2);

/// Reads the window of the log; before it is read nobody is served.
///
/// # Errors
/// The store's.
pub fn catch_up(services: &Services) -> Result<(), Failure> {
    let Some(watch) = services.watching() else {
        return Ok(());
    };
    let mut next = Instant::now() + SILENT;
    let mut tell = |Progress { leaves, of }| {
        if Instant::now() >= next {
            next = Instant::now() + SILENT;
            tracing::info!(leaves, of, "the monitor reads the audit log");
        }
    };
    Ok(watch.catch_up(&*services.setup.store, clock::now(), &mut tell)?)
}

/// Follows the log until `stop`.
pub async fn follow(services: Arc<Services>, stop: CancellationToken) {
    if services.watching().is_none() {
        return;
    }
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return,
        }
        let turn = Arc::clone(&services);
        match tokio::task::spawn_blocking(move || look(&turn)).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::warn!(name = %failure.name, "the monitor will look at the log again"),
            Err(_) => tracing::error!("the monitor met a defect"),
        }
    }
}

fn look(services: &Services) -> Result<(), Failure> {
    let Some(watch) = services.watching() else {
        return Ok(());
    };
    let orders = watch.follow(&*services.setup.store, clock::now())?;
    let odd = watch.odd();
    if !odd.is_empty() {
        let payments = services.payments()?;
        odd.iter().for_each(|(agent, at)| payments.alerted(agent, *at));
    }
    for order in orders {
        // One that fails is ordered again.
        let carried_out = match &order {
            Order::Freeze(alert) => freeze(services, alert),
            Order::Alert(alert) => tell(services, alert),
        };
        if let Err(Failure { name, message, .. }) = carried_out {
            tracing::error!(%name, %message, "what the monitor ordered was not done yet");
        }
    }
    Ok(())
}

fn monitor() -> Actor {
    Actor::System { component: COMPONENT.into() }
}

fn freeze(services: &Services, alert: &Alert) -> Result<(), Failure> {
    let agent = alert.agent.to_string();
    let frozen = services.setup.authority.freeze(&monitor(), Some(&agent), &alert.said(), RevokeMode::Effective)?;
    if frozen["already"] == false {
        tracing::warn!(%agent, score = alert.assessment.score, "the monitor froze an agent");
    }
    services.changes.tell();
    Ok(())
}

/// A leaf about it: whoever notifies people reads the log.
fn tell(services: &Services, alert: &Alert) -> Result<(), Failure> {
    let Alert { agent, request, leaf, tool, at, assessment } = alert;
    let decision = json!({
        "agent": agent, "request_id": request, "leaf": leaf.to_string(), "tool": tool, "at": at.rfc3339(),
        "score": assessment.score, "asks": assessment.asks, "mode": assessment.mode,
        "reasons": assessment.reasons.iter().map(|reason| reason.name.name()).collect::<Vec<_>>(),
        "said": alert.said(),
    });
    let act = Act::Record { tool: ALERT.into(), decision };
    let stamp = clock::stamp(clock::fresh_request_id());
    services.setup.store.apply(vec![Command { stamp, actor: monitor(), act }])?;
    tracing::warn!(%agent, score = assessment.score, "the monitor raised an alert");
    if let Ok(log) = services.log() {
        log.notify();
    }
    Ok(())
}
