//! `countersign status`: what the daemon is and does right now.

use super::context::Context;
use crate::front::admin::AdminCall;
use crate::ops::failure::Failure;

/// Show the daemon's state: what is set up, what is missing, who is connected.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  countersign status --state ./bank
  countersign status --state ./bank --json")]
pub struct Args {}

pub fn run(_: Args, context: &Context) -> Result<(), Failure> {
    let status = context.call(AdminCall::Status {})?;
    context.print(&status, |status| {
        let mut lines = Vec::new();
        for (key, value) in status.as_object().into_iter().flatten() {
            match value {
                serde_json::Value::String(text) => lines.push(format!("{key:<20} {text}")),
                other => lines.push(format!("{key:<20} {other}")),
            }
        }
        lines.join("\n")
    });
    Ok(())
}
