//! SD-JWT (RFC 9901), read strictly: form, header, signature, disclosures.
//!
//! What is general purpose passes over digests without a disclosure, as a verifier that needs no claim in particular may;
//! a bank that is to keep every constraint may not. So this reader is our own, and the library `sd-jwt-payload` is the
//! second opinion: it must read the same claims.

use std::collections::{HashMap, HashSet};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sd_jwt_payload::{Hasher, SdJwt};
use serde_json::{Map, Value, json};

use super::{MANDATE_BYTES_MAX, MandateRefusal, OwnerKey, TYP};
use crate::kernel::json::{self, JsonRefused};
use crate::kernel::sign::{self, Algorithm};
use crate::kernel::types::{KeyId, Sha256};

/// The one algorithm of mandates (RFC 7518, 3.4).
const ALGORITHM: &str = "ES256";

/// The one hash of disclosures (RFC 9901, 4.1.1).
const DIGEST_ALGORITHM: &str = "sha-256";

/// r ‖ s.
const SIGNATURE_BYTES: usize = 64;

/// Nesting of a header, a payload or a disclosure.
const DEPTH_MAX: usize = 8;

const DISCLOSURES_MAX: usize = 64;

/// SHA-256 for the library.
struct Digests;

impl Hasher for Digests {
    fn digest(&self, input: &[u8]) -> Vec<u8> {
        Sha256::of(&[input]).0.to_vec()
    }

    fn alg_name(&self) -> &'static str {
        DIGEST_ALGORITHM
    }
}

/// The digest under which a payload names a disclosure (RFC 9901, 4.2.3).
pub(super) fn digest_of(disclosure: &str) -> String {
    Digests.encoded_digest(disclosure)
}

/// An array element's disclosure (RFC 9901, 4.2.2).
pub(super) fn element_disclosure(salt: [u8; 16], value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json!([URL_SAFE_NO_PAD.encode(salt), value]).to_string())
}

/// Header and payload as they are signed (RFC 7515, 5.1).
pub(super) fn signing_input(key: KeyId, payload: &Map<String, Value>) -> String {
    let header = json!({ "alg": ALGORITHM, "kid": key.hex(), "typ": TYP });
    let payload = Value::Object(payload.clone());
    let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    format!("{header}.{payload}")
}

/// The whole text.
pub(super) fn signed(signing_input: &str, disclosures: &[String], signature: &[u8]) -> Option<String> {
    let signature = sign::to_wire(Algorithm::P256, signature)?;
    let mut text = format!("{signing_input}.{}~", URL_SAFE_NO_PAD.encode(signature));
    for disclosure in disclosures {
        text.push_str(disclosure);
        text.push('~');
    }
    Some(text)
}

/// A mandate taken apart. Nothing of it is believed yet.
pub(super) struct Presented<'a> {
    signing_input: &'a str,
    header: Map<String, Value>,
    payload: Map<String, Value>,
    disclosures: Vec<&'a str>,
    signature: Vec<u8>,
}

impl<'a> Presented<'a> {
    /// # Errors
    /// [`MandateRefusal`] of form, header and payload.
    pub(super) fn read(text: &'a str) -> Result<Self, MandateRefusal> {
        if text.len() > MANDATE_BYTES_MAX {
            return Err(MandateRefusal::TooLong);
        }
        let (token, rest) = text.split_once('~').ok_or(MandateRefusal::Form)?;
        let mut disclosures: Vec<&str> = rest.split('~').collect();
        // What follows the last ~ is a key binding, or nothing.
        if disclosures.pop() != Some("") {
            return Err(MandateRefusal::KeyBinding);
        }
        if disclosures.contains(&"") {
            return Err(MandateRefusal::Form);
        }
        let (signing_input, signature) = token.rsplit_once('.').ok_or(MandateRefusal::Form)?;
        let signature = decoded(signature)?;
        Ok(Self { signature, ..Self::parts(signing_input, disclosures)? })
    }

    /// What is to be signed.
    pub(super) fn unsigned(signing_input: &'a str, disclosures: &'a [String]) -> Result<Self, MandateRefusal> {
        let told: usize = disclosures.iter().map(|disclosure| disclosure.len() + 1).sum();
        if signing_input.len().saturating_add(told) > MANDATE_BYTES_MAX {
            return Err(MandateRefusal::TooLong);
        }
        Self::parts(signing_input, disclosures.iter().map(String::as_str).collect())
    }

