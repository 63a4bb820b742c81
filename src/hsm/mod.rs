//! Keys in PKCS#11 tokens, reached through worker processes that a supervisor keeps alive.
//!
//! The rest of the product sees [`Token`]. Behind it: the front's end of a worker connection (`client`), the
//! worker itself (`worker`, the only process that loads a vendor module), and the supervisor (`supervisor`, the
//! only process that reads a PIN source).

pub mod channel;
pub mod client;
pub mod confine;
pub mod embedded;
mod flow;
mod keeper;
pub mod label;
pub mod lint;
pub mod measure;
pub mod messages;
pub mod pin;
pub mod provision;
pub mod settings;
#[cfg(test)]
pub mod software;
pub mod supervisor;
pub mod uri;
mod wire;
pub mod worker;

use serde::{Deserialize, Serialize};

use crate::kernel::sign::{Algorithm, Purpose, SignInput};
use crate::kernel::types::KeyId;
use crate::ops::failure::Failure;

/// The custody attributes of a private key, read back from the token (PKCS#11 v2.40, 4.9).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CustodyAttributes {
    pub sensitive: bool,
    pub always_sensitive: bool,
    pub never_extractable: bool,
    pub extractable: bool,
    pub local: bool,
}

impl CustodyAttributes {
    /// True when the key was born in the token and never could leave it.
    pub fn is_sound(self) -> bool {
        self.sensitive && self.always_sensitive && self.never_extractable && self.local && !self.extractable
    }
}

/// One key of a token, as read from the token itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyInfo {
    /// SHA-256 of `spki`; the CKA_ID of both objects.
    pub id: KeyId,
    /// `<party>-<purpose>[.<agent>]-v<N>`
    pub label: String,
    pub purpose: Purpose,
    /// The agent's name for keys of purpose `agent`.
    pub agent: Option<String>,
    pub version: u32,
    pub algorithm: Algorithm,
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
    pub custody: CustodyAttributes,
}

/// A key with its certificates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertifiedKey {
    pub key: KeyInfo,
    /// DER, the key's own certificate first. For a signing role: then its issuing CA and root. For an agent: B, S.
    pub chain: Vec<Vec<u8>>,
}

/// What the module and the token say about themselves.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TokenInfo {
    pub module: String,
    pub label: String,
    pub serial: String,
    pub manufacturer: String,
    pub mechanisms: Vec<String>,
    /// Process id of the worker, for tests and `doctor`.
    pub worker_pid: u32,
}

/// One typed operation of a worker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Op {
    /// Who and what the token is → [`Reply::Token`].
    Describe,
    /// Every key of ours, custody attributes read anew → [`Reply::Keys`].
    ListKeys,
    /// Makes a key pair in the token with the next free version → [`Reply::Key`].
    Generate { party: String, purpose: Purpose, agent: Option<String> },
    /// Type check, lint, hash and sign; own signature verified before release → [`Reply::Signature`].
    Sign { key: KeyId, input: SignInput },
}

/// The answer to an [`Op`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply {
    Token(TokenInfo),
    Keys(Vec<KeyInfo>),
    Key(KeyInfo),
    /// P-256: DER `ECDSA-Sig-Value`; Ed25519: 64 bytes.
    Signature(Vec<u8>),
}

/// Why the token did not do it. Names are stable and shown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum HsmFault {
    /// Named refusal of the worker: wrong purpose, lint, unknown key, malformed input. Nothing was signed.
    #[error("the HSM worker refused ({name}): {message}")]
    Refused { name: String, message: String },
    /// No worker, deadline passed, module error. `maybe_signed` says whether a signature may exist somewhere.
    #[error("the HSM is not available ({name}): {message}")]
    Unavailable { name: String, message: String, maybe_signed: bool },
    /// The bounded queue is full.
    #[error("the HSM queue is full")]
    Busy,
    /// The PIN was wrong; latched in the supervisor until an operator acts.
    #[error("the token refused its PIN: {message}")]
    PinRefused { message: String },
}

impl HsmFault {
    pub fn name(&self) -> &str {
        match self {
            Self::Refused { name, .. } | Self::Unavailable { name, .. } => name,
            Self::Busy => "hsm_busy",
            Self::PinRefused { .. } => "pin_refused",
        }
    }
}

impl From<HsmFault> for Failure {
    fn from(fault: HsmFault) -> Self {
        let message = fault.to_string();
        match &fault {
            HsmFault::Refused { name, .. } => {
                Self::refused(name, message, "nothing was signed; correct the input and try again")
            }
            HsmFault::Unavailable { name, .. } => {
                Self::busy(name, message, "see `countersign doctor`; the daemon retries by itself")
            }
            HsmFault::Busy => Self::busy("hsm_busy", message, "try again in a moment"),
            HsmFault::PinRefused { .. } => Self::fault(
                "pin_refused",
                message,
                "correct the PIN source named in hsm.<token> and start the daemon again; it was tried once only",
            ),
        }
    }
}

/// A token, as the rest of the product uses it. Blocking; every call ends by its deadline.
///
/// Contract: a signature that is returned was verified against the key; an `Err` may still have signed when
/// `maybe_signed` says so, and repeating the *same* input is always harmless. Safe to share between threads.
pub trait Token: Send + Sync {
    /// Carries one operation to a worker and waits for the reply.
    ///
    /// # Errors
    /// [`HsmFault`] by name.
    fn call(&self, op: Op) -> Result<Reply, HsmFault>;
}

impl dyn Token {
    /// Signs typed input with a key of the fitting purpose.
    pub fn sign(&self, key: KeyId, input: SignInput) -> Result<Vec<u8>, HsmFault> {
        match self.call(Op::Sign { key, input })? {
            Reply::Signature(signature) => Ok(signature),
            Reply::Token(_) | Reply::Keys(_) | Reply::Key(_) => Err(mismatched()),
        }
    }

    /// All keys, with custody attributes as the token shows them now.
    pub fn keys(&self) -> Result<Vec<KeyInfo>, HsmFault> {
        match self.call(Op::ListKeys)? {
            Reply::Keys(keys) => Ok(keys),
            Reply::Token(_) | Reply::Signature(_) | Reply::Key(_) => Err(mismatched()),
        }
    }

    /// Makes a key pair; the version is the next free one of its label.
    pub fn generate(&self, party: &str, purpose: Purpose, agent: Option<&str>) -> Result<KeyInfo, HsmFault> {
        let op = Op::Generate { party: party.to_owned(), purpose, agent: agent.map(str::to_owned) };
        match self.call(op)? {
            Reply::Key(key) => Ok(key),
            Reply::Token(_) | Reply::Signature(_) | Reply::Keys(_) => Err(mismatched()),
        }
    }

    pub fn describe(&self) -> Result<TokenInfo, HsmFault> {
        match self.call(Op::Describe)? {
            Reply::Token(info) => Ok(info),
            Reply::Keys(_) | Reply::Signature(_) | Reply::Key(_) => Err(mismatched()),
        }
    }
}

fn mismatched() -> HsmFault {
    HsmFault::Unavailable {
        name: "reply_mismatch".into(),
        message: "the worker answered another question".into(),
        maybe_signed: true,
    }
}
