//! What the console shows live: a snapshot a second, made once and shared by all who watch, and series for charts.
//!
//! What was decided is read from the audit log, like everything that is shown of it: the window at the start in the
//! background, then every leaf that comes. Latencies, signatures and connections are this daemon's own, and known since it
//! began to look. One task does both, a turn a second, just after the wall clock's second has begun; no door waits for it.

pub mod follow;
mod sample;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::front::services::Services;
use crate::kernel::command::Settlement;
use crate::kernel::series::{Range, Series};
use crate::kernel::types::UnixMillis;
use crate::ops::clock;
use follow::Follower;
use sample::Sampler;

/// How long one turn may read the log before it says what it has so far.
const READING: Duration = Duration::from_millis(500);
/// How far into a second its turn begins: a timer that is a little early still falls into the right one.
const OFFSET_MS: i64 = 50;
/// A turn that is older than this is not what "now" means any more.
const STALE_MS: i64 = 3_000;

/// Seconds over which rates are told.
const RATE_S: i64 = 10;
const MINUTE_S: i64 = 60;

/// The live view of one daemon.
#[derive(Debug)]
pub struct Live {
    /// Guards the counts; never held across a call of the store or the token.
    series: Mutex<Series>,
    newest: watch::Sender<Arc<str>>,
    /// When the newest turn was, wall clock, milliseconds.
    turned: AtomicI64,
    /// Guards the handle only.
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Live {
    /// Looks at these services once a second from now on, on the current runtime, until `stop`.
    pub fn start(services: Arc<Services>, stop: CancellationToken) -> Arc<Self> {
        let live = Arc::new(Self {
            series: Mutex::default(),
            newest: watch::Sender::new("{}".into()),
            turned: AtomicI64::new(i64::MIN),
            task: Mutex::default(),
        });
        let task = tokio::spawn(turns(Arc::clone(&live), services, stop));
        *live.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        live
    }

    /// Waits until the task that [`Live::start`] began has ended; the token it was given says when.
    pub async fn ended(&self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }

    /// The newest snapshot, JSON; `{}` before there is one.
    pub fn now(&self) -> Arc<str> {
        Arc::clone(&self.newest.borrow())
    }

    /// Moves with every snapshot. Whoever is slow sees the newest one and none of those between.
    pub fn subscribe(&self) -> watch::Receiver<Arc<str>> {
        self.newest.subscribe()
    }

    /// Columns for charts ([`Series::columns`]).
    pub fn series(&self, range: Range) -> Value {
        // As of the newest turn: what came after it nobody has counted. One that is long ago is no excuse for old charts.
        let (now, turned) = (clock::now(), UnixMillis(self.turned.load(Ordering::Relaxed)));
        let is_fresh = (0..STALE_MS).contains(&now.0.saturating_sub(turned.0));
        self.lock().columns(range, if is_fresh { turned } else { now })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Series> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads, looks and tells once.
    fn turn(&self, turn: &mut Turn, services: &Services, stop: &CancellationToken) {
        let (now, end) = (clock::now(), Instant::now() + READING);
        let goes_on = || Instant::now() < end && !stop.is_cancelled();
        let followed = turn.follower.turn(&*services.setup.store, &self.series, now, &goes_on);
        if let Err(fault) = &followed {
            // Said once for each time that it begins to fail: a turn comes every second.
            if !turn.fails {
                tracing::warn!(%fault, "the live view will read the audit log again");
            }
        }
        turn.fails = followed.is_err();
        if let Some(sampled) = turn.sampler.sample(services) {
            self.lock().sample(&sampled, now);
        }
        turn.sampler.look(services, self.newest.receiver_count());
        let snapshot = self.snapshot(turn, services, now).to_string();
        self.turned.store(now.0, Ordering::Relaxed);
        self.newest.send_replace(snapshot.into());
    }

    /// `{at, t, party, kind, reading, known_since, second, rate, minute, alerts, hsm, agents, breaker, waiting, log, missing}`.
    ///
    /// `second`, `rate` and `minute` are [`Series::newest`] of 1, 10 and 60 seconds; `reading` is how far the start is, null
    /// once all of the window is read.
    fn snapshot(&self, turn: &Turn, services: &Services, now: UnixMillis) -> Value {
        let looked = turn.sampler.looked();
        let health = services.setup.hsm.health();
        let reason = health
            .reason
            .map(|failure| json!({ "name": failure.name, "message": failure.message, "next_step": failure.next_step }));
        let series = self.lock();
        json!({
            "at": now.rfc3339(), "t": now.0.div_euclid(1_000),
            "party": services.setup.party, "kind": services.setup.kind,
            "reading": turn.follower.progress().map(|progress| json!({ "leaves": progress.leaves, "of": progress.of })),
            "known_since": series.known().map(|known| known.since.rfc3339()),
            "second": series.newest(1, now), "rate": series.newest(RATE_S, now), "minute": series.newest(MINUTE_S, now),
            "alerts": series.alerts(now),
            "hsm": { "state": health.state, "workers": health.workers, "reason": reason },
            "agents": services.connections.count(),
            "breaker": looked.breaker, "waiting": looked.waiting, "log": looked.log, "missing": services.missing(),
        })
    }
}

/// What one turn leaves for the next.
#[derive(Debug)]
struct Turn {
    follower: Follower,
    sampler: Sampler,
    fails: bool,
}

impl Turn {
    fn new(services: &Services) -> Self {
        let settlement = if services.setup.core.is_some() { Settlement::External } else { Settlement::Embedded };
        Self { follower: Follower::new(settlement), sampler: Sampler::default(), fails: false }
    }
}

async fn turns(live: Arc<Live>, services: Arc<Services>, stop: CancellationToken) {
    let mut turn = Turn::new(&services);
    while !stop.is_cancelled() {
        let (shared, looked_at, stopping) = (Arc::clone(&live), Arc::clone(&services), stop.clone());
        let turned = tokio::task::spawn_blocking(move || {
            shared.turn(&mut turn, &looked_at, &stopping);
            turn
        });
        turn = match turned.await {
            Ok(turn) => turn,
            Err(_) => {
                tracing::error!("the live view met a defect and begins anew");
                // What was counted would be counted twice.
                *live.lock() = Series::default();
                Turn::new(&services)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(until_next(clock::now())) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Until a little into the next second.
fn until_next(now: UnixMillis) -> Duration {
    let into_ms = (now.0 - OFFSET_MS).rem_euclid(1_000);
    Duration::from_millis(u64::try_from(1_000 - into_ms).unwrap_or(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_turn_is_a_little_into_the_next_second() {
        for (now, wait_ms) in [(0, 50), (50, 1_000), (51, 999), (1_049, 1), (999, 51), (-1, 51)] {
            assert_eq!(until_next(UnixMillis(now)), Duration::from_millis(wait_ms), "{now}");
        }
    }
}
