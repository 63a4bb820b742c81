//! Leaves, batches and checkpoints.

use super::world::*;
use countersign::kernel::canon::canonical;
use countersign::kernel::command::*;
use countersign::kernel::merkle;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::*;
use countersign::store::{LeafContent, StoreFault};
use serde_json::{Value, json};

sentences! {
    a_batch_names_its_postings_and_its_first_signature_stands: |w| {
        w.bank();
        for batch in w.store.unsigned_batches(100).unwrap() {
            let act = Act::SignBatch { batch: batch.batch, signature: vec![1], key: Sha256([5; 32]) };
            assert_eq!(w.system(act).outcome, Ok(Effect::Done { changed: true }));
        }
        let posted = w.bought("k");
        let [batch] = &w.store.unsigned_batches(100).unwrap()[..] else { panic!() };
        assert_eq!((batch.batch, posted.index_in_batch), (posted.batch, 0));
        assert_eq!(batch.leaves, [merkle::leaf_hash(&posted.statement)]);
        let document: Value = serde_json::from_slice(&batch.document).unwrap();
        assert_eq!(document["root"], json!(merkle::root(&batch.leaves)));
        assert_eq!(canonical(&document).unwrap(), batch.document);
        let sign = |signature| {
            w.system(Act::SignBatch { batch: posted.batch, signature, key: Sha256([5; 32]) })
        };
        assert!(sign(vec![1]).leaf.is_none());
        assert_eq!(sign(vec![2]).outcome, Ok(Effect::Done { changed: false }));
        assert_eq!(w.store.batch(posted.batch).unwrap().unwrap().signature, Some(vec![1]));
        assert!(w.store.unsigned_batches(100).unwrap().is_empty());
        let unknown = w.system(Act::SignBatch { batch: 999, signature: vec![], key: Sha256([5; 32]) });
        assert_eq!(unknown.outcome, Err(Refusal::UnknownTransaction));
    };
    a_batch_without_postings_has_no_row: |w| {
        w.admin(open("A", "O", None)).unwrap();
        assert!(w.store.unsigned_batches(100).unwrap().is_empty());
    };
    several_postings_of_one_commit_share_a_batch: |w| {
        w.bank();
        let (one, two) = (w.approved(transfer("1", "k1")), w.approved(transfer("2", "k2")));
        let decisions = w
            .store
            .apply(vec![
                w.tool_command(&shopper(), execute_transfer(&one, "SAV_001", "1")),
                w.tool_command(&shopper(), execute_transfer(&two, "SAV_001", "2")),
            ])
            .unwrap();
        let place = |decision: &Decision| match decision.outcome.as_ref().unwrap() {
            Effect::Posted(posted) => (posted.batch, posted.index_in_batch),
            other => panic!("{other:?}"),
        };
        assert_eq!((place(&decisions[0]).0, place(&decisions[0]).1), (place(&decisions[1]).0, 0));
        assert_eq!(place(&decisions[1]).1, 1);
        assert_eq!(w.store.batch(place(&decisions[0]).0).unwrap().unwrap().leaves.len(), 2);
    };
    every_decision_has_a_leaf_that_commits_to_its_body: |w| {
        w.bank();
        let refused = w.decision(Actor::Operator(operator("eve", &[])), open("X", "O", None));
        let leaf = w.store.leaf(refused.leaf.unwrap().row).unwrap().unwrap();
        let LeafContent::Known { salt, body: said } = &leaf.content else { panic!("{leaf:?}") };
        assert_eq!(leaf.commitment, Sha256::of(&[salt, said]));
        assert_eq!(leaf.commitment, refused.leaf.unwrap().commitment);
        let body: Value = serde_json::from_slice(leaf.body().unwrap()).unwrap();
        assert_eq!((&body["decision"], &body["reason"]), (&json!("refused"), &json!("operator_not_permitted")));
        assert_eq!((&body["act"], &body["asserted"]), (&json!("open_account"), &json!(true)));
        assert_eq!(canonical(&body).unwrap(), *said);
        let posted = w.bought("k");
        let leaf = w.store.leaf_of_transaction(&posted.transaction_id).unwrap().unwrap();
        let body: Value = serde_json::from_slice(leaf.body().unwrap()).unwrap();
        assert_eq!((&body["tool"], &body["policy_version"]), (&json!("execute_purchase"), &json!("p1")));
        assert_eq!(body["result"]["statement_sha256"], json!(Sha256::of(&[&posted.statement])));
        let recorded = Act::Record { tool: "enrol".into(), decision: json!({ "step": "one" }) };
        assert!(w.system(recorded).leaf.is_some());
        assert!(w.system(Act::Sweep { limit: 10 }).leaf.is_none());
    };
    leaves_get_their_places_once_and_in_order: |w| {
        w.bank();
        let waiting = w.store.unsequenced(100).unwrap();
        let rows: Vec<i64> = waiting.iter().map(|leaf| leaf.row).collect();
        assert!(rows.len() > 3 && rows.is_sorted());
        w.store.sequence(step(0, rows[..2].to_vec())).unwrap();
        for bad in [step(0, rows[2..].to_vec()), step(2, rows[..1].to_vec()), step(2, vec![999])] {
            assert!(matches!(w.store.sequence(bad), Err(StoreFault::NotRecorded(_))));
        }
        w.store.sequence(step(2, rows[2..].to_vec())).unwrap();
        assert!(w.store.unsequenced(100).unwrap().is_empty());
        let placed = w.store.leaves(1, 2).unwrap();
        let places: Vec<(i64, Option<u64>)> = placed.iter().map(|leaf| (leaf.row, leaf.index)).collect();
        assert_eq!(places, [(rows[1], Some(1)), (rows[2], Some(2))]);
        assert_eq!(w.store.node(0, 2).unwrap(), Some(Sha256([2; 32])));
        assert_eq!(w.store.node(1, 2).unwrap(), None);
    };
    the_first_signed_checkpoint_of_a_size_stands: |w| {
        w.bank();
        assert!(w.store.newest_checkpoint().unwrap().is_none());
        let rows: Vec<i64> = w.store.unsequenced(2).unwrap().iter().map(|leaf| leaf.row).collect();
        w.store.sequence(step(0, rows)).unwrap();
        assert!(w.store.signed_checkpoint().unwrap().is_none());
        assert_eq!(w.store.newest_checkpoint().unwrap().unwrap().size, 2);
        w.store.store_signed_checkpoint(2, b"first".to_vec()).unwrap();
        w.store.store_signed_checkpoint(2, b"second".to_vec()).unwrap();
        assert_eq!(w.store.signed_checkpoint().unwrap().unwrap().signed.as_deref(), Some(b"first".as_slice()));
        assert!(w.store.store_signed_checkpoint(9, vec![]).is_err());
    };
}
