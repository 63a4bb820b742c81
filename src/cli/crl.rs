//! `countersign crl …`: revocation lists between the parties.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use crate::cli::context::Context;
use crate::cli::documents::{self, text};
use crate::front::admin::AdminCall;
use crate::ops::failure::Failure;

/// Sign a fresh revocation list, take over the other party's, or compare what is published with what is recorded.
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  # security company
  countersign crl export --out secco.crl
  # bank
  countersign crl import secco.crl
  # both
  countersign crl check --json
A bank with [pki] company_pki_url set fetches the lists by itself.")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Sign a fresh full list of this party's issuing CA.
    #[command(after_help = "\
Examples:
  countersign crl export --out secco.crl
  countersign crl export --json
The lists of the root and of earlier issuing CAs are in certs/crl/, too.")]
    Export {
        /// Also write it to this file (PEM); it is in certs/crl/ in any case.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Compare store, newest list and OCSP answers for every certificate in force: exit code 3 when they differ.
    #[command(after_help = "Examples:\n  countersign crl check\n  countersign crl check --json")]
    Check,
    /// Verify another party's list and act on it; an older one than the one in force is refused.
    #[command(after_help = "Example:\n  countersign crl import secco.crl")]
    Import {
        /// The list (PEM).
        file: PathBuf,
    },
}

/// Prints what was compared; a difference is the exit code's, too.
fn check(context: &Context) -> Result<(), Failure> {
    let checked = context.call(AdminCall::CrlCheck {})?;
    context.print(&checked, |checked| {
        let mut out = format!("{} certificates in force, {} revoked\n", checked["certificates"], checked["revoked"]);
        for one in checked["differences"].as_array().into_iter().flatten() {
            out.push_str(&format!("  {} {}: {}\n", text(one, "issuer"), text(one, "serial"), text(one, "what")));
        }
        out
    });
    match checked["differences"].as_array().map_or(0, Vec::len) {
        0 => Ok(()),
        count => Err(Failure::refused(
            "publication_differs",
            format!("{count} differences between what is recorded and what is published"),
            "export a fresh list with `countersign crl export`, and see the daemon's log",
        )),
    }
}

/// Carries the verb out.
///
/// # Errors
/// The daemon's failures; `document_unreadable`, `document_unwritable`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let list = match args.verb {
        Verb::Check => return check(context),
        Verb::Export { out } => {
            let exported = context.call(AdminCall::CrlExport {})?;
            if let Some(out) = out {
                documents::write(&out, text(&exported, "crl_pem"))?;
            }
            exported
        }
        Verb::Import { file } => context.call(AdminCall::CrlImport { crl_pem: documents::read(&file)? })?,
    };
    context.print(&list, |list| {
        format!(
            "revocation list {} of {}\n  revoked {}\n  from    {}\n  until   {}",
            list["number"],
            text(list, "issuer"),
            list["revoked"],
            text(list, "this_update"),
            text(list, "next_update"),
        )
    });
    Ok(())
}
