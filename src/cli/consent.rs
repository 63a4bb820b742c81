//! `countersign consent`: payments that wait for the owner of the account that pays.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::Value;

use super::approvals::{COLUMNS, flatten, said, shown};
use super::context::Context;
use super::deciding::Person;
use super::table::table;
use crate::front::admin::AdminCall;
use crate::kernel::command::Verdict;
use crate::kernel::quorum::Side;
use crate::kernel::types::ApprovalId;
use crate::ops::failure::Failure;

/// See and answer what waits for an account's owner
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
The owner is a person whom the bank has enrolled, with a key in a token of their own:
  countersign init --kind operator --name olivia --state ./olivia
  countersign operator show --state ./olivia --out olivia.json
  countersign operator enrol olivia.json --role owner --owner OWN_001
Examples:
  countersign consent list --as ./olivia
  countersign consent give apr_01JDA3S5TGH0K8Y7R2Q4W6E8ZX --as ./olivia")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Args)]
struct Owner {
    /// The owner's own state directory.
    #[arg(long = "as", value_name = "DIR")]
    owner: PathBuf,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// What waits for this owner's consent, newest first.
    #[command(after_help = "Example:\n  countersign consent list --as ./olivia")]
    List {
        #[command(flatten)]
        owner: Owner,
    },
    /// One of them with all its terms.
    #[command(after_help = "Example:\n  countersign consent show apr_01JDA3S5TGH0K8Y7R2Q4W6E8ZX --as ./olivia")]
    Show {
        approval: ApprovalId,
        #[command(flatten)]
        owner: Owner,
    },
    /// Consent, signed by the owner's token. The bank's own gate is asked besides, where the rules want it.
    #[command(after_help = "Example:\n  countersign consent give apr_01JDA3S5TGH0K8Y7R2Q4W6E8ZX --as ./olivia")]
    Give {
        approval: ApprovalId,
        #[command(flatten)]
        owner: Owner,
        /// Why; kept in the audit log.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Refuse, signed by the owner's token. That ends it; the held funds are free again.
    #[command(after_help = "Example:\n  countersign consent refuse apr_01JDA3S5TGH0K8Y7R2Q4W6E8ZX --as ./olivia")]
    Refuse {
        approval: ApprovalId,
        #[command(flatten)]
        owner: Owner,
        /// Why; kept in the audit log.
        #[arg(long, default_value = "")]
        note: String,
    },
}

/// # Errors
/// The failures of the bank's and the owner's daemons.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::List { owner } => {
            let reading = person(&owner, context)?.reading(context, None)?;
            let mut answer = context.call(AdminCall::ConsentList { reading })?;
            if !context.json {
                flatten(&mut answer);
            }
            context.print(&answer, |answer| table(answer, &COLUMNS, "Nothing waits for this owner."));
        }
        Verb::Show { approval, owner } => {
            let reading = person(&owner, context)?.reading(context, Some(&approval))?;
            context.print(&context.call(AdminCall::ConsentShow { reading })?, shown);
        }
        Verb::Give { approval, owner, note } => {
            context.print(&answer(context, &owner, approval, Verdict::Approve, note)?, said);
        }
        Verb::Refuse { approval, owner, note } => {
            context.print(&answer(context, &owner, approval, Verdict::Deny, note)?, said);
        }
    }
    Ok(())
}

fn person(owner: &Owner, context: &Context) -> Result<Person, Failure> {
    Person::of(&owner.owner, context.json)
}

fn answer(
    context: &Context,
    owner: &Owner,
    approval: ApprovalId,
    verdict: Verdict,
    note: String,
) -> Result<Value, Failure> {
    person(owner, context)?.say(context, approval, Side::Owner, verdict, note)
}
