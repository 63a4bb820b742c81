//! People of the console: who is invited, and whose passkey is enrolled.
//!
//! A passkey is enrolled as every other key of a person is: with an operator certificate over its public key
//! ([`super::operators`]), so that one revocation ends it, one key is one person, and what it signs is verified later with
//! the bank's CAs alone. What a browser's ceremony needs besides (the credential, its counter) is kept beside it,
//! and is opaque here.
//!
//! An invitation is a link that works once. Whoever has been enrolled before gets another one only when two administrators
//! want it: otherwise one of them alone could become anybody.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ca::authority::{ADMINISTRATOR, Authority};
use crate::ca::files;
use crate::ca::settings::PartyKind;
use crate::kernel::command::{Actor, OperatorPrincipal};
use crate::kernel::refusal::Refusal;
use crate::kernel::status::StatusSnapshot;
use crate::kernel::types::{KeyId, OperatorName, OwnerId, Serial, Sha256, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;

const HOUR_MS: i64 = 3_600_000;
/// The longest that a link stands.
pub const INVITATION_HOURS_MAX: u32 = 168;
/// Links that stand at once.
const INVITATIONS_MAX: usize = 1_000;
/// Where an enrolled person's kind of key is said: it has no token with a serial number.
pub(super) const PASSKEY: &str = "passkey";

/// Whom a link lets in, as what. `anchors/invitation-<id>.json`; of the link itself only a hash is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invitation {
    pub id: String,
    pub token_sha256: Sha256,
    pub name: OperatorName,
    pub roles: Vec<String>,
    #[serde(default)]
    pub owner: Option<OwnerId>,
    pub by: String,
    pub expires_unix_ms: i64,
    /// The person had a key here before: a second administrator has to want it, too.
    pub is_again: bool,
    #[serde(default)]
    pub confirmed_by: Option<String>,
    /// What the person is called by their authenticator: 16 random bytes, hexadecimal.
    pub handle: String,
}

impl Invitation {
    fn stands(&self, now: UnixMillis) -> bool {
        now.0 < self.expires_unix_ms
    }

    /// Whether the link opens anything now.
    pub fn is_open(&self, now: UnixMillis) -> bool {
        self.stands(now) && (!self.is_again || self.confirmed_by.is_some())
    }

    fn shown(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "roles": self.roles, "owner": self.owner, "by": self.by,
            "expires": UnixMillis(self.expires_unix_ms).rfc3339(), "is_again": self.is_again,
            "confirmed_by": self.confirmed_by, "waits_for_a_second_person": self.is_again && self.confirmed_by.is_none(),
        })
    }
}

/// A person's passkey: `anchors/passkey-<name>.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasskeyRecord {
    pub name: OperatorName,
    pub key: KeyId,
    /// [`Invitation::handle`]
    pub handle: String,
    /// As the library that runs ceremonies keeps it: credential, public key, counter.
    pub credential: Value,
}

/// Who is to be invited, as what, for how long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvitationWish {
    pub name: OperatorName,
    pub roles: Vec<String>,
    pub owner: Option<OwnerId>,
    pub hours: u32,
}

/// Somebody whose certificate counts now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    pub principal: OperatorPrincipal,
    pub key: KeyId,
    /// Subject key identifier of the certificate's issuer, hexadecimal, and its serial number.
    pub certificate: (String, Serial),
    pub not_after: UnixMillis,
}

