//! Stopping payments and letting them go on, one cause at a time.

use super::bank::operator;
use super::{Book, Case, Change, Orders, Ruled};
use crate::kernel::breaker::{COMPONENT, Cause, Reach, Stop, joined};
use crate::kernel::command::{Actor, Command, Effect};
use crate::kernel::refusal::Refusal;

/// `SetBreaker`. `reason`: the cause stands from now on; none: it is lifted. A repeat changes nothing.
pub(super) fn set(book: &dyn Book, command: &Command, cause: Cause, reason: Option<&str>) -> Ruled<Orders> {
    let by = permitted(&command.actor, cause, reason)?;
    // What one node knows is nobody else's row: its leaf is all that is kept of it.
    if cause.reach() == Reach::Node {
        return Ok((Effect::Done { changed: true }, vec![]));
    }
    let stands = book.breaker()?.stop(cause).is_some();
    let change = match reason {
        Some(_) if stands => None,
        Some(reason) => {
            let stop = Stop { cause, reason: reason.to_owned(), by, since: command.stamp.wall };
            Some(Change::OpenBreaker(stop))
        }
        None => stands.then_some(Change::LiftBreaker(cause)),
    };
    Ok((Effect::Done { changed: change.is_some() }, change.into_iter().collect()))
}

/// Who asks, if they may. A person stops and lifts a person's stop, and lifts any other; the daemon's breaker opens and
/// lifts every cause but that one.
fn permitted(actor: &Actor, cause: Cause, reason: Option<&str>) -> Result<String, Refusal> {
    match (actor, cause) {
        (
            Actor::System { component },
            Cause::Anomalies
            | Cause::HsmDown
            | Cause::StoreSlow
            | Cause::CoreFailing
            | Cause::WitnessLag
            | Cause::DiskLow,
        ) if component == COMPONENT => Ok(actor.name()),
        (Actor::Operator(_), Cause::Operator) => operator(actor, &ROLES),
        (Actor::Operator(_), _) if reason.is_none() => operator(actor, &ROLES),
        (Actor::Operator(_) | Actor::Agent(_) | Actor::Program(_) | Actor::System { .. }, _) => {
            Err(Refusal::OperatorNotPermitted)
        }
    }
}

const ROLES: [&str; 2] = ["officer", "administrator"];

/// Why no payment is made now: what stops the whole bank, and what stops the node that asks. None: payments are made.
pub(super) fn stopped(case: &Case<'_>) -> Ruled<Option<String>> {
    let bank = case.book.breaker()?.reason();
    let node = case.rules.stopped_here.as_deref();
    Ok(joined(bank.as_deref().into_iter().chain(node)))
}
