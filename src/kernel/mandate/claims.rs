//! The claims of a mandate: read strictly, written as they are read.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::constraint;
use super::refusal::MandateRefusal;
use super::sd_jwt::{digest_of, element_disclosure};
use super::{LIFE_DAYS_MAX, Mandate, VCT};
use crate::kernel::sign::{self, Algorithm};
use crate::kernel::types::{AccountId, KeyId, MandateId, OwnerId, Sha256, SpiffeId, UnixMillis};

/// All claims, and no others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimsWire {
    #[serde(rename = "vct")]
    _vct: String,
    iss: OwnerId,
    sub: SpiffeId,
    jti: MandateId,
    iat: i64,
    nbf: Option<i64>,
    exp: i64,
    cnf: Map<String, Value>,
    payment_instrument: InstrumentWire,
    constraints: Vec<Value>,
}

/// AP2's `payment_instrument`: here always an account.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InstrumentWire {
    #[serde(rename = "type")]
    kind: String,
    id: String,
}

/// A public key of an elliptic curve (RFC 7518, 6.2.1).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JwkWire {
    kty: String,
    crv: String,
    x: String,
    y: String,
}

/// How payees are written.
#[derive(Clone, Copy)]
pub(super) enum Payees<'a> {
    Plain,
    /// Each as a digest, with these salts.
    Disclosed(&'a [[u8; 16]]),
}

/// Reads disclosed claims.
pub(super) fn read(claims: &Map<String, Value>) -> Result<Mandate, MandateRefusal> {
    match claims.get("vct").map(Value::as_str) {
        Some(Some(VCT)) => {}
        Some(_) => return Err(MandateRefusal::Vct),
        None => return Err(MandateRefusal::Claims),
    }
    if claims.values().any(Value::is_null) {
        return Err(MandateRefusal::Claims);
    }
    let wire: ClaimsWire = serde_json::from_value(Value::Object(claims.clone())).map_err(|_| MandateRefusal::Claims)?;
    let not_before = wire.nbf.unwrap_or(wire.iat);
    let begins = wire.iat >= 0 && not_before >= wire.iat;
    let life = wire.exp.checked_sub(wire.iat).filter(|life| *life <= LIFE_DAYS_MAX * 86_400);
    if !begins || life.is_none() || wire.exp <= not_before {
        return Err(MandateRefusal::Lifetime);
    }
    if wire.payment_instrument.kind != "account" {
        return Err(MandateRefusal::Instrument);
    }
    let account: AccountId = wire.payment_instrument.id.parse().map_err(|_| MandateRefusal::Instrument)?;
    let at = |seconds: i64| seconds.checked_mul(1000).map(UnixMillis).ok_or(MandateRefusal::Lifetime);
    Ok(Mandate {
        id: wire.jti,
        owner: wire.iss,
        agent: wire.sub,
        agent_key: confirmed(&wire.cnf)?,
        account,
        issued: at(wire.iat)?,
        not_before: at(not_before)?,
        expires: at(wire.exp)?,
        constraints: constraint::read(&wire.constraints)?,
    })
}

/// The key of a confirmation claim (RFC 7800, 3.2 and 3.4): a JWK, or the key's id as this product names keys.
fn confirmed(cnf: &Map<String, Value>) -> Result<KeyId, MandateRefusal> {
    let key = match (cnf.len(), cnf.get("jwk"), cnf.get("kid")) {
        (1, Some(jwk), None) => key_of(jwk),
        (1, None, Some(kid)) => kid.as_str().filter(|kid| is_lower_hex(kid)).and_then(|kid| Sha256::from_hex(kid).ok()),
        (_, _, _) => None,
    };
    key.ok_or(MandateRefusal::Confirmation)
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn key_of(jwk: &Value) -> Option<KeyId> {
    let jwk: JwkWire = serde_json::from_value(jwk.clone()).ok()?;
    let (algorithm, bytes) = match (jwk.kty.as_str(), jwk.crv.as_str()) {
        ("EC", "P-256") => (Algorithm::P256, 32),
        ("EC", "P-384") => (Algorithm::P384, 48),
        (_, _) => return None,
    };
    let mut point = vec![4];
    for coordinate in [&jwk.x, &jwk.y] {
        point.extend(URL_SAFE_NO_PAD.decode(coordinate).ok().filter(|scalar| scalar.len() == bytes)?);
    }
    let spki = sign::spki_der(algorithm, &point);
    sign::public_key_is_sound(&spki).then(|| Sha256::of(&[&spki]))
}

/// The payload of a mandate, and its disclosures.
pub(super) fn written(mandate: &Mandate, payees: Payees<'_>) -> (Map<String, Value>, Vec<String>) {
    let mut disclosures = Vec::new();
    let allowed = mandate.constraints.payees.as_ref().map(|allowed| {
        let mut values: Vec<Value> = allowed.iter().map(constraint::Payee::written).collect();
        if let Payees::Disclosed(salts) = payees {
            for (value, salt) in values.iter_mut().zip(salts) {
                let disclosure = element_disclosure(*salt, value);
                *value = json!({ "...": digest_of(&disclosure) });
                disclosures.push(disclosure);
            }
        }
        values
    });
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    put("vct", json!(VCT));
    put("iss", json!(mandate.owner));
    put("sub", json!(mandate.agent));
    put("jti", json!(mandate.id));
    put("iat", json!(mandate.issued.seconds()));
    if mandate.not_before != mandate.issued {
        put("nbf", json!(mandate.not_before.seconds()));
    }
    put("exp", json!(mandate.expires.seconds()));
    put("cnf", json!({ "kid": mandate.agent_key }));
    put("payment_instrument", json!({ "type": "account", "id": mandate.account }));
    put("constraints", constraint::written(&mandate.constraints, allowed));
    if !disclosures.is_empty() {
        put("_sd_alg", json!("sha-256"));
    }
    (claims, disclosures)
}
