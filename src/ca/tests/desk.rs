//! Officers with keys of their own, and the security company's desk for other parties' requests.

use std::sync::atomic::Ordering;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::*;
use crate::ca::build;
use crate::kernel::credential::compose::{CertificatePlan, OperatorPlan};
use crate::kernel::credential::operator::{HORIZON_MS, OperatorRequest, SignedApproval, SignedRequest};
use crate::kernel::credential::profile::Profile;
use crate::kernel::types::{PartyName, RequestId};

const AGENT: &str = "spiffe://countersign.example/agent/purchaser/shopper";

/// Nobody's word: what an administrator of a real installation is.
pub(super) fn administrator() -> Actor {
    let Actor::Operator(operator) = operator(&["administrator"]) else { unreachable!() };
    Actor::Operator(OperatorPrincipal { asserted: false, ..operator })
}

/// An officer at the socket who asserts nothing.
pub(super) fn unasserted() -> Actor {
    let Actor::Operator(operator) = operator(&["administrator", "officer"]) else { unreachable!() };
    Actor::Operator(OperatorPrincipal { asserted: false, ..operator })
}

/// A person with a token of their own, enrolled at a party.
pub(super) fn officer(name: &str, at: &Party, roles: &[&str]) -> Party {
    let person = party(name, PartyKind::Operator);
    person.authority.init_party(&unasserted()).unwrap();
    let request = person.authority.operator_show(&unasserted()).unwrap();
    let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
    at.authority.operator_enrol(&administrator(), &request, &roles, None).unwrap();
    person
}

pub(super) fn approval(person: &Party, party: &str, request: &Value, days: u32) -> SignedApproval {
    let csr = pem::decode_one(Kind::Request, request["csr_pem"].as_str().unwrap()).unwrap();
    let verified = crate::kernel::credential::request::verify(&csr).unwrap();
    let (agent, key) = (verified.spiffe_id().clone(), verified.key());
    let signed = person.authority.approval_sign(&unasserted(), party.parse().unwrap(), agent, key, days).unwrap();
    serde_json::from_value(signed).unwrap()
}

pub(super) fn bank() -> PartyName {
    "bank".parse().unwrap()
}

pub(super) fn id(number: u8) -> RequestId {
    format!("req_0000000000000000000000000{number}").parse().unwrap()
}

pub(super) fn revoked_serials(party: &Party) -> usize {
    party.store.status().unwrap().certificates.len()
}

#[test]
fn an_endorsement_needs_an_officers_signature_over_this_agent_and_key() {
    let all = installation();
    let secco = &all.secco.authority;
    let carol = officer("carol", &all.secco, &["officer"]);
    let eve = officer("eve", &all.secco, &["auditor"]);
    let dora = officer("dora", &all.bank, &["officer"]);
    let request = all.request("shopper", None);
    let other = all.request("drifter", None);
    let mut widened = approval(&carol, "secco", &request, 90);
    widened.approval.agent = "spiffe://countersign.example/agent/treasurer/shopper".parse().unwrap();
    let mut renamed = approval(&eve, "secco", &request, 90);
    renamed.approval.operator = "carol".parse().unwrap();
    let table = [
        ("no approval", None, "approval_missing"),
        ("of another agent", Some(approval(&carol, "secco", &other, 90)), "approval_missing"),
        ("of nobody known here", Some(approval(&dora, "secco", &request, 90)), "operator_unknown"),
        ("of an auditor", Some(approval(&eve, "secco", &request, 90)), "operator_not_permitted"),
        ("for another party", Some(approval(&carol, "bank", &request, 90)), "approval_wrong_party"),
        ("changed afterwards", Some(widened), "operator_signature_invalid"),
        ("under another's name", Some(renamed), "operator_signature_invalid"),
    ];
    for (what, approval, expected) in table {
        let refused = secco.cert_endorse(&unasserted(), &request, approval.as_ref());
        assert_eq!(name_of(refused), expected, "{what}");
    }
    let signed = approval(&carol, "secco", &request, 90);
    let endorsed = secco.cert_endorse(&unasserted(), &request, Some(&signed)).unwrap();
    // It stands: the next one needs nobody, and is the same while it lasts.
    let again = secco.cert_endorse(&unasserted(), &all.request("shopper", None), None).unwrap();
    assert_eq!(again["serial"], endorsed["serial"]);
    assert!(all.secco.leaves().contains(&("cert_endorse".into(), "accepted".into())));

    // The officer's key is revoked: what the officer approved falls with it.
    let leaves = wish(&carol_key(&carol), "left the company", RevokeMode::Effective);
    all.secco.authority.revoke(&chief(), &leaves).unwrap();
    assert_eq!(name_of(secco.cert_endorse(&unasserted(), &request, None)), "operator_revoked");
    assert_eq!(name_of(secco.cert_endorse(&unasserted(), &request, Some(&signed))), "operator_revoked");
}

