//! The message in a body, member by member: what a request may say besides what it is about.
//!
//! A library reads past members that it does not know, so that a misspelt or a smuggled one would go unnoticed. What a
//! tool's own arguments may be is said by its schema.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// Members of a request (JSON-RPC 2.0, 4).
const MEMBERS: [&str; 4] = ["jsonrpc", "id", "method", "params"];

/// Parameters by method, of those methods that are known here. An unknown method is refused by MCP.
const PARAMETERS: [(&str, &[&str]); 12] = [
    ("server/discover", &["_meta"]),
    ("tools/list", &["_meta", "cursor"]),
    ("tools/call", &["_meta", "name", "arguments", "inputResponses", "requestState", "task"]),
    ("prompts/list", &["_meta", "cursor"]),
    ("prompts/get", &["_meta", "name", "arguments", "inputResponses", "requestState"]),
    ("resources/list", &["_meta", "cursor"]),
    ("resources/templates/list", &["_meta", "cursor"]),
    ("resources/read", &["_meta", "uri", "inputResponses", "requestState"]),
    ("tasks/get", &["_meta", "taskId"]),
    ("tasks/update", &["_meta", "taskId", "inputResponses"]),
    ("tasks/cancel", &["_meta", "taskId"]),
    ("subscriptions/listen", &["_meta", "notifications"]),
];

/// A member that has no business where it is.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{name:?} is no member of {of}")]
pub struct UnknownMember {
    pub name: String,
    pub of: &'static str,
}

/// Passes a body, which is JSON, whose members are all known. What is no object is left to MCP.
///
/// # Errors
/// [`UnknownMember`]
pub fn check(body: &[u8]) -> Result<(), UnknownMember> {
    let Ok(request) = serde_json::from_slice::<BTreeMap<String, &RawValue>>(body) else {
        return Ok(());
    };
    known(request.keys(), &MEMBERS, "a request")?;
    let method: Option<String> = request.get("method").and_then(|method| serde_json::from_str(method.get()).ok());
    let parameters = PARAMETERS.into_iter().find(|(name, _)| method.as_deref() == Some(name));
    let (Some((method, known_here)), Some(given)) = (parameters, request.get("params")) else {
        return Ok(());
    };
    match serde_json::from_str::<BTreeMap<String, IgnoredAny>>(given.get()) {
        Ok(given) => known(given.keys(), known_here, method),
        Err(_) => Ok(()),
    }
}

fn known<'a>(names: impl Iterator<Item = &'a String>, known: &[&str], of: &'static str) -> Result<(), UnknownMember> {
    let mut names = names;
    match names.find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(UnknownMember { name: name.chars().take(64).collect(), of }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_nobody_reads_are_named() {
        let name = |body: &str| check(body.as_bytes()).map_err(|unknown| unknown.name);
        for good in [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":1},"_meta":{}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"another/method","params":{"x":1}}"#,
            "[]",
            "1",
            "{}",
        ] {
            assert_eq!(name(good), Ok(()), "{good}");
        }
        for (bad, member) in [
            (r#"{"jsonrpc":"2.0","method":"tools/list","admin":true}"#, "admin"),
            (r#"{"jsonrpc":"2.0","result":{}}"#, "result"),
            (r#"{"method":"tools/list","params":{"role":"all"}}"#, "role"),
            (r#"{"method":"resources/read","params":{"uri":"a","agent":"b"}}"#, "agent"),
            (r#"{"method":"tools\/call","params":{"name":"a","Arguments":{}}}"#, "Arguments"),
        ] {
            assert_eq!(name(bad), Err(member.to_owned()), "{bad}");
        }
    }
}
