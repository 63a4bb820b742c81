//! `[monitor]`

use serde::{Deserialize, Serialize};

use crate::kernel::monitor::{Mode, MonitorRules, SCORE_MAX};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MonitorSettings {
    /// `off`, `observe` (scores and alerts, nothing is held) or `enforce`.
    pub mode: Mode,
    /// How many days of the audit log the monitor knows after a start …
    pub window_days: u16,
    /// … and how many leaves at most.
    pub window_leaves: u32,
    /// `[monitor.rules]`
    pub rules: MonitorRules,
}

impl Default for MonitorSettings {
    fn default() -> Self {
        Self { mode: Mode::Enforce, window_days: 35, window_leaves: 1_000_000, rules: MonitorRules::default() }
    }
}

impl MonitorSettings {
    /// What is wrong, in words.
    ///
    /// # Errors
    /// The first key that is out of its range.
    pub fn check(&self) -> Result<(), String> {
        let Self { window_days, window_leaves, rules, .. } = self;
        if rules.approve_at == 0 || rules.approve_at > rules.freeze_at || rules.freeze_at > SCORE_MAX {
            return Err(format!("[monitor.rules] 0 < approve_at <= freeze_at <= {SCORE_MAX}"));
        }
        if !(1..=366).contains(window_days) || !(1_000..=20_000_000).contains(window_leaves) {
            return Err("[monitor] window_days must be 1 to 366, window_leaves 1000 to 20000000".into());
        }
        if !(1..=1_000_000).contains(&rules.subjects_max) {
            return Err("[monitor.rules] subjects_max must be 1 to 1000000".into());
        }
        Ok(())
    }
}
