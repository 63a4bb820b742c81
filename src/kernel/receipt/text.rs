//! The compact text of a receipt: a C2SP `tlog-proof`, so that others' tools find the decision's entry under the checkpoint,
//! whose `extra` has what makes it a receipt. Both writings say the same and are verified by the same rules: the text is
//! read back into the receipt first, and there is one text of each receipt.
//!
//! It is the smaller one: each certificate stands in it once, as it is (behind the JSON), and paths are base64.

use serde::{Deserialize, Serialize};

use super::{Base64, BatchEvidence, LogEvidence, RECEIPT_SCHEMA, Receipt, Salt, commitment};
use crate::kernel::canon::canonical;
use crate::kernel::cosignature::CosignatureEvidence;
use crate::kernel::tlog_proof::TlogProof;
use crate::kernel::types::Sha256;

/// The only schema of `extra` there is.
pub const RECEIPT_TEXT_SCHEMA: &str = "countersign/receipt-text/v1";
/// What every text begins with, and no JSON.
pub(super) const BEGINNING: &[u8] = b"c2sp.org/tlog-proof@";
/// A receipt of 16 witnesses has 54 certificates at most.
const CERTIFICATES_MAX: usize = 64;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Extra {
    batch: Batch,
    body: String,
    /// Bytes of each, in the order in which chains name them first: they follow the JSON and a newline.
    certificates: Vec<usize>,
    /// Places in `certificates`.
    chain: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note_type: Option<String>,
    salt: Salt,
    schema: String,
    statement: String,
    /// Of each signature line behind the log's own, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    witnesses: Vec<Witness>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    chain: Vec<usize>,
    count: u64,
    document: String,
    index: u64,
    path: Vec<Base64>,
    signature: Base64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Witness {
    chain: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note_type: Option<String>,
}

/// Certificates, each once.
#[derive(Default)]
struct Certificates(Vec<Base64>);

impl Certificates {
    fn places(&mut self, chain: &[Base64]) -> Vec<usize> {
        chain
            .iter()
            .map(|certificate| {
                self.0.iter().position(|known| known == certificate).unwrap_or_else(|| {
                    self.0.push(certificate.clone());
                    self.0.len() - 1
                })
            })
            .collect()
    }
}

/// The text of a receipt. `None`: no receipt that [`super::verify`] accepts is written so.
pub(super) fn compose(receipt: &Receipt) -> Option<String> {
    let (batch, log) = (&receipt.batch, &receipt.log);
    let mut certificates = Certificates::default();
    let batch = Batch {
        chain: certificates.places(&batch.chain),
        count: batch.count,
        document: batch.document.clone(),
        index: batch.index,
        path: batch.path.iter().map(|hash| Base64(hash.0.to_vec())).collect(),
        signature: batch.signature.clone(),
    };
    let chain = certificates.places(&log.chain);
    let witness = |cosignature: &CosignatureEvidence| Witness {
        chain: certificates.places(&cosignature.chain),
        note_type: cosignature.note_type.clone(),
    };
    let witnesses = log.cosignatures.iter().map(witness).collect();
    let extra = Extra {
        batch,
        body: log.body.clone(),
        chain,
        witnesses,
        certificates: certificates.0.iter().map(|certificate| certificate.0.len()).collect(),
        note_type: log.note_type.clone(),
        salt: log.salt,
        schema: RECEIPT_TEXT_SCHEMA.into(),
        statement: receipt.statement.clone(),
    };
    let lines: String = log.cosignatures.iter().map(|cosignature| cosignature.line.clone() + "\n").collect();
    let mut extra = canonical(&serde_json::to_value(extra).ok()?).ok()?;
    extra.push(b'\n');
    certificates.0.iter().for_each(|certificate| extra.extend_from_slice(&certificate.0));
    let proof = TlogProof {
        extra: Some(extra),
        index: log.leaf_index,
        path: log.path.clone(),
        checkpoint: log.checkpoint.clone() + &lines,
    };
    Some(proof.compose())
}

/// The receipt that a text says. `None`: it is no such text, or not the one writing of it.
pub(super) fn read(bytes: &[u8]) -> Option<Receipt> {
    let text = std::str::from_utf8(bytes).ok()?;
    let proof = TlogProof::parse(text).ok()?;
    let extra = proof.extra?;
    // Canonical JSON has no line feed of its own.
    let (json, mut rest) = extra.split_at(extra.iter().position(|byte| *byte == b'\n')?);
    rest = &rest[1..];
    let extra: Extra = serde_json::from_slice(json).ok()?;
    if extra.schema != RECEIPT_TEXT_SCHEMA || extra.certificates.len() > CERTIFICATES_MAX {
        return None;
    }
    let mut known = vec![];
    for length in &extra.certificates {
        let (certificate, others) = rest.split_at_checked(*length)?;
        known.push(Base64(certificate.to_vec()));
        rest = others;
    }
    let certificates = |places: &[usize]| -> Option<Vec<Base64>> {
        if places.len() > CERTIFICATES_MAX {
            return None;
        }
        places.iter().map(|place| known.get(*place).cloned()).collect()
    };
    let hash = |bytes: &Base64| bytes.0.as_slice().try_into().ok().map(Sha256);
    let (checkpoint, lines) = own_note(&proof.checkpoint)?;
    if lines.len() != extra.witnesses.len() {
        return None;
    }
    let cosignature = |(line, witness): (&str, &Witness)| {
        Some(CosignatureEvidence {
            chain: certificates(&witness.chain)?,
            line: line.to_owned(),
            note_type: witness.note_type.clone(),
        })
    };
    let receipt = Receipt {
        schema: RECEIPT_SCHEMA.into(),
        statement: extra.statement,
        batch: BatchEvidence {
            document: extra.batch.document,
            index: extra.batch.index,
            count: extra.batch.count,
            path: extra.batch.path.iter().map(hash).collect::<Option<_>>()?,
            signature: extra.batch.signature,
            chain: certificates(&extra.batch.chain)?,
        },
        log: LogEvidence {
            leaf_index: proof.index,
            commitment: commitment(&extra.salt.0, extra.body.as_bytes()),
            salt: extra.salt,
            body: extra.body,
            path: proof.path,
            checkpoint: checkpoint.to_owned(),
            chain: certificates(&extra.chain)?,
            cosignatures: lines.into_iter().zip(&extra.witnesses).map(cosignature).collect::<Option<_>>()?,
            note_type: extra.note_type,
        },
    };
    (compose(&receipt)? == text).then_some(receipt)
}

/// The note with its first signature alone, and the lines of the others.
fn own_note(note: &str) -> Option<(&str, Vec<&str>)> {
    let signatures = note.find("\n\n")? + 2;
    let first = signatures + note.get(signatures..)?.find('\n')? + 1;
    let (own, others) = note.split_at(first);
    if others.is_empty() {
        return Some((own, vec![]));
    }
    Some((own, others.strip_suffix('\n')?.split('\n').collect()))
}