impl Authority {
    /// Invites somebody to the console: `{id, name, roles, token, …}`. The token is in no file, log or leaf.
    ///
    /// # Errors
    /// `operator_not_permitted`, `not_this_party`, `operator_role_unknown`, `operator_owner_unnamed`,
    /// `operator_enrolled` (revoke the key first), `invitation_hours`, `too_many_invitations`
    pub fn invite(&self, actor: &Actor, wish: &InvitationWish) -> Result<Value, Failure> {
        let about = json!({ "name": wish.name, "roles": wish.roles, "owner": wish.owner, "hours": wish.hours });
        self.recorded(actor, "console_invite", &about, || {
            self.permit(actor, &[ADMINISTRATOR])?;
            self.only_for(&[PartyKind::Bank])?;
            self.roles_fit(&wish.roles, wish.owner.as_ref())?;
            if wish.hours == 0 || wish.hours > INVITATION_HOURS_MAX {
                return Err(Failure::usage(
                    "invitation_hours",
                    format!("{} hours", wish.hours),
                    format!("let it stand for 1 to {INVITATION_HOURS_MAX} hours"),
                ));
            }
            let now = clock::now();
            let before = self.enrolled_operator(&wish.name)?;
            if before.is_some() && self.standing(&wish.name, &self.store.status()?, now).is_ok() {
                return Err(Failure::refused(
                    "operator_enrolled",
                    format!("{} is enrolled with a key that counts", wish.name),
                    "if that key is lost, `countersign revoke` it first; a person has one key",
                ));
            }
            let _one_at_a_time = self.begin_issuing()?;
            let open = self.invitations_all(now)?;
            if open.len() >= INVITATIONS_MAX {
                return Err(Failure::busy(
                    "too_many_invitations",
                    format!("{INVITATIONS_MAX} invitations are open"),
                    "withdraw some, or let them end",
                ));
            }
            // Another link for the same person takes the place of the one before.
            for other in open.iter().filter(|other| other.name == wish.name) {
                files::remove_durable(&self.invitation_file(&other.id))?;
            }
            let token = hex::encode(clock::random::<32>());
            let invitation = Invitation {
                id: hex::encode(clock::random::<8>()),
                token_sha256: Sha256::of(&[token.as_bytes()]),
                name: wish.name.clone(),
                roles: wish.roles.clone(),
                owner: wish.owner.clone(),
                by: name_of(actor),
                expires_unix_ms: now.plus_ms(i64::from(wish.hours) * HOUR_MS).0,
                is_again: before.is_some(),
                confirmed_by: None,
                handle: hex::encode(clock::random::<16>()),
            };
            files::write_json(&self.invitation_file(&invitation.id), &invitation)?;
            let mut shown = invitation.shown();
            shown["token"] = json!(token);
            Ok(shown)
        })
    }

    /// The link of the first administrator, as long as nobody has a passkey: made anew each time it is asked for. None: it
    /// is not needed any more.
    ///
    /// # Errors
    /// As [`Self::invite`].
    pub fn invite_first(&self, actor: &Actor, name: &OperatorName, hours: u32) -> Result<Option<Value>, Failure> {
        if self.kind != PartyKind::Bank || self.passkeys()?.next().is_some() {
            return Ok(None);
        }
        let roles = vec![ADMINISTRATOR.to_owned()];
        self.invite(actor, &InvitationWish { name: name.clone(), roles, owner: None, hours }).map(Some)
    }

    /// A second administrator wants it, too.
    ///
    /// # Errors
    /// `operator_not_permitted`, `invitation_unknown`, `maker_is_checker`
    pub fn invitation_confirm(&self, actor: &Actor, id: &str) -> Result<Value, Failure> {
        self.recorded(actor, "console_invitation_confirm", &json!({ "id": id }), || {
            self.permit(actor, &[ADMINISTRATOR])?;
            let _one_at_a_time = self.begin_issuing()?;
            let mut invitation = self.invitation_of(id)?;
            let by = name_of(actor);
            if by == invitation.by || by == invitation.name.as_str() {
                let refusal = Refusal::MakerIsChecker;
                return Err(Failure::refused(refusal.name(), refusal.message(), "have another administrator confirm"));
            }
            invitation.confirmed_by = Some(by);
            files::write_json(&self.invitation_file(id), &invitation)?;
            Ok(invitation.shown())
        })
    }

    /// # Errors
    /// `operator_not_permitted`, `invitation_unknown`
    pub fn invitation_withdraw(&self, actor: &Actor, id: &str) -> Result<Value, Failure> {
        self.recorded(actor, "console_invitation_withdraw", &json!({ "id": id }), || {
            self.permit(actor, &[ADMINISTRATOR])?;
            let _one_at_a_time = self.begin_issuing()?;
            let invitation = self.invitation_of(id)?;
            files::remove_durable(&self.invitation_file(id))?;
            Ok(json!({ "id": id, "name": invitation.name, "withdrawn": true }))
        })
    }

