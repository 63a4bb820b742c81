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
