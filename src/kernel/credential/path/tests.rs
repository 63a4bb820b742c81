//! One row a rule: what is bent in a chain of root, issuing CA and server, and the name under which it is refused.

use std::slice::from_ref;

use super::name::{is_dns_name, mailbox};
use super::*;
use crate::kernel::credential::oid;
use crate::kernel::credential::profile::{Profile, key_identifier};
use crate::kernel::credential::testkit::*;
use crate::kernel::credential::{certificate::Certificate, der};

type Bend = fn(&mut Draft);

fn untouched(_: &mut Draft) {}

const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
const POLICY_MAPPINGS: &[u8] = &[0x55, 0x1d, 0x21];
const POLICY_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x24];
const INHIBIT_ANY_POLICY: &[u8] = &[0x55, 0x1d, 0x36];
const AUTHORITY_INFO_ACCESS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 1];

const DNS: u8 = 0x82;
const EMAIL: u8 = 0x81;
const URI: u8 = 0x86;
const IP: u8 = 0x87;
const DIRECTORY: u8 = 0xa4;

fn ask<'a>(leaf: &'a [u8], others: &'a [Vec<u8>], anchors: &'a [Vec<u8>]) -> PathQuestion<'a> {
    PathQuestion { leaf, others, anchors, lists: &[], at: NOW, usage: None, name: None, depth_max: None }
}

/// `accepted`, or the rule.
fn verdict(question: &PathQuestion<'_>) -> &'static str {
    judge(question).map_or_else(|refusal| refusal.rule.name(), |_| "accepted")
}

/// A chain whose certificates were bent before they were signed.
fn bent(root: Bend, issuing: Bend, leaf: Bend) -> (Party, Vec<u8>) {
    let party = Party::bent("test", root, issuing);
    let mut draft = party.draft(Profile::TlsServer, "server", &Key::new().spki());
    leaf(&mut draft);
    let leaf = draft.sign(&party.issuing_key);
    (party, leaf)
}

fn judged(root: Bend, issuing: Bend, leaf: Bend) -> &'static str {
    let (party, leaf) = bent(root, issuing, leaf);
    verdict(&ask(&leaf, &[party.issuing], &[party.root]))
}

fn names(list: &[(u8, &[u8])]) -> Vec<u8> {
    let names: Vec<u8> = list.iter().flat_map(|(tag, content)| der::element(*tag, content)).collect();
    der::element(der::SEQUENCE, &names)
}

fn set_names(draft: &mut Draft, list: &[(u8, &[u8])]) {
    draft.set(oid::SUBJECT_ALT_NAME, names(list));
}

fn subtrees(permitted: &[(u8, &[u8])], excluded: &[(u8, &[u8])]) -> Vec<u8> {
    let side = |number, list: &[(u8, &[u8])]| {
        let bases: Vec<u8> =
            list.iter().flat_map(|(tag, content)| der::sequence(&[&der::element(*tag, content)])).collect();
        if bases.is_empty() { bases } else { der::element(der::context_constructed(number), &bases) }
    };
    der::sequence(&[&side(0, permitted), &side(1, excluded)])
}

fn constrain(draft: &mut Draft, permitted: &[(u8, &[u8])], excluded: &[(u8, &[u8])]) {
    draft.add(NAME_CONSTRAINTS, true, subtrees(permitted, excluded));
}

fn policies(oids: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = oids.iter().flat_map(|oid| der::sequence(&[&der::element(der::OID, oid)])).collect();
    der::element(der::SEQUENCE, &list)
}

const ANY: &[u8] = &[0x55, 0x1d, 0x20, 0];
const GOLD: &[u8] = &[0x2a, 1];
const SILVER: &[u8] = &[0x2a, 2];

fn mapped(issuer: &[u8], subject: &[u8]) -> Vec<u8> {
    der::sequence(&[&der::sequence(&[&der::element(der::OID, issuer), &der::element(der::OID, subject)])])
}

#[test]
fn an_honest_path_is_accepted_and_told() {
    let (party, leaf) = bent(untouched, untouched, untouched);
    let (others, anchors) = ([party.issuing.clone()], [party.root.clone()]);
    let valid = judge(&ask(&leaf, &others, &anchors)).unwrap();
    let expected = [&leaf, &party.issuing, &party.root].map(|der| Sha256::of(&[der]));
    assert_eq!(valid.fingerprints(), expected);
    assert!(subject_text(&leaf).unwrap().ends_with("CN=server"));
    let refusal = judge(&PathQuestion { at: NOW.plus_ms(24 * HOUR_MS), ..ask(&leaf, &others, &anchors) }).unwrap_err();
    assert_eq!((refusal.rule, refusal.at_fault), (PathRule::Expired, Some(expected[0])));
    assert_eq!(refusal.to_string(), "a certificate has expired: notAfter has passed");
}

#[test]
fn rule_names_are_unique() {
    let names: std::collections::BTreeSet<_> = PathRule::ALL.iter().map(|rule| rule.name()).collect();
    assert_eq!(names.len(), PathRule::ALL.len());
}

