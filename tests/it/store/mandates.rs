//! Mandates of owners: entered, counted in the commit, given back, revoked; outside one nothing is paid.

use super::world::*;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use countersign::kernel::breaker::Cause;
use countersign::kernel::command::*;
use countersign::kernel::decide::Counter;
use countersign::kernel::jwt::TokenKey;
use countersign::kernel::ledger::TransactionState;
use countersign::kernel::mandate::{self, Mandate, OwnerKey, VerifiedMandate};
use countersign::kernel::refusal::Refusal;
use countersign::kernel::sign::{Algorithm, spki_der};
use countersign::kernel::types::*;
use countersign::payment::outlook;
use serde_json::{Value, json};

sentences! {
    a_payment_is_made_within_a_mandate_and_only_within: |w| {
        w.bank();
        enter(w, "1", &limits()).unwrap();
        let table = [
            (transfer("0.99", "a"), Refusal::MandateAmount),
            (transfer("100.01", "b"), Refusal::MandateAmount),
            (transfer_to(None, "CHK_002", "50", "c"), Refusal::MandatePayee),
            (buy("SERVER", "60000", "d"), Refusal::MandateAmount),
        ];
        for (call, refusal) in table {
            assert_eq!(w.call(call), Err(refusal));
        }
        let transaction = w.approved(transfer("100", "k1"));
        let posted = w.posted(execute_transfer(&transaction, "SAV_001", "100"));
        let statement: Value = serde_json::from_slice(&posted.statement).unwrap();
        assert_eq!(statement["mandate_id"], id("1"));
        assert_eq!(w.store.transaction(&transaction).unwrap().unwrap().mandate.unwrap().mandate.as_str(), id("1"));
        w.adds_up();
    };

    a_budget_is_counted_in_the_commit_and_given_back: |w| {
        w.bank();
        enter(w, "1", &limits()).unwrap();
        let first = w.approved(transfer("100", "k1"));
        w.approved(transfer("100", "k2"));
        assert_eq!(w.call(transfer("50.01", "k3")), Err(Refusal::MandateBudget));
        assert_eq!(w.approved(transfer("100", "k1")), first, "the same key again is no new payment");
        w.approved(transfer("50", "k3"));
        assert_eq!(w.call(transfer("1", "k4")), Err(Refusal::MandateRecurrence), "three a month");
        w.adds_up();

        w.call(cancel(&first)).unwrap();
        w.adds_up();
        w.approved(transfer("100", "k4"));
        assert_eq!(w.call(transfer("1", "k5")), Err(Refusal::MandateRecurrence));
        w.later(20 * 60_000);
        assert!(w.sweep() > 0, "authorizations lapse");
        w.adds_up();
        w.approved(transfer("100", "k6"));
        w.adds_up();
    };

    a_month_begins_anew_where_the_account_lives: |w| {
        w.bank();
        enter(w, "1", &limits()).unwrap();
        for key in ["k1", "k2"] {
            let transaction = w.approved(transfer("100", key));
            w.posted(execute_transfer(&transaction, "SAV_001", "100"));
        }
        assert_eq!(w.call(transfer("100", "k3")), Err(Refusal::MandateBudget));
        // START is 2027-01-15T08:00:00Z.
        w.later(17 * DAY_MS);
        assert!(matches!(w.call(transfer("100", "k3")), Ok(Effect::Approved { .. })));
        w.adds_up();
    };

    a_revoked_mandate_moves_no_money_any_more: |w| {
        w.bank();
        enter(w, "1", &limits()).unwrap();
        let transaction = w.approved(transfer("100", "k1"));
        assert_eq!(revoke(w, "2"), Err(Refusal::UnknownMandate));
        let by_agent = Act::RevokeMandate { mandate: id("1").parse().unwrap(), reason: "r".into() };
        assert_eq!(w.decision(Actor::Agent(shopper()), by_agent).outcome, Err(Refusal::OperatorNotPermitted));
        assert_eq!(revoke(w, "1"), Ok(Effect::MandateRevoked { authorizations: 1, changed: true }));
        assert_eq!(revoke(w, "1"), Ok(Effect::MandateRevoked { authorizations: 0, changed: false }));
        assert_eq!(w.call(execute_transfer(&transaction, "SAV_001", "100")), Err(Refusal::MandateRevoked));
        assert_eq!(w.call(transfer("5", "k2")), Err(Refusal::MandateRevoked), "and does not set free");
        assert_eq!(enter(w, "1", &limits()), Err(Refusal::MandateRevoked), "nor is it entered again");
        w.adds_up();
        enter(w, "2", &limits()).unwrap();
        w.approved(transfer("100", "k3"));
        w.adds_up();
    };

    revoking_a_mandate_voids_its_open_authorizations_in_the_same_commit: |w| {
        w.bank();
        w.admin(grant(&shopper(), "SAV_001", EVERY_VERB)).unwrap();
        enter(w, "1", &many()).unwrap();
        let posted = w.approved(transfer("1", "k1"));
        w.posted(execute_transfer(&posted, "SAV_001", "1"));
        let approved = w.approved(transfer("100", "k2"));
        let Ok(Effect::RequiresApproval { approval_id, transaction_id: waiting, .. }) = w.call(transfer("2500", "k3"))
        else { panic!("above 2000 a human decides") };
        let withheld = w.approved(transfer("7", "k4"));
        w.admin(stop(Some("drill"))).unwrap();
        let Ok(Effect::QueuedManual { .. }) = w.call(execute_transfer(&withheld, "SAV_001", "7")) else { panic!() };
        w.admin(stop(None)).unwrap();
        let cancelled = w.approved(transfer("3", "k5"));
        w.call(cancel(&cancelled)).unwrap();
        // Of the same agent, under no mandate or another one: they stay.
        let elsewhere = w.approved(transfer_to(Some("SAV_001"), "CHK_002", "9", "k6"));
        let mut other = claims(w, "2", &json!([{ "type": "payment.amount_range", "currency": "USD", "max": 1_100 }]));
        other["exp"] = json!(START / 1000 + 86_400);
        enter(w, "2", &other).unwrap();
        let under_other = w.approved(transfer("11", "k7"));
        assert_eq!(w.balance("CHK_001").1, "2618.00");

        let act = Act::RevokeMandate { mandate: id("1").parse().unwrap(), reason: "moved".into() };
        let decision = w.decision(Actor::Operator(operator("ada", &["officer"])), act);
        assert_eq!(decision.outcome, Ok(Effect::MandateRevoked { authorizations: 3, changed: true }));
        assert_eq!(w.balance("CHK_001").1, "11.00", "at once, without a sweep");
        w.adds_up();
        let state = |id: &TransactionId| w.store.transaction(id).unwrap().unwrap().state;
        for (id, expected) in [
            (&posted, TransactionState::Posted),
            (&approved, TransactionState::Voided),
            (&waiting, TransactionState::Voided),
            (&withheld, TransactionState::Voided),
            (&cancelled, TransactionState::Cancelled),
            (&elsewhere, TransactionState::Approved),
            (&under_other, TransactionState::Approved),
        ] {
            assert_eq!(state(id), expected, "{id}");
        }
        let leaf = w.store.leaf(decision.leaf.unwrap().row).unwrap().unwrap();
        let leaf: Value = serde_json::from_slice(leaf.body().unwrap()).unwrap();
        assert_eq!(leaf["result"]["status"], "mandate_revoked", "{leaf}");
        assert_eq!(leaf["result"]["authorizations"], 3, "{leaf}");

        for (id, amount) in [(&approved, "100"), (&waiting, "2500"), (&withheld, "7")] {
            assert_eq!(w.call(execute_transfer(id, "SAV_001", amount)), Err(Refusal::MandateRevoked), "{amount}");
            assert_eq!(w.call(cancel(id)), Err(Refusal::MandateRevoked), "{amount}");
        }
        let yes = decide(&approval_id, Verdict::Approve, "yes");
        let bob = Actor::Operator(operator("bob", &["approver"]));
        assert_eq!(w.decision(bob, yes).outcome, Err(Refusal::MandateRevoked));
        assert_eq!(revoke(w, "1"), Ok(Effect::MandateRevoked { authorizations: 0, changed: false }));
        w.posted(execute_transfer(&under_other, "SAV_001", "11"));
        w.adds_up();
    };

    a_revoked_mandates_counts_are_given_back_once: |w| {
        w.bank();
        enter(w, "1", &limits()).unwrap();
        for key in ["k1", "k2"] {
            w.approved(transfer("100", key));
        }
        assert_eq!(revoke(w, "1"), Ok(Effect::MandateRevoked { authorizations: 2, changed: true }));
        w.later(20 * 60_000);
        assert_eq!(w.sweep(), 0, "nothing is left to lapse");
        w.adds_up();
        let spent = |counter, day| w.store.spent(&counter, day).unwrap();
        let mandate: MandateId = id("1").parse().unwrap();
        let (month, life) = (Day(20_819), mandate::LIFE);
        assert_eq!(Day::utc(UnixMillis(START)), Day(20_833));
        assert_eq!(spent(Counter::MandateAmount(mandate.clone()), month), 0);
        assert_eq!(spent(Counter::MandateUses(mandate.clone()), month), 0);
        assert_eq!(spent(Counter::MandateUses(mandate), life), 0);
    };

    an_agent_sees_its_own_mandates_and_what_is_left_of_them: |w| {
        w.bank();
        enter(w, "1", &limits()).unwrap();
        let seen = |agent: &AgentPrincipal| outlook::of_agent(w.store, agent, UnixMillis(w.now.get())).unwrap();
        let one = |agent: &AgentPrincipal, last: &str| {
            outlook::one_of_agent(w.store, agent, &id(last).parse().unwrap(), UnixMillis(w.now.get())).unwrap()
        };
        let left = || {
            let shown = seen(&shopper())["mandates"][0].clone();
            assert_eq!(one(&shopper(), "1").unwrap(), shown);
            let text = |pointer: &str| shown.pointer(pointer).unwrap().as_str().map(str::to_owned).unwrap();
            (text("/status"), text("/budget/budget_left"), shown["recurrence"]["payments_left"].as_u64().unwrap())
        };
        let is = |status: &str, left: &str, payments: u64| (status.to_owned(), left.to_owned(), payments);
        assert_eq!(left(), is("in_force", "250.00", 3));
        let first = w.approved(transfer("100", "k1"));
        assert_eq!(left(), is("in_force", "150.00", 2), "what is open counts");
        w.posted(execute_transfer(&first, "SAV_001", "100"));
        assert_eq!(left(), is("in_force", "150.00", 2));
        let second = w.approved(transfer("100", "k2"));
        w.call(cancel(&second)).unwrap();
        assert_eq!(left(), is("in_force", "150.00", 2), "and is given back");
        w.approved(transfer("99.50", "k3"));
        assert_eq!(left(), is("in_force", "50.50", 1));
        w.approved(transfer("50", "k4"));
        assert_eq!(left(), is("used_up", "0.50", 0));

        // Its own alone: neither another agent's, nor those of another key of its name.
        let renewed = AgentPrincipal { key: Sha256([9; 32]), ..shopper() };
        for stranger in [agent("purchaser", "other"), agent("viewer", "shopper"), renewed] {
            assert_eq!(seen(&stranger), json!({ "mandates": [], "complete": true }));
            assert_eq!(one(&stranger, "1"), None);
        }
        assert_eq!(one(&shopper(), "9"), None);

        revoke(w, "1").unwrap();
        enter(w, "2", &limits()).unwrap();
        let both = seen(&shopper());
        let states: Vec<&str> =
            both["mandates"].as_array().unwrap().iter().map(|shown| shown["status"].as_str().unwrap()).collect();
        assert_eq!(states, ["in_force", "revoked"], "{both}");
        assert_eq!(both.pointer("/mandates/1/budget/budget_left"), Some(&json!("150.00")), "executed money is spent");
        w.later(17 * DAY_MS);
        assert_eq!(seen(&shopper()).pointer("/mandates/0/budget/budget_left"), Some(&json!("250.00")), "a new month");
        w.later(DAY_MS);
        assert_eq!(seen(&shopper()).pointer("/mandates/0/status"), Some(&json!("expired")));
    };

    what_ends_or_is_for_another_key_is_named: |w| {
        w.bank();
        enter(w, "1", &limits()).unwrap();
        let renewed = AgentPrincipal { key: Sha256([9; 32]), ..shopper() };
        assert_eq!(w.call_as(&renewed, transfer("5", "k1")), Err(Refusal::MandateNotThisAgent));
        let transaction = w.approved(transfer("5", "k2"));
        w.later(18 * DAY_MS);
        assert_eq!(w.call(transfer("5", "k3")), Err(Refusal::MandateExpired));
        assert!(w.call(execute_transfer(&transaction, "SAV_001", "5")).is_err());
        assert_eq!(enter(w, "2", &claims(w, "2", &limits())), Ok(Effect::Done { changed: true }));
        w.approved(transfer("5", "k3"));
        w.adds_up();
    };

    a_mandate_is_entered_for_the_owner_of_the_account_once: |w| {
        w.bank();
        let verified = signed(w, &claims(w, "1", &limits()));
        let add = |verified: &VerifiedMandate| Act::AddMandate { mandate: Box::new(verified.clone()) };
        let by = |name: &str, roles: &[&str]| Actor::Operator(operator(name, roles));
        for actor in [by("bob", &["approver"]), by("own-001", &["owner"]), Actor::Agent(shopper())] {
            assert_eq!(w.decision(actor, add(&verified)).outcome, Err(Refusal::OperatorNotPermitted));
        }
        assert_eq!(w.admin(add(&verified)), Ok(Effect::Done { changed: true }));
        assert_eq!(w.admin(add(&verified)), Ok(Effect::Done { changed: false }));
        type Bend = fn(&mut Value);
        let table: &[(Bend, Refusal)] = &[
            (|c| c["constraints"][1]["max"] = json!(9_999), Refusal::AlreadyExists),
            (|c| c["payment_instrument"]["id"] = json!("CHK_002"), Refusal::AccountNotGranted),
            (|c| c["payment_instrument"]["id"] = json!("CHK_009"), Refusal::UnknownAccount),
            (|c| for at in [1, 2] { c["constraints"][at]["currency"] = json!("EUR") }, Refusal::CurrencyMismatch),
        ];
        for (bend, refusal) in table {
            let mut bent = claims(w, "1", &limits());
            bend(&mut bent);
            assert_eq!(w.admin(add(&signed(w, &bent))), Err(*refusal), "{bent}");
        }
        w.later(29 * DAY_MS);
        assert_eq!(w.admin(add(&signed(w, &claims(w, "3", &limits())))), Ok(Effect::Done { changed: true }));
        w.revoke_shopper().unwrap();
        assert_eq!(w.admin(add(&signed(w, &claims(w, "4", &limits())))), Err(Refusal::AgentRevoked));
        let listed: Vec<String> = w.store.mandates(Some(&shopper().spiffe_id), None, 10).unwrap()
            .iter().map(|stored| stored.mandate.id.to_string()).collect();
        assert_eq!(listed, [id("3"), id("1")]);
        assert_eq!(w.store.mandates(None, Some(&id("3").parse().unwrap()), 10).unwrap().len(), 1);
        let stored = w.store.mandate(&id("1").parse().unwrap()).unwrap().unwrap();
        assert_eq!((stored.text.as_str(), stored.entered_by.as_str()), (verified.text(), "ada"));
    };

    where_a_rule_wants_a_mandate_nothing_is_paid_without: |w| {
        w.bank();
        let transactions = serde_json::from_value(json!([{ "name": "owners-sign", "mandate": "required" }])).unwrap();
        let rules = std::sync::Arc::new(Rules { transactions, ..rules() });
        let asked = |key: &str| {
            let act = Act::Tool { call: transfer("5", key), rules: rules.clone(), fresh: w.fresh(), risk: None };
            w.decision(Actor::Agent(shopper()), act).outcome
        };
        assert_eq!(asked("k1"), Err(Refusal::MandateMissing));
        enter(w, "1", &limits()).unwrap();
        assert!(matches!(asked("k1"), Ok(Effect::Approved { mandate: Some(_), .. })));
        w.adds_up();
    };

    what_was_authorized_before_the_first_mandate_is_not_paid_without_one: |w| {
        w.bank();
        let ready = w.approved(transfer("5", "k1"));
        let bought = w.approved(buy("LAPTOP", "1899.99", "k2"));
        let Ok(Effect::RequiresApproval { approval_id, transaction_id: waiting, .. }) = w.call(transfer("2500", "k3"))
        else { panic!("above 2000 a human decides") };
        let posted = w.approved(transfer("7", "k4"));
        w.posted(execute_transfer(&posted, "SAV_001", "7"));
        enter(w, "1", &limits()).unwrap();

        let bob = Actor::Operator(operator("bob", &["approver"]));
        w.decision(bob, decide(&approval_id, Verdict::Approve, "yes")).outcome.unwrap();
        for (id, amount) in [(&ready, "5"), (&waiting, "2500")] {
            let execution = execute_transfer(id, "SAV_001", amount);
            assert_eq!(w.call(execution.clone()), Err(Refusal::MandateMissing), "{amount}");
            w.admin(stop(Some("drill"))).unwrap();
            assert_eq!(w.call(execution), Err(Refusal::MandateMissing), "{amount}: nor is it left to the bank's people");
            w.admin(stop(None)).unwrap();
        }
        assert_eq!(w.call(execute_buy(&bought, "LAPTOP")), Err(Refusal::MandateMissing));
        let Ok(Effect::Posted(again)) = w.call(execute_transfer(&posted, "SAV_001", "7")) else { panic!("it is paid") };
        assert!(again.repeated);
        // Its end sets nobody free either.
        revoke(w, "1").unwrap();
        assert_eq!(w.call(execute_transfer(&ready, "SAV_001", "5")), Err(Refusal::MandateMissing));
        for id in [&ready, &bought, &waiting] {
            w.call(cancel(id)).unwrap();
        }
        w.adds_up();
    };

    what_was_authorized_before_a_rule_wanted_a_mandate_is_not_paid_without_one: |w| {
        w.bank();
        let before = w.approved(transfer("5", "k1"));
        let transactions = serde_json::from_value(json!([{ "name": "owners-sign", "mandate": "required" }])).unwrap();
        let rules = std::sync::Arc::new(Rules { transactions, ..rules() });
        let call = execute_transfer(&before, "SAV_001", "5");
        let act = Act::Tool { call: call.clone(), rules, fresh: w.fresh(), risk: None };
        assert_eq!(w.decision(Actor::Agent(shopper()), act).outcome, Err(Refusal::MandateMissing));
        w.posted(call);
        w.adds_up();
    };

    of_two_mandates_the_one_that_ends_first_is_used: |w| {
        w.bank();
        let mut late = claims(w, "1", &limits());
        late["exp"] = json!(START / 1000 + 60 * 86_400);
        enter(w, "1", &late).unwrap();
        enter(w, "2", &limits()).unwrap();
        let under = |call: ToolCall| match w.call(call).unwrap() {
            Effect::Approved { mandate, .. } => mandate.unwrap().to_string(),
            other => panic!("{other:?}"),
        };
        let used: Vec<String> = ["a", "b", "c", "d"].map(|key| under(transfer("80", key))).to_vec();
        assert_eq!(used, [id("2"), id("2"), id("2"), id("1")]);
        w.adds_up();
    };
}

