//! Hostile pairs against verification elsewhere: one row an attack, and the rule that stops it.

use super::elsewhere::{CHAIN_MAX, PairQuestion, verify_pair};
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::der;
use crate::kernel::credential::oid;
use crate::kernel::credential::profile::{Profile, custody_policy, key_identifier};
use crate::kernel::credential::testkit::*;
use crate::kernel::status::CustodyLevel;
use crate::kernel::types::UnixMillis;

const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];

/// What a verifier elsewhere is given.
struct Scene {
    bank_root: Vec<u8>,
    company_root: Vec<u8>,
    chain: Vec<Vec<u8>>,
    lists: Vec<Vec<u8>>,
    at: UnixMillis,
    custody_min: CustodyLevel,
}

impl Scene {
    /// B, S, and both issuing CAs.
    fn of(world: &World) -> Self {
        let mut chain = world.pair().presented;
        chain.extend([world.bank.issuing.clone(), world.company.issuing.clone()]);
        Self {
            bank_root: world.bank.root.clone(),
            company_root: world.company.root.clone(),
            chain,
            lists: Vec::new(),
            at: NOW,
            custody_min: CustodyLevel::CustodyStated,
        }
    }

    /// `accepted`, or the rule.
    fn verdict(&self) -> &'static str {
        let question = PairQuestion {
            bank_root: &self.bank_root,
            company_root: &self.company_root,
            chain: &self.chain,
            lists: &self.lists,
            at: self.at,
            trust_domain: "countersign.example",
            oid_base: base(),
            custody_min: self.custody_min,
        };
        verify_pair(&question).map_or_else(|refusal| refusal.name(), |_| "accepted")
    }

    fn bend_b(&mut self, world: &World, bend: impl Fn(&mut Draft)) {
        let pair = world.bent_pair(bend, |_| ());
        self.chain.splice(..2, pair.presented);
    }

    fn bend_s(&mut self, world: &World, bend: impl Fn(&mut Draft)) {
        let pair = world.bent_pair(|_| (), bend);
        self.chain.splice(..2, pair.presented);
    }

    /// B as it would be, its bytes changed before they are signed.
    fn forge_b(&mut self, world: &World, change: impl Fn(Vec<u8>) -> Vec<u8>) {
        let tbs = change(World::bind(world.draft_b(), &self.chain[1]).tbs());
        self.chain[0] = signed(&tbs, &world.bank.issuing_key);
    }
}

fn signed(tbs: &[u8], key: &Key) -> Vec<u8> {
    der::sequence(&[tbs, P256_SIGNATURE, &der::bit_string(&key.sign(tbs))])
}

/// The first occurrence of `from` becomes `to`, of the same length.
fn replaced(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).expect("it is there");
    bytes.splice(at..at + from.len(), to.iter().copied());
    bytes
}

/// The same element with its length in one octet more than it takes.
fn long_length(element: &[u8]) -> Vec<u8> {
    let [tag, 0x82, rest @ ..] = element else { panic!("an element of 256 bytes or more") };
    [&[*tag, 0x83, 0], rest].concat()
}

fn constraints(excluded: u8, base: &[u8]) -> Vec<u8> {
    der::sequence(&[&der::element(der::context_constructed(excluded), &der::sequence(&[base]))])
}

fn serial_of(der: &[u8]) -> Vec<u8> {
    Certificate::read(der).unwrap().tbs.serial.to_vec()
}

fn list(party: &Party, revoked: &[&[u8]]) -> DraftList {
    let mut list = DraftList::honest(party);
    let entries: Vec<u8> = revoked.iter().flat_map(|serial| entry(serial, &[])).collect();
    list.entries = if entries.is_empty() { Vec::new() } else { der::element(der::SEQUENCE, &entries) };
    list
}

fn signed_list(party: &Party, revoked: &[&[u8]]) -> Vec<u8> {
    list(party, revoked).sign(&party.issuing_key)
}

/// By the party's root: what it says of issuing CAs.
fn root_list(party: &Party, revoked: &[&[u8]]) -> Vec<u8> {
    let mut list = list(party, revoked);
    list.issuer = party.root_name.clone();
    let authority = der::element(der::context(0), &key_identifier(party.root_key.id()));
    list.extensions[0].2 = der::sequence(&[&authority]);
    list.sign(&party.root_key)
}

type Attack = fn(&World, &mut Scene);

fn run(table: &[(&str, Attack, &str)]) {
    let world = World::new();
    assert_eq!(Scene::of(&world).verdict(), "accepted");
    for (what, attack, expected) in table {
        let mut scene = Scene::of(&world);
        attack(&world, &mut scene);
        assert_eq!(scene.verdict(), *expected, "{what}");
    }
}

