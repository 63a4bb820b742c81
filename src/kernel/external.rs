//! What keys of purpose `external` sign: bytes of other programs, each kind in a form of its own.
//!
//! Shared by the signing service that composes, the worker that reads back what its key is to sign, and whoever verifies
//! without either. A file, a document, a token or the root of a Merkle tree is signed as a JWS (RFC 7515) whose header is
//! exactly `alg`, `kid` and `typ`, with a `typ` of its kind, and whose payload is canonical JSON (RFC 8785); a request as
//! the signature base of HTTP message signatures (RFC 9421). Neither can be read as the other. `raw` is whatever the
//! caller says, and its signature could be meant as any of them: a key that signs it is named so when it is made
//! ([`is_raw_name`]), signs nothing else ever, and no other key signs it.

mod jwk;
mod jws;
mod order;
mod tree;

pub use jwk::{JwkRefusal, PublicKey};
pub use jws::{JwsRefusal, VerifiedJws, verify_any, verify_kind};
pub use order::{SigningMark, SigningOrder, SigningRow};
pub use tree::{LeafProof, ProofRefusal, RootStatement, Tree, verify_proof};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kernel::canon::{self, CanonRefused};
use crate::kernel::httpsig;
use crate::kernel::sign::Algorithm;
use crate::kernel::types::{KeyId, Sha256};

/// Most bytes that are signed at once: a document of 64 KiB as the payload of a JWS.
pub const EXTERNAL_BYTES_MAX: usize = 96 * 1024;
/// Most bytes of a document, of the claims of a token, or of a message that Ed25519 signs as it is.
pub const CONTENT_BYTES_MAX: usize = 64 * 1024;
/// Longest name of a file in what is signed.
pub const FILE_NAME_BYTES_MAX: usize = 255;

/// What a program has signed. A key's configuration names the kinds that it may sign.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExternalKind {
    /// The digest, size and name of a file.
    File,
    /// A message of HTTP (RFC 9421).
    Request,
    /// A JSON Web Token (RFC 7519).
    Jwt,
    /// A JSON document.
    Document,
    /// A digest (ECDSA) or bytes (Ed25519), as the caller gives them.
    Raw,
    /// The root of a Merkle tree over many items.
    Batch,
}

impl ExternalKind {
    pub const ALL: [Self; 6] = [Self::File, Self::Request, Self::Jwt, Self::Document, Self::Raw, Self::Batch];

    /// The word in configurations, requests and the audit log.
    pub fn slug(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Request => "request",
            Self::Jwt => "jwt",
            Self::Document => "document",
            Self::Raw => "raw",
            Self::Batch => "batch",
        }
    }

    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.slug() == slug)
    }

    /// `typ` of the JWS that carries it (RFC 7515, 4.1.9; RFC 8725, 3.11). `None`: it is signed in another form.
    pub fn typ(self) -> Option<&'static str> {
        match self {
            Self::File => Some("countersign-file+jws"),
            Self::Jwt => Some("JWT"),
            Self::Document => Some("countersign-document+jws"),
            Self::Batch => Some("countersign-merkle-root+jws"),
            Self::Request | Self::Raw => None,
        }
    }
}

/// In which form the worker gets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExternalForm {
    /// Header and payload of a JWS (RFC 7515, 5.1).
    Jws,
    /// The signature base of an HTTP message (RFC 9421, 2.5).
    Request,
    /// A digest of the key's own hash, signed as it is: ECDSA alone.
    Digest,
    /// Bytes that Ed25519 signs as they are.
    Message,
}

impl ExternalForm {
    pub const ALL: [Self; 4] = [Self::Jws, Self::Request, Self::Digest, Self::Message];

    /// A short name for logs and errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jws => "external-jws",
            Self::Request => "external-request",
            Self::Digest => "external-digest",
            Self::Message => "external-message",
        }
    }
}

/// Whether a key of purpose `external` with this name signs digests and messages as they are, and nothing else. The name is
/// a part of the label, which is fixed when the key is made: what a key may have signed before is told by it for ever.
pub fn is_raw_name(name: &str) -> bool {
    name.starts_with("raw-")
}

/// Why bytes are not signed in a form.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FormRefusal {
    #[error("it names another key than the one that is to sign")]
    AnotherKey,
    #[error("keys named raw-… sign digests and messages, and nothing else; no other key signs those")]
    NotOfName,
    #[error("{0}")]
    NotOfForm(String),
}

impl FormRefusal {
    fn of(why: &str) -> Self {
        Self::NotOfForm(why.to_owned())
    }
}

/// Passes a form that an external key of this name may sign.
///
/// # Errors
/// [`FormRefusal::NotOfName`]
pub fn lint_name(form: ExternalForm, name: &str) -> Result<(), FormRefusal> {
    let is_raw = match form {
        ExternalForm::Jws | ExternalForm::Request => false,
        ExternalForm::Digest | ExternalForm::Message => true,
    };
    if is_raw == is_raw_name(name) { Ok(()) } else { Err(FormRefusal::NotOfName) }
}

