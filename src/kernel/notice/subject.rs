//! The parts of a leaf's body that notices speak of.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use super::text;
use crate::kernel::mask::masked_text;

/// What of a leaf is read. Members that are not named here are passed over.
#[derive(Deserialize)]
pub(super) struct Leaf<'a> {
    #[serde(borrow, default)]
    pub(super) act: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) tool: Option<Cow<'a, str>>,
    pub(super) actor: Value,
    #[serde(default)]
    pub(super) asserted: bool,
    #[serde(borrow)]
    pub(super) at: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) decision: Cow<'a, str>,
    #[serde(default)]
    pub(super) parameters: Value,
    #[serde(borrow, default)]
    pub(super) reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) request_id: Cow<'a, str>,
    #[serde(default)]
    pub(super) result: Value,
}

impl Leaf<'_> {
    /// Who it was, in words.
    pub(super) fn who(&self) -> String {
        let actor = &self.actor;
        match actor["kind"].as_str() {
            Some("agent") => format!("agent {}", people(&actor["spiffe_id"], 128)),
            Some("operator") => format!("operator {}", people(&actor["name"], 63)),
            Some("program") => match actor["user"].as_str() {
                Some(user) => format!("a program of the user {}", text::cleaned(user, 63)),
                None => format!("a program of the user {}", shown(&actor["uid"])),
            },
            _ => format!("the daemon ({})", people(&actor["component"], 63)),
        }
    }
}

/// The agent that a target names: `{"agent": "spiffe://…"}`, or the name itself.
pub(super) fn agent_of(target: &Value) -> Option<String> {
    let name = target["agent"].as_str().or(target.as_str())?;
    name.starts_with("spiffe://").then(|| text::cleaned(name, 128))
}

/// A text that somebody wrote, cleaned, its numbers masked.
pub(super) fn people(value: &Value, chars_max: usize) -> String {
    text::cleaned(value.as_str().unwrap_or_default(), chars_max)
}

/// A number or a word.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text::cleaned(text, 60),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => "-".to_owned(),
    }
}

/// What a call of a tool asked for: amount, accounts masked, merchant.
pub(super) fn call_lines(parameters: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let amount = if parameters["amount"].is_null() { &parameters["price"] } else { &parameters["amount"] };
    if let (Some(sum), Some(currency)) = (amount["amount"].as_str(), amount["currency"].as_str()) {
        lines.push(format!("amount: {} {}", text::amount(sum), text::cleaned(currency, 3)));
    }
    for (title, member) in [("from", "from_account"), ("to", "to_account"), ("account", "account_id")] {
        if let Some(account) = parameters[member].as_str() {
            lines.push(format!("{title}: {}", masked_text(account)));
        }
    }
    if let Some(merchant) = parameters["merchant"].as_str() {
        lines.push(format!("merchant: {}", text::cleaned(merchant, 120)));
    }
    lines
}
