//! What only a database server can do to a store: be shared, go away, lose an answer, hang, refuse.

use std::cell::Cell;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::world::*;
use crate::support::postgres::{Database, Server, endpoint, shared};
use crate::support::proxy::{Order, Proxy};
use countersign::front::lease::Lease;
use countersign::kernel::command::*;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::{Sha256, UnixMillis};
use countersign::ops::clock;
use countersign::ops::failure::Failure;
use countersign::ops::paths::StateDir;
use countersign::store::postgres::{Endpoint, PostgresStore};
use countersign::store::settings::StoreSettings;
use countersign::store::{Listing, Store, StoreFault, Turn};

/// Long enough for a busy machine, short against for ever.
const PATIENCE: Duration = Duration::from_secs(180);

fn apply(store: &dyn Store, command: Command) -> Result<Outcome, StoreFault> {
    store.apply(vec![command]).map(|mut decisions| decisions.pop().unwrap().outcome)
}

/// Applies the commands at the same time, in turns on each store.
fn at_once(stores: &[Arc<PostgresStore>], commands: Vec<Command>) -> Vec<Outcome> {
    std::thread::scope(|scope| {
        let callers: Vec<_> = commands
            .into_iter()
            .zip(stores.iter().cycle())
            .map(|(command, store)| scope.spawn(move || apply(&**store, command).unwrap()))
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    })
}

/// Asks until the store serves again; answers what it said first and what it said in the end.
fn until_served(store: &dyn Store, command: impl Fn() -> Command) -> Outcome {
    let started = std::time::Instant::now();
    loop {
        match apply(store, command()) {
            Ok(outcome) => return outcome,
            Err(StoreFault::NotRecorded(_)) if started.elapsed() < PATIENCE => {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            Err(fault) => panic!("{fault}"),
        }
    }
}

/// Asks until the outcomes are known, where others break the store meanwhile.
fn until_known(store: &dyn Store, commands: &[Command]) -> Vec<Outcome> {
    let started = std::time::Instant::now();
    loop {
        match store.apply(commands.to_vec()) {
            Ok(decisions) => return outcomes(decisions),
            Err(StoreFault::NotRecorded(_) | StoreFault::OutcomeUnknown(_)) if started.elapsed() < PATIENCE => {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            Err(fault) => panic!("{fault}"),
        }
    }
}

fn two(database: &Database<'_>) -> [Arc<PostgresStore>; 2] {
    [database.open(), database.open()]
}

#[test]
fn two_daemons_share_the_turns_of_a_limit_and_the_count_of_a_velocity() {
    let database = shared().database();
    let stores = two(&database);
    let turn = |name: &str| Turn { name: name.into(), interval_us: 3_600_000_000, burst: 5, now: UnixMillis(0) };
    let taken: usize = std::thread::scope(|scope| {
        let take = |store: &Arc<PostgresStore>| {
            let store = Arc::clone(store);
            scope.spawn(move || (0..20).filter(|_| store.take_turn(turn("agent a")).unwrap().is_none()).count())
        };
        let takers: Vec<_> = stores.iter().map(take).collect();
        takers.into_iter().map(|taker| taker.join().unwrap()).sum()
    });
    assert_eq!(taken, 5);
    assert_eq!(stores[1].take_turn(turn("agent b")).unwrap(), None);

    let velocity = serde_json::json!([{"name": "slow", "velocity": [{"count": 4, "window_s": 3600, "of": "account"}]}]);
    let rules = Arc::new(Rules { transactions: serde_json::from_value(velocity).unwrap(), ..rules() });
    World::new(&*stores[0]).bank();
    let paid: usize = std::thread::scope(|scope| {
        let pay = |(number, store): (u64, &Arc<PostgresStore>)| {
            let (store, rules) = (Arc::clone(store), Arc::clone(&rules));
            scope.spawn(move || {
                let ids = Cell::new(1_000_000 * (number + 1));
                let w = World { rules, ids, ..World::new(&*store) };
                let pays = |key: &u64| w.call(transfer("1", &format!("{number}-{key}"))).is_ok();
                (0..10).filter(pays).count()
            })
        };
        let payers: Vec<_> = (0..).zip(&stores).map(pay).collect();
        payers.into_iter().map(|payer| payer.join().unwrap()).sum()
    });
    assert_eq!(paid, 4);
    World::new(&*stores[1]).adds_up();
}

#[test]
fn a_turn_that_waits_for_another_daemon_keeps_the_log_and_the_lease_waiting_for_nothing() {
    let database = shared().database();
    let settings = StoreSettings { lock_timeout_ms: 9_000, ..database.settings() };
    let store = PostgresStore::open(&endpoint(&settings)).unwrap();
    let turn = || Turn { name: "role r".into(), interval_us: 1_000_000, burst: 5, now: UnixMillis(0) };
    assert_eq!(store.take_turn(turn()).unwrap(), None);
    let holder = Holder::of(&database, "SELECT 1 FROM turns WHERE name = 'role r' FOR UPDATE");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| store.take_turn(turn()).unwrap());
        waits_for(&database, "wait_event_type = 'Lock'");
        assert!(store.serve_as("one", 0).unwrap().is_some());
        store.forget_keys(UnixMillis(START), 10).unwrap();
        assert!(!waiting.is_finished(), "they came behind it");
        drop(holder);
        assert_eq!(waiting.join().unwrap(), None);
    });
}

