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
pub mod wire;
pub mod worker;

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::kernel::sign::{Algorithm, Purpose, SignInput};
use crate::kernel::types::{KeyId, Sha256};
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
    /// What is assumed where nothing can be read.
    pub const WORST: Self =
        Self { sensitive: false, always_sensitive: false, never_extractable: false, extractable: true, local: false };

    /// Of a key that was born in its token and never could leave it.
    pub const SOUND: Self =
        Self { sensitive: true, always_sensitive: true, never_extractable: true, extractable: false, local: true };

    /// True when the key was born in the token and never could leave it.
    pub fn is_sound(self) -> bool {
        self.sensitive && self.always_sensitive && self.never_extractable && self.local && !self.extractable
    }
}

/// What a key still does. It only ever moves down this list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// Signs, or seals.
    Active,
    /// Signs nothing any more (CKA_SIGN is false, so the token itself refuses); what it signed still verifies. A wrapping
    /// key opens what it sealed and seals nothing new (CKA_ENCRYPT is false, for RSA of its public half).
    VerifyOnly,
    /// The private or secret key is gone. Its public half stays in the token, or for AES a mark: its label and version
    /// are never given again.
    Destroyed,
}

impl KeyState {
    /// The word in lists and reports.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::VerifyOnly => "verify-only",
            Self::Destroyed => "destroyed",
        }
    }
}

/// One key of a token, as read from the token itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyInfo {
    /// SHA-256 of `spki`, for AES 32 random bytes; the CKA_ID of its objects.
    pub id: KeyId,
    /// `<party>-<purpose>[.<name>]-v<N>`
    pub label: String,
    pub purpose: Purpose,
    /// The agent's name for keys of purpose `agent`, the key's own for keys of purpose `external`.
    pub agent: Option<String>,
    pub version: u32,
    pub algorithm: Algorithm,
    /// SubjectPublicKeyInfo, DER; empty for AES.
    pub spki: Vec<u8>,
    /// Of a destroyed key: nothing is known, so the worst.
    pub custody: CustodyAttributes,
    pub state: KeyState,
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
    /// Library description, version and path in one line.
    pub module: String,
    pub library: LibraryInfo,
    pub label: String,
    pub serial: String,
    pub manufacturer: String,
    pub mechanisms: Vec<String>,
    pub pin: PinState,
    /// Process id of the worker, for tests and `doctor`.
    pub worker_pid: u32,
}

/// The PKCS#11 module as the worker loaded it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LibraryInfo {
    pub path: PathBuf,
    pub description: String,
    pub version: String,
    /// SHA-256 of the file when the worker started; `None` when it could not be read.
    pub sha256: Option<Sha256>,
}

/// What the token says about tries of its user PIN (PKCS#11 v2.40, 3.2: CKF_USER_PIN_…).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinState {
    Sound,
    /// A wrong PIN was tried since the last login.
    CountLow,
    /// One more wrong PIN locks it.
    FinalTry,
    Locked,
}

/// What a key is to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyOrder {
    pub party: String,
    pub purpose: Purpose,
    /// The name of keys of purposes `agent` and `external`, and of no others.
    pub agent: Option<String>,
    /// One of the purpose's algorithms.
    pub algorithm: Algorithm,
}

/// What a key of this purpose and algorithm needs of a module: to be made, to be used.
pub fn mechanism_names_of(purpose: Purpose, algorithm: Algorithm) -> [&'static str; 2] {
    match algorithm {
        Algorithm::Rsa3072 if purpose.seals() => ["CKM_RSA_PKCS_KEY_PAIR_GEN", "CKM_RSA_PKCS_OAEP"],
        Algorithm::P256 | Algorithm::P384 | Algorithm::Ed25519 | Algorithm::Rsa3072 | Algorithm::Aes256 => {
            mechanism_names(algorithm)
        }
    }
}

