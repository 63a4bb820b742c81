//! Receipts as an outsider attacks them: every byte, every rule.

use std::sync::Arc;
use std::time::Duration;

use countersign::audit::{Log, LogRoles};
use countersign::hsm::CertifiedKey;
use countersign::kernel::canon::canonical;
use countersign::kernel::cosignature::{Anchored, CosignatureEvidence};
use countersign::kernel::leaf_proof::{self, LeafProof};
use countersign::kernel::note::{Checkpoint, NoteSignature, SignedNote};
use countersign::kernel::receipt::{Base64, Receipt, Salt, verify, verify_witnessed};
use countersign::kernel::sign::{Algorithm, DocumentTag, Purpose, SignInput};
use countersign::kernel::tlog_proof::TlogProof;
use countersign::kernel::types::Sha256;
use countersign::store::{Cosignature, Store};
use rcgen::{
    CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, date_time_ymd,
};
use serde_json::json;

use super::log::{advance_all, open};
use super::memory::MemoryStore;
use super::parties::{Bank, OID_BASE, usage};

/// A receipt from a real log: the third of five in its batch, among other leaves.
pub fn issued() -> (Bank, Receipt) {
    let (bank, store) = (Bank::new(), Arc::new(MemoryStore::default()));
    store.add_leaves(9);
    let ids = store.post(&bank, 7, 5);
    store.add_leaves(4);
    let log = open(&bank, &store);
    advance_all(&log);
    let receipt = log.receipt(&ids[2], Duration::ZERO).unwrap();
    (bank, receipt)
}

/// The same, cosigned by a security company.
pub fn cosigned() -> (Bank, Bank, Receipt) {
    cosigned_by(Algorithm::Ed25519, Algorithm::Ed25519)
}

/// The same, with keys of these algorithms for the log and for its witness.
pub fn cosigned_by(log: Algorithm, witness: Algorithm) -> (Bank, Bank, Receipt) {
    let (bank, secco, store) = (Bank::with_notes(log), Bank::with_notes(witness), Arc::new(MemoryStore::default()));
    store.add_leaves(9);
    let ids = store.post(&bank, 7, 5);
    let log = open(&bank, &store);
    log.trust_witness(secco.root.clone());
    advance_all(&log);
    let signed = store.signed_checkpoint().unwrap().unwrap();
    let checkpoint = Checkpoint::parse(std::str::from_utf8(&signed.note).unwrap()).unwrap();
    store.store_cosignature(signed.size, secco.cosign(&checkpoint)).unwrap();
    // The newest checkpoint has no cosignature yet: the receipt goes by the one before.
    store.add_leaves(4);
    advance_all(&log);
    let receipt = log.receipt(&ids[2], Duration::ZERO).unwrap();
    (bank, secco, receipt)
}

pub fn refusal(bank: &Bank, bytes: &[u8]) -> Option<&'static str> {
    verify(bytes, &bank.root, OID_BASE).err().map(|refusal| refusal.name())
}

fn chain(certificates: Vec<Vec<u8>>) -> Vec<Base64> {
    certificates.into_iter().map(Base64).collect()
}

#[test]
fn a_receipt_proves_its_transaction() {
    let (bank, receipt) = issued();
    let bytes = receipt.to_bytes().unwrap();
    let verdict = verify(&bytes, &bank.root, OID_BASE).unwrap();
    assert_eq!(verdict.statement().amount_minor, "189999");
    assert_eq!((verdict.leaf_index(), verdict.checkpoint().size), (11, 18));
    assert!(verdict.signers().0.contains("bank transaction") && verdict.signers().1.contains("bank checkpoint"));
}

#[test]
fn a_witness_is_told_by_its_root() {
    let (bank, secco, receipt) = cosigned();
    let bytes = receipt.to_bytes().unwrap();
    let verified = |root| verify_witnessed(&bytes, &bank.root, root, OID_BASE);
    let verdict = verified(Some(&secco.root)).unwrap();
    assert_eq!(verdict.checkpoint().size, 14, "the newest that is cosigned");
    let [cosigner] = verdict.cosigners() else { panic!("one witness") };
    assert_eq!((cosigner.name(), cosigner.anchored()), ("secco.example/witness", Anchored::Yes));
    assert_eq!(cosigner.at(), "2026-11-21T04:20:40.000Z");
    assert!(cosigner.subject().contains("bank witness"));
    assert_eq!(verified(None).unwrap().cosigners()[0].anchored(), Anchored::No);
    assert_eq!(verified(Some(&bank.root)).unwrap_err().name(), "cosignature_missing");
    let (bank, receipt) = issued();
    let bytes = receipt.to_bytes().unwrap();
    let missing = verify_witnessed(&bytes, &bank.root, Some(&secco.root), OID_BASE).unwrap_err();
    assert_eq!(missing.name(), "cosignature_missing");
}

