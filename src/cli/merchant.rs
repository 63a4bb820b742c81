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
            let answer = context.call(call).map_err(look_again)?;
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

/// Whoever adds a merchant has another way out than an agent that pays one.
fn look_again(failure: Failure) -> Failure {
    if failure.name != "merchant_looks_alike" {
        return failure;
    }
    let next_step = "look at that one; if it is another merchant, repeat with --looks-like-accepted".to_owned();
    Failure { next_step, ..failure }
}

/// What `--accept-text` means.
pub(super) fn on_hostile(accept_text: bool) -> OnHostile {
    if accept_text { OnHostile::Accept } else { OnHostile::Refuse }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_adds_a_look_alike_is_told_how() {
        let told =
            look_again(Failure::refused("merchant_looks_alike", "it looks like amazon.com", "use the exact name"));
        assert!(told.next_step.contains("--looks-like-accepted") && told.message.ends_with("amazon.com"), "{told}");
        assert_eq!(look_again(Failure::refused("operator_not_permitted", "no", "ask")).next_step, "ask");
    }
}
