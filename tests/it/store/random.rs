//! Random lives of a bank keep its book balanced.

use super::world::*;
use countersign::kernel::command::*;
use countersign::kernel::types::*;
use proptest::prelude::*;

/// One step of a random life of the bank.
#[derive(Clone, Debug)]
enum Step {
    Incoming(u32, u8),
    Buy(u8),
    Transfer(u32, bool, u8),
    Execute(u8),
    Cancel(u8),
    Decide(u8, bool),
    Reverse(u8, Option<u32>),
    Later(u32),
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1..2_000_000_u32, any::<u8>()).prop_map(|(minor, key)| Step::Incoming(minor, key)),
        any::<u8>().prop_map(Step::Buy),
        (1..400_000_u32, any::<bool>(), any::<u8>()).prop_map(|(minor, back, key)| Step::Transfer(minor, back, key)),
        any::<u8>().prop_map(Step::Execute),
        any::<u8>().prop_map(Step::Execute),
        any::<u8>().prop_map(Step::Cancel),
        (any::<u8>(), any::<bool>()).prop_map(|(which, yes)| Step::Decide(which, yes)),
        (any::<u8>(), proptest::option::of(1..300_000_u32)).prop_map(|(which, minor)| Step::Reverse(which, minor)),
        (1..50_000_000_u32).prop_map(Step::Later),
        Just(Step::Sweep),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_commands_unbalances_the_book(steps in steps()) {
        on_every_store(|w| {
            w.bank();
            let mut known: Vec<(TransactionId, Option<ApprovalId>, ToolCall)> = vec![];
            let money = |minor: u32| Money::from_minor(i64::from(minor), "USD".parse().unwrap());
            for step in &steps {
                let pick = |which: u8| known.get(usize::from(which) % known.len().max(1)).cloned();
                match step.clone() {
                    Step::Incoming(minor, key) => {
                        let _ = w.admin(Act::IncomingPayment {
                            account: "CHK_001".parse().unwrap(),
                            amount: money(minor),
                            reference: format!("r{key}").parse().unwrap(),
                        });
                    }
                    Step::Buy(key) => note(&mut known, w, buy("LAPTOP", "1899.99", &format!("b{key}"))),
                    Step::Transfer(minor, elsewhere, key) => {
                        let to = if elsewhere { "CHK_002" } else { "SAV_001" };
                        let amount = money(minor).decimal();
                        note(&mut known, w, transfer_to(Some("CHK_001"), to, &amount, &format!("t{key}")));
                    }
                    Step::Execute(which) => {
                        if let Some((id, _, call)) = pick(which) {
                            let _ = w.call(executing(&id, &call));
                        }
                    }
                    Step::Cancel(which) => {
                        if let Some((id, _, _)) = pick(which) {
                            let _ = w.call(cancel(&id));
                        }
                    }
                    Step::Decide(which, yes) => {
                        if let Some((_, Some(approval), _)) = pick(which) {
                            let _ = w.answer_approval(&approval, if yes { Verdict::Approve } else { Verdict::Deny });
                        }
                    }
                    Step::Reverse(which, minor) => {
                        if let Some((id, _, _)) = pick(which) {
                            let amount = minor.map(|minor| money(minor).decimal());
                            let key = w.id("v");
                            note(&mut known, w, reversal(&id, amount.as_deref(), &key));
                        }
                    }
                    Step::Later(ms) => w.later(i64::from(ms)),
                    Step::Sweep => drop(w.sweep()),
                }
            }
            w.adds_up();
        });
    }
}

fn note(known: &mut Vec<(TransactionId, Option<ApprovalId>, ToolCall)>, w: &World<'_>, call: ToolCall) {
    match w.call(call.clone()) {
        Ok(Effect::Approved { transaction_id, .. }) => known.push((transaction_id, None, call)),
        Ok(Effect::RequiresApproval { approval_id, transaction_id, .. }) => {
            known.push((transaction_id, Some(approval_id), call));
        }
        Ok(_) | Err(_) => {}
    }
}

fn executing(id: &TransactionId, authorized: &ToolCall) -> ToolCall {
    match authorized {
        ToolCall::AuthorizeTransfer { to_account, amount, .. } => {
            execute_transfer(id, to_account.as_str(), &amount.decimal())
        }
        _ => execute_buy(id, "LAPTOP"),
    }
}
