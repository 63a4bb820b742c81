//! Revocation, and the lists that tell others.
//!
//! What counts is the store's record: it is durable first, then whoever listens cuts connections, and only then a
//! receipt and a fresh list are signed. A slow or broken HSM delays the paper, not the revocation.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::ca::authority::{Authority, OFFICER, refused, unexpected_effect};
use crate::ca::settings::PartyKind;
use crate::ca::{build, files};
use crate::kernel::canon::canonical;
use crate::kernel::command::{Act, Actor, CertificateRecord, Effect, RevocationTarget};
use crate::kernel::credential::crl;
use crate::kernel::credential::pem::{self, Kind};
use crate::kernel::refusal::Refusal;
use crate::kernel::sign::{DocumentTag, Purpose, SignInput};
use crate::kernel::types::{AgentName, Sha256, SpiffeId};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::RevokedEntry;

const ADMINISTRATOR: &str = crate::ca::authority::ADMINISTRATOR;

/// Whether a revocation is carried out or only shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RevokeMode {
    DryRun,
    Effective,
}

impl Authority {
    /// Revokes an agent (by name or SPIFFE ID), a certificate (serial number) or a key (64 hexadecimal digits).
    /// There is no way back.
    ///
    /// Answers `{target, dry_run, recorded, already, certificates, authorizations, receipt, crl, …}`; when the
    /// receipt or the list could not be signed, the revocation stands and the answer says what is missing in
    /// `pending`.
    ///
    /// # Errors
    /// `operator_not_permitted`, `not_this_party`, `unknown_agent`, `target_ambiguous`, the store's.
    pub fn revoke(&self, actor: &Actor, target: &str, reason: &str, mode: RevokeMode) -> Result<Value, Failure> {
        self.refusal_recorded(actor, "revoke", &json!({ "target": target, "reason": reason }), || {
            self.permit(actor, &[OFFICER])?;
            self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
            let target = self.revocation_target(target)?;
            let affected = self.affected(&target)?;
            if mode == RevokeMode::DryRun {
                return Ok(json!({
                    "target": target,
                    "dry_run": true,
                    "recorded": false,
                    "certificates": affected,
                }));
            }
            let act = Act::Revoke { target: target.clone(), reason: reason.to_owned() };
            let Effect::Revoked { certificates, authorizations, already } = self.apply(actor, act)? else {
                return Err(unexpected_effect("something else than a revocation"));
            };
            let recorded_at = clock::now();
            self.status_changed();

            let mut pending = serde_json::Map::new();
            let mut keep = |what: &str, result: Result<Value, Failure>| {
                result.unwrap_or_else(|failure| {
                    pending.insert(what.to_owned(), json!({ "name": failure.name, "message": failure.message }));
                    Value::Null
                })
            };
            let document = json!({
                "schema": "countersign/revocation-receipt/v1",
                "party": self.party,
                "target": target,
                "reason": reason,
                "by": actor,
                "recorded_at": recorded_at.rfc3339(),
                "certificates": affected,
            });
            let receipt = keep("receipt", self.revocation_receipt(document));
            let crl = keep("crl", self.publish_crl(actor));
            Ok(json!({
                "target": target,
                "dry_run": false,
                "recorded": true,
                "recorded_at": recorded_at.rfc3339(),
                "already": already,
                "certificates_revoked": certificates,
                "authorizations_voided": authorizations,
                "certificates": affected,
                "receipt": receipt,
                "crl": crl,
                "pending": pending,
            }))
        })
    }

    fn revocation_target(&self, text: &str) -> Result<RevocationTarget, Failure> {
        if let Ok(agent) = text.parse::<SpiffeId>() {
            return Ok(RevocationTarget::Agent(agent));
        }
        let records = self.store.certificates()?;
        if let Ok(key) = Sha256::from_hex(text)
            && records.iter().any(|record| record.key == key)
        {
            return Ok(RevocationTarget::Key(key));
        }
        if let Ok(name) = text.parse::<AgentName>() {
            let mut agents: Vec<SpiffeId> = records.iter().filter_map(|record| record.subject.parse().ok()).collect();
            agents.retain(|agent: &SpiffeId| *agent.name() == name);
            agents.sort();
            agents.dedup();
            match agents.as_slice() {
                [] => {}
                [agent] => return Ok(RevocationTarget::Agent(agent.clone())),
                [_, _, ..] => {
                    return Err(Failure::refused(
                        "target_ambiguous",
                        format!("more than one agent is called {name}"),
                        "name the agent by its SPIFFE ID, see `countersign cert list`",
                    ));
                }
            }
        }
        let by_serial = records.iter().find(|record| text.parse().is_ok_and(|serial| record.serial == serial));
        let record = by_serial.ok_or_else(|| refused(Refusal::UnknownAgent))?;
        Ok(RevocationTarget::Certificate { issuer: record.issuer.clone(), serial: record.serial.clone() })
    }

