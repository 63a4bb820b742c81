//! The vault: who keeps credentials, and who is let read them. Values are never seen here.

use serde_json::{Value, json};

use super::bank::operator;
use super::{Book, Change, Orders, Ruled};
use crate::kernel::command::{Actor, Command, Effect};
use crate::kernel::ledger::Inconsistent;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{CredentialName, Sha256};
use crate::kernel::vault::{
    CREDENTIALS_MAX, CredentialCount, CredentialHead, Given, Keep, NAMES_MAX, SealedCredential, VERSIONS_MAX, VaultAct,
    VaultEffect, Way,
};

const KEEPERS: [&str; 1] = ["administrator"];

pub(super) fn act(book: &dyn Book, command: &Command, act: &VaultAct) -> Ruled<Orders> {
    let (effect, change) = match act {
        VaultAct::Keep { credential, how, given } => keep(book, command, credential, *how, *given)?,
        VaultAct::Read { name, version } => (read(book, command, name, *version)?, None),
        VaultAct::Remove { name, version } => remove(book, command, name, *version)?,
        VaultAct::Rewrap { name, version, before, key, sealed } => {
            operator(&command.actor, &KEEPERS)?;
            let change = |row: SealedCredential| -> Change {
                Change::PutCredential(Box::new(SealedCredential { key: *key, sealed: sealed.clone(), ..row }))
            };
            let change = rewrap(book, name, *version, *before, Sha256::of(&[sealed]))?.map(change);
            (VaultEffect::Rewrapped { changed: change.is_some() }, change)
        }
    };
    Ok((Effect::Vault(Box::new(effect)), change.into_iter().collect()))
}

type Step = (VaultEffect, Option<Change>);

/// Order: role → there is one, or none, as asked → the same again → nobody was faster → limits.
fn keep(book: &dyn Book, command: &Command, credential: &SealedCredential, how: Keep, given: Given) -> Ruled<Step> {
    let by = operator(&command.actor, &KEEPERS)?;
    if credential.by.as_str() != by {
        return Err(Inconsistent("a credential was sealed for somebody else than who keeps it".into()).into());
    }
    let head = book.credential(&credential.name)?;
    let kept = head.filter(|head| head.versions > 0);
    match (how, kept, given) {
        (Keep::Next, None, _) => return Err(Refusal::UnknownCredential.into()),
        (Keep::New | Keep::Next, Some(head), Given::Before) if credential.version == head.newest => {
            return Ok((VaultEffect::Kept { version: head.newest, changed: false }, None));
        }
        (Keep::New, Some(_), _) => return Err(Refusal::CredentialExists.into()),
        (Keep::New, None, _) | (Keep::Next, Some(_), _) => {}
    }
    if credential.version != next(head) {
        return Err(Refusal::CredentialChanged.into());
    }
    match kept {
        Some(head) if head.versions >= VERSIONS_MAX => return Err(Refusal::TooManyCredentialVersions.into()),
        None => {
            let CredentialCount { kept, names } = book.credentials()?;
            if kept >= CREDENTIALS_MAX || (head.is_none() && names >= NAMES_MAX) {
                return Err(Refusal::TooManyCredentials.into());
            }
        }
        Some(_) => {}
    }
    let change = Change::PutCredential(Box::new(credential.clone()));
    Ok((VaultEffect::Kept { version: credential.version, changed: true }, Some(change)))
}

/// The number of the next version.
fn next(head: Option<CredentialHead>) -> u64 {
    head.map_or(0, |head| head.newest).saturating_add(1)
}

