//! Mandates of an account that several people own: who is not acceptable any more keeps nobody else from giving them.

use super::desk::{administrator, unasserted};
use super::*;
use crate::ca::mandates::MandateWish;
use crate::kernel::mandate::{Signer, VerifiedMandate};
use crate::kernel::types::KeyId;

/// A person who owns accounts, enrolled at the bank.
fn owner(name: &str, all: &Installation, of: &str) -> Party {
    let person = party(name, PartyKind::Operator);
    person.authority.init_party(&unasserted()).unwrap();
    let request = person.authority.operator_show(&unasserted()).unwrap();
    let (roles, of) = (["owner".to_owned()], of.parse().unwrap());
    all.bank.authority.operator_enrol(&administrator(), &request, &roles, Some(&of)).unwrap();
    person
}

fn signs(person: &Party, of: &str) -> String {
    let wish = MandateWish {
        owner: of.parse().unwrap(),
        agent: "spiffe://countersign.example/agent/purchaser/shopper".parse().unwrap(),
        agent_key: Sha256([7; 32]),
        account: "CHK_001".parse().unwrap(),
        days: 30,
        constraints: json!([{ "type": "payment.budget", "currency": "USD", "max": 50 }]),
    };
    let signed = person.authority.mandate_sign(&unasserted(), &wish).unwrap();
    signed["mandate"].as_str().unwrap().to_owned()
}

fn revoke(all: &Installation, key: KeyId) {
    let act = Act::Revoke { target: RevocationTarget::Key(key), reason: "lost".into() };
    let command = Command { stamp: clock::stamp(clock::fresh_request_id()), actor: chief(), act };
    all.bank.store.apply(vec![command]).unwrap().pop().unwrap().outcome.unwrap();
}

#[test]
fn a_co_owner_who_was_revoked_keeps_nobody_else_from_giving_mandates() {
    let all = installation();
    let verified = |text: &str| all.bank.authority.mandate_verified(&unasserted(), text);
    let name = |verified: Result<VerifiedMandate, Failure>| verified.unwrap_err().name;
    let (olga, otto) = (owner("olga", &all, "OWN_001"), owner("otto", &all, "OWN_001"));
    let of_another = owner("ida", &all, "OWN_002");
    let [by_olga, by_otto] = [&olga, &otto].map(|person| signs(person, "OWN_001"));

    let keys = [&by_olga, &by_otto].map(|text| {
        let verified = verified(text).unwrap();
        let records = all.bank.store.certificates().unwrap();
        let record = records.iter().find(|record| record.key == verified.key()).unwrap();
        let certificate = Some((record.issuer.clone(), record.serial.clone()));
        assert_eq!(*verified.signer(), Signer { key: record.key, certificate });
        verified.key()
    });
    assert_eq!(name(verified(&signs(&of_another, "OWN_001"))), "mandate_key_unknown");
    assert_eq!(name(verified(&signs(&of_another, "OWN_003"))), "owner_unknown");

    revoke(&all, keys[0]);
    assert_eq!(verified(&by_otto).unwrap().key(), keys[1]);
    assert_eq!(name(verified(&by_olga)), "mandate_key_unknown");
    revoke(&all, keys[1]);
    assert_eq!(name(verified(&by_otto)), "operator_revoked", "nobody is left");
    assert!(all.bank.leaves().contains(&("add_mandate".into(), "operator_revoked".into())));
}