#[test]
fn the_certificate_in_question_is_refused_by_the_rule_it_breaks() {
    let table: &[(&str, Bend, &str)] = &[
        ("version 2", |leaf| leaf.version = vec![0xa0, 3, 2, 1, 1], "version"),
        ("serial zero", |leaf| leaf.serial = vec![0], "serial_number"),
        ("serial negative", |leaf| leaf.serial = vec![0x90], "serial_number"),
        ("serial of one octet", |leaf| leaf.serial = vec![1], "accepted"),
        ("serial of 21 octets", |leaf| leaf.serial = vec![1; 21], "serial_number"),
        ("two algorithms", |leaf| leaf.inner_algorithm[11] = 3, "signature_algorithm_mismatch"),
        (
            "SHA-1",
            |leaf| {
                let sha1 = vec![0x30, 9, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1];
                (leaf.inner_algorithm, leaf.outer_algorithm) = (sha1.clone(), sha1);
            },
            "signature_algorithm",
        ),
        (
            "UTCTime without seconds",
            |leaf| leaf.not_after = der::element(0x17, b"2701010000Z"),
            "certificate_malformed",
        ),
        (
            "GeneralizedTime before 2050",
            |leaf| leaf.not_after = der::element(0x18, b"20491231235959Z"),
            "validity_encoding",
        ),
        ("GeneralizedTime from 2050", |leaf| leaf.not_after = der::element(0x18, b"20500101000000Z"), "accepted"),
        ("the year 9999", |leaf| leaf.not_after = der::element(0x18, b"99991231235959Z"), "accepted"),
        ("UTCTime of 1950", |leaf| leaf.not_before = der::element(0x17, b"500101000000Z"), "accepted"),
        ("ends before it begins", |leaf| leaf.not_after = utc_time(NOW.plus_ms(-2 * HOUR_MS)), "validity_period"),
        ("not yet valid", |leaf| leaf.not_before = utc_time(NOW.plus_ms(1000)), "not_yet_valid"),
        ("expired", |leaf| leaf.not_after = utc_time(NOW.plus_ms(-1000)), "expired"),
        (
            "valid for this second",
            |leaf| (leaf.not_before, leaf.not_after) = (utc_time(NOW), utc_time(NOW)),
            "accepted",
        ),
        ("no issuer", |leaf| leaf.issuer = vec![0x30, 0], "issuer_name"),
        ("no subject", |leaf| leaf.subject = vec![0x30, 0], "subject_alt_name"),
        (
            "no subject, names critical",
            |leaf| {
                leaf.subject = vec![0x30, 0];
                leaf.set_critical(oid::SUBJECT_ALT_NAME, true);
            },
            "accepted",
        ),
        ("names critical beside a subject", |leaf| leaf.set_critical(oid::SUBJECT_ALT_NAME, true), "subject_alt_name"),
        (
            "a printable string with a star",
            |leaf| {
                let attribute = der::sequence(&[&[6, 3, 0x55, 4, 3], &der::element(der::PRINTABLE_STRING, b"a*b")]);
                leaf.subject = der::sequence(&[&der::element(der::SET, &attribute)]);
            },
            "subject_name",
        ),
        ("a key on no curve", |leaf| *leaf.spki.last_mut().unwrap() ^= 1, "key_algorithm"),
        ("a key cut short", |leaf| leaf.spki = der::sequence(&[&leaf.spki[2..23], &[3, 2, 0, 4]]), "key_algorithm"),
        ("an Ed25519 key", |leaf| leaf.spki = ed25519_spki(), "accepted"),
        ("an extension twice", |leaf| leaf.add(oid::KEY_USAGE, true, vec![3, 2, 7, 0x80]), "duplicate_extension"),
        ("an unknown extension", |leaf| leaf.add(&[0x2a, 3], false, vec![1]), "accepted"),
        ("an unknown critical extension", |leaf| leaf.add(&[0x2a, 3], true, vec![1]), "unknown_critical_extension"),
        (
            "a critical key identifier",
            |leaf| leaf.set_critical(oid::SUBJECT_KEY_IDENTIFIER, true),
            "extension_criticality",
        ),
        (
            "a critical authority key",
            |leaf| leaf.set_critical(oid::AUTHORITY_KEY_IDENTIFIER, true),
            "extension_criticality",
        ),
        ("no authority key", |leaf| leaf.remove(oid::AUTHORITY_KEY_IDENTIFIER), "authority_key_identifier"),
        (
            "another authority key",
            |leaf| leaf.set(oid::AUTHORITY_KEY_IDENTIFIER, vec![0x30, 3, 0x80, 1, 7]),
            "key_identifier_mismatch",
        ),
        (
            "an authority key that is empty",
            |leaf| leaf.set(oid::AUTHORITY_KEY_IDENTIFIER, vec![0x30, 2, 0x80, 0]),
            "extension_malformed",
        ),
        ("no key identifier", |leaf| leaf.remove(oid::SUBJECT_KEY_IDENTIFIER), "accepted"),
        ("no constraints", |leaf| leaf.remove(oid::BASIC_CONSTRAINTS), "accepted"),
        ("constraints not critical", |leaf| leaf.set_critical(oid::BASIC_CONSTRAINTS, false), "accepted"),
        ("a CA", |leaf| leaf.set(oid::BASIC_CONSTRAINTS, vec![0x30, 3, 1, 1, 0xff]), "end_entity_is_authority"),
        ("a path length", |leaf| leaf.set(oid::BASIC_CONSTRAINTS, vec![0x30, 3, 2, 1, 0]), "basic_constraints"),
        ("TRUE as 1", |leaf| leaf.set(oid::BASIC_CONSTRAINTS, vec![0x30, 3, 1, 1, 1]), "extension_malformed"),
        ("FALSE written out", |leaf| leaf.set(oid::BASIC_CONSTRAINTS, vec![0x30, 3, 1, 1, 0]), "extension_malformed"),
        ("no key usage", |leaf| leaf.remove(oid::KEY_USAGE), "accepted"),
        ("keyCertSign", |leaf| leaf.set(oid::KEY_USAGE, vec![3, 2, 2, 0x84]), "key_usage"),
        ("cRLSign", |leaf| leaf.set(oid::KEY_USAGE, vec![3, 2, 1, 0x82]), "key_usage"),
        ("for data alone", |leaf| leaf.set(oid::KEY_USAGE, vec![3, 2, 4, 0x10]), "key_usage"),
        ("a key usage of nothing", |leaf| leaf.set(oid::KEY_USAGE, vec![3, 1, 0]), "extension_malformed"),
        ("a key usage that is zero", |leaf| leaf.set(oid::KEY_USAGE, vec![3, 2, 7, 0]), "extension_malformed"),
        ("zero bits at the end", |leaf| leaf.set(oid::KEY_USAGE, vec![3, 2, 0, 0x80]), "extension_malformed"),
        ("nine bits", |leaf| leaf.set(oid::KEY_USAGE, vec![3, 3, 7, 0x88, 0x80]), "accepted"),
        ("ten bits", |leaf| leaf.set(oid::KEY_USAGE, vec![3, 3, 6, 0x80, 0x40]), "extension_malformed"),
        ("no extended usage", |leaf| leaf.remove(oid::EXTENDED_KEY_USAGE), "extended_key_usage"),
        (
            "any extended usage",
            |leaf| leaf.set(oid::EXTENDED_KEY_USAGE, eku(&[0x55, 0x1d, 0x25, 0])),
            "extended_key_usage",
        ),
        ("an empty extended usage", |leaf| leaf.set(oid::EXTENDED_KEY_USAGE, vec![0x30, 0]), "extension_malformed"),
        ("a critical extended usage", |leaf| leaf.set_critical(oid::EXTENDED_KEY_USAGE, true), "extension_criticality"),
        ("no names", |leaf| leaf.remove(oid::SUBJECT_ALT_NAME), "subject_alt_name"),
        ("names that are empty", |leaf| leaf.set(oid::SUBJECT_ALT_NAME, vec![0x30, 0]), "subject_alt_name"),
        (
            "a byte after the names",
            |leaf| leaf.set(oid::SUBJECT_ALT_NAME, [names(&[(DNS, b"a.b")]), vec![0]].concat()),
            "subject_alt_name",
        ),
        ("name constraints", |leaf| constrain(leaf, &[(DNS, b"localhost")], &[]), "extension_not_allowed"),
        (
            "policy constraints",
            |leaf| leaf.add(POLICY_CONSTRAINTS, true, vec![0x30, 3, 0x80, 1, 5]),
            "extension_not_allowed",
        ),
        (
            "a policy twice",
            |leaf| leaf.add(oid::CERTIFICATE_POLICIES, false, policies(&[GOLD, GOLD])),
            "extension_malformed",
        ),
        (
            "an empty distribution point",
            |leaf| leaf.set(oid::CRL_DISTRIBUTION_POINTS, vec![0x30, 2, 0x30, 0]),
            "extension_malformed",
        ),
        ("no distribution point", |leaf| leaf.remove(oid::CRL_DISTRIBUTION_POINTS), "accepted"),
        (
            "an empty access description",
            |leaf| {
                leaf.remove(AUTHORITY_INFO_ACCESS);
                leaf.add(AUTHORITY_INFO_ACCESS, false, vec![0x30, 0]);
            },
            "extension_malformed",
        ),
        (
            "a critical access description",
            |leaf| {
                let location = der::element(URI, b"http://a.example/ca.cer");
                let method = der::element(der::OID, &[0x2b, 6, 1, 5, 5, 7, 0x30, 2]);
                leaf.remove(AUTHORITY_INFO_ACCESS);
                leaf.add(AUTHORITY_INFO_ACCESS, true, der::sequence(&[&der::sequence(&[&method, &location])]));
            },
            "extension_criticality",
        ),
        ("a binding", |leaf| leaf.add(oid::RELATED_CERTIFICATE, false, vec![0x30, 0]), "accepted"),
        (
            "a critical binding",
            |leaf| leaf.add(oid::RELATED_CERTIFICATE, true, vec![0x30, 0]),
            "unknown_critical_extension",
        ),
        ("a signature by another key", |leaf| leaf.spki = Key::new().spki(), "accepted"),
    ];
    for (what, bend, expected) in table {
        assert_eq!(judged(untouched, untouched, *bend), *expected, "{what}");
    }
}