/// Order: no agent, no program → the name → the version → its readers → its end.
fn read(book: &dyn Book, command: &Command, name: &CredentialName, version: Option<u64>) -> Ruled<VaultEffect> {
    match command.actor {
        Actor::Operator(_) | Actor::System { .. } => {}
        Actor::Agent(_) | Actor::Program(_) => return Err(Refusal::OperatorNotPermitted.into()),
    }
    let head = book.credential(name)?.filter(|head| head.versions > 0).ok_or(Refusal::UnknownCredential)?;
    let found = book.credential_version(name, version.unwrap_or(head.newest))?;
    let credential = match (found, version) {
        (Some(credential), _) => credential,
        (None, Some(_)) => return Err(Refusal::UnknownCredentialVersion.into()),
        // The newest one is never removed alone: somebody did, behind our back.
        (None, None) => return Err(Refusal::CredentialDamaged.into()),
    };
    if !credential.terms.let_read(&command.actor) {
        return Err(Refusal::CredentialNotReadable.into());
    }
    if credential.terms.is_over(command.stamp.wall) {
        return Err(Refusal::CredentialExpired.into());
    }
    Ok(VaultEffect::Released(Box::new(credential)))
}

/// Order: role → the name → not the newest alone. What was removed before changes nothing.
fn remove(book: &dyn Book, command: &Command, name: &CredentialName, version: Option<u64>) -> Ruled<Step> {
    operator(&command.actor, &KEEPERS)?;
    let head = book.credential(name)?.ok_or(Refusal::UnknownCredential)?;
    let versions = match version {
        None => head.versions,
        Some(version) if version == 0 || version > head.newest => return Err(Refusal::UnknownCredentialVersion.into()),
        Some(version) if version == head.newest && head.versions > 0 => return Err(Refusal::NewestVersionStays.into()),
        Some(version) => u32::from(book.credential_version(name, version)?.is_some()),
    };
    let change = (versions > 0).then(|| Change::RemoveCredential { name: name.clone(), version });
    Ok((VaultEffect::Removed { versions }, change))
}

/// The row that is to be replaced; none when it is gone, or has been.
fn rewrap(
    book: &dyn Book,
    name: &CredentialName,
    version: u64,
    before: Sha256,
    after: Sha256,
) -> Ruled<Option<SealedCredential>> {
    let Some(row) = book.credential_version(name, version)? else {
        return Ok(None);
    };
    match row.sealed_sha256() {
        there if there == before => Ok(Some(row)),
        there if there == after => Ok(None),
        _ => Err(Refusal::CredentialChanged.into()),
    }
}

/// What a leaf says of an act: never a value, and of what is sealed its hash.
pub(super) fn said(act: &VaultAct) -> Value {
    match act {
        VaultAct::Keep { credential, how: _, given: _ } => {
            let SealedCredential { name, version, terms, key, .. } = &**credential;
            json!({
                "credential": name, "version": version.to_string(), "description": terms.description,
                "readers": terms.readers, "expires": terms.expires.map(|end| end.rfc3339()), "key": key,
                "sealed_sha256": credential.sealed_sha256(), "way": credential.way().name(),
            })
        }
        VaultAct::Read { name, version } | VaultAct::Remove { name, version } => {
            json!({ "credential": name, "version": version.map(|version| version.to_string()) })
        }
        VaultAct::Rewrap { name, version, before, key, sealed } => json!({
            "credential": name, "version": version.to_string(), "before_sha256": before, "key": key,
            "sealed_sha256": Sha256::of(&[sealed]), "way": Way::of(sealed).name(),
        }),
    }
}

/// What a leaf says of what came of it.
pub(super) fn told(effect: &VaultEffect) -> Value {
    match effect {
        VaultEffect::Kept { version, changed } => {
            json!({ "status": "kept", "version": version.to_string(), "changed": changed })
        }
        VaultEffect::Released(credential) => json!({
            "status": "released", "version": credential.version.to_string(),
            "sealed_sha256": credential.sealed_sha256(),
        }),
        VaultEffect::Removed { versions } => json!({ "status": "removed", "versions": versions }),
        VaultEffect::Rewrapped { changed } => json!({ "status": "rewrapped", "changed": changed }),
    }
}
