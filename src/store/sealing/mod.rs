//! What a leaf says, sealed: nobody reads it in the file, in a backup or at the database server, and destroying one
//! small key makes it unreadable for ever while its commitment, its place and every proof stay.
//!
//! Three keys, each sealed under the one above it: the *wrapping key* in the token, which never leaves it; a *store
//! key*, of which a store has one (and one more after each rotation of the wrapping key); a *data key* for each subject
//! and month. Leaves are sealed under data keys. Store key and data keys are 256-bit AES-GCM keys, and lie in the store
//! only sealed. The token is asked once, when the store is opened: a commit never waits for it, whoever comes for the
//! first time, and a token of ten operations a second opens as many subjects as a fast one. What is paid for that: the
//! front holds store key and data keys in memory while it works. Private keys it never holds.
//!
//! A data key row names its subject and month, and both are part of what its sealing authenticates; a leaf's sealing
//! authenticates its row number, its data key and its commitment. So a row that was changed or exchanged for another one
//! does not open, and says so ([`LeafContent::Damaged`]). From the first sealed row on every leaf is sealed: one in the
//! clear behind it was written by somebody without the store's keys ([`LeafContent::Unsealed`]), and which row that is
//! is part of what the store keys' own sealing authenticates. The nonce of a leaf is the beginning of its commitment, a hash
//! over 32 fresh random bytes of its own, with the row number added to it bit by bit: as good as a random one (SP
//! 800-38D, 8.3: 2^32 leaves a key), for nothing, and another one when the same leaf is written again into another row.
//!
//! Which subject it is says [`about`](crate::kernel::decide::about); what is done with keys, `docs/RETENTION.md`.

mod packing;
mod ring;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use zeroize::Zeroizing;

use super::{LeafContent, LeafRecord, Store, StoreFault};
use crate::kernel::receipt::commitment;
use crate::kernel::subject::{DataSubject, Period};
use crate::kernel::types::{KeyId, Sha256, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;

pub use ring::Ring;
pub(super) use ring::{DataKey, DataKeyRow};

/// A store key as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreKey {
    /// 1, 2, …
    pub id: i64,
    /// The token's key that sealed it.
    pub wrapping_key: KeyId,
    /// From this row on every leaf of the store is sealed, under whichever store key. None: kept by a program that did not
    /// say so yet.
    pub first_row: Option<i64>,
    pub wrapped: Vec<u8>,
    pub made: UnixMillis,
}

impl StoreKey {
    /// What its sealing authenticates.
    pub fn context(id: i64, first_row: Option<i64>) -> Vec<u8> {
        match first_row {
            Some(row) => [b"countersign/store-key/v2\0".as_slice(), &id.to_be_bytes(), &row.to_be_bytes()].concat(),
            None => [b"countersign/store-key/v1\0".as_slice(), &id.to_be_bytes()].concat(),
        }
    }
}

/// A change of store keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyWork {
    /// A new one; where another daemon was first, its key with this number stands.
    Keep(StoreKey),
    /// The same key, sealed under another key of the token, or with its first row.
    Rewrap(StoreKey),
}

/// A subject of leaves as people see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubjectLine {
    pub subject: DataSubject,
    /// Data keys that are not destroyed, and the months of the first and the last of them.
    pub keys: u32,
    pub first: Option<String>,
    pub last: Option<String>,
    /// Who holds it, since when and why.
    pub hold: Option<(String, UnixMillis, String)>,
    /// Who was the first to ask that it be erased, when and why.
    pub erasure_asked: Option<(String, UnixMillis, String)>,
    /// Who released it last, and when.
    pub released: Option<(String, UnixMillis)>,
}

/// Data keys that one decision destroyed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DestroyedKeys {
    /// What is left of the name of whose they were: `erased:<pseudonym>` or `lapsed`.
    pub left: String,
    /// None: the row does not say when.
    pub at: Option<UnixMillis>,
    pub keys: u32,
    /// The last month that one of them sealed leaves of.
    pub newest: Period,
}

/// Which subjects are asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SubjectQuery {
    /// This one alone.
    pub named: Option<DataSubject>,
    /// The text of the last one of the page before.
    pub after: Option<String>,
    /// At most 1,001 are answered, a page and one more.
    pub limit: u32,
}

