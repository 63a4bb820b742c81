//! One leaf of the log, proven alone: who asked for what, and what came of it, whatever it was.
//!
//! A C2SP `tlog-proof`, so that others' tools find the entry under the checkpoint; its `extra` has what makes a reader with
//! nothing but the party's root able to read the entry: the body, the salt, and the certificates of the checkpoint's key.
//! Nothing in there is trusted: the entry is the hash of body and salt, and the certificates lead to the root.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kernel::canon::{CanonRefused, canonical, is_canonical};
use crate::kernel::cosignature::{self, CosignatureRefusal, Cosigner, Presented, SaidType};
use crate::kernel::merkle::{leaf_hash, verify_inclusion};
use crate::kernel::note::{
    Checkpoint, NoteRefused, NoteSignature, SignatureType, SignedNote, cosignature_type, note_type, type_of_certified,
};
use crate::kernel::receipt::{
    Base64, Certified, ChainRefusal, Made, Role, Salt, certified_key, commitment, leaf_entry, parse_time,
};
use crate::kernel::sign::Purpose;
use crate::kernel::tlog_proof::TlogProof;
use crate::kernel::types::{Sha256, UnixMillis};

/// The only schema of `extra` there is.
const SCHEMA: &str = "countersign/leaf-proof/v1";
/// Bytes of a proof that are read at all. A real one has about 6 KiB; bodies are bounded by the listener.
pub const LEAF_PROOF_BYTES_MAX: usize = 1024 * 1024;
/// Below the base of the private OIDs: the use of checkpoint keys.
const CHECKPOINT_ARC: &str = "2.2";

/// What a proof is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeafProof {
    pub index: u64,
    pub salt: [u8; 32],
    /// Canonical JSON.
    pub body: String,
    pub path: Vec<Sha256>,
    /// With the signature of the log's key.
    pub checkpoint: SignedNote,
    /// The checkpoint key's certificate, issuing CA, root.
    pub chain: Vec<Vec<u8>>,
    /// The same of each witness that has cosigned: one for each line behind the log's own, in their order.
    pub witnesses: Vec<Vec<Vec<u8>>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Extra {
    body: String,
    chain: Vec<Base64>,
    /// Of each signature line, in their order, when one of them is ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    note_types: Vec<String>,
    salt: Salt,
    schema: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    witnesses: Vec<Vec<Base64>>,
}

impl Extra {
    fn to_bytes(&self) -> Result<Vec<u8>, CanonRefused> {
        canonical(&serde_json::to_value(self).unwrap_or_default())
    }
}

impl LeafProof {
    /// The file.
    ///
    /// # Errors
    /// [`CanonRefused`] never for what [`verify`] accepts.
    pub fn compose(&self) -> Result<String, CanonRefused> {
        let extra = Extra {
            body: self.body.clone(),
            chain: self.chain.iter().cloned().map(Base64).collect(),
            note_types: self.note_types(),
            salt: Salt(self.salt),
            schema: SCHEMA.into(),
            witnesses: self.witnesses.iter().map(|chain| chain.iter().cloned().map(Base64).collect()).collect(),
        };
        let proof = TlogProof {
            extra: Some(extra.to_bytes()?),
            index: self.index,
            path: self.path.clone(),
            checkpoint: self.checkpoint.compose(),
        };
        Ok(proof.compose())
    }

    /// As their certificates say; nothing for what none of ours has signed.
    fn note_types(&self) -> Vec<String> {
        let own = self.chain.first().and_then(|own| type_of_certified(own, note_type));
        let witnesses = self.witnesses.iter().map(|chain| type_of_certified(chain.first()?, cosignature_type));
        let kinds: Option<Vec<SignatureType>> = std::iter::once(own).chain(witnesses).collect();
        said_types(&kinds.unwrap_or_default())
    }
}

/// What a proof says about the types of its lines: all of them when one is ours, or nothing.
fn said_types(kinds: &[SignatureType]) -> Vec<String> {
    let is_said = kinds.iter().any(|kind| kind.own_name().is_some());
    kinds.iter().filter(|_| is_said).map(|kind| kind.name().to_owned()).collect()
}

/// What a verified proof says. Only [`verify`] makes one.
#[derive(Clone, PartialEq, Debug)]
#[must_use]
pub struct LeafVerdict {
    index: u64,
    checkpoint: Checkpoint,
    body: Value,
    signer: String,
    checkpoint_type: SignatureType,
    cosigners: Vec<Cosigner>,
}

impl LeafVerdict {
    /// The leaf's place in the log.
    pub fn index(&self) -> u64 {
        self.index
    }

    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The record itself, a JSON object.
    pub fn body(&self) -> &Value {
        &self.body
    }

    /// Subject of the certificate that signed the checkpoint.
    pub fn signer(&self) -> &str {
        &self.signer
    }

    /// How the checkpoint is signed.
    pub fn checkpoint_type(&self) -> SignatureType {
        self.checkpoint_type
    }

