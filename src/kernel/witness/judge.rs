//! Whether a checkpoint goes on from the one that was cosigned, and what is remembered then.

use super::{Claim, Halt, HaltCause, Head, LOGS_MAX, SIZE_MAX, Shown, Submission, WitnessedLog};
use crate::kernel::merkle::verify_consistency;
use crate::kernel::refusal::Refusal;
use crate::kernel::types::UnixMillis;

/// A log that grows all the time has a leaf about it this often, not one for each cosignature.
const TOLD_EVERY_MS: i64 = 600_000;

/// Whether the audit log here says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    Now,
    /// It has said as much before.
    Before,
}

/// What a submission comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Verdict {
    /// This is remembered from now on; then it is cosigned.
    Cosign(WitnessedLog, Told),
    /// 409: the sender goes by another size than this. Nothing is wrong with that alone.
    Stale(Head),
    /// 400: the sender says that the tree grew from a larger one.
    OldSizeBeyond,
    /// 422: the proof proves nothing. Over a door where anybody may hand in what a log has signed, that is no fork.
    Inconsistent,
    /// Not cosigned until a person has looked.
    Halted(WitnessedLog, Told),
}

impl Verdict {
    /// Whether the audit log here says so.
    pub fn is_told(&self) -> bool {
        match self {
            Self::Cosign(_, told) | Self::Halted(_, told) => *told == Told::Now,
            Self::Stale(_) | Self::OldSizeBeyond | Self::Inconsistent => false,
        }
    }
}

/// Whether a checkpoint whose signature by the log has been verified goes on from what is `known`.
///
/// Order: whether it can be kept → whose log it is → whether it is halted → what the witness itself has signed → what proves
/// two histories → the protocol's own rules.
///
/// # Errors
/// [`Refusal::SizeTooLarge`], [`Refusal::LogOfAnother`], [`Refusal::LogRenamed`], [`Refusal::TooManyLogs`]
pub fn judge(known: &[WitnessedLog], submission: &Submission, now: UnixMillis) -> Result<Verdict, Refusal> {
    let Submission { origin, party, head: new, cosigned, .. } = submission;
    if new.size.max(cosigned.as_ref().map_or(0, |own| own.head.size)) > SIZE_MAX {
        return Err(Refusal::SizeTooLarge);
    }
    let log = known.iter().find(|log| log.origin == *origin);
    if log.is_some_and(|log| log.party != *party) {
        return Err(Refusal::LogOfAnother);
    }
    // A party has one log: under another name it could begin a second history.
    if log.is_none() && party.is_some() && known.iter().any(|log| log.party == *party) {
        return Err(Refusal::LogRenamed);
    }
    if log.is_none() && known.len() >= LOGS_MAX {
        return Err(Refusal::TooManyLogs);
    }
    if let Some(halted) = log.filter(|log| log.halt.is_some()) {
        return Ok(Verdict::Halted(halted.clone(), Told::Before));
    }
    let halted_by = |log: &WitnessedLog, cause, shown: Head, note: &str| {
        let halt = Halt { cause, shown, note: Some(note.to_owned()), at: now, accept_asked_by: None };
        Ok(Verdict::Halted(WitnessedLog { told_at: now, halt: Some(halt), ..log.clone() }, Told::Now))
    };
    let halted = |log: &WitnessedLog, cause| halted_by(log, cause, *new, &submission.note);
    let remembered = log.map_or(Head::empty(), |log| log.head);
    if let Some(Shown { head: own, note }) = cosigned {
        let nothing = WitnessedLog {
            origin: origin.clone(),
            party: party.clone(),
            head: remembered,
            cosigned_at: now,
            told_at: now,
            halt: None,
        };
        if own.size > remembered.size {
            return halted_by(log.unwrap_or(&nothing), HaltCause::WitnessOlder, *own, note);
        }
        if own.size == remembered.size && own.root != remembered.root {
            return halted_by(log.unwrap_or(&nothing), HaltCause::Forked, *own, note);
        }
    }
    if let Some(log) = log {
        // Signed twice by the log's own key, whoever brings it.
        if remembered.size == new.size && remembered.root != new.root {
            return halted(log, HaltCause::Forked);
        }
        if new.size < remembered.size && submission.claim == Claim::NothingNewer {
            return halted(log, HaltCause::RolledBack);
        }
    }
    if submission.old_size > new.size {
        return Ok(Verdict::OldSizeBeyond);
    }
    if submission.old_size != remembered.size {
        return Ok(Verdict::Stale(remembered));
    }
    let is_consistent = if remembered.size == 0 || remembered.size == new.size {
        // The protocol wants no proof then; an empty tree has one root.
        submission.proof.is_empty() && (new.size > 0 || *new == Head::empty())
    } else {
        verify_consistency(remembered.size, new.size, &remembered.root, &new.root, &submission.proof)
    };
    if !is_consistent {
        // A party that hands in its own log proves what it can.
        return match log.filter(|_| party.is_some()) {
            Some(log) => halted(log, HaltCause::Forked),
            None => Ok(Verdict::Inconsistent),
        };
    }
    let is_due = log.is_none_or(|log| log.head != *new && now.0.saturating_sub(log.told_at.0) >= TOLD_EVERY_MS);
    let told = if is_due { Told::Now } else { Told::Before };
    let next = WitnessedLog {
        origin: origin.clone(),
        party: party.clone(),
        head: *new,
        cosigned_at: now,
        told_at: if is_due { now } else { log.map_or(now, |log| log.told_at) },
        halt: None,
    };
    Ok(Verdict::Cosign(next, told))
}

