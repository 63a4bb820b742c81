//! `countersign verify approval`: what people signed about a payment, checked offline against the bank's CAs.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::documents;
use crate::cli::table::cell;
use crate::cli::verify::{oid_base_of_state, read_root};
use crate::kernel::approval::{ApprovalDocument, Evidence, PaymentTerms, SignedDecision};
use crate::kernel::credential::chain::{PartyAnchors, verify_leaf};
use crate::kernel::credential::oid::OidBase;
use crate::kernel::credential::profile::Profile;
use crate::kernel::quorum::{Answer, GateRule, Side};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{Sha256, UnixMillis};
use crate::ops::failure::Failure;

/// Which file, under which CAs.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The approval, as `approvals show --json` printed it
    file: PathBuf,
    /// The bank's root certificate, PEM [default: certs/root.pem of the state directory]
    #[arg(long, value_name = "PEM")]
    root: Option<PathBuf>,
    /// The bank's issuing CA, PEM [default: certs/issuing.pem of the state directory]
    #[arg(long, value_name = "PEM")]
    issuing: Option<PathBuf>,
    /// Base of the private OIDs [default: pki.oid_base of the state directory, else 1.3.6.1.4.1.32473]
    #[arg(long, value_name = "OID")]
    oid_base: Option<String>,
}

/// Verifies every signed word of an approval: the structure, its terms, the signature, the certificate and its issuer.
///
/// # Errors
/// `approval_mismatch`, `approval_signature_invalid`, `operator_certificate_invalid`, `approval_unsigned` when no word is
/// signed; `document_malformed`, `file_unreadable`, `root_unreadable`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Args { file, root, issuing, oid_base } = args;
    let view = documents::read_json(&file)?;
    let certs = context.state.certs();
    let anchors = PartyAnchors {
        root: read_root(&root.unwrap_or_else(|| certs.join("root.pem")))?,
        issuing: vec![read_root(&issuing.unwrap_or_else(|| certs.join("issuing.pem")))?],
    };
    let base = oid_base.unwrap_or_else(|| oid_base_of_state(context));
    let base: OidBase = base
        .parse()
        .map_err(|_| Failure::usage("config_invalid", format!("{base} is no OID"), "correct --oid-base"))?;
    let words = verified(&view, &anchors, &base).map_err(|failure| in_file(&file, failure))?;
    let shown = json!({
        "valid": true, "approval_id": view["approval_id"], "status": view["status"],
        "transaction_hash": view["signed"]["transaction_hash"], "terms": view["signed"]["terms"], "words": words,
    });
    context.print(&shown, |shown| {
        let lines = shown["words"].as_array().into_iter().flatten().map(|word| {
            format!(
                "  {} {} at {} (certificate {})",
                cell(&word["person"]),
                cell(&word["decision"]),
                cell(&word["at"]),
                cell(&word["serial"])
            )
        });
        let lines = lines.collect::<Vec<_>>().join("\n");
        format!(
            "{} is valid: signed about {} {}\n{lines}\nIt proves who signed what; not that nobody else was asked.",
            file.display(),
            cell(&shown["terms"]["kind"]),
            cell(&shown["terms"]["transaction_id"]),
        )
    });
    Ok(())
}

fn in_file(file: &Path, failure: Failure) -> Failure {
    Failure { message: format!("{}: {}", file.display(), failure.message), ..failure }
}

fn verified(view: &Value, anchors: &PartyAnchors, base: &OidBase) -> Result<Vec<Value>, Failure> {
    let malformed = |what: &str| {
        let next = "take what `countersign approvals show --json` prints, as it is";
        Failure::usage("document_malformed", format!("it has no readable {what}"), next)
    };
    let terms: PaymentTerms =
        serde_json::from_value(view["signed"]["terms"].clone()).map_err(|_| malformed("signed.terms"))?;
    let hash = terms.hash().ok_or_else(|| malformed("signed.terms"))?;
    let mut words = vec![];
    for word in view["words"].as_array().ok_or_else(|| malformed("words"))? {
        if word["evidence"].is_null() {
            continue;
        }
        let evidence: Evidence = serde_json::from_value(word["evidence"].clone()).map_err(|_| malformed("evidence"))?;
        let signed_by = evidence.signed_by().map_err(told)?;
        let document =
            ApprovalDocument::read(evidence.document.as_bytes()).ok_or_else(|| told(Refusal::ApprovalMismatch))?;
        let answer: Answer = serde_json::from_value(word["answer"].clone()).map_err(|_| malformed("answer"))?;
        let gate = word["gate"].as_u64().and_then(|gate| terms.gates.get(usize::try_from(gate).ok()?));
        let side = gate.map(GateRule::side).ok_or_else(|| malformed("gate"))?;
        let at = word["at"].as_str().and_then(instant).ok_or_else(|| malformed("at"))?;
        let fits = document.transaction_hash == hash
            && document.decision == decision(side, answer)
            && word["person"] == json!(document.approver)
            && view["approval_id"] == json!(document.approval_id)
            && view["signed"]["nonce"] == json!(document.nonce)
            && view["signed"]["policy_version"] == json!(document.policy_version)
            && view["expires"] == json!(document.expires);
        if !fits {
            return Err(told(Refusal::ApprovalMismatch));
        }
        let der = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, &evidence.certificate);
        let der = der.map_err(|_| malformed("certificate"))?;
        let leaf = verify_leaf(&der, Profile::Operator, anchors, base, at).map_err(|rule| {
            Failure::refused(
                "operator_certificate_invalid",
                format!("the certificate of {} is not acceptable: {rule}", document.approver),
                "check that --root and --issuing are the bank's own of that time",
            )
        })?;
        if leaf.facts.operator.as_ref() != Some(&document.approver) {
            return Err(told(Refusal::ApprovalMismatch));
        }
        words.push(json!({
            "person": document.approver, "role": word["role"], "decision": document.decision, "at": word["at"],
            "key": signed_by.key, "serial": signed_by.serial, "certificate_sha256": Sha256::of(&[&der]),
            "evidence_sha256": evidence.hash(),
        }));
    }
    if words.is_empty() {
        return Err(told(Refusal::ApprovalUnsigned));
    }
    Ok(words)
}

fn instant(text: &str) -> Option<UnixMillis> {
    let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok().map(UnixMillis)
}

fn decision(side: Side, answer: Answer) -> SignedDecision {
    match (side, answer) {
        (Side::Bank, Answer::Yes) => SignedDecision::Approve,
        (Side::Bank, Answer::No) => SignedDecision::Deny,
        (Side::Owner, Answer::Yes) => SignedDecision::Consent,
        (Side::Owner, Answer::No) => SignedDecision::Refuse,
    }
}

fn told(refusal: Refusal) -> Failure {
    Failure::refused(refusal.name(), refusal.message(), "do not rely on it; ask the bank for the approval again")
}