#[test]
fn a_reversal_that_a_person_let_has_a_receipt() {
    let (bank, paid) = super::payments::Bank::with_payments();
    let back = bank.reverses(&paid.bought);
    let receipt = bank.log.receipt(&back, Duration::ZERO).unwrap();
    let verdict = verify(&receipt.to_bytes().unwrap(), &bank.kit.root, OID_BASE).unwrap();
    assert_eq!((verdict.statement().kind.as_str(), &verdict.statement().transaction_id), ("reversal", &back));
    assert_eq!(bank.log.check().unwrap()["sound"], true);
}

#[test]
fn a_row_beside_a_checkpoint_is_nobodys_word_until_it_verifies() {
    let (bank, secco, stranger) = (Bank::new(), Bank::new(), Bank::new());
    let store = Arc::new(MemoryStore::default());
    let ids = store.post(&bank, 7, 5);
    let log = open(&bank, &store);
    advance_all(&log);
    let signed = store.signed_checkpoint().unwrap().unwrap();
    let checkpoint = Checkpoint::parse(std::str::from_utf8(&signed.note).unwrap()).unwrap();
    let other = Checkpoint { size: checkpoint.size + 1, ..checkpoint.clone() };
    let words = |log: &Log| log.receipt(&ids[2], Duration::ZERO).unwrap().log.cosignatures.len();
    let genuine = secco.cosign(&checkpoint);

    store.store_cosignature(signed.size, genuine.clone()).unwrap();
    assert_eq!((log.cosigned().unwrap(), words(&log)), (None, 0), "nobody is trusted yet");
    log.trust_witness(secco.root.clone());
    let table = [
        ("of another PKI", stranger.cosign(&checkpoint), 0),
        ("the witness's", genuine.clone(), 1),
        ("of another checkpoint", secco.cosign(&other), 0),
        (
            "the witness's line under another's certificates",
            Cosignature { chain: stranger.cosign(&other).chain, ..genuine.clone() },
            0,
        ),
        ("no line", Cosignature { line: "true".into(), ..genuine.clone() }, 0),
        ("the witness's again", genuine, 1),
    ];
    for (what, cosignature, expected) in table {
        store.store_cosignature(signed.size, cosignature).unwrap();
        assert_eq!((usize::from(log.cosigned().unwrap().is_some()), words(&log)), (expected, expected), "{what}");
        assert_eq!(log.head(Duration::ZERO).unwrap().witnesses.len(), expected, "{what}");
    }
    log.trust_witness(stranger.root.clone());
    assert_eq!((log.cosigned().unwrap(), words(&log)), (None, 0), "another root is trusted now");
}

#[test]
fn a_receipt_says_of_which_type_its_notes_are_and_nothing_else_is_taken() {
    use Algorithm::{Ed25519, P256};
    let own = [Some("countersign/note-p256/v1".to_owned()), Some("countersign/cosignature-p256/v1".to_owned())];
    for (log, witness) in [(Ed25519, Ed25519), (Ed25519, P256), (P256, Ed25519), (P256, P256)] {
        let (bank, secco, receipt) = cosigned_by(log, witness);
        let verified = |receipt: &Receipt| {
            let bytes = receipt.to_bytes().unwrap();
            verify_witnessed(&bytes, &bank.root, Some(&secco.root), OID_BASE)
        };
        let said = [receipt.log.note_type.clone(), receipt.log.cosignatures[0].note_type.clone()];
        let expected = [own[0].clone().filter(|_| log == P256), own[1].clone().filter(|_| witness == P256)];
        assert_eq!(said, expected);
        let verdict = verified(&receipt).unwrap();
        assert_eq!(
            (verdict.checkpoint_type().algorithm(), verdict.cosigners()[0].signature_type().algorithm()),
            (log, witness)
        );
        // The file says what is, or it is refused.
        for other in [None, own[0].clone(), own[1].clone(), Some("ed25519".into()), Some("cosignature/v1".into())] {
            let (mut by_log, mut by_witness) = (receipt.clone(), receipt.clone());
            by_log.log.note_type.clone_from(&other);
            by_witness.log.cosignatures[0].note_type.clone_from(&other);
            for (changed, is_it) in [(by_log, other == expected[0]), (by_witness, other == expected[1])] {
                let refused = verified(&changed).err().map(|refusal| refusal.name());
                assert_eq!(refused, (!is_it).then_some("note_type_differs"), "{log:?} {witness:?} {other:?}");
            }
        }
        // No line is turned into one of the other type.
        let other = Bank::with_notes(if log == P256 { Ed25519 } else { P256 });
        let mut foreign = receipt.clone();
        foreign.log.chain =
            chain(bank.chain_of_key(Purpose::Checkpoint, other.keys.key(Purpose::Checkpoint).1, |_| {}));
        foreign.log.note_type = own[0].clone().filter(|_| log != P256);
        assert_eq!(verified(&foreign).unwrap_err().name(), "checkpoint_signature_invalid");
        let other = Bank::with_notes(if witness == P256 { Ed25519 } else { P256 });
        let mut foreign = receipt.clone();
        let evidence = &mut foreign.log.cosignatures[0];
        evidence.chain = chain(secco.chain_of_key(Purpose::Witness, other.keys.key(Purpose::Witness).1, |_| {}));
        evidence.note_type = own[1].clone().filter(|_| witness != P256);
        assert_eq!(verified(&foreign).unwrap_err().name(), "cosignature_invalid");
    }
}

