//! What a party signs about an export of its log: of which bytes, found by which question, in which log.
//!
//! A C2SP signed note, beside the file. Its text can be read as no checkpoint, whose second line is a number: whoever
//! knows only checkpoints refuses it. The certificates of the key stand in the text, so that a reader needs the party's root
//! and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::kernel::canon::is_canonical;
use crate::kernel::leaf_proof::checkpoint_key;
use crate::kernel::note::{NoteRefused, SignedNote};
use crate::kernel::receipt::{ChainRefusal, Made};
use crate::kernel::types::{KeyId, Sha256, UnixMillis};

/// The first line.
const HEADER: &str = "countersign/audit-export/v1";
/// Bytes of a note that are read at all. A real one has some 3 KiB, most of it certificates.
pub const EXPORT_NOTE_BYTES_MAX: usize = 32 * 1024;
/// Certificates: the key's own, its issuing CA, the root.
const CHAIN: usize = 3;

/// What is signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportNote {
    /// The log's name.
    pub origin: String,
    /// Of the file.
    pub sha256: Sha256,
    pub bytes: u64,
    /// Leaves that were found.
    pub records: u64,
    /// Leaves of which nobody can say whether they answer the question: erased, or damaged.
    pub unread: u64,
    /// `jsonl` or `csv`.
    pub format: String,
    /// The question, canonical JSON.
    pub query: String,
    /// Leaves that were looked at: all that this checkpoint covers, as far as the question reaches.
    pub size: u64,
    pub root: Sha256,
    /// Of the checkpoint key, DER.
    pub chain: Vec<Vec<u8>>,
}

impl ExportNote {
    /// The lines that are signed.
    pub fn text(&self) -> String {
        let Self { origin, sha256, bytes, records, unread, format, query, size, root, chain } = self;
        let unread = if *unread == 0 { String::new() } else { format!("unread {unread}\n") };
        let chain: String = chain.iter().map(|der| format!("certificate {}\n", STANDARD.encode(der))).collect();
        format!(
            "{HEADER}\nlog {origin}\nfile {sha256} {bytes} {format}\nrecords {records}\n{unread}query {query}\n\
             checkpoint {size} {}\n{chain}",
            STANDARD.encode(root.0)
        )
    }

    /// Reads what [`Self::text`] writes, and no other writing of it.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > EXPORT_NOTE_BYTES_MAX {
            return None;
        }
        let mut lines = text.strip_suffix('\n')?.split('\n').peekable();
        lines.next().filter(|first| *first == HEADER)?;
        let mut line = |word: &str| {
            let of_word = |line: &&str| line.strip_prefix(word).is_some_and(|rest| rest.starts_with(' '));
            lines.next_if(of_word).map(|line| line[word.len() + 1..].to_owned())
        };
        let origin = line("log")?;
        let file = line("file")?;
        let records = line("records")?.parse().ok()?;
        // Left out when there is none.
        let unread = line("unread").map_or(Ok(0), |count| count.parse()).ok()?;
        let query = line("query")?;
        let checkpoint = line("checkpoint")?;
        let chain: Option<Vec<Vec<u8>>> =
            lines.take(CHAIN + 1).map(|line| STANDARD.decode(line.strip_prefix("certificate ")?).ok()).collect();
        let mut file = file.splitn(3, ' ');
        let (size, root) = checkpoint.split_once(' ')?;
        let note = Self {
            origin,
            sha256: Sha256::from_hex(file.next()?).ok()?,
            bytes: file.next()?.parse().ok()?,
            format: file.next()?.to_owned(),
            records,
            unread,
            query,
            size: size.parse().ok()?,
            root: Sha256(STANDARD.decode(root).ok()?.try_into().ok()?),
            chain: chain?,
        };
        let is_plain = !note.origin.is_empty() && note.origin.chars().all(|c| c.is_ascii_graphic() && c != '+');
        let is_known = ["jsonl", "csv"].contains(&note.format.as_str());
        let is_one = is_plain && is_known && is_canonical(note.query.as_bytes()) && note.chain.len() == CHAIN;
        (is_one && note.text() == text).then_some(note)
    }

    /// Passes what the checkpoint key of this id may sign: a note of this shape whose own certificate is over that key.
    pub fn names(&self, signer: KeyId) -> bool {
        let own =
            self.chain.first().and_then(|der| crate::kernel::credential::certificate::Certificate::read(der).ok());
        own.is_some_and(|own| Sha256::of(&[own.tbs.spki]) == signer)
    }
}

