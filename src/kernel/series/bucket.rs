//! One bucket of a series, and the ring that buckets of one length live in.

use serde_json::{Value, json};

use super::heard::Came;
use super::latency::Latencies;
use super::{Sampled, Step, hundredths};

/// Names that one bucket tells apart.
const NAMES_A_BUCKET: usize = 64;

/// A refusal's name, by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct NameId(pub(super) u16);

/// All that are not told apart.
pub(super) const OTHERS: NameId = NameId(0);

/// What happened in one bucket's time.
#[derive(Clone, Default, Debug)]
pub(super) struct Bucket {
    came: [u32; Came::ALL.len()],
    pub(super) posted: u32,
    /// In the order of names; at most [`NAMES_A_BUCKET`] and the others.
    refusals: Vec<(NameId, u32)>,
    pub(super) alerts: u32,
    pub(super) unread: u32,
    pub(super) latencies: Latencies,
    signatures: u32,
    agents_max: u32,
    /// For how long the daemon has looked at itself. None of it: signatures and agents are not known.
    sampled_ms: u32,
}

impl Bucket {
    pub(super) fn came(&mut self, came: Came) {
        let count = &mut self.came[came as usize];
        *count = count.saturating_add(1);
    }

    pub(super) fn count_of(&self, came: Came) -> u32 {
        self.came[came as usize]
    }

    pub(super) fn refused(&mut self, name: NameId, count: u32) {
        match self.refusals.binary_search_by_key(&name, |(known, _)| *known) {
            Ok(place) => {
                let sum = &mut self.refusals[place].1;
                *sum = sum.saturating_add(count);
            }
            Err(place) if self.refusals.len() < NAMES_A_BUCKET || name == OTHERS => {
                self.refusals.insert(place, (name, count));
            }
            Err(_) => self.refused(OTHERS, count),
        }
    }

    pub(super) fn refusals(&self) -> impl Iterator<Item = (NameId, u32)> {
        self.refusals.iter().copied()
    }

    pub(super) fn sample(&mut self, sampled: &Sampled) {
        self.latencies.merge(&sampled.latencies);
        self.signatures = self.signatures.saturating_add(sampled.signatures);
        self.agents_max = self.agents_max.max(sampled.agents);
        self.sampled_ms = self.sampled_ms.saturating_add(sampled.over_ms);
    }

    /// Everything of the other one as well.
    pub(super) fn merge(&mut self, other: &Self) {
        for (count, more) in self.came.iter_mut().zip(other.came) {
            *count = count.saturating_add(more);
        }
        other.refusals().for_each(|(name, count)| self.refused(name, count));
        self.latencies.merge(&other.latencies);
        self.posted = self.posted.saturating_add(other.posted);
        self.alerts = self.alerts.saturating_add(other.alerts);
        self.unread = self.unread.saturating_add(other.unread);
        self.signatures = self.signatures.saturating_add(other.signatures);
        self.agents_max = self.agents_max.max(other.agents_max);
        self.sampled_ms = self.sampled_ms.saturating_add(other.sampled_ms);
    }

    /// To hundredths.
    pub(super) fn signatures_a_second(&self) -> Value {
        let rate = (u64::from(self.signatures) * 100_000).checked_div(u64::from(self.sampled_ms));
        rate.map_or(Value::Null, |rate| json!(hundredths(rate)))
    }

    pub(super) fn agents(&self) -> Value {
        if self.sampled_ms == 0 { Value::Null } else { json!(self.agents_max) }
    }

    /// Calls of tools that were answered here.
    pub(super) fn calls(&self) -> Value {
        if self.sampled_ms == 0 { Value::Null } else { json!(self.latencies.calls()) }
    }
}

/// The newest buckets of one length. A bucket's place is its number modulo their count.
#[derive(Debug)]
pub(super) struct Ring {
    step: Step,
    /// With the number of each, since 1970. Grows up to the count it was made with.
    places: Vec<Option<(i64, Box<Bucket>)>>,
}

impl Ring {
    pub(super) fn new(step: Step, count: i64) -> Self {
        Self { step, places: (0..count).map(|_| None).collect() }
    }

    fn place(&self, number: i64) -> usize {
        let count = i64::try_from(self.places.len()).unwrap_or(i64::MAX);
        usize::try_from(number.rem_euclid(count)).unwrap_or(0)
    }

    /// The bucket of a second that is neither ahead of now nor too old to be kept.
    pub(super) fn bucket_mut(&mut self, at_s: i64, now_s: i64) -> Option<&mut Bucket> {
        let (number, newest) = (at_s.div_euclid(self.step.seconds()), now_s.div_euclid(self.step.seconds()));
        let count = i64::try_from(self.places.len()).unwrap_or(i64::MAX);
        if number > newest || number <= newest - count {
            return None;
        }
        let place = self.place(number);
        let slot = &mut self.places[place];
        // Whatever has another number there is too old, or from a time that the clock has taken back.
        if slot.as_ref().is_none_or(|(found, _)| *found != number) {
            *slot = Some((number, Box::default()));
        }
        slot.as_mut().map(|(_, bucket)| &mut **bucket)
    }

    /// The bucket of this number, if anything was counted in it.
    pub(super) fn bucket(&self, number: i64) -> Option<&Bucket> {
        let slot = self.places[self.place(number)].as_ref();
        slot.filter(|(found, _)| *found == number).map(|(_, bucket)| &**bucket)
    }
}
