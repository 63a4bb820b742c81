//! Balances and payments, one call after the other on each connection, in turns with bare calls.

use serde::Serialize;

use super::load::{Asked, Measured};
use super::over;
use super::stage::Stage;
use crate::bench::figures::{Goal, Spread, figure};
use crate::ops::failure::Failure;

const RATIO_MIN: f64 = 0.38;
/// Half of what two calls may take: 145 µs where a bare one takes 64.
const PAYMENTS_RATIO_MIN: f64 = 0.5 * 64.0 / 145.0;

/// Balances: signed, decided, recorded.
#[derive(Clone, Debug, Serialize)]
pub struct Balances {
    pub bare_per_second: Spread,
    pub bare_p50_ms: Spread,
    pub per_second: Spread,
    pub p50_ms: Spread,
    pub p99_ms: Spread,
    pub ratio: Spread,
}

/// Transfers: authorized and executed.
#[derive(Clone, Debug, Serialize)]
pub struct Payments {
    pub bare_per_second: Spread,
    pub per_second: Spread,
    pub p50_ms: Spread,
    pub p99_ms: Spread,
    /// Two calls each, against as many bare ones.
    pub ratio: Spread,
}

/// Measures what was asked for of the two.
///
/// # Errors
/// `bench_stopped`, `bench_failed`
pub(super) fn measure(
    stage: &Stage<'_>,
    balances: bool,
    payments: bool,
) -> Result<(Option<Balances>, Option<Payments>), Failure> {
    let bare = stage.bare_lines(stage.plan.connections)?;
    let (mut of_balances, mut of_payments) = (vec![], vec![]);
    for round in 1..=stage.plan.rounds {
        (stage.tell)(&format!("calls, round {round} of {}", stage.plan.rounds));
        let ours = stage.lines(stage.plan.connections)?;
        let raw = stage.closed_loop(&bare, Asked::Balance, "bare")?;
        if balances {
            of_balances.push((raw.clone(), stage.closed_loop(&ours, Asked::Balance, "balance")?));
        }
        if payments {
            of_payments.push((raw, stage.closed_loop(&ours, Asked::Payment, &format!("payment-{round}"))?));
        }
    }
    Ok((balances.then(|| Balances::of(&of_balances)), payments.then(|| Payments::of(&of_payments))))
}

impl Balances {
    fn of(rounds: &[(Measured, Measured)]) -> Self {
        Self {
            bare_per_second: over(rounds, |(bare, _)| bare.per_second),
            bare_p50_ms: over(rounds, |(bare, _)| bare.percentile(0.5)),
            per_second: over(rounds, |(_, ours)| ours.per_second),
            p50_ms: over(rounds, |(_, ours)| ours.percentile(0.5)),
            p99_ms: over(rounds, |(_, ours)| ours.percentile(0.99)),
            ratio: over(rounds, |(bare, ours)| ours.per_second / bare.per_second),
        }
    }

    pub(super) fn goals(&self, connections: u32) -> Vec<Goal> {
        let what = format!("balances against a bare server, {connections} connections");
        vec![Goal::at_least(what, self.ratio.median, RATIO_MIN)]
    }

    pub(super) fn text(&self) -> String {
        [
            figure("a bare MCP server", &self.bare_per_second, "calls/s"),
            figure("a bare call, p50", &self.bare_p50_ms, "ms"),
            figure("balances: signed, decided, recorded", &self.per_second, "/s"),
            figure("a balance, p50", &self.p50_ms, "ms"),
            figure("a balance, p99", &self.p99_ms, "ms"),
        ]
        .concat()
    }
}

impl Payments {
    fn of(rounds: &[(Measured, Measured)]) -> Self {
        Self {
            bare_per_second: over(rounds, |(bare, _)| bare.per_second),
            per_second: over(rounds, |(_, ours)| ours.per_second),
            p50_ms: over(rounds, |(_, ours)| ours.percentile(0.5)),
            p99_ms: over(rounds, |(_, ours)| ours.percentile(0.99)),
            ratio: over(rounds, |(bare, ours)| 2.0 * ours.per_second / bare.per_second),
        }
    }

    pub(super) fn goals(&self) -> Vec<Goal> {
        let what = "two calls of a payment against as many bare ones";
        vec![Goal::at_least(what.into(), self.ratio.median, PAYMENTS_RATIO_MIN)]
    }

    pub(super) fn text(&self) -> String {
        [
            figure("payments: authorized and executed", &self.per_second, "/s"),
            figure("a payment, p50", &self.p50_ms, "ms"),
            figure("a payment, p99", &self.p99_ms, "ms"),
        ]
        .concat()
    }
}