#[test]
fn ordinary_chains_are_accepted_in_every_shape() {
    run(&[
        ("each half before its issuing CA", |_, scene| scene.chain.swap(1, 2), "accepted"),
        ("issuing CAs in the other order", |_, scene| scene.chain.swap(2, 3), "accepted"),
        ("an issuing CA twice", |world, scene| scene.chain.push(world.bank.issuing.clone()), "accepted"),
        (
            "both roots besides",
            |world, scene| scene.chain.extend([world.bank.root.clone(), world.company.root.clone()]),
            "accepted",
        ),
        (
            "an expired certificate of the same issuing CA before the valid one",
            |world, scene| {
                let mut old = issuing_draft(&world.bank);
                old.not_after = utc_time(NOW.plus_ms(-60_000));
                scene.chain.insert(2, old.sign(&world.bank.root_key));
            },
            "accepted",
        ),
        ("the last second", |_, scene| scene.at = NOW.plus_ms(23 * HOUR_MS + 999), "accepted"),
        ("the first second", |_, scene| scene.at = NOW.plus_ms(-HOUR_MS), "accepted"),
        (
            "a key identifier by SHA-1",
            |world, scene| {
                let spki = world.agent.spki();
                let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &spki[26..]);
                scene.bend_b(world, |b| {
                    b.set(oid::SUBJECT_KEY_IDENTIFIER, der::element(der::OCTET_STRING, hash.as_ref()));
                });
            },
            "accepted",
        ),
        (
            "both lists",
            |world, scene| {
                scene.lists = vec![signed_list(&world.bank, &[]), signed_list(&world.company, &[&[0x41; 16]])]
            },
            "accepted",
        ),
        (
            "lists of all four CAs, an old one, and a stranger's with the same serial number",
            |world, scene| {
                let stranger = Party::new("stranger");
                let mut old = list(&world.bank, &[]);
                old.dates = [utc_time(NOW.plus_ms(-2 * HOUR_MS)), utc_time(NOW.plus_ms(-HOUR_MS))].concat();
                scene.lists = vec![
                    old.sign(&world.bank.issuing_key),
                    signed_list(&world.bank, &[]),
                    signed_list(&world.company, &[]),
                    root_list(&world.bank, &[]),
                    root_list(&world.company, &[]),
                    signed_list(&stranger, &[&serial_of(&scene.chain[0]), &serial_of(&scene.chain[1])]),
                ];
            },
            "accepted",
        ),
    ]);
}

fn issuing_draft(party: &Party) -> Draft {
    let Certificate { tbs, .. } = Certificate::read(&party.issuing).unwrap();
    let name = tbs.common_name().unwrap().to_owned();
    draft(Profile::Issuing, &name, &party.issuing_key.spki(), (&party.root_name, &party.root_key))
}

#[test]
fn what_is_no_pair_is_refused() {
    run(&[
        ("nothing", |_, scene| scene.chain.clear(), "no_certificate"),
        ("B and the CAs", |_, scene| drop(scene.chain.remove(1)), "endorsement_missing"),
        ("S and the CAs", |_, scene| drop(scene.chain.remove(0)), "bank_certificate_missing"),
        ("S before B", |_, scene| scene.chain.swap(0, 1), "bank_issuer_untrusted"),
        ("B twice", |_, scene| scene.chain[1] = scene.chain[0].clone(), "endorsement_issuer_untrusted"),
        ("S twice", |_, scene| scene.chain[0] = scene.chain[1].clone(), "bank_issuer_untrusted"),
        ("a third half", |_, scene| scene.chain.push(scene.chain[1].clone()), "too_many_certificates"),
        ("garbage at the end", |_, scene| scene.chain.push(vec![0x30, 1, 2]), "too_many_certificates"),
        ("garbage for B", |_, scene| scene.chain[0] = vec![0x30, 0], "bank_certificate_malformed"),
        ("garbage for S", |_, scene| scene.chain[1] = b"-----".to_vec(), "endorsement_malformed"),
        (
            "more certificates than are looked at",
            |world, scene| scene.chain.resize(CHAIN_MAX + 1, world.bank.issuing.clone()),
            "too_many_certificates",
        ),
        ("a CA first", |_, scene| scene.chain.swap(0, 2), "too_many_certificates"),
        ("no issuing CA of the bank", |_, scene| drop(scene.chain.remove(2)), "bank_issuer_untrusted"),
        ("no issuing CA of the company", |_, scene| drop(scene.chain.pop()), "endorsement_issuer_untrusted"),
        (
            "the roots the other way round",
            |_, scene| std::mem::swap(&mut scene.bank_root, &mut scene.company_root),
            "bank_issuer_untrusted",
        ),
        ("one root for both", |_, scene| scene.company_root = scene.bank_root.clone(), "parties_not_distinct"),
        (
            "both halves by one organisation",
            |world, scene| {
                let s = world.bank.draft(Profile::AgentS, "shopper", &world.agent.spki()).sign(&world.bank.issuing_key);
                scene.chain[0] = World::bind(world.draft_b(), &s).sign(&world.bank.issuing_key);
                scene.chain[1] = s;
            },
            "endorsement_issuer_untrusted",
        ),
        ("a root that is none", |_, scene| scene.bank_root = vec![0x30, 0x80, 0, 0], "anchor_invalid"),
        ("B for a root", |_, scene| scene.bank_root = scene.chain[0].clone(), "too_many_certificates"),
    ]);
}

