//! What officers have approved, and what they withdrew of it.
//!
//! One file an agent's key, `certs/approvals/<key>.json`: the newest approval, believed for its signature alone. Beside it
//! `<key>.withdrawn.json` says until which time whatever was signed for this key counts no more: the same approval
//! again, in whatever form it comes back, ends there too, and one that an officer signs later does not.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ca::authority::{Authority, OFFICER};
use crate::ca::files;
use crate::ca::operators::refused;
use crate::ca::settings::PartyKind;
use crate::kernel::command::{Act, Actor};
use crate::kernel::credential::operator::SignedApproval;
use crate::kernel::types::{AgentName, KeyId, Sha256, SpiffeId, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::{CertificateLine, CertificatesOf};

/// The last word about a key's approvals.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Withdrawal {
    agent_key: KeyId,
    /// Whatever was signed until then is withdrawn.
    signed_until_unix_ms: i64,
    withdrawn_unix_ms: i64,
    by: Actor,
}

impl Authority {
    /// An officer approves an agent before anybody asks for it: certifying it over this key needs no officer until the
    /// approval ends.
    ///
    /// # Errors
    /// `not_this_party`, `role_unknown`, `approval_withdrawn`, and what is wrong with the approval.
    pub fn cert_approve(&self, actor: &Actor, approval: &SignedApproval) -> Result<Value, Failure> {
        self.recorded(actor, "cert_approve", &json!(approval), || {
            self.permit(actor, &[OFFICER])?;
            self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
            let told = &approval.approval;
            self.role_is_known(told.agent.role().as_str())?;
            self.approve_agent(approval)?;
            let (_, until) = told.span().map_err(refused)?;
            Ok(json!({
                "agent": told.agent,
                "key": told.agent_key,
                "approved_by": told.operator,
                "until": until.rfc3339(),
            }))
        })
    }

    /// Takes an officer's approval over: it lets this agent be certified over this key until it ends or is withdrawn.
    ///
    /// # Errors
    /// As [`Self::officer`]; `approval_withdrawn`.
    pub(super) fn approve_agent(&self, signed: &SignedApproval) -> Result<(), Failure> {
        self.officer(signed, 0)?;
        self.is_not_withdrawn(signed)?;
        files::write_json(&self.approval_file(signed.approval.agent_key), signed)
    }

    /// The approval under which this agent may be certified over this key at `now`.
    ///
    /// # Errors
    /// `approval_missing`, `approval_withdrawn`, the names of [`Self::approve_agent`].
    pub(super) fn standing_approval(
        &self,
        agent: &SpiffeId,
        key: KeyId,
        now: UnixMillis,
    ) -> Result<SignedApproval, Failure> {
        let missing = |why: String| {
            Failure::refused(
                "approval_missing",
                why,
                "have an officer approve: `countersign cert approve`, or --as with the officer's state directory",
            )
        };
        let signed = self
            .approval(key)?
            .ok_or_else(|| missing(format!("no officer of {} has approved {agent} over this key", self.party)))?;
        self.is_believed(&signed)?;
        if !signed.covers(agent, key, now) {
            return Err(missing(format!(
                "the approval for this key is for another agent or role, or has ended ({agent})"
            )));
        }
        self.is_not_withdrawn(&signed)?;
        Ok(signed)
    }

    /// Read from a file that others could have written: believed for its signature alone.
    fn is_believed(&self, signed: &SignedApproval) -> Result<(), Failure> {
        let (_, spki) = self.officer_of(signed, None)?;
        signed.verify(&self.party, &spki).map_err(refused)
    }

    fn is_not_withdrawn(&self, signed: &SignedApproval) -> Result<(), Failure> {
        let Some(withdrawal) = self.withdrawal(signed.approval.agent_key)?.filter(|word| word.covers(signed)) else {
            return Ok(());
        };
        let (at, until) = (withdrawal.withdrawn_unix_ms, withdrawal.signed_until_unix_ms);
        Err(Failure::refused(
            "approval_withdrawn",
            format!(
                "the approval of {} for {} was withdrawn at {}",
                signed.approval.operator,
                signed.approval.agent,
                UnixMillis(at).rfc3339()
            ),
            format!("have an officer approve anew; what is signed after {} counts", UnixMillis(until).rfc3339()),
        ))
    }

