//! Arrivals at a fixed rate, however long the answers take: transactions, reads at half of what is possible, and far
//! more reads than that.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

use serde::Serialize;

use super::calls::Balances;
use super::load::{self, Asked, percentile};
use super::over;
use super::overload::{self, Overload};
use super::pace::{Arrival, Server, arrivals};
use super::stage::Stage;
use crate::bench::figures::{Goal, Spread, figure};
use crate::bench::line::Line;
use crate::bench::load::repeat_when;
use crate::bench::served::failed;
use crate::kernel::command::{Act, Actor, Command, FreshIds, ToolCall};
use crate::kernel::types::Sha256;
use crate::ops::clock;
use crate::ops::failure::Failure;

const BALANCE_P99_MAX_MS: f64 = 10.0;
const AUTHORIZE_P99_MAX_MS: f64 = 25.0;
const EXECUTE_P99_MAX_MS: f64 = 50.0;
/// So much of the rate has to be reached to say that it was held.
const HELD_MIN: f64 = 0.99;
/// What everything but the commit may add.
const ADDED_MAX_MS: f64 = 2.0;

/// All that arrived.
#[derive(Clone, Debug, Serialize)]
pub struct Open {
    pub transactions: Transactions,
    pub half_load: HalfLoad,
    pub overload: Overload,
}

/// A balance, an authorization and its execution each, on one connection.
#[derive(Clone, Debug, Serialize)]
pub struct Transactions {
    /// A second.
    pub asked: u32,
    pub reached: Spread,
    /// From when the transaction was to begin.
    pub balance: Times,
    /// Each from the answer before.
    pub authorize: Times,
    pub execute: Times,
}

#[derive(Clone, Debug, Serialize)]
pub struct Times {
    pub p50_ms: Spread,
    pub p99_ms: Spread,
}

/// Balances at half of the rate that closed loops reach, by the bank, by the bare server, and by the store alone.
#[derive(Clone, Debug, Serialize)]
pub struct HalfLoad {
    pub per_second: f64,
    pub p99_ms: Spread,
    pub bare_p99_ms: Spread,
    /// The decisions of these balances, each waiting for its commit.
    pub commit_p99_ms: Spread,
    pub added_p99_ms: Spread,
    /// Added beyond the commit.
    pub beyond_commit_ms: Spread,
}

/// # Errors
/// `bench_stopped`, `bench_failed`
pub(super) fn measure(stage: &Stage<'_>, calls: Option<&Balances>) -> Result<Open, Failure> {
    let full = match calls {
        Some(calls) => calls.per_second.median,
        None => stage.closed_loop(&stage.lines(stage.plan.connections)?, Asked::Balance, "full")?.per_second,
    };
    Ok(Open {
        transactions: transactions(stage)?,
        half_load: half_load(stage, full / 2.0)?,
        overload: overload::measure(stage, full)?,
    })
}

/// An agent that reads, authorizes and executes. Milliseconds of each.
struct Payer {
    line: Line,
    round: u32,
}

impl Server for Payer {
    type Done = [f64; 3];

    async fn serve(&mut self, arrival: Arrival) -> Result<[f64; 3], Failure> {
        load::balance(&mut self.line).await?;
        let (balance, read) = (arrival.millis(), Instant::now());
        let key = format!("open-{}-{}", self.round, arrival.number);
        let transaction = load::authorize(&mut self.line, &key).await?;
        let (authorize, authorized) = (read.elapsed(), Instant::now());
        load::execute(&mut self.line, &transaction).await?;
        let millis = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        Ok([balance, millis(authorize), millis(authorized.elapsed())])
    }
}

fn transactions(stage: &Stage<'_>) -> Result<Transactions, Failure> {
    let mut rounds = vec![];
    for round in 1..=stage.plan.rounds {
        (stage.tell)(&format!("{} transactions a second, round {round} of {}", stage.plan.rate, stage.plan.rounds));
        stage.stop.check()?;
        let lines = stage.lines(stage.plan.connections)?;
        let served = stage.runtime.block_on(async {
            let lines = load::connected(&lines).await?;
            let payers = lines.into_iter().map(|line| Payer { line, round }).collect();
            arrivals(payers, f64::from(stage.plan.rate), stage.time()).await
        })?;
        let times = [0, 1, 2].map(|call| served.sorted(|done| done[call]));
        rounds.push((served.rate(), times));
    }
    let times = |call: usize| Times {
        p50_ms: over(&rounds, |(_, times)| percentile(&times[call], 0.5)),
        p99_ms: over(&rounds, |(_, times)| percentile(&times[call], 0.99)),
    };
    Ok(Transactions {
        asked: stage.plan.rate,
        reached: over(&rounds, |(rate, _)| *rate),
        balance: times(0),
        authorize: times(1),
        execute: times(2),
    })
}

/// Reads one balance after the other. Milliseconds of each.
struct Reader {
    line: Line,
}

impl Server for Reader {
    type Done = f64;

    async fn serve(&mut self, arrival: Arrival) -> Result<f64, Failure> {
        load::balance(&mut self.line).await?;
        Ok(arrival.millis())
    }
}

