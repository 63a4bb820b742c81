//! The body of an audit leaf: who asked for what, under which rules, and what came of it.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Value, json};

use super::about::is_erased;
use super::vault;
use crate::kernel::canon::{CanonRefused, canonical_of};
use crate::kernel::command::{
    Act, Actor, CaseStep, Command, Effect, ErasureTrail, Posted, SubjectStep, Thaw, ToolCall, Verdict,
};
use crate::kernel::external::SigningOrder;
use crate::kernel::monitor::Assessment;
use crate::kernel::policy::transaction::Why;
use crate::kernel::refusal::Refusal;
use crate::kernel::text::OnHostile;
use crate::kernel::types::{IdempotencyKey, MandateId, Money, RequestId, Sha256, TransactionId};
use crate::kernel::witness::{Head, Submission, Verdict as WitnessVerdict};

/// The canonical JSON (RFC 8785) that a leaf commits to.
///
/// Parameters are those received; certificates and people's signatures appear as their SHA-256, read answers not at all.
///
/// # Errors
/// [`CanonRefused`] when an [`Act::Record`] carries what has no canonical form.
pub fn leaf_body(
    command: &Command,
    outcome: &Result<Effect, Refusal>,
    why: Option<&Why>,
) -> Result<Vec<u8>, CanonRefused> {
    let asserted = match &command.actor {
        Actor::Operator(operator) => operator.asserted,
        Actor::Agent(_) | Actor::Program(_) | Actor::System { .. } => false,
    };
    let (kind, name, parameters) = named(&command.act, outcome);
    let rules = if let Act::Tool { rules, .. }
    | Act::ReverseTransaction { rules, .. }
    | Act::ResolveCase { rules, .. } = &command.act
    {
        Some(rules)
    } else {
        None
    };
    // What was refused before it was a command is one refusal like the others.
    let recorded = if let Act::Record { decision, .. } = &command.act { refusal_in(decision) } else { None };
    let refused = outcome.as_ref().err().map(|refusal| refusal.name()).or(recorded);
    let signature = command.stamp.signature.as_ref();
    canonical_of(&Body {
        act: (kind == "act").then_some(name),
        actor: &command.actor,
        asserted,
        at: command.stamp.wall.rfc3339(),
        catalogue_version: rules.map(|rules| rules.catalogue_version.to_string()),
        decision: if refused.is_none() { "permitted" } else { "refused" },
        parameters,
        policy_version: rules.map(|rules| rules.policy_version.as_str()),
        reason: refused,
        request_base_digest: signature.map(|signature| hex::encode(&signature.base_digest)),
        request_created: signature.map(|signature| signature.created.rfc3339()),
        request_id: &command.stamp.request_id,
        request_signature: signature.map(|signature| BASE64_URL_SAFE_NO_PAD.encode(&signature.bytes)),
        result: match outcome {
            Ok(effect) if refused.is_none() => result(effect),
            Ok(_) | Err(_) => Outcome::Other(Value::Null),
        },
        risk: if let Act::Tool { risk, .. } = &command.act { risk.as_deref() } else { None },
        schema: "countersign/leaf/v1",
        tool: (kind == "tool").then_some(name),
        why,
    })
}

/// The name of the refusal that a record is of: `outcome` says so, or an agent's answer did.
fn refusal_in(decision: &Value) -> Option<&str> {
    let of_person = (decision["outcome"] == "refused").then(|| decision["reason"].as_str().unwrap_or("refused"));
    of_person.or_else(|| decision["refused"].as_str())
}

/// A leaf's body, its members in their order.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<&'a str>,
    actor: &'a Actor,
    asserted: bool,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    catalogue_version: Option<String>,
    decision: &'a str,
    parameters: Parameters<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_version: Option<&'a str>,
    reason: Option<&'a str>,
    /// Of the signed request, with `request_created` and `request_signature`.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_base_digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_created: Option<String>,
    request_id: &'a RequestId,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_signature: Option<String>,
    result: Outcome<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    risk: Option<&'a Assessment>,
    schema: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a str>,
    /// The rule that refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a Why>,
}

/// What was asked. The frequent acts are written as they are, the others as a tree.
#[derive(Serialize)]
#[serde(untagged)]
enum Parameters<'a> {
    Call(&'a ToolCall),
    Transfer { amount: Money, credit: &'a str, debit: &'a str, reference: &'a IdempotencyKey },
    Other(Value),
}

/// What came of it, in the same two ways.
#[derive(Serialize)]
#[serde(untagged)]
enum Outcome<'a> {
    Placed {
        batch: String,
        index_in_batch: String,
        repeated: bool,
        statement_sha256: Sha256,
        status: &'a str,
        transaction_id: &'a TransactionId,
    },
    Other(Value),
}

