//! The next generation of a party's issuing CA: announced first, used once the others know it.
//!
//! `key rotate issuing` makes the key and its certificate under the same root and puts it into `certs/issuing.pem`, for
//! the other parties to trust; nothing is issued under it, or they would refuse what they cannot know yet. Nobody here
//! knows when they do, so the second step is said with a word of its own: `--use` has every role certified under it. From
//! then on it issues, and the generation before signs nothing but revocation lists and its responder's certificate until
//! its last certificate has ended.
//! Which generation issues is read from what was issued, in the store: every daemon of a party sees the same.

use serde_json::{Value, json};

use crate::ca::authority::{ADMINISTRATOR, Authority, ensure_sound};
use crate::ca::crl::Renewal;
use crate::ca::issue::OwnCa;
use crate::ca::settings::PartyKind;
use crate::ca::setup::{released, roles};
use crate::hsm::KeyInfo;
use crate::kernel::command::Actor;
use crate::kernel::credential::crl_build::Scope;
use crate::kernel::credential::profile::Profile;
use crate::kernel::sign::Purpose;
use crate::kernel::types::UnixMillis;
use crate::ops::clock;
use crate::ops::failure::Failure;

/// What a CA of this party does now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Generation {
    Root,
    /// Certifies roles and agents.
    Issues,
    /// Waits for the other parties to trust it.
    Announced,
    /// Signs revocation lists until its last certificate has ended.
    ListsOnly,
    /// Nothing under it counts, and it is still the one in use: another one has to follow it.
    Revoked,
}

/// A CA of this party, for `doctor`.
#[derive(Clone, Debug)]
pub struct CaHealth {
    pub name: String,
    pub generation: Generation,
    pub not_after: UnixMillis,
    /// The end of the last certificate under it.
    pub last_end: Option<UnixMillis>,
}

impl Generation {
    pub fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Issues => "issues",
            Self::Announced => "announced",
            Self::ListsOnly => "lists-only",
            Self::Revoked => "revoked",
        }
    }
}

impl Authority {
    /// How the party's CAs stand: root, then its issuing CAs, the one that issues first. None at an agent host.
    ///
    /// # Errors
    /// The store's.
    pub fn ca_health(&self) -> Result<Vec<CaHealth>, Failure> {
        if self.kind == PartyKind::AgentHost {
            return Ok(Vec::new());
        }
        let records = self.store.authorities()?;
        let authorities = self.own_authorities()?;
        let name = |ca: &OwnCa| {
            let record = records.iter().find(|record| record.der.as_deref() == Some(&ca.der));
            record.map(|record| record.subject.clone()).unwrap_or_default()
        };
        let revoked = self.store.status()?.issuers;
        let mut all = Vec::new();
        if let Some((_, root)) = authorities.first() {
            let (name, not_after) = (name(root), root.not_after);
            all.push(CaHealth { name, generation: Generation::Root, not_after, last_end: None });
        }
        for (place, (issuing, _)) in authorities.iter().enumerate() {
            let last_end = self.store.last_end(&issuing.identifier)?;
            let generation = match (place, last_end) {
                (0, _) if revoked.contains(&issuing.identifier) => Generation::Revoked,
                (0, _) => Generation::Issues,
                (_, None) => Generation::Announced,
                (_, Some(_)) => Generation::ListsOnly,
            };
            all.push(CaHealth { name: name(issuing), generation, not_after: issuing.not_after, last_end });
        }
        Ok(all)
    }

