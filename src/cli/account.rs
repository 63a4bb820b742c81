//! `countersign account`: the bank's customers' accounts.

use clap::Subcommand;

use super::context::Context;
use super::table::{cell, table, unless_changed};
use crate::front::admin::AdminCall;
use crate::kernel::command::NewAccount;
use crate::kernel::types::{AccountId, Currency, IdempotencyKey, Money, OwnerId};
use crate::kernel::zone::Zone;
use crate::ops::failure::Failure;

/// Open accounts, list them, book incoming money
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Open a customer's account (administrator).
    #[command(
        after_help = "Example:\n  countersign account open CHK_001 --owner OWN_001 --currency USD --opening 5247.83"
    )]
    Open {
        account: AccountId,
        /// The customer who owns it.
        #[arg(long)]
        owner: OwnerId,
        #[arg(long, default_value = "USD")]
        currency: Currency,
        /// Opening balance; leave out for an empty account.
        #[arg(long)]
        opening: Option<String>,
        /// How far below zero it may go.
        #[arg(long)]
        overdraft: Option<String>,
        /// The most that may leave on one day of the account's calendar.
        #[arg(long)]
        day_max: Option<String>,
        /// IANA time zone in which its days begin and end.
        #[arg(long, default_value = "UTC")]
        time_zone: Zone,
    },
    /// Show every account with balance, holds and what is available.
    #[command(after_help = "Example:\n  countersign account list --json")]
    List,
    /// Book money that arrived from outside the bank (officer or administrator).
    #[command(
        after_help = "Example:\n  countersign account incoming CHK_001 --amount 6000.00 --reference SALARY-2026-11\n\n\
                      The same reference is booked once, however often it is repeated."
    )]
    Incoming {
        account: AccountId,
        #[arg(long)]
        amount: String,
        #[arg(long, default_value = "USD")]
        currency: Currency,
        /// The payment's own reference.
        #[arg(long)]
        reference: IdempotencyKey,
    },
}

/// # Errors
/// What the daemon answers; `amount_malformed`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Open { account, owner, currency, opening, overdraft, day_max, time_zone } => {
            let money = |text: Option<String>| text.map(|text| amount(&text, currency)).transpose();
            let answer = context.call(AdminCall::AccountOpen(NewAccount {
                account,
                owner,
                currency,
                opening: money(opening)?,
                overdraft: money(overdraft)?,
                day_max: money(day_max)?,
                zone: time_zone,
            }))?;
            context.print(&answer, |answer| {
                format!("account {} is open{}", cell(&answer["account_id"]), unless_changed(answer))
            });
        }
        Verb::List => {
            let answer = context.call(AdminCall::AccountList {})?;
            let columns = [
                ("ACCOUNT", "account_id"),
                ("OWNER", "owner"),
                ("KIND", "kind"),
                ("STATUS", "status"),
                ("BALANCE", "balance"),
                ("HELD", "held"),
                ("AVAILABLE", "available"),
                ("CURRENCY", "currency"),
            ];
            context.print(&answer, |answer| {
                table(answer, &columns, "No accounts yet: `countersign account open` opens one.")
            });
        }
        Verb::Incoming { account, amount: text, currency, reference } => {
            let amount = amount(&text, currency)?;
            let answer = context.call(AdminCall::AccountIncoming { account, amount, reference })?;
            context.print(&answer, |answer| {
                format!(
                    "{} arrived on {} as {}{}",
                    cell(&answer["amount"]),
                    cell(&answer["account_id"]),
                    cell(&answer["transaction_id"]),
                    unless_changed(answer)
                )
            });
        }
    }
    Ok(())
}

/// An amount of a command line.
///
/// # Errors
/// `amount_malformed`, with the rule it breaks.
pub(super) fn amount(text: &str, currency: Currency) -> Result<Money, Failure> {
    Money::parse_positive(text, currency).map_err(|refused| {
        Failure::usage("amount_malformed", format!("\"{text}\": {refused}"), "write it like 1899.99")
    })
}
