//! Checkpoints of other parties' logs: what is remembered of each, in the commit that judges it.

use super::bank::operator;
use super::{Book, Change, Orders, Ruled};
use crate::kernel::command::{Actor, Command, Effect, Thaw};
use crate::kernel::refusal::Refusal;
use crate::kernel::witness::{Accepted, Head, Submission, Told, Verdict, WitnessedLog, accepted, judge};

/// `Witness`: agents and people hand nothing in; a daemon does, for its party or at the open door.
pub(super) fn submitted(book: &dyn Book, command: &Command, submission: &Submission) -> Ruled<Orders> {
    let Actor::System { .. } = command.actor else {
        return Err(Refusal::OperatorNotPermitted.into());
    };
    let known = book.witnessed()?;
    let verdict = judge(&known, submission, command.stamp.wall)?;
    let is_there = |new: &WitnessedLog| known.iter().any(|log| log.origin == new.origin && log.head == new.head);
    let changes = match &verdict {
        Verdict::Cosign(log, _) if is_there(log) => vec![],
        Verdict::Cosign(log, _) | Verdict::Halted(log, Told::Now) => vec![put(log.clone())],
        Verdict::Halted(_, Told::Before) | Verdict::Stale(_) | Verdict::OldSizeBeyond | Verdict::Inconsistent => vec![],
    };
    Ok((Effect::Witnessed(Box::new(verdict)), changes))
}

/// `AcceptLog`. A repeat changes nothing, once the log goes on.
pub(super) fn accept(book: &dyn Book, command: &Command, origin: &str, head: Option<Head>) -> Ruled<Orders> {
    let person = operator(&command.actor, &["officer", "administrator"])?;
    Ok(match accepted(&book.witnessed()?, origin, head, &person, command.stamp.wall)? {
        Accepted::Before => (Effect::Done { changed: false }, vec![]),
        Accepted::OneOfTwo(log) => (Effect::LogAccepted { by: Thaw::OneOfTwo }, vec![put(log)]),
        Accepted::GoesOn(log) => {
            let effect = match head {
                None => Effect::Done { changed: true },
                Some(_) => Effect::LogAccepted { by: Thaw::Both },
            };
            (effect, vec![put(log)])
        }
    })
}

fn put(log: WitnessedLog) -> Change {
    Change::PutWitnessed(Box::new(log))
}