#[test]
fn bindings_that_do_not_bind_are_refused() {
    run(&[
        ("none", |world, scene| scene.bend_b(world, |b| b.remove(oid::RELATED_CERTIFICATE)), "binding_missing"),
        (
            "two, both right",
            |world, scene| scene.bend_b(world, |b| b.extensions.push(b.extensions.last().unwrap().clone())),
            "binding_duplicate",
        ),
        (
            "two, the second one wrong",
            |world, scene| {
                scene.bend_b(world, |b| {
                    let mut second = b.extensions.last().unwrap().clone();
                    *second.value.last_mut().unwrap() ^= 1;
                    b.extensions.push(second);
                });
            },
            "binding_duplicate",
        ),
        (
            "under the draft's OID",
            |world, scene| scene.bend_b(world, |b| b.extensions.last_mut().unwrap().oid[7] = 0x21),
            "binding_draft_oid",
        ),
        (
            "under the draft's OID besides",
            |world, scene| {
                scene.bend_b(world, |b| {
                    let mut draft = b.extensions.last().unwrap().clone();
                    draft.oid[7] = 0x21;
                    b.extensions.push(draft);
                });
            },
            "binding_draft_oid",
        ),
        (
            "SHA-384 by name",
            |world, scene| scene.bend_b(world, |b| b.extensions.last_mut().unwrap().value[14] = 2),
            "binding_malformed",
        ),
        (
            "a hash of 20 bytes",
            |world, scene| {
                scene.bend_b(world, |b| {
                    let sha1 = der::sequence(&[&der::element(der::OID, &[0x2b, 0x0e, 3, 2, 0x1a])]);
                    let hash = der::element(der::OCTET_STRING, &[7; 20]);
                    b.set(oid::RELATED_CERTIFICATE, der::sequence(&[&sha1, &hash]));
                });
            },
            "binding_malformed",
        ),
        (
            "a byte after it",
            |world, scene| scene.bend_b(world, |b| b.extensions.last_mut().unwrap().value.push(0)),
            "binding_malformed",
        ),
        (
            "critical",
            |world, scene| scene.bend_b(world, |b| b.set_critical(oid::RELATED_CERTIFICATE, true)),
            "bank_profile_violated",
        ),
        (
            "to a renewed S over the same key",
            |world, scene| {
                let mut renewed = world.draft_s();
                renewed.serial = vec![0x55; 16];
                scene.chain[1] = renewed.sign(&world.company.issuing_key);
            },
            "binding_hash_mismatch",
        ),
        (
            "to the same S, signed once more",
            |world, scene| scene.chain[1] = world.draft_s().sign(&world.company.issuing_key),
            "binding_hash_mismatch",
        ),
        (
            "to the signed part of S",
            |world, scene| {
                let tbs = world.draft_s().tbs();
                let bound = World::bind(world.draft_b(), &tbs);
                scene.chain[0] = bound.sign(&world.bank.issuing_key);
            },
            "binding_hash_mismatch",
        ),
        (
            "S bound as well",
            |world, scene| {
                scene.bend_s(world, |s| *s = World::bind(s.clone(), b"anything"));
            },
            "endorsement_profile_violated",
        ),
    ]);
}

