//! The evidence of one payment: it verifies alone, and nobody changes, mixes, adds or leaves out a part unseen.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use countersign::kernel::bundle::tar::{self, Member};
use countersign::kernel::bundle::{self, verify};
use countersign::kernel::command::RequestSignature;
use countersign::kernel::quorum::Answer;
use countersign::kernel::types::{Sha256, TransactionId, UnixMillis};
use serde_json::{Value, json};

use super::parties::OID_BASE;
use super::payments::{Bank, Paid};

fn bundle_of(bank: &Bank, id: &TransactionId) -> Vec<u8> {
    bank.log.bundle(id, Duration::ZERO).unwrap()
}

fn refusal(bank: &Bank, file: &[u8]) -> (&'static str, String) {
    let refused = verify(file, &bank.kit.root, OID_BASE).unwrap_err();
    (refused.name(), refused.to_string())
}

fn members(file: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let all = tar::read(file).unwrap().into_iter().skip(1);
    all.map(|member| (member.name, member.bytes)).collect()
}

/// The archive of these members with a manifest that fits: what somebody makes who changes a part.
fn forged(id: &TransactionId, members: BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    bundle::compose(id, members).unwrap()
}

#[test]
fn a_bundle_proves_who_was_let_to_pay_who_said_yes_and_what_moved() {
    let (bank, paid) = Bank::with_payments();
    let file = bundle_of(&bank, &paid.approved);
    assert_eq!(file, bundle_of(&bank, &paid.approved), "the same bytes each time");
    let verdict = verify(&file, &bank.kit.root, OID_BASE).unwrap();
    let statement = verdict.receipt().statement();
    assert_eq!((&statement.transaction_id, statement.amount_minor.as_str()), (&paid.approved, "250000"));
    let authorization = verdict.authorization().unwrap().body();
    assert_eq!(authorization["result"]["transaction_id"], json!(paid.approved));
    assert_eq!(verdict.agent().unwrap().endorsement_sha256, Some(Sha256::of(&[b"S"])));
    let [word] = &verdict.approval().unwrap().words[..] else { panic!() };
    assert_eq!((word.person.as_str(), word.answer, word.evidence.is_some()), ("alice", Answer::Yes, true));
    assert_eq!(verdict.mandate().unwrap().owner.as_str(), "OWN_001");
    let names: Vec<&str> = verdict.members().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "approval.json",
            "authorization.tlog-proof",
            "certificates/agent.der",
            "certificates/issuing-1.der",
            "mandate/entered.tlog-proof",
            "mandate/mandate.sd-jwt",
            "mandate/owner.der",
            "receipt.json",
            "words/1.tlog-proof",
        ]
    );
    // Of a payment that asked nobody there is less to show.
    let plain = verify(&bundle_of(&bank, &paid.bought), &bank.kit.root, OID_BASE).unwrap();
    assert!(plain.approval().is_none() && plain.mandate().is_none() && plain.authorization().is_some());
    assert_eq!(bank.log.bundle(&paid.held, Duration::ZERO).unwrap_err().name, "unknown_transaction");
    let other = Bank::new();
    assert_eq!(verify(&file, &other.kit.root, OID_BASE).unwrap_err().name(), "chain_root_differs");
}

#[test]
fn the_request_that_asked_was_signed_by_the_agents_key_or_there_is_no_bundle() {
    let (bank, paid) = Bank::with_payments();
    let request = |id: &TransactionId| {
        let verdict = verify(&bundle_of(&bank, id), &bank.kit.root, OID_BASE).unwrap();
        verdict.agent().unwrap().request.clone()
    };
    assert_eq!(request(&paid.approved).unwrap().base_digest.len(), 64);
    // Whoever keeps the request finds it again.
    let sent = Cell::new(None);
    let id = bank.buys_once_more(1, |_, signature| {
        sent.set(Some(hex::encode(&signature.base_digest)));
        Some(signature)
    });
    assert_eq!(Some(request(&id).unwrap().base_digest), sent.take());
    // What nobody signed says nothing of a signature.
    assert_eq!(request(&bank.buys_once_more(2, |_, _| None)), None);
    type Change = fn(&Bank, RequestSignature) -> RequestSignature;
    let table: [(&str, Change); 5] = [
        ("another key", |bank, _| bank.signed_by_alice()),
        ("another request", |_, mut signature| {
            signature.base_digest[0] ^= 1;
            signature
        }),
        ("a digest of no hash", |_, mut signature| {
            signature.base_digest.pop();
            signature
        }),
        ("a byte of the signature", |_, mut signature| {
            signature.bytes[40] ^= 1;
            signature
        }),
        ("an old request", |_, mut signature| {
            signature.created = UnixMillis(signature.created.0 - 1_000_000);
            signature
        }),
    ];
    for (number, (what, change)) in (3..).zip(table) {
        let id = bank.buys_once_more(number, |bank, signature| Some(change(bank, signature)));
        let refused = bank.log.bundle(&id, Duration::ZERO).unwrap_err();
        assert!(refused.message.contains("request_signature_invalid"), "{what}: {refused:?}");
        assert_eq!(bank.log.check().unwrap()["sound"], true, "{what}: the log says what was recorded");
    }
}

