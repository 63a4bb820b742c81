//! Approvals that an officer withdraws, and hosts that are believed no more: nothing follows, whatever is under way.

use std::sync::atomic::Ordering;

use super::desk::{approval, bank, id, officer, unasserted};
use super::*;
use crate::kernel::credential::operator::SignedApproval;
use crate::kernel::types::AgentName;
use crate::ops::failure::MayHaveHappened;

fn shopper() -> AgentName {
    "shopper".parse().unwrap()
}

/// A company whose officer has approved shopper's key.
fn approved() -> (Installation, Party, Value, SignedApproval) {
    let all = installation();
    let carol = officer("carol", &all.secco, &["officer"]);
    let request = all.request("shopper", None);
    let signed = approval(&carol, "secco", &request, 30);
    all.secco.authority.cert_approve(&unasserted(), &signed).unwrap();
    (all, carol, request, signed)
}

fn withdraw(party: &Party) -> Result<Value, Failure> {
    party.authority.approval_withdraw(&unasserted(), Some(&shopper()), None)
}

fn endorse(all: &Installation, request: &Value) -> Result<Value, Failure> {
    all.secco.authority.cert_endorse(&unasserted(), request, None)
}

/// (state, used) of the only approval.
fn listed(party: &Party) -> (String, bool) {
    let list = party.authority.approval_list(&unasserted()).unwrap();
    let [item] = list["items"].as_array().unwrap().as_slice() else { panic!("{list}") };
    (item["state"].as_str().unwrap().to_owned(), item["used"].as_bool().unwrap())
}

fn signed_so_far(party: &Party) -> usize {
    party.token.signed_certificates.lock().unwrap().len()
}

#[test]
fn nothing_follows_an_approval_that_was_withdrawn_and_what_was_issued_stays() {
    let (all, carol, request, signed) = approved();
    let secco = &all.secco.authority;
    assert_eq!(listed(&all.secco), ("standing".into(), false));
    let issued = endorse(&all, &request).unwrap();
    assert_eq!(listed(&all.secco), ("standing".into(), true));

    assert_eq!(
        name_of(secco.approval_withdraw(&operator(&["administrator"]), Some(&shopper()), None)),
        "operator_not_permitted"
    );
    let nobody = "nobody".parse().unwrap();
    assert_eq!(name_of(secco.approval_withdraw(&unasserted(), Some(&nobody), None)), "approval_unknown");
    let unknown_key = Sha256::of(&[b"key"]);
    assert_eq!(name_of(secco.approval_withdraw(&unasserted(), None, Some(unknown_key))), "approval_unknown");
    assert_eq!(name_of(all.host.authority.approval_withdraw(&chief(), Some(&shopper()), None)), "not_this_party");
    assert_eq!(listed(&all.secco).0, "standing");

    let withdrawn = withdraw(&all.secco).unwrap();
    let item = &withdrawn["items"][0];
    assert_eq!((&item["already"], &item["approved_by"]), (&json!(false), &json!("carol")));
    assert_eq!(item["certificates"][0]["serial"], issued["serial"], "what was issued is named");
    assert!(all.secco.leaves().contains(&("cert_disapprove".into(), "done".into())));
    assert_eq!(listed(&all.secco), ("withdrawn".into(), true));
    assert!(all.secco.store.status().unwrap().certificates.is_empty(), "and stays");

    // Neither by itself, nor with the same word again, nor in a demo; a request waits as if nobody had approved.
    assert_eq!(name_of(endorse(&all, &request)), "approval_withdrawn");
    assert_eq!(name_of(secco.cert_approve(&unasserted(), &signed)), "approval_withdrawn");
    assert_eq!(name_of(secco.cert_endorse(&unasserted(), &request, Some(&signed))), "approval_withdrawn");
    assert_eq!(name_of(secco.cert_endorse(&chief(), &request, None)), "approval_withdrawn");
    assert_eq!(secco.endorsement_put(&bank(), &id(1), &request).unwrap()["state"], "pending");
    let again = withdraw(&all.secco).unwrap();
    assert_eq!(again["items"][0]["already"], true);

    // The file of the approval comes back from wherever: the mark stands.
    let file = all.secco.path(&format!("certs/approvals/{}.json", signed.approval.agent_key));
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, json!(signed).to_string()).unwrap();
    assert_eq!(name_of(endorse(&all, &request)), "approval_withdrawn");

    // Another look at the agent is another word.
    let later = loop {
        let later = approval(&carol, "secco", &request, 30);
        if later.approval.at_unix_ms > signed.approval.at_unix_ms
            && all.secco.authority.cert_approve(&unasserted(), &later).is_ok()
        {
            break later;
        }
    };
    assert_eq!(listed(&all.secco).0, "standing");
    assert_eq!(secco.endorsement_get(&bank(), &id(1)).unwrap()["approval"], json!(later));
}

#[test]
fn an_approval_is_withdrawn_by_its_key_and_of_its_party_alone() {
    let (all, carol, request, signed) = approved();
    let dora = officer("dora", &all.bank, &["officer"]);
    all.bank.authority.cert_approve(&unasserted(), &approval(&dora, "bank", &request, 30)).unwrap();
    let drifter = all.request("drifter", None);
    all.secco.authority.cert_approve(&unasserted(), &approval(&carol, "secco", &drifter, 30)).unwrap();

    all.secco.authority.approval_withdraw(&unasserted(), None, Some(signed.approval.agent_key)).unwrap();
    endorse(&all, &drifter).unwrap();
    assert_eq!(name_of(endorse(&all, &request)), "approval_withdrawn");
    assert_eq!(listed(&all.bank).0, "standing");
}