    /// Has sessions at the console ended: of one person, or of everybody. `{ended}`
    ///
    /// # Errors
    /// `operator_not_permitted`
    pub fn sessions_ended(
        &self,
        actor: &Actor,
        name: Option<&OperatorName>,
        end: impl FnOnce() -> usize,
    ) -> Result<Value, Failure> {
        self.recorded(actor, "console_sign_out", &json!({ "name": name }), || {
            self.permit(actor, &[ADMINISTRATOR])?;
            Ok(json!({ "name": name, "ended": end() }))
        })
    }

    /// The links that stand: `{items: [{id, name, roles, …}], next: null}`.
    ///
    /// # Errors
    /// The file system's.
    pub fn invitation_list(&self) -> Result<Value, Failure> {
        let items: Vec<Value> = self.invitations_all(clock::now())?.iter().map(Invitation::shown).collect();
        Ok(json!({ "items": items, "next": null }))
    }

    /// Whom this link lets in, if it is open now.
    ///
    /// # Errors
    /// `invitation_unknown`: there is none, it was used, it has ended, or waits for a second person. Which, a stranger is
    /// not told.
    pub fn invitation(&self, token: &str) -> Result<Invitation, Failure> {
        let now = clock::now();
        let hash = Sha256::of(&[token.as_bytes()]);
        let found = self.invitations_all(now)?.into_iter().find(|one| one.token_sha256 == hash);
        found.filter(|one| one.is_open(now)).ok_or_else(no_invitation)
    }

    /// Enrols whoever holds this link with the key that has just proven itself: the certificate is issued, the link is used.
    ///
    /// # Errors
    /// `invitation_unknown`, `key_already_enrolled`, `agent_revoked` for a revoked key; the token's, the store's.
    pub fn passkey_enrol(&self, token: &str, spki: &[u8], credential: Value) -> Result<PasskeyRecord, Failure> {
        let invitation = self.invitation(token)?;
        let key = Sha256::of(&[spki]);
        let Invitation { id, name, roles, owner, by, confirmed_by, handle, .. } = invitation;
        let about = json!({
            "name": name, "roles": roles, "owner": owner, "key": key, "invited_by": by, "confirmed_by": confirmed_by,
        });
        let actor = Actor::System { component: "console".into() };
        let record = PasskeyRecord { name: name.clone(), key, handle, credential };
        self.recorded(&actor, "console_enrol", &about, || {
            let issuing = self.begin_issuing()?;
            // Used up before anything comes of it: a second one with the same link finds nothing.
            if !self.invitation_file(&id).exists() {
                return Err(no_invitation());
            }
            files::remove_durable(&self.invitation_file(&id))?;
            let enrolled = self.certify_person(&actor, &name, spki, PASSKEY, &roles, owner.as_ref(), &issuing)?;
            files::write_json(&self.passkey_file(&name), &record)?;
            Ok(enrolled)
        })?;
        Ok(record)
    }

    /// The certificate of an enrolled passkey anew, when less than a third of its life is left: its key has just proven
    /// itself. Answers whether one was issued.
    ///
    /// # Errors
    /// As [`Self::passkey_enrol`].
    pub fn passkey_renew(&self, name: &OperatorName) -> Result<bool, Failure> {
        let now = clock::now();
        let Some(enrolled) = self.enrolled_operator(name)? else { return Ok(false) };
        let standing = self.standing(name, &self.store.status()?, now)?;
        let life = i64::from(self.pki.service_life_days) * super::setup::DAY_MS;
        if standing.not_after.0 - now.0 > life / 3 {
            return Ok(false);
        }
        let actor = Actor::System { component: "console".into() };
        self.recorded(&actor, "console_renew", &json!({ "name": name, "key": enrolled.key }), || {
            let spki = self.operator_leaf(name, &enrolled.certificate, now)?;
            let issuing = self.begin_issuing()?;
            let (roles, owner) = (&enrolled.roles, enrolled.owner.as_ref());
            self.certify_person(&actor, name, &spki, PASSKEY, roles, owner, &issuing)
        })?;
        Ok(true)
    }

    /// The passkey of this person.
    ///
    /// # Errors
    /// `passkey_unreadable`
    pub fn passkey(&self, name: &OperatorName) -> Result<Option<PasskeyRecord>, Failure> {
        files::read_json(
            &self.passkey_file(name),
            "passkey_unreadable",
            "revoke the person's key and invite them again",
        )
    }

