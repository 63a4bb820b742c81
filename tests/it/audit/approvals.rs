//! What people said, told short, late, twice or not at all: whoever composes a bundle so has none.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign::audit::prove::LeafChoice;
use countersign::kernel::bundle::{self, tar, verify};
use countersign::kernel::canon::canonical;
use countersign::kernel::quorum::GateRule;
use countersign::kernel::types::{ApprovalId, TransactionId, UnixMillis};
use serde_json::{Value, json};

use super::parties::OID_BASE;
use super::payments::Bank;

const APPROVAL: &str = "approval.json";

/// A payment that was made after these people had said yes.
struct Made {
    bank: Bank,
    approval: ApprovalId,
    id: TransactionId,
}

impl Made {
    fn after(gates: Vec<GateRule>, people: &[&str]) -> Self {
        let (bank, _) = Bank::with_payments();
        let signs = !gates.is_empty();
        let (approval, id) = bank.waits(gates);
        people.iter().for_each(|person| bank.hears(person, (&approval, &id), signs));
        bank.makes(&id);
        Self { bank, approval, id }
    }

    fn parts(&self) -> BTreeMap<String, Vec<u8>> {
        let file = self.bank.log.bundle(&self.id, Duration::ZERO).unwrap();
        tar::read(&file).unwrap().into_iter().skip(1).map(|member| (member.name, member.bytes)).collect()
    }

    /// What a reader says of the parts with another `approval.json`, and a manifest that fits.
    fn told(&self, mut parts: BTreeMap<String, Vec<u8>>, change: impl FnOnce(&mut Value)) -> String {
        let mut approval: Value = serde_json::from_slice(&parts[APPROVAL]).unwrap();
        change(&mut approval);
        let mut written = canonical(&approval).unwrap();
        written.push(b'\n');
        parts.insert(APPROVAL.into(), written);
        let file = bundle::compose(&self.id, parts).unwrap();
        let refusal = verify(&file, &self.bank.kit.root, OID_BASE).unwrap_err();
        assert_eq!(refusal.name(), "parts_differ", "{refusal}");
        refusal.to_string()
    }

    fn behind(&self, sql: &str) {
        behind(&self.bank, sql);
    }
}

fn behind(bank: &Bank, sql: &str) {
    let connection = rusqlite::Connection::open(bank.database()).unwrap();
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    assert_eq!(connection.execute(sql, []).unwrap(), 1, "{sql}");
}

fn two_approvers() -> Vec<GateRule> {
    vec![GateRule::Bank { approvals: 2, roles: vec!["approver".into()], ordered: false }]
}

#[test]
fn a_word_that_is_left_out_is_missed() {
    let made = Made::after(two_approvers(), &["bob", "carol"]);
    let parts = made.parts();
    let verdict = verify(&bundle::compose(&made.id, parts.clone()).unwrap(), &made.bank.kit.root, OID_BASE).unwrap();
    assert!(verdict.approval().unwrap().gates_are_signed());
    assert_eq!(verdict.approval().unwrap().words.len(), 2);
    let mut short = parts.clone();
    short.remove("words/2.tlog-proof");
    let told = made.told(short, |approval| drop(approval["words"].as_array_mut().unwrap().pop()));
    assert!(told.contains("more people than have said yes"), "{told}");
    // The second word alone: the bank recorded of it that it was the last.
    let mut second = parts.clone();
    second.insert("words/1.tlog-proof".into(), second["words/2.tlog-proof"].clone());
    second.remove("words/2.tlog-proof");
    let told = made.told(second, |approval| drop(approval["words"].as_array_mut().unwrap().remove(0)));
    assert!(told.contains("the effect that the gates give it"), "{told}");
    // Nobody at all.
    let mut none = parts;
    none.retain(|name, _| !name.starts_with("words/"));
    let told = made.told(none, |approval| approval["words"] = json!([]));
    assert!(told.contains("more people than have said yes"), "{told}");
}

