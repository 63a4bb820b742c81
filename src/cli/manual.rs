//! `countersign manual`: people work the queue of payments that were asked for while none could be made.

use clap::Subcommand;
use serde_json::Value;

use super::context::Context;
use super::table::{cell, table, with_next};
use crate::front::admin::AdminCall;
use crate::kernel::command::{CaseVerdict, TakeFrom};
use crate::kernel::types::CaseId;
use crate::ops::failure::Failure;
use crate::payment::DeskCall;
use crate::store::CasePlace;

/// Work the manual queue: take a case, then say what becomes of its payment
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Show the cases: those that wait, then the others, newest first, a page at a time.
    #[command(after_help = "Examples:
  countersign manual list --json
  countersign manual list --after queued:case_01M7YDFSJH4NW3PWHV6A9B342B")]
    List(List),
    /// Show one case: who asked for what, why it waits, who works on it, and who decided.
    #[command(after_help = "Example:\n  countersign manual show case_01M7YDFSJH4NW3PWHV6A9B342B")]
    Show { case: CaseId },
    /// Work on a case from now on (approver or officer); everybody sees it. Nobody takes their own.
    #[command(after_help = "Examples:
  countersign manual take case_01M7YDFSJH4NW3PWHV6A9B342B
  countersign manual take case_01M7YDFSJH4NW3PWHV6A9B342B --take-over")]
    Take {
        case: CaseId,
        /// Take it from whoever works on it; recorded.
        #[arg(long)]
        take_over: bool,
    },
    /// Say what becomes of it (approver or officer). Above [payment] manual_two_people_above a second
    /// person has to say the same.
    #[command(after_help = "Examples:
  countersign manual done case_01M7YDFSJH4NW3PWHV6A9B342B --release --note \"checked with the owner\"
  countersign manual done case_01M7YDFSJH4NW3PWHV6A9B342B --reject --note \"duplicate\"
  countersign manual done case_01M7YDFSJH4NW3PWHV6A9B342B --paid-elsewhere SWIFT-4711 \\
      --note \"by hand\"")]
    Done {
        case: CaseId,
        #[command(flatten)]
        answer: Answer,
        /// Why; kept in the audit log.
        #[arg(long)]
        note: String,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct List {
    /// Those behind this one: the `next` of the page before.
    #[arg(long)]
    after: Option<CasePlace>,
    /// At most that many.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Answer {
    /// The payment goes on when the agent asks again. Nothing moves by itself.
    #[arg(long)]
    release: bool,
    /// It ends: the agent is told case_rejected, held funds go back.
    #[arg(long)]
    reject: bool,
    /// It was paid outside, under this reference: it ends, held funds go back, it is never paid here.
    #[arg(long, value_name = "REF")]
    paid_elsewhere: Option<String>,
}

impl Answer {
    fn verdict(self) -> CaseVerdict {
        match self.paid_elsewhere {
            Some(reference) => CaseVerdict::PaidElsewhere { reference },
            None if self.release => CaseVerdict::Release,
            None => CaseVerdict::Reject,
        }
    }
}

/// # Errors
/// What the daemon answers: `unknown_case`, `already_decided`, `case_taken`, `maker_is_checker`,
/// `second_person_needed`, `operator_not_permitted`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::List(page) => list(page, context),
        Verb::Show { case } => show(case, context),
        Verb::Take { case, take_over } => {
            let from = if take_over { TakeFrom::Anybody } else { TakeFrom::Nobody };
            let answer = context.call(AdminCall::Desk(DeskCall::CaseTake { case, from }))?;
            context.print(&answer, |answer| {
                let before = match &answer["before"] {
                    Value::Null => String::new(),
                    before => format!(", taken over from {}", cell(before)),
                };
                format!("{} is worked on by {}{before}", cell(&answer["case_id"]), cell(&answer["taken_by"]))
            });
            Ok(())
        }
        Verb::Done { case, answer, note } => done(case, answer.verdict(), note, context),
    }
}

fn list(List { after, limit }: List, context: &Context) -> Result<(), Failure> {
    let answer = context.call(AdminCall::Desk(DeskCall::CaseList { after, limit }))?;
    let columns = [
        ("CASE", "case_id"),
        ("STATUS", "status"),
        ("TAKEN BY", "taken_by"),
        ("AGENT", "agent"),
        ("TRANSACTION", "transaction_id"),
        ("CREATED", "created"),
        ("WHY", "reason"),
    ];
    context.print(&answer, |answer| {
        let page = table(answer, &columns, "No payment waits for the bank's people.");
        with_next(page, answer, &format!("manual list --limit {limit}"))
    });
    Ok(())
}

fn show(case: CaseId, context: &Context) -> Result<(), Failure> {
    let answer = context.call(AdminCall::Desk(DeskCall::CaseShow { case }))?;
    context.print(&answer, shown);
    Ok(())
}

fn done(case: CaseId, verdict: CaseVerdict, note: String, context: &Context) -> Result<(), Failure> {
    let answer = context.call(AdminCall::Desk(DeskCall::CaseResolve { case, verdict: verdict.clone(), note }))?;
    context.print(&answer, |answer| {
        let case = cell(&answer["case_id"]);
        if answer["status"] == "proposed" {
            let word = cell(&answer["proposed"]["status"]);
            return format!("{case} stays queued: \"{word}\" is one of two words, another person has to say the same");
        }
        let next = match verdict {
            CaseVerdict::Release => "the payment goes on when the agent asks again",
            CaseVerdict::Reject => "the agent is told so when it asks again",
            CaseVerdict::PaidElsewhere { .. } => "it is never paid here; the agent is told so when it asks again",
        };
        format!("{case} {}: {next}", cell(&answer["status"]))
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
        ("taken by", "taken_by"),
        ("taken at", "taken_at"),
        ("one of two", "proposed"),
        ("decided by", "decided_by"),
        ("decided at", "decided_at"),
        ("reference", "reference"),
        ("note", "note"),
    ] {
        if !answer[member].is_null() {
            lines.push(format!("  {title:<12} {}", cell(&answer[member])));
        }
    }
    lines.join("\n")
}