    fn parts(signing_input: &'a str, disclosures: Vec<&'a str>) -> Result<Self, MandateRefusal> {
        let (header, payload) = signing_input.split_once('.').ok_or(MandateRefusal::Form)?;
        if payload.contains('.') || header.is_empty() || payload.is_empty() {
            return Err(MandateRefusal::Form);
        }
        let header = object(&decoded(header)?, MandateRefusal::Header)?;
        checked(&header)?;
        let payload = object(&decoded(payload)?, MandateRefusal::Payload)?;
        if disclosures.len() > DISCLOSURES_MAX {
            return Err(MandateRefusal::DisclosuresTooMany);
        }
        Ok(Self { signing_input, header, payload, disclosures, signature: vec![] })
    }

    pub(super) fn payload(&self) -> &Map<String, Value> {
        &self.payload
    }

    pub(super) fn names(&self, key: KeyId) -> bool {
        self.header.get("kid").and_then(Value::as_str) == Some(&key.hex())
    }

    /// The key that it names.
    pub(super) fn key(&self) -> Option<KeyId> {
        Sha256::from_hex(self.header.get("kid")?.as_str()?).ok()
    }

    /// The one of these keys that it names.
    pub(super) fn key_of<'k>(&self, keys: &'k [OwnerKey]) -> Result<&'k OwnerKey, MandateRefusal> {
        keys.iter().find(|one| self.names(one.key.id)).ok_or(MandateRefusal::KeyUnknown)
    }

    pub(super) fn is_signed_by(&self, spki: &[u8]) -> Result<(), MandateRefusal> {
        if self.signature.len() != SIGNATURE_BYTES {
            return Err(MandateRefusal::Signature);
        }
        let fits = sign::raw_public_key(spki).is_some_and(|(algorithm, _)| algorithm == Algorithm::P256);
        let signature = sign::from_wire(Algorithm::P256, &self.signature).ok_or(MandateRefusal::Signature)?;
        let holds = fits && sign::signature_is_valid(spki, self.signing_input.as_bytes(), &signature);
        if holds { Ok(()) } else { Err(MandateRefusal::Signature) }
    }

    /// The claims with every digest replaced by what it stands for: each digest has its disclosure, each disclosure its
    /// one digest.
    ///
    /// # Errors
    /// [`MandateRefusal`] of digests and disclosures.
    pub(super) fn disclosed(&self) -> Result<Map<String, Value>, MandateRefusal> {
        if self.payload.get("_sd_alg").is_some_and(|name| name.as_str() != Some(DIGEST_ALGORITHM)) {
            return Err(MandateRefusal::DigestAlgorithm);
        }
        let mut disclosures = Disclosures::default();
        for text in &self.disclosures {
            if disclosures.told.insert(digest_of(text), Disclosure::read(text)?).is_some() {
                return Err(MandateRefusal::DisclosureRepeated);
            }
        }
        let mut payload = self.payload.clone();
        payload.shift_remove("_sd_alg");
        let claims = disclosures.members(payload)?;
        let unused = disclosures.told.keys().any(|digest| !disclosures.used.contains(digest));
        if unused { Err(MandateRefusal::DisclosureUnused) } else { Ok(claims) }
    }
}

/// What a digest stands for: a member of an object, or without a name an element of an array.
struct Disclosure {
    name: Option<String>,
    value: Value,
}

impl Disclosure {
    /// base64url of `[salt, name, value]` or `[salt, value]`, strict JSON.
    fn read(text: &str) -> Result<Self, MandateRefusal> {
        let bytes = decoded(text)?;
        strict(&bytes, MandateRefusal::DisclosureMalformed)?;
        let parts: Vec<Value> = serde_json::from_slice(&bytes).map_err(|_| MandateRefusal::DisclosureMalformed)?;
        let salt_is_text = parts.first().is_some_and(Value::is_string);
        let reserved = |name: &str| matches!(name, "_sd" | "_sd_alg" | "...");
        match parts.as_slice() {
            [_, value] if salt_is_text => Ok(Self { name: None, value: value.clone() }),
            [_, Value::String(name), value] if salt_is_text && !reserved(name) => {
                Ok(Self { name: Some(name.clone()), value: value.clone() })
            }
            _ => Err(MandateRefusal::DisclosureMalformed),
        }
    }
}