    /// Witnesses that have cosigned the checkpoint, as far as the proof says.
    pub fn cosigners(&self) -> &[Cosigner] {
        &self.cosigners
    }
}

/// Why a file does not prove a leaf. Checked in this order; the first that fails is told.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LeafProofRefusal {
    #[error("the file is larger than 1 MiB")]
    TooLarge,
    #[error("the file is not a tlog-proof with an `extra` of schema {SCHEMA}")]
    Malformed,
    #[error("the leaf's body is not a canonical JSON object with the time of its decision")]
    BodyMalformed,
    #[error("the checkpoint's certificate: {0}")]
    Chain(ChainRefusal),
    #[error(transparent)]
    Log(#[from] NotInLog),
    #[error("a witness: {0}")]
    Cosignature(#[from] CosignatureRefusal),
    #[error("the file does not say of which types the signatures are, or says others than their keys'")]
    NoteTypeDiffers,
}

impl LeafProofRefusal {
    /// The stable name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooLarge => "proof_too_large",
            Self::Malformed => "proof_malformed",
            Self::BodyMalformed => "body_malformed",
            Self::Chain(refusal) => refusal.name(),
            Self::Log(refusal) => refusal.name(),
            Self::Cosignature(refusal) => refusal.name(),
            Self::NoteTypeDiffers => "note_type_differs",
        }
    }
}

/// Why a leaf is not under a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotInLog {
    #[error("the checkpoint is not a signed note with one signature: {0}")]
    CheckpointMalformed(NoteRefused),
    #[error("the checkpoint's signature: {0}")]
    CheckpointSignatureInvalid(NoteRefused),
    #[error("the leaf is not in the log that the checkpoint signs")]
    LeafNotInLog,
}

impl NotInLog {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::CheckpointMalformed(_) => "checkpoint_malformed",
            Self::CheckpointSignatureInvalid(_) => "checkpoint_signature_invalid",
            Self::LeafNotInLog => "leaf_not_in_log",
        }
    }
}

/// Verifies a proof with nothing but the party's root certificate (DER) and the base of the private OIDs.
///
/// A checkpoint carries no time and is signed after the decision, so its certificates must not have expired before.
///
/// # Errors
/// The first rule that fails, by name.
pub fn verify(file: &[u8], root_der: &[u8], oid_base: &str) -> Result<LeafVerdict, LeafProofRefusal> {
    verify_witnessed(file, root_der, None, oid_base)
}

/// The same, for a reader who also has the root of a witness (DER) and wants its word.
///
/// # Errors
/// The first rule that fails, by name; `cosignature_missing` when no such witness has cosigned.
pub fn verify_witnessed(
    file: &[u8],
    root_der: &[u8],
    witness_root_der: Option<&[u8]>,
    oid_base: &str,
) -> Result<LeafVerdict, LeafProofRefusal> {
    if file.len() > LEAF_PROOF_BYTES_MAX {
        return Err(LeafProofRefusal::TooLarge);
    }
    let (proof, extra) = parse(file).ok_or(LeafProofRefusal::Malformed)?;
    let (body, at) = parse_body(&extra.body).ok_or(LeafProofRefusal::BodyMalformed)?;
    let chain: Vec<&[u8]> = extra.chain.iter().map(|certificate| certificate.0.as_slice()).collect();
    let key = checkpoint_key(&chain, root_der, oid_base, Made::NotBefore(at)).map_err(LeafProofRefusal::Chain)?;
    let commitment = commitment(&extra.salt.0, extra.body.as_bytes());
    let (own, lines) = split(&proof.checkpoint, extra.witnesses.len())?;
    let checkpoint = leaf_under(&own, &key, &commitment, proof.index, &proof.path)?;
    let chains = extra.witnesses.iter().map(|chain| chain.iter().map(|certificate| certificate.0.as_slice()).collect());
    let cosigners = cosigned(&checkpoint, lines, chains, witness_root_der, oid_base)?;
    let checkpoint_type = type_of(&key)?;
    let cosigned_as = cosigners.iter().map(Cosigner::signature_type);
    if extra.note_types != said_types(&std::iter::once(checkpoint_type).chain(cosigned_as).collect::<Vec<_>>()) {
        return Err(LeafProofRefusal::NoteTypeDiffers);
    }
    Ok(LeafVerdict { index: proof.index, checkpoint, body, signer: key.subject, checkpoint_type, cosigners })
}

fn parse(file: &[u8]) -> Option<(TlogProof, Extra)> {
    let proof = TlogProof::parse(std::str::from_utf8(file).ok()?).ok()?;
    let bytes = proof.extra.as_deref()?;
    let extra: Extra = serde_json::from_slice(bytes).ok()?;
    // One writing of it: unknown and duplicate members are refused by the derived reader.
    (extra.schema == SCHEMA && extra.to_bytes().ok()? == bytes).then_some((proof, extra))
}

