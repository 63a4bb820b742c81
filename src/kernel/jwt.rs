//! The bank's tokens: JSON Web Tokens (RFC 7519) signed with ES256 (RFC 7515, RFC 7518) by its token key, in one
//! profile for access tokens (RFC 9068) and for the state that a client carries between two calls.
//!
//! Shared by the bank that composes and verifies, and by the worker that reads back what it signs. The profile is
//! closed: the header says `alg`, `kid` and `typ` and nothing else, `alg` is read only to be compared, the key comes
//! from the bank's own list, and the payload is the canonical JSON of exactly the claims of its type.
//!
//! ```text
//! let draft = jwt::draft(TokenKind::RequestState, key.id, &Claims { iss, sub, aud, iat, exp, more })?;
//! let token = draft.signed(&hsm.sign(key.id, draft.input())?);
//! let verified = jwt::verify::<More>(&token, &keys, &Expected { kind, issuer, audience, now, skew_max_s })?;
//! ```

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::kernel::canon::{self, CanonRefused};
use crate::kernel::json::{self, JsonRefused};
use crate::kernel::sign::{self, Algorithm, SignInput};
use crate::kernel::types::{KeyId, UnixMillis};

mod refusal;

pub use refusal::TokenRefusal;

/// Longest token: what fits a header line of ordinary servers.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Nesting of header and payload.
const DEPTH_MAX: usize = 8;

/// The one algorithm of tokens (RFC 7518, 3.4).
const ALGORITHM: &str = "ES256";

/// r ‖ s.
const SIGNATURE_BYTES: usize = 64;

/// So far may the clock of who composes a token be off from the worker's that signs it.
const SIGNER_SKEW_MAX_S: u64 = 60;

/// What a token is for. Part of what is signed, so that none is taken for another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenKind {
    /// Lets an agent use tools, on connections with its own certificate (RFC 9068).
    Access,
    /// What a client carries back unread with its next call.
    RequestState,
}

impl TokenKind {
    pub const ALL: [Self; 2] = [Self::Access, Self::RequestState];

    /// `typ` of the header (RFC 8725, 3.11).
    pub fn typ(self) -> &'static str {
        match self {
            Self::Access => "at+jwt",
            Self::RequestState => "request-state+jwt",
        }
    }

    /// From `iat` to `exp` at most.
    pub fn lifetime_max_s(self) -> i64 {
        match self {
            Self::Access => 300,
            Self::RequestState => 3600,
        }
    }
}

/// What every token says, and what its type adds. Times are seconds since 1970.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claims<T> {
    pub iss: String,
    pub sub: String,
    pub aud: String,
    pub iat: i64,
    pub exp: i64,
    #[serde(flatten)]
    pub more: T,
}

/// A key whose tokens are taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenKey {
    pub id: KeyId,
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
}

/// What is signed of a token (RFC 7515, 5.1).
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    signing_input: String,
}

/// Composes a token of this kind that this key is to sign.
///
/// # Errors
/// [`CanonRefused`] when the claims have no canonical form: a float among them.
pub fn draft<T: Serialize>(kind: TokenKind, key: KeyId, claims: &Claims<T>) -> Result<Draft, CanonRefused> {
    let header = canon::canonical(&json!({ "alg": ALGORITHM, "kid": key.hex(), "typ": kind.typ() }))?;
    let payload = canonical(claims)?;
    let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
    Ok(Draft { signing_input: format!("{header}.{payload}") })
}

fn canonical<T: Serialize>(claims: &Claims<T>) -> Result<Vec<u8>, CanonRefused> {
    canon::canonical(&serde_json::to_value(claims).map_err(|_| CanonRefused::Unwritable)?)
}

impl Draft {
    pub fn input(&self) -> SignInput {
        SignInput::Jwt { signing_input: self.signing_input.clone().into_bytes() }
    }