    /// The first step of the roll-over of the issuing CA; a step that was cut off is finished, whichever it was.
    ///
    /// Answers as [`Authority::key_rotate`], with `effective` `announced` or `now`, and `before`: the generation that
    /// signs lists only, and until when it is needed.
    ///
    /// # Errors
    /// `issuing_ca_announced`: said twice, it puts nothing to use.
    pub(super) fn rotate_issuing(
        &self,
        actor: &Actor,
        in_use: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<Value, Failure> {
        self.roll_over(actor, in_use, |current, root| match self.announced(current)? {
            None => self.announce_next(actor, current, root),
            Some(next) => {
                // Its file is what a step that was cut off may have left out.
                self.write_issuing()?;
                Err(Failure::refused(
                    "issuing_ca_announced",
                    format!("an issuing CA of {} is announced already: {}", self.party, next.identifier),
                    "once every other party has run `countersign trust add` with certs/issuing.pem: \
                     `countersign key rotate issuing --use`",
                ))
            }
        })
    }

    /// The second step: what was announced issues from now on. Whoever says so knows that the other parties trust it; no
    /// time has to pass.
    ///
    /// Answers as [`Authority::key_rotate`].
    ///
    /// # Errors
    /// As that one; `issuing_ca_not_announced`.
    pub fn issuing_use(&self, actor: &Actor, in_use: impl FnOnce() -> Result<(), Failure>) -> Result<Value, Failure> {
        self.recorded(actor, "issuing_use", &json!({}), || {
            self.permit(actor, &[ADMINISTRATOR])?;
            self.only_for(&[PartyKind::Bank, PartyKind::SecurityCompany])?;
            self.roll_over(actor, in_use, |current, _| match self.announced(current)? {
                Some(next) => self.have_issue(actor, &next),
                None => Err(Failure::refused(
                    "issuing_ca_not_announced",
                    format!("no other issuing CA of {} is announced", self.party),
                    "run `countersign key rotate issuing` first, and have the other parties trust what it makes",
                )),
            })
        })
    }

    /// One step, unless the second one was cut off while roles were being certified: then that is finished.
    fn roll_over(
        &self,
        actor: &Actor,
        in_use: impl FnOnce() -> Result<(), Failure>,
        step: impl FnOnce(&OwnCa, &OwnCa) -> Result<Value, Failure>,
    ) -> Result<Value, Failure> {
        let issuing_now = self.begin_issuing()?;
        let (current, root) = self.own_authority()?;
        let answered = if self.has_roles_elsewhere(&current)? {
            self.have_issue(actor, &current)?
        } else {
            step(&current, &root)?
        };
        drop(issuing_now);
        in_use()?;
        Ok(answered)
    }

    /// The first step: key and certificate, for the others to know.
    fn announce_next(&self, actor: &Actor, current: &OwnCa, root: &OwnCa) -> Result<Value, Failure> {
        let active = self.active_keys(Purpose::Issuing, None)?;
        let version_now = active.iter().find(|key| key.id == current.key).map_or(0, |key| key.version);
        // A newer key without a certificate is left from a step that was cut off.
        let key = match active.first() {
            Some(newest) if newest.version > version_now => newest.clone(),
            Some(_) | None => self.new_key(Purpose::Issuing, None)?,
        };
        ensure_sound(&key)?;
        let record = self.certificate_for(actor, &self.ca_wish(&key, Some(root.der.clone())), |_| true)?;
        self.write_issuing()?;
        Ok(json!({
            "purpose": Purpose::Issuing,
            "key": key.label,
            "id": key.id,
            "version": key.version,
            "algorithm": key.algorithm,
            "retired": [],
            "certificate": { "serial": record.serial, "not_after": record.not_after.rfc3339() },
            "effective": "announced",
            "before": Value::Null,
            "next_step": "give certs/root.pem and certs/issuing.pem to the other parties (`countersign trust add` again), \
                          then, and not before, `countersign key rotate issuing --use`",
        }))
    }

    /// The second step: every role is certified under it, and with the first of them it is the generation that issues.
    fn have_issue(&self, actor: &Actor, next: &OwnCa) -> Result<Value, Failure> {
        let before: Vec<OwnCa> = self.own_authorities()?.into_iter().map(|(issuing, _)| issuing).collect();
        let before = before.into_iter().find(|issuing| issuing.identifier != next.identifier);
        if let Some(before) = &before {
            self.keep_answering_for(actor, before)?;
        }
        // Whoever meets the first certificate under it may ask for its list.
        self.publish_list(actor, next, Scope::EndEntities, Renewal::WhenDue)?;
        for purpose in roles(self.kind) {
            if let Some(key) = self.newest_key(*purpose, None)? {
                self.certify_role(actor, &key, &next.der)?;
            }
        }
        self.write_issuing()?;
        let key = self.issuing_key(next)?;
        let last = match &before {
            Some(before) => self.store.last_end(&before.identifier)?,
            None => None,
        };
        let label = before.as_ref().and_then(|before| self.issuing_key(before).ok()).map(|key| key.label);
        Ok(json!({
            "purpose": Purpose::Issuing,
            "key": key.label,
            "id": key.id,
            "version": key.version,
            "algorithm": key.algorithm,
            "retired": [],
            "certificate": { "not_after": next.not_after.rfc3339() },
            "effective": "now",
            "before": { "key": label, "needed_until": last.map(UnixMillis::rfc3339) },
            "next_step": "start the daemon again for the listener's new certificate; the key before signs revocation \
                          lists until its last certificate has ended, then `countersign key retire` it",
        }))
    }

    /// The responder of a generation that issues no more must have a certificate of it for as long as there is anything
    /// to ask about (RFC 6960, 4.2.2.2): a last one, while it may still be made.
    fn keep_answering_for(&self, actor: &Actor, before: &OwnCa) -> Result<(), Failure> {
        if self.store.status()?.issuers.contains(&before.identifier) {
            // Nothing under it counts, an answer of its responder either: what it issued is known by its own end.
            return Ok(());
        }
        let last = self.store.last_end(&before.identifier)?;
        let (Some(last), Some(key)) = (last, self.newest_key(Purpose::OcspResponder, None)?) else {
            return Ok(());
        };
        let wish = self.role_wish(Profile::OcspResponder, &key, before.der.clone());
        // As long as the longest that this generation has issued, but not past its own end.
        self.certificate_for(actor, &wish, |tbs| tbs.not_after.at >= last).map(drop)
    }

    /// The newest generation after `current` that has issued nothing yet.
    fn announced(&self, current: &OwnCa) -> Result<Option<OwnCa>, Failure> {
        for (issuing, _) in self.own_authorities()? {
            if issuing.identifier != current.identifier && self.store.last_end(&issuing.identifier)?.is_none() {
                return Ok(Some(issuing));
            }
        }
        Ok(None)
    }

    /// Whether the certificate that a role signs with is of another generation than the one that issues.
    fn has_roles_elsewhere(&self, current: &OwnCa) -> Result<bool, Failure> {
        for purpose in roles(self.kind) {
            let role = self.signing_role(*purpose).ok();
            if role.is_some_and(|role| role.chain.get(1).is_some_and(|issuing| *issuing != current.der)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// `certs/issuing.pem`: every generation that others should trust, the one that issues first.
    pub(super) fn write_issuing(&self) -> Result<(), Failure> {
        let generations = self.own_authorities()?;
        let chain: Vec<&[u8]> = generations.iter().map(|(issuing, _)| issuing.der.as_slice()).collect();
        self.write_certificates("issuing.pem", &chain)
    }

    fn issuing_key(&self, issuing: &OwnCa) -> Result<KeyInfo, Failure> {
        self.token.keys()?.into_iter().find(|key| key.id == issuing.key).ok_or_else(|| {
            Failure::fault(
                "ca_key_missing",
                "the key of an issuing CA is not in the token",
                "check that hsm.token is the token that this state directory was set up with",
            )
        })
    }

    /// When an issuing key may be retired: not while there is anything on whose revocation it would have to report.
    ///
    /// # Errors
    /// `key_in_use`
    pub(super) fn ensure_issues_no_more(&self, key: &KeyInfo) -> Result<(), Failure> {
        let now = clock::now();
        for record in self.store.authorities()? {
            let own = record.profile == Profile::Issuing.name() && record.key == key.id;
            let Some(issuing) = own.then(|| released(&record)).transpose()?.map(|der| OwnCa::of(&der)).transpose()?
            else {
                continue;
            };
            let last = self.store.last_end(&issuing.identifier)?.filter(|last| *last > now);
            if let Some(last) = last.filter(|_| issuing.not_after > now) {
                return Err(Failure::refused(
                    "key_in_use",
                    format!(
                        "{} signs the revocation list of certificates until {}; without it nobody could revoke them",
                        key.label,
                        last.rfc3339()
                    ),
                    "retire it after that time",
                ));
            }
        }
        Ok(())
    }
}
