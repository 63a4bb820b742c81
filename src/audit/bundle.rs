//! Puts the evidence of one payment together, and verifies all of it before it leaves the house.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::Log;
use super::prove::LeafChoice;
use super::search::SearchQuery;
use crate::kernel::approval::PaymentTerms;
use crate::kernel::bundle::{self, ApprovalPart, WordPart};
use crate::kernel::command::TransactionStatement;
use crate::kernel::credential::profile::Profile;
use crate::kernel::ledger::Transaction;
use crate::kernel::types::{MandateId, Serial, Sha256, TransactionId, UnixMillis};
use crate::ops::failure::Failure;
use crate::store::CertificatesOf;

/// Leaves that are read at once.
const PAGE_LEAVES: u32 = 512;

impl Log {
    /// The evidence of a payment that was posted, as an archive: receipt, authorization, the agent's certificate, what
    /// people said and signed, the owner's mandate, each with the leaf that recorded it. Waits for the receipt, at most for
    /// `deadline`. The same payment under the same checkpoint gives the same bytes.
    ///
    /// # Errors
    /// Those of [`Self::receipt`] and [`Self::prove`]; `evidence_missing` when the log or the store does not have what the
    /// payment names; `leaf_erased` when a record was erased; `bundle_unverifiable`; the store's.
    pub fn bundle(&self, id: &TransactionId, deadline: Duration) -> Result<Vec<u8>, Failure> {
        let receipt = self.receipt(id, deadline)?;
        let store = &self.setup.store;
        let statement: TransactionStatement = serde_json::from_str(&receipt.statement)
            .map_err(|error| missing(format!("the statement of {id} is unreadable: {error}")))?;
        let transaction = store.transaction(id)?.ok_or_else(|| missing(format!("the book has no {id}")))?;
        let mut members: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let bytes = receipt.to_bytes().map_err(|refusal| unverifiable(refusal.name(), &refusal.to_string()))?;
        members.insert(bundle::RECEIPT.into(), bytes);
        // Every issuing CA of this party: people and agents may have had their certificates from another one.
        let mut issuing: Vec<Vec<u8>> = store
            .authorities()?
            .into_iter()
            .filter(|record| record.profile == Profile::Issuing.name())
            .filter_map(|record| record.der)
            .chain([receipt.batch.chain[1].0.clone(), receipt.log.chain[1].0.clone()])
            .collect();
        issuing.sort();
        issuing.dedup();
        for (number, der) in (1..).zip(issuing) {
            members.insert(bundle::issuing(number), der);
        }
        if let Some(agent) = transaction.agent().filter(|_| statement.agent.is_some()) {
            let names_it = |body: &Value| {
                let status = body["result"]["status"].as_str();
                body["result"]["transaction_id"] == id.as_str()
                    && (status == Some("approved") || status == Some("requires_approval"))
                    && body["actor"]["kind"] == "agent"
            };
            let proof = self.proof_of(transaction.created, id.as_str(), "the authorization", names_it)?;
            members.insert(bundle::AUTHORIZATION.into(), proof);
            let der = self.certificate(&agent.bank_issuer, &agent.bank_serial, "the agent")?;
            members.insert(bundle::AGENT.into(), der);
        }
        if statement.approval_id.is_some() {
            self.words(&transaction, &mut members)?;
        }
        if let Some(mandate) = &statement.mandate_id {
            self.mandate(mandate, &mut members)?;
        }
        let file =
            bundle::compose(id, members).map_err(|refusal| unverifiable(refusal.name(), &refusal.to_string()))?;
        let root = receipt.batch.chain.last().map(|root| root.0.as_slice()).unwrap_or_default();
        match bundle::verify(&file, root, &self.setup.oid_base) {
            Ok(_) => Ok(file),
            Err(refusal) => Err(unverifiable(refusal.name(), &refusal.to_string())),
        }
    }

