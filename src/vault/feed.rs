//! Hands the daemon's own parts what they need: at the start, after each rotation, and when the HSM is back.
//!
//! Every look at a value is a decision with its leaf, so it is looked only when there is something new: another version,
//! or one that could not be opened before. Refusals are asked for again only once a minute.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use secrecy::SecretString;
use serde_json::json;

use super::{Opened, Vault};
use crate::kernel::command::Actor;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{CredentialName, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::{Failure, Kind};
use crate::ops::secret::{SecretSlot, Wanted, Which};
use crate::store::StoreFault;

/// The name of what the doctor fails for: an older state of a name was put back.
pub const ROLLED_BACK: &str = "credential_rolled_back";
/// Between two tries of the same version: what was refused, and what broke.
const REFUSED_AGAIN_MS: i64 = 60_000;
const BROKEN_AGAIN_MS: i64 = 5_000;

/// Whether the HSM can be asked now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HsmReached {
    Yes,
    No,
}

/// One secret that the daemon takes from the vault, as people see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeedLine {
    pub wanted: Wanted,
    /// The version in use; of [`Which::Before`] the one beside it.
    pub version: Option<u64>,
    /// Why it is not the newest one, or none at all: name and words.
    pub failure: Option<(String, String)>,
}

struct Fed {
    slot: SecretSlot,
    wanted: Wanted,
    held: Option<Held>,
    /// The newest version that was ever in use: the store goes back behind it for nobody who only changes rows.
    highest: u64,
    failure: Option<Failure>,
    /// What was tried last, and not to be tried again before (boot clock).
    tried: Option<(Option<u64>, i64)>,
}

/// What is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Held {
    version: u64,
    /// Tells it from another one that was given the same number.
    made: UnixMillis,
    /// Until when it may be.
    until: Option<UnixMillis>,
}

/// All of them.
pub struct Feed {
    vault: Arc<Vault>,
    /// One turn at a time.
    fed: Mutex<Vec<Fed>>,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("vault", &self.vault).finish_non_exhaustive()
    }
}

impl Feed {
    /// Slots that take nothing from the vault are left alone.
    pub fn new(vault: Arc<Vault>, slots: impl IntoIterator<Item = SecretSlot>) -> Self {
        let fed = |slot: SecretSlot| {
            let wanted = slot.wanted()?.clone();
            Some(Fed { slot, wanted, held: None, highest: 0, failure: None, tried: None })
        };
        let mut all: Vec<Fed> = slots.into_iter().filter_map(fed).collect();
        // At a rotation what was newest is handed in as the one before first, so that it is never missing.
        all.sort_by_key(|fed| fed.wanted.which == Which::Newest);
        Self { vault, fed: Mutex::new(all) }
    }

    pub fn is_empty(&self) -> bool {
        self.locked().is_empty()
    }

    /// Looks at each once. Blocking. True when a value was read, so that there are leaves to be sequenced.
    pub fn turn(&self, hsm: HsmReached) -> bool {
        let mut looked = false;
        for fed in self.locked().iter_mut() {
            looked |= self.look(fed, hsm);
        }
        looked
    }

    fn look(&self, fed: &mut Fed, hsm: HsmReached) -> bool {
        let now = clock::now();
        if fed.held.is_some_and(|held| held.until.is_some_and(|end| now >= end)) {
            fed.slot.hand(None);
            fed.held = None;
        }
        let newest = match self.vault.store.credential(&fed.wanted.name) {
            Ok(known) => known.and_then(|known| known.newest).map(|newest| (newest.version, newest.made)),
            // What is held was let read; a store that is away takes nothing back.
            Err(fault) => {
                fed.failure = Some(fault.into());
                return false;
            }
        };
        match fed.wanted.which {
            Which::Newest => self.look_at_newest(fed, newest, hsm),
            Which::Before { overlap_ms } => self.look_before(fed, newest, overlap_ms, hsm),
        }
    }

