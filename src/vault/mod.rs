//! Credentials of the systems behind us: mail, webhooks, core banking.
//!
//! One gate: [`Vault::read`] is the only way to a value, and it asks the store first, which says yes or no and writes the
//! leaf in the same commit. Only then does the HSM open anything. A value is sealed before it reaches the store and
//! opened after it has left it, so that a database without its HSM gives nothing.

pub mod desk;
mod feed;
mod rewrap;

pub use desk::{Released, VaultCall};
pub use feed::{Feed, FeedLine, HsmReached, ROLLED_BACK};

use std::fmt;
use std::sync::Arc;

use serde_json::json;

use crate::hsm::{HsmFault, KeyInfo, KeyOrder, KeyState, Plaintext, Token, mechanism_names_of};
use crate::kernel::command::{Act, Actor, Command, Effect, OperatorPrincipal};
use crate::kernel::refusal::Refusal;
use crate::kernel::sign::{Algorithm, Purpose};
use crate::kernel::types::{CredentialName, KeyId, PartyName, UnixMillis};
use crate::kernel::vault::{Given, Keep, SealedCredential, Terms, VALUE_BYTES_MAX, VaultAct, VaultEffect, VaultPlace};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::ops::secret::Secret;
use crate::store::{KnownCredential, Store};

/// Who keeps credentials, as the decision has it.
const KEEPER: &str = "administrator";
/// Ends of two versions that are so close were meant to be the same: a command that was repeated.
const SAME_END_MS: u64 = 10 * 60 * 1000;

/// What the composition root hands over.
pub struct VaultSetup {
    pub store: Arc<dyn Store>,
    pub token: Arc<dyn Token>,
    pub party: PartyName,
    pub trust_domain: String,
    /// What wrapping keys are. None: AES where the module has AES-GCM, RSA where it has not.
    pub algorithm: Option<Algorithm>,
}

/// The vault of one party.
pub struct Vault {
    store: Arc<dyn Store>,
    token: Arc<dyn Token>,
    place: VaultPlace,
    algorithm: Option<Algorithm>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("place", &self.place).finish_non_exhaustive()
    }
}

/// A value that was let read.
#[derive(Debug)]
pub struct Opened {
    pub credential: SealedCredential,
    pub value: Secret,
}

impl Vault {
    pub fn new(setup: VaultSetup) -> Self {
        let VaultSetup { store, token, party, trust_domain, algorithm } = setup;
        Self { store, token, place: VaultPlace { trust_domain, party }, algorithm }
    }

    /// Decides, records, and opens: in this order.
    ///
    /// # Errors
    /// `unknown_credential`, `unknown_credential_version`, `credential_not_readable`, `credential_expired`,
    /// `credential_damaged`, `credential_key_gone`, `credential_mechanism_missing`; the token's, the store's.
    pub fn read(&self, actor: &Actor, name: &CredentialName, version: Option<u64>) -> Result<Opened, Failure> {
        let act = VaultAct::Read { name: name.clone(), version };
        let VaultEffect::Released(credential) = self.apply(actor, act, clock::now())? else {
            return Err(unexpected());
        };
        match self.open(&credential) {
            Ok(value) => Ok(Opened { credential: *credential, value }),
            Err(failure) => {
                // It was let read and nobody got it: the log says so.
                let decision = json!({
                    "outcome": "refused", "reason": failure.name, "credential": name,
                    "version": credential.version.to_string(), "key": credential.key,
                });
                self.record(actor, "vault_not_opened", decision)?;
                Err(failure)
            }
        }
    }