#[test]
fn turns_that_a_server_took_while_its_clock_was_ahead_shut_nobody_out() {
    let database = shared().database();
    let store = database.open();
    let turn = || Turn { name: "role r".into(), interval_us: 600_000_000, burst: 3, now: UnixMillis(0) };
    assert_eq!(store.take_turn(turn()).unwrap(), None);
    database.sql("UPDATE turns SET taken_until = taken_until + 86400000000");
    assert_eq!(store.take_turn(turn()).unwrap(), None);
    let wait = store.take_turn(turn()).unwrap().expect("one is there, not all of them");
    assert!((1..=600).contains(&wait.as_secs()), "{wait:?}");
}

#[test]
fn a_payment_under_many_used_up_mandates_asks_the_server_no_oftener_than_under_one() {
    let database = shared().database();
    let proxy = Proxy::to(database.server.port());
    let store = PostgresStore::open(&endpoint(&database.settings_at(proxy.port()))).unwrap();
    let w = World::new(&*store);
    w.bank();
    let of = |last: u32, dollars: u32| {
        let limits = serde_json::json!([
            { "type": "payment.budget", "currency": "USD", "max": dollars, "period": "MONTHLY" },
            { "type": "payment.agent_recurrence", "frequency": "WEEKLY", "per_period": 100 },
        ]);
        super::mandates::enter(&w, &last.to_string(), &limits).unwrap();
    };
    let pays = |key: String| {
        let before = proxy.asked();
        let transaction = w.approved(transfer("1", &key));
        let asked = proxy.asked() - before;
        w.posted(execute_transfer(&transaction, "SAV_001", "1"));
        asked
    };
    of(99, 100);
    pays("first".into());
    let under_one = pays("one".into());
    for number in 1..32 {
        of(number, 1);
        pays(format!("k{number}"));
    }
    let under_many = pays("many".into());
    assert!(under_many <= under_one, "{under_many}, and {under_one} under one");
    assert!(under_one <= 4, "{under_one}: begin, the counts, write and commit");
    w.adds_up();
}

#[test]
fn two_daemons_move_the_money_of_one_authorization_once() {
    let database = shared().database();
    let stores = two(&database);
    let world = World::new(&*stores[0]);
    world.bank();
    for round in 0..5 {
        let transaction = world.approved(transfer("10", &format!("k{round}")));
        let commands: Vec<Command> =
            (0..8).map(|_| world.tool_command(&shopper(), execute_transfer(&transaction, "SAV_001", "10"))).collect();
        let repeats = at_once(&stores, commands).into_iter().map(|outcome| match outcome.unwrap() {
            Effect::Posted(posted) => posted.repeated,
            other => panic!("{other:?}"),
        });
        assert_eq!(repeats.filter(|repeated| !repeated).count(), 1);
    }
    assert_eq!(world.balance("SAV_001").0, "150.00");
    world.adds_up();
}

#[test]
fn two_daemons_together_keep_funds_limits_and_the_number_of_open_holds() {
    let database = shared().database();
    let stores = two(&database);
    let world = World::new(&*stores[0]);
    world.bank();
    let transfers = |amount: &str, round: &str| -> Vec<Command> {
        let key = |number| format!("{round}{number}");
        (0..16).map(|number| world.tool_command(&shopper(), transfer(amount, &key(number)))).collect()
    };
    let outcomes = at_once(&stores, transfers("1500", "funds"));
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
    // 5,000 a day without a human: three of 1,500 fit.
    let unattended = |outcome: &&Outcome| matches!(outcome, Ok(Effect::Approved { .. }));
    assert_eq!(outcomes.iter().filter(unattended).count(), 3);
    let outcomes = at_once(&stores, transfers("1", "holds"));
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 2);
    let holds_full = |outcome: &&Outcome| **outcome == Err(Refusal::TooManyOpenHolds);
    assert_eq!(outcomes.iter().filter(holds_full).count(), 14);
    world.adds_up();
}

