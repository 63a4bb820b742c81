//! The text formats of a transparency log: signed notes, checkpoints and cosignatures, as the C2SP documents
//! `signed-note`, `tlog-checkpoint` and `tlog-cosignature` (v1.0.0) have them.
//!
//! Parsing is strict: what is read composes back to the same bytes, so there is one text for one meaning.
//! Extension lines of a checkpoint are refused, because nothing here would understand them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::kernel::sign::{Algorithm, raw_public_key, signature_is_valid, spki_der};
use crate::kernel::types::Sha256;

/// Bytes of a note that are read at all; ours have a few hundred.
const NOTE_BYTES_MAX: usize = 64 * 1024;

/// Signature lines of one note that are read at all (C2SP signed-note asks for a limit of at least 16).
const SIGNATURES_MAX: usize = 64;

/// Separates text and signatures: an em dash and a space (C2SP signed-note).
const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// What kind of signature a key's id names (C2SP signed-note, "Signature types").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignatureType {
    /// Ed25519 over the note's text.
    Ed25519,
    /// Ed25519 over `cosignature/v1`, a time and the text (C2SP tlog-cosignature).
    CosignatureV1,
}

impl SignatureType {
    fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::CosignatureV1 => 0x04,
        }
    }
}

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
    /// A line of `signature` by the Ed25519 key of this SubjectPublicKeyInfo under this name.
    ///
    /// # Errors
    /// [`NoteRefused::KeyName`], also when the key is of another type.
    pub fn new(kind: SignatureType, name: &str, spki: &[u8], signature: &[u8]) -> Result<Self, NoteRefused> {
        let key_id = key_id(kind, name, spki)?;
        Ok(Self { name: name.to_owned(), key_id, signature: signature.to_vec() })
    }

    /// Reads exactly what it is shown as: one line, without its newline.
    ///
    /// # Errors
    /// [`NoteRefused::SignatureLine`], [`NoteRefused::KeyName`]
    pub fn parse(line: &str) -> Result<Self, NoteRefused> {
        parse_line(line)
    }

    /// A cosignature line: the time in seconds goes before the 64 bytes (C2SP tlog-cosignature).
    ///
    /// # Errors
    /// [`NoteRefused::KeyName`], also when the key is of another type.
    pub fn cosignature(name: &str, spki: &[u8], seconds: u64, signature: &[u8]) -> Result<Self, NoteRefused> {
        let timed = [&seconds.to_be_bytes(), signature].concat();
        Self::new(SignatureType::CosignatureV1, name, spki, &timed)
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

    /// Verifies the signature of the Ed25519 key of this SubjectPublicKeyInfo under this name.
    ///
    /// # Errors
    /// [`NoteRefused::NoSuchSignature`], [`NoteRefused::SignatureInvalid`], [`NoteRefused::KeyName`].
    pub fn verify(&self, name: &str, spki: &[u8]) -> Result<(), NoteRefused> {
        let line = self.line_of(SignatureType::Ed25519, name, spki)?;
        if !signature_is_valid(spki, self.text.as_bytes(), &line.signature) {
            return Err(NoteRefused::SignatureInvalid);
        }
        Ok(())
    }

    /// Verifies a witness's cosignature and answers its time in seconds.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_cosignature(&self, name: &str, spki: &[u8]) -> Result<u64, NoteRefused> {
        let line = self.line_of(SignatureType::CosignatureV1, name, spki)?;
        let (time, signature) = line.signature.split_first_chunk::<8>().ok_or(NoteRefused::SignatureInvalid)?;
        let seconds = u64::from_be_bytes(*time);
        if !signature_is_valid(spki, cosignature_message(seconds, &self.text).as_bytes(), signature) {
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

/// The first four bytes of `SHA-256(name ‖ "\n" ‖ type ‖ public key)` (C2SP signed-note).
///
/// # Errors
/// [`NoteRefused::KeyName`], also when the key is not Ed25519.
pub fn key_id(kind: SignatureType, name: &str, spki: &[u8]) -> Result<[u8; 4], NoteRefused> {
    check_key_name(name)?;
    let Some((Algorithm::Ed25519, key)) = raw_public_key(spki) else {
        return Err(NoteRefused::KeyName);
    };
    let hash = Sha256::of(&[name.as_bytes(), b"\n", &[kind.byte()], key]).0;
    Ok([hash[0], hash[1], hash[2], hash[3]])
}

/// True for what can name a key: not empty, without spaces and '+'.
pub fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

fn check_key_name(name: &str) -> Result<(), NoteRefused> {
    if is_key_name(name) { Ok(()) } else { Err(NoteRefused::KeyName) }
}

/// The key of a log in one word: `<name>+<key id>+base64(0x01 ‖ Ed25519 key)` (C2SP signed-note, "Verifier keys").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifierKey {
    pub name: String,
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
}

impl VerifierKey {
    /// # Errors
    /// [`NoteRefused::KeyName`] for what is no such word, or another kind of key.
    pub fn parse(text: &str) -> Result<Self, NoteRefused> {
        let mut parts = text.splitn(3, '+');
        let (name, id, encoded) = (parts.next(), parts.next(), parts.next());
        let (Some(name), Some(id), Some(encoded)) = (name, id, encoded) else {
            return Err(NoteRefused::KeyName);
        };
        let bytes = STANDARD.decode(encoded).map_err(|_| NoteRefused::KeyName)?;
        let key = bytes.strip_prefix(&[SignatureType::Ed25519.byte()]).filter(|key| key.len() == 32);
        let spki = spki_der(Algorithm::Ed25519, key.ok_or(NoteRefused::KeyName)?);
        if hex::encode(key_id(SignatureType::Ed25519, name, &spki)?) != id {
            return Err(NoteRefused::KeyName);
        }
        Ok(Self { name: name.to_owned(), spki })
    }
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
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    const ORIGIN: &str = "bank.countersign.example/log";

    fn key(seed: u8) -> (Ed25519KeyPair, Vec<u8>) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let spki = spki_der(Algorithm::Ed25519, pair.public_key().as_ref());
        (pair, spki)
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: ORIGIN.into(), size: 8, root: Sha256::of(&[b"root"]) }
    }

    fn signed() -> (SignedNote, Vec<u8>) {
        let (pair, spki) = key(1);
        let text = checkpoint().text();
        let signature = pair.sign(text.as_bytes());
        let line = NoteSignature::new(SignatureType::Ed25519, ORIGIN, &spki, signature.as_ref()).unwrap();
        (SignedNote { text, signatures: vec![line] }, spki)
    }

    #[test]
    fn the_example_of_the_signed_note_specification_verifies() {
        // golang.org/x/mod/sumdb/note, the package's example and the origin of the format.
        let verifier = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let VerifierKey { name, spki } = VerifierKey::parse(verifier).unwrap();
        assert_eq!(name, "PeterNeumann");
        for other in ["", "PeterNeumann", "Peter+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", &verifier[1..]]
        {
            assert_eq!(VerifierKey::parse(other), Err(NoteRefused::KeyName), "{other}");
        }
        assert!(VerifierKey::parse(&verifier.replace("+AR", "+BB")).is_err(), "another kind of key");
        let note = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n\n\
                    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let note = SignedNote::parse(note.as_bytes()).unwrap();
        assert_eq!(note.verify("PeterNeumann", &spki), Ok(()));
    }

    #[test]
    fn a_checkpoint_reads_back_and_its_signature_verifies() {
        let (note, spki) = signed();
        let composed = note.compose();
        let read = SignedNote::parse(composed.as_bytes()).unwrap();
        assert_eq!(read, note);
        assert_eq!(Checkpoint::parse(&read.text), Ok(checkpoint()));
        assert_eq!(read.verify(ORIGIN, &spki), Ok(()));
    }

    #[test]
    fn a_cosignature_verifies_beside_the_logs_own_signature() {
        let (mut note, spki) = signed();
        let (witness, witness_spki) = key(2);
        let signature = witness.sign(cosignature_message(1_700_000_000, &note.text).as_bytes());
        let line = NoteSignature::cosignature("w.example/w1", &witness_spki, 1_700_000_000, signature.as_ref());
        note.signatures.push(line.unwrap());
        let read = SignedNote::parse(note.compose().as_bytes()).unwrap();
        assert_eq!(read.verify_cosignature("w.example/w1", &witness_spki), Ok(1_700_000_000));
        assert_eq!(read.verify(ORIGIN, &spki), Ok(()));
        assert_eq!(read.verify("w.example/w1", &witness_spki), Err(NoteRefused::NoSuchSignature));
        assert_eq!(read.verify_cosignature(ORIGIN, &spki), Err(NoteRefused::NoSuchSignature));
        note.signatures[1].signature[7] ^= 1;
        assert_eq!(note.verify_cosignature("w.example/w1", &witness_spki), Err(NoteRefused::SignatureInvalid));
    }

    #[test]
    fn signatures_by_others_or_over_other_text_are_refused_by_name() {
        let (note, spki) = signed();
        assert_eq!(note.verify(ORIGIN, &key(2).1), Err(NoteRefused::NoSuchSignature));
        assert_eq!(note.verify("other.example", &spki), Err(NoteRefused::NoSuchSignature));
        assert_eq!(note.verify("a name", &spki), Err(NoteRefused::KeyName));
        assert_eq!(note.verify(ORIGIN, b"no key"), Err(NoteRefused::KeyName));
        let mut other_text = note.clone();
        other_text.text = other_text.text.replace("\n8\n", "\n9\n");
        assert_eq!(other_text.verify(ORIGIN, &spki), Err(NoteRefused::SignatureInvalid));
        let mut flipped = note;
        flipped.signatures[0].signature[0] ^= 1;
        assert_eq!(flipped.verify(ORIGIN, &spki), Err(NoteRefused::SignatureInvalid));
    }

    #[test]
    fn texts_that_are_no_signed_note_are_refused_by_name() {
        use NoteRefused::*;
        let table: [(&str, NoteRefused); 12] = [
            ("", Structure),
            ("text\n", Structure),
            ("text\n\n", Structure),
            ("text\n\n\u{2014} a AAAAAAA=", Structure),
            ("text\t\n\n\u{2014} a AAAAAAA=\n", NotText),
            ("text\n\n- a AAAAAAA=\n", SignatureLine),
            ("text\n\n\u{2014} a\n", SignatureLine),
            ("text\n\n\u{2014} a AAAAAA==\n", SignatureLine),
            ("text\n\n\u{2014} a AAAAAAA\n", SignatureLine),
            ("text\n\n\u{2014} a AAAAAAB=\n", SignatureLine),
            ("text\n\n\u{2014} a+b AAAAAAA=\n", KeyName),
            ("text\n\n\u{2014}  AAAAAAA=\n", KeyName),
        ];
        for (text, refused) in table {
            assert_eq!(SignedNote::parse(text.as_bytes()), Err(refused), "{text:?}");
        }
        let many = format!("text\n\n{}", "\u{2014} a AAAAAAA=\n".repeat(SIGNATURES_MAX + 1));
        assert_eq!(SignedNote::parse(many.as_bytes()), Err(Structure));
        assert_eq!(SignedNote::parse(&vec![b'a'; NOTE_BYTES_MAX + 1]), Err(NotText));
        assert_eq!(SignedNote::parse(b"\xff\n\n"), Err(NotText));
    }

    #[test]
    fn texts_that_are_no_checkpoint_are_refused() {
        let good = checkpoint().text();
        let root = STANDARD.encode(checkpoint().root.0);
        for bad in [
            String::new(),
            good.trim_end().to_owned(),
            format!("{good}extension\n"),
            format!("{good}\n"),
            good.replace("\n8\n", "\n+8\n"),
            good.replace("\n8\n", "\n08\n"),
            good.replace("\n8\n", "\n-8\n"),
            good.replace("\n8\n", "\n18446744073709551616\n"),
            good.replace("\n8\n", "\n\n"),
            good.replace(ORIGIN, ""),
            good.replace(ORIGIN, "two words"),
            good.replace(&root, root.trim_end_matches('=')),
            good.replace(&root, "AAAA"),
        ] {
            assert!(Checkpoint::parse(&bad).is_err(), "{bad:?}");
        }
    }
}
