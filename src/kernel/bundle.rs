//! The evidence of one payment in one file: who was let to pay, who asked, who said yes, what moved, and that the bank
//! recorded each of these when it happened.
//!
//! An archive of parts that each verify under the bank's root alone, and that must all speak of the same payment. The
//! manifest is nobody's word: it says what must be there, so that a part that was left out is missed by name.

pub mod tar;

mod heard;
mod parts;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kernel::approval::{Evidence, PaymentTerms};
use crate::kernel::canon::{canonical, canonical_of};
use crate::kernel::command::TransactionStatement;
use crate::kernel::credential::chain::{ISSUING_MAX, PartyAnchors};
use crate::kernel::credential::oid::OidBase;
use crate::kernel::leaf_proof::{self, LeafVerdict};
use crate::kernel::quorum::Answer;
use crate::kernel::receipt::{self, ReceiptVerdict};
use crate::kernel::types::{ApprovalId, Sha256, TransactionId};

pub use parts::{AgentPart, MandatePart, RequestPart};
use tar::Member;

/// Bytes of a bundle that are read at all. A real one has some 60 KiB.
pub const BUNDLE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The only schema of a manifest there is.
const SCHEMA: &str = "countersign/bundle/v1";
/// The only schema of what people said.
const APPROVAL_SCHEMA: &str = "countersign/bundle-approval/v1";

/// Members by their names.
const MANIFEST: &str = "manifest.json";
pub const RECEIPT: &str = "receipt.json";
pub const AUTHORIZATION: &str = "authorization.tlog-proof";
pub const AGENT: &str = "certificates/agent.der";
pub const APPROVAL: &str = "approval.json";
pub const MANDATE: &str = "mandate/mandate.sd-jwt";
pub const MANDATE_OWNER: &str = "mandate/owner.der";
pub const MANDATE_ENTERED: &str = "mandate/entered.tlog-proof";

/// The name of an issuing CA's certificate, from 1.
pub fn issuing(number: usize) -> String {
    format!("certificates/issuing-{number}.der")
}

/// The name of the leaf of what somebody said, from 1, in the order of the words.
pub fn word(number: usize) -> String {
    format!("words/{number}.tlog-proof")
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    // In the order of the canonical form.
    members: Vec<Listed>,
    schema: String,
    transaction_id: TransactionId,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    bytes: u64,
    name: String,
    sha256: Sha256,
}

impl Manifest {
    fn of(transaction: &TransactionId, members: &BTreeMap<String, Vec<u8>>) -> Self {
        let listed = members.iter().map(|(name, bytes)| Listed {
            bytes: bytes.len() as u64,
            name: name.clone(),
            sha256: Sha256::of(&[bytes]),
        });
        Self { members: listed.collect(), schema: SCHEMA.into(), transaction_id: transaction.clone() }
    }

    fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut bytes = canonical_of(self).ok()?;
        bytes.push(b'\n');
        Some(bytes)
    }
}

/// What people were asked and said about a payment.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalPart {
    pub approval_id: ApprovalId,
    /// RFC 3339.
    pub expires: String,
    pub nonce: Sha256,
    pub policy_version: String,
    pub schema: String,
    pub terms: PaymentTerms,
    pub words: Vec<WordPart>,
}

/// One person's word.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WordPart {
    pub answer: Answer,
    /// RFC 3339.
    pub at: String,
    /// None: known by user id, or asserted in a demo; then the leaf alone says so.
    pub evidence: Option<Evidence>,
    /// Which of the terms' gates.
    pub gate: u64,
    pub note: String,
    pub person: String,
    pub role: String,
}

impl ApprovalPart {
    /// The schema that [`verify`] reads.
    pub fn schema() -> String {
        APPROVAL_SCHEMA.into()
    }

    /// Whether somebody's key signed the terms, and with them the gates. If not, who had to decide is the word of whoever
    /// composed the bundle, as far as it fits what the log says of each word.
    pub fn gates_are_signed(&self) -> bool {
        self.words.iter().any(|word| word.evidence.is_some())
    }

