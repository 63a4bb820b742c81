//! `countersign merchant`: who can be paid by purchases.

use clap::Subcommand;

use super::context::Context;
use super::table::{cell, table, unless_changed};
use crate::front::admin::AdminCall;
use crate::kernel::text::OnHostile;
use crate::kernel::types::{Currency, MerchantId};
use crate::ops::failure::Failure;

/// Add and list the merchants that can be paid
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Add a merchant with an account of its own (administrator). Only the policy's allow-list lets agents pay it.
    #[command(after_help = "Example:\n  countersign merchant add amazon.com --name \"Amazon\"")]
    Add {
        /// Domain name, lower case.
        merchant: MerchantId,
        #[arg(long)]
        name: String,
        #[arg(long, default_value = "USD")]
        currency: Currency,
        /// You have looked at the merchant that it looks like, and it is another one.
        #[arg(long)]
        looks_like_accepted: bool,
        /// Register a text that looks hostile: you have read it, and the audit log says that you accept it.
        #[arg(long)]
        accept_text: bool,
    },
    /// Show every merchant.
    #[command(after_help = "Example:\n  countersign merchant list")]
    List,
}

/// # Errors
/// What the daemon answers.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Add { merchant, name, currency, looks_like_accepted, accept_text } => {
            let on_hostile = on_hostile(accept_text);
            let call = AdminCall::MerchantAdd { merchant, name, currency, looks_like_accepted, on_hostile };
            let answer = context.call(call)?;
            context.print(&answer, |answer| {
                let listed = if answer["on_allow_list"] == true { "on" } else { "not on" };
                let merchant = cell(&answer["merchant"]);
                format!("merchant {merchant} is there, {listed} the allow-list{}", unless_changed(answer))
            });
        }
        Verb::List => {
            let answer = context.call(AdminCall::MerchantList {})?;
            let columns = [("MERCHANT", "merchant"), ("NAME", "name"), ("CURRENCY", "currency")];
            context.print(&answer, |answer| {
                table(answer, &columns, "No merchants yet: `countersign merchant add` adds one.")
            });
        }
    }
    Ok(())
}

/// What `--accept-text` means.
pub(super) fn on_hostile(accept_text: bool) -> OnHostile {
    if accept_text { OnHostile::Accept } else { OnHostile::Refuse }
}