    /// Our own unexpired certificates that a revocation of this target takes out of service.
    fn affected(&self, target: &RevocationTarget) -> Result<Vec<Value>, Failure> {
        let now = clock::now();
        let hit = |record: &CertificateRecord| match target {
            RevocationTarget::Agent(agent) => record.subject == agent.to_string(),
            RevocationTarget::Key(key) => record.key == *key,
            RevocationTarget::Certificate { issuer, serial } => record.issuer == *issuer && record.serial == *serial,
        };
        let records = self.store.certificates()?;
        let affected = records.iter().filter(|record| record.not_after > now && hit(record));
        Ok(affected
            .map(|record| {
                json!({
                    "profile": record.profile,
                    "subject": record.subject,
                    "issuer": record.issuer,
                    "serial": record.serial,
                    "not_after": record.not_after.rfc3339(),
                })
            })
            .collect())
    }

    /// Signs a receipt and keeps it in `receipts/`.
    fn revocation_receipt(&self, document: Value) -> Result<Value, Failure> {
        let role = self.signing_role(Purpose::RevocationReceipt)?;
        let canonical_json = canonical(&document).map_err(|_| {
            Failure::fault("receipt_not_canonical", "the receipt has no canonical form", "report this as a defect")
        })?;
        let input = SignInput::Document { tag: DocumentTag::RevocationReceipt, canonical_json };
        let signature = self.token.sign(role.key.id, input)?;
        let receipt = json!({
            "document": document,
            "signature": BASE64_STANDARD.encode(signature),
            "chain": role.chain.iter().map(|der| BASE64_STANDARD.encode(der)).collect::<Vec<_>>(),
        });
        let name = format!("{}.json", clock::fresh_id("revocation-"));
        files::write_durable(&self.state.receipts().join(&name), format!("{receipt:#}\n").as_bytes())?;
        Ok(json!({ "file": format!("receipts/{name}"), "receipt": receipt }))
    }

    /// Signs a fresh full list of our issuing CA and writes `certs/crl/<key identifier>.crl` (PEM).
    ///
    /// Answers `{issuer, number, this_update, next_update, revoked, file, crl_pem}`.
    ///
    /// # Errors
    /// `operator_not_permitted`, `not_this_party`, `party_not_initialised`, the token's, the store's.
    pub fn crl_export(&self, actor: &Actor) -> Result<Value, Failure> {
        self.refusal_recorded(actor, "crl_export", &json!({}), || {
            self.permit(actor, &[OFFICER, ADMINISTRATOR])?;
            self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
            self.publish_crl(actor)
        })
    }

    pub(super) fn publish_crl(&self, actor: &Actor) -> Result<Value, Failure> {
        let (issuing, _) = self.own_authority()?;
        let act = Act::NextCrlNumber { issuer: issuing.identifier.clone() };
        let Effect::CrlNumber(number) = self.apply(actor, act)? else {
            return Err(unexpected_effect("something else than a list's number"));
        };
        // The number is taken before the entries are read: a list with a higher number never has fewer of them.
        let revoked = self.revoked_certificates(&issuing.identifier)?;
        let this_update = clock::now();
        let next_update = this_update.plus_ms(i64::from(self.pki.crl_life_hours) * 3_600_000);
        let tbs = build::revocation_list(&issuing.der, number, this_update, next_update, &revoked)?;
        let signature = self.token.sign(issuing.key, SignInput::Crl { tbs: tbs.clone() })?;
        let der = build::assemble(&tbs, &issuing.spki, &signature)?;
        let verified = crl::verify(&der, &issuing.der, this_update).map_err(|refusal| {
            Failure::fault(
                "crl_unsound",
                format!("a list that was just signed does not verify: {refusal}; it was not published"),
                "report this as a defect",
            )
        })?;
        let text = pem::encode(Kind::Crl, &der);
        let file = format!("crl/{}.crl", issuing.identifier);
        files::write_durable(&self.state.certs().join(&file), text.as_bytes())?;
        Ok(json!({
            "issuer": issuing.identifier,
            "number": verified.number(),
            "this_update": verified.this_update().rfc3339(),
            "next_update": verified.next_update().rfc3339(),
            "revoked": verified.serials().len(),
            "file": format!("certs/{file}"),
            "crl_pem": text,
        }))
    }

