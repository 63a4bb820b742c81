//! The bank's side: asks for a cosignature over the newest checkpoint, and compares the store with what the witness has
//! seen.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Answer, Cosigned, Question, Remembered};
use crate::audit::cosigning::{Cosigning, Disagreement, SetUp};
use crate::audit::{Log, cosigned_at};
use crate::front::services::Services;
use crate::kernel::command::{Act, Actor, Command};
use crate::kernel::cosignature::{self, Presented, SaidType};
use crate::kernel::note::{Checkpoint, NoteSignature, SignedNote};
use crate::kernel::notice::WITNESS_ALERT;
use crate::kernel::receipt::Base64;
use crate::kernel::witness::{AddCheckpoint, Claim, Head};
use crate::ops::clock;
use crate::ops::failure::{Failure, Kind};
use crate::store::{CheckpointRecord, Cosignature, CosignedCheckpoint};

/// After a question that a rule refused: people have to do something first.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);
/// At the start the witness is waited for so long; what it has to say later counts then.
const START_WAIT: Duration = Duration::from_secs(10);
/// So long by a daemon that was started for one command.
const COMMAND_WAIT: Duration = Duration::from_secs(2);
/// Another node of this bank may have asked meanwhile, so often in a row.
const STALE_MAX: u32 = 3;

/// When the witness is asked what it remembers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum When {
    /// Before any door is open.
    Start,
    Serving,
}

/// What a daemon starts for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    Serving,
    /// One command of the person who waits for it.
    Command,
}

/// Before any door is open and before the log goes on: whether the witness has seen what this store has not. What waits
/// here for its cosignature is handed in at once.
///
/// # Errors
/// `store_older_than_witnessed`, `log_forked`; the store's. A witness that cannot be asked now is no reason not to start.
pub fn at_start(services: &Arc<Services>, purpose: Purpose) -> Result<(), Failure> {
    let Some(cosigning) = services.cosigning() else {
        return Ok(());
    };
    let Ok(log) = services.log().cloned() else {
        return Ok(());
    };
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let (asked, measured) = (Arc::clone(services), Arc::clone(cosigning));
    let thread = std::thread::Builder::new().name("witness-start".into());
    let spawned = thread.spawn(move || {
        // Nobody listens any more when it took too long.
        let _ = tell.send(turn(&asked, &measured, When::Start));
    });
    if let Err(error) = spawned {
        return Err(Failure::fault("thread_failed", error.to_string(), "check the limit on processes of this user"));
    }
    let late =
        || Failure::busy("witness_slow", "the witness takes long to answer", "see the security company's daemon");
    let wait = match purpose {
        Purpose::Serving => START_WAIT,
        Purpose::Command => COMMAND_WAIT,
    };
    let asked = told.recv_timeout(wait).unwrap_or_else(|_| Err(late()));
    if let Some(disagreement) = cosigning.disagreement() {
        return Err(disagreement.failure());
    }
    if let Err(Failure { name, message, .. }) = asked {
        let what = "the witness has not said yet what it has seen of this log";
        match purpose {
            Purpose::Serving => tracing::warn!(%name, %message, "{what}"),
            // Theirs is another question, and what waits goes on waiting.
            Purpose::Command => tracing::debug!(%name, %message, "{what}"),
        }
    }
    let newest = log.cosigned()?;
    look(services, &log, cosigning)?;
    let at = newest.as_ref().and_then(|newest| cosigned_at(&newest.cosignature));
    cosigning.has_waited(clock::boot_ms(), at.map(|at| clock::now().0.saturating_sub(at.0)));
    Ok(())
}

/// Asks until `stop`, one question at a time. On a thread of its own: it blocks.
pub fn hold(services: &Services, stop: &CancellationToken) {
    let Some(cosigning) = services.cosigning() else {
        return;
    };
    let interval = Duration::from_millis(services.setup.settings.audit.witness_interval_ms);
    while !stop.is_cancelled() {
        let ended = turn(services, cosigning, When::Serving).err();
        let pause = match &ended {
            Some(failure) if failure.kind == Kind::Refused => interval.max(REFUSED_PAUSE),
            Some(_) | None => interval,
        };
        let was_well = ended.is_none();
        if let Some(Failure { name, message, next_step, .. }) = cosigning.ended(ended) {
            if was_well {
                tracing::info!("the audit log is cosigned again");
            } else {
                tracing::warn!(%name, %message, %next_step, "the audit log is not cosigned; money stops after witness_lag_max");
            }
        }
        std::thread::sleep(pause);
    }
}