fn carol_key(person: &Party) -> String {
    let shown = person.authority.operator_show(&unasserted()).unwrap();
    shown["request"]["key"].as_str().unwrap().to_owned()
}

#[test]
fn an_approval_stands_for_ninety_days_at_most_and_ends_certificates_with_it() {
    let all = installation();
    let carol = officer("carol", &all.secco, &["officer"]);
    let request = all.request("shopper", None);
    let sign = |days| {
        let key = crate::kernel::types::Sha256::of(&[b"key"]);
        carol.authority.approval_sign(&unasserted(), "secco".parse().unwrap(), AGENT.parse().unwrap(), key, days)
    };
    assert_eq!(name_of(sign(0)), "approval_horizon");
    assert_eq!(name_of(sign(91)), "approval_horizon");
    assert_eq!(HORIZON_MS, 90 * 86_400_000);
    let signed = approval(&carol, "secco", &request, 1);
    let endorsed = all.secco.authority.cert_endorse(&unasserted(), &request, Some(&signed)).unwrap();
    let (_, until) = signed.approval.span().unwrap();
    assert!(endorsed["not_after"].as_str().unwrap() <= until.rfc3339().as_str());
    // Only people's own directories sign approvals, and only parties with an authority take them.
    assert_eq!(name_of(all.bank.authority.operator_show(&chief())), "not_this_party");
    assert_eq!(name_of(all.host.authority.cert_approve(&chief(), &signed)), "not_this_party");
    let stale = all.secco.authority.operator_enrol(&administrator(), &json!({}), &["officer".into()], None);
    assert_eq!(name_of(stale), "operator_document_malformed");
}

#[test]
fn a_request_waits_for_an_officer_and_is_endorsed_once() {
    let all = installation();
    let secco = &all.secco.authority;
    let carol = officer("carol", &all.secco, &["officer"]);
    let request = all.request("shopper", None);
    assert_eq!(secco.endorsement_put(&bank(), &id(1), &request).unwrap()["state"], "pending");
    assert_eq!(secco.endorsement_put(&bank(), &id(1), &request).unwrap()["state"], "pending");
    assert_eq!(secco.endorsement_list(&chief()).unwrap()["items"].as_array().unwrap().len(), 1);

    let other = all.request("drifter", None);
    assert_eq!(name_of(secco.endorsement_put(&bank(), &id(1), &other)), "request_id_taken");
    let stranger: PartyName = "stranger".parse().unwrap();
    assert_eq!(name_of(secco.endorsement_put(&stranger, &id(1), &request)), "request_id_taken");
    assert_eq!(name_of(secco.endorsement_get(&stranger, &id(1))), "request_unknown");
    assert_eq!(name_of(secco.endorsement_abandon(&stranger, &id(1))), "request_unknown");
    assert_eq!(name_of(secco.endorsement_get(&bank(), &id(9))), "request_unknown");
    assert_eq!(name_of(all.bank.authority.endorsement_put(&bank(), &id(1), &request)), "not_this_party");
    let mut bent = request.clone();
    bent["name"] = json!("drifter");
    assert_eq!(name_of(secco.endorsement_put(&bank(), &id(2), &bent)), "request_identity");

    let signed = approval(&carol, "secco", &request, 30);
    secco.cert_approve(&unasserted(), &signed).unwrap();
    let endorsed = secco.endorsement_get(&bank(), &id(1)).unwrap();
    assert_eq!(endorsed["state"], "endorsed");
    assert_eq!(endorsed["approval"], json!(signed));
    let again = secco.endorsement_put(&bank(), &id(1), &request).unwrap();
    assert_eq!(again["certificate_pem"], endorsed["certificate_pem"]);
    let issued = all.secco.store.certificates().unwrap();
    assert_eq!(issued.iter().filter(|record| record.profile == "agent-s").count(), 1);
}

