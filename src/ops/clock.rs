//! Time and randomness, read at the edge and passed down as arguments: the kernel never asks for either.

use std::sync::OnceLock;

use crate::kernel::command::Stamp;
use crate::kernel::types::{NodeId, RequestId, UnixMillis};

/// The wall clock.
pub fn now() -> UnixMillis {
    let nanos = time::OffsetDateTime::now_utc().unix_timestamp_nanos();
    UnixMillis(i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX))
}

/// Milliseconds since boot, sleep included (CLOCK_BOOTTIME): the clock that leases and deadlines count on.
pub fn boot_ms() -> i64 {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    at.tv_sec.saturating_mul(1000).saturating_add(at.tv_nsec / 1_000_000)
}

/// True while the wall clock goes on as the boot clock does, to a minute, since this was first asked in this process.
/// What is forgotten for good by the day must not follow a clock that somebody set.
pub fn wall_is_steady() -> bool {
    static APART_MS: OnceLock<i64> = OnceLock::new();
    let apart = now().0.saturating_sub(boot_ms());
    stayed(*APART_MS.get_or_init(|| apart), apart)
}

fn stayed(first_ms: i64, now_ms: i64) -> bool {
    now_ms.abs_diff(first_ms) <= 60_000
}

/// Fresh random bytes from the operating system. Asked each time: a generator of aws-lc's own is seeded from clock
/// jitter for each thread that uses it, which takes tens of milliseconds, and threads of calls come and go.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the system's random source cannot fail: {error}"),
        }
    }
    bytes
}

/// A fresh id: the prefix and a ULID of now, for example `txn_01JD…`.
pub fn fresh_id(prefix: &str) -> String {
    let millis = u64::try_from(now().0).unwrap_or(0);
    format!("{prefix}{}", ulid::Ulid::from_parts(millis, u128::from_be_bytes(random::<16>())))
}

/// A fresh `req_` id.
pub fn fresh_request_id() -> RequestId {
    fresh_id("req_").parse().expect("a fresh id has the form that RequestId asks for")
}

/// A fresh `node_` id.
pub fn fresh_node_id() -> NodeId {
    fresh_id("node_").parse().expect("a fresh id has the form that NodeId asks for")
}

/// Time and salt of a command that begins now.
pub fn stamp(request_id: RequestId) -> Stamp {
    Stamp {
        request_id,
        wall: now(),
        boot_ms: boot_ms(),
        leaf_salt: random(),
        nonce: None,
        signature: None,
        commit_before: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_not_steady_in_either_direction() {
        assert!(wall_is_steady() && wall_is_steady());
        for (first, now, steady) in [
            (0, 59_999, true),
            (0, -60_000, true),
            (0, 60_001, false),
            (1_800_000_000_000, 1_800_000_000_000 - 86_400_000, false),
            (i64::MIN, i64::MAX, false),
        ] {
            assert_eq!(stayed(first, now), steady, "{first} {now}");
        }
    }
}
