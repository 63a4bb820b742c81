//! `countersign trust …`: whose certificates this party believes.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use crate::cli::context::Context;
use crate::cli::documents::{self, text};
use crate::front::admin::AdminCall;
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::types::{PartyName, Sha256};
use crate::ops::failure::Failure;

/// Trust another party's root and issuing CAs.
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  # bank, agent host
  countersign trust add secco --root secco-root.pem --issuing secco-issuing.pem
  # security company, agent host
  countersign trust add bank --root bank-root.pem --issuing bank-issuing.pem
Compare the root's fingerprint with the other party over another channel first:
  openssl x509 -in secco-root.pem -noout -fingerprint -sha256")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Add a party; the same certificates again change nothing, others are refused.
    #[command(after_help = "\
Example:
  countersign trust add secco --root secco-root.pem --issuing secco-issuing.pem
The two files are certs/root.pem and certs/issuing.pem of the other party. After its issuing CA was
rotated, add it again with the new certs/issuing.pem. The name is one of your own choice; it stays.")]
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
    let added = context.call(AdminCall::TrustAdd { party, root_pem: root_pem.clone(), issuing_pem })?;
    context.print(&added, |added| {
        let state = if added["changed"] == true { "is trusted now" } else { "was trusted already" };
        let fingerprint = fingerprint(&root_pem).map(|hash| format!("\n  root SHA-256 {hash}")).unwrap_or_default();
        format!("{} {state}{fingerprint}", text(added, "party"))
    });
    Ok(())
}

/// What to compare with the other party, as openssl writes it.
fn fingerprint(pem: &str) -> Option<String> {
    let der = pem::decode_one(Kind::Certificate, pem).ok()?;
    let hex = Sha256::of(&[&der]).to_string().to_ascii_uppercase();
    Some(hex.as_bytes().chunks(2).map(String::from_utf8_lossy).collect::<Vec<_>>().join(":"))
}
