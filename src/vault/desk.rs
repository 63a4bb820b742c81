//! What people ask of the vault.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Opened, Vault, unexpected};
use crate::kernel::command::{Actor, OperatorPrincipal};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{CredentialName, KeyId, UnixMillis};
use crate::kernel::vault::{Keep, Reader, ReaderRole, SealedCredential, Terms, VaultAct, VaultEffect};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::ops::secret::Secret;
use crate::store::{CredentialLine, CredentialPlace, KnownCredential, VaultRow};

/// Lines of one page.
const PAGE_MAX: u32 = 1_000;
const DAY_MS: i64 = 86_400_000;
/// The longest life of a version, days.
const DAYS_MAX: u32 = 36_500;

/// What an operator asks. The members of each are told by name before their values come, so that no value is buffered on
/// the way.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "vault", content = "with", rename_all = "snake_case", deny_unknown_fields)]
pub enum VaultCall {
    Put {
        name: CredentialName,
        description: String,
        readers: BTreeSet<Reader>,
        /// None: until it is removed.
        days: Option<u32>,
        value: Secret,
    },
    /// What is none stays as it was; a life of so many days begins anew.
    Rotate {
        name: CredentialName,
        description: Option<String>,
        readers: Option<BTreeSet<Reader>>,
        days: Option<u32>,
        value: Secret,
    },
    /// Answered by [`Released`], not by a tree: see [`Vault::release`].
    Get {
        name: CredentialName,
        version: Option<u64>,
    },
    List {
        after: Option<CredentialPlace>,
        limit: u32,
    },
    /// Every version of one name.
    Show {
        name: CredentialName,
    },
    Remove {
        name: CredentialName,
        version: Option<u64>,
    },
    Rewrap {},
}

/// A value on its way to whoever asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Released {
    pub name: CredentialName,
    pub version: u64,
    pub expires: Option<UnixMillis>,
    pub value: Secret,
}

impl Vault {
    /// A value for an operator.
    ///
    /// # Errors
    /// As [`Vault::read`].
    pub fn release(
        &self,
        operator: &OperatorPrincipal,
        name: &CredentialName,
        version: Option<u64>,
    ) -> Result<Released, Failure> {
        let Opened { credential, value } = self.read(&Actor::Operator(operator.clone()), name, version)?;
        let SealedCredential { name, version, terms, .. } = credential;
        Ok(Released { name, version, expires: terms.expires, value })
    }

    /// Everything but values. Blocking; a long one tells `progress` how far it is.
    ///
    /// # Errors
    /// `operator_not_permitted`, `credential_exists`, `unknown_credential`, `unknown_credential_version`,
    /// `newest_version_stays`, `too_many_credentials`, `too_many_credential_versions`, `terms_invalid`,
    /// `credential_empty`, `credential_too_large`; the token's, the store's.
    pub fn desk(
        &self,
        operator: &OperatorPrincipal,
        call: VaultCall,
        progress: &mut dyn FnMut(Value),
    ) -> Result<Value, Failure> {
        match call {
            VaultCall::Put { name, description, readers, days, value } => {
                let life_ms = days.map(life_ms).transpose()?;
                let terms = |_: Option<&KnownCredential>, now: UnixMillis| Terms {
                    description,
                    readers,
                    expires: life_ms.map(|life| now.plus_ms(life)),
                };
                kept(&name, self.keep(operator, &name, Keep::New, terms, value)?)
            }
            VaultCall::Rotate { name, description, readers, days, value } => {
                let given_ms = days.map(life_ms).transpose()?;
                let terms = |known: Option<&KnownCredential>, now: UnixMillis| {
                    let before = known.and_then(|known| known.newest.as_ref());
                    let damaged = known.is_some_and(|known| known.newest.is_none() && known.head.versions > 0);
                    let kept = before.map(|before| before.terms.clone());
                    // As long again as the version before lives.
                    let life = before.and_then(|before| Some(before.terms.expires?.0.saturating_sub(before.made.0)));
                    Terms {
                        description: description
                            .or(kept.as_ref().map(|terms| terms.description.clone()))
                            .unwrap_or_default(),
                        readers: readers
                            .or(kept.map(|terms| terms.readers))
                            .unwrap_or_else(|| if damaged { BTreeSet::new() } else { nobody() }),
                        expires: given_ms.or(life).map(|life| now.plus_ms(life)),
                    }
                };
                kept(&name, self.keep(operator, &name, Keep::Next, terms, value)?)
            }
            VaultCall::Get { .. } => {
                let next = "check that CLI and daemon are the same version";
                Err(Failure::usage("value_not_listed", "a value is released alone, not in a tree", next))
            }
            VaultCall::List { after, limit } => self.list(operator, after.as_ref(), limit),
            VaultCall::Show { name } => self.show(operator, &name),
            VaultCall::Remove { name, version } => {
                let actor = Actor::Operator(operator.clone());
                let act = VaultAct::Remove { name: name.clone(), version };
                match self.apply(&actor, act, clock::now())? {
                    VaultEffect::Removed { versions } => {
                        Ok(json!({ "name": name, "removed": versions, "changed": versions > 0 }))
                    }
                    VaultEffect::Kept { .. } | VaultEffect::Released(_) | VaultEffect::Rewrapped { .. } => {
                        Err(unexpected())
                    }
                }
            }
            VaultCall::Rewrap {} => self.rewrap(operator, progress),
        }
    }

