//! What a person signs about one payment, and what is kept of it as evidence.
//!
//! The structure that is signed names the payment by a hash over all its terms, so that a signature fits one payment at
//! one bank under one policy, once: the nonce is made with the payment and dies with its decision. The words of the two
//! gates differ (`approve`, `deny`; `consent`, `refuse`): an owner's signature says nothing at the bank's gate.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::kernel::canon::canonical;
use crate::kernel::command::{Settlement, Verdict};
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::ledger::{Approval, Transaction};
use crate::kernel::quorum::{GateRule, Proof, Side};
use crate::kernel::refusal::Refusal;
use crate::kernel::sign::{DocumentTag, SignInput, signature_is_valid};
use crate::kernel::types::{ApprovalId, KeyId, OperatorName, ProductId, Serial, Sha256, SpiffeId, TransactionId};
use crate::kernel::types::{MerchantId, UnixMillis};
use crate::kernel::webauthn::Assertion;

/// Longer than any structure that is signed, and any certificate over which it is verified.
const EVIDENCE_BYTES_MAX: usize = 16 * 1024;

/// The terms of a payment: all that a person decides about. Its hash is what they sign.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentTerms {
    // In the order of the canonical form.
    pub agent: Option<SpiffeId>,
    pub agent_key: Option<KeyId>,
    /// Minor units.
    pub amount_minor: String,
    pub created: String,
    pub credit_account: String,
    pub currency: String,
    pub debit_account: String,
    /// What the payer pays besides; minor units.
    pub fee_minor: String,
    /// Who has to decide.
    pub gates: Vec<GateRule>,
    pub kind: String,
    /// Who asked: an agent's SPIFFE ID, an operator's name, `system:` and a component.
    pub maker: String,
    pub merchant: Option<MerchantId>,
    /// The transaction that a reversal undoes.
    pub original_transaction_id: Option<TransactionId>,
    pub product_id: Option<ProductId>,
    /// Why a human is asked.
    pub reasons: Vec<String>,
    pub settlement: Settlement,
    pub transaction_id: TransactionId,
}

impl PaymentTerms {
    /// The terms of a transaction that waits for people.
    pub fn of(transaction: &Transaction, approval: &Approval) -> Self {
        Self {
            agent: transaction.agent().map(|agent| agent.spiffe_id.clone()),
            agent_key: transaction.agent().map(|agent| agent.key),
            amount_minor: transaction.amount.minor().to_string(),
            created: transaction.created.rfc3339(),
            credit_account: transaction.credit.clone(),
            currency: transaction.amount.currency().to_string(),
            debit_account: transaction.debit.clone(),
            fee_minor: transaction.fee.minor().to_string(),
            gates: approval.asked.quorum.gates.clone(),
            kind: transaction.kind.name().to_owned(),
            maker: transaction.maker.name(),
            merchant: transaction.merchant.clone(),
            original_transaction_id: transaction.original.clone(),
            product_id: transaction.product.clone(),
            reasons: approval.reasons.clone(),
            settlement: transaction.settlement,
            transaction_id: transaction.transaction_id.clone(),
        }
    }

    /// SHA-256 of the canonical form (RFC 8785). `None`: it has none.
    pub fn hash(&self) -> Option<Sha256> {
        Some(Sha256::of(&[&canonical(&serde_json::to_value(self).ok()?).ok()?]))
    }
}

/// What a person says, in the word of their gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignedDecision {
    /// The bank's yes.
    Approve,
    /// The bank's no.
    Deny,
    /// The owner's yes.
    Consent,
    /// The owner's no.
    Refuse,
}

impl SignedDecision {
    pub fn of(side: Side, verdict: Verdict) -> Self {
        match (side, verdict) {
            (Side::Bank, Verdict::Approve) => Self::Approve,
            (Side::Bank, Verdict::Deny) => Self::Deny,
            (Side::Owner, Verdict::Approve) => Self::Consent,
            (Side::Owner, Verdict::Deny) => Self::Refuse,
        }
    }
}

/// The structure that a person's key signs, exactly these members.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalDocument {
    pub tag: String,
    pub approval_id: ApprovalId,
    pub decision: SignedDecision,
    pub approver: OperatorName,
    /// [`PaymentTerms::hash`]
    pub transaction_hash: Sha256,
    pub policy_version: String,
    /// RFC 3339.
    pub expires: String,
    /// 32 bytes made with the payment, hexadecimal.
    pub nonce: Sha256,
}

impl ApprovalDocument {
    /// What the bank asks this person to sign about this transaction now. `None`: it asks nobody.
    pub fn asked(transaction: &Transaction, approver: &OperatorName, side: Side, verdict: Verdict) -> Option<Self> {
        let approval = transaction.approval.as_ref()?;
        Some(Self {
            tag: DocumentTag::PaymentApproval.text().to_owned(),
            approval_id: approval.approval_id.clone(),
            decision: SignedDecision::of(side, verdict),
            approver: approver.clone(),
            transaction_hash: PaymentTerms::of(transaction, approval).hash()?,
            policy_version: transaction.policy_version.clone(),
            expires: approval.expires.rfc3339(),
            nonce: approval.asked.nonce,
        })
    }

