//! What every measurement ends in: medians with their spread, and goals that were reached or not.

use std::fmt::Write;

use serde::Serialize;

/// Median, least and greatest of all rounds.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

/// A line of what is to be reached.
#[derive(Clone, Debug, Serialize)]
pub struct Goal {
    pub what: String,
    pub goal: String,
    pub measured: String,
    pub reached: bool,
    /// How much of it, in percent; 100 and more when it is reached.
    pub percent: f64,
    /// Why nothing was measured, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_measured: Option<String>,
}

impl Spread {
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else {
            return Self::default();
        };
        let median = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
        Self { median, min: *min, max: *max }
    }
}

impl Goal {
    pub fn at_least(what: String, measured: f64, least: f64) -> Self {
        Self {
            what,
            goal: format!("≥ {least:.2}"),
            measured: format!("{measured:.2}"),
            reached: measured >= least,
            percent: measured / least * 100.0,
            not_measured: None,
        }
    }

    pub fn at_most(what: String, measured: f64, most: f64, unit: &str) -> Self {
        let shown = |value: f64| {
            let value = if most >= 10.0 { format!("{value:.0}") } else { format!("{value:.2}") };
            format!("{value} {unit}").trim_end().to_owned()
        };
        Self {
            what,
            goal: format!("≤ {}", shown(most)),
            measured: shown(measured),
            reached: measured <= most,
            percent: if measured <= 0.0 { 100.0 } else { most / measured * 100.0 },
            not_measured: None,
        }
    }

    /// The same goal where what it is compared with is not there: it is not reached.
    pub fn without_measurement(self, why: &str) -> Self {
        let measured = "-".to_owned();
        Self { measured, reached: false, percent: 0.0, not_measured: Some(why.to_owned()), ..self }
    }
}

/// A line a goal: what was to be reached, what was, and the verdict.
pub fn lines(goals: &[Goal]) -> String {
    let mut text = String::new();
    for goal in goals {
        let verdict = match &goal.not_measured {
            Some(why) => format!("not measured: {why}"),
            None if goal.reached => "reached".to_owned(),
            None => format!("not reached: {:.0} %", goal.percent),
        };
        // Writing into a String does not fail.
        let _ = writeln!(text, "{:<52} {:>10} {:>10}   {verdict}", goal.what, goal.goal, goal.measured);
    }
    text
}

/// A line of a table: the median, and between what the rounds were.
pub fn figure(what: &str, spread: &Spread, unit: &str) -> String {
    format!("{what:<52} {:>10.2} {unit} ({:.2} to {:.2})\n", spread.median, spread.min, spread.max)
}

/// `1 worker`, `2 workers`.
pub fn counted(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_between_the_least_and_the_greatest() {
        let odd = Spread::of(vec![3.0, 1.0, 2.0]);
        assert_eq!((odd.min, odd.median, odd.max), (1.0, 2.0, 3.0));
        assert_eq!(Spread::of(vec![1.0, 2.0]).median, 1.5);
        assert_eq!(Spread::of(vec![]).median, 0.0);
    }

    #[test]
    fn a_missed_goal_says_how_much_of_it_was_reached() {
        let missed = Goal::at_least("x".into(), 0.5, 0.85);
        assert!(!missed.reached && (58.0..59.0).contains(&missed.percent));
        let slow = Goal::at_most("x".into(), 200.0, 100.0, "µs");
        assert_eq!((slow.reached, slow.percent, slow.goal.as_str()), (false, 50.0, "≤ 100 µs"));
        assert!(Goal::at_most("x".into(), 1.5, 2.0, "").reached);
    }

    #[test]
    fn a_goal_without_a_measurement_is_not_reached_and_says_why() {
        let goal = Goal::at_least("x".into(), 9.0, 1.0).without_measurement("nginx is not installed");
        assert!(!goal.reached && goal.percent == 0.0);
        let line = lines(&[goal]);
        assert!(line.ends_with("not measured: nginx is not installed\n") && !line.contains("9.00"), "{line}");
    }
}
