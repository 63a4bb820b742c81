//! `countersign manual`: people work the queue of payments that were asked for while none could be made.

use clap::Subcommand;
use serde_json::{Value, json};

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
#[command(after_help = "\
Examples:
  countersign manual list
  countersign manual take case_01M7YDFSJH4NW3PWHV6A9B342B
  countersign manual done case_01M7YDFSJH4NW3PWHV6A9B342B --release --note \"checked with the owner\"
See docs/BREAKER.md.")]
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
            let call = DeskCall::CaseTake { case: case.clone(), from };
            let answer = context.call(AdminCall::Desk(call)).map_err(|failure| of_case(&case, failure))?;
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
    context.print(&answer, |answer| with_next(listed(answer), answer, &format!("manual list --limit {limit}")));
    Ok(())
}

/// The cases as a table: what each is about, and what it waits for.
fn listed(answer: &Value) -> String {
    let columns = [
        ("CASE", "case_id"),
        ("STATUS", "standing"),
        ("ASKED", "tool"),
        ("AMOUNT", "money"),
        ("PAYEE", "payee"),
        ("AGENT", "agent"),
        ("TAKEN BY", "taken_by"),
        ("CREATED", "created"),
        ("WHY", "reason"),
    ];
    let mut rows = answer.clone();
    for item in rows["items"].as_array_mut().into_iter().flatten() {
        item["standing"] = json!(standing(item));
        item["money"] = if item["amount"].is_null() { Value::Null } else { json!(money(item)) };
    }
    table(&rows, &columns, "No payment waits for the bank's people.")
}

/// Whether it waits for an answer, for the second one, or what was decided.
fn standing(case: &Value) -> String {
    match (case["waits_for"].as_str(), &case["proposed"]) {
        (Some("second_word"), proposed) => {
            format!("waits for a second person; {} said {}", cell(&proposed["by"]), word(&proposed["status"]))
        }
        (_, _) if case["status"] == "queued" => "waits for an answer".to_owned(),
        (_, _) => word(&case["status"]),
    }
}

/// A verdict in words.
fn word(status: &Value) -> String {
    cell(status).replace('_', " ")
}

fn money(case: &Value) -> String {
    format!("{} {}", cell(&case["amount"]), cell(&case["currency"]))
}

fn show(case: CaseId, context: &Context) -> Result<(), Failure> {
    let answer = context.call(AdminCall::Desk(DeskCall::CaseShow { case }))?;
    context.print(&answer, shown);
    Ok(())
}

