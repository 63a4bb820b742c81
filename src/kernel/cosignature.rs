//! A witness's cosignature as evidence: the line, the certificates of its key, and what a reader concludes.
//!
//! The log's owner alone can sign two histories. A second party's word over the same three lines says that it has seen
//! one; whoever has that party's root as well can tell. Without it the cosignature is only checked for being whole, so
//! that no byte of a file is of no account.

use serde::{Deserialize, Serialize};

use crate::kernel::note::{
    Checkpoint, NoteRefused, NoteSignature, SignatureType, SignedNote, cosignature_type, type_of_certified,
};
use crate::kernel::receipt::{Base64, Certified, ChainRefusal, Made, Role, certified_key};
use crate::kernel::sign::Purpose;
use crate::kernel::types::UnixMillis;

/// Cosignatures of one checkpoint that are read at all.
pub const COSIGNATURES_MAX: usize = 16;
/// Below the base of the private OIDs: the use of checkpoint and witness keys.
const WITNESS_ARC: &str = "2.2";

/// A cosignature as a receipt carries it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CosignatureEvidence {
    /// The witness key's certificate, issuing CA, root.
    pub chain: Vec<Base64>,
    /// `— <name> base64(key id ‖ seconds ‖ signature)` (C2SP tlog-cosignature), without a newline.
    pub line: String,
    /// The type of the signature when it is one of ours ([`SignatureType::own_name`]), and only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note_type: Option<String>,
}

/// Whether the witness's root is one that the reader trusts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anchored {
    /// Its chain ends in the root that the reader named for witnesses.
    Yes,
    /// The reader named none, or another one.
    No,
}

/// A witness whose cosignature was verified. Only [`verify`] makes one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Cosigner {
    name: String,
    subject: String,
    /// RFC 3339, UTC.
    at: String,
    anchored: Anchored,
    signature_type: SignatureType,
}

impl Cosigner {
    /// The name under which it signs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Subject of its certificate.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// When it signed, by its own clock.
    pub fn at(&self) -> &str {
        &self.at
    }

    pub fn anchored(&self) -> Anchored {
        self.anchored
    }

    /// How it signs.
    pub fn signature_type(&self) -> SignatureType {
        self.signature_type
    }
}

/// Why cosignatures prove nothing. In this order.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CosignatureRefusal {
    #[error("there are more than {COSIGNATURES_MAX} cosignatures, or one is no signature line with a time")]
    Malformed,
    #[error("the witness's certificate: {0}")]
    Chain(ChainRefusal),
    #[error("the file does not say of which type the cosignature is, or says another one than its key's")]
    TypeDiffers,
    #[error("the cosignature: {0}")]
    Invalid(NoteRefused),
    #[error("no witness under the root that you trust has cosigned")]
    Missing,
}

impl CosignatureRefusal {
    /// The stable name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Malformed => "cosignature_malformed",
            Self::Chain(refusal) => refusal.name(),
            Self::TypeDiffers => "note_type_differs",
            Self::Invalid(_) => "cosignature_invalid",
            Self::Missing => "cosignature_missing",
        }
    }
}

/// A cosignature as a file has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Presented<'a> {
    pub line: NoteSignature,
    /// The witness key's certificate, issuing CA, root.
    pub chain: Vec<&'a [u8]>,
    pub said: SaidType<'a>,
}

/// What a file says about the type of a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SaidType<'a> {
    /// Files of this kind say it elsewhere, or not at all.
    Elsewhere,
    /// The name of a type of ours; None: one of C2SP's.
    Here(Option<&'a str>),
}

impl SaidType<'_> {
    /// True when nothing else is said than what the key makes of it.
    fn is(self, kind: SignatureType) -> bool {
        match self {
            Self::Elsewhere => true,
            Self::Here(said) => said == kind.own_name(),
        }
    }
}