#[test]
fn a_proof_says_of_which_types_its_notes_are_as_soon_as_one_is_ours() {
    use Algorithm::{Ed25519, P256};
    let names = |log, witness| match (log, witness) {
        (Ed25519, Ed25519) => vec![],
        (log, witness) => vec![
            if log == P256 { "countersign/note-p256/v1" } else { "ed25519" },
            if witness == P256 { "countersign/cosignature-p256/v1" } else { "cosignature/v1" },
        ],
    };
    for (log, witness) in [(Ed25519, Ed25519), (Ed25519, P256), (P256, Ed25519), (P256, P256)] {
        let (bank, secco, receipt) = cosigned_by(log, witness);
        // A proof of the same leaf, put together from the receipt's parts.
        let mut checkpoint = SignedNote::parse(receipt.log.checkpoint.as_bytes()).unwrap();
        let cosignature = &receipt.log.cosignatures[0];
        checkpoint.signatures.push(NoteSignature::parse(&cosignature.line).unwrap());
        let bytes = |chain: &[Base64]| chain.iter().map(|one| one.0.clone()).collect::<Vec<_>>();
        let proof = LeafProof {
            index: receipt.log.leaf_index,
            salt: receipt.log.salt.0,
            body: receipt.log.body.clone(),
            path: receipt.log.path.clone(),
            checkpoint,
            chain: bytes(&receipt.log.chain),
            witnesses: vec![bytes(&cosignature.chain)],
        };
        let file = proof.compose().unwrap();
        let verified =
            |file: &str| leaf_proof::verify_witnessed(file.as_bytes(), &bank.root, Some(&secco.root), OID_BASE);
        assert_eq!(verified(&file).unwrap().checkpoint_type().algorithm(), log);
        let mut parts = TlogProof::parse(&file).unwrap();
        let mut extra: serde_json::Value = serde_json::from_slice(parts.extra.as_deref().unwrap()).unwrap();
        let said = names(log, witness);
        assert_eq!(extra.get("note_types").cloned().unwrap_or(json!([])), json!(said));
        for other in [json!(["ed25519", "cosignature/v1"]), json!(["countersign/note-p256/v1"]), json!(null)] {
            extra["note_types"] = other.clone();
            if other.is_null() {
                extra.as_object_mut().unwrap().remove("note_types");
            }
            parts.extra = Some(canonical(&extra).unwrap());
            let refused = verified(&parts.compose()).err().map(|refusal| refusal.name());
            let is_it = other.is_null() && said.is_empty();
            assert_eq!(refused, (!is_it).then_some("note_type_differs"), "{log:?} {witness:?} {other}");
        }
    }
}

