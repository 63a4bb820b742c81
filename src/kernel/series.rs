//! What a live view shows over time: how many decisions with which outcomes, refusals by name, postings, latencies.
//!
//! Counts are kept in buckets of a second, a minute and an hour, each kind in a ring of fixed size: memory has a bound
//! whatever happens. A bucket's place in its ring follows from its time, and it says which time that is; so a clock that
//! goes back or jumps ahead makes nothing wrong: what is found under another time than asked is as if it were not there.
//!
//! Nothing known is not zero: what the log says is known between two instants ([`Known`]), what a daemon looks at itself
//! only in buckets in which it did, and everything else is null.

mod bucket;
pub mod heard;
pub mod latency;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use crate::kernel::types::UnixMillis;
use bucket::{Bucket, NameId, OTHERS, Ring};
use heard::{Alert, Came, Heard, Money};
use latency::Latencies;

/// Leaves get their places some hundredths of a second after they were made: the newest seconds are not told yet.
pub const SETTLE_S: i64 = 1;
/// A leaf that is further ahead than this is from a clock that was set back since; it is counted nowhere.
const AHEAD_MS_MAX: i64 = 60_000;
/// Names of refusals that are told apart; what comes beyond them is `others`.
const NAMES_MAX: usize = 512;
const NAME_BYTES_MAX: usize = 64;
/// Refusals that are told by name for a range.
const TOLD_NAMES_MAX: usize = 20;
/// Newest alerts that are kept whole.
const ALERTS_MAX: usize = 20;

/// A bucket's length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Second,
    Minute,
    Hour,
}

impl Step {
    pub fn seconds(self) -> i64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
        }
    }
}

/// What a chart is drawn of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Range {
    Minute,
    QuarterHour,
    Hour,
    Day,
    Week,
    Month,
}

impl Range {
    pub const ALL: [Self; 6] = [Self::Minute, Self::QuarterHour, Self::Hour, Self::Day, Self::Week, Self::Month];

    /// `1m`, `15m`, `1h`, `24h`, `7d`, `30d`
    pub fn name(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::QuarterHour => "15m",
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Month => "30d",
        }
    }

    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|range| range.name() == name)
    }

    fn steps(self) -> (Step, i64) {
        match self {
            Self::Minute => (Step::Second, 60),
            Self::QuarterHour => (Step::Second, 900),
            Self::Hour => (Step::Minute, 60),
            Self::Day => (Step::Minute, 1_440),
            Self::Week => (Step::Hour, 168),
            Self::Month => (Step::Hour, 720),
        }
    }
}

/// How much of the log is known here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    pub since: UnixMillis,
    pub first: First,
    /// Up to when the log was read.
    pub until: UnixMillis,
}

/// What is before the first leaf that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum First {
    /// Nothing: the log begins there.
    OfTheLog,
    /// Leaves that were not read.
    OfTheWindow,
}

/// What a daemon has seen of itself since it looked last.
#[derive(Clone, Debug)]
pub struct Sampled {
    /// The time that this is about.
    pub over_ms: u32,
    pub signatures: u32,
    pub agents: u32,
    pub latencies: Latencies,
}

/// The buckets of one daemon.
#[derive(Debug)]
pub struct Series {
    seconds: Ring,
    minutes: Ring,
    hours: Ring,
    names: Names,
    known: Option<Known>,
    alerts: VecDeque<Alert>,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            seconds: Ring::new(Step::Second, 900 + SETTLE_S + 1),
            minutes: Ring::new(Step::Minute, 1_440 + 1),
            hours: Ring::new(Step::Hour, 720 + 1),
            names: Names::default(),
            known: None,
            alerts: VecDeque::new(),
        }
    }
}

impl Series {
    /// Counts what a leaf tells.
    pub fn hear(&mut self, heard: &Heard, now: UnixMillis) {
        let refusals: Vec<(NameId, u32)> =
            heard.refusals.iter().map(|(name, count)| (self.names.id(name), *count)).collect();
        self.each(heard.at, now, |bucket| {
            if let Some(came) = heard.came {
                bucket.came(came);
            }
            match heard.money {
                Money::Moved => bucket.posted = bucket.posted.saturating_add(1),
                Money::Stayed => {}
            }
            refusals.iter().for_each(|(name, count)| bucket.refused(*name, *count));
            if heard.alert.is_some() {
                bucket.alerts = bucket.alerts.saturating_add(1);
            }
        });
        if let Some(alert) = &heard.alert {
            let place = self.alerts.partition_point(|known| known.at <= alert.at);
            self.alerts.insert(place, alert.clone());
            if self.alerts.len() > ALERTS_MAX {
                self.alerts.pop_front();
            }
        }
    }