#[test]
fn names_are_well_formed() {
    let directory = name("a");
    let two: Vec<u8> = [name("a"), name("b")].concat();
    let table: &[(u8, &[u8], &str)] = &[
        (DNS, b"a.example", "accepted"),
        (DNS, b"*.a.example", "accepted"),
        (DNS, b"XN--a-1.example", "accepted"),
        (DNS, b"", "subject_alt_name"),
        (DNS, b" ", "subject_alt_name"),
        (DNS, b"*", "subject_alt_name"),
        (DNS, b"*.example", "subject_alt_name"),
        (DNS, b"a*.a.example", "subject_alt_name"),
        (DNS, b"a.*.example", "subject_alt_name"),
        (DNS, b"*.*.example", "subject_alt_name"),
        (DNS, b".a.example", "subject_alt_name"),
        (DNS, b"a.example.", "subject_alt_name"),
        (DNS, b"a..example", "subject_alt_name"),
        (DNS, b"a_b.example", "subject_alt_name"),
        (DNS, b"-a.example", "subject_alt_name"),
        (DNS, b"a-.example", "subject_alt_name"),
        (DNS, b"a.example\0", "subject_alt_name"),
        (DNS, b"192.0.2.1", "subject_alt_name"),
        (DNS, "ä.example".as_bytes(), "subject_alt_name"),
        (DNS, &[b'a'; 64], "subject_alt_name"),
        (IP, &[192, 0, 2, 1], "accepted"),
        (IP, &[0; 16], "accepted"),
        (IP, &[192, 0, 2], "subject_alt_name"),
        (IP, &[192, 0, 2, 0, 255, 255, 255, 0], "subject_alt_name"),
        (EMAIL, b"a.b@c.example", "accepted"),
        (EMAIL, b"\"a@b\"@c.example", "accepted"),
        (EMAIL, b"a@b@c.example", "subject_alt_name"),
        (EMAIL, b"a", "subject_alt_name"),
        (EMAIL, b"@c.example", "subject_alt_name"),
        (EMAIL, b"a..b@c.example", "subject_alt_name"),
        (EMAIL, b"A <a@c.example>", "subject_alt_name"),
        (URI, b"https://a.example:8443/x?y#z", "accepted"),
        (URI, b"https://[2001:db8::1]/", "accepted"),
        (URI, b"urn:uuid:00000000-0000-0000-0000-000000000000", "accepted"),
        (URI, b"a.example", "subject_alt_name"),
        (URI, b"https:", "subject_alt_name"),
        (URI, b"https://a b/", "subject_alt_name"),
        (URI, b"https://a.example/%zz", "subject_alt_name"),
        (URI, b"https://a_b.example/", "subject_alt_name"),
        (URI, b"/relative", "subject_alt_name"),
        (DIRECTORY, &directory, "accepted"),
        (DIRECTORY, &[0x30, 0], "subject_alt_name"),
        (DIRECTORY, &two, "subject_alt_name"),
        (0xa0, &[6, 2, 0x2a, 3, 0xa0, 2, 5, 0], "accepted"),
        (0xa0, &[6, 2, 0x2a, 3, 5, 0], "subject_alt_name"),
        (0xa3, &[0x30, 0], "subject_alt_name"),
        (0xa5, &[0x30, 0], "subject_alt_name"),
        (0x88, &[0x2a, 3], "accepted"),
        (0x88, &[0x2a, 0x80], "subject_alt_name"),
        (0x89, &[1], "subject_alt_name"),
    ];
    let party = Party::new("test");
    for (tag, content, expected) in table {
        let mut draft = party.draft(Profile::TlsServer, "server", &Key::new().spki());
        set_names(&mut draft, &[(*tag, content)]);
        let leaf = draft.sign(&party.issuing_key);
        let said = verdict(&ask(&leaf, from_ref(&party.issuing), from_ref(&party.root)));
        assert_eq!(said, *expected, "{tag:#04x} {}", String::from_utf8_lossy(content));
    }
    assert!(is_dns_name("localhost") && mailbox("a@localhost").is_some());
}

