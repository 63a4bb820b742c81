//! The role catalogue: what a role may do, signed by both parties.
//!
//! A rogue insider at one party can neither widen a role nor invent one: a catalogue with one signature is refused
//! by name. Local policy may only narrow it.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kernel::canon::canonical;
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::chain::{ChainRule, PartyAnchors, verify_leaf};
use crate::kernel::credential::oid::OidBase;
use crate::kernel::credential::profile::Profile;
use crate::kernel::receipt::parse_time;
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
    /// Not installed before; RFC 3339, UTC, with milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<String>,
    /// No role may call any tool afterwards; without it a catalogue is in force until a newer one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<String>,
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

impl SignedCatalogue {
    /// Takes a signed catalogue, or a bare one as it is before the first signature.
    ///
    /// # Errors
    /// What the reader of JSON says.
    pub fn read(value: &Value) -> Result<Self, serde_json::Error> {
        if value.get("catalogue").is_some() {
            return Self::deserialize(value);
        }
        Catalogue::deserialize(value).map(|catalogue| Self { catalogue, signatures: Vec::new() })
    }
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
    NotYetValid,
    Ended,
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
            Self::NotYetValid => "catalogue_not_yet_valid",
            Self::Ended => "catalogue_ended",
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
            Self::NotYetValid => "the role catalogue is not to be in force yet",
            Self::Ended => "the role catalogue has ended: no role may call any tool",
        })
    }
}

/// A catalogue that both parties signed. Only [`verify`] makes one.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedCatalogue {
    version: u64,
    valid_until: Option<UnixMillis>,
    role_tools: BTreeMap<RoleName, Vec<String>>,
}

impl VerifiedCatalogue {
    /// When it ends, if it does.
    pub fn valid_until(&self) -> Option<UnixMillis> {
        self.valid_until
    }

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

    /// From when and until when it may be in force.
    fn validity(&self) -> Result<(Option<UnixMillis>, Option<UnixMillis>), CatalogueRefusal> {
        let read = |text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => parse_time(text).map(Some).ok_or(CatalogueRefusal::Malformed),
        };
        Ok((read(&self.valid_from)?, read(&self.valid_until)?))
    }

    /// What this catalogue changes against an earlier one, role by role.
    pub fn changes_since(&self, before: &Self) -> Vec<RoleChange> {
        let tools = |catalogue: &Self| -> BTreeMap<RoleName, BTreeSet<String>> {
            let roles = catalogue.roles.iter();
            roles.map(|entry| (entry.role.clone(), entry.tools.iter().cloned().collect())).collect()
        };
        let (before, after) = (tools(before), tools(self));
        let roles: BTreeSet<&RoleName> = before.keys().chain(after.keys()).collect();
        let none = BTreeSet::new();
        roles
            .into_iter()
            .filter_map(|role| {
                let had = before.get(role).unwrap_or(&none);
                let has = after.get(role).unwrap_or(&none);
                let change = match (before.contains_key(role), after.contains_key(role)) {
                    (false, _) => RoleChangeKind::Added,
                    (true, false) => RoleChangeKind::Removed,
                    (true, true) if had == has => return None,
                    (true, true) => RoleChangeKind::Changed,
                };
                Some(RoleChange {
                    role: role.clone(),
                    change,
                    tools_added: has.difference(had).cloned().collect(),
                    tools_removed: had.difference(has).cloned().collect(),
                })
            })
            .collect()
    }

    fn check(&self) -> Result<(), CatalogueRefusal> {
        // Version: JSON integers above 2^53 are not the same everywhere (RFC 8785, 3.2.2.3).
        let bounded = self.version > 0 && self.version < (1 << 53) && self.roles.len() <= ROLES_MAX;
        if self.schema != CATALOGUE_SCHEMA || !bounded {
            return Err(CatalogueRefusal::Malformed);
        }
        let (from, until) = self.validity()?;
        if until.is_some_and(|until| from.is_some_and(|from| until <= from)) {
            return Err(CatalogueRefusal::Inconsistent);
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

/// What happened to one role between two catalogues.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RoleChange {
    pub role: RoleName,
    pub change: RoleChangeKind,
    pub tools_added: Vec<String>,
    pub tools_removed: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleChangeKind {
    Added,
    Removed,
    Changed,
}

/// What a party takes away from the catalogue on its own. It can give nothing.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct LocalPolicy {
    /// No role may call these.
    pub deny_tools: BTreeSet<String>,
    /// Roles named here keep only these of their tools.
    pub only_tools: BTreeMap<RoleName, BTreeSet<String>>,
}

/// The tools of each role that both the catalogue and local policy let it call: never more than the catalogue.
pub fn narrowed(role_tools: &BTreeMap<RoleName, Vec<String>>, local: &LocalPolicy) -> BTreeMap<RoleName, Vec<String>> {
    let left = |(role, tools): (&RoleName, &Vec<String>)| {
        let stays = |tool: &&String| {
            !local.deny_tools.contains(*tool) && local.only_tools.get(role).is_none_or(|only| only.contains(*tool))
        };
        (role.clone(), tools.iter().filter(stays).cloned().collect())
    };
    role_tools.iter().map(left).collect()
}

/// Which time a signer's certificate is judged at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Signers {
    /// Now: what is about to come into force is signed by keys that may sign.
    Current,
    /// Now, or the end of the signer's own certificate if that is past: what both parties put into force stays so
    /// when their keys are certified anew. It ends by its own `valid_until` or by a newer version.
    Then,
}