#[test]
fn one_idempotency_key_at_two_daemons_at_once_is_one_transaction() {
    let database = shared().database();
    let stores = two(&database);
    let world = World::new(&*stores[0]);
    world.bank();
    let commands = (0..12).map(|_| world.tool_command(&shopper(), transfer("7", "same"))).collect();
    let outcomes = at_once(&stores, commands);
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0] && outcome.is_ok()), "{outcomes:?}");
    assert_eq!(world.balance("CHK_001").1, "7.00");
    let booking = |amount: &str| Act::Transfer {
        debit: "CHK_001".into(),
        credit: "SAV_001".into(),
        amount: usd(amount),
        reference: "once".parse().unwrap(),
    };
    let commands = (0..12).map(|_| world.command(Actor::System { component: "jobs".into() }, booking("3"))).collect();
    let fresh = at_once(&stores, commands).into_iter().filter(|outcome| match outcome {
        Ok(Effect::Posted(posted)) => !posted.repeated,
        other => panic!("{other:?}"),
    });
    assert_eq!(fresh.count(), 1);
    world.adds_up();
}

#[test]
fn a_revocation_at_one_daemon_is_seen_by_every_commit_after_it_at_the_other() {
    let database = shared().database();
    let stores = two(&database);
    let world = World::new(&*stores[0]);
    world.bank();
    let prepared: Vec<Command> = (0..400).map(|_| world.tool_command(&shopper(), balance_of("CHK_001"))).collect();
    let revoke = Act::Revoke { target: RevocationTarget::Agent(shopper().spiffe_id), reason: "lost".into() };
    let revoke = world.command(Actor::Operator(operator("ada", &["officer"])), revoke);
    let revoked = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for command in prepared {
                let was_revoked = revoked.load(std::sync::atomic::Ordering::SeqCst);
                let outcome = apply(&*stores[1], command).unwrap();
                assert!(!was_revoked || outcome == Err(Refusal::AgentRevoked));
                if outcome == Err(Refusal::AgentRevoked) {
                    break;
                }
            }
        });
        apply(&*stores[0], revoke).unwrap().unwrap();
        revoked.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    let after = world.tool_command(&shopper(), balance_of("CHK_001"));
    assert_eq!(apply(&*stores[1], after).unwrap(), Err(Refusal::AgentRevoked));
}

