//! `countersign ledger`: does the book add up.

use clap::Subcommand;
use serde_json::Value;

use super::context::Context;
use super::table::cell;
use crate::front::admin::AdminCall;
use crate::ops::failure::Failure;

/// Recompute the book from its entries
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Recompute balances from entries, holds, each currency, postings against entries, daily sums, reversals.
    #[command(after_help = "Example:\n  countersign ledger check\n\nExit code 1 when the book does not add up.")]
    Check,
}

/// # Errors
/// What the daemon answers; `ledger_inconsistent` when the book does not add up.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Check => {
            let answer = context.call(AdminCall::LedgerCheck {})?;
            context.print(&answer, shown);
            if answer["ok"] == true {
                return Ok(());
            }
            Err(Failure::fault(
                "ledger_inconsistent",
                "the book does not add up",
                "stop the daemon, keep the store's files as they are, and compare with the audit log",
            ))
        }
    }
}

fn shown(answer: &Value) -> String {
    let looked_at = format!(
        "{} accounts, {} transactions, {} entries",
        cell(&answer["accounts"]),
        cell(&answer["transactions"]),
        cell(&answer["entries"])
    );
    if answer["ok"] == true {
        return format!("ok: {looked_at}; balances, holds, currencies, postings, daily sums and reversals add up");
    }
    let mut lines = vec![format!("{looked_at}; what differs, in minor units:")];
    for difference in answer["differences"].as_array().into_iter().flatten() {
        lines.push(format!(
            "{}: {} is {}, its rows come to {}",
            cell(&difference["check"]),
            cell(&difference["on"]),
            cell(&difference["kept"]),
            cell(&difference["recomputed"])
        ));
    }
    lines.join("\n")
}
