//! The witness's side: what comes over a bank's own connection.

use serde_json::{Value, json};

use super::{Answer, Cosigned, Question, Remembered, RememberedLog};
use crate::ca::settings::PartyKind;
use crate::front::services::Services;
use crate::kernel::command::{Act, Actor, Command, Effect};
use crate::kernel::cosignature::{self, Presented, SaidType};
use crate::kernel::leaf_proof::verify_checkpoint;
use crate::kernel::note::{Checkpoint, NoteSignature, SignedNote, cosignature_message};
use crate::kernel::receipt::Base64;
use crate::kernel::sign::{Purpose, SignInput};
use crate::kernel::types::PartyName;
use crate::kernel::witness::{AddCheckpoint, Head, Shown, Submission, Told, Verdict, WitnessedLog};
use crate::ops::clock;
use crate::ops::failure::{Failure, Kind};

/// What is remembered of the log of a bank: `{log: {origin, head, halted} | null}`.
///
/// # Errors
/// `not_this_party`; the store's.
pub fn remembered(services: &Services, party: &PartyName) -> Result<Value, Failure> {
    only_a_witness(services)?;
    let log = services.setup.store.witnessed()?.into_iter().find(|log| log.party.as_ref() == Some(party));
    let log = log.map(|WitnessedLog { origin, head, halt, .. }| RememberedLog {
        origin,
        head,
        halted: halt.map(|halt| halt.cause),
    });
    Ok(json!(Remembered { log }))
}

/// Judges a bank's checkpoint, remembers it and cosigns it.
///
/// # Errors
/// `not_this_party`, `request_malformed`; what is wrong with the checkpoint; `log_forked`, `log_rolled_back`,
/// `witness_older_than_cosigned`, `size_too_large`, `log_of_another`, `log_renamed`, `too_many_logs`, `log_inconsistent`, `old_size_beyond`; the store's and the HSM's.
pub fn answer(services: &Services, party: &PartyName, question: &Value) -> Result<Value, Failure> {
    only_a_witness(services)?;
    let malformed = |why: String| Failure::usage("request_malformed", why, "see /v1/openapi.json");
    let question: Question = serde_json::from_value(question.clone()).map_err(|error| malformed(error.to_string()))?;
    let request = AddCheckpoint::parse(&question.request).map_err(|error| malformed(error.to_string()))?;
    let actor = Actor::System { component: format!("peer {party}") };
    let checkpoint = checkpoint_of(services, party, &request, &question.chain).inspect_err(|failure| {
        if failure.kind == Kind::Refused {
            record(services, &actor, failure);
        }
    })?;
    let cosigned = question.cosigned.map(|own| said_before(services, own, &checkpoint.origin)).transpose()?.flatten();
    let AddCheckpoint { old_size, proof, checkpoint: note } = request;
    let submission = Submission {
        origin: checkpoint.origin.clone(),
        party: Some(party.clone()),
        old_size,
        proof,
        head: Head { size: checkpoint.size, root: checkpoint.root },
        note,
        claim: question.claim,
        cosigned,
    };
    let answer = match judged(services, actor, submission)? {
        Verdict::Cosign(..) => {
            let (line, chain) = cosign(services, &checkpoint)?;
            Answer::Cosigned { line: line.to_string(), chain: chain.into_iter().map(Base64).collect() }
        }
        Verdict::Stale(remembered) => Answer::Stale { remembered },
        Verdict::OldSizeBeyond => {
            let why = "the checkpoint is smaller than the one that it is said to have grown from";
            return Err(Failure::usage("old_size_beyond", why, "ask with the size that the witness remembers"));
        }
        Verdict::Inconsistent => {
            let why = "the proof does not lead from nothing to this checkpoint";
            return Err(Failure::refused("log_inconsistent", why, "send no proof with a log's first checkpoint"));
        }
        Verdict::Halted(log, _) => return Err(halted(&log)),
    };
    Ok(json!(answer))
}

/// Judges in one commit with what is remembered; what is said for the first time is on disk and in the log here.
pub(super) fn judged(services: &Services, actor: Actor, submission: Submission) -> Result<Verdict, Failure> {
    let act = Act::Witness(Box::new(submission));
    let command = Command { stamp: clock::stamp(clock::fresh_request_id()), actor, act };
    let decision = services.setup.store.apply(vec![command])?.pop();
    let verdict = match decision.map(|decision| decision.outcome) {
        Some(Ok(Effect::Witnessed(verdict))) => *verdict,
        Some(Err(refusal)) => return Err(Failure::refused(refusal.name(), refusal.message(), refusal.next_step())),
        Some(Ok(_)) | None => {
            let why = "the store answered with something else than a verdict";
            return Err(Failure::fault("store_answer_unexpected", why, "report this as a defect"));
        }
    };
    if let Verdict::Halted(log, Told::Now) = &verdict {
        let name = log.halt.as_ref().map_or("log_halted", |halt| halt.cause.name());
        tracing::error!(name, origin = %log.origin, "a log is not cosigned any more: people must look");
    }
    Ok(verdict)
}

