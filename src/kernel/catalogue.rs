//! The role catalogue: what a role may do, signed by both parties.
//!
//! A rogue insider at one party can neither widen a role nor invent one: a catalogue with one signature is refused
//! by name. Local policy may only narrow it.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::kernel::canon::canonical;
use crate::kernel::credential::chain::{ChainRule, PartyAnchors, verify_leaf};
use crate::kernel::credential::oid::OidBase;
use crate::kernel::credential::profile::Profile;
use crate::kernel::sign::{DocumentTag, SignInput, signature_is_valid};
use crate::kernel::types::{RoleName, UnixMillis};

pub const CATALOGUE_SCHEMA: &str = "countersign/role-catalogue/v1";
const ROLES_MAX: usize = 64;
const TOOLS_MAX: usize = 64;
const TOOL_BYTES_MAX: usize = 64;
const SIGNATURES_MAX: usize = 8;

/// What is signed, as canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    pub schema: String,
    /// Rises with every change; an older one is never installed.
    pub version: u64,
    pub roles: Vec<RoleEntry>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleEntry {
    pub role: RoleName,
    /// MCP tool names.
    pub tools: Vec<String>,
}

/// A catalogue with the signatures it has so far.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedCatalogue {
    pub catalogue: Catalogue,
    #[serde(default)]
    pub signatures: Vec<CatalogueSignature>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueSignature {
    /// For people to read; what counts is the chain.
    pub party: String,
    /// Base64 of DER.
    pub signature: String,
    /// Base64 of DER: the signer's certificate, its issuing CA; the root may follow and is ignored.
    pub chain: Vec<String>,
}

/// Why a catalogue is not in force. In the order in which the rules are checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CatalogueRefusal {
    Malformed,
    /// A role or a tool twice, or a name that no tool has.
    Inconsistent,
    /// A signature whose signer is neither party's catalogue key.
    SignerUntrusted,
    SignerExpired,
    SignatureInvalid,
    BankSignatureMissing,
    CompanySignatureMissing,
}

impl CatalogueRefusal {
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "catalogue_malformed",
            Self::Inconsistent => "catalogue_inconsistent",
            Self::SignerUntrusted => "catalogue_signer_untrusted",
            Self::SignerExpired => "catalogue_signer_expired",
            Self::SignatureInvalid => "catalogue_signature_invalid",
            Self::BankSignatureMissing => "catalogue_bank_signature_missing",
            Self::CompanySignatureMissing => "catalogue_company_signature_missing",
        }
    }
}

impl std::fmt::Display for CatalogueRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the role catalogue cannot be read",
            Self::Inconsistent => "the role catalogue names a role or a tool twice, or a malformed tool",
            Self::SignerUntrusted => "the role catalogue is signed by a key that is neither party's catalogue key",
            Self::SignerExpired => "the certificate of a catalogue key has expired: the catalogue must be signed anew",
            Self::SignatureInvalid => "a signature of the role catalogue does not verify",
            Self::BankSignatureMissing => "the bank has not signed the role catalogue",
            Self::CompanySignatureMissing => "the security company has not signed the role catalogue",
        })
    }
}

/// A catalogue that both parties signed. Only [`verify`] makes one.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedCatalogue {
    version: u64,
    role_tools: BTreeMap<RoleName, Vec<String>>,
}

impl VerifiedCatalogue {
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Tools of each role, sorted.
    pub fn role_tools(&self) -> &BTreeMap<RoleName, Vec<String>> {
        &self.role_tools
    }
}

impl Catalogue {
    /// What a catalogue key signs.
    ///
    /// # Errors
    /// `Malformed`, `Inconsistent`
    pub fn sign_input(&self) -> Result<SignInput, CatalogueRefusal> {
        self.check()?;
        let value = serde_json::to_value(self).map_err(|_| CatalogueRefusal::Malformed)?;
        let canonical_json = canonical(&value).map_err(|_| CatalogueRefusal::Malformed)?;
        Ok(SignInput::Document { tag: DocumentTag::Catalogue, canonical_json })
    }

