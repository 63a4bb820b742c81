//! What is answered with `isError`: refused reads and faults, in the one shape that every tool's schema allows.

use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Value, json};

use super::{ToolFailed, ToolRefused};
use crate::kernel::refusal::Refusal;
use crate::ops::failure::MayHaveHappened;

pub(super) fn replayed() -> ToolRefused {
    let refusal = Refusal::NonceReplayed;
    ToolRefused {
        name: refusal.name().into(),
        message: refusal.message().into(),
        next_step: refusal.next_step().into(),
    }
}

pub(super) fn refused(refusal: &ToolRefused) -> CallToolResult {
    is_error(json!({
        "status": "denied",
        "reason": refusal.name,
        "message": refusal.message,
        "next_step": refusal.next_step,
    }))
}

pub(super) fn failed(failure: &ToolFailed) -> CallToolResult {
    let message = match failure.may_have_happened {
        MayHaveHappened::No => "the bank cannot do this now; nothing was done",
        MayHaveHappened::Yes => "it is recorded, and the bank could not finish its answer",
        MayHaveHappened::Unknown => "the bank does not know yet whether this was done",
    };
    let next_step = if failure.retry {
        "call again in a moment with the same parameters; nothing is done twice"
    } else {
        "tell the bank's people the request_id"
    };
    is_error(json!({
        "status": "error",
        "reason": failure.name,
        "message": message,
        "next_step": next_step,
        "retry": failure.retry,
        "may_have_happened": failure.may_have_happened,
        "request_id": failure.request_id,
    }))
}

fn is_error(structured: Value) -> CallToolResult {
    let mut result = CallToolResult::error(vec![ContentBlock::text(structured.to_string())]);
    result.structured_content = Some(structured);
    result
}
