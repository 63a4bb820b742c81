//! The text formats of a transparency log: signed notes, checkpoints and cosignatures, as the C2SP documents
//! `signed-note`, `tlog-checkpoint` and `tlog-cosignature` (v1.0.0) have them.
//!
//! Parsing is strict: what is read composes back to the same bytes, so there is one text for one meaning.
//! Extension lines of a checkpoint are refused, because nothing here would understand them. Keys are Ed25519, as C2SP
//! has them, or P-256 under types of our own.

mod kind;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::kernel::types::Sha256;

pub(in crate::kernel) use kind::type_of_certified;
pub use kind::{SignatureType, VerifierKey, cosignature_type, key_id, note_type, verifier_key};

/// Bytes of a note that are read at all; ours have a few hundred.
const NOTE_BYTES_MAX: usize = 64 * 1024;

/// Signature lines of one note that are read at all (C2SP signed-note asks for a limit of at least 16).
const SIGNATURES_MAX: usize = 64;

/// Separates text and signatures: an em dash and a space (C2SP signed-note).
const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// Why a text is not a note or checkpoint of ours, or not signed by the key asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoteRefused {
    #[error("a note is UTF-8 text of at most 64 KiB without control characters other than newline")]
    NotText,
    #[error("a note is text, an empty line, and signature lines that end in a newline")]
    Structure,
    #[error("a signature line is an em dash, a key name and strict base64 of at least five bytes")]
    SignatureLine,
    #[error("a key name is not empty and has neither spaces nor '+'")]
    KeyName,
    #[error("a checkpoint is three lines: origin, size in decimal, root in strict base64")]
    Checkpoint,
    #[error("no signature line carries this key's name and id")]
    NoSuchSignature,
    #[error("the signature does not verify")]
    SignatureInvalid,
}

/// The head of a log: what a checkpoint says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The log's name, also the name of its key.
    pub origin: String,
    pub size: u64,
    pub root: Sha256,
}

impl Checkpoint {
    /// The text that is signed: three lines, each ended by a newline (C2SP tlog-checkpoint).
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))
    }

    /// Reads exactly what [`Self::text`] writes.
    ///
    /// # Errors
    /// [`NoteRefused::Checkpoint`], [`NoteRefused::KeyName`] for an origin that cannot name a key.
    pub fn parse(text: &str) -> Result<Self, NoteRefused> {
        let lines: Vec<&str> = text.split('\n').collect();
        let [origin, size, root, ""] = lines[..] else {
            return Err(NoteRefused::Checkpoint);
        };
        check_key_name(origin)?;
        let bytes = STANDARD.decode(root).map_err(|_| NoteRefused::Checkpoint)?;
        let checkpoint = Self {
            origin: origin.to_owned(),
            size: size.parse().map_err(|_| NoteRefused::Checkpoint)?,
            root: Sha256(bytes.try_into().map_err(|_| NoteRefused::Checkpoint)?),
        };
        // Refuses `+7` and `007`.
        if checkpoint.text() != text {
            return Err(NoteRefused::Checkpoint);
        }
        Ok(checkpoint)
    }
}

/// One signature line: `— <name> base64(<key id> ‖ <signature>)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoteSignature {
    pub name: String,
    pub key_id: [u8; 4],
    pub signature: Vec<u8>,
}

impl NoteSignature {
    /// A line of `signature`, as the token made it over the text, by the key of this SubjectPublicKeyInfo under this name.
    ///
    /// # Errors
    /// [`NoteRefused::KeyName`], also when the key signs no notes; [`NoteRefused::SignatureInvalid`] for what is no
    /// signature of such a key.
    pub fn over_text(name: &str, spki: &[u8], signature: &[u8]) -> Result<Self, NoteRefused> {
        let kind = note_type(spki)?;
        Self::of(kind, name, spki, kind.to_line(signature)?)
    }

    /// Reads exactly what it is shown as: one line, without its newline.
    ///
    /// # Errors
    /// [`NoteRefused::SignatureLine`], [`NoteRefused::KeyName`]
    pub fn parse(line: &str) -> Result<Self, NoteRefused> {
        parse_line(line)
    }

    /// A cosignature line: the time in seconds goes before the signature (C2SP tlog-cosignature).
    ///
    /// # Errors
    /// As [`Self::over_text`].
    pub fn cosignature(name: &str, spki: &[u8], seconds: u64, signature: &[u8]) -> Result<Self, NoteRefused> {
        let kind = cosignature_type(spki)?;
        Self::of(kind, name, spki, [&seconds.to_be_bytes(), &kind.to_line(signature)?[..]].concat())
    }

