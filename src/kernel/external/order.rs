//! An order for signatures of the signing service: what is recorded before a key is touched, and what is kept of it.

use crate::kernel::types::{KeyId, Sha256, UnixMillis};

use super::ExternalKind;

/// What another program wants signed, composed and permitted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SigningOrder {
    /// Of the configuration.
    pub name: String,
    pub key: KeyId,
    pub label: String,
    pub kind: ExternalKind,
    /// The caller's own words for the log.
    pub purpose: Option<String>,
    /// Signatures that are asked for; of a tree: its leaves, under one signature.
    pub count: u32,
    /// SHA-256 of the one message that is signed; of several: the root of the tree (RFC 9162) over theirs; of a tree: its
    /// own root.
    pub digest: Sha256,
    /// How a repetition is known. None: nobody can ask for the same answer again.
    pub mark: Option<SigningMark>,
}

/// What makes one request known again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SigningMark {
    /// The caller's own key for it, for the log.
    pub idempotency_key: String,
    /// Hash of caller, key's name and idempotency key.
    pub scope: Sha256,
    /// Hash of everything else that was asked.
    pub request: Sha256,
    /// When and by which key, as the signing service writes it, and the digest: durable before anything is signed. What is
    /// signed is told from the request.
    pub journal: Vec<u8>,
}

/// A request that is known: from its order until it is forgotten.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SigningRow {
    pub scope: Sha256,
    pub request: Sha256,
    pub journal: Vec<u8>,
    /// The first signatures that were stored, which are the only ones that are released.
    pub signatures: Option<Vec<u8>>,
    pub at: UnixMillis,
}

impl SigningRow {
    /// Of a new order.
    pub fn of(mark: &SigningMark, at: UnixMillis) -> Self {
        let SigningMark { idempotency_key: _, scope, request, journal } = mark;
        Self { scope: *scope, request: *request, journal: journal.clone(), signatures: None, at }
    }
}
