//! What a witness remembers, judged in its commit; and the cosignatures of our own log.

use countersign::kernel::command::*;
use countersign::kernel::merkle::{consistency_path, leaf_hash, root};
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::{Sha256, UnixMillis};
use countersign::kernel::witness::{Claim, HaltCause, Head, Submission, Told, Verdict, WitnessedLog};
use countersign::store::Cosignature;

use super::world::*;

fn leaves(count: usize, seed: u8) -> Vec<Sha256> {
    (0..count).map(|number| leaf_hash(&[seed, u8::try_from(number).unwrap()])).collect()
}

fn head(leaves: &[Sha256]) -> Head {
    Head { size: leaves.len() as u64, root: root(leaves) }
}

fn submission(party: Option<&str>, origin: &str, old: usize, all: &[Sha256]) -> Submission {
    Submission {
        origin: origin.into(),
        party: party.map(|party| party.parse().unwrap()),
        old_size: old as u64,
        proof: consistency_path(all, old as u64),
        head: head(all),
        note: "a signed note".into(),
        claim: Claim::Nothing,
        cosigned: None,
    }
}

fn hand_in(w: &World<'_>, submission: Submission) -> (Outcome, bool) {
    let decision = w.system(Act::Witness(Box::new(submission)));
    (decision.outcome, decision.leaf.is_some())
}

fn verdict(outcome: Outcome) -> Verdict {
    match outcome {
        Ok(Effect::Witnessed(verdict)) => *verdict,
        other => panic!("{other:?}"),
    }
}

fn accept(origin: &str, head: Option<Head>) -> Act {
    Act::AcceptLog { origin: origin.into(), head, reason: "looked".into() }
}