#[test]
fn the_usual_program_opens_a_bundle() {
    let (bank, paid) = Bank::with_payments();
    let archive = bank.directory().join("payment.tar");
    std::fs::write(&archive, bundle_of(&bank, &paid.approved)).unwrap();
    let listed = std::process::Command::new("tar").arg("-tvf").arg(&archive).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("-rw-r--r-- 0/0") && listed.contains("1970-01-01"), "{listed}");
    assert_eq!(listed.lines().count(), 10, "{listed}");
}

#[test]
fn a_member_that_was_changed_is_refused_by_its_name() {
    let (bank, paid) = Bank::with_payments();
    let file = bundle_of(&bank, &paid.approved);
    let all = tar::read(&file).unwrap();
    for number in 0..all.len() {
        let mut changed = all.clone();
        let middle = changed[number].bytes.len() / 2;
        changed[number].bytes[middle] ^= 1;
        let (name, told) = refusal(&bank, &tar::write(&changed).unwrap());
        let expected = if number == 0 { "manifest_malformed" } else { "member_differs" };
        let is_manifest_of_others =
            number == 0 && ["member_differs", "member_missing", "member_unknown"].contains(&name);
        assert!(name == expected || is_manifest_of_others, "{}: {name}", all[number].name);
        assert!(number == 0 || told.contains(&all[number].name), "{told}");
    }
}

#[test]
fn a_part_that_was_changed_with_its_manifest_is_refused_by_its_own_rule() {
    let (bank, paid) = Bank::with_payments();
    let parts = members(&bundle_of(&bank, &paid.approved));
    let with = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = parts.clone();
        change(changed.get_mut(name).unwrap());
        assert_ne!(changed[name], parts[name], "{name}: nothing was changed");
        refusal(&bank, &forged(&paid.approved, changed))
    };
    let replaced = |from: &'static str, to: &'static str| {
        move |bytes: &mut Vec<u8>| *bytes = String::from_utf8(bytes.clone()).unwrap().replacen(from, to, 1).into_bytes()
    };
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1);
    type Change = Box<dyn Fn(&mut Vec<u8>)>;
    let table: Vec<(&str, Change, &str)> = vec![
        ("receipt.json", Box::new(replaced("250000", "250001")), "statement_not_in_batch"),
        ("receipt.json", Box::new(cut), "receipt_not_canonical"),
        ("authorization.tlog-proof", Box::new(replaced("\nindex ", "\nindex 1")), "leaf_not_in_log"),
        ("authorization.tlog-proof", Box::new(cut), "checkpoint_malformed"),
        ("certificates/agent.der", Box::new(|bytes| *bytes.last_mut().unwrap() ^= 1), "signature_invalid"),
        ("certificates/agent.der", Box::new(cut), "malformed"),
        ("certificates/issuing-1.der", Box::new(|bytes| *bytes.last_mut().unwrap() ^= 1), "authority_invalid"),
        ("certificates/issuing-1.der", Box::new(cut), "issuer_untrusted"),
        ("approval.json", Box::new(replaced("\"answer\":\"yes\"", "\"answer\":\"no\"")), "parts_differ"),
        ("approval.json", Box::new(replaced("\"answer\":\"yes\"", "\"answer\": \"yes\"")), "approval_malformed"),
        (
            "approval.json",
            Box::new(replaced("\"amount_minor\":\"250000\"", "\"amount_minor\":\"150000\"")),
            "parts_differ",
        ),
        (
            "approval.json",
            Box::new(replaced("\"settlement\":\"embedded\"", "\"settlement\":\"external\"")),
            "parts_differ",
        ),
        ("approval.json", Box::new(replaced("looked at", "had a look")), "parts_differ"),
        ("mandate/mandate.sd-jwt", Box::new(cut), "parts_differ"),
        ("mandate/owner.der", Box::new(|bytes| *bytes.last_mut().unwrap() ^= 1), "signature_invalid"),
        ("mandate/entered.tlog-proof", Box::new(cut), "checkpoint_malformed"),
        ("words/1.tlog-proof", Box::new(replaced("\nindex ", "\nindex 1")), "leaf_not_in_log"),
    ];
    for (part, change, expected) in table {
        let (name, told) = with(part, &*change);
        assert_eq!(name, expected, "{part}: {told}");
        // An issuing CA is told of by the certificate that it is to vouch for; of two that differ one is named.
        let is_named = told.contains(part) || name == "parts_differ" || part.starts_with("certificates/issuing");
        assert!(is_named, "{part}: {told}");
    }
}

