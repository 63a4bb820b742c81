//! Leaves, sealed, hashes and answers of what was decided, made on a second thread while the writer decides further.
//!
//! They take about a quarter of a commit's time and need nothing of the store.

use std::sync::mpsc::sync_channel;
use std::thread::Builder;

use super::changes::{Decided, Leaf};
use crate::kernel::canon::CanonRefused;
use crate::kernel::command::{Command, Decision};
use crate::kernel::decide::{RowFault, batch_document};
use crate::kernel::merkle;
use crate::kernel::types::{Sha256, UnixMillis};

/// Commands from which a thread of their own is worth starting.
const BESIDE_MIN: usize = 32;
/// Parts that are handed over together: waking a thread costs as much as some leaves.
const TOGETHER: usize = 32;
/// Portions that may wait; the writer waits when there are more.
const PORTIONS_MAX: usize = 64;

/// What the writer hands over, in the order of the commit.
pub(super) struct Part<'g> {
    pub(super) command: &'g Command,
    pub(super) decided: Decided,
    /// At the next places of the batch.
    pub(super) statements: Vec<Vec<u8>>,
}

/// What was made of it.
#[derive(Default)]
pub(super) struct Made {
    /// One a command.
    pub(super) decisions: Vec<Decision>,
    pub(super) leaves: Vec<Leaf>,
    /// Of the statements; the batch has them as its leaves.
    pub(super) hashes: Vec<Sha256>,
    /// What is signed over them, when there are any.
    pub(super) document: Option<Vec<u8>>,
    /// The latest of the commands.
    at: Option<UnixMillis>,
}

impl Made {
    fn take(&mut self, part: Part<'_>) -> Result<(), RowFault> {
        let Part { command, decided, statements } = part;
        self.hashes.extend(statements.iter().map(|statement| merkle::leaf_hash(statement)));
        let leaf = decided.leaf(command)?;
        let place = leaf.as_ref().map(|leaf| leaf.place);
        self.leaves.extend(leaf);
        self.decisions.push(Decision { leaf: place, outcome: decided.outcome });
        self.at = self.at.max(Some(command.stamp.wall));
        Ok(())
    }

    fn finish(mut self, batch: i64) -> Result<Self, CanonRefused> {
        if let Some(at) = self.at.filter(|_| !self.hashes.is_empty()) {
            self.document = Some(batch_document(batch, &self.hashes, at)?);
        }
        Ok(self)
    }
}

/// Runs `decide`, which hands its parts over one by one, and answers what was made of them. With few commands all of
/// it happens on this thread.
///
/// # Errors
/// Those of `decide`; [`CanonRefused`] when a command carries what has no canonical form.
pub(super) fn beside<'g>(
    commands: usize,
    batch: i64,
    decide: impl FnOnce(&mut dyn FnMut(Part<'g>) -> Result<(), RowFault>) -> Result<(), RowFault>,
) -> Result<Made, RowFault> {
    if commands < BESIDE_MIN {
        let mut made = Made::default();
        decide(&mut |part| made.take(part))?;
        return Ok(made.finish(batch)?);
    }
    std::thread::scope(|scope| {
        let (hand_over, portions) = sync_channel::<Vec<Part<'g>>>(PORTIONS_MAX);
        let make = move || -> Result<Made, RowFault> {
            let mut made = Made::default();
            for part in portions.into_iter().flatten() {
                made.take(part)?;
            }
            Ok(made.finish(batch)?)
        };
        let making = Builder::new().name("store-leaves".into()).spawn_scoped(scope, make)?;
        let mut portion = Vec::with_capacity(TOGETHER);
        // A thread that takes no more has failed, and says why when it is joined.
        decide(&mut |part| {
            portion.push(part);
            if portion.len() == TOGETHER {
                let _ = hand_over.send(std::mem::replace(&mut portion, Vec::with_capacity(TOGETHER)));
            }
            Ok(())
        })?;
        let _ = hand_over.send(portion);
        drop(hand_over);
        // A panic goes on here.
        making.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