fn parse_body(text: &str) -> Option<(Value, UnixMillis)> {
    let body: Value = serde_json::from_str(text).ok()?;
    let at = parse_time(body.as_object()?.get("at")?.as_str()?)?;
    is_canonical(text.as_bytes()).then_some((body, at))
}

/// The key of a log's checkpoints, by its chain.
pub(super) fn checkpoint_key(
    chain: &[&[u8]],
    root_der: &[u8],
    oid_base: &str,
    made: Made,
) -> Result<Certified, ChainRefusal> {
    let purpose = format!("{oid_base}.{CHECKPOINT_ARC}");
    certified_key(chain, root_der, Role { purpose: &purpose, algorithms: Purpose::Checkpoint.algorithms(), made })
}

/// The checkpoint of this note, when the key has signed it and the leaf is under it.
pub(super) fn leaf_under(
    note: &str,
    key: &Certified,
    commitment: &Sha256,
    index: u64,
    path: &[Sha256],
) -> Result<Checkpoint, NotInLog> {
    let checkpoint = signed_by(note, key)?;
    let leaf = leaf_hash(&leaf_entry(commitment));
    if !verify_inclusion(&leaf, index, checkpoint.size, path, &checkpoint.root) {
        return Err(NotInLog::LeafNotInLog);
    }
    Ok(checkpoint)
}

/// A note with the log's own line alone, and the lines behind it, which are so many.
fn split(note: &str, lines: usize) -> Result<(String, Vec<NoteSignature>), NotInLog> {
    let malformed = NotInLog::CheckpointMalformed;
    let mut note = SignedNote::parse(note.as_bytes()).map_err(malformed)?;
    // A note may carry signatures by unknown keys; here each byte counts, so there is none.
    if note.signatures.len() != lines + 1 {
        return Err(malformed(NoteRefused::Structure));
    }
    let behind = note.signatures.split_off(1);
    Ok((note.compose(), behind))
}

/// The checkpoint of a note that has the signature of this key, and no other line.
fn signed_by(note: &str, key: &Certified) -> Result<Checkpoint, NotInLog> {
    let malformed = NotInLog::CheckpointMalformed;
    let note = SignedNote::parse(note.as_bytes()).map_err(malformed)?;
    // A note may carry signatures by unknown keys; here each byte counts, so there is none.
    if note.signatures.len() != 1 {
        return Err(malformed(NoteRefused::Structure));
    }
    let checkpoint = Checkpoint::parse(&note.text).map_err(malformed)?;
    note.verify(&checkpoint.origin, &key.spki).map_err(NotInLog::CheckpointSignatureInvalid)?;
    Ok(checkpoint)
}

/// How a certified key signs notes.
fn type_of(key: &Certified) -> Result<SignatureType, NotInLog> {
    note_type(&key.spki).map_err(NotInLog::CheckpointSignatureInvalid)
}

/// Who has cosigned, by the lines of a note and the chains in their order.
fn cosigned<'a>(
    checkpoint: &Checkpoint,
    lines: Vec<NoteSignature>,
    chains: impl Iterator<Item = Vec<&'a [u8]>>,
    witness_root: Option<&[u8]>,
    oid_base: &str,
) -> Result<Vec<Cosigner>, CosignatureRefusal> {
    let presented = lines.into_iter().zip(chains);
    let presented: Vec<_> =
        presented.map(|(line, chain)| Presented { line, chain, said: SaidType::Elsewhere }).collect();
    cosignature::verify(checkpoint, presented.into_iter(), witness_root, oid_base)
}

/// The head of a log as somebody has verified it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedHead {
    pub checkpoint: Checkpoint,
    /// Subject of the certificate that signed it.
    pub signer: String,
    /// How it is signed.
    pub checkpoint_type: SignatureType,
    pub cosigners: Vec<Cosigner>,
}

/// The head of a log from a note, its key's chain and those of the witnesses whose lines stand behind, for whoever has the
/// whole log. When the note was signed nobody can say, so that nothing is asked of the certificates' time.
///
/// # Errors
/// [`LeafProofRefusal::Chain`], [`LeafProofRefusal::Log`], [`LeafProofRefusal::Cosignature`]
pub fn verify_checkpoint(
    note: &str,
    chain: &[&[u8]],
    witnesses: &[Vec<&[u8]>],
    roots: (&[u8], Option<&[u8]>),
    oid_base: &str,
) -> Result<VerifiedHead, LeafProofRefusal> {
    let whenever = Made::NotBefore(UnixMillis(i64::MIN));
    let (root_der, witness_root_der) = roots;
    let key = checkpoint_key(chain, root_der, oid_base, whenever).map_err(LeafProofRefusal::Chain)?;
    let (own, lines) = split(note, witnesses.len())?;
    let checkpoint = signed_by(&own, &key)?;
    let cosigners = cosigned(&checkpoint, lines, witnesses.iter().cloned(), witness_root_der, oid_base)?;
    Ok(VerifiedHead { checkpoint, checkpoint_type: type_of(&key)?, signer: key.subject, cosigners })
}
