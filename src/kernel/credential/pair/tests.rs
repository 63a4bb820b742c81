//! One row a rule: what is bent, and the name under which it is refused.

use super::*;
use crate::kernel::credential::profile::{ProfileRule, custody_policy};
use crate::kernel::credential::testkit::*;

type Bend = fn(&mut Draft);

fn untouched(_: &mut Draft) {}

fn verdict(world: &World, pair: &PeerChains) -> Result<VerifiedAgent, PairRefusal> {
    accept(pair, &world.acceptance(), &world.status(), NOW)
}

#[test]
fn an_honest_pair_is_accepted_and_says_who_it_is() {
    let world = World::new();
    let pair = world.pair();
    let agent = verdict(&world, &pair).unwrap();
    assert_eq!(agent.spiffe_id().to_string(), SPIFFE);
    assert_eq!(agent.key(), world.agent.id());
    assert_eq!(agent.custody(), CustodyLevel::CustodyStated);
    assert_eq!(agent.fingerprints(), [Sha256::of(&[&pair.presented[0]]), Sha256::of(&[&pair.presented[1]])]);
    assert_eq!(agent.not_after(), NOW.plus_ms(23 * HOUR_MS));
    assert_ne!(agent.principal().bank_issuer, agent.principal().company_issuer);
}

