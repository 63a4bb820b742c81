//! `countersign migrate`: the store's schema, brought up to date while the daemon is down.

use serde_json::json;

use super::context::Context;
use super::table::cell;
use crate::app::{self, Migration};
use crate::ops::failure::Failure;

/// Bring the store's schema up to date.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  countersign migrate --state /var/lib/countersign
  countersign migrate --check  # exit code 3 when migrations wait

Migrations only go forward: make a copy of the store first. `serve` runs them too when it starts;
this verb is for those who want to see it happen. A schema that is newer than this program is
refused as schema_too_new.")]
pub struct Args {
    /// Only tell what waits.
    #[arg(long)]
    check: bool,
}

/// # Errors
/// `already_running`, `schema_too_new`, `migrations_wait`; the store's.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let what = if args.check { Migration::Look } else { Migration::Run };
    let schema = app::migrate(&context.state, what)?;
    let to = if args.check { schema.found } else { schema.known };
    let answer = json!({ "from": schema.found, "to": to, "known": schema.known, "migrations": schema.waiting, "done": !args.check });
    context.print(&answer, |answer| {
        let mut lines = vec![match (schema.waiting.is_empty(), args.check) {
            (true, _) => format!("version {}: up to date", schema.found),
            (false, true) => format!("version {}, this program knows {}", schema.found, schema.known),
            (false, false) => format!("version {} → {}", schema.found, schema.known),
        }];
        let names = answer["migrations"].as_array().into_iter().flatten();
        lines.extend(names.zip(schema.found + 1..).map(|(name, version)| format!("  {version}  {}", cell(name))));
        lines.join("\n")
    });
    if args.check && !schema.waiting.is_empty() {
        return Err(Failure::refused(
            "migrations_wait",
            format!("{} migrations wait", schema.waiting.len()),
            "make a copy of the store, then run `countersign migrate`",
        ));
    }
    Ok(())
}