#[test]
fn halves_of_two_agents_are_refused() {
    fn san(spiffe: &str) -> Vec<u8> {
        uri_names(&[spiffe])
    }
    run(&[
        (
            "B over another key",
            |world, scene| {
                let other = World { agent: Key::new(), bank: Party::new("x"), company: Party::new("y") };
                let draft = world.bank.draft(Profile::AgentB, "shopper", &other.agent.spki());
                scene.chain[0] = World::bind(draft, &scene.chain[1]).sign(&world.bank.issuing_key);
            },
            "key_mismatch",
        ),
        (
            "S over another key, bound",
            |world, scene| {
                let s = world.company.draft(Profile::AgentS, "shopper", &Key::new().spki());
                scene.chain[1] = s.sign(&world.company.issuing_key);
                scene.chain[0] = World::bind(world.draft_b(), &scene.chain[1]).sign(&world.bank.issuing_key);
            },
            "key_mismatch",
        ),
        (
            "another name in B",
            |world, scene| {
                scene.bend_b(world, |b| {
                    b.set(oid::SUBJECT_ALT_NAME, san("spiffe://countersign.example/agent/purchaser/buyer"));
                });
            },
            "identity_mismatch",
        ),
        (
            "another role in B",
            |world, scene| {
                scene.bend_b(world, |b| {
                    b.set(oid::SUBJECT_ALT_NAME, san("spiffe://countersign.example/agent/treasurer/shopper"));
                });
            },
            "identity_mismatch",
        ),
        (
            "another role in S",
            |world, scene| {
                scene.bend_s(world, |s| {
                    s.set(oid::SUBJECT_ALT_NAME, san("spiffe://countersign.example/agent/treasurer/shopper"));
                });
            },
            "identity_mismatch",
        ),
        (
            "another trust domain in both",
            |world, scene| {
                let elsewhere =
                    |draft: &mut Draft| draft.set(oid::SUBJECT_ALT_NAME, san("spiffe://other.example/agent/a/b"));
                scene.chain.splice(..2, world.bent_pair(elsewhere, elsewhere).presented);
            },
            "wrong_trust_domain",
        ),
        (
            "the trust domain in capitals",
            |world, scene| {
                scene.bend_b(world, |b| {
                    b.set(oid::SUBJECT_ALT_NAME, san("spiffe://COUNTERSIGN.example/agent/purchaser/shopper"));
                });
            },
            "bank_profile_violated",
        ),
        (
            "a second identity",
            |world, scene| scene.bend_b(world, |b| b.set(oid::SUBJECT_ALT_NAME, uri_names(&[SPIFFE, SPIFFE]))),
            "bank_profile_violated",
        ),
        (
            "an e-mail address besides",
            |world, scene| {
                scene.bend_s(world, |s| {
                    let mut names = uri_names(&[SPIFFE])[2..].to_vec();
                    names.extend(der::element(der::context(1), b"a@b.example"));
                    s.set(oid::SUBJECT_ALT_NAME, der::element(der::SEQUENCE, &names));
                });
            },
            "endorsement_profile_violated",
        ),
        (
            "a query behind the identity",
            |world, scene| {
                scene
                    .bend_b(world, |b| b.set(oid::SUBJECT_ALT_NAME, uri_names(&[&format!("{SPIFFE}?role=treasurer")])));
            },
            "bank_profile_violated",
        ),
        (
            "a zero byte within the identity",
            |world, scene| {
                scene.bend_b(world, |b| b.set(oid::SUBJECT_ALT_NAME, uri_names(&[&format!("{SPIFFE}\0.example")])));
            },
            "bank_profile_violated",
        ),
        (
            "no identity",
            |world, scene| scene.bend_s(world, |s| s.remove(oid::SUBJECT_ALT_NAME)),
            "endorsement_profile_violated",
        ),
        (
            "the custody of S below the least",
            |world, scene| {
                let observed = |draft: &mut Draft| {
                    draft.set(oid::CERTIFICATE_POLICIES, custody_policy(CustodyLevel::CustodyObserved, &base()));
                };
                scene.chain.splice(..2, world.bent_pair(observed, |_| ()).presented);
                scene.custody_min = CustodyLevel::CustodyObserved;
            },
            "custody_insufficient",
        ),
        (
            "both levels of custody",
            |world, scene| {
                scene.bend_b(world, |b| {
                    let one = |level| custody_policy(level, &base())[2..].to_vec();
                    let both = [one(CustodyLevel::CustodyObserved), one(CustodyLevel::CustodyStated)].concat();
                    b.set(oid::CERTIFICATE_POLICIES, der::element(der::SEQUENCE, &both));
                });
            },
            "bank_profile_violated",
        ),
        (
            "any policy",
            |world, scene| {
                scene.bend_b(world, |b| {
                    let any = der::element(der::OID, &[0x55, 0x1d, 0x20, 0]);
                    b.set(oid::CERTIFICATE_POLICIES, der::sequence(&[&der::sequence(&[&any])]));
                });
            },
            "bank_profile_violated",
        ),
    ]);
}

#[test]
fn usages_and_times_are_kept() {
    run(&[
        (
            "B for servers",
            |world, scene| scene.bend_b(world, |b| b.set(oid::EXTENDED_KEY_USAGE, eku(oid::SERVER_AUTH))),
            "bank_profile_violated",
        ),
        (
            "B with the usage of S",
            |world, scene| scene.bend_b(world, |b| b.set(oid::EXTENDED_KEY_USAGE, eku(&base().child([2, 1])))),
            "bank_profile_violated",
        ),
        (
            "S for clients",
            |world, scene| scene.bend_s(world, |s| s.set(oid::EXTENDED_KEY_USAGE, eku(oid::CLIENT_AUTH))),
            "endorsement_profile_violated",
        ),
        (
            "any usage",
            |world, scene| scene.bend_b(world, |b| b.set(oid::EXTENDED_KEY_USAGE, eku(&[0x55, 0x1d, 0x25, 0]))),
            "bank_profile_violated",
        ),
        (
            "no usage",
            |world, scene| scene.bend_s(world, |s| s.remove(oid::EXTENDED_KEY_USAGE)),
            "endorsement_profile_violated",
        ),
        (
            "B signs certificates",
            |world, scene| scene.bend_b(world, |b| b.set(oid::KEY_USAGE, vec![3, 2, 2, 0x84])),
            "bank_profile_violated",
        ),
        (
            "S is a CA",
            |world, scene| scene.bend_s(world, |s| s.set(oid::BASIC_CONSTRAINTS, vec![0x30, 3, 1, 1, 0xff])),
            "endorsement_profile_violated",
        ),
        (
            "B has ended",
            |world, scene| scene.bend_b(world, |b| b.not_after = utc_time(NOW.plus_ms(-1000))),
            "bank_expired",
        ),
        (
            "S has ended",
            |world, scene| scene.bend_s(world, |s| s.not_after = utc_time(NOW.plus_ms(-1000))),
            "endorsement_expired",
        ),
        (
            "B begins later",
            |world, scene| scene.bend_b(world, |b| b.not_before = utc_time(NOW.plus_ms(1000))),
            "bank_not_yet_valid",
        ),
        (
            "S begins later",
            |world, scene| scene.bend_s(world, |s| s.not_before = utc_time(NOW.plus_ms(1000))),
            "endorsement_not_yet_valid",
        ),
        ("a second too late", |_, scene| scene.at = NOW.plus_ms(23 * HOUR_MS + 1000), "bank_expired"),
        ("a second too early", |_, scene| scene.at = NOW.plus_ms(-HOUR_MS - 1), "bank_not_yet_valid"),
        (
            "B of 400 days",
            |world, scene| scene.bend_b(world, |b| b.not_after = utc_time(NOW.plus_ms(400 * 24 * HOUR_MS))),
            "bank_profile_violated",
        ),
        (
            "four digits of a year before 2050",
            |world, scene| scene.bend_b(world, |b| b.not_after = generalized_time(NOW.plus_ms(HOUR_MS))),
            "bank_profile_violated",
        ),
        (
            "a time without seconds",
            |world, scene| scene.bend_b(world, |b| b.not_after = der::element(der::UTC_TIME, b"2611220420Z")),
            "bank_certificate_malformed",
        ),
        (
            "a time with an offset",
            |world, scene| scene.bend_s(world, |s| s.not_after = der::element(der::UTC_TIME, b"261122042000+0100")),
            "endorsement_malformed",
        ),
    ]);
}

