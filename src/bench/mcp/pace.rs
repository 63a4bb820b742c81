//! Arrivals at a fixed rate, whoever is ready for them: their moments are fixed before the first one, and an arrival
//! that finds everybody at work waits. Measured from its moment, its wait is in the figure.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::bench::served::failed;
use crate::ops::failure::Failure;

/// One of them.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    pub(super) number: u64,
    /// When it was to be.
    pub(super) due: Instant,
}

impl Arrival {
    /// Milliseconds since its moment.
    pub(super) fn millis(self) -> f64 {
        self.due.elapsed().as_secs_f64() * 1e3
    }
}

/// Whoever serves arrivals, one after the other.
pub(super) trait Server: Send + 'static {
    type Done: Send + 'static;
    fn serve(&mut self, arrival: Arrival) -> impl Future<Output = Result<Self::Done, Failure>> + Send;
}

/// What came of them all.
pub(super) struct Served<T> {
    pub(super) all: Vec<T>,
    /// From the first moment until the last one was served.
    pub(super) seconds: f64,
}

impl<T> Served<T> {
    /// Served a second.
    pub(super) fn rate(&self) -> f64 {
        self.all.len() as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    /// One figure of each, sorted.
    pub(super) fn sorted(&self, figure: impl Fn(&T) -> f64) -> Vec<f64> {
        let mut figures: Vec<f64> = self.all.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures
    }
}

/// How many arrive in this time at this rate: one at least.
pub(super) fn count(rate: f64, time: Duration) -> u64 {
    // Neither is negative, and both are small.
    (rate * time.as_secs_f64()).ceil().max(1.0) as u64
}

/// Has so many arrive a second for so long, and waits until all are served.
///
/// # Errors
/// The first that a server had.
pub(super) async fn arrivals<S: Server>(
    servers: Vec<S>,
    rate: f64,
    time: Duration,
) -> Result<Served<S::Done>, Failure> {
    let (count, each) = (count(rate, time), Duration::from_secs_f64(1.0 / rate));
    // One for each arrival whose moment has come; closed when one failed.
    let (come, next) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU64::new(0)));
    let begun = Instant::now();
    let due = move |number: u64| begun + each.mul_f64(number as f64);
    let all_servers = servers.len();
    let serving: Vec<_> = servers
        .into_iter()
        .map(|mut server| {
            let (come, next) = (Arc::clone(&come), Arc::clone(&next));
            tokio::spawn(async move {
                let mut done = vec![];
                while let Ok(turn) = come.acquire().await {
                    turn.forget();
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    match server.serve(Arrival { number, due: due(number) }).await {
                        Ok(one) => done.push(one),
                        Err(failure) => {
                            come.close();
                            return Err(failure);
                        }
                    }
                }
                Ok(done)
            })
        })
        .collect();
    // A thread of its own: timers of the runtime are as coarse as what is measured.
    let pacing = Arc::clone(&come);
    let pacer = move || {
        for number in 0..count {
            if pacing.is_closed() {
                return;
            }
            std::thread::sleep(due(number).saturating_duration_since(Instant::now()));
            pacing.add_permits(1);
        }
        pacing.add_permits(all_servers);
    };
    let pacer = tokio::task::spawn_blocking(pacer);
    let mut all = vec![];
    for server in serving {
        all.extend(server.await.map_err(|error| failed(&error))??);
    }
    pacer.await.map_err(|error| failed(&error))?;
    Ok(Served { all, seconds: begun.elapsed().as_secs_f64() })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Slow(Duration);

    impl Server for Slow {
        type Done = (u64, f64);

        async fn serve(&mut self, arrival: Arrival) -> Result<(u64, f64), Failure> {
            tokio::time::sleep(self.0).await;
            Ok((arrival.number, arrival.millis()))
        }
    }

    fn served(servers: u32, each: Duration, rate: f64, time: Duration) -> Served<(u64, f64)> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(arrivals((0..servers).map(|_| Slow(each)).collect(), rate, time)).unwrap()
    }

    #[test]
    fn every_arrival_is_served_once() {
        let served = served(3, Duration::ZERO, 1000.0, Duration::from_millis(50));
        let mut numbers: Vec<u64> = served.all.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..50).collect::<Vec<u64>>());
    }

    #[test]
    fn an_arrival_that_waits_for_a_server_is_measured_from_its_moment() {
        // One server takes 10 ms for each, and one comes every millisecond: the last one has waited for all before it.
        let served = served(1, Duration::from_millis(10), 1000.0, Duration::from_millis(20));
        let waited = served.sorted(|(_, millis)| *millis);
        assert!(waited[19] >= 20.0 * 10.0 - 19.0, "{waited:?}");
        assert!(served.rate() <= 100.0);
    }

    #[test]
    fn the_first_failure_ends_it() {
        struct Failing;
        impl Server for Failing {
            type Done = ();
            async fn serve(&mut self, _: Arrival) -> Result<(), Failure> {
                Err(failed(&"on order"))
            }
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let hour = Duration::from_secs(3600);
        let failure = runtime.block_on(arrivals(vec![Failing, Failing], 1000.0, hour)).err().unwrap();
        assert_eq!(failure.message, "on order");
    }
}