    /// The member: canonical JSON and a newline.
    ///
    /// # Errors
    /// [`BundleRefusal::Malformed`] for numbers that have no canonical form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BundleRefusal> {
        let value = serde_json::to_value(self).unwrap_or_default();
        let mut bytes =
            canonical(&value).map_err(|_| BundleRefusal::Malformed("what people said has no one writing"))?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// The archive of these members, with its manifest.
///
/// # Errors
/// [`BundleRefusal::Malformed`] for a name that no archive has.
pub fn compose(transaction: &TransactionId, members: BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, BundleRefusal> {
    let manifest = Manifest::of(transaction, &members).to_bytes();
    let manifest = manifest.ok_or(BundleRefusal::Malformed("the manifest has no one writing"))?;
    let first = Member { name: MANIFEST.into(), bytes: manifest };
    let rest = members.into_iter().map(|(name, bytes)| Member { name, bytes });
    let all: Vec<Member> = std::iter::once(first).chain(rest).collect();
    tar::write(&all).map_err(|refused| BundleRefusal::Malformed(refused.0))
}

/// Why a file is not the evidence of a payment. Checked in this order; the first that fails is told.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BundleRefusal {
    #[error("the file is larger than 4 MiB")]
    TooLarge,
    #[error("the file is not an archive of a bundle: {0}")]
    Malformed(&'static str),
    #[error("the manifest is not the canonical JSON of schema {SCHEMA} and a newline")]
    ManifestMalformed,
    #[error("the manifest names {0}, which the archive does not have")]
    MemberMissing(String),
    #[error("the archive has {0}, which the manifest does not name, or not in its place")]
    MemberUnknown(String),
    #[error("{0} has not the bytes that the manifest names")]
    MemberDiffers(String),
    #[error("{0} must be there for this payment, and is not")]
    PartMissing(String),
    #[error("{0} belongs to no bundle of this payment")]
    PartUnknown(String),
    #[error("{part}: {message}")]
    Part {
        part: String,
        /// The part's own refusal.
        name: &'static str,
        message: String,
    },
    #[error("{part} speaks of something else: {what}")]
    PartsDiffer { part: String, what: &'static str },
}

impl BundleRefusal {
    /// The stable name; of a part that does not verify, its own.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooLarge => "bundle_too_large",
            Self::Malformed(_) => "bundle_malformed",
            Self::ManifestMalformed => "manifest_malformed",
            Self::MemberMissing(_) => "member_missing",
            Self::MemberUnknown(_) => "member_unknown",
            Self::MemberDiffers(_) => "member_differs",
            Self::PartMissing(_) => "part_missing",
            Self::PartUnknown(_) => "part_unknown",
            Self::Part { name, .. } => name,
            Self::PartsDiffer { .. } => "parts_differ",
        }
    }

    fn part(part: &str, name: &'static str, message: impl ToString) -> Self {
        Self::Part { part: part.to_owned(), name, message: message.to_string() }
    }
}

/// What a verified bundle proves. Only [`verify`] makes one.
#[derive(Clone, PartialEq, Debug)]
#[must_use]
pub struct BundleVerdict {
    receipt: ReceiptVerdict,
    authorization: Option<LeafVerdict>,
    agent: Option<AgentPart>,
    approval: Option<ApprovalPart>,
    mandate: Option<MandatePart>,
    members: Vec<(String, Sha256)>,
}

impl BundleVerdict {
    pub fn receipt(&self) -> &ReceiptVerdict {
        &self.receipt
    }

    /// The decision that let the payment be made; none for what no agent asked for.
    pub fn authorization(&self) -> Option<&LeafVerdict> {
        self.authorization.as_ref()
    }

    /// The bank's certificate of the agent.
    pub fn agent(&self) -> Option<&AgentPart> {
        self.agent.as_ref()
    }

    /// What people were asked and said.
    pub fn approval(&self) -> Option<&ApprovalPart> {
        self.approval.as_ref()
    }

    /// The owner's mandate that it was paid under.
    pub fn mandate(&self) -> Option<&MandatePart> {
        self.mandate.as_ref()
    }

