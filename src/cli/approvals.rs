//! `countersign approvals`: payments that wait for a human at the bank.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::Value;

use super::context::Context;
use super::deciding::Person;
use super::table::{cell, table, with_next};
use crate::front::admin::AdminCall;
use crate::kernel::command::Verdict;
use crate::kernel::quorum::Side;
use crate::kernel::types::ApprovalId;
use crate::ops::failure::Failure;

/// List and decide payments that wait for a human
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  countersign approvals list
  countersign approvals show apr_01JDA3S5TGH0K8Y7R2Q4W6E8ZX
  countersign approvals approve apr_01JDA3S5TGH0K8Y7R2Q4W6E8ZX --as ./dora --note \"called them\"
See docs/APPROVALS.md.")]
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
    /// Approve, never what one made. What completes the gates lets the agent execute; a reversal is posted at once.
    #[command(after_help = "\
Examples:
  countersign approvals approve apr_01JDA3S5TGH0K8Y7R2Q4W6E8ZX --as ./dora --note \"called them\"
  countersign approvals approve apr_01JDA3S5TGH0K8Y7R2Q4W6E8ZX
Without --as the operator is known by user id alone, where policy.unsigned_approvals lets that
count.")]
    Approve {
        approval: ApprovalId,
        /// The person's own state directory: their token signs.
        #[arg(long = "as", value_name = "DIR")]
        person: Option<PathBuf>,
        /// Why; kept in the audit log.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Deny, never what one made. That ends it; the held funds are free again.
    #[command(after_help = "\
Example:
  countersign approvals deny apr_01JDA3S5TGH0K8Y7R2Q4W6E8ZX --as ./dora --note \"not asked for\"")]
    Deny {
        approval: ApprovalId,
        /// The person's own state directory: their token signs.
        #[arg(long = "as", value_name = "DIR")]
        person: Option<PathBuf>,
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
            context.print(&answer, |answer| {
                let page = table(answer, &COLUMNS, "Nothing waits for a human.");
                with_next(page, answer, &format!("approvals list --limit {limit}"))
            });
        }
        Verb::Show { approval } => {
            let answer = context.call(AdminCall::ApprovalsShow { approval })?;
            context.print(&answer, shown);
        }
        Verb::Approve { approval, person, note } => decide(context, approval, person, Verdict::Approve, note)?,
        Verb::Deny { approval, person, note } => decide(context, approval, person, Verdict::Deny, note)?,
    }
    Ok(())
}

fn decide(
    context: &Context,
    approval: ApprovalId,
    person: Option<PathBuf>,
    verdict: Verdict,
    note: String,
) -> Result<(), Failure> {
    let side = Side::Bank;
    let answer = match person {
        Some(directory) => Person::of(&directory, context.json)?.say(context, approval, side, verdict, note)?,
        None => context.call(AdminCall::ApprovalsDecide { approval, side, verdict, note, signed: None })?,
    };
    context.print(&answer, said);
    Ok(())
}

/// What came of a person's word.
pub(super) fn said(answer: &Value) -> String {
    let proof = match (&answer["signed"], &answer["asserted"]) {
        (Value::Bool(true), _) => " (signed)",
        (_, Value::Bool(true)) => " (asserted)",
        _ => "",
    };
    let (approval, by) = (cell(&answer["approval_id"]), cell(&answer["decided_by"]));
    let came = match answer["status"].as_str() {
        Some("pending") => format!("{approval} goes on waiting: the word of {by}{proof} counts"),
        Some(_) | None => format!("{approval} is {} by {by}{proof}", cell(&answer["status"])),
    };
    let mut lines = vec![format!("{came}: transaction {}", cell(&answer["transaction_id"]))];
    let pending = answer["pending"].as_array().map(Vec::as_slice).unwrap_or_default();
    lines.extend(pending.iter().map(|word| format!("  still: {}", cell(word))));
    lines.join("\n")
}

/// How approvals are listed.
pub(super) const COLUMNS: [(&str, &str); 8] = [
    ("APPROVAL", "approval_id"),
    ("STATUS", "status"),
    ("AMOUNT", "amount"),
    ("FROM", "from_account"),
    ("TO", "to_account"),
    ("ASKED BY", "maker"),
    ("WAITS FOR", "pending"),
    ("EXPIRES", "expires"),
];

