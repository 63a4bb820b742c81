//! Pairs for many applicants at once, against the module in a bare loop.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Plan, Report};
use crate::bench::figures::Spread;
use crate::bench::served::{Served, failed, key_of, operator};
use crate::bench::site::Site;
use crate::bench::stop::Stop;
use crate::bench::synthetic::host_of;
use crate::ca::Authority;
use crate::hsm::measure::{RawWorker, percentile_us};
use crate::kernel::sign::Purpose;
use crate::kernel::types::{AgentName, RoleName};
use crate::ops::failure::Failure;

/// What all callers did together.
pub(super) struct Done<T> {
    /// In the order of their numbers.
    pub(super) all: Vec<T>,
    pub(super) took: Duration,
    /// Of each, sorted.
    each_ns: Vec<u64>,
}

pub(super) fn measure(plan: &Plan, site: &Site, stop: &Stop, tell: &dyn Fn(&str)) -> Result<Report, Failure> {
    let processors = u32::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap_or(1);
    let issuing = key_of(&site.bank, Purpose::Issuing)?;
    let workers = site.bank.settings.workers;
    let (host, _) = host_of(&site.host)?;
    let raws: Vec<RawWorker> = (0..workers).map(|_| raw(plan, &site.bank)).collect::<Result<_, _>>()?;
    let (mut raw_rates, mut endorsed_rates, mut issued_rates) = (vec![], vec![], vec![]);
    let (mut rates, mut ratios, mut p50, mut p99) = (vec![], vec![], vec![], vec![]);
    for round in 1..=plan.rounds {
        tell(&format!("round {round} of {}: {} agents", plan.rounds, plan.pairs));
        let requests = requests(plan, &host, stop, &format!("r{round}"))?;
        let bare = raw_rate(&raws, processors.div_ceil(workers), Duration::from_secs_f64(plan.seconds))?;
        stop.check()?;
        let endorsed = endorsed(plan, site, stop, &requests)?;
        let requests = endorsed_requests(plan, &host, stop, &endorsed.all)?;
        let issued = issued(plan, site, stop, &requests)?;
        // Counts stay far below 2^52.
        let count = f64::from(plan.pairs);
        endorsed_rates.push(count / endorsed.took.as_secs_f64());
        issued_rates.push(count / issued.took.as_secs_f64());
        let rate = 2.0 * count / (endorsed.took + issued.took).as_secs_f64();
        let mut each = [endorsed.each_ns, issued.each_ns].concat();
        each.sort_unstable();
        p50.push(percentile_us(&each, 50) / 1e3);
        p99.push(percentile_us(&each, 99) / 1e3);
        raw_rates.push(bare);
        rates.push(rate);
        ratios.push(rate / bare);
    }
    Ok(Report {
        pairs: plan.pairs,
        callers: plan.callers,
        workers,
        algorithm: issuing.algorithm,
        raw_per_second: Spread::of(raw_rates),
        endorsed_per_second: Spread::of(endorsed_rates),
        issued_per_second: Spread::of(issued_rates),
        p50_ms: Spread::of(p50),
        p99_ms: Spread::of(p99),
        per_second: Spread::of(rates),
        ratio: Spread::of(ratios),
        full: None,
        goals: vec![],
    })
}

/// A worker that signs with the bank's issuing key and does nothing else.
fn raw(plan: &Plan, bank: &Served) -> Result<RawWorker, Failure> {
    let key = key_of(bank, Purpose::Issuing)?.id;
    RawWorker::start(&plan.program, &bank.state, &bank.token_name, &bank.settings, key)
}

fn raw_rate(raws: &[RawWorker], threads: u32, time: Duration) -> Result<f64, Failure> {
    for raw in raws {
        raw.begin(threads, time)?;
    }
    raws.iter().map(|raw| Ok(raw.measured(time)?.rate())).sum()
}

/// What new agents bring to the security company.
pub(super) fn requests(plan: &Plan, host: &Authority, stop: &Stop, prefix: &str) -> Result<Vec<Value>, Failure> {
    let role = role()?;
    let ask = |number: usize| {
        let name: AgentName = format!("{prefix}-{number}").parse().map_err(|error| failed(&error))?;
        host.cert_request(&operator("olga"), &name, &role, None)
    };
    Ok(together(plan, stop, ask)?.all)
}

/// S of each request, with the request.
pub(super) fn endorsed(
    plan: &Plan,
    site: &Site,
    stop: &Stop,
    requests: &[Value],
) -> Result<Done<(Value, Value)>, Failure> {
    together(plan, stop, |number| {
        let endorsed = site.secco.authority.cert_endorse(&operator("olga"), &requests[number], None)?;
        Ok((requests[number].clone(), endorsed))
    })
}

/// What they bring to the bank then.
pub(super) fn endorsed_requests(
    plan: &Plan,
    host: &Authority,
    stop: &Stop,
    endorsed: &[(Value, Value)],
) -> Result<Vec<Value>, Failure> {
    let role = role()?;
    let ask = |number: usize| {
        let (request, endorsed) = &endorsed[number];
        let name: AgentName = request["name"].as_str().unwrap_or_default().parse().map_err(|error| failed(&error))?;
        host.cert_request(&operator("olga"), &name, &role, endorsed["certificate_pem"].as_str())
    };
    Ok(together(plan, stop, ask)?.all)
}

/// B of each request.
pub(super) fn issued(plan: &Plan, site: &Site, stop: &Stop, requests: &[Value]) -> Result<Done<Value>, Failure> {
    together(plan, stop, |number| site.bank.authority.cert_issue(&operator("peter"), &requests[number], None))
}

/// One for each pair, by so many callers at once.
fn together<T: Send>(
    plan: &Plan,
    stop: &Stop,
    work: impl Fn(usize) -> Result<T, Failure> + Sync,
) -> Result<Done<T>, Failure> {
    let next = AtomicUsize::new(0);
    let count = usize::try_from(plan.pairs).unwrap_or(usize::MAX);
    // Guards what was done; held to put one more in.
    let done = Mutex::new(Vec::with_capacity(count));
    let begun = Instant::now();
    let caller = || -> Result<(), Failure> {
        loop {
            stop.check()?;
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            let began = Instant::now();
            let value = work(number)?;
            let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((number, nanos, value));
        }
    };
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..plan.callers).map(|_| scope.spawn(caller)).collect();
        let ends: Vec<_> = callers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        ends.into_iter().try_for_each(|end| end.unwrap_or_else(|_| Err(failed(&"a caller met a defect"))))
    })?;
    let took = begun.elapsed();
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(number, _, _)| *number);
    let mut each_ns: Vec<u64> = done.iter().map(|(_, nanos, _)| *nanos).collect();
    each_ns.sort_unstable();
    Ok(Done { all: done.into_iter().map(|(_, _, value)| value).collect(), took, each_ns })
}

fn role() -> Result<RoleName, Failure> {
    "purchaser".parse().map_err(|error| failed(&error))
}
