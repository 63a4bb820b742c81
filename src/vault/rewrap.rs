//! After the wrapping key was rotated: every version is sealed anew under the newest one, so that the one before can be
//! destroyed. A version at a time, each in a commit with its leaf; cut off anywhere, a repetition goes on.

use serde_json::{Value, json};

use super::{Vault, unexpected};
use crate::hsm::Plaintext;
use crate::kernel::command::{Actor, OperatorPrincipal};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::KeyId;
use crate::kernel::vault::{SealedCredential, VaultAct, VaultEffect};
use crate::ops::clock;
use crate::ops::failure::Failure;

/// Versions that are read at a time: 64 of the largest are 4 MiB.
const PORTION: u32 = 64;

impl Vault {
    /// Answers `{rewrapped, left: [{name, version, reason}], key}`.
    ///
    /// # Errors
    /// `operator_not_permitted`; the token's, the store's. What was sealed anew until then stays so.
    pub(super) fn rewrap(
        &self,
        operator: &OperatorPrincipal,
        progress: &mut dyn FnMut(Value),
    ) -> Result<Value, Failure> {
        let actor = Actor::Operator(operator.clone());
        if !operator.roles.iter().any(|role| role == super::KEEPER) {
            let reason = Refusal::OperatorNotPermitted;
            self.record(&actor, "vault_rewrap", json!({ "outcome": "refused", "reason": reason.name() }))?;
            return Err(super::refused(reason));
        }
        let key = self.wrapping_key(&actor)?;
        let under_others = || -> Result<u64, Failure> {
            let keys = self.store.credential_keys()?;
            Ok(keys.iter().filter(|(other, _)| *other != key).map(|(_, versions)| versions).sum())
        };
        let whole = under_others()?;
        let (mut rewrapped, mut left): (u64, Vec<Value>) = (0, vec![]);
        let mut after = None;
        loop {
            // What cannot be opened stays where it is: behind it the others are looked for.
            let portion = self.store.sealed_credentials(Some(&key), after.as_ref(), PORTION)?;
            let Some(last) = portion.last().map(|last| last.place.clone()).filter(|last| after.as_ref() != Some(last))
            else {
                break;
            };
            after = Some(last);
            for found in portion {
                let outcome = match &found.row {
                    Some(row) => self.rewrap_one(&actor, row, key),
                    None => Err(super::refused(Refusal::CredentialDamaged)),
                };
                match outcome {
                    Ok(changed) => rewrapped += u64::from(changed),
                    Err(failure) if is_its_own(&failure) => {
                        let (name, version) = (found.shown_name(), found.place.1);
                        left.push(json!({ "name": name, "version": version, "reason": failure.name }));
                    }
                    Err(failure) => return Err(failure),
                }
                progress(json!({ "rows": rewrapped, "of": format!("of {whole} credential versions sealed anew") }));
            }
        }
        Ok(json!({ "rewrapped": rewrapped, "left": left, "key": key }))
    }

    pub(super) fn rewrap_one(&self, actor: &Actor, row: &SealedCredential, key: KeyId) -> Result<bool, Failure> {
        let value = self.open(row)?;
        let sealed = self.token.seal(key, &row.context(&self.place), Plaintext(value.0))?;
        let act =
            VaultAct::Rewrap { name: row.name.clone(), version: row.version, before: row.sealed_sha256(), key, sealed };
        match self.apply(actor, act, clock::now())? {
            VaultEffect::Rewrapped { changed } => Ok(changed),
            VaultEffect::Kept { .. } | VaultEffect::Released(_) | VaultEffect::Removed { .. } => Err(unexpected()),
        }
    }
}

/// What is wrong with one version, or somebody else did to it meanwhile.
fn is_its_own(failure: &Failure) -> bool {
    failure.name == Refusal::CredentialChanged.name() || super::says_of_one_version(failure)
}
