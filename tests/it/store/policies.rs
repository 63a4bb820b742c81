//! Role policies in the commit: versions, whoever was faster, and every way in which a constraint says no.

use std::sync::Arc;

use countersign::kernel::command::*;
use countersign::kernel::policy::document::Document;
use countersign::kernel::policy::role::Policy;
use countersign::kernel::policy::tools::Tools;
use countersign::kernel::refusal::Refusal;
use countersign::store::Store;
use serde_json::{Value, json};

use super::world::*;

fn policy(document: Value) -> Policy {
    let found = Policy::examined(Document::of(document).unwrap(), &Tools::ours(), None);
    found.policy.unwrap_or_else(|| panic!("{:?}", found.findings))
}

fn permission(tool: &str, constraints: Value) -> Value {
    json!({ "tool_name": tool, "action": "invoke", "constraints": constraints })
}

fn apply(document: Value, expects: u64) -> Act {
    Act::ApplyPolicy { policy: Box::new(policy(document)), expects }
}

fn in_force(version: u64, changed: bool) -> Outcome {
    Ok(Effect::PolicyInForce { version, changed })
}

/// A world whose shopper is under this policy.
fn under<'s>(store: &'s dyn Store, document: Value) -> World<'s> {
    let mut world = World::new(store);
    world.rules = Arc::new(Rules { policy: Some(policy(document)), ..rules() });
    world
}

