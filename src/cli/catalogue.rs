//! `countersign catalogue …`: what a role may do, signed by both parties.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::documents::{self, text};
use crate::front::admin::AdminCall;
use crate::ops::failure::Failure;

/// Sign, install and show the role catalogue.
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Each party signs in turn; the bank puts the catalogue in force:
  security company  countersign catalogue sign catalogue.json --out half.json
  bank              countersign catalogue sign half.json --out whole.json
  bank              countersign catalogue install whole.json

A catalogue before its first signature:
  {\"schema\": \"countersign/role-catalogue/v1\", \"version\": 1,
   \"roles\": [{\"role\": \"purchaser\", \"tools\": [\"list_accounts\", \"authorize_purchase\"]}]}")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Add this party's signature.
    Sign {
        /// The catalogue, bare or signed by the other party (JSON).
        catalogue: PathBuf,
        /// Where the signed catalogue goes.
        #[arg(long)]
        out: PathBuf,
    },
    /// Put a catalogue with both signatures in force.
    Install {
        /// The signed catalogue (JSON).
        catalogue: PathBuf,
    },
    /// Show the catalogue in force here.
    Show,
}

/// Carries the verb out.
///
/// # Errors
/// The daemon's failures; `catalogue_missing`; `document_unreadable`, `document_malformed`, `document_unwritable`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Sign { catalogue, out } => {
            let catalogue = documents::read_json(&catalogue)?;
            let signed = context.call(AdminCall::CatalogueSign { catalogue })?;
            documents::write(&out, &format!("{signed:#}\n"))?;
            context.print(&signed, |signed| format!("{}written to {}", catalogue_text(signed), out.display()));
        }
        Verb::Install { catalogue } => {
            let catalogue = documents::read_json(&catalogue)?;
            let installed = context.call(AdminCall::CatalogueInstall { catalogue })?;
            context.print(&installed, |installed| {
                let state = if installed["changed"] == true { "is in force" } else { "was in force already" };
                format!("role catalogue version {} {state}", installed["version"])
            });
        }
        Verb::Show => {
            let path = context.state.certs().join("catalogue.json");
            if !path.exists() {
                return Err(Failure::refused(
                    "catalogue_missing",
                    "no role catalogue is in force here",
                    "see `countersign catalogue --help`",
                ));
            }
            let signed = documents::read_json(&path)?;
            context.print(&signed, catalogue_text);
        }
    }
    Ok(())
}

fn catalogue_text(signed: &Value) -> String {
    let catalogue = &signed["catalogue"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut out = format!("role catalogue version {}\n", catalogue["version"]);
    for entry in list(&catalogue["roles"]) {
        let tools: Vec<String> =
            list(&entry["tools"]).iter().filter_map(|tool| tool.as_str().map(str::to_owned)).collect();
        out.push_str(&format!("  {}: {}\n", text(&entry, "role"), tools.join(", ")));
    }
    let signers: Vec<String> =
        list(&signed["signatures"]).iter().map(|signature| text(signature, "party").to_owned()).collect();
    out.push_str(&format!("signed by: {}\n", signers.join(", ")));
    out
}
