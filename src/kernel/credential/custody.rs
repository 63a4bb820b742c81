//! The custody statement: what an enrolled agent host says about an agent's key, signed by its identity key.
//!
//! It proves that the host says so, not that it is so: the level is *custody-stated*, never more.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::kernel::canon::canonical;
use crate::kernel::sign::{DocumentTag, SignInput, signature_is_valid};
use crate::kernel::types::{KeyId, Sha256, UnixMillis};

/// A statement is taken this long before and after its time.
pub const STATEMENT_SKEW_MS: i64 = 10 * 60 * 1000;
pub const STATEMENT_SCHEMA: &str = "countersign/custody-statement/v1";

/// The attributes of the private key as the host's token shows them (PKCS#11 v2.40, 4.9).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatedAttributes {
    pub sensitive: bool,
    pub always_sensitive: bool,
    pub never_extractable: bool,
    pub extractable: bool,
    pub local: bool,
}

impl StatedAttributes {
    /// True when the key was born in the token and never could leave it.
    pub fn is_sound(self) -> bool {
        self.sensitive && self.always_sensitive && self.never_extractable && self.local && !self.extractable
    }
}

/// What is signed, as canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustodyStatement {
    pub schema: String,
    pub agent_key: KeyId,
    /// SubjectPublicKeyInfo of the agent's key, base64.
    pub spki: String,
    pub attributes: StatedAttributes,
    pub token_serial: String,
    /// The host's identity key.
    pub host_key: KeyId,
    /// Milliseconds since 1970, as a string: numbers in signed documents are strings or small.
    pub at_unix_ms: String,
}

impl CustodyStatement {
    pub fn sign_input(&self) -> Result<SignInput, CustodyRefusal> {
        let value = serde_json::to_value(self).map_err(|_| CustodyRefusal::Malformed)?;
        let canonical_json = canonical(&value).map_err(|_| CustodyRefusal::Malformed)?;
        Ok(SignInput::Document { tag: DocumentTag::CustodyStatement, canonical_json })
    }
}

/// A statement with the host's signature (base64 of DER).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedCustody {
    pub statement: CustodyStatement,
    pub signature: String,
}

/// An agent host whose identity key was enrolled in person.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolledHost {
    pub schema: String,
    pub party: String,
    pub host_key: KeyId,
    /// SubjectPublicKeyInfo, base64.
    pub spki: String,
    pub token_serial: String,
}

pub const HOST_SCHEMA: &str = "countersign/agent-host/v1";

impl EnrolledHost {
    /// The identity key's SubjectPublicKeyInfo, when it is the key that `host_key` says.
    pub fn key_der(&self) -> Option<Vec<u8>> {
        let spki = BASE64_STANDARD.decode(&self.spki).ok()?;
        (self.schema == HOST_SCHEMA && Sha256::of(&[&spki]) == self.host_key).then_some(spki)
    }
}

/// Why a custody statement is not believed. In the order in which the rules are checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CustodyRefusal {
    Malformed,
    /// No host with this identity key was enrolled.
    HostUnknown,
    SignatureInvalid,
    /// The statement is about another key.
    WrongKey,
    /// Another token than the one that was enrolled with the host.
    WrongToken,
    /// The key could leave the token, or was not made in it.
    AttributesUnsound,
    NotFresh,
}

impl CustodyRefusal {
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "custody_malformed",
            Self::HostUnknown => "custody_host_unknown",
            Self::SignatureInvalid => "custody_signature_invalid",
            Self::WrongKey => "custody_wrong_key",
            Self::WrongToken => "custody_wrong_token",
            Self::AttributesUnsound => "custody_attributes_unsound",
            Self::NotFresh => "custody_not_fresh",
        }
    }
}

impl std::fmt::Display for CustodyRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the custody statement cannot be read",
            Self::HostUnknown => "the custody statement is by an agent host that was not enrolled",
            Self::SignatureInvalid => "the custody statement is not signed by the host it names",
            Self::WrongKey => "the custody statement is about another key",
            Self::WrongToken => "the custody statement names another token than the host enrolled with",
            Self::AttributesUnsound => "the agent's key was not made in its token or could leave it",
            Self::NotFresh => "the custody statement is more than 10 minutes old or ahead",
        })
    }
}

