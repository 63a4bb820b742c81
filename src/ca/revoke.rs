//! Revocations and freezes: recorded, acted on, then told.
//!
//! What counts is the store's record: it is durable first, then whoever listens cuts connections, and only then a
//! receipt and a fresh list are signed. A slow or broken HSM delays the paper, not the revocation; a repeat completes
//! what a crash left out.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::ca::authority::{ADMINISTRATOR, Authority, OFFICER, unexpected_effect};
use crate::ca::files;
use crate::ca::revoke_targets::{Hit, Page};
use crate::ca::settings::PartyKind;
use crate::kernel::command::{Act, Actor, Effect, RevocationTarget, Thaw, Whom};
use crate::kernel::credential::reason::RevocationReason;
use crate::kernel::receipt::Base64;
use crate::kernel::revocation_receipt::{self, RECEIPT_SCHEMA, RevocationReceipt};
use crate::kernel::sign::Purpose;
use crate::kernel::types::{Sha256, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::FreezeView;

/// Agents that get marks of their own in one commit, after all were revoked at once.
const SPREAD_IN_A_COMMIT: u32 = 256;

/// A receipt is made right after its freeze: behind this many others it is not looked for.
const RECEIPTS_LOOKED_AT: usize = 64;

/// Whether something is carried out or only shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokeMode {
    DryRun,
    Effective,
    /// A part of something larger: the list follows with the last part.
    Part,
}

/// What a revocation names, as its caller knows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Named {
    /// An agent's name or SPIFFE ID, a serial number, or a key that is known here.
    Text(String),
    /// A key, known here or not.
    Key(Sha256),
    /// An issuing CA, ours or another party's, by its subject key identifier.
    Issuer(String),
    /// Serial numbers, of this issuer of ours or of whichever has given them.
    Serials { issuer: Option<String>, serials: Vec<String> },
    /// Every agent.
    Everyone,
}

/// A revocation as it is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    pub named: Named,
    pub reason: String,
    pub mode: RevokeMode,
    /// Of a dry run: where the page before ended, its `next`.
    #[serde(default)]
    pub after: Option<String>,
}

/// What this node, and those that share its store, did about a change of the revocation status.
#[derive(Clone, Copy, Debug)]
pub struct Acted {
    /// Live connections that were cut here.
    pub connections_cut: usize,
    /// Nodes that serve, this one included.
    pub nodes: usize,
}

/// When something was durable and when nothing was served any more.
struct Times {
    recorded_at: UnixMillis,
    recorded_ms: Value,
    effective: Result<(UnixMillis, Value, Acted), Failure>,
}

impl Authority {
    /// Revokes what is named. There is no way back.
    ///
    /// Answers `{target, dry_run, recorded, recorded_at, recorded_ms, effective, effective_at, effective_ms, nodes,
    /// connections_cut, already, certificates_revoked, authorizations_voided, affected, certificates, next, receipt,
    /// crl, pending}`. `effective` is true when every node that serves has acted; what is not there yet is named in
    /// `pending`, and a repeat completes it.
    ///
    /// # Errors
    /// `operator_not_permitted`, `not_this_party`, `unknown_agent`, `unknown_issuer`, `target_ambiguous`,
    /// `reason_not_allowed`, the store's.
    pub fn revoke(&self, actor: &Actor, request: &RevokeRequest) -> Result<Value, Failure> {
        let start = Instant::now();
        let about = json!({ "target": request.named, "reason": request.reason });
        self.refusal_recorded(actor, "revoke", &about, || {
            self.permit(actor, &[OFFICER])?;
            self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
            let targets = self.targets(&request.named)?;
            allowed_reason(&request.reason, &targets)?;
            let page = Page::read(request.after.as_deref())?;
            if request.mode == RevokeMode::DryRun {
                return Ok(shown(&targets, "revoke", self.affected(&targets, &page)?));
            }
            let mut sum = Sum { certificates: 0, authorizations: 0, already: true };
            let acts = targets
                .iter()
                .map(|target| Act::Revoke { target: target.clone(), reason: request.reason.clone() })
                .collect();
            for effect in self.apply_all(actor, acts)? {
                sum.add(&effect)?;
            }
            let times = self.acted(start);
            // It is recorded: whatever fails from here on is missing from the answer, and does not take it back.
            let (hit, unseen) = match self.affected(&targets, &page) {
                Ok(hit) => (hit, None),
                Err(failure) => (Hit::default(), Some(failure)),
            };
            let mut report = shown(&targets, "revoke", hit);
            report["already"] = json!(sum.already);
            report["certificates_revoked"] = json!(sum.certificates);
            report["authorizations_voided"] = json!(sum.authorizations);
            let mut pending = times.tell(&mut report);
            if let Some(failure) = unseen {
                kept(&mut pending, "affected", Err(failure));
            }
            report["reason"] = json!(request.reason);
            report["reason_code"] = json!(RevocationReason::named(&request.reason).map(RevocationReason::code));
            if targets.contains(&RevocationTarget::Everyone) {
                kept(&mut pending, "spread", self.spread_revocation(actor).map(|()| Value::Null));
            }
            Ok(self.told(actor, "revoked", report, pending, request.mode))
        })
    }

