//! A receipt: proof, readable years later and with every daemon gone, that the bank posted a transaction.
//!
//! Two chains of evidence meet in one file. The *batch*: the statement of what moved, its place under the root that
//! the bank's transaction key signed before it answered. The *log*: the leaf of the decision, its place under a
//! checkpoint that the log's key signed. Both keys have certificates that lead to the bank's root, so that this one
//! root is all a reader must have from elsewhere. The file is exactly its canonical JSON and a newline: every byte
//! is covered by a signature, by a hash, or by there being only one way to write it. What is left, and proves the same
//! however it is written, is in docs/FORMATS.md: an ECDSA signature has a second writing ([`LOW_S`]), and a cosignature's
//! name is signed by nobody.

mod chain;
mod text;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

pub use chain::ChainRefusal;
pub(super) use chain::{Certified, Made, Role, certified_key};
pub use text::RECEIPT_TEXT_SCHEMA;

use crate::kernel::canon::{canonical, is_canonical};
use crate::kernel::command::TransactionStatement;
use crate::kernel::cosignature::{self, COSIGNATURES_MAX, CosignatureEvidence, CosignatureRefusal, Cosigner};
use crate::kernel::leaf_proof::{NotInLog, checkpoint_key, leaf_under};
use crate::kernel::merkle::{self, leaf_hash, verify_inclusion};
use crate::kernel::note::{Checkpoint, SignatureType, note_type};
use crate::kernel::sign::{DocumentTag, Purpose, SignInput, has_low_s, signature_is_valid};
use crate::kernel::types::{Sha256, UnixMillis};

/// The only schema there is.
pub const RECEIPT_SCHEMA: &str = "countersign/receipt/v1";

/// Schema of the batch documents that are understood.
const BATCH_SCHEMA: &str = "countersign/batch/v1";

/// What a batch document says of its own ECDSA signature: it has the smaller s, and no other writing of it is the one that
/// was made. Documents from before say nothing.
pub const LOW_S: &str = "low-s";

/// Below the base of the private OIDs: the use of transaction keys.
const TRANSACTION_ARC: &str = "2.3";

/// First bytes of every log entry: no other hashed thing starts so.
const LEAF_PREFIX: &[u8] = b"countersign/leaf/v1\n";

/// Bytes of a receipt that are read at all. A real one has about 8 KiB; bodies are bounded by the listener.
pub const RECEIPT_BYTES_MAX: usize = 1024 * 1024;

/// A receipt, as its JSON has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// [`RECEIPT_SCHEMA`]
    pub schema: String,
    /// The canonical JSON of a [`TransactionStatement`].
    pub statement: String,
    pub batch: BatchEvidence,
    pub log: LogEvidence,
}

/// The statement under a root that the bank's transaction key signed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchEvidence {
    /// Canonical JSON with `schema`, `count` and `root`; what is signed. The leaves of the root are the statements.
    pub document: String,
    pub index: u64,
    pub count: u64,
    pub path: Vec<Sha256>,
    /// The transaction key's signature over [`DocumentTag::BatchRoot`] and the document.
    pub signature: Base64,
    /// The transaction key's certificate, issuing CA, root.
    pub chain: Vec<Base64>,
}

/// The decision's leaf under a signed checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogEvidence {
    pub leaf_index: u64,
    pub salt: Salt,
    /// The leaf's body, canonical JSON.
    pub body: String,
    pub commitment: Sha256,
    pub path: Vec<Sha256>,
    /// A signed note.
    pub checkpoint: String,
    /// The checkpoint key's certificate, issuing CA, root.
    pub chain: Vec<Base64>,
    /// What witnesses have signed over the same checkpoint; may be empty.
    pub cosignatures: Vec<CosignatureEvidence>,
    /// The type of the checkpoint's signature when it is one of ours ([`SignatureType::own_name`]), and only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note_type: Option<String>,
}

