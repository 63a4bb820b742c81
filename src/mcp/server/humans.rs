//! Calls that a human has still to decide: as a task, as a page to open, or in words, whichever the client understands.
//!
//! A task is the approval itself: as durable, and owned by the agent that asked. What a client sends back about a page
//! that it showed decides nothing; it only says that now is a good time to look.

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CallToolResponse, CallToolResult, ClientCapabilities, CreateTaskResult, DetailedTask, ElicitRequest,
    ElicitRequestParams, GetTaskResult, InputRequest, InputRequests, InputRequiredResult, InputResponses, JsonObject,
    ProgressNotificationParam, ProgressToken, Task, TaskPayload, TaskStatus,
};
use rmcp::{Peer, RoleServer};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ToolGate;
use crate::kernel::command::AgentPrincipal;
use crate::kernel::types::{ApprovalId, UnixMillis};

/// How often a client should ask for a task.
const POLL_MS: u64 = 5_000;
/// Under which the page to open is asked for and answered.
const KEY: &str = "approval";
/// Between two looks while a call waits: another node may have heard the human.
const LOOK: Duration = Duration::from_secs(2);
/// Between two words about the progress of a wait.
const PROGRESS: Duration = Duration::from_secs(5);

/// What a client can do about a human's decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shown {
    Task,
    Page,
    Words,
}

impl Shown {
    /// As the client's request declares it.
    pub fn to(client: Option<&ClientCapabilities>) -> Self {
        match client {
            Some(client) if client.supports_tasks() => Self::Task,
            Some(client) if client.elicitation.as_ref().is_some_and(|elicitation| elicitation.url.is_some()) => {
                Self::Page
            }
            Some(_) | None => Self::Words,
        }
    }
}

/// The approval that an answer waits for. `None`: it waits for none.
pub(super) fn awaited(answer: &Value) -> Option<ApprovalId> {
    (answer["status"] == "requires_approval").then(|| answer["approval_id"].as_str()?.parse().ok()).flatten()
}

/// Whether the account's owner is asked. Only then has the agent's person a page to open: the bank's gate is the bank's
/// own, and nothing of it goes through an agent.
pub(super) fn waits_for_owner(answer: &Value) -> bool {
    answer["pending"].as_array().is_some_and(|pending| pending.iter().any(|word| word == "owner_consent_pending"))
}

/// When an approval was asked for: its id says so (ULID).
fn asked_at(approval: &ApprovalId) -> UnixMillis {
    let text = approval.as_str().rsplit('_').next().unwrap_or_default();
    let made = ulid::Ulid::from_string(text).map_or(0, |ulid| ulid.timestamp_ms());
    UnixMillis(i64::try_from(made).unwrap_or(0))
}

fn task(approval: &ApprovalId, state: &Value) -> Task {
    let asked = asked_at(approval);
    let changed = state["decided_at"].as_str().map_or_else(|| asked.rfc3339(), str::to_owned);
    let mut task = Task::new(approval.as_str(), TaskStatus::Working, asked.rfc3339(), changed);
    task.poll_interval_ms = Some(POLL_MS);
    task
}

/// The answer `requires_approval` as a task that the client asks about.
pub(super) fn as_task(approval: &ApprovalId, url: Option<&str>, answer: &Value) -> CreateTaskResult {
    let page = url.map_or(String::new(), |url| format!(": {url}"));
    CreateTaskResult::new(task(approval, answer).with_status_message(format!("people decide about {approval}{page}")))
}

/// The answer `requires_approval` as a page that the client shows to its person.
pub(super) fn as_page(url: &str, state: String) -> InputRequiredResult {
    let params = ElicitRequestParams::UrlElicitationParams {
        meta: None,
        message:
            "The owner of the account has to consent to this payment. The page says how; opening it decides nothing."
                .into(),
        url: url.to_owned(),
        elicitation_id: String::new(),
    };
    let asked = InputRequest::Elicitation(ElicitRequest::new(params));
    InputRequiredResult::new(Some(InputRequests::from([(KEY.to_owned(), asked)])), Some(state))
}

/// The answer in words, with the page's address where there is one.
pub(super) fn as_words(url: Option<&str>, mut answer: Value) -> CallToolResponse {
    if let Some(url) = url {
        answer["approval_url"] = json!(url);
    }
    CallToolResult::structured(answer).into()
}

/// Whether the client's person has opened the page. Anything else than a plain yes is none.
pub(super) fn was_opened(responses: Option<&InputResponses>) -> bool {
    responses.and_then(|responses| responses.get(KEY)).is_some_and(|answer| answer["action"] == "accept")
}

/// What `get_approval_status` says, as the answer of the call that asked for the approval. A word that is not known here
/// is handed on as it is: only a certain no is told as one.
pub(super) fn as_answer(approval: &ApprovalId, state: &Value) -> Value {
    let status = state["status"].as_str().unwrap_or_default();
    let denied = |reason: &str| {
        json!({
            "status": "denied", "reason": reason, "approval_id": approval,
            "message": "the payment was not approved", "next_step": "do not retry; authorize a new intent if there is one",
        })
    };
    match status {
        "pending" => json!({
            "status": "requires_approval", "approval_id": approval, "expires_at": state["expires_at"],
            "pending": state["pending"], "next_step": "people decide; ask get_approval_status",
        }),
        "denied" => denied("approval_denied"),
        "approval_expired" | "expired" => denied("approval_expired"),
        "cancelled" => denied("authorization_cancelled"),
        "voided" => denied("agent_revoked"),
        "core_refused" => denied("core_refused"),
        "queued_manual" => json!({
            "status": status, "approval_id": approval,
            "next_step": "the bank's people have it; call execute again later with the same parameters, and authorize \
                          nothing in its place",
        }),
        other => {
            let mut answer = json!({ "status": other, "approval_id": approval });
            if let Some(transaction) = state["transaction_id"].as_str() {
                answer["transaction_id"] = json!(transaction);
            }
            answer
        }
    }
}

