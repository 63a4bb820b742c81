//! What the core banking system is told, and what follows from its answers: the same function live and in recovery.
//!
//! Every order stands in the outbox before it is sent and leaves it with the core's word, so it is sent at least once;
//! it is idempotent there. What is not known stays in the outbox, and the agent is told that it waits.

use super::answer::{Receipt, unexpected};
use super::story::{Payments, fresh_ids};
use crate::banking::{CoreAnswer, CoreBanking, CoreState, Order};
use crate::kernel::command::{Act, Actor, Command, CoreVerb, CoreWord, Effect};
use crate::kernel::decide::OutboxRow;
use crate::kernel::ledger::{Transaction, TransactionState};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::TransactionId;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::StoreFault;

/// Orders that one look at the outbox delivers.
const OUTBOX_ROWS: u32 = 256;

/// How the outbox was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Outbox {
    Empty,
    /// Some orders have no word yet: look again later.
    Waiting,
}

/// Why a decision that was made here does not stand there.
pub(super) enum Declined {
    Refused(Refusal),
    Failed(Failure),
}

impl From<Failure> for Declined {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<StoreFault> for Declined {
    fn from(fault: StoreFault) -> Self {
        Self::Failed(fault.into())
    }
}

/// What became of one order.
enum Delivered {
    /// The core's word is recorded; the effect of that.
    Answered(Effect),
    /// Nobody knows yet.
    Waits(String),
}

impl Payments {
    /// Delivers what a decision ordered, before it is answered. Without a core the effect stands as it is.
    pub(super) fn settled_elsewhere(&self, effect: Effect) -> Result<Effect, Declined> {
        let Some(core) = &self.core else {
            return Ok(effect);
        };
        match &effect {
            Effect::Approved { transaction_id } | Effect::RequiresApproval { transaction_id, .. } => {
                let id = transaction_id.clone();
                self.held(core.as_ref(), &id, effect)
            }
            Effect::Submitted(order) => {
                // Signed before it is sent. A late signature is recovery's, which sends it then.
                if self.settle(order.batch) == Receipt::Pending {
                    return Ok(effect);
                }
                let id = order.transaction_id.clone();
                match self.deliver(core.as_ref(), &id, CoreVerb::Settle)? {
                    Delivered::Waits(_) => Ok(effect),
                    Delivered::Answered(posted @ Effect::Posted(_)) => Ok(posted),
                    // Recovery was faster, or the core refused: the transaction says which.
                    Delivered::Answered(_) => self.outcome(&id, effect),
                }
            }
            Effect::Answer(_)
            | Effect::Posted(_)
            | Effect::QueuedManual { .. }
            | Effect::Cancelled { .. }
            | Effect::Decided { .. }
            | Effect::CaseDecided { .. }
            | Effect::Swept { .. }
            | Effect::Revoked { .. }
            | Effect::Certificate(_)
            | Effect::CrlNumber(_)
            | Effect::Done { .. } => Ok(effect),
        }
    }

    /// An authorization stands when the core holds its funds.
    fn held(&self, core: &dyn CoreBanking, id: &TransactionId, effect: Effect) -> Result<Effect, Declined> {
        match self.deliver(core, id, CoreVerb::Hold)? {
            Delivered::Answered(_) => self.outcome(id, effect),
            Delivered::Waits(why) => {
                let act = Act::QueueManual {
                    transaction_id: id.clone(),
                    case: fresh_ids()?.case,
                    reason: format!("the core banking system has not confirmed the hold: {why}"),
                };
                match self.by_system(act)? {
                    Ok(queued) => Ok(queued),
                    Err(_) => self.outcome(id, effect),
                }
            }
        }
    }

    /// What a transaction came to, when another delivery may have been faster.
    fn outcome(&self, id: &TransactionId, effect: Effect) -> Result<Effect, Declined> {
        let transaction = self.store.transaction(id)?.ok_or_else(unexpected)?;
        match transaction.state {
            TransactionState::CoreRefused => Err(Declined::Refused(Refusal::CoreRefused)),
            TransactionState::Posted => {
                let posted = self.store.posted(id)?.ok_or_else(unexpected)?;
                Ok(Effect::Posted(posted))
            }
            TransactionState::Approved
            | TransactionState::PendingApproval
            | TransactionState::Manual
            | TransactionState::Submitted
            | TransactionState::Denied
            | TransactionState::Cancelled
            | TransactionState::Expired
            | TransactionState::ApprovalExpired
            | TransactionState::Voided => Ok(effect),
        }
    }