    fn check(&self) -> Result<(), CatalogueRefusal> {
        // Version: JSON integers above 2^53 are not the same everywhere (RFC 8785, 3.2.2.3).
        let bounded = self.version > 0 && self.version < (1 << 53) && self.roles.len() <= ROLES_MAX;
        if self.schema != CATALOGUE_SCHEMA || !bounded {
            return Err(CatalogueRefusal::Malformed);
        }
        let tool_name = |tool: &String| {
            (1..=TOOL_BYTES_MAX).contains(&tool.len())
                && tool.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        let mut roles = BTreeSet::new();
        for entry in &self.roles {
            let tools: BTreeSet<_> = entry.tools.iter().collect();
            let sound = entry.tools.len() <= TOOLS_MAX
                && tools.len() == entry.tools.len()
                && entry.tools.iter().all(tool_name)
                && roles.insert(&entry.role);
            if !sound {
                return Err(CatalogueRefusal::Inconsistent);
            }
        }
        Ok(())
    }
}

/// Verifies that both parties signed: each signature by a certificate with the catalogue usage under that party's
/// root (DER), valid at `now`.
///
/// # Errors
/// The first [`CatalogueRefusal`] in the order of that type.
pub fn verify(
    signed: &SignedCatalogue,
    bank_root: &[u8],
    company_root: &[u8],
    base: &OidBase,
    now: UnixMillis,
) -> Result<VerifiedCatalogue, CatalogueRefusal> {
    let message = signed.catalogue.sign_input()?.message();
    if signed.signatures.len() > SIGNATURES_MAX {
        return Err(CatalogueRefusal::Malformed);
    }
    let mut signers = BTreeSet::new();
    for signature in &signed.signatures {
        signers.insert(verify_one(signature, &message, bank_root, company_root, base, now)?);
    }
    if !signers.contains(&Signer::Bank) {
        return Err(CatalogueRefusal::BankSignatureMissing);
    }
    if !signers.contains(&Signer::Company) {
        return Err(CatalogueRefusal::CompanySignatureMissing);
    }
    let role_tools = signed.catalogue.roles.iter().map(|entry| {
        let mut tools = entry.tools.clone();
        tools.sort();
        (entry.role.clone(), tools)
    });
    Ok(VerifiedCatalogue { version: signed.catalogue.version, role_tools: role_tools.collect() })
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Signer {
    Bank,
    Company,
}

fn verify_one(
    signature: &CatalogueSignature,
    message: &[u8],
    bank_root: &[u8],
    company_root: &[u8],
    base: &OidBase,
    now: UnixMillis,
) -> Result<Signer, CatalogueRefusal> {
    let decode = |text: &String| BASE64_STANDARD.decode(text).map_err(|_| CatalogueRefusal::Malformed);
    let bytes = decode(&signature.signature)?;
    let chain: Vec<Vec<u8>> = signature.chain.iter().take(3).map(decode).collect::<Result<_, _>>()?;
    let [leaf, issuing, ..] = chain.as_slice() else {
        return Err(CatalogueRefusal::Malformed);
    };
    let under = |root: &[u8]| {
        let anchors = PartyAnchors { root: root.to_vec(), issuing: vec![issuing.clone()] };
        verify_leaf(leaf, Profile::Catalogue, &anchors, base, now)
    };
    let (signer, verified) = match (under(bank_root), under(company_root)) {
        // One root for both parties would let one organisation sign twice.
        (Ok(_), Ok(_)) => return Err(CatalogueRefusal::SignerUntrusted),
        (Ok(verified), Err(_)) => (Signer::Bank, verified),
        (Err(_), Ok(verified)) => (Signer::Company, verified),
        (Err(ChainRule::Expired), _) | (_, Err(ChainRule::Expired)) => return Err(CatalogueRefusal::SignerExpired),
        (Err(_), Err(_)) => return Err(CatalogueRefusal::SignerUntrusted),
    };
    if !signature_is_valid(&verified.facts.spki, message, &bytes) {
        return Err(CatalogueRefusal::SignatureInvalid);
    }
    Ok(signer)
}
