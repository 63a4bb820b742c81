//! `countersign monitor`: why an agent's calls were held, and whether the log gives the same scores again.

use clap::{Args as ClapArgs, Subcommand};
use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::documents::text;
use crate::front::admin::AdminCall;
use crate::ops::failure::Failure;

/// See what the monitor knows, what it raised, and replay its scores.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  countersign monitor show shopper
  countersign monitor alerts --limit 5
  countersign monitor replay --agent shopper")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show an agent's last scores with their reasons, newest first.
    #[command(after_help = "Examples:
  countersign monitor show shopper
  countersign monitor show spiffe://countersign.example/agent/purchaser/shopper --limit 3 --json")]
    Show {
        /// An agent's name or SPIFFE ID.
        agent: String,
        /// Scores to show, at most 1000.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show the newest alerts.
    #[command(after_help = "Examples:
  countersign monitor alerts
  countersign monitor alerts --limit 100 --json")]
    Alerts {
        /// Alerts to show, at most 1000.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Make every score again from the audit log; any difference is exit code 3.
    ///
    /// Scores made by other rules than those in force are counted, not compared.
    #[command(after_help = "Examples:
  countersign monitor replay
  countersign monitor replay --from 120000 --agent shopper --json")]
    Replay {
        /// The first leaf whose score is made again.
        #[arg(long, value_name = "INDEX", default_value_t = 0)]
        from: u64,
        /// Only this agent's: its name or SPIFFE ID.
        #[arg(long)]
        agent: Option<String>,
    },
}

/// Carries the verb out.
///
/// # Errors
/// `monitor_off`, `unknown_agent`, `replay_differs`; the daemon's.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Show { agent, limit } => {
            let answer = context.call(AdminCall::MonitorShow { agent, limit })?;
            context.print(&answer, show_text);
        }
        Verb::Alerts { limit } => {
            let answer = context.call(AdminCall::MonitorAlerts { limit })?;
            context.print(&answer, alerts_text);
        }
        Verb::Replay { from, agent } => {
            let mut answer = context.call(AdminCall::MonitorReplay { from, agent: agent.clone() })?;
            // A part of the log at a time: the daemon keeps the scores of one part only.
            while let Some(from) = answer["next"].as_str().and_then(|next| next.parse().ok()) {
                let part = context.call(AdminCall::MonitorReplay { from, agent: agent.clone() })?;
                answer = joined(answer, part);
            }
            context.print(&answer, replay_text);
            if answer["differences"] != "0" {
                return Err(Failure::refused(
                    "replay_differs",
                    format!("{} scores are not those that the log gives", text(&answer, "differences")),
                    "run `countersign audit check`; if the log is sound, report this as a defect",
                ));
            }
        }
    }
    Ok(())
}

fn items(answer: &Value) -> &[Value] {
    answer["items"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn show_text(answer: &Value) -> String {
    let mut lines = vec![text(answer, "agent").to_owned()];
    let known = &answer["known"];
    lines.push(match known["is_warm"].as_bool() {
        Some(true) => format!("  {} payments on {} days are its history", known["payments"], known["days"]),
        Some(false) => format!("  {} payments so far: too few to be compared with", known["payments"]),
        None => "  not seen in the window of the log that is known".to_owned(),
    });
    for item in items(answer) {
        lines.push(format!(
            "{:>5}  {}  {}  {}",
            item["score"],
            text(item, "at"),
            text(item, "tool"),
            text(item, "asks")
        ));
        let reasons = item["reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
        lines.extend(reasons.iter().map(|reason| {
            format!("         {:>4}  {}: {}", reason["points"], text(reason, "name"), text(reason, "said"))
        }));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn alerts_text(answer: &Value) -> String {
    if items(answer).is_empty() {
        return "no alerts\n".to_owned();
    }
    let line = |alert: &Value| {
        let (at, agent, asks) = (text(alert, "at"), text(alert, "agent"), text(alert, "asks"));
        format!("{at}  {agent}  {asks} at leaf {}\n  {}\n", text(alert, "leaf"), text(alert, "said"))
    };
    items(answer).iter().map(line).collect()
}

/// The answer about a part of the log, and about the part behind it.
fn joined(mut first: Value, then: Value) -> Value {
    for key in ["leaves", "scores", "same", "other_rules", "differences"] {
        let number = |answer: &Value| text(answer, key).parse::<u64>().unwrap_or(0);
        first[key] = number(&first).saturating_add(number(&then)).to_string().into();
    }
    let items = [items(&first), items(&then)].concat();
    first["items"] = items.into_iter().take(SHOWN_MAX).collect();
    first["next"] = then["next"].clone();
    first
}

fn replay_text(answer: &Value) -> String {
    let of = |key: &str| text(answer, key).to_owned();
    let mut out = format!(
        "{} scores in {} leaves: {} the same, {} different, {} by other rules\n",
        of("scores"),
        of("leaves"),
        of("same"),
        of("differences"),
        of("other_rules")
    );
    for item in items(answer) {
        let (recorded, again) = (&item["recorded"]["score"], &item["again"]["score"]);
        out.push_str(&format!("  leaf {}: {recorded} recorded, {again} again\n", text(item, "leaf")));
    }
    out
}

/// Differences that are shown; all are counted.
const SHOWN_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_of_a_replay_are_one_answer() {
        let part = |scores: &str, differences: &str, items: Value, next: Value| {
            json!({"leaves": "9", "scores": scores, "same": "2", "other_rules": "1", "differences": differences,
                "rules": "r", "items": items, "next": next})
        };
        let first = part("4", "1", json!([{"leaf": "7"}]), json!("9"));
        let whole = joined(first, part("5", "2", json!([{"leaf": "11"}, {"leaf": "12"}]), Value::Null));
        assert_eq!(
            whole,
            json!({"leaves": "18", "scores": "9", "same": "4", "other_rules": "2", "differences": "3", "rules": "r",
                "items": [{"leaf": "7"}, {"leaf": "11"}, {"leaf": "12"}], "next": null})
        );
        let full = json!(vec![json!({"leaf": "1"}); 80]);
        let many = joined(part("1", "80", full.clone(), json!("9")), part("1", "80", full, Value::Null));
        assert_eq!((items(&many).len(), &many["differences"]), (SHOWN_MAX, &json!("160")));
    }

    #[test]
    fn a_replay_says_what_differs() {
        let answer = json!({"leaves": "9", "scores": "3", "same": "2", "other_rules": "0", "differences": "1",
            "items": [{"leaf": "7", "recorded": {"score": 500}, "again": {"score": 10}}]});
        let shown = replay_text(&answer);
        assert_eq!(
            shown,
            "3 scores in 9 leaves: 2 the same, 1 different, 0 by other rules\n  leaf 7: 500 recorded, 10 again\n"
        );
    }
}
