//! Many callers at the same time at the edges of limits, caps and keys: exactly what fits passes, and nothing twice.

use super::world::*;
use countersign::kernel::command::*;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::*;
use countersign::store::Store;

sentences! {
    an_accounts_day_lets_exactly_its_limit_through: |w| {
        w.bank();
        let new = NewAccount { day_max: Some(usd("100")), ..new_account("DAY", "OWN_001", Some("1000")) };
        w.admin(Act::OpenAccount(new)).unwrap();
        let agents: Vec<AgentPrincipal> = (0..4).map(|number| agent("purchaser", &format!("racer-{number}"))).collect();
        for agent in &agents {
            w.admin(grant(agent, "DAY", EVERY_VERB)).unwrap();
        }
        // Agents and the bank's own jobs draw on the same day.
        let commands = (0..24).map(|number| match agents.get(number % 6) {
            Some(agent) => w.tool_command(agent, transfer_to(Some("DAY"), "SAV_001", "9", &format!("k{number}"))),
            None => {
                let reference = format!("b{number}").parse().unwrap();
                let (debit, credit) = ("DAY".into(), "SAV_001".into());
                let act = Act::Transfer { debit, credit, amount: usd("9"), reference };
                w.command(Actor::System { component: "job".into() }, act)
            }
        });
        let outcomes = at_once(w, commands.collect());
        assert_eq!(permitted(&outcomes), 11, "{outcomes:?}");
        for outcome in outcomes.iter().filter(|outcome| outcome.is_err()) {
            assert_eq!(outcome, &Err(Refusal::AccountDayLimitExceeded));
        }
        w.adds_up();
    };
    an_agents_unattended_day_lets_exactly_its_limit_through: |w| {
        w.bank();
        let limits = std::sync::Arc::new(Rules { unattended_per_day: usd("50"), open_holds_max: 100, ..rules() });
        let commands = (0..16).map(|number| {
            let call = transfer("9", &format!("k{number}"));
            let act = Act::Tool { call, rules: std::sync::Arc::clone(&limits), fresh: w.fresh(), risk: None };
            w.command(Actor::Agent(shopper()), act)
        });
        let outcomes = at_once(w, commands.collect());
        let alone = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Effect::Approved { .. }))).count();
        assert_eq!((alone, permitted(&outcomes)), (5, 16), "the others ask a human");
        w.adds_up();
    };
    open_holds_never_pass_their_cap: |w| {
        w.bank();
        let commands = (0..16).map(|number| w.tool_command(&shopper(), transfer("1", &format!("k{number}"))));
        let outcomes = at_once(w, commands.collect());
        assert_eq!(permitted(&outcomes), 5);
        assert_eq!(w.balance("CHK_001").1, "5.00");
        for outcome in outcomes.iter().filter(|outcome| outcome.is_err()) {
            assert_eq!(outcome, &Err(Refusal::TooManyOpenHolds));
        }
    };
    a_nonce_is_taken_by_one: |w| {
        w.bank();
        let commands = (0..16).map(|number| {
            let mut command = w.tool_command(&shopper(), transfer("1", &format!("k{number}")));
            command.stamp.nonce = Some(Sha256([9; 32]));
            command
        });
        let outcomes = at_once(w, commands.collect());
        assert_eq!(permitted(&outcomes), 1, "{outcomes:?}");
        let replayed = outcomes.iter().filter(|outcome| **outcome == Err(Refusal::NonceReplayed)).count();
        assert_eq!((replayed, w.balance("CHK_001").1), (15, "1.00".into()));
    };
    one_key_makes_one_authorization_and_one_reference_one_posting: |w| {
        w.bank();
        let job = Actor::System { component: "job".into() };
        let book = || Act::Transfer {
            debit: "CHK_001".into(),
            credit: "SAV_001".into(),
            amount: usd("2"),
            reference: "r".parse().unwrap(),
        };
        let commands = (0..16).map(|number| match number % 2 {
            0 => w.tool_command(&shopper(), transfer("1", "k")),
            _ => w.command(job.clone(), book()),
        });
        let outcomes = at_once(w, commands.collect());
        let (mut authorized, mut posted) = (vec![], vec![]);
        for outcome in outcomes {
            match outcome.unwrap() {
                Effect::Approved { transaction_id, .. } => authorized.push(transaction_id),
                Effect::Posted(one) => posted.push((one.transaction_id, one.repeated)),
                other => panic!("{other:?}"),
            }
        }
        assert!(authorized.len() == 8 && authorized.windows(2).all(|pair| pair[0] == pair[1]), "{authorized:?}");
        assert!(posted.len() == 8 && posted.windows(2).all(|pair| pair[0].0 == pair[1].0), "{posted:?}");
        assert_eq!(posted.iter().filter(|(_, repeated)| !repeated).count(), 1);
        assert_eq!(w.balance("CHK_001"), ("5245.83".into(), "1.00".into()));
        w.adds_up();
    };
    an_execution_and_a_cancellation_at_once_have_one_winner: |w| {
        w.bank();
        let ids: Vec<TransactionId> = ["a", "b", "c", "d"].map(|key| w.approved(transfer("1", key))).into();
        let commands = ids.iter().flat_map(|id| {
            let calls = [execute_transfer(id, "SAV_001", "1"), cancel(id), execute_transfer(id, "SAV_001", "1"), cancel(id)];
            calls.map(|call| w.tool_command(&shopper(), call))
        });
        let outcomes = at_once(w, commands.collect());
        for (id, said) in ids.iter().zip(outcomes.chunks(4)) {
            let moved = said.iter().any(|outcome| matches!(outcome, Ok(Effect::Posted(_))));
            let cancelled = said.iter().any(|outcome| matches!(outcome, Ok(Effect::Cancelled { .. })));
            assert!(moved != cancelled, "{id}: {said:?}");
        }
        assert_eq!(w.balance("CHK_001").1, "0.00");
        w.adds_up();
    };
    reversals_asked_for_at_once_never_take_more_than_there_was: |w| {
        w.bank();
        let moved = w.approved(transfer("10", "k"));
        w.posted(execute_transfer(&moved, "SAV_001", "10"));
        let rules = std::sync::Arc::new(Rules { open_holds_max: 100, ..rules() });
        let commands = (0..12).map(|number| {
            let key = format!("r{number}");
            let (fresh, rules) = (w.fresh(), std::sync::Arc::clone(&rules));
            if number % 2 == 0 {
                let call = reversal(&moved, Some("3"), &key);
                w.command(Actor::Agent(shopper()), Act::Tool { call, rules, fresh, risk: None })
            } else {
                let (transaction_id, idempotency_key) = (moved.clone(), key.parse().unwrap());
                let amount = Some(usd("3"));
                let act = Act::ReverseTransaction { transaction_id, amount, idempotency_key, rules, fresh };
                w.command(Actor::Operator(operator("ada", &["officer"])), act)
            }
        });
        let outcomes = at_once(w, commands.collect());
        assert_eq!(permitted(&outcomes), 3, "{outcomes:?}");
        let approvals: Vec<ApprovalId> = outcomes
            .into_iter()
            .filter_map(|outcome| match outcome {
                Ok(Effect::RequiresApproval { approval_id, .. }) => Some(approval_id),
                _ => None,
            })
            .collect();
        // Two people press yes on each at the same moment.
        let commands = approvals.iter().chain(&approvals).enumerate().map(|(number, approval)| {
            let act = decide(approval, Verdict::Approve, "n");
            let name = if number % 2 == 0 { "bob" } else { "cyd" };
            w.command(Actor::Operator(operator(name, &["approver"])), act)
        });
        assert_eq!(permitted(&at_once(w, commands.collect())), 3);
        assert_eq!(w.balance("SAV_001").0, "101.00");
        w.adds_up();
    };
}

pub fn permitted(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| outcome.is_ok()).count()
}

/// Each command from a caller of its own; the outcomes in the order of the commands.
pub fn at_once(w: &World<'_>, commands: Vec<Command>) -> Vec<Outcome> {
    let store: &dyn Store = w.store;
    let ready = std::sync::Barrier::new(commands.len());
    std::thread::scope(|scope| {
        let callers: Vec<_> = commands
            .into_iter()
            .map(|command| {
                let ready = &ready;
                scope.spawn(move || {
                    ready.wait();
                    store.apply(vec![command]).unwrap().pop().unwrap().outcome
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    })
}
