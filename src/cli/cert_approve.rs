//! `countersign cert approve`, `approvals` and `disapprove`: an officer's word about an agent's key.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::documents::text;
use crate::cli::officer::{self, Officer};
use crate::cli::table::{cell, table};
use crate::front::admin::AdminCall;
use crate::kernel::types::{AgentName, KeyId, RoleName, SpiffeId};
use crate::ops::failure::Failure;

#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Example:
  countersign cert approve shopper --role purchaser --days 30 --as ./carol \\
      --key 6e08c2e98556c2332769b7ac7ce443512851e4d0681e8b03b6c3a245ab81bf06
Compare the key with what `cert request` showed at the agent host: an approval is for it alone.")]
pub struct Args {
    /// The agent's name.
    name: AgentName,
    /// A role of the signed catalogue.
    #[arg(long)]
    role: RoleName,
    /// The agent's key: 64 hexadecimal digits, see `cert request` at the agent host.
    #[arg(long, value_parser = key_id)]
    key: KeyId,
    /// How long the approval stands; renewals included.
    #[arg(long, default_value_t = officer::DAYS)]
    days: u32,
    /// The officer's own state directory.
    #[arg(long = "as", value_name = "DIR")]
    officer: PathBuf,
}

#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  countersign cert disapprove shopper
  countersign cert disapprove \\
      --key 6e08c2e98556c2332769b7ac7ce443512851e4d0681e8b03b6c3a245ab81bf06
The same approval does not count again; one that an officer signs later does. What was issued stays
until it ends: `countersign revoke` ends it at once.")]
#[group(required = true, multiple = false)]
pub struct DisapproveArgs {
    /// The agent's name: whatever was approved for it.
    name: Option<AgentName>,
    /// The agent's key: what was approved over it.
    #[arg(long, value_parser = key_id)]
    key: Option<KeyId>,
}

/// Has the officer's token sign, and the party take it over.
///
/// # Errors
/// The failures of both daemons.
pub fn approve(args: Args, context: &Context) -> Result<(), Failure> {
    let Args { name, role, key, days, officer } = args;
    let (party, trust_domain) = officer::party_of(context)?;
    let agent = SpiffeId::new(&trust_domain, role, name)
        .map_err(|error| Failure::usage("config_invalid", error.to_string(), "correct pki.trust_domain"))?;
    let officer = Officer::of(&officer, context.json);
    let approval = officer.approve(party, agent, key, days)?;
    let approved = context.call(AdminCall::CertApprove { approval })?;
    context.print(&approved, |approved| {
        format!(
            "{} may be certified\n  key   {}\n  by    {}\n  until {}",
            text(approved, "agent"),
            text(approved, "key"),
            text(approved, "approved_by"),
            text(approved, "until"),
        )
    });
    Ok(())
}

/// What was approved here.
///
/// # Errors
/// The daemon's failures.
pub fn list(context: &Context) -> Result<(), Failure> {
    let list = context.call(AdminCall::CertApprovals {})?;
    context.print(&list, |list| table(list, COLUMNS, "nobody has approved anything"));
    Ok(())
}

const COLUMNS: &[(&str, &str)] = &[
    ("STATE", "state"),
    ("USED", "used"),
    ("BY", "approved_by"),
    ("FROM", "from"),
    ("UNTIL", "until"),
    ("AGENT", "agent"),
    ("KEY", "key"),
];

/// Ends what was approved.
///
/// # Errors
/// The daemon's failures.
pub fn disapprove(args: DisapproveArgs, context: &Context) -> Result<(), Failure> {
    let ended = context.call(AdminCall::CertDisapprove { name: args.name, key: args.key })?;
    context.print(&ended, |ended| {
        let items = ended["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().map(ended_text).collect::<Vec<_>>().join("\n")
    });
    Ok(())
}

fn ended_text(item: &Value) -> String {
    let state = if item["already"] == true { "was withdrawn already" } else { "is withdrawn" };
    let (agent, key) = (text(item, "agent"), text(item, "key"));
    let mut lines = vec![
        format!("the approval of {} for {agent} {state}\n  key {key}", text(item, "approved_by")),
        "  no certificate follows it any more, a renewal neither".to_owned(),
    ];
    let left = item["certificates"].as_array().map(Vec::as_slice).unwrap_or_default();
    lines.extend(left.iter().map(|one| {
        format!("  stays {} {} until {}", cell(&one["profile"]), cell(&one["serial"]), cell(&one["not_after"]))
    }));
    if !left.is_empty() {
        lines.push(format!("  next: countersign revoke {agent} --reason …, where that is to end now"));
    }
    lines.join("\n")
}

fn key_id(text: &str) -> Result<KeyId, String> {
    KeyId::from_hex(text).map_err(|error| error.to_string())
}
