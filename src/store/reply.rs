//! Where the outcome of what a writer was asked goes.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;

use super::StoreFault;

type Told<T> = Box<dyn FnOnce(Result<T, StoreFault>) + Send>;

/// Hands one outcome over, once. One that is dropped before says that the outcome is unknown.
pub(super) struct Reply<T>(Option<Told<T>>);

impl<T> Reply<T> {
    /// Calls `told` on the writer's thread.
    pub(super) fn to(told: impl FnOnce(Result<T, StoreFault>) + Send + 'static) -> Self {
        Self(Some(Box::new(told)))
    }

    pub(super) fn send(mut self, outcome: Result<T, StoreFault>) {
        self.tell(outcome);
    }

    /// A receiver that panics harms itself, and not the writer with everybody behind it.
    fn tell(&mut self, outcome: Result<T, StoreFault>) {
        if let Some(told) = self.0.take()
            && catch_unwind(AssertUnwindSafe(|| told(outcome))).is_err()
        {
            tracing::error!("an outcome could not be handed over");
        }
    }
}

/// Asks with a reply of its own, and waits for the outcome.
pub(super) fn awaited<T: Send + 'static>(ask: impl FnOnce(Reply<T>)) -> Result<T, StoreFault> {
    let (sender, outcome) = sync_channel(1);
    ask(Reply::to(move |told| drop(sender.send(told))));
    outcome.recv().unwrap_or_else(|_| Err(ended()))
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        self.tell(Err(ended()));
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

/// What a caller learns whose writer ended while it worked.
fn ended() -> StoreFault {
    StoreFault::OutcomeUnknown("the writer ended".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_told_once_and_a_reply_that_nobody_sent_is_unknown() {
        assert_eq!(awaited(|reply| reply.send(Ok(7))), Ok(7));
        assert_eq!(awaited::<u8>(drop), Err(ended()));
        let (sender, outcome) = sync_channel(2);
        Reply::to(move |told| sender.send(told).unwrap()).send(Ok(7));
        assert_eq!(outcome.iter().collect::<Vec<_>>(), [Ok(7)]);
    }

    #[test]
    fn a_receiver_that_panics_harms_nobody_who_hands_over() {
        Reply::to(|_: Result<u8, StoreFault>| panic!("a receiver's defect")).send(Ok(7));
        drop(Reply::to(|_: Result<u8, StoreFault>| panic!("a receiver's defect")));
    }
}
