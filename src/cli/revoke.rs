//! `countersign revoke`: out of service, at once, for ever.

use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use crate::ca::{Named, RevokeMode, RevokeRequest};
use crate::cli::context::Context;
use crate::cli::documents::{self, text};
use crate::front::admin::AdminCall;
use crate::kernel::types::Sha256;
use crate::ops::failure::Failure;

/// Serial numbers of one request: a commit and a receipt each.
const SERIALS_IN_A_REQUEST: usize = 4_096;

/// Revoke agents, certificates, keys or an issuing CA. There is no way back.
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  countersign revoke shopper --reason key-compromise
  countersign revoke spiffe://countersign.example/agent/purchaser/shopper --dry-run \\
      --reason \"left the project\"
  # a certificate by its serial number, as `cert list` and openssl write it
  countersign revoke 43f82c354dcb8210bd1c05ba23f90e39 --reason superseded
  # a key, also one that no certificate is known of: it is blocked for ever
  countersign revoke --reason key-compromise \\
      --key 6e08c2e98556c2332769b7ac7ce443512851e4d0681e8b03b6c3a245ab81bf06
  countersign revoke --issuer 51cdcb9bbdcdc4454225243dc96ac38814236b85 --dry-run \\
      --reason ca-compromise
  countersign revoke --file serials.txt --reason superseded
  countersign revoke --all --reason key-compromise
The reasons key-compromise, ca-compromise, aa-compromise, affiliation-changed, superseded,
cessation-of-operation and privilege-withdrawn, also written as in RFC 5280 (keyCompromise), appear
as reason codes in the revocation list; any other text is a note.")]
pub struct Args {
    /// An agent's name or SPIFFE ID, a serial number, or a key that is known here (64 hexadecimal digits).
    #[arg(required_unless_present_any = ["key", "issuer", "file", "all"])]
    target: Option<String>,
    /// A key, known here or not: SHA-256 of its SubjectPublicKeyInfo, 64 hexadecimal digits.
    #[arg(long, value_name = "HEX", conflicts_with = "target", value_parser = Sha256::from_hex)]
    key: Option<Sha256>,
    /// Everything under an issuing CA, ours or another party's: its subject key identifier, 40 hexadecimal digits.
    #[arg(long, value_name = "SKI", conflicts_with_all = ["target", "key"])]
    issuer: Option<String>,
    /// Certificates by serial number, one a line; what follows a # is a comment. A repeat completes what was cut short.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["target", "key", "issuer"])]
    file: Option<PathBuf>,
    /// With --file: the issuing CA that gave the serial numbers [default: whichever of ours did].
    #[arg(long, value_name = "SKI", requires = "file")]
    issued_by: Option<String>,
    /// Every agent of this party.
    #[arg(long, conflicts_with_all = ["target", "key", "issuer", "file"])]
    all: bool,
    /// Why: kept in the audit log and on the receipt.
    #[arg(long)]
    reason: String,
    /// Only show what would be revoked, all of it.
    #[arg(long)]
    dry_run: bool,
}

/// Carries the verb out.
///
/// # Errors
/// The daemon's failures: `unknown_agent`, `unknown_issuer`, `target_ambiguous`, `operator_not_permitted`, …
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let portions = named(&args)?;
    let count = portions.len();
    let mut whole: Option<Value> = None;
    for (index, named) in portions.into_iter().enumerate() {
        let mode = match (args.dry_run, index + 1 == count) {
            (true, _) => RevokeMode::DryRun,
            (false, true) => RevokeMode::Effective,
            (false, false) => RevokeMode::Part,
        };
        let mut after = None;
        loop {
            let request = RevokeRequest { named: named.clone(), reason: args.reason.clone(), mode, after };
            let answer = context.call(AdminCall::Revoke(request))?;
            after = answer["next"].as_str().filter(|_| args.dry_run).map(str::to_owned);
            let again = after.is_some();
            match &mut whole {
                None => whole = Some(answer),
                Some(whole) => join(whole, answer, again),
            }
            if !again {
                break;
            }
        }
    }
    context.print(&whole.unwrap_or_else(|| json!({})), answer_text);
    Ok(())
}

