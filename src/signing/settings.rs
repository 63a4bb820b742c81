//! `[signing]`: which programs of this machine have what signed, by which key of purpose `external`.
//!
//! Nothing is permitted that is not named: a key without callers signs for nobody, root included.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::kernel::external::{ExternalKind, is_raw_name};
use crate::kernel::types::AgentName;

/// No token of a program lives longer, whatever the configuration says.
const JWT_LIFETIME_MAX_S: u32 = 86_400;
/// No signature of a request lives longer.
const REQUEST_LIFETIME_MAX_S: u32 = 3_600;
/// What the kernel takes as the address of a Unix socket (unix(7): sun_path), with its end.
const SOCKET_BYTES_MAX: usize = 107;
/// Keys of one daemon.
const KEYS_MAX: usize = 256;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SigningSettings {
    /// Where the socket is; relative to the state directory. Other users than the daemon's own reach it only outside of
    /// that directory.
    pub socket: PathBuf,
    pub limits: SigningLimits,
    /// `[[signing.key]]`. None: there is no socket.
    pub key: Vec<SigningKeySettings>,
}

impl Default for SigningSettings {
    fn default() -> Self {
        Self { socket: "run/sign.sock".into(), limits: SigningLimits::default(), key: vec![] }
    }
}

/// One key of purpose `external`: what it signs, and for whom.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigningKeySettings {
    /// As given to `countersign key generate --name`.
    pub name: AgentName,
    /// The version that signs, so that the next one can be made known first. None: the newest active one.
    #[serde(default)]
    pub version: Option<u32>,
    /// What it signs. `raw` stands alone, and its key is named `raw-…`; `jwt` and `document` have a key each.
    pub kinds: BTreeSet<ExternalKind>,
    /// User names, user ids, `group:NAME` or `group:GID` (the primary group alone).
    pub callers: Vec<String>,
    /// What a request may say that it is for. Empty: anything, or nothing.
    #[serde(default)]
    pub purposes: BTreeSet<String>,
    /// Signatures of each caller a second, and so many at once after a pause.
    #[serde(default = "per_second")]
    pub per_second: NonZeroU32,
    #[serde(default = "burst")]
    pub burst: NonZeroU32,
    /// Needed for tokens.
    #[serde(default)]
    pub jwt: Option<JwtSettings>,
    #[serde(default)]
    pub request: RequestSettings,
}

fn per_second() -> NonZeroU32 {
    NonZeroU32::new(50).expect("fifty is not zero")
}

fn burst() -> NonZeroU32 {
    NonZeroU32::new(100).expect("a hundred is not zero")
}

/// What tokens a key signs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtSettings {
    pub issuer: String,
    /// Each token is for one of these.
    pub audiences: BTreeSet<String>,
    /// Each token's `sub` is one of these. Empty: what its caller says, of whom there is one.
    #[serde(default)]
    pub subjects: BTreeSet<String>,
    #[serde(default = "jwt_lifetime")]
    pub lifetime_max_s: u32,
}

fn jwt_lifetime() -> u32 {
    300
}

/// What signatures of HTTP messages a key makes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequestSettings {
    /// Each signature has one of these tags. Empty: any, or none.
    pub tags: BTreeSet<String>,
    pub lifetime_max_s: u32,
}

impl Default for RequestSettings {
    fn default() -> Self {
        Self { tags: BTreeSet::new(), lifetime_max_s: 300 }
    }
}

/// Limits of the socket, each with its unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SigningLimits {
    pub connections_max: u32,
    /// Of one user id.
    pub connections_of_one_max: u32,
    /// Also how long a connection may be idle between two requests.
    pub header_timeout_ms: u64,
    pub body_timeout_ms: u64,
    pub body_bytes_max: usize,
    pub json_depth_max: usize,
    pub request_timeout_ms: u64,
    /// Items of one call with a signature each.
    pub batch_max: usize,
    /// Items under one signature.
    pub merkle_max: usize,
    /// Refusals of one caller that are recorded a second; what is beyond is counted.
    pub refusals_recorded_per_second: NonZeroU32,
}