#[test]
fn issuers_that_are_none_are_refused() {
    run(&[
        (
            "B by the company's issuing CA",
            |world, scene| {
                let b = world.company.draft(Profile::AgentB, "shopper", &world.agent.spki());
                scene.chain[0] = World::bind(b, &scene.chain[1]).sign(&world.company.issuing_key);
            },
            "bank_issuer_untrusted",
        ),
        (
            "B in the issuing CA's name by the agent's own key",
            |world, scene| scene.chain[0] = World::bind(world.draft_b(), &scene.chain[1]).sign(&world.agent),
            "bank_signature_invalid",
        ),
        (
            "B by itself",
            |world, scene| {
                let name = name("shopper");
                let b = draft(Profile::AgentB, "shopper", &world.agent.spki(), (&name, &world.agent));
                scene.chain[0] = World::bind(b, &scene.chain[1]).sign(&world.agent);
            },
            "bank_issuer_untrusted",
        ),
        (
            "B by the root itself",
            |world, scene| {
                let parent = (world.bank.root_name.as_slice(), &world.bank.root_key);
                let b = draft(Profile::AgentB, "shopper", &world.agent.spki(), parent);
                scene.chain[0] = World::bind(b, &scene.chain[1]).sign(&world.bank.root_key);
            },
            "bank_issuer_untrusted",
        ),
        (
            "a CA in the issuing CA's name by a stranger's root",
            |_, scene| {
                let thief = World { bank: Party::new("bank"), company: Party::new("secco"), agent: Key::new() };
                let chain = Scene::of(&thief).chain;
                scene.chain = chain;
            },
            // Its root has the right name, but another key.
            "too_many_certificates",
        ),
        (
            "a CA that says the root issued it",
            |world, scene| {
                let thief = Key::new();
                let parent = (world.bank.root_name.as_slice(), &world.bank.root_key);
                let authority = draft(Profile::Issuing, "thief", &thief.spki(), parent).sign(&thief);
                let name = name("thief");
                let b = draft(Profile::AgentB, "shopper", &world.agent.spki(), (&name, &thief));
                scene.chain[0] = World::bind(b, &scene.chain[1]).sign(&thief);
                scene.chain.push(authority);
            },
            "bank_chain_invalid",
        ),
        (
            "an endorsement as the issuer of B",
            |world, scene| {
                let name = name("shopper");
                let b = draft(Profile::AgentB, "x", &Key::new().spki(), (&name, &world.agent));
                scene.chain[0] = World::bind(b, &scene.chain[1]).sign(&world.agent);
            },
            "bank_issuer_untrusted",
        ),
        (
            "a CA below the issuing CA",
            |world, scene| {
                let below = Key::new();
                let parent = (world.bank.issuing_name.as_slice(), &world.bank.issuing_key);
                scene.chain.push(draft(Profile::Issuing, "below", &below.spki(), parent).sign(&world.bank.issuing_key));
                let name = name("below");
                let b = draft(Profile::AgentB, "shopper", &world.agent.spki(), (&name, &below));
                scene.chain[0] = World::bind(b, &scene.chain[1]).sign(&below);
            },
            "too_many_certificates",
        ),
        ("a bent signature of B", |_, scene| *scene.chain[0].last_mut().unwrap() ^= 1, "bank_signature_invalid"),
        ("a bent signature of S", |_, scene| *scene.chain[1].last_mut().unwrap() ^= 1, "endorsement_signature_invalid"),
        (
            "a bent signature of an issuing CA",
            |_, scene| *scene.chain[2].last_mut().unwrap() ^= 1,
            "bank_chain_invalid",
        ),
        (
            "a bent signature of a root",
            |_, scene| *scene.company_root.last_mut().unwrap() ^= 1,
            "endorsement_chain_invalid",
        ),
    ]);
}

