//! Authorizing: grants, limits and keys.

use super::world::*;
use countersign::kernel::command::*;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::*;

sentences! {
    unknown_and_ungranted_accounts_answer_alike: |w| {
        w.bank();
        for account in ["CHK_002", "NONE"] {
            assert_eq!(w.call(balance_of(account)), Err(Refusal::AccountNotGranted));
            assert_eq!(w.call(transfer_to(Some(account), "SAV_001", "1", "k")), Err(Refusal::AccountNotGranted));
            let list = ToolCall::ListTransactions { account_id: account.parse().unwrap(), limit: 5 };
            assert_eq!(w.call(list), Err(Refusal::AccountNotGranted));
        }
    };
    a_balance_answers_with_the_seeds_keys: |w| {
        w.bank();
        let Effect::Answer(value) = w.call(balance_of("CHK_001")).unwrap() else { panic!() };
        assert_eq!((value["balance"].as_str(), value["currency"].as_str()), (Some("5247.83"), Some("USD")));
        let Effect::Answer(value) = w.call(ToolCall::ListAccounts {}).unwrap() else { panic!() };
        assert_eq!(value["accounts"].as_array().unwrap().len(), 1);
    };
    a_grant_covers_its_verbs_only_until_it_expires_or_is_revoked: |w| {
        w.bank();
        let reader = agent("purchaser", "reader");
        w.admin(grant(&reader, "CHK_001", &[Verb::Read])).unwrap();
        assert_eq!(w.call_as(&reader, transfer("1", "k")), Err(Refusal::VerbNotGranted));
        assert_eq!(w.call_as(&reader, buy("LAPTOP", "1899.99", "k")), Err(Refusal::AccountNotGranted));
        w.later(20 * DAY_MS);
        assert_eq!(w.call_as(&reader, balance_of("CHK_001")), Err(Refusal::AccountNotGranted));
        let revoke = Act::RevokeGrant { agent: shopper().spiffe_id, account: "CHK_001".parse().unwrap() };
        assert_eq!(w.admin(revoke.clone()), Ok(Effect::Done { changed: true }));
        assert_eq!(w.admin(revoke), Ok(Effect::Done { changed: false }));
        assert_eq!(w.call(balance_of("CHK_001")), Err(Refusal::AccountNotGranted));
    };
    a_role_calls_only_its_tools_and_the_grant_is_asked_first: |w| {
        w.bank();
        let viewer = agent("viewer", "watcher");
        assert_eq!(w.call_as(&viewer, transfer("1", "k")), Err(Refusal::AccountNotGranted));
        w.admin(grant(&viewer, "CHK_001", EVERY_VERB)).unwrap();
        assert_eq!(w.call_as(&viewer, transfer("1", "k")), Err(Refusal::ToolDenied));
        assert!(w.call_as(&viewer, balance_of("CHK_001")).is_ok());
        assert_eq!(w.call_as(&agent("nobody", "ghost"), ToolCall::ListAccounts {}), Err(Refusal::ToolDenied));
    };
    the_account_may_be_left_out_only_while_one_grant_fits: |w| {
        w.bank();
        w.approved(buy("LAPTOP", "1899.99", "k1"));
        w.admin(grant(&shopper(), "SAV_001", &[Verb::Read])).unwrap();
        w.approved(transfer_to(None, "SAV_001", "1", "k2"));
        w.admin(Act::RevokeGrant { agent: shopper().spiffe_id, account: "SAV_001".parse().unwrap() }).unwrap();
        w.admin(grant(&shopper(), "SAV_001", EVERY_VERB)).unwrap();
        assert_eq!(w.call(buy("LAPTOP", "1899.99", "k3")), Err(Refusal::GrantAmbiguous));
    };
    a_purchase_is_refused_by_the_first_rule_that_fits: |w| {
        w.bank();
        for (call, refused) in [
            (buy_at("gadgets.example", "FAKE", "9.99", "k"), Refusal::UnauthorizedMerchant),
            (buy_at("gadgets.example", "NONE", "1", "k"), Refusal::UnauthorizedMerchant),
            (buy("NONE", "1", "k"), Refusal::UnknownProduct),
            (buy_at("bestbuy.com", "LAPTOP", "1899.99", "k"), Refusal::UnknownProduct),
            (buy("LAPTOP", "1899.98", "k"), Refusal::PriceChanged),
            (buy("SERVER", "60000", "k"), Refusal::AboveHardCeiling),
        ] {
            assert_eq!(w.call(call.clone()), Err(refused), "{call:?}");
        }
        assert_eq!(w.balance("CHK_001"), ("5247.83".into(), "0.00".into()));
    };
    a_transfer_is_refused_by_the_first_rule_that_fits: |w| {
        w.bank();
        for (call, refused) in [
            (transfer_to(Some("CHK_001"), "CHK_001", "1", "k"), Refusal::SameAccount),
            (transfer_to(Some("CHK_001"), "NONE", "1", "k"), Refusal::UnknownDestination),
            (transfer("50000.01", "k"), Refusal::AboveHardCeiling),
            (transfer("10000", "k"), Refusal::InsufficientFunds),
        ] {
            assert_eq!(w.call(call.clone()), Err(refused), "{call:?}");
        }
        let euro = Money::parse_positive("1", "EUR".parse().unwrap()).unwrap();
        let call = ToolCall::AuthorizeTransfer {
            from_account: Some("CHK_001".parse().unwrap()),
            to_account: "SAV_001".parse().unwrap(),
            amount: euro,
            idempotency_key: "k".parse().unwrap(),
        };
        assert_eq!(w.call(call), Err(Refusal::CurrencyMismatch));
    };
    the_owners_ceiling_denies: |w| {
        w.bank();
        let capped = agent("purchaser", "capped");
        let Act::AddGrant { agent, account, owner, verbs, expires, .. } = grant(&capped, "CHK_001", EVERY_VERB) else {
            panic!()
        };
        let per_transaction_max = Some(usd("10"));
        w.admin(Act::AddGrant { agent, account, owner, verbs, per_transaction_max, expires }).unwrap();
        assert_eq!(w.call_as(&capped, transfer("10.01", "k")), Err(Refusal::GrantLimitExceeded));
        assert!(w.call_as(&capped, transfer("10", "k")).is_ok());
    };
    the_day_counts_held_and_executed_unattended_amounts: |w| {
        w.bank();
        let held = w.approved(transfer("2000", "k1"));
        let executed = w.approved(transfer("1000.01", "k2"));
        w.posted(execute_transfer(&executed, "SAV_001", "1000.01"));
        let (approval, _) = w.waiting(transfer("2000", "k3"));
        w.call(ToolCall::CancelAuthorization { reference: AuthorizationRef::ApprovalId(approval) }).unwrap();
        w.call(cancel(&held)).unwrap();
        w.approved(transfer("2000", "k4"));
        w.later(DAY_MS);
        w.approved(transfer("2000", "k5"));
    };
    soft_limits_never_deny: |w| {
        w.bank();
        w.approved(transfer("2000", "k1"));
        let (_, transaction) = w.waiting(transfer("2000.01", "k2"));
        assert_eq!(w.balance("CHK_001").1, "4000.01");
        w.call(cancel(&transaction)).unwrap();
        assert_eq!(w.balance("CHK_001").1, "2000.00");
    };
    open_holds_of_an_agent_and_account_are_capped: |w| {
        w.bank();
        let first = w.approved(transfer("1", "k0"));
        for key in ["k1", "k2", "k3", "k4"] {
            w.approved(transfer("1", key));
        }
        assert_eq!(w.call(transfer("1", "k5")), Err(Refusal::TooManyOpenHolds));
        w.call(cancel(&first)).unwrap();
        w.approved(transfer("1", "k5"));
    };
    the_same_key_and_parameters_give_the_same_answer: |w| {
        w.bank();
        let first = w.call(transfer("5", "k"));
        assert_eq!(w.call(transfer("5", "k")), first);
        assert_eq!(w.balance("CHK_001").1, "5.00");
        let other = [transfer("6", "k"), transfer_to(None, "SAV_001", "5", "k"), buy("LAPTOP", "1899.99", "k")];
        for call in other {
            assert_eq!(w.call(call), Err(Refusal::IdempotencyKeyReused));
        }
        // Keys belong to the agent: another one's is another key.
        let other = agent("purchaser", "other");
        w.admin(grant(&other, "CHK_001", EVERY_VERB)).unwrap();
        assert!(w.call_as(&other, transfer("6", "k")).is_ok());
    };
    a_key_stays_taken_when_the_clock_is_set_back: |w| {
        w.bank();
        let first = w.call(transfer("5", "k"));
        let salary = w.admin(incoming("CHK_001", "10", "salary"));
        for days in [-1, -3, -10] {
            w.later(days * DAY_MS);
            assert_eq!(w.call(transfer("5", "k")), first);
            assert_eq!(w.call(transfer("6", "k")), Err(Refusal::IdempotencyKeyReused));
            let Effect::Posted(again) = w.admin(incoming("CHK_001", "10", "salary")).unwrap() else { panic!() };
            assert!(again.repeated && salary.is_ok());
        }
        w.adds_up();
    };
    a_denied_request_leaves_its_key_free: |w| {
        w.bank();
        assert_eq!(w.call(transfer("9000", "k")), Err(Refusal::InsufficientFunds));
        w.approved(transfer("9", "k"));
    };
}