/// Lifts what an approval is about next to its name, for the table.
pub(super) fn flatten(answer: &mut Value) {
    for item in answer["items"].as_array_mut().into_iter().flatten() {
        for member in ["amount", "from_account", "to_account"] {
            item[member] = item["summary"][member].clone();
        }
    }
}

/// The reasons, and where the monitor's are told: an approval has only their name.
fn why(answer: &Value) -> String {
    let reasons = cell(&answer["reasons"]);
    let is_scored = answer["reasons"].as_array().into_iter().flatten().any(|reason| reason == "risk_score");
    match answer["maker"].as_str().and_then(|maker| maker.rsplit('/').next()) {
        Some(agent) if is_scored => format!("{reasons} (score and reasons: countersign monitor show {agent})"),
        Some(_) | None => reasons,
    }
}

/// The gates that are open, each with who can speak at it; `-` when nothing is waited for.
fn waits_for(answer: &Value) -> String {
    if answer["pending"].as_array().is_none_or(Vec::is_empty) {
        return "-".to_owned();
    }
    let open = answer["gates"].as_array().into_iter().flatten().filter(|gate| gate["given"] != gate["needed"]);
    let words = open.map(|gate| {
        let of = format!("{} of {}", cell(&gate["given"]), cell(&gate["needed"]));
        match gate["roles"].as_array() {
            Some(roles) => {
                let then = if gate["ordered"] == true { ", then " } else { " or " };
                let roles: Vec<String> = roles.iter().map(cell).collect();
                format!("the bank's approval ({of} given; by {})", roles.join(then))
            }
            None => format!("the owner's consent ({of} given)"),
        }
    });
    words.collect::<Vec<_>>().join("; ")
}

pub(super) fn shown(answer: &Value) -> String {
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
        ("created", &answer["created"]),
        ("expires", &answer["expires"]),
        ("transaction", &answer["transaction_id"]),
        ("decided by", &answer["decided_by"]),
        ("note", &summary["note"]),
    ] {
        lines.push(format!("{title:<12} {}", cell(value)));
    }
    lines.push(format!("{:<12} {}", "why", why(answer)));
    lines.push(format!("{:<12} {}", "waits for", waits_for(answer)));
    for word in answer["words"].as_array().into_iter().flatten() {
        let proof = if word["signed"] == true { "signed" } else { "unsigned" };
        lines.push(format!(
            "{:<12} {} as {}: {} ({proof}) {}",
            "word",
            cell(&word["person"]),
            cell(&word["role"]),
            cell(&word["answer"]),
            cell(&word["at"])
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_is_waited_for_and_where_a_score_is_told_is_said() {
        let mut approval = json!({
            "approval_id": "apr_01", "status": "pending", "maker": "spiffe://b.example/agent/purchaser/shopper",
            "reasons": ["above_threshold", "risk_score"],
            "pending": ["owner_consent_pending", "bank_approval_pending 1 of 2"],
            "gates": [
                { "gate": "owner", "given": 0, "needed": 1 },
                { "gate": "bank", "approvals": 2, "roles": ["approver", "officer"], "ordered": false, "given": 1, "needed": 2 },
            ],
        });
        let text = shown(&approval);
        for part in [
            "the owner's consent (0 of 1 given)",
            "the bank's approval (1 of 2 given; by approver or officer)",
            "above_threshold,risk_score (score and reasons: countersign monitor show shopper)",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        approval["pending"] = json!([]);
        approval["reasons"] = json!(["above_threshold"]);
        let text = shown(&approval);
        assert!(!text.contains("given") && !text.contains("monitor"), "{text}");
    }

    #[test]
    fn a_word_that_decides_nothing_yet_is_told_as_one() {
        let mut answer = json!({
            "approval_id": "apr_01", "status": "pending", "decided_by": "dora", "signed": true, "transaction_id": "txn_01",
            "pending": ["bank_approval_pending 1 of 2"],
        });
        let text = said(&answer);
        assert!(
            text.starts_with("apr_01 goes on waiting: the word of dora (signed) counts: transaction txn_01"),
            "{text}"
        );
        assert!(text.contains("still: bank_approval_pending 1 of 2"), "{text}");
        (answer["status"], answer["pending"]) = (json!("approved"), json!([]));
        assert_eq!(said(&answer), "apr_01 is approved by dora (signed): transaction txn_01");
    }
}
