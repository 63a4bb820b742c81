//! The issuing CA's next generation: announced, trusted, used; the one before reports until its last certificate ended.

use super::*;
use crate::ca::Generation;
use crate::hsm::KeyState;
use crate::kernel::credential::certificate::Certificate;

fn rotate(party: &Party) -> Value {
    party.authority.key_rotate(&chief(), Purpose::Issuing, || Ok(())).unwrap()
}

fn put_to_use(party: &Party) -> Value {
    party.authority.issuing_use(&chief(), || Ok(())).unwrap()
}

fn generations(party: &Party) -> Vec<(String, Generation)> {
    let health = party.authority.ca_health().unwrap();
    health.into_iter().map(|ca| (ca.name, ca.generation)).collect()
}

/// The key identifier of a certificate's issuer.
fn issuer(pem: &str) -> Vec<u8> {
    let der = der(pem);
    Certificate::read(&der).unwrap().tbs.authority_key_identifier().unwrap().to_vec()
}

fn judged(all: &Installation, pair: &(String, String)) -> Result<(), &'static str> {
    let peer = PeerChains { presented: vec![der(&pair.0), der(&pair.1)] };
    let acceptance = all.bank.authority.acceptance().unwrap();
    let status = all.bank.store.status().unwrap();
    accept(&peer, &acceptance, &status, clock::now()).map(drop).map_err(|refusal| refusal.name())
}

#[test]
fn tokens_of_the_newest_key_and_of_the_one_before_it_are_taken() {
    let all = installation();
    let rotate = || all.bank.authority.key_rotate(&chief(), Purpose::Token, || Ok(())).unwrap();
    let taken = || -> Vec<(u32, KeyState)> {
        all.bank.authority.token_keys().unwrap().iter().map(|key| (key.version, key.state)).collect()
    };
    assert_eq!(taken(), [(1, KeyState::Active)]);
    let rotated = rotate();
    assert_eq!((&rotated["retired"], &rotated["certificate"]), (&json!(["bank-token-v1"]), &Value::Null));
    assert_eq!(taken(), [(2, KeyState::Active), (1, KeyState::VerifyOnly)]);
    rotate();
    assert_eq!(taken(), [(3, KeyState::Active), (2, KeyState::VerifyOnly)]);
    assert_eq!(all.secco.authority.token_keys().unwrap(), []);
}

#[test]
fn an_issuing_ca_is_announced_then_trusted_then_used_and_the_one_before_signs_lists() {
    let all = installation();
    let secco = &all.secco;
    let first = all.enrol("first");
    let named = |version: u32| format!("issuing CA v{version}");
    assert_eq!(generations(secco), [("root CA v1".into(), Generation::Root), (named(1), Generation::Issues)]);

    let announced = rotate(secco);
    assert_eq!((&announced["effective"], &announced["version"]), (&json!("announced"), &json!(2)));
    assert_eq!(generations(secco)[1..], [(named(1), Generation::Issues), (named(2), Generation::Announced)]);
    let second = all.enrol("second");
    assert_eq!(issuer(&second.1), issuer(&first.1), "what nobody can know yet issues nothing");
    secco.authority.init_party(&chief()).unwrap();
    assert_eq!(generations(secco)[1], (named(1), Generation::Issues), "nor does a set-up have it issue");

    // Said twice by mistake it is not used: nobody else can know it yet.
    let again = secco.authority.key_rotate(&chief(), Purpose::Issuing, || Ok(()));
    assert_eq!(name_of(again), "issuing_ca_announced");
    assert_eq!(generations(secco)[1], (named(1), Generation::Issues));
    let by_an_officer = secco.authority.issuing_use(&operator(&["officer"]), || Ok(()));
    assert_eq!(name_of(by_an_officer), "operator_not_permitted");

    // Used before the bank has heard of it: the bank says so, and takes it once it has.
    let used = put_to_use(secco);
    assert_eq!((&used["effective"], &used["version"], &used["retired"]), (&json!("now"), &json!(2), &json!([])));
    assert_eq!(used["before"]["key"], "secco-issuing-v1");
    assert_eq!(generations(secco)[1..], [(named(2), Generation::Issues), (named(1), Generation::ListsOnly)]);
    let issues = secco.authority.own_authority().unwrap().0.identifier;
    assert!(secco.authority.published(&issues).is_some(), "what issues has a list");
    let endorsement = secco.authority.cert_endorse(&chief(), &all.request("third", None), None).unwrap();
    let s = endorsement["certificate_pem"].as_str().unwrap();
    assert_ne!(issuer(s), issuer(&first.1));
    let request = all.request("third", Some(s));
    assert_eq!(name_of(all.bank.authority.cert_issue(&chief(), &request, None)), "endorsement_issuer_untrusted");
    assert_eq!(all.bank.trusts(secco).unwrap()["changed"], true);
    assert_eq!(all.bank.trusts(secco).unwrap()["changed"], false);
    all.refresh_crl();
    let third = all.enrol("third");
    for pair in [&first, &second, &third] {
        assert_eq!(judged(&all, pair), Ok(()));
    }

    // Roles sign with certificates of the new one; the responder still has one of the generation before.
    let role = secco.authority.signing_role(Purpose::Catalogue).unwrap();
    let current = secco.authority.own_authority().unwrap().0;
    assert_eq!(role.chain[1], current.der);
    let responders = secco.authority.role_history(Purpose::OcspResponder).unwrap();
    let issuers: Vec<&Vec<u8>> = responders.iter().map(|role| &role.chain[1]).collect();
    assert!(issuers.len() == 2 && issuers.contains(&&current.der), "one of each generation");

    // The key before is needed for as long as something can be revoked.
    let retire = |label: &str| secco.authority.key_retire(&chief(), label);
    assert_eq!(name_of(retire("secco-issuing-v1")), "key_in_use");
    assert_eq!(name_of(retire("secco-issuing-v2")), "key_in_use");
    for record in &mut secco.store.0.lock().unwrap().certificates {
        if record.issuer != current.identifier && record.profile != "issuing" && record.profile != "root" {
            record.not_after = clock::now();
        }
    }
    assert_eq!(retire("secco-issuing-v1").unwrap()["state"], "verify-only");
    assert_eq!(name_of(secco.authority.issuing_use(&chief(), || Ok(()))), "issuing_ca_not_announced");
    assert_eq!(rotate(secco)["version"], 3);
}

