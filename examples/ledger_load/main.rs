//! A load for the crash suite (`tests/crash`): it uses a store with the product's own code, from a process of its
//! own that may be killed at any moment. For tests only; no part of the product is made from it.
//!
//! What is asked and answered goes to standard output, one JSON object a line: `intent` before the store is asked,
//! `answer` when it answered. Whoever reads the lines knows what was promised at the moment of death. Intents to be
//! asked again come on standard input, in the form of their `intent` lines. The seed decides everything but the
//! interleaving of the callers; with one caller a run replays exactly.

mod chance;
mod sequencer;
mod steps;
mod town;
mod wish;

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use countersign::kernel::command::*;
use countersign::kernel::types::*;
use countersign::ops::clock;
use countersign::ops::paths::StateDir;
use countersign::store::postgres::{Endpoint, PostgresStore};
use countersign::store::settings::StoreSettings;
use countersign::store::sqlite::SqliteStore;
use countersign::store::{Store, StoreFault};
use serde_json::{Value, json};

use chance::Chance;
use steps::{Caller, Shared};
use town::Town;
use wish::{Wish, told};

/// A caller pauses this long before it asks again after a fault, then twice as long each time up to the second, and
/// gives up after so many faults.
const PAUSE_FIRST: Duration = Duration::from_millis(1);
const PAUSE_LAST: Duration = Duration::from_millis(32);
const FAULTS_MAX: u32 = 1_000;
/// The first caller sequences and signs after so many steps.
const SEQUENCED_EVERY: u64 = 8;
/// With a core, every so many steps of a caller are its word on one of so many of the oldest orders.
const CORE_EVERY: u64 = 3;
const CORE_ORDERS: u32 = 16;

#[derive(Debug, Parser)]
struct Arguments {
    /// `sqlite:<path>` or `postgres://…`
    store: String,
    #[arg(long)]
    seed: u64,
    /// Which run on this store: ids and keys of two runs are never the same.
    #[arg(long, default_value_t = 0)]
    run: u64,
    #[arg(long, default_value_t = 4)]
    callers: u64,
    /// Steps of each caller; endless when left out.
    #[arg(long)]
    steps: Option<u64>,
    /// The wall clock of the first command in milliseconds; the machine's clock when left out.
    #[arg(long)]
    clock: Option<i64>,
    /// The clock moves on by this much with each command.
    #[arg(long, default_value_t = 20_000)]
    tick: i64,
    /// Times that a caller asks again after a fault of the store.
    #[arg(long, default_value_t = FAULTS_MAX)]
    faults: u32,
    /// Payments are settled by a core banking system; callers bring its word.
    #[arg(long)]
    core: bool,
}

struct Load {
    store: Arc<dyn Store>,
    town: Town,
    shared: Shared,
    arguments: Arguments,
    now: AtomicI64,
    /// The lock guards the value only.
    newest_nonce: Mutex<Option<Sha256>>,
    /// The lock keeps lines whole.
    journal: Mutex<std::io::Stdout>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let store = match opened(&arguments.store) {
        Ok(store) => store,
        Err(complaint) => {
            eprintln!("{complaint}");
            return ExitCode::FAILURE;
        }
    };
    let load = Load {
        store,
        town: Town::new(if arguments.core { Settlement::External } else { Settlement::Embedded }),
        shared: Shared::default(),
        now: AtomicI64::new(arguments.clock.unwrap_or_default()),
        newest_nonce: Mutex::default(),
        journal: Mutex::new(std::io::stdout()),
        arguments,
    };
    if load.run() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn opened(url: &str) -> Result<Arc<dyn Store>, String> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        return SqliteStore::open(&PathBuf::from(path))
            .map(|store| store as Arc<dyn Store>)
            .map_err(|fault| fault.to_string());
    }
    let settings = StoreSettings { url: url.into(), commit_deadline_ms: 5_000, ..StoreSettings::default() };
    let endpoint = Endpoint::read(&settings, &StateDir::new("/")).map_err(|failure| failure.to_string())?;
    PostgresStore::open(&endpoint).map(|store| store as Arc<dyn Store>).map_err(|fault| fault.to_string())
}

