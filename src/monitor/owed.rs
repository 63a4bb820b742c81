//! What follows from scores: an alert, and a freeze. Ordered at least once, and until the log shows it.
//!
//! Who scored the call orders what follows. Somebody else does when half a minute has passed and the log shows nothing:
//! that daemon has died. What was ordered and is not in the log after some seconds is ordered again.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::monitor::{Assessment, Consequence, Told, What};
use crate::kernel::types::{RequestId, SpiffeId, UnixMillis};

/// How long the daemon that scored a call has before another one sees to it.
const OTHERS_MS: i64 = 30_000;
/// How long an order has to appear in the log.
const AGAIN_MS: i64 = 10_000;
/// Alerts of one agent are at least so far apart, unless one is graver than the last.
const ALERTS_MS: i64 = 600_000;
/// More are not kept: what floods is alerted already.
const KEPT_MAX: usize = 10_000;

/// What the services carry out.
#[derive(Clone, PartialEq, Debug)]
pub enum Order {
    /// `system:monitor` freezes the agent.
    Freeze(Alert),
    /// A leaf says that somebody should look.
    Alert(Alert),
}

/// Which call it is about.
#[derive(Clone, PartialEq, Debug)]
pub struct Alert {
    pub agent: SpiffeId,
    pub request: String,
    /// The leaf of the call.
    pub leaf: u64,
    pub tool: String,
    pub at: UnixMillis,
    pub assessment: Assessment,
}

impl Alert {
    /// Why, in one line.
    pub fn said(&self) -> String {
        let reasons: Vec<String> = self.assessment.reasons.iter().map(crate::kernel::monitor::Reason::said).collect();
        format!("risk score {}: {}", self.assessment.score, reasons.join("; "))
    }
}

#[derive(Debug, Default)]
pub(super) struct Owed {
    /// Requests that this daemon scored high and that have no leaf yet.
    here: BTreeSet<String>,
    freezes: BTreeMap<SpiffeId, Due>,
    alerts: BTreeMap<String, Due>,
    /// The last alert of each agent.
    last: BTreeMap<SpiffeId, (UnixMillis, Consequence)>,
}

#[derive(Debug)]
struct Due {
    alert: Alert,
    is_ours: bool,
    ordered: Option<UnixMillis>,
}

impl Owed {
    pub(super) fn decided_here(&mut self, request: &RequestId) {
        if self.here.len() >= KEPT_MAX {
            self.here.clear();
        }
        self.here.insert(request.to_string());
    }

    /// Takes in what a leaf tells.
    pub(super) fn told(&mut self, leaf: u64, told: &Told) {
        match &told.what {
            What::Call { agent, tool, assessment: Some(assessment), is_risk_frozen, .. } => {
                let is_ours = self.here.remove(&told.request);
                if assessment.asks == Consequence::Allow {
                    return;
                }
                let alert = Alert {
                    agent: agent.clone(),
                    request: told.request.clone(),
                    leaf,
                    tool: tool.clone(),
                    at: told.at,
                    assessment: assessment.clone(),
                };
                if *is_risk_frozen && self.freezes.len() < KEPT_MAX {
                    let due = Due { alert: alert.clone(), is_ours, ordered: None };
                    self.freezes.entry(agent.clone()).or_insert(due);
                }
                self.owe_alert(alert, is_ours);
            }
            What::Frozen { agent } | What::Thawed { agent, .. } => {
                self.freezes.remove(agent);
            }
            What::Alerted { request } => {
                self.alerts.remove(request);
            }
            What::Call { assessment: None, .. } | What::Other => {}
        }
    }

    fn owe_alert(&mut self, alert: Alert, is_ours: bool) {
        let asks = alert.assessment.asks;
        let is_news = self
            .last
            .get(&alert.agent)
            .is_none_or(|(at, before)| asks > *before || alert.at.0.saturating_sub(at.0) >= ALERTS_MS);
        if !is_news || self.alerts.len() >= KEPT_MAX {
            return;
        }
        if self.last.len() >= KEPT_MAX {
            self.last.clear();
        }
        self.last.insert(alert.agent.clone(), (alert.at, asks));
        self.alerts.insert(alert.request.clone(), Due { alert, is_ours, ordered: None });
    }

    /// What is to be carried out now.
    pub(super) fn orders(&mut self, now: UnixMillis) -> Vec<Order> {
        let is_due = |due: &mut Due| {
            let is_turn = due.is_ours || due.alert.at.plus_ms(OTHERS_MS) <= now;
            let is_time = due.ordered.is_none_or(|at| at.plus_ms(AGAIN_MS) <= now);
            if is_turn && is_time {
                due.ordered = Some(now);
            }
            is_turn && is_time
        };
        let mut orders = vec![];
        for due in self.freezes.values_mut() {
            if is_due(due) {
                orders.push(Order::Freeze(due.alert.clone()));
            }
        }
        for due in self.alerts.values_mut() {
            if is_due(due) {
                orders.push(Order::Alert(due.alert.clone()));
            }
        }
        orders
    }
}
