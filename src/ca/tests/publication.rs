//! `crl check` finds what is published otherwise than it is recorded, certificate by certificate.

use super::*;
use crate::ca::Responder;
use crate::kernel::types::Serial;
use crate::ops::registry::LiveStatus;

/// What it says of this certificate.
fn said(answer: &Value, serial: &Serial) -> Vec<String> {
    assert_eq!(answer["count"], answer["differences"].as_array().unwrap().len(), "{answer}");
    let of_serial = answer["differences"].as_array().unwrap().iter().filter(|one| one["serial"] == json!(serial));
    of_serial.map(|one| one["what"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_list_or_a_responder_that_differs_from_the_store_is_told_by_serial_number() {
    let all = installation();
    all.enrol("shopper");
    let bank = &all.bank.authority;
    let live: Arc<LiveStatus> = Arc::default();
    let responder = Responder::new(Arc::clone(bank), Arc::clone(&live));
    let refresh = || live.replace(&live.look(), all.bank.store.status().unwrap());
    let check = || bank.crl_check(&chief(), &responder).unwrap();
    bank.publish_lists(&chief()).unwrap();
    refresh();
    assert_eq!(check()["differences"], json!([]));
    let records = all.bank.store.certificates().unwrap();
    let b = records.iter().find(|record| record.profile == "agent-b").unwrap().clone();
    let place = (b.issuer.clone(), b.serial.clone());

    // Recorded, and nobody has published it.
    all.bank.store.0.lock().unwrap().status.certificates.insert(place.clone());
    assert_eq!(
        said(&check(), &b.serial),
        ["it is revoked, and the list lacks it", "it is revoked, the responder says good"]
    );
    let entry = RevokedEntry {
        serial: b.serial.clone(),
        at: clock::now(),
        reason: "superseded".into(),
        not_after: Some(b.not_after),
    };
    all.bank.store.0.lock().unwrap().revoked.entry(b.issuer.clone()).or_default().push(entry);
    bank.publish_lists(&chief()).unwrap();
    refresh();
    assert_eq!(check()["differences"], json!([]));

    // Published, and the record is gone.
    all.bank.store.0.lock().unwrap().status.certificates.remove(&place);
    let told = said(&check(), &b.serial);
    assert_eq!(told.first().map(String::as_str), Some("it is good, and the list has it"), "{told:?}");

    // Published, and never issued.
    all.bank.store.0.lock().unwrap().certificates.retain(|record| record.serial != b.serial);
    assert_eq!(said(&check(), &b.serial), ["the list names what was never issued"]);

    // Nothing of an issuer is in force: a list that is not there.
    let fresh = with_no_list(&all.bank);
    let responder = Responder::new(Arc::clone(&fresh), live);
    let told = fresh.crl_check(&chief(), &responder).unwrap();
    let none = "no list of this issuer is in force";
    assert!(told["differences"].as_array().unwrap().iter().any(|one| one["what"] == none), "{told}");
}

/// The same party after its directory was restored from a backup without lists.
fn with_no_list(party: &Party) -> Arc<Authority> {
    std::fs::remove_dir_all(party.path("certs/crl")).unwrap();
    Authority::open(AuthoritySetup {
        party: party.authority.party().clone(),
        kind: party.authority.kind(),
        state: StateDir::new(party.directory.path()),
        pki: PkiSettings::default(),
        algorithms: BTreeMap::new(),
        token: party.token.clone(),
        store: party.store.clone(),
    })
    .unwrap()
}
