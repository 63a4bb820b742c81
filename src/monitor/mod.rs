//! The monitor of a daemon: scores an agent's call before it is decided, and learns from the log what came of it.
//!
//! What it knows is a function of the audit log from one leaf up to another, and both stand beside every score: so the
//! score can be made again, and daemons that share a store see each other's payments. The log is some hundredths of a
//! second behind the commits, at times seconds; what this daemon has taken meanwhile counts as *ahead*, and is written
//! down with the score.

pub mod follow;
#[cfg(test)]
mod interleavings;
mod owed;
mod replay;
pub mod settings;
mod show;

pub use follow::Progress;
pub use owed::{Alert, Order};
pub use replay::REPLAY_SCORES_MAX;

use std::collections::BTreeMap;
use std::sync::PoisonError;

use crate::kernel::canon::canonical_of;
use crate::kernel::command::{AgentPrincipal, Rules, ToolCall};
use crate::kernel::monitor::{Ahead, Asked, Assessment, Consequence, Event, METHOD, Mode, Monitor, Subject};
use crate::kernel::types::{Currency, Money, RequestId, Sha256, UnixMillis};
use crate::ops::failure::Failure;
use crate::ops::sync::{Mutex, MutexGuard};
use owed::Owed;
use settings::MonitorSettings;

/// Hexadecimal digits of the rules' name.
const RULES_DIGITS: usize = 16;
/// Calls of one agent that count as ahead; more are a burst anyway.
const AHEAD_CALLS_MAX: usize = 1_000;
/// What has no leaf by then was not committed.
const AHEAD_MS: i64 = 60_000;

/// The live monitor. Every method is quick but those that read the log.
#[derive(Debug)]
pub struct Watch {
    settings: MonitorSettings,
    /// Names the rules in every score.
    rules: String,
    /// Guards what is known; never held across a call of the store.
    shared: Mutex<Shared>,
}

#[derive(Debug)]
struct Shared {
    monitor: Monitor,
    /// The log as far as it is known: from this leaf on, up to that one, which is not.
    from: u64,
    seen: u64,
    ahead: BTreeMap<Subject, Vec<Flight>>,
    owed: Owed,
}

/// A payment that was scored here and has no leaf yet.
#[derive(Clone, Debug)]
struct Flight {
    request: RequestId,
    at: UnixMillis,
    amount: Money,
}

impl Watch {
    /// One that knows nothing yet. None: it is off.
    ///
    /// # Errors
    /// `config_invalid` when a setting is out of its range.
    pub fn new(settings: &MonitorSettings) -> Result<Option<Self>, Failure> {
        let invalid = |what: String| Failure::usage("config_invalid", what, "correct countersign.toml");
        settings.check().map_err(invalid)?;
        if settings.mode == Mode::Off {
            return Ok(None);
        }
        let canonical = canonical_of(&settings.rules).map_err(|refused| invalid(refused.to_string()))?;
        let mut rules = Sha256::of(&[METHOD, &canonical]).hex();
        rules.truncate(RULES_DIGITS);
        let monitor = Monitor::new(settings.rules.clone());
        let shared = Shared { monitor, from: 0, seen: 0, ahead: BTreeMap::new(), owed: Owed::default() };
        Ok(Some(Self { settings: settings.clone(), rules, shared: Mutex::new(shared) }))
    }

    /// The monitor's word on a call that is about to be decided.
    pub fn assess(
        &self,
        agent: &AgentPrincipal,
        call: &ToolCall,
        request: &RequestId,
        at: UnixMillis,
        rules: &Rules,
    ) -> Box<Assessment> {
        let bare = Event::of_call(at, &agent.spiffe_id, call, None, Ahead::default());
        let mut shared = self.lock();
        let mut event = bare;
        if let Asked::Payment { amount, .. } = bare.asked {
            let limit = rules.unattended_per_transaction;
            event.limit_minor = (limit.currency() == amount.currency()).then(|| limit.minor());
            event.ahead = shared.ahead_of(bare.agent, amount.currency(), at);
            shared.took(bare.agent, Flight { request: request.clone(), at, amount });
        }
        let risk = shared.monitor.assess(&event);
        let asks = self.settings.rules.asks(risk.score);
        if asks >= Consequence::Approval {
            shared.owed.decided_here(request);
        }
        Box::new(Assessment {
            ahead: event.ahead,
            asks,
            from: shared.from,
            limit_minor: event.limit_minor,
            mode: self.settings.mode,
            own: risk.own,
            reasons: risk.reasons,
            rules: self.rules.clone(),
            score: risk.score,
            seen: shared.seen,
        })
    }

    /// Whether many agents with such an alert are a reason to stop the bank's payments.
    pub fn is_anomaly(&self, alert: &Alert) -> bool {
        alert.assessment.is_anomaly(&self.settings.rules)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// What was taken from an agent and has no leaf yet.
    fn ahead_of(&mut self, agent: Subject, currency: Currency, now: UnixMillis) -> Ahead {
        let Some(flights) = self.ahead.get_mut(&agent) else {
            return Ahead::default();
        };
        flights.retain(|flight| flight.at.plus_ms(AHEAD_MS) > now);
        let same = flights.iter().filter(|flight| flight.amount.currency() == currency);
        let (count, minor) = same.fold((0_u32, 0_i64), |(count, minor), flight| {
            (count.saturating_add(1), minor.saturating_add(flight.amount.minor()))
        });
        if flights.is_empty() {
            self.ahead.remove(&agent);
        }
        Ahead { minor, payments: count }
    }

    fn took(&mut self, agent: Subject, flight: Flight) {
        let flights = self.ahead.entry(agent).or_default();
        if flights.len() < AHEAD_CALLS_MAX {
            flights.push(flight);
        }
    }

    /// The leaf of a request is there.
    fn landed(&mut self, agent: Subject, request: &str) {
        if let Some(flights) = self.ahead.get_mut(&agent) {
            flights.retain(|flight| flight.request.as_str() != request);
            if flights.is_empty() {
                self.ahead.remove(&agent);
            }
        }
    }
}
