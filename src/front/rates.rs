//! How often an agent may ask: each agent, each agent's calls of a tool, and all agents of a role together.
//!
//! Asked before anything is decided, and counted among the refusals of the interval. A limit is this daemon's own, or one
//! that all daemons of a bank share: then a row of the store counts it, in one statement. Whoever is told to wait has
//! used up nothing but his own agent's turn: a role's turns are taken by those only whose own limits let them through.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::front::settings::{Rate, RateSettings};
use crate::kernel::types::{RoleName, SpiffeId};
use crate::ops::clock;
use crate::store::{StoreFault, Turn};

/// Keys that a limit remembers; with more, those whose turns are whole again are forgotten first.
const REMEMBERED_MAX: usize = 16_384;
const MINUTE_US: u64 = 60_000_000;
/// How long to wait where nobody could say it.
const UNKNOWN_WAIT: Duration = Duration::from_secs(1);

/// Where limits are counted that several daemons share.
pub trait SharedTurns: Send + Sync {
    /// Takes a turn; or how long until there is one.
    ///
    /// # Errors
    /// The store's.
    fn take(&self, turn: Turn) -> Result<Option<Duration>, StoreFault>;
}

/// Too many requests: which limit said so, and when to come again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooOften {
    pub name: &'static str,
    pub message: &'static str,
    pub wait: Duration,
}

impl TooOften {
    /// Whole seconds for `Retry-After` (RFC 9110, 10.2.3), rounded up.
    pub fn retry_after_s(&self) -> u64 {
        self.wait_ms().div_ceil(1_000)
    }

    pub fn wait_ms(&self) -> u64 {
        u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

type Limiter<C> = RateLimiter<String, HashMapStateStore<String>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// Every limit of one listener.
pub struct Rates<C: Clock = DefaultClock> {
    agent: Option<Limit<C>>,
    tools: BTreeMap<String, Limit<C>>,
    roles: BTreeMap<RoleName, Limit<C>>,
    shared: Arc<dyn SharedTurns>,
}

struct Limit<C: Clock> {
    of: Of,
    rate: Rate,
    counted: Counted<C>,
}

enum Counted<C: Clock> {
    Here(Box<Limiter<C>>),
    Shared,
}

/// Whose limit it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Of {
    Agent,
    Tool,
    Role,
}

impl Of {
    fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent_rate_exceeded",
            Self::Tool => "tool_rate_exceeded",
            Self::Role => "role_rate_exceeded",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Agent => "this agent asks more often than it may",
            Self::Tool => "this agent calls this tool more often than it may",
            Self::Role => "the agents of this role ask more often than they may together",
        }
    }
}

impl Rates {
    pub fn new(settings: &RateSettings, shared: Arc<dyn SharedTurns>) -> Self {
        Self::on(settings, shared, &DefaultClock::default())
    }
}

impl<C: Clock + Clone> Rates<C> {
    fn on(settings: &RateSettings, shared: Arc<dyn SharedTurns>, clock: &C) -> Self {
        let limit = |of, rate: &Rate| Limit::new(of, *rate, clock.clone());
        Self {
            agent: settings.agent.as_ref().map(|rate| limit(Of::Agent, rate)),
            tools: settings.tools.iter().map(|(tool, rate)| (tool.clone(), limit(Of::Tool, rate))).collect(),
            roles: settings.roles.iter().map(|(role, rate)| (role.clone(), limit(Of::Role, rate))).collect(),
            shared,
        }
    }

    /// Takes a turn of every limit that this request is under; `tool`: of a call of one.
    ///
    /// # Errors
    /// [`TooOften`] by the first limit that has none.
    pub async fn take(&self, agent: &SpiffeId, tool: Option<&str>) -> Result<(), TooOften> {
        let of_tool = tool.and_then(|tool| Some((tool, self.tools.get(tool)?)));
        if let Some(limit) = &self.agent {
            self.turn(limit, || format!("agent {agent}")).await?;
        }
        if let Some((tool, limit)) = of_tool {
            self.turn(limit, || format!("tool {tool} {agent}")).await?;
        }
        if let Some(limit) = self.roles.get(agent.role()) {
            self.turn(limit, || format!("role {}", agent.role())).await?;
        }
        Ok(())
    }

    async fn turn(&self, limit: &Limit<C>, key: impl FnOnce() -> String) -> Result<(), TooOften> {
        let wait = match &limit.counted {
            Counted::Here(limiter) => turn_here(limiter, &key()),
            Counted::Shared => self.turn_shared(limit.rate, key()).await,
        };
        match wait {
            None => Ok(()),
            Some(wait) => Err(TooOften { name: limit.of.name(), message: limit.of.message(), wait }),
        }
    }