    fn look_at_newest(&self, fed: &mut Fed, newest: Option<(u64, UnixMillis)>, hsm: HsmReached) -> bool {
        if newest.is_some() && newest == fed.held.map(|held| (held.version, held.made)) {
            fed.failure = None;
            return false;
        }
        let newest = newest.map(|(version, _)| version);
        if let Some(there) = newest.filter(|there| *there < fed.highest) {
            return self.rolled_back(fed, there);
        }
        self.read_into(fed, newest, None, None, hsm)
    }

    /// The version before the newest, as long as it is of use beside it.
    fn look_before(&self, fed: &mut Fed, newest: Option<(u64, UnixMillis)>, overlap_ms: i64, hsm: HsmReached) -> bool {
        let now = clock::now();
        let before = newest.and_then(|(version, made)| Some((version.checked_sub(1)?, made.plus_ms(overlap_ms))));
        let of_use = before.filter(|(version, until)| *version > 0 && now < *until);
        let there = of_use.map(|(version, _)| self.is_kept(&fed.wanted.name, version)).transpose();
        let there = match there {
            Ok(there) => there == Some(true),
            Err(fault) => {
                fed.failure = Some(fault.into());
                return false;
            }
        };
        let Some((version, until)) = of_use.filter(|_| there) else {
            fed.slot.hand(None);
            (fed.held, fed.failure, fed.tried) = (None, None, None);
            return false;
        };
        if fed.held.is_some_and(|held| held.version == version) {
            fed.failure = None;
            return false;
        }
        self.read_into(fed, Some(version), Some(version), Some(until), hsm)
    }

    fn is_kept(&self, name: &CredentialName, version: u64) -> Result<bool, StoreFault> {
        let number = i64::try_from(version).unwrap_or(i64::MAX);
        let lines = self.vault.store.credential_lines(Some(&(name.to_string(), number - 1)), 1)?;
        Ok(lines.first().is_some_and(|line| line.place.0 == name.as_str() && line.place.1 == number))
    }

    /// Reads a version (none: the newest, which is number `there`) and hands it in, to be used no longer than `until`.
    fn read_into(
        &self,
        fed: &mut Fed,
        there: Option<u64>,
        version: Option<u64>,
        until: Option<UnixMillis>,
        hsm: HsmReached,
    ) -> bool {
        if fed.tried.is_some_and(|(tried, again_ms)| tried == there && clock::boot_ms() < again_ms) {
            return false;
        }
        if hsm == HsmReached::No {
            let message = format!("{} stays sealed: the HSM cannot be asked", fed.wanted.name);
            let next = "see `countersign doctor`; it is read when the HSM answers";
            fed.failure = Some(Failure::busy("hsm_down", message, next));
            return false;
        }
        let actor = Actor::System { component: fed.wanted.service.to_string() };
        match self.vault.read(&actor, &fed.wanted.name, version).and_then(text) {
            Ok((mut held, secret)) => {
                fed.slot.hand(Some(secret));
                let version = held.version;
                tracing::info!(service = %fed.wanted.service, credential = %fed.wanted.name, version, "credential read");
                held.until = [held.until, until].into_iter().flatten().min();
                (fed.held, fed.failure, fed.tried) = (Some(held), None, None);
                fed.highest = fed.highest.max(version);
            }
            Err(failure) => {
                let Failure { name, next_step, .. } = &failure;
                tracing::warn!(
                    service = %fed.wanted.service, credential = %fed.wanted.name, %name, %next_step,
                    "credential not read"
                );
                // What somebody took away or gave to others is used no longer; what broke, or is refused for now, says
                // nothing about what is held. A version before the newest that is held is another one.
                if takes_away(&failure.name) || version.is_some() {
                    fed.slot.hand(None);
                    fed.held = None;
                }
                // Each try of one that does not open is two leaves: the second one has a minute's time.
                let again = fed.tried.is_some_and(|(tried, _)| tried == there);
                let pause = match (failure.kind, fed.wanted.which) {
                    (Kind::Busy, _) if !again => BROKEN_AGAIN_MS,
                    // Nobody has to do anything about a version that is of no use soon.
                    (Kind::Refused, Which::Before { overlap_ms }) => overlap_ms,
                    (Kind::Busy | Kind::Refused | Kind::Usage | Kind::Unknown | Kind::Fault, _) => REFUSED_AGAIN_MS,
                };
                fed.tried = Some((there, clock::boot_ms().saturating_add(pause)));
                fed.failure = Some(failure);
            }
        }
        true
    }