#[test]
fn what_was_abandoned_stays_abandoned_in_whatever_order_requests_come() {
    let all = installation();
    let secco = &all.secco.authority;
    let carol = officer("carol", &all.secco, &["officer"]);
    let request = all.request("shopper", None);
    secco.cert_approve(&unasserted(), &approval(&carol, "secco", &request, 30)).unwrap();

    // Given up before it came.
    assert_eq!(secco.endorsement_abandon(&bank(), &id(1)).unwrap()["state"], "abandoned");
    assert_eq!(name_of(secco.endorsement_put(&bank(), &id(1), &request)), "request_abandoned");
    assert_eq!(revoked_serials(&all.secco), 0);

    // Endorsed, then given up: revoked, and asked again it is not endorsed again.
    assert_eq!(secco.endorsement_put(&bank(), &id(2), &request).unwrap()["state"], "endorsed");
    for _ in 0..2 {
        assert_eq!(secco.endorsement_abandon(&bank(), &id(2)).unwrap()["state"], "abandoned");
        assert_eq!(revoked_serials(&all.secco), 1);
    }
    let late = secco.endorsement_put(&bank(), &id(2), &request).unwrap();
    assert_eq!((late["state"].as_str(), late["certificate_pem"].as_str()), (Some("abandoned"), None));

    // One S that answered two requests: it is revoked with the last of them.
    let first = secco.endorsement_put(&bank(), &id(3), &request).unwrap();
    let second = secco.endorsement_put(&bank(), &id(4), &all.request("shopper", None)).unwrap();
    assert_eq!(first["certificate_pem"], second["certificate_pem"]);
    secco.endorsement_abandon(&bank(), &id(4)).unwrap();
    assert_eq!(revoked_serials(&all.secco), 1);
    secco.endorsement_abandon(&bank(), &id(3)).unwrap();
    assert_eq!(revoked_serials(&all.secco), 2);
}

#[test]
fn an_endorsement_that_was_cut_off_while_it_was_signed_goes_on_or_is_given_up() {
    let all = installation();
    let secco = &all.secco.authority;
    let carol = officer("carol", &all.secco, &["officer"]);
    let request = all.request("shopper", None);
    secco.cert_approve(&unasserted(), &approval(&carol, "secco", &request, 30)).unwrap();

    all.secco.token.failing_signatures.store(1, Ordering::SeqCst);
    secco.endorsement_put(&bank(), &id(1), &request).unwrap_err();
    assert_eq!(secco.endorsement_list(&chief()).unwrap()["items"][0]["state"], "issuing");
    let endorsed = secco.endorsement_get(&bank(), &id(1)).unwrap();
    assert_eq!(endorsed["state"], "endorsed");
    let journalled = all.secco.store.certificates().unwrap();
    assert_eq!(journalled.iter().filter(|record| record.profile == "agent-s").count(), 1, "the same bytes were signed");

    let drifter = all.request("drifter", None);
    secco.cert_approve(&unasserted(), &approval(&carol, "secco", &drifter, 30)).unwrap();
    all.secco.token.failing_signatures.store(1, Ordering::SeqCst);
    secco.endorsement_put(&bank(), &id(2), &drifter).unwrap_err();
    secco.endorsement_abandon(&bank(), &id(2)).unwrap();
    assert_eq!(revoked_serials(&all.secco), 1, "what was journalled was finished, to be revoked by its number");
    assert_eq!(secco.endorsement_get(&bank(), &id(2)).unwrap()["state"], "abandoned");
}

#[test]
fn people_are_enrolled_once_and_roles_change_without_another_certificate() {
    let all = installation();
    let secco = &all.secco.authority;
    let carol = officer("carol", &all.secco, &["officer"]);
    let request = carol.authority.operator_show(&unasserted()).unwrap();
    let enrol = |request: &Value, roles: &[&str]| {
        let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
        secco.operator_enrol(&administrator(), request, &roles, None)
    };
    let same = enrol(&request, &["officer"]).unwrap();
    assert_eq!(same["changed"], false);
    let wider = enrol(&request, &["officer", "auditor"]).unwrap();
    assert_eq!((wider["changed"].as_bool(), &wider["serial"]), (Some(true), &same["serial"]));
    assert_eq!(name_of(enrol(&request, &["king"])), "operator_role_unknown");
    // Another key under the same name.
    let impostor = party("carol", PartyKind::Operator);
    impostor.authority.init_party(&unasserted()).unwrap();
    let theirs = impostor.authority.operator_show(&unasserted()).unwrap();
    assert_eq!(name_of(enrol(&theirs, &["officer"])), "agent_name_taken");
    // The same key under another name would be two people at a gate that asks for two.
    let signed: SignedRequest = serde_json::from_value(request.clone()).unwrap();
    let renamed = OperatorRequest { name: "carola".parse().unwrap(), ..signed.request };
    let token = &carol.token.inner as &dyn Token;
    let signature = BASE64_STANDARD.encode(token.sign(renamed.key, renamed.sign_input().unwrap()).unwrap());
    let renamed = json!(SignedRequest { request: renamed, signature });
    assert_eq!(name_of(enrol(&renamed, &["officer"])), "key_already_enrolled");
    assert_eq!(name_of(enrol(&renamed, &["approver"])), "key_already_enrolled");
    let by_an_officer = secco.operator_enrol(&operator(&["officer"]), &theirs, &["officer".into()], None);
    assert_eq!(name_of(by_an_officer), "operator_not_permitted");
    assert_eq!(secco.operator_list(&chief()).unwrap()["items"].as_array().unwrap().len(), 1);
}

