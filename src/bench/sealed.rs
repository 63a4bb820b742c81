//! Leaves are sealed while a store is measured, as they are at a party. What a token does once at a start is done here
//! by a key of this process.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::kernel::types::{KeyId, Sha256};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::Store;
use crate::store::sealing::{Wrapping, begin};

const NONCE_BYTES: usize = 12;

/// Seals every leaf of a store from here on, with the key of this process.
///
/// # Errors
/// What the store says; `store_key_locked` for one that something else has sealed.
pub fn sealed(store: &dyn Store) -> Result<(), Failure> {
    static OF_PROCESS: std::sync::OnceLock<Arc<LocalWrapping>> = std::sync::OnceLock::new();
    begin(store, Arc::clone(OF_PROCESS.get_or_init(|| Arc::new(LocalWrapping::fresh()))) as Arc<dyn Wrapping>)
}

/// A wrapping key in memory: for measuring and for tests of the store, where no token is.
pub struct LocalWrapping {
    id: KeyId,
    key: LessSafeKey,
}

impl fmt::Debug for LocalWrapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalWrapping").field("id", &self.id).finish_non_exhaustive()
    }
}

impl LocalWrapping {
    pub fn fresh() -> Self {
        let key = Zeroizing::new(clock::random::<32>());
        let unbound = UnboundKey::new(&AES_256_GCM, &*key).expect("AES-256 takes 32 bytes");
        Self { id: Sha256(clock::random()), key: LessSafeKey::new(unbound) }
    }
}

fn refused(message: &str) -> Failure {
    Failure::refused("not_sealed_here", message, "use the key that sealed it")
}

impl Wrapping for LocalWrapping {
    fn active(&self) -> Result<KeyId, Failure> {
        Ok(self.id)
    }

    fn wrap(&self, _: KeyId, context: &[u8], plaintext: &[u8; 32]) -> Result<Vec<u8>, Failure> {
        let nonce = clock::random::<NONCE_BYTES>();
        let mut sealed = plaintext.to_vec();
        let done =
            self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut sealed);
        done.map_err(|_| refused("it was not sealed"))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    fn unwrap(&self, key: KeyId, context: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let (nonce, sealed) = wrapped
            .split_first_chunk::<NONCE_BYTES>()
            .filter(|_| key == self.id)
            .ok_or_else(|| refused("another key sealed it"))?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(context), &mut sealed);
        let opened = opened.map_err(|_| refused("the text was not sealed under this key with this context"))?;
        Ok(Zeroizing::new(opened.to_vec()))
    }
}
