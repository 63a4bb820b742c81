//! How many requests about payments are refused, each by its exact name: counted in the audit log, where the product
//! itself wrote them down.
//!
//! The rows are in the tables of the sentences that run here, and each table asserts the names of its rows. What counts
//! is a request as its leaf has it: the same one again, with other ids, is no other row. What is refused before a
//! decision (a handshake, a token, a policy that cannot be read) is not among them.

use std::collections::BTreeSet;
use std::sync::Arc;

use countersign::kernel::command::*;
use countersign::kernel::refusal::Refusal;
use serde_json::{Value, json};

use super::{authorize, payments, staff};
use crate::store::mandates;
use crate::store::world::*;

const ROWS_MIN: usize = 150;

/// Names that other decisions give, about certificates, revocation lists and a witness's logs (`tests/it/store/witness.rs`),
/// or about signatures of other programs (`tests/it/store/signing.rs`); one that no request reaches: what is executed was held when it was authorized (`kernel/ledger` has its row); and one
/// that takes somebody who changes the store behind our back (`tests/it/vault.rs`).
const OF_OTHERS: [Refusal; 13] = [
    Refusal::IdempotencyMismatch,
    Refusal::UnknownSigning,
    Refusal::SerialTaken,
    Refusal::StaleCrl,
    Refusal::LogOfAnother,
    Refusal::LogRenamed,
    Refusal::TooManyLogs,
    Refusal::UnknownLog,
    Refusal::LogNotHalted,
    Refusal::HeadNotShown,
    Refusal::SizeTooLarge,
    Refusal::HoldMissing,
    Refusal::CredentialDamaged,
];

fn tables() {
    crate::store::each_about_deciding();
    authorize::each_rule_refuses_by_its_name_and_the_earlier_of_two_neighbours_speaks();
    authorize::a_stopped_bank_speaks_before_grants_and_after_keys_and_revocation();
    authorize::sums_that_do_not_fit_are_refused_before_anything_is_held();
    authorize::an_overdraft_is_spent_to_its_last_unit_and_no_further();
    authorize::a_nonce_is_taken_by_whatever_comes_of_its_request_and_refuses_before_every_rule();
    authorize::a_score_holds_or_refuses_where_the_monitor_enforces_and_stands_in_the_leaf();
    payments::an_execution_is_refused_by_the_first_rule_it_breaks();
    payments::whatever_became_of_an_authorization_is_what_executing_and_cancelling_it_says();
    payments::a_decision_needs_the_role_the_question_time_and_another_person();
    payments::reversals_never_take_more_than_the_original_whoever_asks_in_whichever_order();
    staff::the_banks_jobs_post_anything_that_adds_up_and_its_people_charge_fees_only();
    staff::whoever_froze_an_account_does_not_thaw_it_and_nothing_else_does();
    staff::only_people_let_payments_go_on_and_only_the_right_ones_decide_a_case();
    staff::a_payment_is_queued_once_and_a_late_repeat_does_not_undo_the_answer();
    staff::money_at_an_external_core_moves_when_it_says_so_and_never_twice();
    on_every_store(rest);
    on_every_store(crate::store::vault::refused);
    on_every_store(crate::store::vault::limits);
}

/// Names that no other table of these has.
fn rest(w: &World<'_>) {
    w.bank();
    use Refusal::*;
    let mandate = |last: &str, limits: &Value, begins_s: i64| {
        let mut claims = mandates::claims(w, last, limits);
        claims["nbf"] = json!(w.now.get() / 1000 + begins_s);
        Act::AddMandate { mandate: Box::new(mandates::signed(w, &claims)) }
    };
    // A node that cannot read the policy in force decides nothing by the one before.
    let blind = Arc::new(Rules { policy_unreadable: Some(7), ..rules() });
    let blind = World { store: w.store, now: w.now.clone(), ids: w.ids.clone(), rules: blind };
    for call in [transfer("5", "p"), buy("LAPTOP", "1899.99", "p"), balance_of("CHK_001")] {
        assert_eq!(blind.call(call), Err(PolicyUnreadable));
    }
    w.ids.set(blind.ids.get());
    let whom = || Whom::Agent(shopper().spiffe_id);
    assert_eq!(w.admin(Act::Unfreeze { whom: whom(), note: "n".into() }), Err(NotFrozen));
    assert_eq!(w.admin(add_product("nobody.example", "THING", "1")), Err(UnknownMerchant));
    let about = |subject: &str, step| w.admin(Act::Subject { subject: subject.parse().unwrap(), step });
    let erase = || SubjectStep::Erase { reason: "r".into(), pseudonym: countersign::kernel::types::Sha256([0; 32]) };
    assert_eq!(about("system", erase()), Err(SubjectNotErasable));
    about("owner:OWN_009", SubjectStep::Hold { reason: "r".into() }).unwrap();
    assert_eq!(about("owner:OWN_009", erase()), Err(UnderLegalHold));
    w.admin(Act::Freeze { whom: whom(), reason: "odd".into() }).unwrap();
    let table = [transfer("5", "f"), buy("LAPTOP", "1899.99", "f"), balance_of("CHK_001"), reversal_of_nothing()];
    for call in table {
        assert_eq!(w.call(call), Err(AgentFrozen));
    }
    for name in ["ada", "bob"] {
        let by = Actor::Operator(operator(name, &["administrator"]));
        w.decision(by, Act::Unfreeze { whom: whom(), note: "n".into() }).outcome.unwrap();
    }
    // Each mandate is revoked before the next one: the agent is told of the one that comes furthest.
    let range = json!({ "type": "payment.amount_range", "currency": "USD", "max": 10_000 });
    let later = json!([range, { "type": "payment.execution_date", "not_before": "2027-03-01T00:00:00Z" }]);
    let rent = json!([range, { "type": "payment.reference", "conditional_transaction_id": "rent" }]);
    let table = [
        ("51", mandates::limits(), 3_600, MandateNotYetValid),
        ("52", rent, 0, MandateReference),
        ("53", later, 0, MandateDates),
    ];
    for (last, limits, begins_s, refused) in table {
        w.admin(mandate(last, &limits, begins_s)).unwrap();
        assert_eq!(w.call(transfer("5", last)), Err(refused), "{limits}");
        let id = format!("mdt_{last:0>26}").parse().unwrap();
        w.admin(Act::RevokeMandate { mandate: id, reason: "r".into() }).unwrap();
    }
    for number in 100..132 {
        w.admin(mandate(&number.to_string(), &mandates::limits(), 0)).unwrap();
    }
    assert_eq!(w.admin(mandate("132", &mandates::limits(), 0)), Err(TooManyMandates));
}

fn reversal_of_nothing() -> ToolCall {
    reversal(&"txn_00000000000000000000000000".parse().unwrap(), None, "f")
}

#[test]
fn at_least_150_requests_are_refused_by_name_and_every_name_of_deciding_is_among_them() {
    let rows = refused_in(tables);
    let named: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    let of_deciding = Refusal::ALL.iter().filter(|refusal| !OF_OTHERS.contains(refusal));
    let without: Vec<&str> = of_deciding.map(|refusal| refusal.name()).filter(|name| !named.contains(name)).collect();
    assert!(without.is_empty(), "{} rows, and none for {without:?}", rows.len());
    assert!(rows.len() >= ROWS_MIN, "{} rows: {rows:#?}", rows.len());
}
