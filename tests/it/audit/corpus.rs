//! The corpus of evidence: what one bank has handed out, and files that are nearly that.

use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign::audit::export::{ExportCall, Format};
use countersign::audit::prove::LeafChoice;
use countersign::audit::search::SearchQuery;
use countersign::kernel::tile::{Tile, TileKind};
use countersign::kernel::types::Sha256;
use countersign::kernel::{bundle, leaf_proof, receipt};

use super::parties::OID_BASE;
use super::payments::Bank;

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
}

/// Keys and signatures are new each time: whoever runs this replaces all of the evidence.
#[test]
#[ignore = "makes the corpus of evidence anew: to be run when the shape of a receipt, proof or bundle has changed"]
fn makes_the_corpus_of_evidence_anew() {
    let (bank, paid) = Bank::with_payments();
    let receipt = bank.log.receipt(&paid.approved, Duration::ZERO).unwrap().to_bytes().unwrap();
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
    for (name, seeds) in seeds {
        let place = fuzz().join("corpus").join(name);
        std::fs::create_dir_all(&place).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(place.join(format!("seed-{number}")), seed).unwrap();
        }
    }
}