    /// The token, with a signature as the HSM gives it: DER `ECDSA-Sig-Value`. `None`: it is not one of P-256.
    pub fn signed(&self, signature: &[u8]) -> Option<String> {
        let signature = sign::to_wire(Algorithm::P256, signature)?;
        Some(format!("{}.{}", self.signing_input, URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// What a token must be to be taken here and now.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    pub kind: TokenKind,
    pub issuer: &'a str,
    pub audience: &'a str,
    pub now: UnixMillis,
    /// So much the issuer's clock may be ahead.
    pub skew_max_s: i64,
}

/// A token that one of the bank's keys signed for here and now. Only [`verify`] makes one: holding it is the proof.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedToken<T> {
    claims: Claims<T>,
    key: KeyId,
}

impl<T> VerifiedToken<T> {
    pub fn claims(&self) -> &Claims<T> {
        &self.claims
    }

    /// The key that signed it.
    pub fn key(&self) -> KeyId {
        self.key
    }
}

/// Verifies a token with one of these keys; no other is looked for.
///
/// # Errors
/// The first [`TokenRefusal`] in order of precedence.
pub fn verify<T: Serialize + DeserializeOwned>(
    token: &str,
    keys: &[TokenKey],
    expected: &Expected<'_>,
) -> Result<VerifiedToken<T>, TokenRefusal> {
    let token = Parts::read(token)?;
    let header = Header::read(&token.header)?;
    if header.typ != Some(expected.kind.typ()) {
        return Err(TokenRefusal::Typ);
    }
    let key = keys.iter().find(|key| header.kid == Some(&key.id.hex())).ok_or(TokenRefusal::KeyUnknown)?;
    token.is_signed_by(&key.spki)?;

    // From here on the bank itself wrote it.
    let claims: Claims<T> = claims(&token.payload)?;
    lives(&claims, expected.kind)?;
    let now = expected.now.0.div_euclid(1000);
    if claims.iat > now.saturating_add(expected.skew_max_s) {
        return Err(TokenRefusal::FromTheFuture);
    }
    if now >= claims.exp {
        return Err(TokenRefusal::Expired);
    }
    if claims.iss != expected.issuer {
        return Err(TokenRefusal::Issuer);
    }
    if claims.aud != expected.audience {
        return Err(TokenRefusal::Audience);
    }
    Ok(VerifiedToken { claims, key: key.id })
}

/// Checks form, header and signature of a token against one key, as [`verify`] does first; says nothing of its type and
/// its claims.
///
/// # Errors
/// [`TokenRefusal`]
pub fn verify_signature(token: &str, spki: &[u8]) -> Result<(), TokenRefusal> {
    let token = Parts::read(token)?;
    Header::read(&token.header)?;
    token.is_signed_by(spki)
}

/// Passes what this key may sign as a token now: the header of a token of ours that names it, claims in canonical form,
/// made out for now and for no longer than its kind may live.
///
/// # Errors
/// [`TokenRefusal`]; [`TokenRefusal::KeyUnknown`] when it names another key.
pub fn lint_signing_input(bytes: &[u8], signer: KeyId, now: UnixMillis) -> Result<(), TokenRefusal> {
    let text = std::str::from_utf8(bytes).map_err(|_| TokenRefusal::Base64)?;
    if text.len() > TOKEN_BYTES_MAX {
        return Err(TokenRefusal::TooLong);
    }
    let (header, payload) = text.split_once('.').ok_or(TokenRefusal::Parts)?;
    let [header, payload] = [decoded(header)?, decoded(payload)?];
    let header = object(&header, TokenRefusal::Header)?;
    let header = Header::read(&header)?;
    let kind = TokenKind::ALL.into_iter().find(|kind| header.typ == Some(kind.typ())).ok_or(TokenRefusal::Typ)?;
    if header.kid != Some(&signer.hex()) {
        return Err(TokenRefusal::KeyUnknown);
    }
    let claims: Claims<Map<String, Value>> = claims(&payload)?;
    lives(&claims, kind)?;
    if claims.iat.abs_diff(now.0.div_euclid(1000)) > SIGNER_SKEW_MAX_S {
        return Err(TokenRefusal::FromTheFuture);
    }
    Ok(())
}

/// A token taken apart. Nothing of it is believed yet.
struct Parts<'a> {
    signing_input: &'a str,
    header: Map<String, Value>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn read(token: &'a str) -> Result<Self, TokenRefusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenRefusal::TooLong);
        }
        let (signing_input, signature) = token.rsplit_once('.').ok_or(TokenRefusal::Parts)?;
        let (header, payload) = signing_input.split_once('.').ok_or(TokenRefusal::Parts)?;
        if payload.contains('.') || [header, payload, signature].contains(&"") {
            return Err(TokenRefusal::Parts);
        }
        let header = object(&decoded(header)?, TokenRefusal::Header)?;
        Ok(Self { signing_input, header, payload: decoded(payload)?, signature: decoded(signature)? })
    }

