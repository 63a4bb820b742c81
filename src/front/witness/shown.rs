//! `witness status` and `witness accept`: what people see of both sides, and how they go on after they have looked.

use serde_json::{Value, json};

use crate::audit::cosigned_at;
use crate::ca::settings::PartyKind;
use crate::front::services::Services;
use crate::kernel::command::{Act, Actor, Command, Effect, OperatorPrincipal, Thaw};
use crate::kernel::note::{NoteSignature, SignatureType, cosignature_type, verifier_key};
use crate::kernel::sign::Purpose;
use crate::kernel::types::UnixMillis;
use crate::kernel::witness::{Head, WitnessedLog};
use crate::ops::clock;
use crate::ops::failure::Failure;

/// At a bank `{role: "log", origin, cosigning, cosignature}`, at a security company `{role: "witness", name, key, signature_type, items}`.
///
/// # Errors
/// `not_this_party`; the store's.
pub fn status(services: &Services) -> Result<Value, Failure> {
    match services.setup.kind {
        PartyKind::Bank => of_log(services),
        PartyKind::SecurityCompany => of_witness(services),
        PartyKind::AgentHost | PartyKind::Operator => Err(Failure::refused(
            "not_this_party",
            format!("{} has no log that is cosigned, and cosigns none", services.setup.party),
            "name the state directory of a bank or a security company",
        )),
    }
}

fn of_log(services: &Services) -> Result<Value, Failure> {
    let cosigned = services.log().ok().map(|log| log.cosigned()).transpose()?.flatten();
    let cosignature = cosigned.map(|cosigned| {
        let line = NoteSignature::parse(&cosigned.cosignature.line).ok();
        let at = cosigned_at(&cosigned.cosignature).map(UnixMillis::rfc3339);
        json!({ "size": cosigned.checkpoint.size, "witness": line.map(|line| line.name), "at": at })
    });
    Ok(json!({
        "role": "log",
        "origin": services.setup.settings.audit.origin,
        "cosigning": services.cosigning().map(|cosigning| cosigning.state(clock::boot_ms())),
        "cosignature": cosignature,
    }))
}

fn of_witness(services: &Services) -> Result<Value, Failure> {
    let name = services.witness_name();
    let key = services.setup.authority.signing_role(Purpose::Witness).ok();
    // In one word, as others' software takes it (C2SP signed-note; a P-256 key under our own type).
    let kind = key.as_ref().and_then(|role| cosignature_type(&role.key.spki).ok());
    let key = key.zip(kind).and_then(|(role, kind)| verifier_key(kind, &name, &role.key.spki).ok());
    let items: Vec<Value> = services.setup.store.witnessed()?.iter().map(of_witnessed).collect();
    Ok(json!({
        "role": "witness", "name": name, "key": key, "signature_type": kind.map(SignatureType::name), "items": items,
        "next": null,
    }))
}

fn of_witnessed(log: &WitnessedLog) -> Value {
    let halted = log.halt.as_ref().map(|halt| {
        json!({
            "cause": halt.cause, "why": halt.cause.message(), "shown": halt.shown, "note": halt.note,
            "at": halt.at.rfc3339(), "accept_asked_by": halt.accept_asked_by,
        })
    });
    json!({
        "origin": log.origin, "party": log.party, "head": log.head, "cosigned_at": log.cosigned_at.rfc3339(),
        "halted": halted,
    })
}

/// Goes on with a log that was halted; from `head` on, if one is named and a second person says so. Answers
/// `{origin, changed, accepted}`.
///
/// # Errors
/// `not_this_party`, `operator_not_permitted`, `unknown_log`, `log_not_halted`, `head_not_shown`, `maker_is_checker`; the
/// store's.
pub fn accept(
    services: &Services,
    operator: &OperatorPrincipal,
    origin: String,
    head: Option<Head>,
    reason: String,
) -> Result<Value, Failure> {
    if services.setup.kind != PartyKind::SecurityCompany {
        return Err(Failure::refused(
            "not_this_party",
            format!("{} is no witness", services.setup.party),
            "an officer of the security company does this",
        ));
    }
    let actor = Actor::Operator(operator.clone());
    let act = Act::AcceptLog { origin: origin.clone(), head, reason };
    let command = Command { stamp: clock::stamp(clock::fresh_request_id()), actor, act };
    let decision = services.setup.store.apply(vec![command])?.pop();
    match decision.map(|decision| decision.outcome) {
        Some(Ok(Effect::Done { changed })) => Ok(json!({ "origin": origin, "changed": changed, "accepted": true })),
        Some(Ok(Effect::LogAccepted { by })) => {
            Ok(json!({ "origin": origin, "changed": true, "accepted": by == Thaw::Both }))
        }
        Some(Err(refusal)) => Err(Failure::refused(refusal.name(), refusal.message(), refusal.next_step())),
        Some(Ok(_)) | None => {
            let why = "the store answered with something else";
            Err(Failure::fault("store_answer_unexpected", why, "report this as a defect"))
        }
    }
}
