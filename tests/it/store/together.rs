//! Many callers at the same time.

use super::world::*;
use countersign::kernel::command::*;
use countersign::store::{Store, StoreFault};
use serde_json::json;

sentences! {
    a_command_that_cannot_be_recorded_does_not_fail_its_neighbours: |w| {
        w.bank();
        // A float has no canonical form: the leaf, and so the command, cannot be written.
        let bad = || w.command(Actor::System { component: "x".into() }, Act::Record {
            tool: "t".into(),
            decision: json!({ "float": 1.5 }),
        });
        assert!(matches!(w.store.apply(vec![bad()]), Err(StoreFault::NotRecorded(_))));
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..16)
                .map(|number| {
                    let good = w.tool_command(&shopper(), balance_of("CHK_001"));
                    let bad = bad();
                    let store: &dyn Store = w.store;
                    scope.spawn(move || {
                        if number % 4 == 0 {
                            assert!(matches!(store.apply(vec![bad]), Err(StoreFault::NotRecorded(_))));
                        } else {
                            assert!(store.apply(vec![good]).unwrap()[0].outcome.is_ok());
                        }
                    })
                })
                .collect();
            for caller in callers {
                caller.join().unwrap();
            }
        });
    };
    what_comes_too_late_is_not_recorded_and_fails_nobody_else: |w| {
        w.bank();
        let now = countersign::ops::clock::boot_ms();
        let until = |limit, key: &str| {
            let command = w.tool_command(&shopper(), transfer("5", key));
            let stamp = Stamp { commit_before: Some(limit), ..command.stamp };
            Command { stamp, ..command }
        };
        for limit in [i64::MIN, now] {
            assert!(matches!(w.store.apply(vec![until(limit, "late")]), Err(StoreFault::TooLate)));
        }
        std::thread::scope(|scope| {
            let store: &dyn Store = w.store;
            let callers: Vec<_> = (0..8)
                .map(|number| {
                    let in_time = number % 2 == 0;
                    let command = until(if in_time { now + 600_000 } else { now }, &format!("k{number}"));
                    scope.spawn(move || match store.apply(vec![command]) {
                        Ok(decisions) => assert!(in_time && decisions[0].outcome.is_ok()),
                        Err(fault) => assert!(!in_time && matches!(fault, StoreFault::TooLate)),
                    })
                })
                .collect();
            for caller in callers {
                caller.join().unwrap();
            }
        });
        // Nothing was taken under its key.
        assert!(w.store.apply(vec![until(now + 600_000, "late")]).unwrap()[0].outcome.is_ok());
        w.adds_up();
    };
    callers_at_the_same_time_never_spend_the_same_money: |w| {
        w.bank();
        let commands: Vec<Command> =
            (0..8).map(|number| w.tool_command(&shopper(), transfer("1500", &format!("k{number}")))).collect();
        let results: Vec<Outcome> = std::thread::scope(|scope| {
            let store: &dyn Store = w.store;
            let spawn = |command| scope.spawn(move || w_apply(store, command));
            let callers: Vec<_> = commands.into_iter().map(spawn).collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).collect()
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 3);
        w.adds_up();
    };
}

fn w_apply(store: &dyn Store, command: Command) -> Outcome {
    store.apply(vec![command]).unwrap().pop().unwrap().outcome
}