sentences! {
    a_log_is_remembered_before_it_is_cosigned_and_two_histories_halt_it: |w| {
        let (ours, theirs) = (leaves(20, 1), leaves(20, 2));
        let (first, has_leaf) = hand_in(w, submission(Some("bank"), "bank/log", 0, &ours[..5]));
        assert!(matches!(verdict(first), Verdict::Cosign(_, Told::Now)) && has_leaf);
        let known = |size: usize, halt| WitnessedLog {
            origin: "bank/log".into(),
            party: Some("bank".parse().unwrap()),
            head: head(&ours[..size]),
            cosigned_at: UnixMillis(w.now.get()),
            told_at: UnixMillis(w.now.get()),
            halt,
        };
        assert_eq!(w.store.witnessed().unwrap(), [known(5, None)]);
        // What goes on has a leaf now and then; what is only late has none, and changes nothing.
        let (again, has_leaf) = hand_in(w, submission(Some("bank"), "bank/log", 5, &ours[..9]));
        assert!(matches!(verdict(again), Verdict::Cosign(_, Told::Before)) && !has_leaf);
        let (late, has_leaf) = hand_in(w, submission(Some("bank"), "bank/log", 0, &ours[..7]));
        assert_eq!((verdict(late), has_leaf), (Verdict::Stale(head(&ours[..9])), false));
        assert_eq!(w.store.witnessed().unwrap(), [known(9, None)]);

        // The same again is cosigned again, and nothing is written.
        let before = w.store.witnessed().unwrap();
        w.now.set(w.now.get() + 1_000);
        let (same, has_leaf) = hand_in(w, submission(Some("bank"), "bank/log", 9, &ours[..9]));
        assert!(matches!(verdict(same), Verdict::Cosign(_, Told::Before)) && !has_leaf);
        assert_eq!(w.store.witnessed().unwrap(), before);
        w.now.set(w.now.get() - 1_000);
        // A size that no column holds is refused by its name, with a leaf.
        let huge = Head { size: u64::MAX, root: root(&theirs) };
        let huge = Submission { head: huge, ..submission(Some("bank"), "bank/log", 9, &ours) };
        assert_eq!(hand_in(w, huge), (Err(Refusal::SizeTooLarge), true));

        let (forked, has_leaf) = hand_in(w, submission(Some("bank"), "bank/log", 9, &theirs));
        let Verdict::Halted(log, Told::Now) = verdict(forked) else { panic!("a fork") };
        assert!(has_leaf && log.head == head(&ours[..9]));
        assert_eq!(w.store.witnessed().unwrap(), std::slice::from_ref(&log));
        let halt = log.halt.unwrap();
        assert_eq!((halt.cause, halt.shown), (HaltCause::Forked, head(&theirs)));
        assert_eq!((halt.note.as_deref(), halt.accept_asked_by), (Some("a signed note"), None));
        let (still, has_leaf) = hand_in(w, submission(Some("bank"), "bank/log", 9, &ours));
        assert!(matches!(verdict(still), Verdict::Halted(_, Told::Before)) && !has_leaf);

        assert_eq!(w.admin(accept("bank/log", None)), Ok(Effect::Done { changed: true }));
        assert_eq!(w.admin(accept("bank/log", None)), Ok(Effect::Done { changed: false }));
        let (on, _) = hand_in(w, submission(Some("bank"), "bank/log", 9, &ours));
        assert!(matches!(verdict(on), Verdict::Cosign(..)));
        let rolled = Submission { claim: Claim::NothingNewer, ..submission(Some("bank"), "bank/log", 3, &ours[..4]) };
        let Verdict::Halted(log, Told::Now) = verdict(hand_in(w, rolled).0) else { panic!("a rollback") };
        assert_eq!(log.halt.unwrap().cause, HaltCause::RolledBack);
        // Both parties agree to go on from there: two people, and from nowhere else.
        let by = |name: &str, head: Head| {
            w.decision(Actor::Operator(operator(name, &["officer"])), accept("bank/log", Some(head))).outcome
        };
        assert_eq!(by("ada", head(&ours[..3])), Err(Refusal::HeadNotShown));
        assert_eq!(by("ada", head(&ours[..4])), Ok(Effect::LogAccepted { by: Thaw::OneOfTwo }));
        let asked = w.store.witnessed().unwrap().remove(0).halt.unwrap();
        assert_eq!(asked.accept_asked_by.as_deref(), Some("ada"));
        assert_eq!(by("ada", head(&ours[..4])), Err(Refusal::MakerIsChecker));
        assert_eq!(by("bob", head(&ours[..4])), Ok(Effect::LogAccepted { by: Thaw::Both }));
        assert_eq!(by("bob", head(&ours[..4])), Ok(Effect::Done { changed: false }));
        assert_eq!(by("bob", head(&ours[..3])), Err(Refusal::LogNotHalted));
        let (on, _) = hand_in(w, submission(Some("bank"), "bank/log", 4, &ours[..6]));
        assert!(matches!(verdict(on), Verdict::Cosign(..)));
        assert_eq!(w.store.witnessed().unwrap(), [known(6, None)]);
    };
    each_log_has_its_owner_and_only_daemons_hand_in: |w| {
        let ours = leaves(9, 1);
        hand_in(w, submission(Some("bank"), "bank/log", 0, &ours)).0.unwrap();
        hand_in(w, submission(None, "open/log", 0, &ours)).0.unwrap();
        let table = [
            ("another party", submission(Some("other"), "bank/log", 9, &ours), Refusal::LogOfAnother),
            ("anybody", submission(None, "bank/log", 9, &ours), Refusal::LogOfAnother),
            ("a party whose log is another's", submission(Some("bank"), "open/log", 9, &ours), Refusal::LogOfAnother),
            ("a second log of one party", submission(Some("bank"), "bank/log2", 0, &ours), Refusal::LogRenamed),
        ];
        for (what, submission, refusal) in table {
            assert_eq!(hand_in(w, submission), (Err(refusal), true), "{what}");
        }
        assert_eq!(w.store.witnessed().unwrap().len(), 2);
        let people = [
            Actor::Agent(shopper()),
            Actor::Operator(operator("ann", &["officer", "administrator", "approver", "auditor"])),
        ];
        for actor in people {
            let act = Act::Witness(Box::new(submission(None, "open/log", 9, &ours)));
            assert_eq!(w.decision(actor, act).outcome, Err(Refusal::OperatorNotPermitted));
        }
        let nobody = [Actor::Agent(shopper()), Actor::Operator(operator("eve", &["auditor", "approver"]))];
        for actor in nobody {
            assert_eq!(w.decision(actor, accept("bank/log", None)).outcome, Err(Refusal::OperatorNotPermitted));
        }
        assert_eq!(w.system(accept("bank/log", None)).outcome, Err(Refusal::OperatorNotPermitted));
        assert_eq!(w.admin(accept("no/log", None)), Err(Refusal::UnknownLog));
        for number in 2..countersign::kernel::witness::LOGS_MAX {
            hand_in(w, submission(None, &format!("log/{number}"), 0, &ours)).0.unwrap();
        }
        assert_eq!(hand_in(w, submission(None, "one/more", 0, &ours)).0, Err(Refusal::TooManyLogs));
    };
    the_newest_cosignature_of_a_signed_checkpoint_stands_beside_it: |w| {
        let cosignature = |line: &str| Cosignature { line: line.into(), chain: vec![vec![1], vec![2; 900], vec![3]] };
        let store = w.store;
        assert_eq!(store.cosigned_checkpoint().unwrap(), None);
        for _ in 0..3 {
            let act = Act::Record { tool: "one".into(), decision: serde_json::json!({}) };
            let row = w.system(act).leaf.unwrap().row;
            let size = store.newest_checkpoint().unwrap().map_or(0, |checkpoint| checkpoint.size);
            store.sequence(step(size, vec![row])).unwrap();
        }
        // One that is not signed, or not there, has none.
        store.store_cosignature(2, cosignature("early")).unwrap();
        store.store_cosignature(9, cosignature("nothing")).unwrap();
        assert_eq!(store.cosigned_checkpoint().unwrap(), None);
        for size in [1, 2] {
            store.store_signed_checkpoint(size, b"signed".to_vec()).unwrap();
        }
        store.store_cosignature(2, cosignature("first")).unwrap();
        store.store_cosignature(2, cosignature("second")).unwrap();
        store.store_cosignature(1, cosignature("an older one")).unwrap();
        let newest = store.cosigned_checkpoint().unwrap().unwrap();
        assert_eq!((newest.checkpoint.size, newest.checkpoint.signed.as_deref()), (2, Some(&b"signed"[..])));
        assert_eq!(newest.cosignature, cosignature("second"));
        let sizes = |from, limit| {
            let found = store.cosignatures(from, limit).unwrap();
            found.into_iter().map(|row| (row.size, row.line)).collect::<Vec<_>>()
        };
        assert_eq!(sizes(0, 9), [(1, "an older one".into()), (2, "second".into())]);
        assert_eq!((sizes(0, 1), sizes(2, 9), sizes(3, 9)), (vec![(1, "an older one".into())], vec![(2, "second".into())], vec![]));
        let stored = store.cosignatures(2, 1).unwrap().remove(0);
        assert_eq!((stored.chain, stored.note), (Some(cosignature("second").chain), Some(newest.checkpoint.note)));
    };
}
