//! The parts of a bundle, each verified by itself and against the statement of the payment.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::heard::{Recorded, completes};
use super::{
    AGENT, APPROVAL, APPROVAL_SCHEMA, AUTHORIZATION, ApprovalPart, BundleRefusal, MANDATE, MANDATE_ENTERED,
    MANDATE_OWNER, Parts, WordPart, differs, text, word,
};
use crate::kernel::approval::{ApprovalDocument, Evidence, SignedDecision};
use crate::kernel::command::{TransactionStatement, Verdict};
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::chain::verify_leaf;
use crate::kernel::credential::profile::{Facts, Profile};
use crate::kernel::httpsig::LIFETIME_MAX_S;
use crate::kernel::jwt::TokenKey;
use crate::kernel::leaf_proof::LeafVerdict;
use crate::kernel::mandate::{self, OwnerKey};
use crate::kernel::quorum::{Answer, GateRule, Side};
use crate::kernel::receipt::{ReceiptVerdict, parse_time};
use crate::kernel::sign::{digest_is_signed, from_wire, raw_public_key};
use crate::kernel::types::{KeyId, MandateId, OwnerId, Serial, Sha256, SpiffeId, UnixMillis};

/// From when a request says that it was made to its decision: its longest life, and clocks that differ.
const REQUEST_AGE_MAX_MS: u64 = 2 * 1_000 * LIFETIME_MAX_S.unsigned_abs();

/// The agent's half that the bank issued.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentPart {
    pub agent: SpiffeId,
    pub key: KeyId,
    pub serial: Serial,
    /// What the bank's half says of the other one: SHA-256 of the security company's certificate (RFC 9763).
    pub endorsement_sha256: Option<Sha256>,
    /// The signature of the request that asked for the payment. None: the leaf has none.
    pub request: Option<RequestPart>,
}

/// A request that the agent's key has signed, as far as the bank keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestPart {
    /// When the request says that it was made.
    pub created: UnixMillis,
    /// Of its signature base, in hexadecimal: whoever has the request can compare.
    pub base_digest: String,
}

/// The owner's mandate.
#[derive(Clone, PartialEq, Debug)]
pub struct MandatePart {
    pub id: MandateId,
    pub owner: OwnerId,
    /// The owner's key that signed it.
    pub key: KeyId,
    /// All claims, disclosed.
    pub claims: Value,
}

fn at_of(part: &str, body: &Value) -> Result<UnixMillis, BundleRefusal> {
    let at = text(body, &["at"]).and_then(parse_time);
    at.ok_or_else(|| differs(part, "the leaf has no time"))
}