/// What a key of this algorithm that signs, or an AES key, needs of a module: to be made, to be used.
pub fn mechanism_names(algorithm: Algorithm) -> [&'static str; 2] {
    match algorithm {
        Algorithm::P256 | Algorithm::P384 => ["CKM_EC_KEY_PAIR_GEN", "CKM_ECDSA"],
        Algorithm::Ed25519 => ["CKM_EC_EDWARDS_KEY_PAIR_GEN", "CKM_EDDSA"],
        Algorithm::Rsa3072 => ["CKM_RSA_PKCS_KEY_PAIR_GEN", "CKM_RSA_PKCS"],
        Algorithm::Aes256 => ["CKM_AES_KEY_GEN", "CKM_AES_GCM"],
    }
}

/// Bytes that were or will be sealed. Wiped when dropped, never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plaintext(pub Zeroizing<Vec<u8>>);

impl fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Most bytes that one call seals: keys and credentials, with the certificates that some come with.
pub const PLAINTEXT_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of a context.
pub const CONTEXT_BYTES_MAX: usize = 1024;
/// A nonce before and a tag after the text; under an RSA key its header, a signature and the data key, too.
pub const SEALED_BYTES_MAX: usize = PLAINTEXT_BYTES_MAX + 12 + 16 + 512;

/// One typed operation of a worker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Op {
    /// Who and what the token is → [`Reply::Token`].
    Describe,
    /// Every key of ours, custody attributes read anew → [`Reply::Keys`].
    ListKeys,
    /// Makes a key in the token with the next free version → [`Reply::Key`].
    Generate(KeyOrder),
    /// Type check, lint, hash and sign; what others keep is verified before release, but for other programs' inputs,
    /// which whoever asks verifies → [`Reply::Signature`].
    Sign { key: KeyId, input: SignInput },
    /// AES-256-GCM under a wrapping key, or under a data key that an RSA key wraps, with a fresh nonce; the context is
    /// authenticated, not kept → [`Reply::Sealed`].
    Seal { key: KeyId, context: Vec<u8>, plaintext: Plaintext },
    /// The reverse; needs the same context → [`Reply::Opened`].
    Unseal { key: KeyId, context: Vec<u8>, sealed: Vec<u8> },
    /// Makes a key verify-only; one that is so already is left alone → [`Reply::Key`].
    Retire { key: KeyId },
    /// Destroys a verify-only key; one that is gone already is left alone → [`Reply::Key`].
    Destroy { key: KeyId },
}

/// The answer to an [`Op`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply {
    Token(TokenInfo),
    Keys(Vec<KeyInfo>),
    Key(KeyInfo),
    /// ECDSA: DER `ECDSA-Sig-Value`; Ed25519: 64 bytes; RSA: 384 bytes.
    Signature(Vec<u8>),
    /// Nonce (12 bytes), ciphertext, tag (16 bytes); under an RSA key what `docs/VAULT.md` says.
    Sealed(Vec<u8>),
    Opened(Plaintext),
}

/// [`HsmFault::Unavailable`]: one key fails while the module works with others.
pub const KEY_FAILED: &str = "key_failed";

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
/// Contract: a signature that is returned was verified against the key (only a sample of proofs of possession, which the
/// peer verifies at once and nobody keeps, and of [`SignInput::External`], which the signing service verifies before it
/// keeps or releases it: [`signature_unverified`]); an `Err` may still have signed when
/// `maybe_signed` says so, and repeating the *same* input is always harmless. Safe to share between threads.
pub trait Token: Send + Sync {
    /// Carries one operation to a worker and waits for the reply.
    ///
    /// # Errors
    /// [`HsmFault`] by name.
    fn call(&self, op: Op) -> Result<Reply, HsmFault>;

    /// The same for a task: no thread waits for the reply. To be awaited in a tokio runtime; once it was polled, the
    /// operation may be carried out although the task goes away.
    fn ask(self: Arc<Self>, op: Op) -> Asking
    where
        Self: 'static,
    {
        Box::pin(async move {
            let called = tokio::task::spawn_blocking(move || self.call(op)).await;
            called.unwrap_or_else(|_| Err(mismatched()))
        })
    }
}

