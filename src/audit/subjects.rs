//! What people decide about all that leaves say of one subject: holding it, erasing it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kernel::command::{Act, Actor, Command, Effect, OperatorPrincipal, SubjectStep};
use crate::kernel::decide::ASKED_MS;
use crate::kernel::refusal::Refusal;
use crate::kernel::subject::DataSubject;
use crate::kernel::text::{self, Limit};
use crate::kernel::types::Sha256;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::{Store, SubjectLine, SubjectQuery};

/// Subjects of one page.
const PAGE_MAX: u32 = 1_000;
/// In bytes: it is kept in a leaf that outlives the subject.
const REASON_BYTES_MAX: usize = 500;

/// What is asked about subjects.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "subjects", rename_all = "snake_case", deny_unknown_fields)]
pub enum SubjectCall {
    List {
        /// The last of the page before.
        after: Option<String>,
        limit: u32,
    },
    Hold {
        subject: DataSubject,
        reason: String,
    },
    Release {
        subject: DataSubject,
        reason: String,
    },
    Erase {
        subject: DataSubject,
        reason: String,
    },
    /// One subject alone, before somebody confirms what cannot be undone.
    Show {
        subject: DataSubject,
    },
}

impl SubjectCall {
    /// True when it changes nothing.
    pub fn only_shows(&self) -> bool {
        match self {
            Self::List { .. } | Self::Show { .. } => true,
            Self::Hold { .. } | Self::Release { .. } | Self::Erase { .. } => false,
        }
    }
}

/// Does what was asked. Reading needs any role; the others are part of each decision.
///
/// # Errors
/// `under_legal_hold`, `maker_is_checker`, `subject_not_erasable`, `operator_not_permitted`, `reason_invalid`; the store's.
pub fn desk(store: &dyn Store, operator: &OperatorPrincipal, call: SubjectCall) -> Result<Value, Failure> {
    match call {
        SubjectCall::List { after, limit } => list(store, operator, after, limit),
        SubjectCall::Hold { subject, reason } => {
            let effect = decided(store, operator, &subject, SubjectStep::Hold { reason: stated(&reason)? })?;
            marked(&subject, "held", &effect)
        }
        SubjectCall::Release { subject, reason } => {
            let effect = decided(store, operator, &subject, SubjectStep::Release { reason: stated(&reason)? })?;
            marked(&subject, "released", &effect)
        }
        SubjectCall::Erase { subject, reason } => erase(store, operator, &subject, &reason),
        SubjectCall::Show { subject } => show(store, operator, &subject),
    }
}

/// The second of two people destroys the keys. What is left of the name is a hash over a salt that only this answer has:
/// who keeps it can show which erasure was whose.
fn erase(
    store: &dyn Store,
    operator: &OperatorPrincipal,
    subject: &DataSubject,
    reason: &str,
) -> Result<Value, Failure> {
    let salt = Sha256(clock::random());
    let pseudonym = Sha256::of(&[b"countersign/erased-subject/v1\0", &salt.0, subject.to_string().as_bytes()]);
    let step = SubjectStep::Erase { reason: stated(reason)?, pseudonym };
    let effect = decided(store, operator, subject, step)?;
    if let Effect::ErasureAsked { keys } = effect {
        return Ok(json!({ "subject": subject, "status": "erasure_asked", "keys": keys, "changed": true }));
    }
    let Effect::Erased { keys, trail } = effect else {
        return Err(unexpected(&effect));
    };
    let Some(trail) = trail.filter(|_| keys > 0) else {
        return Ok(json!({ "subject": subject, "status": "erased", "keys": 0, "changed": false }));
    };
    Ok(json!({
        "subject": subject, "status": "erased", "keys": keys, "changed": true,
        "erasure_asked": { "by": trail.asked_by, "at": trail.asked_at.rfc3339() },
        "released": trail.released.map(|(by, at)| json!({ "by": by, "at": at.rfc3339() })),
        "pseudonym": pseudonym, "salt": salt, "leaves_in_the_clear": store.leaves_in_the_clear()?,
    }))
}