    /// Freezes an agent, or everybody: refused until two people say otherwise; nothing is voided.
    ///
    /// Answers as [`revoke`](Self::revoke), without `crl`: a freeze is this party's own and appears in no list.
    ///
    /// # Errors
    /// `operator_not_permitted`, `not_this_party`, `unknown_agent`, `target_ambiguous`, the store's.
    pub fn freeze(&self, actor: &Actor, agent: Option<&str>, reason: &str, mode: RevokeMode) -> Result<Value, Failure> {
        let start = Instant::now();
        self.refusal_recorded(actor, "freeze", &json!({ "agent": agent, "reason": reason }), || {
            self.permit(actor, &[OFFICER])?;
            self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
            let (whom, targets) = self.whom(agent)?;
            let hit = self.affected(&targets, &Page::first())?;
            let mut report = shown(&targets, "freeze", hit);
            if mode == RevokeMode::DryRun {
                return Ok(report);
            }
            let act = Act::Freeze { whom, reason: reason.to_owned() };
            let Effect::Frozen { already } = self.apply(actor, act)? else {
                return Err(unexpected_effect("something else than a freeze"));
            };
            report["already"] = json!(already);
            report["reason"] = json!(reason);
            let pending = self.acted(start).tell(&mut report);
            Ok(self.told(actor, "frozen", report, pending, RevokeMode::Part))
        })
    }

    /// Asks for a freeze to be lifted, or as the second person lifts it.
    ///
    /// Answers as [`freeze`](Self::freeze), with `lifted`: false while the second person is missing.
    ///
    /// # Errors
    /// `operator_not_permitted`, `not_this_party`, `unknown_agent`, `not_frozen`, `maker_is_checker`, the store's.
    pub fn unfreeze(&self, actor: &Actor, agent: Option<&str>, note: &str, mode: RevokeMode) -> Result<Value, Failure> {
        let start = Instant::now();
        self.refusal_recorded(actor, "unfreeze", &json!({ "agent": agent, "note": note }), || {
            self.permit(actor, &[OFFICER, ADMINISTRATOR])?;
            self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
            let (whom, targets) = self.whom(agent)?;
            let hit = self.affected(&targets, &Page::first())?;
            let mut report = shown(&targets, "unfreeze", hit);
            if mode == RevokeMode::DryRun {
                return Ok(report);
            }
            let Effect::Unfrozen { by } = self.apply(actor, Act::Unfreeze { whom, note: note.to_owned() })? else {
                return Err(unexpected_effect("something else than a freeze's end"));
            };
            report["lifted"] = json!(by == Thaw::Both);
            if by == Thaw::OneOfTwo {
                report["recorded"] = json!(true);
                return Ok(report);
            }
            report["reason"] = json!(note);
            let pending = self.acted(start).tell(&mut report);
            Ok(self.told(actor, "unfrozen", report, pending, RevokeMode::Part))
        })
    }

