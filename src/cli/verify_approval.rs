//! `countersign verify approval`: what people signed about a payment, checked offline against the bank's CAs.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::documents;
use crate::cli::table::{cell, in_decimals};
use crate::cli::verify::{oid_base_of_state, read_root};
use crate::kernel::approval::{ApprovalDocument, Evidence, PaymentTerms, SignedDecision};
use crate::kernel::credential::chain::{PartyAnchors, verify_leaf};
use crate::kernel::credential::oid::OidBase;
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::credential::profile::Profile;
use crate::kernel::quorum::{Answer, GateRule, Side};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{Sha256, UnixMillis};
use crate::kernel::webauthn::RelyingParty;
use crate::ops::failure::Failure;

/// Which file, under which CAs.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The approval, as `approvals show --json` printed it
    file: PathBuf,
    /// The bank's root certificate, PEM [default: certs/root.pem of the state directory]
    #[arg(long, value_name = "PEM")]
    root: Option<PathBuf>,
    /// The bank's issuing CAs, PEM, one or more a file; repeatable [default: certs/issuing.pem of the state directory]
    #[arg(long, value_name = "PEM")]
    issuing: Vec<PathBuf>,
    /// Base of the private OIDs [default: pki.oid_base of the state directory, else 1.3.6.1.4.1.32473]
    #[arg(long, value_name = "OID")]
    oid_base: Option<String>,
    /// Where the bank's console is: words of passkeys must have been made there [default: it is only shown]
    #[arg(long, value_name = "URL")]
    origin: Option<String>,
}

/// Verifies every signed word of an approval: the structure, its terms, the signature, the certificate and its issuer.
///
/// # Errors
/// `approval_mismatch`, `approval_signature_invalid`, `operator_certificate_invalid`, `approval_unsigned` when no word is
/// signed; `document_malformed`, `file_unreadable`, `root_unreadable`, `issuing_unreadable`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Args { file, root, issuing, oid_base, origin } = args;
    let console = match &origin {
        Some(origin) => Some(RelyingParty::of(origin).ok_or_else(|| {
            let next = "write --origin as https://bank.example:8445";
            Failure::usage("origin_invalid", format!("{origin:?} is no origin of a console"), next)
        })?),
        None => None,
    };
    let view = documents::read_json(&file)?;
    let certs = context.state.certs();
    let anchors = PartyAnchors {
        root: read_root(&root.unwrap_or_else(|| certs.join("root.pem")))?,
        issuing: read_issuing(if issuing.is_empty() { vec![certs.join("issuing.pem")] } else { issuing })?,
    };
    let base = oid_base.unwrap_or_else(|| oid_base_of_state(context));
    let base: OidBase = base
        .parse()
        .map_err(|_| Failure::usage("config_invalid", format!("{base} is no OID"), "correct --oid-base"))?;
    let Verified { first, terms, words } =
        verified(&view, &anchors, &base, console.as_ref()).map_err(|failure| in_file(&file, failure))?;
    let shown = json!({
        "valid": true,
        "signed": {
            "approval_id": first.approval_id, "transaction_hash": first.transaction_hash, "terms": terms,
            "policy_version": first.policy_version, "expires": first.expires, "nonce": first.nonce, "words": words,
        },
        "stated": { "status": view["status"], "words": stated(&view) },
    });
    context.print(&shown, |shown| told_apart(&file, shown));
    Ok(())
}

