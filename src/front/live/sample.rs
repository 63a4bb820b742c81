//! What a daemon sees of itself: signatures, connections, latencies each second; what the store says of breaker and log
//! each second while somebody watches, and now and then otherwise.

use serde_json::{Value, json};

use crate::front::services::Services;
use crate::kernel::series::Sampled;
use crate::ops::clock;

/// Between two looks at the store while nobody watches.
const UNWATCHED_MS: i64 = 10_000;

/// What was found the last time.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    /// How many signatures there were, and when: boot clock, milliseconds.
    signed: Option<(u64, i64)>,
    looked: Looked,
    /// When: boot clock, milliseconds.
    looked_at: Option<i64>,
}

/// What the store said. Null: it did not answer, or there is none of it at such a party.
#[derive(Debug, Default)]
pub(super) struct Looked {
    pub(super) breaker: Value,
    pub(super) waiting: Value,
    pub(super) log: Value,
}

impl Sampler {
    /// None the first time: nobody knows since when.
    pub(super) fn sample(&mut self, services: &Services) -> Option<Sampled> {
        let (signatures, now) = (services.setup.hsm.health().signatures, clock::boot_ms());
        let latencies = services.call_times.take();
        let (before, then) = self.signed.replace((signatures, now))?;
        Some(Sampled {
            over_ms: u32::try_from(now - then).unwrap_or(0),
            signatures: u32::try_from(signatures.saturating_sub(before)).unwrap_or(u32::MAX),
            agents: u32::try_from(services.connections.count()).unwrap_or(u32::MAX),
            latencies,
        })
    }

    /// What the store says: asked now when somebody watches.
    pub(super) fn look(&mut self, services: &Services, watching: usize) {
        let now = clock::boot_ms();
        if watching > 0 || self.looked_at.is_none_or(|at| now - at >= UNWATCHED_MS) {
            self.looked_at = Some(now);
            self.looked = Looked::at(services);
        }
    }

    pub(super) fn looked(&self) -> &Looked {
        &self.looked
    }
}

impl Looked {
    fn at(services: &Services) -> Self {
        let stopped = services.payments().and_then(|payments| payments.stopped()).ok();
        let (breaker, waiting) = stopped.map_or((Value::Null, Value::Null), |stopped| {
            let named = |names: &[&str]| -> Value {
                names.iter().map(|name| ((*name).to_owned(), stopped[*name].clone())).collect()
            };
            let breaker = named(&["state", "stopped", "reason", "causes", "since", "by", "node"]);
            (breaker, json!({ "cases": stopped["cases_waiting"], "orders": stopped["orders_waiting"] }))
        });
        let log = services.log().and_then(|log| log.state()).map_or(Value::Null, |state| json!(state));
        Self { breaker, waiting, log }
    }
}
