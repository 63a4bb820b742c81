//! `countersign grant`: which agent may touch which account, as its owner said.

use clap::Subcommand;

use super::account::amount;
use super::context::Context;
use super::table::{cell, table, unless_changed};
use crate::front::admin::AdminCall;
use crate::kernel::command::Verb as Granted;
use crate::kernel::types::{AccountId, AgentName, Currency, OwnerId};
use crate::ops::failure::Failure;

/// Record, list and take back what an owner lets an agent do
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  countersign grant add shopper CHK_001 --owner OWN_001 --verbs read,purchase,transfer
  countersign grant list
  countersign grant revoke shopper CHK_001")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Record an owner's grant (officer or administrator). It says who entered it.
    #[command(
        after_help = "Example:\n  countersign grant add shopper CHK_001 --owner OWN_001 --verbs read,purchase,transfer --days 90"
    )]
    Add {
        agent: AgentName,
        account: AccountId,
        /// The account's owner, who gave the grant.
        #[arg(long)]
        owner: OwnerId,
        /// read, purchase, transfer, reverse
        #[arg(long, value_delimiter = ',', required = true, value_parser = verb)]
        verbs: Vec<Granted>,
        /// The owner's own ceiling for one payment; nothing lifts it.
        #[arg(long)]
        per_transaction_max: Option<String>,
        #[arg(long, default_value = "USD")]
        currency: Currency,
        #[arg(long, default_value_t = 90)]
        days: u32,
    },
    /// Show every grant in force.
    #[command(after_help = "Example:\n  countersign grant list")]
    List,
    /// Take a grant back (officer or administrator). Authorizations under it can no longer be executed.
    #[command(after_help = "Example:\n  countersign grant revoke shopper CHK_001")]
    Revoke { agent: AgentName, account: AccountId },
}

/// # Errors
/// What the daemon answers; `amount_malformed`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Add { agent, account, owner, verbs, per_transaction_max, currency, days } => {
            let per_transaction_max = per_transaction_max.map(|text| amount(&text, currency)).transpose()?;
            let call = AdminCall::GrantAdd { agent, account, owner, verbs, per_transaction_max, days };
            let answer = context.call(call)?;
            context.print(&answer, |answer| {
                format!(
                    "{} may use {} until {}; entered by {} for owner {}{}",
                    cell(&answer["agent"]),
                    cell(&answer["account_id"]),
                    cell(&answer["expires"]),
                    cell(&answer["entered_by"]),
                    cell(&answer["owner"]),
                    unless_changed(answer)
                )
            });
        }
        Verb::List => {
            let answer = context.call(AdminCall::GrantList {})?;
            let columns = [
                ("AGENT", "agent"),
                ("ACCOUNT", "account_id"),
                ("OWNER", "owner"),
                ("VERBS", "verbs"),
                ("CEILING", "per_transaction_max"),
                ("EXPIRES", "expires"),
                ("ENTERED BY", "entered_by"),
            ];
            context.print(&answer, |answer| {
                table(answer, &columns, "No grants: an agent sees no account until `countersign grant add`.")
            });
        }
        Verb::Revoke { agent, account } => {
            let answer = context.call(AdminCall::GrantRevoke { agent, account })?;
            context.print(&answer, |answer| {
                let (agent, account) = (cell(&answer["agent"]), cell(&answer["account_id"]));
                if answer["changed"] == false {
                    return format!("{agent} had no grant for {account}, nothing changed");
                }
                format!("{agent} may no longer use {account}")
            });
        }
    }
    Ok(())
}

fn verb(text: &str) -> Result<Granted, String> {
    match text {
        "read" => Ok(Granted::Read),
        "purchase" => Ok(Granted::Purchase),
        "transfer" => Ok(Granted::Transfer),
        "reverse" => Ok(Granted::Reverse),
        other => Err(format!("\"{other}\" is none of read, purchase, transfer, reverse")),
    }
}
