//! How much later than its answer a payment has its receipt: the batch, then a checkpoint that covers its leaf, both signed
//! by the HSM.

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::load::{authorize, connected, execute};
use super::stage::Stage;
use crate::audit::Log;
use crate::bench::figures::{Goal, Spread, figure};
use crate::bench::line::Line;
use crate::bench::served::failed;
use crate::kernel::types::TransactionId;
use crate::ops::failure::Failure;

/// What a receipt may take at most before the measurement counts as failed.
const DEADLINE: Duration = Duration::from_secs(10);
/// Payments between two looks at the clock.
const AT_LEAST: usize = 20;

/// From the answer of a payment to its receipt, one payment after the other.
#[derive(Clone, Debug, Serialize)]
pub struct Receipts {
    /// A checkpoint is made at least this often while leaves wait.
    pub interval_ms: u64,
    pub payments: usize,
    /// The median of each round.
    pub added_p50_ms: Spread,
    pub added_p99_ms: Spread,
}

/// # Errors
/// `bench_stopped`, `bench_failed`; what keeps a receipt from being made.
pub(super) fn measure(stage: &Stage<'_>) -> Result<Receipts, Failure> {
    let log = stage.site.bank.services.log()?;
    let (mut medians, mut slowest, mut payments) = (vec![], vec![], 0);
    for round in 1..=stage.plan.rounds {
        (stage.tell)(&format!("receipts, round {round} of {}", stage.plan.rounds));
        stage.stop.check()?;
        let lines = stage.lines(1)?;
        let mut added = stage.runtime.block_on(added(&lines, stage.time(), log, round))?;
        added.sort_by(f64::total_cmp);
        medians.push(super::load::percentile(&added, 0.5));
        slowest.push(super::load::percentile(&added, 0.99));
        payments += added.len();
    }
    Ok(Receipts {
        interval_ms: log.checkpoint_interval_ms(),
        payments,
        added_p50_ms: Spread::of(medians),
        added_p99_ms: Spread::of(slowest),
    })
}

async fn added(lines: &[Line], time: Duration, log: &Arc<Log>, round: u32) -> Result<Vec<f64>, Failure> {
    let mut lines = connected(lines).await?;
    let Some(line) = lines.first_mut() else {
        return Err(failed(&"there is no agent"));
    };
    let (mut millis, begun) = (vec![], Instant::now());
    while begun.elapsed() < time || millis.len() < AT_LEAST {
        let authorized = authorize(line, &format!("receipt-{round}-{}", millis.len())).await?;
        execute(line, &authorized).await?;
        let answered = Instant::now();
        let transaction =
            TransactionId::from_str(authorized.as_str().unwrap_or_default()).map_err(|why| failed(&why))?;
        let log = Arc::clone(log);
        let made = tokio::task::spawn_blocking(move || log.receipt(&transaction, DEADLINE).map(|_| answered.elapsed()));
        millis.push(made.await.map_err(|error| failed(&error))??.as_secs_f64() * 1e3);
    }
    Ok(millis)
}

impl Receipts {
    pub(super) fn goals(&self) -> Vec<Goal> {
        let what = "from a payment's answer to its signed receipt, p50";
        vec![Goal::at_most(what.into(), self.added_p50_ms.median, self.interval_ms as f64, "ms")]
    }

    pub(super) fn text(&self) -> String {
        [
            figure("from a payment's answer to its receipt, p50", &self.added_p50_ms, "ms"),
            figure("from a payment's answer to its receipt, p99", &self.added_p99_ms, "ms"),
        ]
        .concat()
    }
}