#[test]
fn two_daemons_sweep_and_number_crls_and_give_places_without_doing_it_twice() {
    let database = shared().database();
    let stores = two(&database);
    let world = World::new(&*stores[0]);
    world.bank();
    for key in ["a", "b", "c", "d"] {
        world.approved(transfer("10", key));
    }
    world.later(DAY_MS);
    let system = |act| world.command(Actor::System { component: "test".into() }, act);
    let sweeps = (0..6).map(|_| system(Act::Sweep { limit: 100 })).collect();
    let released: u32 = at_once(&stores, sweeps)
        .into_iter()
        .map(|outcome| match outcome.unwrap() {
            Effect::Swept { released } => released,
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!((released, world.balance("CHK_001").1.as_str()), (4, "0.00"));

    let numbers = (0..10).map(|_| system(Act::NextCrlNumber { issuer: "aa".into() })).collect();
    let mut given: Vec<u64> = at_once(&stores, numbers)
        .into_iter()
        .map(|outcome| match outcome.unwrap() {
            Effect::CrlNumber(number) => number,
            other => panic!("{other:?}"),
        })
        .collect();
    given.sort_unstable();
    assert_eq!(given, (1..=10).collect::<Vec<u64>>());

    let rows: Vec<i64> = stores[0].unsequenced(100).unwrap().iter().map(|leaf| leaf.row).collect();
    let given = std::thread::scope(|scope| {
        let give = |store: &Arc<PostgresStore>| {
            let (store, step) = (Arc::clone(store), step(0, rows.clone()));
            scope.spawn(move || store.sequence(step).is_ok())
        };
        let givers: Vec<_> = stores.iter().map(give).collect();
        givers.into_iter().map(|giver| giver.join().unwrap()).filter(|given| *given).count()
    });
    assert_eq!(given, 1);
    assert_eq!(stores[1].leaves(0, 1_000).unwrap().len(), rows.len());
    world.adds_up();
}

#[test]
fn entries_numbers_grow_with_time_on_every_account_whichever_daemon_posts() {
    let database = shared().database();
    let stores = two(&database);
    let world = World::new(&*stores[0]);
    world.bank();
    for number in 0..6 {
        let act = incoming("CHK_001", "1", &format!("r{number}"));
        let command = world.command(Actor::System { component: "jobs".into() }, act);
        apply(&*stores[number % 2], command).unwrap().unwrap();
    }
    let query = countersign::store::StatementQuery {
        account: "CHK_001".parse().unwrap(),
        from: None,
        until: None,
        before: None,
        limit: 100,
    };
    let statement = stores[0].statement(&query).unwrap().unwrap();
    let entries: Vec<i64> = statement.lines.iter().rev().map(|line| line.entry).collect();
    assert!(entries.is_sorted() && entries.len() == 7, "{entries:?}");
}

#[test]
fn a_server_that_is_started_again_is_served_from_again() {
    let server = Server::start("");
    let database = server.database();
    let store = database.open();
    let world = World::new(&*store);
    world.bank();
    world.approved(transfer("5", "before"));
    server.restart();
    // Nothing was asked while it was away: nobody notices.
    assert_eq!(world.balance("CHK_001").1, "5.00");
    world.approved(transfer("6", "after"));
    server.stop();
    let command = || world.tool_command(&shopper(), transfer("7", "late"));
    assert!(matches!(apply(&*store, command()), Err(StoreFault::NotRecorded(_))));
    assert!(matches!(store.listing(Listing::Accounts), Err(StoreFault::NotRecorded(_))));
    server.again();
    assert!(until_served(&*store, command).is_ok());
    assert_eq!(world.balance("CHK_001").1, "18.00");
    world.adds_up();
    drop(store);
}

#[test]
fn a_commit_whose_answer_is_lost_is_unknown_and_its_key_learns_that_it_happened() {
    let database = shared().database();
    let proxy = Proxy::to(shared().port());
    let store = PostgresStore::open(&endpoint(&database.settings_at(proxy.port()))).unwrap();
    let world = World::new(&*store);
    world.bank();
    proxy.order(Order::LoseAnswer);
    let command = || world.tool_command(&shopper(), transfer("5", "k"));
    assert!(matches!(apply(&*store, command()), Err(StoreFault::OutcomeUnknown(_))));
    assert!(proxy.is_done());
    let transactions = || database.sql("SELECT count(*) FROM transactions WHERE kind = 'transfer'");
    assert_eq!(transactions(), "1");
    assert!(matches!(until_served(&*store, command), Ok(Effect::Approved { .. })));
    assert_eq!(transactions(), "1");
    assert_eq!(world.balance("CHK_001").1, "5.00");
    world.adds_up();
}

#[test]
fn a_commit_that_never_arrives_is_unknown_and_its_key_learns_that_nothing_happened() {
    let database = shared().database();
    let proxy = Proxy::to(shared().port());
    let store = PostgresStore::open(&endpoint(&database.settings_at(proxy.port()))).unwrap();
    let world = World::new(&*store);
    world.bank();
    proxy.order(Order::LoseCommit);
    let command = || world.tool_command(&shopper(), transfer("5", "k"));
    assert!(matches!(apply(&*store, command()), Err(StoreFault::OutcomeUnknown(_))));
    assert!(proxy.is_done());
    assert_eq!(database.sql("SELECT count(*) FROM transactions WHERE kind = 'transfer'"), "0");
    assert!(matches!(until_served(&*store, command), Ok(Effect::Approved { .. })));
    assert_eq!(world.balance("CHK_001").1, "5.00");
    proxy.order(Order::LoseBegin);
    let command = || world.tool_command(&shopper(), transfer("6", "k2"));
    assert!(matches!(apply(&*store, command()), Err(StoreFault::NotRecorded(_))));
    assert!(until_served(&*store, command).is_ok());
    world.adds_up();
}

/// Eight callers, each with four calls of 128 bookings of a cent one after the other, so that a full group always waits
/// behind the one that commits. `reference` names a booking by its caller and number.
fn under_load(
    world: &World<'_>,
    reference: impl Fn(usize, usize) -> String,
    ask: impl Fn(usize, usize, &[Command]) -> Vec<Outcome> + Sync,
) {
    let booking = |reference: String| {
        let act = Act::Transfer {
            debit: "CHK_001".into(),
            credit: "SAV_001".into(),
            amount: usd("0.01"),
            reference: reference.parse().unwrap(),
        };
        world.command(Actor::System { component: "jobs".into() }, act)
    };
    let commands = |caller| (0..512).map(|number| booking(reference(caller, number))).collect();
    let callers: Vec<Vec<Command>> = (0..8).map(commands).collect();
    std::thread::scope(|scope| {
        for (caller, commands) in callers.iter().enumerate() {
            let ask = &ask;
            scope.spawn(move || {
                for (number, commands) in commands.chunks(128).enumerate() {
                    let outcomes = ask(caller, number, commands);
                    assert!(outcomes.len() == 128 && outcomes.iter().all(Result::is_ok), "{outcomes:?}");
                }
            });
        }
    });
}

fn outcomes(decisions: Vec<Decision>) -> Vec<Outcome> {
    decisions.into_iter().map(|decision| decision.outcome).collect()
}

#[test]
fn a_commit_that_is_lost_under_load_moves_no_money_twice_nor_that_of_the_group_begun_behind_it() {
    let database = shared().database();
    let proxy = Proxy::to(shared().port());
    let store = PostgresStore::open(&endpoint(&database.settings_at(proxy.port()))).unwrap();
    let world = World::new(&*store);
    world.bank();
    let name = |caller, number| format!("r{caller}x{number}");
    under_load(&world, name, |caller, number, commands| {
        if caller == 0 {
            let orders = [Order::LoseAnswer, Order::LoseCommit, Order::LoseBegin, Order::LoseAnswer];
            proxy.order(orders[number]);
        }
        until_known(&*store, commands)
    });
    assert!(proxy.is_done());
    assert_eq!(world.balance("SAV_001").0, "140.96");
    world.adds_up();
}

#[test]
fn a_group_that_loses_a_race_is_decided_again_and_so_is_the_one_begun_behind_it() {
    let database = shared().database();
    let stores = two(&database);
    let world = World::new(&*stores[0]);
    world.bank();
    let same = |_, number| format!("r{number}");
    under_load(&world, same, |caller, _, commands| outcomes(stores[caller % 2].apply(commands.to_vec()).unwrap()));
    assert_eq!(world.balance("SAV_001").0, "105.12");
    world.adds_up();
}

#[test]
fn a_server_that_hangs_does_not_hang_its_callers() {
    let database = shared().database();
    let proxy = Proxy::to(shared().port());
    let settings = StoreSettings {
        commit_deadline_ms: 500,
        connect_timeout_ms: 500,
        statement_timeout_ms: 400,
        ..database.settings_at(proxy.port())
    };
    let store = PostgresStore::open(&endpoint(&settings)).unwrap();
    let world = World::new(&*store);
    world.bank();
    proxy.order(Order::Stall);
    let started = std::time::Instant::now();
    let command = || world.tool_command(&shopper(), transfer("5", "k"));
    assert!(matches!(apply(&*store, command()), Err(StoreFault::NotRecorded(_))));
    assert!(matches!(store.listing(Listing::Accounts), Err(StoreFault::NotRecorded(_))));
    assert!(matches!(apply(&*store, command()), Err(StoreFault::NotRecorded(_))));
    assert!(started.elapsed() < PATIENCE);
    proxy.order(Order::Pass);
    assert!(until_served(&*store, command).is_ok());
    world.adds_up();
}

/// A session of somebody else that holds a row.
struct Holder(Child);

impl Holder {
    fn of(database: &Database<'_>, sql: &str) -> Self {
        let mut session =
            database.server.psql(&database.name).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        writeln!(session.stdin.as_mut().unwrap(), "BEGIN; {sql}; \\echo held").unwrap();
        let mut said = std::io::BufReader::new(session.stdout.as_mut().unwrap());
        let mut line = String::new();
        while !line.contains("held") {
            line.clear();
            assert_ne!(std::io::BufRead::read_line(&mut said, &mut line).unwrap(), 0);
        }
        Self(session)
    }

    fn says(&mut self, sql: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{sql};").unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_row_that_somebody_else_holds_fails_its_command_in_time_and_no_other() {
    let database = shared().database();
    let settings = StoreSettings { lock_timeout_ms: 300, ..database.settings() };
    let store = PostgresStore::open(&endpoint(&settings)).unwrap();
    let world = World::new(&*store);
    world.bank();
    let holder = Holder::of(&database, "SELECT 1 FROM accounts WHERE name = 'CHK_002' FOR UPDATE");
    let held = world.command(Actor::System { component: "jobs".into() }, incoming("CHK_002", "1", "r"));
    let free: Vec<Command> =
        (0..4).map(|number| world.tool_command(&shopper(), transfer("1", &format!("k{number}")))).collect();
    std::thread::scope(|scope| {
        let store: &PostgresStore = &store;
        let callers: Vec<_> = free.into_iter().map(|command| scope.spawn(move || apply(store, command))).collect();
        let refused = apply(store, held.clone());
        assert!(matches!(&refused, Err(StoreFault::NotRecorded(why)) if why.contains("lock timeout")), "{refused:?}");
        for caller in callers {
            assert!(caller.join().unwrap().unwrap().is_ok());
        }
    });
    drop(holder);
    assert!(apply(&*store, held).unwrap().is_ok());
    world.adds_up();
}

#[test]
fn what_became_too_late_behind_a_commit_that_took_long_is_not_recorded() {
    let database = shared().database();
    let settings = StoreSettings { lock_timeout_ms: 60_000, ..database.settings() };
    let store = PostgresStore::open(&endpoint(&settings)).unwrap();
    let world = World::new(&*store);
    world.bank();
    let booking = |limit, number: u32| {
        let act = Act::Transfer {
            debit: "CHK_001".into(),
            credit: "SAV_001".into(),
            amount: usd("0.01"),
            reference: format!("r{number}").parse().unwrap(),
        };
        let command = world.command(Actor::System { component: "jobs".into() }, act);
        Command { stamp: Stamp { commit_before: limit, ..command.stamp }, ..command }
    };
    let holder = Holder::of(&database, "SELECT 1 FROM accounts WHERE name = 'CHK_001' FOR UPDATE");
    let (tell, told) = std::sync::mpsc::channel();
    let submit = |limit, number| {
        let tell = tell.clone();
        store.submit(vec![booking(limit, number)], Box::new(move |outcome| tell.send(outcome.map(outcomes)).unwrap()));
    };
    submit(None, 0);
    waits_for(&database, "wait_event_type = 'Lock'");
    // More than a full group: it is begun before the one that waits has committed.
    const LATE: u32 = 600;
    let now = clock::boot_ms();
    (1..=LATE).for_each(|number| submit(Some(now), number));
    drop(holder);
    let (mut recorded, mut late) = (0, 0);
    for _ in 0..=LATE {
        match told.recv().unwrap() {
            Ok(outcomes) => recorded += u32::from(outcomes[0].is_ok()),
            Err(StoreFault::TooLate) => late += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((recorded, late), (1, LATE));
    assert_eq!(world.balance("SAV_001").0, "100.01");
    world.adds_up();
}

#[test]
fn a_statement_that_takes_too_long_is_ended_by_the_server_and_nothing_is_recorded() {
    let database = shared().database();
    let settings = StoreSettings { statement_timeout_ms: 300, lock_timeout_ms: 60_000, ..database.settings() };
    let store = PostgresStore::open(&endpoint(&settings)).unwrap();
    let world = World::new(&*store);
    world.bank();
    let holder = Holder::of(&database, "LOCK TABLE entries IN ACCESS EXCLUSIVE MODE");
    let command = world.command(Actor::System { component: "jobs".into() }, incoming("CHK_002", "1", "r"));
    let refused = apply(&*store, command.clone());
    assert!(matches!(&refused, Err(StoreFault::NotRecorded(why)) if why.contains("statement timeout")), "{refused:?}");
    drop(holder);
    assert!(apply(&*store, command).unwrap().is_ok());
    world.adds_up();
}

#[test]
fn daemons_that_start_at_once_migrate_once_and_a_newer_schema_is_refused() {
    let database = shared().database();
    let stores: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| database.open())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    World::new(&*stores[3]).bank().adds_up();
    drop(stores);
    database.sql("INSERT INTO schema_version (version) VALUES (99)");
    let refused = PostgresStore::open(&endpoint(&database.settings())).unwrap_err();
    assert!(matches!(refused, StoreFault::SchemaTooNew { found: 99, .. }), "{refused}");
}

#[test]
fn a_wrong_password_and_a_missing_database_are_named() {
    let server = Server::start("");
    let rules = server.data().join("pg_hba.conf");
    let before = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(&rules, format!("host all guarded 127.0.0.1/32 scram-sha-256\n{before}")).unwrap();
    let database = server.database();
    database.sql("CREATE ROLE guarded LOGIN PASSWORD 'right'; GRANT ALL ON SCHEMA public TO guarded");
    database.sql("SELECT pg_reload_conf()");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    let open = |password: Option<&str>| {
        if let Some(password) = password {
            std::fs::write(&file, password).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let url = database.settings().url.replace("postgres@", "guarded@");
        let settings = StoreSettings { url, password_file: password.map(|_| file.clone()), ..database.settings() };
        PostgresStore::open(&endpoint(&settings)).map(|_| ()).map_err(|fault| fault.to_string())
    };
    let wrong = open(Some("wrong")).unwrap_err();
    assert!(wrong.contains("refused user guarded") && wrong.contains("password_file"), "{wrong}");
    let none = open(None).unwrap_err();
    assert!(none.contains("asks user guarded for a password"), "{none}");
    assert_eq!(open(Some("right\n")), Ok(()));
    let url = database.settings().url.replace(&database.name, "nowhere");
    let settings = StoreSettings { url, ..database.settings() };
    let missing = PostgresStore::open(&endpoint(&settings)).unwrap_err().to_string();
    assert!(missing.contains("has no database nowhere"), "{missing}");
}

#[test]
fn bookings_across_the_same_accounts_from_two_daemons_all_succeed_whatever_their_order() {
    let database = shared().database();
    let stores = two(&database);
    let world = World::new(&*stores[0]);
    for number in 0..6 {
        world.admin(open(&format!("A{number}"), "O", Some("1000"))).unwrap();
    }
    let booking = |number: usize| {
        let act = Act::Transfer {
            debit: format!("A{}", number % 6),
            credit: format!("A{}", (number * 5 + 1) % 6),
            amount: usd("1"),
            reference: format!("r{number}").parse().unwrap(),
        };
        world.command(Actor::System { component: "jobs".into() }, act)
    };
    // In groups of three accounts in any order, so that each daemon also locks what it did not foresee.
    let groups: Vec<Vec<Command>> =
        (0..60).map(|group| (0..4).map(|number| booking(group * 4 + number)).collect()).collect();
    let same_account = |number: usize| number % 6 == (number * 5 + 1) % 6;
    std::thread::scope(|scope| {
        for (number, group) in groups.into_iter().enumerate() {
            let store = &stores[number % 2];
            scope.spawn(move || {
                for (at, decision) in store.apply(group).unwrap().into_iter().enumerate() {
                    assert_eq!(decision.outcome.is_err(), same_account(number * 4 + at), "{:?}", decision.outcome);
                }
            });
        }
    });
    world.adds_up();
}

#[test]
fn a_deadlock_with_somebody_else_is_tried_again() {
    let server = Server::start("fsync = off\ndeadlock_timeout = '100ms'");
    let database = server.database();
    let store = database.open();
    let world = World::new(&*store);
    world.bank();
    // Somebody locks in the other order: the later account first.
    let mut holder = Holder::of(&database, "SELECT 1 FROM accounts WHERE name = 'SAV_001' FOR UPDATE");
    let command = world.command(
        Actor::System { component: "jobs".into() },
        Act::Transfer {
            debit: "CHK_001".into(),
            credit: "SAV_001".into(),
            amount: usd("1"),
            reference: "r".parse().unwrap(),
        },
    );
    std::thread::scope(|scope| {
        let store: &PostgresStore = &store;
        let caller = scope.spawn(move || apply(store, command).unwrap());
        waits_for(&database, "wait_event_type = 'Lock'");
        holder.says("SELECT 1 FROM accounts WHERE name = 'CHK_001' FOR UPDATE; COMMIT");
        assert!(caller.join().unwrap().is_ok());
    });
    assert_eq!(world.balance("SAV_001").0, "101.00");
    world.adds_up();
}

/// Until a session of the store is seen in this state by the server.
fn waits_for(database: &Database<'_>, state: &str) {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'countersign' AND {state}
         AND datname = current_database()"
    );
    let started = std::time::Instant::now();
    while database.sql(&sql) == "0" {
        assert!(started.elapsed() < PATIENCE, "no session is seen with {state}");
    }
}

#[test]
fn a_commit_that_no_standby_confirmed_is_unknown() {
    let server = Server::start("");
    let database = server.database();
    let store = database.open();
    let world = World::new(&*store);
    world.bank();
    server.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
    server.sql("postgres", "SELECT pg_reload_conf()");
    let command = || world.tool_command(&shopper(), transfer("5", "k"));
    std::thread::scope(|scope| {
        let (store, command): (&PostgresStore, Command) = (&store, command());
        let caller = scope.spawn(move || apply(store, command));
        waits_for(&database, "wait_event = 'SyncRep'");
        database.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
        let answer = caller.join().unwrap();
        assert!(matches!(answer, Err(StoreFault::OutcomeUnknown(_))), "{answer:?}");
    });
    server.sql("postgres", "ALTER SYSTEM RESET synchronous_standby_names");
    server.sql("postgres", "SELECT pg_reload_conf()");
    assert!(until_served(&*store, command).is_ok());
    assert_eq!(world.balance("CHK_001").1, "5.00");
    world.adds_up();
    drop(store);
}

#[test]
fn a_server_that_does_not_sync_is_named() {
    let database = shared().database();
    assert_eq!(database.open().concerns().unwrap(), ["the database server has fsync = off"]);
}

#[test]
fn every_call_is_fine_from_a_thread_of_an_async_runtime() {
    let database = shared().database();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = database.open();
        World::new(&*store).bank().adds_up();
        let blocking = Arc::clone(&store);
        let listed = tokio::task::spawn_blocking(move || blocking.listing(Listing::Accounts).unwrap().len()).await;
        assert_eq!(listed.unwrap(), store.listing(Listing::Accounts).unwrap().len());
        drop(store);
    });
}

/// An authority, and a certificate of it for this name, as PEM.
fn authority(name: &str) -> (String, String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut root = rcgen::CertificateParams::new(vec![]).unwrap();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let issuer = rcgen::CertifiedIssuer::self_signed(root, key).unwrap();
    let server_key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&server_key, &issuer).unwrap();
    (issuer.pem(), server.pem(), server_key.serialize_pem())
}

#[test]
fn tls_takes_the_right_authority_and_the_right_name() {
    let server = Server::start("");
    let (root, certificate, key) = authority("127.0.0.1");
    server.write("server.crt", &certificate);
    server.write("server.key", &key);
    server.sql("postgres", "ALTER SYSTEM SET ssl = on");
    let rules = server.data().join("pg_hba.conf");
    let before = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(&rules, format!("hostssl all guarded 127.0.0.1/32 scram-sha-256\n{before}")).unwrap();
    server.sql("postgres", "CREATE ROLE guarded LOGIN SUPERUSER PASSWORD 'right'");
    server.sql("postgres", "SELECT pg_reload_conf()");
    let database = server.database();
    let directory = tempfile::tempdir().unwrap();
    let state = StateDir::new(directory.path());
    std::fs::write(directory.path().join("root.pem"), root).unwrap();
    std::fs::write(directory.path().join("other.pem"), authority("127.0.0.1").0).unwrap();
    let password = directory.path().join("password");
    std::fs::write(&password, "right").unwrap();
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
    let open = |host: &str, root: &str| {
        let address = format!("guarded@{host}:{}", server.port());
        let url = format!(
            "postgres://{address}/{}?sslmode=verify-full&sslrootcert={root}&channel_binding=require",
            database.name
        );
        let settings = StoreSettings { url, password_file: Some(password.clone()), ..StoreSettings::default() };
        let endpoint = Endpoint::read(&settings, &state).unwrap();
        PostgresStore::open(&endpoint).map_err(|fault| fault.to_string())
    };
    let store = open("127.0.0.1", "root.pem").unwrap();
    let encrypted = database
        .sql("SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'guarded'");
    assert_eq!(encrypted, "t");
    World::new(&*store).bank().adds_up();
    drop(store);
    let stranger = open("127.0.0.1", "other.pem").map(|_| ()).unwrap_err();
    assert!(stranger.contains("TLS"), "{stranger}");
    let misnamed = open("localhost", "root.pem").map(|_| ()).unwrap_err();
    assert!(misnamed.contains("TLS"), "{misnamed}");
}

/// A node that hears of everything, and one that hears of nothing any more.
#[test]
fn a_revocation_waits_for_every_node_to_act_or_to_lose_its_lease() {
    let database = shared().database();
    let stores = [database.open(), database.open(), database.open()].map(|store| store as Arc<dyn Store>);
    let [here, there, silent] = stores.clone().map(Lease::new);
    let act = |_: &Lease| Ok(());
    for lease in [&here, &there, &silent] {
        assert!(lease.holds(), "nobody said yet that others share the store");
        lease.renew(|| act(lease)).unwrap();
        assert!(lease.holds());
    }
    assert_eq!(here.await_others().unwrap(), 3);
    let world = World::new(&*stores[0]);
    world.bank().revoke_shopper().unwrap();

    let seen = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| here.await_others());
        // It has not acted as long as acting fails, whatever it says.
        let failing = there.renew(|| Err(Failure::fault("not_now", "x", "y")));
        assert_eq!(failing.unwrap_err().name, "not_now");
        there
            .renew(|| {
                let status = stores[1].status().map_err(Failure::from)?;
                seen.store(status.agents.contains(&shopper().spiffe_id), std::sync::atomic::Ordering::SeqCst);
                Ok(())
            })
            .unwrap();
        // The silent one is waited for until its own clock has ended its lease; by then the other may have to say again
        // that it serves.
        let nodes = waiting.join().unwrap().unwrap();
        assert!((1..=2).contains(&nodes), "{nodes}");
        assert!(!silent.holds(), "whoever has not acted serves no more");
    });
    assert!(seen.load(std::sync::atomic::Ordering::SeqCst));
    silent.renew(|| Ok(())).unwrap();
    assert!(silent.holds());
}

/// Each has looked before, and found the name free.
#[test]
fn of_two_daemons_that_give_one_name_to_two_keys_at_once_one_is_refused() {
    let database = shared().database();
    let stores = [database.open(), database.open()];
    for round in 0..20_u8 {
        let name = format!("spiffe://countersign.example/agent/purchaser/agent-{round}");
        let journal = |number: u8| {
            let record = CertificateRecord {
                key: Sha256::of(&[&[round, number]]),
                not_after: UnixMillis(i64::MAX),
                ..certificate(&format!("crt_{round}_{number}"), &name, 1 + 2 * round + number)
            };
            let actor = Actor::System { component: "test".into() };
            Command { stamp: clock::stamp(clock::fresh_request_id()), actor, act: Act::JournalCertificate { record } }
        };
        let outcomes = at_once(&stores, vec![journal(0), journal(1)]);
        let refused = outcomes.iter().filter(|outcome| **outcome == Err(Refusal::AlreadyExists)).count();
        let given = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!((given, refused), (1, 1), "round {round}: {outcomes:?}");
    }
}
