//! `countersign console …`: who may sign in at the bank's web console.

use clap::{Args as ClapArgs, Subcommand};
use serde_json::Value;

use super::context::Context;
use super::documents::text;
use super::table::{cell, table};
use crate::ca::{INVITATION_HOURS_MAX, OPERATOR_ROLES};
use crate::front::admin::{AdminCall, ConsoleCall};
use crate::kernel::types::{OperatorName, OwnerId};
use crate::ops::failure::Failure;

/// Let people into the bank's web console, where they look and decide with a passkey.
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Whoever is invited gets a link that works once; the passkey that is made with it becomes the
person's key, with an operator certificate over it, as `operator enrol` issues for tokens.
  countersign console invite erin --role approver
  countersign console invite olivia --role owner --owner OWN_001
A lost passkey: revoke its key, invite the person again, and have another administrator confirm.
  countersign operator list
  countersign revoke --key \\\n    0c1304e3ebb331edce5a170673e3658cb7bb688c928c37ea9f2718c061cf43c7 --reason key_compromise
  countersign console invite erin --role approver
  countersign console confirm 0123456789abcdef
docs/CONSOLE.md has all of it.")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Make a link for somebody; it is shown once.
    #[command(after_help = "\
Examples:
  countersign console invite erin --role approver --role auditor
  countersign console invite olivia --role owner --owner OWN_001 --hours 2")]
    Invite {
        /// What the person is called in every record from then on.
        name: OperatorName,
        /// What the person may do; may be repeated.
        #[arg(long = "role", required = true, value_parser = OPERATOR_ROLES)]
        roles: Vec<String>,
        /// With the role owner: the owner id of the accounts that are the person's.
        #[arg(long, required_if_eq("roles", "owner"))]
        owner: Option<OwnerId>,
        /// How long the link works.
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=i64::from(INVITATION_HOURS_MAX)))]
        hours: u32,
    },
    /// The links that are open.
    #[command(after_help = "Examples:\n  countersign console invitations\n  countersign console invitations --json")]
    Invitations,
    /// Say as a second administrator that somebody who had a key before may have another one.
    #[command(after_help = "Example:\n  countersign console confirm 0123456789abcdef")]
    Confirm {
        /// As `console invitations` shows it.
        id: String,
    },
    /// Make a link useless.
    #[command(after_help = "Example:\n  countersign console withdraw 0123456789abcdef")]
    Withdraw {
        /// As `console invitations` shows it.
        id: String,
    },
    /// Who is signed in, at this daemon.
    #[command(after_help = "Examples:\n  countersign console sessions\n  countersign console sessions --json")]
    Sessions,
    /// End somebody's sessions. Revoking the person's key does so, too.
    #[command(after_help = "Examples:\n  countersign console sign-out erin\n  countersign console sign-out --all")]
    SignOut {
        /// Whose.
        #[arg(required_unless_present = "all")]
        name: Option<OperatorName>,
        /// Everybody's.
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
}

/// Carries the verb out.
///
/// # Errors
/// The daemon's: `operator_not_permitted`, `operator_enrolled`, `invitation_unknown`, `maker_is_checker`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let call = match args.verb {
        Verb::Invite { name, roles, owner, hours } => ConsoleCall::Invite { name, roles, owner, hours },
        Verb::Invitations => ConsoleCall::Invitations {},
        Verb::Confirm { id } => ConsoleCall::Confirm { id },
        Verb::Withdraw { id } => ConsoleCall::Withdraw { id },
        Verb::Sessions => ConsoleCall::Sessions {},
        Verb::SignOut { name, all: _ } => ConsoleCall::SignOut { name },
    };
    let shown = shows(&call);
    let answer = context.call(AdminCall::Console(call))?;
    context.print(&answer, shown);
    Ok(())
}

fn shows(call: &ConsoleCall) -> fn(&Value) -> String {
    match call {
        ConsoleCall::First { .. } | ConsoleCall::Invite { .. } => invited,
        ConsoleCall::Invitations {} => |list| {
            let columns = [("ID", "id"), ("NAME", "name"), ("ROLES", "roles"), ("BY", "by"), ("UNTIL", "expires")];
            let second = list["items"].as_array().into_iter().flatten();
            let second = second.filter(|one| one["waits_for_a_second_person"] == true).map(|one| text(one, "name"));
            let second: Vec<&str> = second.collect();
            let waits = if second.is_empty() {
                String::new()
            } else {
                format!("\na second administrator has to confirm: {}", second.join(", "))
            };
            table(list, &columns, "no invitation is open") + &waits
        },
        ConsoleCall::Confirm { .. } => |one| format!("the invitation of {} is open", text(one, "name")),
        ConsoleCall::Withdraw { .. } => |one| format!("the invitation of {} is withdrawn", text(one, "name")),
        ConsoleCall::Sessions {} => {
            |list| table(list, &[("NAME", "person"), ("SINCE", "began"), ("IDLE_S", "idle_s")], "nobody is signed in")
        }
        ConsoleCall::SignOut { .. } => |done| format!("{} sessions ended", cell(&done["ended"])),
    }
}

/// What is said of a new invitation.
pub(super) fn invited(made: &Value) -> String {
    let second = if made["is_again"] == true {
        format!(
            "\n{} had a key here before: another administrator has to say\n  countersign console confirm {}",
            text(made, "name"),
            text(made, "id")
        )
    } else {
        String::new()
    };
    format!(
        "a link for {}, until {}; it works once and is not shown again:\n  {}{second}",
        text(made, "name"),
        text(made, "expires"),
        text(made, "link")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whoever_invites_again_is_told_who_else_has_to_want_it() {
        let mut made =
            json!({ "name": "erin", "expires": "then", "link": "https://bank/enrol#x", "id": "0a", "is_again": false });
        assert!(invited(&made).ends_with("https://bank/enrol#x"));
        made["is_again"] = json!(true);
        assert!(invited(&made).ends_with("countersign console confirm 0a"));
    }
}