/// What comes of a person's word on a log.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Accepted {
    /// It runs, from where they say.
    Before,
    /// One of two people has said so; it is still halted.
    OneOfTwo(WitnessedLog),
    /// It goes on.
    GoesOn(WitnessedLog),
}

/// What is remembered once people have looked at a log that is halted. Without `head` it goes on from what was cosigned last:
/// one person is enough, nothing is forgotten. With `head`, which must be the one that halted it, what was seen beyond is
/// forgotten: two people say so.
///
/// # Errors
/// [`Refusal::UnknownLog`], [`Refusal::LogNotHalted`], [`Refusal::HeadNotShown`], [`Refusal::MakerIsChecker`]
pub fn accepted(
    known: &[WitnessedLog],
    origin: &str,
    head: Option<Head>,
    person: &str,
    now: UnixMillis,
) -> Result<Accepted, Refusal> {
    let log = known.iter().find(|log| log.origin == origin).ok_or(Refusal::UnknownLog)?;
    let Some(halt) = &log.halt else {
        let is_there = head.is_none_or(|head| head == log.head);
        return if is_there { Ok(Accepted::Before) } else { Err(Refusal::LogNotHalted) };
    };
    let goes_on = |head| Accepted::GoesOn(WitnessedLog { head, told_at: now, halt: None, ..log.clone() });
    let Some(head) = head else {
        return Ok(goes_on(match halt.cause {
            HaltCause::Forked | HaltCause::RolledBack => log.head,
            // By the witness's own signature.
            HaltCause::WitnessOlder => halt.shown,
        }));
    };
    if head != halt.shown {
        return Err(Refusal::HeadNotShown);
    }
    match halt.accept_asked_by.as_deref() {
        None => {
            let halt = Halt { accept_asked_by: Some(person.to_owned()), ..halt.clone() };
            Ok(Accepted::OneOfTwo(WitnessedLog { halt: Some(halt), ..log.clone() }))
        }
        Some(first) if first == person => Err(Refusal::MakerIsChecker),
        Some(_) => Ok(goes_on(head)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::merkle::{consistency_path, leaf_hash, root};
    use crate::kernel::types::{PartyName, Sha256};

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn leaves(count: usize, seed: u8) -> Vec<Sha256> {
        (0..count).map(|number| leaf_hash(&[seed, u8::try_from(number % 251).unwrap()])).collect()
    }

    fn head(leaves: &[Sha256]) -> Head {
        Head { size: leaves.len() as u64, root: root(leaves) }
    }

    fn bank() -> Option<PartyName> {
        Some("bank".parse().unwrap())
    }

    fn seen(head: Head) -> WitnessedLog {
        WitnessedLog { origin: "log".into(), party: bank(), head, cosigned_at: NOW, told_at: NOW, halt: None }
    }

    fn submission(old: usize, all: &[Sha256]) -> Submission {
        Submission {
            origin: "log".into(),
            party: bank(),
            old_size: old as u64,
            proof: consistency_path(all, old as u64),
            head: head(all),
            note: format!("note of {}", all.len()),
            claim: Claim::Nothing,
            cosigned: None,
        }
    }

    /// What the witness has signed before, as the sender shows it.
    fn own(leaves: &[Sha256]) -> Option<Shown> {
        Some(Shown { head: head(leaves), note: "own".into() })
    }

    /// What became of it, in a word.
    fn word(verdict: &Result<Verdict, Refusal>) -> &'static str {
        match verdict {
            Ok(Verdict::Cosign(..)) => "cosigned",
            Ok(Verdict::Stale(_)) => "stale",
            Ok(Verdict::OldSizeBeyond) => "old_size_beyond",
            Ok(Verdict::Inconsistent) => "inconsistent",
            Ok(Verdict::Halted(log, _)) => log.halt.as_ref().unwrap().cause.name(),
            Err(refusal) => refusal.name(),
        }
    }

    #[test]
    fn each_answer_has_its_submission() {
        let (ours, theirs) = (leaves(20, 1), leaves(20, 2));
        let known = [seen(head(&ours[..12]))];
        let grown = submission(12, &ours);
        let all = Claim::NothingNewer;
        let huge = Submission { head: Head { size: SIZE_MAX + 1, root: root(&theirs) }, ..grown.clone() };
        let stranger = |submission: Submission| Submission { party: None, ..submission };
        let open = [WitnessedLog { party: None, ..seen(head(&ours[..12])) }];
        let halted = [WitnessedLog {
            halt: Some(Halt {
                cause: HaltCause::RolledBack,
                shown: head(&ours[..3]),
                note: None,
                at: NOW,
                accept_asked_by: None,
            }),
            ..known[0].clone()
        }];
        let full: Vec<WitnessedLog> = (0..LOGS_MAX)
            .map(|log| WitnessedLog { origin: log.to_string(), party: None, ..seen(Head::empty()) })
            .collect();
        let table: Vec<(&str, &[WitnessedLog], Submission, &str)> = vec![
            ("what goes on", &known, grown.clone(), "cosigned"),
            ("the same again", &known, submission(12, &ours[..12]), "cosigned"),
            ("the first of all", &[], submission(0, &ours), "cosigned"),
            ("an empty log", &[], submission(0, &[]), "cosigned"),
            ("one more of a configured log", &open, stranger(grown.clone()), "cosigned"),
            (
                "another party's name",
                &known,
                Submission { party: Some("other".parse().unwrap()), ..grown.clone() },
                "log_of_another",
            ),
            ("a party's log over the open door", &known, stranger(grown.clone()), "log_of_another"),
            (
                "a second log of the party",
                &known,
                Submission { origin: "new".into(), ..submission(0, &ours) },
                "log_renamed",
            ),
            ("one log too many", &full, submission(0, &ours), "too_many_logs"),
            ("halted before", &halted, grown.clone(), "log_rolled_back"),
            (
                "smaller than the old",
                &known,
                Submission { old_size: 12, ..submission(11, &ours[..11]) },
                "old_size_beyond",
            ),
            ("an older one, late", &known, submission(5, &ours[..11]), "stale"),
            (
                "an older one, and no newer",
                &known,
                Submission { claim: all, ..submission(5, &ours[..11]) },
                "log_rolled_back",
            ),
            ("the newest, and no newer", &known, Submission { claim: all, ..grown.clone() }, "cosigned"),
            ("from the beginning", &known, submission(0, &ours), "stale"),
            ("unknown but grown", &[], grown.clone(), "stale"),
            ("another of the size", &known, submission(12, &theirs[..12]), "log_forked"),
            ("another of the size over the open door", &open, stranger(submission(12, &theirs[..12])), "log_forked"),
            ("another of the size, whatever it grew from", &known, submission(3, &theirs[..12]), "log_forked"),
            ("another history", &known, submission(12, &theirs), "log_forked"),
            ("a size that nobody can keep", &known, huge.clone(), "size_too_large"),
            ("a size that nobody can keep, of nobody", &[], huge, "size_too_large"),
            (
                "with a cosignature of before",
                &known,
                Submission { cosigned: own(&ours[..12]), ..grown.clone() },
                "cosigned",
            ),
            ("with an older one", &known, Submission { cosigned: own(&theirs[..9]), ..grown.clone() }, "cosigned"),
            (
                "with a cosignature that the witness has forgotten",
                &known,
                Submission { cosigned: own(&ours[..13]), ..grown.clone() },
                "witness_older_than_cosigned",
            ),
            (
                "with a cosignature, and the witness has forgotten all",
                &[],
                Submission { cosigned: own(&ours[..3]), ..submission(0, &ours) },
                "witness_older_than_cosigned",
            ),
            (
                "with a cosignature over another history",
                &known,
                Submission { cosigned: own(&theirs[..12]), ..grown.clone() },
                "log_forked",
            ),
            (
                "halted before, whatever is shown",
                &halted,
                Submission { cosigned: own(&ours), ..grown.clone() },
                "log_rolled_back",
            ),
            ("another's proof", &known, Submission { head: head(&ours), ..submission(12, &theirs) }, "log_forked"),
            ("no proof", &known, Submission { proof: vec![], ..grown.clone() }, "log_forked"),
            (
                "no proof over the open door",
                &open,
                Submission { proof: vec![], ..stranger(grown.clone()) },
                "inconsistent",
            ),
            (
                "a proof too much",
                &known,
                Submission { proof: grown.proof.clone(), ..submission(12, &ours[..12]) },
                "log_forked",
            ),
            (
                "a proof from nothing",
                &[],
                Submission { proof: grown.proof.clone(), ..submission(0, &ours) },
                "inconsistent",
            ),
            (
                "nothing with a root",
                &[],
                Submission { head: Head { size: 0, root: root(&ours) }, ..submission(0, &[]) },
                "inconsistent",
            ),
        ];
        for (what, known, submission, expected) in table {
            assert_eq!(word(&judge(known, &submission, NOW)), expected, "{what}");
        }
    }

    #[test]
    fn what_is_halted_stays_so_and_is_told_once() {
        let (ours, theirs) = (leaves(20, 1), leaves(20, 2));
        let forked = judge(&[seen(head(&ours[..12]))], &submission(12, &theirs[..12]), NOW);
        let Ok(Verdict::Halted(halted, Told::Now)) = forked else { panic!("{forked:?}") };
        assert_eq!(halted.head, head(&ours[..12]), "what was seen stays what it was");
        assert_eq!(halted.halt.as_ref().unwrap().shown, head(&theirs[..12]));
        let again = judge(std::slice::from_ref(&halted), &submission(12, &ours), NOW);
        assert_eq!(again, Ok(Verdict::Halted(halted.clone(), Told::Before)));

        assert_eq!(halted.halt.as_ref().unwrap().note.as_deref(), Some("note of 12"));
        let Ok(Accepted::GoesOn(on)) = accepted(&[halted], "log", None, "ada", NOW) else { panic!("it goes on") };
        assert_eq!(word(&judge(&[on], &submission(12, &ours), NOW)), "cosigned");
    }

    #[test]
    fn a_history_is_forgotten_by_two_people_and_only_for_what_halted_it() {
        let (ours, theirs) = (leaves(20, 1), leaves(20, 2));
        let running = [seen(head(&ours[..12]))];
        let shown = head(&theirs[..7]);
        let halt = Halt { cause: HaltCause::RolledBack, shown, note: None, at: NOW, accept_asked_by: None };
        let halted = WitnessedLog { halt: Some(halt.clone()), ..running[0].clone() };
        let asked = WitnessedLog {
            halt: Some(Halt { accept_asked_by: Some("ada".into()), ..halt.clone() }),
            ..running[0].clone()
        };
        let on = |head| Ok(Accepted::GoesOn(seen(head)));
        let older = WitnessedLog {
            halt: Some(Halt { cause: HaltCause::WitnessOlder, shown: head(&ours), ..halt }),
            ..running[0].clone()
        };
        let table = [
            ("a log that runs", &running[0], Some(shown), "ada", Err(Refusal::LogNotHalted)),
            ("a log that runs from there", &running[0], Some(head(&ours[..12])), "ada", Ok(Accepted::Before)),
            ("a log that runs, from where it is", &running[0], None, "ada", Ok(Accepted::Before)),
            ("a head that was not shown", &halted, Some(head(&theirs[..8])), "ada", Err(Refusal::HeadNotShown)),
            ("the size with another root", &halted, Some(head(&ours[..7])), "ada", Err(Refusal::HeadNotShown)),
            ("what is remembered", &halted, Some(head(&ours[..12])), "ada", Err(Refusal::HeadNotShown)),
            ("one person", &halted, Some(shown), "ada", Ok(Accepted::OneOfTwo(asked.clone()))),
            ("the same person again", &asked, Some(shown), "ada", Err(Refusal::MakerIsChecker)),
            ("another head by another person", &asked, Some(head(&theirs[..6])), "bob", Err(Refusal::HeadNotShown)),
            ("another person", &asked, Some(shown), "bob", on(shown)),
            ("one person, from what was cosigned", &asked, None, "ada", on(head(&ours[..12]))),
            ("what the witness has forgotten itself", &older, None, "ada", on(head(&ours))),
        ];
        for (what, log, head, person, expected) in table {
            assert_eq!(accepted(std::slice::from_ref(log), "log", head, person, NOW), expected, "{what}");
        }
        assert_eq!(accepted(&[halted], "another", None, "ada", NOW), Err(Refusal::UnknownLog));
    }

    #[test]
    fn a_log_that_grows_all_the_time_is_told_of_now_and_then() {
        let ours = leaves(20, 1);
        let told = |known: &[WitnessedLog], at| match judge(known, &submission(known.len() * 12, &ours), at) {
            Ok(Verdict::Cosign(log, told)) => (told, log.told_at),
            other => panic!("{other:?}"),
        };
        let known = [seen(head(&ours[..12]))];
        assert_eq!(told(&[], NOW), (Told::Now, NOW));
        assert_eq!(told(&known, NOW.plus_ms(TOLD_EVERY_MS - 1)), (Told::Before, NOW));
        let later = NOW.plus_ms(TOLD_EVERY_MS);
        assert_eq!(told(&known, later), (Told::Now, later));
    }

    proptest! {
        /// However a log behaves, what is cosigned is one history.
        #[test]
        fn what_is_cosigned_is_one_history(
            steps in proptest::collection::vec((0_usize..40, 0_usize..40, any::<bool>(), any::<bool>()), 1..30),
        ) {
            let (ours, theirs) = (leaves(40, 1), leaves(40, 2));
            let mut known: Vec<WitnessedLog> = vec![];
            let mut history: Option<bool> = None;
            for (old, new, honest, says_all) in steps {
                let all = if honest { &ours } else { &theirs };
                let claim = if says_all { Claim::NothingNewer } else { Claim::Nothing };
                let asked = Submission { claim, ..submission(old.min(new), &all[..new]) };
                match judge(&known, &asked, NOW) {
                    Ok(Verdict::Cosign(log, _)) => {
                        prop_assert!(known.iter().all(|before| before.head.size <= log.head.size && before.halt.is_none()));
                        if new > 0 {
                            prop_assert!(history.is_none_or(|known| known == honest));
                            history = Some(honest);
                        }
                        known = vec![log];
                    }
                    Ok(Verdict::Halted(log, _)) => known = vec![log],
                    Ok(Verdict::Stale(_) | Verdict::OldSizeBeyond | Verdict::Inconsistent) | Err(_) => {}
                }
            }
        }
    }
}