    /// The canonical form (RFC 8785). `None`: it has none.
    pub fn canonical(&self) -> Option<Vec<u8>> {
        canonical(&serde_json::to_value(self).ok()?).ok()
    }

    /// Reads a canonical form back: these members, this tag, nothing else, in this very spelling.
    pub fn read(text: &[u8]) -> Option<Self> {
        let document: Self = serde_json::from_slice(text).ok()?;
        let sound = document.tag == DocumentTag::PaymentApproval.text() && document.canonical()? == text;
        sound.then_some(document)
    }

    /// What a passkey signs in place of the structure: SHA-256 of the very bytes that a token signs. `None`: it has no
    /// canonical form.
    pub fn challenge(&self) -> Option<Sha256> {
        Some(Sha256::of(&[&self.sign_input()?.message()]))
    }

    /// What the person's token signs. `None`: it has no canonical form.
    pub fn sign_input(&self) -> Option<SignInput> {
        let canonical_json = self.canonical()?;
        Some(SignInput::Document { tag: DocumentTag::PaymentApproval, canonical_json })
    }
}

/// What a word is proven by, for as long as the bank keeps its book.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The canonical form of [`ApprovalDocument`] that was signed.
    pub document: String,
    /// Base64: DER `ECDSA-Sig-Value` over the document under its tag.
    pub signature: String,
    /// Base64 DER: the certificate that the bank had issued to the person.
    pub certificate: String,
    /// The person's key is a passkey: then `signature` is over this (W3C WebAuthn), whose challenge is
    /// [`ApprovalDocument::challenge`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passkey: Option<Assertion>,
}

/// Whose key a signature was verified with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedBy {
    pub key: KeyId,
    /// Subject key identifier of the certificate's issuer, hexadecimal.
    pub issuer: String,
    pub serial: Serial,
    pub not_after: UnixMillis,
}

impl Evidence {
    /// Verifies that this is the signature over exactly `asked` under the kept certificate. Whose certificate it is, and
    /// whether it still counts, is asked elsewhere.
    ///
    /// # Errors
    /// `approval_mismatch`: something else was signed; `approval_signature_invalid`.
    pub fn verify(&self, asked: &ApprovalDocument) -> Result<SignedBy, Refusal> {
        let canonical = asked.canonical().ok_or(Refusal::ApprovalMismatch)?;
        if self.document.as_bytes() != canonical {
            return Err(Refusal::ApprovalMismatch);
        }
        self.signed_by()
    }

    /// Verifies the signature over the kept document under the kept certificate.
    ///
    /// # Errors
    /// `approval_signature_invalid`
    pub fn signed_by(&self) -> Result<SignedBy, Refusal> {
        self.read_signer().ok_or(Refusal::ApprovalSignatureInvalid)
    }

    /// Whether the signature is over this document: as a token signs it, or as an assertion.
    fn is_signed(&self, document: &ApprovalDocument, spki: &[u8], signature: &[u8]) -> Option<bool> {
        Some(match &self.passkey {
            None => signature_is_valid(spki, &document.sign_input()?.message(), signature),
            Some(assertion) => assertion.verify(spki, signature, &document.challenge()?).is_ok(),
        })
    }

    fn read_signer(&self) -> Option<SignedBy> {
        let short = |text: &String| text.len() <= EVIDENCE_BYTES_MAX;
        if ![&self.document, &self.signature, &self.certificate].into_iter().all(short) {
            return None;
        }
        let document = ApprovalDocument::read(self.document.as_bytes())?;
        let der = BASE64_STANDARD.decode(&self.certificate).ok()?;
        let tbs = Certificate::read(&der).ok()?.tbs;
        let signature = BASE64_STANDARD.decode(&self.signature).ok()?;
        if !self.is_signed(&document, tbs.spki, &signature)? {
            return None;
        }
        Some(SignedBy {
            key: Sha256::of(&[tbs.spki]),
            issuer: hex::encode(tbs.authority_key_identifier()?),
            serial: Serial::from_bytes(tbs.serial).ok()?,
            not_after: tbs.not_after.at,
        })
    }

    /// What a leaf says of it.
    pub fn hash(&self) -> Sha256 {
        let mut parts =
            vec![self.document.as_bytes(), &[0], self.signature.as_bytes(), &[0], self.certificate.as_bytes()];
        if let Some(Assertion { authenticator_data, client_data, origin }) = &self.passkey {
            for part in [authenticator_data, client_data, origin.origin()] {
                parts.extend([&[0][..], part.as_bytes()]);
            }
        }
        Sha256::of(&parts)
    }
}

impl Proof for Evidence {
    /// The certificate's; of one that cannot be read, which proves nothing, the hash of its text.
    fn key(&self) -> KeyId {
        let der = BASE64_STANDARD.decode(&self.certificate).ok();
        let key = der.and_then(|der| Some(Sha256::of(&[Certificate::read(&der).ok()?.tbs.spki])));
        key.unwrap_or_else(|| Sha256::of(&[self.certificate.as_bytes()]))
    }
}
