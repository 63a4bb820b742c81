//! What the core banking system is told, and what follows from its answers: the same function live and in recovery.
//!
//! Every order stands in the outbox before it is sent and leaves it with the core's word, so it is sent at least once;
//! it is idempotent there. What is not known stays in the outbox, and the agent is told that it waits.

use std::sync::PoisonError;

use super::answer::{Receipt, unexpected};
use super::story::{Payments, fresh_ids};
use crate::banking::{CoreAnswer, CoreBanking, CoreState, Order};
use crate::guard::{Reached, Seen};
use crate::kernel::command::{Act, Actor, Command, CoreVerb, CoreWord, Effect, Posted};
use crate::kernel::decide::{CORE_COMPONENT, HOLD_NOT_CONFIRMED, OutboxRow};
use crate::kernel::ledger::{Transaction, TransactionState};
use crate::kernel::refusal::Refusal;
use crate::kernel::types::{Sha256, TransactionId, UnixMillis};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::store::StoreFault;

/// Orders that one look at the outbox delivers.
const OUTBOX_ROWS: u32 = 256;
/// So many orders without a word, one after the other: the core is away, the rest would only wait for its timeout too.
const SILENT_MAX: u32 = 3;

/// How the outbox was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Outbox {
    Empty,
    /// Some orders have no word yet: look again later.
    Waiting,
}

/// What a core banking system is asked before a decision stands.
pub(super) enum There<'e> {
    Hold(&'e TransactionId),
    Settlement(&'e Posted),
    Nothing,
}

/// The same of what was decided here.
pub(super) fn asked_there(effect: &Effect) -> There<'_> {
    match effect {
        Effect::Approved { transaction_id, .. } | Effect::RequiresApproval { transaction_id, .. } => {
            There::Hold(transaction_id)
        }
        Effect::Submitted(order) => There::Settlement(order),
        Effect::Answer(_)
        | Effect::Posted(_)
        | Effect::QueuedManual { .. }
        | Effect::Cancelled { .. }
        | Effect::Decided { .. }
        | Effect::CaseWorked { .. }
        | Effect::Swept { .. }
        | Effect::Revoked { .. }
        | Effect::MandateRevoked { .. }
        | Effect::Spread { .. }
        | Effect::Frozen { .. }
        | Effect::ErasureAsked { .. }
        | Effect::Erased { .. }
        | Effect::Lapsed { .. }
        | Effect::Unfrozen { .. }
        | Effect::Certificate(_)
        | Effect::PolicyInForce { .. }
        | Effect::CrlNumber(_)
        | Effect::LogAccepted { .. }
        | Effect::Vault(_)
        | Effect::Signing { .. }
        | Effect::Witnessed(_)
        | Effect::Done { .. } => There::Nothing,
    }
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
    Answered(Box<Effect>),
    /// Nobody knows yet.
    Waits,
}

impl Payments {
    /// Delivers what a decision ordered, before it is answered. Without a core the effect stands as it is.
    pub(super) fn settled_elsewhere(&self, effect: Effect) -> Result<Effect, Declined> {
        let Some(core) = &self.core else {
            return Ok(effect);
        };
        match asked_there(&effect) {
            There::Hold(transaction_id) => {
                let id = transaction_id.clone();
                self.held(core.as_ref(), &id, effect)
            }
            There::Settlement(order) => {
                // Signed before it is sent. A late signature is recovery's, which sends it then.
                if self.settle(order.batch) == Receipt::Pending {
                    return Ok(effect);
                }
                let id = order.transaction_id.clone();
                self.ordered(core.as_ref(), &id, effect)
            }
            There::Nothing => Ok(effect),
        }
    }