#[test]
fn each_broken_cosignature_has_its_name() {
    type Break = fn(&Bank, &Bank, &mut Receipt);
    let table: [(&str, &str, Break); 11] = [
        ("no chain", "chain_length", |_, _, receipt| receipt.log.cosignatures[0].chain.clear()),
        ("a line without a time", "cosignature_malformed", |_, _, receipt| {
            receipt.log.cosignatures[0].line = "\u{2014} secco.example/witness AAAAAAA=".into();
        }),
        ("another name", "cosignature_invalid", |_, _, receipt| {
            receipt.log.cosignatures[0].line = receipt.log.cosignatures[0].line.replace("secco.", "other.");
        }),
        ("another checkpoint", "cosignature_invalid", |_, secco, receipt| {
            let other = Checkpoint { origin: "other".into(), size: 14, root: Sha256::of(&[]) };
            receipt.log.cosignatures[0].line = secco.cosign(&other).line;
        }),
        ("another witness's key", "cosignature_invalid", |bank, _, receipt| {
            receipt.log.cosignatures[0].chain = chain(bank.chain(Purpose::Witness, |_| {}));
        }),
        ("the log's own signature", "cosignature_malformed", |bank, _, receipt| {
            let note = SignedNote::parse(receipt.log.checkpoint.as_bytes()).unwrap();
            let mut short = note.signatures[0].clone();
            short.signature.truncate(4);
            receipt.log.cosignatures[0].line = short.to_string();
            receipt.log.cosignatures[0].chain = chain(bank.chain(Purpose::Checkpoint, |_| {}));
        }),
        ("a key for transactions", "chain_wrong_purpose", |_, secco, receipt| {
            receipt.log.cosignatures[0].chain = chain(secco.chain(Purpose::Transaction, |_| {}));
        }),
        ("a certificate that had ended", "chain_not_valid_then", |_, secco, receipt| {
            let ended = secco.chain(Purpose::Witness, |params| params.not_after = date_time_ymd(2026, 11, 21));
            receipt.log.cosignatures[0].chain = chain(ended);
        }),
        ("a root that signed nothing", "chain_signature_invalid", |bank, secco, receipt| {
            let mut mixed = secco.chain(Purpose::Witness, |_| {});
            mixed[2] = bank.root.clone();
            receipt.log.cosignatures[0].chain = chain(mixed);
        }),
        ("one too many", "cosignature_malformed", |_, _, receipt| {
            receipt.log.cosignatures = vec![receipt.log.cosignatures[0].clone(); 17];
        }),
        ("none at all", "cosignature_missing", |_, _, receipt| receipt.log.cosignatures.clear()),
    ];
    let (bank, secco, receipt) = cosigned();
    for (what, name, change) in table {
        let mut changed = receipt.clone();
        change(&bank, &secco, &mut changed);
        let bytes = changed.to_bytes().unwrap();
        let refused = verify_witnessed(&bytes, &bank.root, Some(&secco.root), OID_BASE).unwrap_err();
        assert_eq!(refused.name(), name, "{what}");
    }
}

#[test]
fn a_receipt_carries_the_certificate_that_its_transaction_was_signed_under() {
    let (bank, store) = (Bank::new(), Arc::new(MemoryStore::default()));
    let posted = store.post(&bank, 1, 1);
    let log = open(&bank, &store);
    advance_all(&log);
    // The same key was certified anew since, by a renewal or under the next issuing CA.
    let before = bank.certified(Purpose::Transaction);
    let later = |params: &mut rcgen::CertificateParams| params.not_before = date_time_ymd(2026, 11, 22);
    let renewed = CertifiedKey { key: before.key.clone(), chain: bank.chain(Purpose::Transaction, later) };
    let checkpoint = bank.certified(Purpose::Checkpoint);
    for earlier in [vec![before.clone()], vec![renewed.clone(), before.clone()]] {
        let (checkpoint, transaction) = (checkpoint.clone(), Some(renewed.clone()));
        log.replace_roles(LogRoles { checkpoint, transaction, earlier });
        let receipt = log.receipt(&posted[0], Duration::ZERO).unwrap();
        assert_eq!(receipt.batch.chain[0].0, before.chain[0]);
    }
}

#[test]
fn the_compact_text_says_the_same() {
    let (bank, secco, receipt) = cosigned();
    let (json, text) = (receipt.to_bytes().unwrap(), receipt.to_text().unwrap());
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra ") && text.len() < json.len(), "{}", text.len());
    let said = |bytes: &[u8]| verify_witnessed(bytes, &bank.root, Some(&secco.root), OID_BASE).unwrap();
    assert_eq!(said(text.as_bytes()), said(&json));
    // What other tools read of it: the entry of the leaf is under the checkpoint, with both signatures.
    let proof = TlogProof::parse(&text).unwrap();
    assert_eq!((proof.index, &proof.path), (receipt.log.leaf_index, &receipt.log.path));
    assert_eq!(SignedNote::parse(proof.checkpoint.as_bytes()).unwrap().signatures.len(), 2);
    let (bank, receipt) = issued();
    let text = receipt.to_text().unwrap();
    assert_eq!(refusal(&bank, text.as_bytes()), None);
    assert_eq!(refusal(&secco, text.as_bytes()), Some("chain_root_differs"));
}