#[test]
fn a_person_who_is_told_twice_is_still_one() {
    let made = Made::after(two_approvers(), &["bob", "carol"]);
    let mut twice = made.parts();
    twice.insert("words/2.tlog-proof".into(), twice["words/1.tlog-proof"].clone());
    let told = made.told(twice, |approval| approval["words"][1] = approval["words"][0].clone());
    assert!(told.contains("before the word that is told first"), "{told}");
    let mut turned = made.parts();
    turned.insert("words/1.tlog-proof".into(), made.parts()["words/2.tlog-proof"].clone());
    turned.insert("words/2.tlog-proof".into(), made.parts()["words/1.tlog-proof"].clone());
    let told = made.told(turned, |approval| approval["words"].as_array_mut().unwrap().reverse());
    assert!(told.contains("before the word that is told first") || told.contains("the effect"), "{told}");
}

#[test]
fn a_word_that_came_after_the_payment_does_not_count() {
    let made = Made::after(vec![GateRule::one_approver()], &["bob"]);
    let mut parts = made.parts();
    // Somebody opens the approval again in the database, and one more person says yes.
    let (approval, id) = (&made.approval, &made.id);
    made.behind(&format!(
        "UPDATE approvals SET asked = json_set(asked, '$.quorum.words', json('[]')), decided_by = NULL, decided_at = NULL,
         note = NULL, asserted = NULL WHERE name = '{approval}'"
    ));
    made.behind(&format!("UPDATE transactions SET state = 'pending_approval' WHERE name = '{id}'"));
    made.bank.hears("carol", (approval, id), true);
    made.bank.settle();
    let stored = made.bank.store.transaction(id).unwrap().unwrap().approval.unwrap();
    let [late] = &stored.asked.quorum.words[..] else { panic!("{stored:?}") };
    let place = made.bank.log.head(Duration::ZERO).unwrap().size - 1;
    let proof = made.bank.log.prove(&LeafChoice::Index(place)).unwrap();
    parts.insert("words/1.tlog-proof".into(), proof.into_bytes());
    let said = json!({
        "answer": "yes", "at": UnixMillis(late.at).rfc3339(), "evidence": late.evidence,
        "gate": 0, "note": late.note, "person": "carol", "role": "approver",
    });
    let told = made.told(parts, |approval| approval["words"] = json!([said]));
    assert!(told.contains("recorded after the payment"), "{told}");
}

#[test]
fn a_payment_that_was_freed_from_its_approval_has_no_bundle() {
    let (bank, _) = Bank::with_payments();
    let (approval, id) = bank.waits(two_approvers());
    behind(&bank, &format!("DELETE FROM approvals WHERE name = '{approval}'"));
    behind(&bank, &format!("UPDATE transactions SET state = 'approved' WHERE name = '{id}'"));
    bank.makes(&id);
    let refused = bank.log.bundle(&id, Duration::ZERO).unwrap_err();
    assert_eq!(refused.name, "bundle_unverifiable");
    assert!(refused.message.contains("people were asked about the payment"), "{}", refused.message);
}

#[test]
fn unsigned_words_say_so_of_the_gates_and_the_agent_is_the_maker() {
    let made = Made::after(vec![], &["bob"]);
    let parts = made.parts();
    let verdict = verify(&bundle::compose(&made.id, parts.clone()).unwrap(), &made.bank.kit.root, OID_BASE).unwrap();
    assert!(!verdict.approval().unwrap().gates_are_signed(), "nobody's key signed who was to be asked");
    let told = made.told(parts.clone(), |approval| approval["terms"]["maker"] = json!("dora"));
    assert!(told.contains("somebody else asked for it"), "{told}");
    // Gates that one word does not complete, and a role that the person did not have.
    let told = made.told(parts.clone(), |approval| approval["terms"]["gates"][0]["approvals"] = json!(2));
    assert!(told.contains("the effect that the gates give it"), "{told}");
    let told = made.told(parts, |approval| {
        approval["terms"]["gates"][0]["roles"] = json!(["officer"]);
        approval["words"][0]["role"] = json!("officer");
    });
    assert!(told.contains("not said as what it is told to be"), "{told}");
}