    /// What people were asked and said, and the leaf of each word.
    fn words(&self, transaction: &Transaction, members: &mut BTreeMap<String, Vec<u8>>) -> Result<(), Failure> {
        let id = &transaction.transaction_id;
        let approval = transaction.approval.as_ref();
        let approval = approval.ok_or_else(|| missing(format!("the book has no approval of {id}")))?;
        let part = ApprovalPart {
            approval_id: approval.approval_id.clone(),
            expires: approval.expires.rfc3339(),
            nonce: approval.asked.nonce,
            policy_version: transaction.policy_version.clone(),
            schema: ApprovalPart::schema(),
            terms: PaymentTerms::of(transaction, approval),
            words: approval
                .asked
                .quorum
                .words
                .iter()
                .map(|said| WordPart {
                    answer: said.answer,
                    at: UnixMillis(said.at).rfc3339(),
                    evidence: said.evidence.clone(),
                    gate: said.gate as u64,
                    note: said.note.clone(),
                    person: said.person.clone(),
                    role: said.role.clone(),
                })
                .collect(),
        };
        for (number, said) in (1..).zip(&approval.asked.quorum.words) {
            let is_it = |body: &Value| {
                body["act"] == "decide_approval"
                    && body["decision"] == "permitted"
                    && body["parameters"]["approval_id"] == approval.approval_id.as_str()
                    && body["actor"]["name"] == said.person.as_str()
            };
            let what = format!("the word of {}", said.person);
            let proof = self.proof_of(UnixMillis(said.at), approval.approval_id.as_str(), &what, is_it)?;
            members.insert(bundle::word(number), proof);
        }
        let bytes = part.to_bytes().map_err(|refusal| unverifiable(refusal.name(), &refusal.to_string()))?;
        members.insert(bundle::APPROVAL.into(), bytes);
        Ok(())
    }

    fn mandate(&self, id: &MandateId, members: &mut BTreeMap<String, Vec<u8>>) -> Result<(), Failure> {
        let stored = self.setup.store.mandate(id)?.ok_or_else(|| missing(format!("the book has no mandate {id}")))?;
        let sha256 = Sha256::of(&[stored.text.as_bytes()]).hex();
        let is_it = |body: &Value| {
            body["act"] == "add_mandate"
                && body["decision"] == "permitted"
                && body["parameters"]["text_sha256"] == sha256.as_str()
        };
        let proof = self.proof_of(stored.created, &sha256, "the mandate's entry", is_it)?;
        let Some((issuer, serial)) = &stored.signer.certificate else {
            return Err(missing(format!("the book does not say which certificate signed mandate {id}")));
        };
        let owner = self.certificate(issuer, serial, "the owner")?;
        members.insert(bundle::MANDATE_ENTERED.into(), proof);
        members.insert(bundle::MANDATE_OWNER.into(), owner);
        members.insert(bundle::MANDATE.into(), stored.text.into_bytes());
        Ok(())
    }

    fn certificate(&self, issuer: &str, serial: &Serial, whose: &str) -> Result<Vec<u8>, Failure> {
        let of = CertificatesOf::Serial { issuer: issuer.to_owned(), serial: serial.clone() };
        let found = self.setup.store.certificates_of(&of, UnixMillis(i64::MIN))?;
        let der = found.into_iter().find_map(|record| record.der);
        der.ok_or_else(|| missing(format!("the store does not have certificate {serial} of {whose}")))
    }

    /// The proof of the first leaf of about that time that names `needle` and `is_it`.
    fn proof_of(
        &self,
        at: UnixMillis,
        needle: &str,
        what: &str,
        is_it: impl Fn(&Value) -> bool,
    ) -> Result<Vec<u8>, Failure> {
        let size = self.state()?.size;
        let query = SearchQuery { since: Some(at), until: Some(at.plus_ms(1)), ..SearchQuery::default() };
        let span = self.span_of(&query, size)?;
        let (mut from, mut erased) = (span.from, false);
        while from < span.end {
            let leaves = self.setup.store.leaves(from, PAGE_LEAVES)?;
            let Some(last) = leaves.last().and_then(|leaf| leaf.index) else { break };
            for leaf in &leaves {
                let Some(bytes) = leaf.body() else {
                    erased = true;
                    continue;
                };
                let names_it = bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
                let Some(place) = leaf.index.filter(|_| names_it) else { continue };
                let body: Value = serde_json::from_slice(bytes).unwrap_or_default();
                if is_it(&body) {
                    return self.prove(&LeafChoice::Index(place)).map(String::into_bytes);
                }
            }
            from = last + 1;
        }
        if erased {
            return Err(Failure::refused(
                "leaf_erased",
                format!("{what} is not found, and records of that time were erased"),
                "what was erased can be shown to nobody; `countersign receipt show` has the payment alone",
            ));
        }
        Err(missing(format!("the log has no leaf of {what} at {}", at.rfc3339())))
    }
}

fn missing(message: String) -> Failure {
    Failure::fault(
        "evidence_missing",
        message,
        "run `countersign audit check`; `countersign receipt show` has the payment alone",
    )
}

fn unverifiable(name: &str, message: &str) -> Failure {
    Failure::fault(
        "bundle_unverifiable",
        format!("the bundle would not verify ({name}): {message}"),
        "run `countersign audit check` and see the certificates of this party",
    )
}