impl Parts<'_> {
    /// A certificate of the bank that was valid then.
    fn certified(&self, part: &str, der: &[u8], profile: Profile, at: UnixMillis) -> Result<Facts, BundleRefusal> {
        let found = verify_leaf(der, profile, &self.bank.anchors, &self.bank.base, at);
        found.map(|found| found.facts).map_err(|rule| BundleRefusal::part(part, rule.name(), rule))
    }

    /// The leaf of the decision that let an agent pay: this agent, these terms.
    pub(super) fn authorization(&self, receipt: &ReceiptVerdict) -> Result<Option<LeafVerdict>, BundleRefusal> {
        let statement = receipt.statement();
        let (Some(agent), Some(key)) = (&statement.agent, &statement.agent_key) else {
            return Ok(None);
        };
        let leaf = self.leaf(AUTHORIZATION)?;
        if leaf.checkpoint().origin != receipt.checkpoint().origin {
            return Err(differs(AUTHORIZATION, "it is of another log than the receipt"));
        }
        let body = leaf.body();
        let is = |path: &[&str], wanted: &str| text(body, path) == Some(wanted);
        let same = [
            (is(&["result", "transaction_id"], statement.transaction_id.as_str()), "another transaction"),
            (
                is(&["result", "status"], "approved") || is(&["result", "status"], "requires_approval"),
                "it authorizes nothing",
            ),
            (
                is(&["result", "status"], "requires_approval") == statement.approval_id.is_some(),
                "people were asked about the payment, or nobody was, and the receipt says otherwise",
            ),
            (body["result"]["approval_id"] == json!(statement.approval_id), "another approval than the payment's"),
            (is(&["actor", "spiffe_id"], &agent.to_string()), "another agent"),
            (is(&["actor", "key"], &key.hex()), "another key of the agent"),
            (is(&["policy_version"], &statement.policy_version), "another policy"),
            (is(&["catalogue_version"], &statement.catalogue_version), "another catalogue"),
            (asked_for(body, statement), "other terms than the ones that were paid"),
            (leaf.index() < receipt.leaf_index(), "it is later than the payment"),
        ];
        match same.into_iter().find(|(same, _)| !same) {
            Some((_, what)) => Err(differs(AUTHORIZATION, what)),
            None => Ok(Some(leaf)),
        }
    }

    /// The bank's certificate of that agent, over that key, as the leaf of the authorization names it.
    pub(super) fn agent(
        &self,
        statement: &TransactionStatement,
        authorization: Option<&LeafVerdict>,
    ) -> Result<Option<AgentPart>, BundleRefusal> {
        let (Some(agent), Some(key), Some(leaf)) = (&statement.agent, statement.agent_key, authorization) else {
            return Ok(None);
        };
        let der = self.bytes(AGENT)?;
        let facts = self.certified(AGENT, der, Profile::AgentB, at_of(AUTHORIZATION, leaf.body())?)?;
        let actor = &leaf.body()["actor"];
        let same = [
            (facts.agent.as_ref().map(|(agent, _)| agent) == Some(agent), "another agent"),
            (facts.key == key, "another key"),
            (actor["bank_serial"] == json!(facts.serial), "the connection had another certificate"),
            (actor["bank_issuer"] == json!(facts.issuer_identifier), "the connection's was of another issuing CA"),
        ];
        if let Some((_, what)) = same.into_iter().find(|(same, _)| !same) {
            return Err(differs(AGENT, what));
        }
        let request = request_of(leaf.body(), &facts.spki)?;
        let bound = Certificate::read(der)
            .ok()
            .and_then(|certificate| crate::kernel::credential::related::binding_of(&certificate.tbs).ok());
        Ok(Some(AgentPart { agent: agent.clone(), key, serial: facts.serial, endorsement_sha256: bound, request }))
    }

    /// What people were asked, and each word with its leaf, its signature and its signer's certificate: all that was needed
    /// before the money moved.
    pub(super) fn approval(
        &self,
        receipt: &ReceiptVerdict,
        authorization: Option<&LeafVerdict>,
    ) -> Result<Option<ApprovalPart>, BundleRefusal> {
        let statement = receipt.statement();
        let Some(id) = &statement.approval_id else {
            return Ok(None);
        };
        let bytes = self.bytes(APPROVAL)?;
        let malformed =
            || BundleRefusal::part(APPROVAL, "approval_malformed", "it is not the one writing of its words");
        let part: ApprovalPart = serde_json::from_slice(bytes).map_err(|_| malformed())?;
        if part.schema != APPROVAL_SCHEMA || part.to_bytes().ok().as_deref() != Some(bytes) {
            return Err(malformed());
        }
        let terms = &part.terms;
        let same = [
            (part.approval_id == *id, "another approval"),
            (terms.transaction_id == statement.transaction_id, "another transaction"),
            (terms.amount_minor == statement.amount_minor, "another amount"),
            (terms.currency == statement.currency.code(), "another currency"),
            (terms.fee_minor == statement.fee_minor.clone().unwrap_or_else(|| "0".into()), "another fee"),
            (terms.debit_account == statement.debit_account, "another account that pays"),
            (terms.credit_account == statement.credit_account, "another account that is paid"),
            (terms.kind == statement.kind, "another kind of payment"),
            (terms.agent == statement.agent, "another agent"),
            (terms.agent_key == statement.agent_key, "another key of the agent"),
            (
                statement.agent.as_ref().is_none_or(|agent| terms.maker == agent.to_string()),
                "somebody else asked for it than the agent",
            ),
            (terms.merchant == statement.merchant, "another merchant"),
            (terms.product_id == statement.product_id, "another product"),
            (terms.original_transaction_id == statement.original_transaction_id, "another original"),
            (part.policy_version == statement.policy_version, "another policy"),
        ];
        if let Some((_, what)) = same.into_iter().find(|(same, _)| !same) {
            return Err(differs(APPROVAL, what));
        }
        let hash = terms.hash().ok_or_else(malformed)?;
        let mut words = Vec::with_capacity(part.words.len());
        for (number, said) in (1..).zip(&part.words) {
            let gate = usize::try_from(said.gate).ok().and_then(|gate| terms.gates.get(gate));
            let side = gate.map(GateRule::side).ok_or_else(|| differs(APPROVAL, "a word is at no gate"))?;
            if let Some(evidence) = &said.evidence {
                self.signed(&part, said, side, hash, evidence)?;
            }
            let leaf = self.word(&part, said, side, &word(number))?;
            if leaf.checkpoint().origin != receipt.checkpoint().origin {
                return Err(differs(&word(number), "it is of another log than the receipt"));
            }
            words.push(Recorded { said, side, leaf });
        }
        completes(&part, &words, authorization.map(LeafVerdict::index), receipt.leaf_index())
            .map_err(|what| differs(APPROVAL, what))?;
        Ok(Some(part))
    }

    /// A word that its person's key signed, over these terms.
    fn signed(
        &self,
        part: &ApprovalPart,
        said: &WordPart,
        side: Side,
        hash: Sha256,
        evidence: &Evidence,
    ) -> Result<(), BundleRefusal> {
        let refused =
            |refusal: crate::kernel::refusal::Refusal| BundleRefusal::part(APPROVAL, refusal.name(), refusal.message());
        evidence.signed_by().map_err(refused)?;
        let document = ApprovalDocument::read(evidence.document.as_bytes());
        let document = document.ok_or_else(|| differs(APPROVAL, "what was signed is no word about a payment"))?;
        let verdict = verdict_of(said.answer);
        let fits = document.transaction_hash == hash
            && document.decision == SignedDecision::of(side, verdict)
            && document.approver.as_str() == said.person
            && document.approval_id == part.approval_id
            && document.nonce == part.nonce
            && document.policy_version == part.policy_version
            && document.expires == part.expires;
        if !fits {
            return Err(differs(APPROVAL, "somebody signed another word than the one that is told"));
        }
        let der = BASE64_STANDARD.decode(&evidence.certificate);
        let der = der.map_err(|_| differs(APPROVAL, "a certificate is not base64"))?;
        let at = parse_time(&said.at).ok_or_else(|| differs(APPROVAL, "a word has no time"))?;
        let facts = self.certified(APPROVAL, &der, Profile::Operator, at)?;
        match facts.operator {
            Some(operator) if operator.as_str() == said.person => Ok(()),
            Some(_) | None => Err(differs(APPROVAL, "the certificate is another person's")),
        }
    }

    /// The leaf of that word.
    fn word(&self, part: &ApprovalPart, said: &WordPart, side: Side, name: &str) -> Result<LeafVerdict, BundleRefusal> {
        let leaf = self.leaf(name)?;
        let body = leaf.body();
        let evidence = said.evidence.as_ref().map(Evidence::hash);
        let is = |path: &[&str], wanted: &str| text(body, path) == Some(wanted);
        let parameters = &body["parameters"];
        let same = [
            (is(&["act"], "decide_approval") && is(&["decision"], "permitted"), "it records no word that counted"),
            (is(&["parameters", "approval_id"], part.approval_id.as_str()), "another approval"),
            (is(&["result", "transaction_id"], part.terms.transaction_id.as_str()), "another transaction"),
            (is(&["actor", "name"], &said.person), "another person"),
            (parameters["gate"] == json!(side), "another gate"),
            (parameters["verdict"] == json!(verdict_of(said.answer)), "another word"),
            (parameters["note"] == json!(said.note), "another note"),
            (parameters["evidence_sha256"] == json!(evidence), "another signature"),
            (is(&["at"], &said.at), "another time"),
        ];
        match same.into_iter().find(|(same, _)| !same) {
            Some((_, what)) => Err(differs(name, what)),
            None => Ok(leaf),
        }
    }

    /// The owner's mandate as it was signed, the owner's certificate, and the leaf that it was entered with.
    pub(super) fn mandate(
        &self,
        statement: &TransactionStatement,
        authorization: Option<&LeafVerdict>,
    ) -> Result<Option<MandatePart>, BundleRefusal> {
        let Some(id) = &statement.mandate_id else {
            return Ok(None);
        };
        let signed = std::str::from_utf8(self.bytes(MANDATE)?).map_err(|_| differs(MANDATE, "it is not text"))?;
        let leaf = self.leaf(MANDATE_ENTERED)?;
        let entered = leaf.body();
        let is = |path: &[&str], wanted: &str| text(entered, path) == Some(wanted);
        let same = [
            (is(&["act"], "add_mandate") && is(&["decision"], "permitted"), "it enters no mandate"),
            (is(&["parameters", "text_sha256"], &Sha256::of(&[signed.as_bytes()]).hex()), "another mandate"),
        ];
        if let Some((_, what)) = same.into_iter().find(|(same, _)| !same) {
            return Err(differs(MANDATE_ENTERED, what));
        }
        let at = at_of(MANDATE_ENTERED, entered)?;
        let facts = self.certified(MANDATE_OWNER, self.bytes(MANDATE_OWNER)?, Profile::Operator, at)?;
        if !is(&["parameters", "owner_key"], &facts.key.hex()) {
            return Err(differs(MANDATE_OWNER, "another key entered the mandate"));
        }
        let refused = |refusal: mandate::MandateRefusal| BundleRefusal::part(MANDATE, refusal.name(), refusal);
        let owner = mandate::claimed_owner(signed).map_err(refused)?;
        let key = OwnerKey {
            key: TokenKey { id: facts.key, spki: facts.spki },
            issuer: facts.issuer_identifier,
            serial: facts.serial,
        };
        let verified = mandate::verify(signed, &owner, &[key], at).map_err(refused)?;
        let found = verified.mandate();
        let authorized_at = authorization.map(|leaf| at_of(AUTHORIZATION, leaf.body())).transpose()?;
        let same = [
            (found.id == *id, "another mandate than the payment's"),
            (Some(&found.agent) == statement.agent.as_ref(), "it lets another agent pay"),
            (Some(found.agent_key) == statement.agent_key, "it lets another key pay"),
            (found.account.as_str() == statement.debit_account, "it is for another account"),
            (
                authorized_at.is_some_and(|at| at >= found.not_before && at < found.expires),
                "it did not stand when the payment was authorized",
            ),
        ];
        if let Some((_, what)) = same.into_iter().find(|(same, _)| !same) {
            return Err(differs(MANDATE, what));
        }
        Ok(Some(MandatePart { id: id.clone(), owner, key: verified.key(), claims: found.claims() }))
    }
}

