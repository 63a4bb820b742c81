//! `countersign host …`: the agent host's identity, and enrolling it at the other parties.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use crate::cli::context::Context;
use crate::cli::documents::{self, text};
use crate::cli::table::table;
use crate::front::admin::AdminCall;
use crate::ops::failure::Failure;

/// Show this agent host's identity; enrol, list and remove agent hosts.
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Enrolment is done in person: compare the key on both screens.
  # agent host
  countersign host show --out host.json
  # bank, security company
  countersign host enrol host.json")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// At the agent host: its identity key and token.
    #[command(after_help = "Example:\n  countersign host show --out host.json")]
    Show {
        /// Also write it to a file (JSON).
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// At the bank or the security company: believe this host's custody statements from now on.
    #[command(after_help = "\
Example:
  countersign host enrol host.json
Compare the key that it prints with what `countersign host show` prints at the host.")]
    Enrol {
        /// What `host show` wrote (JSON).
        host: PathBuf,
    },
    /// The agent hosts enrolled at this party.
    #[command(after_help = "Examples:\n  countersign host list\n  countersign host list --json")]
    List,
    /// At the bank or the security company: believe this host's custody statements no more.
    #[command(after_help = "\
Example:
  countersign host remove agent-host
Its agents get no certificate any more, a renewal neither. What was issued stays until it ends:
`countersign revoke` ends it at once. Enrolling the host again takes it back.")]
    Remove {
        /// The host's name, or its key, as in `host list`.
        host: String,
    },
}

/// Carries the verb out.
///
/// # Errors
/// The daemon's failures; `document_unreadable`, `document_malformed`, `document_unwritable`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Show { out } => {
            let host = context.call(AdminCall::HostShow {})?;
            if let Some(out) = out {
                documents::write(&out, &format!("{host:#}\n"))?;
            }
            context.print(&host, |host| {
                format!("host key {}\ntoken    {}", text(host, "host_key"), text(host, "token_serial"))
            });
        }
        Verb::Enrol { host } => {
            let host = documents::read_json(&host)?;
            let enrolled = context.call(AdminCall::HostEnrol { host })?;
            context.print(&enrolled, |enrolled| {
                let state = if enrolled["changed"] == true { "enrolled" } else { "was enrolled already:" };
                format!("{state} host key {} (token {})", text(enrolled, "host_key"), text(enrolled, "token_serial"))
            });
        }
        Verb::List => {
            let list = context.call(AdminCall::HostList {})?;
            context.print(&list, |list| table(list, COLUMNS, "no agent host is enrolled"));
        }
        Verb::Remove { host } => {
            let removed = context.call(AdminCall::HostRemove { host })?;
            context.print(&removed, |removed| {
                format!(
                    "removed {} with host key {}\n  its agents get no certificate any more; those they have stay until \
                     they end or are revoked",
                    text(removed, "party"),
                    text(removed, "host_key"),
                )
            });
        }
    }
    Ok(())
}

const COLUMNS: &[(&str, &str)] = &[("HOST", "party"), ("KEY", "host_key"), ("TOKEN", "token_serial")];
