//! The receipt of a revocation or a freeze: what a party recorded, and when nothing was served any more.
//!
//! Signed with the party's revocation-receipt key, whose certificate leads to its root: whoever has that root verifies
//! the file alone. It is exactly its canonical JSON and a newline.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kernel::canon::canonical;
use crate::kernel::receipt::{Base64, ChainRefusal, Made, Role, certified_key, parse_time};
use crate::kernel::sign::{DocumentTag, Purpose, SignInput, signature_is_valid};

pub const RECEIPT_SCHEMA: &str = "countersign/revocation-receipt/v1";

/// A receipt of 4,096 serial numbers has some 400 KiB.
pub const RECEIPT_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationReceipt {
    /// The signer's certificate, issuing CA, root.
    pub chain: Vec<Base64>,
    /// What is signed, as its canonical JSON: `schema`, `party`, `what`, `target`, `recorded_at`, `effective_at`, …
    pub document: Value,
    pub signature: Base64,
}

impl RevocationReceipt {
    /// The file: canonical JSON and a newline.
    ///
    /// # Errors
    /// [`RevocationReceiptRefusal::NotCanonical`]
    pub fn to_bytes(&self) -> Result<Vec<u8>, RevocationReceiptRefusal> {
        let not_canonical = || RevocationReceiptRefusal::NotCanonical;
        let value = serde_json::to_value(self).map_err(|_| not_canonical())?;
        let mut bytes = canonical(&value).map_err(|_| not_canonical())?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// The input to the signature over a document.
///
/// # Errors
/// [`RevocationReceiptRefusal::NotCanonical`]
pub fn sign_input(document: &Value) -> Result<SignInput, RevocationReceiptRefusal> {
    let canonical_json = canonical(document).map_err(|_| RevocationReceiptRefusal::NotCanonical)?;
    Ok(SignInput::Document { tag: DocumentTag::RevocationReceipt, canonical_json })
}

/// Why a file is not a valid receipt. Checked in this order; the first that fails is told.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RevocationReceiptRefusal {
    #[error("the file is larger than 2 MiB")]
    TooLarge,
    #[error("the file is not the JSON of a revocation receipt: {0}")]
    Malformed(String),
    #[error("the file is not exactly the canonical JSON of its content and one newline")]
    NotCanonical,
    #[error("the schema is not {RECEIPT_SCHEMA}")]
    UnknownSchema,
    #[error("when it was recorded, or effective, is not a UTC time with milliseconds, or the wrong way round")]
    TimesMalformed,
    #[error("the signer's certificate: {0}")]
    Chain(#[from] ChainRefusal),
    #[error("its signature is not by its signer's key")]
    SignatureInvalid,
}

impl RevocationReceiptRefusal {
    /// The stable name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooLarge => "receipt_too_large",
            Self::Malformed(_) => "receipt_malformed",
            Self::NotCanonical => "receipt_not_canonical",
            Self::UnknownSchema => "receipt_unknown_schema",
            Self::TimesMalformed => "receipt_times_malformed",
            Self::Chain(refusal) => refusal.name(),
            Self::SignatureInvalid => "receipt_signature_invalid",
        }
    }
}

/// A receipt whose signature and signer were verified. Only [`verify`] makes one.
#[derive(Clone, PartialEq, Debug)]
#[must_use]
pub struct VerifiedRevocation {
    document: Value,
    signer: String,
}

impl VerifiedRevocation {
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Subject of the signer's certificate.
    pub fn signer(&self) -> &str {
        &self.signer
    }
}

/// Verifies a receipt with nothing but the party's root (DER).
///
/// # Errors
/// The first rule that fails, by name.
pub fn verify(file: &[u8], root: &[u8], oid_base: &str) -> Result<VerifiedRevocation, RevocationReceiptRefusal> {
    if file.len() > RECEIPT_BYTES_MAX {
        return Err(RevocationReceiptRefusal::TooLarge);
    }
    let malformed = |error: serde_json::Error| RevocationReceiptRefusal::Malformed(error.to_string());
    let receipt: RevocationReceipt = serde_json::from_slice(file).map_err(malformed)?;
    if receipt.to_bytes()? != file {
        return Err(RevocationReceiptRefusal::NotCanonical);
    }
    let document = receipt.document;
    if document["schema"] != RECEIPT_SCHEMA {
        return Err(RevocationReceiptRefusal::UnknownSchema);
    }
    let time = |name: &str| document[name].as_str().and_then(parse_time);
    let recorded_at = time("recorded_at").ok_or(RevocationReceiptRefusal::TimesMalformed)?;
    let effective_at = time("effective_at");
    let is_told = effective_at.is_some() == (document["effective"] == true);
    if !is_told || effective_at.is_some_and(|effective_at| effective_at < recorded_at) {
        return Err(RevocationReceiptRefusal::TimesMalformed);
    }
    let chain: Vec<&[u8]> = receipt.chain.iter().map(|certificate| certificate.0.as_slice()).collect();
    let purpose = format!("{oid_base}.2.6");
    let algorithms = Purpose::RevocationReceipt.algorithms();
    let made = Made::At(effective_at.unwrap_or(recorded_at));
    let certified = certified_key(&chain, root, Role { purpose: &purpose, algorithms, made })?;
    if !signature_is_valid(&certified.spki, &sign_input(&document)?.message(), &receipt.signature.0) {
        return Err(RevocationReceiptRefusal::SignatureInvalid);
    }
    Ok(VerifiedRevocation { document, signer: certified.subject })
}