    /// Seals a value and keeps it as the first or next version of a name. The same value again, from the same person with
    /// the same terms, changes nothing.
    fn keep(
        &self,
        operator: &OperatorPrincipal,
        name: &CredentialName,
        how: Keep,
        terms: impl FnOnce(Option<&KnownCredential>, UnixMillis) -> Terms,
        value: Secret,
    ) -> Result<VaultEffect, Failure> {
        check_value(&value)?;
        // Nothing is opened, sealed or compared for somebody whom the decision will refuse.
        let may = operator.roles.iter().any(|role| role == KEEPER);
        let mut known = self.store.credential(name)?;
        // What the next version takes over is what was sealed with the one before, and not what somebody wrote into its row.
        if let (true, Keep::Next, Some(known)) = (may, how, &mut known)
            && let Some(newest) = &known.newest
            && self.opened(newest)?.is_none()
        {
            known.newest = None;
        }
        let newest = known.as_ref().and_then(|known| known.newest.as_ref());
        let now = clock::now();
        let terms = terms(known.as_ref(), now);
        terms.check().map_err(|malformed| {
            Failure::usage("terms_invalid", malformed.to_string(), "see `countersign vault put --help`")
        })?;
        let actor = Actor::Operator(operator.clone());
        let before = newest.filter(|newest| may && newest.by == operator.name && same_terms(&newest.terms, &terms));
        let given = match before {
            Some(newest) if self.holds(newest, &value)? => Given::Before,
            Some(_) | None => Given::Anew,
        };
        let credential = match (given, newest) {
            (Given::Before, Some(newest)) => newest.clone(),
            (Given::Before | Given::Anew, _) => {
                let mut credential = SealedCredential {
                    name: name.clone(),
                    version: known.as_ref().map_or(0, |known| known.head.newest).saturating_add(1),
                    terms,
                    made: now,
                    by: operator.name.clone(),
                    key: KeyId::of(&[]),
                    sealed: vec![],
                };
                if may {
                    credential.key = self.wrapping_key(&actor)?;
                    credential.sealed = self.seal(&credential, value)?;
                }
                credential
            }
        };
        let kept = credential.clone();
        let effect = self.apply(&actor, VaultAct::Keep { credential: Box::new(credential), how, given }, now)?;
        if matches!(effect, VaultEffect::Kept { changed: true, .. }) {
            self.look_at_key_again(&actor, &kept)?;
        }
        Ok(effect)
    }

    /// Whoever rotated the wrapping key and sealed everything anew between the sealing of a version and its commit has not
    /// seen that version.
    ///
    /// # Errors
    /// `credential_key_gone` when its key was even destroyed.
    fn look_at_key_again(&self, actor: &Actor, kept: &SealedCredential) -> Result<(), Failure> {
        // It is kept: an HSM that is away now is no reason to say anything else. The doctor names what waits.
        let Ok(keys) = self.token.keys() else { return Ok(()) };
        let state = keys.iter().find(|key| key.id == kept.key).map(|key| key.state);
        match state {
            Some(KeyState::Active) => Ok(()),
            Some(KeyState::VerifyOnly) => {
                let anew = self.wrapping_key(actor).and_then(|key| self.rewrap_one(actor, kept, key));
                if let Err(Failure { name, .. }) = anew {
                    tracing::warn!(%name, credential = %kept.name, "it stays under a retired key: vault rewrap");
                }
                Ok(())
            }
            Some(KeyState::Destroyed) | None => Err(Failure::fault(
                KEY_GONE,
                format!("version {} of {} is kept, and its key was destroyed meanwhile", kept.version, kept.name),
                "give the value again with `countersign vault rotate`",
            )),
        }
    }

    /// Whether a version has this value: asked only of somebody who gave it.
    fn holds(&self, credential: &SealedCredential, value: &Secret) -> Result<bool, Failure> {
        let same = |there: Secret| aws_lc_rs::constant_time::verify_slices_are_equal(&there.0, &value.0).is_ok();
        Ok(self.opened(credential)?.is_some_and(same))
    }

