//! The corpus of evidence: what one bank has handed out, and files that are nearly that.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use countersign::audit::export::{ExportCall, Format};
use countersign::audit::prove::LeafChoice;
use countersign::audit::search::SearchQuery;
use countersign::kernel::note::{Checkpoint, NoteSignature, SignatureType, SignedNote, VerifierKey, verifier_key};
use countersign::kernel::sign::{Algorithm, spki_der};
use countersign::kernel::tile::{Tile, TileKind};
use countersign::kernel::types::Sha256;
use countersign::kernel::witness::AddCheckpoint;
use countersign::kernel::{bundle, leaf_proof, merkle, receipt};

use super::parties::OID_BASE;
use super::payments::Bank;
use crate::support::kit::Key;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// A corpus whose evidence nobody accepts shows nothing.
#[test]
fn the_evidence_of_the_corpus_still_verifies() {
    let read = |path: &str| std::fs::read(fuzz().join(path)).unwrap();
    let root = read("evidence/root.der");
    let receipt = receipt::verify(&read("corpus/receipt/seed-0"), &root, OID_BASE).unwrap();
    let proof = leaf_proof::verify(&read("corpus/proof/seed-0"), &root, OID_BASE).unwrap();
    let bundle = bundle::verify(&read("corpus/bundle/seed-0"), &root, OID_BASE).unwrap();
    assert_eq!(receipt.statement(), bundle.receipt().statement());
    assert_eq!(proof.index(), 5);
    // The text was first written by a program that shares nothing with ours.
    let json: receipt::Receipt = serde_json::from_slice(&read("corpus/receipt/seed-0")).unwrap();
    let text = read("corpus/receipt/text-0");
    assert_eq!(json.to_text().unwrap().as_bytes(), text);
    assert_eq!(receipt::verify(&text, &root, OID_BASE).unwrap().statement(), receipt.statement());
}

/// Keys and signatures are new each time: whoever runs this replaces all of the evidence.
#[test]
#[ignore = "makes the corpus of evidence anew: to be run when the shape of a receipt, proof or bundle has changed"]
fn makes_the_corpus_of_evidence_anew() {
    let (bank, paid) = Bank::with_payments();
    let receipt = bank.log.receipt(&paid.approved, Duration::ZERO).unwrap();
    let receipt_text = receipt.to_text().unwrap();
    let receipt = receipt.to_bytes().unwrap();
    let proof = bank.log.prove(&LeafChoice::Index(5)).unwrap().into_bytes();
    let evidence = bank.log.bundle(&paid.approved, Duration::ZERO).unwrap();
    let head = bank.log.head(Duration::ZERO).unwrap();
    let note = head.checkpoint.clone().into_bytes();
    let checkpoint = head.checkpoint.split("\n\n").next().unwrap().as_bytes().to_vec();
    let export = ExportCall { query: SearchQuery::default(), format: Format::Csv, size: None, span: None };
    let text = bank.log.export(&export).unwrap().text;
    let export = bank.log.sign_export(&export, Sha256::of(&[text.as_bytes()]), &mut |_| {}).unwrap().into_bytes();
    let entries = Tile { kind: TileKind::Entries, index: 0, width: 3 };
    let entries = [&[3][..], &bank.log.tile(entries).unwrap()].concat();
    // The middle byte is another one: nearly right goes furthest.
    let nearly = |file: &[u8]| {
        let mut file = file.to_vec();
        let middle = file.len() / 2;
        file[middle] ^= 1;
        file
    };
    let line = |file: &[u8]| [file, b"\n"].concat();
    let seeds: [(&str, Vec<Vec<u8>>); 6] = [
        ("checkpoint", vec![line(&checkpoint), checkpoint.clone(), nearly(&checkpoint)]),
        ("note", vec![note.clone(), export.clone(), nearly(&note), nearly(&export)]),
        ("proof", vec![proof.clone(), nearly(&proof), proof[..proof.len() - 1].to_vec()]),
        ("receipt", vec![receipt.clone(), nearly(&receipt), receipt[..receipt.len() - 1].to_vec()]),
        ("tile", vec![b"tile/0/x001/x234/067".to_vec(), b"tile/entries/273.p/112".to_vec(), entries]),
        ("bundle", vec![evidence.clone(), nearly(&evidence), evidence[..1024].to_vec()]),
    ];
    std::fs::create_dir_all(fuzz().join("evidence")).unwrap();
    std::fs::write(fuzz().join("evidence/root.der"), &bank.kit.root).unwrap();
    std::fs::write(fuzz().join("corpus/receipt/text-0"), receipt_text).unwrap();
    for (name, seeds) in seeds {
        let place = fuzz().join("corpus").join(name);
        std::fs::create_dir_all(&place).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(place.join(format!("seed-{number}")), seed).unwrap();
        }
    }
}

