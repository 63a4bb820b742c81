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
    /// Recompute every balance from its entries, every hold, and debits against credits of each currency.
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
    if answer["ok"] == true {
        let (accounts, currencies) = (cell(&answer["accounts"]), cell(&answer["currencies"]));
        return format!("ok: {accounts} accounts, debits equal credits in {currencies}");
    }
    let mut lines = vec![];
    for account in answer["differences"].as_array().into_iter().flatten() {
        lines.push(format!(
            "{}: balance {} but entries say {}, held {} but open authorizations say {} (minor units of {})",
            cell(&account["account_id"]),
            cell(&account["balance_minor"]),
            cell(&account["entries_minor"]),
            cell(&account["held_minor"]),
            cell(&account["open_minor"]),
            cell(&account["currency"])
        ));
    }
    for currency in answer["unbalanced_currencies"].as_array().into_iter().flatten() {
        lines.push(format!("{}: debits and credits differ", cell(currency)));
    }
    lines.join("\n")
}
