//! Mandates from outside: what is read, what is refused by which name, what fits and what is counted.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::kernel::sign::{self, Algorithm};
use crate::kernel::types::{Money, Sha256};

mod fits;
mod hostile;
mod outlook;

pub(super) const NOW: UnixMillis = UnixMillis(1_795_234_800_000);
pub(super) const AGENT: &str = "spiffe://bank.example/agent/purchaser/shopper";
pub(super) const ID: &str = "mdt_01JD5T9GQ8ZK3VYBX4M2N6P7RS";

/// An owner with a key.
pub(super) struct Owner {
    pair: EcdsaKeyPair,
    pub key: TokenKey,
}

impl Owner {
    pub fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let spki = sign::spki_der(Algorithm::P256, pair.public_key().as_ref());
        Self { pair, key: TokenKey { id: Sha256::of(&[&spki]), spki } }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    pub fn signs(&self, draft: &Draft) -> String {
        draft.signed(&self.sign(&draft.input().message())).unwrap()
    }

    /// These texts as header and payload, signed, with these disclosures.
    pub fn signs_raw(&self, header: &str, payload: &str, disclosures: &[String]) -> String {
        let input = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        sd_jwt::signed(&input, disclosures, &self.sign(input.as_bytes())).unwrap()
    }

    pub fn header(&self) -> Value {
        json!({ "alg": "ES256", "kid": self.key.id.hex(), "typ": TYP })
    }

    pub fn verify(&self, text: &str) -> Result<VerifiedMandate, MandateRefusal> {
        verify(text, &"own-001".parse().unwrap(), &[certified(&self.key)], NOW)
    }
}

/// A key with a certificate of the bank's.
pub(super) fn certified(key: &TokenKey) -> OwnerKey {
    OwnerKey { key: key.clone(), issuer: "bb".into(), serial: Serial::from_bytes(&[7]).unwrap() }
}

pub(super) fn usd(minor: i64) -> Money {
    Money::from_minor(minor, "USD".parse().unwrap())
}

/// The claims of a mandate that is good.
pub(super) fn good() -> Value {
    json!({
        "vct": VCT, "iss": "own-001", "sub": AGENT, "jti": ID, "iat": NOW.seconds(), "exp": NOW.seconds() + 86_400 * 30,
        "cnf": { "kid": "07".repeat(32) },
        "payment_instrument": { "type": "account", "id": "CHK_001" },
        "constraints": [
            { "type": "payment.allowed_payees", "allowed": [
                { "id": "amazon.com", "name": "Amazon", "website": "https://amazon.com" },
                { "id": "account:SAV_001", "name": "Savings" },
            ] },
            { "type": "payment.amount_range", "currency": "USD", "max": 20_000, "min": 100 },
            { "type": "payment.budget", "currency": "USD", "max": 500.5, "period": "MONTHLY" },
            { "type": "payment.agent_recurrence", "frequency": "WEEKLY", "max_occurrences": 12, "per_period": 3 },
            { "type": "payment.execution_date", "not_before": "2026-11-01", "not_after": "2027-01-31T23:59:59Z",
              "days": ["MON", "SUN"] },
        ],
    })
}

pub(super) fn mandate() -> Mandate {
    Mandate::from_claims(&good()).unwrap()
}

#[test]
fn a_mandate_is_drafted_signed_read_and_verified() {
    let owner = Owner::new();
    for salts in [vec![], vec![[1; 16], [2; 16]]] {
        let draft = draft(owner.key.id, &mandate(), &salts).unwrap();
        let SignInput::Mandate { signing_input, disclosures } = draft.input() else { panic!("another input") };
        assert_eq!(disclosures.len(), salts.len());
        assert_eq!(lint_signing_input(&signing_input, &disclosures, owner.key.id, NOW), Ok(()));
        let text = owner.signs(&draft);
        assert_eq!(claimed_owner(&text).unwrap().as_str(), "own-001");
        let verified = owner.verify(&text).unwrap();
        assert_eq!((verified.mandate(), verified.text(), verified.key()), (&mandate(), text.as_str(), owner.key.id));
        let certificate = Some(("bb".to_owned(), Serial::from_bytes(&[7]).unwrap()));
        assert_eq!(verified.signer(), &Signer { key: owner.key.id, certificate });
        assert_eq!(Signer::named_in(&text), Some(Signer { key: owner.key.id, certificate: None }));
    }
    assert_eq!(Mandate::from_claims(&mandate().claims()), Ok(mandate()));
}