#[test]
fn a_compact_text_has_one_writing() {
    let (bank, _, receipt) = cosigned();
    let text = receipt.to_text().unwrap();
    let proof = TlogProof::parse(&text).unwrap();
    let bytes = proof.extra.clone().unwrap();
    let (extra, certificates) = bytes.split_at(bytes.iter().position(|byte| *byte == b'\n').unwrap());
    let extra: serde_json::Value = serde_json::from_slice(extra).unwrap();
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut extra = extra.clone();
        change(&mut extra);
        let extra = Some([&canonical(&extra).unwrap(), certificates].concat());
        TlogProof { extra, ..proof.clone() }.compose()
    };
    assert_eq!(changed(&|_| {}), text);
    let rows: [(&str, String); 11] = [
        ("another schema", changed(&|extra| extra["schema"] = json!("countersign/receipt-text/v2"))),
        (
            "a certificate that nobody names",
            changed(&|extra| {
                extra["certificates"].as_array_mut().unwrap().push(json!(0));
            }),
        ),
        (
            "certificates cut elsewhere",
            changed(&|extra| {
                let cut = |by: i64, length: &serde_json::Value| json!(length.as_i64().unwrap() + by);
                extra["certificates"][0] = cut(1, &extra["certificates"][0]);
                extra["certificates"][1] = cut(-1, &extra["certificates"][1]);
            }),
        ),
        ("something behind the certificates", {
            let extra = Some([bytes.as_slice(), b"x"].concat());
            TlogProof { extra, ..proof.clone() }.compose()
        }),
        ("a certificate that is not there", changed(&|extra| extra["chain"][0] = json!(99))),
        ("a witness too few", changed(&|extra| extra["witnesses"] = json!([]))),
        (
            "a witness too many",
            changed(&|extra| {
                let first = extra["witnesses"][0].clone();
                extra["witnesses"].as_array_mut().unwrap().push(first);
            }),
        ),
        ("a member more", changed(&|extra| extra["more"] = json!(1))),
        ("no extra", TlogProof { extra: None, ..proof.clone() }.compose()),
        ("a line feed more", format!("{text}\n")),
        ("the JSON's schema", changed(&|extra| extra["schema"] = json!("countersign/receipt/v1"))),
    ];
    for (what, text) in rows {
        let name =
            if what == "certificates cut elsewhere" { "chain_certificate_malformed" } else { "receipt_malformed" };
        assert_eq!(refusal(&bank, text.as_bytes()), Some(name), "{what}");
    }
}

#[test]
fn every_single_changed_byte_of_a_receipt_is_refused() {
    // Without the witness's root, too: no byte of its word is of no account.
    let (bank, _, receipt) = cosigned();
    for bytes in [receipt.to_bytes().unwrap(), receipt.to_text().unwrap().into_bytes()] {
        every_changed_byte_is_refused(&bank, &bytes);
    }
}

fn every_changed_byte_is_refused(bank: &Bank, bytes: &[u8]) {
    let refusal = |bytes: &[u8]| refusal(bank, bytes);
    assert_eq!(refusal(bytes), None);
    // The lowest bit, and the bit between upper and lower case, space and NUL, '=' and GS.
    let try_all = |positions: std::ops::Range<usize>| {
        let mut changed = bytes.to_vec();
        for position in positions {
            for bit in [0x01, 0x20] {
                changed[position] ^= bit;
                assert_ne!(refusal(&changed), None, "byte {position} ^ {bit:#x}");
                changed[position] ^= bit;
            }
        }
    };
    let middle = bytes.len() / 2;
    std::thread::scope(|scope| {
        scope.spawn(|| try_all(0..middle));
        scope.spawn(|| try_all(middle..bytes.len()));
    });
}

