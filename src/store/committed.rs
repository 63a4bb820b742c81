//! What this process has just committed to be signed, as it knows it without the database.
//!
//! Between a batch's commit and its signature whoever writes to the database besides us (a trigger is enough) could exchange
//! its document, its leaves and the statements that explain them, all alike. So the hash of the document that was made here
//! stays here, and what is read back is compared with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::kernel::types::Sha256;

/// Batches that are remembered. While the HSM is away the oldest are forgotten; those count as found in the store.
const REMEMBERED_MAX: usize = 65_536;

/// SHA-256 of the documents of committed batches, by number, of one open store. Shared by its connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Committed(Arc<Mutex<BTreeMap<i64, Sha256>>>);

impl Committed {
    /// To be called when the commit took hold, before anybody hears of it.
    pub(super) fn remember(&self, batch: i64, document: Sha256) {
        let mut remembered = self.remembered();
        remembered.insert(batch, document);
        if remembered.len() > REMEMBERED_MAX {
            remembered.pop_first();
        }
    }

    pub(super) fn document(&self, batch: i64) -> Option<Sha256> {
        self.remembered().get(&batch).copied()
    }

    fn remembered(&self) -> MutexGuard<'_, BTreeMap<i64, Sha256>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_batches_are_remembered_by_everybody_who_shares_them() {
        let committed = Committed::default();
        let other = committed.clone();
        let document = |batch: i64| Sha256::of(&[&batch.to_be_bytes()]);
        let last = i64::try_from(REMEMBERED_MAX).unwrap() + 2;
        (1..=last).for_each(|batch| committed.remember(batch, document(batch)));
        assert_eq!((other.document(2), other.document(last + 1)), (None, None));
        for batch in [3, last] {
            assert_eq!(other.document(batch), Some(document(batch)));
        }
    }
}
