//! The tool manifest: which tools the bank offers, word for word, signed by a key that does nothing else.
//!
//! A model acts on what a tool's description says. Whoever can alter descriptions on their way, or at the bank's front,
//! can tell it anything; a bridge shows a client only tools whose definition is in the manifest that it accepted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kernel::canon::canonical;
use crate::kernel::receipt::{Base64, ChainRefusal, Made, Role, certified_key, parse_time};
use crate::kernel::sign::{DocumentTag, Purpose, SignInput, signature_is_valid};
use crate::kernel::types::{Sha256, UnixMillis};

pub const MANIFEST_SCHEMA: &str = "countersign/tool-manifest/v1";
/// Longest manifest with its chain, as JSON.
pub const MANIFEST_BYTES_MAX: usize = 64 * 1024;
const TOOLS_MAX: usize = 256;

/// What is signed, as canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolManifest {
    pub schema: String,
    /// The bank.
    pub party: String,
    /// Rises whenever a tool changes; a decimal string.
    pub version: String,
    /// RFC 3339, UTC, with milliseconds.
    pub issued_at: String,
    pub expires_at: String,
    /// Name of each tool and [`definition_hash`] of what `tools/list` says of it.
    pub tools: BTreeMap<String, Sha256>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedManifest {
    pub manifest: ToolManifest,
    /// The signer's certificate, issuing CA, root.
    pub chain: Vec<Base64>,
    pub signature: Base64,
}

/// Why a manifest is not the bank's for now. Checked in this order; the first that fails is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ManifestRefusal {
    #[error("the tool manifest cannot be read")]
    Malformed,
    #[error("the certificate of the tool manifest's signer is not a manifest key's under the bank's root")]
    Signer(#[from] ChainRefusal),
    #[error("the tool manifest's signature does not verify")]
    Signature,
    #[error("the tool manifest is not valid yet")]
    NotYetValid,
    #[error("the tool manifest has expired")]
    Expired,
}

impl ManifestRefusal {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Malformed => "manifest_malformed",
            Self::Signer(_) => "manifest_signer_untrusted",
            Self::Signature => "manifest_signature_invalid",
            Self::NotYetValid => "manifest_not_yet_valid",
            Self::Expired => "manifest_expired",
        }
    }
}

/// A manifest that the bank's manifest key signed for now. Only [`verify`] makes one.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedManifest {
    version: u64,
    expires: UnixMillis,
    tools: BTreeMap<String, Sha256>,
}

impl VerifiedManifest {
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn expires(&self) -> UnixMillis {
        self.expires
    }

    /// One hash for all tools: the same as long as none has changed.
    pub fn tools_hash(&self) -> Sha256 {
        let lines: Vec<String> = self.tools.iter().map(|(name, hash)| format!("{name} {}\n", hash.hex())).collect();
        Sha256::of(&[lines.concat().as_bytes()])
    }

    /// True for a tool of this name that is defined so.
    pub fn has(&self, name: &str, definition: &Value) -> bool {
        let known = self.tools.get(name);
        known.is_some_and(|known| definition_hash(definition).as_ref() == Some(known))
    }

    /// True when there is a tool of this name.
    pub fn names(&self, name: &str) -> bool {
        self.tools.contains_key(name)
    }
}

/// SHA-256 of the canonical JSON of a tool as `tools/list` says it. `None`: it has no canonical form.
pub fn definition_hash(definition: &Value) -> Option<Sha256> {
    canonical(definition).ok().map(|bytes| Sha256::of(&[&bytes]))
}

/// What the manifest key signs. `None`: it has no canonical form.
pub fn sign_input(manifest: &ToolManifest) -> Option<SignInput> {
    let canonical_json = canonical(&serde_json::to_value(manifest).ok()?).ok()?;
    Some(SignInput::Document { tag: DocumentTag::ToolManifest, canonical_json })
}

