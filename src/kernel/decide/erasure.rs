//! Legal holds, and the end of what leaves say: on request of two people, or when its time is over.
//!
//! Only keys are destroyed. The leaf, its place and every proof stay; so does the book, which the law has the bank keep.

use super::bank::operator;
use super::{Book, Change, Orders, Ruled, Said, SubjectRow};
use crate::kernel::command::{Actor, Command, Effect, ErasureTrail, SubjectStep};
use crate::kernel::refusal::Refusal;
use crate::kernel::subject::{DataSubject, Period};
use crate::kernel::types::UnixMillis;

const ROLES: [&str; 2] = ["officer", "administrator"];

/// So long an asking stands, in milliseconds. Afterwards it is asked anew: whoever comes then does not know that a word of
/// theirs is the last.
pub const ASKED_MS: i64 = 30 * 86_400_000;

/// `Subject`. Holding and releasing take one person, erasing two others than the one who released; a repeat changes
/// nothing.
pub(super) fn act(book: &dyn Book, command: &Command, subject: &DataSubject, step: &SubjectStep) -> Ruled<Orders> {
    let by = operator(&command.actor, &ROLES)?;
    let known = book.subject(subject)?;
    let at = command.stamp.wall;
    let (effect, change) = match step {
        SubjectStep::Hold { .. } if known.held => (Effect::Done { changed: false }, None),
        SubjectStep::Hold { reason } => {
            let reason = reason.clone();
            (Effect::Done { changed: true }, Some(Change::HoldSubject { subject: subject.clone(), by, at, reason }))
        }
        SubjectStep::Release { .. } if !known.held => (Effect::Done { changed: false }, None),
        SubjectStep::Release { .. } => {
            (Effect::Done { changed: true }, Some(Change::ReleaseSubject { subject: subject.clone(), by, at }))
        }
        SubjectStep::Erase { .. } if matches!(subject, DataSubject::System | DataSubject::All) => {
            return Err(Refusal::SubjectNotErasable.into());
        }
        SubjectStep::Erase { .. } if known.held || known.all_held => return Err(Refusal::UnderLegalHold.into()),
        SubjectStep::Erase { pseudonym, reason } => match standing(&known, at).cloned() {
            None if known.keys.is_empty() => (Effect::Erased { keys: 0, trail: None }, None),
            first if first.as_ref().is_some_and(|first| first.by == by) => return Err(Refusal::MakerIsChecker.into()),
            _ if known.released.as_ref().is_some_and(|last| last.by == by) => {
                return Err(Refusal::MakerIsChecker.into());
            }
            None => {
                let reason = reason.clone();
                let asked = Change::AskErasure { subject: subject.clone(), by, at, reason };
                (Effect::ErasureAsked { keys: count(&known.keys) }, Some(asked))
            }
            Some(first) => {
                let keys = count(&known.keys);
                let released = known.released.map(|last| (last.by, last.at));
                let trail = ErasureTrail { asked_by: first.by, asked_at: first.at, released };
                let erase = Change::DestroyKeys {
                    keys: known.keys,
                    left: format!("erased:{pseudonym}"),
                    forget: Some(subject.clone()),
                    at,
                };
                (Effect::Erased { keys, trail: Some(Box::new(trail)) }, Some(erase))
            }
        },
    };
    Ok((effect, change.into_iter().collect()))
}

/// `LapseKeys`: keys of months before this one, but for those of subjects that are held.
pub(super) fn lapse(book: &dyn Book, command: &Command, before: Period, limit: u32) -> Ruled<Orders> {
    let Actor::System { .. } = &command.actor else {
        return Err(Refusal::OperatorNotPermitted.into());
    };
    let keys = book.lapsed_keys(before, limit)?;
    let effect = Effect::Lapsed { keys: count(&keys) };
    if keys.is_empty() {
        return Ok((effect, vec![]));
    }
    let destroy = Change::DestroyKeys { keys, left: "lapsed".into(), forget: None, at: command.stamp.wall };
    Ok((effect, vec![destroy]))
}

/// Who has asked for the erasure, unless that is too long ago, or that person has ended a hold since.
fn standing(known: &SubjectRow, now: UnixMillis) -> Option<&Said> {
    let released_by = known.released.as_ref().map(|last| &last.by);
    known.erasure_asked.as_ref().filter(|first| now < first.at.plus_ms(ASKED_MS) && Some(&first.by) != released_by)
}

fn count(keys: &[i64]) -> u32 {
    u32::try_from(keys.len()).unwrap_or(u32::MAX)
}
