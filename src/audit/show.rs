//! Recent leaves, for an auditor's eyes.

use serde_json::{Value, json};

use super::Log;
use crate::ops::failure::Failure;
use crate::store::LeafRecord;

/// Leaves that one call shows.
const SHOW_MAX: u32 = 1000;

impl Log {
    /// The newest leaves that have a place in the tree, at most `limit` and 1,000, oldest first:
    /// `{items: [{index, commitment, signed, body}], next, size, signed_size}`. A body that is JSON is shown as JSON.
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

fn item(leaf: &LeafRecord, signed_size: u64) -> Value {
    let body = serde_json::from_slice::<Value>(&leaf.body)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&leaf.body).into_owned()));
    json!({
        "index": leaf.index,
        "commitment": leaf.commitment,
        "signed": leaf.index.is_some_and(|index| index < signed_size),
        "body": body,
    })
}