#[test]
fn a_part_that_is_missing_too_many_or_of_another_payment_is_refused() {
    let (bank, paid) = Bank::with_payments();
    let Paid { bought, approved, .. } = &paid;
    let (parts, others) = (members(&bundle_of(&bank, approved)), members(&bundle_of(&bank, bought)));
    for name in parts.keys() {
        let mut less = parts.clone();
        less.remove(name);
        let (refused, told) = refusal(&bank, &forged(approved, less));
        assert_eq!((refused, told.contains(name.as_str())), ("part_missing", true), "{name}: {told}");
    }
    let mut more = parts.clone();
    more.insert("words/2.tlog-proof".into(), parts["words/1.tlog-proof"].clone());
    assert_eq!(refusal(&bank, &forged(approved, more)).0, "part_unknown");
    let mut more = parts.clone();
    more.insert("readme.txt".into(), b"trust me".to_vec());
    assert_eq!(refusal(&bank, &forged(approved, more)).0, "part_unknown");
    // Each part of the one payment in the evidence of the other.
    for name in ["authorization.tlog-proof", "receipt.json"] {
        let mut mixed = parts.clone();
        mixed.insert(name.into(), others[name].clone());
        assert_eq!(refusal(&bank, &forged(approved, mixed)).0, "parts_differ", "{name}");
    }
    // Leaves exchanged for each other, each of them real.
    let leaves = ["authorization.tlog-proof", "words/1.tlog-proof", "mandate/entered.tlog-proof"];
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        let mut mixed = parts.clone();
        mixed.insert(leaves[one].into(), parts[leaves[other]].clone());
        mixed.insert(leaves[other].into(), parts[leaves[one]].clone());
        assert_eq!(refusal(&bank, &forged(approved, mixed)).0, "parts_differ", "{one} and {other}");
    }
    // The agent's certificate for the owner's, which has another profile.
    let mut mixed = parts.clone();
    mixed.insert("mandate/owner.der".into(), parts["certificates/agent.der"].clone());
    assert_ne!(refusal(&bank, &forged(approved, mixed)).0, "parts_differ");
    assert_eq!(refusal(&bank, &forged(bought, parts)).0, "parts_differ", "the manifest names another payment");
}

#[test]
fn an_archive_of_another_shape_is_no_bundle() {
    let (bank, paid) = Bank::with_payments();
    let file = bundle_of(&bank, &paid.bought);
    let all = tar::read(&file).unwrap();
    let name = |all: &[Member]| refusal(&bank, &tar::write(all).unwrap()).0;
    assert_eq!(name(&all[1..]), "bundle_malformed", "no manifest");
    assert_eq!(name(&all[..all.len() - 1]), "member_missing");
    let mut order = all.clone();
    order.swap(1, 2);
    assert_eq!(name(&order), "member_missing");
    let twice = [&all[..], &all[1..2]].concat();
    assert_eq!(name(&twice), "member_unknown");
    let mut manifest: Value = serde_json::from_slice(&all[0].bytes).unwrap();
    manifest["more"] = json!(1);
    let mut other = all.clone();
    other[0].bytes = format!("{manifest}\n").into_bytes();
    assert_eq!(name(&other), "manifest_malformed");
    for bad in [&b""[..], b"{}", &file[..file.len() - 1], &file[1..], &[&file[..], b"\0"].concat()] {
        assert_eq!(refusal(&bank, bad).0, "bundle_malformed");
    }
    assert_eq!(refusal(&bank, &vec![0; 5 * 1024 * 1024]).0, "bundle_too_large");
}
