//! Data keys that were destroyed against the log: whoever destroys one behind the daemon's back makes leaves unreadable
//! that nobody decided to erase, and whoever puts one back makes readable what two people had erased.

use std::collections::BTreeMap;

use super::finding::{Findings, Wrong};
use super::told::Destruction;
use crate::kernel::subject::Period;
use crate::kernel::types::UnixMillis;
use crate::store::DestroyedKeys;

/// Compares what the store has destroyed with what leaves say of it. `first` was read before those leaves, `last` behind
/// them: what is decided meanwhile is no finding.
///
/// A lapse takes away what leaves of older months say, also those that told of destructions: for these nobody is asked.
pub(super) fn compare(first: &[DestroyedKeys], last: &[DestroyedKeys], told: &[Destruction]) -> Findings {
    let mut findings = Findings::default();
    let mut decided: BTreeMap<(&str, UnixMillis), u32> = BTreeMap::new();
    for one in told {
        let keys = decided.entry((&one.left, one.at)).or_default();
        *keys = keys.saturating_add(one.keys);
    }
    let silent_before = told.iter().filter_map(|one| one.before).max();
    for found in first {
        let said = found.at.and_then(|at| decided.get(&(found.left.as_str(), at))).copied().unwrap_or(0);
        let month = found.at.map(Period::of);
        // Its leaf was of a month whose leaves are gone.
        let may_have_lapsed =
            month.is_some_and(|month| month >= found.newest && silent_before.is_some_and(|before| month < before));
        if said < found.keys && !may_have_lapsed {
            let keys = found.keys - said;
            let why = format!("{keys} data keys are destroyed, and no decision of the log destroyed them");
            findings.add(Wrong::KeyDestroyedWithoutLeaf, &found.left, why);
        }
    }
    for ((left, at), said) in decided {
        let is_it = |found: &&DestroyedKeys| found.left == left && found.at == Some(at);
        let found = last.iter().find(is_it).map_or(0, |found| found.keys);
        if said > found {
            let why =
                format!("a leaf says that {said} data keys were destroyed, and {found} are: what they seal opens");
            findings.add(Wrong::ErasureUndone, left, why);
        }
    }
    findings
}

/// Whether a leaf of this time, or a later one, may have been erased; where the store does not know its keys, any may.
pub(super) fn may_be_erased(destroyed: &[DestroyedKeys], erased: u64, made: UnixMillis) -> bool {
    erased > 0 && (destroyed.is_empty() || destroyed.iter().any(|keys| keys.newest >= Period::of(made)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONTH_MS: i64 = 31 * 86_400_000;

    fn found(left: &str, at: i64, keys: u32) -> DestroyedKeys {
        DestroyedKeys { left: left.into(), at: Some(UnixMillis(at)), keys, newest: Period(0) }
    }

    fn said(left: &str, at: i64, keys: u32) -> Destruction {
        Destruction { left: left.into(), at: UnixMillis(at), keys, before: None }
    }

    #[test]
    fn each_destroyed_key_has_its_decision_and_the_reverse() {
        use Wrong::{ErasureUndone, KeyDestroyedWithoutLeaf};
        let lapse = |at: i64, before: i32| Destruction { before: Some(Period(before)), ..said("lapsed", at, 1) };
        let unknown_time = DestroyedKeys { at: None, ..found("erased:aa", 7, 1) };
        let newer = DestroyedKeys { newest: Period(5), ..found("lapsed", MONTH_MS, 2) };
        let late = 20 * MONTH_MS;
        for (what, destroyed, told, wrong) in [
            ("nothing at all", vec![], vec![], vec![]),
            ("as decided", vec![found("erased:aa", 7, 2)], vec![said("erased:aa", 7, 2)], vec![]),
            (
                "two lapses at once",
                vec![found("lapsed", 7, 2)],
                vec![said("lapsed", 7, 1), said("lapsed", 7, 1)],
                vec![],
            ),
            ("nobody decided", vec![found("owner:OWN_001", 7, 1)], vec![], vec![KeyDestroyedWithoutLeaf]),
            ("one too many", vec![found("lapsed", 7, 3)], vec![said("lapsed", 7, 2)], vec![KeyDestroyedWithoutLeaf]),
            (
                "another name",
                vec![found("erased:bb", 7, 1)],
                vec![said("erased:aa", 7, 1)],
                vec![KeyDestroyedWithoutLeaf, ErasureUndone],
            ),
            (
                "without a time",
                vec![unknown_time.clone()],
                vec![lapse(late, 15)],
                vec![KeyDestroyedWithoutLeaf, ErasureUndone],
            ),
            ("one is back", vec![found("erased:aa", 7, 1)], vec![said("erased:aa", 7, 2)], vec![ErasureUndone]),
            ("all are back", vec![], vec![said("erased:aa", 7, 2)], vec![ErasureUndone]),
            (
                "its leaf has lapsed",
                vec![found("erased:aa", 7, 1), found("lapsed", late, 1)],
                vec![lapse(late, 15)],
                vec![],
            ),
            (
                "its leaf cannot have",
                vec![found("erased:aa", 16 * MONTH_MS, 1), found("lapsed", late, 1)],
                vec![lapse(late, 15)],
                vec![KeyDestroyedWithoutLeaf],
            ),
            (
                "destroyed before it was made",
                vec![newer, found("lapsed", late, 1)],
                vec![lapse(late, 15)],
                vec![KeyDestroyedWithoutLeaf],
            ),
        ] {
            let names: Vec<Wrong> =
                compare(&destroyed, &destroyed, &told).told.iter().map(|finding| finding.name).collect();
            assert_eq!(names, wrong, "{what}");
        }
    }

    #[test]
    fn what_is_decided_while_it_is_looked_at_is_no_finding() {
        let (before, after) = ([found("erased:aa", 7, 1)], [found("erased:aa", 7, 1), found("erased:bb", 8, 1)]);
        let told = [said("erased:aa", 7, 1), said("erased:bb", 8, 1)];
        assert_eq!(compare(&before, &after, &told).found, 0);
        assert_eq!(compare(&before, &before, &told).found, 1, "it was undone");
    }

    #[test]
    fn only_what_was_sealed_in_a_month_of_destroyed_keys_may_be_erased() {
        let keys = [found("lapsed", MONTH_MS, 1)];
        assert!(may_be_erased(&keys, 1, UnixMillis(5)));
        assert!(!may_be_erased(&keys, 1, UnixMillis(2 * MONTH_MS)));
        assert!(!may_be_erased(&keys, 0, UnixMillis(5)), "no leaf is erased");
        assert!(may_be_erased(&[], 1, UnixMillis(2 * MONTH_MS)), "a store that does not say which");
    }
}
