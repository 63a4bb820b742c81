//! `countersign bank`: fills the book from a TOML file, again and again without harm; stops and resumes payments.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Deserialize;
use serde_json::{Value, json};

use super::account::amount;
use super::context::Context;
use super::table::{cell, unless_changed};
use crate::front::admin::AdminCall;
use crate::kernel::breaker::Cause;
use crate::kernel::command::NewAccount;
use crate::kernel::text::OnHostile;
use crate::kernel::types::{AccountId, Currency, MerchantId, OwnerId, ProductId};
use crate::kernel::zone::Zone;
use crate::ops::failure::Failure;
use crate::payment::DeskCall;

/// Load the book from a file; stop all payments by agents, and let them go on
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  countersign bank load scripts/demo-bank.toml
  countersign bank status
  countersign bank stop --reason \"core banking reports duplicates\"
  countersign bank resume
See docs/BREAKER.md.")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Open the accounts and add the merchants and products of a file (administrator). What is there stays.
    #[command(after_help = "Example:\n  countersign bank load scripts/demo-bank.toml")]
    Load { file: PathBuf },
    /// Stop all payments by agents at once (officer or administrator). What they ask meanwhile waits in `manual list`.
    #[command(after_help = "Example:\n  countersign bank stop --reason \"core banking reports duplicates\"\n\n\
                            At a terminal it asks for one typed word; --yes leaves the question out.")]
    Stop {
        /// Kept in the audit log, and told to the agents: each payment they ask for meanwhile is answered with it.
        #[arg(long)]
        reason: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Let payments go on (officer or administrator). Waiting cases still need their answer, and causes
    /// that are not named stay.
    #[command(after_help = "Examples:\n  countersign bank resume\n  countersign bank resume --cause hsm_down\n\n\
                            At a terminal it asks for one typed word; --yes leaves the question out.")]
    Resume {
        /// operator (what a person stopped), anomalies, hsm_down, store_slow, core_failing, witness_lag or disk_low;
        /// repeatable for several. What still fails stops payments again.
        #[arg(long, default_value = "operator")]
        cause: Vec<Cause>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Whether payments are stopped: every cause, since when, what its probes say, and how many cases wait.
    #[command(after_help = "Example:\n  countersign bank status --json")]
    Status,
}

/// The file: `[[account]]`, `[[merchant]]` and `[[product]]`, all of one currency.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Book {
    currency: Currency,
    #[serde(default)]
    account: Vec<Account>,
    #[serde(default)]
    merchant: Vec<Merchant>,
    #[serde(default)]
    product: Vec<Product>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    id: AccountId,
    owner: OwnerId,
    /// Decimal string; leave out for an empty account.
    opening: Option<String>,
    /// How far below zero it may go.
    overdraft: Option<String>,
    /// The most that may leave on one local day.
    day_max: Option<String>,
    /// IANA name; leave out for UTC.
    time_zone: Option<Zone>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Merchant {
    domain: MerchantId,
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Product {
    id: ProductId,
    merchant: MerchantId,
    title: String,
    /// Decimal string.
    price: String,
}

/// # Errors
/// `bank_file_unreadable`, `bank_file_invalid`, `amount_malformed`; what the daemon answers. What was loaded before
/// a failure stays, and loading again goes on from there.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Load { file } => {
            let calls = calls(&read(&file)?)?;
            let mut changed = 0_u32;
            let total = calls.len();
            for call in calls {
                changed += u32::from(context.call(call)?["changed"] == true);
            }
            let answer = json!({ "entries": total, "changed": changed });
            context.print(&answer, |answer: &Value| {
                format!("{} entries read, {} of them new", cell(&answer["entries"]), cell(&answer["changed"]))
            });
            Ok(())
        }
        Verb::Stop { reason, yes } => {
            confirmed(yes, "stop", "No agent can make a payment any more until `countersign bank resume`.")?;
            stopped(context, DeskCall::BankStop { reason })
        }
        Verb::Resume { cause: causes, yes } => {
            confirmed(yes, "resume", "Agents can make payments again, unless another cause stands.")?;
            stopped(context, DeskCall::BankResume { causes })
        }
        Verb::Status => stopped(context, DeskCall::BankStatus {}),
    }
}