/// One look, and a question if there is something to ask.
fn turn(services: &Services, cosigning: &Cosigning, when: When) -> Result<(), Failure> {
    let Ok(log) = services.log() else {
        // Nothing is recorded yet, so nothing waits.
        cosigning.looked(clock::boot_ms(), 0, 0);
        return Ok(());
    };
    let cosigned = look(services, log, cosigning)?;
    match cosigning.remembered() {
        None => compare(services, log, cosigning, when)?,
        // What is remembered was here: a store that has less has lost it while we ran (a fail-over to a copy that was
        // behind). That is known without asking.
        Some(known) if newest_size(services)? < known.size => agree(services, log, cosigning, known, when)?,
        Some(_) => {}
    }
    for _ in 0..STALE_MAX {
        let Some(signed) = services.setup.store.signed_checkpoint()? else {
            return Ok(());
        };
        let remembered = cosigning.remembered().unwrap_or_else(Head::empty);
        // Another node has asked about what is journalled here and not signed yet.
        if cosigned >= signed.size || remembered.size > signed.size {
            return Ok(());
        }
        match ask(services, log, &signed, remembered.size, Claim::Nothing) {
            Ok(Answer::Cosigned { line, chain }) => {
                keep(services, log, &signed, line, chain)?;
                cosigning.agreed(Head { size: signed.size, root: signed.root });
                let cosigned = look(services, log, cosigning)?;
                log.notify();
                // What was verified a moment ago is not what the store has.
                return if cosigned < signed.size { Err(not_kept(signed.size)) } else { Ok(()) };
            }
            Ok(Answer::Stale { remembered }) => agree(services, log, cosigning, remembered, when)?,
            Err(failure) => {
                // Whatever the reason is, the next turn asks first what is remembered.
                cosigning.forget_remembered();
                return Err(failure);
            }
        }
    }
    Ok(())
}

/// How far the log is, and how far it is cosigned: by the witness's own word, verified, not by what a row says.
fn look(services: &Services, log: &Log, cosigning: &Cosigning) -> Result<u64, Failure> {
    let cosigned = log.cosigned()?.map_or(0, |cosigned| cosigned.checkpoint.size);
    let now = if services.missing().is_empty() { SetUp::Yes } else { SetUp::NotYet };
    let newest = newest_size(services)?;
    let size = if cosigning.counts(now) { newest } else { cosigned };
    cosigning.looked(clock::boot_ms(), size, cosigned);
    Ok(cosigned)
}

fn newest_size(services: &Services) -> Result<u64, Failure> {
    Ok(services.setup.store.newest_checkpoint()?.map_or(0, |record| record.size))
}

/// Asks the witness what it remembers, and whether this store has the same.
fn compare(services: &Services, log: &Log, cosigning: &Cosigning, when: When) -> Result<(), Failure> {
    let answer = services.setup.authority.ask_witness(None)?;
    let Remembered { log: known } = serde_json::from_value(answer).map_err(|error| not_understood(&error))?;
    agree(services, log, cosigning, known.map_or_else(Head::empty, |known| known.head), when)
}

/// Whether this store goes on from what the witness remembers. If not, this node decides nothing from here on, and the
/// witness is told what there is.
fn agree(services: &Services, log: &Log, cosigning: &Cosigning, remembered: Head, when: When) -> Result<(), Failure> {
    // After the witness has spoken: a node of this bank may have added what it speaks of.
    let leaves = newest_size(services)?;
    let disagreement = if leaves < remembered.size {
        Disagreement::StoreOlder { remembered, leaves }
    } else if remembered.size > 0 && log.root_at(remembered.size)? != remembered.root {
        Disagreement::Forked { remembered }
    } else {
        if let Some(before) = cosigning.agreed(remembered) {
            tracing::info!(name = before.name(), "the witness has seen what this store has: agents are served again");
        }
        return Ok(());
    };
    let failure = disagreement.failure();
    if cosigning.disagreed(&disagreement).is_some() {
        tracing::error!(name = %failure.name, message = %failure.message, "this node decides nothing for agents");
        services.cut_everybody();
        // The other party must know; whether it hears it does not matter to what is refused here.
        if let Err(failure) = report(services, log, &disagreement) {
            tracing::info!(name = %failure.name, message = %failure.message, "the witness's word on it");
        }
        // A store that is put back at the start is left as it is.
        if when == When::Serving {
            record(services, &disagreement);
        }
    }
    Err(failure)
}