/// Verifies a catalogue that is to come into force: both parties signed, each by a certificate with the catalogue usage
/// under that party's root (DER), valid at `now`.
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
    verify_at(signed, [bank_root, company_root], base, now, Signers::Current)
}

/// Verifies the catalogue that is in force, as [`verify`], but not refused because a signer's certificate has ended since
/// it was installed.
///
/// # Errors
/// As [`verify`].
pub fn verify_in_force(
    signed: &SignedCatalogue,
    bank_root: &[u8],
    company_root: &[u8],
    base: &OidBase,
    now: UnixMillis,
) -> Result<VerifiedCatalogue, CatalogueRefusal> {
    verify_at(signed, [bank_root, company_root], base, now, Signers::Then)
}

fn verify_at(
    signed: &SignedCatalogue,
    [bank_root, company_root]: [&[u8]; 2],
    base: &OidBase,
    now: UnixMillis,
    judged: Signers,
) -> Result<VerifiedCatalogue, CatalogueRefusal> {
    let message = signed.catalogue.sign_input()?.message();
    if signed.signatures.len() > SIGNATURES_MAX {
        return Err(CatalogueRefusal::Malformed);
    }
    let mut signers = BTreeSet::new();
    for signature in &signed.signatures {
        signers.insert(verify_one(signature, &message, [bank_root, company_root], base, now, judged)?);
    }
    if !signers.contains(&Signer::Bank) {
        return Err(CatalogueRefusal::BankSignatureMissing);
    }
    if !signers.contains(&Signer::Company) {
        return Err(CatalogueRefusal::CompanySignatureMissing);
    }
    let (valid_from, valid_until) = signed.catalogue.validity()?;
    if valid_from.is_some_and(|from| now < from) {
        return Err(CatalogueRefusal::NotYetValid);
    }
    if valid_until.is_some_and(|until| now >= until) {
        return Err(CatalogueRefusal::Ended);
    }
    let role_tools = signed.catalogue.roles.iter().map(|entry| {
        let mut tools = entry.tools.clone();
        tools.sort();
        (entry.role.clone(), tools)
    });
    Ok(VerifiedCatalogue { version: signed.catalogue.version, valid_until, role_tools: role_tools.collect() })
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Signer {
    Bank,
    Company,
}

fn verify_one(
    signature: &CatalogueSignature,
    message: &[u8],
    [bank_root, company_root]: [&[u8]; 2],
    base: &OidBase,
    now: UnixMillis,
    judged: Signers,
) -> Result<Signer, CatalogueRefusal> {
    let decode = |text: &String| BASE64_STANDARD.decode(text).map_err(|_| CatalogueRefusal::Malformed);
    let bytes = decode(&signature.signature)?;
    let chain: Vec<Vec<u8>> = signature.chain.iter().take(3).map(decode).collect::<Result<_, _>>()?;
    let [leaf, issuing, ..] = chain.as_slice() else {
        return Err(CatalogueRefusal::Malformed);
    };
    let at = match judged {
        Signers::Current => now,
        Signers::Then => Certificate::read(leaf).map_or(now, |signer| now.min(signer.tbs.not_after.at)),
    };
    let under = |root: &[u8]| {
        let anchors = PartyAnchors { root: root.to_vec(), issuing: vec![issuing.clone()] };
        verify_leaf(leaf, Profile::Catalogue, &anchors, base, at)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(roles: &[(&str, &[&str])]) -> Catalogue {
        let entry = |(role, tools): &(&str, &[&str])| RoleEntry {
            role: role.parse().unwrap(),
            tools: tools.iter().map(|tool| (*tool).to_owned()).collect(),
        };
        let roles = roles.iter().map(entry).collect();
        Catalogue { schema: CATALOGUE_SCHEMA.into(), version: 1, valid_from: None, valid_until: None, roles }
    }

    #[test]
    fn local_policy_takes_away_and_never_gives() {
        let set = |tools: &[&str]| tools.iter().map(|tool| (*tool).to_owned()).collect::<BTreeSet<String>>();
        let catalogue: BTreeMap<RoleName, Vec<String>> =
            of(&[("buyer", &["look", "buy"]), ("viewer", &["look"]), ("idle", &[])])
                .roles
                .into_iter()
                .map(|entry| (entry.role, entry.tools))
                .collect();
        // deny_tools, only_tools, and what is left of buyer, viewer, idle.
        type Row = (&'static [&'static str], &'static [(&'static str, &'static [&'static str])], [&'static str; 3]);
        let table: &[Row] = &[
            (&[], &[], ["look buy", "look", ""]),
            (&["buy"], &[], ["look", "look", ""]),
            (&["look", "buy"], &[], ["", "", ""]),
            (&["sell"], &[], ["look buy", "look", ""]),
            (&[], &[("buyer", &["look"])], ["look", "look", ""]),
            (&[], &[("buyer", &[])], ["", "look", ""]),
            // What the catalogue does not give is not given by naming it.
            (&[], &[("viewer", &["look", "buy"])], ["look buy", "look", ""]),
            (&[], &[("idle", &["buy"])], ["look buy", "look", ""]),
            (&[], &[("stranger", &["buy"])], ["look buy", "look", ""]),
            (&["look"], &[("buyer", &["look", "buy"])], ["buy", "", ""]),
        ];
        for (deny, only, left) in table {
            let only_tools = only.iter().map(|(role, tools)| (role.parse().unwrap(), set(tools))).collect();
            let after = narrowed(&catalogue, &LocalPolicy { deny_tools: set(deny), only_tools });
            assert_eq!(after.keys().collect::<Vec<_>>(), catalogue.keys().collect::<Vec<_>>(), "{deny:?} {only:?}");
            for (role, tools) in &after {
                assert!(tools.iter().all(|tool| catalogue[role].contains(tool)), "{deny:?} {only:?} {role}");
            }
            let words = ["buyer", "viewer", "idle"].map(|role| after[&role.parse::<RoleName>().unwrap()].join(" "));
            assert_eq!(words, *left, "{deny:?} {only:?}");
        }
    }

    #[test]
    fn what_changed_is_told_role_by_role() {
        let before = of(&[("buyer", &["look", "buy"]), ("gone", &["look"]), ("same", &["a", "b"])]);
        let after = of(&[("buyer", &["look", "sell"]), ("new", &["look"]), ("same", &["b", "a"])]);
        let told: Vec<(String, RoleChangeKind, String, String)> = after
            .changes_since(&before)
            .into_iter()
            .map(|role| (role.role.to_string(), role.change, role.tools_added.join(" "), role.tools_removed.join(" ")))
            .collect();
        let row = |role: &str, kind, added: &str, removed: &str| (role.into(), kind, added.into(), removed.into());
        let expected = [
            row("buyer", RoleChangeKind::Changed, "sell", "buy"),
            row("gone", RoleChangeKind::Removed, "", "look"),
            row("new", RoleChangeKind::Added, "look", ""),
        ];
        assert_eq!(told, expected);
        assert_eq!(after.changes_since(&after), []);
    }

    #[test]
    fn a_validity_is_two_instants_in_order_or_left_out() {
        let dated = |from: Option<&str>, until: Option<&str>| {
            let (valid_from, valid_until) = (from.map(str::to_owned), until.map(str::to_owned));
            Catalogue { valid_from, valid_until, ..of(&[]) }.sign_input().err()
        };
        let (one, other) = ("2026-11-21T00:00:00.000Z", "2026-11-22T00:00:00.000Z");
        for (from, until) in [(None, None), (Some(one), None), (None, Some(one)), (Some(one), Some(other))] {
            assert_eq!(dated(from, until), None);
        }
        for (from, until) in [(Some(other), Some(one)), (Some(one), Some(one))] {
            assert_eq!(dated(from, until), Some(CatalogueRefusal::Inconsistent));
        }
        for text in ["", "2026-11-21", "2026-11-21T00:00:00Z", "2026-11-21T00:00:00.000+01:00"] {
            assert_eq!(dated(Some(text), None), Some(CatalogueRefusal::Malformed), "{text}");
        }
        // One without a validity is signed as it always was.
        let text = serde_json::to_string(&of(&[])).unwrap();
        assert!(!text.contains("valid"), "{text}");
    }
}
