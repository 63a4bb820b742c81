//! Which transfers are asked for, by how many callers, and how fast they are answered.

use std::time::{Duration, Instant};

use super::Transfer;
use crate::bench::load;
use crate::bench::stop::Stop;
use crate::ops::clock;
use crate::ops::failure::Failure;

/// Callers of a closed loop; with more in flight each hands over several transfers at once.
const CALLERS_MAX: u32 = 64;
/// Callers of a paced loop: enough that one that waits does not slow the pace.
pub const PACED_CALLERS: u32 = 64;
const DAY_MS: i64 = 86_400_000;

/// How many transfers are under way, and in how many hands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    pub callers: u32,
    /// Transfers that a caller hands over at once.
    pub together: u32,
}

/// Who pays whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spreading {
    /// Any account another one.
    Uniform,
    /// Any account the first one.
    HotMerchant,
}

/// What a loop reached.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// Acknowledged.
    pub transfers: u64,
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// What a transfer cost this process, its callers included.
    pub processor_us: f64,
}

impl Shape {
    /// So many transfers in flight.
    pub fn of(in_flight: u32) -> Self {
        let callers = in_flight.clamp(1, CALLERS_MAX);
        Self { callers, together: in_flight.div_ceil(callers) }
    }

    pub fn in_flight(self) -> u32 {
        self.callers * self.together
    }
}

/// Every caller hands over, waits for the answer, and hands over again.
///
/// # Errors
/// The first failure of a caller, or `bench_stopped`.
pub fn closed(
    shape: Shape,
    time: Duration,
    stop: &Stop,
    work: impl Fn(u32, u64) -> Result<(), Failure> + Sync,
) -> Result<Speed, Failure> {
    Ok(speed(&load::repeat(shape.callers, time, stop, work)?, shape.together))
}

/// Callers who together hand over so many transfers a second, whatever the answers take. A turn that begins late,
/// because the one before took too long, is timed from when it was due.
///
/// # Errors
/// The first failure of a caller, or `bench_stopped`.
pub fn paced(
    per_second: f64,
    time: Duration,
    stop: &Stop,
    work: impl Fn(u32, u64) -> Result<(), Failure> + Sync,
) -> Result<Speed, Failure> {
    let interval = Duration::from_secs_f64(f64::from(PACED_CALLERS) / per_second.max(1.0));
    let began = Instant::now();
    let due = |caller: u32, number: u64| {
        Some(began + interval.mul_f64(number as f64 + f64::from(caller) / f64::from(PACED_CALLERS)))
    };
    Ok(speed(&load::repeat_when(PACED_CALLERS, time, stop, &due, work)?, 1))
}

fn speed(turns: &load::Turns, together: u32) -> Speed {
    let transfers = turns.times_ns.len() as u64 * u64::from(together);
    Speed {
        transfers,
        processor_us: turns.processor_seconds * 1e6 / transfers.max(1) as f64,
        per_second: turns.rate() * f64::from(together),
        p50_us: turns.percentile_us(50),
        p99_us: turns.percentile_us(99),
    }
}

/// The transfers of one turn: the same for the same numbers, with keys that no other turn has.
pub fn chosen(run: u64, caller: u32, number: u64, together: u32, spreading: Spreading, accounts: u32) -> Vec<Transfer> {
    let day = i32::try_from(clock::now().0.div_euclid(DAY_MS)).unwrap_or(i32::MAX);
    let transfer = |place: u32| {
        let mut state = mixed(mixed(mixed(run) ^ u64::from(caller)) ^ number) ^ u64::from(place);
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mixed(state)
        };
        let mut key = [0; 32];
        for part in key.as_chunks_mut::<8>().0 {
            *part = next().to_be_bytes();
        }
        let below = |number: u64, limit: u32| u32::try_from(number % u64::from(limit.max(1))).unwrap_or(0);
        let (debit, credit) = match spreading {
            Spreading::Uniform => {
                let debit = below(next(), accounts);
                // Any other account: one to accounts − 1 further on.
                (debit, (debit + 1 + below(next(), accounts - 1)) % accounts)
            }
            Spreading::HotMerchant => (1 + below(next(), accounts - 1), 0),
        };
        Transfer { key, debit, credit, minor: 1, day }
    };
    (0..together).map(transfer).collect()
}

/// The finalizer of SplitMix64: neighbours become strangers.
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The most memory that this process ever had, in MiB; none where the kernel does not tell.
pub fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib: f64 =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn what_is_in_flight_is_spread_over_callers() {
        assert_eq!(Shape::of(1), Shape { callers: 1, together: 1 });
        assert_eq!(Shape::of(64), Shape { callers: 64, together: 1 });
        assert_eq!(Shape::of(1024), Shape { callers: 64, together: 16 });
        assert_eq!(Shape::of(1024).in_flight(), 1024);
    }

    #[test]
    fn no_turn_uses_a_key_of_another_and_nobody_pays_himself() {
        let mut keys = HashSet::new();
        for run in 0..3 {
            for caller in 0..4 {
                for number in 0..50 {
                    for transfer in chosen(run, caller, number, 4, Spreading::Uniform, 3) {
                        assert!(keys.insert(transfer.key));
                        assert!(transfer.debit != transfer.credit && transfer.debit < 3 && transfer.credit < 3);
                    }
                }
            }
        }
        let hot = chosen(0, 0, 0, 100, Spreading::HotMerchant, 3);
        assert!(hot.iter().all(|transfer| transfer.credit == 0 && transfer.debit != 0));
    }
}
