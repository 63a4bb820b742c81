//! The token as what seals the store's keys.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::audit::settings::{AuditSettings, Sealing};
use crate::hsm::{HsmFault, KeyInfo, KeyOrder, KeyState, Plaintext, Token};
use crate::kernel::sign::{Algorithm, Purpose};
use crate::kernel::types::KeyId;
use crate::ops::failure::Failure;
use crate::store::sealing::Wrapping;
use crate::store::{Store, sealing};

/// From here on every leaf is sealed, under keys that this party's token opens; the token's wrapping key is made when it
/// is needed for the first time. Again after that key was rotated.
///
/// # Errors
/// `store_key_locked` when the token is not the one that sealed the store so far; `sealing_required` when it is to be off
/// and leaves were sealed before; `sealing_unusable` when the module has no AES-GCM that works. The token's, the store's.
pub fn begin(store: &dyn Store, token: &Arc<dyn Token>, party: &str, settings: &AuditSettings) -> Result<(), Failure> {
    match settings.sealing {
        Sealing::On => {
            sealing::begin(store, Arc::new(TokenWrapping { token: Arc::clone(token), party: party.to_owned() }))
        }
        Sealing::Off if store.store_keys()?.is_empty() => Ok(()),
        Sealing::Off => Err(Failure::usage(
            "sealing_required",
            "leaves of this store are sealed already; none is written in the clear beside them",
            "set audit.sealing = \"on\", or leave it out",
        )),
    }
}

struct TokenWrapping {
    token: Arc<dyn Token>,
    party: String,
}

impl fmt::Debug for TokenWrapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenWrapping").field("party", &self.party).finish_non_exhaustive()
    }
}

impl TokenWrapping {
    /// The newest wrapping key that still seals.
    fn newest(&self) -> Result<Option<KeyInfo>, HsmFault> {
        let keys = self.token.keys()?.into_iter();
        let seals = keys.filter(|key| key.purpose == Purpose::DataWrapping && key.state == KeyState::Active);
        Ok(seals.max_by_key(|key| key.version))
    }

    fn make(&self) -> Result<KeyInfo, Failure> {
        let order = KeyOrder {
            party: self.party.clone(),
            purpose: Purpose::DataWrapping,
            agent: None,
            algorithm: Algorithm::Aes256,
        };
        self.token.make(order).map_err(|fault| match fault {
            HsmFault::Refused { name, message } => Failure::fault(
                "sealing_unusable",
                format!("the token makes no key that seals ({name}): {message}"),
                "use a module whose AES-GCM works (docs/MODULES.md), or set audit.sealing = \"off\" and know that what \
                 leaves say then lies in the clear in the store and in every backup",
            ),
            HsmFault::Unavailable { .. } | HsmFault::Busy | HsmFault::PinRefused { .. } => fault.into(),
        })
    }
}

impl Wrapping for TokenWrapping {
    fn active(&self) -> Result<KeyId, Failure> {
        let key = match self.newest()? {
            Some(key) => key,
            None => self.make()?,
        };
        if !key.custody.is_sound() {
            return Err(Failure::fault(
                "custody_attributes_unsound",
                format!("the wrapping key {} was not made in its token or could leave it", key.label),
                "make it anew with `countersign key rotate data-wrapping`",
            ));
        }
        Ok(key.id)
    }

    fn wrap(&self, key: KeyId, context: &[u8], plaintext: &[u8; 32]) -> Result<Vec<u8>, Failure> {
        Ok(self.token.seal(key, context, Plaintext(Zeroizing::new(plaintext.to_vec())))?)
    }

    fn unwrap(&self, key: KeyId, context: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        Ok(self.token.unseal(key, context, wrapped.to_vec())?.0)
    }
}