/// What seals store keys: the token, behind its worker.
///
/// Contract. It blocks for as long as the token takes; nobody asks it inside a commit.
pub trait Wrapping: Send + Sync + fmt::Debug {
    /// The key that seals from now on, made if there is none.
    fn active(&self) -> Result<KeyId, Failure>;
    fn wrap(&self, key: KeyId, context: &[u8], plaintext: &[u8; 32]) -> Result<Vec<u8>, Failure>;
    fn unwrap(&self, key: KeyId, context: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure>;
}

/// From here on every leaf of this store is sealed: opens its newest store key, or makes the first one; after a rotation
/// of the wrapping key makes the next one and seals the others under the new key. Repeating it is harmless.
///
/// # Errors
/// `store_key_locked` when the token cannot open what sealed the store so far: nothing is written then. The token's, the
/// store's.
pub fn begin(store: &dyn Store, wrapping: Arc<dyn Wrapping>) -> Result<(), Failure> {
    let mut kept = store.store_keys()?;
    // First: a token that is another one must not go on with a key of its own.
    let mut key = kept.last().map(|newest| opened(&*wrapping, newest)).transpose()?;
    let active = wrapping.active()?;
    let first_row = match kept.last().and_then(|newest| newest.first_row) {
        Some(row) => row,
        None => store.first_sealed_row()?,
    };
    if kept.last().is_none_or(|newest| newest.wrapping_key != active) {
        key = None;
        let fresh = Zeroizing::new(clock::random::<32>());
        let id = kept.last().map_or(1, |newest| newest.id + 1);
        let first_row = Some(first_row);
        let wrapped = wrapping.wrap(active, &StoreKey::context(id, first_row), &fresh)?;
        store.work_keys(KeyWork::Keep(StoreKey {
            id,
            wrapping_key: active,
            first_row,
            wrapped,
            made: clock::now(),
        }))?;
        kept = store.store_keys()?;
    }
    let newest = kept.last().cloned().ok_or_else(|| {
        Failure::fault("store_key_missing", "the store key that was just kept is not there", "report this as a defect")
    })?;
    let key = key.map_or_else(|| opened(&*wrapping, &newest), Ok)?;
    // Another daemon may have been first: what its key was sealed with stands.
    let first_row = newest.first_row.unwrap_or(first_row);
    for earlier in kept.into_iter().filter(|earlier| earlier.wrapping_key != active || earlier.first_row.is_none()) {
        let key = match opened(&*wrapping, &earlier) {
            Ok(key) => key,
            // One whose wrapping key is gone stays as it is: what it sealed is damaged for whoever looks, and says so.
            Err(failure) if failure.name == "store_key_locked" => continue,
            // A token that is away says nothing about it: passed over, its wrapping key could be destroyed after this.
            Err(failure) => return Err(failure),
        };
        let first_row = Some(earlier.first_row.unwrap_or(first_row));
        let wrapped = wrapping.wrap(active, &StoreKey::context(earlier.id, first_row), &key)?;
        store.work_keys(KeyWork::Rewrap(StoreKey { wrapping_key: active, first_row, wrapped, ..earlier }))?;
    }
    store.seal_with(Arc::new(Ring::new(newest.id, first_row, &key, wrapping)))?;
    Ok(())
}

/// A store key in the clear.
fn opened(wrapping: &dyn Wrapping, kept: &StoreKey) -> Result<Zeroizing<[u8; 32]>, Failure> {
    let unwrapped = wrapping.unwrap(kept.wrapping_key, &StoreKey::context(kept.id, kept.first_row), &kept.wrapped);
    let locked = |why: &str| {
        Failure::fault(
            "store_key_locked",
            format!("store key {} was sealed by the token's key {}: {why}", kept.id, kept.wrapping_key),
            "give the daemon the token that sealed this store, or a backup of it; without it leaves cannot be read, and \
             none is written in the clear beside them",
        )
    };
    match unwrapped {
        Ok(key) => {
            let key: Option<[u8; 32]> = key.as_slice().try_into().ok();
            key.map(Zeroizing::new).ok_or_else(|| locked("what opens is no key"))
        }
        // A token that is away is asked again; one that says no has the last word.
        Err(failure) if failure.kind == crate::ops::failure::Kind::Busy => Err(failure),
        Err(failure) => Err(locked(&failure.message)),
    }
}

/// What [`Store::destroyed_keys`] answers, in the words of both databases.
pub(super) const DESTROYED: &str = "SELECT subject, destroyed, count(*), max(period) FROM data_keys
    WHERE wrapped IS NULL GROUP BY subject, destroyed ORDER BY destroyed, subject";

/// Whether everything is held, in the words of both databases.
pub(super) const ALL_HELD: &str =
    "SELECT EXISTS (SELECT 1 FROM subject_marks WHERE subject = 'all' AND hold_at IS NOT NULL)";

/// Marks of subjects that have neither keys nor a hold any more are nobody's, in the words of both databases. An erasure
/// forgets its own subject's.
pub(super) const FORGET_MARKS: &str = "DELETE FROM subject_marks WHERE hold_at IS NULL AND NOT EXISTS
    (SELECT 1 FROM data_keys k WHERE k.subject = subject_marks.subject AND k.wrapped IS NOT NULL)";

/// A store that keeps no keys: one for tests.
pub(super) fn no_keys() -> StoreFault {
    StoreFault::NotRecorded("this store keeps no keys".into())
}

/// Where a store keeps the ring that seals its leaves, shared by its writer and its readers. The lock guards the pointer
/// only.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot(Arc<RwLock<Option<Arc<Ring>>>>);

impl Slot {
    pub(super) fn ring(&self) -> Option<Arc<Ring>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, ring: Arc<Ring>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(ring);
    }
}