/// The signature of the request that a leaf says to have had, by the agent's key.
fn request_of(body: &Value, spki: &[u8]) -> Result<Option<RequestPart>, BundleRefusal> {
    let [digest, signature, created] =
        ["request_base_digest", "request_signature", "request_created"].map(|member| body.get(member));
    if digest.or(signature).or(created).is_none() {
        return Ok(None);
    }
    let invalid = |why: &str| BundleRefusal::part(AUTHORIZATION, "request_signature_invalid", why);
    let said = |member: Option<&Value>| member.and_then(Value::as_str).map(str::to_owned);
    let (Some(base_digest), Some(signature), Some(created)) = (said(digest), said(signature), said(created)) else {
        return Err(invalid("the leaf has the signature of the request in part only"));
    };
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok();
    let der = signature.and_then(|wire| from_wire(raw_public_key(spki)?.0, &wire));
    let digest = hex::decode(&base_digest).unwrap_or_default();
    if !der.is_some_and(|der| digest_is_signed(spki, &digest, &der)) {
        return Err(invalid("the agent's key has not signed the request that the leaf names"));
    }
    let created = parse_time(&created).ok_or_else(|| invalid("the request has no time"))?;
    let apart_ms = at_of(AUTHORIZATION, body)?.0.abs_diff(created.0);
    if apart_ms > REQUEST_AGE_MAX_MS {
        return Err(invalid("the request is of another time than its decision"));
    }
    Ok(Some(RequestPart { created, base_digest }))
}