impl Receipt {
    /// The file: canonical JSON and a newline.
    ///
    /// # Errors
    /// A number outside the range that canonical JSON has.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ReceiptRefusal> {
        let value = serde_json::to_value(self).map_err(|_| ReceiptRefusal::NotCanonical)?;
        let mut bytes = canonical(&value).map_err(|_| ReceiptRefusal::NotCanonical)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The same receipt as compact text: a C2SP `tlog-proof` whose `extra` has the rest.
    ///
    /// # Errors
    /// As [`Self::to_bytes`].
    pub fn to_text(&self) -> Result<String, ReceiptRefusal> {
        text::compose(self).ok_or(ReceiptRefusal::NotCanonical)
    }
}

/// `SHA-256(salt ‖ body)`: what a leaf commits to.
pub fn commitment(salt: &[u8; 32], body: &[u8]) -> Sha256 {
    Sha256::of(&[salt, body])
}

/// The log entry of a leaf: `countersign/leaf/v1`, a newline and the 32 bytes of the commitment.
pub fn leaf_entry(commitment: &Sha256) -> Vec<u8> {
    [LEAF_PREFIX, &commitment.0].concat()
}

/// What a verified receipt proves. Only [`verify`] makes one.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct ReceiptVerdict {
    statement: TransactionStatement,
    leaf_index: u64,
    checkpoint: Checkpoint,
    transaction_signer: String,
    checkpoint_signer: String,
    checkpoint_type: SignatureType,
    cosigners: Vec<Cosigner>,
}

impl ReceiptVerdict {
    pub fn statement(&self) -> &TransactionStatement {
        &self.statement
    }

    /// The place of the decision's leaf in the log.
    pub fn leaf_index(&self) -> u64 {
        self.leaf_index
    }

    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Witnesses that have cosigned the checkpoint, as far as the receipt says.
    pub fn cosigners(&self) -> &[Cosigner] {
        &self.cosigners
    }

    /// How the checkpoint is signed.
    pub fn checkpoint_type(&self) -> SignatureType {
        self.checkpoint_type
    }

    /// Subjects of the certificates that signed the batch and the checkpoint.
    pub fn signers(&self) -> (&str, &str) {
        (&self.transaction_signer, &self.checkpoint_signer)
    }
}

/// Which of the two chains is meant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Signer {
    Transaction,
    Checkpoint,
}

impl std::fmt::Display for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Transaction => "transaction",
            Self::Checkpoint => "checkpoint",
        })
    }
}

/// Why a file is not a valid receipt. Checked in this order; the first that fails is told.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReceiptRefusal {
    #[error("the file is larger than 1 MiB")]
    TooLarge,
    #[error("the file is not the JSON of a receipt: {0}")]
    Malformed(String),
    #[error("the file is not exactly the canonical JSON of its content and one newline")]
    NotCanonical,
    #[error("the schema is not {RECEIPT_SCHEMA}")]
    UnknownSchema,
    #[error("the statement is not canonical JSON")]
    StatementNotCanonical,
    #[error("the statement is not that of a transaction: {0}")]
    StatementMalformed(String),
    #[error("the statement's posted_at is not a UTC time with milliseconds")]
    PostedAtMalformed,
    #[error("the {0} certificate: {1}")]
    Chain(Signer, ChainRefusal),
    #[error("the batch document is not canonical JSON of schema {BATCH_SCHEMA} with a count and a root")]
    BatchDocumentMalformed,
    #[error("the receipt and the signed batch document name different counts")]
    BatchCountDiffers,
    #[error("the signature over the batch document is not by the certified transaction key")]
    BatchSignatureInvalid,
    #[error("the statement is not in the signed batch")]
    StatementNotInBatch,
    #[error("the leaf's body is not a canonical JSON object")]
    BodyMalformed,
    #[error("the leaf's body is the record of another transaction")]
    BodyNamesAnother,
    #[error("the leaf's body does not record that this very statement was executed")]
    BodyNotThisPosting,
    #[error("the commitment is not that of salt and body")]
    CommitmentDiffers,
    #[error("the file does not say of which type the checkpoint's signature is, or says another one than its key's")]
    NoteTypeDiffers,
    #[error("the checkpoint is not a signed note with one signature: {0}")]
    CheckpointMalformed(crate::kernel::note::NoteRefused),
    #[error("the checkpoint's signature: {0}")]
    CheckpointSignatureInvalid(crate::kernel::note::NoteRefused),
    #[error("the leaf is not in the log that the checkpoint signs")]
    LeafNotInLog,
    #[error("a witness: {0}")]
    Cosignature(#[from] CosignatureRefusal),
}