/// One typed word between a slip of the hand and every payment of the bank.
///
/// # Errors
/// `not_confirmed`: another word, or nobody there to type one.
fn confirmed(yes: bool, word: &str, consequence: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let mut typed = String::new();
    if std::io::stdin().is_terminal() {
        eprint!("{consequence}\nType {word} to go on: ");
        // Nothing typed is another word.
        let _ = std::io::stdin().read_line(&mut typed);
    }
    if typed.trim() == word {
        return Ok(());
    }
    let next = format!("type {word} at a terminal, or add --yes");
    Err(Failure::usage("not_confirmed", "nothing was changed: nobody confirmed it", next))
}

fn stopped(context: &Context, call: DeskCall) -> Result<(), Failure> {
    let answer = context.call(AdminCall::Desk(call))?;
    context.print(&answer, |answer| {
        let state = if answer["stopped"] == true {
            let (by, since) = (cell(&answer["by"]), cell(&answer["since"]));
            format!("payments are stopped by {by} since {since}: {}", cell(&answer["reason"]))
        } else {
            "payments are made".to_owned()
        };
        let (cases, orders) = (cell(&answer["cases_waiting"]), cell(&answer["orders_waiting"]));
        let changed = unless_changed(answer);
        let mut lines = vec![format!(
            "{state}{changed}; {cases} cases wait for an answer, {orders} orders for the core banking system"
        )];
        lines.extend(answer["causes"].as_array().into_iter().flatten().map(|one| cause(one, &answer["node"])));
        lines.join("\n")
    });
    Ok(())
}

/// A cause that stands: whom it stops, what its probes say, and what to do.
fn cause(cause: &Value, node: &Value) -> String {
    let whom =
        if cause["reach"] == "node" { format!("this node ({})", cell(node)) } else { "the whole bank".to_owned() };
    let (name, since) = (cell(&cause["cause"]), cell(&cause["since"]));
    let probes = match &cause["probes"] {
        Value::Null => String::new(),
        probes => {
            format!("; {} of {} probes succeeded in a row", cell(&probes["succeeded"]), cell(&probes["needed"]))
        }
    };
    format!("  {name:<12} stops {whom} since {since}{probes}\n    next: {}", cell(&cause["next_step"]))
}

fn read(file: &Path) -> Result<Book, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let message = format!("{} cannot be read: {error}", file.display());
        Failure::usage("bank_file_unreadable", message, "check the path")
    })?;
    toml::from_str(&text).map_err(|error| {
        let message = format!("{}: {}", file.display(), error.to_string().trim_end());
        Failure::usage("bank_file_invalid", message, "see scripts/demo-bank.toml for the form")
    })
}

/// Merchants before their products. Every amount is checked before the first call.
fn calls(book: &Book) -> Result<Vec<AdminCall>, Failure> {
    let currency = book.currency;
    let mut calls = vec![];
    for account in &book.account {
        let money = |text: &Option<String>| text.as_deref().map(|text| amount(text, currency)).transpose();
        calls.push(AdminCall::AccountOpen(NewAccount {
            account: account.id.clone(),
            owner: account.owner.clone(),
            currency,
            opening: money(&account.opening)?,
            overdraft: money(&account.overdraft)?,
            day_max: money(&account.day_max)?,
            zone: account.time_zone.unwrap_or(Zone::UTC),
        }));
    }
    for merchant in &book.merchant {
        calls.push(AdminCall::MerchantAdd {
            merchant: merchant.domain.clone(),
            name: merchant.name.clone(),
            currency,
            looks_like_accepted: false,
            on_hostile: OnHostile::Refuse,
        });
    }
    for product in &book.product {
        calls.push(AdminCall::ProductAdd {
            merchant: product.merchant.clone(),
            product: product.id.clone(),
            title: product.title.clone(),
            price: amount(&product.price, currency)?,
            on_hostile: OnHostile::Refuse,
        });
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_bank_is_read_whole() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/demo-bank.toml");
        let calls = calls(&read(&path).unwrap()).unwrap();
        assert_eq!(calls.len(), 3 + 3 + 8);
        let laptop = calls.iter().any(|call| {
            matches!(call, AdminCall::ProductAdd { product, price, .. }
                if product.as_str() == "B08N5WRWNW" && price.decimal() == "1899.99")
        });
        assert!(laptop);
    }

    #[test]
    fn a_bad_amount_is_refused_before_anything_is_loaded() {
        let text = "currency = \"USD\"\n[[account]]\nid = \"A\"\nowner = \"O\"\nopening = \"1.999\"\n";
        assert_eq!(calls(&toml::from_str(text).unwrap()).unwrap_err().name, "amount_malformed");
        assert!(toml::from_str::<Book>("currency = \"USD\"\nsurprise = 1\n").is_err());
    }
}
