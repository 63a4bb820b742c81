//! `countersign approvals`: payments that wait for a human at the bank.

use clap::Subcommand;
use serde_json::Value;

use super::context::Context;
use super::table::{cell, table, with_next};
use crate::front::admin::AdminCall;
use crate::kernel::command::Verdict;
use crate::kernel::types::ApprovalId;
use crate::ops::failure::Failure;

/// List and decide payments that wait for a human
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Show approvals, newest first, a page at a time.
    #[command(after_help = "Examples:
  countersign approvals list
  countersign approvals list --after apr_01JDA3S5TGH0K8Y7R2Q4W6E8ZX --limit 20")]
    List {
        /// Those behind this one: the `next` of the page before.
        #[arg(long)]
        after: Option<ApprovalId>,
        /// At most that many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=999))]
        limit: u32,
    },
    /// Show one approval with what it is about.
    #[command(after_help = "Example:\n  countersign approvals show apr_01JDA3S5TGH0K8Y7R2Q4W6E8ZX")]
    Show { approval: ApprovalId },
    /// Approve (approver, never the maker). The agent can then execute; a reversal is posted at once.
    #[command(
        after_help = "Example:\n  countersign approvals approve apr_01JDA3S5TGH0K8Y7R2Q4W6E8ZX --note \"called the owner\""
    )]
    Approve {
        approval: ApprovalId,
        /// Why; kept in the audit log.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Deny (approver, never the maker). The held funds are free again.
    #[command(
        after_help = "Example:\n  countersign approvals deny apr_01JDA3S5TGH0K8Y7R2Q4W6E8ZX --note \"not asked for\""
    )]
    Deny {
        approval: ApprovalId,
        /// Why; kept in the audit log.
        #[arg(long, default_value = "")]
        note: String,
    },
}

/// # Errors
/// What the daemon answers.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::List { after, limit } => {
            let mut answer = context.call(AdminCall::ApprovalsList { after, limit })?;
            if !context.json {
                flatten(&mut answer);
            }
            let columns = [
                ("APPROVAL", "approval_id"),
                ("STATUS", "status"),
                ("AMOUNT", "amount"),
                ("FROM", "from_account"),
                ("TO", "to_account"),
                ("ASKED BY", "maker"),
                ("EXPIRES", "expires"),
            ];
            context.print(&answer, |answer| {
                let page = table(answer, &columns, "Nothing waits for a human.");
                with_next(page, answer, &format!("approvals list --limit {limit}"))
            });
        }
        Verb::Show { approval } => {
            let answer = context.call(AdminCall::ApprovalsShow { approval })?;
            context.print(&answer, shown);
        }
        Verb::Approve { approval, note } => decide(context, approval, Verdict::Approve, note)?,
        Verb::Deny { approval, note } => decide(context, approval, Verdict::Deny, note)?,
    }
    Ok(())
}

fn decide(context: &Context, approval: ApprovalId, verdict: Verdict, note: String) -> Result<(), Failure> {
    let answer = context.call(AdminCall::ApprovalsDecide { approval, verdict, note })?;
    context.print(&answer, |answer| {
        let asserted = if answer["asserted"] == true { " (asserted)" } else { "" };
        format!(
            "{} is {} by {}{asserted}: transaction {}",
            cell(&answer["approval_id"]),
            cell(&answer["status"]),
            cell(&answer["decided_by"]),
            cell(&answer["transaction_id"])
        )
    });
    Ok(())
}

/// Lifts what an approval is about next to its name, for the table.
fn flatten(answer: &mut Value) {
    for item in answer["items"].as_array_mut().into_iter().flatten() {
        for member in ["amount", "from_account", "to_account"] {
            item[member] = item["summary"][member].clone();
        }
    }
}

fn shown(answer: &Value) -> String {
    let summary = &answer["summary"];
    let mut lines = vec![format!("approval     {}", cell(&answer["approval_id"]))];
    for (title, value) in [
        ("status", &answer["status"]),
        ("what", &summary["kind"]),
        ("amount", &summary["amount"]),
        ("from", &summary["from_account"]),
        ("to", &summary["to_account"]),
        ("product", &summary["product_id"]),
        ("asked by", &answer["maker"]),
        ("why", &answer["reasons"]),
        ("created", &answer["created"]),
        ("expires", &answer["expires"]),
        ("transaction", &answer["transaction_id"]),
        ("decided by", &answer["decided_by"]),
        ("note", &summary["note"]),
    ] {
        lines.push(format!("{title:<12} {}", cell(value)));
    }
    lines.join("\n")
}
