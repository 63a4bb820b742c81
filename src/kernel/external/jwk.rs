//! Public keys as others carry them: JSON Web Keys (RFC 7517, RFC 7518 6.2, RFC 8037).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::jose_name;
use crate::kernel::sign::{Algorithm, public_key_is_sound, raw_public_key, spki_der};
use crate::kernel::types::{KeyId, Sha256};

/// Why a key is not used to verify anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JwkRefusal {
    #[error("it is not a public key of P-256, P-384 or Ed25519")]
    UnknownKind,
    #[error("it is a private or a symmetric key: give the public one alone")]
    Private,
    #[error("a coordinate is missing, or is not base64url of the length that the curve has")]
    Coordinate,
    #[error("its alg, use or key_ops say that it is for something else than signatures of its kind")]
    OtherUse,
    #[error("its point is not on its curve")]
    Unsound,
}

impl JwkRefusal {
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownKind => "key_kind_unknown",
            Self::Private => "key_private",
            Self::Coordinate => "key_coordinate",
            Self::OtherUse => "key_for_other_use",
            Self::Unsound => "key_unsound",
        }
    }
}

/// A public key that signatures of the service are verified with: its point is on its curve.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey {
    algorithm: Algorithm,
    spki: Vec<u8>,
}

impl PublicKey {
    /// Of a SubjectPublicKeyInfo (DER).
    ///
    /// # Errors
    /// [`JwkRefusal::UnknownKind`], [`JwkRefusal::Unsound`]
    pub fn from_spki(spki: &[u8]) -> Result<Self, JwkRefusal> {
        let (algorithm, _) = raw_public_key(spki).ok_or(JwkRefusal::UnknownKind)?;
        jose_name(algorithm).ok_or(JwkRefusal::UnknownKind)?;
        if !public_key_is_sound(spki) {
            return Err(JwkRefusal::Unsound);
        }
        Ok(Self { algorithm, spki: spki.to_vec() })
    }

    /// Of a JWK. What it says it is for must be signatures of its own algorithm.
    ///
    /// # Errors
    /// [`JwkRefusal`]
    pub fn from_jwk(jwk: &Value) -> Result<Self, JwkRefusal> {
        let text = |name: &str| jwk[name].as_str();
        if jwk.get("d").is_some() || jwk.get("k").is_some() || text("kty") == Some("oct") {
            return Err(JwkRefusal::Private);
        }
        let algorithm = match (text("kty"), text("crv")) {
            (Some("EC"), Some("P-256")) => Algorithm::P256,
            (Some("EC"), Some("P-384")) => Algorithm::P384,
            (Some("OKP"), Some("Ed25519")) => Algorithm::Ed25519,
            (Some(_) | None, _) => return Err(JwkRefusal::UnknownKind),
        };
        let says = |name: &str, fits: &dyn Fn(&Value) -> bool| jwk.get(name).is_none_or(fits);
        let verifies = |ops: &Value| ops.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify"));
        let fits = says("alg", &|alg| alg.as_str().is_some_and(|alg| jose_name(algorithm) == Some(alg)))
            && says("use", &|usage| usage == "sig")
            && says("key_ops", &verifies);
        if !fits {
            return Err(JwkRefusal::OtherUse);
        }
        let coordinate = |name: &str, length: usize| {
            let bytes = text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
            bytes.filter(|bytes| bytes.len() == length).ok_or(JwkRefusal::Coordinate)
        };
        let key = match algorithm.scalar_bytes() {
            Some(length) => [&[4][..], &coordinate("x", length)?, &coordinate("y", length)?].concat(),
            None => coordinate("x", 32)?,
        };
        Self::from_spki(&spki_der(algorithm, &key))
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of the SubjectPublicKeyInfo: `kid` and `keyid` of what it signs.
    pub fn id(&self) -> KeyId {
        Sha256::of(&[&self.spki])
    }

    /// As a JWK with `kid`, `alg` and `use`.
    pub fn jwk(&self) -> Value {
        let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (_, key) = raw_public_key(&self.spki).expect("checked when this was made");
        let (alg, kid) = (jose_name(self.algorithm), self.id().hex());
        match self.algorithm.scalar_bytes() {
            Some(length) => json!({
                "kty": "EC",
                "crv": if self.algorithm == Algorithm::P384 { "P-384" } else { "P-256" },
                "x": encoded(&key[1..=length]),
                "y": encoded(&key[1 + length..]),
                "alg": alg,
                "use": "sig",
                "kid": kid,
            }),
            None => json!({
                "kty": "OKP", "crv": "Ed25519", "x": encoded(key), "alg": alg, "use": "sig", "kid": kid,
            }),
        }
    }
}
