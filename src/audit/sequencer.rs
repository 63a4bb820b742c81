//! Turns committed leaves into tree order and signs one checkpoint a batch.

use std::time::{Duration, Instant};

use super::{Log, damaged, read_checkpoint};
use crate::kernel::merkle::{Frontier, leaf_hash};
use crate::kernel::note::{Checkpoint, NoteSignature, SignedNote};
use crate::kernel::receipt::leaf_entry;
use crate::kernel::sign::SignInput;
use crate::ops::failure::{Failure, Kind};
use crate::store::{CheckpointRecord, SequenceStep};

/// First and longest wait after a failed step. Healing within a second of the HSM's return is what people notice.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What one step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Advance {
    /// Nothing waits.
    Idle,
    /// The newest checkpoint of this size is signed and stored.
    Signed { size: u64 },
}

impl Log {
    /// One step, live or after a crash: a checkpoint that is journalled but not signed is signed as it stands;
    /// otherwise the oldest waiting leaves get their places, the new checkpoint is made durable, then signed.
    ///
    /// Meant for one caller at a time, the sequencer; a second one at once is refused by the store and harmless.
    ///
    /// # Errors
    /// The store's and the HSM's; `log_damaged` when tree and checkpoint disagree: then nothing is signed.
    pub fn advance(&self) -> Result<Advance, Failure> {
        let newest = self.setup.store.newest_checkpoint()?;
        if let Some(record) = &newest
            && record.signed.is_none()
        {
            self.is_own(record)?;
            return self.sign(record);
        }
        let leaves = self.setup.store.unsequenced_entries(self.setup.settings.checkpoint_leaves.max(1))?;
        if leaves.is_empty() {
            return Ok(Advance::Idle);
        }
        // Whoever can write rows and has no key of the store must not have them signed.
        if let Some(leaf) = leaves.iter().find(|leaf| leaf.unsealed) {
            return Err(damaged(format!(
                "the leaf in row {} lies in the clear, and leaves before it are sealed",
                leaf.row
            )));
        }

        let size_before = newest.as_ref().map_or(0, |record| record.size);
        let mut frontier = self.of_nodes(|read| Frontier::load(size_before, read))?;
        if newest.is_some_and(|record| record.root != frontier.root()) {
            return Err(damaged(format!("the stored tree of {size_before} leaves has not the root that was signed")));
        }
        let mut nodes = Vec::with_capacity(2 * leaves.len());
        for leaf in &leaves {
            let hash = leaf_hash(&leaf_entry(&leaf.commitment));
            frontier.append(hash, |level, index, hash| nodes.push((level, index, hash)));
        }

        let origin = self.setup.settings.origin.clone();
        let checkpoint = Checkpoint { origin, size: frontier.size(), root: frontier.root() };
        let note = checkpoint.text().into_bytes();
        let record = CheckpointRecord { size: checkpoint.size, root: checkpoint.root, note, signed: None };
        let rows = leaves.iter().map(|leaf| leaf.row).collect();
        self.setup.store.sequence(SequenceStep { size_before, rows, nodes, checkpoint: record.clone() })?;
        self.sign(&record)
    }

    /// What was journalled is signed only if it is the tree that is stored, and goes on from the newest one that is signed:
    /// a row alone, whoever wrote it, is not the log's word.
    fn is_own(&self, record: &CheckpointRecord) -> Result<(), Failure> {
        if self.root_at(record.size)? != record.root {
            return Err(damaged(format!("the unsigned checkpoint {} is not of the stored tree", record.size)));
        }
        let Some(signed) = self.setup.store.signed_checkpoint()? else { return Ok(()) };
        let known = self.lock().last_signed;
        let (size, root) = known.map_or((signed.size, signed.root), |known| known.max((signed.size, signed.root)));
        if record.size < size || self.root_at(size)? != root {
            return Err(damaged(format!(
                "the unsigned checkpoint {} does not go on from the signed one of {size} leaves",
                record.size
            )));
        }
        Ok(())
    }

    /// Whether the newest signed checkpoint is the log's own word on the tree that is stored, and what is journalled goes on from
    /// it. Looked at once at the start, before anything is signed that was found in the store.
    ///
    /// # Errors
    /// `log_damaged`, `log_key_unknown`; the store's.
    pub fn is_whole(&self) -> Result<(), Failure> {
        if let Some(newest) = self.setup.store.newest_checkpoint()?
            && newest.signed.is_none()
        {
            self.is_own(&newest)?;
        }
        let Some(signed) = self.setup.store.signed_checkpoint()? else { return Ok(()) };
        let text = read_checkpoint(&signed)?.text();
        let (note, _) = self.signed(&signed)?;
        if note.text != text || self.root_at(signed.size)? != signed.root {
            return Err(damaged(format!("the signed checkpoint {} is not of the stored tree", signed.size)));
        }
        Ok(())
    }

