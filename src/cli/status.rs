//! `countersign status`: what the daemon is and does right now.

use serde_json::Value;

use super::context::Context;
use super::table::cell;
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
        let members = status.as_object().into_iter().flatten();
        let told = |(name, value): (&String, &Value)| {
            let text = if name == "payments" { payments(value) } else { line(value) };
            format!("{name:<20} {text}")
        };
        members.map(told).collect::<Vec<_>>().join("\n")
    });
    Ok(())
}

/// Whether agents' payments are made, and every cause that stops them.
fn payments(payments: &Value) -> String {
    if payments.is_null() {
        return cell(payments);
    }
    let waiting = format!(
        "cases waiting {}, orders waiting {}",
        cell(&payments["cases_waiting"]),
        cell(&payments["orders_waiting"])
    );
    if payments["stopped"] != true {
        return format!("are made; {waiting}");
    }
    let causes = payments["causes"].as_array().into_iter().flatten().map(|cause| {
        let [name, by] = ["cause", "by"].map(|member| cell(&cause[member]));
        let [since, reason] = ["since", "reason"].map(|member| cell(&cause[member]));
        format!("\n{:<21}{name} by {by} since {since}: {reason}", "")
    });
    let soon = if payments["state"] == "probing" { ", probes succeed" } else { "" };
    format!("are stopped{soon}; {waiting}{}", causes.collect::<String>())
}

/// A member in one line; of a list each item on its own.
fn line(value: &Value) -> String {
    match value {
        Value::Array(items) if items.is_empty() => "nothing".to_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(&format!("\n{:<21}", "")),
        Value::Object(members) if members.is_empty() => "none".to_owned(),
        Value::Object(members) => {
            let told = members.iter().filter(|(_, value)| !value.is_null());
            told.map(|(name, value)| format!("{name} {}", cell(value))).collect::<Vec<_>>().join(", ")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => cell(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{line, payments};

    #[test]
    fn what_stops_payments_is_said_in_words() {
        let mut status =
            json!({ "state": "closed", "stopped": false, "causes": [], "cases_waiting": 0, "orders_waiting": 0 });
        assert_eq!(payments(&status), "are made; cases waiting 0, orders waiting 0");
        (status["state"], status["stopped"]) = (json!("open"), json!(true));
        status["causes"] = json!([
            { "cause": "operator", "reason": "drill", "by": "bank-officer", "since": "2026-11-22T19:00:00.000Z" },
            { "cause": "hsm_down", "reason": "no worker", "by": "system:guard", "since": "2026-11-22T19:01:00.000Z" },
        ]);
        let text = payments(&status);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(
            text.starts_with("are stopped; ") && text.contains("operator by bank-officer since 2026-11-22"),
            "{text}"
        );
        assert!(text.contains(": drill\n") && !text.contains('{'), "{text}");
    }

    #[test]
    fn members_are_read_without_knowing_json() {
        let table = [
            (json!([]), "nothing"),
            (json!({}), "none"),
            (json!({ "stopped": false, "by": null, "cases_waiting": 2 }), "stopped false, cases_waiting 2"),
            (json!("bank"), "bank"),
        ];
        for (value, text) in table {
            assert_eq!(line(&value), text);
        }
        assert_eq!(line(&json!(["one", "two"])).lines().count(), 2);
    }
}
