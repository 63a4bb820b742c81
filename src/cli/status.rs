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
        members.map(|(name, value)| format!("{name:<20} {}", line(value))).collect::<Vec<_>>().join("\n")
    });
    Ok(())
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

    use super::line;

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
