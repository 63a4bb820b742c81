//! What a request comes to, and what is kept of it under an idempotency key.
//!
//! What is to be signed is not kept: it is composed again from the request that is repeated, whose hash is known, and
//! must come to the same digest. So a row that somebody wrote behind our back never decides what a key signs, and a copy
//! of the store has neither documents nor tokens in it.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api::{JwsFormat, ShownKey};
use super::desk::Answer;
use crate::kernel::external::{ExternalForm, ExternalKind, LeafProof, RootStatement, Tree};
use crate::kernel::httpsig::MessageDraft;
use crate::kernel::sign::{self, Algorithm, SignInput, digest_is_signed, signature_is_valid};
use crate::kernel::types::{KeyId, Sha256, UnixMillis};
use crate::ops::failure::Failure;

/// Of the bytes that are stored: another shape gets another number.
const VERSION: u8 = 1;

/// What is kept of an order: what cannot be told from its request, and a digest of what came of both.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Kept {
    pub request_id: String,
    pub at: UnixMillis,
    pub key: KeyId,
    /// As the log has it: SHA-256 of what is signed.
    pub digest: Sha256,
}

impl Kept {
    /// As it is stored.
    ///
    /// # Errors
    /// `journal_unwritable`
    pub fn written(&self) -> Result<Vec<u8>, Failure> {
        let written = postcard::to_extend(self, vec![VERSION]);
        written.map_err(|error| Failure::fault("journal_unwritable", error.to_string(), "report this as a defect"))
    }

    /// Reads what was stored back.
    ///
    /// # Errors
    /// `journal_unreadable`
    pub fn read(bytes: &[u8]) -> Result<Self, Failure> {
        let read = match bytes.split_first() {
            Some((&VERSION, rest)) => postcard::from_bytes(rest).ok(),
            Some(_) | None => None,
        };
        read.ok_or_else(|| {
            Failure::fault(
                "journal_unreadable",
                "what was kept of this request cannot be read",
                "run the version of countersign that wrote it, or ask anew with another idempotency key",
            )
        })
    }
}

/// An order as it is signed and answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Journal {
    pub request_id: String,
    pub at: UnixMillis,
    pub name: String,
    pub label: String,
    pub key: KeyId,
    pub alg: String,
    pub algorithm: Algorithm,
    pub shape: Shape,
    /// What is signed, in order.
    pub items: Vec<Ordered>,
    /// SHA-256 of a tree's items, one after the other.
    pub leaves: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    One,
    Batch,
    Merkle,
}

/// One message to be signed, and how its signature is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ordered {
    pub kind: ExternalKind,
    pub form: ExternalForm,
    pub bytes: Vec<u8>,
    pub shown: Shown,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Shown {
    Jws(JwsFormat),
    Raw,
    /// Under this label.
    Headers(String),
}

impl Ordered {
    pub fn input(&self) -> SignInput {
        SignInput::External { form: self.form, bytes: self.bytes.clone() }
    }

    fn shown(&self, algorithm: Algorithm, signature: &[u8]) -> Option<Value> {
        let raw = sign::to_wire(algorithm, signature)?;
        let kind = self.kind;
        let encoded = URL_SAFE_NO_PAD.encode(&raw);
        Some(match &self.shown {
            Shown::Jws(format) => {
                let (header, payload) = std::str::from_utf8(&self.bytes).ok()?.split_once('.')?;
                match format {
                    JwsFormat::Compact => json!({ "kind": kind, "jws": format!("{header}.{payload}.{encoded}") }),
                    JwsFormat::Detached => json!({ "kind": kind, "jws": format!("{header}..{encoded}") }),
                    JwsFormat::Json => json!({
                        "kind": kind,
                        "jws": { "payload": payload, "protected": header, "signature": encoded },
                    }),
                }
            }
            Shown::Raw => {
                let mut shown = json!({ "kind": kind, "signature": encoded });
                if algorithm.scalar_bytes().is_some() {
                    shown["signature_der"] = json!(STANDARD.encode(signature));
                }
                shown
            }
            Shown::Headers(label) => {
                let headers = MessageDraft::of_base(self.bytes.clone())?.signed(label, &raw);
                json!({
                    "kind": kind,
                    "label": label,
                    "signature_input": headers.signature_input,
                    "signature": headers.signature,
                })
            }
        })
    }
}

impl Journal {
    /// Whether these are signatures of this order by the key of this public half (SubjectPublicKeyInfo, DER).
    pub fn is_signed(&self, spki: &[u8], signatures: &[Vec<u8>]) -> bool {
        let signed = |item: &Ordered, signature: &[u8]| match item.form {
            ExternalForm::Digest => digest_is_signed(spki, &item.bytes, signature),
            ExternalForm::Jws | ExternalForm::Request | ExternalForm::Message => {
                signature_is_valid(spki, &item.bytes, signature)
            }
        };
        signatures.len() == self.items.len()
            && self.items.iter().zip(signatures).all(|(item, signature)| signed(item, signature))
    }