#[test]
fn the_bank_half_is_refused_by_the_rule_it_breaks() {
    use ProfileRule as Rule;
    let violated = PairRefusal::BankProfileViolated;
    let table: &[(&str, Bend, PairRefusal)] = &[
        ("version 1", |b| b.version = vec![0xa0, 3, 2, 1, 1], violated(Rule::Version)),
        ("zero serial", |b| b.serial = vec![0], violated(Rule::SerialNumber)),
        ("long serial", |b| b.serial = vec![1; 21], violated(Rule::SerialNumber)),
        ("negative serial", |b| b.serial = vec![0x80, 1, 2, 3, 4, 5, 6, 7, 8], violated(Rule::SerialNumber)),
        ("inner algorithm differs", |b| b.inner_algorithm[11] = 3, violated(Rule::SignatureAlgorithm)),
        ("outer algorithm differs", |b| b.outer_algorithm[11] = 3, violated(Rule::SignatureAlgorithm)),
        (
            "generalized time before 2050",
            |b| b.not_after = generalized_time(NOW.plus_ms(HOUR_MS)),
            violated(Rule::ValidityEncoding),
        ),
        ("inverted validity", |b| b.not_after = b.not_before.clone(), violated(Rule::ValidityPeriod)),
        ("400 days", |b| b.not_after = utc_time(NOW.plus_ms(400 * 24 * HOUR_MS)), violated(Rule::ValidityPeriod)),
        ("empty subject", |b| b.subject = der::sequence(&[]), violated(Rule::Name)),
        ("self-issued", |b| b.subject = b.issuer.clone(), violated(Rule::Name)),
        ("Ed25519 key", |b| b.spki = ed25519_spki(), violated(Rule::KeyAlgorithm)),
        (
            "duplicate extension",
            |b| b.add(oid::KEY_USAGE, true, vec![3, 2, 7, 0x80]),
            violated(Rule::DuplicateExtension),
        ),
        (
            "unknown critical extension",
            |b| b.add(&[0x2a, 3, 4], true, vec![5, 0]),
            violated(Rule::UnknownCriticalExtension),
        ),
        ("critical key identifier", |b| b.set_critical(oid::SUBJECT_KEY_IDENTIFIER, true), violated(Rule::Criticality)),
        ("binding critical", |b| b.set_critical(oid::RELATED_CERTIFICATE, true), violated(Rule::Criticality)),
        (
            "claims to be a CA",
            |b| b.set(oid::BASIC_CONSTRAINTS, der::sequence(&[&[1, 1, 0xff]])),
            violated(Rule::BasicConstraints),
        ),
        (
            "path length without CA",
            |b| b.set(oid::BASIC_CONSTRAINTS, der::sequence(&[&[2, 1, 0]])),
            violated(Rule::BasicConstraints),
        ),
        ("keyCertSign", |b| b.set(oid::KEY_USAGE, vec![3, 2, 2, 0x84]), violated(Rule::KeyUsage)),
        ("no key usage", |b| b.remove(oid::KEY_USAGE), violated(Rule::KeyUsage)),
        ("serverAuth", |b| b.set(oid::EXTENDED_KEY_USAGE, eku(oid::SERVER_AUTH)), violated(Rule::ExtendedKeyUsage)),
        (
            "anyExtendedKeyUsage",
            |b| b.set(oid::EXTENDED_KEY_USAGE, eku(&[0x55, 0x1d, 0x25, 0])),
            violated(Rule::ExtendedKeyUsage),
        ),
        (
            "client and server usage",
            |b| {
                let both = [eku(oid::CLIENT_AUTH), eku(oid::SERVER_AUTH)].map(|one| one[2..].to_vec()).concat();
                b.set(oid::EXTENDED_KEY_USAGE, der::element(der::SEQUENCE, &both));
            },
            violated(Rule::ExtendedKeyUsage),
        ),
        ("no extended key usage", |b| b.remove(oid::EXTENDED_KEY_USAGE), violated(Rule::ExtendedKeyUsage)),
        (
            "a key identifier that is none",
            |b| b.set(oid::SUBJECT_KEY_IDENTIFIER, vec![5, 0]),
            violated(Rule::SubjectKeyIdentifier),
        ),
        ("no identity", |b| b.remove(oid::SUBJECT_ALT_NAME), violated(Rule::SubjectAltName)),
        (
            "two identities",
            |b| b.set(oid::SUBJECT_ALT_NAME, uri_names(&[SPIFFE, SPIFFE])),
            violated(Rule::SubjectAltName),
        ),
        (
            "a DNS name besides",
            |b| b.set(oid::SUBJECT_ALT_NAME, der::sequence(&[&der::element(der::context(2), b"a.b")])),
            violated(Rule::SubjectAltName),
        ),
        (
            "not an agent's SPIFFE ID",
            |b| b.set(oid::SUBJECT_ALT_NAME, uri_names(&["spiffe://countersign.example/workload/a/b"])),
            violated(Rule::SubjectAltName),
        ),
        ("no custody policy", |b| b.remove(oid::CERTIFICATE_POLICIES), violated(Rule::CustodyPolicy)),
        (
            "both custody policies",
            |b| {
                let one = |level| custody_policy(level, &base())[2..].to_vec();
                let both = [one(CustodyLevel::CustodyStated), one(CustodyLevel::CustodyObserved)].concat();
                b.set(oid::CERTIFICATE_POLICIES, der::element(der::SEQUENCE, &both));
            },
            violated(Rule::CustodyPolicy),
        ),
        ("not yet valid", |b| b.not_before = utc_time(NOW.plus_ms(60_000)), PairRefusal::BankNotYetValid),
        ("expired", |b| b.not_after = utc_time(NOW.plus_ms(-60_000)), PairRefusal::BankExpired),
        ("no authority key identifier", |b| b.remove(oid::AUTHORITY_KEY_IDENTIFIER), PairRefusal::BankIssuerUntrusted),
        ("another issuer's name", |b| b.issuer = name("bank issuing 2"), PairRefusal::BankIssuerUntrusted),
        ("no binding", |b| b.remove(oid::RELATED_CERTIFICATE), PairRefusal::BindingMissing),
        (
            "binding twice",
            |b| {
                let again = b.extensions.last().unwrap().clone();
                b.extensions.push(again);
            },
            PairRefusal::BindingDuplicate,
        ),
        ("binding under a draft's OID", |b| b.extensions.last_mut().unwrap().oid[7] = 33, PairRefusal::BindingDraftOid),
        (
            "binding with another hash algorithm",
            |b| b.extensions.last_mut().unwrap().value[14] = 3,
            PairRefusal::BindingMalformed,
        ),
        (
            "binding to another certificate",
            |b| *b.extensions.last_mut().unwrap().value.last_mut().unwrap() ^= 1,
            PairRefusal::BindingHashMismatch,
        ),
        (
            "another name",
            |b| b.set(oid::SUBJECT_ALT_NAME, uri_names(&["spiffe://countersign.example/agent/purchaser/other"])),
            PairRefusal::IdentityMismatch,
        ),
        (
            "another role",
            |b| b.set(oid::SUBJECT_ALT_NAME, uri_names(&["spiffe://countersign.example/agent/treasurer/shopper"])),
            PairRefusal::IdentityMismatch,
        ),
    ];
    for (what, bend, expected) in table {
        let world = World::new();
        assert_eq!(verdict(&world, &world.bent_pair(bend, untouched)).unwrap_err(), *expected, "{what}");
    }
}