    /// Counts a leaf that nobody can read any more, by the time of the one before it.
    pub fn unread(&mut self, at: UnixMillis, now: UnixMillis) {
        self.each(at, now, |bucket| bucket.unread = bucket.unread.saturating_add(1));
    }

    /// Counts what the daemon has seen of itself just now.
    pub fn sample(&mut self, sampled: &Sampled, now: UnixMillis) {
        // In the middle of its time: looks that are a little early or late leave no second without one.
        self.each(now.plus_ms(-i64::from(sampled.over_ms) / 2), now, |bucket| bucket.sample(sampled));
    }

    /// Says how much of the log is known now.
    pub fn know(&mut self, known: Known) {
        self.known = Some(known);
    }

    pub fn known(&self) -> Option<Known> {
        self.known
    }

    fn each(&mut self, at: UnixMillis, now: UnixMillis, count: impl Fn(&mut Bucket)) {
        if at.0 > now.0.saturating_add(AHEAD_MS_MAX) {
            return;
        }
        // A little ahead is another machine's clock: it counts as now.
        let (at_s, now_s) = (at.0.min(now.0).div_euclid(1_000), now.0.div_euclid(1_000));
        for ring in [&mut self.seconds, &mut self.minutes, &mut self.hours] {
            if let Some(bucket) = ring.bucket_mut(at_s, now_s) {
                count(bucket);
            }
        }
    }

    /// The newest second that is told, exclusively.
    fn end_s(now: UnixMillis) -> i64 {
        now.0.div_euclid(1_000) - SETTLE_S
    }

    fn ring(&self, step: Step) -> &Ring {
        match step {
            Step::Second => &self.seconds,
            Step::Minute => &self.minutes,
            Step::Hour => &self.hours,
        }
    }

    /// Columns for a chart, one place a bucket; null is what nobody knows.
    ///
    /// `{range, from, step_s, newest_s, known_since, t, posted, decisions: {name: […]}, refusals: [{name, count}], unread, p50, p95,
    /// p99, signatures, agents, calls, alerts}`. Times are seconds since 1970. `posted`, `calls`, `alerts` and each of `decisions` are
    /// counts of their bucket, of which the newest is `newest_s` seconds long so far; `signatures` are a second; `p50` and the others are
    /// milliseconds.
    pub fn columns(&self, range: Range, now: UnixMillis) -> Value {
        let (step, count) = range.steps();
        let (step_s, end_s) = (step.seconds(), Self::end_s(now));
        // The bucket of the newest second that is told is the last one.
        let last = (end_s - 1).div_euclid(step_s);
        let from = last - count + 1;
        let ring = self.ring(step);
        let nothing = Bucket::default();
        let told: Vec<Told<'_>> = (from..=last)
            .map(|number| Told {
                start_s: number * step_s,
                bucket: ring.bucket(number).unwrap_or(&nothing),
                is_known: self.knows(number * step_s, (number + 1) * step_s, end_s),
            })
            .collect();
        let mut total = Bucket::default();
        told.iter().filter(|told| told.is_known).for_each(|told| total.merge(told.bucket));
        let heard = |of: &dyn Fn(&Bucket) -> u32| -> Vec<Option<u32>> {
            told.iter().map(|told| told.is_known.then(|| of(told.bucket))).collect()
        };
        let seen = |of: &dyn Fn(&Bucket) -> Value| -> Vec<Value> { told.iter().map(|told| of(told.bucket)).collect() };
        let decisions: serde_json::Map<String, Value> = Came::ALL
            .into_iter()
            .filter(|came| total.count_of(*came) > 0)
            .map(|came| (came.name().to_owned(), json!(heard(&|bucket| bucket.count_of(came)))))
            .collect();
        json!({
            "range": range.name(), "from": from * step_s, "step_s": step_s, "newest_s": end_s - last * step_s,
            "known_since": self.known.map(|known| known.since.rfc3339()),
            "t": told.iter().map(|told| told.start_s).collect::<Vec<_>>(),
            "posted": heard(&|bucket| bucket.posted), "decisions": decisions, "alerts": heard(&|bucket| bucket.alerts),
            "refusals": self.names.told(&total), "unread": total.unread,
            "p50": seen(&|bucket| milliseconds(&bucket.latencies, 500)),
            "p95": seen(&|bucket| milliseconds(&bucket.latencies, 950)),
            "p99": seen(&|bucket| milliseconds(&bucket.latencies, 990)),
            "calls": seen(&Bucket::calls), "signatures": seen(&Bucket::signatures_a_second), "agents": seen(&Bucket::agents),
        })
    }

