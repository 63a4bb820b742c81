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
#[derive(Clone)]
pub(super) struct Measured {
    /// Balances, or payments, a second.
    pub(super) per_second: f64,
    /// Milliseconds of each, sorted.
    millis: Vec<f64>,
}

impl Measured {
    pub(super) fn percentile(&self, of: f64) -> f64 {
        percentile(&self.millis, of)
    }
}

/// Of sorted figures; 0 where there are none.
pub(super) fn percentile(sorted: &[f64], of: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    // Both are small and not negative.
    let index = (last as f64 * of).ceil() as usize;
    sorted.get(index).copied().unwrap_or_default()
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
    let connected = connected(lines).await?;
    Ok(turns(connected, asked, time, round).await?.1)
}

/// Copies of these lines, each with a connection on which one balance was answered.
///
/// # Errors
/// `bench_failed` for one that was refused.
pub(super) async fn connected(lines: &[Line]) -> Result<Vec<Line>, Failure> {
    let connecting: Vec<_> = lines
        .iter()
        .cloned()
        .map(|mut line| tokio::spawn(async move { balance(&mut line).await.map(|()| line) }))
        .collect();
    let mut connected = vec![];
    for line in connecting {
        connected.push(line.await.map_err(|error| failed(&error))??);
    }
    Ok(connected)
}

/// The same on lines that are connected: handshakes and tokens are not measured. They are given back.
///
/// # Errors
/// As [`closed_loop`].
pub(super) async fn turns(
    lines: Vec<Line>,
    asked: Asked,
    time: Duration,
    round: &str,
) -> Result<(Vec<Line>, Measured), Failure> {
    let callers: Vec<_> = lines
        .into_iter()
        .enumerate()
        .map(|(number, line)| tokio::spawn(caller(line, asked, time, format!("{round}-{number}"))))
        .collect();
    let (mut lines, mut millis, mut per_second) = (vec![], vec![], 0.0);
    for caller in callers {
        let (line, done, seconds): (Line, Vec<f64>, f64) = caller.await.map_err(|error| failed(&error))??;
        per_second += done.len() as f64 / seconds;
        millis.extend(done);
        lines.push(line);
    }
    millis.sort_by(f64::total_cmp);
    Ok((lines, Measured { per_second, millis }))
}

async fn caller(mut line: Line, asked: Asked, time: Duration, name: String) -> Result<(Line, Vec<f64>, f64), Failure> {
    let (mut millis, begun) = (vec![], Instant::now());
    while begun.elapsed() < time {
        let start = Instant::now();
        once(&mut line, asked, &format!("{name}-{}", millis.len())).await?;
        millis.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok((line, millis, begun.elapsed().as_secs_f64()))
}

async fn once(line: &mut Line, asked: Asked, key: &str) -> Result<(), Failure> {
    match asked {
        Asked::Balance => balance(line).await,
        Asked::Payment => {
            let authorized = authorize(line, key).await?;
            execute(line, &authorized).await
        }
    }
}

/// What a read asks.
pub(super) const BALANCE: &str = "get_account_balance";

pub(super) fn balance_arguments() -> Value {
    json!({ "account_id": "CHK_001" })
}

/// # Errors
/// `bench_failed` for another answer than a balance.
pub(super) async fn balance(line: &mut Line) -> Result<(), Failure> {
    let answer = call(line, BALANCE, &balance_arguments()).await?;
    expect(&answer, answer["currency"] == "USD")
}

/// Authorizes the smallest transfer there is; answers its transaction.
///
/// # Errors
/// `bench_failed` when it is not approved.
pub(super) async fn authorize(line: &mut Line, key: &str) -> Result<Value, Failure> {
    let mut order = transfer();
    order["idempotency_key"] = json!(key);
    let mut answer = call(line, "authorize_transfer", &order).await?;
    expect(&answer, answer["status"] == "approved")?;
    Ok(answer["transaction_id"].take())
}

/// # Errors
/// `bench_failed` when it is not executed.
pub(super) async fn execute(line: &mut Line, transaction: &Value) -> Result<(), Failure> {
    let mut order = transfer();
    order["transaction_id"] = transaction.clone();
    let answer = call(line, "execute_transfer", &order).await?;
    expect(&answer, answer["status"] == "executed")
}

fn transfer() -> Value {
    json!({ "from_account": "CHK_001", "to_account": "SAV_001", "amount": "0.01" })
}

async fn call(line: &mut Line, tool: &str, arguments: &Value) -> Result<Value, Failure> {
    let mut answer = line.call(tool, arguments).await.map_err(|error| failed(&error))?;
    let content = answer["result"]["structuredContent"].take();
    if content.is_object() { Ok(content) } else { Err(failed(&answer)) }
}

fn expect(answer: &Value, is_it: bool) -> Result<(), Failure> {
    if is_it { Ok(()) } else { Err(failed(answer)) }
}