/// The task of an approval, as `get_approval_status` says it stands.
pub(super) fn as_state(approval: &ApprovalId, state: &Value) -> GetTaskResult {
    let task = task(approval, state);
    let payload = match state["status"].as_str().unwrap_or_default() {
        "pending" | "queued_manual" => TaskPayload::Working,
        "cancelled" => TaskPayload::Cancelled,
        _ => TaskPayload::Completed { result: result_of(as_answer(approval, state)) },
    };
    GetTaskResult::new(DetailedTask::new(task, payload))
}

fn result_of(answer: Value) -> JsonObject {
    match serde_json::to_value(CallToolResult::structured(answer)) {
        Ok(Value::Object(result)) => result,
        Ok(_) | Err(_) => JsonObject::new(),
    }
}

/// Who is told how a wait goes on.
pub(super) struct Told {
    pub peer: Peer<RoleServer>,
    /// The client's own name for it; none: it did not ask.
    pub token: Option<ProgressToken>,
}

/// Waits until a human has decided, the time is over, or the client is gone. Decides nothing and answers nothing: the
/// caller asks again.
pub(super) async fn wait(
    gate: &Arc<dyn ToolGate>,
    agent: &AgentPrincipal,
    approval: &ApprovalId,
    most: Duration,
    told: &Told,
    gone: &CancellationToken,
) {
    let mut changes = gate.changes();
    let (began, mut last_word) = (Instant::now(), Instant::now());
    let end = began + most;
    loop {
        changes.mark_unchanged();
        let (look, who, of) = (Arc::clone(gate), agent.clone(), approval.clone());
        let pending = tokio::task::spawn_blocking(move || look.is_pending(&who, &of)).await;
        if !pending.unwrap_or(false) || Instant::now() >= end {
            return;
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep_until(end.min(Instant::now() + LOOK)) => {}
            () = gone.cancelled() => return,
        }
        if let Some(token) = &told.token
            && last_word.elapsed() >= PROGRESS
        {
            last_word = Instant::now();
            let so_far = ProgressNotificationParam::new(token.clone(), began.elapsed().as_secs_f64())
                .with_total(most.as_secs_f64())
                .with_message("waiting for a human's decision");
            if told.peer.notify_progress(so_far).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ledger::TransactionState;

    fn approval() -> ApprovalId {
        "apr_01KAPRQ8ZT0000000000000000".parse().unwrap()
    }

    #[test]
    fn an_approval_is_answered_as_the_call_that_asked_for_it_would_be() {
        let table = [
            (json!({ "status": "pending", "expires_at": "x" }), "requires_approval", None),
            (json!({ "status": "approved", "transaction_id": "txn_1" }), "approved", None),
            (json!({ "status": "executed", "transaction_id": "txn_1" }), "executed", None),
            (json!({ "status": "submitted", "transaction_id": "txn_1" }), "submitted", None),
            (json!({ "status": "queued_manual" }), "queued_manual", None),
            (json!({ "status": "denied" }), "denied", Some("approval_denied")),
            (json!({ "status": "approval_expired" }), "denied", Some("approval_expired")),
            (json!({ "status": "expired" }), "denied", Some("approval_expired")),
            (json!({ "status": "voided" }), "denied", Some("agent_revoked")),
            (json!({ "status": "a word of tomorrow" }), "a word of tomorrow", None),
        ];
        for (state, status, reason) in table {
            let answer = as_answer(&approval(), &state);
            assert_eq!((answer["status"].as_str(), answer["reason"].as_str()), (Some(status), reason), "{state}");
        }
        // Whatever may still be paid is never told as a no.
        for open in TransactionState::ALL.into_iter().filter(|state| state.is_open()) {
            assert_ne!(as_answer(&approval(), &json!({ "status": open.name() }))["status"], "denied", "{open:?}");
        }
    }

    #[test]
    fn a_task_is_working_until_somebody_has_decided() {
        let of = |status: &str| as_state(&approval(), &json!({ "status": status })).task.status();
        assert_eq!(of("pending"), TaskStatus::Working);
        assert_eq!(of("cancelled"), TaskStatus::Cancelled);
        assert_eq!(of("queued_manual"), TaskStatus::Working);
        for ended in ["approved", "denied", "approval_expired", "executed", "voided"] {
            assert_eq!(of(ended), TaskStatus::Completed, "{ended}");
        }
        let state = as_state(&approval(), &json!({ "status": "denied", "decided_at": "2026-11-21T00:00:00.000Z" }));
        assert_eq!(state.task.task.last_updated_at, "2026-11-21T00:00:00.000Z");
        assert!(state.task.task.created_at.starts_with("20"));
    }

    #[test]
    fn only_a_plain_yes_says_that_the_page_was_opened() {
        let table = [
            (json!({ "approval": { "action": "accept" } }), true),
            (json!({ "approval": { "action": "decline" } }), false),
            (json!({ "approval": { "action": "cancel" } }), false),
            (json!({ "approval": "accept" }), false),
            (json!({ "other": { "action": "accept" } }), false),
            (json!({}), false),
        ];
        for (responses, opened) in table {
            let read: InputResponses = serde_json::from_value(responses.clone()).unwrap();
            assert_eq!(was_opened(Some(&read)), opened, "{responses}");
        }
        assert!(!was_opened(None));
    }
}