/// The signature over what is remembered already, verified before it leaves, and the certificates of its key.
pub(super) fn cosign(services: &Services, checkpoint: &Checkpoint) -> Result<(NoteSignature, Vec<Vec<u8>>), Failure> {
    let role = services.setup.authority.signing_role(Purpose::Witness)?;
    let seconds = u64::try_from(clock::now().seconds()).unwrap_or(0);
    let text = checkpoint.text();
    let message = cosignature_message(seconds, &text).into_bytes();
    let signature = services.token().sign(role.key.id, SignInput::Cosignature { message })?;
    let name = services.witness_name();
    let line = NoteSignature::cosignature(&name, &role.key.spki, seconds, &signature);
    let note = line.map(|line| SignedNote { text, signatures: vec![line] });
    let verified = note.and_then(|mut note| {
        note.verify_cosignature(&name, &role.key.spki)?;
        note.signatures.pop().ok_or(crate::kernel::note::NoteRefused::NoSuchSignature)
    });
    let line = verified.map_err(|refused| {
        Failure::fault(
            "cosignature_wrong",
            format!("the token's cosignature of checkpoint {} was not usable: {refused}", checkpoint.size),
            "run `countersign doctor`: key and certificate of the witness role must belong together",
        )
    })?;
    Ok((line, role.chain))
}

/// What this witness has cosigned of a log, by its own signature. What is not its own says nothing.
///
/// # Errors
/// The certificates of the witness's own role.
fn said_before(services: &Services, own: Cosigned, origin: &str) -> Result<Option<Shown>, Failure> {
    let role = services.setup.authority.signing_role(Purpose::Witness)?;
    let root = role.chain.last().map(Vec::as_slice).unwrap_or_default();
    let Cosigned { checkpoint: text, line, chain } = own;
    let read = Checkpoint::parse(&text).and_then(|checkpoint| Ok((checkpoint, NoteSignature::parse(&line)?)));
    let Ok((checkpoint, signature)) = read else {
        return Ok(None);
    };
    let chain: Vec<&[u8]> = chain.iter().map(|certificate| certificate.0.as_slice()).collect();
    let oid_base = &services.setup.settings.pki.oid_base;
    let presented = Presented { line: signature, chain, said: SaidType::Elsewhere };
    let verified = cosignature::verify(&checkpoint, [presented].into_iter(), Some(root), oid_base);
    let is_own = verified.is_ok() && checkpoint.origin == origin;
    Ok(is_own.then(|| Shown {
        head: Head { size: checkpoint.size, root: checkpoint.root },
        note: format!("{text}\n{line}\n"),
    }))
}

fn halted(log: &WitnessedLog) -> Failure {
    let (name, message) = match &log.halt {
        Some(halt) => (halt.cause.name(), halt.cause.message()),
        None => ("log_halted", "the log is not cosigned any more"),
    };
    Failure::refused(
        name,
        format!("{message}: {} leaves of {} are remembered", log.head.size, log.origin),
        "people of both parties look: `countersign witness status` at the witness, which goes on after `witness accept`",
    )
}

/// The checkpoint, when the party's own certified key has signed it.
fn checkpoint_of(
    services: &Services,
    party: &PartyName,
    request: &AddCheckpoint,
    chain: &[Base64],
) -> Result<Checkpoint, Failure> {
    let root = services.setup.authority.root_of_party(Some(party))?;
    let chain: Vec<&[u8]> = chain.iter().map(|certificate| certificate.0.as_slice()).collect();
    let oid_base = &services.setup.settings.pki.oid_base;
    let verified = verify_checkpoint(&request.checkpoint, &chain, &[], (&root, None), oid_base);
    verified.map(|head| head.checkpoint).map_err(|refusal| {
        Failure::refused(
            refusal.name(),
            format!("this is no checkpoint of {party}: {refusal}"),
            "see the certificates of its checkpoint role: `countersign doctor` there",
        )
    })
}

/// What a party handed in that was not its own is in the log here, too.
fn record(services: &Services, actor: &Actor, failure: &Failure) {
    let decision = json!({ "outcome": "refused", "reason": failure.name, "about": { "message": failure.message } });
    let act = Act::Record { tool: "witness".into(), decision };
    let command = Command { stamp: clock::stamp(clock::fresh_request_id()), actor: actor.clone(), act };
    if let Err(fault) = services.setup.store.apply(vec![command]) {
        tracing::error!(%fault, "a refused checkpoint has no leaf");
    }
}

fn only_a_witness(services: &Services) -> Result<(), Failure> {
    if services.setup.kind == PartyKind::SecurityCompany {
        return Ok(());
    }
    Err(Failure::refused(
        "not_this_party",
        format!("{} cosigns nobody's log", services.setup.party),
        "ask the security company: [peer] url",
    ))
}
