//! Who makes keys and certificates now.
//!
//! What an issuance looks up first must still be so when it has journalled: two commands at once would make two roots,
//! or give one name to two keys. What is looked up is about one name, one key and the issuing CA that is in use. So
//! issuances for other names and keys go on together, each with a mark of its own; what makes keys of the party, changes
//! who issues or sets up takes everything.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::ops::failure::Failure;

/// How long what takes everything waits for issuances that are under way: nobody new begins meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is being made.
#[derive(Debug, Default)]
pub(super) struct Making {
    /// Guards the marks only and is held for no call.
    under_way: Mutex<UnderWay>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct UnderWay {
    everything: bool,
    marks: BTreeSet<String>,
}

/// Ends with what it was taken for.
#[derive(Debug)]
#[must_use]
pub(super) struct Turn<'a> {
    making: &'a Making,
    /// None: everything.
    marks: Option<Vec<String>>,
}

impl Making {
    /// Everything, once what is under way has ended. A second command is told to come back.
    ///
    /// # Errors
    /// `issuance_in_progress`
    pub(super) fn everything(&self) -> Result<Turn<'_>, Failure> {
        let mut under_way = self.under_way();
        if under_way.everything {
            return Err(in_progress());
        }
        under_way.everything = true;
        let turn = Turn { making: self, marks: None };
        let waited = self.ended.wait_timeout_while(under_way, PATIENCE, |under_way| !under_way.marks.is_empty());
        let (under_way, over) = waited.unwrap_or_else(PoisonError::into_inner);
        // Before the turn ends, which takes the lock.
        drop(under_way);
        if over.timed_out() { Err(in_progress()) } else { Ok(turn) }
    }

    /// What is about these names and keys alone. Not a lock: a second command about any of them is told to come back, so
    /// that nobody waits for a slow HSM.
    ///
    /// # Errors
    /// `issuance_in_progress`
    pub(super) fn about(&self, marks: Vec<String>) -> Result<Turn<'_>, Failure> {
        let mut under_way = self.under_way();
        if under_way.everything || marks.iter().any(|mark| under_way.marks.contains(mark)) {
            return Err(in_progress());
        }
        under_way.marks.extend(marks.iter().cloned());
        Ok(Turn { making: self, marks: Some(marks) })
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut under_way = self.making.under_way();
        match &self.marks {
            None => under_way.everything = false,
            Some(marks) => under_way.marks.retain(|mark| !marks.contains(mark)),
        }
        self.making.ended.notify_all();
    }
}

fn in_progress() -> Failure {
    Failure::busy(
        "issuance_in_progress",
        "keys or certificates are being made by another command",
        "try again in a moment",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(making: &Making, mark: &str) -> Result<(), String> {
        making.about(vec![mark.into()]).map(drop).map_err(|failure| failure.name)
    }

    #[test]
    fn who_is_about_another_name_and_key_goes_on_and_who_is_about_the_same_comes_back() {
        let making = Making::default();
        let one = making.about(vec!["shopper".into(), "key".into()]).unwrap();
        assert_eq!(about(&making, "shopper"), Err("issuance_in_progress".into()));
        assert_eq!(about(&making, "key"), Err("issuance_in_progress".into()));
        assert_eq!(about(&making, "another"), Ok(()));
        drop(one);
        assert_eq!(about(&making, "shopper"), Ok(()));
    }

    #[test]
    fn who_takes_everything_waits_for_what_is_under_way_and_nobody_begins_meanwhile() {
        let making = Making::default();
        let one = making.about(vec!["shopper".into()]).unwrap();
        std::thread::scope(|scope| {
            let all = scope.spawn(|| making.everything().map(drop));
            while !making.under_way().everything {
                std::thread::yield_now();
            }
            assert_eq!(about(&making, "another"), Err("issuance_in_progress".into()));
            assert_eq!(making.everything().unwrap_err().name, "issuance_in_progress");
            drop(one);
            all.join().unwrap().unwrap();
        });
        assert_eq!(about(&making, "another"), Ok(()));
        let all = making.everything().unwrap();
        assert_eq!(about(&making, "another"), Err("issuance_in_progress".into()));
        drop(all);
        assert_eq!(about(&making, "another"), Ok(()));
    }
}
