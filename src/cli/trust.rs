//! `countersign trust …`: whose certificates this party believes.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use crate::cli::context::Context;
use crate::cli::documents::{self, text};
use crate::front::admin::AdminCall;
use crate::kernel::types::PartyName;
use crate::ops::failure::Failure;

/// Trust another party's root and issuing CAs.
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  bank              countersign trust add secco --root secco/root.pem --issuing secco/issuing.pem
  security company  countersign trust add bank --root bank/root.pem --issuing bank/issuing.pem
Compare the root's fingerprint with the other party over another channel first:
  openssl x509 -in secco/root.pem -noout -fingerprint -sha256")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Add a party; the same certificates again change nothing, others are refused.
    Add {
        /// The other party's name.
        party: PartyName,
        /// Its root certificate (PEM).
        #[arg(long)]
        root: PathBuf,
        /// Its issuing CAs (PEM, one or more).
        #[arg(long)]
        issuing: PathBuf,
    },
}

/// Carries the verb out.
///
/// # Errors
/// The daemon's failures; `document_unreadable`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Verb::Add { party, root, issuing } = args.verb;
    let (root_pem, issuing_pem) = (documents::read(&root)?, documents::read(&issuing)?);
    let added = context.call(AdminCall::TrustAdd { party, root_pem, issuing_pem })?;
    context.print(&added, |added| {
        let state = if added["changed"] == true { "is trusted now" } else { "was trusted already" };
        format!("{} {state}", text(added, "party"))
    });
    Ok(())
}