/// The text of another maker: a key as JWK, claims in another order and with spaces, payees disclosed one by one.
#[test]
fn a_mandate_that_another_wallet_wrote_is_read() {
    let (owner, agent) = (Owner::new(), Owner::new());
    let (_, point) = sign::raw_public_key(&agent.key.spki).unwrap();
    let [x, y] = [&point[1..33], &point[33..]].map(|scalar| URL_SAFE_NO_PAD.encode(scalar));
    let payee = json!({ "website": "https://amazon.com", "name": "Amazon", "id": "amazon.com" });
    let disclosure = sd_jwt::element_disclosure([9; 16], &payee);
    let mut claims = good();
    claims["constraints"][0]["allowed"] = json!([{ "...": sd_jwt::digest_of(&disclosure) }]);
    claims["cnf"] = json!({ "jwk": { "y": y, "x": x, "crv": "P-256", "kty": "EC" } });
    claims["_sd_alg"] = json!("sha-256");
    let payload = serde_json::to_string_pretty(&claims).unwrap().replace("500.5", "500.50");
    let text = owner.signs_raw(&owner.header().to_string(), &payload, &[disclosure]);
    let verified = owner.verify(&text).unwrap();
    assert_eq!(verified.mandate().agent_key, agent.key.id);
    assert_eq!(verified.mandate().constraints.payees.as_ref().map(Vec::len), Some(1));
    assert_eq!(verified.mandate().constraints.budget.unwrap().max, usd(50_050));
}

/// Whatever a wallet wrote is read again from the bank's book as what was verified, or is refused.
#[test]
fn what_is_verified_is_read_again_from_the_book() {
    let owner = Owner::new();
    let moments = [
        "2026-11-30",
        "0000-01-01",
        "9999-12-31",
        "+12345-1-1",
        "-999-01-01",
        "+2026-01-1",
        "2026-1-01",
        "2026-11-30T08:00:00Z",
        "2026-11-30t08:00:00.1234567z",
        "2026-11-30T08:00:00-23:59",
        "2026-12-31T23:59:60Z",
        "0000-01-01T00:00:00Z",
        "0000-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-00:01",
    ];
    let mut taken = vec![];
    for moment in moments {
        for member in ["not_before", "not_after"] {
            let mut claims = good();
            claims["constraints"][4][member] = json!(moment);
            if let Ok(verified) = owner.verify(&owner.signs_raw(&owner.header().to_string(), &claims.to_string(), &[]))
            {
                let mandate = verified.mandate();
                let kept = mandate.claims().to_string();
                assert_eq!(Mandate::from_claims(&serde_json::from_str(&kept).unwrap()).as_ref(), Ok(mandate), "{kept}");
                taken.push(moment);
            }
            let input = [owner.header(), claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
            let lint = lint_signing_input(input.as_bytes(), &[], owner.key.id, NOW);
            assert_eq!(lint.is_ok(), taken.last() == Some(&moment), "a worker signs what the bank takes: {moment}");
        }
    }
    let good_ones = [0, 1, 2, 7, 8, 9, 10, 11, 13].map(|at| [moments[at]; 2]).concat();
    assert_eq!(taken, good_ones);
}

#[test]
fn a_worker_signs_only_what_the_bank_would_take_from_this_key_now() {
    let owner = Owner::new();
    let lint = |claims: &Value, disclosures: &[String], at: UnixMillis, header: &Value| {
        let input = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        lint_signing_input(input.as_bytes(), disclosures, owner.key.id, at)
    };
    let header = owner.header();
    assert_eq!(lint(&good(), &[], NOW, &header), Ok(()));
    let mut unknown = good();
    unknown["constraints"][0]["type"] = json!("payment.allowed_pisps");
    assert_eq!(lint(&unknown, &[], NOW, &header), Err(MandateRefusal::ConstraintUnknown));
    let mut hidden = good();
    hidden["constraints"][0]["allowed"][0] = json!({ "...": "A".repeat(43) });
    assert_eq!(lint(&hidden, &[], NOW, &header), Err(MandateRefusal::Hidden));
    for off in [-61_000, 61_000] {
        assert_eq!(lint(&good(), &[], NOW.plus_ms(off), &header), Err(MandateRefusal::FromTheFuture));
    }
    let mut other = header.clone();
    other["kid"] = json!("0".repeat(64));
    assert_eq!(lint(&good(), &[], NOW, &other), Err(MandateRefusal::KeyUnknown));
    other["typ"] = json!("at+jwt");
    assert_eq!(lint(&good(), &[], NOW, &other), Err(MandateRefusal::Typ));
    for bytes in [&b"\xff"[..], b"", b".", b"e30", b"e30.", b"e30.e30.e30"] {
        assert!(lint_signing_input(bytes, &[], owner.key.id, NOW).is_err());
    }
    // A claim of the bank's own tokens never passes as a mandate: the lists of types are disjoint.
    assert!(crate::kernel::jwt::TokenKind::ALL.iter().all(|kind| kind.typ() != TYP));
}