    /// Who is frozen here, since when, why, by whom as its receipt says, and who asked for an end of it.
    ///
    /// # Errors
    /// `operator_not_permitted`, the store's.
    pub fn freezes(&self, actor: &Actor) -> Result<Value, Failure> {
        self.permit(actor, &[OFFICER, ADMINISTRATOR, "auditor"])?;
        let mut items = Vec::new();
        for freeze in self.store.freezes()? {
            items.push(json!({
                "whom": freeze.whom,
                "since": freeze.since.rfc3339(),
                "by": self.frozen_by(&freeze)?,
                "reason": freeze.reason,
                "thaw_asked_by": freeze.thaw_asked_by,
            }));
        }
        Ok(json!({ "items": items, "next": null }))
    }

    /// Who froze, by the receipt that was signed right after it. `None`: another node's, or there was no signature.
    fn frozen_by(&self, freeze: &FreezeView) -> Result<Option<Value>, Failure> {
        let since = u64::try_from(freeze.since.0).unwrap_or(0);
        let (_, targets) = match &freeze.whom {
            Whom::Everyone => self.whom(None)?,
            Whom::Agent(agent) => self.whom(Some(&agent.to_string()))?,
        };
        let target = json!(targets.first());
        let receipts = files::names(&self.state.receipts())?;
        let made = |name: &String| {
            let id = name.strip_prefix("revocation-")?.strip_suffix(".json")?;
            id.parse::<ulid::Ulid>().ok().map(|id| id.timestamp_ms())
        };
        let after = receipts.iter().filter(|name| made(name).is_some_and(|at| at >= since));
        for name in after.take(RECEIPTS_LOOKED_AT) {
            let text = files::read_optional(&self.state.receipts().join(name))?.unwrap_or_default();
            let document = serde_json::from_str::<Value>(&text).map(|receipt| receipt["document"].clone());
            let document = document.unwrap_or_default();
            if document["what"] == "frozen" && document["target"] == target && document["already"] == false {
                return Ok(Some(document["by"]["name"].clone()));
            }
        }
        Ok(None)
    }

    /// Gives every agent that a revocation of everyone stands for marks of its own, in bounded commits. What is left
    /// when the daemon dies is done at its next start; until then everyone is refused as before.
    ///
    /// # Errors
    /// The store's.
    pub fn spread_revocation(&self, actor: &Actor) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let act = Act::SpreadRevocation { after, limit: SPREAD_IN_A_COMMIT };
            let Effect::Spread { agents: _, last } = self.apply(actor, act)? else {
                return Err(unexpected_effect("something else than a portion of agents"));
            };
            if last.is_none() {
                return Ok(());
            }
            after = last;
        }
    }

    /// The change is durable: this node acts, and those that share its store.
    fn acted(&self, start: Instant) -> Times {
        let (recorded_at, recorded_ms) = (clock::now(), elapsed(start));
        // A clock that is set back meanwhile does not make it effective before it was recorded.
        let effective = self.status_changed().map(|acted| (clock::now().max(recorded_at), elapsed(start), acted));
        Times { recorded_at, recorded_ms, effective }
    }

    /// Receipt and list about what was done; what could not be made is named in `pending`.
    fn told(
        &self,
        actor: &Actor,
        what: &str,
        mut report: Value,
        mut pending: Map<String, Value>,
        mode: RevokeMode,
    ) -> Value {
        let mut document = report.clone();
        if let Some(document) = document.as_object_mut() {
            for left_out in ["dry_run", "next", "would"] {
                document.remove(left_out);
            }
            document.insert("schema".into(), json!(RECEIPT_SCHEMA));
            document.insert("party".into(), json!(self.party));
            document.insert("what".into(), json!(what));
            document.insert("by".into(), json!(actor));
        }
        report["receipt"] = kept(&mut pending, "receipt", self.revocation_receipt(document));
        if mode == RevokeMode::Effective {
            report["crl"] = kept(&mut pending, "crl", self.publish_lists(actor));
        }
        report["pending"] = Value::Object(pending);
        report
    }

    /// Signs a receipt and keeps it in `receipts/`.
    fn revocation_receipt(&self, document: Value) -> Result<Value, Failure> {
        let role = self.signing_role(Purpose::RevocationReceipt)?;
        let no_form = |refusal: revocation_receipt::RevocationReceiptRefusal| {
            Failure::fault("receipt_not_canonical", refusal.to_string(), "report this as a defect")
        };
        let input = revocation_receipt::sign_input(&document).map_err(no_form)?;
        let signature = Base64(self.token.sign(role.key.id, input)?);
        let chain = role.chain.iter().cloned().map(Base64).collect();
        let receipt = RevocationReceipt { chain, document, signature };
        let name = format!("{}.json", clock::fresh_id("revocation-"));
        files::write_durable(&self.state.receipts().join(&name), &receipt.to_bytes().map_err(no_form)?)?;
        Ok(json!({ "file": format!("receipts/{name}"), "receipt": receipt }))
    }
}

