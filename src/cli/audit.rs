//! `countersign audit`: read the audit log, and rebuild it to see that nothing was changed.

use serde_json::Value;

use crate::cli::context::Context;
use crate::front::admin::AdminCall;
use crate::ops::failure::Failure;

/// Read the audit log or check it
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  countersign audit show --limit 5
  countersign audit check")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Show the newest leaves: who asked for what, what was decided, and whether it is under a signed checkpoint
    #[command(after_help = "Examples:
  countersign audit show
  countersign audit show --limit 100 --json")]
    Show {
        /// Leaves to show, newest last, at most 1000
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Rebuild the tree from every stored leaf and compare it with the newest signed checkpoint
    #[command(after_help = "Examples:
  countersign audit check
  countersign audit check --json")]
    Check,
}

/// Asks the daemon and prints its answer.
///
/// # Errors
/// The daemon's, among them `log_damaged`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Show { limit } => {
            let answer = context.call(AdminCall::AuditShow { limit })?;
            context.print(&answer, show_text);
        }
        Verb::Check => {
            let answer = context.call(AdminCall::AuditCheck {})?;
            context.print(&answer, check_text);
        }
    }
    Ok(())
}

fn show_text(answer: &Value) -> String {
    let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines: Vec<String> = items.iter().map(leaf_line).collect();
    lines.push(format!("{} leaves, {} under a signed checkpoint", answer["size"], answer["signed_size"]));
    lines.join("\n")
}

fn leaf_line(leaf: &Value) -> String {
    let body = &leaf["body"];
    let shown = match body {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => body.to_string(),
    };
    let state = if leaf["signed"] == true { "signed " } else { "waiting" };
    format!("{:>8}  {state}  {shown}", leaf["index"].to_string())
}

fn check_text(answer: &Value) -> String {
    format!(
        "the log {} is sound\n  leaves rebuilt under the signed checkpoint: {}\n  root: {}\n  \
         waiting for a signature: {}, for a place: {}",
        answer["origin"].as_str().unwrap_or_default(),
        answer["signed_size"],
        answer["root"].as_str().unwrap_or_default(),
        answer["unsigned_leaves"],
        answer["waiting"],
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn leaves_are_shown_one_a_line_with_their_state() {
        let answer = json!({"items": [
            {"index": 7, "commitment": "00", "signed": true, "body": {"tool": "execute_purchase"}},
            {"index": 8, "commitment": "00", "signed": false, "body": "not json"},
        ], "next": null, "size": 9, "signed_size": 8});
        assert_eq!(
            show_text(&answer),
            "       7  signed   {\"tool\":\"execute_purchase\"}\n       8  waiting  not json\n\
             9 leaves, 8 under a signed checkpoint"
        );
    }
}
