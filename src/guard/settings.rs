//! `[breaker]`

use serde::{Deserialize, Serialize};

/// Commits or orders that a node remembers at most; older ones leave first. More are never seen together.
pub const SAMPLES_MAX: u32 = 2_048;
/// Agents whose alerts a node remembers at most.
pub const AGENTS_MAX: u32 = 100_000;

/// When payments stop by themselves, and what has to be seen before they go on. `docs/BREAKER.md`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerSettings {
    /// `off`: only people stop payments.
    pub automatic: Automatic,
    /// The token's pool has no worker that answers for so long.
    pub hsm_down_ms: u64,
    /// Of the commits in the window, one in a hundred takes longer. A commit that fails counts as one that does.
    pub store_slow_ms: u64,
    pub store_window_s: u64,
    /// Fewer commits in the window say nothing.
    pub store_samples_min: u32,
    /// So many orders to the core in a row without a word, over at least `core_failing_ms`.
    pub core_failures: u32,
    pub core_failing_ms: u64,
    /// So many of a hundred orders in the window are without a word.
    pub core_failing_percent: u32,
    pub core_window_s: u64,
    /// Fewer orders in the window make no share.
    pub core_samples_min: u32,
    /// So many different agents with an alert in the window. One agent alone never stops the bank.
    pub anomalous_agents: u32,
    pub anomalies_window_s: u64,
    /// Probes that succeed in a row, over at least `recovered_ms`, lift a cause.
    pub probe_successes: u32,
    pub recovered_ms: u64,
    /// Between two probes; doubled after each that fails, and after each cause that comes back, up to the maximum.
    pub probe_pause_ms: u64,
    pub probe_pause_max_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Automatic {
    On,
    Off,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            automatic: Automatic::On,
            hsm_down_ms: 15_000,
            store_slow_ms: 5_000,
            store_window_s: 60,
            store_samples_min: 50,
            core_failures: 5,
            core_failing_ms: 15_000,
            core_failing_percent: 50,
            core_window_s: 120,
            core_samples_min: 20,
            anomalous_agents: 20,
            anomalies_window_s: 300,
            probe_successes: 3,
            recovered_ms: 5_000,
            probe_pause_ms: 1_000,
            probe_pause_max_ms: 60_000,
        }
    }
}

impl BreakerSettings {
    /// What the types cannot say.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn consistent(&self) -> Result<(), String> {
        let numbers = [
            ("hsm_down_ms", self.hsm_down_ms, 100, 3_600_000),
            ("store_slow_ms", self.store_slow_ms, 10, 600_000),
            ("store_window_s", self.store_window_s, 1, 3_600),
            ("store_samples_min", self.store_samples_min.into(), 1, SAMPLES_MAX.into()),
            ("core_failures", self.core_failures.into(), 1, SAMPLES_MAX.into()),
            ("core_failing_ms", self.core_failing_ms, 0, 3_600_000),
            ("core_failing_percent", self.core_failing_percent.into(), 1, 100),
            ("core_window_s", self.core_window_s, 1, 3_600),
            ("core_samples_min", self.core_samples_min.into(), 1, SAMPLES_MAX.into()),
            ("anomalous_agents", self.anomalous_agents.into(), 2, AGENTS_MAX.into()),
            ("anomalies_window_s", self.anomalies_window_s, 1, 86_400),
            ("probe_successes", self.probe_successes.into(), 1, 1_000),
            ("recovered_ms", self.recovered_ms, 0, 3_600_000),
            ("probe_pause_ms", self.probe_pause_ms, 100, 3_600_000),
            ("probe_pause_max_ms", self.probe_pause_max_ms, 100, 3_600_000),
        ];
        for (key, value, least, most) in numbers {
            if !(least..=most).contains(&value) {
                return Err(format!("breaker {key} must be {least} to {most}"));
            }
        }
        if self.probe_pause_max_ms < self.probe_pause_ms {
            return Err("breaker probe_pause_max_ms must not be less than probe_pause_ms".into());
        }
        Ok(())
    }
}