#[test]
fn pairs_of_another_implementation_are_accepted_where_rfc_5280_leaves_a_choice() {
    let table: &[(&str, Bend)] = &[
        ("no basic constraints", |draft| draft.remove(oid::BASIC_CONSTRAINTS)),
        ("basic constraints not critical", |draft| draft.set_critical(oid::BASIC_CONSTRAINTS, false)),
        ("no distribution point", |draft| draft.remove(oid::CRL_DISTRIBUTION_POINTS)),
        ("no responder", |draft| draft.remove(oid::AUTHORITY_INFO_ACCESS)),
        ("no key identifier of its own", |draft| draft.remove(oid::SUBJECT_KEY_IDENTIFIER)),
        ("a key identifier by another method", |draft| {
            draft.set(oid::SUBJECT_KEY_IDENTIFIER, der::element(der::OCTET_STRING, &[7; 20]));
        }),
        ("an unknown extension", |draft| draft.add(&[0x2a, 3, 4], false, vec![5, 0])),
        ("a short serial number", |draft| draft.serial = vec![1]),
        ("a year", |draft| draft.not_after = utc_time(NOW.plus_ms(365 * 24 * HOUR_MS))),
        ("another policy besides", |draft| {
            let stated = custody_policy(CustodyLevel::CustodyStated, &base())[2..].to_vec();
            let other = der::sequence(&[&der::element(der::OID, &[0x2a, 3, 4])]);
            draft.set(oid::CERTIFICATE_POLICIES, der::element(der::SEQUENCE, &[stated, other].concat()));
        }),
    ];
    for (what, bend) in table {
        let world = World::new();
        for pair in [world.bent_pair(bend, untouched), world.bent_pair(untouched, bend), world.bent_pair(bend, bend)] {
            let judged = verdict(&world, &pair);
            assert!(judged.is_ok(), "{what}: {judged:?}");
        }
    }
}

#[test]
fn the_endorsement_is_refused_by_the_rule_it_breaks() {
    use ProfileRule as Rule;
    let violated = PairRefusal::EndorsementProfileViolated;
    let table: &[(&str, Bend, PairRefusal)] = &[
        ("clientAuth", |s| s.set(oid::EXTENDED_KEY_USAGE, eku(oid::CLIENT_AUTH)), violated(Rule::ExtendedKeyUsage)),
        (
            "the catalogue's usage",
            |s| s.set(oid::EXTENDED_KEY_USAGE, eku(&base().child([2, 5]))),
            violated(Rule::ExtendedKeyUsage),
        ),
        (
            "the usage under another base",
            |s| {
                let other: OidBase = "1.3.6.1.4.1.32474".parse().unwrap();
                s.set(oid::EXTENDED_KEY_USAGE, eku(&other.child([2, 1])));
            },
            violated(Rule::ExtendedKeyUsage),
        ),
        (
            "a binding of its own",
            |s| s.add(oid::RELATED_CERTIFICATE, false, vec![0x30, 0]),
            violated(Rule::UnexpectedExtension),
        ),
        (
            "claims to be a CA",
            |s| s.set(oid::BASIC_CONSTRAINTS, vec![0x30, 3, 1, 1, 0xff]),
            violated(Rule::BasicConstraints),
        ),
        ("not yet valid", |s| s.not_before = utc_time(NOW.plus_ms(60_000)), PairRefusal::EndorsementNotYetValid),
        ("expired", |s| s.not_after = utc_time(NOW.plus_ms(-60_000)), PairRefusal::EndorsementExpired),
        ("another issuer", |s| s.issuer = name("nobody"), PairRefusal::EndorsementIssuerUntrusted),
        (
            "another name",
            |s| s.set(oid::SUBJECT_ALT_NAME, uri_names(&["spiffe://countersign.example/agent/purchaser/other"])),
            PairRefusal::IdentityMismatch,
        ),
    ];
    for (what, bend, expected) in table {
        let world = World::new();
        assert_eq!(verdict(&world, &world.bent_pair(untouched, bend)).unwrap_err(), *expected, "{what}");
    }
}