#[test]
fn authorities_are_refused_by_the_rule_they_break() {
    let everywhere: &[(&str, Bend, &str)] = &[
        ("version 2", |ca| ca.version = vec![0xa0, 3, 2, 1, 1], "version"),
        ("expired", |ca| ca.not_after = utc_time(NOW.plus_ms(-1000)), "expired"),
        ("no constraints", |ca| ca.remove(oid::BASIC_CONSTRAINTS), "basic_constraints"),
        ("no CA", |ca| ca.set(oid::BASIC_CONSTRAINTS, vec![0x30, 0]), "basic_constraints"),
        ("constraints not critical", |ca| ca.set_critical(oid::BASIC_CONSTRAINTS, false), "extension_criticality"),
        (
            "a negative path length",
            |ca| ca.set(oid::BASIC_CONSTRAINTS, vec![0x30, 6, 1, 1, 0xff, 2, 1, 0xff]),
            "extension_malformed",
        ),
        ("no path length", |ca| ca.set(oid::BASIC_CONSTRAINTS, vec![0x30, 3, 1, 1, 0xff]), "accepted"),
        ("no keyCertSign", |ca| ca.set(oid::KEY_USAGE, vec![3, 2, 1, 2]), "key_usage"),
        ("key usage not critical", |ca| ca.set_critical(oid::KEY_USAGE, false), "accepted"),
        ("no key identifier", |ca| ca.remove(oid::SUBJECT_KEY_IDENTIFIER), "subject_key_identifier"),
        ("an empty key identifier", |ca| ca.set(oid::SUBJECT_KEY_IDENTIFIER, vec![4, 0]), "key_identifier_mismatch"),
        ("a critical key identifier", |ca| ca.set_critical(oid::SUBJECT_KEY_IDENTIFIER, true), "extension_criticality"),
        ("an unknown critical extension", |ca| ca.add(&[0x2a, 3], true, vec![1]), "unknown_critical_extension"),
        ("an extension twice", |ca| ca.add(oid::KEY_USAGE, true, vec![3, 2, 1, 6]), "duplicate_extension"),
        (
            "name constraints not critical",
            |ca| ca.add(NAME_CONSTRAINTS, false, subtrees(&[(DNS, b"localhost")], &[])),
            "extension_criticality",
        ),
        ("empty name constraints", |ca| ca.add(NAME_CONSTRAINTS, true, vec![0x30, 0]), "extension_malformed"),
        (
            "policy constraints not critical",
            |ca| ca.add(POLICY_CONSTRAINTS, false, vec![0x30, 3, 0x80, 1, 5]),
            "extension_criticality",
        ),
        ("empty policy constraints", |ca| ca.add(POLICY_CONSTRAINTS, true, vec![0x30, 0]), "extension_malformed"),
        (
            "inhibitAnyPolicy not critical",
            |ca| ca.add(INHIBIT_ANY_POLICY, false, vec![2, 1, 0]),
            "extension_criticality",
        ),
        (
            "an extended usage that is empty",
            |ca| ca.add(oid::EXTENDED_KEY_USAGE, false, vec![0x30, 0]),
            "extension_malformed",
        ),
    ];
    for (what, bend, expected) in everywhere {
        assert_eq!(judged(untouched, *bend, untouched), *expected, "issuing CA: {what}");
        assert_eq!(judged(*bend, untouched, untouched), *expected, "root: {what}");
    }
    let issuing: &[(&str, Bend, &str)] = &[
        ("no key usage", |ca| ca.remove(oid::KEY_USAGE), "key_usage"),
        ("serial zero", |ca| ca.serial = vec![0], "serial_number"),
        ("no authority key", |ca| ca.remove(oid::AUTHORITY_KEY_IDENTIFIER), "authority_key_identifier"),
        (
            "another authority key",
            |ca| ca.set(oid::AUTHORITY_KEY_IDENTIFIER, vec![0x30, 3, 0x80, 1, 7]),
            "key_identifier_mismatch",
        ),
        ("another issuer", |ca| ca.issuer = name("nobody"), "issuer_unknown"),
        ("another subject", |ca| ca.subject = name("nobody"), "issuer_unknown"),
        ("no subject", |ca| ca.subject = vec![0x30, 0], "issuer_unknown"),
        (
            "an algorithm that it was not signed with",
            |ca| {
                ca.inner_algorithm[11] = 3;
                ca.outer_algorithm[11] = 3;
            },
            "signature_invalid",
        ),
        ("for servers", |ca| ca.add(oid::EXTENDED_KEY_USAGE, false, eku(oid::SERVER_AUTH)), "accepted"),
        ("for anything", |ca| ca.add(oid::EXTENDED_KEY_USAGE, false, eku(&[0x55, 0x1d, 0x25, 0])), "accepted"),
        ("for clients", |ca| ca.add(oid::EXTENDED_KEY_USAGE, false, eku(oid::CLIENT_AUTH)), "extended_key_usage"),
    ];
    for (what, bend, expected) in issuing {
        assert_eq!(judged(untouched, *bend, untouched), *expected, "issuing CA: {what}");
    }
    let root: &[(&str, Bend, &str)] = &[
        ("no key usage", |ca| ca.remove(oid::KEY_USAGE), "accepted"),
        ("serial zero", |ca| ca.serial = vec![0], "accepted"),
        (
            "path length 0",
            |ca| ca.set(oid::BASIC_CONSTRAINTS, vec![0x30, 6, 1, 1, 0xff, 2, 1, 0]),
            "path_length_exceeded",
        ),
        (
            "an extended usage",
            |ca| ca.add(oid::EXTENDED_KEY_USAGE, false, eku(oid::SERVER_AUTH)),
            "extension_not_allowed",
        ),
        (
            "another key's authority",
            |ca| ca.add(oid::AUTHORITY_KEY_IDENTIFIER, false, vec![0x30, 3, 0x80, 1, 7]),
            "authority_key_identifier",
        ),
        (
            "an algorithm that it was not signed with",
            |ca| {
                ca.inner_algorithm[11] = 3;
                ca.outer_algorithm[11] = 3;
            },
            "signature_invalid",
        ),
    ];
    for (what, bend, expected) in root {
        assert_eq!(judged(*bend, untouched, untouched), *expected, "root: {what}");
    }
}