/// One subject, as a list has it; one that no leaf is about has no keys.
fn show(store: &dyn Store, operator: &OperatorPrincipal, subject: &DataSubject) -> Result<Value, Failure> {
    if operator.roles.is_empty() {
        return Err(refused(Refusal::OperatorNotPermitted));
    }
    let found = store.subjects(&SubjectQuery { named: Some(subject.clone()), after: None, limit: 1 })?.pop();
    Ok(found.map_or_else(|| json!({ "subject": subject, "keys": 0 }), |found| line(&found)))
}

fn list(store: &dyn Store, operator: &OperatorPrincipal, after: Option<String>, limit: u32) -> Result<Value, Failure> {
    if operator.roles.is_empty() {
        return Err(refused(Refusal::OperatorNotPermitted));
    }
    let limit = limit.clamp(1, PAGE_MAX);
    let mut found = store.subjects(&SubjectQuery { named: None, after, limit: limit + 1 })?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| more).map(|line| line.subject.to_string());
    let items: Vec<Value> = found.iter().map(line).collect();
    Ok(json!({ "items": items, "next": next, "leaves_in_the_clear": store.leaves_in_the_clear()? }))
}

fn line(line: &SubjectLine) -> Value {
    let hold = line.hold.as_ref();
    let asked = line.erasure_asked.as_ref();
    json!({
        "subject": line.subject, "keys": line.keys, "first_month": line.first, "last_month": line.last,
        "held": hold.map(|(by, at, reason)| json!({ "by": by, "since": at.rfc3339(), "reason": reason })),
        "erasure_asked": asked.map(|(by, at, reason)| json!({
            "by": by, "at": at.rfc3339(), "until": at.plus_ms(ASKED_MS).rfc3339(), "reason": reason,
        })),
        "released": line.released.as_ref().map(|(by, at)| json!({ "by": by, "at": at.rfc3339() })),
    })
}

fn marked(subject: &DataSubject, status: &str, effect: &Effect) -> Result<Value, Failure> {
    let Effect::Done { changed } = effect else {
        return Err(unexpected(effect));
    };
    Ok(json!({ "subject": subject, "status": status, "changed": changed }))
}

fn decided(
    store: &dyn Store,
    operator: &OperatorPrincipal,
    subject: &DataSubject,
    step: SubjectStep,
) -> Result<Effect, Failure> {
    applied(store, Actor::Operator(operator.clone()), Act::Subject { subject: subject.clone(), step })
}

pub(super) fn applied(store: &dyn Store, actor: Actor, act: Act) -> Result<Effect, Failure> {
    let stamp = clock::stamp(clock::fresh_request_id());
    let decision = store.apply(vec![Command { stamp, actor, act }])?.pop();
    let decision = decision.ok_or_else(|| {
        Failure::fault("store_answer_unexpected", "the store answered nothing", "report this as a defect")
    })?;
    decision.outcome.map_err(refused)
}

/// What a human says about it, without what is not seen.
fn stated(reason: &str) -> Result<String, Failure> {
    let one_line = !reason.trim().chars().any(char::is_control);
    let text = text::shown(reason, Limit { chars: REASON_BYTES_MAX, bytes: REASON_BYTES_MAX });
    if text.is_empty() || reason.trim().len() > REASON_BYTES_MAX || !one_line {
        return Err(Failure::usage(
            "reason_invalid",
            format!("a reason has 1 to {REASON_BYTES_MAX} bytes, on one line"),
            "say why in a sentence, and name nobody: it is kept in the audit log when the subject is not",
        ));
    }
    Ok(text)
}

fn refused(refusal: Refusal) -> Failure {
    Failure::refused(refusal.name(), refusal.message(), refusal.next_step())
}

pub(super) fn unexpected(effect: &Effect) -> Failure {
    Failure::fault("store_answer_unexpected", format!("the store answered with {effect:?}"), "report this as a defect")
}