#[test]
fn presentations_that_are_not_a_pair_are_refused() {
    let world = World::new();
    let pair = world.pair();
    let [b, s] = [pair.presented[0].clone(), pair.presented[1].clone()];
    let other = World::new().pair().presented[1].clone();
    let garbage = vec![0x30, 0x03, 1, 2, 3];
    let flip_last = |bytes: &[u8]| [&bytes[..bytes.len() - 1], &[bytes[bytes.len() - 1] ^ 1]].concat();
    let table = [
        ("nothing", vec![], PairRefusal::NoCertificate),
        ("B alone", vec![b.clone()], PairRefusal::EndorsementMissing),
        ("S alone", vec![s.clone()], PairRefusal::BankCertificateMissing),
        ("garbage alone", vec![garbage.clone()], PairRefusal::EndorsementMissing),
        (
            "an issuing CA besides",
            vec![b.clone(), s.clone(), world.bank.issuing.clone()],
            PairRefusal::TooManyCertificates,
        ),
        ("S before B", vec![s.clone(), b.clone()], PairRefusal::BankIssuerUntrusted),
        ("B twice", vec![b.clone(), b.clone()], PairRefusal::EndorsementIssuerUntrusted),
        ("garbage for B", vec![garbage.clone(), s.clone()], PairRefusal::BankCertificateMalformed),
        ("garbage for S", vec![b.clone(), garbage], PairRefusal::EndorsementMalformed),
        ("a byte after B", vec![[b.as_slice(), &[0]].concat(), s.clone()], PairRefusal::BankCertificateMalformed),
        ("B with a bent signature", vec![flip_last(&b), s.clone()], PairRefusal::BankSignatureInvalid),
        ("S with a bent signature", vec![b.clone(), flip_last(&s)], PairRefusal::EndorsementSignatureInvalid),
        // Its issuer has the same name but another key identifier.
        ("another company's S", vec![b, other], PairRefusal::EndorsementIssuerUntrusted),
    ];
    for (what, presented, expected) in table {
        assert_eq!(verdict(&world, &PeerChains { presented }).unwrap_err(), expected, "{what}");
    }
}

#[test]
fn two_honest_halves_over_different_keys_are_refused() {
    let world = World::new();
    let other = World { bank: Party::new("x"), company: world.company, agent: Key::new() };
    let s = other.draft_s().sign(&other.company.issuing_key);
    let b = World::bind(world.bank.draft(Profile::AgentB, "shopper", &world.agent.spki()), &s);
    let pair = PeerChains { presented: vec![b.sign(&world.bank.issuing_key), s] };
    let acceptance = Acceptance { bank: world.bank.anchors(), ..other.acceptance() };
    assert_eq!(accept(&pair, &acceptance, &other.status(), NOW).unwrap_err(), PairRefusal::KeyMismatch);
}