#[test]
fn a_certificate_that_is_being_made_is_waited_for_and_one_that_was_cut_off_is_never_signed() {
    let (all, _carol, request, signed) = approved();
    let secco = &all.secco.authority;
    // Cut off behind the journal.
    all.secco.token.failing_signatures.store(1, Ordering::SeqCst);
    endorse(&all, &request).unwrap_err();
    let before = signed_so_far(&all.secco);

    // Somebody is at it.
    let approval = &signed.approval;
    let making = secco.begin_issuing_to(&approval.agent, approval.agent_key).unwrap();
    let told = withdraw(&all.secco).unwrap_err();
    assert_eq!((told.name.as_str(), told.may_have_happened), ("issuance_in_progress", MayHaveHappened::Yes));
    assert_eq!(listed(&all.secco), ("withdrawn".into(), true), "the mark is there first");
    drop(making);

    let whole = withdraw(&all.secco).unwrap();
    assert_eq!(whole["items"][0]["already"], true);
    // After a restart, as before it.
    let again = super::peers::with_room_for(&all.secco, 10);
    for _ in 0..2 {
        assert_eq!(name_of(again.cert_endorse(&unasserted(), &request, None)), "approval_withdrawn");
        assert_eq!(name_of(again.cert_endorse(&unasserted(), &request, Some(&signed))), "approval_withdrawn");
    }
    assert_eq!(signed_so_far(&all.secco), before);
}

#[test]
fn at_the_bank_no_second_half_follows_a_withdrawn_approval() {
    let (all, _carol, request, _) = approved();
    let dora = officer("dora", &all.bank, &["officer"]);
    all.bank.authority.cert_approve(&unasserted(), &approval(&dora, "bank", &request, 30)).unwrap();
    let endorsed = endorse(&all, &request).unwrap();
    let proof = all.request("shopper", endorsed["certificate_pem"].as_str());
    withdraw(&all.bank).unwrap();
    let before = signed_so_far(&all.bank);
    assert_eq!(name_of(all.bank.authority.cert_issue(&unasserted(), &proof, None)), "approval_withdrawn");
    assert_eq!(signed_so_far(&all.bank), before);
}

#[test]
fn the_list_says_what_became_of_each_approval() {
    let (all, carol, request, signed) = approved();
    let secco = &all.secco.authority;
    let list = secco.approval_list(&unasserted()).unwrap();
    let item = &list["items"][0];
    assert_eq!((&item["role"], &item["approved_by"]), (&json!("purchaser"), &json!("carol")));
    let (from, until) = signed.approval.span().unwrap();
    assert_eq!((&item["from"], &item["until"]), (&json!(from.rfc3339()), &json!(until.rfc3339())));
    let shown = carol.authority.operator_show(&unasserted()).unwrap();
    let key = shown["request"]["key"].as_str().unwrap();
    secco.revoke(&chief(), &wish(key, "left the company", RevokeMode::Effective)).unwrap();
    assert_eq!(listed(&all.secco).0, "void");
    assert_eq!(secco.approval_list(&unasserted()).unwrap()["items"][0]["why"], "operator_revoked");
    withdraw(&all.secco).unwrap();
    assert_eq!(listed(&all.secco).0, "withdrawn");
    assert_eq!(name_of(endorse(&all, &request)), "operator_revoked");
    assert_eq!(name_of(all.host.authority.approval_list(&chief())), "not_this_party");
}

#[test]
fn a_host_that_was_removed_is_believed_no_more_until_it_is_enrolled_again() {
    let (all, _carol, request, _) = approved();
    let secco = &all.secco.authority;
    let host = all.host.authority.host_show(&chief()).unwrap();
    let list = secco.host_list(&unasserted()).unwrap();
    assert_eq!((&list["items"][0]["party"], &list["items"][0]["host_key"]), (&json!("agent"), &host["host_key"]));

    assert_eq!(name_of(secco.host_remove(&operator(&["officer"]), "agent")), "operator_not_permitted");
    assert_eq!(name_of(secco.host_remove(&unasserted(), "elsewhere")), "host_unknown");
    assert_eq!(name_of(all.host.authority.host_remove(&chief(), "agent")), "not_this_party");
    assert_eq!(secco.host_remove(&unasserted(), "agent").unwrap()["host_key"], host["host_key"]);
    assert_eq!(secco.host_list(&unasserted()).unwrap()["items"], json!([]));
    assert_eq!(name_of(endorse(&all, &request)), "custody_host_unknown");
    assert!(all.secco.leaves().contains(&("host_remove".into(), "done".into())));
    assert_eq!(name_of(secco.host_remove(&unasserted(), "agent")), "host_unknown");

    secco.host_enrol(&chief(), &host).unwrap();
    endorse(&all, &request).unwrap();
    // Two of one name are told apart by their keys.
    let other = installation();
    secco.host_enrol(&chief(), &other.host.authority.host_show(&chief()).unwrap()).unwrap();
    assert_eq!(name_of(secco.host_remove(&unasserted(), "agent")), "target_ambiguous");
    secco.host_remove(&unasserted(), host["host_key"].as_str().unwrap()).unwrap();
    assert_eq!(secco.host_list(&unasserted()).unwrap()["items"].as_array().unwrap().len(), 1);
}
