//! What agents that listen are told of what others changed: one look at the store for all of them.
//!
//! A change that is made here is told at once. What another node or the time has changed has its leaf in the log that
//! all share (no audit, no answer), so the log's size says whether anybody has to look at all.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::front::services::Services;
use crate::store::{Store, StoreFault};

/// Between two looks: what was not changed here is told this late.
const LOOK: Duration = Duration::from_secs(5);
/// So many looks at a log that does not grow, and everybody looks all the same: without its HSM it stands still while
/// other nodes go on deciding.
const QUIET_LOOKS_MAX: u32 = 6;

/// Moves when something may have changed that an agent may see.
#[derive(Debug, Default)]
pub struct Changes {
    count: watch::Sender<u64>,
    /// The log's size at the last look, and how many looks it has been that. The lock guards the numbers only.
    size: Mutex<(Option<u64>, u32)>,
}

impl Changes {
    /// Tells everybody who listens; they look for themselves.
    pub fn tell(&self) {
        self.count.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub fn listen(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    /// Looks whether there is anything to tell: one read, however many listen, and none when nobody does.
    ///
    /// # Errors
    /// The store's; the next look finds what this one did not.
    pub fn look(&self, store: &dyn Store) -> Result<(), StoreFault> {
        if self.count.receiver_count() == 0 {
            return Ok(());
        }
        let size = store.newest_checkpoint()?.map(|checkpoint| checkpoint.size);
        let mut known = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, quiet) = *known;
        let tells = before != size || quiet + 1 >= QUIET_LOOKS_MAX;
        *known = (size, if tells { 0 } else { quiet + 1 });
        drop(known);
        if tells {
            self.tell();
        }
        Ok(())
    }
}

/// Looks now and then until `stop`.
pub async fn watch(services: Arc<Services>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return,
        }
        let turn = Arc::clone(&services);
        match tokio::task::spawn_blocking(move || turn.changes.look(&*turn.setup.store)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "whether something has changed will be looked at again"),
            Err(_) => tracing::error!("looking for changes met a defect"),
        }
    }
}
