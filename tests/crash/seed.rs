//! Where chance comes from, so that a failure can be had again.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// The run's seed: `CRASH_SEED`, or a new one.
pub fn seed() -> u64 {
    static SEED: LazyLock<u64> = LazyLock::new(|| match std::env::var("CRASH_SEED") {
        Ok(text) => text.parse().expect("CRASH_SEED is a number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| u64::from(since.subsec_nanos())),
    });
    *SEED
}

/// How many rounds a random part has: `CRASH_RUNS`, or what is right for every change.
pub fn runs(slice: u64) -> u64 {
    std::env::var("CRASH_RUNS").map_or(slice, |text| text.parse().expect("CRASH_RUNS is a number"))
}

/// SplitMix64, one stream a purpose.
pub struct Chance(u64);

impl Chance {
    pub fn new(purpose: &str) -> Self {
        let mut chance = Self(seed());
        for byte in purpose.bytes() {
            chance.0 = chance.next() ^ u64::from(byte);
        }
        chance
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
