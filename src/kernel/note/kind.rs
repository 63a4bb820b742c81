//! Kinds of signatures in notes, the keys that make them, and how both are named.
//!
//! C2SP has bytes for Ed25519 alone. A log whose module has no Ed25519 signs with P-256 under types of our own: C2SP
//! signed-note has the byte 0xff for what has none, with a longer identifier behind it. Public keys of these are
//! uncompressed points, signatures r ‖ s: each has one writing and a length of its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

use super::{NoteRefused, check_key_name};
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::sign::{
    Algorithm, from_wire, has_low_s, lower_s, public_key_is_sound, raw_public_key, signature_is_valid, spki_der,
    to_wire,
};
use crate::kernel::types::Sha256;

/// What kind of signature a key's id names (C2SP signed-note, "Signature types").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignatureType {
    /// Ed25519 over the note's text.
    Ed25519,
    /// Ed25519 over `cosignature/v1`, a time and the text (C2SP tlog-cosignature).
    CosignatureV1,
    /// ECDSA on P-256 over SHA-256 of the note's text. Ours.
    P256,
    /// ECDSA on P-256 over SHA-256 of what [`Self::CosignatureV1`] signs. Ours.
    P256Cosignature,
}

/// Stands before the identifiers of types without a byte of their own (C2SP signed-note).
const WITHOUT_A_BYTE: u8 = 0xff;

impl SignatureType {
    pub const ALL: [Self; 4] = [Self::Ed25519, Self::CosignatureV1, Self::P256, Self::P256Cosignature];

    /// How a key of this algorithm signs notes. None: it signs none.
    pub fn of_note(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::Ed25519 => Some(Self::Ed25519),
            Algorithm::P256 => Some(Self::P256),
            Algorithm::P384 | Algorithm::Rsa3072 | Algorithm::Aes256 => None,
        }
    }

    /// How a key of this algorithm cosigns checkpoints. None: it cosigns none.
    pub fn of_cosignature(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::Ed25519 => Some(Self::CosignatureV1),
            Algorithm::P256 => Some(Self::P256Cosignature),
            Algorithm::P384 | Algorithm::Rsa3072 | Algorithm::Aes256 => None,
        }
    }

    /// What it is called in evidence and reports; of our own types also what key ids and verifier keys have.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::CosignatureV1 => "cosignature/v1",
            Self::P256 => "countersign/note-p256/v1",
            Self::P256Cosignature => "countersign/cosignature-p256/v1",
        }
    }

    /// The name of a type that is ours; evidence says it, so that nobody takes the signature for one of C2SP's.
    pub fn own_name(self) -> Option<&'static str> {
        match self {
            Self::Ed25519 | Self::CosignatureV1 => None,
            Self::P256 | Self::P256Cosignature => Some(self.name()),
        }
    }

    /// The keys that make it.
    pub fn algorithm(self) -> Algorithm {
        match self {
            Self::Ed25519 | Self::CosignatureV1 => Algorithm::Ed25519,
            Self::P256 | Self::P256Cosignature => Algorithm::P256,
        }
    }

    /// What stands for the type before a public key: a byte, or 0xff and the identifier.
    fn identifier(self) -> Vec<u8> {
        match self {
            Self::Ed25519 => vec![0x01],
            Self::CosignatureV1 => vec![0x04],
            Self::P256 | Self::P256Cosignature => [&[WITHOUT_A_BYTE], self.name().as_bytes()].concat(),
        }
    }

    /// The bare public key of a key that makes signatures of this type.
    fn public_key(self, spki: &[u8]) -> Result<&[u8], NoteRefused> {
        let key = raw_public_key(spki).filter(|(algorithm, _)| *algorithm == self.algorithm());
        key.map(|(_, key)| key).ok_or(NoteRefused::KeyName)
    }

    /// A signature as the token makes it, as a line has it: of two writings that with the smaller s.
    pub(super) fn to_line(self, signature: &[u8]) -> Result<Vec<u8>, NoteRefused> {
        let mut of_line = to_wire(self.algorithm(), signature).ok_or(NoteRefused::SignatureInvalid)?;
        lower_s(self.algorithm(), &mut of_line);
        Ok(of_line)
    }

    /// True when a line's signature over `message` is by this key.
    pub(super) fn is_by(self, spki: &[u8], message: &[u8], of_line: &[u8]) -> bool {
        from_wire(self.algorithm(), of_line)
            .is_some_and(|signature| has_low_s(spki, &signature) && signature_is_valid(spki, message, &signature))
    }
}

