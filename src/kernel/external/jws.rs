//! A JWS in compact form (RFC 7515, 7.1): read strictly, verified with one key that the reader chose.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::{ExternalKind, FormRefusal, PublicKey, header, jose_name, payload_fits};
use crate::kernel::json;
use crate::kernel::sign::{self, Algorithm};
use crate::kernel::types::KeyId;

/// Longest JWS that is read: what is signed, and a signature.
const JWS_BYTES_MAX: usize = super::EXTERNAL_BYTES_MAX + 256;
/// Nesting of a header.
const HEADER_DEPTH_MAX: usize = 4;

macro_rules! refusals {
    ($($variant:ident = $name:literal, $sentence:literal;)*) => {
        /// Why a JWS is not one by this key: one name a rule.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum JwsRefusal {
            $(#[doc = $sentence] $variant,)*
        }

        impl JwsRefusal {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence for a reader.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }
        }
    };
}

refusals! {
    TooLong = "jws_too_long", "the JWS is longer than any that is made here";
    Parts = "jws_parts", "a JWS in compact form has three parts with points between them";
    Base64 = "jws_base64", "a part of the JWS is not base64url without padding";
    Header = "jws_header", "the header of the JWS is not one JSON object, each member once";
    Critical = "jws_critical", "the header says crit or b64, which nothing here understands";
    Algorithm = "jws_algorithm", "alg is not the algorithm of the key";
    KeyMismatch = "jws_key_mismatch", "kid names another key";
    Kind = "jws_kind", "typ is not that of what was expected";
    Payload = "jws_payload", "the payload is not of the shape of its kind";
    Signature = "jws_signature", "the signature is not by this key over this header and payload";
}

impl std::fmt::Display for JwsRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.sentence())
    }
}

/// A JWS that this key signed. Only the functions of this file make one: holding it is the proof.
#[must_use]
#[derive(Clone, PartialEq, Debug)]
pub struct VerifiedJws {
    header: Value,
    payload: Vec<u8>,
}

impl VerifiedJws {
    /// The header's members. Beyond `alg` nothing of them was judged.
    pub fn header(&self) -> &Value {
        &self.header
    }

    /// The bytes that were signed.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}

/// Verifies a JWS of whatever type that says the algorithm of this key, and no `crit`.
///
/// # Errors
/// The first [`JwsRefusal`] in order of precedence.
pub fn verify_any(jws: &str, key: &PublicKey) -> Result<VerifiedJws, JwsRefusal> {
    if jws.len() > JWS_BYTES_MAX {
        return Err(JwsRefusal::TooLong);
    }
    let mut parts = jws.split('.');
    let (Some(first), Some(second), Some(third), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(JwsRefusal::Parts);
    };
    let [header, payload, signature] = [decoded(first)?, decoded(second)?, decoded(third)?];
    let header = object(&header)?;
    if header.get("crit").is_some() || header.get("b64").is_some() {
        return Err(JwsRefusal::Critical);
    }
    let algorithm = key.algorithm();
    if header["alg"].as_str().is_none_or(|alg| jose_name(algorithm) != Some(alg)) {
        return Err(JwsRefusal::Algorithm);
    }
    let signature = sign::from_wire(algorithm, &signature).ok_or(JwsRefusal::Signature)?;
    let message = &jws.as_bytes()[..first.len() + 1 + second.len()];
    if !sign::signature_is_valid(key.spki(), message, &signature) {
        return Err(JwsRefusal::Signature);
    }
    Ok(VerifiedJws { header, payload })
}

/// Verifies a JWS of this kind, as the signing service makes them: exactly its header, a payload of its shape.
///
/// # Errors
/// The first [`JwsRefusal`] in order of precedence.
pub fn verify_kind(jws: &str, key: &PublicKey, kind: ExternalKind) -> Result<VerifiedJws, JwsRefusal> {
    let verified = verify_any(jws, key)?;
    if verified.header["kid"].as_str() != Some(&key.id().hex()) {
        return Err(JwsRefusal::KeyMismatch);
    }
    let expected = header(kind, key.id(), key.algorithm()).ok_or(JwsRefusal::Kind)?;
    let first = jws.split('.').next().unwrap_or_default();
    if decoded(first)? != expected {
        return Err(JwsRefusal::Kind);
    }
    if payload_fits(kind, &verified.payload) { Ok(verified) } else { Err(JwsRefusal::Payload) }
}

fn decoded(part: &str) -> Result<Vec<u8>, JwsRefusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwsRefusal::Base64)
}

fn object(header: &[u8]) -> Result<Value, JwsRefusal> {
    json::check(header, JWS_BYTES_MAX, HEADER_DEPTH_MAX).map_err(|_| JwsRefusal::Header)?;
    let read: Value = serde_json::from_slice(header).map_err(|_| JwsRefusal::Header)?;
    if read.is_object() { Ok(read) } else { Err(JwsRefusal::Header) }
}

/// Passes header and payload of a JWS that this key may sign.
pub(super) fn lint(bytes: &[u8], signer: KeyId, algorithm: Algorithm) -> Result<(), FormRefusal> {
    let text = std::str::from_utf8(bytes).map_err(|_| FormRefusal::of("it is not text"))?;
    let (first, second) = text.split_once('.').ok_or(FormRefusal::of("it is not a header and a payload"))?;
    let not_base64 = |_| FormRefusal::of("a part is not base64url without padding");
    let said = URL_SAFE_NO_PAD.decode(first).map_err(not_base64)?;
    let payload = URL_SAFE_NO_PAD.decode(second).map_err(not_base64)?;
    let kind =
        ExternalKind::ALL.into_iter().find(|kind| header(*kind, signer, algorithm).is_some_and(|own| own == said));
    let Some(kind) = kind else {
        let named = object(&said).ok().and_then(|header| header["kid"].as_str().map(str::to_owned));
        return Err(match named {
            Some(kid) if kid != signer.hex() => FormRefusal::AnotherKey,
            Some(_) | None => {
                FormRefusal::of("its header is not exactly that of a kind, with this key and its algorithm")
            }
        });
    };
    if payload_fits(kind, &payload) {
        return Ok(());
    }
    Err(FormRefusal::NotOfForm(format!("its payload is not that of a {}", kind.slug())))
}
