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
    #[command(after_help = "Examples:
  countersign ledger check
  countersign ledger check --json

It reads the whole book in one snapshot while payments go on. Exit code 1 when the book does not
add up.")]
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
    let count = |member: &str| cell(&answer[member]);
    let looked_at = format!(
        "{} accounts, {} transactions ({} executed, {} reversals), {} entries, {} daily sums",
        count("accounts"),
        count("transactions"),
        count("postings"),
        count("reversals"),
        count("entries"),
        count("counters")
    );
    if answer["ok"] == true {
        let currencies = answer["currencies"].as_array().filter(|all| !all.is_empty());
        let of = currencies.map_or_else(String::new, |_| format!(" in {}", count("currencies")));
        return format!("ok: {looked_at}; debits equal credits{of}, and all else is what it is made of");
    }
    let mut lines = vec![format!("{} differences in {looked_at}; amounts in minor units:", count("differences_found"))];
    for difference in answer["differences"].as_array().into_iter().flatten() {
        let word = |member: &str| cell(&difference[member]);
        lines.push(format!(
            "{}: {}: kept {}, recomputed {}",
            word("check"),
            word("on"),
            word("kept"),
            word("recomputed")
        ));
        if difference["transactions"].as_array().is_some_and(|named| !named.is_empty()) {
            lines.push(format!("    see {}", word("transactions")));
        }
    }
    lines.join("\n")
}
