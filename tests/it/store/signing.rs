//! Orders for signatures of other programs: recorded before they are signed, and signed once for whoever asks again.

use countersign::kernel::command::*;
use countersign::kernel::external::{ExternalKind, SigningMark, SigningOrder};
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::{Sha256, UnixMillis};

use super::world::*;

fn program() -> Actor {
    Actor::Program(ProgramPrincipal { uid: 1001, gid: 1001, user: Some("billing".into()) })
}

pub fn order(scope: u8, request: u8) -> SigningOrder {
    SigningOrder {
        name: "invoices".into(),
        key: Sha256([5; 32]),
        label: "bank-external.invoices-v1".into(),
        kind: ExternalKind::Document,
        purpose: Some("an invoice".into()),
        count: 1,
        digest: Sha256([6; 32]),
        mark: Some(SigningMark {
            idempotency_key: "one".into(),
            scope: Sha256([scope; 32]),
            request: Sha256([request; 32]),
            journal: vec![scope, request],
        }),
    }
}

/// What is known now, and whether it was before.
fn known(outcome: Outcome) -> (Option<Vec<u8>>, Option<Vec<u8>>, bool) {
    match outcome {
        Ok(Effect::Signing { known, repeated }) => {
            let (journal, signatures) = known.map(|row| (row.journal, row.signatures)).unzip();
            (journal, signatures.flatten(), repeated)
        }
        other => panic!("{other:?}"),
    }
}

fn ordered(w: &World<'_>, order: SigningOrder) -> Decision {
    w.decision(program(), Act::SignExternal(Box::new(order)))
}

fn kept(w: &World<'_>, scope: u8, signatures: &[u8]) -> Decision {
    w.system(Act::KeepSignatures { scope: Sha256([scope; 32]), signatures: signatures.to_vec() })
}

sentences! {
    the_first_signatures_of_an_order_are_the_ones_that_are_released: |w| {
        let first = ordered(w, order(1, 1));
        assert!(first.leaf.is_some(), "an order is a leaf before anything is signed");
        assert_eq!(known(first.outcome), (Some(vec![1, 1]), None, false));
        // Cut off before it was signed: what was to be signed is still known.
        assert_eq!(known(ordered(w, order(1, 1)).outcome), (Some(vec![1, 1]), None, true));
        let decision = kept(w, 1, b"first");
        assert!(decision.leaf.is_none());
        assert_eq!(known(decision.outcome), (Some(vec![1, 1]), Some(b"first".to_vec()), false));
        assert_eq!(known(kept(w, 1, b"second").outcome), (Some(vec![1, 1]), Some(b"first".to_vec()), true));
        assert_eq!(known(ordered(w, order(1, 1)).outcome), (Some(vec![1, 1]), Some(b"first".to_vec()), true));
        let read = w.store.signing(&Sha256([1; 32])).unwrap().unwrap();
        assert_eq!((read.journal, read.signatures), (vec![1, 1], Some(b"first".to_vec())));
        assert_eq!(w.store.signing(&Sha256([2; 32])).unwrap(), None);
    };
    another_request_under_a_known_key_is_refused_and_recorded: |w| {
        known(ordered(w, order(1, 1)).outcome);
        let other = ordered(w, order(1, 2));
        assert_eq!(other.outcome, Err(Refusal::IdempotencyMismatch));
        assert!(other.leaf.is_some());
        assert_eq!(known(ordered(w, order(2, 2)).outcome), (Some(vec![2, 2]), None, false), "another scope is another order");
        assert_eq!(kept(w, 9, b"of nothing").outcome, Err(Refusal::UnknownSigning));
    };
    an_order_and_its_signatures_may_be_of_one_commit: |w| {
        let system = Actor::System { component: "signing".into() };
        let keep = Act::KeepSignatures { scope: Sha256([1; 32]), signatures: b"s".to_vec() };
        let commands = vec![
            w.command(program(), Act::SignExternal(Box::new(order(1, 1)))),
            w.command(system, keep),
            w.command(program(), Act::SignExternal(Box::new(order(1, 1)))),
        ];
        let outcomes: Vec<_> = w.store.apply(commands).unwrap().into_iter().map(|one| known(one.outcome)).collect();
        assert_eq!(outcomes[0], (Some(vec![1, 1]), None, false));
        assert_eq!(outcomes[2], (Some(vec![1, 1]), Some(b"s".to_vec()), true));
    };
    without_an_idempotency_key_nothing_is_kept: |w| {
        let decision = ordered(w, SigningOrder { mark: None, ..order(1, 1) });
        assert!(decision.leaf.is_some());
        assert_eq!(known(decision.outcome), (None, None, false));
    };
    only_programs_order_and_only_the_daemon_keeps: |w| {
        let act = || Act::SignExternal(Box::new(order(1, 1)));
        assert_eq!(w.system(act()).outcome, Err(Refusal::OperatorNotPermitted));
        assert_eq!(w.admin(act()), Err(Refusal::OperatorNotPermitted));
        known(ordered(w, order(1, 1)).outcome);
        let keep = Act::KeepSignatures { scope: Sha256([1; 32]), signatures: vec![1] };
        assert_eq!(w.decision(program(), keep).outcome, Err(Refusal::OperatorNotPermitted));
    };
    orders_are_forgotten_with_other_keys: |w| {
        known(ordered(w, order(1, 1)).outcome);
        w.later(400 * DAY_MS);
        assert_eq!(w.store.forget_keys(UnixMillis(w.now.get()), 100).unwrap(), 0);
        w.later(2 * DAY_MS);
        assert_eq!(w.store.forget_keys(UnixMillis(w.now.get()), 100).unwrap(), 1);
        assert_eq!(w.store.signing(&Sha256([1; 32])).unwrap(), None);
        assert_eq!(known(ordered(w, order(1, 2)).outcome), (Some(vec![1, 2]), None, false));
    };
}
