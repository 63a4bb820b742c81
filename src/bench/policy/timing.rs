//! What one call takes: each with a clock around it, and all of them without one.

use std::hint::black_box;
use std::time::Instant;

use serde::Serialize;

use crate::bench::figures::{Spread, figure};

/// Calls before the first one that counts.
const WARM_UP: u32 = 10_000;

/// Microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Taken {
    pub p50_us: Spread,
    pub p99_us: Spread,
    pub max_us: Spread,
    /// Of calls after which nobody looks at the clock.
    pub mean_us: Spread,
}

impl Taken {
    /// Does `work` for the numbers from 0 on, `calls` of them in each of `rounds`.
    pub(super) fn by<T>(
        calls: u32,
        rounds: u32,
        mut work: impl FnMut(usize) -> T,
        mut progress: impl FnMut(u32),
    ) -> Self {
        let (mut p50, mut p99, mut max, mut mean) = (vec![], vec![], vec![], vec![]);
        for at in 0..WARM_UP as usize {
            black_box(work(at));
        }
        for round in 1..=rounds {
            progress(round);
            let mut taken: Vec<f64> = (0..calls as usize)
                .map(|at| {
                    let start = Instant::now();
                    black_box(work(black_box(at)));
                    start.elapsed().as_secs_f64() * 1e6
                })
                .collect();
            let start = Instant::now();
            for at in 0..calls as usize {
                black_box(work(black_box(at)));
            }
            mean.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(calls));
            taken.sort_by(f64::total_cmp);
            let at =
                |part: usize| taken.get((taken.len() * part / 100).min(taken.len() - 1)).copied().unwrap_or_default();
            p50.push(at(50));
            p99.push(at(99));
            max.push(at(100));
        }
        Self { p50_us: Spread::of(p50), p99_us: Spread::of(p99), max_us: Spread::of(max), mean_us: Spread::of(mean) }
    }

    pub(super) fn text(&self) -> String {
        let rows = [
            ("p50", &self.p50_us),
            ("p99", &self.p99_us),
            ("max", &self.max_us),
            ("mean, without a clock", &self.mean_us),
        ];
        rows.iter().map(|(what, spread)| figure(what, spread, "µs")).collect()
    }
}