#[test]
fn name_constraints_hold_for_every_form() {
    type Side<'a> = &'a [(u8, &'a [u8])];
    let mask: &[u8] = &[192, 0, 2, 0, 255, 255, 255, 0];
    let upper = name("SERVER ");
    let other = name("other");
    let table: &[(Side<'_>, Side<'_>, Side<'_>, &str)] = &[
        // permitted, excluded, names
        (&[(DNS, b"example")], &[], &[(DNS, b"a.example")], "accepted"),
        (&[(DNS, b"EXAMPLE")], &[], &[(DNS, b"a.example")], "accepted"),
        (&[(DNS, b"a.example")], &[], &[(DNS, b"ba.example")], "name_not_permitted"),
        (&[(DNS, b"a.example")], &[], &[(DNS, b"a.example"), (DNS, b"b.example")], "name_not_permitted"),
        (&[(DNS, b"a.example")], &[], &[(IP, &[192, 0, 2, 1])], "accepted"),
        (&[], &[(DNS, b"")], &[(DNS, b"a.example")], "name_excluded"),
        (&[], &[(DNS, b"a.example")], &[(DNS, b"A.EXAMPLE")], "name_excluded"),
        (&[], &[(DNS, b"b.a.example")], &[(DNS, b"*.a.example")], "name_excluded"),
        (&[(DNS, b"b.a.example")], &[], &[(DNS, b"*.a.example")], "name_not_permitted"),
        (&[(DNS, b"a.example")], &[], &[(DNS, b"*.a.example")], "accepted"),
        (&[], &[(DNS, b"c.b.a.example")], &[(DNS, b"*.a.example")], "accepted"),
        (&[(DNS, b"a.example")], &[(DNS, b"b.a.example")], &[(DNS, b"x.b.a.example")], "name_excluded"),
        (&[(IP, mask)], &[], &[(IP, &[192, 0, 2, 200])], "accepted"),
        (&[(IP, mask)], &[], &[(IP, &[192, 0, 3, 1])], "name_not_permitted"),
        (&[(IP, mask)], &[], &[(IP, &[0; 16])], "name_not_permitted"),
        (&[], &[(IP, mask)], &[(IP, &[192, 0, 2, 1])], "name_excluded"),
        (&[(IP, &[192, 0, 2, 0, 255, 0, 255, 0])], &[], &[(DNS, b"a.example")], "extension_malformed"),
        (&[(IP, &[192, 0, 2, 1])], &[], &[(DNS, b"a.example")], "extension_malformed"),
        (&[(DNS, b".a.example")], &[], &[(DNS, b"b.a.example")], "extension_malformed"),
        (&[(DNS, b"*.a.example")], &[], &[(DNS, b"b.a.example")], "extension_malformed"),
        (&[(EMAIL, b"a.example")], &[], &[(EMAIL, b"x@A.example")], "accepted"),
        (&[(EMAIL, b"a.example")], &[], &[(EMAIL, b"x@b.a.example")], "name_not_permitted"),
        (&[(EMAIL, b".a.example")], &[], &[(EMAIL, b"x@b.a.example")], "accepted"),
        (&[(EMAIL, b"x@a.example")], &[], &[(EMAIL, b"y@a.example")], "name_not_permitted"),
        (&[(EMAIL, b"x@a.example")], &[], &[(EMAIL, b"X@a.example")], "name_not_permitted"),
        (&[], &[(EMAIL, b"x@a.example")], &[(EMAIL, b"x@A.EXAMPLE")], "name_excluded"),
        (&[(URI, b"a.example")], &[], &[(URI, b"https://a.example/x")], "accepted"),
        (&[(URI, b"a.example")], &[], &[(URI, b"https://a.example@b.example/x")], "name_not_permitted"),
        (&[(URI, b".a.example")], &[], &[(URI, b"https://a.example/")], "name_not_permitted"),
        (&[], &[(URI, b".a.example")], &[(URI, b"https://b.a.example:1/")], "name_excluded"),
        (&[], &[(URI, b"a.example")], &[(URI, b"https://192.0.2.1/")], "name_constraint_unsupported"),
        (&[], &[(URI, b"a.example")], &[(URI, b"urn:a:b")], "name_constraint_unsupported"),
        (&[], &[(URI, b"https://a.example")], &[(DNS, b"a.example")], "extension_malformed"),
        (&[(DIRECTORY, &upper)], &[], &[(DNS, b"a.example")], "accepted"),
        (&[(DIRECTORY, &other)], &[], &[(DNS, b"a.example")], "name_not_permitted"),
        (&[], &[(DIRECTORY, &upper)], &[(DNS, b"a.example")], "name_excluded"),
        (&[(DIRECTORY, &upper)], &[], &[(DIRECTORY, &other)], "name_not_permitted"),
        (&[], &[(DIRECTORY, &[0x30, 0])], &[(DNS, b"a.example")], "name_excluded"),
        (&[], &[(0x88, &[0x2a, 3])], &[(0x88, &[0x2a, 4])], "name_constraint_unsupported"),
        (&[], &[(0x88, &[0x2a, 3])], &[(DNS, b"a.example")], "accepted"),
    ];
    let root_key = Key::new();
    for (permitted, excluded, alternatives, expected) in table {
        let root_name = name("test root");
        let root = draft(Profile::Root, "test root", &root_key.spki(), (&root_name, &root_key)).sign(&root_key);
        let (issuing_key, issuing_name) = (Key::new(), name("test issuing"));
        let mut issuing = draft(Profile::Issuing, "test issuing", &issuing_key.spki(), (&root_name, &root_key));
        constrain(&mut issuing, permitted, excluded);
        let mut leaf = draft(Profile::TlsServer, "server", &Key::new().spki(), (&issuing_name, &issuing_key));
        set_names(&mut leaf, alternatives);
        let said = verdict(&ask(&leaf.sign(&issuing_key), &[issuing.sign(&root_key)], &[root]));
        assert_eq!(said, *expected, "{permitted:02x?} {excluded:02x?} {alternatives:02x?}");
    }
}

#[test]
fn policies_are_kept_along_the_path() {
    let require = |ca: &mut Draft| ca.add(POLICY_CONSTRAINTS, true, vec![0x30, 3, 0x80, 1, 0]);
    let table: &[(&str, Bend, Bend, &str)] = &[
        ("none, and none required", untouched, untouched, "accepted"),
        ("required, none there", require, untouched, "policy_required"),
        (
            "required after one more, none there",
            |ca| ca.add(POLICY_CONSTRAINTS, true, vec![0x30, 3, 0x80, 1, 1]),
            untouched,
            "policy_required",
        ),
        (
            "required after two more, none there",
            |ca| ca.add(POLICY_CONSTRAINTS, true, vec![0x30, 3, 0x80, 1, 2]),
            untouched,
            "accepted",
        ),
        (
            "the same policy",
            |ca| {
                ca.add(POLICY_CONSTRAINTS, true, vec![0x30, 3, 0x80, 1, 0]);
                ca.add(oid::CERTIFICATE_POLICIES, false, policies(&[GOLD]));
            },
            |leaf| leaf.add(oid::CERTIFICATE_POLICIES, false, policies(&[SILVER, GOLD])),
            "accepted",
        ),
        (
            "another policy",
            |ca| {
                ca.add(POLICY_CONSTRAINTS, true, vec![0x30, 3, 0x80, 1, 0]);
                ca.add(oid::CERTIFICATE_POLICIES, false, policies(&[GOLD]));
            },
            |leaf| leaf.add(oid::CERTIFICATE_POLICIES, false, policies(&[SILVER])),
            "policy_required",
        ),
        (
            "another policy, and nobody minds",
            |ca| ca.add(oid::CERTIFICATE_POLICIES, false, policies(&[GOLD])),
            |leaf| leaf.add(oid::CERTIFICATE_POLICIES, false, policies(&[SILVER])),
            "accepted",
        ),
        (
            "any policy of the CA",
            |ca| {
                ca.add(POLICY_CONSTRAINTS, true, vec![0x30, 3, 0x80, 1, 0]);
                ca.add(oid::CERTIFICATE_POLICIES, false, policies(&[ANY]));
            },
            |leaf| leaf.add(oid::CERTIFICATE_POLICIES, false, policies(&[SILVER])),
            "accepted",
        ),
        (
            "any policy of the end entity, inhibited",
            |ca| {
                ca.add(POLICY_CONSTRAINTS, true, vec![0x30, 3, 0x80, 1, 0]);
                ca.add(INHIBIT_ANY_POLICY, true, vec![2, 1, 0]);
                ca.add(oid::CERTIFICATE_POLICIES, false, policies(&[GOLD]));
            },
            |leaf| leaf.add(oid::CERTIFICATE_POLICIES, false, policies(&[ANY])),
            "policy_required",
        ),
        (
            "a mapped policy",
            |ca| {
                ca.add(POLICY_CONSTRAINTS, true, vec![0x30, 3, 0x80, 1, 0]);
                ca.add(oid::CERTIFICATE_POLICIES, false, policies(&[GOLD]));
                ca.add(POLICY_MAPPINGS, true, mapped(GOLD, SILVER));
            },
            |leaf| leaf.add(oid::CERTIFICATE_POLICIES, false, policies(&[SILVER])),
            "accepted",
        ),
        (
            "the policy that was mapped away",
            |ca| {
                ca.add(POLICY_CONSTRAINTS, true, vec![0x30, 3, 0x80, 1, 0]);
                ca.add(oid::CERTIFICATE_POLICIES, false, policies(&[GOLD]));
                ca.add(POLICY_MAPPINGS, true, mapped(GOLD, SILVER));
            },
            |leaf| leaf.add(oid::CERTIFICATE_POLICIES, false, policies(&[GOLD])),
            "policy_required",
        ),
        (
            "a mapping of anyPolicy",
            |ca| ca.add(POLICY_MAPPINGS, true, mapped(ANY, SILVER)),
            untouched,
            "policy_mapping",
        ),
        ("a mapping to anyPolicy", |ca| ca.add(POLICY_MAPPINGS, true, mapped(GOLD, ANY)), untouched, "policy_mapping"),
    ];
    for (what, issuing, leaf, expected) in table {
        assert_eq!(judged(untouched, *issuing, *leaf), *expected, "{what}");
    }
    let inhibits: Bend = |root| root.add(POLICY_CONSTRAINTS, true, vec![0x30, 6, 0x80, 1, 0, 0x81, 1, 0]);
    let maps: Bend = |ca| {
        ca.add(oid::CERTIFICATE_POLICIES, false, policies(&[GOLD]));
        ca.add(POLICY_MAPPINGS, true, mapped(GOLD, SILVER));
    };
    let silver: Bend = |leaf| leaf.add(oid::CERTIFICATE_POLICIES, false, policies(&[SILVER]));
    assert_eq!(judged(inhibits, maps, silver), "policy_required", "a mapping that the root inhibits");
}

/// A CA certificate over `key` by `parent`, without a path length.
fn authority(subject: &str, key: &Key, parent: (&[u8], &Key)) -> Draft {
    let mut authority = draft(Profile::Issuing, subject, &key.spki(), parent);
    authority.set(oid::BASIC_CONSTRAINTS, vec![0x30, 3, 1, 1, 0xff]);
    authority
}

fn root(subject: &str, key: &Key) -> Vec<u8> {
    let mut root = draft(Profile::Root, subject, &key.spki(), (&name(subject), key));
    root.set(oid::BASIC_CONSTRAINTS, vec![0x30, 3, 1, 1, 0xff]);
    root.sign(key)
}

/// `count` CAs one below the other, then a server; the CAs in the order of issue.
fn ladder(count: usize) -> (Vec<u8>, Vec<Vec<u8>>, Vec<u8>) {
    let mut parent = (name("CA 0"), Key::new());
    let anchor = root("CA 0", &parent.1);
    let mut authorities = Vec::new();
    for index in 1..=count {
        let (subject, key) = (format!("CA {index}"), Key::new());
        authorities.push(authority(&subject, &key, (&parent.0, &parent.1)).sign(&parent.1));
        parent = (name(&subject), key);
    }
    let leaf = draft(Profile::TlsServer, "server", &Key::new().spki(), (&parent.0, &parent.1)).sign(&parent.1);
    (leaf, authorities, anchor)
}

#[test]
fn paths_are_found_in_any_order_up_to_a_length() {
    for (count, expected) in [(0, "accepted"), (7, "accepted"), (16, "accepted"), (17, "depth_exceeded")] {
        let (leaf, mut others, anchor) = ladder(count);
        others.extend(others.clone());
        for _ in 0..2 {
            others.reverse();
            assert_eq!(verdict(&ask(&leaf, &others, from_ref(&anchor))), expected, "{count}");
        }
    }
    let (leaf, others, anchor) = ladder(2);
    let anchors = [anchor];
    for (depth, expected) in [(1, "depth_exceeded"), (2, "accepted")] {
        assert_eq!(verdict(&PathQuestion { depth_max: Some(depth), ..ask(&leaf, &others, &anchors) }), expected);
    }
    assert_eq!(verdict(&ask(&leaf, &others[..1], &anchors)), "issuer_unknown");
    let broken = [others[0].clone(), others[1][..100].to_vec()];
    assert_eq!(verdict(&ask(&leaf, &broken, &anchors)), "certificate_malformed");
    assert_eq!(verdict(&ask(&leaf, &others, &others[..1])), "accepted", "a CA in the middle is trusted");
    assert_eq!(verdict(&ask(&leaf, &others, from_ref(&leaf))), "issuer_unknown", "the certificate itself is trusted");
    assert_eq!(verdict(&ask(&leaf, &others, &[])), "trust_anchor_malformed");
    assert_eq!(verdict(&ask(&leaf, &vec![others[0].clone(); CERTIFICATES_MAX], &anchors)), "too_many_certificates");
}

#[test]
fn the_one_good_way_is_found_among_bad_ones() {
    let (root_key, other_key, key) = (Key::new(), Key::new(), Key::new());
    let (root_name, other_name, ca_name) = (name("root"), name("other"), name("CA"));
    let anchor = root("root", &root_key);
    let good = authority("CA", &key, (&root_name, &root_key));
    let mut expired = good.clone();
    expired.not_after = utc_time(NOW.plus_ms(-1000));
    let mut constrained = good.clone();
    constrained.serial[1] ^= 1;
    constrain(&mut constrained, &[(DNS, b"other.example")], &[]);
    let foreign = authority("CA", &key, (&other_name, &other_key)).sign(&other_key);
    // The other CA and this one certify each other.
    let back = authority("other", &other_key, (&ca_name, &key)).sign(&key);
    let namesake = authority("CA", &Key::new(), (&root_name, &root_key)).sign(&root_key);
    let leaf = draft(Profile::TlsServer, "server", &Key::new().spki(), (&ca_name, &key)).sign(&key);
    let bad = vec![expired.sign(&root_key), constrained.sign(&root_key), foreign.clone(), back.clone(), namesake];
    let anchors = [anchor];
    assert_eq!(verdict(&ask(&leaf, &bad, &anchors)), "name_not_permitted");
    assert_eq!(verdict(&ask(&leaf, &[foreign, back], &anchors)), "issuer_unknown");
    let all = [bad, vec![good.sign(&root_key)]].concat();
    assert_eq!(verdict(&ask(&leaf, &all, &anchors)), "accepted");
}

#[test]
fn work_is_bounded() {
    // Six layers of forty CAs: each signed the whole layer below.
    let (parents, mut others) = (Key::new(), Vec::new());
    let layers: Vec<Key> = (0..6).map(|_| Key::new()).collect();
    for (depth, key) in layers.iter().enumerate() {
        let (above, above_key) = if depth == 0 { ("nowhere", &parents) } else { ("layer", &layers[depth - 1]) };
        for serial in 0..40 {
            let mut one = authority("layer", key, (&name(above), above_key));
            one.serial = vec![0x41, depth as u8, serial];
            others.push(one.sign(above_key));
        }
    }
    let last = layers.last().unwrap();
    let leaf = draft(Profile::TlsServer, "server", &Key::new().spki(), (&name("layer"), last)).sign(last);
    let anchor = root("root", &Key::new());
    assert_eq!(verdict(&ask(&leaf, &others, from_ref(&anchor))), "work_exceeded");

    // Copies of a CA by itself cost no signatures: the one that leads on is found behind them.
    let (key, top) = (Key::new(), Key::new());
    let mut copies: Vec<Vec<u8>> = (0..250_u8)
        .map(|serial| {
            let mut copy = authority("CA", &key, (&name("CA"), &key));
            copy.serial = vec![0x41, serial];
            copy.sign(&key)
        })
        .collect();
    copies.push(authority("CA", &key, (&name("top"), &top)).sign(&top));
    let leaf = draft(Profile::TlsServer, "server", &Key::new().spki(), (&name("CA"), &key)).sign(&key);
    assert_eq!(verdict(&ask(&leaf, &copies, &[root("top", &top)])), "accepted");

    // Names and constraints as many as a certificate can hold.
    let many: Vec<(u8, Vec<u8>)> = (0..900).map(|index| (DNS, format!("a{index}.example").into_bytes())).collect();
    let many: Vec<(u8, &[u8])> = many.iter().map(|(tag, content)| (*tag, content.as_slice())).collect();
    let (key, top) = (Key::new(), Key::new());
    let mut ca = authority("CA", &key, (&name("top"), &top));
    ca.add(NAME_CONSTRAINTS, true, subtrees(&many[..750], &[]));
    let mut leaf = draft(Profile::TlsServer, "server", &Key::new().spki(), (&name("CA"), &key));
    set_names(&mut leaf, &many);
    let said = verdict(&ask(&leaf.sign(&key), &[ca.sign(&top)], &[root("top", &top)]));
    assert_eq!(said, "work_exceeded");
}

#[test]
fn self_issued_authorities_do_not_count() {
    let (root_key, old, new) = (Key::new(), Key::new(), Key::new());
    let (root_name, ca_name) = (name("root"), name("CA"));
    let anchor = draft(Profile::Root, "root", &root_key.spki(), (&root_name, &root_key));
    let mut first = authority("CA", &old, (&root_name, &root_key));
    first.set(oid::BASIC_CONSTRAINTS, vec![0x30, 6, 1, 1, 0xff, 2, 1, 0]);
    constrain(&mut first, &[(DNS, b"localhost")], &[]);
    let mut rolled = authority("CA", &new, (&ca_name, &old));
    rolled.add(oid::SUBJECT_ALT_NAME, false, names(&[(DNS, b"other.example")]));
    let leaf = draft(Profile::TlsServer, "server", &Key::new().spki(), (&ca_name, &new)).sign(&new);
    let (others, anchors) = ([first.sign(&root_key), rolled.sign(&old)], [anchor.sign(&root_key)]);
    assert_eq!(verdict(&PathQuestion { depth_max: Some(1), ..ask(&leaf, &others, &anchors) }), "accepted");
    rolled.issuer = name("not the CA");
    assert_ne!(verdict(&ask(&leaf, &[others[0].clone(), rolled.sign(&old)], &anchors)), "accepted");
}

#[test]
fn the_peer_and_the_usage_that_were_asked_for_count() {
    let (party, leaf) = bent(untouched, untouched, |leaf| {
        set_names(leaf, &[(DNS, b"a.example"), (DNS, b"*.b.example"), (IP, &[192, 0, 2, 1])]);
    });
    let (others, anchors) = ([party.issuing], [party.root]);
    let question = ask(&leaf, &others, &anchors);
    for (name, expected) in [
        ("a.example", "accepted"),
        ("A.Example", "accepted"),
        ("x.b.example", "accepted"),
        ("192.0.2.1", "accepted"),
        ("b.example", "name_mismatch"),
        (".b.example", "name_mismatch"),
        ("x.y.b.example", "name_mismatch"),
        ("server", "name_mismatch"),
        ("192.0.2.2", "name_mismatch"),
        ("", "name_mismatch"),
    ] {
        assert_eq!(verdict(&PathQuestion { name: Some(name), ..question }), expected, "{name}");
    }
    assert_eq!(verdict(&PathQuestion { usage: Some(Usage::Server), ..question }), "accepted");
    assert_eq!(verdict(&PathQuestion { usage: Some(Usage::Client), ..question }), "extended_key_usage");
}

#[test]
fn lists_decide_on_every_certificate_below_the_anchor() {
    let (party, leaf) = bent(untouched, untouched, untouched);
    let serial = Certificate::read(&leaf).unwrap().tbs.serial.to_vec();
    let issuing_serial = Certificate::read(&party.issuing).unwrap().tbs.serial.to_vec();
    let revoking = |serials: &[&[u8]]| {
        let mut list = DraftList::honest(&party);
        list.entries = der::element(der::SEQUENCE, &serials.iter().flat_map(|one| entry(one, &[])).collect::<Vec<_>>());
        list
    };
    let honest = DraftList::honest(&party);
    let of_root = |mut list: DraftList| {
        list.issuer = party.root_name.clone();
        let authority = der::element(der::context(0), &key_identifier(party.root_key.id()));
        list.extensions[0].2 = der::sequence(&[&authority]);
        list.sign(&party.root_key)
    };
    let good_root = of_root(honest.clone());
    let said = |lists: &[Vec<u8>]| {
        let (others, anchors) = ([party.issuing.clone()], [party.root.clone()]);
        verdict(&PathQuestion { lists, ..ask(&leaf, &others, &anchors) })
    };
    let with = |list: &DraftList| said(&[good_root.clone(), list.sign(&party.issuing_key)]);
    assert_eq!(with(&honest), "accepted");
    assert_eq!(said(&[honest.sign(&party.issuing_key)]), "status_unknown", "of the issuing CA");
    assert_eq!(said(from_ref(&good_root)), "status_unknown", "of the leaf");
    assert_eq!(with(&revoking(&[&serial])), "revoked");
    assert_eq!(with(&revoking(&[&[0x7f; 9], &serial, &[1]])), "revoked", "entries in no order");
    assert_eq!(said(&[of_root(revoking(&[&issuing_serial])), honest.sign(&party.issuing_key)]), "revoked");
    let foreign = Party::new("test");
    let same_serial = {
        let mut list = revoking(&[&serial]);
        list.extensions[0].2 = der::sequence(&[&der::element(der::context(0), &[7; 20])]);
        list.sign(&foreign.issuing_key)
    };
    assert_eq!(said(&[good_root.clone(), honest.sign(&party.issuing_key), same_serial]), "accepted");

    type Bend = fn(&mut DraftList);
    let point = |content: &[u8]| der::element(der::SEQUENCE, content);
    assert_eq!(point(&[]), [0x30, 0]);
    let table: &[(&str, Bend, &str)] = &[
        ("version 1", |list| list.version = vec![2, 1, 0], "crl_profile"),
        ("no version", |list| list.version.clear(), "crl_malformed"),
        ("no next update", |list| list.dates = utc_time(NOW), "crl_profile"),
        ("another algorithm", |list| list.algorithm[11] = 3, "crl_profile"),
        ("an empty list", |list| list.entries = vec![0x30, 0], "crl_malformed"),
        ("no number", |list| drop(list.extensions.pop()), "crl_profile"),
        ("a critical number", |list| list.extensions[1].1 = true, "crl_profile"),
        ("a number of 20 octets", |list| list.extensions[1].2 = der::element(2, &[1; 20]), "accepted"),
        ("a number of 21 octets", |list| list.extensions[1].2 = der::element(2, &[1; 21]), "crl_profile"),
        ("a negative number", |list| list.extensions[1].2 = vec![2, 1, 0x80], "crl_profile"),
        ("no key identifier", |list| drop(list.extensions.remove(0)), "crl_profile"),
        ("an unknown extension", |list| list.extensions.push((vec![0x2a, 3], false, vec![1])), "accepted"),
        (
            "an unknown critical extension",
            |list| list.extensions.push((vec![0x2a, 3], true, vec![1])),
            "crl_unknown_critical_extension",
        ),
        ("an extension twice", |list| list.extensions.push(list.extensions[1].clone()), "crl_profile"),
        (
            "a delta",
            |list| list.extensions.push((oid::DELTA_CRL_INDICATOR.to_vec(), true, vec![2, 1, 1])),
            "crl_not_full",
        ),
        (
            "for end entities only",
            |list| list.extensions.push((oid::ISSUING_DISTRIBUTION_POINT.to_vec(), true, vec![0x30, 3, 0x81, 1, 0xff])),
            "accepted",
        ),
        (
            "for CAs only",
            |list| {
                list.extensions.push((oid::ISSUING_DISTRIBUTION_POINT.to_vec(), true, vec![0x30, 3, 0x82, 1, 0xff]));
            },
            "crl_not_full",
        ),
        (
            "indirect",
            |list| list.extensions.push((oid::ISSUING_DISTRIBUTION_POINT.to_vec(), true, vec![0x30, 3, 0x84, 1, 0xff])),
            "crl_not_full",
        ),
        (
            "an empty distribution point",
            |list| list.extensions.push((oid::ISSUING_DISTRIBUTION_POINT.to_vec(), true, vec![0x30, 0])),
            "crl_profile",
        ),
        (
            "where the certificate says",
            |list| {
                let value = distribution_point();
                // The name within the first and only point.
                list.extensions.push((oid::ISSUING_DISTRIBUTION_POINT.to_vec(), true, value[2..].to_vec()));
            },
            "accepted",
        ),
        (
            "at another place",
            |list| {
                let uri = der::element(URI, b"http://pki.countersign.example/crl/01.crl");
                let name = der::element(0xa0, &der::element(0xa0, &uri));
                list.extensions.push((oid::ISSUING_DISTRIBUTION_POINT.to_vec(), true, der::sequence(&[&name])));
            },
            "crl_not_full",
        ),
        (
            "an entry with a critical extension",
            |list| {
                list.entries =
                    der::sequence(&[&entry(&[9], &der::sequence(&[&list_extension(&[0x2a, 3], true, &[1])]))])
            },
            "crl_unknown_critical_extension",
        ),
        (
            "an entry with a reason",
            |list| {
                list.entries = der::sequence(&[&entry(
                    &[9],
                    &der::sequence(&[&list_extension(oid::CRL_REASON, false, &[10, 1, 1])]),
                )])
            },
            "accepted",
        ),
        (
            "removeFromCRL",
            |list| {
                list.entries = der::sequence(&[&entry(
                    &[9],
                    &der::sequence(&[&list_extension(oid::CRL_REASON, false, &[10, 1, 8])]),
                )])
            },
            "crl_not_full",
        ),
        (
            "from the future",
            |list| list.dates = [utc_time(NOW.plus_ms(HOUR_MS)), utc_time(NOW.plus_ms(2 * HOUR_MS))].concat(),
            "crl_not_yet_valid",
        ),
        (
            "past its next update",
            |list| list.dates = [utc_time(NOW.plus_ms(-2 * HOUR_MS)), utc_time(NOW.plus_ms(-1000))].concat(),
            "crl_expired",
        ),
        ("another issuer", |list| list.issuer = name("nobody"), "status_unknown"),
    ];
    for (what, bend, expected) in table {
        let mut list = honest.clone();
        bend(&mut list);
        assert_eq!(with(&list), *expected, "{what}");
    }
    let mut stale = honest.clone();
    stale.dates = [utc_time(NOW.plus_ms(-2 * HOUR_MS)), utc_time(NOW.plus_ms(-1000))].concat();
    let both =
        |stale: &DraftList| said(&[good_root.clone(), stale.sign(&party.issuing_key), honest.sign(&party.issuing_key)]);
    assert_eq!(both(&stale), "accepted", "an old list besides one in force");
    stale.entries = der::sequence(&[&entry(&serial, &[])]);
    assert_eq!(both(&stale), "revoked", "what an old list revokes");
    assert_eq!(said(&[good_root.clone(), honest.sign(&party.root_key)]), "crl_signature_invalid");
    assert_eq!(said(&[good_root.clone(), vec![0x30, 0]]), "crl_malformed");
    let mute = Party::bent("test", untouched, |issuing| issuing.set(oid::KEY_USAGE, vec![3, 2, 2, 4]));
    let leaf = mute.draft(Profile::TlsServer, "server", &Key::new().spki()).sign(&mute.issuing_key);
    let lists = [DraftList::honest(&mute).sign(&mute.issuing_key), {
        let mut list = DraftList::honest(&mute);
        list.issuer = mute.root_name.clone();
        let authority = der::element(der::context(0), &key_identifier(mute.root_key.id()));
        list.extensions[0].2 = der::sequence(&[&authority]);
        list.sign(&mute.root_key)
    }];
    let (others, anchors) = ([mute.issuing.clone()], [mute.root.clone()]);
    assert_eq!(verdict(&PathQuestion { lists: &lists, ..ask(&leaf, &others, &anchors) }), "crl_issuer_not_crl_signer");
}

/// Every byte of every certificate, two ways, and every truncation: no change is harmless.
#[test]
fn no_single_byte_of_a_path_can_be_changed() {
    let (party, leaf) = bent(untouched, untouched, untouched);
    let honest = [leaf, party.issuing, party.root];
    for place in 0..3 {
        for index in 0..honest[place].len() {
            for change in [0x01, 0x80] {
                let mut changed = honest.clone();
                changed[place][index] ^= change;
                let [leaf, issuing, root] = changed;
                let said = verdict(&ask(&leaf, &[issuing], &[root]));
                assert_ne!(said, "accepted", "certificate {place}, byte {index}, {change:#04x}");
            }
            let mut changed = honest.clone();
            changed[place].truncate(index);
            let [leaf, issuing, root] = changed;
            assert_ne!(verdict(&ask(&leaf, &[issuing], &[root])), "accepted", "certificate {place}, {index} bytes");
        }
    }
}