pub(super) fn id(last: &str) -> String {
    format!("mdt_{last:0>26}")
}

/// Up to 100 a payment, 250 and three payments a month, to SAV_001.
pub fn limits() -> Value {
    json!([
        { "type": "payment.allowed_payees", "allowed": [
            { "id": "account:SAV_001", "name": "Savings" }, { "id": "amazon.com", "name": "Amazon" },
        ] },
        { "type": "payment.amount_range", "currency": "USD", "max": 10_000, "min": 100 },
        { "type": "payment.budget", "currency": "USD", "max": 250, "period": "MONTHLY" },
        { "type": "payment.agent_recurrence", "frequency": "MONTHLY", "per_period": 3 },
    ])
}

/// An administrator stops all payments, or lets them go on.
fn stop(reason: Option<&str>) -> Act {
    Act::SetBreaker { cause: Cause::Operator, reason: reason.map(str::to_owned), node: None }
}

/// Up to 3000 a payment.
fn many() -> Value {
    json!([{ "type": "payment.amount_range", "currency": "USD", "max": 300_000 }])
}

/// The claims of a mandate that is given now for 18 days.
pub fn claims(w: &World<'_>, last: &str, limits: &Value) -> Value {
    let now = w.now.get() / 1000;
    json!({
        "vct": mandate::VCT, "iss": "OWN_001", "sub": shopper().spiffe_id, "jti": id(last), "iat": now,
        "exp": now + 18 * 86_400, "cnf": { "kid": shopper().key },
        "payment_instrument": { "type": "account", "id": "CHK_001" }, "constraints": limits,
    })
}

