//! How long calls took, in buckets whose bounds grow by √2: merging is addition, and a percentile is right to within 41 %.

/// 0.1 ms up to 18.5 s; what took longer is in one more.
pub const BOUNDS: usize = 36;
pub const BUCKETS: usize = BOUNDS + 1;

/// The upper end of a bucket, microseconds: 100, 141, 200, 282, …
pub const fn bound_us(bucket: usize) -> u64 {
    let base = if bucket.is_multiple_of(2) { 100 } else { 141 };
    base << (bucket / 2)
}

/// The bucket of a call that took so long.
pub fn bucket_of(took_us: u64) -> usize {
    (0..BOUNDS).find(|bucket| took_us <= bound_us(*bucket)).unwrap_or(BOUNDS)
}

/// Counted calls by how long they took.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Latencies {
    counts: [u32; BUCKETS],
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: [0; BUCKETS] }
    }
}

impl Latencies {
    pub fn of(counts: [u32; BUCKETS]) -> Self {
        Self { counts }
    }

    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
    }

    pub fn calls(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    /// Microseconds that so many of a thousand calls took at most, between a bucket's bounds by proportion; of calls
    /// beyond the last bound that bound. None: there were none.
    pub fn quantile_us(&self, permille: u64) -> Option<u64> {
        let calls = self.calls();
        let rank = (calls * permille.min(1_000)).div_ceil(1_000).max(1);
        let mut before = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            let count = u64::from(*count);
            if before + count < rank {
                before += count;
                continue;
            }
            let low = bucket.checked_sub(1).map_or(0, bound_us);
            let high = bound_us(bucket.min(BOUNDS - 1)).max(low);
            return Some(low + (high - low) * (rank - before) / count);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_has_the_first_bucket_that_holds_it() {
        for (took_us, bucket) in [
            (0, 0),
            (100, 0),
            (101, 1),
            (141, 1),
            (142, 2),
            (200, 2),
            (18_481_152, 35),
            (18_481_153, 36),
            (u64::MAX, 36),
        ] {
            assert_eq!(bucket_of(took_us), bucket, "{took_us}");
        }
        assert!((1..BOUNDS).all(|bucket| bound_us(bucket) > bound_us(bucket - 1)));
    }

    fn of(took_us: &[u64]) -> Latencies {
        let mut counts = [0; BUCKETS];
        took_us.iter().for_each(|took_us| counts[bucket_of(*took_us)] += 1);
        Latencies::of(counts)
    }

    #[test]
    fn percentiles_lie_in_the_bucket_of_their_rank() {
        assert_eq!(Latencies::default().quantile_us(500), None);
        assert_eq!(of(&[90]).quantile_us(500), Some(100));
        assert_eq!(of(&[u64::MAX]).quantile_us(990), Some(bound_us(BOUNDS - 1)), "no more than is known");
        let many: Vec<u64> = (1..=1_000).map(|number| number * 100).collect();
        let many = of(&many);
        for (permille, exact) in [(500, 50_000_u64), (950, 95_000), (990, 99_000)] {
            let told = many.quantile_us(permille).unwrap();
            assert!(told.abs_diff(exact) * 100 <= exact * 41, "{permille}: {told}");
        }
        assert!(many.quantile_us(0) <= many.quantile_us(500) && many.quantile_us(500) <= many.quantile_us(9_999));
    }

    #[test]
    fn merging_is_addition() {
        let (one, other) = (of(&[1, 150, 9_000]), of(&[150, 70_000_000]));
        let mut both = one.clone();
        both.merge(&other);
        assert_eq!(both, of(&[1, 150, 9_000, 150, 70_000_000]));
        let mut full = Latencies::of([u32::MAX; BUCKETS]);
        full.merge(&both);
        assert_eq!(full, Latencies::of([u32::MAX; BUCKETS]), "a count stays at its end");
    }
}
