//! Keys in memory: the store's, and those of subjects while a page of leaves is read.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::{LeafRow, StoreKey, Wrapping, opened, packing};
use crate::kernel::decide::RowFault;
use crate::kernel::subject::Period;
use crate::kernel::types::Sha256;
use crate::ops::clock;
use crate::ops::failure::Kind;
use crate::store::{LeafContent, StoreFault};

const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const SALT_BYTES: usize = 32;
/// A data key as it is kept: nonce, key, tag.
const WRAPPED_BYTES: usize = NONCE_BYTES + 32 + TAG_BYTES;

/// A data key as its row has it.
#[derive(Clone, Debug)]
pub(in crate::store) struct DataKeyRow {
    pub(in crate::store) store_key: i64,
    /// Its subject's name, or what is left of it.
    pub(in crate::store) subject: String,
    pub(in crate::store) period: i32,
    /// None: it was destroyed.
    pub(in crate::store) wrapped: Option<Vec<u8>>,
}

/// The store's keys, open. Cheap to ask: nothing here waits for anybody, except what asks the token for a key that is new
/// to it.
pub struct Ring {
    newest: i64,
    /// From this row on every leaf is sealed.
    first_row: i64,
    /// By number: the newest one, and those that were needed since. The lock guards the map only.
    keys: RwLock<BTreeMap<i64, Arc<LessSafeKey>>>,
    wrapping: Arc<dyn Wrapping>,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("newest", &self.newest).finish_non_exhaustive()
    }
}

impl Ring {
    /// With the newest store key.
    pub(super) fn new(newest: i64, first_row: i64, key: &[u8; 32], wrapping: Arc<dyn Wrapping>) -> Self {
        Self { newest, first_row, keys: RwLock::new(BTreeMap::from([(newest, Arc::new(aes(key)))])), wrapping }
    }

    /// Whether the leaf of this row must be sealed.
    pub(in crate::store) fn seals(&self, row: i64) -> bool {
        row >= self.first_row
    }

    fn store_key(&self, id: i64) -> Option<Arc<LessSafeKey>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// A fresh data key of a subject, and how it is kept.
    ///
    /// # Errors
    /// A defect: the newest store key is always there.
    pub(in crate::store) fn make(
        &self,
        id: i64,
        subject: &str,
        period: Period,
    ) -> Result<(DataKey, DataKeyRow), RowFault> {
        let store_key = self.store_key(self.newest).ok_or("the newest store key is not open")?;
        let fresh = Zeroizing::new(clock::random::<32>());
        let nonce = clock::random::<NONCE_BYTES>();
        let mut wrapped = Vec::with_capacity(WRAPPED_BYTES);
        wrapped.extend_from_slice(&nonce);
        let mut sealed = fresh.to_vec();
        store_key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(key_data(id, subject, period.0)),
                &mut sealed,
            )
            .map_err(|_| "a data key was not sealed")?;
        wrapped.extend_from_slice(&sealed);
        let row = DataKeyRow {
            store_key: self.newest,
            subject: subject.to_owned(),
            period: period.0,
            wrapped: Some(wrapped),
        };
        Ok((DataKey { id, key: aes(&fresh) }, row))
    }

    /// A data key from its row. `None`: the row is not as it was written, or its store key is not open.
    pub(in crate::store) fn open(&self, id: i64, row: &DataKeyRow) -> Option<DataKey> {
        let store_key = self.store_key(row.store_key)?;
        let wrapped = row.wrapped.as_deref().filter(|wrapped| wrapped.len() == WRAPPED_BYTES)?;
        let (nonce, sealed) = wrapped.split_first_chunk::<NONCE_BYTES>()?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let aad = Aad::from(key_data(id, &row.subject, row.period));
        let key = store_key.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut sealed).ok()?;
        let key: &[u8; 32] = (&*key).try_into().ok()?;
        Some(DataKey { id, key: aes(key) })
    }

    /// Takes in a store key that another daemon made, or that was in use before: the token opens it.
    ///
    /// # Errors
    /// [`StoreFault::NotRecorded`] when the token is away; a token that cannot open it answers false.
    fn learn(&self, kept: &StoreKey) -> Result<bool, StoreFault> {
        match opened(&*self.wrapping, kept) {
            Ok(key) => {
                let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
                keys.insert(kept.id, Arc::new(aes(&key)));
                Ok(true)
            }
            Err(failure) if failure.kind == Kind::Busy => Err(StoreFault::NotRecorded(failure.message)),
            Err(_) => Ok(false),
        }
    }
}