    /// What officers here approved: `{items: [{agent, role, key, approved_by, from, until, state, used, why?,
    /// withdrawn_at?}], next: null}`. `state` is `standing`, `ended`, `withdrawn`, or `void`, and `why` says of what is void
    /// why nothing follows it; `used`: the agent was certified over this key.
    ///
    /// # Errors
    /// `not_this_party`; the store's, the file system's.
    pub fn approval_list(&self, _actor: &Actor) -> Result<Value, Failure> {
        self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
        let mut items = Vec::new();
        for signed in self.approvals()? {
            items.push(self.shown(&signed, clock::now())?);
        }
        items.sort_by_cached_key(|item| item["agent"].to_string());
        Ok(json!({ "items": items, "next": null }))
    }

    fn shown(&self, signed: &SignedApproval, now: UnixMillis) -> Result<Value, Failure> {
        let told = &signed.approval;
        let (from, until) = told.span().map_err(refused)?;
        let mut item = json!({
            "agent": told.agent,
            "role": told.agent.role(),
            "key": told.agent_key,
            "approved_by": told.operator,
            "from": from.rfc3339(),
            "until": until.rfc3339(),
            "used": !self.certificates_over(told.agent_key, &told.agent, UnixMillis(i64::MIN))?.is_empty(),
        });
        let withdrawal = self.withdrawal(told.agent_key)?.filter(|word| word.covers(signed));
        item["state"] = json!(if let Some(withdrawal) = withdrawal {
            item["withdrawn_at"] = json!(UnixMillis(withdrawal.withdrawn_unix_ms).rfc3339());
            "withdrawn"
        } else if now > until {
            "ended"
        } else if let Err(failure) = self.is_believed(signed) {
            item["why"] = json!(failure.name);
            "void"
        } else {
            "standing"
        });
        Ok(item)
    }

    /// Ends what officers approved for an agent, or over one key: no certificate follows it any more, a renewal neither.
    /// What was issued stays and is named. The same again finds it withdrawn, and names what is there by then.
    ///
    /// Answers `{items: [{agent, key, approved_by, until, already, certificates: [{profile, serial, not_after}]}], next:
    /// null}`.
    ///
    /// # Errors
    /// `operator_not_permitted`, `not_this_party`, `approval_unknown`; `issuance_in_progress` once it is withdrawn, while a
    /// certificate is being made for this agent: the repeat names it. The file system's, the store's.
    pub fn approval_withdraw(
        &self,
        actor: &Actor,
        name: Option<&AgentName>,
        key: Option<KeyId>,
    ) -> Result<Value, Failure> {
        let about = json!({ "name": name, "key": key });
        self.refusal_recorded(actor, "cert_disapprove", &about, || {
            self.permit(actor, &[OFFICER])?;
            self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
            let mut named = match key {
                Some(key) => self.approval(key)?.into_iter().collect(),
                None => self.approvals()?,
            };
            named.retain(|signed| name.is_none_or(|name| signed.approval.agent.name() == name));
            if named.is_empty() {
                return Err(Failure::refused(
                    "approval_unknown",
                    "no officer here has approved that",
                    "see `countersign cert approvals`; what was issued is revoked with `countersign revoke`",
                ));
            }
            // All marks first: what is waited for below does not keep one of them back.
            let marked: Result<Vec<bool>, Failure> = named.iter().map(|signed| self.withdraw(actor, signed)).collect();
            let told = named.iter().zip(marked?).map(|(signed, already)| self.left_behind(signed, already));
            let items: Result<Vec<Value>, Failure> = told.collect();
            Ok(json!({ "items": items?, "next": null }))
        })
    }

