//! `countersign revoke`: out of service, at once, for ever.

use clap::Args as ClapArgs;
use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::documents::text;
use crate::front::admin::AdminCall;
use crate::ops::failure::Failure;

/// Revoke an agent, a certificate or a key. There is no way back.
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  countersign revoke shopper --reason key-compromise
  countersign revoke spiffe://countersign.example/agent/purchaser/shopper --reason \"left the project\" --dry-run
  countersign revoke 4f0c…1b --reason superseded            (a certificate's serial number)
The reasons key-compromise, affiliation-changed, superseded, cessation-of-operation and privilege-withdrawn appear
as reason codes in the revocation list.")]
pub struct Args {
    /// An agent's name or SPIFFE ID, a serial number, or a key (64 hexadecimal digits).
    target: String,
    /// Why: kept in the audit log and on the receipt.
    #[arg(long)]
    reason: String,
    /// Only show what would be revoked.
    #[arg(long)]
    dry_run: bool,
}

/// Carries the verb out.
///
/// # Errors
/// The daemon's failures: `unknown_agent`, `target_ambiguous`, `operator_not_permitted`, …
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Args { target, reason, dry_run } = args;
    let answer = context.call(AdminCall::Revoke { target, reason, dry_run })?;
    context.print(&answer, answer_text);
    Ok(())
}

fn answer_text(answer: &Value) -> String {
    let mut out = match (&answer["dry_run"], &answer["already"]) {
        (Value::Bool(true), _) => "would be revoked:\n".to_owned(),
        (_, Value::Bool(true)) => "was revoked already\n".to_owned(),
        _ => format!("revoked at {}\n", text(answer, "recorded_at")),
    };
    for certificate in answer["certificates"].as_array().map(Vec::as_slice).unwrap_or_default() {
        out.push_str(&format!(
            "  {:<8} {} {}\n",
            text(certificate, "profile"),
            text(certificate, "serial"),
            text(certificate, "subject")
        ));
    }
    if let Some(voided) = answer["authorizations_voided"].as_u64() {
        out.push_str(&format!("  authorizations voided: {voided}\n"));
    }
    for (name, what) in [("connections_cut", "connections cut"), ("effective_ms", "effective after ms")] {
        if let Some(number) = answer[name].as_u64() {
            out.push_str(&format!("  {what}: {number}\n"));
        }
    }
    if let Some(file) = answer["receipt"]["file"].as_str() {
        out.push_str(&format!("  receipt: {file}\n"));
    }
    for (what, failure) in answer["pending"].as_object().into_iter().flatten() {
        out.push_str(&format!("  the {what} is not there yet: {}\n", text(failure, "message")));
    }
    out
}