#[test]
fn authorities_that_break_rfc_5280_are_refused() {
    type Bend = fn(&mut Draft);
    fn untouched(_: &mut Draft) {}
    let table: &[(&str, Bend, Bend)] = &[
        ("issuing CA that is none", untouched, |issuing| issuing.set(oid::BASIC_CONSTRAINTS, vec![0x30, 0])),
        ("issuing CA without keyCertSign", untouched, |issuing| issuing.set(oid::KEY_USAGE, vec![3, 2, 1, 2])),
        ("issuing CA without key usage", untouched, |issuing| issuing.remove(oid::KEY_USAGE)),
        ("issuing CA without critical constraints", untouched, |issuing| {
            issuing.set_critical(oid::BASIC_CONSTRAINTS, false);
        }),
        ("expired issuing CA", untouched, |issuing| issuing.not_after = utc_time(NOW.plus_ms(-1000))),
        ("an unknown critical extension", untouched, |issuing| issuing.add(&[0x2a, 3, 4], true, vec![5, 0])),
        ("the host of the identity excluded", untouched, |issuing| {
            issuing.add(NAME_CONSTRAINTS, true, constraints(1, &der::element(0x86, b"countersign.example")));
        }),
        ("another host permitted", untouched, |issuing| {
            issuing.add(NAME_CONSTRAINTS, true, constraints(0, &der::element(0x86, b".bank.example")));
        }),
        (
            "the subject excluded by the root",
            |root| {
                let attribute = der::sequence(&[&[6, 3, 0x55, 4, 3], &der::element(der::PRINTABLE_STRING, b"SHOPPER")]);
                let base = der::element(0xa4, &der::sequence(&[&der::element(der::SET, &attribute)]));
                root.add(NAME_CONSTRAINTS, true, constraints(1, &base));
            },
            untouched,
        ),
        ("constraints that are not critical", untouched, |issuing| {
            issuing.add(NAME_CONSTRAINTS, false, constraints(1, &der::element(0x82, b"other.example")));
        }),
        ("constraints that constrain nothing", untouched, |issuing| issuing.add(NAME_CONSTRAINTS, true, vec![0x30, 0])),
        ("a policy required that is not there", untouched, |issuing| {
            issuing.add(&[0x55, 0x1d, 0x24], true, vec![0x30, 3, 0x80, 1, 0]);
        }),
        (
            "a root of path length 0",
            |root| root.set(oid::BASIC_CONSTRAINTS, vec![0x30, 6, 1, 1, 0xff, 2, 1, 0]),
            untouched,
        ),
        ("a root with an unknown critical extension", |root| root.add(&[0x2a, 3, 4], true, vec![5, 0]), untouched),
        ("an expired root", |root| root.not_after = utc_time(NOW.plus_ms(-1000)), untouched),
        ("a root for one usage", |root| root.add(oid::EXTENDED_KEY_USAGE, false, eku(oid::CLIENT_AUTH)), untouched),
    ];
    for (what, bend_root, bend_issuing) in table {
        for bent in ["bank", "secco"] {
            let party = Party::bent(bent, bend_root, bend_issuing);
            let world = match bent {
                "bank" => World { bank: party, ..World::new() },
                _ => World { company: party, ..World::new() },
            };
            let expected = if bent == "bank" { "bank_chain_invalid" } else { "endorsement_chain_invalid" };
            assert_eq!(Scene::of(&world).verdict(), expected, "{what} of {bent}");
        }
    }
}