    fn is_signed_by(&self, spki: &[u8]) -> Result<(), TokenRefusal> {
        if self.signature.len() != SIGNATURE_BYTES {
            return Err(TokenRefusal::Signature);
        }
        let is_ours = sign::raw_public_key(spki).is_some_and(|(algorithm, _)| algorithm == Algorithm::P256);
        let signature = sign::from_wire(Algorithm::P256, &self.signature).ok_or(TokenRefusal::Signature)?;
        let holds = is_ours && sign::signature_is_valid(spki, self.signing_input.as_bytes(), &signature);
        if holds { Ok(()) } else { Err(TokenRefusal::Signature) }
    }
}

/// What a header says, once it is known to say nothing but what it may.
struct Header<'a> {
    kid: Option<&'a str>,
    typ: Option<&'a str>,
}

impl<'a> Header<'a> {
    fn read(members: &'a Map<String, Value>) -> Result<Self, TokenRefusal> {
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        if members.contains_key("crit") {
            return Err(TokenRefusal::Critical);
        }
        if text("alg") != Some(ALGORITHM) {
            return Err(TokenRefusal::Algorithm);
        }
        if members.keys().any(|name| !["alg", "kid", "typ"].contains(&name.as_str())) {
            return Err(TokenRefusal::HeaderUnknown);
        }
        Ok(Self { kid: text("kid"), typ: text("typ") })
    }
}

/// Bytes in base64url without padding (RFC 7515, 2): each has one text.
fn decoded(part: &str) -> Result<Vec<u8>, TokenRefusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenRefusal::Base64)
}

/// A JSON object, each of whose keys is there once.
fn object(bytes: &[u8], otherwise: TokenRefusal) -> Result<Map<String, Value>, TokenRefusal> {
    json::check(bytes, TOKEN_BYTES_MAX, DEPTH_MAX).map_err(|refused| match refused {
        JsonRefused::DuplicateKey { .. } => TokenRefusal::DuplicateKey,
        JsonRefused::TooLong { .. }
        | JsonRefused::TooDeep { .. }
        | JsonRefused::ImpreciseNumber { .. }
        | JsonRefused::NotJson { .. } => otherwise,
    })?;
    serde_json::from_slice(bytes).map_err(|_| otherwise)
}

/// The claims of a payload that says exactly what its type has, in the one form that it can be written in.
fn claims<T: Serialize + DeserializeOwned>(payload: &[u8]) -> Result<Claims<T>, TokenRefusal> {
    let members = object(payload, TokenRefusal::Payload)?;
    let claims: Claims<T> = serde_json::from_value(Value::Object(members)).map_err(|_| TokenRefusal::Claims)?;
    match canonical(&claims) {
        Ok(written) if written == payload => Ok(claims),
        Ok(_) | Err(_) => Err(TokenRefusal::Claims),
    }
}

fn lives<T>(claims: &Claims<T>, kind: TokenKind) -> Result<(), TokenRefusal> {
    let life = claims.exp.checked_sub(claims.iat);
    let fits = life.is_some_and(|life| (1..=kind.lifetime_max_s()).contains(&life));
    if fits { Ok(()) } else { Err(TokenRefusal::Lifetime) }
}

#[cfg(test)]
mod tests;