/// A store whose leaves were sealed is written without its keys.
#[derive(Debug, thiserror::Error)]
#[error("the leaves of this store are sealed and their keys are not open yet: nothing is recorded in the clear")]
pub(super) struct KeysClosed;

/// A leaf as its row has it.
#[derive(Debug)]
pub(super) struct LeafRow {
    pub(super) row: i64,
    pub(super) commitment: Sha256,
    /// Empty when it is sealed.
    pub(super) salt: Vec<u8>,
    pub(super) body: Vec<u8>,
    pub(super) index: Option<u64>,
    /// The data key that sealed it, with its row if that is there. None: it was written in the clear.
    pub(super) under: Option<(i64, Option<DataKeyRow>)>,
}

/// Opens what can be opened. `store_key` reads the row of a store key that was made elsewhere.
///
/// # Errors
/// [`StoreFault::NotRecorded`] when the keys are not open, or the token must be asked for one and is away.
pub(super) fn open(
    ring: Option<&Ring>,
    rows: Vec<LeafRow>,
    store_key: impl Fn(i64) -> Result<Option<StoreKey>, StoreFault>,
) -> Result<Vec<LeafRecord>, StoreFault> {
    let mut keys = ring::Opened::default();
    rows.into_iter()
        .map(|leaf| {
            let content = match &leaf.under {
                None if ring.is_some_and(|ring| ring.seals(leaf.row)) => LeafContent::Unsealed,
                None => clear(&leaf),
                Some((id, found)) => {
                    let ring = ring.ok_or_else(|| StoreFault::NotRecorded(KeysClosed.to_string()))?;
                    if !leaf.salt.is_empty() {
                        let why = "it is sealed, and something stands where a leaf in the clear has its salt";
                        let content = LeafContent::Damaged(why.into());
                        return Ok(LeafRecord {
                            row: leaf.row,
                            commitment: leaf.commitment,
                            content,
                            index: leaf.index,
                        });
                    }
                    keys.content(ring, &leaf, *id, found.as_ref(), &store_key)?
                }
            };
            Ok(LeafRecord { row: leaf.row, commitment: leaf.commitment, content, index: leaf.index })
        })
        .collect()
}

/// Nobody has authenticated it: what it commits to is all that it is known by.
fn clear(leaf: &LeafRow) -> LeafContent {
    match leaf.salt.as_slice().try_into() {
        Ok(salt) if commitment(&salt, &leaf.body) == leaf.commitment => {
            LeafContent::Known { salt, body: leaf.body.clone() }
        }
        Ok(_) => LeafContent::Damaged("salt and body are not what it commits to".into()),
        Err(_) => LeafContent::Damaged("it is not sealed and has no salt".into()),
    }
}
