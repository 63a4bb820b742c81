//! `countersign case`: payments that wait for the bank's people.

use clap::Subcommand;
use serde_json::Value;

use super::context::Context;
use super::table::{cell, table, with_next};
use crate::front::admin::AdminCall;
use crate::kernel::command::Verdict;
use crate::kernel::types::CaseId;
use crate::ops::failure::Failure;
use crate::payment::DeskCall;
use crate::store::CasePlace;

/// Work the manual queue: payments that were asked for while none could be made
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Show the cases: those that wait, then the others, newest first, a page at a time.
    #[command(after_help = "Examples:
  countersign case list --json
  countersign case list --after queued:case_01M7YDFSJH4NW3PWHV6A9B342B")]
    List {
        /// Those behind this one: the `next` of the page before.
        #[arg(long)]
        after: Option<CasePlace>,
        /// At most that many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show one case: who asked for what, why it waits, and who decided.
    #[command(after_help = "Example:\n  countersign case show case_01M7YDFSJH4NW3PWHV6A9B342B")]
    Show { case: CaseId },
    /// Let the payment go on when the agent asks again (approver or officer). Nothing moves by itself.
    #[command(
        after_help = "Example:\n  countersign case release case_01M7YDFSJH4NW3PWHV6A9B342B --note \"checked with the owner\""
    )]
    Release {
        case: CaseId,
        #[arg(long, default_value = "")]
        note: String,
    },
    /// End it: the agent is told case_rejected, held funds go back (approver or officer).
    #[command(after_help = "Example:\n  countersign case reject case_01M7YDFSJH4NW3PWHV6A9B342B --note \"duplicate\"")]
    Reject {
        case: CaseId,
        #[arg(long, default_value = "")]
        note: String,
    },
}

/// # Errors
/// What the daemon answers: `unknown_case`, `already_decided`, `operator_not_permitted`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let (case, verdict, note) = match args.verb {
        Verb::List { after, limit } => {
            let answer = context.call(AdminCall::Desk(DeskCall::CaseList { after, limit }))?;
            let columns = [
                ("CASE", "case_id"),
                ("STATUS", "status"),
                ("AGENT", "agent"),
                ("TRANSACTION", "transaction_id"),
                ("CREATED", "created"),
                ("WHY", "reason"),
            ];
            context.print(&answer, |answer| {
                let page = table(answer, &columns, "No payment waits for the bank's people.");
                with_next(page, answer, &format!("case list --limit {limit}"))
            });
            return Ok(());
        }
        Verb::Show { case } => {
            let answer = context.call(AdminCall::Desk(DeskCall::CaseShow { case }))?;
            context.print(&answer, shown);
            return Ok(());
        }
        Verb::Release { case, note } => (case, Verdict::Approve, note),
        Verb::Reject { case, note } => (case, Verdict::Deny, note),
    };
    let answer = context.call(AdminCall::Desk(DeskCall::CaseResolve { case, verdict, note }))?;
    context.print(&answer, |answer| {
        let next = match verdict {
            Verdict::Approve => "the payment goes on when the agent asks again",
            Verdict::Deny => "the agent is told so when it asks again",
        };
        format!("{} {}: {next}", cell(&answer["case_id"]), cell(&answer["status"]))
    });
    Ok(())
}

fn shown(answer: &Value) -> String {
    let mut lines = vec![format!("{}  {}", cell(&answer["case_id"]), cell(&answer["status"]))];
    for (title, member) in [
        ("agent", "agent"),
        ("why", "reason"),
        ("asked", "call"),
        ("transaction", "transaction_id"),
        ("created", "created"),
        ("decided by", "decided_by"),
        ("decided at", "decided_at"),
        ("note", "note"),
    ] {
        if !answer[member].is_null() {
            lines.push(format!("  {title:<12} {}", cell(&answer[member])));
        }
    }
    lines.join("\n")
}