    /// Signs the note of a durable checkpoint, byte for byte, and keeps the result.
    fn sign(&self, record: &CheckpointRecord) -> Result<Advance, Failure> {
        let checkpoint = read_checkpoint(record)?;
        let roles = self.roles();
        let key = &roles.checkpoint.key;
        let signature = self.setup.token.sign(key.id, SignInput::TreeHead { note: record.note.clone() })?;
        let line = NoteSignature::over_text(&checkpoint.origin, &key.spki, &signature);
        let signed = line.map(|line| SignedNote { text: checkpoint.text(), signatures: vec![line] });
        // Verified before release: a wrong signature must never become the log's word.
        let verified = signed.and_then(|note| note.verify(&checkpoint.origin, &key.spki).map(|()| note));
        let note = verified.map_err(|refused| {
            Failure::fault(
                "checkpoint_signature_wrong",
                format!("the token's signature over checkpoint {} was not usable: {refused}", record.size),
                "run `countersign doctor`: key and certificate of the checkpoint role must belong together",
            )
        })?;
        self.setup.store.store_signed_checkpoint(record.size, note.compose().into_bytes())?;
        self.lock().last_signed = Some((record.size, record.root));
        Ok(Advance::Signed { size: record.size })
    }

    /// The thread: steps until nothing waits, then sleeps until notified; after a failure tries again for ever.
    pub(super) fn run(&self) {
        let interval = Duration::from_millis(self.setup.settings.checkpoint_interval_ms);
        let mut backoff = BACKOFF_FIRST;
        let mut last_signed: Option<Instant> = None;
        loop {
            self.wait_for_work();
            // Leaves that come together share a checkpoint: the next one waits out the interval of the last.
            if let Some(rest) = last_signed.and_then(|at| interval.checked_sub(at.elapsed())) {
                self.wait_while_few(rest);
            }
            if self.lock().stopping {
                return;
            }
            self.lock().notified = 0;
            match self.advance() {
                Ok(Advance::Idle) => {
                    backoff = BACKOFF_FIRST;
                    self.healed();
                }
                Ok(Advance::Signed { size }) => {
                    tracing::debug!(size, "checkpoint signed");
                    backoff = BACKOFF_FIRST;
                    last_signed = Some(Instant::now());
                    self.healed();
                    self.again();
                }
                Err(failure) => {
                    self.failed(failure);
                    self.wait_to_retry(backoff);
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                    self.again();
                }
            }
        }
    }

    /// Until someone notifies, the log is stopped, or it is time to look without being told.
    fn wait_for_work(&self) {
        let shared = self.lock();
        let idle = |shared: &mut super::Shared| !shared.stopping && shared.notified == 0;
        drop(self.work.wait_timeout_while(shared, Self::RECHECK, idle));
    }

    /// Until `rest` is over or enough leaves wait for a checkpoint of their own.
    fn wait_while_few(&self, rest: Duration) {
        let enough = self.setup.settings.checkpoint_leaves;
        let shared = self.lock();
        drop(self.work.wait_timeout_while(shared, rest, |shared| !shared.stopping && shared.notified < enough));
    }

    /// Until `backoff` is over, whatever is notified meanwhile.
    fn wait_to_retry(&self, backoff: Duration) {
        let shared = self.lock();
        drop(self.work.wait_timeout_while(shared, backoff, |shared| !shared.stopping));
    }

    /// More may wait than one step took.
    fn again(&self) {
        let mut shared = self.lock();
        shared.notified = shared.notified.saturating_add(1);
    }

    fn healed(&self) {
        let mut shared = self.lock();
        if let Some(failure) = shared.fault.take() {
            tracing::info!(name = failure.name, "the audit log is signed again");
        }
        shared.progressed += 1;
        drop(shared);
        self.progress.notify_all();
    }

    fn failed(&self, failure: Failure) {
        let mut shared = self.lock();
        let news = shared.fault.as_ref().is_none_or(|known| known.name != failure.name);
        // Said once a cause, not once a try.
        if news && failure.kind == Kind::Busy {
            tracing::warn!(name = failure.name, message = failure.message, "the audit log waits and tries again");
        } else if news {
            tracing::error!(name = failure.name, message = failure.message, "the audit log cannot go on");
        }
        shared.fault = Some(failure);
    }
}