fn named<'a>(act: &'a Act, outcome: &Result<Effect, Refusal>) -> (&'static str, &'a str, Parameters<'a>) {
    let (kind, name, parameters): (_, &str, _) = match act {
        Act::Tool { call, .. } => return ("tool", call.tool(), Parameters::Call(call)),
        Act::Record { tool, decision } => ("act", tool, decision.clone()),
        Act::OpenAccount(new) => ("act", "open_account", json!(new)),
        Act::SetAccountStatus { account, status, reason } => {
            ("act", "set_account_status", json!({ "account": account, "status": status, "reason": reason }))
        }
        Act::Transfer { debit, credit, amount, reference } => {
            return ("act", "transfer", Parameters::Transfer { amount: *amount, credit, debit, reference });
        }
        Act::ReverseTransaction { transaction_id, amount, idempotency_key, .. } => (
            "act",
            "reverse_transaction",
            json!({ "transaction_id": transaction_id, "amount": amount, "idempotency_key": idempotency_key }),
        ),
        Act::ApplyPolicy { policy, expects } => {
            let roles: Vec<&str> = policy.document().roles.iter().map(|role| role.role.as_str()).collect();
            let parameters = json!({ "expects": expects.to_string(), "roles": roles, "sha256": policy.hash() });
            ("act", "apply_policy", parameters)
        }
        Act::SetBreaker { cause, reason, node } => {
            let mut said = json!({ "cause": cause, "open": reason.is_some(), "reason": reason });
            if let Some(node) = node {
                said["node"] = json!(node);
            }
            ("act", "set_breaker", said)
        }
        Act::TakeCase { case, from } => ("act", "take_case", json!({ "case_id": case, "from": from })),
        Act::ResolveCase { case, verdict, note, .. } => {
            ("act", "resolve_case", json!({ "case_id": case, "verdict": verdict, "note": note }))
        }
        Act::QueueManual { transaction_id, case, reason } => {
            ("act", "queue_manual", json!({ "transaction_id": transaction_id, "case_id": case, "reason": reason }))
        }
        Act::CoreAnswered { transaction_id, verb, word } => {
            ("act", "core_answered", json!({ "transaction_id": transaction_id, "verb": verb, "word": word }))
        }
        Act::IncomingPayment { account, amount, reference } => {
            ("act", "incoming_payment", json!({ "account": account, "amount": amount, "reference": reference }))
        }
        Act::AddMerchant { merchant, name, currency, looks_like_accepted, on_hostile } => {
            let said = json!({
                "merchant": merchant, "name": name, "currency": currency, "looks_like_accepted": looks_like_accepted,
            });
            ("act", "add_merchant", text_accepted(said, *on_hostile))
        }
        Act::AddProduct { merchant, product, title, price, on_hostile } => {
            let said = json!({ "merchant": merchant, "product": product, "title": title, "price": price });
            ("act", "add_product", text_accepted(said, *on_hostile))
        }
        Act::AddGrant { agent, account, owner, verbs, per_transaction_max, expires } => (
            "act",
            "add_grant",
            json!({
                "agent": agent, "account": account, "owner": owner, "verbs": verbs,
                "per_transaction_max": per_transaction_max, "expires": expires.rfc3339(),
            }),
        ),
        Act::RevokeGrant { agent, account } => ("act", "revoke_grant", json!({ "agent": agent, "account": account })),
        Act::AddMandate { mandate } => (
            "act",
            "add_mandate",
            json!({
                "claims": mandate.mandate().claims(), "owner_key": mandate.key(),
                "text_sha256": Sha256::of(&[mandate.text().as_bytes()]),
            }),
        ),
        Act::RevokeMandate { mandate, reason } => {
            ("act", "revoke_mandate", json!({ "mandate_id": mandate, "reason": reason }))
        }
        Act::DecideApproval { approval, side, verdict, note, evidence } => (
            "act",
            "decide_approval",
            json!({
                "approval_id": approval, "gate": side, "verdict": verdict, "note": note,
                "evidence_sha256": evidence.as_ref().map(|evidence| evidence.hash()),
            }),
        ),
        Act::Sweep { limit } => ("act", "sweep", json!({ "limit": limit })),
        Act::JournalCertificate { record } => (
            "act",
            "journal_certificate",
            json!({
                "id": record.id, "profile": record.profile, "subject": record.subject, "issuer": record.issuer,
                "serial": record.serial, "key": record.key, "not_after": record.not_after.rfc3339(),
                "tbs_sha256": Sha256::of(&[&record.tbs]),
            }),
        ),
        Act::ReleaseCertificate { id, der } => {
            ("act", "release_certificate", json!({ "id": id, "der_sha256": Sha256::of(&[der]) }))
        }
        Act::Revoke { target, reason } => ("act", "revoke", json!({ "target": target, "reason": reason })),
        Act::SpreadRevocation { after, limit } => {
            ("act", "spread_revocation", json!({ "after": after, "limit": limit }))
        }
        Act::Freeze { whom, reason } => ("act", "freeze", json!({ "whom": whom, "reason": reason })),
        Act::Unfreeze { whom, note } => ("act", "unfreeze", json!({ "whom": whom, "note": note })),
        Act::ImportCrl { issuer, number, this_update, next_update, serials } => (
            "act",
            "import_crl",
            json!({
                "issuer": issuer, "number": number.to_string(), "this_update": this_update.rfc3339(),
                "next_update": next_update.rfc3339(), "serials": serials,
            }),
        ),
        Act::NextCrlNumber { issuer } => ("act", "next_crl_number", json!({ "issuer": issuer })),
        Act::Witness(submission) => {
            let Submission { origin, party, old_size, head, claim, cosigned, note: _, proof: _ } = &**submission;
            let said = json!({
                "origin": origin, "party": party, "old_size": old_size.to_string(), "head": head_said(head), "claim": claim,
                "cosigned": cosigned.as_ref().map(|own| head_said(&own.head)),
            });
            ("act", "witness", said)
        }
        Act::AcceptLog { origin, head, reason } => {
            let said = json!({ "origin": origin, "head": head.as_ref().map(head_said), "reason": reason });
            ("act", "accept_log", said)
        }
        Act::Vault(act) => ("act", act.act(), vault::said(act)),
        Act::Subject { subject, step } => match step {
            SubjectStep::Hold { reason } => ("act", "hold_subject", json!({ "subject": subject, "reason": reason })),
            SubjectStep::Release { reason } => {
                ("act", "release_subject", json!({ "subject": subject, "reason": reason }))
            }
            SubjectStep::Erase { reason, pseudonym } if is_erased(outcome) => {
                ("act", "erase_subject", json!({ "pseudonym": pseudonym, "reason": reason }))
            }
            SubjectStep::Erase { reason, .. } => {
                ("act", "erase_subject", json!({ "subject": subject, "reason": reason }))
            }
        },
        Act::LapseKeys { before, limit } => {
            ("act", "lapse_keys", json!({ "before": before.to_string(), "limit": limit }))
        }
        Act::SignExternal(order) => ("act", "sign", ordered(order)),
        Act::KeepSignatures { scope, signatures } => {
            ("act", "keep_signatures", json!({ "scope": scope, "signatures_sha256": Sha256::of(&[signatures]) }))
        }
        Act::SignBatch { batch, signature, key } => (
            "act",
            "sign_batch",
            json!({ "batch": batch.to_string(), "signature_sha256": Sha256::of(&[signature]), "key": key }),
        ),
    };
    (kind, name, Parameters::Other(parameters))
}