#[test]
fn authorities_that_break_rfc_5280_are_refused() {
    let table: &[(&str, Bend, Bend)] = &[
        ("root without critical basic constraints", |root| root.set_critical(oid::BASIC_CONSTRAINTS, false), untouched),
        ("root without keyCertSign", |root| root.set(oid::KEY_USAGE, vec![3, 2, 1, 2]), untouched),
        ("root with an unknown critical extension", |root| root.add(&[0x2a, 3, 4], true, vec![5, 0]), untouched),
        ("expired root", |root| root.not_after = utc_time(NOW.plus_ms(-1000)), untouched),
        ("issuing CA that is none", untouched, |issuing| issuing.set(oid::BASIC_CONSTRAINTS, vec![0x30, 0])),
        ("issuing CA without keyCertSign", untouched, |issuing| issuing.set(oid::KEY_USAGE, vec![3, 2, 1, 2])),
        ("issuing CA for servers only", untouched, |issuing| {
            issuing.add(oid::EXTENDED_KEY_USAGE, false, eku(oid::SERVER_AUTH));
        }),
        ("expired issuing CA", untouched, |issuing| issuing.not_after = utc_time(NOW.plus_ms(-1000))),
        ("issuing CA of another root", untouched, |issuing| issuing.issuer = name("other root")),
    ];
    for (what, bend_root, bend_issuing) in table {
        let world = World { bank: Party::bent("bank", bend_root, bend_issuing), ..World::new() };
        assert_eq!(verdict(&world, &world.pair()).unwrap_err(), PairRefusal::BankChainInvalid, "{what}");
        let world = World { company: Party::bent("secco", bend_root, bend_issuing), ..World::new() };
        assert_eq!(verdict(&world, &world.pair()).unwrap_err(), PairRefusal::EndorsementChainInvalid, "{what}");
    }
}

#[test]
fn policy_and_status_are_refused_by_name_now_and_on_every_later_request() {
    type BendStatus = fn(&mut StatusSnapshot, &AgentPrincipal, &World);
    let table: &[(BendStatus, PairRefusal)] = &[
        (|status, agent, _| status.agents.extend([agent.spiffe_id.clone()]), PairRefusal::AgentRevoked),
        (|status, agent, _| status.keys.extend([agent.key]), PairRefusal::KeyRevoked),
        (
            |status, agent, _| {
                status.certificates.insert((agent.bank_issuer.clone(), agent.bank_serial.clone()));
            },
            PairRefusal::BankCertificateRevoked,
        ),
        (
            |status, agent, _| {
                status.certificates.insert((agent.company_issuer.clone(), agent.company_serial.clone()));
            },
            PairRefusal::EndorsementRevoked,
        ),
        (|status, _, world| revoke_issuing(status, &world.bank), PairRefusal::BankIssuerRevoked),
        (|status, _, world| revoke_issuing(status, &world.company), PairRefusal::EndorsementIssuerRevoked),
        (|status, _, _| status.everyone = true, PairRefusal::AgentRevoked),
        (|status, agent, _| status.issuers.extend([agent.bank_issuer.clone()]), PairRefusal::BankIssuerRevoked),
        (
            |status, agent, _| status.issuers.extend([agent.company_issuer.clone()]),
            PairRefusal::EndorsementIssuerRevoked,
        ),
        (|status, agent, _| status.frozen.extend([agent.spiffe_id.clone()]), PairRefusal::AgentFrozen),
        (|status, _, _| status.everyone_frozen = true, PairRefusal::AgentFrozen),
        (|status, _, _| status.crls.clear(), PairRefusal::EndorsementStatusMissing),
        (
            |status, _, _| {
                for crl in status.crls.values_mut() {
                    crl.next_update = NOW.plus_ms(-1);
                }
            },
            PairRefusal::EndorsementStatusStale,
        ),
    ];
    for (bend, expected) in table {
        let world = World::new();
        let pair = world.pair();
        let agent = verdict(&world, &pair).unwrap();
        agent.still_acceptable(&world.status(), NOW).unwrap();
        let mut status = world.status();
        bend(&mut status, agent.principal(), &world);
        assert_eq!(accept(&pair, &world.acceptance(), &status, NOW).unwrap_err(), *expected);
        assert_eq!(agent.still_acceptable(&status, NOW), Err(*expected));
    }
}

