//! What opens the breaker by itself, and what closes it again: plain state without threads, clock or I/O.
//!
//! Observations go in with their time (boot clock, milliseconds), orders come out. A cause stands from the moment its
//! evidence is complete, whether its order was carried out or not, until the order to lift it was: so that nothing that
//! fails on the way lets money move. After a cause is lifted it needs evidence anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::settings::{AGENTS_MAX, Automatic, BreakerSettings, SAMPLES_MAX};
use crate::kernel::breaker::Cause;
use crate::kernel::types::Sha256;

/// A cause that comes back within this time is probed more slowly than before.
const RELAPSE_MS: i64 = 600_000;

/// Whether something did what it is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reached {
    Yes,
    No,
}

/// What was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// The token's pool: some worker answers, or none.
    Hsm(Reached),
    /// A commit and how long it took; one that failed took longer than any limit.
    Commit { took_ms: i64 },
    /// An order to the core, by the hash of its transaction's id: whether it had a word.
    Core { order: Sha256, reached: Reached },
    /// An alert about this agent.
    Alert(String),
    /// The audit log's witness: why it stops money now, if it does.
    Witness(Option<String>),
    /// The reserved space of the disk: why no new work is taken now, if it is not.
    Disk(Option<String>),
    /// What a probe of this cause came to.
    Probe(Cause, Reached),
}

/// What has to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// Record that it stands. Said again each turn until `Detector::opened`.
    Open { cause: Cause, reason: String },
    /// Record that it is lifted, then say `Detector::lifted`. Said again each turn until then.
    Lift { cause: Cause },
    /// Look whether it is gone and say [`Seen::Probe`].
    Probe { cause: Cause },
}

/// How a cause that stands is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    pub cause: Cause,
    pub reason: String,
    /// Boot clock, milliseconds.
    pub since_ms: i64,
    /// Whether its leaf is durable.
    pub is_recorded: bool,
    /// Probes that succeeded in a row, and how many have to.
    pub succeeded: u32,
    pub needed: u32,
    pub next_probe_ms: i64,
}

#[derive(Debug)]
struct Standing {
    reason: String,
    since_ms: i64,
    is_recorded: bool,
    /// The pause that it began with; it also has to be gone for so long.
    first_pause_ms: i64,
    pause_ms: i64,
    next_probe_ms: i64,
    succeeded: u32,
    first_success_ms: i64,
    /// Its evidence was forgotten with the order to lift it: what is there came after.
    is_lift_ordered: bool,
}

/// What is remembered of a cause.
#[derive(Debug, Default)]
struct Watch {
    standing: Option<Standing>,
    /// When it was lifted, and with which pause it had begun.
    before: Option<(i64, i64)>,
}

/// The machine.
#[derive(Debug)]
pub struct Detector {
    settings: BreakerSettings,
    hsm_away_since: Option<i64>,
    commits: VecDeque<(i64, i64)>,
    /// Each order once, with what it came to last.
    orders: VecDeque<(i64, Sha256, Reached)>,
    /// Different orders without a word since the last one that had one, and since when.
    silent: (BTreeSet<Sha256>, i64),
    alerts: BTreeMap<String, i64>,
    /// Why the witness stops money, as last seen.
    witness: Option<String>,
    /// The same of the disk.
    disk: Option<String>,
    watches: BTreeMap<Cause, Watch>,
}

