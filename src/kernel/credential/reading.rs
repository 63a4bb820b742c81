//! A person asks the bank to see what waits for them: who reads is proven by the same key that would decide.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::operator::{FRESH_MS, OperatorRefusal, document, millis, signed};
use crate::kernel::sign::SignInput;
use crate::kernel::types::{ApprovalId, OperatorName, PartyName, UnixMillis};

pub const READING_SCHEMA: &str = "countersign/approval-reading/v1";

/// One approval, or all that wait for this person. Good for [`FRESH_MS`]: whoever has it sees no more than the person did.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    pub schema: String,
    /// The bank that is asked.
    pub party: PartyName,
    pub operator: OperatorName,
    pub approval_id: Option<ApprovalId>,
    pub at_unix_ms: String,
}

/// A reading with the person's signature (base64).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedReading {
    pub reading: Reading,
    pub signature: String,
}

impl Reading {
    /// # Errors
    /// [`OperatorRefusal::Malformed`]
    pub fn sign_input(&self) -> Result<SignInput, OperatorRefusal> {
        document(self)
    }

    /// The same with the signature over it.
    pub fn with(self, signature: &[u8]) -> SignedReading {
        SignedReading { reading: self, signature: BASE64_STANDARD.encode(signature) }
    }
}

impl SignedReading {
    /// Passes what this party is asked by the person with this key, just now.
    ///
    /// # Errors
    /// The first [`OperatorRefusal`] in the order of that type.
    pub fn verify(&self, party: &PartyName, spki: &[u8], now: UnixMillis) -> Result<(), OperatorRefusal> {
        let reading = &self.reading;
        let at = millis(&reading.at_unix_ms).filter(|_| reading.schema == READING_SCHEMA);
        let at = at.ok_or(OperatorRefusal::Malformed)?;
        signed(spki, &reading.sign_input()?, &self.signature)?;
        if reading.party != *party {
            return Err(OperatorRefusal::WrongParty);
        }
        if now.0.abs_diff(at) > FRESH_MS.unsigned_abs() { Err(OperatorRefusal::NotFresh) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::credential::testkit::{Key, NOW};

    #[test]
    fn readings_are_refused_by_the_rule_they_break() {
        let reading = |bend: fn(&mut Reading)| {
            let mut reading = Reading {
                schema: READING_SCHEMA.into(),
                party: "bank".parse().unwrap(),
                operator: "olivia".parse().unwrap(),
                approval_id: None,
                at_unix_ms: NOW.0.to_string(),
            };
            bend(&mut reading);
            reading
        };
        let key = Key::new();
        let party = "bank".parse().unwrap();
        let sign = |reading: Reading| {
            let signature = key.sign(&reading.sign_input().unwrap().message());
            reading.with(&signature)
        };
        assert_eq!(sign(reading(|_| ())).verify(&party, &key.spki(), NOW), Ok(()));
        type Bend = fn(&mut Reading);
        let table: [(Bend, OperatorRefusal); 5] = [
            (|reading| reading.schema = "countersign/agent-approval/v1".into(), OperatorRefusal::Malformed),
            (|reading| reading.at_unix_ms = "now".into(), OperatorRefusal::Malformed),
            (|reading| reading.party = "secco".parse().unwrap(), OperatorRefusal::WrongParty),
            (|reading| reading.at_unix_ms = (NOW.0 + FRESH_MS + 1).to_string(), OperatorRefusal::NotFresh),
            (|reading| reading.at_unix_ms = (NOW.0 - FRESH_MS - 1).to_string(), OperatorRefusal::NotFresh),
        ];
        for (bend, expected) in table {
            assert_eq!(sign(reading(bend)).verify(&party, &key.spki(), NOW), Err(expected));
        }
        let strange = sign(reading(|_| ())).verify(&party, &Key::new().spki(), NOW);
        assert_eq!(strange, Err(OperatorRefusal::SignatureInvalid));
        let mut widened = sign(reading(|_| ()));
        widened.reading.operator = "mallory".parse().unwrap();
        assert_eq!(widened.verify(&party, &key.spki(), NOW), Err(OperatorRefusal::SignatureInvalid));
    }
}
