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
use crate::kernel::monitor::{
    Ahead, Asked, Assessment, Consequence, Event, METHOD, Mode, Monitor, Outcome, Subject, Told, What,
};
use crate::kernel::types::{Currency, Money, RequestId, Sha256, SpiffeId, UnixMillis};
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
/// Payments of all agents that count as ahead; while the log stands still more may wait.
const AHEAD_MAX: usize = 200_000;
/// Agents with odd calls that are remembered between two looks.
const ODD_MAX: usize = 10_000;

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
    /// The latest odd call of each agent that nobody was told of yet.
    odd: BTreeMap<SpiffeId, UnixMillis>,
    /// Looks since the log grew.
    still: u32,
    /// The last row without a place that was looked at.
    waiting: i64,
}

/// A payment that was scored here and whose leaf nobody has seen in the log.
#[derive(Clone, Debug)]
struct Flight {
    request: String,
    at: UnixMillis,
    amount: Money,
    /// Its leaf waits for its place.
    is_committed: bool,
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
        let (ahead, owed) = (BTreeMap::new(), Owed::default());
        let odd = BTreeMap::new();
        let shared = Shared { monitor, from: 0, seen: 0, ahead, owed, odd, still: 0, waiting: 0 };
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
            shared.took(bare.agent, Flight { request: request.to_string(), at, amount, is_committed: false });
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

    /// Agents with calls that are no ordinary ones, with the latest of each, since this was asked last: many at once are a
    /// reason to stop the bank's payments.
    pub fn odd(&self) -> BTreeMap<SpiffeId, UnixMillis> {
        std::mem::take(&mut self.lock().odd)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    fn may_count(&self, now: UnixMillis) -> bool {
        self.is_committed || self.at.plus_ms(AHEAD_MS) > now
    }
}

impl Shared {
    /// What was taken from an agent and has no leaf yet.
    fn ahead_of(&mut self, agent: Subject, currency: Currency, now: UnixMillis) -> Ahead {
        let Some(flights) = self.ahead.get_mut(&agent) else {
            return Ahead::default();
        };
        flights.retain(|flight| flight.may_count(now));
        let same = flights.iter().filter(|flight| flight.amount.currency() == currency);
        let ahead = Ahead::of(same.map(|flight| (flight.at, flight.amount.minor())), now);
        if flights.is_empty() {
            self.ahead.remove(&agent);
        }
        ahead
    }

    /// A leaf without a place: whoever scored its call, it counts until the log has it. A payment that was refused, or
    /// that was none, counts no more.
    fn waits(&mut self, told: &Told) {
        let What::Call { event, .. } = &told.what else {
            return;
        };
        let (Asked::Payment { amount, .. }, Outcome::Authorized { .. }) = (event.asked, event.outcome) else {
            return self.landed(event.agent, &told.request);
        };
        let known = self.ahead.get_mut(&event.agent);
        if let Some(flight) = known.and_then(|flights| flights.iter_mut().find(|one| one.request == told.request)) {
            flight.is_committed = true;
        } else if self.ahead.values().map(Vec::len).sum::<usize>() < AHEAD_MAX {
            let flight = Flight { request: told.request.clone(), at: event.at, amount, is_committed: true };
            self.took(event.agent, flight);
        }
    }

    /// Forgets what was never committed.
    fn forget(&mut self, now: UnixMillis) {
        self.ahead.retain(|_, flights| {
            flights.retain(|flight| flight.may_count(now));
            !flights.is_empty()
        });
    }

    fn took(&mut self, agent: Subject, flight: Flight) {
        let flights = self.ahead.entry(agent).or_default();
        if flights.len() < AHEAD_CALLS_MAX {
            flights.push(flight);
        }
    }

    /// A call that no agent in good order makes.
    fn is_odd(&mut self, agent: &SpiffeId, at: UnixMillis) {
        if self.odd.len() < ODD_MAX || self.odd.contains_key(agent) {
            let latest = self.odd.entry(agent.clone()).or_insert(at);
            *latest = at.max(*latest);
        }
    }

    /// The leaf of a request is there.
    fn landed(&mut self, agent: Subject, request: &str) {
        if let Some(flights) = self.ahead.get_mut(&agent) {
            flights.retain(|flight| flight.request != request);
            if flights.is_empty() {
                self.ahead.remove(&agent);
            }
        }
    }
}
