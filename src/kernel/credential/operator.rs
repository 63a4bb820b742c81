//! People with keys of their own: how one is enrolled, and what an officer signs for an agent.
//!
//! An officer's key lives in a token of the officer's own. What it signs is a document that says in words what was
//! approved, so that it can be shown to the officer before and to an auditor afterwards.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::kernel::canon::canonical;
use crate::kernel::sign::{DocumentTag, Purpose, SignInput, raw_public_key, signature_is_valid};
use crate::kernel::types::{KeyId, OperatorName, PartyName, Sha256, SpiffeId, UnixMillis};

pub const REQUEST_SCHEMA: &str = "countersign/operator-request/v1";
pub const APPROVAL_SCHEMA: &str = "countersign/agent-approval/v1";
/// A request or an approval is taken this long before and after its time.
pub const FRESH_MS: i64 = 10 * 60 * 1000;
/// The longest that an approval stands: then an officer looks at the agent again.
pub const HORIZON_MS: i64 = 90 * 86_400_000;

/// Who asks to be enrolled, with which key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorRequest {
    pub schema: String,
    pub name: OperatorName,
    pub key: KeyId,
    /// SubjectPublicKeyInfo, base64.
    pub spki: String,
    pub token_serial: String,
    /// Milliseconds since 1970, as a string: numbers in signed documents are strings or small.
    pub at_unix_ms: String,
}

/// A request with the signature of the key that it names (base64): the key is the asker's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRequest {
    pub request: OperatorRequest,
    pub signature: String,
}

/// An officer's word: this party may certify this agent, in this role, over this key, until then. Renewals included.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentApproval {
    pub schema: String,
    /// Whose certificates it is about: the officer's own party.
    pub party: PartyName,
    pub operator: OperatorName,
    pub agent: SpiffeId,
    pub agent_key: KeyId,
    pub at_unix_ms: String,
    pub until_unix_ms: String,
}

/// An approval with the officer's signature (base64).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedApproval {
    pub approval: AgentApproval,
    pub signature: String,
}

/// Why a request or an approval is not believed. In the order in which the rules are checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OperatorRefusal {
    Malformed,
    /// The key is none that an operator has, or not the one that the request names.
    Key,
    SignatureInvalid,
    /// The approval is for another party's certificates.
    WrongParty,
    NotFresh,
    /// It stands for longer than [`HORIZON_MS`], or not at all.
    Horizon,
}

impl OperatorRefusal {
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "operator_document_malformed",
            Self::Key => "operator_key_unusable",
            Self::SignatureInvalid => "operator_signature_invalid",
            Self::WrongParty => "approval_wrong_party",
            Self::NotFresh => "operator_document_not_fresh",
            Self::Horizon => "approval_horizon",
        }
    }
}

impl std::fmt::Display for OperatorRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the document cannot be read",
            Self::Key => "the key is not of a kind that operators have, or not the one the request names",
            Self::SignatureInvalid => "the document is not signed by the operator it names",
            Self::WrongParty => "the approval is about another party's certificates",
            Self::NotFresh => "the document is more than 10 minutes old or ahead",
            Self::Horizon => "the approval ends before it begins, or stands for more than 90 days",
        })
    }
}

impl OperatorRequest {
    /// # Errors
    /// [`OperatorRefusal::Malformed`]
    pub fn sign_input(&self) -> Result<SignInput, OperatorRefusal> {
        document(self)
    }
}

impl SignedRequest {
    /// The asker's SubjectPublicKeyInfo (DER), once the request is fresh at `now` and signed by that very key.
    ///
    /// # Errors
    /// The first [`OperatorRefusal`] in the order of that type.
    pub fn verify(&self, now: UnixMillis) -> Result<Vec<u8>, OperatorRefusal> {
        let request = &self.request;
        let at = millis(&request.at_unix_ms).filter(|_| request.schema == REQUEST_SCHEMA);
        let at = at.ok_or(OperatorRefusal::Malformed)?;
        let spki = BASE64_STANDARD.decode(&request.spki).map_err(|_| OperatorRefusal::Malformed)?;
        let permitted = Purpose::Operator.algorithms();
        let usable = raw_public_key(&spki).is_some_and(|(algorithm, _)| permitted.contains(&algorithm));
        if !usable || Sha256::of(&[&spki]) != request.key {
            return Err(OperatorRefusal::Key);
        }
        signed(&spki, &request.sign_input()?, &self.signature)?;
        if now.0.abs_diff(at) > FRESH_MS.unsigned_abs() {
            return Err(OperatorRefusal::NotFresh);
        }
        Ok(spki)
    }
}

