//! `countersign audit subjects|hold|release|erase`: what leaves say of one customer, agent or operator.

use std::io::IsTerminal;

use serde_json::Value;

use super::context::Context;
use super::table::{cell, table, unless_changed, with_next};
use crate::audit::subjects::SubjectCall;
use crate::front::admin::AdminCall;
use crate::kernel::subject::DataSubject;
use crate::ops::failure::Failure;

#[derive(Clone, Debug, clap::Subcommand)]
pub enum Verb {
    /// List whom leaves are about: data keys, since when, who is held
    #[command(after_help = "Examples:
  countersign audit subjects
  countersign audit subjects --after owner:OWN_001 --json")]
    Subjects {
        /// Those behind this one: the `next` of the page before
        #[arg(long)]
        after: Option<String>,
        /// At most that many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Legal hold: nothing of a subject is erased until it is released (officer or administrator)
    #[command(after_help = "Examples:
  countersign audit hold owner:OWN_001 --reason \"court order 17/2026\"
  countersign audit hold all --reason \"inquiry 4/2026: nothing is to be destroyed\"")]
    Hold {
        /// owner:ID, agent:SPIFFE-ID, operator:NAME, program:UID, system, or all of them
        subject: DataSubject,
        /// Why: kept in the audit log
        #[arg(long)]
        reason: String,
    },
    /// End a legal hold (officer or administrator)
    #[command(after_help = "Example:
  countersign audit release owner:OWN_001 --reason \"the case is closed\"")]
    Release {
        /// owner:ID, agent:SPIFFE-ID, operator:NAME, program:UID, system, or all of them
        subject: DataSubject,
        /// Why: kept in the audit log
        #[arg(long)]
        reason: String,
    },
    /// Erase for ever what leaves say of a subject; every proof stays. Takes two people
    ///
    /// The first call is kept for 30 days; the second one, by another officer or administrator, destroys the subject's
    /// data keys. Who ended the subject's last legal hold is neither of the two.
    /// The book, which the law has a bank keep, stays as it is, and so do receipts that were handed out.
    #[command(after_help = "Examples, run by two people under their own user ids:
  countersign audit erase owner:OWN_001 --reason \"request 2026-31, art. 17\" --yes
  countersign audit erase owner:OWN_001 --reason \"seen\" --yes
At a terminal it asks for one typed word; --yes leaves the question out. Name nobody in the
reason: it stays when the subject is gone. docs/RETENTION.md says what is erased and what is not.")]
    Erase {
        /// owner:ID, agent:SPIFFE-ID, operator:NAME or program:UID
        subject: DataSubject,
        /// Why: kept in the audit log
        #[arg(long)]
        reason: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Asks the daemon and prints its answer.
///
/// # Errors
/// `not_confirmed`; the daemon's: `under_legal_hold`, `maker_is_checker`, `operator_not_permitted`, …
pub fn run(verb: Verb, context: &Context) -> Result<(), Failure> {
    match verb {
        Verb::Subjects { after, limit } => {
            let answer = ask(context, SubjectCall::List { after, limit })?;
            context.print(&answer, |answer| list_text(answer, limit));
        }
        Verb::Hold { subject, reason } => {
            let answer = ask(context, SubjectCall::Hold { subject, reason })?;
            context.print(&answer, |answer| {
                format!("{} is held: nothing of it is erased{}", cell(&answer["subject"]), unless_changed(answer))
            });
        }
        Verb::Release { subject, reason } => {
            let answer = ask(context, SubjectCall::Release { subject, reason })?;
            context.print(&answer, |answer| {
                format!("{} is held no more{}", cell(&answer["subject"]), unless_changed(answer))
            });
        }
        Verb::Erase { subject, reason, yes } => {
            confirmed(context, yes, &subject)?;
            let answer = ask(context, SubjectCall::Erase { subject, reason })?;
            context.print(&answer, erased_text);
        }
    }
    Ok(())
}

fn ask(context: &Context, call: SubjectCall) -> Result<Value, Failure> {
    context.call(AdminCall::Subjects(call))
}

/// One typed word between a slip of the hand and what cannot be undone; whoever is the second of two people sees before
/// it that they are, and what the first one said.
fn confirmed(context: &Context, yes: bool, subject: &DataSubject) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let standing = standing(&ask(context, SubjectCall::Show { subject: subject.clone() })?);
    let mut typed = String::new();
    if std::io::stdin().is_terminal() {
        let lost = format!("What the audit log says of {subject} is lost for ever once two people have asked.");
        eprint!("{lost}\n{}\nType erase to go on: ", standing.join("\n"));
        // Nothing typed is another word.
        let _ = std::io::stdin().read_line(&mut typed);
    }
    if typed.trim() == "erase" {
        return Ok(());
    }
    let message = format!("nothing was changed: nobody confirmed it. {}", standing.join(" "));
    Err(Failure::usage("not_confirmed", message, "type erase at a terminal, or add --yes"))
}

/// Who has asked before, and who ended a hold, a sentence each.
fn standing(line: &Value) -> Vec<String> {
    let (asked, released) = (&line["erasure_asked"], &line["released"]);
    let first = if asked.is_null() {
        "Nobody has asked yet: this is the first of two calls.".to_owned()
    } else {
        let [by, at, until] = ["by", "at", "until"].map(|member| cell(&asked[member]));
        let (why, keys) = (cell(&asked["reason"]), cell(&line["keys"]));
        format!("{by} has asked on {at} ({why}): until {until} this is the second call, and destroys {keys} data keys.")
    };
    let ended =
        |released: &Value| format!("{} ended a legal hold on {}.", cell(&released["by"]), cell(&released["at"]));
    std::iter::once(first).chain(released.is_object().then(|| ended(released))).collect()
}

fn list_text(answer: &Value, limit: u32) -> String {
    let columns = [
        ("SUBJECT", "subject"),
        ("KEYS", "keys"),
        ("FROM", "first_month"),
        ("TO", "last_month"),
        ("HELD", "held_by"),
        ("ERASURE ASKED BY", "asked_by"),
    ];
    let mut shown = answer.clone();
    for item in shown["items"].as_array_mut().into_iter().flatten() {
        item["held_by"] = item["held"]["by"].clone();
        item["asked_by"] = item["erasure_asked"]["by"].clone();
    }
    let page = table(&shown, &columns, "No leaf is sealed and nobody is held.");
    let page = with_next(page, answer, &format!("audit subjects --limit {limit}"));
    match answer["leaves_in_the_clear"].as_u64() {
        Some(0) | None => page,
        Some(count) => format!("{page}\n{}", in_the_clear(count)),
    }
}

fn in_the_clear(count: u64) -> String {
    format!("{count} leaves were written before leaves were sealed: they say what they say, whoever is erased")
}

fn erased_text(answer: &Value) -> String {
    let (subject, keys) = (cell(&answer["subject"]), cell(&answer["keys"]));
    if answer["status"] == "erasure_asked" {
        return format!(
            "asked: {subject} has {keys} data keys\n  next: another officer or administrator runs the same command"
        );
    }
    if answer["changed"] == false {
        return format!("nothing of {subject} is left in the audit log, or it never was there");
    }
    let mut text = format!(
        "erased: {keys} data keys of {subject} are destroyed; every proof verifies as before\n  the log calls it {}\n  \
         with the salt {}, which is kept nowhere else, you can show whose erasure that was",
        cell(&answer["pseudonym"]),
        cell(&answer["salt"]),
    );
    if let Some(count) = answer["leaves_in_the_clear"].as_u64().filter(|count| *count > 0) {
        text = format!("{text}\n  {}", in_the_clear(count));
    }
    text
}
