//! How many payments, or how much money, there were in the time just past.
//!
//! A window is counted in slots of a twentieth of its length. A payment counts in the slot of its moment, and a window
//! is the slot of now and the twenty before it, which is a little more than the window: the count is never too small,
//! so no window of that length, wherever it begins, holds more than its limit. It may be too large by what happened in
//! one slot more; whoever is refused for that is served a twentieth of the window later.
//!
//! A slot that a clock ahead of ours wrote counts until our clock has passed it by a window.

use std::fmt::Write;

use super::rule::{Subject, TransactionRule};
use crate::kernel::types::{Currency, UnixMillis};

/// Parts in which a window is counted.
pub const SLOTS_OF_A_WINDOW: i64 = 20;
/// Slots that are kept at most; with clocks that agree there are never more than a window has.
const KEPT_MAX: usize = 64;

/// What is counted together: the name of its row. A rule's limits of one window count the same payments once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PaceKey {
    text: String,
    window_s: u32,
    counts_payments: bool,
}

impl PaceKey {
    /// `amount_in`: of money; none: of payments.
    pub fn new(rule: &TransactionRule, window_s: u32, of: Subject, amount_in: Option<Currency>, who: &str) -> Self {
        let counted = amount_in.as_ref().map_or("count", Currency::code);
        let text = format!("{}/{window_s}/{counted}/{}/{who}", rule.name, of.name());
        Self { text, window_s, counts_payments: amount_in.is_none() }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Payments, and not money.
    pub fn counts_payments(&self) -> bool {
        self.counts_payments
    }

    fn slot_ms(&self) -> i64 {
        // Rounded up, so that the slots cover the window.
        (i64::from(self.window_s) * 1_000 + SLOTS_OF_A_WINDOW - 1) / SLOTS_OF_A_WINDOW
    }

    fn slot(&self, at: UnixMillis) -> i64 {
        at.0.div_euclid(self.slot_ms())
    }
}

/// Slots in which something was counted, oldest first.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Pace(Vec<Slot>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Slot {
    number: i64,
    sum: i64,
}

impl Pace {
    /// What was counted in the window that ends now, and at most a slot's worth more.
    pub fn within(&self, key: &PaceKey, now: UnixMillis) -> i64 {
        let oldest = key.slot(now).saturating_sub(SLOTS_OF_A_WINDOW);
        self.0.iter().filter(|slot| slot.number >= oldest).fold(0, |sum, slot| sum.saturating_add(slot.sum))
    }

    /// With this much more in the slot of now, and without what no window from now on sees.
    #[must_use]
    pub fn with(&self, key: &PaceKey, now: UnixMillis, more: i64) -> Self {
        let number = key.slot(now);
        let oldest = number.saturating_sub(SLOTS_OF_A_WINDOW);
        let mut slots: Vec<Slot> = self.0.iter().filter(|slot| slot.number >= oldest).copied().collect();
        match slots.binary_search_by_key(&number, |slot| slot.number) {
            Ok(place) => slots[place].sum = slots[place].sum.saturating_add(more),
            Err(place) => slots.insert(place, Slot { number, sum: more }),
        }
        while slots.len() > KEPT_MAX {
            // Counted longer than it has to be, and never shorter.
            let first = slots.remove(0);
            slots[0].sum = slots[0].sum.saturating_add(first.sum);
        }
        Self(slots)
    }

    /// Everything that is kept.
    pub fn sum(&self) -> i64 {
        self.0.iter().fold(0, |sum, slot| sum.saturating_add(slot.sum))
    }

    /// When no window sees any of it any more.
    pub fn ends(&self, key: &PaceKey) -> UnixMillis {
        let after = self.0.last().map_or(0, |slot| slot.number.saturating_add(SLOTS_OF_A_WINDOW + 1));
        UnixMillis(after.saturating_mul(key.slot_ms()))
    }

    /// As a store keeps it: `slot:sum`, oldest first, with commas.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (place, slot) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            // Writing into a string does not fail.
            let _ = write!(text, "{comma}{}:{}", slot.number, slot.sum);
        }
        text
    }

    /// Reads what [`Pace::text`] wrote; `None` when it is not that.
    pub fn from_text(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        let slots = text.split(',').map(|slot| {
            let (number, sum) = slot.split_once(':')?;
            Some(Slot { number: number.parse().ok()?, sum: sum.parse().ok().filter(|sum| *sum >= 0)? })
        });
        let slots: Vec<Slot> = slots.collect::<Option<_>>()?;
        let in_order = slots.windows(2).all(|pair| pair[0].number < pair[1].number);
        (in_order && slots.len() <= KEPT_MAX).then_some(Self(slots))
    }
}
