//! The people of these lives with their keys, and what they sign.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use countersign::kernel::approval::{ApprovalDocument, Evidence};
use countersign::kernel::command::{Actor, OperatorPrincipal, Verdict};
use countersign::kernel::credential::profile::Profile;
use countersign::kernel::ledger::Transaction;
use countersign::kernel::quorum::Side;
use countersign::kernel::sign::Algorithm;
use countersign::kernel::types::{KeyId, Sha256};

use crate::store::world::operator;
use crate::support::kit::{Key, Kit};

/// Name, roles, whose money is theirs, and whose key they use.
pub const PEOPLE: [(&str, &[&str], Option<&str>, &str); 10] = [
    ("anna", &["approver"], None, "anna"),
    ("ben", &["approver"], None, "ben"),
    ("carl", &["officer"], None, "carl"),
    ("dora", &["officer", "approver"], None, "dora"),
    ("olivia", &["owner"], Some("OWN_1"), "olivia"),
    ("otto", &["owner"], Some("OWN_2"), "otto"),
    ("omar", &["owner", "approver", "officer"], Some("OWN_1"), "omar"),
    // Enters most grants and policies.
    ("ada", &["administrator", "officer", "approver"], None, "ada"),
    ("aud", &["auditor"], None, "aud"),
    // Anna once more: another name, another certificate, the same key.
    ("anne", &["approver", "officer"], None, "anna"),
];

struct Holder {
    key: Key,
    certificate: Vec<u8>,
}

static KIT: LazyLock<Kit> = LazyLock::new(|| Kit::new(Algorithm::P256));

static HOLDERS: LazyLock<BTreeMap<&str, Holder>> = LazyLock::new(|| {
    let holder = |(.., of): (&str, &[&str], Option<&str>, &'static str)| {
        let key = Key::new(Algorithm::P256);
        let certificate = KIT.certificate(Profile::Operator, &key);
        (of, Holder { key, certificate })
    };
    // Of two who use one key the last one's stays: there is one for each name.
    PEOPLE.into_iter().map(holder).collect()
});

/// Anne's own certificate over Anna's key.
static ANOTHER: LazyLock<Vec<u8>> = LazyLock::new(|| KIT.certificate(Profile::Operator, &HOLDERS["anna"].key));

pub fn person(by: usize) -> OperatorPrincipal {
    let (name, roles, owner, _) = PEOPLE[by];
    OperatorPrincipal { asserted: false, owner: owner.map(|owner| owner.parse().unwrap()), ..operator(name, roles) }
}

pub fn actor(by: usize) -> Actor {
    Actor::Operator(person(by))
}

pub fn key_of(by: usize) -> KeyId {
    Sha256::of(&[&HOLDERS[PEOPLE[by].3].key.spki()])
}

/// How a signature comes about.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Proof {
    /// Over what the bank asks, by the person's own key.
    Own,
    None,
    /// Over another payment that waits.
    OfAnother,
    /// By somebody else's key under the person's certificate.
    Forged,
    /// Over the other word: yes for no.
    Turned,
}

pub fn evidence(asked: &Transaction, by: usize, side: Side, verdict: Verdict, proof: Proof) -> Option<Box<Evidence>> {
    let (name, .., holder) = PEOPLE[by];
    let verdict = match (proof, verdict) {
        (Proof::Turned, Verdict::Approve) => Verdict::Deny,
        (Proof::Turned, Verdict::Deny) => Verdict::Approve,
        (Proof::Own | Proof::None | Proof::OfAnother | Proof::Forged, verdict) => verdict,
    };
    if proof == Proof::None {
        return None;
    }
    let document = ApprovalDocument::asked(asked, &name.parse().unwrap(), side, verdict)?;
    let signer = if proof == Proof::Forged { &HOLDERS["aud"] } else { &HOLDERS[holder] };
    let certificate = if name == "anne" { &*ANOTHER } else { &HOLDERS[holder].certificate };
    let signature = signer.key.sign(&document.sign_input().unwrap().message());
    Some(Box::new(Evidence {
        document: String::from_utf8(document.canonical().unwrap()).unwrap(),
        signature: BASE64_STANDARD.encode(signature),
        certificate: BASE64_STANDARD.encode(certificate),
        passkey: None,
    }))
}