/// How many certificates a revocation of this issuing CA takes out of service, at a party.
fn affected(party: &Party, issuer: &str) -> Value {
    let named = Named::Issuer(issuer.to_owned());
    let asked = RevokeRequest { named, reason: "ca-compromise".into(), mode: RevokeMode::DryRun, after: None };
    party.authority.revoke(&chief(), &asked).unwrap()["affected"]["certificates"].clone()
}

#[test]
fn a_revocation_of_the_other_partys_issuing_ca_says_what_it_takes_out_of_service() {
    let all = installation();
    let in_use = |party: &Party| party.authority.own_authority().unwrap().0.identifier;
    let (first, of_the_bank) = (in_use(&all.secco), in_use(&all.bank));
    all.enrol("first");
    all.enrol("second");
    // Their halves are by the bank, and worth nothing without the company's; and the other way round.
    assert_eq!(affected(&all.bank, &first), 2);
    assert_eq!(affected(&all.secco, &of_the_bank), 2);

    rotate(&all.secco);
    all.bank.trusts(&all.secco).unwrap();
    put_to_use(&all.secco);
    all.refresh_crl();
    let second = in_use(&all.secco);
    all.enrol("third");
    // Nobody has noted who endorsed the first two: they may depend on either.
    assert_eq!([affected(&all.bank, &first), affected(&all.bank, &second)], [2, 3]);
    all.enrol("second");
    assert_eq!([affected(&all.bank, &first), affected(&all.bank, &second)], [2, 4]);
    let revoke =
        RevokeRequest { named: Named::Issuer(first), reason: "x".into(), mode: RevokeMode::Effective, after: None };
    let revoked = all.bank.authority.revoke(&chief(), &revoke).unwrap();
    assert_eq!(revoked["affected"]["certificates"], 2, "{revoked}");
}

#[test]
fn a_roll_over_that_was_cut_off_anywhere_goes_on_where_it_was() {
    let secco = party("secco", PartyKind::SecurityCompany);
    secco.authority.init_party(&chief()).unwrap();
    let in_use = || secco.authority.own_authority().unwrap().0;
    let first = in_use();
    // After the key, before its certificate; then after the journal, before the signature.
    secco.authority.new_key(Purpose::Issuing, None).unwrap();
    secco.token.failing_signatures.store(1, Ordering::SeqCst);
    let refused = secco.authority.key_rotate(&chief(), Purpose::Issuing, || Ok(()));
    assert_eq!(refused.unwrap_err().name, "deadline");
    assert_eq!(in_use().identifier, first.identifier);
    let announced = rotate(&secco);
    assert_eq!((&announced["effective"], &announced["version"]), (&json!("announced"), &json!(2)));

    // In the middle of the second step: one role is certified, so the new generation issues.
    let next = secco.authority.own_authorities().unwrap()[1].0.clone();
    let witness = secco.authority.newest_key(Purpose::Witness, None).unwrap().unwrap();
    secco.authority.certify_role(&chief(), &witness, &next.der).unwrap();
    assert_eq!(in_use().identifier, next.identifier);
    // Either word finishes it.
    let finished = rotate(&secco);
    assert_eq!((&finished["effective"], &finished["version"]), (&json!("now"), &json!(2)));
    for purpose in crate::ca::setup::roles(PartyKind::SecurityCompany) {
        assert_eq!(secco.authority.signing_role(*purpose).unwrap().chain[1], next.der, "{}", purpose.slug());
    }
    assert_eq!(rotate(&secco)["effective"], "announced");
}

#[test]
fn what_is_trusted_grows_under_its_root_alone() {
    let all = installation();
    let other = installation();
    rotate(&all.secco);
    let add = |root: &str, issuing: &str| {
        let name = all.secco.authority.party().clone();
        all.bank.authority.trust_add(&chief(), &name, root, issuing)
    };
    let (root, issuing) = (all.secco.file("certs/root.pem"), all.secco.file("certs/issuing.pem"));
    assert_eq!(add(&root, &issuing).unwrap()["issuing"], 2);
    // What is known stays, though only one is named: it may have certificates.
    let one = issuing.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
    assert_eq!(add(&root, one).unwrap(), json!({ "party": "secco", "changed": false, "issuing": 2 }));
    assert_eq!(
        name_of(add(&other.secco.file("certs/root.pem"), &other.secco.file("certs/issuing.pem"))),
        "anchor_conflict"
    );
    assert_eq!(name_of(add(&root, &other.secco.file("certs/issuing.pem"))), "anchor_invalid");
}

#[test]
fn roots_and_agent_hosts_have_no_next_generation() {
    let all = installation();
    let rotate = |party: &Party, purpose| name_of(party.authority.key_rotate(&chief(), purpose, || Ok(())));
    assert_eq!(rotate(&all.bank, Purpose::Root), "rotation_not_possible");
    assert_eq!(rotate(&all.host, Purpose::Issuing), "rotation_not_possible");
    assert_eq!(name_of(all.host.authority.issuing_use(&chief(), || Ok(()))), "not_this_party");
    assert!(all.host.authority.ca_health().unwrap().is_empty());
}
