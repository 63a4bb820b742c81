//! `countersign report`: evidence for an auditor, read from the running system.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::documents::{self, text};
use crate::cli::table::cell;
use crate::front::admin::AdminCall;
use crate::front::compliance::ReportWish;
use crate::ops::failure::Failure;
use crate::report::framework::Framework;
use crate::report::{Format, Standing};

/// Make a report for an auditor from what the running system does
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  countersign report compliance --framework pci-dss-4 --out pci.html
  countersign report compliance --framework nist-csf --format oscal --out csf.json --deep")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Show what this party does about each control of a framework, with evidence read now
    ///
    /// Frameworks: pci-dss-4, sox, gdpr, mifid2, glba, iso27001, nist-csf. Each control is met, partly, not met, not
    /// covered or not applicable. The report is tied to the audit log's newest signed checkpoint, and that it was made,
    /// with its SHA-256, is a leaf of the log. For auditors, officers and administrators.
    #[command(after_help = "Examples:
  countersign report compliance --framework gdpr --out gdpr.html
  countersign report compliance --framework sox --format json --deep
  countersign report compliance --framework iso27001 --format oscal --out iso.json")]
    Compliance {
        /// The framework: pci-dss-4, sox, gdpr, mifid2, glba, iso27001 or nist-csf
        #[arg(long)]
        framework: Framework,
        /// One page, our own JSON, or NIST OSCAL assessment results; left out: html, with --json json
        #[arg(long, value_enum)]
        format: Option<Shape>,
        /// Rebuild the audit log from every leaf, too; takes longer the longer the log is
        #[arg(long)]
        deep: bool,
        /// Write the report here instead of printing it; an existing file is replaced
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// As [`Format`].
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shape {
    Html,
    Json,
    Oscal,
}

/// Asks the daemon; prints or writes the exact bytes.
///
/// # Errors
/// The daemon's, among them `operator_not_permitted` and `log_empty`; `document_unwritable`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Verb::Compliance { framework, format, deep, out } = args.verb;
    let format = match format {
        Some(Shape::Html) => Format::Html,
        Some(Shape::Oscal) => Format::Oscal,
        Some(Shape::Json) => Format::Json,
        None if context.json => Format::Json,
        None => Format::Html,
    };
    let answer = context.call(AdminCall::ReportCompliance(ReportWish { framework, format, deep }))?;
    let Some(out) = out else {
        if context.json && format == Format::Html {
            context.print(&answer, |_| String::new());
        } else {
            // A reader that went away is no failure of ours.
            let _ = std::io::stdout().write_all(text(&answer, "file").as_bytes());
        }
        return Ok(());
    };
    documents::write(&out, text(&answer, "file"))?;
    let mut written = answer.clone();
    written["file"] = json!(out);
    context.print(&written, |written| summary(written, &out));
    Ok(())
}

fn summary(written: &Value, out: &Path) -> String {
    let counts = Standing::ALL.map(|standing| {
        let words = standing.words();
        format!("{} {words}", cell(&written["counts"][words.replace(' ', "_")]))
    });
    let log = &written["log"];
    format!(
        "{}: {}\n  written to {}\n  sha256     {}\n  tied to    {}, {} leaves, root {}",
        text(written, "framework"),
        counts.join(", "),
        out.display(),
        text(written, "sha256"),
        text(log, "origin"),
        text(log, "size"),
        text(log, "root"),
    )
}
