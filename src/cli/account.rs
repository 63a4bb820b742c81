//! `countersign account`: the bank's customers' accounts.

use clap::Subcommand;
use serde_json::Value;

use super::context::Context;
use super::statement::{self, Format, Wanted};
use super::table::{cell, table, unless_changed};
use crate::front::admin::AdminCall;
use crate::kernel::command::NewAccount;
use crate::kernel::ledger::AccountStatus;
use crate::kernel::types::{AccountId, Currency, Day, IdempotencyKey, Money, OwnerId};
use crate::kernel::zone::{Zone, day_from_text};
use crate::ops::failure::Failure;
use crate::payment::DeskCall;

/// Open, show, freeze and list accounts, their statements, incoming money and fees
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  countersign account open CHK_001 --owner OWN_001 --currency USD --opening 5247.83
  countersign account list
  countersign account statement CHK_001 --from 2026-11-01
See docs/LEDGER.md.")]
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
    /// Show one account: limits, what is held and by what, and who may use it.
    #[command(after_help = "Example:\n  countersign account show CHK_001")]
    Show { account: AccountId },
    /// Every posted line with the running balance; dates are days of the account's own calendar.
    #[command(after_help = "Examples:
  countersign account statement CHK_001
  countersign account statement CHK_001 --from 2026-11-01 --to 2026-11-30 --format csv >nov.csv")]
    Statement {
        account: AccountId,
        /// First day, such as 2026-11-01; leave out for the beginning.
        #[arg(long, value_parser = day_from_text)]
        from: Option<Day>,
        /// Last day; leave out for today.
        #[arg(long, value_parser = day_from_text)]
        to: Option<Day>,
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Stop an account at once: nothing leaves, nothing arrives (officer or administrator).
    #[command(after_help = "Example:\n  countersign account freeze CHK_001 --reason \"owner called: card stolen\"")]
    Freeze {
        account: AccountId,
        #[arg(long)]
        reason: String,
    },
    /// Let a frozen account go on; another person than the one who froze it.
    #[command(after_help = "Example:\n  countersign account thaw CHK_001 --reason \"identity checked\"")]
    Thaw {
        account: AccountId,
        #[arg(long)]
        reason: String,
    },
    /// Close an empty account for ever (officer or administrator).
    #[command(after_help = "Example:\n  countersign account close CHK_001 --reason \"customer left\"")]
    Close {
        account: AccountId,
        #[arg(long)]
        reason: String,
    },
    /// Charge a fee, once per reference (officer or administrator).
    #[command(
        after_help = "Example:\n  countersign account charge CHK_001 --amount 2.50 --reference FEE-2026-11-CHK_001"
    )]
    Charge {
        account: AccountId,
        #[arg(long)]
        amount: String,
        /// The account's own; naming another one is refused.
        #[arg(long)]
        currency: Option<Currency>,
        #[arg(long)]
        reference: IdempotencyKey,
    },
    /// Book money that arrived from outside the bank (officer or administrator).
    #[command(
        after_help = "Example:\n  countersign account incoming CHK_001 --amount 6000.00 --reference SALARY-2026-11\n\n\
                      The same reference is booked once, however often it is repeated."
    )]
    Incoming {
        account: AccountId,
        #[arg(long)]
        amount: String,
        /// The account's own; naming another one is refused.
        #[arg(long)]
        currency: Option<Currency>,
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
                let status = &answer["status"];
                let is = if status == "active" { "open".into() } else { cell(status) };
                format!("account {} is {is}{}", cell(&answer["account_id"]), unless_changed(answer))
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
        Verb::Show { account } => {
            let answer = context.call(AdminCall::Desk(DeskCall::AccountShow { account }))?;
            context.print(&answer, shown);
        }
        Verb::Statement { account, from, to, format } => {
            let format = if context.json { Format::Json } else { format };
            statement::run(&Wanted { account, from, to, format }, context)?;
        }
        Verb::Freeze { account, reason } => set_status(context, account, AccountStatus::Frozen, reason)?,
        Verb::Thaw { account, reason } => set_status(context, account, AccountStatus::Active, reason)?,
        Verb::Close { account, reason } => set_status(context, account, AccountStatus::Closed, reason)?,
        Verb::Charge { account, amount, currency, reference } => {
            let call = DeskCall::AccountCharge { account, amount, currency, reference };
            let answer = context.call(AdminCall::Desk(call))?;
            context.print(&answer, |answer| {
                format!(
                    "{} charged to {} as {}{}",
                    cell(&answer["amount"]),
                    cell(&answer["account_id"]),
                    cell(&answer["transaction_id"]),
                    unless_changed(answer)
                )
            });
        }
        Verb::Incoming { account, amount, currency, reference } => {
            let answer = context.call(AdminCall::AccountIncoming { account, amount, currency, reference })?;
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

fn set_status(context: &Context, account: AccountId, status: AccountStatus, reason: String) -> Result<(), Failure> {
    let answer = context.call(AdminCall::Desk(DeskCall::AccountStatus { account, status, reason }))?;
    context.print(&answer, |answer| {
        format!("account {} is {}{}", cell(&answer["account_id"]), cell(&answer["status"]), unless_changed(answer))
    });
    Ok(())
}

fn shown(answer: &Value) -> String {
    let word = |member: &str| cell(&answer[member]);
    let mut lines = vec![
        format!("{} of {}, {} {}", word("account_id"), word("owner"), word("kind"), word("status")),
        format!(
            "  balance {} {}, held {}, overdraft {}, available {}",
            word("balance"),
            word("currency"),
            word("held"),
            word("overdraft"),
            word("available")
        ),
    ];
    lines.push(if answer["day_max"].is_null() {
        format!("  no limit a day, days of {}", word("time_zone"))
    } else {
        let (day, counted) = (word("day"), word("counted_today"));
        format!("  at most {} a day, days of {}; {counted} on {day}", word("day_max"), word("time_zone"))
    });
    if !answer["status_by"].is_null() {
        lines.push(format!("  {} by {}", word("status"), word("status_by")));
    }
    for hold in answer["holds"].as_array().into_iter().flatten() {
        let fee = cell(&hold["fee"]);
        let has_fee = fee.bytes().any(|digit| matches!(digit, b'1'..=b'9'));
        let fee = if has_fee { format!(" and a fee of {fee}") } else { String::new() };
        lines.push(format!(
            "  holds {}{fee} for {} ({}), to {}",
            cell(&hold["amount"]),
            cell(&hold["transaction_id"]),
            cell(&hold["status"]),
            cell(&hold["to_account"])
        ));
    }
    for grant in answer["grants"].as_array().into_iter().flatten() {
        lines.push(format!(
            "  {} may {} until {}",
            cell(&grant["agent"]),
            cell(&grant["verbs"]),
            cell(&grant["expires"])
        ));
    }
    lines.join("\n")
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