    /// Figures of the newest `seconds` that are told, at most a quarter of an hour: the members of [`Series::columns`], one value each
    /// instead of a column. `posted` and `decisions` are null when the log is not known for all of that time.
    pub fn newest(&self, seconds: i64, now: UnixMillis) -> Value {
        let end_s = Self::end_s(now);
        let from_s = end_s - seconds;
        let mut total = Bucket::default();
        (from_s..end_s).filter_map(|second| self.seconds.bucket(second)).for_each(|bucket| total.merge(bucket));
        let is_known = self.knows(from_s, end_s, end_s);
        let decisions: serde_json::Map<String, Value> =
            Came::ALL.into_iter().map(|came| (came.name().to_owned(), json!(total.count_of(came)))).collect();
        json!({
            "t": from_s, "seconds": seconds, "posted": is_known.then_some(total.posted),
            "decisions": is_known.then_some(decisions), "refusals": is_known.then(|| self.names.told(&total)),
            "alerts": is_known.then_some(total.alerts), "unread": total.unread,
            "p50": milliseconds(&total.latencies, 500), "p95": milliseconds(&total.latencies, 950),
            "p99": milliseconds(&total.latencies, 990),
            "calls": total.calls(), "signatures": total.signatures_a_second(), "agents": total.agents(),
        })
    }

    /// Alerts: how many in the last 24 hours, null when the log is not known so far back, and the newest ones, newest first.
    pub fn alerts(&self, now: UnixMillis) -> Value {
        let end_s = Self::end_s(now);
        let last = (end_s - 1).div_euclid(60);
        let day = (last - 1_439)..=last;
        let is_known = self.knows(day.start() * 60, end_s, end_s);
        let count: u64 =
            day.filter_map(|minute| self.minutes.bucket(minute)).map(|bucket| u64::from(bucket.alerts)).sum();
        let items: Vec<Value> = self
            .alerts
            .iter()
            .rev()
            .map(|alert| {
                let Alert { at, kind, about, said } = alert;
                json!({ "at": at.rfc3339(), "kind": kind.name(), "about": about, "said": said })
            })
            .collect();
        json!({ "day": is_known.then_some(count), "known": count, "items": items })
    }

    /// Whether the log is known for a bucket, as far as that is over.
    fn knows(&self, start_s: i64, end_s: i64, told_s: i64) -> bool {
        self.known.is_some_and(|Known { since, first, until }| {
            let begins = match first {
                // Before the first leaf of a log nothing was decided.
                First::OfTheLog => since.0 < end_s * 1_000,
                First::OfTheWindow => since.0 <= start_s * 1_000,
            };
            begins && end_s.min(told_s) * 1_000 <= until.0
        })
    }
}

struct Told<'a> {
    start_s: i64,
    bucket: &'a Bucket,
    is_known: bool,
}

fn milliseconds(latencies: &Latencies, permille: u64) -> Value {
    latencies.quantile_us(permille).map_or(Value::Null, |took_us| json!(hundredths(took_us / 10)))
}

/// A number of hundredths as a decimal one.
fn hundredths(hundredths: u64) -> f64 {
    // Exact below 2^53: latencies and rates are far below.
    hundredths as f64 / 100.0
}

/// Names of refusals, numbered.
#[derive(Debug, Default)]
struct Names {
    by_name: BTreeMap<String, NameId>,
    names: Vec<String>,
}

impl Names {
    fn id(&mut self, name: &str) -> NameId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        if self.names.len() >= NAMES_MAX || name.len() > NAME_BYTES_MAX {
            return OTHERS;
        }
        self.names.push(name.to_owned());
        // 1 and above: 0 stands for the others.
        let id = NameId(u16::try_from(self.names.len()).unwrap_or(0));
        self.by_name.insert(name.to_owned(), id);
        id
    }

    /// The most frequent ones, and how many others there were.
    fn told(&self, total: &Bucket) -> Vec<Value> {
        let mut named: Vec<(&str, u32)> = Vec::new();
        let mut others = 0_u32;
        for (id, count) in total.refusals() {
            match usize::from(id.0).checked_sub(1).and_then(|place| self.names.get(place)) {
                Some(name) => named.push((name, count)),
                None => others = others.saturating_add(count),
            }
        }
        named.sort_by(|(one, of_one), (other, of_other)| of_other.cmp(of_one).then(one.cmp(other)));
        let beyond = named.split_off(named.len().min(TOLD_NAMES_MAX));
        others = beyond.iter().fold(others, |sum, (_, count)| sum.saturating_add(*count));
        let rest = (others > 0).then_some(("others", others));
        named.into_iter().chain(rest).map(|(name, count)| json!({ "name": name, "count": count })).collect()
    }
}