    /// The passkey whose authenticator calls its person so.
    ///
    /// # Errors
    /// `passkey_unreadable`
    pub fn passkey_of(&self, handle: &str) -> Result<Option<PasskeyRecord>, Failure> {
        for name in self.passkeys()? {
            if let Some(found) = self.passkey(&name)?.filter(|one| one.handle == handle) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Keeps what a ceremony has changed of a credential, if it is still what the ceremony began with: of two that race
    /// with one counter, one fails.
    ///
    /// # Errors
    /// `passkey_changed`
    pub fn passkey_used(&self, before: &PasskeyRecord, credential: Value) -> Result<(), Failure> {
        let _one_at_a_time = self.begin_issuing()?;
        if self.passkey(&before.name)?.as_ref() != Some(before) {
            return Err(Failure::refused(
                "passkey_changed",
                "the passkey was used elsewhere meanwhile",
                "sign in again",
            ));
        }
        if before.credential == credential {
            return Ok(());
        }
        files::write_json(&self.passkey_file(&before.name), &PasskeyRecord { credential, ..before.clone() })
    }

    /// The enrolled person of this name, if their certificate counts at `now` under this status.
    ///
    /// # Errors
    /// `operator_unknown`, `operator_revoked`, `operator_certificate_expired`, `operator_unreadable`
    pub fn standing(&self, name: &OperatorName, status: &StatusSnapshot, now: UnixMillis) -> Result<Standing, Failure> {
        let enrolled = self.enrolled_operator(name)?.ok_or_else(|| {
            let next = "ask an administrator for an invitation";
            Failure::refused("operator_unknown", format!("nobody of the name {name} is enrolled"), next)
        })?;
        let facts = self.operator_facts_under(status, name, &enrolled.certificate, now)?;
        let uid = rustix::process::getuid().as_raw();
        let (roles, owner) = (enrolled.roles, enrolled.owner);
        let principal = OperatorPrincipal { name: enrolled.name, uid, roles, asserted: false, owner };
        let certificate = (facts.issuer_identifier, facts.serial);
        Ok(Standing { principal, key: facts.key, certificate, not_after: facts.not_after })
    }

    fn passkeys(&self) -> Result<impl Iterator<Item = OperatorName>, Failure> {
        let names = files::names(&self.state.anchors())?;
        Ok(names.into_iter().filter_map(|file| file.strip_prefix("passkey-")?.strip_suffix(".json")?.parse().ok()))
    }

    fn passkey_file(&self, name: &OperatorName) -> std::path::PathBuf {
        self.state.anchors().join(format!("passkey-{name}.json"))
    }

    fn invitation_file(&self, id: &str) -> std::path::PathBuf {
        self.state.anchors().join(format!("invitation-{id}.json"))
    }

    fn invitation_of(&self, id: &str) -> Result<Invitation, Failure> {
        let is_id = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let found = if is_id { self.read_invitation(id)? } else { None };
        found.filter(|one| one.stands(clock::now())).ok_or_else(no_invitation)
    }

    fn read_invitation(&self, id: &str) -> Result<Option<Invitation>, Failure> {
        files::read_json(&self.invitation_file(id), "invitation_unreadable", "withdraw it: remove its file")
    }

    /// Those whose time is not over; the files of the others go.
    fn invitations_all(&self, now: UnixMillis) -> Result<Vec<Invitation>, Failure> {
        let mut standing = Vec::new();
        for file in files::names(&self.state.anchors())? {
            let id = file.strip_prefix("invitation-").and_then(|rest| rest.strip_suffix(".json"));
            if let Some(found) = id.map(|id| self.read_invitation(id)).transpose()?.flatten() {
                if found.stands(now) {
                    standing.push(found);
                } else {
                    files::remove_durable(&self.invitation_file(&found.id))?;
                }
            }
        }
        Ok(standing)
    }
}

fn name_of(actor: &Actor) -> String {
    match actor {
        Actor::Operator(operator) => operator.name.to_string(),
        Actor::Agent(_) | Actor::Program(_) | Actor::System { .. } => actor.name(),
    }
}

fn no_invitation() -> Failure {
    Failure::refused(
        "invitation_unknown",
        "this invitation was used, has ended, was withdrawn, or waits for a second administrator",
        "ask an administrator of the bank for another one",
    )
}
