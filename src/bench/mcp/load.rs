//! Callers that ask one thing after the other, each over a connection of its own, for a time.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bench::line::Line;
use crate::bench::served::failed;
use crate::ops::failure::Failure;

/// What each caller asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    Balance,
    /// Authorize a transfer, then execute it: two calls.
    Payment,
}

/// What came of it.
pub(super) struct Measured {
    /// Balances, or payments, a second.
    pub(super) per_second: f64,
    /// Milliseconds of each, sorted.
    millis: Vec<f64>,
}

impl Measured {
    pub(super) fn percentile(&self, of: f64) -> f64 {
        let last = self.millis.len().saturating_sub(1);
        // Both are small and not negative.
        let index = (last as f64 * of).ceil() as usize;
        self.millis.get(index).copied().unwrap_or(f64::NAN)
    }
}

/// Has every line ask for this long. `round` keeps the idempotency keys of each measurement apart.
///
/// # Errors
/// `bench_failed` for an answer that is not what was asked for.
pub(super) async fn closed_loop(
    lines: &[Line],
    asked: Asked,
    time: Duration,
    round: &str,
) -> Result<Measured, Failure> {
    let callers: Vec<_> = lines
        .iter()
        .enumerate()
        .map(|(number, line)| tokio::spawn(caller(line.clone(), asked, time, format!("{round}-{number}"))))
        .collect();
    let (mut millis, mut per_second) = (vec![], 0.0);
    for caller in callers {
        let (done, seconds): (Vec<f64>, f64) = caller.await.map_err(|error| failed(&error))??;
        per_second += done.len() as f64 / seconds;
        millis.extend(done);
    }
    millis.sort_by(f64::total_cmp);
    Ok(Measured { per_second, millis })
}

async fn caller(mut line: Line, asked: Asked, time: Duration, name: String) -> Result<(Vec<f64>, f64), Failure> {
    // The handshake and the token are not measured.
    once(&mut line, asked, &format!("{name}-first")).await?;
    let (mut millis, begun) = (vec![], Instant::now());
    while begun.elapsed() < time {
        let start = Instant::now();
        once(&mut line, asked, &format!("{name}-{}", millis.len())).await?;
        millis.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok((millis, begun.elapsed().as_secs_f64()))
}

async fn once(line: &mut Line, asked: Asked, key: &str) -> Result<(), Failure> {
    match asked {
        Asked::Balance => {
            let answer = call(line, "get_account_balance", &json!({ "account_id": "CHK_001" })).await?;
            expect(&answer, answer["currency"] == "USD")
        }
        Asked::Payment => {
            let order = json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": "0.01" });
            let mut authorized = order.clone();
            authorized["idempotency_key"] = json!(key);
            let answer = call(line, "authorize_transfer", &authorized).await?;
            expect(&answer, answer["status"] == "approved")?;
            let mut executed = order;
            executed["transaction_id"] = answer["transaction_id"].clone();
            let answer = call(line, "execute_transfer", &executed).await?;
            expect(&answer, answer["status"] == "executed")
        }
    }
}

async fn call(line: &mut Line, tool: &str, arguments: &Value) -> Result<Value, Failure> {
    let mut answer = line.call(tool, arguments).await.map_err(|error| failed(&error))?;
    let content = answer["result"]["structuredContent"].take();
    if content.is_object() { Ok(content) } else { Err(failed(&answer)) }
}

fn expect(answer: &Value, is_it: bool) -> Result<(), Failure> {
    if is_it { Ok(()) } else { Err(failed(answer)) }
}