    /// Signatures as they are stored.
    pub fn write_signatures(signatures: &[Vec<u8>]) -> Result<Vec<u8>, Failure> {
        let written = postcard::to_extend(signatures, vec![VERSION]);
        written.map_err(|error| Failure::fault("journal_unwritable", error.to_string(), "report this as a defect"))
    }

    pub fn read_signatures(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
        let (&VERSION, rest) = bytes.split_first()? else {
            return None;
        };
        postcard::from_bytes(rest).ok()
    }

    /// The answer to the request: always the same bytes for the same signatures.
    ///
    /// # Errors
    /// `signature_malformed`: they are not signatures of this order.
    pub fn answer(&self, signatures: &[Vec<u8>], repeated: bool) -> Result<Answer, Failure> {
        let body = self.body(signatures)?;
        let travelling: Option<Vec<_>> = signatures.iter().map(|one| sign::to_wire(self.algorithm, one)).collect();
        let travelling = travelling.unwrap_or_default();
        let signatures = Sha256::of(&travelling.iter().map(Vec::as_slice).collect::<Vec<_>>());
        Ok(Answer { body, repeated, signatures })
    }

    fn body(&self, signatures: &[Vec<u8>]) -> Result<Vec<u8>, Failure> {
        let malformed = || {
            Failure::fault(
                "signature_malformed",
                "a signature is not one of the key's algorithm",
                "see the daemon's log",
            )
        };
        if signatures.len() != self.items.len() {
            return Err(malformed());
        }
        let pairs = self.items.iter().zip(signatures);
        let mut shown = pairs.map(|(item, signature)| item.shown(self.algorithm, signature).ok_or_else(malformed));
        let key =
            ShownKey { name: self.name.clone(), label: self.label.clone(), kid: self.key.hex(), alg: self.alg.clone() };
        let (request_id, signed_at) = (&self.request_id, self.at.rfc3339());
        let answer = match self.shape {
            Shape::One => json!({
                "request_id": request_id, "signed_at": signed_at, "key": key, "result": shown.next().transpose()?,
            }),
            Shape::Batch => json!({
                "request_id": request_id,
                "signed_at": signed_at,
                "key": key,
                "results": shown.collect::<Result<Vec<_>, _>>()?,
            }),
            Shape::Merkle => {
                let root = shown.next().transpose()?.unwrap_or_default();
                return self.merkle(&key, &signed_at, root["jws"].as_str().unwrap_or_default()).ok_or_else(malformed);
            }
        };
        Ok(answer.to_string().into_bytes())
    }

    /// The items of a tree.
    pub fn tree_items(&self) -> Vec<Sha256> {
        self.leaves.as_chunks::<32>().0.iter().map(|leaf| Sha256(*leaf)).collect()
    }

    fn merkle(&self, key: &ShownKey, signed_at: &str, jws: &str) -> Option<Vec<u8>> {
        let items = self.tree_items();
        let tree = Tree::of(&items)?;
        let places = items.iter().enumerate().map(|(index, sha256)| Place {
            sha256: *sha256,
            index: index as u64,
            path: tree.path(index),
        });
        let answer = MerkleAnswer {
            request_id: &self.request_id,
            signed_at,
            key,
            schema: RootStatement::SCHEMA,
            size: tree.size(),
            root: tree.root(),
            jws,
            results: places.collect(),
        };
        serde_json::to_vec(&answer).ok()
    }
}

#[derive(Serialize)]
struct MerkleAnswer<'a> {
    request_id: &'a str,
    signed_at: &'a str,
    key: &'a ShownKey,
    schema: &'a str,
    size: u64,
    root: Sha256,
    /// The signed root.
    jws: &'a str,
    results: Vec<Place>,
}

/// With `size` and the signed root of the answer it is a [`LeafProof`].
#[derive(Serialize)]
struct Place {
    sha256: Sha256,
    index: u64,
    path: Vec<Sha256>,
}

/// The proofs of an answer to a Merkle request, one for each item: each verifies alone. `None`: it is not such an answer.
pub fn proofs(answer: &Value) -> Option<Vec<LeafProof>> {
    let (size, root) = (answer["size"].as_u64()?, answer["jws"].as_str()?);
    let read = |place: &Value| {
        let mut proof = place.clone();
        proof["size"] = json!(size);
        proof["root"] = json!(root);
        serde_json::from_value(proof).ok()
    };
    answer["results"].as_array()?.iter().map(read).collect()
}
