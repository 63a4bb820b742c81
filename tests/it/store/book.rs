//! Filling and reading the book.

use super::world::*;
use countersign::kernel::command::*;
use countersign::kernel::refusal::Refusal;

sentences! {
    an_account_opened_twice_alike_is_unchanged_and_otherwise_refused: |w| {
        assert_eq!(w.admin(open("A", "O", Some("5"))), Ok(Effect::Done { changed: true }));
        assert_eq!(w.admin(open("A", "O", Some("5"))), Ok(Effect::Done { changed: false }));
        for other in [open("A", "P", Some("5")), open("A", "O", Some("6")), open("A", "O", None)] {
            assert_eq!(w.admin(other), Err(Refusal::AlreadyExists));
        }
        assert_eq!(w.balance("A").0, "5.00");
        w.adds_up();
    };
    merchants_products_and_grants_repeat_harmlessly: |w| {
        w.bank();
        assert_eq!(w.admin(add_merchant("amazon.com", "Shop")), Ok(Effect::Done { changed: false }));
        assert_eq!(w.admin(add_merchant("amazon.com", "Other")), Err(Refusal::AlreadyExists));
        assert_eq!(w.admin(add_product("amazon.com", "LAPTOP", "1899.99")), Ok(Effect::Done { changed: false }));
        assert_eq!(w.admin(add_product("amazon.com", "LAPTOP", "1")), Err(Refusal::AlreadyExists));
        assert_eq!(w.admin(add_product("nobody.example", "LAPTOP", "1")), Err(Refusal::UnknownMerchant));
        assert_eq!(w.admin(grant(&shopper(), "CHK_001", EVERY_VERB)), Ok(Effect::Done { changed: false }));
        assert_eq!(w.admin(grant(&shopper(), "CHK_001", &[Verb::Read])), Err(Refusal::AlreadyExists));
        assert_eq!(w.admin(grant(&shopper(), "NONE", EVERY_VERB)), Err(Refusal::UnknownAccount));
    };
    nobody_without_the_role_fills_the_book: |w| {
        w.bank();
        let auditor = Actor::Operator(operator("eve", &["auditor", "approver"]));
        for act in [
            open("X", "O", None),
            incoming("CHK_001", "1", "r"),
            add_merchant("x.example", "X"),
            add_product("amazon.com", "X", "1"),
            grant(&shopper(), "SAV_001", EVERY_VERB),
            Act::RevokeGrant { agent: shopper().spiffe_id, account: "CHK_001".parse().unwrap() },
        ] {
            for actor in [auditor.clone(), Actor::Agent(shopper())] {
                assert_eq!(w.decision(actor, act.clone()).outcome, Err(Refusal::OperatorNotPermitted));
            }
        }
    };
    an_incoming_payment_is_booked_once_per_reference: |w| {
        w.bank();
        let Effect::Posted(first) = w.admin(incoming("CHK_001", "10", "r1")).unwrap() else { panic!() };
        let Effect::Posted(again) = w.admin(incoming("CHK_001", "10", "r1")).unwrap() else { panic!() };
        assert_eq!(again, Posted { repeated: true, ..first });
        assert_eq!(w.admin(incoming("CHK_001", "11", "r1")), Err(Refusal::IdempotencyKeyReused));
        assert_eq!(w.admin(incoming("NONE", "11", "r2")), Err(Refusal::UnknownAccount));
        assert_eq!(w.admin(incoming("clearing.USD", "11", "r3")), Err(Refusal::UnknownAccount));
        assert_eq!(w.balance("CHK_001").0, "5257.83");
        w.adds_up();
    };
    history_lists_an_accounts_postings_newest_first: |w| {
        w.bank();
        w.bought("k");
        let list = ToolCall::ListTransactions { account_id: "CHK_001".parse().unwrap(), limit: 10 };
        let Effect::Answer(value) = w.call(list).unwrap() else { panic!() };
        let changes: Vec<&str> =
            value["transactions"].as_array().unwrap().iter().map(|line| line["change"].as_str().unwrap()).collect();
        assert_eq!(changes, ["-1899.99", "5247.83"]);
    };
    search_finds_by_words_price_and_merchant: |w| {
        w.bank();
        let search = |query: &str, max: Option<&str>, merchant: Option<&str>| {
            let call = ToolCall::SearchProducts {
                query: query.into(),
                max_price: max.map(usd),
                merchant: merchant.map(|merchant| merchant.parse().unwrap()),
            };
            let Effect::Answer(value) = w.call(call).unwrap() else { panic!() };
            let ids = value["products"].as_array().unwrap().iter();
            ids.map(|product| product["product_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(search("laptop computer", Some("2000"), Some("amazon.com")), ["LAPTOP"]);
        assert_eq!(search("laptop computer", None, None), ["LAPTOP", "FAKE", "SERVER"]);
        assert!(search("bicycle", None, None).is_empty());
    };
}
