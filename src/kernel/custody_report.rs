//! The custody report: what a party's token says of every key in it, signed by a key of that token, for an auditor.
//!
//! It proves that the party says so at that time, and that the signing key was in the token; the attributes are the
//! module's word. A bank or a security company signs with its catalogue key, whose certificate leads to the party's
//! root; an agent host, which has no certificates, with the identity key that the other parties enrolled. The file is
//! exactly its canonical JSON and a newline.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kernel::canon::{canonical, is_canonical};
use crate::kernel::credential::custody::EnrolledHost;
use crate::kernel::receipt::{Base64, ChainRefusal, Made, Role, certified_key, parse_time};
use crate::kernel::sign::{Algorithm, DocumentTag, Purpose, SignInput, raw_public_key, signature_is_valid};
use crate::kernel::types::{KeyId, Sha256};

pub const REPORT_SCHEMA: &str = "countersign/custody-report/v1";

/// A report of 1,000 keys has about 700 KiB.
pub const REPORT_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedReport {
    /// [`REPORT_SCHEMA`]
    pub schema: String,
    /// The canonical JSON of a [`CustodyReport`]; what is signed.
    pub report: String,
    /// SubjectPublicKeyInfo of the key that signed.
    pub signer: Base64,
    pub signature: Base64,
    /// The signer's certificate, issuing CA, root; empty at an agent host.
    pub chain: Vec<Base64>,
}

