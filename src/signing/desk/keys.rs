//! Which keys there are: looked up at the token now and then, never on each call.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Desk, defect};
use crate::hsm::{KeyInfo, KeyState};
use crate::kernel::command::ProgramPrincipal;
use crate::kernel::external::{PublicKey, jose_name};
use crate::kernel::sign::Purpose;
use crate::kernel::types::KeyId;
use crate::ops::failure::Failure;

/// Nobody who lists the keys has the token asked more often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Desk {
    /// The keys that sign for this program: `{items: [{name, label, kid, alg, kinds, jwk, …}], next}`.
    ///
    /// # Errors
    /// The token's.
    pub async fn shown(&self, program: &ProgramPrincipal) -> Result<Value, Failure> {
        self.look_again().await?;
        let mut items = vec![];
        for key in self.setup.settings.key.iter().filter(|key| self.setup.callers.permits(key.name.as_str(), program)) {
            let active = self.known(key.name.as_str());
            let public = active.as_ref().and_then(|active| PublicKey::from_spki(&active.spki).ok());
            items.push(json!({
                "name": key.name,
                "label": active.as_ref().map(|active| &active.label),
                "kid": active.as_ref().map(|active| active.id),
                "alg": active.as_ref().and_then(|active| jose_name(active.algorithm)),
                "kinds": key.kinds,
                "purposes": key.purposes,
                "jwk": public.map(|public| public.jwk()),
                "per_second": key.per_second,
                "burst": key.burst,
                "jwt": key.jwt,
                "request": key.request,
            }));
        }
        Ok(json!({ "items": items, "next": null }))
    }

    /// The version of a key that signs: the one that is configured, or the newest that is active.
    pub(super) async fn active(&self, name: &str) -> Result<Option<KeyInfo>, Failure> {
        if let Some(key) = self.known(name) {
            return Ok(Some(key));
        }
        self.refresh().await?;
        Ok(self.known(name))
    }

    /// Whether this very version signs, as it was last seen.
    pub(super) fn signs(&self, key: &KeyInfo) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().any(|known| known.id == key.id && known.state == KeyState::Active)
    }

    fn known(&self, name: &str) -> Option<KeyInfo> {
        let configured = self.setup.settings.key.iter().find(|key| key.name.as_str() == name);
        let version = configured.and_then(|key| key.version);
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let active = keys.iter().filter(|key| key.agent.as_deref() == Some(name) && key.state == KeyState::Active);
        let active = active.filter(|key| version.is_none_or(|version| key.version == version));
        active.max_by_key(|key| key.version).cloned()
    }

    /// A version of this key, in whatever state, by its id. None: it is another key's, or gone.
    pub(super) async fn version(&self, name: &str, id: KeyId) -> Result<Option<KeyInfo>, Failure> {
        let find = || {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            keys.iter().find(|key| key.id == id && key.agent.as_deref() == Some(name)).cloned()
        };
        if let Some(found) = find() {
            return Ok(Some(found));
        }
        self.look_again().await?;
        Ok(find())
    }

    /// Has the token say which keys there are, unless it has just done so.
    pub(super) async fn look_again(&self) -> Result<(), Failure> {
        let looked = *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.is_some_and(|at| at.elapsed() <= LOOK_AGAIN) {
            return Ok(());
        }
        self.refresh().await
    }

    /// Looks at the token which keys sign now.
    ///
    /// # Errors
    /// The token's.
    pub async fn refresh(&self) -> Result<(), Failure> {
        let token = Arc::clone(&self.setup.token);
        let mut keys = tokio::task::spawn_blocking(move || token.keys()).await.map_err(|_| defect())??;
        keys.retain(|key| key.purpose == Purpose::External);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(())
    }
}