impl Times {
    /// Writes what is known into a report; answers what is not there yet.
    fn tell(self, report: &mut Value) -> Map<String, Value> {
        let mut pending = Map::new();
        report["dry_run"] = json!(false);
        report["recorded"] = json!(true);
        report["recorded_at"] = json!(self.recorded_at.rfc3339());
        report["recorded_ms"] = self.recorded_ms;
        report["effective"] = json!(self.effective.is_ok());
        match self.effective {
            Ok((at, ms, acted)) => {
                report["effective_at"] = json!(at.rfc3339());
                report["effective_ms"] = ms;
                report["nodes"] = json!(acted.nodes.to_string());
                report["connections_cut"] = json!(acted.connections_cut);
            }
            Err(failure) => {
                report["effective_at"] = Value::Null;
                kept(&mut pending, "effective", Err(failure));
            }
        }
        pending
    }
}

struct Sum {
    certificates: u64,
    authorizations: u64,
    already: bool,
}

impl Sum {
    fn add(&mut self, effect: &Effect) -> Result<(), Failure> {
        let Effect::Revoked { certificates, authorizations, already } = effect else {
            return Err(unexpected_effect("something else than a revocation"));
        };
        self.certificates += u64::from(*certificates);
        self.authorizations += u64::from(*authorizations);
        self.already &= already;
        Ok(())
    }
}

/// What is hit, and that nothing is recorded so far.
fn shown(targets: &[RevocationTarget], would: &str, hit: Hit) -> Value {
    let target = match targets {
        [one] => json!(one),
        several => json!(several),
    };
    json!({
        "target": target,
        "would": would,
        "dry_run": true,
        "recorded": false,
        "affected": { "certificates": hit.certificates, "agents": hit.agents },
        "certificates": hit.items,
        "next": hit.next,
    })
}

fn kept(pending: &mut Map<String, Value>, what: &str, result: Result<Value, Failure>) -> Value {
    result.unwrap_or_else(|failure| {
        pending.insert(what.to_owned(), json!({ "name": failure.name, "message": failure.message }));
        Value::Null
    })
}

/// A reason that a list has a code for must fit what is revoked; any other text is a note.
fn allowed_reason(reason: &str, targets: &[RevocationTarget]) -> Result<(), Failure> {
    let not_allowed = |why: &str, next_step: &str| Err(Failure::refused("reason_not_allowed", why, next_step));
    let is_issuer = targets.iter().any(|target| matches!(target, RevocationTarget::Issuer { .. }));
    match RevocationReason::named(reason) {
        Some(RevocationReason::CertificateHold) => {
            not_allowed("a hold is no revocation: it can be lifted", "use `countersign freeze`")
        }
        Some(RevocationReason::RemoveFromCrl) => {
            not_allowed("nothing is taken off a list again", "enrol the agent anew with a new key")
        }
        Some(RevocationReason::CaCompromise) if !is_issuer => {
            not_allowed("ca-compromise is about an issuing CA", "revoke it with --issuer, or say key-compromise")
        }
        Some(
            RevocationReason::Unspecified
            | RevocationReason::KeyCompromise
            | RevocationReason::CaCompromise
            | RevocationReason::AffiliationChanged
            | RevocationReason::Superseded
            | RevocationReason::CessationOfOperation
            | RevocationReason::PrivilegeWithdrawn
            | RevocationReason::AaCompromise,
        )
        | None => Ok(()),
    }
}

/// Milliseconds with two decimals.
fn elapsed(start: Instant) -> Value {
    let micros = start.elapsed().as_micros();
    json!(format!("{}.{:02}", micros / 1000, micros % 1000 / 10))
}
