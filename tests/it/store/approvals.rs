//! Humans at the bank, and reversals.

use super::world::*;
use countersign::kernel::command::*;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::*;
use serde_json::json;

sentences! {
    an_approval_is_decided_once_in_time_by_an_approver: |w| {
        w.bank();
        let (approval, transaction) = w.waiting(transfer("2500", "k"));
        let act = decide(&approval, Verdict::Approve, "");
        for actor in [
            Actor::Operator(operator("ada", &["administrator", "officer", "auditor"])),
            Actor::Agent(shopper()),
            Actor::System { component: "x".into() },
        ] {
            assert_eq!(w.decision(actor, act.clone()).outcome, Err(Refusal::OperatorNotPermitted));
        }
        let nobody: ApprovalId = w.id("apr_").parse().unwrap();
        assert_eq!(w.answer_approval(&nobody, Verdict::Approve), Err(Refusal::UnknownApproval));
        w.answer_approval(&approval, Verdict::Deny).unwrap();
        assert_eq!(w.answer_approval(&approval, Verdict::Approve), Err(Refusal::AlreadyDecided));
        assert_eq!(w.call(execute_transfer(&transaction, "SAV_001", "2500")), Err(Refusal::ApprovalDenied));
        assert_eq!(w.balance("CHK_001").1, "0.00");
        let (late, transaction) = w.waiting(transfer("2500", "k2"));
        w.later(DAY_MS / 2);
        assert_eq!(w.answer_approval(&late, Verdict::Approve), Err(Refusal::ApprovalExpired));
        assert_eq!(w.call(execute_transfer(&transaction, "SAV_001", "2500")), Err(Refusal::ApprovalExpired));
        w.sweep();
        assert_eq!(w.answer_approval(&late, Verdict::Approve), Err(Refusal::ApprovalExpired));
    };
    a_cancelled_approval_cannot_be_approved: |w| {
        w.bank();
        let (approval, transaction) = w.waiting(transfer("2500", "k"));
        let by_approval = ToolCall::CancelAuthorization { reference: AuthorizationRef::ApprovalId(approval.clone()) };
        assert_eq!(w.call(by_approval), Ok(Effect::Cancelled { transaction_id: transaction.clone() }));
        assert_eq!(w.call(cancel(&transaction)), Ok(Effect::Cancelled { transaction_id: transaction.clone() }));
        assert_eq!(w.answer_approval(&approval, Verdict::Approve), Err(Refusal::AuthorizationCancelled));
        let execute = execute_transfer(&transaction, "SAV_001", "2500");
        assert_eq!(w.call(execute), Err(Refusal::AuthorizationCancelled));
    };
    an_approved_reversal_posts_and_never_exceeds_the_original: |w| {
        w.bank();
        let bought = w.bought("k");
        let original = &bought.transaction_id;
        assert_eq!(w.call(reversal(original, Some("1900"), "r0")), Err(Refusal::ReversalExceedsOriginal));
        let (part, _) = w.waiting(reversal(original, Some("1000"), "r1"));
        assert_eq!(w.call(reversal(original, Some("900"), "r2")), Err(Refusal::ReversalExceedsOriginal));
        let (rest, reversed) = w.waiting(reversal(original, None, "r3"));
        assert_eq!(w.call(reversal(original, None, "r4")), Err(Refusal::ReversalExceedsOriginal));
        w.answer_approval(&part, Verdict::Approve).unwrap();
        w.answer_approval(&rest, Verdict::Approve).unwrap();
        assert_eq!(w.balance("CHK_001").0, "5247.83");
        assert_eq!(w.balance("merchant:amazon.com").0, "0.00");
        let posted = w.store.posted(&reversed).unwrap().unwrap();
        let statement: TransactionStatement = serde_json::from_slice(&posted.statement).unwrap();
        assert_eq!(statement.original_transaction_id.as_ref(), Some(original));
        assert_eq!(statement.approver.as_deref(), Some("bob"));
        assert_eq!(w.call(reversal(&reversed, None, "r5")), Err(Refusal::UnknownTransaction));
        w.adds_up();
    };
    a_denied_reversal_can_be_asked_for_again: |w| {
        w.bank();
        let bought = w.bought("k");
        let (approval, _) = w.waiting(reversal(&bought.transaction_id, None, "r1"));
        w.answer_approval(&approval, Verdict::Deny).unwrap();
        w.waiting(reversal(&bought.transaction_id, None, "r2"));
        let unexecuted = w.approved(transfer("1", "k2"));
        assert_eq!(w.call(reversal(&unexecuted, None, "r3")), Err(Refusal::UnknownTransaction));
    };
    approvals_are_listed_with_what_they_are_about: |w| {
        w.bank();
        let (approval, _) = w.waiting(transfer("2500", "k"));
        let [view] = &w.store.approvals(None, 10).unwrap()[..] else { panic!() };
        assert_eq!((&view.approval_id, view.status.as_str()), (&approval, "pending"));
        assert_eq!(view.reasons, ["above_unattended_per_transaction"]);
        assert_eq!(view.summary["amount"], json!({ "amount": "2500.00", "currency": "USD" }));
        w.answer_approval(&approval, Verdict::Approve).unwrap();
        let view = &w.store.approvals(None, 10).unwrap()[0];
        assert_eq!((view.status.as_str(), view.decided_by.as_deref()), ("approved", Some("bob")));
        assert_eq!(view.summary["asserted"], json!(true));
    };
    approvals_are_listed_page_by_page_and_found_by_their_name: |w| {
        w.bank();
        let made: Vec<ApprovalId> = (0..2).map(|n| w.waiting(transfer("2001", &format!("k{n}"))).0).collect();
        let page = |after: Option<&ApprovalId>, limit: u32| -> Vec<ApprovalId> {
            w.store.approvals(after, limit).unwrap().into_iter().map(|view| view.approval_id).collect()
        };
        assert_eq!(page(None, 2), [made[1].clone(), made[0].clone()]);
        assert_eq!(page(None, 1), [made[1].clone()]);
        assert_eq!(page(Some(&made[1]), 2), [made[0].clone()]);
        assert_eq!(page(Some(&made[0]), 2), []);
        assert_eq!(w.store.approval(&made[0]).unwrap().unwrap().approval_id, made[0]);
        assert_eq!(w.store.approval(&"apr_01JDA3S5TGH0K8Y7R2Q4W6E8ZX".parse().unwrap()).unwrap().map(|_| ()), None);
    };
}
