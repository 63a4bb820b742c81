//! Recent leaves, for an auditor's eyes.

use serde_json::{Value, json};

use super::Log;
use crate::ops::failure::Failure;
use crate::store::{LeafContent, LeafRecord};

/// Leaves that one call shows.
const SHOW_MAX: u32 = 1000;

impl Log {
    /// The newest leaves that have a place in the tree, at most `limit` and 1,000, oldest first:
    /// `{items: [{index, commitment, signed, content, body}], next, size, signed_size}`. A body that is JSON is shown as JSON;
    /// `content` is `known`, `erased` or `damaged`, and without it there is no body.
    ///
    /// # Errors
    /// The store's.
    pub fn show(&self, limit: u32) -> Result<Value, Failure> {
        let state = self.state()?;
        let limit = limit.min(SHOW_MAX);
        let from = state.size.saturating_sub(u64::from(limit));
        let leaves = if limit == 0 { Vec::new() } else { self.setup.store.leaves(from, limit)? };
        let items: Vec<Value> = leaves.iter().map(|leaf| item(leaf, state.signed_size)).collect();
        Ok(json!({ "items": items, "next": null, "size": state.size, "signed_size": state.signed_size }))
    }
}

pub(super) fn item(leaf: &LeafRecord, signed_size: u64) -> Value {
    let as_json = |body: &[u8]| {
        serde_json::from_slice::<Value>(body)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(body).into_owned()))
    };
    let (content, body) = match &leaf.content {
        LeafContent::Known { body, .. } => ("known", as_json(body)),
        LeafContent::Erased => ("erased", Value::Null),
        LeafContent::Unsealed | LeafContent::Damaged(_) => ("damaged", Value::Null),
    };
    json!({
        "index": leaf.index,
        "commitment": leaf.commitment,
        "signed": leaf.index.is_some_and(|index| index < signed_size),
        "content": content,
        "body": body,
    })
}
