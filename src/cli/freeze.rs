//! `countersign freeze` and `countersign unfreeze`: refused for a while.

use clap::Args as ClapArgs;
use serde_json::Value;

use crate::ca::RevokeMode;
use crate::cli::context::Context;
use crate::cli::documents::text;
use crate::cli::revoke::answer_text;
use crate::front::admin::AdminCall;
use crate::ops::failure::Failure;

/// Refuse an agent, or all, until two people lift it; or show who is frozen.
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  countersign freeze shopper --reason \"odd payments\"
  countersign freeze --all --reason \"an incident\" --dry-run
  countersign freeze --list
One person freezes. Open authorizations stay; they expire as ever. Nothing about it is published.")]
pub struct Args {
    /// An agent's name or SPIFFE ID.
    #[arg(required_unless_present_any = ["all", "list"])]
    agent: Option<String>,
    /// Every agent, those included that come later.
    #[arg(long, conflicts_with = "agent")]
    all: bool,
    /// Show who is frozen.
    #[arg(long, conflicts_with_all = ["agent", "all", "reason", "dry_run"])]
    list: bool,
    /// Why: kept in the audit log and on the receipt.
    #[arg(long, required_unless_present = "list")]
    reason: Option<String>,
    /// Only show who would be frozen.
    #[arg(long)]
    dry_run: bool,
}

/// Ask for a freeze to be lifted; with the second person's word it is.
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples, run by two people under their own user ids:
  countersign unfreeze shopper --note \"explained\"
  countersign unfreeze shopper --note \"seen\"
The configuration names each of them in an [[operator]] section. In a demo --operator tells them
apart: --operator bank-officer, then --operator bank-admin.")]
pub struct UnfreezeArgs {
    /// An agent's name or SPIFFE ID.
    #[arg(required_unless_present = "all")]
    agent: Option<String>,
    /// The freeze of every agent; agents that were frozen by name stay so.
    #[arg(long, conflicts_with = "agent")]
    all: bool,
    /// Why: kept in the audit log.
    #[arg(long)]
    note: String,
    /// Only show who would be unfrozen.
    #[arg(long)]
    dry_run: bool,
}

/// Carries the verb out.
///
/// # Errors
/// The daemon's failures: `unknown_agent`, `target_ambiguous`, `operator_not_permitted`, …
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    if args.list {
        let list = context.call(AdminCall::FreezeList {})?;
        context.print(&list, list_text);
        return Ok(());
    }
    let reason = args.reason.unwrap_or_default();
    let answer = context.call(AdminCall::Freeze { agent: args.agent, reason, mode: mode(args.dry_run) })?;
    context.print(&answer, answer_text);
    Ok(())
}

/// Carries the verb out.
///
/// # Errors
/// The daemon's failures: `not_frozen`, `maker_is_checker`, …
pub fn unfreeze(args: UnfreezeArgs, context: &Context) -> Result<(), Failure> {
    let (agent, note, mode) = (args.agent, args.note, mode(args.dry_run));
    let answer = context.call(AdminCall::Unfreeze { agent, note, mode })?;
    context.print(&answer, answer_text);
    Ok(())
}

fn mode(is_dry_run: bool) -> RevokeMode {
    if is_dry_run { RevokeMode::DryRun } else { RevokeMode::Effective }
}

fn list_text(list: &Value) -> String {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return "nobody is frozen\n".to_owned();
    }
    let line = |freeze: &Value| {
        let whom = freeze["whom"]["agent"].as_str().unwrap_or("every agent");
        let asked = freeze["thaw_asked_by"].as_str().map(|by| format!("; {by} asks to lift it")).unwrap_or_default();
        let by = freeze["by"].as_str().map(|by| format!(" by {by}")).unwrap_or_default();
        format!("{whom}\n  since {}{by}: {}{asked}\n", text(freeze, "since"), text(freeze, "reason"))
    };
    items.iter().map(line).collect()
}