impl Detector {
    pub fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            hsm_away_since: None,
            commits: VecDeque::new(),
            orders: VecDeque::new(),
            silent: (BTreeSet::new(), 0),
            alerts: BTreeMap::new(),
            witness: None,
            disk: None,
            watches: BTreeMap::new(),
        }
    }

    pub fn see(&mut self, now_ms: i64, seen: Seen) {
        match seen {
            Seen::Hsm(Reached::Yes) => self.hsm_away_since = None,
            Seen::Hsm(Reached::No) => {
                self.hsm_away_since.get_or_insert(now_ms);
                self.failed_again(Cause::HsmDown);
            }
            Seen::Commit { took_ms } => keep(&mut self.commits, (now_ms, took_ms)),
            Seen::Core { order, reached } => self.answered(now_ms, order, reached),
            Seen::Alert(agent) => {
                if self.alerts.len() < AGENTS_MAX as usize || self.alerts.contains_key(&agent) {
                    // What is read in the log may be older than what was seen here.
                    let at = self.alerts.entry(agent).or_insert(now_ms);
                    *at = now_ms.max(*at);
                }
            }
            Seen::Witness(overdue) => {
                if overdue.is_some() {
                    self.failed_again(Cause::WitnessLag);
                }
                self.witness = overdue;
            }
            Seen::Disk(low) => {
                if low.is_some() {
                    self.failed_again(Cause::DiskLow);
                }
                self.disk = low;
            }
            Seen::Probe(cause, reached) => self.probed(now_ms, cause, reached),
        }
    }

    /// What has to be done now.
    pub fn turn(&mut self, now_ms: i64) -> Vec<Order> {
        if self.settings.automatic == Automatic::Off {
            return vec![];
        }
        self.forget(now_ms);
        let mut orders = vec![];
        for cause in AUTOMATIC {
            if self.standing(cause).is_none()
                && let Some(reason) = self.evidence(now_ms, cause)
            {
                self.stand(now_ms, cause, reason, false);
            }
            // Nobody has to look outside for what is seen here.
            if cause == Cause::Anomalies && self.is_due(now_ms, cause) {
                let is_quiet = self.alerts.len().saturating_mul(2) < self.settings.anomalous_agents as usize;
                self.probed(now_ms, cause, if is_quiet { Reached::Yes } else { Reached::No });
            }
            let (needed, recovered_ms) = (self.settings.probe_successes, ms(self.settings.recovered_ms));
            let Some(standing) = self.watches.get_mut(&cause).and_then(|watch| watch.standing.as_mut()) else {
                continue;
            };
            standing.is_lift_ordered = false;
            if !standing.is_recorded {
                orders.push(Order::Open { cause, reason: standing.reason.clone() });
            } else if standing.succeeded >= needed
                && now_ms - standing.first_success_ms >= recovered_ms.max(standing.first_pause_ms)
            {
                standing.is_lift_ordered = true;
                // Not when it is lifted: that is after a commit, and what is seen meanwhile is evidence anew.
                self.forget_evidence(cause);
                orders.push(Order::Lift { cause });
            } else if now_ms >= standing.next_probe_ms && cause != Cause::Anomalies {
                orders.push(Order::Probe { cause });
            }
        }
        orders
    }

    /// It is recorded that a cause stands.
    pub fn opened(&mut self, cause: Cause) {
        if let Some(standing) = self.watches.get_mut(&cause).and_then(|watch| watch.standing.as_mut()) {
            standing.is_recorded = true;
        }
    }

    /// It is recorded that a cause is lifted, by its probes or by a person.
    pub fn lifted(&mut self, now_ms: i64, cause: Cause) {
        let watch = self.watches.entry(cause).or_default();
        let standing = watch.standing.take();
        if let Some(standing) = &standing {
            watch.before = Some((now_ms, standing.first_pause_ms));
        }
        if !standing.is_some_and(|standing| standing.is_lift_ordered) {
            self.forget_evidence(cause);
        }
    }

    /// A cause of the whole bank that another node, or this one before its start, has recorded.
    pub fn adopt(&mut self, now_ms: i64, cause: Cause, reason: &str) {
        if AUTOMATIC.contains(&cause) && self.standing(cause).is_none() {
            self.stand(now_ms, cause, reason.to_owned(), true);
            // What was not seen here cannot be seen to be over before its window is.
            let window_ms = seconds_as_ms(self.settings.anomalies_window_s);
            if let Some(standing) = self.watches.get_mut(&cause).and_then(|watch| watch.standing.as_mut()) {
                standing.first_pause_ms = standing.first_pause_ms.max(window_ms);
                standing.next_probe_ms = now_ms.saturating_add(standing.first_pause_ms);
            }
        }
    }

    pub fn standing(&self, cause: Cause) -> Option<Progress> {
        let standing = self.watches.get(&cause)?.standing.as_ref()?;
        Some(Progress {
            cause,
            reason: standing.reason.clone(),
            since_ms: standing.since_ms,
            is_recorded: standing.is_recorded,
            succeeded: standing.succeeded,
            needed: self.settings.probe_successes,
            next_probe_ms: standing.next_probe_ms,
        })
    }

    /// Every cause that stands, in their order.
    pub fn all_standing(&self) -> Vec<Progress> {
        AUTOMATIC.into_iter().filter_map(|cause| self.standing(cause)).collect()
    }

    /// A probe of commits succeeds below this: well under what opens, so that a store at the limit does not flap.
    pub fn commit_is_fast_ms(&self) -> i64 {
        ms(self.settings.store_slow_ms) / 2
    }

    /// What a commit that failed counts as.
    pub fn commit_failed_ms(&self) -> i64 {
        ms(self.settings.store_slow_ms).saturating_add(1)
    }

    fn stand(&mut self, now_ms: i64, cause: Cause, reason: String, is_recorded: bool) {
        let (base, most) = (ms(self.settings.probe_pause_ms), ms(self.settings.probe_pause_max_ms));
        let watch = self.watches.entry(cause).or_default();
        let relapse = watch.before.filter(|(lifted, _)| now_ms - lifted < RELAPSE_MS);
        let first_pause_ms = relapse.map_or(base, |(_, pause)| pause.saturating_mul(2).min(most));
        watch.standing = Some(Standing {
            reason,
            since_ms: now_ms,
            is_recorded,
            first_pause_ms,
            pause_ms: first_pause_ms,
            next_probe_ms: now_ms + first_pause_ms,
            succeeded: 0,
            first_success_ms: now_ms,
            is_lift_ordered: false,
        });
    }

    fn evidence(&self, now_ms: i64, cause: Cause) -> Option<String> {
        let settings = &self.settings;
        match cause {
            Cause::Operator => None,
            Cause::HsmDown => {
                let away_ms = now_ms - self.hsm_away_since?;
                (away_ms >= ms(settings.hsm_down_ms)).then(|| format!("the HSM has not answered for {away_ms} ms"))
            }
            Cause::StoreSlow => {
                if self.commits.len() < settings.store_samples_min as usize {
                    return None;
                }
                let mut took: Vec<i64> = self.commits.iter().map(|(_, took)| *took).collect();
                let place = (took.len() * 99).div_ceil(100) - 1;
                let (_, p99_ms, _) = took.select_nth_unstable(place);
                (*p99_ms > ms(settings.store_slow_ms))
                    .then(|| format!("commits take {p99_ms} ms (p99 of {})", self.commits.len()))
            }
            Cause::CoreFailing => {
                let (silent, since_ms) = (self.silent.0.len(), self.silent.1);
                if silent >= settings.core_failures as usize && now_ms - since_ms >= ms(settings.core_failing_ms) {
                    return Some(format!(
                        "{silent} different orders in a row had no word from the core banking system"
                    ));
                }
                let all = self.orders.len();
                let without = self.orders.iter().filter(|(.., reached)| *reached == Reached::No).count();
                let is_enough = all >= settings.core_samples_min as usize;
                (is_enough && without * 100 >= all * settings.core_failing_percent as usize)
                    .then(|| format!("{without} of {all} orders had no word from the core banking system"))
            }
            // Whoever measures it has the limits.
            Cause::WitnessLag => self.witness.clone(),
            Cause::DiskLow => self.disk.clone(),
            Cause::Anomalies => {
                let agents = self.alerts.len();
                (agents >= settings.anomalous_agents as usize)
                    .then(|| format!("{agents} agents had an alert within {} s", settings.anomalies_window_s))
            }
        }
    }

    /// One order that is said again and again is one order: it says nothing about the others.
    fn answered(&mut self, now_ms: i64, order: Sha256, reached: Reached) {
        let before = self.orders.iter().position(|(_, known, _)| *known == order);
        let before = before.and_then(|place| self.orders.remove(place)).map(|(_, _, reached)| reached);
        keep(&mut self.orders, (now_ms, order, reached));
        let (silent, since_ms) = &mut self.silent;
        match reached {
            Reached::Yes => self.silent = (BTreeSet::new(), now_ms),
            Reached::No => {
                if silent.is_empty() {
                    *since_ms = now_ms;
                }
                if silent.len() < SAMPLES_MAX as usize {
                    silent.insert(order);
                }
                if before != Some(Reached::No) {
                    self.failed_again(Cause::CoreFailing);
                }
            }
        }
    }

    fn probed(&mut self, now_ms: i64, cause: Cause, reached: Reached) {
        let (base, most) = (ms(self.settings.probe_pause_ms), ms(self.settings.probe_pause_max_ms));
        let Some(standing) = self.watches.get_mut(&cause).and_then(|watch| watch.standing.as_mut()) else {
            return;
        };
        match reached {
            Reached::Yes => {
                if standing.succeeded == 0 {
                    standing.first_success_ms = now_ms;
                }
                standing.succeeded = standing.succeeded.saturating_add(1);
                standing.next_probe_ms = now_ms + base;
            }
            Reached::No => {
                standing.succeeded = 0;
                standing.pause_ms = standing.pause_ms.saturating_mul(2).min(most);
                standing.next_probe_ms = now_ms + standing.pause_ms;
            }
        }
    }

    /// Seen besides the probes: what succeeded before it counts no more.
    fn failed_again(&mut self, cause: Cause) {
        if let Some(standing) = self.watches.get_mut(&cause).and_then(|watch| watch.standing.as_mut()) {
            standing.succeeded = 0;
        }
    }

    fn is_due(&self, now_ms: i64, cause: Cause) -> bool {
        self.standing(cause).is_some_and(|standing| now_ms >= standing.next_probe_ms)
    }

    /// Leaves out what is older than its window.
    fn forget(&mut self, now_ms: i64) {
        let since = |window_s: u64| now_ms.saturating_sub(seconds_as_ms(window_s));
        let (commits, orders) = (since(self.settings.store_window_s), since(self.settings.core_window_s));
        let alerts = since(self.settings.anomalies_window_s);
        while self.commits.front().is_some_and(|(at, _)| *at < commits) {
            self.commits.pop_front();
        }
        while self.orders.front().is_some_and(|(at, ..)| *at < orders) {
            self.orders.pop_front();
        }
        self.alerts.retain(|_, at| *at >= alerts);
    }

    fn forget_evidence(&mut self, cause: Cause) {
        match cause {
            Cause::Operator => {}
            Cause::HsmDown => self.hsm_away_since = None,
            Cause::StoreSlow => self.commits.clear(),
            Cause::CoreFailing => {
                self.orders.clear();
                self.silent = (BTreeSet::new(), 0);
            }
            Cause::Anomalies => self.alerts.clear(),
            Cause::WitnessLag => self.witness = None,
            Cause::DiskLow => self.disk = None,
        }
    }
}

/// What a daemon opens.
pub const AUTOMATIC: [Cause; 6] =
    [Cause::Anomalies, Cause::HsmDown, Cause::StoreSlow, Cause::CoreFailing, Cause::WitnessLag, Cause::DiskLow];

fn keep<T>(samples: &mut VecDeque<T>, sample: T) {
    if samples.len() == SAMPLES_MAX as usize {
        samples.pop_front();
    }
    samples.push_back(sample);
}

fn ms(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

fn seconds_as_ms(seconds: u64) -> i64 {
    ms(seconds.saturating_mul(1_000))
}

#[cfg(test)]
mod tests;