/// The key of one subject and month, open.
pub(in crate::store) struct DataKey {
    id: i64,
    key: LessSafeKey,
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl DataKey {
    pub(in crate::store) fn id(&self) -> i64 {
        self.id
    }

    /// Salt and body, packed and sealed for this row.
    ///
    /// # Errors
    /// A body longer than AES-GCM takes, 64 GiB.
    pub(in crate::store) fn seal(
        &self,
        row: i64,
        commitment: &Sha256,
        salt: &[u8; SALT_BYTES],
        body: &[u8],
    ) -> Result<Vec<u8>, RowFault> {
        let mut sealed = Vec::with_capacity(SALT_BYTES + 1 + body.len() + TAG_BYTES);
        sealed.extend_from_slice(salt);
        packing::pack(body, &mut sealed);
        self.key
            .seal_in_place_append_tag(
                nonce(row, commitment),
                Aad::from(leaf_data(row, self.id, commitment)),
                &mut sealed,
            )
            .map_err(|_| "a leaf is too long to be sealed")?;
        Ok(sealed)
    }

    fn open(&self, row: i64, commitment: &Sha256, mut sealed: Vec<u8>) -> Option<LeafContent> {
        let aad = Aad::from(leaf_data(row, self.id, commitment));
        let opened = self.key.open_in_place(nonce(row, commitment), aad, &mut sealed).ok()?;
        let (salt, packed) = opened.split_first_chunk::<SALT_BYTES>()?;
        Some(LeafContent::Known { salt: *salt, body: packing::unpack(packed)? })
    }
}

/// Data keys that a page of leaves needed: most leaves of a page share a few.
#[derive(Default)]
pub(super) struct Opened(HashMap<i64, Result<DataKey, String>>);

impl Opened {
    pub(super) fn content(
        &mut self,
        ring: &Ring,
        leaf: &LeafRow,
        id: i64,
        row: Option<&DataKeyRow>,
        store_key: &impl Fn(i64) -> Result<Option<StoreKey>, StoreFault>,
    ) -> Result<LeafContent, StoreFault> {
        let Some(row) = row else {
            return Ok(LeafContent::Damaged(format!("its data key {id} is not there")));
        };
        if row.wrapped.is_none() {
            return Ok(LeafContent::Erased);
        }
        let key = match self.0.entry(id) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(free) => free.insert(found(ring, id, row, store_key)?),
        };
        Ok(match key {
            Ok(key) => key.open(leaf.row, &leaf.commitment, leaf.body.clone()).unwrap_or_else(|| {
                LeafContent::Damaged(format!("what is sealed in row {} is not what was sealed there", leaf.row))
            }),
            Err(why) => LeafContent::Damaged(why.clone()),
        })
    }
}

fn found(
    ring: &Ring,
    id: i64,
    row: &DataKeyRow,
    store_key: &impl Fn(i64) -> Result<Option<StoreKey>, StoreFault>,
) -> Result<Result<DataKey, String>, StoreFault> {
    if ring.store_key(row.store_key).is_none() {
        let Some(kept) = store_key(row.store_key)? else {
            return Ok(Err(format!("store key {} is not there", row.store_key)));
        };
        if !ring.learn(&kept)? {
            return Ok(Err(format!("the token does not open store key {}", row.store_key)));
        }
    }
    Ok(ring.open(id, row).ok_or_else(|| format!("its data key {id} is not what was written")))
}

fn aes(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes 32 bytes"))
}

/// The first 96 bits of a hash over 32 random bytes of the leaf's own, and its row in the last 64 of them.
fn nonce(row: i64, commitment: &Sha256) -> Nonce {
    let mut bytes = [0; NONCE_BYTES];
    bytes.copy_from_slice(&commitment.0[..NONCE_BYTES]);
    bytes[4..].iter_mut().zip(row.to_be_bytes()).for_each(|(byte, row)| *byte ^= row);
    Nonce::assume_unique_for_key(bytes)
}

/// What the sealing of a data key authenticates.
fn key_data(id: i64, subject: &str, period: i32) -> Vec<u8> {
    [b"countersign/data-key/v1\0".as_slice(), &id.to_be_bytes(), &period.to_be_bytes(), subject.as_bytes()].concat()
}

/// What the sealing of a leaf authenticates.
fn leaf_data(row: i64, key: i64, commitment: &Sha256) -> [u8; LEAF_DATA_BYTES] {
    let mut data = [0; LEAF_DATA_BYTES];
    let (tag, rest) = data.split_at_mut(LEAF_TAG.len());
    tag.copy_from_slice(LEAF_TAG);
    rest[..8].copy_from_slice(&row.to_be_bytes());
    rest[8..16].copy_from_slice(&key.to_be_bytes());
    rest[16..].copy_from_slice(&commitment.0);
    data
}

const LEAF_TAG: &[u8; 27] = b"countersign/sealed-leaf/v1\0";
const LEAF_DATA_BYTES: usize = LEAF_TAG.len() + 8 + 8 + 32;
