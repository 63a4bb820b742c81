//! `countersign operator …`: people with keys of their own, and enrolling them at a party.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::Value;

use crate::ca::OPERATOR_ROLES;
use crate::cli::context::Context;
use crate::cli::documents::{self, text};
use crate::front::admin::AdminCall;
use crate::kernel::types::OwnerId;
use crate::ops::failure::Failure;

/// Show a person's key, or enrol people at a party.
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Enrolment is done in person: compare the key on both screens.
  # the officer
  countersign init --kind operator --name carol --state ./carol
  countersign operator show --state ./carol --out carol.json
  # the party, within ten minutes
  countersign operator enrol carol.json --role officer
Afterwards --as ./carol lets carol's key sign: see `countersign cert endorse --help`.")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// With an operator's own state directory: the name and the key, signed by that key. Valid for ten minutes.
    #[command(after_help = "Example:\n  countersign operator show --state ./carol --out carol.json")]
    Show {
        /// Also write it to a file (JSON).
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// At the bank or the security company: issue the operator's certificate and believe what the key signs.
    #[command(after_help = "\
Examples:
  countersign operator enrol carol.json --role officer
  countersign operator enrol carol.json --role officer --role approver
  countersign operator enrol olivia.json --role owner --owner OWN_001
Compare the key with the officer's own screen. Enrolling again sets the roles anew.")]
    Enrol {
        /// What `operator show` wrote (JSON).
        request: PathBuf,
        /// What the person may do; may be repeated.
        #[arg(long = "role", required = true, value_parser = OPERATOR_ROLES)]
        roles: Vec<String>,
        /// With the role owner: the owner id of the accounts that are the person's.
        #[arg(long, required_if_eq("roles", "owner"))]
        owner: Option<OwnerId>,
    },
    /// The people enrolled at this party.
    #[command(after_help = "Examples:\n  countersign operator list\n  countersign operator list --json")]
    List,
}

/// Carries the verb out.
///
/// # Errors
/// The daemon's failures; `document_unreadable`, `document_malformed`, `document_unwritable`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Show { out } => {
            let shown = context.call(AdminCall::OperatorShow {})?;
            if let Some(out) = out {
                documents::write(&out, &format!("{shown:#}\n"))?;
            }
            context.print(&shown, |shown| {
                let request = &shown["request"];
                format!(
                    "operator {}\n  key   {}\n  token {}",
                    text(request, "name"),
                    text(request, "key"),
                    text(request, "token_serial")
                )
            });
        }
        Verb::Enrol { request, roles, owner } => {
            let request = documents::read_json(&request)?;
            let enrolled = context.call(AdminCall::OperatorEnrol { request, roles, owner })?;
            context.print(&enrolled, |enrolled| {
                let state = if enrolled["changed"] == true { "enrolled" } else { "was enrolled already:" };
                format!(
                    "{state} {} as {}\n  key    {}\n  serial {}\n  until  {}",
                    text(enrolled, "name"),
                    roles_of(enrolled),
                    text(enrolled, "key"),
                    text(enrolled, "serial"),
                    text(enrolled, "not_after"),
                )
            });
        }
        Verb::List => {
            let list = context.call(AdminCall::OperatorList {})?;
            context.print(&list, list_text);
        }
    }
    Ok(())
}

fn roles_of(value: &Value) -> String {
    let roles = value["roles"].as_array().map(Vec::as_slice).unwrap_or_default();
    roles.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

fn list_text(list: &Value) -> String {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return "nobody is enrolled".into();
    }
    let lines =
        items.iter().map(|item| format!("{:<20} {}  {}", text(item, "name"), text(item, "key"), roles_of(item)));
    lines.collect::<Vec<_>>().join("\n")
}
