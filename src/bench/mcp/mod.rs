//! `countersign bench mcp`: an agent's way to the bank, part by part, each against a raw limit of the same run.
//!
//! Real parts: three parties as `countersign init` makes them, with their SoftHSM2 tokens, stores and logs on this file
//! system; the bank's listener with everything that a daemon asks of a request. Client and server are on this machine;
//! where the server's memory is looked at, the client is a process of its own. The agents alone are synthetic: their
//! keys are in memory, which the output says. What else is not as in a daemon, its part says.

mod bare;
mod calls;
pub mod dial;
mod handshakes;
mod load;
mod many;
mod nginx;
mod open;
mod overload;
mod pace;
mod receipts;
mod server_key;
mod stage;
mod storm;
mod verification;

use std::path::PathBuf;

use serde::Serialize;

use super::figures::{self, Goal, Spread};
use super::site::{self, Site};
use super::stop::Stop;
use crate::ops::failure::Failure;
use stage::Stage;

/// One thing that is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Balances, one after the other on each connection, against a bare MCP server.
    Calls,
    /// Payments in the same way.
    Payments,
    /// How much later than its answer a payment has its receipt.
    Receipts,
    /// Verifying signed requests, against bare verification of signatures.
    Verification,
    /// Handshakes with both certificates, against nginx.
    Handshakes,
    /// Calls beside handshakes that wait for a slow HSM.
    Storm,
    /// Memory of many connections, each of which answers.
    Many,
    /// Arrivals at a fixed rate, at half load and far beyond what is possible.
    Open,
}

/// What is measured, and how much of it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub program: PathBuf,
    pub module: PathBuf,
    pub only: Vec<Part>,
    /// Connections at once, spread over the agents.
    pub connections: u32,
    pub agents: u32,
    pub rounds: u32,
    /// Seconds of each measurement.
    pub seconds: f64,
    /// Connections that are open at once when their memory is measured.
    pub many: u32,
    /// Transactions a second that arrive.
    pub rate: u32,
    /// Connections over which too much is asked.
    pub crowd: u32,
    /// Requests that the bank answers at once then.
    pub room: u32,
    pub directory: PathBuf,
}

/// Everything that was measured; a part that was not asked for is absent.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub connections: u32,
    pub agents: u32,
    pub rounds: u32,
    pub seconds: f64,
    pub calls: Option<calls::Balances>,
    pub payments: Option<calls::Payments>,
    pub receipts: Option<receipts::Receipts>,
    pub verification: Option<verification::Verification>,
    pub handshakes: Option<handshakes::Handshakes>,
    pub storm: Option<storm::Storm>,
    pub many: Option<many::Many>,
    pub open: Option<open::Open>,
    pub goals: Vec<Goal>,
}

/// Measures.
///
/// # Errors
/// `bench_options_invalid`, `bench_stopped`, and whatever kept a part from working.
pub fn run(plan: &Plan, tell: &(dyn Fn(&str) + Sync)) -> Result<Report, Failure> {
    if plan.agents == 0 || plan.connections.min(plan.crowd).min(plan.many) < plan.agents {
        return Err(super::invalid("there must be at least one connection for each agent"));
    }
    let is_asked = |part| plan.only.contains(&part);
    let stop = Stop::on_signals()?;
    dial::all_files();
    tell("a security company, a bank, an agent host, and agents");
    // The parties end last: whatever the runtime still has works with them.
    let site = Site::open(&plan.program, site::prepare(&plan.program, &plan.module, &plan.directory, &stop)?)?;
    let runtime = stage::runtime()?;
    let _inside = runtime.enter();
    let stage = Stage::set(plan, &site, &runtime, &stop, tell)?;

    // First: what other parts let go of, the allocator would give to its connections unseen.
    let many = part(&stage, is_asked(Part::Many), || many::measure(&stage))?;
    let (with_calls, with_payments) = (is_asked(Part::Calls), is_asked(Part::Payments));
    let both = part(&stage, with_calls || with_payments, || calls::measure(&stage, with_calls, with_payments))?;
    let (calls, payments) = both.unwrap_or_default();
    let mut report = Report {
        connections: plan.connections,
        agents: plan.agents,
        rounds: plan.rounds,
        seconds: plan.seconds,
        receipts: part(&stage, is_asked(Part::Receipts), || receipts::measure(&stage))?,
        verification: part(&stage, is_asked(Part::Verification), || verification::measure(&stage))?,
        handshakes: part(&stage, is_asked(Part::Handshakes), || handshakes::measure(&stage))?,
        storm: part(&stage, is_asked(Part::Storm), || storm::measure(&stage))?,
        many,
        open: part(&stage, is_asked(Part::Open), || open::measure(&stage, calls.as_ref()))?,
        calls,
        payments,
        goals: vec![],
    };
    stage.strike()?;
    report.goals = report.goals();
    Ok(report)
}

/// One part, once nothing is left to do of the one before.
fn part<T>(
    stage: &Stage<'_>,
    is_asked: bool,
    measure: impl FnOnce() -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    if !is_asked {
        return Ok(None);
    }
    stage.site.bank.await_log()?;
    measure().map(Some)
}

impl Report {
    fn goals(&self) -> Vec<Goal> {
        let parts = [
            self.calls.as_ref().map(|part| part.goals(self.connections)),
            self.payments.as_ref().map(calls::Payments::goals),
            self.receipts.as_ref().map(receipts::Receipts::goals),
            self.verification.as_ref().map(verification::Verification::goals),
            self.handshakes.as_ref().map(handshakes::Handshakes::goals),
            self.storm.as_ref().map(storm::Storm::goals),
            self.many.as_ref().map(many::Many::goals),
            self.open.as_ref().map(open::Open::goals),
        ];
        parts.into_iter().flatten().flatten().collect()
    }

    /// The figures, for a terminal.
    pub fn text(&self) -> String {
        let about = format!(
            "{} connections of {} agents, whose keys are synthetic; client and server on this machine\n",
            self.connections, self.agents
        );
        let parts = [
            Some(about),
            self.calls.as_ref().map(calls::Balances::text),
            self.payments.as_ref().map(calls::Payments::text),
            self.receipts.as_ref().map(receipts::Receipts::text),
            self.verification.as_ref().map(verification::Verification::text),
            self.handshakes.as_ref().map(handshakes::Handshakes::text),
            self.storm.as_ref().map(storm::Storm::text),
            self.many.as_ref().map(many::Many::text),
            self.open.as_ref().map(open::Open::text),
            Some(figures::lines(&self.goals)),
        ];
        parts.into_iter().flatten().collect()
    }
}

/// One figure of all rounds.
fn over<T>(rounds: &[T], figure: impl Fn(&T) -> f64) -> Spread {
    Spread::of(rounds.iter().map(figure).collect())
}
