//! Checkpoints of other parties' logs: what is remembered of each, in the commit that judges it.

use super::bank::operator;
use super::{Book, Change, Orders, Ruled};
use crate::kernel::command::{Actor, Command, Effect};
use crate::kernel::refusal::Refusal;
use crate::kernel::witness::{Head, Submission, Told, Verdict, accepted, judge};

/// `Witness`: agents and people hand nothing in; a daemon does, for its party or at the open door.
pub(super) fn submitted(book: &dyn Book, command: &Command, submission: &Submission) -> Ruled<Orders> {
    let Actor::System { .. } = command.actor else {
        return Err(Refusal::OperatorNotPermitted.into());
    };
    let verdict = judge(&book.witnessed()?, submission, command.stamp.wall)?;
    let changes = match &verdict {
        Verdict::Cosign(log, _) | Verdict::Halted(log, Told::Now) => vec![Change::PutWitnessed(Box::new(log.clone()))],
        Verdict::Halted(_, Told::Before) | Verdict::Stale(_) | Verdict::OldSizeBeyond | Verdict::Inconsistent => vec![],
    };
    Ok((Effect::Witnessed(Box::new(verdict)), changes))
}

/// `AcceptLog`. A repeat changes nothing.
pub(super) fn accept(book: &dyn Book, command: &Command, origin: &str, head: Option<Head>) -> Ruled<Orders> {
    operator(&command.actor, &["officer", "administrator"])?;
    let known = book.witnessed()?;
    let next = accepted(&known, origin, head, command.stamp.wall)?;
    let changed = known.iter().any(|log| log.origin == origin && (log.halt.is_some() || log.head != next.head));
    let changes = if changed { vec![Change::PutWitnessed(Box::new(next))] } else { vec![] };
    Ok((Effect::Done { changed }, changes))
}
