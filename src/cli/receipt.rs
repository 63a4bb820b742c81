//! `countersign receipt`: fetch the receipt of a posted transaction, to keep it and to verify it anywhere.

use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::documents;
use crate::front::admin::AdminCall;
use crate::kernel::receipt::Receipt;
use crate::kernel::types::TransactionId;
use crate::ops::failure::Failure;

/// Fetch the receipt of a posted transaction
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  countersign receipt show txn_01JD0000000000000000000000 --out receipt.json
  countersign verify receipt receipt.json --root bank-root.pem")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Print a receipt, or write it to a file, byte for byte as `verify receipt` wants it
    #[command(after_help = "Examples:
  countersign receipt show txn_01JD0000000000000000000000
  countersign receipt show txn_01JD0000000000000000000000 --out receipt.json
  countersign receipt show txn_01JD0000000000000000000000 --text --out receipt.txt")]
    Show {
        /// The transaction, as `execute_…` answered it
        transaction: TransactionId,
        /// Write the receipt here instead of printing it; an existing file is replaced
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// As compact text: a C2SP tlog-proof that `verify receipt` reads like the JSON
        #[arg(long)]
        text: bool,
    },
}

/// Asks the daemon; prints or writes the exact bytes.
///
/// # Errors
/// The daemon's, among them `unknown_transaction` and `receipt_pending`; `file_not_written`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Verb::Show { transaction, out, text } = args.verb;
    let bytes = receipt_bytes(context.call(AdminCall::Receipt { transaction: transaction.clone() })?, text)?;
    match out {
        None => {
            // A reader that went away is no failure of ours.
            let _ = std::io::stdout().write_all(&bytes);
        }
        Some(path) => {
            documents::write_whole(&path, &bytes)?;
            let answer = json!({ "transaction_id": transaction, "file": path, "bytes": bytes.len() });
            context.print(&answer, |_| format!("receipt of {transaction} written to {}", path.display()));
        }
    }
    Ok(())
}

/// The daemon answers the receipt as JSON; the file is its canonical form, so nothing is lost on the way.
fn receipt_bytes(answer: Value, text: bool) -> Result<Vec<u8>, Failure> {
    let unreadable = |message: String| {
        Failure::fault("answer_unreadable", message, "check that CLI and daemon are the same version")
    };
    let receipt: Receipt = serde_json::from_value(answer).map_err(|error| unreadable(error.to_string()))?;
    let bytes = if text { receipt.to_text().map(String::into_bytes) } else { receipt.to_bytes() };
    bytes.map_err(|refusal| unreadable(refusal.to_string()))
}