#[test]
fn nothing_can_be_added_to_a_receipt_or_left_out() {
    let (bank, receipt) = issued();
    let bytes = receipt.to_bytes().unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let cases = [
        ("no newline", text.trim_end().to_owned()),
        ("two newlines", format!("{text}\n")),
        ("a space first", format!(" {text}")),
        ("CRLF", text.replace('\n', "\r\n")),
        ("pretty-printed", format!("{:#}\n", serde_json::to_value(&receipt).unwrap())),
    ];
    for (what, changed) in cases {
        assert_eq!(refusal(&bank, changed.as_bytes()), Some("receipt_not_canonical"), "{what}");
    }
    let malformed = [
        ("empty", String::new()),
        ("half", text[..text.len() / 2].to_owned()),
        ("an unknown field", text.replacen("{\"batch\"", "{\"a\":1,\"batch\"", 1)),
        ("a duplicate field", text.replacen("{\"batch\"", "{\"schema\":\"x\",\"batch\"", 1)),
        ("a missing field", text.replacen("\"cosignatures\":[],", "", 1)),
        ("wrongly padded base64", text.replacen("\"},\"log\"", "=\"},\"log\"", 1)),
        ("an array", "[]".to_owned()),
        ("deep nesting", "[".repeat(100_000)),
    ];
    for (what, changed) in malformed {
        assert_ne!(changed, text, "{what} changes nothing");
        assert_eq!(refusal(&bank, changed.as_bytes()), Some("receipt_malformed"), "{what}");
    }
    assert_eq!(refusal(&bank, &vec![b' '; 1024 * 1024 + 1]), Some("receipt_too_large"));
}

#[test]
fn each_broken_rule_has_its_name() {
    type Break = fn(&Bank, &mut Receipt);
    let table: [(&str, &str, Break); 31] = [
        ("another schema", "receipt_unknown_schema", |_, receipt| receipt.schema = "countersign/receipt/v2".into()),
        ("a spaced statement", "statement_not_canonical", |_, receipt| receipt.statement.insert(1, ' ')),
        ("another statement", "statement_malformed", |_, receipt| receipt.statement = "{}".into()),
        ("a time in another form", "posted_at_malformed", |_, receipt| {
            receipt.statement = receipt.statement.replace(".125Z", ".125+00:00");
        }),
        ("a larger amount", "statement_not_in_batch", |_, receipt| {
            receipt.statement = receipt.statement.replace("189999", "199999");
        }),
        ("another place in the batch", "statement_not_in_batch", |_, receipt| receipt.batch.index += 1),
        ("a place beyond the batch", "statement_not_in_batch", |_, receipt| receipt.batch.index = 5),
        ("a short batch path", "statement_not_in_batch", |_, receipt| receipt.batch.path.truncate(1)),
        ("another count", "batch_count_differs", |_, receipt| receipt.batch.count += 1),
        ("a batch document without a root", "batch_document_malformed", |_, receipt| {
            receipt.batch.document = "{\"count\":5,\"schema\":\"countersign/batch/v1\"}".into();
        }),
        ("a batch document of another schema", "batch_document_malformed", |_, receipt| {
            receipt.batch.document = receipt.batch.document.replace("batch/v1", "batch/v2");
        }),
        ("a spaced batch document", "batch_document_malformed", |_, receipt| receipt.batch.document.push(' ')),
        ("a batch document nobody signed", "batch_signature_invalid", |_, receipt| {
            receipt.batch.document = receipt.batch.document.replace("\"batch\":7", "\"batch\":8");
        }),
        ("a signature under another tag", "batch_signature_invalid", |bank, receipt| {
            let pair = bank.keys.key(Purpose::Transaction).1;
            let canonical_json = receipt.batch.document.clone().into_bytes();
            let input = SignInput::Document { tag: DocumentTag::Catalogue, canonical_json };
            receipt.batch.signature = Base64(rcgen::SigningKey::sign(pair, &input.message()).unwrap());
        }),
        ("the transaction key's chain for the checkpoint", "chain_wrong_purpose", |_, receipt| {
            receipt.log.chain = receipt.batch.chain.clone();
        }),
        ("a body that is no JSON", "body_malformed", |_, receipt| receipt.log.body.push('x')),
        ("a body that is a list", "body_malformed", |_, receipt| receipt.log.body = "[]".into()),
        ("a body without a transaction", "body_names_another", |_, receipt| receipt.log.body = "{}".into()),
        ("a spaced body", "body_malformed", |_, receipt| receipt.log.body.insert(1, ' ')),
        ("the record of a repeat", "body_not_this_posting", |_, receipt| {
            receipt.log.body = receipt.log.body.replace("\"repeated\":false", "\"repeated\":true");
        }),
        ("the record of the authorization", "body_not_this_posting", |_, receipt| {
            receipt.log.body = receipt.log.body.replace("executed", "approved");
        }),
        ("the record of another statement", "body_not_this_posting", |_, receipt| {
            let hash = Sha256::of(&[receipt.statement.as_bytes()]).hex();
            receipt.log.body = receipt.log.body.replace(&hash, &Sha256::of(&[]).hex());
        }),
        ("another body", "commitment_differs", |_, receipt| {
            receipt.log.body = receipt.log.body.replace("execute_purchase", "execute_transfer");
        }),
        ("another salt", "commitment_differs", |_, receipt| receipt.log.salt = Salt([0; 32])),
        ("body and commitment of our own", "leaf_not_in_log", |_, receipt| {
            receipt.log.body = receipt.log.body.replace("execute_purchase", "execute_transfer");
            receipt.log.commitment = Sha256::of(&[&receipt.log.salt.0, receipt.log.body.as_bytes()]);
        }),
        ("another place in the log", "leaf_not_in_log", |_, receipt| receipt.log.leaf_index -= 1),
        ("no log path", "leaf_not_in_log", |_, receipt| receipt.log.path.clear()),
        ("a second signature line", "checkpoint_malformed", |_, receipt| {
            receipt.log.checkpoint.push_str("\u{2014} someone AAAAAAA=\n");
        }),
        ("a checkpoint nobody signed", "checkpoint_signature_invalid", |_, receipt| {
            receipt.log.checkpoint = receipt.log.checkpoint.replace("\n18\n", "\n19\n");
        }),
        ("a checkpoint under another name", "checkpoint_signature_invalid", |bank, receipt| {
            let root = Sha256::of(&[b"another tree"]);
            let text = Checkpoint { origin: "other.example".into(), size: 18, root }.text();
            let signature = bank.sign(Purpose::Checkpoint, SignInput::TreeHead { note: text.clone().into_bytes() });
            let spki = &bank.keys.key(Purpose::Checkpoint).0.spki;
            let mut line = NoteSignature::over_text("other.example", spki, &signature).unwrap();
            line.name = "bank.countersign.example/log".into();
            receipt.log.checkpoint = SignedNote { text, signatures: vec![line] }.compose();
        }),
        ("a cosignature that is no line", "cosignature_malformed", |_, receipt| {
            let line = "\u{2014} w+ AAAAAAA=".into();
            receipt.log.cosignatures.push(CosignatureEvidence::new(line, vec![]));
        }),
    ];
    let (bank, receipt) = issued();
    for (what, name, change) in table {
        let mut changed = receipt.clone();
        change(&bank, &mut changed);
        assert_eq!(refusal(&bank, &changed.to_bytes().unwrap()), Some(name), "{what}");
    }
}