#[test]
fn tricks_with_the_encoding_are_refused() {
    run(&[
        ("a byte after B", |_, scene| scene.chain[0].push(0), "bank_certificate_malformed"),
        ("a byte after S", |_, scene| scene.chain[1].push(0), "endorsement_malformed"),
        ("B cut short", |_, scene| scene.chain[0].truncate(300), "bank_certificate_malformed"),
        (
            "the outer length in an octet more",
            |_, scene| scene.chain[0] = long_length(&scene.chain[0]),
            "bank_certificate_malformed",
        ),
        (
            "the signed part's length in an octet more",
            |world, scene| scene.forge_b(world, |tbs| long_length(&tbs)),
            "bank_certificate_malformed",
        ),
        (
            "TRUE as 1",
            |world, scene| scene.forge_b(world, |tbs| replaced(tbs, &[1, 1, 0xff], &[1, 1, 1])),
            "bank_certificate_malformed",
        ),
        (
            "FALSE written out",
            |world, scene| scene.bend_b(world, |b| b.set(oid::BASIC_CONSTRAINTS, vec![0x30, 3, 1, 1, 0])),
            "bank_profile_violated",
        ),
        (
            "a key usage with a zero more",
            |world, scene| scene.bend_b(world, |b| b.set(oid::KEY_USAGE, vec![3, 3, 7, 0x80, 0])),
            "bank_profile_violated",
        ),
        (
            "version 1 written out",
            |world, scene| scene.bend_b(world, |b| b.version = vec![0xa0, 3, 2, 1, 0]),
            "bank_certificate_malformed",
        ),
        (
            "version 2",
            |world, scene| scene.bend_b(world, |b| b.version = vec![0xa0, 3, 2, 1, 1]),
            "bank_profile_violated",
        ),
        (
            "version 4",
            |world, scene| scene.bend_s(world, |s| s.version = vec![0xa0, 3, 2, 1, 3]),
            "endorsement_profile_violated",
        ),
        (
            "a serial number of zero",
            |world, scene| scene.bend_b(world, |b| b.serial = vec![0]),
            "bank_profile_violated",
        ),
        (
            "a negative serial number",
            |world, scene| scene.bend_b(world, |b| b.serial = vec![0xc1; 16]),
            "bank_profile_violated",
        ),
        (
            "a serial number with a zero before it",
            |world, scene| scene.bend_b(world, |b| b.serial = [&[0, 0x41][..], &[1; 15]].concat()),
            "bank_certificate_malformed",
        ),
        (
            "a serial number of 21 octets",
            |world, scene| scene.bend_s(world, |s| s.serial = vec![0x41; 21]),
            "endorsement_profile_violated",
        ),
        (
            "another algorithm outside",
            |world, scene| scene.bend_b(world, |b| b.outer_algorithm[11] = 3),
            "bank_profile_violated",
        ),
        (
            "parameters behind the algorithm",
            |world, scene| {
                scene.bend_b(world, |b| {
                    let identifier = der::sequence(&[&b.inner_algorithm[2..], &[5, 0]]);
                    (b.inner_algorithm, b.outer_algorithm) = (identifier.clone(), identifier);
                });
            },
            "bank_profile_violated",
        ),
        (
            "bits left unused in the signature",
            |_, scene| {
                let (start, signature) = {
                    let b = Certificate::read(&scene.chain[0]).unwrap();
                    (b.raw.len() - b.signature.len() - 1, b.signature.len())
                };
                assert_eq!(scene.chain[0].len(), start + 1 + signature);
                scene.chain[0][start] = 1;
            },
            "bank_certificate_malformed",
        ),
        (
            "an extension twice",
            |world, scene| scene.bend_s(world, |s| s.add(oid::KEY_USAGE, true, vec![3, 2, 7, 0x80])),
            "endorsement_profile_violated",
        ),
        (
            "an unknown critical extension",
            |world, scene| scene.bend_b(world, |b| b.add(&[0x2a, 3, 4], true, vec![5, 0])),
            "bank_profile_violated",
        ),
        (
            "ten thousand extensions",
            |world, scene| scene.bend_b(world, |b| (0..10_000).for_each(|_| b.add(&[0x2a, 3, 4], false, vec![5, 0]))),
            "bank_certificate_malformed",
        ),
        (
            "a compressed point",
            |world, scene| {
                scene.bend_b(world, |b| {
                    let point = [&[2], &b.spki[27..59]].concat();
                    b.spki = der::sequence(&[&b.spki[2..23], &der::bit_string(&point)]);
                });
            },
            "bank_profile_violated",
        ),
        (
            "names in another string type",
            |world, scene| {
                scene.bend_b(world, |b| {
                    b.issuer = replaced(b.issuer.clone(), &[der::UTF8_STRING], &[der::PRINTABLE_STRING])
                });
            },
            "bank_issuer_untrusted",
        ),
        (
            "a megabyte",
            |_, scene| scene.chain[0] = der::element(der::SEQUENCE, &vec![0; 1 << 20]),
            "bank_certificate_malformed",
        ),
    ]);
}