    fn of(kind: SignatureType, name: &str, spki: &[u8], signature: Vec<u8>) -> Result<Self, NoteRefused> {
        Ok(Self { name: name.to_owned(), key_id: key_id(kind, name, spki)?, signature })
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = STANDARD.encode([&self.key_id, self.signature.as_slice()].concat());
        write!(f, "{SIGNATURE_PREFIX}{} {encoded}", self.name)
    }
}

/// A text with its signatures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedNote {
    /// Ends in a newline.
    pub text: String,
    pub signatures: Vec<NoteSignature>,
}

impl SignedNote {
    /// The text, an empty line and a line for each signature.
    pub fn compose(&self) -> String {
        let lines: String = self.signatures.iter().map(|signature| format!("{signature}\n")).collect();
        format!("{}\n{lines}", self.text)
    }

    /// Reads exactly what [`Self::compose`] writes; at least one signature is needed.
    ///
    /// # Errors
    /// [`NoteRefused`] by the part that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteRefused> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteRefused::NotText);
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteRefused::NotText)?;
        if note.chars().any(|character| character < ' ' && character != '\n') {
            return Err(NoteRefused::NotText);
        }
        let split = note.rfind("\n\n").ok_or(NoteRefused::Structure)?;
        let (text, lines) = (&note[..=split], &note[split + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(NoteRefused::Structure)?;
        let signatures = lines.split('\n').take(SIGNATURES_MAX + 1).map(parse_line).collect::<Result<Vec<_>, _>>()?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(NoteRefused::Structure);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// Verifies the signature of the key of this SubjectPublicKeyInfo under this name. The key says of which type
    /// it is: a line of another type has another key id.
    ///
    /// # Errors
    /// [`NoteRefused::NoSuchSignature`], [`NoteRefused::SignatureInvalid`], [`NoteRefused::KeyName`].
    pub fn verify(&self, name: &str, spki: &[u8]) -> Result<(), NoteRefused> {
        let kind = note_type(spki)?;
        let line = self.line_of(kind, name, spki)?;
        if !kind.is_by(spki, self.text.as_bytes(), &line.signature) {
            return Err(NoteRefused::SignatureInvalid);
        }
        Ok(())
    }

    /// Verifies a witness's cosignature and answers its time in seconds.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_cosignature(&self, name: &str, spki: &[u8]) -> Result<u64, NoteRefused> {
        let kind = cosignature_type(spki)?;
        let line = self.line_of(kind, name, spki)?;
        let (time, signature) = line.signature.split_first_chunk::<8>().ok_or(NoteRefused::SignatureInvalid)?;
        let seconds = u64::from_be_bytes(*time);
        if !kind.is_by(spki, cosignature_message(seconds, &self.text).as_bytes(), signature) {
            return Err(NoteRefused::SignatureInvalid);
        }
        Ok(seconds)
    }

    fn line_of(&self, kind: SignatureType, name: &str, spki: &[u8]) -> Result<&NoteSignature, NoteRefused> {
        let key_id = key_id(kind, name, spki)?;
        let fits = |line: &&NoteSignature| line.name == name && line.key_id == key_id;
        self.signatures.iter().find(fits).ok_or(NoteRefused::NoSuchSignature)
    }
}

/// What a witness signs: `cosignature/v1`, `time <seconds>`, the checkpoint's text (C2SP tlog-cosignature).
pub fn cosignature_message(seconds: u64, checkpoint_text: &str) -> String {
    format!("cosignature/v1\ntime {seconds}\n{checkpoint_text}")
}

/// True for what can name a key: not empty, without spaces and '+'.
pub fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

fn check_key_name(name: &str) -> Result<(), NoteRefused> {
    if is_key_name(name) { Ok(()) } else { Err(NoteRefused::KeyName) }
}

fn parse_line(line: &str) -> Result<NoteSignature, NoteRefused> {
    let rest = line.strip_prefix(SIGNATURE_PREFIX).ok_or(NoteRefused::SignatureLine)?;
    let (name, encoded) = rest.split_once(' ').ok_or(NoteRefused::SignatureLine)?;
    check_key_name(name)?;
    // The standard engine refuses missing padding and stray bits, so there is one text for each value.
    let bytes = STANDARD.decode(encoded).map_err(|_| NoteRefused::SignatureLine)?;
    let (key_id, signature) = bytes.split_first_chunk::<4>().ok_or(NoteRefused::SignatureLine)?;
    if signature.is_empty() {
        return Err(NoteRefused::SignatureLine);
    }
    Ok(NoteSignature { name: name.to_owned(), key_id: *key_id, signature: signature.to_vec() })
}

#[cfg(test)]
mod tests;
