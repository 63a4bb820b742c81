//! `countersign audit`: read the audit log, and rebuild it to see that nothing was changed. What is erased of it is in
//! `audit_subjects`.

mod archive;
mod check;
pub(super) mod search;

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::audit::copy::Copy;
use crate::audit::prove::{LeafChoice, SignedHead};
use crate::cli::audit_subjects;
use crate::cli::context::Context;
use crate::cli::documents;
use crate::cli::progress::Progress;
use crate::cli::verify::oid_base_of_state;
use crate::front::admin::AdminCall;
use crate::kernel::receipt::Base64;
use crate::kernel::text::visible;
use crate::kernel::tile::Tile;
use crate::kernel::types::TransactionId;
use crate::ops::failure::Failure;

/// Read the audit log or check it
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  countersign audit show --limit 5
  countersign audit search --agent assistant --since 2026-11-22
  countersign audit tail --follow
  countersign audit check
  countersign audit bundle txn_01JD0000000000000000000000 --out payment.tar
  countersign audit prove 42 --out leaf-42.tlog-proof
  countersign audit export /srv/auditor/bank-log")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Show the newest leaves: who asked for what, what was decided, and whether it is under a signed checkpoint
    #[command(after_help = "Examples:
  countersign audit show
  countersign audit show --limit 100 --json")]
    Show {
        /// Leaves to show, newest last, at most 1000
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Rebuild the log, and compare tree, checkpoints, payments, holds, decisions and signatures with it
    ///
    /// What each finding means is in docs/AUDIT.md. Exit code 1 when something was found.
    #[command(after_help = "Examples:
  countersign audit check
  countersign audit check --tiles /srv/auditor/bank-log
  countersign audit check --archive
  countersign audit check --json")]
    Check(check::Args),
    /// Find leaves by agent, tool, decision, amount, time, payment, account; or write them all into a signed file
    ///
    /// Amounts and accounts are those of the leaf, or of the payment that it names. Time is that of the request: it may be
    /// a minute before that of an earlier leaf, so the search looks a minute around the span.
    #[command(after_help = "Examples:
  countersign audit search --agent assistant --decision refused --since 2026-11-22
  countersign audit search --amount-min 1000 --currency USD --tool execute_transfer --json
  countersign audit search --credential smtp/relay --decision refused
  countersign audit search --key invoices --agent program:billing
  countersign audit search --since 2026-11-01 --until 2026-12-01 --out november.csv --format csv
  countersign verify export november.csv --root bank-root.pem")]
    Search(search::SearchArgs),
    /// Show the newest leaves, a line each, and with --follow those that come, until Ctrl-C
    #[command(after_help = "Examples:
  countersign audit tail
  countersign audit tail --follow --decision refused
  countersign --json audit tail --follow")]
    Tail(search::TailArgs),
    /// Put the evidence of one payment into one file, that `verify bundle` checks with the bank's root alone
    ///
    /// Receipt, authorization, the agent's certificate, what people said and signed, the owner's mandate: each with the
    /// leaf that recorded it. Any tar opens it.
    #[command(after_help = "Examples:
  countersign audit bundle txn_01JD0000000000000000000000 --out payment.tar
  countersign verify bundle payment.tar --root bank-root.pem")]
    Bundle {
        /// The payment, as `execute_…` answered it
        #[arg(value_name = "TXN")]
        transaction: TransactionId,
        /// An existing file is replaced
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Prove one leaf: a C2SP tlog-proof that `verify proof` checks with the party's root alone
    #[command(after_help = "Examples:
  countersign audit prove 42
  countersign audit prove txn_01JD0000000000000000000000 --out leaf.tlog-proof")]
    Prove {
        /// The leaf's place in the log, or the transaction that it posted
        #[arg(value_name = "INDEX|TXN", value_parser = leaf_choice)]
        leaf: LeafChoice,
        /// Write the proof here instead of printing it; an existing file is replaced
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Copy the log into a directory, in the C2SP tlog-tiles layout: entries, hashes, signed checkpoint
    ///
    /// What is there already is compared, never replaced: a log that was rewritten or cut since is refused as log_forked
    /// or log_rolled_back. Run it again and again: only what is new is fetched.
    #[command(after_help = "Examples:
  countersign audit export /srv/auditor/bank-log
  countersign verify log /srv/auditor/bank-log --root bank-root.pem")]
    Export {
        /// Made if it is not there
        directory: PathBuf,
    },
    #[command(flatten)]
    Subjects(audit_subjects::Verb),
    /// The write-once copy that the daemon itself keeps ([audit.archive]): how far it is, and fetch it back
    #[command(after_help = "Examples:
  countersign audit archive status
  countersign audit archive now
  countersign audit archive fetch /srv/auditor/from-archive")]
    Archive(archive::Args),
}

fn leaf_choice(text: &str) -> Result<LeafChoice, String> {
    if let Ok(index) = text.parse() {
        return Ok(LeafChoice::Index(index));
    }
    let transaction = text.parse().map(LeafChoice::Transaction);
    transaction.map_err(|_| "neither a leaf's number nor a transaction's id (txn_…)".to_owned())
}

/// Asks the daemon and prints its answer.
///
/// # Errors
/// The daemon's, among them `log_damaged`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Show { limit } => {
            let answer = context.call(AdminCall::AuditShow { limit })?;
            context.print(&answer, show_text);
        }
        Verb::Check(args) => check::run(args, context)?,
        Verb::Search(args) => search::search(args, context)?,
        Verb::Tail(args) => search::tail(args, context)?,
        Verb::Bundle { transaction, out } => bundle(context, transaction, &out)?,
        Verb::Prove { leaf, out } => prove(context, leaf, out.as_deref())?,
        Verb::Export { directory } => export(context, &directory)?,
        Verb::Subjects(verb) => audit_subjects::run(verb, context)?,
        Verb::Archive(args) => archive::run(args, context)?,
    }
    Ok(())
}