impl ReceiptRefusal {
    /// The stable name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooLarge => "receipt_too_large",
            Self::Malformed(_) => "receipt_malformed",
            Self::NotCanonical => "receipt_not_canonical",
            Self::UnknownSchema => "receipt_unknown_schema",
            Self::StatementNotCanonical => "statement_not_canonical",
            Self::StatementMalformed(_) => "statement_malformed",
            Self::PostedAtMalformed => "posted_at_malformed",
            Self::Chain(_, refusal) => refusal.name(),
            Self::BatchDocumentMalformed => "batch_document_malformed",
            Self::BatchCountDiffers => "batch_count_differs",
            Self::BatchSignatureInvalid => "batch_signature_invalid",
            Self::StatementNotInBatch => "statement_not_in_batch",
            Self::BodyMalformed => "body_malformed",
            Self::BodyNamesAnother => "body_names_another",
            Self::BodyNotThisPosting => "body_not_this_posting",
            Self::CommitmentDiffers => "commitment_differs",
            Self::NoteTypeDiffers => "note_type_differs",
            Self::CheckpointMalformed(_) => "checkpoint_malformed",
            Self::CheckpointSignatureInvalid(_) => "checkpoint_signature_invalid",
            Self::LeafNotInLog => "leaf_not_in_log",
            Self::Cosignature(refusal) => refusal.name(),
        }
    }
}

/// Verifies a receipt with nothing but the bank's root certificate (DER) and the base of the private OIDs
/// (`1.3.6.1.4.1.32473` unless the bank's configuration says otherwise).
///
/// The transaction key's certificates must have been valid when the transaction was posted. A checkpoint carries no
/// time and is signed after the posting, so its certificates must not have expired before.
///
/// # Errors
/// The first rule that fails, by name.
pub fn verify(receipt: &[u8], bank_root_der: &[u8], oid_base: &str) -> Result<ReceiptVerdict, ReceiptRefusal> {
    verify_witnessed(receipt, bank_root_der, None, oid_base)
}

/// The same, for a reader who also has the root of a witness (DER) and wants its word: then the bank alone cannot have
/// written another history.
///
/// # Errors
/// The first rule that fails, by name; [`CosignatureRefusal::Missing`] when no such witness has cosigned.
pub fn verify_witnessed(
    receipt: &[u8],
    bank_root_der: &[u8],
    witness_root_der: Option<&[u8]>,
    oid_base: &str,
) -> Result<ReceiptVerdict, ReceiptRefusal> {
    let receipt = parse(receipt)?;
    let (statement, posted_at) = parse_statement(&receipt.statement)?;
    let transaction = certified(Signer::Transaction, &receipt.batch.chain, bank_root_der, oid_base, posted_at)?;
    verify_batch(&receipt, &transaction)?;
    verify_leaf(&receipt, &statement)?;
    let log_key = certified(Signer::Checkpoint, &receipt.log.chain, bank_root_der, oid_base, posted_at)?;
    let checkpoint_type = note_type(&log_key.spki).map_err(ReceiptRefusal::CheckpointSignatureInvalid)?;
    if receipt.log.note_type.as_deref() != checkpoint_type.own_name() {
        return Err(ReceiptRefusal::NoteTypeDiffers);
    }
    let checkpoint = verify_log(&receipt.log, &log_key)?;
    let read = receipt.log.cosignatures.iter().take(COSIGNATURES_MAX + 1).map(CosignatureEvidence::read);
    let cosignatures = read.collect::<Result<Vec<_>, _>>()?;
    let cosigners = cosignature::verify(&checkpoint, cosignatures.into_iter(), witness_root_der, oid_base)?;
    Ok(ReceiptVerdict {
        cosigners,
        statement,
        leaf_index: receipt.log.leaf_index,
        checkpoint,
        transaction_signer: transaction.subject,
        checkpoint_signer: log_key.subject,
        checkpoint_type,
    })
}

