//! `countersign doctor`: every check with its result and what to do.

use super::context::Context;
use crate::front::admin::AdminCall;
use crate::ops::failure::Failure;

/// Check module, token, custody, permissions, configuration and log; exit 1 when something fails.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  countersign doctor --state ./bank
  countersign doctor --state ./bank --json")]
pub struct Args {}

pub fn run(_: Args, context: &Context) -> Result<(), Failure> {
    let report = context.call(AdminCall::Doctor {})?;
    let items = report["items"].as_array().cloned().unwrap_or_default();
    context.print(&report, |_| {
        let field = |item: &serde_json::Value, name: &str| item[name].as_str().unwrap_or_default().to_owned();
        items
            .iter()
            .map(|item| {
                let line =
                    format!("{:<5} {:<22} {}", field(item, "result"), field(item, "check"), field(item, "detail"));
                match item["next_step"].as_str() {
                    Some(next) => format!("{line}\n      next: {next}"),
                    None => line,
                }
            })
            .collect::<Vec<_>>()
            .join("\n")
    });
    let failed = items.iter().filter(|item| item["result"] == "fail").count();
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::fault("doctor_found_faults", format!("{failed} checks failed"), "do what the lines marked `fail` say"))
}
