//! `countersign product`: what merchants offer, at which price.

use clap::Subcommand;

use super::account::amount;
use super::context::Context;
use super::merchant::on_hostile;
use super::table::{cell, table, unless_changed};
use crate::front::admin::AdminCall;
use crate::kernel::types::{Currency, MerchantId, ProductId};
use crate::ops::failure::Failure;

/// Add and list what merchants offer
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Add an offer (administrator).
    #[command(
        after_help = "Example:\n  countersign product add B08N5WRWNW --merchant amazon.com --title \"Laptop 14\" --price 1899.99"
    )]
    Add {
        product: ProductId,
        #[arg(long)]
        merchant: MerchantId,
        #[arg(long)]
        title: String,
        #[arg(long)]
        price: String,
        #[arg(long, default_value = "USD")]
        currency: Currency,
        /// Register a text that looks hostile: you have read it, and the audit log says that you accept it.
        #[arg(long)]
        accept_text: bool,
    },
    /// Show every offer.
    #[command(after_help = "Example:\n  countersign product list")]
    List,
}

/// # Errors
/// What the daemon answers; `amount_malformed`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Add { product, merchant, title, price, currency, accept_text } => {
            let price = amount(&price, currency)?;
            let answer = context.call(AdminCall::ProductAdd {
                merchant,
                product,
                title,
                price,
                on_hostile: on_hostile(accept_text),
            })?;
            context.print(&answer, |answer| {
                let (product, merchant) = (cell(&answer["product_id"]), cell(&answer["merchant"]));
                format!("{product} at {merchant} costs {}{}", cell(&answer["price"]), unless_changed(answer))
            });
        }
        Verb::List => {
            let answer = context.call(AdminCall::ProductList {})?;
            let columns = [
                ("PRODUCT", "product_id"),
                ("MERCHANT", "merchant"),
                ("PRICE", "price"),
                ("CURRENCY", "currency"),
                ("TITLE", "title"),
            ];
            context.print(&answer, |answer| {
                table(answer, &columns, "No products yet: `countersign product add` adds one.")
            });
        }
    }
    Ok(())
}