sentences! {
    policies_have_versions_and_the_same_one_again_changes_nothing: |w| {
        let one = json!({ "role": "purchaser" });
        let two = json!({ "role": "purchaser", "deny_tools": ["execute_transfer"] });
        assert_eq!(w.store.policy(None).unwrap(), None);
        assert_eq!(w.store.policy_line().unwrap(), None);
        assert_eq!(w.admin(apply(one.clone(), 1)), Err(Refusal::PolicyChangedMeanwhile), "none is in force");
        assert_eq!(w.admin(apply(one.clone(), 0)), in_force(1, true));
        assert_eq!(w.admin(apply(one.clone(), 0)), in_force(1, false), "a repeat, whatever it expects");
        assert_eq!(w.admin(apply(two.clone(), 0)), Err(Refusal::PolicyChangedMeanwhile));
        assert_eq!(w.admin(apply(two.clone(), 1)), in_force(2, true));
        assert_eq!(w.admin(apply(one.clone(), 1)), Err(Refusal::PolicyChangedMeanwhile), "somebody was faster");
        assert_eq!(w.admin(apply(one.clone(), 2)), in_force(3, true), "back to what was in force before");
        let newest = w.store.policy(None).unwrap().unwrap();
        assert_eq!((newest.line.version, newest.line.by.as_str()), (3, "ada"));
        assert_eq!(newest.line.roles, ["purchaser"]);
        assert_eq!(Policy::stored(&newest.document).unwrap(), policy(one));
        let before = w.store.policy(Some(2)).unwrap().unwrap();
        assert_eq!(before.line.sha256, policy(two).hash());
        assert_eq!(w.store.policy(Some(4)).unwrap(), None);
        let versions = |before, limit| -> Vec<u64> {
            w.store.policies(before, limit).unwrap().iter().map(|line| line.version).collect()
        };
        assert_eq!(versions(None, 10), [3, 2, 1]);
        assert_eq!(versions(None, 2), [3, 2]);
        assert_eq!(versions(Some(2), 10), [1]);
        assert_eq!(w.store.policy_line().unwrap(), Some(newest.line));
    };
    only_an_administrator_puts_a_policy_in_force: |w| {
        let act = || apply(json!({ "role": "purchaser" }), 0);
        let others = [
            Actor::Operator(operator("bob", &["approver", "officer", "auditor"])),
            Actor::Operator(operator("nobody", &[])),
            Actor::Agent(shopper()),
            Actor::System { component: "sweeper".into() },
        ];
        for actor in others {
            assert_eq!(w.decision(actor, act()).outcome, Err(Refusal::OperatorNotPermitted));
        }
        assert_eq!(w.store.policy(None).unwrap(), None);
        assert_eq!(w.admin(act()), in_force(1, true));
    };
    a_policy_comes_into_force_in_a_commit_with_its_leaf: |w| {
        let document = json!({ "role": "purchaser" });
        let actor = Actor::Operator(operator("ada", &["administrator"]));
        let decision = w.decision(actor, apply(document.clone(), 0));
        let leaf = w.store.leaf(decision.leaf.unwrap().row).unwrap().unwrap();
        let body: Value = serde_json::from_slice(leaf.body().unwrap()).unwrap();
        assert_eq!((&body["act"], &body["decision"]), (&json!("apply_policy"), &json!("permitted")));
        assert_eq!(body["parameters"]["sha256"], json!(policy(document).hash()));
        assert_eq!(body["parameters"]["roles"], json!(["purchaser"]));
        assert_eq!(body["result"], json!({ "status": "policy_in_force", "version": "1", "changed": true }));
    };
    each_way_in_which_a_role_policy_says_no_has_its_name: |w| {
        w.bank();
        let everything = json!([
            permission("authorize_transfer", json!({
                "amount": { "maximum": 100, "multipleOf": 0.5 }, "currency": { "const": "USD" },
                "from_account": { "enum": ["CHK_001"] }, "to_account": { "pattern": "^(SAV|CHK)_[0-9]{3}$" },
                "idempotency_key": { "pattern": "^k[0-9]*$" },
            })),
            permission("execute_transfer", json!({ "from_account": { "enum": ["CHK_001"] }, "amount": { "maximum": 100 } })),
            permission("authorize_purchase", json!({ "merchant": { "enum": ["bestbuy.com"] } })),
            permission("list_transactions", json!({ "limit": { "maximum": 5 } })),
            permission("search_products", json!({ "max_price": { "maximum": 50 }, "query": { "maxLength": 10 } })),
            permission("get_account_balance", json!({ "account_id": { "not": { "const": "SAV_001" } } })),
            permission("request_reversal", json!({ "amount": { "maximum": 10 } })),
            permission("cancel_authorization", json!({ "transaction_id": {} })),
            permission("list_accounts", json!({})),
        ]);
        let w = &under(w.store, json!({ "role": "purchaser", "permissions": everything, "deny_tools": ["list_accounts"] }));
        let search = |query: &str, max: Option<&str>| ToolCall::SearchProducts {
            query: query.into(),
            max_price: max.map(usd),
            merchant: None,
        };
        let balance = |account: &str| ToolCall::GetAccountBalance { account_id: account.parse().unwrap() };
        let lines = |limit| ToolCall::ListTransactions { account_id: "CHK_001".parse().unwrap(), limit };
        let (violated, missing) = (Refusal::ConstraintViolated, Refusal::ConstraintParameterMissing);
        let table = [
            ("above the maximum", transfer_to(Some("CHK_001"), "SAV_001", "100.50", "k1"), violated),
            ("not a multiple", transfer_to(Some("CHK_001"), "SAV_001", "99.75", "k1"), violated),
            ("above, from the only account that fits", transfer_to(None, "SAV_001", "100.50", "k1"), violated),
            ("another key", transfer_to(Some("CHK_001"), "SAV_001", "10", "x"), violated),
            ("another payee", transfer_to(Some("CHK_001"), "EXT_1", "10", "k1"), violated),
            ("another merchant", buy("LAPTOP", "1899.99", "k2"), violated),
            ("a longer page", lines(6), violated),
            ("longer words", search("a much longer query", Some("10")), violated),
            ("dearer", search("laptop", Some("50.01")), violated),
            ("no price named", search("laptop", None), missing),
            ("explicit denial", ToolCall::ListAccounts {}, Refusal::ToolDeniedByPolicy),
            // What comes before: grant, then role.
            ("not granted", transfer_to(Some("CHK_002"), "SAV_001", "100.50", "x"), Refusal::AccountNotGranted),
            ("not granted either", balance("SAV_001"), Refusal::AccountNotGranted),
            ("no such account", balance("NONE_1"), Refusal::AccountNotGranted),
        ];
        for (why, call, refusal) in table {
            assert_eq!(w.call(call), Err(refusal), "{why}");
        }
        w.call(lines(5)).unwrap();
        w.call(balance("CHK_001")).unwrap();
        w.call(search("laptop", Some("50"))).unwrap();
        // Left out and resolved by the grant: the constraint is asked about the account that pays.
        w.approved(transfer_to(None, "SAV_001", "99.50", "k3"));
        let cheap = transfer_to(Some("CHK_001"), "SAV_001", "20", "k4");
        let id = w.approved(cheap.clone());
        let execute = |from: Option<&str>, amount: &str| ToolCall::ExecuteTransfer {
            transaction_id: id.clone(),
            from_account: from.map(|from| from.parse().unwrap()),
            to_account: "SAV_001".parse().unwrap(),
            amount: usd(amount),
        };
        assert_eq!(w.call(execute(None, "100.01")), Err(violated), "before the parameters are compared");
        assert!(matches!(w.call(execute(None, "20")), Ok(Effect::Posted(_))));
        // The amount of a reversal that names none is all that is left.
        let reverse = |amount: Option<&str>, key: &str| ToolCall::RequestReversal {
            transaction_id: id.clone(),
            amount: amount.map(usd),
            idempotency_key: key.parse().unwrap(),
        };
        assert_eq!(w.call(reverse(None, "r1")), Err(violated), "20 is above 10");
        assert_eq!(w.call(reverse(Some("10.01"), "r2")), Err(violated));
        assert!(matches!(w.call(reverse(Some("10"), "r3")), Ok(Effect::RequiresApproval { .. })));
        // Another role, another tool.
        assert_eq!(w.call(ToolCall::GetTransaction { transaction_id: id.clone() }), Err(Refusal::ToolDenied), "no permission");
        let viewer = agent("viewer", "guest");
        assert_eq!(w.call_as(&viewer, search("laptop", Some("10"))), Err(Refusal::ToolDenied), "a role that is not named");
    };
    a_constraint_on_the_account_cannot_be_evaded_by_leaving_it_out: |w| {
        w.bank();
        let only = json!({ "role": "purchaser", "permissions": [
            permission("authorize_transfer", json!({ "from_account": { "enum": ["SAV_001"] } })) ] });
        let w = &under(w.store, only);
        assert_eq!(w.call(transfer_to(None, "SAV_001", "1", "k")), Err(Refusal::ConstraintViolated), "the grant resolves it to CHK_001");
    };
    what_the_catalogue_does_not_give_no_policy_gives: |w| {
        w.bank();
        let all: Vec<Value> = Tools::ours().names().map(|tool| permission(tool, json!({}))).collect();
        let mut world = under(w.store, json!({ "role": "purchaser", "permissions": all }));
        let narrow = Rules { role_tools: [("purchaser".parse().unwrap(), vec!["list_accounts".into()])].into(), ..(*world.rules).clone() };
        world.rules = Arc::new(narrow);
        world.call(ToolCall::ListAccounts {}).unwrap();
        let balance = ToolCall::GetAccountBalance { account_id: "CHK_001".parse().unwrap() };
        assert_eq!(world.call(balance), Err(Refusal::ToolDenied));
    };
}