/// Whoever is known by user id alone is the customer that the person of that name is enrolled as.
#[test]
fn an_operator_known_by_user_id_is_the_owner_that_they_are_enrolled_as() {
    let all = installation();
    let bank = &all.bank.authority;
    let omar = party("omar", PartyKind::Operator);
    omar.authority.init_party(&unasserted()).unwrap();
    let request = omar.authority.operator_show(&unasserted()).unwrap();
    let roles = ["owner".to_owned(), "approver".to_owned()];
    bank.operator_enrol(&administrator(), &request, &roles, Some(&"cust_17".parse().unwrap())).unwrap();
    let Actor::Operator(known) = operator(&["approver"]) else { unreachable!() };
    let owner_of = |name: &str, configured: Option<&str>| {
        let configured = configured.map(|owner| owner.parse().unwrap());
        let operator = OperatorPrincipal { name: name.parse().unwrap(), owner: None, ..known.clone() };
        let known = bank.with_owner(operator, configured);
        known.map(|known| known.owner.map(|owner| owner.to_string())).map_err(|failure| failure.name)
    };
    let is = |owner: &str| Ok(Some(owner.to_owned()));
    assert_eq!(owner_of("omar", None), is("cust_17"));
    assert_eq!(owner_of("omar", Some("cust_17")), is("cust_17"));
    assert_eq!(owner_of("omar", Some("cust_18")), Err("operator_two_customers".into()), "neither is forgotten");
    assert_eq!(owner_of("olga", Some("cust_18")), is("cust_18"));
    assert_eq!(owner_of("olga", None), Ok(None));
}

/// Officers' certificates are made anew while what they approved still stands.
#[test]
fn approvals_outlive_an_officers_certificate_and_not_its_revocation() {
    let all = installation();
    let secco = &all.secco.authority;
    let carol = officer("carol", &all.secco, &["officer"]);
    let request = all.request("shopper", None);
    // Approved some minutes ago, under the certificate of then.
    let mut approval = approval(&carol, "secco", &request, 30).approval;
    approval.at_unix_ms = clock::now().plus_ms(-4 * 60_000).0.to_string();
    let key =
        (&carol.token.inner as &dyn Token).keys().unwrap().into_iter().find(|key| key.purpose == Purpose::Operator);
    let key = key.unwrap();
    let signature = (&carol.token.inner as &dyn Token).sign(key.id, approval.sign_input().unwrap()).unwrap();
    let file = all.secco.path(&format!("certs/approvals/{}.json", approval.agent_key));
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let signed = SignedApproval { approval, signature: BASE64_STANDARD.encode(signature) };
    std::fs::write(&file, json!(signed).to_string()).unwrap();

    // The certificate of now is younger.
    let (issuing, _) = secco.own_authority().unwrap();
    let plan = CertificatePlan {
        profile: Profile::Operator,
        organization: Some("secco".into()),
        common_name: "carol".into(),
        spki: key.spki.clone(),
        serial: crate::kernel::types::Serial::from_bytes(&[0x41; 16]).unwrap(),
        not_before: clock::now().plus_ms(-60_000),
        not_after: UnixMillis(clock::now().plus_ms(30 * 86_400_000).seconds() * 1000),
        agent: None,
        operator: Some(OperatorPlan { trust_domain: "countersign.example".into(), name: "carol".parse().unwrap() }),
        server_names: vec![],
    };
    let tbs = build::certificate(&plan, Some(&issuing.der), &secco.pki.base_url, &secco.base).unwrap();
    let input = SignInput::Certificate { tbs: tbs.clone() };
    let signature = (&all.secco.token.inner as &dyn Token).sign(issuing.key, input).unwrap();
    let younger = build::assemble(&tbs, &issuing.spki, &signature).unwrap();
    let enrolled = all.secco.path("anchors/operator-carol.json");
    let mut person: Value = serde_json::from_str(&std::fs::read_to_string(&enrolled).unwrap()).unwrap();
    let first = person["certificate"].clone();
    person["certificate"] = json!(BASE64_STANDARD.encode(&younger));
    std::fs::write(&enrolled, person.to_string()).unwrap();
    let endorse = || secco.cert_endorse(&unasserted(), &request, None);
    assert_eq!(name_of(endorse()), "operator_certificate_expired", "nothing is known of the one before");
    person["earlier"] = json!([first]);
    std::fs::write(&enrolled, person.to_string()).unwrap();
    endorse().unwrap();

    let issued = all.secco.store.certificates().unwrap();
    let first = issued.iter().find(|record| record.profile == "operator").unwrap();
    secco.revoke(&chief(), &wish(&first.serial.hex(), "affiliation-changed", RevokeMode::Effective)).unwrap();
    assert_eq!(name_of(endorse()), "operator_revoked");
}