fn revoke_issuing(status: &mut StatusSnapshot, party: &Party) {
    let issuing = Certificate::read(&party.issuing).unwrap();
    let facts = Profile::Issuing.check_certificate(&issuing, &base()).unwrap();
    status.certificates.insert((facts.issuer_identifier, facts.serial));
}

#[test]
fn an_accepted_pair_ends_with_its_first_half() {
    let world = World::new();
    let pair = world.bent_pair(untouched, |s| s.not_after = utc_time(NOW.plus_ms(HOUR_MS)));
    let agent = verdict(&world, &pair).unwrap();
    assert_eq!(agent.not_after(), NOW.plus_ms(HOUR_MS));
    let later = NOW.plus_ms(HOUR_MS + 1);
    assert_eq!(agent.still_acceptable(&world.status(), later), Err(PairRefusal::EndorsementExpired));
}

#[test]
fn what_this_bank_does_not_take_is_refused() {
    let world = World::new();
    let pair = world.pair();
    let status = StatusSnapshot::default();
    let lenient = Acceptance { company_crl_required: false, ..world.acceptance() };
    assert!(accept(&pair, &lenient, &status, NOW).is_ok());
    let foreign = Acceptance { trust_domain: "other.example".into(), ..lenient.clone() };
    assert_eq!(accept(&pair, &foreign, &status, NOW).unwrap_err(), PairRefusal::WrongTrustDomain);
    let strict = Acceptance { custody_min: CustodyLevel::CustodyObserved, ..lenient };
    assert_eq!(accept(&pair, &strict, &status, NOW).unwrap_err(), PairRefusal::CustodyInsufficient);
    let observed = |draft: &mut Draft| {
        draft.set(oid::CERTIFICATE_POLICIES, custody_policy(CustodyLevel::CustodyObserved, &base()));
    };
    let half = world.bent_pair(observed, untouched);
    assert_eq!(accept(&half, &strict, &status, NOW).unwrap_err(), PairRefusal::CustodyInsufficient);
    assert!(accept(&world.bent_pair(observed, observed), &strict, &status, NOW).is_ok());
}

#[test]
fn the_endorsement_alone_is_judged_by_the_same_rules() {
    let world = World::new();
    let s = &world.pair().presented[1];
    let endorsed = accept_endorsement(s, &world.acceptance(), &world.status(), NOW).unwrap();
    assert_eq!((endorsed.key(), endorsed.fingerprint()), (world.agent.id(), Sha256::of(&[s])));
    let refused = |status: &StatusSnapshot, now| accept_endorsement(s, &world.acceptance(), status, now).unwrap_err();
    assert_eq!(refused(&StatusSnapshot::default(), NOW), PairRefusal::EndorsementStatusMissing);
    assert_eq!(refused(&world.status(), NOW.plus_ms(24 * HOUR_MS)), PairRefusal::EndorsementExpired);
    let mut status = world.status();
    status.keys.insert(world.agent.id());
    assert_eq!(refused(&status, NOW), PairRefusal::KeyRevoked);
}

#[test]
fn of_two_broken_rules_the_earlier_one_is_named() {
    let world = World::new();
    let pair = world.bent_pair(|b| b.not_after = utc_time(NOW.plus_ms(-1000)), |s| s.issuer = name("nobody"));
    assert_eq!(verdict(&world, &pair).unwrap_err(), PairRefusal::BankExpired);
    let pair = world.bent_pair(|b| b.remove(oid::RELATED_CERTIFICATE), |s| s.issuer = name("nobody"));
    assert_eq!(verdict(&world, &pair).unwrap_err(), PairRefusal::BindingMissing);
}

#[test]
fn refusal_names_are_unique() {
    let names: std::collections::BTreeSet<_> = PairRefusal::ALL.iter().map(|refusal| refusal.name()).collect();
    assert_eq!(names.len(), PairRefusal::ALL.len());
}

/// Run with `--ignored` when the format of a pair has changed.
#[test]
#[ignore = "writes docs/verifying"]
fn writes_the_example_of_the_documentation() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verifying");
    for (name, text) in super::hostile::example() {
        std::fs::write(directory.join(name), text).unwrap();
    }
}