    async fn turn_shared(&self, rate: Rate, name: String) -> Option<Duration> {
        let shared = Arc::clone(&self.shared);
        let interval_us = i64::try_from(MINUTE_US / u64::from(rate.per_minute.get())).unwrap_or(i64::MAX).max(1);
        let turn = Turn { name, interval_us, burst: rate.burst.get(), now: clock::now() };
        let taken = tokio::task::spawn_blocking(move || shared.take(turn)).await;
        match taken {
            Ok(Ok(wait)) => wait,
            // What cannot be counted is not served: the store that cannot count could not decide either.
            Ok(Err(_)) | Err(_) => Some(UNKNOWN_WAIT),
        }
    }
}

impl<C: Clock> Limit<C> {
    fn new(of: Of, rate: Rate, clock: C) -> Self {
        if rate.shared {
            return Self { of, rate, counted: Counted::Shared };
        }
        let interval = Duration::from_micros((MINUTE_US / u64::from(rate.per_minute.get())).max(1));
        // A period is never zero here.
        let quota = Quota::with_period(interval).unwrap_or(Quota::per_minute(NonZeroU32::MIN)).allow_burst(rate.burst);
        let limiter = RateLimiter::new(quota, HashMapStateStore::default(), clock);
        Self { of, rate, counted: Counted::Here(Box::new(limiter)) }
    }
}