#[test]
fn lists_are_believed_only_under_their_issuer_and_what_they_say_counts() {
    fn with(scene: &mut Scene, world: &World, bank: &[&[u8]], company: &[&[u8]]) {
        scene.lists = vec![signed_list(&world.bank, bank), signed_list(&world.company, company)];
    }
    /// The bank's list is honest, the company's is bent.
    fn bent(scene: &mut Scene, world: &World, bend: impl Fn(&mut DraftList)) {
        let mut company = list(&world.company, &[]);
        bend(&mut company);
        scene.lists = vec![signed_list(&world.bank, &[]), company.sign(&world.company.issuing_key)];
    }
    run(&[
        (
            "B revoked",
            |world, scene| with(scene, world, &[&serial_of(&scene.chain[0].clone())], &[]),
            "bank_certificate_revoked",
        ),
        (
            "S revoked",
            |world, scene| with(scene, world, &[], &[&serial_of(&scene.chain[1].clone())]),
            "endorsement_revoked",
        ),
        (
            "the bank's issuing CA revoked",
            |world, scene| {
                with(scene, world, &[], &[]);
                scene.lists.push(root_list(&world.bank, &[&serial_of(&world.bank.issuing)]));
            },
            "bank_issuer_revoked",
        ),
        (
            "the company's issuing CA revoked",
            |world, scene| {
                with(scene, world, &[], &[]);
                scene.lists.push(root_list(&world.company, &[&serial_of(&world.company.issuing)]));
            },
            "endorsement_issuer_revoked",
        ),
        (
            "no list of the bank",
            |world, scene| scene.lists = vec![signed_list(&world.company, &[])],
            "bank_status_missing",
        ),
        (
            "no list of the company",
            |world, scene| scene.lists = vec![signed_list(&world.bank, &[])],
            "endorsement_status_missing",
        ),
        (
            "a stranger's list alone",
            |_, scene| scene.lists = vec![signed_list(&Party::new("x"), &[])],
            "endorsement_status_missing",
        ),
        (
            "past its next update",
            |world, scene| {
                bent(scene, world, |list| {
                    list.dates = [utc_time(NOW.plus_ms(-2 * HOUR_MS)), utc_time(NOW.plus_ms(-1000))].concat();
                });
            },
            "crl_expired",
        ),
        (
            "from the future",
            |world, scene| {
                bent(scene, world, |list| {
                    list.dates = [utc_time(NOW.plus_ms(HOUR_MS)), utc_time(NOW.plus_ms(2 * HOUR_MS))].concat();
                });
            },
            "crl_not_yet_valid",
        ),
        (
            "by another key in the issuer's name",
            |world, scene| {
                scene.lists =
                    vec![signed_list(&world.bank, &[]), list(&world.company, &[]).sign(&world.company.root_key)];
            },
            "crl_signature_invalid",
        ),
        (
            "by the other party in the issuer's name",
            |world, scene| {
                bent(scene, world, |list| list.issuer = name("nobody"));
            },
            "crl_issuer_mismatch",
        ),
        ("garbage", |_, scene| scene.lists = vec![vec![0x30, 0]], "crl_malformed"),
        (
            "a byte after it",
            |world, scene| {
                with(scene, world, &[], &[]);
                scene.lists[0].push(0);
            },
            "crl_malformed",
        ),
        (
            "a delta",
            |world, scene| {
                bent(scene, world, |list| {
                    list.extensions.push((oid::DELTA_CRL_INDICATOR.to_vec(), true, vec![2, 1, 1]))
                })
            },
            "crl_not_full",
        ),
        (
            "for CAs only",
            |world, scene| {
                bent(scene, world, |list| {
                    list.extensions.push((
                        oid::ISSUING_DISTRIBUTION_POINT.to_vec(),
                        true,
                        vec![0x30, 3, 0x82, 1, 0xff],
                    ));
                });
            },
            "crl_not_full",
        ),
        (
            "without a number",
            |world, scene| bent(scene, world, |list| drop(list.extensions.pop())),
            "crl_profile_violated",
        ),
        (
            "with a critical number",
            |world, scene| bent(scene, world, |list| list.extensions[1].1 = true),
            "crl_profile_violated",
        ),
        (
            "with an unknown critical extension",
            |world, scene| bent(scene, world, |list| list.extensions.push((vec![0x2a, 3], true, vec![5, 0]))),
            "crl_profile_violated",
        ),
        (
            "more lists than are looked at",
            |world, scene| scene.lists = vec![signed_list(&world.bank, &[]); super::elsewhere::LISTS_MAX + 1],
            "too_many_lists",
        ),
    ]);
}

/// Every byte of every certificate of an honest chain, two ways: no change is harmless.
#[test]
fn no_single_byte_can_be_changed() {
    let world = World::new();
    let mut scene = Scene::of(&world);
    let mut tried = 0;
    for place in 0..6 {
        let target = |scene: &mut Scene| -> Vec<u8> {
            match place {
                4 => scene.bank_root.clone(),
                5 => scene.company_root.clone(),
                _ => scene.chain[place].clone(),
            }
        };
        let honest = target(&mut scene);
        for index in 0..honest.len() {
            for change in [0x01, 0x80] {
                let mut changed = honest.clone();
                changed[index] ^= change;
                let mut scene = Scene::of_chain(&scene);
                match place {
                    4 => scene.bank_root = changed,
                    5 => scene.company_root = changed,
                    _ => scene.chain[place] = changed,
                }
                assert_ne!(scene.verdict(), "accepted", "certificate {place}, byte {index}, {change:#04x}");
                tried += 1;
            }
        }
    }
    assert!(tried > 4_000, "{tried}");
}

impl Scene {
    fn of_chain(other: &Self) -> Self {
        Self {
            bank_root: other.bank_root.clone(),
            company_root: other.company_root.clone(),
            chain: other.chain.clone(),
            lists: Vec::new(),
            at: other.at,
            custody_min: other.custody_min,
        }
    }
}

/// The files of docs/verifying, by name: an honest pair, its lists, and one that revokes S. The keys are forgotten.
pub(super) fn example() -> Vec<(&'static str, String)> {
    use crate::kernel::credential::pem::{Kind, encode};
    let world = World::new();
    let scene = Scene::of(&world);
    let revoking = signed_list(&world.company, &[&serial_of(&scene.chain[1])]);
    vec![
        ("bank-root.pem", encode(Kind::Certificate, &scene.bank_root)),
        ("company-root.pem", encode(Kind::Certificate, &scene.company_root)),
        ("pair.pem", scene.chain.iter().map(|der| encode(Kind::Certificate, der)).collect()),
        ("bank.crl", encode(Kind::Crl, &signed_list(&world.bank, &[]))),
        ("company.crl", encode(Kind::Crl, &signed_list(&world.company, &[&[0x41; 16]]))),
        ("revoked.crl", encode(Kind::Crl, &revoking)),
    ]
}