fn prove(context: &Context, leaf: LeafChoice, out: Option<&Path>) -> Result<(), Failure> {
    let answer = context.call(AdminCall::AuditProve { leaf })?;
    let proof = answer["proof"].as_str().unwrap_or_default();
    match out {
        None if context.json => context.print(&answer, |_| String::new()),
        None => {
            // A reader that went away is no failure of ours.
            let _ = std::io::stdout().write_all(proof.as_bytes());
        }
        Some(path) => {
            documents::write_whole(path, proof.as_bytes())?;
            let said = json!({ "file": path, "bytes": proof.len() });
            context.print(&said, |_| format!("the proof is in {}", path.display()));
        }
    }
    Ok(())
}

fn bundle(context: &Context, transaction: TransactionId, out: &Path) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Bundle {
        bundle: Base64,
    }
    let answer = context.call(AdminCall::AuditBundle { transaction: transaction.clone() })?;
    let Bundle { bundle: Base64(bytes) } = serde_json::from_value(answer).map_err(|error| {
        Failure::fault("answer_unreadable", error.to_string(), "check that CLI and daemon are the same version")
    })?;
    documents::write_whole(out, &bytes)?;
    let said = json!({ "transaction_id": transaction, "file": out, "bytes": bytes.len() });
    context.print(&said, |_| format!("the evidence of {transaction} is in {}", out.display()));
    Ok(())
}

fn export(context: &Context, directory: &Path) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Tiles {
        items: Vec<Base64>,
    }
    let unreadable = |error: serde_json::Error| {
        Failure::fault("answer_unreadable", error.to_string(), "check that CLI and daemon are the same version")
    };
    let head: SignedHead = serde_json::from_value(context.call(AdminCall::AuditHead {})?).map_err(unreadable)?;
    let fetch = |tiles: &[Tile]| {
        let tiles = tiles.iter().map(Tile::to_string).collect();
        let tiles: Tiles =
            serde_json::from_value(context.call(AdminCall::AuditTiles { tiles })?).map_err(unreadable)?;
        Ok(tiles.items.into_iter().map(|bytes| bytes.0).collect())
    };
    let mut progress = Progress::new(context);
    let say = |done, total| progress.say(|| format!("{done} of {total} tiles"));
    let written = Copy::at(directory).update(&head, &oid_base_of_state(context), fetch, say)?;
    let said = json!({ "directory": directory, "origin": head.origin, "size": head.size, "tiles": written });
    context.print(&said, |_| {
        let place = directory.display();
        format!(
            "{place} has the log {} up to leaf {}: {written} new tiles, all others as they were",
            head.origin, head.size
        )
    });
    Ok(())
}

fn show_text(answer: &Value) -> String {
    let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines: Vec<String> = items.iter().map(leaf_line).collect();
    lines.push(format!("{} leaves, {} under a signed checkpoint", answer["size"], answer["signed_size"]));
    lines.join("\n")
}

fn leaf_line(leaf: &Value) -> String {
    let (body, content) = (&leaf["body"], leaf["content"].as_str().unwrap_or_default());
    let shown = match body {
        Value::String(text) => text.clone(),
        Value::Null if content == "erased" => "(erased)".to_owned(),
        Value::Null if content == "damaged" => "(does not open: run `countersign audit check`)".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => body.to_string(),
    };
    // One line a leaf, whatever a stranger wrote into it.
    let shown = visible(&shown);
    let state = if leaf["signed"] == true { "signed " } else { "waiting" };
    format!("{:>8}  {state}  {shown}", leaf["index"].to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn leaves_are_shown_one_a_line_with_their_state() {
        let answer = json!({"items": [
            {"index": 7, "commitment": "00", "signed": true, "body": {"tool": "execute_purchase"}},
            {"index": 8, "commitment": "00", "signed": false, "body": "not json"},
        ], "next": null, "size": 9, "signed_size": 8});
        assert_eq!(
            show_text(&answer),
            "       7  signed   {\"tool\":\"execute_purchase\"}\n       8  waiting  not json\n\
             9 leaves, 8 under a signed checkpoint"
        );
    }
}