/// Checks a statement about the key `agent_spki` (DER) against the enrolled hosts at `now`.
///
/// # Errors
/// The first [`CustodyRefusal`] in the order of that type.
pub fn verify(
    signed: &SignedCustody,
    hosts: &[EnrolledHost],
    agent_spki: &[u8],
    now: UnixMillis,
) -> Result<(), CustodyRefusal> {
    let statement = &signed.statement;
    if statement.schema != STATEMENT_SCHEMA {
        return Err(CustodyRefusal::Malformed);
    }
    let at: i64 = statement.at_unix_ms.parse().map_err(|_| CustodyRefusal::Malformed)?;
    let signature = BASE64_STANDARD.decode(&signed.signature).map_err(|_| CustodyRefusal::Malformed)?;
    let host = hosts.iter().find(|host| host.host_key == statement.host_key).ok_or(CustodyRefusal::HostUnknown)?;
    let host_spki = host.key_der().ok_or(CustodyRefusal::HostUnknown)?;
    if !signature_is_valid(&host_spki, &statement.sign_input()?.message(), &signature) {
        return Err(CustodyRefusal::SignatureInvalid);
    }
    let stated_spki = BASE64_STANDARD.decode(&statement.spki).map_err(|_| CustodyRefusal::Malformed)?;
    if stated_spki != agent_spki || statement.agent_key != Sha256::of(&[agent_spki]) {
        return Err(CustodyRefusal::WrongKey);
    }
    if statement.token_serial != host.token_serial {
        return Err(CustodyRefusal::WrongToken);
    }
    if !statement.attributes.is_sound() {
        return Err(CustodyRefusal::AttributesUnsound);
    }
    if now.0.abs_diff(at) > STATEMENT_SKEW_MS.unsigned_abs() {
        return Err(CustodyRefusal::NotFresh);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::credential::testkit::{Key, NOW};

    fn statement(agent: &Key, host: &Key) -> CustodyStatement {
        CustodyStatement {
            schema: STATEMENT_SCHEMA.into(),
            agent_key: agent.id(),
            spki: BASE64_STANDARD.encode(agent.spki()),
            attributes: StatedAttributes {
                sensitive: true,
                always_sensitive: true,
                never_extractable: true,
                extractable: false,
                local: true,
            },
            token_serial: "a1b2".into(),
            host_key: host.id(),
            at_unix_ms: NOW.0.to_string(),
        }
    }

    fn signed(statement: CustodyStatement, host: &Key) -> SignedCustody {
        let signature = BASE64_STANDARD.encode(host.sign(&statement.sign_input().unwrap().message()));
        SignedCustody { statement, signature }
    }

    #[test]
    fn statements_are_refused_by_the_rule_they_break() {
        type Bend = fn(&mut CustodyStatement);
        let unsound = CustodyRefusal::AttributesUnsound;
        let table: &[(Bend, CustodyRefusal)] = &[
            (|statement| statement.schema.push('2'), CustodyRefusal::Malformed),
            (|statement| statement.at_unix_ms = "soon".into(), CustodyRefusal::Malformed),
            (|statement| statement.host_key = Key::new().id(), CustodyRefusal::HostUnknown),
            (|statement| statement.spki = BASE64_STANDARD.encode(Key::new().spki()), CustodyRefusal::WrongKey),
            (|statement| statement.agent_key = Key::new().id(), CustodyRefusal::WrongKey),
            (|statement| statement.token_serial = "ffff".into(), CustodyRefusal::WrongToken),
            (|statement| statement.attributes.sensitive = false, unsound),
            (|statement| statement.attributes.always_sensitive = false, unsound),
            (|statement| statement.attributes.never_extractable = false, unsound),
            (|statement| statement.attributes.extractable = true, unsound),
            (|statement| statement.attributes.local = false, unsound),
            (|statement| statement.at_unix_ms = (NOW.0 - STATEMENT_SKEW_MS - 1).to_string(), CustodyRefusal::NotFresh),
            (|statement| statement.at_unix_ms = (NOW.0 + STATEMENT_SKEW_MS + 1).to_string(), CustodyRefusal::NotFresh),
        ];
        let (agent, host) = (Key::new(), Key::new());
        let enrolled = EnrolledHost {
            schema: HOST_SCHEMA.into(),
            party: "agent".into(),
            host_key: host.id(),
            spki: BASE64_STANDARD.encode(host.spki()),
            token_serial: "a1b2".into(),
        };
        let hosts = [enrolled.clone()];
        let honest = statement(&agent, &host);
        assert_eq!(verify(&signed(honest.clone(), &host), &hosts, &agent.spki(), NOW), Ok(()));
        for (bend, expected) in table {
            let mut bent = honest.clone();
            bend(&mut bent);
            assert_eq!(verify(&signed(bent, &host), &hosts, &agent.spki(), NOW), Err(*expected));
        }
        let forged = signed(honest.clone(), &Key::new());
        assert_eq!(verify(&forged, &hosts, &agent.spki(), NOW), Err(CustodyRefusal::SignatureInvalid));
        let swapped = [EnrolledHost { spki: BASE64_STANDARD.encode(Key::new().spki()), ..enrolled }];
        assert_eq!(verify(&signed(honest, &host), &swapped, &agent.spki(), NOW), Err(CustodyRefusal::HostUnknown));
    }
}