/// An order for signatures: by which key, over what. Never what was signed itself.
fn ordered(order: &SigningOrder) -> Value {
    let SigningOrder { name, key, label, kind, purpose, count, digest, mark } = order;
    let mut said = json!({
        "key": name, "key_id": key, "label": label, "kind": kind, "count": count.to_string(), "digest": digest,
    });
    if let Some(purpose) = purpose {
        said["purpose"] = json!(purpose);
    }
    if let Some(mark) = mark {
        said["idempotency_key"] = json!(mark.idempotency_key);
        said["request_sha256"] = json!(mark.request);
    }
    said
}

/// Whoever let a text pass that looks hostile has said so.
fn text_accepted(mut parameters: Value, on_hostile: OnHostile) -> Value {
    if on_hostile == OnHostile::Accept {
        parameters["text_accepted"] = json!(true);
    }
    parameters
}

fn result(effect: &Effect) -> Outcome<'_> {
    Outcome::Other(match effect {
        Effect::Answer(_) => json!({ "status": "answered" }),
        Effect::Approved { transaction_id, mandate } => {
            under(json!({ "status": "approved", "transaction_id": transaction_id }), mandate.as_ref())
        }
        Effect::RequiresApproval { approval_id, transaction_id, expires, mandate, pending: _, why } => under(
            json!({
                "status": "requires_approval", "approval_id": approval_id, "transaction_id": transaction_id,
                "expires": expires.rfc3339(), "why": why,
            }),
            mandate.as_ref(),
        ),
        Effect::Posted(posted) => return placed("executed", posted),
        Effect::Submitted(order) => return placed("submitted", order),
        Effect::QueuedManual { case_id, transaction_id, reason } => json!({
            "status": "queued_manual", "case_id": case_id, "transaction_id": transaction_id, "why": reason,
        }),
        Effect::PolicyInForce { version, changed } => {
            json!({ "status": "policy_in_force", "version": version.to_string(), "changed": changed })
        }
        Effect::CaseWorked { case_id, transaction_id, step } => {
            let mut said = json!({ "status": step.status(), "case_id": case_id, "transaction_id": transaction_id });
            if let CaseStep::Taken { before, .. } = step {
                said["before"] = json!(before);
            }
            said
        }
        Effect::Cancelled { transaction_id } => json!({ "status": "cancelled", "transaction_id": transaction_id }),
        Effect::Decided { approval_id, transaction_id, verdict, pending, posted } => {
            let mut said = json!({
                "status": match verdict {
                    Verdict::Approve if !pending.is_empty() => "counted",
                    Verdict::Approve => "approved",
                    Verdict::Deny => "denied",
                },
                "approval_id": approval_id, "transaction_id": transaction_id, "pending": pending,
            });
            if let Some(posted) = posted {
                said["batch"] = json!(posted.batch.to_string());
                said["index_in_batch"] = json!(posted.index_in_batch.to_string());
                said["repeated"] = json!(posted.repeated);
                said["statement_sha256"] = json!(Sha256::of(&[&posted.statement]));
            }
            said
        }
        Effect::Swept { released } => json!({ "status": "swept", "released": released }),
        Effect::Revoked { certificates, authorizations, already } => json!({
            "status": "revoked", "certificates": certificates, "authorizations": authorizations,
            "already": already,
        }),
        Effect::MandateRevoked { authorizations, changed } => json!({
            "status": "mandate_revoked", "authorizations": authorizations, "changed": changed,
        }),
        Effect::Spread { agents, last } => json!({ "status": "spread", "agents": agents, "last": last }),
        Effect::Frozen { already } => json!({ "status": "frozen", "already": already }),
        Effect::Unfrozen { by: by @ Thaw::OneOfTwo } => json!({ "status": "thaw_asked", "by": by }),
        Effect::Unfrozen { by: by @ Thaw::Both } => json!({ "status": "unfrozen", "by": by }),
        Effect::ErasureAsked { keys } => json!({ "status": "erasure_asked", "keys": keys }),
        Effect::Erased { keys, trail: None } => json!({ "status": "erased", "keys": keys }),
        Effect::Erased { keys, trail: Some(trail) } => {
            let ErasureTrail { asked_by, asked_at, released } = &**trail;
            let (released_by, released_at) = released.as_ref().map(|(by, at)| (by, at.rfc3339())).unzip();
            json!({
                "status": "erased", "keys": keys, "asked_by": asked_by, "asked_at": asked_at.rfc3339(),
                "released_by": released_by, "released_at": released_at,
            })
        }
        Effect::Lapsed { keys } => json!({ "status": "lapsed", "keys": keys }),
        Effect::Certificate(record) => json!({ "status": "certificate", "id": record.id, "serial": record.serial }),
        Effect::CrlNumber(number) => json!({ "status": "crl_number", "number": number.to_string() }),
        Effect::Vault(effect) => vault::told(effect),
        Effect::Signing { known: _, repeated } => json!({ "status": "ordered", "repeated": repeated }),
        Effect::Witnessed(verdict) => witnessed(verdict),
        Effect::LogAccepted { by: by @ Thaw::OneOfTwo } => json!({ "status": "accept_asked", "by": by }),
        Effect::LogAccepted { by: by @ Thaw::Both } => json!({ "status": "accepted", "by": by }),
        Effect::Done { changed } => json!({ "status": "done", "changed": changed }),
    })
}