/// What is named, in portions that one request takes.
fn named(args: &Args) -> Result<Vec<Named>, Failure> {
    if let Some(file) = &args.file {
        let serials = serials(file)?;
        let portions = serials.chunks(SERIALS_IN_A_REQUEST);
        return Ok(portions
            .map(|portion| Named::Serials { issuer: args.issued_by.clone(), serials: portion.to_vec() })
            .collect());
    }
    let one = match (&args.target, args.key, &args.issuer) {
        (Some(text), _, _) => Named::Text(text.clone()),
        (None, Some(key), _) => Named::Key(key),
        (None, None, Some(issuer)) => Named::Issuer(issuer.clone()),
        (None, None, None) => Named::Everyone,
    };
    Ok(vec![one])
}

fn serials(file: &Path) -> Result<Vec<String>, Failure> {
    let text = documents::read(file)?;
    let words = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let serials: Vec<String> = words.filter(|word| !word.is_empty()).map(str::to_owned).collect();
    if serials.is_empty() {
        return Err(Failure::usage(
            "file_empty",
            format!("{} names no serial number", file.display()),
            "write one serial number a line",
        ));
    }
    Ok(serials)
}

/// Puts the answer of the next page, or of the next portion, to the ones before.
fn join(whole: &mut Value, mut next: Value, same_portion: bool) {
    let is_page = next["dry_run"] == true && (same_portion || whole["next"].is_string());
    if let (Some(all), Some(more)) = (whole["certificates"].as_array_mut(), next["certificates"].as_array_mut()) {
        all.append(more);
    }
    let add = |whole: &mut Value, next: &Value| {
        let sum = whole.as_u64().unwrap_or_default() + next.as_u64().unwrap_or_default();
        *whole = json!(sum);
    };
    if !is_page {
        for name in ["certificates", "agents"] {
            add(&mut whole["affected"][name], &next["affected"][name]);
        }
        for name in ["certificates_revoked", "authorizations_voided", "connections_cut"] {
            if next[name].is_u64() {
                add(&mut whole[name], &next[name]);
            }
        }
        if next["already"].is_boolean() {
            whole["already"] = json!(whole["already"] == true && next["already"] == true);
        }
    }
    for name in ["next", "crl", "pending", "effective", "effective_at", "effective_ms", "receipt"] {
        if let Some(value) = next.get_mut(name) {
            whole[name] = value.take();
        }
    }
}

/// What `revoke`, `freeze` and `unfreeze` did, in words.
pub(super) fn answer_text(answer: &Value) -> String {
    let word = match text(answer, "would") {
        "freeze" => "frozen",
        "unfreeze" => "unfrozen",
        _ => "revoked",
    };
    let mut out = match (&answer["dry_run"], &answer["already"], &answer["lifted"]) {
        (Value::Bool(true), _, Value::Null) => format!("would be {word}:\n"),
        (_, _, Value::Bool(false)) => "recorded: another person must ask for it too\n".to_owned(),
        (_, Value::Bool(true), _) => format!("was {word} already\n"),
        _ => format!("{word} at {}\n", text(answer, "recorded_at")),
    };
    for certificate in answer["certificates"].as_array().map(Vec::as_slice).unwrap_or_default() {
        out.push_str(&format!(
            "  {:<8} {} {}\n",
            text(certificate, "profile"),
            text(certificate, "serial"),
            text(certificate, "subject")
        ));
    }
    let affected = &answer["affected"];
    out.push_str(&format!("  certificates: {}, agents: {}\n", affected["certificates"], affected["agents"]));
    if let Some(reason) = answer["reason"].as_str() {
        let code = answer["reason_code"].as_u64().map_or_else(|| "a note".to_owned(), |code| format!("code {code}"));
        out.push_str(&format!("  reason: {reason} ({code})\n"));
    }
    if let Some(voided) = answer["authorizations_voided"].as_u64() {
        out.push_str(&format!("  authorizations voided: {voided}\n"));
    }
    if let Some(cut) = answer["connections_cut"].as_u64() {
        out.push_str(&format!("  connections cut: {cut}\n"));
    }
    for (name, what) in [("recorded_ms", "recorded"), ("effective_ms", "effective")] {
        if let Some(ms) = answer[name].as_str() {
            out.push_str(&format!("  {what} after {ms} ms\n"));
        }
    }
    if let Some(file) = answer["receipt"]["file"].as_str() {
        out.push_str(&format!("  receipt: {file}\n"));
    }
    for (what, failure) in answer["pending"].as_object().into_iter().flatten() {
        out.push_str(&format!("  {what} is not there yet: {}\n", text(failure, "message")));
    }
    out
}