/// Verifies a manifest with the bank's root (DER). `skew_ms`: so far our clock may be behind the bank's.
///
/// # Errors
/// [`ManifestRefusal`]
pub fn verify(
    text: &[u8],
    root: &[u8],
    oid_base: &str,
    now: UnixMillis,
    skew_ms: i64,
) -> Result<VerifiedManifest, ManifestRefusal> {
    if text.len() > MANIFEST_BYTES_MAX {
        return Err(ManifestRefusal::Malformed);
    }
    let signed: SignedManifest = serde_json::from_slice(text).map_err(|_| ManifestRefusal::Malformed)?;
    let manifest = &signed.manifest;
    let version: u64 = manifest.version.parse().map_err(|_| ManifestRefusal::Malformed)?;
    let times = (parse_time(&manifest.issued_at), parse_time(&manifest.expires_at));
    let (Some(issued), Some(expires)) = times else {
        return Err(ManifestRefusal::Malformed);
    };
    let is_sound = manifest.schema == MANIFEST_SCHEMA
        && manifest.version == version.to_string()
        && version > 0
        && (1..=TOOLS_MAX).contains(&manifest.tools.len());
    let Some(input) = sign_input(manifest).filter(|_| is_sound) else {
        return Err(ManifestRefusal::Malformed);
    };
    let chain: Vec<&[u8]> = signed.chain.iter().map(|certificate| certificate.0.as_slice()).collect();
    let purpose = format!("{oid_base}.2.4");
    let algorithms = Purpose::Manifest.algorithms();
    let certified = certified_key(&chain, root, Role { purpose: &purpose, algorithms, made: Made::At(issued) })?;
    if !signature_is_valid(&certified.spki, &input.message(), &signed.signature.0) {
        return Err(ManifestRefusal::Signature);
    }
    if now.plus_ms(skew_ms) < issued {
        return Err(ManifestRefusal::NotYetValid);
    }
    if now >= expires {
        return Err(ManifestRefusal::Expired);
    }
    Ok(VerifiedManifest { version, expires, tools: signed.manifest.tools })
}

/// A manifest that was accepted before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptedManifest {
    pub version: u64,
    pub tools_hash: Sha256,
}

/// What a manifest is to those who accepted another one before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The one that was accepted.
    Same,
    /// The first one, or the one that a person accepts now: to be kept.
    New,
    /// Newer, and nobody has accepted it.
    Unaccepted,
    /// Older than the one that was accepted.
    Older,
    /// The same version with other tools: somebody lies.
    Altered,
}

/// Where a manifest stands. `accepting`: the version that a person accepts now.
pub fn standing(before: Option<&AcceptedManifest>, now: &VerifiedManifest, accepting: Option<u64>) -> Standing {
    let Some(before) = before else {
        return Standing::New;
    };
    match now.version.cmp(&before.version) {
        std::cmp::Ordering::Less => Standing::Older,
        std::cmp::Ordering::Equal if now.tools_hash() == before.tools_hash => Standing::Same,
        std::cmp::Ordering::Equal => Standing::Altered,
        std::cmp::Ordering::Greater if accepting == Some(now.version) => Standing::New,
        std::cmp::Ordering::Greater => Standing::Unaccepted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest(version: u64, tool: &str) -> VerifiedManifest {
        let tools = BTreeMap::from([(
            "pay".to_owned(),
            definition_hash(&json!({ "name": "pay", "description": tool })).unwrap(),
        )]);
        VerifiedManifest { version, expires: UnixMillis(1), tools }
    }

    #[test]
    fn only_what_was_accepted_or_is_accepted_now_stands() {
        let of = |version, tool| {
            let manifest = manifest(version, tool);
            AcceptedManifest { version, tools_hash: manifest.tools_hash() }
        };
        let table = [
            (None, (1, "a"), None, Standing::New),
            (Some(of(2, "a")), (2, "a"), None, Standing::Same),
            (Some(of(2, "a")), (2, "b"), None, Standing::Altered),
            (Some(of(2, "a")), (2, "b"), Some(2), Standing::Altered),
            (Some(of(2, "a")), (1, "a"), Some(1), Standing::Older),
            (Some(of(2, "a")), (3, "b"), None, Standing::Unaccepted),
            (Some(of(2, "a")), (3, "b"), Some(2), Standing::Unaccepted),
            (Some(of(2, "a")), (4, "b"), Some(3), Standing::Unaccepted),
            (Some(of(2, "a")), (3, "b"), Some(3), Standing::New),
        ];
        for (before, (version, tool), accepting, expected) in table {
            assert_eq!(standing(before.as_ref(), &manifest(version, tool), accepting), expected, "{version} {tool}");
        }
    }

    #[test]
    fn a_tool_is_known_by_every_word_of_its_definition() {
        let known = manifest(1, "pays");
        assert!(known.has("pay", &json!({ "description": "pays", "name": "pay" })));
        for other in [json!({ "name": "pay", "description": "pays!" }), json!({ "name": "pay" }), json!(null)] {
            assert!(!known.has("pay", &other), "{other}");
        }
        assert!(!known.has("steal", &json!({ "name": "pay", "description": "pays" })));
    }
}