    /// Everything revoked of one issuer: by serial number, and whatever belongs to a revoked agent or key.
    fn revoked_certificates(&self, issuer: &str) -> Result<Vec<RevokedEntry>, Failure> {
        let mut revoked = self.store.revoked_of(issuer)?;
        let status = self.store.status()?;
        let now = clock::now();
        for record in self.store.certificates()? {
            let doomed = status.keys.contains(&record.key)
                || record.subject.parse().is_ok_and(|agent| status.agents.contains(&agent));
            if record.issuer == issuer && doomed && !revoked.iter().any(|entry| entry.serial == record.serial) {
                revoked.push(RevokedEntry { serial: record.serial, at: now, reason: String::new() });
            }
        }
        revoked.sort_by(|a, b| a.serial.cmp(&b.serial));
        Ok(revoked)
    }

    /// Takes another party's list over: from now on its serial numbers are revoked here, and its next update is
    /// what freshness is measured by. An older list than the one in force is refused.
    ///
    /// Answers `{issuer, number, this_update, next_update, revoked, changed}`.
    ///
    /// # Errors
    /// `operator_not_permitted`, `not_this_party`, the names of [`crl::CrlRefusal`], `stale_crl`.
    pub fn crl_import(&self, actor: &Actor, crl_pem: &str) -> Result<Value, Failure> {
        let about = json!({ "crl_sha256": Sha256::of(&[crl_pem.as_bytes()]) });
        self.refusal_recorded(actor, "crl_import", &about, || {
            self.permit(actor, &[OFFICER, ADMINISTRATOR])?;
            self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
            let crl_refused = |refusal: crl::CrlRefusal| {
                Failure::refused(
                    refusal.name(),
                    refusal.to_string(),
                    "get a fresh list with `countersign crl export` at the other party",
                )
            };
            let der = pem::decode_one(Kind::Crl, crl_pem).map_err(|_| crl_refused(crl::CrlRefusal::Malformed))?;
            let issuer = self.issuer_of_crl(&der)?.ok_or_else(|| crl_refused(crl::CrlRefusal::IssuerMismatch))?;
            let verified = crl::verify(&der, &issuer, clock::now()).map_err(crl_refused)?;
            let effect = self.apply(
                actor,
                Act::ImportCrl {
                    issuer: verified.issuer().to_owned(),
                    number: verified.number(),
                    this_update: verified.this_update(),
                    next_update: verified.next_update(),
                    serials: verified.serials().iter().cloned().collect(),
                },
            )?;
            self.status_changed();
            let path = self.state.certs().join(format!("crl/{}.crl", verified.issuer()));
            files::write_durable(&path, pem::encode(Kind::Crl, &der).as_bytes())?;
            Ok(json!({
                "issuer": verified.issuer(),
                "number": verified.number(),
                "this_update": verified.this_update().rfc3339(),
                "next_update": verified.next_update().rfc3339(),
                "revoked": verified.serials().len(),
                "changed": !matches!(effect, Effect::Done { changed: false }),
            }))
        })
    }

    /// The issuing CA among the other parties' whose key identifier the list names.
    fn issuer_of_crl(&self, der: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let Some(claimed) = crl::claimed_issuer(der) else {
            return Ok(None);
        };
        let issuing = self.known_anchors()?.into_values().flat_map(|anchors| anchors.issuing);
        let mut fitting = issuing.filter(|issuing| {
            crate::ca::issue::OwnCa::of(issuing).is_ok_and(|authority| authority.identifier == claimed)
        });
        Ok(fitting.next())
    }
}