/// What is said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustodyReport {
    pub schema: String,
    pub party: String,
    pub kind: String,
    /// RFC 3339, UTC, milliseconds.
    pub made_at: String,
    pub module: ReportedModule,
    pub token: ReportedToken,
    pub mechanisms: Vec<String>,
    pub keys: Vec<ReportedKey>,
    /// What each attribute means, in words.
    pub meanings: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportedModule {
    pub path: String,
    pub description: String,
    pub version: String,
    pub sha256: Option<Sha256>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportedToken {
    pub label: String,
    pub serial: String,
    pub manufacturer: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportedKey {
    pub label: String,
    pub id: KeyId,
    pub purpose: Purpose,
    pub algorithm: Algorithm,
    pub state: String,
    /// SubjectPublicKeyInfo; empty for AES.
    pub spki: Base64,
    /// The five of [`meanings`], as the token answered; none of a destroyed key.
    pub attributes: BTreeMap<String, bool>,
    /// `sound`, `unsound` or `gone`.
    pub verdict: String,
    pub why: String,
}

/// The five custody attributes: what each means, and the value it must have.
pub const ATTRIBUTES: [(&str, &str, bool); 5] = [
    ("always_sensitive", "CKA_ALWAYS_SENSITIVE: the key's value could never be read in plain text", true),
    ("extractable", "CKA_EXTRACTABLE: the key can leave the token in wrapped form", false),
    ("local", "CKA_LOCAL: the key was generated in this token", true),
    ("never_extractable", "CKA_NEVER_EXTRACTABLE: the key could never leave the token", true),
    ("sensitive", "CKA_SENSITIVE: the key's value cannot be read in plain text", true),
];

/// What each attribute means.
pub fn meanings() -> BTreeMap<String, String> {
    ATTRIBUTES.iter().map(|(name, meaning, _)| ((*name).to_owned(), (*meaning).to_owned())).collect()
}

impl CustodyReport {
    /// What is signed.
    ///
    /// # Errors
    /// [`ReportRefusal::NotCanonical`]
    pub fn text(&self) -> Result<String, ReportRefusal> {
        let value = serde_json::to_value(self).map_err(|_| ReportRefusal::NotCanonical)?;
        let bytes = canonical(&value).map_err(|_| ReportRefusal::NotCanonical)?;
        String::from_utf8(bytes).map_err(|_| ReportRefusal::NotCanonical)
    }
}

impl SignedReport {
    /// The file: canonical JSON and a newline.
    ///
    /// # Errors
    /// [`ReportRefusal::NotCanonical`]
    pub fn to_bytes(&self) -> Result<Vec<u8>, ReportRefusal> {
        let value = serde_json::to_value(self).map_err(|_| ReportRefusal::NotCanonical)?;
        let mut bytes = canonical(&value).map_err(|_| ReportRefusal::NotCanonical)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// The input to the signature over a report's text.
pub fn sign_input(text: &str) -> SignInput {
    SignInput::Document { tag: DocumentTag::CustodyReport, canonical_json: text.as_bytes().to_vec() }
}

/// Whom the reader knows already.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// A party's root certificate, DER.
    Root(&'a [u8]),
    /// An agent host, as it was enrolled.
    Host(&'a EnrolledHost),
}

/// Why a file is not a valid report. Checked in this order; the first that fails is told.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReportRefusal {
    #[error("the file is larger than 2 MiB")]
    TooLarge,
    #[error("the file is not the JSON of a custody report: {0}")]
    Malformed(String),
    #[error("the file is not exactly the canonical JSON of its content and one newline")]
    NotCanonical,
    #[error("the schema is not {REPORT_SCHEMA}")]
    UnknownSchema,
    #[error("its time is not a UTC time with milliseconds")]
    TimeMalformed,
    #[error("the signer's certificate: {0}")]
    Chain(#[from] ChainRefusal),
    #[error("it is signed by another key than the one you trust")]
    SignerUnknown,
    #[error("its signature is not by its signer's key")]
    SignatureInvalid,
    #[error("the signing key is not one of the reported keys")]
    SignerNotInToken,
    #[error("what it says of {0} contradicts itself")]
    Contradiction(String),
}

impl ReportRefusal {
    /// The stable name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooLarge => "report_too_large",
            Self::Malformed(_) => "report_malformed",
            Self::NotCanonical => "report_not_canonical",
            Self::UnknownSchema => "report_unknown_schema",
            Self::TimeMalformed => "report_time_malformed",
            Self::Chain(refusal) => refusal.name(),
            Self::SignerUnknown => "report_signer_unknown",
            Self::SignatureInvalid => "report_signature_invalid",
            Self::SignerNotInToken => "report_signer_not_in_token",
            Self::Contradiction(_) => "report_contradiction",
        }
    }
}

/// A report whose signature and signer were verified. Only [`verify`] makes one.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct VerifiedReport {
    report: CustodyReport,
    signer: String,
}

impl VerifiedReport {
    pub fn report(&self) -> &CustodyReport {
        &self.report
    }

    /// Subject of the signer's certificate, or the host's key.
    pub fn signer(&self) -> &str {
        &self.signer
    }
}

/// Verifies a report with nothing but what the reader trusts. The base of the private OIDs is `1.3.6.1.4.1.32473`
/// unless the party's configuration says otherwise.
///
/// # Errors
/// The first rule that fails, by name.
pub fn verify(file: &[u8], trust: Trust<'_>, oid_base: &str) -> Result<VerifiedReport, ReportRefusal> {
    if file.len() > REPORT_BYTES_MAX {
        return Err(ReportRefusal::TooLarge);
    }
    let malformed = |error: serde_json::Error| ReportRefusal::Malformed(error.to_string());
    let signed: SignedReport = serde_json::from_slice(file).map_err(malformed)?;
    if signed.to_bytes()? != file || !is_canonical(signed.report.as_bytes()) {
        return Err(ReportRefusal::NotCanonical);
    }
    let report: CustodyReport = serde_json::from_str(&signed.report).map_err(malformed)?;
    if signed.schema != REPORT_SCHEMA || report.schema != REPORT_SCHEMA {
        return Err(ReportRefusal::UnknownSchema);
    }
    let made_at = parse_time(&report.made_at).ok_or(ReportRefusal::TimeMalformed)?;
    let (spki, signer) = match trust {
        Trust::Root(root) => {
            let chain: Vec<&[u8]> = signed.chain.iter().map(|certificate| certificate.0.as_slice()).collect();
            let purpose = format!("{oid_base}.2.5");
            let algorithms = Purpose::Catalogue.algorithms();
            let certified =
                certified_key(&chain, root, Role { purpose: &purpose, algorithms, made: Made::At(made_at) })?;
            (certified.spki, certified.subject)
        }
        Trust::Host(host) => {
            let spki = host.key_der().ok_or(ReportRefusal::SignerUnknown)?;
            (spki, format!("agent host {}, key {}", host.party, host.host_key))
        }
    };
    if spki != signed.signer.0 {
        return Err(ReportRefusal::SignerUnknown);
    }
    if !signature_is_valid(&spki, &sign_input(&signed.report).message(), &signed.signature.0) {
        return Err(ReportRefusal::SignatureInvalid);
    }
    if !report.keys.iter().any(|key| key.spki.0 == spki) {
        return Err(ReportRefusal::SignerNotInToken);
    }
    if let Some(key) = report.keys.iter().find(|key| !key.is_consistent()) {
        return Err(ReportRefusal::Contradiction(key.label.clone()));
    }
    Ok(VerifiedReport { report, signer })
}

impl ReportedKey {
    /// True when id, key and algorithm belong together and the verdict is what the attributes say.
    fn is_consistent(&self) -> bool {
        let public = if self.algorithm == Algorithm::Aes256 {
            self.spki.0.is_empty()
        } else {
            let algorithm = raw_public_key(&self.spki.0).map(|(algorithm, _)| algorithm);
            algorithm == Some(self.algorithm) && Sha256::of(&[&self.spki.0]) == self.id
        };
        let value = |name: &str| self.attributes.get(name).copied();
        let sound = ATTRIBUTES.iter().all(|(name, _, must)| value(name) == Some(*must));
        let verdict = match self.state.as_str() {
            "destroyed" => self.attributes.is_empty() && self.verdict == "gone",
            _ => self.attributes.len() == ATTRIBUTES.len() && (self.verdict == "sound") == sound,
        };
        public && verdict
    }
}