/// Why a file is not an export that this party has signed. Checked in this order.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ExportRefusal {
    #[error("the note is not a signed note with one signature over an export of a log")]
    Malformed,
    #[error("the checkpoint's certificate: {0}")]
    Chain(ChainRefusal),
    #[error("the note's signature: {0}")]
    SignatureInvalid(NoteRefused),
    #[error("the file is not the one that was signed: it has other bytes")]
    FileDiffers,
}

impl ExportRefusal {
    /// The stable name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Malformed => "export_note_malformed",
            Self::Chain(refusal) => refusal.name(),
            Self::SignatureInvalid(_) => "export_signature_invalid",
            Self::FileDiffers => "export_file_differs",
        }
    }
}

/// What a verified export says. Only [`verify`] makes one.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct ExportVerdict {
    note: ExportNote,
    signer: String,
}

impl ExportVerdict {
    pub fn note(&self) -> &ExportNote {
        &self.note
    }

    /// Subject of the certificate that signed it.
    pub fn signer(&self) -> &str {
        &self.signer
    }
}

/// Verifies a note, and that it is of a file with this hash and length, with nothing but the party's root certificate
/// (DER) and the base of the private OIDs. The note carries no time: nothing is asked of the certificates' own.
///
/// # Errors
/// The first rule that fails, by name.
pub fn verify(
    note: &[u8],
    file: (Sha256, u64),
    root_der: &[u8],
    oid_base: &str,
) -> Result<ExportVerdict, ExportRefusal> {
    let signed = SignedNote::parse(note).map_err(|_| ExportRefusal::Malformed)?;
    let said = ExportNote::parse(&signed.text).filter(|_| signed.signatures.len() == 1);
    let said = said.ok_or(ExportRefusal::Malformed)?;
    let chain: Vec<&[u8]> = said.chain.iter().map(Vec::as_slice).collect();
    let whenever = Made::NotBefore(UnixMillis(i64::MIN));
    let key = checkpoint_key(&chain, root_der, oid_base, whenever).map_err(ExportRefusal::Chain)?;
    signed.verify(&said.origin, &key.spki).map_err(ExportRefusal::SignatureInvalid)?;
    if (said.sha256, said.bytes) != file {
        return Err(ExportRefusal::FileDiffers);
    }
    Ok(ExportVerdict { note: said, signer: key.subject })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::note::Checkpoint;

    fn note() -> ExportNote {
        ExportNote {
            origin: "bank.example/log".into(),
            sha256: Sha256([1; 32]),
            bytes: 77,
            records: 3,
            unread: 0,
            format: "csv".into(),
            query: "{\"tool\":\"execute_transfer\"}".into(),
            size: 12,
            root: Sha256([2; 32]),
            chain: vec![vec![3], vec![4], vec![5]],
        }
    }

    #[test]
    fn a_note_is_the_one_writing_of_what_it_says_and_no_checkpoint() {
        let text = note().text();
        assert_eq!(ExportNote::parse(&text), Some(note()));
        let with_unread = ExportNote { unread: 5, ..note() };
        assert!(with_unread.text().contains("\nrecords 3\nunread 5\nquery "));
        assert_eq!(ExportNote::parse(&with_unread.text()), Some(with_unread));
        assert_eq!(ExportNote::parse(&text.replace("\nquery", "\nunread 0\nquery")), None);
        assert!(Checkpoint::parse(&text).is_err());
        assert!(text.lines().nth(1).unwrap().parse::<u64>().is_err(), "no reader takes it for a checkpoint");
        for (from, to) in [
            ("records 3", "records 03"),
            ("records 3", "records +3"),
            ("records 3\n", ""),
            ("\nquery {", "\nquery  {"),
            ("\"tool\":", "\"tool\": "),
            (" csv\n", " pdf\n"),
            ("checkpoint 12 ", "checkpoint 012 "),
            ("certificate BQ==\n", ""),
            ("certificate BQ==\n", "certificate BQ==\ncertificate Bg==\n"),
            ("certificate BQ==\n", "certificate BQ\n"),
            ("log bank.example/log", "log bank example"),
            ("v1\n", "v2\n"),
        ] {
            let other = text.replacen(from, to, 1);
            assert_ne!(other, text, "{from:?}");
            assert_eq!(ExportNote::parse(&other), None, "{from:?} to {to:?}");
        }
        assert_eq!(ExportNote::parse(text.trim_end()), None);
        assert_eq!(ExportNote::parse(&format!("{text}\n")), None);
        assert_eq!(ExportNote::parse(""), None);
    }
}