#[test]
fn each_broken_chain_has_its_name() {
    let (bank, receipt) = issued();
    let other = Bank::new();
    let p256 = KeyPair::generate().unwrap();
    let transaction = Purpose::Transaction;
    let flipped_signature = {
        let mut certificates = bank.chain(transaction, |_| {});
        let last = certificates[0].len() - 1;
        certificates[0][last] ^= 1;
        certificates
    };
    let shuffled = |order: [usize; 3]| {
        let certificates = bank.chain(transaction, |_| {});
        order.map(|index| certificates[index].clone()).to_vec()
    };
    let trailing = {
        let mut certificates = bank.chain(transaction, |_| {});
        certificates[0].push(0);
        certificates
    };
    let with_issuing_of_another = {
        let mut certificates = other.chain(transaction, |_| {});
        certificates[2] = bank.root.clone();
        certificates
    };
    let table = [
        ("an empty chain", "chain_length", vec![]),
        ("no root", "chain_length", bank.chain(transaction, |_| {})[..2].to_vec()),
        ("another bank's chain", "chain_root_differs", other.chain(transaction, |_| {})),
        ("own and issuing exchanged", "chain_issuer_differs", shuffled([1, 0, 2])),
        ("the issuing CA twice", "chain_issuer_differs", shuffled([1, 1, 2])),
        ("another bank's chain under this root", "chain_signature_invalid", with_issuing_of_another),
        ("a byte after the certificate", "chain_certificate_malformed", trailing),
        ("a flipped bit in a signature", "chain_signature_invalid", flipped_signature),
        (
            "an unknown critical extension",
            "chain_critical_extension",
            bank.chain(transaction, |params| {
                let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 32473, 9], vec![5, 0]);
                extension.set_criticality(true);
                params.custom_extensions.push(extension);
            }),
        ),
        ("an issuer that is no CA", "chain_not_ca", bank.chain_under(transaction, |params| params.is_ca = IsCa::NoCa)),
        (
            "an issuer that may sign CRLs only",
            "chain_not_ca",
            bank.chain_under(transaction, |params| params.key_usages = vec![KeyUsagePurpose::CrlSign]),
        ),
        (
            "a signing certificate that is a CA",
            "chain_not_for_signing",
            bank.chain(transaction, |params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
        ),
        (
            "a further key usage",
            "chain_not_for_signing",
            bank.chain(transaction, |params| params.key_usages.push(KeyUsagePurpose::KeyAgreement)),
        ),
        ("no key usage", "chain_not_for_signing", bank.chain(transaction, |params| params.key_usages.clear())),
        (
            "a catalogue key's purpose",
            "chain_wrong_purpose",
            bank.chain(transaction, |params| params.extended_key_usages = vec![usage(5)]),
        ),
        (
            "no extended key usage",
            "chain_wrong_purpose",
            bank.chain(transaction, |params| params.extended_key_usages.clear()),
        ),
        (
            "TLS beside the purpose",
            "chain_wrong_purpose",
            bank.chain(transaction, |params| {
                params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            }),
        ),
        (
            "an Ed25519 key for transactions",
            "chain_key_type",
            bank.chain_of_key(transaction, bank.keys.key(Purpose::Checkpoint).1, |_| {}),
        ),
        (
            "expired when posted",
            "chain_not_valid_then",
            bank.chain(transaction, |params| params.not_after = date_time_ymd(2026, 11, 21)),
        ),
        (
            "not yet valid when posted",
            "chain_not_valid_then",
            bank.chain(transaction, |params| params.not_before = date_time_ymd(2026, 11, 22)),
        ),
        (
            "an issuer that had expired",
            "chain_not_valid_then",
            bank.chain_under(transaction, |params| params.not_after = date_time_ymd(2026, 6, 1)),
        ),
        ("another certified key", "batch_signature_invalid", bank.chain_of_key(transaction, &p256, |_| {})),
    ];
    for (what, name, certificates) in table {
        let mut changed = receipt.clone();
        changed.batch.chain = chain(certificates);
        assert_eq!(refusal(&bank, &changed.to_bytes().unwrap()), Some(name), "{what}");
    }
}