/// A call under way.
pub type Asking = Pin<Box<dyn Future<Output = Result<Reply, HsmFault>> + Send>>;

/// The fault of a module whose signature does not verify. It is not released.
pub fn signature_unverified(label: &str) -> HsmFault {
    let message = format!("the signature of {label} does not verify; it was not released");
    HsmFault::Unavailable { name: "signature_unverified".into(), message, maybe_signed: true }
}

impl dyn Token {
    /// Signs typed input with a key of the fitting purpose.
    pub fn sign(&self, key: KeyId, input: SignInput) -> Result<Vec<u8>, HsmFault> {
        let Reply::Signature(signature) = self.call(Op::Sign { key, input })? else {
            return Err(mismatched());
        };
        Ok(signature)
    }

    /// [`Token::ask`] for a signature.
    pub async fn signature(self: Arc<Self>, key: KeyId, input: SignInput) -> Result<Vec<u8>, HsmFault> {
        let Reply::Signature(signature) = self.ask(Op::Sign { key, input }).await? else {
            return Err(mismatched());
        };
        Ok(signature)
    }

    /// All keys, with custody attributes and state as the token shows them now.
    pub fn keys(&self) -> Result<Vec<KeyInfo>, HsmFault> {
        let Reply::Keys(keys) = self.call(Op::ListKeys)? else {
            return Err(mismatched());
        };
        Ok(keys)
    }

    /// Makes a key of the purpose's default algorithm; the version is the next free one of its label.
    pub fn generate(&self, party: &str, purpose: Purpose, agent: Option<&str>) -> Result<KeyInfo, HsmFault> {
        let (party, agent, algorithm) = (party.to_owned(), agent.map(str::to_owned), purpose.default_algorithm());
        self.make(KeyOrder { party, purpose, agent, algorithm })
    }

    /// Makes a key to order; the version is the next free one of its label.
    pub fn make(&self, order: KeyOrder) -> Result<KeyInfo, HsmFault> {
        self.key_of(Op::Generate(order))
    }

    /// Seals bytes under a wrapping key. Whoever opens them must name the same context.
    pub fn seal(&self, key: KeyId, context: &[u8], plaintext: Plaintext) -> Result<Vec<u8>, HsmFault> {
        let Reply::Sealed(sealed) = self.call(Op::Seal { key, context: context.to_vec(), plaintext })? else {
            return Err(mismatched());
        };
        Ok(sealed)
    }

    /// Opens what `seal` made.
    pub fn unseal(&self, key: KeyId, context: &[u8], sealed: Vec<u8>) -> Result<Plaintext, HsmFault> {
        let Reply::Opened(plaintext) = self.call(Op::Unseal { key, context: context.to_vec(), sealed })? else {
            return Err(mismatched());
        };
        Ok(plaintext)
    }

    /// Makes a key verify-only.
    pub fn retire(&self, key: KeyId) -> Result<KeyInfo, HsmFault> {
        self.key_of(Op::Retire { key })
    }

    /// Destroys a verify-only key.
    pub fn destroy(&self, key: KeyId) -> Result<KeyInfo, HsmFault> {
        self.key_of(Op::Destroy { key })
    }

    pub fn describe(&self) -> Result<TokenInfo, HsmFault> {
        let Reply::Token(info) = self.call(Op::Describe)? else {
            return Err(mismatched());
        };
        Ok(info)
    }

    fn key_of(&self, op: Op) -> Result<KeyInfo, HsmFault> {
        let Reply::Key(key) = self.call(op)? else {
            return Err(mismatched());
        };
        Ok(key)
    }
}

fn mismatched() -> HsmFault {
    HsmFault::Unavailable {
        name: "reply_mismatch".into(),
        message: "the worker answered another question".into(),
        maybe_signed: true,
    }
}
