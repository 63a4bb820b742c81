//! The bank of these lives: accounts, offers, agents, mandates.

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use countersign::kernel::command::*;
use countersign::kernel::jwt::TokenKey;
use countersign::kernel::mandate::{self, Mandate, OwnerKey, VerifiedMandate};
use countersign::kernel::sign::{Algorithm, spki_der};
use countersign::kernel::types::*;
use serde_json::{Value, json};

use super::people;
use crate::store::world::{DAY_MS, START, World, add_merchant, agent};

/// Name, owner, opening, the most of a day, zone.
pub const ACCOUNTS: [(&str, &str, i64, Option<i64>, &str); 3] = [
    ("A", "OWN_1", 900_000, None, "UTC"),
    ("B", "OWN_1", 400_000, Some(120_000), "Europe/Zurich"),
    ("C", "OWN_2", 500_000, None, "Pacific/Auckland"),
];
pub const OFFERS: [(&str, &str, i64); 3] =
    [("amazon.com", "LAPTOP", 89_999), ("amazon.com", "CABLE", 1_999), ("books.example", "BOOK", 30_001)];
pub const ADA: usize = 7;

pub fn account(name: &str) -> (&'static str, &'static str, i64, Option<i64>, &'static str) {
    ACCOUNTS.into_iter().find(|row| row.0 == name).unwrap_or_else(|| panic!("no account {name}"))
}

/// One, two, and one's name with another key.
pub fn agents() -> [AgentPrincipal; 3] {
    let long = |agent: AgentPrincipal| AgentPrincipal { not_after: UnixMillis(START + 300 * DAY_MS), ..agent };
    let (one, two) = (long(agent("purchaser", "one")), long(agent("purchaser", "two")));
    let rekeyed = AgentPrincipal { key: Sha256::of(&[b"another key"]), ..one.clone() };
    [one, two, rekeyed]
}

pub fn usd(cents: i64) -> Money {
    Money::from_minor(cents, "USD".parse().unwrap())
}

/// The commands that fill the bank.
pub fn founding(w: &World<'_>) -> Vec<Command> {
    let mut acts = vec![];
    for (name, owner, opening, day_max, zone) in ACCOUNTS {
        acts.push(Act::OpenAccount(NewAccount {
            account: name.parse().unwrap(),
            owner: owner.parse().unwrap(),
            currency: "USD".parse().unwrap(),
            opening: Some(usd(opening)),
            overdraft: None,
            day_max: day_max.map(usd),
            zone: zone.parse().unwrap(),
        }));
    }
    acts.extend(["amazon.com", "books.example"].map(|merchant| add_merchant(merchant, "Shop")));
    for (merchant, product, price) in OFFERS {
        acts.push(Act::AddProduct {
            merchant: merchant.parse().unwrap(),
            product: product.parse().unwrap(),
            title: product.into(),
            price: usd(price),
            on_hostile: countersign::kernel::text::OnHostile::Refuse,
        });
    }
    for (who, account) in [(0, "A"), (0, "B"), (1, "A"), (1, "C")] {
        acts.push(grant(who, account, true, None, 200));
    }
    acts.into_iter().map(|act| w.command(people::actor(ADA), act)).collect()
}

pub fn grant(who: usize, name: &str, with_transfer: bool, max: Option<i64>, days: i64) -> Act {
    let mut verbs = vec![Verb::Read, Verb::Purchase, Verb::Reverse];
    verbs.extend(with_transfer.then_some(Verb::Transfer));
    Act::AddGrant {
        agent: agents()[who].spiffe_id.clone(),
        account: name.parse().unwrap(),
        owner: account(name).1.parse().unwrap(),
        verbs,
        per_transaction_max: max.map(usd),
        expires: UnixMillis(START + days * DAY_MS),
    }
}

/// Once in this time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Period {
    Day,
    Month,
    Life,
}

/// A mandate that owners of these lives give. Amounts are cents.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    pub who: usize,
    pub account: &'static str,
    pub max: i64,
    pub budget: (i64, Period),
    /// Payments in a month.
    pub count: Option<usize>,
    pub payees: Option<&'static [&'static str]>,
}

pub const MANDATES: [Given; 4] = [
    Given {
        who: 0,
        account: "A",
        max: 60_000,
        budget: (70_000, Period::Day),
        count: None,
        payees: Some(&["B", "amazon.com"]),
    },
    Given { who: 0, account: "A", max: 200_000, budget: (250_000, Period::Month), count: Some(3), payees: None },
    Given { who: 1, account: "C", max: 90_000, budget: (120_000, Period::Life), count: None, payees: None },
    Given { who: 0, account: "B", max: 50_000, budget: (90_000, Period::Day), count: Some(4), payees: None },
];

static OWNERS_KEY: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap());

/// Signed by its owner now, for so many days.
pub fn signed(given: &Given, id: &str, now_ms: i64, days: i64) -> VerifiedMandate {
    let (_, owner, ..) = account(given.account);
    let (now, agent) = (now_ms.div_euclid(1000), agents()[given.who].clone());
    let (budget, period) = given.budget;
    let mut money = json!({ "type": "payment.budget", "currency": "USD", "max": budget / 100 });
    match period {
        Period::Day => money["period"] = json!("DAILY"),
        Period::Month => money["period"] = json!("MONTHLY"),
        Period::Life => {}
    }
    let range = json!({ "type": "payment.amount_range", "currency": "USD", "max": given.max });
    let mut limits = vec![range, money];
    if let Some(count) = given.count {
        limits.push(json!({ "type": "payment.agent_recurrence", "frequency": "MONTHLY", "per_period": count }));
    }
    if let Some(payees) = given.payees {
        let named = |payee: &&str| {
            let id = if payee.len() == 1 { format!("account:{payee}") } else { (*payee).to_owned() };
            json!({ "id": id, "name": "Payee" })
        };
        let allowed: Vec<Value> = payees.iter().map(named).collect();
        limits.push(json!({ "type": "payment.allowed_payees", "allowed": allowed }));
    }
    let claims = json!({
        "vct": mandate::VCT, "iss": owner, "sub": agent.spiffe_id, "jti": id, "iat": now, "exp": now + days * 86_400,
        "cnf": { "kid": agent.key }, "payment_instrument": { "type": "account", "id": given.account },
        "constraints": limits,
    });
    let spki = spki_der(Algorithm::P256, OWNERS_KEY.public_key().as_ref());
    let key = TokenKey { id: Sha256::of(&[&spki]), spki };
    let draft = mandate::draft(key.id, &Mandate::from_claims(&claims).unwrap(), &[]).unwrap();
    let signature = OWNERS_KEY.sign(&SystemRandom::new(), &draft.input().message()).unwrap();
    let text = draft.signed(signature.as_ref()).unwrap();
    let key = OwnerKey { key, issuer: "cc".into(), serial: Serial::from_bytes(&[9]).unwrap() };
    mandate::verify(&text, &owner.parse().unwrap(), &[key], UnixMillis(now_ms)).unwrap()
}