fn parse(bytes: &[u8]) -> Result<Receipt, ReceiptRefusal> {
    if bytes.len() > RECEIPT_BYTES_MAX {
        return Err(ReceiptRefusal::TooLarge);
    }
    if bytes.starts_with(text::BEGINNING) {
        let why = "it is not the compact text of one";
        return text::read(bytes).ok_or_else(|| ReceiptRefusal::Malformed(why.into()));
    }
    // Unknown and duplicate fields are refused by the derived reader.
    let receipt: Receipt =
        serde_json::from_slice(bytes).map_err(|error| ReceiptRefusal::Malformed(error.to_string()))?;
    if receipt.to_bytes()? != bytes {
        return Err(ReceiptRefusal::NotCanonical);
    }
    if receipt.schema != RECEIPT_SCHEMA {
        return Err(ReceiptRefusal::UnknownSchema);
    }
    Ok(receipt)
}

fn parse_statement(text: &str) -> Result<(TransactionStatement, UnixMillis), ReceiptRefusal> {
    if !is_canonical(text.as_bytes()) {
        return Err(ReceiptRefusal::StatementNotCanonical);
    }
    let statement: TransactionStatement =
        serde_json::from_str(text).map_err(|error| ReceiptRefusal::StatementMalformed(error.to_string()))?;
    let posted_at = parse_time(&statement.posted_at).ok_or(ReceiptRefusal::PostedAtMalformed)?;
    Ok((statement, posted_at))
}

/// Reads what [`UnixMillis::rfc3339`] writes, and no other writing of it.
pub fn parse_time(text: &str) -> Option<UnixMillis> {
    let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    let millis = UnixMillis(i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()?);
    (millis.rfc3339() == text).then_some(millis)
}

fn certified(
    signer: Signer,
    chain: &[Base64],
    root: &[u8],
    oid_base: &str,
    posted_at: UnixMillis,
) -> Result<Certified, ReceiptRefusal> {
    let chain: Vec<&[u8]> = chain.iter().map(|certificate| certificate.0.as_slice()).collect();
    let certified = match signer {
        Signer::Transaction => {
            let purpose = format!("{oid_base}.{TRANSACTION_ARC}");
            let algorithms = Purpose::Transaction.algorithms();
            certified_key(&chain, root, Role { purpose: &purpose, algorithms, made: Made::At(posted_at) })
        }
        Signer::Checkpoint => checkpoint_key(&chain, root, oid_base, Made::NotBefore(posted_at)),
    };
    certified.map_err(|refusal| ReceiptRefusal::Chain(signer, refusal))
}

fn verify_batch(receipt: &Receipt, key: &Certified) -> Result<(), ReceiptRefusal> {
    let batch = &receipt.batch;
    let document = parse_batch_document(&batch.document).ok_or(ReceiptRefusal::BatchDocumentMalformed)?;
    let BatchDocument { count, root, is_low_s } = document;
    if count != batch.count {
        return Err(ReceiptRefusal::BatchCountDiffers);
    }
    let canonical_json = batch.document.clone().into_bytes();
    let message = SignInput::Document { tag: DocumentTag::BatchRoot, canonical_json }.message();
    let is_written_so = !is_low_s || has_low_s(&key.spki, &batch.signature.0);
    if !is_written_so || !signature_is_valid(&key.spki, &message, &batch.signature.0) {
        return Err(ReceiptRefusal::BatchSignatureInvalid);
    }
    let leaf = leaf_hash(receipt.statement.as_bytes());
    if !verify_inclusion(&leaf, batch.index, count, &batch.path, &root) {
        return Err(ReceiptRefusal::StatementNotInBatch);
    }
    Ok(())
}

