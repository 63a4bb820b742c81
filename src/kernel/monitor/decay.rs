//! Numbers that fade: counts and sums that halve in a fixed time, in whole numbers, so that every machine gets the
//! same ones from the same events.

/// 2^(-i/16) as 65,536ths.
const SIXTEENTHS: [u64; 16] = [
    65_536, 62_757, 60_097, 57_549, 55_109, 52_772, 50_535, 48_393, 46_341, 44_376, 42_495, 40_693, 38_968, 37_316,
    35_734, 34_219,
];

/// One of something in a [`Count`], so that a fading count keeps its fractions.
pub const ONE: u32 = 256;

/// The time in which a number halves. It fades in sixteen steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HalfLife {
    step_ms: i64,
}

impl HalfLife {
    pub const fn minutes(minutes: i64) -> Self {
        Self { step_ms: minutes * 60_000 / 16 }
    }

    pub const fn hours(hours: i64) -> Self {
        Self::minutes(hours * 60)
    }

    pub const fn days(days: i64) -> Self {
        Self::hours(days * 24)
    }

    /// The steps since 1970, as far as they can be counted.
    fn step(self, at_ms: i64) -> u32 {
        u32::try_from((at_ms / self.step_ms).max(0)).unwrap_or(u32::MAX)
    }
}

fn faded(value: u64, steps: u32) -> u64 {
    let halvings = steps / 16;
    if halvings >= 64 {
        return 0;
    }
    let rest = u128::from(value >> halvings) * u128::from(SIXTEENTHS[(steps % 16) as usize]);
    u64::try_from(rest >> 16).unwrap_or(u64::MAX)
}

/// A count that fades, in 256ths ([`ONE`]).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Count {
    value: u32,
    step: u32,
}

impl Count {
    /// What is left of it now. A clock that went back finds it as it was.
    pub fn at(self, half: HalfLife, at_ms: i64) -> u32 {
        let steps = half.step(at_ms).saturating_sub(self.step);
        u32::try_from(faded(u64::from(self.value), steps)).unwrap_or(u32::MAX)
    }

    pub fn add(&mut self, half: HalfLife, at_ms: i64, amount: u32) {
        self.set(half, at_ms, self.at(half, at_ms).saturating_add(amount));
    }

    /// Lifts it to `value` if that is more.
    pub fn raise(&mut self, half: HalfLife, at_ms: i64, value: u32) {
        self.set(half, at_ms, self.at(half, at_ms).max(value));
    }

    fn set(&mut self, half: HalfLife, at_ms: i64, value: u32) {
        *self = Self { value, step: half.step(at_ms) };
    }
}

/// A sum of minor units that fades.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sum {
    value: u64,
    step: u32,
}

impl Sum {
    pub fn at(self, half: HalfLife, at_ms: i64) -> u64 {
        faded(self.value, half.step(at_ms).saturating_sub(self.step))
    }

    pub fn add(&mut self, half: HalfLife, at_ms: i64, amount: u64) {
        *self = Self { value: self.at(half, at_ms).saturating_add(amount), step: half.step(at_ms) };
    }

    pub fn raise(&mut self, half: HalfLife, at_ms: i64, value: u64) {
        *self = Self { value: self.at(half, at_ms).max(value), step: half.step(at_ms) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: HalfLife = HalfLife::hours(1);

    #[test]
    fn a_count_halves_in_its_time_and_is_gone_after_many() {
        let mut count = Count::default();
        count.add(HOUR, 0, 100 * ONE);
        let after = |minutes: i64| count.at(HOUR, minutes * 60_000);
        assert_eq!([after(0), after(60), after(120), after(600)], [25_600, 12_800, 6_400, 25]);
        assert_eq!(after(60 * 64), 0);
        // 2^(-1/2): 18,101.9
        assert_eq!(after(30), 18_101);
    }

    #[test]
    fn a_clock_that_goes_back_or_far_changes_nothing_and_overflows_nothing() {
        let mut count = Count::default();
        count.add(HOUR, 1_000_000_000_000, u32::MAX);
        count.add(HOUR, 1_000_000_000_000, u32::MAX);
        assert_eq!(count.at(HOUR, i64::MIN), u32::MAX);
        assert_eq!(count.at(HOUR, i64::MAX), 0);
        let mut sum = Sum::default();
        sum.add(HOUR, 5, u64::MAX);
        sum.add(HOUR, 5, u64::MAX);
        assert_eq!(sum.at(HOUR, 5), u64::MAX);
        assert_eq!(sum.at(HOUR, 3_600_000), u64::MAX >> 1);
    }
}
