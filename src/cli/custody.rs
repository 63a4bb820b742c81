//! `countersign custody report`: for an auditor.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::documents::{self, text};
use crate::cli::table::cell;
use crate::front::admin::AdminCall;
use crate::ops::failure::Failure;

/// Prove where the keys are: a report of the token and every key in it, signed by the token.
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  countersign custody report --out custody.json
  countersign verify custody-report custody.json --root bank-root.pem")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Token, module, and for every key its attributes and what they mean.
    #[command(after_help = "Examples:\n  countersign custody report --out custody.json\n  countersign custody report")]
    Report {
        /// Where the report goes; standard output if left out.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Carries the verb out.
///
/// # Errors
/// The daemon's failures; `document_unwritable`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Verb::Report { out } = args.verb;
    let answer = context.call(AdminCall::CustodyReport {})?;
    let Some(out) = out else {
        print!("{}", text(&answer, "file"));
        return Ok(());
    };
    documents::write(&out, text(&answer, "file"))?;
    let written = json!({
        "file": out, "signer": answer["signer"], "keys": answer["keys"], "unsound": answer["unsound"],
    });
    context.print(&written, |written| summary(written, &out.display().to_string()));
    Ok(())
}

fn summary(written: &Value, file: &str) -> String {
    let unsound = cell(&written["unsound"]);
    let custody = if unsound.is_empty() {
        "all born in the token and never extractable".to_owned()
    } else {
        format!("NOT sound: {unsound}")
    };
    format!(
        "{} keys, {custody}\n  signed by  {}\n  written to {file}\n  check it   countersign verify custody-report {file} --root <the party's root.pem>, or --state",
        written["keys"],
        text(written, "signer"),
    )
}