/// True when this is the document of a batch of this number over these statements' hashes, in their order: what the
/// transaction key signs is nothing else.
#[must_use]
pub fn batch_fits(batch: i64, document: &[u8], statements: &[Sha256]) -> bool {
    let Ok(said) = serde_json::from_slice::<Value>(document) else {
        return false;
    };
    is_canonical(document)
        && said["schema"] == BATCH_SCHEMA
        && said["batch"].as_i64() == Some(batch)
        && said["count"].as_u64() == u64::try_from(statements.len()).ok()
        && said["root"].as_str() == Some(merkle::root(statements).hex().as_str())
}

struct BatchDocument {
    count: u64,
    root: Sha256,
    /// [`LOW_S`]
    is_low_s: bool,
}

/// Other members are the bank's business: they are signed, and say nothing about this statement.
fn parse_batch_document(text: &str) -> Option<BatchDocument> {
    if !is_canonical(text.as_bytes()) {
        return None;
    }
    let document: Value = serde_json::from_str(text).ok()?;
    if document.get("schema")?.as_str()? != BATCH_SCHEMA {
        return None;
    }
    let count = document.get("count")?.as_u64()?;
    let root = Sha256::from_hex(document.get("root")?.as_str()?).ok()?;
    let is_low_s = match document.get("signature") {
        None => false,
        Some(said) if said == LOW_S => true,
        Some(_) => return None,
    };
    Some(BatchDocument { count, root, is_low_s })
}

fn verify_leaf(receipt: &Receipt, statement: &TransactionStatement) -> Result<(), ReceiptRefusal> {
    let log = &receipt.log;
    let body: Value = serde_json::from_str(&log.body).map_err(|_| ReceiptRefusal::BodyMalformed)?;
    if !body.is_object() || !is_canonical(log.body.as_bytes()) {
        return Err(ReceiptRefusal::BodyMalformed);
    }
    let result = &body["result"];
    if result["transaction_id"].as_str() != Some(statement.transaction_id.as_str()) {
        return Err(ReceiptRefusal::BodyNamesAnother);
    }
    // An authorization names the same transaction, and so does a repeated call: neither moved anything.
    let statement_sha256 = Sha256::of(&[receipt.statement.as_bytes()]).hex();
    // A reversal is posted by the word of the last person who let it.
    let is_word = body["act"] == "decide_approval" && result["status"] == "approved";
    let posted_it = (result["status"] == "executed" || is_word)
        && result["repeated"] == false
        && result["statement_sha256"].as_str() == Some(statement_sha256.as_str());
    if !posted_it {
        return Err(ReceiptRefusal::BodyNotThisPosting);
    }
    if commitment(&log.salt.0, log.body.as_bytes()) != log.commitment {
        return Err(ReceiptRefusal::CommitmentDiffers);
    }
    Ok(())
}

fn verify_log(log: &LogEvidence, key: &Certified) -> Result<Checkpoint, ReceiptRefusal> {
    let under = leaf_under(&log.checkpoint, key, &log.commitment, log.leaf_index, &log.path);
    under.map_err(|refusal| match refusal {
        NotInLog::CheckpointMalformed(why) => ReceiptRefusal::CheckpointMalformed(why),
        NotInLog::CheckpointSignatureInvalid(why) => ReceiptRefusal::CheckpointSignatureInvalid(why),
        NotInLog::LeafNotInLog => ReceiptRefusal::LeafNotInLog,
    })
}

/// Bytes that travel as base64 with padding (RFC 4648, 4); stray bits and missing padding are refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// 32 random bytes that hide a guessable body; text form is lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Salt(pub [u8; 32]);

impl Serialize for Salt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Salt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut salt = [0; 32];
        hex::decode_to_slice(String::deserialize(deserializer)?, &mut salt).map_err(serde::de::Error::custom)?;
        Ok(Self(salt))
    }
}