const ORIGIN: &str = "other.example/log";

/// What the log of the fuzz target hands to a witness, signed by a key of either type.
fn request(old: u8, size: u8, line: impl FnOnce(&str) -> NoteSignature) -> AddCheckpoint {
    let leaves: Vec<Sha256> = (0..size).map(|number| merkle::leaf_hash(&[number])).collect();
    let text = Checkpoint { origin: ORIGIN.into(), size: size.into(), root: merkle::root(&leaves) }.text();
    let proof = if old == 0 { vec![] } else { merkle::consistency_path(&leaves, old.into()) };
    let signatures = vec![line(&text)];
    AddCheckpoint { old_size: old.into(), proof, checkpoint: SignedNote { text, signatures }.compose() }
}

#[test]
fn what_a_log_hands_in_in_the_corpus_is_signed_and_goes_on() {
    let read = |path: &str| std::fs::read_to_string(fuzz().join(path)).unwrap();
    let keys: Vec<VerifierKey> =
        read("evidence/log.keys").lines().map(|word| VerifierKey::parse(word).unwrap()).collect();
    for (seed, key) in [("seed-0", &keys[0]), ("seed-1", &keys[1])] {
        let request = AddCheckpoint::parse(&read(&format!("corpus/add_checkpoint/{seed}"))).unwrap();
        let note = SignedNote::parse(request.checkpoint.as_bytes()).unwrap();
        note.verify(&key.name, &key.spki).unwrap();
        let checkpoint = Checkpoint::parse(&note.text).unwrap();
        let leaves: Vec<Sha256> = (0..20).map(|number| merkle::leaf_hash(&[number])).collect();
        let (old, new) = (merkle::root(&leaves), checkpoint.root);
        assert!(merkle::verify_consistency(20, checkpoint.size, &old, &new, &request.proof), "{seed}");
    }
}

#[test]
#[ignore = "makes the corpus of what is handed to a witness anew: to be run when its shape has changed"]
fn makes_the_corpus_of_add_checkpoint_anew() {
    let ed25519 = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let spki = spki_der(Algorithm::Ed25519, ed25519.public_key().as_ref());
    let p256 = Key::new(Algorithm::P256);
    let by_ed25519 =
        |text: &str| NoteSignature::over_text(ORIGIN, &spki, ed25519.sign(text.as_bytes()).as_ref()).unwrap();
    let by_p256 = |text: &str| NoteSignature::over_text(ORIGIN, &p256.spki(), &p256.sign(text.as_bytes())).unwrap();
    let keys = [(SignatureType::Ed25519, spki.clone()), (SignatureType::P256, p256.spki())];
    let words = keys.map(|(kind, spki)| verifier_key(kind, ORIGIN, &spki).unwrap() + "\n");
    std::fs::write(fuzz().join("evidence/log.keys"), words.concat()).unwrap();
    let (grown, first) = (request(20, 33, by_ed25519), request(0, 5, by_ed25519));
    let forked = AddCheckpoint { proof: vec![Sha256([1; 32])], ..request(20, 33, by_p256) };
    let unsigned = AddCheckpoint { checkpoint: grown.checkpoint.replace("\n33\n", "\n34\n"), ..grown.clone() };
    let all = [grown, request(20, 33, by_p256), first, request(20, 20, by_ed25519), forked, unsigned];
    std::fs::create_dir_all(fuzz().join("corpus/add_checkpoint")).unwrap();
    for (number, seed) in all.iter().enumerate() {
        std::fs::write(fuzz().join(format!("corpus/add_checkpoint/seed-{number}")), seed.compose()).unwrap();
    }
}
