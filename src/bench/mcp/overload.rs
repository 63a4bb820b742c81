//! Far more reads than a bank can answer: what it has no room for is told to come again, and what it answers does not
//! wait for long.
//!
//! The requests are signed before, because the clients have the same processors. An arrival that finds no connection free
//! within the clients' patience is not sent at all. What is sent is measured from when it was sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::dial;
use super::load::{self, percentile};
use super::pace::{Arrival, Server, arrivals, count};
use super::stage::Stage;
use crate::bench::figures::Goal;
use crate::bench::line::Line;
use crate::bench::served::failed;
use crate::bench::site::limits;
use crate::front::settings::LimitSettings;
use crate::ops::failure::Failure;

/// Of what closed loops reach.
const FACTOR: f64 = 4.0;
/// As long as a refusal says to wait.
const P99_MAX_MS: f64 = 1_000.0;
const PATIENCE: Duration = Duration::from_secs(1);
/// More are not signed before: the last one is to be sent before the first one's signature ends.
const REQUESTS_MAX: u64 = 100_000;

/// One run of it.
#[derive(Clone, Debug, Serialize)]
pub struct Overload {
    /// A second, and over so many connections.
    pub asked: f64,
    pub connections: u32,
    /// Requests that the bank answers at once.
    pub room: u32,
    pub arrived: u64,
    pub answered: u64,
    /// 429 or 503 that said when to come again; or a tool's answer that says so.
    pub told_to_come_again: u64,
    /// Everything else that was answered, and connections that ended: none is right.
    pub failed: u64,
    /// No connection was free for it.
    pub not_sent: u64,
    pub answered_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

enum Outcome {
    Answered(f64),
    ComeAgain,
    Failed,
    NotSent,
}

/// A client with a connection of its own, and the requests of its agent.
struct Crowd {
    line: Line,
    requests: Arc<Signed>,
}

/// Requests of one agent, each for one arrival.
struct Signed {
    requests: Vec<Vec<u8>>,
    next: AtomicUsize,
}

impl Server for Crowd {
    type Done = Outcome;

