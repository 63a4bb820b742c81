//! `countersign notify`: messages to people.

use clap::Subcommand;
use serde_json::Value;

use super::context::Context;
use super::table::{cell, table, with_next};
use crate::front::admin::AdminCall;
use crate::notify::NotifyCall;
use crate::ops::failure::Failure;
use crate::store::NoticeState;

/// See what people are told by mail, webhook and SMS, and try again what was given up
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  countersign notify list --status dead
  countersign notify test ops-mail
  countersign notify retry --all-dead
See docs/NOTIFICATIONS.md.")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Show messages, newest first, a page at a time.
    #[command(after_help = "Examples:
  countersign notify list --status dead
  countersign notify list --json --limit 1000")]
    List {
        /// Only those that wait, were taken, or were given up.
        #[arg(long, value_parser = status)]
        status: Option<NoticeState>,
        /// Those behind this one: the `next` of the page before.
        #[arg(long)]
        after: Option<String>,
        /// At most that many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show one message as it is sent, and what became of it.
    #[command(after_help = "Example:\n  countersign notify show 1042-ops-mail")]
    Show { id: String },
    /// Send what was given up again, from the first attempt on (officer or administrator).
    #[command(after_help = "Examples:
  countersign notify retry 1042-ops-mail
  countersign notify retry --all-dead --json")]
    Retry {
        #[arg(required_unless_present = "all_dead", conflicts_with = "all_dead")]
        id: Option<String>,
        /// Every message that was given up.
        #[arg(long)]
        all_dead: bool,
    },
    /// Send a test message now and say whether it was taken (officer or administrator).
    #[command(after_help = "Example:\n  countersign notify test ops-mail")]
    Test {
        /// The name of a [[notify.channel]].
        channel: String,
    },
}

fn status(text: &str) -> Result<NoticeState, String> {
    let found = NoticeState::ALL.into_iter().find(|state| state.name() == text);
    found.ok_or_else(|| "queued, sent or dead".to_owned())
}

/// # Errors
/// What the daemon answers: `unknown_notice`, `unknown_channel`, `notice_not_dead`, `notify_test_failed`,
/// `operator_not_permitted`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::List { status, after, limit } => {
            let answer = context.call(AdminCall::Notify(NotifyCall::List { state: status, after, limit }))?;
            let columns = [
                ("ID", "id"),
                ("STATE", "state"),
                ("KIND", "kind"),
                ("CREATED", "created"),
                ("TRIES", "attempts"),
                ("TITLE", "title"),
                ("ERROR", "error"),
            ];
            let of_state = status.map(|status| format!(" --status {}", status.name())).unwrap_or_default();
            context.print(&answer, |answer| {
                let page = table(answer, &columns, &none(status));
                with_next(page, answer, &format!("notify list --limit {limit}{of_state}"))
            });
        }
        Verb::Show { id } => {
            let answer = context.call(AdminCall::Notify(NotifyCall::Show { id }))?;
            context.print(&answer, shown);
        }
        Verb::Retry { id, all_dead: _ } => {
            let answer = context.call(AdminCall::Notify(NotifyCall::Retry { id }))?;
            context.print(&answer, |answer| match answer["retried"].as_u64() {
                Some(0) => "Nothing was given up: nothing is sent again.".to_owned(),
                _ => format!("{} messages are sent again: countersign notify list", cell(&answer["retried"])),
            });
        }
        Verb::Test { channel } => {
            let answer = context.call(AdminCall::Notify(NotifyCall::Test { channel }))?;
            context.print(&answer, |answer| {
                format!(
                    "{} took the message {} ({})",
                    cell(&answer["target"]),
                    cell(&answer["id"]),
                    cell(&answer["kind"])
                )
            });
        }
    }
    Ok(())
}

/// What an empty list means.
fn none(status: Option<NoticeState>) -> String {
    match status {
        None => "There are no messages yet: nobody was told anything.".to_owned(),
        Some(status) => format!("There are no messages that are {}.", status.name()),
    }
}

fn shown(answer: &Value) -> String {
    let mut lines = vec![format!("{}  {}", cell(&answer["id"]), cell(&answer["state"]))];
    for (title, member) in [
        ("channel", "channel"),
        ("kind", "kind"),
        ("created", "created"),
        ("next try", "due"),
        ("tries", "attempts"),
        ("error", "error"),
        ("ended", "ended"),
    ] {
        if !answer[member].is_null() {
            lines.push(format!("  {title:<12} {}", cell(&answer[member])));
        }
    }
    lines.push(String::new());
    lines.push(cell(&answer["title"]));
    lines.extend(answer["lines"].as_array().into_iter().flatten().map(|line| format!("  {}", cell(line))));
    for (name, id) in answer["subjects"].as_object().into_iter().flatten() {
        lines.push(format!("  {name}: {}", cell(id)));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_says_what_there_is_none_of() {
        assert_eq!(none(None), "There are no messages yet: nobody was told anything.");
        assert_eq!(none(Some(NoticeState::Dead)), "There are no messages that are dead.");
    }
}
