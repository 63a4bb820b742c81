//! What one policy changes against another, tool by tool.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};

use super::document::{Document, RolePolicy};

/// One difference.
#[derive(Clone, PartialEq, Default, Debug, Serialize)]
pub struct Change {
    pub change: ChangeKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// None: of the whole role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The name of a transaction rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What was said of the tool: its permissions' constraints, in order; or the transaction rule. Null: nothing.
    pub before: Value,
    pub after: Value,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    #[default]
    RoleAdded,
    RoleRemoved,
    Permitted,
    NotPermitted,
    /// Permitted before and after, with other constraints.
    Constraints,
    Denied,
    NotDenied,
    RuleAdded,
    RuleRemoved,
    RuleChanged,
}

/// What `new` changes against `old`, in the order of roles and tools.
pub fn changes(old: &Document, new: &Document) -> Vec<Change> {
    let roles: BTreeSet<&str> = old.roles.iter().chain(&new.roles).map(|role| role.role.as_str()).collect();
    let of = |document: &Document, name: &str| document.roles.iter().find(|role| role.role == name).cloned();
    let nothing = |name: &str| RolePolicy { role: name.to_owned(), permissions: vec![], deny_tools: vec![] };
    let mut found = Vec::new();
    for name in roles {
        let (before, after) = (of(old, name), of(new, name));
        let whole = |change| Change { change, role: Some(name.to_owned()), ..Change::default() };
        match (&before, &after) {
            (None, Some(_)) => found.push(whole(ChangeKind::RoleAdded)),
            (Some(_), None) => found.push(whole(ChangeKind::RoleRemoved)),
            (Some(_), Some(_)) | (None, None) => {}
        }
        let (before, after) = (before.unwrap_or_else(|| nothing(name)), after.unwrap_or_else(|| nothing(name)));
        within(&before, &after, &mut found);
    }
    rules(old, new, &mut found);
    found
}

fn rules(old: &Document, new: &Document, found: &mut Vec<Change>) {
    let both = [old, new];
    let names: BTreeSet<&str> = both.iter().flat_map(|it| it.transactions.iter()).map(|it| it.name.as_str()).collect();
    for name in names {
        let [before, after] = both.map(|document| document.transactions.iter().find(|rule| rule.name == name));
        let change = match (before, after) {
            (None, Some(_)) => ChangeKind::RuleAdded,
            (Some(_), None) => ChangeKind::RuleRemoved,
            (Some(before), Some(after)) if before != after => ChangeKind::RuleChanged,
            (Some(_), Some(_)) | (None, None) => continue,
        };
        let rule = Some(name.to_owned());
        found.push(Change { change, rule, before: json!(before), after: json!(after), ..Change::default() });
    }
}

fn within(before: &RolePolicy, after: &RolePolicy, found: &mut Vec<Change>) {
    let said = |role: &RolePolicy, tool: &str| {
        let ways = role.permissions.iter().filter(|permission| permission.tool_name == tool);
        let ways: Vec<Value> = ways.map(|permission| json!(permission.constraints)).collect();
        if ways.is_empty() { Value::Null } else { Value::Array(ways) }
    };
    let both = [before, after];
    let permissions = both.iter().flat_map(|role| &role.permissions).map(|permission| permission.tool_name.as_str());
    let denials = both.iter().flat_map(|role| &role.deny_tools).map(String::as_str);
    let tools: BTreeSet<&str> = permissions.chain(denials).collect();
    for tool in tools {
        let (had, has) = (said(before, tool), said(after, tool));
        let mut push = |change, had: Value, has: Value| {
            let (role, tool) = (Some(after.role.clone()), Some(tool.to_owned()));
            found.push(Change { change, role, tool, rule: None, before: had, after: has });
        };
        match (had.is_null(), has.is_null()) {
            (true, false) => push(ChangeKind::Permitted, had, has),
            (false, true) => push(ChangeKind::NotPermitted, had, has),
            (false, false) if had != has => push(ChangeKind::Constraints, had, has),
            (true, true) | (false, false) => {}
        }
        let denied = both.map(|role| role.deny_tools.iter().any(|denied| denied == tool));
        match denied {
            [false, true] => push(ChangeKind::Denied, Value::Null, Value::Null),
            [true, false] => push(ChangeKind::NotDenied, Value::Null, Value::Null),
            [false, false] | [true, true] => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_difference_is_named_and_the_same_policy_has_none() {
        let permission = |tool: &str, max: u32| json!({ "tool_name": tool, "action": "invoke", "constraints": { "amount": { "maximum": max } } });
        let of = |value: Value| Document::of(value).unwrap();
        let old = of(json!({ "roles": [
            { "role": "a", "permissions": [permission("x", 1), permission("y", 1)], "deny_tools": ["z"] },
            { "role": "gone", "permissions": [permission("x", 1)] },
        ], "transactions": [{ "name": "dollars", "currencies": ["USD"] }, { "name": "same", "currencies": ["USD"] }] }));
        let new = of(json!({ "roles": [
            { "role": "a", "permissions": [permission("x", 2), permission("z", 1)], "deny_tools": ["y"] },
            { "role": "new" },
        ], "transactions": [{ "name": "same", "currencies": ["USD"] }, { "name": "euros", "currencies": ["EUR"] }] }));
        let found = changes(&old, &new);
        let words: Vec<(ChangeKind, &str, Option<&str>)> = found
            .iter()
            .map(|it| (it.change, it.role.as_deref().or(it.rule.as_deref()).unwrap_or_default(), it.tool.as_deref()))
            .collect();
        assert_eq!(
            words,
            [
                (ChangeKind::Constraints, "a", Some("x")),
                (ChangeKind::NotPermitted, "a", Some("y")),
                (ChangeKind::Denied, "a", Some("y")),
                (ChangeKind::Permitted, "a", Some("z")),
                (ChangeKind::NotDenied, "a", Some("z")),
                (ChangeKind::RoleRemoved, "gone", None),
                (ChangeKind::NotPermitted, "gone", Some("x")),
                (ChangeKind::RoleAdded, "new", None),
                (ChangeKind::RuleRemoved, "dollars", None),
                (ChangeKind::RuleAdded, "euros", None),
            ]
        );
        assert_eq!(found[0].before, json!([{ "amount": { "maximum": 1 } }]));
        assert_eq!(changes(&old, &old), []);
    }
}