    async fn serve(&mut self, arrival: Arrival) -> Result<Outcome, Failure> {
        if arrival.due.elapsed() > PATIENCE {
            return Ok(Outcome::NotSent);
        }
        let signed = self.requests.requests.get(self.requests.next.fetch_add(1, Ordering::Relaxed));
        let Some(request) = signed else {
            return Ok(Outcome::NotSent);
        };
        let sent = Instant::now();
        let Ok(answer) = self.line.exchange(request).await else {
            self.line.hang_up();
            return Ok(Outcome::Failed);
        };
        let content = &answer.message["result"]["structuredContent"];
        let is_busy = matches!(answer.status, 429 | 503) && answer.says_when;
        Ok(match answer.status {
            200 if content["currency"] == "USD" => Outcome::Answered(sent.elapsed().as_secs_f64() * 1e3),
            200 if content["retry"] == true => Outcome::ComeAgain,
            _ if is_busy => Outcome::ComeAgain,
            _ => Outcome::Failed,
        })
    }
}

/// # Errors
/// `bench_stopped`, `bench_failed`
pub(super) fn measure(stage: &Stage<'_>, full: f64) -> Result<Overload, Failure> {
    // Both ends of each are files of this process.
    let files = u32::try_from(dial::all_files().saturating_sub(dial::OTHER_FILES) / 2).unwrap_or(u32::MAX);
    let connections = stage.plan.crowd.min(files).max(stage.plan.agents);
    let rate = (full * FACTOR).min(REQUESTS_MAX as f64 / stage.plan.seconds);
    (stage.tell)(&format!("{rate:.0} balances a second over {connections} connections: too many"));
    stage.stop.check()?;
    let bank = &stage.site.bank;
    let within = LimitSettings { requests_max: stage.plan.room, ..limits() };
    let (listener, address) = stage.site.listen_as(bank.authority.tls_identity()?, bank.services.token(), within)?;
    let lines = stage.lines_to(address, connections)?;
    let agents = stage.agents().len();
    let all = count(rate, stage.time());
    // Agents have unlike shares of the arrivals; each has a little more than its part.
    let each = (all / agents as u64 + 1) * 5 / 4;
    let served = stage.runtime.block_on(async {
        let connected = connected(lines).await?;
        let signing: Vec<_> = connected
            .iter()
            .take(agents)
            .map(|line| {
                let line = line.clone();
                tokio::task::spawn_blocking(move || signed(&line, each))
            })
            .collect();
        let mut requests = vec![];
        for signed in signing {
            requests.push(Arc::new(signed.await.map_err(|error| failed(&error))??));
        }
        let of_agents = requests.iter().cycle();
        let crowd =
            connected.into_iter().zip(of_agents).map(|(line, requests)| Crowd { line, requests: Arc::clone(requests) });
        arrivals(crowd.collect(), rate, stage.time()).await
    })?;
    stage.runtime.block_on(listener.stop());
    let count = |is_it: fn(&Outcome) -> bool| served.all.iter().filter(|outcome| is_it(outcome)).count() as u64;
    let mut millis: Vec<f64> = served
        .all
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Answered(millis) => Some(*millis),
            Outcome::ComeAgain | Outcome::Failed | Outcome::NotSent => None,
        })
        .collect();
    millis.sort_by(f64::total_cmp);
    Ok(Overload {
        asked: rate,
        connections,
        room: stage.plan.room,
        arrived: all,
        answered: millis.len() as u64,
        told_to_come_again: count(|outcome| matches!(outcome, Outcome::ComeAgain)),
        failed: count(|outcome| matches!(outcome, Outcome::Failed)),
        not_sent: count(|outcome| matches!(outcome, Outcome::NotSent)),
        answered_per_second: millis.len() as f64 / served.seconds,
        p50_ms: percentile(&millis, 0.5),
        p99_ms: percentile(&millis, 0.99),
    })
}

/// Some at a time: more than a listener shakes hands with at once would be turned away.
async fn connected(mut lines: Vec<Line>) -> Result<Vec<Line>, Failure> {
    let mut connected = vec![];
    while !lines.is_empty() {
        let rest = lines.split_off(lines.len().min(CONNECT_AT_ONCE));
        let connecting = std::mem::replace(&mut lines, rest).into_iter();
        let tasks: Vec<_> = connecting
            .map(|mut line| tokio::spawn(async move { line.connect().await.map(drop).map(|()| line) }))
            .collect();
        for task in tasks {
            connected.push(task.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?);
        }
    }
    Ok(connected)
}

const CONNECT_AT_ONCE: usize = 256;

fn signed(line: &Line, count: u64) -> Result<Signed, Failure> {
    let arguments = load::balance_arguments();
    let requests = (0..count).map(|_| line.prepared(load::BALANCE, &arguments)).collect::<Result<_, _>>()?;
    Ok(Signed { requests, next: AtomicUsize::new(0) })
}

impl Overload {
    pub(super) fn goals(&self) -> Vec<Goal> {
        let what = "overload: answers that were neither given nor deferred";
        vec![
            Goal::at_most("overload: p99 of what was answered".into(), self.p99_ms, P99_MAX_MS, "ms"),
            Goal::at_most(what.into(), self.failed as f64, 0.0, ""),
        ]
    }

    pub(super) fn text(&self) -> String {
        format!(
            "overload: {:.0} balances a second arriving for {} connections: {} answered, {} told to come again, {} failed, \
             {} not sent\n{:<52} {:>10.2} /s\n{:<52} {:>10.2} ms\n{:<52} {:>10.2} ms\n",
            self.asked,
            self.connections,
            self.answered,
            self.told_to_come_again,
            self.failed,
            self.not_sent,
            "overload: answered",
            self.answered_per_second,
            "overload: what was answered, p50 since it was sent",
            self.p50_ms,
            "overload: what was answered, p99 since it was sent",
            self.p99_ms,
        )
    }
}