    /// Delivers what waits, oldest first, by the function of live calls. Orders of one transaction keep their order: a
    /// later one waits for those before it.
    ///
    /// # Errors
    /// The store's.
    pub fn deliver_outbox(&self) -> Result<Outbox, Failure> {
        let Some(core) = &self.core else {
            return Ok(Outbox::Empty);
        };
        let rows = self.store.outbox(None, OUTBOX_ROWS)?;
        let more = rows.len() == OUTBOX_ROWS as usize;
        let mut waiting: Vec<TransactionId> = vec![];
        for OutboxRow { transaction_id, verb, .. } in rows {
            if waiting.contains(&transaction_id) {
                continue;
            }
            if verb == CoreVerb::Settle && !self.order_is_signed(&transaction_id)? {
                waiting.push(transaction_id);
                continue;
            }
            match self.deliver(core.as_ref(), &transaction_id, verb)? {
                Delivered::Answered(effect) => {
                    // A posting of recovery is signed like any other.
                    self.receipt(&effect);
                }
                Delivered::Waits(why) => {
                    tracing::debug!(%transaction_id, verb = verb.name(), %why, "an order waits for the core");
                    waiting.push(transaction_id);
                }
            }
        }
        Ok(if waiting.is_empty() && !more { Outbox::Empty } else { Outbox::Waiting })
    }

    /// How many orders wait, up to a look at the outbox, and since when the oldest does.
    ///
    /// # Errors
    /// The store's.
    pub fn outbox_waiting(&self) -> Result<(usize, Option<crate::kernel::types::UnixMillis>), Failure> {
        let rows = self.store.outbox(None, OUTBOX_ROWS)?;
        Ok((rows.len(), rows.first().map(|row| row.since)))
    }

    fn order_is_signed(&self, id: &TransactionId) -> Result<bool, Failure> {
        let Some(order) = self.store.order(id)? else {
            return Ok(false);
        };
        Ok(self.settle(order.batch) == Receipt::Signed)
    }

    /// One order: said to the core, its word recorded. What is unknown is asked for once more by name. An order that
    /// has its word already is not said again.
    fn deliver(&self, core: &dyn CoreBanking, id: &TransactionId, verb: CoreVerb) -> Result<Delivered, Failure> {
        if !self.store.outbox(Some(id), OUTBOX_ROWS)?.iter().any(|row| row.verb == verb) {
            return Ok(Delivered::Answered(Effect::Done { changed: false }));
        }
        let transaction = self.store.transaction(id)?.ok_or_else(unexpected)?;
        let word = match self.say(core, &transaction, verb) {
            Ok(word) => word,
            Err(why) => return Ok(Delivered::Waits(why)),
        };
        match self.by_system(Act::CoreAnswered { transaction_id: id.clone(), verb, word })? {
            Ok(effect) => Ok(Delivered::Answered(effect)),
            Err(refusal) => Ok(Delivered::Waits(format!("its word cannot be carried out: {}", refusal.name()))),
        }
    }

    fn say(&self, core: &dyn CoreBanking, transaction: &Transaction, verb: CoreVerb) -> Result<CoreWord, String> {
        let order = Order::of(transaction);
        let answer = match verb {
            // What was closed before it was held is not held any more; its release follows.
            CoreVerb::Hold if !transaction.state.is_open() => return Ok(CoreWord::Refused("closed".into())),
            CoreVerb::Hold => core.hold(&order),
            CoreVerb::Settle => core.settle(&order),
            CoreVerb::Release => core.release(&order),
        };
        match answer {
            CoreAnswer::Done => Ok(CoreWord::Done),
            CoreAnswer::Refused(name) => Ok(CoreWord::Refused(name)),
            CoreAnswer::NotSent(why) => Err(why),
            CoreAnswer::Unknown(why) => {
                let state = core.status(&transaction.transaction_id).map_err(|_| why.clone())?;
                match (verb, state) {
                    (_, CoreState::Refused(name)) => Ok(CoreWord::Refused(name)),
                    (CoreVerb::Hold, CoreState::Held | CoreState::Settled)
                    | (CoreVerb::Settle, CoreState::Settled)
                    | (CoreVerb::Release, CoreState::Released) => Ok(CoreWord::Done),
                    (CoreVerb::Hold | CoreVerb::Settle, CoreState::Released) => {
                        Ok(CoreWord::Refused("released".into()))
                    }
                    (CoreVerb::Release, CoreState::Settled) => Ok(CoreWord::Refused("settled".into())),
                    // It may still be on its way: the same order is sent again.
                    (CoreVerb::Hold | CoreVerb::Settle | CoreVerb::Release, CoreState::Absent)
                    | (CoreVerb::Settle | CoreVerb::Release, CoreState::Held) => Err(why),
                }
            }
        }
    }

    fn by_system(&self, act: Act) -> Result<Result<Effect, Refusal>, Failure> {
        let stamp = clock::stamp(clock::fresh_request_id());
        let command = Command { stamp, actor: Actor::System { component: "core".into() }, act };
        Ok(self.decide(command)?.outcome)
    }
}