    /// The store has an older state of the name than what was in use: nobody rotates backwards. What is held stays. True when
    /// that is new, and recorded.
    fn rolled_back(&self, fed: &mut Fed, there: u64) -> bool {
        let is_known = fed.failure.as_ref().is_some_and(|failure| failure.name == ROLLED_BACK);
        let Fed { wanted: Wanted { service, name, .. }, highest, .. } = &*fed;
        let message = format!("version {highest} of {name} was in use, and the store's newest is {there}");
        let next = "find out who changed the store (`countersign audit check`), then give the value again with \
                    `countersign vault rotate`";
        tracing::error!(%service, credential = %name, version = there, highest, "an older credential was put back");
        let mut recorded = false;
        if !is_known {
            let decision = json!({
                "outcome": "refused", "reason": ROLLED_BACK, "credential": name, "version": there.to_string(),
                "used": highest.to_string(),
            });
            let actor = Actor::System { component: service.to_string() };
            match self.vault.record(&actor, "vault_not_opened", decision) {
                Ok(()) => recorded = true,
                // Said again with the next look.
                Err(failure) => {
                    fed.failure = Some(failure);
                    return false;
                }
            }
        }
        fed.failure = Some(Failure::fault(ROLLED_BACK, message, next));
        recorded
    }

    /// How each of them stands. Of versions before the newest those alone that are in use, or should be.
    pub fn lines(&self) -> Vec<FeedLine> {
        let line = |fed: &Fed| FeedLine {
            wanted: fed.wanted.clone(),
            version: fed.held.map(|held| held.version),
            failure: fed.failure.as_ref().map(|failure| (failure.name.clone(), failure.message.clone())),
        };
        let mut lines: Vec<FeedLine> = self.locked().iter().map(line).collect();
        lines.retain(|line| {
            line.wanted.which == Which::Newest
                || line.version.is_some()
                || line.failure.as_ref().is_some_and(|(name, _)| !NONE_BEFORE.iter().any(|none| none.name() == name))
        });
        lines.sort_by_key(|line| line.wanted.which != Which::Newest);
        lines
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Fed>> {
        self.fed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refusals that say that there is no version before that this service could use.
const NONE_BEFORE: [Refusal; 3] =
    [Refusal::UnknownCredentialVersion, Refusal::CredentialNotReadable, Refusal::CredentialExpired];

/// Refusals that say that a credential is gone, spoilt, or not this service's any more.
fn takes_away(name: &str) -> bool {
    const TAKEN: [Refusal; 4] = [
        Refusal::UnknownCredential,
        Refusal::CredentialNotReadable,
        Refusal::CredentialExpired,
        Refusal::CredentialDamaged,
    ];
    TAKEN.iter().any(|refusal| refusal.name() == name)
}

/// A value as the systems behind us want it: one line of text.
fn text(opened: Opened) -> Result<(Held, SecretString), Failure> {
    let Opened { credential, value } = opened;
    let line = std::str::from_utf8(&value.0).ok().filter(|text| !text.chars().any(char::is_control));
    let line = line.ok_or_else(|| {
        let message = format!("version {} of {} is not one line of text", credential.version, credential.name);
        Failure::refused("credential_not_text", message, "give it anew with `countersign vault rotate`")
    })?;
    let held = Held { version: credential.version, made: credential.made, until: credential.terms.expires };
    Ok((held, SecretString::from(line)))
}
