//! The breaker's orders carried out: recorded with a leaf each, probed, and told to people.

use std::time::Instant;

use serde_json::{Value, json};

use super::story::Payments;
use crate::guard::{AUTOMATIC, Order, Progress, Reached, Seen};
use crate::kernel::breaker::{BreakerState, COMPONENT, Cause, Reach};
use crate::kernel::command::{Act, Actor, Command, OperatorPrincipal, Stamp};
use crate::kernel::types::{Sha256, SpiffeId, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::payment::operators::refused;
use crate::store::Listing;

/// Rows that the probe of the store may release on its way.
const PROBE_ROWS: u32 = 128;

impl Payments {
    /// One turn of the breaker: looks at the token's pool and at what stands in the store, and carries out what follows.
    /// Blocks for as long as its probes take.
    ///
    /// # Errors
    /// The store's, when something that changed could not be recorded; it stays as it is and the next turn tries again.
    pub fn breaker_turn(&self, hsm: Reached) -> Result<(), Failure> {
        self.guard.saw(Seen::Hsm(hsm));
        if let Some(cosigning) = self.cosigning.get() {
            self.guard.saw(Seen::Witness(cosigning.overdue(clock::boot_ms())));
        }
        if let Some(space) = self.space.get() {
            self.guard.saw(Seen::Disk(space.look()));
        }
        // A store that cannot be read changes nothing that is known.
        let mut outcome = self.follow_the_bank();
        for order in self.guard.turn() {
            let done = self.carry_out(order);
            outcome = outcome.and(done);
        }
        outcome
    }

    /// A call of an agent that is a reason to look, as the log has it: many agents with such calls at once stop the bank,
    /// at whichever node they made them.
    pub fn alerted(&self, agent: &SpiffeId, at: UnixMillis) {
        self.guard.alerted_before(agent, clock::now().0.saturating_sub(at.0));
    }

    /// Lifts a cause on a person's word. Answers whether it stood.
    pub(super) fn lift(&self, operator: &OperatorPrincipal, cause: Cause) -> Result<bool, Failure> {
        let stood_here = self.guard.standing().iter().any(|progress| progress.cause == cause);
        let changed = self.done(operator, self.set(cause, None))?;
        self.guard.lifted(cause);
        Ok(match cause.reach() {
            Reach::Bank => changed,
            Reach::Node => stood_here,
        })
    }

    /// Every cause that stops this node, with what its probes say.
    pub(super) fn breaker_view(&self) -> Result<Value, Failure> {
        let mut value = self.store.listing(Listing::Breaker)?.pop().unwrap_or_default();
        let standing = self.guard.standing();
        let mut causes = value["causes"].as_array().cloned().unwrap_or_default();
        for progress in &standing {
            let name = json!(progress.cause);
            match causes.iter_mut().find(|cause| cause["cause"] == name) {
                Some(cause) => cause["probes"] = probes(progress),
                None => causes.push(json!({
                    "cause": progress.cause,
                    "reason": progress.reason,
                    "by": format!("system:{COMPONENT}"),
                    "since": wall(progress.since_ms).rfc3339(),
                    "probes": probes(progress),
                })),
            }
        }
        let known = |cause: &Value| Cause::ALL.into_iter().find(|known| cause["cause"] == known.name());
        causes.sort_by_key(known);
        let recovers = |cause: &Value| cause["probes"]["succeeded"].as_u64().is_some_and(|succeeded| succeeded > 0);
        let state = BreakerState::of(causes.iter().map(recovers));
        for cause in &mut causes {
            if let Some(known) = known(cause) {
                cause["reach"] = json!(known.reach());
                cause["next_step"] = json!(known.next_step());
            }
        }
        let reasons: Vec<&str> = causes.iter().filter_map(|cause| cause["reason"].as_str()).collect();
        value["reason"] = json!((!reasons.is_empty()).then(|| reasons.join("; ")));
        value["state"] = json!(state);
        value["node"] = json!(self.guard.node());
        value["stopped"] = json!(state != BreakerState::Closed);
        for member in ["by", "since"] {
            value[member] = causes.first().map(|cause| cause[member].clone()).unwrap_or_default();
        }
        value["causes"] = json!(causes);
        Ok(value)
    }

    /// What stops the whole bank may have been recorded by another node, or by this one before it was started again.
    fn follow_the_bank(&self) -> Result<(), Failure> {
        let value = self.store.listing(Listing::Breaker)?.pop().unwrap_or_default();
        for cause in AUTOMATIC.into_iter().filter(|cause| cause.reach() == Reach::Bank) {
            let rows = value["causes"].as_array().map(Vec::as_slice).unwrap_or_default();
            let row = rows.iter().find(|row| row["cause"] == cause.name());
            self.guard.follow(cause, row.and_then(|row| row["reason"].as_str()));
        }
        Ok(())
    }

    fn carry_out(&self, order: Order) -> Result<(), Failure> {
        match order {
            Order::Open { cause, reason } => {
                self.record(cause, Some(reason.clone()))?;
                self.guard.opened(cause);
                tracing::error!(cause = cause.name(), %reason, "payments are stopped");
            }
            Order::Lift { cause } => {
                self.record(cause, None)?;
                self.guard.lifted(cause);
                tracing::info!(cause = cause.name(), "a cause that stopped payments is lifted: its probes succeed");
            }
            Order::Probe { cause } => {
                let reached = self.probe(cause);
                tracing::debug!(cause = cause.name(), ?reached, "probed");
                self.guard.saw(Seen::Probe(cause, reached));
            }
        }
        Ok(())
    }

    fn record(&self, cause: Cause, reason: Option<String>) -> Result<(), Failure> {
        let actor = Actor::System { component: COMPONENT.into() };
        let stamp = clock::stamp(clock::fresh_request_id());
        let decision = self.decide(Command { stamp, actor, act: self.set(cause, reason) })?;
        decision.outcome.map(drop).map_err(refused)
    }

    /// A cause of one node alone says which: nothing else in the log does.
    fn set(&self, cause: Cause, reason: Option<String>) -> Act {
        let node = match cause.reach() {
            Reach::Bank => None,
            Reach::Node => Some(self.guard.node().clone()),
        };
        Act::SetBreaker { cause, reason, node }
    }

    /// Whether what a cause speaks of is well again, asked of the thing itself.
    fn probe(&self, cause: Cause) -> Reached {
        let is_well = match cause {
            Cause::HsmDown => self.token.describe().is_ok(),
            Cause::CoreFailing => !matches!(self.core_hears(), Some(Err(_))),
            // The thread that asks the witness goes on asking; here is what it has come to.
            Cause::WitnessLag => {
                self.cosigning.get().is_none_or(|cosigning| cosigning.overdue(clock::boot_ms()).is_none())
            }
            Cause::DiskLow => self.space.get().is_none_or(|space| space.has_recovered()),
            Cause::StoreSlow => return self.probe_store(),
            // Their evidence is here, or with people.
            Cause::Anomalies | Cause::Operator => false,
        };
        if is_well { Reached::Yes } else { Reached::No }
    }

    /// One real commit without a leaf: a sweep that takes a single-use key.
    fn probe_store(&self) -> Reached {
        let request = clock::fresh_request_id();
        let nonce = Some(Sha256::of(&[b"countersign/probe/v1", request.as_str().as_bytes()]));
        let stamp = Stamp { nonce, ..clock::stamp(request) };
        let actor = Actor::System { component: COMPONENT.into() };
        let began = Instant::now();
        match self.decide(Command { stamp, actor, act: Act::Sweep { limit: PROBE_ROWS } }) {
            Ok(_) => self.guard.commit_is_fast(began.elapsed()),
            Err(_) => Reached::No,
        }
    }
}

fn probes(progress: &Progress) -> Value {
    json!({
        "succeeded": progress.succeeded, "needed": progress.needed,
        "next_in_ms": (progress.next_probe_ms - clock::boot_ms()).max(0), "recorded": progress.is_recorded,
    })
}

/// The wall clock's time of an instant of the boot clock.
fn wall(boot_ms: i64) -> UnixMillis {
    clock::now().plus_ms(boot_ms - clock::boot_ms())
}