/// With the owner's mandate, if there is one.
fn under(mut result: Value, mandate: Option<&MandateId>) -> Value {
    if let Some(mandate) = mandate {
        result["mandate_id"] = json!(mandate);
    }
    result
}

/// Sizes are text: they may be more than canonical JSON's numbers hold.
fn head_said(head: &Head) -> Value {
    json!({ "size": head.size.to_string(), "root": head.root })
}

fn witnessed(verdict: &WitnessVerdict) -> Value {
    match verdict {
        WitnessVerdict::Cosign(..) => json!({ "status": "cosigned" }),
        WitnessVerdict::Stale(head) => json!({ "status": "stale", "remembered": head_said(head) }),
        WitnessVerdict::OldSizeBeyond => json!({ "status": "old_size_beyond" }),
        WitnessVerdict::Inconsistent => json!({ "status": "inconsistent" }),
        WitnessVerdict::Halted(log, _) => json!({
            "status": "halted", "cause": log.halt.as_ref().map(|halt| halt.cause), "remembered": head_said(&log.head),
            "shown": log.halt.as_ref().map(|halt| head_said(&halt.shown)),
        }),
    }
}

fn placed<'a>(status: &'a str, posted: &'a Posted) -> Outcome<'a> {
    Outcome::Placed {
        batch: posted.batch.to_string(),
        index_in_batch: posted.index_in_batch.to_string(),
        repeated: posted.repeated,
        statement_sha256: Sha256::of(&[&posted.statement]),
        status,
        transaction_id: &posted.transaction_id,
    }
}
