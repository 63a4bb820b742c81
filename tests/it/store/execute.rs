//! Executing and expiring authorizations.

use super::world::*;
use countersign::kernel::command::*;
use countersign::kernel::policy::merchants::MerchantList;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::*;
use serde_json::json;
use std::sync::Arc;

sentences! {
    the_laptop_of_the_demo_is_bought: |w| {
        w.bank();
        let transaction = w.approved(buy("LAPTOP", "1899.99", "k"));
        assert_eq!(w.balance("CHK_001"), ("5247.83".into(), "1899.99".into()));
        let posted = w.posted(execute_buy(&transaction, "LAPTOP"));
        assert_eq!(w.balance("CHK_001"), ("3347.84".into(), "0.00".into()));
        assert_eq!(w.balance("merchant:amazon.com").0, "1899.99");
        let statement: TransactionStatement = serde_json::from_slice(&posted.statement).unwrap();
        assert_eq!((statement.amount_minor.as_str(), statement.kind.as_str()), ("189999", "purchase"));
        w.adds_up();
    };
    the_transfer_of_the_demo_waits_for_a_human: |w| {
        w.bank();
        assert_eq!(w.call(transfer("10000", "k")), Err(Refusal::InsufficientFunds));
        w.admin(incoming("CHK_001", "6000", "salary")).unwrap();
        let (approval, transaction) = w.waiting(transfer("10000", "k"));
        assert_eq!(w.balance("CHK_001").1, "10000.00");
        assert_eq!(w.call(execute_transfer(&transaction, "SAV_001", "10000")), Err(Refusal::ApprovalPending));
        assert!(w.answer_approval(&approval, Verdict::Approve).is_ok());
        let Effect::Answer(status) = w.call(ToolCall::GetApprovalStatus { approval_id: approval }).unwrap() else {
            panic!()
        };
        assert_eq!((&status["status"], &status["transaction_id"]), (&json!("approved"), &json!(transaction)));
        w.posted(execute_transfer(&transaction, "SAV_001", "10000"));
        assert_eq!(w.balance("SAV_001").0, "10100.00");
        // Approved amounts do not count towards the day.
        w.admin(incoming("CHK_001", "6000", "more")).unwrap();
        w.approved(transfer("2000", "k2"));
        w.adds_up();
    };
    other_parameters_are_a_mismatch_and_move_nothing: |w| {
        w.bank();
        let purchase = w.approved(buy("LAPTOP", "1899.99", "k1"));
        let moved = w.approved(transfer("10", "k2"));
        let from_other = ToolCall::ExecuteTransfer {
            transaction_id: moved.clone(),
            from_account: Some("SAV_001".parse().unwrap()),
            to_account: "SAV_001".parse().unwrap(),
            amount: usd("10"),
        };
        for call in [
            execute_buy(&purchase, "SERVER"),
            execute_buy(&moved, "LAPTOP"),
            execute_transfer(&purchase, "SAV_001", "1899.99"),
            execute_transfer(&moved, "SAV_001", "10.01"),
            execute_transfer(&moved, "CHK_002", "10"),
            from_other,
        ] {
            assert_eq!(w.call(call.clone()), Err(Refusal::AuthorizationMismatch), "{call:?}");
        }
        w.posted(execute_transfer(&moved, "SAV_001", "10"));
        assert_eq!(w.call(execute_transfer(&moved, "SAV_001", "11")), Err(Refusal::AuthorizationMismatch));
        w.adds_up();
    };
    a_repeated_execute_answers_the_same_posting_and_moves_nothing: |w| {
        w.bank();
        let transaction = w.approved(buy("LAPTOP", "1899.99", "k"));
        let first = w.posted(execute_buy(&transaction, "LAPTOP"));
        assert!(!first.repeated);
        let again = w.posted(execute_buy(&transaction, "LAPTOP"));
        assert_eq!(again, Posted { repeated: true, ..first });
        assert_eq!(w.balance("CHK_001").0, "3347.84");
        assert_eq!(w.call(cancel(&transaction)), Err(Refusal::AlreadyExecuted));
    };
    execution_asks_grant_role_and_merchant_again: |w| {
        w.bank();
        let transaction = w.approved(buy("LAPTOP", "1899.99", "k"));
        let mut narrower = rules();
        narrower.merchants_allowed = MerchantList::default();
        let execute_under = |rules: Rules| {
            let mut command = w.tool_command(&shopper(), execute_buy(&transaction, "LAPTOP"));
            let Act::Tool { rules: under, .. } = &mut command.act else { panic!() };
            *under = Arc::new(rules);
            w.store.apply(vec![command]).unwrap().pop().unwrap().outcome
        };
        assert_eq!(execute_under(narrower), Err(Refusal::UnauthorizedMerchant));
        let mut no_tools = rules();
        no_tools.role_tools.clear();
        assert_eq!(execute_under(no_tools), Err(Refusal::ToolDenied));
        w.admin(Act::RevokeGrant { agent: shopper().spiffe_id, account: "CHK_001".parse().unwrap() }).unwrap();
        assert_eq!(execute_under(rules()), Err(Refusal::AccountNotGranted));
    };
    another_agents_transaction_is_unknown: |w| {
        w.bank();
        let transaction = w.approved(transfer("10", "k"));
        let other = agent("purchaser", "other");
        w.admin(grant(&other, "CHK_001", EVERY_VERB)).unwrap();
        let rekeyed = AgentPrincipal { key: Sha256([9; 32]), ..shopper() };
        for thief in [other, rekeyed] {
            for call in [
                execute_transfer(&transaction, "SAV_001", "10"),
                cancel(&transaction),
                ToolCall::GetTransaction { transaction_id: transaction.clone() },
                reversal(&transaction, None, "r"),
            ] {
                assert_eq!(w.call_as(&thief, call), Err(Refusal::UnknownTransaction));
            }
        }
    };
    an_expired_authorization_is_refused_before_and_after_the_sweep: |w| {
        w.bank();
        let transaction = w.approved(transfer("2000", "k"));
        w.later(900_000);
        assert_eq!(w.call(execute_transfer(&transaction, "SAV_001", "2000")), Err(Refusal::AuthorizationExpired));
        assert_eq!(w.sweep(), 1);
        assert_eq!(w.sweep(), 0);
        assert_eq!(w.call(execute_transfer(&transaction, "SAV_001", "2000")), Err(Refusal::AuthorizationExpired));
        assert_eq!(w.balance("CHK_001").1, "0.00");
        // The day's allowance came back with it.
        for key in ["k1", "k2"] {
            w.approved(transfer("2000", key));
        }
        w.adds_up();
    };
    one_sweep_releases_several_holds_of_one_account: |w| {
        w.bank();
        for key in ["k1", "k2", "k3"] {
            w.approved(transfer("10", key));
        }
        w.later(900_000);
        assert_eq!(w.sweep(), 3);
        assert_eq!(w.balance("CHK_001").1, "0.00");
        w.adds_up();
    };
}
