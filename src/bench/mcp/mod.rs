//! `countersign bench mcp`: signed, decided and recorded tool calls, against a bare MCP server over mutual TLS.
//!
//! Real parts: three parties as `countersign init` makes them, with their SoftHSM2 tokens, stores and logs on this file
//! system; the bank's listener with everything that a daemon asks of a request. Client and server are on this machine, in
//! one process, with one allocator. The agents alone are synthetic: their keys are in memory, which the output says.

mod bare;
mod load;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::figures::{Goal, Spread, lines};
use super::line::Line;
use super::served::failed;
use super::site::{self, Site};
use super::stop::Stop;
use super::synthetic;
use crate::ops::failure::Failure;
use bare::Bare;
use load::{Asked, Measured, closed_loop};

/// What is measured, and how much of it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub program: PathBuf,
    pub module: PathBuf,
    /// Connections at once, spread over the agents.
    pub connections: u32,
    pub agents: u32,
    pub rounds: u32,
    /// Seconds of each measurement.
    pub seconds: f64,
    pub directory: PathBuf,
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub connections: u32,
    pub agents: u32,
    pub bare_per_second: Spread,
    pub bare_p50_ms: Spread,
    /// Balances: signed, decided, recorded.
    pub per_second: Spread,
    pub p50_ms: Spread,
    pub p99_ms: Spread,
    pub ratio: Spread,
    /// Authorized and executed.
    pub payments_per_second: Spread,
    pub payment_p50_ms: Spread,
    pub payment_p99_ms: Spread,
    /// Two calls each, against as many bare ones.
    pub payments_ratio: Spread,
    pub goals: Vec<Goal>,
}

const RATIO_MIN: f64 = 0.38;
/// Half of what two calls may take: 145 µs where a bare one takes 64.
const PAYMENTS_RATIO_MIN: f64 = 0.5 * 64.0 / 145.0;

/// Measures.
///
/// # Errors
/// `bench_options_invalid`, `bench_stopped`, and whatever kept a part from working.
pub fn run(plan: &Plan, tell: &(dyn Fn(&str) + Sync)) -> Result<Report, Failure> {
    if plan.agents == 0 || plan.connections < plan.agents {
        return Err(super::invalid("there must be at least one connection for each agent"));
    }
    let stop = Stop::on_signals()?;
    tell("a security company, a bank, an agent host, and agents");
    let site = Site::open(&plan.program, site::prepare(&plan.program, &plan.module, &plan.directory, &stop)?)?;
    site.open_the_bank()?;
    let (host, token) = synthetic::host_of(&site.host)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| failed(&error))?;
    let _inside = runtime.enter();
    let (listener, address) = site.listen()?;
    let root = site.root()?;
    let mut own = vec![];
    for number in 0..plan.agents {
        let name = format!("caller-{number}");
        let (_, identity) = site.enrolled_at(&host, &name)?;
        site.grant(&name)?;
        own.push(Line::of(Arc::clone(&token), &identity, &root, address)?);
    }
    let ours: Vec<Line> = own.iter().cycle().take(plan.connections as usize).cloned().collect();
    let bare = Bare::start(&site)?;
    let raw: Vec<Line> = ours.iter().map(|line| line.clone().bare(bare.address)).collect();

    let time = Duration::from_secs_f64(plan.seconds);
    let measure = |lines: &[Line], asked, name: &str| {
        stop.check()?;
        runtime.block_on(closed_loop(lines, asked, time, name))
    };
    let mut rounds: Vec<[Measured; 3]> = vec![];
    for round in 1..=plan.rounds {
        tell(&format!("round {round} of {}", plan.rounds));
        let bare = measure(&raw, Asked::Balance, "bare")?;
        let balances = measure(&ours, Asked::Balance, "balance")?;
        let payments = measure(&ours, Asked::Payment, &format!("payment-{round}"))?;
        rounds.push([bare, balances, payments]);
    }
    runtime.block_on(listener.stop());
    site.bank.await_log()?;
    let check = site.bank.store.check(&mut |_| {})?;
    if !check.differences.is_empty() {
        return Err(failed(&format!("the book does not balance: {:?}", check.differences)));
    }
    Ok(report(plan, &rounds))
}

fn report(plan: &Plan, rounds: &[[Measured; 3]]) -> Report {
    let of = |figure: &dyn Fn(&[Measured; 3]) -> f64| Spread::of(rounds.iter().map(figure).collect());
    let ratio = of(&|[bare, balances, _]| balances.per_second / bare.per_second);
    let payments_ratio = of(&|[bare, _, payments]| 2.0 * payments.per_second / bare.per_second);
    let connections = plan.connections;
    let goals = vec![
        Goal::at_least(format!("balances against a bare server, {connections} connections"), ratio.median, RATIO_MIN),
        Goal::at_least(
            "two calls of a payment against as many bare ones".into(),
            payments_ratio.median,
            PAYMENTS_RATIO_MIN,
        ),
    ];
    Report {
        connections,
        agents: plan.agents,
        bare_per_second: of(&|[bare, ..]| bare.per_second),
        bare_p50_ms: of(&|[bare, ..]| bare.percentile(0.5)),
        per_second: of(&|[_, balances, _]| balances.per_second),
        p50_ms: of(&|[_, balances, _]| balances.percentile(0.5)),
        p99_ms: of(&|[_, balances, _]| balances.percentile(0.99)),
        ratio,
        payments_per_second: of(&|[.., payments]| payments.per_second),
        payment_p50_ms: of(&|[.., payments]| payments.percentile(0.5)),
        payment_p99_ms: of(&|[.., payments]| payments.percentile(0.99)),
        payments_ratio,
        goals,
    }
}

impl Report {
    /// The figures, for a terminal.
    pub fn text(&self) -> String {
        let one = |what: &str, spread: &Spread, unit: &str| {
            format!("{what:<52} {:>10.2} {unit} ({:.2} to {:.2})\n", spread.median, spread.min, spread.max)
        };
        let about = format!(
            "{} connections of {} agents, whose keys are synthetic; client and server on this machine\n",
            self.connections, self.agents
        );
        let figures = [
            about,
            one("a bare MCP server", &self.bare_per_second, "calls/s"),
            one("a bare call, p50", &self.bare_p50_ms, "ms"),
            one("balances: signed, decided, recorded", &self.per_second, "/s"),
            one("a balance, p50", &self.p50_ms, "ms"),
            one("a balance, p99", &self.p99_ms, "ms"),
            one("payments: authorized and executed", &self.payments_per_second, "/s"),
            one("a payment, p50", &self.payment_p50_ms, "ms"),
            one("a payment, p99", &self.payment_p99_ms, "ms"),
        ];
        [figures.concat(), lines(&self.goals)].concat()
    }
}
