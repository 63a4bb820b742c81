//! The witness's open door: `POST …/witness/add-checkpoint` of C2SP `tlog-witness`, for logs whose keys are configured.
//!
//! Plain HTTP, because nothing here rests on who brings a checkpoint: it proves itself by its log's signature, and anybody
//! may hand in what a log has signed. So what proves no two histories halts nothing, and a late one is only late. Each head
//! is remembered in one commit and signed once, however often it comes; all else is answered from what is read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;

use super::answering::{cosign, judged};
use crate::front::services::Services;
use crate::kernel::command::Actor;
use crate::kernel::note::{Checkpoint, SignedNote, VerifierKey};
use crate::kernel::witness::{AddCheckpoint, Claim, Head, SIZE_MAX, Submission, Told, Verdict, WitnessedLog, judge};
use crate::ops::clock;
use crate::ops::failure::{Failure, Kind};

/// An answer of the protocol: status, media type, body.
pub type OpenAnswer = (StatusCode, &'static str, String);

const TEXT: &str = "text/plain; charset=utf-8";
/// C2SP tlog-witness, "add-checkpoint".
const SIZE: &str = "text/x.tlog.size";

/// The door, with the line that was signed last for each log.
pub struct OpenDoor {
    services: Arc<Services>,
    /// By the log's name: as many as are configured. Never held across a call.
    last: Mutex<BTreeMap<String, (Head, String)>>,
}

impl OpenDoor {
    pub fn new(services: Arc<Services>) -> Self {
        Self { services, last: Mutex::default() }
    }

    /// Judges, remembers and cosigns what anybody handed in. Blocking.
    pub fn add_checkpoint(&self, body: &[u8]) -> OpenAnswer {
        let Ok(request) =
            std::str::from_utf8(body).map_err(drop).and_then(|text| AddCheckpoint::parse(text).map_err(drop))
        else {
            return named(StatusCode::BAD_REQUEST, "request_malformed");
        };
        let note = SignedNote::parse(request.checkpoint.as_bytes());
        let Ok((note, checkpoint)) =
            note.and_then(|note| Checkpoint::parse(&note.text).map(|checkpoint| (note, checkpoint)))
        else {
            return named(StatusCode::BAD_REQUEST, "checkpoint_malformed");
        };
        let mut logs = self.services.setup.settings.witness.log.iter();
        let Some(log) = logs.find(|log| log.origin == checkpoint.origin) else {
            return named(StatusCode::NOT_FOUND, "log_unknown");
        };
        let is_signed = VerifierKey::parse(&log.key).and_then(|key| note.verify(&key.name, &key.spki)).is_ok();
        if !is_signed {
            return named(StatusCode::FORBIDDEN, "checkpoint_signature_invalid");
        }
        if checkpoint.size > SIZE_MAX {
            return named(StatusCode::BAD_REQUEST, "size_too_large");
        }
        let submission = Submission {
            origin: checkpoint.origin.clone(),
            party: None,
            old_size: request.old_size,
            proof: request.proof,
            head: Head { size: checkpoint.size, root: checkpoint.root },
            note: request.checkpoint,
            claim: Claim::Nothing,
            cosigned: None,
        };
        self.answered(&checkpoint, submission).unwrap_or_else(|Failure { kind, name, .. }| {
            let status = match kind {
                Kind::Refused => StatusCode::FORBIDDEN,
                Kind::Usage => StatusCode::BAD_REQUEST,
                Kind::Busy | Kind::Unknown => StatusCode::SERVICE_UNAVAILABLE,
                Kind::Fault => StatusCode::INTERNAL_SERVER_ERROR,
            };
            named(status, &name)
        })
    }

    fn answered(&self, checkpoint: &Checkpoint, submission: Submission) -> Result<OpenAnswer, Failure> {
        let known = self.services.setup.store.witnessed()?;
        let seen = judge(&known, &submission, clock::now())
            .map_err(|refusal| Failure::refused(refusal.name(), refusal.message(), refusal.next_step()))?;
        let is_there = |new: &WitnessedLog| known.iter().any(|log| log.origin == new.origin && log.head == new.head);
        // Only what is news takes a commit, which judges it again.
        let verdict = match seen {
            Verdict::Cosign(log, told) if is_there(&log) => Verdict::Cosign(log, told),
            Verdict::Cosign(..) | Verdict::Halted(_, Told::Now) => {
                judged(&self.services, Actor::System { component: "witness".into() }, submission)?
            }
            other @ (Verdict::Stale(_)
            | Verdict::OldSizeBeyond
            | Verdict::Inconsistent
            | Verdict::Halted(_, Told::Before)) => other,
        };
        Ok(match verdict {
            Verdict::Cosign(..) => (StatusCode::OK, TEXT, format!("{}\n", self.line(checkpoint)?)),
            Verdict::Stale(remembered) => (StatusCode::CONFLICT, SIZE, format!("{}\n", remembered.size)),
            Verdict::OldSizeBeyond => named(StatusCode::BAD_REQUEST, "old_size_beyond"),
            Verdict::Inconsistent => named(StatusCode::UNPROCESSABLE_ENTITY, "log_inconsistent"),
            Verdict::Halted(log, _) => {
                let name = log.halt.as_ref().map_or("log_halted", |halt| halt.cause.name());
                named(StatusCode::CONFLICT, name)
            }
        })
    }

    /// The line over a head that is remembered: the one that was made for it, or a new one.
    fn line(&self, checkpoint: &Checkpoint) -> Result<String, Failure> {
        let head = Head { size: checkpoint.size, root: checkpoint.root };
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, line)) = last().get(&checkpoint.origin).filter(|(known, _)| *known == head) {
            return Ok(line.clone());
        }
        let line = cosign(&self.services, checkpoint)?.0.to_string();
        last().insert(checkpoint.origin.clone(), (head, line.clone()));
        Ok(line)
    }
}

fn named(status: StatusCode, name: &str) -> OpenAnswer {
    (status, TEXT, format!("{name}\n"))
}