impl AgentApproval {
    /// # Errors
    /// [`OperatorRefusal::Malformed`]
    pub fn sign_input(&self) -> Result<SignInput, OperatorRefusal> {
        document(self)
    }

    /// When it was signed, and when it ends.
    ///
    /// # Errors
    /// [`OperatorRefusal::Malformed`]
    pub fn span(&self) -> Result<(UnixMillis, UnixMillis), OperatorRefusal> {
        let both = millis(&self.at_unix_ms).zip(millis(&self.until_unix_ms));
        both.map(|(at, until)| (UnixMillis(at), UnixMillis(until))).ok_or(OperatorRefusal::Malformed)
    }
}

impl SignedApproval {
    /// Passes an approval for `party` by the operator with this key. Whether it is still in force is not asked.
    ///
    /// # Errors
    /// The first [`OperatorRefusal`] in the order of that type.
    pub fn verify(&self, party: &PartyName, operator_spki: &[u8]) -> Result<(), OperatorRefusal> {
        let approval = &self.approval;
        if approval.schema != APPROVAL_SCHEMA {
            return Err(OperatorRefusal::Malformed);
        }
        let (at, until) = approval.span()?;
        signed(operator_spki, &approval.sign_input()?, &self.signature)?;
        if approval.party != *party {
            return Err(OperatorRefusal::WrongParty);
        }
        if until <= at || until.0 - at.0 > HORIZON_MS {
            return Err(OperatorRefusal::Horizon);
        }
        Ok(())
    }

    /// Passes an approval that was signed just now.
    ///
    /// # Errors
    /// [`OperatorRefusal::NotFresh`], [`OperatorRefusal::Malformed`]
    pub fn is_fresh(&self, now: UnixMillis) -> Result<(), OperatorRefusal> {
        let (at, _) = self.approval.span()?;
        if now.0.abs_diff(at.0) > FRESH_MS.unsigned_abs() { Err(OperatorRefusal::NotFresh) } else { Ok(()) }
    }

    /// Whether it lets this agent be certified over this key at `now`.
    pub fn covers(&self, agent: &SpiffeId, key: KeyId, now: UnixMillis) -> bool {
        let approval = &self.approval;
        let in_force = approval.span().is_ok_and(|(_, until)| now <= until);
        approval.agent == *agent && approval.agent_key == key && in_force
    }
}

pub(super) fn millis(text: &str) -> Option<i64> {
    text.parse().ok().filter(|millis| (0..=253_402_300_799_999).contains(millis))
}

pub(super) fn document(value: &impl Serialize) -> Result<SignInput, OperatorRefusal> {
    let value = serde_json::to_value(value).map_err(|_| OperatorRefusal::Malformed)?;
    let canonical_json = canonical(&value).map_err(|_| OperatorRefusal::Malformed)?;
    Ok(SignInput::Document { tag: DocumentTag::OperatorAct, canonical_json })
}

