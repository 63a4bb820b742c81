//! The breaker's guard in every order in which threads meet at it: one carries orders out, others see, ask and lift.

use std::collections::BTreeSet;
use std::sync::Arc;

use shuttle::thread;

use super::settings::BreakerSettings;
use super::{Guard, Order, Reached, Seen};
use crate::kernel::breaker::Cause;
use crate::kernel::types::Sha256;
use crate::ops::clock;
use crate::ops::sync::Mutex;

const ORDERS: usize = 400;
const SEED: u64 = 7;

/// Everything at once: evidence and recovery are complete as soon as they are there.
fn settings() -> BreakerSettings {
    BreakerSettings {
        hsm_down_ms: 0,
        core_failures: 2,
        core_failing_ms: 0,
        anomalous_agents: 3,
        probe_successes: 1,
        recovered_ms: 0,
        probe_pause_ms: 0,
        probe_pause_max_ms: 0,
        ..BreakerSettings::default()
    }
}

/// What was recorded, in its order: causes with whether they were opened.
#[derive(Default)]
struct Record(Mutex<Vec<(Cause, bool)>>);

impl Record {
    fn says(&self, cause: Cause, opened: bool) {
        self.0.lock().unwrap().push((cause, opened));
    }

    /// What stands by the record alone.
    fn standing(&self) -> BTreeSet<Cause> {
        let mut standing = BTreeSet::new();
        for (cause, opened) in self.0.lock().unwrap().iter() {
            if *opened {
                standing.insert(*cause);
            } else {
                standing.remove(cause);
            }
        }
        standing
    }
}

/// One turn as `payment/breaker.rs` takes it; probes come to `well`.
fn turn(guard: &Guard, record: &Record, well: Reached) {
    for order in guard.turn() {
        match order {
            Order::Open { cause, .. } => {
                record.says(cause, true);
                guard.opened(cause);
            }
            Order::Lift { cause } => {
                record.says(cause, false);
                guard.lifted(cause);
            }
            Order::Probe { cause } => guard.saw(Seen::Probe(cause, well)),
        }
    }
}

/// An order without a word.
fn unheard(number: u8) -> Seen {
    Seen::Core { order: Sha256::of(&[&[number]]), reached: Reached::No }
}

fn check(life: impl Fn() + Send + Sync + 'static) {
    shuttle::check_random_with_seed(life, SEED, ORDERS);
}

/// Evidence that came together from several threads stops the node, whoever takes turns meanwhile.
#[test]
fn no_stop_is_lost_between_threads_that_see() {
    check(|| {
        let (guard, record) = (Guard::new(settings(), clock::fresh_node_id()), Arc::new(Record::default()));
        let seeing: Vec<_> = (0..2)
            .map(|order| {
                let guard = Arc::clone(&guard);
                thread::spawn(move || guard.saw(unheard(order)))
            })
            .collect();
        let turning = {
            let (guard, record) = (Arc::clone(&guard), Arc::clone(&record));
            thread::spawn(move || turn(&guard, &record, Reached::No))
        };
        for thread in seeing {
            thread.join().unwrap();
        }
        turning.join().unwrap();
        turn(&guard, &record, Reached::No);
        assert!(guard.stopped_here().is_some(), "two orders without a word");
        assert_eq!(record.standing(), [Cause::CoreFailing].into());
    });
}

/// A cause is lifted while its evidence comes anew: what came after the order to lift it counts, and the record ends
/// as the guard does.
#[test]
fn a_lift_never_overtakes_what_opens_anew() {
    check(|| {
        let (guard, record) = (Guard::new(settings(), clock::fresh_node_id()), Arc::new(Record::default()));
        let many = |guard: &Guard, from: u8| {
            for number in from..from + 3 {
                guard.saw(unheard(number));
                guard.saw(Seen::Alert(number.to_string()));
            }
        };
        many(&guard, 0);
        turn(&guard, &record, Reached::Yes);
        assert!(guard.stopped_here().is_some());
        // Probed well; the next turn lifts.
        turn(&guard, &record, Reached::Yes);
        let attack = {
            let guard = Arc::clone(&guard);
            thread::spawn(move || many(&guard, 3))
        };
        let lifting = {
            let (guard, record) = (Arc::clone(&guard), Arc::clone(&record));
            thread::spawn(move || turn(&guard, &record, Reached::No))
        };
        lifting.join().unwrap();
        attack.join().unwrap();
        // The one turn that looks at what came: it opens anew, or nothing was ever lifted.
        turn(&guard, &record, Reached::No);
        assert!(guard.stopped_here().is_some(), "{:?}", *record.0.lock().unwrap());
        assert!(record.standing().contains(&Cause::CoreFailing), "{:?}", *record.0.lock().unwrap());
    });
}

/// Once a turn has found that a cause stands, no thread hears that the node pays until it was lifted.
#[test]
fn whoever_asks_after_a_turn_hears_that_the_node_is_stopped() {
    check(|| {
        let (guard, record) = (Guard::new(settings(), clock::fresh_node_id()), Arc::new(Record::default()));
        guard.saw(Seen::Hsm(Reached::No));
        let found = Arc::new(Mutex::new(false));
        let turning = {
            let (guard, record, found) = (Arc::clone(&guard), Arc::clone(&record), Arc::clone(&found));
            thread::spawn(move || {
                turn(&guard, &record, Reached::No);
                *found.lock().unwrap() = true;
                guard.saw(Seen::Hsm(Reached::No));
                turn(&guard, &record, Reached::No);
            })
        };
        let asking = {
            let guard = Arc::clone(&guard);
            thread::spawn(move || {
                let after = *found.lock().unwrap();
                let said = guard.stopped_here();
                assert!(!after || said.is_some(), "it was found before it was asked");
            })
        };
        turning.join().unwrap();
        asking.join().unwrap();
    });
}

/// A person lifts while a turn opens: the guard is stopped only by what the record can show, or will with the next turn.
#[test]
fn a_persons_lift_and_a_turn_leave_one_truth() {
    check(|| {
        let (guard, record) = (Guard::new(settings(), clock::fresh_node_id()), Arc::new(Record::default()));
        guard.saw(Seen::Hsm(Reached::No));
        turn(&guard, &record, Reached::No);
        let person = {
            let (guard, record) = (Arc::clone(&guard), Arc::clone(&record));
            thread::spawn(move || {
                record.says(Cause::HsmDown, false);
                guard.lifted(Cause::HsmDown);
            })
        };
        let again = {
            let (guard, record) = (Arc::clone(&guard), Arc::clone(&record));
            thread::spawn(move || {
                guard.saw(Seen::Hsm(Reached::No));
                turn(&guard, &record, Reached::No);
            })
        };
        person.join().unwrap();
        again.join().unwrap();
        guard.saw(Seen::Hsm(Reached::No));
        turn(&guard, &record, Reached::No);
        assert!(guard.stopped_here().is_some(), "the HSM is away, whoever says otherwise");
        assert!(guard.standing().iter().all(|progress| progress.is_recorded));
    });
}
