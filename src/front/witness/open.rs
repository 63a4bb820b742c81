//! The witness's open door: `POST …/witness/add-checkpoint` of C2SP `tlog-witness`, for logs whose keys are configured.
//!
//! Plain HTTP, because nothing here rests on who brings a checkpoint: it proves itself by its log's signature, and anybody
//! may hand in what a log has signed. So what proves no two histories halts nothing, and a late one is only late.

use http::StatusCode;

use super::answering::{cosign, judged};
use crate::front::services::Services;
use crate::kernel::command::Actor;
use crate::kernel::note::{Checkpoint, SignedNote, VerifierKey};
use crate::kernel::witness::{AddCheckpoint, Claim, Head, Submission, Verdict};
use crate::ops::failure::{Failure, Kind};

/// An answer of the protocol: status, media type, body.
pub type OpenAnswer = (StatusCode, &'static str, String);

const TEXT: &str = "text/plain; charset=utf-8";
/// C2SP tlog-witness, "add-checkpoint".
const SIZE: &str = "text/x.tlog.size";

/// Judges, remembers and cosigns what anybody handed in. Blocking.
pub fn add_checkpoint(services: &Services, body: &[u8]) -> OpenAnswer {
    let named = |status, name: &str| (status, TEXT, format!("{name}\n"));
    let Ok(request) = std::str::from_utf8(body).map_err(drop).and_then(|text| AddCheckpoint::parse(text).map_err(drop))
    else {
        return named(StatusCode::BAD_REQUEST, "request_malformed");
    };
    let note = SignedNote::parse(request.checkpoint.as_bytes());
    let Ok((note, checkpoint)) =
        note.and_then(|note| Checkpoint::parse(&note.text).map(|checkpoint| (note, checkpoint)))
    else {
        return named(StatusCode::BAD_REQUEST, "checkpoint_malformed");
    };
    let mut logs = services.setup.settings.witness.log.iter();
    let Some(log) = logs.find(|log| log.origin == checkpoint.origin) else {
        return named(StatusCode::NOT_FOUND, "log_unknown");
    };
    let is_signed = VerifierKey::parse(&log.key).and_then(|key| note.verify(&key.name, &key.spki)).is_ok();
    if !is_signed {
        return named(StatusCode::FORBIDDEN, "checkpoint_signature_invalid");
    }
    let submission = Submission {
        origin: checkpoint.origin.clone(),
        party: None,
        old_size: request.old_size,
        proof: request.proof,
        head: Head { size: checkpoint.size, root: checkpoint.root },
        claim: Claim::Nothing,
    };
    let actor = Actor::System { component: "witness".into() };
    let answered = judged(services, actor, submission).and_then(|verdict| {
        Ok(match verdict {
            Verdict::Cosign(..) => (StatusCode::OK, TEXT, format!("{}\n", cosign(services, &checkpoint)?.0)),
            Verdict::Stale(remembered) => (StatusCode::CONFLICT, SIZE, format!("{}\n", remembered.size)),
            Verdict::OldSizeBeyond => named(StatusCode::BAD_REQUEST, "old_size_beyond"),
            Verdict::Inconsistent => named(StatusCode::UNPROCESSABLE_ENTITY, "log_inconsistent"),
            Verdict::Halted(log, _) => {
                let name = log.halt.as_ref().map_or("log_halted", |halt| halt.cause.name());
                named(StatusCode::CONFLICT, name)
            }
        })
    });
    answered.unwrap_or_else(|Failure { kind, name, .. }| {
        let status = match kind {
            Kind::Refused => StatusCode::FORBIDDEN,
            Kind::Usage => StatusCode::BAD_REQUEST,
            Kind::Busy | Kind::Unknown => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Fault => StatusCode::INTERNAL_SERVER_ERROR,
        };
        named(status, &name)
    })
}