/// Hands the newest checkpoint in as all there is.
fn report(services: &Services, log: &Log, disagreement: &Disagreement) -> Result<(), Failure> {
    let Some(signed) = services.setup.store.signed_checkpoint()? else {
        return Ok(());
    };
    let old_size = match disagreement {
        Disagreement::StoreOlder { .. } => signed.size,
        Disagreement::Forked { remembered } => remembered.size.min(signed.size),
    };
    ask(services, log, &signed, old_size, Claim::NothingNewer).map(drop)
}

fn record(services: &Services, disagreement: &Disagreement) {
    let failure = disagreement.failure();
    let decision = json!({ "name": failure.name, "why": failure.message });
    let actor = Actor::System { component: "witness".into() };
    let act = Act::Record { tool: WITNESS_ALERT.into(), decision };
    let command = Command { stamp: clock::stamp(clock::fresh_request_id()), actor, act };
    if let Err(fault) = services.setup.store.apply(vec![command]) {
        tracing::error!(%fault, "that the witness disagrees has no leaf");
    }
}

/// One question about a signed checkpoint.
fn ask(
    services: &Services,
    log: &Log,
    signed: &CheckpointRecord,
    old_size: u64,
    claim: Claim,
) -> Result<Answer, Failure> {
    let (note, chain) = log.signed(signed)?;
    let proof = log.consistency(old_size, signed.size)?;
    let request = AddCheckpoint { old_size, proof, checkpoint: note.compose() }.compose();
    let question = Question { request, chain: base64(chain), claim, cosigned: log.cosigned()?.map(cosigned) };
    let answer = services.setup.authority.ask_witness(Some(&json!(question)))?;
    serde_json::from_value(answer).map_err(|error| not_understood(&error))
}

fn cosigned(newest: CosignedCheckpoint) -> Cosigned {
    let CosignedCheckpoint { checkpoint, cosignature: Cosignature { line, chain } } = newest;
    Cosigned { checkpoint: String::from_utf8_lossy(&checkpoint.note).into_owned(), line, chain: base64(chain) }
}

fn base64(chain: Vec<Vec<u8>>) -> Vec<Base64> {
    chain.into_iter().map(Base64).collect()
}

/// Verifies the witness's word and keeps it beside the checkpoint.
fn keep(
    services: &Services,
    log: &Log,
    signed: &CheckpointRecord,
    line: String,
    chain: Vec<Base64>,
) -> Result<(), Failure> {
    let unusable = |why: String| {
        Failure::refused(
            "cosignature_unusable",
            format!("the witness's cosignature of checkpoint {} is not usable: {why}", signed.size),
            "see the certificates of the witness role: `countersign doctor` at the security company",
        )
    };
    let root = services.setup.authority.root_of_party(None)?;
    let read = NoteSignature::parse(&line).map_err(|refused| unusable(refused.to_string()))?;
    let note = signed.signed.as_deref().unwrap_or_default();
    let checkpoint = SignedNote::parse(note).and_then(|note| Checkpoint::parse(&note.text));
    let checkpoint = checkpoint.map_err(|refused| unusable(refused.to_string()))?;
    let der: Vec<&[u8]> = chain.iter().map(|certificate| certificate.0.as_slice()).collect();
    let cosignatures = [Presented { line: read, chain: der, said: SaidType::Elsewhere }].into_iter();
    let oid_base = &services.setup.settings.pki.oid_base;
    cosignature::verify(&checkpoint, cosignatures, Some(&root), oid_base)
        .map_err(|refusal| unusable(format!("{}: {refusal}", refusal.name())))?;
    // The root that has just been read is the one to go by.
    log.trust_witness(root);
    let chain = chain.into_iter().map(|certificate| certificate.0).collect();
    Ok(services.setup.store.store_cosignature(signed.size, Cosignature { line, chain })?)
}

fn not_kept(size: u64) -> Failure {
    Failure::refused(
        "cosignature_replaced",
        format!("the witness has cosigned checkpoint {size}, and the store has another line beside it"),
        "somebody writes to the store besides the daemon: `countersign audit check`, and look for triggers",
    )
}

fn not_understood(error: &serde_json::Error) -> Failure {
    let why = format!("the witness's answer is not understood: {error}");
    Failure::fault("witness_answer_malformed", why, "run versions of countersign that fit each other")
}