    /// Every member but the manifest, with its hash.
    pub fn members(&self) -> &[(String, Sha256)] {
        &self.members
    }
}

/// Verifies a bundle with nothing but the bank's root certificate (DER) and the base of the private OIDs: the archive and
/// its manifest, each part by its own rules, and that all of them speak of the payment that the receipt proves.
///
/// # Errors
/// The first rule that fails, by name.
pub fn verify(file: &[u8], bank_root_der: &[u8], oid_base: &str) -> Result<BundleVerdict, BundleRefusal> {
    verify_witnessed(file, bank_root_der, None, oid_base)
}

/// The same, for a reader who also has the root of a witness (DER) and wants its word: then the bank alone cannot have
/// written another history.
///
/// # Errors
/// The first rule that fails, by name; `cosignature_missing` when no such witness has cosigned one of the parts.
pub fn verify_witnessed(
    file: &[u8],
    bank_root_der: &[u8],
    witness_root_der: Option<&[u8]>,
    oid_base: &str,
) -> Result<BundleVerdict, BundleRefusal> {
    let (transaction, members) = opened(file)?;
    let bank = Bank {
        anchors: anchors(&members, bank_root_der)?,
        base: oid_base.parse().map_err(|_| BundleRefusal::part(RECEIPT, "oid_base_invalid", "the OID base is none"))?,
        root: bank_root_der,
        witness_root: witness_root_der,
        oid_base,
    };
    let parts = Parts { members: &members, bank: &bank };

    let receipt = receipt::verify_witnessed(parts.bytes(RECEIPT)?, bank_root_der, witness_root_der, oid_base)
        .map_err(|refusal| BundleRefusal::part(RECEIPT, refusal.name(), refusal))?;
    let statement = receipt.statement();
    if statement.transaction_id != transaction {
        return Err(differs(MANIFEST, "it names another transaction than the receipt"));
    }
    let authorization = parts.authorization(&receipt)?;
    let agent = parts.agent(statement, authorization.as_ref())?;
    let approval = parts.approval(&receipt, authorization.as_ref())?;
    let mandate = parts.mandate(statement, authorization.as_ref())?;
    parts.nothing_else(statement, approval.as_ref())?;
    let members = members.into_iter().map(|(name, bytes)| (name, Sha256::of(&[&bytes]))).collect();
    Ok(BundleVerdict { receipt, authorization, agent, approval, mandate, members })
}

fn differs(part: &str, what: &'static str) -> BundleRefusal {
    BundleRefusal::PartsDiffer { part: part.to_owned(), what }
}

/// The members that the manifest names, each with the bytes that it names.
fn opened(file: &[u8]) -> Result<(TransactionId, BTreeMap<String, Vec<u8>>), BundleRefusal> {
    if file.len() > BUNDLE_BYTES_MAX {
        return Err(BundleRefusal::TooLarge);
    }
    let archive = tar::read(file).map_err(|refused| BundleRefusal::Malformed(refused.0))?;
    let mut archive = archive.into_iter();
    let manifest = archive.next().filter(|first| first.name == MANIFEST);
    let bytes = manifest.ok_or(BundleRefusal::Malformed("its first member is not the manifest"))?.bytes;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|_| BundleRefusal::ManifestMalformed)?;
    if manifest.schema != SCHEMA || manifest.to_bytes().as_deref() != Some(bytes.as_slice()) {
        return Err(BundleRefusal::ManifestMalformed);
    }
    let mut members = BTreeMap::new();
    let mut listed = manifest.members.iter();
    for member in archive {
        let Some(named) = listed.next() else {
            return Err(BundleRefusal::MemberUnknown(member.name));
        };
        if named.name != member.name {
            let is_listed = manifest.members.iter().any(|one| one.name == member.name);
            return Err(match is_listed {
                true => BundleRefusal::MemberMissing(named.name.clone()),
                false => BundleRefusal::MemberUnknown(member.name),
            });
        }
        if named.bytes != member.bytes.len() as u64 || named.sha256 != Sha256::of(&[&member.bytes]) {
            return Err(BundleRefusal::MemberDiffers(member.name));
        }
        // In the order of their names, each once.
        if members.last_key_value().is_some_and(|(last, _)| *last >= member.name) {
            return Err(BundleRefusal::MemberUnknown(member.name));
        }
        members.insert(member.name, member.bytes);
    }
    match listed.next() {
        Some(missing) => Err(BundleRefusal::MemberMissing(missing.name.clone())),
        None => Ok((manifest.transaction_id, members)),
    }
}

/// What the parts are verified under. The issuing CAs are the bundle's own, and each must lead to the root.
struct Bank<'a> {
    anchors: PartyAnchors,
    base: OidBase,
    root: &'a [u8],
    witness_root: Option<&'a [u8]>,
    oid_base: &'a str,
}

fn anchors(members: &BTreeMap<String, Vec<u8>>, root: &[u8]) -> Result<PartyAnchors, BundleRefusal> {
    let issuing: Vec<Vec<u8>> = (1..=ISSUING_MAX).map_while(|number| members.get(&issuing(number)).cloned()).collect();
    if issuing.is_empty() {
        return Err(BundleRefusal::PartMissing(self::issuing(1)));
    }
    Ok(PartyAnchors { root: root.to_vec(), issuing })
}

struct Parts<'a> {
    members: &'a BTreeMap<String, Vec<u8>>,
    bank: &'a Bank<'a>,
}

impl Parts<'_> {
    fn bytes(&self, name: &str) -> Result<&[u8], BundleRefusal> {
        let found = self.members.get(name);
        found.map(Vec::as_slice).ok_or_else(|| BundleRefusal::PartMissing(name.to_owned()))
    }

    /// A leaf under a checkpoint that this bank has signed.
    fn leaf(&self, name: &str) -> Result<LeafVerdict, BundleRefusal> {
        leaf_proof::verify_witnessed(self.bytes(name)?, self.bank.root, self.bank.witness_root, self.bank.oid_base)
            .map_err(|refusal| BundleRefusal::part(name, refusal.name(), refusal))
    }

    /// Whatever is there was looked at.
    fn nothing_else(
        &self,
        statement: &TransactionStatement,
        approval: Option<&ApprovalPart>,
    ) -> Result<(), BundleRefusal> {
        let mut known = vec![RECEIPT.to_owned()];
        known.extend((1..=self.bank.anchors.issuing.len()).map(issuing));
        if statement.agent.is_some() {
            known.extend([AUTHORIZATION, AGENT].map(str::to_owned));
        }
        if let Some(approval) = approval {
            known.push(APPROVAL.to_owned());
            known.extend((1..=approval.words.len()).map(word));
        }
        if statement.mandate_id.is_some() {
            known.extend([MANDATE, MANDATE_OWNER, MANDATE_ENTERED].map(str::to_owned));
        }
        match self.members.keys().find(|name| !known.contains(name)) {
            Some(unknown) => Err(BundleRefusal::PartUnknown(unknown.clone())),
            None => Ok(()),
        }
    }
}

/// A member of a leaf's body as text.
fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    path.iter().try_fold(value, |value, member| value.get(member))?.as_str()
}