fn done(case: CaseId, verdict: CaseVerdict, note: String, context: &Context) -> Result<(), Failure> {
    let call = DeskCall::CaseResolve { case: case.clone(), verdict: verdict.clone(), note };
    let answer = context.call(AdminCall::Desk(call)).map_err(|failure| of_case(&case, failure))?;
    context.print(&answer, |answer| {
        let case = cell(&answer["case_id"]);
        if answer["status"] == "proposed" {
            let word = word(&answer["proposed"]["status"]);
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

/// What was decided already is a case here, and no approval.
fn of_case(case: &CaseId, failure: Failure) -> Failure {
    if failure.name != "already_decided" {
        return failure;
    }
    let message = "the case was decided already".to_owned();
    Failure { message, next_step: format!("see `countersign manual show {case}`"), ..failure }
}

fn shown(answer: &Value) -> String {
    let mut lines = vec![format!("{}  {}", cell(&answer["case_id"]), standing(answer))];
    let mut line = |title: &str, text: String| lines.push(format!("  {title:<12} {text}"));
    if !answer["tool"].is_null() {
        line("asked", cell(&answer["tool"]));
    }
    if !answer["amount"].is_null() {
        line("amount", money(answer));
    }
    for (title, value) in [
        ("from", &answer["from_account"]),
        ("payee", &answer["payee"]),
        ("product", &answer["call"]["product_id"]),
        ("key", &answer["call"]["idempotency_key"]),
        ("queued by", &answer["call"]["queued_by"]),
        ("agent", &answer["agent"]),
        ("why", &answer["reason"]),
        ("transaction", &answer["transaction_id"]),
        ("created", &answer["created"]),
        ("taken by", &answer["taken_by"]),
        ("taken at", &answer["taken_at"]),
    ] {
        if !value.is_null() {
            line(title, cell(value));
        }
    }
    let proposed = &answer["proposed"];
    if !proposed.is_null() {
        let reference = match &proposed["reference"] {
            Value::Null => String::new(),
            reference => format!(", reference {}", cell(reference)),
        };
        let (said, by, at) = (word(&proposed["status"]), cell(&proposed["by"]), cell(&proposed["at"]));
        line("first word", format!("{said}, by {by} at {at}{reference}: {}", cell(&proposed["note"])));
    }
    for (title, member) in
        [("decided by", "decided_by"), ("decided at", "decided_at"), ("reference", "reference"), ("note", "note")]
    {
        if !answer[member].is_null() {
            line(title, cell(&answer[member]));
        }
    }
    if answer["waits_for"] == "second_word" {
        line("next", "another person says the same: countersign manual done, see its --help".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case() -> Value {
        json!({
            "case_id": "case_01", "status": "queued", "waits_for": "second_word", "tool": "authorize_transfer",
            "amount": "2500.00", "currency": "USD", "from_account": "CHK_001", "payee": "SAV_001",
            "call": { "tool": "authorize_transfer", "idempotency_key": "rent-11" },
            "agent": "spiffe://b.example/agent/purchaser/s", "reason": "drill", "transaction_id": null,
            "created": "2026-11-22T19:00:00.000Z", "taken_by": "alice", "taken_at": "2026-11-22T19:01:00.000Z",
            "proposed": { "status": "paid_elsewhere", "by": "alice", "at": "2026-11-22T19:02:00.000Z", "note": "by hand",
                          "reference": "SWIFT-4711" },
            "decided_by": null, "decided_at": null, "reference": null, "note": null,
        })
    }

    #[test]
    fn a_second_person_finds_what_waits_for_them_and_reads_no_json() {
        let mut plain = case();
        (plain["waits_for"], plain["proposed"]) = (json!("answer"), Value::Null);
        let list = listed(&json!({ "items": [case(), plain] }));
        for part in ["2500.00 USD", "SAV_001", "authorize_transfer", "second person; alice said paid elsewhere"] {
            assert!(list.contains(part), "{part}: {list}");
        }
        assert!(list.contains("waits for an answer"), "{list}");
        let one = shown(&case());
        for part in ["2500.00 USD", "rent-11", "first word", "by alice", "SWIFT-4711: by hand", "manual done"] {
            assert!(one.contains(part), "{part}: {one}");
        }
        assert!(!one.contains('{') && !list.contains('{'), "{one}\n{list}");
    }

    #[test]
    fn a_case_that_is_over_points_at_itself() {
        let case: CaseId = "case_01M7YDFSJH4NW3PWHV6A9B342B".parse().unwrap();
        let told = of_case(&case, Failure::refused("already_decided", "the approval was decided already", "approvals"));
        assert_eq!(told.next_step, "see `countersign manual show case_01M7YDFSJH4NW3PWHV6A9B342B`");
        assert_eq!(of_case(&case, Failure::refused("unknown_case", "none", "look")).next_step, "look");
    }

    #[test]
    fn a_case_that_a_machine_queued_and_one_that_is_over_say_so() {
        let over = json!({ "case_id": "case_02", "status": "rejected", "waits_for": null, "call": { "queued_by": "core" },
            "reason": "core_refused", "decided_by": "alice", "note": "duplicate" });
        let text = shown(&over);
        assert!(text.starts_with("case_02  rejected") && text.contains("queued by    core"), "{text}");
        assert!(!text.contains("amount") && !text.contains("next"), "{text}");
    }
}