/// What keys have signed, and beneath it what only the file says.
fn told_apart(file: &Path, shown: &Value) -> String {
    let (signed, stated) = (&shown["signed"], &shown["stated"]);
    let terms = &signed["terms"];
    let mut lines = vec![
        format!("{} is valid. Signed, and verified here:", file.display()),
        format!("  approval   {}, under policy {}", cell(&signed["approval_id"]), cell(&signed["policy_version"])),
        format!("  payment    {} {}", cell(&terms["kind"]), cell(&terms["transaction_id"])),
        format!(
            "  amount     {}, from {} to {}",
            in_decimals(&terms["amount_minor"], &terms["currency"]),
            cell(&terms["debit_account"]),
            cell(&terms["credit_account"])
        ),
    ];
    lines.extend(signed["words"].as_array().into_iter().flatten().map(|word| {
        let with = match word["origin"].as_str() {
            Some(origin) => format!(", with a passkey at {origin}"),
            None => String::new(),
        };
        format!(
            "  {:<10} {} (certificate {}){with}",
            cell(&word["person"]),
            cell(&word["decision"]),
            cell(&word["serial"])
        )
    }));
    lines.push("Only stated by whoever made the file, signed by nobody:".to_owned());
    lines.push(format!("  status     {}", cell(&stated["status"])));
    lines.extend(stated["words"].as_array().into_iter().flatten().map(|word| {
        let (person, role, at) = (cell(&word["person"]), cell(&word["role"]), cell(&word["at"]));
        match word["answer"].as_str() {
            Some(answer) => format!("  {person:<10} said {answer} as {role} at {at}, without a signature"),
            None => format!("  {person:<10} spoke as {role} at {at}"),
        }
    }));
    lines.push("It proves who signed what; not that nobody else was asked, nor when.".to_owned());
    lines.join("\n")
}

/// Of each word what no signature covers: of one without evidence that is all of it.
fn stated(view: &Value) -> Vec<Value> {
    let words = view["words"].as_array().into_iter().flatten();
    let beside = |word: &Value| {
        let mut said = json!({
            "person": word["person"], "role": word["role"], "at": word["at"], "note": word["note"],
            "is_signed": !word["evidence"].is_null(),
        });
        if word["evidence"].is_null() {
            said["answer"] = word["answer"].clone();
        }
        said
    };
    words.map(beside).collect()
}

/// The certificates of these files: a bank that has changed its issuing CA has several.
fn read_issuing(files: Vec<PathBuf>) -> Result<Vec<Vec<u8>>, Failure> {
    let mut issuing = vec![];
    for file in files {
        let text = documents::read(&file)?;
        let found = pem::decode_all(Kind::Certificate, &text).map_err(|error| {
            Failure::usage(
                "issuing_unreadable",
                format!("{} holds no PEM certificates: {error}", file.display()),
                "name the bank's issuing CAs with --issuing",
            )
        })?;
        issuing.extend(found);
    }
    Ok(issuing)
}

fn in_file(file: &Path, failure: Failure) -> Failure {
    Failure { message: format!("{}: {}", file.display(), failure.message), ..failure }
}

/// What signatures prove of an approval.
struct Verified {
    /// What all of them say alike: what each is about is the same.
    first: ApprovalDocument,
    terms: PaymentTerms,
    words: Vec<Value>,
}

fn verified(
    view: &Value,
    anchors: &PartyAnchors,
    base: &OidBase,
    console: Option<&RelyingParty>,
) -> Result<Verified, Failure> {
    let malformed = |what: &str| {
        let next = "take what `countersign approvals show --json` prints, as it is";
        Failure::usage("document_malformed", format!("it has no readable {what}"), next)
    };
    let terms: PaymentTerms =
        serde_json::from_value(view["signed"]["terms"].clone()).map_err(|_| malformed("signed.terms"))?;
    let hash = terms.hash().ok_or_else(|| malformed("signed.terms"))?;
    let (mut words, mut first) = (vec![], None);
    for word in view["words"].as_array().ok_or_else(|| malformed("words"))? {
        if word["evidence"].is_null() {
            continue;
        }
        let evidence: Evidence = serde_json::from_value(word["evidence"].clone()).map_err(|_| malformed("evidence"))?;
        let signed_by = evidence.signed_by().map_err(told)?;
        let made_at = evidence.passkey.as_ref().map(|assertion| &assertion.origin);
        // What the browser signed says where: whether that is the bank's console only its reader knows.
        if let (Some(wanted), Some(made_at)) = (console, made_at)
            && wanted != made_at
        {
            return Err(told(Refusal::ApprovalMismatch));
        }
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
            "person": document.approver, "decision": document.decision, "key": signed_by.key, "serial": signed_by.serial, "certificate_sha256": Sha256::of(&[&der]),
            "evidence_sha256": evidence.hash(), "origin": made_at,
        }));
        first.get_or_insert(document);
    }
    let first = first.ok_or_else(|| told(Refusal::ApprovalUnsigned))?;
    Ok(Verified { first, terms, words })
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