fn half_load(stage: &Stage<'_>, rate: f64) -> Result<HalfLoad, Failure> {
    let bare = stage.bare_lines(stage.plan.connections)?;
    let p99_of = |lines: &[Line]| -> Result<f64, Failure> {
        stage.stop.check()?;
        let served = stage.runtime.block_on(async {
            let readers = load::connected(lines).await?.into_iter().map(|line| Reader { line }).collect();
            arrivals(readers, rate, stage.time()).await
        })?;
        Ok(percentile(&served.sorted(|millis| *millis), 0.99))
    };
    let mut rounds = vec![];
    for round in 1..=stage.plan.rounds {
        (stage.tell)(&format!("{rate:.0} balances a second, half load, round {round} of {}", stage.plan.rounds));
        let bare = p99_of(&bare)?;
        let ours = p99_of(&stage.lines(stage.plan.connections)?)?;
        rounds.push((ours, bare, commit_p99(stage, rate)?));
    }
    Ok(HalfLoad {
        per_second: rate,
        p99_ms: over(&rounds, |(ours, ..)| *ours),
        bare_p99_ms: over(&rounds, |(_, bare, _)| *bare),
        commit_p99_ms: over(&rounds, |(.., commit)| *commit),
        added_p99_ms: over(&rounds, |(ours, bare, _)| ours - bare),
        beyond_commit_ms: over(&rounds, |(ours, bare, commit)| ours - bare - commit),
    })
}

/// The store decides the same balances at the same rate, with nothing before it.
fn commit_p99(stage: &Stage<'_>, rate: f64) -> Result<f64, Failure> {
    let (services, callers) = (&stage.site.bank.services, stage.plan.connections.min(COMMIT_CALLERS));
    let rules = services.payments()?.rules();
    let agents: Vec<Actor> = stage
        .agents()
        .iter()
        .map(|agent| services.accept(&agent.chain).map(|agent| Actor::Agent(agent.principal().clone())))
        .collect::<Result<_, _>>()
        .map_err(|refusal| failed(&refusal))?;
    let decide = |caller: u32, _: u64| -> Result<(), Failure> {
        let account_id = "CHK_001".parse().map_err(|error| failed(&error))?;
        let act = Act::Tool {
            call: ToolCall::GetAccountBalance { account_id },
            rules: rules.clone(),
            fresh: fresh_ids()?,
            risk: None,
        };
        let mut stamp = clock::stamp(clock::fresh_request_id());
        stamp.nonce = Some(Sha256(clock::random()));
        let command = Command { stamp, actor: agents[caller as usize % agents.len()].clone(), act };
        let decided = stage.site.bank.store.apply(vec![command])?;
        if decided.iter().all(|decision| decision.outcome.is_ok()) { Ok(()) } else { Err(failed(&"a refused balance")) }
    };
    // Moments are fixed when the first caller asks for its own: they all begin together.
    let begun: Mutex<Option<Instant>> = Mutex::new(None);
    let due = |caller: u32, turn: u64| {
        let begun = *begun.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
        let number = turn * u64::from(callers) + u64::from(caller);
        Some(begun + std::time::Duration::from_secs_f64(number as f64 / rate))
    };
    let turns = repeat_when(callers, stage.time(), stage.stop, &due, decide)?;
    Ok(turns.percentile_us(99) / 1e3)
}

/// Threads that wait for the store.
const COMMIT_CALLERS: u32 = 64;

fn fresh_ids() -> Result<FreshIds, Failure> {
    Ok(FreshIds {
        transaction: clock::fresh_id("txn_").parse().map_err(|error| failed(&error))?,
        approval: clock::fresh_id("apr_").parse().map_err(|error| failed(&error))?,
        case: clock::fresh_id("case_").parse().map_err(|error| failed(&error))?,
        nonce: Sha256(clock::random()),
    })
}

impl Open {
    pub(super) fn goals(&self) -> Vec<Goal> {
        let transactions = &self.transactions;
        let asked = f64::from(transactions.asked);
        let p99 = |what: &str, times: &Times, most| {
            Goal::at_most(
                format!("{what} p99, {} a second arriving", transactions.asked),
                times.p99_ms.median,
                most,
                "ms",
            )
        };
        let half = &self.half_load;
        let mut goals = vec![
            Goal::at_least("transactions a second".into(), transactions.reached.median, asked * HELD_MIN),
            p99("balance", &transactions.balance, BALANCE_P99_MAX_MS),
            p99("authorize", &transactions.authorize, AUTHORIZE_P99_MAX_MS),
            p99("execute", &transactions.execute, EXECUTE_P99_MAX_MS),
            Goal::at_most(
                "half load: added p99, with the commit's".into(),
                half.added_p99_ms.median,
                half.commit_p99_ms.median + ADDED_MAX_MS,
                "ms",
            ),
        ];
        goals.extend(self.overload.goals());
        goals
    }

    pub(super) fn text(&self) -> String {
        let (transactions, half) = (&self.transactions, &self.half_load);
        let times = |what: &str, times: &Times| {
            [figure(&format!("{what}, p50"), &times.p50_ms, "ms"), figure(&format!("{what}, p99"), &times.p99_ms, "ms")]
                .concat()
        };
        let one = format!("a transaction, {} a second arriving", transactions.asked);
        [
            figure("transactions: balance, authorize, execute", &transactions.reached, "/s"),
            times(&format!("{one}: balance"), &transactions.balance),
            times("authorize", &transactions.authorize),
            times("execute", &transactions.execute),
            format!("half load: {:.0} balances a second arriving\n", half.per_second),
            figure("half load: a balance, p99", &half.p99_ms, "ms"),
            figure("half load: a bare call, p99", &half.bare_p99_ms, "ms"),
            figure("half load: the store's commit alone, p99", &half.commit_p99_ms, "ms"),
            self.overload.text(),
        ]
        .concat()
    }
}
