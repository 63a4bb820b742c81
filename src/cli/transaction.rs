//! `countersign transaction`: authorizations and payments, newest first.

use clap::Subcommand;

use super::context::Context;
use super::table::table;
use crate::front::admin::AdminCall;
use crate::ops::failure::Failure;

/// List the newest transactions
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Show the newest transactions, whatever became of them.
    #[command(after_help = "Example:\n  countersign transaction list --json")]
    List,
}

/// # Errors
/// What the daemon answers.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::List => {
            let answer = context.call(AdminCall::TransactionList {})?;
            let columns = [
                ("TRANSACTION", "transaction_id"),
                ("KIND", "kind"),
                ("STATUS", "status"),
                ("AMOUNT", "amount"),
                ("CURRENCY", "currency"),
                ("FROM", "from_account"),
                ("TO", "to_account"),
                ("POSTED", "posted"),
            ];
            context.print(&answer, |answer| table(answer, &columns, "No transactions yet."));
        }
    }
    Ok(())
}