/// The disclosures by their digests, and the digests that were met.
#[derive(Default)]
struct Disclosures {
    told: HashMap<String, Disclosure>,
    used: HashSet<String>,
}

impl Disclosures {
    fn value(&mut self, value: Value) -> Result<Value, MandateRefusal> {
        match value {
            Value::Object(members) => Ok(Value::Object(self.members(members)?)),
            Value::Array(items) => {
                let items = items.into_iter().map(|item| self.item(item));
                Ok(Value::Array(items.collect::<Result<_, _>>()?))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(value),
        }
    }

    fn item(&mut self, item: Value) -> Result<Value, MandateRefusal> {
        let Some(digest) = item.get("...") else {
            return self.value(item);
        };
        let alone = item.as_object().is_some_and(|members| members.len() == 1);
        let digest = digest.as_str().filter(|_| alone).ok_or(MandateRefusal::DisclosureMalformed)?;
        let (name, value) = self.take(digest)?;
        if name.is_some() { Err(MandateRefusal::DisclosureMalformed) } else { self.value(value) }
    }

    fn members(&mut self, members: Map<String, Value>) -> Result<Map<String, Value>, MandateRefusal> {
        let mut read = Map::new();
        let mut digests = Value::Array(vec![]);
        for (name, value) in members {
            match name.as_str() {
                "_sd" => digests = value,
                "..." => return Err(MandateRefusal::DisclosureMalformed),
                _ => {
                    let value = self.value(value)?;
                    read.insert(name, value);
                }
            }
        }
        for digest in digests.as_array().ok_or(MandateRefusal::DisclosureMalformed)? {
            let digest = digest.as_str().ok_or(MandateRefusal::DisclosureMalformed)?;
            let (name, value) = self.take(digest)?;
            let name = name.filter(|name| !read.contains_key(name)).ok_or(MandateRefusal::DisclosureMalformed)?;
            let value = self.value(value)?;
            read.insert(name, value);
        }
        Ok(read)
    }

    fn take(&mut self, digest: &str) -> Result<(Option<String>, Value), MandateRefusal> {
        if !self.used.insert(digest.to_owned()) {
            return Err(MandateRefusal::DigestRepeated);
        }
        let Disclosure { name, value } = self.told.get(digest).ok_or(MandateRefusal::Hidden)?;
        Ok((name.clone(), value.clone()))
    }
}

/// The claims as `sd-jwt-payload` reads them; it knows nothing of mandates.
pub(super) fn second_reading(text: &str) -> Option<Map<String, Value>> {
    SdJwt::parse(text).ok()?.into_disclosed_object(&Digests).ok()
}

/// A header that says what it must, and nothing else.
fn checked(header: &Map<String, Value>) -> Result<(), MandateRefusal> {
    let text = |name: &str| header.get(name).and_then(Value::as_str);
    if header.contains_key("crit") {
        return Err(MandateRefusal::Critical);
    }
    if text("alg") != Some(ALGORITHM) {
        return Err(MandateRefusal::Algorithm);
    }
    if header.keys().any(|name| !["alg", "kid", "typ"].contains(&name.as_str())) {
        return Err(MandateRefusal::HeaderUnknown);
    }
    if text("typ") == Some(TYP) { Ok(()) } else { Err(MandateRefusal::Typ) }
}

fn decoded(part: &str) -> Result<Vec<u8>, MandateRefusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| MandateRefusal::Base64)
}

fn object(bytes: &[u8], otherwise: MandateRefusal) -> Result<Map<String, Value>, MandateRefusal> {
    strict(bytes, otherwise)?;
    serde_json::from_slice(bytes).map_err(|_| otherwise)
}

/// One JSON value that two readers cannot read differently: each key once, each number exact.
fn strict(bytes: &[u8], otherwise: MandateRefusal) -> Result<(), MandateRefusal> {
    let checked = json::check(bytes, MANDATE_BYTES_MAX, DEPTH_MAX).and_then(|()| json::check_numbers(bytes));
    checked.map_err(|refused| match refused {
        JsonRefused::DuplicateKey { .. } => MandateRefusal::DuplicateKey,
        JsonRefused::ImpreciseNumber { .. } => MandateRefusal::Number,
        JsonRefused::TooLong { .. } | JsonRefused::TooDeep { .. } | JsonRefused::NotJson { .. } => otherwise,
    })
}
