//! One row a rule: what is bent in a list, and the name under which it is refused.

use super::*;
use crate::kernel::credential::lint::lint_tbs_crl;
use crate::kernel::credential::testkit::*;

#[test]
fn an_honest_list_reads_back() {
    let party = Party::new("secco");
    let draft = DraftList::honest(&party);
    lint_tbs_crl(&draft.tbs()).unwrap();
    let list = draft.sign(&party.issuing_key);
    let verified = verify(&list, &party.issuing, NOW).unwrap();
    assert_eq!((verified.number(), verified.serials().len()), (7, 1));
    assert_eq!(claimed_issuer(&list).as_deref(), Some(verified.issuer()));
    let mut users = draft.clone();
    users.extensions.push((oid::ISSUING_DISTRIBUTION_POINT.to_vec(), true, vec![0x30, 3, 0x81, 1, 0xff]));
    assert!(verify(&users.sign(&party.issuing_key), &party.issuing, NOW).is_ok(), "an issuing CA has no others");
    let mut empty = draft;
    empty.entries.clear();
    assert!(verify(&empty.sign(&party.issuing_key), &party.issuing, NOW).unwrap().serials().is_empty());
}

#[test]
fn lists_are_refused_by_the_rule_they_break() {
    type Bend = fn(&mut DraftList);
    let table: &[(&str, Bend, CrlRefusal)] = &[
        ("version 1", |list| list.version = vec![2, 1, 0], CrlRefusal::ProfileViolated),
        ("no version", |list| list.version.clear(), CrlRefusal::Malformed),
        ("another algorithm", |list| list.algorithm[11] = 3, CrlRefusal::ProfileViolated),
        ("no next update", |list| list.dates = utc_time(NOW), CrlRefusal::ProfileViolated),
        ("inverted dates", |list| list.dates = [utc_time(NOW), utc_time(NOW)].concat(), CrlRefusal::ProfileViolated),
        ("an empty list", |list| list.entries = der::sequence(&[]), CrlRefusal::Malformed),
        (
            "a serial number of zero",
            |list| list.entries = der::element(der::SEQUENCE, &entry(&[0], &[])),
            CrlRefusal::ProfileViolated,
        ),
        (
            "an entry of an indirect list",
            |list| {
                let issuer = der::sequence(&[&list_extension(&[0x55, 0x1d, 0x1d], true, &[0x30, 0])]);
                list.entries = der::element(der::SEQUENCE, &entry(&[0x41; 16], &issuer));
            },
            CrlRefusal::ProfileViolated,
        ),
        ("no number", |list| drop(list.extensions.pop()), CrlRefusal::ProfileViolated),
        (
            "a number of 65 bits",
            |list| list.extensions[1].2 = [&[2, 9, 1][..], &[0; 8]].concat(),
            CrlRefusal::ProfileViolated,
        ),
        ("no key identifier", |list| drop(list.extensions.remove(0)), CrlRefusal::ProfileViolated),
        ("an extension twice", |list| list.extensions.push(list.extensions[1].clone()), CrlRefusal::ProfileViolated),
        (
            "an unknown critical extension",
            |list| list.extensions.push((vec![0x2a, 3], true, vec![5, 0])),
            CrlRefusal::ProfileViolated,
        ),
        (
            "a delta",
            |list| list.extensions.push((oid::DELTA_CRL_INDICATOR.to_vec(), true, vec![2, 1, 1])),
            CrlRefusal::NotFull,
        ),
        (
            "CAs only, by an issuing CA",
            |list| {
                let value = vec![0x30, 3, 0x82, 1, 0xff];
                list.extensions.push((oid::ISSUING_DISTRIBUTION_POINT.to_vec(), true, value));
            },
            CrlRefusal::NotFull,
        ),
        (
            "attribute certificates only",
            |list| {
                let value = vec![0x30, 3, 0x85, 1, 0xff];
                list.extensions.push((oid::ISSUING_DISTRIBUTION_POINT.to_vec(), true, value));
            },
            CrlRefusal::NotFull,
        ),
        (
            "end entities only and CAs only",
            |list| {
                let value = vec![0x30, 6, 0x81, 1, 0xff, 0x82, 1, 0xff];
                list.extensions.push((oid::ISSUING_DISTRIBUTION_POINT.to_vec(), true, value));
            },
            CrlRefusal::NotFull,
        ),
        ("another issuer's name", |list| list.issuer = name("nobody"), CrlRefusal::IssuerMismatch),
        ("another issuer's key", |list| *list.extensions[0].2.last_mut().unwrap() ^= 1, CrlRefusal::IssuerMismatch),
        (
            "from the future",
            |list| list.dates = [utc_time(NOW.plus_ms(HOUR_MS)), utc_time(NOW.plus_ms(2 * HOUR_MS))].concat(),
            CrlRefusal::NotYetValid,
        ),
        (
            "past its next update",
            |list| list.dates = [utc_time(NOW.plus_ms(-2 * HOUR_MS)), utc_time(NOW.plus_ms(-HOUR_MS))].concat(),
            CrlRefusal::Expired,
        ),
    ];
    let party = Party::new("secco");
    for (what, bend, expected) in table {
        let mut list = DraftList::honest(&party);
        bend(&mut list);
        assert_eq!(verify(&list.sign(&party.issuing_key), &party.issuing, NOW), Err(*expected), "{what}");
    }
    let list = DraftList::honest(&party);
    let forged = list.sign(&party.root_key);
    assert_eq!(verify(&forged, &party.issuing, NOW), Err(CrlRefusal::SignatureInvalid));
    let longer = [list.sign(&party.issuing_key).as_slice(), &[0]].concat();
    assert_eq!(verify(&longer, &party.issuing, NOW), Err(CrlRefusal::Malformed));
    let mute = Party::bent("mute", |_| (), |issuing| issuing.set(oid::KEY_USAGE, vec![3, 2, 2, 4]));
    let list = DraftList::honest(&mute).sign(&mute.issuing_key);
    assert_eq!(verify(&list, &mute.issuing, NOW), Err(CrlRefusal::IssuerNotCrlSigner));
}