fn verdict_of(answer: Answer) -> Verdict {
    match answer {
        Answer::Yes => Verdict::Approve,
        Answer::No => Verdict::Deny,
    }
}

/// Whether the call that was recorded asked for what was paid.
fn asked_for(body: &Value, statement: &TransactionStatement) -> bool {
    let parameters = &body["parameters"];
    let named = |member: &str, paid: Option<&str>| {
        parameters.get(member).is_none_or(|asked| asked.is_null() || asked.as_str() == paid)
    };
    let money = |member: &str| {
        let asked = &parameters[member];
        let currency = asked["currency"].as_str().and_then(|code| code.parse().ok())?;
        crate::kernel::types::Money::parse_positive(asked["amount"].as_str()?, currency).ok()
    };
    let amount = money("price").or_else(|| money("amount"));
    let is_reversal = text(body, &["tool"]) == Some("request_reversal");
    // A reversal without an amount is of all that is left.
    let amount_fits = match amount {
        Some(amount) => amount.minor().to_string() == statement.amount_minor && amount.currency() == statement.currency,
        None => is_reversal,
    };
    let original = statement.original_transaction_id.as_ref().map(|id| id.as_str());
    amount_fits
        && named("merchant", statement.merchant.as_ref().map(|merchant| merchant.as_str()))
        && named("product_id", statement.product_id.as_ref().map(|product| product.as_str()))
        && named("from_account", Some(&statement.debit_account))
        && named("to_account", Some(&statement.credit_account))
        && (!is_reversal || named("transaction_id", original))
}