    fn list(
        &self,
        operator: &OperatorPrincipal,
        after: Option<&CredentialPlace>,
        limit: u32,
    ) -> Result<Value, Failure> {
        self.may_look(operator, "vault_list", &Value::Null)?;
        let limit = limit.clamp(1, PAGE_MAX);
        let mut found = self.store.credential_lines(after, limit + 1)?;
        let goes_on = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next = found.last().filter(|_| goes_on).map(|last| json!(last.place));
        let (labels, now) = (self.labels(), clock::now());
        let items: Vec<Value> = found.iter().map(|found| listed(found, &labels, now)).collect();
        Ok(json!({ "items": items, "next": next }))
    }

    /// Answers `{name, newest, removed, items}`: the number that was given last, how many versions are gone, and those that are
    /// kept as [`Self::list`] has them.
    fn show(&self, operator: &OperatorPrincipal, name: &CredentialName) -> Result<Value, Failure> {
        self.may_look(operator, "vault_show", &json!(name))?;
        let head = self.store.credential(name)?.ok_or_else(|| super::refused(Refusal::UnknownCredential))?.head;
        let from: CredentialPlace = (name.to_string(), i64::MIN);
        let mut found = self.store.credential_lines(Some(&from), PAGE_MAX)?;
        found.retain(|found| found.place.0 == name.as_str());
        let (labels, now) = (self.labels(), clock::now());
        let items: Vec<Value> = found.iter().map(|found| listed(found, &labels, now)).collect();
        let removed = head.newest.saturating_sub(items.len() as u64);
        Ok(json!({ "name": name, "newest": head.newest, "removed": removed, "items": items }))
    }

    /// Everybody with a role may; that somebody without one wanted to is recorded.
    fn may_look(&self, operator: &OperatorPrincipal, tool: &str, name: &Value) -> Result<(), Failure> {
        if !operator.roles.is_empty() {
            return Ok(());
        }
        let reason = Refusal::OperatorNotPermitted;
        let decision = json!({ "outcome": "refused", "reason": reason.name(), "credential": name });
        self.record(&Actor::Operator(operator.clone()), tool, decision)?;
        Err(super::refused(reason))
    }

    /// Of every key of the token, as far as it can be asked.
    fn labels(&self) -> Vec<(KeyId, String)> {
        self.token.keys().map(|keys| keys.into_iter().map(|key| (key.id, key.label)).collect()).unwrap_or_default()
    }
}

/// Nobody has said who reads a name that is not there: the decision refuses it by its own name. Where there is one that
/// cannot be read any more, whoever rotates it has to say.
fn nobody() -> BTreeSet<Reader> {
    BTreeSet::from([Reader::Role(ReaderRole::Administrator)])
}

fn life_ms(days: u32) -> Result<i64, Failure> {
    if (1..=DAYS_MAX).contains(&days) {
        return Ok(i64::from(days) * DAY_MS);
    }
    let message = format!("{days} days: a version lives 1 to {DAYS_MAX} days, or until it is removed");
    Err(Failure::usage("terms_invalid", message, "correct --days, or leave it out"))
}

fn kept(name: &CredentialName, effect: VaultEffect) -> Result<Value, Failure> {
    match effect {
        VaultEffect::Kept { version, changed } => Ok(json!({ "name": name, "version": version, "changed": changed })),
        VaultEffect::Released(_) | VaultEffect::Removed { .. } | VaultEffect::Rewrapped { .. } => Err(unexpected()),
    }
}

/// `state` is `kept`, `expired`, or `damaged`: then nothing else is known.
fn listed(found: &VaultRow<CredentialLine>, labels: &[(KeyId, String)], now: UnixMillis) -> Value {
    let Some(line) = &found.row else {
        return json!({ "name": found.shown_name(), "version": found.place.1, "state": "damaged" });
    };
    let label = labels.iter().find(|(id, _)| *id == line.key).map(|(_, label)| label.as_str());
    let expired = line.terms.is_over(now);
    json!({
        "name": line.name,
        "version": line.version,
        "state": if expired { "expired" } else { "kept" },
        "description": line.terms.description,
        "readers": line.terms.readers,
        "expires": line.terms.expires.map(|end| end.rfc3339()),
        "expired": expired,
        "made": line.made.rfc3339(),
        "by": line.by,
        "key": line.key,
        "key_label": label,
        "way": line.way.name(),
    })
}