/// Its name.
impl Serialize for SignatureType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// How the key of this SubjectPublicKeyInfo signs notes.
///
/// # Errors
/// [`NoteRefused::KeyName`]: it signs none.
pub fn note_type(spki: &[u8]) -> Result<SignatureType, NoteRefused> {
    let algorithm = raw_public_key(spki).map(|(algorithm, _)| algorithm);
    algorithm.and_then(SignatureType::of_note).ok_or(NoteRefused::KeyName)
}

/// How the key of this SubjectPublicKeyInfo cosigns checkpoints.
///
/// # Errors
/// [`NoteRefused::KeyName`]: it cosigns none.
pub fn cosignature_type(spki: &[u8]) -> Result<SignatureType, NoteRefused> {
    let algorithm = raw_public_key(spki).map(|(algorithm, _)| algorithm);
    algorithm.and_then(SignatureType::of_cosignature).ok_or(NoteRefused::KeyName)
}

/// The type of what the key of a certificate (DER) signs, as `of` answers it for the key.
pub(in crate::kernel) fn type_of_certified(
    certificate: &[u8],
    of: impl FnOnce(&[u8]) -> Result<SignatureType, NoteRefused>,
) -> Option<SignatureType> {
    Certificate::read(certificate).ok().and_then(|own| of(own.tbs.spki).ok())
}

/// The first four bytes of `SHA-256(name ‖ "\n" ‖ type ‖ public key)` (C2SP signed-note).
///
/// # Errors
/// [`NoteRefused::KeyName`], also when the key makes no signatures of this type.
pub fn key_id(kind: SignatureType, name: &str, spki: &[u8]) -> Result<[u8; 4], NoteRefused> {
    check_key_name(name)?;
    let key = kind.public_key(spki)?;
    let hash = Sha256::of(&[name.as_bytes(), b"\n", &kind.identifier(), key]).0;
    Ok([hash[0], hash[1], hash[2], hash[3]])
}

/// A key in one word: `<name>+<key id>+base64(type ‖ public key)` (C2SP signed-note, "Verifier keys").
///
/// # Errors
/// [`NoteRefused::KeyName`], also when the key makes no signatures of this type.
pub fn verifier_key(kind: SignatureType, name: &str, spki: &[u8]) -> Result<String, NoteRefused> {
    let id = hex::encode(key_id(kind, name, spki)?);
    let encoded = STANDARD.encode([&kind.identifier(), kind.public_key(spki)?].concat());
    Ok(format!("{name}+{id}+{encoded}"))
}

/// The key of a log, read from what [`verifier_key`] writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifierKey {
    pub name: String,
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
}

impl VerifierKey {
    /// # Errors
    /// [`NoteRefused::KeyName`] for what is no such word, or a key that signs no notes.
    pub fn parse(text: &str) -> Result<Self, NoteRefused> {
        let mut parts = text.splitn(3, '+');
        let (name, encoded) = (parts.next(), parts.nth(1));
        let (Some(name), Some(encoded)) = (name, encoded) else {
            return Err(NoteRefused::KeyName);
        };
        let bytes = STANDARD.decode(encoded).map_err(|_| NoteRefused::KeyName)?;
        let of_logs = [SignatureType::Ed25519, SignatureType::P256];
        let found = of_logs.into_iter().find_map(|kind| Some((kind, bytes.strip_prefix(&kind.identifier()[..])?)));
        let (kind, key) = found.ok_or(NoteRefused::KeyName)?;
        let spki = spki_der(kind.algorithm(), key);
        if !public_key_is_sound(&spki) || verifier_key(kind, name, &spki)? != text {
            return Err(NoteRefused::KeyName);
        }
        Ok(Self { name: name.to_owned(), spki })
    }
}