impl Default for SigningLimits {
    fn default() -> Self {
        Self {
            connections_max: 256,
            connections_of_one_max: 128,
            header_timeout_ms: 30_000,
            body_timeout_ms: 10_000,
            body_bytes_max: 1 << 20,
            json_depth_max: 32,
            request_timeout_ms: 60_000,
            batch_max: 256,
            merkle_max: 4_096,
            refusals_recorded_per_second: NonZeroU32::new(5).expect("five is not zero"),
        }
    }
}

impl SigningSettings {
    /// True when there is a socket at all.
    pub fn is_on(&self) -> bool {
        !self.key.is_empty()
    }

    /// What of it cannot work, in words.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.key.len() > KEYS_MAX {
            return Err(format!("[signing] has more than {KEYS_MAX} keys"));
        }
        let limits = &self.limits;
        let counts = [limits.batch_max, limits.merkle_max, limits.json_depth_max];
        if counts.contains(&0) || limits.connections_max == 0 || limits.connections_of_one_max == 0 {
            return Err("signing limits must be at least 1".into());
        }
        if !(1_024..=8 << 20).contains(&limits.body_bytes_max) {
            return Err("signing limits body_bytes_max must be 1024 to 8388608".into());
        }
        if limits.batch_max > 1_024 || limits.merkle_max > 65_536 {
            return Err("signing limits batch_max is at most 1024, merkle_max at most 65536".into());
        }
        // The daemon's own sockets are beside it.
        if ["run/admin.sock", "run/agent.sock"].iter().any(|own| self.socket.ends_with(own)) {
            return Err(format!("[signing] socket {} is one of the daemon's own", self.socket.display()));
        }
        if self.socket.as_os_str().len() > SOCKET_BYTES_MAX {
            let said = format!("[signing] socket: a path has at most {SOCKET_BYTES_MAX} bytes");
            return Err(said);
        }
        let mut names = BTreeSet::new();
        for key in &self.key {
            let said = |what: String| Err(format!("[[signing.key]] {}: {what}", key.name));
            if !names.insert(&key.name) {
                return said("the name is there twice".into());
            }
            if key.kinds.is_empty() {
                return said("kinds is empty: it would sign nothing".into());
            }
            if key.callers.is_empty() {
                return said("callers is empty: it would sign for nobody".into());
            }
            if key.kinds.contains(&ExternalKind::Raw) && key.kinds.len() > 1 {
                return said("raw stands alone: what is signed raw could be meant as any other kind".into());
            }
            if key.kinds.contains(&ExternalKind::Raw) != is_raw_name(key.name.as_str()) {
                return said(
                    "keys named raw-… have the kind raw, and no others have: a key signs raw for ever or never".into(),
                );
            }
            if key.kinds.contains(&ExternalKind::Jwt) && key.kinds.contains(&ExternalKind::Document) {
                return said("jwt and document need a key each: who takes tokens seldom looks at typ, and a document can say whatever a token says".into());
            }
            match (&key.jwt, key.kinds.contains(&ExternalKind::Jwt)) {
                (None, true) => return said("jwt needs [signing.key.jwt] issuer and audiences".into()),
                (Some(_), false) => return said("[signing.key.jwt] needs jwt among its kinds".into()),
                (Some(jwt), true) if jwt.issuer.is_empty() || jwt.audiences.is_empty() => {
                    return said("jwt issuer and audiences must not be empty".into());
                }
                (Some(jwt), true) if !(1..=JWT_LIFETIME_MAX_S).contains(&jwt.lifetime_max_s) => {
                    return said(format!("jwt lifetime_max_s must be 1 to {JWT_LIFETIME_MAX_S}"));
                }
                // A group is of several, too.
                (Some(jwt), true)
                    if jwt.subjects.is_empty()
                        && (key.callers.len() > 1 || key.callers.iter().any(|caller| caller.starts_with("group:"))) =>
                {
                    return said(
                        "jwt of several callers needs [signing.key.jwt] subjects: one could speak as another".into(),
                    );
                }
                (Some(_), true) | (None, false) => {}
            }
            if !(1..=REQUEST_LIFETIME_MAX_S).contains(&key.request.lifetime_max_s) {
                return said(format!("request lifetime_max_s must be 1 to {REQUEST_LIFETIME_MAX_S}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<(), String> {
        let settings: SigningSettings = toml::from_str(text).map_err(|error| error.to_string())?;
        settings.check()
    }

    #[test]
    fn a_key_says_what_it_signs_and_for_whom() {
        let key = "[[key]]\nname = \"a\"\ncallers = [\"app\"]\n";
        let several = "[[key]]\nname = \"a\"\ncallers = [\"app\", \"other\"]\n";
        let group = "[[key]]\nname = \"a\"\ncallers = [\"group:apps\"]\n";
        let raw = "[[key]]\nname = \"raw-a\"\ncallers = [\"app\"]\n";
        for good in [
            String::new(),
            format!("{key}kinds = [\"file\", \"document\", \"request\", \"batch\"]"),
            format!("{raw}kinds = [\"raw\"]"),
            format!(
                "{key}kinds = [\"jwt\", \"file\", \"request\", \"batch\"]\n[key.jwt]\nissuer = \"a\"\naudiences = [\"b\"]"
            ),
            format!("{key}kinds = [\"jwt\"]\n[key.jwt]\nissuer = \"a\"\naudiences = [\"b\"]"),
            format!("{several}kinds = [\"jwt\"]\n[key.jwt]\nissuer = \"a\"\naudiences = [\"b\"]\nsubjects = [\"c\"]"),
            format!("{several}kinds = [\"file\"]\npurposes = [\"releases\"]"),
        ] {
            assert_eq!(checked(&good), Ok(()), "{good}");
        }
        for (bad, why) in [
            (format!("{key}kinds = []"), "would sign nothing"),
            ("[[key]]\nname = \"a\"\ncallers = []\nkinds = [\"file\"]".into(), "for nobody"),
            (format!("socket = \"run/admin.sock\"\n{key}kinds = [\"file\"]"), "the daemon's own"),
            (format!("socket = \"{}\"\n{key}kinds = [\"file\"]", "x".repeat(108)), "at most 107 bytes"),
            (format!("{key}kinds = [\"raw\", \"file\"]"), "raw stands alone"),
            (format!("{key}kinds = [\"raw\"]"), "for ever or never"),
            (format!("{raw}kinds = [\"file\"]"), "for ever or never"),
            (
                format!("{key}kinds = [\"jwt\", \"document\"]\n[key.jwt]\nissuer = \"a\"\naudiences = [\"b\"]"),
                "a key each",
            ),
            (format!("{several}kinds = [\"jwt\"]\n[key.jwt]\nissuer = \"a\"\naudiences = [\"b\"]"), "speak as another"),
            (format!("{group}kinds = [\"jwt\"]\n[key.jwt]\nissuer = \"a\"\naudiences = [\"b\"]"), "speak as another"),
            (format!("{key}kinds = [\"jwt\"]"), "needs [signing.key.jwt]"),
            (format!("{key}kinds = [\"file\"]\n[key.jwt]\nissuer = \"a\"\naudiences = [\"b\"]"), "jwt among"),
            (format!("{key}kinds = [\"jwt\"]\n[key.jwt]\nissuer = \"a\"\naudiences = []"), "must not be empty"),
            (
                format!("{key}kinds = [\"jwt\"]\n[key.jwt]\nissuer = \"a\"\naudiences = [\"b\"]\nlifetime_max_s = 0"),
                "lifetime_max_s",
            ),
            (format!("{key}kinds = [\"file\"]\n{key}kinds = [\"file\"]"), "twice"),
            (format!("{key}kinds = [\"anything\"]"), "unknown variant"),
            ("[[key]]\nname = \"a\"\nkinds = [\"file\"]".into(), "callers"),
            (format!("{key}kinds = [\"file\"]\nper_second = 0"), "zero"),
            ("[limits]\nbatch_max = 0".into(), "at least 1"),
            ("unknown = 1".into(), "unknown"),
        ] {
            let said = checked(&bad).unwrap_err();
            assert!(said.contains(why), "{bad}: {said}");
        }
    }
}
