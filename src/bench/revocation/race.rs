//! Calls that race a revocation: payments of agents over their own connections while each agent is revoked, and what
//! became of those that began when it was effective.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Plan, revoke};
use crate::bench::line::Line;
use crate::bench::served::failed;
use crate::bench::site::{ACCOUNTS, Site};
use crate::bench::stop::Stop;
use crate::kernel::types::{SpiffeId, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::{TransactionQuery, TransactionRecord};

/// Callers of one agent, a connection each.
const CALLERS: u32 = 10;
/// Calls of one agent before it is revoked.
const CALLS_BEFORE: u32 = 400;
/// Calls that each caller tries when it is over: each needs a new connection.
const CALLS_AFTER: u32 = 3;
const TIME_MAX: Duration = Duration::from_secs(60);

/// What came of it.
#[derive(Default)]
pub(super) struct Race {
    pub(super) agents: u32,
    pub(super) calls: u64,
    /// Authorized or paid.
    pub(super) effects: u64,
    /// Of those that began when the revocation was effective.
    pub(super) late: u64,
    pub(super) late_effects: u64,
}

/// One call: when it began, and whether it did something.
type Made = (Instant, bool);

pub(super) fn measure(plan: &Plan, site: &Site, stop: &Stop) -> Result<Race, Failure> {
    site.open_the_bank()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| failed(&error))?;
    let _inside = runtime.enter();
    let (listener, address) = site.listen()?;
    let mut race = Race::default();
    let begun = Instant::now();
    let raced = (0..).try_for_each(|number: u32| {
        if race.calls >= u64::from(plan.calls) || begun.elapsed() > TIME_MAX {
            return Err(None);
        }
        stop.check().and_then(|()| one(site, &runtime, address, number, &mut race)).map_err(Some)
    });
    runtime.block_on(listener.stop());
    match raced {
        Err(Some(failure)) => Err(failure),
        Err(None) | Ok(()) => Ok(race),
    }
}

/// One agent pays until it is revoked.
fn one(
    site: &Site,
    runtime: &tokio::runtime::Runtime,
    address: SocketAddr,
    number: u32,
    race: &mut Race,
) -> Result<(), Failure> {
    let name = format!("racer-{number}");
    let (agent, identity) = site.enrolled(&name)?;
    let spiffe_id: SpiffeId = agent.parse().map_err(|error| failed(&error))?;
    site.grant(&name)?;
    let line = Line::of(site.host.token.pool(), &identity, &site.root()?, address)?;
    let (made, over) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (made, over) = (Arc::clone(&made), Arc::clone(&over));
            let caller = Caller { line: line.clone(), open: None, name: format!("{name}-{caller}") };
            runtime.spawn(caller.call_until(made, over))
        })
        .collect();
    while made.load(Ordering::Relaxed) < CALLS_BEFORE && !callers.iter().all(tokio::task::JoinHandle::is_finished) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let (start, wall) = (Instant::now(), clock::now());
    let report = revoke(&site.bank, &agent)?;
    over.store(true, Ordering::Release);
    // Counted from before the call, so that it is not later than it was.
    let effective_ms: f64 = report["effective_ms"].as_str().and_then(|ms| ms.parse().ok()).unwrap_or(f64::NAN);
    let effective = start + Duration::try_from_secs_f64(effective_ms / 1e3).map_err(|error| failed(&error))?;
    for caller in callers {
        for (began, effect) in runtime.block_on(caller).map_err(|error| failed(&error))? {
            let late = began > effective;
            race.calls += 1;
            race.effects += u64::from(effect);
            race.late += u64::from(late);
            race.late_effects += u64::from(late && effect);
        }
    }
    race.agents += 1;
    // Milliseconds of a revocation stay far below 2^52.
    race.late_effects += recorded_late(site, spiffe_id, wall.plus_ms(effective_ms.ceil() as i64))?;
    Ok(())
}

/// What the book has of an agent from after that time: an answer may have been lost on the way.
fn recorded_late(site: &Site, agent: SpiffeId, at: UnixMillis) -> Result<u64, Failure> {
    let query = TransactionQuery { agent: Some(agent), limit: 1_000, ..TransactionQuery::default() };
    let records = site.bank.store.transactions(&query)?;
    let late = |record: &&TransactionRecord| {
        record.transaction.created > at || record.posted_at.is_some_and(|posted_at| posted_at > at)
    };
    Ok(records.iter().filter(late).count() as u64)
}

struct Caller {
    line: Line,
    /// Authorized, to be paid next.
    open: Option<String>,
    name: String,
}

impl Caller {
    async fn call_until(mut self, made: Arc<AtomicU32>, over: Arc<AtomicBool>) -> Vec<Made> {
        let (mut all, mut after) = (vec![], 0);
        while after < CALLS_AFTER {
            after += u32::from(over.load(Ordering::Acquire));
            let began = Instant::now();
            let answer = self.call(all.len()).await;
            // Whatever is wrong with it, the next call begins anew.
            if answer.is_err() {
                self.line.hang_up();
            }
            all.push((began, answer.is_ok_and(|effect| effect)));
            made.fetch_add(1, Ordering::Relaxed);
        }
        all
    }

    /// Authorizes a payment, or pays what was authorized before. Answers whether that is done.
    async fn call(&mut self, number: usize) -> std::io::Result<bool> {
        let mut arguments = json!({
            "from_account": ACCOUNTS[0], "to_account": ACCOUNTS[1], "amount": "0.01", "currency": "USD",
        });
        let tool = match self.open.take() {
            Some(transaction) => {
                arguments["transaction_id"] = json!(transaction);
                "execute_transfer"
            }
            None => {
                arguments["idempotency_key"] = json!(format!("{}-{number}", self.name));
                "authorize_transfer"
            }
        };
        let answer = self.line.call(tool, &arguments).await?;
        let done = answer["result"]["isError"] != true && answer["result"]["structuredContent"].is_object();
        if done && tool == "authorize_transfer" {
            self.open = answer["result"]["structuredContent"]["transaction_id"].as_str().map(str::to_owned);
        }
        Ok(done)
    }
}