pub(super) fn signed(spki: &[u8], input: &SignInput, signature: &str) -> Result<(), OperatorRefusal> {
    let signature = BASE64_STANDARD.decode(signature).map_err(|_| OperatorRefusal::Malformed)?;
    if signature_is_valid(spki, &input.message(), &signature) { Ok(()) } else { Err(OperatorRefusal::SignatureInvalid) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::credential::testkit::{Key, NOW, SPIFFE};

    fn request(key: &Key) -> OperatorRequest {
        OperatorRequest {
            schema: REQUEST_SCHEMA.into(),
            name: "carol".parse().unwrap(),
            key: key.id(),
            spki: BASE64_STANDARD.encode(key.spki()),
            token_serial: "a1b2".into(),
            at_unix_ms: NOW.0.to_string(),
        }
    }

    fn approval(agent: &Key) -> AgentApproval {
        AgentApproval {
            schema: APPROVAL_SCHEMA.into(),
            party: "secco".parse().unwrap(),
            operator: "carol".parse().unwrap(),
            agent: SPIFFE.parse().unwrap(),
            agent_key: agent.id(),
            at_unix_ms: NOW.0.to_string(),
            until_unix_ms: (NOW.0 + HORIZON_MS).to_string(),
        }
    }

    fn sign(key: &Key, input: Result<SignInput, OperatorRefusal>) -> String {
        BASE64_STANDARD.encode(key.sign(&input.unwrap().message()))
    }

    #[test]
    fn requests_are_refused_by_the_rule_they_break() {
        type Bend = fn(&mut OperatorRequest);
        let table: &[(Bend, OperatorRefusal)] = &[
            (|request| request.schema = APPROVAL_SCHEMA.into(), OperatorRefusal::Malformed),
            (|request| request.at_unix_ms = "-1".into(), OperatorRefusal::Malformed),
            (|request| request.spki = "?".into(), OperatorRefusal::Malformed),
            (|request| request.spki = BASE64_STANDARD.encode(b"key"), OperatorRefusal::Key),
            (|request| request.key = Key::new().id(), OperatorRefusal::Key),
            (|request| request.at_unix_ms = (NOW.0 + FRESH_MS + 1).to_string(), OperatorRefusal::NotFresh),
            (|request| request.at_unix_ms = (NOW.0 - FRESH_MS - 1).to_string(), OperatorRefusal::NotFresh),
        ];
        let key = Key::new();
        let signed = |request: OperatorRequest, signer: &Key| SignedRequest {
            signature: sign(signer, request.sign_input()),
            request,
        };
        assert_eq!(signed(request(&key), &key).verify(NOW), Ok(key.spki()));
        for (bend, expected) in table {
            let mut bent = request(&key);
            bend(&mut bent);
            assert_eq!(signed(bent, &key).verify(NOW), Err(*expected));
        }
        let stranger = signed(request(&key), &Key::new());
        assert_eq!(stranger.verify(NOW), Err(OperatorRefusal::SignatureInvalid));
        let mut renamed = signed(request(&key), &key);
        renamed.request.name = "mallory".parse().unwrap();
        assert_eq!(renamed.verify(NOW), Err(OperatorRefusal::SignatureInvalid));
    }

    #[test]
    fn approvals_are_refused_by_the_rule_they_break() {
        type Bend = fn(&mut AgentApproval);
        let table: &[(Bend, OperatorRefusal)] = &[
            (|approval| approval.schema = REQUEST_SCHEMA.into(), OperatorRefusal::Malformed),
            (|approval| approval.until_unix_ms = "tomorrow".into(), OperatorRefusal::Malformed),
            (|approval| approval.party = "bank".parse().unwrap(), OperatorRefusal::WrongParty),
            (|approval| approval.until_unix_ms = NOW.0.to_string(), OperatorRefusal::Horizon),
            (|approval| approval.until_unix_ms = (NOW.0 + HORIZON_MS + 1).to_string(), OperatorRefusal::Horizon),
        ];
        let (agent, officer) = (Key::new(), Key::new());
        let party = "secco".parse().unwrap();
        let signed =
            |approval: AgentApproval| SignedApproval { signature: sign(&officer, approval.sign_input()), approval };
        assert_eq!(signed(approval(&agent)).verify(&party, &officer.spki()), Ok(()));
        for (bend, expected) in table {
            let mut bent = approval(&agent);
            bend(&mut bent);
            assert_eq!(signed(bent).verify(&party, &officer.spki()), Err(*expected));
        }
        let mut widened = signed(approval(&agent));
        widened.approval.agent = "spiffe://countersign.example/agent/treasurer/shopper".parse().unwrap();
        assert_eq!(widened.verify(&party, &officer.spki()), Err(OperatorRefusal::SignatureInvalid));
        let by_another = signed(approval(&agent)).verify(&party, &Key::new().spki());
        assert_eq!(by_another, Err(OperatorRefusal::SignatureInvalid));
    }

    #[test]
    fn an_approval_covers_its_agent_and_key_until_its_end() {
        let (agent, officer) = (Key::new(), Key::new());
        let one = approval(&agent);
        let signed = SignedApproval { signature: sign(&officer, one.sign_input()), approval: one };
        let name: SpiffeId = SPIFFE.parse().unwrap();
        let end = NOW.plus_ms(HORIZON_MS);
        let other_role = "spiffe://countersign.example/agent/treasurer/shopper".parse().unwrap();
        assert!(signed.covers(&name, agent.id(), NOW) && signed.covers(&name, agent.id(), end));
        assert!(!signed.covers(&name, agent.id(), end.plus_ms(1)));
        assert!(!signed.covers(&name, officer.id(), NOW));
        assert!(!signed.covers(&other_role, agent.id(), NOW));
        assert_eq!(signed.is_fresh(NOW.plus_ms(FRESH_MS)), Ok(()));
        assert_eq!(signed.is_fresh(NOW.plus_ms(FRESH_MS + 1)), Err(OperatorRefusal::NotFresh));
    }
}