    /// Makes the mark; answers whether it was there already.
    fn withdraw(&self, actor: &Actor, signed: &SignedApproval) -> Result<bool, Failure> {
        let key = signed.approval.agent_key;
        let before = self.withdrawal(key)?;
        let already = before.as_ref().is_some_and(|word| word.covers(signed));
        if !already {
            // An officer's clock may be ahead of ours, and ours may have been set back since the last mark.
            let (at, _) = signed.approval.span().map_err(refused)?;
            let now = clock::now();
            let latest = before.map_or(now.0, |word| word.signed_until_unix_ms.max(now.0));
            let withdrawal = Withdrawal {
                agent_key: key,
                signed_until_unix_ms: latest.max(at.0),
                withdrawn_unix_ms: now.0,
                by: actor.clone(),
            };
            files::write_json(&self.withdrawal_file(key), &withdrawal)?;
        }
        let decision = json!({ "outcome": "done", "approval": signed, "already": already });
        self.apply(actor, Act::Record { tool: "cert_disapprove".into(), decision })?;
        Ok(already)
    }

    /// What was issued before the mark, and stays.
    fn left_behind(&self, signed: &SignedApproval, already: bool) -> Result<Value, Failure> {
        let told = &signed.approval;
        // Whoever looked before the mark may still be at it.
        let _ended = self.begin_issuing_to(&told.agent, told.agent_key).map_err(|failure| {
            let message = "the approval is withdrawn; a certificate of this agent was being made meanwhile";
            Failure::busy(&failure.name, message, "repeat the command: it names what came of it").after_the_fact()
        })?;
        let status = self.store.status()?;
        let mut lasting = self.certificates_over(told.agent_key, &told.agent, clock::now())?;
        lasting.retain(|line| {
            !status.revokes(&told.agent)
                && !status.keys.contains(&line.key)
                && !status.certificates.contains(&(line.issuer.clone(), line.serial.clone()))
        });
        let certificates = lasting.iter().map(
            |line| json!({ "profile": line.profile, "serial": line.serial, "not_after": line.not_after.rfc3339() }),
        );
        let (_, until) = told.span().map_err(refused)?;
        Ok(json!({
            "agent": told.agent,
            "key": told.agent_key,
            "approved_by": told.operator,
            "until": until.rfc3339(),
            "already": already,
            "certificates": certificates.collect::<Vec<_>>(),
        }))
    }

    /// Certificates of this agent over this key, those that were journalled and not finished too.
    fn certificates_over(
        &self,
        key: KeyId,
        agent: &SpiffeId,
        live_at: UnixMillis,
    ) -> Result<Vec<CertificateLine>, Failure> {
        let subject = agent.to_string();
        let mut lines = self.store.certificate_lines(&CertificatesOf::Key(key), live_at, None, u32::MAX)?;
        lines.retain(|line| line.subject == subject);
        Ok(lines)
    }

    fn approvals(&self) -> Result<Vec<SignedApproval>, Failure> {
        let names = files::names(&self.state.certs().join("approvals"))?;
        let keys = names.iter().filter_map(|name| Sha256::from_hex(name.strip_suffix(".json")?).ok());
        keys.filter_map(|key| self.approval(key).transpose()).collect()
    }

    fn approval(&self, key: KeyId) -> Result<Option<SignedApproval>, Failure> {
        let next_step = "have an officer approve again";
        let signed = files::read_json::<SignedApproval>(&self.approval_file(key), "approval_unreadable", next_step)?;
        // What is kept under another key's name says nothing about this one.
        Ok(signed.filter(|signed| signed.approval.agent_key == key))
    }

    fn withdrawal(&self, key: KeyId) -> Result<Option<Withdrawal>, Failure> {
        let next_step = "restore the file from a backup; until then nothing is certified over this key";
        files::read_json(&self.withdrawal_file(key), "withdrawal_unreadable", next_step)
    }

    fn approval_file(&self, key: KeyId) -> std::path::PathBuf {
        self.state.certs().join(format!("approvals/{key}.json"))
    }

    fn withdrawal_file(&self, key: KeyId) -> std::path::PathBuf {
        self.state.certs().join(format!("approvals/{key}.withdrawn.json"))
    }
}

impl Withdrawal {
    fn covers(&self, signed: &SignedApproval) -> bool {
        // One whose time cannot be read was signed by nobody.
        signed.approval.span().is_ok_and(|(at, _)| at.0 <= self.signed_until_unix_ms)
    }
}