/// Verifies each cosignature over a checkpoint with its chain. A reader who names a `witness_root` (DER) asks that one of
/// them lies under it.
///
/// The certificates must have been valid when the witness signed, by its own word.
///
/// # Errors
/// [`CosignatureRefusal`]
pub fn verify<'a>(
    checkpoint: &Checkpoint,
    cosignatures: impl ExactSizeIterator<Item = Presented<'a>>,
    witness_root: Option<&[u8]>,
    oid_base: &str,
) -> Result<Vec<Cosigner>, CosignatureRefusal> {
    if cosignatures.len() > COSIGNATURES_MAX {
        return Err(CosignatureRefusal::Malformed);
    }
    let cosigners = cosignatures
        .map(|presented| one(checkpoint, presented, witness_root, oid_base))
        .collect::<Result<Vec<_>, _>>()?;
    if witness_root.is_some() && cosigners.iter().all(|cosigner| cosigner.anchored == Anchored::No) {
        return Err(CosignatureRefusal::Missing);
    }
    Ok(cosigners)
}

fn one(
    checkpoint: &Checkpoint,
    presented: Presented<'_>,
    witness_root: Option<&[u8]>,
    oid_base: &str,
) -> Result<Cosigner, CosignatureRefusal> {
    let Presented { line, chain, said } = presented;
    let at = time_of(&line)?;
    let key = WitnessKey::certified(&chain, oid_base, at)?;
    if !said.is(key.kind) {
        return Err(CosignatureRefusal::TypeDiffers);
    }
    let name = line.name.clone();
    key.has_cosigned(&checkpoint.text(), line)?;
    let anchored = if chain.last().copied() == witness_root { Anchored::Yes } else { Anchored::No };
    Ok(Cosigner { name, subject: key.certified.subject, at: at.rfc3339(), anchored, signature_type: key.kind })
}

/// When a line says that it was made. Nothing is believed of it before the signature over it is verified; it only says which
/// certificate fits.
///
/// # Errors
/// [`CosignatureRefusal::Malformed`]
pub fn time_of(line: &NoteSignature) -> Result<UnixMillis, CosignatureRefusal> {
    let seconds = line.signature.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
    let millis = seconds.and_then(|seconds| i64::try_from(seconds.checked_mul(1000)?).ok());
    millis.map(UnixMillis).ok_or(CosignatureRefusal::Malformed)
}

/// The key of a witness whose chain was verified: only [`Self::certified`] makes one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WitnessKey {
    certified: Certified,
    kind: SignatureType,
}

impl WitnessKey {
    /// By its chain at that time, under whatever root that ends in.
    ///
    /// # Errors
    /// [`CosignatureRefusal::Chain`]
    pub fn certified(chain: &[&[u8]], oid_base: &str, at: UnixMillis) -> Result<Self, CosignatureRefusal> {
        let own_root = chain.last().copied().unwrap_or_default();
        let purpose = format!("{oid_base}.{WITNESS_ARC}");
        let algorithms = Purpose::Witness.algorithms();
        let role = Role { purpose: &purpose, algorithms, made: Made::At(at) };
        let certified = certified_key(chain, own_root, role).map_err(CosignatureRefusal::Chain)?;
        let kind = cosignature_type(&certified.spki).map_err(CosignatureRefusal::Invalid)?;
        Ok(Self { certified, kind })
    }

    /// Passes a line that this key has made over a checkpoint's text.
    ///
    /// # Errors
    /// [`CosignatureRefusal::Invalid`]
    pub fn has_cosigned(&self, text: &str, line: NoteSignature) -> Result<(), CosignatureRefusal> {
        let name = line.name.clone();
        let note = SignedNote { text: text.to_owned(), signatures: vec![line] };
        let verified = note.verify_cosignature(&name, &self.certified.spki);
        verified.map(drop).map_err(CosignatureRefusal::Invalid)
    }
}

impl CosignatureEvidence {
    /// A line with its chain; the first certificate says of which type the line is.
    pub fn new(line: String, chain: Vec<Vec<u8>>) -> Self {
        let kind = chain.first().and_then(|own| type_of_certified(own, cosignature_type));
        let note_type = kind.and_then(SignatureType::own_name).map(str::to_owned);
        Self { chain: chain.into_iter().map(Base64).collect(), line, note_type }
    }

    /// What it says.
    ///
    /// # Errors
    /// [`CosignatureRefusal::Malformed`]
    pub fn read(&self) -> Result<Presented<'_>, CosignatureRefusal> {
        let line = NoteSignature::parse(&self.line).map_err(|_| CosignatureRefusal::Malformed)?;
        let chain = self.chain.iter().map(|certificate| certificate.0.as_slice()).collect();
        Ok(Presented { line, chain, said: SaidType::Here(self.note_type.as_deref()) })
    }
}