/// Passes what an external key of this id and algorithm may sign in this form.
///
/// # Errors
/// [`FormRefusal`]
pub fn lint(form: ExternalForm, bytes: &[u8], signer: KeyId, algorithm: Algorithm) -> Result<(), FormRefusal> {
    match form {
        ExternalForm::Jws => jws::lint(bytes, signer, algorithm),
        ExternalForm::Request => httpsig::lint_message_base(bytes, &signer.hex(), algorithm).map_err(|refusal| {
            let another_key = refusal == httpsig::MessageRefusal::KeyMismatch;
            if another_key { FormRefusal::AnotherKey } else { FormRefusal::NotOfForm(refusal.to_string()) }
        }),
        ExternalForm::Digest => match digest_bytes(algorithm) {
            Some(length) if bytes.len() == length => Ok(()),
            Some(length) => Err(FormRefusal::NotOfForm(format!(
                "a digest for a {} key has {length} bytes, not {}",
                algorithm.slug(),
                bytes.len()
            ))),
            None => Err(FormRefusal::NotOfForm(format!("a {} key signs messages, not digests", algorithm.slug()))),
        },
        ExternalForm::Message if algorithm != Algorithm::Ed25519 => {
            Err(FormRefusal::NotOfForm(format!("a {} key signs a digest, not bytes", algorithm.slug())))
        }
        ExternalForm::Message if bytes.len() > CONTENT_BYTES_MAX => {
            Err(FormRefusal::NotOfForm(format!("a message has at most {CONTENT_BYTES_MAX} bytes")))
        }
        ExternalForm::Message => Ok(()),
    }
}

/// Bytes of a digest that an ECDSA key of this algorithm signs (RFC 7518, 3.4). `None`: it signs messages.
pub fn digest_bytes(algorithm: Algorithm) -> Option<usize> {
    match algorithm {
        Algorithm::P256 => Some(32),
        Algorithm::P384 => Some(48),
        Algorithm::Ed25519 | Algorithm::Rsa3072 | Algorithm::Aes256 => None,
    }
}

/// The name of an algorithm in JOSE (RFC 7518, 3.1; RFC 8037, 3.1). `None`: no external key has it.
pub fn jose_name(algorithm: Algorithm) -> Option<&'static str> {
    match algorithm {
        Algorithm::P256 => Some("ES256"),
        Algorithm::P384 => Some("ES384"),
        Algorithm::Ed25519 => Some("EdDSA"),
        Algorithm::Rsa3072 | Algorithm::Aes256 => None,
    }
}

/// What is signed of a JWS of this kind: header and payload. `None`: the kind is signed in another form, or the algorithm
/// has no name in JOSE.
pub fn signing_input(kind: ExternalKind, key: KeyId, algorithm: Algorithm, payload: &[u8]) -> Option<String> {
    let header = URL_SAFE_NO_PAD.encode(header(kind, key, algorithm)?);
    Some(format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload)))
}

/// The one header of a JWS of this kind with this key, canonical.
fn header(kind: ExternalKind, key: KeyId, algorithm: Algorithm) -> Option<Vec<u8>> {
    let header = json!({ "alg": jose_name(algorithm)?, "kid": key.hex(), "typ": kind.typ()? });
    canon::canonical(&header).ok()
}

/// What is signed of a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileStatement {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub schema: String,
    pub sha256: Sha256,
    /// Bytes, as a decimal string.
    pub size: String,
}

impl FileStatement {
    pub const SCHEMA: &'static str = "countersign/file/v1";

    /// Of a file with this digest and size.
    pub fn new(sha256: Sha256, size: u64, name: Option<String>) -> Self {
        Self { name, schema: Self::SCHEMA.into(), sha256, size: size.to_string() }
    }

    /// Its canonical bytes.
    ///
    /// # Errors
    /// [`CanonRefused`], which a statement does not meet.
    pub fn canonical(&self) -> Result<Vec<u8>, CanonRefused> {
        canon::canonical_of(self)
    }

    /// Reads canonical bytes back. `None`: it is not the statement of a file.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let read: Self = serde_json::from_slice(bytes).ok()?;
        let name_fits = read
            .name
            .as_ref()
            .is_none_or(|name| (1..=FILE_NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control));
        let size_fits = read.size.parse::<u64>().is_ok_and(|size| size.to_string() == read.size);
        let sound = read.schema == Self::SCHEMA && name_fits && size_fits;
        (sound && read.canonical().ok()? == bytes).then_some(read)
    }
}

/// The payload of a kind, read back: canonical JSON of an object, and of the shape of its kind.
fn payload_fits(kind: ExternalKind, payload: &[u8]) -> bool {
    let object = || payload.first() == Some(&b'{') && canon::is_canonical(payload);
    match kind {
        ExternalKind::File => FileStatement::read(payload).is_some(),
        ExternalKind::Batch => tree::RootStatement::read(payload).is_some(),
        ExternalKind::Document => object(),
        ExternalKind::Jwt => object() && serde_json::from_slice(payload).is_ok_and(|claims| has_times(&claims)),
        ExternalKind::Request | ExternalKind::Raw => false,
    }
}

/// Every token says when it was made and when it ends.
fn has_times(claims: &Value) -> bool {
    match (claims["iat"].as_i64(), claims["exp"].as_i64()) {
        (Some(iat), Some(exp)) => iat < exp,
        (Some(_) | None, _) => false,
    }
}

#[cfg(test)]
mod tests;
