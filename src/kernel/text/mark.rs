//! Strangers' text in an answer to a model: cleaned where it stands, and named beside it.
//!
//! Keys stay what they are. An object that has such a text gets `untrusted`, the names of those members, and, where a rule
//! has something against one of them, `flags`, the families.

use std::borrow::Borrow;

use serde_json::{Value, json};

use super::Clean;

/// Members whose text comes from strangers. Everything else in answers has an alphabet or is the bank's own.
pub const STRANGERS: [&str; 8] =
    ["title", "name", "merchant_name", "counterparty_name", "memo", "note", "why", "reference"];

/// Marks every such member of an answer, however deep. `clean` may remember what it has judged before.
pub fn mark<C: Borrow<Clean>>(answer: &mut Value, clean: &impl Fn(&str) -> C) {
    match answer {
        Value::Array(items) => items.iter_mut().for_each(|item| mark(item, clean)),
        Value::Object(members) => {
            let (mut untrusted, mut flags): (Vec<&str>, Vec<&str>) = (vec![], vec![]);
            for (name, value) in members.iter_mut() {
                let Some(name) = STRANGERS.into_iter().find(|stranger| stranger == name) else {
                    mark(value, clean);
                    continue;
                };
                if let Value::String(text) = value {
                    let cleaned = clean(text);
                    let cleaned = cleaned.borrow();
                    untrusted.push(name);
                    flags.extend(cleaned.flags());
                    text.clone_from(&cleaned.shown);
                }
            }
            flags.sort_unstable();
            flags.dedup();
            if !untrusted.is_empty() {
                members.insert("untrusted".to_owned(), json!(untrusted));
            }
            if !flags.is_empty() {
                members.insert("flags".to_owned(), json!(flags));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