/// Signed by some owner's key, and verified with it.
pub fn signed(w: &World<'_>, claims: &Value) -> VerifiedMandate {
    Owner::with(200).signs(w, claims)
}

/// Who signs, with a certificate of its own.
pub(super) struct Owner {
    pair: EcdsaKeyPair,
    pub key: OwnerKey,
}

impl Owner {
    /// The certificate has this serial number, and an issuer of its own.
    pub fn with(serial: u8) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let spki = spki_der(Algorithm::P256, pair.public_key().as_ref());
        let key = TokenKey { id: Sha256::of(&[&spki]), spki };
        let serial = Serial::from_bytes(&[serial]).unwrap();
        Self { pair, key: OwnerKey { key, issuer: format!("cc{serial}"), serial } }
    }

    pub fn signs(&self, w: &World<'_>, claims: &Value) -> VerifiedMandate {
        let owner = claims["iss"].as_str().unwrap().parse().unwrap();
        let draft = mandate::draft(self.key.key.id, &Mandate::from_claims(claims).unwrap(), &[]).unwrap();
        let signature = self.pair.sign(&SystemRandom::new(), &draft.input().message()).unwrap();
        let text = draft.signed(signature.as_ref()).unwrap();
        mandate::verify(&text, &owner, std::slice::from_ref(&self.key), UnixMillis(w.now.get())).unwrap()
    }
}

/// Enters a mandate with these limits, or with these claims.
pub(super) fn enter(w: &World<'_>, last: &str, limits: &Value) -> Outcome {
    let claims = if limits.is_array() { claims(w, last, limits) } else { limits.clone() };
    w.admin(Act::AddMandate { mandate: Box::new(signed(w, &claims)) })
}

pub(super) fn revoke(w: &World<'_>, last: &str) -> Outcome {
    w.admin(Act::RevokeMandate { mandate: id(last).parse().unwrap(), reason: "moved".into() })
}