    /// The value of a version; none of one that will never open: another version heals it.
    fn opened(&self, credential: &SealedCredential) -> Result<Option<Secret>, Failure> {
        match self.open(credential) {
            Ok(value) => Ok(Some(value)),
            Err(failure) if says_of_one_version(&failure) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn seal(&self, credential: &SealedCredential, value: Secret) -> Result<Vec<u8>, Failure> {
        let sealed = self.token.seal(credential.key, &credential.context(&self.place), Plaintext(value.0));
        sealed.map_err(|fault| match fault {
            HsmFault::Refused { name, message } if name == "mechanism_missing" => unusable(&name, &message),
            other => other.into(),
        })
    }

    fn open(&self, credential: &SealedCredential) -> Result<Secret, Failure> {
        let SealedCredential { name, version, key, sealed, .. } = credential;
        let opened = self.token.unseal(*key, &credential.context(&self.place), sealed.clone());
        opened.map(|plaintext| Secret(plaintext.0)).map_err(|fault| match &fault {
            HsmFault::Refused { name: why, message } if why == "mechanism_missing" => Failure::fault(
                MECHANISM_MISSING,
                format!("version {version} of {name} stays sealed: {message}"),
                "start the daemon with a module that has it, then `countersign vault rewrap`; or give the value again with \
                 `countersign vault rotate`",
            ),
            HsmFault::Refused { name: why, .. } if matches!(why.as_str(), "unknown_key" | "key_destroyed") => {
                Failure::fault(
                    KEY_GONE,
                    format!("version {version} of {name} is sealed under a key that this token does not have"),
                    "start the daemon with the token that it was sealed in, or give the value again with \
                     `countersign vault rotate`",
                )
            }
            HsmFault::Refused { .. } => refused(Refusal::CredentialDamaged),
            HsmFault::Unavailable { .. } | HsmFault::Busy | HsmFault::PinRefused { .. } => Failure::busy(
                fault.name(),
                format!("version {version} of {name} stays sealed: {fault}"),
                "see `countersign doctor`; the daemon goes on by itself when the HSM answers",
            ),
        })
    }

    /// The key under which values are sealed now, made when it is needed for the first time.
    fn wrapping_key(&self, actor: &Actor) -> Result<KeyId, Failure> {
        let algorithm = self.algorithm()?;
        let key = match self.newest_key(algorithm)? {
            Some(key) => key,
            None => self.make_key(actor, algorithm)?,
        };
        if !key.custody.is_sound() {
            return Err(Failure::fault(
                "custody_attributes_unsound",
                format!("the wrapping key {} was not made in its token or could leave it", key.label),
                "make it anew with `countersign key rotate vault-wrapping`",
            ));
        }
        Ok(key.id)
    }

    /// The key under which the next value is sealed; none when it has still to be made.
    ///
    /// # Errors
    /// The token's.
    pub fn seals_under(&self) -> Result<Option<KeyInfo>, Failure> {
        self.newest_key(self.algorithm()?)
    }

    /// What seals from now on: what the configuration says, else what the module has.
    fn algorithm(&self) -> Result<Algorithm, Failure> {
        if let Some(named) = self.algorithm {
            return Ok(named);
        }
        let there = self.token.describe()?.mechanisms;
        let has = |algorithm: &Algorithm| {
            let needed = mechanism_names_of(Purpose::VaultWrapping, *algorithm);
            needed.iter().all(|needed| there.iter().any(|name| name == needed))
        };
        let mut choice = Purpose::VaultWrapping.algorithms().iter().copied();
        Ok(choice.find(has).unwrap_or(Purpose::VaultWrapping.default_algorithm()))
    }

    fn newest_key(&self, algorithm: Algorithm) -> Result<Option<KeyInfo>, Failure> {
        let keys = self.token.keys()?.into_iter();
        let seals = keys.filter(|key| key.purpose == Purpose::VaultWrapping && key.state == KeyState::Active);
        Ok(seals.filter(|key| key.algorithm == algorithm).max_by_key(|key| key.version))
    }

    fn make_key(&self, actor: &Actor, algorithm: Algorithm) -> Result<KeyInfo, Failure> {
        let order =
            KeyOrder { party: self.place.party.to_string(), purpose: Purpose::VaultWrapping, agent: None, algorithm };
        // First: a key that was made just before the process ended has a leaf that says who had it made.
        self.record(actor, "vault_key", json!({ "outcome": "ordered", "algorithm": algorithm }))?;
        let key = self.token.make(order).map_err(|fault| match fault {
            HsmFault::Refused { name, message } => unusable(&name, &message),
            HsmFault::Unavailable { .. } | HsmFault::Busy | HsmFault::PinRefused { .. } => fault.into(),
        })?;
        let decision = json!({ "outcome": "done", "key": key.label, "id": key.id, "algorithm": key.algorithm });
        self.record(actor, "vault_key", decision)?;
        Ok(key)
    }

    fn apply(&self, actor: &Actor, act: VaultAct, now: UnixMillis) -> Result<VaultEffect, Failure> {
        let Effect::Vault(effect) = self.decide(actor, Act::Vault(act), now)? else {
            return Err(unexpected());
        };
        Ok(*effect)
    }

    fn record(&self, actor: &Actor, tool: &str, decision: serde_json::Value) -> Result<(), Failure> {
        self.decide(actor, Act::Record { tool: tool.to_owned(), decision }, clock::now()).map(drop)
    }

    fn decide(&self, actor: &Actor, act: Act, now: UnixMillis) -> Result<Effect, Failure> {
        let request_id = clock::fresh_request_id();
        let mut stamp = clock::stamp(request_id.clone());
        stamp.wall = now;
        let decided = self.store.apply(vec![Command { stamp, actor: actor.clone(), act }]);
        let outcome = decided.map_err(Failure::from)?.pop().ok_or_else(unexpected)?.outcome;
        outcome.map_err(|refusal| refused(refusal).with_request(request_id.as_str()))
    }
}

/// The name of what happens when a token is not the one that sealed, or its key was destroyed.
pub const KEY_GONE: &str = "credential_key_gone";
/// The name of what happens when a module does not have, or no longer, what a version was sealed with.
pub const MECHANISM_MISSING: &str = "credential_mechanism_missing";

/// What is wrong with one version and says nothing about the others.
fn says_of_one_version(failure: &Failure) -> bool {
    [Refusal::CredentialDamaged.name(), KEY_GONE, MECHANISM_MISSING].contains(&failure.name.as_str())
}

fn unusable(name: &str, message: &str) -> Failure {
    Failure::fault(
        "vault_unusable",
        format!("the token has no key that seals, and makes none ({name}): {message}"),
        "use a module whose AES-GCM or RSA-OAEP works (docs/MODULES.md); until then name secrets as files",
    )
}

fn check_value(value: &Secret) -> Result<(), Failure> {
    if value.0.is_empty() {
        let next = "give the value on standard input, or in a descriptor with --fd";
        return Err(Failure::usage("credential_empty", "the value is empty", next));
    }
    if value.0.len() > VALUE_BYTES_MAX {
        let message = format!("the value has more than {VALUE_BYTES_MAX} bytes");
        return Err(Failure::usage("credential_too_large", message, "keep documents elsewhere, and their key here"));
    }
    Ok(())
}

fn same_terms(before: &Terms, now: &Terms) -> bool {
    let same_end = match (before.expires, now.expires) {
        (None, None) => true,
        (Some(before), Some(now)) => before.0.abs_diff(now.0) <= SAME_END_MS,
        (None, Some(_)) | (Some(_), None) => false,
    };
    same_end && before.description == now.description && before.readers == now.readers
}

fn refused(refusal: Refusal) -> Failure {
    Failure::refused(refusal.name(), refusal.message(), refusal.next_step())
}

fn unexpected() -> Failure {
    Failure::fault("effect_unexpected", "the store answered something else than was asked", "report this as a defect")
}