/// The store failed more often than a caller bears.
#[derive(Debug)]
struct GivenUp;

impl Load {
    fn run(&self) -> bool {
        let Ok(standing) = self.first_standing_agent() else { return false };
        self.shared.first_agent.store(standing, Ordering::SeqCst);
        self.tell(&self.town.told());

        let mut chance = Chance::new(self.arguments.seed, self.arguments.run, u64::MAX);
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let asked: Value = serde_json::from_str(&line).expect("intents come as they were told");
            let id = asked["intent"].as_str().expect("an intent has an id").to_owned();
            let wish: Wish = serde_json::from_value(asked["wish"].clone()).expect("a wish as it was told");
            if self.ask(&mut chance, &[(id, wish)]).is_err() {
                return false;
            }
        }
        for (number, wish) in (0_u32..).zip(self.town.set_up([standing, standing + 1])) {
            let id = format!("{}.setup.{number}", self.arguments.run);
            if self.ask(&mut chance, &[(id, wish)]).is_err() {
                return false;
            }
        }
        std::thread::scope(|scope| {
            let caller = |thread| scope.spawn(move || self.live(thread));
            let callers: Vec<_> = (0..self.arguments.callers).map(caller).collect();
            callers.into_iter().all(|caller| matches!(caller.join(), Ok(Ok(()))))
        })
    }

    fn live(&self, thread: u64) -> Result<(), GivenUp> {
        let Arguments { seed, run, steps, .. } = self.arguments;
        let mut caller = Caller::new(Chance::new(seed, run, thread), format!("{run}.{thread}"));
        let mut step = 0;
        while steps.is_none_or(|steps| step < steps) {
            step += 1;
            if thread == 0 && step % SEQUENCED_EVERY == 0 {
                self.sequence(caller.chance())?;
            }
            let wishes = match self.core_says(&mut caller, step) {
                Some(says) => vec![says],
                None => caller.next(&self.town, &self.shared),
            };
            // A new agent's papers come one after the other; everything else that belongs together is one call.
            let together =
                if wishes.iter().all(|(_, wish)| matches!(wish, Wish::Tool { .. })) { wishes.len() } else { 1 };
            for wishes in wishes.chunks(together.max(1)) {
                let decisions = self.ask(caller.chance(), wishes)?;
                for ((id, wish), decision) in wishes.iter().zip(&decisions) {
                    caller.learn(id, wish, &decision.outcome, &self.shared);
                }
            }
        }
        Ok(())
    }

    /// Now and then the core answers one of the orders that wait, whoever was told of it before.
    fn core_says(&self, caller: &mut Caller, step: u64) -> Option<(String, Wish)> {
        if !self.arguments.core || !step.is_multiple_of(CORE_EVERY) {
            return None;
        }
        // A store that cannot be read now will be.
        let waiting = self.store.outbox(None, CORE_ORDERS).ok()?;
        let order = caller.chance().pick(&waiting)?;
        Some((caller.key().to_string(), Wish::of_core(order)))
    }

    /// Asks until the store decides, as a client with an idempotency key does.
    fn ask(&self, chance: &mut Chance, wishes: &[(String, Wish)]) -> Result<Vec<Decision>, GivenUp> {
        for pause in self.pauses() {
            let commands: Vec<Command> = wishes
                .iter()
                .map(|(id, wish)| {
                    let command = self.command(chance, wish);
                    let Stamp { wall, request_id, nonce, .. } = &command.stamp;
                    self.tell(&json!({
                        "intent": id, "at": wall.0, "request": request_id, "nonce": nonce, "wish": wish,
                    }));
                    command
                })
                .collect();
            let requests: Vec<RequestId> = commands.iter().map(|command| command.stamp.request_id.clone()).collect();
            let answer = self.store.apply(commands);
            for (number, ((id, _), request)) in wishes.iter().zip(&requests).enumerate() {
                let mut line = match &answer {
                    Ok(decisions) => told(&decisions[number]),
                    Err(fault) => json!({ "fault": name(fault), "message": fault.to_string() }),
                };
                line["answer"] = json!(id);
                line["request"] = json!(request);
                self.tell(&line);
            }
            match answer {
                Ok(decisions) => return Ok(decisions),
                Err(_) => std::thread::park_timeout(pause),
            }
        }
        Err(GivenUp)
    }

    /// As stubborn as a caller: the daemon's sequencer tries again too.
    fn sequence(&self, chance: &mut Chance) -> Result<(), GivenUp> {
        for pause in self.pauses() {
            match sequencer::advance(&*self.store, chance, self.wall()) {
                Ok(()) => return Ok(()),
                Err(_) => std::thread::park_timeout(pause),
            }
        }
        Err(GivenUp)
    }

    /// Of one question, until it is given up.
    fn pauses(&self) -> impl Iterator<Item = Duration> {
        let longer = |pause: &Duration| Some((*pause * 2).min(PAUSE_LAST));
        std::iter::successors(Some(PAUSE_FIRST), longer).take(self.arguments.faults.max(1) as usize)
    }

    fn wall(&self) -> UnixMillis {
        match self.arguments.clock {
            Some(_) => UnixMillis(self.now.fetch_add(self.arguments.tick, Ordering::SeqCst)),
            None => clock::now(),
        }
    }

    fn command(&self, chance: &mut Chance, wish: &Wish) -> Command {
        let wall = self.wall();
        let request_id = chance.id("req_").parse().expect("a ULID");
        // Agents' requests are signed and single-use; now and then an old one is sent again.
        let nonce = matches!(wish, Wish::Tool { .. }).then(|| self.nonce(chance));
        let (boot_ms, leaf_salt) = (clock::boot_ms(), chance.bytes());
        let stamp = Stamp { request_id, wall, boot_ms, leaf_salt, nonce, signature: None, commit_before: None };
        let fresh = FreshIds {
            transaction: chance.id("txn_").parse().expect("a ULID"),
            approval: chance.id("apr_").parse().expect("a ULID"),
            case: chance.id("case_").parse().expect("a ULID"),
            nonce: Sha256(chance.bytes()),
        };
        wish.command(&self.town, stamp, fresh)
    }

    fn nonce(&self, chance: &mut Chance) -> Sha256 {
        let fresh = Sha256(chance.bytes());
        let mut newest = self.newest_nonce.lock().expect("no caller panics with it");
        // On a clock that jumps the store may have forgotten it: the door's own look at the request's age is missing here.
        let again = chance.one_in(100) && self.arguments.clock.is_some();
        if again { newest.unwrap_or(fresh) } else { *newest.insert(fresh) }
    }

    /// A line leaves the process whole, before anything else happens.
    fn tell(&self, line: &Value) {
        let mut journal = self.journal.lock().expect("no caller panics while it writes");
        let _ = journal.write_all(format!("{line}\n").as_bytes());
        let _ = journal.flush();
    }

    fn first_standing_agent(&self) -> Result<u32, StoreFault> {
        let revoked = self.store.status()?.agents;
        Ok((0_u32..).find(|number| !revoked.contains(&self.town.agent(*number).spiffe_id)).unwrap_or_default())
    }
}

fn name(fault: &StoreFault) -> &'static str {
    match fault {
        StoreFault::Busy => "busy",
        StoreFault::TooLate => "too_late",
        StoreFault::OutcomeUnknown(_) => "outcome_unknown",
        StoreFault::NotRecorded(_) => "not_recorded",
        StoreFault::SchemaTooNew { .. } => "schema_too_new",
    }
}