    /// An authorization stands when the core holds its funds. Until that is known it waits under a case.
    fn held(&self, core: &dyn CoreBanking, id: &TransactionId, effect: Effect) -> Result<Effect, Declined> {
        let refused = || -> Result<bool, Failure> {
            let transaction = self.store.transaction(id)?.ok_or_else(unexpected)?;
            Ok(transaction.state == TransactionState::CoreRefused)
        };
        if let Delivered::Waits = self.deliver(core, id, CoreVerb::Hold)? {
            let (case, reason) = (fresh_ids()?.case, HOLD_NOT_CONFIRMED.to_owned());
            match self.by_system(Act::QueueManual { transaction_id: id.clone(), case, reason })? {
                Ok(queued @ Effect::QueuedManual { .. }) => return Ok(queued),
                // Closed meanwhile.
                Err(refusal @ Refusal::AuthorizationCancelled) if !refused()? => {
                    return Err(Declined::Refused(refusal));
                }
                // Answered by another delivery meanwhile.
                Ok(_) | Err(_) => {}
            }
        }
        if refused()? { Err(Declined::Refused(Refusal::CoreRefused)) } else { Ok(effect) }
    }

    /// A signed order: settled, refused, or still `effect`.
    fn ordered(&self, core: &dyn CoreBanking, id: &TransactionId, effect: Effect) -> Result<Effect, Declined> {
        match self.deliver(core, id, CoreVerb::Settle)? {
            Delivered::Waits => Ok(effect),
            Delivered::Answered(said) if matches!(*said, Effect::Posted(_)) => Ok(*said),
            // Refused, or another delivery was faster: the transaction says which.
            Delivered::Answered(_) => match self.store.transaction(id)?.ok_or_else(unexpected)?.state {
                TransactionState::CoreRefused => Err(Declined::Refused(Refusal::CoreRefused)),
                TransactionState::Posted => Ok(Effect::Posted(self.store.posted(id)?.ok_or_else(unexpected)?)),
                TransactionState::Approved
                | TransactionState::PendingApproval
                | TransactionState::Manual
                | TransactionState::Submitted
                | TransactionState::Denied
                | TransactionState::Cancelled
                | TransactionState::Expired
                | TransactionState::ApprovalExpired
                | TransactionState::Voided => Ok(effect),
            },
        }
    }

    /// Delivers what waits, oldest first, by the function of live calls. Ends early when the core is away, or when `go_on` says so; the next look
    /// begins behind the order that had no word, so that one of them cannot hold up the others for ever.
    ///
    /// # Errors
    /// The store's.
    pub fn deliver_outbox(&self, go_on: impl Fn() -> bool) -> Result<Outbox, Failure> {
        let Some(core) = &self.core else {
            return Ok(Outbox::Empty);
        };
        let mut rows = self.store.outbox(None, OUTBOX_ROWS)?;
        let more = rows.len() == OUTBOX_ROWS as usize;
        let last = self.silent.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(place) = last.and_then(|last| rows.iter().rposition(|row| row.transaction_id == last)) {
            rows.rotate_left(place + 1);
        }
        let mut waiting: Vec<TransactionId> = vec![];
        let mut silent = 0;
        for OutboxRow { transaction_id, verb, .. } in rows {
            if !go_on() {
                return Ok(Outbox::Waiting);
            }
            if waiting.contains(&transaction_id) {
                continue;
            }
            if verb == CoreVerb::Settle && !self.order_is_signed(&transaction_id)? {
                waiting.push(transaction_id);
                continue;
            }
            match self.deliver(core.as_ref(), &transaction_id, verb)? {
                Delivered::Answered(effect) => {
                    silent = 0;
                    // A posting of recovery is signed like any other.
                    self.receipt(&effect);
                }
                Delivered::Waits => {
                    silent += 1;
                    waiting.push(transaction_id.clone());
                    *self.silent.lock().unwrap_or_else(PoisonError::into_inner) = Some(transaction_id);
                }
            }
            if silent == SILENT_MAX {
                break;
            }
        }
        Ok(if waiting.is_empty() && !more { Outbox::Empty } else { Outbox::Waiting })
    }

