//! `countersign operator …`: people with keys of their own, and enrolling them at a party.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::Value;

use crate::ca::OPERATOR_ROLES;
use crate::cli::context::Context;
use crate::cli::documents::{self, text};
use crate::front::admin::AdminCall;
use crate::kernel::types::{OperatorName, OwnerId};
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
    /// Write an enrolled person's certificate as PEM: what a word or a mandate of theirs is verified with elsewhere.
    #[command(after_help = "\
Examples:
  countersign operator cert olivia --out olivia.pem
  countersign operator cert olivia > olivia.pem
For an owner's mandate: countersign mandate verify shopper.mandate --owner-cert olivia.pem")]
    Cert {
        /// As `operator list` shows it.
        name: OperatorName,
        /// Write it to this file instead of printing it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Carries the verb out.
///
/// # Errors
/// The daemon's failures; `operator_unknown`, `document_unreadable`, `document_malformed`, `document_unwritable`.
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
        Verb::Cert { name, out } => {
            let list = context.call(AdminCall::OperatorList {})?;
            let person = named(&list, &name)?;
            if let Some(out) = &out {
                documents::write(out, text(&person, "certificate"))?;
            }
            context.print(&person, |person| match &out {
                Some(out) => format!("the certificate of {name} is in {}", out.display()),
                None => text(person, "certificate").to_owned(),
            });
        }
    }
    Ok(())
}

/// Who has this name among the enrolled.
///
/// # Errors
/// `operator_unknown`, with those there are.
fn named(list: &Value, name: &OperatorName) -> Result<Value, Failure> {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().find(|item| item["name"] == name.as_str()).cloned().ok_or_else(|| {
        let names: Vec<&str> = items.iter().map(|item| text(item, "name")).collect();
        let there_are = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
        let message = format!("nobody is enrolled as {name}; there are: {there_are}");
        Failure::refused("operator_unknown", message, "see `countersign operator list`")
    })
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
    let line = |item: &Value| {
        let owner = item["owner"].as_str().map(|owner| format!(" (customer {owner})")).unwrap_or_default();
        format!("{:<20} {}  {}{owner}", text(item, "name"), text(item, "key"), roles_of(item))
    };
    items.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn people_are_listed_with_the_customer_they_are_and_found_by_name() {
        let list = json!({ "items": [
            { "name": "dora", "key": "aa", "roles": ["officer", "approver"], "owner": null },
            { "name": "olivia", "key": "bb", "roles": ["owner"], "owner": "OWN_001", "certificate": "PEM" },
        ] });
        let lines = list_text(&list);
        assert!(
            lines.ends_with("bb  owner (customer OWN_001)") && lines.contains("aa  officer, approver\n"),
            "{lines}"
        );
        assert_eq!(named(&list, &"olivia".parse().unwrap()).unwrap()["certificate"], "PEM");
        let failure = named(&list, &"olga".parse().unwrap()).unwrap_err();
        assert_eq!(failure.name, "operator_unknown");
        assert!(failure.message.ends_with("there are: dora, olivia"), "{failure}");
    }
}
