//! People who decide about payments: what their own tokens sign, and what the bank believes of it.
//!
//! The person's side composes nothing by itself: it is shown the terms, checks that the structure names their hash, and
//! signs the structure. The bank's side believes the key of the certificate that it has enrolled under the name.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ca::authority::Authority;
use crate::ca::operators::refused;
use crate::ca::settings::PartyKind;
use crate::kernel::approval::{ApprovalDocument, Evidence, PaymentTerms};
use crate::kernel::command::{Actor, OperatorPrincipal};
use crate::kernel::credential::operator::OperatorRefusal;
use crate::kernel::credential::reading::{READING_SCHEMA, Reading, SignedReading};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{ApprovalId, OperatorName, OwnerId, PartyName, UnixMillis};
use crate::kernel::webauthn::{Assertion, RelyingParty};
use crate::ops::clock;
use crate::ops::failure::Failure;

/// A person's word about a payment as it travels to the bank.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedWord {
    pub document: ApprovalDocument,
    /// Base64: by the person's key.
    pub signature: String,
    /// That key is a passkey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passkey: Option<Assertion>,
}

/// An enrolled person whose certificate counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Person {
    pub name: OperatorName,
    pub roles: Vec<String>,
    /// The customer that the person is, with the role `owner`.
    pub owner: Option<OwnerId>,
    /// Base64 DER.
    pub certificate: String,
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
}

impl Person {
    fn principal(self, uid: u32) -> OperatorPrincipal {
        OperatorPrincipal { name: self.name, uid, roles: self.roles, asserted: false, owner: self.owner }
    }
}

impl Authority {
    /// With a person's own state directory: signs that the person asks `party` to see an approval, or all that wait.
    ///
    /// # Errors
    /// `not_this_party`, `party_not_initialised`, the token's.
    pub fn reading_sign(
        &self,
        actor: &Actor,
        party: PartyName,
        approval_id: Option<ApprovalId>,
    ) -> Result<Value, Failure> {
        let reading = Reading {
            schema: READING_SCHEMA.to_owned(),
            party,
            operator: self.operator_name()?,
            approval_id,
            at_unix_ms: clock::now().0.to_string(),
        };
        self.recorded(actor, "reading_sign", &json!(reading), || {
            self.only_for(&[PartyKind::Operator])?;
            let input = reading.sign_input().map_err(refused)?;
            let signature = self.token.sign(self.operator_key()?.id, input)?;
            Ok(json!(reading.clone().with(&signature)))
        })
    }

    /// With a person's own state directory: signs the word about the payment with these terms.
    ///
    /// # Errors
    /// `not_this_party`; `approval_mismatch` when the structure is not about these terms; `operator_not_permitted` when it
    /// names somebody else; the token's.
    pub fn word_sign(
        &self,
        actor: &Actor,
        document: &ApprovalDocument,
        terms: &PaymentTerms,
    ) -> Result<Value, Failure> {
        let about = json!({ "document": document, "terms": terms });
        self.recorded(actor, "approval_word_sign", &about, || {
            self.only_for(&[PartyKind::Operator])?;
            if terms.hash() != Some(document.transaction_hash) {
                return Err(told(Refusal::ApprovalMismatch));
            }
            if document.approver != self.operator_name()? {
                return Err(told(Refusal::OperatorNotPermitted));
            }
            let input = document.sign_input().ok_or_else(|| told(Refusal::ApprovalMismatch))?;
            let signature = BASE64_STANDARD.encode(self.token.sign(self.operator_key()?.id, input)?);
            Ok(json!(SignedWord { document: document.clone(), signature, passkey: None }))
        })
    }

    /// The enrolled person of this name, whose certificate is neither revoked nor, at `now`, expired.
    ///
    /// # Errors
    /// `not_this_party`, `operator_unknown`, `operator_revoked`, `operator_certificate_expired`.
    pub fn person(&self, name: &OperatorName, now: UnixMillis) -> Result<Person, Failure> {
        self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
        let enrolled = self.enrolled_operator(name)?.ok_or_else(|| {
            Failure::refused(
                "operator_unknown",
                format!("nobody of the name {name} is enrolled at {}", self.party),
                "enrol the person with `countersign operator enrol`",
            )
        })?;
        let spki = self.operator_leaf(name, &enrolled.certificate, now)?;
        let certificate = enrolled.certificate;
        Ok(Person { name: enrolled.name, roles: enrolled.roles, owner: enrolled.owner, certificate, spki })
    }

    /// The same operator as the customer that the person of this name is, as enrolled and as configured: nobody decides
    /// about their own money, whichever way they come.
    ///
    /// # Errors
    /// `operator_unreadable`; `operator_two_customers` where the two differ: neither may be forgotten.
    pub fn with_owner(
        &self,
        operator: OperatorPrincipal,
        configured: Option<OwnerId>,
    ) -> Result<OperatorPrincipal, Failure> {
        let enrolled = self.enrolled_operator(&operator.name)?.and_then(|enrolled| enrolled.owner);
        if let (Some(enrolled), Some(configured)) = (&enrolled, &configured)
            && enrolled != configured
        {
            return Err(Failure::refused(
                "operator_two_customers",
                format!("{} is enrolled as the customer {enrolled} and configured as {configured}", operator.name),
                "give each customer a name of its own; [[operator]] owner names the one of the enrolment",
            ));
        }
        Ok(OperatorPrincipal { owner: enrolled.or(configured), ..operator })
    }

    /// Who signed this word, which came under this user id, and the word as evidence. What it is about, and whether it
    /// counts, is decided where it is recorded. A passkey's word was made at this bank's `console` or counts for nothing.
    ///
    /// # Errors
    /// As [`Self::person`]; `approval_signature_invalid`.
    pub fn speaker(
        &self,
        word: &SignedWord,
        uid: u32,
        console: Option<&RelyingParty>,
    ) -> Result<(OperatorPrincipal, Evidence), Failure> {
        if word.passkey.as_ref().is_some_and(|assertion| Some(&assertion.origin) != console) {
            return Err(told(Refusal::ApprovalSignatureInvalid));
        }
        let person = self.person(&word.document.approver, clock::now())?;
        let document = word.document.canonical().and_then(|text| String::from_utf8(text).ok());
        let document = document.ok_or_else(|| told(Refusal::ApprovalMismatch))?;
        let evidence = Evidence {
            document,
            signature: word.signature.clone(),
            certificate: person.certificate.clone(),
            passkey: word.passkey.clone(),
        };
        evidence.signed_by().map_err(told)?;
        Ok((person.principal(uid), evidence))
    }

    /// Who asks to see this.
    ///
    /// # Errors
    /// As [`Self::person`]; the names of [`OperatorRefusal`].
    pub fn reader(&self, signed: &SignedReading, uid: u32) -> Result<OperatorPrincipal, Failure> {
        let now = clock::now();
        let person = self.person(&signed.reading.operator, now)?;
        signed.verify(&self.party, &person.spki, now).map_err(|refusal: OperatorRefusal| refused(refusal))?;
        Ok(person.principal(uid))
    }
}

fn told(refusal: Refusal) -> Failure {
    Failure::refused(refusal.name(), refusal.message(), refusal.next_step())
}
