//! Chance that is the same everywhere: SplitMix64 (Steele, Lea, Flood 2014) in whole numbers.

/// A seeded source of numbers.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

/// 2^(i/16) as 1,024ths.
const STEPS: [i64; 16] =
    [1_024, 1_069, 1_117, 1_166, 1_218, 1_272, 1_328, 1_387, 1_448, 1_512, 1_579, 1_649, 1_722, 1_798, 1_878, 1_961];

impl Dice {
    /// One of many streams of a seed: what one actor draws does not depend on the others.
    pub(super) fn of(seed: u64, stream: u64) -> Self {
        let mut dice = Self(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        dice.next();
        dice
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `least` to `most`, both included.
    pub(super) fn between(&mut self, least: i64, most: i64) -> i64 {
        let width = most.abs_diff(least).saturating_add(1);
        least + i64::try_from(self.next() % width).unwrap_or(0)
    }

    /// True in so many of a hundred cases.
    pub(super) fn percent(&mut self, percent: i64) -> bool {
        self.between(1, 100) <= percent
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.next() % (of.len() as u64)).unwrap_or(0)]
    }

    /// An amount around `median`: near it mostly, at times `2^octaves` times as much or as little.
    pub(super) fn around(&mut self, median: i64, octaves: i64) -> i64 {
        let width = octaves * 8;
        let steps: i64 = (0..4).map(|_| self.between(-width, width)).sum::<i64>() / 2;
        let (whole, part) = (steps.div_euclid(16), steps.rem_euclid(16));
        let scaled = median * STEPS[usize::try_from(part).unwrap_or(0)] / 1_024;
        let amount = if whole >= 0 { scaled << whole.min(20) } else { scaled >> (-whole).min(20) };
        amount.max(1)
    }
}