#[test]
fn a_checkpoint_key_may_be_younger_than_the_posting_but_not_expired_before_it() {
    let (bank, receipt) = issued();
    let with = |certificates: Vec<Vec<u8>>| {
        let mut changed = receipt.clone();
        changed.log.chain = chain(certificates);
        refusal(&bank, &changed.to_bytes().unwrap())
    };
    let younger = bank.chain(Purpose::Checkpoint, |params| params.not_before = date_time_ymd(2026, 12, 1));
    assert_eq!(with(younger), None);
    let expired = bank.chain(Purpose::Checkpoint, |params| params.not_after = date_time_ymd(2026, 11, 21));
    assert_eq!(with(expired), Some("chain_not_valid_then"));
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    assert_eq!(with(bank.chain_of_key(Purpose::Checkpoint, &p384, |_| {})), Some("chain_key_type"));
}

#[test]
fn a_receipt_counts_only_under_the_root_and_the_oids_of_its_reader() {
    let (bank, receipt) = issued();
    let bytes = receipt.to_bytes().unwrap();
    let name = |root: &[u8], base: &str| verify(&bytes, root, base).unwrap_err().name();
    assert_eq!(name(&Bank::new().root, OID_BASE), "chain_root_differs");
    assert_eq!(name(&[], OID_BASE), "chain_root_differs");
    assert_eq!(name(&bank.issuing, OID_BASE), "chain_root_differs");
    assert_eq!(name(&bank.root, "1.3.6.1.4.1.99999"), "chain_wrong_purpose");
    assert_eq!(name(&bank.root, ""), "chain_wrong_purpose");
}

#[test]
fn a_statement_for_one_transaction_cannot_borrow_the_decision_of_another() {
    let (bank, store) = (Bank::new(), Arc::new(MemoryStore::default()));
    let ids = store.post(&bank, 1, 2);
    let log = open(&bank, &store);
    advance_all(&log);
    let mut one = log.receipt(&ids[0], Duration::ZERO).unwrap();
    one.log = log.receipt(&ids[1], Duration::ZERO).unwrap().log;
    assert_eq!(refusal(&bank, &one.to_bytes().unwrap()), Some("body_names_another"));
    // A body that mentions the transaction elsewhere than in its result names nothing.
    let body = canonical(&json!({ "request": { "transaction_id": ids[0] }, "result": null })).unwrap();
    one.log.body = String::from_utf8(body).unwrap();
    assert_eq!(refusal(&bank, &one.to_bytes().unwrap()), Some("body_names_another"));
}
