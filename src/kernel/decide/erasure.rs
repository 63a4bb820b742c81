//! Legal holds, and the end of what leaves say: on request of two people, or when its time is over.
//!
//! Only keys are destroyed. The leaf, its place and every proof stay; so does the book, which the law has the bank keep.

use super::bank::operator;
use super::{Book, Change, Orders, Ruled};
use crate::kernel::command::{Actor, Command, Effect, SubjectStep};
use crate::kernel::refusal::Refusal;
use crate::kernel::subject::{DataSubject, Period};

const ROLES: [&str; 2] = ["officer", "administrator"];

/// `Subject`. Holding and releasing take one person, erasing two; a repeat changes nothing.
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
            (Effect::Done { changed: true }, Some(Change::ReleaseSubject { subject: subject.clone() }))
        }
        SubjectStep::Erase { .. } if *subject == DataSubject::System => return Err(Refusal::SubjectNotErasable.into()),
        SubjectStep::Erase { .. } if known.held => return Err(Refusal::UnderLegalHold.into()),
        SubjectStep::Erase { pseudonym, .. } => match known.erasure_asked_by {
            None if known.keys.is_empty() => (Effect::Erased { keys: 0 }, None),
            None => {
                let asked = Change::AskErasure { subject: subject.clone(), by, at };
                (Effect::ErasureAsked { keys: count(&known.keys) }, Some(asked))
            }
            Some(first) if first == by => return Err(Refusal::MakerIsChecker.into()),
            Some(_) => {
                let keys = count(&known.keys);
                let erase = Change::DestroyKeys {
                    keys: known.keys,
                    left: format!("erased:{pseudonym}"),
                    forget: Some(subject.clone()),
                    at,
                };
                (Effect::Erased { keys }, Some(erase))
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

fn count(keys: &[i64]) -> u32 {
    u32::try_from(keys.len()).unwrap_or(u32::MAX)
}
