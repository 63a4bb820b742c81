//! What is recorded: orders and refusals, each in a commit of its own before a key is touched, and what is kept of them.

use serde_json::json;

use super::{Desk, defect, refusal_of};
use crate::kernel::canon;
use crate::kernel::command::{Act, Actor, Command, Decision, Effect, ProgramPrincipal};
use crate::kernel::external::{ExternalKind, SigningMark, SigningOrder, SigningRow};
use crate::kernel::types::{KeyId, Sha256};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::signing::api::Asked;
use crate::signing::compose::{self, NotComposed};
use crate::signing::journal::{Journal, Kept};
use crate::signing::refusal::SigningRefusal;
use crate::store::StoreFault;

impl Desk {
    /// A refusal of somebody who may have something signed is a leaf of its own; of many a second the rest are counted.
    pub(super) async fn refused(
        &self,
        program: &ProgramPrincipal,
        asked: &Asked,
        kind: ExternalKind,
        refusal: &NotComposed,
    ) -> Failure {
        let failure = refusal.failure();
        if self.recordable.check_key(&program.uid).is_err() {
            self.count("refusals_not_recorded");
            return failure;
        }
        let mut decision = json!({
            "outcome": "refused",
            "reason": failure.name,
            // What a stranger to the configuration calls a key is text like any other: no more of it than a name has.
            "key": asked.key().chars().filter(|char| !char.is_control()).take(64).collect::<String>(),
            "kind": kind,
            "count": asked.signatures().to_string(),
        });
        if let Some(purpose) = asked.purpose() {
            decision["purpose"] = json!(purpose);
        }
        let act = Act::Record { tool: "sign".into(), decision };
        match self.committed(Actor::Program(program.clone()), act, None).await {
            Ok(_) => failure,
            Err(fault) => fault,
        }
    }

    /// Records an order. `None`: nobody can ask for its answer again.
    pub(super) async fn ordered(
        &self,
        program: &ProgramPrincipal,
        order: SigningOrder,
        request_id: &str,
    ) -> Result<Option<(SigningRow, bool)>, Failure> {
        let act = Act::SignExternal(Box::new(order));
        let decision = self.committed(Actor::Program(program.clone()), act, Some(request_id)).await?;
        match decision.outcome {
            Ok(Effect::Signing { known, repeated }) => Ok(known.map(|row| (*row, repeated))),
            Ok(_) => Err(defect()),
            Err(refusal) => Err(refusal_of(refusal)),
        }
    }

    /// Keeps signatures, and answers those that stand.
    pub(super) async fn kept(&self, scope: Sha256, signatures: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let actor = Actor::System { component: "signing".into() };
        let decision = self.committed(actor, Act::KeepSignatures { scope, signatures }, None).await?;
        match decision.outcome {
            Ok(Effect::Signing { known: Some(row), .. }) => row.signatures.ok_or_else(defect),
            Ok(_) => Err(defect()),
            Err(refusal) => Err(refusal_of(refusal)),
        }
    }

    /// What the service itself says, each in a leaf.
    pub(super) async fn noted(&self, acts: Vec<Act>) -> Result<(), Failure> {
        let command = |act| {
            let actor = Actor::System { component: "signing".into() };
            Command { stamp: clock::stamp(clock::fresh_request_id()), actor, act }
        };
        self.committed_all(acts.into_iter().map(command).collect()).await.map(drop)
    }

    /// One command through the store's writer.
    async fn committed(&self, actor: Actor, act: Act, request_id: Option<&str>) -> Result<Decision, Failure> {
        let request_id = request_id.and_then(|id| id.parse().ok()).unwrap_or_else(clock::fresh_request_id);
        let command = Command { stamp: clock::stamp(request_id), actor, act };
        self.committed_all(vec![command]).await?.pop().ok_or_else(|| Failure::from(lost()))
    }

    /// Commands in one commit, without a thread that waits for it.
    async fn committed_all(&self, commands: Vec<Command>) -> Result<Vec<Decision>, Failure> {
        let (tell, told) = tokio::sync::oneshot::channel();
        self.setup.store.submit(
            commands,
            Box::new(move |outcome| {
                // Whoever asked may be gone: what is recorded is recorded.
                let _ = tell.send(outcome);
            }),
        );
        let decisions = told.await.map_err(|_| Failure::from(lost()))??;
        if decisions.iter().any(|decision| decision.leaf.is_some()) {
            (self.setup.recorded)();
        }
        Ok(decisions)
    }
}

fn lost() -> StoreFault {
    StoreFault::OutcomeUnknown("the store went away".into())
}

/// Under what a request is known again: this user's idempotency key for this key. None: it has none.
pub(super) fn scope(program: &ProgramPrincipal, asked: &Asked) -> Option<Sha256> {
    let (name, idempotency_key) = (asked.key(), asked.idempotency_key()?);
    Some(Sha256::of(&[
        b"countersign/signing/v1\0",
        &program.uid.to_be_bytes(),
        &(name.len() as u64).to_be_bytes(),
        name.as_bytes(),
        idempotency_key.as_str().as_bytes(),
    ]))
}

/// What is recorded of an order, and how a repetition is known.
pub(super) fn order(
    program: &ProgramPrincipal,
    asked: &Asked,
    kind: ExternalKind,
    journal: &Journal,
) -> Result<SigningOrder, SigningRefusal> {
    let (count, digest) = compose::told(journal);
    let mark = match (asked.idempotency_key(), scope(program, asked)) {
        (None, _) | (_, None) => None,
        (Some(idempotency_key), Some(scope)) => {
            let mut said = asked.value();
            if let Some(said) = said.as_object_mut() {
                said.remove("idempotency_key");
            }
            let said = canon::canonical(&said).map_err(|_| SigningRefusal::NotCanonical)?;
            let Journal { request_id, at, key, .. } = journal;
            let kept = Kept { request_id: request_id.clone(), at: *at, key: *key, digest };
            Some(SigningMark {
                idempotency_key: idempotency_key.to_string(),
                scope,
                request: Sha256::of(&[asked.way().as_bytes(), b"\0", &said]),
                journal: kept.written().map_err(|_| SigningRefusal::ContentTooLong)?,
            })
        }
    };
    let purpose = asked.purpose().map(str::to_owned);
    let (name, label, key): (_, _, KeyId) = (journal.name.clone(), journal.label.clone(), journal.key);
    Ok(SigningOrder { name, key, label, kind, purpose, count, digest, mark })
}