fn turn_here<C: Clock>(limiter: &Limiter<C>, key: &String) -> Option<Duration> {
    if limiter.len() >= REMEMBERED_MAX {
        limiter.retain_recent();
    }
    match limiter.check_key(key) {
        Ok(()) => None,
        Err(until) => Some(until.wait_time_from(limiter.clock().now()).max(Duration::from_millis(1))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use governor::clock::FakeRelativeClock;

    use super::*;

    struct Nobody;

    impl SharedTurns for Nobody {
        fn take(&self, _: Turn) -> Result<Option<Duration>, StoreFault> {
            Err(StoreFault::Busy)
        }
    }

    fn agent(role: &str, name: &str) -> SpiffeId {
        format!("spiffe://countersign.example/agent/{role}/{name}").parse().unwrap()
    }

    fn settings(text: &str) -> RateSettings {
        toml::from_str(text).unwrap()
    }

    fn said(rates: &Rates<FakeRelativeClock>, who: &SpiffeId, tool: Option<&str>) -> Result<(), (&'static str, u64)> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(rates.take(who, tool)).map_err(|refused| (refused.name, refused.retry_after_s()))
    }

    #[test]
    fn each_limit_refuses_by_its_name_and_says_when_to_come_again() {
        let clock = FakeRelativeClock::default();
        let settings = settings(
            "agent = { per_minute = 60, burst = 4 }
             [tools]
             authorize_transfer = { per_minute = 6, burst = 2 }
             [roles]
             purchaser = { per_minute = 30, burst = 6 }",
        );
        let rates = Rates::on(&settings, Arc::new(Nobody), &clock);
        let (greedy, modest, viewer) = (agent("purchaser", "greedy"), agent("purchaser", "m"), agent("viewer", "v"));
        let pay = Some("authorize_transfer");
        let table = [
            (0, &greedy, pay, Ok(())),
            (0, &greedy, pay, Ok(())),
            // Ten seconds between two calls of this tool; the agent's own turn is used up all the same.
            (0, &greedy, pay, Err(("tool_rate_exceeded", 10))),
            (0, &greedy, Some("list_accounts"), Ok(())),
            (0, &greedy, None, Err(("agent_rate_exceeded", 1))),
            // Another agent has turns of its own, of itself and of the tool.
            (0, &modest, pay, Ok(())),
            (0, &modest, pay, Ok(())),
            (0, &modest, None, Ok(())),
            (0, &modest, None, Err(("role_rate_exceeded", 2))),
            (0, &viewer, None, Ok(())),
            (1_500, &greedy, None, Err(("role_rate_exceeded", 1))),
            (2_000, &modest, None, Ok(())),
            (9_000, &greedy, pay, Err(("tool_rate_exceeded", 1))),
            (10_000, &greedy, pay, Ok(())),
        ];
        let mut now = 0;
        for (row, (at, who, tool, expected)) in table.into_iter().enumerate() {
            clock.advance(Duration::from_millis(at - now));
            now = at;
            assert_eq!(said(&rates, who, tool), expected, "row {row}");
        }
    }

    /// A clock that stands still, and at which another thread may go first.
    #[derive(Clone, Debug)]
    struct Turning(FakeRelativeClock);

    impl Clock for Turning {
        type Instant = <FakeRelativeClock as Clock>::Instant;

        fn now(&self) -> Self::Instant {
            shuttle::thread::yield_now();
            self.0.now()
        }
    }

    #[test]
    fn in_no_order_are_more_served_than_limits_let_and_nobody_takes_a_roles_turn_in_vain() {
        const ORDERS: usize = 500;
        let limits = settings(
            "agent = { per_minute = 60, burst = 2 }
             [roles]
             purchaser = { per_minute = 30, burst = 3 }",
        );
        let life = move || {
            let rates = Arc::new(Rates::on(&limits, Arc::new(Nobody), &Turning(FakeRelativeClock::default())));
            let asking = ["one", "one", "one", "two", "two", "two"].map(|name| {
                let rates = Arc::clone(&rates);
                let take = move || shuttle::future::block_on(rates.take(&agent("purchaser", name), None)).is_ok();
                (name, shuttle::thread::spawn(take))
            });
            let served: Vec<&str> =
                asking.into_iter().filter_map(|(name, asked)| asked.join().unwrap().then_some(name)).collect();
            // Four pass their own limits; the role has three turns, and whoever was too fast alone took none of them.
            assert_eq!(served.len(), 3, "{served:?}");
            for name in ["one", "two"] {
                assert!(served.iter().filter(|one| **one == name).count() <= 2, "{served:?}");
            }
        };
        shuttle::check_random_with_seed(life, 7, ORDERS);
    }

    #[test]
    fn whoever_has_all_turns_again_is_forgotten_and_whoever_waits_is_not() {
        let clock = FakeRelativeClock::default();
        let rates = Rates::on(&settings("agent = { per_minute = 60000, burst = 2 }"), Arc::new(Nobody), &clock);
        for number in 0..REMEMBERED_MAX {
            assert_eq!(said(&rates, &agent("purchaser", &format!("a{number}")), None), Ok(()));
        }
        clock.advance(Duration::from_secs(1));
        let waiting = agent("purchaser", "waiting");
        assert_eq!(said(&rates, &waiting, None), Ok(()));
        assert_eq!(said(&rates, &waiting, None), Ok(()));
        let Some(Limit { counted: Counted::Here(limiter), .. }) = &rates.agent else { panic!() };
        assert!(limiter.len() < 10, "{}", limiter.len());
        assert_eq!(said(&rates, &waiting, None), Err(("agent_rate_exceeded", 1)));
    }

    #[test]
    fn a_shared_limit_asks_the_store_with_its_numbers_and_what_cannot_be_counted_waits() {
        struct Asked(Mutex<Vec<Turn>>);
        impl SharedTurns for Asked {
            fn take(&self, turn: Turn) -> Result<Option<Duration>, StoreFault> {
                let mut asked = self.0.lock().unwrap();
                asked.push(turn);
                Ok((asked.len() > 1).then_some(Duration::from_millis(2_100)))
            }
        }
        let settings = settings("agent = { per_minute = 600, burst = 7, shared = true }");
        let store = Arc::new(Asked(Mutex::default()));
        let clock = FakeRelativeClock::default();
        let rates = Rates::on(&settings, Arc::clone(&store) as Arc<dyn SharedTurns>, &clock);
        let who = agent("purchaser", "shopper");
        assert_eq!(said(&rates, &who, None), Ok(()));
        assert_eq!(said(&rates, &who, None), Err(("agent_rate_exceeded", 3)));
        let asked = store.0.lock().unwrap();
        assert_eq!((asked[0].interval_us, asked[0].burst), (100_000, 7));
        assert_eq!(asked[0].name, format!("agent {who}"));
        let rates = Rates::on(&settings, Arc::new(Nobody), &clock);
        assert_eq!(said(&rates, &who, None), Err(("agent_rate_exceeded", 1)));
    }

    #[test]
    fn limits_that_are_none_are_refused() {
        for text in [
            "agent = { per_minute = 0, burst = 1 }",
            "agent = { per_minute = 1, burst = 0 }",
            "agent = { per_minute = 1 }",
            "agent = { per_minute = 1, burst = 1, per_hour = 1 }",
            "all = { per_minute = 1, burst = 1 }",
            "[roles]\nPurchaser = { per_minute = 1, burst = 1 }",
        ] {
            assert!(toml::from_str::<RateSettings>(text).is_err(), "{text}");
        }
        assert_eq!(settings(""), RateSettings::default());
    }
}