    /// Whether the core hears us: asked about a transaction that it cannot know. `None`: there is no core.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn core_hears(&self) -> Option<Result<(), String>> {
        let core = self.core.as_ref()?;
        let asked = fresh_ids().map_err(|failure| failure.message);
        Some(asked.and_then(|ids| core.status(&ids.transaction).map(|_| ())))
    }

    /// How many orders wait, up to a look at the outbox, and since when the oldest does.
    ///
    /// # Errors
    /// The store's.
    pub fn outbox_waiting(&self) -> Result<(usize, Option<UnixMillis>), Failure> {
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
    /// has its word already is not said again, and none before those of its transaction that came earlier.
    fn deliver(&self, core: &dyn CoreBanking, id: &TransactionId, verb: CoreVerb) -> Result<Delivered, Failure> {
        let rows = self.store.outbox(Some(id), OUTBOX_ROWS)?;
        match rows.iter().position(|row| row.verb == verb) {
            Some(0) => {}
            Some(_) => return Ok(Delivered::Waits),
            None => return Ok(Delivered::Answered(Box::new(Effect::Done { changed: false }))),
        }
        let transaction = self.store.transaction(id)?.ok_or_else(unexpected)?;
        let verb_name = verb.name();
        let about = Sha256::of(&[id.as_str().as_bytes()]);
        let word = match say(core, &transaction, verb) {
            Ok(word) => {
                self.guard.saw(Seen::Core { order: about, reached: Reached::Yes });
                word
            }
            Err(why) => {
                self.guard.saw(Seen::Core { order: about, reached: Reached::No });
                tracing::warn!(transaction_id = %id, verb = verb_name, %why, "an order waits for the core");
                return Ok(Delivered::Waits);
            }
        };
        match (verb, &word) {
            (CoreVerb::Release, CoreWord::Refused(name)) => {
                tracing::error!(transaction_id = %id, %name, "the core does not give back what it holds: compare the books");
            }
            (CoreVerb::Hold | CoreVerb::Settle, CoreWord::Refused(name)) => {
                tracing::info!(transaction_id = %id, verb = verb_name, %name, "the core refused an order");
            }
            (CoreVerb::Hold | CoreVerb::Settle | CoreVerb::Release, CoreWord::Done) => {}
        }
        match self.by_system(Act::CoreAnswered { transaction_id: id.clone(), verb, word })? {
            Ok(effect) => Ok(Delivered::Answered(Box::new(effect))),
            Err(refusal) => {
                let name = refusal.name();
                tracing::error!(transaction_id = %id, verb = verb_name, %name, "the core's word does not fit our book");
                Ok(Delivered::Waits)
            }
        }
    }

    fn by_system(&self, act: Act) -> Result<Result<Effect, Refusal>, Failure> {
        let stamp = clock::stamp(clock::fresh_request_id());
        let command = Command { stamp, actor: Actor::System { component: CORE_COMPONENT.into() }, act };
        Ok(self.decide(command)?.outcome)
    }
}

/// # Errors
/// Why the core's word is not known.
fn say(core: &dyn CoreBanking, transaction: &Transaction, verb: CoreVerb) -> Result<CoreWord, String> {
    let order = Order::of(transaction);
    let answer = match verb {
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
                (CoreVerb::Hold | CoreVerb::Settle, CoreState::Refused(name)) => Ok(CoreWord::Refused(name)),
                (CoreVerb::Hold, CoreState::Held | CoreState::Settled)
                | (CoreVerb::Settle, CoreState::Settled)
                // What it refused it does not hold.
                | (CoreVerb::Release, CoreState::Released | CoreState::Refused(_)) => Ok(CoreWord::Done),
                (CoreVerb::Hold | CoreVerb::Settle, CoreState::Released) => Ok(CoreWord::Refused("released".into())),
                (CoreVerb::Release, CoreState::Settled) => Ok(CoreWord::Refused("settled".into())),
                // It may still be on its way: the same order is sent again.
                (CoreVerb::Hold | CoreVerb::Settle | CoreVerb::Release, CoreState::Absent)
                | (CoreVerb::Settle | CoreVerb::Release, CoreState::Held) => Err(why),
            }
        }
    }
}
