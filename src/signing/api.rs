//! What programs ask and are answered, as JSON. `docs/signing-api.json` describes it (OpenAPI 3.1).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::kernel::external::LeafProof;
use crate::kernel::types::{IdempotencyKey, Sha256};

/// `POST /v1/sign`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignRequest {
    /// The key's name in the configuration.
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<IdempotencyKey>,
    /// What it is for, in the caller's words: part of the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    pub item: Item,
}

/// `POST /v1/sign/batch`: items of one kind, a signature each.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<IdempotencyKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    pub items: Vec<Item>,
}

/// `POST /v1/sign/merkle`: one signature over the tree of many items.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MerkleRequest {
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<IdempotencyKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// SHA-256 of each item, hexadecimal.
    pub items: Vec<Sha256>,
}

/// One thing to be signed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Item {
    File {
        sha256: Sha256,
        /// Bytes.
        size: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(default)]
        format: JwsFormat,
    },
    Document {
        document: Value,
        #[serde(default)]
        format: JwsFormat,
    },
    /// `iss`, `iat`, `exp` and, unless it is given, `jti` are the service's to say.
    Jwt {
        claims: Map<String, Value>,
        /// None: as long as the key's configuration lets it live.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lifetime_s: Option<u32>,
    },
    /// A digest for an ECDSA key, hexadecimal; a message for an Ed25519 key, base64.
    Raw {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    Request(Box<RequestItem>),
}

/// A message of HTTP that is to be signed (RFC 9421).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestItem {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Of a response, instead of method and url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// `[[name, value]]`
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// What is covered, in this order.
    pub components: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// From now on. None: as long as the key's configuration lets it live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u32>,
}

/// How a JWS is written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JwsFormat {
    /// RFC 7515, 7.1.
    #[default]
    Compact,
    /// RFC 7515, 7.2.2.
    Json,
    /// Compact, without its payload (RFC 7515, appendix F).
    Detached,
}

/// `POST /v1/verify`: one of `jws` and `proof`, with a key of the configuration or a JWK.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    /// The key's name in the configuration: any of its versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwk: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jws: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<LeafProof>,
}

/// Which key signed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ShownKey {
    pub name: String,
    pub label: String,
    pub kid: String,
    pub alg: String,
}

/// A request of one of the three kinds.
#[derive(Clone, PartialEq, Debug)]
pub enum Asked {
    One(SignRequest),
    Batch(BatchRequest),
    Merkle(MerkleRequest),
}

impl Asked {
    pub fn key(&self) -> &str {
        match self {
            Self::One(asked) => &asked.key,
            Self::Batch(asked) => &asked.key,
            Self::Merkle(asked) => &asked.key,
        }
    }

    pub fn idempotency_key(&self) -> Option<&IdempotencyKey> {
        match self {
            Self::One(asked) => asked.idempotency_key.as_ref(),
            Self::Batch(asked) => asked.idempotency_key.as_ref(),
            Self::Merkle(asked) => asked.idempotency_key.as_ref(),
        }
    }

    pub fn purpose(&self) -> Option<&str> {
        match self {
            Self::One(asked) => asked.purpose.as_deref(),
            Self::Batch(asked) => asked.purpose.as_deref(),
            Self::Merkle(asked) => asked.purpose.as_deref(),
        }
    }

    /// Signatures that it takes.
    pub fn signatures(&self) -> usize {
        match self {
            Self::One(_) | Self::Merkle(_) => 1,
            Self::Batch(asked) => asked.items.len(),
        }
    }

    /// The request as a value, for its hash.
    pub(super) fn value(&self) -> Value {
        let written = match self {
            Self::One(asked) => serde_json::to_value(asked),
            Self::Batch(asked) => serde_json::to_value(asked),
            Self::Merkle(asked) => serde_json::to_value(asked),
        };
        written.unwrap_or_default()
    }

    /// The way it came: a batch of one and a single request are two requests.
    pub(super) fn way(&self) -> &'static str {
        match self {
            Self::One(_) => "sign",
            Self::Batch(_) => "batch",
            Self::Merkle(_) => "merkle",
        }
    }
}
